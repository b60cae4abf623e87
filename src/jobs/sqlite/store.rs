//! A file that is open: the connection that writes, and the one that reads.
//!
//! - S1. The reader is opened when it is first needed: who only enqueues has none.
//! - S2. Connections are closed as soon as it is known that the store is detached (see [`file`](super::file), F4): by
//!   who finds it out, or by who has the connection in hand then.
//! - S3. No thread waits for the one connection while it has the other.

use super::commit::{Group, QueueRef};
use super::fail::failed;
use super::file::{self, Attachment, Files};
use super::time::Now;
use super::tx::Tx;
use super::{patience, schema};
use crate::jobs::{Clock, QueueError};
use crate::sync::{Arc, Mutex, lock, try_lock};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

/// How often the files may be other ones after the opening than before it.
const MOST_TRIES: u32 = 100;

pub(super) struct Store {
    attachment: Arc<Attachment>,
    clock: Clock,
    pub(super) group: Group,
    reader: Mutex<Option<Connection>>,
}

impl Store {
    pub(super) fn open(path: &Path, clock: &Clock) -> Result<Arc<Store>, QueueError> {
        let path = file::absolute(path)?;
        let (writer, files) = connect(&path)?;
        let attachment = Arc::new(Attachment::new(files));
        Ok(Arc::new(Store {
            group: Group::new(writer, clock.clone(), Arc::clone(&attachment)),
            clock: clock.clone(),
            reader: Mutex::default(),
            attachment,
        }))
    }

    /// The number of the queue of that name, which is made if it is missing.
    pub(super) fn queue(&self, name: &str) -> Result<i64, QueueError> {
        let made = self
            .group
            .with_writer(|writer| schema::create(writer, name));
        self.checked(made)
    }

    pub(super) fn path(&self) -> &Path {
        self.attachment.files().path()
    }

    pub(super) fn check(&self) -> Result<(), QueueError> {
        self.checked(Ok(()))
    }

    /// That, if the files are those that others see, too.
    fn checked<T>(&self, end: Result<T, QueueError>) -> Result<T, QueueError> {
        let checked = self.attachment.check();
        self.close_if_lost();
        checked.and(end)
    }

    /// S2.
    fn close_if_lost(&self) {
        if self.attachment.is_lost() {
            self.group.close();
            if let Some(mut reader) = try_lock(&self.reader) {
                *reader = None;
            }
        }
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        queue: &QueueRef,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let end = self.group.run(queue, operation);
        self.close_if_lost();
        end
    }

    /// Writes if nobody else does, and else not.
    pub(super) fn write_now<T: Send + 'static>(
        &self,
        queue: &QueueRef,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<Result<T, QueueError>> {
        let end = self.group.run_now(queue, operation);
        self.close_if_lost();
        end
    }

    /// Reads all of it at one moment.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection, Now) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        self.with_reader(|reader| {
            let moment = reader.transaction()?;
            read(&moment, Now::of(&self.clock))
        })
    }

    /// Whether anybody has committed since it was called with `seen`.
    pub(super) fn has_changed(&self, seen: &mut u64) -> Result<bool, QueueError> {
        // Counts the commits of all other connections, and so those of our own writer, too; the reader has none.
        let version = self.with_reader(|reader| {
            let mut version = reader.prepare_cached("PRAGMA data_version")?;
            version.query_row([], |row| row.get(0))
        })?;
        let version = i64::unsigned_abs(version);
        Ok(std::mem::replace(seen, version) != version)
    }

    fn with_reader<T>(
        &self,
        read: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        let end = {
            let mut reader = lock(&self.reader);
            patience::begin();
            self.attachment
                .check()
                .and_then(|()| self.reader(&mut reader))
                .and_then(|reader| read(reader).map_err(failed))
        };
        self.checked(end)
    }

    fn reader<'r>(
        &self,
        reader: &'r mut Option<Connection>,
    ) -> Result<&'r mut Connection, QueueError> {
        match reader {
            Some(reader) => Ok(reader),
            closed => {
                let opened = schema::connect(self.path())?;
                opened
                    .execute_batch("PRAGMA query_only = ON")
                    .map_err(failed)?;
                Ok(closed.insert(opened))
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        *lock(&self.reader) = None;
        // F4; else who comes next finds an empty log, if nobody uses it now.
        let _ = self.group.with_writer(|writer| {
            if file::size(&file::log(self.path())) > 0 {
                let _ = writer.busy_timeout(Duration::ZERO);
                let _ = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            }
            Ok(())
        });
    }
}

/// A connection, and the files that it has open: those that were there before and after it was opened. Who makes one of
/// them opens them once more.
fn connect(path: &Path) -> Result<(Connection, Files), QueueError> {
    for _ in 0..MOST_TRIES {
        file::refuse_unfit(path)?;
        patience::begin();
        let before = Files::at(path);
        let connection = schema::connect(path)?;
        match (before, Files::at(path)) {
            (Ok(before), Ok(after)) if before == after => {
                after.refuse_stale_index()?;
                return Ok((connection, after));
            }
            _ => {}
        }
    }
    Err(file::unstable(path))
}
