//! When a worker is woken or started, and when not.
//!
//! **The wake rule**: a thread that makes `places` exceed the number of active workers (by a new task, by a raised
//! capacity) wakes or starts one worker, unless one is on its way up. A worker that arrives, and a worker that took a
//! task, looks whether it must do the same. A worker that goes idle says so first and looks for work once more
//! afterwards. docs/design.md has the argument that no task is left behind.

pub(crate) mod crowd;
pub(crate) mod standby;
pub(crate) mod trust;

use crate::engine::core::Core;
use crate::engine::spin;
use crate::engine::threads::{Remaining, ThreadCounts};
use crate::sync::{Arc, Ordering, fence};
use std::io;

impl Core {
    /// The wake rule, for a thread that queued a task.
    pub(crate) fn wake_for_queued(self: &Arc<Self>) {
        // The push comes before the look at the thread counts; pairs with the fence of a worker's last look. The
        // places are read after the push, too: a task pushed meanwhile may have taken the worker
        // that was woken for this one.
        fence(Ordering::SeqCst);
        let counts = self.threads.counts();
        if counts.may_activate()
            && self.admission.places().held() > self.threads.ready(counts)
            && !self.catches_up(counts)
            && !self.try_defer(counts)
        {
            self.activate();
        }
    }

    /// The wake rule, for a worker that lent a task, which holds no place that would count for it.
    pub(crate) fn wake_for_lent(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        let counts = self.threads.counts();
        if counts.may_activate() && self.admission.places().held() >= self.threads.ready(counts) {
            self.activate();
        }
    }

    /// Whether the workers that are up take what is queued in less time than it takes to wake one more. Where the
    /// queue holds more than one task too many already, it does not look for that.
    fn catches_up(&self, counts: ThreadCounts) -> bool {
        let up = self.threads.ready(counts);
        let held = || self.admission.places().held();
        up > 0
            && !self.takes_turns()
            && (self.config.backlog.is_some() || held() == up + 1)
            && spin::turns_until(self.config.processors.spins(spin::CATCH_UP), || {
                let held = held();
                held <= up && held <= self.threads.ready(self.threads.counts())
            })
    }

    /// The wake rule, for a worker that cannot know: is there a task that no active worker will take?
    pub(crate) fn wake_more(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        let counts = self.threads.counts();
        if self.needs_more(counts) && !self.try_defer(counts) {
            self.activate();
        }
        self.notify_awaiting();
    }

    /// The same without deferring, for a thread that may hold a lock.
    pub(crate) fn wake_more_now(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        if self.needs_more(self.threads.counts()) {
            self.activate();
        }
    }

    /// Whether there is a task, and fewer workers than could be busy.
    fn needs_more(&self, counts: ThreadCounts) -> bool {
        counts.may_activate() && self.demand() > self.threads.ready(counts) && self.queue.has_work()
    }

    /// Whether a thread may spin for what it expects soon: not while more workers are active than there are
    /// processors, since it would take a processor from one of them.
    pub(crate) fn may_spin(&self) -> bool {
        self.config.processors.fit(self.threads.counts().active())
    }

    /// How many workers could be busy: one for each place, and one for what the local queues lend.
    pub(crate) fn demand(&self) -> u64 {
        self.admission.places().held() + u64::from(self.queue.has_lenders())
    }

    /// Wakes or starts one worker, if the look under the lock of the threads still shows that one is needed.
    #[cold]
    pub(crate) fn activate(self: &Arc<Self>) {
        let activated = self.threads.activate(
            self,
            |counts| self.demand() > self.threads.ready(counts),
            |counts| {
                let up = self.threads.ready(counts) + self.threads.lent();
                self.unfinished().saturating_sub(up)
            },
        );
        // The task is left to the workers that live, of which there is one (C5). But it may be what they wait for.
        if activated.is_err() {
            self.send_rescuer();
        }
    }

    /// C4: makes sure that a worker lives. A held place keeps it alive (C5).
    pub(crate) fn ensure_worker(self: &Arc<Self>) -> io::Result<()> {
        if self.threads.counts().has_worker() {
            return Ok(());
        }
        self.threads.ensure_worker(self)
    }

    /// What is left for a worker that is about to leave.
    pub(crate) fn remaining(&self) -> Remaining {
        if self.queue.has_work() {
            Remaining::Work
        } else if self.admission.places().held() > 0 {
            Remaining::Held
        } else {
            Remaining::Nothing
        }
    }
}
