//! A consumer: claims the jobs of queues and runs them on a pool.
//!
//! ```text
//!  broker ──claim──► buffer ──► runner (a task of the pool) ──► outbox ──settle──► broker
//!   ▲  ▲                           │ handler, hooks               ▲
//!   │  └── polls, schedules: the maintainer (a thread of its own) ┘
//!   └───── heartbeats (a thread of its own for each queue)
//! ```
//!
//! A job is claimed by a runner that has a worker already, so no more are claimed than the pool can start: one, or, where
//! jobs have been quick, as many as took two milliseconds together. What has not begun 50 ms later, because one was not
//! quick after all, is handed back for others to take. A runner ends when there is nothing to claim; the maintainer, or
//! an enqueue of this process, starts the next one.
//!
//! From the top down: [`builder`] and [`handle`] are the face, [`runner`] runs what [`claiming`] gets, by [`attempt`] and
//! [`handlers`]; [`settling`] reports to the broker how jobs ended; [`maintainer`], [`heartbeat`] and [`poller`] are the threads; [`shared`]
//! has the rules (U1–U5) and [`state`] what its lock protects.

mod attempt;
mod batch;
mod builder;
mod claiming;
mod context;
mod guard;
mod handle;
mod handlers;
mod heartbeat;
mod inline;
mod maintainer;
mod options;
mod place;
mod poller;
mod report;
mod runner;
mod settling;
mod shared;
mod sizing;
mod sources;
mod state;
mod stats;
mod within;

pub use builder::ConsumerBuilder;
pub use context::Context;
pub use handle::Consumer;
pub use handlers::{Ended, FailedJob};
pub use inline::Inline;
pub use stats::ConsumerStats;
