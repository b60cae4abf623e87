//! `submit_after` and `submit_every`: when they run, how they end, and what they leave to others.
//!
//! A timer that must not be due here is set for an hour. That something does not happen is looked at when a later timer
//! has run.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::spawn;
use std::time::{Duration, Instant};

use anthill::{Overflow, Pool, PoolHandle, SubmitError, SubmitErrorKind, Timer};
use rand::Rng;
use support::{
    Arrivals, DropCounter, Gate, Log, Running, assert_at_rest, eventually, eventually_eq,
    eventually_waiting, expect_accepted, in_child_process, linux, occupy, receive, seeded_rng,
    set_alarm, within,
};

const LIMIT: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[track_caller]
fn set<F>(result: Result<Timer, SubmitError<F>>) -> Timer {
    set_alarm();
    match result {
        Ok(timer) => timer,
        Err(error) => panic!("the pool refused a timer: {:?}", error.kind()),
    }
}

#[track_caller]
fn refused<F>(result: Result<Timer, SubmitError<F>>) -> (SubmitErrorKind, F) {
    match result {
        Ok(_) => panic!("the pool accepted a timer that it had to refuse"),
        Err(error) => error.into_parts(),
    }
}

/// Waits until a timer that was set now, on a pool of its own, has run: those that were due before it were fired.
fn wait_for_timers(time: Duration) {
    let pool = Pool::with_capacity(1);
    let (send, told) = channel();
    set(pool.submit_after(time, move || send.send(()).unwrap()));
    receive("a later timer", &told);
}

// ── when ────────────────────────────────────────────────────────────────────────────────────

/// A closure that tells of each run, and of its drop.
fn counted(drops: &Arrivals, ran: &Arrivals) -> impl FnMut() + Send + 'static {
    let (held, ran) = (DropCounter(drops.clone()), ran.clone());
    move || {
        let _ = &held;
        ran.arrive();
    }
}

/// None runs early; and those whose times are apart run in their order.
#[test]
fn they_run_in_order_and_never_early() {
    let pool = Pool::with_capacity(1);
    let ran = Log::new();
    let mut rng = seeded_rng("order");
    let mut deadlines = Vec::new();
    for number in 0..200 {
        let after = millis(rng.random_range(0..60));
        let earliest = Instant::now() + after;
        let log = ran.clone();
        set(pool.submit_after(after, move || log.push((number, Instant::now()))));
        // Rounded up to a millisecond.
        deadlines.push((earliest, Instant::now() + after + millis(1)));
    }
    eventually_eq("all have run", 200, || ran.len());
    let ran = ran.entries();
    for (place, &(number, at)) in ran.iter().enumerate() {
        let (earliest, latest) = deadlines[number];
        assert!(at >= earliest, "timer {number} was early");
        let after = ran[place + 1..].iter();
        for &(later, _) in after {
            assert!(
                deadlines[later].1 >= earliest,
                "{later} should have run before {number}"
            );
        }
        assert!(latest > earliest);
    }
    assert_eq!(pool.timers(), 0);
}

#[test]
fn a_time_of_zero_runs_soon_and_the_longest_never() {
    let pool = Pool::with_capacity(1);
    let (drops, ran) = (Arrivals::new(), Arrivals::new());
    let (held, runs) = (DropCounter(drops.clone()), ran.clone());
    let ever = set(pool.submit_after(Duration::MAX, move || {
        runs.arrive();
        drop(held);
    }));
    let runs = ran.clone();
    let series = set(pool.submit_every(Duration::MAX, move || runs.arrive()));
    let (send, told) = channel();
    set(pool.submit_after(Duration::ZERO, move || send.send(()).unwrap()));
    receive("a timer of zero", &told);
    wait_for_timers(millis(20));
    assert_eq!((ran.count(), pool.timers()), (0, 2));
    assert!(ever.cancel());
    assert_eq!(drops.count(), 1);
    assert!(series.cancel());
    assert_eq!(pool.timers(), 0);
}

