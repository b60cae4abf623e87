//! The only file that names the standard library's atomics, locks, threads and clock, and the number of processors.
//!
//! Under `cfg(anthill_loom)` the unit tests get loom's instead, so that the models explore the very code that runs in
//! production. No logic of the pool is here.

use std::num::NonZero;
use std::thread::available_parallelism;

#[cfg(not(all(test, anthill_loom)))]
mod imp {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::AtomicU64 as CounterU64;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, Weak};
    pub(crate) use std::thread::{JoinHandle, Thread, current, park, yield_now};
    pub(crate) use std::time::Instant;

    use std::io;
    use std::sync::{
        PoisonError, RwLockReadGuard, RwLockWriteGuard, TryLockError, WaitTimeoutResult,
    };
    use std::thread;
    use std::time::Duration;

    /// A thread-local whose initial value is a constant.
    macro_rules! local {
        ($($(#[$attr:meta])* static $name:ident: $type:ty = $init:expr;)+) => {
            std::thread_local! { $($(#[$attr])* static $name: $type = const { $init };)+ }
        };
    }
    pub(crate) use local;

    pub(crate) mod cell {
        /// Like loom's: the pointer is lent to a closure, so that loom sees when it is in use.
        pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

        impl<T> UnsafeCell<T> {
            pub(crate) fn new(value: T) -> UnsafeCell<T> {
                UnsafeCell(std::cell::UnsafeCell::new(value))
            }

            pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
                f(self.0.get())
            }
        }
    }

    pub(crate) mod deque {
        pub(crate) use crossbeam_deque::{Injector, Steal, Stealer, Worker};
    }

    /// Stands between a `SeqCst` store and a `SeqCst` load of another place. They are in one total order already, so
    /// this does nothing. Loom lets such a load read what was there before the first `SeqCst` store, so there it is a
    /// fence.
    pub(crate) const fn order_seqcst() {}

    /// How many turns a thread spins before it parks.
    pub(super) const fn spins(turns: u32) -> u32 {
        turns
    }

    /// How long a worker on standby sleeps at a time.
    pub(crate) const TICK: Duration = Duration::from_micros(100);

    /// How many times a thread yields before it parks.
    pub(crate) const fn yields(times: u32) -> u32 {
        times
    }

    /// Locks; a lock of this crate cannot be poisoned by a user, whose code never runs under one.
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks unless the lock is held: in the child of a fork it may be held for ever.
    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        match mutex.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The same as [`try_lock`].
    pub(crate) fn try_write<T>(lock: &RwLock<T>) -> Option<RwLockWriteGuard<'_, T>> {
        match lock.try_write() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
        lock.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
        lock.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits on a condition variable until `deadline`, or for ever without one.
    pub(crate) fn wait_until<'a, T>(
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, T> {
        match deadline {
            None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let (guard, _): (_, WaitTimeoutResult) = condvar
                    .wait_timeout(guard, left)
                    .unwrap_or_else(PoisonError::into_inner);
                guard
            }
        }
    }

    /// Parks until `deadline`, or for ever without one; may return early.
    pub(crate) fn park_until(deadline: Option<Instant>) {
        match deadline {
            None => park(),
            Some(deadline) => {
                thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// The moment `timeout` from now; `None` (never) where the clock cannot express it.
    pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
        Instant::now().checked_add(timeout)
    }

    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    pub(crate) fn elapsed(since: Instant) -> Duration {
        since.elapsed()
    }

    pub(crate) fn is_past(deadline: Option<Instant>) -> bool {
        deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Starts a thread.
    pub(crate) fn spawn(
        name: String,
        stack_size: Option<usize>,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let mut builder = thread::Builder::new().name(name);
        if let Some(size) = stack_size {
            builder = builder.stack_size(size);
        }
        builder.spawn(body)
    }

    /// Starts a thread that is no worker, and that no thread joins.
    pub(crate) fn spawn_helper(
        name: String,
        stack_size: usize,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        spawn(name, Some(stack_size), body).map(drop)
    }

    pub(crate) use std::thread::sleep;

    /// Joins a thread; its panic was told already. Works in the destructor of a thread-local, too: it needs nothing
    /// of the thread that joins.
    pub(crate) fn join(thread: JoinHandle<()>) {
        let _ = thread.join();
    }
}

/// How many processors the calling thread may use now: those it may run on, and no more than its control groups grant
/// it time for, rounded down. This reads files. Where the standard library does not know, `num_cpus` is asked, which
/// keeps what it found in the groups first.
pub(crate) fn processors() -> usize {
    available_parallelism().map_or_else(|_unknown| num_cpus::get().max(1), NonZero::get)
}

/// How many processors the threads of a pool share. It decides what they do before they sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processors(usize);

impl Processors {
    pub(crate) const SINGLE: Processors = Processors(1);
    #[cfg(test)]
    pub(crate) const TWO: Processors = Processors(2);

    /// So many, at least one.
    pub(crate) fn new(count: usize) -> Processors {
        Processors(count.max(1))
    }

    /// Whether only one thread of the pool runs at a time.
    pub(crate) fn is_single(self) -> bool {
        self == Processors::SINGLE
    }

    /// Whether so many threads can run at once, each on its own processor.
    pub(crate) fn fit(self, threads: u64) -> bool {
        threads <= self.0 as u64
    }

    /// How many turns a thread spins before it parks: none on a single processor, where no other thread runs
    /// meanwhile.
    pub(crate) fn spins(self, turns: u32) -> u32 {
        if self.is_single() {
            0
        } else {
            imp::spins(turns)
        }
    }
}

/// The sooner of two deadlines, where `None` is never.
pub(crate) fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(all(test, anthill_loom))]
#[path = "sync_loom.rs"]
mod imp;

pub(crate) use imp::*;
