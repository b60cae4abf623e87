//! The tasks that somebody waits for together: those of a scope, of a group.
//!
//! - V1: `unfinished` counts a task until it is over in every respect: for a scope from before it is handed
//!   in, for a group from when it was accepted.
//! - V2: Who waits says so under the lock and looks at `unfinished` then; who ends the last task counts it
//!   first and looks for who waits then, under the lock. So one sees the other.
//! - V3: `queued` holds the claimables that may have to be run or cancelled from here, and no more than twice
//!   as many that need not be any more.
//! - V4: Who waits in a task runs the oldest first: what a task may wait for was mostly handed in before it. The
//!   newest first, a chain of joins would be run each within the next, on one stack.

use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::task::claimable::{Claim, ClaimableRef};
use crate::fork::Mark;
use crate::sync::{
    Arc, AtomicUsize, Mutex, Ordering, Thread, current as this_thread, lock, park_until, try_lock,
};
use std::collections::VecDeque;

/// So many claimables are not worth a look for those that started.
const FEW: usize = 32;

pub(crate) struct PendingSet {
    unfinished: AtomicUsize,
    inner: Mutex<Inner>,
    mark: Mark,
}

#[derive(Default)]
struct Inner {
    queued: VecDeque<ClaimableRef>,
    /// So many in `queued` are worth a look for those that started.
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

    /// G1 of [`fork`](crate::fork): the tasks are with the process that this one was forked from.
    /// `is_untouched` looks at what its owner has beside it.
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
        // ORDERING: Relaxed: who waits does so after it, or has no part in it.
        self.unfinished.fetch_add(1, Ordering::Relaxed);
    }

    /// V1, V2: a task is over. The pending set may be gone when this returns, but for who holds it.
    pub(crate) fn end(&self) {
        // ORDERING: Release: publishes what the task did. Acquire: the last one publishes it all.
        if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.nudge();
        }
    }

    fn nudge(&self) {
        if self.mark.is_foreign(|| false) {
            // Its last task forked, and ended here: who waits for it does so elsewhere.
            return;
        }
        let waiting = std::mem::take(&mut lock(&self.inner).waiting);
        waiting.iter().for_each(Thread::unpark);
    }

    /// V3: keeps a claimable that was handed in; whoever waits may have to run it.
    pub(crate) fn enlist(&self, claimable: ClaimableRef) {
        let waiting = {
            let mut inner = lock(&self.inner);
            if inner.queued.len() >= inner.sweep_at {
                // Of what it lets go nothing is dropped but a count: its user's part is gone or running.
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
                core.run_within(claim);
                return true;
            }
        }
    }

    /// Cancels what has not started.
    pub(crate) fn cancel(&self, core: &Arc<Core>) {
        loop {
            let Some(claimable) = lock(&self.inner).queued.pop_front() else {
                return;
            };
            core.cancel(&*claimable);
        }
    }

    /// Waits until no task is unfinished. In a task of the pool it runs those that have not started.
    pub(crate) fn wait(&self, core: &Arc<Core>) {
        let inside = current::is_inside(core);
        loop {
            if inside {
                // One that it runs may fork.
                while !self.mark.is_foreign(|| false) && self.run_oldest(core) {}
            }
            if self.is_over() || self.mark.is_foreign(|| false) {
                return;
            }
            let again = core.rescue();
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

    /// Lets go of the claimables, which hold the pending set.
    pub(crate) fn clear(&self) {
        let queued = std::mem::take(&mut lock(&self.inner).queued);
        drop(queued);
    }
}
