//! Where accepted tasks wait: the shared queue, and what the workers' desks lend.
//!
//! - Q1: Tasks from outside go to the shared queue and leave it in order. With a bounded backlog
//!   each is taken alone; with an unbounded one a worker takes a batch to its desk.
//! - Q2: What workers hand back (a pause, a smaller capacity) is older than what the shared queue
//!   holds, and is taken first.
//! - Q3: A desk that may hold a task has `lending` set, and `lenders` counts such desks: both are
//!   set before the task is pushed. With no lender nobody looks at a desk.
//! - Q4: Nothing here blocks, and no task is run or dropped here.

use super::desk::Desk;
use super::idle::Seat;
use super::task::Task;
use crate::sync::deque::{Injector, Steal, Worker};
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, RwLock, lock, read, write};
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;

/// The most tasks that a worker takes at once.
const MOST_BATCHED: u64 = 32;

pub(crate) struct Queue {
    shared: Injector<Task>,
    handed_back: Mutex<VecDeque<Task>>,
    handed_back_len: AtomicUsize,
    lenders: CachePadded<AtomicUsize>,
    desks: RwLock<Vec<Arc<Desk>>>,
}

impl Queue {
    pub(crate) fn new() -> Queue {
        Queue {
            shared: Injector::new(),
            handed_back: Mutex::new(VecDeque::new()),
            handed_back_len: AtomicUsize::new(0),
            lenders: CachePadded::new(AtomicUsize::new(0)),
            desks: RwLock::new(Vec::new()),
        }
    }

    pub(crate) fn push(&self, task: Task) {
        self.shared.push(task);
    }

    /// Q2: hands tasks back, in order.
    pub(crate) fn hand_back(&self, tasks: impl Iterator<Item = Task>) {
        let mut handed_back = lock(&self.handed_back);
        handed_back.extend(tasks);
        self.handed_back_len
            .store(handed_back.len(), Ordering::SeqCst);
    }

    fn take_handed_back(&self) -> Option<Task> {
        if self.handed_back_len.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut handed_back = lock(&self.handed_back);
        let task = handed_back.pop_front();
        self.handed_back_len
            .store(handed_back.len(), Ordering::SeqCst);
        task
    }

    /// The oldest task of the shared queue, with its place.
    pub(crate) fn take(&self) -> Option<Task> {
        self.take_handed_back()
            .or_else(|| insist(|| self.shared.steal()))
    }

    /// The oldest task of the shared queue, and some that follow it into `batch`: a worker's share
    /// of what is queued, so that none waits at a desk while workers are idle.
    pub(crate) fn take_batch(&self, batch: &Worker<Task>, workers: u64) -> Option<Task> {
        let share = self.shared.len() as u64 / workers.max(1);
        let most = usize::try_from(share.clamp(1, MOST_BATCHED)).unwrap_or(1);
        self.take_handed_back()
            .or_else(|| insist(|| self.shared.steal_batch_with_limit_and_pop(batch, most)))
    }

    /// Whether a task can be had from the shared queue or from a desk.
    pub(crate) fn has_work(&self) -> bool {
        self.has_shared() || self.has_lent()
    }

    pub(crate) fn has_shared(&self) -> bool {
        !self.shared.is_empty() || self.handed_back_len.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn has_lenders(&self) -> bool {
        self.lenders.load(Ordering::SeqCst) > 0
    }

    fn has_lent(&self) -> bool {
        self.has_lenders() && read(&self.desks).iter().any(|desk| desk.has_work())
    }

    /// Q3: `desk` begins to lend.
    pub(crate) fn lend(&self, desk: &Desk) {
        self.lenders.fetch_add(1, Ordering::SeqCst);
        desk.lending.store(true, Ordering::SeqCst);
    }

    /// Q3: the deques of `desk` are empty, says its worker.
    pub(crate) fn end_lending(&self, desk: &Desk) {
        desk.lending.store(false, Ordering::SeqCst);
        self.lenders.fetch_sub(1, Ordering::SeqCst);
    }

    /// The desk of a seat, made when it is first asked for.
    pub(crate) fn desk(&self, seat: Seat) -> Arc<Desk> {
        let mut desks = write(&self.desks);
        while desks.len() <= seat {
            desks.push(Arc::new(Desk::new()));
        }
        Arc::clone(&desks[seat])
    }

    /// Calls `f` for each desk, from `first` on and around, until it returns something.
    pub(crate) fn visit<T>(&self, first: Seat, mut f: impl FnMut(&Desk) -> Option<T>) -> Option<T> {
        let desks = read(&self.desks);
        let (before, after) = desks.split_at(first.min(desks.len()));
        after.iter().chain(before).find_map(|desk| f(desk))
    }

    pub(crate) fn any(&self, f: impl Fn(&Desk) -> bool) -> bool {
        read(&self.desks).iter().any(|desk| f(desk))
    }

    pub(crate) fn sum(&self, mut f: impl FnMut(&Desk) -> u64) -> u64 {
        read(&self.desks).iter().map(|desk| f(desk)).sum()
    }
}

/// Repeats a steal that lost a race.
pub(crate) fn insist<T>(mut steal: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match steal() {
            Steal::Success(stolen) => return Some(stolen),
            Steal::Empty => return None,
            Steal::Retry => crate::sync::spin_loop(),
        }
    }
}
