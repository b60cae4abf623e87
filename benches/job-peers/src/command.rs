//! The command line of a driver.

use std::time::Duration;
use std::{env, fmt, process, str::FromStr};

/// What a driver is told.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Setup,
    Enqueue { jobs: usize, batch: bool },
    Work { jobs: usize, workers: Workers },
    Consume,
    Produce { jobs: usize, pause: Duration },
}

/// How many jobs may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    Count(usize),
    /// What the queue's documentation gives for the highest throughput.
    Best,
}

impl Workers {
    #[must_use]
    pub fn or(self, best: usize) -> usize {
        match self {
            Workers::Count(count) => count,
            Workers::Best => best,
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Workers::Count(count) => write!(f, "{count}"),
            Workers::Best => f.write_str("best"),
        }
    }
}

impl Command {
    /// Reads the command line; ends the process if that is none.
    #[must_use]
    pub fn from_args() -> Command {
        let args: Vec<String> = env::args().skip(1).collect();
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        Command::parse(&words).unwrap_or_else(|| {
            eprintln!("no such command: {}", args.join(" "));
            process::exit(2);
        })
    }

    fn parse(words: &[&str]) -> Option<Command> {
        match words {
            ["setup"] => Some(Command::Setup),
            ["enqueue", jobs, "one"] => Some(Command::Enqueue {
                jobs: number(jobs)?,
                batch: false,
            }),
            ["enqueue", jobs, "batch"] => Some(Command::Enqueue {
                jobs: number(jobs)?,
                batch: true,
            }),
            ["work", jobs, "best"] => Some(Command::Work {
                jobs: number(jobs)?,
                workers: Workers::Best,
            }),
            ["work", jobs, count] => Some(Command::Work {
                jobs: number(jobs)?,
                workers: Workers::Count(number(count)?),
            }),
            ["consume"] => Some(Command::Consume),
            ["produce", jobs, pause] => Some(Command::Produce {
                jobs: number(jobs)?,
                pause: Duration::from_millis(number(pause)?),
            }),
            _ => None,
        }
    }
}

fn number<N: FromStr>(word: &str) -> Option<N> {
    word.parse().ok()
}
