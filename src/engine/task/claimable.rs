//! A claimable: work that its task shares with others who may take it away first, as a handle does that cancels it,
//! or runs it because it waits for it.
//!
//! - T2: A claimable is claimed once, by its task or by another holder. Whoever claims it runs or abandons it,
//!   gives its place back, and settles it then: each once, and nobody else does. A [`Claim`] is that right, and
//!   what it becomes; a task, which goes from hand to hand once it was claimed, has it in its
//!   [shared task](super::shared). Nothing else calls what is unsafe here.

use crate::engine::task::Outcome;
use crate::engine::task::intrusive_arc::{HasHolders, IntrusiveArc};

pub(crate) type ClaimableRef = IntrusiveArc<dyn Claimable>;

/// # Safety
///
/// T2: of all calls of `claim` in the life of a claimable one at most says `Some`.
pub(crate) unsafe trait Claimable: HasHolders + Send + Sync {
    /// T2: takes the right to run or abandon it.
    fn claim(&self) -> Option<Spot>;
    /// Whether a task of it would be a tombstone.
    fn is_claimed(&self) -> bool;
    /// Notes that its task holds a place from now on; false if the task is a tombstone.
    fn hold_place(&self) -> bool;
    /// As [`hold_place`](Claimable::hold_place), without a look whether it was claimed.
    ///
    /// # Safety
    ///
    /// Nobody has claimed it, and nobody can do so before this returns.
    unsafe fn hold_first_place(&self);
    /// Runs it; catches what it panics with.
    ///
    /// # Safety
    ///
    /// T2: for who claimed it, and neither ran nor abandoned it.
    unsafe fn run(&self) -> Outcome;
    /// Drops it unrun.
    ///
    /// # Safety
    ///
    /// As for `run`.
    unsafe fn abandon(&self, why: Unrun);
    /// It is over, and the pool has all that it held: whoever waits for it may know.
    ///
    /// # Safety
    ///
    /// T2: once, for who ran or abandoned it.
    unsafe fn settle(&self);
}

/// T2: a claimable that was claimed. It never comes to an end if this is only dropped.
#[must_use = "whoever claims a claimable runs or abandons it"]
pub(crate) struct Claim<'a> {
    claimable: &'a dyn Claimable,
    spot: Spot,
}

impl<'a> Claim<'a> {
    /// Claims the claimable, if nobody has.
    #[inline]
    pub(crate) fn take(claimable: &'a dyn Claimable) -> Option<Claim<'a>> {
        let spot = claimable.claim()?;
        Some(Claim { claimable, spot })
    }

    /// Where the claimable was.
    pub(crate) fn spot(&self) -> Spot {
        self.spot
    }

    /// Runs the claimable; catches what it panics with.
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

/// T2: a claimable that was run or abandoned, and whose place is to be given back now.
#[must_use = "whoever waits for the claimable is told when it is settled"]
pub(crate) struct Ended<'a> {
    claimable: &'a dyn Claimable,
}

impl Ended<'_> {
    /// The pool has all that the claimable held: whoever waits for it may know.
    #[inline]
    pub(crate) fn settle(self) {
        // SAFETY: T2: it was run or abandoned for this, which is used up here.
        unsafe { self.claimable.settle() };
    }
}

/// Where a claimable was when it was claimed by another than its task.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// In the shared queue or a batch, with a place.
    Placed,
    /// In line, or in the local queue of a worker.
    Loose,
}

/// Why a claimable does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unrun {
    /// Its user wants it no more.
    Cancelled,
    /// The pool dropped it.
    Discarded,
}
