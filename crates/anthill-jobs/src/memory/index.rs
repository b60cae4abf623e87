//! An index of the jobs of each state, in the order of the state. Ready jobs are indexed by kind, so that a claim finds the
//! first job of its kinds whatever else waits.

use crate::broker::JobState;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

pub(super) type Slot = usize;

/// The place of a job in the order of its state: what the state orders by, and then the order of enqueues.
pub(super) type Rank = (i64, u64);

#[derive(Default)]
pub(super) struct StateIndex {
    /// By [`JobState::ALL`]; that of ready jobs is empty, as they are in `ready`.
    states: [BTreeMap<Rank, Slot>; 6],
    ready: Vec<Kind>,
    ready_len: usize,
    numbers: HashMap<Cow<'static, str>, u32>,
}

struct Kind {
    name: Cow<'static, str>,
    jobs: BTreeMap<Rank, Slot>,
}

impl StateIndex {
    /// The number of a kind, which is given to it when it is first seen.
    pub(super) fn number(&mut self, kind: Cow<'static, str>) -> u32 {
        if let Some(&number) = self.numbers.get(&kind) {
            return number;
        }
        let number = u32::try_from(self.ready.len()).unwrap_or(u32::MAX);
        self.ready.push(Kind {
            name: kind.clone(),
            jobs: BTreeMap::new(),
        });
        self.numbers.insert(kind, number);
        number
    }

    pub(super) fn known(&self, kind: &str) -> Option<u32> {
        self.numbers.get(kind).copied()
    }

    pub(super) fn name(&self, kind: u32) -> &Cow<'static, str> {
        &self.ready[kind as usize].name
    }

    fn jobs(&mut self, state: JobState, kind: u32) -> &mut BTreeMap<Rank, Slot> {
        match state {
            JobState::Ready => &mut self.ready[kind as usize].jobs,
            _ => &mut self.states[number(state)],
        }
    }

    pub(super) fn insert(&mut self, state: JobState, kind: u32, rank: Rank, slot: Slot) {
        self.jobs(state, kind).insert(rank, slot);
        self.ready_len += usize::from(state == JobState::Ready);
    }

    pub(super) fn remove(&mut self, state: JobState, kind: u32, rank: Rank) {
        self.jobs(state, kind).remove(&rank);
        self.ready_len -= usize::from(state == JobState::Ready);
    }

    pub(super) fn len(&self, state: JobState) -> usize {
        match state {
            JobState::Ready => self.ready_len,
            _ => self.states[number(state)].len(),
        }
    }

    /// The first job in a state other than ready.
    pub(super) fn first(&self, state: JobState) -> Option<(Rank, Slot)> {
        let first = self.states[number(state)].first_key_value();
        first.map(|(&rank, &slot)| (rank, slot))
    }

    /// The first job in a state other than ready behind a rank.
    pub(super) fn first_behind(&self, state: JobState, rank: Rank) -> Option<(Rank, Slot)> {
        let behind = (Bound::Excluded(rank), Bound::Unbounded);
        let first = self.states[number(state)].range(behind).next();
        first.map(|(&rank, &slot)| (rank, slot))
    }

    /// The first ready job, of the kinds with these numbers or of any.
    pub(super) fn first_ready(&self, kinds: Option<&[u32]>) -> Option<Slot> {
        let first = |kind: &Kind| {
            kind.jobs
                .first_key_value()
                .map(|(&rank, &slot)| (rank, slot))
        };
        let first = match kinds {
            None => self.ready.iter().filter_map(first).min(),
            Some(kinds) => {
                let kinds = kinds.iter().map(|&kind| &self.ready[kind as usize]);
                kinds.filter_map(first).min()
            }
        };
        first.map(|(_, slot)| slot)
    }

    pub(super) fn ready_kinds(&self) -> impl Iterator<Item = &str> {
        let some = self.ready.iter().filter(|kind| !kind.jobs.is_empty());
        some.map(|kind| &*kind.name)
    }

    /// All jobs in a state behind a rank, in the order of the state.
    pub(super) fn all(
        &self,
        state: JobState,
        after: Option<Rank>,
    ) -> Box<dyn Iterator<Item = Slot> + '_> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (from, Bound::Unbounded);
        if state != JobState::Ready {
            let jobs = self.states[number(state)].range(range);
            return Box::new(jobs.map(|(_, &slot)| slot));
        }
        let mut heads: Vec<_> = self
            .ready
            .iter()
            .map(|kind| kind.jobs.range(range).peekable())
            .collect();
        Box::new(std::iter::from_fn(move || {
            let ranks = heads.iter_mut().enumerate();
            let ranks = ranks.filter_map(|(kind, head)| Some((head.peek()?.0, kind)));
            let (_, kind) = ranks.min()?;
            heads[kind].next().map(|(_, &slot)| slot)
        }))
    }
}

fn number(state: JobState) -> usize {
    JobState::ALL
        .iter()
        .position(|&each| each == state)
        .unwrap_or_default()
}
