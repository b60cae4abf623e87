//! Connections that break, servers that stall, restart and are killed: no call hangs, nothing is lost, and all goes on after.

mod support;

use anthill_jobs::broker::{Admin, LimitStore};
use anthill_jobs::{Broker, JobState, Limits, QueueError, Settled};
use anthill_postgres::PostgresBroker;
use anthill_test_support::postgres::{self, Fsync, Server};
use anthill_test_support::proxy::{Protocol, Proxy, Trigger};
use anthill_test_support::{eventually, skip_unless, watchdog};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use support::{claim, client, done, ear, enqueue, finish, fresh, job, jobs, names, open, stats};

const SHORT: Duration = Duration::from_millis(500);

/// Repeats a call while the server cannot be reached.
#[track_caller]
fn again<T>(mut call: impl FnMut() -> Result<T, QueueError>) -> T {
    let begin = Instant::now();
    loop {
        match call() {
            Ok(value) => return value,
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                assert!(
                    begin.elapsed() < anthill_test_support::DEADLINE,
                    "{error:?}"
                );
            }
        }
    }
}

/// Each connection of the queue is ended by an operator.
fn terminate(address: &str) -> i64 {
    let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'anthill' AND datname = current_database()";
    client(address).query_one(all, &[]).unwrap().get(0)
}

#[test]
fn connections_that_were_ended_are_replaced() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    for round in 0..5 {
        again(|| broker.enqueue(&[job(round.to_string())]));
        assert!(terminate(&address) > 0);
        let claimed = again(|| {
            let request = anthill_jobs::ClaimRequest::new(1, support::LEASE);
            broker.claim(&request)
        });
        assert_eq!(names(&claimed.jobs), [round.to_string()]);
        terminate(&address);
        let ends = [done(&claimed.jobs[0])];
        assert_eq!(again(|| broker.settle(&ends)), [Settled::Stored]);
    }
    assert_eq!(stats(&broker).done, 5);
}

/// Nobody reads what the server says on a connection that no call uses.
#[test]
fn connections_that_were_ended_while_none_used_them_fail_no_call() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    let mut other = client(&address);
    for round in 0..10 {
        thread::scope(|scope| {
            for number in 0..4 {
                let (name, broker) = (format!("{round}.{number}"), &broker);
                scope.spawn(move || broker.enqueue(&[job(name)]).unwrap());
            }
        });
        let end = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'anthill' AND datname = current_database() AND pid <> pg_backend_pid()";
        let ended: Vec<i32> = other
            .query(end, &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(!ended.is_empty());
        eventually("the server has ended them", || {
            let left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)";
            other.query_one(left, &[&ended]).unwrap().get::<_, i64>(0) == 0
        });
    }
    assert_eq!(stats(&broker).enqueued, 40);
}

