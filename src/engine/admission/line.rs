//! The line of submitters who wait for room: it is joined, served and left under one lock.

use super::Admission;
use crate::engine::admission::places::{LINE, PLACE};
use crate::engine::admission::waiter::{Answer, Waiter};
use crate::engine::admission::{Denied, Left, Origin, Places};
use crate::engine::task::{Accepted, Task};
use crate::sync::{Arc, Ordering, lock, order_seqcst};
use std::collections::VecDeque;
use std::io;

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

pub(super) struct Entry<D> {
    pub(super) line_number: u64,
    pub(super) task: Task,
    /// Where in the target the task belongs.
    pub(super) dest: D,
    /// The blocked submitter; `None` for a task that a task submitted while others waited, which
    /// is accepted already.
    pub(super) waiter: Option<Arc<Waiter>>,
}

pub(super) struct Line<D> {
    pub(super) entries: VecDeque<Entry<D>>,
    pub(super) next_line_number: u64,
    /// Y2: submitters that were let in and are still to be woken.
    pub(super) unwoken: VecDeque<Arc<Waiter>>,
}

impl<D> Line<D> {
    pub(super) fn append(&mut self, task: Task, dest: D, waiter: Option<Arc<Waiter>>) -> u64 {
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

impl<D> Admission<D> {
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
    pub(super) fn form_line(&self) -> Places {
        let formed = self.change(|word| Some(word | LINE));
        formed.unwrap_or_else(|declined| declined)
    }

    /// A2, A4: called with the lock held, after every change of the line.
    pub(super) fn end_empty_line(&self, line: &Line<D>) -> Left {
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
}
