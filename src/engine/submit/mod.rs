//! The front door: how a task comes in, from outside and from the pool's own tasks.
//!
//! A pool and a share of a pool have the same door: each is a [`Target`].

mod due;
mod pool;
mod refusal;
mod target;

use crate::engine::admission::waiter::{Answer, Waiter};
use crate::engine::admission::{Denied, Joined, Origin, Places};
use crate::engine::config::Overflow;
use crate::engine::current;
use crate::engine::spin::Probe;
use crate::engine::task::{Body, Outcome, Task, ValueVTable};
use crate::error::{SubmitError, SubmitErrorKind};
use crate::fork;
use crate::sync::{Arc, Instant, Ordering, order_seqcst};
pub(crate) use refusal::{Refusal, Submitted};
use std::io;
pub(crate) use target::Target;

/// What a submitter does without room.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// `try_submit`
    None,
    /// `submit`: what the pool's [`Overflow`] says.
    Policy,
    /// `submit_timeout`
    Until(Option<Instant>),
}

impl Patience {
    /// Whether the submitter waits for room.
    fn waits(self, overflow: Overflow) -> bool {
        match self {
            Patience::None => false,
            Patience::Policy => overflow == Overflow::Block,
            Patience::Until(_) => true,
        }
    }
}

/// The front door of a target.
pub(crate) trait Submit: Target {
    /// Hands in the task that `make` makes. Each branch calls `make` where it needs the task: a task is large, and to
    /// move it is expensive.
    #[inline]
    fn submit(self: &Arc<Self>, make: impl FnOnce() -> Task, patience: Patience) -> Submitted {
        if self.core().is_foreign() {
            return self.refuse_foreign(make());
        }
        if current::is_inside(self.core()) {
            return self.submit_inside(make, patience);
        }
        if let Err(denied) = self.enter(patience) {
            return self.without_room(make(), patience, denied);
        }
        if let Err(refusal) = self.core().ensure_worker() {
            return self.refuse_thread(make(), refusal);
        }
        self.queue_accepted(make());
        Ok(())
    }

    /// Hands in a closure; a refused closure comes back.
    #[inline]
    fn submit_closure<F>(
        self: &Arc<Self>,
        closure: F,
        patience: Patience,
    ) -> Result<(), SubmitError<F>>
    where
        F: Body,
    {
        self.submit(|| Task::new(closure), patience)
            // SAFETY: the door gives each submitter its own task back, made here from this `F`.
            .map_err(|refusal| unsafe { refusal.into_error() })
    }

    /// The same for a value with the vtable that runs it.
    #[inline]
    fn submit_value<V>(
        self: &Arc<Self>,
        vtable: ValueVTable<V>,
        value: V,
        patience: Patience,
    ) -> Result<(), SubmitError<V>>
    where
        V: Send + 'static,
    {
        self.submit(|| Task::of_value(vtable, value), patience)
            // SAFETY: the door gives each submitter its own task back, made here from this `V`.
            .map_err(|refusal| unsafe { refusal.into_error() })
    }

    /// Hands in a task for which no submitter waits, at the end of the queue. Without room it waits in the line by
    /// itself; from a task of the pool it goes beyond the bound. With `Origin::Inside` it is accepted as long as the
    /// pool accepts what its own tasks submit, though it may be closed to others.
    fn submit_detached(self: &Arc<Self>, task: Task, origin: Origin) -> Submitted {
        if self.core().is_foreign() {
            return self.refuse_foreign(task);
        }
        if current::is_inside(self.core()) {
            if self.admission().places().is_discarding() {
                return Err(Refusal::new(SubmitErrorKind::Closed, task));
            }
            return match (self.admission()).enter_beyond_or_join(task, self.dest(), false) {
                None => Ok(()),
                Some(task) => self.accept(task),
            };
        }
        if self.admission().places().bars(origin) {
            return Err(Refusal::new(SubmitErrorKind::Closed, task));
        }
        if let Err(refusal) = self.core().ensure_worker() {
            return Err(Refusal::no_thread(refusal, task));
        }
        let (joined, left) = (self.admission()).join_detached(origin, task, self.dest());
        self.follow_up(left);
        match joined {
            Joined::Entered(task) => self.accept(task),
            Joined::Closed(task) | Joined::TooMany(task) => {
                Err(Refusal::new(SubmitErrorKind::Closed, task))
            }
            Joined::Waits(..) | Joined::WaitsDetached => Ok(()),
        }
    }

