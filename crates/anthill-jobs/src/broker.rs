//! Where jobs are stored, as a queue and its consumers see it. One conformance suite (`tests/brokers.rs`) holds every
//! broker to this.
//!
//! ```text
//!               enqueue                claim               settle: done
//!  (delay) ──► DELAYED ──due──► READY ───────► RUNNING ──────────────────► done (its result is kept, or nothing)
//!                 ▲               ▲  ◄──────────┤ │ lease over, or released
//!                 │               │   its key   │ ├──────── settle: dead, no attempt left ──► DEAD
//!                 │               └── PARKED ◄──┘ │                                            │
//!                 └────────────── settle: retry ──┘        retry_dead ──► READY ◄──────────────┘
//! ```
//!
//! - B1: An enqueue is all or nothing. What it acknowledged ends done or dead, or was taken away on request:
//!   expired, cancelled, deleted, purged, a duplicate.
//! - B2: While a job, or its result, is there, the same id again is [`Enqueued::Duplicate`] of itself, and adds nothing.
//! - B3: A claim gives a job to one consumer, until the lease is over. Each claim has a [`Lease`] of its own, and
//!   counts as an attempt; [`Settle::Release`] takes that back. Only kinds that the request names are claimed. A claim of
//!   no job does what time has brought, and changes nothing else.
//! - B4: Only the newest lease of a job that runs can settle, extend or tell the progress of it (*fencing*).
//! - B5: A lease that is over makes the job READY again, in its old place, and *suspect*. If it was claimed by itself its
//!   attempt counts, and it is DEAD if it has no other one; if it was claimed together with others the attempt is taken
//!   back, as nobody knows which of them began.
//! - B6: Among READY jobs those with the higher priority go first, and else those that were enqueued first.
//!   A delayed job counts as enqueued when it is due.
//! - B7: Of the jobs with a key no more are READY or RUNNING together than [`Limits::per_key`] allows; the others with
//!   that key are PARKED, and those behind them go first. The READY ones with a key go before its PARKED ones.
//! - B8: Nothing here waits for a job, and no user's code is called.
//! - B9: A job that would begin its last attempt, or is suspect, is *fragile*: a claim gives it by itself, in its turn. So
//!   a crash costs an attempt, or a life, only to a job that was claimed by itself. A job is suspect no more when a
//!   consumer tells how its attempt ended.
//! - B10: Delays, expiry, periods and how long a result is kept follow the wall clock, but never back: where that is set
//!   back time goes on as the steady clock does. So a clock that was wrong for a moment makes nothing wait for longer.

use super::error::QueueError;
use super::job::{JobId, NewJob};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// What a broker can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of what it can")]
#[non_exhaustive]
pub struct Abilities {
    /// Its name in messages.
    pub name: &'static str,
    /// Jobs survive the process.
    pub durable: bool,
    /// Other processes see the same queue.
    pub shared: bool,
    /// A lease that is over cannot settle its job (B4).
    pub fenced: bool,
    /// [`NewJob::priority`].
    pub priority: bool,
    /// [`NewJob::unique`].
    pub unique: bool,
    /// [`Limits::per_key`].
    pub per_key: bool,
    /// Jobs can be told by their ids: shown, cancelled, retried.
    pub by_id: bool,
}

impl Abilities {
    /// All of them.
    pub fn full(name: &'static str) -> Abilities {
        Abilities {
            name,
            durable: true,
            shared: true,
            fenced: true,
            priority: true,
            unique: true,
            per_key: true,
            by_id: true,
        }
    }
}

/// What became of a job that was enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in the queue.
    Added(JobId),
    /// Another job has its unique key, or it was enqueued before: nothing was added. The id is of the one that is
    /// there.
    Duplicate(JobId),
}

impl Enqueued {
    /// The id of the job that will run.
    pub fn id(self) -> JobId {
        let (Enqueued::Added(id) | Enqueued::Duplicate(id)) = self;
        id
    }

    /// Whether this enqueue added it.
    pub fn is_added(self) -> bool {
        matches!(self, Enqueued::Added(_))
    }
}

/// The right to run a job, and to say how it ended (B3, B4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job's.
    pub id: JobId,
    /// Where the broker has it, if it needs that.
    pub place: i64,
    /// Counts the claims of the job.
    pub claim: u64,
}

