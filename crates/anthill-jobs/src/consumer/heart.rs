//! The thread that keeps the leases of what is in hand from one queue. It does nothing else, so that a heartbeat waits for
//! no other call to the broker, and for no other broker; while nothing is in hand it sleeps.

use super::shared::{Shared, guarded};
use super::state::LEAST_PAUSE;
use crate::broker::Lease;
use crate::sync::wait_until;
use std::sync::Arc;
use std::time::Instant;

pub(super) struct Heart {
    shared: Arc<Shared>,
    source: usize,
    /// The broker failed: not before.
    not_before: Option<Instant>,
}

impl Heart {
    pub(super) fn new(shared: Arc<Shared>, source: usize) -> Heart {
        Heart {
            shared,
            source,
            not_before: None,
        }
    }

    /// Until the consumer is over.
    pub(super) fn run(mut self) {
        loop {
            let leases = {
                let mut state = self.shared.lock();
                loop {
                    if state.over {
                        return;
                    }
                    let now = Instant::now();
                    let next = state.next_beat(self.source, self.shared.told.lease);
                    let next = next.map(|at| self.not_before.map_or(at, |pause| at.max(pause)));
                    match next {
                        Some(at) if at <= now => break state.kept_leases(self.source),
                        next => state = wait_until(&self.shared.heart, state, next),
                    }
                }
            };
            self.beat(&leases);
        }
    }

    fn beat(&mut self, leases: &[Lease]) {
        // The broker counts from when it is asked, or later.
        let asked = Instant::now();
        let lease = self.shared.told.lease;
        match guarded(|| {
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
                self.not_before = Instant::now().checked_add(LEAST_PAUSE.min(lease / 10));
                self.shared.tell(&error);
            }
        }
    }

    fn keep(&self, leases: &[Lease], extended: &[bool], asked: Instant) {
        let until = asked.checked_add(self.shared.told.lease);
        let mut state = self.shared.lock();
        state.answers += 1;
        for (lease, _) in leases.iter().zip(extended).filter(|(_, kept)| **kept) {
            if let Some(hand) = state.hands.get_mut(lease) {
                hand.kept_until = until;
            }
        }
    }
}
