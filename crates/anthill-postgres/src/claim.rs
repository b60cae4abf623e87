//! Claims: where to look, and what was found.

use crate::horizon::{Plan, Reply};
use crate::session::Param;
use crate::store::column;
use crate::token::Token;
use crate::values::{LONGEST_KIND, Moment, duration, fits, job_id, micros, storable};
use anthill_jobs::{ClaimRequest, Claimed, Claims, QueueError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};

/// What makes a claim come again when somebody has locked what time has brought, or a key.
const LOCKED: Duration = Duration::from_millis(5);

/// More jobs than one claim could carry.
const MOST: usize = 100_000;

/// The kinds that a request asks for, each once; those that no job can have are left out.
pub(crate) fn kinds(request: &ClaimRequest) -> Option<Vec<String>> {
    let kinds = request.kinds.as_ref()?;
    let mut known: Vec<String> = Vec::with_capacity(kinds.len());
    for kind in kinds.iter().filter(|kind| fits(kind, LONGEST_KIND)) {
        if !known.contains(kind) {
            known.push(kind.clone());
        }
    }
    Some(known)
}

pub(crate) fn params(
    queue: i32,
    request: &ClaimRequest,
    kinds: Option<Vec<String>>,
    plan: &Plan,
) -> Vec<Param> {
    let limit = i32::try_from(request.limit.min(MOST)).unwrap_or(i32::MAX);
    let consumer = request.consumer.as_deref().map(storable);
    let from = (!plan.is_full).then(|| {
        (
            plan.kinds.clone(),
            plan.ranks.clone(),
            plan.turns.clone(),
            plan.ends.clone(),
        )
    });
    let (from_kinds, from_ranks, from_turns, to_ranks) = match from {
        Some((kinds, ranks, turns, ends)) => (Some(kinds), Some(ranks), Some(turns), Some(ends)),
        None => (None, None, None, None),
    };
    vec![
        (Box::new(queue), Type::INT4),
        (Box::new(limit), Type::INT4),
        (Box::new(micros(request.lease)), Type::INT8),
        (Box::new(kinds), Type::TEXT_ARRAY),
        (Box::new(request.fragile), Type::BOOL),
        (Box::new(consumer), Type::TEXT),
        (Box::new(plan.is_full), Type::BOOL),
        (Box::new(plan.is_house), Type::BOOL),
        (Box::new(plan.looks_at_ends), Type::BOOL),
        (Box::new(plan.looks_at_ends_in_vain), Type::BOOL),
        (Box::new(plan.next_end), Type::TIMESTAMPTZ),
        (Box::new(plan.due_from), Type::TIMESTAMPTZ),
        (Box::new(plan.parked_key.clone()), Type::TEXT),
        (Box::new(from_kinds), Type::TEXT_ARRAY),
        (Box::new(from_ranks), Type::INT4_ARRAY),
        (Box::new(from_turns), Type::TIMESTAMPTZ_ARRAY),
        (Box::new(to_ranks), Type::INT4_ARRAY),
    ]
}

/// What a claim found.
#[expect(clippy::struct_excessive_bools, reason = "they are columns")]
pub(crate) struct Found {
    pub(crate) jobs: Vec<FoundJob>,
    pub(crate) now: Moment,
    oldest: i64,
    id: Option<i64>,
    has_more: bool,
    /// Something is ready that was not, and perhaps was not claimed.
    pub(crate) woke: bool,
    fragile_next: bool,
    is_blocked: bool,
    is_settled: bool,
    next_due: Option<Moment>,
    next_end: Option<Moment>,
    wait: Option<Duration>,
    parked_key: String,
    took: Duration,
    ends_took: Option<Duration>,
}

pub(crate) struct FoundJob {
    claimed: Claimed,
    rank: i32,
    turn: Moment,
    place: i64,
}

