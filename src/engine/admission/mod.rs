//! Which tasks may come in: the places of a pool, its room, the line of those that wait for room, and the moments of
//! rest.
//!
//! A **place** is held by each accepted task in the shared queue and by each busy worker; a **hold** by any other
//! thread that keeps the pool from being at rest (a submitter that runs its task itself, a thief that has a task in
//! hand). Room is `limit − places`, where `limit` is capacity + backlog. Admission knows neither threads nor queues.
//!
//! The word `places`: `| holds: 28 | places: 32 | WATCHED | DISCARDING | CLOSED | LINE |`.
//!
//! - A1: The pool is at rest if and only if there is no place held, no hold and no line.
//! - A2: `LINE` is set, under the lock of the line, while anything is in the line. Then only [`serve`] lets tasks in,
//!   oldest first: nobody is overtaken.
//! - A3: A thread that gives places back and finds `LINE` set serves the line. A thread that joins the line sets
//!   `LINE` first and then looks for room once more. So room and a line never stay side by side.
//! - A4: `LINE`, `CLOSED` and `DISCARDING` change only under the lock of the line.
//! - A5: `WATCHED` is set, under the lock of [`Quiescence`], while a thread waits for rest. From a word that is at
//!   rest and watched no thread goes on before that moment is counted and `WATCHED` is cleared, under that lock; any
//!   thread that finds such a word does both. So every moment of rest after a waiter came is counted, and none from
//!   before it.
//!
//! [`serve`]: Admission::serve

mod join;
mod line;
pub(crate) mod load;
pub(crate) mod places;
pub(crate) mod quiescence;
mod serve;
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
pub(crate) use load::{Chunk, Load};
pub(crate) use places::{Denied, Origin, Places};
use std::cell::Cell;

/// What each submitter writes, on one cache line.
struct Word {
    places: AtomicU64,
    /// Tasks accepted from outside. It is beside `places` because the thread that counts has just written that.
    accepted: CounterU64,
}

/// `D` says where in the target a task belongs, for the tasks that wait in line.
pub(crate) struct Admission<D = ()> {
    word: CachePadded<Word>,
    limit: AtomicU64,
    line: Mutex<Line<D>>,
    waiting: AtomicUsize,
    max_waiting: usize,
    /// `unwoken` may hold waiters.
    has_unwoken: AtomicBool,
    /// `answered` may hold waiters.
    has_answered: AtomicBool,
    /// A submitter was let in from the line recently.
    has_recent_line: AtomicBool,
    quiescence: Quiescence,
    /// How often a submitter looks for room before it joins the line.
    pub(crate) spin: AdaptiveSpin,
}

