//! The end of a pool and its new beginning: P14 (release), P15 (reboot), P16 (drop), and what
//! `detach`, `PoolHandle::current` and handles without a pool do.

mod support;

use std::cell::RefCell;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anthill::{Overflow, Pool, PoolHandle, SubmitErrorKind};
use rand::{Rng, SeedableRng};
use support::{
    Arrivals, DropCounter, Gate, Log, Running, assert_at_rest, eventually, eventually_eq,
    eventually_waiting, expect_accepted, occupy, receive, refusal, seeded_rng, watchdog,
};

/// A way to close a pool.
type Close = fn(&PoolHandle);

fn unbounded(capacity: usize) -> Pool {
    Pool::builder()
        .capacity(capacity)
        .unbounded_backlog()
        .build()
        .unwrap()
}

#[track_caller]
fn assert_closed_from_outside(pool: &PoolHandle) {
    assert!(pool.is_closed());
    let closed = SubmitErrorKind::Closed;
    assert_eq!(refusal(pool.submit(|| {})), closed);
    assert_eq!(refusal(pool.try_submit(|| {})), closed);
    assert_eq!(refusal(pool.submit_timeout(|| {}, Duration::MAX)), closed);
}

// ---- P14: release ----

#[test]
fn p14_after_release_nothing_more_is_accepted_from_outside() {
    for overflow in [
        Overflow::Block,
        Overflow::Reject,
        Overflow::CallerRuns,
        Overflow::DropOldest,
    ] {
        let pool = Pool::builder()
            .capacity(1)
            .backlog(2)
            .overflow(overflow)
            .build()
            .unwrap();
        let occupied = occupy(&pool, 1);
        assert!(!pool.is_closed());
        pool.release();
        assert_closed_from_outside(&pool);
        drop(occupied);
        pool.release_timeout(Duration::MAX).unwrap();
        assert_closed_from_outside(&pool);
        assert_eq!(pool.stats().rejected, 6);
    }
}

/// Also when there is room, and with nothing running at all.
#[test]
fn p14_a_pool_that_never_ran_anything_can_be_released() {
    let pool = Pool::with_capacity(3);
    pool.release();
    assert_closed_from_outside(&pool);
    pool.release_timeout(Duration::ZERO).unwrap();
    assert_eq!(pool.release_now(), 0);
}

#[test]
fn p14_a_refusal_on_a_closed_pool_gives_the_closure_back() {
    let pool = Pool::with_capacity(1);
    pool.release();
    let ran = Arrivals::new();
    let inner = ran.clone();
    let error = pool.submit(move || inner.arrive()).unwrap_err();
    error.into_inner()();
    assert_eq!(ran.count(), 1);
}

#[test]
fn p14_after_release_all_accepted_tasks_run_with_what_they_submit() {
    for capacity in [1, 3] {
        let pool = unbounded(capacity);
        let occupied = occupy(&pool, capacity);
        let ran = Arrivals::new();
        for _ in 0..50 {
            let (handle, ran) = (pool.handle(), ran.clone());
            expect_accepted(pool.submit(move || {
                assert!(handle.is_closed());
                let (grandchild, child_ran) = (handle.clone(), ran.clone());
                expect_accepted(handle.submit(move || {
                    let ran = child_ran.clone();
                    expect_accepted(grandchild.submit(move || ran.arrive()));
                    child_ran.arrive();
                }));
                ran.arrive();
            }));
        }
        pool.release();
        occupied.end();
        pool.release_timeout(Duration::MAX).unwrap();
        assert_eq!(ran.count(), 150);
        let stats = pool.stats();
        assert_eq!((stats.panicked, stats.discarded), (0, 0), "{stats:?}");
        assert_at_rest(&pool);
    }
}

#[test]
fn p14_release_lifts_a_pause() {
    let ways: [(&str, Close); 2] = [
        ("release", PoolHandle::release),
        ("release_timeout", |pool| {
            let _ = pool.release_timeout(Duration::ZERO);
        }),
    ];
    for (way, close) in ways {
        let pool = Pool::builder().capacity(3).backlog(5).build().unwrap();
        pool.tune(0);
        let ran = Arrivals::new();
        for _ in 0..5 {
            let ran = ran.clone();
            expect_accepted(pool.submit(move || ran.arrive()));
        }
        close(&pool);
        ran.wait_for(5);
        assert_eq!(pool.capacity(), 3, "{way}: the capacity before the pause");
        pool.release_timeout(Duration::MAX).unwrap();
    }
}

