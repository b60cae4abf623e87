//! `submit_async` and `spawn_async`: room is awaited on any executor, in the same line as threads wait in, and nothing
//! is left behind by a future that is dropped.

#![cfg(feature = "futures")]

mod support;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::Duration;

use anthill::{Balance, MultiPool, Overflow, Pool, PoolHandle, SubmitErrorKind};
use futures::future::join_all;
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, assert_at_rest, eventually, eventually_waiting,
    expect_accepted, hold, in_a_task, occupy, refusal, shard, watchdog,
};

/// Runs a future to its end, on this thread.
type BlockOn = fn(Pin<&mut dyn Future<Output = ()>>);

const EXECUTORS: [(&str, BlockOn); 4] = [
    ("tokio, one thread", |future| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap().block_on(future);
    }),
    ("tokio, two threads", |future| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_time();
        runtime.build().unwrap().block_on(future);
    }),
    ("smol", |future| smol::block_on(future)),
    ("futures", |future| futures::executor::block_on(future)),
];

fn on_each_executor<F: Future<Output = ()>>(test: impl Fn() -> F) {
    support::set_alarm();
    for (name, block_on) in EXECUTORS {
        eprintln!("on {name}");
        block_on(pin!(test()));
    }
}

/// Polls once, with a waker that does nothing.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A full pool of one worker, and what occupies it.
fn full() -> (Pool, support::Occupied) {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    (pool, occupied)
}

// ---- in line ----

#[test]
fn a_future_waits_for_room_on_each_executor() {
    on_each_executor(|| async {
        let log = Log::new();
        let (pool, occupied) = full();
        let opener = {
            let (pool, log) = (pool.handle(), log.clone());
            thread::spawn(move || {
                eventually_waiting(&pool, 1);
                log.push("room");
                occupied.end();
            })
        };
        let task = log.clone();
        expect_accepted(pool.submit_async(move || task.push("task")).await);
        let seven = pool.spawn_async(|| 7).await.unwrap();
        assert_eq!(seven.await.unwrap(), 7);
        opener.join().unwrap();
        pool.wait_idle();
        assert_eq!(log.entries(), ["room", "task"]);
        assert_at_rest(&pool);
    });
}

/// Thousands wait, and no thread does: all on this one, and on two workers.
#[test]
fn many_futures_wait_without_a_thread() {
    on_each_executor(|| async {
        let pool = Pool::with_capacity(2);
        let ran = Arc::new(AtomicUsize::new(0));
        let submit = |_| {
            let (ran, pool) = (Arc::clone(&ran), &pool);
            async move {
                let task = move || {
                    ran.fetch_add(1, Ordering::Relaxed);
                };
                expect_accepted(pool.submit_async(task).await);
            }
        };
        let occupied = occupy(&pool, 2);
        let opener = {
            let pool = pool.handle();
            thread::spawn(move || {
                eventually_waiting(&pool, 2_000);
                occupied.end();
            })
        };
        join_all((0..2_000).map(submit)).await;
        opener.join().unwrap();
        pool.wait_idle();
        assert_eq!(ran.load(Ordering::Relaxed), 2_000);
        assert!(pool.stats().workers_peak <= 2);
        assert_at_rest(&pool);
    });
}

#[test]
fn p04_futures_and_threads_are_served_first_come_first_served() {
    let (pool, occupied) = full();
    let log = Log::new();
    let task = |number: usize| {
        let log = log.clone();
        move || log.push(number)
    };
    let mut futures = Vec::new();
    thread::scope(|scope| {
        for number in 0..12 {
            match number % 3 {
                0 => {
                    let mut future = pool.submit_async(task(number));
                    assert!(poll(&mut future).is_pending());
                    futures.push(future);
                }
                1 => {
                    let task = task(number);
                    scope.spawn(|| expect_accepted(pool.submit(task)));
                }
                _ => {
                    let tasks = [task(number), task(number)];
                    scope.spawn(|| assert!(pool.submit_all(tasks).is_ok()));
                }
            }
            eventually_waiting(&pool, number + 1);
        }
        assert_eq!(refusal(pool.try_submit(|| ())), SubmitErrorKind::Full);
        occupied.end();
    });
    for mut future in futures {
        let Poll::Ready(accepted) = poll(&mut future) else {
            panic!("those behind it are in");
        };
        expect_accepted(accepted);
    }
    pool.wait_idle();
    let expected: Vec<_> = (0..12)
        .flat_map(|number| vec![number; if number % 3 == 2 { 2 } else { 1 }])
        .collect();
    assert_eq!(log.entries(), expected);
    assert_at_rest(&pool);
}

