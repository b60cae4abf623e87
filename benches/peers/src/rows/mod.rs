//! The rows: which engines are given which work, and what they should reach.
//!
//! How the engines are named, with `n` the number of their threads:
//!
//! | engine | |
//! |---|---|
//! | `anthill-n` | `Pool::with_capacity(n)`: no backlog, a submitter waits until there is room |
//! | `anthill-n-backlog` | a pool of capacity n whose backlog has no bound: nobody waits |
//! | `anthill-default` | `Pool::default()`: a worker for each processor, no bound either |
//! | `rayon-n` | a `rayon::ThreadPool` and its `spawn` |
//! | `anthill-n-batch-m`, `anthill-n-backlog-batch-m` | the same pools, and a map in batches of m items |
//! | `chili-n` | `join` of a scope of chili: the caller and n - 1 threads |
//! | `scoped_threadpool-n` | `execute` of a scope of that crate |
//! | `threadpool-n`, `rusty_pool-n` | `execute` |
//! | `tokio-n-blocking` | `spawn_blocking` of a runtime with n threads for it |
//! | `blocking-n` | `unblock` of smol's crate `blocking` |
//! | `async-executor-n` | n threads that run an `Executor`, for futures that do not block |
//! | `affinitypool-n` | `spawn`, detached |
//! | `futures-n` | `futures::executor::ThreadPool` |
//! | `channel-n` | a `crossbeam-channel` of boxed closures and n threads that loop over it |
//! | `channel-n-bounded-m` | the same, where at most m closures wait: what bounds a pool by hand |
//! | `textbook-n` | a lock, a queue and two condition variables |
//! | `threads` | a `std::thread` for each task |
//! | `in-place` | the caller does it all |
//! | `bare-thread`, `bare-threads` | threads made for this very work: what the system takes for it |

mod bounded;
mod costs;
mod fib;
mod func;
mod hand_over;
mod inside;
mod latency;
mod map;
mod results;

use std::time::{Duration, Instant};

use anthill::Pool;

use crate::engines::{Peer, ants_mode, default_mode, with_backlog};
use crate::record::{Figure, Kind, Target};

/// How much work is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Enough to measure.
    Full,
    /// Enough to see that it runs.
    Smoke,
}

/// What a number of units of work took.
pub(crate) enum Taken {
    Time(Duration),
    /// Each of them by itself.
    Times(Vec<Duration>),
    /// In the row's own unit.
    Figure(f64),
}

/// Does a number of units of work on an engine that is warm.
pub(crate) type Runner = Box<dyn FnMut(u64) -> Taken>;

/// A kind of work and the engines that do it.
pub(crate) struct Row {
    /// The rows that are drawn together.
    pub(crate) group: &'static str,
    pub(crate) name: String,
    /// What a task is, and where the clock starts and ends.
    pub(crate) about: &'static str,
    pub(crate) unit: &'static str,
    /// Few where it takes long, or where there is little noise.
    pub(crate) rounds_at_most: usize,
    /// Whether an engine has just worked when it is measured, or slept.
    pub(crate) is_warm: bool,
    /// Each engine has a process of its own.
    pub(crate) alone: bool,
    /// What the figures are told for: so many of a unit's tasks, or the unit itself.
    pub(crate) tasks_a_unit: u32,
    pub(crate) quantiles: &'static [Quantile],
    pub(crate) contenders: Vec<Contender>,
}

/// A figure taken from the timings of a round.
pub(crate) struct Quantile {
    pub(crate) suffix: &'static str,
    pub(crate) permille: usize,
    /// Whether the contenders' targets are meant for this one.
    pub(crate) targeted: bool,
}

/// An engine in a row.
pub(crate) struct Contender {
    pub(crate) engine: String,
    pub(crate) kind: Kind,
    /// Units of work in a measurement: few where each of them is dear.
    pub(crate) units: u32,
    pub(crate) targets: Vec<Target>,
    pub(crate) build: Box<dyn Fn() -> Runner>,
}

/// The workers of most rows.
pub(crate) const WORKERS: usize = 2;

/// The usual case: one timing a round.
const ONE: &[Quantile] = &[Quantile {
    suffix: "",
    permille: 500,
    targeted: true,
}];

/// Where timings are single events, whose rare slow ones matter too.
const TAIL: &[Quantile] = &[
    Quantile {
        suffix: " p50",
        permille: 500,
        targeted: true,
    },
    Quantile {
        suffix: " p99",
        permille: 990,
        targeted: true,
    },
    Quantile {
        suffix: " p99.9",
        permille: 999,
        targeted: false,
    },
];

/// All rows, in the order of the table.
pub(crate) fn all(scale: Scale) -> Vec<Row> {
    let groups = [
        ("costs", costs::rows(scale)),
        ("hand-over", hand_over::rows(scale)),
        ("tasks-from-tasks", inside::rows(scale)),
        ("latency", latency::rows(scale)),
        ("blocking-and-bounds", bounded::rows(scale)),
        ("results", results::rows(scale)),
    ];
    let named = groups.into_iter().flat_map(|(group, rows)| {
        rows.into_iter().map(move |mut row| {
            row.group = group;
            row.is_warm &= scale == Scale::Full;
            row
        })
    });
    named.collect()
}

