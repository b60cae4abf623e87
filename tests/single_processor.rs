//! P24: where all threads share one processor, a submitter that waits for room costs about two context switches for
//! each time the pool was full, not two for each task. Switches are counted, those of the submitter and of
//! the workers; each test pins its threads, which the workers inherit.

#![cfg(target_os = "linux")]

mod support;

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, ThreadId};

use anthill::{Overflow, Pool, SubmitErrorKind};
use support::linux::{affinity, context_switches, eventually_asleep, pin, thread_id};
use support::{Arrivals, Gate, expect_accepted, refusal, watchdog};

/// Runs `body` on a thread that is pinned.
fn pinned<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    watchdog("all on one processor", move || {
        pin(0, &affinity()[..1]);
        body()
    })
}

/// A pool that keeps its workers, and their ids.
fn pool_of(capacity: usize) -> (Pool, Arc<Mutex<Vec<u32>>>) {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let started = Arc::clone(&ids);
    let pool = Pool::builder()
        .capacity(capacity)
        .keep_workers()
        .on_worker_start(move |_| started.lock().unwrap().push(thread_id()))
        .build()
        .unwrap();
    (pool, ids)
}

fn flood(pool: &Pool, tasks: usize) {
    for _ in 0..tasks {
        expect_accepted(pool.submit(|| ()));
    }
    pool.wait_idle();
}

/// Switches of the submitter and the workers for each of so many empty tasks.
fn switches_a_task(capacity: usize) -> f64 {
    const TASKS: usize = 30_000;
    pinned(move || {
        let (pool, ids) = pool_of(capacity);
        flood(&pool, TASKS / 10);
        let before: Vec<(u32, u64)> = (ids.lock().unwrap().iter().copied())
            .chain([thread_id()])
            .map(|id| (id, context_switches(id)))
            .collect();
        flood(&pool, TASKS);
        let new = ids.lock().unwrap()[before.len() - 1..].to_vec();
        let of_new: u64 = new.into_iter().map(context_switches).sum();
        let of_old: u64 = (before.into_iter())
            .map(|(id, before)| context_switches(id) - before)
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let a_task = (of_new + of_old) as f64 / TASKS as f64;
        a_task
    })
}

/// The same where the pool may use several processors, but the system has left all its threads on one: beside others
/// that compute, it does so by itself. `None`, and told, where there is one processor only.
fn switches_a_task_in_a_crowd(capacity: usize) -> Option<f64> {
    const TASKS: usize = 30_000;
    watchdog("a crowd on one of several processors", move || {
        let processors = affinity();
        if processors.len() < 2 {
            eprintln!("skipped: there is one processor only");
            return None;
        }
        let (pool, ids) = pool_of(capacity);
        flood(&pool, TASKS / 10);
        let threads: Vec<u32> = (ids.lock().unwrap().iter().copied())
            .chain([thread_id()])
            .collect();
        for id in threads {
            pin(i32::try_from(id).unwrap(), &processors[..1]);
        }
        flood(&pool, TASKS / 10);
        let count = || -> u64 {
            let workers = ids.lock().unwrap();
            (workers.iter().copied().chain([thread_id()]))
                .map(context_switches)
                .sum()
        };
        let before = count();
        flood(&pool, TASKS);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let a_task = (count() - before) as f64 / TASKS as f64;
        Some(a_task)
    })
}

#[test]
fn p24_eight_workers_in_a_crowd_switch_once_for_several_tasks() {
    if let Some(switches) = switches_a_task_in_a_crowd(8) {
        assert!(switches <= 0.35, "{switches}");
    }
}

#[test]
fn p24_64_workers_in_a_crowd_hardly_switch() {
    if let Some(switches) = switches_a_task_in_a_crowd(64) {
        assert!(switches <= 0.08, "{switches}");
    }
}

/// In a crowd a submitter that was let in beside a task that takes long goes on all the same.
#[test]
fn a_long_task_in_a_crowd_keeps_no_submitter_that_has_room() {
    watchdog("a long task in a crowd", || {
        let processors = affinity();
        if processors.len() < 2 {
            return eprintln!("skipped: there is one processor only");
        }
        let (pool, ids) = pool_of(8);
        flood(&pool, 3_000);
        (ids.lock().unwrap().iter().copied())
            .chain([thread_id()])
            .for_each(|id| pin(i32::try_from(id).unwrap(), &processors[..1]));
        for _ in 0..200 {
            flood(&pool, 50);
            // Among short ones, a task that ends only when its submitter has gone on, and has submitted more.
            let (go, gate) = channel::<()>();
            expect_accepted(pool.submit(move || gate.recv().unwrap()));
            for _ in 0..50 {
                expect_accepted(pool.submit(|| ()));
            }
            go.send(()).unwrap();
            pool.wait_idle();
        }
    });
}

#[test]
fn p24_two_workers_switch_about_once_a_task() {
    let switches = switches_a_task(2);
    assert!(switches <= 1.1, "{switches}");
}

