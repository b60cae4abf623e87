//! Whether to do what mostly pays and is expensive where it does not, learnt from how it went.
//!
//! A loss adds doubt, a gain takes a little away. With too much doubt there is no trust for a number of occasions,
//! which doubles each time that trust is lost again.

use crate::sync::{CounterU64, Ordering};

/// `| occasions to pass by: 48 | how often that doubled: 8 | doubt: 8 |`
pub(crate) struct Trust(CounterU64);

const LOSS: u64 = 16;
/// With so much doubt there is no trust.
const NONE: u64 = 64;
const PASSED_BY: u64 = 64;
const MOST_DOUBLINGS: u64 = 10;

const DOUBLING: u64 = 1 << 8;
const OCCASION: u64 = 1 << 16;

impl Default for Trust {
    /// Full trust.
    fn default() -> Trust {
        Trust(CounterU64::new(0))
    }
}

impl Trust {
    /// Whether to do it; asked at each occasion.
    pub(crate) fn is_given(&self) -> bool {
        // ORDERING: Relaxed, here and below: a guess.
        let state = self.0.load(Ordering::Relaxed);
        if state < OCCASION {
            return true;
        }
        self.0.store(state - OCCASION, Ordering::Relaxed);
        false
    }

    /// Learns whether it paid.
    pub(crate) fn learn(&self, paid: bool) {
        let state = self.0.load(Ordering::Relaxed);
        self.0.store(after(state, paid), Ordering::Relaxed);
    }
}

/// What a pool on a single processor has learnt.
#[derive(Default)]
pub(crate) struct SingleProcessor {
    /// Y5: whether a deferred wake of the first worker is made by another thread in time.
    pub(crate) first_wake: Trust,
    /// Whether to yield is cheap, as no other process wants the processor.
    pub(crate) yielding: Trust,
}

fn after(state: u64, paid: bool) -> u64 {
    let (doubt, doublings) = (state % DOUBLING, state % OCCASION / DOUBLING);
    match (paid, doubt) {
        (true, 0) => 0,
        (true, _) => state - 1,
        (false, _) if doubt + LOSS < NONE => state + LOSS,
        // After that, a single loss is enough.
        (false, _) => {
            let more = (doublings + 1).min(MOST_DOUBLINGS);
            (PASSED_BY << doublings) * OCCASION + more * DOUBLING + NONE - LOSS
        }
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn trust_is_lost_after_a_few_times_and_tried_ever_more_seldom() {
        let trust = Trust::default();
        for _ in 0..4 {
            assert!(trust.is_given());
            trust.learn(false);
        }
        let mut passed_by = Vec::new();
        for _ in 0..12 {
            passed_by.push((0..1 << 20).take_while(|_| !trust.is_given()).count());
            trust.learn(false);
        }
        assert_eq!(passed_by[..4], [64, 128, 256, 512]);
        assert_eq!(passed_by[11], 64 << 10);
    }

    #[test]
    fn trust_is_regained() {
        let trust = Trust::default();
        for _ in 0..5 {
            trust.learn(false);
        }
        while !trust.is_given() {}
        for _ in 0..=NONE {
            trust.learn(true);
        }
        for _ in 0..3 {
            trust.learn(false);
            assert!(trust.is_given(), "as at first");
        }
    }

    #[test]
    fn a_rare_loss_costs_no_trust() {
        let trust = Trust::default();
        for tick in 0..1_000 {
            trust.learn(tick % 20 > 0);
            assert!(trust.is_given());
        }
    }
}
