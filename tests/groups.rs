//! Groups: tasks that stand and fall together. R7 (after the first error nothing further starts), R1 (a
//! wait inside the pool runs what it waits for), R2 (where a panic goes) and R4 (handles resolve), as far
//! as they are about groups.

mod support;

use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use anthill::{Group, GroupError, KeepGoing, Overflow, Pool, PoolHandle, SubmitErrorKind};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, OpensOnDrop, assert_at_rest, eventually,
    eventually_eq, eventually_waiting, expect_accepted, occupy, refusal, seeded_rng, watchdog,
};

/// A pool that never makes its submitters wait.
fn roomy(capacity: usize) -> Pool {
    Pool::builder()
        .capacity(capacity)
        .unbounded_backlog()
        .build()
        .unwrap()
}

/// Counts what becomes of tasks: how many ran, and how many the pool let go of, run or not.
#[derive(Clone, Default)]
struct Fates {
    ran: Arrivals,
    dropped: Arrivals,
}

impl Fates {
    /// A task that only counts.
    fn task<E>(&self) -> impl FnOnce() -> Result<(), E> + Send + use<E> {
        let (ran, counter) = (self.ran.clone(), DropCounter(self.dropped.clone()));
        move || {
            let _counter = counter;
            ran.arrive();
            Ok(())
        }
    }

    #[track_caller]
    fn submit<E: Send + 'static, Way>(&self, group: &Group<E, Way>, tasks: usize) {
        for _ in 0..tasks {
            expect_accepted(group.submit(self.task()));
        }
    }

    /// How many ran, and how many were let go of.
    fn counts(&self) -> (usize, usize) {
        (self.ran.count(), self.dropped.count())
    }
}

/// Submits a task that waits until the returned gate opens, and then returns `result`; it runs by now.
#[track_caller]
fn held<E: Send + 'static, Way>(group: &Group<E, Way>, result: Result<(), E>) -> OpensOnDrop {
    let (gate, begun) = (Gate::new(), Arrivals::new());
    let (inside, arrived) = (gate.clone(), begun.clone());
    expect_accepted(group.submit(move || {
        arrived.arrive();
        inside.wait();
        result
    }));
    begun.wait_for(1);
    gate.opened_on_drop()
}

/// The error that a task returned.
#[track_caller]
fn task_error<E: Debug>(result: Result<(), GroupError<E>>) -> E {
    match result {
        Err(GroupError::Task(error)) => error,
        other => panic!("not a task's error: {other:?}"),
    }
}

/// The message of the panic that ended the group.
#[track_caller]
fn panic_message<E: Debug>(result: Result<(), GroupError<E>>) -> String {
    match result {
        Err(GroupError::Panicked(error)) if error.is_panic() => {
            error.message().unwrap_or("no text").to_owned()
        }
        other => panic!("not a panic: {other:?}"),
    }
}

#[track_caller]
fn assert_cancelled<E: Debug>(result: &Result<(), GroupError<E>>) {
    assert!(matches!(result, Err(GroupError::Cancelled)), "{result:?}");
}

/// Ends the pool, and asserts that its books balance. Not before: a worker may yet have to look through
/// what is left of cancelled tasks, and counts as running for that moment.
#[track_caller]
fn assert_books_balance(pool: &PoolHandle) {
    pool.release_timeout(DEADLINE).expect("the pool ends");
    assert_at_rest(pool);
}

// ---- wait ----

/// A group whose tasks all end well does too, and the wait for it comes after all of them.
#[test]
fn wait_comes_after_all_tasks() {
    for capacity in [1, 3] {
        let pool = Pool::with_capacity(capacity);
        let group = pool.group::<String>();
        assert!(group.wait().is_ok(), "no task, no error");
        let fates = Fates::default();
        // From outside, at a pool without a backlog: each one waits for room.
        fates.submit(&group, 500);
        assert!(group.wait().is_ok());
        assert_eq!(fates.counts(), (500, 500));
        assert!(!group.is_cancelled());
        pool.wait_idle();
        assert_books_balance(&pool);
    }
}

/// After a good end a group can be used again; after an error it stays cancelled, and what was told
/// once is not told again.
#[test]
fn a_group_is_used_again_after_wait() {
    let pool = Pool::with_capacity(2);
    let group = pool.group::<usize>();
    for round in 1..=20 {
        let fates = Fates::default();
        fates.submit(&group, 10);
        let value = group.spawn(move || Ok(round)).unwrap();
        assert!(group.wait().is_ok());
        assert_eq!(fates.counts(), (10, 10));
        assert_eq!(value.join().unwrap(), round);
    }
    expect_accepted(group.submit(|| Err(7)));
    assert_eq!(task_error(group.wait()), 7);

    let fates = Fates::default();
    fates.submit(&group, 3);
    assert_cancelled(&group.wait());
    assert_eq!(fates.counts(), (0, 3));
    assert!(group.is_cancelled());
    assert!(group.wait().is_ok(), "there is nothing new to tell");
    pool.wait_idle();
    assert_books_balance(&pool);
}

/// Several threads may wait for one group.
#[test]
fn many_may_wait_for_a_group() {
    let pool = roomy(1);
    let group = pool.group::<()>();
    let gate = held(&group, Ok(()));
    let fates = Fates::default();
    fates.submit(&group, 10);
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                assert!(group.wait().is_ok());
                assert_eq!(fates.counts(), (10, 10));
            });
        }
        gate.open();
    });
}

