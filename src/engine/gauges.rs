//! What a pool tells of itself: gauges and counters, all 0 for a foreign pool, whose threads are in another process.

use crate::engine::core::Core;
use crate::engine::local::WorkerCounts;
use crate::engine::threads::ThreadTotals;
use crate::stats::Stats;
use crate::sync::Ordering;

/// How many times two counters that move are read, for their difference.
const DIFFERENCES: usize = 8;

impl Core {
    pub(crate) fn workers(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        usize::try_from(self.threads.counts().live()).unwrap_or(usize::MAX)
    }

    pub(crate) fn running(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        let callers = self.callers.load(Ordering::SeqCst);
        count(self.queue.busy()).saturating_add(callers)
    }

    pub(crate) fn lent(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        count(self.threads.lent())
    }

    pub(crate) fn idle(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        let working = self.queue.busy() + self.threads.lent();
        count(self.threads.counts().live().saturating_sub(working))
    }

    /// By the places, where these are the bound: a task stops running a moment before its place is free.
    pub(crate) fn free(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        let in_use = match self.config.backlog {
            Some(_) => self.admission.places().held(),
            None => self.unfinished().saturating_sub(self.threads.lent()),
        };
        self.capacity().saturating_sub(count(in_use))
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
        let gone = || self.started() + self.counts.discarded.get() + self.counts.cancelled.get();
        count(difference(|| self.submitted(), gone))
    }

    /// How many tasks were accepted so far.
    pub(crate) fn submitted(&self) -> u64 {
        self.admission.accepted() + self.queue.sum(|counts| counts.submitted.get())
    }

    /// How many tasks were started so far.
    pub(crate) fn started(&self) -> u64 {
        self.counts.called.get() + self.queue.sum(|counts| counts.started.get())
    }

    /// How many tasks are over.
    pub(crate) fn finished(&self) -> u64 {
        let counts = &self.counts;
        let called = counts.call_completed.get() + counts.call_panicked.get();
        let dropped = counts.discarded.get() + counts.cancelled.get();
        let ran = |counts: &WorkerCounts| counts.completed.get() + counts.panicked.get();
        called + dropped + self.queue.sum(ran)
    }

    /// How many tasks are accepted and not over: never too few.
    pub(crate) fn unfinished(&self) -> u64 {
        difference(|| self.submitted(), || self.finished())
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = &self.counts;
        if self.is_foreign() {
            return Stats {
                rejected: counts.rejected.get(),
                ..Stats::default()
            };
        }
        let sum = |counter: fn(&WorkerCounts) -> u64| self.queue.sum(counter);
        let ThreadTotals { totals, leaving } = self.threads.totals();
        Stats {
            completed: counts.call_completed.get() + sum(|counts| counts.completed.get()),
            panicked: counts.call_panicked.get() + sum(|counts| counts.panicked.get()),
            cancelled: counts.cancelled.get(),
            discarded: counts.discarded.get(),
            rejected: counts.rejected.get(),
            running: self.running(),
            lent: self.lent(),
            queued: self.queued(),
            leaving,
            workers_started: totals.started,
            workers_expired: totals.expired,
            workers_peak: count(totals.peak),
            wakes: totals.wakes,
            steals: sum(|counts| counts.steals.get()),
            hook_panics: counts.hook_panics.get(),
            submitted: self.submitted(),
        }
    }
}

/// How many came and have not gone: never too few, since what has gone is read first. A thread that is held up
/// between the two reads counts all that came through meanwhile; so it reads again.
pub(crate) fn difference(came: impl Fn() -> u64, gone: impl Fn() -> u64) -> u64 {
    let mut before = gone();
    let mut least = u64::MAX;
    for _ in 0..DIFFERENCES {
        least = least.min(came().saturating_sub(before));
        let after = gone();
        if after == before {
            break;
        }
        before = after;
    }
    least
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
