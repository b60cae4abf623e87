//! What a worker leaves in the open: its deques to steal from, its bell, its counters.
//!
//! A local queue is made for a worker and given up with it. Only that worker writes the counters and pushes to the
//! deques; others find both through the queue's list of local queues, under its lock.
//!
//! - D1: A worker gives up its local queue when it is free for good: its deques are empty. It goes free only when
//!   they are, thieves do no more than take, and what its hooks submit does not go to the local queue, since it
//!   holds no place then ([`keep`](super::worker::Worker::keep)).
//! - D2: Its counts are added to those of the local queues before it in the critical section in which it leaves the
//!   list. So each look at the list counts what was counted there once, and no sum goes back by it.

use crate::engine::bell::Bell;
use crate::engine::task::{Accepted, Task};
use crate::sync::deque::{Stealer, Worker};
use crate::sync::{AtomicBool, CounterU64, Ordering};
use crossbeam_utils::CachePadded;

/// A counter with one writer at a time.
#[derive(Default)]
pub(crate) struct OwnCounter(CounterU64);

impl OwnCounter {
    pub(crate) fn add(&self, amount: u64) {
        // ORDERING: Relaxed: one writer. Release: with `get`, who sees an end sees the beginning.
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now + amount, Ordering::Release);
    }

    /// Takes back what was counted too early.
    pub(crate) fn take_back(&self) {
        // ORDERING: as in `add`.
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now - 1, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        // ORDERING: Acquire: pairs with `add`.
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Default)]
pub(crate) struct WorkerCounts {
    pub(crate) submitted: OwnCounter,
    pub(crate) started: OwnCounter,
    pub(crate) completed: OwnCounter,
    pub(crate) panicked: OwnCounter,
    pub(crate) steals: OwnCounter,
}

impl WorkerCounts {
    /// D2: adds what was counted in a local queue that is given up.
    pub(crate) fn add(&self, other: &WorkerCounts) {
        self.submitted.add(other.submitted.get());
        self.started.add(other.started.get());
        self.completed.add(other.completed.get());
        self.panicked.add(other.panicked.get());
        self.steals.add(other.steals.get());
    }
}

/// The two deques of a local queue, owner's side.
pub(crate) struct LocalQueue {
    /// Tasks that tasks of this worker submitted; they hold no place of their own.
    pub(crate) own: Worker<Task>,
    /// A batch from the shared queue; each holds its place.
    pub(crate) batch: Worker<Accepted>,
}

impl LocalQueue {
    pub(crate) fn new() -> LocalQueue {
        LocalQueue {
            own: Worker::new_fifo(),
            batch: Worker::new_fifo(),
        }
    }

    pub(crate) fn stealers(&self) -> Stealers {
        Stealers {
            own: self.own.stealer(),
            batch: self.batch.stealer(),
        }
    }

    pub(crate) fn are_empty(&self) -> bool {
        self.batch.is_empty() && self.own.is_empty()
    }
}

/// The two deques of a local queue, thieves' side.
pub(crate) struct Stealers {
    pub(crate) own: Stealer<Task>,
    pub(crate) batch: Stealer<Accepted>,
}

pub(crate) struct WorkerShared {
    pub(crate) bell: Bell,
    /// The worker has a task, or is about to take one.
    pub(crate) busy: AtomicBool,
    /// The worker is moving tasks from the queue or another local queue to its own.
    pub(crate) reaching: AtomicBool,
    /// The deques may hold something to steal.
    pub(crate) lending: AtomicBool,
    /// Where in the queue's list it is.
    at: CounterU64,
    pub(crate) counts: CachePadded<WorkerCounts>,
}

impl WorkerShared {
    pub(crate) fn new() -> WorkerShared {
        WorkerShared {
            bell: Bell::new(),
            busy: AtomicBool::new(false),
            reaching: AtomicBool::new(false),
            lending: AtomicBool::new(false),
            at: CounterU64::new(0),
            counts: CachePadded::new(WorkerCounts::default()),
        }
    }

    /// Whether there is something to steal.
    pub(crate) fn has_work(&self, Stealers { own, batch }: &Stealers) -> bool {
        self.lending.load(Ordering::SeqCst) && !(own.is_empty() && batch.is_empty())
    }

    /// Where in the queue's list it is; under the list's lock.
    pub(crate) fn at(&self) -> usize {
        // ORDERING: Relaxed, here and below: the lock orders them.
        usize::try_from(self.at.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    pub(crate) fn move_to(&self, at: usize) {
        self.at.store(at as u64, Ordering::Relaxed);
    }
}
