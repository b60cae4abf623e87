//! Who runs the jobs of a queue on a pool.
//!
//! ```text
//!  broker ──claim──► buffer ──► runner (a task of the pool) ──► outbox ──settle──► broker
//!   ▲  ▲                           │ handler, hooks               ▲
//!   │  └── polls, schedules: the steward (a thread of its own) ───┘
//!   └───── heartbeats: the heart (a thread of its own for each queue)
//! ```
//!
//! A job is claimed by a runner that has a worker already, so no more are claimed than the pool can start: one, or,
//! where they have been quick, as many as took two milliseconds together. What has not begun 50 ms later, since one was
//! not quick after all, is handed back for others to take. A runner ends when there is nothing to claim; the steward or whoever
//! enqueues starts the next one.

mod attempt;
mod context;
mod ends;
mod handlers;
mod heart;
mod inline;
mod report;
mod runner;
mod shared;
mod sizing;
mod sources;
mod state;
mod steward;

pub use context::Context;
pub use handlers::{Ended, FailedJob};
pub use inline::Inline;

use self::handlers::Handlers;
use self::heart::Heart;
use self::shared::Shared;
use self::sizing::Sizing;
use self::sources::{Source, Sources};
use self::steward::Steward;
use super::backoff::Backoff;
use super::error::{JobError, QueueError, StopTimeout};
use super::job::Job;
use super::queue::Queue;
use crate::sync::{deadline_after, is_past, lock, spawn, wait_until};
use anthill::PoolHandle;
use serde::Serialize;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

type OnError = Box<dyn Fn(&QueueError) + Send + Sync>;

/// What a consumer was told.
pub(super) struct Told {
    lease: Duration,
    poll: Duration,
    pause_after: Option<(u32, Duration)>,
    on_error: Option<OnError>,
    data_limit: usize,
}

/// Results and progress of more bytes are refused, unless told otherwise.
const DATA_LIMIT: usize = 1 << 20;

/// A consumer that has not [started](ConsumerBuilder::start).
#[must_use = "a consumer is started by `start`"]
pub struct ConsumerBuilder {
    /// With their weights.
    queues: Vec<(Queue, u32)>,
    pool: PoolHandle,
    handlers: Handlers,
    workers: Option<RangeInclusive<usize>>,
    patience: Duration,
    calm: Duration,
    told: Told,
}

impl ConsumerBuilder {
    pub(super) fn new(queue: Queue, pool: &PoolHandle) -> ConsumerBuilder {
        ConsumerBuilder {
            queues: vec![(queue, 1)],
            pool: pool.clone(),
            handlers: Handlers::default(),
            workers: None,
            patience: Duration::from_millis(100),
            calm: Duration::from_secs(2),
            told: Told {
                lease: Duration::from_secs(30),
                poll: Duration::from_millis(200),
                pause_after: None,
                on_error: None,
                data_limit: DATA_LIMIT,
            },
        }
    }

    /// Handles the jobs of a kind. The handler may capture what it needs; it is called by several workers at once.
    /// What it returns is the job's result, if somebody asked for that to be
    /// [kept](super::Draft::keep_result). An error, or a panic, is an attempt that failed; data that cannot be read
    /// as `J` makes the job a dead letter.
    ///
    /// Jobs of a kind that has no handler, or of a [version](Job::VERSION) after `J`'s, are not claimed: they wait for a
    /// consumer that knows them.
    ///
    /// # Panics
    ///
    /// If the kind has a handler already.
    pub fn handle<J, R>(
        mut self,
        handler: impl Fn(J, &Context) -> Result<R, JobError> + Send + Sync + 'static,
    ) -> ConsumerBuilder
    where
        J: Job,
        R: Serialize,
    {
        self.handlers.add(handler);
        self
    }

