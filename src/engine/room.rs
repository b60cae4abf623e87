//! What follows when places are given back: the line is served, and the idle workers of a closed pool end.

use crate::engine::admission::FollowUp;
use crate::engine::core::{Core, Linked};
use crate::sync::Arc;

impl Core {
    /// Gives places back, and does what must follow.
    pub(crate) fn leave(self: &Arc<Self>, places: u64) {
        if self.is_foreign() {
            return;
        }
        self.follow_up(self.admission.leave(places));
    }

    /// Does what must follow when places were given back.
    pub(crate) fn follow_up(self: &Arc<Self>, next: FollowUp) {
        if next.serve {
            self.serve_in_turn();
        } else {
            self.take_from_lead(usize::MAX);
        }
        self.end_if_over(next);
    }

    /// Lets the idle workers end, if the pool is closed and came to rest.
    pub(crate) fn end_if_over(self: &Arc<Self>, left: FollowUp) {
        if left.ended {
            self.threads.retire_idle(|| self.remaining());
        }
    }

    /// Lets in the tasks that wait in line, oldest first, while there is room.
    pub(crate) fn serve(self: &Arc<Self>) {
        self.serve_under_lock();
        self.wake_answered();
    }

    /// WT2: wakes the futures that were answered, here or in the lead's line. The caller holds no lock.
    pub(crate) fn wake_answered(self: &Arc<Self>) {
        self.admission.wake_answered();
        if let Some(Linked::Member { lead, .. }) = self.linked.get() {
            lead.admission.wake_answered();
        }
    }

    /// The same as [`serve`](Core::serve), for a caller that holds a lock, and calls
    /// [`wake_answered`](Core::wake_answered) when it does not any more.
    pub(crate) fn serve_under_lock(self: &Arc<Self>) {
        let ensure_worker = || self.ensure_worker();
        let push = |accepted, (): &()| self.queue.push(accepted);
        let defer_wake = || self.threads.defer();
        let defer: Option<&dyn Fn() -> bool> = self.may_defer_let_in().then_some(&defer_wake);
        let ended = self.admission.serve(ensure_worker, push, defer);
        self.wake_for_queued();
        if ended {
            self.threads.retire_idle(|| self.remaining());
        }
        self.take_from_lead_under_lock(usize::MAX);
    }
}
