//! The broker: each method of the trait is one call of a function of the schema.

use crate::builder::PostgresBuilder;
use crate::claim::{self, Found};
use crate::enqueue;
use crate::session::Param;
use crate::settle::{self, Settlements};
use crate::store::{Of, QueueState, Store, first};
use crate::token::Token;
use crate::values::uuid;
use anthill_jobs::broker::{
    Admin, Change, ConsumerRegistry, LimitStore, Listener, ScheduleStore, Subscription,
};
use anthill_jobs::{
    Broker, Capabilities, ClaimRequest, Claims, Durability, Enqueued, Extended, Lease, NewJob,
    QueueError, Settle, Settled,
};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// The size of a job's data: the server takes somewhat more.
const LARGEST: usize = 256 << 20;

/// A broker in a Postgres database: jobs survive the death of any process, and all that can reach the server share them.
///
/// Any thread may use it, also one of an async runtime, which is blocked meanwhile;
/// [`enqueue_async`](PostgresBroker::enqueue_async) blocks none. All handles of a process on the same database and schema share
/// their connections.
///
/// ```no_run
/// use anthill_jobs::{Broker, ClaimRequest, NewJob};
/// use anthill_postgres::PostgresBroker;
/// use std::time::Duration;
///
/// let broker = PostgresBroker::open("postgres://app@db/shop?queue=mail")?;
/// broker.enqueue(&[NewJob::new("letter", b"{}".to_vec())])?;
/// let claims = broker.claim(&ClaimRequest::new(10, Duration::from_secs(30)))?;
/// assert_eq!(claims.jobs[0].kind, "letter");
/// # Ok::<(), anthill_jobs::QueueError>(())
/// ```
pub struct PostgresBroker {
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Arc<QueueState>,
    pub(crate) channel: String,
    pub(crate) durability: Durability,
    pub(crate) is_read_only: bool,
}

impl PostgresBroker {
    /// Opens a queue by its address: `postgres://user:password@host:port/database?queue=NAME&schema=NAME`. Makes the tables and the
    /// queue if they do not exist.
    ///
    /// # Errors
    ///
    /// As [`PostgresBuilder::open`].
    pub fn open(address: &str) -> Result<PostgresBroker, QueueError> {
        PostgresBroker::builder(address).open()
    }

    /// Makes a builder, which opens a queue with options.
    pub fn builder(address: &str) -> PostgresBuilder {
        PostgresBuilder::new(address)
    }

    /// The queue's number, as the first parameter of a call.
    pub(crate) fn number(&self) -> Param {
        (Box::new(self.queue.number), Type::INT4)
    }

    pub(crate) fn refuse_to_write(&self) -> Result<(), QueueError> {
        if self.is_read_only {
            return Err(QueueError::ReadOnly("it was opened read-only".to_owned()));
        }
        Ok(())
    }

    /// Calls a function that changes the queue.
    pub(crate) fn change(&self, sql: Of, params: Vec<Param>) -> Result<Vec<Row>, QueueError> {
        self.refuse_to_write()?;
        self.store.call(sql, params)
    }

    /// Something became claimable: tells this process, and then the others.
    pub(crate) fn wake(&self) {
        self.queue.tell(Change::Here);
        self.store.notify_others(&self.channel, &self.queue);
    }

    fn enqueue_call(&self, jobs: &[NewJob]) -> Result<(enqueue::Call, Vec<Param>), QueueError> {
        self.refuse_to_write()?;
        enqueue::Call::of(self.number(), jobs)
    }

    /// Stores jobs as [`Broker::enqueue`] does, and blocks no thread: for a task of any async runtime. Once this is called the
    /// jobs are on their way, whether or not the future is polled to its end.
    ///
    /// ```no_run
    /// # async fn task(broker: &anthill_postgres::PostgresBroker) -> Result<(), anthill_jobs::QueueError> {
    /// use anthill_jobs::NewJob;
    ///
    /// let enqueued = broker.enqueue_async(&[NewJob::new("letter", b"{}".to_vec())]).await?;
    /// assert!(enqueued[0].is_added());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Broker::enqueue`].
    pub fn enqueue_async(
        &self,
        jobs: &[NewJob],
    ) -> impl Future<Output = Result<Vec<Enqueued>, QueueError>> + Send + use<> {
        let sent = if jobs.is_empty() {
            Ok(None)
        } else {
            self.enqueue_call(jobs).map(|(call, params)| {
                let answer = self.store.call_async(call.sql, params);
                Some((call, answer))
            })
        };
        let (store, queue) = (Arc::clone(&self.store), Arc::clone(&self.queue));
        let channel = self.channel.clone();
        async move {
            let Some((call, answer)) = sent? else {
                return Ok(Vec::new());
            };
            let enqueued = call.answer(&answer.await?)?;
            if enqueued.iter().any(|one| one.is_added()) {
                queue.tell(Change::Here);
                store.notify_others(&channel, &queue);
            }
            Ok(enqueued)
        }
    }
}

