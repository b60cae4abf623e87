//! Results of tasks: `spawn` and its forms, `JoinHandle` and `JoinError`.
//!
//! R2 (a panic goes to exactly one place), R4 (every handle resolves, wherever its task was queued),
//! what cancelling promises, and what the rows of the pool promise to those who spawn: overflow,
//! refusals, reuse (P2), and the books (P18). What a spawn allocates is in `allocations.rs`, joins
//! within tasks are in `joins_in_tasks.rs`, and futures in `await_handles.rs`.

mod support;

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::panic::{
    AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, panic_any, resume_unwind,
};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anthill::{JoinError, JoinHandle, Overflow, Pool, PoolHandle, SubmitError, SubmitErrorKind};
use rand::Rng;
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, OpensOnDrop, assert_at_rest, eventually,
    eventually_eq, eventually_waiting, expect_accepted, joined, occupy, receive, refusal,
    seeded_rng, spawned, watchdog,
};

/// The refusal of a spawn, with its closure.
#[track_caller]
fn refused<T, F>(result: Result<JoinHandle<T>, SubmitError<F>>) -> (SubmitErrorKind, F) {
    match result {
        Ok(_) => panic!("the pool accepted a task that it had to refuse"),
        Err(error) => error.into_parts(),
    }
}

/// A paused pool, whose backlog takes so many tasks.
fn paused(backlog: usize) -> Pool {
    let pool = Pool::builder().capacity(0).backlog(backlog);
    pool.build().unwrap()
}

/// A pool whose handler writes down the messages of the panics it is told of.
fn telling(capacity: usize) -> (Pool, Log<Option<String>>) {
    let told = Log::new();
    let handler = told.clone();
    let pool = Pool::builder()
        .capacity(capacity)
        .unbounded_backlog()
        .panic_handler(move |panic| handler.push(panic.message().map(str::to_owned)))
        .build()
        .unwrap();
    (pool, told)
}

// ---- the value ----

#[test]
fn the_value_comes_back_whichever_way_it_was_spawned() {
    let pool = Pool::with_capacity(2);
    let text = String::from("moved in");
    let handle = spawned(pool.spawn(move || text + " and out"));
    assert_eq!(joined(handle).unwrap(), "moved in and out");
    let handle = spawned(pool.spawn_timeout(|| vec![1, 2, 3], Duration::from_secs(20)));
    assert_eq!(joined(handle).unwrap(), [1, 2, 3]);
    let handle = spawned(pool.spawn_timeout(|| 'x', Duration::MAX));
    assert_eq!(joined(handle).unwrap(), 'x');
    pool.wait_idle();
    let handle = spawned(pool.try_spawn(|| [7_u64; 100]));
    assert_eq!(joined(handle).unwrap(), [7; 100]);
    // A value that only moves between threads, and is never shared.
    let handle = spawned(pool.handle().spawn(|| Cell::new(5)));
    assert_eq!(joined(handle).unwrap().get(), 5);
    assert_at_rest(&pool);
    assert_eq!(pool.stats().completed, 5);
}

#[test]
fn the_global_pool_gives_results_too() {
    let before = anthill::global().stats();
    let handles: Vec<_> = (0..20_u64)
        .map(|number| spawned(anthill::spawn(move || number * number)))
        .collect();
    let sum: u64 = handles.into_iter().map(|one| joined(one).unwrap()).sum();
    assert_eq!(sum, 2470);
    let after = anthill::global().stats();
    assert_eq!(after.submitted - before.submitted, 20);
}

/// A task that returns a `Result` keeps its own error apart from that of the join.
#[test]
fn an_error_that_the_task_returns_is_a_value() {
    let pool = Pool::with_capacity(1);
    let handle = spawned(pool.spawn(|| "seven".parse::<u8>()));
    assert!(joined(handle).unwrap().is_err());
    assert_at_rest(&pool);
    assert_eq!(pool.stats().completed, 1);
}

/// All that the task did, and the drop of what it captured, happens before `join` returns.
#[test]
fn what_the_task_captured_is_gone_when_join_returns() {
    let pool = Pool::with_capacity(2);
    watchdog("all are joined", move || {
        for round in 0..2_000 {
            let dropped = Arrivals::new();
            let seen = Arc::new(AtomicU64::new(0));
            let (captured, writes) = (DropCounter(dropped.clone()), Arc::clone(&seen));
            let handle = spawned(pool.spawn(move || {
                let _until_the_end = &captured;
                writes.store(round, Ordering::Relaxed);
                if round % 3 == 0 {
                    resume_unwind(Box::new("on purpose"));
                }
            }));
            assert_eq!(handle.join().is_err(), round % 3 == 0);
            assert_eq!((dropped.count(), seen.load(Ordering::Relaxed)), (1, round));
        }
        assert_at_rest(&pool);
    });
}

/// The place of a task is free when its join returns: there is room for the next one.
#[test]
fn the_room_of_a_task_is_free_when_join_returns() {
    let pool = Pool::with_capacity(1);
    watchdog("all are joined", move || {
        for number in 0..2_000 {
            let handle = spawned(pool.try_spawn(move || number));
            assert_eq!(handle.join().unwrap(), number);
        }
        assert_eq!(pool.stats().rejected, 0);
    });
}

#[test]
fn p02_tasks_joined_one_after_the_other_run_on_one_thread() {
    for backlog in [Some(0), Some(10), None] {
        let builder = Pool::builder().capacity(4).keep_workers();
        let pool = match backlog {
            Some(backlog) => builder.backlog(backlog),
            None => builder.unbounded_backlog(),
        }
        .build()
        .unwrap();
        watchdog("all are joined", move || {
            for number in 0..1_000 {
                let handle = spawned(pool.spawn(move || number));
                assert_eq!(handle.join().unwrap(), number);
            }
            let stats = pool.stats();
            assert_eq!(
                (stats.workers_started, stats.completed),
                (1, 1_000),
                "backlog {backlog:?}: {stats:?}"
            );
        });
    }
}

// ---- panics ----

