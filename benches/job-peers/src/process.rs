//! Drivers as processes: none outlives the harness's wish, and one that hangs is ended.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A driver that runs. It is killed when this is dropped.
pub(crate) struct Driver {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Driver {
    pub(crate) fn start(mut command: Command, name: &str) -> Result<Driver> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} starts"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("it is piped")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Driver {
            name: name.to_owned(),
            child,
            input,
            lines,
        })
    }

    /// The next line that starts with `word`, without it; what comes before is passed over.
    pub(crate) fn line(&self, word: &str, until: Instant) -> Result<String> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(word) {
                        return Ok(rest.trim().to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("{}: no `{word}` in time", self.name),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{}: ended without `{word}`", self.name)
                }
            }
        }
    }

    /// Asks for an answer.
    pub(crate) fn ask(&mut self) -> Result<()> {
        let input = self.input.as_mut().context("it is open")?;
        writeln!(input).with_context(|| format!("{} listens", self.name))
    }

    /// Waits for its end, which is to be a success.
    pub(crate) fn finish(mut self, within: Duration) -> Result<()> {
        drop(self.input.take());
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{}: {status}", self.name);
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "{}: does not end in time",
                self.name
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
