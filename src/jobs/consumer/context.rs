//! What a handler knows of the job that it runs.

use crate::jobs::broker::{Broker, Claimed, Lease};
use crate::jobs::error::QueueError;
use crate::jobs::job::JobId;
use crate::results::stop::{Stop, StopToken};
use crate::sync::Arc;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;

/// A job that runs, as its handler sees it.
#[derive(Clone)]
pub struct Context {
    broker: Arc<dyn Broker>,
    lease: Lease,
    kind: Cow<'static, str>,
    attempt: u32,
    attempts: u32,
    stop: Arc<Stop>,
}

impl Context {
    pub(super) fn new(broker: Arc<dyn Broker>, claimed: &Claimed, stop: Arc<Stop>) -> Context {
        Context {
            broker,
            lease: claimed.lease,
            kind: claimed.kind.clone(),
            attempt: claimed.attempt,
            attempts: claimed.attempts,
            stop,
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

    /// This attempt, from 1 on. An attempt that ended with its process counts, too.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether it is not tried again if this attempt fails.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.attempts
    }

    /// Tells when to end: the consumer is to stop, the job was given to another consumer, or it has run for as long
    /// as it may.
    pub fn stop_token(&self) -> StopToken {
        StopToken::new(Arc::clone(&self.stop))
    }

    /// Stores how far the job is, for [`Queue::get`](crate::jobs::Queue::get) to see. False if the job is not this
    /// consumer's any more: then whatever it still does is in vain.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON, or the broker fails.
    pub fn progress(&self, progress: &impl Serialize) -> Result<bool, QueueError> {
        let progress = serde_json::to_vec(progress).map_err(QueueError::Encode)?;
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
