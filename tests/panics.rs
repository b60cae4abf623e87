//! Panics and user code: P12 (a panic costs one task) and P13 (user code never runs under a lock of
//! the pool).

mod support;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anthill::{Builder, Overflow, Pool, PoolHandle, TaskPanic, WorkerId};
use support::{
    Arrivals, Gate, Log, assert_at_rest, eventually_eq, expect_accepted, in_child_process, occupy,
    receive, watchdog,
};

/// Panics as it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped: {}", self.0);
    }
}

/// A closure that holds `captured` until it has run.
fn holding<T: Send + 'static>(captured: T) -> impl FnOnce() + Send + 'static {
    move || {
        let _dropped_at_the_end = &captured;
    }
}

// ---- P12: a panic costs one task ----

#[test]
fn p12_the_worker_survives_a_panic() {
    let pool = Pool::with_capacity(1);
    let threads = Log::new();
    for number in 0..10 {
        let threads = threads.clone();
        expect_accepted(pool.submit(move || {
            threads.push(thread::current().id());
            assert!(number % 2 != 0, "on purpose");
        }));
    }
    pool.wait_idle();
    let threads = threads.entries();
    assert_eq!(threads.len(), 10);
    assert!(threads.iter().all(|thread| *thread == threads[0]));
    let stats = pool.stats();
    assert_eq!(
        (stats.panicked, stats.completed, stats.workers_started),
        (5, 5, 1),
        "{stats:?}"
    );
    assert_at_rest(&pool);
}

#[test]
fn p12_the_handler_runs_on_the_worker_of_the_task_and_is_told_what_happened() {
    let (sender, receiver) = channel();
    let pool = Pool::builder()
        .capacity(1)
        .name("told")
        .panic_handler(move |panic: TaskPanic| {
            let _ = sender.send((thread::current().id(), panic));
        })
        .build()
        .unwrap();
    let (worker, threads) = channel();
    let submit_panic = |payload: Box<dyn FnOnce() + Send>| {
        let worker = worker.clone();
        expect_accepted(pool.submit(move || {
            let _ = worker.send(thread::current().id());
            payload();
        }));
        let (handled_on, panic) = receive("the handler was called", &receiver);
        assert_eq!(handled_on, receive("the task ran", &threads));
        assert_eq!(panic.worker().map(WorkerId::as_u64), Some(0));
        assert_eq!(panic.thread_name(), Some("told-0"));
        assert!(!format!("{panic:?}").is_empty());
        panic
    };

    let panic = submit_panic(Box::new(|| panic!("a literal")));
    assert_eq!(panic.message(), Some("a literal"));
    assert_eq!(panic.payload().downcast_ref::<&str>(), Some(&"a literal"));

    let panic = submit_panic(Box::new(|| panic!("formatted: {}", 7)));
    assert_eq!(panic.message(), Some("formatted: 7"));

    let panic = submit_panic(Box::new(|| panic_any(42_u8)));
    assert_eq!(panic.message(), None);
    assert_eq!(panic.into_payload().downcast_ref::<u8>(), Some(&42));

    pool.wait_idle();
    assert_eq!(pool.stats().panicked, 3);
}

