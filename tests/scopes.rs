//! Scopes: tasks that borrow from their caller's stack, all over before it goes on. R1 (a wait inside
//! the pool runs what it waits for), R2 (where a panic goes), R4 (handles resolve) and R5 (nothing is
//! silently left out), as far as they are about scopes.

mod support;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, ThreadId};

use anthill::{Overflow, Pool, PoolHandle, Scope, ScopedJoinHandle};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, Running, assert_at_rest, eventually,
    eventually_waiting, expect_accepted, occupy, seeded_rng, watchdog,
};

/// Long enough for what must wait to go on, if nothing holds it.
fn linger() {
    for _ in 0..50 {
        thread::yield_now();
    }
}

fn me() -> ThreadId {
    thread::current().id()
}

/// Calls `f`, which must panic; what it panicked with.
#[track_caller]
fn panic_of<T: Debug>(f: impl FnOnce() -> T) -> Box<dyn std::any::Any + Send> {
    catch_unwind(AssertUnwindSafe(f)).expect_err("it had to panic")
}

#[track_caller]
fn message_of<T: Debug>(f: impl FnOnce() -> T) -> String {
    match panic_of(f).downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other
            .downcast_ref::<&str>()
            .copied()
            .expect("the payload is a text")
            .to_owned(),
    }
}

/// A pool that keeps the messages of all panics that come to its handler.
fn pool_that_is_told(capacity: usize) -> (Pool, Log<String>) {
    let told = Log::new();
    let heard = told.clone();
    let pool = Pool::builder()
        .capacity(capacity)
        .unbounded_backlog()
        .panic_handler(move |panic| heard.push(panic.message().unwrap_or("no text").to_owned()))
        .build()
        .unwrap();
    (pool, told)
}

/// Runs `f` in a task of the pool, and returns what it returned.
#[track_caller]
fn in_task<T: Send + 'static>(
    pool: &PoolHandle,
    f: impl FnOnce(PoolHandle) -> T + Send + 'static,
) -> T {
    let handle = pool.clone();
    let task = pool.spawn(move || f(handle)).unwrap();
    watchdog("the task ends", move || task.join()).unwrap()
}

/// Tells of itself when it is dropped, as the last thing that a task does.
struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// ---- borrowing ----

/// Tasks change what is on their caller's stack, each its own part, without a lock.
#[test]
fn tasks_borrow_and_change_the_callers_stack() {
    for capacity in [1, 2, 4] {
        let pool = Pool::with_capacity(capacity);
        let mut numbers: Vec<usize> = (0..200).collect();
        let mut sum = 0;
        let label = String::from("borrowed");
        pool.scope(|s| {
            for number in &mut numbers {
                s.submit(|| *number = *number * 2 + label.len());
            }
            s.submit(|| sum = label.len());
        });
        let expected: Vec<usize> = (0..200).map(|number| number * 2 + 8).collect();
        assert_eq!((numbers, sum), (expected, 8));
        assert_eq!(pool.stats().completed, 201);
        assert_at_rest(&pool);
    }
}

/// Results may borrow too, and need not be 'static; what lives as long as the caller's data may leave
/// the scope.
#[test]
fn results_may_borrow() {
    let pool = Pool::with_capacity(2);
    let mut numbers = [5, 3, 9, 1];
    let (left, right) = numbers.split_at_mut(2);
    let (left, right): (&mut [i32], &mut [i32]) = pool.scope(|s| {
        let left = s.spawn(|| {
            left.sort_unstable();
            left
        });
        let right = s.spawn(|| {
            right.sort_unstable();
            right
        });
        (left.join().unwrap(), right.join().unwrap())
    });
    left[0] += 10;
    right[0] += 10;
    assert_eq!(numbers, [13, 5, 11, 9]);
}

/// A scope in which nothing is submitted returns its value and starts no thread.
#[test]
fn a_scope_without_tasks_returns_its_value() {
    let pool = Pool::with_capacity(2);
    assert_eq!(pool.scope(|_| "nothing to do"), "nothing to do");
    assert_eq!((pool.workers(), pool.stats().submitted), (0, 0));

    pool.release();
    assert_eq!(pool.scope(|_| 7), 7, "not on a closed pool either");
}

/// A scope does not return while a task of it runs.
#[test]
fn the_scope_waits_for_its_tasks() {
    let pool = Pool::with_capacity(2);
    let gate = Gate::new();
    let returned = AtomicBool::new(false);
    let closure_over = Gate::new();
    thread::scope(|threads| {
        threads.spawn(|| {
            pool.scope(|s| {
                s.submit(|| {
                    gate.wait();
                    linger();
                    assert!(!returned.load(Ordering::SeqCst), "returned too early");
                });
                closure_over.open();
            });
            returned.store(true, Ordering::SeqCst);
        });
        closure_over.wait();
        linger();
        assert!(!returned.load(Ordering::SeqCst), "returned too early");
        gate.open();
    });
    assert_eq!(pool.stats().panicked, 0);
    assert!(returned.into_inner());
}

