//! What nobody should do and somebody will: absurd sizes and times, contradictions, waits in hooks,
//! drops that panic. Nothing here may hang, abort or lose a task. Also what the types promise:
//! errors that cross threads, and auto traits.

mod support;

use std::cell::Cell;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anthill::{
    BuildError, Builder, Overflow, Pool, PoolHandle, ReleaseTimeout, Stats, SubmitError,
    SubmitErrorKind, TaskPanic, WorkerId,
};
use support::{
    Arrivals, DropCounter, Gate, assert_at_rest, eventually, eventually_waiting, expect_accepted,
    in_child_process, occupy, receive, refusal, watchdog,
};

/// As long as a `Duration` can be, and so long that a clock overflows.
const ENORMOUS: [Duration; 3] = [
    Duration::MAX,
    Duration::from_secs(u64::MAX),
    Duration::from_secs(u64::MAX / 2),
];

/// The pool does its work: all of its capacity, up to a few.
#[track_caller]
fn assert_works(pool: &PoolHandle) {
    drop(occupy(pool, pool.capacity().clamp(1, 3)));
    pool.wait_idle();
    assert_at_rest(pool);
}

// ---- Sizes ----

#[test]
fn a_pool_of_capacity_zero_is_paused_until_it_is_tuned() {
    for pool in [
        Pool::with_capacity(0),
        Pool::builder().capacity(0).min_workers(0).build().unwrap(),
    ] {
        assert_eq!((pool.capacity(), pool.free(), pool.workers()), (0, 0, 0));
        assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
        let kind = refusal(pool.submit_timeout(|| {}, Duration::from_millis(5)));
        assert_eq!(kind, SubmitErrorKind::TimedOut);
        assert!(
            pool.wait_idle_timeout(Duration::ZERO),
            "nothing is in flight"
        );
        let ran = Arrivals::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let ran = ran.clone();
                expect_accepted(pool.submit(move || ran.arrive()));
            });
            eventually_waiting(&pool, 1);
            assert_eq!((ran.count(), pool.workers()), (0, 0));
            assert_eq!(pool.tune(1), 0);
        });
        ran.wait_for(1);
        assert_works(&pool);
    }
}

#[test]
fn a_pool_of_capacity_zero_can_be_released_and_dropped() {
    watchdog("the pools end", || {
        drop(Pool::with_capacity(0));
        let pool = Pool::with_capacity(0);
        pool.release_timeout(Duration::MAX).unwrap();
        let pool = Pool::with_capacity(0);
        assert_eq!(pool.release_now(), 0);
        pool.reboot();
        let pool = Pool::with_capacity(0);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| refusal(pool.submit(|| {})));
            eventually_waiting(&pool, 1);
            pool.release();
            assert_eq!(waiter.join().unwrap(), SubmitErrorKind::Closed);
        });
    });
}

#[test]
fn the_largest_sizes_are_sizes_like_any_other() {
    let largest = || Pool::builder().capacity(usize::MAX);
    for pool in [
        Pool::unbounded(),
        Pool::with_capacity(usize::MAX),
        largest().backlog(usize::MAX).build().unwrap(),
        largest().unbounded_backlog().build().unwrap(),
        largest().max_waiting(usize::MAX).build().unwrap(),
        Pool::builder()
            .capacity(2)
            .backlog(usize::MAX)
            .max_waiting(usize::MAX)
            .build()
            .unwrap(),
        largest()
            .backlog(usize::MAX - 1)
            .overflow(Overflow::DropOldest)
            .build()
            .unwrap(),
    ] {
        let capacity = pool.capacity();
        assert_works(&pool);
        let occupied = occupy(&pool, 2);
        assert_eq!(pool.free(), capacity - 2);
        for size in [0, 1, usize::MAX - 1, usize::MAX] {
            pool.tune(size);
            assert_eq!(pool.capacity(), size);
            assert_eq!(pool.free(), size.saturating_sub(2));
        }
        drop(occupied);
        pool.wait_idle();
        assert_works(&pool);
    }
}

#[test]
fn an_unbounded_pool_starts_a_thread_for_each_task_at_once_and_no_more() {
    let pool = Pool::unbounded();
    assert_eq!(pool.capacity(), usize::MAX);
    let occupied = occupy(&pool, 60);
    assert_eq!((pool.running(), pool.workers(), pool.queued()), (60, 60, 0));
    drop(occupied);
}

