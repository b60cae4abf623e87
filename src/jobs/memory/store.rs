//! What the broker in memory keeps, and where.
//!
//! A job is in one place of the slab, and in one of the `lines`: that of its state, in the order in which its state
//! wants it. So each step takes as long as the logarithm of what is there.

use super::entry::Entry;
use crate::jobs::broker::{JobState, Lease, Limits, QueueStats, Scheduled};
use crate::jobs::job::JobId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

pub(super) type Place = usize;

/// Where in the line of its state a job is: what the state orders by, and then in the order of enqueues.
pub(super) type Rank = (i64, u64);

#[derive(Default)]
pub(super) struct Store {
    pub(super) slab: Vec<Option<Box<Entry>>>,
    pub(super) free: Vec<Place>,
    /// Ordered: ids are as a rule made, and done with, in their order, so what is next is near.
    pub(super) ids: BTreeMap<JobId, Place>,
    /// By [`JobState::ALL`].
    pub(super) lines: [BTreeMap<Rank, Place>; 6],
    /// Of each key that is at its limit those that are parked.
    pub(super) parked: HashMap<String, BTreeSet<(Rank, Place)>>,
    pub(super) running_of: HashMap<String, u32>,
    pub(super) expiring: BTreeSet<(Duration, Place)>,
    pub(super) uniques: HashMap<String, Owner>,
    /// Unique keys that time frees.
    pub(super) periods: BTreeSet<(Duration, String)>,
    pub(super) schedules: BTreeMap<String, Scheduled>,
    pub(super) limits: Limits,
    pub(super) rate_kept: Duration,
    /// The gauges in it are not kept.
    pub(super) counts: QueueStats,
    pub(super) next_order: u64,
}

/// Who has a unique key.
pub(super) struct Owner {
    pub(super) id: JobId,
    /// Else it is free when the job is over.
    pub(super) until: Option<Duration>,
}

/// The clocks at the start of a call.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) wall: Duration,
    pub(super) steady: Duration,
}

pub(super) fn line(state: JobState) -> usize {
    JobState::ALL
        .iter()
        .position(|&each| each == state)
        .unwrap_or_default()
}

/// In three centuries at most.
pub(super) fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

impl Store {
    pub(super) fn line(&self, state: JobState) -> &BTreeMap<Rank, Place> {
        &self.lines[line(state)]
    }

    pub(super) fn first(&self, state: JobState) -> Option<(Rank, Place)> {
        let first = self.line(state).first_key_value();
        first.map(|(&rank, &place)| (rank, place))
    }

    pub(super) fn entry(&mut self, place: Place) -> &mut Entry {
        self.slab[place]
            .as_mut()
            .expect("what a line names is there")
    }

    pub(super) fn peek(&self, place: Place) -> &Entry {
        self.slab[place]
            .as_ref()
            .expect("what a line names is there")
    }

    pub(super) fn find(&self, id: JobId) -> Option<Place> {
        self.ids.get(&id).copied()
    }

    /// The place of a job that runs under that lease (B4).
    pub(super) fn holder(&self, lease: Lease) -> Option<Place> {
        let place = usize::try_from(lease.place).ok()?;
        let entry = self.slab.get(place)?.as_ref()?;
        let holds = entry.id == lease.id && entry.claims == lease.claim;
        (holds && entry.state == JobState::Running).then_some(place)
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }
}
