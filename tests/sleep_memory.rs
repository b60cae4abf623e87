//! What a sleeping future takes of the memory: 24 bytes of its own, and 48 at most where the timers are.
//!
//! The allocator of this binary counts; it has one test.

#![cfg(feature = "futures")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use anthill::sleep;
use anthill_test_support::eventually;

struct Counting;

/// Bytes allocated and not freed.
static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc`, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SLEEPERS: usize = 50_000;
/// What does not grow with the number of sleepers: the wheels, the thread, a chunk that is not full.
const FIXED: usize = 64 * 1024;

#[test]
fn a_sleeping_future_takes_48_bytes_beside_its_own() {
    let mut sleepers = Vec::with_capacity(SLEEPERS);
    let before = LIVE.load(Ordering::SeqCst);
    for _ in 0..SLEEPERS {
        sleepers.push(sleep(Duration::from_secs(3600)));
    }
    assert_eq!(size_of_val(&sleepers[0]), 24);
    for sleeper in &mut sleepers {
        let polled = Pin::new(sleeper).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    let grown = LIVE.load(Ordering::SeqCst) - before;
    println!(
        "{} bytes a sleeping future, beside its own 24",
        grown / SLEEPERS
    );
    assert!(grown <= SLEEPERS * 48 + FIXED, "{grown} bytes");

    // The place of one that is over is used again.
    for _ in 0..3 {
        for sleeper in &mut sleepers {
            *sleeper = sleep(Duration::from_secs(3600));
            let polled = Pin::new(sleeper).poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }
    }
    let again = LIVE.load(Ordering::SeqCst) - before;
    assert!(again <= grown + FIXED, "{again} bytes");

    // And all of it is given back with the thread.
    drop(sleepers);
    let own = SLEEPERS * 24;
    eventually("the memory is given back", || {
        LIVE.load(Ordering::SeqCst) + own < before + FIXED
    });
}
