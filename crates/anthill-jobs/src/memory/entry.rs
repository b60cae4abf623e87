//! A job as the broker in memory keeps it.

use super::consumers::Runner;
use super::index::Rank;
use super::time::Now;
use crate::broker::{AttemptError, JobInfo, JobState};
use crate::id::JobId;
use crate::job::{NewJob, OncePer};
use std::collections::BTreeMap;
use std::time::Duration;

/// One job. It is small, as there may be millions.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each of them may be true or false whatever the others are"
)]
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
    /// Who runs it, if it runs and the consumer said so.
    pub(super) runner: Option<Runner>,
    /// It runs, and is to be cancelled.
    pub(super) is_cancelled: bool,
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
    pub(super) progress: Option<Box<[u8]>>,
    pub(super) result: Option<Box<[u8]>>,
    headers: Option<Box<[(String, String)]>>,
    /// The last failed attempts, the newest last: that one in full, and the others cut.
    errors: Vec<Failed>,
}

/// A failed attempt.
struct Failed {
    attempt: u32,
    error: String,
    at: Duration,
}

pub(super) static NO_EXTRA: Extra = Extra {
    unique: None,
    once_per: None,
    key: None,
    keep_result: None,
    expires: None,
    expires_at: None,
    progress: None,
    result: None,
    headers: None,
    errors: Vec::new(),
};

impl Extra {
    /// The job's headers; without any nothing is allocated.
    pub(super) fn headers(&self) -> BTreeMap<String, String> {
        self.headers.iter().flatten().cloned().collect()
    }

    /// The error of the last failed attempt.
    pub(super) fn error(&self) -> Option<&str> {
        self.errors.last().map(|failed| &*failed.error)
    }

    pub(super) fn errors(&self, now: Now) -> Vec<AttemptError> {
        let of = |failed: &Failed| {
            let ago = now.time.saturating_sub(failed.at);
            AttemptError::new(failed.attempt, AttemptError::cut(&failed.error), ago)
        };
        self.errors.iter().map(of).collect()
    }
}

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
        let mut entry = Entry {
            id: job.id,
            kind,
            payload: job.payload.clone(),
            state: JobState::Ready,
            is_suspect: false,
            is_together: false,
            is_cancelled: false,
            runner: None,
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
        };
        entry.set_headers(&job.headers);
        entry
    }

    pub(super) fn set_headers(&mut self, headers: &BTreeMap<String, String>) {
        if !headers.is_empty() {
            let owned = |(name, text): (&String, &String)| (name.clone(), text.clone());
            self.extra_mut().headers = Some(headers.iter().map(owned).collect());
        } else if let Some(extra) = &mut self.extra {
            extra.headers = None;
        }
    }

    pub(super) fn extra(&self) -> &Extra {
        self.extra.as_deref().unwrap_or(&NO_EXTRA)
    }

    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Notes that the attempt has failed.
    pub(super) fn fail(&mut self, error: String, now: Now) {
        let attempt = self.attempt;
        let errors = &mut self.extra_mut().errors;
        if let Some(last) = errors.last_mut() {
            last.error.truncate(AttemptError::cut(&last.error).len());
            last.error.shrink_to_fit();
        }
        if errors.len() == JobInfo::ERRORS_KEPT {
            errors.remove(0);
        }
        errors.reserve_exact(1);
        errors.push(Failed {
            attempt,
            error,
            at: now.time,
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What few jobs have costs the others nothing.
    #[test]
    fn a_job_is_small() {
        assert!(size_of::<Entry>() <= 152, "{}", size_of::<Entry>());
        assert!(size_of::<Extra>() <= 208, "{}", size_of::<Extra>());
    }
}
