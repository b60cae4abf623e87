//! How many processors the process has, whichever thread asks; those of the calling thread; and on which one it runs.
//!
//! The count that a thread gets is its own, and it may be pinned to fewer processors than the process has. What is made
//! for the whole process must not be made to that measure, so the affinity of the main thread counts. A thread with
//! another affinity starts a short-lived thread, gives that the affinity of the main thread, and lets it ask: so in all
//! else (the quota of the control groups, and how it is rounded) the answer is that of [`processors`].

use crate::sync::processors;

/// The count for the main thread, or for this one if that cannot be found out.
pub(crate) fn of_process() -> usize {
    imp::of_main_thread().unwrap_or_else(processors)
}

/// On how many processors the calling thread may run, whatever part of their time its control groups grant: a quota is
/// used up by threads side by side, as they take turns on no processor.
pub(crate) fn of_this_thread() -> usize {
    imp::of_this_thread().unwrap_or_else(processors)
}

/// The processor that the calling thread runs on, as a number that the system gave it; `None` where that is unknown.
#[inline]
pub(crate) fn current() -> Option<usize> {
    imp::current()
}

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(miri),
    not(anthill_loom)
))]
mod imp {
    use super::processors;
    use crate::sync::{Arc, AtomicUsize, Ordering, spawn};
    use std::ffi::{c_int, c_ulong};

    /// As large as that of the C library: 1,024 processors.
    #[derive(Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    struct Affinity([c_ulong; 1024 / c_ulong::BITS as usize]);

    unsafe extern "C" {
        fn sched_getaffinity(thread: c_int, size: usize, affinity: *mut Affinity) -> c_int;
        fn sched_setaffinity(thread: c_int, size: usize, affinity: *const Affinity) -> c_int;
        /// Reads memory that the system keeps up to date, without a call of the system.
        safe fn sched_getcpu() -> c_int;
    }

    #[inline]
    pub(super) fn current() -> Option<usize> {
        usize::try_from(sched_getcpu()).ok()
    }

    pub(super) fn of_this_thread() -> Option<usize> {
        let ones = |word: &c_ulong| word.count_ones() as usize;
        let count = Affinity::of(0)?.0.iter().map(ones).sum();
        Some(count).filter(|count| *count > 0)
    }

    impl Affinity {
        /// That of the thread with this id; 0 is the calling thread.
        fn of(thread: c_int) -> Option<Affinity> {
            let mut affinity = Affinity([0; 1024 / c_ulong::BITS as usize]);
            // SAFETY: the pointer is valid for a write of that size.
            let got =
                unsafe { sched_getaffinity(thread, size_of::<Affinity>(), &raw mut affinity) };
            (got >= 0).then_some(affinity)
        }

        /// Gives it to the calling thread; false if the system refuses.
        fn set(&self) -> bool {
            // SAFETY: the pointer is valid for a read of that size.
            unsafe { sched_setaffinity(0, size_of::<Affinity>(), self) == 0 }
        }
    }

    /// `None` if it is that of the calling thread, or cannot be found out.
    pub(super) fn of_main_thread() -> Option<usize> {
        // The main thread has the id of the process.
        let main = Affinity::of(c_int::try_from(std::process::id()).ok()?)?;
        if Affinity::of(0)? == main {
            return None;
        }
        let found = Arc::new(AtomicUsize::new(0));
        let tells = Arc::clone(&found);
        let asks = move || {
            if main.set() {
                tells.store(processors(), Ordering::SeqCst);
            }
        };
        let name = String::from("anthill");
        spawn(name, None, asks).ok()?.join().ok()?;
        Some(found.load(Ordering::SeqCst)).filter(|found| *found > 0)
    }
}

#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    not(miri),
    not(anthill_loom)
)))]
mod imp {
    pub(super) fn of_main_thread() -> Option<usize> {
        None
    }

    pub(super) fn of_this_thread() -> Option<usize> {
        None
    }

    #[inline]
    pub(super) fn current() -> Option<usize> {
        None
    }
}
