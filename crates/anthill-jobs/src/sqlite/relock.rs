//! The lock on the database that keeps others from taking themselves for the last one, taken again.
//!
//! As long as SQLite has a log open it has a shared lock on the database; who closes it, and wants to clean up, needs the
//! exclusive one from before it looks at what is in the log until it has unlinked that. But this process loses the shared one,
//! and SQLite does not know it, when anything in it opens and closes the file (see [`file`](super::file)). So it is taken
//! again: by a step to the next higher lock, which nobody uses who keeps a log, and back. With that
//!
//! - nobody cleans up from then on, until the lock is lost again;
//! - nobody is about to: who has the exclusive lock is waited for.
//!
//! So what was committed before the lock was taken again, and while the log was not unlinked yet, is seen by whoever
//! unlinks it later: he looks at the log after that.
//!
//! It may be taken again only where it is the lock that the connection has: without a log, because somebody has given that up
//! and so unlinked it, SQLite takes other ones for itself.

#[cfg(unix)]
use super::fail::failed;
use crate::QueueError;
use rusqlite::Connection;

/// Waits for who is in the way, as long as the thread's [patience](super::patience) lasts. `Busy` says that it was somebody
/// who did the same. If it was somebody who has the exclusive lock the connection must be closed (`Detached`): it keeps a
/// lock that is in others' way.
#[cfg(unix)]
pub(super) fn take_again(connection: &Connection) -> Result<(), QueueError> {
    use super::patience;
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
                    "was taken by another program for itself, after this one had lost its locks";
                QueueError::Detached(format!("{path} {why}"))
            }
            code => {
                let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
                return Err(if database.is_shared() {
                    failed(error)
                } else {
                    QueueError::Detached(format!("the lock on them cannot be kept: {error}"))
                });
            }
        };
        if !patience::is_left() {
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

/// No process loses its locks elsewhere.
#[cfg(not(unix))]
pub(super) fn take_again(_: &Connection) -> Result<(), QueueError> {
    Ok(())
}

#[cfg(unix)]
use unix::Database;

#[cfg(unix)]
mod unix {
    use rusqlite::{Connection, ffi};
    use std::ffi::{c_int, c_void};

    type Method = unsafe extern "C" fn(*mut ffi::sqlite3_file, c_int) -> c_int;

    /// The file of a connection's database, as SQLite's own layer for files knows it.
    pub(super) struct Database<'c> {
        file: *mut ffi::sqlite3_file,
        lock: Method,
        unlock: Method,
        connection: &'c Connection,
    }

    /// Whether the layer for files knows the operation.
    ///
    /// # Safety
    ///
    /// `argument` is what the operation wants.
    unsafe fn control(connection: &Connection, operation: c_int, argument: *mut c_void) -> bool {
        // SAFETY: it is used here only, while the connection is borrowed, and nothing is closed.
        let handle = unsafe { connection.handle() };
        // SAFETY: the handle is open; the caller answers for the argument.
        let code =
            unsafe { ffi::sqlite3_file_control(handle, c"main".as_ptr(), operation, argument) };
        code == ffi::SQLITE_OK
    }

    impl<'c> Database<'c> {
        pub(super) fn of(connection: &'c Connection) -> Option<Database<'c>> {
            let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
            // SAFETY: for this operation it is a pointer to a pointer to a file.
            let told = unsafe {
                control(
                    connection,
                    ffi::SQLITE_FCNTL_FILE_POINTER,
                    (&raw mut file).cast(),
                )
            };
            if !told || file.is_null() {
                return None;
            }
            // SAFETY: the file is the connection's, and lives as long as that; nothing changes it, for a connection is
            // used by one thread at a time, and this one has it.
            let methods = unsafe { (*file).pMethods };
            // SAFETY: the methods of a file that is open are a constant of the layer.
            let methods = unsafe { methods.as_ref() }?;
            Some(Database {
                file,
                lock: methods.xLock?,
                unlock: methods.xUnlock?,
                connection,
            })
        }

        /// As SQLite believes. Also false where its layer for files does not say.
        pub(super) fn is_shared(&self) -> bool {
            let mut state: c_int = -1;
            // SAFETY: for this operation it is a pointer to a number.
            let told = unsafe {
                control(
                    self.connection,
                    ffi::SQLITE_FCNTL_LOCKSTATE,
                    (&raw mut state).cast(),
                )
            };
            told && state == ffi::SQLITE_LOCK_SHARED
        }

        /// The shared lock becomes a reserved one, and that a shared one again, which asks the system for it. Where
        /// somebody is in the way it may stay a reserved one, and this may be tried again.
        pub(super) fn up_and_down(&self) -> c_int {
            // SAFETY: the file is open, as the connection is borrowed, and by one thread; it has a shared lock or,
            // after a step that failed, a reserved one, as the methods want it.
            let locked = unsafe { (self.lock)(self.file, ffi::SQLITE_LOCK_RESERVED) };
            if locked != ffi::SQLITE_OK {
                return locked;
            }
            // SAFETY: as above.
            unsafe { (self.unlock)(self.file, ffi::SQLITE_LOCK_SHARED) }
        }
    }
}
