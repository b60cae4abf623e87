//! A broker by an outsider: written against the public items of this crate alone, from the documentation of
//! `anthill_jobs::broker`. It is a list in memory with the core of the trait and a handful of capabilities, passes the
//! conformance suite, and works under a `Queue` with a consumer.

use anthill::{Pool, StopToken};
use anthill_jobs::broker::{
    Broker, Capabilities, Capability, Change, ClaimRequest, Claimed, Claims, Durability, Enqueued,
    Extended, Lease, Listener, Listeners, NewJob, Settle, Settled, Subscription,
};
use anthill_jobs::conformance::{self, Fixture, Means};
use anthill_jobs::{Backoff, Clock, Context, Job, JobError, Queue, QueueError, StopTimeout};
use anthill_test_support::{Log, eventually, set_alarm, watchdog};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

// ── the broker ──────────────────────────────────────────────────────────────────────────────────

/// All jobs, in the order in which they were or will be ready.
struct Pile {
    clock: Clock,
    jobs: Mutex<Vec<Stored>>,
    listeners: Listeners,
}

struct Stored {
    job: NewJob,
    attempt: u32,
    /// How often it was claimed or its lease extended: the token of the newest lease.
    token: u64,
    state: State,
}

enum State {
    /// Ready, if that time has come. Who is ready earlier goes first, and then who is nearer to the top of the pile.
    Waits(Duration),
    /// Claimed, until that time.
    Runs(Duration, Duration),
    Dead,
}

