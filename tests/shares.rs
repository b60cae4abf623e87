//! Shares of a pool, `Limited`, `Serial` and `Keyed`: at most so many of their tasks at once, each in
//! its order, and only what may run holds a place of the pool. Each has gauges, books, a bound and an
//! end of its own; all its work is done by the pool's workers.
//!
//! What runs at once is counted by the tasks themselves, never read from a gauge.

mod support;

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use anthill::{
    JoinHandle, Keyed, Limited, Overflow, Pool, PoolHandle, Serial, Share, SubmitError,
    SubmitErrorKind,
};
use rand::Rng;
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, OpensOnDrop, Running, assert_at_rest, eventually,
    eventually_eq, expect_accepted, id_of_this_thread, in_a_task, occupy, pools, receive, refusal,
    seeded_rng, watchdog,
};

type Boxed = Box<dyn FnOnce() + Send>;
type Submits = Arc<dyn Fn(Boxed) -> Result<(), SubmitError<Boxed>> + Send + Sync>;

fn pool_with(capacity: usize, overflow: Overflow) -> Pool {
    Pool::builder()
        .capacity(capacity)
        .backlog(8)
        .overflow(overflow)
        .panic_handler(|_| {})
        .build()
        .unwrap()
}

/// A task that runs until its gate opens; it has begun when this returns.
#[track_caller]
fn hold(submit: impl FnOnce(Boxed) -> Result<(), SubmitError<Boxed>>) -> OpensOnDrop {
    let (gate, begun) = (Gate::new(), Arrivals::new());
    let (inside, begins) = (gate.clone(), begun.clone());
    expect_accepted(submit(Box::new(move || {
        begins.arrive();
        inside.wait();
    })));
    begun.wait_for(1);
    gate.opened_on_drop()
}

/// The share has nothing more to do, has all its places back, and its books balance.
#[track_caller]
fn assert_share_at_rest(share: &Share) {
    eventually("the share is at rest", || {
        share.running() == 0 && share.queued() == 0
    });
    let stats = share.stats();
    assert_eq!((stats.running, stats.queued, share.waiting()), (0, 0, 0));
    assert_eq!(
        stats.submitted,
        stats.completed + stats.panicked + stats.cancelled + stats.discarded,
        "the books of the share do not balance: {stats:?}"
    );
    assert_eq!(share.free(), share.capacity());
}

/// The share and its pool have come to rest, and all places are free again.
#[track_caller]
fn assert_all_at_rest(pool: &PoolHandle, share: &Share) {
    assert!(share.wait_idle_timeout(DEADLINE), "the share is not idle");
    assert!(pool.wait_idle_timeout(DEADLINE), "the pool is not idle");
    assert_share_at_rest(share);
    // What a cancelled task has left in the queue may call a worker for a moment.
    eventually(format_args!("the pool is at rest: {pool:?}"), || {
        (pool.running(), pool.queued(), pool.waiting()) == (0, 0, 0)
            && pool.workers() == pool.idle()
            && pool.free() == pool.capacity()
    });
    let stats = pool.stats();
    assert_eq!(
        stats.submitted,
        stats.completed + stats.panicked + stats.cancelled + stats.discarded,
        "the books of the pool do not balance: {stats:?}"
    );
}

// ── how many at once ────────────────────────────────────────────────────────────────────────────

/// Whatever panics, is cancelled or tuned: no task of the share starts while as many run as the
/// largest limit there was meanwhile.
#[test]
fn a_limit_is_kept_under_tune_panics_and_cancels() {
    let mut rng = seeded_rng("a_limit_is_kept_under_tune_panics_and_cancels");
    for pool in pools(4) {
        let share = pool.limit(2);
        let running = Running::new();
        let over = AtomicBool::new(false);
        let seeds: Vec<u64> = (0..3).map(|_| rng.random()).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    for limit in [1, 3, 0, 2] {
                        share.tune(limit);
                        pool.tune(limit + 1);
                        thread::yield_now();
                    }
                }
                share.tune(3);
                pool.tune(4);
            });
            let submitters: Vec<_> = seeds
                .iter()
                .map(|seed| {
                    let (share, running) = (&share, &running);
                    scope.spawn(move || {
                        for number in 0..300 {
                            let running = running.clone();
                            let what = (number + seed) % 7;
                            let task = move || {
                                let _inside = running.enter();
                                thread::yield_now();
                                assert!(what != 3, "on purpose");
                            };
                            let handle = share.spawn(task).unwrap();
                            if what == 5 {
                                handle.cancel();
                            }
                        }
                    })
                })
                .collect();
            for submitter in submitters {
                submitter.join().unwrap();
            }
            over.store(true, Ordering::SeqCst);
        });
        assert_all_at_rest(&pool, &share);
        assert!(running.peak() <= 3, "{} of 3 at once", running.peak());
        assert_eq!(share.stats().submitted, 900);
    }
}

/// The limit is a promise in both directions: so many do run at once, and not one more.
#[test]
fn exactly_as_many_run_as_the_limit_says() {
    for pool in pools(5) {
        let share = pool.limit(3);
        let (gate, begun) = (Gate::new().opened_on_drop(), Arrivals::new());
        for _ in 0..10 {
            let (gate, begun) = (gate.clone(), begun.clone());
            expect_accepted(share.submit(move || {
                begun.arrive();
                gate.wait();
            }));
        }
        begun.wait_for(3);
        assert_eq!((share.running(), share.queued(), share.free()), (3, 7, 0));
        assert_eq!(share.tune(4), 3);
        begun.wait_for(4);
        assert_eq!((share.running(), share.capacity()), (4, 4));
        assert_eq!(share.tune(1), 4);
        gate.open();
        assert_all_at_rest(&pool, &share);
        assert_eq!(begun.count(), 10);
    }
}

/// After the limit was lowered nothing starts before so many have ended that one more is below it.
#[test]
fn a_lowered_limit_holds_from_then_on() {
    let pool = Pool::with_capacity(4);
    let share = pool.limit(3);
    let held: Vec<_> = (0..3).map(|_| hold(|task| share.submit(task))).collect();
    share.tune(1);
    let running = Running::new();
    for _ in 0..20 {
        let running = running.clone();
        expect_accepted(share.submit(move || {
            let _inside = running.enter();
            thread::yield_now();
        }));
    }
    held[0].open();
    eventually_eq("tasks running", 2, || share.running());
    held[1].open();
    eventually_eq("tasks running", 1, || share.running());
    assert_eq!((running.now(), share.queued()), (0, 20));
    held[2].open();
    assert_all_at_rest(&pool, &share);
    assert_eq!(running.peak(), 1);
}

/// With a limit of 0 the share is paused: it takes tasks and starts none, until it is tuned.
#[test]
fn a_limit_of_0_pauses_and_tune_resumes() {
    for pool in pools(2) {
        let share = pool.limit(0);
        let done = Arrivals::new();
        for _ in 0..5 {
            let done = done.clone();
            expect_accepted(share.submit(move || done.arrive()));
        }
        pool.spawn(|| ()).unwrap().join().unwrap();
        assert_eq!((share.running(), share.queued(), done.count()), (0, 5, 0));
        assert_eq!((pool.queued(), share.capacity()), (0, 0));
        assert_eq!(share.tune(1), 0);
        done.wait_for(5);
        assert_all_at_rest(&pool, &share);
    }
}

/// No more of a share run than its pool has workers, whatever the limit.
#[test]
fn the_pools_capacity_bounds_a_share_too() {
    let pool = Pool::with_capacity(2);
    let share = pool.limit(usize::MAX);
    assert_eq!(share.capacity(), 2);
    let running = Running::new();
    for _ in 0..200 {
        let running = running.clone();
        expect_accepted(share.submit(move || {
            let _inside = running.enter();
            thread::yield_now();
        }));
    }
    assert_all_at_rest(&pool, &share);
    assert!(running.peak() <= 2, "{} of 2 at once", running.peak());
}

/// A serial runs one task at a time; its type promises that, whatever one does with it.
#[test]
fn a_serial_runs_one_at_a_time_even_if_it_is_tuned_up() {
    let pool = Pool::with_capacity(4);
    let serial = pool.serial();
    serial.tune(3);
    let first = hold(|task| serial.submit(task));
    let begun = Arrivals::new();
    for _ in 0..2 {
        let begun = begun.clone();
        expect_accepted(serial.submit(move || begun.arrive()));
    }
    // What may run has been handed to the pool by now, and this comes after it.
    let after = occupy(&pool, 1);
    after.end();
    eventually("what runs beside the first is over", || pool.running() == 1);
    assert_eq!((begun.count(), serial.running()), (0, 1));
    first.open();
    begun.wait_for(2);
    assert_all_at_rest(&pool, &serial);
}

/// One at a time for each key, whoever submits.
#[test]
fn a_key_runs_one_at_a_time() {
    for pool in pools(4) {
        let keyed = pool.keyed();
        let running: Vec<Running> = (0..5).map(|_| Running::new()).collect();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for number in 0..300 {
                        let key = number % 5;
                        let running = running[key].clone();
                        expect_accepted(keyed.submit(key, move || {
                            let _inside = running.enter();
                            thread::yield_now();
                            assert!(number % 11 != 4, "on purpose");
                        }));
                    }
                });
            }
        });
        assert_all_at_rest(&pool, &keyed);
        for (key, running) in running.iter().enumerate() {
            assert_eq!(running.peak(), 1, "of key {key} at once");
        }
        assert_eq!(keyed.keys(), 0);
    }
}

// ── only what may run holds a place ─────────────────────────────────────────────────────────────

#[track_caller]
fn assert_the_other_worker_is_free(pool: &PoolHandle) {
    assert!(pool.queued() <= 1, "{} queued in the pool", pool.queued());
    eventually_eq("free places", 1, || pool.free());
    let (sender, receiver) = channel();
    let worker = sender.clone();
    expect_accepted(pool.try_submit(move || worker.send(()).unwrap()));
    receive("a tried task runs beside the share", &receiver);
    eventually_eq("free places", 1, || pool.free());
    expect_accepted(pool.submit(move || sender.send(()).unwrap()));
    receive("a submitted task runs beside the share", &receiver);
}

/// A blocked task of a serial and a thousand behind it leave the pool's second worker free.
#[test]
fn a_thousand_queued_tasks_of_a_serial_leave_the_other_workers_free() {
    for pool in pools(2) {
        let serial = pool.serial();
        let gate = hold(|task| serial.submit(task));
        let done = Arrivals::new();
        for _ in 0..1_000 {
            let done = done.clone();
            expect_accepted(serial.submit(move || done.arrive()));
        }
        assert_eq!((serial.running(), serial.queued()), (1, 1_000));
        assert_the_other_worker_is_free(&pool);
        gate.open();
        done.wait_for(1_000);
        assert_all_at_rest(&pool, &serial);
    }
}

