//! The pool as its users see it: an owner, and handles to talk to it.

use crate::builder::Builder;
use crate::engine::core::Core;
use crate::engine::current;
use crate::engine::submit::{Patience, Submit};
use crate::error::{ReleaseTimeout, SubmitError};
use crate::stats::Stats;
use crate::stop::StopToken;
use crate::sync::{Arc, Ordering, deadline_after};
use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

/// An elastic pool of reusable OS threads, and their owner.
///
/// All a pool can do are methods of [`PoolHandle`], to which a `Pool` dereferences. What a `Pool`
/// adds is ownership: it cannot be cloned, and **dropping it closes the pool, runs what was
/// accepted and joins the threads**, without a time limit; a paused pool is resumed for it. On a
/// worker of any pool (also in a destructor of its thread-locals) dropping it only closes it, since
/// a worker that waited for workers could wait for itself.
///
/// # What workers inherit
///
/// A worker is started by the call that first needs it, on whatever thread, and like every thread it inherits
/// from that one where it may run (its affinity), and its priority and signal mask. A pool that is used by a
/// thread pinned to a processor has workers pinned to it. Where that is not wanted,
/// [`on_worker_start`](Builder::on_worker_start) is the place to set another affinity, and
/// [`min_workers`](Builder::min_workers) has workers started by the thread that builds the pool.
///
/// # After a fork
///
/// The child of a `fork` has the memory of its parent, and none of its threads but the one that forked. In
/// the child a pool works like a new one if it was at rest and had no thread when the process forked: it had
/// started none, or all were joined ([`release_timeout`](PoolHandle::release_timeout)), and no other thread
/// was in a call of it. So a pool that a server makes before it forks serves each of its children.
///
/// Any other pool refuses in the child, and waits for nothing. Its tasks are the parent's, where they run once:
///
/// - Every way to hand in a task is refused with [`NoThread`](crate::SubmitErrorKind::NoThread), whose
///   [`source`](std::error::Error::source) says that the process was forked; the closure comes back. A scope
///   and a map that begin in the child are worked on by their caller.
/// - All gauges and [`stats`](PoolHandle::stats) are 0 (but the capacity, and what was rejected). What waits
///   returns at once: `wait_idle`, and `release_timeout`, with `Ok`, since no thread of the pool is there.
///   `release`, `reboot`, `tune` and the drop of the pool touch nothing; stop tokens are stopped.
/// - A handle from before the fork has the result of a task that was over by then, and is cancelled otherwise. A
///   group tells of tasks that were not over as cancelled; a scope or a map that was half-way panics.
/// - A task that forks and returns in the child as well ends its thread there, and runs nothing more.
///
/// [`global()`](crate::global()) is a new pool in each process. All this is for `fork` as the C library has it:
/// a process that is made by a bare system call is not seen. It is tested on Linux.
///
/// ```
/// use anthill::Pool;
///
/// let pool = Pool::with_capacity(4);
/// for job in 0..9 {
///     pool.submit(move || println!("job {job}"))?; // waits while four run
/// }
/// pool.tune(8); // four more at once, from now on
/// drop(pool); // all nine have run
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Pool {
    handle: PoolHandle,
    owned: bool,
}

impl Pool {
    /// A pool of at most `n` workers without a backlog: `submit` waits while `n` tasks run.
    ///
    /// Starts no thread. With 0 the pool is paused until it is [tuned](PoolHandle::tune).
    ///
    /// ```
    /// # use anthill::Pool;
    /// Pool::with_capacity(4).submit(|| println!("hello from a worker"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn with_capacity(n: usize) -> Pool {
        Builder::new().capacity(n).into_pool()
    }

    /// A pool with a worker for each task that runs, however many.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::unbounded();
    /// assert_eq!(pool.capacity(), usize::MAX);
    /// ```
    #[must_use]
    pub fn unbounded() -> Pool {
        Pool::with_capacity(usize::MAX)
    }

    /// Says how the pool is to be.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().capacity(8).backlog(100).name("thumbs").build()?;
    /// assert_eq!(pool.capacity(), 8);
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn from_core(core: Arc<Core>) -> Pool {
        Pool {
            handle: PoolHandle::new(core),
            owned: true,
        }
    }

    /// A handle to the pool: cheap to clone, and it does not keep the pool open.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2);
    /// let handle = pool.handle();
    /// pool.submit(move || handle.submit(|| println!("a task of a task")).unwrap())?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> PoolHandle {
        self.handle.clone()
    }

    /// Gives up ownership: nothing is waited for any more. Once the last handle is dropped the
    /// pool closes: what was accepted still runs, and then its threads end.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2).detach();
    /// pool.submit(|| println!("runs if the process lives long enough"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use = "the pool closes when its last handle is dropped"]
    pub fn detach(mut self) -> PoolHandle {
        self.owned = false;
        self.handle.clone()
    }
}

