//! Settlements and heartbeats: in the order of the ids, so that all lock the jobs in that order, and each lease once.

use crate::errors::queue_error;
use crate::session::Param;
use crate::store::column;
use crate::token::Token;
use crate::values::{Moment, micros, storable, uuid};
use anthill_jobs::{Extended, Lease, QueueError, Settle, Settled};
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// The first of each lease, in the order of the ids, by its place.
fn in_order<'l>(leases: impl Iterator<Item = &'l Lease>) -> Vec<(usize, &'l Lease, Token)> {
    let mut first = HashMap::new();
    for (place, lease) in leases.enumerate() {
        first.entry(lease).or_insert(place);
    }
    let mut ordered: Vec<_> = first
        .into_iter()
        .map(|(lease, place)| (place, lease, Token::of(lease)))
        .collect();
    ordered.sort_by_key(|(_, lease, token)| (lease.id(), token.claim));
    ordered
}

/// Settlements, ready to be sent.
pub(crate) struct Settlements {
    places: Vec<(Uuid, usize)>,
    answers: usize,
    params: Vec<Param>,
}

impl Settlements {
    pub(crate) fn of(queue: i32, ends: &[(Lease, Settle)]) -> Settlements {
        let ordered = in_order(ends.iter().map(|(lease, _)| lease));
        let mut is_plain = true;
        let (mut ids, mut claims, mut endings) = (Vec::new(), Vec::new(), Vec::new());
        let mut orders: Vec<i32> = vec![0; ordered.len()];
        let mut by_place: Vec<usize> = (0..ordered.len()).collect();
        by_place.sort_by_key(|&at| ordered[at].0);
        for (order, at) in (1..).zip(by_place) {
            orders[at] = order;
        }
        let (mut delays, mut errors, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for &(place, lease, token) in &ordered {
            let (ending, delay, error, result) = parts(&ends[place].1);
            is_plain &= token.is_plain && ending == 0;
            ids.push(uuid(lease.id()));
            claims.push(token.claim);
            endings.push(ending);
            delays.push(delay);
            errors.push(error);
            results.push(result);
        }
        let params: Vec<Param> = vec![
            (Box::new(queue), Type::INT4),
            (Box::new(is_plain), Type::BOOL),
            (Box::new(ids), Type::UUID_ARRAY),
            (Box::new(claims), Type::UUID_ARRAY),
            (Box::new(orders), Type::INT4_ARRAY),
            (Box::new(endings), Type::INT4_ARRAY),
            (Box::new(delays), Type::INT8_ARRAY),
            (Box::new(errors), Type::TEXT_ARRAY),
            // A plain job keeps no result.
            (Box::new((!is_plain).then_some(results)), Type::BYTEA_ARRAY),
        ];
        let places = ordered
            .iter()
            .map(|&(place, _, token)| (token.claim, place));
        Settlements {
            places: places.collect(),
            answers: ends.len(),
            params,
        }
    }

    /// The parameters of the call, and what reads the answer.
    pub(crate) fn split(self) -> (Vec<Param>, Answers) {
        let answers = Answers {
            places: self.places,
            answers: self.answers,
        };
        (self.params, answers)
    }
}

/// Where the answers go.
pub(crate) struct Answers {
    places: Vec<(Uuid, usize)>,
    answers: usize,
}

impl Answers {
    /// The answer for each settlement, and whether something is claimable.
    pub(crate) fn read(self, rows: &[Row]) -> Result<(Vec<Settled>, bool), QueueError> {
        let Some(row) = rows.first() else {
            return Err(QueueError::Corrupt("a call was not answered".to_owned()));
        };
        let mut stored: Vec<Uuid> = column(row, "stored")?;
        let mut answers = vec![Settled::Lost; self.answers];
        stored.sort_unstable();
        for (claim, place) in self.places {
            if stored.binary_search(&claim).is_ok() {
                answers[place] = Settled::Stored;
            }
        }
        Ok((answers, column(row, "woke")?))
    }
}

/// The number of an end, its delay, error and result.
fn parts(end: &Settle) -> (i32, i64, Option<String>, Option<Vec<u8>>) {
    match end {
        Settle::Done { result } => (0, 0, None, Some(result.clone())),
        Settle::Retry { delay, error } => (1, micros(*delay), Some(storable(error)), None),
        Settle::Dead { error } => (2, 0, Some(storable(error)), None),
        Settle::Release { delay } => (3, micros(*delay), None, None),
        // One of a later version: as if it had not been claimed.
        _ => (3, 0, None, None),
    }
}

pub(crate) fn extend_params(queue: i32, leases: &[Lease], time: Duration) -> Vec<Param> {
    let ordered = in_order(leases.iter());
    let ids: Vec<Uuid> = ordered
        .iter()
        .map(|(_, lease, _)| uuid(lease.id()))
        .collect();
    let claims: Vec<Uuid> = ordered.iter().map(|(.., token)| token.claim).collect();
    vec![
        (Box::new(queue), Type::INT4),
        (Box::new(ids), Type::UUID_ARRAY),
        (Box::new(claims), Type::UUID_ARRAY),
        (Box::new(micros(time)), Type::INT8),
    ]
}

/// The answer for each lease, and when those that are held end.
pub(crate) fn extended(
    leases: &[Lease],
    rows: &[Row],
) -> Result<(Vec<Extended>, Option<Moment>), QueueError> {
    let mut ends: Option<Moment> = None;
    let mut held = HashMap::new();
    for row in rows {
        let key: (Uuid, Uuid) = (column(row, "o_id")?, column(row, "o_claim")?);
        held.insert(key, column::<bool>(row, "o_cancelled")?);
        let end: Moment = row.try_get("o_ends").map_err(queue_error)?;
        ends = Some(ends.map_or(end, |other| other.min(end)));
    }
    let answer = |lease: &Lease| {
        let key = (uuid(lease.id()), Token::of(lease).claim);
        match held.get(&key) {
            None => Extended::Lost,
            Some(true) => Extended::Cancelled(lease.clone()),
            Some(false) => Extended::Held(lease.clone()),
        }
    };
    Ok((leases.iter().map(answer).collect(), ends))
}