/// It waits for what its tasks submit to it as well, however deep, and whatever the capacity.
#[test]
fn the_scope_waits_for_what_its_tasks_submit() {
    fn split<'scope>(s: &'scope Scope<'scope, '_>, depth: usize, over: &'scope AtomicUsize) {
        let _leaves = Leaves(over);
        linger();
        if depth > 0 {
            for _ in 0..3 {
                s.submit(move || split(s, depth - 1, over));
            }
        }
    }

    for capacity in [1, 2, 3] {
        let pool = Pool::with_capacity(capacity);
        let over = AtomicUsize::new(0);
        pool.scope(|s| s.submit(|| split(s, 4, &over)));
        assert_eq!(over.into_inner(), 1 + 3 + 9 + 27 + 81);
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.completed), (121, 121), "{stats:?}");
        assert_at_rest(&pool);
    }
}

/// The same for a scope in a task of the pool: its caller runs them, and a long chain of tasks that
/// submit their successor neither overflows its stack nor is left.
#[test]
fn a_scope_in_a_task_waits_for_a_long_chain() {
    fn link<'scope>(s: &'scope Scope<'scope, '_>, left: usize, over: &'scope AtomicUsize) {
        over.fetch_add(1, Ordering::Relaxed);
        if left > 0 {
            s.submit(move || link(s, left - 1, over));
        }
    }

    let pool = Pool::with_capacity(1);
    let links = in_task(&pool, |pool| {
        let over = AtomicUsize::new(0);
        pool.scope(|s| s.submit(|| link(s, 99_999, &over)));
        over.into_inner()
    });
    assert_eq!(links, 100_000);
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// The whole of a task is over before the scope returns: also the drops of what it captured, and of a
/// result that nobody wants.
#[test]
fn captures_and_unwanted_results_are_dropped_before_the_scope_returns() {
    let pool = Pool::with_capacity(3);
    let dropped = AtomicUsize::new(0);
    for _ in 0..100 {
        dropped.store(0, Ordering::SeqCst);
        pool.scope(|s| {
            let captured = Leaves(&dropped);
            s.submit(move || {
                linger();
                drop(captured);
            });
            drop(s.spawn(|| {
                linger();
                Leaves(&dropped)
            }));
            let unread = s.spawn(|| Leaves(&dropped));
            eventually("the task is over", || unread.is_finished());
        });
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
    }
}

// ---- handles ----

/// `join` gives the result while the scope still runs, in the order in which one asks.
#[test]
fn handles_are_joined_within_the_scope() {
    let pool = Pool::with_capacity(3);
    let words = ["ant", "bumblebee", "moth"];
    let lengths: Vec<usize> = pool.scope(|s| {
        let handles: Vec<_> = words
            .iter()
            .map(|word| s.spawn(move || word.len()))
            .collect();
        handles
            .into_iter()
            .rev()
            .map(|handle| handle.join().unwrap())
            .collect()
    });
    assert_eq!(lengths, [4, 9, 3]);
}

/// A task of the scope may join another one's handle, after the scope's closure has ended, too.
#[test]
fn handles_are_joined_in_tasks_of_the_scope() {
    for capacity in [1, 2] {
        let pool = Pool::with_capacity(capacity);
        let gate = Gate::new();
        let mut sum = 0;
        pool.scope(|s| {
            s.submit(|| {
                gate.wait();
                let parts = [s.spawn(|| 20), s.spawn(|| 22)];
                sum = parts.into_iter().map(|part| part.join().unwrap()).sum();
            });
            gate.open();
        });
        assert_eq!(sum, 42);
    }
}

/// A handle is dropped: the task runs all the same, and the scope waits for it.
#[test]
fn a_dropped_handle_detaches_and_is_waited_for() {
    let pool = Pool::with_capacity(1);
    let gate = Gate::new();
    let over = AtomicUsize::new(0);
    pool.scope(|s| {
        let handle = s.spawn(|| {
            let _leaves = Leaves(&over);
            gate.wait();
            linger();
        });
        assert!(!handle.is_finished());
        drop(handle);
        assert_eq!(over.load(Ordering::SeqCst), 0);
        gate.open();
    });
    assert_eq!(over.into_inner(), 1);
}

/// A cancelled task never runs; what it captured and its room are free at once; its handle says so, and
/// the caller does not panic for it.
#[test]
fn a_cancelled_task_is_gone_at_once_and_its_caller_does_not_panic() {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let occupied = occupy(&pool, 1);
    let dropped = Arrivals::new();
    pool.scope(|s| {
        let counter = DropCounter(dropped.clone());
        let handle = s.spawn(move || {
            let _counter = counter;
            panic!("it was cancelled");
        });
        assert!(pool.try_submit(|| {}).is_err(), "there is no room");
        assert!(handle.cancel());
        assert_eq!((dropped.count(), pool.queued()), (1, 0));
        expect_accepted(pool.try_submit(|| {}));
        assert!(!handle.cancel(), "it was cancelled before");
        assert!(handle.is_finished());
        assert!(handle.join().unwrap_err().is_cancelled());

        occupied.end();
        let ran = s.spawn(|| 1);
        eventually("the task is over", || ran.is_finished());
        assert!(!ran.cancel(), "it has run");
        assert_eq!(ran.join().unwrap(), 1);
    });
    pool.wait_idle();
    assert_eq!(pool.stats().cancelled, 1);
    pool.release_timeout(DEADLINE).expect("the pool ends");
    assert_at_rest(&pool);
}

