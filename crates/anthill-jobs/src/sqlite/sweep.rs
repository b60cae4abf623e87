//! What time does to jobs: a lease is over (B5), a job is due or has expired, what is over was kept long enough. Each sweep
//! does at most so much of each, so that no step is long.

use super::json;
use super::time::nanos;
use super::tx::{JobRow, Tx, flag, job_row};
use crate::JobState;
use rusqlite::{Connection, OptionalExtension, params};

/// How many jobs one sweep handles, for each reason.
pub(super) const BATCH: u32 = 500;

/// Does what time has brought. Returns whether there may be more to do.
pub(super) fn sweep(tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
    let ready = tx.queue.counts.ready;
    let mut largest = reclaim_expired_leases(tx)?;
    largest = largest.max(promote_due(tx)?);
    largest = largest.max(expire(tx)?);
    largest = largest.max(delete_old_done(tx)?);
    largest = largest.max(delete_old_dead(tx)?);
    largest = largest.max(free_expired_periods(tx)?);
    largest = largest.max(balance_all(tx)?);
    // Another consumer of this process may have room for jobs that became ready.
    tx.wake |= tx.queue.counts.ready > ready;
    Ok(largest >= BATCH)
}

/// Whether a sweep has anything to do. Runs on a connection that does not write.
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
    OR EXISTS (SELECT 1 FROM anthill_jobs INDEXED BY anthill_done WHERE queue = ?1 AND state = 5 AND until <= ?2)
    OR EXISTS (SELECT 1 FROM anthill_jobs INDEXED BY anthill_done WHERE queue = ?1 AND state = 5 AND until IS NULL
        AND turn <= ?2 - coalesce((SELECT keep_done FROM anthill_queues WHERE id = ?1), 0))
    OR EXISTS (SELECT 1 FROM anthill_jobs INDEXED BY anthill_dead
        WHERE queue = ?1 AND state = 4 AND turn <= ?2 - (SELECT keep_dead FROM anthill_queues WHERE id = ?1) + 1000000
        AND due <= ?2 - (SELECT keep_dead FROM anthill_queues WHERE id = ?1))";

pub(super) const EXPIRED_LEASES: &str = "SELECT place, state, id, key, holds, attempt, attempts, together, errors, cancel
    FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot < ?2
    UNION ALL SELECT place, state, id, key, holds, attempt, attempts, together, errors, cancel
    FROM anthill_jobs INDEXED BY anthill_running WHERE queue = ?1 AND state = 3 AND boot > ?2
    UNION ALL SELECT place, state, id, key, holds, attempt, attempts, together, errors, cancel
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

/// Without a retention: results that were kept long enough, and what the retention kept before.
pub(super) const KEPT: &str = "DELETE FROM anthill_jobs WHERE place IN (
    SELECT place FROM anthill_jobs INDEXED BY anthill_done WHERE queue = ?1 AND state = 5 AND until <= ?2
    UNION ALL SELECT place FROM anthill_jobs INDEXED BY anthill_done
    WHERE queue = ?1 AND state = 5 AND until IS NULL AND turn <= ?2
    LIMIT ?3)";

/// With one: only that keeps them from now on.
pub(super) const LAPSED: &str =
    "UPDATE anthill_jobs SET until = NULL, turn = until - keep WHERE place IN (
    SELECT place FROM anthill_jobs INDEXED BY anthill_done
    WHERE queue = ?1 AND state = 5 AND until <= ?2 ORDER BY until LIMIT ?3)";

pub(super) const RETAINED: &str = "DELETE FROM anthill_jobs WHERE place IN (
    SELECT place FROM anthill_jobs INDEXED BY anthill_done
    WHERE queue = ?1 AND state = 5 AND until IS NULL AND turn <= ?2 ORDER BY turn LIMIT ?3)";

/// The `turn` of a dead letter is when it died, or up to a millisecond later, if several died at the same time: `due` is the
/// exact time. (In one that a program of version 2 made it is an earlier time.)
pub(super) const OLD_DEAD: &str = "DELETE FROM anthill_jobs WHERE place IN (
    SELECT place FROM anthill_jobs INDEXED BY anthill_dead
    WHERE queue = ?1 AND state = 4 AND turn <= ?2 + 1000000 AND due <= ?2 ORDER BY turn LIMIT ?3)";

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

fn reclaim_expired_leases(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    if tx.queue.counts.running == 0 {
        return Ok(0);
    }
    let lost = {
        let mut lost = tx.connection.prepare_cached(EXPIRED_LEASES)?;
        let now = params![tx.number, tx.now.boot, tx.now.steady, BATCH];
        let lost = lost.query_map(now, |row| {
            Ok(ExpiredLease {
                job: job_row(row)?,
                attempt: row.get(5)?,
                attempts: row.get(6)?,
                together: row.get(7)?,
                errors: row.get(8)?,
                is_cancelled: flag(row, 9)?,
            })
        })?;
        lost.collect::<rusqlite::Result<Vec<ExpiredLease>>>()?
    };
    for one in &lost {
        lose_lease(tx, one)?;
    }
    Ok(len(lost.len()))
}

