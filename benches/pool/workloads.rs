//! The engines behind one small trait, and the work they are given.
//!
//! What makes the engines comparable:
//!
//! - a workload is generic over its [`Engine`]: each gets the same closure, with nothing boxed on
//!   its behalf;
//! - the end of the work is awaited in one way for all of them, by a [`Latch`]: no engine's own
//!   primitive;
//! - a workload is a closure made once and run many times: its pool stays warm between the runs.
//!   Each run takes a number of units of work and returns the time that they took.

use std::collections::VecDeque;
use std::hint;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use anthill::{Pool, PoolHandle};
use crossbeam_utils::CachePadded;

/// How long a wait may take before the engine is declared stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a pool is left alone before it is to wake up: time enough for every worker to park.
pub(crate) const IDLE_PAUSE: Duration = Duration::from_millis(2);

// ------------------------------------------------------------------------------------------------
// Engines
// ------------------------------------------------------------------------------------------------

/// Something that runs closures.
pub(crate) trait Engine: Send + Sync + 'static {
    /// Sends `task` on its way, waiting for room where the engine has bounds.
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F);
}

impl Engine for Pool {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        assert!(
            PoolHandle::submit(self, task).is_ok(),
            "an open pool accepts"
        );
    }
}

/// What the tasks of an `anthill` pool submit to.
impl Engine for PoolHandle {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        assert!(
            PoolHandle::submit(self, task).is_ok(),
            "an open pool accepts"
        );
    }
}

impl Engine for rayon::ThreadPool {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        self.spawn(task);
    }
}

/// What the tasks of a `rayon` pool submit to: the pool of the thread they run on.
pub(crate) struct CurrentRayon;

impl Engine for CurrentRayon {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        rayon::spawn(task);
    }
}

/// A thread for each task.
pub(crate) struct RawThreads;

impl Engine for RawThreads {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        drop(thread::spawn(task));
    }
}

/// The rule of `Pool::with_capacity` as a textbook would write it: a lock, a queue, and a condition
/// for either side. What handing each task over costs on this machine, if nothing is clever.
pub(crate) struct Textbook {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
}

struct State {
    tasks: VecDeque<Box<dyn FnOnce() + Send>>,
    room: usize,
    open: bool,
}

impl Textbook {
    /// `room`: how many tasks may be accepted and not over.
    pub(crate) fn new(workers: usize, room: usize) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                tasks: VecDeque::new(),
                room,
                open: true,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let worker = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.work())
        };
        let threads = (0..workers).map(worker).collect();
        Self { shared, threads }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock().unwrap();
        while state.open {
            let Some(task) = state.tasks.pop_front() else {
                state = self.work.wait(state).unwrap();
                continue;
            };
            drop(state);
            task();
            state = self.state.lock().unwrap();
            state.room += 1;
            self.room.notify_one();
        }
    }
}

impl Engine for Textbook {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        let full = |state: &mut State| state.room == 0;
        let state = self.shared.state.lock().unwrap();
        let mut state = self.shared.room.wait_while(state, full).unwrap();
        state.room -= 1;
        state.tasks.push_back(Box::new(task));
        drop(state);
        self.shared.work.notify_one();
    }
}

impl Drop for Textbook {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().open = false;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// No engine at all: the submitter runs the task.
pub(crate) struct InPlace;

impl Engine for InPlace {
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) {
        task();
    }
}

/// Returns `engine` once `workers` tasks have been seen running at the same time: all its workers
/// are up.
pub(crate) fn started<E: Engine>(engine: E, workers: usize) -> E {
    let running = Latch::leak();
    running.expect(workers);
    let all = Arc::new(Barrier::new(workers + 1));
    for _ in 0..workers {
        let all = Arc::clone(&all);
        engine.submit(move || {
            running.count_down();
            all.wait();
        });
    }
    running.wait();
    all.wait();
    engine
}

// ------------------------------------------------------------------------------------------------
// The end of the work
// ------------------------------------------------------------------------------------------------

