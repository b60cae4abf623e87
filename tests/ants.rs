//! The behaviours that ants tests in its own suite, asked of anthill.
//!
//! Each test says which behaviour of ants (<https://github.com/panjf2000/ants>, v2) it mirrors, by
//! the name of ants' own test, and where anthill differs on purpose. The programs are written
//! afresh: sizes are those of threads and not of goroutines, and each wait is for an event with a
//! deadline where ants' suite sleeps.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anthill::{
    Balance, BuildError, MultiFuncPool, MultiPool, Overflow, Pool, PoolHandle, StopSource,
    SubmitErrorKind, TaskPanic,
};

use support::{
    Arrivals, DEADLINE, Gate, Log, Running, assert_at_rest, eventually, eventually_eq,
    eventually_waiting, expect_accepted, occupy, receive, refusal, watchdog,
};

/// An idle timeout that a test can wait out.
const SHORT: Duration = Duration::from_millis(50);

/// The sum of 0 to 999, which ants' examples compute with a thousand tasks.
const SUM: usize = 499_500;

/// Adds up 0 to 999, a task for each number.
fn sum_of_a_thousand(pool: &PoolHandle) -> usize {
    let sum = Arc::new(AtomicUsize::new(0));
    for number in 0..1_000 {
        let sum = Arc::clone(&sum);
        expect_accepted(pool.submit(move || {
            sum.fetch_add(number, Ordering::Relaxed);
        }));
    }
    assert_idle(pool);
    sum.load(Ordering::Relaxed)
}

/// Waits until the pool is idle.
#[track_caller]
fn assert_idle(pool: &PoolHandle) {
    assert!(pool.wait_idle_timeout(DEADLINE), "the pool became idle");
}

/// Submits a task and waits until it has run.
#[track_caller]
fn runs_a_task(pool: &PoolHandle) {
    let (done, ran) = channel();
    expect_accepted(pool.submit(move || done.send(()).expect("the test waits for this")));
    receive("the task ran", &ran);
}

/// The default pool, open, and the turn of the caller with it: there is one for the process, so
/// that tests which close it must not meet.
fn default_pool() -> (MutexGuard<'static, ()>, &'static PoolHandle) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = anthill::global();
    pool.reboot();
    (turn, pool)
}

// Submitting and waiting.

/// ants: with more tasks than workers the submitter waits for one, and every task runs
/// (`TestAntsPoolWaitToGetWorker`, also `…PreMalloc`). Here the tasks count themselves, too.
#[test]
fn with_more_tasks_than_workers_submit_waits_and_all_run() {
    const CAPACITY: usize = 50;
    let pool = Pool::with_capacity(CAPACITY);
    let inside = Running::new();
    let gate = Gate::new().opened_on_drop();
    for _ in 0..CAPACITY {
        let (inside, gate) = (inside.clone(), gate.clone());
        expect_accepted(pool.submit(move || {
            let _inside = inside.enter();
            gate.wait();
        }));
    }
    let submitter = {
        let (pool, inside) = (pool.handle(), inside.clone());
        thread::spawn(move || {
            for _ in 0..1_000 {
                let inside = inside.clone();
                expect_accepted(pool.submit(move || {
                    let _inside = inside.enter();
                    thread::yield_now();
                }));
            }
        })
    };
    eventually_waiting(&pool, 1);
    eventually_eq("as many tasks as workers run", CAPACITY, || inside.now());
    assert_eq!(
        pool.stats().submitted,
        50,
        "the one that waits is not accepted"
    );
    gate.open();
    watchdog("the submitter gets all its tasks in", move || {
        submitter.join().expect("the submitter did not panic");
    });
    assert_idle(&pool);
    assert_eq!(pool.stats().completed, 1_050);
    assert_eq!(inside.peak(), CAPACITY, "most tasks at once");
    assert!(pool.stats().workers_peak <= 50, "{:?}", pool.stats());
    assert_at_rest(&pool);
}

/// ants: any number of goroutines may submit to one pool at a time
/// (`BenchmarkParallelAntsPoolThroughput`).
#[test]
fn many_submitters_share_one_pool() {
    const SUBMITTERS: usize = 8;
    let pool = Pool::with_capacity(16);
    let inside = Running::new();
    let start = Arc::new(Barrier::new(SUBMITTERS));
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|_| {
            let (pool, inside, start) = (pool.handle(), inside.clone(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                for _ in 0..250 {
                    let inside = inside.clone();
                    expect_accepted(pool.submit(move || {
                        let _inside = inside.enter();
                    }));
                }
            })
        })
        .collect();
    watchdog("the submitters get all their tasks in", move || {
        for submitter in submitters {
            submitter.join().expect("no submitter panicked");
        }
    });
    assert_idle(&pool);
    assert_eq!(pool.stats().completed, 2_000);
    assert!(inside.peak() <= 16, "{} tasks at once", inside.peak());
    assert_at_rest(&pool);
}

