//! A primary that goes, and its replica that takes over: who works goes on, and what is lost is what had not come over.

mod common;

use anthill_jobs::broker::Admin;
use anthill_jobs::{Broker, Enqueued, Extended, JobId, QueueError, Settle, Settled};
use anthill_redis::RedisBroker;
use anthill_test_support::missing::Missing;
use anthill_test_support::redis::{Options, Persistence, Server};
use anthill_test_support::{eventually, skip_unless};
use common::{
    Ends, LEASE, Over, builder, claim, done, ear, enqueue, fresh, hears, job, jobs, names, open,
    request, stats, work,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(3);

struct Pair {
    primary: Server,
    replica: Server,
    /// Of both.
    address: String,
}

impl Pair {
    fn start() -> Result<Pair, Missing> {
        let primary = Options::new(Persistence::Off).password("secret").start()?;
        let replica = Options::new(Persistence::Off).password("secret");
        let replica = replica.replica_of(&primary).start()?;
        replica.wait_for_replication();
        let address = format!(
            "redis://:secret@{},{}/",
            primary.address(),
            replica.address()
        );
        Ok(Pair {
            primary,
            replica,
            address,
        })
    }

    fn open(&self, queue: &str) -> RedisBroker {
        builder(&self.address, queue)
            .timeout(TIMEOUT)
            .open()
            .expect("it is there")
    }
}

/// Calls until it is not refused for a reason that passes.
#[track_caller]
fn until_done<T>(mut call: impl FnMut() -> Result<T, QueueError>) -> T {
    let mut answer = None;
    eventually("it goes on", || match call() {
        Ok(value) => {
            answer = Some(value);
            true
        }
        Err(error) => {
            assert!(error.is_transient(), "{error:?}");
            false
        }
    });
    answer.expect("it came")
}

#[test]
fn who_holds_a_job_of_the_old_primary_settles_it_at_the_new_one() {
    let pair = skip_unless!(Pair::start());
    let queue = fresh();
    let broker = pair.open(&queue);
    let (heard, _subscription) = ear(&broker, LEASE);
    enqueue(&broker, &jobs(3));
    let held = claim(&broker, 2);
    pair.replica.wait_for_replication();
    pair.primary.kill();
    pair.replica.promote();
    let leases: Vec<_> = held.iter().map(|job| job.lease.clone()).collect();
    let extended = until_done(|| broker.extend(&leases, LEASE));
    assert!(extended.iter().all(|one| matches!(one, Extended::Held(_))));
    let ends: Vec<_> = held.iter().map(done).collect();
    let settled = until_done(|| broker.settle(&ends));
    assert_eq!(settled, [Settled::Stored, Settled::Stored]);
    let rest = until_done(|| broker.claim(&request(5, LEASE))).jobs;
    assert_eq!(names(&rest), ["2"]);
    // Listeners hear what happens at the new one.
    let other = open(&pair.replica.url(), &queue);
    hears(&heard, || {
        enqueue(&other, &[job("heard")]);
    });
    let now = stats(&broker);
    assert_eq!((now.done, now.lost_leases), (2, 0), "{now:?}");
}

#[test]
fn a_holder_whose_claim_did_not_come_over_is_refused() {
    let pair = skip_unless!(Pair::start());
    let queue = fresh();
    let broker = pair.open(&queue);
    enqueue(&broker, &jobs(2));
    pair.replica.wait_for_replication();
    // From here on nothing comes over: the link is down, and the old one works on for a while.
    pair.replica.raw().run(&["REPLICAOF", "127.0.0.1", "1"]);
    let old = claim(&broker, 2);
    let late = job("late");
    assert_eq!(
        enqueue(&broker, std::slice::from_ref(&late)),
        [Enqueued::Added(late.id)]
    );
    pair.primary.pause();
    pair.replica.promote();
    let new = until_done(|| broker.claim(&request(2, LEASE))).jobs;
    assert_eq!(names(&new), ["0", "1"], "the claim of the old one is lost");
    assert_ne!(new[0].lease, old[0].lease);
    // Two hold them now, and only the new one is believed: at the new primary.
    let ends: Vec<_> = old.iter().map(done).collect();
    assert_eq!(
        broker.settle(&ends).unwrap(),
        [Settled::Lost, Settled::Lost]
    );
    let again = Settle::Retry {
        delay: Duration::ZERO,
        error: String::new(),
    };
    let ends = [(old[0].lease.clone(), again)];
    assert_eq!(broker.settle(&ends).unwrap(), [Settled::Lost]);
    let leases: Vec<_> = old.iter().map(|job| job.lease.clone()).collect();
    let extended = broker.extend(&leases, LEASE).unwrap();
    assert!(extended.iter().all(|one| matches!(one, Extended::Lost)));
    // What was acknowledged by the old one alone is gone, and nothing else; whoever repeats it stores it.
    assert_eq!(stats(&broker).ready, 0);
    assert_eq!(
        enqueue(&broker, std::slice::from_ref(&late)),
        [Enqueued::Added(late.id)]
    );
    assert_eq!(stats(&broker).running, 2);
    // The old one comes back as a replica, with all that it had; nobody asks it for more than where to ask.
    pair.primary.resume();
    pair.primary.follow(&pair.replica);
    pair.primary.wait_for_replication();
    let only_old = builder(&pair.primary.url(), &queue);
    let refused = only_old.timeout(Duration::from_millis(300)).open();
    let opened = refused.and_then(|broker| broker.enqueue(&jobs(1)).map(drop));
    let error = opened.expect_err("it is a replica");
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    let said = format!("{error:?}");
    assert!(said.contains("READONLY"), "{said}");
    let ends: Vec<_> = new.iter().map(done).collect();
    assert_eq!(
        broker.settle(&ends).unwrap(),
        [Settled::Stored, Settled::Stored]
    );
}

/// The connections stand, and the server behind them is another than it was.
#[test]
fn a_primary_that_becomes_a_replica_sends_everybody_to_the_new_one() {
    let pair = skip_unless!(Pair::start());
    let queue = fresh();
    let broker = pair.open(&queue);
    enqueue(&broker, &jobs(1));
    for round in 0..4 {
        let (old, new) = if round % 2 == 0 {
            (&pair.primary, &pair.replica)
        } else {
            (&pair.replica, &pair.primary)
        };
        new.wait_for_replication();
        new.promote();
        old.follow(new);
        // Refused by the one, and done by the other, in one call; not repeated, as nothing is in doubt.
        assert!(enqueue(&broker, &jobs(1))[0].is_added());
        let held = broker
            .claim(&request(1, LEASE))
            .expect("it is sent on")
            .jobs;
        assert_eq!(common::finish(&broker, &held), 1);
        let fields = old.raw().info("errorstats");
        assert!(
            fields.contains_key("errorstat_READONLY"),
            "{round}: {fields:?}"
        );
    }
    assert_eq!((stats(&broker).done, stats(&broker).ready), (4, 1));
}

#[test]
fn a_fleet_goes_on_and_loses_what_had_not_come_over_and_nothing_else() {
    let pair = skip_unless!(Pair::start());
    let queue = fresh();
    let (is_over, is_produced) = (AtomicBool::new(false), AtomicBool::new(false));
    let (stops, stands) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut stored, mut ends) = (Vec::new(), BTreeMap::<JobId, Ends>::new());
    // Of those that were acknowledged before, all had come over.
    let mut before = 0;
    thread::scope(|scope| {
        let over = Over(&is_over);
        let (stops, stands) = (&stops, &stands);
        let (is_over, is_produced) = (&is_over, &is_produced);
        let (pair, queue) = (&pair, &queue);
        let producer = scope.spawn(move || {
            let _produced = Over(is_produced);
            let broker = pair.open(queue);
            let mut stored: Vec<JobId> = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                if stops.load(Ordering::SeqCst) {
                    stands.store(true, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let some = jobs(3);
                // What failed may have been done, and is repeated.
                until_done(|| broker.enqueue(&some));
                stored.extend(some.iter().map(|job| job.id));
            }
            stored
        });
        let consumer = move || {
            let broker = pair.open(queue);
            work(&broker, Duration::from_secs(2), &|| {
                is_produced.load(Ordering::SeqCst)
            })
        };
        let consumers: Vec<_> = (0..3).map(|_| scope.spawn(consumer)).collect();
        let watch = pair.open(queue);
        let works = |more: u64| {
            let begin = until_done(|| watch.stats()).done;
            eventually("they work", || {
                watch.stats().is_ok_and(|now| now.done > begin + more)
            });
        };
        works(200);
        // In mid-job; the producer stands for a moment, so that what it has enqueued comes over.
        stops.store(true, Ordering::SeqCst);
        eventually("it stands", || stands.load(Ordering::SeqCst));
        pair.replica.wait_for_replication();
        pair.primary.kill();
        pair.replica.promote();
        before = until_done(|| watch.stats()).enqueued;
        stops.store(false, Ordering::SeqCst);
        works(200);
        drop(over);
        stored = producer.join().expect("no panic");
        for consumer in consumers {
            for (id, end) in consumer.join().expect("no panic") {
                let all = ends.entry(id).or_default();
                all.stored += end.stored;
                all.unknown += end.unknown;
                all.lost += end.lost;
            }
        }
    });
    assert!(before > 200);
    // Each was done: at least as somebody knows, or as nobody can tell, as it was settled at the one that died.
    let undone = |id: &&JobId| ends.get(id).is_none_or(|end| end.stored + end.unknown == 0);
    let undone: Vec<_> = stored.iter().filter(undone).collect();
    assert!(undone.is_empty(), "{undone:?}");
    // Twice only what a settlement did not come over of, or a lease was over of: at most what was in hand.
    let twice = ends.values().filter(|end| end.stored > 1).count();
    assert!(twice <= 3 * 5 * 2, "{twice}");
    let left = stats(&pair.open(&queue));
    assert_eq!((left.ready, left.running, left.dead), (0, 0, 0), "{left:?}");
}