impl Found {
    pub(crate) fn read(rows: &[Row]) -> Result<Found, QueueError> {
        let Some((last, rows)) = rows.split_last() else {
            return Err(QueueError::Corrupt("a claim was not answered".to_owned()));
        };
        let now: Moment = column(last, "o_now")?;
        let time = |name: &str| -> Result<Option<Duration>, QueueError> {
            Ok(column::<Option<i64>>(last, name)?.map(duration))
        };
        let jobs = rows.iter().map(|row| FoundJob::read(row, now));
        let mut jobs: Vec<FoundJob> = jobs.collect::<Result<_, _>>()?;
        jobs.sort_by_key(|job| (job.rank, job.turn, job.place));
        let wait: Option<i64> = column(last, "o_wait")?;
        Ok(Found {
            jobs,
            now,
            oldest: column(last, "o_xmin")?,
            id: column(last, "o_xid")?,
            has_more: column(last, "o_more")?,
            woke: column(last, "o_woke")?,
            fragile_next: column(last, "o_fragile_next")?,
            is_blocked: column(last, "o_blocked")?,
            is_settled: column(last, "o_settled")?,
            next_due: column(last, "o_next_due")?,
            next_end: column(last, "o_next_end")?,
            wait: wait.map(|nanos| Duration::from_nanos(nanos.unsigned_abs())),
            parked_key: column(last, "o_unpark")?,
            took: time("o_took")?.unwrap_or_default(),
            ends_took: time("o_ends_took")?,
        })
    }

    /// What the horizon learns.
    pub(crate) fn reply(&self) -> Reply<'_> {
        let claimed = self.jobs.iter();
        Reply {
            now: self.now,
            oldest: self.oldest,
            id: self.id,
            is_settled: self.is_settled && !self.is_blocked,
            next_end: self.next_end,
            took: self.took,
            ends_took: self.ends_took,
            parked_key: &self.parked_key,
            claimed: claimed
                .map(|job| (&*job.claimed.kind, job.rank, job.turn))
                .collect(),
        }
    }

    /// The answer; `look_again_in` is when a job may be found that was not looked for.
    pub(crate) fn claims(self, look_again_in: Option<Duration>) -> Claims {
        let again_in = if self.has_more {
            Some(Duration::ZERO)
        } else {
            let until = |at: Option<Moment>| {
                let at = at.filter(|&at| at < Moment::LATEST)?;
                // What is over and still there is locked by somebody.
                Some(at)
                    .filter(|&at| at > self.now)
                    .map(|at| at.since(self.now))
            };
            let times = [
                self.wait,
                until(self.next_due),
                until(self.next_end),
                look_again_in,
                self.is_blocked.then_some(LOCKED),
            ];
            times.into_iter().flatten().min()
        };
        let jobs = self.jobs.into_iter().map(|job| job.claimed).collect();
        let mut claims = Claims::new(jobs, again_in);
        claims.fragile_next = self.fragile_next;
        claims
    }
}

impl FoundJob {
    fn read(row: &Row, now: Moment) -> Result<FoundJob, QueueError> {
        let is_exclusive: bool = column(row, "o_exclusive")?;
        let keeps_result: bool = column(row, "o_keeps")?;
        let has_key: bool = column(row, "o_has_key")?;
        let token = Token {
            claim: column(row, "o_claim")?,
            is_plain: !(is_exclusive || keeps_result || has_key),
        };
        let lease = token.lease(job_id(column(row, "o_id")?));
        let kind: String = column(row, "o_kind")?;
        let number = |name: &str| -> Result<u32, QueueError> {
            Ok(u32::try_from(column::<i64>(row, name)?).unwrap_or(u32::MAX))
        };
        let headers: Option<Json<BTreeMap<String, String>>> = column(row, "o_headers")?;
        let due: Moment = column(row, "o_due")?;
        let mut claimed = Claimed::new(lease, kind, column(row, "o_payload")?);
        claimed.headers = headers.map(|Json(headers)| headers).unwrap_or_default();
        claimed.attempt = number("o_attempt")?;
        claimed.attempts = number("o_attempts")?;
        claimed.waited = now.since(due);
        claimed.is_fragile = column(row, "o_fragile")?;
        claimed.is_exclusive = is_exclusive;
        claimed.keeps_result = keeps_result;
        Ok(FoundJob {
            claimed,
            rank: column(row, "o_rank")?,
            turn: column(row, "o_turn")?,
            place: column(row, "o_place")?,
        })
    }
}
