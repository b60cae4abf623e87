//! Errors: of a queue and its broker, of an enqueue, of a handler, and of a stop.

use crate::broker::Enqueued;
use crate::id::JobId;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Why an operation of a queue failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum QueueError {
    /// The broker does not support the operation.
    Unsupported {
        /// The unsupported operation or option.
        what: Cow<'static, str>,
        /// The name of the broker.
        broker: &'static str,
    },
    /// The address is wrong, or its scheme is unknown.
    Address {
        /// The address, without a password.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The data is larger than the [limit](crate::Queue::payload_limit).
    TooLarge {
        /// The size of the data, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The data cannot be written as JSON.
    Encode(serde_json::Error),
    /// The data can be written as JSON, but not read back from it (NaN, nesting that is too deep): no handler could run
    /// the job.
    Unreadable(serde_json::Error),
    /// The stored data cannot be read as the requested type.
    Decode(serde_json::Error),
    /// More jobs would be ready than [`Limits::max_ready`](crate::Limits::max_ready) allows. Nothing was enqueued.
    Full {
        /// How many jobs may be ready or parked.
        limit: u64,
    },
    /// Another transaction held a lock on the store for too long. Nothing was done. An enqueue on a thread with an open
    /// transaction of its own on the same file ends like this, too: use `Queue::enqueue_in`.
    Busy,
    /// The job's lease is over: another consumer runs the job, or will, or it is gone. What this one did in a transaction with the
    /// settlement must not be committed.
    Lost,
    /// The stored data is damaged, or not a queue.
    Corrupt(String),
    /// The queue's files are no longer those that were opened: a file was deleted, moved or replaced, or another program
    /// unlinked the log. This handle acknowledges nothing any more: drop all handles of the queue, and open it again. The
    /// operation that failed may have been done all the same.
    Detached(String),
    /// The queue is read-only here.
    ReadOnly(String),
    /// The queue was made by another version of anthill. Nothing is damaged.
    Version(String),
    /// Not a valid cron expression.
    Schedule {
        /// The text.
        text: String,
        /// Why it is not valid.
        reason: String,
    },
    /// The system refused to start a thread.
    Thread(std::io::Error),
    /// The broker cannot be reached, or did not answer in time. The operation may have been done all the same: a job can be
    /// enqueued again with the same id.
    Unavailable(Box<dyn Error + Send + Sync>),
    /// The broker refuses the credentials, or the permission for this operation. Nothing was done.
    Denied(String),
    /// The broker will never take this: a text that it cannot store, for example. Nothing was done.
    Invalid(String),
    /// The broker failed. The operation may have been done all the same: a job can be enqueued again with the same id.
    Broker(Box<dyn Error + Send + Sync>),
}

impl QueueError {
    /// Returns whether the same call may succeed later, with nothing else changed: the queue was full or locked, the
    /// broker could not be reached or failed.
    pub fn is_transient(&self) -> bool {
        match self {
            QueueError::Full { .. }
            | QueueError::Busy
            | QueueError::Thread(_)
            | QueueError::Unavailable(_)
            | QueueError::Broker(_) => true,
            QueueError::Unsupported { .. }
            | QueueError::Address { .. }
            | QueueError::TooLarge { .. }
            | QueueError::Encode(_)
            | QueueError::Unreadable(_)
            | QueueError::Decode(_)
            | QueueError::Corrupt(_)
            | QueueError::Lost
            | QueueError::Detached(_)
            | QueueError::ReadOnly(_)
            | QueueError::Version(_)
            | QueueError::Schedule { .. }
            | QueueError::Denied(_)
            | QueueError::Invalid(_) => false,
        }
    }

    /// Returns whether the operation may have been done although it failed.
    pub fn is_uncertain(&self) -> bool {
        matches!(
            self,
            QueueError::Unavailable(_) | QueueError::Broker(_) | QueueError::Detached(_)
        )
    }

    pub(crate) fn address(address: &str, reason: impl Into<String>) -> QueueError {
        QueueError::Address {
            address: address.to_owned(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueError::Unsupported { what, broker } => {
                write!(f, "the {broker} broker does not support {what}")
            }
            QueueError::Address { address, reason } => {
                write!(f, "{address:?} is not the address of a queue: {reason}")
            }
            QueueError::TooLarge { size, limit } => {
                write!(
                    f,
                    "a job of {size} bytes exceeds the limit of {limit} bytes"
                )
            }
            QueueError::Encode(_) => f.write_str("the job cannot be written as JSON"),
            QueueError::Unreadable(_) => {
                f.write_str("the job's JSON cannot be read back as the job")
            }
            QueueError::Full { limit } => {
                write!(f, "the queue is full: at most {limit} jobs may be ready")
            }
            QueueError::Decode(_) => f.write_str("the stored data cannot be read"),
            QueueError::Busy => f.write_str("the queue is locked by another transaction"),
            QueueError::Lost => f.write_str("the lease of the job is over"),
            QueueError::Corrupt(why) => write!(f, "the queue's file is damaged: {why}"),
            QueueError::Detached(why) => write!(
                f,
                "the queue's files are no longer those that were opened: {why}; nothing was acknowledged, open the queue again"
            ),
            QueueError::ReadOnly(why) => write!(f, "the queue cannot be changed: {why}"),
            QueueError::Version(why) => f.write_str(why),
            QueueError::Schedule { text, reason } => {
                write!(f, "{text:?} is not a valid cron expression: {reason}")
            }
            QueueError::Thread(_) => f.write_str("the system refused to start a thread"),
            QueueError::Unavailable(_) => f.write_str("the queue's broker cannot be reached"),
            QueueError::Denied(why) => write!(f, "the queue's broker refuses access: {why}"),
            QueueError::Invalid(why) => write!(f, "the queue's broker cannot take this: {why}"),
            QueueError::Broker(_) => f.write_str("the queue's broker failed"),
        }
    }
}

impl Error for QueueError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            QueueError::Encode(error)
            | QueueError::Unreadable(error)
            | QueueError::Decode(error) => Some(error),
            QueueError::Thread(error) => Some(error),
            QueueError::Unavailable(error) | QueueError::Broker(error) => Some(&**error),
            _ => None,
        }
    }
}

