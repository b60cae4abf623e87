//! U5: when a job begins that may end the process with its last attempt, no other such job is at stake.

use crate::bench::*;
use crate::watched::{Call, Watch, Watched};
use anthill::Pool;
use anthill_jobs::*;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};

/// What is in the consumer's hands, as its broker and its handlers see it.
#[derive(Default)]
struct Sight {
    /// Given by themselves, and not begun.
    claimed: HashSet<JobId>,
    fragile: HashSet<JobId>,
    /// Whose ends are told just now, or are to be told again.
    owed: HashSet<JobId>,
    /// Of each that was claimed, those whose ends were owed then.
    before: HashMap<JobId, HashSet<JobId>>,
    begins: u32,
    wrong: Vec<String>,
}

#[derive(Clone, Default)]
struct Books {
    sight: Arc<Mutex<Sight>>,
    /// Each that many settles fail.
    fails_each: u32,
    settles: Arc<Mutex<u32>>,
}

impl Books {
    fn begins(&self, id: JobId) {
        let mut sight = self.sight.lock().unwrap();
        sight.claimed.remove(&id);
        sight.begins += 1;
        if !sight.fragile.contains(&id) {
            return;
        }
        if !sight.claimed.is_empty() {
            let wrong = format!("{} more are claimed", sight.claimed.len());
            sight.wrong.push(wrong);
        }
        // One that ran when this one was to begin may have ended since.
        let before = sight.before.remove(&id).unwrap_or_default();
        let owed = before.intersection(&sight.owed).count();
        if owed > 0 {
            let wrong = format!("{owed} ends are not stored");
            sight.wrong.push(wrong);
        }
    }
}

impl Watch for Books {
    fn before(&self, _: Call) -> Result<(), QueueError> {
        Ok(())
    }

    fn claimed(&self, claims: &Claims, _: &dyn Broker) {
        let mut sight = self.sight.lock().unwrap();
        for job in claims.jobs.iter().filter(|job| job.is_fragile) {
            let owed = sight.owed.clone();
            sight.before.insert(job.lease.id(), owed);
            sight.claimed.insert(job.lease.id());
            sight.fragile.insert(job.lease.id());
        }
    }

    fn settling(&self, ends: &[(Lease, Settle)]) -> Result<(), QueueError> {
        {
            let mut sight = self.sight.lock().unwrap();
            for (lease, end) in ends {
                let id = lease.id();
                let is_back = matches!(end, Settle::Release { .. });
                if sight.fragile.contains(&id) && !is_back {
                    sight.owed.insert(id);
                }
                if is_back {
                    sight.claimed.remove(&id);
                }
            }
        }
        let mut settles = self.settles.lock().unwrap();
        *settles += 1;
        let fails = self.fails_each > 0 && *settles % self.fails_each == 0;
        drop(settles);
        // Whoever might begin meanwhile.
        for _ in 0..20 {
            std::thread::yield_now();
        }
        if fails {
            return Err(QueueError::Broker("it is down".into()));
        }
        Ok(())
    }

    fn settled(&self, ends: &[(Lease, Settle)]) {
        let mut sight = self.sight.lock().unwrap();
        for (lease, _) in ends {
            sight.owed.remove(&lease.id());
        }
    }
}

/// Jobs of one attempt and others, on four workers: quick ones, slow ones, and some that fail.
fn at_stake(fails_each: u32, jobs: u32) {
    let books = Books {
        fails_each,
        ..Books::default()
    };
    let queue = Queue::of(Watched {
        broker: MemoryBroker::new(Clock::system()),
        watch: books.clone(),
    });
    let pool = Pool::with_capacity(4);
    let told = books.clone();
    for n in 0..jobs {
        let retries = if n % 3 == 0 { 5 } else { 0 };
        queue.job(Count(n)).retries(retries).enqueue().unwrap();
    }
    let consumer = queue
        .consumer(&pool)
        .workers(4..=4)
        .before(move |context| told.begins(context.id()))
        .handle(move |Count(n): Count, _: &Context| {
            for _ in 0..n % 7 * 50 {
                std::thread::yield_now();
            }
            if n % 11 == 0 {
                return Err(JobError::fatal("no"));
            }
            Ok(())
        })
        .on_error(|_| {})
        .start()
        .unwrap();
    until("all are over", || {
        let stats = queue.stats().unwrap();
        stats.done + stats.died == u64::from(jobs)
    });
    consumer.stop(LONG).unwrap();
    let sight = books.sight.lock().unwrap();
    assert!(sight.wrong.is_empty(), "{:?}", sight.wrong);
    assert_eq!(sight.begins, jobs, "each once");
    assert!(sight.fragile.len() >= jobs as usize / 3 * 2);
}

#[test]
fn no_other_job_is_at_stake_when_one_begins_its_last_attempt() {
    at_stake(0, 400);
}

