//! The capacity and the gauges of several pools as one, their rest, release and reboot.

use super::MultiPool;
use crate::engine::core::Core;
use crate::error::ReleaseTimeout;
use crate::pool::{Pool, PoolHandle};
use crate::stats::Stats;
use crate::stop::StopToken;
use crate::sync::{Arc, Instant, deadline_after};
use std::time::Duration;

impl MultiPool {
    /// Changes the capacity of each pool to `capacity_each`, and returns the largest old one.
    pub fn tune(&self, capacity_each: usize) -> usize {
        let tune = |before: usize, shard: &Pool| before.max(shard.tune(capacity_each));
        self.shards.iter().fold(0, tune)
    }

    /// Returns how many tasks may run at once, in all pools together.
    pub fn capacity(&self) -> usize {
        self.sum(PoolHandle::capacity)
    }

    /// Returns how many workers there are, idle ones included.
    pub fn workers(&self) -> usize {
        self.sum(PoolHandle::workers)
    }

    /// Returns how many workers are idle.
    pub fn idle(&self) -> usize {
        self.sum(PoolHandle::idle)
    }

    /// Returns how many tasks are running.
    pub fn running(&self) -> usize {
        self.sum(PoolHandle::running)
    }

    /// Returns how many accepted tasks have not started.
    pub fn queued(&self) -> usize {
        self.sum(PoolHandle::queued)
    }

    /// Returns how many submitters wait for room.
    pub fn waiting(&self) -> usize {
        self.sum(PoolHandle::waiting)
    }

    /// Returns how much of the capacity is unused.
    pub fn free(&self) -> usize {
        self.sum(PoolHandle::free)
    }

    /// Returns whether the pools were released and not opened again.
    pub fn is_closed(&self) -> bool {
        self.shards().all(PoolHandle::is_closed)
    }

    /// Returns the counters and gauges of all pools together; `workers_peak` is the sum of their peaks.
    pub fn stats(&self) -> Stats {
        self.shards()
            .map(PoolHandle::stats)
            .fold(Stats::default(), Stats::plus)
    }

    pub(super) fn sum(&self, gauge: fn(&PoolHandle) -> usize) -> usize {
        self.shards()
            .fold(0, |sum, shard| sum.saturating_add(gauge(shard)))
    }

    /// Waits until all pools are at rest. While other threads go on submitting, that may never be so.
    ///
    /// # Panics
    ///
    /// Panics in a task of one of the pools, where it would wait for itself.
    #[track_caller]
    pub fn wait_idle(&self) {
        assert!(
            self.inside().is_none(),
            "wait_idle was called in a task of the pools it waits for: it would wait for itself"
        );
        self.wait_until(None);
    }

    /// Waits like [`wait_idle`](MultiPool::wait_idle), but at most for `timeout`. Returns whether all pools were at
    /// rest.
    ///
    /// In a task of one of the pools it returns `false` at once.
    #[must_use]
    pub fn wait_idle_timeout(&self, timeout: Duration) -> bool {
        self.inside().is_none() && self.wait_until(deadline_after(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        loop {
            if !self.cores().all(|core| core.wait_idle(deadline)) {
                return false;
            }
            let foreign = self.lead().is_foreign();
            if foreign || (self.cores()).all(|core| core.admission.places().at_rest()) {
                return true;
            }
        }
    }

    /// Closes the pools, as [`PoolHandle::release`] does.
    pub fn release(&self) {
        self.shards().for_each(PoolHandle::release);
    }

    /// Closes the pools and joins their threads, waiting at most for `timeout`, as [`PoolHandle::release_timeout`]
    /// does.
    ///
    /// # Errors
    ///
    /// Returns what remains if the time is up. It fails at once in a task of one of the pools.
    pub fn release_timeout(&self, timeout: Duration) -> Result<(), ReleaseTimeout> {
        self.end(deadline_after(timeout), None)
    }

    /// Closes the pools and joins their threads, but stops waiting when the time is up or the token is stopped, as
    /// [`PoolHandle::release_until`] does.
    ///
    /// # Errors
    ///
    /// Returns what remains then. It fails at once in a task of one of the pools.
    ///
    /// ```
    /// use anthill::{Balance, MultiPool, StopSource};
    /// use std::time::Duration;
    /// let pools = MultiPool::new(2, 1, Balance::RoundRobin);
    /// pools.submit(|| println!("still runs"))?;
    /// pools.release_until(&StopSource::new().token(), Duration::MAX)?;
    /// assert_eq!(pools.workers(), 0);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release_until(&self, stop: &StopToken, timeout: Duration) -> Result<(), ReleaseTimeout> {
        self.end(deadline_after(timeout), Some(stop))
    }

    fn end(
        &self,
        deadline: Option<Instant>,
        interrupt: Option<&StopToken>,
    ) -> Result<(), ReleaseTimeout> {
        self.release();
        let ends = |core: &&Arc<Core>| core.end(deadline, interrupt).is_ok();
        // In a task of one of the pools that one could not end.
        let ended =
            self.inside().is_none() && self.cores().filter(ends).count() == self.shards.len();
        if ended {
            return Ok(());
        }
        Err(ReleaseTimeout {
            running: self.running(),
            lent: self.sum(PoolHandle::lent),
            queued: self.queued(),
            workers: self.workers(),
            leaving: self.sum(|shard| shard.stats().leaving),
        })
    }

    /// Closes the pools, drops their backlogs, and returns how many tasks it dropped, as [`PoolHandle::release_now`]
    /// does.
    pub fn release_now(&self) -> usize {
        self.sum(PoolHandle::release_now)
    }

    /// Opens the pools again, as [`PoolHandle::reboot`] does.
    pub fn reboot(&self) {
        self.shards().for_each(PoolHandle::reboot);
    }
}
