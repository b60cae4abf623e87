//! What the checks stand on: a handle to a new broker, with the clock that it follows, and what checks do to it again and
//! again. None of that expects the broker to fail. More of it is in [`words`](super::words).
//!
//! A check does not ask a broker for what it does not claim: [`counted`](Bench::counted) and [`shown`](Bench::shown) look only
//! where there is something to see, and an order is asked for only of brokers that keep one.

use super::fixture::{Fixture, Means};
use super::words::{may_refuse, names, ok};
use crate::broker::{
    Admin, Broker, Capability, ClaimRequest, Claimed, Claims, ConsumerRegistry, Durability,
    Enqueued, LimitStore, NewJob, ScheduleStore,
};
use crate::id::JobId;
use crate::sync::lock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the claims of the checks are leased.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// A time as stored by a broker that counts in milliseconds may be so far off.
pub(super) const GRAIN: Duration = Duration::from_millis(2);

/// A claim that finds nothing, and does not know of anything to come, asks for no other one so soon.
const SOON: Duration = Duration::from_millis(500);

/// Makes what a check stands on.
pub(super) type Factory = dyn Fn() -> Arc<dyn Fixture> + Send + Sync;

/// Where a check gets its brokers from.
pub(super) struct Lab {
    new: Arc<Factory>,
    /// The first one, which was asked what the broker can do.
    first: Mutex<Option<Arc<dyn Fixture>>>,
    /// By how much the check has advanced its clocks.
    moved: Arc<Mutex<Duration>>,
}

impl Lab {
    pub(super) fn new(new: Arc<Factory>, first: Arc<dyn Fixture>) -> Lab {
        Lab {
            new,
            first: Mutex::new(Some(first)),
            moved: Arc::default(),
        }
    }

    /// By how much the check has advanced its clocks, the one that it advanced most.
    pub(super) fn moved(&self) -> Duration {
        *lock(&self.moved)
    }

    /// A new broker, with nothing in it.
    pub(super) fn bench(&self) -> Bench {
        let first = lock(&self.first).take();
        let fixture = first.unwrap_or_else(|| (self.new)());
        Bench {
            broker: fixture.open(),
            clock: Clock {
                fixture,
                moved: Arc::default(),
                most_moved: Arc::clone(&self.moved),
            },
        }
    }
}

/// A fixture, and by how much its clock was advanced.
#[derive(Clone)]
pub(super) struct Clock {
    fixture: Arc<dyn Fixture>,
    moved: Arc<Mutex<Duration>>,
    most_moved: Arc<Mutex<Duration>>,
}

impl Clock {
    pub(super) fn advance(&self, time: Duration) {
        self.fixture.advance(time);
        let mut moved = lock(&self.moved);
        *moved += time;
        let mut most = lock(&self.most_moved);
        *most = most.max(*moved);
    }
}

/// A handle to the broker of a fixture.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) broker: Arc<dyn Broker>,
    // After the handle: a fixture takes its queue away when nobody has it open.
    pub(super) clock: Clock,
}

impl Bench {
    fn fixture(&self) -> &dyn Fixture {
        &*self.clock.fixture
    }

    /// Another handle to the same jobs.
    pub(super) fn another(&self) -> Bench {
        Bench {
            broker: self.fixture().open(),
            clock: self.clock.clone(),
        }
    }

    /// A handle as another process has it.
    pub(super) fn apart(&self) -> Bench {
        Bench {
            broker: self.fixture().open_apart(),
            clock: self.clock.clone(),
        }
    }

    /// Closes this handle, and opens another one.
    pub(super) fn reopen(self) -> Bench {
        let Bench { broker, clock } = self;
        drop(broker);
        let broker = clock.fixture.open();
        Bench { broker, clock }
    }

    /// Closes the only handle, and opens another one, when the broker was restarted.
    pub(super) fn restart(self) -> Bench {
        let Bench { broker, clock } = self;
        drop(broker);
        clock.fixture.restart();
        let broker = clock.fixture.open();
        Bench { broker, clock }
    }

    // ── what the broker and the fixture can do ──────────────────────────────────────────────

    pub(super) fn has(&self, capability: Capability) -> bool {
        self.broker.capabilities().has(capability)
    }

    pub(super) fn survives_restarts(&self) -> bool {
        self.broker.capabilities().durability > Durability::None
    }

    pub(super) fn can(&self, means: Means) -> bool {
        match means {
            Means::Restart => self.survives_restarts(),
            means => self.fixture().means().contains(&means),
        }
    }

