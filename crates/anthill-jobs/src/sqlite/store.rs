//! What all handles of this process share that have the same files open, and the same clock: the connection that writes, and
//! so the transactions; the one that reads; and for each queue those who want to hear of it.
//!
//! - SS1. The reader is opened when it is first needed: who only enqueues has none.
//! - SS2. Connections are closed as soon as it is known that the store is detached (see [`file`](super::file), FI4): by
//!   who finds it out, or by who has the connection in hand then. Nobody who comes later shares it.
//! - SS3. No thread waits for the one connection while it has the other.
//! - SS4. The last handle closes it. It is in the list of stores only as long as one is there, and nothing waits for a
//!   disk under the lock of that list.

use super::commit::{Group, QueueRef, Urgency};
use super::fail::failed;
use super::file::{self, Attachment, Files};
use super::schema::Access;
use super::time::Now;
use super::tx::{Queue, Tx};
use super::{patience, schema};
use crate::calls::Calls;
use crate::sync::{lock, try_lock};
use crate::{Clock, QueueError};
use rusqlite::Connection;
use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

/// Those of this process.
static STORES: LazyLock<Mutex<Vec<Weak<Store>>>> = LazyLock::new(Mutex::default);

/// How often the files may be other ones after the opening than before it.
const MOST_TRIES: u32 = 100;

pub(super) struct Store {
    attachment: Arc<Attachment>,
    access: Access,
    clock: Clock,
    pub(super) group: Group,
    reader: Mutex<Option<Connection>>,
    /// By name: those that somebody has opened here.
    queues: Mutex<HashMap<String, QueueRef>>,
}

impl Store {
    /// The store of these files and that clock, which is opened if there is none.
    pub(super) fn open(
        path: &Path,
        clock: &Clock,
        access: Access,
    ) -> Result<Arc<Store>, QueueError> {
        let path = file::absolute(path)?;
        file::refuse_unfit(&path)?;
        if let Some(shared) = shared(&path, clock, access) {
            return Ok(shared);
        }
        let (connection, files) = connect(&path, access)?;
        let (writer, reader) = match access {
            Access::Write => (Some(connection), None),
            Access::Read => (None, Some(connection)),
        };
        let attachment = Arc::new(Attachment::new(files));
        let opened = Arc::new(Store {
            group: Group::new(writer, clock.clone(), Arc::clone(&attachment)),
            access,
            clock: clock.clone(),
            reader: Mutex::new(reader),
            queues: Mutex::default(),
            attachment,
        });
        // Another thread may have been first.
        let mut stores = lock(&STORES);
        let live: Vec<Arc<Store>> = stores.iter().filter_map(Weak::upgrade).collect();
        let first = live.iter().find(|store| {
            store.is_of(opened.attachment.files(), clock, access) && !store.attachment.is_lost()
        });
        if first.is_none() {
            stores.push(Arc::downgrade(&opened));
        }
        // This may be who has one of them last.
        drop(stores);
        Ok(first.map_or(opened, Arc::clone))
    }

    fn is_of(&self, files: &Files, clock: &Clock, access: Access) -> bool {
        self.attachment.files() == files && self.clock.is(clock) && self.access == access
    }

