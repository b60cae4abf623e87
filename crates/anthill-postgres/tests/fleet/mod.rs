//! A fleet: processes that enqueue, consume, and die, in front of a queue in a database of its own; and the books at the end.
//!
//! A test is a [`Stage`], which starts [`Member`]s: this test binary again, in a role that the environment tells (see
//! [`roles`]). Each records what it asks the broker and what that answers into the stage's history (see [`recorded`]). At the
//! end the stage drains the queue, tells what is left, and the checker judges: what was acknowledged is done, nothing ran that
//! was not enqueued, no stale lease was settled, no key was above its limit, and whatever ran twice has a reason.

pub(crate) mod recorded;
pub(crate) mod roles;

use anthill_jobs::{JobState, Queue, QueueStats};
use anthill_postgres::PostgresBroker;
use anthill_test_support::history::{self, Fault, Left, Recorder, Report, Rules, What};
use anthill_test_support::postgres::Access;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) use roles::LONG;

/// A queue, and what happened to its jobs.
pub(crate) struct Stage<'s> {
    pub(crate) access: &'s Access,
    pub(crate) database: String,
    pub(crate) folder: TempDir,
    /// The recorder of this process.
    pub(crate) recorder: Arc<Recorder>,
    members: AtomicU32,
}

/// A process of the fleet. Killed when it is dropped.
pub(crate) struct Member {
    pub(crate) name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    recorder: Arc<Recorder>,
    is_over: bool,
    folder: std::path::PathBuf,
}

