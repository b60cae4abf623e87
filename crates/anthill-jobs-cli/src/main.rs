//! `anthill-jobs`: inspects and changes a job queue from a shell, while it is in use.
//!
//! | exit code | |
//! |---|---|
//! | 0 | done, also if the reader of the output is gone |
//! | 1 | an error, with the reason on standard error |
//! | 2 | wrong usage |
//! | 3 | a named job does not exist, or is not in a state for the command; the others were changed |

mod address;
mod args;
mod change;
mod engines;
mod enqueue;
mod json;
mod list;
mod moves;
mod out;
mod outcome;
mod pages;
mod show;
mod sqlite_file;
mod values;

mod watch;

use anthill_jobs::{JobState, Queue};
use args::{Args, Command};
use change::Change;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use out::{Out, complain};
use outcome::{Ended, Fallible};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(wrong) => return misused(&wrong),
    };
    let Some(address) = args.queue else {
        let wrong = Args::command().error(
            ErrorKind::MissingRequiredArgument,
            "which queue? Use --queue ADDRESS, or set ANTHILL_QUEUE",
        );
        return misused(&wrong);
    };
    let mut out = Out::new(args.json);
    let ended = run(&address, args.command, &mut out);
    // What was written before an error is valid, too.
    let flushed = out.flush();
    match ended.and_then(|ended| flushed.map(|()| ended)) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Missed) => ExitCode::from(3),
        Err(error) => {
            complain(&text(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Prints help, or what is wrong with the command line, whose text may come from anywhere.
fn misused(wrong: &clap::Error) -> ExitCode {
    if !wrong.use_stderr() {
        let _ = wrong.print();
        return ExitCode::SUCCESS;
    }
    let text = wrong.render().to_string();
    let _ = io::stderr().write_all(out::harmless(&text).as_bytes());
    ExitCode::from(2)
}

fn run(address: &str, command: Command, out: &mut Out) -> Fallible<Ended> {
    let queue = || address::open(address);
    let look = || address::open_to_look(address);
    match command {
        Command::Enqueue(enqueue) => {
            // Read before the queue is opened, so that none is created for invalid input.
            let jobs = enqueue.read(io::stdin().lock())?;
            let queue = address::open_or_create(address, enqueue.create)?;
            enqueue.enqueue(&queue, &jobs, out)
        }
        Command::Stats { watch: None } => show::stats(&look()?, out),
        Command::Stats { watch: Some(every) } => watch::watch(&look()?, every, out),
        Command::List {
            state,
            after,
            limit,
        } => list::list(&look()?, state, after, limit, out),
        Command::Dead { limit } => list::list(&look()?, JobState::Dead, None, limit, out),
        Command::Show { id } => show::job(&look()?, id, out),
        Command::Kinds => show::kinds(&look()?, out),
        Command::Retry { all: true, .. } => change::retry_all(&queue()?, out),
        Command::Retry { ids, .. } => change::named(&queue()?, Change::Retry, &ids, out),
        Command::Delete { all_dead: true, .. } => {
            change::purge(&queue()?, JobState::Dead, true, out)
        }
        Command::Delete { ids, .. } => change::named(&queue()?, Change::Delete, &ids, out),
        Command::Cancel { ids } => change::named(&queue()?, Change::Cancel, &ids, out),
        Command::RunNow { ids } => change::named(&queue()?, Change::RunNow, &ids, out),
        Command::Move(told) => moves::run(address, &told, out),
        Command::Purge { state, yes } => change::purge(&queue()?, state, yes, out),
        Command::Backup { path } => backup(&look()?, &path, out),
        Command::Pause => change::pause(&queue()?, true, out),
        Command::Resume => change::pause(&queue()?, false, out),
        Command::Limits(limits) if limits.are_asked() => change::limits(&look()?, &limits, out),
        Command::Limits(limits) => change::limits(&queue()?, &limits, out),
    }
}

fn backup(queue: &Queue, path: &Path, out: &mut Out) -> Fallible<Ended> {
    queue.backup(path)?;
    let bytes = path.metadata()?.len();
    if out.is_json() {
        out.document(&serde_json::json!({ "bytes": bytes }))?;
    } else {
        out.line(&format!("{bytes} bytes"))?;
    }
    Ok(Ended::Done)
}

/// The text of an error and its sources.
fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Some errors include the text of their source.
        if !text.ends_with(&more) {
            text += ": ";
            text += &more;
        }
        source = error.source();
    }
    text
}
