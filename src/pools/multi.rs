//! Several pools as one: less contention on one queue, one line for those who wait.
//!
//! - MP1: The shards are built from one [`Config`](crate::engine::Config), each its own copy; only the name tells them
//!   apart. They are united before any of them has a thread.
//! - MP2: All balancing is in `hand_in`: whatever is submitted, a closure, a claimable or an argument, comes there as a task.
//! - MP3: A shard is asked to make room (by its submitter, by dropping its oldest) only after all were asked for room,
//!   and who waits does so in the one line (F1 of [`linked`]), never in that of a shard.
//! - MP4: What a submit frees by dropping goes to that line if there is one (F2).

use crate::builder::{Builder, sealed};
use crate::engine::admission::{Denied, Origin};
use crate::engine::config::Overflow;
use crate::engine::core::Core;
use crate::engine::spin::Probe;
use crate::engine::submit::{Patience, Refusal, Submit, Target};
use crate::engine::task::{Manner, Task};
use crate::engine::{current, linked};
use crate::error::{BuildError, ReleaseTimeout, SubmitError, SubmitErrorKind};
use crate::fork;
use crate::pool::{Pool, PoolHandle};
use crate::results::handle::{JoinHandle, spawn_with};
use crate::stats::Stats;
use crate::stop::StopToken;
use crate::sync::{Arc, AtomicUsize, Instant, Ordering, deadline_after};
use std::any::Any;
use std::fmt;
use std::time::Duration;

/// Which pool of a [`MultiPool`] is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest tasks.
    LeastLoaded,
}

/// Several pools as one. Each has its own queue and workers; a task goes to the pool that the [`Balance`] says,
/// and to another one if that has no room. Those who find no room anywhere wait in one line, and whichever pool
/// has room first takes the first of them.
///
/// Useful only where so many threads submit that one queue is the bottleneck; measure it.
///
/// A [`MultiFuncPool`](crate::MultiFuncPool) is the same for one function.
///
/// ```
/// use anthill::{Balance, MultiPool};
/// let pools = MultiPool::new(4, 2, Balance::LeastLoaded); // eight workers
/// for n in 0..100 {
///     pools.submit(move || println!("{n}"))?;
/// }
/// pools.wait_idle();
/// assert_eq!(pools.stats().completed, 100);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct MultiPool {
    /// At least one; the first is the lead, in whose line those wait who find no room.
    shards: Vec<Pool>,
    balance: Balance,
    next: AtomicUsize,
}

impl MultiPool {
    /// So many pools (at least one) of so many workers each, without backlogs. Starts no thread.
    #[must_use]
    pub fn new(shards: usize, capacity_each: usize, balance: Balance) -> MultiPool {
        (MultiPool::builder(shards.max(1), balance).capacity(capacity_each)).into_pool()
    }