    /// Handles the jobs of a kind with a state that is made once for each worker, such as a connection: `make` is called
    /// when a job begins and no state is unused, so as often as jobs of the kind run at once; the state is kept for the
    /// jobs that come after it. One that a panic went through is dropped. An error of `make` is an attempt that failed.
    ///
    /// ```
    /// # use anthill::Pool;
    /// # use anthill_jobs::{Context, Job, JobError, Queue};
    /// # use std::collections::HashMap;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Visit { page: String }
    /// # impl Job for Visit { const KIND: &'static str = "visit"; }
    /// # let (queue, pool) = (Queue::memory(), Pool::with_capacity(2));
    /// let consumer = queue
    ///     .consumer(&pool)
    ///     .handle_with(
    ///         || Ok(HashMap::new()), // or a connection
    ///         |visit: Visit, seen: &mut HashMap<String, u32>, _: &Context| -> Result<u32, JobError> {
    ///             let times = seen.entry(visit.page).or_default();
    ///             *times += 1;
    ///             Ok(*times)
    ///         },
    ///     )
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the kind has a handler already.
    pub fn handle_with<J, S, R>(
        mut self,
        make: impl Fn() -> Result<S, JobError> + Send + Sync + 'static,
        handler: impl Fn(J, &mut S, &Context) -> Result<R, JobError> + Send + Sync + 'static,
    ) -> ConsumerBuilder
    where
        J: Job,
        S: Send + 'static,
        R: Serialize,
    {
        self.handlers.add_with(make, handler);
        self
    }

    /// Handles jobs of a kind together, up to `most` of those that are ready. The handler says how each ended, in
    /// their order; one answer too few or too many, and all have failed.
    ///
    /// # Panics
    ///
    /// If the kind has a handler already.
    pub fn handle_batch<J: Job>(
        mut self,
        most: usize,
        handler: impl Fn(Vec<J>, &[Context]) -> Vec<Result<(), JobError>> + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        self.handlers.add_all(most, handler);
        self
    }

