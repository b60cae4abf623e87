//! Submitting without room: P4 (fair waiting), P5 (honest refusal), P6 (`max_waiting`), P7
//! (`submit_timeout`) and what each `Overflow` does instead of waiting.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{TryRecvError, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anthill::{Overflow, Pool, PoolHandle, SubmitErrorKind, TaskPanic};
use rand::Rng;
use support::{
    Arrivals, DropCounter, Gate, Log, assert_at_rest, eventually, eventually_eq,
    eventually_waiting, expect_accepted, occupy, receive, refusal, seeded_rng, watchdog,
};

/// A submitter that waits for room when this returns; it was the `position`th to begin. Its task
/// writes `entry` to `log`.
fn begin_to_wait<'scope, T: Clone + Send + 'static>(
    scope: &'scope thread::Scope<'scope, '_>,
    pool: &'scope PoolHandle,
    position: usize,
    log: &Log<T>,
    entry: T,
) -> ScopedJoinHandle<'scope, ()> {
    let log = log.clone();
    let submitter = scope.spawn(move || {
        expect_accepted(pool.submit(move || log.push(entry)));
    });
    eventually_waiting(pool, position);
    submitter
}

/// There is room for exactly `room` tasks: they fit, and the next does not.
#[track_caller]
fn assert_room(pool: &PoolHandle, room: usize) {
    let gate = Gate::new();
    for number in 0..room {
        let gate = gate.clone();
        let result = pool.try_submit(move || gate.wait());
        assert!(result.is_ok(), "task {number} of {room} found no room");
    }
    let beyond = pool.try_submit(|| {});
    gate.open();
    assert_eq!(refusal(beyond), SubmitErrorKind::Full);
    pool.wait_idle();
}

// ---- P4: blocking submit is fair ----

#[test]
fn p04_submit_waits_while_there_is_no_room() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let (sender, receiver) = channel();
    let submitter = thread::spawn({
        let pool = pool.handle();
        move || {
            expect_accepted(pool.submit(|| {}));
            let _ = sender.send(());
        }
    });
    eventually_waiting(&pool, 1);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    occupied.end();
    receive("the submitter got in", &receiver);
    submitter.join().unwrap();
    pool.wait_idle();
    assert_eq!(pool.stats().completed, 2);
}

#[test]
fn p04_submit_waits_for_the_backlog_to_have_room_too() {
    let pool = Pool::builder().capacity(1).backlog(2).build().unwrap();
    let occupied = occupy(&pool, 1);
    expect_accepted(pool.submit(|| {}));
    expect_accepted(pool.submit(|| {}));
    let log = Log::new();
    thread::scope(|scope| {
        begin_to_wait(scope, &pool, 1, &log, ());
        assert_eq!((pool.queued(), pool.waiting(), log.len()), (2, 1, 0));
        occupied.end();
    });
    pool.wait_idle();
    assert_eq!(log.len(), 1);
}

#[test]
fn p04_waiters_are_served_first_come_first_served() {
    for backlog in [0, 3] {
        let pool = Pool::builder()
            .capacity(1)
            .backlog(backlog)
            .build()
            .unwrap();
        let log = Log::new();
        let occupied = occupy(&pool, 1);
        for number in 0..backlog {
            let log = log.clone();
            expect_accepted(pool.submit(move || log.push(number)));
        }
        thread::scope(|scope| {
            for position in 1..=20 {
                begin_to_wait(scope, &pool, position, &log, backlog + position - 1);
            }
            occupied.end();
        });
        pool.wait_idle();
        assert_eq!(log.entries(), (0..backlog + 20).collect::<Vec<_>>());
    }
}

/// Room that comes from a resize is given out in the same order as room that tasks leave.
#[test]
fn p04_a_resumed_pool_serves_its_waiters_in_their_order() {
    let pool = Pool::with_capacity(0);
    let log = Log::new();
    thread::scope(|scope| {
        for position in 1..=12 {
            begin_to_wait(scope, &pool, position, &log, position);
        }
        pool.tune(1);
    });
    pool.wait_idle();
    assert_eq!(log.entries(), (1..=12).collect::<Vec<_>>());
}

