//! What a worker at rest keeps allocated: nothing that a bounded pool does not use.
//!
//! A program of its own: its allocator counts what the whole process keeps.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use anthill::Pool;
use support::{eventually, expect_accepted};

struct Counting;

static KEPT: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: all is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        KEPT.fetch_add(layout.size(), Ordering::SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        KEPT.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

const WORKERS: usize = 64;

/// What each of the workers keeps that have run a task each, with no backlog or an unbounded one.
fn kept_by_an_idle_worker(unbounded: bool) -> usize {
    let builder = Pool::builder().capacity(WORKERS).keep_workers();
    let builder = if unbounded {
        builder.unbounded_backlog()
    } else {
        builder
    };
    let pool = builder.build().unwrap();
    let before = KEPT.load(Ordering::SeqCst);
    let all = Arc::new(Barrier::new(WORKERS));
    for _ in 0..WORKERS {
        let all = Arc::clone(&all);
        expect_accepted(pool.submit(move || {
            all.wait();
        }));
    }
    pool.wait_idle();
    eventually("all workers are at rest", || pool.idle() == WORKERS);
    KEPT.load(Ordering::SeqCst).saturating_sub(before) / WORKERS
}

/// One test, since the process is counted: a deque of 64 tasks is two kilobytes and more.
#[test]
fn an_idle_worker_keeps_no_deque_that_its_pool_does_not_use() {
    let bounded = kept_by_an_idle_worker(false);
    let unbounded = kept_by_an_idle_worker(true);
    eprintln!("bytes kept by an idle worker: {bounded} bounded, {unbounded} with a backlog");
    assert!(bounded < 2_048, "{bounded} bytes");
    assert!(unbounded < bounded + 4_096, "{unbounded} bytes");
}
