//! How jobs go from state to state, and what time does to them.

use super::entry::Entry;
use super::store::{Keyed, Now, Place, Rank, Store, nanos};
use crate::broker::JobState;
use std::time::Duration;

impl Store {
    /// Takes a job from the line of its state to that of another one.
    pub(super) fn shift(&mut self, place: Place, state: JobState, rank: Rank) {
        self.leave(place);
        self.join(place, state, rank);
        self.balance_key_of(place);
    }

    /// The same for a job that changes on the way; where to, the change says.
    pub(super) fn leave_for(
        &mut self,
        place: Place,
        change: impl FnOnce(&mut Entry) -> (JobState, Rank),
    ) {
        self.leave(place);
        let (state, rank) = change(self.entry(place));
        self.join(place, state, rank);
        self.balance_key_of(place);
    }

    /// Takes a job that is in no line to that of a state.
    pub(super) fn join(&mut self, place: Place, state: JobState, rank: Rank) {
        let entry = self.slab[place].as_mut().expect("it is there");
        entry.state = state;
        entry.rank = rank;
        let kind = entry.kind;
        if let Some(key) = &entry.more().key {
            if !self.keys.contains_key(key) {
                self.keys.insert(key.clone(), Keyed::default());
            }
            let keyed = self.keys.get_mut(key).expect("it was put there");
            match state {
                JobState::Ready => drop(keyed.ready.insert((rank, place))),
                JobState::Parked => drop(keyed.parked.insert((rank, place))),
                JobState::Running => keyed.running += 1,
                _ => {}
            }
        }
        self.lines.insert(state, kind, rank, place);
    }

    fn leave(&mut self, place: Place) {
        let entry = self.slab[place].as_ref().expect("it is there");
        let (state, rank, kind) = (entry.state, entry.rank, entry.kind);
        if let Some(keyed) = entry
            .more()
            .key
            .as_ref()
            .and_then(|key| self.keys.get_mut(key))
        {
            match state {
                JobState::Ready => drop(keyed.ready.remove(&(rank, place))),
                JobState::Parked => drop(keyed.parked.remove(&(rank, place))),
                JobState::Running => keyed.running -= 1,
                _ => {}
            }
        }
        self.lines.remove(state, kind, rank);
    }

    fn balance_key_of(&mut self, place: Place) {
        let key = self.peek(place).more().key.clone();
        if let Some(key) = key {
            self.balance_key(&key);
        }
    }

    /// B7: as many with that key are ready as have room, the first ones, and the others parked.
    pub(super) fn balance_key(&mut self, key: &str) {
        let most = self.limits.per_key.map_or(usize::MAX, |most| most as usize);
        let Some(keyed) = self.keys.get_mut(key) else {
            return;
        };
        let room = most.saturating_sub(keyed.running);
        loop {
            let (from, to, moved) = if keyed.ready.len() > room {
                let last = keyed.ready.pop_last();
                keyed.parked.extend(last);
                (JobState::Ready, JobState::Parked, last)
            } else if keyed.ready.len() < room || keyed.parked.first() < keyed.ready.last() {
                let first = keyed.parked.pop_first();
                keyed.ready.extend(first);
                (JobState::Parked, JobState::Ready, first)
            } else {
                break;
            };
            let Some((rank, place)) = moved else { break };
            let entry = self.slab[place].as_mut().expect("it is there");
            entry.state = to;
            self.lines.remove(from, entry.kind, rank);
            self.lines.insert(to, entry.kind, rank, place);
        }
        if keyed.is_empty() {
            self.keys.remove(key);
        }
    }

    /// B6: to where it was, or to the end of those of its priority.
    pub(super) fn make_ready(&mut self, place: Place, since: Duration, anew: bool) {
        let order = anew.then(|| self.next_order());
        let entry = self.entry(place);
        entry.ready_since = since;
        entry.keeps_place = false;
        entry.order = order.unwrap_or(entry.order);
        let rank = entry.turn();
        self.shift(place, JobState::Ready, rank);
    }

