//! How a pool is configured.
//!
//! | file | |
//! |---|---|
//! | here | [`Builder`]: the options |
//! | [`built`] | what a builder can build |
//! | [`build`] | checks the options and builds; the constructors of [`Pool`] |

mod build;
mod built;

pub use built::Built;
pub(crate) use built::sealed;

use crate::engine::config::{Config, Hooks, Overflow};
use crate::panic::{TaskPanic, WorkerId};
use crate::pool::Pool;
use crate::sync::{Arc, Processors};
use std::fmt;
use std::time::Duration;

/// The default of [`max_lent`](Builder::max_lent): as many threads more as a pool may come to have.
const MOST_LENT: usize = 256;

/// Configures a pool, and [builds](Builder::build) it.
///
/// | option | default |
/// |---|---|
/// | [`capacity`](Builder::capacity) | one worker for each processor |
/// | [`min_workers`](Builder::min_workers) | 0 |
/// | [`idle_timeout`](Builder::idle_timeout) | 10 s |
/// | [`backlog`](Builder::backlog) | 0: `submit` blocks while all workers are busy |
/// | [`overflow`](Builder::overflow) | [`Overflow::Block`] |
/// | [`max_waiting`](Builder::max_waiting) | no limit |
/// | [`max_lent`](Builder::max_lent) | 256 |
/// | [`name`](Builder::name) | `anthill` |
/// | [`stack_size`](Builder::stack_size) | the standard library's |
///
/// Several pools that act as one have the same options: see [`MultiPool::builder`](crate::MultiPool::builder).
///
/// ```
/// use anthill::{Overflow, Pool};
/// use std::time::Duration;
///
/// let pool = Pool::builder()
///     .capacity(16)
///     .min_workers(2)
///     .idle_timeout(Duration::from_secs(60))
///     .backlog(1_000)
///     .overflow(Overflow::Reject)
///     .name("mail")
///     .panic_handler(|panic| eprintln!("{panic:?}"))
///     .build()?;
/// assert_eq!(pool.workers(), 2);
/// # Ok::<(), anthill::BuildError>(())
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct Builder<P: Built = Pool> {
    /// `None`: the number of processors for the thread that builds the pool.
    capacity: Option<usize>,
    config: Config,
    parts: P::Parts,
}

impl<P: Built> Clone for Builder<P> {
    fn clone(&self) -> Builder<P> {
        Builder {
            capacity: self.capacity,
            config: self.config.clone(),
            parts: self.parts.clone(),
        }
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// Makes a builder with the defaults above.
    ///
    /// ```
    /// let pool = anthill::Builder::new().build()?;
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn new() -> Builder {
        Builder::with_parts(())
    }
}

impl<P: Built> Builder<P> {
    pub(crate) fn with_parts(parts: P::Parts) -> Builder<P> {
        Builder {
            capacity: None,
            config: Config {
                backlog: Some(0),
                overflow: Overflow::Block,
                max_waiting: usize::MAX,
                min_workers: 0,
                max_lent: MOST_LENT,
                idle_timeout: Some(Duration::from_secs(10)),
                name: String::from("anthill"),
                stack_size: None,
                hooks: Hooks::default(),
                keeps: P::keep(&parts),
                processors: Processors::SINGLE,
            },
            parts,
        }
    }

    /// Sets how many tasks may run at once, and so how many workers there may be. With 0 the pool is paused.
    ///
    /// By default it is the number of processors for the thread that builds the pool, when it builds it: those on which
    /// that thread may run (its affinity), but no more than its control groups grant time for. Fractions are rounded
    /// down, to at least 1: a quota of 2.5 processors gives 2, and one below 1 gives 1. It is the result of
    /// [`available_parallelism`](std::thread::available_parallelism).
    ///
    /// ```
    /// # use anthill::Pool;
    /// assert_eq!(Pool::builder().capacity(9).build()?.capacity(), 9);
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn capacity(mut self, n: usize) -> Builder<P> {
        self.capacity = Some(n);
        self
    }

