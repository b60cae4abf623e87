//! Jobs from standard input: all of them are enqueued, or none.

use crate::args::{once_per, seconds};
use crate::out::Out;
use crate::{Ended, Fallible, json};
use anthill_jobs::{JobId, NewJob, OncePer, Queue};
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use serde_json::Value;
use std::io::Read;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Enqueue {
    /// Under which its handler is found.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    kind: String,

    /// One job a line, all or none of them, in one transaction; empty lines are passed over.
    #[arg(long)]
    lines: bool,

    /// Not before so long from now.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    delay: Option<Duration>,

    /// Those with more come first; 0 unless told.
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 0,
        hide_default_value = true
    )]
    priority: i16,

    /// How often it is tried again after it failed; 25 times unless told.
    #[arg(long, value_name = "N")]
    retries: Option<u32>,

    /// Not beside another job with that unique key.
    #[arg(long, value_name = "KEY", conflicts_with = "lines")]
    unique: Option<String>,

    /// Not within so long after another job with that key was enqueued, whether or not that is over.
    #[arg(long, value_name = "KEY/SECONDS", value_parser = once_per, conflicts_with = "lines")]
    once_per: Option<OncePer>,

    /// As --unique; but if the other job waits, it gets this data, and waits for --delay from now.
    #[arg(long, value_name = "KEY", requires = "delay", conflicts_with_all = ["lines", "unique"])]
    debounce: Option<String>,

    /// Keep its result for so long after it is done: see `show`.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    keep_result: Option<Duration>,

    /// Jobs with the same key are bounded together: see `limits --per-key`.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Taken away if it has not started so long from now.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    expires: Option<Duration>,

    /// Its id; if there is a job with it already, nothing is added.
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    id: Option<JobId>,

    /// Make the queue also in a database of another program, beside its tables.
    #[arg(long)]
    pub(crate) create: bool,
}

#[derive(Serialize)]
struct Told {
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
        // As a handler would read it: that finds more than a look at the brackets.
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
        Ok(job)
    }

    pub(crate) fn enqueue(&self, queue: &Queue, jobs: &[NewJob], out: &mut Out) -> Fallible<Ended> {
        let enqueued = queue.enqueue_all_new(jobs)?;
        let told: Vec<Told> = enqueued
            .into_iter()
            .map(|enqueued| Told {
                id: enqueued.id().to_string(),
                added: enqueued.is_added(),
            })
            .collect();
        match &told[..] {
            [one] if out.is_json() && !self.lines => out.document(one)?,
            all if out.is_json() => out.document(&all)?,
            all => {
                for Told { id, added } in all {
                    let what = if *added { "added" } else { "duplicate" };
                    out.line(&format!("{id} {what}"))?;
                }
            }
        }
        Ok(Ended::Done)
    }
}

/// Where in the input, and not in the line that was parsed.
fn wrong(error: &serde_json::Error, line: Option<usize>) -> String {
    let column = error.column();
    let text = error.to_string();
    let place = format!(" at line {} column {column}", error.line());
    let what = text.strip_suffix(&place).unwrap_or(&text);
    let line = line.unwrap_or(error.line());
    format!("standard input is no JSON: line {line}, column {column}: {what}")
}