/// Tasks of a group may submit to it, and are waited for.
#[test]
fn tasks_submit_to_their_group() {
    fn split(group: &Arc<Group<()>>, depth: usize, over: &Arrivals) {
        if depth > 0 {
            for _ in 0..3 {
                let (next, over) = (Arc::clone(group), over.clone());
                expect_accepted(group.submit(move || {
                    split(&next, depth - 1, &over);
                    over.arrive();
                    Ok(())
                }));
            }
        }
    }

    for capacity in [1, 2] {
        let pool = Pool::with_capacity(capacity);
        let (group, over) = (Arc::new(pool.group()), Arrivals::new());
        split(&group, 4, &over);
        assert!(group.wait().is_ok());
        assert_eq!(over.count(), 3 + 9 + 27 + 81);
        pool.wait_idle();
        assert_books_balance(&pool);
    }
}

// ---- R7: after the first error nothing further starts ----

/// At capacity 1 nothing starts after the error, though a thousand are queued; what they captured is
/// dropped, and the first error is the one that is told.
#[test]
fn r7_at_capacity_1_nothing_starts_after_the_first_error() {
    let pool = roomy(1);
    let group = pool.group();
    let gate = held(&group, Err("first"));
    let fates = Fates::default();
    fates.submit(&group, 500);
    expect_accepted(group.submit(|| Err("second")));
    fates.submit(&group, 500);
    assert_eq!(pool.queued(), 1001);
    assert!(!group.is_cancelled());
    gate.open();
    assert_eq!(task_error(group.wait()), "first");
    assert_eq!(fates.counts(), (0, 1000));
    assert!(group.is_cancelled());
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!(
        (stats.completed, stats.cancelled, stats.discarded),
        (1, 1001, 0),
        "{stats:?}"
    );
    assert_books_balance(&pool);
}

/// The room of what will not start is free at once, and not only when a worker comes by.
#[test]
fn r7_the_room_of_cancelled_tasks_is_free_at_once() {
    let pool = Pool::builder().capacity(2).backlog(100).build().unwrap();
    let occupied = occupy(&pool, 1);
    let group = pool.group();
    let gate = held(&group, Err("first"));
    let fates = Fates::default();
    fates.submit(&group, 60);
    for _ in 0..40 {
        expect_accepted(pool.try_submit(|| {}));
    }
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    // The worker of the task that fails ends with it, and the other one is held: nobody comes by.
    pool.tune(1);
    gate.open();
    fates.dropped.wait_for(60);
    eventually_eq("workers", 1, || pool.workers());
    eventually_eq("queued tasks", 40, || pool.queued());
    for _ in 0..60 {
        expect_accepted(pool.try_submit(|| {}));
    }
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    assert_eq!(fates.ran.count(), 0);
    assert_eq!(task_error(group.wait()), "first");
    occupied.end();
    pool.wait_idle();
    assert_books_balance(&pool);
}

/// At capacity 4 the three that had started come to their end, and nothing else does.
#[test]
fn r7_at_capacity_4_only_what_had_started_comes_to_its_end() {
    let pool = roomy(4);
    let group = pool.group();
    let ended = Arrivals::new();
    let gates: Vec<_> = (0..3)
        .map(|_| {
            let (gate, begun, ended) = (Gate::new(), Arrivals::new(), ended.clone());
            let (inside, arrived) = (gate.clone(), begun.clone());
            expect_accepted(group.submit(move || {
                arrived.arrive();
                inside.wait();
                ended.arrive();
                Ok(())
            }));
            begun.wait_for(1);
            gate.opened_on_drop()
        })
        .collect();
    let failing = held(&group, Err("first"));
    let fates = Fates::default();
    fates.submit(&group, 1000);
    failing.open();
    fates.dropped.wait_for(1000);
    eventually_eq("queued tasks", 0, || pool.queued());
    assert_eq!(ended.count(), 0);
    for gate in &gates {
        gate.open();
    }
    assert_eq!(task_error(group.wait()), "first");
    assert_eq!((ended.count(), fates.ran.count()), (3, 0));
    pool.wait_idle();
    assert_books_balance(&pool);
}

/// Errors of those that ran beside the first one are dropped, and not told.
#[test]
fn r7_only_the_first_error_is_kept() {
    #[derive(Debug)]
    struct Numbered(
        usize,
        #[expect(dead_code, reason = "tells when it is dropped")] DropCounter,
    );

    let pool = roomy(3);
    let group = pool.group();
    let dropped = Arrivals::new();
    let gates: Vec<_> = (0..3)
        .map(|number| held(&group, Err(Numbered(number, DropCounter(dropped.clone())))))
        .collect();
    gates[1].open();
    eventually("the group is cancelled", || group.is_cancelled());
    gates[0].open();
    gates[2].open();
    let error = task_error(group.wait());
    assert_eq!((error.0, dropped.count()), (1, 2));
    drop(error);
    assert_eq!(dropped.count(), 3);
    assert!(group.wait().is_ok());
}

/// Also a task whose submitter still waited for room when the error came does not start.
#[test]
fn r7_what_waited_for_room_does_not_start_either() {
    for _ in 0..50 {
        let pool = Pool::with_capacity(1);
        let group = pool.group();
        let fates = Fates::default();
        let gate = held(&group, Err("first"));
        thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| fates.submit(&group, 1));
            }
            eventually_waiting(&pool, 3);
            gate.open();
        });
        assert_eq!(task_error(group.wait()), "first");
        assert_eq!(fates.counts(), (0, 3));
        pool.wait_idle();
        assert_books_balance(&pool);
    }
}

