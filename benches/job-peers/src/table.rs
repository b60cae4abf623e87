//! The tables, in Markdown.

use std::fmt::Write;

use crate::record::{Better, EngineRecord, Kind, Record, RowRecord};

/// What was measured, on what, and what was left out.
pub(crate) fn title(record: &Record) -> String {
    let mut text = String::new();
    for line in &record.setting {
        writeln!(text, "- {line}").expect("a string takes all");
    }
    let plural = if record.rounds == 1 { "" } else { "s" };
    writeln!(
        text,
        "- {} round{plural}, engines in turn within each row; medians, with the least and the most",
        record.rounds
    )
    .expect("a string takes all");
    for line in &record.left_out {
        writeln!(text, "- left out: {line}").expect("a string takes all");
    }
    text
}

/// A table for each store.
pub(crate) fn whole(record: &Record) -> String {
    let mut text = title(record);
    let mut stores: Vec<&str> = Vec::new();
    for row in &record.rows {
        if !stores.contains(&row.store.as_str()) {
            stores.push(&row.store);
        }
    }
    for store in stores {
        write!(
            text,
            "\n{store}\n\n| row | engine | median | min–max | unit | to the ceiling | to the best peer |\n|---|---|---|---|---|---|---|\n"
        )
        .expect("a string takes all");
        for row in record.rows.iter().filter(|row| row.store == store) {
            text.extend(row.engines.iter().map(|engine| line(row, engine)));
        }
    }
    text + &errors(record)
}

fn line(row: &RowRecord, engine: &EngineRecord) -> String {
    let name = match engine.kind {
        Kind::Ours => format!("**{}**", engine.engine),
        Kind::Peer => engine.engine.clone(),
        Kind::Ceiling => format!("*{}*", engine.engine),
    };
    let Some(median) = engine.median() else {
        return format!("| {} | {name} | none | | {} | | |\n", row.name, row.unit);
    };
    let least = engine.figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = engine.figures.iter().copied().fold(0.0, f64::max);
    let to = |other: Option<f64>| {
        let ratio = other
            .map(|other| median / other)
            .filter(|ratio| ratio.is_finite());
        ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
    };
    let is_rate = row.better == Better::More;
    let ceiling = if is_rate && engine.kind != Kind::Ceiling {
        row.best(Kind::Ceiling)
    } else {
        None
    };
    let best = (engine.kind != Kind::Ceiling)
        .then(|| row.best_peer())
        .flatten();
    format!(
        "| {} | {name} | {} | {}–{} | {} | {} | {} |\n",
        row.name,
        short(median),
        short(least),
        short(most),
        row.unit,
        to(ceiling),
        to(best),
    )
}

fn errors(record: &Record) -> String {
    let mut text = String::new();
    for row in &record.rows {
        for engine in &row.engines {
            for error in &engine.errors {
                writeln!(
                    text,
                    "\n{} {}, {}: {error}",
                    row.store, engine.engine, row.name
                )
                .expect("a string takes all");
            }
        }
    }
    text
}

/// Three digits that count.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{figure:.3}"),
        size if size < 10.0 => format!("{figure:.2}"),
        size if size < 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}
