//! The front door: how a task comes in, from outside and from the pool's own tasks.
//!
//! A pool and a share of a pool have the same door: each is a [`Target`].

pub(crate) mod all;
mod due;
#[cfg(feature = "futures")]
pub(crate) mod offer;
mod pool;
mod refusal;
mod target;
mod wait;

use crate::engine::admission::{Denied, Joined, Origin, Places};
use crate::engine::config::Overflow;
use crate::engine::current;
use crate::engine::spin::Probe;
use crate::engine::task::{Body, Outcome, Task, ValueVTable};
use crate::error::{SubmitError, SubmitErrorKind};
use crate::stop::StopToken;
use crate::sync::{Arc, Instant, Ordering, order_seqcst};
pub(crate) use all::SubmitAll;
pub(crate) use refusal::{Refusal, Submitted};
pub(crate) use target::Target;
pub(crate) use wait::{Denial, Limit, Wait};

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
    /// How long the submitter waits in line.
    fn limit(self) -> Limit<'static> {
        let deadline = match self {
            Patience::Until(deadline) => deadline,
            Patience::None | Patience::Policy => None,
        };
        Limit {
            deadline,
            stop: None,
        }
    }

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
pub(crate) trait Submit: Wait {
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
            return self.submit_without_room(make(), patience, denied);
        }
        if let Err(refusal) = self.core().ensure_worker() {
            return self.refuse_thread(make(), refusal);
        }
        self.queue_accepted(make());
        Ok(())
    }

    /// Hands in the task that `make` makes as [`Patience::Policy`] says. A task for which its submitter must wait in
    /// line comes back.
    fn submit_or_wait(
        self: &Arc<Self>,
        make: impl FnOnce() -> Task,
    ) -> Result<Option<Task>, Refusal> {
        let patience = Patience::Policy;
        let submitted = if self.core().is_foreign() {
            self.refuse_foreign(make())
        } else if current::is_inside(self.core()) {
            self.submit_inside(make, patience)
        } else {
            match self.enter(patience) {
                Ok(_place) => self.accept(make()),
                Err(denied) => return self.without_room(make(), patience, denied),
            }
        };
        submitted.map(|()| None)
    }

    /// Hands in a closure, unless `stop` is stopped before it is in.
    fn submit_unless_stopped<F>(
        self: &Arc<Self>,
        closure: F,
        stop: &StopToken,
    ) -> Result<(), SubmitError<F>>
    where
        F: Body,
    {
        let make = || Task::new(closure);
        let submitted = if stop.is_stopped() {
            self.refuse(SubmitErrorKind::Cancelled, make())
        } else {
            self.submit_or_wait(make).and_then(|waits| {
                let limit = Limit {
                    stop: Some(stop),
                    ..Limit::default()
                };
                waits.map_or(Ok(()), |task| self.wait(task, limit))
            })
        };
        // SAFETY: the door gives each submitter its own task back, made here from this `F`.
        submitted.map_err(|refusal| unsafe { refusal.into_error() })
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
            Joined::Entered(load) => self.accept(load.task),
            Joined::Closed(load) | Joined::TooMany(load) => {
                Err(Refusal::new(SubmitErrorKind::Closed, load.task))
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
        core.see_submitter();
        if core.takes_turns() {
            return outcome;
        }
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

    /// The end of [`submit`](Submit::submit) for a submitter that found no room.
    #[cold]
    fn submit_without_room(
        self: &Arc<Self>,
        task: Task,
        patience: Patience,
        denied: Denied,
    ) -> Submitted {
        match self.without_room(task, patience, denied)? {
            None => Ok(()),
            Some(task) => self.wait(task, patience.limit()),
        }
    }

    /// What a submitter outside does that found no room: it runs the task itself, drops another one, is refused, or
    /// waits; a task for which it must wait in line comes back.
    fn without_room(
        self: &Arc<Self>,
        task: Task,
        patience: Patience,
        denied: Denied,
    ) -> Result<Option<Task>, Refusal> {
        if denied == Denied::Closed {
            return self.refuse(SubmitErrorKind::Closed, task).map(|()| None);
        }
        self.core().wake_if_none_active();
        match (patience, self.core().config.overflow) {
            (Patience::None, _) | (Patience::Policy, Overflow::Reject) => {
                match self.enter_for_certain(Origin::Outside) {
                    Ok(_place) => self.accept(task),
                    Err(Denied::Closed) => self.refuse(SubmitErrorKind::Closed, task),
                    Err(_) => self.refuse(SubmitErrorKind::Full, task),
                }
                .map(|()| None)
            }
            (Patience::Policy, Overflow::CallerRuns) if self.allows_caller_runs() => {
                Ok(self.run_on_caller(task))
            }
            (Patience::Policy, Overflow::DropOldest) => self.drop_oldest(task),
            (Patience::Policy, Overflow::Block | Overflow::CallerRuns)
            | (Patience::Until(_), _) => Ok(Some(task)),
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

    /// `DropOldest`: drops the oldest task that no worker has taken, which makes room. A task for which its submitter
    /// must wait in line comes back.
    fn drop_oldest(self: &Arc<Self>, task: Task) -> Result<Option<Task>, Refusal> {
        let inside = current::is_inside(self.core());
        let origin = if inside {
            Origin::Inside
        } else {
            Origin::Outside
        };
        let submitted = loop {
            match self.admission().replace(origin, || self.take_oldest()) {
                Err(_closed) => break self.refuse(SubmitErrorKind::Closed, task),
                Ok(Some(((oldest, from), true))) => {
                    self.discard(oldest, from);
                    break self.accept(task);
                }
                // Others wait: the place goes to the oldest of them.
                Ok(Some(((oldest, from), false))) => {
                    self.discard(oldest, from);
                    self.follow_up(self.admission().leave(1));
                }
                Ok(None) => {}
            }
            match self.enter_for_certain(origin) {
                Ok(_place) => break self.accept(task),
                Err(Denied::Closed) => break self.refuse(SubmitErrorKind::Closed, task),
                // Workers have taken all tasks that fill the target.
                Err(_) if !self.has_queued() && inside => {
                    break self.queue_local_or_shared(|| task);
                }
                Err(_) if !self.has_queued() => return Ok(Some(task)),
                Err(_) => {}
            }
        };
        submitted.map(|()| None)
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
            Err(_) if drops => self.drop_oldest(task).map(|outside| {
                debug_assert!(outside.is_none(), "in a task it never waits");
            }),
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

impl<H: Wait> Submit for H {}
