//! What a handler knows of its job, and the signals between it and the consumer.

use crate::broker::{Broker, Claimed, Lease, Settle};
use crate::error::QueueError;
use crate::id::JobId;
use crate::sync::lock;
use anthill::{StopSource, StopToken};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The signals between a consumer and the handler of one job.
pub(super) struct Signal {
    /// The lease of the job, with its newest token.
    lease: Mutex<Lease>,
    /// Set when the handler should end, for whatever reason.
    pub(super) stop: StopSource,
    /// The consumer stops.
    is_stopping: AtomicBool,
    /// The handler asked for its stop token.
    token_requested: AtomicBool,
    /// The handler returned `Ok`.
    has_succeeded: AtomicBool,
    /// A request to cancel the job is pending.
    is_cancelled: AtomicBool,
    /// A transaction of the handler's settles the job.
    is_settled_by_handler: AtomicBool,
}

impl Signal {
    pub(super) fn new(lease: &Lease) -> Arc<Signal> {
        Arc::new(Signal {
            lease: Mutex::new(lease.clone()),
            stop: StopSource::new(),
            is_stopping: AtomicBool::new(false),
            token_requested: AtomicBool::new(false),
            has_succeeded: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            is_settled_by_handler: AtomicBool::new(false),
        })
    }

    pub(super) fn lease(&self) -> Lease {
        lock(&self.lease).clone()
    }

    /// The broker has renewed the lease.
    pub(super) fn renew(&self, lease: &Lease) {
        lock(&self.lease).clone_from(lease);
    }

    /// Tells the handler that the job is cancelled. Returns whether this was the first time.
    pub(super) fn cancel(&self) -> bool {
        let is_first = !self.is_cancelled.swap(true, Ordering::SeqCst);
        self.stop.stop();
        is_first
    }

    pub(super) fn is_settled_by_handler(&self) -> bool {
        self.is_settled_by_handler.load(Ordering::SeqCst)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }

    /// Whether the handler returned `Ok`, even if its result is refused later.
    pub(super) fn has_succeeded(&self) -> bool {
        self.has_succeeded.load(Ordering::SeqCst)
    }

    /// Tells the handler that the consumer stops.
    pub(super) fn stop_for_good(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.stop.stop();
    }
}

/// A running job, as its handler sees it.
///
/// ```
/// use anthill_jobs::{Context, Job, JobError};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Import { rows: u32 }
/// # impl Job for Import { const KIND: &'static str = "import"; }
///
/// fn import(job: Import, cx: &Context) -> Result<u32, JobError> {
///     let stop = cx.stop_token();
///     for row in 0..job.rows {
///         if stop.is_stopped() {
///             return Err(JobError::hand_back()); // the attempt does not count
///         }
///         if row % 1_000 == 0 {
///             cx.progress(&row)?;
///         }
///     }
///     Ok(job.rows)
/// }
/// # use anthill::Pool;
/// # use anthill_jobs::Queue;
/// # let jobs = Queue::memory().consumer(&Pool::with_capacity(1)).handle(import).inline();
/// ```
#[derive(Clone)]
pub struct Context {
    broker: Arc<dyn Broker>,
    id: JobId,
    /// `None` if there are none.
    headers: Option<Arc<BTreeMap<String, String>>>,
    kind: Cow<'static, str>,
    version: u32,
    attempt: u32,
    attempts: u32,
    keeps_result: bool,
    data_limit: usize,
    signal: Arc<Signal>,
}

impl Context {
    /// `known` is the kind and its version, where it has a handler.
    pub(super) fn new(
        broker: Arc<dyn Broker>,
        known: Option<(&'static str, u32)>,
        data_limit: usize,
        claimed: &Claimed,
        signal: Arc<Signal>,
    ) -> Context {
        let (kind, version) = match known {
            Some((kind, version)) => (Cow::Borrowed(kind), version),
            None => (claimed.kind.clone(), 0),
        };
        Context {
            broker,
            id: claimed.lease.id(),
            headers: (!claimed.headers.is_empty()).then(|| Arc::new(claimed.headers.clone())),
            kind,
            version,
            attempt: claimed.attempt,
            attempts: claimed.attempts,
            keeps_result: claimed.keeps_result,
            data_limit,
            signal,
        }
    }

    /// Returns the job's id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Returns the job's kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the [version](crate::Job::VERSION) of the job's data.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the number of this attempt, from 1 on. An attempt that ended with its process counts if the job was claimed
    /// alone.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns whether this is the last attempt: if it fails the job is not tried again.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.attempts
    }