/// A handler of its own for each worker: made on it, called on it alone, and free to keep state.
#[test]
fn p12_a_handler_per_worker_is_made_once_for_each_and_called_only_there() {
    let made = Log::new();
    let calls = Log::new();
    let pool = Pool::builder()
        .capacity(4)
        .keep_workers()
        .panic_handler_per_worker({
            let (made, calls) = (made.clone(), calls.clone());
            move |worker| {
                made.push((worker, thread::current().id()));
                let calls = calls.clone();
                let mut count = 0;
                move |panic: TaskPanic| {
                    count += 1;
                    calls.push((worker, panic.worker(), thread::current().id(), count));
                }
            }
        })
        .build()
        .unwrap();
    for _ in 0..10 {
        // All four at once, so that each worker has one.
        let gate = Gate::new();
        let arrived = Arrivals::new();
        for _ in 0..4 {
            let (gate, arrived) = (gate.clone(), arrived.clone());
            expect_accepted(pool.submit(move || {
                arrived.arrive();
                gate.wait();
                panic!("on purpose");
            }));
        }
        arrived.wait_for(4);
        gate.open();
        pool.wait_idle();
    }
    let made: HashMap<_, _> = {
        let entries = made.entries();
        assert_eq!(entries.len(), 4, "{entries:?}");
        entries.into_iter().collect()
    };
    assert_eq!(made.len(), 4, "each for another worker");
    let mut counts: HashMap<_, Vec<i32>> = HashMap::new();
    for (handler_of, worker, thread, count) in calls.entries() {
        assert_eq!(worker, Some(handler_of));
        assert_eq!(
            thread, made[&handler_of],
            "made and called on the same worker"
        );
        counts.entry(handler_of).or_default().push(count);
    }
    for (worker, counts) in counts {
        assert_eq!(
            counts,
            (1..=10).collect::<Vec<_>>(),
            "worker {worker} kept its state"
        );
    }
}

/// It may own what must not leave the thread, so it ends where it lived, before the thread does.
#[test]
fn p12_the_handler_of_a_worker_is_dropped_on_its_worker() {
    struct Tells(Log<(&'static str, thread::ThreadId)>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.push(("dropped", thread::current().id()));
        }
    }
    let log = Log::new();
    let pool = Pool::builder()
        .capacity(2)
        .panic_handler_per_worker({
            let log = log.clone();
            move |_| {
                log.push(("made", thread::current().id()));
                let held = Tells(log.clone());
                move |_| {
                    let _held = &held;
                }
            }
        })
        .build()
        .unwrap();
    drop(occupy(&pool, 2));
    pool.release_timeout(Duration::MAX).unwrap();
    let entries = log.entries();
    let threads_that = |what| -> HashSet<_> {
        let entries = entries.iter().filter(|entry| entry.0 == what);
        entries.map(|entry| entry.1).collect()
    };
    assert_eq!((entries.len(), threads_that("made").len()), (4, 2));
    assert_eq!(threads_that("made"), threads_that("dropped"));
}

#[test]
fn p12_a_panic_in_the_handler_is_caught_and_the_task_is_counted_once() {
    let (told, calls) = channel();
    let shared = Pool::builder().capacity(1).panic_handler({
        let told = told.clone();
        move |_| {
            let _ = told.send(());
            panic!("in the handler");
        }
    });
    let per_worker = Pool::builder()
        .capacity(1)
        .panic_handler_per_worker(move |_| {
            let told = told.clone();
            move |_| {
                let _ = told.send(());
                panic!("in the handler");
            }
        });
    for builder in [shared, per_worker] {
        let pool = builder.build().unwrap();
        for _ in 0..3 {
            expect_accepted(pool.submit(|| panic!("in the task")));
            receive("the handler was called", &calls);
        }
        expect_accepted(pool.submit(|| {}));
        pool.wait_idle();
        let stats = pool.stats();
        assert_eq!(
            (stats.panicked, stats.completed, stats.workers_started),
            (3, 1, 1),
            "{stats:?}"
        );
        assert_at_rest(&pool);
    }
}

/// The closure itself returned, so what it captured is dropped with no other panic under way.
#[test]
fn p12_a_panic_in_the_drop_of_a_capture_is_caught_and_counted_once() {
    let (sender, receiver) = channel();
    let pool = Pool::builder()
        .capacity(1)
        .panic_handler(move |panic: TaskPanic| {
            let _ = sender.send(panic.message().map(ToOwned::to_owned));
        })
        .build()
        .unwrap();
    expect_accepted(pool.submit(holding(Bomb("a capture"))));
    let message = receive("the handler was told", &receiver);
    assert_eq!(message.as_deref(), Some("dropped: a capture"));
    expect_accepted(pool.submit(|| {}));
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!(
        (stats.panicked, stats.completed, stats.workers_started),
        (1, 1, 1),
        "{stats:?}"
    );
    assert_at_rest(&pool);
}

