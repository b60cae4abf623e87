//! Who may come in: the places of the pool, its room, and the line of those who wait for it.
//!
//! A **place** is held by each accepted task in the shared queue and by each busy worker, a
//! **hold** by whoever else keeps the pool from being at rest (a caller that runs a task itself, a
//! thief half-way). Room is `limit − places`, where `limit` is capacity + backlog. Admission knows
//! neither threads nor queues.
//!
//! The word: `| holds: 28 | places: 32 | WATCHED | DISCARDING | CLOSED | LINE |`.
//!
//! - A1: The pool is at rest if and only if nobody holds anything and there is no line.
//! - A2: `LINE` is set, under the lock, while anybody is in the line; then only [`serve`] lets in,
//!   oldest first, so nobody is overtaken.
//! - A3: Whoever gives places back and finds `LINE` set serves the line. Whoever joins sets `LINE`
//!   first and then looks for room once more; so room and a line never stay side by side.
//! - A4: `LINE`, `CLOSED` and `DISCARDING` change only under the lock.
//! - A5: `WATCHED` is set, under the lock of [`Quiescence`], while somebody waits for rest. From a word
//!   that is at rest and watched nobody goes on before that moment is counted and `WATCHED`
//!   cleared, under that lock; whoever finds such a word sees to it. So every moment of rest after
//!   a waiter came is counted, and none from before it.
//!
//! [`serve`]: Admission::serve

mod line;
pub(crate) mod places;
pub(crate) mod quiescence;
pub(crate) mod waiter;

use crate::engine::admission::places::{
    CLOSED, DISCARDING, HOLD, LINE, MOST_PLACES, PLACE, WATCHED,
};
use crate::engine::admission::quiescence::Quiescence;
use crate::engine::admission::waiter::Answer;
use crate::engine::spin::AdaptiveSpin;
use crate::sync::{
    AtomicBool, AtomicU64, AtomicUsize, CounterU64, Instant, Mutex, Ordering, Processors, lock,
    try_lock,
};
use crossbeam_utils::CachePadded;
pub(crate) use line::Joined;
use line::Line;
pub(crate) use places::{Denied, Origin, Places};
use std::collections::VecDeque;

struct Word {
    places: AtomicU64,
    /// Tasks accepted from outside; here because whoever counts has just written `places`.
    accepted: CounterU64,
}

/// `D` says where in the target a task belongs, for those that wait in line.
pub(crate) struct Admission<D = ()> {
    word: CachePadded<Word>,
    limit: AtomicU64,
    line: Mutex<Line<D>>,
    waiting: AtomicUsize,
    max_waiting: usize,
    /// There may be any in `unwoken`.
    has_unwoken: AtomicBool,
    /// A submitter was let in from the line of late.
    lets_in: AtomicBool,
    quiescence: Quiescence,
    /// How often a submitter looks for room.
    pub(crate) spin: AdaptiveSpin,
}

/// What the one who gave places back has to do next.
#[must_use]
#[derive(Clone, Copy)]
pub(crate) struct Left {
    /// Somebody waits: serve the line.
    pub(crate) serve: bool,
    /// The pool is closed and came to rest at this very moment: its idle workers may end.
    pub(crate) ended: bool,
}

impl<D> Admission<D> {
    pub(crate) fn new(
        limit: Option<usize>,
        max_waiting: usize,
        processors: Processors,
    ) -> Admission<D> {
        Admission {
            word: CachePadded::new(Word {
                places: AtomicU64::new(0),
                accepted: CounterU64::new(0),
            }),
            limit: AtomicU64::new(clamp(limit)),
            line: Mutex::new(Line {
                entries: VecDeque::new(),
                next_line_number: 0,
                unwoken: VecDeque::new(),
            }),
            waiting: AtomicUsize::new(0),
            max_waiting,
            has_unwoken: AtomicBool::new(false),
            lets_in: AtomicBool::new(false),
            quiescence: Quiescence::new(processors),
            spin: AdaptiveSpin::new(processors),
        }
    }

    pub(crate) fn places(&self) -> Places {
        Places(self.word.places.load(Ordering::SeqCst))
    }

