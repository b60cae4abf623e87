//! A pool of one function, to which only the argument is submitted.
//!
//! The core of the pool keeps the function for as long as there are tasks, so a task has only a pointer to it.

use crate::builder::{Builder, sealed};
use crate::engine::submit::{Patience, Submit};
use crate::engine::task::{Body, ValueVTable};
use crate::error::SubmitError;
use crate::panic::drop_quietly;
use crate::pool::{Pool, PoolHandle};
use crate::sync::{Arc, deadline_after};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::time::Duration;

/// The function of a pool.
#[expect(missing_debug_implementations, reason = "named only in a sealed trait")]
pub struct Func<T> {
    /// A [`Callee`], which lives as long as the core of the pool, and so longer than any task.
    callee: Arc<dyn Any + Send + Sync>,
    /// How to call it: made for the type of the function, so that a call takes one indirect jump, not two.
    vtable: ValueVTable<Call<T>>,
}

struct Callee<F>(ManuallyDrop<F>);

impl<F> Drop for Callee<F> {
    /// Catches a panic in the drop of what the function captured, whoever drops it last.
    fn drop(&mut self) {
        // SAFETY: it is not used again, nor moved.
        drop_quietly(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

/// A call that waits for a worker. A task has room for three words in place: the pointer and two words of argument.
pub(super) struct Call<T> {
    callee: NonNull<()>,
    argument: T,
}

impl<T> Call<T> {
    pub(super) fn into_argument(self) -> T {
        self.argument
    }
}

// SAFETY: the callee is `Sync` and only called; the argument is sent.
unsafe impl<T: Send> Send for Call<T> {}

/// A call of a [`Callee<F>`].
#[repr(transparent)]
struct CallOf<F, T>(Call<T>, PhantomData<fn(&F)>);

impl<F, T> Body for CallOf<F, T>
where
    F: Fn(T) + Send + Sync + 'static,
    T: Send + 'static,
{
    fn call(self) {
        let CallOf(Call { callee, argument }, _) = self;
        // SAFETY: `Func::new` made it for this `F`; the core keeps it (`Config::keeps`) and outlives the tasks that it
        // runs.
        let callee = unsafe { callee.cast::<Callee<F>>().as_ref() };
        (callee.0)(argument);
    }
}

impl<T: Send + 'static> Func<T> {
    pub(super) fn new<F>(f: F) -> Func<T>
    where
        F: Fn(T) + Send + Sync + 'static,
    {
        Func {
            callee: Arc::new(Callee(ManuallyDrop::new(f))),
            // SAFETY: a `CallOf` is a `Call` and no more; and `Func::call` makes each with the callee here.
            vtable: unsafe { ValueVTable::of::<CallOf<F, T>>() },
        }
    }

    /// Returns what a pool that calls the function must keep.
    pub(super) fn keep(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.callee)
    }

    /// Makes a call, with the way to run it, for a pool that [keeps](Func::keep) the function.
    #[inline]
    pub(super) fn call(&self, argument: T) -> (ValueVTable<Call<T>>, Call<T>) {
        let callee = NonNull::from(&*self.callee).cast::<()>();
        (self.vtable, Call { callee, argument })
    }
}

impl<T> Clone for Func<T> {
    fn clone(&self) -> Func<T> {
        Func {
            callee: Arc::clone(&self.callee),
            vtable: self.vtable,
        }
    }
}

/// A pool of one function: each task is a call of it, and only the argument is submitted.
///
/// In all else it is a [`Pool`], and has all methods of a [`PoolHandle`]. For an argument of up to two words a call
/// allocates nothing.
///
/// ```
/// use anthill::FuncPool;
/// let printer = FuncPool::with_capacity(4, |line: String| println!("{line}"));
/// for n in 0..9 {
///     printer.invoke(format!("line {n}"))?; // waits while four run
/// }
/// printer.wait_idle();
/// assert_eq!(printer.stats().completed, 9);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct FuncPool<T> {
    /// Owns the threads.
    pool: Pool,
    handle: FuncHandle<T>,
}

