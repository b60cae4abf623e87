//! The command `consumers`: who is there to run jobs.

use crate::out::{Out, cell};
use crate::outcome::{Ended, Fallible};
use crate::show::span;
use anthill_jobs::{ConsumerInfo, Queue};
use serde::Serialize;

/// A consumer, as JSON.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    kinds: &'a [String],
    workers: u32,
    running: u32,
    age_seconds: f64,
    seen_seconds: f64,
}

impl Document<'_> {
    fn of(consumer: &ConsumerInfo) -> Document<'_> {
        Document {
            id: &consumer.id,
            kinds: &consumer.kinds,
            workers: consumer.workers,
            running: consumer.running,
            age_seconds: consumer.age.as_secs_f64(),
            seen_seconds: consumer.seen.as_secs_f64(),
        }
    }
}

pub(crate) fn list(queue: &Queue, out: &mut Out) -> Fallible<Ended> {
    let consumers = queue.consumers()?;
    if out.is_json() {
        let documents: Vec<Document<'_>> = consumers.iter().map(Document::of).collect();
        out.document(&documents)?;
        return Ok(Ended::Done);
    }
    let ids: Vec<String> = consumers.iter().map(|one| cell(&one.id)).collect();
    let widest = ids.iter().map(|id| id.chars().count()).max();
    let Some(widest) = widest.map(|widest| widest.max("ID".len())) else {
        return Ok(Ended::Done);
    };
    let mut line = |[id, running, workers, age, seen, kinds]: [&str; 6]| {
        let line =
            format!("{id:widest$}  {running:>7}  {workers:>7}  {age:>6}  {seen:>6}  {kinds}");
        out.line(line.trim_end())
    };
    line(["ID", "RUNNING", "WORKERS", "AGE", "SEEN", "KINDS"])?;
    for (consumer, id) in consumers.iter().zip(&ids) {
        let kinds: Vec<String> = consumer.kinds.iter().map(|kind| cell(kind)).collect();
        line([
            id,
            &consumer.running.to_string(),
            &consumer.workers.to_string(),
            &span(consumer.age),
            &span(consumer.seen),
            &kinds.join(" "),
        ])?;
    }
    Ok(Ended::Done)
}
