//! Tasks that stand and fall together.

use super::handle::{Handle, JoinHandle, hand_in};
use super::join_error::JoinError;
use super::pending::PendingSet;
use super::spawned::{Held, Owner, Spawned, SpawnedRef};
use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::submit::{Patience, Submit};
use crate::engine::task::Task;
use crate::engine::task::claimable::{Claim, Unrun};
use crate::engine::task::intrusive_arc::IntrusiveArc;
use crate::error::{SubmitError, SubmitErrorKind};
use crate::fork;
use crate::panic::{Payload, drop_quietly};
use crate::pool::PoolHandle;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, lock, try_lock};
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;

/// Why a [`Group`] did not come to a good end.
///
/// ```
/// use anthill::{GroupError, Pool};
/// let pool = Pool::with_capacity(1);
/// let group = pool.group();
/// group.submit(|| Err("no leaves"))?;
/// assert_eq!(group.wait().unwrap_err().into_task(), Some("no leaves"));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[non_exhaustive]
pub enum GroupError<E> {
    /// A task returned this error.
    Task(E),
    /// A task panicked.
    Panicked(JoinError),
    /// A task was dropped unrun: the group was cancelled, or the pool discarded it.
    Cancelled,
}

impl<E> GroupError<E> {
    /// The error that a task returned.
    pub fn task(&self) -> Option<&E> {
        match self {
            GroupError::Task(error) => Some(error),
            _ => None,
        }
    }