/// What is discarded never ran, and counts as discarded alone.
#[test]
fn p12_a_panic_in_the_drop_of_a_discarded_task_is_caught() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(2)
        .overflow(Overflow::DropOldest)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    for _ in 0..5 {
        expect_accepted(pool.submit(holding(Bomb("a discarded capture"))));
    }
    assert_eq!(pool.stats().discarded, 3);
    assert_eq!(pool.release_now(), 2);
    occupied.end();
    pool.release_timeout(Duration::MAX).unwrap();
    let stats = pool.stats();
    assert_eq!(
        (stats.discarded, stats.panicked, stats.completed),
        (5, 0, 1),
        "{stats:?}"
    );
}

/// In each place in which a payload can be dropped, also while another panic unwinds; where that
/// were not caught, the process would abort, so it is a process of its own.
#[test]
fn p12_a_payload_whose_drop_panics_is_caught_and_counted_once() {
    let test = "p12_a_payload_whose_drop_panics_is_caught_and_counted_once";
    in_child_process(test, Duration::from_secs(60), || {
        let builders: [(&str, Builder); 6] = [
            ("no handler", Pool::builder()),
            (
                "a handler that drops it",
                Pool::builder().panic_handler(drop),
            ),
            (
                "a handler that takes the payload",
                Pool::builder().panic_handler(|panic: TaskPanic| drop(panic.into_payload())),
            ),
            (
                "a handler that panics with it",
                Pool::builder().panic_handler(|panic: TaskPanic| {
                    std::panic::resume_unwind(panic.into_payload())
                }),
            ),
            (
                "a handler that panics and drops it during the unwind",
                Pool::builder().panic_handler(|_panic: TaskPanic| panic!("in the handler")),
            ),
            (
                "a handler per worker that panics during the unwind",
                Pool::builder()
                    .panic_handler_per_worker(|_| |_panic: TaskPanic| panic!("in the handler")),
            ),
        ];
        for (what, builder) in builders {
            let pool = builder.capacity(1).build().unwrap();
            for _ in 0..3 {
                expect_accepted(pool.submit(|| panic_any(Bomb("a payload"))));
            }
            expect_accepted(pool.submit(|| {}));
            pool.wait_idle();
            let stats = pool.stats();
            assert_eq!(
                (stats.panicked, stats.completed, stats.workers_started),
                (3, 1, 1),
                "{what}: {stats:?}"
            );
            assert_at_rest(&pool);
        }
    });
}

/// A payload of which each drop panics with another such payload.
#[test]
fn p12_a_payload_whose_drop_panics_for_ever_is_let_go() {
    struct Hydra;
    impl Drop for Hydra {
        fn drop(&mut self) {
            panic_any(Hydra);
        }
    }
    let test = "p12_a_payload_whose_drop_panics_for_ever_is_let_go";
    in_child_process(test, Duration::from_secs(60), || {
        let pool = Pool::with_capacity(1);
        expect_accepted(pool.submit(|| panic_any(Hydra)));
        expect_accepted(pool.submit(holding(Hydra)));
        expect_accepted(pool.submit(|| {}));
        pool.wait_idle();
        let stats = pool.stats();
        assert_eq!((stats.panicked, stats.completed), (2, 1), "{stats:?}");
    });
}

#[test]
fn p12_a_panic_in_a_hook_costs_nothing_but_a_count() {
    let pool = Pool::builder()
        .capacity(2)
        .keep_workers()
        .on_worker_start(|_| panic!("in the start hook"))
        .on_worker_stop(|_| panic!("in the stop hook"))
        .build()
        .unwrap();
    let ran = Arrivals::new();
    for _ in 0..20 {
        let ran = ran.clone();
        expect_accepted(pool.submit(move || ran.arrive()));
    }
    drop(occupy(&pool, 2));
    pool.wait_idle();
    assert_eq!((ran.count(), pool.stats().hook_panics), (20, 2));
    pool.release_timeout(Duration::MAX).unwrap();
    let stats = pool.stats();
    assert_eq!(
        (stats.hook_panics, stats.panicked, stats.completed),
        (4, 0, 22),
        "{stats:?}"
    );
}