/// Nor by what a task submits beyond the bound once the waiter has been let in.
#[test]
fn p04_no_waiter_is_overtaken_by_what_tasks_submit_after_it_was_let_in() {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    for _ in 0..200 {
        let log = Log::new();
        let occupied = occupy(&pool, 1);
        expect_accepted(pool.submit({
            let (handle, log) = (pool.handle(), log.clone());
            move || {
                // The waiter has the place that the first task left.
                assert_eq!((handle.waiting(), handle.queued()), (0, 1));
                for _ in 0..3 {
                    let log = log.clone();
                    expect_accepted(handle.submit(move || log.push("submitted later")));
                }
            }
        }));
        thread::scope(|scope| {
            begin_to_wait(scope, &pool, 1, &log, "waited");
            occupied.end();
        });
        pool.wait_idle();
        assert_eq!(log.entries()[0], "waited");
        assert_eq!((pool.stats().panicked, log.len()), (0, 4));
    }
}

/// However hard others try in the meantime, with every form of submit.
#[test]
fn p04_no_waiter_is_overtaken_by_what_is_submitted_later() {
    for _ in 0..30 {
        let pool = Pool::with_capacity(1);
        let log = Log::new();
        let occupied = occupy(&pool, 1);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for position in 1..=4 {
                begin_to_wait(scope, &pool, position, &log, "waited");
            }
            let later = Arrivals::new();
            for form in 0..3 {
                let (pool, log, stop, later) = (&pool, &log, &stop, later.clone());
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let log = log.clone();
                        let task = move || log.push("came later");
                        match form {
                            0 => drop(pool.try_submit(task)),
                            1 => drop(pool.submit_timeout(task, Duration::from_micros(300))),
                            _ => drop(pool.submit(task)),
                        }
                        later.arrive();
                    }
                });
            }
            // They are at it, and have been refused, before the room appears.
            later.wait_for(3);
            occupied.end();
            eventually("the waiters' tasks ran", || log.len() >= 8);
            stop.store(true, Ordering::Relaxed);
        });
        pool.wait_idle();
        assert_eq!(log.entries()[..4], ["waited"; 4], "{:?}", log.entries());
    }
}

/// What a task submits never waits, but it starts behind those who waited before it.
#[test]
fn p04_no_waiter_is_overtaken_by_what_a_task_submits_later() {
    let pool = Pool::with_capacity(1);
    let log = Log::new();
    let gate = Gate::new().opened_on_drop();
    let began = Arrivals::new();
    expect_accepted(pool.submit({
        let (handle, log, gate, began) =
            (pool.handle(), log.clone(), (*gate).clone(), began.clone());
        move || {
            began.arrive();
            gate.wait();
            for _ in 0..3 {
                let log = log.clone();
                expect_accepted(handle.submit(move || log.push("child")));
            }
        }
    }));
    began.wait_for(1);
    thread::scope(|scope| {
        for position in 1..=3 {
            begin_to_wait(scope, &pool, position, &log, "waited");
        }
        gate.open();
    });
    pool.wait_idle();
    let expected = ["waited", "waited", "waited", "child", "child", "child"];
    assert_eq!(log.entries(), expected);
}

/// Room that appears while somebody waits belongs to the waiter, not to who asks at that moment.
#[test]
fn p04_while_somebody_waits_try_submit_finds_no_room() {
    let pool = Pool::with_capacity(1);
    let log = Log::new();
    let occupied = occupy(&pool, 1);
    thread::scope(|scope| {
        begin_to_wait(scope, &pool, 1, &log, ());
        assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
        occupied.end();
    });
    pool.wait_idle();
    assert_eq!(log.len(), 1);
}

#[test]
fn p04_no_waiter_is_lost() {
    for capacity in [1, 2, 3] {
        watchdog("all submitters get in", move || {
            let pool = Pool::with_capacity(capacity);
            let ran = Arc::new(AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            let ran = Arc::clone(&ran);
                            expect_accepted(pool.submit(move || {
                                ran.fetch_add(1, Ordering::Relaxed);
                            }));
                        }
                    });
                }
            });
            pool.wait_idle();
            assert_eq!(ran.load(Ordering::Relaxed), 4000);
            assert_at_rest(&pool);
            assert_room(&pool, capacity);
        });
    }
}

