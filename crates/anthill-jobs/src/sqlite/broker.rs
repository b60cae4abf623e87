//! The broker: each method of the trait runs one operation in a transaction of the store.

use super::commit::{QueueRef, Urgency};
use super::connection::Access;
use super::store::Store;
use super::time::Now;
use super::tx::Tx;
use super::{claim, enqueue, settle, sweep, watch};
use crate::broker::{
    Admin, Broker, Capabilities, ClaimRequest, Claims, ConsumerRegistry, Durability, Enqueued,
    Extended, Lease, LimitStore, Listener, Listeners, ScheduleStore, Settle, Settled, Subscription,
};
use crate::clock::Clock;
use crate::error::QueueError;
use crate::job::NewJob;
use rusqlite::Connection;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A broker in an SQLite file: jobs survive the death of any process, and all processes on the host share them.
///
/// Several queues can be in one file, and the file can be an application's own database: the names of the tables start
/// with `anthill_`. The file is switched to a write-ahead log for good. It must be on a disk of this host, because network
/// file systems do not provide the locks that SQLite needs.
///
/// An id is remembered as long as its job, or its result, is stored: until then an enqueue with the same id is a duplicate.
/// [`Admin::retry_dead`] refuses a job whose unique key another job has by now.
///
/// ```
/// use anthill_jobs::{Broker, ClaimRequest, Clock, NewJob, SqliteBroker};
/// use std::time::Duration;
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("jobs.db");
/// let broker = SqliteBroker::open(&file, "mail", Clock::system())?;
/// broker.enqueue(&[NewJob::new("letter", b"{}".to_vec())])?;
/// drop(broker);
///
/// let broker = SqliteBroker::open(&file, "mail", Clock::system())?;
/// let claims = broker.claim(&ClaimRequest::new(10, Duration::from_secs(30)))?;
/// assert_eq!(claims.jobs[0].kind, "letter");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqliteBroker {
    pub(super) store: Arc<Store>,
    pub(super) queue: i64,
    pub(super) clock: Clock,
    pub(super) listeners: Listeners,
}

impl SqliteBroker {
    /// Opens a queue, and creates it, its tables and the file if they do not exist. Several processes may do so at once.
    ///
    /// All handles of one process on the same file and with the same clock share their connections and commits, and are
    /// notified of each other's changes at once.
    ///
    /// The tables of an older version are brought to this one, in one transaction. That may take several seconds for each
    /// million jobs, in which no other process can write. Afterwards an older program opens the file no more.
    ///
    /// # Errors
    ///
    /// - [`Corrupt`](QueueError::Corrupt): the file is not a database, or is damaged.
    /// - [`Version`](QueueError::Version): its tables were made by a newer version of anthill.
    /// - [`Busy`](QueueError::Busy): another process holds a lock on it.
    /// - [`Address`](QueueError::Address): the folder does not exist, the file has several names (hard links), or SQLite
    ///   cannot keep a log there, as for a database in memory.
    /// - [`ReadOnly`](QueueError::ReadOnly): writing to the file is not permitted; see
    ///   [`open_read_only`](SqliteBroker::open_read_only).
    /// - [`Detached`](QueueError::Detached): a connection of this process still has files open that were replaced since.
    /// - [`Broker`](QueueError::Broker): the file cannot be opened, read or written.
    pub fn open(
        path: impl AsRef<Path>,
        queue: &str,
        clock: Clock,
    ) -> Result<SqliteBroker, QueueError> {
        SqliteBroker::open_as(Access::Write, path.as_ref(), queue, clock)
    }

    /// Opens an existing queue to look at it; each change is a [`ReadOnly`](QueueError::ReadOnly) error.
    ///
    /// It needs no permission to write to the file or its folder, if a process with that permission has opened the queue
    /// before. Jobs that are due or expired count as they are until a process that may write updates them.
    ///
    /// # Errors
    ///
    /// As [`open`](SqliteBroker::open); [`Address`](QueueError::Address) if there is no such queue, and
    /// [`ReadOnly`](QueueError::ReadOnly) if its tables are of an older version.
    pub fn open_read_only(
        path: impl AsRef<Path>,
        queue: &str,
        clock: Clock,
    ) -> Result<SqliteBroker, QueueError> {
        SqliteBroker::open_as(Access::Read, path.as_ref(), queue, clock)
    }

