//! A queue and a consumer on a broker that behaves as an engine of other machines does: leases get new tokens, answers are
//! lost, calls take a few jobs at a time, and nobody tells of what others enqueued.

use anthill::{Pool, StopToken};
use anthill_jobs::broker::{Admin, ConsumerRegistry, Listener, Listeners, Subscription};
use anthill_jobs::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
struct Count(u32);
impl Job for Count {
    const KIND: &'static str = "count";
}

/// The jobs are in memory; what is far away about it is set by the fields.
struct Remote {
    jobs: MemoryBroker,
    /// By the lease of `jobs`, how often it was renewed: each time its token is another one.
    renewed: Mutex<HashMap<Lease, u8>>,
    renews: bool,
    /// For how many calls the answer is lost.
    lost_settles: AtomicUsize,
    /// Results with this text are never taken.
    refused: Option<&'static str>,
    batch: usize,
    /// Jobs with odd numbers are not enqueued.
    refuses_odd: bool,
    /// How long a claim can wait; nobody is told of changes then.
    wait: Duration,
    longest_delay: Duration,
    /// Answers for one job fewer.
    forgets_one: AtomicUsize,
    changes: Arc<(Mutex<u64>, Condvar)>,
    waiting: AtomicUsize,
    calls: AtomicUsize,
    extends: AtomicUsize,
    listeners: Listeners,
    announced: Mutex<Vec<ConsumerInfo>>,
    cancelled: Mutex<Vec<JobId>>,
}

impl Remote {
    fn new() -> Remote {
        Remote {
            jobs: MemoryBroker::new(Clock::system()),
            renewed: Mutex::default(),
            renews: false,
            lost_settles: AtomicUsize::new(0),
            refused: None,
            batch: usize::MAX,
            refuses_odd: false,
            wait: Duration::ZERO,
            longest_delay: Duration::MAX,
            forgets_one: AtomicUsize::new(0),
            changes: Arc::default(),
            waiting: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            extends: AtomicUsize::new(0),
            listeners: Listeners::new(),
            announced: Mutex::default(),
            cancelled: Mutex::default(),
        }
    }

    fn outside(&self, lease: &Lease) -> Lease {
        let generation = self.renewed.lock().unwrap().get(lease).copied();
        let token = [lease.token(), &[generation.unwrap_or(0)]].concat();
        Lease::new(lease.id(), &token)
    }

    /// The lease of the jobs in memory, if the token is the newest one.
    fn inside(&self, lease: &Lease) -> Option<Lease> {
        let (_, token) = lease.token().split_last()?;
        let inside = Lease::new(lease.id(), token);
        (self.outside(&inside) == *lease).then_some(inside)
    }

