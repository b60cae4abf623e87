//! Options for several pools as one (`MultiPool::builder`), and several pools of one function as one
//! (`MultiFuncPool`): each pool is built with all options; what happens where all are full is as the builder says, and
//! who waits does so in one line.

mod support;

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use anthill::{
    Balance, BuildError, Builder, MultiFuncPool, MultiPool, Overflow, Pool, PoolHandle,
    SubmitError, SubmitErrorKind,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, OpensOnDrop, assert_all_at_rest, eventually,
    eventually_eq, expect_accepted, hold, receive, refusal, seeded_rng, shard, watchdog,
};

const BALANCES: [Balance; 2] = [Balance::RoundRobin, Balance::LeastLoaded];

/// Two pools of one worker and a backlog of one each, whose workers are held.
fn two_held(balance: Balance, overflow: Overflow) -> (Vec<OpensOnDrop>, MultiPool) {
    let builder = MultiPool::builder(2, balance).capacity(1).backlog(1);
    let pools = builder.overflow(overflow).build().unwrap();
    let held = pools.shards().map(hold).collect();
    (held, pools)
}

// ── the builder ─────────────────────────────────────────────────────────────────────────────────

/// Every pool is built with every option, and has a name of its own.
#[test]
fn each_pool_has_all_options() {
    let (started, stopped, panics) = (Arrivals::new(), Arrivals::new(), Log::new());
    let (starts, stops, tells) = (started.clone(), stopped.clone(), panics.clone());
    let pools = MultiPool::builder(3, Balance::LeastLoaded)
        .capacity(2)
        .min_workers(1)
        .backlog(4)
        .keep_workers()
        .name("mail")
        .stack_size(256 << 10)
        .on_worker_start(move |_| starts.arrive())
        .on_worker_stop(move |_| stops.arrive())
        .panic_handler(move |panic| tells.push(panic.thread_name().map(str::to_owned)))
        .build()
        .unwrap();
    assert_eq!((pools.shards().len(), pools.capacity()), (3, 6));
    for shard in pools.shards() {
        assert_eq!((shard.capacity(), shard.workers()), (2, 1));
    }
    started.wait_for(3);
    for (at, shard) in pools.shards().enumerate() {
        let of_this_one = format!("mail-{at}-");
        let name = shard.spawn(|| thread::current().name().map(str::to_owned));
        let name = name.unwrap().join().unwrap().unwrap();
        assert!(name.starts_with(&of_this_one), "{name}");
        shard.submit(|| panic!("on purpose")).unwrap();
        shard.wait_idle();
        let told = panics.entries().pop().unwrap().unwrap();
        assert!(told.starts_with(&of_this_one), "{told}");
        // The backlog is each one's own.
        shard.tune(0);
        for _ in 0..4 {
            expect_accepted(shard.try_submit(|| ()));
        }
        assert_eq!(refusal(shard.try_submit(|| ())), SubmitErrorKind::Full);
    }
    pools.tune(2);
    assert_all_at_rest(&pools);
    pools.release_timeout(DEADLINE).unwrap();
    assert_eq!(started.count() as u64, pools.stats().workers_started);
    assert_eq!(started.count(), stopped.count());
}

/// What contradicts itself is an error, and then nothing is left of it: no thread, no hook.
#[test]
fn contradictions_are_errors_of_build() {
    fn error(change: impl FnOnce(Builder<MultiPool>) -> Builder<MultiPool>) -> BuildError {
        let dropped = Arrivals::new();
        let captured = DropCounter(dropped.clone());
        let builder = MultiPool::builder(2, Balance::RoundRobin).capacity(1);
        let builder = builder.on_worker_start(move |_| captured.0.arrive());
        let error = change(builder).build().unwrap_err();
        assert_eq!(dropped.count(), 1, "dropped, and never called");
        error
    }
    let none = MultiPool::builder(0, Balance::RoundRobin).build();
    assert!(matches!(none, Err(BuildError::NoShards)));
    assert!(none.unwrap_err().to_string().contains("at least one pool"));
    let none = MultiFuncPool::builder(0, Balance::RoundRobin, |()| ()).build();
    assert!(matches!(none, Err(BuildError::NoShards)));
    assert!(matches!(
        error(|builder| builder.min_workers(2)),
        BuildError::MinWorkersAboveCapacity {
            min_workers: 2,
            capacity: 1
        }
    ));
    assert!(matches!(
        error(|builder| builder.overflow(Overflow::DropOldest)),
        BuildError::DropOldestWithoutBacklog
    ));
    assert!(matches!(
        error(|builder| builder.name("a\0b")),
        BuildError::NameContainsNul
    ));
}

