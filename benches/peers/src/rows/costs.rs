//! What is seldom measured: allocations, memory, and what idle pools cost.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::{Row, Scale, WORKERS, each_pool};
use crate::allocations::{Counted, counted};
use crate::engines::{
    Affinity, Ants, AsyncExecutor, Backlog, Channel, Peer, SmolBlocking, TokioBlocking,
};
use crate::measure::{resident, usage_of_others};
use crate::workloads::{Engine, Latch};

pub(crate) fn rows(scale: Scale) -> Vec<Row> {
    // The idle ones first, as threads of `blocking` never end and never rest.
    let rows = vec![
        idle_time(scale),
        idle_switches(scale),
        idle_workers(scale),
        allocations("allocations", "a task", |counted| counted.calls, scale),
        allocations(
            "allocated bytes",
            "bytes a task",
            |counted| counted.bytes,
            scale,
        ),
        queued(scale),
    ];
    rows.into_iter().map(Row::after_a_pause).collect()
}

/// What is allocated while so many tasks of three words are handed over and run, a task.
fn counted_run<E: Engine>(pool: E, what: fn(Counted) -> u64) -> impl FnMut(u64) -> f64 {
    let latch = Latch::leak();
    move |tasks| {
        latch.expect(usize::try_from(tasks).expect("they are few"));
        let counted = counted(|| {
            three_words(&pool, tasks, latch);
            latch.wait();
        });
        a_task(what(counted), tasks)
    }
}

fn three_words<E: Engine>(pool: &E, tasks: u64, latch: &'static Latch) {
    for n in 0..tasks {
        let words = [n, n];
        pool.submit(move || {
            black_box(words);
            latch.count_down();
        });
    }
}

fn a_task(of_all: u64, tasks: u64) -> f64 {
    let all = u32::try_from(of_all).expect("less than four gigabytes");
    f64::from(all) / f64::from(u32::try_from(tasks).expect("they are few"))
}

fn allocations(name: &str, unit: &'static str, what: fn(Counted) -> u64, scale: Scale) -> Row {
    let units = scale.units(20_000);
    let mut row = Row::new(
        name,
        "closures of three words from one thread, handed over and run",
        each_pool!(WORKERS, units, |pool| counted_run(pool, what)),
    );
    row.unit = unit;
    row.rounds_at_most = 3;
    row
}

/// What waiting tasks keep allocated. Without the engines that let nobody wait.
fn queued(scale: Scale) -> Row {
    fn queue<E: Engine>(pool: E) -> impl FnMut(u64) -> f64 {
        let latch = Latch::leak();
        move |tasks| {
            let gate = Arc::new(Barrier::new(WORKERS + 1));
            for _ in 0..WORKERS {
                let gate = Arc::clone(&gate);
                pool.submit(move || {
                    gate.wait();
                    gate.wait();
                });
            }
            gate.wait();
            latch.expect(usize::try_from(tasks).expect("they fit in memory"));
            let counted = counted(|| three_words(&pool, tasks, latch));
            gate.wait();
            latch.wait();
            a_task(counted.kept, tasks)
        }
    }

    let units = scale.units(1_000_000);
    let mut row = Row::new(
        "memory of queued tasks",
        "a million closures of three words that wait for a worker: what is allocated for them",
        each_pool!(WORKERS, units, |pool| queue(pool);
            Backlog, rayon::ThreadPool, threadpool::ThreadPool, rusty_pool::ThreadPool, TokioBlocking,
            SmolBlocking, AsyncExecutor, Affinity, futures::executor::ThreadPool, Channel),
    );
    row.unit = "bytes a task";
    row.rounds_at_most = 1;
    row
}

/// Starts a pool of its own each time, and leaves nothing.
fn alone<P: Peer>(workers: usize, measure: impl Fn() -> f64) -> f64 {
    let pool = P::start(workers);
    thread::sleep(Duration::from_millis(20));
    let figure = measure();
    drop(pool);
    figure
}

/// Contenders that start their pools as they are measured: idle ones must not count for each other.
macro_rules! each_alone {
    (|$pool:ident| $work:expr; $($type:ty),+ $(,)?) => {
        vec![$({
            type $pool = $type;
            crate::rows::contender(&<$type>::name(WORKERS), 1, move || move |_| -> f64 { $work })
        }),+]
    };
}

/// How many idle workers are measured at most: the system refused memory to the last of 10,000 threads of tokio's.
fn most_idle(engine: &str) -> usize {
    if engine.starts_with("tokio") {
        1_000
    } else {
        usize::MAX
    }
}

fn idle_workers(scale: Scale) -> Row {
    let workers = match scale {
        Scale::Full => 10_000,
        Scale::Smoke => 10,
    };
    let mut row = Row::new(
        "memory of idle workers",
        "ten thousand workers (of tokio a thousand) that have run one task each: what the process grows by",
        each_alone!(|P| {
            let workers = workers.min(most_idle(&P::name(WORKERS)));
            let before = resident();
            alone::<P>(workers, || {
                let taken = resident().saturating_sub(before) / 1024;
                f64::from(u32::try_from(taken).expect("less than a terabyte"))
                    / f64::from(u32::try_from(workers).expect("they are few"))
            })
        }; Ants, threadpool::ThreadPool, rusty_pool::ThreadPool, TokioBlocking, Channel),
    );
    row.unit = "KiB a worker";
    row.rounds_at_most = 1;
    row.alone = true;
    row.aim_beside(
        &Ants::name(WORKERS),
        1.15,
        &threadpool::ThreadPool::name(WORKERS),
    )
}

fn idle(scale: Scale) -> Duration {
    match scale {
        Scale::Full => Duration::from_secs(10),
        Scale::Smoke => Duration::from_millis(10),
    }
}

fn idle_time(scale: Scale) -> Row {
    let time = idle(scale);
    let mut row = Row::new(
        "idle: processor time",
        "a pool whose two workers have nothing to do for ten seconds",
        each_alone!(|P| alone::<P>(WORKERS, || {
            let before = usage_of_others();
            thread::sleep(time);
            let used = usage_of_others().processor.saturating_sub(before.processor);
            used.as_secs_f64() * 1e6
        }); Ants, rayon::ThreadPool, threadpool::ThreadPool, rusty_pool::ThreadPool, TokioBlocking,
            AsyncExecutor, Affinity, futures::executor::ThreadPool, Channel),
    );
    row.unit = "us in 10 s";
    row.rounds_at_most = 1;
    row.alone = true;
    row
}

fn idle_switches(scale: Scale) -> Row {
    let time = idle(scale);
    let mut row = Row::new(
        "idle: context switches",
        "the same: how often one of its threads ran",
        each_alone!(|P| alone::<P>(WORKERS, || {
            let before = usage_of_others();
            thread::sleep(time);
            let switches = usage_of_others().switches - before.switches;
            f64::from(u32::try_from(switches).expect("they are few"))
        }); Ants, rayon::ThreadPool, threadpool::ThreadPool, rusty_pool::ThreadPool, TokioBlocking,
            AsyncExecutor, Affinity, futures::executor::ThreadPool, Channel, SmolBlocking),
    );
    row.unit = "in 10 s";
    row.rounds_at_most = 1;
    row.alone = true;
    row
}
