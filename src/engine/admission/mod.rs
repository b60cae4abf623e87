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

pub(crate) mod quiescence;
pub(crate) mod waiter;

use crate::engine::admission::quiescence::Quiescence;
use crate::engine::admission::waiter::{Answer, Waiter};
use crate::engine::spin::AdaptiveSpin;
use crate::engine::task::{Accepted, Task};
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, CounterU64, Instant, Mutex, Ordering, Processors,
    lock, order_seqcst, try_lock,
};
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::io;

const LINE: u64 = 1;
const CLOSED: u64 = 2;
const DISCARDING: u64 = 4;
const WATCHED: u64 = 8;
const FLAGS: u64 = LINE | CLOSED | DISCARDING | WATCHED;
const PLACE: u64 = 16;
const PLACE_BITS: u32 = 32;
const HOLD: u64 = PLACE << PLACE_BITS;

/// The most places: a limit that high is no limit. 2^32 − 1 tasks fill more memory than there is.
const MOST_PLACES: u64 = (1 << PLACE_BITS) - 1;

/// A snapshot of the word.
#[derive(Clone, Copy)]
pub(crate) struct Places(u64);

impl Places {
    pub(crate) fn held(self) -> u64 {
        (self.0 / PLACE) & MOST_PLACES
    }

    pub(crate) fn has_line(self) -> bool {
        self.0 & LINE != 0
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(crate) fn is_discarding(self) -> bool {
        self.0 & DISCARDING != 0
    }

    pub(crate) fn bars(self, origin: Origin) -> bool {
        self.0 & origin.barred_by() != 0
    }

    /// A1: nothing runs, is queued or waits.
    pub(crate) fn at_rest(self) -> bool {
        self.0 & !(CLOSED | DISCARDING | WATCHED) == 0
    }

    /// A5: a moment of rest that has to be counted.
    pub(crate) fn is_uncounted_rest(self) -> bool {
        self.0 & !(CLOSED | DISCARDING) == WATCHED
    }
}

/// Why nobody gets in right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    NoRoom,
    /// Others wait, or are just coming or going: if there is room, it is theirs.
    Line,
    Closed,
}

/// Where a task comes from: a submitter outside, or a task of the pool itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Outside,
    Inside,
}

impl Origin {
    fn barred_by(self) -> u64 {
        match self {
            Origin::Outside => CLOSED,
            Origin::Inside => DISCARDING,
        }
    }
}

/// What became of one who wanted to join the line.
pub(crate) enum Joined {
    /// In line, under this number in line.
    Waits(Arc<Waiter>, u64),
    /// In line, and accepted.
    WaitsAlone,
    /// There was room after all; the place is the caller's.
    Entered(Task),
    /// The pool is closed.
    Closed(Task),
    /// As many wait as may.
    TooMany(Task),
}

struct Entry<D> {
    line_number: u64,
    task: Task,
    /// Where in the target the task belongs.
    dest: D,
    /// The blocked submitter; `None` for a task that a task submitted while others waited, which
    /// is accepted already.
    waiter: Option<Arc<Waiter>>,
}

struct Line<D> {
    entries: VecDeque<Entry<D>>,
    next_line_number: u64,
    /// Y2: submitters that were let in and are still to be woken.
    unwoken: VecDeque<Arc<Waiter>>,
}