    /// Takes a job away; its unique keys are free again, where time does not hold them.
    pub(super) fn remove(&mut self, place: Place) {
        self.leave(place);
        self.free_keys(place);
        self.expire_never(place);
        self.balance_key_of(place);
        let entry = self.slab[place].take().expect("it is there");
        self.free.push(place);
        self.ids.remove(&entry.id);
    }

    /// A job that is over does not keep others out.
    pub(super) fn free_keys(&mut self, place: Place) {
        let entry = self.slab[place].as_ref().expect("it is there");
        let Some(key) = &entry.more().unique else {
            return;
        };
        let Some(owner) = self.uniques.get_mut(key) else {
            return;
        };
        if owner.id == entry.id && owner.is_held {
            owner.is_held = false;
            if owner.until.is_none() {
                self.uniques.remove(key);
            }
        }
    }

    pub(super) fn expire_never(&mut self, place: Place) {
        let more = self.entry(place).more.as_mut();
        if let Some(at) = more.and_then(|more| more.expires_at.take()) {
            self.expiring.remove(&(at, place));
        }
    }

    pub(super) fn bury(&mut self, place: Place, error: String) {
        self.counts.died += 1;
        self.free_keys(place);
        self.expire_never(place);
        let entry = self.entry(place);
        entry.is_suspect = false;
        entry.more_mut().error = Some(error);
        let order = self.next_order();
        self.shift(place, JobState::Dead, (0, order));
    }

    // ── what time does ──────────────────────────────────────────────────────────────────────

    pub(super) fn tidy(&mut self, now: Now) {
        while let Some((rank, place)) = self.lines.first(JobState::Running) {
            if rank.0 > nanos(now.steady) {
                break;
            }
            self.counts.lost_leases += 1;
            self.lose_lease(place, now);
        }
        while let Some((rank, place)) = self.lines.first(JobState::Delayed) {
            if rank.0 > nanos(now.time) {
                break;
            }
            let entry = self.peek(place);
            let (due, anew) = (entry.due, !entry.keeps_place);
            self.make_ready(place, due, anew);
        }
        while let Some(&(at, place)) = self.expiring.first() {
            if at > now.time {
                break;
            }
            self.remove(place);
            self.counts.expired += 1;
        }
        while let Some((rank, place)) = self.lines.first(JobState::Done) {
            if rank.0 > nanos(now.time) {
                break;
            }
            self.remove(place);
        }
        while let Some((at, key)) = self.periods.first() {
            if *at > now.time {
                break;
            }
            // Somebody else may have it by now.
            if let Some(owner) = self
                .uniques
                .get_mut(key)
                .filter(|owner| owner.until == Some(*at))
            {
                owner.until = None;
                if !owner.is_held {
                    self.uniques.remove(key);
                }
            }
            self.periods.pop_first();
        }
    }

    /// B5.
    fn lose_lease(&mut self, place: Place, now: Now) {
        let entry = self.entry(place);
        let attempt = entry.attempt;
        entry.attempt -= u32::from(entry.is_together);
        entry.is_suspect = true;
        let why = format!("the lease of attempt {attempt} ended before the job did");
        if entry.attempt >= entry.attempts {
            return self.bury(place, why);
        }
        entry.more_mut().error = Some(why);
        self.make_ready(place, now.time, false);
        self.expire_again(place);
    }

    /// One that was claimed in time does not expire while it runs, but it may when it is to run again.
    pub(super) fn expire_again(&mut self, place: Place) {
        let entry = self.entry(place);
        if let (None, Some(after)) = (entry.more().expires_at, entry.more().expires) {
            let at = entry.enqueued.saturating_add(after);
            entry.more_mut().expires_at = Some(at);
            self.expiring.insert((at, place));
        }
    }
}
