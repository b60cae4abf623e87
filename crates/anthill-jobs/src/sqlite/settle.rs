//! Settlements, heartbeats and progress, which only the newest lease of a running job may make (B4).

use super::json;
use super::time::nanos;
use super::tx::{JobRow, Tx, flag, job_row};
use crate::{Extended, JobId, JobState, Lease, Settle, Settled};
use rusqlite::{OptionalExtension, params};
use std::time::Duration;

/// What a settlement needs to know of its job.
struct Ending {
    job_row: JobRow,
    attempt: u32,
    attempts: u32,
    keep: Option<i64>,
    /// Of the attempts before; read only if this one failed.
    errors: Option<String>,
    is_cancelled: bool,
}

/// A token is the place of the job, which is never used again, and the number of the claim: each claim of the job has a
/// higher one.
pub(super) fn lease(id: JobId, place: i64, claim: i64) -> Lease {
    let mut token = [0; 16];
    token[..8].copy_from_slice(&place.to_le_bytes());
    token[8..].copy_from_slice(&claim.to_le_bytes());
    Lease::new(id, &token)
}

/// The place and the claim of a lease; those of no job if it is not one of ours.
fn parts(lease: &Lease) -> (i64, i64) {
    let token: [u8; 16] = lease.token().try_into().unwrap_or([0xff; 16]);
    let (place, claim) = token.split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map_or(-1, i64::from_le_bytes);
    (number(place), number(claim))
}

/// Settles jobs.
pub(super) fn settle(tx: &mut Tx<'_>, ends: &[(Lease, Settle)]) -> rusqlite::Result<Vec<Settled>> {
    let mut settle = |(lease, end): &(Lease, Settle)| {
        let Some(job) = find(tx, lease, end)? else {
            return Ok(Settled::Lost);
        };
        settle_one(tx, &job, end)?;
        // One job less runs.
        tx.wake |= tx.queue.limits.running.is_some() && tx.queue.counts.ready > 0;
        Ok(Settled::Stored)
    };
    ends.iter().map(&mut settle).collect()
}

fn find(tx: &Tx<'_>, lease: &Lease, end: &Settle) -> rusqlite::Result<Option<Ending>> {
    let failed = matches!(end, Settle::Retry { .. } | Settle::Dead { .. });
    let find =
        "SELECT place, state, id, key, holds, attempt, attempts, keep, errors, cancel FROM anthill_jobs
        WHERE place = ?1 AND id = ?2 AND claim = ?3 AND queue = ?4 AND state = 3";
    let mut find = tx.connection.prepare_cached(find)?;
    let (id, (place, claim)) = (lease.id(), parts(lease));
    let held = params![place, id.as_bytes(), claim, tx.number];
    let ending = find.query_row(held, |row| {
        Ok(Ending {
            job_row: job_row(row)?,
            attempt: row.get(5)?,
            attempts: row.get(6)?,
            keep: row.get(7)?,
            errors: if failed { row.get(8)? } else { None },
            is_cancelled: flag(row, 9)?,
        })
    });
    ending.optional()
}

fn settle_one(tx: &mut Tx<'_>, job: &Ending, end: &Settle) -> rusqlite::Result<()> {
    match end {
        Settle::Done { result } => finish(tx, job, result),
        Settle::Retry { .. } | Settle::Release { .. } if job.is_cancelled => {
            tx.remove_by_request(&job.job_row)
        }
        Settle::Retry { delay, error } if job.attempt < job.attempts => {
            try_again(tx, job, *delay, error)
        }
        Settle::Retry { error, .. } | Settle::Dead { error } => {
            let errors = errors_with(tx, job, error);
            tx.mark_dead(&job.job_row, error, &errors)
        }
        Settle::Release { delay } => release(tx, &job.job_row, *delay),
    }
}

/// The errors of the job's attempts, this one included.
fn errors_with(tx: &Tx<'_>, job: &Ending, error: &str) -> String {
    json::of_errors(job.errors.as_deref(), job.attempt, error, tx.now.time)
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
    let place = job.job_row.place;
    if let Some(keep) = job.keep {
        let until = tx.now.time.saturating_add(keep);
        let keep = "UPDATE anthill_jobs SET state = 5, until = ?2, result = ?3, cancel = NULL WHERE place = ?1";
        let mut keep = tx.connection.prepare_cached(keep)?;
        keep.execute(params![place, until, result])?;
    } else if tx.retained() > 0 {
        let retain = "UPDATE anthill_jobs SET state = 5, turn = ?2, cancel = NULL WHERE place = ?1";
        let mut retain = tx.connection.prepare_cached(retain)?;
        retain.execute(params![place, tx.now.time])?;
    } else {
        return tx.remove(&job.job_row);
    }
    tx.moved(JobState::Running, JobState::Done, 1);
    tx.free_key(&job.job_row)?;
    tx.balance_key_of(&job.job_row)
}

fn try_again(tx: &mut Tx<'_>, job: &Ending, delay: Duration, error: &str) -> rusqlite::Result<()> {
    let errors = errors_with(tx, job, error);
    let job = &job.job_row;
    tx.queue.counts.retried += 1;
    let due = tx.now.time.saturating_add(nanos(delay));
    let (state, turn) = if delay.is_zero() {
        (JobState::Ready, tx.next_turn())
    } else {
        (JobState::Delayed, tx.turn_at(due))
    };
    let retry = "UPDATE anthill_jobs SET state = ?2, due = ?3, turn = ?4, error = ?5, errors = ?6,
        suspect = 0 WHERE place = ?1";
    let mut retry = tx.connection.prepare_cached(retry)?;
    retry.execute(params![
        job.place,
        super::tx::number(state),
        due,
        turn,
        error,
        errors
    ])?;
    tx.moved(JobState::Running, state, 1);
    // Also if it is delayed: a consumer may sleep past the new time.
    tx.wake = true;
    tx.balance_key_of(job)
}

/// Extends leases.
pub(super) fn extend(
    tx: &Tx<'_>,
    leases: &[Lease],
    time: Duration,
) -> rusqlite::Result<Vec<Extended>> {
    let ends = tx.now.steady.saturating_add(nanos(time));
    let set = "UPDATE anthill_jobs SET boot = ?5, ends = ?6
        WHERE place = ?1 AND id = ?2 AND claim = ?3 AND queue = ?4 AND state = 3 RETURNING cancel";
    let mut set = tx.connection.prepare_cached(set)?;
    let mut extend = |lease: &Lease| {
        let (place, claim) = parts(lease);
        let id = lease.id();
        let held = params![place, id.as_bytes(), claim, tx.number, tx.now.boot, ends];
        let extended = set.query_row(held, |row| {
            Ok(if flag(row, 0)? {
                Extended::Cancelled(lease.clone())
            } else {
                Extended::Held(lease.clone())
            })
        });
        Ok(extended.optional()?.unwrap_or(Extended::Lost))
    };
    leases.iter().map(&mut extend).collect()
}

/// Stores progress. Returns whether the lease was held.
pub(super) fn progress(tx: &Tx<'_>, lease: &Lease, progress: &[u8]) -> rusqlite::Result<bool> {
    let set = "UPDATE anthill_jobs SET progress = ?5
        WHERE place = ?1 AND id = ?2 AND claim = ?3 AND queue = ?4 AND state = 3";
    let mut set = tx.connection.prepare_cached(set)?;
    let (id, (place, claim)) = (lease.id(), parts(lease));
    Ok(set.execute(params![place, id.as_bytes(), claim, tx.number, progress])? > 0)
}
