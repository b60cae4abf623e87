//! The command `enqueue`: jobs from standard input, all of them or none.

use crate::json;
use crate::out::Out;
use crate::outcome::{Ended, Fallible};
use crate::values::{header, once_per, seconds};
use anthill_jobs::{JobId, NewJob, OncePer, Queue};
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use serde_json::Value;
use std::io::Read;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Enqueue {
    /// The kind, under which a consumer finds the handler.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    kind: String,

    /// Enqueue one job per line, all or none of them, in one transaction, which in Redis takes 500 at most; empty lines are
    /// skipped.
    #[arg(long)]
    lines: bool,

    /// How long the job waits before it is ready.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    delay: Option<Duration>,

    /// The priority: higher numbers go first; 0 by default.
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 0,
        hide_default_value = true
    )]
    priority: i16,

    /// How often it is tried again after a failure; 25 times by default.
    #[arg(long, value_name = "N")]
    retries: Option<u32>,

    /// A unique key: nothing is added while another job with it is not over.
    #[arg(long, value_name = "KEY", conflicts_with = "lines")]
    unique: Option<String>,

    /// Add at most one job with this key within the period, whether or not it is over.
    #[arg(long, value_name = "KEY/SECONDS", value_parser = once_per, conflicts_with = "lines")]
    once_per: Option<OncePer>,

    /// As --unique; but if the other job waits, it gets this data, and is due --delay from now.
    #[arg(long, value_name = "KEY", requires = "delay", conflicts_with_all = ["lines", "unique"])]
    debounce: Option<String>,

    /// How long to keep its result after it is done: see `show`.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    keep_result: Option<Duration>,

    /// The key that `limits --per-key` limits.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// A header: a text that is kept beside the data; may be repeated, and the last one of a name counts.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// When it expires: it is removed if it still waits after this time.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    expires: Option<Duration>,

    /// Its id; if a job with it is stored already, nothing is added.
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    id: Option<JobId>,

    /// Create the queue even in a database of another program, beside its tables; in Postgres any database is one, until it
    /// has tables of queues, and each server of Redis.
    #[arg(long)]
    pub(crate) create: bool,
}

#[derive(Serialize)]
struct Report {
    id: String,
    added: bool,
}

impl Enqueue {
    pub(crate) fn read(&self, mut from: impl Read) -> Fallible<Vec<NewJob>> {
        let mut text = String::new();
        from.read_to_string(&mut text)
            .map_err(|error| format!("cannot read standard input: {error}"))?;
        if !self.lines {
            return Ok(vec![self.job(&text, None)?]);
        }
        (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| self.job(line, Some(number)))
            .collect()
    }

    fn job(&self, text: &str, line: Option<usize>) -> Fallible<NewJob> {
        // Parsed as a handler would, which finds more errors than a scan for brackets.
        if let Err(error) = serde_json::from_str::<Value>(text) {
            return Err(wrong(&error, line).into());
        }
        let payload = json::compact(text).into_bytes();
        let mut job = NewJob::new(self.kind.clone(), payload);
        job.id = self.id.unwrap_or(job.id);
        job.priority = self.priority;
        job.delay = self.delay.unwrap_or(job.delay);
        job.expires = self.expires;
        job.attempts = (self.retries).map_or(job.attempts, |retries| retries.saturating_add(1));
        job.unique = self.unique.clone().or_else(|| self.debounce.clone());
        job.debounce = self.debounce.is_some();
        job.once_per.clone_from(&self.once_per);
        job.keep_result = self.keep_result;
        job.key.clone_from(&self.key);
        job.headers = self.headers.iter().cloned().collect();
        Ok(job)
    }

    pub(crate) fn enqueue(&self, queue: &Queue, jobs: &[NewJob], out: &mut Out) -> Fallible<Ended> {
        let enqueued = queue.enqueue_all_new(jobs)?;
        let told: Vec<Report> = enqueued
            .into_iter()
            .map(|enqueued| Report {
                id: enqueued.id().to_string(),
                added: enqueued.is_added(),
            })
            .collect();
        match &told[..] {
            [one] if out.is_json() && !self.lines => out.document(one)?,
            all if out.is_json() => out.document(&all)?,
            all => {
                for Report { id, added } in all {
                    let what = if *added { "added" } else { "duplicate" };
                    out.line(&format!("{id} {what}"))?;
                }
            }
        }
        Ok(Ended::Done)
    }
}

/// The error with its place in the input, not in the parsed line.
fn wrong(error: &serde_json::Error, line: Option<usize>) -> String {
    let column = error.column();
    let text = error.to_string();
    let place = format!(" at line {} column {column}", error.line());
    let what = text.strip_suffix(&place).unwrap_or(&text);
    let line = line.unwrap_or(error.line());
    format!("standard input is not JSON: line {line}, column {column}: {what}")
}
