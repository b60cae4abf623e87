//! One pool for the whole process.

use crate::builder::Builder;
use crate::error::SubmitError;
use crate::fork;
use crate::pool::PoolHandle;
use crate::processors;
use crate::results::handle::JoinHandle;
use crate::sync::{AtomicPtr, Ordering};
use std::ptr;

/// The pool of this process, and its generation. No `OnceCell`: in the child of a fork one may be half-way.
struct Global {
    pool: PoolHandle,
    generation: u64,
}

static GLOBAL: AtomicPtr<Global> = AtomicPtr::new(ptr::null_mut());

/// The process's own pool: made as [`Pool::default`](crate::Pool::default) on first use, never dropped. The child of a fork has one of
/// its own.
///
/// Its capacity is the process's, not that of whichever thread asks first: on Linux the processors that the main
/// thread may run on then, within the quota of the control groups. Elsewhere it is that of the thread that asks.
///
/// ```
/// assert!(anthill::global().capacity() > 0);
/// ```
pub fn global() -> &'static PoolHandle {
    let generation = fork::generation();
    // ORDERING: Acquire: pairs with the exchange in `replace`.
    let seen = GLOBAL.load(Ordering::Acquire);
    // SAFETY: null, or from `replace`, which leaks it.
    match unsafe { seen.as_ref() } {
        Some(global) if global.generation == generation => &global.pool,
        _ => replace(seen, generation),
    }
}

#[cold]
fn replace(seen: *mut Global, generation: u64) -> &'static PoolHandle {
    let pool = Builder::new()
        .capacity(processors::of_process())
        .unbounded_backlog();
    let pool = pool.into_pool().detach();
    let made = Box::into_raw(Box::new(Global { pool, generation }));
    // ORDERING: Release: publishes the pool. Acquire: that of somebody else.
    let (order, lost) = (Ordering::AcqRel, Ordering::Acquire);
    let global = match GLOBAL.compare_exchange(seen, made, order, lost) {
        Ok(_) => made,
        Err(first) => {
            // SAFETY: it was made here, and nobody else has it. No thread of it was started.
            drop(unsafe { Box::from_raw(made) });
            first
        }
    };
    // SAFETY: not null, and never freed. Whoever was first is of this generation, which has not changed since.
    unsafe { &(*global).pool }
}

/// Hands the [global](global()) pool a task.
///
/// # Errors
///
/// As [`PoolHandle::submit`].
///
/// ```
/// anthill::submit(|| println!("somewhere"))?;
/// anthill::global().wait_idle();
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn submit<F>(f: F) -> Result<(), SubmitError<F>>
where
    F: FnOnce() + Send + 'static,
{
    global().submit(f)
}

/// Hands the [global](global()) pool a task, and returns a handle to its result.
///
/// # Errors
///
/// As [`PoolHandle::spawn`].
///
/// ```
/// let sum = anthill::spawn(|| (1..=9).sum::<u32>())?;
/// assert_eq!(sum.join()?, 45);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn spawn<F, T>(f: F) -> Result<JoinHandle<T>, SubmitError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    global().spawn(f)
}
