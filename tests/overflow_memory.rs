//! However much faster the producer is, what the pool holds stays within its bound, for each overflow policy
//! and each way to hand work in.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anthill::{Balance, FuncPool, MultiPool, Overflow, Pool};
use support::{Arrivals, Gate, assert_at_rest, expect_accepted};

const CAPACITY: usize = 2;
const BACKLOG: usize = 8;
const PRODUCED: usize = 4_000;

/// How many pieces of work there are at once, and the most there ever were.
#[derive(Clone, Default)]
struct Alive(Arc<(AtomicUsize, AtomicUsize)>);

/// A piece of work. It counts as long as anybody has it.
struct Piece(Alive);

impl Alive {
    fn piece(&self) -> Piece {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Piece(self.clone())
    }

    fn peak(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes as long as it takes to make ten.
fn work(piece: Piece) {
    for _ in 0..10 {
        thread::yield_now();
    }
    drop(piece);
}

/// Holds a worker.
#[derive(Clone)]
struct Hold(Gate, Arrivals);

impl Hold {
    fn begin(&self) {
        self.1.arrive();
        self.0.wait();
    }
}

fn policies() -> [Overflow; 4] {
    [
        Overflow::Block,
        Overflow::Reject,
        Overflow::CallerRuns,
        Overflow::DropOldest,
    ]
}

/// Produces until much more than the bound was handed in; says what was alive at most.
///
/// The workers are held until the bound is full, unless the producer is to wait for them then.
fn produce(overflow: Overflow, hold: impl Fn(Hold), hand_in: impl Fn(Piece)) -> Alive {
    let (alive, gate) = (Alive::default(), Gate::new().opened_on_drop());
    let blocks = overflow == Overflow::Block;
    let occupied = Arrivals::new();
    for _ in 0..CAPACITY {
        hold(Hold(gate.clone(), occupied.clone()));
    }
    occupied.wait_for(CAPACITY);
    for number in 0..PRODUCED {
        let release = if blocks { BACKLOG } else { PRODUCED / 2 };
        if number == release {
            gate.open();
        }
        hand_in(alive.piece());
    }
    alive
}

/// All that the pool may hold, and the piece in the producer's hand.
fn assert_bounded(alive: &Alive, overflow: Overflow, way: &str) {
    let peak = alive.peak();
    assert!(
        peak <= CAPACITY + BACKLOG + 1,
        "{peak} pieces were alive at once: {way}, {overflow:?}"
    );
    assert_eq!(alive.now(), 0, "{way}, {overflow:?}");
}

/// The policy did what it is for.
fn assert_overflowed(pool: &anthill::PoolHandle, overflow: Overflow, accepted: u64) {
    assert_at_rest(pool);
    let stats = pool.stats();
    match overflow {
        Overflow::Reject => assert!(stats.rejected > 0, "{stats:?}"),
        Overflow::DropOldest => assert!(stats.discarded > 0, "{stats:?}"),
        _ => assert_eq!(stats.completed, accepted, "{stats:?}"),
    }
    assert_eq!(stats.submitted + stats.rejected, accepted, "{stats:?}");
}

fn pool(overflow: Overflow) -> Pool {
    let builder = Pool::builder().capacity(CAPACITY).backlog(BACKLOG);
    builder.overflow(overflow).build().unwrap()
}

const ALL: u64 = (PRODUCED + CAPACITY) as u64;

/// Tasks without a result.
#[test]
fn of_submit() {
    for overflow in policies() {
        let pool = pool(overflow);
        let hold = |hold: Hold| expect_accepted(pool.submit(move || hold.begin()));
        let alive = produce(overflow, hold, |piece| {
            drop(pool.submit(move || work(piece)));
        });
        pool.wait_idle();
        assert_bounded(&alive, overflow, "submit");
        assert_overflowed(&pool, overflow, ALL);
    }
}

/// Tasks whose handles are kept: the handles hold nothing of what was captured.
#[test]
fn of_spawn() {
    for overflow in policies() {
        let pool = pool(overflow);
        let hold = |hold: Hold| expect_accepted(pool.submit(move || hold.begin()));
        let handles = std::cell::RefCell::new(Vec::new());
        let alive = produce(overflow, hold, |piece| {
            handles
                .borrow_mut()
                .extend(pool.spawn(move || work(piece)).ok());
        });
        pool.wait_idle();
        assert_bounded(&alive, overflow, "spawn");
        assert_overflowed(&pool, overflow, ALL);
        let ended = handles.into_inner().into_iter();
        let cancelled = ended.filter_map(|handle| handle.join().err());
        assert_eq!(cancelled.count() as u64, pool.stats().discarded);
    }
}

/// Calls of a pool of one function.
#[test]
fn of_invoke() {
    for overflow in policies() {
        let call = |argument: Result<Piece, Hold>| match argument {
            Ok(piece) => work(piece),
            Err(hold) => hold.begin(),
        };
        let builder = FuncPool::builder(call).capacity(CAPACITY).backlog(BACKLOG);
        let pool = builder.overflow(overflow).build().unwrap();
        let hold = |hold| assert!(pool.invoke(Err(hold)).is_ok());
        let alive = produce(overflow, hold, |piece| drop(pool.invoke(Ok(piece))));
        pool.wait_idle();
        assert_bounded(&alive, overflow, "invoke");
        assert_overflowed(&pool, overflow, ALL);
    }
}

/// Tasks of several pools, whose submitters wait.
#[test]
fn of_several_pools() {
    let pools = MultiPool::new(2, CAPACITY / 2, Balance::RoundRobin);
    let alive = Alive::default();
    for _ in 0..PRODUCED {
        let piece = alive.piece();
        expect_accepted(pools.submit(move || work(piece)));
    }
    pools.wait_idle();
    assert!(alive.peak() <= CAPACITY + 1, "{}", alive.peak());
    assert_eq!(pools.stats().completed, PRODUCED as u64);
}