#[test]
fn p24_eight_workers_switch_once_for_several_tasks() {
    let switches = switches_a_task(8);
    assert!(switches <= 0.35, "{switches}");
}

#[test]
fn p24_sixty_four_workers_hardly_switch() {
    let switches = switches_a_task(64);
    assert!(switches <= 0.13, "{switches}");
}

/// Wakes that were put off are made up for where tasks need one another.
#[test]
fn p24_tasks_that_meet_all_get_a_worker() {
    pinned(|| {
        let (pool, _ids) = pool_of(8);
        for _ in 0..50 {
            flood(&pool, 200);
            let meet = Arc::new(Barrier::new(8));
            for _ in 0..8 {
                let meet = Arc::clone(&meet);
                expect_accepted(pool.submit(move || {
                    meet.wait();
                }));
            }
            pool.wait_idle();
        }
    });
}

/// A submitter that waits for something other than the pool has its tasks run.
#[test]
fn p24_a_submitter_may_wait_elsewhere() {
    pinned(|| {
        let (pool, _ids) = pool_of(4);
        let (done, ends) = channel();
        for round in 0..300 {
            flood(&pool, 20);
            for _ in 0..=round % 4 {
                let done = done.clone();
                expect_accepted(pool.submit(move || done.send(()).unwrap()));
            }
            for _ in 0..=round % 4 {
                ends.recv().unwrap();
            }
        }
    });
}

/// A submitter that was let in goes on although its worker does not come to rest.
#[test]
fn p24_a_long_task_does_not_hold_who_was_let_in() {
    pinned(|| {
        let (pool, _ids) = pool_of(2);
        for _ in 0..100 {
            flood(&pool, 50);
            let gate = Gate::new();
            let waits = gate.clone();
            expect_accepted(pool.submit(|| ()));
            expect_accepted(pool.submit(|| ()));
            // Waits for room, which the first of them makes.
            expect_accepted(pool.submit(move || waits.wait()));
            gate.open();
            pool.wait_idle();
        }
    });
}

/// Who is refused gives the pool an occasion to go on.
#[test]
fn p24_a_submitter_that_never_waits_is_let_in_in_the_end() {
    pinned(|| {
        let (pool, _ids) = pool_of(3);
        let ran = Arrivals::new();
        flood(&pool, 100);
        for _ in 0..1_000 {
            let mut task = {
                let ran = ran.clone();
                move || ran.arrive()
            };
            while let Err(refused) = pool.try_submit(task) {
                assert_eq!(refused.kind(), SubmitErrorKind::Full);
                task = refused.into_inner();
                thread::yield_now();
            }
        }
        pool.wait_idle();
        assert_eq!(ran.count(), 1_000);
    });
}

/// No task runs on a submitter that waits.
#[test]
fn p24_tasks_run_on_workers_alone() {
    pinned(|| {
        let (pool, _ids) = pool_of(4);
        let here: ThreadId = thread::current().id();
        let elsewhere = Arc::new(AtomicUsize::new(0));
        for _ in 0..5_000 {
            let elsewhere = Arc::clone(&elsewhere);
            expect_accepted(pool.submit(move || {
                elsewhere.fetch_add(
                    usize::from(thread::current().id() != here),
                    Ordering::Relaxed,
                );
            }));
        }
        pool.wait_idle();
        assert_eq!(elsewhere.load(Ordering::Relaxed), 5_000);
    });
}

/// Once nobody submits any more, no worker goes on looking.
#[test]
fn p24_workers_of_a_pool_that_was_flooded_fall_asleep() {
    pinned(|| {
        let (pool, ids) = pool_of(4);
        flood(&pool, 5_000);
        let ids = ids.lock().unwrap().clone();
        // A worker that stands by stops after a look or two: from then on nothing moves.
        let count = || -> u64 { ids.iter().copied().map(context_switches).sum() };
        let mut last = count();
        support::eventually("no worker is switched to any more", || {
            thread::sleep(std::time::Duration::from_millis(20));
            let before = mem::replace(&mut last, count());
            before == last
        });
        ids.iter().copied().for_each(eventually_asleep);
    });
}

/// A release runs what was accepted, although its wakes were put off.
#[test]
fn p24_a_release_leaves_nothing_behind() {
    pinned(|| {
        for overflow in [Overflow::Block, Overflow::Reject, Overflow::CallerRuns] {
            for _ in 0..100 {
                let pool = Pool::builder().capacity(4).overflow(overflow);
                let pool = pool.build().unwrap();
                let ran = Arrivals::new();
                let mut accepted = 0;
                for _ in 0..40 {
                    let ran = ran.clone();
                    let outcome = pool.submit(move || ran.arrive());
                    match outcome {
                        Ok(()) => accepted += 1,
                        Err(refused) => {
                            assert_eq!(refusal(Err(refused)), SubmitErrorKind::Full);
                        }
                    }
                }
                drop(pool);
                assert_eq!(ran.count(), accepted);
            }
        }
    });
}
