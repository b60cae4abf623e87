//! Tasks that use the pool they run on: P8, P21 (waits that cannot end are errors), and what happens
//! before what. Chains of successors, which count memory, are in `successors.rs`.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anthill::{Overflow, Pool, PoolHandle, SubmitErrorKind};
use support::{
    Arrivals, Gate, Log, Running, assert_at_rest, eventually_eq, eventually_waiting,
    expect_accepted, occupy, receive, refusal, watchdog,
};

/// Runs `body` in a task of the pool and returns what it returned; a panic of it goes on here.
#[track_caller]
fn in_a_task<T: Send + 'static>(
    pool: &PoolHandle,
    body: impl FnOnce(&PoolHandle) -> T + Send + 'static,
) -> T {
    let (sender, receiver) = channel();
    let handle = pool.clone();
    expect_accepted(pool.submit(move || {
        let result = catch_unwind(AssertUnwindSafe(|| body(&handle)));
        drop(handle);
        let _ = sender.send(result);
    }));
    match receive("the task ended", &receiver) {
        Ok(value) => value,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

// ---- P8: tasks may use the pool ----

#[test]
fn p08_a_task_may_submit_to_its_own_pool_whatever_the_capacity() {
    for capacity in [1, 2, 5] {
        for pool in [
            Pool::with_capacity(capacity),
            Pool::builder()
                .capacity(capacity)
                .backlog(1)
                .build()
                .unwrap(),
            Pool::builder()
                .capacity(capacity)
                .unbounded_backlog()
                .build()
                .unwrap(),
        ] {
            let ran = Arrivals::new();
            in_a_task(&pool, {
                let ran = ran.clone();
                move |pool| {
                    for _ in 0..100 {
                        let ran = ran.clone();
                        expect_accepted(pool.submit(move || ran.arrive()));
                    }
                }
            });
            pool.wait_idle();
            assert_eq!(ran.count(), 100, "{pool:?}");
            assert_at_rest(&pool);
        }
    }
}

/// All forms but the nonblocking one, which stays honest.
#[test]
fn p08_submitting_from_a_worker_never_waits_and_queues_beyond_the_bound() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(1)
        .max_waiting(0)
        .build()
        .unwrap();
    let ran = Arrivals::new();
    let inner = ran.clone();
    let (queued, full) = in_a_task(&pool, move |pool| {
        for _ in 0..3 {
            let ran = inner.clone();
            expect_accepted(pool.submit(move || ran.arrive()));
            let ran = inner.clone();
            expect_accepted(pool.submit_timeout(move || ran.arrive(), Duration::MAX));
            let ran = inner.clone();
            expect_accepted(pool.submit_timeout(move || ran.arrive(), Duration::ZERO));
        }
        (pool.queued(), refusal(pool.try_submit(|| {})))
    });
    assert_eq!((queued, full), (9, SubmitErrorKind::Full));
    pool.wait_idle();
    assert_eq!(ran.count(), 9);
    assert_at_rest(&pool);
}

#[test]
fn p08_try_submit_from_a_worker_takes_room_that_there_is() {
    let pool = Pool::builder().capacity(1).backlog(2).build().unwrap();
    let results = in_a_task(&pool, |pool| {
        [(); 4].map(|()| pool.try_submit(|| {}).map_err(|error| error.kind()))
    });
    let full = Err(SubmitErrorKind::Full);
    assert_eq!(results, [Ok(()), Ok(()), full, full]);
    pool.wait_idle();
    assert_eq!(pool.stats().completed, 3);
}

/// What queues beyond the bound is in flight: from outside there is no room until it is worked off.
#[test]
fn p08_what_is_queued_beyond_the_bound_takes_room() {
    let pool = Pool::with_capacity(2);
    let gate = Gate::new().opened_on_drop();
    let inner = (*gate).clone();
    in_a_task(&pool, move |pool| {
        for _ in 0..4 {
            let gate = inner.clone();
            expect_accepted(pool.submit(move || gate.wait()));
        }
    });
    // Two have been taken, so their parent has ended.
    eventually_eq("queued tasks", 2, || pool.queued());
    assert_eq!(pool.free(), 0);
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    gate.open();
    pool.wait_idle();
    expect_accepted(pool.try_submit(|| {}));
}

#[test]
fn p08_a_task_may_read_the_gauges() {
    let pool = Pool::builder().capacity(3).backlog(4).build().unwrap();
    let seen = in_a_task(&pool, |pool| {
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.running), (1, 1));
        assert!(!format!("{pool:?}").is_empty());
        (
            pool.capacity(),
            pool.workers(),
            pool.idle(),
            pool.running(),
            pool.queued(),
            pool.waiting(),
            pool.free(),
            pool.is_closed(),
        )
    });
    assert_eq!(seen, (3, 1, 0, 1, 0, 0, 2, false));
}

