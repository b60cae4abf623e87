//! Tasks with a result: `spawn`, and the handle to wait with.

use super::join_error::JoinError;
use super::spawned::{Held, Nobody, Owner, Spawned, SpawnedRef};
use super::state::Keeper;
use crate::engine::core::Core;
use crate::engine::rescue::Stake;
use crate::engine::submit::{Patience, Refusal, Submit, Target};
use crate::engine::task::Task;
use crate::engine::task::claimable::ClaimableRef;
use crate::engine::task::intrusive_arc::IntrusiveArc;
use crate::engine::{current, spin};
use crate::error::SubmitError;
use crate::fork;
use crate::pool::PoolHandle;
use crate::pools::sub_queue::SubQueue;
use crate::sync::{Arc, Instant, deadline_after};
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll};
use std::time::Duration;

impl PoolHandle {
    /// Hands the pool a task, and returns a handle to its result; waits for room like
    /// [`submit`](PoolHandle::submit). The task and its result are one allocation.
    ///
    /// # Errors
    ///
    /// As [`submit`](PoolHandle::submit): the closure comes back.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2);
    /// let half = pool.spawn(|| (1..=50).sum::<u32>())?;
    /// let rest: u32 = (51..=100).sum();
    /// assert_eq!(half.join()? + rest, 5050);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(self.core(), f, Patience::Policy)
    }

    /// Like [`spawn`](PoolHandle::spawn), if there is room right now.
    ///
    /// # Errors
    ///
    /// As [`try_submit`](PoolHandle::try_submit): the closure comes back.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// assert_eq!(pool.try_spawn(|| 7)?.join()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(self.core(), f, Patience::None)
    }

    /// Like [`spawn`](PoolHandle::spawn), but waits for room for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`submit_timeout`](PoolHandle::submit_timeout): the closure comes back.
    ///
    /// ```
    /// # use {anthill::Pool, std::time::Duration};
    /// let pool = Pool::with_capacity(1);
    /// assert_eq!(pool.spawn_timeout(|| 7, Duration::from_secs(1))?.join()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn spawn_timeout<F, T>(
        &self,
        f: F,
        timeout: Duration,
    ) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(self.core(), f, Patience::Until(deadline_after(timeout)))
    }
}

/// Where a claimable was handed in.
pub(crate) enum Home {
    Pool(Arc<Core>),
    SubQueue(Arc<SubQueue>),
}

impl From<&Arc<Core>> for Home {
    fn from(core: &Arc<Core>) -> Home {
        Home::Pool(Arc::clone(core))
    }
}

impl From<&Arc<SubQueue>> for Home {
    fn from(sub_queue: &Arc<SubQueue>) -> Home {
        Home::SubQueue(Arc::clone(sub_queue))
    }
}

impl Home {
    pub(super) fn core(&self) -> &Arc<Core> {
        match self {
            Home::Pool(core) => core,
            Home::SubQueue(sub_queue) => sub_queue.core(),
        }
    }

    /// Runs a task that has not started, in a task of the same pool. It may have begun elsewhere when this
    /// returns, or the time may be up.
    fn help<T>(&self, held: &dyn Held<T>, deadline: Option<Instant>) {
        match self {
            Home::Pool(core) => {
                if let Some(claim) = held.take_claim() {
                    core.run_within(claim);
                }
            }
            Home::SubQueue(sub_queue) => sub_queue.help_with(held.claimable(), deadline),
        }
    }

    fn cancel<T>(&self, held: &dyn Held<T>) -> bool {
        match self {
            Home::Pool(core) => core.cancel(held.claimable()),
            Home::SubQueue(sub_queue) => sub_queue.cancel(held.claimable()),
        }
    }
}

