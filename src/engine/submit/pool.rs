//! The pool itself as a target of tasks.

use super::Target;
use crate::engine::admission::{Admission, FollowUp};
use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::task::{Accepted, Task};
use crate::engine::worker::Worker;
use crate::stats::Counts;
use crate::sync::{Arc, AtomicUsize};

impl Target for Core {
    type Dest = ();

    fn dest(self: &Arc<Self>) {}

    fn core(self: &Arc<Self>) -> &Arc<Core> {
        self
    }

    fn admission(&self) -> &Admission {
        &self.admission
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn callers(&self) -> &AtomicUsize {
        &self.callers
    }

    fn is_paused(&self) -> bool {
        self.capacity() == 0
    }

    fn allows_caller_runs(&self) -> bool {
        true
    }

    #[inline]
    fn queue_accepted(self: &Arc<Self>, mut task: Task) {
        let number = self.admission.count_accepted();
        // SAFETY: a task comes here once, within the submit that made it. (Tasks from the line go
        // through `Admission::serve`, which calls `note_place`.) Another holder of its claimable gets it only when that
        // submit returns.
        if !unsafe { task.note_first_place() } {
            return self.leave(1);
        }
        self.queue.push(Accepted::new(number, task));
        self.wake_for_queued();
    }

    /// The wake rule applies once for all of them: the worker that is woken calls the next one (C3).
    fn queue_all_accepted(self: &Arc<Self>, tasks: impl ExactSizeIterator<Item = Task>) {
        let first = self.admission.count_accepted_many(tasks.len() as u64);
        let mut placeless = 0;
        for (number, mut task) in (first..).zip(tasks) {
            // SAFETY: as in `queue_accepted`.
            if unsafe { task.note_first_place() } {
                self.queue.push(Accepted::new(number, task));
            } else {
                placeless += 1;
            }
        }
        if placeless > 0 {
            self.leave(placeless);
        }
        self.wake_for_queued();
    }

    /// L3: pushes to the local queue of this worker, on whose place the task will run. Gives `make` back while a submitter
    /// waits, or while the task of one that waited is still queued.
    #[inline]
    fn push_local<M: FnOnce() -> Task>(self: &Arc<Self>, make: M) -> Result<(), M> {
        // L3: in this order: a task that leaves the line is in the queue first.
        if self.has_any_line() || self.queue.has_waited() {
            return Err(make);
        }
        let mut make = Some(make);
        current::with_worker(self, |worker| worker.push_local(&mut make));
        if let Some(make) = make {
            return Err(make);
        }
        // This worker is busy with the task that submits: another worker may take the new one.
        self.wake_for_lent();
        Ok(())
    }

    fn has_local_tasks(self: &Arc<Self>) -> bool {
        current::with_worker(self, Worker::has_own_tasks) == Some(true)
    }

    fn prefers_local(&self) -> bool {
        self.config.backlog.is_none()
    }

    fn serve(self: &Arc<Self>) {
        Core::serve(self);
    }

    fn follow_up(self: &Arc<Self>, next: FollowUp) {
        Core::follow_up(self, next);
    }

    fn must_join_line(&self) -> bool {
        !self.admission.places().has_line() && self.has_any_line()
    }

    fn has_joined(self: &Arc<Self>) {
        self.ask_members();
    }

    fn take_oldest(self: &Arc<Self>) -> Option<(Task, ())> {
        Some((self.queue.take()?, ()))
    }

    fn has_queued(&self) -> bool {
        self.queue.has_shared()
    }

    /// The captures see the pool as a task does while they are dropped: it is not at rest before they are gone.
    fn discard(self: &Arc<Self>, task: Task, (): ()) {
        self.call(|| task.discard(|| self.counts.discarded.add(1)));
    }

    fn call<T>(self: &Arc<Self>, f: impl FnOnce() -> T) -> T {
        current::call_for(self, f)
    }
}
