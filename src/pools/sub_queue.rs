//! A queue of which only so many tasks run at once, on the workers of a pool.
//!
//! What a sub-queue keeps in the pool are permits: each says that a task of the sub-queue may run. The worker that
//! gets to one takes the oldest task then. So only what may run holds a place of the pool, and there is no
//! other admission and no other worker than the pool's.
//!
//! - S1: `live` tasks wait in the queue of a sub-queue; the rest of it are tombstones. Each live one holds a place
//!   of the [share](ShareCore).
//! - S2: A slot is in use for each permit that was claimed, and for each task that a waiting task of the pool
//!   runs here. (A task that waits for another one of its sub-queue lends its slot.) A task is taken only where
//!   no more than `slots` are then: a permit that is one too many, since a slot was taken from under it while
//!   it was on its way, ends without a task.
//! - S3: On their way are as many permits as there are free slots, or live tasks that no claimed permit is about to
//!   take, whichever is less. Whoever changes a slot or a task [settles](SubQueue::settle) that afterwards.
//!   (A worker claims a permit, under one lock, before it takes the task, under the next: counted as live until
//!   then, the task got a second permit, and that a second worker.)
//! - S4: Locks are taken in this order: the line of the share, that of the pool, a sub-queue. Nothing is handed
//!   in, and no user code runs, under a sub-queue's lock.
//! - S5: A permit ends in this order: the pool has its place back, its slot is free and the next permit sent, the share
//!   has the task's place back, those who wait for the claimable may know. So whoever goes on after the task, the
//!   next one of the sub-queue or a submitter that waited for it, finds the worker free and wakes no second one. A
//!   hold keeps the pool from being at rest from the first of these to the last but one.
//! - S6: A hold keeps the pool from being at rest also while a permit is counted and not yet in: who was accepted
//!   meanwhile relies on it. Where no thread is to be had that is until somebody tries
//!   again ([`lacks_permit`](ShareCore::lacks_permit)) with success.
//! - S7: No permit is taken back before its sender has handed it in; he settles the sub-queue afterwards. (With its place
//!   gone as it was pushed, nobody woke a worker for what was a tombstone: one that had stayed for the place, in a pool
//!   that closed, slept for ever.)

use super::share_core::ShareCore;
use crate::engine::admission::{Admission, Left, Origin};
use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::submit::{Submit, Target};
use crate::engine::task::claimable::{Claim, Claimable, Spot, Unrun};
use crate::engine::task::permits::{Permit, Permits};
use crate::engine::task::{Accepted, Claimed, Outcome, Task, Unsettled};
use crate::error::SubmitErrorKind;
use crate::stats::Counts;
use crate::sync::{
    Arc, AtomicUsize, Instant, Mutex, Weak, is_past, lock, park_until, sooner, try_lock,
};
use std::collections::VecDeque;
use std::mem;

/// So many tombstones in a queue are not worth a sweep.
const FEW_TOMBSTONES: usize = 64;

/// Is told when a sub-queue has so many tasks less, with what the sub-queue was labelled; see
/// [`keyed`](super::keyed).
pub(crate) trait Keeper: Send + Sync {
    fn unpin(&self, label: u64, sub_queue: &SubQueue, tasks: usize);
    /// G2 of [`fork`](crate::fork): nobody holds its lock.
    fn is_unlocked(&self) -> bool;
}

pub(crate) struct SubQueue {
    me: Weak<SubQueue>,
    share: Arc<ShareCore>,
    /// Tasks are run in order also by those who wait for one.
    ordered: bool,
    keeper: Option<(Weak<dyn Keeper>, u64)>,
    inner: Mutex<Inner>,
}

struct Inner {
    queue: VecDeque<Accepted>,
    /// Below 0 for a moment, where a task is claimed between its place and its push.
    live: isize,
    slots: usize,
    permits: Permits,
    /// S3: so many permits were claimed that have not come for their tasks yet.
    coming: usize,
}

/// What settling a sub-queue takes.
enum Step {
    /// S6: with a hold of the pool.
    Send,
    TakeBack(Spot),
}

impl Inner {
    /// S2
    fn has_slot(&self) -> bool {
        self.permits.working() < self.slots
    }

    fn waiting(&self) -> usize {
        usize::try_from(self.live).unwrap_or(0)
    }

    /// S3: so many permits.
    fn wanted(&self) -> usize {
        let free = self.slots.saturating_sub(self.permits.working());
        free.min(self.waiting().saturating_sub(self.coming))
    }