/// As a serial's, so a key's.
#[test]
fn a_thousand_queued_tasks_of_one_key_leave_the_other_workers_free() {
    for pool in pools(2) {
        let keyed = pool.keyed();
        let gate = hold(|task| keyed.submit("a", task));
        let done = Arrivals::new();
        for _ in 0..1_000 {
            let done = done.clone();
            expect_accepted(keyed.submit("a", move || done.arrive()));
        }
        assert_eq!((keyed.queued(), keyed.keys()), (1_000, 1));
        assert_the_other_worker_is_free(&pool);
        let (sender, receiver) = channel();
        expect_accepted(keyed.submit("b", move || sender.send(()).unwrap()));
        receive("another key runs beside it", &receiver);
        gate.open();
        done.wait_for(1_000);
        assert_all_at_rest(&pool, &keyed);
    }
}

/// A paused share holds no place at all.
#[test]
fn a_paused_share_holds_no_place() {
    let pool = Pool::with_capacity(1);
    let share = pool.limit(0);
    for _ in 0..1_000 {
        expect_accepted(share.submit(|| ()));
    }
    assert_eq!((pool.queued(), pool.free()), (0, 1));
    expect_accepted(pool.try_submit(|| ()));
    assert!(pool.wait_idle_timeout(DEADLINE));
    share.tune(1);
    assert_all_at_rest(&pool, &share);
    assert_eq!(share.stats().completed, 1_000);
}

/// Different keys run side by side, as many as the pool has workers.
#[test]
fn keys_run_side_by_side() {
    for pool in pools(3) {
        let keyed = pool.keyed();
        let held: Vec<_> = (0..3)
            .map(|key| hold(|task| keyed.submit(key, task)))
            .collect();
        assert_eq!((keyed.running(), keyed.keys(), keyed.free()), (3, 3, 0));
        drop(held);
        assert_all_at_rest(&pool, &keyed);
        assert_eq!(keyed.keys(), 0);
    }
}

// ── order ───────────────────────────────────────────────────────────────────────────────────────

/// The tasks of each of several submitters, told by their numbers.
fn assert_each_in_order(seen: &[(usize, usize)], submitters: usize, each: usize) {
    let mut next = vec![0; submitters];
    for &(submitter, number) in seen {
        assert_eq!(number, next[submitter], "of submitter {submitter}");
        next[submitter] += 1;
    }
    assert_eq!(next, vec![each; submitters]);
}

/// Of each submitter's tasks a serial keeps the order, with panics in between, with and without a
/// bound.
#[test]
fn a_serial_keeps_the_order_of_each_submitter() {
    for (pool, bounded) in pools(3).into_iter().zip([false, true, false]) {
        let serial = pool.serial();
        let serial = if bounded { serial.backlog(4) } else { serial };
        let (seen, running) = (Log::new(), Running::new());
        thread::scope(|scope| {
            for submitter in 0..4 {
                let (serial, seen, running) = (&serial, &seen, &running);
                scope.spawn(move || {
                    for number in 0..250 {
                        let (seen, running) = (seen.clone(), running.clone());
                        expect_accepted(serial.submit(move || {
                            let _inside = running.enter();
                            seen.push((submitter, number));
                            assert!(number % 9 != 8, "on purpose");
                        }));
                    }
                });
            }
        });
        assert_all_at_rest(&pool, &serial);
        assert_each_in_order(&seen.entries(), 4, 250);
        assert_eq!(running.peak(), 1);
    }
}

/// For each key the order is that of acceptance, from threads and from tasks alike.
#[test]
fn a_key_keeps_the_order_of_each_submitter() {
    const KEYS: usize = 3;
    for (pool, bounded) in pools(3).into_iter().zip([false, true, false]) {
        let keyed = pool.keyed();
        let keyed = if bounded { keyed.backlog(4) } else { keyed };
        let seen: Vec<Log<(usize, usize)>> = (0..KEYS).map(|_| Log::new()).collect();
        let submit_all = |keyed: &Keyed<usize>, seen: &[Log<(usize, usize)>], submitter| {
            for number in 0..150 {
                for (key, seen) in seen.iter().enumerate() {
                    let seen = seen.clone();
                    expect_accepted(keyed.submit(key, move || {
                        seen.push((submitter, number));
                        assert!(number % 9 != 8, "on purpose");
                    }));
                }
            }
        };
        thread::scope(|scope| {
            for submitter in 0..2 {
                let (keyed, seen) = (&keyed, &seen);
                scope.spawn(move || submit_all(keyed, seen, submitter));
            }
            for submitter in 2..4 {
                let (keyed, seen) = (keyed.clone(), seen.clone());
                expect_accepted(pool.submit(move || submit_all(&keyed, &seen, submitter)));
            }
        });
        pool.wait_idle();
        assert_all_at_rest(&pool, &keyed);
        for seen in &seen {
            assert_each_in_order(&seen.entries(), 4, 150);
        }
    }
}

/// Tasks that a task of a serial submits come after what was accepted before.
#[test]
fn what_a_serials_task_submits_comes_at_the_end() {
    for pool in pools(2) {
        let serial = pool.serial();
        let seen = Log::new();
        let gate = {
            let (serial, seen) = (serial.clone(), seen.clone());
            let gate = Gate::new();
            let inside = gate.clone();
            expect_accepted(serial.clone().submit(move || {
                inside.wait();
                for number in 3..6 {
                    let seen = seen.clone();
                    expect_accepted(serial.submit(move || seen.push(number)));
                }
            }));
            gate.opened_on_drop()
        };
        for number in 0..3 {
            let seen = seen.clone();
            expect_accepted(serial.submit(move || seen.push(number)));
        }
        gate.open();
        assert_all_at_rest(&pool, &serial);
        assert_eq!(seen.entries(), [0, 1, 2, 3, 4, 5]);
    }
}

// ── keys ────────────────────────────────────────────────────────────────────────────────────────

/// A key that has no task left is forgotten: a million of them come and go, and never are more in
/// the table than have tasks.
#[test]
fn a_million_keys_come_and_go() {
    struct Counted(u32, Arc<AtomicUsize>);
    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Counted {}
    impl Hash for Counted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::SeqCst);
        }
    }
    const MOST: usize = 2 + 62;

    let pool = Pool::with_capacity(2);
    let keyed = pool.keyed().backlog(62);
    let alive = Arc::new(AtomicUsize::new(0));
    let (mut most_keys, mut most_alive) = (0, 0);
    for number in 0..1_000_000 {
        alive.fetch_add(1, Ordering::SeqCst);
        expect_accepted(keyed.submit(Counted(number, Arc::clone(&alive)), || ()));
        if number % 64 == 0 {
            most_keys = most_keys.max(keyed.keys());
            most_alive = most_alive.max(alive.load(Ordering::SeqCst));
        }
    }
    assert_all_at_rest(&pool, &keyed);
    assert_eq!((keyed.keys(), alive.load(Ordering::SeqCst)), (0, 0));
    // Beside those with a place: one on its way in, and one for each worker on its way out.
    assert!(most_keys <= MOST + 3, "{most_keys} keys at once");
    assert!(most_alive <= MOST + 6, "{most_alive} keys alive at once");
    assert_eq!(keyed.stats().completed, 1_000_000);
}

/// Keys whose hashes are all the same are different keys all the same.
#[test]
fn keys_with_equal_hashes_are_told_apart() {
    #[derive(PartialEq, Eq)]
    struct Same(usize);
    impl Hash for Same {
        fn hash<H: Hasher>(&self, state: &mut H) {
            0.hash(state);
        }
    }

    for pool in pools(3) {
        let keyed = pool.keyed();
        let held = hold(|task| keyed.submit(Same(0), task));
        let seen = Log::new();
        thread::scope(|scope| {
            for key in 1..4 {
                let (keyed, seen) = (&keyed, &seen);
                scope.spawn(move || {
                    for number in 0..100 {
                        let seen = seen.clone();
                        expect_accepted(
                            keyed.submit(Same(key), move || seen.push((key - 1, number))),
                        );
                    }
                });
            }
        });
        eventually("the others run past the blocked key", || seen.len() == 300);
        assert_each_in_order(&seen.entries(), 3, 100);
        eventually_eq("keys left", 1, || keyed.keys());
        held.open();
        assert_all_at_rest(&pool, &keyed);
        assert_eq!(keyed.keys(), 0);
    }
}

/// P13: a key's hash, comparison and drop may use the pool and the share they are a key of.
#[test]
fn a_keys_own_code_may_use_the_pool_and_the_share() {
    struct Nosy {
        number: u32,
        world: Arc<OnceLock<(PoolHandle, Keyed<Nosy>)>>,
    }
    impl Nosy {
        fn look(&self) {
            thread_local!(static LOOKS: AtomicBool = const { AtomicBool::new(false) });
            let Some((pool, keyed)) = self.world.get() else {
                return;
            };
            // The task that is submitted has a key as well, which looks in turn.
            if LOOKS.with(|looks| looks.swap(true, Ordering::SeqCst)) {
                return;
            }
            let gauges = keyed.keys() + keyed.queued() + keyed.waiting() + pool.queued();
            assert!(gauges < 100_000);
            assert!(format!("{keyed:?} {pool:?} {:?}", keyed.stats()).len() > 10);
            pool.tune(pool.capacity());
            let _ = pool.try_submit(|| ());
            if self.number < 1_000 {
                let other = Nosy {
                    number: self.number + 1_000,
                    world: Arc::clone(&self.world),
                };
                let _ = keyed.try_submit(other, || ());
            }
            LOOKS.with(|looks| looks.store(false, Ordering::SeqCst));
        }
    }
    impl PartialEq for Nosy {
        fn eq(&self, other: &Self) -> bool {
            self.look();
            self.number == other.number
        }
    }
    impl Eq for Nosy {}
    impl Hash for Nosy {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.look();
            // Few hashes, so that keys are compared.
            (self.number % 3).hash(state);
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.look();
        }
    }

    watchdog("keys that look around", || {
        let pool = Pool::with_capacity(2);
        let keyed = pool.keyed();
        let world = Arc::new(OnceLock::new());
        assert!(world.set((pool.handle(), keyed.clone())).is_ok());
        thread::scope(|scope| {
            for thread in 0..2 {
                let (keyed, world) = (&keyed, &world);
                scope.spawn(move || {
                    for number in 0..200 {
                        let key = Nosy {
                            number: number % 7 + thread,
                            world: Arc::clone(world),
                        };
                        expect_accepted(keyed.submit(key, || ()));
                    }
                });
            }
        });
        eventually_eq("keys left", 0, || keyed.keys());
        assert_all_at_rest(&pool, &keyed);
    });
}

