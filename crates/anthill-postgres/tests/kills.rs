//! Processes that are killed, or stopped for longer than their lease: real processes, and real signals. What was acknowledged is
//! done in the end, what was done twice is counted and explained, nothing is lost.
//!
//! `ANTHILL_KILLS` is how many there are to be; 200 by default.
#![cfg(unix)]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;

use anthill_fleet_support::checks;
use anthill_fleet_support::kills::{self, Call};
use anthill_fleet_support::roles::{child_of, draft};
use anthill_jobs::Enqueued;
use anthill_test_support::postgres::shared;
use anthill_test_support::proxy::{Protocol, Proxy, Trigger};
use anthill_test_support::{seeded_rng, skip_unless};
use fleet::Stage;

#[test]
fn child() {
    child_of::<fleet::Postgres>(&[]);
}

/// Calls are known by the functions of the server.
fn wire<'s>(stage: &'s Stage<'_>) -> impl Fn(Call) -> (Proxy, Trigger, String) + Sync + 's {
    |call| {
        let proxy = Proxy::start(stage.access.address(), Protocol::Postgres);
        let trigger = Trigger::containing(match call {
            Call::Claim => "anthill.claim(",
            Call::Settle => "anthill.settle(",
            // One job or several: `enqueue_job`, `enqueue_jobs`.
            Call::Enqueue => "anthill.enqueue_job",
        });
        let url = stage.url_through(proxy.address());
        (proxy, trigger, url)
    }
}

#[test]
fn two_hundred_kills_at_named_points_lose_nothing() {
    let access = skip_unless!(shared());
    let mut random = seeded_rng("kills");
    for per_key in [1, 2] {
        let stage = Stage::new(access);
        let number = (kills::wanted() / 2, per_key);
        kills::kill_and_judge(&stage, number, &mut random, &wire(&stage));
        // A kill between a job and its unique key would have left the one without the other.
        let left = stage.sql("SELECT count(*) FROM anthill.uniques WHERE held");
        assert_eq!(left, "0", "unique keys of no job");
    }
}

#[test]
fn a_zombie_that_wakes_after_its_lease_is_refused() {
    let access = skip_unless!(shared());
    kills::freeze_past_the_lease(&Stage::new(access));
}

#[test]
fn a_consumer_that_stops_with_a_full_buffer_hands_back_what_has_not_begun() {
    let access = skip_unless!(shared());
    kills::stop_with_a_full_buffer(&Stage::new(access));
}

#[test]
fn a_backlog_that_is_older_than_the_lease_is_delivered_once() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    checks::deliver_an_old_backlog_once(&stage, || {
        stage.sql(
            "UPDATE anthill.jobs SET turn = turn - interval '1 hour', due = due - interval '1 hour', \
             enqueued = enqueued - interval '1 hour'",
        );
    });
}

#[test]
fn a_crash_between_a_unique_key_and_its_job_leaves_no_key() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    // Held up inside the call: when the key is taken, and before its job is stored.
    stage.sql(
        "CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$;
         CREATE TRIGGER held_up BEFORE INSERT ON anthill.jobs FOR EACH ROW EXECUTE FUNCTION held_up();",
    );
    let told = [("COUNT", "1".to_owned()), ("UNIQUE", "1".to_owned())];
    let mut producer = stage.start("produce", &told);
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    anthill_test_support::eventually("the enqueue is held up", || stage.sql(sleeps) == "1");
    producer.kill();
    // The server notices that its client is gone when it writes to it.
    stage.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
    );
    anthill_test_support::eventually("it is gone", || stage.sql(sleeps) == "0");
    stage.sql("DROP TRIGGER held_up ON anthill.jobs");
    assert_eq!(stage.sql("SELECT count(*) FROM anthill.uniques"), "0");
    let queue = stage.queue();
    let mut job = draft(&queue, 0);
    job.unique = Some("one at a time 0".to_owned());
    assert_eq!(queue.enqueue_new(&job).unwrap(), Enqueued::Added(job.id));
}