/// Hands a task in at a pool or a share of one.
pub(crate) fn spawn<H, F, T>(
    target: &Arc<H>,
    closure: F,
    patience: Patience,
) -> Result<JoinHandle<T>, SubmitError<F>>
where
    H: Target,
    for<'a> Home: From<&'a Arc<H>>,
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let submit = |claimable| target.submit(|| Task::of_claimable(claimable), patience);
    let (claimable, ()) = hand_in(|| Spawned::new(closure, Nobody, true), submit)?;
    let home = Home::from(target);
    Ok(JoinHandle(Handle::new(claimable, home)))
}

/// Hands a task in at one of several pools; `submit` says which.
pub(crate) fn spawn_with<F, T>(
    closure: F,
    submit: impl FnOnce(ClaimableRef) -> Result<Arc<Core>, Refusal>,
) -> Result<JoinHandle<T>, SubmitError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (claimable, core) = hand_in(|| Spawned::new(closure, Nobody, true), submit)?;
    Ok(JoinHandle(Handle::new(claimable, Home::Pool(core))))
}

/// A claimable that was handed in, and where.
type HandedIn<F, T, O, Where> = (SpawnedRef<F, T, O>, Where);

/// Hands a claimable in; its closure comes back if it is refused.
pub(super) fn hand_in<F, R, T, O, Where>(
    make: impl FnOnce() -> Spawned<F, T, O>,
    submit: impl FnOnce(ClaimableRef) -> Result<Where, Refusal>,
) -> Result<HandedIn<F, T, O, Where>, SubmitError<F>>
where
    F: FnOnce() -> R + Send + 'static,
    T: Send + 'static,
    O: Owner<R, Value = T> + 'static,
{
    let (claimable, queued) = IntrusiveArc::pair(make);
    match submit(Spawned::as_claimable(queued)) {
        Ok(place) => Ok((claimable, place)),
        Err(refusal) => {
            refusal.task.disown();
            match claimable.take_back() {
                Some(closure) => Err(SubmitError::new(refusal.kind, refusal.source, closure)),
                None => unreachable!("a refused claimable is nobody else's"),
            }
        }
    }
}

/// What the handles have in common.
pub(super) struct Handle<'a, T> {
    pub(super) claimable: IntrusiveArc<dyn Held<T> + 'a>,
    pub(super) home: Home,
    /// G4 of [`fork`]: the generation of the handle, and so of the task.
    made: u64,
    /// Where threads are refused while it is awaited.
    stake: Stake,
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waited {
    Done,
    TimedOut,
    Deadlock,
}

