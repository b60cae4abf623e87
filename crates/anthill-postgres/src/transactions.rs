//! Jobs enqueued and settled in a transaction of the caller's, on a connection of the caller's to the same database: both happen
//! when that commits, and neither if it does not.

use crate::broker::PostgresBroker;
use crate::enqueue::{self, Batch};
use crate::errors::queue_error;
use crate::session::Param;
use crate::settle::Settlements;
use anthill_jobs::broker::Transaction;
use anthill_jobs::{
    Context, Enqueued, Job, JobId, Lease, NewJob, Queue, QueueError, Settle, Settled,
};
use serde::Serialize;
use tokio_postgres::types::{ToSql, Type};

/// Parameters as the client takes them.
fn borrowed(params: &[Param]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    params
        .iter()
        .map(|(param, kind)| (&**param as &(dyn ToSql + Sync), kind.clone()))
        .collect()
}

/// # In a transaction of yours
///
/// Whatever a transaction does, its isolation level may be any; an error of the server aborts it, as any other error does.
impl PostgresBroker {
    /// The identity of the queue, as the first parameter: the transaction may be of another database.
    fn here(&self) -> Param {
        (Box::new(self.queue.identity.clone()), Type::TEXT)
    }

    fn within(&self, jobs: &[NewJob]) -> Result<(Vec<JobId>, Vec<Param>), QueueError> {
        self.refuse_to_write()?;
        let first = vec![self.here(), (Box::new(true) as _, Type::BOOL)];
        Ok(Batch::of(jobs)?.params(first))
    }

