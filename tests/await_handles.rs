//! A `JoinHandle` is a future: it can be awaited on any executor, given up, and polled by hand.
//!
//! Which executor it is makes no difference to the pool: all that it uses of it is the waker of the
//! last poll, and a waker is a user's code, which cannot harm a worker.

mod support;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::Duration;

use anthill::{JoinError, JoinHandle, Overflow, Pool, PoolHandle};
use futures::future::{Either, join_all, select};
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, OpensOnDrop, assert_at_rest, eventually, eventually_eq,
    eventually_waiting, expect_accepted, occupy, receive, spawned, watchdog,
};

/// One of the executors, with its name.
struct Executor {
    name: &'static str,
    /// Runs a future to its end, on this thread.
    block_on: fn(Pin<&mut dyn Future<Output = ()>>),
}

const EXECUTORS: [Executor; 4] = [
    Executor {
        name: "tokio, one thread",
        block_on: |future| {
            let runtime = tokio::runtime::Builder::new_current_thread();
            one_or_many(runtime).block_on(future);
        },
    },
    Executor {
        name: "tokio, two threads",
        block_on: |future| {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2);
            one_or_many(runtime).block_on(future);
        },
    },
    Executor {
        name: "smol",
        block_on: |future| smol::block_on(future),
    },
    Executor {
        name: "futures",
        block_on: |future| futures::executor::block_on(future),
    },
];

fn one_or_many(mut runtime: tokio::runtime::Builder) -> tokio::runtime::Runtime {
    runtime.enable_time().build().unwrap()
}

/// Runs what `body` makes on each of the executors, within the common deadline.
#[track_caller]
fn on_each_executor<F: Future<Output = ()> + 'static>(body: fn() -> F) {
    for Executor { name, block_on } in EXECUTORS {
        watchdog(name, move || block_on(pin!(body())));
    }
}

/// A task that runs until its gate opens, and then returns 7.
fn gated(pool: &PoolHandle) -> (JoinHandle<u8>, OpensOnDrop) {
    let gate = Gate::new();
    let inside = gate.clone();
    let handle = spawned(pool.spawn(move || {
        inside.wait();
        7
    }));
    (handle, gate.opened_on_drop())
}

// ---- on executors ----

#[test]
fn a_handle_can_be_awaited_on_any_executor() {
    on_each_executor(|| async {
        let pool = Pool::with_capacity(2);
        for number in 0..200 {
            let handle = spawned(pool.spawn(move || number));
            assert_eq!(handle.await.unwrap(), number);
        }
        assert_at_rest(&pool);
    });
}

/// Tasks that are awaited one after the other run on one thread, as those that are joined do.
#[test]
fn tasks_awaited_one_after_the_other_run_on_one_thread() {
    on_each_executor(|| async {
        let pool = Pool::builder().capacity(4).keep_workers().build().unwrap();
        for number in 0..500 {
            let handle = spawned(pool.spawn(move || number));
            assert_eq!(handle.await.unwrap(), number);
        }
        let stats = pool.stats();
        assert_eq!(
            (stats.workers_started, stats.completed),
            (1, 500),
            "{stats:?}"
        );
    });
}

/// Whether the task is over, runs, or has not started when it is awaited.
#[test]
fn a_handle_is_ready_however_far_its_task_is() {
    on_each_executor(|| async {
        let pool = Pool::builder().capacity(1).unbounded_backlog();
        let pool = pool.build().unwrap();
        let over = spawned(pool.spawn(|| 1));
        pool.wait_idle();
        let (running, gate) = gated(&pool);
        let queued = spawned(pool.spawn(|| 3));
        assert_eq!(over.await.unwrap(), 1);
        let opener = thread::spawn(move || gate.open());
        assert_eq!(running.await.unwrap(), 7);
        assert_eq!(queued.await.unwrap(), 3);
        opener.join().unwrap();
        assert_at_rest(&pool);
    });
}

