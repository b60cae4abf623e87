//! How jobs go out. Whatever else the queue holds, a claim touches what it claims, and what time or a limit puts in its way.

use super::tidy::{BATCH, running_of, tidy};
use super::time::{nanos, span};
use super::tx::{Step, Tx, step};
use crate::jobs::rate::{self, Admitted};
use crate::jobs::{Claimed, Claims, JobId, JobState, Lease, Rate};
use rusqlite::{OptionalExtension, Row, params};
use std::time::Duration;

pub(super) const READY: &str = "SELECT place, state, id, key, holds, kind, attempt, attempts, claim, due, expires, payload, rank, turn
    FROM anthill_jobs INDEXED BY anthill_ready WHERE queue = ?1 AND state = 0 ORDER BY rank, turn, place LIMIT ?2";

pub(super) const NEXT_DUE: &str =
    "SELECT due, rank, turn, place FROM anthill_jobs INDEXED BY anthill_delayed
    WHERE queue = ?1 AND state = 1 ORDER BY due LIMIT 1";

pub(super) const NEXT_END: &str = "SELECT ends FROM anthill_jobs INDEXED BY anthill_running
    WHERE queue = ?1 AND state = 3 AND boot = ?2 ORDER BY ends LIMIT 1";

/// By what jobs that are ready go first (B6).
type Order = (i64, i64, i64);

/// One that may be claimed.
struct Candidate {
    step: Step,
    order: Order,
    expires: Option<i64>,
    claimed: Claimed,
}

fn candidate(row: &Row<'_>, now: i64) -> rusqlite::Result<Candidate> {
    let step = step(row)?;
    let due: i64 = row.get(9)?;
    Ok(Candidate {
        order: (row.get(12)?, row.get(13)?, step.place),
        expires: row.get(10)?,
        claimed: Claimed {
            lease: Lease {
                id: JobId::from_bytes(step.id),
                place: step.place,
                claim: row.get::<_, i64>(8)?.unsigned_abs() + 1,
            },
            kind: row.get(5)?,
            payload: row.get(11)?,
            attempt: row.get::<_, u32>(6)? + 1,
            attempts: row.get(7)?,
            waited: span(now.saturating_sub(due)),
        },
        step,
    })
}

/// B3, B5–B7.
pub(super) fn claim(tx: &mut Tx<'_>, most: usize, lease: Duration) -> rusqlite::Result<Claims> {
    let woke = tx.wake;
    let mut more = tidy(tx)?;
    let mut claims = Claims::default();
    let mut wait = None;
    if !tx.queue.counts.paused {
        let running = usize::try_from(tx.queue.counts.running).unwrap_or(usize::MAX);
        let room = (tx.queue.limits.running)
            .map_or(most, |limit| (limit as usize).saturating_sub(running));
        let most = most.min(room);
        match tx.queue.limits.rate {
            None => more |= claim_some(tx, most, lease, &mut claims.jobs)?,
            Some(rate) => {
                let admitted = admit(tx, rate, most);
                if let Ok(admitted) = admitted {
                    more |= claim_some(tx, admitted.jobs.min(most), lease, &mut claims.jobs)?;
                    tx.queue.rate_boot = tx.now.boot;
                    tx.queue.rate_kept = nanos(admitted.after(claims.jobs.len()));
                }
                if tx.queue.counts.ready > 0 {
                    wait = admit(tx, rate, 1).err();
                }
            }
        }
    }
    // What came back may be for another consumer of this process; one that was claimed is not.
    tx.wake = woke || (tx.wake && tx.queue.counts.ready > 0);
    claims.again_in = if more {
        Some(Duration::ZERO)
    } else {
        let times = [wait, until_due(tx)?, until_end(tx)?];
        times.into_iter().flatten().min()
    };
    Ok(claims)
}

