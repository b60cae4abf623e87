//! The engines: each a crate's pool as its own documentation sets it up, with as many threads as a row says.
//!
//! Whatever can be is started before the clock is. What an engine's tasks submit to is [`Peer::inside`].

use std::mem;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};

use anthill::{Pool, PoolHandle};
use futures::channel::oneshot;
use futures::executor::block_on;

use crate::workloads::{CurrentRayon, Engine, InPlace, RawThreads, started};

/// An engine that is made for a number of threads.
pub(crate) trait Peer: Engine + Sized {
    /// What its tasks submit to.
    type Inside: Engine;

    fn name(workers: usize) -> String;
    fn start(workers: usize) -> Self;
    fn inside(&self) -> Self::Inside;
}

type Boxed = Box<dyn FnOnce() + Send>;

// ── anthill ─────────────────────────────────────────────────────────────────────────────────────

/// Ants' mode: no backlog, a submitter waits while as many tasks run as there are workers.
pub(crate) struct Ants(pub(crate) Pool);

/// Nobody waits.
pub(crate) struct Backlog(pub(crate) Pool);

pub(crate) fn ants_mode(workers: usize) -> Pool {
    started(Pool::with_capacity(workers), workers)
}

pub(crate) fn with_backlog(workers: usize) -> Pool {
    let pool = Pool::builder()
        .capacity(workers)
        .unbounded_backlog()
        .build();
    started(pool.expect("the settings agree with each other"), workers)
}

/// As it comes: a worker for each processor, and an unbounded backlog.
pub(crate) fn default_mode() -> Pool {
    let pool = Pool::default();
    let workers = pool.capacity();
    started(pool, workers)
}

impl Engine for Ants {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        Engine::submit(&self.0, task);
    }
}

impl Peer for Ants {
    type Inside = PoolHandle;

    fn name(workers: usize) -> String {
        format!("anthill-{workers}")
    }

    fn start(workers: usize) -> Self {
        Self(ants_mode(workers))
    }

    fn inside(&self) -> PoolHandle {
        self.0.handle()
    }
}

impl Engine for Backlog {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        Engine::submit(&self.0, task);
    }
}

impl Peer for Backlog {
    type Inside = PoolHandle;

    fn name(workers: usize) -> String {
        format!("anthill-{workers}-backlog")
    }

    fn start(workers: usize) -> Self {
        Self(with_backlog(workers))
    }

    fn inside(&self) -> PoolHandle {
        self.0.handle()
    }
}

// ── pools of closures ───────────────────────────────────────────────────────────────────────────

pub(crate) fn rayon(workers: usize) -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build();
    started(pool.expect("the system has threads to give"), workers)
}

/// The caller is one of its threads.
pub(crate) fn chili(workers: usize) -> chili::ThreadPool {
    chili::ThreadPool::with_config(chili::Config {
        thread_count: NonZeroUsize::new(workers - 1),
        ..chili::Config::default()
    })
}

impl Peer for rayon::ThreadPool {
    type Inside = CurrentRayon;

    fn name(workers: usize) -> String {
        format!("rayon-{workers}")
    }

    fn start(workers: usize) -> Self {
        rayon(workers)
    }

    fn inside(&self) -> CurrentRayon {
        CurrentRayon
    }
}

impl Engine for threadpool::ThreadPool {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        self.execute(task);
    }
}

impl Peer for threadpool::ThreadPool {
    type Inside = Self;

    fn name(workers: usize) -> String {
        format!("threadpool-{workers}")
    }

    fn start(workers: usize) -> Self {
        started(Self::new(workers), workers)
    }

    fn inside(&self) -> Self {
        self.clone()
    }
}

pub(crate) fn rusty_pool(workers: usize) -> rusty_pool::ThreadPool {
    let pool = rusty_pool::Builder::new()
        .core_size(workers)
        .max_size(workers)
        .build();
    pool.start_core_threads();
    started(pool, workers)
}

impl Engine for rusty_pool::ThreadPool {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        self.execute(task);
    }
}

impl Peer for rusty_pool::ThreadPool {
    type Inside = Self;

    fn name(workers: usize) -> String {
        format!("rusty_pool-{workers}")
    }

    fn start(workers: usize) -> Self {
        rusty_pool(workers)
    }

    fn inside(&self) -> Self {
        self.clone()
    }
}

/// Its futures cancel their tasks when they are dropped, so they are forgotten: the cheapest way to detach.
#[derive(Clone)]
pub(crate) struct Affinity(Arc<affinitypool::Threadpool>);

impl Engine for Affinity {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        mem::forget(self.0.spawn(task));
    }
}

impl Peer for Affinity {
    type Inside = Self;

    fn name(workers: usize) -> String {
        format!("affinitypool-{workers}")
    }

    fn start(workers: usize) -> Self {
        let pool = affinitypool::Threadpool::new(workers);
        started(Self(Arc::new(pool)), workers)
    }

    fn inside(&self) -> Self {
        self.clone()
    }
}

// ── pools of async runtimes ─────────────────────────────────────────────────────────────────────

/// `spawn_blocking` of a runtime.
pub(crate) struct TokioBlocking(pub(crate) tokio::runtime::Runtime);

/// A runtime of so many workers, and as many threads for what blocks.
pub(crate) fn tokio_runtime(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(workers)
        .build()
        .expect("the system has threads to give")
}

impl Engine for TokioBlocking {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        self.0.spawn_blocking(task);
    }
}

impl Engine for tokio::runtime::Handle {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        self.spawn_blocking(task);
    }
}

