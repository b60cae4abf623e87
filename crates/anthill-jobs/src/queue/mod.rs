//! A queue as programs use it: what goes in. What an operator looks at and changes is in [`operate`]; how a queue is
//! opened by its address in [`openers`](crate::openers).

mod operate;

use crate::broker::{
    Broker, Capabilities, Capability, Change, Enqueued, Listener, Listeners, Missed, ScheduleStore,
    Scheduled, Subscription, Transaction,
};
use crate::clock::Clock;
use crate::error::{EnqueueError, QueueError};
use crate::id::JobId;
use crate::job::{Job, NewJob};
use crate::memory::MemoryBroker;
use crate::schedule;
#[cfg(feature = "sqlite")]
use crate::sqlite::SqliteBroker;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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
    /// The same broker, for those who know its type.
    of_its_type: Arc<dyn Any + Send + Sync>,
    payload_limit: usize,
    /// Consumers made from this queue or its clones: no broker notifies them of a schedule that was set.
    schedulers: Listeners,
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
        Queue::shared(Arc::new(broker))
    }

    /// Makes a queue of a broker that others use, too.
    #[must_use]
    pub fn shared<B: Broker>(broker: Arc<B>) -> Queue {
        Queue {
            broker: Arc::clone(&broker) as Arc<dyn Broker>,
            of_its_type: broker,
            payload_limit: PAYLOAD_LIMIT,
            schedulers: Listeners::new(),
        }
    }

    /// Returns the broker, if it is of that type: for what only brokers of that type can do.
    ///
    /// ```
    /// use anthill_jobs::{MemoryBroker, Queue};
    ///
    /// assert!(Queue::memory().broker_as::<MemoryBroker>().is_some());
    /// ```
    pub fn broker_as<B: Broker>(&self) -> Option<&B> {
        self.of_its_type.downcast_ref()
    }

    /// Returns what the broker can do.
    pub fn capabilities(&self) -> Capabilities {
        self.broker.capabilities()
    }

    /// Returns the queue, if its broker has all of these capabilities: for a program that relies on them.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](QueueError::Unsupported), for the first one that it lacks.
    ///
    /// ```
    /// use anthill_jobs::{Capability, Queue};
    ///
    /// let queue = Queue::memory().require(&[Capability::Fenced, Capability::PerKey])?;
    /// assert!(queue.require(&[Capability::Shared]).is_err());
    /// # Ok::<(), anthill_jobs::QueueError>(())
    /// ```
    pub fn require(self, capabilities: &[Capability]) -> Result<Queue, QueueError> {
        let has = self.capabilities();
        capabilities.iter().try_for_each(|&one| has.require(one))?;
        Ok(self)
    }

    /// Sets the largest payload that this handle enqueues, in bytes of JSON and of headers together; a mebibyte by default.
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
        let (one, other) = (self.broker_as::<SqliteBroker>()?, other.broker_as()?);
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

    /// Enqueues several jobs in one call to the broker: all of them, or none, if the broker has
    /// [`Capability::AtomicBatches`].
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue). The jobs that were not enqueued come back, which are all of them with that capability;
    /// [`EnqueueError::enqueued`] has the others.
    pub fn enqueue_all<J: Job>(&self, jobs: Vec<J>) -> Result<Vec<JobId>, EnqueueError<Vec<J>>> {
        let encoded: Result<Vec<NewJob>, QueueError> =
            jobs.iter().map(|job| self.encode(job)).collect();
        let enqueued = match encoded {
            Ok(encoded) => self.store_all(&encoded),
            Err(reason) => Err((reason, Vec::new())),
        };
        match enqueued {
            Ok(enqueued) => Ok(enqueued.into_iter().map(Enqueued::id).collect()),
            Err(refused) => Err(EnqueueError::of_some(refused, jobs)),
        }
    }

    /// Enqueues a job in a transaction of yours, of the client of the queue's own engine: the job is enqueued when you commit,
    /// and never if you do not. For a queue in an `SQLite` file it is a `&rusqlite::Transaction` or `&rusqlite::Connection` of the
    /// same file; for other engines what their crates say.
    ///
    /// **Not covered by semver** are the types of `rusqlite`: see [the re-export](crate::rusqlite).
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue); also [`Unsupported`](QueueError::Unsupported) if the transaction is of another engine, and
    /// [`Address`](QueueError::Address) if it is of another database.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    pub fn enqueue_in<J: Job, B: Broker, T: Transaction<B>>(
        &self,
        transaction: T,
        job: J,
    ) -> Result<JobId, EnqueueError<J>> {
        let enqueued = self.encode(&job).and_then(|new| {
            let id = new.id;
            let enqueued = transaction.enqueue(self.broker_of_transaction()?, &[new])?;
            Ok(enqueued.first().map_or(id, |one| one.id()))
        });
        enqueued.map_err(|reason| EnqueueError::new(reason, job))
    }

    /// The broker, if a transaction that a `B` takes is of its engine.
    pub(crate) fn broker_of_transaction<B: Broker>(&self) -> Result<&B, QueueError> {
        let what = "a transaction of another engine";
        let refused = || self.capabilities().unsupported(what);
        self.broker_as().ok_or_else(refused)
    }

    /// Writes a job as this queue stores it, and refuses one that is too large, or needs what the broker cannot do: for a
    /// broker that enqueues in a transaction of yours.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Queue::enqueue), but the broker is not asked.
    pub fn encode<J: Job>(&self, job: &J) -> Result<NewJob, QueueError> {
        let encoded = NewJob::encode(job)?;
        self.check(&encoded)?;
        Ok(encoded)
    }

    /// Refuses a job that is too large, or needs what the broker cannot do.
    pub(crate) fn check(&self, job: &NewJob) -> Result<(), QueueError> {
        let capabilities = self.capabilities();
        let headers = job.headers.iter();
        let headers: usize = headers.map(|(name, text)| name.len() + text.len()).sum();
        let size = job.payload.len() + headers;
        let limit = self.payload_limit.min(capabilities.maxima.payload);
        if size > limit {
            return Err(QueueError::TooLarge { size, limit });
        }
        let needs = [
            (job.priority != 0, Capability::Priority),
            (!job.delay.is_zero(), Capability::Delay),
            (job.expires.is_some(), Capability::Expiry),
            (
                job.unique.is_some() || job.once_per.is_some(),
                Capability::Unique,
            ),
            (job.debounce, Capability::Debounce),
            (job.key.is_some(), Capability::PerKey),
            (job.keep_result.is_some(), Capability::Results),
            (!job.headers.is_empty(), Capability::Headers),
        ];
        for (_, capability) in needs.into_iter().filter(|&(is_needed, _)| is_needed) {
            capabilities.require(capability)?;
        }
        let longest = capabilities.maxima.delay;
        if job.delay > longest {
            let what = format!("a delay of more than {longest:?}");
            return Err(capabilities.unsupported(what));
        }
        Ok(())
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
        self.check(job)?;
        let enqueued = self.store_all(std::slice::from_ref(job));
        let enqueued = enqueued.map_err(|(reason, _)| reason)?;
        Ok(enqueued.first().copied().unwrap_or(Enqueued::Added(job.id)))
    }

    /// Enqueues several jobs that are JSON already: all of them, or none, if the broker has
    /// [`Capability::AtomicBatches`].
    ///
    /// # Errors
    ///
    /// As [`enqueue_all`](Queue::enqueue_all).
    pub fn enqueue_all_new(
        &self,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, EnqueueError<Vec<NewJob>>> {
        let checked = jobs.iter().try_for_each(|job| self.check(job));
        let enqueued = match checked {
            Ok(()) => self.store_all(jobs),
            Err(reason) => Err((reason, Vec::new())),
        };
        enqueued.map_err(|refused| EnqueueError::of_some(refused, jobs.to_vec()))
    }

    /// Enqueues jobs in batches of a size that the engine takes. The error has the first reason, and what became of each job
    /// that the broker was asked for: `None` is refused.
    fn store_all(
        &self,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, (QueueError, Vec<Option<Enqueued>>)> {
        let capabilities = self.capabilities();
        let most = capabilities.maxima.batch.max(1);
        if jobs.len() > most && capabilities.has(Capability::AtomicBatches) {
            let what = format!("a batch of more than {most} jobs");
            return Err((capabilities.unsupported(what), Vec::new()));
        }
        let mut answers = Vec::with_capacity(jobs.len());
        let mut refused = None;
        for batch in jobs.chunks(most) {
            match self.broker.enqueue(batch) {
                Ok(some) => {
                    for (answer, _) in some.into_iter().zip(batch) {
                        answers.push(match answer {
                            Ok(enqueued) => Some(enqueued),
                            Err(reason) => {
                                refused.get_or_insert(reason);
                                None
                            }
                        });
                    }
                }
                Err(reason) => {
                    refused.get_or_insert(reason);
                    break;
                }
            }
        }
        match refused {
            None => Ok(answers.into_iter().flatten().collect()),
            Some(reason) => Err((reason, answers)),
        }
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
        let store = self.schedule_store()?;
        let now = store
            .clock()
            .map_or_else(|| Ok(store.schedules()?.now), Ok)?;
        let next = schedule::next(cron, now)?;
        let NewJob { kind, payload, .. } = self.encode(job)?;
        store.put_schedule(&Scheduled {
            name: name.to_owned(),
            cron: cron.to_owned(),
            kind: kind.into_owned(),
            payload,
            next,
            missed,
        })?;
        self.schedulers.notify(Change::Here);
        Ok(())
    }

    pub(crate) fn on_schedule(&self, call: impl Fn() + Send + Sync + 'static) -> Subscription {
        let listener = Listener::new(Duration::MAX, move |_| call());
        self.schedulers.add(listener)
    }

    fn schedule_store(&self) -> Result<&dyn ScheduleStore, QueueError> {
        let capabilities = self.capabilities();
        capabilities.require(Capability::Schedules)?;
        let refused = || capabilities.unsupported(Capability::Schedules.what());
        self.broker.schedule_store().ok_or_else(refused)
    }

    /// Returns all schedules.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn schedules(&self) -> Result<Vec<Scheduled>, QueueError> {
        Ok(self.schedule_store()?.schedules()?.all)
    }

    /// Removes a schedule. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn unschedule(&self, name: &str) -> Result<bool, QueueError> {
        self.schedule_store()?.drop_schedule(name)
    }

    // ── results ─────────────────────────────────────────────────────────────────────────────

    /// Returns the result of a job that is done and asked for its result to be [kept](crate::Draft::keep_result); `None`
    /// before it is done, and after that time.
    ///
    /// # Errors
    ///
    /// If the broker fails, or [`Decode`](QueueError::Decode) if the result is not a `T`.
    pub fn result<T: DeserializeOwned>(&self, id: JobId) -> Result<Option<T>, QueueError> {
        let Some(result) = self.get(id)?.and_then(|job| job.result) else {
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