/// What a consumer asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// Jobs at most.
    pub most: usize,
    /// For how long they are to be the consumer's.
    pub lease: Duration,
    /// Of which kinds; `None`: of any.
    pub kinds: Option<Arc<[String]>>,
    /// Whether a fragile job (B9) may be given.
    pub fragile: bool,
}

impl ClaimRequest {
    /// Jobs of any kind, fragile or not.
    pub fn new(most: usize, lease: Duration) -> ClaimRequest {
        ClaimRequest {
            most,
            lease,
            kinds: None,
            fragile: true,
        }
    }

    /// Jobs of these kinds only.
    #[must_use]
    pub fn of_kinds(self, kinds: Arc<[String]>) -> ClaimRequest {
        ClaimRequest {
            kinds: Some(kinds),
            ..self
        }
    }

    /// No fragile ones (B9).
    #[must_use]
    pub fn not_fragile(self) -> ClaimRequest {
        ClaimRequest {
            fragile: false,
            ..self
        }
    }
}

/// A job that was claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The right to it.
    pub lease: Lease,
    /// Its kind.
    pub kind: Cow<'static, str>,
    /// Its data.
    pub payload: Vec<u8>,
    /// This attempt, from 1 on.
    pub attempt: u32,
    /// The last one that it may have.
    pub attempts: u32,
    /// How long it was ready before it was claimed.
    pub waited: Duration,
    /// It was given by itself because it is fragile (B9).
    pub is_fragile: bool,
    /// It has a unique key, or a key that is bounded: no other one is to run beside it.
    pub is_exclusive: bool,
    /// Its result is to be kept.
    pub keeps_result: bool,
}

/// What a claim found.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// The jobs, in the order in which they are to start.
    pub jobs: Vec<Claimed>,
    /// When to look again, where nothing else happens before: a job is due, a lease is over, the rate allows more.
    pub again_in: Option<Duration>,
    /// The next job is fragile (B9), and was not given: the request allowed none, or there were others before it.
    pub fragile_next: bool,
}

/// How a claimed job ends.
#[derive(Clone, Debug)]
pub enum Settle {
    /// It is done; the result is stored if the job asked for that.
    Done {
        /// As JSON.
        result: Vec<u8>,
    },
    /// It failed, and is to be tried again; it is dead if it has no attempt left.
    Retry {
        /// Not before.
        delay: Duration,
        /// Why.
        error: String,
    },
    /// It failed for good.
    Dead {
        /// Why.
        error: String,
    },
    /// It is handed back, without counting the attempt: ready again, in its old place; or not before the delay is over.
    Release {
        /// Not before.
        delay: Duration,
    },
}

/// Limits of a queue, for all its consumers in all processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that run at once.
    pub running: Option<u32>,
    /// Jobs with the same [`key`](NewJob::key) that run at once.
    pub per_key: Option<u32>,
    /// Jobs that start within a time.
    pub rate: Option<Rate>,
    /// Jobs that are ready or parked: an enqueue that would make them more is refused as a whole, with
    /// [`QueueError::Full`]. What is due later, tried again or scheduled is not refused.
    pub max_ready: Option<u64>,
}

/// So many in so long: evenly spread, but that up to `burst` may start at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; one is the least.
    pub jobs: u32,
    /// In how long.
    pub per: Duration,
    /// How many at once.
    pub burst: u32,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// To be claimed.
    Ready,
    /// Not due yet.
    Delayed,
    /// As many jobs with its key run as may.
    Parked,
    /// Claimed.
    Running,
    /// It failed too often, or for good.
    Dead,
    /// Its result is kept.
    Done,
}

impl JobState {
    /// All of them.
    pub const ALL: [JobState; 6] = [
        JobState::Ready,
        JobState::Delayed,
        JobState::Parked,
        JobState::Running,
        JobState::Dead,
        JobState::Done,
    ];

    /// Those of jobs that wait to be claimed; what is ready last, as others may become ready in its place.
    pub const WAITING: [JobState; 3] = [JobState::Parked, JobState::Delayed, JobState::Ready];

