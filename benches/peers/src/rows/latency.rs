//! How long one task waits: round trips, wake-ups, and submits while the pool is resized.

use std::time::Duration;

use super::{Row, Scale, TAIL, WORKERS, contender, each_pool, on};
use crate::engines::{Ants, Backlog, BareThread, Peer};
use crate::record::Kind;
use crate::work::submits_while_tuned;
use crate::workloads::{RawThreads, submit_and_wait, wake_at};

pub(crate) fn rows(scale: Scale) -> Vec<Row> {
    vec![
        one_at_a_time(scale).aim("anthill-2-backlog", 0.8),
        wakes(scale, 10, 8),
        wakes(scale, 100, 50),
        wakes(scale, 1_000, 500).aim("anthill-2-backlog", 1.0),
        wakes(scale, 10_000, 2_000),
        tuned(scale),
    ]
}

fn one_at_a_time(scale: Scale) -> Row {
    let mut contenders = each_pool!(WORKERS, scale.units(2_000), |pool| submit_and_wait(pool));
    let threads = |pool: RawThreads| submit_and_wait(pool);
    contenders.push(on(WORKERS, scale.units(400), threads));
    Row::new(
        "submit and wait",
        "an empty task, awaited before the next one is submitted",
        contenders,
    )
}

fn wakes(scale: Scale, a_second: u32, tasks: u32) -> Row {
    let period = Duration::from_secs(1) / a_second;
    let units = match scale {
        Scale::Full => tasks,
        Scale::Smoke => 1,
    };
    let mut contenders = each_pool!(WORKERS, units, |pool| wake_at(pool, period));
    let threads = move |pool: RawThreads| wake_at(pool, period);
    contenders.push(on(WORKERS, units, threads));
    let mut bare = contender("bare-thread", units, move || {
        wake_at(BareThread::start(), period)
    });
    bare.kind = Kind::Yardstick;
    contenders.push(bare);
    let mut row = Row::new(
        format!("wake, {a_second} a second"),
        "tasks that come one by one; from before the submit until the task's first instruction; bare-thread is one that \
         waits for no more",
        contenders,
    );
    row.quantiles = if tasks < 500 { &TAIL[..1] } else { TAIL };
    row.after_a_pause()
}

/// Of the pools that can be resized by a shared reference.
fn tuned(scale: Scale) -> Row {
    let units = scale.units(20_000);
    let mut row = Row::new(
        "submit while tuned",
        "a submit, while another thread resizes the pool between 1 and 4 a thousand times a second",
        vec![
            on(WORKERS, units, |pool: Ants| {
                let handle = pool.inside();
                submits_while_tuned(pool, move |n| {
                    handle.tune(n);
                })
            }),
            on(WORKERS, units, |pool: Backlog| {
                let handle = pool.inside();
                submits_while_tuned(pool, move |n| {
                    handle.tune(n);
                })
            }),
            on(WORKERS, units, |pool: threadpool::ThreadPool| {
                let mut handle = pool.inside();
                submits_while_tuned(pool, move |n| handle.set_num_threads(n))
            }),
        ],
    );
    row.quantiles = TAIL;
    row
}
