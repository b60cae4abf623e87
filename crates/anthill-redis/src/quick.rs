//! When the quick scripts are asked first: `add`, `take` and `done`, which do what most calls need, and answer zero where another
//! script has to.
//!
//! - QU1. A quick script that answers zero has done nothing.
//! - QU2. `take` is asked only shortly after another claim. After [`TIDY`] there is something to be tidied up, which it cannot.
//! - QU3. After [`TRIES`] zeros in a row it is not asked for [`PAUSE`]: a queue with limits, say, would pay two calls for one.

use crate::sync::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often the scripts tidy up.
const TIDY: Duration = Duration::from_millis(200);

const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// For each of the quick scripts.
pub(crate) struct Quick {
    pub(crate) add: Chance,
    pub(crate) take: Chance,
    pub(crate) done: Chance,
}

impl Quick {
    pub(crate) fn new(is_used: bool) -> Quick {
        let chance = |within| Chance {
            is_used,
            within,
            state: Mutex::default(),
        };
        Quick {
            add: chance(None),
            take: chance(Some(TIDY)),
            done: chance(None),
        }
    }
}

/// Whether a quick script is asked.
pub(crate) struct Chance {
    is_used: bool,
    /// It is asked only so shortly after the last time that it might have been.
    within: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    /// Zeros in a row.
    zeros: u32,
    not_before: Option<Instant>,
}

impl Chance {
    pub(crate) fn is_good(&self) -> bool {
        if !self.is_used {
            return false;
        }
        let now = Instant::now();
        let mut state = lock(&self.state);
        let last = state.last.replace(now);
        let is_soon =
            |within| last.is_some_and(|last| now.saturating_duration_since(last) < within);
        self.within.is_none_or(is_soon) && state.not_before.is_none_or(|at| now >= at)
    }

    pub(crate) fn learn(&self, is_done: bool) {
        let mut state = lock(&self.state);
        if is_done {
            (state.zeros, state.not_before) = (0, None);
        } else {
            state.zeros += 1;
            if state.zeros >= TRIES {
                state.not_before = Some(Instant::now() + PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_does_nothing_three_times_is_not_asked_for_a_while() {
        let quick = Quick::new(true);
        let chance = &quick.done;
        for _ in 0..TRIES {
            assert!(chance.is_good());
            chance.learn(false);
        }
        assert!(!chance.is_good() && quick.add.is_good());
        chance.learn(true);
        assert!(chance.is_good());
        assert!(!Quick::new(false).done.is_good());
    }

    #[test]
    fn a_claim_after_a_pause_is_not_a_quick_one() {
        let quick = Quick::new(true);
        assert!(!quick.take.is_good(), "it is the first one");
        lock(&quick.take.state).last = Instant::now().checked_sub(2 * TIDY);
        assert!(!quick.take.is_good());
        lock(&quick.take.state).last = Some(Instant::now());
        assert!(quick.take.is_good());
    }
}