/// A builder may be cloned, and builds other pools each time.
#[test]
fn a_builder_may_be_cloned() {
    let builder = MultiPool::builder(2, Balance::LeastLoaded).capacity(1);
    let (one, other) = (builder.clone().build().unwrap(), builder.build().unwrap());
    one.release();
    assert_eq!(refusal(one.submit(|| ())), SubmitErrorKind::Closed);
    expect_accepted(other.submit(|| ()));
    assert_all_at_rest(&other);
}

// ── without room ────────────────────────────────────────────────────────────────────────────────

/// `Reject`: refused only where no pool has room, also in their backlogs.
#[test]
fn reject_refuses_where_no_pool_has_room() {
    for balance in BALANCES {
        let (held, pools) = two_held(balance, Overflow::Reject);
        expect_accepted(pools.submit(|| ()));
        expect_accepted(pools.submit(|| ()));
        assert_eq!(refusal(pools.submit(|| ())), SubmitErrorKind::Full);
        assert_eq!(
            pools.spawn(|| ()).unwrap_err().kind(),
            SubmitErrorKind::Full
        );
        assert_eq!(pools.waiting(), 0);
        held[1].open();
        eventually_eq("places free", 1, || pools.free());
        expect_accepted(pools.submit(|| ()));
        drop(held);
        assert_all_at_rest(&pools);
        assert_eq!((pools.stats().completed, pools.stats().rejected), (5, 2));
    }
}

/// `CallerRuns`: the submitter runs it where no pool has room, as a task of one that is not paused; while all are
/// paused it waits.
#[test]
fn caller_runs_runs_here() {
    for balance in BALANCES {
        let (held, pools) = two_held(balance, Overflow::CallerRuns);
        expect_accepted(pools.submit(|| ()));
        expect_accepted(pools.submit(|| ()));
        let me = thread::current().id();
        for paused in 0..2 {
            shard(&pools, paused).tune(0);
            let here = pools.spawn(move || {
                let of = PoolHandle::current().expect("a task of a pool");
                (thread::current().id(), of.capacity())
            });
            assert_eq!(here.unwrap().join().unwrap(), (me, 1));
            expect_accepted(pools.submit(|| panic!("on purpose")));
            shard(&pools, paused).tune(1);
        }
        pools.tune(0);
        let ran = Arrivals::new();
        thread::scope(|scope| {
            let (pools, runs) = (&pools, ran.clone());
            scope.spawn(move || expect_accepted(pools.submit(move || runs.arrive())));
            eventually_eq("submitters waiting", 1, || pools.waiting());
            assert_eq!(ran.count(), 0);
            drop(held);
            pools.tune(1);
        });
        ran.wait_for(1);
        assert_all_at_rest(&pools);
        assert_eq!((pools.stats().completed, pools.stats().panicked), (7, 2));
    }
}

/// `DropOldest`: a task that no worker has taken makes room, wherever it is.
#[test]
fn drop_oldest_drops_one_where_there_is_one() {
    for balance in BALANCES {
        for queued in 0..2 {
            let (held, pools) = two_held(balance, Overflow::DropOldest);
            let dropped = Arrivals::new();
            let captured = DropCounter(dropped.clone());
            expect_accepted(shard(&pools, queued).try_submit(move || drop(captured)));
            // The other one's backlog takes the first, and one is dropped for each of the others.
            let ran = Arrivals::new();
            for _ in 0..3 {
                let ran = ran.clone();
                expect_accepted(pools.submit(move || ran.arrive()));
            }
            assert_eq!((pools.waiting(), pools.queued()), (0, 2));
            assert_eq!(pools.stats().discarded, 2);
            drop(held);
            assert_all_at_rest(&pools);
            assert_eq!(dropped.count(), 1, "it ran, or was dropped");
            assert!((1..=2).contains(&ran.count()));
            assert_eq!(pools.stats().completed, 4);
        }
    }
}

/// Four tasks hold two workers' places and backlogs, and all of them run: nothing can be dropped.
fn two_full_of_what_runs(overflow: Overflow) -> (Vec<OpensOnDrop>, MultiPool) {
    let builder = MultiPool::builder(2, Balance::RoundRobin).capacity(2);
    let pools = builder.backlog(1).overflow(overflow).build().unwrap();
    let held = (pools.shards().chain(pools.shards())).map(hold).collect();
    pools.tune(1);
    (held, pools)
}

