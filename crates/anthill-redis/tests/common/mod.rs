//! What the tests of networks and openings share: queues of their own, jobs without meaning, and looks at a server through
//! another client than the crate's.

#![allow(dead_code, reason = "each test uses some of it")]

pub(crate) mod line;
pub(crate) mod users;
pub(crate) mod wire;

use anthill_jobs::broker::{Admin, Change, Listener, Subscription};
use anthill_jobs::{
    Broker, ClaimRequest, Claimed, Enqueued, JobId, Lease, NewJob, QueueError, QueueStats, Settle,
};
use anthill_redis::{RedisBroker, RedisBuilder};
use anthill_test_support::redis::{Raw, Value};
use anthill_test_support::{becomes_true, eventually};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

/// Longer than any test takes.
pub(crate) const LEASE: Duration = Duration::from_secs(600);

/// By how much a call may be later than its timeout: the threads of a busy machine have to get their turn.
pub(crate) const GRACE: Duration = Duration::from_secs(8);

/// A name that no other queue of this process has.
pub(crate) fn fresh() -> String {
    static QUEUES: AtomicU32 = AtomicU32::new(0);
    format!(
        "q{}_{}",
        std::process::id(),
        QUEUES.fetch_add(1, Ordering::Relaxed)
    )
}

/// A handle that shares nothing with others.
pub(crate) fn builder(address: &str, queue: &str) -> RedisBuilder {
    RedisBroker::builder(address).queue(queue).alone()
}

#[track_caller]
pub(crate) fn open(address: &str, queue: &str) -> RedisBroker {
    builder(address, queue)
        .open()
        .expect("the queue can be opened")
}

/// A key of a queue.
pub(crate) fn key(queue: &str, name: &str) -> String {
    format!("{{anthill:{queue}}}:{name}")
}

/// A job whose data is its name.
pub(crate) fn job(name: impl Into<String>) -> NewJob {
    NewJob::new("test", name.into().into_bytes())
}

pub(crate) fn jobs(number: usize) -> Vec<NewJob> {
    (0..number).map(|number| job(number.to_string())).collect()
}

#[track_caller]
pub(crate) fn enqueue(broker: &RedisBroker, jobs: &[NewJob]) -> Vec<Enqueued> {
    let enqueued = broker.enqueue(jobs).expect("they are enqueued");
    let enqueued = enqueued.into_iter().map(|one| one.expect("it is enqueued"));
    enqueued.collect()
}

pub(crate) fn request(limit: usize, lease: Duration) -> ClaimRequest {
    let kinds: Arc<[String]> = vec!["test".to_owned()].into();
    ClaimRequest::new(limit, lease).of_kinds(kinds)
}

#[track_caller]
pub(crate) fn claim(broker: &RedisBroker, limit: usize) -> Vec<Claimed> {
    let claimed = broker.claim(&request(limit, LEASE));
    claimed.expect("the claim succeeds").jobs
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
pub(crate) fn try_finish(broker: &RedisBroker, jobs: &[Claimed]) -> Result<usize, QueueError> {
    let ends: Vec<_> = jobs.iter().map(done).collect();
    let settled = broker.settle(&ends)?;
    Ok(settled.into_iter().filter(|one| one.is_stored()).count())
}

#[track_caller]
pub(crate) fn finish(broker: &RedisBroker, jobs: &[Claimed]) -> usize {
    try_finish(broker, jobs).expect("the settlement succeeds")
}

#[track_caller]
pub(crate) fn stats(broker: &RedisBroker) -> QueueStats {
    broker.stats().expect("the queue can be looked at")
}

/// Counts what a broker tells, by where it came from.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    pub(crate) here: Arc<AtomicUsize>,
    pub(crate) elsewhere: Arc<AtomicUsize>,
}

pub(crate) fn ear(broker: &RedisBroker, poll: Duration) -> (Heard, Subscription) {
    let heard = Heard::default();
    let counts = heard.clone();
    let listener = Listener::new(poll, move |change| {
        match change {
            Change::Here => &counts.here,
            Change::Elsewhere => &counts.elsewhere,
            _ => return,
        }
        .fetch_add(1, Ordering::SeqCst);
    });
    let subscription = broker.subscribe(listener).expect("it listens");
    (heard, subscription)
}

