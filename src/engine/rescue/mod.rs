//! Tries again to start a thread that the system refused, for threads that cannot do so themselves.
//!
//! A pool *lacks* a thread while tasks wait for a worker that was refused, or while a share could not hand in a permit.
//! A thread that blocks on the pool tries again each [`RETRY`]. A handle that is awaited blocks no thread, and a thread
//! that fell asleep before the lack arose does not know of it. For these there is the **rescuer**: one thread with a
//! small stack, which the system often grants where it refuses a worker, and which ends as soon as nothing is lacking.
//!
//! ```text
//!             send_rescuer, by a thread that meets the lack       nothing lacks, or the pool is gone
//!   absent ────────────────────────────────────────────► present ───────────────────────────────────► absent
//! ```
//!
//! - X1: `present` says that there is a rescuer. It is started under the lock, and `present` stays false where it is
//!   refused, too: nobody counts on a rescuer that never was.
//! - X2: A thread that makes the pool lack does so before it takes the lock to send the rescuer. The rescuer takes
//!   its last look at what lacks under the lock, and clears `present` before it releases the lock. So the rescuer
//!   sees the lack, or the thread that sends it sees that it is gone.
//! - X3: The rescuer holds the pool for each try, not while it sleeps, and is none of its workers: it keeps no pool
//!   open, and no release waits for it.
//! - X4: Where the rescuer is refused, too, the handles that are awaited try: each poll waits for one `RETRY` at most,
//!   then tries, and wakes its own task. Of the handles that share an executor's thread one waits in each round: `tries`
//!   tells the others that it did.
//! - X5: While a worker is *due* (tasks wait for one, and none was refused yet: it is being started, or the one that was
//!   started last will call it) a lack may arise that no thread comes by to meet. A thread that blocks looks again after
//!   a `RETRY`. A handle that is awaited leaves its waker in `awaiting`, and looks for a lack then. A worker that looked
//!   for more, and made the pool lack, looks in `awaiting` then: where it cannot send the rescuer it wakes those in it,
//!   so that they try. All of it is `SeqCst`: one of the two sees the other.
//! - X6: Nothing is called under these locks but the start of a thread, and nothing is read that needs another lock.
//!
//! One case is left out: a thread fell asleep while no worker was due, and later the system grants no thread at all.
//! The next thread to submit, to wait or to poll tries for it.

pub(crate) mod state;

use crate::engine::core::Core;
use crate::panic::{drop_quietly, wake_quietly};
use crate::sync::{
    Arc, Instant, Ordering, Weak, deadline_after, lock, order_seqcst, sleep, spawn_helper,
};
use std::mem;
use std::task::Waker;
use std::time::Duration;

/// How long a thread waits until it tries again what the system refused.
const RETRY: Duration = Duration::from_millis(10);

/// Enough to start threads, to hand in permits, and to drop what users left in a pool that ends with this thread.
const STACK: usize = 256 * 1024;

/// What an awaited handle knows of the rescue.
#[derive(Default)]
pub(crate) struct Registration {
    /// X4: the last try that it has seen.
    tries: u32,
    /// X5: its number in `awaiting`; 0 if it is not there.
    number: u64,
}

impl Registration {
    /// X5: takes the waker back, as the handle is awaited no more.
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
    /// Whether the pool lacks a thread.
    pub(crate) fn lacks_thread(&self) -> bool {
        self.is_stranded() || self.threads.start_refused() || self.shares.any_lacking()
    }

    /// No worker lives, and a place is held. For a moment this is true of each submitter that is about to start the
    /// first worker.
    fn is_stranded(&self) -> bool {
        let counts = self.threads.counts();
        counts.live() == 0 && counts.capacity() > 0 && self.admission.places().held() > 0
    }

