//! Which pool this thread works for, and what runs on its stack, kept in thread-locals.
//!
//! `CURRENT`, `IS_WORKER` and `TOP` have no destructor, so that a drop in another thread-local's destructor still
//! sees them.

use crate::engine::core::Core;
use crate::engine::worker::Worker;
use crate::sync::{Arc, local};
use std::cell::{Cell, OnceCell, RefCell};
use std::ptr;

local! {
    /// The address of the pool whose task runs on this thread; 0 for none.
    static CURRENT: Cell<usize> = Cell::new(0);
    /// Whether this is the thread of a worker.
    static IS_WORKER: Cell<bool> = Cell::new(false);
    static WORKER: OnceCell<Worker> = OnceCell::new();
    /// The innermost part of what runs on this thread: a list through the stack itself.
    static TOP: Cell<*const Frame> = Cell::new(ptr::null());
    /// The pools for which `call_for` runs something on this thread, innermost last.
    static CALLS_FOR: RefCell<Vec<Arc<Core>>> = RefCell::new(Vec::new());
}

fn address(core: &Arc<Core>) -> usize {
    Arc::as_ptr(core) as usize
}

/// Whether a task of `core` runs on this thread, perhaps beneath one of another pool, or the thread is one of its
/// workers.
pub(crate) fn is_inside(core: &Arc<Core>) -> bool {
    let here = CURRENT.with(Cell::get);
    here == address(core) || here != 0 && is_beneath(core)
}

#[cold]
fn is_beneath(core: &Arc<Core>) -> bool {
    with_worker(core, |_| ()).is_some() || calls_for(core)
}

/// Whether what runs on this thread keeps `core` from being at rest: a task does, a hook or a waker does not.
pub(crate) fn holds_place(core: &Arc<Core>) -> bool {
    with_worker(core, Worker::holds_place) == Some(true) || calls_for(core)
}

fn calls_for(core: &Arc<Core>) -> bool {
    let calls_for = |calls: &RefCell<Vec<Arc<Core>>>| {
        (calls.borrow().iter()).any(|outer| Arc::ptr_eq(outer, core))
    };
    CALLS_FOR.try_with(calls_for).unwrap_or(false)
}

/// Whether this is the thread of a worker, of any pool.
pub(crate) fn on_worker() -> bool {
    IS_WORKER.with(Cell::get)
}

/// The pool whose task runs on this thread.
pub(crate) fn core() -> Option<Arc<Core>> {
    let here = CURRENT.with(Cell::get);
    let works_for = || {
        let core = WORKER.try_with(|worker| worker.get().map(|worker| Arc::clone(worker.core())));
        core.ok().flatten()
    };
    let calls_for = || {
        let core = CALLS_FOR.try_with(|calls| calls.borrow().last().cloned());
        core.ok().flatten()
    };
    if here == 0 {
        return None;
    }
    calls_for()
        .filter(|core| address(core) == here)
        .or_else(|| works_for().filter(|core| address(core) == here))
}

/// Runs the loop of a worker on this thread, for the rest of its life.
pub(crate) fn begin_worker(worker: Worker) {
    WORKER.with(|cell| {
        CURRENT.with(|here| here.set(address(worker.core())));
        IS_WORKER.with(|works| works.set(true));
        cell.get_or_init(|| worker).run();
    });
}

/// Calls `f` with this thread's worker, if it is one of `core`.
#[inline]
pub(crate) fn with_worker<T>(core: &Arc<Core>, f: impl FnOnce(&Worker) -> T) -> Option<T> {
    let call = |cell: &OnceCell<Worker>| {
        let worker = cell.get()?;
        Arc::ptr_eq(worker.core(), core).then(|| f(worker))
    };
    WORKER.try_with(call).ok().flatten()
}

/// Calls `f` with this thread's worker, of whichever pool.
pub(crate) fn with_any_worker<T>(f: impl FnOnce(&Worker) -> T) -> Option<T> {
    (WORKER.try_with(|cell| cell.get().map(f)).ok()).flatten()
}

/// Whether a thread that waits for tasks of `core` runs them: a task of the pool does, unless its place is lent (LE8).
pub(crate) fn may_help(core: &Arc<Core>) -> bool {
    is_inside(core) && with_worker(core, Worker::is_lent) != Some(true)
}

/// Runs `f` on this thread as a task of `core`, whether or not the thread is one of its workers.
pub(crate) fn call_for<T>(core: &Arc<Core>, f: impl FnOnce() -> T) -> T {
    struct Back(usize);
    impl Drop for Back {
        fn drop(&mut self) {
            CURRENT.with(|here| here.set(self.0));
            let ended = CALLS_FOR.try_with(|calls| calls.borrow_mut().pop());
            drop(ended);
        }
    }
    let _ = CALLS_FOR.try_with(|calls| calls.borrow_mut().push(Arc::clone(core)));
    let _back = Back(CURRENT.with(|here| here.replace(address(core))));
    f()
}

/// Runs `f` as a task of `core`, on a thread that runs one already, perhaps beneath one of another pool.
pub(crate) fn call_here<T>(core: &Arc<Core>, f: impl FnOnce() -> T) -> T {
    if CURRENT.with(Cell::get) == address(core) {
        f()
    } else {
        call_for(core, f)
    }
}

/// A part of what runs on this thread: a claimable, or the group or share that a task belongs to. Each has an address
/// of its own.
#[derive(Clone, Copy)]
struct Frame {
    what: *const (),
    below: *const Frame,
}

/// Runs `f` as a part of `what`.
pub(crate) fn within<T>(what: *const (), f: impl FnOnce() -> T) -> T {
    struct Back(*const Frame);
    impl Drop for Back {
        fn drop(&mut self) {
            TOP.with(|top| top.set(self.0));
        }
    }
    let below = TOP.with(Cell::get);
    let frame = Frame { what, below };
    let _back = Back(below);
    TOP.with(|top| top.set(&raw const frame));
    f()
}

/// Whether this thread runs a part of `what`, perhaps suspended beneath something else.
pub(crate) fn is_within(what: *const ()) -> bool {
    let mut at = TOP.with(Cell::get);
    while !at.is_null() {
        // SAFETY: a frame is in the list while its `within` is on this thread's stack, and this is called above it.
        let Frame { what: other, below } = unsafe { *at };
        if ptr::eq(other, what) {
            return true;
        }
        at = below;
    }
    false
}