/// A comparison of keys that panics costs its submitter that submit, and nothing else.
#[test]
fn a_key_that_panics_when_compared_costs_one_submit() {
    #[derive(Clone)]
    struct Bad(Arc<AtomicBool>);
    impl PartialEq for Bad {
        fn eq(&self, _other: &Self) -> bool {
            assert!(!self.0.load(Ordering::SeqCst), "on purpose");
            true
        }
    }
    impl Eq for Bad {}
    impl Hash for Bad {
        fn hash<H: Hasher>(&self, state: &mut H) {
            0.hash(state);
        }
    }

    let pool = Pool::with_capacity(2);
    let keyed = pool.keyed();
    let panics = Arc::new(AtomicBool::new(false));
    let key = Bad(Arc::clone(&panics));
    let held = hold(|task| keyed.submit(key.clone(), task));
    panics.store(true, Ordering::SeqCst);
    let dropped = Arrivals::new();
    let captured = DropCounter(dropped.clone());
    let submits = || keyed.submit(key.clone(), move || drop(captured));
    assert!(catch_unwind(AssertUnwindSafe(submits)).is_err());
    dropped.wait_for(1);
    panics.store(false, Ordering::SeqCst);
    expect_accepted(keyed.submit(key.clone(), || ()));
    held.open();
    assert_all_at_rest(&pool, &keyed);
    assert_eq!((keyed.keys(), keyed.stats().completed), (0, 2));
}

/// A key lives as long as it has tasks: a refused, cancelled or discarded one does not keep it.
#[test]
fn no_way_out_keeps_a_key() {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let occupied = occupy(&pool, 1);
    let keyed = pool.keyed().backlog(1);
    let first = keyed.spawn(1, || ()).unwrap();
    let second = keyed.spawn(2, || ()).unwrap();
    assert_eq!(refusal(keyed.try_submit(3, || ())), SubmitErrorKind::Full);
    assert_eq!(
        refusal(keyed.submit_timeout(4, || (), Duration::from_millis(5))),
        SubmitErrorKind::TimedOut
    );
    assert_eq!(keyed.keys(), 2);
    assert!(first.cancel());
    assert_eq!(keyed.keys(), 1);
    assert_eq!(keyed.release_now(), 1);
    assert!(second.join().unwrap_err().is_cancelled());
    assert_eq!(refusal(keyed.submit(5, || ())), SubmitErrorKind::Closed);
    assert_eq!(keyed.keys(), 0);
    occupied.end();
    assert_all_at_rest(&pool, &keyed);
}

// ── a bounded backlog ───────────────────────────────────────────────────────────────────────────

/// A share of one of the three kinds whose one slot is used and whose backlog of 2 is full.
enum Kind {
    Limited,
    Serial,
    Keyed,
}

type Submit = Arc<dyn Fn(Boxed) -> Result<(), SubmitError<Boxed>> + Send + Sync>;

struct Filled {
    share: Share,
    submit: Submit,
    try_submit: Submit,
    submit_briefly: Submit,
    /// Of the queued tasks, oldest first, when they are dropped or run.
    seen: Log<&'static str>,
    held: OpensOnDrop,
}

/// Says what became of a task that was accepted.
struct Fate(&'static str, Log<&'static str>);

impl Fate {
    fn run(self) {
        self.1.push(self.0);
    }
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Limited, Kind::Serial, Kind::Keyed];

    /// Room for one that runs and two that wait, all taken.
    fn fill(&self, pool: &PoolHandle) -> Filled {
        const BRIEFLY: Duration = Duration::from_millis(5);
        fn with<T: Clone + Send + Sync + 'static>(
            share: &T,
            submit: impl Fn(&T, Boxed) -> Result<(), SubmitError<Boxed>> + Send + Sync + 'static,
        ) -> Submit {
            let share = share.clone();
            Arc::new(move |task| submit(&share, task))
        }
        let (share, submit, try_submit, submit_briefly) = match self {
            Kind::Limited => {
                let share = pool.limit(1).backlog(2);
                (
                    Share::clone(&share),
                    with(&share, |share: &Limited, task| share.submit(task)),
                    with(&share, Limited::try_submit),
                    with(&share, |share, task| share.submit_timeout(task, BRIEFLY)),
                )
            }
            Kind::Serial => {
                let share = pool.serial().backlog(2);
                (
                    Share::clone(&share),
                    with(&share, |share: &Serial, task| share.submit(task)),
                    with(&share, |share, task| share.try_submit(task)),
                    with(&share, |share, task| share.submit_timeout(task, BRIEFLY)),
                )
            }
            Kind::Keyed => {
                // Beyond the capacity of the pool, which is 2 here.
                let share = pool.keyed().backlog(1);
                (
                    Share::clone(&share),
                    with(&share, |share: &Keyed<u8>, task| share.submit(7, task)),
                    with(&share, |share, task| share.try_submit(7, task)),
                    with(&share, |share, task| share.submit_timeout(7, task, BRIEFLY)),
                )
            }
        };
        let held = hold(|task| submit(task));
        let filled = Filled {
            share,
            submit,
            try_submit,
            submit_briefly,
            seen: Log::new(),
            held,
        };
        expect_accepted((filled.try_submit)(filled.task("first")));
        expect_accepted((filled.try_submit)(filled.task("second")));
        assert_eq!((filled.share.running(), filled.share.queued()), (1, 2));
        filled
    }
}

impl Filled {
    fn task(&self, name: &'static str) -> Boxed {
        let fate = Fate(name, self.seen.clone());
        Box::new(move || fate.run())
    }
}

/// `try_submit` and `submit_timeout` say why, give the closure back, and leave nothing behind.
#[test]
fn a_full_share_gives_the_closure_back() {
    for kind in Kind::ALL {
        let pool = pool_with(2, Overflow::Block);
        let full = kind.fill(&pool);
        let refused = (full.try_submit)(full.task("third")).unwrap_err();
        assert_eq!(refused.kind(), SubmitErrorKind::Full);
        let (kind, task) = (full.submit_briefly)(refused.into_inner())
            .unwrap_err()
            .into_parts();
        assert_eq!((kind, full.share.waiting()), (SubmitErrorKind::TimedOut, 0));
        assert_eq!(full.share.stats().rejected, 2);
        full.held.open();
        assert!(full.share.wait_idle_timeout(DEADLINE));
        expect_accepted((full.try_submit)(task));
        assert_all_at_rest(&pool, &full.share);
        assert_eq!(full.seen.entries(), ["first", "second", "third"]);
    }
}

/// `Block`: submitters wait, are served first come, first served, and overtaken by nobody.
#[test]
fn submitters_of_a_full_share_wait_their_turn() {
    for kind in Kind::ALL {
        let pool = pool_with(2, Overflow::Block);
        let full = kind.fill(&pool);
        thread::scope(|scope| {
            for (at, name) in ["third", "fourth", "fifth"].into_iter().enumerate() {
                let task = full.task(name);
                let submit = &full.submit;
                scope.spawn(move || expect_accepted(submit(task)));
                eventually_eq("submitters waiting", at + 1, || full.share.waiting());
            }
            let refused = (full.try_submit)(full.task("late"));
            assert_eq!(refusal(refused), SubmitErrorKind::Full);
            full.held.open();
        });
        assert_all_at_rest(&pool, &full.share);
        let all = ["first", "second", "third", "fourth", "fifth"];
        assert_eq!(full.seen.entries(), all);
        assert_eq!(full.share.stats().rejected, 1);
    }
}

/// `Reject`: `submit` fails with `Full` as well.
#[test]
fn reject_gives_the_closure_back_at_a_full_share() {
    for kind in Kind::ALL {
        let pool = pool_with(2, Overflow::Reject);
        let full = kind.fill(&pool);
        let refused = (full.submit)(full.task("third")).unwrap_err();
        assert_eq!(refused.kind(), SubmitErrorKind::Full);
        refused.into_inner()();
        full.held.open();
        assert_all_at_rest(&pool, &full.share);
        assert_eq!(full.seen.entries(), ["third", "first", "second"]);
    }
}

/// `DropOldest`: the oldest that has not started makes room, and is counted.
#[test]
fn drop_oldest_drops_the_oldest_of_a_full_share() {
    for kind in Kind::ALL {
        let pool = pool_with(2, Overflow::DropOldest);
        let full = kind.fill(&pool);
        let dropped = Arrivals::new();
        let counter = DropCounter(dropped.clone());
        expect_accepted((full.submit)(Box::new(move || drop(counter))));
        assert_eq!((full.share.stats().discarded, dropped.count()), (1, 0));
        expect_accepted((full.submit)(full.task("fourth")));
        assert_eq!((full.share.stats().discarded, dropped.count()), (2, 0));
        expect_accepted((full.submit)(full.task("fifth")));
        // What was third is dropped at once, not when its turn would have come.
        assert_eq!((full.share.stats().discarded, dropped.count()), (3, 1));
        full.held.open();
        assert_all_at_rest(&pool, &full.share);
        assert_eq!(full.seen.entries(), ["fourth", "fifth"]);
        assert_eq!(
            pool.stats().discarded,
            0,
            "it was the share that dropped them"
        );
    }
}

/// `DropOldest`: a task of a key drops the oldest of that key, or of all if none of its key waits.
#[test]
fn drop_oldest_drops_from_the_own_key_first() {
    let (pool, seen) = (pool_with(2, Overflow::DropOldest), Log::new());
    let keyed = pool.keyed().backlog(2);
    let task = |name| {
        let seen = seen.clone();
        move || seen.push(name)
    };
    let held = [1, 2].map(|key| hold(|task| keyed.submit(key, task)));
    expect_accepted(keyed.submit(1, task("oldest")));
    expect_accepted(keyed.submit(2, task("oldest of its key")));
    expect_accepted(keyed.submit(2, task("newest of its key")));
    assert_eq!(keyed.stats().discarded, 1);
    drop(held);
    keyed.wait_idle();
    let held = [1, 2].map(|key| hold(|task| keyed.submit(key, task)));
    expect_accepted(keyed.submit(1, task("dropped")));
    expect_accepted(keyed.submit(2, task("kept")));
    expect_accepted(keyed.submit(3, task("newest")));
    assert_eq!(keyed.stats().discarded, 2);
    drop(held);
    assert_all_at_rest(&pool, &keyed);
    let mut seen = seen.entries();
    seen.sort_unstable();
    assert_eq!(seen, ["kept", "newest", "newest of its key", "oldest"]);
}

