//! The broker: each method of the trait runs one operation in a transaction of the store.

use super::commit::{QueueRef, Urgency};
use super::errors::queue_error;
use super::schema::Access;
use super::store::Store;
use super::time::Now;
use super::tx::{QueueRow, Tx};
use super::{claim, enqueue, kinds, manage, read, settle, sweep};
use crate::broker::{
    Broker, Capabilities, ClaimRequest, Claims, Enqueued, Fired, JobInfo, JobState, Lease, Limits,
    ListRequest, QueueStats, Scheduled, Settle,
};
use crate::clock::Clock;
use crate::error::QueueError;
use crate::id::JobId;
use crate::job::NewJob;
use crate::listeners::Listeners;
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
/// [`Broker::retry_dead`] refuses a job whose unique key another job has by now.
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
    pub(super) listeners: Arc<Listeners>,
}

impl SqliteBroker {
    /// Opens a queue, and creates it, its tables and the file if they do not exist. Several processes may do so at once.
    ///
    /// All handles of one process on the same file and with the same clock share their connections and commits, and are
    /// notified of each other's changes at once.
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
    /// As [`open`](SqliteBroker::open); [`Address`](QueueError::Address) if there is no such queue.
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

    /// Enqueues jobs as part of a transaction of yours, on a connection of yours to the same file: they are enqueued when
    /// you commit, and never if you do not. Without an open transaction the call is a transaction of its own.
    ///
    /// Begin the transaction with `BEGIN IMMEDIATE`, or call this before you read: otherwise another process may write in
    /// between, and you can only roll back and start again. Consumers see the jobs when they next poll the file.
    ///
    /// **Not covered by semver:** the signature has a type of [`rusqlite`] and follows its major version; see
    /// [the re-export](crate::rusqlite).
    ///
    /// ```
    /// use anthill_jobs::{Broker, Clock, NewJob, SqliteBroker};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let file = folder.path().join("shop.db");
    /// let broker = SqliteBroker::open(&file, "mail", Clock::system())?;
    /// let mut shop = rusqlite::Connection::open(&file)?;
    /// shop.execute_batch("CREATE TABLE orders (what TEXT)")?;
    ///
    /// let order = shop.transaction()?;
    /// broker.enqueue_in(&order, &[NewJob::new("confirm", b"\"ants\"".to_vec())])?;
    /// order.execute("INSERT INTO orders VALUES ('ants')", [])?;
    /// order.commit()?; // both, or none
    /// assert_eq!(broker.stats()?.ready, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Address`](QueueError::Address) if the connection is to another file; [`Detached`](QueueError::Detached) if the
    /// queue's files are no longer those that were opened here (your connection's files are not checked when you commit);
    /// otherwise as [`Broker::enqueue`]. None of the jobs is in the transaction then.
    pub fn enqueue_in(
        &self,
        connection: &Connection,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, QueueError> {
        self.store.refuse_to_write()?;
        self.store.check()?;
        self.refuse_others(connection)?;
        let savepoint = |sql| connection.prepare_cached(sql)?.execute([]).map(drop);
        savepoint("SAVEPOINT anthill_enqueue").map_err(queue_error)?;
        let enqueued = self.enqueue_within(connection, jobs);
        if enqueued.is_err() && !connection.is_autocommit() {
            savepoint("ROLLBACK TO anthill_enqueue").map_err(queue_error)?;
        }
        if !connection.is_autocommit() {
            savepoint("RELEASE anthill_enqueue").map_err(queue_error)?;
        }
        enqueued
            .map_err(queue_error)?
            .map_err(|limit| QueueError::Full { limit })
    }

    fn enqueue_within(
        &self,
        connection: &Connection,
        jobs: &[NewJob],
    ) -> rusqlite::Result<Result<Vec<Enqueued>, u64>> {
        // A transaction that reads first cannot wait for others when it writes.
        let first = "UPDATE anthill_queues SET turn = turn WHERE id = ?1";
        connection.prepare_cached(first)?.execute([self.queue])?;
        let mut tx = Tx::load(connection, self.queue, &self.clock)?;
        let enqueued = enqueue::enqueue(&mut tx, jobs)?;
        tx.store()?;
        Ok(enqueued)
    }

    fn refuse_others(&self, connection: &Connection) -> Result<(), QueueError> {
        let path = connection.path().unwrap_or_default();
        let real = |path: &Path| path.canonicalize().ok();
        let ours = self.store.path();
        let same = Path::new(path) == ours
            || real(path.as_ref()).is_some_and(|path| real(ours) == Some(path));
        if same {
            return Ok(());
        }
        let reason = format!("the queue is in {}", ours.display());
        Err(QueueError::address(path, reason))
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
            listeners: Arc::clone(&self.listeners),
        }
    }

    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection, Now) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        self.store.read(self.queue, read)
    }

    /// Sweeps first, if that needs no waiting, so that a reader sees the queue as the next claim will.
    fn read_swept<T>(
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
        Capabilities::full("sqlite")
    }

    fn identity(&self) -> String {
        let path = self.store.path();
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        format!("sqlite:{}?{}", path.display(), self.queue)
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let jobs = jobs.to_vec();
        self.write(move |tx| enqueue::enqueue(tx, &jobs))?
            .map_err(|limit| QueueError::Full { limit })
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        let request = request.clone();
        self.write(move |tx| claim::claim(tx, &request))
    }

    fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<bool>, QueueError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let leases = leases.to_vec();
        let extend = move |tx: &mut Tx<'_>| settle::extend(tx, &leases, lease);
        self.write_as(Urgency::Heartbeat, extend)
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<bool>, QueueError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let ends = ends.to_vec();
        self.write(move |tx| settle::settle(tx, &ends))
    }

    fn progress(&self, lease: Lease, progress: &[u8]) -> Result<bool, QueueError> {
        let progress = progress.to_vec();
        self.write(move |tx| settle::progress(tx, lease, &progress))
    }

    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        self.write(move |tx| manage::remove_job(tx, id, &JobState::WAITING))
    }

    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        let ids = ids.to_vec();
        self.write(move |tx| manage::set_due(tx, &ids, delay))
    }

    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        let jobs = jobs.to_vec();
        self.write(move |tx| manage::remove_unchanged(tx, &jobs))
    }

    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.read_swept(|connection, now| read::get(connection, self.queue, id, now))
    }

    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        self.read_swept(|connection, now| read::list(connection, self.queue, request, now))
    }

    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        self.read_swept(|connection, _| kinds::ready_kinds(connection, self.queue))
    }

    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.write(move |tx| manage::retry_dead(tx, id))
    }

    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        self.write(move |tx| manage::remove_job(tx, id, &JobState::TERMINAL))
    }

    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        if states.contains(&JobState::Running) {
            return Err(QueueError::Unsupported {
                what: "a purge of running jobs",
                broker: self.capabilities().name,
            });
        }
        // Jobs that arrive meanwhile do not count, or this might never end.
        let last = self.write(|tx| Ok(enqueue::last_place(tx)))?;
        let mut purged = 0;
        loop {
            let before = purged;
            for &state in states {
                loop {
                    let (some, more) = self.write(move |tx| manage::purge_some(tx, state, last))?;
                    purged += some;
                    if !more {
                        break;
                    }
                }
            }
            // A job may have gone to a state that had been purged already.
            if purged == before {
                return Ok(purged);
            }
        }
    }

    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        self.write(move |tx| {
            manage::set_paused(tx, paused);
            Ok(())
        })
    }

    fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        self.write(move |tx| {
            manage::set_limits(tx, limits);
            Ok(())
        })
    }

    fn limits(&self) -> Result<Limits, QueueError> {
        let row = self.read(|connection, _| QueueRow::load(connection, self.queue))?;
        Ok(row.limits)
    }

    fn stats(&self) -> Result<QueueStats, QueueError> {
        self.read_swept(|connection, now| read::stats(connection, self.queue, now))
    }

    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        let schedule = schedule.clone();
        self.write(move |tx| manage::put_schedule(tx, &schedule))
    }

    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        let name = name.to_owned();
        self.write(move |tx| manage::drop_schedule(tx, &name))
    }

    fn schedules(&self) -> Result<Vec<Scheduled>, QueueError> {
        self.read(|connection, _| read::schedules(connection, self.queue))
    }

    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError> {
        let (schedule, job) = (schedule.clone(), job.cloned());
        self.write(move |tx| manage::fire(tx, &schedule, next, job.as_ref()))
    }

    fn now(&self) -> Result<i64, QueueError> {
        Ok(self.clock.seconds())
    }

    fn subscribe(&self, call: Box<dyn Fn() -> bool + Send + Sync>) {
        self.listeners.add(call);
    }

    fn has_changed(&self, seen: &mut u64) -> Result<bool, QueueError> {
        self.store.has_changed(seen)
    }
}
