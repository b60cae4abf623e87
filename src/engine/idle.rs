//! The stack of idle workers, and the bell of each.
//!
//! The worker that went idle last is on top and is woken first; the one at the bottom has idled
//! longest, expires first and is the first to be retired. So cold workers go cold.
//!
//! - I1: A worker is on the stack exactly while its bell is `Silent`; both change together, under
//!   the crew's lock. Whoever takes it off rings: the waker and the sleeper never both claim it.
//! - I2: A bell is rung after the lock is released, so that the woken worker does not run into it.

use crate::sync::{AtomicU32, Instant, Ordering, Thread, is_past, park_until};
use std::collections::VecDeque;

/// Where in the crew a worker sits.
pub(crate) type Seat = usize;

#[derive(Default)]
pub(crate) struct IdleStack {
    seats: VecDeque<Seat>,
}

impl IdleStack {
    pub(crate) fn push(&mut self, seat: Seat) {
        self.seats.push_back(seat);
    }

    pub(crate) fn pop_newest(&mut self) -> Option<Seat> {
        self.seats.pop_back()
    }

    /// Steals from the bottom.
    pub(crate) fn steal_oldest(&mut self) -> Option<Seat> {
        self.seats.pop_front()
    }

    /// Takes out a given worker, for its expiry or because it saw work; false if it was claimed.
    pub(crate) fn remove(&mut self, seat: Seat) -> bool {
        // An expiring worker is near the bottom, one that takes its last look near the top.
        let at = if self.seats.back() == Some(&seat) {
            Some(self.seats.len() - 1)
        } else {
            self.seats.iter().position(|other| *other == seat)
        };
        at.is_some_and(|at| self.seats.remove(at).is_some())
    }
}

const SILENT: u32 = 0;
const WORK: u32 = 1;
const RETIRE: u32 = 2;

/// What an idle worker was woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    Work,
    Retire,
}

/// What an idle worker sleeps on.
pub(crate) struct Bell(AtomicU32);

impl Bell {
    pub(crate) fn new() -> Bell {
        Bell(AtomicU32::new(WORK))
    }

    /// Before the worker goes on the stack.
    pub(crate) fn silence(&self) {
        // ORDERING: Relaxed: the crew's lock publishes it to the ringer.
        self.0.store(SILENT, Ordering::Relaxed);
    }

    pub(crate) fn ring(&self, ring: Ring, sleeper: &Thread) {
        let ring = match ring {
            Ring::Work => WORK,
            Ring::Retire => RETIRE,
        };
        // ORDERING: Relaxed: it says no more than what for. Who hears it looks for work, and does so
        // once more behind a fence before it sleeps again.
        self.0.store(ring, Ordering::Relaxed);
        sleeper.unpark();
    }

    fn heard(&self) -> Option<Ring> {
        // ORDERING: Relaxed: as in `ring`.
        match self.0.load(Ordering::Relaxed) {
            SILENT => None,
            WORK => Some(Ring::Work),
            _ => Some(Ring::Retire),
        }
    }

    /// Sleeps until the bell rings; `None` if `deadline` passed first (it may still ring).
    pub(crate) fn sleep(&self, deadline: Option<Instant>) -> Option<Ring> {
        loop {
            if let Some(ring) = self.heard() {
                return Some(ring);
            }
            if is_past(deadline) {
                return None;
            }
            park_until(deadline);
        }
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn newest_is_woken_first_and_oldest_leaves_first() {
        let mut idle = IdleStack::default();
        (0..5).for_each(|seat| idle.push(seat));
        assert_eq!((idle.pop_newest(), idle.steal_oldest()), (Some(4), Some(0)));
        assert!(idle.remove(2));
        assert!(!idle.remove(2), "claimed before");
        assert!(idle.remove(3), "the one on top");
        assert_eq!((idle.pop_newest(), idle.pop_newest()), (Some(1), None));
    }
}
