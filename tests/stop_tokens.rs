//! Stop tokens: the exit signal of tasks that live long. P14 (whatever closes the pool sets it) and P15
//! (a pool that is opened again has a new one). Signals of one's own, and the release that ends with one.

mod support;

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::thread;
use std::time::Duration;

use anthill::{Balance, MultiPool, Pool, PoolHandle, StopSource, StopToken};
use support::{
    Arrivals, DEADLINE, DropCounter, OpensOnDrop, assert_at_rest, eventually, expect_accepted,
    in_a_task, occupy, watchdog,
};

/// Submits `tasks` tasks that run until their token says stop, and waits until they run.
fn run_until_stopped(pool: &PoolHandle, tasks: usize, ended: &Arrivals) {
    let begun = Arrivals::new();
    for _ in 0..tasks {
        let (stop, begun, ended) = (pool.stop_token(), begun.clone(), ended.clone());
        expect_accepted(pool.submit(move || {
            begun.arrive();
            assert!(stop.wait_timeout(DEADLINE), "nobody set the signal");
            ended.arrive();
        }));
    }
    begun.wait_for(tasks);
}

/// Closes a pool in some way.
type Close = fn(Pool);

/// The ways to close a pool.
fn ways_to_close() -> [(&'static str, Close); 5] {
    [
        ("release", |pool| pool.release()),
        ("release_now", |pool| {
            pool.release_now();
        }),
        ("release_timeout", |pool| {
            let ended = pool.release_timeout(Duration::MAX);
            assert!(ended.is_ok(), "{ended:?}");
        }),
        ("drop", drop),
        ("the last handle of a detached pool", |pool| {
            drop(pool.detach());
        }),
    ]
}

#[test]
fn p14_the_token_of_an_open_pool_is_not_stopped() {
    let pool = Pool::with_capacity(2);
    let stop = pool.stop_token();
    assert!(!stop.is_stopped());
    assert!(!stop.wait_timeout(Duration::ZERO));
    assert!(!stop.wait_timeout(Duration::from_millis(2)));
    // Nothing but the end of the pool is a reason to stop.
    expect_accepted(pool.submit(|| {}));
    pool.tune(0);
    pool.tune(2);
    pool.wait_idle();
    pool.reboot();
    let detached = pool.detach();
    assert!(!stop.is_stopped() && !detached.stop_token().is_stopped());
}

/// Tasks that run until they are told to stop end in whatever way their pool is closed; without the
/// signal none of these would ever return.
#[test]
fn p14_whatever_closes_the_pool_stops_its_tokens() {
    for (how, close) in ways_to_close() {
        let pool = Pool::with_capacity(3);
        let (before, ended) = (pool.stop_token(), Arrivals::new());
        run_until_stopped(&pool, 3, &ended);
        assert!(!before.is_stopped(), "{how}");
        watchdog(how, move || close(pool));
        ended.wait_for(3);
        assert!(before.is_stopped(), "{how}");
        assert!(before.wait_timeout(Duration::ZERO), "{how}");
    }
}

/// Closing sets the signal before it returns, while the tasks still run.
#[test]
fn p14_the_token_is_stopped_when_release_returns() {
    for close in [
        |pool: &PoolHandle| pool.release(),
        |pool: &PoolHandle| {
            pool.release_now();
        },
        |pool: &PoolHandle| {
            assert!(pool.release_timeout(Duration::ZERO).is_err());
        },
    ] {
        let pool = Pool::with_capacity(1);
        let stop = pool.stop_token();
        let occupied = occupy(&pool, 1);
        close(&pool);
        assert!(stop.is_stopped());
        assert!(
            pool.stop_token().is_stopped(),
            "so is one that is taken later"
        );
        occupied.end();
    }
}

/// Those who sleep on the token are woken, however many there are and wherever they are.
#[test]
fn p14_all_who_wait_on_a_token_are_woken() {
    let pool = Pool::with_capacity(1);
    let stop = pool.stop_token();
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let stop = stop.clone();
                scope.spawn(move || stop.wait_timeout(DEADLINE))
            })
            .collect();
        let for_ever = scope.spawn(|| stop.wait_timeout(Duration::MAX));
        pool.release();
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        assert!(for_ever.join().unwrap());
    });
}

/// However closing and the wait meet, nobody waits past the signal.
#[test]
fn p14_a_wait_that_begins_as_the_pool_closes_is_not_missed() {
    watchdog("all are woken", || {
        for _ in 0..1_000 {
            let pool = Pool::with_capacity(1);
            let stop = pool.stop_token();
            thread::scope(|scope| {
                let waiter = scope.spawn(|| stop.wait_timeout(Duration::MAX));
                pool.release();
                assert!(waiter.join().unwrap());
            });
        }
    });
}