    fn asked(&self, number: usize) {
        assert!(number <= self.batch, "{number} in one call");
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    fn changed(&self) {
        *self.changes.0.lock().unwrap() += 1;
        self.changes.1.notify_all();
    }

    fn claim_now(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        let mut claims = self.jobs.claim(request)?;
        for job in &mut claims.jobs {
            job.lease = self.outside(&job.lease);
        }
        Ok(claims)
    }

    /// Waits for a change behind `seen`, for a while.
    fn wait(&self, seen: u64, deadline: Instant, stop: Option<&StopToken>) -> bool {
        let mut changes = self.changes.0.lock().unwrap();
        while *changes == seen {
            if stop.is_some_and(StopToken::is_stopped) || Instant::now() >= deadline {
                return false;
            }
            let a_moment = Duration::from_millis(5);
            changes = self.changes.1.wait_timeout(changes, a_moment).unwrap().0;
        }
        true
    }
}

fn lost_answer() -> QueueError {
    QueueError::Unavailable("the connection was cut".into())
}

impl Broker for Remote {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.jobs.capabilities();
        capabilities.name = "remote";
        capabilities.maxima.batch = self.batch;
        capabilities.maxima.wait = self.wait;
        capabilities.maxima.delay = self.longest_delay;
        capabilities.maxima.lease = LONG * 100;
        let capabilities = capabilities.with(&[Capability::Consumers, Capability::CancelRunning]);
        if self.refuses_odd || self.batch < usize::MAX {
            return capabilities.without(&[Capability::AtomicBatches]);
        }
        capabilities
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Result<Enqueued, QueueError>>, QueueError> {
        self.asked(jobs.len());
        let mut answers = Vec::new();
        for job in jobs {
            let is_odd = matches!(job.payload.last(), Some(b'1' | b'3' | b'5' | b'7' | b'9'));
            if is_odd && self.refuses_odd {
                answers.push(Err(QueueError::Invalid("an odd number".to_owned())));
            } else {
                answers.append(&mut self.jobs.enqueue(std::slice::from_ref(job))?);
            }
        }
        self.changed();
        Ok(answers)
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Claims, QueueError> {
        self.asked(request.limit);
        assert!(request.wait <= self.wait, "{:?}", request.wait);
        let deadline = Instant::now() + request.wait;
        loop {
            let seen = *self.changes.0.lock().unwrap();
            let claims = self.claim_now(request)?;
            let is_over = !claims.jobs.is_empty() || claims.fragile_next;
            if is_over || request.wait.is_zero() {
                return Ok(claims);
            }
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let goes_on = self.wait(seen, deadline, request.stop.as_ref());
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            if !goes_on {
                return Ok(claims);
            }
        }
    }

    fn extend(&self, leases: &[Lease], time: Duration) -> Result<Vec<Extended>, QueueError> {
        self.asked(leases.len());
        let mut answers = Vec::new();
        for lease in leases {
            let held = self.inside(lease);
            let held = held.filter(|held| {
                let extended = self.jobs.extend(std::slice::from_ref(held), time);
                extended.unwrap()[0] != Extended::Lost
            });
            answers.push(match held {
                None => Extended::Lost,
                Some(held) => {
                    if self.renews {
                        *self
                            .renewed
                            .lock()
                            .unwrap()
                            .entry(held.clone())
                            .or_default() += 1;
                    }
                    let lease = self.outside(&held);
                    if self.cancelled.lock().unwrap().contains(&held.id()) {
                        Extended::Cancelled(lease)
                    } else {
                        Extended::Held(lease)
                    }
                }
            });
        }
        self.extends.fetch_add(1, Ordering::SeqCst);
        Ok(answers)
    }

    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<Settled>, QueueError> {
        self.asked(ends.len());
        if let Some(text) = self.refused {
            let text = text.as_bytes();
            let has_text = |(_, end): &(Lease, Settle)| matches!(end, Settle::Done { result } if result.windows(text.len()).any(|part| part == text));
            if ends.iter().any(has_text) {
                return Err(QueueError::Invalid("that text".to_owned()));
            }
        }
        let mut answers = Vec::new();
        for (lease, end) in ends {
            answers.push(match self.inside(lease) {
                None => Settled::Lost,
                Some(held) => self.jobs.settle(&[(held, end.clone())])?[0],
            });
        }
        self.changed();
        let lost = (self.lost_settles).fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
        if lost.is_ok() {
            return Err(lost_answer());
        }
        let forgets = (self.forgets_one).fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
        if forgets.is_ok() {
            answers.pop();
        }
        Ok(answers)
    }

    fn subscribe(&self, listener: Listener) -> Result<Subscription, QueueError> {
        if self.wait.is_zero() {
            return self.jobs.subscribe(listener);
        }
        // Nobody is called.
        Ok(self.listeners.add(listener))
    }

    fn progress(&self, lease: &Lease, progress: &[u8]) -> Result<bool, QueueError> {
        let held = self.inside(lease);
        held.map_or(Ok(false), |held| self.jobs.progress(&held, progress))
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.jobs.admin()
    }

    fn consumer_registry(&self) -> Option<&dyn ConsumerRegistry> {
        Some(self)
    }
}

impl ConsumerRegistry for Remote {
    fn announce(&self, consumer: &ConsumerInfo, _: Duration) -> Result<(), QueueError> {
        let mut all = self.announced.lock().unwrap();
        all.retain(|other| other.id != consumer.id);
        all.push(consumer.clone());
        Ok(())
    }