/// Nor does any start while the many before it are being cancelled. A task can only tell a moment after
/// it began, so one on each worker may find the group cancelled by then, and no more.
#[test]
fn r7_nothing_starts_while_a_long_queue_is_being_cancelled() {
    const WORKERS: usize = 4;
    for by_error in [true, false] {
        for _ in 0..5 {
            let pool = roomy(WORKERS);
            let group = Arc::new(pool.group());
            let late = Arc::new(AtomicUsize::new(0));
            let occupied = occupy(&pool, WORKERS);
            for number in 0..10_000 {
                let late = Arc::clone(&late);
                let own = Arc::downgrade(&group);
                expect_accepted(group.submit(move || {
                    let own = own.upgrade().expect("the test has the group");
                    if own.is_cancelled() {
                        late.fetch_add(1, Ordering::SeqCst);
                    }
                    match number {
                        50 if by_error => return Err(number),
                        50 => own.cancel(),
                        _ => {}
                    }
                    Ok(())
                }));
            }
            occupied.end();
            let result = group.wait();
            if by_error {
                assert_eq!(task_error(result), 50);
            } else {
                assert_cancelled(&result);
            }
            let late = late.load(Ordering::SeqCst);
            assert!(late <= WORKERS, "{late} began in a cancelled group");
            pool.wait_idle();
            assert_books_balance(&pool);
        }
    }
}

/// A panic is an error, too: nothing further starts. It is told by `wait`, payload and all, and not by
/// the pool's panic handler.
#[test]
fn r7_a_panic_counts_as_the_error() {
    let told = Arrivals::new();
    let heard = told.clone();
    let pool = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .panic_handler(move |_| heard.arrive())
        .build()
        .unwrap();
    let group = pool.group::<String>();
    let gate = held(&group, Ok(()));
    let fates = Fates::default();
    expect_accepted(group.submit(|| panic!("out of leaves")));
    fates.submit(&group, 100);
    gate.open();
    let error = group.wait().unwrap_err();
    assert!(error.task().is_none());
    assert_eq!(error.to_string(), "the task panicked: out of leaves");
    let GroupError::Panicked(panic) = error else {
        panic!("not a panic: {error:?}");
    };
    assert_eq!(
        panic.into_panic().downcast_ref::<&str>(),
        Some(&"out of leaves")
    );
    assert_eq!(fates.counts(), (0, 100));
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.panicked), (1, 1), "{stats:?}");
    assert_eq!(told.count(), 0, "it goes to one place");
    assert_books_balance(&pool);
}

/// R2: the payload is the handle's if someone holds it; the group learns of the panic even so.
#[test]
fn r2_a_panic_of_a_task_with_a_handle() {
    let pool = roomy(1);
    let group = pool.group::<()>();
    let gate = held(&group, Ok(()));
    let handle = group
        .spawn(|| -> Result<(), ()> { panic!("seen twice") })
        .unwrap();
    let fates = Fates::default();
    fates.submit(&group, 10);
    gate.open();
    assert_eq!(panic_message(group.wait()), "seen twice");
    let payload = handle.join().unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"seen twice"));
    assert_eq!(fates.counts(), (0, 10));
}

// ---- cancel, drop ----

/// `cancel` lets what runs come to its end and has nothing further start; captures and room are free
/// when it returns.
#[test]
fn cancel_ends_what_has_not_started() {
    let pool = Pool::builder().capacity(1).backlog(100).build().unwrap();
    let group = pool.group::<()>();
    let gate = held(&group, Ok(()));
    let fates = Fates::default();
    fates.submit(&group, 100);
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    group.cancel();
    assert!(group.is_cancelled());
    assert_eq!((fates.counts(), pool.queued()), ((0, 100), 0));
    expect_accepted(pool.try_submit(|| {}));
    gate.open();
    assert_cancelled(&group.wait());
    group.cancel();
    assert!(group.wait().is_ok(), "told once, and nothing was left");
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (2, 100), "{stats:?}");
    assert_books_balance(&pool);
}

/// To cancel what is all done is no error.
#[test]
fn cancel_of_a_group_that_is_done_is_no_error() {
    let pool = Pool::with_capacity(1);
    let group = pool.group::<()>();
    Fates::default().submit(&group, 3);
    pool.wait_idle();
    group.cancel();
    assert!(group.wait().is_ok());
}

/// A task may cancel its own group.
#[test]
fn a_task_cancels_its_group() {
    let pool = roomy(1);
    let group = Arc::new(pool.group::<()>());
    let gate = held(&group, Ok(()));
    let own = Arc::clone(&group);
    expect_accepted(group.submit(move || {
        own.cancel();
        Ok(())
    }));
    let fates = Fates::default();
    fates.submit(&group, 50);
    gate.open();
    assert_cancelled(&group.wait());
    assert_eq!(fates.counts(), (0, 50));
}

/// What is submitted to a cancelled group is taken, never runs and is dropped at once, whether the pool
/// has room or not, and is even open or not.
#[test]
fn what_is_submitted_to_a_cancelled_group_never_runs() {
    let pool = Pool::with_capacity(1);
    let group = pool.group::<()>();
    group.cancel();
    let occupied = occupy(&pool, 1);
    let fates = Fates::default();
    for _ in 0..2 {
        let before = fates.dropped.count();
        expect_accepted(group.submit(fates.task()));
        assert_eq!(fates.counts(), (0, before + 1));
        let task = fates.task();
        let handle = group.spawn(task).unwrap();
        assert!(handle.is_finished());
        assert!(handle.join().unwrap_err().is_cancelled());
        assert_eq!(fates.counts(), (0, before + 2));
        pool.release();
    }
    assert_cancelled(&group.wait());
    occupied.end();
    pool.wait_idle();
    assert_eq!(pool.stats().submitted, 1);
    assert_books_balance(&pool);
}

