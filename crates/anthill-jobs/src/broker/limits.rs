//! Limits of a queue that hold over all processes, and how long it keeps what is over.

use std::time::Duration;

/// Limits of a queue, for all its consumers and producers in all processes together. `None` is no limit.
///
/// ```
/// use anthill_jobs::{Limits, Queue, Rate};
/// use std::time::Duration;
///
/// let queue = Queue::memory();
/// queue.set_limits(Limits {
///     running: Some(8),
///     per_key: Some(1),
///     rate: Some(Rate { jobs: 10, per: Duration::from_secs(1), burst: 5 }),
///     ..Limits::default()
/// })?;
/// # Ok::<(), anthill_jobs::QueueError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many jobs run at once.
    pub running: Option<u32>,
    /// How many jobs with the same [`key`](crate::NewJob::key) run at once.
    pub per_key: Option<u32>,
    /// How many jobs start within a period.
    pub rate: Option<Rate>,
    /// How many jobs may be ready or parked. An enqueue that would exceed it is refused as a whole with
    /// [`QueueError::Full`](crate::QueueError::Full). Delayed jobs, retries and scheduled jobs are not refused.
    pub max_ready: Option<u64>,
}

/// A rate limit: jobs per period, with a burst. Starts are spread evenly over the period, except that up to `burst` jobs
/// may start at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many jobs start in each period; at least 1.
    pub jobs: u32,
    /// The period.
    pub per: Duration,
    /// How many jobs may start at once; at least 1.
    pub burst: u32,
}

/// For how long a queue keeps jobs that are over. Older ones are removed, some at a time, by later operations, and not
/// counted as removed. A change counts for jobs that are over already, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// How long a job that is done is kept, with its result if it asked for that; at least as long as
    /// [`keep_result`](crate::NewJob::keep_result). So long its id is taken (B2). `None` keeps only jobs that have a result to
    /// keep.
    pub done: Option<Duration>,
    /// How long a dead letter is kept. `None` keeps it until somebody removes it.
    pub dead: Option<Duration>,
}

impl Retention {
    /// Keeps jobs that are done for so long.
    #[must_use]
    pub fn done(self, time: Duration) -> Retention {
        let done = Some(time);
        Retention { done, ..self }
    }

    /// Keeps dead letters for so long.
    #[must_use]
    pub fn dead(self, time: Duration) -> Retention {
        let dead = Some(time);
        Retention { dead, ..self }
    }
}
