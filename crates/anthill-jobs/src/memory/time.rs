//! Times of the broker in memory.

use std::time::Duration;

/// The clocks at the start of a call.
#[derive(Clone, Copy)]
pub(super) struct Now {
    /// The wall clock, which never goes back here (B10).
    pub(super) time: Duration,
    pub(super) steady: Duration,
}

/// At most some 290 years.
pub(super) fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
