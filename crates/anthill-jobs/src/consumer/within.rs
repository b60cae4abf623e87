//! A handler that settles its job in a transaction of its own.

use super::context::Context;
use crate::broker::{Broker, Transaction};
use crate::error::QueueError;
use crate::queue::Queue;
use serde::Serialize;

impl Queue {
    /// Settles the job of a handler as done in a transaction of the handler's, of the client of the queue's own engine (see
    /// [`enqueue_in`](Queue::enqueue_in)): what the handler wrote there and the end of the job are committed as a unit, so that its
    /// effects in the database happen exactly once, whatever process dies when.
    ///
    /// The handler commits and returns `Ok`. If it returns `Ok` without a commit, the attempt has failed. Keep the transaction
    /// short from this call on: the job is locked (in an `SQLite` file everything is, from the first write on).
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # use anthill::Pool;
    /// # use anthill_jobs::{Context, Job, JobError, Queue, rusqlite};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Deposit { cents: i64 }
    /// # impl Job for Deposit { const KIND: &'static str = "deposit"; }
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("bank.db");
    /// let queue = Queue::open(&format!("sqlite:{}", file.display()))?;
    /// # rusqlite::Connection::open(&file)?.execute_batch("CREATE TABLE account (cents INTEGER); INSERT INTO account VALUES (0)")?;
    /// let jobs = queue.clone();
    /// let handler = move |job: Deposit, cx: &Context| -> Result<(), JobError> {
    ///     let mut bank = rusqlite::Connection::open(&file)?;
    ///     let transaction = bank.transaction()?;
    ///     jobs.settle_in(&transaction, cx, &())?;
    ///     transaction.execute("UPDATE account SET cents = cents + ?1", [job.cents])?;
    ///     transaction.commit()?; // the money and the end of the job, or neither
    ///     Ok(())
    /// };
    /// # let pool = Pool::with_capacity(1);
    /// # let consumer = queue.consumer(&pool).handle(handler).start()?;
    /// # queue.enqueue(Deposit { cents: 500 })?;
    /// # consumer.wait_idle();
    /// # assert_eq!((consumer.stats().done, consumer.stats().lost, queue.stats()?.done), (1, 0, 1));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Lost`](QueueError::Lost): another consumer runs the job, or will. Roll back; by `?` that happens by itself.
    /// - [`TooLarge`](QueueError::TooLarge), [`Encode`](QueueError::Encode): the result cannot be kept.
    /// - [`Unsupported`](QueueError::Unsupported): the transaction is of another engine.
    /// - [`Address`](QueueError::Address): it is of another database.
    /// - Any error of the broker.
    pub fn settle_in<R: Serialize, B: Broker, T: Transaction<B>>(
        &self,
        transaction: T,
        cx: &Context,
        result: &R,
    ) -> Result<(), QueueError> {
        let broker = self.broker_of_transaction()?;
        let settled = transaction.settle(broker, &[cx.settlement(result)?])?;
        match settled.first() {
            Some(settled) if settled.is_stored() => Ok(()),
            _ => Err(QueueError::Lost),
        }
    }
}