#[test]
fn a_task_that_panicked_or_was_cancelled_is_an_error_to_who_awaits_it() {
    on_each_executor(|| async {
        let pool = Pool::builder().capacity(0).backlog(3).build().unwrap();
        let panics = spawned(pool.spawn(|| panic!("awaited")));
        let cancelled = spawned(pool.spawn(|| ()));
        assert!(cancelled.cancel());
        let error = cancelled.await.unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
        pool.tune(1);
        let error: JoinError = panics.await.unwrap_err();
        assert_eq!(error.message(), Some("awaited"));

        let occupied = occupy(&pool, 1);
        let discarded = spawned(pool.spawn(|| ()));
        let releaser = thread::spawn({
            let pool = pool.handle();
            move || pool.release_now()
        });
        let error = discarded.await.unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
        assert_eq!(releaser.join().unwrap(), 1);
        occupied.end();
    });
}

/// The oldest of what is queued makes room while somebody awaits it.
#[test]
fn who_awaits_what_drop_oldest_drops_is_told() {
    on_each_executor(|| async {
        let pool = Pool::builder()
            .capacity(1)
            .backlog(1)
            .overflow(Overflow::DropOldest)
            .build()
            .unwrap();
        let occupied = occupy(&pool, 1);
        let oldest = spawned(pool.spawn(|| ()));
        let newer = thread::spawn({
            let pool = pool.handle();
            move || spawned(pool.spawn(|| 2))
        });
        assert!(oldest.await.unwrap_err().is_cancelled());
        occupied.end();
        assert_eq!(newer.join().unwrap().await.unwrap(), 2);
    });
}

#[test]
fn many_handles_can_be_awaited_together() {
    on_each_executor(|| async {
        let pool = Pool::builder().capacity(3).unbounded_backlog();
        let pool = pool.build().unwrap();
        let handles = (0..500_u64).map(|number| spawned(pool.spawn(move || number)));
        let sum: u64 = join_all(handles)
            .await
            .into_iter()
            .map(Result::unwrap)
            .sum();
        assert_eq!(sum, 124_750);
        assert_at_rest(&pool);
    });
}

/// Of two handles the one that is ready first wins; the other one goes on.
#[test]
fn the_first_of_two_handles_can_be_awaited() {
    on_each_executor(|| async {
        let pool = Pool::with_capacity(2);
        let (slow, gate) = gated(&pool);
        let fast = spawned(pool.spawn(|| 1));
        let Either::Right((value, slow)) = select(slow, fast).await else {
            panic!("the slow one cannot be ready");
        };
        assert_eq!(value.unwrap(), 1);
        gate.open();
        assert_eq!(slow.await.unwrap(), 7);
    });
}

/// A handle that is awaited in turn by tasks of a runtime with several threads.
#[test]
fn a_handle_may_go_from_one_task_of_a_runtime_to_another() {
    watchdog("all are awaited", || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2);
        one_or_many(runtime).block_on(async {
            let pool = Pool::with_capacity(2);
            let awaiting: Vec<_> = (0..200)
                .map(|number| {
                    let handle = spawned(pool.spawn(move || number));
                    tokio::spawn(async move { handle.await.unwrap() })
                })
                .collect();
            for (number, awaits) in awaiting.into_iter().enumerate() {
                assert_eq!(awaits.await.unwrap(), number);
            }
            let (mut handle, gate) = gated(&pool);
            for _ in 0..3 {
                let waits = tokio::spawn(async move {
                    let limit = Duration::from_millis(2);
                    let timed = tokio::time::timeout(limit, &mut handle).await;
                    assert!(timed.is_err(), "it still runs");
                    Some(handle)
                });
                handle = waits.await.unwrap().expect("it comes back");
            }
            gate.open();
            assert_eq!(tokio::spawn(handle).await.unwrap().unwrap(), 7);
        });
    });
}

/// A time limit that runs out drops the handle, which detaches the task: it goes on to its end, and its
/// result is dropped.
#[test]
fn a_time_limit_that_runs_out_detaches_the_task() {
    watchdog("the time is up", || {
        one_or_many(tokio::runtime::Builder::new_current_thread()).block_on(async {
            let pool = Pool::with_capacity(1);
            let gate = Gate::new().opened_on_drop();
            let (ran, dropped) = (Arrivals::new(), Arrivals::new());
            let (inside, runs) = ((*gate).clone(), ran.clone());
            let result = DropCounter(dropped.clone());
            let handle = spawned(pool.spawn(move || {
                inside.wait();
                runs.arrive();
                result
            }));
            let limit = Duration::from_millis(5);
            assert!(tokio::time::timeout(limit, handle).await.is_err());
            assert_eq!((ran.count(), dropped.count()), (0, 0));
            gate.open();
            pool.wait_idle();
            assert_eq!((ran.count(), dropped.count()), (1, 1));
            assert_at_rest(&pool);
            assert_eq!(pool.stats().completed, 1);
        });
    });
}

