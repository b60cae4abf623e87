//! The line of tasks that wait for room, as data: [joined](super::join) and [served](super::serve) under one lock.

use crate::engine::admission::waiter::Waiter;
use crate::engine::task::Task;
use crate::sync::Arc;
use std::collections::VecDeque;

/// The outcome of joining the line.
pub(crate) enum Joined {
    /// The submitter waits in line, with this line number.
    Waits(Arc<Waiter>, u64),
    /// The task waits in line by itself, and is accepted.
    WaitsDetached,
    /// There was room after all; the caller has the place.
    Entered(Task),
    /// The pool is closed.
    Closed(Task),
    /// As many submitters wait as may.
    TooMany(Task),
}

pub(super) struct Entry<D> {
    pub(super) line_number: u64,
    pub(super) task: Task,
    /// Where in the target the task belongs.
    pub(super) dest: D,
    /// The blocked submitter. `None` for a task that no submitter waits for: it is accepted already.
    pub(super) waiter: Option<Arc<Waiter>>,
}

pub(super) struct Line<D> {
    pub(super) entries: VecDeque<Entry<D>>,
    pub(super) next_line_number: u64,
    /// Y2: submitters that were let in and not woken yet.
    pub(super) unwoken: VecDeque<Arc<Waiter>>,
}

impl<D> Line<D> {
    pub(super) fn append(&mut self, task: Task, dest: D, waiter: Option<Arc<Waiter>>) -> u64 {
        let line_number = self.next_line_number;
        self.next_line_number += 1;
        self.entries.push_back(Entry {
            line_number,
            task,
            dest,
            waiter,
        });
        line_number
    }
}
