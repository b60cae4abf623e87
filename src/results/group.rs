//! Tasks that succeed or fail as a unit.

use super::group_error::GroupError;
use super::group_state::{InGroup, State};
use super::handle::JoinHandle;
use super::home::submit_spawned;
use super::pending::PendingSet;
use super::raw_handle::RawHandle;
use super::spawned::{Held, Spawned, SpawnedRef};
use crate::engine::current;
use crate::engine::submit::{Patience, Submit};
use crate::engine::task::Task;
use crate::engine::task::claimable::{Claim, Unrun};
use crate::engine::task::intrusive_arc::IntrusiveArc;
use crate::error::{SubmitError, SubmitErrorKind};
use crate::fork;
use crate::pool::PoolHandle;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, lock, try_lock};
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;

/// Tasks that succeed or fail as a unit; [`wait`](Group::wait) returns the outcome.
///
/// The first error or panic cancels the tasks that have not started: none of them starts, and what they captured is
/// dropped. With [`keep_going`](Group::keep_going) every task runs, and every error is reported. Dropping a group
/// cancels it, too; tasks that run go on to their end.
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
pub struct Group<E, Mode = FirstError> {
    state: CancelOnDrop<E>,
    mode: PhantomData<fn() -> Mode>,
}

/// The mode of a [`Group`] that ends with its first error.
#[derive(Debug)]
pub struct FirstError(());

/// The mode of a [`Group`] that runs every task and reports every error.
#[derive(Debug)]
pub struct KeepGoing(());

/// Cancels the group when it is dropped.
struct CancelOnDrop<E>(Arc<State<E>>);

impl<E> Deref for CancelOnDrop<E> {
    type Target = Arc<State<E>>;

    fn deref(&self) -> &Arc<State<E>> {
        &self.0
    }
}

impl<E> Drop for CancelOnDrop<E> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A task of a group.
type Member<F, T, E> = SpawnedRef<F, T, InGroup<E>>;

impl PoolHandle {
    /// Makes a group: tasks that succeed or fail as a unit.
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
            state: CancelOnDrop(Arc::new(state)),
            mode: PhantomData,
        }
    }
}

impl<E> Group<E> {
    /// Makes the group run every task, whatever becomes of the others, and keep every error.
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
            mode: PhantomData,
        }
    }

    /// Waits until every task is over or was cancelled. In a task of the same pool it runs those that have not started.
    ///
    /// # Errors
    ///
    /// Returns the first error: the error of a task, a panic, or that a task was dropped before it started. It is
    /// reported once.
    ///
    /// # Panics
    ///
    /// Panics in a task of the group, where it would wait for itself.
    #[track_caller]
    pub fn wait(&self) -> Result<(), GroupError<E>> {
        match self.wait_for_all().into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }
}

impl<E> Group<E, KeepGoing> {
    /// Waits until all tasks are over. In a task of the same pool it runs those that have not started.
    ///
    /// # Errors
    ///
    /// Returns every error, every panic, and each task that was dropped before it started, with the number of the task
    /// (the first is 0), in the order of the numbers. They are reported once.
    ///
    /// # Panics
    ///
    /// Panics in a task of the group, where it would wait for itself.
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

impl<E, Mode> Group<E, Mode> {
    /// Submits a task of the group; blocks while there is no room, like [`PoolHandle::submit`].
    ///
    /// In a cancelled group it returns `Ok`, and the task never runs.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit`] does: the closure comes back.
    pub fn submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
        E: Send + 'static,
    {
        self.submit_task(f, false).map(drop)
    }

    /// Submits a task with a result like [`submit`](Group::submit): the value goes to the returned handle, an error to
    /// [`wait`](Group::wait).
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit`] does: the closure comes back.
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
        let spawned = self.submit_task(f, true)?;
        let home = (&self.state.core).into();
        Ok(JoinHandle(RawHandle::new(spawned, home)))
    }

    fn submit_task<F, T>(&self, closure: F, held: bool) -> Result<Member<F, T, E>, SubmitError<F>>
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
            let (spawned, _) = IntrusiveArc::pair(make);
            if let Some(claim) = Claim::take(&*spawned) {
                claim.abandon(Unrun::Cancelled).settle();
            }
            return Ok(spawned);
        }
        let submit = |claimable| core.submit(|| Task::of_claimable(claimable), Patience::Policy);
        let (spawned, ()) = submit_spawned(make, submit).inspect_err(|_| {
            // ORDERING: Relaxed: a number, which another submit may have followed by now.
            let relaxed = Ordering::Relaxed;
            let _ = number.compare_exchange(index + 1, index, relaxed, relaxed);
        })?;
        // Only now: whoever waits for the group must not wait for a submitter that waits for room.
        pending.begin();
        if !spawned.state().count() {
            pending.end();
        }
        pending.enlist(Spawned::as_claimable(spawned.clone()));
        if self.is_cancelled() {
            // Whoever cancelled the group may have missed this task.
            pending.cancel(core);
        }
        Ok(spawned)
    }

    /// Cancels the tasks that have not started: none of them starts.
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

    /// Returns whether the group was cancelled, by an error or on request.
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
        // A task of the group may have forked meanwhile, on this stack.
        if self.state.is_foreign() {
            return self.errors_in_child();
        }
        mem::take(&mut *lock(&self.state.errors))
    }

    /// The errors of a group whose tasks are in the process from which this one was forked: it is not known which of
    /// them were over, only how many.
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

impl<E, Mode> fmt::Debug for Group<E, Mode> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
