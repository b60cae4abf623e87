//! What [`sync`](super) is under loom: loom's own types, a lock-free stand-in for the deques, and seams for what loom
//! does not have (time, refused threads).
//!
//! Time: a timeout of zero has always passed, any other never does. So a model that wants a worker to expire sets an
//! idle timeout of zero, and loom explores when it does.

pub(crate) use loom::cell;
pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use loom::thread::{JoinHandle, Thread, current, park, yield_now};
pub(crate) use loom::thread_local as local;
/// It is in a static, where loom's cannot be.
pub(crate) use std::sync::atomic::AtomicPtr;
/// For counters that no decision of the protocol depends on: they are not worth exploring.
pub(crate) use std::sync::atomic::AtomicU64 as CounterU64;
/// Loom's own cannot hold a `dyn Fn`; how they count is not what the models explore.
pub(crate) use std::sync::{Arc, Weak};

use loom::sync::{RwLockReadGuard, RwLockWriteGuard};
use std::cell::Cell;
use std::io;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

pub(crate) mod deque {
    //! First in, first out, any number of thieves, never wraps: enough for a model's few tasks.
    //! As weak as crossbeam's in what it orders: a push releases, a steal acquires, no more.

    use loom::cell::UnsafeCell;
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::Arc;

    const SLOTS: usize = 6;

    pub(crate) enum Steal<T> {
        Empty,
        Success(T),
        Retry,
    }

    struct Slot<T> {
        full: AtomicBool,
        value: UnsafeCell<Option<T>>,
    }

    pub(crate) struct Injector<T> {
        head: AtomicUsize,
        tail: AtomicUsize,
        slots: [Slot<T>; SLOTS],
    }

    // SAFETY: a slot's value is written once, before `full` is released, and taken once, by the thread that moved
    // `head` past it after acquiring `full`.
    unsafe impl<T: Send> Send for Injector<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Sync for Injector<T> {}

    impl<T> Injector<T> {
        pub(crate) fn new() -> Injector<T> {
            Injector {
                head: AtomicUsize::new(0),
                tail: AtomicUsize::new(0),
                slots: std::array::from_fn(|_| Slot {
                    full: AtomicBool::new(false),
                    value: UnsafeCell::new(None),
                }),
            }
        }

        pub(crate) fn push(&self, value: T) {
            let at = self.tail.fetch_add(1, Ordering::AcqRel);
            let slot = &self.slots[at];
            slot.value.with_mut(|cell| {
                // SAFETY: no other thread has the slot at `at`.
                unsafe { *cell = Some(value) }
            });
            slot.full.store(true, Ordering::Release);
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.head.load(Ordering::Acquire) >= self.tail.load(Ordering::Acquire)
        }

        pub(crate) fn steal(&self) -> Steal<T> {
            let head = self.head.load(Ordering::Acquire);
            if head >= self.tail.load(Ordering::Acquire) {
                return Steal::Empty;
            }
            let slot = &self.slots[head];
            if !slot.full.load(Ordering::Acquire) {
                return Steal::Retry;
            }
            let moved =
                self.head
                    .compare_exchange(head, head + 1, Ordering::AcqRel, Ordering::Relaxed);
            if moved.is_err() {
                return Steal::Retry;
            }
            // SAFETY: only this thread moved `head` past the slot, which was full.
            match slot.value.with_mut(|cell| unsafe { (*cell).take() }) {
                Some(value) => Steal::Success(value),
                None => Steal::Empty,
            }
        }

        pub(crate) fn len(&self) -> usize {
            let head = self.head.load(Ordering::Acquire);
            self.tail.load(Ordering::Acquire).saturating_sub(head)
        }

        pub(crate) fn steal_batch_with_limit_and_pop(
            &self,
            dest: &Worker<T>,
            limit: usize,
        ) -> Steal<T> {
            let first = self.steal();
            if matches!(first, Steal::Success(_)) {
                for _ in 1..limit {
                    let Steal::Success(next) = self.steal() else {
                        break;
                    };
                    dest.push(next);
                }
            }
            first
        }
    }

    pub(crate) struct Worker<T>(Arc<Injector<T>>);
    pub(crate) struct Stealer<T>(Arc<Injector<T>>);

