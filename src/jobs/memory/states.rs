//! How jobs go from state to state, and what time does to them.

use super::store::{Now, Place, Rank, Store, line, nanos};
use crate::jobs::broker::JobState;
use std::collections::BTreeSet;
use std::time::Duration;

impl Store {
    /// Takes a job out of the line of its state. One that ran may make room for another one with its key.
    pub(super) fn leave(&mut self, place: Place) {
        let entry = self.slab[place].as_ref().expect("it is there");
        let (state, rank) = (entry.state, entry.rank);
        self.lines[line(state)].remove(&rank);
        let key = entry.more().key.as_ref();
        match (state, key) {
            (JobState::Running, Some(key)) => {
                let key = key.clone();
                if let Some(running) = self.running_of.get_mut(&key) {
                    *running -= 1;
                    if *running == 0 {
                        self.running_of.remove(&key);
                    }
                }
                self.unpark(&key, 1);
            }
            (JobState::Parked, Some(key)) => {
                if let Some(parked) = self.parked.get_mut(key) {
                    parked.remove(&(rank, place));
                    if parked.is_empty() {
                        self.parked.remove(key);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn join(&mut self, place: Place, state: JobState, rank: Rank) {
        let entry = self.slab[place].as_mut().expect("it is there");
        entry.state = state;
        entry.rank = rank;
        if let (JobState::Parked, Some(key)) = (state, &entry.more().key) {
            match self.parked.get_mut(key) {
                Some(parked) => drop(parked.insert((rank, place))),
                None => drop(
                    self.parked
                        .insert(key.clone(), BTreeSet::from([(rank, place)])),
                ),
            }
        }
        self.lines[line(state)].insert(rank, place);
    }

    /// Takes a job out of the line of its state that is not to run. If it was next in turn for its key, another one is
    /// now.
    pub(super) fn withdraw(&mut self, place: Place) {
        self.leave(place);
        let entry = self.peek(place);
        let key = entry.more().key.clone();
        if let Some(key) = key.filter(|_| entry.state == JobState::Ready) {
            if !self.is_key_full(Some(&key)) {
                self.unpark(&key, 1);
            }
        }
    }

    /// B6: where it was, or at the end of those of its priority.
    pub(super) fn make_ready(&mut self, place: Place, since: Duration, anew: bool) {
        let order = anew.then(|| self.next_order());
        let entry = self.entry(place);
        entry.ready_since = since;
        entry.order = order.unwrap_or(entry.order);
        let rank = (-i64::from(entry.priority), entry.order);
        self.join(place, JobState::Ready, rank);
    }

    /// B7: `most` of the parked jobs with that key are ready again.
    pub(super) fn unpark(&mut self, key: &str, most: usize) {
        for _ in 0..most {
            let Some(parked) = self.parked.get_mut(key) else {
                return;
            };
            let Some((rank, place)) = parked.pop_first() else {
                return;
            };
            if parked.is_empty() {
                self.parked.remove(key);
            }
            self.lines[line(JobState::Parked)].remove(&rank);
            self.join(place, JobState::Ready, rank);
        }
    }

    pub(super) fn is_key_full(&self, key: Option<&String>) -> bool {
        let (Some(most), Some(key)) = (self.limits.per_key, key) else {
            return false;
        };
        self.running_of.get(key).copied().unwrap_or(0) >= most
    }

    /// Takes a job away that is in no line any more; its unique key is free again.
    pub(super) fn remove(&mut self, place: Place) {
        self.free_key(place);
        self.expire_never(place);
        let entry = self.slab[place].take().expect("it is there");
        self.free.push(place);
        self.ids.remove(&entry.id);
    }

    pub(super) fn free_key(&mut self, place: Place) {
        let entry = self.slab[place].as_ref().expect("it is there");
        let Some(unique) = &entry.more().unique else {
            return;
        };
        let owner = self.uniques.get(&unique.key);
        if owner.is_some_and(|owner| owner.id == entry.id && owner.until.is_none()) {
            self.uniques.remove(&unique.key);
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
        self.free_key(place);
        self.expire_never(place);
        self.entry(place).more_mut().error = Some(error);
        let order = self.next_order();
        self.join(place, JobState::Dead, (0, order));
    }

    // ── what time does ──────────────────────────────────────────────────────────────────────

    pub(super) fn tidy(&mut self, now: Now) {
        while let Some((rank, place)) = self.first(JobState::Running) {
            if rank.0 > nanos(now.steady) {
                break;
            }
            self.leave(place);
            self.counts.lost_leases += 1;
            self.try_again_or_bury(place, now);
        }
        while let Some((rank, place)) = self.first(JobState::Delayed) {
            if rank.0 > nanos(now.wall) {
                break;
            }
            self.leave(place);
            let due = self.peek(place).due;
            self.make_ready(place, due, true);
        }
        while let Some(&(at, place)) = self.expiring.first() {
            if at > now.wall {
                break;
            }
            self.withdraw(place);
            self.remove(place);
            self.counts.expired += 1;
        }
        while let Some((rank, place)) = self.first(JobState::Done) {
            if rank.0 > nanos(now.wall) {
                break;
            }
            self.leave(place);
            self.remove(place);
        }
        while let Some((at, key)) = self.periods.first() {
            if *at > now.wall {
                break;
            }
            // Somebody else may have it by now.
            if self
                .uniques
                .get(key)
                .is_some_and(|owner| owner.until == Some(*at))
            {
                self.uniques.remove(key);
            }
            self.periods.pop_first();
        }
    }

    /// B5.
    pub(super) fn try_again_or_bury(&mut self, place: Place, now: Now) {
        let entry = self.entry(place);
        if entry.attempt < entry.attempts {
            self.make_ready(place, now.wall, false);
            return self.expire_again(place);
        }
        let why = format!(
            "the lease of attempt {} ended before the job did",
            entry.attempt
        );
        self.bury(place, why);
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
