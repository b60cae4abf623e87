//! `MultiPool`: several pools as one. A task goes to a pool that has room; those who find none wait in
//! one line, and whichever pool has room first takes the first of them.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anthill::{Balance, JoinHandle, MultiPool, PoolHandle, SubmitErrorKind};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, OpensOnDrop, Running, assert_all_at_rest,
    becomes_true, eventually, eventually_eq, expect_accepted, hold, receive, refusal, seeded_rng,
    shard, watchdog,
};

const BALANCES: [Balance; 2] = [Balance::RoundRobin, Balance::LeastLoaded];

fn loads(pools: &MultiPool) -> Vec<usize> {
    pools.shards().map(PoolHandle::running).collect()
}

/// All places of all shards, each with its gate.
#[track_caller]
fn fill(pools: &MultiPool) -> Vec<OpensOnDrop> {
    let shards = pools.shards();
    let held = shards.flat_map(|shard| (0..shard.capacity()).map(move |_| hold(shard)));
    held.collect()
}

#[track_caller]
fn eventually_waiting(pools: &MultiPool, number: usize) {
    eventually_eq("submitters waiting", number, || pools.waiting());
}

// ── where a task goes ───────────────────────────────────────────────────────────────────────────

/// `RoundRobin` takes one pool after the other.
#[test]
fn round_robin_goes_around() {
    let pools = MultiPool::new(4, 5, Balance::RoundRobin);
    let gate = Gate::new().opened_on_drop();
    for round in 1..=5 {
        for _ in 0..4 {
            let gate = gate.clone();
            expect_accepted(pools.submit(move || gate.wait()));
        }
        eventually_eq("tasks running", 4 * round, || pools.running());
        assert_eq!(loads(&pools), [round; 4]);
    }
    gate.open();
    assert_all_at_rest(&pools);
}

/// `LeastLoaded` takes the pool with the fewest tasks.
#[test]
fn least_loaded_fills_the_emptiest() {
    let pools = MultiPool::new(3, 4, Balance::LeastLoaded);
    let mut held: Vec<_> = (0..3).map(|_| hold(shard(&pools, 0))).collect();
    held.push(hold(shard(&pools, 2)));
    for expected in [[3, 1, 1], [3, 2, 1], [3, 2, 2], [3, 3, 2], [3, 3, 3]] {
        let gate = Gate::new();
        let inside = gate.clone();
        expect_accepted(pools.submit(move || inside.wait()));
        held.push(gate.opened_on_drop());
        eventually_eq("tasks running", expected.iter().sum(), || pools.running());
        assert_eq!(loads(&pools), expected);
    }
    drop(held);
    assert_all_at_rest(&pools);
}

/// There is at least one pool; without capacity they are paused, and too much of it is no overflow.
#[test]
fn odd_sizes_make_sense() {
    let pools = MultiPool::new(0, 1, Balance::RoundRobin);
    assert_eq!((pools.shards().len(), pools.capacity()), (1, 1));
    expect_accepted(pools.submit(|| ()));
    assert_all_at_rest(&pools);
    let pools = MultiPool::new(3, 0, Balance::LeastLoaded);
    assert_eq!(refusal(pools.try_submit(|| ())), SubmitErrorKind::Full);
    assert_eq!(pools.tune(1), 0);
    expect_accepted(pools.try_submit(|| ()));
    assert_all_at_rest(&pools);
    let pools = MultiPool::new(3, usize::MAX, Balance::LeastLoaded);
    assert_eq!((pools.capacity(), pools.free()), (usize::MAX, usize::MAX));
    assert!(format!("{pools:?}").starts_with("MultiPool"));
}

// ── one line ────────────────────────────────────────────────────────────────────────────────────

