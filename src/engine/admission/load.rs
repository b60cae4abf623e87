//! What a submitter hands in at once: one task, or a chunk of them.
//!
//! - LD1: The tasks of a load are let in from the front, in order. What comes back is the rest, in order.

use crate::engine::task::Task;
use std::collections::VecDeque;

/// Tasks of one submitter, in order.
pub(crate) type Chunk = VecDeque<Task>;

/// A task, and those of the same submitter that follow it.
pub(crate) struct Load {
    pub(crate) task: Task,
    /// Boxed, as nearly all loads are a task alone.
    rest: Option<Box<Chunk>>,
}

impl Load {
    pub(crate) fn one(task: Task) -> Load {
        Load { task, rest: None }
    }

    /// Takes all tasks out of a chunk; `None` if it has none.
    pub(crate) fn of(chunk: &mut Chunk) -> Option<Load> {
        let task = chunk.pop_front()?;
        let rest = (!chunk.is_empty()).then(|| Box::new(std::mem::take(chunk)));
        Some(Load { task, rest })
    }

    /// LD1: takes the first task.
    pub(super) fn split(self) -> (Task, Option<Load>) {
        let Load { task, mut rest } = self;
        let next = rest.as_mut().and_then(|rest| rest.pop_front());
        (task, next.map(|task| Load { task, rest }))
    }

    /// LD1: puts a task back in front.
    pub(super) fn join(task: Task, rest: Option<Load>) -> Load {
        let rest = rest.map(|rest| Box::new(rest.into_chunk()));
        Load { task, rest }
    }

    pub(crate) fn into_chunk(self) -> Chunk {
        let mut chunk = self.rest.map_or_else(Chunk::new, |rest| *rest);
        chunk.push_front(self.task);
        chunk
    }
}