    /// Sets how many workers never expire; [`build`](Builder::build) starts them.
    ///
    /// If [`tune`](crate::PoolHandle::tune) sets a lower capacity, only that many are kept.
    ///
    /// ```
    /// # use anthill::Pool;
    /// assert_eq!(Pool::builder().capacity(9).min_workers(3).build()?.workers(), 3);
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn min_workers(mut self, n: usize) -> Builder<P> {
        self.config.min_workers = n;
        self
    }

    /// Sets how long a worker stays idle before it ends. `Duration::MAX` means for ever.
    ///
    /// ```
    /// # use {anthill::Pool, std::time::Duration};
    /// let pool = Pool::builder().idle_timeout(Duration::from_secs(1)).build()?;
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn idle_timeout(mut self, timeout: Duration) -> Builder<P> {
        self.config.idle_timeout = Some(timeout);
        self
    }

    /// Keeps idle workers for ever: an idle pool then does nothing at all.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().keep_workers().build()?;
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn keep_workers(mut self) -> Builder<P> {
        self.config.idle_timeout = None;
        self
    }

    /// Sets how many accepted tasks may wait for a worker.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().capacity(1).backlog(2).build()?;
    /// let (go, gate) = std::sync::mpsc::channel::<()>();
    /// pool.try_submit(move || gate.recv().unwrap())?;
    /// pool.try_submit(|| {})?;
    /// pool.try_submit(|| {})?;
    /// assert!(pool.try_submit(|| {}).is_err());
    /// go.send(())?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn backlog(mut self, n: usize) -> Builder<P> {
        self.config.backlog = Some(n);
        self
    }

