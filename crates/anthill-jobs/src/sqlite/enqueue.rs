//! Enqueues: ids, unique keys, debouncing, and the place of a new job.

use super::json;
use super::sweep::sweep;
use super::time::nanos;
use super::tx::{JobRow, Tx, job_row, number};
use crate::max_ready::exceeds_room;
use crate::{Enqueued, JobId, JobState, NewJob};
use rusqlite::{OptionalExtension, params};

/// The place of a job has the queue's number in its upper bits, and the job's number in the queue below it. So none is used
/// twice, and the lease of a removed job is not a lease of a later one with the same id.
const BITS: u32 = 44;

fn place(tx: &Tx<'_>, ordinal: u64) -> i64 {
    (tx.number << BITS) | i64::try_from(ordinal).unwrap_or(i64::MAX)
}

/// The last place that the queue has used.
pub(super) fn last_place(tx: &Tx<'_>) -> i64 {
    place(tx, tx.queue.counts.enqueued)
}

/// Enqueues jobs (B1, B2). The inner error is the limit, if too many jobs would be ready.
pub(super) fn enqueue(
    tx: &mut Tx<'_>,
    jobs: &[NewJob],
) -> rusqlite::Result<Result<Vec<Enqueued>, u64>> {
    if let Some(limit) = tx.queue.limits.max_ready {
        // Jobs that are due count, and expired ones do not.
        sweep(tx)?;
        let there = tx.queue.counts.ready + tx.queue.counts.parked;
        let room = limit.saturating_sub(there);
        if exceeds_room(jobs, room, |job| is_duplicate(tx, job))? {
            return Ok(Err(limit));
        }
    }
    let enqueued = jobs.iter().map(|job| add(tx, job));
    enqueued.collect::<rusqlite::Result<_>>().map(Ok)
}

/// Whether a stored job has its id or one of its keys, so that it would not be added.
fn is_duplicate(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<bool> {
    let is_free = matches!(check_unique(tx, job)?, Uniqueness::Free);
    Ok(!is_free || has(tx, job.id)?)
}

pub(super) fn add(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<Enqueued> {
    let has_keys = job.unique.is_some() || job.once_per.is_some();
    if has_keys {
        if has(tx, job.id)? {
            return Ok(duplicate(tx, job.id));
        }
        match check_unique(tx, job)? {
            Uniqueness::Free => {}
            Uniqueness::Duplicate(owner) => return Ok(duplicate(tx, owner)),
            Uniqueness::Debounces(waiting) => {
                debounce_onto(tx, &waiting, job)?;
                return Ok(duplicate(tx, JobId::from_bytes(waiting.id)));
            }
        }
    }
    if !insert(tx, job)? {
        return Ok(duplicate(tx, job.id));
    }
    let id = job.id.as_bytes();
    if let Some(once) = &job.once_per {
        let until = tx.now.time.saturating_add(nanos(once.period));
        let is_held = job.unique.as_ref() == Some(&once.key);
        tx.own(&once.key, id, is_held, Some(until))?;
    }
    let once_key = job.once_per.as_ref().map(|once| &once.key);
    if let Some(key) = job.unique.as_ref().filter(|&key| Some(key) != once_key) {
        tx.own(key, id, true, None)?;
    }
    if let Some(key) = &job.key {
        tx.balance_key(key)?;
    }
    Ok(Enqueued::Added(job.id))
}

/// Whether the unique keys of a new job are free.
enum Uniqueness {
    Free,
    /// Another job has one: the new job is a duplicate of it.
    Duplicate(JobId),
    /// A waiting job has it, and gets the data and the delay of the new one.
    Debounces(JobRow),
}

fn check_unique(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<Uniqueness> {
    if let Some(once) = &job.once_per {
        // A debounced job debounces itself, whatever its period is.
        let is_own = job.debounce && job.unique.as_ref() == Some(&once.key);
        if let Some(owner) = tx.owner(&once.key)?.filter(|_| !is_own) {
            return Ok(Uniqueness::Duplicate(JobId::from_bytes(owner.id)));
        }
    }
    let Some(key) = &job.unique else {
        return Ok(Uniqueness::Free);
    };
    let Some(owner) = tx.owner(key)? else {
        return Ok(Uniqueness::Free);
    };
    if job.debounce && owner.is_held {
        // If it runs, the new job comes after it.
        let waiting = waiting(tx, owner.id)?;
        return Ok(waiting.map_or(Uniqueness::Free, Uniqueness::Debounces));
    }
    Ok(Uniqueness::Duplicate(JobId::from_bytes(owner.id)))
}

/// The job with that id, if it waits.
fn waiting(tx: &Tx<'_>, id: [u8; 16]) -> rusqlite::Result<Option<JobRow>> {
    let find = "SELECT place, state, id, key, holds FROM anthill_jobs
        WHERE queue = ?1 AND id = ?2 AND state < 3";
    let mut find = tx.connection.prepare_cached(find)?;
    find.query_row(params![tx.number, id], job_row).optional()
}

/// Gives a waiting job the data of a newer one; it waits anew.
fn debounce_onto(tx: &mut Tx<'_>, waiting: &JobRow, job: &NewJob) -> rusqlite::Result<()> {
    let (state, due, turn) = when(tx, job);
    let debounce_onto =
        "UPDATE anthill_jobs SET kind = ?2, payload = ?3, state = ?4, due = ?5, turn = ?6,
        headers = ?7 WHERE place = ?1";
    let mut debounce_onto = tx.connection.prepare_cached(debounce_onto)?;
    debounce_onto.execute(params![
        waiting.place,
        job.kind,
        job.payload,
        number(state),
        due,
        turn,
        json::of_headers(&job.headers),
    ])?;
    tx.moved(waiting.state, state, 1);
    tx.wake = true;
    tx.balance_key_of(waiting)
}

/// The state of a new job, when it is due, and its turn.
fn when(tx: &mut Tx<'_>, job: &NewJob) -> (JobState, i64, i64) {
    let now = tx.now.time;
    if job.delay.is_zero() {
        (JobState::Ready, now, tx.next_turn())
    } else {
        let due = now.saturating_add(nanos(job.delay));
        (JobState::Delayed, due, tx.turn_at(due))
    }
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

/// Inserts the job. Returns false if its id is stored already.
fn insert(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<bool> {
    let now = tx.now.time;
    let (state, due, turn) = when(tx, job);
    let insert = "INSERT INTO anthill_jobs (place, queue, state, rank, turn, attempts, due, expires, keep, enqueued,
        id, kind, key, holds, headers, payload)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
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
        job.unique,
        json::of_headers(&job.headers),
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