// ---- Times ----

#[test]
fn enormous_times_overflow_no_clock() {
    for timeout in ENORMOUS {
        watchdog("a pool with enormous times", move || {
            let pool = Pool::builder()
                .capacity(1)
                .idle_timeout(timeout)
                .build()
                .unwrap();
            expect_accepted(pool.submit_timeout(|| {}, timeout));
            assert!(pool.wait_idle_timeout(timeout));
            assert_eq!(pool.workers(), 1);
            let occupied = occupy(&pool, 1);
            thread::scope(|scope| {
                scope.spawn(|| expect_accepted(pool.submit_timeout(|| {}, timeout)));
                eventually_waiting(&pool, 1);
                occupied.end();
            });
            pool.release_timeout(timeout).unwrap();
        });
    }
}

#[test]
fn zero_times_are_over_at_once() {
    watchdog("a pool with zero times", || {
        let pool = Pool::builder()
            .capacity(1)
            .idle_timeout(Duration::ZERO)
            .build()
            .unwrap();
        let occupied = occupy(&pool, 1);
        let kind = refusal(pool.submit_timeout(|| {}, Duration::ZERO));
        assert_eq!(kind, SubmitErrorKind::TimedOut);
        assert!(!pool.wait_idle_timeout(Duration::ZERO));
        assert!(pool.release_timeout(Duration::ZERO).is_err());
        pool.reboot();
        occupied.end();
        pool.wait_idle();
        for _ in 0..100 {
            expect_accepted(pool.submit_timeout(|| {}, Duration::ZERO));
            pool.wait_idle();
        }
        eventually("the workers are gone", || pool.workers() == 0);
    });
}

/// Each worker of the minimum is below it once the others are gone: none may come and go for ever.
#[test]
fn a_minimum_of_workers_with_no_idle_timeout_is_kept_all_the_same() {
    let pool = Pool::builder()
        .capacity(4)
        .min_workers(2)
        .idle_timeout(Duration::ZERO)
        .build()
        .unwrap();
    drop(occupy(&pool, 4));
    pool.wait_idle();
    eventually("two workers are left", || pool.workers() == 2);
    let started = pool.stats().workers_started;
    let changed = support::becomes_true(Duration::from_millis(50), || {
        pool.workers() != 2 || pool.stats().workers_started != started
    });
    assert!(!changed, "{:?}", pool.stats());
}

// ---- Contradictions ----

#[test]
fn a_builder_that_contradicts_itself_is_an_error_and_starts_nothing() {
    fn error_of(builder: Builder) -> BuildError {
        let error = builder
            .on_worker_start(|_| panic!("no pool, no worker"))
            .build()
            .expect_err("the builder contradicts itself");
        assert!(!error.to_string().is_empty() && !format!("{error:?}").is_empty());
        error
    }
    assert!(matches!(
        error_of(Pool::builder().capacity(2).min_workers(3)),
        BuildError::MinWorkersAboveCapacity {
            min_workers: 3,
            capacity: 2
        }
    ));
    assert!(matches!(
        error_of(Pool::builder().capacity(0).min_workers(1)),
        BuildError::MinWorkersAboveCapacity { .. }
    ));
    assert!(matches!(
        error_of(Pool::builder().overflow(Overflow::DropOldest)),
        BuildError::DropOldestWithoutBacklog
    ));
    assert!(matches!(
        error_of(
            Pool::builder()
                .backlog(4)
                .overflow(Overflow::DropOldest)
                .backlog(0)
        ),
        BuildError::DropOldestWithoutBacklog
    ));
    assert!(matches!(
        error_of(Pool::builder().name("nul\0inside")),
        BuildError::NameContainsNul
    ));
    let _: Box<dyn Error + Send + Sync> = error_of(Pool::builder().name("\0")).into();
}

/// The order of the calls makes no difference.
#[test]
fn a_builder_is_judged_when_it_builds() {
    for builder in [
        Pool::builder().min_workers(3).capacity(3),
        Pool::builder().overflow(Overflow::DropOldest).backlog(1),
        Pool::builder()
            .overflow(Overflow::DropOldest)
            .unbounded_backlog(),
        Pool::builder().name(String::new()),
        Pool::builder().name("ein sehr langer Name, weit über fünfzehn Bytes 🐜"),
        Pool::builder().stack_size(0).stack_size(64 * 1024),
    ] {
        assert_works(&builder.build().unwrap());
    }
}

