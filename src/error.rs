//! Why a task is refused, why a pool is not built, and what remains of a pool that did not end in time.
//!
//! The error of a refused task gives the closure back.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::{fmt, io};

/// Why a task was refused.
///
/// ```
/// use anthill::{Pool, SubmitErrorKind};
/// let pool = Pool::with_capacity(0); // paused, and without a backlog: no room
/// let refused = pool.try_submit(|| {}).unwrap_err();
/// assert_eq!(refused.kind(), SubmitErrorKind::Full);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubmitErrorKind {
    /// There was no room.
    Full,
    /// There was no room, and the maximum number of submitters already waited for it.
    TooManyWaiting,
    /// There was no room before the time was up.
    TimedOut,
    /// The submission was called off: its [`StopToken`](crate::StopToken) was stopped before the task was accepted
    /// ([`submit_cancellable`](crate::PoolHandle::submit_cancellable)).
    Cancelled,
    /// The pool is closed.
    Closed,
    /// The pool has no thread and the system refused to start one; the system's error is the
    /// [`source`](Error::source). Or the pool's threads are in the process from which this one was
    /// [forked](crate::Pool#after-a-fork).
    NoThread,
}

impl fmt::Display for SubmitErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SubmitErrorKind::Full => "the pool has no room",
            SubmitErrorKind::TooManyWaiting => "too many submitters wait for room in the pool",
            SubmitErrorKind::TimedOut => "timed out while waiting for room in the pool",
            SubmitErrorKind::Cancelled => "the submission was cancelled",
            SubmitErrorKind::Closed => "the pool is closed",
            SubmitErrorKind::NoThread => "the system refused to start a thread for the pool",
        })
    }
}

/// A refused task, with its closure.
///
/// It is `Send` and `Sync` whatever the closure is, so that `?` can turn it into a `Box<dyn Error + Send + Sync>`.
///
/// ```
/// use anthill::Pool;
/// let pool = Pool::with_capacity(1);
/// pool.release();
/// let refused = pool.submit(|| println!("run here instead")).unwrap_err();
/// assert_eq!(refused.to_string(), "the pool is closed");
/// let closure = refused.into_inner();
/// closure();
/// ```
pub struct SubmitError<F> {
    kind: SubmitErrorKind,
    refusal: Option<io::Error>,
    /// The mutex is never locked. It makes the error `Sync` for any `F`, since no `&F` leaves it.
    closure: Mutex<F>,
}

impl<F> SubmitError<F> {
    pub(crate) fn new(
        kind: SubmitErrorKind,
        refusal: Option<io::Error>,
        closure: F,
    ) -> SubmitError<F> {
        SubmitError {
            kind,
            refusal,
            closure: Mutex::new(closure),
        }
    }

    pub(crate) fn map<G>(self, f: impl FnOnce(F) -> G) -> SubmitError<G> {
        let closure = self.closure.into_inner();
        let closure = f(closure.unwrap_or_else(PoisonError::into_inner));
        SubmitError::new(self.kind, self.refusal, closure)
    }

    /// Returns why the task was refused.
    pub fn kind(&self) -> SubmitErrorKind {
        self.kind
    }

    /// Returns the closure.
    pub fn into_inner(self) -> F {
        self.into_parts().1
    }

    /// Returns the reason and the closure.
    pub fn into_parts(self) -> (SubmitErrorKind, F) {
        let closure = self.closure.into_inner();
        (self.kind, closure.unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitError")
            .field("kind", &self.kind)
            .field("source", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<F> Error for SubmitError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.refusal.as_ref().map(|refusal| refusal as _)
    }
}

/// Why not all tasks of a [`submit_all`](crate::PoolHandle::submit_all) were accepted, with those that were not.
///
/// It is `Send` and `Sync` whatever the closures are, so that `?` can turn it into a `Box<dyn Error + Send + Sync>`.
///
/// ```
/// use anthill::{Overflow, Pool, SubmitErrorKind};
/// let pool = Pool::builder().capacity(0).backlog(3).overflow(Overflow::Reject).build()?; // paused
/// let refused = pool.submit_all((0..5).map(|n| move || println!("{n}"))).unwrap_err();
/// assert_eq!((refused.kind(), refused.accepted()), (SubmitErrorKind::Full, 3));
/// for task in refused.into_rest() {
///     task(); // 3 and 4 run here instead
/// }
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct SubmitAllError<F> {
    kind: SubmitErrorKind,
    refusal: Option<io::Error>,
    accepted: usize,
    /// Never locked: see [`SubmitError`].
    rest: Mutex<Vec<F>>,
}

impl<F> SubmitAllError<F> {
    pub(crate) fn new(
        kind: SubmitErrorKind,
        refusal: Option<io::Error>,
        accepted: usize,
        rest: Vec<F>,
    ) -> SubmitAllError<F> {
        SubmitAllError {
            kind,
            refusal,
            accepted,
            rest: Mutex::new(rest),
        }
    }

    /// Returns why the first of the other tasks was refused.
    pub fn kind(&self) -> SubmitErrorKind {
        self.kind
    }

    /// Returns how many tasks were accepted: so many of the first ones.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Returns the closures that were not accepted, in order.
    ///
    /// That is what was refused, and all that the iterator still had. (If the iterator says by its
    /// [`size_hint`](Iterator::size_hint) that it has no end, it is only what was pulled out of it: fewer than 65.)
    pub fn into_rest(self) -> Vec<F> {
        (self.rest.into_inner()).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> fmt::Debug for SubmitAllError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitAllError")
            .field("kind", &self.kind)
            .field("accepted", &self.accepted)
            .field("source", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SubmitAllError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (after {} tasks)", self.kind, self.accepted)
    }
}

impl<F> Error for SubmitAllError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.refusal.as_ref().map(|refusal| refusal as _)
    }
}

/// What remained when [`release_timeout`](crate::PoolHandle::release_timeout) stopped waiting.
///
/// The pool is closed all the same, and goes on to its end.
///
/// ```
/// use std::{sync::mpsc, time::Duration};
/// let pool = anthill::Pool::with_capacity(1);
/// let (go, gate) = mpsc::channel::<()>();
/// pool.submit(move || gate.recv().unwrap())?;
/// let remains = pool.release_timeout(Duration::ZERO).unwrap_err();
/// assert_eq!(remains.workers(), 1);
/// go.send(())?;
/// pool.release_timeout(Duration::MAX)?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseTimeout {
    pub(crate) running: usize,
    pub(crate) lent: usize,
    pub(crate) queued: usize,
    pub(crate) workers: usize,
    pub(crate) leaving: usize,
}

