//! Many tasks at once: `submit_all` of pools and shares, and of scopes. In order, within the bound, as one submitter in
//! line; what is not accepted comes back.

mod support;

use std::error::Error;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;

use anthill::{Overflow, Pool, PoolHandle, SubmitAllError, SubmitErrorKind};
use support::{
    Gate, Log, Running, assert_at_rest, eventually, eventually_eq, eventually_waiting,
    expect_accepted, in_a_task, occupy, pools, refusal, watchdog,
};

type Job = Box<dyn FnOnce() + Send>;

/// Tasks that write their numbers to a log.
fn logging<T: Clone + Send + 'static>(
    log: &Log<T>,
    entries: impl IntoIterator<Item = T>,
) -> Vec<Job> {
    let one = |entry| -> Job {
        let log = log.clone();
        Box::new(move || log.push(entry))
    };
    entries.into_iter().map(one).collect()
}

fn count(ran: &AtomicUsize) {
    ran.fetch_add(1, Ordering::Relaxed);
}

fn run_all(tasks: Vec<impl FnOnce()>) {
    for task in tasks {
        task();
    }
}

#[track_caller]
fn all_accepted<F>(submitted: Result<usize, SubmitAllError<F>>) -> usize {
    submitted.unwrap_or_else(|refused| panic!("{refused:?}"))
}

// ---- in order, within the bound ----

#[test]
fn p19_tasks_start_in_order_at_capacity_1() {
    for pool in pools(1) {
        for tasks in [0, 1, 2, 63, 64, 65, 1_000] {
            let log = Log::new();
            assert_eq!(
                all_accepted(pool.submit_all(logging(&log, 0..tasks))),
                tasks
            );
            pool.wait_idle();
            assert_eq!(log.entries(), (0..tasks).collect::<Vec<_>>());
        }
        assert_at_rest(&pool);
        assert_eq!(pool.stats().submitted, 1_195);
    }
}

#[test]
fn p03_no_more_run_at_once_than_the_capacity() {
    for capacity in [1, 2, 5] {
        for pool in pools(capacity) {
            let running = Running::new();
            let submitters = Barrier::new(3);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        submitters.wait();
                        let task = |_| {
                            let running = running.clone();
                            move || {
                                let _inside = running.enter();
                                thread::yield_now();
                            }
                        };
                        all_accepted(pool.submit_all((0..500).map(task)));
                    });
                }
            });
            pool.wait_idle();
            assert!(running.peak() <= capacity, "{} at once", running.peak());
            assert_eq!(pool.stats().completed, 1_500);
            assert_at_rest(&pool);
        }
    }
}

/// As many run side by side as may: tasks that all wait for one another end.
#[test]
fn a_chunk_calls_as_many_workers_as_it_needs() {
    for pool in pools(8) {
        watchdog("eight tasks meet", move || {
            for _ in 0..20 {
                let meet = Arc::new(Barrier::new(8));
                let task = |_| {
                    let meet = Arc::clone(&meet);
                    move || {
                        meet.wait();
                    }
                };
                all_accepted(pool.submit_all((0..8).map(task)));
                pool.wait_idle();
            }
        });
    }
}

#[test]
fn no_more_is_accepted_than_there_is_room_for() {
    let pool = Pool::builder().capacity(2).backlog(3).build().unwrap();
    let occupied = occupy(&pool, 2);
    let log = Log::new();
    thread::scope(|scope| {
        scope.spawn(|| all_accepted(pool.submit_all(logging(&log, 0..10))));
        eventually_waiting(&pool, 1);
        assert_eq!((pool.queued(), pool.running(), log.len()), (3, 2, 0));
        occupied.end();
    });
    pool.wait_idle();
    assert_eq!(log.len(), 10);
}

// ---- in line ----

/// A submitter that waits in line when this returns, the `position`th.
fn begin_to_wait<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    pool: &'scope PoolHandle,
    position: usize,
    log: &Log<(&'static str, usize)>,
    name: &'static str,
    tasks: usize,
) {
    let tasks = logging(log, (0..tasks).map(move |number| (name, number)));
    scope.spawn(move || match <[_; 1]>::try_from(tasks) {
        Ok([task]) => expect_accepted(pool.submit(task)),
        Err(tasks) => drop(all_accepted(pool.submit_all(tasks))),
    });
    eventually_waiting(pool, position);
}

