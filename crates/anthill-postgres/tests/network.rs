//! Networks that break: between a request and its reply, for ever, or for one host of many.
#![cfg(unix)]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;

use anthill_fleet_support::roles::{Parcel, child_of, draft};
use anthill_fleet_support::{LONG, balance};
use anthill_jobs::{Enqueued, QueueError};
use anthill_postgres::PostgresBroker;
use anthill_test_support::history::Rules;
use anthill_test_support::postgres::{Fsync, Options, shared};
use anthill_test_support::proxy::{Protocol, Proxy, Trigger};
use anthill_test_support::skip_unless;
use fleet::Stage;
use std::time::{Duration, Instant};

#[test]
fn child() {
    child_of::<fleet::Postgres>(&[]);
}

fn through(stage: &Stage<'_>, proxy: &Proxy) -> (&'static str, String) {
    ("URL", stage.url_through(proxy.address()))
}

#[test]
fn an_enqueue_whose_reply_was_lost_is_a_duplicate_when_it_is_repeated() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    let proxy = Proxy::start(access.address(), Protocol::Postgres);
    let queue = PostgresBroker::builder(&stage.url_through(proxy.address()))
        .open_queue()
        .unwrap();
    for number in 0..10 {
        let job = draft(&queue, number);
        let is_stored = number % 2 == 0;
        let trigger = Trigger::containing("anthill.enqueue_job(");
        let cut = if is_stored {
            proxy.cut_reply(trigger)
        } else {
            proxy.cut_request(trigger)
        };
        let error = queue.enqueue_new(&job).unwrap_err();
        assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
        assert!(error.is_uncertain(), "{error:?}");
        cut.wait("the enqueue");
        let again = queue.enqueue_new(&job).unwrap();
        let expected = if is_stored {
            Enqueued::Duplicate(job.id)
        } else {
            Enqueued::Added(job.id)
        };
        assert_eq!(again, expected, "{number}");
    }
    let stats = queue.stats().unwrap();
    assert_eq!(
        (stats.ready, stats.enqueued, stats.duplicates),
        (10, 10, 5),
        "{stats:?}"
    );
}

/// Cuts one call of a consumer that works, and returns its counts and what the checker says.
fn cut_one(call: &str, before_reply: bool) {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    let proxy = Proxy::start(access.address(), Protocol::Postgres);
    let told = [
        through(&stage, &proxy),
        ("LEASE_MS", "1500".to_owned()),
        ("WORKERS", "1".to_owned()),
    ];
    let mut consumer = stage.start("consume", &told);
    consumer.hear("consumes");
    // So that the call is about the job.
    anthill_test_support::eventually("nothing is on its way", || {
        consumer.pause();
        let is_quiet = anthill_test_support::becomes_true(Duration::from_millis(300), || {
            let counts = proxy.counts();
            counts.requests == counts.replies
        });
        if !is_quiet {
            // It had begun to say something, such as a password.
            consumer.go_on();
            std::thread::sleep(Duration::from_millis(20));
        }
        is_quiet
    });
    let trigger = Trigger::containing(format!("anthill.{call}("));
    let cut = if before_reply {
        proxy.cut_reply(trigger)
    } else {
        proxy.cut_request(trigger)
    };
    // One that runs until there was a heartbeat.
    stage.enqueue(2, (call == "extend").then_some("go"));
    consumer.go_on();
    cut.wait(call);
    stage.let_run("go");
    let what = format!("{call}, before_reply: {before_reply}");
    consumer.hear("error Unavailable");
    stage.await_drained();
    // What it has in hand is settled once more.
    let settled = anthill_test_support::becomes_true(LONG, || consumer.counts().in_hand == 0);
    assert!(settled, "{what}");
    for number in 3..20 {
        stage.enqueue(number, None);
    }
    stage.await_drained();
    let counts = consumer.end();
    let judged = stage.judge(&Rules::default());
    balance(&what, &judged);
    let books = judged.0.books;
    assert_eq!((books.done, books.dead), (18, 0), "{what}: {books}");
    assert_eq!(
        judged.1.done, 18,
        "{what}: each is done once: {:?}",
        judged.1
    );
    match (call, before_reply) {
        // The broker has stored it, and says of the second one that the lease is over.
        ("settle", true) => {
            assert_eq!(
                (counts.unconfirmed, counts.lost),
                (1, 0),
                "{what}: {counts:?}"
            );
            assert_eq!(
                (books.duplicates, books.extra_runs),
                (0, 0),
                "{what}: {books}"
            );
        }
        // Nobody knows of the claim until its lease is over; it was not run before.
        ("claim", true) => {
            assert_eq!(
                (counts.unconfirmed, counts.lost),
                (0, 0),
                "{what}: {counts:?}"
            );
            assert_eq!(
                (judged.1.lost_leases, books.extra_runs),
                (1, 0),
                "{what}: {:?}",
                judged.1
            );
        }
        _ => {
            assert_eq!(
                (counts.unconfirmed, counts.lost),
                (0, 0),
                "{what}: {counts:?}"
            );
            assert_eq!(
                (books.duplicates, books.extra_runs),
                (0, 0),
                "{what}: {books}"
            );
            assert_eq!(judged.1.lost_leases, 0, "{what}: {:?}", judged.1);
        }
    }
}

