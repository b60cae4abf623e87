//! Operations on request: jobs removed, retried, or made due. Under the broker's lock.

use super::index::Slot;
use super::store::{KeyOwner, Store};
use super::time::Now;
use crate::broker::{JobInfo, JobState};
use crate::id::JobId;
use std::time::Duration;

impl Store {
    pub(super) fn retry_dead(&mut self, id: JobId, now: Now) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        let entry = self.get(slot);
        if entry.state != JobState::Dead {
            return false;
        }
        if let Some(key) = entry.extra().unique.clone() {
            match self.uniques.get_mut(&key) {
                // The job's own period holds it.
                Some(owner) if owner.id == id => owner.is_held = true,
                Some(_) => return false,
                None => {
                    let owner = KeyOwner {
                        id,
                        is_held: true,
                        until: None,
                    };
                    self.uniques.insert(key, owner);
                }
            }
        }
        let entry = self.get_mut(slot);
        entry.attempt = 0;
        // An operator wants it to run, whenever it expired.
        if let Some(extra) = &mut entry.extra {
            extra.expires = None;
        }
        self.make_ready(slot, now.time, true);
        true
    }

    /// Notes that a running job is to be cancelled. Returns whether it runs.
    pub(super) fn cancel_running(&mut self, id: JobId) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        let entry = self.get_mut(slot);
        entry.is_cancelled = entry.state == JobState::Running;
        entry.is_cancelled
    }

    /// Makes a waiting job due. Returns whether it waited.
    pub(super) fn set_due(&mut self, id: JobId, delay: Duration, now: Now) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        let entry = self.get_mut(slot);
        let is_delayed = entry.state == JobState::Delayed;
        if !JobState::WAITING.contains(&entry.state) {
            return false;
        }
        if !delay.is_zero() {
            entry.keeps_place |= !is_delayed;
            self.make_delayed(slot, delay, now);
        } else if is_delayed {
            let anew = !entry.keeps_place;
            self.make_ready(slot, now.time, anew);
        }
        true
    }

    /// Removes a job that waits or is dead, if it is unchanged. Returns whether it was removed.
    pub(super) fn remove_unchanged(&mut self, job: &JobInfo) -> bool {
        let Some(slot) = self.find(job.id) else {
            return false;
        };
        let entry = self.get(slot);
        let is_it = entry.payload == job.payload && *self.index.name(entry.kind) == job.kind;
        let may = is_it && !matches!(entry.state, JobState::Running | JobState::Done);
        if may {
            self.remove_by_request(slot);
        }
        may
    }

    /// Removes a job by request, which is counted.
    pub(super) fn remove_by_request(&mut self, slot: Slot) {
        self.remove(slot);
        self.counts.removed += 1;
    }
}
