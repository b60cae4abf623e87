//! A durable job queue: jobs are stored before they run, claimed by a consumer, and run on an elastic [`Pool`] of threads.
//!
//! A *job* is data with a name. A [`Queue`] stores it, in memory or in one `SQLite` file; a [`Consumer`] claims it under a
//! lease, runs its handler on the workers of a pool, retries it when it fails, and settles it. A job whose enqueue was
//! acknowledged is done, or becomes a dead letter with the reason, or is removed on request; it is never lost, whatever
//! process dies when. It may run twice: delivery is at least once, and settlements are fenced.
//!
//! ```
//! use anthill::Pool;
//! use anthill_jobs::{Context, Job, JobError, Queue};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Thumbnail {
//!     path: String,
//!     width: u32,
//! }
//!
//! impl Job for Thumbnail {
//!     const KIND: &'static str = "thumbnail";
//! }
//!
//! let queue = Queue::memory(); // or Queue::open("sqlite:jobs.db")?
//! queue.enqueue(Thumbnail { path: "cat.png".into(), width: 320 })?;
//!
//! let pool = Pool::with_capacity(4);
//! let consumer = queue
//!     .consumer(&pool)
//!     .handle(|job: Thumbnail, cx: &Context| -> Result<(), JobError> {
//!         println!("{} at {}, attempt {}", job.path, job.width, cx.attempt());
//!         Ok(())
//!     })
//!     .start()?;
//! consumer.wait_idle();
//! consumer.stop(Duration::from_secs(30))?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # Where to find what
//!
//! | to | see |
//! |---|---|
//! | enqueue, delay, deduplicate, schedule | [`Queue`], [`Draft`], [`Job`] |
//! | handle jobs, set workers, leases, backoff, hooks | [`ConsumerBuilder`], [`Context`], [`JobError`], [`Backoff`] |
//! | limit all processes together | [`Limits`], [`Rate`] |
//! | look at a queue, retry, cancel, move | [`Queue`], [`JobInfo`], [`MoveRequest`] |
//! | test without waiting | [`Inline`], [`Clock::manual`], [`MemoryBroker`] |
//! | open queues of other engines by address | [`Openers`]; the crates `anthill-postgres` and `anthill-redis` |
//! | write a broker | [`broker`], [`Broker`] |
//!
//! The guide has all promises, options and figures, how to write a broker, and pages for users of taskq, River, `BullMQ` and Celery:
//! module `guide`.
//!
//! # Features
//!
//! - `conformance`: the suite that holds every broker to the same rules (module `conformance`), for tests of your own broker.
//! - `sqlite`: the broker in an `SQLite` file, built from source (it needs a C compiler). Items with types of `rusqlite` in
//!   their signatures follow its major version; all else follows semver.
//!
//! [`Pool`]: anthill::Pool

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod backoff;
pub mod broker;
#[cfg(test)]
mod broker_tests;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod consumer;
mod draft;
mod error;
mod id;
mod job;
mod max_ready;
mod memory;
mod moves;
mod openers;
mod panics;
mod queue;
mod rate;
mod schedule;
#[cfg(feature = "sqlite")]
mod sqlite;
mod sync;

pub use backoff::Backoff;
pub use broker::{
    AttemptError, Broker, Capabilities, Capability, ClaimRequest, Claimed, Claims, ConsumerInfo,
    Durability, Enqueued, Extended, Fired, JobInfo, JobState, Lease, Limits, ListRequest, Maxima,
    Missed, QueueStats, Rate, Retention, Scheduled, Settle, Settled,
};
pub use clock::Clock;
pub use consumer::{Consumer, ConsumerBuilder, ConsumerStats, Context, Ended, FailedJob, Inline};
pub use draft::Draft;
pub use error::{EnqueueError, JobError, QueueError, StopTimeout};
pub use id::{JobId, ParseIdError};
pub use job::{Job, NewJob, OncePer};
pub use memory::MemoryBroker;
pub use moves::{MoveError, MoveRequest, Moved, NotMoved, WhyNot};
pub use openers::{Opener, Openers};
pub use queue::Queue;
/// The version of `rusqlite` whose types are in the signatures of [`Queue::enqueue_in`],
/// [`SqliteBroker::enqueue_in`] and [`SqliteBroker::settle_in`].
///
/// **Not covered by semver:** these three items and this re-export follow the major version of `rusqlite`, which may change
/// in any release of this crate. All other items follow semver. Use this re-export rather than a dependency of your own, so
/// that the versions agree.
#[cfg(feature = "sqlite")]
pub use rusqlite;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteBroker;

/// The guide: the pages of `docs/`, whose programs are tested.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/capabilities.md")]
    pub mod capabilities {}
    #[doc = include_str!("../docs/jobs.md")]
    pub mod jobs {}
    #[doc = include_str!("../docs/writing-a-broker.md")]
    pub mod writing_a_broker {}
    #[doc = include_str!("../docs/from-taskq.md")]
    pub mod from_taskq {}
    #[doc = include_str!("../docs/from-river.md")]
    pub mod from_river {}
    #[doc = include_str!("../docs/from-bullmq.md")]
    pub mod from_bullmq {}
    #[doc = include_str!("../docs/from-celery.md")]
    pub mod from_celery {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
