//! A claimable: work that other holders than its queued task may take away first, as a handle does that cancels it,
//! or that runs it because it waits for it.
//!
//! - T2: A claimable is claimed once, by its task or by another holder. The holder that claimed it runs or abandons
//!   it, gives its place back, and settles it then: each once, and no other holder does. A [`Claim`] is that right,
//!   and what it becomes. A task, which goes from thread to thread after it was claimed, has that right in its
//!   [shared task](super::shared). Nothing else calls what is unsafe here.

use crate::engine::task::intrusive_arc::{HasHolders, IntrusiveArc};
use crate::engine::task::outcome::Outcome;

pub(crate) type ClaimableRef = IntrusiveArc<dyn Claimable>;

/// # Safety
///
/// T2: of all calls of `claim` in the life of a claimable at most one returns `Some`.
pub(crate) unsafe trait Claimable: HasHolders + Send + Sync {
    /// T2: takes the right to run or abandon it.
    fn claim(&self) -> Option<Placement>;
    /// Whether a task of it would be a tombstone.
    fn is_claimed(&self) -> bool;
    /// Notes that its task holds a place from now on; false if the task is a tombstone.
    fn note_place(&self) -> bool;
    /// The same as [`note_place`](Claimable::note_place), without a look whether it was claimed.
    ///
    /// # Safety
    ///
    /// No holder has claimed it, and none can do so before this returns.
    unsafe fn note_first_place(&self);
    /// Runs it; catches its panic.
    ///
    /// # Safety
    ///
    /// T2: the caller has claimed it, and has neither run nor abandoned it.
    unsafe fn run(&self) -> Outcome;
    /// Drops it unrun.
    ///
    /// # Safety
    ///
    /// As for `run`.
    unsafe fn abandon(&self, why: Unrun);
    /// It is over, and the pool has its place back: tells those that wait for it.
    ///
    /// # Safety
    ///
    /// T2: once, and the caller has run or abandoned it.
    unsafe fn settle(&self);
}

/// T2: the right to run or abandon a claimable. If this is only dropped, the claimable never comes to an end.
#[must_use = "whoever claims a claimable runs or abandons it"]
pub(crate) struct Claim<'a> {
    claimable: &'a dyn Claimable,
    placement: Placement,
}

impl<'a> Claim<'a> {
    /// Claims the claimable, unless another holder has.
    #[inline]
    pub(crate) fn take(claimable: &'a dyn Claimable) -> Option<Claim<'a>> {
        let placement = claimable.claim()?;
        Some(Claim {
            claimable,
            placement,
        })
    }

    /// Whether its task held a place when it was claimed.
    pub(crate) fn placement(&self) -> Placement {
        self.placement
    }

    /// Runs the claimable; catches its panic.
    #[inline]
    pub(crate) fn run(self) -> (Outcome, Ended<'a>) {
        let Claim { claimable, .. } = self;
        // SAFETY: T2: it was claimed for this, which is used up here.
        let outcome = unsafe { claimable.run() };
        (outcome, Ended { claimable })
    }

    /// Drops the claimable unrun.
    pub(crate) fn abandon(self, why: Unrun) -> Ended<'a> {
        let Claim { claimable, .. } = self;
        // SAFETY: T2: as above.
        unsafe { claimable.abandon(why) };
        Ended { claimable }
    }
}

/// T2: a claimable that was run or abandoned. Its place must be given back now, before it is settled.
#[must_use = "whoever waits for the claimable is told when it is settled"]
pub(crate) struct Ended<'a> {
    claimable: &'a dyn Claimable,
}

impl Ended<'_> {
    /// Tells those that wait for the claimable: the pool has its place back.
    #[inline]
    pub(crate) fn settle(self) {
        // SAFETY: T2: it was run or abandoned for this, which is used up here.
        unsafe { self.claimable.settle() };
    }
}

/// Whether the task of a claimable held a place when another holder claimed it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// It did, in the shared queue or a batch.
    Placed,
    /// It did not, in line or in the local queue of a worker.
    Unplaced,
}

/// Why a claimable does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unrun {
    /// Its holder wants it no more.
    Cancelled,
    /// The pool dropped it.
    Discarded,
}
