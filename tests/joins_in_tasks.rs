//! Joins in tasks: R1, and what P3, P9, P14 and P16 say of a task that waits for another one.
//!
//! A join in a task of the same pool never waits for a worker: it runs what has not started itself, on
//! its own thread and its own place, and it runs nothing else. A join elsewhere only waits.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use anthill::{Builder, JoinError, JoinHandle, Overflow, Pool, PoolHandle, SubmitErrorKind};
use rand::Rng;
use support::{
    Arrivals, DropCounter, Gate, Inside, Log, OpensOnDrop, Running, assert_at_rest, eventually,
    eventually_waiting, expect_accepted, joined, occupy, receive, refusal, seeded_rng, spawned,
    watchdog,
};

/// Runs `body` as a task of `pool`, and returns what it returned. Its panic goes on here.
#[track_caller]
fn in_task<T: Send + 'static>(
    pool: &PoolHandle,
    body: impl FnOnce(&PoolHandle) -> T + Send + 'static,
) -> T {
    let inner = pool.clone();
    match joined(spawned(pool.spawn(move || body(&inner)))) {
        Ok(value) => value,
        Err(error) => panic!("the task failed: {error}"),
    }
}

/// Pools of the capacity with each kind of backlog.
fn each_backlog(capacity: usize) -> impl Iterator<Item = Pool> {
    let builder = move || Pool::builder().capacity(capacity);
    let all: [Builder; 3] = [
        builder(),
        builder().backlog(3),
        builder().unbounded_backlog(),
    ];
    all.into_iter().map(|one| one.build().unwrap())
}

fn this_thread() -> ThreadId {
    thread::current().id()
}

/// A task that has begun and runs until its gate opens.
struct Held<T> {
    handle: JoinHandle<T>,
    gate: OpensOnDrop,
}

fn hold<T: Send + 'static>(
    pool: &PoolHandle,
    body: impl FnOnce() -> T + Send + 'static,
) -> Held<T> {
    let (gate, begun) = (Gate::new(), Arrivals::new());
    let (inside, begins) = (gate.clone(), begun.clone());
    let handle = spawned(pool.spawn(move || {
        begins.arrive();
        inside.wait();
        body()
    }));
    begun.wait_for(1);
    Held {
        handle,
        gate: gate.opened_on_drop(),
    }
}

// ---- R1: what has not started is run by the joiner ----

#[test]
fn r1_a_task_that_has_not_started_is_run_by_who_joins_it() {
    for pool in each_backlog(1) {
        let (outer, inner) = in_task(&pool, |pool| {
            let child = spawned(pool.spawn(this_thread));
            assert!(!child.is_finished());
            (this_thread(), child.join().unwrap())
        });
        assert_eq!(outer, inner);
        assert_at_rest(&pool);
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.workers_peak), (2, 1), "{stats:?}");
    }
}

/// To what it runs, the pool looks as it does to any other task.
#[test]
fn r1_what_a_joiner_runs_is_a_task_of_the_pool() {
    let pool = Pool::with_capacity(1);
    in_task(&pool, |pool| {
        let child = spawned(pool.spawn(|| {
            let pool = PoolHandle::current().expect("a task of a pool");
            assert!(!pool.wait_idle_timeout(Duration::ZERO));
            assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
            // Does not wait, either.
            expect_accepted(pool.submit(|| {}));
            pool.capacity()
        }));
        assert_eq!(child.join().unwrap(), 1);
    });
    pool.wait_idle();
    assert_at_rest(&pool);
    assert_eq!(pool.stats().completed, 3);
}

/// Each waits for the next one, all on one stack.
#[test]
fn r1_a_chain_of_joins_works_at_capacity_1() {
    fn chain(pool: &PoolHandle, links: u32) -> u32 {
        if links == 0 {
            return 0;
        }
        let inner = pool.clone();
        let next = spawned(pool.spawn(move || chain(&inner, links - 1)));
        next.join().unwrap() + 1
    }
    for pool in each_backlog(1) {
        assert_eq!(in_task(&pool, |pool| chain(pool, 150)), 150);
        assert_at_rest(&pool);
    }
}

fn fib(pool: &PoolHandle, n: u32) -> u64 {
    if n < 2 {
        return u64::from(n);
    }
    let (one, two) = (pool.clone(), pool.clone());
    let first = spawned(pool.spawn(move || fib(&one, n - 1)));
    let second = spawned(pool.spawn(move || fib(&two, n - 2)));
    // Not in the order in which they were spawned at each other level.
    if n % 2 == 0 {
        let second = second.join().unwrap();
        first.join().unwrap() + second
    } else {
        first.join().unwrap() + second.join().unwrap()
    }
}

#[test]
fn r1_recursive_joins_end_at_any_capacity() {
    for capacity in [1, 2, 4] {
        for pool in each_backlog(capacity) {
            assert_eq!(in_task(&pool, |pool| fib(pool, 14)), 377);
            assert_at_rest(&pool);
            let stats = pool.stats();
            assert!(stats.workers_peak <= capacity, "{stats:?}");
            assert_eq!(stats.completed, 1_219, "one for each call: {stats:?}");
        }
    }
}

