//! How a queue is opened.

use crate::address::{Address, check_name};
use crate::broker::RedisBroker;
use crate::server::Server;
use crate::store::{Options, Store};
use anthill_jobs::{Durability, Opener, Queue, QueueError};
use std::time::Duration;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many calls are in flight at once.
const CONNECTIONS: usize = 6;

/// Opens a queue in a Redis server, with options. Made by [`RedisBroker::builder`].
///
/// ```no_run
/// use anthill_redis::RedisBroker;
/// use std::time::Duration;
///
/// let queue = RedisBroker::builder("redis://cache.internal/0")
///     .queue("mail")
///     .connections(16)
///     .timeout(Duration::from_secs(3))
///     .open_queue()?;
/// # Ok::<(), anthill_jobs::QueueError>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it opens a queue"]
#[expect(clippy::struct_excessive_bools, reason = "they are options")]
pub struct RedisBuilder {
    address: String,
    queue: Option<String>,
    prefix: Option<String>,
    timeout: Option<Duration>,
    connections: Option<usize>,
    replicas: Option<u32>,
    durability: Option<Durability>,
    refuses_eviction: bool,
    is_read_only: bool,
    is_alone: bool,
    has_quick_scripts: bool,
}

impl RedisBuilder {
    pub(crate) fn new(address: &str) -> RedisBuilder {
        RedisBuilder {
            address: address.to_owned(),
            queue: None,
            prefix: None,
            timeout: None,
            connections: None,
            replicas: None,
            durability: None,
            refuses_eviction: false,
            is_read_only: false,
            is_alone: false,
            has_quick_scripts: true,
        }
    }

    /// Sets the name of the queue, in place of the one in the address. The default is `default`.
    pub fn queue(self, name: impl Into<String>) -> Self {
        let queue = Some(name.into());
        RedisBuilder { queue, ..self }
    }

    /// Sets the prefix of the queue's keys, in place of the one in the address. The default is `anthill`. Queues with different
    /// prefixes have nothing in common.
    pub fn prefix(self, name: impl Into<String>) -> Self {
        let prefix = Some(name.into());
        RedisBuilder { prefix, ..self }
    }

    /// Sets how many calls of this process are in flight at once, each on a connection of its own; others wait. The default is 6.
    /// Heartbeats, and what listens to other processes, have connections beside these.
    pub fn connections(self, most: usize) -> Self {
        let connections = Some(most.max(1));
        RedisBuilder {
            connections,
            ..self
        }
    }

    /// Sets how long each call may take, with all that it waits for. The default is 10 seconds. A call that takes longer fails
    /// with [`QueueError::Unavailable`], and may have been done all the same.
    pub fn timeout(self, timeout: Duration) -> Self {
        let timeout = Some(timeout);
        RedisBuilder { timeout, ..self }
    }

    /// Waits until so many replicas have confirmed each enqueue, before it is acknowledged; the default is 0. If fewer do in time the
    /// enqueue fails with [`QueueError::Unavailable`], though the job is stored, and can be repeated. A replica that is promoted in
    /// mid-work then has all that was acknowledged, as long as no more than so many hosts are lost.
    pub fn replicas(self, least: u32) -> Self {
        let replicas = Some(least);
        RedisBuilder { replicas, ..self }
    }

    /// Says what an acknowledged job survives, for a server that does not tell, or of which you know more.
    pub fn durability(self, durability: Durability) -> Self {
        let durability = Some(durability);
        RedisBuilder { durability, ..self }
    }

    /// Refuses to open a queue on a server that may remove it when its memory is full; by default that is a warning.
    pub fn refuse_eviction(self) -> Self {
        RedisBuilder {
            refuses_eviction: true,
            ..self
        }
    }

    /// Opens an existing queue, so that each change of it is a [`QueueError::ReadOnly`]. Jobs that are due or expired count as
    /// they are until a process that may write updates them.
    pub fn read_only(self) -> Self {
        RedisBuilder {
            is_read_only: true,
            ..self
        }
    }

    /// Opens a handle that shares nothing with the others of this process: it has connections of its own, and hears of what
    /// they do as of what another process does.
    pub fn alone(self) -> Self {
        RedisBuilder {
            is_alone: true,
            ..self
        }
    }

