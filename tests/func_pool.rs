//! `FuncPool`: a pool of one function, to which only arguments are handed in. A refused one comes back,
//! and the function lives exactly as long as somebody may call it.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anthill::{
    BuildError, FuncHandle, FuncPool, Overflow, Pool, PoolHandle, SubmitError, SubmitErrorKind,
};
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, assert_at_rest, eventually, eventually_eq, receive,
    watchdog,
};

/// A pool whose function waits at a gate for the argument 0, and logs each argument.
fn gated(pool: impl FnOnce(Box<dyn Fn(u32) + Send + Sync>) -> FuncPool<u32>) -> Gated {
    let (gate, begun, seen) = (Gate::new(), Arrivals::new(), Log::new());
    let (inside, begins, log) = (gate.clone(), begun.clone(), seen.clone());
    let pool = pool(Box::new(move |argument| {
        begins.arrive();
        if argument == 0 {
            inside.wait();
        }
        log.push(argument);
        assert!(argument != 13, "on purpose");
    }));
    Gated {
        pool,
        gate: gate.opened_on_drop(),
        begun,
        seen,
    }
}

/// Dropped from the last field on, so that the pool's drop can join.
struct Gated {
    seen: Log<u32>,
    begun: Arrivals,
    gate: support::OpensOnDrop,
    pool: FuncPool<u32>,
}

fn with_policy(overflow: Overflow) -> Gated {
    gated(|f| {
        FuncPool::builder(f)
            .capacity(1)
            .backlog(1)
            .overflow(overflow)
            .max_waiting(1)
            .panic_handler(|_| {})
            .build()
            .unwrap()
    })
}

impl Gated {
    /// One call that runs, and one in the backlog.
    #[track_caller]
    fn fill(&self) {
        self.pool.invoke(0).unwrap();
        self.begun.wait_for(1);
        self.pool.try_invoke(1).unwrap();
    }

    #[track_caller]
    fn end(&self) -> Vec<u32> {
        self.gate.open();
        assert!(self.pool.wait_idle_timeout(DEADLINE));
        assert_at_rest(&self.pool);
        assert_eq!(self.pool.free(), self.pool.capacity());
        self.seen.entries()
    }
}

/// Each call runs the function with its own argument, once.
#[test]
fn the_function_is_called_with_each_argument() {
    let sum = Arc::new(AtomicUsize::new(0));
    let adds = Arc::clone(&sum);
    let pool = FuncPool::with_capacity(3, move |number: usize| {
        adds.fetch_add(number, Ordering::SeqCst);
    });
    assert_eq!((pool.workers(), pool.capacity()), (0, 3));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for number in 1..=200 {
                    match number % 3 {
                        0 => pool.invoke(number).unwrap(),
                        1 => pool.invoke_timeout(number, Duration::MAX).unwrap(),
                        _ => {
                            let mut left = Some(number);
                            while let Some(argument) = left.take() {
                                left = pool.try_invoke(argument).err().map(SubmitError::into_inner);
                            }
                        }
                    }
                }
            });
        }
    });
    pool.wait_idle();
    assert_eq!(sum.load(Ordering::SeqCst), 3 * 200 * 201 / 2);
    assert_eq!(pool.stats().completed, 600);
    assert_at_rest(&pool);
}

/// Whatever the reason, the argument of a refused call comes back whole.
#[test]
fn a_refused_argument_comes_back() {
    let (begun, gate) = (Arrivals::new(), Gate::new());
    let (begins, inside) = (begun.clone(), gate.clone());
    let pool = FuncPool::builder(move |_: Vec<u8>| {
        begins.arrive();
        inside.wait();
    })
    .capacity(1)
    .max_waiting(0)
    .build()
    .unwrap();
    let gate = gate.opened_on_drop();
    pool.invoke(vec![0]).unwrap();
    begun.wait_for(1);

    let refused = pool.try_invoke(vec![1, 2]).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::Full);
    let refused = pool.invoke(refused.into_inner()).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::TooManyWaiting);
    pool.release();
    let refused = pool.invoke(refused.into_inner()).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::Closed);
    assert_eq!(refused.into_inner(), [1, 2]);
    assert_eq!(pool.stats().rejected, 3);
    gate.open();

    let paused = FuncPool::with_capacity(0, |_: String| ());
    let refused = paused
        .invoke_timeout(String::from("late"), Duration::from_millis(5))
        .unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::TimedOut);
    assert_eq!(refused.into_inner(), "late");
    assert_eq!(paused.waiting(), 0);
}

