//! Jobs that are enqueued or settled in a transaction of the application's, on a connection of its own to the queue's file.
//!
//! - CT1. What is refused or fails changes nothing in that transaction: each call is a savepoint of it.
//! - CT2. The first statement of a call writes, so that a transaction that begins with it waits for others, as one that has
//!   read before cannot.
//! - CT3. Listeners are not told, as the commit is not seen here; watchers see it as that of another process.

use super::SqliteBroker;
use super::errors::queue_error;
use super::tx::Tx;
use super::{enqueue, settle};
use crate::broker::{Enqueued, Lease, Settle, Settled, Transaction};
use crate::error::QueueError;
use crate::job::NewJob;
use rusqlite::Connection;
use std::path::Path;

impl SqliteBroker {
    /// Enqueues jobs as part of a transaction of yours, on a connection of yours to the same file: they are enqueued when
    /// you commit, and never if you do not. Without an open transaction the call is a transaction of its own.
    ///
    /// Begin the transaction with `BEGIN IMMEDIATE`, or call this before you read: otherwise another process may write in
    /// between, and you can only roll back and start again. Consumers see the jobs when they next poll the file.
    ///
    /// **Not covered by semver:** the signature has a type of [`rusqlite`] and follows its major version; see
    /// [the re-export](crate::rusqlite).
    ///
    /// ```
    /// use anthill_jobs::broker::{Admin, Broker};
    /// use anthill_jobs::{Clock, NewJob, SqliteBroker};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let file = folder.path().join("shop.db");
    /// let broker = SqliteBroker::open(&file, "mail", Clock::system())?;
    /// let mut shop = rusqlite::Connection::open(&file)?;
    /// shop.execute_batch("CREATE TABLE orders (what TEXT)")?;
    ///
    /// let order = shop.transaction()?;
    /// broker.enqueue_in(&order, &[NewJob::new("confirm", b"\"ants\"".to_vec())])?;
    /// order.execute("INSERT INTO orders VALUES ('ants')", [])?;
    /// order.commit()?; // both, or none
    /// assert_eq!(broker.stats()?.ready, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Address`](QueueError::Address) if the connection is to another file; [`Detached`](QueueError::Detached) if the
    /// queue's files are no longer those that were opened here (your connection's files are not checked when you commit);
    /// otherwise as [`Broker::enqueue`](crate::Broker::enqueue). None of the jobs is in the transaction then.
    pub fn enqueue_in(
        &self,
        connection: &Connection,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, QueueError> {
        self.within(connection, |tx| {
            let enqueued = enqueue::enqueue(tx, jobs)?;
            Ok(enqueued.map_err(|limit| QueueError::Full { limit }))
        })
    }

    /// Settles claimed jobs as part of a transaction of yours, on a connection of yours to the same file: so what a handler
    /// writes to that file and the end of its job are one, and happen exactly once. Without an open transaction the call is
    /// a transaction of its own.
    ///
    /// **Roll back if a job is [`Lost`](Settled::Lost):** another consumer runs it by now, and does the same work. The
    /// consumer that gave you the job knows of this if the settlement is that of [`Context::settlement`](crate::Context::settlement)
    /// ([`Queue::settle_in`](crate::Queue::settle_in) does all of this). Keep the transaction short: while it is open nobody can extend a lease.
    ///
    /// Begin the transaction with `BEGIN IMMEDIATE`, or call this before you read: otherwise another process may write in
    /// between, and you can only roll back and start again. Consumers see what became claimable when they next poll the file.
    ///
    /// **Not covered by semver:** the signature has a type of [`rusqlite`] and follows its major version; see
    /// [the re-export](crate::rusqlite).
    ///
    /// ```
    /// use anthill_jobs::{Broker, ClaimRequest, Clock, NewJob, Settle, SqliteBroker};
    /// use std::time::Duration;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let file = folder.path().join("shop.db");
    /// let broker = SqliteBroker::open(&file, "stock", Clock::system())?;
    /// let mut shop = rusqlite::Connection::open(&file)?;
    /// shop.execute_batch("CREATE TABLE stock (ants INTEGER); INSERT INTO stock VALUES (7)")?;
    /// broker.enqueue(&[NewJob::new("sell", b"2".to_vec())])?;
    ///
    /// let claims = broker.claim(&ClaimRequest::new(1, Duration::from_secs(30)))?;
    /// let done = Settle::Done { result: b"null".to_vec() };
    /// let sale = shop.transaction()?;
    /// let settled = broker.settle_in(&sale, &[(claims.jobs[0].lease.clone(), done)])?;
    /// sale.execute("UPDATE stock SET ants = ants - 2", [])?;
    /// if settled[0].is_stored() {
    ///     sale.commit()?; // sold once, whatever process dies when
    /// } else {
    ///     sale.rollback()?;
    /// }
    /// # assert_eq!(shop.query_row("SELECT ants FROM stock", [], |row| row.get::<_, i64>(0))?, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](SqliteBroker::enqueue_in). None of the settlements is in the transaction then.
    pub fn settle_in(
        &self,
        connection: &Connection,
        ends: &[(Lease, Settle)],
    ) -> Result<Vec<Settled>, QueueError> {
        self.within(connection, |tx| settle::settle(tx, ends).map(Ok))
    }

    /// Changes the queue within the transaction of a connection. The inner error is the queue's, and nothing is changed then.
    fn within<T>(
        &self,
        connection: &Connection,
        change: impl FnOnce(&mut Tx<'_>) -> rusqlite::Result<Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        self.store.refuse_to_write()?;
        self.store.check()?;
        self.refuse_others(connection)?;
        let savepoint = |sql| connection.prepare_cached(sql)?.execute([]).map(drop);
        savepoint("SAVEPOINT anthill_within").map_err(queue_error)?;
        let changed = self.change_within(connection, change);
        if !matches!(changed, Ok(Ok(_))) && !connection.is_autocommit() {
            savepoint("ROLLBACK TO anthill_within").map_err(queue_error)?;
        }
        if !connection.is_autocommit() {
            savepoint("RELEASE anthill_within").map_err(queue_error)?;
        }
        changed.map_err(queue_error)?
    }

    fn change_within<T>(
        &self,
        connection: &Connection,
        change: impl FnOnce(&mut Tx<'_>) -> rusqlite::Result<Result<T, QueueError>>,
    ) -> rusqlite::Result<Result<T, QueueError>> {
        let first = "UPDATE anthill_queues SET turn = turn WHERE id = ?1";
        connection.prepare_cached(first)?.execute([self.queue])?;
        let mut tx = Tx::load(connection, self.queue, &self.clock)?;
        let changed = change(&mut tx)?;
        if changed.is_ok() {
            tx.store()?;
        }
        Ok(changed)
    }

    fn refuse_others(&self, connection: &Connection) -> Result<(), QueueError> {
        let path = connection.path().unwrap_or_default();
        let real = |path: &Path| path.canonicalize().ok();
        let ours = self.store.path();
        let same = Path::new(path) == ours
            || real(path.as_ref()).is_some_and(|path| real(ours) == Some(path));
        if same {
            return Ok(());
        }
        let reason = format!("the queue is in {}", ours.display());
        Err(QueueError::address(path, reason))
    }
}

/// What [`Queue::enqueue_in`](crate::Queue::enqueue_in) and [`Queue::settle_in`](crate::Queue::settle_in) take.
impl Transaction<SqliteBroker> for &Connection {
    fn enqueue(self, broker: &SqliteBroker, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        broker.enqueue_in(self, jobs)
    }

    fn settle(
        self,
        broker: &SqliteBroker,
        ends: &[(Lease, Settle)],
    ) -> Result<Vec<Settled>, QueueError> {
        broker.settle_in(self, ends)
    }
}

impl Transaction<SqliteBroker> for &rusqlite::Transaction<'_> {
    fn enqueue(self, broker: &SqliteBroker, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        broker.enqueue_in(self, jobs)
    }

    fn settle(
        self,
        broker: &SqliteBroker,
        ends: &[(Lease, Settle)],
    ) -> Result<Vec<Settled>, QueueError> {
        broker.settle_in(self, ends)
    }
}
