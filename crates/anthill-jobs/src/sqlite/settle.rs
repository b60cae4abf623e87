//! Settlements, heartbeats and progress, which only the newest lease of a running job may make (B4).

use super::time::nanos;
use super::tx::{JobRow, Tx, job_row};
use crate::{JobState, Lease, Settle};
use rusqlite::{OptionalExtension, ToSql, params};
use std::time::Duration;

/// What a settlement needs to know of its job.
struct Ending {
    job_row: JobRow,
    attempt: u32,
    attempts: u32,
    keep: Option<i64>,
}

/// Settles jobs. Returns for each whether its lease was held.
pub(super) fn settle(tx: &mut Tx<'_>, ends: &[(Lease, Settle)]) -> rusqlite::Result<Vec<bool>> {
    let mut settle = |(lease, end): &(Lease, Settle)| {
        let Some(job) = find(tx, *lease)? else {
            return Ok(false);
        };
        settle_one(tx, &job, end)?;
        // One job less runs.
        tx.wake |= tx.queue.limits.running.is_some() && tx.queue.counts.ready > 0;
        Ok(true)
    };
    ends.iter().map(&mut settle).collect()
}

fn find(tx: &Tx<'_>, lease: Lease) -> rusqlite::Result<Option<Ending>> {
    let find = "SELECT place, state, id, key, holds, attempt, attempts, keep FROM anthill_jobs
        WHERE place = ?1 AND id = ?2 AND claim = ?3 AND queue = ?4 AND state = 3";
    let mut find = tx.connection.prepare_cached(find)?;
    let lease = params![lease.place, lease.id.as_bytes(), claim(lease), tx.number];
    let ending = find.query_row(lease, |row| {
        Ok(Ending {
            job_row: job_row(row)?,
            attempt: row.get(5)?,
            attempts: row.get(6)?,
            keep: row.get(7)?,
        })
    });
    ending.optional()
}

fn claim(lease: Lease) -> i64 {
    i64::try_from(lease.claim).unwrap_or(i64::MAX)
}

fn settle_one(tx: &mut Tx<'_>, job: &Ending, end: &Settle) -> rusqlite::Result<()> {
    match end {
        Settle::Done { result } => finish(tx, job, result),
        Settle::Retry { delay, error } if job.attempt < job.attempts => {
            try_again(tx, &job.job_row, *delay, error)
        }
        Settle::Retry { error, .. } | Settle::Dead { error } => tx.mark_dead(&job.job_row, error),
        Settle::Release { delay } => release(tx, &job.job_row, *delay),
    }
}

/// Releases a job as if it had not been claimed; but a suspect job stays suspect.
fn release(tx: &mut Tx<'_>, job: &JobRow, delay: Duration) -> rusqlite::Result<()> {
    if delay.is_zero() {
        let back = "UPDATE anthill_jobs SET state = 0, attempt = max(attempt - 1, 0), due = ?2 WHERE place = ?1";
        let mut back = tx.connection.prepare_cached(back)?;
        back.execute(params![job.place, tx.now.time])?;
        tx.moved(JobState::Running, JobState::Ready, 1);
    } else {
        let due = tx.now.time.saturating_add(nanos(delay));
        let turn = tx.turn_at(due);
        let back =
            "UPDATE anthill_jobs SET state = 1, attempt = max(attempt - 1, 0), due = ?2, turn = ?3
            WHERE place = ?1";
        let mut back = tx.connection.prepare_cached(back)?;
        back.execute(params![job.place, due, turn])?;
        tx.moved(JobState::Running, JobState::Delayed, 1);
    }
    tx.wake = true;
    tx.balance_key_of(job)
}

fn finish(tx: &mut Tx<'_>, job: &Ending, result: &[u8]) -> rusqlite::Result<()> {
    tx.queue.counts.done += 1;
    let Some(keep) = job.keep else {
        return tx.remove(&job.job_row);
    };
    let until = tx.now.time.saturating_add(keep);
    let keep = "UPDATE anthill_jobs SET state = 5, until = ?2, result = ?3 WHERE place = ?1";
    let mut keep = tx.connection.prepare_cached(keep)?;
    keep.execute(params![job.job_row.place, until, result])?;
    tx.moved(JobState::Running, JobState::Done, 1);
    tx.free_key(&job.job_row)?;
    tx.balance_key_of(&job.job_row)
}

fn try_again(tx: &mut Tx<'_>, job: &JobRow, delay: Duration, error: &str) -> rusqlite::Result<()> {
    tx.queue.counts.retried += 1;
    let due = tx.now.time.saturating_add(nanos(delay));
    let (state, turn) = if delay.is_zero() {
        (JobState::Ready, tx.next_turn())
    } else {
        (JobState::Delayed, tx.turn_at(due))
    };
    let retry = "UPDATE anthill_jobs SET state = ?2, due = ?3, turn = ?4, error = ?5, suspect = 0
        WHERE place = ?1";
    let mut retry = tx.connection.prepare_cached(retry)?;
    retry.execute(params![
        job.place,
        super::tx::number(state),
        due,
        turn,
        error
    ])?;
    tx.moved(JobState::Running, state, 1);
    // Also if it is delayed: a consumer may sleep past the new time.
    tx.wake = true;
    tx.balance_key_of(job)
}

/// Extends leases. Returns for each whether it was held.
pub(super) fn extend(
    tx: &Tx<'_>,
    leases: &[Lease],
    lease: Duration,
) -> rusqlite::Result<Vec<bool>> {
    let ends = tx.now.steady.saturating_add(nanos(lease));
    let set = "UPDATE anthill_jobs SET boot = ?5, ends = ?6
        WHERE place = ?1 AND id = ?2 AND claim = ?3 AND queue = ?4 AND state = 3";
    let extend = |&lease: &Lease| touch(tx, set, lease, &[&tx.now.boot, &ends]);
    leases.iter().map(extend).collect()
}

/// Stores progress. Returns whether the lease was held.
pub(super) fn progress(tx: &Tx<'_>, lease: Lease, progress: &[u8]) -> rusqlite::Result<bool> {
    let set = "UPDATE anthill_jobs SET progress = ?5
        WHERE place = ?1 AND id = ?2 AND claim = ?3 AND queue = ?4 AND state = 3";
    touch(tx, set, lease, &[&progress])
}

fn touch(tx: &Tx<'_>, set: &str, lease: Lease, to: &[&dyn ToSql]) -> rusqlite::Result<bool> {
    let id = lease.id.as_bytes();
    let claim = claim(lease);
    let held: [&dyn ToSql; 4] = [&lease.place, &id, &claim, &tx.number];
    let all: Vec<&dyn ToSql> = held.into_iter().chain(to.iter().copied()).collect();
    let mut set = tx.connection.prepare_cached(set)?;
    Ok(set.execute(&all[..])? > 0)
}