/// Every way to close, and each waiter gets its own closure back, which still runs.
#[test]
fn p04_closing_wakes_all_waiters_with_closed_and_their_closures() {
    type Close = fn(&PoolHandle);
    let ways: [(&str, Close); 3] = [
        ("release", PoolHandle::release),
        ("release_now", |pool| {
            pool.release_now();
        }),
        ("release_timeout", |pool| {
            let _ = pool.release_timeout(Duration::ZERO);
        }),
    ];
    for (way, close) in ways {
        let pool = Pool::with_capacity(1);
        let occupied = occupy(&pool, 1);
        let log = Log::new();
        thread::scope(|scope| {
            for number in 0..5 {
                let (log, pool) = (log.clone(), &pool);
                scope.spawn(move || {
                    let inner = log.clone();
                    let task = move || inner.push(number);
                    let result = if number % 2 == 0 {
                        pool.submit(task)
                    } else {
                        pool.submit_timeout(task, Duration::MAX)
                    };
                    let error = result.expect_err(way);
                    assert_eq!(error.kind(), SubmitErrorKind::Closed, "{way}");
                    error.into_inner()();
                });
            }
            eventually_waiting(&pool, 5);
            close(&pool);
            // They come back although the task that held the room has not ended.
            eventually_eq("closures given back", 5, || log.len());
        });
        assert_eq!((pool.waiting(), pool.running()), (0, 1), "{way}");
        let mut numbers = log.entries();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4], "{way}");
        drop(occupied);
    }
}

#[test]
fn p04_dropping_the_pool_wakes_all_waiters_with_closed() {
    let pool = Pool::with_capacity(1);
    let handle = pool.handle();
    let occupied = occupy(&pool, 1);
    let kinds = Log::new();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| kinds.push(refusal(handle.submit(|| {}))));
        }
        eventually_waiting(&handle, 3);
        scope.spawn(move || drop(pool));
        eventually_eq("waiters sent away", 3, || kinds.len());
        occupied.end();
    });
    assert_eq!(kinds.entries(), [SubmitErrorKind::Closed; 3]);
}

/// One that gives up in the middle of the line takes nobody's turn with it.
#[test]
fn p04_a_waiter_that_gives_up_leaves_the_order_as_it_was() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let log = Log::new();
    thread::scope(|scope| {
        begin_to_wait(scope, &pool, 1, &log, 1);
        let gives_up =
            scope.spawn(|| refusal(pool.submit_timeout(|| {}, Duration::from_millis(150))));
        eventually_waiting(&pool, 2);
        begin_to_wait(scope, &pool, 3, &log, 2);
        begin_to_wait(scope, &pool, 4, &log, 3);
        assert_eq!(gives_up.join().unwrap(), SubmitErrorKind::TimedOut);
        eventually_waiting(&pool, 3);
        occupied.end();
    });
    pool.wait_idle();
    assert_eq!(log.entries(), [1, 2, 3]);
}

// ---- P5: nonblocking submit is honest ----

#[test]
fn p05_try_submit_fails_with_full_only_without_room() {
    for (capacity, backlog) in [(1, 0), (4, 0), (1, 3), (3, 2)] {
        let pool = Pool::builder()
            .capacity(capacity)
            .backlog(backlog)
            .build()
            .unwrap();
        for _ in 0..20 {
            assert_room(&pool, capacity + backlog);
        }
    }
}

/// A task that is over has given its room back by the time `wait_idle` returns.
#[test]
fn p05_try_submit_succeeds_at_once_when_room_is_free_again() {
    let pool = Pool::with_capacity(1);
    for _ in 0..2000 {
        expect_accepted(pool.try_submit(|| {}));
        pool.wait_idle();
    }
}

