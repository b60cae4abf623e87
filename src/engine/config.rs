//! What a pool is built with, and keeps until it is dropped.

use crate::panic::{PanicHandlers, WorkerId};
use crate::sync::{Arc, Processors};
use std::any::Any;
use std::time::Duration;

/// What [`submit`](crate::PoolHandle::submit) does when the pool has no room.
///
/// It applies to `submit`, not to the `try_` and `_timeout` forms. On a worker of the pool `submit` never blocks: there
/// `Block` and `CallerRuns` queue the task beyond the bound.
///
/// ```
/// use anthill::{Overflow, Pool};
/// let pool = Pool::builder().capacity(1).backlog(8).overflow(Overflow::DropOldest).build()?;
/// for frame in 0..100 {
///     pool.submit(move || drop(frame))?; // never waits: an old frame makes room
/// }
/// pool.wait_idle();
/// let stats = pool.stats();
/// assert_eq!(stats.completed + stats.discarded, 100);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The submitter blocks until there is room.
    #[default]
    Block,
    /// The task is refused with [`Full`](crate::SubmitErrorKind::Full).
    Reject,
    /// The submitter runs the task itself, outside the bound. While the pool is paused it blocks.
    CallerRuns,
    /// The pool drops the oldest task that no worker has taken, to make room. If there is none (all tasks that fill
    /// the pool are running) the submitter blocks.
    DropOldest,
}

pub(crate) type WorkerHook = Arc<dyn Fn(WorkerId) + Send + Sync>;

/// The code of the user that workers call beside tasks.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) on_start: Option<WorkerHook>,
    pub(crate) on_stop: Option<WorkerHook>,
    pub(crate) panics: PanicHandlers,
}

impl Hooks {
    /// Whether a new worker has user code to call first.
    pub(crate) fn has_start_hooks(&self) -> bool {
        self.on_start.is_some() || self.panics.per_worker.is_some()
    }
}

/// What a pool is built with; nothing of it changes after `build`.
#[derive(Clone)]
pub(crate) struct Config {
    /// `None`: unbounded.
    pub(crate) backlog: Option<usize>,
    pub(crate) overflow: Overflow,
    pub(crate) max_waiting: usize,
    pub(crate) min_workers: usize,
    /// LE5: how many tasks may lend their places at once.
    pub(crate) max_lent: usize,
    /// `None`: workers never expire.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) name: String,
    pub(crate) stack_size: Option<usize>,
    pub(crate) hooks: Hooks,
    /// What the tasks of a pool of one function point to: dropped with the pool.
    pub(crate) keeps: Option<Arc<dyn Any + Send + Sync>>,
    /// The processors of the thread that built the pool.
    pub(crate) processors: Processors,
}

impl Config {
    /// The limit of places at that capacity; `None`: no limit.
    pub(crate) fn limit(&self, capacity: usize) -> Option<usize> {
        self.backlog.map(|backlog| capacity.saturating_add(backlog))
    }
}
