//! Jobs and counts as they are looked at.

use crate::store::column;
use crate::values::{Moment, duration, job_id};
use anthill_jobs::{AttemptError, JobInfo, JobState, QueueError, QueueStats};
use std::collections::BTreeMap;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

/// The order of a job in its state.
type Order = (i32, Moment, i64);

/// The details of jobs in one state, in the order of that.
pub(crate) fn infos(rows: &[Row]) -> Result<Vec<JobInfo>, QueueError> {
    let infos: Result<Vec<(Order, JobInfo)>, QueueError> = rows.iter().map(info).collect();
    let mut infos = infos?;
    infos.sort_by_key(|(order, _)| *order);
    Ok(infos.into_iter().map(|(_, info)| info).collect())
}

fn info(row: &Row) -> Result<(Order, JobInfo), QueueError> {
    let number: i32 = column(row, "o_state")?;
    let state = JobState::ALL
        .into_iter()
        .find(|&state| crate::admin::number(state) == number)
        .ok_or_else(|| QueueError::Corrupt(format!("a job is in the state {number}")))?;
    let now: Moment = column(row, "o_now")?;
    let due: Moment = column(row, "o_due")?;
    let rank: i32 = column(row, "o_rank")?;
    let (turn, place): (Moment, i64) = (column(row, "o_turn")?, column(row, "o_place")?);
    let count = |name| -> Result<u32, QueueError> {
        Ok(u32::try_from(column::<i64>(row, name)?).unwrap_or(u32::MAX))
    };
    let texts: Vec<String> = column(row, "o_errors")?;
    let attempts: Vec<i64> = column(row, "o_error_attempts")?;
    let times: Vec<Moment> = column(row, "o_error_times")?;
    // Those of earlier attempts are cut.
    let last_error = texts.last().cloned();
    let errors = texts.into_iter().zip(attempts).zip(times);
    let errors: Vec<AttemptError> = errors
        .map(|((text, attempt), at)| {
            let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
            AttemptError::new(attempt, text, now.since(at))
        })
        .collect();
    let headers: Option<Json<BTreeMap<String, String>>> = column(row, "o_headers")?;
    let size: i64 = column(row, "o_size")?;
    let kind: String = column(row, "o_kind")?;
    let mut info = JobInfo::new(job_id(column(row, "o_id")?), kind, state);
    info.payload = column(row, "o_payload")?;
    info.payload_size = size.unsigned_abs();
    info.priority = i16::try_from(-rank).unwrap_or_default();
    info.attempt = count("o_attempt")?;
    info.attempts = count("o_attempts")?;
    info.key = column(row, "o_key")?;
    info.unique = column(row, "o_unique")?;
    info.error = last_error;
    info.errors = errors;
    info.headers = headers.map(|Json(headers)| headers).unwrap_or_default();
    info.consumer = column(row, "o_consumer")?;
    info.cancel_requested = column(row, "o_cancel")?;
    info.progress = column(row, "o_progress")?;
    info.result = column(row, "o_result")?;
    info.age = now.since(column(row, "o_enqueued")?);
    info.due_in = (state == JobState::Delayed).then(|| due.since(now));
    let expires: Option<Moment> = column(row, "o_expires")?;
    let waits = JobState::WAITING.contains(&state);
    info.expires_in = expires.filter(|_| waits).map(|at| at.since(now));
    info.keep_result = column::<Option<i64>>(row, "o_keep")?.map(duration);
    let order = match state {
        JobState::Ready | JobState::Parked => (rank, turn, place),
        JobState::Delayed => (0, due, place),
        _ => (0, turn, place),
    };
    Ok((order, info))
}

pub(crate) fn stats(rows: &[Row]) -> Result<QueueStats, QueueError> {
    let Some(row) = rows.first() else {
        return Err(QueueError::Corrupt("a call was not answered".to_owned()));
    };
    let count = |name| -> Result<u64, QueueError> { Ok(column::<i64>(row, name)?.unsigned_abs()) };
    let now: Moment = column(row, "o_now")?;
    let oldest: Option<Moment> = column(row, "o_oldest")?;
    let mut stats = QueueStats::default();
    stats.ready = count("o_ready")?;
    stats.delayed = count("o_delayed")?;
    stats.parked = count("o_parked")?;
    stats.running = count("o_running")?;
    stats.dead = count("o_dead")?;
    stats.results = count("o_results")?;
    stats.oldest = oldest.map(|oldest| now.since(oldest));
    stats.paused = column(row, "o_paused")?;
    stats.enqueued = count("o_enqueued")?;
    stats.duplicates = count("o_duplicates")?;
    stats.done = count("o_done")?;
    stats.retried = count("o_retried")?;
    stats.died = count("o_died")?;
    stats.lost_leases = count("o_lost_leases")?;
    stats.expired = count("o_expired")?;
    stats.removed = count("o_removed")?;
    Ok(stats)
}