    /// X5: whether a worker is due, for which a thread may have to be started.
    pub(crate) fn is_due(&self) -> bool {
        let counts = self.threads.counts();
        let standing = counts.live().saturating_sub(self.threads.lent());
        if standing >= counts.capacity() && !counts.is_starting() {
            return false;
        }
        let counts = self.threads.confirmed_counts();
        let up = self.threads.ready(counts);
        counts.active() < counts.capacity()
            && self.demand() > up
            && self.queue.has_work()
            && self.unfinished() > up
    }

    /// Tries again to start what the system refused; whether the pool still lacks a thread.
    pub(crate) fn try_again(self: &Arc<Self>) -> bool {
        if !self.lacks_thread() {
            return false;
        }
        if self.is_stranded() && self.ensure_worker().is_err() {
            return true;
        }
        if self.threads.start_refused() {
            self.activate();
        }
        if self.shares.any_lacking() {
            self.shares.try_again();
        }
        self.lacks_thread()
    }

    /// X1, X2: makes sure that a rescuer tries again, if anything lacks; false if the rescuer is refused, too.
    pub(crate) fn send_rescuer(self: &Arc<Self>) -> bool {
        if !self.lacks_thread() {
            return true;
        }
        let mut present = lock(&self.rescue.present);
        if !*present {
            let core = Arc::downgrade(self);
            let name = format!("{}-rescue", self.config.name);
            *present = spawn_helper(name, STACK, move || run_rescuer(&core)).is_ok();
        }
        *present
    }

    /// For a thread that is about to wait for the pool: makes the wake that it may have deferred (Y4), and tries
    /// again to start what the system refused. Returns when to call this again.
    pub(crate) fn prepare_to_block(self: &Arc<Self>) -> Option<Instant> {
        if self.is_foreign() {
            return None;
        }
        self.wake_if_none_active();
        (self.try_again() || self.is_due()).then(|| deadline_after(RETRY))?
    }

    /// For a handle that is awaited and whose task is not over: makes sure that a thread tries again.
    pub(crate) fn poll_rescue(self: &Arc<Self>, registration: &mut Registration, waker: &Waker) {
        self.wake_if_none_active();
        if self.try_again() {
            if !self.send_rescuer() {
                self.try_in_turn(registration);
                waker.wake_by_ref();
            }
        } else if self.is_due() {
            self.await_due(registration, waker.clone());
            order_seqcst();
            if self.lacks_thread() {
                waker.wake_by_ref();
            }
        }
    }

    /// X4: tries again after a while, unless another handle did since this one looked last.
    fn try_in_turn(self: &Arc<Self>, registration: &mut Registration) {
        let tries = &self.rescue.tries;
        // ORDERING: Relaxed: it only says who waits for how long.
        let now = tries.load(Ordering::Relaxed);
        registration.tries = if now == registration.tries {
            sleep(RETRY);
            self.try_again();
            tries.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
        } else {
            now
        };
    }

    /// X5: leaves the waker in `awaiting`.
    #[cold]
    fn await_due(&self, registration: &mut Registration, waker: Waker) {
        let before = self.rescue.change(|awaiting| {
            if registration.number == 0 {
                awaiting.last += 1;
                registration.number = awaiting.last;
            }
            awaiting.wakers.insert(registration.number, waker)
        });
        drop_quietly(before);
    }

    /// X5: for a worker that looked for more, and holds no lock.
    #[inline]
    pub(crate) fn notify_awaiting(self: &Arc<Self>) {
        order_seqcst();
        if self.rescue.awaiting_len.load(Ordering::SeqCst) > 0 && !self.send_rescuer() {
            let wakers = (self.rescue).change(|awaiting| mem::take(&mut awaiting.wakers));
            wakers.into_values().for_each(wake_quietly);
        }
    }
}

/// The body of the rescuer's thread.
fn run_rescuer(core: &Weak<Core>) {
    loop {
        // X3
        sleep(RETRY);
        let Some(core) = core.upgrade() else {
            return;
        };
        core.try_again();
        let mut present = lock(&core.rescue.present);
        // X2
        if !core.lacks_thread() {
            *present = false;
            return;
        }
    }
}
