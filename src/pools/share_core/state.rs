//! What a sub-queue keeps under its lock: its tasks, its slots and its permits. No other code decides how many permits
//! there are.
//!
//! - S1: `live` tasks wait in the queue; the others in it are tombstones. Each live task holds a place of the share.
//! - S2: A slot is in use for each permit that was claimed, and for each task that a waiting task of the pool runs. (A
//!   task that waits for another one of its sub-queue lends its own slot.) Whoever claimed a permit takes a task only
//!   if no more than `slots` slots are in use then. A permit is one too many if its slot was taken while it was on its
//!   way: it ends without a task.
//! - S3: On their way are as many permits as there are free slots, or as there are live tasks that no claimed permit is
//!   about to take, whichever is less. Whoever changes a slot or a task [rebalances](super::SubQueue::rebalance) the
//!   permits afterwards. (A worker claims a permit under one lock, before it takes the task under the next. When the
//!   task counted as live until then, it got a second permit, and that a second worker.)

use crate::engine::task::Accepted;
use crate::engine::task::Task;
use crate::engine::task::claimable::Placement;
use crate::engine::task::permits::Permits;
use std::collections::VecDeque;

/// With fewer tombstones in a queue a sweep is not worth it.
const FEW_TOMBSTONES: usize = 64;

pub(super) struct SubQueueState {
    pub(super) queue: VecDeque<Accepted>,
    /// It is below 0 for a moment if a task is claimed after it got its place and before it is pushed.
    pub(super) live: isize,
    pub(super) slots: usize,
    pub(super) permits: Permits,
    /// S3: how many claimed permits have not come for their tasks yet.
    pub(super) coming: usize,
}

/// What has to be done for S3 to hold.
pub(super) enum Step {
    /// Send a permit, which was counted; the pool is held (S6).
    Send,
    /// Take back a permit, which is not counted any more.
    TakeBack(Placement),
}

impl SubQueueState {
    pub(super) fn new(slots: usize) -> SubQueueState {
        SubQueueState {
            queue: VecDeque::new(),
            live: 0,
            slots,
            permits: Permits::default(),
            coming: 0,
        }
    }

    /// S2: a slot is free.
    pub(super) fn has_slot(&self) -> bool {
        self.permits.working() < self.slots
    }

    /// S1
    pub(super) fn waiting(&self) -> usize {
        usize::try_from(self.live).unwrap_or(0)
    }

    /// S3: how many permits should be on their way.
    pub(super) fn wanted(&self) -> usize {
        let free = self.slots.saturating_sub(self.permits.working());
        free.min(self.waiting().saturating_sub(self.coming))
    }

    /// Returns the next step to S3. It calls `hold` before it counts a permit to be sent.
    pub(super) fn step(&mut self, hold: impl FnOnce()) -> Option<Step> {
        let wanted = self.wanted();
        if self.permits.len() < wanted {
            hold();
            self.permits.add();
            return Some(Step::Send);
        }
        self.spare().map(Step::TakeBack)
    }

    /// S7: if there is a permit too many, takes it out of the count and returns what its task held.
    pub(super) fn spare(&mut self) -> Option<Placement> {
        if self.permits.underway() > 0 {
            return None;
        }
        self.permits.retire(self.wanted())
    }

    /// S1: takes the oldest task, claimed.
    pub(super) fn take(&mut self) -> Option<Task> {
        loop {
            let mut accepted = self.queue.pop_front()?;
            if accepted.task.claim() {
                self.live -= 1;
                return Some(accepted.task);
            }
        }
    }

    /// Claims a permit.
    pub(super) fn claim(&mut self, placed: bool) -> bool {
        let claimed = self.permits.claim(placed);
        self.coming += usize::from(claimed);
        claimed
    }

    /// S2: takes the oldest task, for a permit that was claimed.
    pub(super) fn take_in_slot(&mut self) -> Option<Task> {
        self.coming -= 1;
        if self.permits.working() > self.slots {
            return None;
        }
        self.take()
    }

    /// The same for a permit whose task will be dropped, which needs no slot.
    pub(super) fn take_unrun(&mut self) -> Option<Task> {
        self.coming -= 1;
        self.take()
    }

    /// S1: a live task was claimed elsewhere, under this lock, so that no permit comes for it in vain.
    pub(super) fn bury(&mut self) {
        self.live -= 1;
        if self.queue.len() > 2 * self.waiting() + FEW_TOMBSTONES {
            self.queue
                .retain_mut(|accepted| !accepted.task.is_tombstone());
        }
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    fn accepted(number: u64) -> Accepted {
        Accepted::new(number, Task::new(|| {}))
    }

    /// S2: a helper takes the slot of a permit that is on its way, which then comes in vain.
    #[test]
    fn a_permit_whose_slot_was_taken_takes_no_task() {
        let mut state = SubQueueState {
            queue: (0..2).map(accepted).collect(),
            live: 2,
            slots: 1,
            permits: Permits::default(),
            coming: 0,
        };
        assert!(matches!(state.step(|| ()), Some(Step::Send)));
        // Before the sender knows that the permit was accepted.
        assert!(state.has_slot());
        let helped = state.take().unwrap();
        state.permits.begin();
        assert_eq!(state.spare(), None);
        assert!(state.claim(false));
        assert!(state.take_in_slot().is_none());
        // What the helper runs is over, and the next permit takes the next task.
        drop(helped);
        state.permits.end();
        state.permits.end();
        state.permits.added(true);
        assert!(matches!(state.step(|| ()), Some(Step::Send)));
        assert!(state.claim(false));
        assert!(state.take_in_slot().is_some());
    }

    /// S3: a task that a claimed permit is about to take gets no second permit, though there is a slot for it.
    #[test]
    fn a_task_whose_permit_was_claimed_gets_no_other() {
        let mut state = SubQueueState {
            queue: VecDeque::from([accepted(0)]),
            live: 1,
            slots: 2,
            permits: Permits::default(),
            coming: 0,
        };
        assert!(matches!(state.step(|| ()), Some(Step::Send)));
        state.permits.added(true);
        assert!(state.claim(false));
        assert!(state.step(|| ()).is_none());
        // One more task gets one.
        state.queue.push_back(accepted(1));
        state.live += 1;
        assert!(matches!(state.step(|| ()), Some(Step::Send)));
        assert!(state.step(|| ()).is_none());
        // The first permit takes its task; nothing is left for a third.
        assert!(state.take_in_slot().is_some());
        assert!(state.step(|| ()).is_none());
    }

    /// S7: a permit that is one too many while it is being sent is taken back by its sender, afterwards.
    #[test]
    fn a_permit_underway_is_not_taken_back() {
        let mut state = SubQueueState {
            queue: VecDeque::from([accepted(0)]),
            live: 1,
            slots: 1,
            permits: Permits::default(),
            coming: 0,
        };
        assert!(matches!(state.step(|| ()), Some(Step::Send)));
        assert!(state.permits.note_place());
        // Its task is cancelled.
        state.live = 0;
        assert!(state.step(|| ()).is_none());
        state.permits.added(true);
        assert!(matches!(
            state.step(|| ()),
            Some(Step::TakeBack(Placement::Placed))
        ));
        assert!(state.step(|| ()).is_none());
    }
}
