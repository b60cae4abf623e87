//! The command line: commands, options, and what is refused before any queue is opened.

use crate::enqueue::Enqueue;
use crate::secrets::VARIABLE;
use crate::values::{Bound, kept, limit, pause, rate, ready, state};
use anthill_jobs::{JobId, JobState, Limits, ListRequest, Rate, Retention};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

const EVERYWHERE: &str = "With any command";

/// Inspect and change a job queue while it is in use.
///
/// Several processes may do so while others enqueue and run jobs.
#[derive(Parser)]
#[command(
    name = "anthill-jobs",
    version,
    after_help = "Exit codes: 0 done, 1 error, 2 wrong usage, 3 a named job does not exist or is not in a state for the command."
)]
pub(crate) struct Args {
    /// The queue: `sqlite:FILE` or `sqlite:FILE?queue=NAME`, where `sqlite:` may be omitted;
    /// `postgres://USER@HOST/DATABASE?queue=NAME&schema=NAME`; or `redis://USER@HOST/DATABASE?queue=NAME&prefix=NAME`, where
    /// `rediss:` is by TLS. Other users of the machine see a password that is on a command line: use `ANTHILL_QUEUE` for one.
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = VARIABLE,
        hide_env_values = true,
        help_heading = EVERYWHERE
    )]
    pub(crate) queue: Option<String>,

    /// Print JSON: one document, or one per line for `list`, `dead` and `stats --watch`.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Count the jobs.
    Stats {
        /// Repeat until Ctrl-C, or until the reader of the output is gone; every second by default.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = pause)]
        watch: Option<Duration>,
    },

    /// List the jobs in a state, in the order of the state.
    ///
    /// Prints a table with the beginning of each job's data, and its size if that is not all; with --json all data.
    List {
        /// The state.
        #[arg(value_parser = state(|_| true))]
        state: JobState,

        /// List the jobs behind this one, which must still be in the state.
        #[arg(long, value_name = "ID")]
        after: Option<JobId>,

        #[command(flatten)]
        select: Select,
    },

    /// List the dead letters: `list dead`.
    Dead {
        #[command(flatten)]
        select: Select,
    },

    /// Show all details of a job.
    Show {
        #[arg(value_name = "ID")]
        id: JobId,
    },

    /// List the kinds of the ready jobs: a consumer claims only kinds that it knows.
    Kinds,

    /// List the live consumers of all processes; `show` tells which one runs a job.
    Consumers,

    /// Show what the queue's broker can do: what it lacks is an error when it is asked for.
    Capabilities,

    /// Enqueue a job with the JSON on standard input as data; or many, one per line.
    Enqueue(Enqueue),

    /// Make dead jobs ready again, as if they had never been tried.
    Retry {
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<JobId>,

        /// All jobs that are dead now.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },

    /// Delete dead letters, or kept results.
    Delete {
        #[arg(value_name = "ID", required_unless_present = "all_dead")]
        ids: Vec<JobId>,

        /// All jobs that are dead now.
        #[arg(long, conflicts_with = "ids")]
        all_dead: bool,
    },

    /// Remove jobs that have not started.
    Cancel {
        /// Ask jobs that run to stop: each is removed, unless its attempt succeeds all the same.
        #[arg(long)]
        running: bool,

        #[arg(value_name = "ID", required = true)]
        ids: Vec<JobId>,
    },

    /// Make delayed jobs ready now.
    RunNow {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<JobId>,
    },

    /// Move waiting or dead jobs to another queue.
    Move(Move),

    /// Remove all jobs in a state.
    Purge {
        /// The state.
        #[arg(value_parser = state(|state| state != JobState::Running))]
        state: JobState,

        /// Confirm; without it the command fails if there is a job to remove.
        #[arg(long)]
        yes: bool,
    },

    /// Write the queue's whole file to a new one, while it is in use. (A plain copy would miss what is in its log.)
    Backup {
        /// The new file, which must not exist yet.
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },

    /// Pause the queue: no job starts, in any process, until `resume`.
    Pause,

    /// End a pause.
    Resume,

    /// Show the limits over all processes, or set some of them.
    Limits(SetLimits),

    /// Show for how long jobs that are over are kept, or set it.
    Retention(SetRetention),
}

