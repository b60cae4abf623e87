//! The tables, in Markdown: for a terminal and for the documentation alike.

use std::fmt::Write;

use crate::measure::short;
use crate::record::{EngineRecord, Figure, Record, RowRecord, Series, Target, median_of};

/// All of a record.
pub(crate) fn whole(record: &Record) -> String {
    let mut text = title(record);
    text.extend(record.rows.iter().map(rows));
    text + &threads(&record.threads)
}

pub(crate) fn title(record: &Record) -> String {
    format!(
        "{} rounds, engines in turn, {}.\n\n\
         | row | engine | median | min–max | unit | to the best peer | processor, ns a task | \
         switches, a million tasks | futex calls, a million tasks | to reach |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        record.rounds, record.machine
    )
}

/// A line for each engine of a row.
pub(crate) fn rows(row: &RowRecord) -> String {
    let best = row.best_peer(Figure::Own);
    let line = |engine: &EngineRecord| {
        let least = engine.figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = engine.figures.iter().copied().fold(0.0, f64::max);
        let ratio = best
            .map(|best| engine.median(Figure::Own) / best.median(Figure::Own))
            .filter(|ratio| ratio.is_finite())
            .map_or_else(String::new, |ratio| format!("{ratio:.3}"));
        let targets: Vec<String> = (engine.targets.iter())
            .map(|target| verdict(row, engine, target))
            .collect();
        // What a task costs is only known where the row is about tasks.
        let (processor, switches, futexes) = if row.unit == "ns a task" {
            (
                short(median_of(&engine.processor)),
                short(engine.median(Figure::Switches)),
                short(median_of(&engine.futexes)),
            )
        } else {
            Default::default()
        };
        format!(
            "| {} | {} | {} | {}–{} | {} | {ratio} | {processor} | {switches} | {futexes} | {} |\n",
            row.name,
            engine.engine,
            short(engine.median(Figure::Own)),
            short(least),
            short(most),
            row.unit,
            targets.join(", "),
        )
    };
    row.engines.iter().map(line).collect()
}

fn verdict(row: &RowRecord, engine: &EngineRecord, target: &Target) -> String {
    let ratio = row.ratio(engine, target);
    let of = match target.figure {
        Figure::Own => "",
        Figure::Switches => "switches ",
    };
    let to = (target.to.as_ref()).map_or_else(String::new, |to| format!(" of {to}"));
    let met = if ratio <= target.ratio {
        "met"
    } else {
        "MISSED"
    };
    format!("{of}≤ {}{to}: {ratio:.3} {met}", target.ratio)
}

/// The threads at the end of each second.
pub(crate) fn threads(all: &[Series]) -> String {
    let mut text = String::new();
    if all.is_empty() {
        return text;
    }
    text += "\n| threads over time | most | after 1 s | after 2 s | at the end |\n|---|---|---|---|---|\n";
    for series in all {
        let at = |time: f64| {
            let before = series.points.iter().take_while(|point| point.0 <= time);
            before.last().map_or(0, |point| point.1)
        };
        let most = (series.points.iter().map(|point| point.1).max()).unwrap_or(0);
        let (first, second, last) = (at(1_000.0), at(2_000.0), at(f64::INFINITY));
        writeln!(
            text,
            "| {} | {most} | {first} | {second} | {last} |",
            series.engine
        )
        .expect("a string takes all");
    }
    text
}