/// ants: a pool of its own gives the right sum (`ExamplePool`).
#[test]
fn a_thousand_tasks_on_ten_workers_give_the_right_sum() {
    let pool = Pool::with_capacity(10);
    assert_eq!(sum_of_a_thousand(&pool), SUM);
    assert_at_rest(&pool);
}

/// ants: a nonblocking submit succeeds while there is room, fails at once when there is none, and
/// succeeds again once a task has ended (`TestNonblockingSubmit`). There it is an option of the
/// pool, here a method.
#[test]
fn try_submit_fails_only_when_the_pool_is_full() {
    let pool = Pool::with_capacity(10);
    let long = Gate::new().opened_on_drop();
    for _ in 0..9 {
        let long = long.clone();
        expect_accepted(pool.try_submit(move || long.wait()));
    }
    let short = Gate::new().opened_on_drop();
    {
        let short = short.clone();
        expect_accepted(pool.try_submit(move || short.wait()));
    }
    assert_eq!(refusal(pool.try_submit(|| ())), SubmitErrorKind::Full);
    assert_eq!(pool.stats().rejected, 1);
    short.open();
    eventually("the task that ended leaves its place", || {
        pool.try_submit(|| ()).is_ok()
    });
    long.open();
    assert_idle(&pool);
    assert_eq!(pool.stats().completed, 11);
    assert_at_rest(&pool);
}

/// ants: with `MaxBlockingTasks` 1 one submitter may wait; the next one fails at once, and the one
/// that waits gets its task in when a worker is free (`TestMaxBlockingSubmit`).
#[test]
fn beyond_max_waiting_a_submitter_is_refused_and_who_waits_is_served() {
    let pool = Pool::builder()
        .capacity(10)
        .max_waiting(1)
        .build()
        .expect("the options agree");
    let others = occupy(&pool, 9);
    let one = occupy(&pool, 1);
    let (accepted, outcome) = channel();
    {
        let pool = pool.handle();
        thread::spawn(move || {
            let result = pool.submit(|| ()).map_err(|error| error.kind());
            accepted.send(result).expect("the test waits for this");
        });
    }
    eventually_waiting(&pool, 1);
    assert_eq!(
        refusal(pool.submit(|| ())),
        SubmitErrorKind::TooManyWaiting,
        "a second one may not wait"
    );
    assert!(outcome.try_recv().is_err(), "the first one still waits");
    one.end();
    assert_eq!(receive("the waiting submit returned", &outcome), Ok(()));
    others.end();
    assert_idle(&pool);
    assert_at_rest(&pool);
}

/// ants: a task may submit to its own pool, but with no worker left that blocks for ever, says the
/// note on `Pool.Submit` (and ants' issue 197). Here a task never waits for room: what has none is
/// queued beyond the bound.
#[test]
fn a_task_that_submits_to_its_full_pool_does_not_block() {
    let pool = Pool::with_capacity(1);
    let (done, ran) = channel();
    expect_accepted(pool.submit(move || {
        let pool = PoolHandle::current().expect("this is a task of the pool");
        for number in 0..3 {
            let done = done.clone();
            expect_accepted(pool.submit(move || done.send(number).expect("the test waits")));
        }
        assert_eq!(
            refusal(pool.try_submit(|| ())),
            SubmitErrorKind::Full,
            "the nonblocking form still says that there is no room"
        );
    }));
    let mut numbers = [
        receive("a task of the task ran", &ran),
        receive("a task of the task ran", &ran),
        receive("a task of the task ran", &ran),
    ];
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    assert_idle(&pool);
    assert_eq!(pool.stats().panicked, 0);
    assert_at_rest(&pool);
}

// The default pool.

/// ants: the package has a pool of its own, made for the user, that anybody may submit to
/// (`TestAntsPool`, `ExamplePool`). There it is without limit, here it has a worker for each CPU
/// and a backlog without limit.
#[test]
fn the_default_pool_runs_the_tasks_of_anybody() {
    let (_turn, pool) = default_pool();
    let sum = Arc::new(AtomicUsize::new(0));
    for number in 0..1_000 {
        let sum = Arc::clone(&sum);
        expect_accepted(anthill::submit(move || {
            sum.fetch_add(number, Ordering::Relaxed);
        }));
    }
    assert_idle(pool);
    assert_eq!(sum.load(Ordering::Relaxed), SUM);
    let processors = thread::available_parallelism().unwrap().get();
    assert_eq!(pool.capacity(), processors);
    eventually_eq("nothing runs", 0, || pool.running());
    assert_eq!(pool.free(), pool.capacity());
}