/// The panic of a task whose handle was given up goes to the panic handler, as that of any other.
#[test]
fn the_panic_of_a_task_whose_future_was_dropped_goes_to_the_handler() {
    let (told, tells) = channel();
    let pool = Pool::builder()
        .capacity(1)
        .panic_handler(move |panic| told.send(panic.message().map(str::to_owned)).unwrap())
        .build()
        .unwrap();
    let gate = Gate::new().opened_on_drop();
    let inside = (*gate).clone();
    let mut handle = spawned(pool.spawn(move || {
        inside.wait();
        panic!("given up");
    }));
    let counts = Counts::new();
    assert!(poll(&mut handle, &counts.waker()).is_pending());
    drop(handle);
    gate.open();
    let message = receive("the handler was told", &tells);
    assert_eq!(message.as_deref(), Some("given up"));
    pool.wait_idle();
    assert_eq!(counts.woken.count(), 0);
}

// ---- in tasks of the pool ----

/// In a task of the same pool a poll runs what has not started, as a join does.
#[test]
fn to_block_on_a_handle_in_a_task_of_the_pool_does_not_hang() {
    for Executor { name, block_on } in EXECUTORS {
        for unbounded in [false, true] {
            let builder = Pool::builder().capacity(1);
            let builder = if unbounded {
                builder.unbounded_backlog()
            } else {
                builder
            };
            let pool = builder.build().unwrap();
            let inner = pool.handle();
            let parent = spawned(pool.spawn(move || {
                let one = spawned(inner.spawn(|| thread::current().id()));
                let many = (0..20).map(|number| spawned(inner.spawn(move || number)));
                let many: Vec<_> = many.collect();
                let panics = spawned(inner.spawn(|| panic!("on purpose")));
                block_on(pin!(async move {
                    assert_eq!(one.await.unwrap(), thread::current().id());
                    let values = join_all(many).await.into_iter().map(Result::unwrap);
                    assert!(values.eq(0..20));
                    assert!(panics.await.unwrap_err().is_panic());
                }));
            }));
            let result = watchdog(name, move || parent.join());
            assert!(result.is_ok(), "{name}: {}", result.unwrap_err());
            assert_at_rest(&pool);
            let stats = pool.stats();
            assert_eq!((stats.completed, stats.panicked), (22, 1), "{name}");
        }
    }
}

/// One poll of a task that has not started runs it; one of a task that runs does not wait.
#[test]
fn in_a_task_of_the_pool_a_poll_runs_what_has_not_started_and_nothing_else() {
    let pool = Pool::builder().capacity(2).unbounded_backlog();
    let pool = pool.build().unwrap();
    let (mut running, gate) = gated(&pool);
    eventually_eq("running tasks", 1, || pool.running());
    let inner = pool.handle();
    let unrelated = Arrivals::new();
    let runs = unrelated.clone();
    let parent = spawned(pool.spawn(move || {
        expect_accepted(inner.submit(move || runs.arrive()));
        let mut child = spawned(inner.spawn(|| 1));
        let Poll::Ready(value) = poll(&mut child, Waker::noop()) else {
            panic!("it was to be run here");
        };
        assert_eq!(value.unwrap(), 1);
        assert!(poll(&mut running, Waker::noop()).is_pending());
        running
    }));
    let watched = watchdog("the parent ends", move || parent.join());
    // Its own worker runs that one now, if it did not do so before the parent's end: no sooner.
    unrelated.wait_for(1);
    gate.open();
    let running = watched.unwrap();
    assert_eq!(watchdog("it ends", move || running.join()).unwrap(), 7);
}

