//! How many tasks run at once: P3 (the bound is exact) and P9 (resize).
//!
//! What runs at once is counted by the tasks themselves, never read from a gauge of the pool.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anthill::{Pool, PoolHandle, SubmitErrorKind};
use rand::Rng;
use support::{
    Arrivals, Gate, OpensOnDrop, Running, assert_at_rest, eventually, eventually_eq,
    eventually_waiting, expect_accepted, occupy, receive, refusal, seeded_rng, watchdog,
};

/// Long enough inside for others to come in as well, if anything lets them.
fn linger() {
    for _ in 0..3 {
        thread::yield_now();
    }
}

/// `submitters` threads submit `each` tasks, of which every `panics_every`th panics (0: none).
fn hammer(
    pool: &PoolHandle,
    running: &Running,
    submitters: usize,
    each: usize,
    panics_every: usize,
) {
    thread::scope(|scope| {
        for _ in 0..submitters {
            scope.spawn(|| {
                for number in 1..=each {
                    let running = running.clone();
                    expect_accepted(pool.submit(move || {
                        let _inside = running.enter();
                        linger();
                        let panics = panics_every > 0 && number % panics_every == 0;
                        assert!(!panics, "on purpose");
                    }));
                }
            });
        }
    });
}

/// One task that runs until its gate opens.
#[track_caller]
fn hold(pool: &PoolHandle, running: &Running) -> OpensOnDrop {
    let gate = Gate::new();
    let (inside, running) = (gate.clone(), running.clone());
    let (sender, receiver) = channel();
    expect_accepted(pool.submit(move || {
        let _inside = running.enter();
        let _ = sender.send(());
        inside.wait();
    }));
    receive("the task began", &receiver);
    gate.opened_on_drop()
}

/// Exactly `capacity` tasks can run at once: all of them do, and there is no room for one more.
#[track_caller]
fn assert_room_for_exactly(pool: &PoolHandle, capacity: usize) {
    let occupied = occupy(pool, capacity);
    assert_eq!(pool.running(), capacity);
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    occupied.end();
    pool.wait_idle();
}

#[test]
fn p03_no_task_starts_while_capacity_others_run() {
    for capacity in [1, 2, 3, 7] {
        for pool in [
            Pool::with_capacity(capacity),
            Pool::builder()
                .capacity(capacity)
                .unbounded_backlog()
                .build()
                .unwrap(),
        ] {
            let running = Running::new();
            hammer(&pool, &running, 4, 400, 0);
            pool.wait_idle();
            assert!(
                running.peak() <= capacity,
                "{} of {capacity} at once",
                running.peak()
            );
            let stats = pool.stats();
            assert_eq!(stats.completed, 1600, "{stats:?}");
            assert!(stats.workers_peak <= capacity, "{stats:?}");
        }
    }
}

#[test]
fn p03_capacity_tasks_do_run_at_once() {
    for capacity in [1, 2, 5, 20] {
        assert_room_for_exactly(&Pool::with_capacity(capacity), capacity);
    }
}

/// With the whole bound used by tasks that came in through the backlog, too.
#[test]
fn p03_queued_tasks_use_the_whole_capacity() {
    let pool = Pool::builder()
        .capacity(6)
        .unbounded_backlog()
        .build()
        .unwrap();
    let gate = Gate::new();
    let arrived = Arrivals::new();
    for _ in 0..30 {
        let (gate, arrived) = (gate.clone(), arrived.clone());
        expect_accepted(pool.submit(move || {
            arrived.arrive();
            gate.wait();
        }));
    }
    let gate = gate.opened_on_drop();
    arrived.wait_for(6);
    assert_eq!((pool.running(), pool.queued()), (6, 24));
    gate.open();
    arrived.wait_for(30);
    pool.wait_idle();
}

#[test]
fn p03_the_bound_holds_when_tasks_panic() {
    let pool = Pool::builder()
        .capacity(3)
        .panic_handler(|_| {})
        .build()
        .unwrap();
    let running = Running::new();
    hammer(&pool, &running, 4, 150, 3);
    pool.wait_idle();
    assert!(running.peak() <= 3, "{} of 3 at once", running.peak());
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.panicked), (400, 200), "{stats:?}");
    assert_room_for_exactly(&pool, 3);
}

