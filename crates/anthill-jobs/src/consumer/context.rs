//! What a handler knows of the job that it runs.

use super::handlers::Handlers;
use crate::broker::{Broker, Claimed, Lease};
use crate::error::QueueError;
use crate::job::JobId;
use anthill::{StopSource, StopToken};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a consumer tells those who run a job, and hears of them.
pub(super) struct Signal {
    /// To end, for whatever reason.
    pub(super) stop: StopSource,
    /// The consumer is to stop.
    is_stopping: AtomicBool,
    /// The handler asked for its stop token.
    was_asked: AtomicBool,
    /// The handler returned `Ok`.
    has_succeeded: AtomicBool,
}

impl Signal {
    pub(super) fn new() -> Arc<Signal> {
        Arc::new(Signal {
            stop: StopSource::new(),
            is_stopping: AtomicBool::new(false),
            was_asked: AtomicBool::new(false),
            has_succeeded: AtomicBool::new(false),
        })
    }

    /// Whether the handler returned `Ok`, though its result may be refused.
    pub(super) fn has_succeeded(&self) -> bool {
        self.has_succeeded.load(Ordering::SeqCst)
    }

    /// The consumer is to stop.
    pub(super) fn stop_for_good(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.stop.stop();
    }
}

/// A job that runs, as its handler sees it.
#[derive(Clone)]
pub struct Context {
    broker: Arc<dyn Broker>,
    lease: Lease,
    kind: Cow<'static, str>,
    version: u32,
    attempt: u32,
    attempts: u32,
    keeps_result: bool,
    data_limit: usize,
    signal: Arc<Signal>,
}

impl Context {
    pub(super) fn new(
        broker: Arc<dyn Broker>,
        handlers: &Handlers,
        data_limit: usize,
        claimed: &Claimed,
        signal: Arc<Signal>,
    ) -> Context {
        let known = handlers.kind_and_version(&claimed.kind);
        let (kind, version) = match known {
            Some((kind, version)) => (Cow::Borrowed(kind), version),
            None => (claimed.kind.clone(), 0),
        };
        Context {
            broker,
            lease: claimed.lease,
            kind,
            version,
            attempt: claimed.attempt,
            attempts: claimed.attempts,
            keeps_result: claimed.keeps_result,
            data_limit,
            signal,
        }
    }

    /// The job's name.
    pub fn id(&self) -> JobId {
        self.lease.id
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Of which [version](crate::Job::VERSION) its data is.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// This attempt, from 1 on. One that ended with its process counts, too, if the job was claimed by itself.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether it is not tried again if this attempt fails.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.attempts
    }

    /// Tells when to end: the consumer is to stop, the job was given to another consumer, or it has run for as long
    /// as it may. A handler that heeds it ends with [`JobError::hand_back`](crate::JobError::hand_back).
    pub fn stop_token(&self) -> StopToken {
        self.signal.was_asked.store(true, Ordering::SeqCst);
        self.signal.stop.token()
    }

    /// The consumer is to stop, and the handler can know.
    pub(super) fn heeds_stop(&self) -> bool {
        self.is_stopping() && self.signal.was_asked.load(Ordering::SeqCst)
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

    /// Stores how far the job is, for [`Queue::get`](crate::Queue::get) to see. False if the job is not this
    /// consumer's any more: then whatever it still does is in vain.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON, is [too large](crate::ConsumerBuilder::data_limit), or the broker fails.
    pub fn progress(&self, progress: &impl Serialize) -> Result<bool, QueueError> {
        let progress = serde_json::to_vec(progress).map_err(QueueError::Encode)?;
        let (size, most) = (progress.len(), self.data_limit);
        if size > most {
            return Err(QueueError::TooLarge { size, most });
        }
        self.broker.progress(self.lease, &progress)
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
