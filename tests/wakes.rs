//! What a burst costs in wakes and sleeps, counted: a guard against changes that wake a thread for each task.

mod support;

use anthill::{Pool, Stats};
use support::{eventually_eq, expect_accepted, occupy};

const TASKS: usize = 10_000;

/// A backlog that was held back calls each worker once, asleep or not yet started, and neither goes to sleep before
/// it is done.
#[test]
fn a_backlog_calls_each_worker_once() {
    let pool = Pool::builder()
        .capacity(2)
        .unbounded_backlog()
        .keep_workers()
        .build()
        .unwrap();
    occupy(&pool, 2).end();
    pool.wait_idle();
    pool.tune(0);
    // One that is still looking for work would need no call.
    eventually_eq("workers over a pause", 0, || pool.workers());
    for _ in 0..TASKS {
        expect_accepted(pool.submit(|| ()));
    }
    let before = pool.stats();
    pool.tune(2);
    pool.wait_idle();
    let after = pool.stats();
    let calls = |stats: &Stats| stats.wakes + stats.workers_started;
    let calls = calls(&after) - calls(&before);
    assert!((1..=2).contains(&calls), "{calls} for {TASKS} tasks");
}

/// A worker that has a backlog before it goes through it without going to sleep.
#[cfg(target_os = "linux")]
#[test]
fn a_backlog_is_done_without_a_sleep() {
    use std::sync::mpsc::channel;
    use support::linux::{thread_id, voluntary_switches};

    let pool = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .build()
        .unwrap();
    let held = occupy(&pool, 1);
    let (sender, counts) = channel();
    let look = || {
        let sender = sender.clone();
        move || sender.send(voluntary_switches(thread_id())).unwrap()
    };
    expect_accepted(pool.submit(look()));
    for _ in 0..TASKS {
        expect_accepted(pool.submit(|| ()));
    }
    expect_accepted(pool.submit(look()));
    held.end();
    let (first, last) = (counts.recv().unwrap(), counts.recv().unwrap());
    // Not none: the locks of an allocator may be contended.
    assert!(last - first < 20, "{} for {TASKS} tasks", last - first);
}
