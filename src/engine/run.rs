//! The one place where the code of a task is called: a closure, a spawned or scoped task, an item of a map.
//!
//! What is to hold around each task (a span, a timer, a limit) belongs here. A panic is caught, and its payload is the
//! error: what becomes of it is for who asked for the task to say.

use crate::panic::Payload;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `f`, which is a user's.
#[inline]
pub(crate) fn call<R>(f: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(f))
}
