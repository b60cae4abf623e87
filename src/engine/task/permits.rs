//! Permits: tasks that a map or a share keeps in the pool. Each says that there is work, none says which.
//!
//! They are all alike, so they are only counted: their owner can take one back without finding it, and the task of
//! one too many is a tombstone then.
//!
//! - K1: `placed` permits hold a place, `unplaced` ones do not. A task counts as the one or the other, as its shared
//!   task says, and is a tombstone when none of its kind is left.
//! - K2: `underway` permits are being handed in; so many unplaced ones are not taken back.
//! - K3: `working` counts the permits that were claimed and are not over, and the threads that do their work without
//!   one.

use crate::engine::task::claimable::Placement;
use crate::engine::task::outcome::Outcome;

/// The owner of permits, as their tasks see it.
pub(crate) trait Permit: Send + Sync {
    /// Claims a permit: takes the right to run or abandon it. `placed` is what its task noted.
    fn claim(&self, placed: bool) -> bool;
    /// Whether a task of that kind is no tombstone.
    fn has(&self, placed: bool) -> bool;
    /// Notes that the task of a permit holds a place from now on; false if the task is a tombstone.
    fn note_place(&self) -> bool;
    /// Does the work of a permit that was claimed; catches its panic. Calls `over` once, with how it ended: when that
    /// returns, the place of its task is free.
    fn run(&self, over: &mut dyn FnMut(Outcome));
    /// The pool discards the task of a permit that was claimed.
    fn abandon(&self);
}

/// The count of the permits of one owner.
#[derive(Default)]
pub(crate) struct Permits {
    placed: usize,
    unplaced: usize,
    underway: usize,
    working: usize,
}

impl Permits {
    /// How many are in the queue or on their way there.
    pub(crate) fn len(&self) -> usize {
        self.placed + self.unplaced
    }

    pub(crate) fn working(&self) -> usize {
        self.working
    }

    pub(crate) fn begin(&mut self) {
        self.working += 1;
    }

    pub(crate) fn end(&mut self) {
        self.working -= 1;
    }

    /// K2: counts a permit that is about to be handed in.
    pub(crate) fn add(&mut self) {
        self.unplaced += 1;
        self.underway += 1;
    }

    /// K2: it was handed in, or refused.
    pub(crate) fn added(&mut self, accepted: bool) {
        self.underway -= 1;
        if !accepted {
            self.unplaced = self.unplaced.saturating_sub(1);
        }
    }

    pub(crate) fn underway(&self) -> usize {
        self.underway
    }

    fn of(&mut self, placement: Placement) -> &mut usize {
        match placement {
            Placement::Placed => &mut self.placed,
            Placement::Unplaced => &mut self.unplaced,
        }
    }

    /// K3: a worker got to the task of a permit.
    pub(crate) fn claim(&mut self, placed: bool) -> bool {
        if !self.has(placed) {
            return false;
        }
        *self.of(if placed {
            Placement::Placed
        } else {
            Placement::Unplaced
        }) -= 1;
        self.working += 1;
        true
    }

    pub(crate) fn has(&self, placed: bool) -> bool {
        (if placed { self.placed } else { self.unplaced }) > 0
    }

    pub(crate) fn note_place(&mut self) -> bool {
        let held = self.unplaced > 0;
        if held {
            self.unplaced -= 1;
            self.placed += 1;
        }
        held
    }

    /// Takes a permit out of the count, if there are more than `wanted`. The pool must be told, by
    /// [`Core::take_back`](crate::engine::core::Core::take_back).
    pub(crate) fn retire(&mut self, wanted: usize) -> Option<Placement> {
        if self.len() <= wanted {
            return None;
        }
        let placement = if self.placed > 0 {
            Placement::Placed
        } else if self.unplaced > self.underway {
            Placement::Unplaced
        } else {
            return None;
        };
        *self.of(placement) -= 1;
        Some(placement)
    }
}
