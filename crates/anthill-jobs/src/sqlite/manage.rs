//! Operations on request: jobs removed, retried, made due or purged; pause, limits and schedules.

use super::enqueue::add;
use super::sweep::sweep;
use super::time::nanos;
use super::tx::{JobRow, Tx, job_row, number};
use crate::{Fired, JobId, JobInfo, JobState, Limits, Missed, NewJob, Scheduled};
use rusqlite::{OptionalExtension, params};
use std::time::Duration;

pub(super) fn find(tx: &Tx<'_>, id: JobId) -> rusqlite::Result<Option<JobRow>> {
    let find = "SELECT place, state, id, key, holds FROM anthill_jobs WHERE queue = ?1 AND id = ?2";
    let mut find = tx.connection.prepare_cached(find)?;
    find.query_row(params![tx.number, id.as_bytes()], job_row)
        .optional()
}

/// Removes a job in one of these states. Returns whether there was one.
pub(super) fn remove_job(
    tx: &mut Tx<'_>,
    id: JobId,
    states: &[JobState],
) -> rusqlite::Result<bool> {
    let Some(job) = find(tx, id)?.filter(|job| states.contains(&job.state)) else {
        return Ok(false);
    };
    tx.remove_by_request(&job)?;
    Ok(true)
}

/// Notes that a running job is to be cancelled. Returns whether it runs.
pub(super) fn cancel_running(tx: &mut Tx<'_>, id: JobId) -> rusqlite::Result<bool> {
    // One whose lease is over does not.
    sweep(tx)?;
    let cancel = "UPDATE anthill_jobs SET cancel = 1 WHERE queue = ?1 AND id = ?2 AND state = 3";
    let mut cancel = tx.connection.prepare_cached(cancel)?;
    Ok(cancel.execute(params![tx.number, id.as_bytes()])? > 0)
}

/// Makes a dead job ready, unless another job has its unique key by now.
pub(super) fn retry_dead(tx: &mut Tx<'_>, id: JobId) -> rusqlite::Result<bool> {
    let Some(job) = find(tx, id)?.filter(|job| job.state == JobState::Dead) else {
        return Ok(false);
    };
    if let Some(key) = &job.holds {
        match tx.owner(key)? {
            None => tx.own(key, &job.id, true, None)?,
            // The job's own period holds it.
            Some(owner) if owner.id == job.id => tx.hold_again(key, &job.id)?,
            Some(_) => return Ok(false),
        }
    }
    let turn = tx.next_turn();
    // An operator wants it to run, whenever it expired.
    let retry = "UPDATE anthill_jobs SET state = 0, attempt = 0, expires = NULL, due = ?2, turn = ?3 WHERE place = ?1";
    let mut retry = tx.connection.prepare_cached(retry)?;
    retry.execute(params![job.place, tx.now.time, turn])?;
    tx.moved(JobState::Dead, JobState::Ready, 1);
    tx.wake = true;
    tx.balance_key_of(&job)?;
    Ok(true)
}

/// Makes waiting jobs due. Returns for each whether it waited.
pub(super) fn set_due(
    tx: &mut Tx<'_>,
    ids: &[JobId],
    delay: Duration,
) -> rusqlite::Result<Vec<bool>> {
    let mut set = |&id: &JobId| set_one_due(tx, id, delay);
    ids.iter().map(&mut set).collect()
}

fn set_one_due(tx: &mut Tx<'_>, id: JobId, delay: Duration) -> rusqlite::Result<bool> {
    let waiting = find(tx, id)?.filter(|job| JobState::WAITING.contains(&job.state));
    let Some(job) = waiting else {
        return Ok(false);
    };
    if delay.is_zero() && job.state != JobState::Delayed {
        return Ok(true);
    }
    let due = tx.now.time.saturating_add(nanos(delay));
    let (state, turn) = if delay.is_zero() {
        (JobState::Ready, tx.next_turn())
    } else {
        (JobState::Delayed, tx.turn_at(due))
    };
    // A job that was delayed from the start gets a turn when it is due; another one keeps its own.
    let set = "UPDATE anthill_jobs SET state = ?2, due = ?3,
        turn = CASE WHEN state <> 1 OR turn < due THEN turn ELSE ?4 END WHERE place = ?1";
    let mut set = tx.connection.prepare_cached(set)?;
    set.execute(params![job.place, number(state), due, turn])?;
    tx.moved(job.state, state, 1);
    // Also if it is delayed: a consumer may sleep past the new time.
    tx.wake = true;
    tx.balance_key_of(&job)?;
    Ok(true)
}

/// Removes jobs that are unchanged. Returns for each whether it was.
pub(super) fn remove_unchanged(tx: &mut Tx<'_>, jobs: &[JobInfo]) -> rusqlite::Result<Vec<bool>> {
    let mut remove = |job: &JobInfo| {
        let same = "SELECT place, state, id, key, holds FROM anthill_jobs
            WHERE queue = ?1 AND id = ?2 AND state IN (0, 1, 2, 4) AND kind = ?3 AND payload = ?4";
        let mut same = tx.connection.prepare_cached(same)?;
        let with = params![tx.number, job.id.as_bytes(), job.kind, job.payload];
        let same = same.query_row(with, job_row);
        let Some(same) = same.optional()? else {
            return Ok(false);
        };
        tx.remove_by_request(&same)?;
        Ok(true)
    };
    jobs.iter().map(&mut remove).collect()
}

