//! The thread that extends the leases of the jobs in flight from one queue. It does nothing else, so a heartbeat waits for
//! no other call to the broker, and for no other broker. While no job is in flight it sleeps.

use super::guard::guard;
use super::shared::Shared;
use super::state::MIN_PAUSE;
use crate::broker::Lease;
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

    fn send(&mut self, leases: &[Lease]) {
        // The broker counts the lease from when it gets the request, or later.
        let asked = Instant::now();
        let lease = self.shared.options.lease;
        match guard(|| {
            self.shared
                .sources
                .broker(self.source)
                .extend(leases, lease)
        }) {
            Ok(extended) => {
                self.not_before = None;
                self.keep(leases, &extended, asked);
                let lost = leases.iter().zip(extended);
                let lost = lost.filter(|&(_, extended)| !extended);
                let lost: Vec<Lease> = lost.map(|(&lease, _)| lease).collect();
                self.shared.give_up(&lost);
            }
            Err(error) => {
                self.not_before = Instant::now().checked_add(MIN_PAUSE.min(lease / 10));
                self.shared.report(&error);
            }
        }
    }

    fn keep(&self, leases: &[Lease], extended: &[bool], asked: Instant) {
        let until = asked.checked_add(self.shared.options.lease);
        let mut state = self.shared.lock();
        state.answers += 1;
        for (lease, _) in leases.iter().zip(extended).filter(|(_, kept)| **kept) {
            if let Some(in_flight) = state.in_flight.get_mut(lease) {
                in_flight.held_until = until;
            }
        }
    }
}
