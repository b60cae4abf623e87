//! Connections to the file: with a write-ahead log, a wait for the disk at each commit, and checks for damage.

use super::busy;
use super::errors::queue_error;
use super::file::{log, size};
use crate::QueueError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::Path;
use std::time::Duration;

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