/// As many threads as there is room: none may be refused, whatever they do to each other. One more
/// than that: exactly one is.
#[test]
fn p05_try_submit_is_exact_among_competing_threads() {
    for round in 0..60 {
        let room = 6;
        let beyond = round % 3;
        let pool = Pool::builder().capacity(4).backlog(2).build().unwrap();
        let gate = Gate::new().opened_on_drop();
        let barrier = Barrier::new(room + beyond);
        let refused = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..room + beyond {
                scope.spawn(|| {
                    let gate = (*gate).clone();
                    barrier.wait();
                    if let Err(error) = pool.try_submit(move || gate.wait()) {
                        assert_eq!(error.kind(), SubmitErrorKind::Full);
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(refused.into_inner(), beyond);
        gate.open();
        pool.wait_idle();
    }
}

/// The start hook may take its time; who submits does not wait for it, and the room it stands for
/// is taken.
#[test]
fn p05_try_submit_does_not_wait_for_a_slow_start_hook() {
    let gate = Gate::new().opened_on_drop();
    let pool = Pool::builder()
        .capacity(2)
        .on_worker_start({
            let gate = (*gate).clone();
            move |_| gate.wait()
        })
        .build()
        .unwrap();
    let ran = Arrivals::new();
    let kind = watchdog("three try_submits", {
        let (handle, ran) = (pool.handle(), ran.clone());
        move || {
            for _ in 0..2 {
                let ran = ran.clone();
                expect_accepted(handle.try_submit(move || ran.arrive()));
            }
            refusal(handle.try_submit(|| {}))
        }
    });
    assert_eq!(kind, SubmitErrorKind::Full);
    assert_eq!(ran.count(), 0);
    gate.open();
    pool.wait_idle();
    assert_eq!(ran.count(), 2);
}

#[test]
fn p05_try_submit_gives_the_closure_back() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let dropped = Arrivals::new();
    let captured = DropCounter(dropped.clone());
    let error = pool.try_submit(move || drop(captured)).unwrap_err();
    assert_eq!(dropped.count(), 0, "nothing was dropped");
    let (kind, task) = error.into_parts();
    assert_eq!(kind, SubmitErrorKind::Full);
    task();
    assert_eq!(dropped.count(), 1);
    drop(occupied);
}

// ---- P6: max_waiting ----

#[test]
fn p06_beyond_max_waiting_the_next_one_is_refused_at_once() {
    let pool = Pool::builder().capacity(1).max_waiting(2).build().unwrap();
    let occupied = occupy(&pool, 1);
    let log = Log::new();
    thread::scope(|scope| {
        begin_to_wait(scope, &pool, 1, &log, 1);
        begin_to_wait(scope, &pool, 2, &log, 2);
        let refused = watchdog("two refusals", {
            let handle = pool.handle();
            move || {
                [
                    refusal(handle.submit(|| {})),
                    refusal(handle.submit_timeout(|| {}, Duration::MAX)),
                    refusal(handle.try_submit(|| {})),
                ]
            }
        });
        let too_many = SubmitErrorKind::TooManyWaiting;
        assert_eq!(refused, [too_many, too_many, SubmitErrorKind::Full]);
        assert_eq!(pool.waiting(), 2);
        occupied.end();
    });
    pool.wait_idle();
    assert_eq!(log.entries(), [1, 2]);
    assert_eq!(pool.stats().rejected, 3);
}

#[test]
fn p06_too_many_waiting_gives_the_closure_back() {
    let pool = Pool::builder().capacity(1).max_waiting(0).build().unwrap();
    let occupied = occupy(&pool, 1);
    let ran = Arrivals::new();
    let error = pool
        .submit({
            let ran = ran.clone();
            move || ran.arrive()
        })
        .unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::TooManyWaiting);
    error.into_inner()();
    assert_eq!(ran.count(), 1);
    drop(occupied);
    pool.wait_idle();
    expect_accepted(pool.submit(|| {}));
}

/// Whatever happens to room and capacity while they wait, and however many are sent away.
#[test]
fn p06_one_that_was_let_in_to_wait_is_never_refused_for_it() {
    for _ in 0..40 {
        let pool = Pool::builder().capacity(2).max_waiting(2).build().unwrap();
        let occupied = occupy(&pool, 2);
        let log = Log::new();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // `begin_to_wait` panics if its submit is refused for any reason.
            begin_to_wait(scope, &pool, 1, &log, 1);
            begin_to_wait(scope, &pool, 2, &log, 2);
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        if let Err(error) = pool.submit(|| {}) {
                            assert_eq!(error.kind(), SubmitErrorKind::TooManyWaiting);
                        }
                    }
                });
            }
            pool.tune(1);
            pool.tune(3);
            pool.tune(1);
            occupied.end();
            eventually_eq("the two waiters' tasks", 2, || log.len());
            stop.store(true, Ordering::Relaxed);
        });
        pool.wait_idle();
    }
}

#[test]
fn p06_whoever_stops_waiting_leaves_the_place_to_the_next() {
    let pool = Pool::builder().capacity(1).max_waiting(1).build().unwrap();
    let occupied = occupy(&pool, 1);
    for _ in 0..20 {
        let kind = refusal(pool.submit_timeout(|| {}, Duration::from_millis(1)));
        assert_eq!(kind, SubmitErrorKind::TimedOut);
    }
    let log = Log::new();
    thread::scope(|scope| {
        begin_to_wait(scope, &pool, 1, &log, ());
        occupied.end();
    });
    pool.wait_idle();
    assert_eq!(log.len(), 1);
}