/// A full pool never holds a submitter while another has room: whichever is free first takes it.
#[test]
fn whichever_pool_has_room_takes_who_waits() {
    for balance in BALANCES {
        for free in 0..3 {
            let pools = MultiPool::new(3, 1, balance);
            let held = fill(&pools);
            let (sender, receiver) = channel();
            thread::scope(|scope| {
                let submits = || pools.submit(move || sender.send(()).unwrap());
                scope.spawn(move || expect_accepted(submits()));
                eventually_waiting(&pools, 1);
                held[free].open();
                receive("the free pool takes the task", &receiver);
            });
            assert_eq!(pools.waiting(), 0);
            drop(held);
            assert_all_at_rest(&pools);
        }
    }
}

/// Who waits is served first come, first served, by whichever pool; nobody overtakes.
#[test]
fn who_waits_is_served_in_turn_across_pools() {
    for balance in BALANCES {
        let pools = MultiPool::new(3, 1, balance);
        let held = fill(&pools);
        let begun = Log::new();
        let gates: Vec<OpensOnDrop> = (0..6).map(|_| Gate::new().opened_on_drop()).collect();
        thread::scope(|scope| {
            for (number, gate) in gates.iter().enumerate() {
                let (pools, gate, begun) = (&pools, Gate::clone(gate), begun.clone());
                scope.spawn(move || {
                    expect_accepted(pools.submit(move || {
                        begun.push(number);
                        gate.wait();
                    }));
                });
                eventually_waiting(pools, number + 1);
            }
            for (number, free) in [2, 0, 1].into_iter().enumerate() {
                held[free].open();
                eventually_eq("tasks begun", number + 1, || begun.len());
                assert_eq!(pools.waiting(), 5 - number);
                // The room there was belongs to who waits.
                assert_eq!(refusal(pools.try_submit(|| ())), SubmitErrorKind::Full);
            }
            for (number, ends) in [1, 0, 2].into_iter().enumerate() {
                gates[ends].open();
                eventually_eq("tasks begun", number + 4, || begun.len());
            }
            drop(gates);
        });
        assert_eq!(begun.entries(), [0, 1, 2, 3, 4, 5]);
        assert_all_at_rest(&pools);
    }
}

/// A task that a task has queued beyond the bound keeps its turn in the line, and holds nobody behind
/// it up while a pool has room.
#[test]
fn a_tasks_child_in_line_does_not_hold_others_up() {
    let pools = Arc::new(MultiPool::new(2, 1, Balance::RoundRobin));
    let go = Gate::new().opened_on_drop();
    let (inner, inside, ran) = (Arc::clone(&pools), go.clone(), Arrivals::new());
    let (child_ran, submitted) = (ran.clone(), Arrivals::new());
    let submits = submitted.clone();
    // On the first pool, in whose line all wait.
    let ends = Gate::new().opened_on_drop();
    let lasts = ends.clone();
    expect_accepted(shard(&pools, 0).try_submit(move || {
        inside.wait();
        expect_accepted(inner.submit(move || child_ran.arrive()));
        drop(inner);
        submits.arrive();
        lasts.wait();
    }));
    let other = hold(shard(&pools, 1));
    let second = Arrivals::new();
    let served = thread::scope(|scope| {
        let first = || expect_accepted(pools.submit(|| ()));
        scope.spawn(first);
        eventually_waiting(&pools, 1);
        go.open();
        submitted.wait_for(1);
        let (pools, arrives) = (&*pools, second.clone());
        scope.spawn(move || expect_accepted(pools.submit(move || arrives.arrive())));
        eventually_waiting(pools, 2);
        other.open();
        let served = becomes_true(Duration::from_secs(5), || second.count() == 1);
        ends.open();
        served
    });
    assert!(served, "a submitter waited while the second pool was idle");
    assert_all_at_rest(&pools);
    assert_eq!(ran.count(), 1);
}

