//! Settlements and heartbeats.

use crate::reply;
use crate::values::{micros, put};
use anthill_jobs::{Extended, Lease, QueueError, Settle, Settled};
use redis::{Cmd, Value};

/// The arguments of `done`, if all have just ended well.
pub(crate) fn plain_args(args: &mut Cmd, ends: &[(Lease, Settle)]) -> bool {
    for (lease, end) in ends {
        if !matches!(end, Settle::Done { .. }) {
            return false;
        }
        args.arg(&lease.id().as_bytes()[..]).arg(lease.token());
    }
    true
}

/// The arguments of `settle`.
pub(crate) fn args(args: &mut Cmd, ends: &[(Lease, Settle)]) {
    for (lease, end) in ends {
        let (how, delay, said): (u8, u64, &[u8]) = match end {
            Settle::Done { result } => (0, 0, result),
            Settle::Retry { delay, error } => (1, micros(*delay), error.as_bytes()),
            Settle::Dead { error } => (2, 0, error.as_bytes()),
            Settle::Release { delay } => (3, micros(*delay), b""),
            // One of a later version: as if it had not been claimed.
            _ => (3, 0, b""),
        };
        let mut head = vec![how];
        put(&mut head, delay, 7);
        args.arg(&lease.id().as_bytes()[..])
            .arg(lease.token())
            .arg(&head[..])
            .arg(said);
    }
}

/// The answer for each, and whether something is claimable that was not.
pub(crate) fn answers(value: Value, number: usize) -> Result<(Vec<bool>, bool), QueueError> {
    let answers = reply::bytes(value)?;
    let Some((woke, answers)) = answers
        .split_last()
        .filter(|(_, answers)| answers.len() == number)
    else {
        return Err(QueueError::Corrupt(
            "a call was answered for other jobs than it named".to_owned(),
        ));
    };
    let is_one = |answer: &u8| *answer == b'1';
    Ok((answers.iter().map(is_one).collect(), is_one(woke)))
}

pub(crate) fn settled(stored: &[bool]) -> Vec<Settled> {
    let settled = |stored: &bool| {
        if *stored {
            Settled::Stored
        } else {
            Settled::Lost
        }
    };
    stored.iter().map(settled).collect()
}

/// The arguments of `extend`, behind the time.
pub(crate) fn leases(args: &mut Cmd, leases: &[Lease]) {
    for lease in leases {
        args.arg(&lease.id().as_bytes()[..]).arg(lease.token());
    }
}

pub(crate) fn extended(value: Value, leases: &[Lease]) -> Result<Vec<Extended>, QueueError> {
    let answers = reply::bytes(value)?;
    if answers.len() != leases.len() {
        return Err(QueueError::Corrupt(
            "a heartbeat was answered for other leases than it named".to_owned(),
        ));
    }
    let answer = |(answer, lease): (&u8, &Lease)| match answer {
        b'1' => Extended::Held(lease.clone()),
        b'2' => Extended::Cancelled(lease.clone()),
        _ => Extended::Lost,
    };
    Ok(answers.iter().zip(leases).map(answer).collect())
}
