//! Several pools as one: less contention on one queue, one line for those who wait.
//!
//! | file | what it is about | rules |
//! |---|---|---|
//! | here | [`MultiPool`]: how it is built, and how tasks are submitted | MP1 |
//! | [`balance`] | which pool takes a task, and what happens if none has room | MP2 to MP4 |
//! | [`lifecycle`] | capacity and gauges, rest, release, reboot | |
//!
//! - MP1: The shards are built from one [`Config`](crate::engine::config::Config), each from its own copy; only the
//!   names differ. They are linked before any of them has a thread.

mod balance;
mod lifecycle;

use crate::builder::{Builder, sealed};
use crate::engine::core::Core;
use crate::engine::submit::Patience;
use crate::engine::task::{Task, ValueVTable};
use crate::engine::{current, linked};
use crate::error::{BuildError, SubmitError};
use crate::pool::{Pool, PoolHandle};
use crate::results::handle::{JoinHandle, spawn_with};
use crate::sync::{Arc, AtomicUsize, deadline_after};
use std::any::Any;
use std::fmt;
use std::time::Duration;

/// Which pool of a [`MultiPool`] is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Balance {
    /// Each pool in turn.
    #[default]
    RoundRobin,
    /// The pool with the fewest tasks.
    LeastLoaded,
}

/// Several pools as one, each with its own queue and workers.
///
/// A task goes to the pool that [`Balance`] selects, or to another one if that has no room. Submitters that find no
/// room anywhere wait in one line, and whichever pool has room first admits the first of them.
///
/// Useful only when one queue is contended, because very many threads submit; measure it.
///
/// A [`MultiFuncPool`](crate::MultiFuncPool) is the same for one function.
///
/// ```
/// use anthill::{Balance, MultiPool};
/// let pools = MultiPool::new(4, 2, Balance::LeastLoaded); // eight workers
/// for n in 0..100 {
///     pools.submit(move || println!("{n}"))?;
/// }
/// pools.wait_idle();
/// assert_eq!(pools.stats().completed, 100);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct MultiPool {
    /// At least one. The first is the lead, in whose line submitters wait.
    shards: Vec<Pool>,
    balance: Balance,
    /// For [`Balance::RoundRobin`].
    next: AtomicUsize,
}

impl MultiPool {
    /// Makes `shards` pools (0 counts as 1) of `capacity_each` workers each, without backlogs. Starts no thread.
    #[must_use]
    pub fn new(shards: usize, capacity_each: usize, balance: Balance) -> MultiPool {
        (MultiPool::builder(shards.max(1), balance).capacity(capacity_each)).into_pool()
    }

