//! What becomes of tasks that a target accepts or refuses, and how their submitter waits in line.
//!
//! - SL1: A submitter waits in line once for all that it hands in together. It is one of those that
//!   [`max_waiting`](crate::Builder::max_waiting) counts, and is woken when all of it is in, or when the rest comes
//!   back.
//! - SL2: A submitter that gives up takes its entry out of the line, with what was not let in; if the entry is gone it
//!   takes the answer, which is there (WT1). So each task is let in or comes back, and none does both.

use super::{Refusal, Submitted, Target};
use crate::engine::admission::waiter::{Answer, Waiter};
use crate::engine::admission::{Chunk, Joined, Load};
use crate::engine::task::Task;
use crate::error::SubmitErrorKind;
use crate::fork;
use crate::stop::StopToken;
use crate::sync::{Arc, Instant};
use std::io;

/// How long a submitter waits in line.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limit<'a> {
    pub(crate) deadline: Option<Instant>,
    /// The signal that calls it off.
    pub(crate) stop: Option<&'a StopToken>,
}

impl Limit<'_> {
    fn is_stopped(self) -> bool {
        self.stop.is_some_and(StopToken::is_stopped)
    }

    /// Why a submitter gave up.
    fn reached(self) -> SubmitErrorKind {
        if self.is_stopped() {
            SubmitErrorKind::Cancelled
        } else {
            SubmitErrorKind::TimedOut
        }
    }
}

/// Why tasks are refused.
pub(crate) struct Denial {
    pub(crate) kind: SubmitErrorKind,
    /// For `NoThread`: the system's error.
    pub(crate) source: Option<io::Error>,
}

impl Denial {
    pub(crate) fn of(kind: SubmitErrorKind) -> Denial {
        Denial { kind, source: None }
    }

    pub(crate) fn no_thread(source: io::Error) -> Denial {
        Denial {
            kind: SubmitErrorKind::NoThread,
            source: Some(source),
        }
    }

    pub(crate) fn of_task(self, task: Task) -> Refusal {
        let Denial { kind, source } = self;
        Refusal { kind, source, task }
    }
}

/// The end of a wait in line.
pub(crate) enum Waited {
    /// All tasks are queued, by the linked pool with this index if it was not the one whose line it is.
    In(Option<usize>),
    /// There was room after all: the caller has a place, for the first task.
    HasPlace(Load),
    /// What is left is refused, which is counted as one refusal.
    Refused(Denial, Load),
}

/// What the parts of the [front door](super::Submit) have in common.
pub(crate) trait Wait: Target {
    /// Queues a task that has its place; gives the task back if there is no thread to run it.
    fn accept(self: &Arc<Self>, task: Task) -> Submitted {
        if let Err(refusal) = self.core().ensure_worker() {
            return self.refuse_thread(task, refusal);
        }
        self.queue_accepted(task);
        Ok(())
    }

    /// Queues the first `places` tasks of a chunk, which have their places.
    fn accept_first(self: &Arc<Self>, chunk: &mut Chunk, places: u64) -> Result<(), Denial> {
        if let Err(refusal) = self.core().ensure_worker() {
            self.follow_up(self.admission().leave(places));
            return Err(self.deny_thread(refusal));
        }
        // A chunk is in memory: so many fit in a `usize`.
        let first = usize::try_from(places)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        self.queue_all_accepted(chunk.drain(..first));
        Ok(())
    }

    /// Gives back the place of a task for which there is no thread.
    #[cold]
    fn refuse_thread(self: &Arc<Self>, task: Task, refusal: io::Error) -> Submitted {
        self.follow_up(self.admission().leave(1));
        Err(self.deny_thread(refusal).of_task(task))
    }

    /// G1 of [`fork`]: takes no place and no lock.
    #[cold]
    fn refuse_foreign(self: &Arc<Self>, task: Task) -> Submitted {
        Err(self.deny_foreign().of_task(task))
    }

    #[cold]
    fn deny_foreign(&self) -> Denial {
        self.deny_thread(fork::refusal())
    }

    fn refuse(&self, kind: SubmitErrorKind, task: Task) -> Submitted {
        Err(self.deny(kind).of_task(task))
    }

    fn deny(&self, kind: SubmitErrorKind) -> Denial {
        self.counts().rejected.add(1);
        Denial::of(kind)
    }

    fn deny_thread(&self, refusal: io::Error) -> Denial {
        self.counts().rejected.add(1);
        Denial::no_thread(refusal)
    }

    /// Joins the line and waits.
    fn wait(self: &Arc<Self>, task: Task, limit: Limit<'_>) -> Submitted {
        self.wait_anywhere(task, limit).map(drop)
    }

    /// The same. Returns which linked pool took the task, if it was not this one.
    fn wait_anywhere(
        self: &Arc<Self>,
        task: Task,
        limit: Limit<'_>,
    ) -> Result<Option<usize>, Refusal> {
        match self.wait_with(Load::one(task), limit) {
            Waited::In(pool) => Ok(pool),
            Waited::HasPlace(load) => self.accept(load.task).map(|()| None),
            Waited::Refused(denial, load) => Err(denial.of_task(load.task)),
        }
    }

    /// Joins the line with all that is handed in together, and waits (SL1).
    fn wait_with(self: &Arc<Self>, load: Load, limit: Limit<'_>) -> Waited {
        let (joined, left) = (self.admission()).join(load, self.dest(), Waiter::of_this_thread);
        self.follow_up(left);
        let (waiter, line_number) = match joined {
            Joined::Waits(waiter, line_number) => (waiter, line_number),
            Joined::WaitsDetached => return Waited::In(None),
            Joined::Entered(load) => return Waited::HasPlace(load),
            Joined::Closed(load) => {
                return Waited::Refused(self.deny(SubmitErrorKind::Closed), load);
            }
            Joined::TooMany(load) => {
                return Waited::Refused(self.deny(SubmitErrorKind::TooManyWaiting), load);
            }
        };
        self.has_joined();
        let outcome = self.wait_in_line(&waiter, line_number, limit);
        waiter.recycle();
        match outcome {
            Ok(answer) => self.heed(answer),
            Err(load) => Waited::Refused(self.deny(limit.reached()), load),
        }
    }

    /// What an answer means for the submitter.
    fn heed(&self, answer: Answer) -> Waited {
        match answer {
            Answer::Queued => Waited::In(None),
            Answer::QueuedAt(pool) => Waited::In(Some(pool)),
            Answer::Closed(load) => Waited::Refused(self.deny(SubmitErrorKind::Closed), load),
            Answer::NoThread(load, refusal) => Waited::Refused(self.deny_thread(refusal), load),
        }
    }

    /// SL2: waits for the answer, or until the limit is reached: then what was not let in comes back.
    fn wait_in_line(
        self: &Arc<Self>,
        waiter: &Arc<Waiter>,
        line_number: u64,
        limit: Limit<'_>,
    ) -> Result<Answer, Load> {
        // ST3
        let _entered = (limit.stop).map(|stop| stop.signal().interrupts(Arc::clone(waiter) as _));
        let mut limit = limit;
        loop {
            let retry = || self.core().prepare_to_block();
            if let Some(answer) = waiter.wait(limit.deadline, || limit.is_stopped(), retry) {
                return Ok(answer);
            }
            if let Some((load, left)) = self.admission().quit(line_number) {
                self.follow_up(left);
                return Err(load);
            }
            // The entry is out of the line, and the answer is there.
            limit = Limit::default();
        }
    }
}

impl<H: Target> Wait for H {}
