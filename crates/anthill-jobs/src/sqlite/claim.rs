//! Claims. Whatever else the queue holds, a claim touches only the jobs that it claims, and those that time or a limit puts
//! in its way.

use super::json::headers;
use super::kinds::{self, Order, order};
use super::settle::lease;
use super::sweep::{BATCH, sweep};
use super::time::{duration, nanos};
use super::tx::{JobRow, Tx, job_row};
use crate::rate::{self, Admitted};
use crate::{ClaimRequest, Claimed, Claims, JobId, JobState, Rate};
use rusqlite::{OptionalExtension, Row, params};
use std::borrow::Cow;
use std::time::Duration;

/// The columns that a claim reads of a job.
macro_rules! candidates {
    ($rest:literal) => {
        concat!(
            "SELECT place, state, id, key, holds, kind, attempt, attempts, claim, due, expires, payload, rank, turn,
            suspect, keep, headers FROM anthill_jobs ",
            $rest
        )
    };
}

pub(super) const READY_OF_KIND: &str = candidates!(
    "INDEXED BY anthill_ready WHERE queue = ?1 AND state = 0 AND kind = ?3 ORDER BY rank, turn, place LIMIT ?2"
);

const AT: &str = candidates!("WHERE place = ?1");

pub(super) const NEXT_DUE: &str =
    "SELECT due, rank, turn, place FROM anthill_jobs INDEXED BY anthill_delayed
    WHERE queue = ?1 AND state = 1 ORDER BY due LIMIT 1";

pub(super) const NEXT_END: &str = "SELECT ends FROM anthill_jobs INDEXED BY anthill_running
    WHERE queue = ?1 AND state = 3 AND boot = ?2 ORDER BY ends LIMIT 1";

/// A job that may be claimed.
struct Candidate {
    job_row: JobRow,
    order: Order,
    expires: Option<i64>,
    claimed: Claimed,
}

fn candidate(row: &Row<'_>, now: i64, bounds_keys: bool) -> rusqlite::Result<Candidate> {
    let job_row = job_row(row)?;
    let due: i64 = row.get(9)?;
    let (attempt, attempts): (u32, u32) = (row.get(6)?, row.get(7)?);
    let is_suspect: bool = row.get(14)?;
    Ok(Candidate {
        order: (row.get(12)?, row.get(13)?, job_row.place),
        expires: row.get(10)?,
        claimed: Claimed {
            lease: lease(
                JobId::from_bytes(job_row.id),
                job_row.place,
                row.get::<_, i64>(8)? + 1,
            ),
            headers: headers(row, 16)?,
            kind: row.get(5)?,
            payload: row.get(11)?,
            attempt: attempt + 1,
            attempts,
            waited: duration(now.saturating_sub(due)),
            is_fragile: is_suspect || attempt + 1 >= attempts,
            is_exclusive: job_row.holds.is_some() || (job_row.key.is_some() && bounds_keys),
            keeps_result: row.get::<_, Option<i64>>(15)?.is_some(),
        },
        job_row,
    })
}