/// A task that joins its own handle is told so, and does not hang.
#[test]
fn a_task_that_joins_itself_is_told_of_the_deadlock() {
    let pool = Pool::with_capacity(1);
    pool.scope(|s| {
        let (give, own) = channel::<ScopedJoinHandle<'_, ()>>();
        give.send(s.spawn(move || {
            let own = own.recv().expect("it was given");
            assert!(own.join().unwrap_err().is_deadlock());
        }))
        .unwrap();
    });
    assert_eq!(pool.stats().panicked, 0);
}

// ---- R1: scopes within tasks ----

/// A scope in a task comes to its end at capacity 1: its caller runs the tasks.
#[test]
fn r1_a_scope_in_a_task_at_capacity_1() {
    for backlog in [Some(0), Some(3), None] {
        let builder = Pool::builder().capacity(1);
        let builder = match backlog {
            Some(backlog) => builder.backlog(backlog),
            None => builder.unbounded_backlog(),
        };
        let pool = builder.build().unwrap();
        let (caller, threads) = in_task(&pool, |pool| {
            let threads = Log::new();
            let mut numbers = vec![1; 100];
            pool.scope(|s| {
                for number in &mut numbers {
                    let threads = threads.clone();
                    s.submit(move || {
                        *number += 1;
                        threads.push(me());
                    });
                }
                assert_eq!(s.spawn(|| 5).join().unwrap(), 5);
            });
            assert_eq!(numbers, [2; 100]);
            (me(), threads.entries())
        });
        assert_eq!(threads, [caller; 100]);
        pool.wait_idle();
        assert_eq!(pool.stats().workers_started, 1);
        assert_at_rest(&pool);
    }
}