// ---- P7: submit_timeout ----

#[test]
fn p07_submit_timeout_returns_within_its_time() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    for limit in [
        Duration::ZERO,
        Duration::from_millis(1),
        Duration::from_millis(80),
    ] {
        // The best of a few, as a busy machine may hold any one of them up.
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            let kind = refusal(pool.submit_timeout(|| {}, limit));
            let elapsed = start.elapsed();
            assert_eq!(kind, SubmitErrorKind::TimedOut);
            assert!(elapsed >= limit, "gave up after {elapsed:?} of {limit:?}");
            best = best.min(elapsed);
        }
        assert!(
            best < limit + Duration::from_millis(100),
            "{best:?} for {limit:?}"
        );
    }
    drop(occupied);
}

#[test]
fn p07_submit_timeout_takes_room_that_there_is_whatever_its_time() {
    let pool = Pool::with_capacity(1);
    for limit in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for _ in 0..100 {
            expect_accepted(pool.submit_timeout(|| {}, limit));
            pool.wait_idle();
        }
    }
}

#[test]
fn p07_the_longest_duration_means_for_ever() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let ran = Arrivals::new();
    thread::scope(|scope| {
        for limit in [Duration::MAX, Duration::from_secs(u64::MAX)] {
            let (pool, ran) = (&pool, ran.clone());
            scope.spawn(move || expect_accepted(pool.submit_timeout(move || ran.arrive(), limit)));
        }
        eventually_waiting(&pool, 2);
        occupied.end();
    });
    pool.wait_idle();
    assert_eq!(ran.count(), 2);
}

#[test]
fn p07_a_timed_out_submitter_leaves_nothing_behind() {
    let pool = Pool::builder().capacity(2).backlog(1).build().unwrap();
    let occupied = occupy(&pool, 2);
    expect_accepted(pool.submit(|| {}));
    let dropped = Arrivals::new();
    for number in 1..=50 {
        let captured = DropCounter(dropped.clone());
        let error = pool
            .submit_timeout(move || drop(captured), Duration::from_micros(200))
            .unwrap_err();
        assert_eq!(error.kind(), SubmitErrorKind::TimedOut);
        assert_eq!((pool.waiting(), pool.queued()), (0, 1));
        drop(error);
        assert_eq!(
            dropped.count(),
            number,
            "the closure came back, and only there"
        );
    }
    occupied.end();
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.rejected), (3, 50), "{stats:?}");
    assert_room(&pool, 3);
}

/// Where running out of time and being let in meet, exactly one of them happens.
#[test]
fn p07_timing_out_and_being_let_in_never_both_happen() {
    let mut rng = seeded_rng("p07_timing_out_and_being_let_in_never_both_happen");
    let limits: Vec<u64> = (0..1500).map(|_| rng.random_range(0..150)).collect();
    watchdog("all submitters return", move || {
        let pool = Pool::with_capacity(1);
        let ran = Arc::new(AtomicUsize::new(0));
        let (accepted, timed_out) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for part in limits.chunks(500) {
                let (pool, ran, accepted, timed_out) = (&pool, &ran, &accepted, &timed_out);
                scope.spawn(move || {
                    for limit in part {
                        let ran = Arc::clone(ran);
                        let task = move || {
                            let end = Instant::now() + Duration::from_micros(40);
                            while Instant::now() < end {
                                std::hint::spin_loop();
                            }
                            ran.fetch_add(1, Ordering::Relaxed);
                        };
                        match pool.submit_timeout(task, Duration::from_micros(*limit)) {
                            Ok(()) => accepted.fetch_add(1, Ordering::Relaxed),
                            Err(error) => {
                                assert_eq!(error.kind(), SubmitErrorKind::TimedOut);
                                timed_out.fetch_add(1, Ordering::Relaxed)
                            }
                        };
                    }
                });
            }
        });
        pool.wait_idle();
        let accepted = accepted.into_inner();
        assert_eq!(ran.load(Ordering::Relaxed), accepted);
        assert_eq!(accepted + timed_out.into_inner(), 1500);
        assert_at_rest(&pool);
        assert_room(&pool, 1);
    });
}

// ---- Overflow ----

fn pool_with(overflow: Overflow, backlog: usize) -> Pool {
    Pool::builder()
        .capacity(1)
        .backlog(backlog)
        .overflow(overflow)
        .build()
        .unwrap()
}

