//! Calls to a broker that may panic: a broker can be written by anyone.

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