/// A timer holds no room, and a caller that waits for rest does not wait for it.
#[test]
fn a_timer_holds_no_room_and_wait_idle_ignores_it() {
    let pool = Pool::with_capacity(1);
    let after = set(pool.submit_after(HOUR, || {}));
    let every = set(pool.submit_every(HOUR, || {}));
    assert_eq!((pool.free(), pool.timers(), pool.workers()), (1, 2, 0));
    pool.wait_idle();
    expect_accepted(pool.try_submit(|| {}));
    pool.wait_idle();
    assert_eq!(pool.stats().submitted, 1);
    drop((after, every));
    assert_eq!(pool.timers(), 2, "a dropped handle detaches");
    assert_at_rest(&pool);
}

#[test]
fn a_dropped_handle_detaches() {
    let pool = Pool::with_capacity(1);
    let (send, told) = channel();
    let every = send.clone();
    drop(pool.submit_after(millis(1), move || send.send("once").unwrap()));
    assert_eq!(receive("the timer", &told), "once");
    drop(pool.submit_every(millis(1), move || {
        let _ = every.send("again");
    }));
    for _ in 0..3 {
        assert_eq!(receive("the series", &told), "again");
    }
}

/// A timer may be set in a task of the pool, and runs though the pool has one worker.
#[test]
fn a_task_may_set_timers() {
    let pool = Pool::with_capacity(1);
    let (send, told) = channel();
    expect_accepted(pool.submit(move || {
        let pool = PoolHandle::current().unwrap();
        set(pool.submit_after(millis(1), move || send.send(()).unwrap()));
    }));
    receive("the timer of a task", &told);
}

// ── cancel ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn cancelled_before_it_is_due() {
    let pool = Pool::with_capacity(1);
    let (drops, ran) = (Arrivals::new(), Arrivals::new());
    let task = || counted(&drops, &ran);
    let timers = [
        set(pool.submit_after(HOUR, task())),
        set(pool.submit_every(HOUR, task())),
        set(pool.submit_after(millis(20), task())),
        set(pool.submit_every(millis(20), task())),
    ];
    let cancelled = timers.iter().filter(|timer| timer.cancel()).count();
    // A busy machine may have let the last two run.
    assert!(cancelled >= 2);
    assert_eq!(pool.timers(), 0);
    let before = ran.count();
    if cancelled == 4 && before == 0 {
        assert_eq!(drops.count(), 4, "what was captured is dropped at once");
    }
    assert!(timers.iter().all(|timer| !timer.cancel()), "they are over");
    wait_for_timers(millis(40));
    pool.wait_idle();
    assert!(ran.count() <= before + 1);
    assert_eq!(drops.count(), 4);
}

#[test]
fn cancelled_while_it_runs_and_afterwards() {
    let pool = Pool::with_capacity(1);
    let (begun, gate, ended) = (Arrivals::new(), Gate::new(), Arrivals::new());
    let task = {
        let (begun, gate, ended) = (begun.clone(), gate.clone(), ended.clone());
        move || {
            begun.arrive();
            gate.wait();
            ended.arrive();
        }
    };
    let timer = set(pool.submit_after(millis(1), task));
    begun.wait_for(1);
    assert!(!timer.cancel(), "it was submitted");
    gate.open();
    ended.wait_for(1);
    assert!(!timer.cancel());
    assert_eq!(pool.timers(), 0);
}

/// A run that has started goes on; no other one starts, and what was captured is dropped when it ends.
#[test]
fn a_series_cancelled_while_it_runs() {
    let pool = Pool::with_capacity(2);
    let (begun, gate, drops) = (Arrivals::new(), Gate::new(), Arrivals::new());
    let held = DropCounter(drops.clone());
    let (begins, waits) = (begun.clone(), gate.clone());
    let timer = set(pool.submit_every(millis(1), move || {
        let _ = &held;
        begins.arrive();
        waits.wait();
    }));
    begun.wait_for(1);
    assert!(timer.cancel());
    assert!(!timer.cancel());
    assert_eq!((drops.count(), pool.timers()), (0, 0));
    gate.open();
    drops.wait_for(1);
    wait_for_timers(millis(10));
    assert_eq!(begun.count(), 1);
    pool.wait_idle();
    assert_at_rest(&pool);
}