    fn withdraw(&self, id: &str) -> Result<(), QueueError> {
        self.announced
            .lock()
            .unwrap()
            .retain(|other| other.id != id);
        Ok(())
    }

    fn consumers(&self) -> Result<Vec<ConsumerInfo>, QueueError> {
        Ok(self.announced.lock().unwrap().clone())
    }
}

fn of(remote: Remote) -> (Arc<Remote>, Queue) {
    let remote = Arc::new(remote);
    (Arc::clone(&remote), Queue::shared(remote))
}

fn hear<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(LONG).expect("it comes")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_lease_whose_token_changes_is_extended_reported_on_and_settled_with_the_newest_one() {
    let (remote, queue) = of(Remote {
        renews: true,
        ..Remote::new()
    });
    let pool = Pool::with_capacity(1);
    let seen = Arc::clone(&remote);
    let consumer = queue
        .consumer(&pool)
        .lease(Duration::from_millis(600))
        .handle(move |_: Count, context: &Context| -> Result<(), JobError> {
            let first = context.lease();
            until("five heartbeats", || {
                seen.extends.load(Ordering::SeqCst) >= 5
            });
            assert_ne!(context.lease(), first);
            assert!(context.progress(&1)?, "its lease is held");
            Ok(())
        })
        .start()
        .unwrap();
    queue.enqueue(Count(0)).unwrap();
    consumer.wait_idle();
    let (ours, theirs) = (consumer.stats(), queue.stats().unwrap());
    assert_eq!(
        (ours.done, ours.lost, theirs.done, theirs.lost_leases),
        (1, 0, 1, 0)
    );
}

#[test]
fn an_end_whose_answer_was_lost_is_not_told_as_lost() {
    let (remote, queue) = of(Remote::new());
    let pool = Pool::with_capacity(1);
    let builder = queue.consumer(&pool).on_error(|_| {});
    let consumer = builder
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .start()
        .unwrap();
    remote.lost_settles.store(1, Ordering::SeqCst);
    queue.enqueue(Count(0)).unwrap();
    consumer.wait_idle();
    let (ours, theirs) = (consumer.stats(), queue.stats().unwrap());
    assert_eq!((ours.done, ours.lost, ours.unconfirmed), (1, 0, 1));
    assert_eq!((theirs.done, theirs.dead, theirs.lost_leases), (1, 0, 0));
}

#[test]
fn an_answer_for_fewer_jobs_than_were_settled_is_an_error_and_the_jobs_are_settled_again() {
    let (remote, queue) = of(Remote::new());
    let pool = Pool::with_capacity(1);
    let (send, errors) = mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .on_error(move |error| drop(send.send(format!("{error:?}"))))
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .start()
        .unwrap();
    remote.forgets_one.store(1, Ordering::SeqCst);
    queue.enqueue(Count(0)).unwrap();
    assert!(hear(&errors).contains("0 answers to 1"));
    consumer.wait_idle();
    assert_eq!(consumer.stats().in_hand, 0);
    assert!(consumer.stop(LONG).is_ok());
}

#[test]
fn what_the_broker_says_it_will_never_take_is_dead_at_once() {
    let (remote, queue) = of(Remote {
        refused: Some("forbidden"),
        ..Remote::new()
    });
    let pool = Pool::with_capacity(1);
    let builder = queue.consumer(&pool).on_error(|_| {});
    let consumer = builder
        .handle(|_: Count, _: &Context| -> Result<_, JobError> { Ok("forbidden") })
        .start()
        .unwrap();
    let kept = queue.job(Count(0)).keep_result(LONG);
    let id = kept.enqueue().unwrap().id();
    let before = remote.calls.load(Ordering::SeqCst);
    consumer.wait_idle();
    let dead = queue.get(id).unwrap().expect("it is there");
    assert_eq!(dead.state, JobState::Dead);
    assert!(dead.error.unwrap().contains("cannot take this: that text"));
    // In a batch, alone, and then as a dead letter, beside the claims: it is not tried again and again.
    let calls = remote.calls.load(Ordering::SeqCst) - before;
    assert!(calls <= 12, "{calls}");
}

#[test]
fn no_call_has_more_than_the_engine_takes() {
    let (remote, queue) = of(Remote {
        batch: 3,
        ..Remote::new()
    });
    let jobs: Vec<Count> = (0..20).map(Count).collect();
    assert_eq!(queue.enqueue_all(jobs).unwrap().len(), 20);
    let pool = Pool::with_capacity(2);
    let consumer = queue
        .consumer(&pool)
        .handle_batch(10, |counts: Vec<Count>, _: &[Context]| {
            counts.iter().map(|_| Ok(())).collect()
        })
        .start()
        .unwrap();
    consumer.wait_idle();
    let (ours, theirs) = (consumer.stats(), queue.stats().unwrap());
    assert_eq!((ours.done, theirs.done, theirs.ready), (20, 20, 0));
    assert!(remote.calls.load(Ordering::SeqCst) >= 7 * 3);
}

#[test]
fn a_move_has_no_more_jobs_in_a_call_than_the_target_takes() {
    let mut remote = Remote::new();
    remote.batch = 3;
    let (_, to) = of(remote);
    let from = Queue::memory();
    from.enqueue_all((0..10).map(Count).collect()).unwrap();
    let moved = from.move_to(&to, &MoveRequest::waiting()).unwrap();
    assert_eq!((moved.moved, to.stats().unwrap().ready), (10, 10));
}

#[test]
fn jobs_that_were_refused_come_back_and_the_others_are_told() {
    let (_, queue) = of(Remote {
        refuses_odd: true,
        batch: 2,
        ..Remote::new()
    });
    let refused = queue.enqueue_all((0..5).map(Count).collect()).unwrap_err();
    assert!(matches!(refused.reason(), QueueError::Invalid(_)));
    assert_eq!(refused.enqueued().len(), 3);
    assert_eq!(refused.into_inner(), [Count(1), Count(3)]);
    assert_eq!(queue.stats().unwrap().ready, 3);
    assert_eq!(queue.enqueue(Count(7)).unwrap_err().into_inner(), Count(7));
}

#[test]
fn a_claim_that_waits_hears_of_what_nobody_told_and_ends_when_the_consumer_stops() {
    let (remote, queue) = of(Remote {
        wait: LONG * 10,
        ..Remote::new()
    });
    let pool = Pool::with_capacity(2);
    let (send, ran) = mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .handle(move |Count(number), _: &Context| Ok(send.send(number)?))
        .start()
        .unwrap();
    for number in 0..3 {
        until("it waits", || remote.waiting.load(Ordering::SeqCst) == 1);
        queue.enqueue(Count(number)).unwrap();
        assert_eq!(hear(&ran), number);
    }
    let last = queue.job(Count(9)).retries(0);
    last.enqueue().unwrap();
    assert_eq!(hear(&ran), 9, "a fragile job is left to a runner");
    until("it waits", || remote.waiting.load(Ordering::SeqCst) == 1);
    let calls = remote.calls.load(Ordering::SeqCst);
    consumer.stop(LONG).unwrap();
    assert_eq!(remote.waiting.load(Ordering::SeqCst), 0);
    assert!(
        remote.calls.load(Ordering::SeqCst) <= calls + 1,
        "it did not poll"
    );
    assert_eq!(queue.stats().unwrap().done, 4);
}

#[test]
fn a_longer_delay_than_the_engine_can_is_refused_or_the_longest_that_there_is() {
    let (_, queue) = of(Remote {
        longest_delay: Duration::from_secs(900),
        ..Remote::new()
    });
    let late = queue.job(Count(0)).delay(Duration::from_secs(901));
    let refused = late.enqueue().unwrap_err();
    assert!(matches!(refused.reason(), QueueError::Unsupported { .. }));
    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> {
            Err(JobError::retry_in(Duration::MAX, "later"))
        })
        .start()
        .unwrap();
    let id = queue.enqueue(Count(0)).unwrap();
    consumer.wait_idle();
    let due = queue.get(id).unwrap().unwrap().due_in.unwrap();
    assert!(due <= Duration::from_secs(900), "{due:?}");
    let builder = queue.consumer(&pool).lease(LONG * 101);
    let too_long = builder.handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) });
    assert!(matches!(
        too_long.start(),
        Err(QueueError::Unsupported { .. })
    ));
}

