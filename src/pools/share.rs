//! What the shares of a pool have in common, as their users see it.

use super::share_core::ShareCore;
use crate::error::ReleaseTimeout;
use crate::pool::PoolHandle;
use crate::stats::Stats;
use crate::sync::{Arc, deadline_after};
use std::fmt;
use std::time::Duration;

/// A share of a pool: tasks with bounds, gauges and an end of their own, on the pool's workers.
///
/// [`Limited`](crate::Limited), [`Serial`](crate::Serial) and [`Keyed`](crate::Keyed) dereference to it. A share has no
/// threads. Of its tasks only those that may run hold a place in the pool, so however many are queued, the pool's other
/// workers are free. The overflow policy and the panic handlers of the pool apply. The share
/// closes and opens with its pool.
///
/// A share is cheap to clone. It keeps a [detached](crate::Pool::detach) pool open, as a [`PoolHandle`] does. When its
/// last clone is dropped it closes; the tasks that it accepted still run.
#[derive(Clone)]
pub struct Share(Arc<CloseOnDrop>);

/// What the clones of a share have in common. Its drop closes the share.
struct CloseOnDrop {
    pool: PoolHandle,
    share: Arc<ShareCore>,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.share.close(false, false);
    }
}

impl Share {
    pub(super) fn new(pool: &PoolHandle, limit: Option<usize>, max_limit: usize) -> Share {
        Share(Arc::new(CloseOnDrop {
            pool: pool.clone(),
            share: ShareCore::new(pool.core(), limit, max_limit),
        }))
    }

    pub(super) fn share(&self) -> &Arc<ShareCore> {
        &self.0.share
    }

    /// Returns a handle to the pool whose workers run the tasks.
    pub fn pool(&self) -> &PoolHandle {
        &self.0.pool
    }

    /// Returns how many tasks of the share may run at once.
    pub fn capacity(&self) -> usize {
        self.0.share.capacity()
    }

    /// Returns how many tasks of the share are running.
    pub fn running(&self) -> usize {
        self.0.share.running()
    }

    /// Returns how many accepted tasks of the share have not started.
    pub fn queued(&self) -> usize {
        self.0.share.queued()
    }

    /// Returns how many submitters wait for room in the share.
    pub fn waiting(&self) -> usize {
        self.0.share.waiting()
    }

    /// Returns how many more tasks of the share could run.
    pub fn free(&self) -> usize {
        if self.0.share.is_foreign() {
            return 0;
        }
        self.capacity().saturating_sub(self.running())
    }

    /// Returns whether the share, or its pool, was released and not opened again.
    pub fn is_closed(&self) -> bool {
        self.0.share.is_closed()
    }

    /// Returns the counters and gauges of the share. The counts of threads are 0: threads belong to the pool.
    pub fn stats(&self) -> Stats {
        self.0.share.stats()
    }

    /// Waits until the share is at rest, as [`PoolHandle::wait_idle`] does for a pool.
    ///
    /// In a task of the pool it runs the tasks of the share that may run.
    ///
    /// # Panics
    ///
    /// Panics in a task of the share, where it would wait for itself.
    #[track_caller]
    pub fn wait_idle(&self) {
        assert!(
            !self.0.share.is_within(),
            "wait_idle was called in a task of the share it waits for: it would wait for itself"
        );
        self.0.share.wait_idle(None);
    }

    /// Waits like [`wait_idle`](Share::wait_idle), but at most for `timeout`. Returns whether the share was at rest.
    ///
    /// In a task of the share it returns `false` at once.
    #[must_use]
    pub fn wait_idle_timeout(&self, timeout: Duration) -> bool {
        !self.0.share.is_within() && self.0.share.wait_idle(deadline_after(timeout))
    }

    /// Closes the share, not the pool. Does not wait.
    ///
    /// The share accepts nothing more from outside and refuses the submitters that wait for room. Tasks that were
    /// accepted still run.
    pub fn release(&self) {
        self.0.share.close(false, false);
    }

    /// Closes the share like [`release`](Share::release) and waits for its tasks, but at most for `timeout`.
    ///
    /// # Errors
    ///
    /// Returns what remains if the time is up. It fails at once in a task of the share, which cannot wait for itself.
    pub fn release_timeout(&self, timeout: Duration) -> Result<(), ReleaseTimeout> {
        self.release();
        if self.wait_idle_timeout(timeout) {
            return Ok(());
        }
        Err(ReleaseTimeout {
            running: self.running(),
            lent: 0,
            queued: self.queued(),
            workers: 0,
            leaving: 0,
        })
    }

    /// Closes the share, also to what tasks of the pool submit, drops its backlog, and returns how many tasks it
    /// dropped. Does not wait.
    pub fn release_now(&self) -> usize {
        self.0.share.close(true, false)
    }

    /// Opens a released share again. While its pool is closed, the share stays closed.
    pub fn reboot(&self) {
        self.0.share.reopen();
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("capacity", &self.capacity())
            .field("running", &self.running())
            .field("queued", &self.queued())
            .field("waiting", &self.waiting())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, "Share")
    }
}