/// In the middle of calls of many threads: what was acknowledged is there, and each job ends once.
#[test]
fn calls_in_flight_are_done_or_not_when_their_connection_is_ended() {
    const THREADS: usize = 4;
    const EACH: usize = 60;
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let brokers: Vec<PostgresBroker> = (0..THREADS).map(|_| open(&address)).collect();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let terminator = scope.spawn(|| {
            let mut ended = 0;
            while !over.load(Ordering::SeqCst) {
                ended += terminate(&address);
            }
            ended
        });
        let threads: Vec<_> = brokers
            .iter()
            .map(|broker| {
                scope.spawn(move || {
                    for number in 0..EACH {
                        // The same job again, if the answer was lost.
                        let job = [job(number.to_string())];
                        again(|| broker.enqueue(&job));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        over.store(true, Ordering::SeqCst);
        assert!(terminator.join().unwrap() > 0);
    });
    let all = (THREADS * EACH) as u64;
    assert_eq!(again(|| brokers[0].stats()).ready, all);
    let mut ended = 0;
    while ended < all {
        let claimed = claim(&brokers[1], 50);
        ended += finish(&brokers[1], &claimed) as u64;
    }
    let stats = stats(&brokers[0]);
    assert_eq!((stats.done, stats.enqueued), (all, all));
}

/// The request arrives, its answer does not: the same enqueue again adds nothing.
#[test]
fn an_enqueue_whose_answer_was_lost_is_repeated_without_a_second_job() {
    let server = skip_unless!(postgres::shared());
    let database = server.fresh_database();
    drop(open(&server.url_of(&database)));
    let proxy = Proxy::start(server.address(), Protocol::Postgres);
    let broker = open(&server.url_through(proxy.address(), &database));
    let job = [job("a")];
    let cut = proxy.cut_reply(Trigger::containing("enqueue_job"));
    let lost = broker.enqueue(&job).expect_err("the answer is lost");
    cut.wait("the answer is lost");
    assert!(lost.is_transient() && lost.is_uncertain(), "{lost:?}");
    let answer = broker.enqueue(&job).unwrap();
    assert!(!answer[0].as_ref().unwrap().is_added());
    assert_eq!(stats(&broker).ready, 1);
    // A request that did not arrive is not done.
    let cut = proxy.cut_request(Trigger::containing("enqueue_job"));
    broker
        .enqueue(&[support::job("b")])
        .expect_err("it is cut off");
    cut.wait("the request is lost");
    assert_eq!(stats(&broker).ready, 1);
}

/// A server that does not answer, on connections that it has accepted.
#[test]
fn a_half_open_connection_ends_each_call_at_its_deadline() {
    let server = skip_unless!(postgres::shared());
    let database = server.fresh_database();
    drop(open(&server.url_of(&database)));
    let proxy = Proxy::start(server.address(), Protocol::Postgres);
    let address = server.url_through(proxy.address(), &database);
    let builder = PostgresBroker::builder(&address).timeout(SHORT);
    let broker = builder.open().unwrap();
    enqueue(&broker, &jobs(3));
    let claimed = claim(&broker, 1);
    proxy.stall();
    let lease = claimed[0].lease.clone();
    let broker = watchdog("all calls end", move || {
        let is_lost = |what: &str, answer: Result<(), QueueError>| {
            assert!(
                matches!(answer, Err(QueueError::Unavailable(_))),
                "{what}: {answer:?}"
            );
        };
        is_lost("enqueue", broker.enqueue(&jobs(1)).map(drop));
        is_lost("settle", broker.settle(&[done(&claimed[0])]).map(drop));
        is_lost("extend", broker.extend(&[lease], SHORT).map(drop));
        is_lost("stats", broker.stats().map(drop));
        broker
    });
    proxy.resume();
    // The connections of the calls that did not end are not used again.
    assert!(again(|| broker.stats()).running <= 1);
    enqueue(&broker, &jobs(1));
}

/// A call that waits for a lock ends at its deadline, and the server does not go on with it.
#[test]
fn a_call_that_waits_for_a_lock_ends_on_the_server_too() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = PostgresBroker::builder(&address)
        .timeout(SHORT)
        .open()
        .unwrap();
    let mut unique = job("a");
    unique.unique = Some("k".to_owned());
    let mut other = client(&address);
    let mut transaction = other.transaction().unwrap();
    broker
        .enqueue_in(&mut transaction, &[unique.clone()])
        .unwrap();
    unique.id = anthill_jobs::JobId::new();
    let blocked = broker.enqueue(&[unique]);
    assert!(
        matches!(blocked, Err(QueueError::Unavailable(_))),
        "{blocked:?}"
    );
    let mut looks = client(&address);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually("nobody waits any more", || {
        let count: i64 = looks.query_one(waiting, &[]).unwrap().get(0);
        count == 0
    });
    transaction.commit().unwrap();
    assert_eq!(stats(&broker).enqueued, 1);
}

/// While all connections for calls wait, a lease is extended all the same.
#[test]
fn a_heartbeat_waits_for_no_other_call() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let builder = PostgresBroker::builder(&address).connections(1);
    let broker = builder.timeout(Duration::from_secs(20)).open().unwrap();
    enqueue(&broker, &[job("a")]);
    let claimed = claim(&broker, 1);
    let mut unique = job("b");
    unique.unique = Some("k".to_owned());
    let mut other = client(&address);
    let mut transaction = other.transaction().unwrap();
    broker
        .enqueue_in(&mut transaction, &[unique.clone()])
        .unwrap();
    unique.id = anthill_jobs::JobId::new();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| broker.enqueue(&[unique]));
        let mut looks = client(&address);
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        eventually("the only connection waits", || {
            let count: i64 = looks.query_one(waiting, &[]).unwrap().get(0);
            count == 1
        });
        let lease = claimed[0].lease.clone();
        let extended = broker.extend(&[lease], support::LEASE).unwrap();
        assert!(extended[0].held().is_some());
        assert!(!blocked.is_finished(), "it still waits");
        transaction.commit().unwrap();
        let answer = blocked.join().unwrap().unwrap();
        assert!(!answer[0].as_ref().unwrap().is_added());
    });
}

/// What was acknowledged survives, and leases hold.
#[test]
fn a_server_that_was_killed_comes_back_with_everything() {
    let server = skip_unless!(Server::start(Fsync::On));
    let address = server.url();
    let broker = open(&address);
    let (heard, _subscription) = ear(&broker, Duration::from_secs(3600));
    eventually("it listens", || heard.load(Ordering::SeqCst) == 1);
    let all = jobs(10);
    enqueue(&broker, &all);
    let claimed = claim(&broker, 3);
    assert_eq!(finish(&broker, &claimed[..1]), 1);
    server.kill();
    let down = broker.enqueue(&jobs(1));
    assert!(matches!(down, Err(QueueError::Unavailable(_))), "{down:?}");
    server.start_again();
    let before = heard.load(Ordering::SeqCst);
    let there = again(|| broker.stats());
    assert_eq!((there.enqueued, there.done), (10, 1));
    assert_eq!((there.ready, there.running), (7, 2));
    assert_eq!(finish(&broker, &claimed[1..]), 2);
    assert_eq!(claim(&broker, 10).len(), 7);
    // And it hears again of what others do.
    eventually("it is told after the reconnect", || {
        heard.load(Ordering::SeqCst) > before
    });
    let before = heard.load(Ordering::SeqCst);
    let other = PostgresBroker::builder(&address).alone().open().unwrap();
    enqueue(&other, &[job("a")]);
    eventually("it hears", || heard.load(Ordering::SeqCst) > before);
}

