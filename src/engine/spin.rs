//! How often a submitter looks for room before it gets in line.
//!
//! Until it is in line it waits for nothing, so nobody can overtake it; where tasks are short this is what
//! spares it the line, and a wake. Where they are long it would only keep a processor from them. So it
//! looks as often as was worth it of late: twice as often after it found room, an eighth less after it did not. Where
//! it hardly looks any more it tries now and then for as long as it may, since tasks may be shorter now.

use crate::sync::{CounterU64, Ordering, Processors, spin_loop};

const MOST: u64 = 200;
const LEAST: u64 = 16;

/// What a look showed.
pub(crate) enum Probe {
    Full,
    Room,
    /// It tells nothing of how long room takes to come, and more of them are to no avail.
    Over,
}

/// The looks of the next submitter; from `LEAST` down it counts those until the next long try, at 0. Read and written as a
/// whole; who is late with what it learnt spoils nothing.
pub(crate) struct AdaptiveSpin {
    state: CounterU64,
    processors: Processors,
}

impl AdaptiveSpin {
    pub(crate) fn new(processors: Processors) -> AdaptiveSpin {
        AdaptiveSpin {
            state: CounterU64::new(MOST),
            processors,
        }
    }

    /// Calls `look` again and again while all is full, or until that was often enough.
    pub(crate) fn while_full(&self, mut look: impl FnMut() -> Probe) {
        // ORDERING: Relaxed: a guess.
        let state = self.state.load(Ordering::Relaxed);
        let turns = self.processors.spins(turns(state));
        if turns == 0 {
            return;
        }
        let mut found = false;
        for _ in 0..turns {
            spin_loop();
            match look() {
                Probe::Full => {}
                Probe::Room => {
                    found = true;
                    break;
                }
                Probe::Over => return,
            }
        }
        let next = after(state, found);
        if next != state {
            // ORDERING: Relaxed: a guess.
            self.state.store(next, Ordering::Relaxed);
        }
    }
}

fn turns(state: u64) -> u32 {
    let turns = match state {
        0 => MOST,
        looks => looks.max(LEAST),
    };
    u32::try_from(turns).expect("a small number")
}

fn after(state: u64, found: bool) -> u64 {
    match state {
        _ if found => MOST.min(2 * u64::from(turns(state))),
        0 => LEAST,
        looks if looks > LEAST => LEAST.max(looks - looks / 8),
        looks => looks - 1,
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn looks_less_where_it_is_in_vain_and_soon_more_where_it_is_not() {
        let mut state = MOST;
        let mut in_vain = || {
            state = after(state, false);
            turns(state)
        };
        let first: Vec<_> = (0..4).map(|_| in_vain()).collect();
        assert_eq!(first, [175, 154, 135, 119]);
        let least = (0..100).map(|_| in_vain()).min();
        assert_eq!(least, Some(16));
        let mut found = LEAST;
        let more = [(); 5].map(|()| {
            found = after(found, true);
            turns(found)
        });
        assert_eq!(more, [32, 64, 128, 200, 200]);
    }

    #[test]
    fn tries_for_long_now_and_then() {
        let mut state = LEAST;
        let mut looks = Vec::new();
        for _ in 0..40 {
            looks.push(turns(state));
            state = after(state, false);
        }
        let tries = looks.iter().filter(|looks| **looks == 200).count();
        assert_eq!((tries, looks[16], looks[33]), (2, 200, 200), "{looks:?}");
        assert_eq!(
            after(0, true),
            MOST,
            "and it stays so where that is worth it"
        );
    }

    #[test]
    fn looks_until_there_is_room_and_learns_only_of_that() {
        let looks = AdaptiveSpin::new(Processors::TWO);
        let count = |last: fn(u32) -> Probe| {
            let mut calls = 0;
            looks.while_full(|| {
                calls += 1;
                last(calls)
            });
            calls
        };
        let over = |call| if call == 5 { Probe::Over } else { Probe::Full };
        let room = |call| if call == 7 { Probe::Room } else { Probe::Full };
        assert_eq!((count(over), count(room)), (5, 7));
        assert_eq!(count(|_| Probe::Full), 200);
        assert_eq!(count(|_| Probe::Full), 175);
    }

    #[test]
    fn does_not_look_on_a_single_processor() {
        AdaptiveSpin::new(Processors::SINGLE).while_full(|| unreachable!());
    }
}