/// `Block`: the call waits for room.
#[test]
fn block_waits() {
    let full = with_policy(Overflow::Block);
    full.fill();
    thread::scope(|scope| {
        scope.spawn(|| full.pool.invoke(2).unwrap());
        eventually_eq("submitters waiting", 1, || full.pool.waiting());
        let kind = full.pool.invoke(3).unwrap_err().kind();
        assert_eq!(kind, SubmitErrorKind::TooManyWaiting);
        full.gate.open();
    });
    assert_eq!(full.end(), [0, 1, 2]);
}

/// `Reject`: it fails.
#[test]
fn reject_refuses() {
    let full = with_policy(Overflow::Reject);
    full.fill();
    let refused = full.pool.invoke(2).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.into_inner()),
        (SubmitErrorKind::Full, 2)
    );
    assert_eq!(full.end(), [0, 1]);
}

/// `CallerRuns`: the caller calls the function, and survives its panic.
#[test]
fn caller_runs_calls_here() {
    let full = with_policy(Overflow::CallerRuns);
    full.fill();
    full.pool.invoke(2).unwrap();
    assert_eq!(full.seen.entries(), [2]);
    full.pool.invoke(13).unwrap();
    assert_eq!(full.end(), [2, 13, 0, 1]);
    let stats = full.pool.stats();
    assert_eq!((stats.completed, stats.panicked), (3, 1));
}

/// `DropOldest`: the oldest argument makes room.
#[test]
fn drop_oldest_drops_an_argument() {
    let full = with_policy(Overflow::DropOldest);
    full.fill();
    full.pool.invoke(2).unwrap();
    full.pool.invoke(3).unwrap();
    assert_eq!(full.end(), [0, 3]);
    assert_eq!(full.pool.stats().discarded, 2);
}

/// A panic costs one call; the worker and the function live on.
#[test]
fn a_panic_costs_one_call() {
    let (sender, receiver) = channel();
    let pool = FuncPool::builder(|number: u32| assert!(number != 2, "no {number}"))
        .capacity(1)
        .panic_handler(move |panic| sender.send(panic.message().map(str::to_owned)).unwrap())
        .build()
        .unwrap();
    for number in 0..4 {
        pool.invoke(number).unwrap();
    }
    let told = receive("the handler is told", &receiver);
    assert_eq!(told.as_deref(), Some("no 2"));
    pool.wait_idle();
    let stats = pool.stats();
    assert_eq!(
        (stats.completed, stats.panicked, stats.workers_started),
        (3, 1, 1)
    );
}

/// A builder's options hold for such a pool, too; its contradictions are errors, and then the function
/// is dropped.
#[test]
fn a_builder_says_how_it_is_to_be() {
    let (sender, receiver) = channel();
    let pool = FuncPool::builder(move |()| {
        let name = thread::current().name().map(str::to_owned);
        sender.send(name).unwrap();
    })
    .capacity(2)
    .min_workers(1)
    .name("caller")
    .stack_size(256 << 10)
    .unbounded_backlog()
    .build()
    .unwrap();
    assert_eq!((pool.workers(), pool.capacity()), (1, 2));
    pool.tune(0);
    for _ in 0..100 {
        pool.try_invoke(()).unwrap();
    }
    assert_eq!(pool.queued(), 100);
    pool.tune(2);
    let name = receive("a call", &receiver);
    assert!(name.is_some_and(|name| name.starts_with("caller-")));

    let dropped = Arrivals::new();
    let captured = DropCounter(dropped.clone());
    let refused = FuncPool::builder(move |()| captured.0.arrive())
        .capacity(1)
        .min_workers(2)
        .build();
    let error = refused.map(drop).unwrap_err();
    assert!(matches!(error, BuildError::MinWorkersAboveCapacity { .. }));
    dropped.wait_for(1);
}

