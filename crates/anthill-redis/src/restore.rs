//! A queue is made where there is none: when it is opened, and again if the store was emptied meanwhile.
//!
//! - AN1. Each queue has an identity of random bytes, which it gets when it is made. Whoever meets another one than before says in
//!   the log that all is gone. Who has connected anew looks, as somebody else may have made the queue by then.
//! - AN2. What this process has set is then set again: limits, retention and schedules. A pause, and what others have set, is
//!   gone with the jobs. If that fails, whoever calls next tries it again.
//! - AN3. Who listens meets the queue that another process has made: a new one is armed, so its first change is told, and
//!   whoever arms it learns which one it is.
//! - AN4. Who has connected anew says in the log if the server was started again, and what may be gone with that.

use crate::node::Node;
use crate::reply;
use crate::server::{Server, window};
use crate::store::{QueueState, Store, args};
use crate::sync::lock;
use crate::{limits, schedules};
use anthill_jobs::{Durability, Limits, QueueError, Retention, Scheduled};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The version of the layout that this crate reads and writes.
const VERSION: &str = "1";

#[derive(Default)]
pub(crate) struct Restore {
    state: Mutex<State>,
    /// How many connections had been made before the last look.
    looked: AtomicU64,
}

#[derive(Clone, Default)]
struct State {
    /// Some handle may make the queue: not all are read-only.
    may_make: bool,
    identity: Option<u128>,
    /// The server that answered when this was last looked at, and its process.
    process: Option<(Node, String)>,
    durability: Option<Durability>,
    /// It is to be set again (AN2), and nobody is about to do so.
    is_behind: bool,
    limits: Option<Limits>,
    retention: Option<Retention>,
    schedules: BTreeMap<String, Scheduled>,
}

impl Restore {
    pub(crate) fn set_limits(&self, limits: Limits) {
        lock(&self.state).limits = Some(limits);
    }

    pub(crate) fn set_retention(&self, retention: Retention) {
        lock(&self.state).retention = Some(retention);
    }

    pub(crate) fn put_schedule(&self, schedule: &Scheduled) {
        let name = schedule.name.clone();
        lock(&self.state).schedules.insert(name, schedule.clone());
    }

    pub(crate) fn drop_schedule(&self, name: &str) {
        lock(&self.state).schedules.remove(name);
    }

    /// Learns what a job survives on the server, and which process that is.
    pub(crate) fn set_server(&self, store: &Store, queue: &QueueState, durability: Durability) {
        lock(&self.state).durability = Some(durability);
        self.look_at_server(store, queue);
    }

    /// AN4.
    fn look_at_server(&self, store: &Store, queue: &QueueState) {
        let node = queue.route.node();
        let Some(process) = Server::process(store, queue) else {
            return;
        };
        let (before, durability) = {
            let mut state = lock(&self.state);
            let now = (node.clone(), process.clone());
            (state.process.replace(now), state.durability)
        };
        let is_restarted = before.is_some_and(|(at, before)| at == node && before != process);
        if let Some(durability) = durability.filter(|_| is_restarted) {
            log::warn!(
                "the server {node} of the queue {:?} was started again: {}",
                queue.name,
                window(durability)
            );
        }
    }

    /// Makes the queue, unless it is there or may not be made. Returns its identity, if it is there.
    pub(crate) fn open(
        &self,
        store: &Store,
        queue: &QueueState,
        may_make: bool,
    ) -> Result<Option<u128>, QueueError> {
        lock(&self.state).may_make |= may_make;
        self.look(store, queue, may_make)
    }

    fn look(
        &self,
        store: &Store,
        queue: &QueueState,
        may_make: bool,
    ) -> Result<Option<u128>, QueueError> {
        let made = store.connections_made();
        let mut args = args(store);
        args.arg(VERSION)
            .arg(&identity()[..])
            .arg(u8::from(may_make));
        let answer = store.open(queue, &args)?;
        let mut answer = reply::list(answer)?.into_iter();
        let version = reply::next(&mut answer)?;
        if version == redis::Value::Nil {
            return Ok(None);
        }
        let version = reply::text(version)?;
        if version != VERSION {
            return Err(QueueError::Version(format!(
                "the queue {:?} was made by a version of anthill-redis with the layout {version}, and this one has the layout {VERSION}",
                queue.name
            )));
        }
        let found = reply::bytes(reply::next(&mut answer)?)?;
        let found = found.try_into().map(u128::from_be_bytes);
        let found =
            found.map_err(|_| QueueError::Corrupt("its identity has not 16 bytes".to_owned()))?;
        let before = {
            let mut state = lock(&self.state);
            let before = state.clone();
            state.identity = Some(found);
            state.is_behind = false;
            before
        };
        self.looked.fetch_max(made, Ordering::SeqCst);
        let is_another = before.identity.is_some_and(|one| one != found);
        if is_another {
            log::warn!(
                "the queue {:?} at {} is another one than before: its store was emptied or replaced, and all jobs, limits and schedules are gone",
                queue.name,
                store.login.shown
            );
        }
        if is_another || before.is_behind {
            let set = before.set_again(store, queue);
            if set.is_err() {
                lock(&self.state).is_behind = true;
            }
            set?;
        }
        Ok(Some(found))
    }

    /// Sets again what an earlier call could not.
    pub(crate) fn catch_up(&self, store: &Store, queue: &QueueState) {
        if lock(&self.state).is_behind {
            // If it fails the next call tries it again.
            let _ = self.make_anew(store, queue);
        }
    }

    /// Whether this is the queue that was met last, by its identity as it is stored.
    pub(crate) fn is_it(&self, identity: &[u8]) -> bool {
        let known = lock(&self.state).identity.map(u128::to_be_bytes);
        known.is_none_or(|known| known[..] == *identity)
    }

    /// Looks whether it is still the same queue, where connections were made since the last look.
    pub(crate) fn look_again(&self, store: &Store, queue: &QueueState) {
        if self.looked.load(Ordering::SeqCst) < store.connections_made() {
            // Where that fails the next call looks.
            match self.make_anew(store, queue) {
                Ok(()) => self.look_at_server(store, queue),
                Err(error) => {
                    log::debug!("nobody knows whether a queue is the same as before: {error}");
                }
            }
        }
    }

    /// Makes the queue anew if it is not there any more.
    pub(crate) fn make_anew(&self, store: &Store, queue: &QueueState) -> Result<(), QueueError> {
        let may_make = lock(&self.state).may_make;
        self.look(store, queue, may_make).map(drop)
    }
}

impl State {
    /// AN2.
    fn set_again(&self, store: &Store, queue: &QueueState) -> Result<(), QueueError> {
        if let Some(limits) = self.limits {
            limits::set(store, queue, limits)?;
        }
        if let Some(retention) = self.retention {
            limits::keep(store, queue, retention)?;
        }
        for schedule in self.schedules.values() {
            schedules::put(store, queue, schedule)?;
        }
        Ok(())
    }
}

/// AN1.
fn identity() -> [u8; 16] {
    fastrand::u128(..).to_be_bytes()
}