#[test]
fn p08_a_task_may_tune_the_pool_up_and_down() {
    let pool = Pool::with_capacity(1);
    let arrived = Arrivals::new();
    let gate = Gate::new().opened_on_drop();
    let (inner, held) = (arrived.clone(), (*gate).clone());
    let old = in_a_task(&pool, move |pool| {
        for _ in 0..3 {
            let (arrived, gate) = (inner.clone(), held.clone());
            expect_accepted(pool.submit(move || {
                arrived.arrive();
                gate.wait();
            }));
        }
        let old = pool.tune(4);
        // They start beside this task.
        inner.wait_for(3);
        (old, pool.tune(1))
    });
    assert_eq!(old, (1, 4));
    gate.open();
    pool.wait_idle();
    assert_eq!(arrived.count(), 3);
    eventually_eq("workers", 1, || pool.workers());
}

#[test]
fn p08_a_task_may_release_its_pool() {
    let pool = Pool::with_capacity(1);
    let ran = Arrivals::new();
    let inner = ran.clone();
    in_a_task(&pool, move |pool| {
        pool.release();
        assert!(pool.is_closed());
        // Still on the pool: what accepted tasks submit is accepted.
        expect_accepted(pool.submit(move || inner.arrive()));
    });
    assert_eq!(refusal(pool.submit(|| {})), SubmitErrorKind::Closed);
    pool.release_timeout(Duration::MAX).unwrap();
    assert_eq!(ran.count(), 1);
}

/// The drop only closes: it neither waits for the task it happens in nor loses what was accepted.
#[test]
fn p08_a_task_may_drop_the_pool() {
    let ran = Arrivals::new();
    let (sender, receiver) = channel();
    let inner = ran.clone();
    let pool = Pool::builder()
        .capacity(1)
        .unbounded_backlog()
        .build()
        .unwrap();
    let handle = pool.handle();
    let slot = Arc::new(Mutex::new(None));
    let gate = Gate::new();
    expect_accepted(handle.submit({
        let (slot, gate) = (Arc::clone(&slot), gate.clone());
        move || {
            gate.wait();
            let pool: Option<Pool> = slot.lock().unwrap().take();
            drop(pool);
            let _ = sender.send(());
        }
    }));
    for _ in 0..10 {
        let ran = inner.clone();
        expect_accepted(handle.submit(move || ran.arrive()));
    }
    *slot.lock().unwrap() = Some(pool);
    gate.open();
    receive("the pool was dropped in its task", &receiver);
    assert!(handle.is_closed());
    handle.release_timeout(Duration::MAX).unwrap();
    assert_eq!(ran.count(), 10);
}

/// The last owner is the task itself, and it goes with the captures of the task.
#[test]
fn p08_a_pool_may_be_dropped_with_the_captures_of_its_own_task() {
    for _ in 0..200 {
        let pool = Pool::with_capacity(1);
        let handle = pool.handle();
        let submitter = handle.clone();
        let ran = Arrivals::new();
        expect_accepted(submitter.submit({
            let ran = ran.clone();
            move || {
                let _owned = pool;
                ran.arrive();
            }
        }));
        watchdog("the pool closes and its thread ends", move || {
            ran.wait_for(1);
            handle.release_timeout(Duration::MAX).unwrap();
            assert_eq!((handle.workers(), handle.stats().completed), (0, 1));
        });
    }
}

#[test]
fn p08_a_task_that_submits_very_many_children_completes() {
    let children = if cfg!(debug_assertions) {
        200_000
    } else {
        1_000_000
    };
    for pool in [Pool::with_capacity(1), Pool::with_capacity(3)] {
        let ran = Arc::new(AtomicUsize::new(0));
        let inner = Arc::clone(&ran);
        in_a_task(&pool, move |pool| {
            for _ in 0..children {
                let ran = Arc::clone(&inner);
                expect_accepted(pool.submit(move || {
                    ran.fetch_add(1, Ordering::Relaxed);
                }));
            }
        });
        pool.wait_idle();
        assert_eq!(ran.load(Ordering::Relaxed), children);
    }
}

