//! Redis behind the job queue of [`anthill_jobs`]: shared by many machines, fenced, each step one script. Valkey speaks the same
//! protocol.
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
//! let queue = anthill_redis::open("redis://cache.internal/0?queue=images")?;
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
//! | open a queue | [`open`], [`RedisBuilder`], [`RedisOpener`] |
//! | know what may cost jobs on a server | [`RedisBroker::warnings`], module `guide` |
//! | know what is lost when, clusters, rights, sizing | module `guide` |
//! | everything else | [`anthill_jobs`] |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod admin;
mod broker;
mod builder;
mod call;
mod claim;
mod connection;
mod enqueue;
mod errors;
mod keys;
mod limits;
mod listen;
mod node;
mod pool;
mod quick;
mod record;
mod reply;
mod restore;
mod route;
mod schedules;
mod scripts;
mod server;
mod settle;
mod store;
mod sync;
mod tls;
mod values;

use anthill_jobs::{Queue, QueueError};
pub use broker::RedisBroker;
pub use builder::{RedisBuilder, RedisOpener};

/// Opens the queue at an address: `redis://user:password@host:port/database?queue=NAME`. The default queue is `default`; `rediss:`
/// addresses need the feature `rustls`. Makes the queue if it does not exist.
///
/// | option | is |
/// |---|---|
/// | `queue=NAME` | the queue |
/// | `prefix=NAME` | what its keys begin with; `anthill` |
/// | `timeout=SECONDS` | how long a call may take; 10 |
/// | `connections=NUMBER` | how many calls are in flight at once; 6 |
/// | `replicas=NUMBER` | how many replicas confirm an enqueue before it is acknowledged; 0 |
/// | `durability=` `none`, `eventual`, `process`, `fsync`, `replicated` | what an acknowledged job survives, if the server does not tell |
/// | `eviction=refuse` | does not open a queue that the server may remove when its memory is full |
/// | `cacert=FILE`, `cert=FILE`, `key=FILE` | of TLS: the authorities, and the client's certificate and key, in PEM |
///
/// The nodes of a cluster, or a server and its replica, are separated by commas: `redis://a:7001,b:7001,c:7001`. A socket is
/// `redis+unix:///run/redis.sock?db=0&user=NAME&pass=PASSWORD`.
///
/// ```
/// use anthill_jobs::Openers;
///
/// let openers = Openers::new()
///     .with("redis", anthill_redis::open)
///     .with("rediss", anthill_redis::open);
/// # let _ = openers;
/// ```
///
/// # Errors
///
/// As [`RedisBuilder::open`].
pub fn open(address: &str) -> Result<Queue, QueueError> {
    RedisBroker::builder(address).open_queue()
}

/// The guide: the page of `docs/`, whose programs are compiled.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/redis.md")]
    pub mod redis {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
