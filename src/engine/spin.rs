//! How long threads spin or yield before they sleep: every such wait of the crate, with its length and the reason.
//!
//! A *turn* is a pause of the processor and a look; a *yield* gives the processor to another thread first. All of it is
//! spent only where it pays: on a single processor nobody spins ([`Processors::spins`]), and a thread spins for work or
//! for room only while the active workers fit the processors.
//!
//! | who waits | for what | how long |
//! |---|---|---|
//! | a submitter | room | [`AdaptiveSpin`]: 16 to 200 turns, as it paid of late |
//! | who queued a task | the workers that are up, before it wakes one more | [`CATCH_UP`] |
//! | a free worker, one at a time | the next task | [`Search`] |
//! | a worker after [`STREAK`] single tasks | a batch | [`GATHER`] |
//! | `wait_idle` | a moment of rest | [`REST`] |
//! | `join` | the result | [`JOIN`] |
//! | the caller and the runners of a map with short items | results, items | [`LINGERS`] |
//! | anybody | another thread's next few instructions | [`until_step`] |
//!
//! docs/benchmarks.md has the rows that each of them was measured by.

use crate::sync::{CounterU64, Ordering, Processors, elapsed, now, spin_loop, yield_now, yields};
use std::time::Duration;

/// The workers that are up get to a task in less time than it takes to wake one more: a wake costs 5 us and more.
pub(crate) const CATCH_UP: u32 = 20;

/// A pool that is about to be at rest is so within a few hundred turns; to sleep and be woken costs more.
pub(crate) const REST: u32 = 200;

/// As [`REST`], for a short task that runs already.
pub(crate) const JOIN: u32 = 200;

/// Where the items of a map are short: yields of a runner that waits for items, and of the caller that waits for
/// results, before they sleep.
pub(crate) const LINGERS: u32 = 30;

/// Tasks that come one by one, each just as the last one is done, are fetched from under the submitter's hands, to the
/// loss of both: after so many in a row a worker of a pool with an unbounded backlog pauses for [`GATHER`] turns, and
/// then finds a batch.
pub(crate) const STREAK: u32 = 4;
pub(crate) const GATHER: u32 = 200;

/// A thread that yields and runs again only after that long gave its processor to another process.
const DEAR: Duration = Duration::from_micros(50);

/// Pauses for so many turns.
pub(crate) fn pause(turns: u32) {
    (0..turns).for_each(|_| spin_loop());
}

/// Looks whether `is_so`, for so many turns; whether it was.
pub(crate) fn turns_until(turns: u32, mut is_so: impl FnMut() -> bool) -> bool {
    (0..turns).any(|_| {
        spin_loop();
        is_so()
    })
}

/// Yields until `is_so`, [`LINGERS`] times at most; whether it was.
pub(crate) fn linger_until(mut is_so: impl FnMut() -> bool) -> bool {
    (0..yields(LINGERS)).any(|_| {
        yield_now();
        is_so()
    })
}

/// Waits until another thread, which waits for nothing itself, has done its next step.
pub(crate) fn until_step(mut is_done: impl FnMut() -> bool) {
    while !is_done() {
        yield_now();
    }
}

/// Yields once; whether that was cheap, as no other process wanted the processor.
pub(crate) fn yield_cheaply() -> bool {
    let begun = now();
    yield_now();
    elapsed(begun) < DEAR
}

/// What a free worker does from one look for work to the next, until it rests.
///
/// It pauses for one turn, then two, four, up to 16: so it finds more than one task if they come fast, and disturbs
/// nobody. Where no submitter waits for it (an unbounded backlog) it looks a few times more and yields before each:
/// its processor may be the very one that a submitter wants, as threads that wake one another end up on the same one.
/// These are all its looks on a single processor.
pub(crate) struct Search {
    looks: u32,
    spinning: u32,
    most: u32,
}

/// What to do before the next look.
pub(crate) enum Between {
    Pause(u32),
    Yield,
}

impl Search {
    const LOOKS: u32 = 40;
    const MOST_PAUSES: u32 = 16;
    const YIELDS: u32 = 8;
    /// A submitter that the worker let in from the line, and that has not come by this look, may wait for the worker's
    /// processor now: the worker yields, once.
    const OBLIGING: u32 = 12;

    pub(crate) fn new(processors: Processors, yields_last: bool) -> Search {
        let spinning = processors.spins(Search::LOOKS);
        let most = spinning + yields(if yields_last { Search::YIELDS } else { 0 });
        Search {
            looks: 0,
            spinning,
            most,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.looks == self.most
    }

    pub(crate) fn looks(&self) -> u32 {
        self.looks
    }

    /// `obliges` is asked once, whether a submitter was let in.
    pub(crate) fn next(&mut self, obliges: impl FnOnce() -> bool) -> Between {
        self.looks += 1;
        if self.looks > self.spinning || self.looks == Search::OBLIGING && obliges() {
            Between::Yield
        } else {
            Between::Pause((1 << self.looks.min(16)).min(Search::MOST_PAUSES))
        }
    }
}

const MOST: u64 = 200;
const LEAST: u64 = 16;

/// What a look showed.
pub(crate) enum Probe {
    Full,
    Room,
    /// It tells nothing of how long room takes to come, and more of them are to no avail.
    Over,
}

/// How often a submitter looks for room before it gets in line.
///
/// Until it is in line it waits for nothing, so nobody can overtake it; where tasks are short this is what spares it
/// the line, and a wake. Where they are long it would only keep a processor from them. So it looks as often as paid of
/// late: twice as often after it found room, an eighth less after it did not. Where it hardly looks any more it tries
/// now and then for as long as it may, since tasks may be shorter now.
///
/// From `LEAST` down the state counts the submitters until the next long try, at 0. It is read and written as a whole;
/// who is late with what it learnt spoils nothing.
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
