//! A job as it is kept.

use super::store::{Now, Rank};
use crate::broker::JobState;
use crate::job::{JobId, NewJob, OncePer};
use std::time::Duration;

/// Small, as there may be millions.
pub(super) struct Entry {
    pub(super) id: JobId,
    /// The number of its kind.
    pub(super) kind: u32,
    pub(super) payload: Vec<u8>,
    pub(super) state: JobState,
    /// It lost a lease, and has not told since how an attempt ended (B9).
    pub(super) is_suspect: bool,
    /// The newest claim of it was one of several jobs (B5).
    pub(super) is_together: bool,
    /// It is delayed, and in its old place when it is due.
    pub(super) keeps_place: bool,
    pub(super) priority: i16,
    pub(super) rank: Rank,
    /// Its place among those of its priority.
    pub(super) order: u64,
    pub(super) attempt: u32,
    pub(super) attempts: u32,
    pub(super) claims: u64,
    pub(super) enqueued: Duration,
    pub(super) ready_since: Duration,
    pub(super) due: Duration,
    pub(super) more: Option<Box<More>>,
}

/// What most jobs do not have.
#[derive(Default)]
pub(super) struct More {
    pub(super) unique: Option<String>,
    pub(super) once_per: Option<OncePer>,
    pub(super) key: Option<String>,
    pub(super) keep_result: Option<Duration>,
    pub(super) expires: Option<Duration>,
    /// When, while it may.
    pub(super) expires_at: Option<Duration>,
    pub(super) error: Option<String>,
    pub(super) progress: Option<Vec<u8>>,
    pub(super) result: Option<Vec<u8>>,
}

pub(super) static NO_MORE: More = More {
    unique: None,
    once_per: None,
    key: None,
    keep_result: None,
    expires: None,
    expires_at: None,
    error: None,
    progress: None,
    result: None,
};

impl Entry {
    pub(super) fn new(job: &NewJob, kind: u32, order: u64, now: Now) -> Entry {
        let more = More {
            unique: job.unique.clone(),
            once_per: job.once_per.clone(),
            key: job.key.clone(),
            keep_result: job.keep_result,
            expires: job.expires,
            ..More::default()
        };
        let has_more = more.unique.is_some()
            || more.once_per.is_some()
            || more.key.is_some()
            || more.keep_result.is_some()
            || job.expires.is_some();
        Entry {
            id: job.id,
            kind,
            payload: job.payload.clone(),
            state: JobState::Ready,
            is_suspect: false,
            is_together: false,
            keeps_place: false,
            priority: job.priority,
            rank: (0, 0),
            order,
            attempt: 0,
            attempts: job.attempts,
            claims: 0,
            enqueued: now.time,
            ready_since: now.time,
            due: now.time.saturating_add(job.delay),
            more: has_more.then(|| Box::new(more)),
        }
    }

    pub(super) fn more(&self) -> &More {
        self.more.as_deref().unwrap_or(&NO_MORE)
    }

    pub(super) fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// It is claimed by itself (B9).
    pub(super) fn is_fragile(&self) -> bool {
        self.is_suspect || self.attempt.saturating_add(1) >= self.attempts
    }

    /// Its place among the ready, or parked.
    pub(super) fn turn(&self) -> Rank {
        (-i64::from(self.priority), self.order)
    }
}
