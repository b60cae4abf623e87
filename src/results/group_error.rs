//! Why a group failed.

use super::join_error::JoinError;
use std::error::Error;
use std::fmt;

/// Why a [`Group`](crate::Group) failed.
///
/// ```
/// use anthill::{GroupError, Pool};
/// let pool = Pool::with_capacity(1);
/// let group = pool.group();
/// group.submit(|| Err("no leaves"))?;
/// assert_eq!(group.wait().unwrap_err().into_task(), Some("no leaves"));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[non_exhaustive]
pub enum GroupError<E> {
    /// A task returned this error.
    Task(E),
    /// A task panicked.
    Panicked(JoinError),
    /// A task was dropped before it started: the group was cancelled, or the pool discarded the task.
    Cancelled,
}

impl<E> GroupError<E> {
    /// Returns the error that a task returned, if that is the reason.
    pub fn task(&self) -> Option<&E> {
        match self {
            GroupError::Task(error) => Some(error),
            _ => None,
        }
    }

    /// Returns the error that a task returned, if that is the reason.
    pub fn into_task(self) -> Option<E> {
        match self {
            GroupError::Task(error) => Some(error),
            _ => None,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupError::Task(error) => f.debug_tuple("Task").field(error).finish(),
            GroupError::Panicked(panic) => panic.fmt(f),
            GroupError::Cancelled => f.write_str("Cancelled"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupError::Task(error) => error.fmt(f),
            GroupError::Panicked(panic) => panic.fmt(f),
            GroupError::Cancelled => f.write_str("a task of the group was cancelled"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for GroupError<E> {}