#[test]
fn a_series_that_cancels_itself() {
    let pool = Pool::with_capacity(2);
    let (runs, drops) = (Arrivals::new(), Arrivals::new());
    let own = Arc::new(OnceLock::<Timer>::new());
    let (arrives, held, inside) = (runs.clone(), DropCounter(drops.clone()), Arc::clone(&own));
    let (send, answers) = channel();
    let timer = set(pool.submit_every(millis(1), move || {
        let _ = &held;
        arrives.arrive();
        if arrives.count() == 3 {
            let own = inside.wait();
            let answer = (own.cancel(), own.cancel());
            send.send(answer).unwrap();
        }
    }));
    own.set(timer).unwrap();
    assert_eq!(receive("it cancelled itself", &answers), (true, false));
    drops.wait_for(1);
    wait_for_timers(millis(10));
    assert_eq!(runs.count(), 3);
}

/// A task of a series that is queued as the series is cancelled runs nothing.
#[test]
fn a_queued_run_of_a_cancelled_series_does_not_start() {
    let pool = Pool::builder().capacity(1).backlog(5).build().unwrap();
    let occupied = occupy(&pool, 1);
    let (runs, drops) = (Arrivals::new(), Arrivals::new());
    let (arrives, held) = (runs.clone(), DropCounter(drops.clone()));
    let timer = set(pool.submit_every(millis(1), move || {
        let _ = &held;
        arrives.arrive();
    }));
    eventually_eq("its task is queued", 1, || pool.queued());
    assert!(timer.cancel());
    assert_eq!(drops.count(), 1);
    occupied.end();
    pool.wait_idle();
    assert_eq!(runs.count(), 0);
    assert_at_rest(&pool);
}

/// TM1: each timer runs, or was cancelled; never both, and never neither.
#[test]
fn cancel_against_fire() {
    within(LIMIT, "the timers", || {
        let pool = Arc::new(
            Pool::builder()
                .capacity(2)
                .unbounded_backlog()
                .build()
                .unwrap(),
        );
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let pool = Arc::clone(&pool);
                spawn(move || {
                    let mut rng = seeded_rng(&format!("cancel against fire {thread}"));
                    let mut timers = Vec::new();
                    for _ in 0..3_000 {
                        let ran = Arc::new(AtomicUsize::new(0));
                        let runs = Arc::clone(&ran);
                        let after = Duration::from_micros(rng.random_range(0..3_000));
                        let timer = set(pool.submit_after(after, move || {
                            runs.fetch_add(1, Ordering::Relaxed);
                        }));
                        timers.push((timer, ran));
                        if rng.random_bool(0.5) {
                            let at = rng.random_range(0..timers.len());
                            let (timer, ran) = timers.swap_remove(at);
                            let cancelled = timer.cancel();
                            eventually("it ran, or was cancelled", || {
                                ran.load(Ordering::Relaxed) == usize::from(!cancelled)
                            });
                        }
                    }
                    timers
                })
            })
            .collect();
        for thread in threads {
            for (timer, ran) in thread.join().unwrap() {
                eventually("it ran", || ran.load(Ordering::Relaxed) == 1);
                assert!(!timer.cancel());
            }
        }
        assert_eq!(pool.timers(), 0);
        pool.wait_idle();
        assert_at_rest(&pool);
    });
}

// ── series ──────────────────────────────────────────────────────────────────────────────────

/// SE1, SE2: a long run is not followed by those that it missed, and nothing runs beside it though there is room.
#[test]
fn a_series_skips_what_it_missed_and_never_overlaps() {
    const PERIOD: Duration = millis(15);
    let pool = Pool::with_capacity(4);
    let (running, gate, begun) = (Running::new(), Gate::new(), Arrivals::new());
    let starts = Log::new();
    let (inside, waits, begins, log) =
        (running.clone(), gate.clone(), begun.clone(), starts.clone());
    let start = Instant::now();
    let timer = set(pool.submit_every(PERIOD, move || {
        let _inside = inside.enter();
        log.push(Instant::now());
        begins.arrive();
        waits.wait();
    }));
    begun.wait_for(1);
    wait_for_timers(PERIOD * 6);
    assert_eq!(begun.count(), 1, "it waits for its own end");
    let opened = Instant::now();
    gate.open();
    begun.wait_for(5);
    timer.cancel();
    let starts = starts.entries();
    assert!(
        starts[0] >= start + PERIOD,
        "the first is a period after the start"
    );
    // The second may come at once, each later one on a multiple of its own.
    for (place, &at) in starts.iter().enumerate().skip(2) {
        let periods = u32::try_from(place - 1).unwrap();
        assert!(
            at >= opened + PERIOD * (periods - 1),
            "run {place} caught up"
        );
    }
    assert_eq!(running.peak(), 1);
}