/// Which jobs of a state to list.
#[derive(clap::Args)]
pub(crate) struct Select {
    /// List only jobs of this kind, as it is stored.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,

    /// List only jobs whose last error contains this text.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,

    /// The most jobs to list.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Select {
    pub(crate) fn request(self, state: JobState) -> ListRequest {
        let mut request = ListRequest::new(state).limit(self.limit as usize);
        request.kind = self.kind;
        request.error = self.error;
        request
    }
}

/// Moves the jobs that are there now; those that start meanwhile are left alone.
///
/// A job keeps its id, data, keys and priority, and the delay and the attempts that it has left; a dead job gets all its
/// attempts again. No job is lost, whatever process dies when. Within one file each job is in exactly one of the queues at
/// any time; otherwise a job may be in both after a crash, until the same move is repeated.
#[derive(clap::Args)]
pub(crate) struct Move {
    /// The target: an address like that of --queue; `?queue=NAME` is in the same file or database.
    #[arg(value_name = "TO")]
    pub(crate) to: String,

    /// Move only jobs in this state; all that wait by default.
    #[arg(long, value_name = "STATE", value_parser = state(|state| !matches!(state, JobState::Running | JobState::Done)))]
    pub(crate) from_state: Option<JobState>,

    /// Move only jobs of this kind, as `list` shows it.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,

    /// The most jobs to move.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,

    /// Create the queue TO if it does not exist.
    #[arg(long)]
    pub(crate) create: bool,
}

#[derive(clap::Args)]
pub(crate) struct SetLimits {
    /// How many jobs run at once.
    #[arg(long, value_name = "N|none", value_parser = limit)]
    running: Option<Bound<u32>>,

    /// How many jobs with the same key run at once.
    #[arg(long, value_name = "N|none", value_parser = limit)]
    per_key: Option<Bound<u32>>,

    /// A rate limit: jobs per period, evenly spread, of which up to BURST (default 1) may start at once.
    #[arg(long, value_name = "JOBS/SECONDS[/BURST]|none", value_parser = rate)]
    rate: Option<Bound<Rate>>,

    /// How many jobs may be ready or parked; an enqueue of more is refused.
    #[arg(long, value_name = "N|none", value_parser = ready)]
    ready: Option<Bound<u64>>,
}

impl SetLimits {
    /// Whether to show the limits only.
    pub(crate) fn are_asked(&self) -> bool {
        self.running.is_none()
            && self.per_key.is_none()
            && self.rate.is_none()
            && self.ready.is_none()
    }

    /// The new limits, if they differ from those before.
    pub(crate) fn changed(&self, before: Limits) -> Option<Limits> {
        let mut limits = before;
        if let Some(Bound(running)) = self.running {
            limits.running = running;
        }
        if let Some(Bound(per_key)) = self.per_key {
            limits.per_key = per_key;
        }
        if let Some(Bound(rate)) = self.rate {
            limits.rate = rate;
        }
        if let Some(Bound(ready)) = self.ready {
            limits.max_ready = ready;
        }
        (limits != before).then_some(limits)
    }
}

#[derive(clap::Args)]
pub(crate) struct SetRetention {
    /// How long to keep a job that is done, at least as long as its result: seconds, or a number with m, h or d; with `none`
    /// only results are kept.
    #[arg(long, value_name = "DURATION|none", value_parser = kept)]
    done: Option<Bound<Duration>>,

    /// How long to keep a dead letter; with `none` it is kept until somebody removes it.
    #[arg(long, value_name = "DURATION|none", value_parser = kept)]
    dead: Option<Bound<Duration>>,
}

impl SetRetention {
    /// Whether to show the times only.
    pub(crate) fn are_asked(&self) -> bool {
        self.done.is_none() && self.dead.is_none()
    }

    /// The new times, if they differ from those before.
    pub(crate) fn changed(&self, before: Retention) -> Option<Retention> {
        let mut times = before;
        if let Some(Bound(done)) = self.done {
            times.done = done;
        }
        if let Some(Bound(dead)) = self.dead {
            times.dead = dead;
        }
        (times != before).then_some(times)
    }
}
