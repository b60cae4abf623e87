//! One blocked submitter: what it waits on, and the answer it gets.
//!
//! States: `WAITING` → (`PARKED` →) `QUEUED` or `ANSWERED`. Only the submitter moves from `WAITING` to `PARKED`. Only
//! the thread that took its entry out of the line moves on from there, and unparks the submitter if it was parked. So
//! no wake-up is lost, and a submitter that does not sleep is not woken.

use crate::engine::task::Task;
use crate::sync::{
    Arc, AtomicU32, Instant, Mutex, Ordering, Thread, current, is_past, local, lock, park_until,
    sooner,
};
use std::cell::Cell;
use std::io;

const WAITING: u32 = 0;
const PARKED: u32 = 1;
const QUEUED: u32 = 2;
const ANSWERED: u32 = 3;

pub(crate) struct Waiter {
    state: AtomicU32,
    answer: Mutex<Option<Answer>>,
    thread: Thread,
}

/// The answer to a blocked submitter.
pub(crate) enum Answer {
    /// The task is in the queue.
    Queued,
    /// The task is in the queue of the linked pool with this index.
    QueuedAt(usize),
    /// There was room, but no worker lives and none could be started.
    NoThread(Task, io::Error),
    /// The pool was closed.
    Closed(Task),
}

local! {
    /// The waiter that this thread used last, kept so that waiting allocates nothing.
    static SPARE: Cell<Option<Arc<Waiter>>> = Cell::new(None);
}

impl Waiter {
    pub(crate) fn of_this_thread() -> Arc<Waiter> {
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        if let Some(waiter) = spare {
            // ORDERING: Relaxed: the line's lock publishes it.
            waiter.state.store(WAITING, Ordering::Relaxed);
            return waiter;
        }
        Arc::new(Waiter {
            state: AtomicU32::new(WAITING),
            answer: Mutex::new(None),
            thread: current(),
        })
    }

    /// Waits for the answer; `None` if `deadline` passed first (the answer may still come). Calls `retry` again and
    /// again, which returns when to call it next.
    pub(crate) fn wait(
        &self,
        deadline: Option<Instant>,
        retry: impl Fn() -> Option<Instant>,
    ) -> Option<Answer> {
        let mut again = retry();
        // ORDERING: Relaxed: nothing is published, and a failure is read again.
        let parks = Ordering::Relaxed;
        let _ = (self.state).compare_exchange(WAITING, PARKED, parks, Ordering::Relaxed);
        loop {
            if let Some(answer) = self.poll() {
                return Some(answer);
            }
            if is_past(deadline) {
                return None;
            }
            park_until(sooner(again, deadline));
            again = retry();
        }
    }

    /// Makes a parked submitter look again.
    pub(crate) fn nudge(&self) {
        self.thread.unpark();
    }

    fn poll(&self) -> Option<Answer> {
        // ORDERING: Acquire: pairs with the swap in `answer`, which follows the push or the answer.
        match self.state.load(Ordering::Acquire) {
            QUEUED => Some(Answer::Queued),
            ANSWERED => lock(&self.answer).take(),
            _ => None,
        }
    }

    /// Tells the submitter the answer, and wakes it. Called once, by the thread that took its entry out of the line.
    pub(crate) fn wake(&self, answer: Answer) {
        if self.answer(answer) {
            self.nudge();
        }
    }

    /// The same without the wake. Returns whether the submitter sleeps and must be [nudged](Waiter::nudge).
    pub(crate) fn answer(&self, answer: Answer) -> bool {
        let state = match answer {
            Answer::Queued => QUEUED,
            other => {
                *lock(&self.answer) = Some(other);
                ANSWERED
            }
        };
        // ORDERING: Release: publishes the push or the answer, and what made the room; pairs with the load in `poll`.
        // The same word tells whether the submitter was parked.
        self.state.swap(state, Ordering::Release) == PARKED
    }

    /// Keeps the waiter for this thread's next wait. The thread that answered may still have it, but after its swap
    /// in `answer` it only calls `unpark`, which a waiter tolerates.
    pub(crate) fn recycle(self: Arc<Waiter>) {
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }
}
