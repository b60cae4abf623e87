//! Standard output that closes, and tables again and again until it does.

use crate::place::{Place, document, finish};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::ChildStdout;

#[test]
fn a_reader_that_goes_away_ends_a_list_quietly() {
    let place = Place::new();
    // More than a pipe holds.
    let jobs = place.enqueue_some(5_000);
    for (args, heading) in [
        (&["list", "ready", "--limit", "5000"][..], 1),
        (&["list", "ready", "--limit", "5000", "--json"], 0),
    ] {
        let mut child = place.start(args);
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        for _ in 0..=heading {
            line.clear();
            out.read_line(&mut line).unwrap();
        }
        assert!(line.contains(&jobs[0]), "{line}");
        drop(out);
        finish(child).well();
    }
}

#[test]
fn a_change_is_made_also_where_nobody_reads_of_it() {
    let place = Place::new();
    let ids = place.enqueue_some(1);
    let mut child = place.start(&["cancel", &ids[0], &ids[0]]);
    drop(child.stdout.take());
    finish(child).ill(3);
    assert_eq!(place.count("removed"), 1);
}

#[test]
fn a_table_is_shown_again_and_again_until_nobody_reads_it() {
    let place = Place::with_queue();
    let mut child = place.start(&["stats", "--watch", "0.02"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let first = table(&mut out);
    assert_eq!(rate(&first, "enqueued"), None);
    place.enqueue_some(10);
    let mut most = 0.0;
    loop {
        let next = table(&mut out);
        assert!(!next.concat().contains('\x1b'));
        most = rate(&next, "enqueued").unwrap().max(most);
        if cells(&next, "ready")[1] == "10" {
            break;
        }
    }
    assert!(most > 0.0);
    drop(out);
    finish(child).well();
}

/// The next one.
fn table(out: &mut BufReader<ChildStdout>) -> Vec<String> {
    let lines = out.lines().map(Result::unwrap);
    // Between two is an empty line.
    let lines = lines.skip_while(String::is_empty).take(17);
    let table: Vec<String> = lines.collect();
    assert_eq!(
        (&*table[0], &*table[8]),
        ("NOW", "SINCE THE QUEUE WAS MADE")
    );
    assert!(table[16].starts_with("  removed"), "{table:?}");
    table
}

fn cells<'t>(table: &'t [String], name: &str) -> Vec<&'t str> {
    let mut lines = table.iter().map(|line| line.trim_start());
    let line = lines.find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().collect()
}

fn rate(table: &[String], name: &str) -> Option<f64> {
    let rate = cells(table, name).get(2)?.strip_suffix("/s")?;
    Some(rate.parse().unwrap())
}

#[test]
fn counts_are_a_line_of_json_again_and_again() {
    let place = Place::with_queue();
    let mut child = place.start(&["--json", "stats", "--watch", "0.02"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        document(&line)
    };
    let first = next();
    assert_eq!(first["enqueued_per_second"], Value::Null);
    place.enqueue_some(10);
    let mut last = next();
    while last["enqueued"] != 10 {
        assert_eq!(last["enqueued_per_second"], 0.0);
        last = next();
    }
    assert!(last["enqueued_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(last["done_per_second"], 0.0);
    drop(out);
    finish(child).well();
}
