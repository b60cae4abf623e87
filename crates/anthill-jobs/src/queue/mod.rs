//! A queue as programs use it: what goes in. What an operator looks at and changes is in [`operate`]; how a queue is
//! opened by its address in [`openers`](crate::openers).

mod operate;

use crate::broker::{Broker, Enqueued, Missed, Scheduled};
use crate::clock::Clock;
use crate::error::{EnqueueError, QueueError};
use crate::id::JobId;
use crate::job::{Job, NewJob};
use crate::listeners::Listeners;
use crate::memory::MemoryBroker;
use crate::schedule;
#[cfg(feature = "sqlite")]
use crate::sqlite::SqliteBroker;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// The default of [`Queue::payload_limit`].
const PAYLOAD_LIMIT: usize = 1 << 20;

/// A queue of jobs. Cheap to clone; all clones are the same queue.
///
/// Any thread may use it. Each call waits for the broker, which may be a disk.
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
    /// The same broker, if it is one in an `SQLite` file.
    #[cfg(feature = "sqlite")]
    sqlite: Option<Arc<SqliteBroker>>,
    payload_limit: usize,
    /// Consumers made from this queue or its clones: no broker notifies them of a schedule that was set.
    schedulers: Arc<Listeners>,
}

impl Queue {
    /// Makes a new queue in the memory of this process.
    #[must_use]
    pub fn memory() -> Queue {
        Queue::of(MemoryBroker::new(Clock::system()))
    }

    /// Makes a queue of a broker.
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

    /// Makes a queue of a broker in an `SQLite` file. Unlike one made by [`of`](Queue::of) it supports
    /// [`enqueue_in`](Queue::enqueue_in) and [`backup`](Queue::backup).
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

    /// Sets the largest payload that this handle enqueues, in bytes of JSON; a mebibyte by default.
    #[must_use]
    pub fn payload_limit(self, bytes: usize) -> Queue {
        Queue {
            payload_limit: bytes,
            ..self
        }
    }

