//! Where accepted tasks wait: the shared queue, and what the local queues of workers lend.
//!
//! - Q1: Tasks from outside go to the shared queue, numbered in the order in which they were accepted, and leave it
//!   in that order. With a bounded backlog a worker takes them one by one; with an unbounded one it takes a batch to
//!   its local queue.
//! - Q2: A batch that its worker may not run (a pause, a smaller capacity) is handed back. It is older than what the
//!   shared queue holds, and is taken first, by its numbers; while there is any of it, all workers hand back. So the
//!   order holds at capacity 1, whatever the capacity was before.
//! - Q3: A local queue that may hold a task has `lending` set, and `lenders` counts it, before any worker is counted
//!   on to come for the task. While there are no lenders, no worker looks in a local queue of another.
//! - Q4: `waited` counts the tasks in the shared queue whose submitters waited in line, from before the push on: what
//!   tasks submit then goes behind them.
//! - Q5: Nothing here blocks, and no task is run or dropped here, except tombstones.
//! - Q6: When half of what is queued are tombstones, they are swept out. The sweep has all other tasks in hand
//!   meanwhile, and then hands them back; a thread that took a task past those hands it back, too (Q2).
//! - Q7: The list of local queues has those of live workers, and the sums of what was counted at the others (D2). So
//!   the cost of a gauge, and what the queue keeps, depend on how many workers and tasks there are, not on how many
//!   there were.

use crate::engine::local::{LocalQueue, Stealers, WorkerCounts, WorkerShared};
use crate::engine::spin::retry_steal;
use crate::engine::task::{Accepted, Task};
use crate::engine::threads::idle::shrunk;
use crate::sync::deque::{Injector, Stealer, Worker};
use crate::sync::{
    Arc, AtomicUsize, Mutex, Ordering, RwLock, lock, order_seqcst, read, try_lock, try_write, write,
};
use crossbeam_utils::CachePadded;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The most tasks that a worker takes at once: a block of the injector.
const MOST_BATCHED: u64 = 63;

/// So many tombstones may stay where they are, however few tasks there are beside them.
const MOST_TOMBSTONES: usize = 64;

pub(crate) struct Queue {
    shared: Injector<Accepted>,
    handed_back: Mutex<BinaryHeap<Reverse<Accepted>>>,
    handed_back_len: AtomicUsize,
    waited: AtomicUsize,
    /// Approximately how many tombstones there are.
    tombstones: AtomicUsize,
    lenders: CachePadded<AtomicUsize>,
    workers: RwLock<Workers>,
}

/// Q7: the list of local queues.
#[derive(Default)]
struct Workers {
    list: Vec<(Arc<WorkerShared>, Stealers)>,
    given_up: WorkerCounts,
}

impl Queue {
    pub(crate) fn new() -> Queue {
        Queue {
            shared: Injector::new(),
            handed_back: Mutex::new(BinaryHeap::new()),
            handed_back_len: AtomicUsize::new(0),
            waited: AtomicUsize::new(0),
            tombstones: AtomicUsize::new(0),
            lenders: CachePadded::new(AtomicUsize::new(0)),
            workers: RwLock::new(Workers::default()),
        }
    }

    /// Queues a task that has its place.
    #[inline]
    pub(crate) fn push(&self, accepted: Accepted) {
        if accepted.has_waited() {
            self.waited.fetch_add(1, Ordering::SeqCst);
        }
        self.shared.push(accepted);
    }

