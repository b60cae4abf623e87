//! Jobs and queues as they are stored: the states of a job, its details, lists, and counts.

use crate::id::JobId;
use std::time::Duration;

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// Waits to be claimed.
    Ready,
    /// Is not due yet.
    Delayed,
    /// Waits because as many jobs with its key are ready or running as [`Limits::per_key`](crate::Limits::per_key)
    /// allows.
    Parked,
    /// Is claimed.
    Running,
    /// Failed too often, or for good: a dead letter.
    Dead,
    /// Is done, and its result is kept.
    Done,
}

impl JobState {
    /// All states.
    pub const ALL: [JobState; 6] = [
        JobState::Ready,
        JobState::Delayed,
        JobState::Parked,
        JobState::Running,
        JobState::Dead,
        JobState::Done,
    ];

    /// The states of jobs that wait to be claimed. In the order in which `purge` takes
    /// them: to remove a ready job can make a parked one ready.
    pub const WAITING: [JobState; 3] = [JobState::Parked, JobState::Delayed, JobState::Ready];

    /// The states of jobs that will not run again by themselves.
    pub const TERMINAL: [JobState; 2] = [JobState::Dead, JobState::Done];

    /// Returns the name of the state, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Ready => "ready",
            JobState::Delayed => "delayed",
            JobState::Parked => "parked",
            JobState::Running => "running",
            JobState::Dead => "dead",
            JobState::Done => "done",
        }
    }
}

/// A job as it is stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobInfo {
    /// Its id.
    pub id: JobId,
    /// Its kind, as it is stored.
    pub kind: String,
    /// Its data, as JSON; a [list](crate::Broker::list) may return only the beginning.
    pub payload: Vec<u8>,
    /// The size of its data, in bytes.
    pub payload_size: u64,
    /// Its state.
    pub state: JobState,
    /// Its priority.
    pub priority: i16,
    /// How often it was claimed.
    pub attempt: u32,
    /// How often it may be claimed.
    pub attempts: u32,
    /// Its key, for [`Limits::per_key`](crate::Limits::per_key).
    pub key: Option<String>,
    /// Its unique key, which it holds until it is over.
    pub unique: Option<String>,
    /// The error of its last failed attempt.
    pub error: Option<String>,
    /// The progress that its handler last reported, as JSON.
    pub progress: Option<Vec<u8>>,
    /// Its result, as JSON, if it is done.
    pub result: Option<Vec<u8>>,
    /// How long ago it was enqueued.
    pub age: Duration,
    /// When it will be due, if it is delayed.
    pub due_in: Option<Duration>,
    /// When it will expire, if it waits and has an expiry.
    pub expires_in: Option<Duration>,
    /// How long its result is kept.
    pub keep_result: Option<Duration>,
}

/// Which jobs to list.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ListRequest {
    /// The state of the jobs.
    pub state: JobState,
    /// Lists the jobs behind this one, if it is in that state; otherwise from the first on.
    pub after: Option<JobId>,
    /// The most jobs to list.
    pub limit: usize,
    /// How many bytes of each payload to return. A larger result or progress is left out.
    pub data: usize,
}

impl ListRequest {
    /// Lists all jobs in a state, with all their data.
    pub fn new(state: JobState) -> ListRequest {
        ListRequest {
            state,
            after: None,
            limit: usize::MAX,
            data: usize::MAX,
        }
    }

    /// Lists the jobs behind this one.
    #[must_use]
    pub fn after(self, after: Option<JobId>) -> ListRequest {
        ListRequest { after, ..self }
    }

    /// Lists at most so many jobs.
    #[must_use]
    pub fn limit(self, limit: usize) -> ListRequest {
        ListRequest { limit, ..self }
    }

    /// Returns so many bytes of each payload. A larger result or progress is left out.
    #[must_use]
    pub fn data(self, data: usize) -> ListRequest {
        ListRequest { data, ..self }
    }
}

/// What a queue holds now, and what it has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Jobs that wait to be claimed.
    pub ready: u64,
    /// Jobs that are not due yet.
    pub delayed: u64,
    /// Jobs that wait for room for their key.
    pub parked: u64,
    /// Claimed jobs.
    pub running: u64,
    /// Dead letters.
    pub dead: u64,
    /// Results that are kept.
    pub results: u64,
    /// How long the oldest ready job has been ready.
    pub oldest: Option<Duration>,
    /// Whether the queue is paused: nothing is claimed.
    pub paused: bool,
    /// Since the queue was made: jobs added.
    pub enqueued: u64,
    /// Enqueues that were duplicates.
    pub duplicates: u64,
    /// Jobs done.
    pub done: u64,
    /// Attempts that failed and were, or will be, repeated.
    pub retried: u64,
    /// Jobs that became dead letters.
    pub died: u64,
    /// Leases that ended before their job was settled.
    pub lost_leases: u64,
    /// Jobs that expired.
    pub expired: u64,
    /// Jobs that were cancelled, deleted, purged, or moved to another queue.
    pub removed: u64,
}
