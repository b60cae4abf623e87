//! What the thread counts say of a worker on standby and of deferred wakes (Y1 to Y3).

use super::{Inner, Threads};
use crate::engine::local::WorkerShared;
use crate::engine::threads::counts::{DEFERRED, STANDBY};
use crate::sync::{Arc, Ordering, lock};

impl Threads {
    /// Y1: defers a wake if a worker is on standby; whether it did.
    pub(crate) fn defer(&self) -> bool {
        let deferred = |counts: u64| (counts & STANDBY != 0).then_some(counts | DEFERRED);
        let counts = self.counts.load(Ordering::SeqCst);
        counts & (STANDBY | DEFERRED) == STANDBY | DEFERRED
            || (self.counts)
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, deferred)
                .is_ok()
    }

    /// Y2: whether a wake was deferred since the last tick.
    pub(crate) fn take_deferred(&self) -> bool {
        self.counts.fetch_and(!DEFERRED, Ordering::SeqCst) & DEFERRED != 0
    }

    /// Y2: ends the standby of a worker; false if a wake was just deferred, and it goes on.
    pub(crate) fn stand_down(&self, worker: &Arc<WorkerShared>) -> bool {
        let mut inner = lock(&self.inner);
        if !inner.is_on_standby(worker) {
            // Another thread claimed it: its bell will ring.
            return true;
        }
        if self.counts.fetch_and(!STANDBY, Ordering::SeqCst) & DEFERRED != 0 {
            self.counts.fetch_or(STANDBY, Ordering::SeqCst);
            return false;
        }
        inner.standby = None;
        true
    }

    /// Y3: for the thread that takes the worker off the idle stack.
    pub(super) fn end_standby(&self, inner: &mut Inner, worker: &Arc<WorkerShared>) {
        if inner.is_on_standby(worker) {
            inner.standby = None;
            self.counts
                .fetch_and(!(STANDBY | DEFERRED), Ordering::SeqCst);
        }
    }
}