/// What a thread that gave places back must do next.
#[must_use]
#[derive(Clone, Copy)]
pub(crate) struct FollowUp {
    /// Serve the line: a task waits in it.
    pub(crate) serve: bool,
    /// Let the idle workers end: the pool is closed, and came to rest at this very moment.
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
            line: Mutex::new(Line::new()),
            waiting: AtomicUsize::new(0),
            max_waiting,
            has_unwoken: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            has_recent_line: AtomicBool::new(false),
            quiescence: Quiescence::new(processors),
            spin: AdaptiveSpin::new(processors),
        }
    }

    pub(crate) fn places(&self) -> Places {
        Places(self.word.places.load(Ordering::SeqCst))
    }

    /// Changes the word with `change`, until that declines; never leaves a moment of rest uncounted (A5).
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

    /// Takes a place if there is room and no line.
    pub(crate) fn enter(&self, origin: Origin) -> Result<Places, Denied> {
        let barred = origin.barred_by();
        let entered = self.change(|word| {
            let open = word & (barred | LINE) == 0 && self.has_room(word);
            open.then_some(word + PLACE)
        });
        entered.map_err(|Places(word)| Denied::by(word, barred))
    }

    /// Takes as many places as there is room for, `most` at most and one at least, if there is no line. Returns how
    /// many.
    pub(crate) fn enter_many(&self, origin: Origin, most: u64) -> Result<u64, Denied> {
        let barred = origin.barred_by();
        let taken = Cell::new(0);
        let entered = self.change(|word| {
            let room = self.limit().saturating_sub(Places(word).held());
            taken.set(room.min(most));
            let open = word & (barred | LINE) == 0 && taken.get() > 0;
            open.then_some(word + taken.get() * PLACE)
        });
        match entered {
            Ok(_) => Ok(taken.get()),
            Err(Places(word)) => Err(Denied::by(word, barred)),
        }
    }

    /// Takes a place whether or not there is room, for a thread that holds a place already.
    pub(crate) fn enter_beyond(&self) {
        self.word.places.fetch_add(PLACE, Ordering::SeqCst);
    }

    /// Takes a hold unless the pool is closed; whether it did.
    pub(crate) fn hold_open(&self) -> bool {
        self.change(|word| (word & CLOSED == 0).then_some(word + HOLD))
            .is_ok()
    }

    /// Takes a hold.
    pub(crate) fn hold(&self) {
        let _held = self.change(|word| Some(word + HOLD));
    }

    /// Turns a hold into a place.
    pub(crate) fn turn_hold_into_place(&self) {
        self.word.places.fetch_sub(HOLD - PLACE, Ordering::SeqCst);
    }

    /// LE2: makes a hold of a place, which makes room.
    pub(crate) fn turn_place_into_hold(&self) {
        self.word.places.fetch_add(HOLD - PLACE, Ordering::SeqCst);
    }

    /// What must follow once a place was made a hold.
    pub(crate) fn after_lending(&self) -> FollowUp {
        self.left(self.places())
    }

    /// Gives places back.
    pub(crate) fn leave(&self, places: u64) -> FollowUp {
        self.give_back(places * PLACE)
    }

    /// Gives a hold back.
    pub(crate) fn unhold(&self) -> FollowUp {
        self.give_back(HOLD)
    }

    fn give_back(&self, amount: u64) -> FollowUp {
        let before = self.word.places.fetch_sub(amount, Ordering::SeqCst);
        self.left(Places(before - amount))
    }

    /// What must follow for a thread that changed the word to `now`.
    fn left(&self, now: Places) -> FollowUp {
        if now.is_uncounted_rest() {
            self.count_rest();
        }
        FollowUp {
            serve: now.has_line(),
            ended: now.at_rest() && now.is_closed(),
        }
    }

    /// The most places.
    pub(crate) fn limit(&self) -> u64 {
        // ORDERING: Relaxed: a limit that is being changed may be seen late; the thread that raises it serves the
        // line under the lock afterwards.
        self.limit.load(Ordering::Relaxed)
    }

    fn has_room(&self, word: u64) -> bool {
        Places(word).held() < self.limit()
    }

    /// Takes a place for a task in line, with the lock held.
    fn enter_from_line(&self) -> bool {
        self.change(|word| self.has_room(word).then_some(word + PLACE))
            .is_ok()
    }

    // ── rest ────────────────────────────────────────────────────────────────────────────────

    /// A5: counts a moment of rest, if no other thread has.
    #[cold]
    fn count_rest(&self) {
        let lock = self.quiescence.lock();
        if self.places().is_uncounted_rest() {
            self.word.places.fetch_and(!WATCHED, Ordering::SeqCst);
            self.quiescence.count(&lock);
        }
    }

    /// Waits for a moment of rest; false if `deadline` passed first. Calls `retry` again and again, which returns
    /// when to call it next.
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

    /// Refuses submitters from now on and sends away those that wait. Futures are left to
    /// [`wake_answered`](Admission::wake_answered) (WT2).
    pub(crate) fn close(&self, discard: bool) -> FollowUp {
        let mut asleep = Vec::new();
        let left = {
            let mut line = lock(&self.line);
            let flags = if discard { CLOSED | DISCARDING } else { CLOSED };
            self.word.places.fetch_or(flags, Ordering::SeqCst);
            for entry in std::mem::take(&mut line.entries) {
                let Some(waiter) = entry.waiter else {
                    line.entries.push_back(entry);
                    continue;
                };
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                asleep.extend(self.answer(&mut line, waiter, Answer::Closed(entry.load)));
            }
            self.end_empty_line(&line)
        };
        for waiter in asleep {
            waiter.nudge_thread();
        }
        left
    }

    pub(crate) fn reopen(&self) {
        let _line = lock(&self.line);
        (self.word.places).fetch_and(!(CLOSED | DISCARDING), Ordering::SeqCst);
    }

    /// Changes the limit; the caller serves the line afterwards.
    pub(crate) fn set_limit(&self, limit: Option<usize>) {
        let _line = lock(&self.line);
        self.limit.store(clamp(limit), Ordering::SeqCst);
    }

    /// Makes all threads that wait, for room or for rest, look again. For futures the rescuer does.
    pub(crate) fn nudge(&self) {
        let line = lock(&self.line);
        let waiters = line
            .entries
            .iter()
            .filter_map(|entry| entry.waiter.as_ref());
        waiters.for_each(|waiter| waiter.nudge_thread());
        drop(line);
        self.quiescence.nudge();
    }

    /// G2 of [`fork`](crate::fork): nothing holds a place, nothing waits, and no lock is held.
    pub(crate) fn is_untouched(&self) -> bool {
        let line = try_lock(&self.line);
        line.is_some_and(|line| line.is_untouched())
            && self.places().at_rest()
            && self.waiting() == 0
            && self.quiescence.is_unlocked()
    }

    /// Marks the pool as closed, where its locks must not be touched.
    pub(crate) fn close_foreign(&self) {
        self.word.places.fetch_or(CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Counts a task from outside; returns its number.
    pub(crate) fn count_accepted(&self) -> u64 {
        self.count_accepted_many(1)
    }

    /// Counts tasks from outside; returns the number of the first.
    pub(crate) fn count_accepted_many(&self, tasks: u64) -> u64 {
        self.word.accepted.fetch_add(tasks, Ordering::Relaxed)
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
