//! What the checks stand on: a broker of each kind that is new and empty, a clock that they move,
//! and short words for what they do again and again.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anthill_jobs::{
    Broker, Capabilities, ClaimRequest, Claimed, Claims, Clock, Enqueued, JobId, JobInfo, JobState,
    Limits, ListRequest, MemoryBroker, NewJob, QueueError, QueueStats, Settle,
};

/// How long the claims of these tests are leased.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// A time as stored by a broker that counts in milliseconds may be so far off.
pub(crate) const GRAIN: Duration = Duration::from_millis(2);

/// Where a kind of broker keeps its jobs.
pub(crate) trait Fixture: Sized {
    /// A new one, with nothing in it.
    fn new(clock: &Clock) -> Self;

    /// A handle to it; each call gives another one, to the same jobs.
    fn open(&self) -> Arc<dyn Broker>;
}

/// All handles are the same broker, since nothing else can lead to its jobs.
pub(crate) struct Memory(Arc<MemoryBroker>);

impl Fixture for Memory {
    fn new(clock: &Clock) -> Memory {
        Memory(Arc::new(MemoryBroker::new(clock.clone())))
    }

    fn open(&self) -> Arc<dyn Broker> {
        self.0.clone()
    }
}

#[cfg(feature = "sqlite")]
pub(crate) struct Sqlite {
    clock: Clock,
    folder: tempfile::TempDir,
}

#[cfg(feature = "sqlite")]
impl Fixture for Sqlite {
    fn new(clock: &Clock) -> Sqlite {
        Sqlite {
            clock: clock.clone(),
            folder: tempfile::tempdir().expect("a folder for the file"),
        }
    }

    fn open(&self) -> Arc<dyn Broker> {
        let path = self.folder.path().join("jobs.db");
        let broker = anthill_jobs::SqliteBroker::open(path, "default", self.clock.clone());
        Arc::new(broker.expect("the file can be opened"))
    }
}

/// An empty broker with a clock that stands still until it is moved.
pub(crate) struct Bench<F> {
    handle: Handle,
    // After the handle: its folder goes when nobody has the file open.
    store: F,
}

impl<F: Fixture> Bench<F> {
    pub(crate) fn new() -> Self {
        let clock = Clock::manual();
        let store = F::new(&clock);
        let broker = store.open();
        Bench {
            handle: Handle { broker, clock },
            store,
        }
    }

    /// `None` if the broker lacks what the check is about.
    pub(crate) fn able(needs: impl FnOnce(Capabilities) -> bool) -> Option<Self> {
        let bench = Self::new();
        let capabilities = bench.broker.capabilities();
        let able = needs(capabilities);
        if !able {
            eprintln!("not for {capabilities:?}");
        }
        able.then_some(bench)
    }

    /// Another handle to the same jobs.
    pub(crate) fn another(&self) -> Handle {
        Handle {
            broker: self.store.open(),
            clock: self.clock.clone(),
        }
    }

    /// Closes the broker, and opens another one where it was.
    pub(crate) fn reopen(self) -> Self {
        let Bench { handle, store } = self;
        let clock = handle.clock.clone();
        drop(handle);
        let broker = store.open();
        let handle = Handle { broker, clock };
        Bench { handle, store }
    }
}

impl<F> Deref for Bench<F> {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

/// A way to the broker. None of its methods expects the broker to fail.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Clock,
}

impl Handle {
    #[track_caller]
    pub(crate) fn enqueue(&self, jobs: &[NewJob]) -> Vec<Enqueued> {
        let enqueued = ok(self.broker.enqueue(jobs));
        assert_eq!(enqueued.len(), jobs.len(), "an answer for each job");
        enqueued
    }

    /// Enqueues a job that is no duplicate.
    #[track_caller]
    pub(crate) fn add(&self, job: NewJob) -> JobId {
        let id = job.id;
        assert_eq!(self.enqueue(&[job]), [Enqueued::Added(id)]);
        id
    }

    /// Enqueues jobs of which none is a duplicate.
    #[track_caller]
    pub(crate) fn add_all(&self, jobs: &[NewJob]) -> Vec<JobId> {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let added: Vec<Enqueued> = ids.iter().copied().map(Enqueued::Added).collect();
        assert_eq!(self.enqueue(jobs), added);
        ids
    }

