//! What can be refused, and why. A refused closure comes back.

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
    /// There was no room, and as many submitters waited for it as may.
    TooManyWaiting,
    /// There was no room until the time was up.
    TimedOut,
    /// The pool is closed.
    Closed,
    /// The system refused to start a thread and the pool has none; its error is the
    /// [`source`](Error::source). Or the threads are in the process that this one was
    /// [forked](crate::Pool#after-a-fork) from.
    NoThread,
}

impl fmt::Display for SubmitErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SubmitErrorKind::Full => "the pool has no room",
            SubmitErrorKind::TooManyWaiting => "too many submitters wait for room in the pool",
            SubmitErrorKind::TimedOut => "the pool had no room in time",
            SubmitErrorKind::Closed => "the pool is closed",
            SubmitErrorKind::NoThread => "the system refused the pool a thread",
        })
    }
}

/// A refused task, with the closure.
///
/// It is `Send` and `Sync` whatever the closure is, so that `?` turns it into a
/// `Box<dyn Error + Send + Sync>`.
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
    /// A mutex that is never locked makes the error `Sync`: it lends no `&F`.
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

    /// Why it was refused.
    pub fn kind(&self) -> SubmitErrorKind {
        self.kind
    }

    /// The closure.
    pub fn into_inner(self) -> F {
        self.into_parts().1
    }

    /// The reason and the closure.
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

/// What still remained when [`release_timeout`](crate::PoolHandle::release_timeout) gave up
/// waiting. The pool is closed all the same, and goes on to its end.
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
    pub(crate) queued: usize,
    pub(crate) workers: usize,
    pub(crate) leaving: usize,
}

impl ReleaseTimeout {
    /// Tasks that still ran.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Accepted tasks that had not started.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Workers that still ran, or waited for tasks.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Threads that were no workers any more but had not ended, as in
    /// [`Stats::leaving`](crate::Stats::leaving).
    pub fn leaving(&self) -> usize {
        self.leaving
    }
}

impl fmt::Display for ReleaseTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReleaseTimeout {
            running,
            queued,
            workers,
            leaving,
        } = self;
        write!(
            f,
            "the pool did not end in time: {running} tasks running, {queued} queued, {workers} workers, \
             {leaving} threads leaving"
        )
    }
}

impl Error for ReleaseTimeout {}

/// Why [`Builder::build`](crate::Builder::build) made no pool.
///
/// ```
/// use anthill::{BuildError, Pool};
/// let error = Pool::builder().capacity(2).min_workers(3).build().unwrap_err();
/// assert!(matches!(error, BuildError::MinWorkersAboveCapacity { min_workers: 3, capacity: 2 }));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// More workers to keep than there may be.
    MinWorkersAboveCapacity {
        /// What [`min_workers`](crate::Builder::min_workers) was given.
        min_workers: usize,
        /// What [`capacity`](crate::Builder::capacity) was given.
        capacity: usize,
    },
    /// [`Overflow::DropOldest`](crate::Overflow::DropOldest) without a backlog to drop from.
    DropOldestWithoutBacklog,
    /// Several pools as one, of which there are to be none.
    NoShards,
    /// A thread's name cannot contain a NUL.
    NameContainsNul,
    /// No address space has room for such a stack.
    StackSizeTooLarge {
        /// What [`stack_size`](crate::Builder::stack_size) was given, in bytes.
        stack_size: usize,
    },
    /// Too little for a worker that tells of a task's panic.
    StackSizeTooSmall {
        /// What [`stack_size`](crate::Builder::stack_size) was given, in bytes.
        stack_size: usize,
        /// The least that it takes.
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
            BuildError::NoShards => f.write_str("there is to be no pool: at least one is needed"),
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
