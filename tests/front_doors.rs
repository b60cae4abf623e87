//! Job queues of well-known tutorials: their front doors, their cancels, their stops and their throttles.
//!
//! What is handed in waits, is refused, or waits for so long; a cancel beats what is pending; tasks that
//! live long end on the stop token; a stop may come at any moment and loses nothing silently; and of a
//! hundred tasks at most so many run at a time.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anthill::{GroupError, JoinError, JoinHandle, Pool, PoolHandle, SubmitErrorKind};
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, Running, assert_at_rest, eventually,
    eventually_waiting, expect_accepted, occupy, receive, refusal, watchdog,
};

/// So short that it passes, and too short to matter.
const A_MOMENT: Duration = Duration::from_millis(5);

fn queue(workers: usize, places: usize) -> Pool {
    let builder = Pool::builder().capacity(workers).backlog(places);
    builder.build().unwrap()
}

/// Fills the queue with tasks that do nothing.
#[track_caller]
fn fill(pool: &PoolHandle, places: usize) {
    for _ in 0..places {
        expect_accepted(pool.try_submit(|| {}));
    }
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
}

// ── front doors ─────────────────────────────────────────────────────────────────────────────

/// With the workers busy and the queue full, submit waits; it gets in once there is room.
#[test]
fn the_blocking_door_waits_for_room() {
    let pool = queue(2, 3);
    let occupied = occupy(&pool, 2);
    fill(&pool, 3);
    let ran = Arrivals::new();
    thread::scope(|scope| {
        let submitter = scope.spawn(|| {
            let ran = ran.clone();
            pool.submit(move || ran.arrive()).unwrap();
        });
        eventually_waiting(&pool, 1);
        assert!(!submitter.is_finished());
        occupied.end();
    });
    ran.wait_for(1);
    assert_at_rest(&pool);
}

/// The refusing door never waits; what it refuses comes back, and can be handed in again.
#[test]
fn the_refusing_door_gives_the_job_back() {
    let pool = queue(2, 3);
    let occupied = occupy(&pool, 2);
    fill(&pool, 3);
    let (sender, letters) = channel();
    let letter = String::from("the only copy");
    let refused = pool
        .try_submit(move || sender.send(letter).unwrap())
        .unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::Full);
    occupied.end();
    pool.submit(refused.into_inner()).unwrap();
    assert_eq!(receive("the letter", &letters), "the only copy");
    pool.wait_idle();
    assert_eq!(pool.stats().rejected, 2);
}

/// The door with a time limit gives up in time, gives the job back, and leaves nothing behind.
#[test]
fn the_timed_door_gives_up_and_gives_the_job_back() {
    let pool = queue(1, 1);
    let occupied = occupy(&pool, 1);
    fill(&pool, 1);
    let ran = Arrivals::new();
    let (counter, dropped) = (ran.clone(), Arrivals::new());
    let captured = DropCounter(dropped.clone());
    let job = move || {
        let _captured = captured;
        counter.arrive();
    };
    let refused = pool.submit_timeout(job, A_MOMENT).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::TimedOut);
    assert_eq!((pool.waiting(), dropped.count()), (0, 0));
    occupied.end();
    pool.wait_idle();
    assert_eq!(ran.count(), 0, "nobody runs it any more");
    refused.into_inner()();
    assert_eq!((ran.count(), dropped.count()), (1, 1));
}

/// The door with a time limit gets in if there is room before; `Duration::MAX` is for ever.
#[test]
fn the_timed_door_gets_in_in_time() {
    for limit in [DEADLINE, Duration::MAX] {
        let pool = queue(1, 1);
        let occupied = occupy(&pool, 1);
        fill(&pool, 1);
        let ran = Arrivals::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let ran = ran.clone();
                expect_accepted(pool.submit_timeout(move || ran.arrive(), limit));
            });
            eventually_waiting(&pool, 1);
            occupied.end();
        });
        ran.wait_for(1);
    }
}