    /// `hold` is called before a permit is counted that is to be sent.
    fn step(&mut self, hold: impl FnOnce()) -> Option<Step> {
        let wanted = self.wanted();
        if self.permits.len() < wanted {
            hold();
            self.permits.add();
            return Some(Step::Send);
        }
        self.spare().map(Step::TakeBack)
    }

    /// S7: takes a permit out of the count that is one too many, to be taken back.
    fn spare(&mut self) -> Option<Spot> {
        if self.permits.underway() > 0 {
            return None;
        }
        self.permits.retire(self.wanted())
    }

    /// S1: takes the oldest task, claimed.
    fn take(&mut self) -> Option<Task> {
        loop {
            let mut accepted = self.queue.pop_front()?;
            if accepted.task.claim() {
                self.live -= 1;
                return Some(accepted.task);
            }
        }
    }

    fn claim(&mut self, placed: bool) -> bool {
        let claimed = self.permits.claim(placed);
        self.coming += usize::from(claimed);
        claimed
    }

    /// S2: takes the oldest task for a permit that was claimed.
    fn take_in_slot(&mut self) -> Option<Task> {
        self.coming -= 1;
        if self.permits.working() > self.slots {
            return None;
        }
        self.take()
    }

    /// The same for a permit that is not to run: there is a slot for it in any case.
    fn take_unrun(&mut self) -> Option<Task> {
        self.coming -= 1;
        self.take()
    }

    /// S1: a live task was claimed elsewhere, under this lock: else permits would come for it in vain.
    fn bury(&mut self) {
        self.live -= 1;
        if self.queue.len() > 2 * self.waiting() + FEW_TOMBSTONES {
            self.queue
                .retain_mut(|accepted| !accepted.task.is_tombstone());
        }
    }
}

impl Target for SubQueue {
    type Dest = Arc<SubQueue>;

    fn dest(self: &Arc<Self>) -> Arc<SubQueue> {
        Arc::clone(self)
    }

    fn core(self: &Arc<Self>) -> &Arc<Core> {
        &self.share.core
    }

    fn admission(&self) -> &Admission<Arc<SubQueue>> {
        &self.share.admission
    }

    fn counts(&self) -> &Counts {
        &self.share.counts
    }

    fn calling(&self) -> &AtomicUsize {
        &self.share.calling
    }

    fn is_paused(&self) -> bool {
        self.share.capacity() == 0
    }

    /// Not past those before it.
    fn may_call(&self) -> bool {
        !self.ordered
    }

    fn queue_accepted(self: &Arc<Self>, mut task: Task) {
        task.hold_place();
        let number = self.share.admission.count_accepted();
        self.push(Accepted::new(number, task));
        if self.share.admission.places().is_discarding() {
            // It got its place before.
            self.share.discard_late();
        }
        self.settle();
        self.share.wake_helpers();
    }

    fn keep<M: FnOnce() -> Task>(self: &Arc<Self>, make: M) -> Result<(), M> {
        Err(make)
    }

    fn keeps_all(&self) -> bool {
        false
    }

    fn serve(self: &Arc<Self>) {
        self.share.serve();
    }

    fn after(self: &Arc<Self>, left: Left) {
        self.share.after(left);
    }

    /// The sub-queue's own first; where it has none, the oldest of all.
    fn take_oldest(self: &Arc<Self>) -> Option<(Task, Arc<SubQueue>)> {
        if let Some(task) = lock(&self.inner).take() {
            return Some((task, Arc::clone(self)));
        }
        let sub_queues = self.share.sub_queues();
        let oldest = sub_queues.into_iter().filter_map(|sub_queue| {
            let number = lock(&sub_queue.inner).queue.front()?.number();
            Some((number, sub_queue))
        });
        let (_, sub_queue) = oldest.min_by_key(|(number, _)| *number)?;
        let task = lock(&sub_queue.inner).take()?;
        Some((task, sub_queue))
    }

    fn has_queued(&self) -> bool {
        let sub_queues = self.share.sub_queues();
        sub_queues
            .iter()
            .any(|sub_queue| lock(&sub_queue.inner).live > 0)
    }

    fn discard(self: &Arc<Self>, task: Task, from: Arc<SubQueue>) {
        self.share.drop_unrun(task);
        from.unpin(1);
        from.settle();
    }

    fn call<T>(self: &Arc<Self>, f: impl FnOnce() -> T) -> T {
        self.share.call(f)
    }
}

