//! P22: threads leave side by side. Each drops its thread-locals without waiting for another one, those that
//! have not ended are told, nothing of them accumulates, and `release_timeout` joins them all.

mod support;

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anthill::{Balance, MultiPool, Pool, PoolHandle};
use support::{
    Arrivals, DEADLINE, Gate, eventually, eventually_eq, expect_accepted, occupy, spawned, watchdog,
};

/// Soon enough: a worker that has nothing to do leaves.
const SOON: Duration = Duration::from_millis(1);

/// What a thread-local does as it is dropped. A panic in there would end the process.
struct AtTheEnd(Box<dyn FnMut()>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        (self.0)();
    }
}

thread_local! {
    static LEFT: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

/// Has this thread do something as its thread-locals are dropped.
fn leave_behind(drops: impl FnMut() + 'static) {
    LEFT.set(Some(AtTheEnd(Box::new(drops))));
}

/// Has `number` workers of the pool do something as their thread-locals are dropped, each on its own.
#[track_caller]
fn leave_in_workers<F>(pool: &PoolHandle, number: usize, drops: impl Fn() -> F)
where
    F: FnMut() + Send + 'static,
{
    let all = Arrivals::new();
    for _ in 0..number {
        let (drops, all) = (drops(), all.clone());
        expect_accepted(pool.submit(move || {
            all.arrive();
            // So none of them runs two.
            all.wait_for(number);
            leave_behind(drops);
        }));
    }
    pool.wait_idle();
}

/// A thread-local that says that it is being dropped, and waits for `gate`.
fn waits_for(gate: &Gate, begun: &Arrivals) -> impl FnMut() + Send + 'static {
    let (gate, begun) = (gate.clone(), begun.clone());
    move || {
        begun.arrive();
        let _ = gate.wait_timeout(DEADLINE * 2);
    }
}

/// Where each waits for all others, none may have to wait for its turn.
#[test]
fn p22_thread_locals_of_twenty_workers_meet_as_they_are_dropped() {
    const WORKERS: usize = 20;
    for expire in [false, true] {
        let builder = Pool::builder().capacity(WORKERS);
        let builder = if expire {
            builder.idle_timeout(SOON)
        } else {
            builder
        };
        let pool = builder.build().unwrap();
        let (gate, here, met) = (
            Gate::new(),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        leave_in_workers(&pool, WORKERS, || {
            let (gate, here, met) = (gate.clone(), here.clone(), met.clone());
            move || {
                if here.fetch_add(1, Ordering::SeqCst) + 1 == WORKERS {
                    gate.open();
                }
                let all_came = gate.wait_timeout(DEADLINE / 2);
                met.fetch_add(usize::from(all_came), Ordering::SeqCst);
            }
        });
        watchdog("the pool ends", move || drop(pool));
        assert_eq!(met.load(Ordering::SeqCst), WORKERS);
    }
}

/// Under a trickle each worker expires, and the next task has a new one. Those that leave are told, do not
/// count as workers, and end when their own thread-locals are dropped, in whatever order that is.
#[test]
fn p22_threads_of_a_trickle_end_when_their_own_thread_locals_do() {
    const NAME: &str = "trickle";
    let pool = Pool::builder()
        .capacity(1)
        .idle_timeout(SOON)
        .name(NAME)
        .build()
        .unwrap();
    let begun = Arrivals::new();
    let gates: Vec<_> = (0..12).map(|_| Gate::new().opened_on_drop()).collect();
    for (before, gate) in gates.iter().enumerate() {
        let at_the_end = waits_for(gate, &begun);
        expect_accepted(pool.submit(move || leave_behind(at_the_end)));
        // This one's thread-locals are dropped although those before it are not through with theirs.
        begun.wait_for(before + 1);
        let stats = pool.stats();
        assert_eq!((pool.workers(), stats.leaving), (0, before + 1));
        #[cfg(target_os = "linux")]
        // The system's list of threads may miss one while those of other tests end.
        eventually_eq("threads", before + 1, || {
            support::linux::threads_named(NAME)
        });
    }
    // The last, the first, the last but one …
    let (first, last) = gates.split_at(gates.len() / 2);
    let inwards = last
        .iter()
        .rev()
        .zip(first)
        .flat_map(|(one, other)| [one, other]);
    for (opened, gate) in inwards.enumerate() {
        gate.open();
        let left = gates.len() - opened - 1;
        eventually_eq("threads that leave", left, || pool.stats().leaving);
        #[cfg(target_os = "linux")]
        eventually_eq("threads", left, || support::linux::threads_named(NAME));
    }
    pool.release_timeout(Duration::MAX).unwrap();
}

#[test]
fn p22_what_remains_after_a_release_tells_the_threads_that_leave() {
    const NAME: &str = "remains";
    let pool = Pool::builder()
        .capacity(3)
        .keep_workers()
        .name(NAME)
        .build()
        .unwrap();
    let (gate, begun) = (Gate::new().opened_on_drop(), Arrivals::new());
    leave_in_workers(&pool, 2, || waits_for(&gate, &begun));
    let occupied = occupy(&pool, 3);
    let remains = pool.release_timeout(Duration::ZERO).unwrap_err();
    assert_eq!((remains.workers(), remains.leaving()), (3, 0));
    occupied.end();
    begun.wait_for(2);
    eventually("the third ends", || {
        pool.workers() == 0 && pool.stats().leaving == 2
    });
    let remains = pool.release_timeout(Duration::ZERO).unwrap_err();
    assert_eq!((remains.running(), remains.queued()), (0, 0));
    assert_eq!((remains.workers(), remains.leaving()), (0, 2));
    assert!(
        remains.to_string().contains("2 threads leaving"),
        "{remains}"
    );
    thread::scope(|scope| {
        // All who wait wait for all of them.
        let waiters: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| pool.release_timeout(Duration::MAX)))
            .collect();
        assert!(pool.release_timeout(SOON).is_err());
        gate.open();
        for waiter in waiters {
            waiter.join().unwrap().unwrap();
        }
    });
    assert_eq!(pool.stats().leaving, 0);
    // The system takes a moment to forget a thread that was joined.
    #[cfg(target_os = "linux")]
    eventually_eq("threads", 0, || support::linux::threads_named(NAME));
}