/// The task's own payload comes back, not a copy or a text about it.
#[test]
fn a_panic_comes_back_with_its_payload() {
    let (pool, told) = telling(1);
    let error = joined(spawned(pool.spawn(|| -> u8 { panic!("a literal") }))).unwrap_err();
    assert!(error.is_panic() && !error.is_cancelled() && !error.is_deadlock());
    assert_eq!(error.message(), Some("a literal"));
    assert_eq!(error.to_string(), "the task panicked: a literal");
    assert!(format!("{error:?}").contains("a literal"));
    let payload = error.into_panic();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"a literal"));

    let number = 7;
    let handle = spawned(pool.spawn(move || assert!(number != 7, "formatted: {number}")));
    let error = joined(handle).unwrap_err();
    assert_eq!(error.message(), Some("formatted: 7"));
    let payload = error.try_into_panic().expect("it is a panic");
    let text = payload.downcast_ref::<String>().map(String::as_str);
    assert_eq!(text, Some("formatted: 7"));

    let mine = Arc::new(AtomicUsize::new(0));
    let thrown = Arc::clone(&mine);
    let error = joined(spawned(pool.spawn(move || panic_any(thrown)))).unwrap_err();
    assert_eq!(error.message(), None);
    let payload = error.into_panic().downcast::<Arc<AtomicUsize>>();
    assert!(Arc::ptr_eq(&payload.expect("the same type"), &mine));

    assert_at_rest(&pool);
    assert_eq!((pool.stats().panicked, told.len()), (3, 0));
}

#[test]
fn a_panic_can_go_on_in_who_joins() {
    let pool = Pool::with_capacity(1);
    let handle = spawned(pool.spawn(|| panic_any(41_u8)));
    let went_on = catch_unwind(AssertUnwindSafe(|| match joined(handle) {
        Ok(()) => {}
        Err(error) => resume_unwind(error.into_panic()),
    }));
    assert_eq!(went_on.unwrap_err().downcast_ref::<u8>(), Some(&41));
}

#[test]
fn what_is_no_panic_has_no_payload() {
    let pool = paused(1);
    let handle = spawned(pool.spawn(|| ()));
    assert!(handle.cancel());
    let error = joined(handle).unwrap_err();
    assert!(error.is_cancelled() && !error.is_panic() && !error.is_deadlock());
    assert_eq!(error.message(), None);
    assert!(!error.to_string().is_empty());
    let error = error.try_into_panic().expect_err("it was cancelled");
    assert!(error.is_cancelled(), "{error:?}");
    let panicked = catch_unwind(AssertUnwindSafe(|| error.into_panic()));
    assert!(panicked.is_err(), "it made a payload up");
}

// ---- R2: a panic goes to exactly one place ----

/// Panics with what counts itself as it is dropped, and without a message on the terminal.
fn throw(counter: DropCounter) {
    resume_unwind(Box::new(counter));
}

#[test]
fn r2_with_a_handle_the_panic_is_the_handles_alone() {
    let (pool, told) = telling(1);
    let dropped = Arrivals::new();
    let counter = DropCounter(dropped.clone());
    let handle = spawned(pool.spawn(move || throw(counter)));
    pool.wait_idle();
    assert_eq!((dropped.count(), told.len()), (0, 0));
    let error = joined(handle).unwrap_err();
    assert_eq!((error.is_panic(), dropped.count()), (true, 0));
    drop(error);
    assert_eq!(dropped.count(), 1, "the error owns the payload");
    assert_at_rest(&pool);
    assert_eq!((pool.stats().panicked, told.len()), (1, 0));
}

#[test]
fn r2_with_the_handle_dropped_before_the_end_the_handler_is_told_once() {
    let (pool, told) = telling(1);
    let gate = Gate::new().opened_on_drop();
    let (begun, inside) = (Arrivals::new(), (*gate).clone());
    let begins = begun.clone();
    let running = spawned(pool.spawn(move || {
        begins.arrive();
        inside.wait();
        panic!("of a running task");
    }));
    let queued = spawned(pool.spawn(|| panic!("of a queued task")));
    begun.wait_for(1);
    drop(running);
    drop(queued);
    gate.open();
    pool.wait_idle();
    let expected = ["of a running task", "of a queued task"];
    assert_eq!(
        told.entries(),
        expected.map(|text| Some(String::from(text)))
    );
    assert_at_rest(&pool);
    assert_eq!(pool.stats().panicked, 2);
}

#[test]
fn r2_with_the_handle_dropped_after_the_end_the_handler_is_not_told() {
    let (pool, told) = telling(1);
    let dropped = Arrivals::new();
    let counter = DropCounter(dropped.clone());
    let handle = spawned(pool.spawn(move || throw(counter)));
    pool.wait_idle();
    assert_eq!(dropped.count(), 0);
    drop(handle);
    assert_eq!((dropped.count(), told.len()), (1, 0));
    assert_at_rest(&pool);
    assert_eq!(pool.stats().panicked, 1);
}

/// However a drop of the handle and the end of the task meet: the payload is dropped once, by the
/// handle or by the handler that was told, and the panic is counted once.
#[test]
fn r2_a_handle_dropped_as_the_task_panics_loses_and_doubles_nothing() {
    let told = Arrivals::new();
    let handler = told.clone();
    let pool = Pool::builder()
        .capacity(2)
        .panic_handler(move |panic| {
            assert!(panic.payload().is::<DropCounter>());
            handler.arrive();
        })
        .build()
        .unwrap();
    let dropped = Arrivals::new();
    let mut rng = seeded_rng("r2_a_handle_dropped_as_the_task_panics_loses_and_doubles_nothing");
    let rounds = 500;
    for _ in 0..rounds {
        let counter = DropCounter(dropped.clone());
        let handle = spawned(pool.spawn(move || throw(counter)));
        for _ in 0..rng.random_range(0..3_000) {
            std::hint::spin_loop();
        }
        drop(handle);
    }
    pool.wait_idle();
    assert_at_rest(&pool);
    assert_eq!(dropped.count(), rounds);
    assert_eq!(pool.stats().panicked, rounds as u64);
    assert!(told.count() <= rounds);
}

/// Panics as it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload's drop");
    }
}

