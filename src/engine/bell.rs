//! What an idle worker sleeps on.
//!
//! - I1: A worker is on the [idle stack](super::threads::idle) exactly while its bell is silent, but for one
//!   whose task waits for its place (LE3 of [`lend`](super::lend)); both change together, under the lock of the threads. The thread that takes it off the stack rings: the waker and the sleeper
//!   never both claim it.
//! - I2: A bell is rung after the lock is released, so that the woken worker does not run into it.

use crate::sync::{AtomicU32, Instant, Ordering, Thread, is_past, park_until};
use once_cell::sync::OnceCell;

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
pub(crate) struct Bell {
    rung: AtomicU32,
    sleeper: OnceCell<Thread>,
}

impl Bell {
    pub(crate) fn new() -> Bell {
        Bell {
            rung: AtomicU32::new(WORK),
            sleeper: OnceCell::new(),
        }
    }

    /// Silences the bell of the worker whose thread this is, before it goes on the stack.
    pub(crate) fn silence(&self, this: impl FnOnce() -> Thread) {
        self.sleeper.get_or_init(this);
        // ORDERING: Relaxed: the threads' lock publishes it to the thread that rings.
        self.rung.store(SILENT, Ordering::Relaxed);
    }

    /// Rings the bell of a worker that was taken off the stack (I2).
    pub(crate) fn ring(&self, ring: Ring) {
        let ring = match ring {
            Ring::Work => WORK,
            Ring::Retire => RETIRE,
        };
        // ORDERING: Relaxed: it says no more than what for. The worker that hears it looks for work, and does so once
        // more behind a fence before it sleeps again.
        self.rung.store(ring, Ordering::Relaxed);
        if let Some(sleeper) = self.sleeper.get() {
            sleeper.unpark();
        }
    }

    fn heard(&self) -> Option<Ring> {
        // ORDERING: Relaxed: as in `ring`.
        match self.rung.load(Ordering::Relaxed) {
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