/// Also a task may close its pool, and is told as well.
#[test]
fn p14_a_task_that_closes_its_pool_stops_its_own_token() {
    let pool = Pool::with_capacity(1);
    let (stop, inner) = (pool.stop_token(), pool.handle());
    let handle = pool.spawn(move || {
        let before = stop.is_stopped();
        inner.release();
        (before, stop.is_stopped(), inner.stop_token().is_stopped())
    });
    let handle = handle.expect("there is room");
    let seen = watchdog("the task ends", move || handle.join());
    assert_eq!(seen.unwrap(), (false, true, true));
}

/// Tokens keep nothing open: not the pool, nor its threads.
#[test]
fn a_token_outlives_its_pool_and_does_not_keep_it_open() {
    let pool = Pool::with_capacity(1);
    let (stop, handle) = (pool.stop_token(), pool.handle());
    expect_accepted(pool.submit(|| {}));
    drop(pool);
    assert!(stop.is_stopped() && stop.clone().wait_timeout(Duration::MAX));
    assert_eq!(handle.workers(), 0);
    let detached = Pool::with_capacity(1).detach();
    let stop = detached.stop_token();
    drop(detached);
    assert!(stop.is_stopped());
}

/// What happened before the pool was closed happened before a token says so.
#[test]
fn who_sees_the_signal_sees_what_came_before_it() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for round in 1..300 {
        let pool = Pool::with_capacity(1);
        let (stop, value) = (pool.stop_token(), AtomicUsize::new(0));
        thread::scope(|scope| {
            let seer = scope.spawn(|| {
                eventually("it is stopped", || stop.is_stopped());
                value.load(Ordering::Relaxed)
            });
            value.store(round, Ordering::Relaxed);
            pool.release();
            assert_eq!(seer.join().unwrap(), round);
        });
    }
}

