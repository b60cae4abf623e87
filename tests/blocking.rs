//! P28: a task that blocks lends its place to a stand-in; the tasks that do not lend stay within the capacity, the books
//! balance, and a cap bounds the stand-ins.
//!
//! What runs at once is counted by the tasks themselves.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anthill::{Builder, Overflow, Pool, PoolHandle, SubmitErrorKind, blocking, lendable};
use rand::Rng;
use support::{
    Arrivals, Gate, Log, Running, assert_at_rest, eventually_eq, eventually_waiting,
    expect_accepted, in_a_task, joined, occupy, pools, receive, refusal, seeded_rng, spawned,
    watchdog,
};

fn unbounded(capacity: usize) -> Builder {
    Pool::builder()
        .capacity(capacity)
        .unbounded_backlog()
        .panic_handler(|_| {})
}

/// Tasks that lend their places until the gate opens; all of them do when this returns.
#[track_caller]
fn lend(pool: &PoolHandle, tasks: usize) -> support::OpensOnDrop {
    let (gate, arrived) = (Gate::new(), Arrivals::new());
    for _ in 0..tasks {
        let (gate, arrived) = (gate.clone(), arrived.clone());
        expect_accepted(pool.submit(move || {
            blocking(|| {
                arrived.arrive();
                gate.wait();
            });
        }));
    }
    arrived.wait_for(tasks);
    gate.opened_on_drop()
}

#[test]
fn p28_a_task_waits_for_what_a_later_one_does_at_capacity_1() {
    for pool in pools(1) {
        let (sender, receiver) = channel();
        let (answer, answered) = channel();
        expect_accepted(pool.submit(move || {
            answer.send(blocking(|| receiver.recv())).unwrap();
        }));
        // Without a backlog the submitter waits in line until the place is lent.
        expect_accepted(pool.submit(move || sender.send(7).unwrap()));
        assert_eq!(receive("the answer", &answered), Ok(7));
        watchdog("rest", {
            let pool = pool.handle();
            move || pool.wait_idle()
        });
        assert_at_rest(&pool);
    }
}

