//! What a worker leaves in the open: its deques to steal from, its bell, its counters.
//!
//! A desk outlives the worker that sits at it and is taken over by the next one, so that counters
//! go on and no task is lost with a thread. Only the worker at the desk writes the counters.

use super::idle::Bell;
use super::task::{Accepted, Task};
use crate::sync::deque::{Stealer, Worker};
use crate::sync::{AtomicBool, CounterU64, Mutex, Ordering};
use crossbeam_utils::CachePadded;

/// A counter with one writer at a time.
#[derive(Default)]
pub(crate) struct Tally(CounterU64);

impl Tally {
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
pub(crate) struct Tallies {
    pub(crate) submitted: Tally,
    pub(crate) started: Tally,
    pub(crate) completed: Tally,
    pub(crate) panicked: Tally,
    pub(crate) steals: Tally,
}

/// The two deques of a desk, owner's side.
pub(crate) struct Deques {
    /// Tasks that tasks of this worker submitted; they hold no place of their own.
    pub(crate) own: Worker<Task>,
    /// A batch from the shared queue; each holds its place.
    pub(crate) batch: Worker<Accepted>,
}

pub(crate) struct Desk {
    pub(crate) bell: Bell,
    /// The worker has a task, or is about to take one.
    pub(crate) busy: AtomicBool,
    /// The worker is moving tasks from the queue or another desk to its own.
    pub(crate) reaching: AtomicBool,
    /// The deques may hold something to steal.
    pub(crate) lending: AtomicBool,
    pub(crate) own: Stealer<Task>,
    pub(crate) batch: Stealer<Accepted>,
    /// Here while nobody sits at the desk.
    pub(crate) deques: Mutex<Option<Deques>>,
    pub(crate) tallies: CachePadded<Tallies>,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        let deques = Deques {
            own: Worker::new_fifo(),
            batch: Worker::new_fifo(),
        };
        Desk {
            bell: Bell::new(),
            busy: AtomicBool::new(false),
            reaching: AtomicBool::new(false),
            lending: AtomicBool::new(false),
            own: deques.own.stealer(),
            batch: deques.batch.stealer(),
            deques: Mutex::new(Some(deques)),
            tallies: CachePadded::new(Tallies::default()),
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        self.lending.load(Ordering::SeqCst) && !(self.own.is_empty() && self.batch.is_empty())
    }
}
