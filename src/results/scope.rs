//! Tasks that borrow from their caller's stack: all of them are over before the caller goes on.
//!
//! - E1: A task counts (V1 of [`pending`](super::pending)) from when it is made, before anybody else can have it, until
//!   nothing of it that borrows is left: its closure is gone, and its result too, unless a handle holds that.
//! - E2: [`PoolHandle::scope`] goes on only when no task counts, whatever happens: a panic of what it calls is caught,
//!   and a panic in its last wait, which nothing should cause, aborts the process.
//! - E3: The handle of a task exists before the task is submitted. So if submitting it unwinds, whoever runs the task
//!   still drops a result that nobody will take.

use super::join_error::JoinError;
use super::pending::PendingSet;
use super::raw_handle::RawHandle;
use super::spawned::{Owner, Spawned, SpawnedRef};
use crate::engine::admission::Chunk;
use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::submit::all::Chunks;
use crate::engine::submit::{Denial, Patience, Submit, SubmitAll, Submitted, Wait};
use crate::engine::task::claimable::{Claimable, ClaimableRef, Unrun};
use crate::engine::task::intrusive_arc::IntrusiveArc;
use crate::engine::task::{ClosureOwner, Outcome, Task};
use crate::panic::{Payload, or_abort};
use crate::pool::PoolHandle;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, lock, try_lock};
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What the tasks of a scope share.
struct State {
    core: Arc<Core>,
    pending: PendingSet,
    panic: Mutex<Option<Payload>>,
    discarded: AtomicBool,
}

impl State {
    /// G1 of [`fork`](crate::fork).
    fn is_foreign(&self) -> bool {
        (self.pending).is_foreign(&self.core, || try_lock(&self.panic).is_some())
    }
}

impl ClosureOwner for State {
    /// Keeps the first panic, and gives the others back.
    fn take_panic(&self, payload: Payload) -> Option<Payload> {
        if self.is_foreign() {
            return Some(payload);
        }
        let mut first = lock(&self.panic);
        if first.is_some() {
            return Some(payload);
        }
        *first = Some(payload);
        None
    }

    fn dropped(&self, why: Unrun) {
        if why == Unrun::Discarded {
            // ORDERING: Relaxed: the end of the task publishes it.
            self.discarded.store(true, Ordering::Relaxed);
        }
    }

    fn over(&self) {
        self.pending.end();
    }
}

/// The owner of a task: its scope.
struct InScope(Arc<State>);

impl<R: Send> Owner<R> for InScope {
    type Value = R;

    fn judge(&self, returned: R) -> Option<R> {
        Some(returned)
    }

    fn take_panic(&self, payload: Payload) -> Option<Payload> {
        self.0.take_panic(payload)
    }

    fn hear_of_panic(&self, _message: Option<String>) {}

    fn dropped(&self, why: Unrun) {
        self.0.dropped(why);
    }

    fn over(self, _was_counted: bool) {
        self.0.over();
    }
}

/// Spawns tasks that borrow; see [`PoolHandle::scope`].
pub struct Scope<'scope, 'env: 'scope> {
    state: Arc<State>,
    /// The caller is in a task of the pool, and may have to run tasks of the scope.
    inside: bool,
    /// Invariant, as in the standard library: the lifetime can be neither lengthened nor shortened.
    lives: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl PoolHandle {
    /// Runs `f` with a scope, in which tasks may borrow from the caller's stack, and returns when all of them are over.
    /// It is [`std::thread::scope`] on the pool's workers.
    ///
    /// In a task of the pool the caller itself runs tasks that have not started, on its own place; so a scope within a
    /// scope completes at capacity 1, too. If the pool refuses a task (it is closed, has no thread, or is full and
    /// [rejects](crate::Overflow::Reject)), the caller runs it at once.
    ///
    /// # Panics
    ///
    /// Panics, once all tasks are over, with the panic of `f`; else with that of the first task that panicked and was
    /// not joined (the panics of others go to the pool's panic handler); else if the pool discarded a task.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(2);
    /// let mut halves = [vec![3, 1, 2], vec![6, 5, 4]];
    /// let [left, right] = &mut halves;
    /// let largest = pool.scope(|s| {
    ///     s.submit(|| left.sort());
    ///     let largest = s.spawn(|| {
    ///         right.sort();
    ///         right.last().copied()
    ///     });
    ///     largest.join().unwrap()
    /// });
    /// assert_eq!((halves.concat(), largest), (vec![1, 2, 3, 4, 5, 6], Some(6)));
    /// ```
    pub fn scope<'env, F, T>(&self, f: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    {
        let scope = Scope {
            state: Arc::new(State {
                core: Arc::clone(self.core()),
                pending: PendingSet::new(),
                panic: Mutex::new(None),
                discarded: AtomicBool::new(false),
            }),
            inside: current::is_inside(self.core()),
            lives: PhantomData,
            env: PhantomData,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| f(&scope)));
        scope.end(outcome)
    }
}