    pub(super) fn notification_delay(&self) -> Duration {
        self.fixture().notification_delay()
    }

    pub(super) fn transaction(&self) -> Box<dyn super::Transaction + '_> {
        self.fixture().transaction()
    }

    #[track_caller]
    pub(super) fn admin(&self) -> &dyn Admin {
        let admin = self.broker.admin();
        admin.expect("a broker has `Admin` for what it claims")
    }

    #[track_caller]
    pub(super) fn limits(&self) -> &dyn LimitStore {
        let limits = self.broker.limit_store();
        limits.expect("a broker has a `LimitStore` for the limits that it claims")
    }

    #[track_caller]
    pub(super) fn schedules(&self) -> &dyn ScheduleStore {
        let schedules = self.broker.schedule_store();
        schedules.expect("a broker that claims schedules has a `ScheduleStore`")
    }

    #[track_caller]
    pub(super) fn registry(&self) -> &dyn ConsumerRegistry {
        let registry = self.broker.consumer_registry();
        registry.expect("a broker that claims a list of consumers has a `ConsumerRegistry`")
    }

    /// How many jobs, leases or settlements one call takes.
    pub(super) fn batch(&self) -> usize {
        self.broker.capabilities().maxima.batch.max(1)
    }

    // ── clocks ──────────────────────────────────────────────────────────────────────────────

    /// Lets time pass.
    pub(super) fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Measures time from now on.
    pub(super) fn stopwatch(&self) -> Stopwatch<'_> {
        Stopwatch {
            on: self,
            moved: self.moved(),
            begin: Instant::now(),
        }
    }

    /// By how much the clock was advanced until now.
    pub(super) fn moved(&self) -> Duration {
        *lock(&self.clock.moved)
    }

    pub(super) fn wall(&self) -> Duration {
        self.fixture().wall()
    }

    pub(super) fn set_wall(&self, wall: Duration) {
        self.fixture().set_wall(wall);
    }

    pub(super) fn restart_host(&self) {
        self.fixture().restart_host();
    }

    /// Lets time pass, and has the broker see to what it brings, in as many steps as it takes. A claim of nothing does that.
    #[track_caller]
    pub(super) fn pass(&self, time: Duration) {
        self.advance(time);
        for _ in 0..1_000 {
            let claims = self.claims(0);
            if claims.again_in != Some(Duration::ZERO) {
                return;
            }
        }
        panic!("a thousand steps were not enough");
    }

    // ── enqueues ────────────────────────────────────────────────────────────────────────────

    /// Enqueues jobs in as many calls as it takes.
    #[track_caller]
    pub(super) fn enqueue(&self, jobs: &[NewJob]) -> Vec<Enqueued> {
        let mut all = Vec::with_capacity(jobs.len());
        for batch in jobs.chunks(self.batch()) {
            let enqueued = ok(self.broker.enqueue(batch));
            assert_eq!(enqueued.len(), batch.len(), "an answer for each job");
            all.extend(enqueued.into_iter().map(|answer| ok(answer)));
        }
        all
    }

    /// Enqueues a job that is no duplicate.
    #[track_caller]
    pub(super) fn add(&self, job: NewJob) -> JobId {
        let id = job.id;
        assert_eq!(self.enqueue(&[job]), [Enqueued::Added(id)]);
        id
    }

    /// Enqueues jobs of which none is a duplicate.
    #[track_caller]
    pub(super) fn add_all(&self, jobs: &[NewJob]) -> Vec<JobId> {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let added: Vec<Enqueued> = ids.iter().copied().map(Enqueued::Added).collect();
        assert_eq!(self.enqueue(jobs), added);
        ids
    }

    /// Enqueues a job, and returns the id of the one whose duplicate it is.
    #[track_caller]
    pub(super) fn add_again(&self, job: NewJob) -> JobId {
        match self.enqueue(&[job])[..] {
            [Enqueued::Duplicate(id)] => id,
            ref other => panic!("no duplicate: {other:?}"),
        }
    }

    /// Enqueues a job with a text that the broker may refuse for good: one with NUL. Returns whether it was added.
    #[track_caller]
    pub(super) fn may_add(&self, job: &NewJob, text: &str) -> bool {
        let answer = self.broker.enqueue(std::slice::from_ref(job));
        let answer = answer.and_then(|mut answers| {
            assert_eq!(answers.len(), 1, "an answer for each job");
            answers.remove(0)
        });
        match may_refuse(answer, text) {
            Some(enqueued) => {
                assert_eq!(enqueued, Enqueued::Added(job.id));
                true
            }
            None => false,
        }
    }

    // ── claims ──────────────────────────────────────────────────────────────────────────────

    #[track_caller]
    pub(super) fn claims(&self, limit: usize) -> Claims {
        self.claims_by(&ClaimRequest::new(limit, LEASE))
    }

    /// For no more jobs than the engine takes.
    #[track_caller]
    pub(super) fn claims_by(&self, request: &ClaimRequest) -> Claims {
        let mut request = request.clone();
        request.limit = request.limit.min(self.batch());
        let claims = ok(self.broker.claim(&request));
        assert!(
            claims.jobs.len() <= request.limit,
            "more than were asked for"
        );
        claims
    }

    /// Claims up to so many: in one claim, if the engine takes that.
    #[track_caller]
    pub(super) fn claim(&self, limit: usize) -> Vec<Claimed> {
        let batch = self.batch();
        let mut jobs = self.claims(limit.min(batch)).jobs;
        while jobs.len() < limit && jobs.len() % batch == 0 && !jobs.is_empty() {
            let more = self.claims((limit - jobs.len()).min(batch)).jobs;
            if more.is_empty() {
                break;
            }
            jobs.extend(more);
        }
        jobs
    }

    /// Claims up to so many, in as many claims as it takes: fragile ones come alone (B9).
    #[track_caller]
    pub(super) fn claim_all(&self, limit: usize) -> Vec<Claimed> {
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
    pub(super) fn next(&self) -> Claimed {
        let job = self.claim(1).pop();
        job.expect("a job to be claimed")
    }

    /// Claims up to so many, and returns their names.
    #[track_caller]
    pub(super) fn next_names(&self, limit: usize) -> Vec<String> {
        names(&self.claim(limit))
    }

    /// A claim finds nothing.
    #[track_caller]
    pub(super) fn finds_nothing(&self) {
        assert_eq!(self.next_names(100), [""; 0]);
    }

    /// A claim finds nothing, and knows of nothing to come.
    #[track_caller]
    pub(super) fn is_at_rest(&self) {
        let claims = self.claims(100);
        assert_eq!(names(&claims.jobs), [""; 0]);
        let again = claims.again_in;
        assert!(
            again.is_none_or(|again| again >= SOON),
            "again in {again:?} for nothing"
        );
    }

    /// Claims up to so many, which have these names: in this order, if the broker keeps one.
    #[track_caller]
    pub(super) fn comes(&self, limit: usize, expected: &[&str]) -> Vec<Claimed> {
        let claimed = self.claim(limit);
        self.are(&claimed, expected);
        claimed
    }

    /// The jobs have these names: in this order, if the broker keeps one.
    #[track_caller]
    pub(super) fn are(&self, jobs: &[Claimed], expected: &[&str]) {
        let mut expected: Vec<String> = expected.iter().map(|&name| name.to_owned()).collect();
        let mut came = names(jobs);
        if !self.has(Capability::Order) {
            expected.sort();
            came.sort();
        }
        assert_eq!(came, expected);
    }

    /// Claims up to `limit` at a time until there are no more.
    #[track_caller]
    pub(super) fn drain(&self, limit: usize, mut with: impl FnMut(Vec<Claimed>)) {
        let limit = limit.min(self.batch());
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
        panic!("claimed again at once a thousand times, and there was nothing");
    }

    /// Claims again each time when the broker says so, until there is something; and how long that took.
    #[track_caller]
    pub(super) fn follow(&self) -> (Vec<Claimed>, Duration) {
        let watch = self.stopwatch();
        for _ in 0..10 {
            let claims = self.claims(self.batch());
            if !claims.jobs.is_empty() {
                return (claims.jobs, watch.elapsed());
            }
            let again = claims.again_in.expect("there is something to wait for");
            assert!(!again.is_zero(), "to claim again at once is no waiting");
            self.advance(again);
        }
        panic!("claimed again ten times, and there was nothing");
    }
}

/// Measures time by the clock of a fixture.
pub(super) struct Stopwatch<'b> {
    on: &'b Bench,
    moved: Duration,
    begin: Instant,
}

impl Stopwatch<'_> {
    pub(super) fn elapsed(&self) -> Duration {
        let moved = self.on.moved() - self.moved;
        if self.on.can(Means::StillClock) {
            moved
        } else {
            moved.max(self.begin.elapsed())
        }
    }
}
