//! The line of tasks that wait for room, as data: [joined](super::join) and [served](super::serve) under one lock.

use crate::engine::admission::load::Load;
use crate::engine::admission::waiter::Waiter;
use crate::sync::Arc;
use std::collections::VecDeque;

/// The outcome of joining the line.
pub(crate) enum Joined {
    /// The submitter waits in line, with this line number.
    Waits(Arc<Waiter>, u64),
    /// The task waits in line by itself, and is accepted.
    WaitsDetached,
    /// There was room after all; the caller has a place, for the first task.
    Entered(Load),
    /// The pool is closed.
    Closed(Load),
    /// As many submitters wait as may.
    TooMany(Load),
}

pub(super) struct Entry<D> {
    pub(super) line_number: u64,
    /// What was not let in yet.
    pub(super) load: Load,
    /// Where in the target the tasks belong.
    pub(super) dest: D,
    /// The submitter. `None` for a task that no submitter waits for: it is accepted already.
    pub(super) waiter: Option<Arc<Waiter>>,
}

pub(super) struct Line<D> {
    pub(super) entries: VecDeque<Entry<D>>,
    pub(super) next_line_number: u64,
    /// Y2: submitters that were let in and not woken yet.
    pub(super) unwoken: VecDeque<Arc<Waiter>>,
    /// WT2: submitters that are awaited, have their answer and were not woken yet.
    pub(super) answered: VecDeque<Arc<Waiter>>,
}

impl<D> Line<D> {
    pub(super) fn new() -> Line<D> {
        Line {
            entries: VecDeque::new(),
            next_line_number: 0,
            unwoken: VecDeque::new(),
            answered: VecDeque::new(),
        }
    }

    /// G2 of [`fork`](crate::fork): nobody waits, and nobody is about to be woken.
    pub(super) fn is_untouched(&self) -> bool {
        self.entries.is_empty() && self.unwoken.is_empty() && self.answered.is_empty()
    }

    pub(super) fn append(&mut self, load: Load, dest: D, waiter: Option<Arc<Waiter>>) -> u64 {
        let line_number = self.next_line_number;
        self.next_line_number += 1;
        self.entries.push_back(Entry {
            line_number,
            load,
            dest,
            waiter,
        });
        line_number
    }
}
