//! The checks, by what they are about. Which of them a broker is asked for is in the [table](super::table).

pub(super) mod books;
pub(super) mod bounds;
pub(super) mod calls;
pub(super) mod cancel;
pub(super) mod claims;
pub(super) mod clocks;
pub(super) mod consumers;
pub(super) mod control;
pub(super) mod durable;
pub(super) mod enqueue;
pub(super) mod errors;
pub(super) mod expiry;
pub(super) mod fragile;
pub(super) mod headers;
pub(super) mod kinds;
pub(super) mod leases;
pub(super) mod limits;
pub(super) mod lists;
pub(super) mod maxima;
pub(super) mod misuse;
mod model;
pub(super) mod moves;
mod operations;
pub(super) mod payloads;
pub(super) mod per_key;
pub(super) mod random;
pub(super) mod refusals;
pub(super) mod results;
pub(super) mod retention;
pub(super) mod schedules;
pub(super) mod transactions;
pub(super) mod unique;

/// What each of them uses.
mod prelude {
    pub(super) use crate::broker::{
        Capability, ClaimRequest, Claimed, Claims, Enqueued, Fired, JobInfo, JobState, Lease,
        Limits, ListRequest, Missed, QueueStats, Rate, Scheduled, Settle,
    };
    pub(super) use crate::conformance::bench::{Bench, GRAIN, LEASE, Lab};
    pub(super) use crate::conformance::fixture::Means;
    pub(super) use crate::conformance::wait::{DEADLINE, eventually, receive, within};
    pub(super) use crate::conformance::words::{
        dead, done, held, job, jobs, may_refuse, name, names, ok, release, retry, seconds,
    };
    pub(super) use crate::error::QueueError;
    pub(super) use crate::id::JobId;
    pub(super) use crate::job::{NewJob, OncePer};
    pub(super) use std::time::Duration;

    /// How long many operations on many threads may take.
    pub(super) const MINUTE: Duration = Duration::from_secs(60);
}