impl ReleaseTimeout {
    /// Returns how many tasks were still running.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Returns how many tasks still lent their places, as in [`Stats::lent`](crate::Stats::lent).
    pub fn lent(&self) -> usize {
        self.lent
    }

    /// Returns how many accepted tasks had not started.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Returns how many workers there still were, busy or idle.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Returns how many threads had stopped working but had not ended, as in
    /// [`Stats::leaving`](crate::Stats::leaving).
    pub fn leaving(&self) -> usize {
        self.leaving
    }
}

impl fmt::Display for ReleaseTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReleaseTimeout {
            running,
            lent,
            queued,
            workers,
            leaving,
        } = self;
        write!(
            f,
            "the pool did not end in time: {running} tasks running, {lent} lent, {queued} queued, \
             {workers} workers, {leaving} threads leaving"
        )
    }
}

impl Error for ReleaseTimeout {}

/// Why [`Builder::build`](crate::Builder::build) failed.
///
/// ```
/// use anthill::{BuildError, Pool};
/// let error = Pool::builder().capacity(2).min_workers(3).build().unwrap_err();
/// assert!(matches!(error, BuildError::MinWorkersAboveCapacity { min_workers: 3, capacity: 2 }));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The minimum of workers is above the capacity.
    MinWorkersAboveCapacity {
        /// The argument of [`min_workers`](crate::Builder::min_workers).
        min_workers: usize,
        /// The argument of [`capacity`](crate::Builder::capacity), or its default.
        capacity: usize,
    },
    /// The pool has [`Overflow::DropOldest`](crate::Overflow::DropOldest) but no backlog to drop from.
    DropOldestWithoutBacklog,
    /// A [`MultiPool`](crate::MultiPool) of 0 pools.
    NoShards,
    /// The name contains a NUL, which a thread's name cannot.
    NameContainsNul,
    /// No address space has room for a stack of this size.
    StackSizeTooLarge {
        /// The argument of [`stack_size`](crate::Builder::stack_size), in bytes.
        stack_size: usize,
    },
    /// A worker could not report a task's panic on a stack of this size.
    StackSizeTooSmall {
        /// The argument of [`stack_size`](crate::Builder::stack_size), in bytes.
        stack_size: usize,
        /// The smallest size that it accepts, in bytes.
        least: usize,
    },
    /// The system refused to start one of the [`min_workers`](crate::Builder::min_workers).
    Thread(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::MinWorkersAboveCapacity {
                min_workers,
                capacity,
            } => write!(
                f,
                "min_workers ({min_workers}) is above the capacity ({capacity})"
            ),
            BuildError::DropOldestWithoutBacklog => {
                f.write_str("Overflow::DropOldest needs a backlog to drop from")
            }
            BuildError::NoShards => f.write_str("a multi-pool needs at least one pool"),
            BuildError::NameContainsNul => f.write_str("the name contains a NUL"),
            BuildError::StackSizeTooLarge { stack_size } => {
                write!(
                    f,
                    "no address space has room for a stack of {stack_size} bytes"
                )
            }
            BuildError::StackSizeTooSmall { stack_size, least } => write!(
                f,
                "a stack of {stack_size} bytes is too small: a worker needs {least}"
            ),
            BuildError::Thread(_) => f.write_str("the system refused to start a worker"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BuildError::Thread(refusal) => Some(refusal),
            _ => None,
        }
    }
}
