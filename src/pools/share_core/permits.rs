//! The permits of a sub-queue: how they are sent, taken back and run.
//!
//! - S5: A permit ends in this order: the pool gets its place back; the slot is free and the next permit is sent; the
//!   share gets the task's place back; those who wait for the claimable may go on. So whoever goes on after the task
//!   (the next task of the sub-queue, or a submitter that waited for it) finds the worker free and wakes no second one.
//!   From the first of these steps to the last but one a hold keeps the pool from being at rest.
//! - S6: A hold also keeps the pool from being at rest while a permit is counted and not yet in the pool, since a
//!   submitter whose task was accepted meanwhile relies on it. If the system refuses a thread for it, that lasts until
//!   somebody [tries again](super::ShareCore::lacks_permit) with success.
//! - S7: A permit is not taken back before its sender has submitted it; the sender rebalances afterwards. (If its place
//!   was gone when it was pushed, nobody woke a worker for what was then a tombstone. In a pool that was closed, a
//!   worker that had stayed because of the place slept for ever.)

use super::SubQueue;
use super::state::Step;
use crate::engine::admission::Origin;
use crate::engine::current;
use crate::engine::submit::Submit;
use crate::engine::task::claimable::Placement;
use crate::engine::task::permits::Permit;
use crate::engine::task::{Claimed, Outcome, Task, Unsettled};
use crate::error::SubmitErrorKind;
use crate::sync::{Arc, lock};

impl SubQueue {
    /// S3: sends or takes back permits until their number is right.
    pub(super) fn rebalance(self: &Arc<Self>) {
        if !self.sends_all() {
            self.share.lacks_permit(self);
        }
    }

    /// S3, S6: false if the system refused a thread for a permit; then the pool is still held.
    pub(super) fn sends_all(self: &Arc<Self>) -> bool {
        let core = &self.share.core;
        loop {
            let step = lock(&self.state).step(|| core.admission.hold());
            match step {
                None => return true,
                Some(Step::TakeBack(placement)) => core.take_back(placement),
                Some(Step::Send) => match self.send() {
                    Err(SubmitErrorKind::NoThread) => return false,
                    sent => {
                        if sent.is_err() {
                            // The pool is closed and discards what is left.
                            self.share.discard_late();
                        }
                        core.follow_up(core.admission.unhold());
                    }
                },
            }
        }
    }

    /// Submits a permit that was counted.
    pub(super) fn send(self: &Arc<Self>) -> Result<(), SubmitErrorKind> {
        let permit = Task::of_permit(Arc::clone(self) as _);
        let sent = self.share.core.submit_detached(permit, Origin::Inside);
        lock(&self.state).permits.added(sent.is_ok());
        sent.map_err(|refusal| {
            refusal.task.disown();
            refusal.kind
        })
    }

    /// S2, N3: frees a slot.
    pub(super) fn free_slot(self: &Arc<Self>) {
        lock(&self.state).permits.end();
        self.rebalance();
        self.share.wake_helpers();
    }

    /// Runs what was claimed, in a slot that `free_slot` frees; that learns how the task ended. The caller settles what
    /// comes back.
    pub(super) fn run<'a>(
        self: &Arc<Self>,
        work: Claimed<'a>,
        placement: Placement,
        free_slot: impl FnOnce(Outcome),
    ) -> Option<Unsettled<'a>> {
        let share = &self.share;
        let sub_queue: *const () = std::ptr::from_ref(&**self).cast();
        let over = |outcome| {
            let ended = share.end(outcome);
            if share.is_foreign() {
                // The task forked, and ends here as well.
                return;
            }
            free_slot(ended);
            match placement {
                Placement::Placed => self.over(1),
                Placement::Unplaced => self.unpin(1),
            }
            share.wake_helpers();
        };
        share.begin();
        current::within(share.address(), || {
            current::within(sub_queue, || work.run(over))
        })
    }

    /// `tasks` tasks are over: gives back their places.
    pub(super) fn over(self: &Arc<Self>, tasks: usize) {
        self.unpin(tasks);
        self.share
            .follow_up(self.share.admission.leave(tasks as u64));
    }
}

impl Permit for SubQueue {
    fn claim(&self, placed: bool) -> bool {
        lock(&self.state).claim(placed)
    }

    fn has(&self, placed: bool) -> bool {
        lock(&self.state).permits.has(placed)
    }

    fn note_place(&self) -> bool {
        lock(&self.state).permits.note_place()
    }

    /// S5
    fn run(&self, over: &mut dyn FnMut(Outcome)) {
        let (task, sub_queue) = (lock(&self.state).take_in_slot(), self.arc());
        let core = &self.share.core;
        let mut free_slot = |outcome| {
            core.admission.hold();
            over(outcome);
            sub_queue.free_slot();
        };
        let unsettled = if let Some(task) = task {
            sub_queue.run(Claimed::Task(task), Placement::Placed, free_slot)
        } else {
            free_slot(Outcome::Cancelled);
            None
        };
        if self.share.is_foreign() {
            // The task forked, and ends here as well.
            return;
        }
        core.follow_up(core.admission.unhold());
        if let Some(unsettled) = unsettled {
            unsettled.settle();
        }
    }

    /// The pool discards a permit: the sub-queue drops its oldest task.
    fn abandon(&self) {
        let (task, sub_queue) = (lock(&self.state).take_unrun(), self.arc());
        if let Some(task) = task {
            self.share.drop_unrun(task);
            sub_queue.over(1);
        }
        sub_queue.free_slot();
    }
}
