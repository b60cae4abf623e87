//! What the tasks of a group share, and what becomes of each.
//!
//! A group counts a task once it is accepted (V1 and H5), and keeps an error in the order in which the errors come. In
//! a group that ends with its first error, that error cancels the tasks that have not started; each task looks once
//! more, before it begins, whether the group was cancelled.

use super::group_error::GroupError;
use super::join_error::JoinError;
use super::pending::PendingSet;
use super::spawned::Owner;
use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::task::claimable::Unrun;
use crate::panic::{Payload, drop_quietly};
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, lock, try_lock};
use std::mem;

/// What the tasks of a group share.
pub(super) struct State<E> {
    pub(super) core: Arc<Core>,
    pub(super) pending: PendingSet,
    pub(super) keeps_going: AtomicBool,
    pub(super) cancelled: AtomicBool,
    pub(super) submitted: AtomicUsize,
    pub(super) errors: Mutex<Vec<(usize, GroupError<E>)>>,
}

impl<E> State<E> {
    pub(super) fn is_cancelled(&self) -> bool {
        // ORDERING: Acquire: pairs with `cancel`.
        self.cancelled.load(Ordering::Acquire)
    }

    pub(super) fn keeps_going(&self) -> bool {
        // ORDERING: Relaxed: set before the group is shared.
        self.keeps_going.load(Ordering::Relaxed)
    }

    /// G1 of [`fork`](crate::fork).
    pub(super) fn is_foreign(&self) -> bool {
        (self.pending).is_foreign(&self.core, || try_lock(&self.errors).is_some())
    }

    /// Keeps an error. In a group that ends with its first error, that one cancels the other tasks.
    pub(super) fn fail(&self, index: usize, error: GroupError<E>) {
        if self.is_foreign() {
            return drop_quietly(error);
        }
        let keeps_going = self.keeps_going();
        let unwanted = {
            let mut errors = lock(&self.errors);
            if keeps_going || errors.is_empty() {
                errors.push((index, error));
                None
            } else {
                Some(error)
            }
        };
        match unwanted {
            None if keeps_going => {}
            None => self.cancel(),
            Some(error) => drop_quietly(error),
        }
    }

    pub(super) fn cancel(&self) {
        // ORDERING: Release: whoever sees it sees the error.
        self.cancelled.store(true, Ordering::Release);
        if !self.is_foreign() {
            self.pending.cancel(&self.core);
        }
    }
}

impl<E> Drop for State<E> {
    fn drop(&mut self) {
        let errors = self.errors.get_mut();
        drop_quietly(errors.map(mem::take));
    }
}

/// The owner of a task: its group, in which it has a number.
pub(super) struct InGroup<E> {
    pub(super) group: Arc<State<E>>,
    pub(super) index: usize,
}

impl<R: Send, E: Send> Owner<Result<R, E>> for InGroup<E> {
    type Value = R;

    fn judge(&self, returned: Result<R, E>) -> Option<R> {
        match returned {
            Ok(value) => Some(value),
            Err(error) => {
                self.group.fail(self.index, GroupError::Task(error));
                None
            }
        }
    }

    fn may_begin(&self) -> bool {
        !self.group.is_cancelled()
    }

    fn run<T>(&self, task: impl FnOnce() -> T) -> T {
        current::within(Arc::as_ptr(&self.group).cast(), task)
    }

    fn take_panic(&self, payload: Payload) -> Option<Payload> {
        let panic = JoinError::panicked(payload);
        self.group.fail(self.index, GroupError::Panicked(panic));
        None
    }

    fn hear_of_panic(&self, message: Option<String>) {
        let panic = JoinError::heard_of(message);
        self.group.fail(self.index, GroupError::Panicked(panic));
    }

    fn dropped(&self, why: Unrun) {
        let by_its_handle = why == Unrun::Cancelled && !self.group.is_cancelled();
        if !by_its_handle || self.group.keeps_going() {
            self.group.fail(self.index, GroupError::Cancelled);
        }
    }

    fn over(self, was_counted: bool) {
        if was_counted {
            self.group.pending.end();
        }
    }
}