    /// Configures `shards` pools, with all options of a [`Builder`]; all pools are built alike.
    ///
    /// Each pool has the [`capacity`](Builder::capacity), the [`backlog`](Builder::backlog) and the
    /// [`min_workers`](Builder::min_workers) of the builder for itself. A panic handler or a hook serves all of them,
    /// and a [`WorkerId`](crate::WorkerId) is unique only within its pool. If there is a name, the workers of pool
    /// number `n` are named `<name>-<n>-<worker>`. When all pools are full:
    ///
    /// | | |
    /// |---|---|
    /// | [`max_waiting`](Builder::max_waiting) | bounds the one line, whatever the number of pools |
    /// | [`Overflow::Block`](crate::Overflow::Block), [`Reject`](crate::Overflow::Reject) | the submitter waits for room in any pool; is refused |
    /// | [`Overflow::CallerRuns`](crate::Overflow::CallerRuns) | the submitter runs the task itself, for the pool whose turn it is; it waits if all are paused |
    /// | [`Overflow::DropOldest`](crate::Overflow::DropOldest) | the oldest task of the pool whose turn it is makes room, or that of the next pool that has one |
    ///
    /// A backlog is room, too: with [`Balance::RoundRobin`] a task may wait in the backlog of one pool while another
    /// pool has idle workers, which do not take it. [`Balance::LeastLoaded`] makes that rare: it selects the pool with
    /// the fewest tasks when the task is submitted, but not again afterwards.
    ///
    /// # Errors
    ///
    /// [`build`](Builder::build) fails as for a [`Pool`], and with [`BuildError::NoShards`] for 0 pools.
    ///
    /// ```
    /// use anthill::{Balance, BuildError, MultiPool, Overflow};
    /// let mails = MultiPool::builder(4, Balance::LeastLoaded)
    ///     .capacity(2) // eight workers
    ///     .backlog(100)
    ///     .overflow(Overflow::Reject)
    ///     .name("mail")
    ///     .panic_handler(|panic| eprintln!("{panic:?}"))
    ///     .build()?;
    /// assert_eq!((mails.shards().len(), mails.capacity()), (4, 8));
    ///
    /// let none = MultiPool::builder(0, Balance::LeastLoaded).build();
    /// assert!(matches!(none, Err(BuildError::NoShards)));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn builder(shards: usize, balance: Balance) -> Builder<MultiPool> {
        Builder::with_parts((shards, balance))
    }

    /// Returns the pools.
    ///
    /// Submitters wait in the line of the first one. If that pool is released by itself, or if it has no worker and the
    /// system refuses it a thread, it refuses them, whatever the others do.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = &PoolHandle> {
        self.shards.iter().map(|shard| &**shard)
    }

    /// Submits a task; blocks while no pool has room. Submitters that wait are admitted first come, first served.
    ///
    /// On a worker of one of the pools it never blocks.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit`] does: the closure comes back.
    pub fn submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit_closure(f, Patience::Policy)
    }

    /// Submits a task if a pool has room right now.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::try_submit`] does: the closure comes back.
    ///
    /// ```
    /// use anthill::{Balance, MultiPool};
    /// let pools = MultiPool::new(2, 0, Balance::RoundRobin); // both are paused
    /// assert!(pools.try_submit(|| ()).is_err());
    /// ```
    pub fn try_submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit_closure(f, Patience::None)
    }

    /// Submits a task; blocks at most for `timeout` while no pool has room.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit_timeout`] does: the closure comes back.
    pub fn submit_timeout<F>(&self, f: F, timeout: Duration) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit_closure(f, Patience::Until(deadline_after(timeout)))
    }

    fn submit_closure<F>(&self, f: F, patience: Patience) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        match self.submit_task(Task::new(f), patience) {
            Ok(_core) => Ok(()),
            // SAFETY: the task was made here from this `F`, and each submitter gets its own back.
            Err(refusal) => Err(unsafe { refusal.into_error() }),
        }
    }

    /// Submits a value with the manner in which to run it; the value comes back if it is refused.
    pub(in crate::pools) fn submit_value<V>(
        &self,
        vtable: ValueVTable<V>,
        value: V,
        patience: Patience,
    ) -> Result<(), SubmitError<V>>
    where
        V: Send + 'static,
    {
        match self.submit_task(Task::of_value(vtable, value), patience) {
            Ok(_core) => Ok(()),
            // SAFETY: the task was made here from this `V`, and each submitter gets its own back.
            Err(refusal) => Err(unsafe { refusal.into_error() }),
        }
    }

    /// Submits a task like [`submit`](MultiPool::submit) and returns a handle to its result.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::spawn`] does: the closure comes back.
    ///
    /// ```
    /// use anthill::{Balance, MultiPool};
    /// let pools = MultiPool::new(2, 1, Balance::RoundRobin);
    /// assert_eq!(pools.spawn(|| 6 * 7)?.join()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_with(f, |claimable| {
            self.submit_task(Task::of_claimable(claimable), Patience::Policy)
        })
    }

    /// Submits a task and returns a handle to its result, if a pool has room right now.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::try_spawn`] does: the closure comes back.
    pub fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_with(f, |claimable| {
            self.submit_task(Task::of_claimable(claimable), Patience::None)
        })
    }

    /// Submits a task and returns a handle to its result; blocks at most for `timeout` while no pool has room.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::spawn_timeout`] does: the closure comes back.
    pub fn spawn_timeout<F, T>(
        &self,
        f: F,
        timeout: Duration,
    ) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let patience = Patience::Until(deadline_after(timeout));
        spawn_with(f, |claimable| {
            self.submit_task(Task::of_claimable(claimable), patience)
        })
    }

    fn cores(&self) -> impl Iterator<Item = &Arc<Core>> {
        self.shards.iter().map(|shard| shard.core())
    }

    fn lead(&self) -> &Arc<Core> {
        self.shards[0].core()
    }

    /// Returns the pool whose task runs on this thread.
    fn inside(&self) -> Option<&Arc<Core>> {
        self.cores().find(|core| current::is_inside(core))
    }

    pub(in crate::pools) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("balance", &self.balance)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

impl sealed::Built for MultiPool {
    type Parts = (usize, Balance);

    fn check((shards, _balance): &(usize, Balance)) -> Result<(), BuildError> {
        if *shards == 0 {
            return Err(BuildError::NoShards);
        }
        Ok(())
    }

    fn new(
        (shards, balance): (usize, Balance),
        mut pool: impl FnMut(Option<usize>) -> Pool,
    ) -> MultiPool {
        let shards: Vec<Pool> = (0..shards).map(|shard| pool(Some(shard))).collect();
        let cores: Vec<&Arc<Core>> = shards.iter().map(|shard| shard.core()).collect();
        linked::link(&cores);
        MultiPool {
            shards,
            balance,
            next: AtomicUsize::new(0),
        }
    }

    fn keep(_: &(usize, Balance)) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

impl fmt::Debug for MultiPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, "MultiPool")
    }
}