    /// Uses only the scripts that can do everything, for tests of these.
    #[doc(hidden)]
    pub fn without_quick_scripts(self) -> Self {
        RedisBuilder {
            has_quick_scripts: false,
            ..self
        }
    }

    /// Opens the broker; makes the queue if it does not exist. Several processes may do so at once. What may cost jobs on that
    /// server is told to the log, and by [`RedisBroker::warnings`].
    ///
    /// # Errors
    ///
    /// - [`Address`](QueueError::Address): the address or a name is wrong; or there is no such queue, where none may be made; or the
    ///   server may remove it when its memory is full, where that is [refused](RedisBuilder::refuse_eviction).
    /// - [`Unavailable`](QueueError::Unavailable): the server cannot be reached.
    /// - [`Denied`](QueueError::Denied): it refuses the credentials, or the right to a key or command.
    /// - [`Version`](QueueError::Version): the queue was made by a version of this crate with another layout.
    /// - [`Corrupt`](QueueError::Corrupt): a part of the queue was removed by somebody else.
    pub fn open(self) -> Result<RedisBroker, QueueError> {
        let mut address: Address = self.address.parse()?;
        let refuse = |address: &Address, reason| QueueError::Address {
            address: address.login.shown.clone(),
            reason,
        };
        if let Some(name) = self.queue {
            check_name("queue", &name).map_err(|why| refuse(&address, why))?;
            address.queue = name;
        }
        if let Some(name) = self.prefix {
            check_name("prefix", &name).map_err(|why| refuse(&address, why))?;
            address.prefix = name;
        }
        let options = Options {
            timeout: self.timeout.or(address.timeout).unwrap_or(TIMEOUT),
            connections: self
                .connections
                .or(address.connections)
                .unwrap_or(CONNECTIONS),
            replicas: self.replicas.or(address.replicas).unwrap_or(0),
        };
        let store = if self.is_alone {
            Store::alone(&address, options)
        } else {
            Store::shared(&address, options)
        };
        let queue = store.queue(&address.prefix, &address.queue);
        let Some(identity) = queue.restore.open(&store, &queue, !self.is_read_only)? else {
            return Err(store.refuse(format!("there is no queue {:?} in it", address.queue)));
        };
        let server = Server::look(&store, &queue);
        let refuses_eviction = self.refuses_eviction || address.refuses_eviction;
        if let Some(why) = server.eviction_now().filter(|_| refuses_eviction) {
            return Err(store.refuse(why));
        }
        let told = self.durability.or(address.durability);
        let mut warnings = server.warnings();
        if told.is_some() {
            warnings.retain(|warning| {
                !warning.contains("appendonly") && !warning.contains("durability=")
            });
        }
        for warning in &warnings {
            log::warn!("the server {}: {warning}", store.login.shown);
        }
        let durability = told.unwrap_or_else(|| server.durability(options.replicas));
        queue.restore.set_server(&store, &queue, durability);
        Ok(RedisBroker {
            identity: format!("redis:{identity:032x}"),
            durability,
            warnings,
            quick: crate::quick::Quick::new(self.has_quick_scripts),
            is_read_only: self.is_read_only,
            queue,
            store,
        })
    }

    /// Opens a queue; see [`open`](RedisBuilder::open).
    ///
    /// # Errors
    ///
    /// As [`open`](RedisBuilder::open).
    pub fn open_queue(self) -> Result<Queue, QueueError> {
        self.open().map(Queue::of)
    }
}

impl std::fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBuilder")
            .field(
                "address",
                &anthill_jobs::broker::without_password(&self.address),
            )
            .field("queue", &self.queue)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Opens the queues of addresses `redis://…` and `rediss://…`; for [`Openers`](anthill_jobs::Openers).
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisOpener;

impl Opener for RedisOpener {
    fn open(&self, address: &str) -> Result<Queue, QueueError> {
        RedisBuilder::new(address).open_queue()
    }

    fn open_read_only(&self, address: &str) -> Result<Queue, QueueError> {
        RedisBuilder::new(address).read_only().open_queue()
    }
}