impl SubQueue {
    /// `ordered`: also those who wait for a task run those before it first.
    pub(super) fn new(
        share: &Arc<ShareCore>,
        slots: usize,
        ordered: bool,
        keeper: Option<(Weak<dyn Keeper>, u64)>,
    ) -> Arc<SubQueue> {
        let sub_queue = SubQueue::make(share, slots, ordered, keeper);
        share.enrol(&sub_queue);
        sub_queue
    }

    /// One that is not of the share: to be refused by.
    pub(super) fn of_nobody(share: &Arc<ShareCore>) -> Arc<SubQueue> {
        SubQueue::make(share, 1, true, None)
    }

    fn make(
        share: &Arc<ShareCore>,
        slots: usize,
        ordered: bool,
        keeper: Option<(Weak<dyn Keeper>, u64)>,
    ) -> Arc<SubQueue> {
        Arc::new_cyclic(|me| SubQueue {
            me: Weak::clone(me),
            share: Arc::clone(share),
            ordered,
            keeper,
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                live: 0,
                slots,
                permits: Permits::default(),
                coming: 0,
            }),
        })
    }

    /// The slots are to be [settled](SubQueue::settle) then.
    pub(super) fn set_slots(&self, slots: usize) {
        lock(&self.inner).slots = slots;
    }

    pub(super) fn take_next(&self) -> Option<Task> {
        lock(&self.inner).take()
    }

    /// G2 of [`fork`](crate::fork): nothing waits or is on its way, and nobody holds the lock.
    pub(super) fn is_untouched(&self) -> bool {
        try_lock(&self.inner).is_some_and(|inner| {
            inner.live == 0 && inner.permits.len() == 0 && inner.permits.working() == 0
        })
    }

    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    pub(super) fn is(&self, other: &SubQueue) -> bool {
        std::ptr::eq(self, other)
    }

    fn arc(&self) -> Arc<SubQueue> {
        // Whoever calls this has one.
        self.me.upgrade().unwrap_or_else(|| unreachable!())
    }

    pub(crate) fn share(&self) -> &Arc<ShareCore> {
        &self.share
    }

    pub(super) fn push(&self, accepted: Accepted) {
        let mut inner = lock(&self.inner);
        inner.queue.push_back(accepted);
        inner.live += 1;
    }

    /// S3
    pub(super) fn settle(self: &Arc<Self>) {
        if !self.sends_all() {
            self.share.lacks_permit(self);
        }
    }

    /// S3, S6: false, and with a hold of the pool, if no thread was to be had for a permit.
    pub(super) fn sends_all(self: &Arc<Self>) -> bool {
        let core = &self.share.core;
        loop {
            let step = lock(&self.inner).step(|| core.admission.hold());
            match step {
                None => return true,
                Some(Step::TakeBack(spot)) => core.take_back(spot),
                Some(Step::Send) => match self.send() {
                    Err(SubmitErrorKind::NoThread) => return false,
                    sent => {
                        if sent.is_err() {
                            // The pool discards what is left.
                            self.share.discard_late();
                        }
                        core.after(core.admission.unhold());
                    }
                },
            }
        }
    }

    /// Hands in a permit that was counted.
    fn send(self: &Arc<Self>) -> Result<(), SubmitErrorKind> {
        let permit = Task::of_permit(Arc::clone(self) as _);
        let sent = self.share.core.submit_ahead(permit, Origin::Inside);
        lock(&self.inner).permits.added(sent.is_ok());
        sent.map_err(|refusal| {
            refusal.task.disown();
            refusal.kind
        })
    }

    /// So many tasks are over: their places are free.
    pub(super) fn over(self: &Arc<Self>, tasks: usize) {
        self.unpin(tasks);
        self.share.after(self.share.admission.leave(tasks as u64));
    }

    pub(super) fn unpin(&self, tasks: usize) {
        if let Some((keeper, label)) = &self.keeper {
            if let Some(keeper) = keeper.upgrade() {
                keeper.unpin(*label, self, tasks);
            }
        }
    }

    /// S2, N3: a slot is free again.
    fn free_slot(self: &Arc<Self>) {
        lock(&self.inner).permits.end();
        self.settle();
        self.share.wake_helpers();
    }

    /// Runs what was claimed, in a slot that `free_slot` frees; it hears how it ended. What comes back is to be
    /// settled.
    fn run<'a>(
        self: &Arc<Self>,
        work: Claimed<'a>,
        spot: Spot,
        free_slot: impl FnOnce(Outcome),
    ) -> Option<Unsettled<'a>> {
        let share = &self.share;
        let sub_queue: *const () = std::ptr::from_ref(&**self).cast();
        let over = |outcome| {
            let ended = share.end(outcome);
            if share.is_foreign() {
                // The task forked, and ended here.
                return;
            }
            free_slot(ended);
            match spot {
                Spot::Placed => self.over(1),
                Spot::Loose => self.unpin(1),
            }
            share.wake_helpers();
        };
        share.begin();
        current::within(share.address(), || {
            current::within(sub_queue, || work.run(over))
        })
    }

    // ── for those who wait in a task of the pool ────────────────────────────────────────────

    fn lends(&self) -> bool {
        current::is_within(std::ptr::from_ref(self).cast())
    }

    pub(super) fn may_help(&self) -> bool {
        let inner = lock(&self.inner);
        inner.live > 0 && (inner.has_slot() || self.lends())
    }

    /// Runs what `take` takes, if there is a slot; whether it did.
    fn help<'a>(
        self: &Arc<Self>,
        take: impl FnOnce(&mut Inner) -> Option<(Claimed<'a>, Spot)>,
    ) -> bool {
        let lends = self.lends();
        let (work, spot, permit) = {
            let mut inner = lock(&self.inner);
            if !lends && !inner.has_slot() {
                return false;
            }
            let Some((work, spot)) = take(&mut inner) else {
                return false;
            };
            if !lends {
                inner.permits.begin();
            }
            (work, spot, inner.spare())
        };
        if spot == Spot::Loose {
            self.share.after(self.share.admission.drop_tombstones());
        }
        let unsettled = self.share.core.run_instead(permit, || {
            let mut ended = Outcome::Completed;
            let unsettled = self.run(work, spot, |outcome| {
                ended = outcome;
                if !lends {
                    self.free_slot();
                }
            });
            (ended, unsettled)
        });
        if let Some(unsettled) = unsettled {
            unsettled.settle();
        }
        true
    }

    pub(super) fn help_with_next(self: &Arc<Self>) -> bool {
        self.help(|inner| Some((Claimed::Task(inner.take()?), Spot::Placed)))
    }

    /// Runs a claimable of the sub-queue that has not started, with those before it if the sub-queue is ordered, as
    /// soon as there is a slot. Returns when somebody has claimed it, or at the deadline.
    pub(crate) fn help_with(
        self: &Arc<Self>,
        claimable: &dyn Claimable,
        deadline: Option<Instant>,
    ) {
        while !claimable.is_claimed() {
            let helped = if self.ordered {
                self.help_with_next()
            } else {
                self.help(|inner| {
                    let claim = Claim::take(claimable)?;
                    let spot = claim.spot();
                    if spot == Spot::Placed {
                        inner.bury();
                    }
                    Some((Claimed::Claimable(claim), spot))
                })
            };
            if helped {
                if self.share.is_foreign() {
                    return;
                }
                continue;
            }
            if self.ordered && self.come_in() {
                continue;
            }
            if is_past(deadline) {
                return;
            }
            self.share.will_help();
            if claimable.is_claimed() || self.may_help() {
                continue;
            }
            park_until(sooner(self.share.rescue(), deadline));
        }
    }

    /// Where the claimable waits in line, room may be with tasks that need the worker which waits here.
    fn come_in(self: &Arc<Self>) -> bool {
        if !self.share.admission.places().has_line() {
            return false;
        }
        let (any, left) = (self.share.admission).let_in(
            |sub_queue| Arc::ptr_eq(sub_queue, self),
            |accepted, sub_queue| sub_queue.push(accepted),
        );
        self.share.after(left);
        any
    }

    /// Cancels a claimable that nobody has claimed.
    pub(crate) fn cancel(self: &Arc<Self>, claimable: &dyn Claimable) -> bool {
        let share = &self.share;
        share.admission.hold();
        let claim = {
            let mut inner = lock(&self.inner);
            let claim = Claim::take(claimable);
            let spot = claim.as_ref().map(Claim::spot);
            if spot == Some(Spot::Placed) {
                inner.bury();
            }
            claim
        };
        let cancelled = claim.is_some();
        if let Some(claim) = claim {
            let spot = claim.spot();
            let ended = share.call(|| claim.abandon(Unrun::Cancelled));
            share.counts.cancelled.add(1);
            match spot {
                Spot::Placed => {
                    self.over(1);
                    self.settle();
                }
                Spot::Loose => {
                    share.after(share.admission.drop_tombstones());
                    self.unpin(1);
                }
            }
            ended.settle();
        }
        share.after(share.admission.unhold());
        share.wake_helpers();
        cancelled
    }
}

