//! Why a write failed: its own error, that of the transaction it shared, or a panic.

use super::super::errors::queue_error;
use crate::QueueError;
use std::any::Any;

/// Why an operation, or its transaction, failed.
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    /// An error that is not SQLite's.
    Queue(QueueError),
    Panic(Box<dyn Any + Send>),
}

/// What a writer gets instead of its result.
pub(super) enum WriteError {
    Queue(QueueError),
    Panic(Box<dyn Any + Send>),
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> WriteError {
        match failure {
            Failure::Sqlite(error) => WriteError::Queue(queue_error(error)),
            Failure::Queue(error) => WriteError::Queue(error),
            Failure::Panic(panic) => WriteError::Panic(panic),
        }
    }
}

/// After a commit: `Busy` would say that nothing was done.
pub(super) fn undecided(failure: Failure) -> Failure {
    match failure {
        Failure::Queue(QueueError::Busy) => {
            let why = "another program holds the file's lock, so it is not known whether others will see this commit";
            Failure::Queue(QueueError::Broker(why.into()))
        }
        other => other,
    }
}

pub(super) fn closed() -> QueueError {
    QueueError::Detached("they were closed".to_owned())
}

pub(super) fn panicked() -> QueueError {
    QueueError::Broker("the queue panicked during a commit".into())
}