impl PoolHandle {
    /// Runs tasks, which may borrow, waits for all of them, and returns the result of each, in order.
    ///
    /// It is a [`scope`](PoolHandle::scope) with a [`spawn`](Scope::spawn) for each task. The iterator may be of any
    /// length: no more of it is pulled than the pool has room for.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(3);
    /// let results = pool.run_all((0..9).map(|job| move || if job == 4 { panic!("no") } else { job }));
    /// assert_eq!(results.len(), 9);
    /// assert_eq!(*results[8].as_ref().unwrap(), 8);
    /// assert!(results[4].as_ref().unwrap_err().is_panic());
    /// ```
    pub fn run_all<I, F, T>(&self, tasks: I) -> Vec<Result<T, JoinError>>
    where
        I: IntoIterator<Item = F>,
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let join = |handle: ScopedJoinHandle<'_, T>| handle.join();
        self.scope(|s| {
            // Not by `collect`, which would trust the length that the iterator reports.
            let mut handles = Vec::new();
            for task in tasks {
                handles.push(s.spawn(task));
            }
            handles.into_iter().map(join).collect()
        })
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Submits a task that may borrow what outlives the scope; blocks while there is no room, like
    /// [`PoolHandle::submit`]. A task that the pool refuses is run at once, by the caller.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(4);
    /// let words = ["ant", "bee"];
    /// pool.scope(|s| {
    ///     for word in &words {
    ///         s.submit(move || println!("{word}"));
    ///     }
    /// });
    /// ```
    pub fn submit<F>(&'scope self, f: F)
    where
        F: FnOnce() + Send + 'scope,
    {
        if self.inside {
            let (_, queued) = self.make(f, false);
            self.submit_claimable(queued);
            return;
        }
        let foreign = self.state.is_foreign();
        if let Err(refusal) = self.submit_to_pool(|| self.make_owned(f), foreign) {
            self.run_refused(refusal.task);
        }
    }

    /// Submits many tasks, in order, as [`PoolHandle::submit_all`] does: together as far as there is room. A task that
    /// the pool refuses is run at once, by the caller, before those that follow it are submitted.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(4);
    /// let mut squares: Vec<u64> = (0..1000).collect();
    /// pool.scope(|s| s.submit_all(squares.iter_mut().map(|n| move || *n *= *n)));
    /// assert_eq!(squares[999], 998_001);
    /// ```
    pub fn submit_all<I, F>(&'scope self, tasks: I)
    where
        I: IntoIterator<Item = F>,
        F: FnOnce() + Send + 'scope,
    {
        let tasks = tasks.into_iter();
        if self.inside {
            return tasks.for_each(|task| self.submit(task));
        }
        let (mut chunks, mut chunk) = (Chunks::new(tasks), Chunk::new());
        while chunks.fill(&mut chunk, |task| self.make_owned(task)) {
            while self.submit_chunk(&mut chunk).is_err() {
                if let Some(refused) = chunk.pop_front() {
                    self.run_refused(refused);
                }
            }
        }
        chunks.resume_panic();
    }

    /// Makes a task that only a worker can have to run: it needs no claimable.
    fn make_owned<F>(&'scope self, f: F) -> Task
    where
        F: FnOnce() + Send + 'scope,
    {
        self.state.pending.begin();
        // SAFETY: E1, E2: `scope` returns only once its state was told that the closure is over; or in a process where
        // nobody has the closure (G3 of `fork`).
        unsafe { Task::owned(f, Arc::clone(&self.state)) }
    }

    /// Submits a task like [`submit`](Scope::submit) and returns a handle to its result.
    ///
    /// If the task panics, the panic goes to the handle if that still exists.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(4);
    /// let numbers = [1, 2, 3, 4];
    /// let (left, right) = numbers.split_at(2);
    /// let sum: i32 = pool.scope(|s| {
    ///     let left = s.spawn(|| left.iter().sum::<i32>());
    ///     right.iter().sum::<i32>() + left.join().unwrap()
    /// });
    /// assert_eq!(sum, 10);
    /// ```
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let (spawned, queued) = self.make(f, true);
        // E3
        let handle = ScopedJoinHandle {
            handle: Some(RawHandle::new(spawned, (&self.state.core).into())),
            scope: Arc::clone(&self.state),
        };
        self.submit_claimable(queued);
        handle
    }

    /// Makes a task of the scope: for its handle, and for the pool.
    fn make<F, T>(
        &'scope self,
        f: F,
        held: bool,
    ) -> (
        SpawnedRef<F, T, InScope>,
        IntrusiveArc<dyn Claimable + 'scope>,
    )
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let owner = InScope(Arc::clone(&self.state));
        let (spawned, queued) = IntrusiveArc::pair(|| Spawned::new(f, owner, held));
        (spawned, Spawned::as_claimable(queued))
    }

    fn submit_claimable(&'scope self, claimable: IntrusiveArc<dyn Claimable + 'scope>) {
        // SAFETY: E1, E2: `scope` returns only once the claimable is over, and so run or dropped, with all of 'scope in
        // it but the result that a handle has. What is left of it is a tombstone. (Or it returns in a process where
        // nobody has the claimable: G3 of `fork`.)
        let claimable = unsafe {
            mem::transmute::<IntrusiveArc<dyn Claimable + 'scope>, ClaimableRef>(claimable)
        };
        let foreign = self.state.is_foreign();
        let enlisted = self.inside.then(|| claimable.clone());
        let make = || {
            self.state.pending.begin();
            Task::of_claimable(claimable)
        };
        match self.submit_to_pool(make, foreign) {
            Ok(()) => {
                if let Some(claimable) = enlisted {
                    self.state.pending.enlist(claimable);
                }
            }
            Err(refusal) => self.run_refused(refusal.task),
        }
    }

    /// G1 of [`fork`](crate::fork): the caller runs what it submits to the scope of another process.
    #[inline]
    fn submit_to_pool(&self, make: impl FnOnce() -> Task, foreign: bool) -> Submitted {
        if foreign {
            return self.state.core.refuse_foreign(make());
        }
        self.state.core.submit(make, Patience::Policy)
    }

    /// The same for the tasks of a chunk; the first of those that stay in it is refused.
    fn submit_chunk(&self, chunk: &mut Chunk) -> Result<(), Denial> {
        let core = &self.state.core;
        if self.state.is_foreign() {
            return Err(core.deny_foreign());
        }
        core.submit_chunk(chunk, Patience::Policy)
    }

    #[cold]
    fn run_refused(&self, mut task: Task) {
        if task.claim() {
            task.run(|outcome| {
                if let Outcome::Panicked(payload) = outcome {
                    self.state.core.tell_panic(payload);
                }
            });
        }
    }

    fn end<T>(&self, outcome: Result<T, Payload>) -> T {
        if !self.state.is_foreign() {
            // E2
            or_abort(
                "the wait of a scope unwinds, and its tasks may still use what they borrow",
                || self.state.pending.wait(&self.state.core),
            );
        }
        // A task of the scope may have forked meanwhile, on this stack.
        let foreign = self.state.is_foreign();
        let panic = if foreign {
            try_lock(&self.state.panic).and_then(|mut panic| panic.take())
        } else {
            self.state.pending.clear();
            lock(&self.state.panic).take()
        };
        match (outcome, panic) {
            (Ok(_), Some(payload)) => resume_unwind(payload),
            (Ok(value), None) => {
                // ORDERING: Relaxed: published by the end of the task.
                let discarded = self.state.discarded.load(Ordering::Relaxed);
                assert!(!discarded, "the pool discarded a task of this scope");
                assert!(
                    !foreign || self.state.pending.unfinished() == 0,
                    "the process was forked while tasks of this scope were not over: they are in its parent"
                );
                value
            }
            (Err(payload), panic) => {
                if let Some(panic) = panic {
                    self.state.core.tell_panic(panic);
                }
                resume_unwind(payload)
            }
        }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// A handle to a task of a [`Scope`], and to its result.
///
/// Dropping it detaches the task. The scope waits for the task all the same, and a panic of the task is resumed in the
/// caller of the scope.
#[must_use = "`submit` is for tasks without a result"]
pub struct ScopedJoinHandle<'scope, T> {
    /// `None` once it is joined.
    handle: Option<RawHandle<'scope, T>>,
    scope: Arc<State>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the result, as [`JoinHandle::join`](crate::JoinHandle::join) does.
    ///
    /// # Errors
    ///
    /// Fails if the task panicked, if it was dropped before it started, or if the wait would never end.
    pub fn join(mut self) -> Result<T, JoinError> {
        match self.handle.take() {
            Some(handle) => handle.join(),
            None => unreachable!("a handle is joined once"),
        }
    }

    /// Returns whether the task is over: it returned, panicked, or was dropped before it started.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_some_and(RawHandle::is_finished)
    }

    /// Cancels the task if it has not started. Returns whether it was cancelled; then the task never runs.
    pub fn cancel(&self) -> bool {
        self.handle.as_ref().is_some_and(RawHandle::cancel)
    }
}

impl<T> Drop for ScopedJoinHandle<'_, T> {
    /// A panic that nobody joined is resumed in the caller of the scope, or else goes to the panic handler.
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        let home = Arc::clone(handle.home.core());
        let panic = handle
            .detach()
            .and_then(|error| error.try_into_panic().ok());
        if let Some(payload) = panic.and_then(|payload| self.scope.take_panic(payload)) {
            home.tell_panic(payload);
        }
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
