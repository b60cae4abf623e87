//! The table of ratios: all engines of a row in turn, round by round, in one process.
//!
//! A machine drifts: clocks change, neighbours come and go. Engines measured one after the other
//! meet different machines; engines measured in turn meet the same one. Each figure is a median
//! over the rounds, and each ratio is one of two medians from the same run.
//!
//! The pools of a row live side by side, but one works at a time: before an engine is timed, the
//! threads of the one before it have gone to sleep.

use std::thread;

use crate::engines::WORKERS;
use crate::measure::{median, nanos, settle};
use crate::rows::{self, Contender, Row, Runner, Scale};

/// Measures and prints every row whose name contains one of the `filters`, or every row if there
/// are none.
pub(crate) fn print(scale: Scale, rounds: usize, filters: &[&str]) {
    assert!(rounds > 0, "a median needs a round");
    let wanted =
        |row: &Row| filters.is_empty() || filters.iter().any(|part| row.name.contains(part));
    let rows: Vec<Row> = rows::all(scale).into_iter().filter(wanted).collect();
    assert!(!rows.is_empty(), "no row has a name with {filters:?} in it");

    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!("{rounds} rounds, engines in turn, {WORKERS} workers each, {cores} cores.\n");
    println!("| row | engine | median, ns a task | min–max | ratio to | to reach |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        print_row(&row, &measure(&row, rounds));
    }
}

/// For each engine its time in each round, in nanoseconds a task, sorted.
fn measure(row: &Row, rounds: usize) -> Vec<Vec<f64>> {
    let mut runners: Vec<Runner> = (row.contenders.iter())
        .map(|contender| (contender.build)())
        .collect();
    let mut all: Vec<Vec<f64>> = row.contenders.iter().map(|_| Vec::new()).collect();

    let mut last = "the start of a pool";
    // The first round warms caches and allocators up and is thrown away.
    for round in 0..=rounds {
        for place in 0..runners.len() {
            // There and back again, so that nobody always runs in the wake of the same neighbour.
            let turn = if round % 2 == 0 {
                place
            } else {
                runners.len() - 1 - place
            };
            settle(last);
            last = row.contenders[turn].engine;
            let time = sample(row, &row.contenders[turn], &mut runners[turn]);
            if round > 0 {
                all[turn].push(time);
            }
        }
    }

    for times in &mut all {
        times.sort_by(f64::total_cmp);
    }
    all
}

/// One round of one engine, in nanoseconds a task.
fn sample(row: &Row, contender: &Contender, run: &mut Runner) -> f64 {
    let tasks = f64::from(contender.units) * f64::from(row.tasks_a_unit);
    run(contender.units).as_secs_f64() * 1e9 / tasks
}

fn print_row(row: &Row, all: &[Vec<f64>]) {
    let median_of = |engine: &str| {
        let at = (row.contenders.iter()).position(|contender| contender.engine == engine);
        median(&all[at.expect("the reference is an engine of the row")])
    };
    for (contender, times) in row.contenders.iter().zip(all) {
        let ratios: Vec<(f64, &str)> = (row.references.iter())
            .map(|engine| (median(times) / median_of(engine), *engine))
            .collect();
        let told: Vec<String> = (ratios.iter())
            .map(|(ratio, engine)| format!("{ratio:.3} {engine}"))
            .collect();
        let target = contender.target.map_or_else(String::new, |target| {
            let met = ratios.iter().all(|(ratio, _)| *ratio <= target);
            format!("≤ {target:.1} {}", if met { "met" } else { "MISSED" })
        });
        println!(
            "| {} | {} | {} | {}–{} | {} | {target} |",
            row.name,
            contender.engine,
            nanos(median(times)),
            nanos(times[0]),
            nanos(times[times.len() - 1]),
            told.join(", "),
        );
    }
}
