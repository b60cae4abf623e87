//! Threads over time: a burst makes a pool grow, then a trickle of short tasks keeps coming. Does the pool
//! shrink to what the trickle needs?

use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use crate::engines::{SmolBlocking, TokioBlocking};
use crate::measure::{settle, threads};
use crate::record::Series;
use crate::rows::Scale;
use crate::workloads::Engine;

/// The name by which it is asked for, as a row is.
pub(crate) const NAME: &str = "threads over time";

/// How long a thread may have nothing to do, where that can be set. (`blocking` has 500 ms.)
pub(crate) const KEEP_ALIVE: Duration = Duration::from_millis(200);
pub(crate) const BURST: usize = 256;
const NAP: Duration = Duration::from_millis(20);
const TRICKLE: Duration = Duration::from_millis(10);

/// Of the engines that grow and shrink: the threads that they have, looked at before each task.
pub(crate) fn run(scale: Scale) -> Vec<Series> {
    let tasks = match scale {
        Scale::Full => 300,
        Scale::Smoke => 3,
    };
    let anthill = || {
        let pool = anthill::Pool::builder()
            .capacity(BURST)
            .idle_timeout(KEEP_ALIVE)
            .build();
        pool.expect("the settings agree with each other")
    };
    let tokio = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BURST)
            .thread_keep_alive(KEEP_ALIVE)
            .build();
        TokioBlocking(runtime.expect("the system has threads to give"))
    };
    let rusty_pool = || {
        rusty_pool::Builder::new()
            .core_size(1)
            .max_size(BURST)
            .keep_alive(KEEP_ALIVE)
            .build()
    };
    let blocking = || {
        let most = NonZeroUsize::new(BURST).expect("it is more than none");
        blocking::set_max_blocking_threads(most);
        SmolBlocking
    };
    vec![
        series("anthill", anthill, tasks),
        series("tokio-blocking", tokio, tasks),
        series("rusty_pool", rusty_pool, tasks),
        series("blocking", blocking, tasks),
    ]
}

fn series<E: Engine>(engine: &str, start: impl FnOnce() -> E, tasks: u32) -> Series {
    settle(engine);
    let before = threads();
    let pool = start();
    let begun = Instant::now();
    for _ in 0..BURST {
        pool.submit(|| thread::sleep(NAP));
    }
    let mut points = Vec::new();
    for n in 1..=tasks {
        let next = begun + TRICKLE * n;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let time = begun.elapsed().as_secs_f64() * 1e3;
        points.push((time, threads().saturating_sub(before)));
        pool.submit(|| ());
    }
    Series {
        engine: engine.to_owned(),
        points,
    }
}
