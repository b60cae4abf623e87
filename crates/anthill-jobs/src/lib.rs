//! Jobs that survive: a queue whose jobs are stored, claimed by a consumer, and run on a [`Pool`](anthill::Pool).

mod backoff;
mod bound;
mod broker;
mod calls;
mod clock;
mod consumer;
mod draft;
mod error;
mod job;
mod memory;
mod panics;
mod queue;
mod rate;
mod schedule;
#[cfg(feature = "sqlite")]
mod sqlite;
mod sync;
mod transfer;

pub use backoff::Backoff;
pub use broker::{
    Abilities, Broker, ClaimRequest, Claimed, Claims, Enqueued, Fired, JobInfo, JobState, Lease,
    Limits, ListRequest, Missed, QueueStats, Rate, Scheduled, Settle,
};
pub use clock::Clock;
pub use consumer::{Consumer, ConsumerBuilder, ConsumerStats, Context, Ended, FailedJob, Inline};
pub use draft::Draft;
pub use error::{EnqueueError, JobError, QueueError, StopTimeout};
pub use job::{Job, JobId, NewJob, OncePer, ParseIdError};
pub use memory::MemoryBroker;
pub use queue::Queue;
#[cfg(feature = "sqlite")]
pub use rusqlite;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteBroker;
pub use transfer::{MoveError, MoveRequest, Moved, NotMoved, WhyNot};

/// The pages of `docs/`, here so that their programs are tested.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/jobs.md")]
    pub mod jobs {}
    #[doc = include_str!("../docs/from-taskq.md")]
    pub mod from_taskq {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
