//! Tasks that a map or a share keeps in the pool: each says that there is work to be had, none says which.
//!
//! They are all alike, so they are only counted: whoever owns them can take one back without finding it.
//! The task of one too many is a tombstone then.
//!
//! - K1: `placed` permits hold a place, `loose` ones do not. A task counts as the one or the other, as its
//!   shared task says, and is a tombstone when there is none left of its kind.
//! - K2: `underway` permits are being handed in; so many loose ones are not taken back.
//! - K3: `working` counts those that were claimed and are not over, and whoever does their work himself.

use crate::engine::task::Outcome;
use crate::engine::task::claimable::Spot;

/// Who owns permits, as their tasks see him.
pub(crate) trait Permit: Send + Sync {
    /// Takes the right to run or abandon one. `placed` is what its task noted.
    fn claim(&self, placed: bool) -> bool;
    /// Whether a task of that kind is no tombstone.
    fn has(&self, placed: bool) -> bool;
    /// Notes that a task of one holds a place from now on; false if the task is a tombstone.
    fn hold_place(&self) -> bool;
    /// Does the work of one that was claimed; catches what it panics with. Calls `over` once, with how it ended:
    /// when that returns, the place of its task is free.
    fn run(&self, over: &mut dyn FnMut(Outcome));
    /// The pool discards one that was claimed.
    fn abandon(&self);
}

#[derive(Default)]
pub(crate) struct Permits {
    placed: usize,
    loose: usize,
    underway: usize,
    working: usize,
}

impl Permits {
    /// How many are on their way.
    pub(crate) fn len(&self) -> usize {
        self.placed + self.loose
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

    /// K2: one more is about to be handed in.
    pub(crate) fn add(&mut self) {
        self.loose += 1;
        self.underway += 1;
    }

    /// K2: it was handed in, or not.
    pub(crate) fn added(&mut self, accepted: bool) {
        self.underway -= 1;
        if !accepted {
            self.loose = self.loose.saturating_sub(1);
        }
    }

    pub(crate) fn underway(&self) -> usize {
        self.underway
    }

    fn of(&mut self, spot: Spot) -> &mut usize {
        match spot {
            Spot::Placed => &mut self.placed,
            Spot::Loose => &mut self.loose,
        }
    }

    /// K3: a worker got to one.
    pub(crate) fn claim(&mut self, placed: bool) -> bool {
        if !self.has(placed) {
            return false;
        }
        *self.of(if placed { Spot::Placed } else { Spot::Loose }) -= 1;
        self.working += 1;
        true
    }

    pub(crate) fn has(&self, placed: bool) -> bool {
        (if placed { self.placed } else { self.loose }) > 0
    }

    pub(crate) fn hold_place(&mut self) -> bool {
        let held = self.loose > 0;
        if held {
            self.loose -= 1;
            self.placed += 1;
        }
        held
    }

    /// Takes one back, if there are more than `wanted`; to be given to
    /// [`Core::take_back`](super::Core::take_back).
    pub(crate) fn retire(&mut self, wanted: usize) -> Option<Spot> {
        if self.len() <= wanted {
            return None;
        }
        let spot = if self.placed > 0 {
            Spot::Placed
        } else if self.loose > self.underway {
            Spot::Loose
        } else {
            return None;
        };
        *self.of(spot) -= 1;
        Some(spot)
    }
}