/// `CallerRuns`: the submitter of a limited share runs the task; that of an ordered one waits, as its
/// task may not run before those that came first.
#[test]
fn caller_runs_runs_in_the_caller_unless_that_would_break_the_order() {
    for kind in Kind::ALL {
        let pool = pool_with(2, Overflow::CallerRuns);
        let full = kind.fill(&pool);
        if matches!(kind, Kind::Limited) {
            expect_accepted((full.submit)(full.task("third")));
            assert_eq!(full.seen.entries(), ["third"]);
            assert_eq!(full.share.stats().completed, 1);
            expect_accepted((full.submit)(Box::new(|| panic!("on purpose"))));
            assert_eq!(full.share.stats().panicked, 1);
            full.held.open();
        } else {
            thread::scope(|scope| {
                let (submit, task) = (&full.submit, full.task("third"));
                scope.spawn(move || expect_accepted(submit(task)));
                eventually_eq("submitters waiting", 1, || full.share.waiting());
                full.held.open();
            });
        }
        assert_all_at_rest(&pool, &full.share);
        assert_eq!(full.seen.len(), 3);
        if !matches!(kind, Kind::Limited) {
            assert_eq!(full.seen.entries(), ["first", "second", "third"]);
        }
    }
}

/// A paused share is not run past by its submitters either.
#[test]
fn caller_runs_waits_at_a_paused_share() {
    let pool = pool_with(2, Overflow::CallerRuns);
    let share = pool.limit(0).backlog(0);
    thread::scope(|scope| {
        scope.spawn(|| expect_accepted(share.submit(|| ())));
        eventually_eq("submitters waiting", 1, || share.waiting());
        share.tune(1);
    });
    assert_all_at_rest(&pool, &share);
    assert_eq!(share.stats().completed, 1);
}

/// However fast the producer: of what it made no more is alive than the share has room for.
#[test]
fn memory_is_bounded_under_a_producer_that_is_too_fast() {
    const TASKS: usize = 3_000;
    for overflow in [
        Overflow::Block,
        Overflow::Reject,
        Overflow::DropOldest,
        Overflow::CallerRuns,
    ] {
        for kind in Kind::ALL {
            let pool = pool_with(2, overflow);
            let full = kind.fill(&pool);
            full.held.open();
            let dropped = Arrivals::new();
            let (mut made, mut most) = (0, 0);
            for _ in 0..TASKS {
                let counter = DropCounter(dropped.clone());
                made += 1;
                let task = move || {
                    for _ in 0..10 {
                        thread::yield_now();
                    }
                    drop(counter);
                };
                match (full.submit)(Box::new(task)) {
                    Ok(()) => {}
                    Err(refused) => assert_eq!(refused.kind(), SubmitErrorKind::Full),
                }
                most = most.max(made - dropped.count());
            }
            // The room, and one that a worker has taken and that frees its place just now.
            assert!(most <= 4, "{overflow:?}: {most} alive at once");
            assert_all_at_rest(&pool, &full.share);
            assert_eq!(dropped.count(), TASKS);
        }
    }
}

/// A bound that is raised lets in at once who waits for room.
#[test]
fn a_larger_backlog_lets_those_in_who_wait() {
    let pool = Pool::with_capacity(1);
    let share = pool.limit(0).backlog(0);
    let submitter = {
        let share = share.clone();
        thread::spawn(move || expect_accepted(share.submit(|| ())))
    };
    eventually_eq("submitters waiting", 1, || share.waiting());
    let share = share.backlog(1);
    let let_in = support::becomes_true(Duration::from_secs(5), || share.waiting() == 0);
    share.tune(1);
    submitter.join().unwrap();
    assert!(let_in, "a submitter waited beside room");
    assert_all_at_rest(&pool, &share);
}

/// A larger pool makes a bounded keyed share larger, and lets in who waits.
#[test]
fn a_larger_pool_makes_room_in_a_bounded_keyed_share() {
    let pool = Pool::with_capacity(1);
    let keyed = pool.keyed().backlog(0);
    let held = hold(|task| keyed.submit(1, task));
    assert_eq!(refusal(keyed.try_submit(2, || ())), SubmitErrorKind::Full);
    thread::scope(|scope| {
        scope.spawn(|| expect_accepted(keyed.submit(2, || ())));
        eventually_eq("submitters waiting", 1, || keyed.waiting());
        pool.tune(2);
        eventually_eq("submitters waiting", 0, || keyed.waiting());
    });
    held.open();
    assert_all_at_rest(&pool, &keyed);
}

/// With `DropOldest` and nothing to drop a submitter waits in line, also behind a task that a task
/// submitted beyond the bound; it neither spins nor loses its turn.
#[test]
fn drop_oldest_waits_in_line_where_nothing_can_be_dropped() {
    let pool = pool_with(2, Overflow::DropOldest);
    let share = pool.limit(1).backlog(0);
    let held = hold(|task| share.submit(task));
    let seen = Log::new();
    let all_waited = thread::scope(|scope| {
        let first = seen.clone();
        let submits = &share;
        scope.spawn(move || expect_accepted(submits.submit(move || first.push(1))));
        eventually_eq("submitters waiting", 1, || share.waiting());
        let (inner, second) = (share.clone(), seen.clone());
        in_a_task(&pool, "a task never waits", move || {
            expect_accepted(inner.submit(move || second.push(2)));
        });
        let third = seen.clone();
        scope.spawn(move || expect_accepted(submits.submit(move || third.push(3))));
        let both = support::becomes_true(Duration::from_secs(5), || share.waiting() == 2);
        held.open();
        both
    });
    assert!(all_waited, "the second submitter was not in line");
    assert_all_at_rest(&pool, &share);
    assert_eq!(seen.entries(), [1, 2, 3]);
}

/// On a worker of the pool `submit` and `spawn` never wait, whatever the room.
#[test]
fn tasks_never_wait_for_room_in_a_share() {
    for kind in Kind::ALL {
        let pool = pool_with(2, Overflow::Block);
        let full = kind.fill(&pool);
        let submit = Arc::clone(&full.submit);
        let tasks: Vec<Boxed> = (0..100).map(|_| full.task("more")).collect();
        in_a_task(&pool, "a task never waits", move || {
            for task in tasks {
                expect_accepted(submit(task));
            }
        });
        let refused = (full.try_submit)(full.task("late"));
        assert_eq!(refusal(refused), SubmitErrorKind::Full);
        full.held.open();
        assert_all_at_rest(&pool, &full.share);
        assert_eq!(full.seen.len(), 102);
    }
}

// ── gauges, books, wait_idle ────────────────────────────────────────────────────────────────────

/// Each way in which a task ends is counted once, in the share and apart from the pool's others.
#[test]
fn the_books_of_a_share_balance() {
    let pool = Pool::builder()
        .capacity(2)
        .panic_handler(|_| {})
        .build()
        .unwrap();
    let (serial, other) = (pool.serial(), pool.limit(1));
    let held = hold(|task| serial.submit(task));
    expect_accepted(serial.submit(|| panic!("on purpose")));
    let cancelled = serial.spawn(|| ()).unwrap();
    let panics = serial
        .spawn(|| panic!("on purpose, for the handle"))
        .unwrap();
    assert!(cancelled.cancel() && !cancelled.cancel());
    assert_eq!((serial.queued(), serial.running()), (2, 1));
    held.open();
    assert!(panics.join().unwrap_err().is_panic());
    expect_accepted(other.submit(|| ()));
    assert_all_at_rest(&pool, &serial);
    assert_all_at_rest(&pool, &other);
    let stats = serial.stats();
    assert_eq!(
        (
            stats.submitted,
            stats.completed,
            stats.panicked,
            stats.cancelled
        ),
        (4, 1, 2, 1),
        "{stats:?}"
    );
    assert_eq!((stats.workers_started, stats.workers_peak), (0, 0));
    assert_eq!(other.stats().submitted, 1);
    assert!(pool.stats().panicked >= 2, "{:?}", pool.stats());
}

/// A panic is told to the pool's handler, on the worker; the next task runs.
#[test]
fn panics_of_a_share_go_to_the_pools_handler() {
    let (sender, receiver) = channel();
    let pool = Pool::builder()
        .capacity(1)
        .panic_handler(move |panic| {
            let message = panic.message().map(str::to_owned);
            sender.send((panic.worker().is_some(), message)).unwrap();
        })
        .build()
        .unwrap();
    let serial = pool.serial();
    expect_accepted(serial.submit(|| panic!("one")));
    let ran = serial.spawn(|| 2).unwrap();
    assert_eq!(ran.join().unwrap(), 2);
    let told = receive("the handler is told", &receiver);
    assert_eq!(told, (true, Some(String::from("one"))));
    assert_all_at_rest(&pool, &serial);
}

/// `wait_idle` of a share waits for the share alone, from outside.
#[test]
fn wait_idle_waits_for_the_share_alone() {
    let pool = Pool::with_capacity(2);
    let share = pool.limit(1);
    let occupied = occupy(&pool, 1);
    assert!(share.wait_idle_timeout(Duration::ZERO));
    let held = hold(|task| share.submit(task));
    expect_accepted(share.submit(|| ()));
    assert!(!share.wait_idle_timeout(Duration::from_millis(5)));
    held.open();
    share.wait_idle();
    assert_eq!(share.stats().completed, 2);
    occupied.end();
    assert_all_at_rest(&pool, &share);
}

/// In a task of the pool it runs the share's tasks itself, so that it ends at capacity 1.
#[test]
fn wait_idle_in_a_task_runs_what_it_waits_for() {
    for pool in pools(1) {
        let (serial, limited, keyed) = (pool.serial(), pool.limit(2), pool.keyed());
        let order = Log::new();
        let shares = (serial.clone(), limited.clone(), keyed.clone());
        let seen = order.clone();
        in_a_task(&pool, "wait_idle in a task", move || {
            let (serial, limited, keyed) = shares;
            for number in 0..20 {
                let seen = seen.clone();
                expect_accepted(serial.submit(move || seen.push(number)));
                expect_accepted(limited.submit(|| ()));
                expect_accepted(keyed.submit(number % 3, || ()));
            }
            serial.wait_idle();
            assert_eq!((serial.stats().completed, seen.len()), (20, 20));
            limited.wait_idle();
            assert!(keyed.wait_idle_timeout(Duration::MAX));
            assert_eq!((limited.queued(), keyed.queued(), keyed.keys()), (0, 0, 0));
        });
        assert!(order.entries().into_iter().eq(0..20));
        assert_all_at_rest(&pool, &serial);
        assert_all_at_rest(&pool, &limited);
        assert_all_at_rest(&pool, &keyed);
    }
}