/// In a child process, since a stack that is too small ends it.
#[test]
fn a_stack_that_is_too_small_is_an_error_and_the_least_one_bears_a_panic() {
    let test = "a_stack_that_is_too_small_is_an_error_and_the_least_one_bears_a_panic";
    in_child_process(test, Duration::from_secs(60), || {
        // SAFETY: no other thread of this process looks at its environment, or has a panic, by now.
        unsafe { std::env::set_var("RUST_BACKTRACE", "full") };
        let build = |bytes| Pool::builder().capacity(1).stack_size(bytes).build();
        let mut accepted = None;
        for bytes in [0, 1, 4 * 1024, 16 * 1024, 32 * 1024, 64 * 1024 - 1] {
            let error = build(bytes).unwrap_err();
            let BuildError::StackSizeTooSmall { stack_size, least } = error else {
                panic!("{error:?}");
            };
            assert_eq!(stack_size, bytes);
            assert!(error.to_string().contains(&least.to_string()), "{error}");
            accepted = Some(least);
        }
        let pool = build(accepted.unwrap()).unwrap();
        let error = pool.spawn(|| panic!("{}", "of a task")).unwrap().join();
        assert!(error.unwrap_err().is_panic());
        expect_accepted(pool.submit(|| panic!("{}", "of another one")));
        pool.wait_idle();
        assert_eq!(
            (pool.stats().panicked, pool.stats().workers_started),
            (2, 1)
        );
        assert_works(&pool);
    });
}

/// No stack of that size can be had, here or anywhere: an error in one place or the other, and
/// neither a panic nor a task that is accepted and never runs.
#[test]
fn a_stack_size_that_the_system_refuses_is_an_error() {
    for bytes in [
        usize::MAX,
        usize::MAX - 4096,
        isize::MAX.unsigned_abs(),
        1 << (usize::BITS - 3),
        1 << (usize::BITS - 17),
    ] {
        match Pool::builder().capacity(1).stack_size(bytes).build() {
            Err(error) => {
                let expected = matches!(error, BuildError::StackSizeTooLarge { stack_size } if stack_size == bytes);
                assert!(expected, "{error:?}");
            }
            Ok(pool) => {
                let error = pool.submit(|| {}).unwrap_err();
                assert_eq!(error.kind(), SubmitErrorKind::NoThread, "{bytes}");
                assert!(error.source().is_some());
                assert_at_rest(&pool);
            }
        }
        // The minimum is started by `build`, which says that it cannot be.
        let built = Pool::builder()
            .capacity(1)
            .min_workers(1)
            .stack_size(bytes)
            .build();
        let error = built.expect_err("no thread has such a stack");
        assert!(
            matches!(
                error,
                BuildError::StackSizeTooLarge { .. } | BuildError::Thread(_)
            ),
            "{error:?}"
        );
    }
}

// ---- Waits and releases in odd places ----

#[test]
fn submit_after_release_is_refused_in_every_form() {
    let pool = Pool::with_capacity(1);
    expect_accepted(pool.submit(|| {}));
    pool.release_timeout(Duration::MAX).unwrap();
    assert_eq!(refusal(pool.submit(|| {})), SubmitErrorKind::Closed);
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Closed);
    for limit in [Duration::ZERO, Duration::MAX] {
        assert_eq!(
            refusal(pool.submit_timeout(|| {}, limit)),
            SubmitErrorKind::Closed
        );
    }
}

/// A pool whose second worker is in its start hook until the gate opens, and whose first one rests.
fn with_a_worker_in_its_hook(builder: Builder, gate: &Gate) -> Pool {
    let in_hook = Arrivals::new();
    let pool = builder
        .on_worker_start({
            let (gate, in_hook) = (gate.clone(), in_hook.clone());
            move |worker| {
                if worker.as_u64() == 1 {
                    in_hook.arrive();
                    gate.wait();
                }
            }
        })
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    expect_accepted(pool.submit(|| {}));
    in_hook.wait_for(1);
    occupied.end();
    pool.wait_idle();
    pool
}

#[test]
fn a_slow_start_hook_keeps_no_task_from_an_idle_worker() {
    for builder in [Pool::builder(), Pool::builder().unbounded_backlog()] {
        let gate = Gate::new();
        let pool = with_a_worker_in_its_hook(builder.capacity(2), &gate);
        let _gate = gate.opened_on_drop();
        let ran = Arrivals::new();
        for turn in 1..=10 {
            let inner = ran.clone();
            expect_accepted(pool.submit(move || inner.arrive()));
            ran.wait_for(turn);
            pool.wait_idle();
        }
    }
}

