//! What is stored as JSON: short, rarely there, and for any SQLite shell to read. Where there is nothing, nothing is decoded.

use super::time::duration;
use crate::{AttemptError, JobInfo};
use rusqlite::types::Type;
use rusqlite::{Error, Row};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Headers as they are stored; nothing if there are none.
pub(super) fn of_headers(headers: &BTreeMap<String, String>) -> Option<String> {
    let some = Some(headers).filter(|headers| !headers.is_empty());
    // Texts by name can always be written.
    some.and_then(|headers| serde_json::to_string(headers).ok())
}

/// The headers in that column.
pub(super) fn headers(row: &Row<'_>, column: usize) -> rusqlite::Result<BTreeMap<String, String>> {
    read(row, column)
}

/// Kinds as they are stored.
pub(super) fn of_kinds(kinds: &[String]) -> String {
    serde_json::to_string(kinds).unwrap_or_default()
}

/// The kinds in that column.
pub(super) fn kinds(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    read(row, column)
}

/// A failed attempt: its number, when it failed, and the error, cut.
type Failed<'a> = (u32, i64, Cow<'a, str>);

/// The last failed attempts as they are stored: those `before`, and one more.
pub(super) fn of_errors(before: Option<&str>, attempt: u32, error: &str, now: i64) -> String {
    // What cannot be read is not worth a failed settlement.
    let before = before.and_then(|before| serde_json::from_str(before).ok());
    let mut all: Vec<Failed<'_>> = before.unwrap_or_default();
    all.push((attempt, now, AttemptError::cut(error).into()));
    let older = all.len().saturating_sub(JobInfo::ERRORS_KEPT);
    // Texts and numbers can always be written.
    serde_json::to_string(&all[older..]).unwrap_or_default()
}

/// The last failed attempts in that column.
pub(super) fn errors(
    row: &Row<'_>,
    column: usize,
    now: i64,
) -> rusqlite::Result<Vec<AttemptError>> {
    let all: Vec<(u32, i64, String)> = read(row, column)?;
    let errors = all.into_iter().map(|(attempt, at, error)| {
        AttemptError::new(attempt, error, duration(now.saturating_sub(at)))
    });
    Ok(errors.collect())
}

/// What is in that column; the default if nothing is.
fn read<T: DeserializeOwned + Default>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let Some(text) = row.get_ref(column)?.as_str_or_null()? else {
        return Ok(T::default());
    };
    let malformed = |error| Error::FromSqlConversionFailure(column, Type::Text, Box::new(error));
    serde_json::from_str(text).map_err(malformed)
}
