//! What others do to a claimable that is queued: cancel it, or run it because they wait for it.
//!
//! Whoever claims a claimable gives its place back at once (T2), and leaves a tombstone where it was queued.

use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::submit::{Submit, Target};
use crate::engine::task::Outcome;
use crate::engine::task::claimable::{Claim, Claimable, Spot, Unrun};
use crate::panic::{Payload, TaskPanic};
use crate::sync::{Arc, Ordering, lock};

impl Core {
    /// Cancels a claimable that nobody has claimed: its captures and its place are free when this returns.
    pub(crate) fn cancel(self: &Arc<Self>, claimable: &dyn Claimable) -> bool {
        // The pool is not at rest before the captures are gone.
        self.admission.hold();
        let claim = Claim::take(claimable);
        let cancelled = claim.is_some();
        if let Some(claim) = claim {
            let spot = claim.spot();
            let ended = self.call(|| claim.abandon(Unrun::Cancelled));
            if self.is_foreign() {
                // What it captured forked as it was dropped.
                return true;
            }
            self.counts.cancelled.add(1);
            self.vacate(spot);
            ended.settle();
        }
        self.after(self.admission.unhold());
        cancelled
    }

    /// Runs a claimed claimable within the task of this pool that runs on this thread, and on its place.
    pub(crate) fn run_within(self: &Arc<Self>, claim: Claim<'_>) {
        let spot = claim.spot();
        self.run_instead(Some(spot), || claim.run()).settle();
    }

    /// Runs `f`, as the task of this pool that was claimed at that spot, or as one more, within the task
    /// that runs on this thread, and on its place. What `f` returns beside the outcome comes back.
    pub(crate) fn run_instead<T>(
        self: &Arc<Self>,
        spot: Option<Spot>,
        f: impl FnOnce() -> (Outcome, T),
    ) -> T {
        // A hook or a waker has no place to lend: what it joins counts as its caller's.
        let placeless = !current::holds_place(self);
        if placeless {
            self.admission.hold();
            self.calling.fetch_add(1, Ordering::SeqCst);
        }
        match spot {
            Some(spot) => self.vacate(spot),
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
                // One that has left its local queue, whose thread-locals are dropped, must not count there.
                if let Some(run) = run.take_if(|_| worker.is_seated()) {
                    worker.run_within(spot, run);
                }
            });
            if let Some(run) = run {
                self.counts.called.add(1);
                self.record_called(run());
            }
            value
        });
        if placeless && !self.is_foreign() {
            self.calling.fetch_sub(1, Ordering::SeqCst);
            self.after(self.admission.unhold());
        }
        value.unwrap_or_else(|| unreachable!("it ran, here or there"))
    }

    /// A task that was handed in is not wanted any more, and is a tombstone from now on.
    pub(crate) fn take_back(self: &Arc<Self>, spot: Spot) {
        self.counts.cancelled.add(1);
        self.vacate(spot);
    }

    /// Tells the pool's handler of a panic that came to light on no worker.
    pub(crate) fn tell_panic(&self, payload: Payload) {
        self.config
            .hooks
            .panics
            .tell(None, TaskPanic::new(None, payload));
    }

    /// Tells of a panic, on the worker if this is one.
    pub(crate) fn tell_panic_here(self: &Arc<Self>, payload: Payload) {
        let mut payload = Some(payload);
        current::with_worker(self, |worker| {
            payload.take().map(|payload| worker.tell(payload))
        });
        if let Some(payload) = payload {
            self.tell_panic(payload);
        }
    }

    /// Gives back what a claimable held that was claimed elsewhere, but for its tombstone.
    fn vacate(self: &Arc<Self>, spot: Spot) {
        match spot {
            Spot::Placed => {
                self.leave(1);
                if self.queue.add_tombstone() {
                    self.sweep();
                }
            }
            Spot::Loose if self.admission.places().has_line() => {
                self.after(self.admission.drop_tombstones());
            }
            Spot::Loose => {}
        }
    }

    /// Under the lifecycle lock: what a discarding pool takes out of its queue is not in other hands.
    #[cold]
    fn sweep(self: &Arc<Self>) {
        {
            let _reins = lock(&self.lifecycle);
            self.queue.sweep();
        }
        self.wake_more();
    }
}