/// P8: a task that submits its own successor, on and on, starves nobody who waits, on no pool.
#[test]
fn a_chain_of_successors_does_not_starve_who_waits() {
    fn link(pools: &Arc<MultiPool>, left: usize, over: &Arc<AtomicBool>) {
        if left > 0 && !over.load(Ordering::SeqCst) {
            let (next, seen) = (Arc::clone(pools), Arc::clone(over));
            expect_accepted(pools.submit(move || link(&next, left - 1, &seen)));
        }
    }

    for chained in 0..2 {
        let pools = Arc::new(MultiPool::new(2, 1, Balance::RoundRobin));
        let (over, go) = (
            Arc::new(AtomicBool::new(false)),
            Gate::new().opened_on_drop(),
        );
        let (inner, seen, inside) = (Arc::clone(&pools), Arc::clone(&over), go.clone());
        let chain = shard(&pools, chained);
        expect_accepted(chain.try_submit(move || {
            inside.wait();
            link(&inner, 300_000, &seen);
        }));
        let blocked = hold(shard(&pools, 1 - chained));
        thread::scope(|scope| {
            let ends = Arc::clone(&over);
            let task = move || ends.store(true, Ordering::SeqCst);
            let submits = || pools.submit(task);
            scope.spawn(move || expect_accepted(submits()));
            eventually_waiting(&pools, 1);
            go.open();
            eventually("the chain is over", || {
                chain.running() == 0 || pools.waiting() == 0
            });
            let links = chain.stats().completed;
            blocked.open();
            assert!(
                links < 300_000,
                "{links} successors on pool {chained} before who waited"
            );
        });
        assert_all_at_rest(&pools);
    }
}

/// P5: `try_submit` succeeds exactly as often as there is room in any of the pools.
#[test]
fn try_submit_finds_room_wherever_it_is() {
    for balance in BALANCES {
        let pools = MultiPool::new(5, 1, balance);
        let held = fill(&pools);
        assert_eq!(refusal(pools.try_submit(|| ())), SubmitErrorKind::Full);
        let mut filled = Vec::new();
        for (round, free) in [4, 2, 0, 3, 1].into_iter().enumerate() {
            held[free].open();
            eventually_eq("free places", 1, || pools.free());
            let (next, begun) = (Gate::new(), Arrivals::new());
            let (inside, begins) = (next.clone(), begun.clone());
            expect_accepted(pools.try_submit(move || {
                begins.arrive();
                inside.wait();
            }));
            begun.wait_for(1);
            filled.push(next.opened_on_drop());
            assert_eq!(refusal(pools.try_submit(|| ())), SubmitErrorKind::Full);
            assert_eq!(pools.stats().rejected, round as u64 + 2);
        }
        drop(filled);
        assert_all_at_rest(&pools);
    }
}

/// P5: while at most as many tasks are in flight as there are places, no `try_submit` fails.
#[test]
fn try_submit_is_honest_while_places_come_and_go() {
    for balance in BALANCES {
        let pools = MultiPool::new(4, 1, balance);
        let refused = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3_000 {
                        match pools.try_spawn(|| ()) {
                            Ok(handle) => handle.join().unwrap(),
                            Err(_) => {
                                refused.fetch_add(1, Ordering::SeqCst);
                            }
                        }
                    }
                });
            }
        });
        assert_all_at_rest(&pools);
        let refused = refused.load(Ordering::SeqCst);
        assert_eq!(
            refused, 0,
            "refusals, {balance:?}: there was room all the time"
        );
    }
}

