//! What the queue carries: a [closure](Closure), or a job that others hold as well.
//!
//! A [`Task`] is run once or dropped. Only its task can run a **closure**. A **job** is shared with whoever may take it away before a
//! worker gets to it: a handle that cancels it, or runs it because it waits for it. So a task is
//! *claimed* before it is run or discarded. Once a job has been claimed elsewhere its task is a *shell*:
//! it holds no place and nothing of a user's, and is dropped where it is found.
//!
//! Nothing here knows of pools.
//!
//! - T2: A job is claimed once, by its task or by another holder. Whoever claims it runs or abandons it,
//!   and is the one to give its place back.

pub(crate) use super::closure::{Body, Closure, Owns};
use crate::sync::Arc;
use std::any::Any;
use std::mem::ManuallyDrop;
use std::{cmp, ptr};

/// What a task panicked with.
pub(crate) type Payload = Box<dyn Any + Send>;

/// How a task ended.
pub(crate) enum Outcome {
    Completed,
    /// The pool's panic handler is to be told.
    Panicked(Payload),
    /// Whoever holds the job has the payload.
    PanicTaken,
    /// It was cancelled before its first step.
    Cancelled,
}

pub(crate) enum Task {
    Closure(Closure),
    Job(Ticket),
}

impl Task {
    pub(crate) fn new<F: Body>(closure: F) -> Task {
        Task::Closure(Closure::new(closure))
    }

    /// A closure that belongs to `owner`, which is told of its end.
    ///
    /// # Safety
    ///
    /// What `F` borrows must live until the owner hears that the closure is over.
    pub(crate) unsafe fn owned<F: FnOnce() + Send, O: Owns>(closure: F, owner: Arc<O>) -> Task {
        // SAFETY: the caller's.
        Task::Closure(unsafe { Closure::owned(closure, owner) })
    }

    pub(crate) fn of_job(job: Arc<dyn Job>) -> Task {
        Task::Job(Ticket {
            job,
            placed: false,
            hold: Hold::Open,
        })
    }

    /// T2: takes the right to run the task, or to discard it; false for a shell.
    pub(crate) fn claim(&mut self) -> bool {
        match self {
            Task::Closure(_) => true,
            Task::Job(ticket) => ticket.claim(),
        }
    }

    /// Notes that the task holds a place from now on; false for a shell, which cannot.
    pub(crate) fn hold_place(&mut self) -> bool {
        match self {
            Task::Closure(_) => true,
            Task::Job(ticket) => ticket.hold_place(),
        }
    }

    /// The same for a task that was never handed in, so that nobody else can have claimed it.
    pub(crate) fn hold_first_place(&mut self) -> bool {
        match self {
            Task::Closure(_) => true,
            Task::Job(ticket) => {
                ticket.placed = ticket.job.hold_first_place();
                if !ticket.placed {
                    ticket.hold = Hold::Nothing;
                }
                ticket.placed
            }
        }
    }

    pub(crate) fn is_shell(&mut self) -> bool {
        match self {
            Task::Closure(_) => false,
            Task::Job(ticket) => ticket.is_shell(),
        }
    }

    /// Gives up a task that is not to run, and leaves its job as it is.
    pub(crate) fn disown(self) {
        match self {
            Task::Closure(closure) => drop(closure),
            Task::Job(ticket) => drop(ticket.into_job()),
        }
    }

    /// Runs the task, which the caller claimed. `over` hears how it ended, before those are told who
    /// wait for a job.
    pub(crate) fn run(self, over: impl FnOnce(Outcome)) {
        match self {
            Task::Closure(closure) => closure.run(over),
            Task::Job(ticket) => {
                let (job, mut with) = (ticket.into_job(), None);
                over(job.run(&mut with));
                job.settle();
                if let Some(with) = with {
                    with.settle();
                }
            }
        }
    }

    /// Drops the task unrun, which the caller claimed; a panic in that is caught. `over` is called before
    /// those are told who wait for a job.
    pub(crate) fn discard(self, over: impl FnOnce()) {
        match self {
            Task::Closure(closure) => closure.discard(over),
            Task::Job(ticket) => {
                let job = ticket.into_job();
                job.abandon(Unrun::Discarded);
                over();
                job.settle();
            }
        }
    }

    /// Gives the closure back.
    ///
    /// # Safety
    ///
    /// The task must have been made by `Task::new::<F>` for this very `F`.
    pub(crate) unsafe fn into_inner<F>(self) -> F {
        match self {
            // SAFETY: the caller vouches for `F`.
            Task::Closure(closure) => unsafe { closure.into_inner::<F>() },
            Task::Job(_) => unreachable!("`Task::new` makes closures"),
        }
    }
}

