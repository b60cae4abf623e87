//! How ends get to the broker: together, in the order in which jobs ended; again and again where it fails; and what it will
//! never take not at all.

use super::shared::{Shared, guarded};
use super::state::State;
use crate::jobs::broker::{Lease, Settle};
use crate::jobs::error::QueueError;
use crate::sync::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// An end that was refused so often, while the broker answered others, is told no more.
const MOST_REFUSALS: u32 = 3;

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
        let apart = self.lock().settles_apart;
        if apart && ends.len() > 1 {
            return self.settle_apart(source, ends);
        }
        let settled = guarded(|| self.sources.broker(source).settle(&ends));
        let mut state = self.lock();
        match settled {
            Ok(settled) => {
                state.settles_apart = false;
                self.note_settled(&mut state, &ends, &settled);
            }
            // They stay ours, as long as heartbeats keep them so, and are told again.
            Err(error) => {
                let again = match <[_; 1]>::try_from(ends) {
                    Ok([end]) => self.refuse(&mut state, end, &error).into_iter().collect(),
                    Err(ends) => {
                        // One of them may be what the broker will never take.
                        state.settles_apart = true;
                        ends
                    }
                };
                self.put_back(&mut state, again);
                drop(state);
                self.tell(&error);
            }
        }
    }

    /// Each by itself.
    fn settle_apart(&self, source: usize, ends: Vec<(Lease, Settle)>) {
        let broker = self.sources.broker(source);
        let mut failed = Vec::new();
        for end in ends {
            match guarded(|| broker.settle(std::slice::from_ref(&end))) {
                Ok(settled) => self.note_settled(&mut self.lock(), &[end], &settled),
                Err(error) => failed.push((end, error)),
            }
        }
        for (_, error) in &failed {
            self.tell(error);
        }
        let mut state = self.lock();
        let again = failed.into_iter();
        let again = again.filter_map(|(end, error)| self.refuse(&mut state, end, &error));
        let again: Vec<_> = again.collect();
        state.settles_apart = !again.is_empty();
        self.put_back(&mut state, again);
    }

    /// What is to be told in place of an end that could not be stored by itself: it again; or, where that has failed
    /// again and again while the broker answered others, that the job is dead; and if even that is refused, nothing.
    fn refuse(
        &self,
        state: &mut State,
        (lease, end): (Lease, Settle),
        error: &QueueError,
    ) -> Option<(Lease, Settle)> {
        let answers = state.answers;
        let hand = state.hands.get_mut(&lease)?;
        let answered_others = hand.refused_at.replace(answers) < Some(answers);
        if answered_others && !matches!(error, QueueError::Busy) {
            hand.refusals += 1;
        }
        if hand.refusals < MOST_REFUSALS {
            return Some((lease, end));
        }
        hand.refusals = 0;
        if let Settle::Dead { .. } = end {
            state.hands.remove(&lease);
            state.stats.lost += 1;
            self.tell_waiters(state);
            return None;
        }
        let error = format!("its end could not be stored: {error}");
        Some((lease, Settle::Dead { error }))
    }

    fn note_settled(&self, state: &mut State, ends: &[(Lease, Settle)], settled: &[bool]) {
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
        self.stored.notify_all();
        if ends.is_empty() {
            return;
        }
        state.outbox.extend(ends);
        state.outbox_since = Some(Instant::now());
        state.fail(Instant::now());
        self.plan(state, Instant::now());
    }

    /// It is not ours any more, or not to be: whoever runs it is told, and nobody begins it.
    pub(super) fn give_up(&self, lease: Lease) {
        let mut state = self.lock();
        let Some(hand) = state.hands.get_mut(&lease) else {
            return;
        };
        hand.given_up = true;
        hand.signal.stop.stop();
        let waiting = state.buffer.len();
        state.buffer.retain(|waiting| waiting.job.lease != lease);
        if state.buffer.len() < waiting {
            state.hands.remove(&lease);
            state.stats.lost += 1;
            self.tell_waiters(&state);
        }
        self.stored.notify_all();
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
        let State { outbox, hands, .. } = &mut *state;
        let before = outbox.len();
        outbox.retain(|(lease, _)| {
            let kept_until = hands.get(lease).map(|hand| hand.kept_until);
            let is_lost = kept_until.is_none_or(|until| until.is_some_and(|until| until <= now));
            if is_lost {
                hands.remove(lease);
            }
            !is_lost
        });
        let lost = before - outbox.len();
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
