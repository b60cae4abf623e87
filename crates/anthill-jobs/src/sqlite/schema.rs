//! The tables, and how those of an older version become those of this one.
//!
//! - SV1. A file is brought to this version when it is opened for writing, in one transaction: by one process, while
//!   others that open it wait. Its jobs stay where they are; what a new column means for them is its default.
//! - SV2. A program of version 2 that has the file open meanwhile goes on to work on it: its statements name their columns,
//!   and what they leave out has a default. It keeps no errors, and nothing for the retention, and knows no request to
//!   cancel. It opens the file no more.
//! - SV3. A file of a newer version is left alone.

use super::commit::extend_leases;
use super::errors::queue_error;
use super::time::Steady;
use crate::{Clock, QueueError};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::path::Path;

/// The version of the tables.
const VERSION: i64 = 3;

/// The oldest version that can be brought to this one.
const OLDEST: i64 = 2;

/// Times are in nanoseconds: since 1970 by the wall clock that never goes back (B10), or, of the steady clock, since the
/// boot of the host.
///
/// The index of a state has only the rows of that state, so that a step costs the same whatever else is stored.
const SCHEMA: &str = "
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
    keep_done INTEGER,                    -- for how long jobs that are done are kept
    keep_dead INTEGER,                    -- for how long dead ones are
    told INTEGER NOT NULL DEFAULT 0,      -- counts the changes after which there may be something to claim
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
    turn INTEGER NOT NULL,                -- the order within a rank: about when it is due; or in which it died; or,
                                          -- done and without `until`, when it ended
    attempt INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL,
    claim INTEGER NOT NULL DEFAULT 0,     -- counts the claims: only the newest may settle the job
    together INTEGER NOT NULL DEFAULT 0,  -- the newest claim was one of several jobs
    suspect INTEGER NOT NULL DEFAULT 0,   -- it lost a lease, and no attempt since has reported its end
    boot INTEGER,                         -- the boot of the host that ends is of
    ends INTEGER,                         -- steady: the end of the lease
    due INTEGER NOT NULL,                 -- when it is ready, or since when; or when it died
    expires INTEGER,
    keep INTEGER,                         -- how long to keep the result
    until INTEGER,                        -- the end of that; none if only keep_done still keeps it
    cancel INTEGER,                       -- 1: it runs, and is to be cancelled
    consumer TEXT,                        -- who claimed it last
    enqueued INTEGER NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    holds TEXT,                           -- the unique key that it has until it is over
    error TEXT,                           -- of the last failed attempt
    errors TEXT,                          -- JSON: the last failed attempts, as [attempt, time, error]
    headers TEXT,                         -- JSON: texts by name
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
CREATE INDEX anthill_done ON anthill_jobs (queue, until, turn) WHERE state = 5;
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

/// The consumers that live; new in version 3.
const CONSUMERS: &str = "
CREATE TABLE anthill_consumers (
    queue INTEGER NOT NULL,
    id TEXT NOT NULL,
    kinds TEXT NOT NULL,                  -- JSON: those that it has handlers for
    workers INTEGER NOT NULL,
    running INTEGER NOT NULL,             -- how many jobs it had claimed and not settled when it last said so
    boot INTEGER NOT NULL,                -- the boot of the host that the times are of
    started INTEGER NOT NULL,             -- steady
    seen INTEGER NOT NULL,                -- steady: when it last said so
    ends INTEGER NOT NULL,                -- steady: when it counts as gone
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;
";

/// What version 3 has beyond version 2, but for [`CONSUMERS`].
///
/// No row is written; but SQLite checks the whole table of jobs for each new column, and again for the index: a few seconds
/// for each million jobs.
const FROM_2: &str = "
ALTER TABLE anthill_queues ADD COLUMN keep_done INTEGER;
ALTER TABLE anthill_queues ADD COLUMN keep_dead INTEGER;
ALTER TABLE anthill_queues ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
ALTER TABLE anthill_jobs ADD COLUMN cancel INTEGER;
ALTER TABLE anthill_jobs ADD COLUMN consumer TEXT;
ALTER TABLE anthill_jobs ADD COLUMN errors TEXT;
ALTER TABLE anthill_jobs ADD COLUMN headers TEXT;
DROP INDEX IF EXISTS anthill_done;
CREATE INDEX anthill_done ON anthill_jobs (queue, until, turn) WHERE state = 5;
UPDATE anthill_schema SET version = 3;
";

/// What a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tables {
    None,
    /// Of an older version, which can be brought to this one.
    Old(i64),
    Current,
}