/// A payload whose drop panics ends nobody: not who drops the handle, nor who drops the error, nor
/// the worker.
#[test]
fn r2_a_payload_whose_drop_panics_harms_nobody() {
    let (pool, told) = telling(1);
    let throw = || {
        let handle = spawned(pool.spawn(|| panic_any(Bomb)));
        pool.wait_idle();
        handle
    };
    drop(throw());
    let error = joined(throw()).unwrap_err();
    assert!(error.is_panic());
    drop(error);
    assert_eq!(told.len(), 0);

    let occupied = occupy(&pool, 1);
    drop(spawned(pool.spawn(|| panic_any(Bomb))));
    occupied.end();
    pool.wait_idle();
    assert_eq!(told.entries(), [None]);

    assert_eq!(joined(spawned(pool.spawn(|| 1))).unwrap(), 1);
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!((stats.panicked, stats.workers_started), (3, 1), "{stats:?}");
}

// ---- R4: every handle resolves ----

/// A task with a handle that has not started, somewhere in its pool.
struct Waits {
    place: &'static str,
    handle: JoinHandle<u8>,
    /// Arrives as the task's capture is dropped.
    dropped: Arrivals,
    /// Arrives as the task runs.
    ran: Arrivals,
    /// Holds the task up, unless the pool is paused. Dropped before the pool.
    gate: OpensOnDrop,
    pool: Pool,
}

impl Waits {
    /// Lets the task run, if it is still to run.
    fn go_on(&self) {
        self.gate.open();
        self.pool.tune(1);
    }
}

/// What becomes a [`Waits`] once its task was spawned.
struct Victim {
    dropped: Arrivals,
    ran: Arrivals,
}

impl Victim {
    fn new() -> Victim {
        let (dropped, ran) = (Arrivals::new(), Arrivals::new());
        Victim { dropped, ran }
    }

    fn spawn_into(&self, pool: &PoolHandle) -> JoinHandle<u8> {
        let captured = DropCounter(self.dropped.clone());
        let ran = self.ran.clone();
        spawned(pool.spawn(move || {
            let _until_the_end = &captured;
            ran.arrive();
            7
        }))
    }

    fn waits(self, place: &'static str, handle: JoinHandle<u8>, gate: &Gate, pool: Pool) -> Waits {
        let Victim { dropped, ran } = self;
        assert_eq!((dropped.count(), ran.count()), (0, 0), "{place}");
        assert!(!handle.is_finished(), "{place}");
        let gate = gate.opened_on_drop();
        Waits {
            place,
            handle,
            dropped,
            ran,
            gate,
            pool,
        }
    }
}

/// One that occupies the worker; returns its gate.
fn hold_worker(pool: &PoolHandle) -> Gate {
    let (gate, begun) = (Gate::new(), Arrivals::new());
    let (inside, begins) = (gate.clone(), begun.clone());
    expect_accepted(pool.submit(move || {
        begins.arrive();
        inside.wait();
    }));
    begun.wait_for(1);
    gate
}

fn in_a_paused_backlog() -> Waits {
    let (pool, victim) = (paused(2), Victim::new());
    let handle = victim.spawn_into(&pool);
    victim.waits("a paused backlog", handle, &Gate::new(), pool)
}

fn in_the_backlog_of_a_busy_worker() -> Waits {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let victim = Victim::new();
    let gate = hold_worker(&pool);
    let handle = victim.spawn_into(&pool);
    victim.waits("the backlog of a busy worker", handle, &gate, pool)
}

/// A task spawns it beyond the bound: it is in the local queue of the worker that runs that task.
fn at_the_desk_of_its_worker() -> Waits {
    let (pool, victim) = (Pool::with_capacity(1), Victim::new());
    let gate = Gate::new();
    let (sender, receiver) = channel();
    let (inner, inside) = (pool.handle(), gate.clone());
    let counters = (victim.dropped.clone(), victim.ran.clone());
    expect_accepted(pool.submit(move || {
        let (dropped, ran) = counters;
        let child = Victim { dropped, ran }.spawn_into(&inner);
        let _ = sender.send(child);
        inside.wait();
    }));
    let handle = receive("the child was spawned", &receiver);
    victim.waits("the local queue of its worker", handle, &gate, pool)
}

/// A task spawns it while a submitter waits for room: it is in line behind that one.
fn in_line_behind_a_submitter() -> Waits {
    let (pool, victim) = (Pool::with_capacity(1), Victim::new());
    let (gate, may_spawn) = (Gate::new(), Gate::new().opened_on_drop());
    let (sender, receiver) = channel();
    let (inner, inside, spawns) = (pool.handle(), gate.clone(), (*may_spawn).clone());
    let counters = (victim.dropped.clone(), victim.ran.clone());
    expect_accepted(pool.submit(move || {
        spawns.wait();
        let (dropped, ran) = counters;
        let child = Victim { dropped, ran }.spawn_into(&inner);
        let _ = sender.send(child);
        inside.wait();
    }));
    let submitter = pool.handle();
    thread::spawn(move || {
        // Closed, where the test releases the pool.
        let _ = submitter.submit(|| {});
    });
    eventually_waiting(&pool, 1);
    may_spawn.open();
    let handle = receive("the child was spawned", &receiver);
    assert_eq!(pool.waiting(), 1);
    victim.waits("the line behind a submitter", handle, &gate, pool)
}

/// The worker took it along with the task that it runs.
fn in_the_batch_of_a_busy_worker() -> Waits {
    let pool = Pool::builder().capacity(0).unbounded_backlog();
    let (pool, victim) = (pool.build().unwrap(), Victim::new());
    let (gate, begun) = (Gate::new(), Arrivals::new());
    let (inside, begins) = (gate.clone(), begun.clone());
    expect_accepted(pool.submit(move || {
        begins.arrive();
        inside.wait();
    }));
    expect_accepted(pool.submit(|| {}));
    let handle = victim.spawn_into(&pool);
    for _ in 0..60 {
        expect_accepted(pool.submit(|| {}));
    }
    pool.tune(1);
    begun.wait_for(1);
    victim.waits("the batch of a busy worker", handle, &gate, pool)
}

/// Its worker had it in a batch when the pool was paused.
fn handed_back() -> Waits {
    let waits = in_the_batch_of_a_busy_worker();
    waits.pool.tune(0);
    waits.gate.open();
    eventually_eq("workers of a paused pool", 0, || waits.pool.workers());
    assert_eq!(waits.ran.count(), 0);
    let place = "what was handed back";
    Waits { place, ..waits }
}