#[test]
fn p04_a_chunk_in_line_overtakes_nobody_and_is_overtaken_by_nobody() {
    for backlog in [0, 2] {
        let pool = Pool::builder()
            .capacity(1)
            .backlog(backlog)
            .build()
            .unwrap();
        let log = Log::new();
        let occupied = occupy(&pool, 1);
        for number in 0..backlog {
            let log = log.clone();
            expect_accepted(pool.submit(move || log.push(("queued", number))));
        }
        thread::scope(|scope| {
            begin_to_wait(scope, &pool, 1, &log, "before", 1);
            begin_to_wait(scope, &pool, 2, &log, "chunk", 20);
            begin_to_wait(scope, &pool, 3, &log, "between", 1);
            begin_to_wait(scope, &pool, 4, &log, "other chunk", 20);
            begin_to_wait(scope, &pool, 5, &log, "after", 1);
            // A task for which there is no room while somebody waits, and none when a chunk is half in.
            assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
            occupied.end();
        });
        pool.wait_idle();
        let parts = [
            ("queued", backlog),
            ("before", 1),
            ("chunk", 20),
            ("between", 1),
            ("other chunk", 20),
            ("after", 1),
        ];
        let expected: Vec<_> = (parts.into_iter())
            .flat_map(|(name, tasks)| (0..tasks).map(move |number| (name, number)))
            .collect();
        assert_eq!(log.entries(), expected);
    }
}

/// Nor is what is left of it overtaken by what tasks submit.
#[test]
fn p04_a_chunk_in_line_is_not_overtaken_by_what_tasks_submit() {
    let pool = Pool::with_capacity(1);
    let log = Log::new();
    let gate = Gate::new().opened_on_drop();
    expect_accepted(pool.submit({
        let (pool, log, gate) = (pool.handle(), log.clone(), (*gate).clone());
        move || {
            gate.wait();
            expect_accepted(pool.submit(move || log.push("child")));
        }
    }));
    thread::scope(|scope| {
        scope.spawn(|| all_accepted(pool.submit_all(logging(&log, ["chunk"; 5]))));
        eventually_waiting(&pool, 1);
        gate.open();
    });
    pool.wait_idle();
    assert_eq!(
        log.entries(),
        ["chunk", "chunk", "chunk", "chunk", "chunk", "child"]
    );
}

#[test]
fn p06_a_chunk_counts_as_one_that_waits() {
    let pool = Pool::builder().capacity(1).max_waiting(2).build().unwrap();
    let occupied = occupy(&pool, 1);
    let log = Log::new();
    thread::scope(|scope| {
        begin_to_wait(scope, &pool, 1, &log, "chunk", 30);
        begin_to_wait(scope, &pool, 2, &log, "chunk", 30);
        let refused = pool
            .submit_all(logging(&log, [("refused", 0); 70]))
            .unwrap_err();
        assert_eq!(refused.kind(), SubmitErrorKind::TooManyWaiting);
        assert_eq!((refused.accepted(), refused.into_rest().len()), (0, 70));
        occupied.end();
    });
    pool.wait_idle();
    assert_eq!((log.len(), pool.stats().rejected), (60, 70));
    assert_at_rest(&pool);
}

#[test]
fn p04_closing_gives_back_what_was_not_let_in() {
    type Close = fn(&PoolHandle);
    let ways: [Close; 2] = [PoolHandle::release, |pool| {
        pool.release_now();
    }];
    for close in ways {
        let pool = Pool::builder().capacity(1).backlog(2).build().unwrap();
        let (accepted, back) = (Log::new(), Log::new());
        let occupied = occupy(&pool, 1);
        thread::scope(|scope| {
            let waits = scope.spawn(|| pool.submit_all(logging(&accepted, 0..200)));
            eventually_waiting(&pool, 1);
            close(&pool);
            let refused = waits.join().unwrap().unwrap_err();
            assert_eq!(refused.kind(), SubmitErrorKind::Closed);
            assert_eq!(refused.accepted(), 2);
            let rest = refused.into_rest();
            assert_eq!(rest.len(), 198);
            occupied.end();
            assert!(pool.release_timeout(support::DEADLINE).is_ok());
            back.push(accepted.len());
            run_all(rest);
        });
        // Those that were accepted ran first, or were discarded; then those that came back, in order.
        let ran = back.entries()[0];
        let expected: Vec<_> = (0..ran).chain(2..200).collect();
        assert_eq!(accepted.entries(), expected);
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.rejected), (3, 198));
        assert_eq!(ran as u64 + stats.discarded, 2);
        assert_at_rest(&pool);
    }
}

