//! One step of a thread: an enqueue, a claim, settlements, heartbeats, and what an operator does, by chance.

use anthill_fleet_support::recorded::{Fuse, KEY, Recorded};
use anthill_jobs::broker::{Admin, LimitStore, Retention};
use anthill_jobs::{
    Broker, ClaimRequest, Claimed, Enqueued, JobId, JobState, Limits, ListRequest, NewJob, OncePer,
    QueueError, Rate, Settle,
};
use anthill_redis::RedisBroker;
use anthill_test_support::history::{Recorder, What};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEYS: usize = 5;
const UNIQUES: usize = 8;
pub(crate) const PER_KEY: u32 = 2;

/// A lease that ends only with its job.
pub(crate) const LEASE: Duration = Duration::from_secs(600);

/// What the threads of a process do together.
pub(crate) struct Shared {
    pub(crate) broker: Recorded<RedisBroker>,
    /// Of these some are enqueued again, in another order.
    recent: Mutex<Vec<NewJob>>,
    /// Claimed by somebody, settled or extended by anybody; and whether the lease is a long one.
    pub(crate) held: Mutex<Vec<(Claimed, bool)>>,
    pub(crate) added: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) full: AtomicU64,
    /// Ends that came too late.
    pub(crate) late: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        broker: Arc<RedisBroker>,
        recorder: Arc<Recorder>,
        fuse: Arc<Fuse>,
    ) -> Shared {
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

    pub(crate) fn step(&self, random: &mut StdRng) {
        match random.random_range(0..100) {
            0..25 => self.enqueue(random),
            25..50 => self.claim(random),
            50..78 => self.settle(random),
            78..86 => self.extend(random),
            86..90 => self.progress(random),
            _ => self.operate(random),
        }
    }

    pub(crate) fn admin(&self) -> &RedisBroker {
        &self.broker.broker
    }

    /// Somebody is about to take these away.
    pub(crate) fn removing(&self, ids: impl IntoIterator<Item = JobId>) {
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

    pub(crate) fn settle_all(&self) {
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