impl Peer for TokioBlocking {
    type Inside = tokio::runtime::Handle;

    fn name(workers: usize) -> String {
        format!("tokio-{workers}-blocking")
    }

    fn start(workers: usize) -> Self {
        started(Self(tokio_runtime(workers)), workers)
    }

    fn inside(&self) -> tokio::runtime::Handle {
        self.0.handle().clone()
    }
}

/// The one pool of the crate `blocking`, which smol uses: whoever sets its size sets it for all.
pub(crate) struct SmolBlocking;

impl Engine for SmolBlocking {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        blocking::unblock(task).detach();
    }
}

impl Peer for SmolBlocking {
    type Inside = Self;

    fn name(workers: usize) -> String {
        format!("blocking-{workers}")
    }

    fn start(workers: usize) -> Self {
        blocking::set_max_blocking_threads(NonZeroUsize::new(workers).expect("it has a worker"));
        Self
    }

    fn inside(&self) -> Self {
        Self
    }
}

/// An executor of futures, with threads that run it until they are told to stop.
pub(crate) struct AsyncExecutor {
    executor: Arc<async_executor::Executor<'static>>,
    _stops: Vec<oneshot::Sender<()>>,
}

/// What the tasks of an [`AsyncExecutor`] submit to.
pub(crate) struct InAsyncExecutor(Arc<async_executor::Executor<'static>>);

impl Engine for InAsyncExecutor {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        self.0.spawn(async move { task() }).detach();
    }
}

impl Engine for AsyncExecutor {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        self.executor.spawn(async move { task() }).detach();
    }
}

impl Peer for AsyncExecutor {
    type Inside = InAsyncExecutor;

    fn name(workers: usize) -> String {
        format!("async-executor-{workers}")
    }

    fn start(workers: usize) -> Self {
        let executor = Arc::new(async_executor::Executor::new());
        let worker = |_| {
            let (stop, stopped) = oneshot::channel::<()>();
            let executor = Arc::clone(&executor);
            thread::spawn(move || block_on(executor.run(stopped)));
            stop
        };
        let stops = (0..workers).map(worker).collect();
        let engine = Self {
            executor,
            _stops: stops,
        };
        started(engine, workers)
    }

    fn inside(&self) -> InAsyncExecutor {
        InAsyncExecutor(Arc::clone(&self.executor))
    }
}

impl Engine for futures::executor::ThreadPool {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        self.spawn_ok(async move { task() });
    }
}

impl Peer for futures::executor::ThreadPool {
    type Inside = Self;

    fn name(workers: usize) -> String {
        format!("futures-{workers}")
    }

    fn start(workers: usize) -> Self {
        let pool = Self::builder().pool_size(workers).create();
        started(pool.expect("the system has threads to give"), workers)
    }

    fn inside(&self) -> Self {
        self.clone()
    }
}

// ── by hand ─────────────────────────────────────────────────────────────────────────────────────

/// What people write who have no pool: a channel of boxed closures, and threads that loop over it. They end
/// with the last sender.
pub(crate) struct Channel(crossbeam_channel::Sender<Boxed>);

impl Channel {
    /// `bound`: how many tasks the channel holds, if not any number.
    pub(crate) fn new(workers: usize, bound: Option<usize>) -> Self {
        let (tasks, received) = match bound {
            Some(bound) => crossbeam_channel::bounded::<Boxed>(bound),
            None => crossbeam_channel::unbounded::<Boxed>(),
        };
        for _ in 0..workers {
            let received = received.clone();
            thread::spawn(move || received.iter().for_each(|task| task()));
        }
        started(Self(tasks), workers)
    }
}

impl Engine for Channel {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        assert!(self.0.send(Box::new(task)).is_ok(), "its threads run");
    }
}

impl Peer for Channel {
    type Inside = Self;

    fn name(workers: usize) -> String {
        format!("channel-{workers}")
    }

    fn start(workers: usize) -> Self {
        Self::new(workers, None)
    }

    fn inside(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A parked thread and a place for one task: what it takes the system to wake somebody, and hardly more.
pub(crate) struct BareThread {
    place: Arc<Mutex<Option<Boxed>>>,
    thread: Thread,
}

impl BareThread {
    pub(crate) fn start() -> Self {
        let place = Arc::new(Mutex::new(None::<Boxed>));
        let theirs = Arc::clone(&place);
        let thread = thread::spawn(move || {
            // Until nobody else has the place.
            while Arc::strong_count(&theirs) > 1 {
                let task = theirs.lock().unwrap_or_else(PoisonError::into_inner).take();
                match task {
                    Some(task) => task(),
                    None => thread::park(),
                }
            }
        });
        let thread = thread.thread().clone();
        Self { place, thread }
    }
}

impl Engine for BareThread {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(task));
        self.thread.unpark();
    }
}

impl Drop for BareThread {
    fn drop(&mut self) {
        self.place = Arc::default();
        self.thread.unpark();
    }
}

impl Peer for RawThreads {
    type Inside = Self;

    fn name(_workers: usize) -> String {
        "threads".to_owned()
    }

    fn start(_workers: usize) -> Self {
        Self
    }

    fn inside(&self) -> Self {
        Self
    }
}

impl Peer for InPlace {
    type Inside = Self;

    fn name(_workers: usize) -> String {
        "in-place".to_owned()
    }

    fn start(_workers: usize) -> Self {
        Self
    }

    fn inside(&self) -> Self {
        Self
    }
}