/// The rest comes back also if a part of the chunk was let in while it waited.
#[test]
fn p04_closing_gives_back_the_rest_of_a_chunk_that_is_half_in() {
    let pool = Pool::with_capacity(1);
    let log = Log::new();
    let gates: Vec<_> = (0..3).map(|_| Gate::new().opened_on_drop()).collect();
    let task = |number: usize| {
        let (log, gate) = (log.clone(), gates.get(number).map(|gate| (**gate).clone()));
        move || {
            log.push(number);
            if let Some(gate) = gate {
                gate.wait();
            }
        }
    };
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.submit_all((0..10).map(task)));
        eventually_waiting(&pool, 1);
        gates[0].open();
        gates[1].open();
        eventually_eq("tasks that began", 3, || log.len());
        pool.release();
        let refused = waits.join().unwrap().unwrap_err();
        assert_eq!(
            (refused.kind(), refused.accepted()),
            (SubmitErrorKind::Closed, 3)
        );
        run_all(refused.into_rest());
        gates[2].open();
    });
    assert!(pool.release_timeout(support::DEADLINE).is_ok());
    assert_eq!(log.entries(), (0..10).collect::<Vec<_>>());
    assert_at_rest(&pool);
}

#[test]
fn p09_a_resumed_pool_lets_a_chunk_in() {
    let pool = Pool::with_capacity(0);
    let log = Log::new();
    thread::scope(|scope| {
        scope.spawn(|| all_accepted(pool.submit_all(logging(&log, 0..100))));
        eventually_waiting(&pool, 1);
        pool.tune(1);
    });
    pool.wait_idle();
    assert_eq!(log.entries(), (0..100).collect::<Vec<_>>());
}

// ---- overflow ----

#[test]
fn reject_gives_back_what_has_no_room() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(4)
        .overflow(Overflow::Reject)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let log = Log::new();
    let refused = pool.submit_all(logging(&log, 0..100)).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.accepted()),
        (SubmitErrorKind::Full, 4)
    );
    assert_eq!(pool.stats().rejected, 96);
    occupied.end();
    pool.wait_idle();
    run_all(refused.into_rest());
    assert_eq!(log.entries(), (0..100).collect::<Vec<_>>());
    assert_at_rest(&pool);
}

#[test]
fn caller_runs_runs_one_and_looks_again() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(1)
        .overflow(Overflow::CallerRuns)
        .build()
        .unwrap();
    let here = thread::current().id();
    let occupied = Arc::new(occupy(&pool, 1));
    let by_caller = Log::new();
    let task = |number: usize| {
        let (pool, occupied, by_caller) = (pool.handle(), Arc::clone(&occupied), by_caller.clone());
        move || {
            if thread::current().id() != here {
                return;
            }
            by_caller.push(number);
            if number == 10 {
                // Task 0 was queued. From here on there is room for two.
                occupied.end();
                eventually_eq("idle workers", 1, || pool.idle());
            }
        }
    };
    assert_eq!(all_accepted(pool.submit_all((0..40).map(task))), 40);
    pool.wait_idle();
    let by_caller = by_caller.entries();
    assert_eq!(by_caller[..10], (1..=10).collect::<Vec<_>>());
    assert!(
        !by_caller.contains(&11) && !by_caller.contains(&12),
        "{by_caller:?}"
    );
    assert_eq!(pool.stats().completed, 41);
    assert_at_rest(&pool);
}

#[test]
fn drop_oldest_drops_one_for_each() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(3)
        .overflow(Overflow::DropOldest)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let log = Log::new();
    assert_eq!(all_accepted(pool.submit_all(logging(&log, 0..100))), 100);
    assert_eq!((pool.queued(), pool.stats().discarded), (3, 97));
    occupied.end();
    pool.wait_idle();
    assert_eq!(log.entries(), [97, 98, 99]);
    assert_at_rest(&pool);
}

// ---- the iterator ----

#[test]
fn p08_a_task_of_the_pool_never_waits() {
    for pool in pools(1) {
        let (handle, log) = (pool.handle(), Log::new());
        let tasks = logging(&log, 0..1_000);
        let accepted = in_a_task(&pool, "a task submits many", move || {
            all_accepted(handle.submit_all(tasks))
        });
        pool.wait_idle();
        assert_eq!((accepted, log.len()), (1_000, 1_000));
        assert_at_rest(&pool);
    }
}

