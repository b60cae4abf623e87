//! How a pool is to be.

use crate::engine::config::{Config, Hooks, Overflow};
use crate::engine::core::Core;
use crate::error::BuildError;
use crate::panic::{TaskPanic, WorkerId};
use crate::pool::Pool;
use crate::sync::{Arc, Processors, processors};
use crate::thread_name;
use std::any::Any;
use std::fmt;
use std::time::Duration;

/// Says how a pool is to be, and [builds](Builder::build) it.
///
/// | | default |
/// |---|---|
/// | [`capacity`](Builder::capacity) | one worker for each processor |
/// | [`min_workers`](Builder::min_workers) | 0 |
/// | [`idle_timeout`](Builder::idle_timeout) | 10 s |
/// | [`backlog`](Builder::backlog) | 0: `submit` waits while all workers are busy |
/// | [`overflow`](Builder::overflow) | [`Overflow::Block`] |
/// | [`max_waiting`](Builder::max_waiting) | no limit |
/// | [`name`](Builder::name) | `anthill` |
/// | [`stack_size`](Builder::stack_size) | the standard library's |
///
/// Several pools as one are built with the same options: see [`MultiPool::builder`](crate::MultiPool::builder).
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
    /// `None`: as many as there are processors for the thread that builds the pool.
    capacity: Option<usize>,
    config: Config,
    parts: P::Parts,
}

/// What a [`Builder`] can build: a [`Pool`], a [`FuncPool`](crate::FuncPool), a
/// [`MultiPool`](crate::MultiPool), a [`MultiFuncPool`](crate::MultiFuncPool).
pub trait Built: sealed::Built {}

impl<P: sealed::Built> Built for P {}

pub(crate) mod sealed {
    use crate::error::BuildError;
    use crate::pool::Pool;
    use std::any::Any;
    use std::sync::Arc;

    pub trait Built: Sized {
        /// What it is made of beside its pools.
        type Parts: Clone;

        /// Whether the parts make sense.
        fn check(_parts: &Self::Parts) -> Result<(), BuildError> {
            Ok(())
        }
        /// `pool` makes one more pool, without a thread, each time; of several each is given its number.
        fn new(parts: Self::Parts, pool: impl FnMut(Option<usize>) -> Pool) -> Self;
        /// What is to live as long as tasks of the pool do.
        fn keep(parts: &Self::Parts) -> Option<Arc<dyn Any + Send + Sync>>;
    }
}

impl sealed::Built for Pool {
    type Parts = ();

    fn new((): (), mut pool: impl FnMut(Option<usize>) -> Pool) -> Pool {
        pool(None)
    }

    fn keep((): &()) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
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
    /// A builder with the defaults above.
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

    /// The most tasks that run at once, and so the most workers. 0 makes a paused pool.
    ///
    /// By default as many as there are processors for the thread that builds the pool, as it does so: those it may
    /// run on (its affinity), but no more than its control groups grant time for. Of a part of a processor nothing
    /// is made: a quota of 2.5 is 2, and one below 1 is 1. It is what
    /// [`available_parallelism`](std::thread::available_parallelism) says.
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

    /// Workers that never expire; [`build`](Builder::build) starts them. While the capacity is
    /// tuned below it, the capacity is the minimum.
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

    /// How long a worker stays idle before it ends. `Duration::MAX` is for ever.
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

    /// Workers never expire: an idle pool then does nothing at all.
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

    /// How many accepted tasks may wait for a worker.
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

    /// Any number of accepted tasks may wait: there is always room, and `submit` never waits.
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

    /// What `submit` does without room.
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

    /// How many submitters may wait for room at once; one more is refused with
    /// [`TooManyWaiting`](crate::SubmitErrorKind::TooManyWaiting), at once.
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

    /// Who is told when a task panics: called on the worker, after the standard panic hook, before
    /// the task counts as over. A panic in it is caught. With
    /// [`panic_handler_per_worker`](Builder::panic_handler_per_worker) as well, it is told only of
    /// tasks that their submitter ran.
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

    /// Gives each worker a panic handler of its own, made on that worker when it starts and called
    /// there alone, so that it may keep state without a lock.
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

