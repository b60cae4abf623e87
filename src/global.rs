//! One pool for the whole process.

use crate::error::SubmitError;
use crate::pool::{Pool, PoolHandle};
use crate::results::handle::JoinHandle;
use once_cell::sync::OnceCell;

static GLOBAL: OnceCell<PoolHandle> = OnceCell::new();

/// The process's own pool: made as [`Pool::default`] on first use, never dropped.
///
/// ```
/// assert!(anthill::global().capacity() > 0);
/// ```
pub fn global() -> &'static PoolHandle {
    GLOBAL.get_or_init(|| Pool::default().detach())
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
