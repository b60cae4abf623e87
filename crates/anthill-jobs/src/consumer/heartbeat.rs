//! The thread that extends the leases of the jobs in flight from one queue. It does nothing else, so a heartbeat waits for
//! no other call to the broker, and for no other broker. While no job is in flight it sleeps.

use super::guard::{for_each, guard};
use super::shared::Shared;
use super::state::{ClaimNumber, MIN_PAUSE};
use crate::broker::{Extended, Lease};
use crate::sync::wait_until;
use std::sync::Arc;
use std::time::Instant;

pub(super) struct Heartbeat {
    shared: Arc<Shared>,
    source: usize,
    /// The broker failed: no heartbeat before then.
    not_before: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(shared: Arc<Shared>, source: usize) -> Heartbeat {
        Heartbeat {
            shared,
            source,
            not_before: None,
        }
    }

    /// Runs until the consumer is over.
    pub(super) fn run(mut self) {
        loop {
            let leases = {
                let mut state = self.shared.lock();
                loop {
                    if state.over {
                        return;
                    }
                    let now = Instant::now();
                    let next = state.next_heartbeat(self.source, self.shared.options.lease);
                    let next = next.map(|at| self.not_before.map_or(at, |pause| at.max(pause)));
                    match next {
                        Some(at) if at <= now => break state.leases_to_extend(self.source),
                        next => state = wait_until(&self.shared.heartbeat, state, next),
                    }
                }
            };
            self.send(&leases);
        }
    }

    fn send(&mut self, leases: &[(ClaimNumber, Lease)]) {
        let broker = self.shared.sources.broker(self.source);
        let most = broker.capabilities().maxima.batch.max(1);
        // A failure of one batch is no reason to lose the leases of the others.
        for batch in leases.chunks(most) {
            self.send_batch(batch);
        }
    }

    fn send_batch(&mut self, batch: &[(ClaimNumber, Lease)]) {
        // The broker counts the lease from when it gets the request, or later.
        let asked = Instant::now();
        let lease = self.shared.options.lease;
        let leases: Vec<Lease> = batch.iter().map(|(_, lease)| lease.clone()).collect();
        let broker = self.shared.sources.broker(self.source);
        match guard(|| for_each(leases.len(), broker.extend(&leases, lease))) {
            Ok(extended) => {
                self.not_before = None;
                self.keep(batch, &extended, asked);
                let lost = batch.iter().zip(extended);
                let lost = lost.filter(|(_, extended)| *extended == Extended::Lost);
                let lost: Vec<ClaimNumber> = lost.map(|(&(number, _), _)| number).collect();
                self.shared.give_up(&lost);
            }
            Err(error) => {
                self.not_before = Instant::now().checked_add(MIN_PAUSE.min(lease / 10));
                self.shared.report(&error);
            }
        }
    }

    fn keep(&self, batch: &[(ClaimNumber, Lease)], extended: &[Extended], asked: Instant) {
        let until = asked.checked_add(self.shared.options.lease);
        let mut cancelled = Vec::new();
        let mut state = self.shared.lock();
        state.answers += 1;
        for (&(number, _), extended) in batch.iter().zip(extended) {
            let Some(lease) = extended.held() else {
                continue;
            };
            let Some(in_flight) = state.in_flight.get_mut(&number) else {
                continue;
            };
            in_flight.held_until = until;
            in_flight.signal.renew(lease);
            if matches!(extended, Extended::Cancelled(_)) {
                cancelled.push(number);
            }
        }
        drop(state);
        self.shared.cancel(&cancelled);
    }
}
