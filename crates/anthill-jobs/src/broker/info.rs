//! Jobs and queues as they are stored: the states of a job, its details, lists, and counts.

use crate::id::JobId;
use crate::job::ATTEMPTS;
use std::collections::BTreeMap;
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
    /// Is done, and kept: because of its result, or of [`Retention::done`](crate::Retention::done).
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
    /// Its data, as JSON; a [list](crate::broker::Admin::list) may return only the beginning.
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
    /// The errors of its last failed attempts, the newest last; at most [`ERRORS_KEPT`](JobInfo::ERRORS_KEPT), also of a dead
    /// letter and after it is retried. A lost lease is one of them. They are cut ([`AttemptError::LIMIT`]); `error` has the
    /// last one in full.
    pub errors: Vec<AttemptError>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// The consumer that runs it, if it is claimed and the consumer said who it is.
    pub consumer: Option<String>,
    /// Whether it runs and its cancellation is requested.
    pub cancel_requested: bool,
    /// The progress that its handler last reported, as JSON.
    pub progress: Option<Vec<u8>>,
    /// Its result, as JSON, if it is done and asked for that to be kept.
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

impl JobInfo {
    /// How many errors of failed attempts are kept.
    pub const ERRORS_KEPT: usize = 10;

    /// Makes the details of a job of that kind without data, which has just been enqueued. A broker sets those that it knows.
    pub fn new(id: JobId, kind: impl Into<String>, state: JobState) -> JobInfo {
        JobInfo {
            id,
            kind: kind.into(),
            payload: Vec::new(),
            payload_size: 0,
            state,
            priority: 0,
            attempt: 0,
            attempts: ATTEMPTS,
            key: None,
            unique: None,
            error: None,
            errors: Vec::new(),
            headers: BTreeMap::new(),
            consumer: None,
            cancel_requested: false,
            progress: None,
            result: None,
            age: Duration::ZERO,
            due_in: None,
            expires_in: None,
            keep_result: None,
        }
    }
}

/// The error of a failed attempt, or that its lease was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptError {
    /// The number of the attempt. It may occur twice: the attempt of a lost lease can be taken back (B5), and a dead letter
    /// that is retried counts from 1 again.
    pub attempt: u32,
    /// Why it failed.
    pub error: String,
    /// How long ago.
    pub ago: Duration,
}

impl AttemptError {
    /// How many bytes of an error are kept here.
    pub const LIMIT: usize = 1 << 10;

    /// Makes the error of an attempt, and cuts it to [`LIMIT`](AttemptError::LIMIT) bytes.
    pub fn new(attempt: u32, error: impl Into<String>, ago: Duration) -> AttemptError {
        let mut error = error.into();
        error.truncate(AttemptError::cut(&error).len());
        AttemptError {
            attempt,
            error,
            ago,
        }
    }

    /// The part of an error that is kept here.
    pub(crate) fn cut(error: &str) -> &str {
        let ends = (0..=AttemptError::LIMIT).rev();
        // The end of the text is one, too; `get` refuses those within a character.
        let parts = ends.filter_map(|end| error.get(..end.min(error.len())));
        parts.into_iter().next().unwrap_or_default()
    }
}

/// Which jobs to list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListRequest {
    /// The state of the jobs.
    pub state: JobState,
    /// Lists jobs of this kind only, as it is stored.
    pub kind: Option<String>,
    /// Lists only jobs whose last error contains this text.
    pub error: Option<String>,
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
            kind: None,
            error: None,
            after: None,
            limit: usize::MAX,
            data: usize::MAX,
        }
    }

    /// Lists jobs of this kind only.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> ListRequest {
        let kind = Some(kind.into());
        ListRequest { kind, ..self }
    }

    /// Lists only jobs whose last error contains this text.
    #[must_use]
    pub fn error(self, text: impl Into<String>) -> ListRequest {
        let error = Some(text.into());
        ListRequest { error, ..self }
    }

    /// Returns whether a job of that kind and with that last error is to be listed.
    pub fn wants(&self, kind: &str, error: Option<&str>) -> bool {
        let is_kind = self.kind.as_deref().is_none_or(|wanted| wanted == kind);
        let has_error = |text: &str| error.is_some_and(|error| error.contains(text));
        is_kind && self.error.as_deref().is_none_or(has_error)
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
    /// Jobs that are done and kept, with a result or without.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_and_no_character_is() {
        let limit = AttemptError::LIMIT;
        let cut = |error: &str| AttemptError::new(1, error, Duration::ZERO).error;
        for kept in ["", "no", &"x".repeat(limit), &"\u{20ac}".repeat(limit / 3)] {
            assert_eq!(cut(kept), kept);
        }
        assert_eq!(cut(&"x".repeat(limit + 1)), "x".repeat(limit));
        // Three bytes each.
        assert_eq!(cut(&"\u{20ac}".repeat(limit)), "\u{20ac}".repeat(limit / 3));
    }
}