#[test]
fn p03_the_bound_holds_while_workers_expire() {
    let pool = Pool::builder()
        .capacity(3)
        .idle_timeout(Duration::from_micros(100))
        .build()
        .unwrap();
    let running = Running::new();
    let mut rng = seeded_rng("p03_the_bound_holds_while_workers_expire");
    for _ in 0..300 {
        let tasks = rng.random_range(1..6);
        hammer(&pool, &running, 1, tasks, 0);
        // About as long as the idle timeout, so that expiry and the next submit meet.
        for _ in 0..rng.random_range(0..200) {
            std::hint::spin_loop();
        }
    }
    pool.wait_idle();
    assert!(running.peak() <= 3, "{} of 3 at once", running.peak());
    assert_room_for_exactly(&pool, 3);
}

/// Nothing starts before the running tasks are below the new capacity, and then exactly one for
/// each that ends.
#[test]
fn p03_after_tune_down_nothing_starts_before_the_excess_has_ended() {
    let pool = Pool::builder()
        .capacity(6)
        .unbounded_backlog()
        .build()
        .unwrap();
    let running = Running::new();
    let held: Vec<_> = (0..6).map(|_| hold(&pool, &running)).collect();
    assert_eq!(pool.tune(2), 6);

    let peaks = support::Log::new();
    for _ in 0..50 {
        let (running, peaks) = (running.clone(), peaks.clone());
        expect_accepted(pool.submit(move || {
            let _inside = running.enter();
            peaks.push(running.now());
            linger();
        }));
    }
    for (ended, gate) in held.iter().enumerate() {
        gate.open();
        if ended + 1 < 5 {
            eventually_eq("running tasks", 6 - (ended + 1), || pool.running());
        }
    }
    pool.wait_idle();
    assert_eq!(peaks.len(), 50);
    assert!(
        peaks.entries().into_iter().all(|count| count <= 2),
        "a task began beside: {:?}",
        peaks.entries()
    );
}

#[test]
fn p03_the_bound_is_exact_after_each_of_many_tunes() {
    let pool = Pool::with_capacity(1);
    let running = Running::new();
    let mut rng = seeded_rng("p03_the_bound_is_exact_after_each_of_many_tunes");
    for _ in 0..40 {
        let capacity = rng.random_range(1..=8);
        pool.tune(capacity);
        running.reset_peak();
        hammer(&pool, &running, 2, 40, 0);
        pool.wait_idle();
        assert!(
            running.peak() <= capacity,
            "{} of {capacity} at once",
            running.peak()
        );
        assert_room_for_exactly(&pool, capacity);
    }
}

/// Tuned by several threads all the time, with panics and expiry: no more than the largest capacity
/// there ever was, nothing lost, and an exact bound when all is quiet.
#[test]
fn p03_the_bound_holds_under_submit_panic_expiry_and_tune_together() {
    let mut rng = seeded_rng("p03_the_bound_holds_under_submit_panic_expiry_and_tune_together");
    let seeds: Vec<u64> = (0..2).map(|_| rng.random()).collect();
    watchdog("the storm passes", move || {
        let pool = Pool::builder()
            .capacity(5)
            .idle_timeout(Duration::from_micros(200))
            .panic_handler(|_| {})
            .build()
            .unwrap();
        let running = Running::new();
        let done = Gate::new();
        thread::scope(|scope| {
            for seed in seeds {
                let (pool, done) = (&pool, &done);
                scope.spawn(move || {
                    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
                    while !done.is_open() {
                        pool.tune(rng.random_range(0..=5));
                        thread::yield_now();
                    }
                });
            }
            hammer(&pool, &running, 4, 400, 7);
            done.open();
        });
        pool.tune(5);
        pool.wait_idle();
        assert!(running.peak() <= 5, "{} of 5 at once", running.peak());
        let stats = pool.stats();
        assert_eq!(stats.completed + stats.panicked, 1600, "{stats:?}");
        assert_room_for_exactly(&pool, 5);
        assert_at_rest(&pool);
    });
}

#[test]
fn p09_tune_returns_the_old_capacity() {
    let pool = Pool::with_capacity(3);
    assert_eq!(pool.tune(5), 3);
    assert_eq!(pool.tune(0), 5);
    assert_eq!(pool.tune(usize::MAX), 0);
    assert_eq!(pool.tune(1), usize::MAX);
    assert_eq!(pool.capacity(), 1);
}

