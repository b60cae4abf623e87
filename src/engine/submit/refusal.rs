//! A task that a pool or a share refuses, on its way back to the submitter.

use crate::engine::task::Task;
use crate::error::{SubmitError, SubmitErrorKind};
use std::io;

/// A refused task, and the reason.
pub(crate) struct Refusal {
    pub(crate) kind: SubmitErrorKind,
    /// For `NoThread`: the system's error.
    pub(crate) source: Option<io::Error>,
    pub(crate) task: Task,
}

impl Refusal {
    pub(crate) fn new(kind: SubmitErrorKind, task: Task) -> Refusal {
        Refusal {
            kind,
            source: None,
            task,
        }
    }

    pub(crate) fn no_thread(source: io::Error, task: Task) -> Refusal {
        Refusal {
            kind: SubmitErrorKind::NoThread,
            source: Some(source),
            task,
        }
    }

    /// # Safety
    ///
    /// As for [`Task::into_inner`].
    pub(crate) unsafe fn into_error<F>(self) -> SubmitError<F> {
        // SAFETY: the caller vouches for `F`.
        let closure = unsafe { self.task.into_inner::<F>() };
        SubmitError::new(self.kind, self.source, closure)
    }
}

pub(crate) type Submitted = Result<(), Refusal>;