/// A contender for each pool: `work` makes a runner of it.
macro_rules! each_pool {
    ($workers:expr, $units:expr, |$pool:ident| $work:expr) => {
        each_pool!(
            $workers, $units, |$pool| $work;
            crate::engines::Ants,
            crate::engines::Backlog,
            rayon::ThreadPool,
            threadpool::ThreadPool,
            rusty_pool::ThreadPool,
            crate::engines::TokioBlocking,
            crate::engines::SmolBlocking,
            crate::engines::AsyncExecutor,
            crate::engines::Affinity,
            futures::executor::ThreadPool,
            crate::engines::Channel,
        )
    };
    ($workers:expr, $units:expr, |$pool:ident| $work:expr; $($type:ty),+ $(,)?) => {
        vec![$(crate::rows::on($workers, $units, move |$pool: $type| $work)),+]
    };
}
use each_pool;

/// An engine that is started with so many threads for its row.
pub(crate) fn on<P, R, T>(workers: usize, units: u32, work: impl Fn(P) -> R + 'static) -> Contender
where
    P: Peer,
    R: FnMut(u64) -> T + 'static,
    T: Into<Taken>,
{
    contender(&P::name(workers), units, move || work(P::start(workers)))
}

/// Anthill in each of its modes, and the others.
fn with_modes<R, T>(units: u32, work: fn(Pool) -> R, others: Vec<Contender>) -> Vec<Contender>
where
    R: FnMut(u64) -> T + 'static,
    T: Into<Taken> + 'static,
{
    let ours = [
        contender("anthill-2", units, move || work(ants_mode(WORKERS))),
        contender("anthill-2-backlog", units, move || {
            work(with_backlog(WORKERS))
        }),
        contender("anthill-default", units, move || work(default_mode())),
    ];
    ours.into_iter().chain(others).collect()
}

pub(crate) fn contender<R, T>(
    engine: &str,
    units: u32,
    build: impl Fn() -> R + 'static,
) -> Contender
where
    R: FnMut(u64) -> T + 'static,
    T: Into<Taken>,
{
    Contender {
        engine: engine.to_owned(),
        kind: match engine {
            "in-place" => Kind::Yardstick,
            _ if engine.starts_with("anthill") => Kind::Ours,
            _ => Kind::Peer,
        },
        units,
        targets: Vec::new(),
        build: Box::new(move || {
            let mut run = build();
            Box::new(move |units| run(units).into())
        }),
    }
}

impl Row {
    pub(crate) fn new(
        name: impl Into<String>,
        about: &'static str,
        contenders: Vec<Contender>,
    ) -> Self {
        Self {
            group: "",
            name: name.into(),
            about,
            unit: "ns a task",
            rounds_at_most: usize::MAX,
            is_warm: true,
            alone: false,
            tasks_a_unit: 1,
            quantiles: ONE,
            contenders,
        }
    }

    /// Measures engines that have slept, once a round.
    pub(crate) fn after_a_pause(mut self) -> Self {
        self.is_warm = false;
        self
    }

    /// Keeps these engines, without targets: their peers may be gone.
    pub(crate) fn keep(&mut self, engines: &[&str]) {
        (self.contenders).retain(|contender| engines.contains(&contender.engine.as_str()));
        for contender in &mut self.contenders {
            contender.targets.clear();
        }
    }

    /// `engine` is to take so much of what the best peer takes.
    pub(crate) fn aim(self, engine: &str, ratio: f64) -> Self {
        self.aim_at(engine, Figure::Own, ratio, None)
    }

    /// `engine` is to take so much of what another engine of the row takes.
    pub(crate) fn aim_beside(self, engine: &str, ratio: f64, to: &str) -> Self {
        self.aim_at(engine, Figure::Own, ratio, Some(to))
    }

    pub(crate) fn aim_at(
        mut self,
        engine: &str,
        figure: Figure,
        ratio: f64,
        to: Option<&str>,
    ) -> Self {
        let mut contenders = self.contenders.iter_mut();
        let found = contenders.find(|contender| contender.engine == engine);
        found
            .expect("it is an engine of the row")
            .targets
            .push(Target {
                ratio,
                to: to.map(str::to_owned),
                figure,
            });
        self
    }
}

impl Scale {
    pub(crate) fn units(self, full: u32) -> u32 {
        match self {
            Self::Full => full,
            Self::Smoke => (full / 1_000).max(1),
        }
    }
}

impl From<Duration> for Taken {
    fn from(all: Duration) -> Self {
        Self::Time(all)
    }
}

impl From<f64> for Taken {
    fn from(figure: f64) -> Self {
        Self::Figure(figure)
    }
}

impl From<Vec<Duration>> for Taken {
    fn from(each: Vec<Duration>) -> Self {
        Self::Times(each)
    }
}

pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
