//! What happened to the jobs of a queue, recorded by all processes that took part, and whether it may have happened.
//!
//! The checker is that of a *total queue*: whatever was put in comes out, and the test drains the queue at its end. It knows
//! no broker; it sees what producers and consumers saw, and what was left in the end.
//!
//! - TQ1: an event that asks for something ([`Enqueueing`](What::Enqueueing), [`Settling`](What::Settling), …) is recorded
//!   before the request is sent, one that tells an answer after it has come. So what happened at the broker lies between the
//!   two, and what is recorded by a process that dies is never more than what it did.
//! - TQ2: only what is certain is a violation: what no order of the events at the broker explains that the times allow. All
//!   clocks are one, the steady clock of the host ([`now`]).
//! - TQ3: what cannot be judged is no success: a history without [`Drained`](What::Drained), or one that contradicts
//!   itself, is invalid.
//! - TQ4: who runs, by name, is of one process and one life of it: a process that is started again has another name.
//! - TQ5: a store may come back as it was a while before ([`RolledBack`](What::RolledBack)). That explains what was answered
//!   in that time, and nothing else: neither what was answered earlier, nor what was asked for later.
//!
//! What is a violation is told at each [`Kind`].
//!
//! ```
//! use anthill_test_support::history::{self, Accepted, Left, Outcome, Recorder, Rules, Started, Stored, What};
//!
//! # let file = std::env::temp_dir().join(format!("history-of-a-doc-test-{}", std::process::id()));
//! let recorder = Recorder::append_to(&file, "process 1").unwrap();
//! let (job, token) = (|| "42".to_owned(), || "7".to_owned());
//! recorder.record(What::Enqueueing { job: job() });
//! // … the broker is asked …
//! recorder.record(What::Enqueued { job: job(), answer: Accepted::Yes });
//! recorder.record(What::Started(Started::new(job(), token())));
//! recorder.record(What::Settling { job: job(), token: token(), outcome: Outcome::Done });
//! recorder.record(What::Settled { job: job(), token: token(), answer: Stored::Yes });
//! recorder.record(What::Left { job: job(), state: Left::Done });
//! recorder.record(What::Drained);
//!
//! let report = history::read([&file]).unwrap().check(&Rules::default());
//! report.assert_valid();
//! assert_eq!((report.books.enqueued, report.books.done, report.books.lost), (1, 1, 0));
//! # std::fs::remove_file(file).unwrap();
//! ```

mod attempt;
mod books;
mod check;
mod job;
mod limits;
mod recorder;
mod rollback;
#[cfg(test)]
mod tests;
mod text;

pub use books::Books;
pub use check::{Kind, Report, Rules, Violation};
pub use recorder::{History, Recorder, now, read};

/// Something that a process saw or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, by [`now`].
    pub at: u64,
    /// Which process, in which of its lives.
    pub by: String,
    /// What it was.
    pub what: What,
}

/// What an event tells. A job is named as the test likes, by what its data has, for instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A producer is about to enqueue a job.
    Enqueueing {
        /// Its name.
        job: String,
    },
    /// The answer to that. Without one, as with a process that died, it is unknown.
    Enqueued {
        /// Its name.
        job: String,
        /// Whether it is in the queue.
        answer: Accepted,
    },
    /// A consumer has claimed a job.
    Started(Started),
    /// A lease was renewed.
    Extended {
        /// The job's name.
        job: String,
        /// The claim's token.
        token: String,
        /// When the renewal was asked for.
        asked: u64,
        /// For how long it is, in nanoseconds.
        lease: u64,
    },
    /// A consumer learned that its lease is over.
    LeaseLost {
        /// The job's name.
        job: String,
        /// The claim's token.
        token: String,
    },
    /// A handler has ended, and the consumer is about to settle.
    Settling {
        /// The job's name.
        job: String,
        /// The claim's token.
        token: String,
        /// What is to become of the job.
        outcome: Outcome,
    },
    /// The answer to that. Without one it is unknown.
    Settled {
        /// The job's name.
        job: String,
        /// The claim's token.
        token: String,
        /// Whether the broker has stored it.
        answer: Stored,
    },
    /// The test does something to a process.
    Fault {
        /// Its name.
        of: String,
        /// What.
        fault: Fault,
    },
    /// The test has ended a fault of a process.
    Recovered {
        /// Its name.
        of: String,
    },
    /// The store has failed, answers nothing at this moment, and is to come back as it was at some moment after `since`: what was
    /// answered later than that may be undone.
    RolledBack {
        /// From when on; a time of [`now`].
        since: u64,
    },
    /// Somebody is about to ask for the removal of a job: to cancel, delete or purge it; or it may expire from now on.
    Removing {
        /// Its name.
        job: String,
    },
    /// Somebody is about to ask that a job that is over runs again.
    Again {
        /// Its name.
        job: String,
    },
    /// The job is in the queue at the end.
    Left {
        /// Its name.
        job: String,
        /// As what.
        state: Left,
    },
    /// The end: nothing runs any more, and all that is left was told.
    Drained,
}

/// A claim that a consumer got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The job's name.
    pub job: String,
    /// The claim's token: of all claims of this job no other has it.
    pub token: String,
    /// A number that grows from each claim of a job to its next, where the broker has one. Without it fewer violations are
    /// certain.
    pub claim: Option<u64>,
    /// The key whose limit counts the job.
    pub key: Option<String>,
    /// When the claim was asked for. Without it fewer violations are certain.
    pub asked: Option<u64>,
    /// The length of the lease in nanoseconds, which the broker counts from a moment after `asked`.
    pub lease: Option<u64>,
}

impl Started {
    /// Of which nothing else is known.
    pub fn new(job: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            token: token.into(),
            claim: None,
            key: None,
            asked: None,
            lease: None,
        }
    }
}

/// The answer to an enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The queue has the job.
    Yes,
    /// It was refused, or is the duplicate of another: by this call there is no such job.
    No,
    /// No answer came, or one that does not say it.
    Unknown,
}

/// What is to become of a job that was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is over, and well.
    Done,
    /// It failed and is to be tried again.
    Retry,
    /// It failed for good.
    Dead,
    /// It was not run to its end, and is to go to somebody else.
    HandedBack,
}

/// The answer to a settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    Yes,
    /// It was refused: the lease was lost.
    Lost,
    /// No answer came, or one that does not say it.
    Unknown,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is killed.
    Killed,
    /// It is stopped, or runs too late for its heartbeats.
    Frozen,
    /// It does not reach the broker.
    CutOff,
}

/// What a job is that is left at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Over, and its result is kept.
    Done,
    /// A dead letter.
    Dead,
    /// Anything that may run still.
    Waiting,
}

impl What {
    /// The job that it is about.
    pub fn job(&self) -> Option<&str> {
        match self {
            Self::Started(started) => Some(&started.job),
            Self::Enqueueing { job }
            | Self::Enqueued { job, .. }
            | Self::Extended { job, .. }
            | Self::LeaseLost { job, .. }
            | Self::Settling { job, .. }
            | Self::Settled { job, .. }
            | Self::Removing { job }
            | Self::Again { job }
            | Self::Left { job, .. } => Some(job),
            Self::Fault { .. }
            | Self::Recovered { .. }
            | Self::RolledBack { .. }
            | Self::Drained => None,
        }
    }
}