/// Only `submit` follows the policy: the other forms say what they always say.
#[test]
fn overflow_governs_submit_only() {
    for overflow in [
        Overflow::Block,
        Overflow::Reject,
        Overflow::CallerRuns,
        Overflow::DropOldest,
    ] {
        let pool = pool_with(overflow, 1);
        let occupied = occupy(&pool, 1);
        let queued = Arrivals::new();
        expect_accepted(pool.try_submit({
            let queued = queued.clone();
            move || queued.arrive()
        }));
        assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
        let kind = refusal(pool.submit_timeout(|| {}, Duration::from_millis(5)));
        assert_eq!(kind, SubmitErrorKind::TimedOut);
        assert_eq!((pool.queued(), pool.stats().discarded), (1, 0));
        occupied.end();
        pool.wait_idle();
        assert_eq!(queued.count(), 1);
    }
}

#[test]
fn overflow_block_is_the_default() {
    let pool = Pool::builder().capacity(1).build().unwrap();
    let occupied = occupy(&pool, 1);
    let log = Log::new();
    thread::scope(|scope| {
        begin_to_wait(scope, &pool, 1, &log, ());
        occupied.end();
    });
}

#[test]
fn overflow_reject_refuses_with_full_and_the_closure() {
    let pool = pool_with(Overflow::Reject, 1);
    let occupied = occupy(&pool, 1);
    expect_accepted(pool.submit(|| {}));
    let ran = Arrivals::new();
    let error = pool
        .submit({
            let ran = ran.clone();
            move || ran.arrive()
        })
        .unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::Full);
    error.into_inner()();
    assert_eq!((ran.count(), pool.stats().rejected), (1, 1));
    occupied.end();
    pool.wait_idle();
    expect_accepted(pool.submit(|| {}));
}

/// A worker is refused as well: that is what it asked for.
#[test]
fn overflow_reject_refuses_on_a_worker_too() {
    let pool = pool_with(Overflow::Reject, 0);
    let (sender, receiver) = channel();
    let handle = pool.handle();
    expect_accepted(pool.submit(move || {
        let _ = sender.send(handle.submit(|| {}).map_err(|error| error.kind()));
    }));
    assert_eq!(
        receive("the task ended", &receiver),
        Err(SubmitErrorKind::Full)
    );
    pool.wait_idle();
}

#[test]
fn overflow_caller_runs_the_task_on_the_submitting_thread_and_counts_it() {
    let pool = pool_with(Overflow::CallerRuns, 1);
    let occupied = occupy(&pool, 1);
    expect_accepted(pool.submit(|| {}));
    let (sender, receiver) = channel();
    let handle = pool.handle();
    expect_accepted(pool.submit(move || {
        let current = PoolHandle::current().map(|pool| pool.capacity());
        let gauges = (handle.running(), handle.workers(), handle.idle());
        let _ = sender.send((thread::current().id(), current, gauges));
    }));
    let seen = receiver.try_recv().expect("it ran before submit returned");
    // Outside the bound of one, and counted.
    assert_eq!(seen, (thread::current().id(), Some(1), (2, 1, 0)));
    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.completed), (3, 1), "{stats:?}");
    assert!(PoolHandle::current().is_none(), "only while the task ran");
    occupied.end();
    pool.wait_idle();
    assert_at_rest(&pool);
    assert_eq!(pool.stats().completed, 3);
}

/// A worker that waits for a task is idle, whatever the submitters do.
#[test]
fn overflow_caller_runs_makes_no_idle_worker_busy() {
    let pool = Pool::builder()
        .capacity(2)
        .min_workers(2)
        .overflow(Overflow::CallerRuns)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 2);
    let (handle, (sender, receiver)) = (pool.handle(), channel());
    expect_accepted(pool.submit(move || {
        occupied.end();
        eventually_eq("idle workers", 2, || handle.idle());
        let _ = sender.send((handle.running(), handle.workers()));
    }));
    assert_eq!(receiver.try_recv(), Ok((1, 2)));
}

#[test]
fn overflow_caller_runs_leaves_the_task_to_a_worker_while_there_is_room() {
    let pool = pool_with(Overflow::CallerRuns, 1);
    let (sender, receiver) = channel();
    for _ in 0..2 {
        let sender = sender.clone();
        expect_accepted(pool.submit(move || {
            let _ = sender.send(thread::current().id());
        }));
        assert_ne!(receive("it ran", &receiver), thread::current().id());
        pool.wait_idle();
    }
}

