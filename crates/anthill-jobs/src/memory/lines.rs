//! The jobs of each state in the order in which the state wants them; those that are ready once more by their kinds, so
//! that a claim finds the first of the kinds that it asks for whatever else waits.

use super::store::{Place, Rank, line};
use crate::broker::JobState;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

#[derive(Default)]
pub(super) struct Lines {
    /// By [`JobState::ALL`]; that of the ready is empty, as they are in `ready`.
    states: [BTreeMap<Rank, Place>; 6],
    ready: Vec<Kind>,
    ready_len: usize,
    numbers: HashMap<Cow<'static, str>, u32>,
}

struct Kind {
    name: Cow<'static, str>,
    line: BTreeMap<Rank, Place>,
}

impl Lines {
    /// The number of a kind, which it keeps.
    pub(super) fn number(&mut self, kind: Cow<'static, str>) -> u32 {
        if let Some(&number) = self.numbers.get(&kind) {
            return number;
        }
        let number = u32::try_from(self.ready.len()).unwrap_or(u32::MAX);
        self.ready.push(Kind {
            name: kind.clone(),
            line: BTreeMap::new(),
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

    fn line(&mut self, state: JobState, kind: u32) -> &mut BTreeMap<Rank, Place> {
        match state {
            JobState::Ready => &mut self.ready[kind as usize].line,
            _ => &mut self.states[line(state)],
        }
    }

    pub(super) fn insert(&mut self, state: JobState, kind: u32, rank: Rank, place: Place) {
        self.line(state, kind).insert(rank, place);
        self.ready_len += usize::from(state == JobState::Ready);
    }

    pub(super) fn remove(&mut self, state: JobState, kind: u32, rank: Rank) {
        self.line(state, kind).remove(&rank);
        self.ready_len -= usize::from(state == JobState::Ready);
    }

    pub(super) fn len(&self, state: JobState) -> usize {
        match state {
            JobState::Ready => self.ready_len,
            _ => self.states[line(state)].len(),
        }
    }

    /// The first in a state other than ready.
    pub(super) fn first(&self, state: JobState) -> Option<(Rank, Place)> {
        let first = self.states[line(state)].first_key_value();
        first.map(|(&rank, &place)| (rank, place))
    }

    /// The first that is ready, of the kinds with these numbers or of any.
    pub(super) fn first_ready(&self, kinds: Option<&[u32]>) -> Option<Place> {
        let first = |kind: &Kind| {
            kind.line
                .first_key_value()
                .map(|(&rank, &place)| (rank, place))
        };
        let first = match kinds {
            None => self.ready.iter().filter_map(first).min(),
            Some(kinds) => {
                let kinds = kinds.iter().map(|&kind| &self.ready[kind as usize]);
                kinds.filter_map(first).min()
            }
        };
        first.map(|(_, place)| place)
    }

    pub(super) fn ready_kinds(&self) -> impl Iterator<Item = &str> {
        let some = self.ready.iter().filter(|kind| !kind.line.is_empty());
        some.map(|kind| &*kind.name)
    }

    /// All in a state, in its order; behind a rank.
    pub(super) fn all(
        &self,
        state: JobState,
        after: Option<Rank>,
    ) -> Box<dyn Iterator<Item = Place> + '_> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (from, Bound::Unbounded);
        if state != JobState::Ready {
            let line = self.states[line(state)].range(range);
            return Box::new(line.map(|(_, &place)| place));
        }
        let mut heads: Vec<_> = self
            .ready
            .iter()
            .map(|kind| kind.line.range(range).peekable())
            .collect();
        Box::new(std::iter::from_fn(move || {
            let ranks = heads.iter_mut().enumerate();
            let ranks = ranks.filter_map(|(kind, head)| Some((head.peek()?.0, kind)));
            let (_, kind) = ranks.min()?;
            heads[kind].next().map(|(_, &place)| place)
        }))
    }
}
