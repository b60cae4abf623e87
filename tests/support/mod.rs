//! What the tests of the pool share, with what those of all crates do.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary compiles this module and uses its own share of it"
)]

use std::sync::mpsc::channel;

use anthill::{JoinError, JoinHandle, MultiPool, Pool, PoolHandle};

pub(crate) use anthill_test_support::*;

/// Tasks that hold their workers until the value is dropped or [`opened`](Gate::open).
///
/// Declare it after the pool: it is then dropped first, and the pool's drop can join.
#[derive(Debug)]
pub(crate) struct Occupied {
    gate: OpensOnDrop,
    arrived: Arrivals,
}

impl Occupied {
    /// How many of them have begun.
    pub(crate) fn begun(&self) -> usize {
        self.arrived.count()
    }

    pub(crate) fn end(&self) {
        self.gate.open();
    }
}

/// Submits `tasks` tasks that run until the returned value ends them, and waits until all of them
/// run.
#[track_caller]
pub(crate) fn occupy(pool: &PoolHandle, tasks: usize) -> Occupied {
    let gate = Gate::new();
    let arrived = Arrivals::new();
    for _ in 0..tasks {
        let gate = gate.clone();
        let arrived = arrived.clone();
        expect_accepted(pool.submit(move || {
            arrived.arrive();
            gate.wait();
        }));
    }
    arrived.wait_for(tasks);
    Occupied {
        gate: gate.opened_on_drop(),
        arrived,
    }
}

/// Unwraps what a submit returned. (`unwrap` would want the closure to be `Debug` in some designs
/// of the error; this asks for the kind alone.)
#[track_caller]
pub(crate) fn expect_accepted<F>(result: Result<(), anthill::SubmitError<F>>) {
    set_alarm();
    if let Err(error) = result {
        panic!("the pool refused a task: {:?}", error.kind());
    }
}

/// The kind of the refusal; panics if there was none.
#[track_caller]
pub(crate) fn refusal<F>(result: Result<(), anthill::SubmitError<F>>) -> anthill::SubmitErrorKind {
    match result {
        Ok(()) => panic!("the pool accepted a task that it had to refuse"),
        Err(error) => error.kind(),
    }
}

/// Unwraps what a spawn returned.
#[track_caller]
pub(crate) fn spawned<T, F>(
    result: Result<JoinHandle<T>, anthill::SubmitError<F>>,
) -> JoinHandle<T> {
    let mut handle = None;
    expect_accepted(result.map(|accepted| handle = Some(accepted)));
    handle.expect("it was accepted")
}

/// Joins, within the common deadline.
#[track_caller]
pub(crate) fn joined<T: Send + 'static>(handle: JoinHandle<T>) -> Result<T, JoinError> {
    watchdog("the handle resolves", move || handle.join())
}

/// Runs `f` as a task of `pool`; panics naming `what` if it does not return within [`DEADLINE`].
#[track_caller]
pub(crate) fn in_a_task<T: Send + 'static>(
    pool: &PoolHandle,
    what: &str,
    f: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = channel();
    expect_accepted(pool.submit(move || {
        let _ = sender.send(f());
    }));
    receive(what, &receiver)
}

/// Pools of the capacity with each kind of backlog, that tell of no panics.
pub(crate) fn pools(capacity: usize) -> [Pool; 3] {
    let builder = || Pool::builder().capacity(capacity).panic_handler(|_| {});
    [
        builder().build().unwrap(),
        builder().backlog(3).build().unwrap(),
        builder().unbounded_backlog().build().unwrap(),
    ]
}

/// Waits until exactly `number` submitters wait for room.
#[track_caller]
pub(crate) fn eventually_waiting(pool: &PoolHandle, number: usize) {
    eventually(format_args!("{number} submitters wait"), || {
        pool.waiting() == number
    });
}

/// Asserts the state in which every pool is at rest (P18), once it is there.
#[track_caller]
pub(crate) fn assert_at_rest(pool: &PoolHandle) {
    eventually("every worker is idle", || pool.workers() == pool.idle());
    let stats = pool.stats();
    assert_eq!(
        (pool.running(), pool.queued(), pool.waiting()),
        (0, 0, 0),
        "running, queued, waiting at rest; {stats:?}"
    );
    assert_eq!((stats.running, stats.queued), (0, 0), "{stats:?}");
    assert_eq!(
        stats.submitted,
        stats.completed + stats.panicked + stats.cancelled + stats.discarded,
        "the books do not balance: {stats:?}"
    );
}

/// One of several pools that are one.
pub(crate) fn shard(pools: &MultiPool, at: usize) -> &PoolHandle {
    pools.shards().nth(at).expect("there are so many")
}

/// A task that runs until its gate opens, on that shard; it has begun when this returns.
#[track_caller]
pub(crate) fn hold(shard: &PoolHandle) -> OpensOnDrop {
    let (gate, begun) = (Gate::new(), Arrivals::new());
    let (inside, begins) = (gate.clone(), begun.clone());
    expect_accepted(shard.try_submit(move || {
        begins.arrive();
        inside.wait();
    }));
    begun.wait_for(1);
    gate.opened_on_drop()
}

/// Asserts that several pools that are one are at rest (P18), once they are.
#[track_caller]
pub(crate) fn assert_all_at_rest(pools: &MultiPool) {
    assert!(pools.wait_idle_timeout(DEADLINE), "not idle: {pools:?}");
    // What a cancelled task has left in a queue may call a worker for a moment.
    eventually(format_args!("the pools are at rest: {pools:?}"), || {
        (pools.running(), pools.queued(), pools.waiting()) == (0, 0, 0)
            && pools.workers() == pools.idle()
            && pools.free() == pools.capacity()
    });
    let stats = pools.stats();
    assert_eq!(
        stats.submitted,
        stats.completed + stats.panicked + stats.cancelled + stats.discarded,
        "the books do not balance: {stats:?}"
    );
}
