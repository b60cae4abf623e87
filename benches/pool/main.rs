//! `anthill` against `rayon` and raw threads: the same work, in the same process.
//!
//! `cargo bench --bench pool [-- FILTER]` draws criterion's usual report, engine after engine, to see what a
//! change does. The figures that the project tells are those of `benches/peers`, where all engines take turns
//! in one run.
//!
//! With `--test`, or without the `--bench` that cargo passes to a benchmark, each piece of work
//! runs once and small, so that `cargo test --benches` stays quick.

mod rows;
mod workloads;

use std::env;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};

use crate::rows::Scale;

fn main() {
    let has = |flag: &str| env::args().any(|arg| arg == flag);
    let scale = if has("--bench") && !has("--test") {
        Scale::Full
    } else {
        Scale::Smoke
    };
    report(scale);
}

/// A group for each row, a benchmark for each engine of it.
///
/// An engine is built when its turn comes and gone when it is over, so that it has the machine for
/// itself.
fn report(scale: Scale) {
    // What is set here is a default, which the command line may override.
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();

    for row in rows::all(scale) {
        let mut group = criterion.benchmark_group(row.name);
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(u64::from(row.tasks_a_unit)));
        for contender in &row.contenders {
            let mut built = None;
            group.bench_function(contender.engine, |bencher| {
                let run = built.get_or_insert_with(|| (contender.build)());
                bencher.iter_custom(|units| in_batches(units, u64::from(contender.units), run));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

/// Runs `units` in batches of at most `batch`, so that a long sample does not mean a backlog of
/// millions.
fn in_batches(units: u64, batch: u64, run: &mut rows::Runner) -> Duration {
    let mut left = units;
    let mut total = Duration::ZERO;
    while left > 0 {
        let now = left.min(batch);
        total += run(now);
        left -= now;
    }
    total
}