    /// Names the threads: `<name>-<worker>`, or by the worker alone if the name is empty.
    ///
    /// [`Thread::name`](std::thread::Thread::name) and [`TaskPanic::thread_name`] have all of it. Linux shows 15
    /// bytes of a thread's name: there the name of the pool is cut (between two characters), and the worker stays.
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

    /// The stack of each worker, in bytes, at least 64 KiB; the system may round it up. What tasks need comes on
    /// top of what the pool does: a task that overflows its stack ends the process.
    ///
    /// The least is twice what a worker needs to tell of a task's panic with a backtrace, unoptimized, on x86-64
    /// Linux (between 28 and 32 KiB; without one the 16 KiB that the system demands will do).
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

    /// Called on each new worker before its first task. Here a worker can be given what it has inherited from the
    /// thread whose call started it, as all threads do: an affinity, a priority, a signal mask. A panic in it is caught and counted in
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

    /// Called on each worker after its last task. A panic in it is caught and counted in
    /// [`hook_panics`](crate::Stats::hook_panics).
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

    /// Makes the pool, and starts its [`min_workers`](Builder::min_workers).
    ///
    /// # Errors
    ///
    /// Where the builder contradicts itself, and where the system refuses one of the minimum of
    /// workers; those already started are ended and joined.
    ///
    /// ```
    /// # use anthill::Pool;
    /// let pool = Pool::builder().build()?;
    /// assert!(Pool::builder().name("a\0b").build().is_err());
    /// # Ok::<(), anthill::BuildError>(())
    /// ```
    pub fn build(mut self) -> Result<P, BuildError> {
        self.config.processors = Processors::here();
        let Config {
            min_workers,
            backlog,
            overflow,
            ..
        } = self.config;
        let capacity = self.capacity.unwrap_or_else(processors);
        if min_workers > capacity {
            return Err(BuildError::MinWorkersAboveCapacity {
                min_workers,
                capacity,
            });
        }
        if overflow == Overflow::DropOldest && backlog == Some(0) {
            return Err(BuildError::DropOldestWithoutBacklog);
        }
        if self.config.name.contains('\0') {
            return Err(BuildError::NameContainsNul);
        }
        match self.config.stack_size {
            Some(stack_size) if stack_size > LARGEST_STACK => {
                return Err(BuildError::StackSizeTooLarge { stack_size });
            }
            Some(stack_size) if stack_size < SMALLEST_STACK => {
                return Err(BuildError::StackSizeTooSmall {
                    stack_size,
                    least: SMALLEST_STACK,
                });
            }
            _ => {}
        }
        P::check(&self.parts)?;
        let mut cores = Vec::new();
        let built = self.make(|core| cores.push(Arc::clone(core)));
        let fill = |core: &Arc<Core>| core.threads.fill(core);
        cores
            .iter()
            .try_for_each(fill)
            .map_err(BuildError::Thread)?;
        Ok(built)
    }

    /// The pool of a builder that only constructors have touched: it needs no check and starts no
    /// thread.
    pub(crate) fn into_pool(mut self) -> P {
        self.config.processors = Processors::here();
        self.make(|_| ())
    }

    /// Makes what is to be built, without a thread; `made` is shown each pool that it consists of.
    fn make(self, mut made: impl FnMut(&Arc<Core>)) -> P {
        let Builder {
            capacity,
            config,
            parts,
        } = self;
        let capacity = capacity.unwrap_or_else(processors);
        P::new(parts, |shard| {
            let mut config = config.clone();
            if let Some(shard) = shard {
                config.name = thread_name::of_shard(&config.name, shard);
            }
            let core = Core::new(capacity, config);
            made(&core);
            Pool::from_core(core)
        })
    }
}

/// Below this a panic could end the process: see [`Builder::stack_size`].
const SMALLEST_STACK: usize = 64 * 1024;

/// Beyond this the standard library's own arithmetic on it could overflow.
const LARGEST_STACK: usize = isize::MAX as usize / 2;

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
            .field("name", &config.name)
            .field("stack_size", &config.stack_size)
            .finish_non_exhaustive()
    }
}
