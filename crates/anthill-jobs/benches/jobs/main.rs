//! How fast jobs go through a queue.
//!
//! `cargo bench -p anthill-jobs --features sqlite --bench jobs [-- ROW..]` prints a table: each figure is the median of several rounds,
//! beside the ceiling of its broker that was measured in the same rounds.

mod beside;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::time::Duration;

/// Rounds of each row.
const ROUNDS: usize = 7;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let is_wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    println!("| row | jobs a second | min–max | |");
    println!("|---|---|---|---|");
    memory::run(&is_wanted);
    #[cfg(feature = "sqlite")]
    sqlite::run(&is_wanted);
    beside::run(&is_wanted);
}

/// A row: so many jobs in each of these times; what is said of it.
fn tell(name: &str, jobs: u32, mut times: Vec<Duration>, more: &str) -> f64 {
    times.sort();
    let rate = |time: Duration| f64::from(jobs) / time.as_secs_f64();
    let median = rate(median(&times));
    let (slowest, fastest) = (rate(times[times.len() - 1]), rate(times[0]));
    println!("| {name} | {median:.0} | {slowest:.0}–{fastest:.0} | {more} |");
    median
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}
