//! Capacity, pause, release and reboot: what the lifecycle lock guards.

use crate::engine::core::{Core, Lifecycle};
use crate::engine::local::WorkerShared;
use crate::engine::queue::insist;
use crate::engine::submit::Target;
use crate::engine::task::Task;
use crate::engine::{current, spin};
use crate::error::ReleaseTimeout;
use crate::stop::{SignalledPool, Stop, StopToken};
use crate::sync::{Arc, Instant, MutexGuard, Ordering, lock, order_seqcst};

impl Core {
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::SeqCst)
    }

    pub(crate) fn tune(self: &Arc<Self>, capacity: usize) -> usize {
        if self.is_foreign() {
            return self.capacity.swap(capacity, Ordering::SeqCst);
        }
        let mut lifecycle = lock(&self.lifecycle);
        let old = self.capacity.swap(capacity, Ordering::SeqCst);
        if capacity > 0 {
            lifecycle.resume = capacity;
        }
        self.apply_capacity(&lifecycle);
        drop(lifecycle);
        self.shares.retune();
        old
    }

    fn apply_capacity(self: &Arc<Self>, lifecycle: &Lifecycle) {
        // A closed pool is not paused: its tasks are to end.
        let capacity = match self.capacity() {
            0 if lifecycle.closed => lifecycle.resume,
            capacity => capacity,
        };
        self.threads.set_capacity(capacity);
        self.admission.set_limit(self.config.limit(capacity));
        self.threads.retire_idle(|| self.outlook());
        self.resume(lifecycle);
    }

    /// Brings the workers to what the capacity, the places and the line ask for.
    fn resume(self: &Arc<Self>, lifecycle: &Lifecycle) {
        let places = self.admission.places();
        let wanted = places.held() > 0 || places.has_line();
        let ensured = if wanted { self.ensure_worker() } else { Ok(()) };
        let filled = if lifecycle.closed {
            Ok(())
        } else {
            self.threads.fill(self)
        };
        self.serve();
        self.wake_more_now();
        if ensured.and(filled).is_err() {
            // Whoever waits tries again.
            self.admission.nudge();
            self.threads.nudge();
            self.send_rescuer();
        }
    }

    /// Closes the pool; with `discard` also to the tasks, whose backlog is dropped: how many.
    pub(crate) fn close(self: &Arc<Self>, discard: bool) -> usize {
        if self.is_foreign() {
            self.admission.close_foreign();
            return 0;
        }
        let of_shares = self.shares.close(discard);
        let lifecycle = lock(&self.lifecycle);
        let of_pool = self.close_with(lifecycle, discard);
        // An opening may have come between; and a pause was lifted.
        self.shares.follow();
        of_shares + of_pool
    }

    /// Nobody owns the pool any more: closes it for good.
    pub(crate) fn abandon(self: &Arc<Self>) {
        if self.is_foreign() {
            return self.admission.close_foreign();
        }
        self.shares.close(false);
        let mut lifecycle = lock(&self.lifecycle);
        lifecycle.abandoned = true;
        self.close_with(lifecycle, false);
        self.shares.follow();
    }

    fn close_with(
        self: &Arc<Self>,
        mut lifecycle: MutexGuard<'_, Lifecycle>,
        discard: bool,
    ) -> usize {
        lifecycle.closed = true;
        self.threads.close(false);
        let left = self.admission.close(discard);
        if self.capacity() == 0 {
            self.capacity.store(lifecycle.resume, Ordering::SeqCst);
        }
        // A local queue's own tasks hold no place: the pool is not at rest before they are dropped.
        self.admission.hold();
        let mut backlog = Vec::new();
        if discard {
            self.threads.close(true);
            order_seqcst();
            // L6
            spin::until_step(|| {
                let reaching = |worker: &WorkerShared| worker.reaching.load(Ordering::SeqCst);
                !self.queue.any(reaching)
            });
            backlog = self.take_backlog();
        }
        // Only now: a task that ends on it frees its worker, which must find nothing to run.
        self.stop_signal().stop();
        self.apply_capacity(&lifecycle);
        drop(lifecycle);
        self.after(left);
        let discarded = backlog.len();
        for (task, places) in backlog {
            self.discard(task, ());
            if places > 0 {
                self.leave(places);
            }
        }
        self.after(self.admission.unhold());
        discarded
    }

    /// L6: drops what showed up after the backlog was taken, with so many places each.
    pub(crate) fn discard_late(self: &Arc<Self>, take: impl Fn() -> Option<Task>, places: u64) {
        loop {
            let task = {
                let _reins = lock(&self.lifecycle);
                // A pool opened again keeps its tasks.
                self.threads.counts().is_discarding().then(&take).flatten()
            };
            let Some(mut task) = task else {
                return;
            };
            if !task.claim() {
                continue;
            }
            self.discard(task, ());
            if places > 0 {
                self.leave(places);
            }
        }
    }

    /// Takes all tasks that no worker has taken, each with how many places it holds; under the
    /// lifecycle lock, so that none of a pool opened again is among them.
    fn take_backlog(&self) -> Vec<(Task, u64)> {
        // The way that tasks go, so that none is missed.
        let mut backlog = Vec::new();
        let in_line = self.admission.take_accepted();
        backlog.extend(in_line.into_iter().map(|(task, ())| (task, 0)));
        backlog.extend(std::iter::from_fn(|| self.queue.take()).map(|task| (task, 1)));
        self.queue.visit(None, |_, stealers| -> Option<()> {
            let batched = std::iter::from_fn(|| insist(|| stealers.batch.steal()));
            backlog.extend(batched.map(|accepted| (accepted.task, 1)));
            let own = std::iter::from_fn(|| insist(|| stealers.own.steal()));
            backlog.extend(own.map(|task| (task, 0)));
            None
        });
        backlog.retain_mut(|(task, _)| task.claim());
        backlog
    }

    pub(crate) fn stop_token(self: &Arc<Self>) -> StopToken {
        let pool = Arc::downgrade(self);
        StopToken::of_pool(self.stop_signal(), pool)
    }

    fn stop_signal(&self) -> Arc<Stop> {
        if self.is_foreign() {
            return Stop::new();
        }
        Arc::clone(&lock(&self.stop))
    }

    /// Closes the pool and joins its threads, until the deadline passes or `interrupt` is stopped.
    pub(crate) fn end(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        interrupt: Option<&StopToken>,
    ) -> Result<(), ReleaseTimeout> {
        self.close(false);
        if self.is_foreign() {
            // No thread of it is in this process.
            return Ok(());
        }
        // What a share accepted may not have come to the pool yet (its N4). Those that come later are closed.
        let shares = self.shares.all();
        let at_rest =
            || self.admission.places().at_rest() && shares.iter().all(|share| share.is_at_rest());
        let gives_up = || interrupt.is_some_and(StopToken::is_stopped);
        let _entered = interrupt.map(|stop| stop.signal().interrupts(Arc::clone(self) as _));
        let ended = !current::is_inside(self)
            && (self.threads).join(deadline, at_rest, gives_up, || self.rescue());
        if ended {
            return Ok(());
        }
        let stats = self.stats();
        Err(ReleaseTimeout {
            running: stats.running,
            queued: stats.queued,
            workers: self.workers(),
            leaving: stats.leaving,
        })
    }

    pub(crate) fn reopen(self: &Arc<Self>) {
        if self.is_foreign() {
            return;
        }
        let mut lifecycle = lock(&self.lifecycle);
        if !lifecycle.closed || lifecycle.abandoned {
            return;
        }
        lifecycle.closed = false;
        *lock(&self.stop) = Stop::new();
        self.threads.reopen();
        self.admission.reopen();
        self.apply_capacity(&lifecycle);
        drop(lifecycle);
        self.shares.follow();
    }

    pub(crate) fn wait_idle(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if self.is_foreign() {
            return true;
        }
        let rested = (self.admission).wait_for_rest(deadline, || self.rescue());
        // A worker that reached for a task which another one had already is about to lower its
        // flag (L1): the gauges are at rest, too, when this returns.
        if rested {
            spin::until_step(|| !self.admission.places().at_rest() || self.running() == 0);
        }
        rested
    }
}

impl SignalledPool for Core {
    fn nudge(&self) {
        self.threads.nudge();
    }

    fn is_foreign(&self) -> bool {
        Core::is_foreign(self)
    }
}
