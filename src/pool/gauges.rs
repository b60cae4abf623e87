//! What a pool reports: its gauges, and its counters so far.
//!
//! A gauge is a snapshot: other threads may change it before the caller looks at it.

use super::PoolHandle;
use crate::stats::Stats;

impl PoolHandle {
    /// Returns how many tasks may run at once.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).capacity(), 3);
    /// ```
    pub fn capacity(&self) -> usize {
        self.core.capacity()
    }

    /// Returns how many workers there are, idle ones included.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).workers(), 0); // no task, no thread
    /// ```
    pub fn workers(&self) -> usize {
        self.core.workers()
    }

    /// Returns how many workers are idle.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(3);
    /// pool.submit(|| {})?;
    /// pool.wait_idle();
    /// assert_eq!(pool.idle(), 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn idle(&self) -> usize {
        self.core.idle()
    }

    /// Returns how many tasks are running.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).running(), 0);
    /// ```
    pub fn running(&self) -> usize {
        self.core.running()
    }

    /// Returns how many accepted tasks have not started.
    ///
    /// While a worker takes a task, the task may for a moment count both here and in
    /// [`running`](PoolHandle::running).
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().capacity(0).backlog(5).build()?;
    /// pool.submit(|| {})?; // paused: it is queued
    /// assert_eq!(pool.queued(), 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn queued(&self) -> usize {
        self.core.queued()
    }

    /// Returns how many tasks lend their places, in [`blocking`](crate::blocking()), or wait to have them back.
    ///
    /// They count neither in [`running`](PoolHandle::running) nor in [`idle`](PoolHandle::idle).
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).lent(), 0);
    /// ```
    pub fn lent(&self) -> usize {
        self.core.lent()
    }

    /// Returns how many submitters wait for room.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).waiting(), 0);
    /// ```
    pub fn waiting(&self) -> usize {
        self.core.waiting()
    }

    /// Returns how many timers wait for their time, or are those of a series.
    ///
    /// ```
    /// # use {anthill::Pool, std::time::Duration};
    /// let pool = Pool::with_capacity(3);
    /// pool.submit_after(Duration::from_secs(3600), || {})?;
    /// assert_eq!(pool.timers(), 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn timers(&self) -> usize {
        // G1 of `fork`
        if self.core.is_foreign() {
            return 0;
        }
        self.core.timers.len()
    }

    /// Returns how much of the capacity is unused.
    ///
    /// Tasks that run, and accepted tasks that are about to, use it. What is unused is room: while nobody else
    /// submits, at least this many calls of [`try_submit`](PoolHandle::try_submit) succeed.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).free(), 3);
    /// ```
    pub fn free(&self) -> usize {
        self.core.free()
    }

    /// Returns whether the pool was released and not opened again.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// pool.release();
    /// assert!(pool.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.core.admission.places().is_closed()
    }

    /// Returns the pool's counters and gauges.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(1).stats().submitted, 0);
    /// ```
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}