    /// Enqueues a job, and returns the id of the one whose duplicate it is.
    #[track_caller]
    pub(crate) fn add_again(&self, job: NewJob) -> JobId {
        match self.enqueue(&[job])[..] {
            [Enqueued::Duplicate(id)] => id,
            ref other => panic!("no duplicate: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn claims(&self, limit: usize) -> Claims {
        let claims = ok(self.broker.claim(&ClaimRequest::new(limit, LEASE)));
        assert!(claims.jobs.len() <= limit, "more than were asked for");
        claims
    }

    #[track_caller]
    pub(crate) fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.claims(limit).jobs
    }

    /// Claims up to so many, in as many claims as it takes: fragile ones (B9) come by themselves.
    #[track_caller]
    pub(crate) fn claim_all(&self, limit: usize) -> Vec<Claimed> {
        let mut all = Vec::new();
        loop {
            let some = self.claim(limit - all.len());
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    /// Claims one job, which must be there.
    #[track_caller]
    pub(crate) fn next(&self) -> Claimed {
        let job = self.claim(1).pop();
        job.expect("a job to be claimed")
    }

    /// Claims up to so many, and returns their names.
    #[track_caller]
    pub(crate) fn next_names(&self, limit: usize) -> Vec<String> {
        names(&self.claim(limit))
    }

    #[track_caller]
    pub(crate) fn settle(&self, job: &Claimed, end: Settle) -> bool {
        let settled = ok(self.broker.settle(&[(job.lease, end)]));
        assert_eq!(settled.len(), 1, "an answer for each lease");
        settled[0]
    }

    #[track_caller]
    pub(crate) fn done(&self, job: &Claimed) {
        assert!(self.settle(job, done()));
    }

    #[track_caller]
    pub(crate) fn all_done(&self, jobs: &[Claimed]) {
        for job in jobs {
            self.done(job);
        }
    }

    #[track_caller]
    pub(crate) fn all_dead(&self, jobs: &[Claimed]) {
        for job in jobs {
            self.bury(job);
        }
    }

    #[track_caller]
    pub(crate) fn retry(&self, job: &Claimed, delay: Duration) {
        assert!(self.settle(job, retry(delay)));
    }

    #[track_caller]
    pub(crate) fn bury(&self, job: &Claimed) {
        assert!(self.settle(job, dead("for good")));
    }

    #[track_caller]
    pub(crate) fn release(&self, job: &Claimed) {
        assert!(self.settle(
            job,
            Settle::Release {
                delay: Duration::ZERO
            }
        ));
    }

    #[track_caller]
    pub(crate) fn extend(&self, job: &Claimed, lease: Duration) -> bool {
        let extended = ok(self.broker.extend(&[job.lease], lease));
        assert_eq!(extended.len(), 1, "an answer for each lease");
        extended[0]
    }

    #[track_caller]
    pub(crate) fn get(&self, id: JobId) -> Option<JobInfo> {
        let job = ok(self.broker.get(id));
        assert!(job.as_ref().is_none_or(|job| job.id == id));
        job
    }

    /// A job that must be there.
    #[track_caller]
    pub(crate) fn job(&self, id: JobId) -> JobInfo {
        self.get(id).expect("the job is there")
    }

    #[track_caller]
    pub(crate) fn state(&self, id: JobId) -> Option<JobState> {
        self.get(id).map(|job| job.state)
    }

    /// The names of the jobs in that state.
    #[track_caller]
    pub(crate) fn list(&self, state: JobState) -> Vec<String> {
        let jobs = ok(self.broker.list(&ListRequest::new(state).limit(usize::MAX)));
        assert!(jobs.iter().all(|job| job.state == state), "{jobs:?}");
        jobs.into_iter().map(|job| text(job.payload)).collect()
    }

    #[track_caller]
    pub(crate) fn stats(&self) -> QueueStats {
        ok(self.broker.stats())
    }

    #[track_caller]
    pub(crate) fn limit(&self, limits: Limits) {
        ok(self.broker.set_limits(limits));
    }

    /// Lets time pass, and has the broker see to what it brings, in as many steps as it takes. A
    /// claim of nothing does that.
    #[track_caller]
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
        for _ in 0..1_000 {
            let claims = self.claims(0);
            if claims.again_in != Some(Duration::ZERO) {
                return;
            }
        }
        panic!("a thousand steps were not enough");
    }

    /// Claims up to `limit` at a time until there are no more.
    #[track_caller]
    pub(crate) fn drain(&self, limit: usize, mut with: impl FnMut(Vec<Claimed>)) {
        let mut empty = 0;
        while empty < 1_000 {
            let claims = self.claims(limit);
            let more = claims.again_in == Some(Duration::ZERO);
            empty += 1;
            if !claims.jobs.is_empty() {
                with(claims.jobs);
                empty = 0;
            } else if !more {
                return;
            }
        }
        panic!("looked again at once a thousand times, and there was nothing");
    }

    /// Looks again each time when the broker says so, until there is something; and how long that
    /// took.
    #[track_caller]
    pub(crate) fn follow(&self) -> (Vec<Claimed>, Duration) {
        let begin = self.clock.wall();
        for _ in 0..10 {
            let claims = self.claims(usize::MAX);
            if !claims.jobs.is_empty() {
                return (claims.jobs, self.clock.wall() - begin);
            }
            let again = claims.again_in.expect("there is something to wait for");
            assert!(!again.is_zero(), "looking again at once is no waiting");
            self.clock.advance(again);
        }
        panic!("looked again ten times, and there was nothing");
    }
}

/// What a broker that can be reached answers.
#[track_caller]
pub(crate) fn ok<T>(answer: Result<T, QueueError>) -> T {
    answer.unwrap_or_else(|error| panic!("the broker failed: {error}, {error:?}"))
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A job whose data is its name.
pub(crate) fn job(name: impl Into<String>) -> NewJob {
    NewJob::new("test", name.into().into_bytes())
}

/// Many of them, whose names are their numbers.
pub(crate) fn jobs(number: usize) -> Vec<NewJob> {
    (0..number).map(|number| job(number.to_string())).collect()
}

pub(crate) fn done() -> Settle {
    let result = b"null".to_vec();
    Settle::Done { result }
}

pub(crate) fn retry(delay: Duration) -> Settle {
    let error = "not yet".to_owned();
    Settle::Retry { delay, error }
}

pub(crate) fn dead(error: &str) -> Settle {
    let error = error.to_owned();
    Settle::Dead { error }
}

pub(crate) fn name(job: &Claimed) -> String {
    text(job.payload.clone())
}

pub(crate) fn names(jobs: &[Claimed]) -> Vec<String> {
    jobs.iter().map(name).collect()
}

fn text(payload: Vec<u8>) -> String {
    String::from_utf8(payload).expect("a name")
}
