//! Sixteen threads do all that there is at once, with batches in different orders, shared unique keys and a limit per key: the
//! server sees no deadlock, no job is lost or done twice, and no key is above its limit.

mod support;

use anthill_jobs::broker::{Admin, LimitStore};
use anthill_jobs::{
    Broker, ClaimRequest, Claimed, Enqueued, JobId, JobState, Limits, ListRequest, NewJob,
    QueueError, Settle,
};
use anthill_postgres::PostgresBroker;
use anthill_test_support::postgres::{Fsync, Options};
use anthill_test_support::{seeded_rng, skip_unless, within};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::{job, open, stats};

const KEYS: usize = 6;
const UNIQUES: usize = 8;
const PER_KEY: i64 = 2;

/// What all threads do together.
struct Shared {
    brokers: Vec<PostgresBroker>,
    over: AtomicBool,
    /// How often each job was added, and how often it ended: an id may be used again when its job is gone.
    added: Mutex<HashMap<JobId, u64>>,
    ended: Mutex<HashMap<JobId, u64>>,
    done: AtomicI64,
    /// Of these some are enqueued again, in another order.
    recent: Mutex<Vec<NewJob>>,
    /// How many jobs of each key run, as their consumers know.
    running: [AtomicI64; KEYS],
    /// Claimed by somebody, settled or extended by anybody.
    held: Mutex<Vec<Claimed>>,
    calls: AtomicI64,
}

impl Shared {
    /// The answer of a call. None gives way to another one.
    #[track_caller]
    fn ok<T>(&self, answer: Result<T, QueueError>) -> T {
        self.calls.fetch_add(1, Ordering::Relaxed);
        answer.unwrap_or_else(|error| panic!("{error:?}"))
    }

    fn end(&self, id: JobId) {
        *self.ended.lock().unwrap().entry(id).or_default() += 1;
    }

    fn key_of(job: &Claimed) -> Option<usize> {
        let name = job.headers.get("key")?;
        name.parse().ok()
    }

    fn starts(&self, job: &Claimed) {
        if let Some(key) = Shared::key_of(job) {
            let now = self.running[key].fetch_add(1, Ordering::SeqCst) + 1;
            assert!(now <= PER_KEY, "{now} jobs with the key {key} run");
        }
    }

