//! A worker calls the code of users: its task, its hooks, its panic handler.

use super::Worker;
use crate::engine::config::Hooks;
use crate::engine::task::claimable::Spot;
use crate::engine::task::{Outcome, Task};
use crate::panic::{Payload, TaskPanic, drop_quietly};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Worker {
    pub(super) fn execute(&self, task: &mut Task) {
        self.shared.counts.started.add(1);
        task.run(|outcome| {
            self.record(outcome);
            self.finish();
        });
    }

    /// Runs a task within the one that runs, on its place.
    pub(crate) fn run_within(&self, spot: Option<Spot>, run: impl FnOnce() -> Outcome) {
        if spot == Some(Spot::Loose) {
            self.tombstones.set(self.tombstones.get() + 1);
        }
        self.shared.counts.started.add(1);
        self.record(run());
    }

    pub(crate) fn is_seated(&self) -> bool {
        self.local.borrow().is_some()
    }

    pub(crate) fn holds_place(&self) -> bool {
        self.held.get() > 0
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
        // Over only now: until then it may need another worker.
        counts.panicked.add(1);
    }

    /// Tells the worker's panic handler, or the pool's.
    pub(crate) fn tell(&self, payload: Payload) {
        let panic = TaskPanic::new(Some(self.id), payload);
        // A handler that is running already (its own task panicked within it) is passed over.
        let mut handler = self.handler.try_borrow_mut().ok();
        let own = handler.as_mut().and_then(|own| own.as_mut());
        self.core.config.hooks.panics.tell(own, panic);
    }

    pub(super) fn greet(&self, hooks: &Hooks) {
        let handler = self.guard_hook(|| hooks.panics.for_worker(self.id));
        *self.handler.borrow_mut() = handler.flatten();
        if let Some(hook) = &hooks.on_start {
            self.guard_hook(|| hook(self.id));
        }
    }

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
