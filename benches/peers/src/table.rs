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

/// A line for each engine of a row, and two for the machine.
pub(crate) fn rows(row: &RowRecord) -> String {
    let best = row.best_peer(Figure::Own);
    let line = |engine: &EngineRecord| {
        let spread = spread(&engine.figures);
        let ratio = best
            .map(|best| engine.median(Figure::Own) / best.median(Figure::Own))
            .filter(|ratio| ratio.is_finite())
            .map_or_else(String::new, |ratio| format!("{ratio:.3}"));
        let targets: Vec<String> = (engine.targets.iter())
            .filter_map(|target| verdict(row, engine, target))
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
            "| {} | {} | {} | {spread} | {} | {ratio} | {processor} | {switches} | {futexes} | {} |\n",
            row.name,
            engine.engine,
            short(engine.median(Figure::Own)),
            row.unit,
            targets.join(", "),
        )
    };
    let mut lines: String = row.engines.iter().map(line).collect();
    if !row.line_trips.is_empty() {
        let (trip, spread) = (short(median_of(&row.line_trips)), spread(&row.line_trips));
        writeln!(
            lines,
            "| {} | *a cache line, there and back* | {trip} | {spread} | ns |  |  |  |  |  |",
            row.name
        )
        .expect("a string takes all");
    }
    if !row.stolen.is_empty() {
        let (stolen, spread) = (short(median_of(&row.stolen)), spread(&row.stolen));
        writeln!(
            lines,
            "| {} | *taken by the host* | {stolen} | {spread} | % |  |  |  |  |  |",
            row.name
        )
        .expect("a string takes all");
    }
    lines
}

fn spread(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{}–{}", short(least), short(most))
}

/// What was to be reached in each row of the first run, and its ratio in each run that has the row; in bold what was
/// not reached.
pub(crate) fn targets(runs: &[Record]) -> String {
    let mut text = String::from("| row | engine | to |");
    for run in 1..=runs.len() {
        write!(text, " run {run} |").expect("a string takes all");
    }
    text += " to reach |\n|---|---|---|";
    text += &"---|".repeat(runs.len() + 1);
    text.push('\n');
    let Some(first) = runs.first() else {
        return text;
    };
    for row in &first.rows {
        for engine in &row.engines {
            for target in &engine.targets {
                let ratio = |run: &Record| {
                    let row = run.rows.iter().find(|other| other.name == row.name)?;
                    let ratio = row.ratio(row.engine(&engine.engine)?, target)?;
                    let bold = if ratio <= target.ratio { "" } else { "**" };
                    Some(format!(" {bold}{ratio:.3}{bold} |"))
                };
                let ratios: String = (runs.iter())
                    .map(|run| ratio(run).unwrap_or_else(|| String::from(" |")))
                    .collect();
                let of = match target.figure {
                    Figure::Own => "",
                    Figure::Switches => ", context switches",
                };
                let to = target.to.as_deref().unwrap_or("the best peer");
                writeln!(
                    text,
                    "| {}{of} | {} | {to} |{ratios} ≤ {} |",
                    row.name, engine.engine, target.ratio
                )
                .expect("a string takes all");
            }
        }
    }
    text
}

fn verdict(row: &RowRecord, engine: &EngineRecord, target: &Target) -> Option<String> {
    let ratio = row.ratio(engine, target)?;
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
    Some(format!("{of}≤ {}{to}: {ratio:.3} {met}", target.ratio))
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