    fn stops(&self, job: &Claimed) {
        if let Some(key) = Shared::key_of(job) {
            self.running[key].fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn enqueue(&self, broker: &PostgresBroker, rng: &mut StdRng) {
        let mut batch: Vec<NewJob> = (0..rng.random_range(1..12)).map(|_| new(rng)).collect();
        {
            let mut recent = self.recent.lock().unwrap();
            if rng.random_bool(0.3) {
                batch.extend(recent.choose_multiple(rng, 5).cloned());
            }
            recent.extend(batch.iter().take(2).cloned());
            let surplus = recent.len().saturating_sub(60);
            recent.drain(..surplus);
        }
        batch.shuffle(rng);
        let answers = self.ok(broker.enqueue(&batch));
        let added = answers.into_iter().filter_map(|answer| match answer {
            Ok(Enqueued::Added(id)) => Some(id),
            _ => None,
        });
        let mut counts = self.added.lock().unwrap();
        for id in added {
            *counts.entry(id).or_default() += 1;
        }
    }

    fn claim(&self, broker: &PostgresBroker, rng: &mut StdRng) {
        let kinds: Arc<[String]> = match rng.random_range(0..3) {
            0 => vec!["a".to_owned()].into(),
            1 => vec!["b".to_owned(), "a".to_owned()].into(),
            _ => vec!["b".to_owned()].into(),
        };
        let limit = rng.random_range(1..15);
        let request = ClaimRequest::new(limit, support::LEASE).of_kinds(kinds);
        let claims = self.ok(broker.claim(&request));
        for job in &claims.jobs {
            self.starts(job);
        }
        self.held.lock().unwrap().extend(claims.jobs);
    }

    fn take_held(&self, rng: &mut StdRng) -> Vec<Claimed> {
        let mut held = self.held.lock().unwrap();
        held.shuffle(rng);
        let from = held.len().saturating_sub(rng.random_range(1..12));
        held.split_off(from)
    }

    fn settle(&self, broker: &PostgresBroker, rng: &mut StdRng) {
        let jobs = self.take_held(rng);
        let end = |rng: &mut StdRng| match rng.random_range(0..10) {
            0 => Settle::Retry {
                delay: Duration::from_millis(rng.random_range(0..3)),
                error: "again".to_owned(),
            },
            1 => Settle::Release {
                delay: Duration::from_millis(rng.random_range(0..3)),
            },
            2 => Settle::Dead {
                error: "dead".to_owned(),
            },
            _ => Settle::Done { result: Vec::new() },
        };
        let ends: Vec<_> = jobs
            .iter()
            .map(|job| (job.lease.clone(), end(rng)))
            .collect();
        // Before the call: the next one with the key may start at once.
        for job in &jobs {
            self.stops(job);
        }
        let settled = self.ok(broker.settle(&ends));
        for ((lease, end), settled) in ends.iter().zip(settled) {
            assert!(settled.is_stored(), "{lease:?} is held");
            if matches!(end, Settle::Done { .. }) {
                self.end(lease.id());
                self.done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Extends leases that somebody else may settle at the same time.
    fn extend(&self, broker: &PostgresBroker, rng: &mut StdRng) {
        let mut leases: Vec<_> = {
            let held = self.held.lock().unwrap();
            held.iter().map(|job| job.lease.clone()).collect()
        };
        leases.shuffle(rng);
        leases.truncate(20);
        self.ok(broker.extend(&leases, support::LEASE));
    }

    fn operate(&self, broker: &PostgresBroker, rng: &mut StdRng) {
        let some = |state, rng: &mut StdRng| -> Option<JobId> {
            let request = ListRequest::new(state).limit(20).data(0);
            let jobs = self.ok(broker.list(&request));
            jobs.choose(rng).map(|job| job.id)
        };
        match rng.random_range(0..6) {
            0 => {
                let state = *JobState::WAITING.choose(rng).unwrap();
                let Some(id) = some(state, rng) else { return };
                if self.ok(broker.cancel(id)) {
                    self.end(id);
                }
            }
            1 => {
                if let Some(id) = some(JobState::Dead, rng) {
                    self.ok(broker.retry_dead(id));
                }
            }
            2 => {
                let ids = [some(JobState::Ready, rng), some(JobState::Delayed, rng)];
                let ids: Vec<JobId> = ids.into_iter().flatten().collect();
                let delay = Duration::from_millis(rng.random_range(0..3));
                self.ok(broker.set_due(&ids, delay));
            }
            3 => {
                let running = rng.random_bool(0.3).then(|| rng.random_range(20..60));
                self.ok(broker.set_limits(limits(running)));
            }
            4 => {
                let Some(id) = some(JobState::Dead, rng) else {
                    return;
                };
                if self.ok(broker.delete(id)) {
                    self.end(id);
                }
            }
            _ => {
                self.ok(broker.stats());
            }
        }
    }
}

fn limits(running: Option<u32>) -> Limits {
    Limits {
        running,
        per_key: u32::try_from(PER_KEY).ok(),
        ..Limits::default()
    }
}

fn new(rng: &mut StdRng) -> NewJob {
    let mut new = job("");
    new.kind = if rng.random() { "a" } else { "b" }.into();
    new.priority = rng.random_range(-1..=1);
    if rng.random_bool(0.2) {
        new.delay = Duration::from_millis(rng.random_range(1..5));
    }
    if rng.random_bool(0.3) {
        new.unique = Some(format!("unique {}", rng.random_range(0..UNIQUES)));
        new.debounce = rng.random_bool(0.3);
    }
    if rng.random_bool(0.5) {
        let key = rng.random_range(0..KEYS);
        new.key = Some(format!("key {key}"));
        new.headers.insert("key".to_owned(), key.to_string());
    }
    new
}

#[test]
fn nobody_waits_in_a_circle_and_nothing_is_lost() {
    const THREADS: usize = 16;
    let time = Duration::from_secs(8);
    let options = Options::new(Fsync::Off).set("deadlock_timeout", "200ms");
    let server = skip_unless!(options.start());
    let address = server.url();
    let mut seeds = seeded_rng("nobody_waits_in_a_circle_and_nothing_is_lost");
    let first = open(&address);
    first.set_limits(limits(None)).unwrap();
    let shared = Arc::new(Shared {
        brokers: (0..4)
            .map(|_| {
                let builder = PostgresBroker::builder(&address).alone();
                builder.timeout(Duration::from_secs(60)).open().unwrap()
            })
            .collect(),
        over: AtomicBool::new(false),
        added: Mutex::default(),
        ended: Mutex::default(),
        recent: Mutex::default(),
        running: Default::default(),
        held: Mutex::default(),
        calls: AtomicI64::new(0),
        done: AtomicI64::new(0),
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let shared = Arc::clone(&shared);
            let mut rng = StdRng::seed_from_u64(seeds.random());
            thread::spawn(move || {
                let broker = &shared.brokers[number % shared.brokers.len()];
                while !shared.over.load(Ordering::SeqCst) {
                    match rng.random_range(0..100) {
                        0..25 => shared.enqueue(broker, &mut rng),
                        25..50 => shared.claim(broker, &mut rng),
                        50..80 => shared.settle(broker, &mut rng),
                        80..90 => shared.extend(broker, &mut rng),
                        _ => shared.operate(broker, &mut rng),
                    }
                }
            })
        })
        .collect();
    thread::sleep(time);
    shared.over.store(true, Ordering::SeqCst);
    within(Duration::from_secs(120), "the threads end", move || {
        for thread in threads {
            thread.join().expect("no call fails");
        }
    });
    let log = server.log();
    for trouble in [
        "deadlock detected",
        "could not serialize",
        "out of shared memory",
    ] {
        assert!(!log.contains(trouble), "{trouble}");
    }

    // All that is left ends.
    let broker = &shared.brokers[0];
    broker.set_limits(limits(None)).unwrap();
    let mut rng = StdRng::seed_from_u64(seeds.random());
    let begin = Instant::now();
    loop {
        for job in broker.list(&ListRequest::new(JobState::Dead)).unwrap() {
            if broker.delete(job.id).unwrap() {
                shared.end(job.id);
            }
        }
        shared.claim(broker, &mut rng);
        let held = std::mem::take(&mut *shared.held.lock().unwrap());
        for job in &held {
            shared.stops(job);
        }
        let ends: Vec<_> = held.iter().map(support::done).collect();
        for (job, settled) in held.iter().zip(broker.settle(&ends).unwrap()) {
            assert!(settled.is_stored());
            shared.end(job.lease.id());
            shared.done.fetch_add(1, Ordering::Relaxed);
        }
        let left = stats(broker);
        if left.ready + left.delayed + left.parked + left.running + left.dead == 0 {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{left:?}");
    }
    let (added, ended) = (shared.added.lock().unwrap(), shared.ended.lock().unwrap());
    let lost = added
        .iter()
        .filter(|(id, times)| ended.get(id) != Some(times));
    assert_eq!(lost.count(), 0, "jobs that did not end, or too often");
    assert_eq!(added.len(), ended.len(), "a job that nobody enqueued");
    let stats = stats(broker);
    assert_eq!(stats.enqueued, added.values().sum::<u64>());
    let done = shared.done.load(Ordering::Relaxed).unsigned_abs();
    assert_eq!((stats.done, stats.lost_leases), (done, 0));
    let calls = shared.calls.load(Ordering::Relaxed);
    eprintln!(
        "{calls} calls, {} jobs enqueued, {done} done, {} removed, {} duplicates, 0 lost, 0 deadlocks",
        stats.enqueued, stats.removed, stats.duplicates
    );
}
