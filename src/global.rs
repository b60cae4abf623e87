//! One pool for the whole process.

use crate::builder::Builder;
use crate::error::SubmitError;
use crate::fork;
use crate::pool::PoolHandle;
use crate::processors;
use crate::results::handle::JoinHandle;
use crate::sync::{AtomicPtr, Ordering};
use std::ptr;

/// The pool of this process, and the generation of the process. It is not in a `OnceCell`, which a fork may copy
/// half-way initialized.
struct Global {
    pool: PoolHandle,
    generation: u64,
}

static GLOBAL: AtomicPtr<Global> = AtomicPtr::new(ptr::null_mut());

/// Returns the process's own pool.
///
/// The first call makes it, like [`Pool::default`](crate::Pool::default), and it is never dropped. The child of a fork
/// gets its own.
///
/// Its capacity does not depend on which thread calls first: on Linux it is the number of processors on which the main
/// thread may run at that time, within the quota of the control groups. Elsewhere it is that of the calling thread.
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
    // ORDERING: Release: publishes this pool. Acquire: sees the pool of whoever was first.
    let (order, lost) = (Ordering::AcqRel, Ordering::Acquire);
    let global = match GLOBAL.compare_exchange(seen, made, order, lost) {
        Ok(_) => made,
        Err(first) => {
            // SAFETY: it was made here, and nobody else has it. (It has started no thread.)
            drop(unsafe { Box::from_raw(made) });
            first
        }
    };
    // SAFETY: not null, and never freed. It is of this generation, which has not changed since.
    unsafe { &(*global).pool }
}

/// Submits a task to the [global](global()) pool. Never blocks: its backlog is unbounded.
///
/// # Errors
///
/// Fails as [`PoolHandle::submit`] does.
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

/// Submits a task to the [global](global()) pool and returns a handle to its result.
///
/// # Errors
///
/// Fails as [`PoolHandle::spawn`] does.
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
