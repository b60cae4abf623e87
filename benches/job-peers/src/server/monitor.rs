//! Counts the requests that clients send to a Redis server, by `MONITOR`: a script is one, whatever it calls.
//! (`INFO commandstats` counts what a script calls as well, and does not say which those were.)
//!
//! It slows the server down, so it is for what is not timed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::redis::Redis;

/// Counts from when it is made until it is dropped.
pub(crate) struct Monitor {
    child: Child,
    requests: Arc<AtomicU32>,
}

impl Monitor {
    pub(crate) fn start(server: &Redis) -> Result<Monitor> {
        let mut child = (server.program("redis-cli").arg("MONITOR"))
            .stdout(Stdio::piped())
            .spawn()
            .context("redis-cli starts")?;
        let output = child.stdout.take().context("it is piped")?;
        let requests = Arc::new(AtomicU32::new(0));
        let monitor = Monitor {
            child,
            requests: Arc::clone(&requests),
        };
        let (sender, begun) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line == "OK" {
                    // Nobody may wait for it any more.
                    let _ = sender.send(());
                } else if is_request(&line) {
                    requests.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let answer = begun.recv_timeout(Duration::from_secs(10));
        ensure!(answer.is_ok(), "the server does not let itself be watched");
        Ok(monitor)
    }

    /// How many there were so far.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a line is of a client: `TIME [DATABASE ADDRESS] "WORD" ..`, where a script's has `lua` for the address.
fn is_request(line: &str) -> bool {
    let Some((_, rest)) = line.split_once(" [") else {
        return false;
    };
    let Some((from, _)) = rest.split_once("] ") else {
        return false;
    };
    !from.ends_with(" lua")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_calls_is_no_request() {
        for (line, wanted) in [
            (
                r#"1796083200.104 [0 127.0.0.1:41818] "EVALSHA" "abc" "0""#,
                true,
            ),
            (
                r#"1796083200.104 [0 lua] "SET" "a" "[0 127.0.0.1:1] ""#,
                false,
            ),
            (
                r#"1796083200.105 [0 127.0.0.1:41818] "SET" "[0 lua] " "b""#,
                true,
            ),
            ("OK", false),
        ] {
            assert_eq!(is_request(line), wanted, "{line}");
        }
    }
}
