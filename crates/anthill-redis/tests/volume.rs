//! Many jobs of all kinds at once, a job that nobody can read first in line, one that is tried 64 times, and large ones.

mod common;

use anthill::Pool;
use anthill_jobs::broker::{Admin, LimitStore};
use anthill_jobs::{
    Backoff, Broker, Context, Job, JobError, JobState, Limits, ListRequest, NewJob, Queue,
};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{self, Persistence, Raw, Server};
use anthill_test_support::{Arrivals, Log, eventually, skip_unless};
use common::{LEASE, done, enqueue, fresh, job, key, open, request, stats};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Of each: 200,000 in all.
const DUE: usize = 90_000;
const EXPIRED: usize = 50_000;
const PARKED: usize = 58_000;
const OVER: usize = 2_000;

/// What one call may do: five hundred jobs of each, by at most so many commands each.
const MOST_COMMANDS: u64 = 15_000;

fn many(number: usize, make: impl Fn(usize) -> NewJob) -> impl Iterator<Item = Vec<NewJob>> {
    let each = (0..number)
        .step_by(500)
        .map(move |from| (from, number.min(from + 500)));
    each.map(move |(from, to)| (from..to).map(&make).collect())
}

/// How many commands the server has run, also those of scripts.
fn commands(raw: &mut Raw) -> u64 {
    let stats = raw.commandstats();
    stats
        .iter()
        .filter(|(name, _)| *name != "info")
        .map(|(_, calls)| calls)
        .sum()
}

fn in_an_hour(number: usize) -> NewJob {
    let mut one = job(format!("due {number}"));
    one.delay = Duration::from_secs(3600);
    one
}

#[test]
fn two_hundred_thousand_at_once_are_worked_off_in_steps() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let (queue, mut raw) = (fresh(), server.raw());
    // All of it is to happen at one moment: the time is that of the field, and stands.
    let conf = key(&queue, "conf");
    raw.run(&["HSET", &conf, "c", "1735732800000000"]);
    let broker = open(&server.url(), &queue);
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    broker.set_limits(limits).expect("they can be set");
    for batch in many(OVER, |number| job(format!("over {number}"))) {
        enqueue(&broker, &batch);
    }
    let lease = Duration::from_secs(1800);
    let mut held = 0;
    while held < OVER {
        held += broker
            .claim(&request(500, lease))
            .expect("they are there")
            .jobs
            .len();
    }
    for batch in many(EXPIRED, |number| {
        let mut one = job(format!("expired {number}"));
        one.expires = Some(Duration::from_secs(60));
        one
    }) {
        enqueue(&broker, &batch);
    }
    for batch in many(DUE, in_an_hour) {
        enqueue(&broker, &batch);
    }
    for batch in many(PARKED, |number| {
        let mut one = job(format!("parked {number}"));
        one.key = Some(format!("key {}", number % 2_000));
        one
    }) {
        enqueue(&broker, &batch);
    }
    let now = stats(&broker);
    assert_eq!(
        (now.delayed, now.running),
        (DUE as u64, OVER as u64),
        "{now:?}"
    );
    assert_eq!(now.parked, PARKED as u64 - 2_000, "{now:?}");
    raw.run(&["HINCRBY", &conf, "c", "7200000000"]);
    // And each of the keys is to be looked at, as after a change of the limits; whoever makes one sees to some of it himself.
    raw.run(&["HSET", &conf, "u", ""]);
    let (mut ended, mut most, mut calls) = (0, 0, 0);
    let mut before = commands(&mut raw);
    while ended < DUE + PARKED + OVER {
        calls += 1;
        let claims = broker.claim(&request(500, LEASE)).expect("they are there");
        let after = commands(&mut raw);
        most = most.max(after - before);
        let is_done = claims.jobs.is_empty() && claims.again_in != Some(Duration::ZERO);
        assert!(!is_done, "after {ended}: {:?}", stats(&broker));
        assert!(calls < 20_000, "{ended}");
        ended += claims.jobs.len();
        if !claims.jobs.is_empty() {
            let ends: Vec<_> = claims.jobs.iter().map(done).collect();
            let settled = broker.settle(&ends).expect("they are held");
            assert!(settled.iter().all(|one| one.is_stored()));
        }
        before = commands(&mut raw);
        most = most.max(before - after);
    }
    eprintln!("{calls} calls, none of more than {most} commands");
    assert!(most <= MOST_COMMANDS, "{most}");
    // Nobody who looks, or tidies up, takes them all at once either.
    eventually("what has expired is gone", || {
        let before = commands(&mut raw);
        broker.claim(&request(0, LEASE)).expect("it tidies up");
        let made = commands(&mut raw) - before;
        assert!(made <= MOST_COMMANDS, "{made}");
        raw.run(&["HLEN", &key(&queue, "jobs")]).integer() == 0
    });
    let now = stats(&broker);
    assert_eq!(now.expired, EXPIRED as u64, "{now:?}");
    assert_eq!(now.done, (DUE + PARKED + OVER) as u64, "{now:?}");
    assert_eq!(
        (now.ready, now.delayed, now.parked, now.running, now.dead),
        (0, 0, 0, 0, 0)
    );
}

#[derive(Serialize, Deserialize)]
struct Letter {
    number: u32,
}

impl Job for Letter {
    const KIND: &'static str = "letter";
}