/// A stop opens all doors: who waits for room gets his job back.
#[test]
fn a_stop_sends_those_away_who_wait() {
    let pool = queue(1, 1);
    let occupied = occupy(&pool, 1);
    fill(&pool, 1);
    thread::scope(|scope| {
        let blocking = scope.spawn(|| refusal(pool.submit(|| {})));
        let timed = scope.spawn(|| refusal(pool.submit_timeout(|| {}, Duration::MAX)));
        eventually_waiting(&pool, 2);
        pool.release();
        assert_eq!(blocking.join().unwrap(), SubmitErrorKind::Closed);
        assert_eq!(timed.join().unwrap(), SubmitErrorKind::Closed);
    });
    occupied.end();
    pool.release_timeout(DEADLINE).unwrap();
    assert_eq!(pool.stats().completed, 2, "what was accepted ran");
}

/// N workers are N tasks at once, and never one more.
#[test]
fn n_workers_run_n_jobs_at_once() {
    for workers in [1, 2, 8] {
        let pool = queue(workers, 100);
        let (running, arrived, gate) = (Running::new(), Arrivals::new(), Gate::new());
        for _ in 0..100 {
            let (running, arrived, gate) = (running.clone(), arrived.clone(), gate.clone());
            expect_accepted(pool.submit(move || {
                let _inside = running.enter();
                arrived.arrive();
                gate.wait();
            }));
        }
        let gate = gate.opened_on_drop();
        arrived.wait_for(workers);
        gate.open();
        pool.wait_idle();
        assert_eq!((running.peak(), arrived.count()), (workers, 100));
    }
}

/// Waiting for the end with a limit says whether all was done: not while one works, nor while one is
/// queued; and in a task of the pool it says no at once.
#[test]
fn waiting_with_a_limit_says_whether_all_was_done() {
    let pool = queue(1, 3);
    assert!(pool.wait_idle_timeout(Duration::ZERO), "nothing to do");
    let occupied = occupy(&pool, 1);
    fill(&pool, 3);
    assert!(!pool.wait_idle_timeout(Duration::ZERO));
    assert!(!pool.wait_idle_timeout(A_MOMENT));
    thread::scope(|scope| {
        let patient = scope.spawn(|| pool.wait_idle_timeout(Duration::MAX));
        occupied.end();
        assert!(patient.join().unwrap());
    });
    assert_eq!(pool.stats().completed, 4);

    let inside = pool.handle();
    let waited = pool.spawn(move || inside.wait_idle_timeout(Duration::MAX));
    assert!(!waited.unwrap().join().unwrap());
}

// ── a cancel beats pending work ─────────────────────────────────────────────────────────────

/// With a full queue, no further task of a group starts after its cancel, and their room is free at once:
/// the queue is filled again while the workers are still busy.
#[test]
fn a_cancelled_group_starts_nothing_more() {
    let pool = queue(2, 10);
    let group = pool.group::<()>();
    let gate = Gate::new();
    let (started, dropped) = (Arrivals::new(), Arrivals::new());
    for _ in 0..12 {
        let (gate, started) = (gate.clone(), started.clone());
        let captured = DropCounter(dropped.clone());
        let work = move || {
            let _captured = captured;
            started.arrive();
            gate.wait();
            Ok(())
        };
        group.submit(work).unwrap();
    }
    let gate = gate.opened_on_drop();
    started.wait_for(2);
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);

    group.cancel();
    assert!(group.is_cancelled());
    assert_eq!((pool.queued(), dropped.count()), (0, 10));
    fill(&pool, 10);
    gate.open();
    assert!(matches!(group.wait(), Err(GroupError::Cancelled)));
    pool.wait_idle();
    assert_eq!((started.count(), dropped.count()), (2, 12));
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (12, 10), "{stats:?}");
    assert_at_rest(&pool);
}