#[test]
fn p12_a_panic_in_the_handler_factory_costs_the_handler_only() {
    let pool = Pool::builder()
        .capacity(1)
        .panic_handler_per_worker(|_| -> fn(TaskPanic) { panic!("in the factory") })
        .build()
        .unwrap();
    expect_accepted(pool.submit(|| {}));
    expect_accepted(pool.submit(|| panic!("in the task")));
    expect_accepted(pool.submit(|| {}));
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!(
        (stats.completed, stats.panicked, stats.workers_started),
        (2, 1, 1),
        "{stats:?}"
    );
    assert_eq!(stats.hook_panics, 1);
}

#[test]
fn p12_without_a_handler_the_standard_hook_has_printed_the_panic() {
    let test = "p12_without_a_handler_the_standard_hook_has_printed_the_panic";
    let printed = Log::new();
    in_child_process(test, Duration::from_secs(60), || {
        let hook = printed.clone();
        std::panic::set_hook(Box::new(move |info| hook.push(info.to_string())));
        let pool = Pool::with_capacity(1);
        expect_accepted(pool.submit(|| panic!("nobody handles this")));
        pool.wait_idle();
        let _ = std::panic::take_hook();
        assert_eq!(printed.len(), 1, "{:?}", printed.entries());
        assert!(printed.entries()[0].contains("nobody handles this"));
        assert_eq!(pool.stats().panicked, 1);
    });
}

/// Panics give their room back and wake who waits for it.
#[test]
fn p12_panics_strand_no_waiter() {
    watchdog("all submitters get in", || {
        let pool = Pool::builder()
            .capacity(2)
            .panic_handler(|_| {})
            .build()
            .unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        expect_accepted(pool.submit(|| std::panic::resume_unwind(Box::new(()))));
                    }
                });
            }
        });
        pool.wait_idle();
        assert_eq!(pool.stats().panicked, 400);
        drop(occupy(&pool, 2));
        pool.wait_idle();
        assert_at_rest(&pool);
    });
}

// ---- P13: user code never runs under a lock of the pool ----

/// Calls whatever a handle offers, from another thread and from this one. Under a lock of the pool
/// one of the calls would wait for ever, and the test with it.
fn touch_everything(pool: &PoolHandle) {
    let touch = |pool: &PoolHandle| {
        let _ = pool.try_submit(|| {});
        let _ = pool.submit_timeout(|| {}, Duration::from_micros(10));
        pool.tune(2);
        let _ = (pool.workers(), pool.idle(), pool.running(), pool.queued());
        let _ = (pool.waiting(), pool.free(), pool.is_closed(), pool.stats());
        let _ = format!("{pool:?}");
        let _ = pool.wait_idle_timeout(Duration::from_micros(10));
        let _ = PoolHandle::current();
    };
    let other = pool.clone();
    thread::spawn(move || touch(&other))
        .join()
        .expect("the other thread came through");
    let touch = |pool: &PoolHandle| {
        let _ = pool.try_submit(|| {});
        let _ = pool.submit_timeout(|| {}, Duration::ZERO);
        let _ = (pool.stats(), pool.waiting(), format!("{pool:?}"));
        let _ = pool.wait_idle_timeout(Duration::ZERO);
    };
    touch(pool);
}

/// Where the pool's handle is put once there is one, for hooks that are made before it.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<PoolHandle>>>);

impl Slot {
    fn put(&self, pool: &PoolHandle) {
        *self.0.lock().unwrap() = Some(pool.clone());
    }

    fn touch(&self) {
        // Clones outside the lock: what is touched may come back here.
        let pool = self.0.lock().unwrap().clone();
        touch_everything(&pool.expect("the pool is made before anything runs"));
    }
}

struct TouchesOnDrop {
    pool: PoolHandle,
    dropped: Arrivals,
}

impl Drop for TouchesOnDrop {
    fn drop(&mut self) {
        touch_everything(&self.pool);
        self.dropped.arrive();
    }
}

