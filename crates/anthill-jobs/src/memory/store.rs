//! What the broker in memory keeps, and where.
//!
//! A job is in one place of the slab, and in one of the [`lines`](super::lines): that of its state, in the order in which
//! its state wants it. So each step takes as long as the logarithm of what is there.

use super::entry::Entry;
use super::lines::Lines;
use crate::broker::{JobState, Lease, Limits, QueueStats, Scheduled};
use crate::clock::Clock;
use crate::job::JobId;
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
    pub(super) lines: Lines,
    /// Of each key the jobs that wait for their turn or run.
    pub(super) keys: HashMap<String, Keyed>,
    pub(super) expiring: BTreeSet<(Duration, Place)>,
    pub(super) uniques: HashMap<String, Owner>,
    /// Unique keys that time frees.
    pub(super) periods: BTreeSet<(Duration, String)>,
    pub(super) schedules: BTreeMap<String, Scheduled>,
    pub(super) limits: Limits,
    pub(super) rate_kept: Duration,
    /// Jobs were left when the rate allowed no more.
    pub(super) rate_is_behind: bool,
    /// The gauges in it are not kept.
    pub(super) counts: QueueStats,
    pub(super) next_order: u64,
    /// By how much the time is more than the steady clock (B10).
    pub(super) ahead: Duration,
}

/// The jobs with a key.
#[derive(Default)]
pub(super) struct Keyed {
    pub(super) running: usize,
    pub(super) ready: BTreeSet<(Rank, Place)>,
    pub(super) parked: BTreeSet<(Rank, Place)>,
}

impl Keyed {
    pub(super) fn is_empty(&self) -> bool {
        self.running == 0 && self.ready.is_empty() && self.parked.is_empty()
    }
}

/// Who has a unique key.
pub(super) struct Owner {
    pub(super) id: JobId,
    /// Not free before its job is over.
    pub(super) is_held: bool,
    /// Not free before then.
    pub(super) until: Option<Duration>,
}

/// The clocks at the start of a call.
#[derive(Clone, Copy)]
pub(super) struct Now {
    /// The wall clock, but that it never goes back (B10).
    pub(super) time: Duration,
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
    pub(super) fn now(&mut self, clock: &Clock) -> Now {
        let steady = clock.steady().since;
        self.ahead = self.ahead.max(clock.wall().saturating_sub(steady));
        Now {
            time: steady.saturating_add(self.ahead),
            steady,
        }
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
