//! Counts the statements that this process begins in `SQLite`, whichever crate makes them: all of them link one `SQLite`.

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::auto_extension::{init_auto_extension, register_auto_extension};
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, ffi};

static IS_COUNTED: AtomicBool = AtomicBool::new(false);
static STATEMENTS: AtomicU64 = AtomicU64::new(0);

/// Counts from now on, on every connection that is opened after this.
///
/// # Panics
///
/// If `SQLite` does not take the hook.
pub fn count_statements() {
    IS_COUNTED.store(true, Ordering::Relaxed);
    // SAFETY: the hook opens no database, closes none, and leaves the list of hooks alone.
    unsafe { register_auto_extension(opened) }.expect("SQLite takes a hook");
}

/// How many there were; `None` if they are not counted.
#[must_use]
pub fn statements() -> Option<u64> {
    (IS_COUNTED.load(Ordering::Relaxed)).then(|| STATEMENTS.load(Ordering::Relaxed))
}

unsafe extern "C" fn opened(
    connection: *mut ffi::sqlite3,
    error: *mut *mut c_char,
    _: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: as above; SQLite gives the connection that it opens, and room for an error.
    unsafe { init_auto_extension(connection, error, trace) }
}

#[expect(clippy::needless_pass_by_value, reason = "it is that type of hook")]
#[expect(clippy::unnecessary_wraps, reason = "it is that type of hook")]
fn trace(connection: Connection) -> rusqlite::Result<()> {
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(count));
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "it is that type of hook")]
fn count(event: TraceEvent<'_>) {
    // What a trigger does is a part of its statement, and is told as a comment.
    if let TraceEvent::Stmt(_, sql) = event
        && !sql.starts_with("--")
    {
        STATEMENTS.fetch_add(1, Ordering::Relaxed);
    }
}