/// Creates what is missing, and brings old tables to this version. Returns the number of the queue.
pub(super) fn create(
    connection: &mut Connection,
    queue: &str,
    clock: &Clock,
) -> Result<i64, QueueError> {
    if tables(connection)? == Tables::Current {
        if let Some(number) = number_of(connection, queue)? {
            return Ok(number);
        }
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(queue_error)?;
    let began = Steady::of(clock);
    // Another process may have been first.
    match tables(&transaction)? {
        Tables::None => fill(&transaction).map_err(queue_error)?,
        Tables::Old(_) => {
            migrate(&transaction).map_err(queue_error)?;
            // If one of the old ones was missing, so it is now.
            tables(&transaction)?;
        }
        Tables::Current => {}
    }
    let number = match number_of(&transaction, queue)? {
        Some(number) => number,
        None => add(&transaction, queue).map_err(queue_error)?,
    };
    extend_leases(&transaction, clock, began).map_err(queue_error)?;
    transaction.commit().map_err(queue_error)?;
    Ok(number)
}

fn fill(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch(CONSUMERS)?;
    connection.execute("INSERT INTO anthill_schema VALUES (?1)", [VERSION])?;
    Ok(())
}

fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(FROM_2)?;
    connection.execute_batch(CONSUMERS)
}

fn add(connection: &Connection, queue: &str) -> rusqlite::Result<i64> {
    let add = "INSERT INTO anthill_queues (name) VALUES (?1)";
    connection.execute(add, params![queue])?;
    Ok(connection.last_insert_rowid())
}

/// Looks at the tables; an error if they are of a version that is not known here, or damaged.
fn tables(connection: &Connection) -> Result<Tables, QueueError> {
    let schema = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'anthill_schema')";
    let has_schema = connection.query_row(schema, [], |row| row.get(0));
    if !has_schema.map_err(queue_error)? {
        return Ok(Tables::None);
    }
    let version = connection.query_row("SELECT max(version) FROM anthill_schema", [], |row| {
        row.get(0)
    });
    match version.map_err(queue_error)? {
        Some(VERSION) => {}
        Some(version) if (OLDEST..VERSION).contains(&version) => return Ok(Tables::Old(version)),
        other => return Err(wrong_version(other)),
    }
    let ours = r"SELECT count(*) FROM sqlite_master WHERE name LIKE 'anthill\_%' ESCAPE '\'";
    let found: i64 = connection
        .query_row(ours, [], |row| row.get(0))
        .map_err(queue_error)?;
    let wanted = [SCHEMA, CONSUMERS].map(|tables| tables.matches("CREATE ").count());
    let wanted: usize = wanted.iter().sum();
    if usize::try_from(found).unwrap_or(0) < wanted {
        let why = format!("{found} of its {wanted} tables and indexes exist");
        return Err(QueueError::Corrupt(why));
    }
    Ok(Tables::Current)
}

fn number_of(connection: &Connection, queue: &str) -> Result<Option<i64>, QueueError> {
    let number = "SELECT id FROM anthill_queues WHERE name = ?1";
    let number = connection
        .query_row(number, [queue], |row| row.get(0))
        .optional();
    number.map_err(queue_error)
}

/// Returns the number of an existing queue, without a change of the file.
pub(super) fn find(connection: &Connection, path: &Path, queue: &str) -> Result<i64, QueueError> {
    let number = match tables(connection)? {
        Tables::None => None,
        Tables::Old(version) => {
            return Err(QueueError::ReadOnly(format!(
                "its tables have version {version}, and are not brought to version {VERSION} without permission to write: a \
                 process with that permission must open the queue once"
            )));
        }
        Tables::Current => number_of(connection, queue)?,
    };
    number.ok_or_else(|| {
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
