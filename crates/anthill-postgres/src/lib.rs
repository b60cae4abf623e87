//! Postgres behind the job queue of [`anthill_jobs`]: shared by many machines, fenced, transactional.
//!
//! ```no_run
//! use anthill::Pool;
//! use anthill_jobs::{Context, Job, JobError};
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
//! let queue = anthill_postgres::open("postgres://app@db/shop?queue=images")?;
//! queue.enqueue(Thumbnail { path: "cat.png".into(), width: 320 })?;
//!
//! let pool = Pool::with_capacity(4);
//! let consumer = queue
//!     .consumer(&pool)
//!     .handle(|job: Thumbnail, cx: &Context| -> Result<(), JobError> {
//!         println!("{} at {}", job.path, job.width);
//!         Ok(())
//!     })
//!     .start()?;
//! # consumer.stop(Duration::from_secs(30))?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # Where to find what
//!
//! | to | see |
//! |---|---|
//! | open a queue | [`open`], [`PostgresBuilder`], [`PostgresOpener`] |
//! | enqueue from an async task | [`PostgresQueue::enqueue_async`] |
//! | enqueue or settle in a transaction of yours | [`Queue::enqueue_in`], [`Queue::settle_in`], with a `&mut postgres::Transaction`; [`PostgresQueue`] |
//! | do that in another language | the function `anthill.enqueue` of the schema |
//! | know what is lost when, roles, tuning, backups | module `guide` |
//! | everything else | [`anthill_jobs`] |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod admin;
mod broker;
mod builder;
mod claim;
mod driven;
mod enqueue;
mod errors;
mod horizon;
mod listen;
mod migrate;
mod notify;
mod pool;
mod read;
mod runtime;
mod schedules;
mod session;
mod settle;
mod sql;
mod steady;
mod store;
mod sync;
mod tls;
mod token;
mod transactions;
mod values;

use anthill_jobs::{Queue, QueueError};
pub use broker::PostgresBroker;
pub use builder::{PostgresBuilder, PostgresOpener};
pub use postgres;
pub use tokio_postgres;
pub use transactions::PostgresQueue;

/// Opens the queue at an address: `postgres://user:password@host:port/database?queue=NAME&schema=NAME`. The default queue is
/// `default`, the default schema `anthill`; the other options are those of [`tokio_postgres::Config`]. Makes the tables and the
/// queue if they do not exist.
///
/// ```
/// use anthill_jobs::Openers;
///
/// let openers = Openers::new()
///     .with("postgres", anthill_postgres::open)
///     .with("postgresql", anthill_postgres::open);
/// # let _ = openers;
/// ```
///
/// # Errors
///
/// As [`PostgresBuilder::open`].
pub fn open(address: &str) -> Result<Queue, QueueError> {
    PostgresBroker::builder(address).open_queue()
}

/// The guide: the pages of `docs/`, whose programs are compiled.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/postgres.md")]
    pub mod postgres {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