/// A pool opened again has a new signal; tokens from before stay stopped.
#[test]
fn p15_reboot_brings_a_new_token_and_leaves_the_old_one_stopped() {
    let pool = Pool::with_capacity(2);
    let mut old: Vec<StopToken> = Vec::new();
    for round in 0..5 {
        let (stop, ended) = (pool.stop_token(), Arrivals::new());
        assert!(!stop.is_stopped(), "round {round}");
        assert!(old.iter().all(StopToken::is_stopped), "round {round}");
        run_until_stopped(&pool, 2, &ended);
        assert_eq!(ended.count(), 0);
        pool.release();
        ended.wait_for(2);
        assert!(stop.is_stopped(), "round {round}");
        old.push(stop);
        pool.reboot();
    }
    assert!(old.iter().all(StopToken::is_stopped));
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// A reboot of a pool that is open keeps the signal that its tasks have.
#[test]
fn p15_reboot_of_an_open_pool_keeps_its_token() {
    let pool = Pool::with_capacity(1);
    let (stop, ended) = (pool.stop_token(), Arrivals::new());
    run_until_stopped(&pool, 1, &ended);
    pool.reboot();
    assert!(!stop.is_stopped());
    pool.release();
    assert!(stop.is_stopped());
    ended.wait_for(1);
}

/// A pool whose owner is gone stays closed, and so does its signal.
#[test]
fn p15_reboot_of_a_dropped_pool_brings_no_new_token() {
    let pool = Pool::with_capacity(1);
    let handle = pool.handle();
    drop(pool);
    handle.reboot();
    assert!(handle.is_closed() && handle.stop_token().is_stopped());
}

/// A task that was queued over the reboot takes the signal that holds when it asks for it.
#[test]
fn p15_a_task_that_runs_after_the_reboot_asks_for_the_new_token() {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let gate = support::Gate::new();
    let (inside, old) = (gate.clone(), pool.stop_token());
    let gate: OpensOnDrop = gate.opened_on_drop();
    expect_accepted(pool.submit(move || inside.wait()));
    let queued = pool.spawn(|| {
        let pool = PoolHandle::current().expect("a task of a pool");
        pool.stop_token().is_stopped()
    });
    let queued = queued.expect("there is room");
    pool.release();
    pool.reboot();
    gate.open();
    assert!(!watchdog("it runs", move || queued.join()).unwrap());
    assert!(old.is_stopped());
}

#[test]
fn tokens_go_between_threads() {
    fn assert_all<T: Clone + Send + Sync + UnwindSafe + RefUnwindSafe + Unpin + 'static>() {}
    assert_all::<StopToken>();
    assert_all::<StopSource>();
    let pool = Pool::with_capacity(1);
    let stop = pool.stop_token();
    assert!(format!("{stop:?}").contains("false"));
    pool.release();
    assert!(format!("{stop:?}").contains("true"));
}

// ── a signal of one's own ───────────────────────────────────────────────────────────────────────

/// All clones of a source give the same signal, to all its tokens and to no others; it stays given.
#[test]
fn a_source_stops_its_tokens_alone() {
    let (source, other) = (StopSource::new(), StopSource::default());
    let (early, clone) = (source.token(), source.clone());
    assert!(!early.wait_timeout(Duration::ZERO));
    assert!(format!("{source:?}").contains("false"));
    thread::scope(|scope| {
        let waits = scope.spawn(|| early.wait_timeout(Duration::MAX));
        clone.stop();
        assert!(waits.join().unwrap());
    });
    clone.stop();
    assert!(early.is_stopped() && source.token().is_stopped());
    assert!(!other.token().is_stopped());
    assert!(format!("{source:?}").contains("true"));

    let unstopped = other.token();
    drop(other);
    assert!(!unstopped.wait_timeout(Duration::from_millis(5)));
}

/// However the signal and the wait meet, who awaits the end of a pool returns at it, though the tasks go on; what
/// remains is told, and can be awaited again.
#[test]
fn release_until_gives_up_at_the_signal() {
    watchdog("all have given up", || {
        for round in 0..200 {
            let pool = Pool::with_capacity(1);
            let task = occupy(&pool, 1);
            let source = StopSource::new();
            let token = source.token();
            thread::scope(|scope| {
                let waits = scope.spawn(|| pool.release_until(&token, Duration::MAX));
                if round % 2 == 0 {
                    eventually("it is closed", || pool.is_closed());
                }
                source.stop();
                let remains = waits.join().unwrap().unwrap_err();
                assert_eq!((remains.running(), remains.workers()), (1, 1));
            });
            assert!(
                pool.release_until(&token, Duration::MAX).is_err(),
                "at once"
            );
            task.end();
            pool.release_until(&StopSource::new().token(), Duration::MAX)
                .unwrap();
            // It has ended: there is nothing to give up.
            pool.release_until(&token, Duration::ZERO).unwrap();
        }
    });
}

/// Several pools as one likewise, whichever of them it is that does not end.
#[test]
fn release_until_gives_up_on_all_pools_at_the_signal() {
    watchdog("all have given up", || {
        for round in 0..100 {
            let pools = MultiPool::new(3, 1, Balance::RoundRobin);
            let shard = pools.shards().nth(round % 3).unwrap();
            let task = occupy(shard, 1);
            let source = StopSource::new();
            let token = source.token();
            thread::scope(|scope| {
                let waits = scope.spawn(|| pools.release_until(&token, Duration::MAX));
                eventually("they are closed", || pools.is_closed());
                source.stop();
                let remains = waits.join().unwrap().unwrap_err();
                assert_eq!((remains.running(), remains.workers()), (1, 1));
            });
            task.end();
            pools
                .release_until(&StopSource::new().token(), Duration::MAX)
                .unwrap();
        }
    });
}

/// Without the signal it is `release_timeout`. The pool's own token is stopped by the release; and in a task of the
/// pool it returns at once, whatever the signal.
#[test]
fn release_until_ends_by_its_time_too() {
    let pool = Pool::with_capacity(1);
    let task = occupy(&pool, 1);
    let token = StopSource::new().token();
    assert!(
        pool.release_until(&token, Duration::from_millis(5))
            .is_err()
    );
    assert!(!token.is_stopped());
    pool.reboot();
    let own = pool.stop_token();
    assert!(pool.release_until(&own, Duration::MAX).is_err());
    task.end();
    assert!(pool.release_until(&token, DEADLINE).is_ok());

    pool.reboot();
    let inner = pool.handle();
    let ended = in_a_task(&pool, "the release", move || {
        inner.release_until(&token, Duration::MAX).is_ok()
    });
    assert!(!ended);
}

/// A signal that somebody waited for keeps no pool.
#[test]
fn a_source_keeps_no_pool() {
    let dropped = Arrivals::new();
    let captured = DropCounter(dropped.clone());
    let builder = Pool::builder().capacity(1);
    let pool = builder.on_worker_stop(move |_| _ = &captured).build();
    let (pool, source) = (pool.unwrap(), StopSource::new());
    let task = occupy(&pool, 1);
    let token = source.token();
    assert!(pool.release_until(&token, Duration::ZERO).is_err());
    task.end();
    drop(pool);
    dropped.wait_for(1);
    source.stop();
}