#[test]
fn p09_tune_up_lets_waiters_in() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let arrived = Arrivals::new();
    let gate = Gate::new().opened_on_drop();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let (arrived, gate) = (arrived.clone(), (*gate).clone());
                expect_accepted(pool.submit(move || {
                    arrived.arrive();
                    gate.wait();
                }));
            });
        }
        eventually_waiting(&pool, 3);
        pool.tune(3);
        // Two have room now, and run beside the first task, which has not ended.
        arrived.wait_for(2);
        eventually_waiting(&pool, 1);
        assert_eq!(pool.running(), 3);
        pool.tune(4);
        arrived.wait_for(3);
        gate.open();
    });
    assert_eq!(pool.waiting(), 0);
    occupied.end();
    pool.wait_idle();
}

#[test]
fn p09_tune_up_starts_queued_tasks_at_once() {
    let pool = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let arrived = Arrivals::new();
    let gate = Gate::new().opened_on_drop();
    for _ in 0..5 {
        let (arrived, gate) = (arrived.clone(), (*gate).clone());
        expect_accepted(pool.submit(move || {
            arrived.arrive();
            gate.wait();
        }));
    }
    assert_eq!((pool.queued(), arrived.count()), (5, 0));
    pool.tune(4);
    arrived.wait_for(3);
    assert_eq!((pool.running(), pool.queued()), (4, 2));
    gate.open();
    occupied.end();
    pool.wait_idle();
    assert_eq!(arrived.count(), 5);
}

#[test]
fn p09_tune_down_retires_idle_excess_now() {
    let pool = Pool::builder().capacity(5).keep_workers().build().unwrap();
    drop(occupy(&pool, 5));
    pool.wait_idle();
    assert_eq!(pool.workers(), 5);
    pool.tune(2);
    // They never expire: only the retirement can end them.
    eventually_eq("workers", 2, || pool.workers());
    pool.tune(0);
    eventually_eq("workers", 0, || pool.workers());
    pool.tune(1);
    drop(occupy(&pool, 1));
    pool.wait_idle();
    assert_eq!(pool.workers(), 1);
}

#[test]
fn p09_tune_down_retires_busy_excess_after_its_task() {
    let pool = Pool::builder().capacity(4).keep_workers().build().unwrap();
    let running = Running::new();
    let held: Vec<_> = (0..4).map(|_| hold(&pool, &running)).collect();
    pool.tune(1);
    assert_eq!(
        (pool.workers(), pool.running()),
        (4, 4),
        "no task is cut short"
    );
    held[2].open();
    eventually_eq("workers", 3, || pool.workers());
    held[0].open();
    eventually_eq("workers", 2, || pool.workers());
    held[3].open();
    eventually_eq("workers", 1, || pool.workers());
    assert_eq!(running.now(), 1);
    held[1].open();
    pool.wait_idle();
    assert_eq!(
        (pool.workers(), pool.idle()),
        (1, 1),
        "the last one is no excess"
    );
    assert_eq!(pool.free(), 1);
}

#[test]
fn p09_tune_to_zero_lets_running_tasks_finish_and_starts_nothing() {
    let pool = Pool::builder().capacity(2).backlog(3).build().unwrap();
    let ran = Arrivals::new();
    let occupied = occupy(&pool, 2);
    expect_accepted(pool.submit({
        let ran = ran.clone();
        move || ran.arrive()
    }));
    assert_eq!(pool.tune(0), 2);
    occupied.end();
    eventually_eq("running tasks", 0, || pool.running());
    eventually_eq("workers of a paused pool", 0, || pool.workers());
    assert_eq!((pool.queued(), ran.count()), (1, 0));
    assert_eq!(pool.stats().completed, 2);

    // The backlog still takes what it has room for: two more.
    for _ in 0..2 {
        let ran = ran.clone();
        expect_accepted(pool.try_submit(move || ran.arrive()));
    }
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    assert!(
        !pool.wait_idle_timeout(Duration::from_millis(20)),
        "three tasks are queued"
    );
    assert_eq!((pool.queued(), ran.count(), pool.workers()), (3, 0, 0));

    assert_eq!(pool.tune(1), 0);
    pool.wait_idle();
    assert_eq!((pool.queued(), ran.count()), (0, 3));
}

#[test]
fn p09_submitters_wait_while_the_pool_is_paused_and_get_in_when_it_resumes() {
    let pool = Pool::with_capacity(2);
    pool.tune(0);
    let ran = Arrivals::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let ran = ran.clone();
                expect_accepted(pool.submit(move || ran.arrive()));
            });
        }
        eventually_waiting(&pool, 4);
        assert_eq!((ran.count(), pool.workers()), (0, 0));
        pool.tune(2);
    });
    pool.wait_idle();
    assert_eq!((ran.count(), pool.waiting()), (4, 0));
}