/// A batch and the children of a task are not kept from the others while the task blocks.
#[test]
fn p28_what_is_in_the_local_queue_runs_meanwhile() {
    let pool = unbounded(1).build().unwrap();
    let held = occupy(&pool, 1);
    let (sender, receiver) = channel();
    let handle = pool.handle();
    let (child, batched) = (sender.clone(), sender);
    let first = spawned(pool.spawn(move || {
        expect_accepted(handle.submit(move || child.send("child").unwrap()));
        blocking(|| [receiver.recv().unwrap(), receiver.recv().unwrap()])
    }));
    for _ in 0..20 {
        let batched = batched.clone();
        expect_accepted(pool.submit(move || {
            let _ = batched.send("batched");
        }));
    }
    held.end();
    // At capacity 1 with nobody else to run them.
    joined(first).unwrap();
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// The bound, whatever lends, returns, panics, and tunes.
#[test]
fn p28_tasks_that_do_not_lend_stay_within_the_capacity() {
    for (bounded, capacity) in [(true, 1), (false, 1), (true, 3), (false, 3)] {
        let mut rng = seeded_rng("p28_tasks_that_do_not_lend_stay_within_the_capacity");
        let builder = unbounded(capacity).max_lent(4);
        let builder = if bounded { builder.backlog(2) } else { builder };
        let pool = builder.build().unwrap();
        let running = Running::new();
        let tasks: Vec<(u32, bool, bool)> = (0..1_500)
            .map(|_| {
                (
                    rng.random_range(0..4),
                    rng.random_bool(0.1),
                    rng.random_bool(0.1),
                )
            })
            .collect();
        let pauses = rng.random_range(5..20);
        thread::scope(|scope| {
            let tuner = pool.handle();
            scope.spawn(move || {
                for _ in 0..pauses {
                    tuner.tune(0);
                    thread::yield_now();
                    tuner.tune(capacity);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            for &(lends, panics_within, panics) in &tasks {
                let running = running.clone();
                expect_accepted(pool.submit(move || {
                    for _ in 0..lends {
                        drop(running.enter());
                        let blocked = AssertUnwindSafe(|| {
                            blocking(|| {
                                thread::yield_now();
                                assert!(!panics_within, "on purpose");
                            });
                        });
                        let _ = catch_unwind(blocked);
                    }
                    let _inside = running.enter();
                    thread::yield_now();
                    assert!(!panics, "on purpose");
                }));
            }
        });
        pool.wait_idle();
        assert!(running.peak() <= capacity, "{} at once", running.peak());
        assert_at_rest(&pool);
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.lent), (1_500, 0), "{stats:?}");
        assert!(stats.workers_peak <= capacity + 4, "{stats:?}");
    }
}

#[test]
fn p28_a_cap_bounds_the_stand_ins() {
    let pool = unbounded(1).max_lent(2).build().unwrap();
    let gate = lend(&pool, 2);
    assert_eq!((pool.lent(), pool.running()), (2, 0));
    // The third one keeps its place.
    let (inside, third) = (Gate::new(), Arrivals::new());
    let (waits, arrives) = (inside.clone(), third.clone());
    expect_accepted(pool.submit(move || {
        blocking(|| {
            arrives.arrive();
            waits.wait();
        });
    }));
    third.wait_for(1);
    assert_eq!((pool.lent(), pool.running(), pool.workers()), (2, 1, 3));
    let last = spawned(pool.spawn(|| ()));
    assert!(!last.is_finished());
    assert_eq!(pool.queued(), 1);
    let inside = inside.opened_on_drop();
    inside.open();
    joined(last).unwrap();
    gate.open();
    pool.wait_idle();
    assert_eq!(pool.stats().workers_peak, 3);

    let none = unbounded(1).max_lent(0).build().unwrap();
    assert_eq!(
        in_a_task(&none, "no lending", move || blocking(|| {
            PoolHandle::current().unwrap().lent()
        })),
        0
    );
}

#[test]
fn p28_stand_ins_are_reused_and_expire() {
    for keep in [false, true] {
        let builder = unbounded(1).idle_timeout(Duration::from_millis(50));
        let builder = if keep {
            builder.keep_workers()
        } else {
            builder
        };
        let pool = builder.build().unwrap();
        let handle = pool.handle();
        watchdog("10,000 calls", move || {
            let one = handle.clone();
            let task = move || {
                for _ in 0..10_000 {
                    let other = one.spawn(|| ()).unwrap();
                    blocking(|| other.join()).unwrap();
                }
            };
            spawned(handle.spawn(task)).join().unwrap();
        });
        pool.wait_idle();
        let stats = pool.stats();
        assert!(stats.workers_started <= 3, "{stats:?}");
        if !keep {
            eventually_eq("workers", 0, || pool.workers());
        }
    }
}

/// As with all workers beyond the capacity: a smaller one retires idle stand-ins at once.
#[test]
fn p28_tune_retires_idle_stand_ins() {
    let pool = unbounded(4).build().unwrap();
    let gate = lend(&pool, 4);
    occupy(&pool, 4).end();
    gate.open();
    pool.wait_idle();
    eventually_eq("idle", 8, || pool.idle());
    pool.tune(2);
    eventually_eq("workers", 2, || pool.workers());
}

#[test]
fn p28_room_is_made_for_submitters() {
    let pool = Pool::with_capacity(1);
    let gate = lend(&pool, 1);
    assert_eq!((pool.free(), pool.idle()), (1, 0));
    let held = occupy(&pool, 1);
    assert_eq!(refusal(pool.try_submit(|| ())), SubmitErrorKind::Full);
    // A place that was taken back leaves no room until the others have ended.
    gate.open();
    thread::yield_now();
    assert_eq!(refusal(pool.try_submit(|| ())), SubmitErrorKind::Full);
    held.end();
    pool.wait_idle();
    assert_at_rest(&pool);
    expect_accepted(pool.try_submit(|| ()));
}

/// Those that wait in line come in order as places are lent, one for each.
#[test]
fn p28_the_line_is_served_in_order() {
    let pool = Pool::with_capacity(1);
    let (go, log) = (Gate::new(), Log::new());
    let opens = go.clone();
    expect_accepted(pool.submit(move || {
        go.wait();
        blocking(|| ());
    }));
    let opens = opens.opened_on_drop();
    thread::scope(|scope| {
        for number in 0..5 {
            let log = log.clone();
            let pool = &pool;
            scope.spawn(move || expect_accepted(pool.submit(move || log.push(number))));
            eventually_waiting(pool, number + 1);
        }
        opens.open();
    });
    pool.wait_idle();
    assert_eq!(log.entries(), [0, 1, 2, 3, 4]);
}

#[cfg(target_os = "linux")]
#[test]
fn p28_a_task_that_returns_waits_for_its_turn() {
    use support::linux::{eventually_asleep, thread_id};

    let pool = unbounded(1).build().unwrap();
    let (sender, receiver) = channel();
    let (leaves, left) = channel();
    let gate = Gate::new();
    let waits = gate.clone();
    let returns = spawned(pool.spawn(move || {
        blocking(|| {
            waits.wait();
            leaves.send(thread_id()).unwrap();
        });
        sender.send(()).unwrap();
    }));
    eventually_eq("lent", 1, || pool.lent());
    let held = occupy(&pool, 1);
    gate.open();
    // It has nothing to wait for but its turn.
    eventually_asleep(receive("the end of its wait", &left));
    assert!(receiver.try_recv().is_err(), "two at once");
    assert_eq!((pool.lent(), pool.running()), (1, 1));
    // It comes before what is queued.
    let (queued, starts) = channel();
    expect_accepted(pool.submit(move || queued.send(receiver.try_recv()).unwrap()));
    held.end();
    assert_eq!(receive("the next", &starts), Ok(()));
    joined(returns).unwrap();
}

/// A pause lets a task finish that had started, and starts nothing.
#[test]
fn p28_a_paused_pool_lets_a_task_return() {
    let pool = unbounded(2).build().unwrap();
    let gate = lend(&pool, 3);
    pool.tune(0);
    let queued = spawned(pool.spawn(|| ()));
    gate.open();
    eventually_eq("lent", 0, || pool.lent());
    eventually_eq("running", 0, || pool.running());
    assert!(!queued.is_finished());
    pool.tune(1);
    joined(queued).unwrap();
    pool.wait_idle();
    assert_at_rest(&pool);
}

#[test]
fn p28_a_panic_takes_the_place_back() {
    let pool = unbounded(1).build().unwrap();
    let lost = spawned(pool.spawn(|| blocking(|| panic!("on purpose"))));
    assert!(joined(lost).unwrap_err().is_panic());
    pool.wait_idle();
    assert_eq!((pool.lent(), pool.free()), (0, 1));
    assert_at_rest(&pool);
}

#[test]
fn p28_rest_and_release_wait_for_a_task_that_lends() {
    let pool = unbounded(1).build().unwrap();
    let gate = lend(&pool, 1);
    assert!(!pool.wait_idle_timeout(Duration::from_millis(10)));
    let remains = pool.release_timeout(Duration::from_millis(10)).unwrap_err();
    assert_eq!((remains.lent(), remains.running()), (1, 0));
    assert!(remains.to_string().contains("1 lent"), "{remains}");
    gate.open();
    pool.release_timeout(Duration::MAX).unwrap();
    assert_at_rest(&pool);
}

#[test]
fn p28_a_reboot_and_a_discard_while_lent() {
    let pool = unbounded(1).build().unwrap();
    let gate = lend(&pool, 1);
    let held = occupy(&pool, 1);
    let discarded = spawned(pool.spawn(|| ()));
    assert_eq!(pool.release_now(), 1);
    assert!(joined(discarded).unwrap_err().is_cancelled());
    pool.reboot();
    held.end();
    joined(spawned(pool.spawn(|| ()))).unwrap();
    gate.open();
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// `blocking` in `blocking`, outside of pools, and in the thread of another one.
#[test]
fn p28_it_lends_once_and_only_where_there_is_a_place() {
    assert_eq!(blocking(|| 7), 7);
    let pool = unbounded(1).build().unwrap();
    let handle = pool.handle();
    let nested = move || blocking(|| blocking(|| handle.lent()));
    assert_eq!(in_a_task(&pool, "nested", nested), 1);
    // In a task that its submitter runs there is none.
    let callers = (Pool::builder().capacity(1).overflow(Overflow::CallerRuns))
        .build()
        .unwrap();
    let held = occupy(&callers, 1);
    let (sender, receiver) = channel();
    let handle = callers.handle();
    expect_accepted(callers.submit(move || sender.send(blocking(|| handle.lent())).unwrap()));
    assert_eq!(receive("the caller's", &receiver), 0);
    // On a worker of another pool that one's is lent.
    let (of_worker, of_other) = (pool.handle(), callers.handle());
    let both = in_a_task(&pool, "of both", move || {
        let (sender, receiver) = channel();
        let (worker, other) = (of_worker.clone(), of_other.clone());
        let task = move || {
            sender
                .send(blocking(|| (worker.lent(), other.lent())))
                .unwrap();
        };
        expect_accepted(of_other.submit(task));
        receiver.recv().unwrap()
    });
    assert_eq!(both, (1, 0));
    held.end();
}

/// A join in it leaves the task to others; elsewhere it runs it. So does a scope.
#[test]
fn p28_joins_scopes_and_maps_in_it_complete_at_capacity_1() {
    let pool = unbounded(1).build().unwrap();
    let handle = pool.handle();
    let running = Running::new();
    let counts = running.clone();
    let sum = in_a_task(&pool, "waits in blocking", move || {
        let counts = &counts;
        let child = {
            let counts = counts.clone();
            handle.spawn(move || drop(counts.enter())).unwrap()
        };
        blocking(|| child.join()).unwrap();
        blocking(|| {
            handle.scope(|scope| {
                for _ in 0..5 {
                    scope.submit(move || drop(counts.enter()));
                }
            });
        });
        blocking(|| handle.map(1..=9, |number| number).sum::<u32>())
    });
    assert_eq!((sum, running.peak()), (45, 1));
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// A task that a join runs lends the place of the worker.
#[test]
fn p28_a_task_within_a_join_lends() {
    let pool = unbounded(1).build().unwrap();
    let handle = pool.handle();
    let lent = in_a_task(&pool, "within a join", move || {
        let (sender, receiver) = channel();
        let child = handle
            .spawn(move || blocking(|| receiver.recv().unwrap()))
            .unwrap();
        let (inner, other) = (handle.clone(), handle.clone());
        expect_accepted(other.submit(move || sender.send(inner.lent()).unwrap()));
        child.join().unwrap()
    });
    assert_eq!(lent, 1);
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// It keeps its turn in the share, and lends the place in the pool.
#[test]
fn p28_a_serial_task_keeps_its_turn() {
    let pool = unbounded(1).build().unwrap();
    let (serial, keyed) = (pool.serial(), pool.keyed::<u8>());
    let (gate, running) = (Gate::new(), Running::new());
    let waits = gate.clone();
    let inside = running.clone();
    expect_accepted(serial.submit(move || {
        let _inside = inside.enter();
        blocking(|| waits.wait());
    }));
    eventually_eq("lent", 1, || pool.lent());
    let second = running.clone();
    let next = spawned(serial.spawn(move || drop(second.enter())));
    let waits = gate.clone();
    expect_accepted(keyed.submit(1, move || blocking(|| waits.wait())));
    eventually_eq("lent", 2, || pool.lent());
    joined(spawned(keyed.spawn(2, || ()))).unwrap();
    assert!(!next.is_finished());
    gate.open();
    joined(next).unwrap();
    pool.wait_idle();
    assert_eq!(running.peak(), 1);
    assert_at_rest(&pool);
}

/// What a task submits while it lends does not wait for its return.
#[test]
fn p28_submits_meanwhile_run_meanwhile() {
    for pool in pools(1) {
        let handle = pool.handle();
        let sum = in_a_task(&pool, "its own children", move || {
            let (sender, receiver) = channel();
            blocking(|| {
                for number in 1..=9 {
                    let sender = sender.clone();
                    expect_accepted(handle.submit(move || sender.send(number).unwrap()));
                }
                drop(sender);
                receiver.iter().sum::<u32>()
            })
        });
        assert_eq!(sum, 45);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

#[test]
fn p28_another_thread_lends_for_a_task_that_does_not() {
    let pool = unbounded(1).build().unwrap();
    let (gate, lenders) = (Gate::new(), channel());
    let waits = gate.clone();
    let running = Running::new();
    let counts = running.clone();
    let (sender, receiver) = lenders;
    let blocks = spawned(pool.spawn(move || {
        {
            let place = lendable().unwrap();
            sender.send(place.lender()).unwrap();
            waits.wait();
        }
        drop(counts.enter());
    }));
    let lender = receive("a lender", &receiver);
    assert!(lender.lend());
    assert_eq!((pool.lent(), pool.running()), (1, 0));
    assert!(!lender.lend(), "once");
    let counts = running.clone();
    joined(spawned(pool.spawn(move || drop(counts.enter())))).unwrap();
    gate.open();
    joined(blocks).unwrap();
    assert!(!lender.lend(), "it has ended");
    assert_eq!(running.peak(), 1);
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// Lent from outside at random moments, with children in the local queue.
#[test]
fn p28_lent_by_others_the_bound_holds() {
    let mut rng = seeded_rng("p28_lent_by_others_the_bound_holds");
    let pool = unbounded(2).max_lent(3).build().unwrap();
    let (running, ran) = (Running::new(), Arc::new(AtomicUsize::new(0)));
    let (sender, receiver) = channel::<anthill::Lender>();
    let watchdog = thread::spawn(move || receiver.iter().filter(anthill::Lender::lend).count());
    for _ in 0..1_000 {
        let (running, ran, sender) = (running.clone(), Arc::clone(&ran), sender.clone());
        let (handle, turns) = (pool.handle(), rng.random_range(0..30));
        expect_accepted(pool.submit(move || {
            drop(running.enter());
            {
                let place = lendable();
                if let Some(place) = &place {
                    sender.send(place.lender()).unwrap();
                }
                let (running, ran) = (running.clone(), Arc::clone(&ran));
                expect_accepted(handle.submit(move || {
                    let _inside = running.enter();
                    ran.fetch_add(1, Ordering::SeqCst);
                }));
                (0..turns).for_each(|_| thread::yield_now());
            }
            let _inside = running.enter();
            ran.fetch_add(1, Ordering::SeqCst);
        }));
    }
    pool.wait_idle();
    drop(sender);
    let lent = watchdog.join().unwrap();
    assert!(lent > 0, "it lent none");
    assert_eq!(ran.load(Ordering::SeqCst), 2_000);
    assert!(running.peak() <= 2, "{} at once", running.peak());
    assert_at_rest(&pool);
}

/// The place is lent, so what the task waits for needs another one.
#[test]
fn p28_a_join_in_it_runs_nothing_itself() {
    let pool = unbounded(1).build().unwrap();
    let (gate, handle) = (Gate::new(), pool.handle());
    let waits = gate.clone();
    let early = spawned(pool.spawn(move || {
        blocking(|| {
            waits.wait();
            let child = spawned(handle.spawn(|| ()));
            child.join_timeout(Duration::ZERO).is_ok()
        })
    }));
    eventually_eq("lent", 1, || pool.lent());
    let held = occupy(&pool, 1);
    gate.open();
    eventually_eq("queued", 1, || pool.queued());
    held.end();
    assert!(!joined(early).unwrap(), "two at once");
    pool.wait_idle();
    assert_at_rest(&pool);
}
