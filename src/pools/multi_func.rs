//! Several pools of one function as one: a [`MultiPool`] to which only the argument is submitted.
//!
//! The balancing is that of [`multi`](super::multi), the call that of [`func`](super::func). Each shard keeps the
//! function, since a call may run in any of them.

use super::func::{Call, Func};
use super::multi::{Balance, MultiPool};
use crate::builder::{Builder, sealed};
use crate::engine::submit::Patience;
use crate::error::{BuildError, SubmitError};
use crate::pool::Pool;
use crate::sync::{Arc, deadline_after};
use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// Several pools of one function as one: each task is a call of the function, and only the argument is submitted.
///
/// In all else it is a [`MultiPool`], to which it dereferences. As in a [`FuncPool`](crate::FuncPool), a call allocates
/// nothing for an argument of up to two words.
///
/// ```
/// use anthill::{Balance, MultiFuncPool};
/// let printer = MultiFuncPool::new(4, 2, Balance::LeastLoaded, |line: String| println!("{line}"));
/// for n in 0..100 {
///     printer.invoke(format!("line {n}"))?; // waits while all eight workers are busy
/// }
/// printer.wait_idle();
/// assert_eq!(printer.stats().completed, 100);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct MultiFuncPool<T> {
    pools: MultiPool,
    func: Func<T>,
}

impl<T: Send + 'static> MultiFuncPool<T> {
    /// Makes `shards` pools (0 counts as 1) of `capacity_each` workers each that call `f`, without backlogs. Starts no
    /// thread.
    ///
    /// ```
    /// use anthill::{Balance, MultiFuncPool};
    /// let squares = MultiFuncPool::new(2, 1, Balance::RoundRobin, |n: u64| println!("{}", n * n));
    /// squares.invoke(12)?;
    /// # Ok::<(), anthill::SubmitError<u64>>(())
    /// ```
    #[must_use]
    pub fn new<F>(shards: usize, capacity_each: usize, balance: Balance, f: F) -> MultiFuncPool<T>
    where
        F: Fn(T) + Send + Sync + 'static,
    {
        (MultiFuncPool::builder(shards.max(1), balance, f).capacity(capacity_each)).into_pool()
    }

    /// Configures pools of `f`, as [`MultiPool::builder`] does.
    ///
    /// ```
    /// # use anthill::{Balance, MultiFuncPool};
    /// let mails = MultiFuncPool::builder(2, Balance::LeastLoaded, |mail: String| println!("{mail}"))
    ///     .capacity(2)
    ///     .backlog(100)
    ///     .build()?;
    /// mails.invoke(String::from("hello"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn builder<F>(shards: usize, balance: Balance, f: F) -> Builder<MultiFuncPool<T>>
    where
        F: Fn(T) + Send + Sync + 'static,
    {
        Builder::with_parts(((shards, balance), Func::new(f)))
    }

    /// Submits a call with this argument; blocks while no pool has room, as [`MultiPool::submit`] does.
    ///
    /// # Errors
    ///
    /// Fails as [`MultiPool::submit`] does: the argument comes back.
    pub fn invoke(&self, argument: T) -> Result<(), SubmitError<T>> {
        self.call(argument, Patience::Policy)
    }

    /// Submits a call if a pool has room right now.
    ///
    /// # Errors
    ///
    /// Fails as [`MultiPool::try_submit`] does: the argument comes back.
    ///
    /// ```
    /// use anthill::{Balance, MultiFuncPool};
    /// let pools = MultiFuncPool::new(2, 0, Balance::RoundRobin, |_: u64| ()); // both are paused
    /// assert_eq!(pools.try_invoke(7).unwrap_err().into_inner(), 7);
    /// ```
    pub fn try_invoke(&self, argument: T) -> Result<(), SubmitError<T>> {
        self.call(argument, Patience::None)
    }

    /// Submits a call; blocks at most for `timeout` while no pool has room.
    ///
    /// # Errors
    ///
    /// Fails as [`MultiPool::submit_timeout`] does: the argument comes back.
    pub fn invoke_timeout(&self, argument: T, timeout: Duration) -> Result<(), SubmitError<T>> {
        self.call(argument, Patience::Until(deadline_after(timeout)))
    }

    fn call(&self, argument: T, patience: Patience) -> Result<(), SubmitError<T>> {
        let (vtable, call) = self.func.call(argument);
        let submitted = self.pools.submit_value(vtable, call, patience);
        submitted.map_err(|refused| refused.map(Call::into_argument))
    }
}

impl<T: Send + 'static> sealed::Built for MultiFuncPool<T> {
    type Parts = (<MultiPool as sealed::Built>::Parts, Func<T>);

    fn check((shape, _func): &Self::Parts) -> Result<(), BuildError> {
        MultiPool::check(shape)
    }

    fn new(
        (shape, func): Self::Parts,
        pool: impl FnMut(Option<usize>) -> Pool,
    ) -> MultiFuncPool<T> {
        let pools = <MultiPool as sealed::Built>::new(shape, pool);
        MultiFuncPool { pools, func }
    }

    fn keep((_shape, func): &Self::Parts) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(func.keep())
    }
}

impl<T> Deref for MultiFuncPool<T> {
    type Target = MultiPool;

    fn deref(&self) -> &MultiPool {
        &self.pools
    }
}

/// No panic leaves what it shares half-changed.
impl<T> UnwindSafe for MultiFuncPool<T> {}
impl<T> RefUnwindSafe for MultiFuncPool<T> {}

impl<T> fmt::Debug for MultiFuncPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pools.describe(f, "MultiFuncPool")
    }
}
