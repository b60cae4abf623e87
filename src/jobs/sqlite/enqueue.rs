//! How jobs come in.

use super::time::nanos;
use super::tx::{Tx, number};
use crate::jobs::{Enqueued, JobId, JobState, NewJob};
use rusqlite::params;

/// Places of a queue have its number in their upper bits, and below it which of its jobs it is: so none is used twice,
/// and a lease of a job that was is none of a later one with the same id.
const BITS: u32 = 44;

fn place(tx: &Tx<'_>, ordinal: u64) -> i64 {
    (tx.number << BITS) | i64::try_from(ordinal).unwrap_or(i64::MAX)
}

/// The last place that a job of the queue had up to now.
pub(super) fn last_place(tx: &Tx<'_>) -> i64 {
    place(tx, tx.queue.counts.enqueued)
}

/// B1, B2.
pub(super) fn enqueue(tx: &mut Tx<'_>, jobs: &[NewJob]) -> rusqlite::Result<Vec<Enqueued>> {
    jobs.iter().map(|job| add(tx, job)).collect()
}

pub(super) fn add(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<Enqueued> {
    if let Some(unique) = &job.unique {
        if has(tx, job.id)? {
            return Ok(duplicate(tx, job.id));
        }
        if let Some(owner) = tx.owner(&unique.key)? {
            return Ok(duplicate(tx, JobId::from_bytes(owner)));
        }
    }
    if !insert(tx, job)? {
        return Ok(duplicate(tx, job.id));
    }
    if let Some(unique) = &job.unique {
        let until = unique
            .period
            .map(|period| tx.now.wall.saturating_add(nanos(period)));
        tx.own(&unique.key, job.id.as_bytes(), until)?;
    }
    Ok(Enqueued::Added(job.id))
}

fn duplicate(tx: &mut Tx<'_>, of: JobId) -> Enqueued {
    tx.queue.counts.duplicates += 1;
    Enqueued::Duplicate(of)
}

fn has(tx: &Tx<'_>, id: JobId) -> rusqlite::Result<bool> {
    let has = "SELECT 1 FROM anthill_jobs WHERE queue = ?1 AND id = ?2";
    tx.connection
        .prepare_cached(has)?
        .exists(params![tx.number, id.as_bytes()])
}

/// Whether it was not there.
fn insert(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<bool> {
    let now = tx.now.wall;
    let (state, due, turn) = if job.delay.is_zero() {
        (JobState::Ready, now, tx.next_turn())
    } else {
        let due = now.saturating_add(nanos(job.delay));
        (JobState::Delayed, due, tx.turn_at(due))
    };
    // What is free again by time only is no matter of the job's end.
    let holds = job.unique.as_ref().filter(|unique| unique.period.is_none());
    let insert = "INSERT INTO anthill_jobs (place, queue, state, rank, turn, attempts, due, expires, keep, enqueued,
        id, kind, key, holds, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
        ON CONFLICT (queue, id) DO NOTHING";
    let added = tx.connection.prepare_cached(insert)?.execute(params![
        place(tx, tx.queue.counts.enqueued + 1),
        tx.number,
        number(state),
        -i64::from(job.priority),
        turn,
        job.attempts.max(1),
        due,
        job.expires
            .map(|expires| now.saturating_add(nanos(expires))),
        job.keep_result.map(nanos),
        now,
        job.id.as_bytes(),
        job.kind,
        job.key,
        holds.map(|unique| &unique.key),
        job.payload,
    ])?;
    if added == 0 {
        return Ok(false);
    }
    tx.queue.counts.enqueued += 1;
    *tx.queue.count(state) += 1;
    tx.wake = true;
    Ok(true)
}