/// A pool that began paused has no capacity to go back to.
#[test]
fn p14_release_lifts_the_pause_of_a_pool_that_never_had_a_capacity() {
    let pool = Pool::builder().capacity(0).backlog(2).build().unwrap();
    let ran = Arrivals::new();
    for _ in 0..2 {
        let ran = ran.clone();
        expect_accepted(pool.submit(move || ran.arrive()));
    }
    pool.release();
    ran.wait_for(2);
    assert_eq!(pool.capacity(), 1);
}

/// What was accepted is to run; a pause would keep it from that, and the pool from its end.
#[test]
fn p14_a_closed_pool_cannot_be_paused() {
    let pool = unbounded(1);
    let occupied = occupy(&pool, 1);
    let ran = Arrivals::new();
    for _ in 0..5 {
        let ran = ran.clone();
        expect_accepted(pool.submit(move || ran.arrive()));
    }
    pool.release();
    pool.tune(0);
    occupied.end();
    ran.wait_for(5);
    watchdog("the pool ends", move || drop(pool));
}

#[test]
fn p14_release_ends_idle_workers() {
    let pool = Pool::builder()
        .capacity(4)
        .min_workers(2)
        .keep_workers()
        .build()
        .unwrap();
    drop(occupy(&pool, 4));
    pool.wait_idle();
    assert_eq!(pool.workers(), 4);
    pool.release();
    eventually_eq("workers", 0, || pool.workers());
}

#[test]
fn p14_release_ends_busy_workers_after_the_last_task() {
    let pool = Pool::builder().capacity(2).keep_workers().build().unwrap();
    let occupied = occupy(&pool, 2);
    pool.release();
    assert_eq!((pool.workers(), pool.running()), (2, 2));
    occupied.end();
    eventually_eq("workers", 0, || pool.workers());
    assert_eq!(pool.stats().completed, 2);
}

#[test]
fn p14_release_does_not_wait() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let handle = pool.handle();
    watchdog("release and release_now return", move || {
        handle.release();
        handle.release_now();
    });
    assert_eq!((pool.running(), occupied.begun()), (1, 1));
}

#[test]
fn p14_release_now_discards_the_backlog_and_says_how_much() {
    let pool = unbounded(2);
    let occupied = occupy(&pool, 2);
    let (ran, dropped) = (Arrivals::new(), Arrivals::new());
    for _ in 0..7 {
        let (ran, captured) = (ran.clone(), DropCounter(dropped.clone()));
        expect_accepted(pool.submit(move || {
            let _captured = captured;
            ran.arrive();
        }));
    }
    assert_eq!(pool.release_now(), 7);
    assert_eq!((dropped.count(), pool.queued(), pool.running()), (7, 0, 2));
    assert_eq!(pool.release_now(), 0, "nothing is discarded twice");
    occupied.end();
    pool.release_timeout(Duration::MAX).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.discarded), (2, 7), "{stats:?}");
    assert_eq!(ran.count(), 0);
    assert_at_rest(&pool);
}

/// Also while workers are busy taking tasks: each task either ran or is in the number.
#[test]
fn p14_release_now_says_how_much_it_discarded_while_tasks_run_and_end() {
    for _ in 0..100 {
        let pool = unbounded(2);
        let (ran, dropped) = (Arrivals::new(), Arrivals::new());
        for _ in 0..200 {
            let (ran, captured) = (ran.clone(), DropCounter(dropped.clone()));
            expect_accepted(pool.submit(move || {
                let _captured = captured;
                ran.arrive();
            }));
        }
        ran.wait_for(20);
        let discarded = pool.release_now();
        pool.release_timeout(Duration::MAX).unwrap();
        assert_eq!((ran.count() + discarded, dropped.count()), (200, 200));
        assert_eq!(pool.stats().discarded, discarded as u64);
    }
}

#[test]
fn p14_release_now_discards_a_paused_backlog() {
    let pool = Pool::builder().capacity(2).backlog(3).build().unwrap();
    pool.tune(0);
    for _ in 0..3 {
        expect_accepted(pool.submit(|| panic!("discarded tasks do not run")));
    }
    assert_eq!(pool.release_now(), 3);
    pool.release_timeout(Duration::MAX).unwrap();
    assert_eq!(pool.stats().discarded, 3);
}

#[test]
fn p14_after_release_now_tasks_are_refused_what_they_submit() {
    let pool = unbounded(1);
    let (sender, receiver) = channel();
    let gate = Gate::new().opened_on_drop();
    let began = Arrivals::new();
    expect_accepted(pool.submit({
        let (handle, gate, began) = (pool.handle(), (*gate).clone(), began.clone());
        move || {
            began.arrive();
            gate.wait();
            assert_eq!(refusal(handle.try_submit(|| {})), SubmitErrorKind::Closed);
            let _ = sender.send(refusal(handle.submit(|| {})));
        }
    }));
    began.wait_for(1);
    pool.release_now();
    gate.open();
    assert_eq!(
        receive("the task ended", &receiver),
        SubmitErrorKind::Closed
    );
    pool.release_timeout(Duration::MAX).unwrap();
    assert_eq!(pool.stats().completed, 1);
}

