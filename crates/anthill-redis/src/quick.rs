//! When the quick scripts are asked first: `add`, `take` and `done`, which do what most calls need, and answer zero where another
//! script has to.
//!
//! - QU1. A quick script that answers zero has done nothing.
//! - QU2. After [`TRIES`] zeros in a row it is not asked for [`PAUSE`]: a queue with limits, say, would pay two calls for one.

use crate::sync::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

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
        let chance = || Chance {
            is_used,
            state: Mutex::default(),
        };
        Quick {
            add: chance(),
            take: chance(),
            done: chance(),
        }
    }
}

/// Whether a quick script is asked.
pub(crate) struct Chance {
    is_used: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Zeros in a row.
    zeros: u32,
    not_before: Option<Instant>,
}

impl Chance {
    pub(crate) fn is_good(&self) -> bool {
        self.is_used && {
            let state = lock(&self.state);
            state.not_before.is_none_or(|at| Instant::now() >= at)
        }
    }

    pub(crate) fn learn(&self, is_done: bool) {
        let mut state = lock(&self.state);
        if is_done {
            *state = State::default();
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
        let chance = &quick.take;
        for _ in 0..TRIES {
            assert!(chance.is_good());
            chance.learn(false);
        }
        assert!(!chance.is_good() && quick.add.is_good());
        chance.learn(true);
        assert!(chance.is_good());
        assert!(!Quick::new(false).done.is_good());
    }
}
