//! A queue of which only so many tasks run at once, on the workers of a pool.
//!
//! What a strand keeps in the pool are tokens: each says that a task of the strand may run. The worker that
//! gets to one takes the oldest task then. So only what may run holds a place of the pool, and there is no
//! other admission and no other worker than the pool's.
//!
//! - S1: `live` tasks wait in the queue of a strand; the rest of it are shells. Each live one holds a place
//!   of the [lane](Lane).
//! - S2: A slot is in use for each token that was claimed, and for each task that a waiting task of the pool
//!   runs here. (A task that waits for another one of its strand lends its slot.) A task is taken only where
//!   no more than `slots` are then: a token that is one too many, since a slot was taken from under it while
//!   it was on its way, ends without a task.
//! - S3: On their way are as many tokens as there are free slots or live tasks, whichever is less. Whoever
//!   changes a slot or a task [settles](Strand::settle) that afterwards.
//! - S4: Locks are taken in this order: the line of the lane, that of the pool, a strand. Nothing is handed
//!   in, and no user code runs, under a strand's lock.

use super::lane::Lane;
use crate::engine::admission::{Admission, Left, Origin};
use crate::engine::job::{Job, Spot, Unrun};
use crate::engine::submit::{Door, House};
use crate::engine::task::{Accepted, Claimed, Outcome, Task};
use crate::engine::ticket::Ticket;
use crate::engine::tokens::{Token, Tokens};
use crate::engine::{Core, current};
use crate::error::SubmitErrorKind;
use crate::results::state::State;
use crate::stats::Counts;
use crate::sync::{
    Arc, AtomicUsize, Instant, Mutex, Ordering, Weak, is_past, lock, park_until, sooner,
};
use std::collections::VecDeque;

/// So many shells in a queue are not worth a sweep.
const FEW_SHELLS: usize = 64;

/// Is told when a strand has so many tasks less, with what the strand was labelled; see
/// [`keyed`](super::keyed).
pub(crate) trait Keeper: Send + Sync {
    fn unpin(&self, label: u64, strand: &Strand, tasks: usize);
}

pub(crate) struct Strand {
    me: Weak<Strand>,
    lane: Arc<Lane>,
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
    tokens: Tokens,
}

/// What settling a strand takes.
enum Step {
    Send,
    TakeBack(Spot),
}

impl Inner {
    /// S2
    fn has_slot(&self) -> bool {
        self.tokens.working() < self.slots
    }

    fn waiting(&self) -> usize {
        usize::try_from(self.live).unwrap_or(0)
    }

    /// S3: so many tokens.
    fn wanted(&self) -> usize {
        let free = self.slots.saturating_sub(self.tokens.working());
        free.min(self.waiting())
    }

    fn step(&mut self) -> Option<Step> {
        let wanted = self.wanted();
        if self.tokens.len() < wanted {
            self.tokens.add();
            return Some(Step::Send);
        }
        self.tokens.retire(wanted).map(Step::TakeBack)
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

    /// S2: takes the oldest task for a token that was claimed.
    fn take_in_slot(&mut self) -> Option<Task> {
        if self.tokens.working() > self.slots {
            return None;
        }
        self.take()
    }

    /// S1: a live task was claimed elsewhere, under this lock: else tokens would come for it in vain.
    fn bury(&mut self) {
        self.live -= 1;
        if self.queue.len() > 2 * self.waiting() + FEW_SHELLS {
            self.queue.retain_mut(|accepted| !accepted.task.is_shell());
        }
    }
}

impl House for Strand {
    type Dest = Arc<Strand>;

    fn dest(self: &Arc<Self>) -> Arc<Strand> {
        Arc::clone(self)
    }

    fn core(self: &Arc<Self>) -> &Arc<Core> {
        &self.lane.core
    }

    fn admission(&self) -> &Admission<Arc<Strand>> {
        &self.lane.admission
    }

    fn counts(&self) -> &Counts {
        &self.lane.counts
    }

    fn calling(&self) -> &AtomicUsize {
        &self.lane.calling
    }

    fn is_paused(&self) -> bool {
        self.lane.capacity() == 0
    }

    /// Not past those before it.
    fn may_call(&self) -> bool {
        !self.ordered
    }

    fn queue_accepted(self: &Arc<Self>, mut task: Task) {
        task.hold_place();
        let number = self.lane.admission.count_accepted();
        self.push(Accepted::new(number, task));
        self.settle();
        self.lane.wake_helpers();
    }

    fn keep<M: FnOnce() -> Task>(self: &Arc<Self>, make: M) -> Result<(), M> {
        Err(make)
    }

    fn keeps_all(&self) -> bool {
        false
    }

    fn serve(self: &Arc<Self>) {
        self.lane.serve();
    }

    fn after(self: &Arc<Self>, left: Left) {
        self.lane.after(left);
    }

