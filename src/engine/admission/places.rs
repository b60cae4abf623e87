//! The word `places`: its bits, and what a snapshot of it says.
//!
//! `| holds: 28 | places: 32 | WATCHED | DISCARDING | CLOSED | LINE |`, explained in [`admission`](super).

pub(super) const LINE: u64 = 1;
pub(super) const CLOSED: u64 = 2;
pub(super) const DISCARDING: u64 = 4;
pub(super) const WATCHED: u64 = 8;
pub(super) const PLACE: u64 = 16;
pub(super) const PLACE_BITS: u32 = 32;
pub(super) const HOLD: u64 = PLACE << PLACE_BITS;

/// The most places: a limit that high is no limit, as 2^32 − 1 tasks fill more memory than there is.
pub(super) const MOST_PLACES: u64 = (1 << PLACE_BITS) - 1;

/// A snapshot of the word.
#[derive(Clone, Copy)]
pub(crate) struct Places(pub(super) u64);

impl Places {
    pub(crate) fn held(self) -> u64 {
        (self.0 / PLACE) & MOST_PLACES
    }

    pub(crate) fn has_line(self) -> bool {
        self.0 & LINE != 0
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(crate) fn is_discarding(self) -> bool {
        self.0 & DISCARDING != 0
    }

    pub(crate) fn bars(self, origin: Origin) -> bool {
        self.0 & origin.barred_by() != 0
    }

    /// A1: nothing runs, is queued or waits.
    pub(crate) fn at_rest(self) -> bool {
        self.0 & !(CLOSED | DISCARDING | WATCHED) == 0
    }

    /// A5: a moment of rest that must be counted.
    pub(crate) fn is_uncounted_rest(self) -> bool {
        self.0 & !(CLOSED | DISCARDING) == WATCHED
    }
}

/// Why a task cannot come in right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    NoRoom,
    /// Others wait in line, or a line is just forming or ending: any room is theirs.
    Line,
    Closed,
}

impl Denied {
    /// What a word says that let nobody in whom the flag `barred` bars.
    pub(super) fn by(word: u64, barred: u64) -> Denied {
        if word & barred != 0 {
            Denied::Closed
        } else if word & LINE != 0 {
            Denied::Line
        } else {
            Denied::NoRoom
        }
    }
}

/// Where a task comes from: a submitter outside, or a task of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Outside,
    Inside,
}

impl Origin {
    pub(super) fn barred_by(self) -> u64 {
        match self {
            Origin::Outside => CLOSED,
            Origin::Inside => DISCARDING,
        }
    }
}

const _: () = assert!(LINE | CLOSED | DISCARDING | WATCHED == PLACE - 1);