/// A task not started, in each place where it may be queued.
fn everywhere() -> impl Iterator<Item = Waits> {
    let makers: [fn() -> Waits; 6] = [
        in_a_paused_backlog,
        in_the_backlog_of_a_busy_worker,
        at_the_desk_of_its_worker,
        in_line_behind_a_submitter,
        in_the_batch_of_a_busy_worker,
        handed_back,
    ];
    makers.into_iter().map(|make| make())
}

#[test]
fn r4_wherever_it_is_queued_a_task_runs_in_the_end() {
    for waits in everywhere() {
        waits.go_on();
        assert_eq!(joined(waits.handle).unwrap(), 7, "{}", waits.place);
        assert_eq!((waits.ran.count(), waits.dropped.count()), (1, 1));
        eventually_waiting(&waits.pool, 0);
        waits.pool.wait_idle();
        assert_at_rest(&waits.pool);
        assert_eq!(waits.pool.stats().cancelled, 0);
    }
}

/// Cancelling drops what the task captured before it returns, and the task never runs.
#[test]
fn r4_wherever_it_is_queued_a_task_can_be_cancelled() {
    for waits in everywhere() {
        let place = waits.place;
        let queued = waits.pool.queued();
        assert!(waits.handle.cancel(), "{place}");
        assert_eq!(
            waits.dropped.count(),
            1,
            "{place}: captures are free at once"
        );
        assert_eq!(waits.pool.queued(), queued - 1, "{place}");
        assert_eq!(waits.pool.stats().cancelled, 1, "{place}");
        assert!(waits.handle.is_finished(), "{place}");
        assert!(!waits.handle.cancel(), "{place}: it is cancelled already");
        waits.go_on();
        eventually_waiting(&waits.pool, 0);
        waits.pool.wait_idle();
        let error = joined(waits.handle).unwrap_err();
        assert!(error.is_cancelled(), "{place}: {error:?}");
        assert_eq!(
            (waits.ran.count(), waits.dropped.count()),
            (0, 1),
            "{place}"
        );
        assert_at_rest(&waits.pool);
        let stats = waits.pool.stats();
        assert_eq!((stats.cancelled, stats.discarded), (1, 0), "{place}");
    }
}

#[test]
fn r4_wherever_it_is_queued_release_now_cancels_a_task() {
    for waits in everywhere() {
        let place = waits.place;
        let discarded = waits.pool.release_now();
        assert!(discarded >= 1, "{place}");
        assert_eq!(waits.dropped.count(), 1, "{place}");
        let error = joined(waits.handle).unwrap_err();
        assert!(error.is_cancelled(), "{place}: {error:?}");
        waits.gate.open();
        waits.pool.wait_idle();
        assert_eq!(
            (waits.ran.count(), waits.dropped.count()),
            (0, 1),
            "{place}"
        );
        assert_at_rest(&waits.pool);
        let stats = waits.pool.stats();
        let expected = (discarded as u64, 0);
        assert_eq!((stats.discarded, stats.cancelled), expected, "{place}");
    }
}

/// Who cancels first has it: what is cancelled is not discarded a second time.
#[test]
fn r4_release_now_does_not_count_what_was_cancelled() {
    let pool = paused(3);
    let handles = [(); 3].map(|()| spawned(pool.spawn(|| ())));
    assert!(handles[1].cancel());
    assert_eq!(pool.release_now(), 2);
    for handle in handles {
        assert!(joined(handle).unwrap_err().is_cancelled());
    }
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.discarded), (1, 2), "{stats:?}");
}

/// Dropping the pool runs what was accepted, so its handles have values, and outlive it.
#[test]
fn r4_wherever_it_is_queued_a_task_has_its_result_when_its_pool_was_dropped() {
    for waits in everywhere() {
        let (pool, place) = (waits.pool, waits.place);
        waits.gate.open();
        watchdog("the pool ends", move || drop(pool));
        assert!(waits.handle.is_finished(), "{place}");
        assert!(!waits.handle.cancel(), "{place}");
        assert_eq!(joined(waits.handle).unwrap(), 7, "{place}");
    }
}

/// Nobody has the pool any more but those who hold handles to its tasks.
#[test]
fn r4_the_tasks_of_a_detached_pool_that_nobody_holds_have_results() {
    let pool = Pool::builder().capacity(1).unbounded_backlog();
    let pool = pool.build().unwrap().detach();
    let handles: Vec<_> = (0..10)
        .map(|number| spawned(pool.spawn(move || number)))
        .collect();
    drop(pool);
    for (number, handle) in handles.into_iter().enumerate() {
        assert_eq!(joined(handle).unwrap(), number);
    }
}

/// Those who wait already learn of it as well.
#[test]
fn r4_release_now_wakes_those_who_join() {
    let pool = paused(4);
    thread::scope(|scope| {
        let joiners: Vec<_> = (0..4)
            .map(|_| {
                let handle = spawned(pool.spawn(|| ()));
                scope.spawn(move || handle.join_timeout(DEADLINE))
            })
            .collect();
        assert_eq!(pool.release_now(), 4);
        for joiner in joiners {
            let result = joiner.join().unwrap().expect("it resolves in time");
            assert!(result.unwrap_err().is_cancelled());
        }
    });
}

/// A task that has started is not discarded.
#[test]
fn r4_release_now_leaves_a_running_task_its_result() {
    let pool = Pool::with_capacity(1);
    let gate = Gate::new().opened_on_drop();
    let (begun, inside) = (Arrivals::new(), (*gate).clone());
    let begins = begun.clone();
    let handle = spawned(pool.spawn(move || {
        begins.arrive();
        inside.wait();
        "finished"
    }));
    begun.wait_for(1);
    assert_eq!(pool.release_now(), 0);
    gate.open();
    assert_eq!(joined(handle).unwrap(), "finished");
}

// ---- cancel ----

/// The room of a cancelled task is free at once: for `try_submit`, and as often as one likes.
#[test]
fn cancel_frees_the_room_at_once() {
    let busy = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let _gate = hold_worker(&busy).opened_on_drop();
    for pool in [&*busy, &*paused(1)] {
        let dropped = Arrivals::new();
        for round in 1..=200 {
            let captured = DropCounter(dropped.clone());
            let handle = spawned(pool.try_spawn(move || drop(captured)));
            assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
            assert_eq!(dropped.count(), round - 1);
            assert!(handle.cancel());
            assert_eq!((dropped.count(), pool.queued()), (round, 0));
        }
        expect_accepted(pool.try_submit(|| {}));
        assert_eq!(pool.stats().cancelled, 200);
        pool.release_now();
    }
}