/// What was pulled before the panic is accepted, and runs; all the places come back.
#[test]
fn a_panic_of_the_iterator_costs_nothing_but_itself() {
    for pool in pools(2) {
        for panics_at in [0, 1, 63, 64, 100] {
            let before = pool.stats().completed;
            let tasks = (0..200).map(|number| {
                assert!(number != panics_at, "out of leaves");
                || ()
            });
            let submits = || pool.submit_all(tasks).map_err(|refused| refused.kind());
            let panic = catch_unwind(AssertUnwindSafe(submits)).unwrap_err();
            let message = panic.downcast_ref::<&str>().copied();
            assert_eq!(message, Some("out of leaves"));
            pool.wait_idle();
            assert_eq!(pool.stats().completed - before, panics_at);
            assert_at_rest(&pool);
            assert!(pool.try_submit(|| ()).is_ok(), "all the room is there");
            pool.wait_idle();
        }
    }
}

#[test]
fn the_iterator_may_use_the_pool() {
    for pool in pools(2) {
        let inner = pool.handle();
        let tasks = (0..200).map(|number| {
            expect_accepted(inner.submit(|| ()));
            if number % 50 == 0 {
                all_accepted(inner.submit_all([(); 3].map(|()| || ())));
                inner.wait_idle();
            }
            || ()
        });
        assert_eq!(all_accepted(pool.submit_all(tasks)), 200);
        pool.wait_idle();
        assert_eq!(pool.stats().completed, 412);
        assert_at_rest(&pool);
    }
}

/// What comes one by one is submitted one by one: the next task comes only when the last one has run.
#[test]
fn a_channel_is_not_asked_for_a_task_ahead() {
    for pool in pools(1) {
        watchdog("each task calls for the next", move || {
            let (send, jobs) = channel::<Job>();
            thread::scope(|scope| {
                scope.spawn(move || {
                    for _ in 0..100 {
                        let (done, ran) = channel();
                        send.send(Box::new(move || done.send(()).unwrap())).unwrap();
                        ran.recv().unwrap();
                    }
                });
                assert_eq!(all_accepted(pool.submit_all(jobs)), 100);
            });
            assert_at_rest(&pool);
        });
    }
}

#[test]
fn an_endless_iterator_ends_with_the_pool() {
    let pool = Pool::with_capacity(2);
    let ran = Arc::new(AtomicUsize::new(0));
    let task = || {
        let ran = Arc::clone(&ran);
        move || {
            ran.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let submits = scope.spawn(|| pool.submit_all(iter::repeat_with(task)));
        eventually("many have run", || ran.load(Ordering::Relaxed) > 1_000);
        pool.release();
        let refused = submits.join().unwrap().unwrap_err();
        assert_eq!(refused.kind(), SubmitErrorKind::Closed);
        assert!(pool.release_timeout(support::DEADLINE).is_ok());
        assert_eq!(refused.accepted(), ran.load(Ordering::Relaxed));
        assert!((1..=64).contains(&refused.into_rest().len()));
    });
}

#[test]
fn the_error_says_what_became_of_all() {
    fn is_send_and_sync<T: Send + Sync>(_: &T) {}
    let pool = Pool::with_capacity(1);
    pool.release();
    let not_sync = std::cell::Cell::new(String::new());
    let refused = pool
        .submit_all(iter::once(not_sync).map(|cell| move || drop(cell)))
        .unwrap_err();
    is_send_and_sync(&refused);
    assert_eq!(refused.to_string(), "the pool is closed (after 0 tasks)");
    assert_eq!(
        format!("{refused:?}"),
        "SubmitAllError { kind: Closed, accepted: 0, source: None, .. }"
    );
    let boxed: Box<dyn Error + Send + Sync> = refused.into();
    assert!(boxed.source().is_none());
    // Nothing was refused where there is nothing.
    let rejected = pool.stats().rejected;
    assert_eq!(all_accepted(pool.submit_all(Vec::<fn()>::new())), 0);
    assert_eq!(pool.stats().rejected, rejected);
}

// ---- shares and scopes ----

#[test]
fn shares_take_many_in_order() {
    let pool = Pool::with_capacity(4);
    let (serial, log) = (pool.serial().backlog(3), Log::new());
    assert_eq!(
        all_accepted(serial.submit_all(logging(&log, 0..1_000))),
        1_000
    );
    serial.wait_idle();
    assert_eq!(log.entries(), (0..1_000).collect::<Vec<_>>());
    let (limited, running) = (pool.limit(2), Running::new());
    let task = |_| {
        let running = running.clone();
        move || drop(running.enter())
    };
    assert_eq!(
        all_accepted(limited.submit_all((0..1_000).map(task))),
        1_000
    );
    limited.wait_idle();
    assert!(running.peak() <= 2);
    assert_eq!(limited.stats().completed, 1_000);
    assert_at_rest(&pool);
}