/// ants: the default pool can be released, refuses tasks then, and takes them again after a reboot;
/// a reboot of an open pool does nothing (`TestRebootDefaultPool`).
#[test]
fn the_default_pool_can_be_released_and_rebooted() {
    let (_turn, pool) = default_pool();
    let before = pool.stats().submitted;
    pool.reboot();
    assert!(!pool.is_closed());
    runs_a_task(pool);
    pool.release_timeout(DEADLINE)
        .expect("nothing keeps the default pool");
    assert_eq!(refusal(anthill::submit(|| ())), SubmitErrorKind::Closed);
    assert!(pool.is_closed());
    pool.reboot();
    assert!(!pool.is_closed());
    runs_a_task(pool);
    assert_eq!(pool.stats().submitted, before + 2, "the counters went on");
}

/// ants: `ReleaseTimeout` of the default pool waits for the tasks that run
/// (`TestDefaultPoolReleaseTimeout`).
#[test]
fn releasing_the_default_pool_waits_for_its_tasks() {
    let (_turn, pool) = default_pool();
    let gate = Gate::new().opened_on_drop();
    let ended = Arrivals::new();
    for _ in 0..5 {
        let (gate, ended) = (gate.clone(), ended.clone());
        expect_accepted(anthill::submit(move || {
            gate.wait();
            ended.arrive();
        }));
    }
    eventually("a task runs", || pool.running() > 0);
    let opener = {
        let gate = gate.clone();
        thread::spawn(move || {
            eventually("the pool is closed", || pool.is_closed());
            gate.open();
        })
    };
    pool.release_timeout(DEADLINE)
        .expect("all tasks end once the gate is open");
    assert_eq!(ended.count(), 5, "accepted tasks all ran");
    assert_eq!(pool.workers(), 0);
    opener.join().expect("the opener saw the pool closed");
    pool.reboot();
}

// Panics.

/// ants: a panic of a task reaches the panic handler, and nothing runs afterwards
/// (`TestPanicHandler`, also `…PreMalloc`). There the worker ends with the panic, here it goes on.
#[test]
fn a_panic_reaches_the_handler_and_costs_no_worker() {
    let (caught, panics) = channel();
    let pool = Pool::builder()
        .capacity(10)
        .panic_handler(move |panic: TaskPanic| {
            let message = panic.message().map(str::to_owned);
            caught
                .send((message, panic.worker()))
                .expect("the test waits for this");
        })
        .build()
        .expect("the options agree");
    expect_accepted(pool.submit(|| panic!("Oops!")));
    let (message, worker) = receive("the handler was called", &panics);
    assert_eq!(message.as_deref(), Some("Oops!"));
    assert!(worker.is_some(), "a worker ran the task");
    assert_idle(&pool);
    assert_eq!(pool.running(), 0);
    runs_a_task(&pool);
    assert_idle(&pool);
    let stats = pool.stats();
    assert_eq!((stats.panicked, stats.completed), (1, 1));
    assert_eq!(stats.workers_started, 1, "the same worker goes on");
    assert_at_rest(&pool);
    pool.release_timeout(DEADLINE)
        .expect("every worker is idle");
    assert!(panics.try_recv().is_err(), "one panic, one call");
}

/// ants: without a handler a panic of a task is printed and the program goes on
/// (`TestPoolPanicWithoutHandler`, also `…PreMalloc`). Here the standard panic hook prints it, and
/// it is counted.
#[test]
fn without_a_handler_a_panic_is_counted_and_the_pool_goes_on() {
    let pool = Pool::with_capacity(10);
    for _ in 0..3 {
        expect_accepted(pool.submit(|| panic!("Oops! (this panic is part of a test)")));
    }
    assert_idle(&pool);
    runs_a_task(&pool);
    assert_idle(&pool);
    let stats = pool.stats();
    assert_eq!((stats.panicked, stats.completed), (3, 1));
    assert_at_rest(&pool);
}

// Idle workers.