/// A task of one pool that awaits one of another pool waits as anybody does.
#[test]
fn a_task_can_await_a_task_of_another_pool() {
    let (pool, other) = (Pool::with_capacity(1), Pool::builder().capacity(0));
    let other = other.backlog(1).build().unwrap();
    let awaited = spawned(other.spawn(|| thread::current().id()));
    let parent = spawned(pool.spawn(move || {
        let there = smol::block_on(awaited).unwrap();
        there != thread::current().id()
    }));
    eventually_eq("running tasks", 1, || pool.running());
    assert_eq!(other.queued(), 1);
    other.tune(1);
    assert!(watchdog("it ends", move || parent.join()).unwrap());
}

// ---- polled by hand ----

/// A waker that counts.
struct Counts {
    woken: Arrivals,
    wakes: Arc<Wakes>,
}

struct Wakes(Arrivals);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.arrive();
    }
}

impl Counts {
    fn new() -> Counts {
        let woken = Arrivals::new();
        let wakes = Arc::new(Wakes(woken.clone()));
        Counts { woken, wakes }
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.wakes))
    }

    /// How many wakers there are beside those that the test holds.
    fn held_by_the_pool(&self) -> usize {
        Arc::strong_count(&self.wakes) - 1
    }
}

fn poll<T>(handle: &mut JoinHandle<T>, waker: &Waker) -> Poll<Result<T, JoinError>> {
    Pin::new(handle).poll(&mut Context::from_waker(waker))
}

/// Polls a handle that was woken: it is ready.
#[track_caller]
fn ready<T>(handle: &mut JoinHandle<T>) -> Result<T, JoinError> {
    match poll(handle, Waker::noop()) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it is not ready"),
    }
}

/// Polls a handle of which nobody was told until it is ready.
#[track_caller]
fn eventually_ready<T>(handle: &mut JoinHandle<T>) -> Result<T, JoinError> {
    let mut result = None;
    eventually("the handle is ready", || {
        if let Poll::Ready(value) = poll(handle, Waker::noop()) {
            result = Some(value);
        }
        result.is_some()
    });
    result.expect("it is ready")
}

/// The waker is told once, and let go of.
#[test]
fn the_waker_is_woken_once_when_the_task_is_over() {
    let pool = Pool::with_capacity(1);
    let (mut handle, gate) = gated(&pool);
    let counts = Counts::new();
    assert!(poll(&mut handle, &counts.waker()).is_pending());
    assert_eq!((counts.woken.count(), counts.held_by_the_pool()), (0, 1));
    gate.open();
    counts.woken.wait_for(1);
    assert_eq!(ready(&mut handle).unwrap(), 7);
    pool.wait_idle();
    eventually_eq("wakers in the pool", 0, || counts.held_by_the_pool());
    assert_eq!(counts.woken.count(), 1);
}

/// Who is woken finds the handle ready and the task's place free.
#[test]
fn the_handle_is_ready_and_its_room_is_free_when_the_waker_is_woken() {
    let pool = Pool::with_capacity(1);
    watchdog("all are woken", move || {
        for round in 1..500 {
            let counts = Counts::new();
            let mut handle = spawned(pool.try_spawn(move || round));
            if let Poll::Ready(value) = poll(&mut handle, &counts.waker()) {
                assert_eq!(value.unwrap(), round);
                continue;
            }
            counts.woken.wait_for(1);
            assert_eq!(ready(&mut handle).unwrap(), round);
        }
        assert_eq!(pool.stats().rejected, 0);
    });
}

#[test]
fn a_waker_that_changes_between_polls_is_the_last_one() {
    let pool = Pool::with_capacity(1);
    let (mut handle, gate) = gated(&pool);
    let all = [(); 4].map(|()| Counts::new());
    for counts in &all {
        assert!(poll(&mut handle, &counts.waker()).is_pending());
    }
    let held = all.each_ref().map(Counts::held_by_the_pool);
    assert_eq!(held, [0, 0, 0, 1], "the others are let go of");
    gate.open();
    all[3].woken.wait_for(1);
    pool.wait_idle();
    assert_eq!(all.each_ref().map(|one| one.woken.count()), [0, 0, 0, 1]);
    assert_eq!(ready(&mut handle).unwrap(), 7);
}

