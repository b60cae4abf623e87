//! A running consumer, as its owner holds it: started, stopped, waited for, counted.

use super::heartbeat::Heartbeat;
use super::maintainer::Maintainer;
use super::poller::Poller;
use super::shared::Shared;
use super::stats::ConsumerStats;
use crate::broker::{Change, Listener, Subscription};
use crate::error::{QueueError, StopTimeout};
use crate::queue::Queue;
use crate::sync::{deadline_after, is_past, lock, spawn, wait_until};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Runs the jobs of one or more queues on a pool, until it is stopped or dropped. Built by [`Queue::consumer`].
///
/// Dropping a consumer stops it and waits for the jobs that run; in a task of its pool, and so in a handler, it does not
/// wait.
///
/// ```
/// use anthill::Pool;
/// use anthill_jobs::{Context, Job, JobError, Queue};
/// use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Mail { to: String }
/// # impl Job for Mail { const KIND: &'static str = "mail"; }
///
/// let (queue, pool) = (Queue::memory(), Pool::with_capacity(4));
/// let consumer = queue
///     .consumer(&pool)
///     .handle(|mail: Mail, _: &Context| -> Result<(), JobError> {
///         println!("to {}", mail.to);
///         Ok(())
///     })
///     .start()?;
///
/// queue.enqueue(Mail { to: "ada@example.org".into() })?;
/// consumer.wait_idle();
/// assert_eq!(consumer.stats().done, 1);
/// consumer.stop(Duration::from_secs(30))?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    subscriptions: Mutex<Vec<Subscription>>,
}

impl Consumer {
    /// Starts the threads of a consumer, subscribes to its queues, and looks for jobs.
    pub(super) fn start(shared: Shared, queues: &[Queue]) -> Result<Consumer, QueueError> {
        let shared = Arc::new(shared);
        let end = |shared: &Shared| {
            let mut state = shared.lock();
            state.over = true;
            state.stopping = true;
            drop(state);
            shared.stop.stop();
            shared.heartbeat.notify_all();
            shared.pollers.notify_all();
            shared.maintainer.notify_all();
        };
        let refused = |refused| {
            end(&shared);
            QueueError::Thread(refused)
        };
        let mut threads = Vec::new();
        for source in 0..shared.sources.len() {
            let heartbeat = Heartbeat::new(Arc::clone(&shared), source);
            let heartbeat = spawn("anthill-leases".to_owned(), move || heartbeat.run());
            threads.push(heartbeat.map_err(refused)?);
            if let Some(poller) = Poller::of(&shared, source) {
                let poller = spawn("anthill-polls".to_owned(), move || poller.run());
                threads.push(poller.map_err(refused)?);
            }
        }
        let maintainer = Maintainer::new(Arc::clone(&shared));
        let maintainer = spawn("anthill-jobs".to_owned(), move || maintainer.run());
        threads.push(maintainer.map_err(refused)?);
        let mut subscriptions = Vec::new();
        for queue in queues {
            let listener = Arc::downgrade(&shared);
            let listener = Listener::new(shared.options.poll, move |change| {
                if let Some(shared) = listener.upgrade() {
                    if change == Change::Elsewhere {
                        shared.notify_changed_elsewhere();
                    }
                    shared.notify_claimable();
                }
            });
            let subscription = queue.broker().subscribe(listener);
            subscriptions.push(subscription.inspect_err(|_| end(&shared))?);
            let listener = Arc::downgrade(&shared);
            subscriptions.push(queue.on_schedule(move || {
                if let Some(shared) = listener.upgrade() {
                    shared.notify_schedules_changed();
                }
            }));
        }
        shared.notify_claimable();
        Ok(Consumer {
            shared,
            threads: Mutex::new(threads),
            subscriptions: Mutex::new(subscriptions),
        })
    }

    /// Stops the consumer: claims no more, hands back the jobs that have not started, and waits for those that run, up to
    /// `timeout` (`Duration::MAX` is without limit). Sets the [stop tokens](crate::Context::stop_token) of the jobs that run.
    ///
    /// In a task of its pool, and so in a handler, it does not wait: it might wait for itself.
    ///
    /// # Errors
    ///
    /// [`StopTimeout`] if jobs still run at the end of the timeout. They go on, keep their leases, and end as they would
    /// have; another call waits for them again.
    pub fn stop(&self, timeout: Duration) -> Result<(), StopTimeout> {
        self.begin_stop();
        let wait = if self.would_wait_for_itself() {
            Duration::ZERO
        } else {
            timeout
        };
        let deadline = deadline_after(wait);
        let mut state = self.shared.lock();
        state.waiters += 1;
        while !state.over {
            if is_past(deadline) {
                state.waiters -= 1;
                let running = state.running();
                return Err(StopTimeout { running });
            }
            state = wait_until(&self.shared.waiters, state, deadline);
        }
        state.waiters -= 1;
        drop(state);
        let subscriptions = std::mem::take(&mut *lock(&self.subscriptions));
        drop(subscriptions);
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // They do not panic.
            let _ = thread.join();
        }
        Ok(())
    }

    /// Whether this thread runs a task of the pool, or is one of the consumer's own, which call a hook.
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
                .in_flight
                .values()
                .for_each(|in_flight| in_flight.signal.stop_for_good());
        }
        drop(state);
        self.shared.maintainer.notify_one();
        self.shared.stop.stop();
        self.shared.pollers.notify_all();
    }

    /// Waits until there is nothing to claim and no job in flight. Delayed jobs do not count, nor jobs that another process
    /// enqueued and this consumer has not seen yet.
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
        state.waiters += 1;
        while !(state.is_idle() || state.over) {
            state = wait_until(&self.shared.waiters, state, None);
        }
        state.waiters -= 1;
    }

    /// Returns the consumer's id: that of [`Queue::consumers`], and of [`JobInfo::consumer`](crate::JobInfo::consumer) of the jobs
    /// that it runs.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Returns what the consumer has counted so far.
    pub fn stats(&self) -> ConsumerStats {
        let state = self.shared.lock();
        ConsumerStats {
            in_hand: state.in_flight.len(),
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