/// ants: workers that were idle for the expiry time are purged, all of them
/// (`TestPurgePool`, `TestPurgePreMallocPool`). There `Running` counts workers, here it counts
/// tasks, and `workers` counts workers.
#[test]
fn idle_workers_expire() {
    let pool = Pool::builder()
        .capacity(200)
        .idle_timeout(SHORT)
        .build()
        .expect("the options agree");
    let burst = occupy(&pool, 200);
    assert_eq!((pool.running(), pool.workers(), pool.free()), (200, 200, 0));
    burst.end();
    eventually_eq("every idle worker ended", 0, || pool.workers());
    eventually_eq("and is counted as expired", 200, || {
        pool.stats().workers_expired
    });
    assert_eq!(pool.stats().workers_started, 200);
    assert_eq!((pool.running(), pool.free()), (0, 200));
    assert_at_rest(&pool);
}

/// ants: a task that comes after the idle workers were purged gets a worker all the same
/// (`TestAntsPoolGetWorkerFromCache`). There the worker's memory is recycled; here it is a new
/// thread, with an id of its own.
#[test]
fn a_task_after_the_workers_expired_gets_a_new_one() {
    let pool = Pool::builder()
        .capacity(100)
        .idle_timeout(SHORT)
        .build()
        .expect("the options agree");
    occupy(&pool, 50).end();
    eventually_eq("every idle worker ended", 0, || pool.workers());
    runs_a_task(&pool);
    assert_eq!(pool.stats().workers_started, 51);
}

/// ants: with `DisablePurge` workers stay, also when an expiry time was set, and a release ends
/// them (`TestWithDisablePurgePool`, `TestWithDisablePurgeAndWithExpirationPool`).
#[test]
fn kept_workers_never_expire_and_end_with_the_pool() {
    let pool = Pool::builder()
        .capacity(10)
        .idle_timeout(SHORT)
        .keep_workers()
        .build()
        .expect("the options agree");
    let tasks = occupy(&pool, 10);
    assert_eq!((pool.running(), pool.workers(), pool.free()), (10, 10, 0));
    tasks.end();
    assert_idle(&pool);

    // The witness becomes idle after the kept workers did, with the same timeout: once it has
    // expired, so would they have.
    let witness = Pool::builder()
        .capacity(1)
        .idle_timeout(SHORT)
        .build()
        .expect("the options agree");
    runs_a_task(&witness);
    eventually_eq("the witness expired", 1, || witness.stats().workers_expired);

    assert_eq!((pool.workers(), pool.idle()), (10, 10));
    assert_eq!(pool.stats().workers_expired, 0);
    pool.release_timeout(DEADLINE)
        .expect("every worker is idle");
    assert_eq!((pool.running(), pool.workers(), pool.free()), (0, 0, 10));
}

/// ants: of the idle workers the one that was put back last is taken first
/// (`TestWorkerStack`, on the queue itself).
#[test]
fn the_newest_idle_worker_is_taken_first() {
    let pool = Pool::builder()
        .capacity(8)
        .keep_workers()
        .build()
        .expect("the options agree");
    occupy(&pool, 8).end();
    assert_idle(&pool);
    // A worker of the burst that is still on its way to rest becomes the newest when it gets there,
    // hence the repetition. Were any other idle worker taken, no two tasks in a row would share one.
    eventually("200 tasks in a row on one worker", || {
        let threads = Log::new();
        for _ in 0..200 {
            let threads = threads.clone();
            expect_accepted(pool.submit(move || threads.push(thread::current().id())));
            assert_idle(&pool);
        }
        let mut threads = threads.entries();
        assert_eq!(threads.len(), 200);
        threads.dedup();
        threads.len() == 1
    });
    assert_eq!(pool.stats().workers_started, 8);
}

/// ants: a refresh takes the workers that were idle for too long and leaves those that were used
/// since (`TestWorkerStack`, `TestLoopQueue`, `TestSearch`, `TestRotatedQueueSearch`,
/// `TestRetrieveExpiry`, on the queues themselves).
#[test]
fn what_is_in_use_stays_while_the_rest_expires() {
    let pool = Pool::builder()
        .capacity(8)
        .idle_timeout(Duration::from_millis(200))
        .build()
        .expect("the options agree");
    occupy(&pool, 8).end();
    assert_idle(&pool);
    // Were the oldest idle worker taken first, each would get its turn again and again and none
    // would expire.
    eventually("only the worker in use is left", || {
        runs_a_task(&pool);
        assert_idle(&pool);
        pool.workers() == 1
    });
    assert!(pool.stats().workers_expired >= 7, "{:?}", pool.stats());
}

// Resizing.