/// A release that is already under way can be cut short.
#[test]
fn p14_release_now_after_release_discards_what_is_left() {
    let pool = unbounded(1);
    let occupied = occupy(&pool, 1);
    for _ in 0..4 {
        expect_accepted(pool.submit(|| {}));
    }
    pool.release();
    assert_eq!(pool.queued(), 4);
    assert_eq!(pool.release_now(), 4);
    occupied.end();
    pool.release_timeout(Duration::MAX).unwrap();
    assert_eq!(pool.stats().completed, 1);
}

#[test]
fn p14_release_timeout_says_what_remains() {
    let pool = unbounded(2);
    let occupied = occupy(&pool, 2);
    for _ in 0..3 {
        expect_accepted(pool.submit(|| {}));
    }
    for limit in [Duration::ZERO, Duration::from_millis(30)] {
        let start = Instant::now();
        let remains = pool.release_timeout(limit).unwrap_err();
        assert!(start.elapsed() >= limit);
        assert_eq!(
            (remains.running(), remains.queued(), remains.workers()),
            (2, 3, 2)
        );
        assert!(!remains.to_string().is_empty());
    }
    assert_closed_from_outside(&pool);
    occupied.end();
    pool.release_timeout(Duration::MAX).unwrap();
    assert_eq!((pool.workers(), pool.stats().completed), (0, 5));
}

/// Leaves something in a thread-local of this thread, whose destructor waits for `gate` and then
/// arrives.
fn leave_in_this_thread(gate: Gate, dropped: Arrivals) {
    struct Left(Gate, Arrivals);
    impl Drop for Left {
        fn drop(&mut self) {
            // A panic in here would abort.
            let _ = self.0.wait_timeout(support::DEADLINE);
            self.1.arrive();
        }
    }
    thread_local! {
        static LEFT: RefCell<Vec<Left>> = const { RefCell::new(Vec::new()) };
    }
    LEFT.with(|slot| slot.borrow_mut().push(Left(gate, dropped)));
}

/// The same in a thread of the pool.
fn leave_in_a_worker(pool: &PoolHandle, gate: &Gate, dropped: &Arrivals) {
    let (gate, dropped) = (gate.clone(), dropped.clone());
    expect_accepted(pool.submit(move || leave_in_this_thread(gate, dropped)));
}

#[test]
fn p14_when_release_timeout_returns_ok_the_thread_locals_of_all_workers_are_dropped() {
    for _ in 0..20 {
        let pool = Pool::with_capacity(3);
        let (gate, dropped) = (Gate::new(), Arrivals::new());
        gate.open();
        let barrier = Arrivals::new();
        for _ in 0..3 {
            let (gate, barrier, dropped) = (gate.clone(), barrier.clone(), dropped.clone());
            expect_accepted(pool.submit(move || {
                // All three at once, so that each worker leaves something.
                barrier.arrive();
                barrier.wait_for(3);
                leave_in_this_thread(gate, dropped);
            }));
        }
        pool.wait_idle();
        pool.release_timeout(Duration::MAX).unwrap();
        assert_eq!(dropped.count(), 3);
    }
}

/// The workers that left on their own are joined as well.
#[test]
fn p14_release_timeout_waits_for_the_threads_of_expired_workers() {
    let pool = Pool::builder()
        .capacity(1)
        .idle_timeout(Duration::from_millis(1))
        .build()
        .unwrap();
    let (gate, dropped) = (Gate::new().opened_on_drop(), Arrivals::new());
    leave_in_a_worker(&pool, &gate, &dropped);
    eventually("the worker expires", || pool.stats().workers_expired == 1);
    pool.release_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!(dropped.count(), 0);
    gate.open();
    pool.release_timeout(Duration::MAX).unwrap();
    assert_eq!(dropped.count(), 1);
}

#[test]
fn p14_release_timeout_waits_for_the_threads_of_workers_retired_by_tune() {
    let pool = Pool::builder().capacity(2).keep_workers().build().unwrap();
    let (gate, dropped) = (Gate::new().opened_on_drop(), Arrivals::new());
    leave_in_a_worker(&pool, &gate, &dropped);
    pool.wait_idle();
    pool.tune(0);
    pool.release_timeout(Duration::from_millis(50)).unwrap_err();
    gate.open();
    pool.release_timeout(Duration::MAX).unwrap();
    assert_eq!(dropped.count(), 1);
}

