//! What is checked of each engine alike, where only the way to spoil it is its own.

use crate::roles::draft;
use crate::{Engine, Member, Stage, balance};
use anthill_jobs::{Enqueued, Queue, QueueError};
use anthill_test_support::history::Rules;
use std::time::{Duration, Instant};

/// A backlog that is older than any lease is delivered once. `age` makes it an hour older.
pub fn deliver_an_old_backlog_once<E: Engine>(stage: &Stage<E>, age: impl FnOnce()) {
    let told = [
        ("COUNT", "2000".to_owned()),
        ("BATCH", "500".to_owned()),
        ("BACKLOG", "9999".to_owned()),
    ];
    let mut producer = stage.start("produce", &told);
    producer.end();
    age();
    let stats = stage.queue().stats().expect("the server is there");
    let oldest = stats.oldest.expect("they wait");
    assert!(oldest.as_secs() >= 3_600, "{oldest:?}");
    let told = [
        ("LEASE_MS", "3000".to_owned()),
        ("WORK_US", "200".to_owned()),
    ];
    let mut consumers: Vec<Member> = (0..3).map(|_| stage.start("consume", &told)).collect();
    stage.await_drained();
    for consumer in &mut consumers {
        consumer.end();
    }
    let judged = stage.judge(&Rules::default());
    balance("backlog", &judged);
    let books = judged.0.books;
    assert_eq!(
        (books.done, books.duplicates, books.extra_runs),
        (2_000, 0, 0),
        "{books}"
    );
    assert_eq!(judged.1.lost_leases, 0, "{:?}", judged.1);
}

/// An enqueue without a server fails within `limit`, and its repetition adds nothing. The queue is empty at first.
pub fn enqueue_without_a_server(
    queue: &Queue,
    limit: Duration,
    kill: impl FnOnce(),
    start_again: impl FnOnce(),
) {
    let job = draft(queue, 2);
    let enqueued = queue.enqueue_new(&job).expect("the server is there");
    assert_eq!(enqueued, Enqueued::Added(job.id));
    kill();
    for _ in 0..3 {
        let start = Instant::now();
        let error = queue.enqueue_new(&job).expect_err("there is no server");
        assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
        assert!(start.elapsed() < limit, "after {:?}", start.elapsed());
    }
    start_again();
    let other = draft(queue, 4);
    for (job, expected) in [
        (&job, Enqueued::Duplicate(job.id)),
        (&other, Enqueued::Added(other.id)),
    ] {
        let enqueued = queue.enqueue_new(job).expect("the server is back");
        assert_eq!(enqueued, expected);
    }
    let stats = queue.stats().expect("the server is back");
    assert_eq!(
        (stats.ready, stats.enqueued, stats.duplicates),
        (2, 2, 1),
        "{stats:?}"
    );
}