/// ants: `Tune` to one more lets one more task run; to several more lets all waiting submitters in
/// (`TestPoolTuneScaleUp`).
#[test]
fn tuning_up_lets_waiting_submitters_in() {
    let pool = Pool::with_capacity(2);
    let _two = occupy(&pool, 2);
    assert_eq!(pool.running(), 2);
    assert_eq!(refusal(pool.try_submit(|| ())), SubmitErrorKind::Full);

    assert_eq!(pool.tune(3), 2, "the old capacity");
    let _third = occupy(&pool, 1);
    assert_eq!(pool.running(), 3);

    let gate = Gate::new().opened_on_drop();
    let begun = Arrivals::new();
    let submitters: Vec<_> = (0..5)
        .map(|_| {
            let (pool, gate, begun) = (pool.handle(), gate.clone(), begun.clone());
            thread::spawn(move || {
                expect_accepted(pool.submit(move || {
                    begun.arrive();
                    gate.wait();
                }));
            })
        })
        .collect();
    eventually_waiting(&pool, 5);
    assert_eq!(begun.count(), 0);
    assert_eq!(pool.tune(8), 3);
    watchdog("all five are let in", move || {
        for submitter in submitters {
            submitter.join().expect("no submitter panicked");
        }
    });
    begun.wait_for(5);
    assert_eq!((pool.running(), pool.waiting(), pool.free()), (8, 0, 0));
}

/// ants: `Tune` to the same size changes nothing, and to a smaller one takes effect on a pool that
/// is at work (`TestRestCodeCoverage`).
#[test]
fn tuning_down_lets_running_tasks_end_and_bounds_the_next() {
    let pool = Pool::with_capacity(40);
    let tasks = occupy(&pool, 40);
    assert_eq!(pool.tune(40), 40);
    assert_eq!((pool.capacity(), pool.running()), (40, 40));

    assert_eq!(pool.tune(4), 40);
    assert_eq!(pool.capacity(), 4);
    assert_eq!(pool.running(), 40, "no running task is cut off");
    assert_eq!(pool.free(), 0, "not below zero");
    assert_eq!(refusal(pool.try_submit(|| ())), SubmitErrorKind::Full);
    tasks.end();
    assert_idle(&pool);
    eventually("the excess workers retired", || pool.workers() <= 4);

    let inside = Running::new();
    for _ in 0..200 {
        let inside = inside.clone();
        expect_accepted(pool.submit(move || {
            let _inside = inside.enter();
            thread::yield_now();
        }));
    }
    assert_idle(&pool);
    assert!(inside.peak() <= 4, "{} tasks at once", inside.peak());
    assert_eq!(pool.stats().completed, 240);
    assert_at_rest(&pool);
}

/// ants: a pool without limit runs a task that its own task submits, side by side with it
/// (`TestInfinitePool`). There size −1 means without limit, `Free` is −1 and `Tune` has no effect;
/// here it is a capacity like any other.
#[test]
fn an_unbounded_pool_starts_a_worker_for_each_task_and_can_be_tuned() {
    let pool = Pool::unbounded();
    let begun = Arrivals::new();
    let gate = Gate::new().opened_on_drop();
    let (outer, inner) = ((begun.clone(), gate.clone()), (begun.clone(), gate.clone()));
    expect_accepted(pool.submit(move || {
        let pool = PoolHandle::current().expect("this is a task of the pool");
        expect_accepted(pool.submit(move || {
            let (begun, gate) = inner;
            begun.arrive();
            gate.wait();
        }));
        let (begun, gate) = outer;
        begun.arrive();
        gate.wait();
    }));
    begun.wait_for(2);
    assert_eq!((pool.running(), pool.workers()), (2, 2));
    assert_eq!(pool.capacity(), usize::MAX);
    assert_eq!(pool.free(), usize::MAX - 2);

    assert_eq!(pool.tune(10), usize::MAX);
    assert_eq!((pool.capacity(), pool.free()), (10, 8));
    gate.open();
    assert_idle(&pool);
    assert_at_rest(&pool);
}

/// ants: a size of 0 or below makes a pool without limit (`TestInfinitePool`). Here 0 is a pool
/// that is paused: it starts nothing until it is tuned up.
#[test]
fn capacity_zero_is_a_pause_and_not_a_pool_without_limit() {
    let pool = Pool::with_capacity(0);
    assert_eq!((pool.capacity(), pool.free()), (0, 0));
    assert_eq!(refusal(pool.try_submit(|| ())), SubmitErrorKind::Full);
    let ran = Arrivals::new();
    let submitter = {
        let (pool, ran) = (pool.handle(), ran.clone());
        thread::spawn(move || expect_accepted(pool.submit(move || ran.arrive())))
    };
    eventually_waiting(&pool, 1);
    assert_eq!((ran.count(), pool.workers()), (0, 0));
    assert_eq!(pool.tune(1), 0);
    ran.wait_for(1);
    watchdog("the submitter is let in", move || {
        submitter.join().expect("the submitter did not panic");
    });
    assert_idle(&pool);
    assert_at_rest(&pool);
}