#[test]
fn a_slow_start_hook_keeps_no_task_from_the_capacity_that_is_left() {
    for builder in [Pool::builder(), Pool::builder().unbounded_backlog()] {
        let gate = Gate::new();
        let pool = with_a_worker_in_its_hook(builder.capacity(3), &gate);
        let _gate = gate.opened_on_drop();
        let occupied = occupy(&pool, 1);
        let ran = Arrivals::new();
        let inner = ran.clone();
        expect_accepted(pool.submit(move || inner.arrive()));
        ran.wait_for(1);
        drop(occupied);
    }
}

#[test]
fn a_hook_that_waits_on_the_pool_hangs_nobody() {
    let slot: Arc<Mutex<Option<PoolHandle>>> = Arc::default();
    let (started, stopped) = (Arrivals::new(), Arrivals::new());
    let wait = |slot: &Arc<Mutex<Option<PoolHandle>>>, times: &Arrivals| {
        let (slot, times) = (Arc::clone(slot), times.clone());
        move |_: WorkerId| {
            // Whether it panics or returns, it comes back: the panic of a hook is caught.
            let counted = DropCounter(times.clone());
            let pool = slot.lock().unwrap().clone();
            if let Some(pool) = pool {
                assert!(!pool.wait_idle_timeout(Duration::MAX));
                pool.wait_idle();
            }
            drop(counted);
        }
    };
    let pool = Pool::builder()
        .capacity(1)
        .idle_timeout(Duration::from_millis(1))
        .on_worker_start(wait(&slot, &started))
        .on_worker_stop(wait(&slot, &stopped))
        .build()
        .unwrap();
    *slot.lock().unwrap() = Some(pool.handle());
    for _ in 0..3 {
        let ran = Arrivals::new();
        let inner = ran.clone();
        expect_accepted(pool.submit(move || inner.arrive()));
        ran.wait_for(1);
    }
    started.wait_for(1);
    stopped.wait_for(1);
    watchdog("the pool ends", move || drop(pool));
}

#[test]
fn a_handler_that_waits_on_the_pool_hangs_nobody() {
    let (sender, receiver) = channel();
    let slot: Arc<Mutex<Option<PoolHandle>>> = Arc::default();
    let pool = Pool::builder()
        .capacity(1)
        .panic_handler({
            let slot = Arc::clone(&slot);
            move |_| {
                let pool = slot.lock().unwrap().clone().expect("there is a pool");
                let _ = sender.send(pool.wait_idle_timeout(Duration::MAX));
                pool.wait_idle();
            }
        })
        .build()
        .unwrap();
    *slot.lock().unwrap() = Some(pool.handle());
    expect_accepted(pool.submit(|| panic!("on purpose")));
    assert!(!receive("the handler was called", &receiver));
    assert_works(&pool);
    assert_eq!(pool.stats().panicked, 1);
}

/// A start hook may submit; on a worker, that waits for nothing.
#[test]
fn a_hook_that_submits_is_served() {
    let slot: Arc<Mutex<Option<PoolHandle>>> = Arc::default();
    let ran = Arrivals::new();
    let pool = Pool::builder()
        .capacity(1)
        .on_worker_start({
            let (slot, ran) = (Arc::clone(&slot), ran.clone());
            move |_| {
                let pool = slot.lock().unwrap().clone().expect("there is a pool");
                for _ in 0..3 {
                    let ran = ran.clone();
                    expect_accepted(pool.submit(move || ran.arrive()));
                }
            }
        })
        .build()
        .unwrap();
    *slot.lock().unwrap() = Some(pool.handle());
    let inner = ran.clone();
    expect_accepted(pool.submit(move || inner.arrive()));
    ran.wait_for(4);
    pool.wait_idle();
    assert_at_rest(&pool);
    assert_eq!(pool.stats().hook_panics, 0);
}