/// A scope within a scope within a task, deeper than there are workers.
#[test]
fn r1_a_scope_in_a_scope_in_a_task() {
    fn nest(pool: &PoolHandle, depth: usize) -> usize {
        if depth == 0 {
            return 1;
        }
        let mut counts = [0; 3];
        pool.scope(|s| {
            for count in &mut counts {
                s.submit(|| *count = nest(pool, depth - 1));
            }
        });
        counts.iter().sum()
    }

    for capacity in [1, 2] {
        let pool = Pool::with_capacity(capacity);
        let leaves = in_task(&pool, |pool| nest(&pool, 5));
        assert_eq!(leaves, 243);
        pool.wait_idle();
        assert!(pool.stats().workers_peak <= capacity);
        assert_at_rest(&pool);

        // And from outside, where only the outermost one waits for a worker.
        let handle = pool.handle();
        assert_eq!(watchdog("it ends", move || nest(&handle, 5)), 243);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

/// At the end of a scope in a task its caller runs tasks of the scope and none that has no part in it.
#[test]
fn r1_a_scope_in_a_task_runs_nothing_unrelated() {
    let pool = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .build()
        .unwrap();
    let order = Log::new();
    let (start, log) = (Gate::new(), order.clone());
    let task = pool
        .spawn({
            let (pool, start) = (pool.handle(), start.clone());
            move || {
                start.wait();
                pool.scope(|s| {
                    for _ in 0..3 {
                        s.submit(|| log.push("scope"));
                    }
                    let other = log.clone();
                    expect_accepted(pool.submit(move || other.push("unrelated")));
                    s.submit(|| log.push("scope"));
                });
                log.push("end of scope");
            }
        })
        .unwrap();
    for _ in 0..3 {
        let log = order.clone();
        expect_accepted(pool.submit(move || log.push("unrelated")));
    }
    start.open();
    task.join().unwrap();
    pool.wait_idle();
    let order = order.entries();
    assert_eq!(order.len(), 9);
    assert_eq!(
        order[..5],
        ["scope", "scope", "scope", "scope", "end of scope"]
    );
    assert_eq!(order[5..], ["unrelated"; 4]);
}

/// In a task of another pool the caller only waits: the tasks run where they were submitted.
#[test]
fn r1_a_scope_in_a_task_of_another_pool_only_waits() {
    let pool = Pool::with_capacity(1);
    let other = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .build()
        .unwrap();
    let occupied = occupy(&other, 1);
    let (threads, begun) = (Log::new(), Arrivals::new());
    let task = pool
        .spawn({
            let (other, threads, begun) = (other.handle(), threads.clone(), begun.clone());
            move || {
                other.scope(|s| {
                    for _ in 0..20 {
                        s.submit(|| threads.push(me()));
                    }
                    begun.arrive();
                });
                me()
            }
        })
        .unwrap();
    begun.wait_for(1);
    // Long enough for it to run what it must not.
    linger();
    assert_eq!((threads.len(), other.queued()), (0, 20));
    occupied.end();
    let caller = watchdog("the task ends", move || task.join()).unwrap();
    assert!(!threads.entries().contains(&caller));
    assert_eq!(threads.len(), 20);
    other.wait_idle();
    assert_at_rest(&other);
}

/// The tasks of a scope are under the pool's bound, and a submitter without room waits.
#[test]
fn ten_thousand_tasks_in_a_scope_of_a_small_pool() {
    let pool = Pool::with_capacity(2);
    let running = Running::new();
    let over = AtomicUsize::new(0);
    pool.scope(|s| {
        for _ in 0..10_000 {
            s.submit(|| {
                let _inside = running.enter();
                over.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(over.into_inner(), 10_000);
    assert!(running.peak() <= 2, "{} of 2 at once", running.peak());
    let stats = pool.stats();
    assert_eq!(
        (stats.submitted, stats.completed),
        (10_000, 10_000),
        "{stats:?}"
    );
    assert_at_rest(&pool);
}

/// On a paused pool a scope waits; tuned up by another thread it goes on.
#[test]
fn a_scope_on_a_paused_pool_goes_on_when_the_pool_does() {
    for backlog in [0, 100] {
        let pool = Pool::builder()
            .capacity(0)
            .backlog(backlog)
            .build()
            .unwrap();
        let mut numbers = vec![0; 10];
        thread::scope(|threads| {
            threads.spawn(|| {
                if backlog == 0 {
                    eventually_waiting(&pool, 1);
                } else {
                    eventually("ten are queued", || pool.queued() == 10);
                }
                pool.tune(2);
            });
            pool.scope(|s| {
                for number in &mut numbers {
                    s.submit(|| *number = 1);
                }
            });
        });
        assert_eq!(numbers, [1; 10]);
        assert_at_rest(&pool);
    }
}

// ---- R2: where a panic goes ----

/// The panic of a task goes on in the caller, with its very payload, and only once the others are over.
#[test]
fn r2_a_panic_goes_on_in_the_caller_once_all_else_is_over() {
    #[derive(Debug, PartialEq)]
    struct Payload(Vec<u8>);

    let (pool, told) = pool_that_is_told(2);
    let (gate, over) = (Gate::new(), AtomicUsize::new(0));
    let payload = panic_of(|| {
        pool.scope(|s| {
            s.submit(|| {
                let _leaves = Leaves(&over);
                gate.wait();
                linger();
            });
            s.submit(|| {
                let _opened = gate.opened_on_drop();
                panic_any(Payload(vec![1, 2, 3]));
            });
            for _ in 0..50 {
                s.submit(|| drop(Leaves(&over)));
            }
        });
    });
    assert_eq!(over.into_inner(), 51, "some were not over");
    assert_eq!(
        *payload.downcast::<Payload>().unwrap(),
        Payload(vec![1, 2, 3])
    );
    pool.wait_idle();
    assert_eq!(told.len(), 0, "it goes to one place");
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.panicked), (51, 1), "{stats:?}");
    assert_at_rest(&pool);
}

/// The first one goes on in the caller, the others go to the pool's panic handler.
#[test]
fn r2_further_panics_go_to_the_panic_handler() {
    let (pool, told) = pool_that_is_told(1);
    let message = message_of(|| {
        pool.scope(|s| {
            for number in 1..=4 {
                s.submit(move || assert!(number % 2 != 0, "panic {number}"));
            }
            drop(s.spawn(|| panic!("panic 5")));
        });
    });
    // At capacity 1 they run in the order in which they came.
    assert_eq!(message, "panic 2");
    assert_eq!(told.entries(), ["panic 4", "panic 5"]);
    assert_eq!(pool.stats().panicked, 3);
    assert_at_rest(&pool);
}

/// The panic of a task that is joined is the handle's, and the caller's only if it wants it.
#[test]
fn r2_a_joined_panic_goes_to_the_handle() {
    let (pool, told) = pool_that_is_told(2);
    let value = pool.scope(|s| {
        let error = s.spawn(|| panic!("for the handle")).join().unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.message(), Some("for the handle"));
        let payload = error.into_panic();
        assert_eq!(payload.downcast_ref(), Some(&"for the handle"));
        "not disturbed"
    });
    assert_eq!(value, "not disturbed");
    pool.wait_idle();
    assert_eq!((told.len(), pool.stats().panicked), (0, 1));
    assert_at_rest(&pool);
}

/// A handle that is dropped without a join does not swallow the panic, whether the task was over by
/// then or not.
#[test]
fn r2_a_panic_whose_handle_is_dropped_unjoined_goes_on_in_the_caller() {
    for over_by_then in [true, false] {
        let (pool, told) = pool_that_is_told(1);
        let gate = Gate::new();
        let message = message_of(|| {
            pool.scope(|s| {
                let handle = s.spawn(|| {
                    gate.wait();
                    panic!("unjoined");
                });
                if over_by_then {
                    gate.open();
                    eventually("the task is over", || handle.is_finished());
                }
                drop(handle);
                gate.open();
            });
        });
        assert_eq!(message, "unjoined");
        assert_eq!(told.len(), 0);
    }
}

/// The panic of the scope's own closure wins over those of tasks, which go to the handler; and even so
/// everything is over before it goes on: no task finds that its caller's data is gone.
#[test]
fn r2_the_closures_own_panic_wins_and_waits() {
    let (pool, told) = pool_that_is_told(2);
    let (gate, begun, over) = (Gate::new(), Arrivals::new(), AtomicUsize::new(0));
    // Not borrowed: a scope that returned early must not make this test touch what is gone.
    let (gone, late) = (Arc::new(AtomicBool::new(false)), Arrivals::new());
    let message = message_of(|| {
        let _opened = gate.opened_on_drop();
        pool.scope(|s| {
            for number in 0..40 {
                let (gone, late, gate, begun) =
                    (Arc::clone(&gone), late.clone(), gate.clone(), begun.clone());
                let over = &over;
                s.submit(move || {
                    begun.arrive();
                    gate.wait();
                    linger();
                    if gone.load(Ordering::SeqCst) {
                        late.arrive();
                    } else {
                        over.fetch_add(1, Ordering::SeqCst);
                    }
                    assert!(number != 7, "of a task");
                });
            }
            begun.wait_for(2);
            gate.open();
            panic!("of the closure");
        });
    });
    gone.store(true, Ordering::SeqCst);
    assert_eq!(over.into_inner(), 40);
    assert_eq!(message, "of the closure");
    pool.wait_idle();
    assert_eq!(late.count(), 0, "a task ran after the scope");
    assert_eq!(told.entries(), ["of a task"]);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.panicked), (39, 1), "{stats:?}");
    assert_at_rest(&pool);
}

/// The same in a task of the pool, where the caller runs its tasks itself after its panic.
#[test]
fn r2_in_a_task_the_closures_own_panic_waits_too() {
    let (pool, told) = pool_that_is_told(1);
    let over = Arrivals::new();
    let task = pool
        .spawn({
            let (pool, over) = (pool.handle(), over.clone());
            move || {
                let over = &over;
                pool.scope(|s| {
                    for _ in 0..10 {
                        s.submit(|| over.arrive());
                    }
                    s.submit(|| panic!("of a task"));
                    panic!("of the closure");
                });
            }
        })
        .unwrap();
    let error = task.join().unwrap_err();
    assert_eq!(error.message(), Some("of the closure"));
    assert_eq!(over.count(), 10);
    pool.wait_idle();
    assert_eq!(told.entries(), ["of a task"]);
    assert_at_rest(&pool);
}

/// What an inner scope re-raises is the panic of the outer scope's task, and goes on from there.
#[test]
fn r2_a_panic_goes_up_through_nested_scopes() {
    for capacity in [1, 2] {
        let (pool, told) = pool_that_is_told(capacity);
        let (inner_over, outer_over) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let message = message_of(|| {
            pool.scope(|outer| {
                outer.submit(|| {
                    pool.scope(|inner| {
                        inner.submit(|| panic!("from deep inside"));
                        inner.submit(|| drop(Leaves(&inner_over)));
                    });
                });
                outer.submit(|| drop(Leaves(&outer_over)));
            });
        });
        assert_eq!(message, "from deep inside");
        assert_eq!((inner_over.into_inner(), outer_over.into_inner()), (1, 1));
        pool.wait_idle();
        assert_eq!((told.len(), pool.stats().panicked), (0, 2));
        assert_at_rest(&pool);
    }
}

/// A pool lives on after the panic of a scope, and so does the next scope.
#[test]
fn r2_the_pool_goes_on_after_a_panic() {
    let pool = Pool::with_capacity(1);
    for _ in 0..20 {
        assert_eq!(
            message_of(|| pool.scope(|s| s.submit(|| panic!("again")))),
            "again"
        );
        assert_eq!(pool.scope(|s| s.spawn(|| 3).join().unwrap()), 3);
    }
    assert_eq!(pool.stats().workers_started, 1);
    assert_at_rest(&pool);
}

// ---- R5: nothing is left out ----

/// Submits a few tasks and joins one; the caller must run all of them on its own thread.
#[track_caller]
fn assert_caller_runs_all(pool: &PoolHandle) {
    let caller = me();
    let threads = Log::new();
    let mut numbers = [0; 10];
    let joined = pool.scope(|s| {
        for number in &mut numbers {
            let threads = threads.clone();
            s.submit(move || {
                *number += 1;
                threads.push(me());
                let threads = threads.clone();
                s.submit(move || threads.push(me()));
            });
        }
        s.spawn(me).join().unwrap()
    });
    assert_eq!(numbers, [1; 10]);
    assert_eq!(threads.entries(), vec![caller; 20]);
    assert_eq!(joined, caller);
}

/// On a closed pool the caller runs everything.
#[test]
fn r5_on_a_closed_pool_the_caller_runs_all() {
    let pool = Pool::with_capacity(2);
    pool.release();
    assert_caller_runs_all(&pool);
    let stats = pool.stats();
    assert_eq!(
        (stats.submitted, stats.rejected, stats.workers_started),
        (0, 21, 0),
        "{stats:?}"
    );
    assert_at_rest(&pool);
}

/// So it does for those that a full pool rejects, and for those that may not even wait.
#[test]
fn r5_on_a_full_pool_that_rejects_the_caller_runs_all() {
    let rejecting = Pool::builder().capacity(1).overflow(Overflow::Reject);
    let impatient = Pool::builder().capacity(1).max_waiting(0);
    for builder in [rejecting, impatient] {
        let pool = builder.build().unwrap();
        let occupied = occupy(&pool, 1);
        assert_caller_runs_all(&pool);
        assert_eq!(pool.stats().rejected, 21);
        occupied.end();
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

/// A pool whose submitters run what has no room does so in a scope as well, and counts it.
#[test]
fn r5_where_callers_run_what_has_no_room_they_do_in_a_scope() {
    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::CallerRuns)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let (caller, threads) = (me(), Log::new());
    let message = message_of(|| {
        pool.scope(|s| {
            for number in 0..10 {
                let threads = threads.clone();
                s.submit(move || {
                    threads.push(me());
                    assert!(number != 4, "the caller ran this");
                });
            }
        });
    });
    assert_eq!(message, "the caller ran this");
    assert_eq!(threads.entries(), [caller; 10]);
    let stats = pool.stats();
    assert_eq!(
        (stats.completed, stats.panicked, stats.rejected),
        (9, 1, 0),
        "{stats:?}"
    );
    occupied.end();
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// The panics of tasks that the caller ran are no different: the rest runs, the first one goes on, the
/// others are the handler's, a joined one is the handle's.
#[test]
fn r5_panics_of_what_the_caller_runs() {
    let (pool, told) = pool_that_is_told(1);
    pool.release();
    let over = AtomicUsize::new(0);
    let message = message_of(|| {
        pool.scope(|s| {
            assert!(s.spawn(|| panic!("joined")).join().unwrap_err().is_panic());
            s.submit(|| panic!("first"));
            s.submit(|| drop(Leaves(&over)));
            s.submit(|| panic!("second"));
            drop(s.spawn(|| drop(Leaves(&over))));
        });
    });
    assert_eq!(message, "first");
    assert_eq!(over.into_inner(), 2);
    assert_eq!(told.entries(), ["second"]);
}

/// In a task of a pool that discards all, the caller runs what it is refused.
#[test]
fn r5_in_a_task_of_a_pool_that_discards_the_caller_runs_all() {
    let pool = Pool::with_capacity(1);
    let task = pool
        .spawn({
            let pool = pool.handle();
            move || {
                pool.release_now();
                assert_caller_runs_all(&pool);
            }
        })
        .unwrap();
    task.join().unwrap();
    assert_at_rest(&pool);
}

/// What is discarded under a scope panics in the caller, after all else is over; handles resolve.
#[test]
fn r5_what_release_now_discards_panics_in_the_caller() {
    let pool = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .build()
        .unwrap();
    let (gate, begun, over) = (Gate::new(), Arrivals::new(), AtomicUsize::new(0));
    let dropped = Arrivals::new();
    let message = message_of(|| {
        pool.scope(|s| {
            s.submit(|| {
                let _leaves = Leaves(&over);
                begun.arrive();
                gate.wait();
                linger();
            });
            begun.wait_for(1);
            for _ in 0..5 {
                let counter = DropCounter(dropped.clone());
                s.submit(move || drop(counter));
            }
            let handle = s.spawn(|| ());
            assert_eq!(pool.release_now(), 6);
            assert_eq!(dropped.count(), 5);
            assert!(handle.join().unwrap_err().is_cancelled());
            gate.open();
        });
    });
    assert!(message.contains("discarded"), "{message}");
    assert_eq!(over.into_inner(), 1, "the running task was not waited for");
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.discarded), (1, 6), "{stats:?}");
    assert_at_rest(&pool);
}

/// What the newest tasks of a scope drove out of the backlog is not silently left out either.
#[test]
fn r5_what_makes_room_for_newer_tasks_panics_in_the_caller() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(2)
        .overflow(Overflow::DropOldest)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let ran = Log::new();
    let message = message_of(|| {
        pool.scope(|s| {
            for number in 0..5 {
                let ran = &ran;
                s.submit(move || ran.push(number));
            }
            occupied.end();
        });
    });
    assert!(message.contains("discarded"), "{message}");
    assert_eq!(ran.entries(), [3, 4]);
    pool.wait_idle();
    assert_eq!(pool.stats().discarded, 3);
    assert_at_rest(&pool);
}

/// A task's own panic says more than that others were discarded.
#[test]
fn r5_a_panic_wins_over_what_was_discarded() {
    let (pool, told) = pool_that_is_told(1);
    let (gate, begun) = (Gate::new(), Arrivals::new());
    let message = message_of(|| {
        pool.scope(|s| {
            s.submit(|| {
                begun.arrive();
                gate.wait();
                panic!("of a task");
            });
            begun.wait_for(1);
            s.submit(|| ());
            pool.release_now();
            gate.open();
        });
    });
    assert_eq!(message, "of a task");
    assert_eq!(told.len(), 0);
    assert_at_rest(&pool);
}

/// Where the system refuses the pool its threads, the caller runs everything.
#[cfg(target_os = "linux")]
#[test]
fn r5_where_threads_are_refused_the_caller_runs_all() {
    let test = "r5_where_threads_are_refused_the_caller_runs_all";
    support::in_child_process(test, std::time::Duration::from_secs(60), || {
        refusal::refuse_threads();
        let pool = Pool::with_capacity(2);
        assert_caller_runs_all(&pool);
        assert_eq!((pool.stats().rejected, pool.workers()), (21, 0));
        assert_at_rest(&pool);
    });
}

#[cfg(target_os = "linux")]
mod refusal {
    use std::io;
    use std::mem::MaybeUninit;
    use std::thread;

    /// From now on this process, which has no other use for its privileges, is an ordinary user's, and
    /// may not start a thread.
    pub(super) fn refuse_threads() {
        // SAFETY: a plain system call.
        let is_root = unsafe { libc::geteuid() } == 0;
        // SAFETY: as above.
        let refused = is_root && unsafe { libc::setuid(65_534) } != 0;
        assert!(!refused, "{}", io::Error::last_os_error());
        let mut limit = MaybeUninit::<libc::rlimit>::uninit();
        // SAFETY: the pointer is valid for a write of the struct.
        let got = unsafe { libc::getrlimit(libc::RLIMIT_NPROC, limit.as_mut_ptr()) };
        assert_eq!(got, 0, "{}", io::Error::last_os_error());
        // SAFETY: getrlimit said that it filled the struct.
        let mut limit = unsafe { limit.assume_init() };
        limit.rlim_cur = 0;
        // SAFETY: the pointer is valid for a read of the struct.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
        assert!(
            thread::Builder::new().spawn(|| {}).is_err(),
            "the limit is not enforced here"
        );
    }
}

// ---- all together ----

/// What a scope is to do.
#[derive(Debug)]
enum Job {
    Work,
    Panic,
    Joined,
    JoinedPanic,
    Cancelled,
    /// A task that opens a scope of its own.
    Scope(Vec<Job>),
    /// A task that submits more to its own scope.
    Submits(Vec<Job>),
}

impl Job {
    fn plan(rng: &mut StdRng, depth: u32) -> Vec<Job> {
        (0..rng.random_range(0..6))
            .map(
                |_| match rng.random_range(0..if depth == 0 { 24 } else { 32 }) {
                    0 => Job::Panic,
                    1..=3 => Job::JoinedPanic,
                    4..=7 => Job::Joined,
                    8..=10 => Job::Cancelled,
                    11..=23 => Job::Work,
                    24..=27 => Job::Submits(Job::plan(rng, depth - 1)),
                    _ => Job::Scope(Job::plan(rng, depth - 1)),
                },
            )
            .collect()
    }

    fn count(jobs: &[Job]) -> usize {
        let inner = jobs.iter().map(|job| match job {
            Job::Scope(jobs) | Job::Submits(jobs) => 1 + Job::count(jobs),
            _ => 1,
        });
        inner.sum()
    }

    /// Whether the scope must panic.
    fn raise(jobs: &[Job]) -> bool {
        jobs.iter().any(|job| match job {
            Job::Panic => true,
            Job::Scope(jobs) | Job::Submits(jobs) => Job::raise(jobs),
            _ => false,
        })
    }
}

#[derive(Default)]
struct Books {
    begun: AtomicUsize,
    over: AtomicUsize,
    cancelled: AtomicUsize,
}

const PLANNED: &str = "planned";

/// Panics, but does not print it.
fn panic_as_planned() {
    resume_unwind(Box::new(PLANNED));
}

fn hand_in<'scope>(
    pool: &'scope PoolHandle,
    s: &'scope Scope<'scope, '_>,
    jobs: &'scope [Job],
    books: &'scope Books,
) {
    let enter = || {
        books.begun.fetch_add(1, Ordering::SeqCst);
        Leaves(&books.over)
    };
    for job in jobs {
        match job {
            Job::Work => s.submit(move || drop(enter())),
            Job::Panic => s.submit(move || {
                let _inside = enter();
                panic_as_planned();
            }),
            Job::Joined => {
                let handle = s.spawn(move || {
                    let _inside = enter();
                    jobs.len()
                });
                assert_eq!(handle.join().unwrap(), jobs.len());
            }
            Job::JoinedPanic => {
                let handle = s.spawn(move || {
                    let _inside = enter();
                    panic_as_planned();
                });
                assert_eq!(handle.join().unwrap_err().message(), Some(PLANNED));
            }
            Job::Cancelled => {
                let handle = s.spawn(move || drop(enter()));
                if handle.cancel() {
                    books.cancelled.fetch_add(1, Ordering::SeqCst);
                    assert!(handle.join().unwrap_err().is_cancelled());
                } else {
                    handle.join().unwrap();
                }
            }
            Job::Scope(inner) => s.submit(move || {
                let _inside = enter();
                pool.scope(|s| hand_in(pool, s, inner, books));
            }),
            Job::Submits(more) => s.submit(move || {
                let _inside = enter();
                hand_in(pool, s, more, books);
            }),
        }
    }
}

