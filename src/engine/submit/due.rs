//! How a timer that is due hands in its task: as `submit` does, but it never waits, as it must not hold up other timers.

use super::wait::Wait;
use super::{Refusal, Submit, Submitted, Target};
use crate::engine::admission::{Denied, Origin};
use crate::engine::config::Overflow;
use crate::engine::core::Core;
use crate::engine::submit::Patience;
use crate::engine::task::Task;
use crate::error::SubmitErrorKind;
use crate::sync::Arc;

impl Core {
    /// Hands in the task of a timer. Without room the pool's [`Overflow`] decides: the task waits in line by itself
    /// (also under `CallerRuns`, as there is no caller), is refused, or takes the place of the oldest.
    pub(crate) fn submit_due(self: &Arc<Self>, task: Task) -> Submitted {
        match self.config.overflow {
            Overflow::Block | Overflow::CallerRuns => self.submit_detached(task, Origin::Outside),
            Overflow::Reject => self.submit(|| task, Patience::None),
            Overflow::DropOldest => self.submit_dropping(task),
        }
    }

    /// `DropOldest`, for a thread that must not wait: where no task is left to be dropped this one waits in line.
    fn submit_dropping(self: &Arc<Self>, task: Task) -> Submitted {
        loop {
            match self.enter_for_certain(Origin::Outside) {
                Ok(_place) => return self.accept(task),
                Err(Denied::Closed) => {
                    return Err(Refusal::new(SubmitErrorKind::Closed, task));
                }
                Err(Denied::NoRoom | Denied::Line) => {}
            }
            let replaced = (self.admission).replace(Origin::Outside, || self.take_oldest());
            match replaced {
                Ok(Some(((oldest, ()), is_ours))) => {
                    self.discard(oldest, ());
                    if is_ours {
                        return self.accept(task);
                    }
                    // Others wait: the place goes to the oldest of them.
                    self.follow_up(self.admission.leave(1));
                }
                Ok(None) => return self.submit_detached(task, Origin::Outside),
                Err(_closed) => return Err(Refusal::new(SubmitErrorKind::Closed, task)),
            }
        }
    }
}