#[test]
fn p08_a_tree_of_tasks_completes_within_the_bound() {
    fn grow(pool: &PoolHandle, depth: u32, running: &Running, leaves: &Arc<AtomicUsize>) {
        if depth == 0 {
            leaves.fetch_add(1, Ordering::Relaxed);
            return;
        }
        for _ in 0..2 {
            let (inner, running, leaves) = (pool.clone(), running.clone(), Arc::clone(leaves));
            expect_accepted(pool.submit(move || {
                let _inside = running.enter();
                grow(&inner, depth - 1, &running, &leaves);
            }));
        }
    }
    for capacity in [1, 2, 4] {
        let pool = Pool::with_capacity(capacity);
        let (running, leaves) = (Running::new(), Arc::new(AtomicUsize::new(0)));
        let (inner_running, inner_leaves) = (running.clone(), Arc::clone(&leaves));
        in_a_task(&pool, move |pool| {
            grow(pool, 13, &inner_running, &inner_leaves);
        });
        pool.wait_idle();
        assert_eq!(leaves.load(Ordering::Relaxed), 1 << 13);
        assert!(
            running.peak() <= capacity,
            "{} of {capacity}",
            running.peak()
        );
        assert_at_rest(&pool);
    }
}

/// Other workers take part in what one task submits; it need not end first.
#[test]
fn p08_children_run_beside_their_parent() {
    let pool = Pool::with_capacity(4);
    let arrived = Arrivals::new();
    let inner = arrived.clone();
    in_a_task(&pool, move |pool| {
        let gate = Gate::new().opened_on_drop();
        for _ in 0..3 {
            let (arrived, gate) = (inner.clone(), (*gate).clone());
            expect_accepted(pool.submit(move || {
                arrived.arrive();
                gate.wait();
            }));
        }
        inner.wait_for(3);
    });
    pool.wait_idle();
}

/// A child that is submitted while its parent goes on for long is not kept from an idle worker.
#[test]
fn p08_a_child_of_a_long_task_is_run_by_an_idle_worker() {
    let pool = Pool::builder().capacity(2).min_workers(2).build().unwrap();
    for _ in 0..200 {
        let ran = Arrivals::new();
        let inner = ran.clone();
        in_a_task(&pool, move |pool| {
            let ran = inner.clone();
            expect_accepted(pool.submit(move || ran.arrive()));
            inner.wait_for(1);
        });
    }
}

/// In each policy, from one worker: no deadlock, and no task lost without being counted.
#[test]
fn p08_no_overflow_policy_deadlocks_a_worker() {
    for overflow in [
        Overflow::Block,
        Overflow::Reject,
        Overflow::CallerRuns,
        Overflow::DropOldest,
    ] {
        let pool = Pool::builder()
            .capacity(1)
            .backlog(3)
            .overflow(overflow)
            .build()
            .unwrap();
        let accepted = in_a_task(&pool, |pool| {
            (0..50).filter(|_| pool.submit(|| {}).is_ok()).count()
        });
        pool.wait_idle();
        let stats = pool.stats();
        assert_eq!(
            stats.submitted,
            1 + accepted as u64,
            "{overflow:?} {stats:?}"
        );
        assert_eq!(
            stats.rejected,
            50 - accepted as u64,
            "{overflow:?} {stats:?}"
        );
        assert_at_rest(&pool);
    }
}

#[test]
fn p08_between_pools_a_submit_waits_like_any_other() {
    let (from, to) = (Pool::with_capacity(1), Pool::with_capacity(1));
    let occupied = occupy(&to, 1);
    let ran = Arrivals::new();
    expect_accepted(from.submit({
        let (to, ran) = (to.handle(), ran.clone());
        move || expect_accepted(to.submit(move || ran.arrive()))
    }));
    eventually_waiting(&to, 1);
    assert_eq!((from.running(), ran.count()), (1, 0));
    occupied.end();
    from.wait_idle();
    to.wait_idle();
    assert_eq!(ran.count(), 1);
    assert_eq!(from.stats().completed, 1);
}

