//! Errors of SQLite as errors of a queue.

use crate::QueueError;
use rusqlite::{Error, ErrorCode};

pub(super) fn queue_error(error: Error) -> QueueError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => QueueError::Busy,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            QueueError::Corrupt(error.to_string())
        }
        Some(ErrorCode::ReadOnly) => QueueError::ReadOnly(error.to_string()),
        _ if matches!(error, Error::QueryReturnedNoRows) => {
            QueueError::Corrupt("a row that must exist is missing".to_owned())
        }
        _ if is_malformed(&error) => QueueError::Corrupt(error.to_string()),
        _ => QueueError::Broker(Box::new(error)),
    }
}

/// Whether a stored value has a wrong type or range.
fn is_malformed(error: &Error) -> bool {
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
    )
}

/// A copy of an error, for each of the writes that shared a transaction.
pub(super) fn copy_of(error: &QueueError) -> QueueError {
    match error {
        QueueError::Busy => QueueError::Busy,
        QueueError::Corrupt(why) => QueueError::Corrupt(why.clone()),
        QueueError::Detached(why) => QueueError::Detached(why.clone()),
        QueueError::ReadOnly(why) => QueueError::ReadOnly(why.clone()),
        QueueError::Broker(source) => QueueError::Broker(source.to_string().into()),
        other => QueueError::Broker(other.to_string().into()),
    }
}
