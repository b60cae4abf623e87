//! `submit_cancellable`: a submitter that waits for room is called off by a signal, and leaves nothing behind.

mod support;

use std::thread;

use anthill::{Overflow, Pool, StopSource, SubmitErrorKind};
use support::{
    Log, assert_at_rest, eventually_waiting, expect_accepted, in_a_task, occupy, refusal, watchdog,
};

#[test]
fn a_submitter_that_waits_is_called_off() {
    for backlog in [0, 3] {
        let builder = Pool::builder().capacity(1).backlog(backlog);
        let pool = builder.build().unwrap();
        let occupied = occupy(&pool, 1);
        for _ in 0..backlog {
            expect_accepted(pool.submit(|| ()));
        }
        let source = StopSource::new();
        let stop = source.token();
        let log = Log::new();
        let (error, back) = thread::scope(|scope| {
            let task = log.clone();
            let submits = || pool.submit_cancellable(move || task.push(7), &stop);
            let waits = scope.spawn(|| submits().unwrap_err());
            eventually_waiting(&pool, 1);
            source.stop();
            let error = waits.join().unwrap();
            (error.to_string(), error.into_parts())
        });
        assert_eq!(error, "the submission was cancelled");
        assert_eq!((back.0, log.len()), (SubmitErrorKind::Cancelled, 0));
        (back.1)();
        assert_eq!(log.entries(), [7]);
        assert_eq!((pool.waiting(), pool.stats().rejected), (0, 1));
        occupied.end();
        pool.wait_idle();
        assert_eq!(pool.stats().completed, 1 + backlog as u64);
        assert_at_rest(&pool);
    }
}

/// Those before and behind it in line keep their places.
#[test]
fn p04_who_is_called_off_leaves_the_line_to_the_others() {
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let (source, never, log) = (StopSource::new(), StopSource::new(), Log::new());
    let (stop, go_on) = (source.token(), never.token());
    thread::scope(|scope| {
        let mut called_off = Vec::new();
        for number in 0..12 {
            let (pool, task) = (&pool, log.clone());
            let task = move || task.push(number);
            let token = if number % 2 == 0 { &stop } else { &go_on };
            let waits = scope.spawn(move || pool.submit_cancellable(task, token));
            eventually_waiting(pool, number + 1);
            if number % 2 == 0 {
                called_off.push(waits);
            }
        }
        source.stop();
        for waits in called_off {
            assert_eq!(refusal(waits.join().unwrap()), SubmitErrorKind::Cancelled);
        }
        assert_eq!(pool.waiting(), 6);
        occupied.end();
    });
    pool.wait_idle();
    assert_eq!(log.entries(), [1, 3, 5, 7, 9, 11]);
    assert_at_rest(&pool);
}

#[test]
fn a_signal_that_was_given_before_refuses_though_there_is_room() {
    let pool = Pool::with_capacity(2);
    let source = StopSource::new();
    source.stop();
    let stop = source.token();
    assert_eq!(
        refusal(pool.submit_cancellable(|| (), &stop)),
        SubmitErrorKind::Cancelled
    );
    let kind = in_a_task(&pool, "a task that submits", {
        let (pool, stop) = (pool.handle(), stop.clone());
        move || refusal(pool.submit_cancellable(|| (), &stop))
    });
    assert_eq!(kind, SubmitErrorKind::Cancelled);
    pool.wait_idle();
    assert_eq!(pool.stats().rejected, 2);
    assert_at_rest(&pool);
}

#[test]
fn without_the_signal_it_is_a_submit() {
    let source = StopSource::new();
    let stop = source.token();
    let pool = Pool::with_capacity(1);
    for _ in 0..100 {
        expect_accepted(pool.submit_cancellable(|| (), &stop));
    }
    pool.wait_idle();
    assert_eq!(pool.stats().completed, 100);
    // The signal does not touch what was accepted.
    let occupied = occupy(&pool, 1);
    let log = Log::new();
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let log = log.clone();
            pool.submit_cancellable(move || log.push(()), &stop)
        });
        eventually_waiting(&pool, 1);
        occupied.end();
        expect_accepted(waits.join().unwrap());
    });
    source.stop();
    pool.wait_idle();
    assert_eq!(log.len(), 1);
    assert_at_rest(&pool);
}

#[test]
fn in_a_task_it_never_waits() {
    let pool = Pool::with_capacity(1);
    let (handle, stop) = (pool.handle(), StopSource::new().token());
    in_a_task(&pool, "a task that submits", move || {
        for _ in 0..100 {
            expect_accepted(handle.submit_cancellable(|| (), &stop));
        }
    });
    pool.wait_idle();
    assert_eq!(pool.stats().completed, 101);
}

#[test]
fn the_overflow_policy_applies() {
    let stop = StopSource::new().token();
    for overflow in [Overflow::Reject, Overflow::CallerRuns, Overflow::DropOldest] {
        let builder = Pool::builder().capacity(1).backlog(1).overflow(overflow);
        let pool = builder.build().unwrap();
        let occupied = occupy(&pool, 1);
        expect_accepted(pool.submit(|| ()));
        let log = Log::new();
        let task = log.clone();
        let submitted = pool.submit_cancellable(move || task.push(thread::current().id()), &stop);
        if overflow == Overflow::Reject {
            assert_eq!(refusal(submitted), SubmitErrorKind::Full);
        } else {
            expect_accepted(submitted);
        }
        if overflow == Overflow::CallerRuns {
            assert_eq!(log.entries(), [thread::current().id()]);
        }
        occupied.end();
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

/// The signal of the pool itself: whichever comes first.
#[test]
fn a_release_calls_off_who_waits_with_the_token_of_the_pool() {
    watchdog("the submitter goes on", || {
        for _ in 0..50 {
            let pool = Pool::with_capacity(0);
            let stop = pool.stop_token();
            thread::scope(|scope| {
                let waits = scope.spawn(|| pool.submit_cancellable(|| (), &stop));
                eventually_waiting(&pool, 1);
                pool.release();
                let kind = refusal(waits.join().unwrap());
                let either = [SubmitErrorKind::Cancelled, SubmitErrorKind::Closed];
                assert!(either.contains(&kind), "{kind:?}");
            });
            assert_eq!(pool.waiting(), 0);
        }
    });
}

/// Many are called off by one signal, however the pool serves them meanwhile: each task runs or comes back.
#[test]
fn a_signal_while_the_line_is_served_loses_nothing() {
    watchdog("all submitters go on", || {
        for round in 0..50 {
            let pool = Pool::with_capacity(1);
            let (source, ran) = (StopSource::new(), Log::new());
            let stop = source.token();
            let back: usize = thread::scope(|scope| {
                let submit = |_| {
                    let (pool, stop, task) = (&pool, &stop, ran.clone());
                    scope.spawn(move || {
                        let submitted = pool.submit_cancellable(move || task.push(()), stop);
                        usize::from(submitted.is_err())
                    })
                };
                let waits: Vec<_> = (0..8).map(submit).collect();
                while ran.len() < round % 8 {
                    thread::yield_now();
                }
                source.stop();
                waits.into_iter().map(|waits| waits.join().unwrap()).sum()
            });
            pool.wait_idle();
            assert_eq!(ran.len() + back, 8);
            assert_at_rest(&pool);
        }
    });
}