/// A group that is dropped cancels what has not started, and does not wait for what runs.
#[test]
fn a_dropped_group_cancels_and_does_not_wait() {
    let pool = roomy(1);
    let group = pool.group::<()>();
    let gate = held(&group, Ok(()));
    let fates = Fates::default();
    fates.submit(&group, 100);
    let handle = group.spawn(|| Ok(1)).unwrap();
    let keeps_going = pool.group::<()>().keep_going();
    fates.submit(&keeps_going, 100);
    watchdog("the drop returns", move || drop((group, keeps_going)));
    assert_eq!((fates.counts(), pool.queued()), ((0, 200), 0));
    assert!(handle.join().unwrap_err().is_cancelled());
    assert_eq!(pool.running(), 1, "what runs goes on");
    gate.open();
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (1, 201), "{stats:?}");
    assert_books_balance(&pool);
}

/// What a cancelled task captured may use the pool and the group as it is dropped.
#[test]
fn captures_may_use_pool_and_group_as_they_are_dropped() {
    struct Busy(PoolHandle, Arc<Group<()>>, Fates);

    impl Drop for Busy {
        fn drop(&mut self) {
            let Busy(pool, group, fates) = self;
            assert!(group.is_cancelled());
            group.cancel();
            fates.submit(group, 1);
            let task = fates.task::<()>();
            expect_accepted(pool.submit(move || task().unwrap()));
        }
    }

    let pool = roomy(1);
    let group = Arc::new(pool.group());
    let gate = held(&group, Err(()));
    let fates = Fates::default();
    for _ in 0..20 {
        let busy = Busy(pool.handle(), Arc::clone(&group), fates.clone());
        expect_accepted(group.submit(move || {
            drop(busy);
            Ok(())
        }));
    }
    gate.open();
    let waits = Arc::clone(&group);
    task_error(watchdog("the group ends", move || waits.wait()));
    pool.wait_idle();
    assert_eq!(fates.counts(), (20, 40));
    assert_books_balance(&pool);
}

// ---- keep_going ----

/// Every task runs, and every error is told, in the order of the tasks and with their numbers, though
/// nobody reads them meanwhile.
#[test]
fn keep_going_tells_every_error_in_order() {
    for capacity in [1, 3] {
        let pool = Pool::with_capacity(capacity);
        let group = pool.group().keep_going();
        let ran = Arrivals::new();
        for job in 1..=9 {
            let ran = ran.clone();
            expect_accepted(group.submit(move || {
                ran.arrive();
                if job % 2 == 0 {
                    Ok(())
                } else {
                    Err(format!("job {job} failed"))
                }
            }));
        }
        let errors = group.wait().unwrap_err();
        assert_eq!(ran.count(), 9);
        for (index, error) in &errors {
            assert_eq!(error.task(), Some(&format!("job {} failed", index + 1)));
        }
        let errors: Vec<_> = errors
            .into_iter()
            .map(|(index, error)| (index, error.into_task().unwrap()))
            .collect();
        let expected = [0, 2, 4, 6, 8].map(|index| (index, format!("job {} failed", index + 1)));
        assert_eq!(errors, expected);
        assert!(!group.is_cancelled());

        // They are told once, the group goes on, and so do the numbers.
        assert!(group.wait().is_ok());
        expect_accepted(group.submit(|| Err("the tenth".to_owned())));
        assert_eq!(group.wait().unwrap_err()[0].0, 9);
        pool.wait_idle();
        assert_eq!(pool.stats().completed, 10);
        assert_books_balance(&pool);
    }
}

/// In order of the tasks also where they end in another one.
#[test]
fn keep_going_sorts_by_task_and_not_by_end() {
    let pool = roomy(3);
    let group = pool.group().keep_going();
    let gates: Vec<_> = (0..3).map(|job| held(&group, Err(job))).collect();
    for (ended, gate) in gates.iter().rev().enumerate() {
        gate.open();
        eventually_eq("running tasks", 2 - ended, || pool.running());
    }
    let told: Vec<_> = group
        .wait()
        .unwrap_err()
        .into_iter()
        .map(|(index, error)| (index, error.into_task()))
        .collect();
    assert_eq!(told, [(0, Some(0)), (1, Some(1)), (2, Some(2))]);
}

/// Panics, cancelled tasks and errors stand side by side.
#[test]
fn keep_going_tells_panics_and_cancelled_tasks_too() {
    let pool = roomy(1);
    let group = pool.group::<&str>().keep_going();
    let gate = held(&group, Ok(()));
    expect_accepted(group.submit(|| panic!("one")));
    expect_accepted(group.submit(|| Err("two")));
    let three = group.spawn(|| Ok(3)).unwrap();
    let four = group.spawn(|| Ok(4)).unwrap();
    assert!(four.cancel());
    let five = group
        .spawn(|| -> Result<(), &str> { panic!("five") })
        .unwrap();
    let fates = Fates::default();
    fates.submit(&group, 1);
    gate.open();
    let told: Vec<_> = group
        .wait()
        .unwrap_err()
        .into_iter()
        .map(|(index, error)| match error {
            GroupError::Task(error) => (index, error.to_owned()),
            GroupError::Panicked(panic) => (index, format!("panic: {}", panic.message().unwrap())),
            other => (index, format!("{other:?}")),
        })
        .collect();
    let expected = [
        (1, "panic: one"),
        (2, "two"),
        (4, "Cancelled"),
        (5, "panic: five"),
    ];
    assert_eq!(told, expected.map(|(index, text)| (index, text.to_owned())));
    assert_eq!(three.join().unwrap(), 3);
    assert!(four.join().unwrap_err().is_cancelled());
    assert!(five.join().unwrap_err().is_panic());
    assert_eq!(fates.counts(), (1, 1));
    pool.wait_idle();
    assert_books_balance(&pool);
}