/// P21: in a task of the share itself it would wait for itself, and says so.
#[test]
fn wait_idle_in_a_task_of_the_share_panics() {
    let pool = Pool::with_capacity(2);
    let serial = pool.serial();
    let inner = serial.clone();
    let task = serial
        .spawn(move || {
            assert!(!inner.wait_idle_timeout(Duration::MAX));
            assert!(inner.release_timeout(Duration::MAX).is_err());
            inner.wait_idle();
        })
        .unwrap();
    let error = watchdog("the wait ends", move || task.join().unwrap_err());
    let payload = error.into_panic();
    let message = payload.downcast_ref::<&str>().expect("a message");
    assert!(message.contains("wait for itself"), "{message}");
    assert_all_at_rest(&pool, &serial);
}

/// A task that waits for a share to be idle learns of it also where a submitter ran the last task.
#[test]
fn wait_idle_in_a_task_hears_of_what_a_caller_ran() {
    let pool = pool_with(2, Overflow::CallerRuns);
    let share = pool.limit(1).backlog(0);
    let held = hold(|task| share.submit(task));
    let (by_caller, begun) = (Gate::new().opened_on_drop(), Arrivals::new());
    let caller = {
        let (share, gate, begun) = (share.clone(), by_caller.clone(), begun.clone());
        thread::spawn(move || {
            expect_accepted(share.submit(move || {
                begun.arrive();
                gate.wait();
            }));
        })
    };
    begun.wait_for(1);
    let (inner, idle, (sender, waits)) = (share.clone(), Arrivals::new(), channel());
    let ends = idle.clone();
    expect_accepted(pool.submit(move || {
        sender.send(id_of_this_thread()).unwrap();
        inner.wait_idle();
        ends.arrive();
    }));
    let waiting = receive("the task that waits", &waits);
    held.open();
    eventually("only the caller's task is left", || share.running() == 1);
    eventually_asleep(waiting);
    by_caller.open();
    caller.join().unwrap();
    let woken = support::becomes_true(Duration::from_secs(5), || idle.count() == 1);
    // Whatever wakes the helpers: so that a failure does not hang.
    expect_accepted(share.submit(|| ()));
    assert!(woken, "the share is at rest, and the task waits on");
    assert_all_at_rest(&pool, &share);
}

/// Waits until the thread sleeps. Where that cannot be seen the test goes on at once: too early it
/// proves nothing, and passes.
fn eventually_asleep(thread: u32) {
    #[cfg(target_os = "linux")]
    support::linux::eventually_asleep(thread);
    #[cfg(not(target_os = "linux"))]
    let _ = thread;
}

/// As above, where the last one who kept the share from rest was a submitter that gave up.
#[test]
fn wait_idle_in_a_task_hears_of_a_submitter_that_gave_up() {
    let pool = Pool::with_capacity(2);
    let share = pool.limit(0).backlog(0);
    let submitter = {
        let share = share.clone();
        thread::spawn(move || refusal(share.submit_timeout(|| (), Duration::from_millis(200))))
    };
    eventually_eq("submitters waiting", 1, || share.waiting());
    let (inner, idle) = (share.clone(), Arrivals::new());
    let ends = idle.clone();
    expect_accepted(pool.submit(move || {
        inner.wait_idle();
        ends.arrive();
    }));
    assert_eq!(submitter.join().unwrap(), SubmitErrorKind::TimedOut);
    let woken = support::becomes_true(Duration::from_secs(5), || idle.count() == 1);
    share.tune(1);
    assert!(woken, "the share is at rest, and the task waits on");
    assert_all_at_rest(&pool, &share);
}

// ── the end ─────────────────────────────────────────────────────────────────────────────────────

/// P14 for a share: nothing more comes in, those who wait are sent away, what was accepted runs; the
/// pool stays open, and the share opens again.
#[test]
fn a_released_share_runs_what_it_accepted() {
    for kind in Kind::ALL {
        let pool = pool_with(2, Overflow::Block);
        let full = kind.fill(&pool);
        thread::scope(|scope| {
            let submits = || (full.submit)(full.task("waits"));
            let waiter = scope.spawn(submits);
            eventually_eq("submitters waiting", 1, || full.share.waiting());
            full.share.release();
            let refused = waiter.join().unwrap().unwrap_err();
            assert_eq!(refused.kind(), SubmitErrorKind::Closed);
        });
        assert!(full.share.is_closed() && !pool.is_closed());
        let late = (full.submit)(full.task("late"));
        assert_eq!(refusal(late), SubmitErrorKind::Closed);
        // What a task of the pool submits is accepted still.
        let (submit, child) = (Arc::clone(&full.submit), full.task("child"));
        in_a_task(&pool, "a task submits", move || {
            expect_accepted(submit(child));
        });
        let remains = full.share.release_timeout(Duration::ZERO).unwrap_err();
        assert_eq!((remains.running(), remains.queued()), (1, 3));
        full.held.open();
        full.share.release_timeout(DEADLINE).unwrap();
        assert_eq!(full.seen.entries(), ["first", "second", "child"]);
        full.share.release();
        full.share.reboot();
        expect_accepted((full.submit)(full.task("again")));
        assert_all_at_rest(&pool, &full.share);
        assert_eq!(full.seen.len(), 4);
    }
}

/// `release_now` drops what has not started, resolves its handles, counts it, and frees its room.
#[test]
fn release_now_of_a_share_discards_its_backlog() {
    for pool in pools(2) {
        let (serial, limited, keyed) = (pool.serial(), pool.limit(0), pool.keyed());
        let held = hold(|task| serial.submit(task));
        let dropped = Arrivals::new();
        let captured = || DropCounter(dropped.clone());
        let handles: Vec<JoinHandle<()>> = (0..5)
            .flat_map(|number| {
                let captured = [captured(), captured(), captured()];
                let [a, b, c] = captured.map(|captured| move || drop(captured));
                [
                    serial.spawn(a).unwrap(),
                    limited.spawn(b).unwrap(),
                    // Behind a key that is occupied as well.
                    if number == 0 {
                        limited.spawn(c).unwrap()
                    } else {
                        serial.spawn(c).unwrap()
                    },
                ]
            })
            .collect();
        let occupied = occupy(&pool, 1);
        for number in 0..4 {
            expect_accepted(keyed.submit(number, || unreachable!("discarded")));
        }
        assert_eq!(serial.release_now(), 9);
        assert_eq!(limited.release_now(), 6);
        assert_eq!((keyed.release_now(), keyed.keys()), (4, 0));
        assert_eq!(dropped.count(), 15, "dropped when release_now returns");
        for handle in handles {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
        assert_eq!((serial.release_now(), serial.stats().discarded), (0, 9));
        assert!(!serial.wait_idle_timeout(Duration::ZERO));
        // Also what tasks submit is refused.
        let inner = serial.clone();
        held.open();
        let kind = in_a_task(&pool, "a task submits", move || {
            refusal(inner.submit(|| ()))
        });
        assert_eq!(kind, SubmitErrorKind::Closed);
        occupied.end();
        for share in [&*serial as &Share, &*limited, &*keyed] {
            assert_all_at_rest(&pool, share);
            share.reboot();
        }
        assert_eq!(serial.spawn(|| 1).unwrap().join().unwrap(), 1);
        assert_eq!(keyed.spawn(1, || 1).unwrap().join().unwrap(), 1);
        assert_all_at_rest(&pool, &serial);
    }
}

/// The share closes with its pool, in each way, and opens with it.
#[test]
fn a_share_closes_and_opens_with_its_pool() {
    for kind in Kind::ALL {
        let pool = pool_with(2, Overflow::Block);
        let full = kind.fill(&pool);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| (full.submit)(full.task("waits")));
            eventually_eq("submitters waiting", 1, || full.share.waiting());
            pool.release();
            let refused = waiter.join().unwrap().unwrap_err();
            assert_eq!(refused.kind(), SubmitErrorKind::Closed);
        });
        assert!(full.share.is_closed());
        full.share.reboot();
        assert!(full.share.is_closed(), "not while its pool is closed");
        full.held.open();
        pool.release_timeout(DEADLINE).unwrap();
        assert_eq!(full.seen.entries(), ["first", "second"]);
        pool.reboot();
        assert!(!full.share.is_closed());
        expect_accepted((full.submit)(full.task("third")));
        assert_all_at_rest(&pool, &full.share);

        // A share that was released itself stays so.
        full.share.release();
        pool.release();
        pool.reboot();
        assert!(full.share.is_closed());
        full.share.reboot();
        assert!(!full.share.is_closed());
    }
}

/// `release_now` of the pool drops the backlogs of its shares as well, and counts them.
#[test]
fn release_now_of_the_pool_discards_the_backlogs_of_its_shares() {
    for kind in Kind::ALL {
        let pool = pool_with(2, Overflow::Block);
        let full = kind.fill(&pool);
        let paused = pool.limit(0);
        let handle = paused.spawn(|| ()).unwrap();
        assert_eq!(pool.release_now(), 3);
        assert!(handle.join().unwrap_err().is_cancelled());
        assert_eq!((full.share.stats().discarded, full.share.queued()), (2, 0));
        full.held.open();
        pool.release_timeout(DEADLINE).unwrap();
        assert_share_at_rest(&full.share);
        assert_eq!(full.seen.len(), 0);
    }
}

/// A release lifts the pause of a share, as it does that of a pool; of one that is closed already as
/// well.
#[test]
fn a_release_lifts_a_pause() {
    let pool = Pool::with_capacity(1);
    let share = pool.limit(0);
    let ran = share.spawn(|| ()).unwrap();
    share.release();
    watchdog("the pause is lifted", move || ran.join().unwrap());
    share.reboot();
    share.tune(0);
    let ran = share.spawn(|| ()).unwrap();
    pool.release_timeout(DEADLINE).unwrap();
    assert!(ran.join().is_ok());
}

/// A closed share cannot be paused: its tasks are to end. So it is with a pool.
#[test]
fn a_closed_share_cannot_be_paused() {
    let pool = Pool::with_capacity(1);
    let share = pool.limit(1);
    let held = hold(|task| share.submit(task));
    let ran = share.spawn(|| ()).unwrap();
    share.release();
    share.tune(0);
    held.open();
    let ended = ran.join_timeout(Duration::from_secs(5)).is_ok();
    share.tune(1);
    assert!(ended, "a closed share is paused");
    assert_all_at_rest(&pool, &share);
}

