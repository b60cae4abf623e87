//! The options of a consumer that hold for all of its queues and kinds.

use crate::error::QueueError;
use std::time::Duration;

pub(super) type OnError = Box<dyn Fn(&QueueError) + Send + Sync>;

pub(super) struct Options {
    pub(super) lease: Duration,
    pub(super) poll: Duration,
    /// After so many errors in a row, claim nothing for so long.
    pub(super) pause_after: Option<(u32, Duration)>,
    pub(super) on_error: Option<OnError>,
    /// U7: how many runners with overdue jobs may be replaced at once.
    pub(super) replaced: usize,
    /// The largest result or progress, in bytes of JSON.
    pub(super) data_limit: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(200),
            pause_after: None,
            replaced: 16,
            on_error: None,
            data_limit: 1 << 20,
        }
    }
}
