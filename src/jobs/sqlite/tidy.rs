//! What time does to jobs: a lease is over (B5), one is due, one has expired, a result was kept long enough. Each at most
//! so many at once, so that no step is long.

use super::tx::{Step, Tx, step};
use crate::jobs::JobState;
use rusqlite::{Connection, OptionalExtension, params};

/// How many of each kind at once.
pub(super) const BATCH: u32 = 500;

/// Whether there is more to do than may be done at once.
pub(super) fn tidy(tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
    let ready = tx.queue.counts.ready;
    let mut most = take_back(tx)?;
    most = most.max(fall_due(tx)?);
    most = most.max(expire(tx)?);
    most = most.max(forget_results(tx)?);
    most = most.max(free_periods(tx)?);
    most = most.max(unpark_all(tx)?);
    // Another consumer of this process may have room for what came back.
    tx.wake |= tx.queue.counts.ready > ready;
    Ok(most >= BATCH)
}

/// Whether there is anything to do; not in a transaction that writes.
pub(super) fn is_overdue(
    connection: &Connection,
    queue: i64,
    now: super::time::Now,
) -> rusqlite::Result<bool> {
    let mut overdue = connection.prepare_cached(OVERDUE)?;
    overdue.query_row(params![queue, now.wall, now.steady, now.boot], |row| {
        row.get(0)
    })
}

pub(super) const OVERDUE: &str = "SELECT
    EXISTS (SELECT 1 FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot < ?4)
    OR EXISTS (SELECT 1 FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot > ?4)
    OR EXISTS (SELECT 1 FROM anthill_jobs INDEXED BY anthill_running
        WHERE queue = ?1 AND state = 3 AND boot = ?4 AND ends <= ?3)
    OR EXISTS (SELECT 1 FROM anthill_jobs INDEXED BY anthill_delayed WHERE queue = ?1 AND state = 1 AND due <= ?2)
    OR EXISTS (SELECT 1 FROM anthill_jobs INDEXED BY anthill_expires WHERE queue = ?1 AND state < 3 AND expires <= ?2)
    OR EXISTS (SELECT 1 FROM anthill_jobs INDEXED BY anthill_done WHERE queue = ?1 AND state = 5 AND until <= ?2)";

pub(super) const LOST: &str = "SELECT place, state, id, key, holds, attempt, attempts
    FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot < ?2
    UNION ALL SELECT place, state, id, key, holds, attempt, attempts
    FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot > ?2
    UNION ALL SELECT place, state, id, key, holds, attempt, attempts
    FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot = ?2 AND ends <= ?3
    LIMIT ?4";

pub(super) const DUE: &str = "UPDATE anthill_jobs SET state = 0 WHERE place IN (
    SELECT place FROM anthill_jobs INDEXED BY anthill_delayed
    WHERE queue = ?1 AND state = 1 AND due <= ?2 ORDER BY due LIMIT ?3)";

pub(super) const EXPIRED: &str =
    "SELECT place, state, id, key, holds FROM anthill_jobs INDEXED BY anthill_expires
    WHERE queue = ?1 AND state < 3 AND expires <= ?2 ORDER BY expires LIMIT ?3";

pub(super) const KEPT: &str = "DELETE FROM anthill_jobs WHERE place IN (
    SELECT place FROM anthill_jobs INDEXED BY anthill_done
    WHERE queue = ?1 AND state = 5 AND until <= ?2 ORDER BY until LIMIT ?3)";

pub(super) const PERIODS: &str = "DELETE FROM anthill_unique WHERE queue = ?1 AND key IN (
    SELECT key FROM anthill_unique INDEXED BY anthill_unique_until
    WHERE queue = ?1 AND until <= ?2 ORDER BY until LIMIT ?3)";

pub(super) const PARKED_KEY: &str = "SELECT key FROM anthill_jobs INDEXED BY anthill_parked
    WHERE queue = ?1 AND state = 2 AND key >= ?2 ORDER BY key LIMIT 1";

pub(super) const RUNNING_OF: &str = "SELECT count(*) FROM (
    SELECT 1 FROM anthill_jobs INDEXED BY anthill_running_key WHERE queue = ?1 AND state = 3 AND key = ?2 LIMIT ?3)";