/// `DropOldest` where there is nothing to drop: the submitter waits, and whichever pool has room takes it.
#[test]
fn drop_oldest_waits_for_any_pool_where_all_run() {
    for free in 0..2 {
        let (held, pools) = two_full_of_what_runs(Overflow::DropOldest);
        let ran = Arrivals::new();
        thread::scope(|scope| {
            let (pools, runs) = (&pools, ran.clone());
            scope.spawn(move || expect_accepted(pools.submit(move || runs.arrive())));
            eventually_eq("submitters waiting", 1, || pools.waiting());
            // Both of its tasks: one leaves a place in the backlog, the other the worker.
            held[free].open();
            held[free + 2].open();
            ran.wait_for(1);
        });
        drop(held);
        assert_all_at_rest(&pools);
        assert_eq!(pools.stats().discarded, 0);
    }
}

/// `DropOldest`: what a closed pool has still to run is not for those who submit to the others.
#[test]
fn drop_oldest_leaves_a_closed_pool_alone() {
    watchdog("the submit", || {
        let (held, pools) = two_full_of_what_runs(Overflow::DropOldest);
        shard(&pools, 1).tune(2);
        expect_accepted(shard(&pools, 1).try_submit(|| ()));
        shard(&pools, 1).release();
        let ran = Arrivals::new();
        thread::scope(|scope| {
            let (pools, runs) = (&pools, ran.clone());
            scope.spawn(move || expect_accepted(pools.submit(move || runs.arrive())));
            eventually_eq("submitters waiting", 1, || pools.waiting());
            held[0].open();
            held[2].open();
            ran.wait_for(1);
        });
        drop(held);
        assert!(pools.wait_idle_timeout(DEADLINE));
        let stats = pools.stats();
        assert_eq!((stats.completed, stats.discarded), (6, 0));
    });
}

/// F2: who waits is not overtaken by one that drops a task: the place of the first that is dropped goes to the line,
/// which is not that of the pool that drops it.
#[test]
fn drop_oldest_lets_those_in_first_who_wait() {
    let builder = MultiPool::builder(2, Balance::RoundRobin).capacity(2);
    let builder = builder.backlog(1).overflow(Overflow::DropOldest);
    let pools = builder.build().unwrap();
    // The first pool is full of what runs: only the second has something to drop.
    let held = [0, 0, 1].map(|at| hold(shard(&pools, at)));
    pools.tune(1);
    expect_accepted(shard(&pools, 1).try_submit(|| ()));
    thread::scope(|scope| {
        let waits = || expect_accepted(pools.submit_timeout(|| (), Duration::MAX));
        let waits = scope.spawn(waits);
        eventually_eq("submitters waiting", 1, || pools.waiting());
        expect_accepted(pools.submit(|| ()));
        eventually("the other one was let in", || waits.is_finished());
    });
    assert_eq!(pools.stats().discarded, 2);
    drop(held);
    assert_all_at_rest(&pools);
}

/// `max_waiting` bounds the one line, and not that of each pool.
#[test]
fn max_waiting_bounds_the_one_line() {
    let builder = MultiPool::builder(3, Balance::RoundRobin).capacity(1);
    let pools = builder.max_waiting(1).build().unwrap();
    let held: Vec<_> = pools.shards().map(hold).collect();
    thread::scope(|scope| {
        scope.spawn(|| expect_accepted(pools.submit(|| ())));
        eventually_eq("submitters waiting", 1, || pools.waiting());
        for _ in 0..3 {
            let kind = refusal(pools.submit(|| ()));
            assert_eq!(kind, SubmitErrorKind::TooManyWaiting);
        }
        held[1].open();
    });
    drop(held);
    assert_all_at_rest(&pools);
}

