//! The plots: a file for each group of rows, with a bar for each engine; and one of where anthill stands in all
//! rows.
//!
//! Bars are on a logarithmic scale, so that twice as fast is as far from 1 as twice as slow.

use std::fs;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::measure::short;
use crate::record::{Figure, Kind, Record, RowRecord, Series};
use crate::table;
use crate::threads::{BURST, KEEP_ALIVE};

const OURS: RGBColor = RGBColor(0xC2, 0x55, 0x1E);
const PEERS: RGBColor = RGBColor(0x8A, 0x97, 0xA8);
const WIDTH: u32 = 900;
const BAR: i32 = 18;
const HEADING: i32 = 32;
const FOOT: i32 = 28;
/// What is left for the labels on the left, and for the words beside a bar.
const LABELS: i32 = 180;
const TEXTS: i32 = 260;
/// The ratio at which bars end, so that a thread for each task does not make dots of the others.
const LONGEST: f64 = 20.0;
const DRAWN: &str = "a file can be drawn to";

/// A bar of a plot: its label, its ratio, what is written beside it.
struct Bar {
    label: String,
    ratio: f64,
    text: String,
    kind: Kind,
}

/// A heading and the bars beneath it.
struct Section {
    title: String,
    bars: Vec<Bar>,
}

/// Draws a file for each group of rows, and the overview; beside them the table.
pub(crate) fn draw(record: &Record, folder: &Path) {
    fs::create_dir_all(folder).expect("the folder can be made");
    let table = format!("# All rows\n\n{}", table::whole(record));
    fs::write(folder.join("all-rows.md"), table).expect("a file can be written");
    let mut groups: Vec<(&str, Vec<Section>)> = Vec::new();
    let mut overview = Vec::new();
    for row in &record.rows {
        let best = row.best_peer(Figure::Own);
        let ours = row.best(Kind::Ours, Figure::Own);
        let (Some(best), Some(ours)) = (best, ours) else {
            continue;
        };
        let unit = best.median(Figure::Own);
        if unit == 0.0 {
            continue;
        }
        overview.push(Bar {
            label: row.name.clone(),
            ratio: ours.median(Figure::Own) / unit,
            text: format!("{} / {}", ours.engine, best.engine),
            kind: Kind::Ours,
        });
        let section = Section {
            title: format!("{}: {}", row.name, row.about),
            bars: bars_of(row, unit),
        };
        match groups.last_mut() {
            Some((group, sections)) if *group == row.group => sections.push(section),
            _ => groups.push((&row.group, vec![section])),
        }
    }
    for (group, sections) in groups {
        plot(&folder.join(group).with_extension("svg"), &sections);
    }
    let title = format!(
        "the best of anthill's modes / the best peer, in time; {}, {} rounds",
        record.machine, record.rounds
    );
    let bars = overview;
    plot(&folder.join("overview.svg"), &[Section { title, bars }]);
    if !record.threads.is_empty() {
        plot_threads(&folder.join("threads-over-time.svg"), &record.threads);
    }
}

fn bars_of(row: &RowRecord, unit: f64) -> Vec<Bar> {
    let mut bars: Vec<Bar> = (row.engines.iter())
        .map(|engine| Bar {
            label: engine.engine.clone(),
            ratio: engine.median(Figure::Own) / unit,
            text: format!("{} {}", short(engine.median(Figure::Own)), row.unit),
            kind: engine.kind,
        })
        .collect();
    bars.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    bars
}

/// All sections on one scale; a bar goes from the best peer to the engine.
fn plot(file: &Path, sections: &[Section]) {
    let count = |length: usize| i32::try_from(length).expect("a plot has few bars");
    let bars = || sections.iter().flat_map(|section| &section.bars);
    let height = count(bars().count()) * BAR + count(sections.len()) * HEADING + FOOT;
    let size = (WIDTH, u32::try_from(height).expect("a height is positive"));
    let area = SVGBackend::new(file, size).into_drawing_area();
    area.fill(&WHITE).expect(DRAWN);

    let least = bars().map(|bar| bar.ratio).fold(0.5, f64::min);
    let most = bars().map(|bar| bar.ratio).fold(2.0, f64::max).min(LONGEST);
    let (left, right) = (f64::from(LABELS), f64::from(WIDTH) - f64::from(TEXTS));
    let across = |ratio: f64| {
        let place = left + (ratio / least).ln() / (most / least).ln() * (right - left);
        #[expect(clippy::cast_possible_truncation, reason = "a place on the drawing")]
        let place = place.round() as i32;
        place
    };
    let one = across(1.0);
    let write = |words: &str, at: (i32, i32), size: i32, side: HPos| {
        let style = ("sans-serif", size).into_font().color(&BLACK);
        let style = style.pos(Pos::new(side, VPos::Center));
        area.draw(&Text::new(words, at, style)).expect(DRAWN);
    };

    let mut top = 0;
    for section in sections {
        write(&section.title, (8, top + HEADING / 2), 13, HPos::Left);
        top += HEADING;
        let first = top;
        for bar in &section.bars {
            let (color, row, end) = (
                color(bar.kind),
                top + BAR / 2,
                across(bar.ratio.min(LONGEST)),
            );
            // A bar of no length could not be seen.
            let (from, to) = (one.min(end), one.max(end).max(one.min(end) + 2));
            let corners = [(from, top + 3), (to, top + BAR - 3)];
            area.draw(&Rectangle::new(corners, color)).expect(DRAWN);
            write(&bar.label, (LABELS - 8, row), 12, HPos::Right);
            let told = format!("{:.2}   {}", bar.ratio, bar.text);
            write(&told, (to.max(one) + 6, row), 11, HPos::Left);
            top += BAR;
        }
        let line = PathElement::new([(one, first), (one, top)], BLACK.stroke_width(1));
        area.draw(&line).expect(DRAWN);
    }
    let foot = "the line is the best peer of each row; to the left is faster; logarithmic";
    write(foot, (8, top + FOOT / 2), 11, HPos::Left);
    area.present().expect(DRAWN);
}

fn plot_threads(file: &Path, all: &[Series]) {
    const HEIGHT: u32 = 320;
    const COLORS: [RGBColor; 4] = [
        OURS,
        RGBColor(0x33, 0x66, 0x99),
        RGBColor(0x5F, 0x8A, 0x4E),
        PEERS,
    ];
    let area = SVGBackend::new(file, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE).expect(DRAWN);
    let points = || all.iter().flat_map(|series| &series.points);
    let last = points().map(|point| point.0).fold(1.0, f64::max);
    let most = points().map(|point| point.1).max().unwrap_or(1);
    let title = format!(
        "threads over time: {BURST} tasks of 20 ms, then one short task every 10 ms; keep-alive {} ms where it can be set",
        KEEP_ALIVE.as_millis()
    );
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 13))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(45)
        .build_cartesian_2d(0.0..last, 0..most + most / 10)
        .expect(DRAWN);
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("ms")
        .y_desc("threads")
        .draw()
        .expect(DRAWN);
    for (series, color) in all.iter().zip(COLORS) {
        let line = PathElement::new(series.points.clone(), color.stroke_width(2));
        let label = series.engine.as_str();
        chart
            .draw_series(std::iter::once(line))
            .expect(DRAWN)
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .border_style(BLACK)
        .draw()
        .expect(DRAWN);
    area.present().expect(DRAWN);
}

fn color(kind: Kind) -> ShapeStyle {
    match kind {
        Kind::Ours => OURS.filled(),
        Kind::Peer => PEERS.filled(),
        Kind::Yardstick => PEERS.stroke_width(1),
    }
}