#[test]
fn p06_a_future_counts_as_one_that_waits() {
    let pool = Pool::builder().capacity(1).max_waiting(1).build().unwrap();
    let occupied = occupy(&pool, 1);
    let mut first = pool.submit_async(|| ());
    assert!(poll(&mut first).is_pending());
    let Poll::Ready(refused) = poll(&mut pool.submit_async(|| ())) else {
        panic!("it does not wait");
    };
    assert_eq!(refusal(refused), SubmitErrorKind::TooManyWaiting);
    assert_eq!(refusal(pool.submit(|| ())), SubmitErrorKind::TooManyWaiting);
    occupied.end();
    expect_accepted(futures::executor::block_on(first));
    pool.wait_idle();
    assert_at_rest(&pool);
}

#[test]
fn p09_tune_lets_a_future_in() {
    on_each_executor(|| async {
        let pool = Pool::with_capacity(0);
        let tuner = {
            let pool = pool.handle();
            thread::spawn(move || {
                eventually_waiting(&pool, 1);
                pool.tune(1);
            })
        };
        expect_accepted(pool.submit_async(|| ()).await);
        tuner.join().unwrap();
        pool.wait_idle();
        assert_at_rest(&pool);
    });
}

#[test]
fn p04_closing_gives_a_future_its_closure_back() {
    type Close = fn(&PoolHandle);
    let ways: [Close; 2] = [PoolHandle::release, |pool| {
        pool.release_now();
    }];
    on_each_executor(|| async {
        for close in ways {
            let pool = Pool::with_capacity(0);
            let closer = {
                let pool = pool.handle();
                thread::spawn(move || {
                    eventually_waiting(&pool, 2);
                    close(&pool);
                })
            };
            let spawned = async { pool.spawn_async(|| 7).await };
            let submitted = async { pool.submit_async(|| ()).await };
            let (spawned, submitted) = futures::future::join(spawned, submitted).await;
            closer.join().unwrap();
            let (kind, task) = spawned.map(drop).unwrap_err().into_parts();
            assert_eq!((kind, task()), (SubmitErrorKind::Closed, 7));
            assert_eq!(refusal(submitted), SubmitErrorKind::Closed);
            assert_eq!((pool.waiting(), pool.stats().rejected), (0, 2));
            // And at once.
            assert_eq!(
                refusal(pool.submit_async(|| ()).await),
                SubmitErrorKind::Closed
            );
        }
    });
}

/// A pool of several lets in who waits at one of them.
#[test]
fn another_shard_takes_the_task_of_a_future() {
    let pools = MultiPool::new(2, 1, Balance::RoundRobin);
    let (lead, other) = (hold(shard(&pools, 0)), hold(shard(&pools, 1)));
    let mut future = shard(&pools, 0).spawn_async(|| 7);
    assert!(poll(&mut future).is_pending());
    drop(other);
    let handle = futures::executor::block_on(future).unwrap();
    assert_eq!(futures::executor::block_on(handle).unwrap(), 7);
    drop(lead);
    support::assert_all_at_rest(&pools);
}

// ---- overflow ----

