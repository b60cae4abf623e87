//! The command line, and what is refused before any queue is opened.

use crate::enqueue::Enqueue;
use anthill_jobs::{JobId, JobState, Limits, OncePer, Rate};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

const EVERYWHERE: &str = "With any command";

/// Look at a live job queue, and change it.
///
/// Several processes may do so while others enqueue and work.
#[derive(Parser)]
#[command(
    name = "anthill-jobs",
    version,
    after_help = "Exit codes: 0 done, 1 an error, 2 wrong usage, 3 some job that was named is not there or not in a state for that."
)]
pub(crate) struct Args {
    /// The queue: `sqlite:FILE`, `sqlite:FILE?queue=NAME`, or without `sqlite:`.
    #[arg(long, global = true, value_name = "ADDRESS", env = "ANTHILL_QUEUE", help_heading = EVERYWHERE)]
    pub(crate) queue: Option<String>,

    /// Print JSON: one document, or one a line for `list`, `dead` and `stats --watch`.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Count the jobs.
    Stats {
        /// Again and again, until Ctrl-C, or until nobody reads it; every second unless told.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = pause)]
        watch: Option<Duration>,
    },

    /// List the jobs in a state, the first ones first.
    ///
    /// For people a table: of its data the beginning, and the size if that is not all. With --json all of each.
    List {
        /// Where they are.
        #[arg(value_parser = state(|_| true))]
        state: JobState,

        /// Those behind that job, which must still be in the state.
        #[arg(long, value_name = "ID")]
        after: Option<JobId>,

        /// So many at most.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },

    /// List the dead letters: `list dead`.
    Dead {
        /// So many at most.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },

    /// Show all that is known of a job.
    Show {
        #[arg(value_name = "ID")]
        id: JobId,
    },

    /// List the kinds of the jobs that are ready: a consumer claims only those that it knows.
    Kinds,

    /// Enqueue a job, whose data is JSON on standard input; or many, one a line.
    Enqueue(Enqueue),

    /// Make dead jobs ready again, as if they had never been tried.
    Retry {
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<JobId>,

        /// All that are dead now.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },

    /// Delete dead letters, or results that are kept.
    Delete {
        #[arg(value_name = "ID", required_unless_present = "all_dead")]
        ids: Vec<JobId>,

        /// All that are dead now.
        #[arg(long, conflicts_with = "ids")]
        all_dead: bool,
    },

    /// Take jobs away that have not started.
    Cancel {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<JobId>,
    },

    /// Let jobs that are delayed run now.
    RunNow {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<JobId>,
    },

    /// Move jobs that wait, or are dead, to another queue.
    Move(Move),

    /// Take all jobs in a state away.
    Purge {
        /// Where they are.
        #[arg(value_parser = state(|state| state != JobState::Running))]
        state: JobState,

        /// Really; without it only a purge of nothing succeeds.
        #[arg(long)]
        yes: bool,
    },

    /// Write all that is in the queue's file to a new one, while it is in use. (A copy would miss what is in its log.)
    Backup {
        /// Where nothing must be yet.
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },

    /// Let no job start, in any process, until `resume`.
    Pause,

    /// End a pause.
    Resume,

    /// Show the limits of all consumers together, or set some of them.
    Limits(SetLimits),
}

/// All that are there now; those that start meanwhile are left alone.
///
/// A job keeps its id, data, keys and priority, the delay and the attempts that it has left; one that is dead gets all its
/// attempts again. No job is lost, whatever dies when. In one file each is in one of the queues at any time; else one may be
/// in both after a crash, until the same move is made again.
#[derive(clap::Args)]
pub(crate) struct Move {
    /// Where to: an address, as that of --queue; `?queue=NAME` is in the same file.
    #[arg(value_name = "TO")]
    pub(crate) to: String,

    /// Only those in that state; all that wait unless told.
    #[arg(long, value_name = "STATE", value_parser = state(|state| !matches!(state, JobState::Running | JobState::Done)))]
    pub(crate) from_state: Option<JobState>,

    /// Only those of that kind, as `list` shows it.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,

    /// So many at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,

    /// Make the queue TO if it is not there.
    #[arg(long)]
    pub(crate) create: bool,
}

#[derive(clap::Args)]
pub(crate) struct SetLimits {
    /// How many jobs run at once.
    #[arg(long, value_name = "N|none", value_parser = most)]
    running: Option<Bound<u32>>,

    /// How many jobs with the same key run at once.
    #[arg(long, value_name = "N|none", value_parser = most)]
    per_key: Option<Bound<u32>>,

    /// How many start in how long, evenly spread, but that up to BURST (1 unless told) may start at once.
    #[arg(long, value_name = "JOBS/SECONDS[/BURST]|none", value_parser = rate)]
    rate: Option<Bound<Rate>>,

    /// How many jobs may be ready or parked: an enqueue of more is refused.
    #[arg(long, value_name = "N|none", value_parser = ready)]
    ready: Option<Bound<u64>>,
}

impl SetLimits {
    /// What they are, and nothing else.
    pub(crate) fn are_asked(&self) -> bool {
        self.running.is_none()
            && self.per_key.is_none()
            && self.rate.is_none()
            && self.ready.is_none()
    }

    /// What they are to be, if anything else than before.
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

/// A limit, or none.
#[derive(Clone, Copy)]
struct Bound<T>(Option<T>);

fn state(may: impl Fn(JobState) -> bool) -> impl TypedValueParser<Value = JobState> {
    let names = JobState::ALL.into_iter().filter(|&state| may(state));
    PossibleValuesParser::new(names.map(JobState::name)).try_map(|name| {
        let mut all = JobState::ALL.into_iter();
        all.find(|state| state.name() == name).ok_or("no state")
    })
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "that is no number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A key and a time.
pub(crate) fn once_per(text: &str) -> Result<OncePer, String> {
    // A key may have such strokes itself.
    match text.rsplit_once('/') {
        Some((key, period)) if !key.is_empty() => Ok(OncePer {
            key: key.to_owned(),
            period: seconds(period)?,
        }),
        _ => Err("it is as KEY/SECONDS".to_owned()),
    }
}

/// What a table must stand still.
fn pause(text: &str) -> Result<Duration, String> {
    let pause = seconds(text)?;
    if pause < Duration::from_millis(10) {
        return Err("a hundredth of a second is the least".to_owned());
    }
    Ok(pause)
}

fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("1 is the least: to let no job start there is `pause`".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{text:?} is no number: {error}")),
    }
}

fn most(text: &str) -> Result<Bound<u32>, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    count(text).map(Some).map(Bound)
}

fn ready(text: &str) -> Result<Bound<u64>, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    let ready = text.parse::<u64>();
    let ready = ready.map_err(|error| format!("{text:?} is no number: {error}"))?;
    // As much as the file can hold of them.
    if i64::try_from(ready).is_err() {
        return Err(format!("{} is the most", i64::MAX));
    }
    Ok(Bound(Some(ready)))
}

/// Longer times are none that somebody means.
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

fn rate(text: &str) -> Result<Bound<Rate>, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    let parts: Vec<&str> = text.split('/').collect();
    let (jobs, per, burst) = match parts[..] {
        [jobs, per] => (jobs, per, "1"),
        [jobs, per, burst] => (jobs, per, burst),
        _ => return Err("a rate is as 10/1 or 10/1/5, or none".to_owned()),
    };
    let (jobs, per, burst) = (count(jobs)?, seconds(per)?, count(burst)?);
    if per.is_zero() || per > YEAR {
        return Err("its seconds must be more than 0, and no more than a year".to_owned());
    }
    Ok(Bound(Some(Rate { jobs, per, burst })))
}
