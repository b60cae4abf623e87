//! The state of a spawned task: who may touch the task when, and who waits for it.
//!
//! ```text
//!            claim                 end                  settle
//!  queued ──────────► claimed ─────────────► done ─────────────► settled
//!           worker,             the result             the pool has its
//!           joiner,             is stored              place back: those
//!           canceller                                  who wait may go on
//! ```
//!
//! One word has the flags `| COUNTED | WAITED | HELD | PLACED | SETTLED | DONE | CLAIMED |`.
//!
//! - H1: Whoever sets `CLAIMED` may take the closure, and stores a result; nobody else does.
//! - H2: `HELD` means that there is a handle. If it is set when `DONE` is set, the result is the handle's, which may
//!   touch it once it sees `DONE`; otherwise the result stays with whoever stored it. Both change the same word, so the
//!   result, and with it a panic, has one owner.
//! - H3: `PLACED` means that the queued task holds a place of the pool; whoever claims the task learns it.
//! - H4: Whoever waits stores itself in `joiner`, sets `WAITED`, and looks for `SETTLED` once more; whoever settles
//!   sets `SETTLED` and then looks for `WAITED`. Both change the same word, so one of the two sees the other.
//! - H5: `COUNTED` means that the group that waits for the task counted it after it was accepted. The task may be over
//!   by then: of counting and settling, the second sees the first.
//! - H6: A waker is user code. It is cloned, woken and dropped without the lock, while the state is consistent. A panic
//!   of its clone goes to the poller, who has changed nothing yet; any other panic is caught. The handle takes the last
//!   waker out when it gives up the task, so a tombstone has none.

use crate::engine::spin;
use crate::engine::task::claimable::Placement;
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

/// H2: the owner of the result.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    Handle,
    Runner,
}

enum Joiner {
    Thread(Thread),
    Task(Waker),
}

pub(crate) struct State {
    word: AtomicU32,
    /// Who holds the spawned task: at first its spawner, for the handle, and the queued task.
    pub(super) holders: Holders,
    joiner: Mutex<Option<Joiner>>,
}

impl State {
    pub(crate) fn new(held: bool) -> State {
        State {
            word: AtomicU32::new(if held { HELD } else { 0 }),
            holders: Holders::two(),
            joiner: Mutex::new(None),
        }
    }

    /// H1: takes the right to run the task or to abandon it.
    pub(crate) fn claim(&self) -> Option<Placement> {
        // ORDERING: Acquire: pairs with `note_place`, and with whoever handed the claimable over.
        let before = self.word.fetch_or(CLAIMED, Ordering::AcqRel);
        match before & (CLAIMED | PLACED) {
            0 => Some(Placement::Unplaced),
            PLACED => Some(Placement::Placed),
            _ => None,
        }
    }

    pub(crate) fn is_claimed(&self) -> bool {
        // ORDERING: Relaxed: a look; whoever acts on it claims.
        self.word.load(Ordering::Relaxed) & CLAIMED != 0
    }

    /// H3: notes that the queued task holds a place; false if it was claimed before.
    pub(crate) fn note_place(&self) -> bool {
        let place = |word: u32| (word & CLAIMED == 0).then_some(word | PLACED);
        // ORDERING: Release: with `claim`, whoever gives the place back does so after it was taken.
        let placed = (self.word).fetch_update(Ordering::AcqRel, Ordering::Relaxed, place);
        placed.is_ok()
    }

    /// H3: the same for a task that nobody can have claimed.
    ///
    /// # Safety
    ///
    /// Nobody has claimed the task (H1), given it up (H2) or waits for it (H4), and nobody can before this returns.
    pub(crate) unsafe fn note_first_place(&self) {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert!(word & !(HELD | PLACED) == 0, "the claimable is new");
        // ORDERING: Relaxed: whoever hands the claimable over publishes it.
        self.word.store(word | PLACED, Ordering::Relaxed);
    }

    /// H2: the result is stored.
    ///
    /// # Safety
    ///
    /// H1: once, by whoever claimed the task. After `Keeper::Handle` the caller must not touch the result any more.
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

    /// H2: the handle is gone. `Keeper::Handle`: the caller drops the result.
    ///
    /// # Safety
    ///
    /// Once, by the handle. After `Keeper::Runner` the caller must not touch the result any more.
    pub(crate) unsafe fn give_up(&self) -> Keeper {
        let joiner = lock(&self.joiner).take();
        // ORDERING: as in `end`.
        let before = self.word.fetch_and(!HELD, Ordering::AcqRel);
        // H6
        drop_quietly(joiner);
        if before & DONE == 0 {
            Keeper::Runner
        } else {
            Keeper::Handle
        }
    }

    /// H2, H4: the result is the handle's, and no joiner has to be taken back.
    pub(crate) fn is_done_and_unwatched(&self) -> bool {
        // ORDERING: Acquire: pairs with `end`.
        self.word.load(Ordering::Acquire) & (DONE | WAITED) == DONE
    }

    /// The same, and the task has given back all that it held of the pool.
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

    /// H5: counts the task; false if it is over, and need not be counted.
    pub(crate) fn count(&self) -> bool {
        // ORDERING: Acquire: pairs with `settle`.
        self.word.fetch_or(COUNTED, Ordering::AcqRel) & SETTLED == 0
    }

    /// H4: those who wait may go on. H5: returns whether the task was counted.
    ///
    /// # Safety
    ///
    /// H1: once, by whoever claimed the task, after `end`.
    pub(crate) unsafe fn settle(&self) -> bool {
        // ORDERING: Release: publishes that the place was given back. Acquire: pairs with `leave_joiner`.
        let before = self.word.fetch_or(SETTLED, Ordering::AcqRel);
        let was_counted = before & COUNTED != 0;
        if before & WAITED == 0 {
            return was_counted;
        }
        // Whoever holds the lock now looks for `SETTLED` after releasing it, and needs no wake. So this never waits for
        // a thread that does not exist any more, in the child of a fork.
        let joiner = try_lock(&self.joiner).and_then(|mut joiner| joiner.take());
        match joiner {
            Some(Joiner::Thread(thread)) => thread.unpark(),
            // H6
            Some(Joiner::Task(waker)) => wake_quietly(waker),
            None => {}
        }
        was_counted
    }

    /// H4: stores who joins; true if the task is settled already.
    fn leave_joiner(&self, joiner: Joiner) -> bool {
        let former = lock(&self.joiner).replace(joiner);
        // ORDERING: Release: publishes the joiner. Acquire: pairs with `settle`.
        let before = self.word.fetch_or(WAITED, Ordering::AcqRel);
        // H6: at the end, when the new joiner is in place.
        drop_quietly(former);
        before & SETTLED != 0
    }

    /// Waits until the task is settled, first spinning for `turns`; false if `deadline` passes first. `retry` is called
    /// before each sleep, and returns when to call it next.
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
        if self.leave_joiner(Joiner::Thread(current())) {
            return true;
        }
        while !self.is_settled() {
            // A task that is done is settled in a moment.
            let deadline = deadline.filter(|_| !self.is_done());
            if is_past(deadline) {
                return false;
            }
            park_until(sooner(again, deadline));
            again = retry();
        }
        true
    }

    /// H6: returns whether the task is settled; if not, `waker` will be woken.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        self.is_settled() || self.leave_joiner(Joiner::Task(waker.clone()))
    }
}
