//! What follows when places are given back: the line is served, and the idle workers of a closed pool end.

use crate::engine::admission::FollowUp;
use crate::engine::core::Core;
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
        if next.ended {
            self.threads.retire_idle(|| self.remaining());
        }
    }

    /// Lets in the tasks that wait in line, oldest first, while there is room.
    pub(crate) fn serve(self: &Arc<Self>) {
        let ensure_worker = || self.ensure_worker();
        let push = |accepted, ()| self.queue.push(accepted);
        let defer_wake = || self.threads.defer();
        let defer: Option<&dyn Fn() -> bool> = self.may_defer_let_in().then_some(&defer_wake);
        let ended = self.admission.serve(ensure_worker, push, defer);
        self.wake_for_queued();
        if ended {
            self.threads.retire_idle(|| self.remaining());
        }
        self.take_from_lead(usize::MAX);
    }
}