/// Also while others keep the pool full and wait for room.
#[test]
fn r1_recursive_joins_end_while_submitters_wait() {
    for capacity in [1, 2] {
        let pool = Pool::with_capacity(capacity);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        expect_accepted(pool.submit(thread::yield_now));
                    }
                });
            }
            let result = in_task(&pool, |pool| fib(pool, 12));
            done.store(true, Ordering::Relaxed);
            assert_eq!(result, 144);
        });
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

/// A task in the local queue of a worker that is busy with another one: whoever joins it takes it from there.
#[test]
fn r1_a_task_at_the_desk_of_another_worker_is_run_by_who_joins_it() {
    let pool = Pool::with_capacity(2);
    let (sender, receiver): (Sender<JoinHandle<ThreadId>>, Receiver<_>) = channel();
    let joiner = spawned(pool.spawn(move || {
        let child = receive("the child", &receiver);
        assert!(!child.is_finished());
        (this_thread(), child.join().unwrap())
    }));
    // Both workers are busy with these two, so the child stays where it was spawned.
    let gate = Gate::new().opened_on_drop();
    let (inner, inside) = (pool.handle(), (*gate).clone());
    let spawner = spawned(pool.spawn(move || {
        sender.send(spawned(inner.spawn(this_thread))).unwrap();
        inside.wait();
    }));
    let (outer, inner) = joined(joiner).unwrap();
    assert_eq!(outer, inner);
    gate.open();
    joined(spawner).unwrap();
    assert_at_rest(&pool);
}