#[test]
fn a_future_heeds_the_overflow_policy() {
    let pool = |overflow| {
        let builder = Pool::builder().capacity(1).backlog(1).overflow(overflow);
        let pool = builder.build().unwrap();
        let occupied = occupy(&pool, 1);
        expect_accepted(pool.submit(|| ()));
        (pool, occupied)
    };
    let (rejects, _occupied) = pool(Overflow::Reject);
    let Poll::Ready(refused) = poll(&mut rejects.submit_async(|| ())) else {
        panic!("it waits");
    };
    assert_eq!(refusal(refused), SubmitErrorKind::Full);

    let (runs, _occupied) = pool(Overflow::CallerRuns);
    let Poll::Ready(ran) = poll(&mut runs.spawn_async(|| thread::current().id())) else {
        panic!("it waits");
    };
    let Poll::Ready(here) = poll(&mut ran.unwrap()) else {
        panic!("it did not run in the poll");
    };
    assert_eq!(here.unwrap(), thread::current().id());

    let (drops, _occupied) = pool(Overflow::DropOldest);
    let Poll::Ready(accepted) = poll(&mut drops.submit_async(|| ())) else {
        panic!("it waits");
    };
    expect_accepted(accepted);
    assert_eq!(drops.stats().discarded, 1);
}

#[test]
fn p08_in_a_task_of_the_pool_a_future_never_waits() {
    let pool = Pool::with_capacity(1);
    let (handle, ran) = (pool.handle(), Arrivals::new());
    let runs = ran.clone();
    in_a_task(&pool, "a hundred futures in a task", move || {
        for _ in 0..100 {
            let runs = runs.clone();
            let Poll::Ready(accepted) = poll(&mut handle.submit_async(move || runs.arrive()))
            else {
                panic!("it waits");
            };
            expect_accepted(accepted);
        }
    });
    ran.wait_for(100);
    pool.wait_idle();
    assert_at_rest(&pool);
}

// ---- dropped ----

#[test]
fn a_future_that_is_dropped_leaves_nothing_behind() {
    let (pool, occupied) = full();
    let dropped = Arrivals::new();
    let ran = Log::new();
    let task = |number: usize| {
        let (guard, ran) = (DropCounter(dropped.clone()), ran.clone());
        move || {
            let _guard = guard;
            ran.push(number);
        }
    };
    // Never polled: it is in no line.
    drop(pool.submit_async(task(0)));
    drop(pool.spawn_async(task(0)));
    assert_eq!((pool.waiting(), dropped.count()), (0, 2));
    let mut futures = Vec::new();
    for number in 0..5 {
        let mut future = pool.submit_async(task(number));
        assert!(poll(&mut future).is_pending());
        futures.push(future);
    }
    let mut spawn = pool.spawn_async(task(5));
    assert!(poll(&mut spawn).is_pending());
    assert_eq!(pool.waiting(), 6);
    drop(futures.remove(3));
    drop(futures.remove(0));
    drop(spawn);
    // The closures are dropped here, and now.
    assert_eq!((pool.waiting(), dropped.count()), (3, 5));
    occupied.end();
    for future in futures {
        expect_accepted(futures::executor::block_on(future));
    }
    pool.wait_idle();
    assert_eq!((ran.entries(), dropped.count()), (vec![1, 2, 4], 8));
    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.rejected), (4, 0));
    assert_at_rest(&pool);
}

/// A future that was let in and is dropped before it is polled again: the task runs, and its panic goes to the handler.
#[test]
fn a_future_that_is_dropped_too_late_leaves_its_task_accepted() {
    let panics = Arrivals::new();
    let told = panics.clone();
    let builder = Pool::builder().capacity(1);
    let pool = builder
        .panic_handler(move |_| told.arrive())
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let ran = Arrivals::new();
    let task = || {
        let ran = ran.clone();
        move || ran.arrive()
    };
    let gate = Gate::new();
    let (mut submit, mut spawn) = (pool.submit_async(task()), {
        let (task, gate) = (task(), gate.clone());
        pool.spawn_async(move || {
            task();
            gate.wait();
            panic!("for the handler");
        })
    });
    assert!(poll(&mut submit).is_pending());
    assert!(poll(&mut spawn).is_pending());
    occupied.end();
    ran.wait_for(2);
    drop(submit);
    drop(spawn);
    gate.open();
    pool.wait_idle();
    assert_eq!((panics.count(), pool.stats().panicked), (1, 1));
    assert_at_rest(&pool);
}

