//! What else happens to the tasks of a sub-queue: a task of the pool that waits runs them, and a handle cancels them.
//!
//! A helper needs a slot, as a permit does, unless it is itself in a task of the sub-queue: then it lends the slot of
//! that task (S2).

use super::SubQueue;
use super::state::SubQueueState;
use crate::engine::current;
use crate::engine::task::claimable::{Claim, Claimable, Placement, Unrun};
use crate::engine::task::{Claimed, Outcome};
use crate::sync::{Arc, Instant, is_past, lock, park_until, sooner};

impl SubQueue {
    /// This thread is in a task of the sub-queue, whose slot it lends.
    pub(super) fn lends(&self) -> bool {
        current::is_within(std::ptr::from_ref(self).cast())
    }

    /// A waiting task of the pool could run a task of the sub-queue now.
    pub(super) fn may_help(&self) -> bool {
        let state = lock(&self.state);
        state.live > 0 && (state.has_slot() || self.lends())
    }

    /// Runs what `take` takes, if there is a slot. Returns whether it ran something.
    pub(super) fn help<'a>(
        self: &Arc<Self>,
        take: impl FnOnce(&mut SubQueueState) -> Option<(Claimed<'a>, Placement)>,
    ) -> bool {
        let lends = self.lends();
        let (work, placement, permit) = {
            let mut state = lock(&self.state);
            if !lends && !state.has_slot() {
                return false;
            }
            let Some((work, placement)) = take(&mut state) else {
                return false;
            };
            if !lends {
                state.permits.begin();
            }
            (work, placement, state.spare())
        };
        if placement == Placement::Unplaced {
            self.share.follow_up(self.share.admission.drop_tombstones());
        }
        let unsettled = self.share.core.run_nested(permit, || {
            let mut ended = Outcome::Completed;
            let unsettled = self.run(work, placement, |outcome| {
                ended = outcome;
                if !lends {
                    self.free_slot();
                }
            });
            (ended, unsettled)
        });
        if let Some(unsettled) = unsettled {
            unsettled.settle();
        }
        true
    }

    /// Runs the oldest task, if there is a slot. Returns whether it ran one.
    pub(super) fn help_with_next(self: &Arc<Self>) -> bool {
        self.help(|state| Some((Claimed::Task(state.take()?), Placement::Placed)))
    }

    /// Runs a claimable of the sub-queue that has not started as soon as there is a slot; in an ordered sub-queue it
    /// runs the tasks before it first. It returns when somebody has claimed the claimable, or at the deadline.
    pub(crate) fn help_with(
        self: &Arc<Self>,
        claimable: &dyn Claimable,
        deadline: Option<Instant>,
    ) {
        while !claimable.is_claimed() {
            let helped = if self.ordered {
                self.help_with_next()
            } else {
                self.help(|state| {
                    let claim = Claim::take(claimable)?;
                    let placement = claim.placement();
                    if placement == Placement::Placed {
                        state.bury();
                    }
                    Some((Claimed::Claimable(claim), placement))
                })
            };
            if helped {
                if self.share.is_foreign() {
                    return;
                }
                continue;
            }
            if self.ordered && self.admit_from_line() {
                continue;
            }
            if is_past(deadline) {
                return;
            }
            self.share.will_help();
            if claimable.is_claimed() || self.may_help() {
                continue;
            }
            park_until(sooner(self.share.rescue(), deadline));
        }
    }

    /// Admits the tasks of this sub-queue from the line, even without room: those that have the room may need the
    /// worker that waits here. Returns whether there were any.
    pub(super) fn admit_from_line(self: &Arc<Self>) -> bool {
        if !self.share.admission.places().has_line() {
            return false;
        }
        let (any, left) = (self.share.admission).let_in(
            |sub_queue| Arc::ptr_eq(sub_queue, self),
            |accepted, sub_queue| sub_queue.push(accepted),
        );
        self.share.follow_up(left);
        any
    }

    /// Cancels a claimable that nobody has claimed. Returns whether it did.
    pub(crate) fn cancel(self: &Arc<Self>, claimable: &dyn Claimable) -> bool {
        let share = &self.share;
        share.admission.hold();
        let claim = {
            let mut state = lock(&self.state);
            let claim = Claim::take(claimable);
            let placement = claim.as_ref().map(Claim::placement);
            if placement == Some(Placement::Placed) {
                state.bury();
            }
            claim
        };
        let cancelled = claim.is_some();
        if let Some(claim) = claim {
            let placement = claim.placement();
            let ended = share.call(|| claim.abandon(Unrun::Cancelled));
            share.counts.cancelled.add(1);
            match placement {
                Placement::Placed => {
                    self.over(1);
                    self.rebalance();
                }
                Placement::Unplaced => {
                    share.follow_up(share.admission.drop_tombstones());
                    self.unpin(1);
                }
            }
            ended.settle();
        }
        share.follow_up(share.admission.unhold());
        share.wake_helpers();
        cancelled
    }
}
