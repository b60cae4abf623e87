//! Calls to a broker that may panic, or answer for some of what it was asked: a broker can be written by anyone.

use crate::error::QueueError;
use crate::panics::drop_quietly;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Makes a panic of a broker an error.
pub(super) fn guard<T>(call: impl FnOnce() -> Result<T, QueueError>) -> Result<T, QueueError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        drop_quietly(payload);
        Err(QueueError::Broker("it panicked".into()))
    })
}

/// Makes an answer that is not one for each an error: what it says of whom is not known.
pub(super) fn for_each<T>(
    asked: usize,
    answers: Result<Vec<T>, QueueError>,
) -> Result<Vec<T>, QueueError> {
    let answers = answers?;
    if answers.len() == asked {
        return Ok(answers);
    }
    let why = format!("it gave {} answers to {asked} questions", answers.len());
    Err(QueueError::Broker(why.into()))
}
