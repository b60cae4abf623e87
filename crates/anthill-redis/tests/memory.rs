//! How much memory a job takes, beside what the page says.
//!
//! ```console
//! cargo test -p anthill-redis --test memory -- --ignored --nocapture
//! ```

use anthill_jobs::{Broker, ClaimRequest, NewJob};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{Persistence, Server};
use anthill_test_support::skip_unless;
use std::time::Duration;

const PAGE: &str = include_str!("../docs/redis.md");

const JOBS: usize = 100_000;

/// By how much a figure may differ from that of the page.
const TOLERANCE: f64 = 0.15;

const HOUR: Duration = Duration::from_secs(3_600);

/// The figure of a row of the page.
fn told(row: &str) -> f64 {
    let begin = format!("| {row} | ");
    let line = PAGE.lines().find_map(|line| line.strip_prefix(&begin));
    let line = line.unwrap_or_else(|| panic!("the page has no row {row:?}"));
    let figure = line.split(' ').next().unwrap_or_default();
    figure.parse().expect("the row has a figure")
}

fn used(server: &Server) -> f64 {
    server.raw().info("memory")["used_memory"].parse().unwrap()
}

/// Bytes a job, of jobs that `change` makes out of the one of 100 bytes.
fn bytes_a_job(
    server: &Server,
    change: impl Fn(usize, &mut NewJob),
    then: impl Fn(&RedisBroker),
) -> f64 {
    server.raw().run(&["FLUSHALL", "SYNC"]);
    let broker = RedisBroker::builder(&server.url()).alone().open().unwrap();
    let job = |number| {
        let mut job = NewJob::new("thumbnail", vec![b'x'; 100]);
        change(number, &mut job);
        job
    };
    // What is there once, and the connection.
    broker.enqueue(&[job(JOBS)]).unwrap();
    let before = used(server);
    for first in (0..JOBS).step_by(500) {
        let jobs: Vec<NewJob> = (first..first + 500).map(job).collect();
        for one in broker.enqueue(&jobs).unwrap() {
            assert!(one.unwrap().is_added());
        }
    }
    then(&broker);
    #[expect(clippy::cast_precision_loss, reason = "it is no such number")]
    let jobs = JOBS as f64;
    (used(server) - before) / jobs
}

fn claim_all(broker: &RedisBroker) {
    let mut left = JOBS + 1;
    let mut request = ClaimRequest::new(500, HOUR);
    request.consumer = Some("01a22c57-48e7-735a-a2dd-fe2da6f68260".into());
    while left > 0 {
        left -= broker.claim(&request).unwrap().jobs.len();
    }
}

#[test]
#[ignore = "takes half a minute"]
fn a_job_takes_as_much_memory_as_the_page_says() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let nothing = |_: &RedisBroker| ();
    let measured = [
        ("a ready job", bytes_a_job(&server, |_, _| (), nothing)),
        (
            "a delayed job",
            bytes_a_job(&server, |_, job| job.delay = HOUR, nothing),
        ),
        ("a running job", bytes_a_job(&server, |_, _| (), claim_all)),
        (
            "with a key, one of 1,000",
            bytes_a_job(
                &server,
                |number, job| job.key = Some(format!("customer {}", number % 1_000)),
                nothing,
            ),
        ),
        (
            "with a key of its own",
            bytes_a_job(
                &server,
                |number, job| job.key = Some(format!("customer {number}")),
                nothing,
            ),
        ),
        (
            "with a unique key",
            bytes_a_job(
                &server,
                |number, job| job.unique = Some(format!("customer {number}")),
                nothing,
            ),
        ),
        (
            "with an expiry",
            bytes_a_job(&server, |_, job| job.expires = Some(HOUR), nothing),
        ),
        (
            "with a header of 50 bytes",
            bytes_a_job(
                &server,
                |_, job| job.headers = [("trace".to_owned(), "x".repeat(45))].into(),
                nothing,
            ),
        ),
    ];
    for (row, bytes) in measured {
        println!("{row}: {bytes:.0} bytes");
    }
    for (row, bytes) in measured {
        let told = told(row);
        let is_near = (bytes / told - 1.0).abs() <= TOLERANCE;
        assert!(is_near, "{row}: {bytes:.0} bytes, and the page says {told}");
    }
}