    /// Takes a place, with a short look for room if the submitter would wait.
    #[inline]
    fn enter(self: &Arc<Self>, patience: Patience) -> Result<Places, Denied> {
        match self.admission().enter(Origin::Outside) {
            Err(Denied::NoRoom) if patience.waits(self.core().config.overflow) => {
                self.look_for_room()
            }
            outcome => outcome,
        }
    }

    /// Looks for room for a while before the submitter joins the line.
    #[cold]
    fn look_for_room(self: &Arc<Self>) -> Result<Places, Denied> {
        let (core, admission) = (self.core(), self.admission());
        let mut outcome = Err(Denied::NoRoom);
        admission.spin.while_full(|| {
            if !core.may_spin() {
                return Probe::Over;
            }
            outcome = admission.enter(Origin::Outside);
            match outcome {
                Ok(_) => Probe::Room,
                Err(Denied::NoRoom) => Probe::Full,
                Err(Denied::Line | Denied::Closed) => Probe::Over,
            }
        });
        outcome
    }

    /// Queues a task that has its place; gives the task back if there is no thread to run it.
    fn accept(self: &Arc<Self>, task: Task) -> Submitted {
        if let Err(refusal) = self.core().ensure_worker() {
            return self.refuse_thread(task, refusal);
        }
        self.queue_accepted(task);
        Ok(())
    }

    /// Gives back the place of a task for which there is no thread.
    #[cold]
    fn refuse_thread(self: &Arc<Self>, task: Task, refusal: io::Error) -> Submitted {
        self.follow_up(self.admission().leave(1));
        self.counts().rejected.add(1);
        Err(Refusal::no_thread(refusal, task))
    }

    /// G1 of [`fork`]: takes no place and no lock.
    #[cold]
    fn refuse_foreign(self: &Arc<Self>, task: Task) -> Submitted {
        self.counts().rejected.add(1);
        Err(Refusal::no_thread(fork::refusal(), task))
    }

    fn refuse(&self, kind: SubmitErrorKind, task: Task) -> Submitted {
        self.counts().rejected.add(1);
        Err(Refusal::new(kind, task))
    }

    /// What a submitter outside does that found no room: it waits, runs the task itself, drops another one, or is
    /// refused.
    #[cold]
    fn without_room(self: &Arc<Self>, task: Task, patience: Patience, denied: Denied) -> Submitted {
        if denied == Denied::Closed {
            return self.refuse(SubmitErrorKind::Closed, task);
        }
        self.core().wake_if_none_active();
        match (patience, self.core().config.overflow) {
            (Patience::None, _) | (Patience::Policy, Overflow::Reject) => {
                match self.enter_for_certain(Origin::Outside) {
                    Ok(_place) => self.accept(task),
                    Err(Denied::Closed) => self.refuse(SubmitErrorKind::Closed, task),
                    Err(_) => self.refuse(SubmitErrorKind::Full, task),
                }
            }
            (Patience::Policy, Overflow::CallerRuns) if self.allows_caller_runs() => {
                match self.run_on_caller(task) {
                    None => Ok(()),
                    Some(task) => self.wait(task, None),
                }
            }
            (Patience::Policy, Overflow::DropOldest) => self.drop_oldest(task),
            (Patience::Policy, Overflow::Block | Overflow::CallerRuns) => self.wait(task, None),
            (Patience::Until(deadline), _) => self.wait(task, deadline),
        }
    }

