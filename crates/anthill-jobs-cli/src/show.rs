//! The commands `show`, `stats`, `kinds` and `limits`: text for people, or JSON with stable names.

use crate::json;
use crate::out::{Out, cell, complain};
use crate::outcome::{Ended, Fallible};
use anthill_jobs::{AttemptError, JobId, JobInfo, JobState, Limits, Queue, QueueStats};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// A job, as JSON.
#[derive(Serialize)]
pub(crate) struct Document<'a> {
    id: String,
    kind: &'a str,
    state: &'static str,
    priority: i16,
    attempt: u32,
    attempts: u32,
    key: Option<&'a str>,
    unique: Option<&'a str>,
    error: Option<&'a str>,
    /// Of the last attempts that failed, the newest last.
    errors: Vec<Failure<'a>>,
    headers: &'a BTreeMap<String, String>,
    consumer: Option<&'a str>,
    cancel_requested: bool,
    age_seconds: f64,
    due_in_seconds: Option<f64>,
    expires_in_seconds: Option<f64>,
    keep_result_seconds: Option<f64>,
    progress: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
    /// In bytes, as stored.
    payload_size: u64,
    payload: Option<Box<RawValue>>,
    /// If it is not JSON.
    payload_text: Option<Cow<'a, str>>,
}

/// The error of an attempt, as JSON.
#[derive(Serialize)]
struct Failure<'a> {
    attempt: u32,
    ago_seconds: f64,
    error: &'a str,
}

impl Document<'_> {
    pub(crate) fn of(job: &JobInfo) -> Document<'_> {
        let payload = json::parse(&job.payload);
        Document {
            id: job.id.to_string(),
            kind: &job.kind,
            state: job.state.name(),
            priority: job.priority,
            attempt: job.attempt,
            attempts: job.attempts,
            key: job.key.as_deref(),
            unique: job.unique.as_deref(),
            error: job.error.as_deref(),
            errors: job.errors.iter().map(Failure::of).collect(),
            headers: &job.headers,
            consumer: job.consumer.as_deref(),
            cancel_requested: job.cancel_requested,
            age_seconds: job.age.as_secs_f64(),
            due_in_seconds: job.due_in.map(|due| due.as_secs_f64()),
            expires_in_seconds: job.expires_in.map(|expires| expires.as_secs_f64()),
            keep_result_seconds: job.keep_result.map(|keep| keep.as_secs_f64()),
            payload_size: job.payload_size,
            progress: job.progress.as_deref().and_then(json::parse),
            result: job.result.as_deref().and_then(json::parse),
            payload_text: payload
                .is_none()
                .then(|| String::from_utf8_lossy(&job.payload)),
            payload,
        }
    }
}

impl Failure<'_> {
    fn of(failed: &AttemptError) -> Failure<'_> {
        Failure {
            attempt: failed.attempt,
            ago_seconds: failed.ago.as_secs_f64(),
            error: &failed.error,
        }
    }
}

pub(crate) fn missed(id: JobId, found: Option<&JobInfo>) -> Ended {
    complain(&match found {
        None => format!("{id}: there is no such job"),
        Some(job) => format!("{id}: it is {}", job.state.name()),
    });
    Ended::Missed
}

pub(crate) fn job(queue: &Queue, id: JobId, out: &mut Out) -> Fallible<Ended> {
    let Some(job) = queue.get(id)? else {
        return Ok(missed(id, None));
    };
    let document = Document::of(&job);
    if out.is_json() {
        out.document(&document)?;
        return Ok(Ended::Done);
    }
    let mut say = |name: &str, value: &str| -> Fallible<()> {
        // Further lines stay in the column.
        let value = value.replace('\n', "\n             ");
        out.line(&format!("{name:<13}{value}"))
    };
    say("id", &document.id)?;
    say("kind", document.kind)?;
    say("state", document.state)?;
    say("attempt", &format!("{} of {}", job.attempt, job.attempts))?;
    say("priority", &job.priority.to_string())?;
    say("age", &span(job.age))?;
    if let Some(due) = job.due_in {
        say("due in", &span(due))?;
    }
    if let Some(expires) = job.expires_in {
        say("expires in", &span(expires))?;
    }
    if let Some(keep) = job.keep_result {
        say("keep result", &span(keep))?;
    }
    if let Some(key) = document.key {
        say("key", key)?;
    }
    if let Some(unique) = document.unique {
        say("unique", unique)?;
    }
    if let Some(consumer) = document.consumer {
        say("consumer", &cell(consumer))?;
    }
    if job.cancel_requested {
        say("cancel", "requested")?;
    }
    for (name, value) in &job.headers {
        say("header", &format!("{}={}", cell(name), cell(value)))?;
    }
    if let Some(error) = document.error {
        say("error", error)?;
    }
    for AttemptError {
        attempt,
        error,
        ago,
        ..
    } in &job.errors
    {
        // Each on one line, so that none can pass for another one.
        say(
            "failed",
            &format!("attempt {attempt}, {} ago: {}", span(*ago), cell(error)),
        )?;
    }
    if let Some(progress) = &document.progress {
        say("progress", &json::pretty(progress.get()))?;
    }
    if let Some(result) = &document.result {
        say("result", &json::pretty(result.get()))?;
    }
    say("size", &size(job.payload_size))?;
    match (&document.payload, &document.payload_text) {
        (Some(payload), _) => say("payload", &json::pretty(payload.get()))?,
        (None, Some(text)) => say("payload", text)?,
        (None, None) => {}
    }
    Ok(Ended::Done)
}

