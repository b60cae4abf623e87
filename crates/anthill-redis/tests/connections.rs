//! Connections that stand still, are closed, or mix up answers: each call ends in its time, they are no more than was said, and
//! nothing is left of them.
#![cfg(unix)]

mod common;

use anthill_jobs::broker::Admin;
use anthill_jobs::{Broker, Extended, Limits, QueueError, Settle};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{self, Persistence, Server};
use anthill_test_support::{eventually, skip_unless, watchdog};
use common::line::{Line, TIMEOUT, is_unavailable};
use common::wire::{Act, Wire};
use common::{
    GRACE, LEASE, Over, at_once, builder, claim, clients, ear, enqueue, finish, fresh, job, jobs,
    names, open, request, stats,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Makes each call there is, and holds it to its time.
fn all_end_in_time(what: &str, broker: &Arc<RedisBroker>, lease: &anthill_jobs::Lease) {
    type One = Box<dyn Fn(&RedisBroker) -> Result<(), QueueError> + Send>;
    let lease = lease.clone();
    let end = Settle::Done { result: Vec::new() };
    let held = lease.clone();
    let calls: [(&str, One); 6] = [
        (
            "enqueue",
            Box::new(|one| one.enqueue(&[job("a")]).map(drop)),
        ),
        (
            "claim",
            Box::new(|one| one.claim(&request(1, LEASE)).map(drop)),
        ),
        (
            "extend",
            Box::new(move |one| {
                one.extend(std::slice::from_ref(&lease), Duration::from_secs(3))
                    .map(drop)
            }),
        ),
        (
            "settle",
            Box::new(move |one| one.settle(&[(held.clone(), end.clone())]).map(drop)),
        ),
        ("stats", Box::new(|one| one.stats().map(drop))),
        ("limits", Box::new(|one| one.set_paused(false))),
    ];
    for (name, call) in calls {
        let (broker, begin) = (Arc::clone(broker), Instant::now());
        let answer = watchdog(format!("{what}: {name} ends"), move || call(&broker));
        is_unavailable(answer);
        let took = begin.elapsed();
        assert!(took < TIMEOUT + GRACE, "{what}: {name} took {took:?}");
    }
}

#[test]
fn each_call_ends_in_its_time_when_nothing_is_answered_any_more() {
    let access = skip_unless!(redis::shared());
    let line = Line::new(access);
    let stalls = Arc::new(AtomicBool::new(false));
    let wire = {
        let stalls = Arc::clone(&stalls);
        Wire::start(access.address(), move |_| {
            if stalls.load(Ordering::SeqCst) {
                Act::Hold
            } else {
                Act::Pass
            }
        })
    };
    let address = access.url_through(wire.address());
    let broker = builder(&address, &line.queue).timeout(TIMEOUT).open();
    let broker = Arc::new(broker.expect("it is there"));
    enqueue(&broker, &jobs(1));
    let held = claim(&broker, 1).remove(0);
    stalls.store(true, Ordering::SeqCst);
    // By connections that there are, and then by new ones, which are accepted.
    all_end_in_time("stalled", &broker, &held.lease);
    stalls.store(false, Ordering::SeqCst);
    assert_eq!(finish(&broker, &[held]), 1, "and on");
}

#[test]
fn each_call_ends_in_its_time_when_the_server_stands_still() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let queue = fresh();
    let broker = builder(&server.url(), &queue).timeout(TIMEOUT).open();
    let broker = Arc::new(broker.expect("it is there"));
    enqueue(&broker, &jobs(1));
    let held = claim(&broker, 1).remove(0);
    server.pause();
    all_end_in_time("paused", &broker, &held.lease);
    let (address, queue) = (server.url(), queue.clone());
    let begin = Instant::now();
    let opened = watchdog("it is not opened", move || {
        builder(&address, &queue).timeout(TIMEOUT).open()
    });
    is_unavailable(opened.map(drop));
    assert!(begin.elapsed() < TIMEOUT + GRACE, "{:?}", begin.elapsed());
    server.resume();
    // What was sent by the connection that there was is done by now: the enqueue. The others were not sent.
    eventually("the server works off what had come", || {
        broker.stats().is_ok_and(|stats| stats.ready == 1)
    });
    assert_eq!(finish(&broker, &[held]), 1);
}

