//! A job: work that its task shares with others who may take it away first, as a handle does that cancels it,
//! or runs it because it waits for it.
//!
//! - T2: A job is claimed once, by its task or by another holder. Whoever claims it runs or abandons it,
//!   gives its place back, and settles it then: each once, and nobody else does. A [`Claim`] is that right, and
//!   what it becomes; a task, which goes from hand to hand once it was claimed, has it in its
//!   [ticket](super::ticket). Nothing else calls what is unsafe here.

use super::counted::{Counted, HasHolders};
use super::task::Outcome;

pub(crate) type JobRef = Counted<dyn Job>;

/// # Safety
///
/// T2: of all calls of `claim` in the life of a job one at most says `Some`.
pub(crate) unsafe trait Job: HasHolders + Send + Sync {
    /// T2: takes the right to run or abandon it.
    fn claim(&self) -> Option<Spot>;
    /// Whether a task of it would be a shell.
    fn is_claimed(&self) -> bool;
    /// Notes that its task holds a place from now on; false if the task is a shell.
    fn hold_place(&self) -> bool;
    /// As [`hold_place`](Job::hold_place), without a look whether it was claimed.
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

/// T2: a job that was claimed. It never comes to an end if this is only dropped.
#[must_use = "whoever claims a job runs or abandons it"]
pub(crate) struct Claim<'a> {
    job: &'a dyn Job,
    spot: Spot,
}

impl<'a> Claim<'a> {
    /// Claims the job, if nobody has.
    #[inline]
    pub(crate) fn take(job: &'a dyn Job) -> Option<Claim<'a>> {
        let spot = job.claim()?;
        Some(Claim { job, spot })
    }

    /// Where the job was.
    pub(crate) fn spot(&self) -> Spot {
        self.spot
    }

    /// Runs the job; catches what it panics with.
    #[inline]
    pub(crate) fn run(self) -> (Outcome, Ended<'a>) {
        let Claim { job, .. } = self;
        // SAFETY: T2: it was claimed for this, which is used up here.
        let outcome = unsafe { job.run() };
        (outcome, Ended { job })
    }

    /// Drops the job unrun.
    pub(crate) fn abandon(self, why: Unrun) -> Ended<'a> {
        let Claim { job, .. } = self;
        // SAFETY: T2: as above.
        unsafe { job.abandon(why) };
        Ended { job }
    }
}

/// T2: a job that was run or abandoned, and whose place is to be given back now.
#[must_use = "whoever waits for the job is told when it is settled"]
pub(crate) struct Ended<'a> {
    job: &'a dyn Job,
}

impl Ended<'_> {
    /// The pool has all that the job held: whoever waits for it may know.
    #[inline]
    pub(crate) fn settle(self) {
        // SAFETY: T2: it was run or abandoned for this, which is used up here.
        unsafe { self.job.settle() };
    }
}

/// Where a job was when it was claimed by another than its task.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// In the shared queue or a batch, with a place.
    Placed,
    /// In line, or at the desk of a worker.
    Loose,
}

/// Why a job does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unrun {
    /// Its user wants it no more.
    Cancelled,
    /// The pool dropped it.
    Discarded,
}
