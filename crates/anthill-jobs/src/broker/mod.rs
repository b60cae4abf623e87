//! The trait that every broker implements: where the jobs of a queue are stored, and the rules B1–B10 that hold for all
//! of them. One conformance suite (`tests/brokers.rs`) holds every broker to these rules.
//!
//! The data that the trait speaks is in files of its own: [`enqueued`], [`claim`], [`limits`], [`info`], [`schedule`],
//! [`capabilities`].

mod capabilities;
mod claim;
mod enqueued;
mod info;
mod limits;
mod schedule;

pub use capabilities::Capabilities;
pub use claim::{ClaimRequest, Claimed, Claims, Lease, Settle};
pub use enqueued::Enqueued;
pub use info::{JobInfo, JobState, ListRequest, QueueStats};
pub use limits::{Limits, Rate};
pub use schedule::{Fired, Missed, Scheduled};

use crate::error::QueueError;
use crate::id::JobId;
use crate::job::NewJob;
use std::time::Duration;

/// Stores the jobs of one queue. All durations count from the call, by the broker's clock.
///
/// Most programs use a [`Queue`](crate::Queue); this trait is for brokers, and for what the queue does not expose.
///
/// # The rules
///
/// ```text
///               enqueue                claim               settle: done
///  (delay) ──► DELAYED ──due──► READY ───────► RUNNING ──────────────────► done (its result is kept, or nothing)
///                 ▲               ▲  ◄──────────┤ │ lease over, or released
///                 │               │   its key   │ ├──────── settle: dead, no attempt left ──► DEAD
///                 │               └── PARKED ◄──┘ │                                            │
///                 └────────────── settle: retry ──┘        retry_dead ──► READY ◄──────────────┘
/// ```
///
/// - B1: An enqueue is all or nothing. A job that it acknowledged ends done or dead, or is removed on request: expired,
///   cancelled, deleted, purged, or a duplicate.
/// - B2: While a job, or its result, is stored, another enqueue with its id is a [`Enqueued::Duplicate`] of it, and adds
///   nothing.
/// - B3: A claim gives a job to one consumer, until the lease is over. Each claim has a [`Lease`] of its own, and
///   counts as an attempt; [`Settle::Release`] takes that back. Only kinds that the request names are claimed. A claim
///   with a limit of 0 only updates jobs whose lease, delay or expiry is over.
/// - B4: Only the newest lease of a running job can settle it, extend it, or report its progress (*fencing*).
/// - B5: A lease that is over makes the job READY again, in its old place, and *suspect*. If the job was claimed alone the
///   attempt counts, and the job is DEAD if it has none left; if it was claimed together with others the attempt is
///   taken back, as nobody knows which of them had begun.
/// - B6: READY jobs are claimed by priority, the highest first, and within a priority in the order in which they were
///   enqueued. A delayed job counts as enqueued when it is due.
/// - B7: Of the jobs with one key no more are READY or RUNNING together than [`Limits::per_key`] allows; the others with
///   that key are PARKED, and jobs behind them go first. The READY ones with a key go before its PARKED ones.
/// - B8: No method waits for a job, or calls user code.
/// - B9: A job that would begin its last attempt, or is suspect, is *fragile*: it is claimed alone, in its turn. So a
///   crash costs an attempt, or makes a dead letter, only where a job was claimed alone. A job is no longer suspect when a
///   consumer reports how its attempt ended.
/// - B10: Delays, expiry, periods and how long a result is kept follow the wall clock, but never backwards: where it is
///   set back, time goes on as the steady clock does. So a clock that was wrong for a moment delays nothing.
///
/// # Errors
///
/// Every method fails if the broker cannot be reached, or is [busy](QueueError::Busy) for too long.
#[allow(clippy::missing_errors_doc, reason = "they all fail alike")]
pub trait Broker: Send + Sync + 'static {
    /// Returns what this broker can do. A queue asks for nothing else.
    fn capabilities(&self) -> Capabilities;

    /// Returns a name for the queue: two brokers with the same identity have the same jobs. A broker that wraps another
    /// one returns the identity of that one.
    fn identity(&self) -> String;

    /// Stores all of the jobs, or none (B1, B2).
    ///
    /// [`QueueError::Full`] if more jobs would be ready or parked than [`Limits::max_ready`] allows.
    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError>;

    /// Claims jobs (B3, B9); none while the queue is paused. First it makes jobs ready whose leases are over (B5) or that
    /// are due, and removes those that have expired.
    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError>;

    /// Extends leases, to end `lease` from now (B4). Returns for each whether it was still held.
    fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<bool>, QueueError>;

    /// Settles claimed jobs (B4). Returns for each whether its lease was still held; if not, its job is not changed.
    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<bool>, QueueError>;

    /// Stores the progress of a job (B4). Returns whether the lease was still held.
    fn progress(&self, lease: Lease, progress: &[u8]) -> Result<bool, QueueError>;

    /// Removes a job that waits. Returns whether there was one.
    fn cancel(&self, id: JobId) -> Result<bool, QueueError>;

    /// Makes waiting jobs due `delay` from now, or ready if that is zero. Returns for each whether it waited.
    ///
    /// A job that was ready or parked is in its old place when it is due again; one that was delayed counts as enqueued
    /// when it is due (B6). [`Limits::max_ready`] does not apply.
    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError>;

    /// Removes those of the jobs that wait or are dead and still have the given kind and data. Returns for each whether it
    /// was removed.
    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError>;

    /// Returns a job, if there is one with that id.
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError>;

    /// Returns jobs in a state: ready and parked ones in the order of B6, delayed ones by when they are due, dead ones by when
    /// they died.
    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError>;

    /// Returns the kinds of the ready jobs, in no particular order.
    fn ready_kinds(&self) -> Result<Vec<String>, QueueError>;

    /// Makes a dead job ready again, with all its attempts. Returns whether it did: there was one, and no other job has its
    /// unique key.
    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError>;

    /// Removes a job that is dead, or whose result is kept. Returns whether there was one.
    fn delete(&self, id: JobId) -> Result<bool, QueueError>;

    /// Removes all jobs in these states, of which none may be `Running`. Returns how many.
    ///
    /// Jobs that are added after the start of the call are left, so it ends beside producers.
    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError>;

    /// Pauses the queue, or ends the pause. While it is paused nothing is claimed.
    fn set_paused(&self, paused: bool) -> Result<(), QueueError>;

    /// Sets all limits of the queue.
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError>;

    /// Returns the limits of the queue.
    fn limits(&self) -> Result<Limits, QueueError>;

    /// Returns what the queue holds and has counted.
    fn stats(&self) -> Result<QueueStats, QueueError>;

    /// Stores a schedule, in place of one with the same name. If the expression is unchanged, the earlier of the two next
    /// times is kept.
    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError>;

    /// Removes a schedule. Returns whether there was one.
    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError>;

    /// Returns all schedules.
    fn schedules(&self) -> Result<Vec<Scheduled>, QueueError>;

    /// If the stored next time is still `schedule.next` and the queue is not paused: enqueues `job`, if any, and stores
    /// `next`. So of several consumers one fires it.
    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError>;

    /// Returns the seconds since 1970 by the broker's wall clock, for schedules.
    fn now(&self) -> Result<i64, QueueError>;

    /// Registers a listener, which is called soon after this process made a job of the queue claimable. It must not block, and
    /// is dropped when it returns false.
    fn subscribe(&self, call: Box<dyn Fn() -> bool + Send + Sync>);

    /// Returns whether another process may have changed something since `seen`, which it updates. Consumers poll it where
    /// the broker is shared.
    fn has_changed(&self, seen: &mut u64) -> Result<bool, QueueError>;
}
