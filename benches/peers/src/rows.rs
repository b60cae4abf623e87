//! The rows: which engines are given which work, and what they should reach.
//!
//! How the engines are named, with `n` the number of their threads:
//!
//! | engine | |
//! |---|---|
//! | `anthill-n` | `Pool::with_capacity(n)`: no backlog, a submitter waits until there is room |
//! | `anthill-n-backlog` | a pool of capacity n whose backlog has no bound: nobody waits |
//! | `anthill-default` | `Pool::default()`: a worker for each processor, no bound either |
//! | `rayon-n` | a `rayon::ThreadPool` of n threads |
//! | `rusty_pool-n` | a `rusty_pool::ThreadPool` of n threads, core and most |
//! | `tokio-n` | a `tokio` runtime of n workers: `spawn`, for futures that do not block |
//! | `tokio-n-blocking` | `spawn_blocking` of the same, with n threads for it |
//! | `threadpool-n` | a `threadpool::ThreadPool` of n threads |
//! | `threads` | a `std::thread` for each task |
//! | `in-place` | the caller does it all |

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anthill::{Pool, PoolHandle};

use crate::engines::{ants_mode, default_mode, rayon, rusty_pool, threadpool, tokio, with_backlog};
use crate::work::{fib, fib_calls};

/// How much work is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Enough to measure.
    Full,
    /// Enough to see that it runs.
    Smoke,
}

/// Does a number of units of work on an engine that is warm, and says how long they took.
pub(crate) type Runner = Box<dyn FnMut(u32) -> Duration>;

/// A kind of work and the engines that do it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What the times are told for: so many of a unit's tasks, or the unit itself.
    pub(crate) tasks_a_unit: u32,
    /// The engines that the ratios are to.
    pub(crate) references: Vec<&'static str>,
    pub(crate) contenders: Vec<Contender>,
}

/// An engine in a row.
pub(crate) struct Contender {
    pub(crate) engine: &'static str,
    /// Units of work in a measurement: few where each of them is dear.
    pub(crate) units: u32,
    /// The ratio to each of the row's references that is aimed at.
    pub(crate) target: Option<f64>,
    pub(crate) build: Box<dyn Fn() -> Runner>,
}

/// All rows, in the order of the table.
pub(crate) fn all(scale: Scale) -> Vec<Row> {
    vec![
        spawn_join(scale),
        scopes(scale),
        crate::rows_map::map(scale),
        fib_row("fib-30", scale, 0),
        fib_row("fib-30-cutoff-15", scale, 15),
        crate::rows_func::func_pool(scale),
        crate::rows_func::func_pool_backlog(scale),
    ]
}

/// A unit is an empty task with a small result: all are spawned, then all are joined.
fn spawn_join(scale: Scale) -> Row {
    fn anthill(pool: Pool) -> impl FnMut(u32) -> Duration {
        move |tasks| {
            timed(|| {
                let spawn = |n: u32| pool.spawn(move || u64::from(n));
                let handles: Vec<_> = (0..tasks)
                    .map(|n| spawn(n).unwrap_or_else(|_| panic!("an open pool accepts")))
                    .collect();
                let results = handles.into_iter().map(|handle| handle.join().unwrap());
                assert_eq!(results.sum::<u64>(), sum_below(tasks));
            })
        }
    }

    let units = scale.units(10_000);
    Row {
        name: "spawn-join",
        tasks_a_unit: 1,
        references: vec!["rusty_pool-2", "tokio-2-blocking"],
        contenders: vec![
            contender("anthill-2", units, || anthill(ants_mode())).aims_at(0.5),
            contender("anthill-2-backlog", units, || anthill(with_backlog())).aims_at(0.5),
            contender("anthill-default", units, || anthill(default_mode())).aims_at(0.5),
            contender("rusty_pool-2", units, || {
                let pool = rusty_pool();
                move |tasks| {
                    timed(|| {
                        let spawn = |n: u32| pool.evaluate(move || u64::from(n));
                        let handles: Vec<_> = (0..tasks).map(spawn).collect();
                        let results = handles
                            .into_iter()
                            .map(rusty_pool::JoinHandle::await_complete);
                        assert_eq!(results.sum::<u64>(), sum_below(tasks));
                    })
                }
            }),
            contender("tokio-2-blocking", units, || {
                let runtime = tokio();
                move |tasks| {
                    timed(|| {
                        let spawn = |n: u32| runtime.spawn_blocking(move || u64::from(n));
                        let handles: Vec<_> = (0..tasks).map(spawn).collect();
                        assert_eq!(runtime.block_on(sum_of(handles)), sum_below(tasks));
                    })
                }
            }),
            contender("tokio-2", units, || {
                let runtime = tokio();
                move |tasks| {
                    timed(|| {
                        let spawn = |n: u32| runtime.spawn(async move { u64::from(n) });
                        let handles: Vec<_> = (0..tasks).map(spawn).collect();
                        assert_eq!(runtime.block_on(sum_of(handles)), sum_below(tasks));
                    })
                }
            }),
            // It has no handles: its documentation sends results through a channel.
            contender("threadpool-2", units, || {
                let pool = threadpool();
                move |tasks| {
                    timed(|| {
                        let (send, results) = mpsc::channel();
                        for n in 0..tasks {
                            let send = send.clone();
                            pool.execute(move || send.send(u64::from(n)).unwrap());
                        }
                        drop(send);
                        assert_eq!(results.iter().sum::<u64>(), sum_below(tasks));
                    })
                }
            }),
            contender("threads", scale.units(1_000), || {
                |tasks| {
                    timed(|| {
                        let spawn = |n: u32| thread::spawn(move || u64::from(n));
                        let handles: Vec<_> = (0..tasks).map(spawn).collect();
                        let results = handles.into_iter().map(|handle| handle.join().unwrap());
                        assert_eq!(results.sum::<u64>(), sum_below(tasks));
                    })
                }
            }),
        ],
    }
}

