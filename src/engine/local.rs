//! What a worker shows the others: its deques to steal from, its bell, its flags and its counters.
//!
//! A local queue is made for a worker and given up with it. Only that worker writes the counters and pushes to the
//! deques; other threads find both through the queue's list of local queues, under its lock.
//!
//! - D1: A worker gives up its local queue when it is free for good: its deques are empty. It goes free only when
//!   they are, thieves only take, and what its hooks submit does not go to the local queue, since the worker holds no
//!   place then ([`push_local`](super::worker::Worker::push_local)).
//! - D2: The counts of a worker are added to those of the workers before it in the critical section in which it
//!   leaves the list. So each look at the list counts once what was counted there, and no sum decreases by it.
//! - D3: A deque has room for 64 tasks from the start, which a worker at rest would keep for nothing. So there is one
//!   for batches only where workers take batches (Q1), and one for the worker's own tasks only from its first push or
//!   steal on. It is in the list, for thieves, before a task is in it.

use crate::engine::bell::Bell;
use crate::engine::task::{Accepted, Task};
use crate::sync::deque::{Stealer, Worker};
use crate::sync::{AtomicBool, CounterU64, Ordering};
use crossbeam_utils::CachePadded;
use std::cell::OnceCell;

/// A counter with one writer at a time.
#[derive(Default)]
pub(crate) struct OwnCounter(CounterU64);

impl OwnCounter {
    pub(crate) fn add(&self, amount: u64) {
        // ORDERING: Relaxed: one writer. Release: with `get`, a thread that sees an end sees the beginning.
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

/// What a worker counts.
#[derive(Default)]
pub(crate) struct WorkerCounts {
    pub(crate) submitted: OwnCounter,
    pub(crate) started: OwnCounter,
    pub(crate) completed: OwnCounter,
    pub(crate) panicked: OwnCounter,
    pub(crate) steals: OwnCounter,
}

impl WorkerCounts {
    /// D2: adds what a worker counted that leaves.
    pub(crate) fn add(&self, other: &WorkerCounts) {
        self.submitted.add(other.submitted.get());
        self.started.add(other.started.get());
        self.completed.add(other.completed.get());
        self.panicked.add(other.panicked.get());
        self.steals.add(other.steals.get());
    }
}

/// The two deques of a local queue, the worker's side (D3).
pub(crate) struct LocalQueue {
    /// Tasks that tasks of this worker submitted; they hold no place of their own.
    pub(crate) own: OnceCell<Worker<Task>>,
    /// A batch from the shared queue; each holds its place.
    pub(crate) batch: Option<Worker<Accepted>>,
}

impl LocalQueue {
    pub(crate) fn new(takes_batches: bool) -> LocalQueue {
        LocalQueue {
            own: OnceCell::new(),
            batch: takes_batches.then(Worker::new_fifo),
        }
    }

    pub(crate) fn stealers(&self) -> Stealers {
        Stealers {
            own: self.own.get().map(Worker::stealer),
            batch: self.batch.as_ref().map(Worker::stealer),
        }
    }

    #[inline]
    pub(crate) fn has_own(&self) -> bool {
        self.own.get().is_some_and(|own| !own.is_empty())
    }

    #[inline]
    pub(crate) fn has_batched(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| !batch.is_empty())
    }

    pub(crate) fn are_empty(&self) -> bool {
        !self.has_batched() && !self.has_own()
    }

    #[inline]
    pub(crate) fn pop_own(&self) -> Option<Task> {
        self.own.get()?.pop()
    }

    #[inline]
    pub(crate) fn pop_batched(&self) -> Option<Accepted> {
        self.batch.as_ref()?.pop()
    }
}

/// The two deques of a local queue, the thieves' side (D3).
pub(crate) struct Stealers {
    pub(crate) own: Option<Stealer<Task>>,
    pub(crate) batch: Option<Stealer<Accepted>>,
}

/// What a worker shows the others.
pub(crate) struct WorkerShared {
    pub(crate) bell: Bell,
    /// The worker has a task, or is about to take one (L1).
    pub(crate) busy: AtomicBool,
    /// The worker moves tasks from the queue or another local queue to its own, or back (L6).
    pub(crate) moving: AtomicBool,
    /// Q3: the deques may hold something to steal.
    pub(crate) lending: AtomicBool,
    /// The place of its task is lent (LE1); written under the lock of the threads.
    pub(crate) lent: AtomicBool,
    /// Its index in the queue's list.
    at: CounterU64,
    pub(crate) counts: CachePadded<WorkerCounts>,
}

impl WorkerShared {
    pub(crate) fn new() -> WorkerShared {
        WorkerShared {
            bell: Bell::new(),
            busy: AtomicBool::new(false),
            moving: AtomicBool::new(false),
            lending: AtomicBool::new(false),
            lent: AtomicBool::new(false),
            at: CounterU64::new(0),
            counts: CachePadded::new(WorkerCounts::default()),
        }
    }

    /// Whether there is something to steal.
    pub(crate) fn has_work(&self, Stealers { own, batch }: &Stealers) -> bool {
        self.lending.load(Ordering::SeqCst)
            && (own.as_ref().is_some_and(|own| !own.is_empty())
                || batch.as_ref().is_some_and(|batch| !batch.is_empty()))
    }

    /// Its index in the queue's list; under the list's lock.
    pub(crate) fn at(&self) -> usize {
        // ORDERING: Relaxed, here and below: the lock orders them.
        usize::try_from(self.at.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    pub(crate) fn move_to(&self, at: usize) {
        self.at.store(at as u64, Ordering::Relaxed);
    }
}
