//! Jobs as they are stored: a record of a fixed layout, which `lua/base.lua` writes, and what is beside it.

use crate::reply;
use crate::values::{NEVER, Packed, job_id, priority, since, stored_key, text};
use anthill_jobs::{AttemptError, JobInfo, JobState, QueueError};
use redis::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const CANCEL: u64 = 8;

/// The states, by their numbers.
pub(crate) const STATES: [JobState; 6] = [
    JobState::Ready,
    JobState::Delayed,
    JobState::Parked,
    JobState::Running,
    JobState::Dead,
    JobState::Done,
];

/// The number of a state; `None` for one of a later version, in which no job is.
pub(crate) fn number(state: JobState) -> Option<usize> {
    STATES.iter().position(|&other| other == state)
}

/// The next job of an answer of `read`, as it was at `now`.
pub(crate) fn info(
    values: &mut impl Iterator<Item = Value>,
    now: u64,
) -> Result<JobInfo, QueueError> {
    let id = job_id(&reply::bytes(reply::next(values)?)?)?;
    let record = reply::bytes(reply::next(values)?)?;
    let kind = reply::text(reply::next(values)?)?;
    let payload = reply::bytes(reply::next(values)?)?;
    let size = reply::count(&reply::next(values)?)?;
    let mut rest = || reply::optional(reply::next(values)?);
    let (named, errors, progress, result) = (rest()?, rest()?, rest()?, rest()?);

    let mut record = Packed::new(&record);
    let state = usize::try_from(record.number(1)?).ok();
    let state = state.and_then(|state| STATES.get(state).copied());
    let state = state.ok_or_else(|| QueueError::Corrupt(format!("the job {id} is in no state")))?;
    let flags = record.number(2)?;
    let rank = record.number(2)?;
    let _kind = record.number(3)?;
    let (attempt, attempts) = (record.small()?, record.small()?);
    let (_turn, _place) = (record.number(7)?, record.number(6)?);
    let (due, enqueued) = (record.number(7)?, record.number(7)?);
    let _token = record.bytes(12)?;
    let (expires, keep) = (record.number(7)?, record.number(7)?);
    let (unique, key, consumer) = (record.text()?, record.text()?, record.text()?);

    let mut info = JobInfo::new(id, kind, state);
    let (last_error, errors) = self::errors(&errors.unwrap_or_default(), now)?;
    info.payload = payload;
    info.payload_size = size;
    info.priority = priority(rank);
    info.attempt = attempt;
    info.attempts = attempts;
    info.key = stored_key(&key);
    info.unique = stored_key(&unique);
    info.error = last_error;
    info.errors = errors;
    info.headers = headers(&named.unwrap_or_default())?;
    info.consumer = (!consumer.is_empty()).then_some(consumer);
    info.cancel_requested = flags & CANCEL != 0;
    info.progress = progress;
    info.result = result;
    info.age = since(now, enqueued);
    info.due_in = (state == JobState::Delayed).then(|| since(due, now));
    let waits = JobState::WAITING.contains(&state);
    info.expires_in = (waits && expires > 0).then(|| since(expires, now));
    info.keep_result = keep.checked_sub(1).map(|keep| {
        if keep == NEVER - 1 {
            Duration::MAX
        } else {
            Duration::from_micros(keep)
        }
    });
    Ok(info)
}

/// The last error in full, and those of the last attempts.
fn errors(bytes: &[u8], now: u64) -> Result<(Option<String>, Vec<AttemptError>), QueueError> {
    let mut packed = Packed::new(bytes);
    let (mut last, mut errors) = (None, Vec::new());
    while !packed.is_empty() {
        let (attempt, at) = (packed.small()?, packed.number(7)?);
        let said = packed.text()?;
        errors.push(AttemptError::new(attempt, said.clone(), since(now, at)));
        last = Some(said);
    }
    Ok((last, errors))
}

pub(crate) fn headers(bytes: &[u8]) -> Result<BTreeMap<String, String>, QueueError> {
    if bytes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let headers = serde_json::from_str(&text(bytes)?);
    headers.map_err(|error| QueueError::Corrupt(format!("stored headers are not JSON: {error}")))
}