fn take_back(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    if tx.queue.counts.running == 0 {
        return Ok(0);
    }
    let lost = {
        let mut lost = tx.connection.prepare_cached(LOST)?;
        let now = params![tx.number, tx.now.boot, tx.now.steady, BATCH];
        let lost = lost.query_map(now, |row| Ok((step(row)?, row.get(5)?, row.get(6)?)))?;
        lost.collect::<rusqlite::Result<Vec<(Step, u32, u32)>>>()?
    };
    for (job, attempt, attempts) in &lost {
        tx.queue.counts.lost_leases += 1;
        let why = format!("the lease of attempt {attempt} ended before the job did");
        if attempt < attempts {
            let back = "UPDATE anthill_jobs SET state = 0, due = ?2, error = ?3 WHERE place = ?1";
            let mut back = tx.connection.prepare_cached(back)?;
            back.execute(params![job.place, tx.now.wall, why])?;
            tx.moved(JobState::Running, JobState::Ready, 1);
            tx.make_room(job)?;
        } else {
            tx.bury(job, &why)?;
        }
    }
    Ok(len(lost.len()))
}

fn fall_due(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    if tx.queue.counts.delayed == 0 {
        return Ok(0);
    }
    let mut due = tx.connection.prepare_cached(DUE)?;
    let due = due.execute(params![tx.number, tx.now.wall, BATCH])?;
    tx.moved(JobState::Delayed, JobState::Ready, due as u64);
    Ok(len(due))
}

fn expire(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    let mut expired = {
        let mut expired = tx.connection.prepare_cached(EXPIRED)?;
        let expired = expired.query_map(params![tx.number, tx.now.wall, BATCH], step)?;
        expired.collect::<rusqlite::Result<Vec<Step>>>()?
    };
    // The parked ones first: one that was ready would call one of them back.
    expired.sort_by_key(|job| job.state != JobState::Parked);
    for job in &expired {
        tx.expire(job)?;
    }
    Ok(len(expired.len()))
}

fn forget_results(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    if tx.queue.counts.results == 0 {
        return Ok(0);
    }
    let mut kept = tx.connection.prepare_cached(KEPT)?;
    let gone = kept.execute(params![tx.number, tx.now.wall, BATCH])?;
    let results = tx.queue.count(JobState::Done);
    *results = results.saturating_sub(gone as u64);
    Ok(len(gone))
}

fn free_periods(tx: &Tx<'_>) -> rusqlite::Result<u32> {
    let mut periods = tx.connection.prepare_cached(PERIODS)?;
    let freed = periods.execute(params![tx.number, tx.now.wall, BATCH])?;
    Ok(len(freed))
}

/// After a change of the limits: goes through the keys of those that are parked, and calls back as many as have room.
/// One too many does no harm, it is parked again.
fn unpark_all(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    let mut done = 0;
    while let Some(mut from) = tx.queue.unpark.take() {
        let mut next = tx.connection.prepare_cached(PARKED_KEY)?;
        let next = next.query_row(params![tx.number, from], |row| row.get(0));
        let Some(key) = next.optional()? else {
            break;
        };
        let key: String = key;
        let room = match tx.queue.limits.per_key {
            Some(most) => most.saturating_sub(running_of(tx, &key, most)?),
            None => u32::MAX,
        };
        let mut unparked = 0;
        while unparked < room && done < BATCH && tx.unpark(&key)? {
            unparked += 1;
            done += 1;
        }
        from.clone_from(&key);
        if done == BATCH {
            tx.queue.unpark = Some(from);
            break;
        }
        // The next key that there can be.
        from.push('\0');
        tx.queue.unpark = Some(from);
        done += 1;
    }
    Ok(done.min(BATCH))
}

/// How many with that key run, if not more than `most`.
pub(super) fn running_of(tx: &Tx<'_>, key: &str, most: u32) -> rusqlite::Result<u32> {
    let mut running = tx.connection.prepare_cached(RUNNING_OF)?;
    running.query_row(params![tx.number, key, most], |row| row.get(0))
}

fn len(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