#[test]
fn a_claim_that_is_cut_before_its_reply_comes_again_after_the_lease() {
    cut_one("claim", true);
}

#[test]
fn a_claim_that_is_cut_on_its_way_is_made_again() {
    cut_one("claim", false);
}

#[test]
fn a_settle_whose_reply_was_lost_is_unconfirmed_and_not_lost() {
    cut_one("settle", true);
}

#[test]
fn a_settle_that_is_cut_on_its_way_is_made_again() {
    cut_one("settle", false);
}

#[test]
fn a_heartbeat_whose_reply_was_lost_costs_no_lease() {
    cut_one("extend", true);
}

#[test]
fn a_heartbeat_that_is_cut_on_its_way_costs_no_lease() {
    cut_one("extend", false);
}

#[test]
fn connections_that_never_answer_fail_in_their_time_and_all_goes_on_when_they_heal() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    let proxy = Proxy::start(access.address(), Protocol::Postgres);
    let timeout = Duration::from_millis(500);
    let told = [
        through(&stage, &proxy),
        ("TIMEOUT_MS", timeout.as_millis().to_string()),
        ("LEASE_MS", "60000".to_owned()),
    ];
    let mut consumer = stage.start("consume", &told);
    consumer.hear("consumes");
    stage.enqueue(2, Some("go"));
    assert_eq!(consumer.hear("running "), "2 1");
    let builder = PostgresBroker::builder(&stage.url_through(proxy.address())).timeout(timeout);
    let queue = builder.alone().open_queue().unwrap();
    let job = draft(&queue, 5);
    // Leaves a connection for the next call, which no notification takes.
    queue.stats().unwrap();
    let refused_before = proxy.counts().connections;
    proxy.stall();
    for _ in 0..3 {
        let start = Instant::now();
        let error = queue.enqueue_new(&job).unwrap_err();
        assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
        let took = start.elapsed();
        assert!(
            took >= timeout && took < timeout + Duration::from_secs(8),
            "{took:?}"
        );
    }
    // The end of the job cannot be settled, and is not given up.
    stage.let_run("go");
    consumer.hear("ran 2");
    consumer.hear("error Unavailable");
    consumer.hear("error Unavailable");
    assert_eq!(
        stage.queue().get(Parcel::id(2)).unwrap().unwrap().state,
        anthill_jobs::JobState::Running
    );
    proxy.resume();
    anthill_test_support::eventually("the enqueue goes through", || {
        queue.enqueue_new(&job).is_ok()
    });
    // What waited in the proxy may have come, and been done.
    stage.await_drained();
    let counts = consumer.end();
    assert!(counts.done >= 2, "{counts:?}");
    assert_eq!(counts.lost, 0, "{counts:?}");
    assert!(
        proxy.counts().connections > refused_before,
        "by other connections"
    );
    let stats = stage.queue().stats().unwrap();
    assert_eq!((stats.lost_leases, stats.dead), (0, 0), "{stats:?}");
}