#[test]
fn data_that_nobody_can_read_is_dead_with_the_reason_and_the_rest_goes_on() {
    let server = skip_unless!(redis::shared());
    let name = fresh();
    let queue = Queue::of(open(&server.url(), &name));
    let mut poisoned = NewJob::new(Letter::KIND, vec![0xff, 0x00, 0xfe, 0x7b]);
    poisoned.priority = 100;
    queue
        .enqueue_new(&poisoned)
        .expect("a broker reads no data");
    for number in 0..50 {
        queue.enqueue(Letter { number }).expect("it is stored");
    }
    let pool = Pool::with_capacity(2);
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Letter, _: &Context| -> Result<(), JobError> { Ok(()) })
        .start()
        .expect("it starts");
    eventually("the rest is done", || {
        queue.stats().is_ok_and(|now| now.done == 50)
    });
    eventually("it is dead", || {
        queue.stats().is_ok_and(|now| now.dead == 1)
    });
    consumer.stop(LEASE).expect("it stops");
    let dead = queue.dead(10).expect("it is read");
    assert_eq!((dead[0].id, dead[0].attempt), (poisoned.id, 1));
    assert_eq!(dead[0].payload, poisoned.payload, "it is kept as it is");
    let why = dead[0].error.clone().unwrap_or_default();
    assert!(
        why.contains("expected value"),
        "the reason is told: {why:?}"
    );
}

#[test]
fn a_job_is_tried_sixty_four_times_and_then_dead() {
    let server = skip_unless!(redis::shared());
    let queue = Queue::of(open(&server.url(), &fresh()));
    let pool = Pool::with_capacity(2);
    let (attempts, failed) = (Log::new(), Arrivals::new());
    let (tried, gone) = (attempts.clone(), failed.clone());
    let consumer = queue
        .consumer(&pool)
        .backoff(Backoff::new(
            Duration::from_micros(1),
            Duration::from_micros(1),
        ))
        .handle(move |_: Letter, cx: &Context| -> Result<(), JobError> {
            tried.push((cx.attempt(), cx.is_last_attempt()));
            Err(format!("failure {}", cx.attempt()).into())
        })
        .fallback(move |_| {
            gone.arrive();
            Err("nothing helps".into())
        })
        .start()
        .expect("it starts");
    let id = queue
        .job(Letter { number: 1 })
        .retries(63)
        .enqueue()
        .expect("it is stored")
        .id();
    failed.wait_for(1);
    eventually("it is dead", || {
        queue.stats().is_ok_and(|now| now.dead == 1)
    });
    consumer.stop(LEASE).expect("it stops");
    let expected: Vec<(u32, bool)> = (1..=64).map(|attempt| (attempt, attempt == 64)).collect();
    assert_eq!(
        attempts.entries(),
        expected,
        "one after the other, each once"
    );
    let job = queue.get(id).expect("it is read").expect("it is kept");
    assert_eq!((job.attempt, job.attempts, job.errors.len()), (64, 64, 10));
    let told: Vec<u32> = job.errors.iter().map(|error| error.attempt).collect();
    assert_eq!(told, (55..=64).collect::<Vec<u32>>(), "the last ten");
    let now = queue.stats().expect("they are read");
    assert_eq!((now.retried, now.died, now.done), (63, 1, 0), "{now:?}");
}

#[test]
fn a_claim_of_large_jobs_is_bounded_in_bytes_and_goes_on_at_once() {
    const SIZE: usize = 2 << 20;
    let server = skip_unless!(Server::start(Persistence::Off));
    let broker: RedisBroker = open(&server.url(), &fresh());
    for number in 0..40_u8 {
        enqueue(&broker, &[NewJob::new("test", vec![number; SIZE])]);
    }
    let (mut came, mut claimed) = (Vec::new(), 0);
    while came.len() < 40 {
        let claims = broker.claim(&request(40, LEASE)).expect("they are there");
        claimed += 1;
        let bytes: usize = claims.jobs.iter().map(|job| job.payload.len()).sum();
        assert!(bytes <= 32 << 20, "{bytes}");
        assert!(!claims.jobs.is_empty(), "it goes on");
        came.extend(claims.jobs.iter().map(|job| job.payload[0]));
        if came.len() < 40 {
            assert_eq!(
                claims.again_in,
                Some(Duration::ZERO),
                "there is more at once"
            );
        }
        let ends: Vec<_> = claims.jobs.iter().map(done).collect();
        broker.settle(&ends).expect("they are held");
    }
    assert_eq!(came, (0..40).collect::<Vec<u8>>(), "in order");
    assert!(claimed >= 3, "{claimed}");
    // Nor does a list carry them all; and one that is larger than that comes alone.
    let larger = NewJob::new("test", vec![b'x'; 40 << 20]);
    enqueue(&broker, &[larger, job("small")]);
    let list = broker
        .list(&ListRequest::new(JobState::Ready).data(10))
        .expect("it is read");
    assert!(list.iter().all(|job| job.payload.len() <= 10));
    let sizes = |claims: anthill_jobs::Claims| {
        claims
            .jobs
            .iter()
            .map(|job| job.payload.len())
            .collect::<Vec<usize>>()
    };
    let first = sizes(broker.claim(&request(10, LEASE)).expect("they are there"));
    assert_eq!(first[0], 40 << 20);
    if first.len() == 1 {
        let rest = sizes(broker.claim(&request(10, LEASE)).expect("they are there"));
        assert_eq!(rest, [5]);
    }
}