    /// Configures the pools: all options of a [`Builder`], which builds each of so many pools alike.
    ///
    /// Each pool has the [`capacity`](Builder::capacity), the [`backlog`](Builder::backlog) and the
    /// [`min_workers`](Builder::min_workers) of the builder for itself, and what is handed over (a panic handler, a
    /// hook) serves all of them: a [`WorkerId`](crate::WorkerId) is unique within its pool only. With a name
    /// the workers of the pool no. `n` are called `<name>-<n>-<worker>`. Where all are full:
    ///
    /// | | |
    /// |---|---|
    /// | [`max_waiting`](Builder::max_waiting) | bounds the one line, whatever the number of pools |
    /// | [`Overflow::Block`](crate::Overflow::Block), [`Reject`](crate::Overflow::Reject) | the submitter waits for room in any pool; is refused |
    /// | [`Overflow::CallerRuns`](crate::Overflow::CallerRuns) | the submitter runs the task itself, for the pool whose turn it is; waits if all are paused |
    /// | [`Overflow::DropOldest`](crate::Overflow::DropOldest) | the oldest task of the pool whose turn it is makes room, or of the next that has one |
    ///
    /// A backlog is room, too: with [`Balance::RoundRobin`] a task may wait in the backlog of one pool while
    /// another has idle workers, which take nothing from it. [`Balance::LeastLoaded`] makes that rare: it looks where
    /// there is least when the task is handed in, and not again.
    ///
    /// # Errors
    ///
    /// [`build`](Builder::build) fails as for a [`Pool`], and with [`BuildError::NoShards`] for 0 pools.
    ///
    /// ```
    /// use anthill::{Balance, BuildError, MultiPool, Overflow};
    /// let mails = MultiPool::builder(4, Balance::LeastLoaded)
    ///     .capacity(2) // eight workers
    ///     .backlog(100)
    ///     .overflow(Overflow::Reject)
    ///     .name("mail")
    ///     .panic_handler(|panic| eprintln!("{panic:?}"))
    ///     .build()?;
    /// assert_eq!((mails.shards().len(), mails.capacity()), (4, 8));
    ///
    /// let none = MultiPool::builder(0, Balance::LeastLoaded).build();
    /// assert!(matches!(none, Err(BuildError::NoShards)));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn builder(shards: usize, balance: Balance) -> Builder<MultiPool> {
        Builder::with_parts((shards, balance))
    }

    /// The pools. Those who find no room wait in the line of the first: released by itself, or without a worker where
    /// the system refuses it a thread, it sends them away, whatever the others do.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = &PoolHandle> {
        self.shards.iter().map(|shard| &**shard)
    }

    /// Hands a pool a task; waits while none has room, first come, first served. On a worker of one of the
    /// pools it never waits.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::submit`]: the closure comes back.
    pub fn submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit_closure(f, Patience::Policy)
    }

    /// Hands a pool a task if one has room right now.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::try_submit`]: the closure comes back.
    ///
    /// ```
    /// use anthill::{Balance, MultiPool};
    /// let pools = MultiPool::new(2, 0, Balance::RoundRobin); // both are paused
    /// assert!(pools.try_submit(|| ()).is_err());
    /// ```
    pub fn try_submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit_closure(f, Patience::None)
    }

    /// Hands a pool a task; waits for room for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::submit_timeout`]: the closure comes back.
    pub fn submit_timeout<F>(&self, f: F, timeout: Duration) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit_closure(f, Patience::Until(deadline_after(timeout)))
    }

    fn submit_closure<F>(&self, f: F, patience: Patience) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        match self.hand_in(Task::new(f), patience) {
            Ok(_core) => Ok(()),
            // SAFETY: the task was made here from this `F`, and each submitter gets its own back.
            Err(refusal) => Err(unsafe { refusal.into_error() }),
        }
    }

    /// Hands in a value that is run in some manner; it comes back where it is refused.
    pub(super) fn submit_value<V>(
        &self,
        manner: Manner<V>,
        value: V,
        patience: Patience,
    ) -> Result<(), SubmitError<V>>
    where
        V: Send + 'static,
    {
        match self.hand_in(Task::of_value(manner, value), patience) {
            Ok(_core) => Ok(()),
            // SAFETY: the task was made here from this `V`, and each submitter gets its own back.
            Err(refusal) => Err(unsafe { refusal.into_error() }),
        }
    }

    /// Like [`submit`](MultiPool::submit), and returns a handle to the result.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::spawn`]: the closure comes back.
    ///
    /// ```
    /// use anthill::{Balance, MultiPool};
    /// let pools = MultiPool::new(2, 1, Balance::RoundRobin);
    /// assert_eq!(pools.spawn(|| 6 * 7)?.join()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_with(f, |claimable| {
            self.hand_in(Task::of_claimable(claimable), Patience::Policy)
        })
    }

    /// Like [`spawn`](MultiPool::spawn), if a pool has room right now.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::try_spawn`]: the closure comes back.
    pub fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_with(f, |claimable| {
            self.hand_in(Task::of_claimable(claimable), Patience::None)
        })
    }

    /// Like [`spawn`](MultiPool::spawn), but waits for room for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::spawn_timeout`]: the closure comes back.
    pub fn spawn_timeout<F, T>(
        &self,
        f: F,
        timeout: Duration,
    ) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let patience = Patience::Until(deadline_after(timeout));
        spawn_with(f, |claimable| {
            self.hand_in(Task::of_claimable(claimable), patience)
        })
    }

    fn cores(&self) -> impl Iterator<Item = &Arc<Core>> {
        self.shards.iter().map(|shard| shard.core())
    }

    fn lead(&self) -> &Arc<Core> {
        self.shards[0].core()
    }

    /// The pool whose task runs on this thread.
    fn inside(&self) -> Option<&Arc<Core>> {
        self.cores().find(|core| current::is_inside(core))
    }

    /// All pools, the one that is to be asked first in front.
    fn in_turn(&self) -> impl Iterator<Item = &Arc<Core>> {
        let first = match self.balance {
            // ORDERING: Relaxed: any number will do.
            Balance::RoundRobin => self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len(),
            Balance::LeastLoaded => {
                let loads = self.cores().map(|core| core.admission.places().held());
                let least = loads.enumerate().min_by_key(|(_, load)| *load);
                least.map_or(0, |(at, _)| at)
            }
        };
        let (before, after) = self.shards.split_at(first);
        (after.iter().chain(before)).map(|shard| shard.core())
    }

    /// Hands a task to a pool that has room; which one.
    fn enter(&self, task: Task) -> Result<Arc<Core>, (Denied, Refusal)> {
        let mut why = Denied::Closed;
        let mut no_thread = None;
        for core in self.in_turn() {
            match core.enter_as(self.lead()) {
                Ok(()) => match core.ensure_worker() {
                    Ok(()) => {
                        core.queue_accepted(task);
                        return Ok(Arc::clone(core));
                    }
                    Err(refusal) => {
                        // Another one may have a worker: nothing is refused yet.
                        core.leave(1);
                        no_thread = Some(refusal);
                    }
                },
                Err(Denied::Closed) => {}
                Err(denied) => why = denied,
            }
        }
        let refusal = match (why, no_thread) {
            (Denied::Closed, Some(source)) => Refusal::no_thread(source, task),
            (Denied::Closed, None) => Refusal::new(SubmitErrorKind::Closed, task),
            _ => Refusal::new(SubmitErrorKind::Full, task),
        };
        Err((why, refusal))
    }

    fn hand_in(&self, task: Task, patience: Patience) -> Result<Arc<Core>, Refusal> {
        if self.lead().is_foreign() {
            return self.refuse(Refusal::no_thread(fork::refusal(), task));
        }
        let (denied, refusal) = match self.enter(task) {
            Ok(core) => return Ok(core),
            Err(denied) => denied,
        };
        if let Some(home) = self.inside() {
            return home
                .submit(|| refusal.task, patience)
                .map(|()| Arc::clone(home));
        }
        if denied == Denied::Closed {
            return self.refuse(refusal);
        }
        let task = refusal.task;
        match (patience, self.lead().config.overflow) {
            (Patience::None, _) | (Patience::Policy, Overflow::Reject) => {
                self.enter_for_certain(task)
            }
            (Patience::Policy, Overflow::CallerRuns) => match self.run_here(task) {
                Ok(core) => Ok(core),
                Err(task) => self.wait(task, None),
            },
            (Patience::Policy, Overflow::DropOldest) => self.drop_oldest(task),
            (Patience::Policy, Overflow::Block) => self.wait_for_room(task, denied, None),
            (Patience::Until(deadline), _) => self.wait_for_room(task, denied, deadline),
        }
    }

    fn wait_for_room(
        &self,
        task: Task,
        denied: Denied,
        deadline: Option<Instant>,
    ) -> Result<Arc<Core>, Refusal> {
        match self.look_for_room(task, denied) {
            Ok(core) => Ok(core),
            Err(task) => self.wait(task, deadline),
        }
    }

    /// MP3: waits in the one line.
    fn wait(&self, task: Task, deadline: Option<Instant>) -> Result<Arc<Core>, Refusal> {
        let lead = self.lead();
        let taken_by = lead
            .wait_anywhere(task, deadline)?
            .map(|pool| Arc::clone(self.shards[pool].core()));
        Ok(taken_by.unwrap_or_else(|| Arc::clone(lead)))
    }

    /// `CallerRuns`: this thread runs the task for a pool that is open and not paused: which one, or the task.
    fn run_here(&self, mut task: Task) -> Result<Arc<Core>, Task> {
        for core in self.in_turn() {
            match core.run_here(task) {
                None => return Ok(Arc::clone(core)),
                Some(refused) => task = refused,
            }
        }
        Err(task)
    }

    /// `DropOldest`: the oldest task of a pool that no worker has taken makes room.
    fn drop_oldest(&self, mut task: Task) -> Result<Arc<Core>, Refusal> {
        loop {
            for core in self.in_turn() {
                let oldest = (core.admission).replace(Origin::Outside, || core.take_oldest());
                let Ok(Some(((oldest, from), is_free))) = oldest else {
                    continue;
                };
                core.discard(oldest, from);
                if is_free && !self.lead().admission.places().has_line() {
                    return core.accept(task).map(|()| Arc::clone(core));
                }
                // MP4
                core.leave(1);
                break;
            }
            match self.enter(task) {
                Ok(core) => return Ok(core),
                Err((Denied::Closed, refusal)) => return self.refuse(refusal),
                // What fills the pools runs already.
                Err((_, refusal)) if !self.has_queued() => return self.wait(refusal.task, None),
                Err((_, refusal)) => task = refusal.task,
            }
        }
    }

    /// An open pool has a task that no worker has taken.
    fn has_queued(&self) -> bool {
        let is_open = |core: &&Arc<Core>| !core.admission.places().is_closed();
        (self.cores().filter(is_open)).any(|core| core.has_queued())
    }

    /// AdaptiveSpin for room anywhere, as often as was worth it of late where the line is: which pool took the task, or the
    /// task. While there is a line nobody enters but from it, so it tells nothing of how soon there is room (F2).
    fn look_for_room(&self, task: Task, mut denied: Denied) -> Result<Arc<Core>, Task> {
        let lead = self.lead();
        let (mut task, mut taken_by) = (Some(task), None);
        lead.admission.spin.while_full(|| {
            if denied != Denied::NoRoom || !lead.may_spin() {
                return Probe::Over;
            }
            let Some(handed_in) = task.take() else {
                return Probe::Over;
            };
            match self.enter(handed_in) {
                Ok(core) => {
                    taken_by = Some(core);
                    Probe::Room
                }
                Err((why, refusal)) => {
                    (denied, task) = (why, Some(refusal.task));
                    match denied {
                        Denied::NoRoom => Probe::Full,
                        Denied::Line | Denied::Closed => Probe::Over,
                    }
                }
            }
        });
        task.map_or_else(|| Ok(taken_by.expect("a pool has the task")), Err)
    }

    /// Enters if there is room anywhere. A look at one pool after the other is a look at one moment if
    /// nothing was accepted meanwhile: then room can only have become more.
    fn enter_for_certain(&self, mut task: Task) -> Result<Arc<Core>, Refusal> {
        let accepted = || {
            self.cores()
                .map(|core| core.admission.accepted())
                .sum::<u64>()
        };
        loop {
            let before = accepted();
            // A line may be just coming or going.
            self.cores().for_each(Target::serve);
            match self.enter(task) {
                Ok(core) => return Ok(core),
                Err((_, refusal)) if accepted() == before => return self.refuse(refusal),
                Err((_, refusal)) => task = refusal.task,
            }
        }
    }

    fn refuse<T>(&self, refusal: Refusal) -> Result<T, Refusal> {
        self.lead().counts.rejected.add(1);
        Err(refusal)
    }

    /// Changes the capacity of each pool; returns what it was.
    pub fn tune(&self, capacity_each: usize) -> usize {
        let tune = |before: usize, shard: &Pool| before.max(shard.tune(capacity_each));
        self.shards.iter().fold(0, tune)
    }

    /// The most tasks that run at once, in all pools together.
    pub fn capacity(&self) -> usize {
        self.sum(PoolHandle::capacity)
    }

    /// How many workers there are now.
    pub fn workers(&self) -> usize {
        self.sum(PoolHandle::workers)
    }

    /// How many workers have no task now.
    pub fn idle(&self) -> usize {
        self.sum(PoolHandle::idle)
    }

    /// How many tasks run now.
    pub fn running(&self) -> usize {
        self.sum(PoolHandle::running)
    }

    /// How many accepted tasks have not started.
    pub fn queued(&self) -> usize {
        self.sum(PoolHandle::queued)
    }

    /// How many submitters wait for room.
    pub fn waiting(&self) -> usize {
        self.sum(PoolHandle::waiting)
    }

    /// How much of the capacity is not in use.
    pub fn free(&self) -> usize {
        self.sum(PoolHandle::free)
    }

    fn sum(&self, gauge: fn(&PoolHandle) -> usize) -> usize {
        self.shards()
            .fold(0, |sum, shard| sum.saturating_add(gauge(shard)))
    }

    /// Whether the pools were released and not opened again.
    pub fn is_closed(&self) -> bool {
        self.shards().all(PoolHandle::is_closed)
    }

    /// What all pools together have counted so far; of `workers_peak` the sum of their peaks.
    pub fn stats(&self) -> Stats {
        self.shards()
            .map(PoolHandle::stats)
            .fold(Stats::default(), Stats::plus)
    }

    /// Waits until all pools are at rest. Where others go on submitting that may never be so.
    ///
    /// # Panics
    ///
    /// In a task of one of the pools, where it would wait for itself.
    #[track_caller]
    pub fn wait_idle(&self) {
        assert!(
            self.inside().is_none(),
            "wait_idle was called in a task of the pools it waits for: it would wait for itself"
        );
        self.wait_until(None);
    }

    /// Waits like [`wait_idle`](MultiPool::wait_idle), for `timeout` at most: whether all were at rest. In a
    /// task of one of the pools `false`, at once.
    #[must_use]
    pub fn wait_idle_timeout(&self, timeout: Duration) -> bool {
        self.inside().is_none() && self.wait_until(deadline_after(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        loop {
            if !self.cores().all(|core| core.wait_idle(deadline)) {
                return false;
            }
            let foreign = self.lead().is_foreign();
            if foreign || (self.cores()).all(|core| core.admission.places().at_rest()) {
                return true;
            }
        }
    }

    /// Closes the pools, as [`PoolHandle::release`] does.
    pub fn release(&self) {
        self.shards().for_each(PoolHandle::release);
    }

    /// Closes the pools and joins their threads, for `timeout` at most, as [`PoolHandle::release_timeout`]
    /// does.
    ///
    /// # Errors
    ///
    /// What remains when the time is up; in a task of one of the pools that is at once.
    pub fn release_timeout(&self, timeout: Duration) -> Result<(), ReleaseTimeout> {
        self.end(deadline_after(timeout), None)
    }

    /// Closes the pools and joins their threads, until the time is up or the token is stopped, as
    /// [`PoolHandle::release_until`] does.
    ///
    /// # Errors
    ///
    /// What remains then; in a task of one of the pools that is at once.
    ///
    /// ```
    /// use anthill::{Balance, MultiPool, StopSource};
    /// use std::time::Duration;
    /// let pools = MultiPool::new(2, 1, Balance::RoundRobin);
    /// pools.submit(|| println!("still runs"))?;
    /// pools.release_until(&StopSource::new().token(), Duration::MAX)?;
    /// assert_eq!(pools.workers(), 0);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release_until(&self, stop: &StopToken, timeout: Duration) -> Result<(), ReleaseTimeout> {
        self.end(deadline_after(timeout), Some(stop))
    }

    fn end(
        &self,
        deadline: Option<Instant>,
        interrupt: Option<&StopToken>,
    ) -> Result<(), ReleaseTimeout> {
        self.release();
        let ends = |core: &&Arc<Core>| core.end(deadline, interrupt).is_ok();
        // In a task of one of them it could not end.
        let ended =
            self.inside().is_none() && self.cores().filter(ends).count() == self.shards.len();
        if ended {
            return Ok(());
        }
        Err(ReleaseTimeout {
            running: self.running(),
            queued: self.queued(),
            workers: self.workers(),
            leaving: self.sum(|shard| shard.stats().leaving),
        })
    }

    /// Closes the pools and drops their backlogs, as [`PoolHandle::release_now`] does: how many tasks.
    pub fn release_now(&self) -> usize {
        self.sum(PoolHandle::release_now)
    }

    /// Opens the pools again, as [`PoolHandle::reboot`] does.
    pub fn reboot(&self) {
        self.shards().for_each(PoolHandle::reboot);
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("balance", &self.balance)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

impl sealed::Built for MultiPool {
    type Parts = (usize, Balance);

    fn check((shards, _balance): &(usize, Balance)) -> Result<(), BuildError> {
        if *shards == 0 {
            return Err(BuildError::NoShards);
        }
        Ok(())
    }

    fn new(
        (shards, balance): (usize, Balance),
        mut pool: impl FnMut(Option<usize>) -> Pool,
    ) -> MultiPool {
        let shards: Vec<Pool> = (0..shards).map(|shard| pool(Some(shard))).collect();
        let cores: Vec<&Arc<Core>> = shards.iter().map(|shard| shard.core()).collect();
        linked::unite(&cores);
        MultiPool {
            shards,
            balance,
            next: AtomicUsize::new(0),
        }
    }

    fn keep(_: &(usize, Balance)) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

impl fmt::Debug for MultiPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, "MultiPool")
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// Each look asks the next pool first, and so is counted.
    #[test]
    fn looks_less_where_it_is_in_vain() {
        let pools = MultiPool::new(2, 1, Balance::RoundRobin);
        let go = [(); 2].map(|()| {
            let (go, gate) = channel::<()>();
            assert!(pools.submit(move || _ = gate.recv()).is_ok());
            go
        });
        let looks_of = |submits: usize| {
            let before = pools.next.load(Ordering::SeqCst);
            for _ in 0..submits {
                assert!(pools.submit_timeout(|| (), Duration::ZERO).is_err());
            }
            pools.next.load(Ordering::SeqCst) - before
        };
        let (first, _, later) = (looks_of(1), looks_of(60), looks_of(40));
        let is_single = pools.lead().config.processors.is_single();
        assert!(is_single || later < 20 * first, "{first}, {later}");
        drop(go);
    }
}
