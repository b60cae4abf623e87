//! The broker: each method of the trait is one call of a script.

use crate::builder::RedisBuilder;
use crate::call::Again;
use crate::claim::{self, MOST};
use crate::enqueue::{self, Answer};
use crate::errors::unavailable;
use crate::limits::{self, is_zero};
use crate::quick::Quick;
use crate::reply;
use crate::scripts::Script;
use crate::settle;
use crate::store::{QueueState, Store, args};
use crate::values::micros;
use anthill_jobs::broker::{
    Admin, Change, ConsumerRegistry, LimitStore, Listener, ScheduleStore, Subscription,
};
use anthill_jobs::{
    Broker, Capabilities, Capability, ClaimRequest, Claims, Durability, Enqueued, Extended, Lease,
    NewJob, QueueError, Settle, Settled,
};
use redis::{Cmd, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The size of a job's data: the server takes eight times as much.
const LARGEST: usize = 64 << 20;

/// How often an enqueue sees to what time has brought, for a bounded queue.
const SWEEPS: usize = 10_000;

/// The shortest time that a heartbeat may take.
const SHORTEST_BEAT: Duration = Duration::from_millis(500);

/// A broker in a Redis server: all that can reach it share the jobs. What they survive is what the server is set to;
/// the module `guide` has it in a table.
///
/// Any thread may use it. All handles of a process on the same server share their connections.
///
/// ```no_run
/// use anthill_jobs::{Broker, ClaimRequest, NewJob};
/// use anthill_redis::RedisBroker;
/// use std::time::Duration;
///
/// let broker = RedisBroker::open("redis://cache.internal/0?queue=mail")?;
/// broker.enqueue(&[NewJob::new("letter", b"{}".to_vec())])?;
/// let claims = broker.claim(&ClaimRequest::new(10, Duration::from_secs(30)))?;
/// assert_eq!(claims.jobs[0].kind, "letter");
/// # Ok::<(), anthill_jobs::QueueError>(())
/// ```
pub struct RedisBroker {
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Arc<QueueState>,
    pub(crate) identity: String,
    pub(crate) durability: Durability,
    pub(crate) warnings: Vec<String>,
    pub(crate) quick: Quick,
    pub(crate) is_read_only: bool,
}

impl RedisBroker {
    /// Opens a queue by its address: `redis://user:password@host:port/database?queue=NAME`. Makes the queue if it does not exist.
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::open`].
    pub fn open(address: &str) -> Result<RedisBroker, QueueError> {
        RedisBroker::builder(address).open()
    }

    /// Makes a builder, which opens a queue with options.
    pub fn builder(address: &str) -> RedisBuilder {
        RedisBuilder::new(address)
    }

    /// Returns what may cost jobs on this server, by its settings when the queue was opened: each a part of a sentence, for a log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn refuse_to_write(&self) -> Result<(), QueueError> {
        if self.is_read_only {
            return Err(QueueError::ReadOnly("it was opened read-only".to_owned()));
        }
        Ok(())
    }

    /// Calls a script that may be called again if nobody knows whether it was done.
    pub(crate) fn call(&self, script: Script, args: &Cmd) -> Result<Value, QueueError> {
        self.store.call(&self.queue, script, args, Again::Once)
    }

    /// Something became claimable: tells this process. The script has told the others.
    pub(crate) fn wake(&self) {
        self.queue.tell(Change::Here);
    }

    /// Stores plain jobs, unless another script has to.
    fn add(&self, jobs: &[NewJob]) -> Result<Option<Vec<Enqueued>>, QueueError> {
        if !self.quick.add.is_good() || !enqueue::are_plain(jobs) {
            return Ok(None);
        }
        let mut args = args(&self.store);
        enqueue::plain_args(&mut args, jobs);
        let answer = self
            .store
            .ask(&self.queue, Script::Add, &args, Again::Once)?;
        if answer.is_repeated && is_zero(&answer.value) {
            // By the first call, perhaps.
            return self.enqueue_any(jobs, true).map(Some);
        }
        let is_done = !is_zero(&answer.value);
        self.quick.add.learn(is_done);
        Ok(is_done.then(|| enqueue::all_added(jobs)))
    }

    /// Stores jobs. A call that `is_repeated` may have stored them before: those that are there now count as added by it.
    fn enqueue_any(&self, jobs: &[NewJob], is_repeated: bool) -> Result<Vec<Enqueued>, QueueError> {
        let mut args = args(&self.store);
        enqueue::args(&mut args, None, jobs)?;
        let mut is_repeated = is_repeated;
        for _ in 0..SWEEPS {
            let answer = self
                .store
                .ask(&self.queue, Script::Enqueue, &args, Again::Once)?;
            is_repeated |= answer.is_repeated;
            match enqueue::answer(jobs, answer.value)? {
                Answer::Stored(enqueued) if is_repeated => {
                    return Ok(enqueue::those_there_as_added(jobs, enqueued));
                }
                Answer::Stored(enqueued) => return Ok(enqueued),
                Answer::Full => {
                    let limits = limits::get(&self.store, &self.queue)?.limits;
                    let limit = limits.max_ready.unwrap_or_default();
                    return Err(QueueError::Full { limit });
                }
                Answer::Sweep => {
                    self.call(Script::Sweep, &crate::store::args(&self.store))?;
                }
                Answer::Paused | Answer::Changed => break,
            }
        }
        Err(QueueError::Busy)
    }
}

fn capabilities(durability: Durability) -> Capabilities {
    let mut capabilities =
        Capabilities::full("redis", durability).without(&[Capability::Transactions]);
    capabilities.maxima.batch = MOST;
    capabilities.maxima.payload = LARGEST;
    capabilities
}

impl Broker for RedisBroker {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.durability)
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        self.refuse_to_write()?;
        enqueue::check(jobs, MOST)?;
        let added = self.add(jobs)?;
        let enqueued = match added {
            Some(enqueued) => enqueued,
            None => self.enqueue_any(jobs, false)?,
        };
        let debounces = jobs.iter().any(|job| job.debounce);
        if debounces || enqueued.iter().any(|one| one.is_added()) {
            self.wake();
        }
        Ok(enqueued.into_iter().map(Ok).collect())
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        self.refuse_to_write()?;
        let token = claim::token();
        let mut args = args(&self.store);
        claim::args(&mut args, request, &token);
        let mut answer = Value::Int(0);
        if request.limit > 0 && self.quick.take.is_good() {
            answer = self
                .store
                .call(&self.queue, Script::Take, &args, Again::Never)?;
            self.quick.take.learn(!is_zero(&answer));
        }
        if is_zero(&answer) {
            answer = self
                .store
                .call(&self.queue, Script::Claim, &args, Again::Never)?;
        }
        let found = claim::found(answer, &token)?;
        if found.woke {
            self.wake();
        }
        Ok(found.claims)
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        self.refuse_to_write()?;
        let mut extended = Vec::with_capacity(leases.len());
        for some in leases.chunks(MOST) {
            let mut args = args(&self.store);
            args.arg(micros(time));
            settle::leases(&mut args, some);
            let in_time = (time / 3).max(SHORTEST_BEAT);
            let answer = self
                .store
                .beat(&self.queue, Script::Extend, &args, in_time)?;
            extended.extend(settle::extended(answer, some)?);
        }
        Ok(extended)
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        self.refuse_to_write()?;
        let mut settled = Vec::with_capacity(ends.len());
        let mut woke = false;
        for some in ends.chunks(MOST) {
            let ask = |script, args: &Cmd| self.store.ask(&self.queue, script, args, Again::Once);
            let mut quick = None;
            let mut plain = args(&self.store);
            if self.quick.done.is_good() && settle::plain_args(&mut plain, some) {
                let answer = ask(Script::Finish, &plain)?;
                let is_done = !is_zero(&answer.value);
                self.quick.done.learn(is_done);
                quick = is_done.then_some(answer);
            }
            let answer = if let Some(answer) = quick {
                answer
            } else {
                let mut args = args(&self.store);
                settle::args(&mut args, some);
                ask(Script::Settle, &args)?
            };
            let (stored, more) = settle::answers(answer.value, some.len())?;
            if answer.is_repeated && !stored.contains(&true) {
                // Either the first call has stored them all, or the leases are over.
                return Err(unavailable(
                    "the answer was lost, and nobody knows whether it was stored",
                ));
            }
            settled.extend(settle::settled(&stored));
            woke |= more;
        }
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
        let elsewhere = self.queue.listen.add(&self.store, &self.queue, poll)?;
        Ok(here.and_then(move || drop(elsewhere)))
    }

    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        self.refuse_to_write()?;
        let mut args = args(&self.store);
        args.arg(&lease.id().as_bytes()[..])
            .arg(lease.token())
            .arg(progress);
        Ok(reply::count(&self.call(Script::Progress, &args)?)? == 1)
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

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker")
            .field("address", &self.store.login.shown)
            .field("queue", &self.queue.name)
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
