//! The broker in an SQLite file: jobs survive the death of any process, and processes on this host share them.
//!
//! What it acknowledged is on the disk (`synchronous = FULL`, a log written ahead). Each call is one transaction, or a
//! part of one that calls of other threads share ([`commit`]); so what dies half-way has done nothing. A step costs the
//! same with a thousand and with a million jobs: each state has an index of its own, and the counts are kept.
//!
//! The tables are described where they are made ([`schema`]), and anyone can look at them with a shell of SQLite.

#![allow(clippy::doc_markdown, reason = "SQLite is a name, and no code")]

mod claim;
mod commit;
mod enqueue;
mod fail;
mod file;
mod keys;
mod kinds;
mod manage;
mod patience;
mod read;
mod relock;
mod schema;
mod settle;
mod store;
#[cfg(test)]
mod tests;
mod tidy;
mod time;
mod transfer;
mod tx;
mod unique;

use super::broker::{
    Abilities, Broker, ClaimRequest, Claims, Enqueued, Fired, JobInfo, JobState, Lease, Limits,
    ListRequest, QueueStats, Scheduled, Settle,
};
use super::calls::Calls;
use super::clock::Clock;
use super::error::QueueError;
use super::job::{JobId, NewJob};
use commit::{QueueRef, Urgency};
use fail::failed;
use rusqlite::Connection;
use schema::Access;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use store::Store;
use time::Now;
use tx::{Queue, Tx};

/// Jobs in an SQLite file.
///
/// Several queues can be in one file, and a file can be an application's own database: the names of the tables start
/// with `anthill_`. The file gets a write-ahead log, and stays so. It must be on a disk of this host: file locks of a
/// network do not hold what SQLite needs.
///
/// An id is remembered as long as its job is there: as [`Broker`] says, the same id again adds nothing then; when the
/// job is done and no result of it is kept, it does. [`Broker::retry_dead`] refuses a job whose unique key another
/// one has by now.
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
    store: Arc<Store>,
    queue: i64,
    clock: Clock,
    calls: Arc<Calls>,
}

impl SqliteBroker {
    /// Opens the queue of that name, and makes it, its tables and the file where they are missing; several processes
    /// may do so at once. All that one process opens of the same file, and with the same clock, share their
    /// connections and their commits, and hear of each other at once.
    ///
    /// # Errors
    ///
    /// - [`Corrupt`](QueueError::Corrupt): the file is no database, or damaged.
    /// - [`Version`](QueueError::Version): its tables were made by a newer version of anthill.
    /// - [`Busy`](QueueError::Busy): another process keeps it for itself.
    /// - [`Address`](QueueError::Address): there is no such folder, or the file has several names (hard links), or SQLite
    ///   can keep no log there, as for a database in memory.
    /// - [`ReadOnly`](QueueError::ReadOnly): the file may not be written to; see
    ///   [`open_read_only`](SqliteBroker::open_read_only).
    /// - [`Detached`](QueueError::Detached): a connection of this process still has files open that were there before.
    /// - [`Broker`](QueueError::Broker): the file cannot be opened, read or written.
    pub fn open(
        path: impl AsRef<Path>,
        queue: &str,
        clock: Clock,
    ) -> Result<SqliteBroker, QueueError> {
        SqliteBroker::open_as(Access::Write, path.as_ref(), queue, clock)
    }