/// Cancelled on demand, it tells of each task that never ran.
#[test]
fn keep_going_can_be_cancelled() {
    let pool = roomy(1);
    let group = pool.group::<()>().keep_going();
    let gate = held(&group, Err(()));
    let fates = Fates::default();
    fates.submit(&group, 3);
    group.cancel();
    gate.open();
    let told: Vec<_> = group
        .wait()
        .unwrap_err()
        .into_iter()
        .map(|(index, error)| (index, matches!(error, GroupError::Cancelled)))
        .collect();
    assert_eq!(told, [(0, false), (1, true), (2, true), (3, true)]);
    assert_eq!(fates.counts(), (0, 3));
}

/// A task that the pool refused has no number.
#[test]
fn keep_going_does_not_count_what_was_refused() {
    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::Reject)
        .build()
        .unwrap();
    let group = pool.group().keep_going();
    let gate = held(&group, Err("zero"));
    for _ in 0..3 {
        assert_eq!(refusal(group.submit(|| Ok(()))), SubmitErrorKind::Full);
    }
    gate.open();
    pool.wait_idle();
    expect_accepted(group.submit(|| Err("one")));
    let told: Vec<_> = group.wait().unwrap_err();
    assert_eq!(told.len(), 2);
    assert_eq!((told[1].0, told[1].1.task()), (1, Some(&"one")));
}

// ---- R4: handles ----

/// A handle gives the value, or says that there was an error (which the group tells), or that the task
/// never ran.
#[test]
fn r4_handles_resolve_whatever_becomes_of_the_task() {
    let pool = roomy(1);
    let group = pool.group();
    let gate = held(&group, Ok(()));
    let good = group.spawn(|| Ok(vec![1, 2])).unwrap();
    let bad = group.spawn(|| Err::<u8, _>("bad")).unwrap();
    let never = group.spawn(|| Ok(String::new())).unwrap();
    assert!(!good.is_finished() && !bad.is_finished() && !never.is_finished());
    gate.open();
    assert_eq!(good.join().unwrap(), [1, 2]);
    let failed = bad.join().unwrap_err();
    assert!(failed.is_failed());
    assert!(!failed.is_panic() && !failed.is_cancelled() && !failed.is_deadlock());
    assert!(never.join().unwrap_err().is_cancelled());
    assert_eq!(task_error(group.wait()), "bad");
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (3, 1), "{stats:?}");
    assert_books_balance(&pool);
}

/// A task cancelled by its handle is gone, and its group goes on without it.
#[test]
fn r4_a_task_cancelled_by_its_handle_does_not_end_the_group() {
    let pool = roomy(1);
    let group = pool.group::<()>();
    let gate = held(&group, Ok(()));
    let fates = Fates::default();
    let handle = group.spawn(fates.task()).unwrap();
    let after = group.spawn(|| Ok(5)).unwrap();
    assert!(handle.cancel());
    assert_eq!((fates.counts(), pool.queued()), ((0, 1), 1));
    gate.open();
    assert!(group.wait().is_ok());
    assert!(!group.is_cancelled());
    assert!(handle.join().unwrap_err().is_cancelled());
    assert_eq!(after.join().unwrap(), 5);
    pool.wait_idle();
    assert_books_balance(&pool);
}

// ---- R1: waiting in a task ----

/// In a task of the pool `wait` runs the group's tasks itself, so that it comes to its end at capacity
/// 1; and it runs nothing else.
#[test]
fn r1_wait_in_a_task_runs_the_groups_tasks_and_nothing_unrelated() {
    let pool = roomy(1);
    let (order, start) = (Log::new(), Gate::new());
    let task = pool
        .spawn({
            let (pool, order, start) = (pool.handle(), order.clone(), start.clone());
            move || {
                start.wait();
                let group = pool.group::<()>();
                for _ in 0..5 {
                    let of_group = order.clone();
                    expect_accepted(group.submit(move || {
                        of_group.push("group");
                        Ok(())
                    }));
                    let unrelated = order.clone();
                    expect_accepted(pool.submit(move || unrelated.push("unrelated")));
                }
                assert!(group.wait().is_ok());
                order.push("end of wait");
            }
        })
        .unwrap();
    for _ in 0..5 {
        let unrelated = order.clone();
        expect_accepted(pool.submit(move || unrelated.push("unrelated")));
    }
    start.open();
    watchdog("the task ends", move || task.join()).unwrap();
    pool.wait_idle();
    let order = order.entries();
    assert_eq!(order[..5], ["group"; 5]);
    assert_eq!(order[5], "end of wait");
    assert_eq!(order[6..], ["unrelated"; 10]);
    assert_books_balance(&pool);
}

