//! The options of a consumer before it starts: handlers, queues, workers, leases, hooks.

use super::context::Context;
use super::handle::Consumer;
use super::handlers::{Ended, FailedJob, Handlers};
use super::inline::Inline;
use super::options::Options;
use super::shared::Shared;
use super::sizing::Sizing;
use super::sources::{Source, Sources};
use crate::backoff::Backoff;
use crate::error::{JobError, QueueError};
use crate::job::Job;
use crate::queue::Queue;
use anthill::PoolHandle;
use serde::Serialize;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

impl Queue {
    /// Configures a consumer, which runs the jobs of this queue on the workers of a pool.
    pub fn consumer(&self, pool: &PoolHandle) -> ConsumerBuilder {
        ConsumerBuilder {
            queues: vec![(self.clone(), 1)],
            pool: pool.clone(),
            handlers: Handlers::default(),
            workers: None,
            grow_after: Duration::from_millis(100),
            shrink_after: Duration::from_secs(2),
            options: Options::default(),
        }
    }
}

/// Configures a consumer, which begins to work by [`start`](ConsumerBuilder::start). Made by [`Queue::consumer`].
#[must_use = "a consumer is started by `start`"]
pub struct ConsumerBuilder {
    /// With their weights.
    queues: Vec<(Queue, u32)>,
    pool: PoolHandle,
    handlers: Handlers,
    workers: Option<RangeInclusive<usize>>,
    grow_after: Duration,
    shrink_after: Duration,
    options: Options,
}

impl ConsumerBuilder {
    /// Adds the handler for a kind of jobs. The handler may capture what it needs; several workers call it at once.
    ///
    /// What it returns is the job's result, which is stored if the job asked for it to be
    /// [kept](crate::Draft::keep_result). An error, or a panic, is a failed attempt. Data that cannot be read as `J`
    /// makes the job a dead letter.
    ///
    /// Jobs of a kind without a handler, or of a newer [version](Job::VERSION) than `J`'s, are not claimed: they wait for
    /// a consumer that knows them.
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

    /// Adds the handler for a kind of jobs, with a state that each worker has to itself, such as a connection.
    ///
    /// `make` is called when a job begins and no state is unused, so as often as jobs of the kind run at once; the state
    /// is reused for later jobs. A state that a panic went through is dropped. An error of `make` is a failed attempt.
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

    /// Adds the handler for a kind of jobs, which takes up to `limit` ready jobs at once. It returns one result for each
    /// job, in their order; with a different number of results all of them have failed.
    ///
    /// ```
    /// # use anthill::Pool;
    /// # use anthill_jobs::{Context, Job, JobError, Queue};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Event { name: String }
    /// # impl Job for Event { const KIND: &'static str = "event"; }
    /// # let (queue, pool) = (Queue::memory(), Pool::with_capacity(2));
    /// let consumer = queue
    ///     .consumer(&pool)
    ///     .handle_batch(100, |events: Vec<Event>, _: &[Context]| -> Vec<Result<(), JobError>> {
    ///         // One insert for all of them.
    ///         events.iter().map(|_| Ok(())).collect()
    ///     })
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the kind has a handler already.
    pub fn handle_batch<J: Job>(
        mut self,
        limit: usize,
        handler: impl Fn(Vec<J>, &[Context]) -> Vec<Result<(), JobError>> + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        self.handlers.add_all(limit, handler);
        self
    }

