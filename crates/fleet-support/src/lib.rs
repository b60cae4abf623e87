//! A fleet: processes that enqueue, consume, and die, in front of a queue of any engine; and the books at the end.
//!
//! A test is a [`Stage`], which starts [`Member`]s: this test binary again, in a role that the environment tells (see
//! [`roles`]). Each records what it asks the broker and what that answers into the stage's history (see [`recorded`]). At the
//! end the stage drains the queue, tells what is left, and the checker judges: what was acknowledged is done, nothing ran that
//! was not enqueued, no stale lease was settled, no key was above its limit, and whatever ran twice has a reason.
//!
//! - FL1: a process of the fleet is of one test binary, so it needs no program beside it. That binary has one test,
//!   `child`, which calls [`roles::child_of`], and does nothing where no role is told.
//! - FL2: what an engine is known by here is [`Engine`]: how its queue is opened. All else of an engine, such as how it is
//!   spoiled, is of the tests of its crate.
//! - FL3: no process outlives its [`Member`], and none its stage's folder.
#![cfg(unix)]
#![expect(
    clippy::missing_panics_doc,
    reason = "a helper panics where what it waits for does not come"
)]

pub mod checks;
mod fleet;
pub mod kills;
mod member;
pub mod recorded;
pub mod roles;
mod stage;

pub use fleet::Fleet;
pub use member::{Counts, Member};
pub use stage::{Stage, balance};

use anthill_jobs::{Broker, QueueError};
use std::path::PathBuf;
use std::time::Duration;

/// Longer than anything takes.
pub const LONG: Duration = Duration::from_secs(60);

/// An engine whose queues a fleet works on.
pub trait Engine: 'static {
    /// Its broker.
    type Broker: Broker;

    /// Opens the queue at an address. No call of it is to take longer than the timeout.
    ///
    /// # Errors
    ///
    /// As the broker has them. Who opens tries again where the error is [transient](QueueError::is_transient).
    fn open(address: &str, timeout: Duration) -> Result<Self::Broker, QueueError>;
}

/// The program that runs.
pub fn this_binary() -> PathBuf {
    std::env::current_exe().expect("it knows where it is")
}