/// Counts tasks down to zero, where the last one unparks the thread that made the latch.
pub(crate) struct Latch {
    /// Apart from `waiter`, which every last task reads while the others still count.
    remaining: CachePadded<AtomicUsize>,
    waiter: Thread,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self {
            remaining: CachePadded::new(AtomicUsize::new(0)),
            waiter: thread::current(),
        }
    }

    /// A latch for ever, so that a task captures one word and counts no reference.
    pub(crate) fn leak() -> &'static Self {
        Box::leak(Box::new(Self::new()))
    }

    /// Makes the latch wait for `tasks`. Only between runs.
    pub(crate) fn expect(&self, tasks: usize) {
        // Relaxed is enough: submitting a task publishes the count to it.
        self.remaining.store(tasks, Ordering::Relaxed);
    }

    pub(crate) fn count_down(&self) {
        // ORDERING: AcqRel, with the Acquire in `wait` and the other counts: the waiter sees what
        // every task did.
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiter.unpark();
        }
    }

    /// Parks until the count is zero; ends the process if that takes longer than anything here
    /// should.
    pub(crate) fn wait(&self) {
        let start = Instant::now();
        loop {
            // ORDERING: Acquire, with the AcqRel in `count_down`.
            let remaining = self.remaining.load(Ordering::Acquire);
            if remaining == 0 {
                return;
            }
            if start.elapsed() > PATIENCE {
                // No panic: unwinding would drop the pool, which would wait for the same tasks.
                eprintln!("stuck: {remaining} tasks have not run within {PATIENCE:?}");
                process::exit(1);
            }
            thread::park_timeout(PATIENCE);
        }
    }
}

// ------------------------------------------------------------------------------------------------
// The work
// ------------------------------------------------------------------------------------------------

/// A unit is a task; from the first submission by the calling thread until the last task ran.
pub(crate) fn one_submitter<E, W>(engine: E, work: W) -> impl FnMut(u64) -> Duration
where
    E: Engine,
    W: Fn() + Copy + Send + 'static,
{
    let latch = Latch::leak();
    move |tasks| {
        let tasks = as_count(tasks);
        latch.expect(tasks);
        let start = Instant::now();
        for _ in 0..tasks {
            engine.submit(move || {
                work();
                latch.count_down();
            });
        }
        latch.wait();
        start.elapsed()
    }
}

/// A unit is an empty task; from the moment when all `submitters` are at the line until the last
/// task ran.
pub(crate) fn many_submitters<E: Engine>(
    engine: E,
    submitters: usize,
) -> impl FnMut(u64) -> Duration {
    let latch = Latch::leak();
    move |tasks| {
        let tasks = as_count(tasks);
        latch.expect(tasks);
        let (ready, go) = (&Barrier::new(submitters + 1), &Barrier::new(submitters + 1));
        thread::scope(|scope| {
            for submitter in 0..submitters {
                let share = tasks / submitters + usize::from(submitter < tasks % submitters);
                let engine = &engine;
                scope.spawn(move || {
                    ready.wait();
                    go.wait();
                    for _ in 0..share {
                        engine.submit(move || latch.count_down());
                    }
                });
            }
            // Two barriers: the clock starts when nobody is still on the way, and before anybody
            // submits.
            ready.wait();
            let start = Instant::now();
            go.wait();
            latch.wait();
            start.elapsed()
        })
    }
}

/// A unit is a binary tree of [`tree_size`] tasks, each of which submits its two children to
/// `inside`.
pub(crate) fn tree<E: Engine, I: Engine>(
    engine: E,
    inside: I,
    depth: u32,
) -> impl FnMut(u64) -> Duration {
    let tree: &Tree<I> = Box::leak(Box::new(Tree {
        inside,
        latch: Latch::new(),
    }));
    let tasks = as_count(u64::from(tree_size(depth)));
    move |trees| {
        let start = Instant::now();
        for _ in 0..trees {
            tree.latch.expect(tasks);
            engine.submit(move || tree.grow(depth));
            tree.latch.wait();
        }
        start.elapsed()
    }
}

/// The tasks of a full binary tree that is `depth` levels deep beneath its root.
pub(crate) fn tree_size(depth: u32) -> u32 {
    (1 << (depth + 1)) - 1
}

struct Tree<I> {
    inside: I,
    latch: Latch,
}

impl<I: Engine> Tree<I> {
    fn grow(&'static self, depth: u32) {
        if depth > 0 {
            self.inside.submit(move || self.grow(depth - 1));
            self.inside.submit(move || self.grow(depth - 1));
        }
        self.latch.count_down();
    }
}

/// A unit is one empty task, awaited before the next one is submitted.
pub(crate) fn submit_and_wait<E: Engine>(engine: E) -> impl FnMut(u64) -> Duration {
    let latch = Latch::leak();
    move |turns| {
        let start = Instant::now();
        for _ in 0..turns {
            latch.expect(1);
            engine.submit(move || latch.count_down());
            latch.wait();
        }
        start.elapsed()
    }
}

