//! `anthill` beside other crates that run tasks on threads: the same work, in the same process.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- [OPTION..] [ROW..]` runs all the engines of
//! a row in turn, round by round, in a process for each row, and prints a table of medians and ratios. ROW is a
//! part of a row's name.
//!
//! - `--rounds=N`: 15 unless told;
//! - `--json=FILE` keeps the raw figures;
//! - `--draw=FOLDER` draws them, and writes the table there;
//! - `--from=FILE` takes the figures from a file, and measures nothing;
//! - `--targets FILE..` tells from such files, a run each, what was to be reached and was;
//! - `--only=ENGINE` runs that engine alone, for a profiler; may be given several times;
//! - `--busy=N`: beside N other processes, each of which keeps a processor busy; `--busy` is one;
//! - `--quota=SHARE`: with that share of a processor (0.5 is a half), by a control group of version 1 or 2, where this user
//!   may make one;
//! - `--list` names the rows; `--smoke` runs everything once and small.
//!
//! A package of its own, outside the crate's, so that who builds or tests the crate builds none of
//! the others.

mod allocations;
mod draw;
mod engines;
mod futexes;
mod machine;
mod measure;
mod processes;
mod record;
mod rows;
mod run;
mod table;
mod threads;
mod work;
/// The crate's own benchmark gives its engines the same.
#[path = "../../pool/workloads.rs"]
mod workloads;

use std::{env, fs};

use crate::processes::{Busy, Quota};
use crate::record::{Record, RowRecord};
use crate::rows::{Row, Scale};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let told = |option: &str| args.iter().find_map(|arg| arg.strip_prefix(option));
    if has(processes::SPIN) {
        processes::spin();
    }
    let words: Vec<&str> = (args.iter())
        .map(String::as_str)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let draw = |record: &Record| {
        if let Some(folder) = told("--draw=") {
            draw::draw(record, folder.as_ref());
        }
    };
    if has("--targets") {
        let runs: Vec<Record> = words.iter().map(|file| read(file)).collect();
        return print!("{}", table::targets(&runs));
    }
    if let Some(file) = told("--from=") {
        let record = read(file);
        print!("{}", table::whole(&record));
        return draw(&record);
    }
    let scale = if has("--smoke") {
        Scale::Smoke
    } else {
        Scale::Full
    };
    let usual = if scale == Scale::Full { 15 } else { 1 };
    let rounds = told("--rounds=").map_or(usual, |n| n.parse().expect("--rounds=N takes a number"));
    assert!(rounds > 0, "a median needs a round");
    let only: Vec<&str> = (args.iter())
        .filter_map(|arg| arg.strip_prefix("--only="))
        .collect();
    let mut rows = rows::all(scale);
    if let Some(name) = told(processes::ROW) {
        return measure(name, rows, &only, rounds, scale);
    }
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|part| name.contains(part));
    rows.retain(|row| is_wanted(&row.name));
    if has("--list") {
        for row in rows {
            println!("{:<24} {}", row.name, row.about);
        }
        return;
    }

    let busy = told("--busy=").map_or(usize::from(has("--busy")), |n| {
        n.parse().expect("--busy=N takes a number")
    });
    let _busy: Vec<Busy> = (0..busy).map(|_| Busy::start()).collect();
    let beside = match busy {
        0 => String::new(),
        1 => ", one kept busy by another process".to_owned(),
        n => format!(", {n} kept busy by other processes"),
    };
    let quota = told("--quota=").map(|share| {
        Quota::enter(share.parse().expect("--quota=SHARE takes a number"))
            .unwrap_or_else(|error| panic!("no control group to be had: {error}"))
    });
    let within = quota.as_ref().map_or(String::new(), Quota::told);
    let mut record = Record {
        machine: machine::name() + &beside + &within,
        rounds,
        rows: Vec::new(),
        threads: Vec::new(),
    };
    // Row by row, so that a run that is cut off leaves what it has.
    let keep = |record: &Record| {
        if let Some(file) = told("--json=") {
            let json = serde_json::to_string(record).expect("a record is plain data");
            fs::write(file, json).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    };
    let is_passed_on = |arg: &&str| {
        *arg == "--smoke" || arg.starts_with("--rounds=") || arg.starts_with("--only=")
    };
    let options: Vec<&str> = (args.iter().map(String::as_str))
        .filter(is_passed_on)
        .collect();
    print!("{}", table::title(&record));
    for row in &mut rows {
        if !only.is_empty() {
            row.keep(&only);
        }
        let found = if row.alone {
            measure_alone(row, &options)
        } else {
            processes::measure(&row.name, &options)
        };
        for row in &found {
            print!("{}", table::rows(row));
        }
        record.rows.extend(found);
        keep(&record);
    }
    if is_wanted(threads::NAME) && only.is_empty() {
        record.threads = processes::measure(threads::NAME, &options);
        print!("{}", table::threads(&record.threads));
        keep(&record);
    }
    draw(&record);
}

/// With a process for each engine.
fn measure_alone(row: &Row, options: &[&str]) -> Vec<RowRecord> {
    let each = row.contenders.iter().map(|contender| {
        let only = format!("--only={}", contender.engine);
        let others = options
            .iter()
            .filter(|option| !option.starts_with("--only="));
        let options: Vec<&str> = others.copied().chain([only.as_str()]).collect();
        processes::measure::<Vec<RowRecord>>(&row.name, &options)
    });
    let all = each.reduce(|mut all, one| {
        for (row, one) in all.iter_mut().zip(one) {
            row.engines.extend(one.engines);
            row.line_trips.extend(one.line_trips);
            row.stolen.extend(one.stolen);
        }
        all
    });
    all.unwrap_or_default()
}

/// What a process does for one row.
fn measure(name: &str, rows: Vec<Row>, only: &[&str], rounds: usize, scale: Scale) {
    if name == threads::NAME {
        return processes::tell(&threads::run(scale));
    }
    let row = rows.into_iter().find(|row| row.name == name);
    let mut row = row.unwrap_or_else(|| panic!("{name} is no row"));
    if !only.is_empty() {
        row.keep(only);
    }
    allocations::keep_the_heap();
    processes::tell(&run::run(&row, rounds));
}

fn read(file: &str) -> Record {
    let json = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{file}: {error}"))
}
