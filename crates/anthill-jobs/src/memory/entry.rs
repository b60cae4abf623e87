//! A job as the broker in memory keeps it.

use super::index::Rank;
use super::time::Now;
use crate::broker::JobState;
use crate::id::JobId;
use crate::job::{NewJob, OncePer};
use std::time::Duration;

/// One job. It is small, as there may be millions.
pub(super) struct Entry {
    pub(super) id: JobId,
    /// The number of its kind.
    pub(super) kind: u32,
    pub(super) payload: Vec<u8>,
    pub(super) state: JobState,
    /// It has lost a lease, and no attempt since has reported its end (B9).
    pub(super) is_suspect: bool,
    /// It was last claimed together with others (B5).
    pub(super) is_together: bool,
    /// It is delayed, and goes to its old place when it is due.
    pub(super) keeps_place: bool,
    pub(super) priority: i16,
    pub(super) rank: Rank,
    /// Its place among the jobs of its priority.
    pub(super) order: u64,
    pub(super) attempt: u32,
    pub(super) attempts: u32,
    pub(super) claims: u64,
    pub(super) enqueued: Duration,
    pub(super) ready_since: Duration,
    pub(super) due: Duration,
    pub(super) extra: Option<Box<Extra>>,
}

/// What most jobs lack.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) unique: Option<String>,
    pub(super) once_per: Option<OncePer>,
    pub(super) key: Option<String>,
    pub(super) keep_result: Option<Duration>,
    pub(super) expires: Option<Duration>,
    /// When it expires, while it waits.
    pub(super) expires_at: Option<Duration>,
    pub(super) error: Option<String>,
    pub(super) progress: Option<Vec<u8>>,
    pub(super) result: Option<Vec<u8>>,
}

pub(super) static NO_EXTRA: Extra = Extra {
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
        let extra = Extra {
            unique: job.unique.clone(),
            once_per: job.once_per.clone(),
            key: job.key.clone(),
            keep_result: job.keep_result,
            expires: job.expires,
            ..Extra::default()
        };
        let has_extra = extra.unique.is_some()
            || extra.once_per.is_some()
            || extra.key.is_some()
            || extra.keep_result.is_some()
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
            extra: has_extra.then(|| Box::new(extra)),
        }
    }

    pub(super) fn extra(&self) -> &Extra {
        self.extra.as_deref().unwrap_or(&NO_EXTRA)
    }

    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Whether it is claimed alone (B9).
    pub(super) fn is_fragile(&self) -> bool {
        self.is_suspect || self.attempt.saturating_add(1) >= self.attempts
    }

    /// Its rank among ready or parked jobs.
    pub(super) fn turn(&self) -> Rank {
        (-i64::from(self.priority), self.order)
    }
}