    /// Both brokers, if they share an `SQLite` file.
    #[cfg(feature = "sqlite")]
    pub(crate) fn in_one_file<'q>(
        &'q self,
        other: &'q Queue,
    ) -> Option<(&'q SqliteBroker, &'q SqliteBroker)> {
        let (one, other) = (self.sqlite.as_deref()?, other.sqlite.as_deref()?);
        one.shares_file(other).then_some((one, other))
    }

    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// Returns the broker, for operations that `Queue` does not expose.
    pub fn as_broker(&self) -> &dyn Broker {
        &*self.broker
    }

    // ── enqueue ─────────────────────────────────────────────────────────────────────────────

    /// Enqueues a job. Once this returns, the job will be done, or become a dead letter, or be removed on request.
    ///
    /// # Errors
    ///
    /// The job comes back in the error, with the reason: it is too large or cannot be written as JSON, the queue is full,
    /// or the broker fails.
    pub fn enqueue<J: Job>(&self, job: J) -> Result<JobId, EnqueueError<J>> {
        match self.enqueue_one(&job, |_| {}) {
            Ok(enqueued) => Ok(enqueued.id()),
            Err(reason) => Err(EnqueueError::new(reason, job)),
        }
    }

    /// Enqueues all of the jobs, or none, in one transaction.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue); all jobs come back.
    pub fn enqueue_all<J: Job>(&self, jobs: Vec<J>) -> Result<Vec<JobId>, EnqueueError<Vec<J>>> {
        let encoded: Result<Vec<NewJob>, QueueError> =
            jobs.iter().map(|job| self.encode(job)).collect();
        match encoded.and_then(|encoded| self.broker.enqueue(&encoded)) {
            Ok(enqueued) => Ok(enqueued.into_iter().map(Enqueued::id).collect()),
            Err(reason) => Err(EnqueueError::new(reason, jobs)),
        }
    }

    /// Enqueues a job in a transaction of yours, on a connection to the queue's own `SQLite` file: the job is enqueued when
    /// you commit, and never if you do not.
    ///
    /// Consumers of this process see the job when they next poll, as if another process had enqueued it.
    ///
    /// **Not covered by semver:** the signature has a type of [`rusqlite`] and follows its major version; see
    /// [the re-export](crate::rusqlite).
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue); also if the queue is not in an `SQLite` file, or the connection is to another one.
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
                    what: "caller-supplied transactions",
                    broker: self.broker.capabilities().name,
                });
            };
            sqlite.enqueue_in(transaction, &[new])
        });
        match enqueued {
            Ok(enqueued) => Ok(enqueued[0].id()),
            Err(reason) => Err(EnqueueError::new(reason, job)),
        }
    }

    fn encode<J: Job>(&self, job: &J) -> Result<NewJob, QueueError> {
        let encoded = NewJob::encode(job)?;
        self.check(&encoded)?;
        Ok(encoded)
    }

    /// Refuses a job that is too large, or needs what the broker cannot do.
    pub(crate) fn check(&self, job: &NewJob) -> Result<(), QueueError> {
        let size = job.payload.len();
        if size > self.payload_limit {
            let limit = self.payload_limit;
            return Err(QueueError::TooLarge { size, limit });
        }
        let capabilities = self.broker.capabilities();
        let missing = [
            (job.priority != 0 && !capabilities.priority, "priorities"),
            (
                (job.unique.is_some() || job.once_per.is_some()) && !capabilities.unique,
                "unique jobs",
            ),
            (
                job.key.is_some() && !capabilities.per_key,
                "a limit per key",
            ),
        ];
        match missing.into_iter().find(|&(is_missing, _)| is_missing) {
            Some((_, what)) => Err(QueueError::Unsupported {
                what,
                broker: capabilities.name,
            }),
            None => Ok(()),
        }
    }

    /// Enqueues a job with the options that `set` sets.
    pub(crate) fn enqueue_one<J: Job>(
        &self,
        job: &J,
        set: impl FnOnce(&mut NewJob),
    ) -> Result<Enqueued, QueueError> {
        let mut new = NewJob::encode(job)?;
        set(&mut new);
        self.enqueue_new(&new)
    }

    /// Enqueues a job that is JSON already, and whose kind is known only at run time.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue).
    pub fn enqueue_new(&self, job: &NewJob) -> Result<Enqueued, QueueError> {
        let enqueued = self.enqueue_all_new(std::slice::from_ref(job))?;
        Ok(enqueued.first().copied().unwrap_or(Enqueued::Added(job.id)))
    }

    /// Enqueues several jobs that are JSON already: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue).
    pub fn enqueue_all_new(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        jobs.iter().try_for_each(|job| self.check(job))?;
        self.broker.enqueue(jobs)
    }

    // ── schedules ───────────────────────────────────────────────────────────────────────────

    /// Enqueues `job` again and again, at the times of a cron expression of five fields, in UTC. Replaces a schedule of the
    /// same name.
    ///
    /// A consumer of the queue must run. One job is enqueued for all times that pass while none does.
    ///
    /// # Errors
    ///
    /// [`Schedule`](QueueError::Schedule) if it is not a valid cron expression; otherwise as [`enqueue`](Queue::enqueue).
    pub fn schedule<J: Job>(&self, name: &str, cron: &str, job: &J) -> Result<(), QueueError> {
        self.schedule_with(name, cron, job, Missed::Once)
    }

    /// Enqueues `job` again and again as [`schedule`](Queue::schedule) does, and sets what to do about the times that pass
    /// while no consumer runs or the queue is paused.
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
        self.schedulers.notify();
        Ok(())
    }

    pub(crate) fn on_schedule(&self, call: impl Fn() -> bool + Send + Sync + 'static) {
        // Removes the listeners of consumers that are gone.
        self.schedulers.notify();
        self.schedulers.add(call);
    }

    /// Removes a schedule. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn unschedule(&self, name: &str) -> Result<bool, QueueError> {
        self.broker.drop_schedule(name)
    }

    // ── results ─────────────────────────────────────────────────────────────────────────────

    /// Returns the result of a job that is done and asked for its result to be [kept](crate::Draft::keep_result); `None`
    /// before it is done, and after that time.
    ///
    /// # Errors
    ///
    /// If the broker fails, or [`Decode`](QueueError::Decode) if the result is not a `T`.
    pub fn result<T: DeserializeOwned>(&self, id: JobId) -> Result<Option<T>, QueueError> {
        let Some(result) = self.broker.get(id)?.and_then(|job| job.result) else {
            return Ok(None);
        };
        serde_json::from_slice(&result)
            .map(Some)
            .map_err(QueueError::Decode)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("broker", &self.broker.capabilities().name)
            .finish_non_exhaustive()
    }
}