/// A task in the batch that another worker took along.
#[test]
fn r1_a_task_in_the_batch_of_another_worker_is_run_by_who_joins_it() {
    let pool = Pool::builder().capacity(1).unbounded_backlog();
    let pool = pool.build().unwrap();
    let (sender, receiver): (Sender<JoinHandle<ThreadId>>, Receiver<_>) = channel();
    let may_end = Gate::new().opened_on_drop();
    let ends = (*may_end).clone();
    let joiner = hold(&pool, move || {
        let wanted = receive("the handle", &receiver);
        let threads = (this_thread(), wanted.join().unwrap());
        ends.wait();
        threads
    });
    joiner.gate.open();
    pool.tune(0);
    let gate = Gate::new().opened_on_drop();
    let begun = Arrivals::new();
    let (inside, begins) = ((*gate).clone(), begun.clone());
    expect_accepted(pool.submit(move || {
        begins.arrive();
        inside.wait();
    }));
    let wanted = spawned(pool.spawn(this_thread));
    for _ in 0..60 {
        expect_accepted(pool.submit(|| {}));
    }
    // A second worker begins the first of them, and has those that follow in its local queue.
    pool.tune(2);
    begun.wait_for(1);
    sender.send(wanted).unwrap();
    may_end.open();
    let (outer, inner) = joined(joiner.handle).unwrap();
    assert_eq!(outer, inner);
    gate.open();
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// A child that has a place of the backlog gives it back as the joiner takes it: it runs on the
/// joiner's own.
#[test]
fn r1_what_the_joiner_runs_gives_its_room_back() {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let gate = Gate::new().opened_on_drop();
    let (spawns, begun) = (Arrivals::new(), Arrivals::new());
    let may_join = Gate::new().opened_on_drop();
    let parent = spawned(pool.spawn({
        let (pool, spawns, begins) = (pool.handle(), spawns.clone(), begun.clone());
        let (joins, inside) = ((*may_join).clone(), (*gate).clone());
        move || {
            let child = spawned(pool.spawn(move || {
                begins.arrive();
                inside.wait();
            }));
            spawns.arrive();
            joins.wait();
            child.join().unwrap();
        }
    }));
    spawns.wait_for(1);
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    may_join.open();
    begun.wait_for(1);
    expect_accepted(pool.try_submit(|| {}));
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    assert_eq!(pool.queued(), 1);
    gate.open();
    joined(parent).unwrap();
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// Its panic is for the joiner, who goes on; and what it captured is gone.
#[test]
fn r1_the_panic_of_what_the_joiner_runs_is_the_joiners() {
    let told = Arrivals::new();
    let handler = told.clone();
    let pool = Pool::builder()
        .capacity(1)
        .panic_handler(move |_| handler.arrive())
        .build()
        .unwrap();
    let dropped = Arrivals::new();
    let captured = DropCounter(dropped.clone());
    let message = in_task(&pool, move |pool| {
        let child = spawned(pool.spawn(move || {
            let _until_the_end = &captured;
            panic!("of the child");
        }));
        let error = child.join().unwrap_err();
        assert_eq!(dropped.count(), 1);
        error.message().map(str::to_owned)
    });
    assert_eq!(message.as_deref(), Some("of the child"));
    assert_eq!(told.count(), 0);
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!((stats.panicked, stats.completed), (1, 1), "{stats:?}");
}

// ---- R1: nothing else is run ----

/// Of all that is queued, before and after it, the joiner runs what it waits for.
#[test]
fn r1_a_joiner_runs_only_what_it_waits_for() {
    let pool = Pool::builder().capacity(1).unbounded_backlog();
    let pool = pool.build().unwrap();
    let log = Log::new();
    let note = |what: &'static str| {
        let log = log.clone();
        move || log.push(what)
    };
    let may_begin = Gate::new().opened_on_drop();
    let begins = (*may_begin).clone();
    let (before, wanted, after) = (note("sibling 1"), note("wanted"), note("sibling 2"));
    let end = note("joiner");
    let parent = spawned(pool.spawn({
        let pool = pool.handle();
        move || {
            begins.wait();
            expect_accepted(pool.submit(before));
            let wanted = spawned(pool.spawn(wanted));
            expect_accepted(pool.submit(after));
            wanted.join().unwrap();
            end();
        }
    }));
    for _ in 0..3 {
        expect_accepted(pool.submit(note("outside")));
    }
    may_begin.open();
    joined(parent).unwrap();
    pool.wait_idle();
    let entries = log.entries();
    assert_eq!(entries[..2], ["wanted", "joiner"]);
    assert_eq!(entries.len(), 7);
}

/// While what it waits for runs elsewhere the joiner does nothing, whatever is queued.
#[test]
fn r1_while_it_waits_for_a_running_task_a_joiner_runs_nothing() {
    let pool = Pool::builder().capacity(2).unbounded_backlog();
    let pool = pool.build().unwrap();
    let Held { handle, gate } = hold(&pool, || "done");
    let ran = Arrivals::new();
    let opens = (*gate).clone();
    let unrelated = ran.clone();
    let result = in_task(&pool, move |pool| {
        for _ in 0..10 {
            let unrelated = unrelated.clone();
            expect_accepted(pool.submit(move || unrelated.arrive()));
        }
        // The other worker is busy with what is waited for: only this one could run them.
        let Err(handle) = handle.join_timeout(Duration::from_millis(30)) else {
            panic!("it still runs");
        };
        assert_eq!(unrelated.count(), 0);
        opens.open();
        handle.join()
    });
    assert_eq!(result.unwrap(), "done");
    pool.wait_idle();
    assert_eq!(ran.count(), 10);
}

#[cfg(target_os = "linux")]
#[test]
fn r1_a_joiner_sleeps_while_what_it_waits_for_runs() {
    let pool = Pool::builder().capacity(2).unbounded_backlog();
    let pool = pool.build().unwrap();
    let Held { handle, gate } = hold(&pool, || "done");
    let ran = Arrivals::new();
    let (sender, receiver) = channel();
    let joiner = spawned(pool.spawn(move || {
        sender.send(support::linux::thread_id()).unwrap();
        handle.join()
    }));
    let thread = receive("the joiner runs", &receiver);
    support::linux::eventually_asleep(thread);
    let runs = ran.clone();
    expect_accepted(pool.submit(move || runs.arrive()));
    support::linux::eventually_asleep(thread);
    assert_eq!((ran.count(), pool.running(), pool.queued()), (0, 2, 1));
    gate.open();
    assert_eq!(joined(joiner).unwrap().unwrap(), "done");
    ran.wait_for(1);
}

// ---- R1: waits that would never end ----

/// Runs a task that gets its own handle; what it sends comes back.
#[track_caller]
fn tell_from_own_handle<T: Send + 'static>(
    pool: &PoolHandle,
    body: impl FnOnce(JoinHandle<()>, &PoolHandle) -> T + Send + 'static,
) -> T {
    let (tell, told) = channel();
    let (sender, receiver) = channel();
    let inner = pool.clone();
    let handle = spawned(pool.spawn(move || {
        let own = receive("the task's own handle", &receiver);
        tell.send(body(own, &inner)).expect("the test waits for it");
    }));
    sender.send(handle).expect("the task waits for it");
    receive("the task came to its end", &told)
}

#[test]
fn r1_joining_oneself_is_a_deadlock() {
    for pool in each_backlog(1) {
        let error = tell_from_own_handle(&pool, |own, _| own.join().unwrap_err());
        assert!(error.is_deadlock() && !error.is_panic() && !error.is_cancelled());
        assert_eq!(error.message(), None);
        assert!(!error.to_string().is_empty());
        let error = tell_from_own_handle(&pool, |own, _| {
            let result = own.join_timeout(Duration::MAX);
            result.expect("it says so, and at once").unwrap_err()
        });
        assert!(error.is_deadlock());
        let error = tell_from_own_handle(&pool, |own, _| {
            futures::executor::block_on(own).unwrap_err()
        });
        assert!(error.is_deadlock());
        pool.wait_idle();
        assert_at_rest(&pool);
        assert_eq!(pool.stats().completed, 3);
    }
}

/// A task cannot be cancelled by itself, nor is it finished.
#[test]
fn r1_a_task_may_look_at_its_own_handle() {
    let pool = Pool::with_capacity(1);
    let seen = tell_from_own_handle(&pool, |own, _| (own.is_finished(), own.cancel()));
    assert_eq!(seen, (false, false));
}