    /// The strand's own first; where it has none, the oldest of all.
    fn take_oldest(self: &Arc<Self>) -> Option<(Task, Arc<Strand>)> {
        if let Some(task) = lock(&self.inner).take() {
            return Some((task, Arc::clone(self)));
        }
        let strands = self.lane.strands();
        let oldest = strands.into_iter().filter_map(|strand| {
            let number = lock(&strand.inner).queue.front()?.number();
            Some((number, strand))
        });
        let (_, strand) = oldest.min_by_key(|(number, _)| *number)?;
        let task = lock(&strand.inner).take()?;
        Some((task, strand))
    }

    fn has_queued(&self) -> bool {
        let strands = self.lane.strands();
        strands.iter().any(|strand| lock(&strand.inner).live > 0)
    }

    fn discard(self: &Arc<Self>, task: Task, from: Arc<Strand>) {
        self.lane.drop_unrun(task);
        from.unpin(1);
        from.settle();
    }

    fn call<T>(self: &Arc<Self>, f: impl FnOnce() -> T) -> T {
        self.lane.call(f)
    }
}

impl Strand {
    /// `ordered`: also those who wait for a task run those before it first.
    pub(super) fn new(
        lane: &Arc<Lane>,
        slots: usize,
        ordered: bool,
        keeper: Option<(Weak<dyn Keeper>, u64)>,
    ) -> Arc<Strand> {
        let strand = Arc::new_cyclic(|me| Strand {
            me: Weak::clone(me),
            lane: Arc::clone(lane),
            ordered,
            keeper,
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                live: 0,
                slots,
                tokens: Tokens::default(),
            }),
        });
        lane.enrol(&strand);
        strand
    }

    /// The slots are to be [settled](Strand::settle) then.
    pub(super) fn set_slots(&self, slots: usize) {
        lock(&self.inner).slots = slots;
    }

    pub(super) fn take_next(&self) -> Option<Task> {
        lock(&self.inner).take()
    }

    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    pub(super) fn is(&self, other: &Strand) -> bool {
        std::ptr::eq(self, other)
    }

    fn arc(&self) -> Arc<Strand> {
        // Whoever calls this has one.
        self.me.upgrade().unwrap_or_else(|| unreachable!())
    }

    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    pub(super) fn push(&self, accepted: Accepted) {
        let mut inner = lock(&self.inner);
        inner.queue.push_back(accepted);
        inner.live += 1;
    }

    /// S3
    pub(super) fn settle(self: &Arc<Self>) {
        loop {
            let step = lock(&self.inner).step();
            let core = &self.lane.core;
            match step {
                None => return,
                Some(Step::TakeBack(spot)) => core.take_back(spot),
                Some(Step::Send) => {
                    let token = Task::of_token(Arc::clone(self) as _);
                    let sent = core.submit_ahead(token, Origin::Inside);
                    let accepted = sent.is_ok();
                    lock(&self.inner).tokens.added(accepted);
                    if let Err(refusal) = sent {
                        refusal.task.disown();
                        if refusal.kind == SubmitErrorKind::Closed {
                            // The pool discards what is left.
                            self.lane.discard_backlog();
                        } else {
                            // No thread is to be had, and whoever waits tries again.
                            self.lane.lacks_token.store(true, Ordering::SeqCst);
                            core.lacks_token();
                        }
                        return;
                    }
                }
            }
        }
    }

    /// So many tasks are over: their places are free.
    pub(super) fn over(self: &Arc<Self>, tasks: usize) {
        self.unpin(tasks);
        self.lane.after(self.lane.admission.leave(tasks as u64));
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
        lock(&self.inner).tokens.end();
        self.settle();
        self.lane.wake_helpers();
    }

    /// Runs what was claimed, in a slot that `free_slot` frees.
    fn run(
        self: &Arc<Self>,
        work: Claimed<'_>,
        spot: Spot,
        with: &mut Option<Ticket>,
        free_slot: impl FnOnce(),
    ) -> Outcome {
        let lane = &self.lane;
        let strand: *const () = std::ptr::from_ref(&**self).cast();
        let mut ended = Outcome::Completed;
        let over = |outcome| {
            ended = lane.end(outcome);
            free_slot();
            match spot {
                Spot::Placed => self.over(1),
                Spot::Loose => self.unpin(1),
            }
            lane.wake_helpers();
        };
        lane.begin();
        current::within(lane.address(), || {
            current::within(strand, || *with = work.run(over));
        });
        ended
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
        let (work, spot, token) = {
            let mut inner = lock(&self.inner);
            if !lends && !inner.has_slot() {
                return false;
            }
            let Some((work, spot)) = take(&mut inner) else {
                return false;
            };
            if !lends {
                inner.tokens.begin();
            }
            let wanted = inner.wanted();
            (work, spot, inner.tokens.retire(wanted))
        };
        if spot == Spot::Loose {
            self.lane.after(self.lane.admission.drop_shells());
        }
        let mut with = None;
        self.lane.core.run_instead(token, || {
            self.run(work, spot, &mut with, || {
                if !lends {
                    self.free_slot();
                }
            })
        });
        if let Some(with) = with {
            with.settle();
        }
        self.settle();
        true
    }

    pub(super) fn help_with_next(self: &Arc<Self>) -> bool {
        self.help(|inner| Some((Claimed::Task(inner.take()?), Spot::Placed)))
    }

    /// Runs a job of the strand that has not started, with those before it if the strand is ordered, as
    /// soon as there is a slot. Returns when somebody has claimed it, or at the deadline.
    pub(crate) fn help_with(
        self: &Arc<Self>,
        state: &State,
        job: &dyn Job,
        deadline: Option<Instant>,
    ) {
        while !state.is_claimed() {
            let helped = if self.ordered {
                self.help_with_next()
            } else {
                self.help(|inner| {
                    let spot = state.claim()?;
                    if spot == Spot::Placed {
                        inner.bury();
                    }
                    Some((Claimed::Job(job), spot))
                })
            };
            if helped {
                // What this thread claimed by itself is its to settle.
                if !self.ordered {
                    job.settle();
                }
                continue;
            }
            if self.ordered && self.come_in() {
                continue;
            }
            if is_past(deadline) {
                return;
            }
            self.lane.will_help();
            if state.is_claimed() || self.may_help() {
                continue;
            }
            park_until(sooner(self.lane.rescue(), deadline));
        }
    }

    /// Where the job waits in line, room may be with tasks that need the worker which waits here.
    fn come_in(self: &Arc<Self>) -> bool {
        if !self.lane.admission.places().has_line() {
            return false;
        }
        let (any, left) = (self.lane.admission).let_in(
            |strand| Arc::ptr_eq(strand, self),
            |accepted, strand| strand.push(accepted),
        );
        self.lane.after(left);
        any
    }

    /// Cancels the job that `claim` claims.
    pub(crate) fn cancel(
        self: &Arc<Self>,
        job: &dyn Job,
        claim: impl FnOnce() -> Option<Spot>,
    ) -> bool {
        let lane = &self.lane;
        lane.admission.hold();
        let spot = {
            let mut inner = lock(&self.inner);
            let spot = claim();
            if spot == Some(Spot::Placed) {
                inner.bury();
            }
            spot
        };
        if let Some(spot) = spot {
            lane.call(|| job.abandon(Unrun::Cancelled));
            lane.counts.cancelled.add(1);
            match spot {
                Spot::Placed => {
                    self.over(1);
                    self.settle();
                }
                Spot::Loose => {
                    lane.after(lane.admission.drop_shells());
                    self.unpin(1);
                }
            }
            job.settle();
        }
        lane.after(lane.admission.unhold());
        lane.wake_helpers();
        spot.is_some()
    }
}