/// A job whose lease is over.
struct ExpiredLease {
    job: JobRow,
    attempt: u32,
    attempts: u32,
    together: bool,
    /// Of the attempts before.
    errors: Option<String>,
    is_cancelled: bool,
}

/// Makes a job ready or dead whose lease is over (B5).
fn lose_lease(tx: &mut Tx<'_>, lost: &ExpiredLease) -> rusqlite::Result<()> {
    tx.queue.counts.lost_leases += 1;
    let ExpiredLease { job, attempt, .. } = lost;
    if lost.is_cancelled {
        return tx.remove_by_request(job);
    }
    let why = format!("the lease of attempt {attempt} ended before the job did");
    let errors = json::of_errors(lost.errors.as_deref(), *attempt, &why, tx.now.time);
    let attempt = attempt.saturating_sub(u32::from(lost.together));
    if attempt >= lost.attempts {
        return tx.mark_dead(job, &why, &errors);
    }
    let back = "UPDATE anthill_jobs SET state = 0, due = ?2, error = ?3, errors = ?4, attempt = ?5,
        suspect = 1 WHERE place = ?1";
    let mut back = tx.connection.prepare_cached(back)?;
    back.execute(params![job.place, tx.now.time, why, errors, attempt])?;
    tx.moved(JobState::Running, JobState::Ready, 1);
    tx.balance_key_of(job)
}

fn promote_due(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    if tx.queue.counts.delayed == 0 {
        return Ok(0);
    }
    if tx.queue.limits.per_key.is_some() {
        return promote_due_by_key(tx);
    }
    let mut due = tx.connection.prepare_cached(DUE)?;
    let due = due.execute(params![tx.number, tx.now.time, BATCH])?;
    tx.moved(JobState::Delayed, JobState::Ready, due as u64);
    Ok(len(due))
}

/// One by one, because each may have to be parked.
fn promote_due_by_key(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    let due = {
        let mut due = tx.connection.prepare_cached(DUE_KEYS)?;
        let due = due.query_map(params![tx.number, tx.now.time, BATCH], job_row)?;
        due.collect::<rusqlite::Result<Vec<JobRow>>>()?
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
        // A removed job may change the state of the next one with its key.
        let job = tx.at(place)?;
        tx.expire(&job)?;
    }
    Ok(len(expired.len()))
}

/// Removes jobs that are done and were kept long enough. A job is kept because of its result until `until`, which is none
/// after that; then because of the retention, from its `turn` on, which is when it ended. So a change of the retention
/// changes no job.
fn delete_old_done(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    if tx.queue.counts.results == 0 {
        return Ok(0);
    }
    let retained = tx.retained();
    if retained == 0 {
        return delete_old(tx, KEPT, JobState::Done, tx.now.time);
    }
    let mut lapsed = tx.connection.prepare_cached(LAPSED)?;
    let lapsed = lapsed.execute(params![tx.number, tx.now.time, BATCH])?;
    let before = tx.now.time.saturating_sub(retained);
    let gone = delete_old(tx, RETAINED, JobState::Done, before)?;
    Ok(gone.max(len(lapsed)))
}

/// Removes dead letters that were kept long enough.
fn delete_old_dead(tx: &mut Tx<'_>) -> rusqlite::Result<u32> {
    let Some(time) = tx.queue.retention.dead.filter(|_| tx.queue.counts.dead > 0) else {
        return Ok(0);
    };
    let before = tx.now.time.saturating_sub(nanos(time));
    delete_old(tx, OLD_DEAD, JobState::Dead, before)
}

/// Removes some of the jobs in a state that is over. They hold no unique key, and no room for their key.
fn delete_old(tx: &mut Tx<'_>, sql: &str, state: JobState, before: i64) -> rusqlite::Result<u32> {
    let mut old = tx.connection.prepare_cached(sql)?;
    let gone = old.execute(params![tx.number, before, BATCH])?;
    let count = tx.queue.count(state);
    *count = count.saturating_sub(gone as u64);
    Ok(len(gone))
}

fn free_expired_periods(tx: &Tx<'_>) -> rusqlite::Result<u32> {
    let mut periods = tx.connection.prepare_cached(PERIODS)?;
    let freed = periods.execute(params![tx.number, tx.now.time, BATCH])?;
    // The keys that are left are held until their jobs are over.
    let mut held = tx.connection.prepare_cached(HELD_LONGER)?;
    held.execute(params![tx.number, tx.now.time, BATCH])?;
    Ok(len(freed))
}

/// After a change of the limits: balances the keys of all parked and ready jobs, some at a time.
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
            // The next possible key.
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