/// A capture whose destructor submits is on the worker like the task itself.
#[test]
fn p08_the_drop_of_what_a_task_captured_may_submit() {
    struct SubmitsOnDrop {
        pool: PoolHandle,
        generations: usize,
        ran: Arrivals,
    }
    impl Drop for SubmitsOnDrop {
        fn drop(&mut self) {
            self.ran.arrive();
            if self.generations > 0 {
                let next = SubmitsOnDrop {
                    pool: self.pool.clone(),
                    generations: self.generations - 1,
                    ran: self.ran.clone(),
                };
                expect_accepted(self.pool.submit(move || drop(next)));
            }
        }
    }
    let pool = Pool::with_capacity(1);
    let ran = Arrivals::new();
    let first = SubmitsOnDrop {
        pool: pool.handle(),
        generations: 100,
        ran: ran.clone(),
    };
    expect_accepted(pool.submit(move || {
        let _dropped_at_the_end = &first;
    }));
    ran.wait_for(101);
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// Being on one pool is not being on another: `wait_idle` of another pool waits.
#[test]
fn p08_a_task_may_wait_for_another_pool() {
    let (outer, inner) = (Pool::with_capacity(1), Pool::with_capacity(1));
    let occupied = occupy(&inner, 1);
    let (sender, receiver) = channel();
    expect_accepted(outer.submit({
        let inner = inner.handle();
        move || {
            let _ = sender.send(inner.wait_idle_timeout(Duration::from_millis(5)));
            inner.wait_idle();
            let _ = sender.send(inner.running() == 0);
        }
    }));
    assert!(
        !receive("the first wait", &receiver),
        "the inner pool is busy"
    );
    occupied.end();
    assert!(receive("the second wait", &receiver));
    outer.wait_idle();
    assert_eq!(outer.stats().panicked, 0);
}

// ---- P21: waits that cannot end are errors ----

#[test]
fn p21_wait_idle_in_a_task_of_the_pool_panics_with_a_clear_message() {
    let (sender, receiver) = channel();
    let pool = Pool::builder()
        .capacity(2)
        .panic_handler(move |panic| {
            let _ = sender.send(panic.message().unwrap_or_default().to_owned());
        })
        .build()
        .unwrap();
    let handle = pool.handle();
    expect_accepted(pool.submit(move || handle.wait_idle()));
    let message = receive("the wait panicked", &receiver);
    assert!(
        message.contains("wait_idle") && message.contains("task"),
        "{message:?}"
    );
    pool.wait_idle();
    assert_eq!(pool.stats().panicked, 1);
}

#[test]
fn p21_wait_idle_timeout_in_a_task_of_the_pool_returns_false_at_once() {
    let pool = Pool::with_capacity(2);
    for limit in [Duration::ZERO, Duration::from_millis(1), Duration::MAX] {
        assert!(!in_a_task(&pool, move |pool| pool.wait_idle_timeout(limit)));
    }
}

/// Also where the task runs nested in another pool's task on the same thread.
#[test]
fn p21_a_task_run_by_a_caller_on_another_pool_is_in_both_pools() {
    watchdog("the task ends", || {
        let outer = Pool::with_capacity(1);
        let inner = Pool::builder()
            .capacity(1)
            .overflow(Overflow::CallerRuns)
            .build()
            .unwrap();
        let occupied = occupy(&inner, 1);
        let waits = in_a_task(&outer, {
            let inner = inner.handle();
            move |outer| {
                let (sender, receiver) = channel();
                let (waiting_outer, waiting_inner) = (outer.clone(), inner.clone());
                expect_accepted(inner.submit(move || {
                    let _ = sender.send((
                        waiting_outer.wait_idle_timeout(Duration::MAX),
                        waiting_inner.wait_idle_timeout(Duration::MAX),
                    ));
                }));
                receive("the caller ran it", &receiver)
            }
        });
        assert_eq!(waits, (false, false));
        drop(occupied);
    });
}

/// The thread is a worker all the while: were its submits to wait, it could wait for itself.
#[test]
fn p08_submitting_never_waits_on_a_worker_that_runs_another_pools_task_as_its_caller() {
    watchdog("the task ends", || {
        let outer = Pool::with_capacity(1);
        let inner = Pool::builder()
            .capacity(1)
            .overflow(Overflow::CallerRuns)
            .build()
            .unwrap();
        let occupied = occupy(&inner, 1);
        let ran = Arrivals::new();
        let counted = ran.clone();
        in_a_task(&outer, {
            let inner = inner.handle();
            move |outer| {
                let outer = outer.clone();
                expect_accepted(inner.submit(move || {
                    expect_accepted(outer.submit(move || counted.arrive()));
                }));
            }
        });
        ran.wait_for(1);
        drop(occupied);
    });
}

#[test]
fn p21_release_timeout_in_a_task_of_the_pool_closes_and_fails_at_once() {
    let pool = Pool::with_capacity(2);
    let (closed, remains) = in_a_task(&pool, |pool| {
        let result = pool.release_timeout(Duration::MAX);
        (pool.is_closed(), result.map_err(|error| error.running()))
    });
    assert_eq!((closed, remains), (true, Err(1)));
}

// ---- What happens before what ----

#[test]
fn happens_before_submit_before_the_task() {
    let pool = Pool::with_capacity(2);
    let value = Arc::new(AtomicU64::new(0));
    let wrong = Arc::new(AtomicBool::new(false));
    for number in 1..=5000 {
        value.store(number, Ordering::Relaxed);
        let (value, wrong) = (Arc::clone(&value), Arc::clone(&wrong));
        expect_accepted(pool.submit(move || {
            if value.load(Ordering::Relaxed) < number {
                wrong.store(true, Ordering::Relaxed);
            }
        }));
    }
    pool.wait_idle();
    assert!(!wrong.load(Ordering::Relaxed));
}

/// A capture whose destructor takes its time: whoever waits must wait for that as well.
struct SlowToDrop(Arc<AtomicUsize>);

impl Drop for SlowToDrop {
    fn drop(&mut self) {
        for _ in 0..20 {
            thread::yield_now();
        }
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn submit_slow_to_drop(pool: &PoolHandle, dropped: &Arc<AtomicUsize>) {
    let captured = SlowToDrop(Arc::clone(dropped));
    expect_accepted(pool.submit(move || {
        let _dropped_at_the_end = &captured;
    }));
}

#[test]
fn happens_before_the_task_and_its_drops_before_wait_idle_returns() {
    let pool = Pool::with_capacity(3);
    let dropped = Arc::new(AtomicUsize::new(0));
    for round in 1..=200 {
        for _ in 0..3 {
            submit_slow_to_drop(&pool, &dropped);
        }
        if round % 2 == 0 {
            pool.wait_idle();
        } else {
            assert!(pool.wait_idle_timeout(Duration::MAX));
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 3 * round);
    }
}

/// Also of what a panicking task captured, and of its payload.
#[test]
fn happens_before_the_drops_of_a_panicked_task_before_wait_idle_returns() {
    let pool = Pool::with_capacity(2);
    let dropped = Arc::new(AtomicUsize::new(0));
    for round in 1..=50 {
        let captured = SlowToDrop(Arc::clone(&dropped));
        let payload = SlowToDrop(Arc::clone(&dropped));
        expect_accepted(pool.submit(move || {
            let _captured = captured;
            std::panic::panic_any(payload);
        }));
        pool.wait_idle();
        assert_eq!(dropped.load(Ordering::Relaxed), 2 * round);
    }
}

#[test]
fn happens_before_the_task_and_its_drops_before_release_timeout_returns() {
    let dropped = Arc::new(AtomicUsize::new(0));
    for round in 1..=50 {
        let pool = Pool::with_capacity(2);
        for _ in 0..3 {
            submit_slow_to_drop(&pool, &dropped);
        }
        pool.release_timeout(Duration::MAX).unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 3 * round);
    }
}

#[test]
fn happens_before_the_task_and_its_drops_before_the_drop_of_the_pool_returns() {
    let dropped = Arc::new(AtomicUsize::new(0));
    for round in 1..=50 {
        let pool = Pool::with_capacity(2);
        for _ in 0..3 {
            submit_slow_to_drop(&pool, &dropped);
        }
        drop(pool);
        assert_eq!(dropped.load(Ordering::Relaxed), 3 * round);
    }
}

/// Two chains hand a turn to each other through the pool; a lost wake-up between the workers stops
/// both.
#[test]
fn p08_two_tasks_that_feed_each_other_never_stall() {
    fn bounce(pool: &PoolHandle, turns: usize, log: &Log<()>, done: &Sender<()>) {
        if turns == 0 {
            let _ = done.send(());
            return;
        }
        let (inner, log, done) = (pool.clone(), log.clone(), done.clone());
        expect_accepted(pool.submit(move || {
            log.push(());
            // From a thread that is no worker, so that both ways in are used by turns.
            if turns % 50 == 0 {
                let pool = inner.clone();
                thread::spawn(move || bounce(&pool, turns - 1, &log, &done));
            } else {
                bounce(&inner, turns - 1, &log, &done);
            }
        }));
    }
    for capacity in [1, 2] {
        let pool = Pool::with_capacity(capacity);
        let log = Log::new();
        let (done, ended) = channel();
        bounce(&pool, 2000, &log, &done);
        bounce(&pool, 2000, &log, &done);
        for _ in 0..2 {
            receive("a chain ended", &ended);
        }
        pool.wait_idle();
        assert_eq!(log.len(), 4000);
    }
}