    /// Those of jobs that are over.
    pub const OVER: [JobState; 2] = [JobState::Dead, JobState::Done];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Ready => "ready",
            JobState::Delayed => "delayed",
            JobState::Parked => "parked",
            JobState::Running => "running",
            JobState::Dead => "dead",
            JobState::Done => "done",
        }
    }
}

/// A job as it is stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobInfo {
    /// Its name.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// Its data; of a [list](Broker::list) perhaps the beginning.
    pub payload: Vec<u8>,
    /// The size of its data, in bytes.
    pub payload_size: u64,
    /// Where it is.
    pub state: JobState,
    /// Its priority.
    pub priority: i16,
    /// How often it was claimed.
    pub attempt: u32,
    /// How often it may be.
    pub attempts: u32,
    /// Its key, for [`Limits::per_key`].
    pub key: Option<String>,
    /// The unique key that it has until it is over.
    pub unique: Option<String>,
    /// Why it failed the last time.
    pub error: Option<String>,
    /// What its handler told of it last, as JSON.
    pub progress: Option<Vec<u8>>,
    /// Its result, as JSON, where it is done.
    pub result: Option<Vec<u8>>,
    /// How long ago it was enqueued.
    pub age: Duration,
    /// When it is due, where it is delayed.
    pub due_in: Option<Duration>,
    /// When it expires, where it waits and may.
    pub expires_in: Option<Duration>,
    /// How long its result is to be kept.
    pub keep_result: Option<Duration>,
}

/// Which jobs to list.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ListRequest {
    /// In which state.
    pub state: JobState,
    /// Those behind that job, if it is there.
    pub after: Option<JobId>,
    /// So many at most.
    pub most: usize,
    /// So many bytes of each payload; a result or a progress that is longer is left out.
    pub data: usize,
}

impl ListRequest {
    /// All jobs in a state, with all their data.
    pub fn new(state: JobState) -> ListRequest {
        ListRequest {
            state,
            after: None,
            most: usize::MAX,
            data: usize::MAX,
        }
    }

    /// Those behind that job.
    #[must_use]
    pub fn after(self, after: Option<JobId>) -> ListRequest {
        ListRequest { after, ..self }
    }

    /// So many at most.
    #[must_use]
    pub fn most(self, most: usize) -> ListRequest {
        ListRequest { most, ..self }
    }

    /// So many bytes of each payload; a result or a progress that is longer is left out.
    #[must_use]
    pub fn data(self, data: usize) -> ListRequest {
        ListRequest { data, ..self }
    }
}

/// What a queue holds, and what it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Jobs to be claimed.
    pub ready: u64,
    /// Jobs that are not due yet.
    pub delayed: u64,
    /// Jobs whose key is in use.
    pub parked: u64,
    /// Jobs that were claimed.
    pub running: u64,
    /// Dead letters.
    pub dead: u64,
    /// Results that are kept.
    pub results: u64,
    /// How long the oldest ready job has been so.
    pub oldest: Option<Duration>,
    /// Nothing is claimed.
    pub paused: bool,
    /// Since the queue was made: jobs that were added.
    pub enqueued: u64,
    /// Enqueues that found their job there already.
    pub duplicates: u64,
    /// Jobs that are done.
    pub done: u64,
    /// Attempts that failed and were, or are to be, repeated.
    pub retried: u64,
    /// Jobs that died.
    pub died: u64,
    /// Leases that were over before their job was settled.
    pub lost_leases: u64,
    /// Jobs that expired.
    pub expired: u64,
    /// Jobs that were cancelled, deleted, purged, or moved to another queue.
    pub removed: u64,
}

/// A job that is enqueued again and again.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// The schedule's name.
    pub name: String,
    /// When, as a cron expression.
    pub cron: String,
    /// What.
    pub kind: String,
    /// With which data.
    pub payload: Vec<u8>,
    /// The next time, in seconds since 1970.
    pub next: i64,
    /// What becomes of times that passed while nobody saw to them, or the queue was paused.
    pub missed: Missed,
}

/// What becomes of the times of a schedule that passed while no consumer ran, or the queue was paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Missed {
    /// One job makes up for all of them.
    #[default]
    Once,
    /// A job for each of them.
    All,
    /// Nothing makes up for them: the next one is at its own time.
    Skip,
}