/// P7: who gave up leaves nothing behind, and the next in line is served.
#[test]
fn who_gives_up_leaves_nothing_behind() {
    let pools = MultiPool::new(2, 1, Balance::RoundRobin);
    let held = fill(&pools);
    let dropped = Arrivals::new();
    let captured = DropCounter(dropped.clone());
    let refused = pools
        .submit_timeout(move || drop(captured), Duration::from_millis(5))
        .unwrap_err();
    assert_eq!(
        (refused.kind(), pools.waiting()),
        (SubmitErrorKind::TimedOut, 0)
    );
    let task = refused.into_inner();
    let spawned = pools.spawn_timeout(|| (), Duration::from_millis(5));
    assert_eq!(spawned.unwrap_err().kind(), SubmitErrorKind::TimedOut);
    thread::scope(|scope| {
        scope.spawn(|| {
            let refused = pools.submit_timeout(|| (), Duration::from_millis(50));
            assert_eq!(refusal(refused), SubmitErrorKind::TimedOut);
        });
        eventually_waiting(&pools, 1);
        let pools = &pools;
        scope.spawn(move || expect_accepted(pools.submit_timeout(task, Duration::MAX)));
        eventually_waiting(pools, 2);
        eventually_waiting(pools, 1);
        held[1].open();
    });
    dropped.wait_for(1);
    drop(held);
    assert_all_at_rest(&pools);
    assert_eq!(pools.stats().rejected, 3);
}

/// Tuned, each pool has its new capacity; up, those who wait are let in.
#[test]
fn tune_changes_each_pool() {
    let pools = MultiPool::new(3, 1, Balance::RoundRobin);
    let held = fill(&pools);
    let begun = Arrivals::new();
    thread::scope(|scope| {
        for _ in 0..3 {
            let (pools, begun) = (&pools, begun.clone());
            scope.spawn(move || expect_accepted(pools.submit(move || begun.arrive())));
        }
        eventually_waiting(&pools, 3);
        assert_eq!(pools.tune(2), 1);
        begun.wait_for(3);
    });
    assert_eq!(pools.capacity(), 6);
    eventually_eq("tasks running", 3, || pools.running());
    assert_eq!(pools.tune(0), 2);
    assert_eq!(refusal(pools.try_submit(|| ())), SubmitErrorKind::Full);
    drop(held);
    pools.tune(1);
    assert_all_at_rest(&pools);
    let running = Running::new();
    for _ in 0..100 {
        let running = running.clone();
        expect_accepted(pools.submit(move || {
            let _inside = running.enter();
            thread::yield_now();
        }));
    }
    assert_all_at_rest(&pools);
    assert!(running.peak() <= 3, "{} of 3 at once", running.peak());
}

/// Paused, all wait; resumed on one pool alone, that one serves the line.
#[test]
fn one_pool_that_is_resumed_serves_the_line() {
    for resumed in 0..3 {
        let pools = MultiPool::new(3, 0, Balance::LeastLoaded);
        let done = Log::new();
        thread::scope(|scope| {
            for number in 0..5 {
                let (pools, done) = (&pools, done.clone());
                scope.spawn(move || expect_accepted(pools.submit(move || done.push(number))));
                eventually_waiting(pools, number + 1);
            }
            shard(&pools, resumed).tune(1);
        });
        assert!(pools.wait_idle_timeout(DEADLINE));
        assert_eq!(done.entries(), [0, 1, 2, 3, 4]);
        assert_eq!(shard(&pools, resumed).stats().completed, 5);
    }
}

// ── from tasks ──────────────────────────────────────────────────────────────────────────────────

/// P8: on a worker of one of the pools a submit never waits, and all of it runs.
#[test]
fn a_task_never_waits() {
    for balance in BALANCES {
        let pools = Arc::new(MultiPool::new(2, 1, balance));
        let ran = Arrivals::new();
        let other = hold(shard(&pools, 1));
        let (inner, runs) = (Arc::clone(&pools), ran.clone());
        let (sender, receiver) = channel();
        expect_accepted(pools.submit(move || {
            assert_eq!(refusal(inner.try_submit(|| ())), SubmitErrorKind::Full);
            for _ in 0..1_000 {
                let runs = runs.clone();
                expect_accepted(inner.submit(move || runs.arrive()));
            }
            assert!(!inner.wait_idle_timeout(Duration::MAX));
            drop(inner);
            sender.send(()).unwrap();
        }));
        receive("the task has submitted", &receiver);
        other.open();
        assert_all_at_rest(&pools);
        assert_eq!(ran.count(), 1_000);
    }
}

