//! Claims and leases: what a consumer asks for, what it gets, and how it settles a job.

use crate::id::JobId;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// The right to run a job and to settle it (B3, B4). It is the fencing token of one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The id of the job.
    pub id: JobId,
    /// Where the broker stores the job, if it needs that.
    pub place: i64,
    /// The number of this claim of the job; each claim has a higher one.
    pub claim: u64,
}

/// What a consumer asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// The most jobs to claim.
    pub limit: usize,
    /// How long the lease of each job lasts, from the claim on.
    pub lease: Duration,
    /// The kinds to claim; `None` is any kind.
    pub kinds: Option<Arc<[String]>>,
    /// Whether the claim may return a fragile job: one that is on its last attempt, or has lost a lease, and is therefore
    /// claimed alone (B9).
    pub fragile: bool,
}

impl ClaimRequest {
    /// Asks for up to `limit` jobs of any kind, fragile or not.
    pub fn new(limit: usize, lease: Duration) -> ClaimRequest {
        ClaimRequest {
            limit,
            lease,
            kinds: None,
            fragile: true,
        }
    }

    /// Asks for jobs of these kinds only.
    #[must_use]
    pub fn of_kinds(self, kinds: Arc<[String]>) -> ClaimRequest {
        ClaimRequest {
            kinds: Some(kinds),
            ..self
        }
    }

    /// Asks for no fragile job (B9).
    #[must_use]
    pub fn not_fragile(self) -> ClaimRequest {
        ClaimRequest {
            fragile: false,
            ..self
        }
    }
}

/// A claimed job.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The right to run and settle it.
    pub lease: Lease,
    /// Its kind, as it is stored.
    pub kind: Cow<'static, str>,
    /// Its data, as JSON.
    pub payload: Vec<u8>,
    /// The number of this attempt, from 1 on.
    pub attempt: u32,
    /// How many attempts it may have.
    pub attempts: u32,
    /// How long it was ready before it was claimed.
    pub waited: Duration,
    /// Whether it is fragile: on its last attempt, or after a lost lease. It was claimed alone, so that a crash of another
    /// job cannot cost it that attempt (B9).
    pub is_fragile: bool,
    /// Whether it has a unique key, or a key that has a limit: no other job may run beside it.
    pub is_exclusive: bool,
    /// Whether its result is kept.
    pub keeps_result: bool,
}

/// What a claim found.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// The claimed jobs, in the order in which to start them.
    pub jobs: Vec<Claimed>,
    /// When to claim again if nothing else happens before: a job will be due, a lease over, or the rate limit allows more.
    pub again_in: Option<Duration>,
    /// Whether the next job is fragile (B9) and was left, because the request allowed none, or others came before it.
    pub fragile_next: bool,
}

/// How a claimed job ends.
#[derive(Clone, Debug)]
pub enum Settle {
    /// The job is done. The result is stored if the job asked for that.
    Done {
        /// The result, as JSON.
        result: Vec<u8>,
    },
    /// The attempt failed. The job is tried again, or becomes a dead letter if it has no attempt left.
    Retry {
        /// How long to wait before the next attempt.
        delay: Duration,
        /// Why it failed.
        error: String,
    },
    /// The job failed for good, and becomes a dead letter.
    Dead {
        /// Why it failed.
        error: String,
    },
    /// The job is handed back, and the attempt does not count: it is ready again in its old place, or after the delay.
    Release {
        /// How long to wait before the next attempt.
        delay: Duration,
    },
}
