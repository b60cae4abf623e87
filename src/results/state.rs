//! The state of a spawned task: who may touch it when, and who waits for it.
//!
//! ```text
//!            claim                 end                  settle
//!  queued ──────────► claimed ─────────────► done ─────────────► settled
//!           worker,             the result             the pool has its
//!           joiner,             is stored              place back: those
//!           canceller                                  who wait may go on
//! ```
//!
//! The word: `| COUNTED | WAITED | HELD | PLACED | SETTLED | DONE | CLAIMED |`.
//!
//! - H1: Who sets `CLAIMED` may take the closure, and stores a result; nobody else does.
//! - H2: `HELD` says that there is a handle. If it is set when `DONE` is, the result is the handle's,
//!   which may touch it once it sees `DONE`; else it stays with who stored it. Both change the same word,
//!   so the result, and with it a panic, has one owner.
//! - H3: `PLACED` says that the queued task holds a place of the pool; who claims it is told.
//! - H4: Whoever waits leaves word in `waiter`, sets `WAITED`, and looks for `SETTLED` once more; who
//!   settles sets `SETTLED` and then looks for `WAITED`. Both change the same word, so one sees the
//!   other.
//! - H5: `COUNTED` says that the task was counted, once it was accepted, by the group that waits for it. It
//!   may be over by then: of who counts and who settles the second sees the first.
//! - H6: A waker is a user's code. It is cloned, woken and dropped without the lock, where the state is whole; what its
//!   clone panics with is the poller's, who has changed nothing yet, all else is caught. The handle takes the last one
//!   out as it lets go: none is in a tombstone.

use crate::engine::spin;
use crate::engine::task::claimable::Spot;
use crate::engine::task::intrusive_arc::Holders;
use crate::panic::{drop_quietly, wake_quietly};
use crate::sync::{
    AtomicU32, Instant, Mutex, Ordering, Thread, current, is_past, lock, park_until, sooner,
    try_lock,
};
use std::task::Waker;

const CLAIMED: u32 = 1;
const DONE: u32 = 2;
const SETTLED: u32 = 4;
const PLACED: u32 = 8;
const HELD: u32 = 16;
const WAITED: u32 = 32;
const COUNTED: u32 = 64;

/// H2: whose the result is.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    Handle,
    Runner,
}

enum Waits {
    Thread(Thread),
    Task(Waker),
}

pub(crate) struct State {
    word: AtomicU32,
    /// Who holds the claimable: at first its spawner, for the handle, and the pool's task.
    pub(super) holders: Holders,
    waiter: Mutex<Option<Waits>>,
}

impl State {
    pub(crate) fn new(held: bool) -> State {
        State {
            word: AtomicU32::new(if held { HELD } else { 0 }),
            holders: Holders::two(),
            waiter: Mutex::new(None),
        }
    }

    /// H1: takes the right to run the task or to abandon it.
    pub(crate) fn claim(&self) -> Option<Spot> {
        // ORDERING: Acquire: pairs with `hold_place`, and with whoever handed the claimable over.
        let before = self.word.fetch_or(CLAIMED, Ordering::AcqRel);
        match before & (CLAIMED | PLACED) {
            0 => Some(Spot::Loose),
            PLACED => Some(Spot::Placed),
            _ => None,
        }
    }

    pub(crate) fn is_claimed(&self) -> bool {
        // ORDERING: Relaxed: a look; who acts on it claims.
        self.word.load(Ordering::Relaxed) & CLAIMED != 0
    }

    /// H3; false if it was claimed before.
    pub(crate) fn hold_place(&self) -> bool {
        let place = |word: u32| (word & CLAIMED == 0).then_some(word | PLACED);
        // ORDERING: Release: with `claim`, who gives the place back does so after it was taken.
        let placed = (self.word).fetch_update(Ordering::AcqRel, Ordering::Relaxed, place);
        placed.is_ok()
    }

    /// H3, without a look at who claimed it.
    ///
    /// # Safety
    ///
    /// Nobody has claimed it (H1), has let go of it (H2) or waits for it (H4), and nobody can before this returns.
    pub(crate) unsafe fn hold_first_place(&self) {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert!(word & !(HELD | PLACED) == 0, "the claimable is new");
        // ORDERING: Relaxed: whoever hands the claimable over publishes it.
        self.word.store(word | PLACED, Ordering::Relaxed);
    }

