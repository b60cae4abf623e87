//! What the suite of all brokers cannot ask for: the file, the transactions, the plans.

mod beside;
mod commit;
mod details;
mod file;
mod queue;
mod retention;
mod version2;
mod within;

use super::connection::Access;
use super::tx::Tx;
use super::{
    SqliteBroker, claim, connection, enqueue, keys, kinds, read, settle as ends, sweep, tx,
};
use crate::broker::{Admin, Change, LimitStore, Listener};
use crate::{
    Broker, ClaimRequest, Claims, Clock, Enqueued, JobId, JobState, Lease, Limits, ListRequest,
    NewJob, QueueError, Settle,
};
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("jobs.db")
    }

    fn open(&self) -> SqliteBroker {
        self.open_with(&Clock::manual())
    }

    fn open_with(&self, clock: &Clock) -> SqliteBroker {
        SqliteBroker::open(self.file(), "q", clock.clone()).unwrap()
    }

    fn connect(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }
}

fn job() -> NewJob {
    NewJob::new("kind", b"{}".to_vec())
}

fn jobs(limit: usize) -> Vec<NewJob> {
    (0..limit).map(|_| job()).collect()
}

fn keyed(key: &str) -> NewJob {
    NewJob {
        key: Some(key.to_owned()),
        ..job()
    }
}

fn ids(claims: &Claims) -> Vec<JobId> {
    claims.jobs.iter().map(|job| job.lease.id()).collect()
}

/// The lease of the first job.
fn lease_of(claims: &Claims) -> Lease {
    claims.jobs[0].lease.clone()
}

fn claim_one(broker: &SqliteBroker) -> Lease {
    lease_of(&broker.claim(&ClaimRequest::new(1, MINUTE)).unwrap())
}

/// Enqueues one job. Returns how that ended.
fn add(broker: &SqliteBroker, job: &NewJob) -> Enqueued {
    let answers = broker.enqueue(std::slice::from_ref(job)).unwrap();
    *answers[0].as_ref().unwrap()
}

/// Settles jobs. Returns for each whether its lease was held.
fn settle(broker: &SqliteBroker, ends: &[(Lease, Settle)]) -> Vec<bool> {
    let settled = broker.settle(ends).unwrap();
    settled.into_iter().map(crate::Settled::is_stored).collect()
}

/// Extends leases by a minute. Returns for each whether it was held.
fn extend(broker: &SqliteBroker, leases: &[Lease]) -> Vec<bool> {
    let extended = broker.extend(leases, MINUTE).unwrap();
    extended.iter().map(|one| one.held().is_some()).collect()
}

fn transactions(broker: &SqliteBroker) -> u64 {
    broker.store.group.transactions.load(Ordering::Relaxed)
}

/// The counts in the queue's row are those of its jobs, and what SQLite checks holds.
fn audit(folder: &Folder, broker: &SqliteBroker) {
    let connection = folder.connect();
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    let stats = broker
        .read(|connection, now| read::stats(connection, broker.queue, now))
        .unwrap();
    let counts = [
        stats.ready,
        stats.delayed,
        stats.parked,
        stats.running,
        stats.dead,
        stats.results,
    ];
    for (state, count) in JobState::ALL.into_iter().zip(counts) {
        let found = "SELECT count(*) FROM anthill_jobs WHERE queue = ?1 AND state = ?2";
        let found: i64 = connection
            .query_row(found, [broker.queue, tx::number(state)], |row| row.get(0))
            .unwrap();
        assert_eq!(u64::try_from(found).unwrap(), count, "{state:?}");
    }
}

type Call<T> = Box<dyn FnOnce(&SqliteBroker) -> T + Send>;

/// Runs all of these at the same time, so that they share a transaction.
fn together<T: Send>(broker: &SqliteBroker, calls: Vec<Call<T>>) -> Vec<T> {
    let count = calls.len();
    let writer = broker.store.group.hold();
    thread::scope(|scope| {
        let handles: Vec<_> = calls
            .into_iter()
            .map(|call| scope.spawn(move || call(broker)))
            .collect();
        // The first one leads, and has left the line.
        while broker.store.group.waiting() < count - 1 {
            thread::yield_now();
        }
        drop(writer);
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .collect()
    })
}

fn release() -> Settle {
    let delay = Duration::ZERO;
    Settle::Release { delay }
}

fn done() -> Settle {
    Settle::Done {
        result: b"1".to_vec(),
    }
}