#[test]
fn cancel_lets_in_who_waits_for_room() {
    let pool = paused(1);
    let handle = spawned(pool.spawn(|| 1));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| spawned(pool.spawn(|| 2)));
        eventually_waiting(&pool, 1);
        assert!(handle.cancel());
        let handle = waiter.join().unwrap();
        assert_eq!((pool.waiting(), pool.queued()), (0, 1));
        pool.tune(1);
        assert_eq!(joined(handle).unwrap(), 2);
    });
}

#[test]
fn cancel_of_a_task_that_runs_or_is_over_says_no() {
    let pool = Pool::with_capacity(1);
    let gate = Gate::new().opened_on_drop();
    let (begun, inside) = (Arrivals::new(), (*gate).clone());
    let begins = begun.clone();
    let handle = spawned(pool.spawn(move || {
        begins.arrive();
        inside.wait();
        5
    }));
    begun.wait_for(1);
    assert!(!handle.cancel(), "it runs");
    assert!(!handle.is_finished());
    gate.open();
    pool.wait_idle();
    assert!(!handle.cancel(), "it is over");
    assert_eq!(joined(handle).unwrap(), 5);
    let handle = spawned(pool.spawn(|| panic!("on purpose")));
    pool.wait_idle();
    assert!(!handle.cancel(), "it panicked");
    assert!(joined(handle).unwrap_err().is_panic());
    assert_at_rest(&pool);
    assert_eq!(pool.stats().cancelled, 0);
}

/// What the task captured may use the pool as it is dropped, and may panic.
#[test]
fn cancel_drops_captures_where_they_may_use_the_pool_and_panic() {
    struct UsesPool(PoolHandle, Arrivals);
    impl Drop for UsesPool {
        fn drop(&mut self) {
            self.0.tune(0);
            expect_accepted(self.0.submit(|| {}));
            let handle = spawned(self.0.spawn(|| ()));
            assert!(handle.cancel());
            let _ = (self.0.stats(), self.0.queued());
            self.1.arrive();
            panic!("on purpose");
        }
    }
    let pool = paused(2);
    let dropped = Arrivals::new();
    let captured = UsesPool(pool.handle(), dropped.clone());
    let handle = spawned(pool.spawn(move || drop(captured)));
    let handle = watchdog("cancelling ends", move || {
        assert!(handle.cancel());
        handle
    });
    assert_eq!(dropped.count(), 1);
    assert!(joined(handle).unwrap_err().is_cancelled());
    pool.tune(1);
    pool.wait_idle();
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.completed), (2, 1), "{stats:?}");
}

/// The pool is at rest once the last task is cancelled, and not before its captures are gone: also where
/// the task held no place, in the local queue of a worker that is through with all else.
#[test]
fn p18_wait_idle_ends_once_a_cancelled_task_has_dropped_what_it_captured() {
    struct Slow(Arrivals, Gate, Arrivals);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.arrive();
            self.1.wait();
            self.2.arrive();
        }
    }
    for in_a_local_queue in [false, true] {
        let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
        let (begun, over) = (Arrivals::new(), Arrivals::new());
        let (gate, parent) = (Gate::new().opened_on_drop(), Gate::new().opened_on_drop());
        let captured = Slow(begun.clone(), (*gate).clone(), over.clone());
        let task = move || drop(captured);
        let handle = if in_a_local_queue {
            let (inner, inside) = (pool.handle(), (*parent).clone());
            let (sender, receiver) = channel();
            expect_accepted(pool.submit(move || {
                // The backlog is full, so the next one is kept in the local queue.
                expect_accepted(inner.submit(|| {}));
                let _ = sender.send(spawned(inner.spawn(task)));
                inside.wait();
            }));
            receive("the child was spawned", &receiver)
        } else {
            pool.tune(0);
            spawned(pool.spawn(task))
        };
        thread::scope(|scope| {
            let canceller = scope.spawn(|| handle.cancel());
            begun.wait_for(1);
            parent.open();
            eventually_eq("running tasks", 0, || pool.running());
            eventually_eq("queued tasks that are not being cancelled", 1, || {
                pool.queued()
            });
            assert!(!pool.wait_idle_timeout(Duration::from_millis(20)));
            let waiter = scope.spawn(|| {
                pool.wait_idle();
                over.count()
            });
            gate.open();
            assert!(canceller.join().unwrap());
            assert_eq!(
                waiter.join().unwrap(),
                1,
                "in a local queue: {in_a_local_queue}"
            );
        });
        assert_at_rest(&pool);
    }
}

/// However a cancel and the start of the task meet: it ran or it was cancelled, never both, and the
/// books say how often.
#[test]
fn a_task_that_is_cancelled_as_it_starts_either_ran_or_was_cancelled() {
    let mut rng = seeded_rng("a_task_that_is_cancelled_as_it_starts_either_ran_or_was_cancelled");
    for (capacity, bounded) in [(1, true), (2, true), (2, false)] {
        let builder = Pool::builder().capacity(capacity);
        let pool = if bounded {
            builder.backlog(8)
        } else {
            builder.unbounded_backlog()
        }
        .build()
        .unwrap();
        let (mut cancelled, mut completed) = (0, 0);
        for _ in 0..1_500 {
            let batch: Vec<_> = (0..4)
                .map(|_| {
                    let ran = Arc::new(AtomicBool::new(false));
                    let runs = Arc::clone(&ran);
                    let task = move || runs.store(true, Ordering::Relaxed);
                    (spawned(pool.spawn(task)), ran)
                })
                .collect();
            for _ in 0..rng.random_range(0..500) {
                std::hint::spin_loop();
            }
            for (handle, ran) in batch.into_iter().rev() {
                let was_cancelled = handle.cancel();
                let Ok(result) = handle.join_timeout(DEADLINE) else {
                    panic!("the handle does not resolve");
                };
                assert_eq!(ran.load(Ordering::Relaxed), !was_cancelled);
                match result {
                    Ok(()) => assert!(!was_cancelled),
                    Err(error) => assert!(was_cancelled && error.is_cancelled()),
                }
                if was_cancelled {
                    cancelled += 1;
                } else {
                    completed += 1;
                }
            }
        }
        eprintln!("capacity {capacity}: {completed} ran, {cancelled} were cancelled");
        pool.wait_idle();
        assert_at_rest(&pool);
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.cancelled), (completed, cancelled));
    }
}