#[test]
fn many_series_never_overlap_with_themselves() {
    let pool = Pool::with_capacity(4);
    let series: Vec<_> = (0..20)
        .map(|_| {
            let (running, runs) = (Running::new(), Arrivals::new());
            let (inside, arrives) = (running.clone(), runs.clone());
            let timer = set(pool.submit_every(Duration::from_micros(1), move || {
                let _inside = inside.enter();
                arrives.arrive();
                std::thread::yield_now();
            }));
            (timer, running, runs)
        })
        .collect();
    for (timer, running, runs) in series {
        runs.wait_for(10);
        assert!(timer.cancel());
        assert_eq!(running.peak(), 1);
    }
    pool.wait_idle();
    assert_at_rest(&pool);
}

#[test]
fn a_panic_in_a_series_is_told_and_the_series_goes_on() {
    let told = Log::new();
    let log = told.clone();
    let pool = Pool::builder()
        .capacity(1)
        .panic_handler(move |panic| log.push(panic.message().map(str::to_owned)))
        .build()
        .unwrap();
    let runs = Arrivals::new();
    let arrives = runs.clone();
    let mut number = 0;
    let timer = set(pool.submit_every(millis(1), move || {
        number += 1;
        arrives.arrive();
        assert!(number % 2 == 0 || number > 4, "run {number}");
    }));
    runs.wait_for(6);
    assert!(timer.cancel());
    pool.wait_idle();
    assert_eq!(
        told.entries(),
        [Some("run 1".to_owned()), Some("run 3".to_owned())]
    );
    assert_eq!(pool.stats().panicked, 2);
    assert_at_rest(&pool);
}

/// A run that is discarded is given up, and the series goes on.
#[test]
fn a_discarded_run_is_skipped() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(1)
        .overflow(Overflow::DropOldest)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let runs = Arrivals::new();
    let arrives = runs.clone();
    let timer = set(pool.submit_every(millis(1), move || arrives.arrive()));
    // Each of these takes the place of a run, if one is queued.
    eventually("a run was discarded", || {
        expect_accepted(pool.submit(|| {}));
        let discarded = pool.stats().discarded;
        let submitted = pool.stats().submitted;
        discarded >= 3 && submitted > discarded
    });
    occupied.end();
    runs.wait_for(2);
    timer.cancel();
    pool.wait_idle();
    assert_at_rest(&pool);
}

// ── the end of the pool ─────────────────────────────────────────────────────────────────────

/// Whichever way a pool is released, its timers are cancelled, and what they captured is dropped.
#[test]
fn the_end_of_the_pool_cancels_its_timers() {
    type End = fn(Pool);
    let ends: [(&str, End); 6] = [
        ("release", |pool| pool.release()),
        ("release_now", |pool| {
            pool.release_now();
        }),
        ("release_timeout", |pool| {
            pool.release_timeout(LIMIT).unwrap();
        }),
        ("drop", drop),
        ("the last handle", |pool| drop(pool.detach())),
        ("in a task", |pool| {
            let handle = pool.handle();
            expect_accepted(pool.submit(move || handle.release()));
            pool.wait_idle();
        }),
    ];
    for (name, end) in ends {
        let pool = Pool::with_capacity(2);
        let (drops, ran) = (Arrivals::new(), Arrivals::new());
        let task = || counted(&drops, &ran);
        let timers = [
            set(pool.submit_after(HOUR, task())),
            set(pool.submit_every(HOUR, task())),
            set(pool.submit_after(Duration::MAX, task())),
        ];
        end(pool);
        assert_eq!((drops.count(), ran.count()), (3, 0), "{name}");
        assert!(timers.iter().all(|timer| !timer.cancel()), "{name}");
    }
}

#[test]
fn a_closed_pool_refuses_timers_and_gives_the_closure_back() {
    let pool = Pool::with_capacity(1);
    let ran = Arrivals::new();
    let (once, arrives) = (ran.clone(), ran.clone());
    pool.release();
    let (kind, once) = refused(pool.submit_after(millis(1), move || once.arrive()));
    assert_eq!(kind, SubmitErrorKind::Closed);
    let (kind, mut times) = refused(pool.submit_every(millis(1), move || arrives.arrive()));
    assert_eq!(kind, SubmitErrorKind::Closed);
    once();
    times();
    assert_eq!((ran.count(), pool.stats().rejected), (2, 2));
    assert_eq!(pool.timers(), 0);
}

