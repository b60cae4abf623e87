//! Threads are started late and used again: P1 (lazy), P2 (reuse, newest first) and P20 (many pools).

mod support;

use std::collections::HashSet;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anthill::{Pool, PoolHandle};
use support::{eventually, eventually_eq, expect_accepted, occupy, receive};

/// Submits a task and returns the thread that ran it, once the pool is idle again.
#[track_caller]
fn thread_of_a_task(pool: &PoolHandle) -> thread::ThreadId {
    let (sender, receiver) = channel();
    expect_accepted(pool.submit(move || {
        let _ = sender.send(thread::current().id());
    }));
    pool.wait_idle();
    receive("the task ran before wait_idle returned", &receiver)
}

#[test]
fn p01_a_new_pool_has_no_worker() {
    for pool in [
        Pool::with_capacity(8),
        Pool::unbounded(),
        Pool::default(),
        Pool::builder().keep_workers().build().unwrap(),
    ] {
        assert_eq!((pool.workers(), pool.idle(), pool.running()), (0, 0, 0));
        assert_eq!(pool.stats().workers_started, 0, "{pool:?}");
    }
}

/// In a process of its own, where no other test's threads come and go.
#[cfg(target_os = "linux")]
#[test]
fn p01_no_thread_exists_before_the_first_task() {
    use support::linux::threads;

    let test = "p01_no_thread_exists_before_the_first_task";
    support::in_child_process(test, Duration::from_secs(60), || {
        let before = threads().len();
        let pool = Pool::with_capacity(4);
        assert_eq!(threads().len(), before);
        let occupied = occupy(&pool, 2);
        // One for each task, and no helper.
        assert_eq!(threads().len(), before + 2);
        drop(occupied);
    });
}

#[test]
fn p01_what_is_not_a_task_starts_no_thread() {
    let pool = Pool::with_capacity(2);
    pool.tune(100);
    pool.tune(0);
    pool.tune(4);
    pool.wait_idle();
    assert!(pool.wait_idle_timeout(Duration::ZERO));
    pool.release();
    pool.reboot();
    let handle = pool.handle();
    assert_eq!(handle.release_now(), 0);
    handle.release_timeout(Duration::from_secs(1)).unwrap();
    handle.reboot();
    assert_eq!(pool.stats().workers_started, 0);
}

#[test]
fn p01_the_first_task_starts_the_first_thread() {
    let pool = Pool::with_capacity(8);
    thread_of_a_task(&pool);
    assert_eq!((pool.workers(), pool.stats().workers_started), (1, 1));
}

#[test]
fn p01_min_workers_are_started_by_build() {
    let pool = Pool::builder().capacity(4).min_workers(3).build().unwrap();
    assert_eq!((pool.workers(), pool.idle()), (3, 3));
    assert_eq!(pool.stats().workers_started, 3);
    // They are workers like any other: used before a fourth is started.
    let three = occupy(&pool, 3);
    assert_eq!(pool.stats().workers_started, 3);
    let fourth = occupy(&pool, 1);
    assert_eq!(pool.stats().workers_started, 4);
    drop((three, fourth));
}

#[test]
fn p01_no_more_threads_than_tasks_at_once() {
    let pool = Pool::with_capacity(8);
    let occupied = occupy(&pool, 3);
    assert_eq!((pool.workers(), pool.stats().workers_started), (3, 3));
    drop(occupied);
}

#[test]
fn p02_one_task_at_a_time_runs_for_ever_on_one_thread() {
    for pool in [
        Pool::with_capacity(8),
        Pool::unbounded(),
        Pool::default(),
        Pool::builder().capacity(8).backlog(3).build().unwrap(),
        Pool::builder().capacity(3).min_workers(1).build().unwrap(),
    ] {
        let threads: HashSet<_> = (0..500).map(|_| thread_of_a_task(&pool)).collect();
        assert_eq!(threads.len(), 1, "{pool:?}");
        assert_eq!(pool.stats().workers_started, 1, "{pool:?}");
    }
}