    /// Sets the fallback handler, which is called when a job failed and will not be tried again. If it returns `Ok` the
    /// job is done; otherwise it becomes a dead letter.
    ///
    /// It is not called for a job that dies because its lease ended with its consumer.
    pub fn fallback(
        mut self,
        handler: impl Fn(&FailedJob<'_>) -> Result<(), JobError> + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        self.handlers.fallback = Some(Box::new(handler));
        self
    }

    /// Claims from another queue as well, with the same handlers and workers.
    ///
    /// For each claim the consumer asks the queues in a random order by weight: a queue of weight 6 comes first six times
    /// as often as one of weight 1, and no queue starves. A queue that has nothing, is paused, or whose broker fails
    /// leaves the workers to the others.
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

    /// Sets the weight of the queue that this consumer was made from, beside [others](ConsumerBuilder::also). The default
    /// and the minimum is 1.
    pub fn weight(mut self, weight: u32) -> ConsumerBuilder {
        self.queues[0].1 = weight;
        self
    }

    /// Sets how long a failed job waits before it is tried again. The default is [`Backoff::default`].
    pub fn backoff(mut self, backoff: Backoff) -> ConsumerBuilder {
        self.handlers.backoff = backoff;
        self
    }

    /// Sets how long a failed job of one kind waits before it is tried again.
    ///
    /// # Panics
    ///
    /// If the kind has no handler yet.
    pub fn backoff_of<J: Job>(mut self, backoff: Backoff) -> ConsumerBuilder {
        self.handlers.kind_of::<J>().backoff = Some(backoff);
        self
    }

    /// Sets the longest run time of a kind. A job over it is given up: its [stop token](Context::stop_token) is set, and
    /// when its lease is over another consumer may claim it. Without a limit the lease is extended for as long as the
    /// job runs.
    ///
    /// A job with a unique key, or with a key that has a limit, is told to stop and keeps its lease, so that nothing runs
    /// beside it. A handler that ignores its stop token keeps its thread, and another worker stands in for it, within
    /// [`replace_overdue`](ConsumerBuilder::replace_overdue); [`ConsumerStats::overdue`] counts those.
    ///
    /// # Panics
    ///
    /// If the kind has no handler yet.
    ///
    /// [`ConsumerStats::overdue`]: crate::ConsumerStats::overdue
    pub fn run_time_of<J: Job>(mut self, limit: Duration) -> ConsumerBuilder {
        self.handlers.kind_of::<J>().run_time = Some(limit);
        self
    }

    /// Sets how many jobs run at once: between these two numbers (at least 1), following the load. The default is from one
    /// to the capacity of the pool at the start. If that is more than the pool has workers, the surplus waits for a worker,
    /// and claims nothing meanwhile.
    pub fn workers(mut self, workers: RangeInclusive<usize>) -> ConsumerBuilder {
        self.workers = Some(workers);
        self
    }

    /// Sets how the number of jobs at once follows the load: it grows when a job had to wait for longer than `grow_after`,
    /// and shrinks when there was no work for one more for `shrink_after`. The defaults are 100 milliseconds and two
    /// seconds.
    pub fn sizing(mut self, grow_after: Duration, shrink_after: Duration) -> ConsumerBuilder {
        self.grow_after = grow_after;
        self.shrink_after = shrink_after;
        self
    }

    /// Sets how long a claimed job stays leased to this consumer without a heartbeat; 30 seconds by default. The consumer
    /// sends three heartbeats in that time. A job whose consumer dies runs again after it.
    pub fn lease(mut self, lease: Duration) -> ConsumerBuilder {
        self.options.lease = lease.max(Duration::from_millis(1));
        self
    }

    /// Sets how often the consumer looks for what other processes enqueued, where the broker is shared and neither a server nor
    /// the system tells of it; every 200 milliseconds by default. It is notified at once of what this process enqueues.
    pub fn poll(mut self, period: Duration) -> ConsumerBuilder {
        self.options.poll = period.max(Duration::from_millis(1));
        self
    }

    /// Sets how many workers may be replaced at once whose jobs are over their [run time](ConsumerBuilder::run_time_of);
    /// 16 by default, 0 for none. Such a worker lends its place in the pool ([`anthill::lendable`]), and one more job runs
    /// beside its own, as long as the pool [may lend](anthill::Builder::max_lent). When its job ends it waits until one of
    /// the others has ended. [`ConsumerStats::replaced`](crate::ConsumerStats::replaced) counts these.
    pub fn replace_overdue(mut self, most: usize) -> ConsumerBuilder {
        self.options.replaced = most;
        self
    }

    /// Claims nothing for `pause` after so many failed attempts in a row. There is no such pause by default.
    pub fn pause_after(mut self, errors: u32, pause: Duration) -> ConsumerBuilder {
        self.options.pause_after = Some((errors.max(1), pause));
        self
    }

    /// Adds a hook that the worker calls before each attempt. A panic in it fails the attempt.
    pub fn before(mut self, hook: impl Fn(&Context) + Send + Sync + 'static) -> ConsumerBuilder {
        self.handlers.before.push(Box::new(hook));
        self
    }

    /// Adds a hook that the worker calls after each attempt, before the broker knows how it ended.
    pub fn after(
        mut self,
        hook: impl Fn(&Context, &Ended) + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        self.handlers.after.push(Box::new(hook));
        self
    }

    /// Sets the largest result that is kept, and the largest progress, in bytes of JSON; a mebibyte by default. A job
    /// with a larger result becomes a dead letter, with the reason. (An error is cut after 16 KiB.)
    pub fn data_limit(mut self, bytes: usize) -> ConsumerBuilder {
        self.options.data_limit = bytes;
        self
    }

    /// Sets the hook that is called when the broker failed. The consumer tries again with a growing pause, up to five
    /// seconds. Without a hook a failure is reported through the `log` crate, or on standard error if no logger is set.
    pub fn on_error(
        mut self,
        hook: impl Fn(&QueueError) + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        self.options.on_error = Some(Box::new(hook));
        self
    }

    /// Starts to claim and run jobs, until [`Consumer::stop`].
    ///
    /// # Errors
    ///
    /// [`QueueError::Thread`] if the system refuses the consumer a thread, [`QueueError::Unsupported`] if a broker has no leases of
    /// that length, or if a broker refuses the subscription.
    pub fn start(self) -> Result<Consumer, QueueError> {
        for (queue, _) in &self.queues {
            let capabilities = queue.capabilities();
            let longest = capabilities.maxima.lease;
            if self.options.lease > longest {
                return Err(capabilities.unsupported(format!("a lease of more than {longest:?}")));
            }
        }
        let sources = Sources::new(self.sources());
        let workers = self.workers.unwrap_or(1..=self.pool.capacity().max(1));
        let sizing = Sizing::new(&workers, self.grow_after, self.shrink_after);
        let shared = Shared::new(sources, self.handlers, self.options, &self.pool, sizing);
        let queues = self.queues.into_iter().map(|(queue, _)| queue);
        Consumer::start(shared, &queues.collect::<Vec<Queue>>())
    }

    /// Returns a runner for tests, which runs the jobs on the calling thread.
    pub fn inline(self) -> Inline {
        let sources = self.sources();
        Inline::new(sources, self.handlers, self.options)
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
