//! What a pool says about itself: P18 (the books balance, `wait_idle`), P19 (order at capacity 1),
//! and each gauge and counter in a state that is known.

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anthill::{Overflow, Pool, PoolHandle, Stats, SubmitErrorKind};
use rand::Rng;
use support::{
    Arrivals, Gate, Log, assert_at_rest, eventually, eventually_eq, eventually_waiting,
    expect_accepted, occupy, receive, refusal, seeded_rng, watchdog,
};

// ---- P18: the books balance ----

#[test]
fn p18_a_new_pool_is_at_rest() {
    let pool = Pool::with_capacity(3);
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!(
        (stats.submitted, stats.rejected, stats.wakes, stats.steals),
        (0, 0, 0, 0)
    );
    assert_eq!(
        (pool.capacity(), pool.free(), pool.workers(), pool.idle()),
        (3, 3, 0, 0)
    );
}

/// Each outcome is counted on its own, by a number of tasks that no other outcome has.
#[test]
fn p18_each_task_is_counted_once_by_its_outcome() {
    let pool = Pool::builder()
        .capacity(2)
        .backlog(8)
        .panic_handler(|_| {})
        .build()
        .unwrap();
    for number in 0..20 {
        expect_accepted(pool.submit(move || assert!(number >= 7, "on purpose")));
        pool.wait_idle();
    }
    let occupied = occupy(&pool, 2);
    for _ in 0..5 {
        expect_accepted(pool.submit(|| {}));
    }
    assert_eq!(pool.release_now(), 5);
    for _ in 0..3 {
        assert_eq!(refusal(pool.submit(|| {})), SubmitErrorKind::Closed);
    }
    drop(occupied);
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!(
        (
            stats.submitted,
            stats.completed,
            stats.panicked,
            stats.discarded,
            stats.cancelled
        ),
        (27, 15, 7, 5, 0),
        "{stats:?}"
    );
    assert_eq!(
        stats.rejected, 3,
        "what was refused was never submitted: {stats:?}"
    );
    assert_at_rest(&pool);
}

#[test]
fn p18_every_kind_of_refusal_is_counted() {
    let pool = Pool::builder().capacity(1).max_waiting(0).build().unwrap();
    let occupied = occupy(&pool, 1);
    let mut refused = 0;
    let mut expect = |kind, result: Result<(), anthill::SubmitError<fn()>>| {
        assert_eq!(refusal(result), kind);
        refused += 1;
        assert_eq!(pool.stats().rejected, refused, "after {kind:?}");
    };
    expect(SubmitErrorKind::Full, pool.try_submit(|| {}));
    expect(SubmitErrorKind::TooManyWaiting, pool.submit(|| {}));
    pool.release();
    expect(SubmitErrorKind::Closed, pool.submit(|| {}));
    expect(SubmitErrorKind::Closed, pool.try_submit(|| {}));
    drop(occupied);

    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::Reject)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    assert_eq!(refusal(pool.submit(|| {})), SubmitErrorKind::Full);
    let kind = refusal(pool.submit_timeout(|| {}, Duration::from_millis(1)));
    assert_eq!(kind, SubmitErrorKind::TimedOut);
    assert_eq!(pool.stats().rejected, 2);
    // A waiter that is sent away on closing was refused as well.
    thread::scope(|scope| {
        let waiter = scope.spawn(|| refusal(pool.submit_timeout(|| {}, Duration::MAX)));
        eventually_waiting(&pool, 1);
        pool.release();
        assert_eq!(waiter.join().unwrap(), SubmitErrorKind::Closed);
    });
    assert_eq!(pool.stats().rejected, 3);
    drop(occupied);
}