/// Who submits makes no difference: only what was idle last does.
#[test]
fn p02_one_task_at_a_time_from_changing_submitters_runs_on_one_thread() {
    let pool = Pool::with_capacity(4);
    let mut threads = HashSet::new();
    for _ in 0..50 {
        let handle = pool.handle();
        threads.insert(
            thread::spawn(move || thread_of_a_task(&handle))
                .join()
                .unwrap(),
        );
    }
    assert_eq!(threads.len(), 1);
}

#[test]
fn p02_an_idle_worker_is_used_before_a_thread_is_started() {
    let pool = Pool::builder().capacity(8).keep_workers().build().unwrap();
    for _ in 0..20 {
        let occupied = occupy(&pool, 4);
        assert_eq!(pool.stats().workers_started, 4);
        drop(occupied);
        pool.wait_idle();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn p02_the_most_recently_idle_worker_is_used_first() {
    use support::Gate;
    use support::linux::{eventually_asleep, thread_id};

    let pool = Pool::builder().capacity(4).keep_workers().build().unwrap();
    let (sender, receiver) = channel();
    let hold_one = || {
        let gate = Gate::new();
        let (inside, sender) = (gate.clone(), sender.clone());
        expect_accepted(pool.submit(move || {
            let _ = sender.send(thread_id());
            inside.wait();
        }));
        (receive("the task began", &receiver), gate.opened_on_drop())
    };
    let mut held: Vec<_> = (0..4).map(|_| hold_one()).collect();

    for order in [[2, 0, 3, 1], [3, 1, 2, 0], [0, 1, 2, 3]] {
        let mut expected = Vec::new();
        for (count, index) in order.into_iter().enumerate() {
            let (thread, gate) = &held[index];
            gate.open();
            eventually_eq("idle workers", count + 1, || pool.idle());
            eventually_asleep(*thread);
            expected.insert(0, *thread);
        }
        held = (0..4).map(|_| hold_one()).collect();
        let used: Vec<_> = held.iter().map(|(thread, _)| *thread).collect();
        assert_eq!(
            used, expected,
            "newest first; they went idle in the order {order:?}"
        );
    }
    drop(held);
}

#[cfg(target_os = "linux")]
#[test]
fn p02_after_a_burst_one_task_at_a_time_runs_on_one_thread() {
    use support::linux::{eventually_asleep, thread_id};

    let pool = Pool::builder().capacity(4).keep_workers().build().unwrap();
    let (sender, receiver) = channel();
    let gate = support::Gate::new();
    for _ in 0..4 {
        let (sender, gate) = (sender.clone(), gate.clone());
        expect_accepted(pool.submit(move || {
            let _ = sender.send(thread_id());
            gate.wait();
        }));
    }
    let workers: Vec<_> = (0..4).map(|_| receive("a task began", &receiver)).collect();
    gate.open();
    pool.wait_idle();
    for worker in workers {
        eventually_asleep(worker);
    }
    let threads: HashSet<_> = (0..500).map(|_| thread_of_a_task(&pool)).collect();
    assert_eq!(threads.len(), 1, "three of the four workers stay cold");
}

#[cfg(target_os = "linux")]
#[test]
fn p20_a_thousand_unused_pools_have_no_thread() {
    use support::linux::threads_named;

    let pools: Vec<_> = (0..1000)
        .map(|_| {
            Pool::builder()
                .capacity(4)
                .name("p20unused")
                .build()
                .unwrap()
        })
        .collect();
    assert_eq!(threads_named("p20unused"), 0);
    drop(pools);
}

#[cfg(target_os = "linux")]
#[test]
fn p20_a_thousand_pools_that_have_worked_end_up_without_a_thread() {
    use support::linux::threads_named;

    let pools: Vec<_> = (0..1000)
        .map(|_| {
            let pool = Pool::builder()
                .capacity(2)
                .name("p20worked")
                .idle_timeout(Duration::from_millis(20))
                .build()
                .unwrap();
            expect_accepted(pool.submit(|| {}));
            pool
        })
        .collect();
    for pool in &pools {
        pool.wait_idle();
    }
    eventually("the threads of all idle pools end", || {
        threads_named("p20worked") == 0
    });
    for pool in &pools {
        assert_eq!((pool.workers(), pool.stats().completed), (0, 1));
    }
}
