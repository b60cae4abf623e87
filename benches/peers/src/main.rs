//! `anthill` beside other crates that run tasks on threads: the same work, in the same process.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- [--rounds=N] [ROW..]` runs all
//! the engines of a row in turn, round by round, and prints a table of medians and their ratios.
//! ROW is a part of a row's name, N is 15 unless told. `--smoke` runs everything once and small.
//!
//! A package of its own, outside the crate's, so that who builds or tests the crate builds none of
//! the others.

mod engines;
#[path = "../../pool/measure.rs"]
mod measure;
mod ratios;
mod rows;
mod rows_func;
mod rows_map;
mod work;

use std::env;

use crate::rows::Scale;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let scale = if args.iter().any(|arg| arg == "--smoke") {
        Scale::Smoke
    } else {
        Scale::Full
    };
    let filters: Vec<&str> = (args.iter())
        .map(String::as_str)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    ratios::print(scale, rounds(&args, scale), &filters);
}

/// The rounds asked for with `--rounds=N`, or 15.
fn rounds(args: &[String], scale: Scale) -> usize {
    let usual = if scale == Scale::Full { 15 } else { 1 };
    let asked = args.iter().find_map(|arg| arg.strip_prefix("--rounds="));
    asked.map_or(usual, |n| n.parse().expect("--rounds=N takes a number"))
}
