//! What a pool has counted so far.

use crate::sync::{CounterU64, Ordering};

/// A snapshot of a pool's counters, from [`PoolHandle::stats`](crate::PoolHandle::stats).
///
/// At rest `submitted = completed + panicked + cancelled + discarded`, and `running` and `queued`
/// are 0. Taken while tasks run it may be off by those that come and go meanwhile. The counters go
/// on over a [`reboot`](crate::PoolHandle::reboot).
///
/// ```
/// let pool = anthill::Pool::with_capacity(2);
/// pool.submit(|| {})?;
/// pool.wait_idle();
/// let stats = pool.stats();
/// assert_eq!((stats.submitted, stats.completed, stats.workers_started), (1, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks accepted.
    pub submitted: u64,
    /// Tasks that ran to their end.
    pub completed: u64,
    /// Tasks that panicked.
    pub panicked: u64,
    /// Tasks cancelled before they started.
    pub cancelled: u64,
    /// Tasks the pool dropped before they started: by `release_now`, or to make room.
    pub discarded: u64,
    /// Submissions refused, for whatever reason.
    pub rejected: u64,
    /// Tasks running now.
    pub running: usize,
    /// Tasks accepted and not started yet.
    pub queued: usize,
    /// Threads that are no workers any more but have not ended: their stop hook runs, or their thread-locals
    /// are being dropped. They run no task and do not count in [`workers`](crate::PoolHandle::workers) or
    /// against the capacity, so there are as many as leave in the time that this takes.
    pub leaving: usize,
    /// Threads started.
    pub workers_started: u64,
    /// Workers that ended because they had idled for the idle timeout.
    pub workers_expired: u64,
    /// The most workers there were at once.
    pub workers_peak: usize,
    /// Idle workers woken for a task.
    pub wakes: u64,
    /// Times a worker stole from another one.
    pub steals: u64,
    /// Panics of hooks and of panic handler factories; those of tasks count in `panicked`.
    pub hook_panics: u64,
}

impl Stats {
    /// Of two pools together.
    pub(crate) fn plus(self, other: Stats) -> Stats {
        Stats {
            submitted: self.submitted + other.submitted,
            completed: self.completed + other.completed,
            panicked: self.panicked + other.panicked,
            cancelled: self.cancelled + other.cancelled,
            discarded: self.discarded + other.discarded,
            rejected: self.rejected + other.rejected,
            running: self.running + other.running,
            queued: self.queued + other.queued,
            leaving: self.leaving + other.leaving,
            workers_started: self.workers_started + other.workers_started,
            workers_expired: self.workers_expired + other.workers_expired,
            workers_peak: self.workers_peak + other.workers_peak,
            wakes: self.wakes + other.wakes,
            steals: self.steals + other.steals,
            hook_panics: self.hook_panics + other.hook_panics,
        }
    }
}

/// A counter that any thread may write.
#[derive(Default)]
pub(crate) struct Counter(CounterU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        // ORDERING: Release: with `get`, who sees an end sees the beginning.
        self.0.fetch_add(amount, Ordering::Release);
    }

    /// Takes back what was counted too early.
    pub(crate) fn take_back(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        // ORDERING: Acquire: pairs with `add`.
        self.0.load(Ordering::Acquire)
    }
}

/// What is counted outside the workers.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) rejected: Counter,
    pub(crate) discarded: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) hook_panics: Counter,
    /// Tasks their submitter ran.
    pub(crate) called: Counter,
    pub(crate) call_completed: Counter,
    pub(crate) call_panicked: Counter,
}