/// R7 holds there as well: after the error the waiting task runs no further one.
#[test]
fn r7_wait_in_a_task_runs_nothing_after_the_error() {
    let pool = roomy(1);
    let handle = pool.handle();
    let task = pool
        .spawn(move || {
            let group = handle.group();
            let begun = Arrivals::new();
            for number in 0..100 {
                let begun = begun.clone();
                expect_accepted(group.submit(move || {
                    begun.arrive();
                    Err(number)
                }));
            }
            task_error(group.wait());
            begun.count()
        })
        .unwrap();
    assert_eq!(task.join().unwrap(), 1);
    pool.wait_idle();
    assert_eq!(pool.stats().cancelled, 99);
    assert_books_balance(&pool);
}

/// In a task of another pool `wait` only waits: the tasks run where they were submitted.
#[test]
fn r1_wait_in_a_task_of_another_pool_only_waits() {
    let (pool, other) = (Pool::with_capacity(1), roomy(1));
    let occupied = occupy(&other, 1);
    let group = Arc::new(other.group::<()>());
    let threads = Log::new();
    for _ in 0..20 {
        let threads = threads.clone();
        expect_accepted(group.submit(move || {
            threads.push(thread::current().id());
            Ok(())
        }));
    }
    let begun = Arrivals::new();
    let arrives = begun.clone();
    let task = pool
        .spawn(move || {
            arrives.arrive();
            (group.wait().is_ok(), thread::current().id())
        })
        .unwrap();
    begun.wait_for(1);
    // Long enough for it to run what it must not.
    for _ in 0..50 {
        thread::yield_now();
    }
    assert_eq!((threads.len(), other.queued()), (0, 20));
    occupied.end();
    let (is_ok, caller) = watchdog("the task ends", move || task.join()).unwrap();
    assert!(is_ok);
    assert!(!threads.entries().contains(&caller));
    assert_eq!(threads.len(), 20);
    assert_books_balance(&other);
}

/// It does not wait either for one who has not come in yet, and will not while this task has the room.
#[test]
fn r1_wait_in_a_task_does_not_wait_for_who_waits_for_its_room() {
    let pool = Pool::with_capacity(1);
    let group = Arc::new(pool.group::<()>());
    let fates = Fates::default();
    let (gate, begun) = (Gate::new(), Arrivals::new());
    let task = pool
        .spawn({
            let (group, gate, begun) = (Arc::clone(&group), gate.clone(), begun.clone());
            move || {
                begun.arrive();
                gate.wait();
                group.wait().is_ok()
            }
        })
        .unwrap();
    begun.wait_for(1);
    thread::scope(|threads| {
        threads.spawn(|| fates.submit(&group, 1));
        eventually_waiting(&pool, 1);
        gate.open();
        let ended = task.join_timeout(DEADLINE);
        // So that a failure is told, and not waited for.
        pool.tune(2);
        assert!(ended.expect("it waits for ever").unwrap());
    });
    assert!(group.wait().is_ok());
    assert_eq!(fates.counts(), (1, 1));
}

/// A wait that could not end is a panic with a clear message, and so an error of the group.
#[test]
fn wait_in_a_task_of_the_group_panics() {
    for capacity in [1, 2] {
        let pool = Pool::with_capacity(capacity);
        let group = Arc::new(pool.group::<()>());
        let own = Arc::clone(&group);
        expect_accepted(group.submit(move || own.wait().map_err(drop)));
        let waits = Arc::clone(&group);
        let result = watchdog("the group ends", move || waits.wait());
        let message = panic_message(result);
        assert!(message.contains("wait for itself"), "{message}");

        // The same where the task of the group is suspended beneath another one.
        let group = Arc::new(pool.group::<()>());
        let (own, handle) = (Arc::clone(&group), pool.handle());
        let kept = occupy(&pool, capacity - 1);
        expect_accepted(group.submit(move || {
            let inner = handle.spawn(move || drop(own.wait())).unwrap();
            let error = inner.join().unwrap_err();
            assert!(
                error
                    .message()
                    .is_some_and(|text| text.contains("wait for itself"))
            );
            Ok(())
        }));
        let waits = Arc::clone(&group);
        assert!(watchdog("the group ends", move || waits.wait()).is_ok());
        kept.end();
        pool.wait_idle();
        assert_books_balance(&pool);
    }
}

// ---- refused and discarded ----

/// A refused closure comes back, and the group is as if it had never been submitted.
#[test]
fn a_refused_closure_comes_back() {
    let rejecting = Pool::builder()
        .capacity(1)
        .overflow(Overflow::Reject)
        .build()
        .unwrap();
    let closed = Pool::with_capacity(1);
    let occupied = [occupy(&rejecting, 1), occupy(&closed, 1)];
    closed.release();
    for (pool, kind) in [
        (&rejecting, SubmitErrorKind::Full),
        (&closed, SubmitErrorKind::Closed),
    ] {
        let group = pool.group();
        let fates = Fates::default();
        let error = group.submit(fates.task()).unwrap_err();
        assert_eq!((error.kind(), fates.counts()), (kind, (0, 0)));
        let task = error.into_inner();
        assert_eq!(task(), Ok::<(), &str>(()));
        assert_eq!(fates.counts(), (1, 1));

        let text = String::from("not lost");
        let error = group.spawn(move || Ok(text)).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.into_inner()(), Ok("not lost".to_owned()));

        assert!(group.wait().is_ok());
        assert!(!group.is_cancelled());
        assert_eq!(pool.stats().rejected, 2);
    }
    for held in &occupied {
        held.end();
    }
}