impl Drop for SubQueue {
    /// G3 of [`fork`](crate::fork).
    fn drop(&mut self) {
        if self.share.is_foreign() {
            let inner = self.inner.get_mut();
            mem::forget(inner.map(|inner| mem::take(&mut inner.queue)));
        }
    }
}

impl Permit for SubQueue {
    fn claim(&self, placed: bool) -> bool {
        lock(&self.inner).claim(placed)
    }

    fn has(&self, placed: bool) -> bool {
        lock(&self.inner).permits.has(placed)
    }

    fn hold_place(&self) -> bool {
        lock(&self.inner).permits.hold_place()
    }

    /// S5
    fn run(&self, over: &mut dyn FnMut(Outcome)) {
        let (task, sub_queue) = (lock(&self.inner).take_in_slot(), self.arc());
        let core = &self.share.core;
        let mut free_slot = |outcome| {
            core.admission.hold();
            over(outcome);
            sub_queue.free_slot();
        };
        let unsettled = if let Some(task) = task {
            sub_queue.run(Claimed::Task(task), Spot::Placed, free_slot)
        } else {
            free_slot(Outcome::Cancelled);
            None
        };
        if self.share.is_foreign() {
            // The task forked, and ended here.
            return;
        }
        core.after(core.admission.unhold());
        if let Some(unsettled) = unsettled {
            unsettled.settle();
        }
    }

