//! What can go wrong between a queue and its broker, and how a handler says that its job failed.

use super::job::JobId;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Why a queue could not do what it was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum QueueError {
    /// Its broker cannot do that at all.
    Unsupported {
        /// What it was asked for.
        what: &'static str,
        /// Who cannot.
        broker: &'static str,
    },
    /// The address names no broker, or one that this program was built without.
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The data is larger than the queue takes.
    TooLarge {
        /// In bytes.
        size: usize,
        /// In bytes, too.
        most: usize,
    },
    /// The data cannot be written as JSON.
    Encode(serde_json::Error),
    /// The data can be written as JSON, but not be read back from it (a number that is none, too deep): no handler could
    /// run the job.
    Unreadable(serde_json::Error),
    /// What is stored cannot be read as that.
    Decode(serde_json::Error),
    /// As many jobs are ready as [`Limits::max_ready`](super::Limits::max_ready) allows, or would be: nothing was
    /// enqueued.
    Full {
        /// How many may be.
        most: u64,
    },
    /// Somebody else keeps the store for himself; nothing was done. A transaction that is open on this thread
    /// waits for itself: see `Queue::enqueue_in`.
    Busy,
    /// What is stored is damaged, or not a queue.
    Corrupt(String),
    /// The queue's files are not those any more that were opened: a file was deleted, moved or replaced, or another
    /// program has unlinked the log. Nothing was acknowledged, and nothing ever will be here: drop all handles of this
    /// queue, and open it again. What was asked for last may have been done all the same.
    Detached(String),
    /// The queue can only be looked at here.
    ReadOnly(String),
    /// Another version of anthill made the queue; nothing is damaged.
    Version(String),
    /// A schedule that is none.
    Schedule {
        /// What was to be a schedule.
        text: String,
        /// Why it is none.
        reason: String,
    },
    /// The system refused a thread.
    Thread(std::io::Error),
    /// The broker failed, or could not be reached in time. It may have done what it was asked to: the same job,
    /// with the same id, can be enqueued again.
    Broker(Box<dyn Error + Send + Sync>),
}

impl QueueError {
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
                write!(f, "the {broker} broker has no {what}")
            }
            QueueError::Address { address, reason } => {
                write!(f, "{address:?} is no queue's address: {reason}")
            }
            QueueError::TooLarge { size, most } => {
                write!(f, "a job of {size} bytes, where {most} are the most")
            }
            QueueError::Encode(_) => f.write_str("the job cannot be written as JSON"),
            QueueError::Unreadable(_) => {
                f.write_str("the job's JSON cannot be read back as the job")
            }
            QueueError::Full { most } => {
                write!(f, "the queue is full: {most} jobs may be ready at once")
            }
            QueueError::Decode(_) => f.write_str("what is stored cannot be read"),
            QueueError::Busy => f.write_str("the queue is kept busy by another transaction"),
            QueueError::Corrupt(why) => write!(f, "the queue's file is damaged: {why}"),
            QueueError::Detached(why) => write!(
                f,
                "the queue's files are not those that were opened: {why}; nothing was acknowledged, open the queue again"
            ),
            QueueError::ReadOnly(why) => write!(f, "the queue cannot be changed: {why}"),
            QueueError::Version(why) => f.write_str(why),
            QueueError::Schedule { text, reason } => {
                write!(f, "{text:?} is no schedule: {reason}")
            }
            QueueError::Thread(_) => f.write_str("the system refused the queue a thread"),
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
            QueueError::Broker(error) => Some(&**error),
            _ => None,
        }
    }
}

/// Jobs that were not enqueued, and why; none of them was.
///
/// ```
/// use anthill_jobs::{Job, Queue, QueueError};
/// # #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
/// # struct Letter(String);
/// # impl Job for Letter { const KIND: &'static str = "letter"; }
/// let queue = Queue::memory().payload_limit(10);
/// let refused = queue.enqueue(Letter("x".repeat(100))).unwrap_err();
/// assert!(matches!(refused.reason(), QueueError::TooLarge { size: 102, most: 10 }));
/// assert_eq!(refused.into_inner(), Letter("x".repeat(100)));
/// ```
pub struct EnqueueError<J> {
    reason: QueueError,
    /// A mutex that is never locked makes the error `Sync`: it lends no `&J`.
    jobs: Mutex<J>,
}

impl<J> EnqueueError<J> {
    pub(crate) fn new(reason: QueueError, jobs: J) -> EnqueueError<J> {
        let jobs = Mutex::new(jobs);
        EnqueueError { reason, jobs }
    }

    /// Why.
    pub fn reason(&self) -> &QueueError {
        &self.reason
    }

    /// What was to be enqueued.
    pub fn into_inner(self) -> J {
        self.into_parts().1
    }

    /// Both.
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

/// Why a job's handler failed, and what is to become of the job. Made from any error by `?`: the job is tried again
/// then, after the [backoff](super::Backoff) of its consumer.
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

/// What becomes of a job that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Retry,
    RetryIn(Duration),
    Die,
    HandBack,
}

impl JobError {
    /// The job is tried again, if it may, after exactly `delay`.
    pub fn retry_in(delay: Duration, reason: impl Into<Box<dyn Error + Send + Sync>>) -> JobError {
        JobError {
            then: Then::RetryIn(delay),
            reason: reason.into(),
        }
    }

    /// The job is never tried again: it goes to the dead letters.
    pub fn fatal(reason: impl Into<Box<dyn Error + Send + Sync>>) -> JobError {
        JobError {
            then: Then::Die,
            reason: reason.into(),
        }
    }

    /// The job is handed back, as if it had not been claimed: for a handler that heeds its
    /// [stop token](super::Context::stop_token), or cannot run it now. No attempt is lost. While its consumer is to stop
    /// it is ready at once, for others; else it waits as long as after a first failure.
    ///
    /// Also a plain error (made by `?`) of a handler that has asked for its stop token hands the job back, where it
    /// comes after its consumer was told to stop.
    pub fn hand_back() -> JobError {
        JobError {
            then: Then::HandBack,
            reason: "handed back".into(),
        }
    }

    /// What is stored of it: the reason, and what is behind it.
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

/// A consumer was told to stop, and jobs still ran when the time was up. They go on, and end as they would have.
#[derive(Debug, PartialEq, Eq)]
pub struct StopTimeout {
    pub(crate) running: Vec<JobId>,
}

impl StopTimeout {
    /// Those that ran.
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