/// The same where nobody cancels but the first error does.
#[test]
fn the_first_error_of_a_group_beats_what_is_pending() {
    let pool = queue(1, 10);
    let group = pool.group();
    let (gate, started) = (Gate::new(), Arrivals::new());
    for task in 0..11 {
        let (gate, started) = (gate.clone(), started.clone());
        let work = move || {
            started.arrive();
            gate.wait();
            Err(task)
        };
        group.submit(work).unwrap();
    }
    gate.open();
    assert_eq!(group.wait().unwrap_err().into_task(), Some(0));
    pool.wait_idle();
    assert_eq!((started.count(), pool.stats().cancelled), (1, 10));
    assert_at_rest(&pool);
}

/// The same by dropping the group; what runs goes on to its end.
#[test]
fn a_dropped_group_starts_nothing_more() {
    let pool = queue(1, 5);
    let occupied = occupy(&pool, 1);
    let started = Arrivals::new();
    let group = pool.group::<()>();
    for _ in 0..5 {
        let started = started.clone();
        let work = move || {
            started.arrive();
            Ok(())
        };
        group.submit(work).unwrap();
    }
    drop(group);
    assert_eq!(pool.queued(), 0);
    occupied.end();
    pool.wait_idle();
    assert_eq!(started.count(), 0);
    assert_at_rest(&pool);
}

/// What is handed in after the cancel does not start either, and waits for no room.
#[test]
fn a_cancelled_group_takes_tasks_and_drops_them() {
    let pool = queue(1, 1);
    let occupied = occupy(&pool, 1);
    fill(&pool, 1);
    let group = pool.group::<()>();
    group.cancel();
    let dropped = Arrivals::new();
    let captured = DropCounter(dropped.clone());
    let late = group.spawn(move || {
        drop(captured);
        unreachable!("the group was cancelled")
    });
    let late: JoinHandle<()> = late.unwrap();
    assert_eq!(dropped.count(), 1);
    assert!(late.join().unwrap_err().is_cancelled());
    occupied.end();
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// Also a task that was still waiting for room when its group was cancelled does not start when there is
/// room at last.
#[test]
fn a_cancel_beats_a_submitter_who_waits_for_room() {
    for _ in 0..50 {
        let pool = queue(1, 0);
        let occupied = occupy(&pool, 1);
        let group = pool.group::<()>();
        let started = Arrivals::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let started = started.clone();
                let work = move || {
                    started.arrive();
                    Ok(())
                };
                group.submit(work).unwrap();
            });
            eventually_waiting(&pool, 1);
            group.cancel();
            occupied.end();
        });
        assert!(matches!(group.wait(), Err(GroupError::Cancelled)));
        pool.wait_idle();
        assert_eq!(started.count(), 0);
        assert_at_rest(&pool);
    }
}

/// The same where the first error is what cancels the group.
#[test]
fn a_first_error_beats_a_submitter_who_waits_for_room() {
    let pool = queue(1, 0);
    let group = pool.group();
    let (gate, started) = (Gate::new(), Arrivals::new());
    let task = |number| {
        let (gate, started) = (gate.clone(), started.clone());
        move || {
            started.arrive();
            gate.wait();
            Err(number)
        }
    };
    group.submit(task(1)).unwrap();
    started.wait_for(1);
    thread::scope(|scope| {
        scope.spawn(|| group.submit(task(2)).unwrap());
        eventually_waiting(&pool, 1);
        gate.open();
    });
    assert_eq!(group.wait().unwrap_err().into_task(), Some(1));
    pool.wait_idle();
    assert_eq!((started.count(), pool.stats().cancelled), (1, 1));
    assert_at_rest(&pool);
}