    /// Lets any number of accepted tasks wait for a worker: there is always room, and `submit` never blocks.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().capacity(0).unbounded_backlog().build()?;
    /// for _ in 0..1_000 {
    ///     pool.try_submit(|| {})?;
    /// }
    /// assert_eq!(pool.queued(), 1_000);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn unbounded_backlog(mut self) -> Builder<P> {
        self.config.backlog = None;
        self
    }

    /// Sets what `submit` does when there is no room.
    ///
    /// ```
    /// # use anthill::{Overflow, Pool};
    /// let pool = Pool::builder().capacity(2).overflow(Overflow::CallerRuns).build()?;
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn overflow(mut self, overflow: Overflow) -> Builder<P> {
        self.config.overflow = overflow;
        self
    }

    /// Sets how many submitters may wait for room at once.
    ///
    /// The next one is refused at once, with [`TooManyWaiting`](crate::SubmitErrorKind::TooManyWaiting).
    ///
    /// ```
    /// # use anthill::{Pool, SubmitErrorKind};
    /// let pool = Pool::builder().capacity(0).max_waiting(0).build()?;
    /// let refused = pool.submit(|| {}).unwrap_err();
    /// assert_eq!(refused.kind(), SubmitErrorKind::TooManyWaiting);
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn max_waiting(mut self, n: usize) -> Builder<P> {
        self.config.max_waiting = n;
        self
    }

    /// Sets how many tasks may lend their places at once, in [`blocking`](crate::blocking). The default is 256.
    ///
    /// So the pool never has more threads than its capacity and `n`. Beyond that many `blocking` only calls its closure,
    /// as it always does with 0.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().capacity(2).max_lent(8).build()?; // at most 10 threads
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn max_lent(mut self, n: usize) -> Builder<P> {
        self.config.max_lent = n;
        self
    }

    /// Sets what is called when a task panics.
    ///
    /// It is called on the worker, after the standard panic hook and before the task counts as over. A panic of the
    /// handler is caught. If there is a [`panic_handler_per_worker`](Builder::panic_handler_per_worker) as well, this
    /// one gets only the panics that no handler of a worker can take: on other threads, and while that handler runs.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder()
    ///     .panic_handler(|panic| eprintln!("lost a task: {:?}", panic.message()))
    ///     .build()?;
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn panic_handler<H>(mut self, handler: H) -> Builder<P>
    where
        H: Fn(TaskPanic) + Send + Sync + 'static,
    {
        self.config.hooks.panics.shared = Some(Arc::new(handler));
        self
    }

    /// Gives each worker a panic handler of its own.
    ///
    /// The worker makes it when it starts, and calls it on its own thread only, so the handler may keep state without a
    /// lock.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder()
    ///     .panic_handler_per_worker(|worker| {
    ///         let mut panics = 0;
    ///         move |_| {
    ///             panics += 1;
    ///             eprintln!("worker {worker}: panic no. {panics}");
    ///         }
    ///     })
    ///     .build()?;
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn panic_handler_per_worker<M, H>(mut self, make: M) -> Builder<P>
    where
        M: Fn(WorkerId) -> H + Send + Sync + 'static,
        H: FnMut(TaskPanic) + 'static,
    {
        let boxed = move |worker| -> crate::panic::PanicHandler { Box::new(make(worker)) };
        self.config.hooks.panics.per_worker = Some(Arc::new(boxed));
        self
    }

    /// Sets the name of the threads: `<name>-<worker>`, or only the number of the worker if the name is empty.
    ///
    /// [`Thread::name`](std::thread::Thread::name) and [`TaskPanic::thread_name`] return the whole name. Linux shows 15
    /// bytes of a thread's name: there the pool's name is cut, between two characters, and the worker's number stays.
    ///
    /// ```
    /// # use {anthill::Pool, std::thread};
    /// let pool = Pool::builder().name("mail").build()?;
    /// pool.submit(|| assert_eq!(thread::current().name(), Some("mail-0")))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Builder<P> {
        self.config.name = name.into();
        self
    }

    /// Sets the stack size of each worker in bytes, at least 64 KiB; the system may round it up.
    ///
    /// What the tasks need comes on top of what the pool itself needs: a task that overflows its stack ends the
    /// process. To report a panic with a backtrace takes up to 32 KiB in a debug build on x86-64 Linux; the minimum is
    /// twice that.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().stack_size(256 * 1024).build()?;
    /// assert!(Pool::builder().stack_size(1).build().is_err());
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Builder<P> {
        self.config.stack_size = Some(bytes);
        self
    }

    /// Sets a hook that each new worker calls before its first task.
    ///
    /// In it a worker can change what it inherited, like every thread, from the thread whose call started it: its
    /// affinity, its priority, its signal mask. A panic of the hook is caught and counted in
    /// [`hook_panics`](crate::Stats::hook_panics).
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().on_worker_start(|worker| println!("{worker} begins")).build()?;
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn on_worker_start<H>(mut self, hook: H) -> Builder<P>
    where
        H: Fn(WorkerId) + Send + Sync + 'static,
    {
        self.config.hooks.on_start = Some(Arc::new(hook));
        self
    }

    /// Sets a hook that each worker calls after its last task.
    ///
    /// A panic of the hook is caught and counted in [`hook_panics`](crate::Stats::hook_panics).
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().on_worker_stop(|worker| println!("{worker} ends")).build()?;
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn on_worker_stop<H>(mut self, hook: H) -> Builder<P>
    where
        H: Fn(WorkerId) + Send + Sync + 'static,
    {
        self.config.hooks.on_stop = Some(Arc::new(hook));
        self
    }
}

impl<P: Built> fmt::Debug for Builder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        let mut builder = f.debug_struct("Builder");
        if let Some(capacity) = &self.capacity {
            builder.field("capacity", capacity);
        }
        builder
            .field("min_workers", &config.min_workers)
            .field("idle_timeout", &config.idle_timeout)
            .field("backlog", &config.backlog)
            .field("overflow", &config.overflow)
            .field("max_waiting", &config.max_waiting)
            .field("max_lent", &config.max_lent)
            .field("name", &config.name)
            .field("stack_size", &config.stack_size)
            .finish_non_exhaustive()
    }
}
