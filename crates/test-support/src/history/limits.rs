//! How many claims were held at once, counted where it is certain.
//!
//! A claim is held for certain from the moment at which its consumer has it, as long as its lease, counted from before its
//! request, cannot be over, and at the longest until its consumer settles or dies or somebody removes the job. Where leases are
//! not known, a settle that is stored tells that the lease ran until it was sent, and a claim without one is not counted.

use std::collections::BTreeMap;

use super::attempt::{Attempt, Faults};
use super::check::Rules;
use super::job::Job;
use super::rollback::Rollbacks;

/// From when to when, and of which job.
struct Held<'a> {
    from: u64,
    to: u64,
    job: &'a str,
}

fn held<'a>(
    job: &'a str,
    of: &Job<'_>,
    attempt: &Attempt<'_>,
    (faults, rollbacks): (&Faults<'_>, &Rollbacks),
) -> Held<'a> {
    let known = match attempt.stored() {
        Some(_) => u64::MAX,
        None => 0,
    };
    let lease = attempt.lease_end(u64::MAX).unwrap_or(known);
    let sent = attempt.settles.first().map(|settle| settle.asked);
    // The broker may not know of it any more.
    let undone = attempt
        .may_be_undone(rollbacks, u64::MAX)
        .then_some(attempt.started);
    let ends = [sent, faults.killed_at(attempt.by), of.removing, undone];
    let to = ends.into_iter().flatten().fold(lease, u64::min);
    Held {
        from: attempt.started,
        to,
        job,
    }
}

/// The jobs of the first moment at which more than `limit` are held.
fn above(mut all: Vec<Held<'_>>, limit: usize) -> Option<(u64, Vec<&str>)> {
    all.retain(|held| held.from < held.to);
    all.sort_by_key(|held| held.from);
    let mut now: Vec<Held<'_>> = Vec::new();
    for held in all {
        let at = held.from;
        // One that ends as another begins makes room for it.
        now.retain(|other| other.to > at);
        now.push(held);
        if now.len() > limit {
            return Some((at, now.into_iter().map(|held| held.job).collect()));
        }
    }
    None
}

/// What was held too often: the key, or none for the limit of all, and what is to be told.
pub(super) fn judge<'a>(
    jobs: &BTreeMap<&'a str, Job<'a>>,
    faults: &Faults<'_>,
    rollbacks: &Rollbacks,
    rules: &Rules,
) -> Vec<(Option<&'a str>, String)> {
    let mut of_key: BTreeMap<&str, Vec<Held<'_>>> = BTreeMap::new();
    let mut of_all = Vec::new();
    for (name, job) in jobs {
        for attempt in &job.attempts {
            if let Some(key) = &attempt.of.key {
                let all = of_key.entry(key).or_default();
                all.push(held(name, job, attempt, (faults, rollbacks)));
            }
            of_all.push(held(name, job, attempt, (faults, rollbacks)));
        }
    }
    let keys = of_key
        .into_iter()
        .map(|(key, all)| (Some(key), all, rules.limit_of(key)));
    let mut found = Vec::new();
    for (key, all, limit) in keys.chain([(None, of_all, rules.running)]) {
        let Some(limit) = limit else {
            continue;
        };
        if let Some((at, jobs)) = above(all, limit) {
            let told = format!("at {at} more than {limit} run: {}", jobs.join(", "));
            found.push((key, told));
        }
    }
    found
}