// ---- waiting, and not waiting ----

#[test]
fn join_timeout_gives_the_handle_back_and_it_can_be_joined_later() {
    let pool = Pool::with_capacity(1);
    let gate = Gate::new().opened_on_drop();
    let inside = (*gate).clone();
    let mut handle = spawned(pool.spawn(move || {
        inside.wait();
        "late"
    }));
    for milliseconds in [0, 1, 5] {
        handle = match handle.join_timeout(Duration::from_millis(milliseconds)) {
            Ok(_) => panic!("the task still runs"),
            Err(handle) => handle,
        };
        assert!(!handle.is_finished());
    }
    gate.open();
    assert_eq!(joined(handle).unwrap(), "late");
}

/// `Duration::MAX` is for ever, and no time at all is enough for what is over.
#[test]
fn join_timeout_takes_any_duration() {
    let pool = Pool::with_capacity(1);
    let gate = Gate::new().opened_on_drop();
    let inside = (*gate).clone();
    let handle = spawned(pool.spawn(move || inside.wait()));
    thread::scope(|scope| {
        let joiner = scope.spawn(|| handle.join_timeout(Duration::MAX));
        gate.open();
        assert!(joiner.join().unwrap().expect("it is over").is_ok());
    });
    let handle = spawned(pool.spawn(|| 3));
    pool.wait_idle();
    let result = handle.join_timeout(Duration::ZERO).expect("it is over");
    assert_eq!(result.unwrap(), 3);
    let handle = spawned(pool.spawn(|| panic!("on purpose")));
    pool.wait_idle();
    let result = handle.join_timeout(Duration::ZERO).expect("it is over");
    assert!(result.unwrap_err().is_panic());
}

/// What is finished can be joined in no time.
#[test]
fn join_timeout_of_what_is_finished_never_times_out() {
    let pool = Pool::with_capacity(1);
    for round in 0..3_000 {
        let handle = spawned(pool.spawn(move || round));
        if round % 2 == 0 {
            pool.wait_idle();
        } else {
            eventually("it is finished", || handle.is_finished());
        }
        let result = handle.join_timeout(Duration::ZERO);
        assert_eq!(result.expect("it is finished").unwrap(), round);
    }
}

/// A handle may go to another thread between two waits.
#[test]
fn a_handle_may_be_waited_for_by_one_thread_after_another() {
    let pool = Pool::with_capacity(1);
    let gate = Gate::new().opened_on_drop();
    let inside = (*gate).clone();
    let mut handle = spawned(pool.spawn(move || inside.wait()));
    for _ in 0..3 {
        handle = watchdog("the time is up", move || {
            match handle.join_timeout(Duration::from_millis(2)) {
                Ok(_) => panic!("the task still runs"),
                Err(handle) => handle,
            }
        });
    }
    let joiner = thread::spawn(move || handle.join_timeout(DEADLINE));
    gate.open();
    assert!(joiner.join().unwrap().expect("it is over").is_ok());
}

#[test]
fn every_task_is_finished_after_wait_idle_however_it_ended() {
    let pool = Pool::builder().capacity(0).unbounded_backlog();
    let pool = pool.build().unwrap();
    let (done, panicked, cancelled) = (
        spawned(pool.spawn(|| ())),
        spawned(pool.spawn(|| panic!("on purpose"))),
        spawned(pool.spawn(|| ())),
    );
    assert!(!done.is_finished() && !panicked.is_finished() && !cancelled.is_finished());
    assert!(cancelled.cancel());
    assert!(cancelled.is_finished() && !done.is_finished());
    assert!(format!("{done:?}").contains("false"));
    pool.tune(2);
    pool.wait_idle();
    assert!(done.is_finished() && panicked.is_finished());
    assert!(format!("{done:?}").contains("true"));
    assert!(joined(done).is_ok());
    assert!(joined(panicked).unwrap_err().is_panic());
}

/// Dropping a handle lets the task go on; its result is dropped as it ends.
#[test]
fn dropping_a_handle_detaches_the_task() {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let gate = Gate::new().opened_on_drop();
    let (begun, ran, results) = (Arrivals::new(), Arrivals::new(), Arrivals::new());
    let task = || {
        let (begun, inside, ran) = (begun.clone(), (*gate).clone(), ran.clone());
        let result = DropCounter(results.clone());
        move || {
            begun.arrive();
            inside.wait();
            ran.arrive();
            result
        }
    };
    let (running, queued) = (spawned(pool.spawn(task())), spawned(pool.spawn(task())));
    begun.wait_for(1);
    drop(running);
    drop(queued);
    assert_eq!((ran.count(), results.count()), (0, 0));
    gate.open();
    pool.wait_idle();
    assert_eq!((ran.count(), results.count()), (2, 2));
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (2, 0), "{stats:?}");
}

/// A result is dropped once, by who has it.
#[test]
fn a_result_is_dropped_once() {
    let pool = Pool::with_capacity(1);
    let dropped = Arrivals::new();
    let spawn = || {
        let result = DropCounter(dropped.clone());
        let handle = spawned(pool.spawn(move || result));
        pool.wait_idle();
        handle
    };
    let result = joined(spawn()).unwrap();
    assert_eq!(dropped.count(), 0);
    drop(result);
    assert_eq!(dropped.count(), 1);
    let handle = spawn();
    assert_eq!(dropped.count(), 1, "the handle has it");
    drop(handle);
    assert_eq!(dropped.count(), 2);
}

/// The drop of a result that nobody wants is a part of its task: if it panics, the task panicked.
#[test]
fn a_panic_in_the_drop_of_an_unwanted_result_is_counted_and_told_once() {
    struct Unwanted;
    impl Drop for Unwanted {
        fn drop(&mut self) {
            panic!("unwanted");
        }
    }
    let (pool, told) = telling(1);
    let occupied = occupy(&pool, 1);
    drop(spawned(pool.spawn(|| Unwanted)));
    occupied.end();
    pool.wait_idle();
    assert_eq!(told.entries(), [Some(String::from("unwanted"))]);
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!((stats.panicked, stats.completed), (1, 1), "{stats:?}");
    assert_eq!(stats.workers_started, 1, "{stats:?}");
}