/// A cancelled job never runs; what it captured is dropped and its place is free at once, while the worker
/// is still busy; its handle says so.
#[test]
fn a_cancelled_job_makes_room_at_once() {
    let pool = queue(1, 1);
    let occupied = occupy(&pool, 1);
    let (ran, dropped) = (Arrivals::new(), Arrivals::new());
    let (counter, captured) = (ran.clone(), DropCounter(dropped.clone()));
    let job = pool.spawn(move || {
        let _captured = captured;
        counter.arrive();
    });
    let job = job.unwrap();
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);

    assert!(job.cancel());
    assert!(!job.cancel(), "once");
    assert_eq!((pool.queued(), dropped.count()), (0, 1));
    fill(&pool, 1);
    assert!(job.join().unwrap_err().is_cancelled());
    occupied.end();
    pool.wait_idle();
    assert_eq!((ran.count(), pool.stats().cancelled), (0, 1));
    assert_at_rest(&pool);
}

/// A cancel lets the one in who has waited longest.
#[test]
fn a_cancelled_job_lets_a_waiting_submitter_in() {
    let pool = queue(1, 1);
    let occupied = occupy(&pool, 1);
    let job = pool.spawn(|| {}).unwrap();
    thread::scope(|scope| {
        let submitter = scope.spawn(|| pool.submit(|| {}).unwrap());
        eventually_waiting(&pool, 1);
        assert!(job.cancel());
        // The worker is still busy: it is the cancel that made room.
        eventually("the submitter is in", || submitter.is_finished());
        assert_eq!((pool.running(), pool.queued()), (1, 1));
    });
    occupied.end();
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// What runs is not cancelled, and its result is not lost.
#[test]
fn a_job_that_runs_cannot_be_cancelled() {
    let pool = queue(1, 1);
    let (gate, started) = (Gate::new(), Arrivals::new());
    let (inside, arrived) = (gate.clone(), started.clone());
    let job = pool.spawn(move || {
        arrived.arrive();
        inside.wait();
        "done"
    });
    let job = job.unwrap();
    started.wait_for(1);
    assert!(!job.cancel());
    gate.open();
    assert_eq!(job.join().unwrap(), "done");
    assert_eq!(pool.stats().cancelled, 0);
}

/// Cancels race with the workers: each job either ran or was cancelled, and the handle's word is true.
#[test]
fn a_cancel_and_a_worker_never_both_have_a_job() {
    let pool = queue(2, 64);
    for _ in 0..200 {
        let jobs: Vec<_> = (0..20)
            .map(|_| {
                let ran = Arc::new(AtomicBool::new(false));
                let inside = Arc::clone(&ran);
                let job = pool.spawn(move || inside.store(true, Ordering::SeqCst));
                (job.unwrap(), ran)
            })
            .collect();
        for (job, ran) in jobs.into_iter().rev() {
            let cancelled = job.cancel();
            let outcome = job.join();
            assert_eq!(outcome.is_err_and(|error| error.is_cancelled()), cancelled);
            assert_eq!(ran.load(Ordering::SeqCst), !cancelled);
        }
    }
    pool.wait_idle();
    assert_at_rest(&pool);
}

// ── long-lived tasks, and stops ─────────────────────────────────────────────────────────────

/// Those that sleep on the token and those that look at it, those that run and one that is still queued:
/// all end once the pool is stopped.
#[test]
fn long_lived_tasks_end_on_the_stop_token() {
    type Stop = fn(&PoolHandle);
    let stops: [Stop; 2] = [PoolHandle::release, |pool| {
        let _ = pool.release_timeout(Duration::ZERO);
    }];
    for stop in stops {
        let pool = queue(2, 1);
        let begun = Arrivals::new();
        let (token, arrived) = (pool.stop_token(), begun.clone());
        let sleeper = pool.spawn(move || {
            arrived.arrive();
            token.wait_timeout(Duration::MAX)
        });
        let (token, arrived) = (pool.stop_token(), begun.clone());
        let looker = pool.spawn(move || {
            arrived.arrive();
            while !token.is_stopped() {
                thread::yield_now();
            }
            true
        });
        begun.wait_for(2);
        let token = pool.stop_token();
        let queued = pool.spawn(move || token.wait_timeout(Duration::MAX));

        stop(&pool);
        for task in [sleeper.unwrap(), looker.unwrap(), queued.unwrap()] {
            let ended = task.join_timeout(DEADLINE).expect("it ends");
            assert!(ended.unwrap(), "it saw the stop");
        }
        pool.release_timeout(DEADLINE).unwrap();
        assert_eq!(pool.workers(), 0);
    }
}

/// Dropping the pool stops them, too; and one that ends by itself has seen no stop.
#[test]
fn dropping_the_pool_ends_its_long_lived_tasks() {
    let pool = Pool::with_capacity(2);
    let token = pool.stop_token();
    let short = pool.spawn(move || token.wait_timeout(A_MOMENT)).unwrap();
    assert!(!short.join().unwrap(), "the pool is open");

    let token = pool.stop_token();
    let long = pool.spawn(move || token.wait_timeout(Duration::MAX));
    watchdog("the pool is dropped", move || drop(pool));
    assert!(long.unwrap().join().unwrap());
}

/// `release_now` stops what runs by the token, and drops what is queued.
#[test]
fn a_stop_at_once_ends_the_long_lived_tasks_and_drops_the_queue() {
    // Many times: the one that ends must not get to the queue before the stop does.
    for _ in 0..500 {
        let pool = queue(1, 5);
        let (begun, token) = (Arrivals::new(), pool.stop_token());
        let arrived = begun.clone();
        let long = pool.spawn(move || {
            arrived.arrive();
            token.wait_timeout(Duration::MAX)
        });
        begun.wait_for(1);
        let queued: Vec<_> = (0..5).map(|_| pool.spawn(|| {}).unwrap()).collect();
        assert_eq!(pool.release_now(), 5);
        assert!(long.unwrap().join().unwrap());
        for job in queued {
            assert!(job.join().unwrap_err().is_cancelled());
        }
        pool.release_timeout(DEADLINE).unwrap();
        assert_at_rest(&pool);
    }
}

/// While long-lived tasks run, others are added by the program and by the tasks themselves, also by one
/// that is about to end because of the stop: what it submits last still runs.
#[test]
fn tasks_are_added_while_the_pool_runs_and_stops() {
    let pool = queue(2, 2);
    let (begun, token) = (Arrivals::new(), pool.stop_token());
    let done = Log::new();
    let (arrived, from_task) = (begun.clone(), done.clone());
    let background = pool.spawn(move || {
        let pool = PoolHandle::current().unwrap();
        let log = from_task.clone();
        expect_accepted(pool.submit(move || log.push("by a task")));
        arrived.arrive();
        assert!(token.wait_timeout(Duration::MAX));
        expect_accepted(pool.submit(move || from_task.push("at the end")));
    });
    begun.wait_for(1);
    let log = done.clone();
    expect_accepted(pool.submit(move || log.push("from outside")));
    eventually("two were done", || done.len() == 2);

    pool.release_timeout(DEADLINE).unwrap();
    background.unwrap().join().unwrap();
    let mut done = done.entries();
    assert_eq!(done.pop(), Some("at the end"));
    done.sort_unstable();
    assert_eq!(done, ["by a task", "from outside"]);
    assert_eq!(refusal(pool.submit(|| {})), SubmitErrorKind::Closed);
    assert_at_rest(&pool);
}

/// A stop before the first task starts no thread, waits for none, and lets nothing in any more.
#[test]
fn stop_before_the_first_task() {
    let stops: [fn(&PoolHandle); 3] = [
        |pool| pool.release(),
        |pool| pool.release_timeout(Duration::ZERO).unwrap(),
        |pool| assert_eq!(pool.release_now(), 0),
    ];
    for stop in stops {
        let pool = queue(3, 5);
        stop(&pool);
        assert!(pool.is_closed());
        assert!(pool.stop_token().is_stopped());
        assert_eq!(refusal(pool.submit(|| {})), SubmitErrorKind::Closed);
        assert!(pool.spawn(|| {}).is_err());
        let group = pool.group::<()>();
        assert!(group.submit(|| Ok(())).is_err());
        assert_eq!(pool.stats().workers_started, 0);
        assert_at_rest(&pool);
    }
}

/// Any stop may follow any other, from any thread, and in a task: nothing runs twice, nothing is lost.
#[test]
fn stop_twice() {
    let stops: [fn(&PoolHandle); 3] = [
        PoolHandle::release,
        |pool| {
            let _ = pool.release_timeout(Duration::ZERO);
        },
        |pool| {
            pool.release_now();
        },
    ];
    for first in stops {
        for second in stops {
            let pool = queue(2, 8);
            let occupied = occupy(&pool, 2);
            let ran = Arrivals::new();
            for _ in 0..8 {
                let ran = ran.clone();
                expect_accepted(pool.submit(move || ran.arrive()));
            }
            first(&pool);
            second(&pool);
            occupied.end();
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| pool.release_timeout(DEADLINE).unwrap());
                }
            });
            let stats = pool.stats();
            assert_eq!(stats.completed, 2 + ran.count() as u64, "{stats:?}");
            assert_eq!(stats.completed + stats.discarded, 10, "{stats:?}");
            assert!([0, 8].contains(&stats.discarded), "{stats:?}");
            assert_at_rest(&pool);
        }
    }
}

