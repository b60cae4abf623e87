//! Jobs as the scripts get them, and what they answer. Most enqueues are *plain*: jobs of one kind that differ in little but their
//! data. A quick script stores those, or says that the other one has to.

use crate::reply;
use crate::values::{NEVER, key, micros, optional_micros, put, rank};
use anthill_jobs::{Enqueued, JobId, NewJob, QueueError};
use redis::{Cmd, Value};
use std::collections::{BTreeMap, HashSet};

/// The data of all jobs of one call, in bytes: the server takes somewhat more in a request.
const LARGEST_CALL: usize = 256 << 20;

/// What a job has beside its head and its payload, one bit each.
const UNIQUE: u8 = 1;
const ONCE: u8 = 2;
const KEY: u8 = 4;
const HEADERS: u8 = 8;

pub(crate) fn check(jobs: &[NewJob], most: usize) -> Result<(), QueueError> {
    if jobs.len() > most {
        return Err(QueueError::Invalid(format!(
            "{} jobs are more than the {most} that are stored at once",
            jobs.len()
        )));
    }
    let size = jobs
        .iter()
        .map(|job| job.payload.len())
        .fold(0, usize::saturating_add);
    if size > LARGEST_CALL {
        let limit = LARGEST_CALL;
        return Err(QueueError::TooLarge { size, limit });
    }
    Ok(())
}

/// Whether all jobs are plain.
pub(crate) fn are_plain(jobs: &[NewJob]) -> bool {
    let first = &jobs[0];
    let is_plain = |job: &NewJob| {
        job.kind == first.kind
            && job.delay == first.delay
            && job.unique.is_none()
            && job.once_per.is_none()
            && job.key.is_none()
            && job.expires.is_none()
            && job.headers.is_empty()
    };
    jobs.iter().all(is_plain)
        && (jobs.len() == 1 || {
            let ids: HashSet<JobId> = jobs.iter().map(|job| job.id).collect();
            ids.len() == jobs.len()
        })
}

/// The arguments of `add`, for plain jobs.
pub(crate) fn plain_args(args: &mut Cmd, jobs: &[NewJob]) {
    args.arg(&*jobs[0].kind).arg(micros(jobs[0].delay));
    let mut head = Vec::with_capacity(13);
    for job in jobs {
        head.clear();
        put(&mut head, u64::from(rank(job.priority)), 2);
        put(&mut head, u64::from(job.attempts.max(1)), 4);
        put(&mut head, optional_micros(job.keep_result), 7);
        args.arg(&job.id.as_bytes()[..])
            .arg(&head[..])
            .arg(&job.payload[..]);
    }
}

/// The arguments of `enqueue`; `fire` is the schedule that enqueues, with its next time and the one after that.
pub(crate) fn args(
    args: &mut Cmd,
    fire: Option<(&str, i64, i64)>,
    jobs: &[NewJob],
) -> Result<(), QueueError> {
    match fire {
        Some((name, next, then)) => args.arg(name).arg(next).arg(then),
        None => args.arg("").arg("").arg(""),
    };
    let mut kinds: Vec<&str> = Vec::new();
    let mut places: BTreeMap<&str, u64> = BTreeMap::new();
    for job in jobs {
        places.entry(&job.kind).or_insert_with(|| {
            kinds.push(&job.kind);
            kinds.len() as u64
        });
    }
    args.arg(kinds.len()).arg(&kinds);
    for job in jobs {
        let once = job.once_per.as_ref();
        let headers = headers(job)?;
        let parts = [
            (UNIQUE, job.unique.is_some()),
            (ONCE, once.is_some()),
            (KEY, job.key.is_some()),
            (HEADERS, headers.is_some()),
        ];
        let parts = parts.iter().fold(0, |all, (part, is_there)| {
            all | if *is_there { *part } else { 0 }
        });
        let mut head = vec![parts];
        put(&mut head, places[&*job.kind], 2);
        put(&mut head, u64::from(rank(job.priority)), 2);
        put(&mut head, u64::from(job.attempts.max(1)), 4);
        put(&mut head, micros(job.delay), 7);
        put(&mut head, optional_micros(job.expires), 7);
        put(&mut head, optional_micros(job.keep_result), 7);
        put(&mut head, optional_micros(once.map(|once| once.period)), 7);
        head.push(u8::from(job.debounce && job.unique.is_some()));
        args.arg(&job.id.as_bytes()[..])
            .arg(&head[..])
            .arg(&job.payload[..]);
        let keys = [&job.unique, &once.map(|once| once.key.clone()), &job.key];
        for text in keys.into_iter().flatten() {
            args.arg(&*key(text));
        }
        args.arg(&headers);
    }
    Ok(())
}

fn headers(job: &NewJob) -> Result<Option<Vec<u8>>, QueueError> {
    if job.headers.is_empty() {
        return Ok(None);
    }
    serde_json::to_vec(&job.headers)
        .map(Some)
        .map_err(QueueError::Encode)
}

/// How `enqueue` ended.
pub(crate) enum Answer {
    /// For each job.
    Stored(Vec<Enqueued>),
    /// Nothing was stored: so many jobs may be ready.
    Full,
    /// Time has brought more than one call sees to: `sweep`, and then again.
    Sweep,
    /// The schedule does not fire.
    Paused,
    Changed,
}

pub(crate) fn all_added(jobs: &[NewJob]) -> Vec<Enqueued> {
    jobs.iter().map(|job| Enqueued::Added(job.id)).collect()
}

/// What a call that was sent twice has done: a job that is there under its own id was added by the first.
pub(crate) fn those_there_as_added(jobs: &[NewJob], enqueued: Vec<Enqueued>) -> Vec<Enqueued> {
    let mut seen = HashSet::new();
    let answer = |(job, one): (&NewJob, Enqueued)| {
        // The second one of a batch is a duplicate of the first.
        let is_first = seen.insert(job.id);
        if is_first && one.id() == job.id {
            Enqueued::Added(job.id)
        } else {
            one
        }
    };
    jobs.iter().zip(enqueued).map(answer).collect()
}

pub(crate) fn answer(jobs: &[NewJob], value: Value) -> Result<Answer, QueueError> {
    let values = reply::list(value)?;
    if let [Value::BulkString(word)] = &values[..] {
        return match &word[..] {
            b"FULL" => Ok(Answer::Full),
            b"SWEEP" => Ok(Answer::Sweep),
            b"PAUSED" => Ok(Answer::Paused),
            b"CHANGED" => Ok(Answer::Changed),
            _ => Err(QueueError::Corrupt(
                "an enqueue was answered by an unknown word".to_owned(),
            )),
        };
    }
    let mut enqueued = all_added(jobs);
    let mut values = values.into_iter();
    while let Some(place) = values.next() {
        let place = reply::count(&place)?;
        let owner = crate::values::job_id(&reply::bytes(reply::next(&mut values)?)?)?;
        let index = usize::try_from(place).unwrap_or(0).wrapping_sub(1);
        if let Some(one) = enqueued.get_mut(index) {
            *one = Enqueued::Duplicate(owner);
        }
    }
    Ok(Answer::Stored(enqueued))
}

const _: () = assert!(NEVER < 1 << 56, "times have 7 bytes");
