//! A fleet in front of a queue in a database of its own; see [`anthill_fleet_support`], of which this is the part of Postgres.

use anthill_fleet_support::{Engine, roles};
use anthill_jobs::QueueError;
use anthill_postgres::PostgresBroker;
use anthill_test_support::postgres::Access;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

pub(crate) struct Postgres;

impl Engine for Postgres {
    type Broker = PostgresBroker;

    fn open(address: &str, timeout: Duration) -> Result<PostgresBroker, QueueError> {
        PostgresBroker::builder(address).timeout(timeout).open()
    }
}

/// What every process has.
pub(crate) type Own = roles::Own<Postgres>;

/// A queue in a database of its own, and what happened to its jobs.
pub(crate) struct Stage<'s> {
    pub(crate) access: &'s Access,
    pub(crate) database: String,
    any: anthill_fleet_support::Stage<Postgres>,
}

impl<'s> Stage<'s> {
    pub(crate) fn new(access: &'s Access) -> Stage<'s> {
        let database = access.fresh_database();
        Stage {
            access,
            any: anthill_fleet_support::Stage::new(access.url_of(&database)),
            database,
        }
    }

    /// Through something else, such as a proxy.
    pub(crate) fn url_through(&self, address: SocketAddr) -> String {
        self.access.url_through(address, &self.database)
    }

    pub(crate) fn sql(&self, statements: &str) -> String {
        let answer = self.access.sql(&self.database, statements);
        answer.unwrap_or_else(|error| panic!("{statements}: {error}"))
    }
}

impl Deref for Stage<'_> {
    type Target = anthill_fleet_support::Stage<Postgres>;

    fn deref(&self) -> &Self::Target {
        &self.any
    }
}