/// One builder may build several pools; the function is theirs together.
#[test]
fn a_builder_may_be_cloned() {
    let (seen, dropped) = (Log::new(), Arrivals::new());
    let (log, captured) = (seen.clone(), DropCounter(dropped.clone()));
    let builder = FuncPool::builder(move |number: u32| {
        let _ = &captured;
        log.push(number);
    })
    .capacity(1);
    let (one, other) = (builder.clone().build().unwrap(), builder.build().unwrap());
    one.invoke(1).unwrap();
    one.wait_idle();
    drop(one);
    assert_eq!(dropped.count(), 0);
    other.invoke(2).unwrap();
    drop(other);
    assert_eq!((seen.entries(), dropped.count()), (vec![1, 2], 1));
}

/// The function may use its own pool through a handle: to call itself, it never waits.
#[test]
fn the_function_may_call_itself() {
    let cell: Arc<OnceLock<FuncHandle<u32>>> = Arc::default();
    let (inner, seen) = (Arc::clone(&cell), Log::new());
    let log = seen.clone();
    let pool = FuncPool::with_capacity(1, move |number: u32| {
        log.push(number);
        let me = inner.get().expect("set before the first call");
        assert_eq!(
            PoolHandle::current().expect("in a task").capacity(),
            me.capacity()
        );
        if number > 0 {
            assert_eq!(
                me.try_invoke(number).unwrap_err().kind(),
                SubmitErrorKind::Full
            );
            me.invoke(number - 1).unwrap();
        }
    });
    assert!(cell.set(pool.handle()).is_ok());
    pool.invoke(1_000).unwrap();
    watchdog("a function that calls itself", move || {
        assert!(pool.wait_idle_timeout(DEADLINE));
        assert_eq!((pool.stats().completed, pool.stats().panicked), (1_001, 0));
        assert_at_rest(&pool);
    });
    assert!(seen.entries().into_iter().eq((0..=1_000).rev()));
}

/// All that a pool can do it can do as well: tasks of another kind, shares, maps.
#[test]
fn it_is_a_pool_in_all_else() {
    let pool = FuncPool::with_capacity(2, |_: u8| ());
    assert_eq!(pool.spawn(|| 3).unwrap().join().unwrap(), 3);
    assert_eq!(pool.map(0..10, |n| n + 1).sum::<i32>(), 55);
    pool.serial().submit(|| ()).unwrap();
    pool.invoke(1).unwrap();
    assert!(format!("{pool:?} {:?}", pool.handle()).contains("FuncHandle"));
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// Dropping the pool runs what was accepted, joins, and then the function is gone.
#[test]
fn dropping_it_runs_what_was_accepted_and_joins() {
    let (ran, dropped) = (Arrivals::new(), Arrivals::new());
    let (runs, captured) = (ran.clone(), DropCounter(dropped.clone()));
    let pool = FuncPool::builder(move |_: Box<u64>| {
        let _ = &captured;
        thread::yield_now();
        runs.arrive();
    })
    .capacity(2)
    .unbounded_backlog()
    .build()
    .unwrap();
    for number in 0..100 {
        pool.invoke(Box::new(number)).unwrap();
    }
    drop(pool);
    assert_eq!((ran.count(), dropped.count()), (100, 1));
}

/// A handle keeps the function alive and not the pool open; a detached pool ends with its last handle.
#[test]
fn handles_do_not_keep_it_open() {
    let dropped = Arrivals::new();
    let captured = DropCounter(dropped.clone());
    let pool = FuncPool::with_capacity(1, move |_: u32| {
        let _ = &captured;
    });
    let handle = pool.handle().clone();
    drop(pool);
    let refused = handle.invoke(4).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.into_inner()),
        (SubmitErrorKind::Closed, 4)
    );
    assert_eq!(dropped.count(), 0);
    drop(handle);
    dropped.wait_for(1);

    let (ran, dropped) = (Arrivals::new(), Arrivals::new());
    let (runs, captured) = (ran.clone(), DropCounter(dropped.clone()));
    let detached = FuncPool::with_capacity(1, move |_: u32| {
        let _ = &captured;
        runs.arrive();
    })
    .detach();
    detached.invoke(1).unwrap();
    drop(detached);
    ran.wait_for(1);
    dropped.wait_for(1);
    assert_eq!((ran.count(), dropped.count()), (1, 1));
}

