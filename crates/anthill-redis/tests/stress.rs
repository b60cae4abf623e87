//! Several processes of several threads do all that there is at once, with batches in different orders, shared unique keys and
//! keys, limits that change, and leases that end. The invariants of the queue hold between any two calls, no job is lost or done
//! twice, and no key is above its limit.
//!
//! `ANTHILL_STRESS` is how many steps each thread does; 400 by default.
#![cfg(unix)]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;
#[path = "stress/steps.rs"]
mod steps;
mod support;

use anthill_fleet_support::recorded::Fuse;
use anthill_fleet_support::roles::{say, told};
use anthill_fleet_support::{LONG, Member};
use anthill_jobs::broker::{Admin, LimitStore};
use anthill_jobs::{Broker, ClaimRequest, JobState, Limits, ListRequest, QueueStats};
use anthill_redis::RedisBroker;
use anthill_test_support::history::Rules;
use anthill_test_support::redis::{Persistence, Server};
use anthill_test_support::{seeded_rng, skip_unless};
use fleet::{Own, Stage};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use steps::{LEASE, PER_KEY, Shared};
use support::invariants;

const PROCESSES: u64 = 3;
const THREADS: u64 = 3;

#[test]
fn child() {
    fleet::child(&[("stress", stress)]);
}

fn stress() {
    let own = Own::open();
    let url: String = told("URL").expect("an address");
    let mut broker = Arc::clone(&own.broker);
    if told("QUICK") == Some(0) {
        let builder = RedisBroker::builder(&url).without_quick_scripts();
        broker = Arc::new(builder.open().expect("it can be opened"));
    }
    let shared = Shared::new(broker, Arc::clone(&own.recorder), Arc::clone(&own.fuse));
    let seed: u64 = told("SEED").expect("a seed");
    let steps: u64 = told("STEPS").expect("a number");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let shared = &shared;
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(seed.wrapping_add(thread));
                for _ in 0..steps {
                    shared.step(&mut random);
                }
            });
        }
    });
    shared.settle_all();
    let counts = [&shared.added, &shared.done, &shared.full, &shared.late];
    let [added, done, full, late] = counts.map(|count| count.load(Ordering::SeqCst));
    say(&format!("counted {added} {done} {full} {late}"));
}

fn is_empty(stats: &QueueStats) -> bool {
    stats.ready + stats.delayed + stats.parked + stats.running + stats.dead == 0
}

#[test]
fn invariants_hold_between_any_two_calls_and_nothing_is_lost() {
    let steps = std::env::var("ANTHILL_STRESS").unwrap_or_else(|_| "400".to_owned());
    let server = skip_unless!(Server::start(Persistence::Off));
    let stage = Stage::new(&server);
    let mut random = seeded_rng("invariants_hold_between_any_two_calls_and_nothing_is_lost");
    let limits = Limits {
        per_key: Some(PER_KEY),
        ..Limits::default()
    };
    stage.broker().set_limits(limits).unwrap();
    let mut members: Vec<Member> = (0..PROCESSES)
        .map(|number| {
            let told = [
                ("SEED", random.random::<u64>().to_string()),
                ("STEPS", steps.clone()),
                // One of them knows only the scripts that do everything.
                ("QUICK", u64::from(number > 0).to_string()),
            ];
            stage.start("stress", &told)
        })
        .collect();
    let mut raw = server.raw();
    let mut looks = 0;
    let (mut added, mut done, mut full, mut late) = (0, 0, 0, 0);
    for member in &mut members {
        let counted = loop {
            invariants::assert_hold(&mut raw, &stage.name);
            looks += 1;
            if let Some(counted) = member.hear_within("counted ", Duration::from_millis(5)) {
                break counted;
            }
            assert!(member.is_there(), "{}", member.errors());
        };
        let counted: Vec<u64> = counted.split(' ').map(|one| one.parse().unwrap()).collect();
        added += counted[0];
        done += counted[1];
        full += counted[2];
        late += counted[3];
    }
    for member in &mut members {
        member.end();
    }

    // All that is left ends.
    let broker = Arc::new(stage.broker());
    broker.set_limits(limits).unwrap();
    let fuse = Arc::new(Fuse {
        point: String::new(),
        left: AtomicI64::new(0),
        by: "lead".to_owned(),
    });
    let shared = Shared::new(broker, Arc::clone(stage.recorder()), fuse);
    let begin = Instant::now();
    loop {
        for job in shared
            .admin()
            .list(&ListRequest::new(JobState::Dead))
            .unwrap()
        {
            shared.removing([job.id]);
            shared.admin().delete(job.id).unwrap();
        }
        let claims = shared.broker.claim(&ClaimRequest::new(50, LEASE)).unwrap();
        let claimed = claims.jobs.into_iter().map(|job| (job, true));
        shared.held.lock().unwrap().extend(claimed);
        shared.settle_all();
        invariants::assert_hold(&mut raw, &stage.name);
        looks += 1;
        let left = shared.admin().stats().unwrap();
        if is_empty(&left) {
            break;
        }
        assert!(begin.elapsed() < LONG, "{left:?}");
    }
    done += shared.done.load(Ordering::SeqCst);
    let (report, stats) = stage.judge(&Rules::default().per_key(PER_KEY as usize));
    eprintln!(
        "{looks} looks, {full} enqueues refused, {late} late ends; {stats:?}\n{}",
        report.books
    );
    report.assert_valid();
    assert_eq!((stats.enqueued, stats.done), (added, done), "{stats:?}");
    let expected = [
        ("looks", looks),
        ("refused", full),
        ("late ends", late),
        ("duplicates", stats.duplicates),
        ("expired", stats.expired),
        ("died", stats.died),
        ("lost leases", stats.lost_leases),
    ];
    for (what, number) in expected {
        assert!(number > 0, "there were no {what}");
    }
}