/// A failed enqueue, with the jobs that were not enqueued, and the reason.
///
/// ```
/// use anthill_jobs::{Job, Queue, QueueError};
/// # #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
/// # struct Letter(String);
/// # impl Job for Letter { const KIND: &'static str = "letter"; }
/// let queue = Queue::memory().payload_limit(10);
/// let refused = queue.enqueue(Letter("x".repeat(100))).unwrap_err();
/// assert!(matches!(refused.reason(), QueueError::TooLarge { size: 102, limit: 10 }));
/// assert_eq!(refused.into_inner(), Letter("x".repeat(100)));
/// ```
pub struct EnqueueError<J> {
    reason: QueueError,
    /// In a mutex that is never locked, so that the error is `Sync` whatever `J` is.
    jobs: Mutex<J>,
    enqueued: Vec<Enqueued>,
}

impl<J> EnqueueError<Vec<J>> {
    /// Keeps the jobs that were refused or not asked for. `answers` has one for each job that the broker was asked for.
    pub(crate) fn of_some(
        (reason, answers): (QueueError, Vec<Option<Enqueued>>),
        jobs: Vec<J>,
    ) -> EnqueueError<Vec<J>> {
        let mut answers_left = answers.iter();
        let is_left = |_: &J| answers_left.next().is_none_or(Option::is_none);
        let left = jobs.into_iter().filter(is_left).collect();
        let enqueued = answers.into_iter().flatten().collect();
        EnqueueError {
            enqueued,
            ..EnqueueError::new(reason, left)
        }
    }
}

impl<J> EnqueueError<J> {
    pub(crate) fn new(reason: QueueError, jobs: J) -> EnqueueError<J> {
        let jobs = Mutex::new(jobs);
        EnqueueError {
            reason,
            jobs,
            enqueued: Vec::new(),
        }
    }

