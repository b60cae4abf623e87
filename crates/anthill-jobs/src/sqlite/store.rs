//! The store: what all handles of this process on the same files and with the same clock share. It has the connection that
//! writes, and so the transactions; the connection that reads; and the listeners of each queue.
//!
//! - SS1. The reader is opened when it is first needed: a mere producer has none.
//! - SS2. Connections are closed as soon as it is known that the store is detached (see [`file`](super::file), FI4): by the
//!   thread that finds it out, or by the thread that uses the connection then. No later handle shares the store.
//! - SS3. No thread waits for one of the connections while it has the other.
//! - SS4. The last handle closes the store. It is in the list of stores only as long as there is a handle, and no thread
//!   waits for a disk under the lock of that list.

use super::commit::{GroupCommit, QueueRef, Urgency};
use super::connection::Access;
use super::errors::queue_error;
use super::file::{self, Attachment, Files};
use super::time::Now;
use super::tx::{QueueRow, Tx};
use super::watch::{Seen, Watch};
use super::{busy, connection, schema};
use crate::broker::{Change, Listeners, Subscription};
use crate::sync::{lock, try_lock};
use crate::{Clock, QueueError};
use rusqlite::Connection;
use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

/// The stores of this process.
static STORES: LazyLock<Mutex<Vec<Weak<Store>>>> = LazyLock::new(Mutex::default);

/// How often to open the files again if they have changed meanwhile.
const MOST_TRIES: u32 = 100;

pub(super) struct Store {
    attachment: Arc<Attachment>,
    access: Access,
    clock: Clock,
    pub(super) group: GroupCommit,
    reader: Mutex<Option<Connection>>,
    /// The queues that were opened here, by name.
    queues: Mutex<HashMap<String, QueueRef>>,
    /// To a manual clock, one for each of them.
    clock_moves: Mutex<Vec<Subscription>>,
    watch: Arc<Watch>,
}