/// Claims jobs (B3, B5–B7, B9).
pub(super) fn claim(tx: &mut Tx<'_>, request: &ClaimRequest) -> rusqlite::Result<Claims> {
    let woke = tx.wake;
    let mut more = sweep(tx)?;
    let mut claims = Claims::default();
    let mut wait = None;
    if !tx.queue.counts.paused && request.limit > 0 {
        let running = usize::try_from(tx.queue.counts.running).unwrap_or(usize::MAX);
        let room = (tx.queue.limits.running).map_or(request.limit, |limit| {
            (limit as usize).saturating_sub(running)
        });
        let limit = request.limit.min(room);
        match tx.queue.limits.rate {
            None => more |= claim_some(tx, request, limit, &mut claims)?,
            Some(rate) => {
                let admitted = admit(tx, rate, limit);
                let refused = admitted.as_ref().err().copied();
                if let Ok(admitted) = admitted {
                    more |= claim_some(tx, request, admitted.jobs.min(limit), &mut claims)?;
                    tx.queue.rate_boot = tx.now.boot;
                    tx.queue.rate_kept = nanos(admitted.after(claims.jobs.len()));
                }
                tx.queue.rate_behind = has_ready(tx, request.kinds.as_deref())?;
                if tx.queue.rate_behind {
                    // Now that jobs wait, the rate may allow one; the consumer has to claim again all the same.
                    wait = admit(tx, rate, 1).err().or(refused);
                }
            }
        }
    }
    // Jobs that became ready may be for another consumer of this process; those that were claimed are not.
    tx.wake = woke || (tx.wake && tx.queue.counts.ready > 0);
    claims.again_in = if more {
        Some(Duration::ZERO)
    } else {
        let times = [wait, until_due(tx)?, until_end(tx)?];
        times.into_iter().flatten().min()
    };
    Ok(claims)
}

fn admit(tx: &Tx<'_>, rate: Rate, limit: usize) -> Result<Admitted, Duration> {
    // What was granted during another boot of the host is long ago.
    let kept = if tx.queue.rate_boot == tx.now.boot {
        tx.queue.rate_kept
    } else {
        0
    };
    rate::admit(
        rate,
        duration(kept),
        tx.queue.rate_behind,
        duration(tx.now.steady),
        limit,
    )
}

/// Returns whether it stopped before it had seen all ready jobs.
fn claim_some(
    tx: &mut Tx<'_>,
    request: &ClaimRequest,
    limit: usize,
    claims: &mut Claims,
) -> rusqlite::Result<bool> {
    let ends = tx.now.steady.saturating_add(nanos(request.lease));
    let due = overdue(tx)?;
    let (mut passed, mut started) = (0, None);
    let mut more = false;
    'all: while claims.jobs.len() < limit && tx.queue.counts.ready > 0 {
        if passed >= BATCH {
            more = true;
            break;
        }
        let wanted = limit - claims.jobs.len();
        let found = ready(tx, request.kinds.as_deref(), wanted)?;
        let is_last = found.len() < wanted;
        for found in found {
            let is_fragile = found.claimed.is_fragile;
            if due.is_some_and(|due| found.order > due) {
                more = true;
                break 'all;
            }
            if found.expires.is_some_and(|expires| expires <= tx.now.time) {
                // More jobs had expired than one sweep removes.
                tx.expire(&found.job_row)?;
                passed += 1;
                if found.job_row.key.is_some() {
                    // It may have kept others with its key parked.
                    continue 'all;
                }
            } else if is_key_full(tx, found.job_row.key.as_deref())? {
                tx.set_state(found.job_row.place, JobState::Parked)?;
                tx.moved(JobState::Ready, JobState::Parked, 1);
                passed += 1;
            } else if is_fragile && !(request.fragile && claims.jobs.is_empty()) {
                claims.fragile_next = true;
                break 'all;
            } else {
                let together = limit > 1 && !is_fragile;
                start(
                    tx,
                    found.job_row.place,
                    ends,
                    together,
                    request.consumer.as_deref(),
                )?;
                started = Some(found.job_row.place);
                claims.jobs.push(found.claimed);
                if is_fragile {
                    break 'all;
                }
            }
        }
        if is_last {
            break;
        }
    }
    if let ([_], Some(place), true) = (&claims.jobs[..], started, limit > 1) {
        let alone = "UPDATE anthill_jobs SET together = 0 WHERE place = ?1";
        let mut alone = tx.connection.prepare_cached(alone)?;
        alone.execute([place])?;
    }
    Ok(more)
}