    /// Enqueues jobs as part of a transaction of yours: they are enqueued when you commit, and never if you do not. Consumers
    /// are notified by the commit.
    ///
    /// Nothing that others do waits for your transaction, except for an enqueue with one of the same unique keys, and the end of
    /// a running job that one of these debounces. With a [limit per key](anthill_jobs::Limits::per_key) the jobs are parked by the next claim, if
    /// they have to be; [`max_ready`](anthill_jobs::Limits::max_ready) does not count what other open transactions enqueue.
    ///
    /// **Not covered by semver:** the signature has a type of [`postgres`] and follows its major version.
    ///
    /// ```no_run
    /// use anthill_jobs::NewJob;
    /// use anthill_postgres::{PostgresBroker, postgres};
    ///
    /// let address = "postgres://app@db/shop";
    /// let broker = PostgresBroker::open(address)?;
    /// let mut shop = postgres::Client::connect(address, postgres::NoTls)?;
    ///
    /// let mut order = shop.transaction()?;
    /// order.execute("INSERT INTO orders (what) VALUES ('ants')", &[])?;
    /// broker.enqueue_in(&mut order, &[NewJob::new("confirm", b"\"ants\"".to_vec())])?;
    /// order.commit()?; // both, or none
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Full`](QueueError::Full), with which your transaction goes on; [`Address`](QueueError::Address) if it is of another
    /// database; otherwise as [`Broker::enqueue`](anthill_jobs::Broker::enqueue).
    pub fn enqueue_in(
        &self,
        transaction: &mut postgres::Transaction<'_>,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, QueueError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (ids, params) = self.within(jobs)?;
        let rows = transaction.query_typed(&self.store.calls.enqueue_within, &borrowed(&params));
        enqueue::answer(&ids, &rows.map_err(queue_error)?)
    }

    /// Enqueues jobs as part of a transaction of yours, as [`enqueue_in`](PostgresBroker::enqueue_in) does, from an async task.
    ///
    /// **Not covered by semver:** the signature has a type of [`tokio_postgres`] and follows its major version.
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](PostgresBroker::enqueue_in).
    pub async fn enqueue_in_async(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, QueueError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (ids, params) = self.within(jobs)?;
        let rows = transaction
            .query_typed(&self.store.calls.enqueue_within, &borrowed(&params))
            .await;
        enqueue::answer(&ids, &rows.map_err(queue_error)?)
    }

    fn settle_params(&self, ends: &[(Lease, Settle)]) -> Result<SettleParams, QueueError> {
        self.refuse_to_write()?;
        let (mut params, answers) = Settlements::of(self.queue.number, ends).split();
        params[0] = self.here();
        Ok((params, answers))
    }

    /// Settles claimed jobs as part of a transaction of yours: what the handler did in it and the end of its job happen together.
    ///
    /// Call this last: the jobs, and their keys where these have a limit, are locked until you commit. If an answer is
    /// [`Lost`](Settled::Lost), another consumer runs the job: roll back.
    ///
    /// **Not covered by semver:** as [`enqueue_in`](PostgresBroker::enqueue_in).
    ///
    /// # Errors
    ///
    /// As [`Broker::settle`](anthill_jobs::Broker::settle); [`Address`](QueueError::Address) if the transaction is of another
    /// database.
    pub fn settle_in(
        &self,
        transaction: &mut postgres::Transaction<'_>,
        ends: &[(Lease, Settle)],
    ) -> Result<Vec<Settled>, QueueError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let (params, answers) = self.settle_params(ends)?;
        let rows = transaction.query_typed(&self.store.calls.settle_within, &borrowed(&params));
        Ok(answers.read(&rows.map_err(queue_error)?)?.0)
    }

    /// Settles claimed jobs as part of a transaction of yours, as [`settle_in`](PostgresBroker::settle_in) does, from an async
    /// task.
    ///
    /// **Not covered by semver:** as [`enqueue_in_async`](PostgresBroker::enqueue_in_async).
    ///
    /// # Errors
    ///
    /// As [`settle_in`](PostgresBroker::settle_in).
    pub async fn settle_in_async(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        ends: &[(Lease, Settle)],
    ) -> Result<Vec<Settled>, QueueError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let (params, answers) = self.settle_params(ends)?;
        let rows = transaction
            .query_typed(&self.store.calls.settle_within, &borrowed(&params))
            .await;
        Ok(answers.read(&rows.map_err(queue_error)?)?.0)
    }
}

type SettleParams = (Vec<Param>, crate::settle::Answers);

/// What [`Queue::enqueue_in`] and [`Queue::settle_in`] take.
impl Transaction<PostgresBroker> for &mut postgres::Transaction<'_> {
    fn enqueue(
        self,
        broker: &PostgresBroker,
        jobs: &[NewJob],
    ) -> Result<Vec<Enqueued>, QueueError> {
        broker.enqueue_in(self, jobs)
    }

    fn settle(
        self,
        broker: &PostgresBroker,
        ends: &[(Lease, Settle)],
    ) -> Result<Vec<Settled>, QueueError> {
        broker.settle_in(self, ends)
    }
}

/// What a [`Queue`] in Postgres can do beside what every queue can. ([`Queue::enqueue_in`] and [`Queue::settle_in`] take a
/// `&mut postgres::Transaction`.)
pub trait PostgresQueue {
    /// Returns the broker, if the queue is in Postgres.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](QueueError::Unsupported), if it is not.
    fn postgres(&self) -> Result<&PostgresBroker, QueueError>;

    /// Enqueues a job as part of a transaction of yours, from an async task; see [`PostgresBroker::enqueue_in_async`].
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`] and [`PostgresBroker::enqueue_in`].
    fn enqueue_in_async<J: Job>(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        job: &J,
    ) -> impl Future<Output = Result<JobId, QueueError>> + Send;

    /// Settles the job of a handler as done in a transaction of the handler's, from an async task, as [`Queue::settle_in`] does.
    ///
    /// # Errors
    ///
    /// As [`Queue::settle_in`].
    fn settle_in_async<R: Serialize + Sync>(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        cx: &Context,
        result: &R,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Enqueues a job without blocking a thread; see [`PostgresBroker::enqueue_async`].
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`].
    fn enqueue_async<J: Job>(
        &self,
        job: &J,
    ) -> impl Future<Output = Result<JobId, QueueError>> + Send;
}

fn only(enqueued: &[Enqueued], new: &NewJob) -> JobId {
    enqueued.first().map_or(new.id, |one| one.id())
}

impl PostgresQueue for Queue {
    fn postgres(&self) -> Result<&PostgresBroker, QueueError> {
        let refused = || self.capabilities().unsupported("what only Postgres does");
        self.broker_as().ok_or_else(refused)
    }

    fn enqueue_in_async<J: Job>(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        job: &J,
    ) -> impl Future<Output = Result<JobId, QueueError>> + Send {
        let encoded = self.encode(job);
        async move {
            let new = encoded?;
            let broker = self.postgres()?;
            let jobs = std::slice::from_ref(&new);
            let enqueued = broker.enqueue_in_async(transaction, jobs).await?;
            Ok(only(&enqueued, &new))
        }
    }

    fn settle_in_async<R: Serialize + Sync>(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        cx: &Context,
        result: &R,
    ) -> impl Future<Output = Result<(), QueueError>> + Send {
        let settlement = cx.settlement(result);
        async move {
            let ends = [settlement?];
            let settled = self.postgres()?.settle_in_async(transaction, &ends).await?;
            match settled.first() {
                Some(settled) if settled.is_stored() => Ok(()),
                _ => Err(QueueError::Lost),
            }
        }
    }

    fn enqueue_async<J: Job>(
        &self,
        job: &J,
    ) -> impl Future<Output = Result<JobId, QueueError>> + Send {
        let sent = self.encode(job).and_then(|new| {
            let call = self.postgres()?.enqueue_async(std::slice::from_ref(&new));
            Ok((new, call))
        });
        async move {
            let (new, call) = sent?;
            Ok(only(&call.await?, &new))
        }
    }
}