// Release and reboot.

/// ants: submitters that wait for a worker are woken by a release, and their later submits fail
/// (`TestReleaseWhenRunningPool`). Here they also get their closures back.
#[test]
fn a_release_wakes_all_waiting_submitters() {
    let pool = Pool::with_capacity(1);
    let task = occupy(&pool, 1);
    let given_back = Arrivals::new();
    let submitters: Vec<_> = (0..2)
        .map(|_| {
            let (pool, given_back) = (pool.handle(), given_back.clone());
            thread::spawn(move || {
                for _ in 0..30 {
                    let given_back = given_back.clone();
                    let error = pool
                        .submit(move || given_back.arrive())
                        .expect_err("the one place is taken until the pool is closed");
                    assert_eq!(error.kind(), SubmitErrorKind::Closed);
                    error.into_inner()();
                }
            })
        })
        .collect();
    eventually_waiting(&pool, 2);
    pool.release();
    watchdog("both submitters are woken", move || {
        for submitter in submitters {
            submitter.join().expect("each submit was refused as closed");
        }
    });
    assert_eq!(given_back.count(), 60);
    assert_eq!(pool.running(), 1, "what runs is not cut off");
    task.end();
    pool.release_timeout(DEADLINE)
        .expect("the last task has ended");
    let stats = pool.stats();
    assert_eq!(
        (stats.submitted, stats.completed, stats.rejected),
        (1, 1, 60)
    );
    assert_at_rest(&pool);
}

/// ants: a pool that was released refuses tasks, whoever asks (`TestRestCodeCoverage`, its deferred
/// submits; `TestMultiPool`, for each of its pools).
#[test]
fn a_released_pool_refuses_tasks() {
    let pool = Pool::with_capacity(4);
    runs_a_task(&pool);
    pool.release();
    assert!(pool.is_closed());
    assert_eq!(refusal(pool.submit(|| ())), SubmitErrorKind::Closed);
    assert_eq!(refusal(pool.try_submit(|| ())), SubmitErrorKind::Closed);
    assert_eq!(
        refusal(pool.submit_timeout(|| (), DEADLINE)),
        SubmitErrorKind::Closed
    );
    eventually_eq("idle workers end", 0, || pool.workers());
}

/// ants: `ReleaseTimeout` waits until the workers have ended (`TestReleaseTimeout`).
#[test]
fn release_timeout_waits_for_running_tasks() {
    let pool = Pool::with_capacity(10);
    let ended = Arrivals::new();
    let gate = Gate::new().opened_on_drop();
    for _ in 0..5 {
        let (gate, ended) = (gate.clone(), ended.clone());
        expect_accepted(pool.submit(move || {
            gate.wait();
            ended.arrive();
        }));
    }
    eventually_eq("all five run", 5, || pool.running());
    let opener = {
        let (pool, gate) = (pool.handle(), gate.clone());
        thread::spawn(move || {
            eventually("the pool is closed", || pool.is_closed());
            gate.open();
        })
    };
    pool.release_timeout(DEADLINE)
        .expect("all tasks end once the gate is open");
    assert_eq!(ended.count(), 5);
    assert_eq!((pool.running(), pool.workers()), (0, 0));
    opener.join().expect("the opener saw the pool closed");
}

/// ants: `ReleaseTimeout` fails with `ErrTimeout` if the workers have not ended in time, and a
/// second call fails with `ErrPoolClosed` (`TestMultiPool`). Here the error says what remains, and
/// a second call waits again.
#[test]
fn release_timeout_says_what_remains_and_may_be_called_again() {
    let pool = Pool::with_capacity(3);
    let tasks = occupy(&pool, 3);
    let error = pool
        .release_timeout(Duration::from_millis(10))
        .expect_err("three tasks still run");
    assert_eq!(
        (error.running(), error.queued(), error.workers()),
        (3, 0, 3)
    );
    assert!(pool.is_closed());
    tasks.end();
    pool.release_timeout(DEADLINE)
        .expect("the tasks have ended");
    assert_eq!(pool.workers(), 0);
    pool.release_timeout(DEADLINE)
        .expect("nothing is left to wait for");
}

