//! The measuring: all engines of a row in turn, round by round, in one process.
//!
//! A machine drifts: clocks change, neighbours come and go. Engines measured one after the other
//! meet different machines; engines measured in turn meet the same one. Each figure is a median
//! over the rounds, and each ratio is one of two medians from the same run.
//!
//! The pools of a row live side by side, but one works at a time: before an engine is timed, the
//! threads of the one before it have gone to sleep. So have its own, and where a thread that slept is put when it
//! is woken decides much for a millisecond or more: but for the rows that are about that, an engine does its work
//! for a while before the clock starts.

use std::time::{Duration, Instant};

use crate::machine;
use crate::measure::{quantile, settle, usage};
use crate::record::{EngineRecord, Figure, RowRecord};
use crate::rows::{Contender, Quantile, Row, Runner, Taken};

/// How long an engine works before its figures count, and how long it is measured at least.
const WARM_UP: Duration = Duration::from_millis(20);

/// Measures a row: a record of it for each of its quantiles.
pub(crate) fn run(row: &Row, rounds: usize) -> Vec<RowRecord> {
    let mut runners: Vec<Runner> = (row.contenders.iter())
        .map(|contender| (contender.build)())
        .collect();
    let mut records: Vec<RowRecord> = row.quantiles.iter().map(|of| record(row, of)).collect();

    let mut last = "the start of a pool";
    // The first round warms caches and allocators up and is thrown away, where there are more.
    let rounds = rounds.min(row.rounds_at_most);
    let first = usize::from(rounds == 1);
    for round in first..=rounds {
        if round > 0 {
            let trip = machine::line_trip();
            for record in &mut records {
                record.line_trips.extend(trip);
            }
        }
        let begun = machine::ticks();
        for place in 0..runners.len() {
            // There and back again, so that nobody always runs in the wake of the same neighbour.
            let turn = if round % 2 == 0 {
                place
            } else {
                runners.len() - 1 - place
            };
            settle(last);
            last = &row.contenders[turn].engine;
            let sample = sample(row, &row.contenders[turn], &mut runners[turn]);
            if round > 0 {
                for (record, of) in records.iter_mut().zip(row.quantiles) {
                    let engine = &mut record.engines[turn];
                    engine.figures.push(quantile(&sample.figures, of.permille));
                    engine.processor.push(sample.processor);
                    engine.switches.push(sample.switches);
                    engine.futexes.push(sample.futexes);
                }
            }
        }
        if let (true, Some(begun), Some(ended)) = (round > 0, begun, machine::ticks()) {
            let stolen = begun.stolen_until(ended);
            for record in &mut records {
                record.stolen.push(stolen);
            }
        }
    }
    records
}

fn record(row: &Row, of: &Quantile) -> RowRecord {
    let engine = |contender: &Contender| EngineRecord {
        engine: contender.engine.clone(),
        kind: contender.kind,
        figures: Vec::new(),
        processor: Vec::new(),
        switches: Vec::new(),
        futexes: Vec::new(),
        targets: (contender.targets.iter())
            .filter(|target| of.targeted || target.figure != Figure::Own)
            .cloned()
            .collect(),
    };
    RowRecord {
        group: row.group.to_owned(),
        name: format!("{}{}", row.name, of.suffix),
        unit: row.unit.to_owned(),
        about: row.about.to_owned(),
        engines: row.contenders.iter().map(engine).collect(),
        line_trips: Vec::new(),
        stolen: Vec::new(),
    }
}

/// One round of one engine.
struct Sample {
    /// In the unit of the row, sorted.
    figures: Vec<f64>,
    processor: f64,
    switches: f64,
    futexes: f64,
}

fn sample(row: &Row, contender: &Contender, run: &mut Runner) -> Sample {
    let nanos = |time: Duration| time.as_secs_f64() * 1e9;
    let start = Instant::now();
    while row.is_warm && start.elapsed() < WARM_UP {
        run(u64::from(contender.units));
    }
    let before = usage();
    let (taken, passes) = measure(row, || run(u64::from(contender.units)));
    let after = usage();
    let tasks = f64::from(contender.units) * f64::from(row.tasks_a_unit) * f64::from(passes);
    let mut figures = match taken {
        Taken::Time(time) => vec![nanos(time) / tasks],
        Taken::Times(times) => times.into_iter().map(nanos).collect(),
        Taken::Figure(figure) => vec![figure],
    };
    figures.sort_by(f64::total_cmp);
    let a_million = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) * 1e6 / tasks;
    Sample {
        figures,
        processor: nanos(after.processor.saturating_sub(before.processor)) / tasks,
        switches: a_million(after.switches - before.switches),
        futexes: a_million(after.futexes - before.futexes),
    }
}

/// What the work took, and how often it was done.
fn measure(row: &Row, mut pass: impl FnMut() -> Taken) -> (Taken, u32) {
    let mut all = Duration::ZERO;
    let mut passes = 0;
    loop {
        passes += 1;
        match pass() {
            Taken::Time(time) => all += time,
            told => return (told, passes),
        }
        if !row.is_warm || all >= WARM_UP {
            return (Taken::Time(all), passes);
        }
    }
}
