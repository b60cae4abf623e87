//! The stage of a test: a queue, the processes that work on it, and the verdict.

use crate::roles::{self, Parcel};
use crate::{Engine, LONG, Member, recorded, this_binary};
use anthill_jobs::{JobState, Queue, QueueStats};
use anthill_test_support::history::{self, Left, Recorder, Report, Rules, What};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a call of this process may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A queue, and what happened to its jobs.
pub struct Stage<E> {
    url: String,
    folder: TempDir,
    recorder: Arc<Recorder>,
    members: AtomicU32,
    engine: PhantomData<fn() -> E>,
}

impl<E: Engine> Stage<E> {
    /// In front of the queue at an address, which is made if it is not there.
    pub fn new(url: impl Into<String>) -> Self {
        anthill_test_support::set_alarm();
        let folder = tempfile::tempdir().expect("a folder");
        let recorder = Recorder::append_to(folder.path().join("history"), "lead");
        let stage = Self {
            url: url.into(),
            folder,
            recorder: Arc::new(recorder.expect("a file")),
            members: AtomicU32::new(0),
            engine: PhantomData,
        };
        drop(stage.queue());
        stage
    }

    /// The queue's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder of the history, of what processes say on standard error, and of the files for which handlers wait.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The recorder of this process.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// A broker of which nothing is recorded.
    pub fn broker(&self) -> E::Broker {
        E::open(&self.url, TIMEOUT).expect("it can be opened")
    }

    /// The queue, of which nothing is recorded.
    pub fn queue(&self) -> Queue {
        Queue::of(self.broker())
    }

    /// Starts a process. `told` is what it is to know beside its role, by name.
    pub fn start(&self, role: &str, told: &[(&str, String)]) -> Member {
        self.start_by(Command::new(this_binary()), role, told)
    }

    /// Starts a process by a command that runs this binary.
    pub fn start_by(&self, mut command: Command, role: &str, told: &[(&str, String)]) -> Member {
        let number = self.members.fetch_add(1, Ordering::SeqCst);
        let name = format!("{role}-{number}");
        command
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("ANTHILL_ROLE", role)
            .env("ANTHILL_BY", &name)
            .env("ANTHILL_FOLDER", self.folder.path())
            .env("ANTHILL_URL", &self.url);
        for (key, value) in told {
            command.env(format!("ANTHILL_{key}"), value);
        }
        let errors = self.folder.path().join(format!("{name}.err"));
        Member::start(command, name, errors, Arc::clone(&self.recorder))
    }

    /// Enqueues a parcel, which may wait for a file, from this process.
    pub fn enqueue(&self, number: u64, until: Option<&str>) {
        let queue = self.queue();
        let parcel = Parcel {
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
    pub fn let_run(&self, until: &str) {
        std::fs::write(self.folder.path().join(until), "").expect("a file");
    }

    /// Waits until no job is left that may run.
    pub fn await_drained(&self) -> QueueStats {
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
    pub fn drain_and_judge(&self, rules: &Rules) -> (Report, QueueStats) {
        let mut last = self.start(
            "consume",
            &[("WORKERS", "4".to_owned()), ("WORK_US", "0".to_owned())],
        );
        self.await_drained();
        last.end();
        self.judge(rules)
    }

    /// Tells what is left, and judges. No process runs any more.
    pub fn judge(&self, rules: &Rules) -> (Report, QueueStats) {
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
}

impl<E> fmt::Debug for Stage<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("folder", &self.folder.path())
            .finish_non_exhaustive()
    }
}

/// Prints the books, and holds them to what the broker says.
#[track_caller]
pub fn balance(what: &str, (report, stats): &(Report, QueueStats)) {
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
