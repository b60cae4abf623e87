//! When a worker is woken or started, and when not.
//!
//! **The wake rule**: whoever makes `places` exceed the number of active workers (by a new task, a raised capacity)
//! wakes or starts one worker, unless one is on its way up; an arriving worker, and one that took a task, looks
//! whether it must do the same. A worker that goes idle says so first and looks for work once more afterwards.
//! docs/design.md has the argument.

pub(crate) mod standby;
pub(crate) mod trust;

use crate::engine::core::Core;
use crate::engine::rescue::RETRY;
use crate::engine::spin;
use crate::engine::threads::{Outlook, ThreadCounts};
use crate::sync::{Arc, Instant, Ordering, deadline_after, fence};
use std::io;

impl Core {
    /// The wake rule, for whoever queued a task.
    pub(crate) fn wake_for_queued(self: &Arc<Self>) {
        // The push before the look at the thread counts; pairs with the fence of a worker's last look. The
        // places are read after the push, too: a task pushed meanwhile may have taken the worker
        // that was woken for this one.
        fence(Ordering::SeqCst);
        let counts = self.threads.counts();
        if counts.may_activate()
            && self.admission.places().held() > self.threads.ready(counts)
            && !self.catches_up(counts)
            && !self.defers(counts)
        {
            self.activate();
        }
    }

    /// The wake rule, for whoever lent a task: it holds no place that would count for it.
    pub(crate) fn wake_for_lent(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        let counts = self.threads.counts();
        if counts.may_activate() && self.admission.places().held() >= self.threads.ready(counts) {
            self.activate();
        }
    }

    /// Whether the workers that are up get to what there is in less time than it takes to wake one
    /// more. It is not worth a look where more than one task too many is queued already.
    fn catches_up(&self, counts: ThreadCounts) -> bool {
        let up = self.threads.ready(counts);
        let held = || self.admission.places().held();
        up > 0
            && (self.config.backlog.is_some() || held() == up + 1)
            && spin::turns_until(self.config.processors.spins(spin::CATCH_UP), || {
                let held = held();
                held <= up && held <= self.threads.ready(self.threads.counts())
            })
    }

    /// The wake rule, for a worker that cannot tell: is there a task that no active worker will take?
    pub(crate) fn wake_more(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        let counts = self.threads.counts();
        if self.needs_more(counts) && !self.defers(counts) {
            self.activate();
        }
        self.tell_awaiting();
    }

    /// The same, at once, for whoever may hold a lock.
    pub(crate) fn wake_more_now(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        if self.needs_more(self.threads.counts()) {
            self.activate();
        }
    }

    fn needs_more(&self, counts: ThreadCounts) -> bool {
        counts.may_activate() && self.demand() > self.threads.ready(counts) && self.queue.has_work()
    }

    /// Who expects something soon may look for it for a moment before it goes to sleep: where more workers are
    /// active than there are processors it would take one from somebody else.
    pub(crate) fn may_spin(&self) -> bool {
        self.config.processors.fit(self.threads.counts().active())
    }

    /// How many workers could be busy: one for each place, and one for what the local queues lend.
    pub(crate) fn demand(&self) -> u64 {
        self.admission.places().held() + u64::from(self.queue.has_lenders())
    }

    #[cold]
    pub(crate) fn activate(self: &Arc<Self>) {
        let activated = self.threads.activate(
            self,
            |counts| self.demand() > self.threads.ready(counts),
            |counts| self.unfinished().saturating_sub(self.threads.ready(counts)),
        );
        // A refusal leaves the task to the workers there are; one lives (C5). But it may be what they wait for.
        if activated.is_err() {
            self.send_rescuer();
        }
    }

    /// C4, C5: sees to it that a worker lives; the caller holds a place.
    pub(crate) fn ensure_worker(self: &Arc<Self>) -> io::Result<()> {
        if self.threads.counts().has_worker() {
            return Ok(());
        }
        self.threads.ensure_worker(self)
    }

    /// For a thread that is about to wait for the pool. Makes up for the wake it may have deferred (Y4), and tries
    /// again to start what the system refused; the answer is when to retry.
    pub(crate) fn rescue(self: &Arc<Self>) -> Option<Instant> {
        if self.is_foreign() {
            return None;
        }
        self.wake_deferred();
        (self.try_again() || self.is_due()).then(|| deadline_after(RETRY))?
    }

    pub(crate) fn outlook(&self) -> Outlook {
        if self.queue.has_work() {
            Outlook::Work
        } else if self.admission.places().held() > 0 {
            Outlook::Held
        } else {
            Outlook::Clear
        }
    }
}
