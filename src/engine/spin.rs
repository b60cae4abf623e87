//! How long threads spin or yield before they sleep: every such wait of the crate, with its length and the reason.
//!
//! A *turn* is a pause of the processor and a look. A *yield* lets another thread have the processor first. Threads
//! do either only where it pays: on a single processor no thread spins ([`Processors::spins`]), and a thread spins
//! for work or for room only while there is a processor for each active worker.
//!
//! | which thread | for what | how long |
//! |---|---|---|
//! | a submitter, before it joins the line | room | [`AdaptiveSpin`]: 16 to 200 turns, as it paid recently |
//! | a submitter, before it wakes one more worker | the workers that are up to take the task | [`CATCH_UP`] |
//! | a free worker, one at a time | the next task | [`Search`]: 40 looks, the later ones after 16 turns |
//! | a free worker, of an unbounded backlog or on a single processor | the same, if a submitter wants its processor | [`Search`]: 8 yields more |
//! | a free worker after it let a submitter in | the submitter that wants its processor | [`Search`]: 1 yield, at the 12th look |
//! | a worker after [`STREAK`] single tasks | a batch | [`GATHER`] |
//! | a thread in `wait_idle` | a moment of rest | [`REST`] |
//! | a thread that joins | the result | [`JOIN`] |
//! | the caller and the runners of a map with short items | results, items | [`LINGER_YIELDS`] |
//! | a thread that steals | the step of another thread on the same deque | [`retry_steal`] |
//! | a thread that closes a pool or waits for its rest, a map's caller, the first thread in a child of a fork | the next few instructions of another thread | [`until_step`] |
//!
//! docs/benchmarks.md ("How it got there") has what each gave when it was made. A constant without a figure here was not
//! measured against others.

use crate::sync::deque::Steal;
use crate::sync::{CounterU64, Ordering, Processors, elapsed, now, spin_loop, yield_now, yields};
use std::time::Duration;

/// The workers that are up take a task in less time than it takes to wake one more: a wake costs 4.7 to 10 us. Ants'
/// mode at capacity 2 went from 1.0–1.8 to 0.7–0.9 times the time of `rayon::spawn` by it.
pub(crate) const CATCH_UP: u32 = 20;

/// A pool that is about to be at rest is so within a few hundred turns; to sleep and be woken costs more.
pub(crate) const REST: u32 = 200;

/// As [`REST`], for a short task that runs already.
pub(crate) const JOIN: u32 = 200;

/// Yields of a runner that waits for items, and of the caller that waits for results, before they sleep. Only where
/// the items of a map are short: each is worked on in less time than a wake takes.
pub(crate) const LINGER_YIELDS: u32 = 30;

/// Tasks that come one by one, each just as the last one is over, are fetched from under the submitter's hands, and
/// both wait for the same cache lines. After so many in a row a worker of a pool with an unbounded backlog pauses for
/// [`GATHER`] turns, and then finds a batch. (A pause after each single task made submit-and-wait four times slower.)
pub(crate) const STREAK: u32 = 4;

/// See [`STREAK`]. 200 turns for 64, with batches of 63 tasks for 32, took an empty task to 0.6 of its time.
pub(crate) const GATHER: u32 = 200;

/// A thread that yields and runs again only after that long gave its processor to another process.
const EXPENSIVE: Duration = Duration::from_micros(50);

/// Pauses for so many turns.
pub(crate) fn pause(turns: u32) {
    (0..turns).for_each(|_| spin_loop());
}

/// Spins until `is_so`, for so many turns at most; whether it is.
pub(crate) fn turns_until(turns: u32, mut is_so: impl FnMut() -> bool) -> bool {
    (0..turns).any(|_| {
        spin_loop();
        is_so()
    })
}

/// Yields until `is_so`, [`LINGER_YIELDS`] times at most; whether it is.
pub(crate) fn linger_until(mut is_so: impl FnMut() -> bool) -> bool {
    (0..yields(LINGER_YIELDS)).any(|_| {
        yield_now();
        is_so()
    })
}

/// Yields until another thread, which waits for nothing itself, has done its next step.
pub(crate) fn until_step(mut is_done: impl FnMut() -> bool) {
    while !is_done() {
        yield_now();
    }
}

/// Spins until a steal neither loses a race nor meets a push that is half done; each passes within a few
/// instructions.
pub(crate) fn retry_steal<T>(mut steal: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match steal() {
            Steal::Success(stolen) => return Some(stolen),
            Steal::Empty => return None,
            Steal::Retry => spin_loop(),
        }
    }
}

/// Yields once.
pub(crate) fn yield_once() {
    yield_now();
}

