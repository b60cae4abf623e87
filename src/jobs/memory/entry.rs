//! A job as it is kept.

use super::store::{Now, Rank};
use crate::jobs::broker::JobState;
use crate::jobs::job::{JobId, NewJob, Unique};
use std::borrow::Cow;
use std::time::Duration;

/// Small, as there may be millions.
pub(super) struct Entry {
    pub(super) id: JobId,
    pub(super) kind: Cow<'static, str>,
    pub(super) payload: Vec<u8>,
    pub(super) state: JobState,
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
    pub(super) unique: Option<Unique>,
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
    key: None,
    keep_result: None,
    expires: None,
    expires_at: None,
    error: None,
    progress: None,
    result: None,
};

impl Entry {
    pub(super) fn new(job: &NewJob, order: u64, now: Now) -> Entry {
        let more = More {
            unique: job.unique.clone(),
            key: job.key.clone(),
            keep_result: job.keep_result,
            expires: job.expires,
            ..More::default()
        };
        let has_more = more.unique.is_some()
            || more.key.is_some()
            || more.keep_result.is_some()
            || job.expires.is_some();
        Entry {
            id: job.id,
            kind: job.kind.clone(),
            payload: job.payload.clone(),
            state: JobState::Ready,
            priority: job.priority,
            rank: (0, 0),
            order,
            attempt: 0,
            attempts: job.attempts,
            claims: 0,
            enqueued: now.wall,
            ready_since: now.wall,
            due: now.wall.saturating_add(job.delay),
            more: has_more.then(|| Box::new(more)),
        }
    }

    pub(super) fn more(&self) -> &More {
        self.more.as_deref().unwrap_or(&NO_MORE)
    }

    pub(super) fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }
}