/// A duration in tenths of a second, or in the two largest units.
pub(crate) fn span(time: Duration) -> String {
    let (seconds, tenths) = (time.as_secs(), time.subsec_millis() / 100);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if minutes == 0 {
        format!("{seconds}.{tenths}s")
    } else if hours == 0 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else if days == 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else {
        format!("{days}d{:02}h", hours % 24)
    }
}

/// A size in bytes, kB, MB or GB.
pub(crate) fn size(bytes: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = bytes / (unit / 10);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", tenths(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", tenths(1_000_000)),
        _ => format!("{} GB", tenths(1_000_000_000)),
    }
}

/// How many jobs are in a state.
pub(crate) fn count(counts: &QueueStats, state: JobState) -> u64 {
    match state {
        JobState::Ready => counts.ready,
        JobState::Delayed => counts.delayed,
        JobState::Parked => counts.parked,
        JobState::Running => counts.running,
        JobState::Dead => counts.dead,
        JobState::Done => counts.results,
        _ => 0,
    }
}

/// Rates per second, from the difference of two counts.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) enqueued: f64,
    pub(crate) done: f64,
}

/// Counts, as JSON.
#[derive(Serialize)]
pub(crate) struct Counts {
    ready: u64,
    delayed: u64,
    parked: u64,
    running: u64,
    dead: u64,
    results: u64,
    oldest_seconds: Option<f64>,
    paused: bool,
    enqueued: u64,
    duplicates: u64,
    done: u64,
    retried: u64,
    died: u64,
    lost_leases: u64,
    expired: u64,
    removed: u64,
}

impl Counts {
    pub(crate) fn of(stats: &QueueStats) -> Counts {
        Counts {
            ready: stats.ready,
            delayed: stats.delayed,
            parked: stats.parked,
            running: stats.running,
            dead: stats.dead,
            results: stats.results,
            oldest_seconds: stats.oldest.map(|oldest| oldest.as_secs_f64()),
            paused: stats.paused,
            enqueued: stats.enqueued,
            duplicates: stats.duplicates,
            done: stats.done,
            retried: stats.retried,
            died: stats.died,
            lost_leases: stats.lost_leases,
            expired: stats.expired,
            removed: stats.removed,
        }
    }
}

pub(crate) fn stats(queue: &Queue, out: &mut Out) -> Fallible<Ended> {
    let stats = queue.stats()?;
    if out.is_json() {
        out.document(&Counts::of(&stats))?;
    } else {
        for line in table(&stats, None) {
            out.line(&line)?;
        }
    }
    Ok(Ended::Done)
}

/// What the queue holds now, and what it has counted since it was made.
pub(crate) fn table(stats: &QueueStats, rates: Option<Rates>) -> Vec<String> {
    let oldest = stats
        .oldest
        .map(|oldest| format!("oldest {}", span(oldest)));
    let rate = |of: fn(Rates) -> f64| rates.map(|rates| format!("{:.1}/s", of(rates)));
    let now = [
        ("ready", stats.ready, oldest),
        ("delayed", stats.delayed, None),
        ("parked", stats.parked, None),
        ("running", stats.running, None),
        ("dead", stats.dead, None),
        ("results", stats.results, None),
    ];
    let ever = [
        ("enqueued", stats.enqueued, rate(|rates| rates.enqueued)),
        ("duplicates", stats.duplicates, None),
        ("done", stats.done, rate(|rates| rates.done)),
        ("retried", stats.retried, None),
        ("died", stats.died, None),
        ("lost leases", stats.lost_leases, None),
        ("expired", stats.expired, None),
        ("removed", stats.removed, None),
    ];
    let row = |(name, count, more): (&str, u64, Option<String>)| {
        let line = format!("  {name:<12}{count:>9}  {}", more.unwrap_or_default());
        line.trim_end().to_owned()
    };
    let paused = if stats.paused { "yes" } else { "no" };
    let mut lines = vec!["NOW".to_owned()];
    lines.extend(now.map(row));
    lines.push(format!("  {:<12}{paused:>9}", "paused"));
    lines.push("SINCE THE QUEUE WAS MADE".to_owned());
    lines.extend(ever.map(row));
    lines
}

/// Lists the kinds of the ready jobs.
pub(crate) fn kinds(queue: &Queue, out: &mut Out) -> Fallible<Ended> {
    let mut kinds = queue.ready_kinds()?;
    kinds.sort_unstable();
    if out.is_json() {
        out.document(&kinds)?;
    } else {
        for kind in kinds {
            out.line(&cell(&kind))?;
        }
    }
    Ok(Ended::Done)
}

/// Prints the limits as the options take them.
pub(crate) fn limits(limits: &Limits, out: &mut Out) -> Fallible<Ended> {
    if out.is_json() {
        let rate = limits.rate.map(
            |rate| json!({ "jobs": rate.jobs, "seconds": rate.per.as_secs_f64(), "burst": rate.burst }),
        );
        out.document(&json!({
            "running": limits.running,
            "per_key": limits.per_key,
            "rate": rate,
            "ready": limits.max_ready,
        }))?;
        return Ok(Ended::Done);
    }
    let none = || "none".to_owned();
    let limit = |limit: Option<u32>| limit.map_or_else(none, |limit| limit.to_string());
    let rate = limits.rate.map_or_else(none, |rate| {
        format!("{}/{}/{}", rate.jobs, rate.per.as_secs_f64(), rate.burst)
    });
    out.line(&format!("running  {}", limit(limits.running)))?;
    out.line(&format!("per-key  {}", limit(limits.per_key)))?;
    out.line(&format!("rate     {rate}"))?;
    let ready = limits
        .max_ready
        .map_or_else(none, |ready| ready.to_string());
    out.line(&format!("ready    {ready}"))?;
    Ok(Ended::Done)
}