impl<T> Handle<'_, T> {
    /// Runs the task, if it has not started and this is a task of its pool; whether the wait for it could
    /// end.
    fn help(&self, deadline: Option<Instant>) -> bool {
        let state = self.claimable.state();
        if state.is_settled() {
            return true;
        }
        if !state.is_claimed() && current::is_inside(self.home.core()) {
            self.home.help(&*self.claimable, deadline);
            return true;
        }
        !current::is_within(ptr::from_ref(self.claimable.claimable()).cast())
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
        // Where threads were refused: whoever waits tries again.
        let retry = || core.rescue();
        if self.claimable.state().wait(turns, deadline, retry) {
            Waited::Done
        } else {
            Waited::TimedOut
        }
    }

    /// Takes the result.
    ///
    /// # Safety
    ///
    /// H2: the caller saw that the task is settled.
    unsafe fn take(&self) -> Result<T, JoinError> {
        debug_assert!(self.claimable.state().is_settled());
        // SAFETY: this is the handle; and the caller's: the task is done.
        unsafe { self.claimable.take() }
    }

    /// G4: the process was forked since the task was handed in.
    fn is_inherited(&self) -> bool {
        fork::is_inherited(self.made)
    }

    /// G4: the result of a task that was over when the process was forked; any other one is over in the parent
    /// alone.
    #[cold]
    fn take_inherited(&self) -> Result<T, JoinError> {
        if !self.claimable.state().is_done() {
            return Err(JoinError::cancelled());
        }
        // SAFETY: this is the handle, and the task is done.
        unsafe { self.claimable.take() }
    }

    pub(super) fn join(self) -> Result<T, JoinError> {
        let state = self.claimable.state();
        if state.is_settled_and_unwatched() {
            let (claimable, _home) = self.into_parts();
            // SAFETY: this was the handle, and the task is done.
            return unsafe { claimable.take() };
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

    fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
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
        self.claimable.state().is_done() || self.is_inherited()
    }

    pub(super) fn cancel(&self) -> bool {
        !self.claimable.state().is_claimed()
            && !self.is_inherited()
            && self.home.cancel(&*self.claimable)
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<T, JoinError>> {
        if self.is_inherited() {
            return Poll::Ready(self.take_inherited());
        }
        // Not for long: it runs the task if it may do so now.
        if !self.help(deadline_after(Duration::ZERO)) {
            return Poll::Ready(Err(JoinError::deadlock()));
        }
        if !self.claimable.state().poll(context.waker()) {
            let core = self.home.core();
            core.watch(&mut self.stake, context.waker());
            return Poll::Pending;
        }
        self.stake.withdraw(self.home.core());
        // SAFETY: the task is settled: `State::poll` says so.
        Poll::Ready(unsafe { self.take() })
    }
}

impl<'a, T> Handle<'a, T> {
    pub(super) fn new<F, R, O>(claimable: SpawnedRef<F, T, O>, home: Home) -> Self
    where
        F: FnOnce() -> R + Send + 'a,
        T: Send + 'a,
        O: Owner<R, Value = T> + 'a,
    {
        let claimable = Spawned::as_held(claimable);
        Handle {
            claimable,
            home,
            made: fork::generation(),
            stake: Stake::default(),
        }
    }

    /// Lets go of the task; why it failed, if it is over and its result was not taken.
    pub(super) fn detach(self) -> Option<JoinError> {
        let made = self.made;
        let (claimable, _home) = self.into_parts();
        // SAFETY: this was the handle.
        unsafe { let_go(&*claimable, made) }
    }

    /// Without letting go of the task.
    fn into_parts(mut self) -> (IntrusiveArc<dyn Held<T> + 'a>, Home) {
        self.stake.withdraw(self.home.core());
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, moved or dropped.
        let claimable = unsafe { ptr::read(&raw const this.claimable) };
        // SAFETY: as above.
        let home = unsafe { ptr::read(&raw const this.home) };
        (claimable, home)
    }
}

/// Drops the result, if the task is over and nobody took it; why it failed.
///
/// # Safety
///
/// H2: for the handle, which lets go of the task here.
unsafe fn let_go<T>(claimable: &dyn Held<T>, made: u64) -> Option<JoinError> {
    if claimable.state().is_done_and_unwatched() {
        // SAFETY: the task is done, and its result the handle's.
        return unsafe { claimable.drop_result() };
    }
    if fork::is_inherited(made) {
        // G4: what was left word of is not taken back, and who is not there is not told.
        let is_done = claimable.state().is_done();
        // SAFETY: the task is done, and its result the handle's.
        return is_done.then(|| unsafe { claimable.drop_result() })?;
    }
    // SAFETY: the caller's: the handle is gone with this.
    match unsafe { claimable.state().let_go() } {
        // SAFETY: the task is done, and its result the handle's.
        Keeper::Handle => unsafe { claimable.drop_result() },
        Keeper::Runner => None,
    }
}

impl<T> Drop for Handle<'_, T> {
    /// Detaches: the task goes on, and its result is dropped.
    fn drop(&mut self) {
        self.stake.withdraw(self.home.core());
        // SAFETY: this was the handle.
        drop(unsafe { let_go(&*self.claimable, self.made) });
    }
}

