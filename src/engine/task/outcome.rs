//! How a task ended.

use crate::panic::Payload;

/// How a task ended.
pub(crate) enum Outcome {
    Completed,
    /// The panic handler must be told.
    Panicked(Payload),
    /// The holder of the claimable, or the owner of the closure, has the payload.
    PanicTaken,
    /// It was cancelled before its first step.
    Cancelled,
}