/// A timer of the executor calls it off.
#[test]
fn a_timeout_of_tokio_calls_a_future_off() {
    let (pool, occupied) = full();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let timed_out = runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(1), pool.submit_async(|| ())).await
    });
    assert!(timed_out.is_err());
    assert_eq!(pool.waiting(), 0);
    occupied.end();
    pool.wait_idle();
    assert_at_rest(&pool);
}

#[test]
fn a_spawned_task_has_its_result_or_its_panic_in_its_handle() {
    let pool = Pool::with_capacity(1);
    futures::executor::block_on(async {
        let seven = pool.spawn_async(|| 7).await.unwrap();
        let panics = pool.spawn_async(|| panic!("for the handle")).await.unwrap();
        assert_eq!(seven.await.unwrap(), 7);
        assert!(panics.await.unwrap_err().is_panic());
        let cancelled = {
            pool.tune(0);
            let mut future = pool.spawn_async(|| ());
            assert!(poll(&mut future).is_pending());
            drop(future);
            pool.tune(1);
            pool.spawn_async(|| 8).await.unwrap()
        };
        assert_eq!(cancelled.await.unwrap(), 8);
    });
    assert_at_rest(&pool);
}

#[test]
fn a_future_is_polled_to_its_end_once() {
    let pool = Pool::with_capacity(1);
    let mut future = pool.submit_async(|| ());
    assert!(poll(&mut future).is_ready());
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut future))).is_err());
    // It has room again.
    pool.wait_idle();
    let mut future = pool.spawn_async(|| ());
    assert!(poll(&mut future).is_ready());
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut future))).is_err());
    pool.wait_idle();
    assert_at_rest(&pool);
}

#[test]
fn futures_go_where_their_closures_go() {
    fn is_send<T: Send + Unpin + 'static>(_: &T) {}
    let pool = Pool::with_capacity(1);
    let not_sync = std::cell::Cell::new(7);
    let submit = pool.submit_async({
        let not_sync = not_sync.clone();
        move || not_sync.set(8)
    });
    let spawn = pool.spawn_async(move || not_sync.get());
    is_send(&submit);
    is_send(&spawn);
    assert_eq!(format!("{submit:?}"), "SubmitAsync { waiting: false, .. }");
    assert_eq!(format!("{spawn:?}"), "SpawnAsync { waiting: false, .. }");
    drop(pool);
    // It does not keep the pool open.
    let refused = futures::executor::block_on(submit);
    assert_eq!(refusal(refused), SubmitErrorKind::Closed);
}

// ---- wakers are user code ----

/// A waker that uses the pool: under a lock of it that would hang.
struct UsesPool {
    pool: PoolHandle,
    woken: Arrivals,
}

impl Wake for UsesPool {
    fn wake(self: Arc<Self>) {
        let pool = &self.pool;
        let _ = (pool.waiting(), pool.stats(), pool.workers());
        drop(pool.try_submit(|| ()));
        let capacity = pool.capacity();
        pool.tune(capacity + 1);
        let mut other = pool.submit_async(|| ());
        let _ = poll(&mut other);
        drop(other);
        let _ = pool.wait_idle_timeout(Duration::ZERO);
        self.woken.arrive();
    }
}