/// Polled first and joined then, or the other way round: the last one that waits is told.
#[test]
fn a_handle_may_be_polled_and_joined() {
    let pool = Pool::with_capacity(1);
    let (mut handle, gate) = gated(&pool);
    let counts = Counts::new();
    assert!(poll(&mut handle, &counts.waker()).is_pending());
    let Err(mut handle) = handle.join_timeout(Duration::from_millis(2)) else {
        panic!("it still runs");
    };
    assert_eq!(counts.held_by_the_pool(), 0);
    assert!(poll(&mut handle, &counts.waker()).is_pending());
    let joiner = thread::spawn(move || handle.join_timeout(DEADLINE));
    eventually_eq("wakers in the pool", 0, || counts.held_by_the_pool());
    gate.open();
    assert_eq!(joiner.join().unwrap().expect("in time").unwrap(), 7);
    assert_eq!(counts.woken.count(), 0);
}

/// Dropped before it is ready, a future leaves no waker behind, and wakes nobody.
#[test]
fn a_future_that_is_dropped_detaches_its_task_and_drops_its_waker() {
    let pool = Pool::with_capacity(1);
    let (mut handle, gate) = gated(&pool);
    let counts = Counts::new();
    assert!(poll(&mut handle, &counts.waker()).is_pending());
    drop(handle);
    assert_eq!(counts.held_by_the_pool(), 0);
    gate.open();
    pool.wait_idle();
    assert_eq!(counts.woken.count(), 0);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (1, 0), "{stats:?}");
}

#[test]
fn cancelling_wakes_who_polled() {
    let pool = Pool::builder().capacity(0).backlog(1).build().unwrap();
    let mut handle = spawned(pool.spawn(|| ()));
    let counts = Counts::new();
    assert!(poll(&mut handle, &counts.waker()).is_pending());
    assert!(handle.cancel());
    assert_eq!((counts.woken.count(), counts.held_by_the_pool()), (1, 0));
    let result = ready(&mut handle);
    assert!(result.unwrap_err().is_cancelled());
}

/// Once it was ready there is nothing more to be had.
#[test]
fn a_handle_polled_after_it_was_ready_panics() {
    let pool = Pool::builder().capacity(1).unbounded_backlog();
    let pool = pool.build().unwrap();
    let panics_on_second_poll = |mut handle: JoinHandle<u8>| {
        let first = eventually_ready(&mut handle);
        let again = catch_unwind(AssertUnwindSafe(|| poll(&mut handle, Waker::noop())));
        let payload = again.expect_err("it was ready twice");
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        assert!(message.is_some_and(|text| text.contains("polled again")));
        // What is left of it does no harm.
        assert!(handle.is_finished() && !handle.cancel());
        first
    };
    let (done, panicked) = (
        spawned(pool.spawn(|| 1)),
        spawned(pool.spawn(|| panic!("on purpose"))),
    );
    pool.wait_idle();
    assert_eq!(panics_on_second_poll(done).unwrap(), 1);
    assert!(panics_on_second_poll(panicked).unwrap_err().is_panic());
    let occupied = occupy(&pool, 1);
    let cancelled = spawned(pool.spawn(|| 2));
    assert!(cancelled.cancel());
    assert!(panics_on_second_poll(cancelled).unwrap_err().is_cancelled());
    occupied.end();
}

// ---- a waker is a user's code ----

/// What a waker of the tests does when it is woken, and when it is dropped.
struct Acts<W: Fn() + Send + Sync + 'static> {
    wake: W,
    drop: fn(),
    dropped: Arrivals,
}

impl<W: Fn() + Send + Sync + 'static> Wake for Acts<W> {
    fn wake(self: Arc<Self>) {
        (self.wake)();
    }
}

impl<W: Fn() + Send + Sync + 'static> Drop for Acts<W> {
    fn drop(&mut self) {
        self.dropped.arrive();
        (self.drop)();
    }
}

