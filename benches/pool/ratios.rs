//! The table of ratios: all engines of a row in turn, round by round, in one process.
//!
//! A machine drifts: clocks change, neighbours come and go. Engines measured one after the other
//! meet different machines; engines measured in turn meet the same one. Each figure is a median
//! over the rounds, and each ratio is one of two medians from the same run.
//!
//! The pools of a row live side by side, but one works at a time: before an engine is timed, the
//! threads of the one before it have gone to sleep.

use std::thread;

use crate::measure::{median, nanos, settle};
use crate::rows::{self, Contender, Reference, Row, Runner, Scale};

/// Measures and prints every row whose name contains one of the `filters`, or every row if there
/// are none.
pub(crate) fn print(scale: Scale, rounds: usize, filters: &[&str]) {
    assert!(rounds > 0, "a median needs a round");
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!("{rounds} rounds, engines in turn, {cores} cores");
    println!("ns a task: median over the rounds, min–max");
    println!("ratio: of medians, to rayon (sleep: to the ideal)\n");
    println!(
        "{:<18}  {:<20}  {:>9}  {:>19}  {:>7}  target",
        "row", "engine", "median", "min–max", "ratio"
    );

    let wanted =
        |row: &Row| filters.is_empty() || filters.iter().any(|part| row.name.contains(part));
    let rows: Vec<Row> = rows::all(scale).into_iter().filter(wanted).collect();
    assert!(!rows.is_empty(), "no row has a name with {filters:?} in it");
    for row in rows {
        print_row(&row, &measure(&row, rounds));
    }
}

/// One engine's figures: for each quantile of the row, its value in each round, sorted.
type Figures = Vec<Vec<f64>>;

fn measure(row: &Row, rounds: usize) -> Vec<Figures> {
    let mut runners: Vec<Runner> = row
        .contenders
        .iter()
        .map(|contender| (contender.build)())
        .collect();
    let mut all: Vec<Figures> = row
        .contenders
        .iter()
        .map(|_| vec![Vec::new(); row.quantiles.len()])
        .collect();

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
            let samples = sample(row, &row.contenders[turn], &mut runners[turn]);
            if round > 0 {
                for (figure, quantile) in all[turn].iter_mut().zip(row.quantiles) {
                    figure.push(percentile(&samples, quantile.percent));
                }
            }
        }
    }

    for figure in all.iter_mut().flatten() {
        figure.sort_by(f64::total_cmp);
    }
    all
}

/// One round of one engine: its samples in nanoseconds a task, sorted.
fn sample(row: &Row, contender: &Contender, run: &mut Runner) -> Vec<f64> {
    let tasks = f64::from(contender.units) * f64::from(row.tasks_a_unit);
    let mut samples: Vec<f64> = (0..row.samples_a_round)
        .map(|_| run(u64::from(contender.units)).as_secs_f64() * 1e9 / tasks)
        .collect();
    samples.sort_by(f64::total_cmp);
    samples
}

fn print_row(row: &Row, all: &[Figures]) {
    for (index, quantile) in row.quantiles.iter().enumerate() {
        let name = format!("{}{}", row.name, quantile.suffix);
        let reference = match row.reference {
            Reference::Ideal(time) => time,
            Reference::Engine(engine) => {
                let at = row
                    .contenders
                    .iter()
                    .position(|contender| contender.engine == engine);
                median(&all[at.expect("the reference is an engine of the row")][index])
            }
        };
        for (contender, figures) in row.contenders.iter().zip(all) {
            let rounds = &figures[index];
            let ratio = median(rounds) / reference;
            let range = format!("{}–{}", nanos(rounds[0]), nanos(rounds[rounds.len() - 1]));
            let target = contender.target.filter(|_| quantile.targeted);
            let line = format!(
                "{name:<18}  {:<20}  {:>9}  {range:>19}  {ratio:>7.3}  {}",
                contender.engine,
                nanos(median(rounds)),
                target.map_or_else(String::new, |target| verdict(ratio, target)),
            );
            println!("{}", line.trim_end());
        }
        println!();
    }
}

fn verdict(ratio: f64, target: f64) -> String {
    format!(
        "≤ {target:.2} {}",
        if ratio <= target { "met" } else { "MISSED" }
    )
}

/// The nearest rank: the smallest sample that is not less than `percent` of them.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    if percent == 50 {
        return median(sorted);
    }
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}
