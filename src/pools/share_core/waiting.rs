//! Those who wait for a share: submitters in line, tasks of the pool that help, callers that wait for rest; and the
//! sub-queues that lack a permit.
//!
//! - N3: Helpers are tasks of the pool that wait for tasks of the share, and run them if there is a slot. They are
//!   woken when a slot or a place is given back, and when a task comes in; each registers before it looks once more.
//! - N4: Whoever ends the pool waits until its shares are at rest, too: a submitter that took a place here before the
//!   share was closed may still have to send its permit, for which it does not hold the pool yet. Whoever ends the pool
//!   looks at the pool first, under the threads' lock, without which no worker is started. A share that comes to rest
//!   while it is closed makes that thread look again.

use super::{ShareCore, SubQueue};
use crate::engine::admission::FollowUp;
use crate::engine::current;
use crate::sync::{
    Arc, Instant, Thread, current as this_thread, is_past, lock, park_until, sooner,
};

impl ShareCore {
    /// What follows when places are given back.
    pub(super) fn follow_up(self: &Arc<Self>, next: FollowUp) {
        if next.serve {
            self.serve();
        }
        self.has_ended(next.ended);
        self.wake_helpers();
    }

    /// N4: makes whoever ends the pool look again.
    pub(super) fn has_ended(&self, ended: bool) {
        if ended {
            self.core.threads.nudge();
        }
    }

    /// Admits submitters from the line while there is room.
    pub(super) fn serve(self: &Arc<Self>) {
        if !self.admission.places().has_line() {
            return;
        }
        // As in S6: a submitter that is admitted may look at the pool before there is a permit.
        self.core.admission.hold();
        let mut served: Vec<Arc<SubQueue>> = Vec::new();
        let ensure_worker = || self.core.ensure_worker();
        let push = |accepted, sub_queue: &Arc<SubQueue>| {
            sub_queue.push(accepted);
            let is_last = |last: &Arc<SubQueue>| Arc::ptr_eq(last, sub_queue);
            if !served.last().is_some_and(is_last) {
                served.push(Arc::clone(sub_queue));
            }
        };
        let ended = self.admission.serve(ensure_worker, push, None);
        served.iter().for_each(SubQueue::rebalance);
        self.core.follow_up(self.core.admission.unhold());
        self.has_ended(ended);
    }

    /// Brings the line and the permits to what bounds and slots allow.
    pub(super) fn rebalance(self: &Arc<Self>) {
        self.serve();
        self.sub_queues().iter().for_each(SubQueue::rebalance);
        self.wake_helpers();
    }

    /// N3: registers this thread, which will wait, to be woken.
    pub(super) fn will_help(&self) {
        lock(&self.helpers).push(this_thread());
    }

    pub(super) fn wake_helpers(&self) {
        let helpers = std::mem::take(&mut *lock(&self.helpers));
        helpers.iter().for_each(Thread::unpark);
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.admission.places().at_rest()
    }

    /// Waits until the share is at rest; false if `deadline` passes first. In a task of the pool it runs the tasks that
    /// may run.
    pub(crate) fn wait_idle(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if self.is_foreign() {
            return true;
        }
        if !current::may_help(&self.core) {
            return self.admission.wait_for_rest(deadline, || self.rescue());
        }
        loop {
            if self.is_at_rest() {
                return true;
            }
            if self.sub_queues().iter().any(SubQueue::help_with_next) {
                if self.is_foreign() {
                    // The task that it ran forked.
                    return true;
                }
                continue;
            }
            self.will_help();
            if self.is_at_rest()
                || self
                    .sub_queues()
                    .iter()
                    .any(|sub_queue| sub_queue.may_help())
            {
                continue;
            }
            if is_past(deadline) {
                return false;
            }
            park_until(sooner(self.rescue(), deadline));
        }
    }

    /// If threads were refused, whoever waits tries again. Returns when to do so next.
    pub(crate) fn rescue(self: &Arc<Self>) -> Option<Instant> {
        if self.is_foreign() {
            return None;
        }
        self.core.prepare_to_block()
    }

    /// S6: a sub-queue could not send a permit, since the system refused a thread. It comes with a hold of the pool.
    pub(super) fn lacks_permit(self: &Arc<Self>, sub_queue: &Arc<SubQueue>) {
        self.core.shares.count_lacking();
        self.lack(sub_queue);
        // Those who wait already must try again from now on.
        self.admission.nudge();
        self.core.admission.nudge();
        self.core.threads.nudge();
        self.core.send_rescuer();
    }

    /// Keeps a sub-queue that lacks a permit, with its hold, or gives the hold back if the sub-queue is kept already.
    pub(super) fn lack(self: &Arc<Self>, sub_queue: &Arc<SubQueue>) {
        {
            let mut lacking = lock(&self.lacking);
            if !lacking.iter().any(|other| Arc::ptr_eq(other, sub_queue)) {
                lacking.push(Arc::clone(sub_queue));
                return;
            }
        }
        self.lacks_no_more();
    }

    pub(super) fn lacks_no_more(&self) {
        self.core.shares.uncount_lacking();
        self.core.follow_up(self.core.admission.unhold());
    }
}
