//! Reads, on a connection that never writes: no writer waits for it, and it waits for none.

use super::json;
use super::kinds;
use super::manage::MISSED;
use super::time::{Now, duration};
use super::tx::{QueueRow, flag, state};
use crate::{JobId, JobInfo, JobState, QueueStats, Scheduled};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;

/// The columns that [`info`] reads; `data` is the parameter for how many bytes of a job's data to read.
fn columns(data: &str) -> String {
    format!(
        "id, kind, CASE WHEN length(payload) <= {data} THEN payload ELSE substr(payload, 1, {data}) END, state, rank, attempt, attempts, key, error,
    CASE WHEN length(progress) <= {data} THEN progress END, CASE WHEN length(result) <= {data} THEN result END, enqueued, due,
    length(payload), holds, expires, keep, headers, errors, cancel, consumer"
    )
}

fn info(row: &Row<'_>, now: Now) -> rusqlite::Result<JobInfo> {
    let state = state(row, 3)?;
    let rank: i64 = row.get(4)?;
    let (enqueued, due): (i64, i64) = (row.get(11)?, row.get(12)?);
    let left = |at: i64| duration(at.saturating_sub(now.time));
    let waits = JobState::WAITING.contains(&state);
    Ok(JobInfo {
        payload: row.get(2)?,
        payload_size: row.get::<_, i64>(13)?.unsigned_abs(),
        priority: i16::try_from(-rank)
            .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(4, rank))?,
        attempt: row.get(5)?,
        attempts: row.get(6)?,
        key: row.get(7)?,
        unique: row.get(14)?,
        error: row.get(8)?,
        progress: row.get(9)?,
        result: row.get(10)?,
        age: duration(now.time.saturating_sub(enqueued)),
        due_in: (state == JobState::Delayed).then(|| left(due)),
        expires_in: row.get::<_, Option<i64>>(15)?.filter(|_| waits).map(left),
        keep_result: row.get::<_, Option<i64>>(16)?.map(duration),
        headers: json::headers(row, 17)?,
        errors: json::errors(row, 18, now.time)?,
        cancel_requested: flag(row, 19)?,
        consumer: if state == JobState::Running {
            row.get(20)?
        } else {
            None
        },
        ..JobInfo::new(
            JobId::from_bytes(row.get(0)?),
            row.get::<_, String>(1)?,
            state,
        )
    })
}

/// The job at that place, with so many bytes of its data.
pub(super) fn at(
    connection: &Connection,
    place: i64,
    data: i64,
    now: Now,
) -> rusqlite::Result<JobInfo> {
    let at = format!(
        "SELECT {} FROM anthill_jobs WHERE place = ?1",
        columns("?2")
    );
    let mut at = connection.prepare_cached(&at)?;
    at.query_row([place, data], |row| info(row, now))
}

pub(super) fn get(
    connection: &Connection,
    queue: i64,
    id: JobId,
    now: Now,
) -> rusqlite::Result<Option<JobInfo>> {
    let columns = columns("?3");
    let get = format!("SELECT {columns} FROM anthill_jobs WHERE queue = ?1 AND id = ?2");
    let mut get = connection.prepare_cached(&get)?;
    let found = get.query_row(params![queue, id.as_bytes(), i64::MAX], |row| {
        info(row, now)
    });
    found.optional()
}

pub(super) fn stats(connection: &Connection, queue: i64, now: Now) -> rusqlite::Result<QueueStats> {
    let counts = QueueRow::load(connection, queue)?.counts;
    let oldest = if counts.ready == 0 {
        None
    } else {
        oldest(connection, queue, now)?
    };
    Ok(QueueStats { oldest, ..counts })
}

/// The first job of each kind and priority is the oldest of it.
fn oldest(connection: &Connection, queue: i64, now: Now) -> rusqlite::Result<Option<Duration>> {
    let first = "SELECT rank, due FROM anthill_jobs INDEXED BY anthill_ready
        WHERE queue = ?1 AND state = 0 AND kind = ?2 AND rank > ?3 ORDER BY rank, turn, place LIMIT 1";
    let mut first = connection.prepare_cached(first)?;
    let mut oldest: Option<i64> = None;
    for kind in kinds::ready_kinds(connection, queue)? {
        let mut rank = i64::MIN;
        let mut next = |rank| {
            let next = first.query_row(params![queue, kind, rank], |row| {
                Ok((row.get(0)?, row.get(1)?))
            });
            next.optional()
        };
        while let Some((next, due)) = next(rank)? {
            oldest = Some(oldest.map_or(due, |oldest| oldest.min(due)));
            rank = next;
        }
    }
    Ok(oldest.map(|due| duration(now.time.saturating_sub(due))))
}

pub(super) fn schedules(connection: &Connection, queue: i64) -> rusqlite::Result<Vec<Scheduled>> {
    let all = "SELECT name, cron, kind, payload, next, missed FROM anthill_schedules WHERE queue = ?1 ORDER BY name";
    let mut all = connection.prepare_cached(all)?;
    let all = all.query_map([queue], |row| {
        Ok(Scheduled {
            name: row.get(0)?,
            cron: row.get(1)?,
            kind: row.get(2)?,
            payload: row.get(3)?,
            next: row.get(4)?,
            missed: MISSED
                .get(row.get::<_, usize>(5)?)
                .copied()
                .unwrap_or_default(),
        })
    })?;
    all.collect()
}