/// A task waits for a child, which runs on top of it and waits for the task beneath.
#[test]
fn r1_joining_a_task_that_is_suspended_beneath_is_a_deadlock() {
    for depth in [1, 2, 5] {
        fn on_top(pool: &PoolHandle, depth: u32, bottom: JoinHandle<()>) -> JoinError {
            if depth == 0 {
                return bottom.join().unwrap_err();
            }
            let inner = pool.clone();
            let child = spawned(pool.spawn(move || on_top(&inner, depth - 1, bottom)));
            child.join().unwrap()
        }
        let pool = Pool::with_capacity(1);
        let error = tell_from_own_handle(&pool, move |own, pool| on_top(pool, depth, own));
        assert!(error.is_deadlock(), "{depth}: {error:?}");
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

/// The same across pools: a task of the second pool runs in the first one's task, which submitted it.
#[test]
fn r1_joining_a_task_that_is_suspended_beneath_one_of_another_pool_is_a_deadlock() {
    let pool = Pool::with_capacity(1);
    let other = Pool::builder().capacity(1).overflow(Overflow::CallerRuns);
    let other = other.build().unwrap();
    let occupied = occupy(&other, 1);
    let other_handle = other.handle();
    let error = tell_from_own_handle(&pool, move |own, _| {
        let child = spawned(other_handle.spawn(move || own.join().unwrap_err()));
        assert!(child.is_finished(), "its submitter ran it");
        child.join().unwrap()
    });
    assert!(error.is_deadlock(), "{error:?}");
    occupied.end();
}

/// What was suspended beneath once, and is no longer, is waited for as anything else is.
#[test]
fn r1_a_task_that_is_over_is_no_deadlock() {
    let pool = Pool::with_capacity(1);
    in_task(&pool, |pool| {
        let first = spawned(pool.spawn(|| 1));
        let second = spawned(pool.spawn(move || first.join().unwrap() + 1));
        let third = spawned(pool.spawn(|| 3));
        assert_eq!(second.join().unwrap(), 2);
        assert_eq!(third.join().unwrap(), 3);
    });
    // One that another worker runs, and that is beneath nothing.
    let pool = Pool::with_capacity(2);
    let Held { handle, gate } = hold(&pool, || 4);
    let value = in_task(&pool, move |_| {
        let Err(handle) = handle.join_timeout(Duration::from_millis(1)) else {
            panic!("it still runs");
        };
        gate.open();
        handle.join().unwrap()
    });
    assert_eq!(value, 4);
}

// ---- R1: with a time limit ----

/// In a task of the pool it runs what has not started, even with no time at all.
#[test]
fn r1_join_timeout_in_a_task_runs_what_has_not_started() {
    for pool in each_backlog(1) {
        let (outer, inner) = in_task(&pool, |pool| {
            let child = spawned(pool.spawn(this_thread));
            let result = child.join_timeout(Duration::ZERO);
            (this_thread(), result.expect("it was run here").unwrap())
        });
        assert_eq!(outer, inner);
        assert_at_rest(&pool);
    }
}

#[test]
fn r1_join_timeout_in_a_task_gives_the_handle_of_a_running_task_back() {
    let pool = Pool::with_capacity(2);
    let Held { handle, gate } = hold(&pool, || 9);
    let value = in_task(&pool, move |_| {
        let Err(handle) = handle.join_timeout(Duration::from_millis(2)) else {
            panic!("it still runs");
        };
        gate.open();
        handle.join_timeout(Duration::MAX).unwrap().unwrap()
    });
    assert_eq!(value, 9);
    assert_at_rest(&pool);
}

// ---- R1: elsewhere it only waits ----

/// A task of another pool is run by that pool, though the joiner has a worker's thread to give.
#[test]
fn r1_a_join_of_a_task_of_another_pool_only_waits() {
    let (pool, other) = (Pool::with_capacity(1), Pool::builder().capacity(1));
    let other = other.backlog(1).name("other").build().unwrap();
    let occupied = occupy(&other, 1);
    let queued = spawned(other.spawn(|| thread::current().name().map(str::to_owned)));
    let joining = Arrivals::new();
    let joins = joining.clone();
    let joiner = spawned(pool.spawn(move || {
        let Err(queued) = queued.join_timeout(Duration::from_millis(20)) else {
            panic!("nobody may have run it");
        };
        joins.arrive();
        queued.join()
    }));
    joining.wait_for(1);
    assert_eq!((other.queued(), other.running()), (1, 1));
    occupied.end();
    let name = joined(joiner).unwrap().unwrap();
    assert_eq!(name.as_deref(), Some("other-0"));
    assert_at_rest(&pool);
    assert_at_rest(&other);
    assert_eq!(pool.stats().completed, 1);
}

#[test]
fn r1_a_join_outside_only_waits() {
    let pool = Pool::builder().capacity(0).backlog(1).build().unwrap();
    let handle = spawned(pool.spawn(this_thread));
    let Err(handle) = handle.join_timeout(Duration::from_millis(20)) else {
        panic!("the pool is paused");
    };
    assert_eq!(pool.queued(), 1);
    pool.tune(1);
    assert_ne!(joined(handle).unwrap(), this_thread());
}

/// A submitter that runs its task itself is inside: what that task joins it runs, too.
#[test]
fn r1_a_join_in_a_task_that_its_submitter_runs_runs_what_has_not_started() {
    let pool = Pool::builder().capacity(1).overflow(Overflow::CallerRuns);
    let pool = pool.build().unwrap();
    let occupied = occupy(&pool, 1);
    let inner = pool.handle();
    let handle = spawned(pool.spawn(move || {
        let child = spawned(inner.spawn(this_thread));
        assert!(!child.is_finished(), "in a task it queues");
        let Ok(first) = child.join_timeout(Duration::ZERO) else {
            panic!("it was not run here");
        };
        let panics = spawned(inner.spawn(|| panic!("on purpose")));
        assert!(panics.join().unwrap_err().is_panic());
        first.unwrap()
    }));
    assert!(handle.is_finished());
    assert_eq!(handle.join().unwrap(), this_thread());
    // Outside again: it only waits.
    assert!(PoolHandle::current().is_none());
    occupied.end();
    pool.wait_idle();
    assert_at_rest(&pool);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.panicked), (3, 1), "{stats:?}");
}