/// The submitter is no worker, and does not feel the panic.
#[test]
fn overflow_caller_runs_catches_and_reports_a_panic() {
    let (sender, receiver) = channel();
    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::CallerRuns)
        .panic_handler(move |panic: TaskPanic| {
            let message = panic.message().map(ToOwned::to_owned);
            let _ = sender.send((thread::current().id(), panic.worker(), message));
        })
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    expect_accepted(pool.submit(|| panic!("in the caller")));
    let (thread, worker, message) = receive("the handler was told", &receiver);
    assert_eq!(thread, thread::current().id());
    assert_eq!((worker, message.as_deref()), (None, Some("in the caller")));
    assert_eq!(pool.stats().panicked, 1);
    drop(occupied);
    pool.wait_idle();
    assert_at_rest(&pool);
}

#[test]
fn overflow_caller_runs_counts_as_being_on_the_pool() {
    let pool = pool_with(Overflow::CallerRuns, 0);
    let occupied = occupy(&pool, 1);
    let (sender, receiver) = channel();
    let child = Arrivals::new();
    let handle = pool.handle();
    let inner = child.clone();
    expect_accepted(pool.submit(move || {
        // It would wait for itself.
        let idle = handle.wait_idle_timeout(Duration::MAX);
        // On a worker there would be no waiting and no running in place either.
        expect_accepted(handle.submit(move || inner.arrive()));
        let _ = sender.send(idle);
    }));
    assert_eq!(receiver.try_recv(), Ok(false));
    assert_eq!((child.count(), pool.queued()), (0, 1));
    occupied.end();
    pool.wait_idle();
    assert_eq!(child.count(), 1);
}

/// A task that its caller runs is in flight like any other, though no worker has it.
#[test]
fn overflow_caller_runs_keeps_the_pool_from_being_idle() {
    let pool = pool_with(Overflow::CallerRuns, 0);
    let occupied = occupy(&pool, 1);
    let (gate, began) = (Gate::new().opened_on_drop(), Arrivals::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (gate, began) = ((*gate).clone(), began.clone());
            expect_accepted(pool.submit(move || {
                began.arrive();
                gate.wait();
            }));
        });
        began.wait_for(1);
        occupied.end();
        eventually_eq("running tasks", 1, || pool.running());
        assert!(!pool.wait_idle_timeout(Duration::from_millis(20)));
        // The worker is free, and has room for a task of its own.
        let ran = Arrivals::new();
        let inner = ran.clone();
        expect_accepted(pool.try_submit(move || inner.arrive()));
        ran.wait_for(1);
        gate.open();
        pool.wait_idle();
    });
    assert_at_rest(&pool);
}

#[test]
fn overflow_caller_runs_queues_on_a_worker() {
    let pool = pool_with(Overflow::CallerRuns, 0);
    let (sender, receiver) = channel();
    let log = Log::new();
    let handle = pool.handle();
    let inner = log.clone();
    expect_accepted(pool.submit(move || {
        expect_accepted(handle.submit({
            let log = inner.clone();
            move || log.push("child")
        }));
        inner.push("parent");
        let _ = sender.send(handle.queued());
    }));
    assert_eq!(receive("the task ended", &receiver), 1);
    pool.wait_idle();
    assert_eq!(log.entries(), ["parent", "child"]);
}

#[test]
fn overflow_caller_runs_nothing_while_the_pool_is_paused() {
    let pool = pool_with(Overflow::CallerRuns, 1);
    pool.tune(0);
    expect_accepted(pool.submit(|| {}));
    let threads = Log::new();
    thread::scope(|scope| {
        let submitter = scope.spawn(|| {
            let threads = threads.clone();
            expect_accepted(pool.submit(move || threads.push(thread::current().id())));
        });
        let submitting = submitter.thread().id();
        eventually_waiting(&pool, 1);
        assert_eq!(threads.len(), 0);
        pool.tune(1);
        submitter.join().unwrap();
        pool.wait_idle();
        assert_eq!(threads.len(), 1);
        assert_ne!(threads.entries()[0], submitting);
    });
}

#[test]
fn overflow_caller_runs_nothing_once_the_pool_is_closed() {
    let pool = pool_with(Overflow::CallerRuns, 0);
    let occupied = occupy(&pool, 1);
    pool.release();
    let ran = Arrivals::new();
    let inner = ran.clone();
    let kind = refusal(pool.submit(move || inner.arrive()));
    assert_eq!((kind, ran.count()), (SubmitErrorKind::Closed, 0));
    drop(occupied);
}