#[test]
fn p14_several_threads_may_release_and_join_at_once() {
    for _ in 0..20 {
        let pool = unbounded(2);
        let occupied = occupy(&pool, 2);
        let (gate, dropped) = (Gate::new(), Arrivals::new());
        gate.open();
        leave_in_a_worker(&pool, &gate, &dropped);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.release_timeout(Duration::MAX).unwrap();
                    assert_eq!((dropped.count(), pool.workers()), (1, 0));
                });
            }
            eventually("the pool is closed", || pool.is_closed());
            occupied.end();
        });
    }
}

#[test]
fn p14_all_ways_to_release_may_be_called_repeatedly_and_after_each_other() {
    let ways: [Close; 4] = [
        PoolHandle::release,
        |pool| {
            pool.release_now();
        },
        |pool| {
            let _ = pool.release_timeout(Duration::ZERO);
        },
        |pool| pool.release_timeout(Duration::MAX).unwrap(),
    ];
    for first in ways {
        for second in ways {
            for third in ways {
                let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
                expect_accepted(pool.submit(|| {}));
                expect_accepted(pool.submit(|| {}));
                first(&pool);
                second(&pool);
                third(&pool);
                pool.release_timeout(Duration::MAX).unwrap();
                assert_closed_from_outside(&pool);
                assert_at_rest(&pool);
                assert_eq!(pool.stats().submitted, 2);
            }
        }
    }
}

#[test]
fn p14_all_ways_to_release_may_be_called_from_a_task() {
    let pool = unbounded(2);
    let (sender, receiver) = channel();
    expect_accepted(pool.submit({
        let handle = pool.handle();
        move || {
            handle.release();
            let _ = sender.send(handle.release_timeout(Duration::MAX).is_err());
            let _ = sender.send(handle.release_timeout(Duration::ZERO).is_err());
            expect_accepted(handle.submit(|| {}));
            handle.release_now();
            let _ = sender.send(handle.release_timeout(Duration::MAX).is_err());
            let _ = sender.send(refusal(handle.submit(|| {})) == SubmitErrorKind::Closed);
        }
    }));
    for step in 0..4 {
        assert!(receive("the task goes on", &receiver), "step {step}");
    }
    pool.release_timeout(Duration::MAX).unwrap();
    assert_at_rest(&pool);
}

// ---- P15: reboot ----

#[test]
fn p15_reboot_opens_the_pool_and_its_handles_again() {
    let pool = Pool::with_capacity(2);
    let handle = pool.handle();
    let ways: [Close; 3] = [
        PoolHandle::release,
        |pool| {
            pool.release_now();
        },
        |pool| pool.release_timeout(Duration::MAX).unwrap(),
    ];
    let mut ran = 0;
    for close in ways {
        for _ in 0..3 {
            expect_accepted(handle.submit(|| {}));
            ran += 1;
            pool.wait_idle();
            close(&pool);
            assert_closed_from_outside(&handle);
            handle.reboot();
            assert!(!pool.is_closed());
            // Tasks are accepted what they submit again, too.
            let inner = handle.clone();
            expect_accepted(handle.submit(move || expect_accepted(inner.submit(|| {}))));
            ran += 2;
            pool.wait_idle();
        }
    }
    let stats = pool.stats();
    assert_eq!(
        (stats.submitted, stats.completed),
        (ran, ran),
        "the counters go on: {stats:?}"
    );
    drop(occupy(&pool, 2));
    pool.wait_idle();
    assert_at_rest(&pool);
}

#[test]
fn p15_reboot_of_an_open_pool_changes_nothing() {
    let pool = unbounded(1);
    let occupied = occupy(&pool, 1);
    expect_accepted(pool.submit(|| {}));
    pool.reboot();
    pool.reboot();
    assert_eq!((pool.running(), pool.queued(), pool.workers()), (1, 1, 1));
    occupied.end();
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!(
        (stats.completed, stats.workers_started),
        (2, 1),
        "{stats:?}"
    );
    pool.tune(0);
    pool.reboot();
    assert_eq!(pool.capacity(), 0, "a pause is not lifted either");
}

#[test]
fn p15_tasks_accepted_before_the_release_stay_valid() {
    let pool = unbounded(1);
    let occupied = occupy(&pool, 1);
    let ran = Arrivals::new();
    for _ in 0..10 {
        let ran = ran.clone();
        expect_accepted(pool.submit(move || ran.arrive()));
    }
    pool.release();
    pool.reboot();
    assert_eq!(pool.queued(), 10);
    expect_accepted(pool.submit({
        let ran = ran.clone();
        move || ran.arrive()
    }));
    occupied.end();
    pool.wait_idle();
    assert_eq!(ran.count(), 11);
    assert_at_rest(&pool);
}