#[test]
fn heartbeats_wait_for_no_other_call() {
    let line = Line::new(skip_unless!(redis::shared()));
    let builder = builder(&line.address, &line.queue).connections(2);
    let broker = builder.timeout(Duration::from_secs(4)).open();
    let broker = broker.expect("it is there");
    enqueue(&broker, &jobs(1));
    let held = claim(&broker, 1).remove(0);
    line.plan
        .acts("stands", (0..8).map(|_| Act::Hold).collect());
    let ended = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                is_unavailable(broker.enqueue(&[job("stands")]));
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        eventually("all connections are taken", || {
            line.plan.0.lock().unwrap().1.len() == 6
        });
        for _ in 0..4 {
            let extended = broker.extend(std::slice::from_ref(&held.lease), LEASE);
            assert!(matches!(extended.expect("at once")[0], Extended::Held(_)));
        }
        assert_eq!(ended.load(Ordering::SeqCst), 0, "the others still wait");
    });
    assert_eq!(finish(&line.near, &[held]), 1);
}

#[test]
fn a_connection_whose_answer_did_not_come_is_not_used_again() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = builder(&line.address, &line.queue)
        .timeout(TIMEOUT)
        .connections(1);
    let broker = broker.open().expect("it is there");
    for number in 0..3 {
        let late = Act::Late(TIMEOUT + Duration::from_millis(200));
        let one = job(format!("late {number}"));
        line.plan.acts(&one.payload, vec![late]);
        let connections = line.wire.accepted();
        // It may be repeated within the time; either way the answers are those to the questions.
        let _ = broker.enqueue(std::slice::from_ref(&one));
        assert_eq!(stats(&broker).ready, 1, "{number}");
        let claimed = claim(&broker, 2);
        assert_eq!(names(&claimed), [format!("late {number}")]);
        assert_eq!(broker.limits_are(), Limits::default());
        assert_eq!(finish(&broker, &claimed), 1);
        assert!(line.wire.accepted() > connections, "by another connection");
    }
}

trait LimitsAre {
    fn limits_are(&self) -> Limits;
}

impl LimitsAre for RedisBroker {
    fn limits_are(&self) -> Limits {
        anthill_jobs::broker::LimitStore::limits(self).expect("they can be read")
    }
}

/// A server that is no node of a cluster, or a user without the right, refuses `ASKING` and then does what was asked.
#[test]
fn a_node_that_may_not_be_asked_mixes_up_no_answers() {
    let access = skip_unless!(redis::shared());
    let line = Line::new(access);
    let broker = builder(&line.address, &line.queue).connections(1).open();
    let broker = broker.expect("it is there");
    for number in 0..3 {
        let one = job(format!("asked {number}"));
        let ask = format!("-ASK 1 {}\r\n", line.wire.address()).into_bytes();
        line.plan.acts(&one.payload, vec![Act::Answer(ask)]);
        assert!(enqueue(&broker, std::slice::from_ref(&one))[0].is_added());
        assert_eq!(stats(&broker).ready, 1);
        let claimed = claim(&broker, 2);
        assert_eq!(names(&claimed), [format!("asked {number}")]);
        assert_eq!(finish(&broker, &claimed), 1);
    }
}

#[test]
fn an_answer_that_drips_is_read_to_its_end() {
    let line = Line::new(skip_unless!(redis::shared()));
    let broker = line.open();
    enqueue(&broker, &jobs(20));
    line.plan
        .acts("who waits", vec![Act::Drip(Duration::from_micros(100))]);
    let claims = broker.claim(&request(20, LEASE).by(Arc::from("who waits")));
    let claimed = claims.expect("it comes").jobs;
    assert!(line.plan.is_over());
    assert_eq!(claimed.len(), 20);
    assert_eq!(finish(&broker, &claimed), 20);
}