impl Token for Strand {
    fn claim(&self, placed: bool) -> bool {
        lock(&self.inner).tokens.claim(placed)
    }

    fn has(&self, placed: bool) -> bool {
        lock(&self.inner).tokens.has(placed)
    }

    fn hold_place(&self) -> bool {
        lock(&self.inner).tokens.hold_place()
    }

    fn run(&self, with: &mut Option<Ticket>) -> Outcome {
        let (task, strand) = (lock(&self.inner).take_in_slot(), self.arc());
        let Some(task) = task else {
            strand.free_slot();
            return Outcome::Cancelled;
        };
        let task = Claimed::Task(task);
        strand.run(task, Spot::Placed, with, || strand.free_slot())
    }

    /// The pool discards a task of the share: the strand's oldest.
    fn abandon(&self) {
        let (task, strand) = (lock(&self.inner).take(), self.arc());
        if let Some(task) = task {
            self.lane.drop_unrun(task);
            strand.over(1);
        }
        strand.free_slot();
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    /// S2: who waits in a task takes the slot of a token that is on its way, which then comes in vain.
    #[test]
    fn a_token_whose_slot_was_taken_takes_no_task() {
        let mut inner = Inner {
            queue: (0..2)
                .map(|number| Accepted::new(number, Task::new(|| {})))
                .collect(),
            live: 2,
            slots: 1,
            tokens: Tokens::default(),
        };
        assert!(matches!(inner.step(), Some(Step::Send)));
        // Before the sender knows that the token was accepted.
        assert!(inner.has_slot());
        let helped = inner.take().unwrap();
        inner.tokens.begin();
        assert_eq!(inner.tokens.retire(inner.wanted()), None);
        assert!(inner.tokens.claim(false));
        assert!(inner.take_in_slot().is_none());
        // What the helper runs is over, and the next token takes the next task.
        drop(helped);
        inner.tokens.end();
        inner.tokens.end();
        inner.tokens.added(true);
        assert!(matches!(inner.step(), Some(Step::Send)));
        assert!(inner.tokens.claim(false));
        assert!(inner.take_in_slot().is_some());
    }
}
