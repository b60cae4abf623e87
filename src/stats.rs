//! What a pool counts, and the snapshot of it that users get.

use crate::sync::{CounterU64, Ordering};

/// A snapshot of a pool's counters and gauges, from [`PoolHandle::stats`](crate::PoolHandle::stats).
///
/// At rest `submitted = completed + panicked + cancelled + discarded`, and `running` and `queued` are 0. A snapshot
/// that is taken while tasks run may be off by the tasks that start or end meanwhile. A
/// [`reboot`](crate::PoolHandle::reboot) does not reset the counters.
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
    /// Tasks that the pool dropped before they started: by `release_now`, or to make room.
    pub discarded: u64,
    /// Submissions refused, for any reason.
    pub rejected: u64,
    /// Tasks running now, without those that lend their places.
    pub running: usize,
    /// Tasks that lend their places now, in [`blocking`](crate::blocking()), or wait to have them back.
    pub lent: usize,
    /// Tasks accepted and not started yet.
    pub queued: usize,
    /// Threads that have stopped working but have not ended: their stop hook runs, or their thread-locals are being
    /// dropped. They run no task and count neither in [`workers`](crate::PoolHandle::workers) nor against the
    /// capacity, so their number is limited only by how many workers leave in the time that this takes.
    pub leaving: usize,
    /// Threads started.
    pub workers_started: u64,
    /// Workers that ended because they were idle for the idle timeout.
    pub workers_expired: u64,
    /// The largest number of workers at any one time.
    pub workers_peak: usize,
    /// Idle workers woken for a task.
    pub wakes: u64,
    /// Times a worker stole tasks from another one.
    pub steals: u64,
    /// Panics of hooks and of panic handler factories; those of tasks count in `panicked`.
    pub hook_panics: u64,
}

impl Stats {
    /// The sums for two pools.
    pub(crate) fn plus(self, other: Stats) -> Stats {
        Stats {
            submitted: self.submitted + other.submitted,
            completed: self.completed + other.completed,
            panicked: self.panicked + other.panicked,
            cancelled: self.cancelled + other.cancelled,
            discarded: self.discarded + other.discarded,
            rejected: self.rejected + other.rejected,
            running: self.running + other.running,
            lent: self.lent + other.lent,
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
        // ORDERING: Release: pairs with `get`: whoever sees the end of a task counted sees its beginning counted.
        self.0.fetch_add(amount, Ordering::Release);
    }

    /// Takes back one that was counted too early.
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
    /// Tasks that their submitter ran.
    pub(crate) called: Counter,
    pub(crate) call_completed: Counter,
    pub(crate) call_panicked: Counter,
}
