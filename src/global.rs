//! One pool for the whole process.

use crate::error::SubmitError;
use crate::pool::{Pool, PoolHandle};
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