    /// The queue of that name; if it is missing it is made, where that may be.
    pub(super) fn queue(&self, name: &str) -> Result<QueueRef, QueueError> {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get(name) {
            return Ok(queue.clone());
        }
        let number = match self.access {
            Access::Write => {
                let patience = Instant::now() + patience::BUSY;
                let made = self
                    .group
                    .with_writer(patience, |writer| schema::create(writer, name));
                self.checked(made)?
            }
            Access::Read => self.with_reader(|reader| schema::find(reader, self.path(), name))?,
        };
        let calls = Arc::new(Calls::default());
        let ours = Arc::downgrade(&calls);
        // What is moved by hand is heard of at once.
        self.clock
            .on_change(move || ours.upgrade().map(|calls| calls.call()).is_some());
        let queue = QueueRef { number, calls };
        queues.insert(name.to_owned(), queue.clone());
        Ok(queue)
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

    /// SS2.
    fn close_if_lost(&self) {
        if self.attachment.is_lost() {
            self.group.close();
            if let Some(mut reader) = try_lock(&self.reader) {
                *reader = None;
            }
        }
    }

    /// Where that may not be.
    pub(super) fn refuse_to_write(&self) -> Result<(), QueueError> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => {
                let why = "it was opened to be looked at only".to_owned();
                Err(QueueError::ReadOnly(why))
            }
        }
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        queue: &QueueRef,
        urgency: Urgency,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.refuse_to_write()?;
        let end = self.group.run(queue, urgency, operation);
        self.close_if_lost();
        end
    }

    /// Writes if nobody else does, and if that may be; else not.
    pub(super) fn write_now<T: Send + 'static>(
        &self,
        queue: &QueueRef,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<Result<T, QueueError>> {
        if self.access == Access::Read {
            return None;
        }
        let end = self.group.run_now(queue, operation);
        self.close_if_lost();
        end
    }

    /// Reads all of it at one moment.
    pub(super) fn read<T>(
        &self,
        queue: i64,
        read: impl FnOnce(&Connection, Now) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        self.with_reader(|reader| {
            let moment = reader.transaction().map_err(failed)?;
            let now = Queue::mark(&moment, queue).map_err(failed)?;
            read(&moment, now.now(&self.clock)).map_err(failed)
        })
    }

    /// Whether anybody has committed since it was called with `seen`.
    pub(super) fn has_changed(&self, seen: &mut u64) -> Result<bool, QueueError> {
        // Counts the commits of all other connections, and so those of our own writer, too; the reader has none.
        let version = self.with_reader(|reader| {
            let version = reader.prepare_cached("PRAGMA data_version");
            version
                .and_then(|mut version| version.query_row([], |row| row.get(0)))
                .map_err(failed)
        })?;
        let version = i64::unsigned_abs(version);
        Ok(std::mem::replace(seen, version) != version)
    }

    fn with_reader<T>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let end = {
            let mut reader = lock(&self.reader);
            patience::begin();
            self.attachment
                .check()
                .and_then(|()| self.reader(&mut reader))
                .and_then(|reader| {
                    // So that a process that writes nothing keeps its files, too.
                    if self.access == Access::Write {
                        self.attachment.hold(reader)?;
                    }
                    read(reader)
                })
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
                let opened = schema::connect(self.attachment.files().asked(), self.access)?;
                opened
                    .execute_batch("PRAGMA query_only = ON")
                    .map_err(failed)?;
                Ok(closed.insert(opened))
            }
        }
    }
}

impl Store {
    /// Writes all that is there at one moment to a new file.
    pub(super) fn backup(&self, to: &Path) -> Result<(), QueueError> {
        let to = file::absolute(to)?;
        let Some(name) = to.to_str() else {
            let why = "SQLite wants a name in UTF-8";
            return Err(QueueError::address(&to.to_string_lossy(), why));
        };
        file::make_new(&to, self.path())?;
        // By a connection of its own, so that nobody waits.
        let copy = || {
            self.check()?;
            patience::begin();
            let from = schema::connect(self.attachment.files().asked(), Access::Read)?;
            from.execute("VACUUM INTO ?1", [name]).map_err(failed)?;
            drop(from);
            file::sync(&to)?;
            self.check()
        };
        copy().inspect_err(|_| {
            // It holds nothing.
            let _ = std::fs::remove_file(&to);
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        *lock(&self.reader) = None;
        // FI4; else who comes next finds an empty log, if nobody uses it now.
        let _ = self.group.with_writer(Instant::now(), |writer| {
            if file::size(&file::log(self.path())) > 0 {
                let _ = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            }
            Ok(())
        });
    }
}

fn live() -> Vec<Arc<Store>> {
    let mut stores = lock(&STORES);
    stores.retain(|store| store.strong_count() > 0);
    stores.iter().filter_map(Weak::upgrade).collect()
}

/// One that is open already. All of the same database are looked at, so that those that are detached close their
/// connections (FI4) before another one is opened.
fn shared(path: &Path, clock: &Clock, access: Access) -> Option<Arc<Store>> {
    let files = Files::at(path);
    let mut shared = None;
    for store in live() {
        if (files.as_ref()).is_ok_and(|files| !store.attachment.files().are_of(files)) {
            continue;
        }
        let is_attached = store.check().is_ok();
        if is_attached
            && files
                .as_ref()
                .is_ok_and(|files| store.is_of(files, clock, access))
        {
            shared = Some(store);
        }
    }
    shared
}

/// A connection, and the files that it has open: those that were there before and after it was opened. Who makes one of
/// them opens them once more.
fn connect(path: &Path, access: Access) -> Result<(Connection, Files), QueueError> {
    for _ in 0..MOST_TRIES {
        file::refuse_unfit(path)?;
        patience::begin();
        let before = Files::at(path);
        let connection = schema::connect(path, access)?;
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
