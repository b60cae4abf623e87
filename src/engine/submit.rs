//! The front door: how a closure comes in, from outside and from the pool's own tasks.

use super::admission::{Denied, Joined, Origin, Places};
use super::task::{Accepted, Task};
use super::waiter::{Answer, Waiter};
use super::{Core, Overflow, current};
use crate::error::{SubmitError, SubmitErrorKind};
use crate::panic::TaskPanic;
use crate::sync::{Arc, Instant, Ordering, order_seqcst, spin_loop, spins};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Looks for room before a submitter gets in line. Until then it waits for nothing, so nobody can
/// overtake it; with tiny tasks this is what spares it the line.
const LOOKS: u32 = 200;

/// What to do without room.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// `try_submit`
    None,
    /// `submit`: what the pool's [`Overflow`] says.
    Policy,
    /// `submit_timeout`
    Until(Option<Instant>),
}

type Refused<F> = Result<(), SubmitError<F>>;

impl Core {
    pub(crate) fn submit<F>(self: &Arc<Self>, closure: F, patience: Patience) -> Refused<F>
    where
        F: FnOnce() + Send + 'static,
    {
        if current::is_inside(self) {
            return self.submit_inside(closure, patience);
        }
        match self.enter(patience) {
            Ok(_place) => self.accept(closure),
            Err(denied) => self.without_room(closure, patience, denied),
        }
    }

    fn enter(&self, patience: Patience) -> Result<Places, Denied> {
        let waits = match patience {
            Patience::None => false,
            Patience::Policy => self.plan.overflow == Overflow::Block,
            Patience::Until(_) => true,
        };
        let mut looks = if waits { spins(LOOKS) } else { 0 };
        loop {
            match self.admission.enter(Origin::Outside) {
                Err(Denied::NoRoom) if looks > 0 && self.may_spin(self.crew.roll()) => {
                    looks -= 1;
                    spin_loop();
                }
                outcome => return outcome,
            }
        }
    }

    /// Queues a closure that has its place.
    fn accept<F>(self: &Arc<Self>, closure: F) -> Refused<F>
    where
        F: FnOnce() + Send + 'static,
    {
        if let Err(refusal) = self.staff() {
            return self.refuse_thread(closure, refusal);
        }
        self.queue_accepted(Task::new(closure));
        Ok(())
    }

    /// Queues a task that has its place; gives it back if no thread is to be had.
    fn accept_task(self: &Arc<Self>, task: Task) -> Result<(), (Task, io::Error)> {
        if let Err(refusal) = self.staff() {
            self.leave(1);
            return Err((task, refusal));
        }
        self.queue_accepted(task);
        Ok(())
    }

    /// Queues a task that has its place, at a pool that has a worker.
    fn queue_accepted(self: &Arc<Self>, task: Task) {
        let number = self.admission.count_accepted();
        self.queue.push(Accepted::new(number, task));
        self.wake_for_queued();
    }

    #[cold]
    fn refuse_thread<F>(self: &Arc<Self>, closure: F, refusal: io::Error) -> Refused<F> {
        self.leave(1);
        self.counts.rejected.add(1);
        Err(SubmitError::no_thread(refusal, closure))
    }

    fn refuse<F>(&self, kind: SubmitErrorKind, closure: F) -> Refused<F> {
        self.counts.rejected.add(1);
        Err(SubmitError::new(kind, closure))
    }

    #[cold]
    fn without_room<F>(
        self: &Arc<Self>,
        closure: F,
        patience: Patience,
        denied: Denied,
    ) -> Refused<F>
    where
        F: FnOnce() + Send + 'static,
    {
        if denied == Denied::Closed {
            return self.refuse(SubmitErrorKind::Closed, closure);
        }
        match (patience, self.plan.overflow) {
            (Patience::None, _) | (Patience::Policy, Overflow::Reject) => {
                match self.enter_for_certain(Origin::Outside) {
                    Ok(_place) => self.accept(closure),
                    Err(Denied::Closed) => self.refuse(SubmitErrorKind::Closed, closure),
                    Err(_) => self.refuse(SubmitErrorKind::Full, closure),
                }
            }
            (Patience::Policy, Overflow::CallerRuns) => match self.run_here(closure) {
                None => Ok(()),
                Some(closure) => self.wait(closure, None),
            },
            (Patience::Policy, Overflow::DropOldest) => self.drop_oldest(closure),
            (Patience::Policy, _) => self.wait(closure, None),
            (Patience::Until(deadline), _) => self.wait(closure, deadline),
        }
    }

