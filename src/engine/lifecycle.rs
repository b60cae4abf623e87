//! Capacity, pause, release and reboot: all that changes under the lifecycle lock.

use crate::engine::core::{Core, Lifecycle};
use crate::engine::current;
use crate::engine::local::WorkerShared;
use crate::engine::spin::{self, retry_steal};
use crate::engine::submit::Target;
use crate::engine::task::Task;
use crate::error::ReleaseTimeout;
use crate::stop::{Nudge, SignalledPool, Stop, StopToken};
use crate::sync::{Arc, Instant, MutexGuard, Ordering, lock, order_seqcst};

impl Core {
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::SeqCst)
    }

    /// Changes the capacity, of which 0 is a pause. Returns the old one.
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
        self.wake_answered();
        self.shares.retune();
        old
    }

    /// Brings threads and room to the capacity.
    fn apply_capacity(self: &Arc<Self>, lifecycle: &Lifecycle) {
        // A closed pool is not paused: its tasks must end.
        let capacity = match self.capacity() {
            0 if lifecycle.closed => lifecycle.resume,
            capacity => capacity,
        };
        self.threads.set_capacity(capacity);
        self.admission.set_limit(self.config.limit(capacity));
        self.threads.retire_idle(|| self.remaining());
        self.resume(lifecycle);
    }

    /// Starts, wakes and lets in what the capacity, the places and the line ask for.
    fn resume(self: &Arc<Self>, lifecycle: &Lifecycle) {
        let places = self.admission.places();
        let wanted = places.held() > 0 || places.has_line();
        let ensured = if wanted { self.ensure_worker() } else { Ok(()) };
        let filled = if lifecycle.closed {
            Ok(())
        } else {
            self.threads.fill(self)
        };
        self.serve_under_lock();
        self.wake_more_now();
        if ensured.and(filled).is_err() {
            // The threads that wait try again.
            self.admission.nudge();
            self.threads.nudge();
            self.send_rescuer();
        }
    }

    /// Closes the pool to submitters; with `discard` also to its tasks, and drops the backlog. Returns how many
    /// tasks.
    pub(crate) fn close(self: &Arc<Self>, discard: bool) -> usize {
        if self.is_foreign() {
            self.admission.close_foreign();
            return 0;
        }
        let of_shares = self.shares.close(discard);
        let lifecycle = lock(&self.lifecycle);
        let of_pool = self.close_with(lifecycle, discard);
        // Another thread may have opened the pool in between; and a pause was lifted.
        self.shares.follow();
        of_shares + of_pool
    }

    /// The pool has no owner any more: closes it for good.
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

    /// Closes the pool under its lock; returns how many tasks it discarded.
    fn close_with(
        self: &Arc<Self>,
        mut lifecycle: MutexGuard<'_, Lifecycle>,
        discard: bool,
    ) -> usize {
        lifecycle.closed = true;
        self.threads.close(false);
        let left = self.admission.close(discard);
        // TR1. A timer that found the pool open has a hold (TM2).
        let timers = self.timers.close();
        if self.capacity() == 0 {
            self.capacity.store(lifecycle.resume, Ordering::SeqCst);
        }
        // The tasks that a local queue lends hold no place: the pool is not at rest before they are dropped.
        self.admission.hold();
        let mut backlog = Vec::new();
        if discard {
            self.threads.close(true);
            order_seqcst();
            // L6: until no task is on its way to a local queue or back.
            spin::until_step(|| {
                let moving = |worker: &WorkerShared| worker.moving.load(Ordering::SeqCst);
                !self.queue.any(moving)
            });
            backlog = self.take_backlog();
        }
        // Only now: a task that this ends frees its worker, which must find nothing to run.
        self.stop_signal().stop();
        self.apply_capacity(&lifecycle);
        drop(lifecycle);
        self.wake_answered();
        self.follow_up(left);
        for timer in timers {
            timer.cancel();
        }
        let discarded = backlog.len();
        for (task, places) in backlog {
            self.discard(task, ());
            if places > 0 {
                self.leave(places);
            }
        }
        self.follow_up(self.admission.unhold());
        discarded
    }

    /// L6: drops what showed up after the backlog was taken; each task holds `places` places.
    pub(crate) fn discard_late(self: &Arc<Self>, take: impl Fn() -> Option<Task>, places: u64) {
        loop {
            let task = {
                let _lifecycle = lock(&self.lifecycle);
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

    /// Takes all tasks that no worker has taken, each with how many places it holds. Under the lifecycle lock, so
    /// that it takes none from a pool that was opened again.
    fn take_backlog(&self) -> Vec<(Task, u64)> {
        // In the order in which tasks move, so that none is missed.
        let mut backlog = Vec::new();
        let in_line = self.admission.take_accepted();
        backlog.extend(in_line.into_iter().map(|(task, ())| (task, 0)));
        backlog.extend(std::iter::from_fn(|| self.queue.take()).map(|task| (task, 1)));
        self.queue.visit(None, |_, stealers| -> Option<()> {
            let batched = (stealers.batch.iter())
                .flat_map(|batch| std::iter::from_fn(|| retry_steal(|| batch.steal())));
            backlog.extend(batched.map(|accepted| (accepted.task, 1)));
            let own = (stealers.own.iter())
                .flat_map(|own| std::iter::from_fn(|| retry_steal(|| own.steal())));
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
            // None of its threads is in this process.
            return Ok(());
        }
        // What a share accepted may not have come to the pool yet (N4 of the shares). Shares that are made later are
        // closed.
        let shares = self.shares.all();
        let at_rest =
            || self.admission.places().at_rest() && shares.iter().all(|share| share.is_at_rest());
        let gives_up = || interrupt.is_some_and(StopToken::is_stopped);
        let _entered = interrupt.map(|stop| stop.signal().interrupts(Arc::clone(self) as _));
        let ended = !current::is_inside(self)
            && (self.threads).join(deadline, at_rest, gives_up, || self.prepare_to_block());
        if ended {
            return Ok(());
        }
        let stats = self.stats();
        Err(ReleaseTimeout {
            running: stats.running,
            lent: stats.lent,
            queued: stats.queued,
            workers: self.workers(),
            leaving: stats.leaving,
        })
    }

    /// Opens a closed pool again, unless it was abandoned.
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
        self.timers.reopen();
        self.apply_capacity(&lifecycle);
        drop(lifecycle);
        self.wake_answered();
        self.shares.follow();
    }

    /// Waits for a moment of rest; false if `deadline` passed first.
    pub(crate) fn wait_idle(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if self.is_foreign() {
            return true;
        }
        let rested = (self.admission).wait_for_rest(deadline, || self.prepare_to_block());
        // A worker that was about to take a task which another one took lowers `busy` next (L1): when this returns
        // the gauges are at rest, too.
        if rested {
            spin::until_step(|| !self.admission.places().at_rest() || self.running() == 0);
        }
        rested
    }
}

impl Nudge for Core {
    fn nudge(&self) {
        self.threads.nudge();
    }
}

impl SignalledPool for Core {
    fn is_foreign(&self) -> bool {
        Core::is_foreign(self)
    }
}