#[test]
fn p15_old_busy_workers_count_against_the_capacity_until_they_end() {
    let pool = Pool::with_capacity(2);
    let running = Running::new();
    let old = [Gate::new().opened_on_drop(), Gate::new().opened_on_drop()];
    let began = Arrivals::new();
    for gate in &old {
        let (gate, running, began) = ((**gate).clone(), running.clone(), began.clone());
        expect_accepted(pool.submit(move || {
            let _inside = running.enter();
            began.arrive();
            gate.wait();
        }));
    }
    began.wait_for(2);
    for _ in 0..3 {
        pool.release();
        pool.reboot();
    }
    assert_eq!((pool.running(), pool.free()), (2, 0));
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    old[0].open();
    eventually_eq("running tasks", 1, || pool.running());
    let new = Gate::new().opened_on_drop();
    expect_accepted(pool.submit({
        let (gate, running, began) = ((*new).clone(), running.clone(), began.clone());
        move || {
            let _inside = running.enter();
            began.arrive();
            gate.wait();
        }
    }));
    began.wait_for(3);
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    new.open();
    old[1].open();
    pool.wait_idle();
    assert_eq!(running.peak(), 2);
    drop(occupy(&pool, 2));
    pool.wait_idle();
    eventually("no worker beyond the capacity is left", || {
        pool.workers() <= 2
    });
}

#[test]
fn p15_reboot_while_another_thread_joins_leaves_both_working() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            let handle = pool.handle();
            // Whether it is told that the pool is gone or not, it comes back.
            watchdog("release_timeout returns", move || {
                let _ = handle.release_timeout(Duration::from_secs(5));
            });
        });
        eventually("the pool is closed", || pool.is_closed());
        pool.reboot();
        occupied.end();
        let ran = Arrivals::new();
        let inner = ran.clone();
        expect_accepted(pool.submit(move || inner.arrive()));
        ran.wait_for(1);
    });
    pool.release_timeout(Duration::MAX).unwrap();
    assert_at_rest(&pool);
}

#[test]
fn p15_after_release_now_and_reboot_the_room_is_whole() {
    let pool = Pool::builder().capacity(2).backlog(3).build().unwrap();
    for _ in 0..20 {
        let occupied = occupy(&pool, 2);
        for _ in 0..3 {
            expect_accepted(pool.submit(|| {}));
        }
        assert_eq!(pool.release_now(), 3);
        pool.reboot();
        for _ in 0..3 {
            expect_accepted(pool.try_submit(|| {}));
        }
        assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
        occupied.end();
        pool.wait_idle();
    }
    assert_at_rest(&pool);
}

// ---- P16: drop ----

#[test]
fn p16_dropping_the_pool_runs_what_was_accepted() -> Result<(), Box<dyn Error + Send + Sync>> {
    for _ in 0..100 {
        let ran = Arc::new(AtomicBool::new(false));
        let inner = Arc::clone(&ran);
        Pool::with_capacity(4).submit(move || inner.store(true, Ordering::Relaxed))?;
        assert!(ran.load(Ordering::Relaxed));
    }
    Ok(())
}

#[test]
fn p16_dropping_the_pool_runs_the_backlog_and_what_it_submits() {
    let ran = Arrivals::new();
    let pool = unbounded(1);
    for _ in 0..20 {
        let (handle, ran) = (pool.handle(), ran.clone());
        expect_accepted(pool.submit(move || {
            let inner = ran.clone();
            expect_accepted(handle.submit(move || inner.arrive()));
            ran.arrive();
        }));
    }
    drop(pool);
    assert_eq!(ran.count(), 40);
}

#[test]
fn p16_dropping_a_paused_pool_runs_its_backlog() {
    let pool = Pool::builder().capacity(2).backlog(4).build().unwrap();
    pool.tune(0);
    let ran = Arrivals::new();
    for _ in 0..4 {
        let ran = ran.clone();
        expect_accepted(pool.submit(move || ran.arrive()));
    }
    watchdog("the pool ends", move || drop(pool));
    assert_eq!(ran.count(), 4);
}

#[test]
fn p16_dropping_the_pool_joins_its_threads() {
    for _ in 0..20 {
        let pool = Pool::with_capacity(2);
        let (gate, dropped) = (Gate::new(), Arrivals::new());
        gate.open();
        leave_in_a_worker(&pool, &gate, &dropped);
        drop(pool);
        assert_eq!(dropped.count(), 1);
    }
}

