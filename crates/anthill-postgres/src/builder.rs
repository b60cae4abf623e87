//! How a queue is opened.

use crate::address::{Address, check_queue, check_schema};
use crate::broker::PostgresBroker;
use crate::migrate;
use crate::store::{Options, Store, column};
use anthill_jobs::{Durability, Opener, Queue, QueueError};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::types::Type;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many calls are in flight at once.
const CONNECTIONS: usize = 6;

/// Opens a queue in a Postgres database, with options. Made by [`PostgresBroker::builder`].
///
/// ```no_run
/// use anthill_postgres::PostgresBroker;
/// use std::time::Duration;
///
/// let queue = PostgresBroker::builder("postgres://app@db/shop?sslmode=require")
///     .queue("mail")
///     .connections(16)
///     .timeout(Duration::from_secs(3))
///     .open_queue()?;
/// # Ok::<(), anthill_jobs::QueueError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it opens a queue"]
pub struct PostgresBuilder {
    address: String,
    queue: Option<String>,
    schema: Option<String>,
    options: Options,
    migrate: bool,
    is_read_only: bool,
    is_alone: bool,
}

impl PostgresBuilder {
    pub(crate) fn new(address: &str) -> PostgresBuilder {
        PostgresBuilder {
            address: address.to_owned(),
            queue: None,
            schema: None,
            options: Options {
                timeout: TIMEOUT,
                connections: CONNECTIONS,
            },
            migrate: true,
            is_read_only: false,
            is_alone: false,
        }
    }

    /// Sets the name of the queue, in place of the one in the address. The default is `default`.
    pub fn queue(self, name: impl Into<String>) -> Self {
        let queue = Some(name.into());
        PostgresBuilder { queue, ..self }
    }

    /// Sets the schema, in place of the one in the address. The default is `anthill`. Queues in different schemas have nothing in
    /// common.
    pub fn schema(self, name: impl Into<String>) -> Self {
        let schema = Some(name.into());
        PostgresBuilder { schema, ..self }
    }

    /// Sets how many calls of this process are in flight at once, each on a connection of its own; others wait. The default is 6.
    /// Heartbeats, and what listens to other processes, have connections beside these.
    pub fn connections(mut self, most: usize) -> Self {
        self.options.connections = most.max(1);
        self
    }

    /// Sets how long each call may take, with all that it waits for. The default is 10 seconds. A call that takes longer fails
    /// with [`QueueError::Unavailable`], and may have been done all the same.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// Sets whether the tables may be made, or updated to the version that this crate knows. That is the default; it needs
    /// the right to create them, once.
    pub fn migrate(self, migrate: bool) -> Self {
        PostgresBuilder { migrate, ..self }
    }

    /// Opens an existing queue, so that each change of it is a [`QueueError::ReadOnly`]. Jobs that are due or expired count as
    /// they are until a process that may write updates them.
    pub fn read_only(self) -> Self {
        PostgresBuilder {
            is_read_only: true,
            migrate: false,
            ..self
        }
    }

    /// Opens a handle that shares nothing with the others of this process: it has connections of its own, and hears of what
    /// they do as of what another process does.
    pub fn alone(self) -> Self {
        let is_alone = true;
        PostgresBuilder { is_alone, ..self }
    }