fn admit(tx: &Tx<'_>, rate: Rate, most: usize) -> Result<Admitted, Duration> {
    // What was granted while the host ran before is long ago.
    let kept = if tx.queue.rate_boot == tx.now.boot {
        tx.queue.rate_kept
    } else {
        0
    };
    rate::admit(rate, span(kept), span(tx.now.steady), most)
}

/// Whether it gave up before it had seen all that are ready.
fn claim_some(
    tx: &mut Tx<'_>,
    most: usize,
    lease: Duration,
    jobs: &mut Vec<Claimed>,
) -> rusqlite::Result<bool> {
    let ends = tx.now.steady.saturating_add(nanos(lease));
    let due = overdue(tx)?;
    let mut passed = 0;
    while jobs.len() < most {
        let wanted = most - jobs.len();
        let found = ready(tx, wanted)?;
        let is_last = found.len() < wanted;
        for found in found {
            if due.is_some_and(|due| found.order > due) {
                return Ok(true);
            }
            if found.expires.is_some_and(|expires| expires <= tx.now.wall) {
                // More had expired than are taken away at once.
                tx.expire(&found.step)?;
                passed += 1;
            } else if is_key_full(tx, found.step.key.as_deref())? {
                tx.set_state(found.step.place, JobState::Parked)?;
                tx.moved(JobState::Ready, JobState::Parked, 1);
                passed += 1;
            } else {
                start(tx, found.step.place, ends)?;
                jobs.push(found.claimed);
            }
        }
        if is_last {
            break;
        }
        if passed >= BATCH {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ready(tx: &Tx<'_>, most: usize) -> rusqlite::Result<Vec<Candidate>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut ready = tx.connection.prepare_cached(READY)?;
    let ready = ready.query_map(params![tx.number, most], |row| candidate(row, tx.now.wall))?;
    ready.collect()
}

/// B7.
fn is_key_full(tx: &Tx<'_>, key: Option<&str>) -> rusqlite::Result<bool> {
    let (Some(most), Some(key)) = (tx.queue.limits.per_key, key) else {
        return Ok(false);
    };
    Ok(running_of(tx, key, most)? >= most)
}

fn start(tx: &mut Tx<'_>, place: i64, ends: i64) -> rusqlite::Result<()> {
    let start = "UPDATE anthill_jobs SET state = 3, attempt = attempt + 1, claim = claim + 1, boot = ?2, ends = ?3
        WHERE place = ?1";
    let mut start = tx.connection.prepare_cached(start)?;
    start.execute(params![place, tx.now.boot, ends])?;
    tx.moved(JobState::Ready, JobState::Running, 1);
    Ok(())
}

fn next_due(tx: &Tx<'_>) -> rusqlite::Result<Option<(i64, Order)>> {
    if tx.queue.counts.delayed == 0 {
        return Ok(None);
    }
    let mut next = tx.connection.prepare_cached(NEXT_DUE)?;
    let next = next.query_row([tx.number], |row| {
        Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)))
    });
    next.optional()
}

/// The next of those that are due and have not been made ready, because they are too many; who came later than that is
/// not to go before it.
fn overdue(tx: &Tx<'_>) -> rusqlite::Result<Option<Order>> {
    let next = next_due(tx)?.filter(|&(due, _)| due <= tx.now.wall);
    Ok(next.map(|(_, order)| order))
}

fn until_due(tx: &Tx<'_>) -> rusqlite::Result<Option<Duration>> {
    let next = next_due(tx)?;
    Ok(next.map(|(due, _)| span(due.saturating_sub(tx.now.wall))))
}

fn until_end(tx: &Tx<'_>) -> rusqlite::Result<Option<Duration>> {
    if tx.queue.counts.running == 0 {
        return Ok(None);
    }
    let mut next = tx.connection.prepare_cached(NEXT_END)?;
    let next = next.query_row(params![tx.number, tx.now.boot], |row| row.get(0));
    let next: Option<i64> = next.optional()?;
    Ok(next.map(|ends| span(ends.saturating_sub(tx.now.steady))))
}