#[test]
fn a_stop_hook_that_submits_loses_nothing() {
    let slot: Arc<Mutex<Option<PoolHandle>>> = Arc::default();
    let (tries, ran) = (Arrivals::new(), Arrivals::new());
    let (sender, receiver) = channel();
    let pool = Pool::builder()
        .capacity(1)
        .idle_timeout(Duration::from_millis(1))
        .on_worker_stop({
            let (slot, tries, ran) = (Arc::clone(&slot), tries.clone(), ran.clone());
            move |_| {
                let pool = slot.lock().unwrap().clone().expect("there is a pool");
                if tries.count() < 5 {
                    tries.arrive();
                    let ran = ran.clone();
                    let _ = sender.send(pool.submit(move || ran.arrive()).is_ok());
                }
            }
        })
        .build()
        .unwrap();
    *slot.lock().unwrap() = Some(pool.handle());
    expect_accepted(pool.submit(|| {}));
    // Each worker that such a task starts comes to its end as well, and submits the next.
    tries.wait_for(5);
    let accepted = (0..5)
        .filter(|_| receive("a stop hook submitted", &receiver))
        .count();
    ran.wait_for(accepted);
    assert_eq!(accepted, 5, "the pool was open and had room");
    *slot.lock().unwrap() = None;
    drop(pool);
}

#[test]
fn a_pool_moved_into_its_own_task_ends() {
    let ran = Arrivals::new();
    let pool = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .build()
        .unwrap();
    let handle = pool.handle();
    expect_accepted(handle.submit({
        let ran = ran.clone();
        move || {
            let child = ran.clone();
            expect_accepted(pool.submit(move || child.arrive()));
            drop(pool);
            ran.arrive();
        }
    }));
    watchdog("the pool ends", move || {
        ran.wait_for(2);
        handle.release_timeout(Duration::MAX).unwrap();
        assert_eq!(handle.stats().completed, 2);
    });
}

/// The pool is dropped because the task that owns it is.
#[test]
fn a_pool_in_a_task_that_is_discarded_ends() {
    watchdog("the pool ends", || {
        let pool = Pool::builder()
            .capacity(1)
            .unbounded_backlog()
            .build()
            .unwrap();
        let handle = pool.handle();
        let occupied = occupy(&handle, 1);
        expect_accepted(handle.submit(move || drop(pool)));
        // The drop happens here, outside, and joins: the other task must be able to end.
        let other = handle.clone();
        let discarder = thread::spawn(move || other.release_now());
        eventually("the pool is closed", || handle.is_closed());
        occupied.end();
        assert_eq!(discarder.join().unwrap(), 1);
        handle.release_timeout(Duration::MAX).unwrap();
    });
}

/// The submitter's thread is no worker, but the task on it is the pool's, which cannot wait for it.
#[test]
fn a_pool_dropped_by_a_task_that_its_caller_runs_ends() {
    watchdog("the pool ends", || {
        let pool = Pool::builder()
            .capacity(1)
            .overflow(Overflow::CallerRuns)
            .build()
            .unwrap();
        let handle = pool.handle();
        let occupied = occupy(&handle, 1);
        expect_accepted(handle.submit(move || drop(pool)));
        assert!(handle.is_closed());
        occupied.end();
        handle.release_timeout(Duration::MAX).unwrap();
    });
}

#[test]
fn two_pools_that_own_each_other_end() {
    watchdog("both pools end", || {
        let (first, second) = (Pool::with_capacity(1), Pool::with_capacity(1));
        let handles = [first.handle(), second.handle()];
        let gate = Gate::new();
        for (handle, other) in handles.iter().zip([second, first]) {
            let gate = gate.clone();
            expect_accepted(handle.submit(move || {
                gate.wait();
                drop(other);
            }));
        }
        gate.open();
        for handle in handles {
            handle.release_timeout(Duration::MAX).unwrap();
        }
    });
}

/// It is dropped by whoever discards it, who waits for that drop to end.
#[test]
fn a_discarded_task_that_waits_for_its_pool_as_it_is_dropped_hangs_nobody() {
    struct WaitsOnDrop(PoolHandle, Arrivals);
    impl Drop for WaitsOnDrop {
        fn drop(&mut self) {
            let _ = self.0.wait_idle_timeout(Duration::MAX);
            let _ = self.0.release_timeout(Duration::MAX);
            self.1.arrive();
            self.0.wait_idle();
        }
    }
    let dropped = Arrivals::new();
    watchdog("the discarded tasks are dropped", {
        let dropped = dropped.clone();
        move || {
            let pool = Pool::builder()
                .capacity(1)
                .backlog(1)
                .overflow(Overflow::DropOldest)
                .build()
                .unwrap();
            let occupied = occupy(&pool, 1);
            let captured = WaitsOnDrop(pool.handle(), dropped.clone());
            expect_accepted(pool.submit(move || drop(captured)));
            // Discarded to make room, which closes the pool; so this one may be refused.
            let captured = WaitsOnDrop(pool.handle(), dropped.clone());
            let result = pool.submit(move || drop(captured));
            assert_eq!(dropped.count(), 1);
            pool.reboot();
            pool.release_now();
            occupied.end();
            drop(result);
        }
    });
}