// ---- overflow ----

fn full_with(overflow: Overflow, backlog: usize) -> (Pool, support::Occupied) {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(backlog)
        .overflow(overflow)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    (pool, occupied)
}

#[test]
fn with_block_spawn_waits_for_room() {
    let (pool, occupied) = full_with(Overflow::Block, 0);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| spawned(pool.spawn(|| "let in")));
        eventually_waiting(&pool, 1);
        occupied.end();
        let handle = waiter.join().unwrap();
        assert_eq!(joined(handle).unwrap(), "let in");
    });
}

#[test]
fn with_reject_spawn_gives_the_closure_back_and_it_can_be_run() {
    let (pool, _occupied) = full_with(Overflow::Reject, 0);
    let text = String::from("still here");
    let (kind, closure) = refused(pool.spawn(move || text));
    assert_eq!(kind, SubmitErrorKind::Full);
    assert_eq!(closure(), "still here");
    let stats = pool.stats();
    assert_eq!((stats.rejected, stats.submitted), (1, 1), "{stats:?}");
}

/// The task is over when `spawn` returns, and its handle has the result, or the panic.
#[test]
fn with_caller_runs_the_handle_is_ready_when_spawn_returns() {
    let told = Arrivals::new();
    let handler = told.clone();
    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::CallerRuns)
        .panic_handler(move |_| handler.arrive())
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let handle = spawned(pool.spawn(|| thread::current().id()));
    assert!(handle.is_finished() && !handle.cancel());
    assert_eq!(handle.join().unwrap(), thread::current().id());
    let handle = spawned(pool.spawn(|| panic!("in the caller")));
    assert!(handle.is_finished());
    let error = handle.join().unwrap_err();
    assert_eq!(error.message(), Some("in the caller"));
    assert_eq!(told.count(), 0, "the handle has it");
    occupied.end();
    pool.wait_idle();
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.panicked), (2, 1), "{stats:?}");
}

#[test]
fn with_drop_oldest_the_handle_of_what_was_dropped_says_cancelled() {
    let (pool, occupied) = full_with(Overflow::DropOldest, 2);
    let dropped = Arrivals::new();
    let handles: Vec<_> = (0..5)
        .map(|number| {
            let captured = DropCounter(dropped.clone());
            spawned(pool.spawn(move || {
                drop(captured);
                number
            }))
        })
        .collect();
    assert_eq!(dropped.count(), 3, "the captures of the oldest are free");
    assert!(handles[..3].iter().all(JoinHandle::is_finished));
    assert!(handles[3..].iter().all(|handle| !handle.is_finished()));
    occupied.end();
    for (number, handle) in handles.into_iter().enumerate() {
        match joined(handle) {
            Ok(value) => assert!(number >= 3 && value == number),
            Err(error) => assert!(number < 3 && error.is_cancelled(), "{number}: {error:?}"),
        }
    }
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!((stats.discarded, stats.cancelled), (3, 0), "{stats:?}");
    assert_eq!(stats.completed, 3, "{stats:?}");
}

/// What is cancelled makes room already: nothing is dropped for it.
#[test]
fn with_drop_oldest_a_cancelled_task_makes_room_instead_of_the_oldest() {
    let (pool, occupied) = full_with(Overflow::DropOldest, 2);
    let (first, second) = (spawned(pool.spawn(|| 1)), spawned(pool.spawn(|| 2)));
    assert!(second.cancel());
    let third = spawned(pool.spawn(|| 3));
    occupied.end();
    assert_eq!(joined(first).unwrap(), 1);
    assert_eq!(joined(third).unwrap(), 3);
    assert!(joined(second).unwrap_err().is_cancelled());
    assert_at_rest(&pool);
    assert_eq!(pool.stats().discarded, 0);
}

/// The policy is for `spawn` alone: the other two forms refuse, whatever it is.
#[test]
fn the_try_and_timeout_forms_refuse_under_each_policy() {
    for overflow in [
        Overflow::Block,
        Overflow::Reject,
        Overflow::CallerRuns,
        Overflow::DropOldest,
    ] {
        let (pool, _occupied) = full_with(overflow, 1);
        let queued = spawned(pool.spawn(|| ()));
        let (kind, _) = refused(pool.try_spawn(|| ()));
        assert_eq!(kind, SubmitErrorKind::Full, "{overflow:?}");
        let (kind, _) = refused(pool.spawn_timeout(|| (), Duration::from_millis(2)));
        assert_eq!(kind, SubmitErrorKind::TimedOut, "{overflow:?}");
        assert!(!queued.is_finished(), "{overflow:?}");
        assert!(queued.cancel());
    }
}

/// In a task of the pool `spawn` never waits, whatever the policy; the try form stays honest.
#[test]
fn in_a_task_spawn_never_waits() {
    for overflow in [Overflow::Block, Overflow::CallerRuns, Overflow::Reject] {
        let pool = Pool::builder().capacity(1).overflow(overflow);
        let pool = pool.build().unwrap();
        let inner = pool.handle();
        let children = spawned(pool.spawn(move || {
            let (kind, _) = refused(inner.try_spawn(|| 0));
            assert_eq!(kind, SubmitErrorKind::Full, "{overflow:?}");
            let timed = inner.spawn_timeout(|| 1, Duration::ZERO);
            let child = inner.spawn(|| 2);
            if overflow == Overflow::Reject {
                assert_eq!(refused(child).0, SubmitErrorKind::Full);
                vec![spawned(timed)]
            } else {
                vec![spawned(timed), spawned(child)]
            }
        }));
        let children = joined(children).unwrap();
        for (number, child) in (1..).zip(children) {
            assert_eq!(joined(child).unwrap(), number, "{overflow:?}");
        }
        assert_at_rest(&pool);
    }
}

// ---- refusals ----

type Gives = Box<dyn FnOnce() -> &'static str>;

fn boxed<F: FnOnce() -> &'static str + 'static>(
    (kind, closure): (SubmitErrorKind, F),
) -> (SubmitErrorKind, Gives) {
    (kind, Box::new(closure))
}

