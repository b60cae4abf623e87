//! Tasks from outside: how dear it is to hand one over and have it run.

use std::time::Duration;

use super::{Row, Scale, WORKERS, each_pool, on};
use crate::engines::Ants;
use crate::record::Figure;
use crate::work::{burst, computing};
use crate::workloads::{InPlace, RawThreads, many_submitters, one_submitter};

pub(crate) fn rows(scale: Scale) -> Vec<Row> {
    let mut rows = vec![
        empty(scale, WORKERS)
            .aim("anthill-2-backlog", 0.6)
            .aim_at("anthill-2-backlog", Figure::Switches, 0.5, None)
            .aim_beside("anthill-2", 1.1, "rayon-2")
            .aim_beside("anthill-8", 0.9, "rayon-2")
            .aim_beside("anthill-64", 0.6, "rayon-2"),
        empty(scale, 1),
        empty(scale, 4),
        empty(scale, 8),
        submitters(scale, 2),
        submitters(scale, 4).aim("anthill-2-backlog", 0.7),
        submitters(scale, 8),
        remote_spawn(scale),
    ];
    for tasks in [1, 100, 1_000] {
        rows.push(bursts(scale, tasks));
    }
    rows.push(bursts(scale, 10_000).aim("anthill-2-backlog", 0.7));
    rows.push(busy(scale, 1, 20_000).aim("anthill-2-backlog", 0.95));
    rows.push(busy(scale, 10, 2_000));
    rows.push(busy(scale, 100, 400));
    rows
}

/// With two workers also ants' mode with more of them, which is what its users would set.
fn empty(scale: Scale, workers: usize) -> Row {
    let units = scale.units(100_000);
    let mut contenders = each_pool!(workers, units, |pool| one_submitter(pool, || ()));
    if workers == WORKERS {
        contenders.push(on(8, units, |pool: Ants| one_submitter(pool, || ())));
        contenders.push(on(64, units, |pool: Ants| one_submitter(pool, || ())));
        let threads = |pool: RawThreads| one_submitter(pool, || ());
        contenders.push(on(workers, scale.units(400), threads));
    }
    Row::new(
        format!("empty, {workers} workers"),
        "empty tasks from one thread; from the first submit until the last one ran",
        contenders,
    )
}

fn submitters(scale: Scale, submitters: usize) -> Row {
    let units = scale.units(100_000);
    let mut contenders = each_pool!(WORKERS, units, |pool| many_submitters(pool, submitters));
    let threads = move |pool: RawThreads| many_submitters(pool, submitters);
    contenders.push(on(WORKERS, scale.units(400), threads));
    Row::new(
        format!("{submitters} submitters"),
        "empty tasks from several threads at once; from their start until the last one ran",
        contenders,
    )
}

/// As tokio's benchmark of this name.
fn remote_spawn(scale: Scale) -> Row {
    const SUBMITTERS: usize = 64;
    let units = scale.units(12_800);
    Row::new(
        "remote spawn",
        "12,800 empty tasks from 64 threads at once; from their start until the last one ran",
        each_pool!(WORKERS, units, |pool| many_submitters(pool, SUBMITTERS)),
    )
}

fn bursts(scale: Scale, tasks: u32) -> Row {
    let bursts = match scale {
        Scale::Full => (10_000 / tasks).clamp(5, 50),
        Scale::Smoke => 1,
    };
    let mut row = Row::new(
        format!("burst of {tasks}"),
        "empty tasks at once for a pool whose workers have gone to sleep; until the last one ran",
        each_pool!(WORKERS, bursts, |pool| burst(pool, tasks)),
    );
    row.tasks_a_unit = tasks;
    row.after_a_pause()
}

fn busy(scale: Scale, micros: u64, tasks: u32) -> Row {
    let time = Duration::from_micros(micros);
    let units = scale.units(tasks);
    let mut contenders = each_pool!(WORKERS, units, |pool| computing(pool, time));
    contenders.push(on(WORKERS, units, move |pool: InPlace| {
        computing(pool, time)
    }));
    Row::new(
        format!("work of {micros} us"),
        "tasks that compute for so long, from one thread",
        contenders,
    )
}