/// P21: it cannot wait for itself.
#[test]
fn wait_idle_in_a_task_panics() {
    let pools = Arc::new(MultiPool::new(2, 1, Balance::RoundRobin));
    for at in 0..2 {
        let inner = Arc::clone(&pools);
        let task = shard(&pools, at).spawn(move || inner.wait_idle()).unwrap();
        let error = watchdog("the wait ends", move || task.join().unwrap_err());
        assert!(error.is_panic());
    }
    assert_all_at_rest(&pools);
}

/// P14: what a task submits after the release is accepted still, also through the pools together.
#[test]
fn what_tasks_submit_after_a_release_still_runs() {
    for at in 0..2 {
        let pools = Arc::new(MultiPool::new(2, 1, Balance::RoundRobin));
        let (inner, go, ran) = (
            Arc::clone(&pools),
            Gate::new().opened_on_drop(),
            Arrivals::new(),
        );
        let (inside, runs) = (go.clone(), ran.clone());
        let (sender, receiver) = channel();
        expect_accepted(shard(&pools, at).submit(move || {
            inside.wait();
            let submitted = inner.submit(move || runs.arrive());
            drop(inner);
            sender
                .send(submitted.map_err(|refused| refused.kind()))
                .unwrap();
        }));
        pools.release();
        assert!(pools.is_closed());
        assert_eq!(refusal(pools.submit(|| ())), SubmitErrorKind::Closed);
        go.open();
        assert_eq!(receive("the task submits", &receiver), Ok(()));
        pools.release_timeout(DEADLINE).unwrap();
        assert_eq!(ran.count(), 1);
    }
}

/// P14: in a task `release_timeout` closes and returns at once, whatever runs in the other pools.
#[test]
fn release_timeout_in_a_task_returns_at_once() {
    for at in 0..2 {
        let pools = Arc::new(MultiPool::new(2, 1, Balance::RoundRobin));
        let other = hold(shard(&pools, 1 - at));
        let (inner, returned) = (Arc::clone(&pools), Arrivals::new());
        let returns = returned.clone();
        expect_accepted(shard(&pools, at).submit(move || {
            assert!(inner.release_timeout(Duration::MAX).is_err());
            drop(inner);
            returns.arrive();
        }));
        let at_once = becomes_true(Duration::from_secs(5), || returned.count() == 1);
        assert!(pools.is_closed());
        other.open();
        returned.wait_for(1);
        assert!(at_once, "it waited for the task of another pool");
        assert_all_at_rest(&pools);
    }
}

// ── handles ─────────────────────────────────────────────────────────────────────────────────────

/// A handle resolves whichever pool took the task, also from the line.
#[test]
fn handles_resolve_whichever_pool_took_the_task() {
    for balance in BALANCES {
        for free in 0..3 {
            let pools = MultiPool::new(3, 1, balance);
            let held = fill(&pools);
            thread::scope(|scope| {
                let spawned = scope.spawn(|| pools.spawn(|| 7).unwrap());
                eventually_waiting(&pools, 1);
                held[free].open();
                assert_eq!(spawned.join().unwrap().join().unwrap(), 7);
                let spawned = pools.spawn(|| panic!("on purpose")).unwrap();
                let error = spawned.join().unwrap_err();
                assert!(error.is_panic());
            });
            drop(held);
            assert_all_at_rest(&pools);
            assert_eq!(pools.stats().panicked, 1);
        }
    }
}

