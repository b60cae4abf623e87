//! A process of a fleet, as the test that started it has it.

use crate::LONG;
use anthill_test_support::history::{Fault, Recorder, What};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A process of the fleet. Killed when it is dropped.
pub struct Member {
    /// Its name in the history.
    pub name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    recorder: Arc<Recorder>,
    is_over: bool,
    /// The file of its standard error.
    errors: PathBuf,
}

impl Member {
    /// Starts a command whose lines `> …` on standard output are what it says.
    pub(crate) fn start(
        mut command: Command,
        name: String,
        errors: PathBuf,
        recorder: Arc<Recorder>,
    ) -> Member {
        let file = File::create(&errors).expect("a file");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file);
        let mut child = command.spawn().expect("it starts");
        let out = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix("> ") {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        Member {
            name,
            stdin: child.stdin.take(),
            child,
            lines,
            recorder,
            is_over: false,
            errors,
        }
    }

    /// The next line that begins so; what follows it.
    #[track_caller]
    pub fn hear(&self, what: &str) -> String {
        self.hear_within(what, LONG)
            .unwrap_or_else(|| panic!("{} does not say {what:?}: {}", self.name, self.errors()))
    }

    /// Such a line, if it comes in time and before the process ends.
    pub fn hear_within(&self, what: &str, limit: Duration) -> Option<String> {
        let start = Instant::now();
        loop {
            match self
                .lines
                .recv_timeout(limit.saturating_sub(start.elapsed()))
            {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(what) {
                        return Some(rest.trim().to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// All that it has said and nobody has heard yet.
    pub fn rest(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// What it has said on standard error.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    fn fault(&self, fault: Fault) {
        self.recorder.record(What::Fault {
            of: self.name.clone(),
            fault,
        });
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a pid fits");
        // SAFETY: it takes two numbers; the process was not waited for.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.fault(Fault::Killed);
        self.child.kill().expect("it can be killed");
        self.wait();
    }

    /// Stops it with SIGSTOP.
    pub fn freeze(&self) {
        self.fault(Fault::Frozen);
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on that was [frozen](Self::freeze).
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
        self.recorder.record(What::Recovered {
            of: self.name.clone(),
        });
    }

    /// Stops it for a moment while it has no job, which is no fault.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on that was [paused](Self::pause).
    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    /// It does not reach the server from now on.
    pub fn is_cut_off(&self) {
        self.fault(Fault::CutOff);
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> ExitStatus {
        self.is_over = true;
        self.child.wait().expect("it can be waited for")
    }

    /// Waits until it is killed, by itself or by somebody; says whether it was, and did not end by itself.
    pub fn is_killed(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                self.is_over = true;
                assert!(
                    status.success() || status.signal() == Some(libc::SIGKILL),
                    "{}: {status}\n{}",
                    self.name,
                    self.errors()
                );
                return !status.success();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Whether it has not ended.
    pub fn is_there(&mut self) -> bool {
        let status = self.child.try_wait().expect("it can be waited for");
        self.is_over = status.is_some();
        status.is_none()
    }

    /// Says something to it.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it was not ended");
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .expect("it reads");
    }

    /// Ends it as it should end: it stops, and says how it went.
    #[track_caller]
    pub fn end(&mut self) -> Counts {
        drop(self.stdin.take());
        let status = self.wait();
        assert!(
            status.success(),
            "{}: {status}\n{}",
            self.name,
            self.errors()
        );
        let said = self
            .lines
            .iter()
            .filter_map(|line| Some(line.strip_prefix("stats ")?.to_owned()));
        said.last()
            .map_or(Counts::default(), |said| Counts::of(&said))
    }

    /// What a consumer counts now.
    pub fn counts(&mut self) -> Counts {
        self.tell("stats");
        Counts::of(&self.hear("stats "))
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a consumer has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that it claimed.
    pub claimed: u64,
    /// Jobs that it did.
    pub done: u64,
    /// Leases that it lost.
    pub lost: u64,
    /// Ends of which nobody knows whether they are stored.
    pub unconfirmed: u64,
    /// Jobs that it has.
    pub in_hand: u64,
}

impl Counts {
    fn of(said: &str) -> Counts {
        let mut each = said
            .split(' ')
            .map(|number| number.parse().expect("a number"));
        let mut next = || each.next().expect("five numbers");
        Counts {
            claimed: next(),
            done: next(),
            lost: next(),
            unconfirmed: next(),
            in_hand: next(),
        }
    }
}
