//! Schedules as a broker stores them, and what becomes of times that were missed.

/// A job that is enqueued again and again.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// The schedule's name.
    pub name: String,
    /// A cron expression.
    pub cron: String,
    /// The kind of the job, as it is stored.
    pub kind: String,
    /// The data of the job, as JSON.
    pub payload: Vec<u8>,
    /// The next time, in seconds since 1970.
    pub next: i64,
    /// What to do about times that passed while no consumer ran or the queue was paused.
    pub missed: Missed,
}

/// What to do about the times of a schedule that passed while no consumer ran or the queue was paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Missed {
    /// Enqueue one job for all of them.
    #[default]
    Once,
    /// Enqueue one job for each of them.
    All,
    /// Enqueue none; the next one comes at its own time.
    Skip,
}

/// The schedules of a queue, and the time by which they are due.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Schedules {
    /// The seconds since 1970 by the broker's wall clock.
    pub now: i64,
    /// All schedules.
    pub all: Vec<Scheduled>,
}

impl Schedules {
    /// Makes the answer of a broker.
    pub fn new(now: i64, all: Vec<Scheduled>) -> Schedules {
        Schedules { now, all }
    }
}

/// How [`ScheduleStore::fire`](crate::broker::ScheduleStore::fire) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// The job, if there was one, was enqueued, and the next time set.
    Done,
    /// The queue is paused, and nothing was changed.
    Paused,
    /// The schedule has another next time by now, or is gone, and nothing was changed.
    Changed,
}