    /// The pool discards a task of the share: the sub-queue's oldest.
    fn abandon(&self) {
        let (task, sub_queue) = (lock(&self.inner).take_unrun(), self.arc());
        if let Some(task) = task {
            self.share.drop_unrun(task);
            sub_queue.over(1);
        }
        sub_queue.free_slot();
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    fn accepted(number: u64) -> Accepted {
        Accepted::new(number, Task::new(|| {}))
    }

    /// S2: who waits in a task takes the slot of a permit that is on its way, which then comes in vain.
    #[test]
    fn a_permit_whose_slot_was_taken_takes_no_task() {
        let mut inner = Inner {
            queue: (0..2).map(accepted).collect(),
            live: 2,
            slots: 1,
            permits: Permits::default(),
            coming: 0,
        };
        assert!(matches!(inner.step(|| ()), Some(Step::Send)));
        // Before the sender knows that the permit was accepted.
        assert!(inner.has_slot());
        let helped = inner.take().unwrap();
        inner.permits.begin();
        assert_eq!(inner.spare(), None);
        assert!(inner.claim(false));
        assert!(inner.take_in_slot().is_none());
        // What the helper runs is over, and the next permit takes the next task.
        drop(helped);
        inner.permits.end();
        inner.permits.end();
        inner.permits.added(true);
        assert!(matches!(inner.step(|| ()), Some(Step::Send)));
        assert!(inner.claim(false));
        assert!(inner.take_in_slot().is_some());
    }

    /// S3: a task that a claimed permit is about to take gets no second one, though there is a slot for it.
    #[test]
    fn a_task_whose_token_was_claimed_gets_no_other() {
        let mut inner = Inner {
            queue: VecDeque::from([accepted(0)]),
            live: 1,
            slots: 2,
            permits: Permits::default(),
            coming: 0,
        };
        assert!(matches!(inner.step(|| ()), Some(Step::Send)));
        inner.permits.added(true);
        assert!(inner.claim(false));
        assert!(inner.step(|| ()).is_none());
        // One more task does.
        inner.queue.push_back(accepted(1));
        inner.live += 1;
        assert!(matches!(inner.step(|| ()), Some(Step::Send)));
        assert!(inner.step(|| ()).is_none());
        // The first permit takes its task; nothing is left for a third.
        assert!(inner.take_in_slot().is_some());
        assert!(inner.step(|| ()).is_none());
    }

    /// S7: what is one too many before its sender has it in the queue is taken back by that one.
    #[test]
    fn a_permit_underway_is_not_taken_back() {
        let mut inner = Inner {
            queue: VecDeque::from([accepted(0)]),
            live: 1,
            slots: 1,
            permits: Permits::default(),
            coming: 0,
        };
        assert!(matches!(inner.step(|| ()), Some(Step::Send)));
        assert!(inner.permits.hold_place());
        // Its task is cancelled.
        inner.live = 0;
        assert!(inner.step(|| ()).is_none());
        inner.permits.added(true);
        assert!(matches!(
            inner.step(|| ()),
            Some(Step::TakeBack(Spot::Placed))
        ));
        assert!(inner.step(|| ()).is_none());
    }
}
