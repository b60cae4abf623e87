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
mod capabilities;
mod change;
mod consumers;
mod engines;
mod enqueue;
mod json;
mod list;
mod moves;
mod out;
mod outcome;
mod pages;
#[cfg(feature = "postgres")]
mod postgres_schema;
#[cfg(feature = "redis")]
mod redis_server;
mod retention;
mod secrets;
mod show;
mod sqlite_file;
mod values;
mod watch;

use anthill_jobs::{JobState, Queue};
use args::{Args, Command};
use change::Change;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use engines::Purpose;
use out::{Out, complain, remark};
use outcome::{Ended, Fallible};
use std::error::Error;
use std::io;
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
    let open = |purpose| address::open(&address, purpose);
    let ended = run(&address, open, args.command, &mut out);
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
    remark(wrong.render().to_string().trim_end());
    ExitCode::from(2)
}

/// Runs a command on the queue at the address, which it opens when it must.
fn run(
    address: &str,
    open: impl Fn(Purpose) -> Fallible<Queue>,
    command: Command,
    out: &mut Out,
) -> Fallible<Ended> {
    let queue = || open(Purpose::Change);
    let look = || open(Purpose::Look);
    match command {
        Command::Enqueue(enqueue) => {
            // Read before the queue is opened, so that none is created for invalid input.
            let jobs = enqueue.read(io::stdin().lock())?;
            let in_any = enqueue.create;
            let queue = open(Purpose::Create { in_any })?;
            enqueue.enqueue(&queue, &jobs, out)
        }
        Command::Stats { watch: None } => show::stats(&look()?, out),
        Command::Stats { watch: Some(every) } => watch::watch(&look()?, every, out),
        Command::List {
            state,
            after,
            select,
        } => list::list(&look()?, select.request(state).after(after), out),
        Command::Dead { select } => list::list(&look()?, select.request(JobState::Dead), out),
        Command::Show { id } => show::job(&look()?, id, out),
        Command::Kinds => show::kinds(&look()?, out),
        Command::Consumers => consumers::list(&look()?, out),
        Command::Capabilities => capabilities::list(&look()?, out),
        Command::Retry { all: true, .. } => change::retry_all(&queue()?, out),
        Command::Retry { ids, .. } => change::named(&queue()?, Change::Retry, &ids, out),
        Command::Delete { all_dead: true, .. } => {
            change::purge(&queue()?, JobState::Dead, true, out)
        }
        Command::Delete { ids, .. } => change::named(&queue()?, Change::Delete, &ids, out),
        Command::Cancel { running, ids } => {
            let change = if running {
                Change::CancelRunning
            } else {
                Change::Cancel
            };
            change::named(&queue()?, change, &ids, out)
        }
        Command::RunNow { ids } => change::named(&queue()?, Change::RunNow, &ids, out),
        Command::Move(told) => moves::run(address, &told, out),
        Command::Purge { state, yes } => change::purge(&queue()?, state, yes, out),
        Command::Backup { path } => backup(&look()?, &path, out),
        Command::Pause => change::pause(&queue()?, true, out),
        Command::Resume => change::pause(&queue()?, false, out),
        Command::Limits(limits) if limits.are_asked() => change::limits(&look()?, &limits, out),
        Command::Limits(limits) => change::limits(&queue()?, &limits, out),
        Command::Retention(times) if times.are_asked() => retention::run(&look()?, &times, out),
        Command::Retention(times) => retention::run(&queue()?, &times, out),
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

#[cfg(test)]
mod tests {
    use super::*;
    use anthill_jobs::broker::{Listener, Subscription};
    use anthill_jobs::{
        Broker, Capabilities, ClaimRequest, Claims, Durability, Enqueued, Extended, JobId, Lease,
        NewJob, QueueError, Settle, Settled,
    };
    use std::time::Duration;

    /// A broker that can do nothing but what it must.
    struct Bare;

    impl Broker for Bare {
        fn capabilities(&self) -> Capabilities {
            Capabilities::new("bare", Durability::None)
        }

        fn enqueue(&self, _: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
            unreachable!("the queue refuses it")
        }

        fn claim(&self, _: &ClaimRequest) -> Result<Claims, QueueError> {
            unreachable!("this program claims nothing")
        }

        fn extend(&self, _: &[Lease], _: Duration) -> Result<Vec<Extended>, QueueError> {
            unreachable!("this program claims nothing")
        }

        fn settle(&self, _: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
            unreachable!("this program claims nothing")
        }

        fn subscribe(&self, _: Listener) -> Result<Subscription, QueueError> {
            unreachable!("this program claims nothing")
        }
    }

    fn parse(command: &[&str]) -> Command {
        Args::parse_from([&["anthill-jobs"], command].concat()).command
    }

    #[test]
    fn what_the_broker_cannot_do_is_an_error_that_says_what() {
        let id = JobId::new().to_string();
        let open = |_| Ok(Queue::of(Bare));
        for (command, lacks) in [
            (&["stats"][..], "operations of operators"),
            (&["list", "ready"], "lists of jobs"),
            (&["dead", "--kind", "mail"], "lists of jobs"),
            (&["show", &id], "jobs by their id"),
            (&["kinds"], "lists of jobs"),
            (&["consumers"], "a list of consumers"),
            (&["retry", &id], "jobs by their id"),
            (&["delete", &id], "jobs by their id"),
            (&["cancel", &id], "jobs by their id"),
            (
                &["cancel", "--running", &id],
                "a request to cancel a job that runs",
            ),
            (&["run-now", &id], "jobs by their id"),
            (&["purge", "dead", "--yes"], "a purge"),
            (&["backup", "copy.db"], "backups"),
            (&["pause"], "a pause"),
            (&["limits"], "limits"),
            (&["retention"], "retention by age"),
            (&["retention", "--done", "1d"], "retention by age"),
        ] {
            let ended = run("", open, parse(command), &mut Out::new(false));
            let error = ended.err().map(|error| text(&*error));
            let says = format!("the bare broker does not support {lacks}");
            assert_eq!(error, Some(says), "{command:?}");
        }
        let Command::Enqueue(enqueue) = parse(&["enqueue", "mail", "--header", "a=b"]) else {
            panic!("that is an enqueue");
        };
        let jobs = enqueue.read(&b"1"[..]).unwrap();
        let refused = enqueue.enqueue(&Queue::of(Bare), &jobs, &mut Out::new(false));
        let error = refused.err().map(|error| text(&*error));
        assert_eq!(
            error.as_deref(),
            Some("the bare broker does not support headers")
        );
    }
}