/// Yields once; whether that was cheap, as no other process wanted the processor.
pub(crate) fn yield_cheaply() -> bool {
    let begun = now();
    yield_now();
    elapsed(begun) < EXPENSIVE
}

/// What a free worker does between two looks for work, until it rests.
///
/// It pauses for two turns, then four, eight, and 16 from then on: so it finds more than one task if they come fast,
/// and disturbs no other thread. Then, where `yields_last`, it looks a few times more and yields before each look: the
/// submitter that it does not know of may want its very processor, as threads that wake one another end up on the same
/// one. On a single processor these are all its looks.
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
    /// As measured: 20 looks made submit-and-wait switch six times as often, and four submitters 1.4 times as slow; 80
    /// were no better. (Later, with larger batches, 20 and 10 looks made submit-and-wait 1.7 and 3 times as slow.)
    const LOOKS: u32 = 40;
    const MOST_PAUSES: u32 = 16;
    const YIELDS: u32 = 8;
    /// A submitter that the worker let in from the line, and that has not come by this look, may wait for the
    /// worker's processor: the worker yields, once. Ants' mode at capacity 2 takes 0.7 to 0.8 of the time by it and
    /// by [`AdaptiveSpin`]. (A yield at the first look made four submitters take 1.8 to 2.6 times as long.)
    const YIELD_AT: u32 = 12;

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

    /// `was_served` is asked once, whether a submitter was let in.
    pub(crate) fn next(&mut self, was_served: impl FnOnce() -> bool) -> Between {
        self.looks += 1;
        if self.looks > self.spinning || self.looks == Search::YIELD_AT && was_served() {
            Between::Yield
        } else {
            Between::Pause((1 << self.looks.min(16)).min(Search::MOST_PAUSES))
        }
    }
}

/// The longest try, as [`REST`].
const MOST_TURNS: u64 = 200;

/// The shortest try, after many in vain.
const LEAST_TURNS: u64 = 16;

/// What a look for room showed.
pub(crate) enum Probe {
    Full,
    Room,
    /// More looks are in vain, and this one tells nothing of how long room takes to come.
    Over,
}

/// How often a submitter looks for room before it joins the line.
///
/// Until it is in line it waits for nothing, so no later submitter can overtake it. Where tasks are short this spares
/// it the line and a wake; where they are long it only keeps a processor from them: tasks of 10 us took 4 us longer.
/// So it looks as often as it paid recently: twice as often after it found room, an eighth less after it did not.
/// Where it hardly looks any more it looks for as long as it may now and then, since tasks may be shorter now.
///
/// From [`LEAST_TURNS`] down the state counts the submitters until the next long try, at 0. It is read and written as
/// a whole; a thread that is late with what it learnt spoils nothing.
pub(crate) struct AdaptiveSpin {
    state: CounterU64,
    processors: Processors,
}

impl AdaptiveSpin {
    pub(crate) fn new(processors: Processors) -> AdaptiveSpin {
        AdaptiveSpin {
            state: CounterU64::new(MOST_TURNS),
            processors,
        }
    }

    /// Calls `look` while it finds no room, for as many turns as are worth it.
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
        0 => MOST_TURNS,
        looks => looks.max(LEAST_TURNS),
    };
    u32::try_from(turns).expect("a small number")
}

fn after(state: u64, found: bool) -> u64 {
    match state {
        _ if found => MOST_TURNS.min(2 * u64::from(turns(state))),
        0 => LEAST_TURNS,
        looks if looks > LEAST_TURNS => LEAST_TURNS.max(looks - looks / 8),
        looks => looks - 1,
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn looks_less_where_it_is_in_vain_and_soon_more_where_it_is_not() {
        let mut state = MOST_TURNS;
        let mut in_vain = || {
            state = after(state, false);
            turns(state)
        };
        let first: Vec<_> = (0..4).map(|_| in_vain()).collect();
        assert_eq!(first, [175, 154, 135, 119]);
        let least = (0..100).map(|_| in_vain()).min();
        assert_eq!(least, Some(16));
        let mut found = LEAST_TURNS;
        let more = [(); 5].map(|()| {
            found = after(found, true);
            turns(found)
        });
        assert_eq!(more, [32, 64, 128, 200, 200]);
    }

    #[test]
    fn tries_for_long_now_and_then() {
        let mut state = LEAST_TURNS;
        let mut looks = Vec::new();
        for _ in 0..40 {
            looks.push(turns(state));
            state = after(state, false);
        }
        let tries = looks.iter().filter(|looks| **looks == 200).count();
        assert_eq!((tries, looks[16], looks[33]), (2, 200, 200), "{looks:?}");
        assert_eq!(
            after(0, true),
            MOST_TURNS,
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