    /// Takes a place if there is room, also where a line that is just forming or ending hid the room.
    fn enter_for_certain(self: &Arc<Self>, origin: Origin) -> Result<Places, Denied> {
        match self.admission().enter(origin) {
            Err(Denied::Line) => {
                self.serve();
                self.admission().enter_if_line_is_empty(origin)
            }
            outcome => outcome,
        }
    }

    /// Joins the line and waits.
    fn wait(self: &Arc<Self>, task: Task, deadline: Option<Instant>) -> Submitted {
        self.wait_anywhere(task, deadline).map(drop)
    }

    /// Joins the line and waits. Returns which linked pool took the task, if it was not this one.
    fn wait_anywhere(
        self: &Arc<Self>,
        task: Task,
        deadline: Option<Instant>,
    ) -> Result<Option<usize>, Refusal> {
        let (joined, left) = self.admission().join(task, self.dest());
        self.follow_up(left);
        match joined {
            Joined::Entered(task) => self.accept(task),
            Joined::Closed(task) => self.refuse(SubmitErrorKind::Closed, task),
            Joined::TooMany(task) => self.refuse(SubmitErrorKind::TooManyWaiting, task),
            Joined::Waits(waiter, line_number) => {
                self.has_joined();
                let outcome = self.wait_in_line(&waiter, line_number, deadline);
                waiter.recycle();
                match outcome {
                    Ok(Answer::Queued) => Ok(()),
                    Ok(Answer::QueuedAt(pool)) => return Ok(Some(pool)),
                    Ok(Answer::Closed(task)) => self.refuse(SubmitErrorKind::Closed, task),
                    Ok(Answer::NoThread(task, refusal)) => {
                        self.counts().rejected.add(1);
                        Err(Refusal::no_thread(refusal, task))
                    }
                    Err(task) => self.refuse(SubmitErrorKind::TimedOut, task),
                }
            }
            Joined::WaitsDetached => Ok(()),
        }
        .map(|()| None)
    }

    /// Waits for the answer, or until the deadline: then the task comes back.
    fn wait_in_line(
        self: &Arc<Self>,
        waiter: &Waiter,
        line_number: u64,
        deadline: Option<Instant>,
    ) -> Result<Answer, Task> {
        let mut deadline = deadline;
        loop {
            if let Some(answer) = waiter.wait(deadline, || self.core().prepare_to_block()) {
                return Ok(answer);
            }
            if let Some((task, left)) = self.admission().quit(line_number) {
                self.follow_up(left);
                return Err(task);
            }
            // The entry is out of the line: its answer is on its way.
            deadline = None;
        }
    }

    /// `CallerRuns`: runs the task on the submitter's thread. Gives it back if the target is paused or closed.
    fn run_on_caller(self: &Arc<Self>, mut task: Task) -> Option<Task> {
        if !self.admission().hold_open() {
            return Some(task);
        }
        // As a worker does (L1): it counts as running before it looks for a pause.
        self.callers().fetch_add(1, Ordering::SeqCst);
        order_seqcst();
        if self.is_paused() {
            self.callers().fetch_sub(1, Ordering::SeqCst);
            self.follow_up(self.admission().unhold());
            return Some(task);
        }
        self.admission().count_accepted();
        let claimed = task.claim();
        debug_assert!(claimed, "a task that was not handed in is nobody else's");
        self.counts().called.add(1);
        self.call(|| {
            task.run(|outcome| {
                self.record_caller_run(outcome);
                if self.core().is_foreign() {
                    return;
                }
                self.callers().fetch_sub(1, Ordering::SeqCst);
                self.follow_up(self.admission().unhold());
            });
        });
        None
    }

    /// Counts the end of a task that ran on no worker, and tells of its panic.
    fn record_caller_run(self: &Arc<Self>, outcome: Outcome) {
        match outcome {
            Outcome::Completed => return self.counts().call_completed.add(1),
            Outcome::Panicked(payload) => {
                self.core().tell_panic(payload);
            }
            Outcome::PanicTaken => {}
            Outcome::Cancelled => {
                self.counts().cancelled.add(1);
                return self.counts().called.take_back();
            }
        }
        self.counts().call_panicked.add(1);
    }

