//! The face of a queue: what goes in, and what an operator may look at and change.

use super::broker::{
    Broker, Enqueued, JobInfo, JobState, Limits, ListRequest, Missed, QueueStats, Scheduled,
};
use super::calls::Calls;
use super::clock::Clock;
use super::consumer::ConsumerBuilder;
use super::draft::Draft;
use super::error::{EnqueueError, QueueError};
use super::job::{Job, JobId, NewJob};
use super::memory::MemoryBroker;
use super::schedule;
#[cfg(feature = "sqlite")]
use super::sqlite::SqliteBroker;
use anthill::PoolHandle;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// Data of more bytes is refused, unless told otherwise.
const PAYLOAD_LIMIT: usize = 1 << 20;

/// A queue of jobs. Cheap to clone; all clones are the same queue.
///
/// Any thread may use it; all that it does waits for its broker, which may be a disk.
///
/// ```
/// use anthill::Pool;
/// use anthill_jobs::{Context, Job, JobError, Queue};
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet {
///     name: String,
/// }
/// impl Job for Greet {
///     const KIND: &'static str = "greet";
/// }
///
/// let queue = Queue::memory();
/// queue.enqueue(Greet { name: "Ada".into() })?;
///
/// let pool = Pool::with_capacity(4);
/// let consumer = queue
///     .consumer(&pool)
///     .handle(|job: Greet, _: &Context| -> Result<(), JobError> {
///         println!("Hello, {}!", job.name);
///         Ok(())
///     })
///     .start()?;
/// consumer.wait_idle();
/// consumer.stop(Duration::from_secs(30))?;
/// assert_eq!(queue.stats()?.done, 1);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct Queue {
    broker: Arc<dyn Broker>,
    /// The same, where it is one.
    #[cfg(feature = "sqlite")]
    sqlite: Option<Arc<SqliteBroker>>,
    payload_limit: usize,
    /// The consumers of this process, for what no broker tells them.
    schedulers: Arc<Calls>,
}

impl Queue {
    /// The queue at an address:
    ///
    /// | address | |
    /// |---|---|
    /// | `memory:` | a new one in the memory of this process |
    /// | `sqlite:FILE`, `sqlite:FILE?queue=NAME` | in a file, which is made if it is not there; its name is `default` unless told |
    ///
    /// Both are taken as they are: nothing is decoded, so no `?` can be in the file's name, and none of `?`, `&`, `=` and
    /// `%` in the queue's. `SqliteBroker::open` takes any name.
    ///
    /// # Errors
    ///
    /// If that is no address, if this program was built without the broker's feature, or if the broker cannot be
    /// opened.
    pub fn open(address: &str) -> Result<Queue, QueueError> {
        let Some((scheme, rest)) = address.split_once(':') else {
            return Err(QueueError::address(address, "it names no broker"));
        };
        match scheme {
            "memory" if rest.is_empty() => Ok(Queue::memory()),
            "memory" => Err(QueueError::address(address, "memory has no name")),
            "sqlite" => open_sqlite(address, rest),
            _ => Err(QueueError::address(address, "there is no such broker")),
        }
    }

    /// A queue that is there, to look at it: each change is an error. It needs no right to write: see
    /// `SqliteBroker::open_read_only`.
    ///
    /// # Errors
    ///
    /// As [`open`](Queue::open); if there is no such queue, or it is in memory, where nobody else can look.
    pub fn open_read_only(address: &str) -> Result<Queue, QueueError> {
        match address.split_once(':') {
            Some(("sqlite", rest)) => look_at_sqlite(address, rest),
            Some(("memory", "")) => {
                let why = "a queue in memory can be seen by those who have it, and nobody else";
                Err(QueueError::address(address, why))
            }
            _ => Queue::open(address),
        }
    }

    /// A new one in the memory of this process.
    #[must_use]
    pub fn memory() -> Queue {
        Queue::of(MemoryBroker::new(Clock::system()))
    }

    /// The queue of a broker.
    #[must_use]
    pub fn of(broker: impl Broker) -> Queue {
        Queue {
            broker: Arc::new(broker),
            #[cfg(feature = "sqlite")]
            sqlite: None,
            payload_limit: PAYLOAD_LIMIT,
            schedulers: Arc::default(),
        }
    }

    /// The queue of a broker in an `SQLite` file, with [`enqueue_in`](Queue::enqueue_in).
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn sqlite(broker: SqliteBroker) -> Queue {
        let broker = Arc::new(broker);
        Queue {
            broker: Arc::clone(&broker) as Arc<dyn Broker>,
            sqlite: Some(broker),
            payload_limit: PAYLOAD_LIMIT,
            schedulers: Arc::default(),
        }
    }