#[test]
fn p16_dropping_the_pool_waits_for_running_tasks() {
    let pool = Pool::with_capacity(1);
    let handle = pool.handle();
    let occupied = occupy(&pool, 1);
    let (sender, receiver) = channel();
    let dropper = thread::spawn(move || {
        drop(pool);
        let _ = sender.send(());
    });
    eventually("the pool is closed", || handle.is_closed());
    // A short while is enough to see a drop that does not wait.
    assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
    occupied.end();
    receive("the drop returned", &receiver);
    dropper.join().unwrap();
    assert_eq!((handle.workers(), handle.stats().completed), (0, 1));
}

#[test]
fn p16_dropping_the_pool_while_its_owner_panics_runs_and_joins_as_well() {
    let ran = Arrivals::new();
    let inner = ran.clone();
    let owner = thread::spawn(move || {
        let pool = unbounded(1);
        for _ in 0..5 {
            let ran = inner.clone();
            expect_accepted(pool.submit(move || ran.arrive()));
        }
        panic!("the owner panics");
    });
    assert!(owner.join().is_err());
    assert_eq!(ran.count(), 5);
}

/// Of its own pool or another: a worker must not wait for threads, which may wait for it.
#[test]
fn p16_dropping_a_pool_on_a_worker_of_any_pool_only_closes_it() {
    let other = Pool::with_capacity(1);
    let pool = unbounded(1);
    let handle = pool.handle();
    let occupied = occupy(&pool, 1);
    let ran = Arrivals::new();
    let inner = ran.clone();
    expect_accepted(pool.submit(move || inner.arrive()));
    expect_accepted(other.submit(move || drop(pool)));
    // The dropped pool's task has not ended, and the drop returns nevertheless.
    let other_handle = other.handle();
    watchdog("the task that dropped the pool ends", move || {
        other_handle.wait_idle();
    });
    assert!(handle.is_closed());
    assert_eq!(handle.running(), 1);
    occupied.end();
    ran.wait_for(1);
    handle.release_timeout(Duration::MAX).unwrap();
}

/// On the way out of a worker's thread its thread-locals are dropped, with a pool in one of them:
/// its own or another one, and all that is then left of either goes with it.
#[test]
fn p16_dropping_a_pool_in_a_thread_local_of_a_worker_only_closes_it() {
    thread_local! {
        static KEPT: RefCell<Option<Pool>> = const { RefCell::new(None) };
    }
    for own in [true, false] {
        let worked = Pool::builder()
            .capacity(1)
            .idle_timeout(Duration::from_millis(1))
            .build()
            .unwrap();
        let worker_of = worked.handle();
        let mut owner = Some(worked);
        let kept = if own {
            owner.take().unwrap()
        } else {
            unbounded(1)
        };
        let handle = kept.handle();
        let occupied = (!own).then(|| occupy(&kept, 1));
        expect_accepted(
            worker_of.submit(move || KEPT.with(|slot| *slot.borrow_mut() = Some(kept))),
        );
        eventually("the worker's thread drops the pool", || handle.is_closed());
        if let Some(owner) = owner {
            // Its thread can end although the pool it dropped is busy.
            watchdog("the other pool ends", move || drop(owner));
        }
        drop(occupied);
        watchdog("the dropped pool ends", move || {
            handle.release_timeout(Duration::MAX).unwrap();
        });
    }
}

// ---- detach, current, handles ----

#[test]
fn detach_leaves_the_pool_open_and_waits_for_nothing() {
    let pool = unbounded(1);
    let occupied = occupy(&pool, 1);
    let ran = Arrivals::new();
    let handle = watchdog("detach returns", move || pool.detach());
    assert!(!handle.is_closed());
    let inner = ran.clone();
    expect_accepted(handle.submit(move || inner.arrive()));
    occupied.end();
    handle.wait_idle();
    assert_eq!(ran.count(), 1);
    handle.release_timeout(Duration::MAX).unwrap();
    handle.reboot();
    assert!(
        !handle.is_closed(),
        "a detached pool was not dropped: it can be opened again"
    );
    let inner = ran.clone();
    expect_accepted(handle.submit(move || inner.arrive()));
    handle.release_timeout(Duration::MAX).unwrap();
    assert_eq!(ran.count(), 2);
}

/// With no handle left either, what was accepted runs all the same.
#[test]
fn detach_and_forget_runs_what_was_accepted() {
    let ran = Arrivals::new();
    let pool = unbounded(1);
    for _ in 0..20 {
        let ran = ran.clone();
        expect_accepted(pool.submit(move || ran.arrive()));
    }
    drop(pool.detach());
    ran.wait_for(20);
}

