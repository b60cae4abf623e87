//! The life of a pool: its capacity, its rest, its release and reboot, its stop token.

use super::PoolHandle;
use crate::engine::current;
use crate::error::ReleaseTimeout;
use crate::stop::StopToken;
use crate::sync::deadline_after;
use std::time::Duration;

impl PoolHandle {
    /// Changes the capacity and returns the old one. Does not wait.
    ///
    /// A higher capacity admits waiting submitters and starts work at once. A lower one retires idle workers now, and
    /// busy workers after their task. With 0 the pool pauses: running tasks finish, no other task starts, and the
    /// backlog still accepts what it has room for. Any number of threads may call `tune` at once; so may a task.
    ///
    /// At capacity 1 tasks from outside the pool start in the order in which they were accepted.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2);
    /// assert_eq!(pool.tune(8), 2);
    /// assert_eq!(pool.capacity(), 8);
    /// ```
    pub fn tune(&self, n: usize) -> usize {
        self.core.tune(n)
    }

    /// Waits until the pool is at rest: no task runs or is queued, and no submitter waits for room.
    ///
    /// It returns if the pool was at rest at any moment after the call began, even if other threads go on submitting.
    /// All that tasks did before that moment happens before `wait_idle` returns.
    ///
    /// # Panics
    ///
    /// Panics in a task (or hook) of the same pool, where it would wait for itself.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2);
    /// for _ in 0..10 {
    ///     pool.submit(|| {})?;
    /// }
    /// pool.wait_idle();
    /// assert_eq!(pool.stats().completed, 10);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[track_caller]
    pub fn wait_idle(&self) {
        assert!(
            !current::is_inside(&self.core),
            "wait_idle was called in a task of the pool it waits for: it would wait for itself"
        );
        self.core.wait_idle(None);
    }

    /// Waits like [`wait_idle`](PoolHandle::wait_idle), but at most for `timeout`. Returns whether the pool was at rest
    /// at some moment.
    ///
    /// In a task of the same pool it returns `false` at once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// assert!(anthill::Pool::with_capacity(1).wait_idle_timeout(Duration::ZERO));
    /// ```
    #[must_use]
    pub fn wait_idle_timeout(&self, timeout: Duration) -> bool {
        !current::is_inside(&self.core) && self.core.wait_idle(deadline_after(timeout))
    }

    /// Closes the pool. Does not wait.
    ///
    /// The pool accepts nothing more from outside and refuses the submitters that wait for room. Tasks that were
    /// accepted still run, and may submit more; idle workers end. A pause is lifted: the capacity is again what it was
    /// before.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// pool.submit(|| println!("still runs"))?;
    /// pool.release();
    /// assert!(pool.submit(|| {}).is_err());
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release(&self) {
        self.core.close(false);
    }

    /// Closes the pool like [`release`](PoolHandle::release) and joins its threads, waiting at most for `timeout`.
    ///
    /// When it returns `Ok`, the thread-locals of the threads have been dropped.
    ///
    /// # Errors
    ///
    /// Returns what remains if the time is up; the pool still goes on to its end. It fails at once in a task of the
    /// pool, which cannot wait for itself, and it fails if another thread reboots the pool meanwhile.
    ///
    /// ```
    /// # use {anthill::Pool, std::time::Duration};
    /// let pool = Pool::with_capacity(1);
    /// pool.submit(|| {})?;
    /// pool.release_timeout(Duration::from_secs(10))?;
    /// assert_eq!((pool.workers(), pool.stats().completed), (0, 1));
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release_timeout(&self, timeout: Duration) -> Result<(), ReleaseTimeout> {
        self.core.end(deadline_after(timeout), None)
    }

    /// Closes the pool and joins its threads like [`release_timeout`](PoolHandle::release_timeout), but also stops
    /// waiting when the token is stopped.
    ///
    /// It is for a caller that gives up because of an event, not only after a time. With `Duration::MAX` only the event
    /// ends the wait early. A [`StopSource`](crate::StopSource) makes such tokens; the pool's own token is no use here,
    /// since the release itself stops it.
    ///
    /// # Errors
    ///
    /// Returns what remains, as [`release_timeout`](PoolHandle::release_timeout) does;
    /// [`is_stopped`](StopToken::is_stopped) tells whether the event was the reason. If the pool has ended by then, the
    /// result is `Ok`.
    ///
    /// ```
    /// # use {anthill::{Pool, StopSource}, std::{sync::mpsc, thread, time::Duration}};
    /// let pool = Pool::with_capacity(1);
    /// let (go, gate) = mpsc::channel::<()>();
    /// pool.submit(move || gate.recv().unwrap())?;
    ///
    /// let impatience = StopSource::new();
    /// let (tells, waits) = (impatience.clone(), impatience.token());
    /// thread::spawn(move || tells.stop()); // say, at a second Ctrl-C
    /// let remains = pool.release_until(&waits, Duration::MAX).unwrap_err();
    /// assert_eq!(remains.workers(), 1);
    /// go.send(())?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release_until(&self, stop: &StopToken, timeout: Duration) -> Result<(), ReleaseTimeout> {
        self.core.end(deadline_after(timeout), Some(stop))
    }

    /// Closes the pool, also to what its tasks submit, drops the backlog, and returns how many tasks it dropped. Does
    /// not wait.
    ///
    /// Tasks that run, or that a worker has just taken, go on to their end. A task whose `submit` has not returned by
    /// then may be accepted and dropped a moment later: [`Stats::discarded`](crate::Stats::discarded) counts it, the
    /// return value does not.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().capacity(0).backlog(5).build()?;
    /// pool.submit(|| unreachable!())?;
    /// assert_eq!(pool.release_now(), 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release_now(&self) -> usize {
        self.core.close(true)
    }

    /// Opens a released pool again.
    ///
    /// Tasks that were accepted before and all handles stay valid. Workers that are still busy count against the
    /// capacity until they end. The counters are not reset. It has no effect on a pool that is open, or whose
    /// [`Pool`](crate::Pool) was dropped.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// pool.release();
    /// pool.reboot();
    /// pool.submit(|| println!("open again"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn reboot(&self) {
        self.core.reopen();
    }

    /// Returns the signal by which the pool's tasks learn that the pool was released.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(1);
    /// pool.release();
    /// assert!(pool.stop_token().is_stopped());
    /// pool.reboot();
    /// assert!(!pool.stop_token().is_stopped());
    /// ```
    #[must_use]
    pub fn stop_token(&self) -> StopToken {
        self.core.stop_token()
    }
}