/// ants: `ReleaseContext` waits until the context is done, by time or by cancel, and without a context not at all.
/// Here the error says what remains, and a second call waits again.
#[test]
fn release_until_gives_up_when_it_is_told_to() {
    let pool = Pool::with_capacity(2);
    let tasks = occupy(&pool, 2);
    let context = StopSource::new();
    let token = context.token();
    let by_time = pool.release_until(&token, Duration::from_millis(10));
    assert_eq!(by_time.expect_err("two tasks still run").running(), 2);
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.release_until(&token, Duration::MAX));
        context.stop();
        let by_event = waits
            .join()
            .expect("it gave up")
            .expect_err("they still run");
        assert_eq!(by_event.workers(), 2);
    });
    tasks.end();
    pool.release_until(&StopSource::new().token(), DEADLINE)
        .expect("the tasks have ended");
    assert_eq!(pool.workers(), 0);
}

/// ants: a pool that was released and rebooted takes tasks again (`TestRebootNewPool`).
#[test]
fn a_released_pool_can_be_rebooted() {
    let pool = Pool::with_capacity(10);
    runs_a_task(&pool);
    pool.release_timeout(DEADLINE)
        .expect("every worker is idle");
    assert_eq!(refusal(pool.submit(|| ())), SubmitErrorKind::Closed);
    pool.reboot();
    assert!(!pool.is_closed());
    runs_a_task(&pool);
    assert_idle(&pool);
    assert_eq!(pool.stats().completed, 2, "the counters went on");
    assert_at_rest(&pool);
}

/// ants: after a reboot a pool does its work as well as before, also several times over
/// (`TestRebootNewPoolCalc`, `TestRebootNewPoolWithPreAllocCalc`).
#[test]
fn a_rebooted_pool_gives_the_right_sum_again() {
    let pool = Pool::with_capacity(10);
    for _ in 0..3 {
        assert_eq!(sum_of_a_thousand(&pool), SUM);
        pool.release_timeout(DEADLINE)
            .expect("every worker is idle");
        assert_eq!(pool.workers(), 0);
        pool.reboot();
    }
    assert_eq!(sum_of_a_thousand(&pool), SUM);
    assert_eq!(pool.stats().completed, 4_000);
    assert_at_rest(&pool);
}

/// ants: a reboot before all workers have ended may race, says its documentation of `Reboot`. Here
/// it is defined: the old tasks go on and keep their places.
#[test]
fn a_reboot_while_old_tasks_run_keeps_to_the_capacity() {
    let pool = Pool::with_capacity(2);
    let old = occupy(&pool, 2);
    pool.release();
    pool.reboot();
    assert!(!pool.is_closed());
    assert_eq!(
        refusal(pool.try_submit(|| ())),
        SubmitErrorKind::Full,
        "the old tasks count against the capacity"
    );
    assert_eq!(pool.running(), 2);
    old.end();
    let inside = Running::new();
    for _ in 0..100 {
        let inside = inside.clone();
        expect_accepted(pool.submit(move || {
            let _inside = inside.enter();
        }));
    }
    assert_idle(&pool);
    assert!(inside.peak() <= 2, "{} tasks at once", inside.peak());
    assert_eq!(pool.stats().completed, 102);
    assert_at_rest(&pool);
}

// Options.

/// ants: options that make no sense are an error of the constructor (`TestRestCodeCoverage`,
/// `TestInfinitePool`: a negative expiry, preallocation without a size). Those of ants cannot be
/// written here; these are the ones that can.
#[test]
fn contradicting_options_are_errors_of_build() {
    let error = Pool::builder()
        .capacity(2)
        .min_workers(3)
        .build()
        .expect_err("more workers than the capacity");
    assert!(
        matches!(
            error,
            BuildError::MinWorkersAboveCapacity {
                min_workers: 3,
                capacity: 2
            }
        ),
        "{error:?}"
    );
    let error = Pool::builder()
        .capacity(2)
        .overflow(Overflow::DropOldest)
        .build()
        .expect_err("nothing could be dropped");
    assert!(
        matches!(error, BuildError::DropOldestWithoutBacklog),
        "{error:?}"
    );
    let error = Pool::builder()
        .name("an\0t")
        .build()
        .expect_err("no thread can have that name");
    assert!(matches!(error, BuildError::NameContainsNul), "{error:?}");
}