    /// `DropOldest`: drops the oldest task that no worker has taken, which makes room.
    fn drop_oldest(self: &Arc<Self>, task: Task) -> Submitted {
        let inside = current::is_inside(self.core());
        let origin = if inside {
            Origin::Inside
        } else {
            Origin::Outside
        };
        loop {
            match self.admission().replace(origin, || self.take_oldest()) {
                Err(_closed) => return self.refuse(SubmitErrorKind::Closed, task),
                Ok(Some(((oldest, from), true))) => {
                    self.discard(oldest, from);
                    return self.accept(task);
                }
                // Others wait: the place goes to the oldest of them.
                Ok(Some(((oldest, from), false))) => {
                    self.discard(oldest, from);
                    self.follow_up(self.admission().leave(1));
                }
                Ok(None) => {}
            }
            match self.enter_for_certain(origin) {
                Ok(_place) => return self.accept(task),
                Err(Denied::Closed) => return self.refuse(SubmitErrorKind::Closed, task),
                // Workers have taken all tasks that fill the target.
                Err(_) if !self.has_queued() && inside => {
                    return self.queue_local_or_shared(|| task);
                }
                Err(_) if !self.has_queued() => return self.wait(task, None),
                Err(_) => {}
            }
        }
    }

    // ── from a task of the pool: never waits ────────────────────────────────────────────────

    /// What a task of the pool submits.
    #[inline]
    fn submit_inside(
        self: &Arc<Self>,
        make: impl FnOnce() -> Task,
        patience: Patience,
    ) -> Submitted {
        if !self.prefers_local() {
            return self.enter_inside(make(), patience);
        }
        if self.admission().places().is_discarding() {
            return self.refuse(SubmitErrorKind::Closed, make());
        }
        self.queue_local_or_shared(make)
    }

    /// Submits from a task to a bounded target: takes a place if there is room; else goes beyond the bound, is refused, or
    /// drops the oldest, as the caller or the policy says.
    fn enter_inside(self: &Arc<Self>, task: Task, patience: Patience) -> Submitted {
        let overflow = self.core().config.overflow;
        let refuses = match patience {
            Patience::None => true,
            Patience::Policy => overflow == Overflow::Reject,
            Patience::Until(_) => false,
        };
        let drops = overflow == Overflow::DropOldest && matches!(patience, Patience::Policy);
        if !refuses
            && !drops
            && self.has_local_tasks()
            && !self.admission().places().is_discarding()
        {
            return self.queue_local_or_shared(|| task);
        }
        let entered = if refuses {
            self.enter_for_certain(Origin::Inside)
        } else {
            self.admission().enter(Origin::Inside)
        };
        match entered {
            Ok(_place) => self.accept(task),
            Err(Denied::Closed) => self.refuse(SubmitErrorKind::Closed, task),
            Err(_) if refuses => self.refuse(SubmitErrorKind::Full, task),
            Err(_) if drops => self.drop_oldest(task),
            Err(_) => self.queue_local_or_shared(|| task),
        }
    }

    /// Queues a task beyond the bound: in the local queue, where it needs no place, or else behind those that wait.
    #[inline]
    fn queue_local_or_shared(self: &Arc<Self>, make: impl FnOnce() -> Task) -> Submitted {
        match self.push_local(make) {
            Ok(()) => Ok(()),
            Err(make) => self.queue_shared_or_join(make()),
        }
    }

    /// Queues a task beyond the bound in the shared queue, or in line where others wait.
    fn queue_shared_or_join(self: &Arc<Self>, task: Task) -> Submitted {
        let must_join_line = self.must_join_line();
        match (self.admission()).enter_beyond_or_join(task, self.dest(), must_join_line) {
            Some(task) => self.accept(task),
            None if must_join_line => {
                // A3: a task that joins the line looks for room afterwards.
                self.serve();
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl<H: Target> Submit for H {}