    /// Enters if there is room, also where a line that is just coming or going hid it.
    fn enter_for_certain(self: &Arc<Self>, origin: Origin) -> Result<Places, Denied> {
        match self.admission.enter(origin) {
            Err(Denied::Line) => {
                self.serve();
                self.admission.enter_behind_line(origin)
            }
            outcome => outcome,
        }
    }

    /// Gets in line, and waits.
    fn wait<F>(self: &Arc<Self>, closure: F, deadline: Option<Instant>) -> Refused<F>
    where
        F: FnOnce() + Send + 'static,
    {
        let (joined, left) = self.admission.join(Task::new(closure));
        self.after(left);
        let (task, kind) = match joined {
            Joined::Entered(task) => match self.accept_task(task) {
                Ok(()) => return Ok(()),
                Err((task, refusal)) => return Err(self.give_back::<F>(task, refusal)),
            },
            Joined::Closed(task) => (task, SubmitErrorKind::Closed),
            Joined::TooMany(task) => (task, SubmitErrorKind::TooManyWaiting),
            Joined::Waits(waiter, ticket) => match self.wait_in_line(&waiter, ticket, deadline) {
                Ok(answer) => {
                    waiter.keep();
                    match answer {
                        Answer::Queued => return Ok(()),
                        Answer::Closed(task) => (task, SubmitErrorKind::Closed),
                        Answer::NoThread(task, refusal) => {
                            return Err(self.give_back::<F>(task, refusal));
                        }
                    }
                }
                Err(task) => {
                    waiter.keep();
                    (task, SubmitErrorKind::TimedOut)
                }
            },
        };
        self.counts.rejected.add(1);
        // SAFETY: the line gives each submitter its own task, made above from this `F`.
        Err(SubmitError::new(kind, unsafe { task.into_inner::<F>() }))
    }

    /// No thread was to be had for a task that was made from an `F` in this very submit.
    fn give_back<F>(&self, task: Task, refusal: io::Error) -> SubmitError<F> {
        self.counts.rejected.add(1);
        // SAFETY: each caller made the task from its `F`.
        SubmitError::no_thread(refusal, unsafe { task.into_inner::<F>() })
    }

    /// Waits for the answer, or until the deadline: then the task comes back.
    fn wait_in_line(
        self: &Arc<Self>,
        waiter: &Waiter,
        ticket: u64,
        deadline: Option<Instant>,
    ) -> Result<Answer, Task> {
        let mut deadline = deadline;
        loop {
            if let Some(answer) = waiter.wait(deadline, || self.rescue()) {
                return Ok(answer);
            }
            if let Some((task, left)) = self.admission.quit(ticket) {
                self.after(left);
                return Err(task);
            }
            // Somebody took the entry out of the line: the answer is on its way.
            deadline = None;
        }
    }

    /// `CallerRuns`: the submitter's thread runs the task; gives it back if the pool is paused or
    /// closed.
    fn run_here<F: FnOnce()>(self: &Arc<Self>, closure: F) -> Option<F> {
        if !self.admission.hold_open() {
            return Some(closure);
        }
        // As a worker does (L1): it counts as running first and looks for a pause then.
        self.calling.fetch_add(1, Ordering::SeqCst);
        order_seqcst();
        if self.capacity() == 0 {
            self.calling.fetch_sub(1, Ordering::SeqCst);
            self.after(self.admission.unhold());
            return Some(closure);
        }
        self.admission.count_accepted();
        self.counts.called.add(1);
        let outcome = current::call_for(self, || {
            let outcome = catch_unwind(AssertUnwindSafe(closure));
            outcome.map_err(|payload| {
                let panic = TaskPanic::new(None, payload);
                self.plan.hooks.panics.tell(None, panic);
            })
        });
        match outcome {
            Ok(()) => self.counts.call_completed.add(1),
            Err(()) => self.counts.call_panicked.add(1),
        }
        self.calling.fetch_sub(1, Ordering::SeqCst);
        self.after(self.admission.unhold());
        None
    }

