//! How a free worker finds its next task: in the shared queue, or lent by another worker.

use super::Worker;
use crate::engine::local::LocalQueue;
use crate::engine::spin::{self, Between, GATHER, STREAK, Search, retry_steal};
use crate::engine::task::Task;
use crate::sync::{AtomicBool, Ordering, Processors, order_seqcst};

impl Worker {
    /// Looks for a task, and spins in between if no other worker does; `None` when the worker should rest.
    pub(super) fn search(&self) -> Option<Task> {
        let core = &self.core;
        let processors = core.config.processors;
        let mut spinning = None;
        let mut search: Option<Search> = None;
        if self.streak.get() >= STREAK {
            self.streak.set(0);
            spin::pause(processors.spins(GATHER));
        }
        loop {
            if core.queue.has_work() {
                if let Some(task) = self.try_take() {
                    drop(spinning);
                    self.count_streak(search.as_ref().map_or(0, Search::looks));
                    self.pass_on();
                    return Some(task);
                }
            }
            let search = search.get_or_insert_with(|| self.begin_search());
            let counts = core.threads.counts();
            let may_spin = processors.fit(counts.active());
            if search.is_over() || !counts.permits() || !may_spin || counts.is_closed() {
                return None;
            }
            if spinning.is_none() {
                spinning = Some(Spinning::begin(&core.spinning)?);
            }
            match search.next(|| self.served_line.take()) {
                Between::Yield => core.yield_processor(),
                Between::Pause(turns) => spin::pause(turns),
            }
        }
    }

    /// What to do between the looks of a search whose first look found nothing. Where the wakes of submitters that were
    /// let in were deferred, this is the time for them, unless this worker is about to rest.
    fn begin_search(&self) -> Search {
        let core = &self.core;
        core.see_worker();
        let takes_turns = core.takes_turns();
        if !takes_turns {
            core.admission.wake_let_in();
        }
        let spins = if takes_turns {
            Processors::SINGLE
        } else {
            core.config.processors
        };
        Search::new(spins, core.yields_before_rest())
    }

    /// L1, L6: takes a task if that is still permitted once this worker shows as busy.
    pub(super) fn try_take(&self) -> Option<Task> {
        let shared = &self.shared;
        shared.moving.store(true, Ordering::SeqCst);
        order_seqcst();
        let queue = &self.core.queue;
        // L6: once the pool discards, nothing is moved.
        if !self.core.threads.counts().is_discarding()
            && queue.skip_tombstones()
            && !queue.has_work()
        {
            // There are only tombstones: the worker is not busy for those.
            shared.moving.store(false, Ordering::Release);
            return None;
        }
        shared.busy.store(true, Ordering::SeqCst);
        order_seqcst();
        let counts = self.core.threads.counts();
        let task = if counts.permits() && !counts.is_discarding() {
            self.take_or_steal()
        } else {
            None
        };
        if task.is_none() {
            shared.busy.store(false, Ordering::SeqCst);
        }
        // ORDERING: Release: a thread that sees it lowered sees what was moved.
        shared.moving.store(false, Ordering::Release);
        if counts.is_discarding() {
            self.core.discard_late(|| self.core.queue.take(), 1);
        }
        task
    }

    /// Counts how often in a row a task was taken alone with the next one on its way already: that is a stream, not a
    /// round trip.
    pub(super) fn count_streak(&self, looks: u32) {
        let batches = self.core.config.backlog.is_none();
        let alone = batches && looks == 0 && !self.lending.get();
        let streams = alone && self.core.admission.places().held() > 1;
        self.streak
            .set(if streams { self.streak.get() + 1 } else { 0 });
    }

    /// L4: the tasks that a local queue lends hold no place that would count for them: their worker relied on the
    /// free workers there were, and this one is no longer free. And if a thread was refused, this is the time to try
    /// again.
    pub(super) fn pass_on(&self) {
        if self.core.queue.has_lenders() || self.core.threads.start_refused() {
            self.core.wake_more();
        }
    }

    /// Takes a task from the shared queue, else steals one. On success the worker holds a place.
    fn take_or_steal(&self) -> Option<Task> {
        let core = &self.core;
        let local = self.local.borrow();
        let local = local.as_ref()?;
        let shared = if let Some(batch) = &local.batch {
            let workers = core.threads.counts().capacity();
            let task = core.queue.take_batch(batch, workers);
            self.lend_if(!batch.is_empty());
            task
        } else {
            core.queue.take()
        };
        if let Some(task) = shared {
            self.held.set(1);
            return Some(task);
        }
        if !core.queue.has_lenders() {
            return None;
        }
        // The victim may come to rest while its task is in this worker's hands: hold the pool.
        core.admission.hold();
        let stolen = self.steal(local);
        match stolen {
            Some((_, Stolen::Own)) => core.admission.turn_hold_into_place(),
            Some((_, Stolen::Batched)) | None => core.follow_up(core.admission.unhold()),
        }
        let (task, _) = stolen?;
        self.held.set(1);
        self.lend_if(!local.are_empty());
        self.shared.counts.steals.add(1);
        Some(task)
    }

    /// Steals half of what another local queue lends.
    fn steal(&self, local: &LocalQueue) -> Option<(Task, Stolen)> {
        // Not in the visit, which has the lock that this takes.
        let own = self.own_deque(local);
        self.core
            .queue
            .visit(Some(&self.shared), |victim, stealers| {
                if !victim.has_work(stealers) {
                    return None;
                }
                let batched = || {
                    let (from, batch) = (stealers.batch.as_ref()?, local.batch.as_ref()?);
                    let first = || retry_steal(|| from.steal_batch_and_pop(batch));
                    Some(batch.pop().or_else(first)?.task)
                };
                let owned = || {
                    let from = stealers.own.as_ref()?;
                    let first = || retry_steal(|| from.steal_batch_and_pop(own));
                    own.pop().or_else(first)
                };
                (claim_next(batched).map(|task| (task, Stolen::Batched)))
                    .or_else(|| claim_next(owned).map(|task| (task, Stolen::Own)))
            })
    }
}

/// The right to spin, which one free worker has at a time.
struct Spinning<'a>(&'a AtomicBool);

impl<'a> Spinning<'a> {
    fn begin(flag: &'a AtomicBool) -> Option<Spinning<'a>> {
        // ORDERING: Relaxed: it guards nothing but the right to spin.
        let taken = flag.load(Ordering::Relaxed) || flag.swap(true, Ordering::Relaxed);
        (!taken).then_some(Spinning(flag))
    }
}

impl Drop for Spinning<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Takes tasks until one is no tombstone, and claims it.
fn claim_next(mut take: impl FnMut() -> Option<Task>) -> Option<Task> {
    loop {
        let mut task = take()?;
        if task.claim() {
            return Some(task);
        }
    }
}

/// From which of the two deques a task was stolen, which says whether it came with its place.
enum Stolen {
    Own,
    Batched,
}