/// A refused closure comes back whole, and what it captured lives on.
#[test]
fn a_refused_closure_comes_back_with_what_it_captured() {
    let dropped = Arrivals::new();
    let task = || {
        let captured = DropCounter(dropped.clone());
        move || {
            let _until_the_end = &captured;
            "ran after all"
        }
    };
    let mut refusals = 0;
    let mut comes_back = |expected, (kind, closure): (_, Gives)| {
        assert_eq!((kind, dropped.count()), (expected, refusals));
        assert_eq!(closure(), "ran after all");
        refusals += 1;
        assert_eq!(dropped.count(), refusals);
    };
    let pool = Pool::builder().capacity(1).max_waiting(0).build().unwrap();
    let occupied = occupy(&pool, 1);
    comes_back(
        SubmitErrorKind::Full,
        boxed(refused(pool.try_spawn(task()))),
    );
    comes_back(
        SubmitErrorKind::TooManyWaiting,
        boxed(refused(pool.spawn(task()))),
    );
    drop(occupied);

    let pool = paused(0);
    let timeout = Duration::from_millis(2);
    comes_back(
        SubmitErrorKind::TimedOut,
        boxed(refused(pool.spawn_timeout(task(), timeout))),
    );
    pool.release();
    comes_back(SubmitErrorKind::Closed, boxed(refused(pool.spawn(task()))));
    comes_back(
        SubmitErrorKind::Closed,
        boxed(refused(pool.try_spawn(task()))),
    );
    comes_back(
        SubmitErrorKind::Closed,
        boxed(refused(pool.spawn_timeout(task(), timeout))),
    );
    let stats = pool.stats();
    assert_eq!((stats.rejected, stats.submitted), (4, 0), "{stats:?}");
}

/// Those who wait for room to spawn get their closures back when the pool closes.
#[test]
fn a_spawn_that_waits_gets_its_closure_back_when_the_pool_closes() {
    let (pool, occupied) = full_with(Overflow::Block, 0);
    let dropped = Arrivals::new();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let captured = DropCounter(dropped.clone());
            let (kind, closure) = refused(pool.spawn(move || drop(captured)));
            (kind, dropped.count(), closure)
        });
        eventually_waiting(&pool, 1);
        pool.release();
        let (kind, dropped_before, closure) = waiter.join().unwrap();
        assert_eq!((kind, dropped_before), (SubmitErrorKind::Closed, 0));
        closure();
        assert_eq!(dropped.count(), 1);
    });
    occupied.end();
}

// ---- types ----

/// Any value may be in a handle that goes between threads; errors go wherever errors go.
#[test]
fn handles_and_errors_are_send_and_sync() {
    fn assert_thread_safe<T: Send + Sync>() {}
    fn assert_unpin_and_static<T: Unpin + 'static>() {}
    fn assert_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    assert_thread_safe::<JoinHandle<u8>>();
    assert_thread_safe::<JoinHandle<Cell<u8>>>();
    assert_thread_safe::<JoinError>();
    assert_unwind_safe::<JoinHandle<u8>>();
    assert_unwind_safe::<JoinHandle<Cell<Box<dyn Any + Send>>>>();
    assert_unpin_and_static::<JoinHandle<std::marker::PhantomPinned>>();
}

#[test]
fn a_join_error_goes_into_a_boxed_error_by_the_question_mark() {
    fn fails(pool: &PoolHandle) -> Result<u8, Box<dyn Error + Send + Sync>> {
        let value = pool.spawn(|| -> u8 { panic!("out of leaves") })?.join()?;
        Ok(value)
    }
    let pool = Pool::with_capacity(1);
    let error = fails(&pool).unwrap_err();
    assert_eq!(error.to_string(), "the task panicked: out of leaves");
    assert!(error.downcast_ref::<JoinError>().unwrap().is_panic());
}

// ---- P18: the books ----

/// Whatever is done with handles, by several threads at once, each task ends in one column.
#[test]
fn p18_the_books_balance_whatever_is_done_with_the_handles() {
    let mut rng = seeded_rng("p18_the_books_balance_whatever_is_done_with_the_handles");
    let seeds: Vec<u64> = (0..4).map(|_| rng.random()).collect();
    let pool = Pool::builder()
        .capacity(2)
        .backlog(6)
        .panic_handler(|_| {})
        .build()
        .unwrap();
    let each = 1_500;
    let ran = Arrivals::new();
    let start = Barrier::new(seeds.len());
    let (cancelled, values, panics) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in seeds {
            let (pool, ran, start) = (&pool, &ran, &start);
            let (cancelled, values, panics) = (&cancelled, &values, &panics);
            scope.spawn(move || {
                let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
                start.wait();
                for number in 0..each {
                    let (runs, panics_itself) = (ran.clone(), rng.random_range(0..5) == 0);
                    let handle = spawned(pool.spawn(move || {
                        runs.arrive();
                        if panics_itself {
                            resume_unwind(Box::new("on purpose"));
                        }
                        number
                    }));
                    match rng.random_range(0..4) {
                        0 => drop(handle),
                        1 => {
                            let yes = handle.cancel();
                            cancelled.fetch_add(u64::from(yes), Ordering::Relaxed);
                        }
                        2 => match handle.join_timeout(Duration::from_micros(20)) {
                            Ok(Ok(value)) => assert_eq!(value, number),
                            Ok(Err(error)) => assert!(error.is_panic() && panics_itself),
                            Err(_time_is_up) => {}
                        },
                        _ => match handle.join_timeout(DEADLINE).expect("it resolves") {
                            Ok(value) => {
                                assert_eq!(value, number);
                                values.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => {
                                assert!(error.is_panic() && panics_itself);
                                panics.fetch_add(1, Ordering::Relaxed);
                            }
                        },
                    }
                }
            });
        }
    });
    pool.wait_idle();
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!(stats.submitted, 4 * each, "{stats:?}");
    assert_eq!(stats.cancelled, cancelled.into_inner(), "{stats:?}");
    assert_eq!(stats.completed + stats.panicked, ran.count() as u64);
    assert_eq!((stats.discarded, stats.rejected), (0, 0), "{stats:?}");
    assert!(stats.completed >= values.into_inner());
    assert!(stats.panicked >= panics.into_inner());
}
