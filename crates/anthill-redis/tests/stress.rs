//! Several processes of several threads do all that there is at once, with batches in different orders, shared unique keys and
//! keys, limits that change, and leases that end. The invariants of the queue hold between any two calls, no job is lost or done
//! twice, and no key is above its limit.
//!
//! `ANTHILL_STRESS` is how many steps each thread does; 400 by default.
#![cfg(unix)]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;
mod support;

use anthill_fleet_support::recorded::{Fuse, KEY, Recorded};
use anthill_fleet_support::roles::{say, told};
use anthill_fleet_support::{LONG, Member};
use anthill_jobs::broker::{Admin, LimitStore, Retention};
use anthill_jobs::{
    Broker, ClaimRequest, Claimed, Enqueued, JobId, JobState, Limits, ListRequest, NewJob, OncePer,
    QueueError, QueueStats, Rate, Settle,
};
use anthill_redis::RedisBroker;
use anthill_test_support::history::{Recorder, Rules, What};
use anthill_test_support::redis::{Persistence, Server};
use anthill_test_support::{seeded_rng, skip_unless};
use fleet::{Own, Stage};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::invariants;

const PROCESSES: u64 = 3;
const THREADS: u64 = 3;
const KEYS: usize = 5;
const UNIQUES: usize = 8;
const PER_KEY: u32 = 2;

/// A lease that ends only with its job.
const LEASE: Duration = Duration::from_secs(600);

#[test]
fn child() {
    fleet::child(&[("stress", stress)]);
}

/// What the threads of a process do together.
struct Shared {
    broker: Recorded<RedisBroker>,
    /// Of these some are enqueued again, in another order.
    recent: Mutex<Vec<NewJob>>,
    /// Claimed by somebody, settled or extended by anybody; and whether the lease is a long one.
    held: Mutex<Vec<(Claimed, bool)>>,
    added: AtomicU64,
    done: AtomicU64,
    full: AtomicU64,
    /// Ends that came too late.
    late: AtomicU64,
}

fn stress() {
    let own = Own::open();
    let url: String = told("URL").expect("an address");
    let mut broker = Arc::clone(&own.broker);
    if told("QUICK") == Some(0) {
        let builder = RedisBroker::builder(&url).without_quick_scripts();
        broker = Arc::new(builder.open().expect("it can be opened"));
    }
    let shared = Shared::new(broker, Arc::clone(&own.recorder), Arc::clone(&own.fuse));
    let seed: u64 = told("SEED").expect("a seed");
    let steps: u64 = told("STEPS").expect("a number");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let shared = &shared;
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(seed.wrapping_add(thread));
                for _ in 0..steps {
                    shared.step(&mut random);
                }
            });
        }
    });
    shared.settle_all();
    let counts = [&shared.added, &shared.done, &shared.full, &shared.late];
    let [added, done, full, late] = counts.map(|count| count.load(Ordering::SeqCst));
    say(&format!("counted {added} {done} {full} {late}"));
}

impl Shared {
    fn new(broker: Arc<RedisBroker>, recorder: Arc<Recorder>, fuse: Arc<Fuse>) -> Shared {
        Shared {
            broker: Recorded {
                broker,
                recorder,
                fuse,
            },
            recent: Mutex::default(),
            held: Mutex::default(),
            added: AtomicU64::new(0),
            done: AtomicU64::new(0),
            full: AtomicU64::new(0),
            late: AtomicU64::new(0),
        }
    }

    fn step(&self, random: &mut StdRng) {
        match random.random_range(0..100) {
            0..25 => self.enqueue(random),
            25..50 => self.claim(random),
            50..78 => self.settle(random),
            78..86 => self.extend(random),
            86..90 => self.progress(random),
            _ => self.operate(random),
        }
    }

    fn admin(&self) -> &RedisBroker {
        &self.broker.broker
    }

    /// Somebody is about to take these away.
    fn removing(&self, ids: impl IntoIterator<Item = JobId>) {
        for id in ids {
            let job = id.to_string();
            self.broker.recorder.record(What::Removing { job });
        }
    }

