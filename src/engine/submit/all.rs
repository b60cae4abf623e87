//! How many tasks come in together: a chunk of them takes places in one step, and waits in line as one submitter.
//!
//! - SA1: The code of the iterator runs outside of all locks, and holds no place: a chunk is pulled first, and handed in
//!   then. No more is pulled ahead than [`MOST`] tasks, and no more than the iterator says it has
//!   ([`size_hint`](Iterator::size_hint)). So what comes one by one, as out of a channel, is handed in one by one.
//! - SA2: All of a chunk is accepted, in order, or the rest stays in it, in order. Nobody comes between those that take
//!   their places in one step, or that wait in line together (A2).
//! - SA3: What was pulled before the iterator panicked is handed in before the panic goes on.

use super::wait::{Denial, Limit, Waited};
use super::{Patience, Submit};
use crate::engine::admission::Denied;
use crate::engine::admission::{Chunk, Load, Origin};
use crate::engine::current;
use crate::engine::task::{Body, Task};
use crate::error::SubmitAllError;
use crate::panic::Payload;
use crate::sync::Arc;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The most tasks of a chunk: about a page of memory, and one wake for so many tasks.
const MOST: usize = 64;

/// Pulls tasks out of an iterator, a chunk at a time (SA1).
pub(crate) struct Chunks<I> {
    items: I,
    is_over: bool,
    panic: Option<Payload>,
}

impl<I: Iterator> Chunks<I> {
    pub(crate) fn new(items: I) -> Chunks<I> {
        Chunks {
            items,
            is_over: false,
            panic: None,
        }
    }

    /// Fills an empty chunk with what `make` makes of the items; false if there are no more.
    pub(crate) fn fill(&mut self, chunk: &mut Chunk, make: impl Fn(I::Item) -> Task) -> bool {
        if self.is_over {
            return false;
        }
        let items = &mut self.items;
        let pull = || {
            let most = items.size_hint().0.clamp(1, MOST);
            chunk.reserve(most);
            for _ in 0..most {
                match items.next() {
                    Some(item) => chunk.push_back(make(item)),
                    None => return true,
                }
            }
            false
        };
        match catch_unwind(AssertUnwindSafe(pull)) {
            Ok(is_over) => self.is_over = is_over,
            Err(payload) => {
                self.is_over = true;
                self.panic = Some(payload);
            }
        }
        !chunk.is_empty()
    }

    /// SA3: goes on with the panic of the iterator, if there was one.
    pub(crate) fn resume_panic(&mut self) {
        if let Some(payload) = self.panic.take() {
            resume_unwind(payload);
        }
    }

    /// Adds what is left to `items`, unless the iterator says that it has no end.
    fn drain_into(mut self, items: &mut Vec<I::Item>) {
        self.resume_panic();
        if !self.is_over && self.items.size_hint().0 < usize::MAX {
            // Not by `extend`, which would trust the length that the iterator reports.
            for item in self.items {
                items.push(item);
            }
        }
    }
}

/// The front door for many tasks.
pub(crate) trait SubmitAll: Submit {
    /// Hands in closures, and returns how many.
    fn submit_closures<F, I>(self: &Arc<Self>, closures: I) -> Result<usize, SubmitAllError<F>>
    where
        F: Body,
        I: Iterator<Item = F>,
    {
        let (mut chunks, mut chunk) = (Chunks::new(closures), Chunk::new());
        let mut accepted = 0;
        while chunks.fill(&mut chunk, Task::new) {
            accepted += chunk.len();
            let Err(denial) = self.submit_chunk(&mut chunk, Patience::Policy) else {
                continue;
            };
            accepted -= chunk.len();
            // SAFETY: the tasks of the chunk were made here, from this `F`.
            let back = |task: Task| unsafe { task.into_inner::<F>() };
            let mut rest: Vec<F> = chunk.into_iter().map(back).collect();
            chunks.drain_into(&mut rest);
            // One refusal was counted.
            let others = rest.len().saturating_sub(1);
            self.counts().rejected.add(others as u64);
            let Denial { kind, source } = denial;
            return Err(SubmitAllError::new(kind, source, accepted, rest));
        }
        chunks.resume_panic();
        Ok(accepted)
    }

    /// SA2: hands in the tasks of a chunk. If one is refused, which counts as one refusal, it stays in the chunk with
    /// those that follow it.
    fn submit_chunk(self: &Arc<Self>, chunk: &mut Chunk, patience: Patience) -> Result<(), Denial> {
        while !chunk.is_empty() {
            if self.core().is_foreign() {
                return Err(self.deny_foreign());
            }
            if current::is_inside(self.core()) {
                self.submit_first(chunk, |task| {
                    self.submit_inside(|| task, patience).map(|()| None)
                })?;
                continue;
            }
            let entered = (self.admission()).enter_many(Origin::Outside, chunk.len() as u64);
            let entered = match entered {
                Err(Denied::NoRoom) if patience.waits(self.core().config.overflow) => {
                    self.look_for_room().map(|_place| 1)
                }
                outcome => outcome,
            };
            match entered {
                Ok(places) => self.accept_first(chunk, places)?,
                Err(denied) => {
                    let refused = |task| self.without_room(task, patience, denied);
                    if self.submit_first(chunk, refused)? == Place::InLine {
                        self.wait_with_chunk(chunk, patience.limit())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands in the first task of a chunk with `submit`, which gives it back if it must wait in line.
    fn submit_first(
        &self,
        chunk: &mut Chunk,
        submit: impl FnOnce(Task) -> Result<Option<Task>, super::Refusal>,
    ) -> Result<Place, Denial> {
        let Some(first) = chunk.pop_front() else {
            return Ok(Place::In);
        };
        match submit(first) {
            Ok(None) => Ok(Place::In),
            Ok(Some(first)) => {
                chunk.push_front(first);
                Ok(Place::InLine)
            }
            Err(refusal) => {
                chunk.push_front(refusal.task);
                let (kind, source) = (refusal.kind, refusal.source);
                Err(Denial { kind, source })
            }
        }
    }

    /// Waits in line with all that is left of a chunk.
    fn wait_with_chunk(
        self: &Arc<Self>,
        chunk: &mut Chunk,
        limit: Limit<'_>,
    ) -> Result<(), Denial> {
        let Some(load) = Load::of(chunk) else {
            return Ok(());
        };
        match self.wait_with(load, limit) {
            Waited::In(_) => Ok(()),
            Waited::HasPlace(load) => {
                *chunk = load.into_chunk();
                self.accept_first(chunk, 1)
            }
            Waited::Refused(denial, load) => {
                *chunk = load.into_chunk();
                Err(denial)
            }
        }
    }
}

/// Where a task is that was handed in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It was accepted.
    In,
    /// It must wait in line.
    InLine,
}

impl<H: Submit> SubmitAll for H {}
