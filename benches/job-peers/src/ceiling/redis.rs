//! What the server does by itself with one job, by `redis-benchmark`: a script with the writes of an enqueue.
//!
//! 1. What the script stands for is told in `redis.lua`. The values have the lengths of a job's; they are text, since
//!    `redis-benchmark` cannot send all bytes.
//! 2. Each call writes another job: the keys are counted afterwards.

use anyhow::{Context, Result, ensure};

use crate::server::redis::Redis;

const SCRIPT: &str = include_str!("redis.lua");
const KEYS: [&str; 5] = [
    "{ceiling}:jobs",
    "{ceiling}:data",
    "{ceiling}:ready",
    "{ceiling}:counts",
    "{ceiling}:conf",
];
/// `redis-benchmark` puts twelve random digits there.
const ID: &str = "job-__rand_int__";
/// The bytes of a record without a key.
const RECORD: usize = 83;
/// The bytes of a payload of the drivers.
const PAYLOAD: usize = 88;

/// Calls a second, one job in each.
pub(crate) fn rate(server: &Redis, clients: usize, calls: usize) -> Result<f64> {
    server.empty()?;
    let digest = server.ask(&["SCRIPT", "LOAD", SCRIPT])?;
    let (clients, count) = (clients.to_string(), calls.to_string());
    let (record, payload) = ("r".repeat(RECORD), "p".repeat(PAYLOAD));
    let mut command = server.program("redis-benchmark");
    command.args(["-c", &clients, "-n", &count, "-r", "2000000000", "-q"]);
    command.args(["EVALSHA", &digest, "5"]).args(KEYS);
    command.args([ID, &record, &payload]);
    let output = command.output().context("redis-benchmark starts")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "redis-benchmark says: {said}");
    let found = rate_of(&said).with_context(|| format!("redis-benchmark says: {said}"))?;
    let written: usize = server.ask(&["HLEN", KEYS[0]])?.parse()?;
    // It may begin a call more for each client; two of its numbers may be the same.
    ensure!(
        written >= calls - calls / 100,
        "{written} of {calls} jobs were written"
    );
    Ok(found)
}

/// The rate in what `redis-benchmark -q` prints: progress, each over the last, and then the result.
fn rate_of(said: &str) -> Option<f64> {
    let before = said.rsplit_once(" requests per second")?.0;
    before.rsplit([' ', '\r', '\n']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_told_from_the_progress() {
        let said = "EVALSHA a 5 {c}:1: rps=0.0 (overall: 0.0) avg_msec=nan (overall: nan)\r\
            EVALSHA a 5 {c}:1: rps=9.5 (overall: 8.5) avg_msec=0.1 (overall: 0.1)\r\
            EVALSHA a 5 {c}:1: 31800.25 requests per second, p50=0.127 msec\n\n";
        assert_eq!(rate_of(said), Some(31_800.25));
        assert_eq!(rate_of("ERR: no such script"), None);
    }
}