impl<T: Send + 'static> FuncPool<T> {
    /// Makes a pool of at most `n` workers that call `f`, without a backlog; see [`Pool::with_capacity`].
    ///
    /// ```
    /// let squares = anthill::FuncPool::with_capacity(2, |n: u64| println!("{}", n * n));
    /// squares.invoke(12)?;
    /// # Ok::<(), anthill::SubmitError<u64>>(())
    /// ```
    #[must_use]
    pub fn with_capacity<F>(n: usize, f: F) -> FuncPool<T>
    where
        F: Fn(T) + Send + Sync + 'static,
    {
        FuncPool::builder(f).capacity(n).into_pool()
    }

    /// Configures a pool of `f`.
    ///
    /// ```
    /// # use anthill::FuncPool;
    /// let mails = FuncPool::builder(|mail: String| println!("{mail}")).capacity(2).backlog(100).build()?;
    /// mails.invoke(String::from("hello"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn builder<F>(f: F) -> Builder<FuncPool<T>>
    where
        F: Fn(T) + Send + Sync + 'static,
    {
        Builder::with_parts(Func::new(f))
    }

    /// Returns a handle that calls the function from elsewhere; it does not keep the pool open.
    #[must_use]
    pub fn handle(&self) -> FuncHandle<T> {
        self.handle.clone()
    }

    /// Gives up ownership, as [`Pool::detach`] does.
    #[must_use = "the pool closes when its last handle is dropped"]
    pub fn detach(self) -> FuncHandle<T> {
        drop(self.pool.detach());
        self.handle
    }
}

impl<T: Send + 'static> sealed::Built for FuncPool<T> {
    type Parts = Func<T>;

    fn new(func: Func<T>, mut pool: impl FnMut(Option<usize>) -> Pool) -> FuncPool<T> {
        let pool = pool(None);
        let handle = FuncHandle {
            pool: pool.handle(),
            func,
        };
        FuncPool { pool, handle }
    }

    fn keep(func: &Func<T>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(func.keep())
    }
}

impl<T> Deref for FuncPool<T> {
    type Target = FuncHandle<T>;

    fn deref(&self) -> &FuncHandle<T> {
        &self.handle
    }
}

impl<T> fmt::Debug for FuncPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.pool.describe(f, "FuncPool")
    }
}

/// A cloneable, non-owning handle to a [`FuncPool`].
pub struct FuncHandle<T> {
    pool: PoolHandle,
    func: Func<T>,
}

impl<T: Send + 'static> FuncHandle<T> {
    /// Submits a call with this argument; blocks while there is no room, as [`PoolHandle::submit`] does.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit`] does: the argument comes back.
    #[inline]
    pub fn invoke(&self, argument: T) -> Result<(), SubmitError<T>> {
        self.call(argument, Patience::Policy)
    }

    /// Submits a call if there is room right now.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::try_submit`] does: the argument comes back.
    ///
    /// ```
    /// let pool = anthill::FuncPool::with_capacity(0, |_: u64| ()); // paused
    /// assert_eq!(pool.try_invoke(7).unwrap_err().into_inner(), 7);
    /// ```
    pub fn try_invoke(&self, argument: T) -> Result<(), SubmitError<T>> {
        self.call(argument, Patience::None)
    }

    /// Submits a call; blocks at most for `timeout` while there is no room.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit_timeout`] does: the argument comes back.
    pub fn invoke_timeout(&self, argument: T, timeout: Duration) -> Result<(), SubmitError<T>> {
        self.call(argument, Patience::Until(deadline_after(timeout)))
    }

    #[inline]
    fn call(&self, argument: T, patience: Patience) -> Result<(), SubmitError<T>> {
        let (vtable, call) = self.func.call(argument);
        let submitted = self.pool.core().submit_value(vtable, call, patience);
        submitted.map_err(|refused| refused.map(Call::into_argument))
    }
}

impl<T> Deref for FuncHandle<T> {
    type Target = PoolHandle;

    fn deref(&self) -> &PoolHandle {
        &self.pool
    }
}

impl<T> Clone for FuncHandle<T> {
    fn clone(&self) -> FuncHandle<T> {
        FuncHandle {
            pool: self.pool.clone(),
            func: self.func.clone(),
        }
    }
}

impl<T> UnwindSafe for FuncHandle<T> {}
impl<T> RefUnwindSafe for FuncHandle<T> {}

impl<T> fmt::Debug for FuncHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.describe(f, "FuncHandle")
    }
}
