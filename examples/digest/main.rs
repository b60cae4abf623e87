//! What a pool is for: the SHA-256 of every file under some folders, on all CPUs, in bounded memory.
//!
//! ```text
//! cargo run --release --example digest -- [--engine anthill|rayon|threads] [--capacity N] [PATH…]
//! ```
//!
//! Standard output gets one line a file, as GNU `sha256sum` prints it, in no particular order;
//! standard error gets what could not be read, and at the end the numbers.
//!
//! How anthill is used is in two places: the pool is built in [`engine::anthill`], and [`task`] has the
//! two kinds of task, with the reason why neither a folder of a million files nor one of a million
//! folders takes more memory than a small one. The other files have nothing to do with pools:
//! [`walk`] reads folders, [`file`] reads files, [`report`] prints.

mod engine;
mod file;
mod report;
mod task;
mod walk;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};

use crate::report::Report;
use crate::task::Job;

/// Print the SHA-256 of every regular file under the given folders.
///
/// Lines look as those of GNU sha256sum and come in any order. Symbolic links that are met on the way
/// are not followed, and fifos, sockets and devices are never opened; both are counted. A PATH that is
/// itself a symbolic link is followed, since it was named (as with `find -H`).
///
/// Exit code: 0 if all went well, 1 if something could not be read or written (the rest is done
/// nevertheless), 2 for a wrong command line. If the reader of standard output goes away, as `head`
/// does, the program ends early and in silence.
#[derive(Parser)]
#[command(name = "digest")]
struct Args {
    /// What runs the tasks.
    #[arg(long, value_enum, default_value_t = EngineName::Anthill)]
    engine: EngineName,

    /// How many tasks run at once at most [default: the number of CPUs]. Each holds a file open.
    #[arg(long, value_name = "N", value_parser = parse_capacity)]
    capacity: Option<usize>,

    /// Files and folders.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum EngineName {
    /// The pool of this crate
    Anthill,
    /// A rayon thread pool, and a counter that bounds what is in flight
    Rayon,
    /// Threads of std on one channel, and the same counter
    Threads,
}

fn parse_capacity(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => {
            Err("a pool of capacity 0 is paused, it would never finish: give 1 or more".into())
        }
        Ok(capacity) => Ok(capacity),
        Err(error) => Err(format!("{error}")),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let report = Arc::new(Report::new());
    match run(args, &report) {
        Ok(crew) => report.finish(&crew),
        Err(error) => report.abandon(&*error),
    }
    report.exit_code()
}

fn run(args: Args, report: &Arc<Report>) -> Result<engine::Crew, Box<dyn Error + Send + Sync>> {
    let capacity = args.capacity.unwrap_or_else(num_cpus::get);
    let job = Job::new(Arc::clone(report), args.paths);
    match args.engine {
        EngineName::Anthill => engine::anthill(capacity, job),
        EngineName::Rayon => engine::rayon(capacity, job),
        EngineName::Threads => engine::threads(capacity, job),
    }
}
