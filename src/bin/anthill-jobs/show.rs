//! How a queue looks: as text for people, or as JSON whose names stay.

use crate::out::Out;
use crate::{Ended, Fallible, complain, json};
use anthill::jobs::{JobId, JobInfo, JobState, Limits, Queue, QueueStats};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

/// A job, as JSON.
#[derive(Serialize)]
struct Document<'a> {
    id: String,
    kind: &'a str,
    state: &'static str,
    priority: i16,
    attempt: u32,
    attempts: u32,
    key: Option<&'a str>,
    error: Option<&'a str>,
    age_seconds: f64,
    due_in_seconds: Option<f64>,
    progress: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
    payload: Option<Box<RawValue>>,
    /// Where it is no JSON.
    payload_text: Option<Cow<'a, str>>,
}

impl Document<'_> {
    fn of(job: &JobInfo) -> Document<'_> {
        let payload = json::parse(&job.payload);
        Document {
            id: job.id.to_string(),
            kind: &job.kind,
            state: job.state.name(),
            priority: job.priority,
            attempt: job.attempt,
            attempts: job.attempts,
            key: job.key.as_deref(),
            error: job.error.as_deref(),
            age_seconds: job.age.as_secs_f64(),
            due_in_seconds: job.due_in.map(|due| due.as_secs_f64()),
            progress: job.progress.as_deref().and_then(json::parse),
            result: job.result.as_deref().and_then(json::parse),
            payload_text: payload
                .is_none()
                .then(|| String::from_utf8_lossy(&job.payload)),
            payload,
        }
    }
}

pub(crate) fn list(
    queue: &Queue,
    state: JobState,
    after: Option<JobId>,
    limit: u32,
    out: &mut Out,
) -> Fallible<Ended> {
    if let Some(id) = after {
        // A queue would begin with its first job.
        match queue.get(id)? {
            Some(job) if job.state == state => {}
            job => return Ok(missed(id, job.as_ref())),
        }
    }
    let limit = limit as usize;
    let mut jobs = queue.list(state, after, limit.saturating_add(1))?;
    let are_all = jobs.len() <= limit;
    jobs.truncate(limit);
    if out.is_json() {
        for job in &jobs {
            out.document(&Document::of(job))?;
        }
        return Ok(Ended::Done);
    }
    let kind = jobs.iter().map(|job| first_line(&job.kind).chars().count());
    let kind = kind.max().unwrap_or(0);
    for job in &jobs {
        let attempt = format!("{}/{}", job.attempt, job.attempts);
        let line = format!(
            "{}  {:kind$}  {attempt:>5}  {:>6}  {}",
            job.id,
            first_line(&job.kind),
            span(job.age),
            first_line(job.error.as_deref().unwrap_or_default()),
        );
        out.line(line.trim_end())?;
    }
    if let (false, Some(last)) = (are_all, jobs.last()) {
        out.flush()?;
        let state = state.name();
        let _ = writeln!(
            std::io::stderr(),
            "there are more: list {state} --after {}",
            last.id
        );
    }
    Ok(Ended::Done)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn missed(id: JobId, found: Option<&JobInfo>) -> Ended {
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
        // What has several lines stays in its column.
        let value = value.replace('\n', "\n          ");
        out.line(&format!("{name:<10}{value}"))
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
    if let Some(key) = document.key {
        say("key", key)?;
    }
    if let Some(error) = document.error {
        say("error", error)?;
    }
    if let Some(progress) = &document.progress {
        say("progress", &json::pretty(progress.get()))?;
    }
    if let Some(result) = &document.result {
        say("result", &json::pretty(result.get()))?;
    }
    match (&document.payload, &document.payload_text) {
        (Some(payload), _) => say("payload", &json::pretty(payload.get()))?,
        (None, Some(text)) => say("payload", text)?,
        (None, None) => {}
    }
    Ok(Ended::Done)
}

/// In a second's tenths, or in the two largest units.
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

/// In a second, by the difference of two looks.
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

/// What is there now, and then what there was since the queue was made.
pub(crate) fn table(stats: &QueueStats, rates: Option<Rates>) -> Vec<String> {
    let oldest = stats
        .oldest
        .map(|oldest| format!("oldest {}", span(oldest)));
    let rate = |of: fn(Rates) -> f64| rates.map(|rates| format!("{:.1}/s", of(rates)));
    let rows = [
        ("ready", stats.ready, oldest),
        ("delayed", stats.delayed, None),
        ("parked", stats.parked, None),
        ("running", stats.running, None),
        ("dead", stats.dead, None),
        ("results", stats.results, None),
        ("enqueued", stats.enqueued, rate(|rates| rates.enqueued)),
        ("duplicates", stats.duplicates, None),
        ("done", stats.done, rate(|rates| rates.done)),
        ("retried", stats.retried, None),
        ("died", stats.died, None),
        ("lost leases", stats.lost_leases, None),
        ("expired", stats.expired, None),
        ("removed", stats.removed, None),
    ];
    let mut lines: Vec<String> = rows
        .into_iter()
        .map(|(name, count, more)| {
            let line = format!("{name:<12}{count:>9}  {}", more.unwrap_or_default());
            line.trim_end().to_owned()
        })
        .collect();
    let paused = if stats.paused { "yes" } else { "no" };
    lines.push(format!("{:<12}{paused:>9}", "paused"));
    lines
}

/// As the options say them.
pub(crate) fn limits(limits: &Limits, out: &mut Out) -> Fallible<Ended> {
    if out.is_json() {
        let rate = limits.rate.map(
            |rate| json!({ "jobs": rate.jobs, "seconds": rate.per.as_secs_f64(), "burst": rate.burst }),
        );
        let (running, per_key) = (limits.running, limits.per_key);
        out.document(&json!({ "running": running, "per_key": per_key, "rate": rate }))?;
        return Ok(Ended::Done);
    }
    let none = || "none".to_owned();
    let most = |most: Option<u32>| most.map_or_else(none, |most| most.to_string());
    let rate = limits.rate.map_or_else(none, |rate| {
        format!("{}/{}/{}", rate.jobs, rate.per.as_secs_f64(), rate.burst)
    });
    out.line(&format!("running  {}", most(limits.running)))?;
    out.line(&format!("per-key  {}", most(limits.per_key)))?;
    out.line(&format!("rate     {rate}"))?;
    Ok(Ended::Done)
}
