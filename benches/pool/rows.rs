//! The rows of the benchmark: which engines are given which work, and what they should reach.
//!
//! How the engines are named, with `n` the most tasks that run at once:
//!
//! | engine | |
//! |---|---|
//! | `anthill-n` | `Pool::with_capacity(n)`: no backlog, `submit` blocks until there is room |
//! | `anthill-n-backlog` | a pool of capacity n whose backlog has no bound: `submit` never blocks |
//! | `rayon-n` | a `rayon::ThreadPool` of n threads and its `spawn`, which has no bound |
//! | `threads` | a `std::thread` for each task (in `sleep`: for each worker) |
//! | `textbook` | a lock, a queue and two conditions, with the bound of `anthill-n` |
//! | `in-place` | the submitter runs the task |

use std::hint::black_box;
use std::time::Duration;

use anthill::Pool;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::workloads::{
    CurrentRayon, Engine, IDLE_PAUSE, InPlace, RawThreads, Textbook, many_submitters,
    napping_threads, naps, one_submitter, spin, started, submit_and_wait, tree, tree_size,
    turns_for, wake_at,
};

/// How much work is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Enough to measure.
    Full,
    /// Enough to see that it runs.
    Smoke,
}

/// Does a number of units of work on an engine that is warm, and says how long they took.
pub(crate) type Runner = Box<dyn FnMut(u64) -> Duration>;

/// A kind of work and the engines that do it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) tasks_a_unit: u32,
    pub(crate) contenders: Vec<Contender>,
}

/// An engine in a row.
pub(crate) struct Contender {
    pub(crate) engine: &'static str,
    /// Units of work in a measurement: few where each of them is dear.
    pub(crate) units: u32,
    pub(crate) build: Box<dyn Fn() -> Runner>,
}

/// All rows, in the order of the table.
pub(crate) fn all(scale: Scale) -> Vec<Row> {
    vec![
        empty_one_submitter(scale),
        empty_four_submitters(scale),
        tasks_that_submit(scale),
        one_at_a_time(scale),
        wake_up(),
        busy("work-1us", Duration::from_micros(1), 20_000, scale),
        busy("work-10us", Duration::from_micros(10), 2_000, scale),
        sleep(scale),
    ]
}

fn empty_one_submitter(scale: Scale) -> Row {
    let units = scale.units(100_000);
    Row::of(
        "empty-1-submitter",
        vec![
            contender("anthill-2", units, || one_submitter(ants_mode(2), || ())),
            contender("anthill-8", units, || one_submitter(ants_mode(8), || ())),
            contender("anthill-64", units, || one_submitter(ants_mode(64), || ())),
            contender("anthill-2-backlog", units, || {
                one_submitter(with_backlog(2), || ())
            }),
            contender("rayon-2", units, || one_submitter(rayon(2), || ())),
            contender("threads", scale.units(400), || {
                one_submitter(RawThreads, || ())
            }),
        ],
    )
}

fn empty_four_submitters(scale: Scale) -> Row {
    let units = scale.units(100_000);
    Row::of(
        "empty-4-submitters",
        vec![
            contender("anthill-2", units, || many_submitters(ants_mode(2), 4)),
            contender("anthill-8", units, || many_submitters(ants_mode(8), 4)),
            contender("anthill-64", units, || many_submitters(ants_mode(64), 4)),
            contender("anthill-2-backlog", units, || {
                many_submitters(with_backlog(2), 4)
            }),
            contender("rayon-2", units, || many_submitters(rayon(2), 4)),
            contender("threads", scale.units(400), || {
                many_submitters(RawThreads, 4)
            }),
        ],
    )
}

fn tasks_that_submit(scale: Scale) -> Row {
    fn anthill_tree(pool: Pool, depth: u32) -> impl FnMut(u64) -> Duration {
        let inside = pool.handle();
        tree(pool, inside, depth)
    }

    let depth = if scale == Scale::Full { 18 } else { 8 };
    let mut row = Row::of(
        "tree",
        vec![
            contender("anthill-2", 1, move || anthill_tree(ants_mode(2), depth)),
            contender("anthill-2-backlog", 1, move || {
                anthill_tree(with_backlog(2), depth)
            }),
            contender("rayon-2", 1, move || tree(rayon(2), CurrentRayon, depth)),
        ],
    );
    row.tasks_a_unit = tree_size(depth);
    row
}