/// A read-only server says so.
#[test]
fn a_server_that_is_read_only_says_so() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    drop(open(&address));
    let database = address.rsplit('/').next().unwrap();
    let set = format!("ALTER DATABASE {database} SET default_transaction_read_only = on");
    client(&address).batch_execute(&set).unwrap();
    let broker = PostgresBroker::builder(&address).alone().open().unwrap();
    let refused = broker.enqueue(&[job("a")]);
    assert!(
        matches!(refused, Err(QueueError::ReadOnly(_))),
        "{refused:?}"
    );
    assert_eq!(stats(&broker).ready, 0);
}

/// The schema is gone under a broker.
#[test]
fn a_schema_that_was_dropped_is_told() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let broker = open(&address);
    client(&address)
        .batch_execute("DROP SCHEMA anthill CASCADE")
        .unwrap();
    let gone = broker.enqueue(&[job("a")]);
    assert!(matches!(gone, Err(QueueError::Corrupt(_))), "{gone:?}");
    let again = open(&address);
    enqueue(&again, &[job("a")]);
    assert_eq!(stats(&again).ready, 1);
}

/// Texts that the server cannot store are refused before they are sent; errors are told all the same.
#[test]
fn what_the_server_cannot_store_is_refused_and_errors_are_kept() {
    let server = skip_unless!(postgres::shared());
    let broker = open(&fresh(server));
    let invalid = |change: &dyn Fn(&mut anthill_jobs::NewJob)| {
        let mut bad = job("bad");
        change(&mut bad);
        let refused = broker.enqueue(&[job("good"), bad]);
        assert!(
            matches!(refused, Err(QueueError::Invalid(_))),
            "{refused:?}"
        );
    };
    invalid(&|job| job.kind = "a\0b".into());
    invalid(&|job| job.kind = "k".repeat(1_001).into());
    invalid(&|job| job.key = Some("\0".into()));
    invalid(&|job| job.key = Some("k".repeat(2_001)));
    invalid(&|job| job.unique = Some("\0".into()));
    invalid(&|job| drop(job.headers.insert("a".into(), "\0".into())));
    assert_eq!(stats(&broker).enqueued, 0, "all or nothing");
    // The longest ones, of letters that do not compress.
    let long = |length: usize| -> String {
        let mut rng = anthill_test_support::seeded_rng("long");
        std::iter::repeat_with(|| char::from(rand::Rng::random_range(&mut rng, b'!'..b'~')))
            .take(length)
            .collect()
    };
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    broker.set_limits(limits).unwrap();
    let mut longest = job("longest");
    longest.kind = long(1_000).into();
    longest.key = Some(long(2_000));
    longest.unique = Some(long(2_000));
    enqueue(&broker, &[longest.clone()]);
    let request = anthill_jobs::ClaimRequest::new(1, support::LEASE);
    let claimed = broker.claim(&request).unwrap().jobs;
    let error = "it has a \0 in it".to_owned();
    let dead = (
        claimed[0].lease.clone(),
        anthill_jobs::Settle::Dead { error },
    );
    assert_eq!(broker.settle(&[dead]).unwrap(), [Settled::Stored]);
    let info = broker.get(longest.id).unwrap().unwrap();
    assert_eq!(info.state, JobState::Dead);
    assert_eq!(info.error.as_deref(), Some("it has a \u{fffd} in it"));
}

/// All connections are used, and none is to be had: the call ends in time.
#[test]
fn a_call_that_gets_no_connection_ends_in_time() {
    let server = skip_unless!(postgres::shared());
    let address = fresh(server);
    let builder = PostgresBroker::builder(&address).connections(1);
    let broker = builder.timeout(SHORT).open().unwrap();
    let mut unique = job("b");
    unique.unique = Some("k".to_owned());
    let mut other = client(&address);
    let mut transaction = other.transaction().unwrap();
    broker
        .enqueue_in(&mut transaction, &[unique.clone()])
        .unwrap();
    unique.id = anthill_jobs::JobId::new();
    let fresh_job = [job("c")];
    std::thread::scope(|scope| {
        let calls = [
            scope.spawn(|| broker.enqueue(std::slice::from_ref(&unique))),
            scope.spawn(|| broker.enqueue(std::slice::from_ref(&unique))),
        ];
        for call in calls {
            let answer = call.join().unwrap();
            assert!(
                matches!(answer, Err(QueueError::Unavailable(_))),
                "{answer:?}"
            );
        }
    });
    transaction.rollback().unwrap();
    assert!(
        again(|| broker.enqueue(&fresh_job))[0]
            .as_ref()
            .unwrap()
            .is_added()
    );
}
