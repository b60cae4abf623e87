//! The data of the broker in memory: a slab of jobs, and indexes into it.
//!
//! A job has one slot of the slab, and one entry in the [`index`](super::index) of its state. So each step takes time
//! logarithmic in the number of jobs.

use super::consumers::{Announced, Runners};
use super::entry::Entry;
use super::index::{Rank, Slot, StateIndex};
use super::time::Now;
use crate::broker::{JobState, Lease, Limits, QueueStats, Retention, Scheduled};
use crate::clock::Clock;
use crate::id::JobId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

#[derive(Default)]
pub(super) struct Store {
    pub(super) slab: Vec<Option<Box<Entry>>>,
    pub(super) free: Vec<Slot>,
    /// Ordered, because ids are usually made and finished in order: the next one is near the last.
    pub(super) ids: BTreeMap<JobId, Slot>,
    pub(super) index: StateIndex,
    /// For each key, the jobs that are ready, parked or running.
    pub(super) keys: HashMap<String, KeyJobs>,
    pub(super) expiring: BTreeSet<(Duration, Slot)>,
    pub(super) uniques: HashMap<String, KeyOwner>,
    /// Unique keys, by the time at which their period ends.
    pub(super) periods: BTreeSet<(Duration, String)>,
    pub(super) schedules: BTreeMap<String, Scheduled>,
    pub(super) runners: Runners,
    pub(super) consumers: BTreeMap<String, Announced>,
    pub(super) limits: Limits,
    pub(super) retention: Retention,
    pub(super) rate_kept: Duration,
    /// Ready jobs were left when the rate limit allowed no more.
    pub(super) rate_is_behind: bool,
    /// Counts since the queue was made; the gauges in it are not used.
    pub(super) counts: QueueStats,
    pub(super) next_order: u64,
    /// By how much the time is ahead of the steady clock (B10).
    pub(super) ahead: Duration,
}

/// The jobs with one key.
#[derive(Default)]
pub(super) struct KeyJobs {
    pub(super) running: usize,
    pub(super) ready: BTreeSet<(Rank, Slot)>,
    pub(super) parked: BTreeSet<(Rank, Slot)>,
}

impl KeyJobs {
    pub(super) fn is_empty(&self) -> bool {
        self.running == 0 && self.ready.is_empty() && self.parked.is_empty()
    }
}

/// The job that has a unique key.
pub(super) struct KeyOwner {
    pub(super) id: JobId,
    /// The key is taken until the job is over.
    pub(super) is_held: bool,
    /// The key is taken until then.
    pub(super) until: Option<Duration>,
}

impl Store {
    pub(super) fn now(&mut self, clock: &Clock) -> Now {
        let steady = clock.steady().since;
        self.ahead = self.ahead.max(clock.wall().saturating_sub(steady));
        Now {
            time: steady.saturating_add(self.ahead),
            steady,
        }
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Entry {
        self.slab[slot].as_mut().expect("an indexed job is there")
    }

    pub(super) fn get(&self, slot: Slot) -> &Entry {
        self.slab[slot].as_ref().expect("an indexed job is there")
    }

    pub(super) fn find(&self, id: JobId) -> Option<Slot> {
        self.ids.get(&id).copied()
    }

    /// The slot of the job that runs under this lease (B4).
    pub(super) fn slot_of_lease(&self, lease: &Lease) -> Option<Slot> {
        let (slot, claim) = parts(lease)?;
        let entry = self.slab.get(slot)?.as_ref()?;
        let holds = entry.id == lease.id() && entry.claims == claim;
        (holds && entry.state == JobState::Running).then_some(slot)
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }
}

/// A token is the job's slot, and the number of the claim: each claim of the job has a higher one.
pub(super) fn lease(id: JobId, slot: Slot, claim: u64) -> Lease {
    let mut token = [0; 16];
    token[..8].copy_from_slice(&(slot as u64).to_le_bytes());
    token[8..].copy_from_slice(&claim.to_le_bytes());
    Lease::new(id, &token)
}

fn parts(lease: &Lease) -> Option<(Slot, u64)> {
    let token: [u8; 16] = lease.token().try_into().ok()?;
    let (slot, claim) = token.split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
    Some((usize::try_from(number(slot)?).ok()?, number(claim)?))
}
