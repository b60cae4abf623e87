//! The one place where the code of a task is called: of a closure, a spawned or scoped task, an item of a map.
//!
//! What must happen around each task (a span, a timer, a limit) belongs here. A panic is caught and returned as the
//! error; the caller decides what becomes of it.

use crate::panic::Payload;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `f`, which is user code.
#[inline]
pub(crate) fn call<R>(f: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(f))
}