/// Scopes from many threads at once, nested at random, with panics, joins and cancelled tasks: each one
/// panics if it must and only then, with what was planned; all its tasks are over by then, and none is
/// missing.
#[test]
fn many_scopes_from_many_threads() {
    let mut rng = seeded_rng("many_scopes_from_many_threads");
    for _ in 0..12 {
        let builder = Pool::builder().capacity(rng.random_range(1..=4));
        let builder = match rng.random_range(0..3) {
            0 => builder,
            1 => builder.backlog(3),
            _ => builder.unbounded_backlog(),
        };
        let builder = match rng.random_range(0..4) {
            0 => builder.overflow(Overflow::Reject),
            1 => builder.overflow(Overflow::CallerRuns),
            _ => builder,
        };
        let unplanned = Log::new();
        let log = unplanned.clone();
        let pool = builder
            .panic_handler(move |panic| {
                if panic.message() != Some(PLANNED) {
                    log.push(format!("{panic:?}"));
                }
            })
            .build()
            .unwrap();
        let seeds: Vec<u64> = (0..4).map(|_| rng.random()).collect();
        let pool = watchdog("all scopes end", move || {
            thread::scope(|threads| {
                for seed in seeds {
                    let pool = &pool;
                    threads.spawn(move || {
                        let mut rng = StdRng::seed_from_u64(seed);
                        for _ in 0..30 {
                            one_scope(pool, &Job::plan(&mut rng, 4));
                        }
                    });
                }
            });
            pool
        });
        pool.wait_idle();
        assert!(unplanned.entries().is_empty(), "{:?}", unplanned.entries());
        // A worker may yet have to look through what is left of cancelled tasks, and counts as running
        // for that moment.
        pool.release_timeout(DEADLINE).expect("the pool ends");
        assert_at_rest(&pool);
    }
}

