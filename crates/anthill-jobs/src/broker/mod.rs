//! The trait that every broker implements, and the data that it speaks: where the jobs of a queue are stored, and the rules
//! B1–B12 that hold for all of them.
//!
//! # How to write a broker
//!
//! 1. Implement [`Broker`]: six methods, for storing jobs, claiming them, keeping and settling what is claimed, and being
//!    told of more. Begin with [`Capabilities::new`], which has none.
//! 2. Add capabilities one by one: those of the core (such as [`Capability::Priority`]), and the parts [`Admin`],
//!    [`LimitStore`], [`ScheduleStore`] and [`ConsumerRegistry`], of which each method that is not implemented refuses.
//! 3. Run the [conformance suite](#conformance) over it. What is not claimed is not asked of it.
//!
//! [`Queue::of`](crate::Queue::of) makes a queue of it, and everything else in this crate works on that.
//!
//! # Conformance
//!
//! With the feature `conformance`, the module `conformance` has the suite that holds every broker of this project to these
//! rules. Your crate brings a fixture, which opens handles to a new, empty queue and lets time pass; `conformance::run(new)` asks
//! the broker for what it claims, and says what was left out; `conformance_tests!` makes a test of each check. `tests/outsider.rs`
//! in this crate's sources is a small broker that was written this way, with its fixture.

mod capabilities;
mod claim;
mod enqueued;
mod info;
mod lease;
mod limits;
mod listen;
mod parts;
mod registry;
mod schedule;
mod transaction;

pub use crate::address::without_password;
pub use crate::id::JobId;
pub use crate::job::{NewJob, OncePer};
pub use capabilities::{Capabilities, Capability, Durability, Maxima};
pub use claim::{ClaimRequest, Claimed, Claims, Extended, Settle, Settled};
pub use enqueued::Enqueued;
pub use info::{AttemptError, JobInfo, JobState, ListRequest, QueueStats};
pub use lease::Lease;
pub use limits::{Limits, Rate, Retention};
pub use listen::{Change, Listener, Listeners, Subscription};
pub use parts::{Admin, ConsumerRegistry, LimitStore, ScheduleStore};
pub use registry::ConsumerInfo;
pub use schedule::{Fired, Missed, Scheduled, Schedules};
pub use transaction::Transaction;

use crate::error::QueueError;
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
/// - B1: An enqueue is all or nothing, with [`Capability::AtomicBatches`]; otherwise it answers for each job. A job that it
///   acknowledged ends done or dead, or is removed on request: expired,
///   cancelled, deleted, purged, or a duplicate.
/// - B2: While a job, or its result, is stored, another enqueue with its id is a [`Enqueued::Duplicate`] of it, and adds
///   nothing. A dead letter is stored until somebody removes it.
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
/// - B11: A change that makes a job claimable is told to the listeners: of this process before the call that made it
///   returns; of another process (or by time, at a moment that [`Claims::again_in`] did not name) by a thread of the
///   broker's, soon after, or at the latest after [`Listener::poll`]. A listener that hears too much claims in vain; one that
///   hears nothing is a job that waits until somebody claims for another reason.
/// - B12: A call that failed may have been done all the same, unless the error says otherwise. All calls may be repeated: an
///   enqueue because of B2, a settlement and an extension because of B4.
///
/// # Errors
///
/// Every method fails if the broker cannot be reached, or is [busy](QueueError::Busy) for too long.
/// [`QueueError::is_transient`] says whether it makes sense to try again.
#[allow(clippy::missing_errors_doc, reason = "they all fail alike")]
pub trait Broker: Send + Sync + 'static {
    // ── the core ────────────────────────────────────────────────────────────────────────────

    /// Returns what this broker can do. It is always the same, and is answered at once.
    fn capabilities(&self) -> Capabilities;

    /// Stores jobs, at most [`Maxima::batch`], and answers for each in its place. With [`Capability::AtomicBatches`] an error is
    /// the answer to the whole call, and nothing is stored (B1, B2).
    ///
    /// [`QueueError::Full`] if more jobs would be ready or parked than [`Limits::max_ready`] allows. [`QueueError::Invalid`] for a
    /// text that the engine cannot store, one with NUL; all others come back as they were, to the byte.
    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError>;

    /// Claims jobs (B3, B9): as many as are ready, up to the limit of the request and [`Maxima::batch`]; none while the queue is
    /// paused. First it makes jobs ready whose leases are over (B5) or that are due, and removes those that have expired.
    ///
    /// If there is more to do at once, as only some were made ready, [`Claims::again_in`] is zero. It is never zero for nothing.
    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError>;

    /// Extends leases, to end `time` from now (B4). Answers for each in its place, with the lease that holds from now on.
    ///
    /// It waits for no other call: a consumer that cannot extend its leases in time loses them.
    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError>;

    /// Settles claimed jobs (B4). Answers for each in its place; a job whose lease was not held is not changed.
    ///
    /// A lease that the broker does not know, whatever its token is, is one that is not held, and no error. A repeated
    /// settlement may be answered as [`Stored`](Settled::Stored), if the broker knows that the same lease stored it before.
    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError>;

    /// Registers a listener (B11), until the subscription is dropped: from then on it is not called, and what it has captured is
    /// dropped, too. It is called under no lock: it may use the broker, subscribe, and end any subscription.
    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError>;

    // ── what a broker may have beside it ────────────────────────────────────────────────────

    /// Returns a name for the queue: two brokers with the same identity have the same jobs. A broker that wraps another
    /// one returns the identity of that one. By default each broker is a queue by itself.
    fn identity(&self) -> String {
        format!("{}:{:p}", self.capabilities().name, &raw const *self)
    }

    /// Stores the progress of a job (B4). Returns whether the lease was still held ([`Capability::Progress`]).
    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        let _ = (lease, progress);
        let what = Capability::Progress.what();
        Err(self.capabilities().unsupported(what))
    }

    /// Returns what looks at the jobs and changes them by hand, if the broker has it.
    fn admin(&self) -> Option<&dyn Admin> {
        None
    }

    /// Returns what stores the limits of the queue, if the broker has it.
    fn limit_store(&self) -> Option<&dyn LimitStore> {
        None
    }

    /// Returns what stores the schedules of the queue, if the broker has it.
    fn schedule_store(&self) -> Option<&dyn ScheduleStore> {
        None
    }

    /// Returns the list of live consumers, if the broker has it.
    fn consumer_registry(&self) -> Option<&dyn ConsumerRegistry> {
        None
    }
}