impl Pile {
    fn new(clock: Clock) -> Pile {
        Pile {
            clock,
            jobs: Mutex::default(),
            listeners: Listeners::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stored>> {
        self.jobs.lock().unwrap()
    }

    /// The jobs, after what time has brought: leases that are over.
    fn lock_now(&self) -> (MutexGuard<'_, Vec<Stored>>, Duration) {
        let now = self.clock.wall();
        let mut jobs = self.lock();
        for stored in &mut *jobs {
            if let State::Runs(since, until) = stored.state {
                if until <= now {
                    stored.end_attempt(since);
                }
            }
        }
        (jobs, now)
    }

    fn claim_now(&self, request: &ClaimRequest) -> Claims {
        let (mut jobs, now) = self.lock_now();
        let is_wanted = |kind: &str| {
            let kinds = request.kinds.as_ref();
            kinds.is_none_or(|kinds| kinds.iter().any(|wanted| wanted == kind))
        };
        let mut ready: Vec<(Duration, usize)> = Vec::new();
        for (at, stored) in jobs.iter().enumerate() {
            match stored.state {
                State::Waits(since) if since <= now && is_wanted(&stored.job.kind) => {
                    ready.push((since, at));
                }
                _ => {}
            }
        }
        ready.sort_unstable();
        ready.truncate(request.limit);
        let claimed = ready.into_iter().map(|(since, at)| {
            let stored = &mut jobs[at];
            stored.attempt += 1;
            stored.token += 1;
            stored.state = State::Runs(since, now.saturating_add(request.lease));
            let mut claimed = Claimed::new(
                stored.lease(),
                stored.job.kind.clone(),
                stored.job.payload.clone(),
            );
            claimed.attempt = stored.attempt;
            claimed.attempts = stored.job.attempts;
            claimed.waited = now.saturating_sub(since);
            claimed.is_fragile = stored.attempt >= stored.job.attempts;
            claimed
        });
        let claimed = claimed.collect();
        let times = jobs.iter().filter_map(|stored| match stored.state {
            State::Waits(at) if at > now => Some(at.saturating_sub(now)),
            State::Runs(_, until) => Some(until.saturating_sub(now)),
            _ => None,
        });
        Claims::new(claimed, times.min())
    }
}

impl Stored {
    /// A lease is the id with the number of the claim or extension that gave it.
    fn lease(&self) -> Lease {
        Lease::new(self.job.id, &self.token.to_be_bytes())
    }

    /// The attempt failed, or its lease is over: the job waits in its old place, or is dead.
    fn end_attempt(&mut self, since: Duration) {
        let is_last = self.attempt >= self.job.attempts;
        self.state = if is_last {
            State::Dead
        } else {
            State::Waits(since)
        };
    }
}

/// The job that runs under a lease (B4), and since when it was ready.
fn held(jobs: &[Stored], lease: &Lease) -> Option<(usize, Duration)> {
    let at = jobs.iter().position(|stored| stored.job.id == lease.id())?;
    match jobs[at].state {
        State::Runs(since, _) if jobs[at].lease() == *lease => Some((at, since)),
        _ => None,
    }
}

impl Broker for Pile {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("pile", Durability::None).with(&[
            Capability::Fenced,
            Capability::AtomicBatches,
            Capability::Order,
            Capability::Delay,
            Capability::UncountedRelease,
        ]);
        capabilities.maxima.batch = 50;
        capabilities.maxima.payload = 100_000;
        capabilities.maxima.delay = Duration::from_secs(86_400);
        capabilities.maxima.lease = Duration::from_secs(43_200);
        capabilities.maxima.wait = Duration::from_secs(5);
        capabilities
    }

    fn enqueue(&self, new: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        let mut answers = Vec::new();
        {
            let (mut jobs, now) = self.lock_now();
            for job in new {
                if jobs.iter().any(|stored| stored.job.id == job.id) {
                    answers.push(Ok(Enqueued::Duplicate(job.id)));
                    continue;
                }
                answers.push(Ok(Enqueued::Added(job.id)));
                jobs.push(Stored {
                    job: job.clone(),
                    attempt: 0,
                    token: 0,
                    state: State::Waits(now.saturating_add(job.delay)),
                });
            }
        }
        self.listeners.notify(Change::Here);
        Ok(answers)
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        let begin = Instant::now();
        loop {
            let claims = self.claim_now(request);
            let is_stopped = request.stop.as_ref().is_some_and(StopToken::is_stopped);
            let is_over = is_stopped || begin.elapsed() >= request.wait;
            if !claims.jobs.is_empty() || is_over {
                return Ok(claims);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        let (mut jobs, now) = self.lock_now();
        let extend = |lease: &Lease| {
            let Some((at, since)) = held(&jobs, lease) else {
                return Extended::Lost;
            };
            jobs[at].token += 1;
            jobs[at].state = State::Runs(since, now.saturating_add(time));
            Extended::Held(jobs[at].lease())
        };
        Ok(leases.iter().map(extend).collect())
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        let mut settled = Vec::new();
        {
            let (mut jobs, now) = self.lock_now();
            for (lease, end) in ends {
                let Some((at, since)) = held(&jobs, lease) else {
                    settled.push(Settled::Lost);
                    continue;
                };
                let mut stored = jobs.remove(at);
                match end {
                    Settle::Done { .. } => {}
                    Settle::Retry { delay, .. } => {
                        // It goes to the top, behind all that were ready before.
                        stored.end_attempt(now.saturating_add(*delay));
                        jobs.push(stored);
                    }
                    Settle::Release { delay } => {
                        stored.attempt -= 1;
                        let due = now.saturating_add(*delay);
                        stored.state = State::Waits(if delay.is_zero() { since } else { due });
                        jobs.insert(at, stored);
                    }
                    // And any other end that a later version may know.
                    _ => {
                        stored.state = State::Dead;
                        jobs.push(stored);
                    }
                }
                settled.push(Settled::Stored);
            }
        }
        self.listeners.notify(Change::Here);
        Ok(settled)
    }

    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        Ok(self.listeners.add(listener))
    }
}

// ── its tests ───────────────────────────────────────────────────────────────────────────────────

struct Piles {
    clock: Clock,
    pile: Arc<Pile>,
}

impl Piles {
    fn new() -> Piles {
        let clock = Clock::manual();
        let pile = Arc::new(Pile::new(clock.clone()));
        Piles { clock, pile }
    }
}

impl Fixture for Piles {
    fn open(&self) -> Arc<dyn Broker> {
        self.pile.clone()
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn means(&self) -> &[Means] {
        &[Means::StillClock]
    }
}

#[test]
fn it_passes_the_suite() {
    let report = conformance::run(Piles::new);
    assert!(report.passed() > 60, "{report}");
    assert_eq!(report.unchecked(), [], "claimed and not checked");
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Letter {
    to: String,
}

impl Job for Letter {
    const KIND: &'static str = "letter";
}

fn letter(to: &str) -> Letter {
    let to = to.to_owned();
    Letter { to }
}

#[test]
fn a_queue_of_it_runs_retries_and_stops() {
    set_alarm();
    let queue = Queue::of(Pile::new(Clock::system()));
    let pool = Pool::with_capacity(2);
    let attempts: Log<(String, u32)> = Log::new();
    let log = attempts.clone();
    let consumer = queue
        .consumer(&pool)
        .handle(
            move |letter: Letter, cx: &Context| -> Result<(), JobError> {
                log.push((letter.to.clone(), cx.attempt()));
                match (&letter.to[..], cx.attempt()) {
                    ("later", 1) => Err(JobError::retry_in(Duration::from_millis(20), "not yet")),
                    ("back", 1) => Err(JobError::from("failed")),
                    ("nobody", _) => Err(JobError::fatal("there is no such person")),
                    _ => Ok(()),
                }
            },
        )
        .backoff(Backoff::new(Duration::ZERO, Duration::ZERO))
        .start()
        .expect("it starts");
    let again = queue.enqueue(letter("later")).expect("it is enqueued");
    queue.enqueue(letter("back")).expect("it is enqueued");
    queue
        .enqueue_all(vec![letter("ada"), letter("nobody")])
        .expect("both are");
    queue
        .job(letter("delayed"))
        .delay(Duration::from_millis(20))
        .enqueue()
        .expect("it is");
    eventually("all have run", || consumer.stats().done == 4);
    let mut came = attempts.entries();
    came.sort();
    let expected = [
        ("ada", 1),
        ("back", 1),
        ("back", 2),
        ("delayed", 1),
        ("later", 1),
        ("later", 2),
        ("nobody", 1),
    ];
    assert_eq!(came, expected.map(|(to, attempt)| (to.to_owned(), attempt)));
    assert_eq!(consumer.stats().died, 1);
    // What is done is gone, so its id is new again.
    let once_more = queue.job(letter("ada")).id(again).enqueue();
    assert!(once_more.expect("it is enqueued").is_added());
    eventually("it has run, too", || consumer.stats().done == 5);
    let stopped: Result<(), StopTimeout> =
        watchdog("a stop", move || consumer.stop(Duration::from_secs(10)));
    assert_eq!(stopped, Ok(()));
    // What comes now waits.
    queue.enqueue(letter("too late")).expect("it is enqueued");
    assert_eq!(attempts.len(), 8);
    let left = queue
        .as_broker()
        .claim(&ClaimRequest::new(5, Duration::from_secs(1)));
    assert_eq!(left.expect("it is claimed").jobs.len(), 1);
}

#[test]
fn a_queue_of_it_refuses_what_it_has_not() {
    let queue = Queue::of(Pile::new(Clock::manual()));
    let refused = queue.job(letter("ada")).priority(1).enqueue().unwrap_err();
    let (reason, job) = refused.into_parts();
    assert_eq!(
        reason.to_string(),
        "the pile broker does not support priorities"
    );
    assert_eq!(job, letter("ada"), "it comes back");
    let refused = queue.job(letter("ada")).unique("a").enqueue().unwrap_err();
    assert!(matches!(refused.reason(), QueueError::Unsupported { .. }));
    assert!(matches!(queue.stats(), Err(QueueError::Unsupported { .. })));
    let long = queue.job(letter("ada")).delay(Duration::from_secs(90_000));
    let refused = long.enqueue().unwrap_err();
    assert!(matches!(refused.reason(), QueueError::Unsupported { .. }));
    let refused = queue.enqueue(letter(&"x".repeat(100_000))).unwrap_err();
    assert!(matches!(
        refused.reason(),
        QueueError::TooLarge { limit: 100_000, .. }
    ));
    assert!(queue.require(&[Capability::Priority]).is_err());
}
