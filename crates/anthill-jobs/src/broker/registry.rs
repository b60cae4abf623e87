//! Consumers as others see them.

use std::time::Duration;

/// A live consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// Its id: the one in [`JobInfo::consumer`](crate::JobInfo::consumer) of the jobs that it runs.
    pub id: String,
    /// The kinds that it has handlers for, as they are stored.
    pub kinds: Vec<String>,
    /// How many jobs it may run at once.
    pub workers: u32,
    /// How many jobs it has claimed and not settled.
    pub running: u32,
    /// How long ago it was started.
    pub age: Duration,
    /// How long ago it last said so.
    pub seen: Duration,
}

impl ConsumerInfo {
    /// Makes the details of a consumer.
    pub fn new(id: impl Into<String>, kinds: Vec<String>, workers: u32) -> ConsumerInfo {
        ConsumerInfo {
            id: id.into(),
            kinds,
            workers,
            running: 0,
            age: Duration::ZERO,
            seen: Duration::ZERO,
        }
    }
}