/// What was accepted runs also where all handles of the share are dropped; a paused one resumes.
#[test]
fn a_dropped_share_loses_no_task() {
    for limit in [1, 0] {
        let pool = Pool::with_capacity(1);
        let occupied = occupy(&pool, 1);
        let ran = Arrivals::new();
        let (share, keyed, serial) = (pool.limit(limit), pool.keyed(), pool.serial());
        for number in 0..3 {
            let [a, b, c] = [ran.clone(), ran.clone(), ran.clone()];
            expect_accepted(share.submit(move || a.arrive()));
            expect_accepted(keyed.submit(number % 2, move || b.arrive()));
            expect_accepted(serial.submit(move || c.arrive()));
        }
        drop((share, keyed, serial));
        occupied.end();
        drop(pool);
        assert_eq!(ran.count(), 9, "with a limit of {limit}");
    }
}

/// The drop of the pool runs what its shares have accepted.
#[test]
fn dropping_the_pool_runs_what_its_shares_accepted() {
    let pool = Pool::with_capacity(2);
    let (serial, keyed) = (pool.serial(), pool.keyed());
    let done = Arrivals::new();
    for number in 0..100 {
        let (one, other) = (done.clone(), done.clone());
        expect_accepted(serial.submit(move || one.arrive()));
        expect_accepted(keyed.submit(number % 7, move || other.arrive()));
    }
    drop(pool);
    assert_eq!(done.count(), 200);
    assert_eq!(refusal(serial.submit(|| ())), SubmitErrorKind::Closed);
    assert_eq!(refusal(keyed.submit(1, || ())), SubmitErrorKind::Closed);
    assert_share_at_rest(&serial);
}

/// P14, P16: what a share accepts as its pool ends has run once the drop, or the release, has joined the threads, and no
/// thread is started afterwards; what it does not accept comes back. More submitters than processors, so that some
/// are held up half-way.
#[test]
fn what_a_share_accepts_as_its_pool_ends_has_run_by_then() {
    const ROUNDS: usize = 600;
    const SUBMITTERS: usize = 4;
    const EACH: usize = 10;
    let kinds: [fn(&PoolHandle) -> Submits; 3] = [
        |pool| {
            let share = pool.limit(2);
            Arc::new(move |task| share.submit(task))
        },
        |pool| {
            let share = pool.serial();
            Arc::new(move |task| share.submit(task))
        },
        |pool| {
            let share = pool.keyed();
            Arc::new(move |task| share.submit(7, task))
        },
    ];
    for round in 0..ROUNDS {
        let pool = Pool::with_capacity(1 + round % 3);
        let (handle, submit) = (pool.handle(), kinds[round % kinds.len()](&pool));
        let ran = Arrivals::new();
        let submitters = [(); SUBMITTERS].map(|()| {
            let (submit, ran) = (Arc::clone(&submit), ran.clone());
            thread::spawn(move || {
                let accepted = || {
                    let ran = ran.clone();
                    submit(Box::new(move || ran.arrive())).map_err(|refused| refused.kind())
                };
                for count in 0..EACH {
                    if let Err(kind) = accepted() {
                        assert_eq!(kind, SubmitErrorKind::Closed);
                        return count;
                    }
                }
                EACH
            })
        });
        ran.wait_for(round % 10);
        watchdog("the pool ends", move || {
            if round % 2 == 0 {
                drop(pool);
            } else {
                pool.release_timeout(DEADLINE).unwrap();
            }
        });
        let threads = |pool: &PoolHandle| (pool.workers(), pool.stats().workers_started);
        let ended = (ran.count(), threads(&handle));
        let accepted = submitters.map(|submitter| submitter.join().unwrap());
        let accepted = accepted.iter().sum();
        assert_eq!(ended, (accepted, threads(&handle)), "round {round}");
        assert_eq!(handle.workers(), 0, "round {round}");
        assert_at_rest(&handle);
    }
}

/// A share made of a closed pool is closed.
#[test]
fn a_share_of_a_closed_pool_is_closed() {
    let pool = Pool::with_capacity(1);
    pool.release();
    let serial = pool.serial();
    assert_eq!(refusal(serial.submit(|| ())), SubmitErrorKind::Closed);
    pool.reboot();
    assert_eq!(serial.spawn(|| 3).unwrap().join().unwrap(), 3);
}

// ── handles ─────────────────────────────────────────────────────────────────────────────────────

/// `cancel` frees the captures and the room at once, in the share and in the pool.
#[test]
fn a_cancelled_task_frees_its_room_in_share_and_pool() {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let occupied = occupy(&pool, 1);
    let share = pool.limit(1).backlog(0);
    let dropped = Arrivals::new();
    let captured = DropCounter(dropped.clone());
    let handle = share.spawn(move || drop(captured)).unwrap();
    assert_eq!(pool.queued(), 1);
    assert_eq!(refusal(share.try_submit(|| ())), SubmitErrorKind::Full);
    assert_eq!(refusal(pool.try_submit(|| ())), SubmitErrorKind::Full);
    assert!(handle.cancel());
    assert_eq!((dropped.count(), share.queued(), pool.queued()), (1, 0, 0));
    assert!(share.wait_idle_timeout(Duration::ZERO));
    expect_accepted(pool.try_submit(|| ()));
    let next = share.try_spawn(|| ()).unwrap();
    assert!(!handle.cancel());
    assert!(handle.join().unwrap_err().is_cancelled());
    occupied.end();
    next.join().unwrap();
    assert_all_at_rest(&pool, &share);
    assert_eq!(share.stats().cancelled, 1);
}

/// Any number of cancelled tasks leave nothing behind, in whatever order they are cancelled.
#[test]
fn cancelled_tasks_in_the_middle_leave_the_others_in_order() {
    for pool in pools(2) {
        let serial = pool.serial();
        let held = hold(|task| serial.submit(task));
        let seen = Log::new();
        let handles: Vec<_> = (0..1_000)
            .map(|number| {
                let seen = seen.clone();
                serial.spawn(move || seen.push(number)).unwrap()
            })
            .collect();
        for handle in handles.iter().rev().skip(1).step_by(2) {
            assert!(handle.cancel());
        }
        assert_eq!(serial.queued(), 500);
        held.open();
        assert_all_at_rest(&pool, &serial);
        assert!(seen.entries().into_iter().eq((0..1_000).skip(1).step_by(2)));
        assert_eq!(serial.stats().cancelled, 500);
    }
}

/// At capacity 1 a join in a task runs the awaited task of a limited share, and no other.
#[test]
fn a_join_runs_only_the_awaited_task_of_a_limited_share() {
    for pool in pools(1) {
        let share = pool.limit(2);
        let (inner, seen) = (share.clone(), Log::new());
        let log = seen.clone();
        in_a_task(&pool, "a join at capacity 1", move || {
            let task = |number| {
                let log = log.clone();
                inner.spawn(move || log.push(number)).unwrap()
            };
            let (_first, second, _third) = (task(1), task(2), task(3));
            second.join().unwrap();
            assert_eq!(log.entries(), [2]);
        });
        assert_all_at_rest(&pool, &share);
        assert_eq!(seen.entries(), [2, 1, 3]);
    }
}

/// In a serial, and in a key, it runs those before it as well, in their order, and none after it.
#[test]
fn a_join_runs_the_awaited_task_of_a_serial_and_those_before_it() {
    for pool in pools(1) {
        let (serial, keyed) = (pool.serial(), pool.keyed());
        let (inner, keys) = (serial.clone(), keyed.clone());
        in_a_task(&pool, "a join at capacity 1", move || {
            let log = Log::new();
            let task = |number| {
                let log = log.clone();
                move || log.push(number)
            };
            let handles = [1, 2, 3, 4].map(|number| inner.spawn(task(number)).unwrap());
            let [_, _, third, _] = handles;
            third.join().unwrap();
            assert_eq!(log.entries(), [1, 2, 3]);

            let of_keys = [("a", 11), ("b", 12), ("a", 13), ("a", 14)];
            let handles = of_keys.map(|(key, number)| keys.spawn(key, task(number)).unwrap());
            let [_, _, third, _] = handles;
            third.join().unwrap();
            assert_eq!(log.entries(), [1, 2, 3, 11, 13]);
        });
        assert_all_at_rest(&pool, &serial);
        assert_all_at_rest(&pool, &keyed);
        assert_eq!(keyed.keys(), 0);
    }
}

/// A task of a serial that joins a later one of the same serial lends it its slot.
#[test]
fn a_task_of_a_serial_may_join_a_later_one() {
    for pool in pools(2) {
        let serial = pool.serial();
        let (inner, running) = (serial.clone(), Running::new());
        let outer = serial
            .spawn(move || {
                let log = Log::new();
                let task = |number| {
                    let (log, running) = (log.clone(), running.clone());
                    move || {
                        let _inside = running.enter();
                        log.push(number);
                    }
                };
                let first = inner.spawn(task(1)).unwrap();
                let second = inner.spawn(task(2)).unwrap();
                second.join().unwrap();
                first.join().unwrap();
                assert_eq!(log.entries(), [1, 2]);
                assert_eq!(running.peak(), 1);
                inner.spawn(|| 7).unwrap().join().unwrap()
            })
            .unwrap();
        let value = watchdog("a join in a serial's task", move || outer.join().unwrap());
        assert_eq!(value, 7);
        assert_all_at_rest(&pool, &serial);
    }
}

/// A thousand levels deep each task of a serial joins the next one.
#[test]
fn joins_nest_in_a_serial() {
    fn level(serial: &Serial, left: usize) -> usize {
        if left == 0 {
            return 0;
        }
        let inner = serial.clone();
        let next = serial.spawn(move || level(&inner, left - 1)).unwrap();
        next.join().unwrap() + 1
    }

    let pool = Pool::builder()
        .capacity(1)
        .stack_size(16 << 20)
        .build()
        .unwrap();
    let serial = pool.serial();
    let inner = serial.clone();
    let depth = in_a_task(&pool, "nested joins", move || level(&inner, 500));
    assert_eq!(depth, 500);
    assert_all_at_rest(&pool, &serial);
}

/// A join of oneself, or of a task that is suspended beneath, is told to be a deadlock.
#[test]
fn a_join_that_cannot_end_is_told_in_a_serial() {
    let pool = Pool::with_capacity(1);
    let serial = pool.serial();
    let slot: Arc<Mutex<Option<JoinHandle<bool>>>> = Arc::default();
    let (inner, taken) = (serial.clone(), Arc::clone(&slot));
    let gate = Gate::new();
    let inside = gate.clone();
    let outer = serial
        .spawn(move || {
            inside.wait();
            let next = inner.spawn(move || {
                let beneath = taken.lock().unwrap().take().unwrap();
                beneath.join().unwrap_err().is_deadlock()
            });
            next.unwrap().join().unwrap()
        })
        .unwrap();
    *slot.lock().unwrap() = Some(outer);
    gate.open();
    assert_all_at_rest(&pool, &serial);
    assert_eq!(serial.stats().completed, 2);
    assert!(slot.lock().unwrap().is_none(), "it was joined");
}