// ---- Drops that panic ----

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a drop that panics");
    }
}

/// An escape of any of these panics would end a worker, or abort; so it is a process of its own.
#[test]
fn drops_that_panic_cost_their_task_and_nothing_else() {
    let test = "drops_that_panic_cost_their_task_and_nothing_else";
    in_child_process(test, Duration::from_secs(60), || {
        for overflow in [Overflow::Block, Overflow::CallerRuns, Overflow::DropOldest] {
            let pool = Pool::builder()
                .capacity(1)
                .backlog(1)
                .overflow(overflow)
                .build()
                .unwrap();
            let submit = |pool: &PoolHandle, number: usize| match number % 3 {
                0 => pool.submit(|| {}).is_ok(),
                1 => pool.submit(|| std::panic::panic_any(Bomb)).is_ok(),
                _ => {
                    let captured = Bomb;
                    let task = move || {
                        let _dropped_at_the_end = &captured;
                    };
                    pool.submit(task).is_ok()
                }
            };
            for number in 0..30 {
                assert!(submit(&pool, number));
            }
            pool.wait_idle();
            assert_at_rest(&pool);
            let stats = pool.stats();
            assert_eq!(stats.submitted, 30, "{stats:?}");
            assert_eq!(stats.workers_started, 1, "{stats:?}");
            if overflow != Overflow::DropOldest {
                assert_eq!((stats.completed, stats.panicked), (10, 20), "{stats:?}");
            }
            assert_works(&pool);
        }
    });
}

/// A closure that comes back in an error is the caller's: its drop panics where the caller drops it.
#[test]
fn a_refused_closure_whose_drop_panics_does_so_in_the_caller() {
    let pool = Pool::with_capacity(1);
    pool.release();
    let captured = Bomb;
    let error = pool
        .submit(move || {
            let _dropped_at_the_end = &captured;
        })
        .unwrap_err();
    let dropped = catch_unwind(std::panic::AssertUnwindSafe(|| drop(error)));
    assert!(dropped.is_err());
    assert_eq!(pool.stats().panicked, 0);
}

// ---- Errors ----

/// Neither `Sync` nor `Debug`, and not to be copied.
fn awkward_closure(ran: &Arrivals) -> impl FnOnce() + Send + 'static {
    let (cell, ran) = (Cell::new(1), ran.clone());
    move || {
        cell.set(cell.get() + 1);
        ran.arrive();
    }
}

#[test]
fn submit_errors_cross_threads_whatever_the_closure_is() {
    fn is_send_and_sync<T: Send + Sync>(_: &T) {}
    let pool = Pool::with_capacity(1);
    pool.release();
    let ran = Arrivals::new();
    let error = pool.submit(awkward_closure(&ran)).unwrap_err();
    is_send_and_sync(&error);
    assert!(!format!("{error:?}").is_empty() && !error.to_string().is_empty());
    let task = thread::spawn(move || error.into_inner()).join().unwrap();
    task();
    assert_eq!(ran.count(), 1);
}

#[test]
fn submit_errors_turn_into_boxed_errors() {
    fn fails(pool: &PoolHandle, ran: &Arrivals) -> Result<(), Box<dyn Error + Send + Sync>> {
        pool.submit(awkward_closure(ran))?;
        Ok(())
    }
    let pool = Pool::with_capacity(1);
    let ran = Arrivals::new();
    fails(&pool, &ran).unwrap();
    ran.wait_for(1);
    pool.release();
    let error = fails(&pool, &ran).unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(error.source().is_none());
}