/// A unit is one wake-up, `period` after the one before: from before the submission until the task's first
/// instruction.
pub(crate) fn wake_at<E: Engine>(engine: E, period: Duration) -> impl FnMut(u64) -> Vec<Duration> {
    let probe: &Probe = Box::leak(Box::new(Probe::new()));
    move |wakes| {
        let mut next = Instant::now();
        let once = |_| {
            next += period;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            probe.wake(&engine)
        };
        (0..wakes).map(once).collect()
    }
}

struct Probe {
    epoch: Instant,
    /// When the task started, in nanoseconds since `epoch`; published by the latch.
    arrived: AtomicU64,
    latch: Latch,
}

impl Probe {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            arrived: AtomicU64::new(0),
            latch: Latch::new(),
        }
    }

    /// From before the submission until the task's first instruction.
    fn wake<E: Engine>(&'static self, engine: &E) -> Duration {
        self.latch.expect(1);
        let submitted = self.now();
        engine.submit(move || self.arrive());
        self.latch.wait();
        Duration::from_nanos(self.arrived.load(Ordering::Relaxed) - submitted)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).expect("a run does not last centuries")
    }

    fn arrive(&self) {
        self.arrived.store(self.now(), Ordering::Relaxed);
        self.latch.count_down();
    }
}

/// A unit is `workers * naps` naps of length `nap`, on threads that are up before the clock starts
/// and are unparked one by one: what sleeping costs on this machine without any engine.
pub(crate) fn napping_threads(
    workers: usize,
    naps: u32,
    nap: Duration,
) -> impl FnMut(u64) -> Duration {
    let (ready, done) = (Latch::leak(), Latch::leak());
    let once = move || {
        ready.expect(workers);
        done.expect(workers);
        let go = &AtomicBool::new(false);
        thread::scope(|scope| {
            let spawn = |_| {
                scope.spawn(move || {
                    ready.count_down();
                    // ORDERING: nothing is read that the flag publishes; it only says when.
                    while !go.load(Ordering::Relaxed) {
                        thread::park();
                    }
                    (0..naps).for_each(|_| thread::sleep(nap));
                    done.count_down();
                })
            };
            let threads: Vec<_> = (0..workers).map(spawn).collect();
            ready.wait();
            let start = Instant::now();
            go.store(true, Ordering::Relaxed);
            for thread in &threads {
                thread.thread().unpark();
            }
            done.wait();
            start.elapsed()
        })
    };
    move |units| (0..units).map(|_| once()).sum()
}

/// A unit is `tasks` tasks that sleep for `nap` each.
pub(crate) fn naps<E: Engine>(engine: E, tasks: u64, nap: Duration) -> impl FnMut(u64) -> Duration {
    let mut run = one_submitter(engine, move || thread::sleep(nap));
    move |units| (0..units).map(|_| run(tasks)).sum()
}

pub(crate) fn as_count(tasks: u64) -> usize {
    usize::try_from(tasks).expect("a count of tasks fits in memory")
}

// ------------------------------------------------------------------------------------------------
// Busy work
// ------------------------------------------------------------------------------------------------

/// Turns of [`spin`] that fill `time` when nothing interrupts them.
///
/// Counted work, not a look at the clock: a task that loses its core still has its work to do.
/// Measured once, so that every engine gets the same work.
pub(crate) fn turns_for(time: Duration) -> u64 {
    const SAMPLE: u32 = 100_000;
    static FASTEST: OnceLock<Duration> = OnceLock::new();

    let fastest = FASTEST.get_or_init(|| {
        let sample = |_| {
            let start = Instant::now();
            hint::black_box(spin(u64::from(SAMPLE), 1));
            start.elapsed()
        };
        (0..50).map(sample).min().expect("there are samples")
    });
    let turns = u128::from(SAMPLE) * time.as_nanos() / fastest.as_nanos().max(1);
    u64::try_from(turns).expect("a task's work is short")
}

/// Keeps the core busy for `turns`; what comes of it depends on `seed`.
///
/// A chain of multiplications, one copy of it for all, in registers alone: what a processor makes of a
/// value that goes through memory depends on where in memory that is.
#[inline(never)]
pub(crate) fn spin(turns: u64, seed: u64) -> u64 {
    (0..turns).fold(hint::black_box(seed), |state, _| {
        state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1)
    })
}
