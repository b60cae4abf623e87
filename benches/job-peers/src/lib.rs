//! What a driver is told, and what it answers: the same for the drivers in Rust, JavaScript and Python.
//!
//! A driver runs one queue on the database that `DATABASE_URL` names (`postgres://…` or `sqlite:FILE`):
//!
//! | command | does | prints |
//! |---|---|---|
//! | `setup` | makes the schema | nothing |
//! | `enqueue JOBS one` | one producer enqueues one by one, each acknowledged before the next | `took SECONDS` |
//! | `enqueue JOBS batch` | the same by the queue's own call for many, a hundred at a time | `took SECONDS` |
//! | `work JOBS WORKERS` | runs the jobs that are there; WORKERS is a number, or `best` for what the queue's documentation gives for speed | `took SECONDS` |
//! | `consume` | waits for jobs, as an idle consumer does | `ready`, then `latency NANOSECONDS` as each job starts |
//! | `produce JOBS MILLISECONDS` | enqueues one by one, with pauses of half to one and a half times so long | nothing |
//!
//! The rules, so that all are measured alike:
//!
//! 1. What is timed begins when the process is connected, and leaves out its start.
//! 2. `work` ends when the store says that no job is left, not when the last handler returns: a completion that waits
//!    in the memory of a batch is not done.
//! 3. `consume` ends when its standard input does. For each line there it prints `statements N`: how many statements
//!    this process has begun in `SQLite`. With Postgres the server counts, and the driver prints `statements -`.
//! 4. All carry the same [`Payload`]. Handlers do nothing but count.
//! 5. Times across processes are of the monotonic clock, which all processes of a host share.

mod command;
mod count;

use std::time::{Duration, Instant};
use std::{env, process, thread};

use serde::{Deserialize, Serialize};

pub use command::{Command, Workers};
pub use count::{count_statements, statements};

/// Jobs in a batch.
pub const BATCH: usize = 100;

/// What each job carries: about eighty bytes of JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Payload {
    pub path: String,
    pub width: u32,
    /// When its enqueue began: nanoseconds of the monotonic clock.
    pub sent: u64,
}

impl Payload {
    #[must_use]
    pub fn new(number: usize) -> Payload {
        Payload {
            path: format!("/srv/pictures/2026/11/26/DSC_{number:07}.JPG"),
            width: 320,
            sent: now(),
        }
    }
}

/// Nanoseconds of the monotonic clock.
#[must_use]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// The address of the database.
///
/// # Panics
///
/// If `DATABASE_URL` is not set.
#[must_use]
pub fn address() -> String {
    env::var("DATABASE_URL").expect("DATABASE_URL names the database")
}

/// Tells how long it took, and ends the process at once: how long a queue takes to stop is not measured.
pub fn took(begun: Instant) -> ! {
    println!("took {}", begun.elapsed().as_secs_f64());
    process::exit(0);
}

/// As a job of `consume` starts.
pub fn started(payload: &Payload) {
    println!("latency {}", now().saturating_sub(payload.sent));
}

/// Answers the harness, until it closes the standard input; then ends the process.
pub fn ready() {
    println!("ready");
    thread::spawn(|| {
        for line in std::io::stdin().lines() {
            if line.is_err() {
                break;
            }
            match statements() {
                Some(count) => println!("statements {count}"),
                None => println!("statements -"),
            }
        }
        process::exit(0);
    });
}

/// A pause of half to one and a half times `mean`, so that no queue's own rhythm is met or missed by the samples.
#[must_use]
pub fn pause(mean: Duration) -> Duration {
    // The clock's last digits are random enough for that.
    let share = f64::from(u32::try_from(now() % 1_000).unwrap_or_default()) / 1_000.0;
    mean.mul_f64(0.5 + share)
}