impl Store {
    /// Returns the store of these files and this clock, and opens it if there is none.
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
            group: GroupCommit::new(writer, clock.clone(), Arc::clone(&attachment)),
            access,
            clock: clock.clone(),
            reader: Mutex::new(reader),
            queues: Mutex::default(),
            clock_moves: Mutex::default(),
            watch: Arc::default(),
            attachment,
        });
        // Another thread may have been first.
        let mut stores = lock(&STORES);
        let live: Vec<Arc<Store>> = stores.iter().filter_map(Weak::upgrade).collect();
        let first = live.iter().find(|store| {
            store.is_of(opened.attachment.files(), clock, access) && !store.attachment.is_detached()
        });
        if first.is_none() {
            stores.push(Arc::downgrade(&opened));
        }
        // This may be the last handle of one of them.
        drop(stores);
        Ok(first.map_or(opened, Arc::clone))
    }

    fn is_of(&self, files: &Files, clock: &Clock, access: Access) -> bool {
        self.attachment.files() == files && self.clock.is(clock) && self.access == access
    }

    /// Returns the queue of that name, and creates it if it is missing and writing is permitted.
    pub(super) fn queue(&self, name: &str) -> Result<QueueRef, QueueError> {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get(name) {
            return Ok(queue.clone());
        }
        let number = match self.access {
            Access::Write => {
                let deadline = Instant::now() + busy::TIMEOUT;
                let made = self
                    .group
                    .with_writer(deadline, |writer| schema::create(writer, name, &self.clock));
                self.checked(made)?
            }
            Access::Read => self.with_reader(|reader| schema::find(reader, self.path(), name))?,
        };
        let listeners = Listeners::new();
        let ours = listeners.clone();
        // A move of a manual clock notifies at once.
        let moves = self.clock.on_change(move || ours.notify(Change::Here));
        lock(&self.clock_moves).push(moves);
        let queue = QueueRef { number, listeners };
        queues.insert(name.to_owned(), queue.clone());
        Ok(queue)
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// The listeners of all queues.
    pub(super) fn all_listeners(&self) -> Vec<Listeners> {
        let queues = lock(&self.queues);
        queues
            .values()
            .map(|queue| queue.listeners.clone())
            .collect()
    }

    pub(super) fn path(&self) -> &Path {
        self.attachment.files().path()
    }

    pub(super) fn check(&self) -> Result<(), QueueError> {
        self.checked(Ok(()))
    }

    /// The result, if the files are those that others see.
    fn checked<T>(&self, end: Result<T, QueueError>) -> Result<T, QueueError> {
        let checked = self.attachment.check();
        self.close_if_detached();
        checked.and(end)
    }

    /// Closes the connections of a detached store (SS2).
    fn close_if_detached(&self) {
        if self.attachment.is_detached() {
            self.group.close();
            if let Some(mut reader) = try_lock(&self.reader) {
                *reader = None;
            }
        }
    }

    /// Refuses to write if the store is read-only.
    pub(super) fn refuse_to_write(&self) -> Result<(), QueueError> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => {
                let why = "it was opened read-only".to_owned();
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
        self.close_if_detached();
        end
    }

    /// Writes if no other thread does and the store is not read-only; `None` if not.
    pub(super) fn write_now<T: Send + 'static>(
        &self,
        queue: &QueueRef,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Option<Result<T, QueueError>> {
        if self.access == Access::Read {
            return None;
        }
        let end = self.group.run_now(queue, operation);
        self.close_if_detached();
        end
    }

    /// Reads in one transaction, at one moment.
    pub(super) fn read<T>(
        &self,
        queue: i64,
        read: impl FnOnce(&Connection, Now) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        self.with_reader(|reader| {
            let moment = reader.transaction().map_err(queue_error)?;
            let now = QueueRow::mark(&moment, queue).map_err(queue_error)?;
            read(&moment, now.now(&self.clock)).map_err(queue_error)
        })
    }

    /// The listeners of the queues in which there may be something to claim since the call before with the same `seen`.
    pub(super) fn changed(&self, seen: &mut Seen) -> Result<Vec<Listeners>, QueueError> {
        let queues: Vec<QueueRef> = lock(&self.queues).values().cloned().collect();
        self.with_reader(|reader| seen.look(reader, queues).map_err(queue_error))
    }

    fn with_reader<T>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let end = {
            let mut reader = lock(&self.reader);
            busy::restart();
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
                let opened = connection::connect(self.attachment.files().asked(), self.access)?;
                opened
                    .execute_batch("PRAGMA query_only = ON")
                    .map_err(queue_error)?;
                Ok(closed.insert(opened))
            }
        }
    }
}

impl Store {
    /// Writes a consistent copy of the database to a new file.
    pub(super) fn backup(&self, to: &Path) -> Result<(), QueueError> {
        let to = file::absolute(to)?;
        let Some(name) = to.to_str() else {
            let why = "SQLite requires a name in UTF-8";
            return Err(QueueError::address(&to.to_string_lossy(), why));
        };
        file::make_new(&to, self.path())?;
        // By a connection of its own, so that no other thread waits.
        let copy = || {
            self.check()?;
            busy::restart();
            let from = connection::connect(self.attachment.files().asked(), Access::Read)?;
            from.execute("VACUUM INTO ?1", [name])
                .map_err(queue_error)?;
            drop(from);
            file::sync(&to)?;
            self.check()
        };
        copy().inspect_err(|_| {
            // It holds nothing of value.
            let _ = std::fs::remove_file(&to);
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.watch.close();
        *lock(&self.reader) = None;
        // Only if attached (FI4). The next process finds an empty log, if none uses it now.
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

/// A store that is open already. All stores of the same database are checked, so that those that are detached close their
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

/// Opens a connection. Returns it with the files that it has open: the same before and after the opening. If the opening
/// created one of them, they are opened once more.
fn connect(path: &Path, access: Access) -> Result<(Connection, Files), QueueError> {
    for _ in 0..MOST_TRIES {
        file::refuse_unfit(path)?;
        busy::restart();
        let before = Files::at(path);
        let connection = connection::connect(path, access)?;
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