    /// `DropOldest`: the oldest task that no worker has taken makes room.
    fn drop_oldest<F>(self: &Arc<Self>, closure: F) -> Refused<F>
    where
        F: FnOnce() + Send + 'static,
    {
        let inside = current::is_inside(self);
        let origin = if inside {
            Origin::Inside
        } else {
            Origin::Outside
        };
        loop {
            match self
                .admission
                .replace(origin, || self.queue.take().map(|oldest| oldest.task))
            {
                Err(_closed) => return self.refuse(SubmitErrorKind::Closed, closure),
                Ok(Some((oldest, true))) => {
                    self.discard(oldest);
                    return self.accept(closure);
                }
                // Its place goes to who has waited longest.
                Ok(Some((oldest, false))) => {
                    self.discard(oldest);
                    self.leave(1);
                }
                Ok(None) => {}
            }
            match self.enter_for_certain(origin) {
                Ok(_place) => return self.accept(closure),
                Err(Denied::Closed) => return self.refuse(SubmitErrorKind::Closed, closure),
                // What fills the pool runs already.
                Err(_) if !self.queue.has_shared() && inside => {
                    return self.queue_beyond(closure);
                }
                Err(_) if !self.queue.has_shared() => {
                    return self.wait(closure, None);
                }
                Err(_) => {}
            }
        }
    }

    // ── from a task of the pool: never waits ────────────────────────────────────────────────

    fn submit_inside<F>(self: &Arc<Self>, closure: F, patience: Patience) -> Refused<F>
    where
        F: FnOnce() + Send + 'static,
    {
        if self.plan.backlog.is_none() {
            if self.admission.places().is_discarding() {
                return self.refuse(SubmitErrorKind::Closed, closure);
            }
            return self.queue_beyond(closure);
        }
        let refuses = match patience {
            Patience::None => true,
            Patience::Policy => self.plan.overflow == Overflow::Reject,
            Patience::Until(_) => false,
        };
        let entered = if refuses {
            self.enter_for_certain(Origin::Inside)
        } else {
            self.admission.enter(Origin::Inside)
        };
        match entered {
            Ok(_place) => self.accept(closure),
            Err(Denied::Closed) => self.refuse(SubmitErrorKind::Closed, closure),
            Err(_) if refuses => self.refuse(SubmitErrorKind::Full, closure),
            Err(_) => {
                let drops = self.plan.overflow == Overflow::DropOldest;
                if drops && matches!(patience, Patience::Policy) {
                    return self.drop_oldest(closure);
                }
                self.queue_beyond(closure)
            }
        }
    }

    /// Queues what a task submitted beyond the bound: at the worker's desk, where it runs on the
    /// worker's own place; or, if others wait or have waited, behind them in line or in the queue.
    fn queue_beyond<F>(self: &Arc<Self>, closure: F) -> Refused<F>
    where
        F: FnOnce() + Send + 'static,
    {
        let mut task = Some(Task::new(closure));
        // L3: in this order: who leaves the line is in the queue first.
        if !self.admission.places().has_line() && !self.queue.has_waited() {
            current::with_worker(self, |worker| {
                task = task.take().and_then(|task| worker.keep(task));
            });
        }
        let Some(task) = task else {
            // Its own worker is busy: another one may take it.
            self.wake_for_lent();
            return Ok(());
        };
        let Some(task) = self.admission.enter_beyond_or_join(task) else {
            return Ok(());
        };
        self.accept_task(task)
            .map_err(|(task, refusal)| self.give_back::<F>(task, refusal))
    }
}