/// A waker that panics when it is woken, or when it is dropped, is no business of the worker's, nor of
/// the task's.
#[test]
fn a_waker_that_panics_does_not_end_the_worker() {
    for (wakes, drops) in [(true, false), (false, true)] {
        let told = Arrivals::new();
        let handler = told.clone();
        let pool = Pool::builder()
            .capacity(1)
            .panic_handler(move |_| handler.arrive())
            .build()
            .unwrap();
        let (mut handle, gate) = gated(&pool);
        let dropped = Arrivals::new();
        let waker = Waker::from(Arc::new(Acts {
            wake: move || assert!(!wakes, "of the waker"),
            drop: if drops {
                || panic!("of the waker's drop")
            } else {
                || {}
            },
            dropped: dropped.clone(),
        }));
        assert!(poll(&mut handle, &waker).is_pending());
        // The pool has the last one.
        drop(waker);
        gate.open();
        dropped.wait_for(1);
        pool.wait_idle();
        assert_eq!(ready(&mut handle).unwrap(), 7);
        let next = spawned(pool.spawn(|| 8));
        assert_eq!(watchdog("it runs", move || next.join()).unwrap(), 8);
        assert_at_rest(&pool);
        let stats = pool.stats();
        assert_eq!(
            (stats.workers_started, stats.completed),
            (1, 2),
            "{stats:?}"
        );
        assert_eq!((stats.panicked, told.count()), (0, 0), "{stats:?}");
    }
}

/// It ends nobody who cancels or releases, either.
#[test]
fn a_waker_that_panics_harms_nobody_who_cancels_or_releases() {
    let pool = Pool::builder().capacity(0).backlog(2).build().unwrap();
    let polled = || {
        let mut handle = spawned(pool.spawn(|| ()));
        let waker = Waker::from(Arc::new(Acts {
            wake: || panic!("of the waker"),
            drop: || {},
            dropped: Arrivals::new(),
        }));
        assert!(poll(&mut handle, &waker).is_pending());
        handle
    };
    let (cancelled, discarded) = (polled(), polled());
    assert!(cancelled.cancel());
    assert_eq!(pool.release_now(), 1);
    assert!(cancelled.is_finished() && discarded.is_finished());
    assert_at_rest(&pool);
}

/// Polls a running task with a waker of which the pool has the last copy then.
fn leave_waker(handle: &mut JoinHandle<u8>, drop: fn()) -> Arrivals {
    let dropped = Arrivals::new();
    let waker = Waker::from(Arc::new(Acts {
        wake: || unreachable!("another one took its place"),
        drop,
        dropped: dropped.clone(),
    }));
    assert!(poll(handle, &waker).is_pending());
    dropped
}

/// A waker that panics as another one takes its place is no business of who joins or polls then.
#[test]
fn a_waker_that_panics_as_it_is_replaced_harms_nobody() {
    let pool = Pool::with_capacity(1);
    let panics = || panic!("of the waker's drop");
    // By a join that waits, with a limit and without.
    let (mut handle, gate) = gated(&pool);
    let dropped = leave_waker(&mut handle, panics);
    let handle = handle.join_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(dropped.count(), 1);
    drop(gate);
    assert_eq!(handle.join().unwrap(), 7);
    let (mut handle, gate) = gated(&pool);
    let dropped = leave_waker(&mut handle, panics);
    let joiner = thread::spawn(move || handle.join());
    dropped.wait_for(1);
    drop(gate);
    let outcome = joiner.join().expect("the waker's panic came out of join");
    assert_eq!(outcome.unwrap(), 7);
    // By another poll, which is told all the same.
    let (mut handle, gate) = gated(&pool);
    let dropped = leave_waker(&mut handle, panics);
    let counts = Counts::new();
    assert!(poll(&mut handle, &counts.waker()).is_pending());
    assert_eq!(dropped.count(), 1);
    drop(gate);
    counts.woken.wait_for(1);
    assert_eq!(ready(&mut handle).unwrap(), 7);
    // By the drop of the handle.
    let (mut handle, gate) = gated(&pool);
    let dropped = leave_waker(&mut handle, panics);
    drop(handle);
    assert_eq!(dropped.count(), 1);
    drop(gate);
    pool.wait_idle();
    assert_at_rest(&pool);
    assert_eq!(pool.stats().workers_started, 1);
}

/// P13: a waker is dropped under no lock, once the next one is in its place: here its drop waits until the
/// worker is through with the task.
#[test]
fn a_waker_is_dropped_where_the_task_can_end() {
    static GATE: Mutex<Option<(Gate, PoolHandle)>> = Mutex::new(None);
    let pool = Pool::with_capacity(1);
    let gate = Gate::new();
    let inside = gate.clone();
    let mut handle = spawned(pool.spawn(move || {
        inside.wait();
        7
    }));
    *GATE.lock().unwrap() = Some((gate, pool.handle()));
    let dropped = leave_waker(&mut handle, || {
        let (gate, pool) = GATE.lock().unwrap().take().unwrap();
        gate.open();
        // The one worker runs this only once it has told those who wait for the other.
        spawned(pool.spawn(|| ())).join().unwrap();
    });
    assert_eq!(watchdog("it ends", move || handle.join()).unwrap(), 7);
    assert_eq!(dropped.count(), 1);
}