/// How many jobs one transaction purges, so that others do not wait long.
const PURGED: u64 = 2_000;

/// Removes some of the jobs in a state, none behind `last`. Returns how many, and whether there may be more.
pub(super) fn purge_some(
    tx: &mut Tx<'_>,
    state: JobState,
    last: i64,
) -> rusqlite::Result<(u64, bool)> {
    let index = index(state);
    let number = super::tx::number(state);
    let purged = {
        let some = format!(
            "SELECT place, state, id, key, holds FROM anthill_jobs INDEXED BY {index}
            WHERE queue = ?1 AND state = {number} AND place <= ?2 LIMIT {PURGED}"
        );
        let mut some = tx.connection.prepare_cached(&some)?;
        let some = some.query_map(params![tx.number, last], job_row)?;
        some.collect::<rusqlite::Result<Vec<JobRow>>>()?
    };
    let remove = "DELETE FROM anthill_jobs WHERE place = ?1";
    let mut remove = tx.connection.prepare_cached(remove)?;
    for job in &purged {
        remove.execute([job.place])?;
        tx.free_key(job)?;
    }
    let jobs = purged.len() as u64;
    let count = tx.queue.count(state);
    *count = count.saturating_sub(jobs);
    tx.queue.counts.removed += jobs;
    if state == JobState::Ready && purged.iter().any(|job| job.key.is_some()) {
        look_at_parked(tx);
    }
    Ok((jobs, jobs == PURGED))
}

/// The index of the jobs in a state.
pub(super) fn index(state: JobState) -> &'static str {
    match state {
        JobState::Ready => "anthill_ready",
        JobState::Delayed => "anthill_delayed",
        JobState::Parked => "anthill_parked",
        JobState::Running => "anthill_running",
        JobState::Dead => "anthill_dead",
        JobState::Done => "anthill_done",
    }
}

/// Makes the next claims look which parked jobs have room.
fn look_at_parked(tx: &mut Tx<'_>) {
    if tx.queue.counts.parked > 0 {
        tx.queue.unpark = Some(String::new());
        tx.wake = true;
    }
}

pub(super) fn set_paused(tx: &mut Tx<'_>, paused: bool) {
    tx.queue.counts.paused = paused;
    tx.wake |= !paused;
}

pub(super) fn set_limits(tx: &mut Tx<'_>, limits: Limits) {
    let before = std::mem::replace(&mut tx.queue.limits, limits);
    if before.rate != limits.rate {
        // Otherwise a slow rate of before would delay a fast one.
        tx.queue.rate_kept = 0;
        tx.queue.rate_behind = false;
    }
    if before.per_key != limits.per_key && tx.queue.counts.ready + tx.queue.counts.parked > 0 {
        tx.queue.unpark = Some(String::new());
    }
    tx.wake = true;
}

/// By their number in the table.
pub(super) const MISSED: [Missed; 3] = [Missed::Once, Missed::All, Missed::Skip];

pub(super) fn put_schedule(tx: &mut Tx<'_>, schedule: &Scheduled) -> rusqlite::Result<()> {
    let put = "INSERT INTO anthill_schedules (queue, name, cron, kind, payload, next, missed)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        ON CONFLICT (queue, name) DO UPDATE SET kind = excluded.kind, payload = excluded.payload,
        next = CASE WHEN cron = excluded.cron THEN min(next, excluded.next) ELSE excluded.next END,
        cron = excluded.cron, missed = excluded.missed";
    let Scheduled {
        name,
        cron,
        kind,
        payload,
        next,
        missed,
    } = schedule;
    let missed = MISSED.iter().position(|each| each == missed);
    tx.connection
        .prepare_cached(put)?
        .execute(params![tx.number, name, cron, kind, payload, next, missed])?;
    tx.wake = true;
    Ok(())
}

pub(super) fn drop_schedule(tx: &Tx<'_>, name: &str) -> rusqlite::Result<bool> {
    let drop = "DELETE FROM anthill_schedules WHERE queue = ?1 AND name = ?2";
    Ok(tx
        .connection
        .prepare_cached(drop)?
        .execute(params![tx.number, name])?
        > 0)
}

pub(super) fn fire(
    tx: &mut Tx<'_>,
    schedule: &Scheduled,
    next: i64,
    job: Option<&NewJob>,
) -> rusqlite::Result<Fired> {
    if tx.queue.counts.paused {
        return Ok(Fired::Paused);
    }
    let fire =
        "UPDATE anthill_schedules SET next = ?4 WHERE queue = ?1 AND name = ?2 AND next = ?3";
    let mut fire = tx.connection.prepare_cached(fire)?;
    if fire.execute(params![tx.number, schedule.name, schedule.next, next])? == 0 {
        return Ok(Fired::Changed);
    }
    if let Some(job) = job {
        add(tx, job)?;
        tx.wake = true;
    }
    Ok(Fired::Done)
}
