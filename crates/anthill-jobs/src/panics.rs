//! What is left of a panic in user code: its message, and a drop that may panic again.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The text of a payload that is a string, as that of `panic!` is.
pub(crate) fn message_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Drops what belongs to a user and catches a panic in it, also during another unwind.
pub(crate) fn drop_quietly<T>(value: T) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(value)));
    let payload_dropped =
        dropped.or_else(|payload| catch_unwind(AssertUnwindSafe(|| drop(payload))));
    if let Err(payload) = payload_dropped {
        // A payload whose own drop panics could go on for ever: it is leaked instead.
        std::mem::forget(payload);
    }
}