fn one_at_a_time(scale: Scale) -> Row {
    let units = scale.units(2_000);
    Row::of(
        "submit-and-wait",
        vec![
            contender("anthill-2", units, || submit_and_wait(ants_mode(2))),
            contender("anthill-2-backlog", units, || {
                submit_and_wait(with_backlog(2))
            }),
            contender("rayon-2", units, || submit_and_wait(rayon(2))),
            contender("threads", scale.units(400), || submit_and_wait(RawThreads)),
        ],
    )
}

fn wake_up() -> Row {
    fn wake<E: Engine>(engine: E) -> impl FnMut(u64) -> Duration {
        let mut run = wake_at(engine, IDLE_PAUSE);
        move |wakes| run(wakes).into_iter().sum()
    }

    Row::of(
        "wake",
        vec![
            contender("anthill-2", 1, || wake(ants_mode(2))),
            contender("anthill-2-backlog", 1, || wake(with_backlog(2))),
            contender("rayon-2", 1, || wake(rayon(2))),
            contender("threads", 1, || wake(RawThreads)),
        ],
    )
}

fn busy(name: &'static str, time: Duration, tasks: u32, scale: Scale) -> Row {
    fn on<E: Engine>(engine: E, time: Duration) -> impl FnMut(u64) -> Duration {
        let turns = turns_for(time);
        one_submitter(engine, move || {
            black_box(spin(turns, 1));
        })
    }

    let units = scale.units(tasks);
    Row::of(
        name,
        vec![
            contender("anthill-2", units, move || on(ants_mode(2), time)),
            contender("anthill-2-backlog", units, move || {
                on(with_backlog(2), time)
            }),
            contender("rayon-2", units, move || on(rayon(2), time)),
            contender("in-place", units, move || on(InPlace, time)),
        ],
    )
}

/// Without `rayon`: a thousand of its threads on a few cores look for work for seconds after each
/// run, in which nobody else can be timed.
fn sleep(scale: Scale) -> Row {
    const NAP: Duration = Duration::from_millis(10);
    // Enough that waking a thousand threads at the start does not matter.
    const NAPS_A_WORKER: u32 = 100;

    let workers: u32 = if scale == Scale::Full { 1_000 } else { 20 };
    let threads = usize::try_from(workers).expect("a usize has 32 bits or more");
    let tasks = u64::from(workers * NAPS_A_WORKER);
    let mut row = Row::of(
        "sleep",
        vec![
            contender("anthill-1000", 1, move || {
                naps(ants_mode(threads), tasks, NAP)
            }),
            contender("anthill-1000-backlog", 1, move || {
                naps(with_backlog(threads), tasks, NAP)
            }),
            contender("textbook", 1, move || {
                naps(
                    started(Textbook::new(threads, threads), threads),
                    tasks,
                    NAP,
                )
            }),
            contender("threads", 1, move || {
                napping_threads(threads, NAPS_A_WORKER, NAP)
            }),
        ],
    );
    row.tasks_a_unit = workers * NAPS_A_WORKER;
    row
}

impl Row {
    fn of(name: &'static str, contenders: Vec<Contender>) -> Self {
        Self {
            name,
            tasks_a_unit: 1,
            contenders,
        }
    }
}

impl Scale {
    fn units(self, full: u32) -> u32 {
        match self {
            Self::Full => full,
            Self::Smoke => (full / 1_000).max(1),
        }
    }
}

fn contender<R>(engine: &'static str, units: u32, build: impl Fn() -> R + 'static) -> Contender
where
    R: FnMut(u64) -> Duration + 'static,
{
    Contender {
        engine,
        units,
        build: Box::new(move || Box::new(build())),
    }
}

fn ants_mode(capacity: usize) -> Pool {
    started(Pool::with_capacity(capacity), capacity)
}

fn with_backlog(capacity: usize) -> Pool {
    let pool = Pool::builder()
        .capacity(capacity)
        .unbounded_backlog()
        .keep_workers()
        .build();
    started(pool.expect("the settings agree with each other"), capacity)
}

fn rayon(threads: usize) -> ThreadPool {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    started(pool.expect("the system has threads to give"), threads)
}