    /// Refuses data of more than so many bytes (as JSON); a mebibyte unless told.
    #[must_use]
    pub fn payload_limit(self, bytes: usize) -> Queue {
        Queue {
            payload_limit: bytes,
            ..self
        }
    }

    /// Both brokers, where they have the same `SQLite` file.
    #[cfg(feature = "sqlite")]
    pub(super) fn in_one_file<'q>(
        &'q self,
        other: &'q Queue,
    ) -> Option<(&'q SqliteBroker, &'q SqliteBroker)> {
        let (one, other) = (self.sqlite.as_deref()?, other.sqlite.as_deref()?);
        one.shares_file(other).then_some((one, other))
    }

    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// The broker, for what the queue itself has no word for.
    pub fn as_broker(&self) -> &dyn Broker {
        &*self.broker
    }

    // ── in ──────────────────────────────────────────────────────────────────────────────────

    /// Enqueues a job. Once this returns it will be done, or end among the dead letters, or be taken away on request.
    ///
    /// # Errors
    ///
    /// If it is too large, or its broker fails: the job comes back.
    pub fn enqueue<J: Job>(&self, job: J) -> Result<JobId, EnqueueError<J>> {
        match self.enqueue_one(&job, |_| {}) {
            Ok(enqueued) => Ok(enqueued.id()),
            Err(reason) => Err(EnqueueError::new(reason, job)),
        }
    }

    /// Enqueues all of the jobs, or none, in one go.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue): all come back.
    pub fn enqueue_all<J: Job>(&self, jobs: Vec<J>) -> Result<Vec<JobId>, EnqueueError<Vec<J>>> {
        let encoded: Result<Vec<NewJob>, QueueError> =
            jobs.iter().map(|job| self.encode(job)).collect();
        match encoded.and_then(|encoded| self.broker.enqueue(&encoded)) {
            Ok(enqueued) => Ok(enqueued.into_iter().map(Enqueued::id).collect()),
            Err(reason) => Err(EnqueueError::new(reason, jobs)),
        }
    }

    /// Enqueues a job in a transaction of yours, in the queue's own `SQLite` file: it is there when you commit, and as
    /// if it had never been when you do not.
    ///
    /// Consumers of this process hear of it as of what another process did: soon.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue); if the queue is in no `SQLite` file, or the connection is to another one.
    ///
    /// ```
    /// # use anthill_jobs::{Clock, Job, Queue, SqliteBroker, rusqlite};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Welcome { user: i64 }
    /// # impl Job for Welcome { const KIND: &'static str = "welcome"; }
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("app.db");
    /// let queue = Queue::open(&format!("sqlite:{}", file.display()))?;
    /// let mut connection = rusqlite::Connection::open(&file)?;
    /// connection.execute_batch("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")?;
    ///
    /// let transaction = connection.transaction()?;
    /// transaction.execute("INSERT INTO users (name) VALUES ('Ada')", ())?;
    /// let user = transaction.last_insert_rowid();
    /// queue.enqueue_in(&transaction, Welcome { user })?;
    /// transaction.commit()?; // a user and a welcome, or neither
    /// # assert_eq!(queue.stats()?.ready, 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[cfg(feature = "sqlite")]
    pub fn enqueue_in<J: Job>(
        &self,
        transaction: &rusqlite::Connection,
        job: J,
    ) -> Result<JobId, EnqueueError<J>> {
        let enqueued = self.encode(&job).and_then(|new| {
            let Some(sqlite) = &self.sqlite else {
                return Err(QueueError::Unsupported {
                    what: "transactions of yours",
                    broker: self.broker.abilities().name,
                });
            };
            sqlite.enqueue_in(transaction, &[new])
        });
        match enqueued {
            Ok(enqueued) => Ok(enqueued[0].id()),
            Err(reason) => Err(EnqueueError::new(reason, job)),
        }
    }

    /// A job that is told more about before it is enqueued.
    ///
    /// ```
    /// # use anthill_jobs::{Job, Queue};
    /// # use std::time::Duration;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Remind { user: u32 }
    /// # impl Job for Remind { const KIND: &'static str = "remind"; }
    /// # let queue = Queue::memory();
    /// queue
    ///     .job(Remind { user: 7 })
    ///     .delay(Duration::from_secs(3600))
    ///     .unique("remind 7") // one at a time
    ///     .retries(5)
    ///     .enqueue()?;
    /// # assert_eq!(queue.stats()?.delayed, 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn job<J: Job>(&self, job: J) -> Draft<'_, J> {
        Draft {
            queue: self,
            job,
            told: NewJob::new(J::KIND, Vec::new()),
        }
    }

    fn encode<J: Job>(&self, job: &J) -> Result<NewJob, QueueError> {
        let encoded = NewJob::encode(job)?;
        self.check(&encoded)?;
        Ok(encoded)
    }

    pub(super) fn check(&self, job: &NewJob) -> Result<(), QueueError> {
        let size = job.payload.len();
        if size > self.payload_limit {
            let most = self.payload_limit;
            return Err(QueueError::TooLarge { size, most });
        }
        let abilities = self.broker.abilities();
        let missing = [
            (job.priority != 0 && !abilities.priority, "priorities"),
            (
                (job.unique.is_some() || job.once_per.is_some()) && !abilities.unique,
                "unique jobs",
            ),
            (job.key.is_some() && !abilities.per_key, "limit per key"),
        ];
        match missing.into_iter().find(|&(is_missing, _)| is_missing) {
            Some((_, what)) => Err(QueueError::Unsupported {
                what,
                broker: abilities.name,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn enqueue_one<J: Job>(
        &self,
        job: &J,
        tell: impl FnOnce(&mut NewJob),
    ) -> Result<Enqueued, QueueError> {
        let mut new = NewJob::encode(job)?;
        tell(&mut new);
        self.enqueue_new(&new)
    }

    /// Enqueues a job that is JSON already, and of a kind that is known at run time only.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue).
    pub fn enqueue_new(&self, job: &NewJob) -> Result<Enqueued, QueueError> {
        let enqueued = self.enqueue_all_new(std::slice::from_ref(job))?;
        Ok(enqueued.first().copied().unwrap_or(Enqueued::Added(job.id)))
    }

    /// The same for several, all or nothing.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue).
    pub fn enqueue_all_new(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        jobs.iter().try_for_each(|job| self.check(job))?;
        self.broker.enqueue(jobs)
    }

    /// Enqueues `job` again and again, at the times that a cron expression of five fields names (UTC); a schedule
    /// of the same name is replaced. Some consumer of the queue must run for it. A time that passes while none does
    /// is made up for once.
    ///
    /// # Errors
    ///
    /// If it is no such expression, or as [`enqueue`](Queue::enqueue).
    pub fn schedule<J: Job>(&self, name: &str, cron: &str, job: &J) -> Result<(), QueueError> {
        self.schedule_with(name, cron, job, Missed::Once)
    }

    /// The same, told what becomes of the times that pass while no consumer runs, or the queue is paused.
    ///
    /// # Errors
    ///
    /// As [`schedule`](Queue::schedule).
    pub fn schedule_with<J: Job>(
        &self,
        name: &str,
        cron: &str,
        job: &J,
        missed: Missed,
    ) -> Result<(), QueueError> {
        let next = schedule::next(cron, self.broker.now()?)?;
        let NewJob { kind, payload, .. } = self.encode(job)?;
        self.broker.put_schedule(&Scheduled {
            name: name.to_owned(),
            cron: cron.to_owned(),
            kind: kind.into_owned(),
            payload,
            next,
            missed,
        })?;
        self.schedulers.call();
        Ok(())
    }

    pub(crate) fn on_schedule(&self, call: impl Fn() -> bool + Send + Sync + 'static) {
        // So that those that are gone are.
        self.schedulers.call();
        self.schedulers.add(call);
    }

    /// Ends a schedule; whether there was one.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn unschedule(&self, name: &str) -> Result<bool, QueueError> {
        self.broker.drop_schedule(name)
    }

    // ── out ─────────────────────────────────────────────────────────────────────────────────

    /// Who runs the jobs, on the workers of that pool.
    pub fn consumer(&self, pool: &PoolHandle) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), pool)
    }

    /// The result of a job that is done, and asked for it to be [kept](Draft::keep_result); `None` as long as there
    /// is none, and when it is gone again.
    ///
    /// # Errors
    ///
    /// If the broker fails, or if the result is no `T`.
    pub fn result<T: DeserializeOwned>(&self, id: JobId) -> Result<Option<T>, QueueError> {
        let Some(result) = self.broker.get(id)?.and_then(|job| job.result) else {
            return Ok(None);
        };
        serde_json::from_slice(&result)
            .map(Some)
            .map_err(QueueError::Decode)
    }

    // ── an operator's ───────────────────────────────────────────────────────────────────────

    /// Takes a job away that has not started; whether it had not.
    ///
    /// # Errors
    ///
    /// If the broker fails, as with all that follow.
    pub fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        self.broker.cancel(id)
    }

    /// Lets a job that is delayed run now, however long it was to wait; whether it waited.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn run_now(&self, id: JobId) -> Result<bool, QueueError> {
        let set = self.broker.set_due(&[id], std::time::Duration::ZERO)?;
        Ok(set.first() == Some(&true))
    }

    /// Lets no job start until [`resume`](Queue::resume), in any process.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn pause(&self) -> Result<(), QueueError> {
        self.broker.set_paused(true)
    }

    /// Ends a pause.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn resume(&self) -> Result<(), QueueError> {
        self.broker.set_paused(false)
    }

    /// Sets limits for all consumers in all processes together.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        self.broker.set_limits(limits)
    }

    /// Bounds the queue, for all producers in all processes: an enqueue that would make more than `most` jobs ready (or
    /// parked) fails with [`QueueError::Full`], and gives its jobs back. Sets [`Limits::max_ready`], and leaves the other
    /// limits as they are.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn max_ready(&self, most: u64) -> Result<(), QueueError> {
        let limits = self.broker.limits()?;
        self.broker.set_limits(Limits {
            max_ready: Some(most),
            ..limits
        })
    }

    /// Counts.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn stats(&self) -> Result<QueueStats, QueueError> {
        self.broker.stats()
    }

    /// A job.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.broker.get(id)
    }

    /// Up to `most` jobs in that state, those after the job `after` if it is told.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn list(
        &self,
        state: JobState,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<JobInfo>, QueueError> {
        self.broker
            .list(&ListRequest::new(state).after(after).most(most))
    }

    /// The dead letters, up to `most` of them.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn dead(&self, most: usize) -> Result<Vec<JobInfo>, QueueError> {
        self.list(JobState::Dead, None, most)
    }

    /// Makes a dead job ready again, as if it had never been tried; whether there was one (and its unique key was
    /// not another's).
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.broker.retry_dead(id)
    }

    /// Deletes a dead letter, or a result that is kept; whether there was one.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        self.broker.delete(id)
    }

    /// Takes away all jobs that wait (ready, delayed or parked) and were there when it began; how many.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn purge(&self) -> Result<u64, QueueError> {
        self.broker.purge(&JobState::WAITING)
    }

    /// Writes all that is in the queue's file to a new one, while the queue is in use. See `SqliteBroker::backup`.
    ///
    /// # Errors
    ///
    /// If the queue is in no `SQLite` file, if `path` is there already, or if it cannot be written.
    pub fn backup(&self, path: impl AsRef<std::path::Path>) -> Result<(), QueueError> {
        #[cfg(feature = "sqlite")]
        if let Some(sqlite) = &self.sqlite {
            return sqlite.backup(path);
        }
        let _ = path;
        Err(QueueError::Unsupported {
            what: "backup",
            broker: self.broker.abilities().name,
        })
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("broker", &self.broker.abilities().name)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "sqlite")]
fn open_sqlite(address: &str, rest: &str) -> Result<Queue, QueueError> {
    let (file, name) = sqlite_parts(address, rest)?;
    let broker = SqliteBroker::open(file, name, Clock::system())?;
    Ok(Queue::sqlite(broker))
}