/// What has not started can be cancelled, wherever it is; its captures and its place are free then.
#[test]
fn what_waits_in_any_pool_can_be_cancelled() {
    for at in 0..3 {
        let pools = Arc::new(MultiPool::new(3, 1, Balance::RoundRobin));
        let (inner, dropped) = (Arc::clone(&pools), Arrivals::new());
        let (go, inside) = {
            let gate = Gate::new();
            (gate.clone().opened_on_drop(), gate)
        };
        let others: Vec<_> = (0..3)
            .filter(|&other| other != at)
            .map(|other| hold(shard(&pools, other)))
            .collect();
        let (sender, receiver) = channel();
        let captured = DropCounter(dropped.clone());
        expect_accepted(shard(&pools, at).submit(move || {
            let handle = inner.spawn(move || drop(captured)).unwrap();
            drop(inner);
            sender.send(handle).unwrap();
            inside.wait();
        }));
        let handle: JoinHandle<()> = receive("the task spawns", &receiver);
        assert_eq!(pools.queued(), 1);
        assert!(handle.cancel() && !handle.cancel());
        assert_eq!((dropped.count(), pools.queued()), (1, 0));
        assert!(handle.join().unwrap_err().is_cancelled());
        go.open();
        drop(others);
        assert_all_at_rest(&pools);
        assert_eq!(pools.stats().cancelled, 1);
    }
}

/// In a task a join runs the child itself, at capacity 1 as well.
#[test]
fn a_join_in_a_task_runs_its_child() {
    for balance in BALANCES {
        let pools = Arc::new(MultiPool::new(2, 1, balance));
        let other = hold(shard(&pools, 1));
        let inner = Arc::clone(&pools);
        let task = pools
            .spawn(move || {
                let child = inner.spawn(|| thread::current().id()).unwrap();
                (child.join().unwrap(), thread::current().id())
            })
            .unwrap();
        let (child, parent) = watchdog("a join at capacity 1", move || task.join().unwrap());
        assert_eq!(child, parent);
        other.open();
        assert_all_at_rest(&pools);
    }
}

// ── the end ─────────────────────────────────────────────────────────────────────────────────────

/// A release sends away who waits, with the closure; what was accepted runs; a reboot opens again.
#[test]
fn a_release_sends_away_who_waits() {
    let pools = MultiPool::new(2, 1, Balance::RoundRobin);
    let held = fill(&pools);
    let gone = thread::scope(|scope| {
        let waiters: Vec<_> = (0..3)
            .map(|number| {
                let pools = &pools;
                scope.spawn(move || pools.submit(move || drop(Box::new(number))).unwrap_err())
            })
            .collect();
        eventually_waiting(&pools, 3);
        pools.release();
        let join = |waiter: thread::ScopedJoinHandle<'_, _>| waiter.join().unwrap();
        waiters.into_iter().map(join).collect::<Vec<_>>()
    });
    for refused in gone {
        assert_eq!(refused.kind(), SubmitErrorKind::Closed);
        refused.into_inner()();
    }
    let remains = pools.release_timeout(Duration::ZERO).unwrap_err();
    assert_eq!((remains.running(), remains.workers()), (2, 2));
    drop(held);
    pools.release_timeout(DEADLINE).unwrap();
    assert_eq!(pools.workers(), 0);
    pools.reboot();
    assert!(!pools.is_closed());
    for _ in 0..10 {
        expect_accepted(pools.submit(|| ()));
    }
    assert_all_at_rest(&pools);
    assert_eq!(pools.stats().completed, 12);
}

/// `release_now` drops what no worker has taken, in all pools.
#[test]
fn release_now_discards_in_all_pools() {
    let pools = Arc::new(MultiPool::new(2, 1, Balance::RoundRobin));
    let dropped = Arrivals::new();
    let gates: Vec<_> = (0..2)
        .map(|at| {
            let (inner, gate, sent) = (Arc::clone(&pools), Gate::new(), Arrivals::new());
            let (inside, sends, counts) = (gate.clone(), sent.clone(), dropped.clone());
            expect_accepted(shard(&pools, at).submit(move || {
                while inner.running() < 2 {
                    thread::yield_now();
                }
                for _ in 0..3 {
                    let counter = DropCounter(counts.clone());
                    expect_accepted(inner.submit(move || drop(counter)));
                }
                drop(inner);
                sends.arrive();
                inside.wait();
            }));
            (sent, gate.opened_on_drop())
        })
        .collect();
    for (sent, _) in &gates {
        sent.wait_for(1);
    }
    assert_eq!(pools.release_now(), 6);
    assert_eq!((dropped.count(), pools.stats().discarded), (6, 6));
    drop(gates);
    assert_all_at_rest(&pools);
}

