//! Tries again where the system refused a thread, for those who cannot do so themselves.
//!
//! A pool *lacks* a thread while tasks wait for a worker that was refused, or while a share could not hand in what
//! stands for its tasks. A thread that blocks on the pool tries again each [`RETRY`]. Who awaits a handle does not
//! block, and who fell asleep before the lack arose does not know of it. For these there is the **rescuer**: one
//! thread with a small stack, which is often to be had where a worker is not, and is gone as soon as nothing lacks.
//!
//! ```text
//!             send, by whoever meets the lack            nothing lacks, or the pool is gone
//!   absent ───────────────────────────────────► present ───────────────────────────────────► absent
//! ```
//!
//! - X1: `present` says that there is a rescuer. It is started under the lock, and `present` stays false where it
//!   is refused, too: nobody counts on a rescuer that never was.
//! - X2: Whoever makes the pool lack does so before it takes the lock to send the rescuer. The rescuer takes its last
//!   look at what lacks under the lock, and clears `present` before it releases that. So it sees the lack, or whoever
//!   sends it sees that it is gone.
//! - X3: The rescuer holds the pool for each try, not while it sleeps, and is none of its workers: it keeps no pool open,
//!   and no release waits for it.
//! - X4: Where it is refused, too, who awaits a handle is the one to try: each poll waits for one `RETRY` at most, then
//!   tries, and wakes itself. Of those who share an executor's thread one waits in each round: `tries` tells the
//!   others that somebody did.
//! - X5: While a worker is *due* (tasks wait for one, and none has been refused yet: it is being started, or the one that
//!   was started last is to call it) a lack may arise to which nobody comes by. Who blocks looks again after a
//!   `RETRY`. Who awaits leaves its waker in `awaiting`, and looks for a lack then; a worker that looked for more,
//!   and made the pool lack, looks who awaits then: where it cannot send the rescuer it wakes them, so that they try.
//!   All of it is `SeqCst`: one of the two sees the other.
//! - X6: Nothing is called under these locks but the start of a thread, and nothing is read that needs another lock.
//!
//! Left out is who fell asleep while no worker was due, where later no thread whatever is to be had: the next to
//! submit, to wait or to poll tries for all.

pub(crate) mod state;

use crate::engine::core::Core;
use crate::panic::{drop_quietly, wake_quietly};
use crate::sync::{Arc, Ordering, Weak, lock, order_seqcst, sleep, spawn_helper};
use std::mem;
use std::task::Waker;
use std::time::Duration;

/// How long to let the system be after it refused a thread, while somebody waits for one.
pub(crate) const RETRY: Duration = Duration::from_millis(10);

/// Enough to start threads and to hand in permits, and for the drop of what users left in a pool that
/// goes with this thread.
const STACK: usize = 256 * 1024;

/// What an awaited handle has to do with it.
#[derive(Default)]
pub(crate) struct Stake {
    /// X4: the last try that it has seen.
    tries: u32,
    /// X5: its number among those who await; 0 for none.
    number: u64,
}

impl Stake {
    /// X5: it awaits no more.
    #[inline]
    pub(crate) fn withdraw(&mut self, core: &Core) {
        if self.number != 0 {
            self.remove(core);
        }
    }

    #[cold]
    fn remove(&mut self, core: &Core) {
        let number = mem::take(&mut self.number);
        if core.is_foreign() {
            return;
        }
        let waker = (core.rescue).change(|awaiting| awaiting.wakers.remove(&number));
        drop_quietly(waker);
    }
}

impl Core {
    /// Whether tasks wait for a thread that was refused.
    pub(crate) fn lacks(&self) -> bool {
        self.is_stranded() || self.threads.lacks_thread() || self.shares.lack()
    }

    /// Nobody lives to run what holds a place. For a moment this is so of each submitter that is about to start the
    /// first worker.
    fn is_stranded(&self) -> bool {
        let counts = self.threads.counts();
        counts.live() == 0 && counts.capacity() > 0 && self.admission.places().held() > 0
    }

    /// X5: tasks wait for a worker for which a thread may have to be started, and it is for somebody to see to it.
    pub(crate) fn is_due(&self) -> bool {
        let counts = self.threads.counts();
        if counts.live() >= counts.capacity() && !counts.is_starting() {
            return false;
        }
        let counts = self.threads.settled_counts();
        let up = self.threads.ready(counts);
        counts.active() < counts.capacity()
            && self.demand() > up
            && self.queue.has_work()
            && self.unfinished() > up
    }

    /// Tries again to start what the system refused; whether it still refuses.
    pub(crate) fn try_again(self: &Arc<Self>) -> bool {
        if !self.lacks() {
            return false;
        }
        if self.is_stranded() && self.ensure_worker().is_err() {
            return true;
        }
        if self.threads.lacks_thread() {
            self.activate();
        }
        if self.shares.lack() {
            self.shares.try_again();
        }
        self.lacks()
    }

    /// X1, X2: sees to it that somebody tries again, if anything lacks; false if the rescuer is refused, too.
    pub(crate) fn send_rescuer(self: &Arc<Self>) -> bool {
        if !self.lacks() {
            return true;
        }
        let mut present = lock(&self.rescue.present);
        if !*present {
            let core = Arc::downgrade(self);
            let name = format!("{}-rescue", self.config.name);
            *present = spawn_helper(name, STACK, move || rescue(&core)).is_ok();
        }
        *present
    }

    /// For one who awaits a task that is not over: sees to it that somebody tries again.
    pub(crate) fn watch(self: &Arc<Self>, stake: &mut Stake, waker: &Waker) {
        self.wake_deferred();
        if self.try_again() {
            if !self.send_rescuer() {
                self.try_in_turn(stake);
                waker.wake_by_ref();
            }
        } else if self.is_due() {
            self.await_due(stake, waker.clone());
            order_seqcst();
            if self.lacks() {
                waker.wake_by_ref();
            }
        }
    }

    /// X4: tries again, after a while; unless somebody did so since this one looked last.
    fn try_in_turn(self: &Arc<Self>, stake: &mut Stake) {
        let tries = &self.rescue.tries;
        // ORDERING: Relaxed: it only says who waits for how long.
        let now = tries.load(Ordering::Relaxed);
        stake.tries = if now == stake.tries {
            sleep(RETRY);
            self.try_again();
            tries.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
        } else {
            now
        };
    }

    /// X5
    #[cold]
    fn await_due(&self, stake: &mut Stake, waker: Waker) {
        let before = self.rescue.change(|awaiting| {
            if stake.number == 0 {
                awaiting.last += 1;
                stake.number = awaiting.last;
            }
            awaiting.wakers.insert(stake.number, waker)
        });
        drop_quietly(before);
    }

    /// X5: for a worker that looked for more, and holds no lock.
    #[inline]
    pub(crate) fn tell_awaiting(self: &Arc<Self>) {
        order_seqcst();
        if self.rescue.awaiting_len.load(Ordering::SeqCst) > 0 && !self.send_rescuer() {
            let wakers = (self.rescue).change(|awaiting| mem::take(&mut awaiting.wakers));
            wakers.into_values().for_each(wake_quietly);
        }
    }
}

/// The body of the rescuer's thread.
fn rescue(core: &Weak<Core>) {
    loop {
        // X3
        sleep(RETRY);
        let Some(core) = core.upgrade() else {
            return;
        };
        core.try_again();
        let mut present = lock(&core.rescue.present);
        // X2
        if !core.lacks() {
            *present = false;
            return;
        }
    }
}
