//! The tables, and connections to them: with a write-ahead log, a wait for the disk at each commit, and checks for damage.

use super::busy;
use super::errors::queue_error;
use super::file::{log, size};
use crate::QueueError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::path::Path;
use std::time::Duration;

/// The version of the tables.
const VERSION: i64 = 2;

/// Times are in nanoseconds: since 1970 by the wall clock that never goes back (B10), or, of the steady clock, since the
/// boot of the host.
///
/// The index of a state has only the rows of that state, so that a step costs the same whatever else is stored.
pub(super) const SCHEMA: &str = "
CREATE TABLE anthill_schema (version INTEGER NOT NULL) STRICT;

CREATE TABLE anthill_queues (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0,
    most_running INTEGER,
    most_per_key INTEGER,
    rate_jobs INTEGER,
    rate_per INTEGER,
    rate_burst INTEGER,
    rate_boot INTEGER NOT NULL DEFAULT 0, -- the boot of the host that rate_kept is of
    rate_kept INTEGER NOT NULL DEFAULT 0, -- steady: up to when the rate limit has granted jobs
    rate_behind INTEGER NOT NULL DEFAULT 0, -- ready jobs were left when it granted no more
    max_ready INTEGER,
    time INTEGER NOT NULL DEFAULT 0,      -- when the row was written
    time_boot INTEGER NOT NULL DEFAULT 0, -- the boot of the host that ahead is of
    ahead INTEGER NOT NULL DEFAULT 0,     -- by how much the time is ahead of the steady clock
    unpark TEXT,                          -- the limits were changed: keys from here on must be balanced
    turn INTEGER NOT NULL DEFAULT 0,      -- the last turn that was given
    ready INTEGER NOT NULL DEFAULT 0,     -- from here on counts
    delayed INTEGER NOT NULL DEFAULT 0,
    parked INTEGER NOT NULL DEFAULT 0,
    running INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    results INTEGER NOT NULL DEFAULT 0,
    enqueued INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    retried INTEGER NOT NULL DEFAULT 0,
    died INTEGER NOT NULL DEFAULT 0,
    lost_leases INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE anthill_jobs (
    place INTEGER PRIMARY KEY,            -- never used again
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,               -- 0 ready, 1 delayed, 2 parked, 3 running, 4 dead, 5 done
    rank INTEGER NOT NULL,                -- the negative of the priority
    turn INTEGER NOT NULL,                -- the order within a rank: about when it is due; or when it died
    attempt INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL,
    claim INTEGER NOT NULL DEFAULT 0,     -- counts the claims: only the newest may settle the job
    together INTEGER NOT NULL DEFAULT 0,  -- the newest claim was one of several jobs
    suspect INTEGER NOT NULL DEFAULT 0,   -- it lost a lease, and no attempt since has reported its end
    boot INTEGER,                         -- the boot of the host that ends is of
    ends INTEGER,                         -- steady: the end of the lease
    due INTEGER NOT NULL,                 -- when it is ready, or since when
    expires INTEGER,
    keep INTEGER,                         -- how long to keep the result
    until INTEGER,                        -- the end of that
    enqueued INTEGER NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    holds TEXT,                           -- the unique key that it has until it is over
    error TEXT,
    progress BLOB,
    result BLOB,
    payload BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX anthill_jobs_id ON anthill_jobs (queue, id);
CREATE INDEX anthill_ready ON anthill_jobs (queue, kind, rank, turn) WHERE state = 0;
CREATE INDEX anthill_ready_key ON anthill_jobs (queue, key, rank, turn) WHERE state = 0 AND key IS NOT NULL;
CREATE INDEX anthill_delayed ON anthill_jobs (queue, due) WHERE state = 1;
CREATE INDEX anthill_parked ON anthill_jobs (queue, key, rank, turn) WHERE state = 2;
CREATE INDEX anthill_running ON anthill_jobs (queue, boot, ends) WHERE state = 3;
CREATE INDEX anthill_running_key ON anthill_jobs (queue, key) WHERE state = 3 AND key IS NOT NULL;
CREATE INDEX anthill_dead ON anthill_jobs (queue, turn) WHERE state = 4;
CREATE INDEX anthill_done ON anthill_jobs (queue, until) WHERE state = 5;
CREATE INDEX anthill_expires ON anthill_jobs (queue, expires) WHERE state < 3 AND expires IS NOT NULL;

CREATE TABLE anthill_unique (
    queue INTEGER NOT NULL,
    key TEXT NOT NULL,
    id BLOB NOT NULL,
    held INTEGER NOT NULL,                -- until the job is over
    until INTEGER,                        -- and not before then
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX anthill_unique_until ON anthill_unique (queue, until) WHERE until IS NOT NULL;

CREATE TABLE anthill_schedules (
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    cron TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    next INTEGER NOT NULL,                -- wall, in seconds
    missed INTEGER NOT NULL,              -- what to do about missed times: 0 once, 1 all, 2 skip
    PRIMARY KEY (queue, name)
) STRICT;
";

/// A file whose size is not a multiple of the page size, or whose pages are malformed, is an error when they are read;
/// nothing is mapped into memory, where it would be a signal.
const SETTINGS: &str = "
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA cell_size_check = ON;
PRAGMA mmap_size = 0;
PRAGMA trusted_schema = OFF;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -8000;
PRAGMA journal_size_limit = 67108864;
";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    /// Nothing in the file is changed, and no permission to write is needed.
    Read,
}

/// Opens a connection with the settings that all of ours have, and with log and index open.
pub(super) fn connect(path: &Path, access: Access) -> Result<Connection, QueueError> {
    let has_log = size(&log(path)) > 0;
    // SQLite takes a file of one byte or none for a new one, and discards its log.
    if path.exists() && size(path) < 2 && has_log {
        let why = format!("{} is empty, but has a log", path.display());
        return Err(QueueError::Corrupt(why));
    }
    let flags = match access {
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(queue_error)?;
    leave_log(&connection).map_err(queue_error)?;
    // Without permission to write, SQLite opens the file read-only.
    if access == Access::Write && connection.is_readonly("main").map_err(queue_error)? {
        let why = format!("{} is read-only", path.display());
        return Err(QueueError::ReadOnly(why));
    }
    connection.set_prepared_statement_cache_capacity(64);
    busy::install(&connection).map_err(queue_error)?;
    // Plans do not depend on bound values; otherwise a statement with a limit would be planned anew each time.
    let stable_plans = DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG;
    connection
        .set_db_config(stable_plans, true)
        .map_err(queue_error)?;
    let mode = match access {
        Access::Write => write_ahead(&connection)?,
        Access::Read => connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(|error| no_log(path, error))?,
    };
    if mode != "wal" {
        let path = path.to_string_lossy();
        let reason =
            format!("SQLite keeps a journal of the kind {mode:?} there, not a write-ahead log");
        return Err(QueueError::address(&path, reason));
    }
    connection.execute_batch(SETTINGS).map_err(queue_error)?;
    // Reads the file, and so the log.
    connection
        .query_row("PRAGMA schema_version", [], |_| Ok(()))
        .map_err(|error| no_log(path, error))?;
    if !has_log {
        refuse_torn(&connection, path)?;
    }
    Ok(connection)
}

/// Without permission to write, the log and its index cannot be created either.
fn no_log(path: &Path, error: rusqlite::Error) -> QueueError {
    let log = log(path);
    let is_refused = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    );
    if is_refused && !log.exists() {
        return QueueError::ReadOnly(format!(
            "{} is missing, and cannot be created here: a process with permission to write must open the queue once",
            log.display()
        ));
    }
    queue_error(error)
}

/// Makes a connection leave the log in place when it is closed. Otherwise the last connection unlinks it; and no connection
/// knows for certain that it is the last, because a process loses its locks on the file when anything in it reads the
/// file.
pub(super) fn leave_log(connection: &Connection) -> rusqlite::Result<()> {
    let leave = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(leave, true).map(drop)
}

/// SQLite notices whole missing pages at the end, but reads a partial page as if it were followed by zeros. That is in order
/// only if there is a log, which has the page.
fn refuse_torn(connection: &Connection, path: &Path) -> Result<(), QueueError> {
    let page = connection.query_row("PRAGMA page_size", [], |row| row.get(0));
    let page = i64::unsigned_abs(page.map_err(queue_error)?);
    if size(path) % page.max(1) != 0 {
        let why = format!("{} ends within a page", path.display());
        return Err(QueueError::Corrupt(why));
    }
    Ok(())
}

/// SQLite does not wait by itself if several processes make the first change of a new file.
fn write_ahead(connection: &Connection) -> Result<String, QueueError> {
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
        match mode {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                if !busy::has_time_left() {
                    return Err(QueueError::Busy);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            mode => return mode.map_err(queue_error),
        }
    }
}

/// Creates what is missing. Returns the number of the queue.
pub(super) fn create(connection: &mut Connection, queue: &str) -> Result<i64, QueueError> {
    if let Some(number) = check(connection, queue)? {
        return Ok(number);
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(queue_error)?;
    // Another process may have been first.
    if let Some(number) = check(&transaction, queue)? {
        return Ok(number);
    }
    let number = fill(&transaction, queue).map_err(queue_error)?;
    transaction.commit().map_err(queue_error)?;
    Ok(number)
}

fn fill(connection: &Connection, queue: &str) -> rusqlite::Result<i64> {
    if !has_schema(connection)? {
        connection.execute_batch(SCHEMA)?;
        connection.execute("INSERT INTO anthill_schema VALUES (?1)", [VERSION])?;
    }
    connection.execute(
        "INSERT INTO anthill_queues (name) VALUES (?1)",
        params![queue],
    )?;
    Ok(connection.last_insert_rowid())
}

fn has_schema(connection: &Connection) -> rusqlite::Result<bool> {
    let schema = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'anthill_schema')";
    connection.query_row(schema, [], |row| row.get(0))
}

/// Returns the number of the queue, if it exists; an error if the tables are of another version or damaged.
fn check(connection: &Connection, queue: &str) -> Result<Option<i64>, QueueError> {
    if !has_schema(connection).map_err(queue_error)? {
        return Ok(None);
    }
    let version = connection.query_row("SELECT max(version) FROM anthill_schema", [], |row| {
        row.get(0)
    });
    let version: Option<i64> = version.map_err(queue_error)?;
    if version != Some(VERSION) {
        return Err(wrong_version(version));
    }
    let ours = r"SELECT count(*) FROM sqlite_master WHERE name LIKE 'anthill\_%' ESCAPE '\'";
    let found: i64 = connection
        .query_row(ours, [], |row| row.get(0))
        .map_err(queue_error)?;
    let wanted = SCHEMA.matches("CREATE ").count();
    if usize::try_from(found).unwrap_or(0) < wanted {
        let why = format!("{found} of its {wanted} tables and indexes exist");
        return Err(QueueError::Corrupt(why));
    }
    let number = "SELECT id FROM anthill_queues WHERE name = ?1";
    let number = connection
        .query_row(number, [queue], |row| row.get(0))
        .optional();
    number.map_err(queue_error)
}

/// Returns the number of an existing queue, without a change of the file.
pub(super) fn find(connection: &Connection, path: &Path, queue: &str) -> Result<i64, QueueError> {
    check(connection, queue)?.ok_or_else(|| {
        let reason = format!("there is no queue {queue:?} in it");
        QueueError::address(&path.to_string_lossy(), reason)
    })
}

fn wrong_version(version: Option<i64>) -> QueueError {
    QueueError::Corrupt(match version {
        Some(version) if version > VERSION => {
            return QueueError::Version(format!(
                "the queue's tables have version {version}, of a newer anthill, and this one knows version {VERSION}: \
                 nothing is damaged, use a newer anthill"
            ));
        }
        Some(version) => {
            format!("its tables have version {version}, which never existed")
        }
        None => "its tables have no version".to_owned(),
    })
}