/// Work of a share that somebody claimed: a task, or a job whose task is a shell now, and which its claimant
/// settles.
pub(crate) enum Claimed<'a> {
    Task(Task),
    Job(&'a dyn Job),
}

impl Claimed<'_> {
    /// Runs it; `over` hears how it ended. What comes back is for the caller to settle.
    pub(crate) fn run(self, over: impl FnOnce(Outcome)) -> Option<Arc<dyn Job>> {
        match self {
            Claimed::Task(Task::Closure(closure)) => {
                closure.run(over);
                None
            }
            Claimed::Task(Task::Job(ticket)) => {
                let job = ticket.into_job();
                over(job.run(&mut None));
                Some(job)
            }
            Claimed::Job(job) => {
                over(job.run(&mut None));
                None
            }
        }
    }
}

// ── jobs ────────────────────────────────────────────────────────────────────────────────────────

/// Where a job was when it was claimed by another than its task.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// In the shared queue or a batch, with a place.
    Placed,
    /// In line, or at the desk of a worker.
    Loose,
}

/// Work that its task shares with others who may claim it.
pub(crate) trait Job: Send + Sync {
    /// T2: takes the right to run or abandon it. `placed` is what its task noted.
    fn claim(&self, placed: bool) -> Option<Spot>;
    /// Whether a task of it would be a shell.
    fn is_claimed(&self, placed: bool) -> bool;
    /// Notes that its task holds a place from now on; false if the task is a shell.
    fn hold_place(&self) -> bool;
    /// As [`hold_place`](Job::hold_place), where nobody else can claim it yet.
    fn hold_first_place(&self) -> bool {
        self.hold_place()
    }
    /// Runs it, for who claimed it; catches what it panics with. What it leaves in `with` is to be settled
    /// with it.
    fn run(&self, with: &mut Option<Arc<dyn Job>>) -> Outcome;
    /// It is over, and the pool has all that it held: whoever waits for it may know.
    fn settle(&self);
    /// Drops it unrun, for who claimed it and settles it then.
    fn abandon(&self, why: Unrun);
}

/// Why a job does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unrun {
    /// Its user wants it no more.
    Cancelled,
    /// The pool dropped it.
    Discarded,
}

/// A task's share of a job.
pub(crate) struct Ticket {
    job: Arc<dyn Job>,
    placed: bool,
    hold: Hold,
}

/// What a ticket has of its job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// The right to try to claim it.
    Open,
    /// The claim.
    Claim,
    /// Nothing any more. Of tokens, which are all alike, another one may be there by the time the shell is
    /// dropped: it must not take that one's place.
    Nothing,
}

impl Ticket {
    fn claim(&mut self) -> bool {
        if self.hold == Hold::Open {
            self.hold = match self.job.claim(self.placed) {
                Some(_) => Hold::Claim,
                None => Hold::Nothing,
            };
        }
        self.hold == Hold::Claim
    }

    fn hold_place(&mut self) -> bool {
        if self.hold == Hold::Open && !self.placed {
            self.placed = self.job.hold_place();
            if !self.placed {
                self.hold = Hold::Nothing;
            }
        }
        self.placed
    }

    fn is_shell(&mut self) -> bool {
        if self.hold == Hold::Open && self.job.is_claimed(self.placed) {
            self.hold = Hold::Nothing;
        }
        self.hold == Hold::Nothing
    }

    /// The job, for who claimed it and runs it.
    fn into_job(self) -> Arc<dyn Job> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used again, nor dropped.
        unsafe { ptr::read(&raw const this.job) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.claim() {
            self.job.abandon(Unrun::Discarded);
            self.job.settle();
        }
    }
}

/// A task with a place, as it waits in the queue: it comes before those with a higher number.
pub(crate) struct Accepted {
    /// `| number: 63 | waited |`
    order: u64,
    pub(crate) task: Task,
}

impl Accepted {
    pub(crate) fn new(number: u64, task: Task) -> Accepted {
        let order = number << 1;
        Accepted { order, task }
    }

    /// Its submitter waited in line for the place.
    pub(crate) fn after_waiting(number: u64, task: Task) -> Accepted {
        let order = number << 1 | 1;
        Accepted { order, task }
    }

    pub(crate) fn number(&self) -> u64 {
        self.order >> 1
    }

    pub(crate) fn has_waited(&self) -> bool {
        self.order & 1 != 0
    }
}

impl Ord for Accepted {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl PartialOrd for Accepted {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Accepted {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Accepted {}
