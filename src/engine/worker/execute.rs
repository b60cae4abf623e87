//! How a worker calls the code of users: its task, its hooks, its panic handler.

use super::Worker;
use crate::engine::config::Hooks;
use crate::engine::task::claimable::Placement;
use crate::engine::task::{Outcome, Task};
use crate::panic::{Payload, TaskPanic, drop_quietly};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Worker {
    /// Runs a task that this worker took, and gives its place back when it is over.
    pub(super) fn execute(&self, task: &mut Task) {
        self.shared.counts.started.add(1);
        task.run(|outcome| {
            self.record(outcome);
            self.finish();
        });
    }

    /// Runs a task within the running one, on its place.
    pub(crate) fn run_nested(&self, placement: Option<Placement>, run: impl FnOnce() -> Outcome) {
        if placement == Some(Placement::Unplaced) {
            self.tombstones.set(self.tombstones.get() + 1);
        }
        self.shared.counts.started.add(1);
        self.record(run());
    }

    /// Counts the end of a task, and tells of its panic.
    pub(super) fn record(&self, outcome: Outcome) {
        let counts = &self.shared.counts;
        match outcome {
            Outcome::Completed => return counts.completed.add(1),
            Outcome::Panicked(payload) => self.tell(payload),
            Outcome::PanicTaken => {}
            Outcome::Cancelled => {
                self.core.counts.cancelled.add(1);
                return counts.started.take_back();
            }
        }
        // Counted last: until its panic is told it may need another worker.
        counts.panicked.add(1);
    }

    /// Tells the panic handler of the worker, or that of the pool.
    pub(crate) fn tell(&self, payload: Payload) {
        let panic = TaskPanic::new(Some(self.id), payload);
        // The worker's handler is passed over if it is running (a task of its own panicked within it).
        let mut handler = self.handler.try_borrow_mut().ok();
        let own = handler.as_mut().and_then(|own| own.as_mut());
        self.core.config.hooks.panics.tell(own, panic);
    }

    /// Makes the panic handler of this worker, and calls its start hook.
    pub(super) fn call_start_hooks(&self, hooks: &Hooks) {
        let handler = self.guard_hook(|| hooks.panics.for_worker(self.id));
        *self.handler.borrow_mut() = handler.flatten();
        if let Some(hook) = &hooks.on_start {
            self.guard_hook(|| hook(self.id));
        }
    }

    /// Calls a hook, and counts its panic (L5).
    pub(super) fn guard_hook<T>(&self, hook: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(hook)) {
            Ok(value) => Some(value),
            Err(payload) => {
                self.core.counts.hook_panics.add(1);
                drop_quietly(payload);
                None
            }
        }
    }
}
