//! What time does to jobs: a lease is over (B5), one is due, one has expired, a result was kept long enough. Each at most
//! so many at once, so that no step is long.

use super::tx::{Step, Tx, step};
use crate::JobState;
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
    most = most.max(balance_all(tx)?);
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
    overdue.query_row(params![queue, now.time, now.steady, now.boot], |row| {
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

pub(super) const LOST: &str = "SELECT place, state, id, key, holds, attempt, attempts, together
    FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot < ?2
    UNION ALL SELECT place, state, id, key, holds, attempt, attempts, together
    FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot > ?2
    UNION ALL SELECT place, state, id, key, holds, attempt, attempts, together
    FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot = ?2 AND ends <= ?3
    LIMIT ?4";

pub(super) const DUE: &str = "UPDATE anthill_jobs SET state = 0 WHERE place IN (
    SELECT place FROM anthill_jobs INDEXED BY anthill_delayed
    WHERE queue = ?1 AND state = 1 AND due <= ?2 ORDER BY due LIMIT ?3)";

pub(super) const DUE_KEYS: &str =
    "SELECT place, state, id, key, holds FROM anthill_jobs INDEXED BY anthill_delayed
    WHERE queue = ?1 AND state = 1 AND due <= ?2 ORDER BY due LIMIT ?3";

pub(super) const EXPIRED: &str = "SELECT place FROM anthill_jobs INDEXED BY anthill_expires
    WHERE queue = ?1 AND state < 3 AND expires <= ?2 ORDER BY expires LIMIT ?3";

pub(super) const KEPT: &str = "DELETE FROM anthill_jobs WHERE place IN (
    SELECT place FROM anthill_jobs INDEXED BY anthill_done
    WHERE queue = ?1 AND state = 5 AND until <= ?2 ORDER BY until LIMIT ?3)";

pub(super) const PERIODS: &str =
    "DELETE FROM anthill_unique WHERE queue = ?1 AND held = 0 AND key IN (
    SELECT key FROM anthill_unique INDEXED BY anthill_unique_until
    WHERE queue = ?1 AND until <= ?2 ORDER BY until LIMIT ?3)";

pub(super) const HELD_LONGER: &str =
    "UPDATE anthill_unique SET until = NULL WHERE queue = ?1 AND key IN (
    SELECT key FROM anthill_unique INDEXED BY anthill_unique_until
    WHERE queue = ?1 AND until <= ?2 ORDER BY until LIMIT ?3)";

pub(super) const PARKED_KEY: &str = "SELECT key FROM anthill_jobs INDEXED BY anthill_parked
    WHERE queue = ?1 AND state = 2 AND key >= ?2 ORDER BY key LIMIT 1";

pub(super) const READY_KEY: &str = "SELECT key FROM anthill_jobs INDEXED BY anthill_ready_key
    WHERE queue = ?1 AND state = 0 AND key IS NOT NULL AND key >= ?2 ORDER BY key LIMIT 1";

fn take_back(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    if tx.queue.counts.running == 0 {
        return Ok(0);
    }
    let lost = {
        let mut lost = tx.connection.prepare_cached(LOST)?;
        let now = params![tx.number, tx.now.boot, tx.now.steady, BATCH];
        let lost = lost.query_map(now, |row| {
            Ok(Lost {
                job: step(row)?,
                attempt: row.get(5)?,
                attempts: row.get(6)?,
                together: row.get(7)?,
            })
        })?;
        lost.collect::<rusqlite::Result<Vec<Lost>>>()?
    };
    for one in &lost {
        lose_lease(tx, one)?;
    }
    Ok(len(lost.len()))
}

/// A job whose lease is over.
struct Lost {
    job: Step,
    attempt: u32,
    attempts: u32,
    together: bool,
}