/// A task that joins one which waits in the line of a full share runs it, and takes nobody's room.
#[test]
fn a_join_of_a_task_in_line_leaves_the_places_right() {
    let pool = Pool::builder().capacity(1).backlog(4).build().unwrap();
    let share = pool.limit(1).backlog(0);
    let (inner, go) = (share.clone(), Gate::new().opened_on_drop());
    let inside = go.clone();
    let joined = pool
        .spawn(move || {
            inside.wait();
            let in_line = inner.spawn(|| 5).unwrap();
            let five = in_line.join().unwrap();
            (five, inner.queued(), inner.waiting())
        })
        .unwrap();
    let ran = Log::new();
    let first = ran.clone();
    expect_accepted(share.submit(move || first.push(1)));
    thread::scope(|scope| {
        let (share, second) = (&share, ran.clone());
        scope.spawn(move || expect_accepted(share.submit(move || second.push(2))));
        eventually_eq("submitters waiting", 1, || share.waiting());
        go.open();
        let (five, queued, waiting) = joined.join().unwrap();
        assert_eq!(five, 5);
        assert_eq!(
            (queued, waiting),
            (1, 1),
            "queued and waiting after the join: a place was given back that nobody had"
        );
    });
    assert_all_at_rest(&pool, &share);
    assert_eq!(ran.entries(), [1, 2]);
    // All room is there again: one, and not more.
    let held = hold(|task| share.submit(task));
    assert_eq!(refusal(share.try_submit(|| ())), SubmitErrorKind::Full);
    held.open();
    assert_all_at_rest(&pool, &share);
}

/// R1: at capacity 1 a join ends also where the awaited task waits in the line of a share that is full of
/// other keys' tasks, which need the very worker that waits.
#[test]
fn a_join_of_a_task_in_the_line_of_a_full_keyed_share_ends() {
    let pool = Pool::builder().capacity(1).backlog(4).build().unwrap();
    let keyed = pool.keyed().backlog(0);
    let (inner, go, joined) = (keyed.clone(), Gate::new().opened_on_drop(), Arrivals::new());
    let (inside, joins) = (go.clone(), joined.clone());
    let task = pool.spawn(move || {
        inside.wait();
        let in_line = inner.spawn(2, || 5).unwrap();
        // A failure is told, and does not hang.
        let five = in_line.join_timeout(Duration::from_secs(5));
        joins.arrive();
        five.is_ok_and(|five| five.is_ok_and(|five| five == 5))
    });
    expect_accepted(keyed.submit(1, || ()));
    thread::scope(|scope| {
        scope.spawn(|| expect_accepted(keyed.submit(3, || ())));
        eventually_eq("submitters waiting", 1, || keyed.waiting());
        go.open();
        joined.wait_for(1);
    });
    assert!(task.unwrap().join().unwrap(), "the join did not end");
    assert_all_at_rest(&pool, &keyed);
    assert_eq!((keyed.stats().completed, keyed.keys()), (3, 0));
}

/// A task in the line of a full share can be cancelled, in a serial and in a key as well.
#[test]
fn a_task_in_line_can_be_cancelled() {
    let pool = Pool::with_capacity(2);
    let keyed = pool.keyed().backlog(0);
    let held = hold(|task| keyed.submit(1, task));
    let (inner, sent) = (keyed.clone(), Gate::new().opened_on_drop());
    let inside = sent.clone();
    let task = pool.spawn(move || {
        inside.wait();
        inner.spawn(2, || unreachable!("cancelled")).unwrap()
    });
    let task = task.unwrap();
    expect_accepted(keyed.try_submit(1, || ()));
    thread::scope(|scope| {
        scope.spawn(|| expect_accepted(keyed.submit(1, || ())));
        eventually_eq("submitters waiting", 1, || keyed.waiting());
        sent.open();
        let in_line: JoinHandle<()> = task.join().unwrap();
        assert_eq!((keyed.keys(), keyed.queued()), (2, 2));
        assert!(in_line.cancel());
        assert_eq!((keyed.keys(), keyed.queued()), (1, 1));
        held.open();
    });
    assert_all_at_rest(&pool, &keyed);
    let stats = keyed.stats();
    assert_eq!((stats.completed, stats.cancelled, keyed.keys()), (3, 1, 0));
}

/// A cancel and a `release_now` that meet over the same task let go of its key once, not twice: a key
/// of which a task runs is not forgotten, and the next one waits for its turn.
#[test]
fn a_cancel_and_a_release_let_go_of_a_key_once() {
    struct Releases(Keyed<u8>);
    impl Drop for Releases {
        fn drop(&mut self) {
            self.0.release_now();
        }
    }

    let pool = Pool::with_capacity(2);
    let keyed = pool.keyed().backlog(0);
    let held = hold(|task| keyed.submit(1, task));
    expect_accepted(keyed.try_submit(1, || unreachable!("discarded")));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| refusal(keyed.submit(1, || ())));
        eventually_eq("submitters waiting", 1, || keyed.waiting());
        let inner = keyed.clone();
        let releases = Releases(keyed.clone());
        let in_line = in_a_task(&pool, "a task never waits", move || {
            inner.spawn(1, move || drop(releases)).unwrap()
        });
        assert!(in_line.cancel());
        assert_eq!(waiter.join().unwrap(), SubmitErrorKind::Closed);
    });
    assert_eq!((keyed.running(), keyed.keys()), (1, 1));
    keyed.reboot();
    let begun = Arrivals::new();
    let begins = begun.clone();
    expect_accepted(keyed.submit(1, move || begins.arrive()));
    // Whatever may run has run before this.
    let after = occupy(&pool, 1);
    after.end();
    eventually("nothing runs beside the first", || pool.running() == 1);
    assert_eq!(begun.count(), 0);
    held.open();
    assert_all_at_rest(&pool, &keyed);
    assert_eq!((begun.count(), keyed.keys()), (1, 0));
}

/// A handle whose task is dropped to make room resolves also for a task that waits for it.
#[test]
fn a_join_in_a_task_hears_that_the_task_was_dropped() {
    let pool = pool_with(2, Overflow::DropOldest);
    let serial = pool.serial().backlog(1);
    let held = hold(|task| serial.submit(task));
    let (inner, joined, (sender, spawned)) = (serial.clone(), Arrivals::new(), channel());
    let ends = joined.clone();
    expect_accepted(pool.submit(move || {
        let handle = inner.spawn(|| unreachable!("dropped")).unwrap();
        sender.send(id_of_this_thread()).unwrap();
        assert!(handle.join().unwrap_err().is_cancelled());
        ends.arrive();
    }));
    eventually_asleep(receive("the task that joins", &spawned));
    expect_accepted(serial.submit(|| ()));
    assert_eq!(serial.stats().discarded, 1);
    let woken = support::becomes_true(Duration::from_secs(5), || joined.count() == 1);
    held.open();
    assert!(woken, "the task was dropped, and its joiner waits on");
    assert_all_at_rest(&pool, &serial);
}

/// To poll a handle never blocks: where the task may not run yet, it is pending.
#[test]
fn a_poll_in_a_task_does_not_wait_for_the_slot_of_a_serial() {
    let pool = Pool::with_capacity(2);
    let serial = pool.serial();
    let held = hold(|task| serial.submit(task));
    let (inner, polled) = (serial.clone(), Arrivals::new());
    let polls = polled.clone();
    let task = pool.spawn(move || {
        let mut handle = pin!(inner.spawn(|| 3).unwrap());
        let mut context = Context::from_waker(Waker::noop());
        let mut polled = handle.as_mut().poll(&mut context);
        polls.arrive();
        let pending = polled.is_pending();
        loop {
            match polled {
                Poll::Ready(value) => return (pending, value.unwrap()),
                Poll::Pending => thread::yield_now(),
            }
            polled = handle.as_mut().poll(&mut context);
        }
    });
    let returned = support::becomes_true(Duration::from_secs(5), || polled.count() == 1);
    held.open();
    let (pending, value) = task.unwrap().join().unwrap();
    assert_eq!(value, 3);
    assert!(returned && pending, "the poll waited for another task");
    assert_all_at_rest(&pool, &serial);
}

/// `join_timeout` in a task gives the handle back where the slot is not free in time.
#[test]
fn join_timeout_in_a_task_does_not_wait_longer_for_a_slot() {
    let pool = Pool::with_capacity(2);
    let serial = pool.serial();
    let held = hold(|task| serial.submit(task));
    let inner = serial.clone();
    let handle = in_a_task(&pool, "the time is up", move || {
        let handle = inner.spawn(|| 3).unwrap();
        handle.join_timeout(Duration::from_millis(5)).unwrap_err()
    });
    held.open();
    assert_eq!(handle.join().unwrap(), 3);
    assert_all_at_rest(&pool, &serial);
}

/// Handles that are joined, cancelled and raced for in all ways: each task runs once or never, every
/// handle resolves, and all places come back.
#[test]
fn handles_of_shares_survive_a_storm() {
    let mut rng = seeded_rng("handles_of_shares_survive_a_storm");
    for round in 0..40 {
        let overflow = [Overflow::Block, Overflow::DropOldest][round % 2];
        let pool = Pool::builder()
            .capacity(rng.random_range(1..4))
            .backlog(rng.random_range(0..4))
            .overflow(overflow)
            .panic_handler(|_| {});
        let Ok(pool) = pool.build() else {
            continue; // DropOldest needs a backlog
        };
        let limited = pool.limit(rng.random_range(1..3));
        let limited = if rng.random() {
            limited.backlog(1)
        } else {
            limited
        };
        let keyed = pool.keyed();
        let ran: Arc<Vec<AtomicUsize>> = Arc::new((0..240).map(|_| AtomicUsize::new(0)).collect());
        let ends = Arc::new(Mutex::new(BTreeMap::new()));
        let work = {
            let (ran, ends) = (Arc::clone(&ran), Arc::clone(&ends));
            let (limited, keyed) = (limited.clone(), keyed.clone());
            move |first: usize, seed: u64| {
                let mut rng: rand::rngs::StdRng = rand::SeedableRng::seed_from_u64(seed);
                for number in first..first + 40 {
                    let counts = Arc::clone(&ran);
                    let task = move || {
                        counts[number].fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                    };
                    let handle = if rng.random() {
                        limited.spawn(task)
                    } else {
                        keyed.spawn(number % 3, task)
                    };
                    let handle = handle.unwrap();
                    let cancelled = rng.random_range(0..3) == 0 && handle.cancel();
                    let ended = handle.join();
                    if cancelled {
                        assert!(ended.as_ref().unwrap_err().is_cancelled());
                    } else if overflow == Overflow::Block {
                        assert!(
                            ended.is_ok(),
                            "task {number} was dropped, and nobody wanted it"
                        );
                    }
                    ends.lock().unwrap().insert(number, ended.is_ok());
                }
            }
        };
        thread::scope(|scope| {
            for (part, seed) in (0..3).map(|part| (part, rng.random())) {
                let work = &work;
                scope.spawn(move || work(part * 40, seed));
            }
            for part in 3..6 {
                let (work, seed) = (work.clone(), rng.random());
                expect_accepted(pool.submit_timeout(move || work(part * 40, seed), DEADLINE));
            }
        });
        assert_all_at_rest(&pool, &limited);
        assert_all_at_rest(&pool, &keyed);
        assert_eq!(keyed.keys(), 0);
        for (number, ran) in ran.iter().enumerate() {
            let ended = ends.lock().unwrap().get(&number).copied();
            let expected = ended.map(usize::from);
            assert_eq!(Some(ran.load(Ordering::SeqCst)), expected, "task {number}");
        }
    }
}