    /// Opens the broker; makes the tables and the queue if they do not exist. Several processes may do so at once.
    ///
    /// # Errors
    ///
    /// - [`Address`](QueueError::Address): the address or a name is wrong, or there is no such database; or no such queue, where
    ///   none may be made.
    /// - [`Unavailable`](QueueError::Unavailable): the server cannot be reached.
    /// - [`Denied`](QueueError::Denied): it refuses the credentials, or the right to make the tables.
    /// - [`Version`](QueueError::Version): the tables were made by a newer version of this crate.
    pub fn open(self) -> Result<PostgresBroker, QueueError> {
        let mut address: Address = self.address.parse()?;
        let refuse = |address: &Address, reason| QueueError::Address {
            address: address.shown.clone(),
            reason,
        };
        if let Some(name) = self.queue {
            check_queue(&name).map_err(|why| refuse(&address, why))?;
            address.queue = name;
        }
        if let Some(name) = self.schema {
            check_schema(&name).map_err(|why| refuse(&address, why))?;
            address.schema = name;
        }
        let name = address.queue.clone();
        let store = if self.is_alone {
            Store::alone(address, self.options)?
        } else {
            Store::shared(address, self.options)?
        };
        migrate::prepare(&store, self.migrate)?;
        let mut found = find(&store, &name)?;
        if found.is_none() && !self.is_read_only {
            let name_param = (Box::new(name.clone()) as _, Type::TEXT);
            store.call(|calls| &calls.make_queue, vec![name_param])?;
            found = find(&store, &name)?;
        }
        let Some(found) = found else {
            return Err(store.refuse(format!("there is no queue {name:?} in it")));
        };
        Ok(PostgresBroker {
            queue: store.queue(&found.identity, found.number),
            channel: found.channel,
            durability: found.durability,
            is_read_only: self.is_read_only,
            store,
        })
    }

    /// Opens a queue; see [`open`](PostgresBuilder::open).
    ///
    /// # Errors
    ///
    /// As [`open`](PostgresBuilder::open).
    pub fn open_queue(self) -> Result<Queue, QueueError> {
        self.open().map(Queue::of)
    }
}

/// What a broker knows of its queue.
struct Found {
    identity: String,
    number: i32,
    channel: String,
    durability: Durability,
}

fn find(store: &Arc<Store>, name: &str) -> Result<Option<Found>, QueueError> {
    let name = (Box::new(name.to_owned()) as _, Type::TEXT);
    let rows = store.call(|calls| &calls.find_queue, vec![name])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let settings: Vec<String> = column(row, "o_settings")?;
    let setting = |at: usize| settings.get(at).map_or("", String::as_str);
    if setting(0) != "read committed" {
        return Err(store.refuse(format!(
            "its transactions are {} by default, in which claims fail all the time: \
             ALTER ROLE … SET default_transaction_isolation = 'read committed'",
            setting(0)
        )));
    }
    Ok(Some(Found {
        identity: column(row, "o_identity")?,
        number: column(row, "o_queue")?,
        channel: column(row, "o_channel")?,
        durability: durability(setting(1), setting(2), setting(3)),
    }))
}

/// What is acknowledged survives, by the settings `fsync`, `synchronous_commit` and `synchronous_standby_names`. Where commits do
/// not wait for the disk by default, those of the queue do all the same.
fn durability(fsync: &str, commit: &str, standbys: &str) -> Durability {
    if fsync == "off" {
        Durability::Process
    } else if standbys.is_empty() || ["off", "local"].contains(&commit) {
        Durability::Fsync
    } else {
        Durability::Replicated
    }
}

/// Opens the queues of addresses `postgres://…`; for [`Openers`](anthill_jobs::Openers).
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresOpener;

impl Opener for PostgresOpener {
    fn open(&self, address: &str) -> Result<Queue, QueueError> {
        PostgresBuilder::new(address).open_queue()
    }

    fn open_read_only(&self, address: &str) -> Result<Queue, QueueError> {
        PostgresBuilder::new(address).read_only().open_queue()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_what_the_server_is_set_to() {
        for (settings, expected) in [
            (["off", "on", "a"], Durability::Process),
            (["on", "on", ""], Durability::Fsync),
            (["on", "off", "a"], Durability::Fsync),
            (["on", "local", "a"], Durability::Fsync),
            (["on", "on", "a"], Durability::Replicated),
            (["on", "remote_apply", "a"], Durability::Replicated),
        ] {
            let [fsync, commit, standbys] = settings;
            assert_eq!(
                durability(fsync, commit, standbys),
                expected,
                "{settings:?}"
            );
        }
    }
}