/// A task of the pool that joins one of a serial has let in what is in line before that one: all of a chunk.
#[test]
fn r01_a_chunk_in_the_line_of_a_serial_is_let_in_for_who_joins_in_a_task() {
    let pool = Pool::with_capacity(2);
    let serial = pool.serial().backlog(0);
    let log = Log::new();
    watchdog("the join returns", move || {
        let (first, second) = (Gate::new().opened_on_drop(), Gate::new().opened_on_drop());
        expect_accepted(serial.submit({
            let first = (*first).clone();
            move || first.wait()
        }));
        let joins = support::spawned(pool.spawn({
            let (serial, second, log) = (serial.clone(), (*second).clone(), log.clone());
            move || {
                second.wait();
                let last = support::spawned(serial.spawn(move || log.push(20)));
                last.join().unwrap();
            }
        }));
        thread::scope(|scope| {
            scope.spawn(|| all_accepted(serial.submit_all(logging(&log, 0..20))));
            eventually("the chunk waits", || serial.waiting() == 1);
            second.open();
            eventually_eq("waiting", 0, || serial.waiting());
            assert_eq!((serial.queued(), log.len()), (21, 0), "beyond the bound");
            first.open();
            support::joined(joins).unwrap();
        });
        serial.wait_idle();
        assert_at_rest(&pool);
        assert_eq!(log.entries(), (0..=20).collect::<Vec<_>>());
    });
}

#[test]
fn a_scope_takes_many_that_borrow() {
    for pool in pools(2) {
        let mut numbers: Vec<usize> = (0..1_000).collect();
        pool.scope(|s| s.submit_all(numbers.iter_mut().map(|number| move || *number += 1)));
        assert_eq!(numbers, (1..=1_000).collect::<Vec<_>>());
        assert_at_rest(&pool);
        // In a task of the pool, on whose place the caller runs them.
        let handle = pool.handle();
        let sum = in_a_task(&pool, "a scope in a task", move || {
            let mut numbers = vec![1; 300];
            handle.scope(|s| s.submit_all(numbers.iter_mut().map(|number| move || *number += 1)));
            numbers.iter().sum::<i32>()
        });
        assert_eq!(sum, 600);
    }
}

/// R5: what the pool refuses the caller runs, and nothing is left out.
#[test]
fn r05_the_caller_of_a_scope_runs_what_is_refused() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(2)
        .overflow(Overflow::Reject)
        .build()
        .unwrap();
    let ran: Vec<_> = (0..300).map(|_| AtomicUsize::new(0)).collect();
    let occupied = occupy(&pool, 1);
    pool.scope(|s| {
        s.submit_all(ran.iter().map(|ran| move || count(ran)));
        let left = ran
            .iter()
            .filter(|ran| ran.load(Ordering::Relaxed) == 0)
            .count();
        assert_eq!((left, pool.stats().rejected), (2, 298));
        occupied.end();
    });
    assert!(ran.iter().all(|ran| ran.load(Ordering::Relaxed) == 1));
    pool.release();
    let here = thread::current().id();
    pool.scope(|s| {
        s.submit_all((0..100).map(|_| move || assert_eq!(thread::current().id(), here)));
    });
    assert_at_rest(&pool);
}

#[test]
fn a_scope_waits_for_all_when_the_iterator_panics() {
    for pool in pools(2) {
        let ran = AtomicUsize::new(0);
        let scope = || {
            pool.scope(|s| {
                s.submit_all((0..100).map(|number| {
                    assert!(number < 70, "out of leaves");
                    || count(&ran)
                }));
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(scope)).is_err());
        assert_eq!(ran.load(Ordering::Relaxed), 70);
        assert_at_rest(&pool);
    }
}

// ---- what it costs ----

/// P24: a submitter that waits is woken once for a chunk, and not for each of its tasks. All share one processor, where
/// each wake is a switch.
#[cfg(target_os = "linux")]
#[test]
fn p24_a_submitter_is_woken_once_for_a_chunk() {
    use support::linux::{affinity, pin, thread_id, voluntary_switches};

    const TASKS: u64 = 64 * 100;
    watchdog("all on one processor", || {
        pin(0, &affinity()[..1]);
        for capacity in [1, 8] {
            let pool = Pool::builder()
                .capacity(capacity)
                .keep_workers()
                .build()
                .unwrap();
            let all = |tasks| all_accepted(pool.submit_all((0..tasks).map(|_| || ())));
            all(TASKS / 10);
            let before = voluntary_switches(thread_id());
            all(TASKS);
            let switches = voluntary_switches(thread_id()) - before;
            // With a wake for each task it is one for each time the pool was full.
            assert!(switches <= TASKS / 64 + 20, "{switches} at {capacity}");
        }
    });
}
