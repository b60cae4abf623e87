//! A server that is killed, restarted, or that ends connections, again and again, under a fleet that works: consumers wait and go
//! on, an enqueue fails in its time and can be repeated with the same id, and nothing is lost.
#![cfg(unix)]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;

use anthill_fleet_support::checks;
use anthill_fleet_support::roles::{child_of, draft};
use anthill_fleet_support::{Fleet, LONG};
use anthill_jobs::broker::Admin;
use anthill_jobs::{Broker, ClaimRequest, Lease, Settle};
use anthill_postgres::PostgresBroker;
use anthill_test_support::postgres::{Fsync, Options, Server, shared};
use anthill_test_support::{eventually, skip_unless};
use fleet::Stage;
use std::time::Duration;

/// How long a call of the fleet's may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How much longer a busy machine may take to say so.
const GRACE: Duration = Duration::from_secs(8);

#[test]
fn child() {
    child_of::<fleet::Postgres>(&[]);
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing() {
    let server = skip_unless!(Server::start(Fsync::On));
    let stage = Stage::new(&server);
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    for round in 0..5 {
        fleet.work(150);
        server.kill();
        if round == 2 {
            // For longer than a call may take.
            std::thread::sleep(TIMEOUT + Duration::from_millis(500));
        }
        server.start_again();
    }
    fleet.work(150);
    fleet.end_balanced(&stage, "killed servers");
}

#[test]
fn a_server_that_is_restarted_under_way_loses_nothing() {
    let server = skip_unless!(Server::start(Fsync::On));
    let stage = Stage::new(&server);
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    for _ in 0..5 {
        fleet.work(150);
        server.restart();
    }
    fleet.work(150);
    fleet.end_balanced(&stage, "restarted servers");
}

#[test]
fn connections_of_each_kind_that_are_ended_come_back() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    // By what they did last.
    let kinds = [
        ("LISTEN%", "listens"),
        ("%.extend(%", "heartbeats"),
        ("%.claim(%", "claims"),
        ("%.settle(%", "settles"),
        ("%.enqueue_job%", "enqueues"),
        ("%", "all"),
    ];
    let mut ended = [0_u64; 6];
    // Jobs that take long enough for heartbeats.
    for number in 0..3 {
        stage.enqueue(1_000_000 + 2 * number, Some("go"));
    }
    for round in 0..60 {
        let (like, what) = kinds[round % kinds.len()];
        // A connection does each of these for a moment only.
        eventually(format!("a connection of {what} is ended"), || {
            let count = stage.sql(&format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
                 AND pid <> pg_backend_pid() AND application_name = 'anthill' AND query LIKE '{like}'"
            ));
            let count = count.parse::<u64>().unwrap();
            ended[round % kinds.len()] += count;
            count > 0
        });
        fleet.work(10);
    }
    stage.let_run("go");
    for ((_, what), ended) in kinds.iter().zip(ended) {
        eprintln!("{ended} connections ended: {what}");
    }
    fleet.end_balanced(&stage, "ended connections");
}

#[test]
fn an_enqueue_without_a_server_fails_in_time_and_its_repetition_adds_nothing() {
    let server = skip_unless!(Server::start(Fsync::On));
    let stage = Stage::new(&server);
    let broker = PostgresBroker::builder(stage.url()).timeout(TIMEOUT);
    let queue = broker.open_queue().unwrap();
    let limit = TIMEOUT + GRACE;
    checks::enqueue_without_a_server(&queue, limit, || server.kill(), || server.start_again());
}

#[test]
fn what_is_acknowledged_survives_where_commits_do_not_wait_for_the_disk_by_default() {
    let options = Options::new(Fsync::On)
        .set("synchronous_commit", "off")
        .set("wal_writer_delay", "10000ms");
    let server = skip_unless!(options.start());
    let stage = Stage::new(&server);
    let queue = stage.queue();
    let mut acknowledged = 0;
    for number in 0..20 {
        queue.enqueue_new(&draft(&queue, number)).unwrap();
        acknowledged += 1;
    }
    server.kill();
    server.start_again();
    let ready = stage.queue().stats().unwrap().ready;
    assert_eq!(ready, acknowledged, "of those that were acknowledged");
    stage.broker().set_paused(true).unwrap();
    server.kill();
    server.start_again();
    assert!(stage.queue().stats().unwrap().paused);
    stage.broker().set_paused(false).unwrap();
    let claims = stage.broker().claim(&ClaimRequest::new(5, LONG)).unwrap();
    let ends: Vec<(Lease, Settle)> = claims
        .jobs
        .into_iter()
        .map(|job| {
            let result = b"null".to_vec();
            (job.lease, Settle::Done { result })
        })
        .collect();
    let settled = stage.broker().settle(&ends).unwrap();
    assert!(settled.iter().all(|settled| settled.is_stored()));
    server.kill();
    server.start_again();
    let stats = stage.queue().stats().unwrap();
    assert_eq!((stats.ready, stats.done), (15, 5), "{stats:?}");
}
