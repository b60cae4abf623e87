//! The broker in an `SQLite` file, beside what that commits by itself: a bare loop with the same settings that stores the same data.

use crate::{ROUNDS, tell};
use anthill_jobs::{Broker, ClaimRequest, Clock, NewJob, Settle, SqliteBroker, rusqlite};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const JOBS: u32 = 500;
const THREADS: u32 = 16;
const DATA: &[u8] = br#"{"path":"/srv/pictures/2026/11/26/DSC_0001.JPG","width":320}"#;
const LEASE: Duration = Duration::from_secs(30);

pub(crate) fn run(is_wanted: &dyn Fn(&str) -> bool) {
    if is_wanted("sqlite: against its ceiling") {
        against_the_ceiling();
    }
    for queued in [1_000, 10_000, 100_000, 1_000_000] {
        let name = format!("sqlite: with {queued} queued");
        if is_wanted(&name) {
            with_queued(&name, queued);
        }
    }
}

pub(crate) fn open(folder: &Path) -> SqliteBroker {
    SqliteBroker::open(folder.join("jobs.db"), "default", Clock::system()).expect("a new file")
}

fn job() -> NewJob {
    NewJob::new("thumbnail", DATA.to_vec())
}

/// A folder on the disk that has the build, not in a memory that is made to look like one.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target"))
        .expect("there is room")
}

/// All of it in turn, round by round: disks have moods.
fn against_the_ceiling() {
    let (mut bare, mut one, mut many, mut cycle) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let place = folder();
        bare.push(commits(place.path()));
        let broker = open(place.path());
        one.push(timed(|| (0..JOBS).for_each(|_| enqueue(&broker))));
        cycle.push(timed(|| {
            for _ in 0..JOBS {
                let claimed = broker
                    .claim(&ClaimRequest::new(1, LEASE))
                    .expect("it works")
                    .jobs
                    .remove(0);
                let result = b"null".to_vec();
                let settled = broker.settle(&[(claimed.lease, Settle::Done { result })]);
                assert!(settled.expect("it works")[0].is_stored());
            }
        }));
        many.push(timed(|| {
            let left = AtomicU32::new(JOBS * THREADS);
            let takes = || {
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
            };
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        while takes().is_ok() {
                            enqueue(&broker);
                        }
                    });
                }
            });
        }));
    }
    let ceiling = tell("sqlite: bare commits", JOBS, bare, "the ceiling");
    let ratio = |rate: f64| format!("{:.2} of the ceiling", rate / ceiling);
    let say = |name, jobs, times: Vec<Duration>| {
        let median = crate::median(&times);
        let more = ratio(f64::from(jobs) / median.as_secs_f64());
        tell(name, jobs, times, &more);
    };
    say("sqlite: enqueue, 1 thread", JOBS, one);
    say("sqlite: enqueue, 16 threads", JOBS * THREADS, many);
    say(
        "sqlite: claim and settle, 1 thread, two commits each",
        JOBS,
        cycle,
    );
}

fn enqueue(broker: &SqliteBroker) {
    broker.enqueue(&[job()]).expect("it works");
}

fn commits(folder: &Path) -> Duration {
    let connection = rusqlite::Connection::open(folder.join("bare.db")).expect("a new file");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE job (id INTEGER PRIMARY KEY, uuid BLOB NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL)",
        )
        .expect("it is SQL");
    timed(|| {
        for _ in 0..JOBS {
            let job = job();
            connection
                .execute_batch("BEGIN IMMEDIATE")
                .expect("nobody else is there");
            let mut insert = (connection
                .prepare_cached("INSERT INTO job (uuid, kind, payload) VALUES (?, ?, ?)"))
            .expect("it is SQL");
            let row = (job.id.as_bytes().as_slice(), &*job.kind, &job.payload);
            insert.execute(row).expect("it fits");
            connection.execute_batch("COMMIT").expect("there is room");
        }
    })
}

/// A job goes through beside so many that wait.
fn with_queued(name: &str, queued: u32) {
    let place = folder();
    let broker = open(place.path());
    for _ in 0..queued / 1_000 {
        let jobs: Vec<NewJob> = (0..1_000).map(|_| job()).collect();
        broker.enqueue(&jobs).expect("it works");
    }
    let round = |_| {
        timed(|| {
            for _ in 0..JOBS {
                enqueue(&broker);
                let claimed = broker
                    .claim(&ClaimRequest::new(1, LEASE))
                    .expect("it works")
                    .jobs
                    .remove(0);
                let result = b"null".to_vec();
                broker
                    .settle(&[(claimed.lease, Settle::Done { result })])
                    .expect("it works");
            }
        })
    };
    tell(
        name,
        JOBS,
        (0..ROUNDS).map(round).collect(),
        "enqueue, claim, settle: three commits",
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
