//! A private Redis server, on a free port, with its files in a folder of its own.
//!
//! 1. Its settings are the built-in ones but for those of [`Redis::start`]: no snapshots, the persistence that was
//!    asked for, and an append-only file that is rewritten only between measurements, so that a rewrite falls into
//!    nobody's turn.
//! 2. It is stopped when this is dropped; and when this program is killed, by the shell that started it and waits for
//!    that.
//! 3. Whoever gets an empty store ([`Redis::empty`]) is alone on it: the connections of all others have ended.
//! 4. All talk to it over TCP on 127.0.0.1, so that no driver has a shorter way than another.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};

use super::free_port;

/// What is lost when the machine loses power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// All.
    Off,
    /// The last second.
    #[default]
    EverySecond,
    /// Nothing: each write is on the disk before it is acknowledged.
    Always,
}

pub(crate) struct Redis {
    folder: PathBuf,
    persistence: Persistence,
    port: u16,
    /// The shell. Its standard input is closed when this program ends, however that is.
    guard: Child,
}

/// How long the server may take to start, to rewrite its file, or to see the end of a connection.
const PATIENCE: Duration = Duration::from_secs(30);

impl FromStr for Persistence {
    type Err = Error;

    fn from_str(word: &str) -> Result<Persistence> {
        match word {
            "off" => Ok(Persistence::Off),
            "everysec" => Ok(Persistence::EverySecond),
            "always" => Ok(Persistence::Always),
            _ => bail!("--persistence is one of off, everysec, always; not {word}"),
        }
    }
}

impl Redis {
    /// Starts one with its files in `folder`.
    pub(crate) fn make(folder: &Path, persistence: Persistence) -> Result<Redis> {
        for program in ["redis-server", "redis-cli", "redis-benchmark"] {
            let found = Command::new(program).arg("--version").output();
            ensure!(
                found.is_ok_and(|output| output.status.success()),
                "{program} is not installed (Debian's package `redis-server` has it)"
            );
        }
        fs::create_dir_all(folder)?;
        // Another process may take the port before the server has it.
        for _ in 0..4 {
            if let Ok(server) = Redis::start(folder, persistence, Duration::from_secs(5)) {
                return Ok(server);
            }
        }
        Redis::start(folder, persistence, PATIENCE)
    }