    fn open_as(
        access: Access,
        path: &Path,
        queue: &str,
        clock: Clock,
    ) -> Result<SqliteBroker, QueueError> {
        let store = Store::open(path, &clock, access)?;
        let QueueRef { number, listeners } = store.queue(queue)?;
        Ok(SqliteBroker {
            store,
            queue: number,
            clock,
            listeners,
        })
    }

    /// Writes a consistent copy of the whole file to a new one, while the queue is in use. The copy is a queue, too, and as
    /// small as possible.
    ///
    /// A copy by other means misses what is in the log, and one by this process drops its locks on the file.
    ///
    /// # Errors
    ///
    /// If `path` exists already, or the copy cannot be written, in which case nothing is left of it; otherwise as
    /// [`open`](SqliteBroker::open).
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<(), QueueError> {
        self.store.backup(path.as_ref())
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.write_as(Urgency::Other, operation)
    }

    fn write_as<T: Send + 'static>(
        &self,
        urgency: Urgency,
        operation: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.store.write(&self.queue_ref(), urgency, operation)
    }

    pub(super) fn queue_ref(&self) -> QueueRef {
        QueueRef {
            number: self.queue,
            listeners: self.listeners.clone(),
        }
    }

    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection, Now) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        self.store.read(self.queue, read)
    }

    /// Sweeps first, if that needs no waiting, so that a reader sees the queue as the next claim will.
    pub(super) fn read_swept<T>(
        &self,
        look: impl FnOnce(&Connection, Now) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        let queue = self.queue;
        if self.read(|connection, now| sweep::is_overdue(connection, queue, now))? {
            match self.store.write_now(&self.queue_ref(), sweep::sweep) {
                None | Some(Ok(_) | Err(QueueError::Busy | QueueError::ReadOnly(_))) => {}
                Some(Err(error)) => return Err(error),
            }
        }
        self.read(look)
    }
}

impl fmt::Debug for SqliteBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transactions = self.store.group.transactions.load(Ordering::Relaxed);
        f.debug_struct("SqliteBroker")
            .field("path", &self.store.path())
            .field("queue", &self.queue)
            .field("transactions", &transactions)
            .finish_non_exhaustive()
    }
}

impl Broker for SqliteBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities::full("sqlite", Durability::Fsync)
    }

    fn identity(&self) -> String {
        let path = self.store.path();
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        format!("sqlite:{}?{}", path.display(), self.queue)
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let jobs = jobs.to_vec();
        self.write(move |tx| enqueue::enqueue(tx, &jobs))?
            .map(|all| all.into_iter().map(Ok).collect())
            .map_err(|limit| QueueError::Full { limit })
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        let request = request.clone();
        self.write(move |tx| claim::claim(tx, &request))
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let leases = leases.to_vec();
        let extend = move |tx: &mut Tx<'_>| settle::extend(tx, &leases, time);
        self.write_as(Urgency::Heartbeat, extend)
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let ends = ends.to_vec();
        self.write(move |tx| settle::settle(tx, &ends))
    }

    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        watch::subscribe(&self.store, &self.listeners, listener)
    }

    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        let (lease, progress) = (lease.clone(), progress.to_vec());
        self.write(move |tx| settle::progress(tx, &lease, &progress))
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn limit_store(&self) -> Option<&dyn LimitStore> {
        Some(self)
    }

    fn schedule_store(&self) -> Option<&dyn ScheduleStore> {
        Some(self)
    }

    fn consumer_registry(&self) -> Option<&dyn ConsumerRegistry> {
        Some(self)
    }
}