#[test]
fn a_reboot_brings_no_timer_back() {
    let pool = Pool::with_capacity(1);
    let ran = Arrivals::new();
    let (once, arrives) = (ran.clone(), ran.clone());
    let after = set(pool.submit_after(millis(30), move || once.arrive()));
    let every = set(pool.submit_every(millis(30), move || arrives.arrive()));
    pool.release();
    let before = ran.count();
    pool.reboot();
    assert_eq!(pool.timers(), 0);
    assert!(!after.cancel());
    assert!(!every.cancel());
    wait_for_timers(millis(40));
    pool.wait_idle();
    assert!(ran.count() <= before + 1);
    let (send, told) = channel();
    set(pool.submit_after(millis(1), move || send.send(()).unwrap()));
    receive("a timer after the reboot", &told);
}

/// TM2: a timer that is due as its pool ends runs, or is dropped before the pool is gone.
#[test]
fn release_against_fire() {
    within(LIMIT, "the pools end", || {
        let mut rng = seeded_rng("release against fire");
        for _ in 0..300 {
            let pool = Pool::with_capacity(1);
            let (ran, drops) = (Arrivals::new(), Arrivals::new());
            for _ in 0..3 {
                let (ran, held) = (ran.clone(), DropCounter(drops.clone()));
                set(pool.submit_after(millis(1), move || {
                    let _ = &held;
                    ran.arrive();
                }));
            }
            let (runs, held) = (ran.clone(), DropCounter(drops.clone()));
            set(pool.submit_every(millis(1), move || {
                let _ = &held;
                runs.arrive();
            }));
            let until = Instant::now() + Duration::from_micros(rng.random_range(0..2_500));
            while Instant::now() < until {
                std::thread::yield_now();
            }
            match rng.random_range(0..3) {
                0 => drop(pool),
                1 => pool.release_timeout(LIMIT).unwrap(),
                _ => {
                    pool.release_now();
                    pool.release_timeout(LIMIT).unwrap();
                }
            }
            assert_eq!(drops.count(), 4);
            let ran = ran.count();
            assert!(ran < 1_000);
        }
    });
}

// ── without room ────────────────────────────────────────────────────────────────────────────

/// A paused pool takes the task into the line, where it waits; no thread does.
#[test]
fn a_paused_pool_runs_it_when_it_is_resumed() {
    let pool = Pool::with_capacity(0);
    let (send, told) = channel();
    set(pool.submit_after(millis(1), move || send.send(()).unwrap()));
    eventually_eq("it is due", 1, || pool.stats().submitted);
    assert_eq!((pool.timers(), pool.workers()), (0, 0));
    assert!(told.try_recv().is_err());
    // Others are not held up.
    wait_for_timers(millis(1));
    pool.tune(1);
    receive("it runs", &told);
}

/// Behind those that wait, and before those that come later.
#[test]
fn without_room_it_waits_in_line() {
    let pool = Arc::new(Pool::with_capacity(1));
    let ran = Log::new();
    let occupied = occupy(&pool, 1);
    let submitter = |name: &'static str| {
        let (pool, ran) = (Arc::clone(&pool), ran.clone());
        spawn(move || expect_accepted(pool.submit(move || ran.push(name))))
    };
    let first = submitter("before");
    eventually_waiting(&pool, 1);
    let log = ran.clone();
    set(pool.submit_after(millis(1), move || log.push("timer")));
    eventually_eq("it is due", 2, || pool.stats().submitted);
    let last = submitter("after");
    eventually_waiting(&pool, 2);
    occupied.end();
    first.join().unwrap();
    last.join().unwrap();
    pool.wait_idle();
    assert_eq!(ran.entries(), ["before", "timer", "after"]);
    assert_at_rest(&pool);
}

