//! The tasks that somebody waits for together: those of a scope, or of a group.
//!
//! - V1: `unfinished` counts a task until it is over in every respect: in a scope from before it is submitted, in a
//!   group from when it was accepted.
//! - V2: Whoever waits registers under the lock, and then looks at `unfinished`. Whoever ends the last task counts it
//!   first, and then looks under the lock for those who wait. So one of the two sees the other.
//! - V3: `queued` holds the claimables that may have to be run or cancelled from here, and at most twice as many that
//!   have been claimed since.
//! - V4: Whoever waits in a task runs the oldest first, since a task mostly waits for tasks that were submitted before
//!   it. With the newest first, a chain of joins would run each task within the next, all on one stack.

use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::task::claimable::{Claim, ClaimableRef};
use crate::fork::Mark;
use crate::sync::{
    Arc, AtomicUsize, Mutex, Ordering, Thread, current as this_thread, lock, park_until, try_lock,
};
use std::collections::VecDeque;

/// With fewer claimables it is not worth looking for those that were claimed.
const FEW: usize = 32;

pub(crate) struct PendingSet {
    unfinished: AtomicUsize,
    inner: Mutex<Inner>,
    mark: Mark,
}

#[derive(Default)]
struct Inner {
    queued: VecDeque<ClaimableRef>,
    /// With as many in `queued`, those that were claimed are swept out.
    sweep_at: usize,
    waiting: Vec<Thread>,
}

impl PendingSet {
    pub(crate) fn new() -> PendingSet {
        PendingSet {
            unfinished: AtomicUsize::new(0),
            inner: Mutex::new(Inner::default()),
            mark: Mark::new(),
        }
    }

    /// G1 of [`fork`](crate::fork): the tasks are in the process from which this one was forked. `is_untouched` looks
    /// at what the owner of the set has beside it.
    #[inline]
    pub(crate) fn is_foreign(&self, core: &Core, is_untouched: impl FnOnce() -> bool) -> bool {
        self.mark.is_foreign(|| {
            let untouched = self.is_over() && try_lock(&self.inner).is_some() && is_untouched();
            untouched && !core.is_foreign()
        })
    }

    pub(crate) fn unfinished(&self) -> usize {
        // ORDERING: Acquire: pairs with `end`.
        self.unfinished.load(Ordering::Acquire)
    }

    /// V1: one more task.
    pub(crate) fn begin(&self) {
        // ORDERING: Relaxed: whoever waits for the task does so after this call.
        self.unfinished.fetch_add(1, Ordering::Relaxed);
    }

    /// V1, V2: a task is over. When this returns, the set may be gone unless the caller holds it.
    pub(crate) fn end(&self) {
        // ORDERING: Release: publishes what the task did. Acquire: the last one publishes it all.
        if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.nudge();
        }
    }

    fn nudge(&self) {
        if self.mark.is_foreign(|| false) {
            // The last task forked, and ends here as well: those who wait are in the parent.
            return;
        }
        let waiting = std::mem::take(&mut lock(&self.inner).waiting);
        waiting.iter().for_each(Thread::unpark);
    }

    /// V3: keeps a claimable that was submitted: whoever waits may have to run it.
    pub(crate) fn enlist(&self, claimable: ClaimableRef) {
        let waiting = {
            let mut inner = lock(&self.inner);
            if inner.queued.len() >= inner.sweep_at {
                // No user code runs in this drop: the closure of what was claimed is gone, or is running.
                inner.queued.retain(|claimable| !claimable.is_claimed());
                inner.sweep_at = 2 * inner.queued.len().max(FEW);
            }
            inner.queued.push_back(claimable);
            std::mem::take(&mut inner.waiting)
        };
        waiting.iter().for_each(Thread::unpark);
    }

    /// V4: runs the oldest claimable that has not started; false if there is none.
    fn run_oldest(&self, core: &Arc<Core>) -> bool {
        loop {
            let Some(claimable) = lock(&self.inner).queued.pop_front() else {
                return false;
            };
            if let Some(claim) = Claim::take(&*claimable) {
                core.run_claimed(claim);
                return true;
            }
        }
    }

    /// Cancels the tasks that have not started.
    pub(crate) fn cancel(&self, core: &Arc<Core>) {
        loop {
            let Some(claimable) = lock(&self.inner).queued.pop_front() else {
                return;
            };
            core.cancel(&*claimable);
        }
    }

    /// Waits until no task is unfinished. In a task of the pool it runs the tasks that have not started.
    pub(crate) fn wait(&self, core: &Arc<Core>) {
        loop {
            let inside = current::may_help(core);
            if inside {
                // A task that it runs may fork.
                while !self.mark.is_foreign(|| false) && self.run_oldest(core) {}
            }
            if self.is_over() || self.mark.is_foreign(|| false) {
                return;
            }
            let again = core.prepare_to_block();
            {
                let mut inner = lock(&self.inner);
                if self.is_over() || inside && !inner.queued.is_empty() {
                    continue;
                }
                inner.waiting.push(this_thread());
            }
            if self.is_over() {
                return;
            }
            park_until(again);
        }
    }

    fn is_over(&self) -> bool {
        self.unfinished() == 0
    }

    /// Drops the claimables, which hold the owner of the set.
    pub(crate) fn clear(&self) {
        let queued = std::mem::take(&mut lock(&self.inner).queued);
        drop(queued);
    }
}