/// Whatever a submit does without room, with threads, resizes and time-outs at once: each argument runs once, comes
/// back or is dropped by the pool that counts it, and the books balance.
#[test]
fn policies_survive_a_storm() {
    /// What becomes of an argument that does not come back.
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let mut rng = seeded_rng("policies_survive_a_storm");
    for overflow in [
        Overflow::Block,
        Overflow::Reject,
        Overflow::CallerRuns,
        Overflow::DropOldest,
    ] {
        for balance in BALANCES {
            let (ran, dropped) = (Arrivals::new(), Arc::new(AtomicUsize::new(0)));
            let runs = ran.clone();
            let pools = MultiFuncPool::builder(3, balance, move |_: Counted| {
                runs.arrive();
                thread::yield_now();
            });
            let pools = pools.capacity(1).backlog(2).overflow(overflow);
            let pools = pools.build().unwrap();
            let back = Mutex::new(0);
            let seeds: Vec<u64> = (0..3).map(|_| rng.random()).collect();
            thread::scope(|scope| {
                for seed in seeds {
                    let (pools, dropped, back) = (&pools, &dropped, &back);
                    scope.spawn(move || {
                        let mut rng = StdRng::seed_from_u64(seed);
                        for _ in 0..400 {
                            let argument = Counted(Arc::clone(dropped));
                            let refused = match rng.random_range(0..8) {
                                0 => pools.try_invoke(argument),
                                1 => {
                                    let limit = Duration::from_micros(rng.random_range(0..500));
                                    pools.invoke_timeout(argument, limit)
                                }
                                2 => {
                                    pools.tune(rng.random_range(1..3));
                                    pools.invoke(argument)
                                }
                                _ => pools.invoke(argument),
                            };
                            *back.lock().unwrap() += usize::from(refused.is_err());
                        }
                    });
                }
            });
            assert_all_at_rest(&pools);
            let (stats, back) = (pools.stats(), back.into_inner().unwrap());
            let discarded = usize::try_from(stats.discarded).unwrap();
            assert_eq!(ran.count() + discarded + back, 1_200, "{stats:?}");
            assert_eq!(dropped.load(Ordering::SeqCst), 1_200);
            assert!(overflow == Overflow::DropOldest || discarded == 0);
        }
    }
}

// ── of one function ─────────────────────────────────────────────────────────────────────────────

/// Each call runs the function with its own argument, once, on whichever pool.
#[test]
fn the_function_is_called_with_each_argument() {
    for balance in BALANCES {
        let sum = Arc::new(AtomicUsize::new(0));
        let adds = Arc::clone(&sum);
        let pools = MultiFuncPool::new(3, 1, balance, move |number: usize| {
            adds.fetch_add(number, Ordering::SeqCst);
        });
        assert_eq!((pools.workers(), pools.capacity()), (0, 3));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for number in 1..=200 {
                        match number % 3 {
                            0 => pools.invoke(number).unwrap(),
                            1 => pools.invoke_timeout(number, Duration::MAX).unwrap(),
                            _ => {
                                let mut left = Some(number);
                                while let Some(argument) = left.take() {
                                    left = (pools.try_invoke(argument).err())
                                        .map(SubmitError::into_inner);
                                }
                            }
                        }
                    }
                });
            }
        });
        pools.wait_idle();
        assert_eq!(sum.load(Ordering::SeqCst), 3 * 200 * 201 / 2);
        assert_eq!(pools.stats().completed, 600);
        assert_all_at_rest(&pools);
    }
}

/// Whatever the reason, the argument of a refused call comes back whole.
#[test]
fn a_refused_argument_comes_back() {
    let (begun, gate) = (Arrivals::new(), Gate::new());
    let (begins, inside) = (begun.clone(), gate.clone());
    let pools = MultiFuncPool::builder(2, Balance::RoundRobin, move |_: Vec<u8>| {
        begins.arrive();
        inside.wait();
    });
    let pools = pools.capacity(1).max_waiting(0).build().unwrap();
    let gate = gate.opened_on_drop();
    pools.invoke(vec![0]).unwrap();
    pools.invoke(vec![0]).unwrap();
    begun.wait_for(2);

    let refused = pools.try_invoke(vec![1, 2]).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::Full);
    let refused = pools.invoke(refused.into_inner()).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::TooManyWaiting);
    pools.release();
    let refused = pools.invoke(refused.into_inner()).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::Closed);
    assert_eq!(refused.into_inner(), [1, 2]);
    assert_eq!(pools.stats().rejected, 3);
    gate.open();

    let paused = MultiFuncPool::new(2, 0, Balance::LeastLoaded, |_: String| ());
    let refused = paused.invoke_timeout(String::from("late"), Duration::from_millis(5));
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::TimedOut);
    assert_eq!(
        (refused.into_inner().as_str(), paused.waiting()),
        ("late", 0)
    );
}

/// A full pool never holds a caller while another has room: whichever is free first takes the call.
#[test]
fn whichever_pool_has_room_takes_the_call() {
    for balance in BALANCES {
        for free in 0..3 {
            let (sender, receiver) = channel();
            let pools = MultiFuncPool::new(3, 1, balance, move |number: u32| {
                let name = thread::current().name().map(str::to_owned);
                sender.send((number, name.unwrap())).unwrap();
            });
            let held: Vec<_> = pools.shards().map(hold).collect();
            thread::scope(|scope| {
                scope.spawn(|| pools.invoke(7).unwrap());
                eventually_eq("callers waiting", 1, || pools.waiting());
                held[free].open();
                let (number, name) = receive("the call", &receiver);
                assert_eq!(number, 7);
                assert!(name.starts_with(&format!("anthill-{free}-")), "{name}");
            });
            drop(held);
            assert_all_at_rest(&pools);
        }
    }
}

