//! Replays what fuzzing has found worth keeping: each file of `fuzz/corpus` is read as its fuzz target reads it, and ends
//! in a value or an error, not in a panic.
#![cfg(feature = "sqlite")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../../../fuzz/readers.rs"]
mod readers;

/// Hands each file of the corpus of that target to `read`, and tells which ones made it panic.
fn replay(target: &str, read: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = folder
        .read_dir()
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let data: Vec<_> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    let panicked: Vec<_> = files
        .iter()
        .zip(data)
        .filter(|(_, data)| catch_unwind(AssertUnwindSafe(|| read(data))).is_err())
        .map(|(file, _)| file.display().to_string())
        .collect();
    assert!(panicked.is_empty(), "{panicked:#?}");
}

#[test]
fn payloads() {
    replay("payload", readers::payload);
}

#[test]
fn addresses() {
    replay("address", readers::address);
}

#[test]
fn cron_expressions() {
    replay("cron", readers::cron);
}

#[test]
fn files() {
    replay("file", readers::file);
}

#[test]
fn rows_of_files() {
    replay("rows", readers::rows);
}