/// A task may pause its own pool: what it submits is kept and runs after the resume.
#[test]
fn p09_a_task_may_pause_its_own_pool() {
    let pool = Pool::with_capacity(1);
    let (sender, receiver) = channel();
    let ran = Arrivals::new();
    expect_accepted(pool.submit({
        let (handle, ran) = (pool.handle(), ran.clone());
        move || {
            handle.tune(0);
            expect_accepted(handle.submit(move || ran.arrive()));
            let _ = sender.send(());
        }
    }));
    receive("the task ended", &receiver);
    eventually_eq("running tasks", 0, || pool.running());
    eventually_eq("workers of a paused pool", 0, || pool.workers());
    assert_eq!((ran.count(), pool.queued()), (0, 1));
    pool.tune(1);
    pool.wait_idle();
    assert_eq!(ran.count(), 1);
}

/// Each tune returns what the one before it set: were two to act at once, a value would be returned
/// twice and another never.
#[test]
fn p09_any_number_of_threads_may_tune_at_once() {
    let pool = Pool::with_capacity(1_000_000);
    let barrier = Barrier::new(4);
    let mut returned: Vec<usize> = thread::scope(|scope| {
        let tuners: Vec<_> = (0..4)
            .map(|tuner| {
                let (pool, barrier) = (&pool, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    (0..500)
                        .map(|turn| pool.tune(tuner * 500 + turn))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        tuners
            .into_iter()
            .flat_map(|tuner| tuner.join().unwrap())
            .collect()
    });
    returned.push(pool.capacity());
    returned.sort_unstable();
    let mut set: Vec<usize> = (0..2000).collect();
    set.push(1_000_000);
    assert_eq!(returned, set);
}

#[test]
fn p09_tasks_are_not_lost_while_threads_tune_through_zero() {
    watchdog("tasks and tunes end", || {
        let pool = Pool::builder().capacity(3).backlog(2).build().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let done = Gate::new();
        thread::scope(|scope| {
            for offset in 0..2 {
                let (pool, done) = (&pool, &done);
                scope.spawn(move || {
                    let mut turn = offset;
                    while !done.is_open() {
                        pool.tune(turn % 4);
                        turn += 1;
                        thread::yield_now();
                    }
                });
            }
            let submitters: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..400 {
                            let ran = Arc::clone(&ran);
                            expect_accepted(pool.submit(move || {
                                ran.fetch_add(1, Ordering::Relaxed);
                            }));
                        }
                    })
                })
                .collect();
            for submitter in submitters {
                submitter.join().unwrap();
            }
            done.open();
        });
        pool.tune(3);
        pool.wait_idle();
        assert_eq!(ran.load(Ordering::Relaxed), 1200);
        // Backlog included, the room is exact again.
        let occupied = occupy(&pool, 3);
        expect_accepted(pool.try_submit(|| {}));
        expect_accepted(pool.try_submit(|| {}));
        assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
        drop(occupied);
        pool.wait_idle();
        assert_at_rest(&pool);
    });
}

#[test]
fn p09_the_effective_minimum_is_the_smaller_of_minimum_and_capacity() {
    let pool = Pool::builder()
        .capacity(6)
        .min_workers(3)
        .idle_timeout(Duration::from_millis(20))
        .build()
        .unwrap();
    pool.tune(2);
    eventually_eq("workers at capacity 2", 2, || pool.workers());
    pool.tune(6);
    drop(occupy(&pool, 6));
    pool.wait_idle();
    eventually("workers expire", || pool.workers() <= 3);
    // Several idle timeouts later the minimum still stands.
    assert!(
        !support::becomes_true(Duration::from_millis(120), || pool.workers() < 3),
        "fewer workers than the minimum: {}",
        pool.workers()
    );
}

/// Tuned down with waiters and a backlog, the room shrinks: nobody gets in who would have before.
#[test]
fn p09_tune_down_takes_room_away() {
    let pool = Pool::builder().capacity(3).backlog(2).build().unwrap();
    let occupied = occupy(&pool, 3);
    pool.tune(1);
    // Room is 1 + 2 - 3 = 0.
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    pool.tune(2);
    expect_accepted(pool.try_submit(|| {}));
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    assert_eq!(
        pool.free(),
        0,
        "more run than may: nothing is free, and nothing underflows"
    );
    occupied.end();
    pool.wait_idle();
    assert_eq!(pool.free(), 2);
}