fn capabilities(durability: Durability) -> Capabilities {
    let mut capabilities = Capabilities::full("postgres", durability);
    capabilities.maxima.payload = LARGEST;
    capabilities
}

impl Broker for PostgresBroker {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.durability)
    }

    fn identity(&self) -> String {
        format!("postgres:{}", self.queue.identity)
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (call, params) = self.enqueue_call(jobs)?;
        let enqueued = call.answer(&self.store.call(call.sql, params)?)?;
        let debounces = jobs.iter().any(|job| job.debounce);
        if debounces || enqueued.iter().any(|one| one.is_added()) {
            self.wake();
        }
        Ok(enqueued.into_iter().map(Ok).collect())
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        let kinds = claim::kinds(request);
        let plan = self
            .queue
            .with_horizon(|horizon, now| horizon.plan(kinds.as_deref(), request.limit, now));
        let params = claim::params(self.queue.number, request, kinds, &plan);
        let sent = Instant::now();
        let rows = self.change(|calls| &calls.claim, params)?;
        let found = Found::read(&rows)?;
        if let Some(least) = self.queue.learn_time(found.now, sent) {
            // This claim was of the wrong time, and did too little; whoever claims again at once is right.
            let params = vec![self.number(), (Box::new(least) as _, Type::TIMESTAMPTZ)];
            // If this fails the next claim tries again; the jobs of this one are claimed.
            if self.change(|calls| &calls.go_on, params).is_ok() {
                self.wake();
            }
        }
        let look_again_in = self.queue.with_horizon(|horizon, now| {
            horizon.learn(&plan, &found.reply(), now);
            horizon.look_again_in(&plan, now)
        });
        if found.woke {
            self.wake();
        }
        Ok(found.claims(look_again_in))
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        self.refuse_to_write()?;
        let params = settle::extend_params(self.queue.number, leases, time);
        let rows = self.store.beat(|calls| &calls.extend, params)?;
        let (answers, ends) = settle::extended(leases, &rows)?;
        self.queue
            .with_horizon(|horizon, _| horizon.leases_changed(ends));
        Ok(answers)
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let (params, answers) = Settlements::of(self.queue.number, ends).split();
        let rows = self.change(|calls| &calls.settle, params)?;
        let (settled, woke) = answers.read(&rows)?;
        self.queue
            .with_horizon(|horizon, _| horizon.leases_changed(None));
        if woke {
            self.wake();
        }
        Ok(settled)
    }

    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        let poll = listener.poll();
        let here = self.queue.listeners.add(listener);
        if poll == Duration::MAX {
            return Ok(here);
        }
        let elsewhere = self.store.listen.add(&self.store, &self.channel, poll)?;
        Ok(here.and_then(move || drop(elsewhere)))
    }

    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        let params: Vec<Param> = vec![
            self.number(),
            (Box::new(uuid(lease.id())), Type::UUID),
            (Box::new(Token::of(lease).claim), Type::UUID),
            (Box::new(progress.to_vec()), Type::BYTEA),
        ];
        let rows = self.change(|calls| &calls.progress, params)?;
        first(&rows)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn limit_store(&self) -> Option<&dyn LimitStore> {
        Some(self)
    }

    fn schedule_store(&self) -> Option<&dyn ScheduleStore> {
        Some(self)
    }

    fn consumer_registry(&self) -> Option<&dyn ConsumerRegistry> {
        Some(self)
    }
}

impl fmt::Debug for PostgresBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBroker")
            .field("address", &self.store.address().shown)
            .field("queue", &self.queue.identity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `ANTHILL_WRITE_PAGES=1` the page is rewritten.
    #[test]
    fn the_page_of_capabilities_is_what_the_code_says() {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../anthill-jobs/docs/capabilities.md"
        );
        let ours = [capabilities(Durability::Fsync)];
        anthill_jobs::conformance::check_capability_page(page, &ours);
    }
}
