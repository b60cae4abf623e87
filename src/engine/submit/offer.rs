//! A task that is handed in by a future, which waits for room without a thread.
//!
//! ```text
//!         poll: it must wait                   poll: it has its answer
//!   new ───────────────────────► in line ─────────────────────────────► over
//!    │                              │                                     ▲
//!    └──────────────────────────────┴─────────────────────────────────────┘
//!      poll: accepted or refused;      drop: out of the line, or let in
//! ```
//!
//! - OF1: A future waits in the same line as threads do, and is woken when its task is in, or comes back (WT2, WT3).
//! - OF2: A future that is dropped takes its task out of the line (SL2). If the task was let in meanwhile it stays
//!   accepted. What was not let in is dropped by the thread that drops the future, outside all locks.
//! - OF3: Where threads are refused, a future that waits recovers as a handle that is awaited (X1, X4, X5).
//! - OF4: In a process that was forked since it joined the line the future takes its task out of the line if the lock
//!   was free at the fork; then the task is refused. Else nobody can reach it any more, and the poll panics (G3).

use super::wait::{Wait, Waited};
use super::{Submit, Submitted, Target};
use crate::engine::admission::waiter::{Answer, Waiter};
use crate::engine::admission::{Joined, Load};
use crate::engine::core::Core;
use crate::engine::rescue::Registration;
use crate::engine::task::Task;
use crate::error::SubmitErrorKind;
use crate::sync::Arc;
use std::mem;
use std::task::{Poll, Waker};

/// A task on its way into a pool.
pub(crate) struct Offer {
    core: Arc<Core>,
    stage: Stage,
    registration: Registration,
}

enum Stage {
    New(Task),
    InLine {
        waiter: Arc<Waiter>,
        line_number: u64,
    },
    Over,
}

/// What became of a task whose future is dropped.
#[must_use]
pub(crate) enum Withdrawn {
    /// The pool has it.
    Accepted,
    /// The pool does not have it.
    Back(Task),
    /// It was accepted, or came back, before; or it is out of reach (OF4).
    Nothing,
}

impl Offer {
    pub(crate) fn new(core: Arc<Core>, task: Task) -> Offer {
        Offer {
            core,
            stage: Stage::New(task),
            registration: Registration::default(),
        }
    }

    /// Whether it waits in line.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::InLine { .. })
    }

    /// Hands in the task, or looks whether it was let in.
    ///
    /// # Panics
    ///
    /// Panics after it was ready, and if it is out of reach (OF4).
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Submitted> {
        if let Stage::New(_) = self.stage {
            if let Some(submitted) = self.hand_in(waker) {
                self.stage = Stage::Over;
                return Poll::Ready(submitted);
            }
        }
        let Stage::InLine {
            waiter,
            line_number,
        } = &self.stage
        else {
            panic!("a future was polled again after it was ready");
        };
        if self.core.is_foreign() {
            let Some(load) = self.core.admission.quit_foreign(*line_number) else {
                panic!(
                    "the process was forked while a submitter waited, and its task is out of reach"
                );
            };
            self.forget_waiter();
            return Poll::Ready(self.core.refuse_foreign(load.task));
        }
        let Some(answer) = waiter.poll_with(waker) else {
            self.core.poll_rescue(&mut self.registration, waker);
            return Poll::Pending;
        };
        self.leave_line();
        Poll::Ready(match self.core.heed(answer) {
            Waited::In(_) => Ok(()),
            Waited::HasPlace(load) => self.core.accept(load.task),
            Waited::Refused(denial, load) => Err(denial.of_task(load.task)),
        })
    }

    /// Hands in a new task; `None` if it waits in line then.
    fn hand_in(&mut self, waker: &Waker) -> Option<Submitted> {
        // User code: if it panics, nothing has changed yet.
        let own = waker.clone();
        let Stage::New(task) = mem::replace(&mut self.stage, Stage::Over) else {
            return None;
        };
        let task = match self.core.submit_or_wait(|| task) {
            Ok(None) => return Some(Ok(())),
            Ok(Some(task)) => task,
            Err(refusal) => return Some(Err(refusal)),
        };
        let waiter = Waiter::of_future(own);
        let lend = || Arc::clone(&waiter);
        let (joined, left) = (self.core.admission).join(Load::one(task), (), lend);
        self.core.follow_up(left);
        match joined {
            Joined::Waits(waiter, line_number) => {
                self.stage = Stage::InLine {
                    waiter,
                    line_number,
                };
                self.core.has_joined();
                None
            }
            Joined::WaitsDetached => Some(Ok(())),
            Joined::Entered(load) => Some(self.core.accept(load.task)),
            Joined::Closed(load) => Some(self.core.refuse(SubmitErrorKind::Closed, load.task)),
            Joined::TooMany(load) => {
                Some((self.core).refuse(SubmitErrorKind::TooManyWaiting, load.task))
            }
        }
    }

    /// WT4: it waits no more.
    fn leave_line(&mut self) {
        self.registration.withdraw(&self.core);
        if let Stage::InLine { waiter, .. } = mem::replace(&mut self.stage, Stage::Over) {
            waiter.drop_waker();
        }
    }

    /// OF4: leaves all locks alone.
    fn forget_waiter(&mut self) {
        self.registration.withdraw(&self.core);
        if let Stage::InLine { waiter, .. } = mem::replace(&mut self.stage, Stage::Over) {
            mem::forget(waiter);
        }
    }

    /// OF2: takes the task back, as the future is dropped.
    pub(crate) fn withdraw(&mut self) -> Withdrawn {
        let (waiter, line_number) = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::New(task) => return Withdrawn::Back(task),
            Stage::Over => return Withdrawn::Nothing,
            Stage::InLine {
                waiter,
                line_number,
            } => (waiter, line_number),
        };
        self.registration.withdraw(&self.core);
        if self.core.is_foreign() {
            mem::forget(waiter);
            return Withdrawn::Nothing;
        }
        let withdrawn = match self.core.admission.quit(line_number) {
            Some((load, left)) => {
                self.core.follow_up(left);
                Withdrawn::Back(load.task)
            }
            // WT1
            None => match waiter.poll().map(Answer::into_load) {
                Some(Some(load)) => Withdrawn::Back(load.task),
                Some(None) | None => Withdrawn::Accepted,
            },
        };
        waiter.drop_waker();
        withdrawn
    }
}

impl Drop for Offer {
    /// OF2
    fn drop(&mut self) {
        let _dropped_here = self.withdraw();
    }
}