    /// Called when a job failed and will not be tried again; not for one that dies because its lease ended with its
    /// consumer. If it returns `Ok` it took care of the job, which is done then;
    /// else the job becomes a dead letter.
    pub fn fallback(
        mut self,
        handler: impl Fn(&FailedJob<'_>) -> Result<(), JobError> + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        self.handlers.fallback = Some(Box::new(handler));
        self
    }

    /// Claims from another queue as well, with the same handlers and workers. Each time the consumer looks for jobs it asks
    /// the queues in an order that is left to chance: one of weight 6 is the first six times as often as one of weight 1,
    /// and no queue starves. One that has nothing, is paused, or whose broker fails, leaves the workers to the others.
    ///
    /// ```
    /// # use anthill::Pool;
    /// # use anthill_jobs::{Context, Job, JobError, Queue};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Mail;
    /// # impl Job for Mail { const KIND: &'static str = "mail"; }
    /// # let (urgent, newsletters, pool) = (Queue::memory(), Queue::memory(), Pool::with_capacity(2));
    /// let consumer = urgent
    ///     .consumer(&pool)
    ///     .weight(6)
    ///     .also(&newsletters, 1)
    ///     .handle(|_: Mail, _: &Context| -> Result<(), JobError> { Ok(()) })
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn also(mut self, queue: &Queue, weight: u32) -> ConsumerBuilder {
        self.queues.push((queue.clone(), weight));
        self
    }

    /// The weight of the queue whose consumer this is, where there are [others](ConsumerBuilder::also); 1 unless told,
    /// which is the least.
    pub fn weight(mut self, weight: u32) -> ConsumerBuilder {
        self.queues[0].1 = weight;
        self
    }

    /// How long a job that failed waits.
    pub fn backoff(mut self, backoff: Backoff) -> ConsumerBuilder {
        self.handlers.backoff = backoff;
        self
    }

    /// How long those of a kind wait.
    ///
    /// # Panics
    ///
    /// If the kind has no handler yet.
    pub fn backoff_of<J: Job>(mut self, backoff: Backoff) -> ConsumerBuilder {
        self.handlers.kind_of::<J>().backoff = Some(backoff);
        self
    }

    /// Gives a job of that kind up when it has run for so long: its [stop token](Context::stop_token) says so, and
    /// once its lease is over another consumer may claim it. Without a limit it is kept for as long as it runs.
    ///
    /// A job with a unique key, or with a key that is bounded, is told to stop and kept: as long as its handler runs
    /// nobody runs beside it. A handler that does not heed its token keeps its worker, too; how many there are is
    /// [`ConsumerStats::overdue`].
    ///
    /// # Panics
    ///
    /// If the kind has no handler yet.
    pub fn run_time_of<J: Job>(mut self, most: Duration) -> ConsumerBuilder {
        self.handlers.kind_of::<J>().run_time = Some(most);
        self
    }

    /// How many jobs run at once: at least and at most so many (one is the least), as the load demands; from one to what
    /// the capacity of the pool is at the start unless told. More of them than there are workers wait for those, and
    /// claim nothing meanwhile.
    pub fn workers(mut self, workers: RangeInclusive<usize>) -> ConsumerBuilder {
        self.workers = Some(workers);
        self
    }

    /// More jobs run at once when one had to wait for longer than `patience`, fewer when for `calm` there was
    /// nothing to do for one more; a tenth of a second and two seconds unless told.
    pub fn sizing(mut self, patience: Duration, calm: Duration) -> ConsumerBuilder {
        self.patience = patience;
        self.calm = calm;
        self
    }

    /// How long a claimed job is this consumer's without a sign of life: 30 seconds unless told. It gives one
    /// three times as often. A job whose consumer dies runs again so much later.
    pub fn lease(mut self, lease: Duration) -> ConsumerBuilder {
        self.told.lease = lease.max(Duration::from_millis(1));
        self
    }

    /// How often to look whether other processes enqueued something, where the broker is shared by several: each
    /// 200 milliseconds unless told. What this process enqueues is heard of at once.
    pub fn poll(mut self, period: Duration) -> ConsumerBuilder {
        self.told.poll = period.max(Duration::from_millis(1));
        self
    }

    /// After so many failed attempts in a row nothing is claimed for a while.
    pub fn pause_after(mut self, errors: u32, pause: Duration) -> ConsumerBuilder {
        self.told.pause_after = Some((errors.max(1), pause));
        self
    }

    /// Called before each attempt, by its worker; a panic in it fails the attempt.
    pub fn before(mut self, hook: impl Fn(&Context) + Send + Sync + 'static) -> ConsumerBuilder {
        self.handlers.before.push(Box::new(hook));
        self
    }

    /// Called after each attempt, before the broker knows of its end.
    pub fn after(
        mut self,
        hook: impl Fn(&Context, &Ended) + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        self.handlers.after.push(Box::new(hook));
        self
    }

    /// How many bytes a result that is kept, or a progress, may have as JSON: a mebibyte unless told. A job whose result
    /// is larger is dead, with the reason. (An error is cut after 16 KiB.)
    pub fn data_limit(mut self, bytes: usize) -> ConsumerBuilder {
        self.told.data_limit = bytes;
        self
    }

    /// Called when the broker failed. The consumer tries again, later and later, up to each five seconds. Without it a
    /// failure is told through the `log` crate, or on standard error where no logger is set up.
    pub fn on_error(
        mut self,
        hook: impl Fn(&QueueError) + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        self.told.on_error = Some(Box::new(hook));
        self
    }

    /// Starts to claim and run jobs, until [`Consumer::stop`].
    ///
    /// # Errors
    ///
    /// If the system refuses the consumer its thread.
    pub fn start(self) -> Result<Consumer, QueueError> {
        let sources = Sources::new(self.sources());
        let workers = self.workers.unwrap_or(1..=self.pool.capacity().max(1));
        let sizing = Sizing::new(&workers, self.patience, self.calm);
        let shared = Shared::new(sources, self.handlers, self.told, &self.pool, sizing);
        let shared = Arc::new(shared);
        let refused = |refused| {
            shared.lock().over = true;
            shared.heart.notify_all();
            QueueError::Thread(refused)
        };
        let mut threads = Vec::new();
        for source in 0..shared.sources.len() {
            let heart = Heart::new(Arc::clone(&shared), source);
            let heart = spawn("anthill-leases".to_owned(), move || heart.run());
            threads.push(heart.map_err(refused)?);
        }
        let steward = Steward::new(Arc::clone(&shared));
        let steward = spawn("anthill-jobs".to_owned(), move || steward.run());
        threads.push(steward.map_err(refused)?);
        for (queue, _) in &self.queues {
            let listener = Arc::downgrade(&shared);
            queue.broker().subscribe(Box::new(move || {
                let Some(shared) = listener.upgrade() else {
                    return false;
                };
                shared.look();
                true
            }));
            let listener = Arc::downgrade(&shared);
            queue.on_schedule(move || {
                let shared = listener.upgrade();
                shared.map(|shared| shared.look_at_schedules()).is_some()
            });
        }
        shared.look();
        Ok(Consumer {
            shared,
            threads: Mutex::new(threads),
        })
    }

    /// Runs the jobs on the thread that asks for it, for tests.
    pub fn inline(self) -> Inline {
        let sources = self.sources();
        Inline::new(sources, self.handlers, self.told)
    }

    fn sources(&self) -> Vec<Source> {
        let source = |(queue, weight): &(Queue, u32)| Source {
            broker: Arc::clone(queue.broker()),
            weight: *weight,
        };
        self.queues.iter().map(source).collect()
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

/// What a consumer has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Jobs it claimed.
    pub claimed: u64,
    /// Jobs it did: their handlers, or fallbacks, returned `Ok`.
    pub done: u64,
    /// Attempts that failed and are repeated.
    pub retried: u64,
    /// Jobs that will not be tried again; also those whose handlers returned `Ok`, with a result that was refused.
    pub died: u64,
    /// Jobs that it handed back, unstarted or because their handlers said so.
    pub released: u64,
    /// Jobs that ran for longer than they may.
    pub overran: u64,
    /// Those of them that still run: each keeps a worker.
    pub overdue: usize,
    /// Jobs that were another consumer's by the time they ended here.
    pub lost: u64,
    /// Times it paused after errors in a row.
    pub pauses: u64,
    /// Whether it does so now.
    pub is_paused: bool,
    /// Jobs in its hands now.
    pub in_hand: usize,
    /// How many jobs it would run at once now.
    pub wanted: usize,
}

/// Runs the jobs of a queue on a pool, until it is stopped or dropped.
///
/// Dropping it stops it, and waits for what runs; but in a task of its pool, and so in a handler, it does not wait.
pub struct Consumer {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Consumer {
    /// Claims no more, hands back what has not started, and waits for what runs, for `timeout` at most
    /// (`Duration::MAX` is for ever). The [stop tokens](Context::stop_token) of what runs tell to hurry.
    ///
    /// In a task of its pool, and so in a handler, it does not wait: it might wait for itself.
    ///
    /// # Errors
    ///
    /// If something still runs when the time is up: it goes on, keeps its lease, and ends as it would have. To stop
    /// again waits for it again.
    pub fn stop(&self, timeout: Duration) -> Result<(), StopTimeout> {
        self.begin_stop();
        let patience = if self.would_wait_for_itself() {
            Duration::ZERO
        } else {
            timeout
        };
        let deadline = deadline_after(patience);
        let mut state = self.shared.lock();
        state.waiting += 1;
        while !state.over {
            if is_past(deadline) {
                state.waiting -= 1;
                let running = state.running();
                return Err(StopTimeout { running });
            }
            state = wait_until(&self.shared.waiters, state, deadline);
        }
        state.waiting -= 1;
        drop(state);
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // They do not panic.
            let _ = thread.join();
        }
        Ok(())
    }

    /// This is a task of its pool, or a hook that its own threads call.
    fn would_wait_for_itself(&self) -> bool {
        let this = std::thread::current().id();
        let is_own = (lock(&self.threads).iter()).any(|thread| thread.thread().id() == this);
        is_own || self.shared.is_inside()
    }

    fn begin_stop(&self) {
        let mut state = self.shared.lock();
        if !state.stopping {
            state.stopping = true;
            state
                .hands
                .values()
                .for_each(|hand| hand.signal.stop_for_good());
        }
        drop(state);
        self.shared.steward.notify_one();
    }

    /// Waits until there is nothing to claim and nothing in hand. What is delayed does not count, nor what another
    /// process enqueued and this one did not yet hear of.
    ///
    /// # Panics
    ///
    /// In a task of its pool, and so in a handler, where it would wait for itself.
    #[track_caller]
    pub fn wait_idle(&self) {
        assert!(
            !self.would_wait_for_itself(),
            "wait_idle was called in a task of the consumer's pool: it would wait for itself"
        );
        let mut state = self.shared.lock();
        state.waiting += 1;
        while !(state.is_idle() || state.over) {
            state = wait_until(&self.shared.waiters, state, None);
        }
        state.waiting -= 1;
    }

    /// Counts.
    pub fn stats(&self) -> ConsumerStats {
        let state = self.shared.lock();
        ConsumerStats {
            in_hand: state.hands.len(),
            overdue: state.overdue(),
            is_paused: state.paused_until.is_some() && !is_past(state.paused_until),
            wanted: state.sizing.wanted(),
            ..state.stats
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.stop(Duration::MAX);
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
