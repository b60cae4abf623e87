//! One transaction over the queues that it touches, with the writes of several threads in it.

use super::super::time::Steady;
use super::super::tx::Tx;
use super::error::Failure;
use super::request::{QueueRef, Request};
use crate::Clock;
use crate::broker::Listeners;
use rusqlite::Connection;
use std::sync::Arc;

/// A transaction that holds the lock for longer extends leases; in nanoseconds.
const LONG: i64 = 50_000_000;

/// A lease that was over before the transaction began is not extended.
const EXTEND_LEASES: &str = "UPDATE anthill_jobs INDEXED BY anthill_running SET ends = ends + ?1
    WHERE queue IN (SELECT id FROM anthill_queues) AND state = 3 AND boot = ?2 AND ends > ?3";

/// An open transaction, which is rolled back if it is dropped.
pub(super) struct OpenTransaction<'c>(&'c Connection);

impl<'c> OpenTransaction<'c> {
    pub(super) fn begin(connection: &'c Connection) -> Result<OpenTransaction<'c>, Failure> {
        statement(connection, "BEGIN IMMEDIATE")?;
        Ok(OpenTransaction(connection))
    }

    pub(super) fn commit(self) -> Result<(), Failure> {
        statement(self.0, "COMMIT")
    }
}

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            // If even this fails, so will the next `BEGIN`, and report it.
            let _ = statement(self.0, "ROLLBACK");
        }
    }
}

fn statement(connection: &Connection, sql: &str) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(sql).map_err(Failure::Sqlite)?;
    statement.execute([]).map(drop).map_err(Failure::Sqlite)
}

/// The queues that a transaction touches, each loaded once.
pub(super) struct Queues<'c> {
    connection: &'c Connection,
    clock: &'c Clock,
    loaded: Vec<(Tx<'c>, Listeners)>,
}

impl<'c> Queues<'c> {
    /// In a transaction that is open already.
    pub(super) fn new(connection: &'c Connection, clock: &'c Clock) -> Queues<'c> {
        Queues {
            connection,
            clock,
            loaded: Vec::with_capacity(1),
        }
    }

    pub(super) fn get(&mut self, queue: &QueueRef) -> Result<&mut Tx<'c>, Failure> {
        let number = queue.number;
        let known = self.loaded.iter().position(|(tx, _)| tx.number == number);
        let place = if let Some(place) = known {
            place
        } else {
            let tx = Tx::load(self.connection, number, self.clock).map_err(Failure::Sqlite)?;
            self.loaded.push((tx, queue.listeners.clone()));
            self.loaded.len() - 1
        };
        Ok(&mut self.loaded[place].0)
    }

    /// Runs each of the writes in a savepoint, so that one that fails undoes only itself. Returns which failed.
    pub(super) fn run_apart(
        &mut self,
        requests: &[Arc<dyn Request>],
    ) -> Result<Vec<(usize, Failure)>, Failure> {
        let mut failures = Vec::new();
        for (place, request) in requests.iter().enumerate() {
            let tx = match self.get(request.queue()) {
                Ok(tx) => tx,
                Err(failure) => {
                    failures.push((place, failure));
                    continue;
                }
            };
            let before = (tx.queue.clone(), tx.wake);
            statement(tx.connection, "SAVEPOINT anthill_one")?;
            let ran = request.run(tx);
            if let Err(failure) = ran {
                // After some errors SQLite rolls the whole transaction back.
                if tx.connection.is_autocommit() {
                    return Err(failure);
                }
                statement(tx.connection, "ROLLBACK TO anthill_one")?;
                (tx.queue, tx.wake) = before;
                failures.push((place, failure));
            }
            statement(tx.connection, "RELEASE anthill_one")?;
        }
        Ok(failures)
    }

    /// Stores the queues' rows, before the commit. Returns whom to notify after it.
    pub(super) fn store(self) -> Result<Vec<Listeners>, Failure> {
        let mut wake = Vec::new();
        for (tx, listeners) in self.loaded {
            if tx.store().map_err(Failure::Sqlite)? {
                wake.push(listeners);
            }
        }
        Ok(wake)
    }
}

/// Adds the time for which a transaction has held the lock to all leases that were not over when it began.
pub(in super::super) fn extend_leases(
    connection: &Connection,
    clock: &Clock,
    began: Steady,
) -> rusqlite::Result<()> {
    let now = Steady::of(clock);
    let took = now.since.saturating_sub(began.since);
    if took > LONG && now.boot == began.boot {
        let mut extend = connection.prepare_cached(EXTEND_LEASES)?;
        extend.execute([took, began.boot, began.since])?;
    }
    Ok(())
}