#[test]
fn nor_where_a_broker_fails_now_and_then() {
    at_stake(7, 60);
}

/// Several run at once, as each of them has begun.
#[test]
fn several_of_one_attempt_run_at_once() {
    let (queue, _) = queue();
    let pool = Pool::with_capacity(4);
    let gate = Gate::new();
    let there = gate.clone();
    for n in 0..8 {
        queue.job(Count(n)).retries(0).enqueue().unwrap();
    }
    let consumer = queue
        .consumer(&pool)
        .workers(4..=4)
        .handle(move |_: Count, _: &Context| {
            there.pass();
            Ok(())
        })
        .start()
        .unwrap();
    gate.wait_for(4);
    assert_eq!(
        consumer.stats().in_hand,
        4,
        "none is claimed that cannot begin"
    );
    gate.open();
    consumer.wait_idle();
    consumer.stop(LONG).unwrap();
    assert_eq!(queue.stats().unwrap().done, 8);
}

/// Stops its consumer while it claims.
#[derive(Clone, Default)]
struct StopsDuringClaims(Arc<OnceLock<Arc<Consumer>>>);

impl Watch for StopsDuringClaims {
    fn before(&self, _: Call) -> Result<(), QueueError> {
        Ok(())
    }

    fn claimed(&self, claims: &Claims, _: &dyn Broker) {
        if !claims.jobs.is_empty() {
            until("the consumer is there", || self.0.get().is_some());
            // In a task of its pool it does not wait.
            let _ = self.0.get().unwrap().stop(std::time::Duration::ZERO);
        }
    }
}

/// A job that was claimed while its consumer was told to stop does not begin: its handler would not hear of the stop.
#[test]
fn what_is_claimed_during_a_stop_is_handed_back() {
    for retries in [0, 5] {
        let watch = StopsDuringClaims::default();
        let queue = Queue::of(Watched {
            broker: MemoryBroker::new(Clock::system()),
            watch: watch.clone(),
        });
        let pool = Pool::with_capacity(1);
        let id = queue.job(Count(1)).retries(retries).enqueue().unwrap().id();
        let consumer = queue
            .consumer(&pool)
            .handle(move |_: Count, context: &Context| -> Result<(), JobError> {
                assert!(
                    context.stop_token().wait_timeout(LONG),
                    "it hears of the stop"
                );
                Ok(())
            })
            .start()
            .unwrap();
        let consumer = Arc::new(consumer);
        assert!(watch.0.set(consumer.clone()).is_ok());
        until("it is told to stop", || consumer.stats().claimed > 0);
        consumer.stop(LONG).unwrap();
        let job = queue.get(id).unwrap().unwrap();
        assert_eq!((job.state, job.attempt), (JobState::Ready, 0));
        assert_eq!(consumer.stats().released, 1);
    }
}

/// Takes the lease of a job away while the end of another one is told.
#[derive(Clone)]
struct LosesALease {
    gate: Arc<Gate>,
    /// Its second claim of this one is another consumer's.
    clock: Clock,
}

impl Watch for LosesALease {
    fn before(&self, call: Call) -> Result<(), QueueError> {
        if call == Call::Settle {
            self.gate.pass();
        }
        Ok(())
    }
}

/// A job that waits for its turn to begin, and is another's by then, does not begin here.
#[test]
fn one_that_lost_its_lease_before_it_begins_does_not_begin() {
    let clock = Clock::manual();
    let watch = LosesALease {
        gate: Gate::new(),
        clock: clock.clone(),
    };
    let queue = Queue::of(Watched {
        broker: MemoryBroker::new(clock.clone()),
        watch: watch.clone(),
    });
    let pool = Pool::with_capacity(2);
    queue.job(Count(1)).retries(0).enqueue().unwrap();
    let (send, began) = std::sync::mpsc::channel();
    let consumer = queue
        .consumer(&pool)
        .workers(2..=2)
        .lease(std::time::Duration::from_millis(90))
        .handle(move |Count(n): Count, _: &Context| Ok(send.send(n)?))
        .start()
        .unwrap();
    // The end of the first one is told, and the second one waits for that.
    watch.gate.wait_for(1);
    queue.job(Count(2)).retries(0).enqueue().unwrap();
    until("the second is claimed", || consumer.stats().claimed == 2);
    // A heartbeat in between keeps them once more.
    until("it is given up", || {
        watch.clock.advance(SECOND);
        queue.stats().unwrap();
        consumer.stats().lost == 1
    });
    watch.gate.open();
    consumer.wait_idle();
    consumer.stop(LONG).unwrap();
    assert_eq!(began.try_iter().collect::<Vec<_>>(), [1]);
    let stats = queue.stats().unwrap();
    assert_eq!((stats.dead, stats.lost_leases), (2, 2));
}