/// What the clone of a waker panics with is the poller's, and changes nothing.
#[test]
fn a_waker_that_panics_as_it_is_cloned_leaves_the_handle_as_it_was() {
    static VTABLE: RawWakerVTable =
        RawWakerVTable::new(|_| panic!("of the waker's clone"), |_| {}, |_| {}, |_| {});
    // SAFETY: none of the functions uses the pointer, and there is nothing to be shared.
    let refuses = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE)) };
    let pool = Pool::with_capacity(1);
    let (mut handle, gate) = gated(&pool);
    let counts = Counts::new();
    assert!(poll(&mut handle, &counts.waker()).is_pending());
    let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut handle, &refuses)));
    assert!(polled.is_err(), "it was not cloned");
    drop(gate);
    counts.woken.wait_for(1);
    assert_eq!(ready(&mut handle).unwrap(), 7);
    assert_at_rest(&pool);
}

/// A waker may use the pool: it is woken under no lock, and there is room for one more task by then.
#[test]
fn a_waker_may_use_the_pool() {
    let pool = Pool::with_capacity(1);
    let (mut handle, gate) = gated(&pool);
    let (inner, ran) = (pool.handle(), Arrivals::new());
    let runs = ran.clone();
    let waker = Waker::from(Arc::new(Acts {
        wake: move || {
            let _ = (inner.stats(), inner.queued(), inner.tune(1));
            for _ in 0..3 {
                let runs = runs.clone();
                expect_accepted(inner.submit(move || runs.arrive()));
            }
            let child = spawned(inner.spawn(|| 3));
            assert_eq!(child.join().unwrap(), 3);
        },
        drop: || {},
        dropped: Arrivals::new(),
    }));
    assert!(poll(&mut handle, &waker).is_pending());
    gate.open();
    ran.wait_for(3);
    pool.wait_idle();
    assert_eq!(ready(&mut handle).unwrap(), 7);
    assert_at_rest(&pool);
    assert_eq!(pool.stats().completed, 5);
}

/// A task that a waker joins, and so runs, is a task as any other: the pool is not at rest meanwhile.
#[test]
fn p18_what_a_waker_runs_keeps_the_pool_from_rest() {
    let pool = Pool::with_capacity(1);
    let (mut handle, gate) = gated(&pool);
    let (inside, begun) = (Gate::new().opened_on_drop(), Arrivals::new());
    let (inner, waits, begins) = (pool.handle(), (*inside).clone(), begun.clone());
    let waker = Waker::from(Arc::new(Acts {
        wake: move || {
            let (waits, begins) = (waits.clone(), begins.clone());
            let child = spawned(inner.spawn(move || {
                begins.arrive();
                waits.wait();
            }));
            child.join().unwrap();
        },
        drop: || {},
        dropped: Arrivals::new(),
    }));
    assert!(poll(&mut handle, &waker).is_pending());
    gate.open();
    begun.wait_for(1);
    assert!(!pool.wait_idle_timeout(Duration::from_millis(20)));
    assert_eq!(pool.running(), 1);
    inside.open();
    pool.wait_idle();
    assert_at_rest(&pool);
    assert_eq!(pool.stats().completed, 2);
}

/// A submitter's wait and a future's on the same pool do not mind each other.
#[test]
fn a_future_is_woken_while_submitters_wait() {
    on_each_executor(|| async {
        let pool = Pool::with_capacity(1);
        let (handle, gate) = gated(&pool);
        let waiter = thread::spawn({
            let pool = pool.handle();
            move || spawned(pool.spawn(|| 2))
        });
        eventually_waiting(&pool, 1);
        let opener = thread::spawn(move || gate.open());
        assert_eq!(handle.await.unwrap(), 7);
        opener.join().unwrap();
        assert_eq!(waiter.join().unwrap().await.unwrap(), 2);
    });
}