#[track_caller]
fn one_scope(pool: &PoolHandle, jobs: &[Job]) {
    let books = Books::default();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        pool.scope(|s| hand_in(pool, s, jobs, &books));
    }));
    let (begun, over) = (books.begun.into_inner(), books.over.into_inner());
    assert_eq!(begun, over, "a task is not over");
    let gone = books.cancelled.into_inner();
    assert_eq!(begun + gone, Job::count(jobs), "a task is missing");
    match ended {
        Ok(()) => assert!(!Job::raise(jobs), "a panic is missing"),
        Err(payload) => {
            assert_eq!(payload.downcast_ref(), Some(&PLANNED), "another panic");
            assert!(Job::raise(jobs), "no panic was planned");
        }
    }
}

/// A wait that unwinds must not give up the stack that tasks still use. There is one way to make it unwind: once
/// the thread has dropped all its thread-locals, where C code may still call back, it has no handle to be woken by.
#[cfg(target_os = "linux")]
mod a_wait_that_unwinds {
    use super::*;
    use std::ffi::c_void;
    use std::process::Command;
    use std::ptr::without_provenance;
    use std::sync::OnceLock;
    use support::run_to_end;

    const CHILD: &str = "ANTHILL_SCOPE_CHILD";
    const LEFT: &str = "child: the scope was left while its task ran";
    const TOO_EARLY: &str = "child: the thread still has its handle";