/// A task may stop its own pool: those behind it in the queue still run.
#[test]
fn a_task_stops_its_pool() {
    let pool = queue(1, 3);
    let occupied = occupy(&pool, 1);
    let ran = Arrivals::new();
    expect_accepted(pool.submit(|| {
        let pool = PoolHandle::current().unwrap();
        pool.release();
        assert!(pool.release_timeout(Duration::MAX).is_err(), "not here");
    }));
    for _ in 0..2 {
        let ran = ran.clone();
        expect_accepted(pool.submit(move || ran.arrive()));
    }
    occupied.end();
    pool.wait_idle();
    assert_eq!(ran.count(), 2);
    assert_eq!(pool.stats().panicked, 0);
    pool.release_timeout(DEADLINE).unwrap();
}

/// The pool is stopped at each moment of a row of submits, softly or at once. Each job has run, or was
/// discarded and its handle says so, or came back: none is lost, and none is had twice.
#[test]
fn stop_at_any_moment_loses_nothing_silently() {
    const JOBS: usize = 30;

    for softly in [true, false] {
        for moment in 0..=JOBS {
            let pool = queue(2, 3);
            let (handed_in, ran) = (Arrivals::new(), Arc::new(AtomicUsize::new(0)));
            let (handles, given_back, discarded) = thread::scope(|scope| {
                let producer = scope.spawn(|| {
                    let (mut handles, mut given_back) = (Vec::new(), 0);
                    for _ in 0..JOBS {
                        let ran = Arc::clone(&ran);
                        let job = pool.spawn(move || ran.fetch_add(1, Ordering::SeqCst));
                        match job {
                            Ok(handle) => handles.push(handle),
                            Err(refused) => {
                                assert_eq!(refused.kind(), SubmitErrorKind::Closed);
                                given_back += 1;
                            }
                        }
                        handed_in.arrive();
                    }
                    (handles, given_back)
                });
                handed_in.wait_for(moment);
                let discarded = if softly {
                    pool.release();
                    0
                } else {
                    pool.release_now()
                };
                let (handles, given_back) = producer.join().unwrap();
                (handles, given_back, discarded)
            });
            pool.release_timeout(DEADLINE).unwrap();
            let accepted = handles.len();
            let outcomes = handles.into_iter().map(JoinHandle::join);
            let told = outcomes
                .filter_map(Result::err)
                .filter(JoinError::is_cancelled)
                .count();
            let ran = ran.load(Ordering::SeqCst);
            assert!(accepted >= moment);
            assert_eq!(accepted + given_back, JOBS);
            assert_eq!(ran + told, accepted, "stopped at {moment}");
            assert_eq!(pool.stats().discarded, told as u64);
            // But for one that was on its way in.
            assert!(!softly || told == 0);
            assert!((discarded..=discarded + 1).contains(&told));
            assert_at_rest(&pool);
        }
    }
}

