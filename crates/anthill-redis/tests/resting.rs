//! How many requests consumers send that have nothing to do, beside what the page says.

use anthill::Pool;
use anthill_jobs::{Context, Job, JobError, Queue};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{Persistence, Server};
use anthill_test_support::skip_unless;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const PAGE: &str = include_str!("../docs/redis.md");

const CONSUMERS: u32 = 3;

#[derive(Serialize, Deserialize)]
struct Letter;

impl Job for Letter {
    const KIND: &'static str = "letter";
}

/// The number before some words of the page.
fn told(words: &str) -> u32 {
    let (before, _) = PAGE.split_once(words).expect("the page says so");
    let number = before.split_whitespace().next_back();
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

fn requests(server: &Server) -> u64 {
    let of = server.raw().commandstats();
    let count = |name: &str| of.get(name).copied().unwrap_or_default();
    // What scripts publish is no request; nothing is enqueued here.
    count("evalsha") + count("publish")
}

#[test]
#[ignore = "takes two minutes"]
fn consumers_at_rest_send_as_little_as_the_page_says() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let queue = Queue::of(RedisBroker::builder(&server.url()).open().unwrap());
    let pool = Pool::with_capacity(4);
    let start = |_| {
        let handler = |_: Letter, _: &Context| -> Result<(), JobError> { Ok(()) };
        queue.consumer(&pool).handle(handler).start().unwrap()
    };
    let consumers: Vec<_> = (0..CONSUMERS).map(start).collect();
    // What they send as they start is not counted.
    std::thread::sleep(Duration::from_secs(10));
    let before = requests(&server);
    std::thread::sleep(Duration::from_secs(120));
    let found = (requests(&server) - before) / 2;
    let told = CONSUMERS * told(" requests a minute") + told(" more for each process");
    println!("{found} requests a minute of {CONSUMERS} consumers");
    // A timer may strike once more.
    assert!(
        found <= u64::from(told) * 5 / 4,
        "{found}, and the page says {told}"
    );
    drop(consumers);
}