#[test]
fn idle_connections_that_the_server_closed_fail_no_enqueue_and_no_settlement() {
    let server = skip_unless!(Server::start(Persistence::AofEverysec));
    let queue = fresh();
    let broker = open(&server.url(), &queue);
    let mut raw = server.raw();
    let close_by_timeout = |raw: &mut redis::Raw| {
        raw.run(&["CONFIG", "SET", "timeout", "1"]);
        eventually("the server has closed them", || clients(raw) == 0);
        raw.run(&["CONFIG", "SET", "timeout", "0"]);
    };
    for round in 0..6 {
        // As many as there may be.
        at_once(6, |_| enqueue(&broker, &jobs(3)));
        let held = claim(&broker, 18);
        assert_eq!(held.len(), 18);
        assert!(clients(&mut raw) >= 1);
        match round {
            0 => close_by_timeout(&mut raw),
            1 | 2 => {
                raw.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            }
            _ => {
                drop(raw);
                server.restart();
                raw = server.raw();
            }
        }
        let leases: Vec<_> = held.iter().map(|job| job.lease.clone()).collect();
        at_once(6, |_| {
            let extended = broker.extend(&leases, LEASE).expect("it is sent again");
            assert!(extended.iter().all(|one| matches!(one, Extended::Held(_))));
            assert!(enqueue(&broker, &[job("after")])[0].is_added());
        });
        assert_eq!(finish(&broker, &held), 18, "{round}");
        let after = claim(&broker, 18);
        assert_eq!(finish(&broker, &after), 6, "{round}");
    }
}

#[test]
fn connections_are_no_more_than_was_said() {
    // Three for calls, four for heartbeats, and one to listen.
    const MOST: usize = 3 + 4 + 1;
    let server = skip_unless!(Server::start(Persistence::Off));
    let (address, queue) = (server.url(), fresh());
    let broker = builder(&address, &queue).connections(3).open().unwrap();
    let mut all = jobs(1);
    all[0].delay = LEASE;
    enqueue(&broker, &all);
    let (_heard, _subscription) = ear(&broker, LEASE);
    let (_also, _same) = ear(&broker, Duration::from_secs(1));
    let (is_over, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lease = anthill_jobs::Lease::new(all[0].id, b"nobody's");
    thread::scope(|scope| {
        for number in 0..20 {
            let (broker, is_over, lease) = (&broker, &is_over, &lease);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    if number % 2 == 0 {
                        broker.extend(std::slice::from_ref(lease), LEASE).unwrap();
                    } else {
                        broker.claim(&request(1, LEASE)).unwrap();
                    }
                }
            });
        }
        let (mut raw, over) = (server.raw(), Over(&is_over));
        let mut look = || most.fetch_max(clients(&mut raw), Ordering::SeqCst);
        eventually("all are used at once", || look() >= MOST);
        for _ in 0..200 {
            look();
        }
        drop(over);
    });
    assert_eq!(most.load(Ordering::SeqCst), MOST);
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_when_the_last_broker_is_gone() {
    use anthill_test_support::{in_child_process, linux};

    drop(skip_unless!(Server::start(Persistence::Off)));
    let name = "nothing_is_left_when_the_last_broker_is_gone";
    in_child_process(name, Duration::from_secs(60), || {
        let server = Server::start(Persistence::Off).expect("it was there a moment ago");
        let mut raw = server.raw();
        for _ in 0..5 {
            let (queue, other) = (fresh(), fresh());
            let broker = open(&server.url(), &queue);
            let second = open(&server.url(), &other);
            enqueue(&broker, &jobs(3));
            let subscriptions = [
                ear(&broker, Duration::from_secs(1)),
                ear(&broker, LEASE),
                ear(&second, LEASE),
            ];
            eventually("both queues are listened to", || {
                linux::threads_named("anthill-listen") == 2
            });
            eventually("both are connected", || clients(&mut raw) == 4);
            drop((broker, second, subscriptions));
            eventually("no thread is left", || {
                linux::threads_named("anthill-") == 0
            });
            eventually("no connection is left", || clients(&mut raw) == 0);
        }
        // Nor by one whose server does not answer.
        let broker = open(&server.url(), &fresh());
        let subscription = ear(&broker, LEASE);
        eventually("it listens", || clients(&mut raw) == 2);
        server.pause();
        drop((broker, subscription));
        eventually("no thread is left", || {
            linux::threads_named("anthill-") == 0
        });
        server.resume();
        eventually("no connection is left", || clients(&mut raw) == 0);
    });
}