/// A task of one pool that a worker of another one runs as its submitter: it is inside both.
#[test]
fn r1_beneath_a_task_of_another_pool_a_join_still_runs_what_has_not_started() {
    let pool = Pool::with_capacity(1);
    let other = Pool::builder().capacity(1).overflow(Overflow::CallerRuns);
    let other = other.build().unwrap();
    let occupied = occupy(&other, 1);
    let other_handle = other.handle();
    let threads = in_task(&pool, move |pool| {
        let child = spawned(pool.spawn(|| {
            let pool = PoolHandle::current().expect("a task of a pool");
            (this_thread(), pool.capacity(), pool.free())
        }));
        let called = spawned(other_handle.spawn(move || child.join().unwrap()));
        assert!(called.is_finished());
        (this_thread(), called.join().unwrap().0)
    });
    assert_eq!(threads.0, threads.1);
    occupied.end();
    assert_at_rest(&pool);
    assert_at_rest(&other);
}

// ---- P3: a joiner lends its place to what it runs ----

/// Joins, and does not count as running meanwhile.
fn join_uncounted<T>(running: &Running, own: Inside, handle: JoinHandle<T>) -> (Inside, T) {
    drop(own);
    let value = handle.join().unwrap();
    (running.enter(), value)
}

fn counted_fib(pool: &PoolHandle, running: &Running, n: u32) -> u64 {
    let inside = running.enter();
    if n < 2 {
        thread::yield_now();
        return u64::from(n);
    }
    let child = |n: u32| {
        let (pool, running) = (pool.clone(), running.clone());
        let inner = pool.clone();
        spawned(pool.spawn(move || counted_fib(&inner, &running, n)))
    };
    let (first, second) = (child(n - 1), child(n - 2));
    let (inside, first) = join_uncounted(running, inside, first);
    let (_inside, second) = join_uncounted(running, inside, second);
    first + second
}

/// Counted by the tasks themselves: those that run and are not suspended in a join.
#[test]
fn p03_joins_never_lead_to_more_than_capacity_tasks_that_run() {
    for capacity in [1, 2, 3] {
        for pool in each_backlog(capacity) {
            let running = Running::new();
            let counts = running.clone();
            let result = in_task(&pool, move |pool| counted_fib(pool, &counts, 13));
            assert_eq!(result, 233);
            let peak = running.peak();
            assert!(peak <= capacity, "{peak} of {capacity} at once");
            assert_at_rest(&pool);
        }
    }
}

/// While a joiner runs a child, no other task starts on the place that it lent.
#[test]
fn p03_a_joiner_lends_its_place_once() {
    let pool = Pool::builder().capacity(1).unbounded_backlog();
    let pool = pool.build().unwrap();
    let gate = Gate::new().opened_on_drop();
    let (begun, ran) = (Arrivals::new(), Arrivals::new());
    let (inside, begins, inner) = ((*gate).clone(), begun.clone(), pool.handle());
    let parent = spawned(pool.spawn(move || {
        let child = spawned(inner.spawn(move || {
            begins.arrive();
            inside.wait();
        }));
        child.join().unwrap();
    }));
    let runs = ran.clone();
    expect_accepted(pool.submit(move || runs.arrive()));
    begun.wait_for(1);
    assert_eq!((pool.running(), pool.free(), pool.workers()), (1, 0, 1));
    assert!(!pool.wait_idle_timeout(Duration::from_millis(20)));
    assert_eq!((ran.count(), pool.queued()), (0, 1));
    gate.open();
    joined(parent).unwrap();
    ran.wait_for(1);
    assert_at_rest(&pool);
}

