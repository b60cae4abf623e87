//! A job: work that its task shares with others who may take it away first, as a handle does that cancels it,
//! or runs it because it waits for it.
//!
//! - T2: A job is claimed once, by its task or by another holder. Whoever claims it runs or abandons it,
//!   and is the one to give its place back.

use super::counted::{Counted, HasHolders};
use super::task::Outcome;

pub(crate) type JobRef = Counted<dyn Job>;

pub(crate) trait Job: HasHolders + Send + Sync {
    /// T2: takes the right to run or abandon it.
    fn claim(&self) -> Option<Spot>;
    /// Whether a task of it would be a shell.
    fn is_claimed(&self) -> bool;
    /// Notes that its task holds a place from now on; false if the task is a shell.
    fn hold_place(&self) -> bool;
    /// As [`hold_place`](Job::hold_place), where nobody else can have claimed it yet.
    fn hold_first_place(&self);
    /// Runs it, for who claimed it; catches what it panics with.
    fn run(&self) -> Outcome;
    /// It is over, and the pool has all that it held: whoever waits for it may know. Once, by who claimed it.
    fn settle(&self);
    /// Drops it unrun, for who claimed it and settles it then.
    fn abandon(&self, why: Unrun);
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