#[test]
fn p13_a_task_does_not_run_under_a_lock() {
    for capacity in [1, 3] {
        let pool = Pool::builder()
            .capacity(capacity)
            .backlog(2)
            .build()
            .unwrap();
        let done = Arrivals::new();
        for _ in 0..5 {
            let (handle, done) = (pool.handle(), done.clone());
            expect_accepted(pool.submit(move || {
                touch_everything(&handle);
                done.arrive();
            }));
        }
        done.wait_for(5);
    }
}

#[test]
fn p13_the_drop_of_a_capture_does_not_run_under_a_lock() {
    let pool = Pool::with_capacity(1);
    let dropped = Arrivals::new();
    for panics in [false, true] {
        let captured = TouchesOnDrop {
            pool: pool.handle(),
            dropped: dropped.clone(),
        };
        expect_accepted(pool.submit(move || {
            let _dropped_at_the_end = &captured;
            assert!(!panics, "on purpose");
        }));
        pool.wait_idle();
    }
    dropped.wait_for(2);
}

#[test]
fn p13_the_drop_of_a_discarded_task_does_not_run_under_a_lock() {
    let dropped = Arrivals::new();
    watchdog("release_now returns", {
        let dropped = dropped.clone();
        move || {
            let pool = Pool::builder().capacity(1).backlog(10).build().unwrap();
            let occupied = occupy(&pool, 1);
            for _ in 0..4 {
                expect_accepted(pool.submit(holding(TouchesOnDrop {
                    pool: pool.handle(),
                    dropped: dropped.clone(),
                })));
            }
            pool.release_now();
            drop(occupied);
        }
    });
    // A worker may have dropped some of them, as the first drop raised the capacity.
    assert_eq!(dropped.count(), 4);
}

#[test]
fn p13_a_task_discarded_to_make_room_does_not_drop_under_a_lock() {
    let dropped = Arrivals::new();
    watchdog("submit returns", {
        let dropped = dropped.clone();
        move || {
            let pool = Pool::builder()
                .capacity(1)
                .backlog(1)
                .overflow(Overflow::DropOldest)
                .build()
                .unwrap();
            let occupied = occupy(&pool, 1);
            let captured = TouchesOnDrop {
                pool: pool.handle(),
                dropped,
            };
            expect_accepted(pool.submit(holding(captured)));
            expect_accepted(pool.submit(|| {}));
            drop(occupied);
        }
    });
    assert_eq!(dropped.count(), 1);
}

#[test]
fn p13_the_payload_of_a_panic_does_not_drop_under_a_lock() {
    for handled in [false, true] {
        let builder = if handled {
            Pool::builder().panic_handler(|_| {})
        } else {
            Pool::builder()
        };
        let pool = builder.capacity(1).build().unwrap();
        let dropped = Arrivals::new();
        let payload = TouchesOnDrop {
            pool: pool.handle(),
            dropped: dropped.clone(),
        };
        expect_accepted(pool.submit(move || panic_any(payload)));
        dropped.wait_for(1);
    }
}

#[test]
fn p13_handlers_do_not_run_under_a_lock() {
    let slot = Slot::default();
    let called = Arrivals::new();
    let shared = Pool::builder().panic_handler({
        let (slot, called) = (slot.clone(), called.clone());
        move |_| {
            slot.touch();
            called.arrive();
        }
    });
    let per_worker = Pool::builder().panic_handler_per_worker({
        let (slot, called) = (slot.clone(), called.clone());
        move |_| {
            slot.touch();
            let (slot, called) = (slot.clone(), called.clone());
            move |_| {
                slot.touch();
                called.arrive();
            }
        }
    });
    for (number, builder) in [shared, per_worker].into_iter().enumerate() {
        let pool = builder.capacity(1).build().unwrap();
        slot.put(&pool);
        expect_accepted(pool.submit(|| panic!("on purpose")));
        called.wait_for(number + 1);
    }
}

