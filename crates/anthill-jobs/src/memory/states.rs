//! The steps of jobs from state to state, and what time does to them.

use super::entry::Entry;
use super::index::{Rank, Slot};
use super::store::{KeyJobs, Store};
use super::time::{Now, nanos};
use crate::broker::JobState;
use std::time::Duration;

impl Store {
    /// Moves a job to another state, or to another rank in its state.
    pub(super) fn move_to(&mut self, slot: Slot, state: JobState, rank: Rank) {
        self.unlink(slot);
        self.link(slot, state, rank);
        self.balance_key_of(slot);
    }

    /// Moves a job that changes on the way; the change returns where to.
    pub(super) fn change_state(
        &mut self,
        slot: Slot,
        change: impl FnOnce(&mut Entry) -> (JobState, Rank),
    ) {
        self.unlink(slot);
        let (state, rank) = change(self.get_mut(slot));
        self.link(slot, state, rank);
        self.balance_key_of(slot);
    }

    /// Puts a job that is in no index into that of a state.
    pub(super) fn link(&mut self, slot: Slot, state: JobState, rank: Rank) {
        let entry = self.slab[slot].as_mut().expect("the job is there");
        entry.state = state;
        entry.rank = rank;
        let kind = entry.kind;
        if let Some(key) = &entry.extra().key {
            if !self.keys.contains_key(key) {
                self.keys.insert(key.clone(), KeyJobs::default());
            }
            let key_jobs = self.keys.get_mut(key).expect("it was inserted");
            match state {
                JobState::Ready => drop(key_jobs.ready.insert((rank, slot))),
                JobState::Parked => drop(key_jobs.parked.insert((rank, slot))),
                JobState::Running => key_jobs.running += 1,
                _ => {}
            }
        }
        self.index.insert(state, kind, rank, slot);
    }

    fn unlink(&mut self, slot: Slot) {
        let entry = self.slab[slot].as_ref().expect("the job is there");
        let (state, rank, kind) = (entry.state, entry.rank, entry.kind);
        if let Some(key_jobs) = entry
            .extra()
            .key
            .as_ref()
            .and_then(|key| self.keys.get_mut(key))
        {
            match state {
                JobState::Ready => drop(key_jobs.ready.remove(&(rank, slot))),
                JobState::Parked => drop(key_jobs.parked.remove(&(rank, slot))),
                JobState::Running => key_jobs.running -= 1,
                _ => {}
            }
        }
        self.index.remove(state, kind, rank);
    }

    fn balance_key_of(&mut self, slot: Slot) {
        let key = self.get(slot).extra().key.clone();
        if let Some(key) = key {
            self.balance_key(&key);
        }
    }

    /// B7: as many jobs with the key are ready as have room, the first ones; the others are parked.
    pub(super) fn balance_key(&mut self, key: &str) {
        let limit = self
            .limits
            .per_key
            .map_or(usize::MAX, |limit| limit as usize);
        let Some(key_jobs) = self.keys.get_mut(key) else {
            return;
        };
        let room = limit.saturating_sub(key_jobs.running);
        loop {
            let (from, to, moved) = if key_jobs.ready.len() > room {
                let last = key_jobs.ready.pop_last();
                key_jobs.parked.extend(last);
                (JobState::Ready, JobState::Parked, last)
            } else if key_jobs.ready.len() < room || key_jobs.parked.first() < key_jobs.ready.last()
            {
                let first = key_jobs.parked.pop_first();
                key_jobs.ready.extend(first);
                (JobState::Parked, JobState::Ready, first)
            } else {
                break;
            };
            let Some((rank, slot)) = moved else { break };
            let entry = self.slab[slot].as_mut().expect("the job is there");
            entry.state = to;
            self.index.remove(from, entry.kind, rank);
            self.index.insert(to, entry.kind, rank, slot);
        }
        if key_jobs.is_empty() {
            self.keys.remove(key);
        }
    }

    /// B6: makes a job ready, in its old place, or behind all others of its priority.
    pub(super) fn make_ready(&mut self, slot: Slot, since: Duration, anew: bool) {
        let order = anew.then(|| self.next_order());
        let entry = self.get_mut(slot);
        entry.ready_since = since;
        entry.keeps_place = false;
        entry.order = order.unwrap_or(entry.order);
        let rank = entry.turn();
        self.move_to(slot, JobState::Ready, rank);
    }

