//! A pool as its users see it.
//!
//! | file | |
//! |---|---|
//! | here | [`Pool`]: the owner, whose drop closes the pool and joins its threads |
//! | [`handle`] | [`PoolHandle`]: what tasks and other threads hold; submits tasks |
//! | [`lifecycle`] | capacity, rest, release, reboot, the stop token |
//! | [`gauges`] | what the pool reports: gauges and counters |
//! | `submit_async` | `SubmitAsync`: a task is submitted without a thread that waits (feature `futures`) |
//!
//! The constructors of a pool are in [`builder`](crate::builder), which imports from here and not the other way round.

mod gauges;
mod handle;
mod lifecycle;
#[cfg(feature = "futures")]
mod submit_async;

pub use handle::PoolHandle;
#[cfg(feature = "futures")]
pub use submit_async::SubmitAsync;

use crate::engine::core::Core;
use crate::engine::current;
use crate::sync::Arc;
use std::fmt;
use std::ops::Deref;

/// An elastic pool of reusable OS threads: the owner of the pool.
///
/// The operations of a pool are methods of [`PoolHandle`], to which a `Pool` dereferences. A `Pool` adds ownership:
/// it cannot be cloned, and **dropping it closes the pool, runs the tasks that were accepted and joins the threads**,
/// without a time limit. If the pool is paused, the drop resumes it. On a worker of any pool, and in a destructor of a
/// worker's thread-locals, the drop only closes the pool: a worker that waited for workers could wait for itself.
///
/// # What workers inherit
///
/// The call that first needs a worker starts it, on whatever thread that call runs. Like every thread, the worker
/// inherits from that thread its affinity (the processors on which it may run), its priority and its signal mask: if a
/// thread that is pinned to one processor uses a pool, the workers are pinned to that processor too. To prevent that,
/// set another affinity in [`on_worker_start`](crate::Builder::on_worker_start), or let the thread that builds the pool
/// start the workers, with [`min_workers`](crate::Builder::min_workers).
///
/// # After a fork
///
/// The child of a `fork` has the memory of its parent, but of its threads only the one that forked. In the child a
/// pool works like a new one if, at the fork, it was at rest and had no thread (it had started none, or all were joined
/// by [`release_timeout`](PoolHandle::release_timeout)) and no other thread was inside a call of the pool. So a
/// server can make a pool before it forks, and each of its children can use it.
///
/// In the child any other pool refuses tasks, and no call waits. Its tasks are the parent's, and run there, once:
///
/// - Every way to submit a task fails with [`NoThread`](crate::SubmitErrorKind::NoThread), whose
///   [`source`](std::error::Error::source) says that the process was forked; the closure comes back. If a scope or
///   a map begins in the child, its caller does the work.
/// - All gauges and [`stats`](PoolHandle::stats) are 0, except the capacity and the number of rejected tasks. Calls
///   that wait return at once: `wait_idle`, and `release_timeout` with `Ok`, since the child has no thread of the pool.
///   `release`, `reboot`, `tune` and the drop of the pool have no effect; stop tokens are stopped.
/// - A handle from before the fork has the result of its task if the task was over by then; otherwise its task counts
///   as cancelled. A group reports tasks that were not over as cancelled; a scope or a map that was half-way panics.
/// - If a task forks and also returns in the child, its thread ends there and runs no other task.
///
/// [`global()`](crate::global()) is a new pool in each process. All this applies to the C library's `fork`: the crate
/// does not notice a process that is made by a bare system call. It is tested on Linux.
///
/// ```
/// use anthill::Pool;
///
/// let pool = Pool::with_capacity(4);
/// for job in 0..9 {
///     pool.submit(move || println!("job {job}"))?; // waits while four run
/// }
/// pool.tune(8); // from now on eight at once
/// drop(pool); // all nine have run
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Pool {
    handle: PoolHandle,
    owned: bool,
}

impl Pool {
    pub(crate) fn from_core(core: Arc<Core>) -> Pool {
        Pool {
            handle: PoolHandle::new(core),
            owned: true,
        }
    }

    /// Returns a handle to the pool, which is cheap to clone and does not keep the pool open.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2);
    /// let handle = pool.handle();
    /// pool.submit(move || handle.submit(|| println!("a task of a task")).unwrap())?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> PoolHandle {
        self.handle.clone()
    }

    /// Gives up ownership, so that no drop waits for the pool any more.
    ///
    /// The pool closes when its last handle is dropped: tasks that were accepted still run, and then its threads end.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2).detach();
    /// pool.submit(|| println!("runs if the process lives long enough"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use = "the pool closes when its last handle is dropped"]
    pub fn detach(mut self) -> PoolHandle {
        self.owned = false;
        self.handle.clone()
    }
}

impl Deref for Pool {
    type Target = PoolHandle;

    fn deref(&self) -> &PoolHandle {
        &self.handle
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let core = &self.handle.core;
        core.abandon();
        if !current::on_worker() && !current::is_inside(core) {
            // It cannot fail: there is no deadline, and nobody can open an abandoned pool again.
            let _ = core.end(None, None);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe(f, "Pool")
    }
}