    fn enqueue(&self, random: &mut StdRng) {
        let number = random.random_range(1..12);
        let is_plain = random.random_bool(0.3);
        let mut batch: Vec<NewJob> = (0..number).map(|_| new(random, is_plain)).collect();
        {
            let mut recent = self.recent.lock().unwrap();
            if random.random_bool(0.3) {
                batch.extend(recent.choose_multiple(random, 5).cloned());
            }
            recent.extend(batch.iter().take(2).cloned());
            let surplus = recent.len().saturating_sub(60);
            recent.drain(..surplus);
        }
        batch.shuffle(random);
        let expire = batch.iter().filter(|job| job.expires.is_some());
        self.removing(expire.map(|job| job.id));
        match self.broker.enqueue(&batch) {
            Ok(answers) => {
                let added = answers
                    .into_iter()
                    .filter(|answer| matches!(answer, Ok(Enqueued::Added(_))));
                self.added.fetch_add(added.count() as u64, Ordering::SeqCst);
            }
            Err(QueueError::Full { .. }) => {
                self.full.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn claim(&self, random: &mut StdRng) {
        let kinds: Option<Arc<[String]>> = match random.random_range(0..4) {
            0 => Some(vec!["a".to_owned()].into()),
            1 => Some(vec!["b".to_owned(), "a".to_owned()].into()),
            2 => Some(vec!["b".to_owned(), "none such".to_owned()].into()),
            _ => None,
        };
        let is_long = random.random_bool(0.8);
        let lease = if is_long {
            LEASE
        } else {
            Duration::from_millis(random.random_range(3..60))
        };
        let mut request = ClaimRequest::new(random.random_range(1..15), lease);
        request.kinds = kinds;
        request.fragile = random.random_bool(0.7);
        let claims = self.broker.claim(&request).expect("no call fails");
        let mut held = self.held.lock().unwrap();
        for job in claims.jobs {
            // Some are forgotten, and come again.
            if is_long || random.random_bool(0.8) {
                held.push((job, is_long));
            }
        }
    }

    fn settle(&self, random: &mut StdRng) {
        let jobs = {
            let mut held = self.held.lock().unwrap();
            held.shuffle(random);
            let from = held.len().saturating_sub(random.random_range(1..12));
            let mut jobs = held.split_off(from);
            // Most short leases are over by then, and their jobs others'.
            let (now, later) = jobs
                .drain(..)
                .partition(|(_, is_long)| *is_long || random.random_bool(0.2));
            held.extend::<Vec<_>>(later);
            now
        };
        let jobs: Vec<(Claimed, bool)> = jobs;
        let only_done = random.random_bool(0.5);
        let end = |random: &mut StdRng| match random.random_range(0..10) {
            _ if only_done => done(),
            0 => Settle::Retry {
                delay: Duration::from_millis(random.random_range(0..3)),
                error: "again".to_owned(),
            },
            1 => Settle::Release {
                delay: Duration::from_millis(random.random_range(0..3)),
            },
            2 => Settle::Dead {
                error: "dead".to_owned(),
            },
            _ => done(),
        };
        let ends: Vec<_> = jobs.into_iter().map(|job| (job, end(random))).collect();
        self.settle_as(&ends);
    }

    fn settle_as(&self, jobs: &[((Claimed, bool), Settle)]) {
        let ends: Vec<_> = jobs
            .iter()
            .map(|((job, _), end)| (job.lease.clone(), end.clone()))
            .collect();
        let settled = self.broker.settle(&ends).expect("no call fails");
        for (((job, is_long), end), settled) in jobs.iter().zip(settled) {
            assert!(
                settled.is_stored() || !is_long,
                "{:?} is held: {end:?}",
                job.lease
            );
            if !settled.is_stored() {
                self.late.fetch_add(1, Ordering::SeqCst);
            } else if matches!(end, Settle::Done { .. }) {
                self.done.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn settle_all(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let ends: Vec<_> = held.into_iter().map(|job| (job, done())).collect();
        self.settle_as(&ends);
    }

    /// Extends leases that somebody else may settle at the same time.
    fn extend(&self, random: &mut StdRng) {
        let mut leases: Vec<_> = {
            let held = self.held.lock().unwrap();
            held.iter()
                .map(|(job, is_long)| (job.lease.clone(), *is_long))
                .collect()
        };
        leases.shuffle(random);
        leases.truncate(20);
        for is_long in [true, false] {
            let some = leases.iter().filter(|(_, long)| *long == is_long);
            let some: Vec<_> = some.map(|(lease, _)| lease.clone()).collect();
            let time = if is_long {
                LEASE
            } else {
                Duration::from_millis(50)
            };
            self.broker.extend(&some, time).expect("no call fails");
        }
    }

    fn progress(&self, random: &mut StdRng) {
        let lease = {
            let held = self.held.lock().unwrap();
            held.choose(random).map(|(job, _)| job.lease.clone())
        };
        if let Some(lease) = lease {
            let said = self.broker.progress(&lease, b"half");
            said.expect("no call fails");
        }
    }

    fn operate(&self, random: &mut StdRng) {
        let admin = self.admin();
        let list = |state| {
            let request = ListRequest::new(state).limit(20).data(1_000);
            admin.list(&request).expect("no call fails")
        };
        let some = |state, random: &mut StdRng| list(state).choose(random).map(|job| job.id);
        match random.random_range(0..12) {
            0 => {
                let state = *JobState::WAITING.choose(random).unwrap();
                let Some(id) = some(state, random) else {
                    return;
                };
                self.removing([id]);
                admin.cancel(id).unwrap();
            }
            1 => {
                if let Some(id) = some(JobState::Running, random) {
                    self.removing([id]);
                    admin.cancel_running(id).unwrap();
                }
            }
            2 | 3 => {
                if let Some(id) = some(JobState::Dead, random) {
                    let job = id.to_string();
                    self.broker.recorder.record(What::Again { job });
                    admin.retry_dead(id).unwrap();
                }
            }
            4 => {
                let ids = [
                    some(JobState::Ready, random),
                    some(JobState::Delayed, random),
                    some(JobState::Parked, random),
                ];
                let ids: Vec<JobId> = ids.into_iter().flatten().collect();
                let delay = Duration::from_millis(random.random_range(0..3));
                admin.set_due(&ids, delay).unwrap();
            }
            5 => {
                let state = *[JobState::Dead, JobState::Done].choose(random).unwrap();
                if let Some(id) = some(state, random) {
                    self.removing([id]);
                    admin.delete(id).unwrap();
                }
            }
            6 => {
                let jobs = list(*[JobState::Ready, JobState::Dead].choose(random).unwrap());
                let jobs = &jobs[..jobs.len().min(3)];
                self.removing(jobs.iter().map(|job| job.id));
                admin.remove_unchanged(jobs).unwrap();
            }
            7 | 8 => {
                let running = random.random_bool(0.3).then(|| random.random_range(20..60));
                let per_key = random.random_range(1..=PER_KEY);
                let rate = random.random_bool(0.2).then_some(Rate {
                    jobs: 5_000,
                    per: Duration::from_secs(1),
                    burst: 20,
                });
                let limits = Limits {
                    running,
                    per_key: Some(per_key),
                    rate,
                    max_ready: random.random_bool(0.2).then_some(200),
                };
                admin.set_limits(limits).unwrap();
            }
            9 => {
                let done = random.random_bool(0.5);
                let time = Duration::from_millis(random.random_range(0..50));
                let retention = Retention::default();
                let retention = if done {
                    retention.done(time)
                } else {
                    retention
                };
                admin.set_retention(retention).unwrap();
            }
            10 => {
                admin.set_paused(true).unwrap();
                admin.set_paused(false).unwrap();
            }
            _ => {
                admin.stats().unwrap();
                admin.ready_kinds().unwrap();
            }
        }
    }
}

fn done() -> Settle {
    let result = b"1".to_vec();
    Settle::Done { result }
}

fn new(random: &mut StdRng, is_plain: bool) -> NewJob {
    let mut new = NewJob::new("a", b"null".to_vec());
    new.priority = random.random_range(-1..=1);
    new.attempts = random.random_range(1..8);
    if is_plain {
        return new;
    }
    new.kind = if random.random() { "a" } else { "b" }.into();
    if random.random_bool(0.2) {
        new.delay = Duration::from_millis(random.random_range(1..5));
    }
    if random.random_bool(0.2) {
        new.expires = Some(Duration::from_millis(random.random_range(1..500)));
    }
    if random.random_bool(0.2) {
        new.keep_result = Some(Duration::from_millis(random.random_range(0..2_000)));
    }
    if random.random_bool(0.1) {
        new.headers.insert("odd".to_owned(), "header".to_owned());
    }
    if random.random_bool(0.02) {
        new.payload = vec![b' '; 70_000];
    }
    // Whoever debounces a job changes its headers and not its key, so both follow from the unique key.
    let mut key = random.random_range(0..2 * KEYS);
    if random.random_bool(0.3) {
        let unique = random.random_range(0..UNIQUES);
        key = unique;
        let unique = format!("unique {unique}");
        if random.random_bool(0.3) {
            let period = Duration::from_millis(random.random_range(1..100));
            let key = if random.random() {
                unique.clone()
            } else {
                "once".to_owned()
            };
            new.once_per = Some(OncePer { key, period });
        }
        new.debounce = random.random_bool(0.3);
        new.unique = Some(unique);
    }
    if key < KEYS {
        let key = format!("key {key}");
        new.headers.insert(KEY.to_owned(), key.clone());
        new.key = Some(key);
    }
    new
}

fn is_empty(stats: &QueueStats) -> bool {
    stats.ready + stats.delayed + stats.parked + stats.running + stats.dead == 0
}

#[test]
fn invariants_hold_between_any_two_calls_and_nothing_is_lost() {
    let steps = std::env::var("ANTHILL_STRESS").unwrap_or_else(|_| "400".to_owned());
    let server = skip_unless!(Server::start(Persistence::Off));
    let stage = Stage::new(&server);
    let mut random = seeded_rng("invariants_hold_between_any_two_calls_and_nothing_is_lost");
    let limits = Limits {
        per_key: Some(PER_KEY),
        ..Limits::default()
    };
    stage.broker().set_limits(limits).unwrap();
    let mut members: Vec<Member> = (0..PROCESSES)
        .map(|number| {
            let told = [
                ("SEED", random.random::<u64>().to_string()),
                ("STEPS", steps.clone()),
                // One of them knows only the scripts that do everything.
                ("QUICK", u64::from(number > 0).to_string()),
            ];
            stage.start("stress", &told)
        })
        .collect();
    let mut raw = server.raw();
    let mut looks = 0;
    let (mut added, mut done, mut full, mut late) = (0, 0, 0, 0);
    for member in &mut members {
        let counted = loop {
            invariants::assert_hold(&mut raw, &stage.name);
            looks += 1;
            if let Some(counted) = member.hear_within("counted ", Duration::from_millis(5)) {
                break counted;
            }
            assert!(member.is_there(), "{}", member.errors());
        };
        let counted: Vec<u64> = counted.split(' ').map(|one| one.parse().unwrap()).collect();
        added += counted[0];
        done += counted[1];
        full += counted[2];
        late += counted[3];
    }
    for member in &mut members {
        member.end();
    }

    // All that is left ends.
    let broker = Arc::new(stage.broker());
    broker.set_limits(limits).unwrap();
    let fuse = Arc::new(Fuse {
        point: String::new(),
        left: AtomicI64::new(0),
        by: "lead".to_owned(),
    });
    let shared = Shared::new(broker, Arc::clone(stage.recorder()), fuse);
    let begin = Instant::now();
    loop {
        for job in shared
            .admin()
            .list(&ListRequest::new(JobState::Dead))
            .unwrap()
        {
            shared.removing([job.id]);
            shared.admin().delete(job.id).unwrap();
        }
        let claims = shared.broker.claim(&ClaimRequest::new(50, LEASE)).unwrap();
        let claimed = claims.jobs.into_iter().map(|job| (job, true));
        shared.held.lock().unwrap().extend(claimed);
        shared.settle_all();
        invariants::assert_hold(&mut raw, &stage.name);
        looks += 1;
        let left = shared.admin().stats().unwrap();
        if is_empty(&left) {
            break;
        }
        assert!(begin.elapsed() < LONG, "{left:?}");
    }
    done += shared.done.load(Ordering::SeqCst);
    let (report, stats) = stage.judge(&Rules::default().per_key(PER_KEY as usize));
    eprintln!(
        "{looks} looks, {full} enqueues refused, {late} late ends; {stats:?}\n{}",
        report.books
    );
    report.assert_valid();
    assert_eq!((stats.enqueued, stats.done), (added, done), "{stats:?}");
    let expected = [
        ("looks", looks),
        ("refused", full),
        ("late ends", late),
        ("duplicates", stats.duplicates),
        ("expired", stats.expired),
        ("died", stats.died),
        ("lost leases", stats.lost_leases),
    ];
    for (what, number) in expected {
        assert!(number > 0, "there were no {what}");
    }
}