    /// Returns the job's headers.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.headers.as_deref().unwrap_or(&NONE)
    }

    /// Returns the value of a header, if the job has it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name).map(String::as_str)
    }

    /// Returns the lease under which the job runs.
    pub fn lease(&self) -> Lease {
        self.signal.lease()
    }

    /// Returns the settlement of this job as done, for a transaction of the handler's: for a broker with
    /// [`Capability::Transactions`](crate::Capability::Transactions), whose `settle_in` takes it. So the job is done if, and only
    /// if, what the handler did in the same transaction is done: exactly once.
    ///
    /// The handler commits the transaction and returns `Ok`. The consumer then checks that the job is settled; if it is not,
    /// because the transaction was not committed, the attempt has failed. From this call on the lease is not extended any
    /// more, so that a heartbeat does not wait for the transaction.
    ///
    /// # Errors
    ///
    /// If the result cannot be written as JSON, or is [too large](crate::ConsumerBuilder::data_limit).
    pub fn settlement<R: Serialize>(&self, result: &R) -> Result<(Lease, Settle), QueueError> {
        let result = if self.keeps_result {
            self.encode(result)?
        } else {
            b"null".to_vec()
        };
        (self.signal.is_settled_by_handler).store(true, Ordering::SeqCst);
        Ok((self.lease(), Settle::Done { result }))
    }

    /// What a handler gives back, as JSON.
    fn encode(&self, data: &impl Serialize) -> Result<Vec<u8>, QueueError> {
        let data = serde_json::to_vec(data).map_err(QueueError::Encode)?;
        let (size, limit) = (data.len(), self.data_limit);
        if size > limit {
            return Err(QueueError::TooLarge { size, limit });
        }
        Ok(data)
    }

    /// Returns whether somebody has requested to [cancel](crate::Queue::cancel_running) the job.
    pub fn is_cancelled(&self) -> bool {
        self.signal.is_cancelled()
    }

    pub(super) fn is_settled_by_handler(&self) -> bool {
        self.signal.is_settled_by_handler()
    }

    /// Returns the job's stop token. It is set when the consumer stops, when the lease is lost, when the job is
    /// [cancelled](crate::Queue::cancel_running), and when it exceeds its run time. A handler that heeds it ends with [`JobError::hand_back`](crate::JobError::hand_back).
    pub fn stop_token(&self) -> StopToken {
        self.signal.token_requested.store(true, Ordering::SeqCst);
        self.signal.stop.token()
    }

    /// Whether the consumer stops and the handler has a token to know it by.
    pub(super) fn heeds_stop(&self) -> bool {
        self.is_stopping() && self.signal.token_requested.load(Ordering::SeqCst)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.signal.is_stopping.load(Ordering::SeqCst)
    }

    pub(super) fn note_success(&self) {
        self.signal.has_succeeded.store(true, Ordering::SeqCst);
    }

    pub(super) fn keeps_result(&self) -> bool {
        self.keeps_result
    }

    pub(super) fn data_limit(&self) -> usize {
        self.data_limit
    }

    /// Stores the progress of the job, which [`Queue::get`](crate::Queue::get) returns. Returns false if the lease is lost:
    /// another consumer runs the job then, or will, and what this one still does is in vain.
    ///
    /// # Errors
    ///
    /// If the progress cannot be written as JSON, is [too large](crate::ConsumerBuilder::data_limit), or the broker fails.
    pub fn progress(&self, progress: &impl Serialize) -> Result<bool, QueueError> {
        let progress = self.encode(progress)?;
        self.broker.progress(&self.lease(), &progress)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id())
            .field("kind", &self.kind)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