#[test]
fn current_is_the_pool_whose_task_runs_on_this_thread() {
    assert!(PoolHandle::current().is_none());
    // Pools that can be told apart by their capacity.
    let (outer, inner) = (
        Pool::with_capacity(17),
        Pool::builder()
            .capacity(1)
            .overflow(Overflow::CallerRuns)
            .build()
            .unwrap(),
    );
    let occupied = occupy(&inner, 1);
    let current = || PoolHandle::current().map(|pool| pool.capacity());
    let seen = Log::new();
    let (sender, receiver) = channel();
    expect_accepted(outer.submit({
        let (inner, seen) = (inner.handle(), seen.clone());
        move || {
            seen.push(current());
            let in_inner = seen.clone();
            expect_accepted(inner.submit(move || in_inner.push(current())));
            seen.push(current());
            let submitted = PoolHandle::current().map(|pool| pool.submit(|| {}).is_ok());
            let _ = sender.send(submitted);
        }
    }));
    assert_eq!(receive("the task ended", &receiver), Some(true));
    assert_eq!(seen.entries(), [Some(17), Some(1), Some(17)]);
    outer.wait_idle();
    assert_eq!(outer.stats().completed, 2);
    assert!(PoolHandle::current().is_none());
    drop(occupied);
}

#[test]
fn current_is_there_in_the_drop_of_a_capture_and_in_the_panic_handler() {
    struct Tells(Log<Option<usize>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0
                .push(PoolHandle::current().map(|pool| pool.capacity()));
        }
    }
    let seen = Log::new();
    let pool = Pool::builder()
        .capacity(23)
        .panic_handler({
            let seen = seen.clone();
            move |_| drop(Tells(seen.clone()))
        })
        .build()
        .unwrap();
    let captured = Tells(seen.clone());
    expect_accepted(pool.submit(move || {
        let _dropped_at_the_end = &captured;
        panic!("on purpose");
    }));
    pool.wait_idle();
    assert_eq!(seen.entries(), [Some(23), Some(23)]);
}

#[test]
fn a_handle_outlives_its_pool() {
    let pool = Pool::with_capacity(2);
    let (handle, other) = (pool.handle(), pool.handle());
    expect_accepted(handle.submit(|| {}));
    drop(pool);
    assert_closed_from_outside(&handle);
    assert_eq!(
        (handle.workers(), handle.running(), handle.queued()),
        (0, 0, 0)
    );
    assert_eq!(
        (handle.idle(), handle.waiting(), handle.capacity()),
        (0, 0, 2)
    );
    assert_eq!(handle.stats().completed, 1);
    handle.wait_idle();
    assert!(handle.wait_idle_timeout(Duration::ZERO));
    handle.release();
    handle.release_timeout(Duration::ZERO).unwrap();
    assert_eq!(handle.release_now(), 0);
    assert_eq!(handle.tune(3), 2);
    handle.reboot();
    assert!(handle.is_closed(), "nobody owns it: it stays closed");
    assert_closed_from_outside(&other);
}

#[test]
fn a_handle_does_not_keep_the_pool_open() {
    let pool = Pool::with_capacity(1);
    let handles: Vec<_> = (0..10).map(|_| pool.handle()).collect();
    let captured = handles[0].clone();
    expect_accepted(pool.submit(move || drop(captured)));
    watchdog("the pool ends", move || drop(pool));
    assert!(handles.iter().all(PoolHandle::is_closed));
}

#[test]
fn the_global_pool_is_one_and_always_open() {
    let pool = anthill::global();
    assert!(std::ptr::eq(pool, anthill::global()));
    let (sender, receiver) = channel();
    expect_accepted(anthill::submit(move || {
        let _ = sender.send(PoolHandle::current().map(|pool| pool.capacity()));
    }));
    assert_eq!(receive("the task ran", &receiver), Some(pool.capacity()));
    assert_eq!(pool.capacity(), num_cpus());
    // Its backlog has no bound.
    let ran = Arrivals::new();
    let gate = Gate::new().opened_on_drop();
    for _ in 0..pool.capacity() + 1000 {
        let (ran, gate) = (ran.clone(), (*gate).clone());
        expect_accepted(pool.try_submit(move || {
            gate.wait();
            ran.arrive();
        }));
    }
    gate.open();
    ran.wait_for(pool.capacity() + 1000);
    pool.wait_idle();
}

fn num_cpus() -> usize {
    Pool::default().capacity()
}

// ---- All at once ----