#[test]
fn overflow_drop_oldest_makes_room_by_discarding_the_oldest_queued_task() {
    let pool = pool_with(Overflow::DropOldest, 2);
    let occupied = occupy(&pool, 1);
    let log = Log::new();
    let dropped: Vec<_> = (0..5)
        .map(|number| {
            let dropped = Arrivals::new();
            let (log, captured) = (log.clone(), DropCounter(dropped.clone()));
            expect_accepted(pool.submit(move || {
                let _captured = captured;
                log.push(number);
            }));
            dropped
        })
        .collect();
    let counts: Vec<_> = dropped.iter().map(Arrivals::count).collect();
    assert_eq!(
        counts,
        [1, 1, 1, 0, 0],
        "the captures of the discarded are free at once"
    );
    assert_eq!((pool.queued(), pool.stats().discarded), (2, 3));
    occupied.end();
    pool.wait_idle();
    assert_eq!(log.entries(), [3, 4]);
    let stats = pool.stats();
    assert_eq!(
        (stats.submitted, stats.completed, stats.discarded),
        (6, 3, 3),
        "{stats:?}"
    );
    assert_at_rest(&pool);
}

#[test]
fn overflow_drop_oldest_discards_for_a_worker_too() {
    let pool = pool_with(Overflow::DropOldest, 1);
    let (sender, receiver) = channel();
    let log = Log::new();
    let handle = pool.handle();
    let inner = log.clone();
    expect_accepted(pool.submit(move || {
        for number in 0..4 {
            let log = inner.clone();
            expect_accepted(handle.submit(move || log.push(number)));
        }
        let _ = sender.send((handle.queued(), handle.stats().discarded));
    }));
    assert_eq!(receive("the task ended", &receiver), (1, 3));
    pool.wait_idle();
    assert_eq!(log.entries(), [3]);
}

#[test]
fn overflow_drop_oldest_works_while_the_pool_is_paused() {
    let pool = pool_with(Overflow::DropOldest, 2);
    pool.tune(0);
    let log = Log::new();
    for number in 0..4 {
        let log = log.clone();
        expect_accepted(pool.submit(move || log.push(number)));
    }
    assert_eq!((pool.queued(), pool.stats().discarded), (2, 2));
    pool.tune(1);
    pool.wait_idle();
    assert_eq!(log.entries(), [2, 3]);
}

/// What is discarded is dropped by the submitter, outside all locks: its destructor may submit.
#[test]
fn overflow_drop_oldest_lets_the_discarded_task_use_the_pool_as_it_is_dropped() {
    struct SubmitsOnDrop(PoolHandle, Arrivals);
    impl Drop for SubmitsOnDrop {
        fn drop(&mut self) {
            let dropped = self.1.clone();
            let _ = self.0.try_submit(|| {});
            let _ = self.0.stats();
            dropped.arrive();
        }
    }
    let dropped = Arrivals::new();
    watchdog("the discarded task is dropped", {
        let dropped = dropped.clone();
        move || {
            let pool = pool_with(Overflow::DropOldest, 1);
            let occupied = occupy(&pool, 1);
            let captured = SubmitsOnDrop(pool.handle(), dropped);
            expect_accepted(pool.submit(move || drop(captured)));
            expect_accepted(pool.submit(|| {}));
            drop(occupied);
        }
    });
    assert_eq!(dropped.count(), 1);
}

/// Many submitters, none of whom may be refused or wait; nothing is counted twice.
#[test]
fn overflow_drop_oldest_balances_under_contention() {
    watchdog("all submitters return", || {
        let pool = Pool::builder()
            .capacity(2)
            .backlog(3)
            .overflow(Overflow::DropOldest)
            .build()
            .unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let ran = Arc::clone(&ran);
                        expect_accepted(pool.submit(move || {
                            ran.fetch_add(1, Ordering::Relaxed);
                        }));
                    }
                });
            }
        });
        pool.wait_idle();
        let stats = pool.stats();
        assert_eq!(
            stats.completed,
            ran.load(Ordering::Relaxed) as u64,
            "{stats:?}"
        );
        assert_eq!(stats.completed + stats.discarded, 2000, "{stats:?}");
        assert_at_rest(&pool);
        assert_room(&pool, 5);
    });
}