fn sum_below(tasks: u32) -> u64 {
    (0..u64::from(tasks)).sum()
}

async fn sum_of(handles: Vec<tokio::task::JoinHandle<u64>>) -> u64 {
    let mut sum = 0;
    for handle in handles {
        sum += handle.await.unwrap();
    }
    sum
}

/// A unit is a scope with a thousand empty tasks, opened by a thread outside.
fn scopes(scale: Scale) -> Row {
    const TASKS: u32 = 1_000;

    fn anthill(pool: Pool) -> impl FnMut(u32) -> Duration {
        move |scopes| {
            timed(|| {
                for _ in 0..scopes {
                    pool.scope(|s| {
                        for _ in 0..TASKS {
                            s.submit(|| ());
                        }
                    });
                }
            })
        }
    }

    let units = scale.units(50);
    Row {
        name: "scope-1000",
        tasks_a_unit: TASKS,
        references: vec!["rayon-2", "rayon-2-in-place"],
        contenders: vec![
            contender("anthill-2", units, || anthill(ants_mode())),
            contender("anthill-2-backlog", units, || anthill(with_backlog())).aims_at(1.0),
            contender("anthill-default", units, || anthill(default_mode())).aims_at(1.0),
            // The scope's closure itself runs on a worker.
            contender("rayon-2", units, || {
                let pool = rayon();
                move |scopes| {
                    timed(|| {
                        for _ in 0..scopes {
                            pool.scope(|s| (0..TASKS).for_each(|_| s.spawn(|_| ())));
                        }
                    })
                }
            }),
            // It runs on the caller's thread, as anthill's does.
            contender("rayon-2-in-place", units, || {
                let pool = rayon();
                move |scopes| {
                    timed(|| {
                        for _ in 0..scopes {
                            pool.in_place_scope(|s| (0..TASKS).for_each(|_| s.spawn(|_| ())));
                        }
                    })
                }
            }),
        ],
    }
}

/// A unit is a Fibonacci number by the book: each call above the cutoff makes two tasks of itself.
fn fib_row(name: &'static str, scale: Scale, cutoff: u32) -> Row {
    fn on_anthill(pool: &PoolHandle, n: u32, cutoff: u32) -> u64 {
        if n < 2 || n <= cutoff {
            return fib(n);
        }
        let mut a = 0;
        let b = pool.scope(|s| {
            s.submit(|| a = on_anthill(pool, n - 1, cutoff));
            on_anthill(pool, n - 2, cutoff)
        });
        a + b
    }

    fn on_rayon(n: u32, cutoff: u32) -> u64 {
        if n < 2 || n <= cutoff {
            return fib(n);
        }
        let (a, b) = rayon::join(|| on_rayon(n - 1, cutoff), || on_rayon(n - 2, cutoff));
        a + b
    }

    fn anthill(pool: Pool, n: u32, cutoff: u32) -> impl FnMut(u32) -> Duration {
        let inside = pool.handle();
        repeated(n, move || {
            let inside = inside.clone();
            let root = pool.spawn(move || on_anthill(&inside, n, cutoff));
            let root = root.unwrap_or_else(|_| panic!("an open pool accepts"));
            root.join().unwrap()
        })
    }

    let n = if scale == Scale::Full { 30 } else { 16 };
    Row {
        name,
        tasks_a_unit: fib_calls(n, cutoff),
        references: vec!["rayon-2"],
        contenders: vec![
            contender("anthill-2", 1, move || anthill(ants_mode(), n, cutoff)),
            contender("anthill-2-backlog", 1, move || {
                anthill(with_backlog(), n, cutoff)
            }),
            contender("rayon-2", 1, move || {
                let pool = rayon();
                repeated(n, move || pool.install(|| on_rayon(n, cutoff)))
            }),
            contender("in-place", 1, move || {
                repeated(n, move || fib(black_box(n)))
            }),
        ],
    }
}

/// Runs `fib` so many times, and looks at what it says.
fn repeated(n: u32, once: impl Fn() -> u64) -> impl FnMut(u32) -> Duration {
    let wanted = fib(n);
    move |units| timed(|| (0..units).for_each(|_| assert_eq!(once(), wanted)))
}

pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

impl Contender {
    pub(crate) fn aims_at(mut self, ratio: f64) -> Self {
        self.target = Some(ratio);
        self
    }
}

impl Scale {
    pub(crate) fn units(self, full: u32) -> u32 {
        match self {
            Self::Full => full,
            Self::Smoke => (full / 100).max(1),
        }
    }
}

pub(crate) fn contender<R>(
    engine: &'static str,
    units: u32,
    build: impl Fn() -> R + 'static,
) -> Contender
where
    R: FnMut(u32) -> Duration + 'static,
{
    Contender {
        engine,
        units,
        target: None,
        build: Box::new(move || Box::new(build())),
    }
}