#[test]
fn every_kind_of_submit_error_says_something_of_its_own() {
    let kinds = [
        SubmitErrorKind::Full,
        SubmitErrorKind::TooManyWaiting,
        SubmitErrorKind::TimedOut,
        SubmitErrorKind::Closed,
        SubmitErrorKind::NoThread,
    ];
    for (at, kind) in kinds.iter().enumerate() {
        let copy = *kind;
        assert_eq!(copy, *kind);
        for other in &kinds[at + 1..] {
            assert_ne!(kind, other);
            assert_ne!(format!("{kind:?}"), format!("{other:?}"));
        }
    }
    // As they come out of a pool.
    let pool = Pool::builder().capacity(1).max_waiting(0).build().unwrap();
    let occupied = occupy(&pool, 1);
    let mut messages = vec![
        pool.try_submit(|| {}).unwrap_err().to_string(),
        pool.submit(|| {}).unwrap_err().to_string(),
    ];
    pool.release();
    messages.push(pool.submit(|| {}).unwrap_err().to_string());
    drop(occupied);
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), 3, "{messages:?}");
}

#[test]
fn into_parts_gives_the_reason_and_the_closure() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let ran = Arrivals::new();
    let (kind, task) = pool
        .try_submit(awkward_closure(&ran))
        .unwrap_err()
        .into_parts();
    task();
    assert_eq!((kind, ran.count()), (SubmitErrorKind::Full, 1));
    drop(occupied);
}

// ---- Auto traits ----

#[test]
fn the_types_have_the_auto_traits_that_they_promise() {
    fn everywhere<T: Send + Sync + Debug + UnwindSafe + RefUnwindSafe + Unpin + 'static>() {}
    fn is_error<T: Error + Send + Sync + Display + 'static>() {}
    fn is_send<T: Send + Debug>() {}
    fn is_debug<T: Debug>() {}
    fn is_clone<T: Clone>() {}
    fn is_id<T: Copy + Ord + std::hash::Hash + Debug + Display>() {}
    fn is_plain<T: Copy + Eq + Debug>() {}

    everywhere::<Pool>();
    everywhere::<PoolHandle>();
    everywhere::<Stats>();
    everywhere::<SubmitErrorKind>();
    everywhere::<ReleaseTimeout>();
    everywhere::<Overflow>();
    everywhere::<WorkerId>();
    is_error::<SubmitError<fn()>>();
    is_error::<SubmitError<Box<dyn FnOnce() + Send>>>();
    is_error::<ReleaseTimeout>();
    is_error::<BuildError>();

    is_send::<TaskPanic>();
    is_debug::<Builder>();
    is_clone::<PoolHandle>();
    is_id::<WorkerId>();
    is_plain::<SubmitErrorKind>();
    let refused = BuildError::Thread(io::Error::other("no thread"));
    assert!(refused.source().is_some());
}

#[test]
fn debug_of_a_pool_shows_its_state_and_never_waits() {
    let pool = Pool::builder().capacity(7).backlog(3).build().unwrap();
    let occupied = occupy(&pool, 2);
    for text in [format!("{pool:?}"), format!("{:?}", pool.handle())] {
        assert!(text.contains("Pool") && text.contains('7'), "{text}");
    }
    drop(occupied);
}

#[test]
fn a_pool_may_be_used_through_an_unwind_boundary() {
    let pool = Pool::with_capacity(1);
    let result = catch_unwind(|| {
        expect_accepted(pool.submit(|| {}));
        panic!("on purpose");
    });
    assert!(result.is_err());
    assert_works(&pool);
}

#[test]
fn worker_ids_count_from_zero_and_are_not_used_again() {
    let (sender, receiver) = channel();
    let pool = Pool::builder()
        .capacity(1)
        .name("counted")
        .idle_timeout(Duration::from_millis(1))
        .on_worker_start(move |worker| {
            let _ = sender.send((worker, thread::current().name().map(ToOwned::to_owned)));
        })
        .build()
        .unwrap();
    for number in 0..4 {
        expect_accepted(pool.submit(|| {}));
        let (worker, name) = receive("a worker started", &receiver);
        assert_eq!(worker.as_u64(), number);
        assert_eq!(worker.to_string(), number.to_string());
        assert_eq!(name, Some(format!("counted-{number}")));
        eventually("the worker expires", || pool.workers() == 0);
    }
}

#[test]
fn threads_are_named_anthill_unless_told_otherwise() {
    let (sender, receiver) = channel();
    let pool = Pool::with_capacity(1);
    expect_accepted(pool.submit(move || {
        let _ = sender.send(thread::current().name().map(ToOwned::to_owned));
    }));
    assert_eq!(
        receive("the task ran", &receiver).as_deref(),
        Some("anthill-0")
    );
}