// ── throttling ──────────────────────────────────────────────────────────────────────────────

/// A hundred tasks on a share of a pool: exactly `at_once` of them at a time, results in order; and the
/// rest of the pool is free for others all the while.
#[test]
fn a_limit_throttles_on_a_shared_pool() {
    for at_once in [1, 2, 5, 10] {
        let pool = Pool::builder()
            .capacity(at_once + 2)
            .unbounded_backlog()
            .build()
            .unwrap();
        let throttled = pool.limit(at_once);
        let (running, arrived, gate) = (Running::new(), Arrivals::new(), Gate::new());
        let mut handles = Vec::new();
        for task in 0..100 {
            let (running, arrived, gate) = (running.clone(), arrived.clone(), gate.clone());
            let work = move || {
                let _inside = running.enter();
                arrived.arrive();
                gate.wait();
                task
            };
            handles.push(throttled.spawn(work).unwrap());
        }
        let gate = gate.opened_on_drop();
        arrived.wait_for(at_once);
        assert_eq!(
            (throttled.running(), throttled.queued()),
            (at_once, 100 - at_once)
        );
        // Two workers are left, and both of them are for others.
        let others = occupy(&pool, 2);
        others.end();

        gate.open();
        let results = handles.into_iter().map(|handle| handle.join().unwrap());
        assert!(results.eq(0..100));
        throttled.wait_idle();
        assert_eq!((running.peak(), arrived.count()), (at_once, 100));
        assert_eq!(throttled.stats().completed, 100);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

/// The same while others keep the pool busy, and some of the tasks panic: at most so many, at any time.
#[test]
fn a_limit_holds_on_a_busy_pool() {
    let pool = Pool::builder()
        .capacity(8)
        .unbounded_backlog()
        .panic_handler(|_| {})
        .build()
        .unwrap();
    let throttled = pool.limit(3);
    let running = Running::new();
    for task in 0..1_000 {
        expect_accepted(pool.submit(thread::yield_now));
        let running = running.clone();
        expect_accepted(throttled.submit(move || {
            let _inside = running.enter();
            thread::yield_now();
            assert!(task % 10 != 0, "on purpose");
        }));
    }
    throttled.wait_idle();
    assert!(running.peak() <= 3, "{} at once", running.peak());
    let stats = throttled.stats();
    assert_eq!((stats.completed, stats.panicked), (900, 100), "{stats:?}");
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// A hundred tasks on a pool of their own: exactly `at_once` at a time, results in order, by handles
/// and by a map.
#[test]
fn a_pool_of_its_own_throttles() {
    for at_once in [1, 2, 5, 10] {
        let (running, arrived) = (Running::new(), Arrivals::new());
        let (at_work, together) = (running.clone(), arrived.clone());
        let work = move |task: usize| {
            let _inside = at_work.enter();
            together.arrive();
            // None goes on before so many run at once.
            together.wait_for(at_once);
            task
        };
        let pool = Pool::with_capacity(at_once);
        let (handle, by_map) = (pool.handle(), work.clone());
        let results: Vec<usize> = watchdog("a hundred tasks by a map", move || {
            handle.map(0..100, by_map).collect()
        });
        assert!(results.into_iter().eq(0..100));

        let spawn = |task| {
            let work = work.clone();
            pool.spawn(move || work(task)).unwrap()
        };
        let handles: Vec<_> = (0..100).map(spawn).collect();
        let results = handles.into_iter().map(|handle| handle.join().unwrap());
        assert!(results.eq(0..100));
        pool.wait_idle();
        assert_eq!((running.peak(), arrived.count()), (at_once, 200));
        assert_at_rest(&pool);
    }
}