/// A handle to a task that was [spawned](PoolHandle::spawn), and to its result.
///
/// It can be [joined](JoinHandle::join), with a [time limit](JoinHandle::join_timeout) too, or awaited on any
/// executor; a task that has not started can be [cancelled](JoinHandle::cancel). Dropping the handle
/// detaches the task: it runs all the same.
///
/// A handle always comes to an end: the task is done, it panicked, or it was dropped unrun (cancelled,
/// discarded by [`release_now`](PoolHandle::release_now) or to make room).
///
/// # Waiting in a task
///
/// In a task of the same pool a join never waits for a free worker: a task that has not started is run
/// then and there, on the place of the task that waits, and nothing else is. So it works at capacity 1,
/// too. A task that waits for itself, or for one that is suspended beneath it on the same stack, gets an
/// [error](JoinError::is_deadlock). In another pool, and outside, a join only waits.
///
/// # Panics of the task
///
/// They go to the handle if there is one when the task ends, else to the pool's panic handler.
///
/// ```
/// let pool = anthill::Pool::with_capacity(2);
/// let handle = pool.spawn(|| "done")?;
/// assert_eq!(handle.join()?, "done");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[must_use = "dropping the handle detaches the task; `submit` is for tasks without a result"]
pub struct JoinHandle<T>(pub(super) Handle<'static, T>);

impl<T> JoinHandle<T> {
    /// Waits for the result.
    ///
    /// All that the task did, and the drop of what it captured, happens before this returns.
    ///
    /// Where the task that it waits for is run within the one that waits, so is what that one joins in turn: who
    /// joins the last of a chain of tasks that have not started, each of which joins the one before, has
    /// them all on one stack. The default stack of 2 MiB takes some thousands of them, some hundreds without optimization.
    /// There is no such limit where the wait for their [group](PoolHandle::group) or
    /// [scope](PoolHandle::scope), or of a [serial](PoolHandle::serial) share, runs them: that takes the oldest first.
    ///
    /// # Errors
    ///
    /// If the task panicked, if it was dropped unrun, or if the wait would never end.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(1);
    /// let inner = pool.handle();
    /// let outer = pool.spawn(move || inner.spawn(|| 1).unwrap().join().unwrap() + 1)?;
    /// assert_eq!(outer.join()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn join(self) -> Result<T, JoinError> {
        self.0.join()
    }

    /// Waits for the result, for `timeout` at most; `Duration::MAX` is for ever. A task that it runs
    /// itself (see [above](JoinHandle#waiting-in-a-task)) may take longer.
    ///
    /// # Errors
    ///
    /// The handle comes back if the time was up.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let pool = anthill::Pool::with_capacity(1);
    /// let (go, gate) = std::sync::mpsc::channel::<()>();
    /// let handle = pool.spawn(move || gate.recv().is_ok())?;
    /// let handle = handle.join_timeout(Duration::from_millis(5)).unwrap_err();
    /// go.send(())?;
    /// assert!(handle.join()?);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, JoinHandle<T>> {
        self.0.join_timeout(timeout).map_err(JoinHandle)
    }

    /// Whether the task is over, in whatever way.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(1);
    /// let handle = pool.spawn(|| ())?;
    /// pool.wait_idle();
    /// assert!(handle.is_finished());
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Cancels the task if it has not started: whether it had not, and now never will. What it captured
    /// has been dropped then, and its room is free.
    ///
    /// ```
    /// let pool = anthill::Pool::builder().capacity(0).backlog(1).build()?; // paused
    /// let handle = pool.spawn(|| unreachable!())?;
    /// assert!(handle.cancel());
    /// assert_eq!(pool.queued(), 0);
    /// assert!(handle.join().unwrap_err().is_cancelled());
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// On a worker of the same pool a task that has not started is run here, as by
    /// [`join`](JoinHandle::join).
    ///
    /// Where the system refused the pool a thread, it is tried again while the handle is awaited: by a small thread that
    /// the pool starts for that, and that ends once nothing lacks. Where no thread whatever is to be had, a poll does
    /// it: it then holds the executor's thread for 10 ms at a time, and wakes itself.
    ///
    /// # Panics
    ///
    /// When polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll(context)
    }
}

impl<T> UnwindSafe for JoinHandle<T> {}
impl<T> RefUnwindSafe for JoinHandle<T> {}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