impl Default for Pool {
    /// One worker for each processor, as the thread that makes the pool has them now (see
    /// [`Builder::capacity`]), and an unbounded backlog: `submit` never waits.
    fn default() -> Pool {
        Builder::new().unbounded_backlog().into_pool()
    }
}

impl Deref for Pool {
    type Target = PoolHandle;

    fn deref(&self) -> &PoolHandle {
        &self.handle
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let core = &self.handle.core;
        core.abandon();
        if !current::on_worker() && !current::is_inside(core) {
            // Without a deadline, and with nobody to open it again, this ends with the pool.
            let _ = core.end(None, None);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe(f, "Pool")
    }
}

/// Talks to a pool without keeping it open: what tasks capture, and what threads share.
///
/// ```
/// use anthill::{Pool, PoolHandle};
///
/// fn walk(pool: PoolHandle, depth: u32) {
///     if depth > 0 {
///         for _ in 0..2 {
///             let next = pool.clone();
///             // On a worker of the pool `submit` never waits.
///             pool.submit(move || walk(next, depth - 1)).unwrap();
///         }
///     }
/// }
///
/// let pool = Pool::with_capacity(2);
/// let handle = pool.handle();
/// pool.submit(move || walk(handle, 5))?;
/// pool.wait_idle();
/// assert_eq!(pool.stats().completed, 63);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct PoolHandle {
    core: Arc<Core>,
}

/// What `PoolHandle` and `Pool` share under their locks is never left half-changed by a panic.
impl UnwindSafe for PoolHandle {}
impl RefUnwindSafe for PoolHandle {}

impl PoolHandle {
    fn new(core: Arc<Core>) -> PoolHandle {
        // ORDERING: Relaxed: whoever makes a handle has one, or is the maker of the pool.
        core.handles.fetch_add(1, Ordering::Relaxed);
        PoolHandle { core }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The pool whose task (or hook) is running on this thread.
    ///
    /// ```
    /// use anthill::{Pool, PoolHandle};
    /// assert!(PoolHandle::current().is_none());
    /// let pool = Pool::with_capacity(1);
    /// pool.submit(|| {
    ///     let pool = PoolHandle::current().unwrap();
    ///     pool.submit(|| println!("next")).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn current() -> Option<PoolHandle> {
        current::core().map(PoolHandle::new)
    }