    /// Opens a queue that is there, to look at it: each change is an error ([`ReadOnly`](QueueError::ReadOnly)).
    ///
    /// It needs no right to write to the file or in its folder, if a process that has it has opened the queue before. What
    /// is due, or over, is counted where it is until somebody who may write has seen to it.
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
        let QueueRef { number, calls } = store.queue(queue)?;
        Ok(SqliteBroker {
            store,
            queue: number,
            clock,
            calls,
        })
    }

    /// Writes all that is in the file, as it is at one moment, to a new one, while the queue is in use. The copy is a
    /// queue, too, as small as can be.
    ///
    /// A copy by other means misses what is in the log, and drops the locks that this process has on the file.
    ///
    /// # Errors
    ///
    /// If `path` is there already, or the copy cannot be written; nothing is left of it then. As with
    /// [`open`](SqliteBroker::open).
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<(), QueueError> {
        self.store.backup(path.as_ref())
    }

    /// Enqueues as a part of a transaction of yours, on a connection of yours to the same file: the jobs are there when
    /// it commits, and never if it does not. Without an open transaction it is one of its own.
    ///
    /// Begin it with `BEGIN IMMEDIATE`, or call this before you read: else another process may be between, and all you
    /// can do is to roll back and begin anew. Consumers hear of the jobs when they next look at the file.
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
    /// queue's files are not those any more that were opened here (whether yours are is not looked at when you commit);
    /// else as [`Broker::enqueue`]. None of the jobs is in the transaction then.
    pub fn enqueue_in(
        &self,
        connection: &Connection,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, QueueError> {
        self.store.refuse_to_write()?;
        self.store.check()?;
        self.refuse_others(connection)?;
        let savepoint = |sql| connection.prepare_cached(sql)?.execute([]).map(drop);
        savepoint("SAVEPOINT anthill_enqueue").map_err(failed)?;
        let enqueued = self.enqueue_within(connection, jobs);
        if enqueued.is_err() && !connection.is_autocommit() {
            savepoint("ROLLBACK TO anthill_enqueue").map_err(failed)?;
        }
        if !connection.is_autocommit() {
            savepoint("RELEASE anthill_enqueue").map_err(failed)?;
        }
        enqueued
            .map_err(failed)?
            .map_err(|most| QueueError::Full { most })
    }

    fn enqueue_within(
        &self,
        connection: &Connection,
        jobs: &[NewJob],
    ) -> rusqlite::Result<Result<Vec<Enqueued>, u64>> {
        // Who reads first cannot wait for others when he writes.
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

    fn write<T: Send + 'static>(
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

    fn queue_ref(&self) -> QueueRef {
        QueueRef {
            number: self.queue,
            calls: Arc::clone(&self.calls),
        }
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Connection, Now) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        self.store.read(self.queue, read)
    }

    /// Sees to what is due first, if that needs no waiting: so that who looks sees it as the next claim will.
    fn read_tidied<T>(
        &self,
        look: impl FnOnce(&Connection, Now) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        let queue = self.queue;
        if self.read(|connection, now| tidy::is_overdue(connection, queue, now))? {
            match self.store.write_now(&self.queue_ref(), tidy::tidy) {
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
    fn abilities(&self) -> Abilities {
        Abilities::full("sqlite")
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
            .map_err(|most| QueueError::Full { most })
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
        self.write(move |tx| manage::take_away(tx, id, &JobState::WAITING))
    }

    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        let ids = ids.to_vec();
        self.write(move |tx| transfer::set_due(tx, &ids, delay))
    }

    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        let jobs = jobs.to_vec();
        self.write(move |tx| transfer::remove_unchanged(tx, &jobs))
    }

    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.read_tidied(|connection, now| read::get(connection, self.queue, id, now))
    }

    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        self.read_tidied(|connection, now| read::list(connection, self.queue, request, now))
    }

    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        self.read_tidied(|connection, _| kinds::ready_kinds(connection, self.queue))
    }

    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.write(move |tx| manage::retry_dead(tx, id))
    }

    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        self.write(move |tx| manage::take_away(tx, id, &JobState::OVER))
    }

    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        if states.contains(&JobState::Running) {
            return Err(QueueError::Unsupported {
                what: "purge of jobs that run",
                broker: self.abilities().name,
            });
        }
        // What comes in meanwhile is not meant, or this might never end.
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
            // One may have gone from a state to another one that had been looked through.
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
        let row = self.read(|connection, _| Queue::load(connection, self.queue))?;
        Ok(row.limits)
    }

    fn stats(&self) -> Result<QueueStats, QueueError> {
        self.read_tidied(|connection, now| read::stats(connection, self.queue, now))
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
        self.calls.add(call);
    }

    fn has_changed(&self, seen: &mut u64) -> Result<bool, QueueError> {
        self.store.has_changed(seen)
    }
}