/// Those who wait for room get their closures back when the pool closes, and the group does not wait
/// for them.
#[test]
fn who_waits_for_room_gets_the_closure_back_when_the_pool_closes() {
    let pool = Pool::with_capacity(1);
    let group = pool.group::<()>();
    let gate = held(&group, Ok(()));
    let fates = Fates::default();
    thread::scope(|threads| {
        threads.spawn(|| {
            let error = group.submit(fates.task()).unwrap_err();
            assert_eq!(error.kind(), SubmitErrorKind::Closed);
        });
        eventually_waiting(&pool, 1);
        pool.release();
    });
    gate.open();
    assert!(group.wait().is_ok());
    assert_eq!(fates.counts(), (0, 1));
}

/// A group some of whose tasks the pool discarded was cut short: it says so, and so do the handles.
#[test]
fn what_the_pool_discards_ends_the_group() {
    let pool = roomy(1);
    let group = pool.group::<()>();
    let gate = held(&group, Ok(()));
    let fates = Fates::default();
    fates.submit(&group, 10);
    let handle = group.spawn(|| Ok(1)).unwrap();
    assert_eq!(pool.release_now(), 11);
    gate.open();
    assert_cancelled(&group.wait());
    assert!(handle.join().unwrap_err().is_cancelled());
    assert_eq!(fates.counts(), (0, 10));
    pool.wait_idle();
    assert_books_balance(&pool);
}

/// The same for what newer tasks drove out of the backlog.
#[test]
fn what_newer_tasks_drive_out_ends_the_group() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(2)
        .overflow(Overflow::DropOldest)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let group = pool.group::<()>();
    let fates = Fates::default();
    fates.submit(&group, 2);
    expect_accepted(pool.submit(|| {}));
    // One made room, and the other one was cancelled with its group.
    assert_cancelled(&group.wait());
    assert_eq!(fates.counts(), (0, 2));
    occupied.end();
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!(
        (stats.completed, stats.discarded, stats.cancelled),
        (2, 1, 1),
        "{stats:?}"
    );
    assert_books_balance(&pool);
}

// ---- errors ----

/// Group errors go into a boxed error with `?`, and say what the task's own error says.
#[test]
fn errors_work_with_the_question_mark() {
    fn with_string(pool: &PoolHandle) -> Result<(), Box<dyn Error + Send + Sync>> {
        let group = pool.group();
        group.submit(|| Err(String::from("a text")))?;
        group.wait()?;
        Ok(())
    }

    fn with_io_error(pool: &PoolHandle) -> Result<u64, Box<dyn Error + Send + Sync>> {
        let group = pool.group();
        let length = group.spawn(|| Ok(std::fs::metadata("/there is/no such file")?.len()))?;
        group.wait().map_err(|error: GroupError<io::Error>| error)?;
        Ok(length.join()?)
    }

    fn with_panic(pool: &PoolHandle) -> Result<(), Box<dyn Error + Send + Sync>> {
        let group = pool.group::<io::Error>();
        group.submit(|| panic!("a panic"))?;
        group.wait()?;
        Ok(())
    }

    let pool = Pool::with_capacity(1);
    assert_eq!(with_string(&pool).unwrap_err().to_string(), "a text");
    let error = with_io_error(&pool).unwrap_err();
    let error = error.downcast::<GroupError<io::Error>>().unwrap();
    assert_eq!(error.task().unwrap().kind(), io::ErrorKind::NotFound);
    let error = with_panic(&pool).unwrap_err();
    assert_eq!(error.to_string(), "the task panicked: a panic");
    pool.release();
    assert_eq!(
        with_string(&pool).unwrap_err().to_string(),
        "the pool is closed"
    );
}

/// What can be asked of an error.
#[test]
fn errors_give_the_tasks_own_error_and_nothing_else() {
    let error = GroupError::Task(5);
    assert_eq!(error.task(), Some(&5));
    assert_eq!(error.into_task(), Some(5));
    let cancelled = GroupError::<i32>::Cancelled;
    assert!(!cancelled.to_string().is_empty() && !format!("{cancelled:?}").is_empty());
    assert_eq!(cancelled.task(), None);
    assert_eq!(cancelled.into_task(), None);
}

/// Groups and their handles may be shared between threads, and debugged.
#[test]
fn groups_are_shared_between_threads() {
    fn shared<T: Send + Sync + Debug>(_: &T) {}
    let pool = Pool::with_capacity(1);
    shared(&pool.group::<io::Error>());
    shared(&pool.group::<std::cell::Cell<u8>>().keep_going());
    shared(&pool.group::<()>().spawn(|| Ok(1)).unwrap());
}

// ---- all together ----

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Good,
    Bad,
    Panic,
}

const PLANNED: &str = "planned";

/// Tasks that do as they are told, and keep the books of their group.
struct Round {
    jobs: Vec<Job>,
    fates: Fates,
}

impl Round {
    fn plan(rng: &mut StdRng) -> Round {
        let failures = if rng.random_range(0..3) == 0 { 0 } else { 8 };
        let jobs = (0..rng.random_range(0..40))
            .map(|_| match rng.random_range(0..100) {
                draw if draw < failures => Job::Bad,
                draw if draw < 2 * failures => Job::Panic,
                _ => Job::Good,
            })
            .collect();
        Round {
            jobs,
            fates: Fates::default(),
        }
    }

    fn failures(&self) -> Vec<usize> {
        let jobs = self.jobs.iter().enumerate();
        jobs.filter(|(_, job)| **job != Job::Good)
            .map(|(index, _)| index)
            .collect()
    }