    /// H2: the result is stored.
    ///
    /// # Safety
    ///
    /// H1: once, for who claimed it. `Keeper::Handle`: the result is not to be touched any more.
    pub(crate) unsafe fn end(&self) -> Keeper {
        // ORDERING: Release: publishes the result to `is_done` and `is_settled`. Acquire: the handle is
        // gone with all it did.
        let before = self.word.fetch_or(DONE, Ordering::AcqRel);
        if before & HELD == 0 {
            Keeper::Runner
        } else {
            Keeper::Handle
        }
    }

    /// H2: there is no handle any more. `Keeper::Handle`: the result is to be dropped by it.
    ///
    /// # Safety
    ///
    /// Once, for the handle. `Keeper::Runner`: the result is not to be touched any more.
    pub(crate) unsafe fn let_go(&self) -> Keeper {
        let waits = lock(&self.waiter).take();
        // ORDERING: as in `end`.
        let before = self.word.fetch_and(!HELD, Ordering::AcqRel);
        // H6
        drop_quietly(waits);
        if before & DONE == 0 {
            Keeper::Runner
        } else {
            Keeper::Handle
        }
    }

    /// H2, H4: the result is the handle's, and nobody left word that has to be taken back.
    pub(crate) fn is_done_and_unwatched(&self) -> bool {
        // ORDERING: Acquire: pairs with `end`.
        self.word.load(Ordering::Acquire) & (DONE | WAITED) == DONE
    }

    /// The same, and the pool has all that the task held.
    pub(crate) fn is_settled_and_unwatched(&self) -> bool {
        // ORDERING: Acquire: pairs with `end` and `settle`.
        self.word.load(Ordering::Acquire) & (SETTLED | WAITED) == SETTLED
    }

    pub(crate) fn is_done(&self) -> bool {
        // ORDERING: Acquire: pairs with `end`.
        self.word.load(Ordering::Acquire) & DONE != 0
    }

    pub(crate) fn is_settled(&self) -> bool {
        // ORDERING: Acquire: pairs with `end` and `settle`.
        self.word.load(Ordering::Acquire) & SETTLED != 0
    }

    /// H5: whether it is to be counted: it is not over yet.
    pub(crate) fn count(&self) -> bool {
        // ORDERING: Acquire: pairs with `settle`.
        self.word.fetch_or(COUNTED, Ordering::AcqRel) & SETTLED == 0
    }

    /// H4: those who wait may go on. H5: whether the task was counted.
    ///
    /// # Safety
    ///
    /// H1: once, for who claimed it, after `end`.
    pub(crate) unsafe fn settle(&self) -> bool {
        // ORDERING: Release: publishes that the place was given back. Acquire: pairs with `wait_for`.
        let before = self.word.fetch_or(SETTLED, Ordering::AcqRel);
        let was_counted = before & COUNTED != 0;
        if before & WAITED == 0 {
            return was_counted;
        }
        // Whoever holds the lock now looks for `SETTLED` when it has let go: it needs no wake. So a thread that
        // is not there any more, in the child of a fork, is not waited for.
        let waits = try_lock(&self.waiter).and_then(|mut waits| waits.take());
        match waits {
            Some(Waits::Thread(thread)) => thread.unpark(),
            // H6
            Some(Waits::Task(waker)) => wake_quietly(waker),
            None => {}
        }
        was_counted
    }

    /// H4: whether it is settled already.
    fn leave_word(&self, waits: Waits) -> bool {
        let former = lock(&self.waiter).replace(waits);
        // ORDERING: Release: publishes the waiter. Acquire: pairs with `settle`.
        let before = self.word.fetch_or(WAITED, Ordering::AcqRel);
        // H6: last, whoever waits now.
        drop_quietly(former);
        before & SETTLED != 0
    }

    /// Waits until the task is settled, after a spin of so many turns; false if `deadline` passed
    /// first. `retry` is called again and again, and its answer is when to do so next.
    pub(crate) fn wait(
        &self,
        turns: u32,
        deadline: Option<Instant>,
        retry: impl Fn() -> Option<Instant>,
    ) -> bool {
        if self.is_settled() || spin::turns_until(turns, || self.is_settled()) {
            return true;
        }
        let mut again = retry();
        if self.leave_word(Waits::Thread(current())) {
            return true;
        }
        while !self.is_settled() {
            // What is done is settled in a moment.
            let deadline = deadline.filter(|_| !self.is_done());
            if is_past(deadline) {
                return false;
            }
            park_until(sooner(again, deadline));
            again = retry();
        }
        true
    }

    /// H6: whether the task is settled; if not, `waker` will be told.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        self.is_settled() || self.leave_word(Waits::Task(waker.clone()))
    }
}