impl<'s> Stage<'s> {
    pub(crate) fn new(access: &'s Access) -> Stage<'s> {
        anthill_test_support::set_alarm();
        let folder = tempfile::tempdir().expect("a folder");
        let recorder = Recorder::append_to(folder.path().join("history"), "lead");
        let stage = Stage {
            access,
            database: access.fresh_database(),
            folder,
            recorder: Arc::new(recorder.expect("a file")),
            members: AtomicU32::new(0),
        };
        drop(stage.queue());
        stage
    }

    pub(crate) fn url(&self) -> String {
        self.access.url_of(&self.database)
    }

    /// Through something else, such as a proxy.
    pub(crate) fn url_through(&self, address: SocketAddr) -> String {
        self.access.url_through(address, &self.database)
    }

    pub(crate) fn broker(&self) -> PostgresBroker {
        PostgresBroker::open(&self.url()).expect("it can be opened")
    }

    /// The queue, of which nothing is recorded.
    pub(crate) fn queue(&self) -> Queue {
        Queue::of(self.broker())
    }

    pub(crate) fn sql(&self, statements: &str) -> String {
        let answer = self.access.sql(&self.database, statements);
        answer.unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// Starts a process. `told` is what it is to know beside its role, by name.
    pub(crate) fn start(&self, role: &str, told: &[(&str, String)]) -> Member {
        self.start_by(Command::new(this_binary()), role, told)
    }

    /// Starts a process by a command that runs this binary.
    pub(crate) fn start_by(
        &self,
        mut command: Command,
        role: &str,
        told: &[(&str, String)],
    ) -> Member {
        let number = self.members.fetch_add(1, Ordering::SeqCst);
        let name = format!("{role}-{number}");
        let errors = self.folder.path().join(format!("{name}.err"));
        let errors = std::fs::File::create(errors).expect("a file");
        command
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("ANTHILL_ROLE", role)
            .env("ANTHILL_BY", &name)
            .env("ANTHILL_FOLDER", self.folder.path())
            .env("ANTHILL_URL", self.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        for (key, value) in told {
            command.env(format!("ANTHILL_{key}"), value);
        }
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
            recorder: Arc::clone(&self.recorder),
            is_over: false,
            folder: self.folder.path().to_owned(),
        }
    }

    /// Enqueues a parcel, which may wait for a file, from this process.
    pub(crate) fn enqueue(&self, number: u64, until: Option<&str>) {
        let queue = self.queue();
        let parcel = roles::Parcel {
            number,
            until: until.map(str::to_owned),
        };
        let mut job = roles::draft(&queue, number);
        job.payload = queue.encode(&parcel).expect("it can be written").payload;
        recorded::enqueueing(&self.recorder, std::iter::once(job.id));
        let answer = queue.enqueue_new(&job);
        recorded::enqueued(&self.recorder, job.id, answer.as_ref().copied());
        answer.expect("the server is there");
    }

    /// Makes the file for which some handlers wait.
    pub(crate) fn let_run(&self, until: &str) {
        std::fs::write(self.folder.path().join(until), "").expect("a file");
    }

    /// Waits until no job is left that may run.
    pub(crate) fn await_drained(&self) -> QueueStats {
        let queue = self.queue();
        let start = Instant::now();
        loop {
            let stats = queue.stats().expect("the server is there");
            if stats.ready + stats.running + stats.delayed + stats.parked == 0 {
                return stats;
            }
            assert!(
                start.elapsed() < LONG,
                "what is left comes to no end: {stats:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets one more consumer run all that is left, and judges.
    pub(crate) fn drain_and_judge(&self, rules: &Rules) -> (Report, QueueStats) {
        let mut last = self.start(
            "consume",
            &[("WORKERS", "4".to_owned()), ("WORK_US", "0".to_owned())],
        );
        self.await_drained();
        last.end();
        self.judge(rules)
    }

    /// Tells what is left, and judges. No process runs any more.
    pub(crate) fn judge(&self, rules: &Rules) -> (Report, QueueStats) {
        let queue = self.queue();
        let each_state = [
            (JobState::Dead, Left::Dead),
            (JobState::Done, Left::Done),
            (JobState::Ready, Left::Waiting),
            (JobState::Delayed, Left::Waiting),
            (JobState::Parked, Left::Waiting),
            (JobState::Running, Left::Waiting),
        ];
        for (state, left) in each_state {
            let jobs = queue
                .list(state, None, usize::MAX)
                .expect("the server is there");
            for job in jobs {
                self.recorder.record(What::Left {
                    job: job.id.to_string(),
                    state: left,
                });
            }
        }
        self.recorder.record(What::Drained);
        let history = history::read([self.folder.path().join("history")]);
        let report = history.expect("it can be read").check(rules);
        let stats = queue.stats().expect("the server is there");
        (report, stats)
    }

    /// Prints the books, and holds them to what the broker says.
    #[track_caller]
    pub(crate) fn balance(what: &str, (report, stats): &(Report, QueueStats)) {
        let books = &report.books;
        eprintln!("{what}: {books}");
        report.assert_valid();
        assert_eq!(books.lost, 0);
        assert_eq!(books.waiting, 0, "{stats:?}");
        assert_eq!(books.unexplained, 0);
        assert!(books.enqueued > 0, "nothing was proven");
        // A job that was enqueued again when it was done, and gone, was done again.
        let done = books.done as u64;
        assert!(
            stats.done >= done && stats.enqueued == stats.done + stats.dead + stats.removed,
            "{stats:?}, {books}"
        );
        assert!(
            stats.enqueued >= (books.enqueued + books.appeared) as u64,
            "{stats:?}"
        );
    }
}

pub(crate) fn this_binary() -> std::path::PathBuf {
    std::env::current_exe().expect("it knows where it is")
}

impl Member {
    /// The next line that begins so; what follows it.
    #[track_caller]
    pub(crate) fn hear(&self, what: &str) -> String {
        self.hear_within(what, LONG)
            .unwrap_or_else(|| panic!("{} does not say {what:?}: {}", self.name, self.errors()))
    }

    /// Such a line, if it comes in time and before the process ends.
    pub(crate) fn hear_within(&self, what: &str, limit: Duration) -> Option<String> {
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

    /// Whether it has ended, and all that it has said and nobody has heard yet.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    fn errors(&self) -> String {
        let errors = self.folder.join(format!("{}.err", self.name));
        std::fs::read_to_string(errors).unwrap_or_default()
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

    pub(crate) fn kill(&mut self) {
        self.fault(Fault::Killed);
        self.child.kill().expect("it can be killed");
        self.wait();
    }

    /// Stops it with SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.fault(Fault::Frozen);
        self.signal(libc::SIGSTOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(libc::SIGCONT);
        self.recorder.record(What::Recovered {
            of: self.name.clone(),
        });
    }

    /// Stops it for a moment while it has no job, which is no fault.
    pub(crate) fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    /// It does not reach the server from now on.
    pub(crate) fn is_cut_off(&self) {
        self.fault(Fault::CutOff);
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.is_over = true;
        self.child.wait().expect("it can be waited for")
    }

    /// Waits until it is killed, by itself or by somebody; says whether it was, and did not end by itself.
    pub(crate) fn is_killed(&mut self, limit: Duration) -> bool {
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

    /// Says something to it.
    pub(crate) fn tell(&mut self, line: &str) {
        use std::io::Write;
        let stdin = self.stdin.as_mut().expect("it was not ended");
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .expect("it reads");
    }

    /// Ends it as it should end: it stops, and says how it went.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Counts {
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
    pub(crate) fn counts(&mut self) -> Counts {
        self.tell("stats");
        Counts::of(&self.hear("stats "))
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
pub(crate) struct Counts {
    pub(crate) claimed: u64,
    pub(crate) done: u64,
    pub(crate) lost: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) in_hand: u64,
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