    impl<T> Worker<T> {
        pub(crate) fn new_fifo() -> Worker<T> {
            Worker(Arc::new(Injector::new()))
        }

        pub(crate) fn stealer(&self) -> Stealer<T> {
            Stealer(Arc::clone(&self.0))
        }

        pub(crate) fn push(&self, value: T) {
            self.0.push(value);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            loop {
                match self.0.steal() {
                    Steal::Success(value) => return Some(value),
                    Steal::Empty => return None,
                    Steal::Retry => loom::thread::yield_now(),
                }
            }
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }
    }

    impl<T> Stealer<T> {
        pub(crate) fn steal(&self) -> Steal<T> {
            self.0.steal()
        }

        pub(crate) fn steal_batch_and_pop(&self, dest: &Worker<T>) -> Steal<T> {
            self.0.steal_batch_with_limit_and_pop(dest, 2)
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }
}

/// A fence: see the one of `sync`.
pub(crate) fn order_seqcst() {
    fence(Ordering::SeqCst);
}

/// No turn: loom explores the waiting anyway.
pub(super) const fn spins(_turns: u32) -> u32 {
    0
}

/// It may pass at any moment: see above.
pub(crate) const TICK: Duration = Duration::ZERO;

/// None, as above.
pub(crate) const fn yields(_times: u32) -> u32 {
    0
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant;

pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
    timeout.is_zero().then_some(Instant)
}

pub(crate) fn now() -> Instant {
    Instant
}

pub(crate) fn elapsed(_since: Instant) -> Duration {
    Duration::ZERO
}

pub(crate) fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some()
}

pub(crate) fn park_until(deadline: Option<Instant>) {
    match deadline {
        None => park(),
        Some(_) => yield_now(),
    }
}

pub(crate) fn wait_until<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> MutexGuard<'a, T> {
    match deadline {
        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(_) => guard,
    }
}

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

std::thread_local! {
    /// How many starts of a thread fail next. Loom runs a model's threads on one thread of the system.
    static REFUSALS: Cell<u32> = const { Cell::new(0) };
}

loom::lazy_static! {
    /// How many threads were started and not joined. Loom's, so that loom looks at it at any moment.
    static ref UNJOINED: AtomicUsize = AtomicUsize::new(0);
}

local! {
    /// What a user's thread-local does as it is dropped.
    static LEFT_BEHIND: Cell<Option<Box<dyn FnOnce()>>> = Cell::new(None);
}

pub(crate) fn refuse_threads(next: u32) {
    REFUSALS.set(next);
}

std::thread_local! {
    /// Whether a thread that is no worker can be started: only in models about such threads, for they help where
    /// other models want to see that no help is needed.
    static HELPERS: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn allow_helpers(allow: bool) {
    HELPERS.set(allow);
}

pub(crate) fn spawn_helper(
    _name: String,
    _stack_size: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    if !HELPERS.get() {
        return Err(io::Error::from(io::ErrorKind::WouldBlock));
    }
    loom::thread::spawn(body);
    Ok(())
}

/// Loom explores what happens meanwhile.
pub(crate) fn sleep(_time: Duration) {
    yield_now();
}

pub(crate) fn spawn(
    _name: String,
    _stack_size: Option<usize>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let left = REFUSALS.get();
    if left > 0 {
        REFUSALS.set(left - 1);
        return Err(io::Error::from(io::ErrorKind::WouldBlock));
    }
    UNJOINED.fetch_add(1, Ordering::SeqCst);
    Ok(loom::thread::spawn(|| {
        body();
        // Loom drops thread-locals in any order, and only after a join has returned. That will do for the engine's
        // own, but a user's are dropped before them.
        if let Some(drops) = LEFT_BEHIND.with(Cell::take) {
            drops();
        }
    }))
}

/// Makes this thread call `drops` after its body, as a user's thread-local would.
pub(crate) fn leave_behind(drops: impl FnOnce() + 'static) {
    LEFT_BEHIND.with(|left| left.set(Some(Box::new(drops))));
}

/// How many threads were started and not joined.
pub(crate) fn unjoined() -> usize {
    UNJOINED.load(Ordering::SeqCst)
}

pub(crate) fn join(thread: JoinHandle<()>) {
    let _ = thread.join();
    UNJOINED.fetch_sub(1, Ordering::SeqCst);
}
