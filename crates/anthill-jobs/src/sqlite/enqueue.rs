//! How jobs come in.

use super::tidy::tidy;
use super::time::nanos;
use super::tx::{Step, Tx, number, step};
use crate::bound::is_too_many;
use crate::{Enqueued, JobId, JobState, NewJob};
use rusqlite::{OptionalExtension, params};

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

/// B1, B2; or how many may be ready, where these would be too many.
pub(super) fn enqueue(
    tx: &mut Tx<'_>,
    jobs: &[NewJob],
) -> rusqlite::Result<Result<Vec<Enqueued>, u64>> {
    if let Some(most) = tx.queue.limits.max_ready {
        // What is due counts, and what has expired does not.
        tidy(tx)?;
        let there = tx.queue.counts.ready + tx.queue.counts.parked;
        let room = most.saturating_sub(there);
        if is_too_many(jobs, room, |job| is_kept_out(tx, job))? {
            return Ok(Err(most));
        }
    }
    let enqueued = jobs.iter().map(|job| add(tx, job));
    enqueued.collect::<rusqlite::Result<_>>().map(Ok)
}

/// Whether a job that is there has its id or one of its keys, so that it would not be added.
fn is_kept_out(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<bool> {
    let is_free = matches!(entrance(tx, job)?, Entrance::Free);
    Ok(!is_free || has(tx, job.id)?)
}

pub(super) fn add(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<Enqueued> {
    let has_keys = job.unique.is_some() || job.once_per.is_some();
    if has_keys {
        if has(tx, job.id)? {
            return Ok(duplicate(tx, job.id));
        }
        match entrance(tx, job)? {
            Entrance::Free => {}
            Entrance::Taken(owner) => return Ok(duplicate(tx, owner)),
            Entrance::PutsOff(waiting) => {
                put_off(tx, &waiting, job)?;
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

/// What the unique keys of a job say to it.
enum Entrance {
    Free,
    /// Another job has one.
    Taken(JobId),
    /// A job waits that gets its data, and its delay.
    PutsOff(Step),
}

fn entrance(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<Entrance> {
    if let Some(once) = &job.once_per {
        // A debounced job puts itself off, whatever its period says.
        let is_own = job.debounce && job.unique.as_ref() == Some(&once.key);
        if let Some(owner) = tx.owner(&once.key)?.filter(|_| !is_own) {
            return Ok(Entrance::Taken(JobId::from_bytes(owner.id)));
        }
    }
    let Some(key) = &job.unique else {
        return Ok(Entrance::Free);
    };
    let Some(owner) = tx.owner(key)? else {
        return Ok(Entrance::Free);
    };
    if job.debounce && owner.is_held {
        // Where it runs this one comes after it.
        let waiting = waiting(tx, owner.id)?;
        return Ok(waiting.map_or(Entrance::Free, Entrance::PutsOff));
    }
    Ok(Entrance::Taken(JobId::from_bytes(owner.id)))
}

/// The job with that id, if it waits.
fn waiting(tx: &Tx<'_>, id: [u8; 16]) -> rusqlite::Result<Option<Step>> {
    let find = "SELECT place, state, id, key, holds FROM anthill_jobs
        WHERE queue = ?1 AND id = ?2 AND state < 3";
    let mut find = tx.connection.prepare_cached(find)?;
    find.query_row(params![tx.number, id], step).optional()
}

/// A job that waits gets the data of a newer one, and waits anew.
fn put_off(tx: &mut Tx<'_>, waiting: &Step, job: &NewJob) -> rusqlite::Result<()> {
    let (state, due, turn) = when(tx, job);
    let put_off = "UPDATE anthill_jobs SET kind = ?2, payload = ?3, state = ?4, due = ?5, turn = ?6 WHERE place = ?1";
    let mut put_off = tx.connection.prepare_cached(put_off)?;
    put_off.execute(params![
        waiting.place,
        job.kind,
        job.payload,
        number(state),
        due,
        turn
    ])?;
    tx.moved(waiting.state, state, 1);
    tx.wake = true;
    tx.balance_key_of(waiting)
}

/// In which state it comes in, when it is due, and its turn.
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

/// Whether it was not there.
fn insert(tx: &mut Tx<'_>, job: &NewJob) -> rusqlite::Result<bool> {
    let now = tx.now.time;
    let (state, due, turn) = when(tx, job);
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
        job.unique,
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
