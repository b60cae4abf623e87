//! What a share counts of its tasks, and what it reports.

use super::ShareCore;
use crate::engine::gauges::difference;
use crate::engine::task::Outcome;
use crate::stats::Stats;
use crate::sync::{Arc, Ordering};

impl ShareCore {
    /// A task starts.
    pub(super) fn begin(&self) {
        self.started.add(1);
        self.running.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts the end of a task, and calls the panic handler if it panicked. The returned outcome is for the pool,
    /// which has nobody left to tell.
    pub(super) fn end(self: &Arc<Self>, outcome: Outcome) -> Outcome {
        let ended = match outcome {
            Outcome::Completed => {
                self.completed.add(1);
                Outcome::Completed
            }
            Outcome::Cancelled => {
                self.counts.cancelled.add(1);
                self.started.take_back();
                Outcome::Cancelled
            }
            Outcome::Panicked(payload) => {
                self.core.tell_panic_here(payload);
                self.panicked.add(1);
                Outcome::PanicTaken
            }
            Outcome::PanicTaken => {
                self.panicked.add(1);
                Outcome::PanicTaken
            }
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        ended
    }

    pub(crate) fn running(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        self.running.load(Ordering::SeqCst) + self.callers.load(Ordering::SeqCst)
    }

    pub(crate) fn waiting(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        self.admission.waiting()
    }

    pub(crate) fn queued(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        let counts = &self.counts;
        let gone = || {
            let run = self.started.get() + counts.called.get();
            run + counts.discarded.get() + counts.cancelled.get()
        };
        let queued = difference(|| self.admission.accepted(), gone);
        usize::try_from(queued).unwrap_or(usize::MAX)
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = &self.counts;
        if self.is_foreign() {
            return Stats {
                rejected: counts.rejected.get(),
                ..Stats::default()
            };
        }
        Stats {
            completed: self.completed.get() + counts.call_completed.get(),
            panicked: self.panicked.get() + counts.call_panicked.get(),
            cancelled: counts.cancelled.get(),
            discarded: counts.discarded.get(),
            rejected: counts.rejected.get(),
            running: self.running(),
            queued: self.queued(),
            submitted: self.admission.accepted(),
            ..Stats::default()
        }
    }
}