    /// Makes a job due so much later.
    pub(super) fn make_delayed(&mut self, slot: Slot, delay: Duration, now: Now) {
        let entry = self.get_mut(slot);
        entry.due = now.time.saturating_add(delay);
        let rank = (nanos(entry.due), entry.order);
        self.move_to(slot, JobState::Delayed, rank);
    }

    /// Removes a job, and frees its unique keys unless a period holds them.
    pub(super) fn remove(&mut self, slot: Slot) {
        self.unlink(slot);
        self.free_keys(slot);
        self.expire_never(slot);
        self.balance_key_of(slot);
        let entry = self.slab[slot].take().expect("the job is there");
        self.free.push(slot);
        self.ids.remove(&entry.id);
    }

    /// Frees the unique key of a job that is over.
    pub(super) fn free_keys(&mut self, slot: Slot) {
        let entry = self.slab[slot].as_ref().expect("the job is there");
        let Some(key) = &entry.extra().unique else {
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

    pub(super) fn expire_never(&mut self, slot: Slot) {
        let extra = self.get_mut(slot).extra.as_mut();
        if let Some(at) = extra.and_then(|extra| extra.expires_at.take()) {
            self.expiring.remove(&(at, slot));
        }
    }

    /// Makes a job that has [failed](Entry::fail) a dead letter.
    pub(super) fn mark_dead(&mut self, slot: Slot, now: Now) {
        self.counts.died += 1;
        self.free_keys(slot);
        self.expire_never(slot);
        let entry = self.get_mut(slot);
        entry.is_suspect = false;
        let order = self.next_order();
        self.move_to(slot, JobState::Dead, (nanos(now.time), order));
    }

    // ── what time does ──────────────────────────────────────────────────────────────────────

    pub(super) fn sweep(&mut self, now: Now) {
        while let Some((rank, slot)) = self.index.first(JobState::Running) {
            if rank.0 > nanos(now.steady) {
                break;
            }
            self.counts.lost_leases += 1;
            self.lose_lease(slot, now);
        }
        while let Some((rank, slot)) = self.index.first(JobState::Delayed) {
            if rank.0 > nanos(now.time) {
                break;
            }
            let entry = self.get(slot);
            let (due, anew) = (entry.due, !entry.keeps_place);
            self.make_ready(slot, due, anew);
        }
        while let Some(&(at, slot)) = self.expiring.first() {
            if at > now.time {
                break;
            }
            self.remove(slot);
            self.counts.expired += 1;
        }
        self.drop_old(now);
        while let Some((at, key)) = self.periods.first() {
            if *at > now.time {
                break;
            }
            // Another job may have the key by now.
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

    /// Ends an attempt, however it ended. Returns whether the job is cancelled if it would go on.
    pub(super) fn end_attempt(&mut self, slot: Slot) -> bool {
        let entry = self.get_mut(slot);
        let is_cancelled = std::mem::take(&mut entry.is_cancelled);
        if let Some(runner) = entry.runner.take() {
            self.runners.remove(runner);
        }
        is_cancelled
    }

    /// B5.
    fn lose_lease(&mut self, slot: Slot, now: Now) {
        if self.end_attempt(slot) {
            return self.remove_by_request(slot);
        }
        let entry = self.get_mut(slot);
        let attempt = entry.attempt;
        let why = format!("the lease of attempt {attempt} ended before the job did");
        entry.fail(why, now);
        entry.attempt -= u32::from(entry.is_together);
        entry.is_suspect = true;
        if entry.attempt >= entry.attempts {
            return self.mark_dead(slot, now);
        }
        self.make_ready(slot, now.time, false);
        self.expire_again(slot);
    }

    /// A job does not expire while it runs, but may when it waits again.
    pub(super) fn expire_again(&mut self, slot: Slot) {
        let entry = self.get_mut(slot);
        if let (None, Some(after)) = (entry.extra().expires_at, entry.extra().expires) {
            let at = entry.enqueued.saturating_add(after);
            entry.extra_mut().expires_at = Some(at);
            self.expiring.insert((at, slot));
        }
    }
}
