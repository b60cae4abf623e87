//! A fleet in front of a queue of its own; see [`anthill_fleet_support`], of which this is the part of Redis.

use anthill_fleet_support::{Engine, roles};
use anthill_jobs::QueueError;
use anthill_redis::RedisBroker;
use anthill_test_support::redis::Access;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) struct Redis;

impl Engine for Redis {
    type Broker = RedisBroker;

    fn open(address: &str, timeout: Duration) -> Result<RedisBroker, QueueError> {
        RedisBroker::builder(address).timeout(timeout).open()
    }
}

/// What every process has.
pub(crate) type Own = roles::Own<Redis>;

/// A process of a fleet, which says what it logs as a warning.
pub(crate) fn child(more: &[(&str, fn())]) {
    if log::set_logger(&Say).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    roles::child_of::<Redis>(more);
}

/// Says `log …` for each line of the log.
struct Say;

impl log::Log for Say {
    fn enabled(&self, of: &log::Metadata<'_>) -> bool {
        of.target().starts_with("anthill")
    }

    fn log(&self, record: &log::Record<'_>) {
        // No process of a test of these has a role.
        if self.enabled(record.metadata()) && roles::told::<String>("ROLE").is_some() {
            roles::say(&format!("log {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// A queue of its own, and what happened to its jobs.
pub(crate) struct Stage<'s> {
    pub(crate) access: &'s Access,
    /// The queue's name.
    pub(crate) name: String,
    any: anthill_fleet_support::Stage<Redis>,
}

impl<'s> Stage<'s> {
    pub(crate) fn new(access: &'s Access) -> Stage<'s> {
        static STAGES: AtomicU32 = AtomicU32::new(0);
        let name = format!("stage{}", STAGES.fetch_add(1, Ordering::Relaxed));
        Stage {
            access,
            any: anthill_fleet_support::Stage::new(url(&access.url(), &name)),
            name,
        }
    }

    /// Through something else, such as a proxy.
    pub(crate) fn url_through(&self, address: SocketAddr) -> String {
        url(&self.access.url_through(address), &self.name)
    }

    /// A key of the queue.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{{anthill:{}}}:{name}", self.name)
    }
}

fn url(server: &str, queue: &str) -> String {
    format!("{server}?queue={queue}")
}

impl Deref for Stage<'_> {
    type Target = anthill_fleet_support::Stage<Redis>;

    fn deref(&self) -> &Self::Target {
        &self.any
    }
}
