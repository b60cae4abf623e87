//! Many jobs at once, a job that nobody can read first in line, and a job that is tried 64 times.
#![cfg(unix)]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;

use anthill::Pool;
use anthill_fleet_support::roles::{Parcel, child_of, draft};
use anthill_fleet_support::{LONG, Member, balance, recorded};
use anthill_jobs::{Backoff, Context, Job, JobError, NewJob};
use anthill_test_support::history::Rules;
use anthill_test_support::postgres::shared;
use anthill_test_support::{Arrivals, Log, skip_unless};
use fleet::Stage;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[test]
fn child() {
    child_of::<fleet::Postgres>(&[]);
}

#[test]
fn twenty_thousand_jobs_that_are_due_at_once_are_done_once_each() {
    const JOBS: u64 = 20_000;
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    let queue = stage.queue();
    for from in (0..JOBS).step_by(1_000) {
        let jobs: Vec<NewJob> = (from..from + 1_000)
            .map(|number| NewJob {
                delay: Duration::from_secs(3600),
                // Nothing stays, as is usual.
                keep_result: None,
                ..draft(&queue, number)
            })
            .collect();
        recorded::enqueueing(stage.recorder(), jobs.iter().map(|job| job.id));
        for (job, answer) in jobs.iter().zip(queue.enqueue_all_new(&jobs).unwrap()) {
            recorded::enqueued(stage.recorder(), job.id, Ok(answer));
        }
    }
    assert_eq!(queue.stats().unwrap().delayed, JOBS);
    let told = [
        ("WORKERS", "4".to_owned()),
        ("WORK_US", "0".to_owned()),
        ("LEASE_MS", "20000".to_owned()),
    ];
    let mut consumers: Vec<Member> = (0..2).map(|_| stage.start("consume", &told)).collect();
    for consumer in &consumers {
        consumer.hear("consumes");
    }
    // All are due from the same moment on, a moment ago.
    let due = "UPDATE anthill.jobs SET due = d.at, turn = d.at FROM (SELECT anthill.anthill_now() AS at) AS d";
    stage.sql(due);
    stage.await_drained();
    let counts: Vec<u64> = consumers
        .iter_mut()
        .map(|consumer| consumer.end().done)
        .collect();
    let judged = stage.judge(&Rules::default());
    eprintln!("done by each: {counts:?}");
    balance("due at once", &judged);
    let books = judged.0.books;
    assert_eq!(
        (books.enqueued as u64, books.done as u64),
        (JOBS, JOBS),
        "{books}"
    );
    assert_eq!(
        (books.dead, books.duplicates, books.extra_runs),
        (0, 0, 0),
        "{books}"
    );
    assert_eq!(
        (judged.1.done, judged.1.lost_leases),
        (JOBS, 0),
        "{:?}",
        judged.1
    );
    assert_eq!(counts.iter().sum::<u64>(), JOBS);
}

#[test]
fn data_that_nobody_can_read_is_dead_with_the_reason_and_the_rest_goes_on() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    for number in 0..50 {
        stage.enqueue(number, None);
    }
    let poisoned = Parcel::id(0);
    // As another program, or a broken disk, may leave it. It is the first in line.
    let spoil = format!(
        "UPDATE anthill.jobs SET payload = '\\xff00fe7b', rank = -100 WHERE id = '{poisoned}'"
    );
    stage.sql(&spoil);
    let mut consumer = stage.start("consume", &[]);
    stage.await_drained();
    let counts = consumer.end();
    assert_eq!(counts.done, 49, "{counts:?}");
    let queue = stage.queue();
    let dead = queue.dead(10).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].id, dead[0].attempt), (poisoned, 1));
    assert_eq!(
        dead[0].payload,
        [0xff, 0x00, 0xfe, 0x7b],
        "it is kept as it is"
    );
    let why = dead[0].error.clone().unwrap_or_default();
    eprintln!("dead: {why}");
    assert!(
        why.contains("expected value"),
        "the reason is told: {why:?}"
    );
    let judged = stage.judge(&Rules::default());
    balance("poisoned", &judged);
    assert_eq!((judged.0.books.done, judged.0.books.dead), (49, 1));
}

#[derive(Serialize, Deserialize)]
struct Stubborn;

impl Job for Stubborn {
    const KIND: &'static str = "stubborn";
}

#[test]
fn a_job_is_tried_sixty_four_times_and_then_dead() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    let queue = stage.queue();
    let pool = Pool::with_capacity(2);
    let (attempts, failed) = (Log::new(), Arrivals::new());
    let (tried, gone) = (attempts.clone(), failed.clone());
    let consumer = queue
        .consumer(&pool)
        .backoff(Backoff::new(
            Duration::from_micros(1),
            Duration::from_micros(1),
        ))
        .handle(move |_: Stubborn, cx: &Context| -> Result<(), JobError> {
            tried.push((cx.attempt(), cx.is_last_attempt()));
            Err(format!("failure {}", cx.attempt()).into())
        })
        .fallback(move |_| {
            gone.arrive();
            Err("nothing helps".into())
        })
        .start()
        .unwrap();
    let id = queue.job(Stubborn).retries(63).enqueue().unwrap().id();
    failed.wait_for(1);
    let is_dead = anthill_test_support::becomes_true(LONG, || queue.stats().unwrap().dead == 1);
    assert!(is_dead);
    consumer.stop(LONG).unwrap();
    let expected: Vec<(u32, bool)> = (1..=64).map(|attempt| (attempt, attempt == 64)).collect();
    assert_eq!(
        attempts.entries(),
        expected,
        "one after the other, each once"
    );
    let job = queue.get(id).unwrap().unwrap();
    assert_eq!((job.attempt, job.attempts, job.errors.len()), (64, 64, 10));
    let told: Vec<u32> = job.errors.iter().map(|error| error.attempt).collect();
    assert_eq!(told, (55..=64).collect::<Vec<u32>>(), "the last ten");
    let stats = queue.stats().unwrap();
    assert_eq!(
        (stats.retried, stats.died, stats.done),
        (63, 1, 0),
        "{stats:?}"
    );
    // From the longest pause on, it is monotone: the last one is as long as it may be.
    let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3600));
    assert!(backoff.after(64) <= Duration::from_secs(3600));
    assert!(backoff.after(64) >= Duration::from_secs(1800));
}
