//! One submitter that waits for room: a blocked thread, or a future that is awaited; and the answer it gets.
//!
//! States: `WAITING` → (`PARKED` →) `QUEUED` or `ANSWERED`. Only the submitter moves from `WAITING` to `PARKED`: a
//! thread before it parks, a future as soon as it has left its waker, which is before it joins the line. Only the
//! thread that took its entry out of the line moves on from there, and wakes the submitter if it was asleep. So no
//! wake-up is lost, and a submitter that does not sleep is not woken.
//!
//! - WT1: The answer is given under the lock of the line, in the critical section in which the entry leaves it. So a
//!   submitter that finds its entry gone has its answer.
//! - WT2: A waker is user code, and so is the drop of one. It is cloned, woken and dropped outside all locks. A future
//!   that is answered is put into a list under the lock of the line, and whoever put it there wakes what is in the list
//!   once it holds no lock.
//! - WT3: A future replaces its waker first and looks for the answer then; the thread that wakes it has given the
//!   answer before it takes the waker. So that thread takes the new waker, or the future sees the answer.
//! - WT4: Whoever waits keeps its waiter until it has taken answer and waker out. So the drop of the last reference,
//!   which may be in the line, drops nothing of a user's.

use crate::engine::admission::load::Load;
use crate::panic::wake_quietly;
use crate::stop::Nudge;
use crate::sync::{
    Arc, AtomicU32, Instant, Mutex, Ordering, Thread, current, is_past, local, lock, park_until,
    sooner,
};
use std::cell::Cell;
use std::io;
use std::task::Waker;

const WAITING: u32 = 0;
const PARKED: u32 = 1;
const QUEUED: u32 = 2;
const ANSWERED: u32 = 3;

pub(crate) struct Waiter {
    state: AtomicU32,
    answer: Mutex<Option<Answer>>,
    sleeper: Sleeper,
}

/// Who waits.
enum Sleeper {
    Thread(Thread),
    /// A future; `None` once its waker was taken.
    #[cfg_attr(
        not(feature = "futures"),
        expect(dead_code, reason = "futures submit only with their feature")
    )]
    Future(Mutex<Option<Waker>>),
}

/// The answer to a submitter that waits. What is not queued comes back.
pub(crate) enum Answer {
    /// The tasks are in the queue.
    Queued,
    /// The task is in the queue of the linked pool with this index.
    QueuedAt(usize),
    /// There was room, but no worker lives and none could be started.
    NoThread(Load, io::Error),
    /// The pool was closed.
    Closed(Load),
}

#[cfg(feature = "futures")]
impl Answer {
    /// What comes back, if anything does.
    pub(crate) fn into_load(self) -> Option<Load> {
        match self {
            Answer::Queued | Answer::QueuedAt(_) => None,
            Answer::NoThread(load, _) | Answer::Closed(load) => Some(load),
        }
    }
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
            sleeper: Sleeper::Thread(current()),
        })
    }

    /// The waiter of a future.
    #[cfg(feature = "futures")]
    pub(crate) fn of_future(waker: Waker) -> Arc<Waiter> {
        Arc::new(Waiter {
            state: AtomicU32::new(PARKED),
            answer: Mutex::new(None),
            sleeper: Sleeper::Future(Mutex::new(Some(waker))),
        })
    }

    /// Waits for the answer; `None` if `deadline` passed or `gives_up` said so first (the answer may still come). Calls
    /// `retry` again and again, which returns when to call it next.
    pub(crate) fn wait(
        &self,
        deadline: Option<Instant>,
        gives_up: impl Fn() -> bool,
        retry: impl Fn() -> Option<Instant>,
    ) -> Option<Answer> {
        let mut again = retry();
        // ORDERING: Relaxed: nothing is published, and a failure is read again.
        let sleeps = Ordering::Relaxed;
        let _ = (self.state).compare_exchange(WAITING, PARKED, sleeps, Ordering::Relaxed);
        loop {
            if let Some(answer) = self.poll() {
                return Some(answer);
            }
            if is_past(deadline) || gives_up() {
                return None;
            }
            park_until(sooner(again, deadline));
            again = retry();
        }
    }

    /// Makes a parked submitter look again. A future is not one.
    pub(crate) fn nudge_thread(&self) {
        if let Sleeper::Thread(thread) = &self.sleeper {
            thread.unpark();
        }
    }

    /// WT2: wakes a future.
    pub(crate) fn wake_future(&self) {
        if let Some(waker) = self.take_waker() {
            wake_quietly(waker);
        }
    }

    fn take_waker(&self) -> Option<Waker> {
        match &self.sleeper {
            Sleeper::Thread(_) => None,
            Sleeper::Future(waker) => lock(waker).take(),
        }
    }

    /// WT4: drops the waker of a future that waits no more.
    #[cfg(feature = "futures")]
    pub(crate) fn drop_waker(&self) {
        crate::panic::drop_quietly(self.take_waker());
    }

    /// WT3: looks for the answer; without one `waker` is woken when it comes.
    #[cfg(feature = "futures")]
    pub(crate) fn poll_with(&self, waker: &Waker) -> Option<Answer> {
        if let Some(answer) = self.poll() {
            return Some(answer);
        }
        if let Sleeper::Future(slot) = &self.sleeper {
            let is_there =
                |old: &Option<Waker>| old.as_ref().is_some_and(|old| old.will_wake(waker));
            if !is_there(&lock(slot)) {
                let new = waker.clone();
                let old = lock(slot).replace(new);
                crate::panic::drop_quietly(old);
            }
        }
        self.poll()
    }

    pub(crate) fn poll(&self) -> Option<Answer> {
        // ORDERING: Acquire: pairs with the swap in `answer`, which follows the push or the answer.
        match self.state.load(Ordering::Acquire) {
            QUEUED => Some(Answer::Queued),
            ANSWERED => lock(&self.answer).take(),
            _ => None,
        }
    }

    pub(super) fn is_future(&self) -> bool {
        matches!(self.sleeper, Sleeper::Future(_))
    }

    /// WT1: tells the submitter the answer. Returns whether it sleeps and must be woken. Called once, by the thread
    /// that takes its entry out of the line.
    #[must_use = "a submitter that sleeps must be woken"]
    pub(super) fn answer(&self, answer: Answer) -> bool {
        let state = match answer {
            Answer::Queued => QUEUED,
            other => {
                *lock(&self.answer) = Some(other);
                ANSWERED
            }
        };
        // ORDERING: Release: publishes the push or the answer, and what made the room; pairs with the load in `poll`.
        // The same word tells whether the submitter was asleep.
        self.state.swap(state, Ordering::Release) == PARKED
    }

    /// Keeps the waiter for this thread's next wait. The thread that answered may still have it, but after its swap
    /// in `answer` it only calls `unpark`, which a waiter tolerates.
    pub(crate) fn recycle(self: Arc<Waiter>) {
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }
}

/// A signal that calls a submitter off makes it look again.
impl Nudge for Waiter {
    fn nudge(&self) {
        self.nudge_thread();
    }
}