/// It is a `MultiPool` in all else.
#[test]
fn it_is_a_multi_pool_in_all_else() {
    fn assert_both<T: Send + Sync + UnwindSafe + RefUnwindSafe>(_: &T) {}
    let seen = Log::new();
    let log = seen.clone();
    let pools = MultiFuncPool::new(2, 1, Balance::LeastLoaded, move |n: u8| log.push(n));
    assert_eq!(pools.spawn(|| 3).unwrap().join().unwrap(), 3);
    assert_eq!((pools.tune(2), pools.capacity()), (1, 4));
    pools.invoke(1).unwrap();
    pools.wait_idle();
    assert!(pools.wait_idle_timeout(Duration::ZERO));
    pools.release_timeout(DEADLINE).unwrap();
    assert!(pools.is_closed());
    assert_eq!(pools.invoke(2).unwrap_err().into_inner(), 2);
    pools.reboot();
    pools.invoke(3).unwrap();
    assert_all_at_rest(&pools);
    assert_eq!(seen.entries(), [1, 3]);
    assert!(format!("{pools:?}").starts_with("MultiFuncPool"));
    assert_both(&pools);
}

/// The function may call itself by its own pools: it never waits there.
#[test]
fn the_function_may_call_itself() {
    let cell: Arc<OnceLock<Weak<MultiFuncPool<u32>>>> = Arc::default();
    let (inner, ran) = (Arc::clone(&cell), Arrivals::new());
    let runs = ran.clone();
    let pools = MultiFuncPool::new(2, 1, Balance::RoundRobin, move |number: u32| {
        runs.arrive();
        let pools = inner.get().and_then(Weak::upgrade);
        let pools = pools.expect("they live while this runs");
        if number > 0 {
            pools.invoke(number - 1).unwrap();
        }
    });
    let pools = Arc::new(pools);
    assert!(cell.set(Arc::downgrade(&pools)).is_ok());
    pools.invoke(1_000).unwrap();
    watchdog("a function that calls itself", move || {
        ran.wait_for(1_001);
        assert_all_at_rest(&pools);
    });
}

/// Dropped, they run what was accepted and join; then the function is gone, and not before.
#[test]
fn dropping_it_runs_what_was_accepted_and_joins() {
    let (ran, dropped) = (Arrivals::new(), Arrivals::new());
    let (runs, captured) = (ran.clone(), DropCounter(dropped.clone()));
    let pools = MultiFuncPool::builder(3, Balance::LeastLoaded, move |_: Box<u64>| {
        assert_eq!(captured.0.count(), 0);
        runs.arrive();
    });
    let pools = pools.capacity(1).unbounded_backlog().build().unwrap();
    for number in 0..60 {
        pools.invoke(Box::new(number)).unwrap();
    }
    drop(pools);
    assert_eq!((ran.count(), dropped.count()), (60, 1));
}

/// Dropped on a worker, where nobody waits for them, they run what was accepted all the same: the function is there until
/// the last call has ended, whichever pool runs it.
#[test]
fn dropped_on_a_worker_the_function_outlives_its_calls() {
    let (ran, dropped, gate) = (Arrivals::new(), Arrivals::new(), Gate::new());
    let (runs, captured, inside) = (ran.clone(), DropCounter(dropped.clone()), gate.clone());
    let pools = MultiFuncPool::builder(2, Balance::RoundRobin, move |()| {
        let _ = &captured;
        inside.wait();
        runs.arrive();
    });
    let pools = pools.capacity(1).backlog(1).build().unwrap();
    for _ in 0..4 {
        pools.invoke(()).unwrap();
    }
    let gate = gate.opened_on_drop();
    let other = Pool::with_capacity(1);
    let dropping = other.spawn(move || drop(pools)).unwrap();
    watchdog("the drop does not wait", move || dropping.join().unwrap());
    assert_eq!(dropped.count(), 0);
    gate.open();
    ran.wait_for(4);
    dropped.wait_for(1);
}

/// `release_now` drops the arguments that no worker has taken, in all pools.
#[test]
fn release_now_drops_the_arguments() {
    let dropped = Arrivals::new();
    let pools = MultiFuncPool::builder(2, Balance::RoundRobin, |_: DropCounter| unreachable!());
    let pools = pools.capacity(0).backlog(3).build().unwrap();
    for _ in 0..6 {
        pools.invoke(DropCounter(dropped.clone())).unwrap();
    }
    assert_eq!((pools.release_now(), dropped.count()), (6, 6));
    assert_eq!(pools.stats().discarded, 6);
}