    /// Returns whether this thread runs a task (or a hook) of the pool, perhaps beneath a task of another pool.
    ///
    /// A call that waits for the pool's tasks cannot end there. It is never true outside the pool.
    ///
    /// ```
    /// use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// assert!(!pool.is_inside());
    /// let handle = pool.handle();
    /// assert!(pool.spawn(move || handle.is_inside())?.join()?);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn is_inside(&self) -> bool {
        current::is_inside(&self.core)
    }

    /// The signal by which the pool's tasks learn that it was released.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(1);
    /// pool.release();
    /// assert!(pool.stop_token().is_stopped());
    /// pool.reboot();
    /// assert!(!pool.stop_token().is_stopped());
    /// ```
    #[must_use]
    pub fn stop_token(&self) -> StopToken {
        self.core.stop_token()
    }

    /// Hands the pool a task; waits while there is no room.
    ///
    /// There is room while fewer tasks than capacity + backlog run or are queued. Those who wait
    /// are served first come, first served. What happens without room can be changed with
    /// [`Builder::overflow`]. On a worker of the same pool it never waits: what has no room is
    /// queued beyond the bound. Between pools it waits like anywhere else: a cycle of pools with
    /// bounded room, whose tasks submit to one another, can fill up and stand still.
    ///
    /// Everything before `submit` happens before the task. Where the task panics, the panic is
    /// caught and counted, and the pool's panic handler told; with `panic = "abort"` the process
    /// ends.
    ///
    /// # Errors
    ///
    /// The closure comes back if the pool is [`Closed`](crate::SubmitErrorKind::Closed), has
    /// [no thread](crate::SubmitErrorKind::NoThread) and cannot get one, or, as the pool was built,
    /// is [`Full`](crate::SubmitErrorKind::Full) or has
    /// [too many waiting](crate::SubmitErrorKind::TooManyWaiting).
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(2);
    /// pool.submit(|| println!("on a worker"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.core.submit_closure(f, Patience::Policy)
    }

    /// Hands the pool a task if there is room right now. Never waits, but for a short lock or the
    /// start of a thread.
    ///
    /// # Errors
    ///
    /// The closure comes back if the pool is [`Full`](crate::SubmitErrorKind::Full),
    /// [`Closed`](crate::SubmitErrorKind::Closed), or has
    /// [no thread](crate::SubmitErrorKind::NoThread) and cannot get one.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// let (go, gate) = std::sync::mpsc::channel::<()>();
    /// pool.try_submit(move || gate.recv().unwrap())?;
    /// assert!(pool.try_submit(|| {}).is_err()); // the one worker is busy
    /// go.send(())?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn try_submit<F>(&self, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.core.submit_closure(f, Patience::None)
    }

    /// Hands the pool a task; waits for room for `timeout` at most. `Duration::MAX` is for ever.
    ///
    /// # Errors
    ///
    /// As [`submit`](PoolHandle::submit), and [`TimedOut`](crate::SubmitErrorKind::TimedOut). It
    /// does not depend on the pool's [`Overflow`](crate::Overflow).
    ///
    /// ```
    /// # use anthill::{Pool, SubmitErrorKind};
    /// # use std::time::Duration;
    /// let paused = Pool::with_capacity(0);
    /// let refused = paused.submit_timeout(|| {}, Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(refused.kind(), SubmitErrorKind::TimedOut);
    /// ```
    pub fn submit_timeout<F>(&self, f: F, timeout: Duration) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.core
            .submit_closure(f, Patience::Until(deadline_after(timeout)))
    }

    /// Changes the capacity; returns the old one. Does not wait.
    ///
    /// More lets those who wait in and starts work at once. Less retires idle workers now and busy
    /// ones after their task. 0 pauses: running tasks finish, nothing new starts, and the backlog
    /// still takes what it has room for. Any number of threads may tune at once; a task may, too.
    ///
    /// At capacity 1 tasks from outside start in the order in which they were accepted.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2);
    /// assert_eq!(pool.tune(8), 2);
    /// assert_eq!(pool.capacity(), 8);
    /// ```
    pub fn tune(&self, n: usize) -> usize {
        self.core.tune(n)
    }

    /// The most tasks that run at once.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).capacity(), 3);
    /// ```
    pub fn capacity(&self) -> usize {
        self.core.capacity()
    }

    /// How many workers there are now, idle ones included.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).workers(), 0); // no task, no thread
    /// ```
    pub fn workers(&self) -> usize {
        self.core.workers()
    }

    /// How many workers have no task now.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(3);
    /// pool.submit(|| {})?;
    /// pool.wait_idle();
    /// assert_eq!(pool.idle(), 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn idle(&self) -> usize {
        self.core.idle()
    }

    /// How many tasks run now.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).running(), 0);
    /// ```
    pub fn running(&self) -> usize {
        self.core.running()
    }

    /// How many accepted tasks have not started. A task that is just being taken may count here
    /// and in [`running`](PoolHandle::running) for a moment.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().capacity(0).backlog(5).build()?;
    /// pool.submit(|| {})?; // paused: it is queued
    /// assert_eq!(pool.queued(), 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn queued(&self) -> usize {
        self.core.queued()
    }

    /// How many submitters wait for room.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).waiting(), 0);
    /// ```
    pub fn waiting(&self) -> usize {
        self.core.waiting()
    }

    /// How much of the capacity is not in use: by tasks that run, and by those that have been
    /// accepted and are about to. What is free is room: while nobody else submits, so many
    /// `try_submit` succeed.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(3).free(), 3);
    /// ```
    pub fn free(&self) -> usize {
        self.core.free()
    }

    /// Whether the pool was released and not opened again.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// pool.release();
    /// assert!(pool.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.core.admission.places().is_closed()
    }

    /// What the pool has counted so far.
    ///
    /// ```
    /// assert_eq!(anthill::Pool::with_capacity(1).stats().submitted, 0);
    /// ```
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Waits until the pool is at rest: nothing runs, is queued or waits for room. It returns if
    /// that was so at any moment after the call, also while others go on submitting.
    ///
    /// All that tasks did before that moment happens before it returns.
    ///
    /// # Panics
    ///
    /// In a task (or hook) of the same pool, where it would wait for itself.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(2);
    /// for _ in 0..10 {
    ///     pool.submit(|| {})?;
    /// }
    /// pool.wait_idle();
    /// assert_eq!(pool.stats().completed, 10);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[track_caller]
    pub fn wait_idle(&self) {
        assert!(
            !current::is_inside(&self.core),
            "wait_idle was called in a task of the pool it waits for: it would wait for itself"
        );
        self.core.wait_idle(None);
    }

    /// Waits like [`wait_idle`](PoolHandle::wait_idle), for `timeout` at most: whether the pool was
    /// at rest at some moment. In a task of the same pool `false`, at once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// assert!(anthill::Pool::with_capacity(1).wait_idle_timeout(Duration::ZERO));
    /// ```
    #[must_use]
    pub fn wait_idle_timeout(&self, timeout: Duration) -> bool {
        !current::is_inside(&self.core) && self.core.wait_idle(deadline_after(timeout))
    }

    /// Closes the pool and does not wait: nothing more is accepted from outside, those who wait
    /// for room are sent away, what was accepted still runs and may submit more, idle workers end.
    /// A pause is lifted: the capacity is again what it was before it.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// pool.submit(|| println!("still runs"))?;
    /// pool.release();
    /// assert!(pool.submit(|| {}).is_err());
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release(&self) {
        self.core.close(false);
    }

    /// Closes the pool like [`release`](PoolHandle::release), and joins its threads, for `timeout`
    /// at most: their thread-locals have been dropped when it returns `Ok`.
    ///
    /// # Errors
    ///
    /// What remains when the time is up; it goes on to its end. In a task of the pool, which cannot
    /// wait for itself, that is at once, and likewise if another thread reboots the pool meanwhile.
    ///
    /// ```
    /// # use {anthill::Pool, std::time::Duration};
    /// let pool = Pool::with_capacity(1);
    /// pool.submit(|| {})?;
    /// pool.release_timeout(Duration::from_secs(10))?;
    /// assert_eq!((pool.workers(), pool.stats().completed), (0, 1));
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release_timeout(&self, timeout: Duration) -> Result<(), ReleaseTimeout> {
        self.core.end(deadline_after(timeout), None)
    }

    /// Closes the pool and joins its threads like [`release_timeout`](PoolHandle::release_timeout), but gives up
    /// waiting as soon as the token is stopped, too: for a caller that loses patience by an event and not only
    /// by the time. `Duration::MAX` is for ever, that is until the event.
    ///
    /// A [`StopSource`](crate::StopSource) makes such tokens. The pool's own one is stopped by the release itself.
    ///
    /// # Errors
    ///
    /// As [`release_timeout`](PoolHandle::release_timeout): what remains. Whether that was for the event,
    /// [`is_stopped`](StopToken::is_stopped) tells. A pool that has ended by then is `Ok`.
    ///
    /// ```
    /// # use {anthill::{Pool, StopSource}, std::{sync::mpsc, thread, time::Duration}};
    /// let pool = Pool::with_capacity(1);
    /// let (go, gate) = mpsc::channel::<()>();
    /// pool.submit(move || gate.recv().unwrap())?;
    ///
    /// let impatience = StopSource::new();
    /// let (tells, waits) = (impatience.clone(), impatience.token());
    /// thread::spawn(move || tells.stop()); // say, at a second Ctrl-C
    /// let remains = pool.release_until(&waits, Duration::MAX).unwrap_err();
    /// assert_eq!(remains.workers(), 1);
    /// go.send(())?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release_until(&self, stop: &StopToken, timeout: Duration) -> Result<(), ReleaseTimeout> {
        self.core.end(deadline_after(timeout), Some(stop))
    }

    /// Closes the pool, refuses also what its tasks submit, and drops the backlog: how many tasks
    /// it dropped. Those that run, or that a worker has just taken, are left to end; does not wait
    /// for them. A task whose submit has not returned by then may be accepted and dropped a moment later:
    /// [`Stats::discarded`](crate::Stats::discarded) counts it, this does not.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().capacity(0).backlog(5).build()?;
    /// pool.submit(|| unreachable!())?;
    /// assert_eq!(pool.release_now(), 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn release_now(&self) -> usize {
        self.core.close(true)
    }

    /// Opens a released pool again. Tasks accepted before and all handles stay valid; workers that
    /// are still busy count against the capacity until they end; counters go on. Does nothing to a
    /// pool that is open, or whose [`Pool`] was dropped.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::with_capacity(1);
    /// pool.release();
    /// pool.reboot();
    /// pool.submit(|| println!("open again"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn reboot(&self) {
        self.core.reopen();
    }

    pub(crate) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("capacity", &self.capacity())
            .field("workers", &self.workers())
            .field("running", &self.running())
            .field("queued", &self.queued())
            .field("waiting", &self.waiting())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Clone for PoolHandle {
    fn clone(&self) -> PoolHandle {
        PoolHandle::new(Arc::clone(&self.core))
    }
}

impl Drop for PoolHandle {
    fn drop(&mut self) {
        // ORDERING: AcqRel, as for any reference count: what other handles did comes before the end.
        if self.core.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.core.abandon();
        }
    }
}

impl fmt::Debug for PoolHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, "PoolHandle")
    }
}