/// `release_now` drops the arguments that nobody took.
#[test]
fn release_now_drops_the_arguments() {
    let dropped = Arrivals::new();
    let pool = FuncPool::builder(|_: DropCounter| ())
        .capacity(0)
        .backlog(10)
        .build()
        .unwrap();
    for _ in 0..5 {
        pool.invoke(DropCounter(dropped.clone())).unwrap();
    }
    assert_eq!(pool.release_now(), 5);
    assert_eq!((dropped.count(), pool.stats().discarded), (5, 5));
    pool.reboot();
    pool.tune(1);
    pool.invoke(DropCounter(dropped.clone())).unwrap();
    pool.wait_idle();
    assert_eq!(dropped.count(), 6);
    assert_at_rest(&pool);
}

/// A panic in the drop of what the function captured is caught, wherever its last owner is.
#[test]
fn a_panic_in_the_drop_of_the_function_is_caught() {
    struct Bad(Arrivals);
    impl Drop for Bad {
        fn drop(&mut self) {
            self.0.arrive();
            panic!("on purpose, in the drop of what the function captured");
        }
    }

    let dropped = Arrivals::new();
    let bad = Bad(dropped.clone());
    let pool = FuncPool::with_capacity(1, move |_: u32| {
        let _ = &bad;
    });
    pool.invoke(1).unwrap();
    pool.wait_idle();
    let drops = thread::spawn(move || drop(pool));
    assert!(drops.join().is_ok(), "the drop of the pool panicked");
    assert_eq!(dropped.count(), 1);

    let bad = Bad(dropped.clone());
    let handle = FuncPool::with_capacity(1, move |_: u32| {
        let _ = &bad;
    })
    .detach();
    handle.invoke(1).unwrap();
    let drops = thread::spawn(move || drop(handle));
    assert!(drops.join().is_ok(), "the drop of the last handle panicked");
    dropped.wait_for(2);
}

/// An argument may be of any size and alignment, and is dropped once where it panics.
#[test]
fn arguments_of_any_shape_arrive_whole() {
    #[repr(align(128))]
    struct Aligned([u8; 128], DropCounter);

    let dropped = Arrivals::new();
    let pool = FuncPool::builder(|argument: Aligned| {
        assert_eq!((&raw const argument).addr() % 128, 0);
        assert!(argument.0.iter().all(|&byte| byte == argument.0[0]));
        assert!(argument.0[0] != 3, "on purpose");
        drop(argument.1);
    })
    .capacity(2)
    .panic_handler(|_| {})
    .build()
    .unwrap();
    for byte in 0..10 {
        let counter = DropCounter(dropped.clone());
        pool.invoke(Aligned([byte; 128], counter)).unwrap();
    }
    pool.wait_idle();
    eventually("all are dropped", || dropped.count() == 10);
    assert_eq!(pool.stats().panicked, 1);

    let units = FuncPool::with_capacity(1, |()| ());
    units.invoke(()).unwrap();
    drop(units);
    let plain: Pool = Pool::with_capacity(1);
    drop(plain);
}
