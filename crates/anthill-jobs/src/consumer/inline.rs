//! A consumer for tests, which runs jobs on the calling thread.

use super::attempt;
use super::context::{Context, Signal};
use super::handlers::Handlers;
use super::options::Options;
use super::sources::Source;
use crate::broker::{Broker, Change, ClaimRequest, Listener, Subscription};
use crate::error::QueueError;
use crate::sync::lock;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// Runs jobs on the calling thread, in order and one by one, with the handlers, backoffs and hooks of a consumer. With a
/// [manual clock](crate::Clock::manual) a test is deterministic. Made by
/// [`ConsumerBuilder::inline`](crate::ConsumerBuilder::inline).
///
/// ```
/// use anthill::Pool;
/// use anthill_jobs::{Clock, Context, Job, JobError, MemoryBroker, Queue};
/// use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Remind;
/// # impl Job for Remind { const KIND: &'static str = "remind"; }
///
/// let clock = Clock::manual();
/// let queue = Queue::of(MemoryBroker::new(clock.clone()));
/// let jobs = queue
///     .consumer(&Pool::with_capacity(1))
///     .handle(|_: Remind, _: &Context| -> Result<(), JobError> { Ok(()) })
///     .inline();
///
/// queue.job(Remind).delay(Duration::from_secs(3600)).enqueue()?;
/// assert_eq!(jobs.run_due()?, 0);
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(jobs.run_due()?, 1);
///
/// jobs.at_once(); // from now on an enqueue returns when the job has run
/// queue.enqueue(Remind)?;
/// assert_eq!(queue.stats()?.done, 2);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Inline(Arc<Run>);

struct Run {
    sources: Vec<Source>,
    handlers: Handlers,
    options: Options,
    /// How many calls there were since the running thread began: it also runs what was enqueued meanwhile.
    asked: AtomicUsize,
    subscriptions: Mutex<Vec<Subscription>>,
}

impl Inline {
    pub(super) fn new(sources: Vec<Source>, handlers: Handlers, options: Options) -> Inline {
        Inline(Arc::new(Run {
            sources,
            handlers,
            options,
            asked: AtomicUsize::new(0),
            subscriptions: Mutex::default(),
        }))
    }

    /// Runs all jobs that are ready or due, and those that they enqueue. Returns the number of attempts.
    ///
    /// # Errors
    ///
    /// If the broker fails.
    pub fn run_due(&self) -> Result<usize, QueueError> {
        self.0.run_due()
    }

    /// From now on, until this is dropped, each job runs on the thread that enqueues or retries it, before that call
    /// returns. One thread runs jobs at a time, and also runs those that others enqueue meanwhile. A job that a job
    /// enqueues runs after it.
    pub fn at_once(&self) {
        for source in &self.0.sources {
            let run: Weak<Run> = Arc::downgrade(&self.0);
            let listener = Listener::new(Duration::MAX, move |change| {
                if let Some(run) = run.upgrade().filter(|_| change == Change::Here) {
                    // If the broker failed, the next enqueue fails, too.
                    let _ = run.run_due();
                }
            });
            // A broker that cannot tell has failed, and so does the next enqueue.
            let subscription = source.broker.subscribe(listener);
            lock(&self.0.subscriptions).extend(subscription);
        }
    }
}

impl Run {
    fn run_due(&self) -> Result<usize, QueueError> {
        let mut asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        if asked > 1 {
            return Ok(0);
        }
        let mut guard = RunGuard {
            asked: &self.asked,
            is_reset: false,
        };
        let mut attempts = 0;
        loop {
            attempts += self.run_all()?;
            // Calls since then rely on this thread.
            match self
                .asked
                .compare_exchange(asked, 0, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => {
                    guard.is_reset = true;
                    return Ok(attempts);
                }
                Err(more) => asked = more,
            }
        }
    }

    fn run_all(&self) -> Result<usize, QueueError> {
        let mut attempts = 0;
        loop {
            let before = attempts;
            for source in &self.sources {
                attempts += self.run_one(&source.broker)?;
            }
            if attempts == before {
                return Ok(attempts);
            }
        }
    }

    fn run_one(&self, broker: &Arc<dyn Broker>) -> Result<usize, QueueError> {
        let request = ClaimRequest::new(1, self.options.lease);
        let request = request.of_kinds(self.handlers.stored_kinds());
        let claims = broker.claim(&request)?;
        let limit = self.options.data_limit;
        let contexts = claims.jobs.iter().map(|claimed| {
            let broker = Arc::clone(broker);
            let signal = Signal::new(&claimed.lease);
            (self.handlers).context(broker, limit, claimed, signal)
        });
        let contexts: Vec<Context> = contexts.collect();
        let (ends, _) = attempt::run(
            &self.handlers,
            &claims.jobs,
            &contexts,
            Instant::now(),
            || {},
        );
        let leases = claims.jobs.iter().map(|claimed| claimed.lease.clone());
        let ends: Vec<_> = leases.zip(ends).collect();
        broker.settle(&ends)?;
        Ok(ends.len())
    }
}

/// Resets the count of calls if a run fails or panics.
struct RunGuard<'a> {
    asked: &'a AtomicUsize,
    is_reset: bool,
}

impl Drop for RunGuard<'_> {
    fn drop(&mut self) {
        if !self.is_reset {
            self.asked.store(0, Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inline").finish_non_exhaustive()
    }
}