impl<D> Line<D> {
    fn append(&mut self, task: Task, dest: D, waiter: Option<Arc<Waiter>>) -> u64 {
        let line_number = self.next_line_number;
        self.next_line_number += 1;
        self.entries.push_back(Entry {
            line_number,
            task,
            dest,
            waiter,
        });
        line_number
    }
}

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

    /// Takes a place where the word showed room beside a line: a passing sight, since whoever
    /// made the room serves the line (A3). Call after [`serve`](Admission::serve).
    pub(crate) fn enter_behind_line(&self, origin: Origin) -> Result<Places, Denied> {
        let line = lock(&self.line);
        let places = self.places();
        if places.bars(origin) {
            Err(Denied::Closed)
        } else if line.entries.is_empty() && self.enter_from_line() {
            Ok(self.places())
        } else {
            Err(Denied::NoRoom)
        }
    }

    /// Puts a submitter's task at the end of the line.
    pub(crate) fn join(&self, task: Task, dest: D) -> (Joined, Left) {
        let mut line = lock(&self.line);
        let before = self.form_line();
        let joined = if before.is_closed() {
            Joined::Closed(task)
        } else if line.entries.is_empty() && self.enter_from_line() {
            Joined::Entered(task)
        } else if self.waiting() >= self.max_waiting {
            Joined::TooMany(task)
        } else {
            let waiter = Waiter::of_this_thread();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let line_number = line.append(task, dest, Some(Arc::clone(&waiter)));
            Joined::Waits(waiter, line_number)
        };
        (joined, self.end_empty_line(&line))
    }

    /// Puts a task for which no submitter waits at the end of the line.
    pub(crate) fn join_alone(&self, origin: Origin, task: Task, dest: D) -> (Joined, Left) {
        let mut line = lock(&self.line);
        let before = self.form_line();
        let joined = if before.bars(origin) {
            Joined::Closed(task)
        } else if line.entries.is_empty() && self.enter_from_line() {
            Joined::Entered(task)
        } else {
            self.count_accepted();
            line.append(task, dest, None);
            Joined::WaitsAlone
        };
        (joined, self.end_empty_line(&line))
    }

    /// Accepts what a task submits: puts it at the end of the line; or, where nobody waits, here or
    /// elsewhere, takes a place for it, whether or not there is room, and gives it back.
    pub(crate) fn enter_beyond_or_join(
        &self,
        task: Task,
        dest: D,
        takes_turns: bool,
    ) -> Option<Task> {
        let mut line = lock(&self.line);
        if takes_turns && line.entries.is_empty() {
            let _formed = self.form_line();
        } else if line.entries.is_empty() {
            let _entered = self.change(|word| Some(word + PLACE));
            return Some(task);
        }
        self.count_accepted();
        line.append(task, dest, None);
        None
    }

    /// Takes a submitter out of the line; `None` if it has been taken out before.
    pub(crate) fn quit(&self, line_number: u64) -> Option<(Task, Left)> {
        let mut line = lock(&self.line);
        let at = (line.entries)
            .binary_search_by_key(&line_number, |entry| entry.line_number)
            .ok()?;
        let entry = line.entries.remove(at)?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some((entry.task, self.end_empty_line(&line)))
    }

    /// Lets the oldest in while there is room, or sends them away where no worker lives and `ensure_worker`
    /// gets none. `push` queues each task with its place. All of it in order, under the line's
    /// lock. A submitter that sleeps is woken, unless `defer` says that somebody sees to that (Y2). Whether it
    /// ended the pool.
    pub(crate) fn serve(
        &self,
        ensure_worker: impl Fn() -> io::Result<()>,
        mut push: impl FnMut(Accepted, D),
        defer: Option<&dyn Fn() -> bool>,
    ) -> bool {
        let mut ended = false;
        loop {
            let mut line = lock(&self.line);
            if line.entries.is_empty() || !self.enter_from_line() {
                return ended;
            }
            let Some(entry) = line.entries.pop_front() else {
                return ended;
            };
            let Entry {
                mut task,
                dest,
                waiter,
                ..
            } = entry;
            let ensured = ensure_worker();
            let Some(waiter) = waiter else {
                // Accepted already: if no worker lives, whoever waits for the task tries again.
                if task.hold_place() {
                    push(Accepted::new(self.accepted(), task), dest);
                } else {
                    ended |= self.leave(1).ended;
                }
                // It may be over already.
                ended |= self.end_empty_line(&line).ended;
                continue;
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            let answer = match ensured {
                Ok(()) => {
                    task.hold_place();
                    let number = self.count_accepted();
                    push(Accepted::after_waiting(number, task), dest);
                    if !self.lets_in() {
                        self.remember_line();
                    }
                    Answer::Queued
                }
                Err(refusal) => {
                    ended |= self.leave(1).ended;
                    Answer::NoThread(task, refusal)
                }
            };
            ended |= self.end_empty_line(&line).ended;
            let Some(defer) = defer.filter(|_| matches!(answer, Answer::Queued)) else {
                drop(line);
                waiter.wake(answer);
                continue;
            };
            if waiter.answer(answer) {
                // Y2: it can be found before anybody is counted on to wake it.
                line.unwoken.push_back(waiter);
                self.has_unwoken.store(true, Ordering::SeqCst);
                drop(line);
                order_seqcst();
                if !defer() {
                    self.wake_let_in();
                }
            }
        }
    }

    /// Y2: wakes those who were let in and not woken.
    pub(crate) fn wake_let_in(&self) {
        while self.has_unwoken.load(Ordering::SeqCst) {
            let waiter = {
                let mut line = lock(&self.line);
                let first = line.unwoken.pop_front();
                self.has_unwoken
                    .store(!line.unwoken.is_empty(), Ordering::SeqCst);
                first
            };
            if let Some(waiter) = waiter {
                waiter.nudge();
            }
        }
    }

    /// Whether a submitter that had waited was let in since the last
    /// [`forget_line`](Admission::forget_line).
    pub(crate) fn lets_in(&self) -> bool {
        // ORDERING: Relaxed, here and below: a guess.
        self.lets_in.load(Ordering::Relaxed)
    }

    pub(crate) fn remember_line(&self) {
        self.lets_in.store(true, Ordering::Relaxed);
    }

    pub(crate) fn forget_line(&self) {
        self.lets_in.store(false, Ordering::Relaxed);
    }

    /// Lets all in that belong where `wanted` says, in order, whether or not there is room: somebody waits
    /// for them who keeps others from making it. `push` queues each. Whether there was any.
    pub(crate) fn let_in(
        &self,
        wanted: impl Fn(&D) -> bool,
        mut push: impl FnMut(Accepted, D),
    ) -> (bool, Left) {
        let mut let_in = Vec::new();
        let mut any = false;
        let mut line = lock(&self.line);
        for entry in std::mem::take(&mut line.entries) {
            if !wanted(&entry.dest) {
                line.entries.push_back(entry);
                continue;
            }
            let Entry {
                mut task,
                dest,
                waiter,
                ..
            } = entry;
            if !task.hold_place() {
                continue;
            }
            any = true;
            let _entered = self.change(|word| Some(word + PLACE));
            match waiter {
                None => push(Accepted::new(self.accepted(), task), dest),
                Some(waiter) => {
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    push(Accepted::after_waiting(self.count_accepted(), task), dest);
                    let_in.push(waiter);
                }
            }
        }
        let left = self.end_empty_line(&line);
        drop(line);
        for waiter in let_in {
            waiter.wake(Answer::Queued);
        }
        (any, left)
    }

    /// Lets the oldest submitter in elsewhere, while `enter` finds a place there. `accept` queues the task, or
    /// gives it back, and its place.
    pub(crate) fn serve_to(
        &self,
        most: usize,
        enter: impl Fn() -> bool,
        accept: impl Fn(Task) -> Result<Answer, Task>,
    ) -> Left {
        let mut served = 0;
        loop {
            let mut line = lock(&self.line);
            // What tasks submitted here stays here.
            let first = (line.entries.iter()).position(|entry| entry.waiter.is_some());
            let first = first.filter(|_| served < most);
            let Some((at, mut entry)) = first.and_then(|at| Some((at, line.entries.remove(at)?)))
            else {
                return self.end_empty_line(&line);
            };
            served += 1;
            let accepted = if enter() {
                accept(entry.task)
            } else {
                Err(entry.task)
            };
            let answer = match accepted {
                Ok(answer) => answer,
                Err(task) => {
                    entry.task = task;
                    line.entries.insert(at, entry);
                    return self.end_empty_line(&line);
                }
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            let left = self.end_empty_line(&line);
            drop(line);
            if let Some(waiter) = entry.waiter {
                waiter.wake(answer);
            }
            if left.ended {
                return left;
            }
        }
    }

    /// A3: called with the lock held, before a look for room.
    fn form_line(&self) -> Places {
        let formed = self.change(|word| Some(word | LINE));
        formed.unwrap_or_else(|declined| declined)
    }

    /// A2, A4: called with the lock held, after every change of the line.
    fn end_empty_line(&self, line: &Line<D>) -> Left {
        let now = if line.entries.is_empty() {
            self.word.places.fetch_and(!LINE, Ordering::SeqCst) & !LINE
        } else {
            self.word.places.load(Ordering::SeqCst)
        };
        Left {
            serve: false,
            ..self.left(Places(now))
        }
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

    /// Takes the tasks that are accepted already out of the line of a pool that is closed, and so
    /// has no others; they have no place. Whoever calls this has a hold.
    pub(crate) fn take_accepted(&self) -> Vec<(Task, D)> {
        let mut line = lock(&self.line);
        let entries = std::mem::take(&mut line.entries);
        let _ = self.end_empty_line(&line);
        let taken = |entry: Entry<D>| (entry.task, entry.dest);
        entries.into_iter().map(taken).collect()
    }

    /// Drops the tombstones in line: they want nothing any more.
    pub(crate) fn drop_tombstones(&self) -> Left {
        let mut line = lock(&self.line);
        line.entries.retain_mut(|entry| !entry.task.is_tombstone());
        self.end_empty_line(&line)
    }

    /// Takes a task with `take`, to make room for another one, unless the pool is closed. With it
    /// comes whether its place is the caller's to use, as nobody waits for it.
    pub(crate) fn replace<T>(
        &self,
        origin: Origin,
        take: impl FnOnce() -> Option<T>,
    ) -> Result<Option<(T, bool)>, Denied> {
        let line = lock(&self.line);
        if self.places().bars(origin) {
            return Err(Denied::Closed);
        }
        Ok(take().map(|task| (task, line.entries.is_empty())))
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

const _: () = assert!(FLAGS == PLACE - 1);