    /// Returns how the jobs of the call that were enqueued all the same ended, in their order: none, unless the broker lacks
    /// [`Capability::AtomicBatches`](crate::Capability::AtomicBatches).
    pub fn enqueued(&self) -> &[Enqueued] {
        &self.enqueued
    }

    /// Returns why the enqueue failed.
    pub fn reason(&self) -> &QueueError {
        &self.reason
    }

    /// Returns the jobs.
    pub fn into_inner(self) -> J {
        self.into_parts().1
    }

    /// Returns the reason and the jobs.
    pub fn into_parts(self) -> (QueueError, J) {
        let jobs = self.jobs.into_inner();
        (self.reason, jobs.unwrap_or_else(PoisonError::into_inner))
    }
}

impl<J> fmt::Debug for EnqueueError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnqueueError")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<J> fmt::Display for EnqueueError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<J> Error for EnqueueError<J> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

/// Why a handler failed, and what to do with the job. Any error becomes one by `?`: the job is then tried again after the
/// [backoff](crate::Backoff) of its consumer.
///
/// ```
/// use anthill_jobs::JobError;
/// use std::time::Duration;
///
/// fn handler(text: &str) -> Result<(), JobError> {
///     let number: u32 = text.parse()?; // tried again
///     if number == 0 {
///         return Err(JobError::fatal("nothing will ever be divided by zero"));
///     }
///     if number > 9 {
///         return Err(JobError::retry_in(Duration::from_secs(60), "come back in a minute"));
///     }
///     Ok(())
/// }
/// # assert!(handler("a").is_err() && handler("0").is_err() && handler("10").is_err() && handler("7").is_ok());
/// ```
#[derive(Debug)]
pub struct JobError {
    pub(crate) then: Then,
    reason: Box<dyn Error + Send + Sync>,
}

/// What to do with a job that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Retry,
    RetryIn(Duration),
    Die,
    HandBack,
}

impl JobError {
    /// Fails the attempt; the job is tried again after exactly `delay`, if it has an attempt left.
    pub fn retry_in(delay: Duration, reason: impl Into<Box<dyn Error + Send + Sync>>) -> JobError {
        JobError {
            then: Then::RetryIn(delay),
            reason: reason.into(),
        }
    }

    /// Fails the job for good: it becomes a dead letter.
    pub fn fatal(reason: impl Into<Box<dyn Error + Send + Sync>>) -> JobError {
        JobError {
            then: Then::Die,
            reason: reason.into(),
        }
    }

    /// Hands the job back, as if it had not been claimed: for a handler that heeds its
    /// [stop token](crate::Context::stop_token), or cannot run the job now. The attempt does not count. While the consumer
    /// stops, the job is ready at once, for other consumers; otherwise it waits as long as after a first failure.
    ///
    /// A plain error (made by `?`) also hands the job back if it comes after the consumer was told to stop, from a handler
    /// that has asked for its stop token.
    pub fn hand_back() -> JobError {
        JobError {
            then: Then::HandBack,
            reason: "handed back".into(),
        }
    }

    /// The text that is stored: the error and its sources.
    pub(crate) fn text(&self) -> String {
        let mut text = self.reason.to_string();
        let mut source = self.reason.source();
        while let Some(error) = source {
            text += ": ";
            text += &error.to_string();
            source = error.source();
        }
        text
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for JobError {
    fn from(reason: E) -> JobError {
        JobError {
            then: Then::Retry,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

/// Jobs still ran at the end of the timeout of [`Consumer::stop`](crate::Consumer::stop). They go on, and end as they
/// would have.
#[derive(Debug, PartialEq, Eq)]
pub struct StopTimeout {
    pub(crate) running: Vec<JobId>,
}

impl StopTimeout {
    /// Returns the jobs that still ran.
    pub fn running(&self) -> &[JobId] {
        &self.running
    }
}

impl fmt::Display for StopTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} jobs still run", self.running.len())
    }
}

impl Error for StopTimeout {}
