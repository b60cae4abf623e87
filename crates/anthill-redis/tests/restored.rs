//! A server whose data is removed under those who have it open: the queue is made anew, and what they had set is set again.

mod common;

use anthill_jobs::broker::{Admin, LimitStore, ScheduleStore};
use anthill_jobs::{Broker, Limits, Missed, QueueError, Retention, Scheduled};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{Persistence, Server};
use anthill_test_support::{eventually, skip_unless};
use common::wire::{Act, Wire};
use common::{LEASE, builder, claim, ear, enqueue, finish, fresh, hears, job, jobs, open, stats};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn limits() -> Limits {
    Limits {
        running: Some(7),
        ..Limits::default()
    }
}

fn schedule() -> Scheduled {
    Scheduled {
        name: "nightly".to_owned(),
        cron: "0 3 * * *".to_owned(),
        kind: "test".to_owned(),
        payload: b"{}".to_vec(),
        next: 2_000_000_000,
        missed: Missed::All,
    }
}

fn set(broker: &RedisBroker) {
    broker.set_limits(limits()).expect("they can be set");
    let retention = Retention::default().dead(LEASE);
    broker.set_retention(retention).expect("it can be set");
    broker.put_schedule(&schedule()).expect("it can be set");
}

/// Whether all is as it was set, as another process sees it.
fn is_set(broker: &RedisBroker) -> bool {
    let names = |all: Vec<Scheduled>| all.into_iter().map(|one| one.name).collect::<Vec<_>>();
    broker.limits().is_ok_and(|now| now == limits())
        && broker.retention().is_ok_and(|now| now.dead == Some(LEASE))
        && broker
            .schedules()
            .is_ok_and(|now| names(now.all) == ["nightly"])
}

#[test]
fn whoever_calls_next_makes_the_queue_and_sets_what_he_had_set() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let queue = fresh();
    let (broker, other) = (open(&server.url(), &queue), open(&server.url(), &queue));
    set(&broker);
    broker
        .put_schedule(&Scheduled {
            name: "dropped".to_owned(),
            ..schedule()
        })
        .unwrap();
    assert!(broker.drop_schedule("dropped").unwrap());
    for round in 0..3 {
        enqueue(&broker, &jobs(3));
        let held = claim(&broker, 1);
        broker.set_paused(true).expect("it can be paused");
        server.raw().run(&["FLUSHALL"]);
        // Each kind of call is one that may come first.
        match round {
            0 => drop(enqueue(&broker, &jobs(1))),
            1 => assert_eq!(claim(&broker, 1).len(), 0),
            _ => assert_eq!(finish(&broker, &held), 0),
        }
        assert!(is_set(&other), "{round}");
        let now = stats(&other);
        assert!(!now.paused && now.enqueued <= 1, "{now:?}");
        while let [one, ..] = &claim(&other, 1)[..] {
            assert_eq!(finish(&other, std::slice::from_ref(one)), 1);
        }
    }
}

#[test]
fn what_could_not_be_set_again_is_tried_again() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let queue = fresh();
    let cuts = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&cuts);
    let wire = Wire::start(server.address(), move |request| {
        let is_it = request.iter().any(|part| part == b"limits");
        let cut = |left: usize| left.checked_sub(1).filter(|_| is_it);
        let cuts = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, cut);
        if cuts.is_ok() {
            Act::CutRequest
        } else {
            Act::Pass
        }
    });
    let address = server.url_through(wire.address());
    let broker = builder(&address, &queue).open().expect("it is there");
    let other = open(&server.url(), &queue);
    set(&broker);
    server.raw().run(&["FLUSHALL"]);
    // The call that meets it makes the queue, and gets no further.
    cuts.store(2, Ordering::SeqCst);
    let failed = broker.enqueue(&jobs(1));
    assert!(
        matches!(failed, Err(QueueError::Unavailable(_))),
        "{failed:?}"
    );
    assert_eq!(cuts.load(Ordering::SeqCst), 0);
    assert!(!is_set(&other));
    enqueue(&broker, &jobs(1));
    assert!(is_set(&other));
}

/// Nothing of it is refused to this process, which has to hear of it.
#[test]
fn who_listens_finds_out_that_another_one_has_made_the_queue_anew() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let queue = fresh();
    let (broker, other) = (open(&server.url(), &queue), open(&server.url(), &queue));
    set(&broker);
    let (heard, _subscription) = ear(&broker, LEASE);
    hears(&heard, || {
        enqueue(&other, &[job("heard")]);
    });
    server.raw().run(&["FLUSHALL"]);
    let before = heard.elsewhere.load(Ordering::SeqCst);
    enqueue(&other, &[job("first of another queue")]);
    eventually("it is told", || {
        heard.elsewhere.load(Ordering::SeqCst) > before
    });
    eventually("it is set again", || is_set(&other));
}
