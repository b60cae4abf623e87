//! A queue, and runs of the program on it.

use anthill_jobs::{ClaimRequest, Claimed, NewJob, Queue, Settle, Settled};
#[cfg(any(feature = "postgres", feature = "redis"))]
use anthill_test_support::missing::Missing;
#[cfg(feature = "postgres")]
use anthill_test_support::postgres;
#[cfg(feature = "redis")]
use anthill_test_support::redis;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Far more than any run here takes.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A folder with a queue's file in it, once something is enqueued; or a database or server with a queue.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    /// For `--queue`.
    pub(crate) address: String,
}

/// Tests that hold for the queues of each engine.
macro_rules! on_each_engine {
    ($($test:ident)+) => {
        mod sqlite {
            $(#[test]
            fn $test() {
                super::$test(&$crate::place::Place::with_queue());
            })+
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[test]
            fn $test() {
                use anthill_test_support::skip_unless;
                super::$test(&skip_unless!($crate::place::Place::postgres()));
            })+
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(#[test]
            fn $test() {
                use anthill_test_support::skip_unless;
                super::$test(&skip_unless!($crate::place::Place::redis()));
            })+
        }
    };
}
pub(crate) use on_each_engine;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let address = folder.path().join("jobs.db").display().to_string();
        Place { folder, address }
    }

    /// One with a queue, which is empty.
    pub(crate) fn with_queue() -> Place {
        let place = Place::new();
        place.queue();
        place
    }

    /// A database of its own with a queue, which is empty.
    #[cfg(feature = "postgres")]
    pub(crate) fn postgres() -> Result<Place, Missing> {
        let place = Place::postgres_without_tables()?;
        place.queue();
        Ok(place)
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres_without_tables() -> Result<Place, Missing> {
        let server = postgres::shared()?;
        let address = server.url_of(&server.fresh_database());
        Ok(Place {
            address,
            ..Place::new()
        })
    }

    /// A queue in Redis, which is empty.
    #[cfg(feature = "redis")]
    pub(crate) fn redis() -> Result<Place, Missing> {
        let place = Place::redis_without_queue()?;
        place.queue();
        Ok(place)
    }

    /// A prefix of its own, in the database 1, where nobody looks who takes no notice of what an address says.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_without_queue() -> Result<Place, Missing> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static PREFIXES: AtomicU32 = AtomicU32::new(0);
        let prefix = PREFIXES.fetch_add(1, Ordering::Relaxed);
        Ok(Place {
            address: format!("{}1?prefix=place_{prefix}", redis::shared()?.url()),
            ..Place::new()
        })
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("jobs.db")
    }

    pub(crate) fn files(&self) -> usize {
        self.folder.path().read_dir().unwrap().count()
    }

    /// Opens the queue; creates it if it does not exist.
    pub(crate) fn queue(&self) -> Queue {
        #[cfg(feature = "postgres")]
        if self.address.starts_with("postgres:") {
            return anthill_postgres::open(&self.address).unwrap();
        }
        #[cfg(feature = "redis")]
        if self.address.starts_with("redis:") {
            return anthill_redis::open(&self.address).unwrap();
        }
        Queue::open(&format!("sqlite:{}", self.address)).unwrap()
    }

    /// Without an address.
    pub(crate) fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anthill-jobs"));
        command
            .env_remove("ANTHILL_QUEUE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = Place::command();
        command.arg("--queue").arg(&self.address).args(args);
        command.spawn().unwrap()
    }

    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Run {
        let mut child = self.start(args);
        // One that fails early does not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        finish(child)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, "")
    }

    /// A run that may have so many mebibytes of data in memory.
    #[cfg(target_os = "linux")]
    pub(crate) fn run_within(&self, mebibytes: u64, args: &[&str]) -> Run {
        use std::os::unix::process::CommandExt;
        let limit = libc::rlimit {
            rlim_cur: mebibytes << 20,
            rlim_max: mebibytes << 20,
        };
        let mut command = Place::command();
        command.arg("--queue").arg(self.file()).args(args);
        let set = move || {
            // SAFETY: it only reads what it is given.
            match unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: that call may be made between a fork and an exec.
        unsafe { command.pre_exec(set) };
        finish(command.spawn().unwrap())
    }

    /// The output of a run that ends well, and says nothing else.
    #[track_caller]
    pub(crate) fn text(&self, args: &[&str]) -> String {
        self.run(args).well()
    }

    /// The document of such a run.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let run = self.run(&[&["--json"], args].concat());
        document(&run.well())
    }

    #[track_caller]
    pub(crate) fn count(&self, of: &str) -> u64 {
        self.json(&["stats"])[of].as_u64().unwrap()
    }

    /// Enqueues a job; its id.
    #[track_caller]
    pub(crate) fn enqueue(&self, args: &[&str], input: &str) -> String {
        let run = self.run_with(&[&["enqueue"], args].concat(), input);
        let out = run.well();
        let (id, what) = out.trim_end().split_once(' ').unwrap();
        assert_eq!(what, "added");
        id.to_owned()
    }

    /// Enqueues so many; their ids.
    pub(crate) fn enqueue_some(&self, jobs: usize) -> Vec<String> {
        let lines: String = (0..jobs).map(|job| job.to_string() + "\n").collect();
        let run = self.run_with(&["enqueue", "number", "--lines"], &lines);
        let ids = run.well();
        ids.lines().map(|line| line[..36].to_owned()).collect()
    }

    pub(crate) fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.queue()
            .as_broker()
            .claim(&ClaimRequest::new(limit, MINUTE))
            .unwrap()
            .jobs
    }

    /// Makes the next jobs dead.
    pub(crate) fn bury(&self, limit: usize, why: &str) -> Vec<String> {
        let claimed = self.claim(limit);
        let end = |job: &Claimed| {
            let error = why.to_owned();
            (job.lease.clone(), Settle::Dead { error })
        };
        let ends: Vec<_> = claimed.iter().map(end).collect();
        assert!(
            self.queue()
                .as_broker()
                .settle(&ends)
                .unwrap()
                .iter()
                .all(|end| end.is_stored())
        );
        claimed
            .iter()
            .map(|job| job.lease.id().to_string())
            .collect()
    }

    /// Enqueues a job whose result is kept, and does it.
    pub(crate) fn keep_a_result(&self) -> String {
        let mut job = NewJob::new("sum", b"[1, 2]".to_vec());
        job.keep_result = Some(MINUTE);
        job.priority = i16::MAX;
        self.queue().as_broker().enqueue(&[job]).unwrap();
        let lease = self.claim(1)[0].lease.clone();
        let result = b"{\"sum\": 3}".to_vec();
        let done = (lease.clone(), Settle::Done { result });
        assert_eq!(
            self.queue().as_broker().settle(&[done]).unwrap(),
            [Settled::Stored]
        );
        lease.id().to_string()
    }
}

impl Run {
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// What it said on standard error.
    #[track_caller]
    pub(crate) fn ill(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.starts_with("error: "), "{}", self.err);
        self.err
    }
}

#[track_caller]
pub(crate) fn document(out: &str) -> Value {
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(out).unwrap()
}

/// The object of each line.
#[track_caller]
pub(crate) fn objects(out: &str) -> Vec<Value> {
    out.lines().map(document).collect()
}

pub(crate) fn ids(objects: &[Value]) -> Vec<&str> {
    objects
        .iter()
        .map(|job| job["id"].as_str().unwrap())
        .collect()
}

/// Fails if it does not end.
pub(crate) fn finish(child: Child) -> Run {
    let (send, ended) = channel();
    thread::spawn(move || send.send(child.wait_with_output()));
    let Output {
        status,
        stdout,
        stderr,
    } = ended.recv_timeout(DEADLINE).expect("it ends").unwrap();
    Run {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}