#[test]
fn a_consumer_is_announced_while_it_lives() {
    let (_, queue) = of(Remote::new());
    let pool = Pool::with_capacity(3);
    let consumer = queue
        .consumer(&pool)
        .workers(2..=3)
        .handle(|_: Count, _: &Context| -> Result<(), JobError> { Ok(()) })
        .start()
        .unwrap();
    until("it is announced", || !queue.consumers().unwrap().is_empty());
    let all = queue.consumers().unwrap();
    assert_eq!(
        (&*all[0].id, &all[0].kinds[..], all[0].workers),
        (consumer.id(), &["count".to_owned()][..], 2)
    );
    consumer.stop(LONG).unwrap();
    assert!(queue.consumers().unwrap().is_empty());
}

#[test]
fn a_handler_is_told_that_its_job_is_cancelled() {
    let (remote, queue) = of(Remote::new());
    let pool = Pool::with_capacity(1);
    let (send, ended) = mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .lease(Duration::from_millis(300))
        .after(move |_, end| drop(send.send(end.clone())))
        .handle(move |_: Count, context: &Context| -> Result<(), JobError> {
            remote.cancelled.lock().unwrap().push(context.id());
            assert!(context.stop_token().wait_timeout(LONG), "it is told");
            assert!(context.is_cancelled());
            Err("cancelled".into())
        })
        .start()
        .unwrap();
    queue.enqueue(Count(0)).unwrap();
    assert!(matches!(hear(&ended), Ended::Cancelled { .. }));
    consumer.stop(LONG).unwrap();
    let stats = consumer.stats();
    assert_eq!((stats.cancelled, stats.retried, stats.done), (1, 0, 0));
}

#[test]
fn a_job_that_its_handler_settled_is_done_and_one_that_it_only_said_it_settled_is_not() {
    let (remote, queue) = of(Remote::new());
    let pool = Pool::with_capacity(1);
    let broker = Arc::clone(&remote);
    let consumer = queue
        .consumer(&pool)
        .backoff(Backoff::new(Duration::ZERO, Duration::ZERO))
        .handle(
            move |Count(number), context: &Context| -> Result<(), JobError> {
                let settlement = context.settlement(&())?;
                // The second job's transaction is not committed the first time.
                if number == 0 || context.attempt() > 1 {
                    broker.settle(&[settlement])?;
                }
                Ok(())
            },
        )
        .start()
        .unwrap();
    queue.enqueue(Count(0)).unwrap();
    consumer.wait_idle();
    let stats = consumer.stats();
    assert_eq!((stats.done, stats.retried, stats.lost), (1, 0, 0));
    queue.enqueue(Count(1)).unwrap();
    consumer.wait_idle();
    let stats = consumer.stats();
    assert_eq!(
        (stats.done, stats.retried, stats.lost, stats.unconfirmed),
        (2, 1, 0, 0)
    );
    assert_eq!(queue.stats().unwrap().done, 2);
}
