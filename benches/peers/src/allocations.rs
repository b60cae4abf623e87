//! Counts allocations while it is asked to, and else stays out of the way.
//!
//! But for one thing: the C library is told to keep what is freed. Whether it gives the end of the heap back to the
//! system after each round, and takes it anew page by page, is chance: it depends on what was allocated last.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

/// Tells the C library to keep the memory that is freed, and to take also large blocks from what it kept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_the_heap() {
    /// The most that it takes for it.
    const LARGE: libc::c_int = 32 << 20;
    for (setting, value) in [
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        (libc::M_MMAP_THRESHOLD, LARGE),
    ] {
        // SAFETY: it takes a number for a number that the allocator has for it.
        let taken = unsafe { libc::mallopt(setting, value) };
        assert_eq!(taken, 1, "the allocator has such a setting");
    }
}

/// Not known how, here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_the_heap() {}

/// What was allocated, by all threads.
#[derive(Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
    /// What is left of them; of what was there before nothing may have been freed.
    pub(crate) kept: u64,
}

pub(crate) fn counted(work: impl FnOnce()) -> Counted {
    let read = || Counted {
        calls: CALLS.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
        kept: BYTES
            .load(Ordering::Relaxed)
            .saturating_sub(FREED.load(Ordering::Relaxed)),
    };
    let before = read();
    COUNTS.store(true, Ordering::SeqCst);
    work();
    COUNTS.store(false, Ordering::SeqCst);
    let after = read();
    Counted {
        calls: after.calls - before.calls,
        bytes: after.bytes - before.bytes,
        kept: after.kept.saturating_sub(before.kept),
    }
}

fn count(size: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        add(&BYTES, size);
    }
}

fn count_freed(size: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        add(&FREED, size);
    }
}

fn add(to: &AtomicU64, size: usize) {
    to.fetch_add(u64::try_from(size).unwrap_or(u64::MAX), Ordering::Relaxed);
}

// SAFETY: all calls are the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count_freed(layout.size());
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        count_freed(layout.size());
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, size) }
    }
}
