//! Answers of the server, as what they should be.

use anthill_jobs::QueueError;
use redis::Value;

fn unexpected(what: &str, value: &Value) -> QueueError {
    QueueError::Corrupt(format!("an answer of the server is not {what}: {value:?}"))
}

pub(crate) fn list(value: Value) -> Result<Vec<Value>, QueueError> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(unexpected("a list", &other)),
    }
}

pub(crate) fn bytes(value: Value) -> Result<Vec<u8>, QueueError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        other => Err(unexpected("a text", &other)),
    }
}

/// A text, if there is one.
pub(crate) fn optional(value: Value) -> Result<Option<Vec<u8>>, QueueError> {
    match value {
        Value::Nil => Ok(None),
        other => bytes(other).map(Some),
    }
}

pub(crate) fn text(value: Value) -> Result<String, QueueError> {
    crate::values::text(&bytes(value)?)
}

/// A number, also one that is sent as a text.
pub(crate) fn number(value: &Value) -> Result<i64, QueueError> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok()),
        _ => None,
    };
    number.ok_or_else(|| unexpected("a number", value))
}

pub(crate) fn count(value: &Value) -> Result<u64, QueueError> {
    Ok(u64::try_from(number(value)?).unwrap_or(0))
}

/// The next value of an answer.
pub(crate) fn next(values: &mut impl Iterator<Item = Value>) -> Result<Value, QueueError> {
    let too_short = || QueueError::Corrupt("an answer of the server is too short".to_owned());
    values.next().ok_or_else(too_short)
}