#[test]
fn with_reject_it_is_dropped_and_counted() {
    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::Reject)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let (drops, ran) = (Arrivals::new(), Arrivals::new());
    let (held, runs) = (DropCounter(drops.clone()), ran.clone());
    let timer = set(pool.submit_after(millis(1), move || {
        let _ = &held;
        runs.arrive();
    }));
    drops.wait_for(1);
    eventually_eq("it is over", 0, || pool.timers());
    assert!(!timer.cancel());
    assert_eq!((pool.stats().rejected, ran.count()), (1, 0));

    // A series goes on.
    let runs = ran.clone();
    let every = set(pool.submit_every(millis(1), move || runs.arrive()));
    eventually("a few runs are rejected", || pool.stats().rejected >= 4);
    occupied.end();
    ran.wait_for(2);
    every.cancel();
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// There is no caller that could run it.
#[test]
fn with_caller_runs_it_waits_in_line() {
    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::CallerRuns)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let (send, told) = channel();
    let own = pool.handle();
    set(pool.submit_after(millis(1), move || send.send(own.is_inside()).unwrap()));
    eventually_eq("it is due", 2, || pool.stats().submitted);
    assert!(told.try_recv().is_err());
    occupied.end();
    assert!(receive("it runs", &told), "on a worker");
    pool.wait_idle();
    assert_eq!(pool.stats().workers_started, 1);
}

#[test]
fn with_drop_oldest_it_takes_the_place_of_the_oldest() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(2)
        .overflow(Overflow::DropOldest)
        .build()
        .unwrap();
    let ran = Log::new();
    let occupied = occupy(&pool, 1);
    for name in ["first", "second"] {
        let log = ran.clone();
        expect_accepted(pool.submit(move || log.push(name)));
    }
    let log = ran.clone();
    set(pool.submit_after(millis(1), move || log.push("timer")));
    eventually_eq("it is due", 4, || pool.stats().submitted);
    occupied.end();
    pool.wait_idle();
    assert_eq!(ran.entries(), ["second", "timer"]);
    assert_eq!(pool.stats().discarded, 1);
    assert_at_rest(&pool);
}

// ── what others see ─────────────────────────────────────────────────────────────────────────

const THREAD: &str = "anthill-timers";

/// The timers' thread, which names itself once it runs.
#[track_caller]
fn the_thread() -> u32 {
    eventually_eq("there is one thread", 1, || linux::threads_named(THREAD));
    linux::threads_with_name(THREAD)[0]
}

/// P11: no thread before the first timer, one for all, and none after the last.
#[test]
fn there_is_a_thread_while_there_are_timers() {
    in_child_process("there_is_a_thread_while_there_are_timers", LIMIT, || {
        let gone = || eventually_eq("the thread is gone", 0, || linux::threads_named(THREAD));
        let pools: Vec<_> = (0..5).map(|_| Pool::with_capacity(1)).collect();
        expect_accepted(pools[0].submit(|| {}));
        pools[0].wait_idle();
        assert_eq!(linux::threads_named(THREAD), 0);
        for _ in 0..2 {
            let (send, told) = channel();
            for pool in &pools {
                let send = send.clone();
                set(pool.submit_after(millis(2), move || send.send(()).unwrap()));
            }
            for _ in &pools {
                receive("a timer", &told);
            }
            gone();
        }
        // TS7: it does not sleep for an hour for a timer that was cancelled.
        let timer = set(pools[0].submit_after(HOUR, || {}));
        let other = set(pools[1].submit_after(HOUR, || {}));
        let thread = the_thread();
        linux::eventually_asleep(thread);
        assert!(timer.cancel());
        assert!(other.cancel());
        gone();
        // The same for a series, and for one that never comes.
        let never = set(pools[0].submit_every(Duration::MAX, || {}));
        assert_eq!(linux::threads_named(THREAD), 0);
        let series = set(pools[0].submit_every(HOUR, || {}));
        the_thread();
        assert!(series.cancel());
        assert!(never.cancel());
        gone();
    });
}

/// P11: the thread sleeps until something is due: a far timer costs no switch meanwhile.
#[test]
fn a_far_timer_wakes_nobody() {
    in_child_process("a_far_timer_wakes_nobody", LIMIT, || {
        let pool = Pool::with_capacity(1);
        set(pool.submit_after(HOUR, || {}));
        let thread = the_thread();
        linux::eventually_asleep(thread);
        let before = linux::voluntary_switches(thread);
        std::thread::sleep(millis(300));
        let switches = linux::voluntary_switches(thread) - before;
        assert!(switches <= 2, "{switches} switches");
        // Nor do others that come later.
        let timers: Vec<_> = (0..100)
            .map(|_| set(pool.submit_after(HOUR * 2, || {})))
            .collect();
        for timer in timers {
            assert!(timer.cancel());
        }
        let switches = linux::voluntary_switches(thread) - before;
        assert!(switches <= 4, "{switches} switches");
    });
}