/// A hook is no task, and has no place to lend: what it joins it runs all the same, and the pool is not
/// at rest meanwhile.
#[test]
fn p18_what_a_hook_joins_keeps_the_pool_from_rest() {
    let (begun, gate) = (Arrivals::new(), Gate::new().opened_on_drop());
    let (begins, inside) = (begun.clone(), (*gate).clone());
    let pool = Pool::builder()
        .capacity(1)
        .on_worker_stop(move |_| {
            let pool = PoolHandle::current().expect("a worker of the pool");
            let (begins, inside) = (begins.clone(), inside.clone());
            // Refused where the pool is closed already.
            if let Ok(child) = pool.spawn(move || {
                begins.arrive();
                inside.wait();
            }) {
                child.join().unwrap();
            }
        })
        .build()
        .unwrap();
    joined(spawned(pool.spawn(|| ()))).unwrap();
    pool.tune(0);
    begun.wait_for(1);
    assert!(!pool.wait_idle_timeout(Duration::from_millis(20)));
    assert_eq!((pool.running(), pool.queued()), (1, 0));
    gate.open();
    pool.wait_idle();
    eventually("the worker is gone", || pool.workers() == 0);
    assert_at_rest(&pool);
    assert_eq!(pool.stats().completed, 2);
}

// ---- P9: tune against join ----

/// In a paused pool a running task still comes to its end, and so does what it waits for; nothing else
/// starts.
#[test]
fn p09_in_a_paused_pool_a_join_still_runs_what_it_waits_for() {
    for pool in each_backlog(1) {
        let ran = Arrivals::new();
        let others = ran.clone();
        let value = in_task(&pool, move |pool| {
            expect_accepted(pool.submit(move || others.arrive()));
            let child = spawned(pool.spawn(|| 5));
            assert_eq!(pool.tune(0), 1);
            child.join().unwrap()
        });
        assert_eq!(value, 5);
        eventually("the pool is paused", || pool.workers() == 0);
        assert_eq!((ran.count(), pool.queued()), (0, 1));
        pool.tune(1);
        pool.wait_idle();
        assert_eq!(ran.count(), 1);
        assert_at_rest(&pool);
    }
}

