//! How a worker without work rests: it sleeps, stands by, expires or leaves.

use super::Worker;
use crate::engine::bell::Ring;
use crate::engine::lend::STAND_IN_TIMEOUT;
use crate::engine::threads::{Expiry, Rest};
use crate::engine::wake::standby::{Standby, Tick};
use crate::sync::{Ordering, deadline_after, fence};
use std::time::Duration;

/// The least time for which the last worker, when its time is up, waits for a task that may come.
const RENEWAL: Duration = Duration::from_millis(1);

impl Worker {
    /// Goes on the idle stack, takes a last look for work, and sleeps; or leaves.
    pub(super) fn rest(&self) -> Rest {
        let core = &self.core;
        let remaining = || core.remaining();
        core.admission.wake_let_in();
        let may_stand_by = core.may_stand_by();
        let rest = core.threads.go_idle(&self.shared, may_stand_by, remaining);
        if !matches!(rest, Rest::Sleep | Rest::StandBy) {
            return rest;
        }
        // The last look: a thread that pushed a task before this counted on this worker.
        fence(Ordering::SeqCst);
        if core.queue.has_work() && core.threads.undo_idle(&self.shared) {
            if rest == Rest::StandBy {
                core.make_deferred_wakes();
            }
            return Rest::Again;
        }
        let keeps_all = core.config.idle_timeout.is_none();
        let stands_in = || core.threads.has_stand_ins().then_some(STAND_IN_TIMEOUT);
        let idle_timeout = core.config.idle_timeout.or_else(stands_in);
        let mut deadline = idle_timeout.and_then(deadline_after);
        let mut standby = (rest == Rest::StandBy).then(|| Standby::begin(core));
        loop {
            let until = match &standby {
                Some(standby) => deadline_after(standby.tick()),
                None => deadline,
            };
            let Some(ring) = self.shared.bell.sleep(until) else {
                if let Some(on_standby) = &mut standby {
                    match core.tick(&self.shared, on_standby) {
                        Tick::Stay => {}
                        Tick::Up => return Rest::Again,
                        Tick::StandDown => {
                            standby = None;
                            deadline = idle_timeout.and_then(deadline_after);
                        }
                    }
                    continue;
                }
                deadline = match core.threads.expire(&self.shared, keeps_all, remaining) {
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
            core.make_deferred_wakes();
            return Rest::Again;
        }
    }
}