/// Makes changes until one is heard of, soon after.
#[track_caller]
pub(crate) fn hears(heard: &Heard, mut change: impl FnMut()) {
    eventually("it hears of a change", || {
        let before = heard.elsewhere.load(Ordering::SeqCst);
        change();
        becomes_true(Duration::from_millis(300), || {
            heard.elsewhere.load(Ordering::SeqCst) > before
        })
    });
}

/// How many clients that are this crate's are connected to a server.
pub(crate) fn clients(raw: &mut Raw) -> usize {
    let list = raw.run(&["CLIENT", "LIST"]).text();
    // The caller is one, too: each that is no call of these tests has sent a script or a subscription last.
    list.lines()
        .filter(|line| !line.contains("cmd=client"))
        .filter(|line| !line.contains("flags=S") && !line.contains("flags=M"))
        .filter(|line| !line.contains("flags=O"))
        .count()
}

/// All that a queue holds, but for the time of its last look.
pub(crate) fn contents(raw: &mut Raw, queue: &str) -> BTreeMap<String, Vec<String>> {
    let pattern = format!("{{anthill:{queue}}}:*");
    let mut all = BTreeMap::new();
    for name in raw.run(&["KEYS", &pattern]).array() {
        let name = name.text();
        let values = if raw.run(&["TYPE", &name]).text() == "hash" {
            raw.run(&["HGETALL", &name]).array()
        } else {
            raw.run(&["ZRANGE", &name, "0", "-1", "WITHSCORES"]).array()
        };
        let time = Value::Bulk(b"m".to_vec());
        let pairs = values.chunks(2).filter(|pair| pair[0] != time);
        let mut pairs: Vec<String> = pairs.map(|pair| format!("{pair:?}")).collect();
        pairs.sort();
        all.insert(name, pairs);
    }
    all
}

/// What each thread of a fleet has seen of each job: by its id, how often its end was stored and how often nobody knows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stored: u32,
    pub(crate) unknown: u32,
    pub(crate) lost: u32,
}

/// Works on a queue until `is_over` says so and nothing is left: claims, settles, and settles again what failed.
pub(crate) fn work(
    broker: &RedisBroker,
    lease: Duration,
    is_over: &(dyn Fn() -> bool + Sync),
) -> BTreeMap<JobId, Ends> {
    let mut ends: BTreeMap<JobId, Ends> = BTreeMap::new();
    loop {
        let was_over = is_over();
        let claimed = match broker.claim(&request(5, lease)) {
            Ok(claims) => claims.jobs,
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                continue;
            }
        };
        if claimed.is_empty() {
            if was_over {
                return ends;
            }
            thread::sleep(Duration::from_millis(2));
            continue;
        }
        let settle: Vec<_> = claimed.iter().map(done).collect();
        let mut failed = false;
        let settled = loop {
            match broker.settle(&settle) {
                Ok(settled) => break settled,
                Err(error) => {
                    assert!(error.is_transient(), "{error:?}");
                    failed = true;
                }
            }
        };
        for (job, settled) in claimed.iter().zip(settled) {
            let end = ends.entry(job.lease.id()).or_default();
            if settled.is_stored() {
                end.stored += 1;
            } else if failed {
                end.unknown += 1;
            } else {
                end.lost += 1;
            }
        }
    }
}

/// Runs threads at once, and returns what each returned.
pub(crate) fn at_once<T: Send>(number: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(number);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..number)
            .map(|each| {
                let (barrier, run) = (&barrier, &run);
                scope.spawn(move || {
                    barrier.wait();
                    run(each)
                })
            })
            .collect();
        let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
        ended.map(|one| one.expect("no panic")).collect()
    })
}

/// Says that it is over, also when a test fails: threads that go on until then would hold it up.
pub(crate) struct Over<'f>(pub(crate) &'f AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
