//! How the line is served: a task is let in when there is room, and its submitter is told.

use super::Admission;
use crate::engine::admission::FollowUp;
use crate::engine::admission::line::{Entry, Line};
use crate::engine::admission::load::Load;
use crate::engine::admission::places::PLACE;
use crate::engine::admission::waiter::{Answer, Waiter};
use crate::engine::task::{Accepted, Task};
use crate::sync::{Arc, Ordering, lock, order_seqcst};
use std::io;

impl<D> Admission<D> {
    /// Lets tasks in, oldest first, while there is room; sends a submitter away if no worker lives and
    /// `ensure_worker` starts none. `push` queues each task with its place. All of it happens in order, under the
    /// lock of the line. Wakes each submitter that sleeps, and has all that it handed in let in, unless `defer` says
    /// that another thread will (Y2). Whether it brought a closed pool to rest.
    ///
    /// Futures are left to [`wake_answered`](Admission::wake_answered) (WT2).
    pub(crate) fn serve(
        &self,
        ensure_worker: impl Fn() -> io::Result<()>,
        mut push: impl FnMut(Accepted, &D),
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
                line_number,
                load,
                dest,
                waiter,
            } = entry;
            let ensured = ensure_worker();
            let Some(waiter) = waiter else {
                let mut task = load.task;
                // Accepted already: if no worker lives, the threads that wait for the task try again.
                if task.note_place() {
                    push(Accepted::new(self.accepted(), task), &dest);
                } else {
                    ended |= self.leave(1).ended;
                }
                // The task may be over already.
                ended |= self.end_empty_line(&line).ended;
                continue;
            };
            let answer = match ensured {
                Ok(()) => {
                    let left = self.let_in_load(load, &dest, || self.enter_from_line(), &mut push);
                    if !self.has_recent_line() {
                        self.remember_line();
                    }
                    if let Some(load) = left {
                        line.entries.push_front(Entry {
                            line_number,
                            load,
                            dest,
                            waiter: Some(waiter),
                        });
                        return ended;
                    }
                    Answer::Queued
                }
                Err(refusal) => {
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    ended |= self.leave(1).ended;
                    Answer::NoThread(load, refusal)
                }
            };
            ended |= self.end_empty_line(&line).ended;
            let may_defer = matches!(answer, Answer::Queued) && !waiter.is_future();
            let Some(defer) = defer.filter(|_| may_defer) else {
                let asleep = self.answer(&mut line, waiter, answer);
                drop(line);
                if let Some(waiter) = asleep {
                    waiter.nudge_thread();
                }
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

    /// Pushes the tasks of a load, for the first of which the caller took a place, as long as `enter` takes places for
    /// those that follow. Returns what is left of the load. Whoever sees the last task queued sees that its submitter
    /// waits no more.
    fn let_in_load(
        &self,
        load: Load,
        dest: &D,
        enter: impl Fn() -> bool,
        push: &mut impl FnMut(Accepted, &D),
    ) -> Option<Load> {
        let mut load = load;
        loop {
            let (mut task, rest) = load.split();
            task.note_place();
            if rest.is_none() {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            push(Accepted::after_waiting(self.count_accepted(), task), dest);
            load = rest?;
            if !enter() {
                return Some(load);
            }
        }
    }

    /// WT1, WT2: answers a submitter that was taken out of the line. A thread that sleeps comes back, and must be
    /// nudged once the lock is released; the caller sees to it that a future is woken by
    /// [`wake_answered`](Admission::wake_answered) then.
    pub(super) fn answer(
        &self,
        line: &mut Line<D>,
        waiter: Arc<Waiter>,
        answer: Answer,
    ) -> Option<Arc<Waiter>> {
        if !waiter.answer(answer) {
            return None;
        }
        if !waiter.is_future() {
            return Some(waiter);
        }
        line.answered.push_back(waiter);
        self.has_answered.store(true, Ordering::SeqCst);
        None
    }

    /// WT2: wakes the futures that have their answer. The caller holds no lock.
    #[inline]
    pub(crate) fn wake_answered(&self) {
        while self.has_answered.load(Ordering::SeqCst) {
            let waiter = {
                let mut line = lock(&self.line);
                let first = line.answered.pop_front();
                self.has_answered
                    .store(!line.answered.is_empty(), Ordering::SeqCst);
                first
            };
            if let Some(waiter) = waiter {
                waiter.wake_future();
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
                waiter.nudge_thread();
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
        mut push: impl FnMut(Accepted, &D),
    ) -> (bool, FollowUp) {
        let mut asleep = Vec::new();
        let mut any = false;
        let mut line = lock(&self.line);
        for entry in std::mem::take(&mut line.entries) {
            if !wanted(&entry.dest) {
                line.entries.push_back(entry);
                continue;
            }
            let Entry {
                mut load,
                dest,
                waiter,
                ..
            } = entry;
            if !load.task.note_place() {
                continue;
            }
            any = true;
            let enter = || self.change(|word| Some(word + PLACE)).is_ok();
            enter();
            match waiter {
                None => push(Accepted::new(self.accepted(), load.task), &dest),
                Some(waiter) => {
                    let _none = self.let_in_load(load, &dest, enter, &mut push);
                    asleep.extend(self.answer(&mut line, waiter, Answer::Queued));
                }
            }
        }
        let left = self.end_empty_line(&line);
        drop(line);
        for waiter in asleep {
            waiter.nudge_thread();
        }
        (any, left)
    }

    /// Lets the oldest submitters in elsewhere, `most` tasks at most, while `enter` takes a place there. `accept`
    /// queues the task, or gives the task and the place back.
    ///
    /// Futures are left to [`wake_answered`](Admission::wake_answered) (WT2).
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
            let Some((at, entry)) = first.and_then(|at| Some((at, line.entries.remove(at)?)))
            else {
                return self.end_empty_line(&line);
            };
            served += 1;
            let Entry {
                line_number,
                load,
                dest,
                waiter,
            } = entry;
            let outcome = if enter() {
                let (task, rest) = load.split();
                match accept(task) {
                    Ok(answer) => rest.map_or(Ok(answer), |rest| Err((rest, true))),
                    Err(task) => Err((Load::join(task, rest), false)),
                }
            } else {
                Err((load, false))
            };
            let answer = match outcome {
                Ok(answer) => answer,
                Err((load, goes_on)) => {
                    let entry = Entry {
                        line_number,
                        load,
                        dest,
                        waiter,
                    };
                    line.entries.insert(at, entry);
                    if goes_on {
                        continue;
                    }
                    return self.end_empty_line(&line);
                }
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            let left = self.end_empty_line(&line);
            let asleep = waiter.and_then(|waiter| self.answer(&mut line, waiter, answer));
            drop(line);
            if let Some(waiter) = asleep {
                waiter.nudge_thread();
            }
            if left.ended {
                return left;
            }
        }
    }
}
