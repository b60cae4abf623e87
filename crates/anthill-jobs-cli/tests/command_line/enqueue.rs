//! Jobs from standard input: all of them, or none.

use crate::place::{Place, document, finish, ids, objects};
use anthill_jobs::JobId;
use serde_json::{Value, json};
use std::io::Write;
use std::process::Child;

#[test]
fn a_job_is_enqueued_with_all_that_is_told_of_it() {
    let place = Place::new();
    let told = JobId::new().to_string();
    let id = place.enqueue(
        &[
            "mail",
            "--delay",
            "3600",
            "--priority",
            "-7",
            "--retries",
            "4",
            "--unique",
            "u",
            "--key",
            "ann",
            "--expires",
            "7200.5",
            "--id",
            &told,
            "--keep-result",
            "90",
            "--once-per",
            "day/1/86400",
        ],
        "{\"to\": \"Ann\",\n \"size\": 1.50}\n",
    );
    assert_eq!(id, told);
    let job = place.json(&["show", &id]);
    assert!(
        (3500.0..=3600.0).contains(&job["due_in_seconds"].as_f64().unwrap()),
        "{job}"
    );
    assert!(
        (0.0..100.0).contains(&job["age_seconds"].as_f64().unwrap()),
        "{job}"
    );
    for (name, value) in [
        ("id", json!(told)),
        ("kind", json!("mail")),
        ("state", json!("delayed")),
        ("priority", json!(-7)),
        ("attempt", json!(0)),
        ("attempts", json!(5)),
        ("key", json!("ann")),
        ("unique", json!("u")),
        ("keep_result_seconds", json!(90.0)),
        ("payload_size", json!(24)),
        ("error", json!(null)),
        ("progress", json!(null)),
        ("result", json!(null)),
        ("payload", json!({ "to": "Ann", "size": 1.5 })),
        ("payload_text", json!(null)),
    ] {
        assert_eq!(job[name], value, "{name}");
    }
    let expires = job["expires_in_seconds"].as_f64().unwrap();
    assert!((7100.0..=7200.5).contains(&expires), "{job}");
    let text = place.text(&["show", &id]);
    for begin in [
        "expires in   ",
        "keep result  1m30s",
        "unique       u",
        "size         2",
    ] {
        assert!(text.lines().any(|line| line.starts_with(begin)), "{text}");
    }
    let stored = place.queue().get(told.parse().unwrap()).unwrap().unwrap();
    assert_eq!(stored.payload, br#"{"to":"Ann","size":1.50}"#);
}

#[test]
fn a_duplicate_is_told_and_is_no_error() {
    let place = Place::new();
    let id = place.enqueue(&["mail", "--unique", "ann"], "1");
    let again = place.run_with(&["enqueue", "mail", "--unique", "ann"], "2");
    assert_eq!(again.well(), format!("{id} duplicate\n"));
    let again = place.run_with(&["--json", "enqueue", "mail", "--id", &id], "3");
    assert_eq!(document(&again.well()), json!({ "id": id, "added": false }));
    let other = place.run_with(&["--json", "enqueue", "mail", "--unique", "bob"], "4");
    assert_eq!(document(&other.well())["added"], true);
    let stats = place.json(&["stats"]);
    assert_eq!(
        (&stats["ready"], &stats["duplicates"]),
        (&json!(2), &json!(2))
    );
}

#[test]
fn a_job_may_come_once_in_a_period_or_be_put_off_by_the_next_one() {
    let place = Place::new();
    let once = ["mail", "--once-per", "a/b/3600"];
    let id = place.enqueue(&once, "1");
    place.text(&["cancel", &id]);
    let again = place.run_with(&[&["enqueue"], &once[..]].concat(), "2");
    assert_eq!(again.well(), format!("{id} duplicate\n"));
    place.enqueue(&["mail", "--once-per", "a/3600"], "3");

    let id = place.enqueue(&["sync", "--debounce", "ann", "--delay", "100"], "1");
    let args = ["enqueue", "sync", "--debounce", "ann", "--delay", "5000"];
    let again = place.run_with(&args, "2");
    assert_eq!(again.well(), format!("{id} duplicate\n"));
    let job = place.json(&["show", &id]);
    assert_eq!(
        (&job["payload"], &job["unique"]),
        (&json!(2), &json!("ann"))
    );
    assert!(job["due_in_seconds"].as_f64().unwrap() > 4000.0, "{job}");
}

#[test]
fn lines_are_jobs_in_their_order() {
    let place = Place::new();
    let run = place.run_with(
        &["enqueue", "mail", "--lines"],
        "{\"n\": 1}\r\n\n2\n  \n\"three\"",
    );
    let told = run.well();
    let added: Vec<&str> = told
        .lines()
        .map(|line| line.strip_suffix(" added").unwrap())
        .collect();
    let listed = place.run(&["--json", "list", "ready"]).well();
    let listed = objects(&listed);
    assert_eq!(ids(&listed), added);
    let data: Vec<&Value> = listed.iter().map(|job| &job["payload"]).collect();
    assert_eq!(data, [&json!({ "n": 1 }), &json!(2), &json!("three")]);

    let told = place
        .run_with(&["--json", "enqueue", "mail", "--lines"], "4\n")
        .well();
    let told = document(&told);
    assert_eq!((&told[0]["added"], &told[1]), (&json!(true), &json!(null)));
    let none = place
        .run_with(&["--json", "enqueue", "mail", "--lines"], "")
        .well();
    assert_eq!(none, "[]\n");
    assert_eq!(place.count("enqueued"), 4);
}

#[test]
fn what_is_no_json_is_refused_and_nothing_is_enqueued() {
    let place = Place::new();
    let deep = "[".repeat(200) + &"]".repeat(200);
    for (input, place_in_it) in [
        ("", "line 1"),
        ("letter", "line 1, column 1"),
        ("{\"a\":\n1", "line 2"),
        ("1 2", "line 1, column 3"),
        ("1e999", "line 1"),
        ("\"\\ud800\"", "line 1"),
        (&deep, "line 1"),
    ] {
        let told = place.run_with(&["enqueue", "mail"], input).ill(1);
        assert!(told.contains(place_in_it), "{input}: {told}");
    }
    let told = place
        .run_with(&["enqueue", "mail", "--lines"], "1\n2\n\n{\"a\" 3}\n4\n")
        .ill(1);
    assert!(told.contains("line 4, column 6"), "{told}");

    let mut child = place.start(&["enqueue", "mail"]);
    child.stdin.take().unwrap().write_all(b"\"\xff\"").unwrap();
    assert!(finish(child).ill(1).contains("UTF-8"));
    assert_eq!(place.files(), 0);

    place.enqueue(&["mail"], "1");
    place
        .run_with(&["enqueue", "mail", "--lines"], "1\n2\n}\n")
        .ill(1);
    let large = format!("1\n\"{}\"\n", "x".repeat(1 << 20));
    let told = place
        .run_with(&["enqueue", "mail", "--lines"], &large)
        .ill(1);
    assert!(told.contains("1048578 bytes"), "{told}");
    assert_eq!(place.count("enqueued"), 1);
}

#[test]
fn eight_processes_enqueue_at_once_and_nothing_is_lost() {
    let place = Place::new();
    let mut children: Vec<Child> = (0..8)
        .map(|_| place.start(&["enqueue", "number", "--lines"]))
        .collect();
    for (writer, child) in children.iter_mut().enumerate() {
        let numbers = writer * 100..writer * 100 + 100;
        let lines: String = numbers.map(|number| number.to_string() + "\n").collect();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
    }
    for child in children {
        assert_eq!(finish(child).well().lines().count(), 100);
    }
    assert_eq!(place.count("ready"), 800);
    let listed = place
        .run(&["--json", "list", "ready", "--limit", "1000"])
        .well();
    let listed = objects(&listed);
    let mut numbers: Vec<u64> = listed
        .iter()
        .map(|job| job["payload"].as_u64().unwrap())
        .collect();
    // Each process's jobs are together, and in its order.
    assert!(numbers.chunks(100).all(<[u64]>::is_sorted));
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..800));
}