/// The first ready jobs of these kinds.
fn ready(tx: &Tx<'_>, kinds: Option<&[String]>, limit: usize) -> rusqlite::Result<Vec<Candidate>> {
    let bounds_keys = tx.queue.limits.per_key.is_some();
    let candidate = |row: &Row<'_>| candidate(row, tx.now.time, bounds_keys);
    let kinds = kinds_of(tx, kinds)?;
    if let [kind] = &kinds[..] {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut ready = tx.connection.prepare_cached(READY_OF_KIND)?;
        let ready = ready.query_map(params![tx.number, limit, kind], candidate)?;
        return ready.collect();
    }
    let first = kinds::first_of(tx.connection, tx.number, &kinds, kinds::START, limit)?;
    let mut at = tx.connection.prepare_cached(AT)?;
    let mut each = |(_, _, place): Order| at.query_row([place], candidate);
    first.into_iter().map(&mut each).collect()
}

fn kinds_of<'k>(tx: &Tx<'_>, kinds: Option<&'k [String]>) -> rusqlite::Result<Cow<'k, [String]>> {
    match kinds {
        Some(kinds) => Ok(Cow::Borrowed(kinds)),
        None => kinds::ready_kinds(tx.connection, tx.number).map(Cow::Owned),
    }
}

/// Whether a job of these kinds is ready.
fn has_ready(tx: &Tx<'_>, kinds: Option<&[String]>) -> rusqlite::Result<bool> {
    let is_any = tx.queue.counts.ready > 0;
    let Some(kinds) = kinds.filter(|_| is_any) else {
        return Ok(is_any);
    };
    let first = kinds::first_of(tx.connection, tx.number, kinds, kinds::START, 1)?;
    Ok(!first.is_empty())
}

/// Whether as many jobs with the key run as may (B7).
fn is_key_full(tx: &Tx<'_>, key: Option<&str>) -> rusqlite::Result<bool> {
    let (Some(limit), Some(key)) = (tx.queue.limits.per_key, key) else {
        return Ok(false);
    };
    Ok(tx.running_of(key, limit)? >= limit)
}

fn start(
    tx: &mut Tx<'_>,
    place: i64,
    ends: i64,
    together: bool,
    consumer: Option<&str>,
) -> rusqlite::Result<()> {
    let start = "UPDATE anthill_jobs SET state = 3, attempt = attempt + 1, claim = claim + 1, boot = ?2, ends = ?3,
        together = ?4, consumer = ?5 WHERE place = ?1";
    let mut start = tx.connection.prepare_cached(start)?;
    start.execute(params![place, tx.now.boot, ends, together, consumer])?;
    tx.moved(JobState::Ready, JobState::Running, 1);
    Ok(())
}

fn next_due(tx: &Tx<'_>) -> rusqlite::Result<Option<(i64, Order)>> {
    if tx.queue.counts.delayed == 0 {
        return Ok(None);
    }
    let mut next = tx.connection.prepare_cached(NEXT_DUE)?;
    let next = next.query_row([tx.number], |row| Ok((row.get(0)?, order(row, 1)?)));
    next.optional()
}

/// The first job that is due but not ready yet, because one sweep did not get to it; jobs behind it must not go before it.
fn overdue(tx: &Tx<'_>) -> rusqlite::Result<Option<Order>> {
    let next = next_due(tx)?.filter(|&(due, _)| due <= tx.now.time);
    Ok(next.map(|(_, order)| order))
}

fn until_due(tx: &Tx<'_>) -> rusqlite::Result<Option<Duration>> {
    let next = next_due(tx)?;
    Ok(next.map(|(due, _)| duration(due.saturating_sub(tx.now.time))))
}

fn until_end(tx: &Tx<'_>) -> rusqlite::Result<Option<Duration>> {
    if tx.queue.counts.running == 0 {
        return Ok(None);
    }
    let mut next = tx.connection.prepare_cached(NEXT_END)?;
    let next = next.query_row(params![tx.number, tx.now.boot], |row| row.get(0));
    let next: Option<i64> = next.optional()?;
    Ok(next.map(|ends| duration(ends.saturating_sub(tx.now.steady))))
}