#[test]
fn p13_hooks_do_not_run_under_a_lock() {
    let slot = Slot::default();
    let (started, stopped) = (Arrivals::new(), Arrivals::new());
    let pool = Pool::builder()
        .capacity(2)
        .idle_timeout(Duration::from_millis(1))
        .on_worker_start({
            let (slot, started) = (slot.clone(), started.clone());
            move |_| {
                slot.touch();
                started.arrive();
            }
        })
        .on_worker_stop({
            let (slot, stopped) = (slot.clone(), stopped.clone());
            move |_| {
                // What it submits starts workers, which end and come here: once is enough.
                if stopped.count() == 0 {
                    slot.touch();
                }
                stopped.arrive();
            }
        })
        .build()
        .unwrap();
    slot.put(&pool);
    expect_accepted(pool.submit(|| {}));
    started.wait_for(1);
    stopped.wait_for(1);
    let handle = pool.handle();
    watchdog("the pool ends", move || drop(pool));
    eventually_eq("workers", 0, || handle.workers());
}

/// By then the thread is on its way out and thread-locals of the engine may be gone; a panic would
/// abort the process.
#[test]
fn p13_a_thread_local_of_a_worker_may_use_the_pool_as_it_is_dropped() {
    struct Reads(PoolHandle, Arrivals);
    impl Drop for Reads {
        fn drop(&mut self) {
            let _ = self.0.stats();
            let _ = self.0.workers();
            let _ = self.0.submit(|| {});
            let _ = PoolHandle::current();
            self.1.arrive();
        }
    }
    thread_local! {
        static LEFT: RefCell<Option<Reads>> = const { RefCell::new(None) };
    }
    let pool = Pool::with_capacity(2);
    let dropped = Arrivals::new();
    let left = Reads(pool.handle(), dropped.clone());
    expect_accepted(pool.submit(move || LEFT.with(|slot| *slot.borrow_mut() = Some(left))));
    pool.wait_idle();
    watchdog("the pool ends", move || drop(pool));
    assert_eq!(dropped.count(), 1);
}

/// A closure that comes back is dropped by whoever gets it, and a waiter's closure that is sent
/// back on closing is not dropped by the one who closes.
#[test]
fn p13_the_closures_of_waiters_are_not_dropped_by_who_closes() {
    struct Tells(Log<thread::ThreadId>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.push(thread::current().id());
        }
    }
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let dropped_on = Log::new();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let result = pool.submit(holding(Tells(dropped_on.clone())));
            assert!(result.is_err());
        });
        support::eventually_waiting(&pool, 1);
        let expected = waiter.thread().id();
        pool.release();
        waiter.join().unwrap();
        assert_eq!(dropped_on.entries(), [expected]);
    });
    drop(occupied);
}

/// User code that blocks holds up nobody but its own task.
#[test]
fn p13_user_code_that_blocks_stops_nobody_else() {
    struct BlocksOnDrop<F: Fn()>(F);
    impl<F: Fn()> Drop for BlocksOnDrop<F> {
        fn drop(&mut self) {
            self.0();
        }
    }
    let gate = Gate::new().opened_on_drop();
    let blocked = Arrivals::new();
    let block = {
        let (gate, blocked) = ((*gate).clone(), blocked.clone());
        move || {
            blocked.arrive();
            gate.wait();
        }
    };
    let pool = Pool::builder()
        .capacity(4)
        .panic_handler({
            let block = block.clone();
            move |_| block()
        })
        .build()
        .unwrap();
    expect_accepted(pool.submit(block.clone()));
    expect_accepted(pool.submit(|| panic!("on purpose")));
    expect_accepted(pool.submit(holding(BlocksOnDrop(block))));
    blocked.wait_for(3);
    // One place is left, and works.
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let ran = Arc::clone(&ran);
        expect_accepted(pool.submit(move || {
            ran.fetch_add(1, Ordering::Relaxed);
        }));
    }
    eventually_eq("tasks that ran meanwhile", 100, || {
        ran.load(Ordering::Relaxed)
    });
    gate.open();
    pool.wait_idle();
}
