//! How a command ends: well, with a job missed, or with an error.

use std::error::Error;

/// The result of a command or a part of one; any error ends the program with its text.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

/// How a command ended that did not fail.
pub(crate) enum Ended {
    Done,
    /// A named job does not exist, or is not in a state for the command.
    Missed,
}
