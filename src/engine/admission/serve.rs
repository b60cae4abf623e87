//! How the line is served: a task is let in when there is room, and its submitter is told.

use super::Admission;
use crate::engine::admission::FollowUp;
use crate::engine::admission::line::Entry;
use crate::engine::admission::places::PLACE;
use crate::engine::admission::waiter::Answer;
use crate::engine::task::{Accepted, Task};
use crate::sync::{Ordering, lock, order_seqcst};
use std::io;

impl<D> Admission<D> {
    /// Lets tasks in, oldest first, while there is room; sends a submitter away if no worker lives and
    /// `ensure_worker` starts none. `push` queues each task with its place. All of it happens in order, under the
    /// lock of the line. Wakes each submitter that sleeps, unless `defer` says that another thread will (Y2). Whether
    /// it brought a closed pool to rest.
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
                // Accepted already: if no worker lives, the threads that wait for the task try again.
                if task.note_place() {
                    push(Accepted::new(self.accepted(), task), dest);
                } else {
                    ended |= self.leave(1).ended;
                }
                // The task may be over already.
                ended |= self.end_empty_line(&line).ended;
                continue;
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            let answer = match ensured {
                Ok(()) => {
                    task.note_place();
                    let number = self.count_accepted();
                    push(Accepted::after_waiting(number, task), dest);
                    if !self.has_recent_line() {
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
                // Y2: it is in the list before another thread is counted on to wake it.
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

    /// Y2: wakes the submitters that were let in and not woken.
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

    /// Whether a submitter that waited was let in since the last [`forget_line`](Admission::forget_line).
    pub(crate) fn has_recent_line(&self) -> bool {
        // ORDERING: Relaxed, here and below: a guess.
        self.has_recent_line.load(Ordering::Relaxed)
    }

    /// A submitter that waited was let in.
    pub(crate) fn remember_line(&self) {
        self.has_recent_line.store(true, Ordering::Relaxed);
    }

    /// No submitter waited for a while.
    pub(crate) fn forget_line(&self) {
        self.has_recent_line.store(false, Ordering::Relaxed);
    }

    /// Lets in all tasks whose destination is `wanted`, in order, whether or not there is room: a thread waits for
    /// one of them and keeps others from making room. `push` queues each. Whether there was any.
    pub(crate) fn let_in(
        &self,
        wanted: impl Fn(&D) -> bool,
        mut push: impl FnMut(Accepted, D),
    ) -> (bool, FollowUp) {
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
            if !task.note_place() {
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

    /// Lets the oldest submitters in elsewhere, `most` at most, while `enter` takes a place there. `accept` queues
    /// the task, or gives the task and the place back.
    pub(crate) fn serve_elsewhere(
        &self,
        most: usize,
        enter: impl Fn() -> bool,
        accept: impl Fn(Task) -> Result<Answer, Task>,
    ) -> FollowUp {
        let mut served = 0;
        loop {
            let mut line = lock(&self.line);
            // What tasks of this pool submitted stays here (F3).
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
}
