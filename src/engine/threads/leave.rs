//! How threads end: they expire, are retired, depart, and are joined (C6).

use super::Threads;
use crate::engine::bell::Ring;
use crate::engine::local::WorkerShared;
use crate::engine::threads::counts::{ACTIVE, LIVE};
use crate::engine::threads::{Expiry, Remaining};
use crate::sync::{Arc, Instant, is_past, join, lock, sooner, wait_until};

impl Threads {
    /// Decides what a worker does that was idle for the idle timeout. With `keeps_all` workers expire only beyond the
    /// capacity (LE6).
    pub(crate) fn expire(
        &self,
        worker: &Arc<WorkerShared>,
        keeps_all: bool,
        remaining: impl Fn() -> Remaining,
    ) -> Expiry {
        let mut inner = lock(&self.inner);
        let counts = self.counts();
        let least = if keeps_all {
            counts.capacity()
        } else {
            self.minimum(counts)
        };
        if counts.live() <= least {
            return Expiry::Stay;
        }
        if !inner.idle.remove(|idle| Arc::ptr_eq(idle, worker)) {
            return Expiry::Claimed;
        }
        self.sub(LIVE);
        if self.must_stay(&remaining) {
            self.add(LIVE);
            if remaining() == Remaining::Work && self.counts().may_activate() {
                self.add(ACTIVE);
                return Expiry::Again;
            }
            inner.idle.push(Arc::clone(worker));
            return Expiry::Renew;
        }
        inner.counts.expired += 1;
        Expiry::Leave
    }

    /// C5: whether the worker that is about to leave is the last one but for those that are lent, and a place is held.
    pub(super) fn must_stay(&self, remaining: &impl Fn() -> Remaining) -> bool {
        let counts = self.counts();
        counts.live() <= self.lent() && counts.capacity() > 0 && remaining() != Remaining::Nothing
    }

    /// Retires idle workers from the bottom of the stack: those beyond the capacity, or all of them if the pool is
    /// closed.
    pub(crate) fn retire_idle(&self, remaining: impl Fn() -> Remaining) {
        let mut inner = lock(&self.inner);
        let mut retired = Vec::new();
        loop {
            let counts = self.counts();
            if !counts.is_closed() && counts.live() - self.lent() <= counts.capacity() {
                break;
            }
            let Some(worker) = inner.idle.steal_oldest() else {
                break;
            };
            self.sub(LIVE);
            if self.must_stay(&remaining) {
                self.add(LIVE);
                inner.idle.push(worker);
                break;
            }
            self.end_standby(&mut inner, &worker);
            retired.push(worker);
        }
        self.gone.notify_all();
        // I2
        drop(inner);
        for worker in &retired {
            worker.bell.ring(Ring::Retire);
        }
    }

    /// C6: the last thread-local of a user on the thread of this worker was dropped.
    pub(crate) fn depart(&self, id: u64) {
        let mut inner = lock(&self.inner);
        while let Some(before) = inner.departed.take() {
            drop(inner);
            // No code of a user's is left on it.
            join(before);
            inner = lock(&self.inner);
        }
        inner.departed = inner.present.remove(&id);
        if inner.present.is_empty() {
            self.gone.notify_all();
        }
    }

    /// Waits until no thread is left, all are joined, and `done`. Calls `retry` again and again, which returns when
    /// to call it next. False if `deadline` passed, the pool was opened again, or `gives_up`, which is asked again
    /// after a [nudge](Threads::nudge).
    pub(crate) fn join(
        &self,
        deadline: Option<Instant>,
        done: impl Fn() -> bool,
        gives_up: impl Fn() -> bool,
        retry: impl Fn() -> Option<Instant>,
    ) -> bool {
        loop {
            let again = retry();
            let mut inner = lock(&self.inner);
            if inner.present.is_empty() && done() {
                if let Some(last) = inner.departed.take() {
                    inner.joining += 1;
                    drop(inner);
                    join(last);
                    lock(&self.inner).joining -= 1;
                    self.gone.notify_all();
                    return true;
                }
                if inner.joining == 0 {
                    return true;
                }
            }
            if is_past(deadline) || gives_up() || !self.counts().is_closed() {
                return false;
            }
            drop(wait_until(&self.gone, inner, sooner(again, deadline)));
        }
    }

    /// Makes the threads that join look again.
    pub(crate) fn nudge(&self) {
        let _inner = lock(&self.inner);
        self.gone.notify_all();
    }
}
