//! The parts of a broker that it may have beside the core: for operators, limits, schedules, and the list of consumers. Each
//! method that a broker does not implement refuses with [`Unsupported`](QueueError::Unsupported).

use super::Broker;
use super::capabilities::Capability;
use super::info::{JobInfo, JobState, ListRequest, QueueStats};
use super::limits::{Limits, Retention};
use super::registry::ConsumerInfo;
use super::schedule::{Fired, Scheduled, Schedules};
use crate::error::QueueError;
use crate::id::JobId;
use crate::job::NewJob;
use std::time::Duration;

/// Looks at the jobs of a queue, and changes them by hand.
///
/// # Errors
///
/// As [`Broker`]; [`Unsupported`](QueueError::Unsupported) by default.
#[allow(clippy::missing_errors_doc, reason = "they all fail alike")]
pub trait Admin: Broker {
    /// Returns a job, if there is one with that id ([`Capability::ById`]).
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        let _ = id;
        refuse(self, Capability::ById)
    }

    /// Returns jobs in a state: ready and parked ones in the order of B6, delayed ones by when they are due, dead ones by when
    /// they died ([`Capability::List`]).
    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        let _ = request;
        refuse(self, Capability::List)
    }

    /// Returns what the queue holds and has counted; approximately, without [`Capability::ExactCounts`].
    fn stats(&self) -> Result<QueueStats, QueueError> {
        refuse(self, Capability::ExactCounts)
    }

    /// Returns the kinds of the ready jobs, in no particular order ([`Capability::List`]).
    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        refuse(self, Capability::List)
    }

    /// Removes a job that waits. Returns whether there was one ([`Capability::ById`]).
    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        let _ = id;
        refuse(self, Capability::ById)
    }

    /// Requests to cancel a job that runs. Returns whether there was one ([`Capability::CancelRunning`]).
    ///
    /// [`extend`](Broker::extend) tells its consumer. If the attempt then fails, is handed back, or loses its lease, the job is
    /// removed; if it succeeds it is done.
    fn cancel_running(&self, id: JobId) -> Result<bool, QueueError> {
        let _ = id;
        refuse(self, Capability::CancelRunning)
    }

    /// Makes waiting jobs due `delay` from now, or ready if that is zero. Returns for each whether it waited
    /// ([`Capability::ById`]).
    ///
    /// A job that was ready or parked is in its old place when it is due again; one that was delayed counts as enqueued
    /// when it is due (B6). [`Limits::max_ready`] does not apply.
    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        let _ = (ids, delay);
        refuse(self, Capability::ById)
    }

    /// Removes those of the jobs that wait or are dead and still have the given kind and data. Returns for each whether it
    /// was removed ([`Capability::ById`]).
    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        let _ = jobs;
        refuse(self, Capability::ById)
    }

    /// Makes a dead job ready again, with all its attempts. Returns whether it did: there was one, and no other job has its
    /// unique key ([`Capability::ById`]).
    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        let _ = id;
        refuse(self, Capability::ById)
    }

    /// Removes a job that is dead or done. Returns whether there was one ([`Capability::ById`]).
    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        let _ = id;
        refuse(self, Capability::ById)
    }

    /// Removes all jobs in these states, of which none may be `Running`. Returns how many ([`Capability::Purge`]).
    ///
    /// Jobs that are added after the start of the call are left, so it ends beside producers.
    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        let _ = states;
        refuse(self, Capability::Purge)
    }

    /// Pauses the queue, or ends the pause. While it is paused nothing is claimed ([`Capability::Pause`]).
    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        let _ = paused;
        refuse(self, Capability::Pause)
    }

    /// Sets for how long the queue keeps what is over ([`Capability::Retention`]).
    fn set_retention(&self, retention: Retention) -> Result<(), QueueError> {
        let _ = retention;
        refuse(self, Capability::Retention)
    }

    /// Returns for how long the queue keeps what is over ([`Capability::Retention`]).
    fn retention(&self) -> Result<Retention, QueueError> {
        refuse(self, Capability::Retention)
    }
}

/// Stores the limits of a queue, of which each has a capability of its own. A queue sets none that its broker lacks.
///
/// # Errors
///
/// As [`Broker`].
#[allow(clippy::missing_errors_doc, reason = "they all fail alike")]
pub trait LimitStore: Broker {
    /// Sets all limits of the queue.
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError>;

    /// Returns the limits of the queue.
    fn limits(&self) -> Result<Limits, QueueError>;
}

/// Stores the schedules of a queue ([`Capability::Schedules`]). Consumers fire them.
///
/// # Errors
///
/// As [`Broker`].
#[allow(clippy::missing_errors_doc, reason = "they all fail alike")]
pub trait ScheduleStore: Broker {
    /// Returns all schedules, and the time.
    fn schedules(&self) -> Result<Schedules, QueueError>;

    /// Returns the seconds since 1970 by the broker's wall clock, if they can be had without asking a server. A consumer
    /// then notices at once when that clock is set.
    fn clock(&self) -> Option<i64> {
        None
    }

    /// Stores a schedule, in place of one with the same name. If the expression is unchanged, the earlier of the two next
    /// times is kept.
    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError>;

    /// Removes a schedule. Returns whether there was one.
    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError>;

    /// If the stored next time is still `schedule.next` and the queue is not paused: enqueues `job`, if any, and stores
    /// `next`. So of several consumers one fires it.
    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError>;
}

/// Keeps the list of live consumers ([`Capability::Consumers`]).
///
/// # Errors
///
/// As [`Broker`].
#[allow(clippy::missing_errors_doc, reason = "they all fail alike")]
pub trait ConsumerRegistry: Broker {
    /// Stores a consumer, in place of one with the same id, until it is withdrawn or `time` is over. `age` counts from now;
    /// `seen` does not matter. Listeners are not told.
    fn announce(&self, consumer: &ConsumerInfo, time: Duration) -> Result<(), QueueError>;

    /// Removes a consumer, if there is one with that id. What it runs goes on.
    fn withdraw(&self, id: &str) -> Result<(), QueueError>;

    /// Returns all live consumers, by their ids.
    fn consumers(&self) -> Result<Vec<ConsumerInfo>, QueueError>;
}

fn refuse<T>(broker: &(impl Broker + ?Sized), capability: Capability) -> Result<T, QueueError> {
    Err(broker.capabilities().unsupported(capability.what()))
}
