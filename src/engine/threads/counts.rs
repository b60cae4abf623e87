//! The word that counts the threads of a pool: its bits, and what a snapshot of it says.
//!
//! `| capacity: 19 | live: 19 | active: 19 | STARTING | DEFERRED | STANDBY | UNSURE | CLOSED | DISCARDING | WAKING
//! |`, explained in [`threads`](super).

pub(super) const WAKING: u64 = 1;
pub(super) const DISCARDING: u64 = 2;
pub(super) const CLOSED: u64 = 4;
pub(super) const UNSURE: u64 = 8;
pub(super) const STANDBY: u64 = 16;
pub(super) const DEFERRED: u64 = 32;
pub(super) const STARTING: u64 = 64;
pub(super) const FIELD_BITS: u32 = 19;
pub(super) const ACTIVE: u64 = 128;
pub(super) const LIVE: u64 = ACTIVE << FIELD_BITS;
pub(super) const CAPACITY: u64 = LIVE << FIELD_BITS;
pub(super) const FIELD: u64 = (1 << FIELD_BITS) - 1;

/// A snapshot of the thread counts.
#[derive(Clone, Copy)]
pub(crate) struct ThreadCounts(pub(super) u64);

impl ThreadCounts {
    pub(crate) fn capacity(self) -> u64 {
        (self.0 / CAPACITY) & FIELD
    }

    pub(crate) fn live(self) -> u64 {
        (self.0 / LIVE) & FIELD
    }

    pub(crate) fn active(self) -> u64 {
        (self.0 / ACTIVE) & FIELD
    }

    /// C2: an active worker may take a task.
    pub(crate) fn permits(self) -> bool {
        self.active() <= self.capacity()
    }

    /// C2, C3: one more worker may be made active.
    pub(crate) fn may_activate(self) -> bool {
        self.0 & WAKING == 0 && self.active() < self.capacity()
    }

    /// C4, C5: a worker lives, and the system has not refused its thread.
    pub(crate) fn has_worker(self) -> bool {
        self.live() > 0 && self.0 & UNSURE == 0
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(crate) fn is_discarding(self) -> bool {
        self.0 & DISCARDING != 0
    }

    /// C4: a thread is being started, which the system may still refuse.
    pub(crate) fn is_starting(self) -> bool {
        self.0 & STARTING != 0
    }

    /// Y1: a worker is on standby.
    pub(crate) fn has_standby(self) -> bool {
        self.0 & STANDBY != 0
    }
}