#[test]
fn p09_joins_end_while_the_pool_is_tuned() {
    let mut rng = seeded_rng("p09_joins_end_while_the_pool_is_tuned");
    for pool in each_backlog(2) {
        let done = AtomicBool::new(false);
        let running = Running::new();
        thread::scope(|scope| {
            let (pool, done, seed) = (&pool, &done, rng.random());
            let tuner = scope.spawn(move || {
                let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
                while !done.load(Ordering::Relaxed) {
                    pool.tune(rng.random_range(0..=3));
                    thread::yield_now();
                }
                pool.tune(2);
            });
            for _ in 0..3 {
                let counts = running.clone();
                let result = in_task(pool, move |pool| counted_fib(pool, &counts, 11));
                assert_eq!(result, 89);
            }
            done.store(true, Ordering::Relaxed);
            tuner.join().unwrap();
        });
        assert!(running.peak() <= 3, "{} of 3 at once", running.peak());
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

// ---- P14, P16: the end of the pool against join ----

#[test]
fn p14_a_join_of_what_release_now_discarded_says_cancelled() {
    for pool in each_backlog(1) {
        let (spawns, may_join) = (Arrivals::new(), Gate::new().opened_on_drop());
        let (spawned_one, joins, inner) = (spawns.clone(), (*may_join).clone(), pool.handle());
        let parent = spawned(pool.spawn(move || {
            let child = spawned(inner.spawn(|| panic!("it is discarded")));
            spawned_one.arrive();
            joins.wait();
            let error = child.join().unwrap_err();
            assert!(error.is_cancelled(), "{error:?}");
            assert!(inner.spawn(|| ()).is_err(), "tasks are refused, too");
        }));
        spawns.wait_for(1);
        assert_eq!(pool.release_now(), 1);
        may_join.open();
        joined(parent).unwrap();
        pool.wait_idle();
        assert_at_rest(&pool);
        assert_eq!(pool.stats().discarded, 1);
    }
}

/// However the two meet: the child ran, or it was discarded, and the books say which.
#[test]
fn p14_release_now_as_a_task_joins_loses_and_doubles_nothing() {
    let mut rng = seeded_rng("p14_release_now_as_a_task_joins_loses_and_doubles_nothing");
    for pool in each_backlog(2) {
        let (mut ran, mut discarded) = (0, 0);
        for _ in 0..300 {
            let (ready, counted) = (Arrivals::new(), Arrivals::new());
            let (is_ready, counts, inner) = (ready.clone(), counted.clone(), pool.handle());
            let parent = spawned(pool.spawn(move || {
                let children: Vec<_> = (0..4)
                    .map(|_| {
                        let counts = counts.clone();
                        spawned(inner.spawn(move || counts.arrive()))
                    })
                    .collect();
                is_ready.arrive();
                let results = children.into_iter().rev().map(JoinHandle::join);
                results
                    .filter(|result| match result {
                        Ok(()) => true,
                        Err(error) => {
                            assert!(error.is_cancelled(), "{error:?}");
                            false
                        }
                    })
                    .count()
            }));
            ready.wait_for(1);
            for _ in 0..rng.random_range(0..2_000) {
                std::hint::spin_loop();
            }
            discarded += pool.release_now() as u64;
            let ended = joined(parent).unwrap();
            assert_eq!(ended, counted.count());
            ran += ended as u64;
            pool.wait_idle();
            pool.reboot();
        }
        eprintln!("{ran} ran, {discarded} were discarded");
        assert_at_rest(&pool);
        let stats = pool.stats();
        assert_eq!(ran + stats.discarded, 1_200, "{stats:?}");
        assert_eq!((stats.discarded, stats.completed), (discarded, ran + 300));
    }
}

/// The drop of the pool waits for the joiner and for what it runs, and their handles outlive it.
#[test]
fn p16_dropping_the_pool_while_a_task_joins_runs_both_to_their_end() {
    for pool in each_backlog(1) {
        let may_join = Gate::new().opened_on_drop();
        let begun = Arrivals::new();
        let (joins, begins, inner) = ((*may_join).clone(), begun.clone(), pool.handle());
        let handle = pool.handle();
        let parent = spawned(pool.spawn(move || {
            let child = spawned(inner.spawn(|| 20));
            begins.arrive();
            joins.wait();
            // Also what is spawned once the pool is closed.
            let late = spawned(inner.spawn(|| 22));
            late.join().unwrap() + child.join().unwrap()
        }));
        begun.wait_for(1);
        let dropper = thread::spawn(move || drop(pool));
        eventually("the pool is closed", || handle.is_closed());
        may_join.open();
        watchdog("the pool ends", move || dropper.join().unwrap());
        assert!(parent.is_finished());
        assert_eq!(joined(parent).unwrap(), 42);
        assert_at_rest(&handle);
    }
}

/// A task may drop its own pool, and join afterwards.
#[test]
fn p16_a_task_that_drops_its_pool_can_still_join() {
    let pool = Pool::with_capacity(1);
    let (handle, slot) = (pool.handle(), Arc::new(Mutex::new(None)));
    let owner = Arc::clone(&slot);
    let gate = Gate::new().opened_on_drop();
    let inside = (*gate).clone();
    let parent = spawned(pool.spawn(move || {
        inside.wait();
        let pool: Pool = owner.lock().unwrap().take().expect("it is there");
        let inner = pool.handle();
        let child = spawned(pool.spawn(|| 1));
        drop(pool);
        let late = spawned(inner.spawn(|| 2));
        child.join().unwrap() + late.join().unwrap()
    }));
    *slot.lock().unwrap() = Some(pool);
    gate.open();
    assert_eq!(joined(parent).unwrap(), 3);
    handle.wait_idle();
    assert_at_rest(&handle);
}

/// What a task waits for in line behind a submitter it takes out of the line, and the submitter is
/// served all the same.
#[test]
fn p04_a_join_of_what_is_in_line_leaves_the_line_whole() {
    let pool = Pool::with_capacity(1);
    let may_spawn = Gate::new().opened_on_drop();
    let (spawns, inner) = ((*may_spawn).clone(), pool.handle());
    let log = Log::new();
    let logs = log.clone();
    let parent = spawned(pool.spawn(move || {
        spawns.wait();
        let children: Vec<_> = (0..5)
            .map(|_| {
                let logs = logs.clone();
                spawned(inner.spawn(move || logs.push("child")))
            })
            .collect();
        assert_eq!(inner.waiting(), 1);
        for child in children.into_iter().skip(1).step_by(2) {
            child.join().unwrap();
        }
        assert_eq!(inner.waiting(), 1);
        logs.push("parent");
    }));
    thread::scope(|scope| {
        let logs = log.clone();
        scope.spawn(|| expect_accepted(pool.submit(move || logs.push("waited"))));
        eventually_waiting(&pool, 1);
        may_spawn.open();
        joined(parent).unwrap();
    });
    pool.wait_idle();
    let expected = [
        "child", "child", "parent", "waited", "child", "child", "child",
    ];
    assert_eq!(log.entries(), expected);
    assert_at_rest(&pool);
}

// ---- P26: waits in a task run the oldest first ----

/// Long enough to overflow any stack, were each link run within the next.
const LINKS: u32 = 100_000;

/// Pools of a few capacities, with a bound and without.
fn each_pool() -> impl Iterator<Item = Pool> {
    [1, 2, 8].into_iter().flat_map(|capacity| {
        let builder = move || Pool::builder().capacity(capacity);
        let both = [builder().build(), builder().unbounded_backlog().build()];
        both.map(Result::unwrap)
    })
}

#[test]
fn p26_a_long_chain_ends_when_its_group_is_waited_for() {
    for pool in each_pool() {
        let sum = in_task(&pool, |pool| {
            let group = pool.group::<()>();
            let mut last = group.spawn(|| Ok(0)).unwrap();
            for _ in 0..LINKS {
                let before = last;
                let link = move || Ok(before.join().unwrap() + 1);
                last = group.spawn(link).unwrap();
            }
            group.wait().unwrap();
            last.join().unwrap()
        });
        assert_eq!(sum, LINKS);
        assert_at_rest(&pool);
    }
}

#[test]
fn p26_a_long_chain_ends_when_its_scope_does() {
    for pool in each_pool() {
        let sum = in_task(&pool, |pool| {
            let sum = AtomicU32::new(0);
            pool.scope(|s| {
                let mut last = s.spawn(|| 0);
                for _ in 0..LINKS {
                    let (before, sum) = (last, &sum);
                    last = s.spawn(move || {
                        let links = before.join().unwrap() + 1;
                        sum.store(links, Ordering::Relaxed);
                        links
                    });
                }
            });
            sum.into_inner()
        });
        assert_eq!(sum, LINKS);
        assert_at_rest(&pool);
    }
}

#[test]
fn p26_run_all_in_a_task_takes_any_number() {
    for pool in each_pool() {
        let sum: u64 = in_task(&pool, |pool| {
            let results = pool.run_all((0..LINKS).map(|n| move || u64::from(n)));
            results.into_iter().map(Result::unwrap).sum()
        });
        assert_eq!(sum, u64::from(LINKS) * u64::from(LINKS - 1) / 2);
    }
}

/// In a share as well, ordered or not, and by a join of the last one where it is ordered.
#[test]
fn p26_a_long_chain_of_a_share_ends() {
    type Link = Box<dyn FnOnce() -> u32 + Send>;
    fn links(spawn: impl Fn(Link) -> JoinHandle<u32>) -> JoinHandle<u32> {
        let mut last = spawn(Box::new(|| 0));
        for _ in 0..LINKS {
            let before = last;
            last = spawn(Box::new(move || before.join().unwrap() + 1));
        }
        last
    }
    for pool in each_pool().take(4) {
        let sum = in_task(&pool, |pool| {
            let share = pool.limit(2);
            let last = links(|link| share.spawn(link).unwrap());
            share.wait_idle();
            last.join().unwrap()
        });
        assert_eq!(sum, LINKS);
        let sum = in_task(&pool, |pool| {
            let serial = pool.serial();
            let last = links(|link| serial.spawn(link).unwrap());
            last.join().unwrap()
        });
        assert_eq!(sum, LINKS);
        let sum = in_task(&pool, |pool| {
            let keyed = pool.keyed();
            let last = links(|link| keyed.spawn("ann", link).unwrap());
            last.join().unwrap()
        });
        assert_eq!(sum, LINKS);
        assert_at_rest(&pool);
    }
}

/// A long chain of closures, each with the handle of the one before, on a pool that is paused.
fn chain_of_handles(pool: &PoolHandle, drops: &Arrivals, links: usize) -> JoinHandle<()> {
    let mut last = spawned(pool.spawn(|| ()));
    for _ in 0..links {
        let (before, counted) = (last, DropCounter(drops.clone()));
        last = spawned(pool.spawn(move || {
            drop(counted);
            before.join().unwrap();
        }));
    }
    last
}

/// However the chain is dropped unrun, no link is dropped within the drop of the next.
#[test]
fn p26_a_long_chain_is_dropped_link_by_link() {
    const LENGTH: usize = LINKS as usize;
    let paused = |overflow| {
        let backlog = Pool::builder().capacity(1).backlog(LENGTH + 1);
        let pool = backlog.overflow(overflow).build().unwrap();
        pool.tune(0);
        pool
    };
    let drops = Arrivals::new();
    // By a release that discards.
    let pool = paused(Overflow::Block);
    let last = chain_of_handles(&pool, &drops, LENGTH);
    assert_eq!(pool.release_now(), LENGTH + 1);
    assert!(last.join().unwrap_err().is_cancelled());
    assert_eq!(drops.count(), LENGTH);
    // To make room.
    let pool = paused(Overflow::DropOldest);
    let last = chain_of_handles(&pool, &drops, LENGTH);
    for _ in 0..=LENGTH {
        expect_accepted(pool.submit(|| ()));
    }
    assert!(last.is_finished());
    assert_eq!(drops.count(), 2 * LENGTH);
    drop(last);
    pool.release_now();
    // With the group that it belongs to, by its end and by its cancellation.
    for cancels in [false, true] {
        let pool = paused(Overflow::Block);
        let group = pool.group::<()>();
        let mut last = group.spawn(|| Ok(())).unwrap();
        for _ in 0..LENGTH {
            let (before, counted) = (last, DropCounter(drops.clone()));
            last = group
                .spawn(move || {
                    drop(counted);
                    before.join().unwrap();
                    Ok(())
                })
                .unwrap();
        }
        if cancels {
            group.cancel();
        } else {
            drop(group);
        }
        assert!(last.join().unwrap_err().is_cancelled());
        assert_at_rest(&pool);
    }
    assert_eq!(drops.count(), 4 * LENGTH);
    // By its drop, which runs them all: the oldest first.
    let pool = paused(Overflow::Block);
    let last = chain_of_handles(&pool, &drops, LENGTH);
    drop(pool);
    last.join().unwrap();
    assert_eq!(drops.count(), 5 * LENGTH);
}
