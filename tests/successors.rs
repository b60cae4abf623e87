//! Tasks that submit their own successor (P8): millions of links in constant memory and constant
//! stack, and nobody starved meanwhile.
//!
//! The allocator of this binary counts what is allocated and not yet freed, so the tests run one at
//! a time.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anthill::{Pool, PoolHandle};
use support::{Arrivals, expect_accepted, receive, watchdog};

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

fn count(change: isize) {
    let live = LIVE.fetch_add(change, Ordering::Relaxed) + change;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).expect("no layout is larger")
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-size(layout.size()));
        // SAFETY: the pointer came from `alloc` or `realloc`, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        count(size(new) - size(layout.size()));
        // SAFETY: as for `dealloc`; the new size is the caller's.
        unsafe { System.realloc(pointer, layout, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

const LINKS: usize = if cfg!(debug_assertions) {
    1_000_000
} else {
    10_000_000
};

/// Runs this link and submits the next, until none is left.
fn link(pool: PoolHandle, left: usize, done: Sender<()>) {
    if left == 0 {
        let _ = done.send(());
        return;
    }
    let next = pool.clone();
    expect_accepted(next.submit(move || link(pool, left - 1, done)));
}

/// Runs `chains` chains of `LINKS` links in all and returns by how much the live memory exceeded
/// what it was after the first links.
fn excess_memory(pool: &PoolHandle, chains: usize) -> isize {
    let (done, ended) = channel();
    let run = |links: usize| {
        for _ in 0..chains {
            let (handle, done) = (pool.clone(), done.clone());
            expect_accepted(pool.submit(move || link(handle, links / chains, done)));
        }
        for _ in 0..chains {
            // A chain has as long as it takes; whether it is stuck, the progress tells.
            let mut completed = pool.stats().completed;
            while ended.recv_timeout(Duration::from_secs(10)).is_err() {
                let now = pool.stats().completed;
                assert!(now > completed, "the chain stopped after {now} tasks");
                completed = now;
            }
        }
        pool.wait_idle();
    };
    // The queue takes its blocks, and the channel its own.
    run(10_000);
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    run(LINKS);
    PEAK.load(Ordering::Relaxed) - before
}

/// A leak of one byte a link would be ten times as much.
const TOLERATED: isize = 100_000;

#[test]
fn p08_a_task_that_submits_its_own_successor_runs_in_constant_memory_and_stack() {
    let _alone = one_at_a_time();
    let pool = Pool::builder()
        .capacity(1)
        .stack_size(64 * 1024)
        .build()
        .unwrap();
    let excess = excess_memory(&pool, 1);
    assert!(excess < TOLERATED, "{excess} bytes more than at the start");
    assert_eq!(pool.stats().workers_started, 1);
}

#[test]
fn p08_chains_beside_each_other_run_in_constant_memory_and_stack() {
    let _alone = one_at_a_time();
    for (capacity, chains) in [(1, 3), (2, 5)] {
        let pool = Pool::builder()
            .capacity(capacity)
            .unbounded_backlog()
            .stack_size(64 * 1024)
            .build()
            .unwrap();
        let excess = excess_memory(&pool, chains);
        assert!(excess < TOLERATED, "{excess} bytes more than at the start");
    }
}

/// A chain that ends only when it is told to.
fn link_until(pool: PoolHandle, stop: Arc<AtomicBool>, links: Arc<AtomicUsize>) {
    links.fetch_add(1, Ordering::Relaxed);
    if stop.load(Ordering::Relaxed) {
        return;
    }
    let next = pool.clone();
    // A release may end the chain as well.
    let _ = next.submit(move || link_until(pool, stop, links));
}

struct Chain {
    stop: Arc<AtomicBool>,
    links: Arc<AtomicUsize>,
}

impl Chain {
    fn begin(pool: &PoolHandle) -> Self {
        let chain = Self {
            stop: Arc::default(),
            links: Arc::default(),
        };
        let (handle, stop, links) = (pool.clone(), chain.stop.clone(), chain.links.clone());
        expect_accepted(pool.submit(move || link_until(handle, stop, links)));
        support::eventually("the chain runs", || {
            chain.links.load(Ordering::Relaxed) > 1000
        });
        chain
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The chain never ends of its own, so whatever runs at all runs before its end.
#[test]
fn p08_a_chain_of_successors_starves_nobody() {
    let _alone = one_at_a_time();
    for pool in [
        Pool::with_capacity(1),
        Pool::builder()
            .capacity(1)
            .unbounded_backlog()
            .build()
            .unwrap(),
    ] {
        let chain = Chain::begin(&pool);
        let ran = Arrivals::new();
        // One submitter that must wait for room and be let in, again and again, and several at once.
        for _ in 0..100 {
            let ran = ran.clone();
            let handle = pool.handle();
            watchdog("a submitter is let in", move || {
                expect_accepted(handle.submit(move || ran.arrive()));
            });
        }
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let ran = ran.clone();
                        expect_accepted(pool.submit(move || ran.arrive()));
                    }
                });
            }
        });
        ran.wait_for(200);
        drop(chain);
        pool.wait_idle();
    }
}

/// Chains starve each other no more than anybody else.
#[test]
fn p08_chains_do_not_starve_each_other() {
    let _alone = one_at_a_time();
    for capacity in [1, 2] {
        let pool = Pool::builder()
            .capacity(capacity)
            .unbounded_backlog()
            .build()
            .unwrap();
        let chains: Vec<_> = (0..4).map(|_| Chain::begin(&pool)).collect();
        for (number, chain) in chains.iter().enumerate() {
            let before = chain.links.load(Ordering::Relaxed);
            support::eventually(format_args!("chain {number} goes on"), || {
                chain.links.load(Ordering::Relaxed) > before + 100
            });
        }
        drop(chains);
        pool.wait_idle();
    }
}

/// A task that submits two tasks, one of which is the chain: the other one's turn comes.
#[test]
fn p08_a_chain_does_not_starve_the_other_children_of_its_parent() {
    let _alone = one_at_a_time();
    let pool = Pool::with_capacity(1);
    let ran = Arrivals::new();
    let (sender, receiver) = channel();
    let stop: Arc<AtomicBool> = Arc::default();
    expect_accepted(pool.submit({
        let (handle, ran, stop) = (pool.handle(), ran.clone(), stop.clone());
        move || {
            for _ in 0..10 {
                let ran = ran.clone();
                expect_accepted(handle.submit(move || ran.arrive()));
            }
            let (pool, links) = (handle.clone(), Arc::default());
            expect_accepted(handle.submit(move || link_until(pool, stop, links)));
            for _ in 0..10 {
                let ran = ran.clone();
                expect_accepted(handle.submit(move || ran.arrive()));
            }
            let _ = sender.send(());
        }
    }));
    receive("the parent ended", &receiver);
    ran.wait_for(20);
    stop.store(true, Ordering::Relaxed);
    pool.wait_idle();
}

/// Release does not cut a chain short (P14: what accepted tasks submit runs), `release_now` does.
#[test]
fn p14_release_now_ends_a_chain_of_successors() {
    let _alone = one_at_a_time();
    let pool = Pool::with_capacity(1);
    let chain = Chain::begin(&pool);
    pool.release();
    let before = chain.links.load(Ordering::Relaxed);
    support::eventually("the chain goes on after release", || {
        chain.links.load(Ordering::Relaxed) > before + 1000
    });
    pool.release_now();
    let handle = pool.handle();
    watchdog("the chain ends", move || {
        handle.release_timeout(Duration::MAX).unwrap();
    });
}
