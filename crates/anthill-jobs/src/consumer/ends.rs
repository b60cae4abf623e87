//! How ends get to the broker: together, in the order in which jobs ended; again and again where it fails; and what it will
//! never take not at all.

use super::shared::{Shared, guarded};
use super::state::State;
use crate::broker::{Lease, Settle};
use crate::error::QueueError;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

impl Shared {
    /// Tells the broker of the ends that wait for it.
    pub(super) fn flush(&self) {
        let ends = {
            let mut state = self.lock();
            state.outbox_since = None;
            std::mem::take(&mut state.outbox)
        };
        self.settle(ends);
    }

    pub(super) fn settle(&self, ends: Vec<(Lease, Settle)>) {
        if ends.is_empty() {
            return;
        }
        for (source, ends) in self.by_source(ends) {
            self.settle_in(source, ends);
        }
    }

    /// What is in hand no more is nobody's to tell.
    fn by_source(&self, ends: Vec<(Lease, Settle)>) -> BTreeMap<usize, Vec<(Lease, Settle)>> {
        let state = self.lock();
        let mut by_source: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for end in ends {
            if let Some(hand) = state.hands.get(&end.0) {
                by_source.entry(hand.source).or_default().push(end);
            }
        }
        by_source
    }

    fn settle_in(&self, source: usize, ends: Vec<(Lease, Settle)>) {
        if self.lock().settles_apart {
            return self.settle_apart(source, ends, false);
        }
        let settled = guarded(|| self.sources.broker(source).settle(&ends));
        let mut state = self.lock();
        match settled {
            Ok(settled) => self.note_settled(&mut state, &ends, &settled),
            // They stay ours, as long as heartbeats keep them so, and are told again.
            Err(error) => {
                // One of them may be what the broker will never take.
                state.settles_apart = true;
                self.put_back(&mut state, ends);
                drop(state);
                self.tell(&error);
            }
        }
    }

    /// Each by itself; those that fail are told again later, and hold up nobody. What fails again and again where others
    /// do not is what the broker will never take: the job is dead then, with the reason.
    fn settle_apart(&self, source: usize, ends: Vec<(Lease, Settle)>, again: bool) {
        let broker = self.sources.broker(source);
        let settled_before = self.lock().settled;
        let mut failed = Vec::new();
        for end in ends {
            match guarded(|| broker.settle(std::slice::from_ref(&end))) {
                Ok(settled) => self.note_settled(&mut self.lock(), &[end], &settled),
                Err(error) => failed.push((end, error)),
            }
        }
        let mut refused = Vec::new();
        for ((lease, end), error) in failed {
            self.tell(&error);
            let is_busy = matches!(error, QueueError::Busy);
            let is_lasting = !is_busy && self.lock().is_refused(lease, settled_before);
            match end {
                Settle::Dead { .. } if is_lasting => self.forget(lease),
                _ if is_lasting => {
                    let error = format!("its end could not be stored: {error}");
                    refused.push((lease, Settle::Dead { error }));
                }
                end => refused.push((lease, end)),
            }
        }
        let now = Instant::now();
        let mut state = self.lock();
        state.settles_apart = false;
        if !again && !refused.is_empty() && state.settled == settled_before {
            // Nothing says that it works at all.
            state.fail(now);
        }
        state.refuse(refused, now);
        self.stored.notify_all();
        self.plan(&mut state, now);
    }

    /// Tells those ends again that the broker refused.
    pub(super) fn tell_refused(&self) {
        let refused = self.lock().take_refused();
        for (source, ends) in self.by_source(refused) {
            self.settle_apart(source, ends, true);
        }
    }

    fn note_settled(&self, state: &mut State, ends: &[(Lease, Settle)], settled: &[bool]) {
        state.settled += ends.len() as u64;
        state.answers += 1;
        for ((lease, _), &was_ours) in ends.iter().zip(settled) {
            state.hands.remove(lease);
            state.stats.lost += u64::from(!was_ours);
        }
        self.stored.notify_all();
        self.tell_waiters(state);
    }

    /// They are told later.
    fn put_back(&self, state: &mut State, ends: Vec<(Lease, Settle)>) {
        state.outbox.extend(ends);
        state.outbox_since = Some(Instant::now());
        state.fail(Instant::now());
        self.stored.notify_all();
        self.plan(state, Instant::now());
    }

    /// They are not ours any more, or not to be: whoever runs one is told, and nobody begins it. All at once, so that none
    /// begins because another one is given up.
    pub(super) fn give_up(&self, leases: &[Lease]) {
        let mut state = self.lock();
        for lease in leases {
            let Some(hand) = state.hands.get_mut(lease) else {
                continue;
            };
            hand.given_up = true;
            hand.signal.stop.stop();
            let waiting = state.buffer.len();
            state.buffer.retain(|waiting| waiting.job.lease != *lease);
            // Of what has begun, or ended, whoever has it hears that it is not ours, and counts it.
            if state.buffer.len() < waiting {
                self.forget_in(&mut state, *lease);
            }
        }
        self.stored.notify_all();
    }

    /// Its end is told to nobody: the broker gives it to another consumer when its lease is over.
    fn forget(&self, lease: Lease) {
        self.forget_in(&mut self.lock(), lease);
        self.stored.notify_all();
    }

    pub(super) fn forget_in(&self, state: &mut State, lease: Lease) {
        if let Some(hand) = state.hands.remove(&lease) {
            hand.signal.stop.stop();
            state.stats.lost += 1;
            self.tell_waiters(state);
        }
    }

    /// Something came to an end: who waits for that, or sees to it, looks again.
    pub(super) fn tell_waiters(&self, state: &State) {
        if state.waiting > 0 && state.hands.is_empty() {
            self.waiters.notify_all();
        }
        if state.stopping {
            self.steward.notify_one();
        }
    }

    /// While stopping: gives up ends that cannot be told, of jobs that are another's by now.
    pub(super) fn drop_what_is_lost(&self, now: Instant) {
        let mut state = self.lock();
        let State {
            outbox,
            refused,
            hands,
            ..
        } = &mut *state;
        let before = outbox.len() + refused.len();
        for ends in [&mut *outbox, &mut *refused] {
            ends.retain(|(lease, _)| {
                let kept_until = hands.get(lease).map(|hand| hand.kept_until);
                let is_lost =
                    kept_until.is_none_or(|until| until.is_some_and(|until| until <= now));
                if is_lost {
                    hands.remove(lease);
                }
                !is_lost
            });
        }
        let lost = before - outbox.len() - refused.len();
        state.stats.lost += lost as u64;
        self.tell_waiters(&state);
    }

    /// Hands back what was not started.
    pub(super) fn hand_back(&self) {
        let ends: Vec<(Lease, Settle)> = {
            let mut state = self.lock();
            let buffer = std::mem::take(&mut state.buffer);
            state.stats.released += buffer.len() as u64;
            buffer
                .into_iter()
                .map(|waiting| {
                    let delay = Duration::ZERO;
                    (waiting.job.lease, Settle::Release { delay })
                })
                .collect()
        };
        self.settle(ends);
    }
}