/// What became of a schedule that was to be fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Its job was enqueued, if there was one, and its next time set.
    Done,
    /// The queue is paused: nothing was changed.
    Paused,
    /// Its next time is another one by now, or it is gone: nothing was changed.
    Changed,
}

/// Stores jobs; `docs/jobs.md` shows the states of one. All durations count from now, by the broker's clock.
///
/// # Errors
///
/// Every method fails if the broker cannot be reached, or is [busy](QueueError::Busy) for too long.
#[allow(clippy::missing_errors_doc, reason = "they all fail alike")]
pub trait Broker: Send + Sync + 'static {
    /// What it can do. A queue asks for nothing else.
    fn abilities(&self) -> Abilities;

    /// Names the queue: two brokers with the same identity have the same jobs. One that wraps another broker returns
    /// that of the other one.
    fn identity(&self) -> String;

    /// B1, B2: stores all the jobs, or none.
    ///
    /// [`QueueError::Full`] if there were more ready or parked ones then than [`Limits::max_ready`].
    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError>;

    /// B3, B9: claims jobs; none while the queue is paused. Brings back what lost its lease (B5), and sees to what is due
    /// and to what has expired.
    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError>;

    /// B4: makes leases end in `lease` from now; whether each was there.
    fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<bool>, QueueError>;

    /// B4: ends claims; whether each was there. What was not there is not touched.
    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<bool>, QueueError>;

    /// B4: stores how far a job is; whether the lease was there.
    fn progress(&self, lease: Lease, progress: &[u8]) -> Result<bool, QueueError>;

    /// Takes a job away that is not running; whether there was one.
    fn cancel(&self, id: JobId) -> Result<bool, QueueError>;

    /// Makes jobs that wait due in `delay` from now, or ready where that is zero; whether each waited. One that was ready
    /// or parked is in its old place when it is due again; one that was delayed counts as enqueued when it is due (B6).
    /// It is never refused because of [`Limits::max_ready`].
    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError>;

    /// Takes those of the jobs away that wait or are dead, and have the same kind and data as here; whether each was.
    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError>;

    /// A job.
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError>;

    /// Jobs in a state, the first ones first.
    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError>;

    /// The kinds of the jobs that are ready, in no order.
    fn ready_kinds(&self) -> Result<Vec<String>, QueueError>;

    /// Makes a dead job ready again, with all its attempts; whether there was one.
    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError>;

    /// Takes a job away that is dead, or whose result is kept; whether there was one.
    fn delete(&self, id: JobId) -> Result<bool, QueueError>;

    /// Takes away all jobs that were there when it began, and are in one of those states, of which none may be
    /// `Running`; how many. It ends beside others that enqueue.
    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError>;

    /// While paused nothing is claimed.
    fn set_paused(&self, paused: bool) -> Result<(), QueueError>;

    /// Sets the limits, for all.
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError>;

    /// The limits.
    fn limits(&self) -> Result<Limits, QueueError>;

    /// Counts.
    fn stats(&self) -> Result<QueueStats, QueueError>;

    /// Stores a schedule, in place of one with the same name; one with the same expression keeps its next time, if that
    /// is the earlier one.
    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError>;

    /// Takes a schedule away; whether there was one.
    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError>;

    /// All of them.
    fn schedules(&self) -> Result<Vec<Scheduled>, QueueError>;

    /// Enqueues `job`, if there is one, and sets the schedule's next time to `next`, if it still is `schedule.next` and
    /// the queue is not paused. So of several consumers one does it.
    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError>;

    /// Seconds since 1970, by the broker's wall clock, for schedules.
    fn now(&self) -> Result<i64, QueueError>;

    /// Has `call` called, soon, whenever there may be something new to claim that this process put there. It must
    /// not block, and is dropped when it returns false.
    fn subscribe(&self, call: Box<dyn Fn() -> bool + Send + Sync>);

    /// Whether another process may have put something there since `seen`, which is brought up to date; to be
    /// asked now and again, where the broker is shared.
    fn has_changed(&self, seen: &mut u64) -> Result<bool, QueueError>;
}
