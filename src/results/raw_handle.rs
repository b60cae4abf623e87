//! What [`JoinHandle`](super::handle::JoinHandle) and [`ScopedJoinHandle`](super::scope::ScopedJoinHandle) have in
//! common: waiting for a task, taking its result, cancelling it.
//!
//! A handle reads the result only once the task is settled, and takes it once (H2 and H4 of [`state`](super::state)).
//! Whoever waits in a task of the same pool runs the task if it has not started; one that is suspended beneath, on the
//! same stack, is a deadlock. After a fork G4 of [`fork`] applies.

use super::home::Home;
use super::join_error::JoinError;
use super::spawned::{Held, Owner, Spawned, SpawnedRef};
use super::state::Keeper;
use crate::engine::rescue::Registration;
use crate::engine::task::intrusive_arc::IntrusiveArc;
use crate::engine::{current, spin};
use crate::fork;
use crate::sync::{Instant, deadline_after};
use std::mem::ManuallyDrop;
use std::ptr;
use std::task::{Context, Poll};
use std::time::Duration;

/// A handle to a task, which need not be `'static`.
pub(super) struct RawHandle<'a, T> {
    task: IntrusiveArc<dyn Held<T> + 'a>,
    pub(super) home: Home,
    /// G4 of [`fork`]: the generation in which the handle was made, and so the task.
    made: u64,
    /// What it has at the rescuer while it is awaited and threads are refused.
    registration: Registration,
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waited {
    Done,
    TimedOut,
    Deadlock,
}

impl<T> RawHandle<'_, T> {
    /// Runs the task if it has not started and this thread is in a task of its pool. False if the wait for the task
    /// could never end.
    fn help(&self, deadline: Option<Instant>) -> bool {
        let state = self.task.state();
        if state.is_settled() {
            return true;
        }
        if !state.is_claimed() && current::may_help(self.home.core()) {
            self.home.help(&*self.task, deadline);
            return true;
        }
        !current::is_within(ptr::from_ref(self.task.claimable()).cast())
    }

    fn wait(&self, deadline: Option<Instant>) -> Waited {
        if !self.help(deadline) {
            return Waited::Deadlock;
        }
        let core = self.home.core();
        let turns = if core.may_spin() {
            core.config.processors.spins(spin::JOIN)
        } else {
            0
        };
        // If threads were refused, whoever waits tries again.
        let retry = || core.prepare_to_block();
        if self.task.state().wait(turns, deadline, retry) {
            Waited::Done
        } else {
            Waited::TimedOut
        }
    }

    /// Takes the result.
    ///
    /// # Safety
    ///
    /// H2: the caller has seen that the task is settled.
    unsafe fn take(&self) -> Result<T, JoinError> {
        debug_assert!(self.task.state().is_settled());
        // SAFETY: this is the handle; and the caller's: the task is done.
        unsafe { self.task.take() }
    }

    /// G4: the process was forked after the task was submitted.
    fn is_inherited(&self) -> bool {
        fork::is_inherited(self.made)
    }

    /// G4: the result of a task that was over when the process was forked; any other task can end only in the
    /// parent.
    #[cold]
    fn take_inherited(&self) -> Result<T, JoinError> {
        if !self.task.state().is_done() {
            return Err(JoinError::cancelled());
        }
        // SAFETY: this is the handle, and the task is done.
        unsafe { self.task.take() }
    }

    pub(super) fn join(self) -> Result<T, JoinError> {
        let state = self.task.state();
        if state.is_settled_and_unwatched() {
            let (task, _home) = self.into_parts();
            // SAFETY: this was the handle, and the task is done.
            return unsafe { task.take() };
        }
        if self.is_inherited() {
            return self.take_inherited();
        }
        match self.wait(None) {
            // SAFETY: the task is settled.
            Waited::Done => unsafe { self.take() },
            Waited::Deadlock | Waited::TimedOut => Err(JoinError::deadlock()),
        }
    }

    pub(super) fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        if self.is_inherited() {
            return Ok(self.take_inherited());
        }
        match self.wait(deadline_after(timeout)) {
            // SAFETY: the task is settled.
            Waited::Done => Ok(unsafe { self.take() }),
            Waited::Deadlock => Ok(Err(JoinError::deadlock())),
            Waited::TimedOut => Err(self),
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.task.state().is_done() || self.is_inherited()
    }

    pub(super) fn cancel(&self) -> bool {
        !self.task.state().is_claimed() && !self.is_inherited() && self.home.cancel(&*self.task)
    }

    pub(super) fn poll(&mut self, context: &Context<'_>) -> Poll<Result<T, JoinError>> {
        if self.is_inherited() {
            return Poll::Ready(self.take_inherited());
        }
        // It does not wait: it runs the task if that is possible right now.
        if !self.help(deadline_after(Duration::ZERO)) {
            return Poll::Ready(Err(JoinError::deadlock()));
        }
        if !self.task.state().poll(context.waker()) {
            let core = self.home.core();
            core.poll_rescue(&mut self.registration, context.waker());
            return Poll::Pending;
        }
        self.registration.withdraw(self.home.core());
        // SAFETY: the task is settled: `State::poll` says so.
        Poll::Ready(unsafe { self.take() })
    }
}

impl<'a, T> RawHandle<'a, T> {
    pub(super) fn new<F, R, O>(spawned: SpawnedRef<F, T, O>, home: Home) -> Self
    where
        F: FnOnce() -> R + Send + 'a,
        T: Send + 'a,
        O: Owner<R, Value = T> + 'a,
    {
        RawHandle {
            task: Spawned::as_held(spawned),
            home,
            made: fork::generation(),
            registration: Registration::default(),
        }
    }

    /// Gives up the task. Returns why it failed, if it is over and its result was not taken.
    pub(super) fn detach(self) -> Option<JoinError> {
        let made = self.made;
        let (task, _home) = self.into_parts();
        // SAFETY: this was the handle.
        unsafe { give_up(&*task, made) }
    }

    /// Takes the handle apart without giving up the task.
    fn into_parts(mut self) -> (IntrusiveArc<dyn Held<T> + 'a>, Home) {
        self.registration.withdraw(self.home.core());
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, moved or dropped.
        let task = unsafe { ptr::read(&raw const this.task) };
        // SAFETY: as above.
        let home = unsafe { ptr::read(&raw const this.home) };
        (task, home)
    }
}

/// Gives up the task. If it is over and its result was not taken, drops the result and returns why it failed.
///
/// # Safety
///
/// H2: only for the handle, which gives up the task with this call.
unsafe fn give_up<T>(task: &dyn Held<T>, made: u64) -> Option<JoinError> {
    if task.state().is_done_and_unwatched() {
        // SAFETY: the task is done, and its result the handle's.
        return unsafe { task.drop_result() };
    }
    if fork::is_inherited(made) {
        // G4: the joiner that was stored is not taken back, and a runner that is not in this process is not told.
        let is_done = task.state().is_done();
        // SAFETY: the task is done, and its result the handle's.
        return is_done.then(|| unsafe { task.drop_result() })?;
    }
    // SAFETY: the caller's: the handle is gone with this.
    match unsafe { task.state().give_up() } {
        // SAFETY: the task is done, and its result the handle's.
        Keeper::Handle => unsafe { task.drop_result() },
        Keeper::Runner => None,
    }
}

impl<T> Drop for RawHandle<'_, T> {
    /// Detaches the task: it goes on, and its result is dropped.
    fn drop(&mut self) {
        self.registration.withdraw(self.home.core());
        // SAFETY: this was the handle.
        drop(unsafe { give_up(&*self.task, self.made) });
    }
}