#[test]
fn p18_the_books_balance_after_any_mixture() {
    let mut rng = seeded_rng("p18_the_books_balance_after_any_mixture");
    for overflow in [
        Overflow::Block,
        Overflow::Reject,
        Overflow::CallerRuns,
        Overflow::DropOldest,
    ] {
        let seeds: [u64; 3] = rng.random();
        watchdog("the mixture ends", move || {
            let pool = Pool::builder()
                .capacity(3)
                .backlog(2)
                .max_waiting(1)
                .overflow(overflow)
                .idle_timeout(Duration::from_micros(200))
                .panic_handler(|_| {})
                .build()
                .unwrap();
            let (accepted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for seed in seeds {
                    let (pool, accepted, refused) = (&pool, &accepted, &refused);
                    scope.spawn(move || {
                        use rand::SeedableRng;
                        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
                        for _ in 0..400 {
                            let panics = rng.random_bool(0.1);
                            let task = move || {
                                if panics {
                                    std::panic::resume_unwind(Box::new("on purpose"));
                                }
                            };
                            let result = match rng.random_range(0..4) {
                                0 => pool.try_submit(task),
                                1 => pool.submit_timeout(task, Duration::from_micros(50)),
                                _ => pool.submit(task),
                            };
                            let count = if result.is_ok() { accepted } else { refused };
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            pool.wait_idle();
            assert_at_rest(&pool);
            let stats = pool.stats();
            assert_eq!(
                stats.submitted,
                accepted.into_inner() as u64,
                "{overflow:?} {stats:?}"
            );
            assert_eq!(
                stats.rejected,
                refused.into_inner() as u64,
                "{overflow:?} {stats:?}"
            );
        });
    }
}

#[test]
fn p18_gauges_and_counters_in_a_known_state() {
    let pool = Pool::builder()
        .capacity(4)
        .backlog(2)
        .keep_workers()
        .build()
        .unwrap();
    drop(occupy(&pool, 4));
    pool.wait_idle();
    eventually_eq("idle workers", 4, || pool.idle());

    let three = occupy(&pool, 3);
    assert_eq!(
        (pool.workers(), pool.idle(), pool.running(), pool.free()),
        (4, 1, 3, 1)
    );
    let fourth = occupy(&pool, 1);
    expect_accepted(pool.submit(|| {}));
    expect_accepted(pool.submit(|| {}));
    thread::scope(|scope| {
        scope.spawn(|| expect_accepted(pool.submit(|| {})));
        eventually_waiting(&pool, 1);
        assert_eq!(
            (pool.workers(), pool.idle(), pool.running(), pool.free()),
            (4, 0, 4, 0)
        );
        assert_eq!((pool.queued(), pool.waiting()), (2, 1));
        let stats = pool.stats();
        assert_eq!((stats.running, stats.queued), (4, 2), "{stats:?}");
        assert_eq!(
            stats.submitted, 10,
            "one that waits has not been accepted: {stats:?}"
        );
        three.end();
    });
    drop(fourth);
    pool.wait_idle();
    assert_eq!((pool.workers(), pool.running(), pool.free()), (4, 0, 4));
    let stats = pool.stats();
    assert_eq!(
        (
            stats.submitted,
            stats.completed,
            stats.workers_started,
            stats.workers_peak
        ),
        (11, 11, 4, 4),
        "{stats:?}"
    );
    assert!(stats.wakes >= 1, "idle workers were woken: {stats:?}");
    assert_at_rest(&pool);
}

#[test]
fn p18_the_peak_of_workers_stays_when_they_end() {
    let pool = Pool::builder().capacity(5).keep_workers().build().unwrap();
    drop(occupy(&pool, 5));
    pool.wait_idle();
    pool.tune(1);
    eventually_eq("workers", 1, || pool.workers());
    let stats = pool.stats();
    assert_eq!(
        (stats.workers_peak, stats.workers_started),
        (5, 5),
        "{stats:?}"
    );
    assert_eq!(
        stats.workers_expired, 0,
        "they were retired, not expired: {stats:?}"
    );
}

#[test]
fn p18_stats_are_a_snapshot() {
    fn is_copy<T: Copy + std::fmt::Debug + Send + Sync>(_: &T) {}
    let pool = Pool::with_capacity(1);
    let before: Stats = pool.stats();
    is_copy(&before);
    expect_accepted(pool.submit(|| {}));
    pool.wait_idle();
    assert_eq!((before.submitted, pool.stats().submitted), (0, 1));
}

/// A worker that leaves takes its local queue with it, and what was counted there stays counted: a reader sees no
/// counter go back, and no task over before it was accepted.
#[test]
fn p18_no_counter_goes_back_as_workers_come_and_go() {
    const ROUNDS: u64 = 150;
    const WORKERS: u64 = 4;
    let pool = Pool::builder()
        .capacity(4)
        .idle_timeout(Duration::ZERO)
        .build()
        .unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut before = pool.stats();
            while !over.load(Ordering::SeqCst) {
                let now = pool.stats();
                assert!(now.submitted >= before.submitted, "{before:?} {now:?}");
                assert!(now.completed >= before.completed, "{before:?} {now:?}");
                assert!(now.completed <= now.submitted, "{now:?}");
                before = now;
            }
        });
        for _ in 0..ROUNDS {
            let all = Arrivals::new();
            for _ in 0..WORKERS {
                let (inner, all) = (pool.handle(), all.clone());
                expect_accepted(pool.submit(move || {
                    all.arrive();
                    all.wait_for(4);
                    // It goes to this worker's local queue, and is counted there.
                    expect_accepted(inner.submit(|| {}));
                }));
            }
            pool.wait_idle();
            eventually("all workers expire", || pool.workers() == 0);
        }
        over.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
    eventually("all threads end", || pool.stats().leaving == 0);
    let stats = pool.stats();
    let all = 2 * ROUNDS * WORKERS;
    assert_eq!((stats.submitted, stats.completed), (all, all));
    assert!(stats.workers_started >= ROUNDS * WORKERS);
}

// ---- P18: wait_idle ----

#[test]
fn p18_wait_idle_returns_at_once_when_the_pool_is_idle() {
    let pool = Pool::with_capacity(2);
    pool.wait_idle();
    for limit in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        assert!(pool.wait_idle_timeout(limit));
    }
    expect_accepted(pool.submit(|| {}));
    pool.wait_idle();
    assert!(pool.wait_idle_timeout(Duration::ZERO));
}

#[test]
fn p18_wait_idle_timeout_says_that_the_pool_is_busy_when_the_time_is_up() {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let occupied = occupy(&pool, 1);
    for limit in [Duration::ZERO, Duration::from_millis(20)] {
        let start = Instant::now();
        assert!(!pool.wait_idle_timeout(limit));
        assert!(start.elapsed() >= limit);
    }
    drop(occupied);
    // Queued tasks count as well, when nothing runs.
    pool.wait_idle();
    pool.tune(0);
    expect_accepted(pool.submit(|| {}));
    assert!(!pool.wait_idle_timeout(Duration::from_millis(5)));
    pool.tune(1);
    assert!(pool.wait_idle_timeout(Duration::MAX));
}

#[test]
fn p18_wait_idle_waits_for_all_that_tasks_submit() {
    fn spread(pool: &PoolHandle, depth: u32, ran: &Arrivals) {
        ran.arrive();
        if depth == 0 {
            return;
        }
        for _ in 0..3 {
            let (inner, ran) = (pool.clone(), ran.clone());
            expect_accepted(pool.submit(move || spread(&inner, depth - 1, &ran)));
        }
    }
    for capacity in [1, 3] {
        let pool = Pool::with_capacity(capacity);
        for _ in 0..50 {
            let ran = Arrivals::new();
            let (handle, inner) = (pool.handle(), ran.clone());
            expect_accepted(pool.submit(move || spread(&handle, 4, &inner)));
            pool.wait_idle();
            assert_eq!(ran.count(), 1 + 3 + 9 + 27 + 81);
        }
    }
}

#[test]
fn p18_many_threads_may_wait_at_once() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let handle = pool.handle();
    watchdog("all of them return", move || {
        thread::scope(|scope| {
            for number in 0..10 {
                let handle = &handle;
                scope.spawn(move || {
                    if number % 2 == 0 {
                        handle.wait_idle();
                    } else {
                        assert!(handle.wait_idle_timeout(Duration::MAX));
                    }
                });
            }
            occupied.end();
        });
    });
}

/// The pool is idle for a moment only, and long busy again when the waiter gets to look.
#[cfg(target_os = "linux")]
#[test]
fn p18_wait_idle_returns_though_the_pool_was_idle_for_a_moment_only() {
    use support::linux::{eventually_asleep, thread_id};

    for timeout in [None, Some(Duration::MAX)] {
        for _ in 0..20 {
            let pool = Pool::with_capacity(1);
            let first = occupy(&pool, 1);
            let (sender, receiver) = channel();
            let waiter = thread::spawn({
                let handle = pool.handle();
                move || {
                    let _ = sender.send(thread_id());
                    match timeout {
                        None => handle.wait_idle(),
                        Some(timeout) => assert!(handle.wait_idle_timeout(timeout)),
                    }
                }
            });
            eventually_asleep(receive("the waiter begins", &receiver));
            first.end();
            // The second task comes as soon as there is room, that is, when the first is over. It
            // does not wait for room, since a pool with a waiting submitter is not idle.
            let (second, began) = (Gate::new().opened_on_drop(), Arrivals::new());
            eventually("there is room again", || {
                let (gate, began) = ((*second).clone(), began.clone());
                pool.try_submit(move || {
                    began.arrive();
                    gate.wait();
                })
                .is_ok()
            });
            began.wait_for(1);
            watchdog("wait_idle returns", move || waiter.join()).unwrap();
            assert!(
                !second.is_open(),
                "it returned although the pool was busy again"
            );
            drop(second);
        }
    }
}

#[test]
fn p18_wait_idle_returns_while_others_keep_submitting() {
    let pool = Pool::with_capacity(2);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut submitted = 0;
            while !stop.load(Ordering::Relaxed) {
                expect_accepted(pool.submit(|| {}));
                submitted += 1;
                // The pool is idle between one task and the next, and only there.
                eventually("the task is over", || pool.stats().completed >= submitted);
            }
        });
        for _ in 0..100 {
            let handle = pool.handle();
            watchdog("wait_idle returns", move || handle.wait_idle());
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A busy pool is not idle in between: two tasks overlap all the time, so a wait must not return.
#[test]
fn p18_wait_idle_does_not_return_while_one_task_follows_before_the_other_ends() {
    let pool = Pool::with_capacity(2);
    let mut current = occupy(&pool, 1);
    for _ in 0..200 {
        let next = occupy(&pool, 1);
        drop(current);
        assert!(!pool.wait_idle_timeout(Duration::ZERO));
        eventually_eq("running tasks", 1, || pool.running());
        current = next;
    }
    let handle = pool.handle();
    let waiter = thread::spawn(move || handle.wait_idle_timeout(Duration::from_millis(100)));
    for _ in 0..200 {
        let next = occupy(&pool, 1);
        drop(current);
        eventually_eq("running tasks", 1, || pool.running());
        current = next;
    }
    assert!(!waiter.join().unwrap(), "the pool was never idle");
    drop(current);
}

// ---- P19: order ----

/// All the ways in which a pool of capacity 1 can take in tasks from outside.
fn pools_of_one() -> Vec<Pool> {
    let one = || Pool::builder().capacity(1);
    vec![
        Pool::with_capacity(1),
        one().backlog(3).build().unwrap(),
        one().unbounded_backlog().build().unwrap(),
        one()
            .unbounded_backlog()
            .idle_timeout(Duration::ZERO)
            .build()
            .unwrap(),
    ]
}

#[test]
fn p19_at_capacity_one_tasks_start_in_the_order_of_their_submits() {
    for pool in pools_of_one() {
        let log = Log::new();
        for number in 0..2000 {
            let log = log.clone();
            expect_accepted(pool.submit(move || log.push(number)));
        }
        pool.wait_idle();
        assert_eq!(log.entries(), (0..2000).collect::<Vec<_>>(), "{pool:?}");
    }
}

/// Accepted is when `submit` returned: here one submitter after the other, from many threads.
#[test]
fn p19_at_capacity_one_tasks_of_many_submitters_start_in_the_order_of_acceptance() {
    for pool in pools_of_one() {
        let log = Log::new();
        let next = Mutex::new(0);
        thread::scope(|scope| {
            for submitter in 0..4 {
                let (pool, log, next) = (&pool, &log, &next);
                scope.spawn(move || {
                    for turn in 0..250 {
                        let mut next = next.lock().unwrap();
                        let (log, number) = (log.clone(), *next);
                        let task = move || log.push(number);
                        if (submitter + turn) % 3 == 0 {
                            if pool.try_submit(task).is_err() {
                                continue;
                            }
                        } else {
                            expect_accepted(pool.submit(task));
                        }
                        *next += 1;
                    }
                });
            }
        });
        pool.wait_idle();
        let accepted = next.into_inner().unwrap();
        assert_eq!(log.entries(), (0..accepted).collect::<Vec<_>>(), "{pool:?}");
    }
}

#[test]
fn p19_the_order_survives_panics_pauses_and_a_queue_that_ran_dry() {
    let mut rng = seeded_rng("p19_the_order_survives_panics_pauses_and_a_queue_that_ran_dry");
    let pool = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .panic_handler(|_| {})
        .build()
        .unwrap();
    let log = Log::new();
    for number in 0..1000 {
        let log = log.clone();
        let panics = rng.random_bool(0.05);
        expect_accepted(pool.submit(move || {
            log.push(number);
            if panics {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        }));
        match rng.random_range(0..20) {
            0 => drop(pool.tune(0)),
            1..=3 => drop(pool.tune(1)),
            4 if pool.capacity() > 0 => pool.wait_idle(),
            _ => {}
        }
    }
    pool.tune(1);
    pool.wait_idle();
    assert_eq!(log.entries(), (0..1000).collect::<Vec<_>>());
}

/// Tasks that tasks submit come in between as they like; those from outside keep their order.
#[test]
fn p19_the_order_of_outside_tasks_survives_what_tasks_submit() {
    for pool in pools_of_one() {
        let log = Log::new();
        for number in 0..300 {
            let (handle, log) = (pool.handle(), log.clone());
            expect_accepted(pool.submit(move || {
                log.push(number);
                for _ in 0..number % 4 {
                    expect_accepted(handle.submit(|| {}));
                }
            }));
        }
        pool.wait_idle();
        assert_eq!(log.entries(), (0..300).collect::<Vec<_>>(), "{pool:?}");
    }
}

/// Whatever more workers have taken ahead when the capacity falls to one must not spoil the order
/// of what was accepted.
#[test]
fn p19_the_order_holds_after_tuning_down_to_one() {
    for _ in 0..20 {
        let pool = Pool::builder()
            .capacity(4)
            .unbounded_backlog()
            .build()
            .unwrap();
        let occupied = occupy(&pool, 4);
        let log = Log::new();
        for number in 0..200 {
            let log = log.clone();
            expect_accepted(pool.submit(move || log.push(number)));
        }
        pool.tune(1);
        occupied.end();
        pool.wait_idle();
        assert_eq!(log.entries(), (0..200).collect::<Vec<_>>());
    }
}

/// Nor what several workers hold when it does.
#[test]
fn p19_the_order_holds_whatever_was_taken_ahead_at_a_higher_capacity() {
    for _ in 0..20 {
        let pool = Pool::builder()
            .capacity(4)
            .unbounded_backlog()
            .build()
            .unwrap();
        let (gate, held) = (Gate::new().opened_on_drop(), Arrivals::new());
        let log = Log::new();
        let occupied = occupy(&pool, 4);
        for number in 0..400 {
            let (gate, held, log) = ((*gate).clone(), held.clone(), log.clone());
            expect_accepted(pool.submit(move || {
                log.push(number);
                if number % 8 == 7 {
                    held.arrive();
                    gate.wait();
                }
            }));
        }
        occupied.end();
        held.wait_for(4);
        let before = log.entries();
        pool.tune(1);
        gate.open();
        pool.wait_idle();
        let rest: Vec<_> = (0..400).filter(|number| !before.contains(number)).collect();
        assert_eq!(log.entries()[before.len()..], rest);
    }
}

/// What a worker had taken ahead when the pool was paused goes back in front of the rest.
#[test]
fn p19_a_pause_keeps_the_order_of_what_a_worker_had_taken() {
    for _ in 0..20 {
        let pool = Pool::builder()
            .capacity(2)
            .unbounded_backlog()
            .build()
            .unwrap();
        let (first, second) = (occupy(&pool, 1), occupy(&pool, 1));
        let (gate, began) = (Gate::new().opened_on_drop(), Arrivals::new());
        expect_accepted(pool.submit({
            let (gate, began) = ((*gate).clone(), began.clone());
            move || {
                began.arrive();
                gate.wait();
            }
        }));
        let log = Log::new();
        for number in 0..200 {
            let log = log.clone();
            expect_accepted(pool.submit(move || log.push(number)));
        }
        // One worker goes on to the task with the gate, and to whatever it takes along with it.
        first.end();
        began.wait_for(1);
        pool.tune(0);
        gate.open();
        second.end();
        eventually_eq("workers of a paused pool", 0, || pool.workers());
        assert_eq!((pool.queued(), log.len()), (200, 0));
        pool.tune(1);
        pool.wait_idle();
        assert_eq!(log.entries(), (0..200).collect::<Vec<_>>());
    }
}

#[test]
fn p19_release_keeps_the_order() {
    let pool = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let log = Log::new();
    for number in 0..200 {
        let log = log.clone();
        expect_accepted(pool.submit(move || log.push(number)));
    }
    pool.release();
    pool.reboot();
    for number in 200..400 {
        let log = log.clone();
        expect_accepted(pool.submit(move || log.push(number)));
    }
    drop(occupied);
    drop(pool);
    assert_eq!(log.entries(), (0..400).collect::<Vec<_>>());
}