    fn start(folder: &Path, persistence: Persistence, within: Duration) -> Result<Redis> {
        let port = free_port()?;
        // A server in the background of a shell: its end is waited for, also if this program cannot.
        let script =
            "\"$@\" </dev/null & cat >/dev/null; kill $!; wait $!; rm -rf appendonlydir log";
        let (append, sync) = match persistence {
            Persistence::Off => ("no", "no"),
            Persistence::EverySecond => ("yes", "everysec"),
            Persistence::Always => ("yes", "always"),
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh", "redis-server"]);
        shell.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        shell.args(["--dir", ".", "--logfile", "log", "--daemonize", "no"]);
        shell.args(["--save", "", "--auto-aof-rewrite-percentage", "0"]);
        shell.args(["--appendonly", append, "--appendfsync", sync]);
        // Of a group of its own: what interrupts this program is not to end it.
        shell.process_group(0).current_dir(folder);
        shell.stdin(Stdio::piped());
        shell.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Redis {
            folder: folder.to_owned(),
            persistence,
            port,
            guard: shell.spawn().context("sh starts")?,
        };
        let until = Instant::now() + within;
        while !server.is_up() {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            ensure!(Instant::now() < until, "redis-server does not start: {log}");
            sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Whether this server answers, and not another one on the same port.
    fn is_up(&self) -> bool {
        let (Ok(answer), Ok(folder)) = (
            self.ask(&["CONFIG", "GET", "dir"]),
            self.folder.canonicalize(),
        ) else {
            return false;
        };
        answer
            .lines()
            .any(|line| Path::new(line) == folder.as_path())
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// One of the server's programs, which talks to this server.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.stdin(Stdio::null());
        command
    }

    /// What the server answers, a line for each element.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String> {
        let output = (self.program("redis-cli").arg("-e").args(words).output())
            .context("redis-cli starts")?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(
            output.status.success(),
            "{}: {text}{}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// A field of `INFO`.
    fn info(&self, section: &str, field: &str) -> Result<String> {
        let text = self.ask(&["INFO", section])?;
        let value = text.lines().find_map(|line| {
            let (name, value) = line.trim().split_once(':')?;
            (name == field).then(|| value.to_owned())
        });
        value.with_context(|| format!("INFO {section} has no {field}"))
    }

    /// Removes all keys, after those who were connected have gone: a worker that ends late would write into the next
    /// one's store.
    pub(crate) fn empty(&self) -> Result<()> {
        wait_for("the end of the last driver's connections", || {
            let clients = self.info("clients", "connected_clients")?;
            // The one that asks is one.
            Ok(clients == "1")
        })?;
        self.ask(&["FLUSHALL", "SYNC"])?;
        self.settle()
    }

    /// Brings the append-only file to what the keys need, so that what was written before is no burden of what comes next.
    pub(crate) fn settle(&self) -> Result<()> {
        if self.persistence == Persistence::Off {
            return Ok(());
        }
        let is_still = || {
            let is_on = self.info("persistence", "aof_rewrite_in_progress")?;
            Ok(is_on == "0" && self.info("persistence", "aof_rewrite_scheduled")? == "0")
        };
        wait_for("a rewrite", is_still)?;
        self.ask(&["BGREWRITEAOF"])?;
        wait_for("a rewrite", is_still)?;
        let status = self.info("persistence", "aof_last_bgrewrite_status")?;
        ensure!(status == "ok", "the rewrite: {status}");
        Ok(())
    }

    /// How often each command was called since [`Redis::forget_commands`], those that scripts call too, and its
    /// microseconds. What this harness asks is not among them.
    pub(crate) fn commands(&self) -> Result<Vec<(String, f64, f64)>> {
        Ok(commands(&self.ask(&["INFO", "commandstats"])?))
    }

    pub(crate) fn forget_commands(&self) -> Result<()> {
        self.ask(&["CONFIG", "RESETSTAT"]).map(drop)
    }

    pub(crate) fn version(&self) -> Result<String> {
        Ok(format!("Redis {}", self.info("server", "redis_version")?))
    }

    /// What was set, and what matters besides.
    pub(crate) fn settings(&self) -> Result<String> {
        let names =
            "appendonly appendfsync save auto-aof-rewrite-percentage maxmemory-policy io-threads";
        let mut words = vec!["CONFIG", "GET"];
        words.extend(names.split(' '));
        let answer = self.ask(&words)?;
        let lines: Vec<&str> = answer.lines().collect();
        let mut pairs: Vec<String> = (lines.chunks(2))
            .map(|pair| format!("{}={}", pair[0], pair.get(1).unwrap_or(&"")))
            .collect();
        pairs.sort();
        Ok(pairs.join(", "))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            eprintln!("the Redis server does not stop: {error}");
        }
    }
}

/// Asks again and again, until the answer is yes.
fn wait_for(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < until, "Redis: {what} takes too long");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Reads `INFO commandstats`.
fn commands(text: &str) -> Vec<(String, f64, f64)> {
    let number = |rest: &str, name: &str| -> Option<f64> {
        let mut pairs = rest.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(found, _)| *found == name)?.1.parse().ok()
    };
    let ours = ["config|resetstat", "info", "monitor"];
    let mut all: Vec<_> = (text.lines())
        .filter_map(|line| {
            let (name, rest) = line.trim().strip_prefix("cmdstat_")?.split_once(':')?;
            let (calls, time) = (number(rest, "calls")?, number(rest, "usec_per_call")?);
            (!ours.contains(&name)).then(|| (name.to_owned(), calls, time))
        })
        .collect();
    all.sort_by(|one, other| other.1.total_cmp(&one.1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_others_are_counted_and_those_of_the_harness_are_not() {
        let text = "# Commandstats\r\n\
            cmdstat_set:calls=5,usec=10,usec_per_call=2.00,rejected_calls=0,failed_calls=0\r\n\
            cmdstat_config|resetstat:calls=1,usec=91,usec_per_call=91.00,rejected_calls=0,failed_calls=0\r\n\
            cmdstat_monitor:calls=1,usec=3,usec_per_call=3.00,rejected_calls=0,failed_calls=0\r\n\
            cmdstat_client|setinfo:calls=7,usec=7,usec_per_call=1.50,rejected_calls=0,failed_calls=0\r\n";
        let found = commands(text);
        let wanted = [("client|setinfo", 7.0, 1.5), ("set", 5.0, 2.0)];
        assert_eq!(
            found,
            wanted.map(|(name, calls, time)| (name.to_owned(), calls, time))
        );
    }

    #[test]
    fn a_server_is_private_empty_and_as_durable_as_asked() -> Result<()> {
        if Command::new("redis-server")
            .arg("--version")
            .output()
            .is_err()
        {
            eprintln!("skipped: redis-server is not installed");
            return Ok(());
        }
        for (word, append, sync) in [
            ("off", "no", "no"),
            ("everysec", "yes", "everysec"),
            ("always", "yes", "always"),
        ] {
            let name = format!("job-peers-redis-{word}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            let server = Redis::make(&folder, word.parse()?)?;
            let settings = server.settings()?;
            let wanted = format!("appendfsync={sync}, appendonly={append}, ");
            assert!(settings.starts_with(&wanted), "{settings}");
            server.ask(&["SET", "left", "over"])?;
            server.empty()?;
            assert_eq!(server.ask(&["DBSIZE"])?, "0");
            server.forget_commands()?;
            server.ask(&["EVAL", "return redis.call('SET', 'a', 1)", "0"])?;
            let mut calls = server.commands()?;
            calls.sort_by(|one, other| one.0.cmp(&other.0));
            let names: Vec<_> = (calls.iter())
                .map(|(name, calls, _)| (name.as_str(), *calls))
                .collect();
            assert_eq!(names, [("eval", 1.0), ("set", 1.0)]);
            let address = server.address();
            drop(server);
            let port = address.rsplit(':').next().context("it has a port")?;
            assert!(
                std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err(),
                "nobody listens there any more"
            );
            fs::remove_dir_all(&folder)?;
        }
        Ok(())
    }
}