#[test]
fn thousands_of_pools_with_timers() {
    within(LIMIT, "the pools", || {
        let (send, told) = channel();
        let pools: Vec<_> = (0..2_000)
            .map(|number| {
                let pool = Pool::builder()
                    .capacity(1)
                    .idle_timeout(Duration::ZERO)
                    .build()
                    .unwrap();
                set(pool.submit_every(HOUR, || {}));
                set(pool.submit_after(HOUR, || {}));
                let send = send.clone();
                set(pool.submit_after(millis(number % 50), move || send.send(number).unwrap()));
                pool
            })
            .collect();
        let mut ran: Vec<_> = pools.iter().map(|_| receive("a timer", &told)).collect();
        ran.sort_unstable();
        assert!(ran.into_iter().eq(0..2_000));
        assert!(pools.iter().all(|pool| pool.timers() == 2));
    });
}

/// TM3, TR2: what was captured may use timers and pools as it is dropped: no lock is held.
#[test]
fn captures_are_dropped_outside_locks() {
    struct UsesTimers(PoolHandle, Arrivals);
    impl Drop for UsesTimers {
        fn drop(&mut self) {
            let UsesTimers(pool, dropped) = self;
            pool.timers();
            if let Ok(timer) = pool.submit_after(HOUR, || {}) {
                timer.cancel();
            }
            // On every wheel: threads take turns.
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let pool = pool.clone();
                    spawn(move || {
                        if let Ok(timer) = pool.submit_every(HOUR, || {}) {
                            timer.cancel();
                        }
                        pool.tune(1);
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            dropped.arrive();
        }
    }
    within(LIMIT, "the drops", || {
        let pool = Pool::builder()
            .capacity(1)
            .overflow(Overflow::Reject)
            .build()
            .unwrap();
        let other = Pool::with_capacity(1);
        let dropped = Arrivals::new();
        let holds = |of: &Pool| {
            let captured = UsesTimers(of.handle(), dropped.clone());
            move || {
                let _ = &captured;
            }
        };
        assert!(set(pool.submit_after(HOUR, holds(&pool))).cancel());
        assert!(set(pool.submit_every(HOUR, holds(&pool))).cancel());
        dropped.wait_for(2);
        // Rejected, on the timers' thread.
        let occupied = occupy(&pool, 1);
        set(pool.submit_after(millis(1), holds(&pool)));
        dropped.wait_for(3);
        occupied.end();
        pool.wait_idle();
        set(pool.submit_after(HOUR, holds(&pool)));
        set(pool.submit_after(HOUR, holds(&other)));
        set(pool.submit_every(HOUR, holds(&pool)));
        pool.release_timeout(LIMIT).unwrap();
        assert_eq!(dropped.count(), 6);
        let (_, f) = refused(pool.submit_after(HOUR, holds(&other)));
        drop(f);
        assert_eq!(dropped.count(), 7);
    });
}

/// Not even that of the timer itself: what was captured may cancel it as it is dropped.
#[test]
fn a_capture_that_cancels_its_own_timer() {
    struct Cancels(Arc<OnceLock<Timer>>, Arrivals);
    impl Drop for Cancels {
        fn drop(&mut self) {
            let Cancels(timer, dropped) = self;
            assert!(!timer.wait().cancel(), "it is over");
            dropped.arrive();
        }
    }
    within(LIMIT, "the drops", || {
        let pool = Pool::with_capacity(1);
        let dropped = Arrivals::new();
        let holds = |own: &Arc<OnceLock<Timer>>| {
            let captured = Cancels(Arc::clone(own), dropped.clone());
            move || {
                let _ = &captured;
            }
        };
        let own: Vec<_> = (0..4).map(|_| Arc::new(OnceLock::new())).collect();
        own[0]
            .set(set(pool.submit_after(HOUR, holds(&own[0]))))
            .unwrap();
        own[1]
            .set(set(pool.submit_every(HOUR, holds(&own[1]))))
            .unwrap();
        assert!(own[..2].iter().all(|own| own.wait().cancel()));
        assert_eq!(dropped.count(), 2);
        own[2]
            .set(set(pool.submit_after(HOUR, holds(&own[2]))))
            .unwrap();
        own[3]
            .set(set(pool.submit_every(HOUR, holds(&own[3]))))
            .unwrap();
        pool.release();
        assert_eq!(dropped.count(), 4);
    });
}

/// A drop that panics costs nobody else anything.
#[test]
fn captures_whose_drop_panics() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("a drop");
        }
    }
    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::Reject)
        .build()
        .unwrap();
    let holds = || {
        let captured = Panics;
        move || {
            let _ = &captured;
        }
    };
    assert!(set(pool.submit_after(HOUR, holds())).cancel());
    assert!(set(pool.submit_every(HOUR, holds())).cancel());
    let occupied = occupy(&pool, 1);
    set(pool.submit_after(millis(1), holds()));
    eventually_eq("it is rejected", 0, || pool.timers());
    occupied.end();
    wait_for_timers(millis(1));
    set(pool.submit_after(HOUR, holds()));
    pool.release_timeout(LIMIT).unwrap();
}