#[test]
fn p13_a_waker_may_use_the_pool_whoever_wakes_it() {
    type Act = fn(&PoolHandle);
    let acts: [Act; 4] = [
        |pool| _ = pool.tune(1),
        PoolHandle::release,
        |pool| _ = pool.release_now(),
        |pool| {
            // A task ends.
            pool.tune(1);
            pool.wait_idle();
        },
    ];
    for act in acts {
        watchdog("a waker that uses the pool", move || {
            let pool = Pool::with_capacity(0);
            let woken = Arrivals::new();
            let waker = Waker::from(Arc::new(UsesPool {
                pool: pool.handle(),
                woken: woken.clone(),
            }));
            let mut futures: Vec<_> = (0..3).map(|_| pool.submit_async(|| ())).collect();
            for future in &mut futures {
                let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
            act(&pool);
            woken.wait_for(3);
            for future in &mut futures {
                assert!(poll(future).is_ready());
            }
            pool.wait_idle();
            assert_at_rest(&pool);
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Clone,
    Wake,
    Drop,
}

/// A waker that panics, at one of its calls.
fn panicking(at: &'static At) -> Waker {
    fn at_of(data: *const ()) -> At {
        // SAFETY: each of these wakers is made from a reference to a static.
        unsafe { *data.cast::<At>() }
    }
    static VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            assert!(at_of(data) != At::Clone, "clone");
            RawWaker::new(data, &VTABLE)
        },
        |data| assert!(at_of(data) != At::Wake, "wake"),
        |data| assert!(at_of(data) != At::Wake, "wake"),
        |data| assert!(at_of(data) != At::Drop, "drop"),
    );
    let raw = RawWaker::new(std::ptr::from_ref(at).cast(), &VTABLE);
    // SAFETY: the vtable's functions accept any pointer that is made here, on any thread.
    unsafe { Waker::from_raw(raw) }
}

#[test]
fn p12_a_waker_that_panics_harms_nobody() {
    for at in [&At::Clone, &At::Wake, &At::Drop] {
        let (pool, occupied) = full();
        let waker = std::mem::ManuallyDrop::new(panicking(at));
        let mut future = pool.submit_async(|| ());
        let polls = || Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        let polled = catch_unwind(AssertUnwindSafe(polls));
        match (at, polled) {
            // It has changed nothing.
            (At::Clone, Err(_)) => assert_eq!(pool.waiting(), 0),
            (At::Wake | At::Drop, Ok(Poll::Pending)) => assert_eq!(pool.waiting(), 1),
            _ => panic!("the panic of the waker is gone, or at a wrong place"),
        }
        if *at == At::Drop {
            // The old waker is dropped.
            assert!(poll(&mut future).is_pending());
        }
        occupied.end();
        expect_accepted(futures::executor::block_on(future));
        pool.wait_idle();
        assert_eq!((pool.stats().completed, pool.stats().panicked), (2, 0));
        assert_at_rest(&pool);
    }
}

/// The last of several wakers is woken.
#[test]
fn the_waker_of_the_last_poll_is_woken() {
    struct Counts(Arrivals);
    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.arrive();
        }
    }
    let (pool, occupied) = full();
    let mut future = pool.submit_async(|| ());
    let counted = [Arrivals::new(), Arrivals::new()];
    for count in &counted {
        let waker = Waker::from(Arc::new(Counts(count.clone())));
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    occupied.end();
    counted[1].wait_for(1);
    assert_eq!(counted[0].count(), 0);
    assert!(poll(&mut future).is_ready());
}

/// Closures whose drop uses the pool: dropped with their futures, outside of its locks.
#[test]
fn p13_the_drop_of_a_closure_may_use_the_pool() {
    struct Uses(PoolHandle, Arc<Mutex<usize>>);
    impl Drop for Uses {
        fn drop(&mut self) {
            let waiting = self.0.waiting();
            self.0.tune(self.0.capacity());
            *self.1.lock().unwrap() += waiting;
        }
    }
    watchdog("a drop that uses the pool", || {
        let pool = Pool::with_capacity(0);
        let sum = Arc::new(Mutex::new(0));
        let mut futures: Vec<_> = (0..3)
            .map(|_| {
                let uses = Uses(pool.handle(), Arc::clone(&sum));
                pool.submit_async(move || drop(uses))
            })
            .collect();
        for future in &mut futures {
            assert!(poll(future).is_pending());
        }
        drop(futures.pop());
        pool.release();
        drop(futures);
        assert_eq!(*sum.lock().unwrap(), 2);
        eventually("it ends", || pool.release_timeout(DEADLINE).is_ok());
    });
}