    static POOL: OnceLock<Pool> = OnceLock::new();
    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();

    fn leave_word(round: usize) {
        let key = *KEY.get().expect("the key was made");
        // SAFETY: the key was made, and its values are numbers.
        let set = unsafe { libc::pthread_setspecific(key, without_provenance(round)) };
        assert_eq!(set, 0);
    }

    /// Called round after round while the thread leaves word; those of the standard library are over after the first.
    extern "C" fn at_the_end_of_a_thread(round: *mut c_void) {
        if round.addr() < 3 {
            return leave_word(round.addr() + 1);
        }
        if catch_unwind(thread::current).is_ok() {
            return println!("{TOO_EARLY}");
        }
        let pool = POOL.get().expect("the pool was made");
        let borrowed = String::from("borrowed");
        let left = catch_unwind(AssertUnwindSafe(|| {
            pool.scope(|s| {
                s.submit(|| {
                    Gate::new().wait();
                    println!("{borrowed}");
                });
            });
        }));
        println!("{LEFT}: {left:?}");
        std::process::exit(0);
    }

    fn in_the_child() {
        // Its worker is there before: nothing but the wait is to fail.
        let pool = Pool::builder().capacity(1).keep_workers().build().unwrap();
        pool.spawn(|| ()).unwrap().join().unwrap();
        assert!(POOL.set(pool).is_ok());
        let mut key = 0;
        // SAFETY: the pointer is valid for a write of the key.
        let made = unsafe { libc::pthread_key_create(&raw mut key, Some(at_the_end_of_a_thread)) };
        assert_eq!(made, 0);
        assert!(KEY.set(key).is_ok());
        let thread = thread::spawn(|| {
            let _ = me();
            leave_word(1);
        });
        let _ = thread.join();
    }

    #[test]
    fn ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            return in_the_child();
        }
        let test = "a_wait_that_unwinds::ends_the_process";
        let child = run_to_end(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test, "--nocapture", "--test-threads=1"])
                .env(CHILD, ""),
            DEADLINE,
        );
        assert!(!child.text.contains(LEFT), "{}", child.text);
        if child.text.contains(TOO_EARLY) {
            println!("not to be had here: the wait does not unwind");
            return;
        }
        assert!(
            child.status.contains("SIGABRT") && child.text.contains("the wait of a scope unwinds"),
            "{}:\n{}",
            child.status,
            child.text
        );
    }
}