#[test]
fn p22_several_pools_tell_the_threads_that_leave_together() {
    let pools = MultiPool::new(2, 1, Balance::RoundRobin);
    let (gate, begun) = (Gate::new().opened_on_drop(), Arrivals::new());
    for shard in pools.shards() {
        leave_in_workers(shard, 1, || waits_for(&gate, &begun));
    }
    pools.release();
    begun.wait_for(2);
    assert_eq!(pools.stats().leaving, 2);
    let remains = pools.release_timeout(Duration::ZERO).unwrap_err();
    assert_eq!((remains.workers(), remains.leaving()), (0, 2));
    gate.open();
    pools.release_timeout(Duration::MAX).unwrap();
}

/// Those of before and those of after it are all joined.
#[test]
fn p22_a_reboot_does_not_wait_for_the_threads_that_leave() {
    let pool = Pool::with_capacity(2);
    let gates = [Gate::new().opened_on_drop(), Gate::new().opened_on_drop()];
    let begun = Arrivals::new();
    for (times, gate) in gates.iter().enumerate() {
        leave_in_workers(&pool, 2, || waits_for(gate, &begun));
        pool.release();
        begun.wait_for(2 * (times + 1));
        pool.reboot();
    }
    let stats = pool.stats();
    assert_eq!((stats.leaving, stats.workers_started), (4, 4));
    assert_eq!(spawned(pool.spawn(|| 7)).join().unwrap(), 7);
    gates[1].open();
    eventually_eq("threads that leave", 2, || pool.stats().leaving);
    assert!(pool.release_timeout(SOON).is_err());
    gates[0].open();
    pool.release_timeout(Duration::MAX).unwrap();
    assert_eq!(pool.stats().leaving, 0);
}

/// What a thread-local may do with its own pool, and with another one, while others leave as well.
#[test]
fn p22_a_thread_local_that_is_dropped_may_use_pools() {
    let pool = Pool::with_capacity(2);
    let (answers, done) = (Arc::new(Mutex::new(Vec::new())), Arrivals::new());
    leave_in_workers(&pool, 2, || {
        let (pool, answers, done) = (pool.handle(), answers.clone(), done.clone());
        let other = Pool::with_capacity(1);
        let mut other = Some(other);
        move || {
            // Another pool: as in a task.
            let other = other.take().expect("it is dropped once");
            let joined = other
                .spawn(|| 6 * 7)
                .is_ok_and(|task| task.join().is_ok_and(|it| it == 42));
            let ended = other.release_timeout(Duration::MAX).is_ok();
            drop(other);
            // Its own: it cannot wait for itself.
            let waits = pool.wait_idle_timeout(Duration::MAX);
            let told = pool.release_timeout(Duration::MAX);
            let leaving = told.is_err_and(|remains| remains.leaving() > 0);
            let closed = pool.submit(|| {}).is_ok();
            answers
                .lock()
                .unwrap()
                .push((joined, ended, waits, leaving, closed));
            done.arrive();
        }
    });
    pool.release();
    done.wait_for(2);
    watchdog("the pool ends", move || {
        pool.release_timeout(Duration::MAX).unwrap();
    });
    // Accepted work still goes on in a pool that is closed: what runs in it may submit.
    let answer = (true, true, false, true, true);
    assert_eq!(*answers.lock().unwrap(), [answer, answer]);
}

/// A thread that has ended but was not joined keeps its stack. So with one after another the process would
/// grow.
#[cfg(target_os = "linux")]
#[test]
fn p22_threads_that_left_are_joined_by_those_that_leave_later() {
    const STACK: usize = 8 << 20;
    support::in_child_process(
        "p22_threads_that_left_are_joined_by_those_that_leave_later",
        DEADLINE * 3,
        || {
            let pages = || {
                let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
                let pages = statm.split(' ').next().and_then(|it| it.parse().ok());
                pages.unwrap_or(0_usize)
            };
            let pool = Pool::builder()
                .capacity(2)
                .stack_size(STACK)
                .idle_timeout(SOON)
                .build()
                .unwrap();
            let mut at_first = 0;
            for round in 0..60 {
                let begun = Arrivals::new();
                let gate = Gate::new();
                gate.open();
                leave_in_workers(&pool, 2, || waits_for(&gate, &begun));
                begun.wait_for(2);
                if round == 9 {
                    eventually("they end", || pool.stats().leaving == 0);
                    at_first = pages();
                }
            }
            eventually("they end", || pool.stats().leaving == 0);
            let more = (pages().saturating_sub(at_first)) * 4096 / STACK;
            assert!(more < 20, "the stacks of {more} threads more");
        },
    );
}