/// What the worker is called here, and what the system calls it, from before its start hook on.
#[cfg(target_os = "linux")]
fn names_of_worker(name: &str, number: usize) -> (String, String) {
    let shown = || std::fs::read_to_string("/proc/thread-self/comm").expect("/proc is mounted");
    let (sender, receiver) = channel();
    let (hook, task) = (sender.clone(), sender);
    let pool = Pool::builder()
        .capacity(number + 1)
        .name(name)
        .on_worker_start(move |worker| {
            if usize::try_from(worker.as_u64()) == Ok(number) {
                let name = thread::current().name().map(ToOwned::to_owned);
                hook.send((name.unwrap(), shown())).unwrap();
            }
        })
        .build()
        .unwrap();
    let busy = occupy(&pool, number);
    expect_accepted(pool.submit(move || {
        let name = thread::current().name().map(ToOwned::to_owned);
        task.send((name.unwrap(), shown())).unwrap();
    }));
    let in_hook = receive("the hook ran", &receiver);
    assert_eq!(in_hook, receive("the task ran", &receiver));
    busy.end();
    (in_hook.0, in_hook.1.trim_end_matches('\n').to_owned())
}

#[cfg(target_os = "linux")]
#[test]
fn the_system_shows_the_number_of_a_worker_whose_name_is_long() {
    for (name, number, full, shown) in [
        ("mail", 0, "mail-0", "mail-0"),
        ("exactly15byte", 1, "exactly15byte-1", "exactly15byte-1"),
        (
            "averylongpoolname",
            0,
            "averylongpoolname-0",
            "averylongpool-0",
        ),
        (
            "averylongpoolname",
            12,
            "averylongpoolname-12",
            "averylongpoo-12",
        ),
        ("größere Ämter", 2, "größere Ämter-2", "größere Äm-2"),
        ("🐜🐜🐜🐜", 10, "🐜🐜🐜🐜-10", "🐜🐜🐜-10"),
        ("", 0, "0", "0"),
        ("", 3, "3", "3"),
    ] {
        let names = names_of_worker(name, number);
        assert_eq!(names, (full.to_owned(), shown.to_owned()));
    }
}

#[test]
fn hooks_run_on_their_worker_once_each() {
    let calls = support::Log::new();
    let hook = |what: &'static str| {
        let calls = calls.clone();
        move |worker: WorkerId| calls.push((what, worker.as_u64(), thread::current().id()))
    };
    let pool = Pool::builder()
        .capacity(3)
        .on_worker_start(hook("start"))
        .on_worker_stop(hook("stop"))
        .build()
        .unwrap();
    drop(occupy(&pool, 3));
    pool.release_timeout(Duration::MAX).unwrap();
    let calls = calls.entries();
    for number in 0..3 {
        let of_worker: Vec<_> = calls.iter().filter(|call| call.1 == number).collect();
        assert_eq!(of_worker.len(), 2, "{calls:?}");
        assert_eq!(
            (of_worker[0].0, of_worker[1].0),
            ("start", "stop"),
            "{calls:?}"
        );
        assert_eq!(of_worker[0].2, of_worker[1].2, "on one thread: {calls:?}");
    }
    assert_eq!(calls.len(), 6);
}

#[test]
fn a_task_begins_after_the_start_hook_of_its_worker() {
    let calls = support::Log::new();
    let pool = Pool::builder()
        .capacity(1)
        .on_worker_start({
            let calls = calls.clone();
            move |_| calls.push("start")
        })
        .build()
        .unwrap();
    let inner = calls.clone();
    expect_accepted(pool.submit(move || inner.push("task")));
    pool.wait_idle();
    assert_eq!(calls.entries(), ["start", "task"]);
}

#[test]
fn the_stack_has_the_size_that_was_asked_for() {
    #[inline(never)]
    fn deep(levels: usize) -> usize {
        let frame = [levels; 128];
        let below = if levels == 0 { 0 } else { deep(levels - 1) };
        std::hint::black_box(&frame)[levels % 128] / levels.max(1) + below
    }
    // About 20 MiB in frames of a kilobyte and more: beyond any default.
    let (sender, receiver) = channel();
    let pool = Pool::builder()
        .capacity(1)
        .stack_size(64 * 1024 * 1024)
        .build()
        .unwrap();
    expect_accepted(pool.submit(move || {
        let _ = sender.send(deep(15_000));
    }));
    assert_eq!(receive("the task ran", &receiver), 15_000);
}
