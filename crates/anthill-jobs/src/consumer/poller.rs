//! The thread that waits for jobs at a broker whose claims can wait ([`Maxima::wait`](crate::Maxima::wait)): such a broker
//! need not tell of what other processes do. While there is something to claim, or no worker for it, it sleeps.
//!
//! - PL1. It asks when a claim has found nothing since the last news (`may_claim` is false), and a runner would be started if
//!   there were something. What it finds goes into the buffer, as what a runner finds does.
//! - PL2. It asks for one job, so that at most one job waits for a runner because of it, and for none that is fragile: it has no
//!   permit (U5). Where a fragile job is next, a runner claims it.
//! - PL3. The wait ends when the consumer stops, by the request's stop token.

use super::guard::guard;
use super::shared::Shared;
use super::sources::Found;
use super::state::MIN_PAUSE;
use crate::broker::Claims;
use crate::sync::{deadline_after, wait_until};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Poller {
    shared: Arc<Shared>,
    source: usize,
    wait: Duration,
}

impl Poller {
    /// The poller of a queue, if its broker's claims can wait.
    pub(super) fn of(shared: &Arc<Shared>, source: usize) -> Option<Poller> {
        let wait = shared.sources.broker(source).capabilities().maxima.wait;
        let shared = Arc::clone(shared);
        (!wait.is_zero()).then_some(Poller {
            shared,
            source,
            wait,
        })
    }

    /// Runs until the consumer stops.
    pub(super) fn run(self) {
        while self.wait_until_idle() {
            let stop = self.shared.stop.token();
            let request = self.shared.claim_request(1).not_fragile();
            let request = request.waiting(self.wait, stop);
            let asked = Instant::now();
            let broker = self.shared.sources.broker(self.source);
            match guard(|| broker.claim(&request)) {
                Ok(claims) if claims.jobs.is_empty() => self.found_nothing(&claims),
                Ok(claims) => {
                    let found = Found::of(claims, self.source);
                    let _ = self.shared.record_claims(Ok(found), asked, Instant::now());
                    self.shared.start_runner();
                }
                Err(error) => {
                    self.shared.report(&error);
                    self.pause(MIN_PAUSE * 4);
                }
            }
        }
    }

    /// PL1; false when the consumer stops.
    fn wait_until_idle(&self) -> bool {
        let mut state = self.shared.lock();
        loop {
            if state.stopping || state.over {
                return false;
            }
            let now = Instant::now();
            let has_slots = state.has_slots();
            let has_work = state.may_claim || !state.buffer.is_empty();
            if has_slots && !has_work && !state.is_held_up(now) {
                return true;
            }
            // A pause of the consumer ends without news.
            let next = [state.not_before, state.paused_until];
            let next = next.into_iter().flatten().filter(|&at| at > now).min();
            state = wait_until(&self.shared.pollers, state, next);
        }
    }

    fn found_nothing(&self, claims: &Claims) {
        if claims.fragile_next {
            return self.shared.notify_claimable();
        }
        let again_at = claims.again_in.and_then(deadline_after);
        let mut state = self.shared.lock();
        state.again_at = state.again_at.into_iter().chain(again_at).min();
        self.shared
            .wake_maintainer_in_time(&mut state, Instant::now());
    }

    fn pause(&self, time: Duration) {
        self.shared.stop.token().wait_timeout(time);
    }
}