/// Dropped, it runs what was accepted, and joins.
#[test]
fn dropping_it_runs_what_was_accepted() {
    let ran = Arrivals::new();
    let pools = MultiPool::new(3, 2, Balance::LeastLoaded);
    for _ in 0..50 {
        let ran = ran.clone();
        expect_accepted(pools.submit(move || {
            thread::yield_now();
            ran.arrive();
        }));
    }
    drop(pools);
    assert_eq!(ran.count(), 50);
}

// ── a storm ─────────────────────────────────────────────────────────────────────────────────────

fn storm(pools: &Arc<MultiPool>, seed: u64, running: &Running, ran: &Arrivals) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut accepted = 0;
    for _ in 0..400 {
        let (inside, runs) = (running.clone(), ran.clone());
        let chance = rng.random_range(0..10);
        let inner = (chance == 0).then(|| Arc::clone(pools));
        let task = move || {
            let _inside = inside.enter();
            runs.arrive();
            if let Some(pools) = inner {
                let runs = runs.clone();
                expect_accepted(pools.submit(move || runs.arrive()));
            }
            assert!(chance != 1, "on purpose");
        };
        let ours = usize::from(chance == 0) + 1;
        accepted += match rng.random_range(0..4) {
            0 => pools.try_submit(task).map_or(0, |()| ours),
            1 => {
                let limit = Duration::from_micros(rng.random_range(0..500));
                pools.submit_timeout(task, limit).map_or(0, |()| ours)
            }
            2 => match pools.spawn(task) {
                Ok(handle) if handle.cancel() => 0,
                Ok(_) => ours,
                Err(refused) => panic!("{refused}"),
            },
            _ => {
                expect_accepted(pools.submit(task));
                ours
            }
        };
    }
    accepted
}

/// Whatever is submitted, tuned, given up and cancelled at once: every accepted task runs once, no more
/// run than the largest capacity there was, and the books balance.
#[test]
fn pools_survive_a_storm() {
    let mut rng = seeded_rng("pools_survive_a_storm");
    for balance in BALANCES {
        for shards in 1..4 {
            let pools = Arc::new(MultiPool::new(shards, 1, balance));
            let (running, ran) = (Running::new(), Arrivals::new());
            let over = AtomicBool::new(false);
            let expected = Mutex::new(0);
            let seeds: Vec<u64> = (0..3).map(|_| rng.random()).collect();
            thread::scope(|scope| {
                let mut tunes = StdRng::seed_from_u64(rng.random());
                let (over, pools_here) = (&over, &pools);
                scope.spawn(move || {
                    while !over.load(Ordering::SeqCst) {
                        if tunes.random() {
                            pools_here.tune(tunes.random_range(0..3));
                        } else {
                            let at = tunes.random_range(0..shards);
                            shard(pools_here, at).tune(tunes.random_range(0..3));
                        }
                        thread::yield_now();
                    }
                });
                let submitters: Vec<_> = seeds
                    .iter()
                    .map(|&seed| {
                        let (pools, running, ran) = (&pools, &running, &ran);
                        let expected = &expected;
                        scope.spawn(move || {
                            let accepted = storm(pools, seed, running, ran);
                            *expected.lock().unwrap() += accepted;
                        })
                    })
                    .collect();
                for submitter in submitters {
                    submitter.join().unwrap();
                }
                over.store(true, Ordering::SeqCst);
            });
            pools.tune(2);
            assert_all_at_rest(&pools);
            assert!(running.peak() <= 2 * shards, "{} at once", running.peak());
            assert_eq!(ran.count(), *expected.lock().unwrap(), "tasks that ran");
        }
    }
}