    /// Submits the tasks, each number its own; cancels the group before that of number `cancel_at`.
    fn submit<Way>(&self, group: &Group<usize, Way>, cancel_at: Option<usize>) {
        for (number, job) in self.jobs.iter().copied().enumerate() {
            if cancel_at == Some(number) {
                group.cancel();
            }
            let counts = self.fates.task::<usize>();
            expect_accepted(group.submit(move || {
                counts()?;
                match job {
                    Job::Good => Ok(()),
                    Job::Bad => Err(number),
                    // It does not print.
                    Job::Panic => resume_unwind(Box::new(PLANNED)),
                }
            }));
        }
    }

    /// Whether an error is what was planned for the task of that number.
    #[track_caller]
    fn check(&self, number: usize, error: &GroupError<usize>) {
        match error {
            GroupError::Task(error) => {
                assert_eq!((*error, self.jobs[number]), (number, Job::Bad));
            }
            GroupError::Panicked(panic) => {
                assert_eq!(panic.message(), Some(PLANNED));
                assert_eq!(self.jobs[number], Job::Panic);
            }
            _ => {}
        }
    }

    #[track_caller]
    fn end(&self, group: &Group<usize>, cancelled: bool) {
        let result = group.wait();
        let (ran, dropped) = self.fates.counts();
        assert_eq!(dropped, self.jobs.len(), "a task was not over");
        match result {
            Ok(()) => {
                assert!(self.failures().is_empty(), "an error was not told");
                assert_eq!(ran, self.jobs.len());
            }
            Err(GroupError::Cancelled) => assert!(cancelled, "nobody cancelled it"),
            Err(GroupError::Task(number)) => self.check(number, &GroupError::Task(number)),
            Err(GroupError::Panicked(panic)) => {
                assert_eq!(panic.message(), Some(PLANNED));
                assert!(self.jobs.contains(&Job::Panic));
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn end_all(&self, group: &Group<usize, KeepGoing>, cancelled: bool) {
        let errors = group.wait().err().unwrap_or_default();
        let (ran, dropped) = self.fates.counts();
        assert_eq!(dropped, self.jobs.len(), "a task was not over");
        assert!(errors.is_sorted_by(|a, b| a.0 < b.0), "{errors:?}");
        for (number, error) in &errors {
            self.check(*number, error);
        }
        let unrun = errors
            .iter()
            .filter(|(_, error)| matches!(error, GroupError::Cancelled));
        assert_eq!(ran + unrun.count(), self.jobs.len());
        if !cancelled {
            let told: Vec<_> = errors.iter().map(|(number, _)| *number).collect();
            assert_eq!(told, self.failures());
        }
    }
}

/// One group from its beginning to its end, in one of the ways there are.
fn one_group(pool: &PoolHandle, rng: &mut StdRng) {
    let round = Round::plan(rng);
    let cancel_at = (rng.random_range(0..4) == 0).then(|| rng.random_range(0..40));
    let cancelled = cancel_at.is_some_and(|number| number < round.jobs.len());
    match rng.random_range(0..6) {
        // It is dropped and never waited for.
        0 => {
            let group = pool.group();
            round.submit(&group, cancel_at);
            drop(group);
            round.fates.dropped.wait_for(round.jobs.len());
        }
        1 | 2 => {
            let group = pool.group().keep_going();
            round.submit(&group, cancel_at);
            round.end_all(&group, cancelled);
        }
        // It is all done within a task of the pool.
        3 => {
            let inside = pool.clone();
            let task = pool
                .spawn(move || {
                    let group = inside.group();
                    round.submit(&group, cancel_at);
                    round.end(&group, cancelled);
                })
                .unwrap();
            task.join().unwrap();
        }
        // Somebody else cancels it at any moment.
        4 => {
            let group = pool.group();
            thread::scope(|threads| {
                threads.spawn(|| {
                    thread::yield_now();
                    group.cancel();
                });
                round.submit(&group, None);
                round.end(&group, true);
            });
        }
        _ => {
            let group = pool.group();
            round.submit(&group, cancel_at);
            round.end(&group, cancelled);
        }
    }
}

/// Groups from many threads at once, with errors, panics and cancels at random: each tells what was
/// planned, no task is lost, and the books balance.
#[test]
fn many_groups_from_many_threads() {
    let mut rng = seeded_rng("many_groups_from_many_threads");
    for _ in 0..12 {
        let builder = Pool::builder().capacity(rng.random_range(1..=4));
        let builder = match rng.random_range(0..3) {
            0 => builder,
            1 => builder.backlog(5),
            _ => builder.unbounded_backlog(),
        };
        let builder = match rng.random_range(0..3) {
            0 => builder.overflow(Overflow::CallerRuns),
            _ => builder,
        };
        let (sender, receiver) = channel();
        let pool = builder
            .panic_handler(move |panic| {
                let _ = sender.send(format!("{panic:?}"));
            })
            .build()
            .unwrap();
        let seeds: Vec<u64> = (0..4).map(|_| rng.random()).collect();
        let pool = watchdog("all groups end", move || {
            thread::scope(|threads| {
                for seed in seeds {
                    let pool = &pool;
                    threads.spawn(move || {
                        let mut rng = StdRng::seed_from_u64(seed);
                        for _ in 0..40 {
                            one_group(pool, &mut rng);
                        }
                    });
                }
            });
            pool
        });
        pool.wait_idle();
        assert_eq!(
            receiver.try_recv().ok(),
            None,
            "a panic that was not the group's"
        );
        assert_books_balance(&pool);
    }
}