#[test]
fn heartbeats_go_on_while_a_claim_or_settle_gets_no_answer() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    let told = [
        ("LEASE_MS", "900".to_owned()),
        ("TIMEOUT_MS", "60000".to_owned()),
        ("WORKERS", "2".to_owned()),
    ];
    let mut consumer = stage.start("consume", &told);
    consumer.hear("consumes");
    stage.enqueue(2, Some("go"));
    assert_eq!(consumer.hear("running "), "2 1");
    // A settle that waits for a lock of somebody else's, for many leases.
    let id = Parcel::id(4);
    stage.enqueue(4, Some("short"));
    assert_eq!(consumer.hear("running "), "4 1");
    let mut client =
        anthill_postgres::postgres::Client::connect(stage.url(), anthill_postgres::postgres::NoTls)
            .unwrap();
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("LOCK TABLE anthill.counts IN EXCLUSIVE MODE")
        .unwrap();
    stage.let_run("short");
    consumer.hear("ran 4");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%.settle(%'";
    anthill_test_support::eventually("the settle waits", || stage.sql(waits) == "1");
    // Its lease of a second is over by now without heartbeats; a claim of somebody else's would find it.
    let ends = |number| {
        stage.sql(&format!(
            "SELECT ends > anthill.anthill_now() FROM anthill.jobs WHERE id = '{}'",
            Parcel::id(number)
        ))
    };
    let first = stage.sql("SELECT max(ends) FROM anthill.jobs");
    for beat in 0..4 {
        let before = stage.sql("SELECT ends FROM anthill.jobs WHERE state = 3 ORDER BY id LIMIT 1");
        anthill_test_support::eventually(format!("heartbeat {beat}"), || {
            stage.sql("SELECT ends FROM anthill.jobs WHERE state = 3 ORDER BY id LIMIT 1") != before
        });
        assert_eq!(ends(2), "t");
    }
    let last = stage.sql("SELECT max(ends) FROM anthill.jobs");
    assert_ne!(first, last);
    drop(lock);
    stage.let_run("go");
    stage.await_drained();
    let counts = consumer.end();
    assert_eq!(
        (counts.done, counts.lost, counts.unconfirmed),
        (2, 0, 0),
        "{counts:?} {id}"
    );
    let judged = stage.judge(&Rules::default());
    balance("slow settle", &judged);
    assert_eq!(judged.0.books.duplicates, 0);
}

#[test]
fn a_host_that_is_cut_off_in_the_middle_of_a_job_loses_it_to_another() {
    #[cfg(not(target_os = "linux"))]
    eprintln!("SKIPPED: hosts are cut off on Linux");
    #[cfg(target_os = "linux")]
    cut_off();
}

#[cfg(target_os = "linux")]
fn cut_off() {
    use anthill_test_support::netns::Namespace;
    let space = skip_unless!(Namespace::new());
    let options = Options::new(Fsync::Off).listen(space.host_address().into());
    let server = skip_unless!(options.start());
    let stage = Stage::new(&server);
    let address = (space.host_address(), server.address().port()).into();
    let told = [
        ("URL", stage.url_through(address)),
        ("TIMEOUT_MS", "1000".to_owned()),
        ("LEASE_MS", "1500".to_owned()),
    ];
    let mut far = stage.start_by(
        space.command(anthill_fleet_support::this_binary()),
        "consume",
        &told,
    );
    far.hear("consumes");
    stage.enqueue(2, Some("go"));
    assert_eq!(far.hear("running "), "2 1");
    far.is_cut_off();
    space.cut_off();
    let mut near = stage.start("consume", &[]);
    assert_eq!(near.hear("running "), "2 2", "when its lease is over");
    stage.let_run("go");
    near.hear("ran 2");
    stage.await_drained();
    far.hear("ran 2");
    far.hear("error Unavailable");
    space.reconnect();
    stage
        .recorder()
        .record(anthill_test_support::history::What::Recovered {
            of: far.name.clone(),
        });
    let settled = anthill_test_support::becomes_true(LONG, || far.counts().in_hand == 0);
    assert!(settled, "it comes back");
    near.end();
    // It works again.
    stage.enqueue(4, None);
    stage.await_drained();
    let counts = far.end();
    assert_eq!(
        counts.lost + counts.unconfirmed,
        1,
        "its end is refused: {counts:?}"
    );
    let judged = stage.judge(&Rules::default());
    balance("cut off", &judged);
    let books = judged.0.books;
    assert_eq!((books.duplicates, books.extra_runs), (1, 1), "{books}");
    assert_eq!(judged.1.done, 2, "each counts once");
}
