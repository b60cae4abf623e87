//! Claims: what a consumer asks for, what it gets, and how it settles a job.

use super::lease::Lease;
use anthill::StopToken;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
    /// How long to wait for a job if there is none: at most [`Maxima::wait`](crate::Maxima::wait), so zero for a broker whose
    /// claims return at once. The wait also ends when a fragile job is next that this request does not allow.
    pub wait: Duration,
    /// Ends the wait, when it is stopped.
    pub stop: Option<StopToken>,
    /// Who claims: the id of the consumer, for [`JobInfo::consumer`](crate::JobInfo::consumer).
    pub consumer: Option<Arc<str>>,
}

impl ClaimRequest {
    /// Asks for up to `limit` jobs of any kind, fragile or not, without a wait.
    pub fn new(limit: usize, lease: Duration) -> ClaimRequest {
        ClaimRequest {
            limit,
            lease,
            kinds: None,
            fragile: true,
            wait: Duration::ZERO,
            stop: None,
            consumer: None,
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

    /// Waits for a job for so long if there is none, or until `stop` is stopped.
    #[must_use]
    pub fn waiting(self, wait: Duration, stop: StopToken) -> ClaimRequest {
        ClaimRequest {
            wait,
            stop: Some(stop),
            ..self
        }
    }

    /// Says who claims.
    #[must_use]
    pub fn by(self, consumer: Arc<str>) -> ClaimRequest {
        ClaimRequest {
            consumer: Some(consumer),
            ..self
        }
    }
}

/// A claimed job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimed {
    /// The right to run and settle it.
    pub lease: Lease,
    /// Its kind, as it is stored.
    pub kind: Cow<'static, str>,
    /// Its data, as JSON.
    pub payload: Vec<u8>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
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

impl Claimed {
    /// Makes a claimed job on its first attempt of many, with no other properties. A broker sets those that it knows.
    pub fn new(lease: Lease, kind: impl Into<Cow<'static, str>>, payload: Vec<u8>) -> Claimed {
        Claimed {
            lease,
            kind: kind.into(),
            payload,
            headers: BTreeMap::new(),
            attempt: 1,
            attempts: u32::MAX,
            waited: Duration::ZERO,
            is_fragile: false,
            is_exclusive: false,
            keeps_result: false,
        }
    }
}

/// What a claim found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Claims {
    /// The claimed jobs, in the order in which to start them.
    pub jobs: Vec<Claimed>,
    /// When to claim again if nothing else happens before: a job will be due, a lease over, or the rate limit allows more.
    pub again_in: Option<Duration>,
    /// Whether the next job is fragile (B9) and was left, because the request allowed none, or others came before it.
    pub fragile_next: bool,
}

impl Claims {
    /// Makes the answer to a claim.
    pub fn new(jobs: Vec<Claimed>, again_in: Option<Duration>) -> Claims {
        Claims {
            jobs,
            again_in,
            fragile_next: false,
        }
    }
}

/// Whether a lease could be extended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extended {
    /// The lease is extended. It is this one from now on: with a new token, if the broker gives one.
    Held(Lease),
    /// The lease is extended, and a request to cancel the job is pending
    /// ([`Admin::cancel_running`](crate::broker::Admin::cancel_running)).
    Cancelled(Lease),
    /// The lease is over, or never was: another consumer runs the job, or it is gone.
    Lost,
}

impl Extended {
    /// Returns the lease, if it is held.
    pub fn held(&self) -> Option<&Lease> {
        match self {
            Extended::Held(lease) | Extended::Cancelled(lease) => Some(lease),
            Extended::Lost => None,
        }
    }
}

/// How a claimed job ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Settle {
    /// The job is done. The result is stored if the job asked for that.
    Done {
        /// The result, as JSON.
        result: Vec<u8>,
    },
    /// The attempt failed. The job is tried again, or becomes a dead letter if it has no attempt left. A job whose
    /// cancellation is requested is removed.
    Retry {
        /// How long to wait before the next attempt.
        delay: Duration,
        /// Why it failed.
        error: String,
    },
    /// The job failed for good, and becomes a dead letter, also if its cancellation is requested: nobody loses the reason.
    Dead {
        /// Why it failed.
        error: String,
    },
    /// The job is handed back, and the attempt does not count: it is ready again in its old place, or after the delay. A job
    /// whose cancellation is requested is removed.
    Release {
        /// How long to wait before the next attempt.
        delay: Duration,
    },
}

/// Whether a settlement was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Settled {
    /// The job has ended as reported.
    Stored,
    /// The lease was not held any more, and the job is not changed.
    Lost,
}

impl Settled {
    /// Returns whether the settlement was stored.
    pub fn is_stored(self) -> bool {
        self == Settled::Stored
    }
}
