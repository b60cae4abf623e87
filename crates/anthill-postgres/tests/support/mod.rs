//! What the tests of this crate share: a database of their own on the server of the process, and jobs without meaning.

#![allow(dead_code, reason = "each test uses some of it")]

pub(crate) mod pooler;

use anthill_jobs::broker::{Admin, Change, Listener, Subscription};
use anthill_jobs::{
    Broker, ClaimRequest, Claimed, Enqueued, JobId, Lease, NewJob, QueueStats, Settle,
};
use anthill_postgres::PostgresBroker;
use anthill_postgres::postgres::{Client, NoTls};
use anthill_test_support::postgres::Access;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) const LEASE: Duration = Duration::from_secs(600);

/// The address of an empty database.
pub(crate) fn fresh(server: &Access) -> String {
    server.url_of(&server.fresh_database())
}

#[track_caller]
pub(crate) fn open(address: &str) -> PostgresBroker {
    PostgresBroker::open(address).expect("the queue can be opened")
}

#[track_caller]
pub(crate) fn client(address: &str) -> Client {
    Client::connect(address, NoTls).expect("the server is there")
}

/// A job whose data is its name.
pub(crate) fn job(name: impl Into<String>) -> NewJob {
    NewJob::new("test", name.into().into_bytes())
}

pub(crate) fn jobs(number: usize) -> Vec<NewJob> {
    (0..number).map(|number| job(number.to_string())).collect()
}

#[track_caller]
pub(crate) fn enqueue(broker: &PostgresBroker, jobs: &[NewJob]) -> Vec<Enqueued> {
    let enqueued = broker.enqueue(jobs).expect("they are enqueued");
    let enqueued = enqueued.into_iter().map(|one| one.expect("it is enqueued"));
    enqueued.collect()
}

#[track_caller]
pub(crate) fn claim(broker: &PostgresBroker, limit: usize) -> Vec<Claimed> {
    let kinds: Arc<[String]> = vec!["test".to_owned()].into();
    let request = ClaimRequest::new(limit, LEASE).of_kinds(kinds);
    broker.claim(&request).expect("the claim succeeds").jobs
}

pub(crate) fn names(jobs: &[Claimed]) -> Vec<String> {
    let name = |job: &Claimed| String::from_utf8(job.payload.clone()).expect("a name");
    jobs.iter().map(name).collect()
}

pub(crate) fn done(job: &Claimed) -> (Lease, Settle) {
    let result = b"null".to_vec();
    (job.lease.clone(), Settle::Done { result })
}

/// Settles jobs as done; returns how many were held.
#[track_caller]
pub(crate) fn finish(broker: &PostgresBroker, jobs: &[Claimed]) -> usize {
    let ends: Vec<_> = jobs.iter().map(done).collect();
    let settled = broker.settle(&ends).expect("the settlement succeeds");
    settled.into_iter().filter(|one| one.is_stored()).count()
}

#[track_caller]
pub(crate) fn stats(broker: &PostgresBroker) -> QueueStats {
    broker.stats().expect("the queue can be looked at")
}

pub(crate) fn ids(jobs: &[NewJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// Counts what a broker tells of others.
pub(crate) fn ear(broker: &PostgresBroker, poll: Duration) -> (Arc<AtomicUsize>, Subscription) {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let listener = Listener::new(poll, move |change| {
        if change == Change::Elsewhere {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let subscription = broker.subscribe(listener).expect("it listens");
    (heard, subscription)
}
