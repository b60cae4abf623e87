//! What can be seen of a queue, on a connection that never writes: nobody waits for it, and it waits for nobody.

use super::manage::index;
use super::time::{Now, span};
use super::tx::{Queue, number, state};
use crate::jobs::{JobId, JobInfo, JobState, QueueStats, Scheduled};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;

const COLUMNS: &str = "id, kind, payload, state, rank, attempt, attempts, key, error, progress, result, enqueued, due";

fn info(row: &Row<'_>, now: Now) -> rusqlite::Result<JobInfo> {
    let state = state(row, 3)?;
    let rank: i64 = row.get(4)?;
    let (enqueued, due): (i64, i64) = (row.get(11)?, row.get(12)?);
    Ok(JobInfo {
        id: JobId::from_bytes(row.get(0)?),
        kind: row.get(1)?,
        payload: row.get(2)?,
        state,
        priority: i16::try_from(-rank)
            .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(4, rank))?,
        attempt: row.get(5)?,
        attempts: row.get(6)?,
        key: row.get(7)?,
        error: row.get(8)?,
        progress: row.get(9)?,
        result: row.get(10)?,
        age: span(now.wall.saturating_sub(enqueued)),
        due_in: (state == JobState::Delayed).then(|| span(due.saturating_sub(now.wall))),
    })
}

pub(super) fn get(
    connection: &Connection,
    queue: i64,
    id: JobId,
    now: Now,
) -> rusqlite::Result<Option<JobInfo>> {
    let get = format!("SELECT {COLUMNS} FROM anthill_jobs WHERE queue = ?1 AND id = ?2");
    let mut get = connection.prepare_cached(&get)?;
    let found = get.query_row(params![queue, id.as_bytes()], |row| info(row, now));
    found.optional()
}

/// What the jobs in a state are ordered by, in three columns.
fn order(state: JobState) -> &'static str {
    match state {
        JobState::Ready | JobState::Parked => "rank, turn, place",
        JobState::Delayed => "due, turn, place",
        JobState::Running | JobState::Dead => "turn, place, rank",
        JobState::Done => "until, place, rank",
    }
}

/// Up to `most`, from the first one behind `after` on.
pub(super) fn list(
    connection: &Connection,
    queue: i64,
    which: JobState,
    after: Option<JobId>,
    most: usize,
    now: Now,
) -> rusqlite::Result<Vec<JobInfo>> {
    let (order, index, number) = (order(which), index(which), number(which));
    let here =
        format!("FROM anthill_jobs INDEXED BY {index} WHERE queue = ?1 AND state = {number}");
    let from = match after {
        None => None,
        Some(id) => {
            let from = format!(
                "SELECT {order} FROM anthill_jobs WHERE queue = ?1 AND state = {number} AND id = ?2"
            );
            let mut from = connection.prepare_cached(&from)?;
            let from = from.query_row(params![queue, id.as_bytes()], |row| {
                Ok([row.get(0)?, row.get(1)?, row.get(2)?])
            });
            from.optional()?
        }
    };
    // Before all that there are.
    let [first, second, third] = from.unwrap_or([i64::MIN; 3]);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    // In two steps, so that where they must be sorted their data need not be.
    let list = format!(
        "SELECT {COLUMNS} FROM anthill_jobs WHERE place IN
        (SELECT place {here} AND ({order}) > (?2, ?3, ?4) ORDER BY {order} LIMIT ?5) ORDER BY {order}"
    );
    let mut list = connection.prepare_cached(&list)?;
    let jobs = list.query_map(params![queue, first, second, third, most], |row| {
        info(row, now)
    })?;
    jobs.collect()
}

pub(super) fn stats(connection: &Connection, queue: i64, now: Now) -> rusqlite::Result<QueueStats> {
    let counts = Queue::load(connection, queue)?.counts;
    let oldest = if counts.ready == 0 {
        None
    } else {
        oldest(connection, queue, now)?
    };
    Ok(QueueStats { oldest, ..counts })
}

/// The first of each priority is the oldest of it.
fn oldest(connection: &Connection, queue: i64, now: Now) -> rusqlite::Result<Option<Duration>> {
    let first = "SELECT rank, due FROM anthill_jobs INDEXED BY anthill_ready
        WHERE queue = ?1 AND state = 0 AND rank > ?2 ORDER BY rank, turn, place LIMIT 1";
    let mut first = connection.prepare_cached(first)?;
    let mut oldest = None;
    let mut rank = i64::MIN;
    loop {
        let next = first.query_row(params![queue, rank], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((next, due)) = next.optional()? else {
            return Ok(oldest);
        };
        let _: i64 = due;
        oldest = oldest.max(Some(span(now.wall.saturating_sub(due))));
        rank = next;
    }
}

pub(super) fn schedules(connection: &Connection, queue: i64) -> rusqlite::Result<Vec<Scheduled>> {
    let all = "SELECT name, cron, kind, payload, next FROM anthill_schedules WHERE queue = ?1 ORDER BY name";
    let mut all = connection.prepare_cached(all)?;
    let all = all.query_map([queue], |row| {
        Ok(Scheduled {
            name: row.get(0)?,
            cron: row.get(1)?,
            kind: row.get(2)?,
            payload: row.get(3)?,
            next: row.get(4)?,
        })
    })?;
    all.collect()
}