// ── all of it ───────────────────────────────────────────────────────────────────────────────

/// One thread of the stress: sets, cancels, tunes, releases and opens; returns what its timers must have done.
fn stir(pool: &PoolHandle, stop: &AtomicBool, mut rng: impl Rng) -> Vec<(Receiver<()>, Timer)> {
    let mut timers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let time = Duration::from_micros(rng.random_range(0..4_000));
        // The sender is dropped with the closure: so the receiver tells whether it lives.
        let (alive, lives) = sync_channel::<()>(1);
        let set = match rng.random_range(0..8) {
            0..4 => pool.submit_after(time, move || drop(alive)).ok(),
            4 | 5 => {
                let mut panics = rng.random_bool(0.2);
                let timer = pool.submit_every(time, move || {
                    let _ = &alive;
                    if std::mem::take(&mut panics) {
                        std::panic::resume_unwind(Box::new("a run"));
                    }
                });
                timer.ok()
            }
            6 if !timers.is_empty() => {
                let at = rng.random_range(0..timers.len());
                let (_, timer): &(Receiver<()>, Timer) = &timers[at];
                timer.cancel();
                None
            }
            _ => {
                match rng.random_range(0..10) {
                    0..6 => {
                        pool.tune(rng.random_range(0..4));
                    }
                    6 => {
                        pool.release_now();
                    }
                    7 => pool.release(),
                    _ => {}
                }
                pool.reboot();
                None
            }
        };
        timers.extend(set.map(|timer| (lives, timer)));
        if timers.len() > 100 {
            timers.drain(..50).for_each(|(_, timer)| {
                timer.cancel();
            });
        }
    }
    timers
}

/// Whatever is done side by side: in the end no closure is left, and the books balance.
#[test]
fn a_stress_of_timers() {
    within(LIMIT * 2, "the stress", || {
        for overflow in [Overflow::Block, Overflow::Reject, Overflow::DropOldest] {
            let builder = Pool::builder().capacity(2).backlog(3).overflow(overflow);
            let pool = builder.panic_handler(|_| {}).build().unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let left = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for thread in 0..3 {
                    let (pool, stop, left) = (pool.handle(), Arc::clone(&stop), &left);
                    scope.spawn(move || {
                        let rng = seeded_rng(&format!("timers {thread}"));
                        left.lock().unwrap().extend(stir(&pool, &stop, rng));
                    });
                }
                std::thread::sleep(millis(500));
                stop.store(true, Ordering::Relaxed);
            });
            pool.tune(2);
            pool.release_timeout(LIMIT).unwrap();
            assert_eq!(pool.timers(), 0);
            for (lives, timer) in left.into_inner().unwrap() {
                assert!(!timer.cancel());
                assert!(lives.recv().is_err(), "its closure is dropped");
            }
            let stats = pool.stats();
            let over = stats.completed + stats.panicked + stats.cancelled + stats.discarded;
            assert_eq!(stats.submitted, over, "{stats:?}");
            assert!(stats.submitted > 0);
        }
    });
}
