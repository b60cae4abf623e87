//! What SQLite's errors mean for a queue.

use crate::QueueError;
use rusqlite::{Error, ErrorCode};

pub(super) fn failed(error: Error) -> QueueError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => QueueError::Busy,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            QueueError::Corrupt(error.to_string())
        }
        Some(ErrorCode::ReadOnly) => QueueError::ReadOnly(error.to_string()),
        _ if matches!(error, Error::QueryReturnedNoRows) => {
            QueueError::Corrupt("a row that must be there is not".to_owned())
        }
        _ if is_nonsense(&error) => QueueError::Corrupt(error.to_string()),
        _ => QueueError::Broker(Box::new(error)),
    }
}

/// What was read is not what is written there.
fn is_nonsense(error: &Error) -> bool {
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
    )
}

/// The same again, for each of those who shared a commit.
pub(super) fn again(error: &QueueError) -> QueueError {
    match error {
        QueueError::Busy => QueueError::Busy,
        QueueError::Corrupt(why) => QueueError::Corrupt(why.clone()),
        QueueError::Detached(why) => QueueError::Detached(why.clone()),
        QueueError::ReadOnly(why) => QueueError::ReadOnly(why.clone()),
        QueueError::Broker(source) => QueueError::Broker(source.to_string().into()),
        other => QueueError::Broker(other.to_string().into()),
    }
}
