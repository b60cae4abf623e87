//! Takes the shared lock on the database again, which keeps other processes from taking themselves for the last one.
//!
//! While SQLite has a log open it holds a shared lock on the database. A process that closes the database and wants to clean
//! up needs the exclusive lock, from before it reads the log until it has unlinked it. But this process loses its shared
//! lock, without SQLite's knowledge, when anything in it opens and closes the file (see [`file`](super::file)). So the lock
//! is taken again: by a step to the next higher lock, which no process with a log uses, and back. After that
//!
//! - no process cleans up, until the lock is lost again;
//! - no process is about to: a holder of the exclusive lock is waited for.
//!
//! So what was committed before the lock was taken again, while the log was not unlinked yet, is seen by a process that
//! unlinks it later, because it reads the log after that.
//!
//! The lock may be taken again only if it is the one that the connection has: without a log, because a program has switched
//! it off and so unlinked it, SQLite uses other locks.

#[cfg(unix)]
use super::errors::queue_error;
use crate::QueueError;
use rusqlite::Connection;

/// Takes the lock again, and waits for other processes until the thread's [deadline](super::busy). `Busy` means that another
/// process did the same. If one holds the exclusive lock, the connection must be closed (`Detached`), because it keeps a
/// lock that blocks others.
#[cfg(unix)]
pub(super) fn relock(connection: &Connection) -> Result<(), QueueError> {
    use super::busy;
    use rusqlite::ffi;
    use std::time::Duration;

    let Some(database) = Database::of(connection).filter(Database::is_shared) else {
        return Ok(());
    };
    for tries in 0.. {
        let in_the_way = match database.up_and_down() {
            ffi::SQLITE_OK => break,
            ffi::SQLITE_BUSY => QueueError::Busy,
            ffi::SQLITE_IOERR_RDLOCK => {
                let path = connection.path().unwrap_or_default();
                let why =
                    "was locked exclusively by another program, after this one had lost its locks";
                QueueError::Detached(format!("{path} {why}"))
            }
            code => {
                let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
                return Err(if database.is_shared() {
                    queue_error(error)
                } else {
                    QueueError::Detached(format!("the lock on them cannot be kept: {error}"))
                });
            }
        };
        if !busy::has_time_left() {
            return Err(in_the_way);
        }
        if tries < 10 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(())
}

/// On other systems no process loses its locks.
#[cfg(not(unix))]
pub(super) fn relock(_: &Connection) -> Result<(), QueueError> {
    Ok(())
}

#[cfg(unix)]
use unix::Database;

#[cfg(unix)]
mod unix {
    use rusqlite::{Connection, ffi};
    use std::ffi::{c_int, c_void};

    type Method = unsafe extern "C" fn(*mut ffi::sqlite3_file, c_int) -> c_int;

    /// The file of a connection's database, as SQLite's VFS knows it.
    pub(super) struct Database<'c> {
        file: *mut ffi::sqlite3_file,
        lock: Method,
        unlock: Method,
        connection: &'c Connection,
    }

    /// Whether the VFS supports the operation.
    ///
    /// # Safety
    ///
    /// `argument` must be what the operation expects.
    unsafe fn control(connection: &Connection, operation: c_int, argument: *mut c_void) -> bool {
        // SAFETY: it is used here only, while the connection is borrowed, and nothing is closed.
        let handle = unsafe { connection.handle() };
        // SAFETY: the handle is open; the caller guarantees the argument.
        let code =
            unsafe { ffi::sqlite3_file_control(handle, c"main".as_ptr(), operation, argument) };
        code == ffi::SQLITE_OK
    }

    impl<'c> Database<'c> {
        pub(super) fn of(connection: &'c Connection) -> Option<Database<'c>> {
            let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
            // SAFETY: for this operation it is a pointer to a pointer to a file.
            let is_known = unsafe {
                control(
                    connection,
                    ffi::SQLITE_FCNTL_FILE_POINTER,
                    (&raw mut file).cast(),
                )
            };
            if !is_known || file.is_null() {
                return None;
            }
            // SAFETY: the file is the connection's, and lives as long as that; nothing changes it, for a connection is
            // used by one thread at a time, and this one has it.
            let methods = unsafe { (*file).pMethods };
            // SAFETY: the methods of an open file are a constant of the VFS.
            let methods = unsafe { methods.as_ref() }?;
            Some(Database {
                file,
                lock: methods.xLock?,
                unlock: methods.xUnlock?,
                connection,
            })
        }

        /// Whether SQLite believes to hold the shared lock; false if the VFS does not say.
        pub(super) fn is_shared(&self) -> bool {
            let mut state: c_int = -1;
            // SAFETY: for this operation it is a pointer to a number.
            let is_known = unsafe {
                control(
                    self.connection,
                    ffi::SQLITE_FCNTL_LOCKSTATE,
                    (&raw mut state).cast(),
                )
            };
            is_known && state == ffi::SQLITE_LOCK_SHARED
        }

        /// Upgrades the shared lock to a reserved one, and back, which asks the system for the shared one. If another process
        /// is in the way it may stay reserved, and this may be tried again.
        pub(super) fn up_and_down(&self) -> c_int {
            // SAFETY: the file is open, as the connection is borrowed, and by one thread; it has a shared lock or,
            // after a step that failed, a reserved one, as the methods require.
            let locked = unsafe { (self.lock)(self.file, ffi::SQLITE_LOCK_RESERVED) };
            if locked != ffi::SQLITE_OK {
                return locked;
            }
            // SAFETY: as above.
            unsafe { (self.unlock)(self.file, ffi::SQLITE_LOCK_SHARED) }
        }
    }
}
