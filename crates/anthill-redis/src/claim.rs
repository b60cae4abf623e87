//! Claims: what is asked, and what was found.

use crate::reply;
use crate::values::{Packed, job_id, micros};
use anthill_jobs::{ClaimRequest, Claimed, Claims, Lease, QueueError};
use redis::{Cmd, Value};
use std::time::Duration;

/// The most jobs of one call.
pub(crate) const MOST: usize = 500;

/// The token of a lease is of the client: random, and one for each claim, which has a job once. A counter of the server's would
/// give the same one twice after a loss of its last second, just when fencing is needed.
pub(crate) type Token = [u8; 12];

pub(crate) fn token() -> Token {
    let mut token = [0; 12];
    token.copy_from_slice(&fastrand::u128(..).to_be_bytes()[..12]);
    token
}

/// The arguments of `claim` and `take`.
pub(crate) fn args(args: &mut Cmd, request: &ClaimRequest, token: &Token) {
    args.arg(request.limit.min(MOST))
        .arg(micros(request.lease))
        .arg(u8::from(request.fragile))
        .arg(request.consumer.as_deref().unwrap_or_default())
        .arg(&token[..]);
    match &request.kinds {
        None => args.arg(-1),
        Some(kinds) => {
            let mut each: Vec<&str> = Vec::with_capacity(kinds.len());
            for kind in kinds.iter() {
                if !each.contains(&&**kind) {
                    each.push(kind);
                }
            }
            args.arg(each.len()).arg(&each)
        }
    };
}

/// What a claim found, and whether something is ready for others of this process.
pub(crate) struct Found {
    pub(crate) claims: Claims,
    pub(crate) woke: bool,
}

pub(crate) fn found(value: Value, token: &Token) -> Result<Found, QueueError> {
    let mut values = reply::list(value)?.into_iter();
    let again = reply::number(&reply::next(&mut values)?)?;
    let fragile_next = reply::count(&reply::next(&mut values)?)? == 1;
    let woke = reply::count(&reply::next(&mut values)?)? == 1;
    let kinds = reply::list(reply::next(&mut values)?)?;
    let kinds: Result<Vec<String>, QueueError> = kinds.into_iter().map(reply::text).collect();
    let kinds = kinds?;
    let mut jobs = Vec::with_capacity(values.len() / 2);
    while values.len() > 0 {
        jobs.push(claimed(&mut values, &kinds, token)?);
    }
    let again_in = u64::try_from(again).ok().map(Duration::from_micros);
    let mut claims = Claims::new(jobs, again_in);
    claims.fragile_next = fragile_next;
    Ok(Found { claims, woke })
}

fn claimed(
    values: &mut impl Iterator<Item = Value>,
    kinds: &[String],
    token: &Token,
) -> Result<Claimed, QueueError> {
    let head = reply::bytes(reply::next(values)?)?;
    let mut head = Packed::new(&head);
    let id = job_id(head.bytes(16)?)?;
    let kind = usize::try_from(head.number(2)?)
        .unwrap_or(0)
        .wrapping_sub(1);
    let kind = kinds.get(kind).cloned();
    let kind = kind.ok_or_else(|| QueueError::Corrupt("a claimed job has no kind".to_owned()))?;
    let payload = reply::bytes(reply::next(values)?)?;
    let mut claimed = Claimed::new(Lease::new(id, token), kind, payload);
    claimed.attempt = head.small()?;
    claimed.attempts = head.small()?;
    claimed.waited = Duration::from_micros(head.number(7)?);
    let bits = head.number(1)?;
    claimed.is_fragile = bits & 1 != 0;
    claimed.is_exclusive = bits & 2 != 0;
    claimed.keeps_result = bits & 4 != 0;
    if bits & 8 != 0 {
        claimed.headers = crate::record::headers(&reply::bytes(reply::next(values)?)?)?;
    }
    Ok(claimed)
}