    /// Q4: whether a task in the queue waited in line.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited.load(Ordering::SeqCst) > 0
    }

    /// Q2: hands a batch back.
    pub(crate) fn hand_back(&self, batch: impl Iterator<Item = Accepted>) {
        let mut handed_back = lock(&self.handed_back);
        handed_back.extend(batch.map(Reverse));
        self.count_handed_back(&mut handed_back);
    }

    fn count_handed_back(&self, handed_back: &mut BinaryHeap<Reverse<Accepted>>) {
        if let Some(capacity) = shrunk(handed_back.len(), handed_back.capacity()) {
            handed_back.shrink_to(capacity);
        }
        self.handed_back_len
            .store(handed_back.len(), Ordering::SeqCst);
    }

    /// Q2: a worker with a batch must hand it back, too.
    pub(crate) fn has_handed_back(&self) -> bool {
        self.handed_back_len.load(Ordering::SeqCst) > 0
    }

    fn take_handed_back(&self) -> Option<Accepted> {
        if !self.has_handed_back() {
            return None;
        }
        let mut handed_back = lock(&self.handed_back);
        let oldest = handed_back.pop();
        self.count_handed_back(&mut handed_back);
        oldest.map(|Reverse(accepted)| accepted)
    }

    /// Takes the oldest task of the shared queue, claimed.
    pub(crate) fn take(&self) -> Option<Task> {
        loop {
            let mut accepted = self
                .take_handed_back()
                .or_else(|| self.unless_swept(retry_steal(|| self.shared.steal())?))?;
            if accepted.has_waited() {
                self.waited.fetch_sub(1, Ordering::SeqCst);
            }
            if accepted.task.claim() {
                return Some(accepted.task);
            }
            self.count_tombstone();
        }
    }

    /// Q6: returns the task, unless a sweep may hold older ones; then hands it back and takes the oldest.
    fn unless_swept(&self, taken: Accepted) -> Option<Accepted> {
        if !self.has_handed_back() {
            return Some(taken);
        }
        self.hand_back(std::iter::once(taken));
        self.take_handed_back()
    }

    /// Takes the oldest task of the shared queue, claimed, and some that follow it into `batch`: no more than a
    /// worker's portion of what is queued, so that no task waits in a local queue while workers are idle. Only for an
    /// unbounded backlog: no task waited in line then.
    pub(crate) fn take_batch(&self, batch: &Worker<Accepted>, workers: u64) -> Option<Task> {
        let share = self.shared.len() as u64 / workers.max(1);
        let most = usize::try_from(share.clamp(1, MOST_BATCHED)).unwrap_or(1);
        let steal = || retry_steal(|| self.shared.steal_batch_with_limit_and_pop(batch, most));
        loop {
            let mut accepted = self
                .take_handed_back()
                .or_else(|| batch.pop())
                .or_else(|| self.unless_swept(steal()?))?;
            if accepted.task.claim() {
                return Some(accepted.task);
            }
            self.count_tombstone();
        }
    }

    /// Q6: counts a queued task that became a tombstone. Returns whether it is time for a [`sweep`].
    ///
    /// [`sweep`]: Queue::sweep
    pub(crate) fn add_tombstone(&self) -> bool {
        let tombstones = self.tombstones.fetch_add(1, Ordering::SeqCst) + 1;
        let handed_back = self.handed_back_len.load(Ordering::SeqCst);
        tombstones > MOST_TOMBSTONES
            && tombstones > self.shared.len().saturating_add(handed_back) / 2
    }

    /// Q6: drops the tombstones in front; whether there may have been any. To be called by a worker that is about to
    /// take a task.
    pub(crate) fn skip_tombstones(&self) -> bool {
        if self.tombstones.load(Ordering::SeqCst) == 0 {
            return false;
        }
        if self.has_handed_back() {
            self.skip_handed_back();
        }
        if self.has_handed_back() {
            return true;
        }
        while let Some(mut accepted) = retry_steal(|| self.shared.steal()) {
            if !accepted.task.is_tombstone() {
                self.hand_back(std::iter::once(accepted));
                break;
            }
            if accepted.has_waited() {
                self.waited.fetch_sub(1, Ordering::SeqCst);
            }
            self.count_tombstone();
        }
        true
    }

    fn skip_handed_back(&self) {
        let mut handed_back = lock(&self.handed_back);
        while let Some(mut first) = handed_back.peek_mut() {
            if !first.0.task.is_tombstone() {
                break;
            }
            let Reverse(accepted) = PeekMut::pop(first);
            if accepted.has_waited() {
                self.waited.fetch_sub(1, Ordering::SeqCst);
            }
            self.count_tombstone();
        }
        self.count_handed_back(&mut handed_back);
    }

    fn count_tombstone(&self) {
        let less = |tombstones: usize| Some(tombstones.saturating_sub(1));
        let _ = (self.tombstones).fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }

    /// Q6: drops all tombstones. The caller must then look for those that found no work meanwhile.
    pub(crate) fn sweep(&self) {
        let mut handed_back = lock(&self.handed_back);
        // Every thread that takes a task sees handed-back ones from now on, and waits for this lock.
        self.handed_back_len.store(usize::MAX, Ordering::SeqCst);
        order_seqcst();
        self.tombstones.store(0, Ordering::SeqCst);
        let keep = |accepted: &mut Accepted| {
            let keep = !accepted.task.is_tombstone();
            if !keep && accepted.has_waited() {
                self.waited.fetch_sub(1, Ordering::SeqCst);
            }
            keep
        };
        let mut kept = std::mem::take(&mut *handed_back).into_vec();
        kept.retain_mut(|Reverse(accepted)| keep(accepted));
        *handed_back = BinaryHeap::from(kept);
        for _ in 0..self.shared.len() {
            let Some(mut accepted) = retry_steal(|| self.shared.steal()) else {
                break;
            };
            if keep(&mut accepted) {
                handed_back.push(Reverse(accepted));
            }
        }
        self.count_handed_back(&mut handed_back);
    }

    /// G2 of [`fork`](crate::fork): nothing is queued, and no lock is held.
    pub(crate) fn is_untouched(&self) -> bool {
        try_lock(&self.handed_back).is_some()
            && try_write(&self.workers).is_some()
            && !self.has_shared()
            && !self.has_lenders()
    }

    /// Whether a task can be had from the shared queue or from a local queue.
    pub(crate) fn has_work(&self) -> bool {
        self.has_shared() || self.has_lent()
    }

    /// Whether a task can be had from the shared queue.
    pub(crate) fn has_shared(&self) -> bool {
        !self.shared.is_empty() || self.has_handed_back()
    }

    /// Q3: whether a local queue may hold a task.
    pub(crate) fn has_lenders(&self) -> bool {
        self.lenders.load(Ordering::SeqCst) > 0
    }

    fn has_lent(&self) -> bool {
        let has_work =
            |(worker, stealers): &(Arc<WorkerShared>, Stealers)| worker.has_work(stealers);
        self.has_lenders() && read(&self.workers).list.iter().any(has_work)
    }

    /// Q3: `worker` begins to lend.
    pub(crate) fn lend(&self, worker: &WorkerShared) {
        self.lenders.fetch_add(1, Ordering::SeqCst);
        worker.lending.store(true, Ordering::SeqCst);
    }

    /// Q3: `worker`, which calls this, has empty deques.
    pub(crate) fn end_lending(&self, worker: &WorkerShared) {
        worker.lending.store(false, Ordering::SeqCst);
        self.lenders.fetch_sub(1, Ordering::SeqCst);
    }

    /// Q7: adds the local queue of a new worker to the list; returns its deques.
    pub(crate) fn register(&self, worker: &Arc<WorkerShared>, takes_batches: bool) -> LocalQueue {
        let local = LocalQueue::new(takes_batches);
        let entry = (Arc::clone(worker), local.stealers());
        let mut workers = write(&self.workers);
        worker.move_to(workers.list.len());
        workers.list.push(entry);
        local
    }

    /// D1, D2: removes the local queue of a worker that leaves.
    pub(crate) fn unregister(&self, worker: &WorkerShared) {
        let mut workers = write(&self.workers);
        workers.given_up.add(&worker.counts);
        let at = worker.at();
        let entry = workers.list.swap_remove(at);
        if let Some((moved, _)) = workers.list.get(at) {
            moved.move_to(at);
        }
        if let Some(capacity) = shrunk(workers.list.len(), workers.list.capacity()) {
            workers.list.shrink_to(capacity);
        }
        drop(workers);
        drop(entry);
    }

    /// D3: the worker has a deque for its own tasks from now on, or has it no more. Returns the stealer of the old
    /// deque: to drop it frees that deque, which must not happen under the lock.
    pub(crate) fn show_own(
        &self,
        worker: &WorkerShared,
        own: Option<Stealer<Task>>,
    ) -> Option<Stealer<Task>> {
        let mut workers = write(&self.workers);
        let (_, stealers) = &mut workers.list[worker.at()];
        std::mem::replace(&mut stealers.own, own)
    }

    /// Calls `f` for each local queue, beginning after that of `first` and going round, until `f` returns a value.
    pub(crate) fn visit<T>(
        &self,
        first: Option<&WorkerShared>,
        mut f: impl FnMut(&WorkerShared, &Stealers) -> Option<T>,
    ) -> Option<T> {
        let workers = read(&self.workers);
        let first = first.map_or(0, |worker| worker.at() + 1);
        let (before, after) = workers.list.split_at(first.min(workers.list.len()));
        let mut all = after.iter().chain(before);
        all.find_map(|(worker, stealers)| f(worker, stealers))
    }

    /// Calls `f` while no other thread looks in a local queue.
    pub(crate) fn without_thieves(&self, f: impl FnOnce()) {
        let _workers = write(&self.workers);
        f();
    }

    pub(crate) fn any(&self, f: impl Fn(&WorkerShared) -> bool) -> bool {
        read(&self.workers).list.iter().any(|(worker, _)| f(worker))
    }

    /// How many workers are busy.
    pub(crate) fn busy(&self) -> u64 {
        let busy =
            |(worker, _): &(Arc<WorkerShared>, _)| u64::from(worker.busy.load(Ordering::SeqCst));
        read(&self.workers).list.iter().map(busy).sum()
    }

    /// The sum over all local queues that are and were in the list.
    pub(crate) fn sum(&self, f: impl Fn(&WorkerCounts) -> u64) -> u64 {
        let workers = read(&self.workers);
        let now: u64 = workers
            .list
            .iter()
            .map(|(worker, _)| f(&worker.counts))
            .sum();
        f(&workers.given_up) + now
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    fn submitted(queue: &Queue) -> u64 {
        queue.sum(|counts| counts.submitted.get())
    }

    #[test]
    fn the_list_has_the_local_queues_of_live_workers_and_the_counts_of_all() {
        let queue = Queue::new();
        let workers: Vec<_> = (0..1_000).map(|_| Arc::new(WorkerShared::new())).collect();
        for worker in &workers {
            drop(queue.register(worker, true));
            worker.counts.submitted.add(1);
        }
        // Those in the middle first.
        let (first, last) = workers.split_at(500);
        for (left, worker) in last.iter().chain(first.iter().rev()).enumerate() {
            queue.unregister(worker);
            assert_eq!(submitted(&queue), 1_000);
            let workers = read(&queue.workers);
            assert_eq!(workers.list.len(), 1_000 - left - 1);
            let in_place = |(at, (worker, _)): (usize, &(Arc<WorkerShared>, _))| worker.at() == at;
            assert!(workers.list.iter().enumerate().all(in_place));
        }
        assert!(read(&queue.workers).list.capacity() <= 64);
    }

    #[test]
    fn a_worker_visits_all_others_from_its_own_index_on() {
        let queue = Queue::new();
        let workers: Vec<_> = (0..5).map(|_| Arc::new(WorkerShared::new())).collect();
        for worker in &workers {
            drop(queue.register(worker, true));
        }
        // The last worker moves to its index.
        queue.unregister(&workers[1]);
        let visited = |first| {
            let mut visited = Vec::new();
            queue.visit(first, |worker, _| -> Option<()> {
                visited.push(worker.at());
                None
            });
            visited
        };
        assert_eq!(visited(None), [0, 1, 2, 3]);
        assert_eq!(visited(Some(&workers[4])), [2, 3, 0, 1]);
        assert_eq!(visited(Some(&workers[3])), [0, 1, 2, 3]);
    }
}