#[cfg(feature = "sqlite")]
fn look_at_sqlite(address: &str, rest: &str) -> Result<Queue, QueueError> {
    let (file, name) = sqlite_parts(address, rest)?;
    let broker = SqliteBroker::open_read_only(file, name, Clock::system())?;
    Ok(Queue::sqlite(broker))
}

/// The file and the queue's name.
#[cfg(feature = "sqlite")]
fn sqlite_parts<'a>(address: &str, rest: &'a str) -> Result<(&'a str, &'a str), QueueError> {
    let refuse = |why: &str| Err(QueueError::address(address, why));
    let (file, query) = match rest.split_once('?') {
        None => (rest, None),
        Some((file, query)) => (file, Some(query)),
    };
    if file.is_empty() {
        return refuse("it names no file");
    }
    let Some(query) = query else {
        return Ok((file, "default"));
    };
    let Some(name) = query.strip_prefix("queue=") else {
        return refuse(
            "after the file there may be ?queue=NAME, and nothing else (a file with ? in its name is for \
             SqliteBroker::open)",
        );
    };
    match name.find(['?', '&', '=', '%']) {
        None if name.is_empty() => refuse("after ?queue= there is no name"),
        None => Ok((file, name)),
        Some(_) => refuse(
            "after the file there may be one ?queue=NAME, and none of ? & = % in the name, which is taken as it is",
        ),
    }
}

#[cfg(not(feature = "sqlite"))]
fn open_sqlite(address: &str, _: &str) -> Result<Queue, QueueError> {
    Err(QueueError::address(
        address,
        "this program was built without the feature `sqlite`",
    ))
}

#[cfg(not(feature = "sqlite"))]
use open_sqlite as look_at_sqlite;