    /// Changes the word as `change` says, until it declines; past no uncounted rest (A5).
    fn change(&self, change: impl Fn(u64) -> Option<u64>) -> Result<Places, Places> {
        let mut seen = self.word.places.load(Ordering::SeqCst);
        loop {
            if Places(seen).is_uncounted_rest() {
                self.count_rest();
                seen = self.word.places.load(Ordering::SeqCst);
            }
            let Some(next) = change(seen) else {
                return Err(Places(seen));
            };
            match self.word.places.compare_exchange_weak(
                seen,
                next,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return Ok(Places(next)),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes a place if there is room and nobody waits for it.
    pub(crate) fn enter(&self, origin: Origin) -> Result<Places, Denied> {
        let barred = origin.barred_by();
        let entered = self.change(|word| {
            let open = word & (barred | LINE) == 0 && self.has_room(word);
            open.then_some(word + PLACE)
        });
        entered.map_err(|Places(word)| {
            if word & barred != 0 {
                Denied::Closed
            } else if word & LINE != 0 {
                Denied::Line
            } else {
                Denied::NoRoom
            }
        })
    }

    /// Takes a place whether or not there is room, for one who holds a place already.
    pub(crate) fn enter_beyond(&self) {
        self.word.places.fetch_add(PLACE, Ordering::SeqCst);
    }

    /// Takes a hold unless the pool is closed: whether it did.
    pub(crate) fn hold_open(&self) -> bool {
        self.change(|word| (word & CLOSED == 0).then_some(word + HOLD))
            .is_ok()
    }

    pub(crate) fn hold(&self) {
        let _held = self.change(|word| Some(word + HOLD));
    }

    /// Turns a hold into a place.
    pub(crate) fn settle_hold(&self) {
        self.word.places.fetch_sub(HOLD - PLACE, Ordering::SeqCst);
    }

    /// Gives places back.
    pub(crate) fn leave(&self, places: u64) -> Left {
        self.give_back(places * PLACE)
    }

    pub(crate) fn unhold(&self) -> Left {
        self.give_back(HOLD)
    }

    fn give_back(&self, amount: u64) -> Left {
        let before = self.word.places.fetch_sub(amount, Ordering::SeqCst);
        self.left(Places(before - amount))
    }

    fn left(&self, now: Places) -> Left {
        if now.is_uncounted_rest() {
            self.count_rest();
        }
        Left {
            serve: now.has_line(),
            ended: now.at_rest() && now.is_closed(),
        }
    }

    fn has_room(&self, word: u64) -> bool {
        // ORDERING: Relaxed: a limit that is being changed may be seen late; whoever raises it
        // serves the line under the lock afterwards.
        Places(word).held() < self.limit.load(Ordering::Relaxed)
    }

    fn enter_from_line(&self) -> bool {
        self.change(|word| self.has_room(word).then_some(word + PLACE))
            .is_ok()
    }

    // ── rest ────────────────────────────────────────────────────────────────────────────────

    /// A5.
    #[cold]
    fn count_rest(&self) {
        let lock = self.quiescence.lock();
        if self.places().is_uncounted_rest() {
            self.word.places.fetch_and(!WATCHED, Ordering::SeqCst);
            self.quiescence.count(&lock);
        }
    }

    /// Waits for a moment of rest; false if `deadline` passed first. `retry` is called again and
    /// again, and its answer is when to do so next.
    pub(crate) fn wait_for_rest(
        &self,
        deadline: Option<Instant>,
        retry: impl Fn() -> Option<Instant>,
    ) -> bool {
        let lock = self.quiescence.lock();
        let last = self.quiescence.moment(&lock);
        let now = Places(self.word.places.fetch_or(WATCHED, Ordering::SeqCst));
        drop(lock);
        if now.at_rest() {
            self.count_rest();
            return true;
        }
        self.quiescence.wait_after(last, deadline, retry)
    }

    /// Refuses from now on and sends the blocked submitters away.
    pub(crate) fn close(&self, discard: bool) -> Left {
        let mut sent_away = Vec::new();
        let left = {
            let mut line = lock(&self.line);
            let flags = if discard { CLOSED | DISCARDING } else { CLOSED };
            self.word.places.fetch_or(flags, Ordering::SeqCst);
            for entry in std::mem::take(&mut line.entries) {
                match entry.waiter {
                    Some(waiter) => sent_away.push((entry.task, waiter)),
                    None => line.entries.push_back(entry),
                }
            }
            self.waiting.fetch_sub(sent_away.len(), Ordering::SeqCst);
            self.end_empty_line(&line)
        };
        for (task, waiter) in sent_away {
            waiter.wake(Answer::Closed(task));
        }
        left
    }

    pub(crate) fn reopen(&self) {
        let _line = lock(&self.line);
        (self.word.places).fetch_and(!(CLOSED | DISCARDING), Ordering::SeqCst);
    }

    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        let _line = lock(&self.line);
        self.limit.store(clamp(limit), Ordering::SeqCst);
    }

    /// Makes all who wait look again.
    pub(crate) fn nudge(&self) {
        let line = lock(&self.line);
        let waiters = line
            .entries
            .iter()
            .filter_map(|entry| entry.waiter.as_ref());
        waiters.for_each(|waiter| waiter.nudge());
        drop(line);
        self.quiescence.nudge();
    }

    /// G2 of [`fork`](super::fork): nobody is in, nobody waits, and nobody holds a lock.
    pub(crate) fn is_untouched(&self) -> bool {
        let line = try_lock(&self.line);
        line.is_some_and(|line| line.entries.is_empty())
            && self.places().at_rest()
            && self.waiting() == 0
            && self.quiescence.is_unlocked()
    }

    /// Says that the pool was closed, where the lock must not be touched.
    pub(crate) fn close_foreign(&self) {
        self.word.places.fetch_or(CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Counts a task from outside; its number.
    pub(crate) fn count_accepted(&self) -> u64 {
        self.word.accepted.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn accepted(&self) -> u64 {
        // ORDERING: Acquire: read after what has ended, it is never behind it.
        self.word.accepted.load(Ordering::Acquire)
    }
}

fn clamp(limit: Option<usize>) -> u64 {
    limit
        .and_then(|limit| u64::try_from(limit).ok())
        .map_or(MOST_PLACES, |limit| limit.min(MOST_PLACES))
}