    /// The error that a task returned.
    pub fn into_task(self) -> Option<E> {
        match self {
            GroupError::Task(error) => Some(error),
            _ => None,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupError::Task(error) => f.debug_tuple("Task").field(error).finish(),
            GroupError::Panicked(panic) => panic.fmt(f),
            GroupError::Cancelled => f.write_str("Cancelled"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupError::Task(error) => error.fmt(f),
            GroupError::Panicked(panic) => panic.fmt(f),
            GroupError::Cancelled => f.write_str("a task of the group was cancelled"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for GroupError<E> {}

/// The way of a [`Group`] that ends with its first error.
#[derive(Debug)]
pub struct FirstError(());

/// The way of a [`Group`] that goes on whatever happens.
#[derive(Debug)]
pub struct KeepGoing(());

/// What the tasks of a group share.
struct State<E> {
    core: Arc<Core>,
    pending: PendingSet,
    keeps_going: AtomicBool,
    cancelled: AtomicBool,
    submitted: AtomicUsize,
    errors: Mutex<Vec<(usize, GroupError<E>)>>,
}

impl<E> State<E> {
    fn is_cancelled(&self) -> bool {
        // ORDERING: Acquire: pairs with `cancel`.
        self.cancelled.load(Ordering::Acquire)
    }

    fn keeps_going(&self) -> bool {
        // ORDERING: Relaxed: set before the group is shared.
        self.keeps_going.load(Ordering::Relaxed)
    }

    /// G1 of [`fork`].
    fn is_foreign(&self) -> bool {
        (self.pending).is_foreign(&self.core, || try_lock(&self.errors).is_some())
    }

    /// Keeps an error; the first one of a group that ends with it cancels the rest.
    fn fail(&self, index: usize, error: GroupError<E>) {
        if self.is_foreign() {
            return drop_quietly(error);
        }
        let keeps_going = self.keeps_going();
        let unwanted = {
            let mut errors = lock(&self.errors);
            if keeps_going || errors.is_empty() {
                errors.push((index, error));
                None
            } else {
                Some(error)
            }
        };
        match unwanted {
            None if keeps_going => {}
            None => self.cancel(),
            Some(error) => drop_quietly(error),
        }
    }

    fn cancel(&self) {
        // ORDERING: Release: who sees it sees the error.
        self.cancelled.store(true, Ordering::Release);
        if !self.is_foreign() {
            self.pending.cancel(&self.core);
        }
    }
}

impl<E> Drop for State<E> {
    fn drop(&mut self) {
        let errors = self.errors.get_mut();
        drop_quietly(errors.map(mem::take));
    }
}

/// A task belongs to its group, under a number.
struct InGroup<E> {
    group: Arc<State<E>>,
    index: usize,
}

impl<R: Send, E: Send> Owner<Result<R, E>> for InGroup<E> {
    type Value = R;

    fn judge(&self, returned: Result<R, E>) -> Option<R> {
        match returned {
            Ok(value) => Some(value),
            Err(error) => {
                self.group.fail(self.index, GroupError::Task(error));
                None
            }
        }
    }

    fn may_begin(&self) -> bool {
        !self.group.is_cancelled()
    }

    fn run<T>(&self, task: impl FnOnce() -> T) -> T {
        current::within(Arc::as_ptr(&self.group).cast(), task)
    }

    fn take_panic(&self, payload: Payload) -> Option<Payload> {
        let panic = JoinError::panicked(payload);
        self.group.fail(self.index, GroupError::Panicked(panic));
        None
    }

    fn hear_of_panic(&self, message: Option<String>) {
        let panic = JoinError::heard_of(message);
        self.group.fail(self.index, GroupError::Panicked(panic));
    }

    fn dropped(&self, why: Unrun) {
        let by_its_handle = why == Unrun::Cancelled && !self.group.is_cancelled();
        if !by_its_handle || self.group.keeps_going() {
            self.group.fail(self.index, GroupError::Cancelled);
        }
    }

    fn over(self, was_counted: bool) {
        if was_counted {
            self.group.pending.end();
        }
    }
}

/// A task of a group.
type Member<F, T, E> = SpawnedRef<F, T, InGroup<E>>;

/// Tasks that stand and fall together: [`wait`](Group::wait) says how they fared.
///
/// The first error or panic cancels the tasks that have not started: no further one starts, and what they
/// captured is dropped. With [`keep_going`](Group::keep_going) every task runs, and every error is told.
/// Dropping a group cancels it, too; what runs goes on to its end.
///
/// ```
/// use anthill::{GroupError, Pool};
///
/// let pool = Pool::with_capacity(4);
/// let group = pool.group();
/// for leaf in 0..100 {
///     group.submit(move || if leaf == 42 { Err(format!("leaf {leaf} is dry")) } else { Ok(()) })?;
/// }
/// let error = group.wait().unwrap_err();
/// assert_eq!(error.to_string(), "leaf 42 is dry");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Group<E, Way = FirstError> {
    state: Owned<E>,
    way: PhantomData<fn() -> Way>,
}

/// Cancels the group when it is dropped.
struct Owned<E>(Arc<State<E>>);

impl<E> Deref for Owned<E> {
    type Target = Arc<State<E>>;

    fn deref(&self) -> &Arc<State<E>> {
        &self.0
    }
}

impl<E> Drop for Owned<E> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl PoolHandle {
    /// Makes a group of tasks that stand and fall together.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(2);
    /// let group = pool.group::<std::io::Error>();
    /// group.submit(|| std::fs::metadata(".").map(drop))?;
    /// group.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn group<E>(&self) -> Group<E> {
        let state = State {
            core: Arc::clone(self.core()),
            pending: PendingSet::new(),
            keeps_going: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            submitted: AtomicUsize::new(0),
            errors: Mutex::new(Vec::new()),
        };
        Group {
            state: Owned(Arc::new(state)),
            way: PhantomData,
        }
    }
}

impl<E> Group<E> {
    /// Has every task run, whatever becomes of the others, and keeps every error.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(3);
    /// let group = pool.group().keep_going();
    /// for job in 0..9 {
    ///     group.submit(move || if job % 2 == 1 { Err(job) } else { Ok(()) })?;
    /// }
    /// let odd: Vec<_> = group.wait().unwrap_err().into_iter().map(|(index, _)| index).collect();
    /// assert_eq!(odd, [1, 3, 5, 7]);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn keep_going(self) -> Group<E, KeepGoing> {
        // ORDERING: Relaxed: nobody else has the group yet.
        self.state.keeps_going.store(true, Ordering::Relaxed);
        Group {
            state: self.state,
            way: PhantomData,
        }
    }

    /// Waits until all tasks are over, or were cancelled. In a task of the same pool it runs those that
    /// have not started itself.
    ///
    /// # Errors
    ///
    /// The first: of a task, a panic, or that a task was dropped unrun. It is told once.
    ///
    /// # Panics
    ///
    /// In a task of the group, which would wait for itself.
    #[track_caller]
    pub fn wait(&self) -> Result<(), GroupError<E>> {
        match self.wait_for_all().into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }
}

impl<E> Group<E, KeepGoing> {
    /// Waits until all tasks are over. In a task of the same pool it runs those that have not started
    /// itself.
    ///
    /// # Errors
    ///
    /// Every error and panic, and each task that was dropped unrun, with the number of the task (the
    /// first is 0), in that order. They are told once.
    ///
    /// # Panics
    ///
    /// In a task of the group, which would wait for itself.
    #[track_caller]
    pub fn wait(&self) -> Result<(), Vec<(usize, GroupError<E>)>> {
        let mut errors = self.wait_for_all();
        if errors.is_empty() {
            return Ok(());
        }
        errors.sort_by_key(|(index, _)| *index);
        Err(errors)
    }
}

impl<E, Way> Group<E, Way> {
    /// Hands the pool a task of the group; waits for room like [`PoolHandle::submit`]. To a group that is
    /// cancelled it adds a task that is cancelled, too.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::submit`]: the closure comes back.
    pub fn submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
        E: Send + 'static,
    {
        self.hand_in(f, false).map(drop)
    }

    /// Like [`submit`](Group::submit), for a task with a result: the value goes to the handle, an error to
    /// [`wait`](Group::wait).
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::submit`]: the closure comes back.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(2);
    /// let group = pool.group::<std::num::ParseIntError>();
    /// let seven = group.spawn(|| "7".parse::<u32>())?;
    /// group.wait()?;
    /// assert_eq!(seven.join()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let claimable = self.hand_in(f, true)?;
        let home = (&self.state.core).into();
        Ok(JoinHandle(Handle::new(claimable, home)))
    }

    fn hand_in<F, T>(&self, closure: F, held: bool) -> Result<Member<F, T, E>, SubmitError<F>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        if self.state.is_foreign() {
            let kind = SubmitErrorKind::NoThread;
            return Err(SubmitError::new(kind, Some(fork::refusal()), closure));
        }
        let State { core, pending, .. } = &**self.state;
        let number = &self.state.submitted;
        // ORDERING: Relaxed: a number.
        let index = number.fetch_add(1, Ordering::Relaxed);
        let owner = InGroup {
            group: Arc::clone(&self.state.0),
            index,
        };
        let make = || Spawned::new(closure, owner, held);
        if self.is_cancelled() {
            let (claimable, _) = IntrusiveArc::pair(make);
            if let Some(claim) = Claim::take(&*claimable) {
                claim.abandon(Unrun::Cancelled).settle();
            }
            return Ok(claimable);
        }
        let submit = |claimable| core.submit(|| Task::of_claimable(claimable), Patience::Policy);
        let (claimable, ()) = hand_in(make, submit).inspect_err(|_| {
            // ORDERING: Relaxed: a number, which another submit may have followed by now.
            let relaxed = Ordering::Relaxed;
            let _ = number.compare_exchange(index + 1, index, relaxed, relaxed);
        })?;
        // Only now: whoever waits for the group must not wait for one who waits for his room.
        pending.begin();
        if !claimable.state().count() {
            pending.end();
        }
        pending.enlist(Spawned::as_claimable(claimable.clone()));
        if self.is_cancelled() {
            // Whoever cancelled it may have missed this one.
            pending.cancel(core);
        }
        Ok(claimable)
    }

    /// Cancels the tasks that have not started: no further one starts.
    ///
    /// ```
    /// use anthill::{GroupError, Pool};
    /// let pool = Pool::builder().capacity(0).backlog(9).build()?; // paused
    /// let group = pool.group::<()>();
    /// group.submit(|| unreachable!())?;
    /// group.cancel();
    /// assert!(matches!(group.wait(), Err(GroupError::Cancelled)));
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn cancel(&self) {
        self.state.cancel();
    }

    /// Whether the group was cancelled, by an error or on demand.
    pub fn is_cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    #[track_caller]
    fn wait_for_all(&self) -> Vec<(usize, GroupError<E>)> {
        assert!(
            !current::is_within(Arc::as_ptr(&self.state).cast()),
            "Group::wait was called in a task of the group: it would wait for itself"
        );
        if !self.state.is_foreign() {
            self.state.pending.wait(&self.state.core);
        }
        // One of its tasks may have forked meanwhile, on this stack.
        if self.state.is_foreign() {
            return self.errors_in_child();
        }
        mem::take(&mut *lock(&self.state.errors))
    }

    /// Of a group whose tasks are with the process that this one was forked from: which of them were over is
    /// not known, only how many.
    #[cold]
    fn errors_in_child(&self) -> Vec<(usize, GroupError<E>)> {
        let state = &**self.state;
        let mut errors =
            try_lock(&state.errors).map_or_else(Vec::new, |mut errors| mem::take(&mut *errors));
        // ORDERING: Relaxed: a number.
        let submitted = state.submitted.load(Ordering::Relaxed);
        let first = submitted.saturating_sub(state.pending.unfinished());
        errors.extend((first..submitted).map(|index| (index, GroupError::Cancelled)));
        errors
    }
}

impl<E, Way> fmt::Debug for Group<E, Way> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