/// A cancel that meets the moment in which its task is let in from the line: the share goes on.
#[test]
fn a_cancel_may_meet_the_end_of_the_line() {
    let pool = Pool::with_capacity(2);
    let share = pool.limit(1).backlog(0);
    for _ in 0..300 {
        let held = hold(|task| share.submit(task));
        let (inner, cancels) = (share.clone(), Gate::new());
        thread::scope(|scope| {
            scope.spawn(|| expect_accepted(share.submit(|| ())));
            eventually_eq("submitters waiting", 1, || share.waiting());
            let handle = in_a_task(&pool, "a task spawns", move || inner.spawn(|| ()).unwrap());
            let go = cancels.clone();
            scope.spawn(move || {
                go.wait();
                handle.cancel();
                assert!(handle.is_finished() || handle.join().is_ok());
            });
            cancels.open();
            held.open();
        });
        assert!(share.wait_idle_timeout(DEADLINE));
    }
    assert_all_at_rest(&pool, &share);
}

// ── fairness and length ─────────────────────────────────────────────────────────────────────────

/// P8: a task of a serial that submits its successor runs on in constant memory and on a flat stack.
#[test]
fn a_serials_task_may_submit_its_successor_for_ever() {
    fn link(serial: &Serial, left: usize, stack: &Arc<Mutex<(usize, usize)>>) {
        let here = std::ptr::from_ref(&left).addr();
        let mut stack_seen = stack.lock().unwrap();
        *stack_seen = (stack_seen.0.min(here), stack_seen.1.max(here));
        drop(stack_seen);
        assert!(serial.queued() <= 1);
        if left > 0 {
            let (inner, stack) = (serial.clone(), Arc::clone(stack));
            expect_accepted(serial.submit(move || link(&inner, left - 1, &stack)));
        }
    }

    for pool in pools(1) {
        let serial = pool.serial();
        let stack = Arc::new(Mutex::new((usize::MAX, 0)));
        let (inner, seen) = (serial.clone(), Arc::clone(&stack));
        expect_accepted(serial.submit(move || link(&inner, 100_000, &seen)));
        // Others have their turn meanwhile.
        for _ in 0..20 {
            let (sender, receiver) = channel();
            expect_accepted(pool.submit(move || sender.send(()).unwrap()));
            receive("a task from outside", &receiver);
        }
        assert_all_at_rest(&pool, &serial);
        assert_eq!(
            (serial.stats().completed, serial.stats().panicked),
            (100_001, 0)
        );
        let (lowest, highest) = *stack.lock().unwrap();
        assert!(highest - lowest < 16 << 10, "the stack grew");
    }
}

/// At capacity 1 a task from outside has its turn beside a share with ten thousand queued tasks.
#[test]
fn an_outside_task_has_its_turn_beside_a_long_serial() {
    for pool in pools(1) {
        let (serial, keyed) = (pool.serial(), pool.keyed());
        let done = Arrivals::new();
        let first = hold(|task| serial.submit(task));
        for number in 0..5_000 {
            let (one, other) = (done.clone(), done.clone());
            expect_accepted(serial.submit(move || one.arrive()));
            expect_accepted(keyed.submit(number % 2, move || other.arrive()));
        }
        let (sender, receiver) = channel();
        let (at, first_gate) = (done.clone(), first);
        thread::scope(|scope| {
            scope.spawn(|| {
                let task = move || sender.send(at.count()).unwrap();
                expect_accepted(pool.submit(task));
            });
            eventually("it is queued, or waits", || {
                pool.queued() + pool.waiting() >= 3
            });
            first_gate.open();
        });
        let before = receive("the outside task", &receiver);
        assert!(before < 100, "{before} tasks of the shares came first");
        assert_all_at_rest(&pool, &serial);
        assert_all_at_rest(&pool, &keyed);
        assert_eq!(done.count(), 10_000);
    }
}

/// A share that is made and dropped again and again leaves nothing with its pool.
#[test]
fn shares_come_and_go() {
    let pool = Pool::with_capacity(2);
    for number in 0..10_000 {
        let serial = pool.serial();
        let limited = pool.limit(1);
        assert_eq!(serial.clone().capacity() + limited.capacity(), 2);
        if number % 100 == 0 {
            expect_accepted(serial.submit(|| ()));
        }
    }
    assert!(pool.wait_idle_timeout(DEADLINE));
    assert_eq!(pool.stats().completed, 100);
    assert_at_rest(&pool);
}

/// What one sees of a share.
#[test]
fn shares_say_what_they_are() {
    let pool = Pool::with_capacity(3);
    let (limited, serial, keyed) = (pool.limit(2), pool.serial(), pool.keyed::<u8>());
    assert!(format!("{limited:?}").starts_with("Limited"));
    assert!(format!("{serial:?}").starts_with("Serial"));
    assert!(format!("{keyed:?}").starts_with("Keyed"));
    assert_eq!(
        (limited.capacity(), serial.capacity(), keyed.capacity()),
        (2, 1, 3)
    );
    assert_eq!(limited.pool().capacity(), 3);
    pool.tune(1);
    assert_eq!((limited.capacity(), keyed.capacity()), (1, 1));
}

// ---- handles and what comes after ----

/// P2: tasks that are spawned each after the join of the last one run on one thread; and P5: whoever joined
/// finds the room in the pool.
#[test]
fn p02_tasks_joined_one_by_one_run_on_one_thread_and_leave_room() {
    const TASKS: usize = 2_000;
    let pool = Pool::with_capacity(4);
    let (limited, serial, keyed) = (pool.limit(2), pool.serial(), pool.keyed());
    for number in 0..TASKS {
        assert_eq!(
            limited.spawn(move || number).unwrap().join().unwrap(),
            number
        );
        assert_eq!(
            serial.spawn(move || number).unwrap().join().unwrap(),
            number
        );
        let handle = keyed.spawn(number % 3, move || number);
        assert_eq!(handle.unwrap().join().unwrap(), number);
    }
    assert_eq!(pool.stats().workers_started, 1, "{:?}", pool.stats());

    let one = Pool::with_capacity(1);
    let serial = one.serial();
    for _ in 0..TASKS {
        serial.spawn(|| ()).unwrap().join().unwrap();
        expect_accepted(one.try_submit(|| ()));
        one.wait_idle();
    }
}

/// P2: so do those that are submitted each after the share, or the pool, was at rest.
#[test]
fn p02_tasks_submitted_at_rest_run_on_one_thread() {
    const TASKS: u64 = 3_000;
    for pool in pools(4) {
        let (limited, serial, keyed) = (pool.limit(2), pool.serial(), pool.keyed());
        for number in 0..TASKS {
            expect_accepted(limited.submit(|| ()));
            limited.wait_idle();
            expect_accepted(serial.submit(|| ()));
            serial.wait_idle();
            expect_accepted(keyed.submit(number % 3, || ()));
            keyed.wait_idle();
            expect_accepted(serial.submit(|| ()));
            pool.wait_idle();
        }
        let stats = pool.stats();
        assert_eq!(stats.workers_started, 1, "{stats:?}");
        assert_eq!((stats.submitted, stats.cancelled), (4 * TASKS, 0));
    }
}

/// A task of a share is one task of the pool: where nobody cancels or helps, no token is one too many, also as workers get
/// to tokens just as others are sent.
#[test]
fn a_task_of_a_share_is_one_task_of_the_pool() {
    const TASKS: u64 = 20_000;
    let pool = Pool::builder()
        .capacity(4)
        .unbounded_backlog()
        .build()
        .unwrap();
    let limited = pool.limit(8);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..TASKS / 4 {
                    limited.spawn(|| ()).unwrap().join().unwrap();
                }
            });
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.cancelled), (TASKS, 0), "{stats:?}");
}

/// The tasks of a serial queue, however many wait, take one worker: each next one finds that of the last one.
#[test]
fn the_backlog_of_a_serial_takes_one_worker() {
    const TASKS: usize = 10_000;
    for pool in pools(4) {
        let (serial, done) = (pool.serial(), Arrivals::new());
        for _ in 0..TASKS {
            let done = done.clone();
            expect_accepted(serial.submit(move || done.arrive()));
        }
        pool.wait_idle();
        assert_eq!(done.count(), TASKS);
        assert_eq!(pool.stats().workers_started, 1, "{:?}", pool.stats());
    }
}

/// A key whose drop panics, as one for which there is a queue already is handed in, lets go of its pin.
#[test]
fn a_key_whose_drop_panics_is_forgotten() {
    struct Touchy {
        panics: bool,
    }
    impl PartialEq for Touchy {
        fn eq(&self, _other: &Self) -> bool {
            true
        }
    }
    impl Eq for Touchy {}
    impl Hash for Touchy {
        fn hash<H: Hasher>(&self, _state: &mut H) {}
    }
    impl Drop for Touchy {
        fn drop(&mut self) {
            assert!(!self.panics, "on purpose");
        }
    }

    let pool = Pool::with_capacity(1);
    let keyed = pool.keyed();
    let held = hold(|task| keyed.submit(Touchy { panics: false }, task));
    let submit = || drop(keyed.submit(Touchy { panics: true }, || ()));
    assert!(catch_unwind(AssertUnwindSafe(submit)).is_err());
    assert_eq!((keyed.queued(), keyed.keys()), (0, 1));
    held.open();
    keyed.wait_idle();
    assert_eq!(keyed.keys(), 0);
}
