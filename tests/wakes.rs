//! What a burst costs in wakes and sleeps, counted: a guard against changes that wake a thread for each task.

mod support;

use anthill::Pool;
use support::{expect_accepted, occupy};

const TASKS: usize = 10_000;

fn kept_pool() -> Pool {
    let pool = Pool::builder()
        .capacity(2)
        .unbounded_backlog()
        .keep_workers()
        .build()
        .unwrap();
    // Both workers are up.
    occupy(&pool, 2).end();
    pool.wait_idle();
    pool
}

/// Workers that are busy need no wake, whatever comes in; nor do they need one to go on to it.
#[test]
fn submitting_to_busy_workers_wakes_nobody() {
    let pool = kept_pool();
    let held = occupy(&pool, 2);
    let before = pool.stats();
    for _ in 0..TASKS {
        expect_accepted(pool.submit(|| ()));
    }
    assert_eq!(pool.stats().wakes, before.wakes, "while both are busy");
    held.end();
    pool.wait_idle();
    let after = pool.stats();
    assert_eq!(after.wakes, before.wakes, "until the backlog is done");
    assert_eq!(after.workers_started, before.workers_started);
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