/// ants: all options can be given at once (`TestRestCodeCoverage`, `WithOptions`).
#[test]
fn all_options_together_make_a_pool() {
    let started = Arrivals::new();
    let stopped = Arrivals::new();
    let pool = Pool::builder()
        .capacity(4)
        .min_workers(1)
        .idle_timeout(Duration::from_secs(60))
        .backlog(8)
        .overflow(Overflow::Block)
        .max_waiting(2)
        .panic_handler(|_: TaskPanic| ())
        .name("ants")
        .stack_size(256 * 1024)
        .on_worker_start({
            let started = started.clone();
            move |_| started.arrive()
        })
        .on_worker_stop({
            let stopped = stopped.clone();
            move |_| stopped.arrive()
        })
        .build()
        .expect("the options agree");
    assert_eq!((pool.capacity(), pool.workers()), (4, 1));
    started.wait_for(1);
    let (name, names) = channel();
    expect_accepted(pool.submit(move || {
        let thread = thread::current();
        name.send(thread.name().map(str::to_owned))
            .expect("the test waits for this");
    }));
    let name = receive("the task ran", &names);
    // The first worker may still have been in its hook, so that the task got a second one.
    assert!(name.is_some_and(|name| name.starts_with("ants-")));
    assert_idle(&pool);
    pool.release_timeout(DEADLINE)
        .expect("every worker is idle");
    assert_eq!(started.count() as u64, pool.stats().workers_started);
    assert_eq!(started.count(), stopped.count());
}

// Several pools as one.

/// What is asked of several pools, of one function or not: `submit` hands in one more task that waits at a gate.
fn ten_pools_of_five(pools: &MultiPool, submit: impl Fn(Gate)) {
    for _open in 0..2 {
        let gate = Gate::new().opened_on_drop();
        for _ in 0..50 {
            submit(gate.clone());
        }
        eventually_eq("tasks running", 50, || pools.running());
        assert_eq!((pools.waiting(), pools.free()), (0, 0));
        assert_eq!((pools.workers(), pools.capacity()), (50, 50));
        for shard in pools.shards() {
            assert_eq!(
                (shard.waiting(), shard.running(), shard.free()),
                (0, 5, 0),
                "each has its part"
            );
        }
        // By index: an `Option` where ants has `ErrInvalidPoolIndex`.
        assert!(pools.shards().nth(9).is_some() && pools.shards().nth(10).is_none());
        assert!(!pools.is_closed());
        gate.open();
        pools
            .release_timeout(DEADLINE)
            .expect("all tasks end once the gate is open");
        pools
            .release_timeout(DEADLINE)
            .expect("nothing is left to wait for");
        assert_eq!(refusal(pools.submit(|| ())), SubmitErrorKind::Closed);
        assert!(pools.is_closed() && pools.workers() == 0);
        pools.reboot();
    }
    assert_eq!((pools.tune(10), pools.capacity()), (5, 100));
}

/// ants: fifty tasks fill ten pools of five by either strategy, are spread evenly, and after a release and a reboot
/// again (`TestMultiPool`).
#[test]
fn several_pools_share_the_tasks_evenly() {
    for balance in [Balance::RoundRobin, Balance::LeastLoaded] {
        let pools = MultiPool::new(10, 5, balance);
        ten_pools_of_five(&pools, |gate| {
            expect_accepted(pools.submit(move || gate.wait()));
        });
    }
}

/// ants: the same for one function (`TestMultiPoolWithFunc`, `TestMultiPoolWithFuncGeneric`).
#[test]
fn several_pools_of_one_function_share_the_calls_evenly() {
    for balance in [Balance::RoundRobin, Balance::LeastLoaded] {
        let pools = MultiFuncPool::new(10, 5, balance, |gate: Gate| gate.wait());
        ten_pools_of_five(&pools, |gate| expect_accepted(pools.invoke(gate)));
        assert_eq!(pools.stats().completed, 100);
    }
}

/// ants: several pools without a size, and options that make no sense, are errors of the constructor (`TestMultiPool`).
/// A strategy that is none cannot be written here.
#[test]
fn contradicting_options_of_several_pools_are_errors_of_build() {
    let none = MultiPool::builder(0, Balance::RoundRobin).build();
    assert!(matches!(none, Err(BuildError::NoShards)));
    let builder = MultiFuncPool::builder(10, Balance::LeastLoaded, |(): ()| ());
    let error = builder.capacity(1).min_workers(2).build();
    let error = error.expect_err("more workers than the capacity");
    assert!(
        matches!(error, BuildError::MinWorkersAboveCapacity { .. }),
        "{error:?}"
    );
}
