//! How a worker rests: it sleeps, stands by, expires or leaves.

use super::Worker;
use crate::engine::bell::Ring;
use crate::engine::threads::{Expiry, Rest};
use crate::engine::wake::standby::{Duty, Tick};
use crate::sync::{Ordering, deadline_after, fence};
use std::time::Duration;

/// The least time for which a last worker whose time is up waits for a task that is on its way.
const RENEWAL: Duration = Duration::from_millis(1);

impl Worker {
    /// Goes to rest: on the idle stack, a last look, asleep; or leaves.
    pub(super) fn rest(&self) -> Rest {
        let core = &self.core;
        let outlook = || core.outlook();
        core.admission.wake_let_in();
        let may_stand_by = core.may_stand_by();
        let rest = core.threads.settle(&self.shared, may_stand_by, outlook);
        if !matches!(rest, Rest::Sleep | Rest::StandBy) {
            return rest;
        }
        // The last look: whoever pushed a task before this counted on us.
        fence(Ordering::SeqCst);
        if core.queue.has_work() && core.threads.unsettle(&self.shared) {
            if rest == Rest::StandBy {
                core.make_up();
            }
            return Rest::Again;
        }
        let idle_timeout = core.config.idle_timeout;
        let mut deadline = idle_timeout.and_then(deadline_after);
        let mut duty = (rest == Rest::StandBy).then(|| Duty::begin(core));
        loop {
            let until = match &duty {
                Some(duty) => deadline_after(duty.tick()),
                None => deadline,
            };
            let Some(ring) = self.shared.bell.sleep(until) else {
                if let Some(on_duty) = &mut duty {
                    match core.tick(&self.shared, on_duty) {
                        Tick::Stay => {}
                        Tick::Up => return Rest::Again,
                        Tick::StandDown => {
                            duty = None;
                            deadline = idle_timeout.and_then(deadline_after);
                        }
                    }
                    continue;
                }
                deadline = match core.threads.expire(&self.shared, outlook) {
                    Expiry::Again => return Rest::Again,
                    Expiry::Leave => return Rest::Leave,
                    Expiry::Renew => {
                        let again = idle_timeout.unwrap_or(RENEWAL).max(RENEWAL);
                        deadline_after(again)
                    }
                    Expiry::Claimed | Expiry::Stay => None,
                };
                continue;
            };
            if ring == Ring::Retire {
                core.admission.wake_let_in();
                return Rest::Leave;
            }
            core.threads.arrive();
            core.make_up();
            return Rest::Again;
        }
    }
}
