//! What other holders than its task do to a queued claimable: cancel it, or run it because they wait for it.
//!
//! A holder that claims a claimable gives its place back at once (T2), and leaves a tombstone in the queue.

use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::submit::{Submit, Target};
use crate::engine::task::Outcome;
use crate::engine::task::claimable::{Claim, Claimable, Placement, Unrun};
use crate::sync::{Arc, Ordering, lock};

impl Core {
    /// Cancels a claimable unless it is claimed: its captures are dropped, and its place is free, when this returns.
    pub(crate) fn cancel(self: &Arc<Self>, claimable: &dyn Claimable) -> bool {
        // The pool is not at rest before the captures are dropped.
        self.admission.hold();
        let claim = Claim::take(claimable);
        let cancelled = claim.is_some();
        if let Some(claim) = claim {
            let placement = claim.placement();
            let ended = self.call(|| claim.abandon(Unrun::Cancelled));
            if self.is_foreign() {
                // A capture forked as it was dropped.
                return true;
            }
            self.counts.cancelled.add(1);
            self.vacate(placement);
            ended.settle();
        }
        self.follow_up(self.admission.unhold());
        cancelled
    }

    /// Runs a claimable that was claimed, within the task of this pool that runs on this thread, and on its place.
    pub(crate) fn run_claimed(self: &Arc<Self>, claim: Claim<'_>) {
        let placement = claim.placement();
        self.run_nested(Some(placement), || claim.run()).settle();
    }

    /// Runs `f` within the task that runs on this thread, and on its place: as the task of this pool that was claimed
    /// with that placement, or as one more. Returns what `f` returns beside the outcome.
    pub(crate) fn run_nested<T>(
        self: &Arc<Self>,
        placement: Option<Placement>,
        f: impl FnOnce() -> (Outcome, T),
    ) -> T {
        // A hook or a waker has no place to lend: what it joins counts as run by its caller.
        let placeless = !current::holds_place(self);
        if placeless {
            self.admission.hold();
            self.callers.fetch_add(1, Ordering::SeqCst);
        }
        match placement {
            Some(placement) => self.vacate(placement),
            None => {
                self.admission.count_accepted();
            }
        }
        let value = current::call_here(self, || {
            let mut value = None;
            let mut run = Some(|| {
                let (outcome, ran) = f();
                value = Some(ran);
                outcome
            });
            current::with_worker(self, |worker| {
                // A worker that has left its local queue, whose thread-locals are dropped, must not count there.
                if let Some(run) = run.take_if(|_| worker.has_local_queue()) {
                    worker.run_nested(placement, run);
                }
            });
            if let Some(run) = run {
                self.counts.called.add(1);
                self.record_caller_run(run());
            }
            value
        });
        if placeless && !self.is_foreign() {
            self.callers.fetch_sub(1, Ordering::SeqCst);
            self.follow_up(self.admission.unhold());
        }
        value.unwrap_or_else(|| unreachable!("it ran, here or there"))
    }

    /// A permit that was handed in is not wanted any more: its task is a tombstone from now on.
    pub(crate) fn take_back(self: &Arc<Self>, placement: Placement) {
        self.counts.cancelled.add(1);
        self.vacate(placement);
    }

    /// Gives back what the task of a claimable held that was claimed elsewhere: all but its tombstone.
    fn vacate(self: &Arc<Self>, placement: Placement) {
        match placement {
            Placement::Placed => {
                self.leave(1);
                if self.queue.add_tombstone() {
                    self.sweep();
                }
            }
            Placement::Unplaced if self.admission.places().has_line() => {
                self.follow_up(self.admission.drop_tombstones());
            }
            Placement::Unplaced => {}
        }
    }

    /// Sweeps under the lifecycle lock: a pool that discards its queue must not find its tasks in other hands.
    #[cold]
    fn sweep(self: &Arc<Self>) {
        {
            let _lifecycle = lock(&self.lifecycle);
            self.queue.sweep();
        }
        self.wake_more();
    }
}