/// B5.
fn lose_lease(tx: &mut Tx<'_>, lost: &Lost) -> rusqlite::Result<()> {
    tx.queue.counts.lost_leases += 1;
    let Lost { job, attempt, .. } = lost;
    let why = format!("the lease of attempt {attempt} ended before the job did");
    let attempt = attempt.saturating_sub(u32::from(lost.together));
    if attempt >= lost.attempts {
        return tx.bury(job, &why);
    }
    let back = "UPDATE anthill_jobs SET state = 0, due = ?2, error = ?3, attempt = ?4, suspect = 1 WHERE place = ?1";
    let mut back = tx.connection.prepare_cached(back)?;
    back.execute(params![job.place, tx.now.time, why, attempt])?;
    tx.moved(JobState::Running, JobState::Ready, 1);
    tx.balance_key_of(job)
}

fn fall_due(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    if tx.queue.counts.delayed == 0 {
        return Ok(0);
    }
    if tx.queue.limits.per_key.is_some() {
        return fall_due_by_keys(tx);
    }
    let mut due = tx.connection.prepare_cached(DUE)?;
    let due = due.execute(params![tx.number, tx.now.time, BATCH])?;
    tx.moved(JobState::Delayed, JobState::Ready, due as u64);
    Ok(len(due))
}

/// One by one, as each may find its key in use.
fn fall_due_by_keys(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    let due = {
        let mut due = tx.connection.prepare_cached(DUE_KEYS)?;
        let due = due.query_map(params![tx.number, tx.now.time, BATCH], step)?;
        due.collect::<rusqlite::Result<Vec<Step>>>()?
    };
    for job in &due {
        tx.set_state(job.place, JobState::Ready)?;
        tx.moved(JobState::Delayed, JobState::Ready, 1);
        tx.balance_key_of(job)?;
    }
    Ok(len(due.len()))
}

fn expire(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    let expired = {
        let mut expired = tx.connection.prepare_cached(EXPIRED)?;
        let now = params![tx.number, tx.now.time, BATCH];
        let expired = expired.query_map(now, |row| row.get(0))?;
        expired.collect::<rusqlite::Result<Vec<i64>>>()?
    };
    for &place in &expired {
        // One that goes may have parked the next one, or called it back.
        let job = tx.at(place)?;
        tx.expire(&job)?;
    }
    Ok(len(expired.len()))
}

fn forget_results(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    if tx.queue.counts.results == 0 {
        return Ok(0);
    }
    let mut kept = tx.connection.prepare_cached(KEPT)?;
    let gone = kept.execute(params![tx.number, tx.now.time, BATCH])?;
    let results = tx.queue.count(JobState::Done);
    *results = results.saturating_sub(gone as u64);
    Ok(len(gone))
}

fn free_periods(tx: &Tx<'_>) -> rusqlite::Result<u32> {
    let mut periods = tx.connection.prepare_cached(PERIODS)?;
    let freed = periods.execute(params![tx.number, tx.now.time, BATCH])?;
    // Those that are left are held until their jobs are over.
    let mut held = tx.connection.prepare_cached(HELD_LONGER)?;
    held.execute(params![tx.number, tx.now.time, BATCH])?;
    Ok(len(freed))
}

/// After a change of the limits: goes through the keys of those that are parked or ready, and sees that as many are ready as
/// have room.
fn balance_all(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    let mut done = 0;
    while let Some(from) = tx.queue.unpark.take() {
        let next = |sql| {
            let mut next = tx.connection.prepare_cached(sql)?;
            let next = next.query_row(params![tx.number, from], |row| row.get(0));
            next.optional()
        };
        let next: [Option<String>; 2] = [next(PARKED_KEY)?, next(READY_KEY)?];
        let Some(mut key) = next.into_iter().flatten().min() else {
            break;
        };
        done += tx.balance(&key, BATCH - done)?;
        if done < BATCH {
            // The next key that there can be.
            key.push('\0');
            done += 1;
        }
        tx.queue.unpark = Some(key);
        if done == BATCH {
            break;
        }
    }
    Ok(done)
}

fn len(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