/// Submitters, tuners, releasers and rebooters without any order: what was accepted ran or was
/// discarded, and in the end the pool is whole.
#[test]
fn p14_p15_submit_tune_release_and_reboot_together_lose_nothing() {
    let mut rng = seeded_rng("p14_p15_submit_tune_release_and_reboot_together_lose_nothing");
    for _ in 0..15 {
        let seeds: [u64; 4] = rng.random();
        watchdog("the storm passes", move || {
            let pool = Pool::builder()
                .capacity(2)
                .backlog(2)
                .idle_timeout(Duration::from_micros(300))
                .build()
                .unwrap();
            let ran = Arc::new(AtomicUsize::new(0));
            let accepted = Arc::new(AtomicUsize::new(0));
            let done = Gate::new();
            thread::scope(|scope| {
                for seed in &seeds[..2] {
                    let (pool, done) = (&pool, &done);
                    scope.spawn(move || {
                        let mut rng = rand::rngs::StdRng::seed_from_u64(*seed);
                        while !done.is_open() {
                            match rng.random_range(0..12) {
                                0..6 => drop(pool.tune(rng.random_range(0..4))),
                                6..8 => pool.release(),
                                8 => drop(pool.release_now()),
                                9 => drop(pool.release_timeout(Duration::from_micros(50))),
                                _ => {}
                            }
                            pool.reboot();
                            thread::yield_now();
                        }
                    });
                }
                let submitters: Vec<_> = seeds[2..]
                    .iter()
                    .map(|seed| {
                        let (pool, ran, accepted) = (&pool, &ran, &accepted);
                        scope.spawn(move || {
                            let mut rng = rand::rngs::StdRng::seed_from_u64(*seed);
                            for _ in 0..150 {
                                let (handle, ran, inner) =
                                    (pool.handle(), Arc::clone(ran), Arc::clone(accepted));
                                let task = move || {
                                    ran.fetch_add(1, Ordering::Relaxed);
                                    let child = move || {
                                        ran.fetch_add(1, Ordering::Relaxed);
                                    };
                                    if handle.submit(child).is_ok() {
                                        inner.fetch_add(1, Ordering::Relaxed);
                                    }
                                };
                                let result = match rng.random_range(0..3) {
                                    0 => pool.submit(task),
                                    1 => pool.try_submit(task),
                                    _ => pool.submit_timeout(task, Duration::from_micros(200)),
                                };
                                if result.is_ok() {
                                    accepted.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        })
                    })
                    .collect();
                for submitter in submitters {
                    submitter.join().unwrap();
                }
                done.open();
            });
            pool.tune(2);
            pool.wait_idle();
            let stats = pool.stats();
            let (ran, accepted) = (
                ran.load(Ordering::Relaxed),
                accepted.load(Ordering::Relaxed),
            );
            assert_eq!(stats.submitted, accepted as u64, "{stats:?}");
            assert_eq!(stats.completed, ran as u64, "{stats:?}");
            assert_at_rest(&pool);
            pool.reboot();
            let occupied = occupy(&pool, 2);
            expect_accepted(pool.try_submit(|| {}));
            expect_accepted(pool.try_submit(|| {}));
            assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
            drop(occupied);
        });
    }
}

/// Waiters, a tuner and a closer meet over and over: each waiter comes back.
#[test]
fn p14_waiters_never_hang_between_tune_and_release() {
    for round in 0..100 {
        watchdog("all waiters return", move || {
            let pool = Pool::with_capacity(1);
            pool.tune(0);
            let handle = pool.handle();
            let results = Arc::new(Mutex::new(Vec::new()));
            let ran = Arrivals::new();
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let ran = ran.clone();
                        let result = handle.submit(move || ran.arrive());
                        let kind = result.map_err(|error| error.kind());
                        results.lock().unwrap().push(kind);
                    });
                }
                if round % 2 == 0 {
                    eventually_waiting(&handle, 4);
                }
                scope.spawn(|| handle.tune(round % 3));
                match round % 4 {
                    0 => pool.release(),
                    1 => drop(pool.release_now()),
                    2 => drop(pool),
                    _ => drop(pool.release_timeout(Duration::MAX)),
                }
            });
            handle.release_timeout(Duration::MAX).unwrap();
            let results = results.lock().unwrap();
            let accepted = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(results.len(), 4);
            let closed = Err(SubmitErrorKind::Closed);
            assert!(
                results
                    .iter()
                    .all(|result| result.is_ok() || *result == closed)
            );
            let stats = handle.stats();
            assert_eq!(stats.submitted, accepted as u64, "{stats:?}");
            assert_eq!(
                stats.completed + stats.discarded,
                accepted as u64,
                "{stats:?}"
            );
            assert_eq!(stats.completed, ran.count() as u64, "{stats:?}");
            assert_at_rest(&handle);
        });
    }
}
