//! What is shown of a queue and its jobs.

use crate::place::{MINUTE, Place, document, finish, ids, objects};
use anthill_jobs::{Clock, JobId, NewJob, Settle, Settled, SqliteBroker};
use serde_json::{Value, json};

#[test]
fn stats_count_each_state_and_tell_a_pause() {
    let place = Place::new();
    place.keep_a_result();
    place.enqueue_some(3);
    place.bury(1, "too bad");
    place.claim(1);
    place.enqueue(&["mail", "--delay", "1000"], "1");
    assert_eq!(place.text(&["pause"]), "paused\n");
    let stats = place.json(&["stats"]);
    assert!(stats["oldest_seconds"].as_f64().unwrap() >= 0.0);
    for (name, value) in [
        ("ready", 1),
        ("delayed", 1),
        ("parked", 0),
        ("running", 1),
        ("dead", 1),
        ("results", 1),
        ("enqueued", 5),
        ("duplicates", 0),
        ("done", 1),
        ("retried", 0),
        ("died", 1),
        ("lost_leases", 0),
        ("expired", 0),
        ("removed", 0),
    ] {
        assert_eq!(stats[name], value, "{name}");
    }
    assert_eq!(stats["paused"], true);
    assert_eq!(stats.as_object().unwrap().len(), 16);

    let text = place.text(&["stats"]);
    let words = |name: &str| {
        let mut lines = text.lines().map(str::trim_start);
        let line = lines.find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(words("ready").starts_with("ready 1 oldest "), "{text}");
    assert_eq!(words("delayed"), "delayed 1");
    assert_eq!(words("lost leases"), "lost leases 0");
    assert_eq!(words("paused"), "paused yes");
    // What is there now is told from what there was.
    let at = |name: &str| text.find(name).unwrap();
    assert!(text.starts_with("NOW\n"), "{text}");
    assert!(at("paused") < at("SINCE THE QUEUE WAS MADE\n"), "{text}");
    assert!(at("SINCE") < at("enqueued"), "{text}");
    assert!(place.claim(1).is_empty());

    assert_eq!(place.json(&["resume"]), json!({ "paused": false }));
    assert_eq!(place.json(&["stats"])["paused"], false);
    assert_eq!(place.json(&["pause"]), json!({ "paused": true }));
    assert_eq!(place.text(&["resume"]), "resumed\n");
    assert_eq!(place.claim(1).len(), 1);
}

#[test]
fn a_list_has_a_line_for_each_job_of_a_state() {
    let place = Place::new();
    assert_eq!(place.enqueue_some(3).len(), 3);
    let dead = place.bury(1, "no such address\nat line 3");
    let text = place.text(&["dead"]);
    let cells = |line: usize| -> Vec<&str> {
        let line = text.lines().nth(line).unwrap();
        line.split_whitespace().collect()
    };
    assert_eq!(
        cells(0),
        ["ID", "KIND", "ATTEMPT", "AGE", "DUE", "DATA", "ERROR"]
    );
    assert_eq!(cells(1)[..3], [&dead[0], "number", "1/26"], "{text}");
    assert_eq!(cells(1)[4..6], ["-", "0"], "{text}");
    assert_eq!(cells(1)[6..].join(" "), "no such address", "{text}");
    assert_eq!(place.text(&["list", "dead"]).lines().count(), 2);

    let listed = place.json(&["dead", "--limit", "1"]);
    assert_eq!(listed["error"], "no such address\nat line 3");
    assert_eq!(listed["state"], "dead");
    for (state, jobs) in [
        ("ready", 2),
        ("delayed", 0),
        ("parked", 0),
        ("running", 0),
        ("done", 0),
    ] {
        assert_eq!(rows(&place.text(&["list", state])).len(), jobs, "{state}");
        let listed = place.run(&["list", state, "--json"]).well();
        assert!(objects(&listed).iter().all(|job| job["state"] == state));
    }
    let done = place.keep_a_result();
    let listed = place.json(&["list", "done"]);
    assert_eq!(
        (&listed["id"], &listed["result"]),
        (&json!(done), &json!({ "sum": 3 }))
    );
}

#[test]
fn a_long_list_is_seen_page_by_page() {
    let place = Place::new();
    let all = place.enqueue_some(25);
    let mut seen: Vec<String> = Vec::new();
    let mut pages = 0;
    loop {
        let mut args = vec!["--json", "list", "ready", "--limit", "10"];
        if let Some(last) = seen.last() {
            args.extend(["--after", last]);
        }
        let page = place.run(&args).well();
        if page.is_empty() {
            break;
        }
        let page: Vec<String> = ids(&objects(&page))
            .into_iter()
            .map(str::to_owned)
            .collect();
        seen.extend(page);
        pages += 1;
    }
    assert_eq!((pages, seen), (3, all.clone()));

    // A person is told that there are more.
    let run = place.run(&["list", "ready", "--limit", "10"]);
    assert_eq!((run.code, rows(&run.out).len()), (Some(0), 10));
    assert_eq!(
        run.err,
        format!("there are more: list ready --after {}\n", all[9])
    );
    place.run(&["list", "ready", "--limit", "25"]).well();

    // Behind a job that is not there is nowhere: not at the beginning.
    let run = place.run(&["list", "dead", "--after", &all[0]]);
    assert_eq!(run.ill(3), format!("error: {}: it is ready\n", all[0]));
    place.text(&["cancel", &all[0]]);
    let run = place.run(&["list", "ready", "--after", &all[0]]);
    assert_eq!(
        run.ill(3),
        format!("error: {}: there is no such job\n", all[0])
    );
}

#[test]
fn a_job_is_shown_with_its_data_as_it_was_enqueued() {
    let place = Place::new();
    let number = "12345678901234567890123";
    let id = place.enqueue(
        &["mail", "--key", "ann"],
        &format!("{{\"z\":[{number},{{}}],\"a\":\"b\"}}"),
    );
    place.bury(1, "first\nsecond");
    let text = place.text(&["show", &id]);
    for line in [
        &*format!("id           {id}"),
        "kind         mail",
        "state        dead",
        "attempt      1 of 26",
        "key          ann",
        "error        first",
        "             second",
        "size         42 B",
        "payload      {",
        "               \"z\": [",
        &format!("                 {number},"),
        "                 {}",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.find("\"z\"") < text.find("\"a\""));
    let json = place.run(&["show", "--json", &id]).well();
    assert!(
        json.contains(&format!(
            "\"payload\":{{\"z\":[{number},{{}}],\"a\":\"b\"}},"
        )),
        "{json}"
    );
    assert_eq!(document(&json)["error"], "first\nsecond");

    let missing = JobId::new().to_string();
    let run = place.run(&["show", "--json", &missing]);
    assert_eq!(run.out, "");
    assert_eq!(
        run.ill(3),
        format!("error: {missing}: there is no such job\n")
    );
}

#[test]
fn what_others_stored_can_be_shown_whatever_it_is_and_controls_no_terminal() {
    let place = Place::with_queue();
    let job = NewJob::new("two\nlines \x1b[2J", b"no JSON \xff \x1b[31m".to_vec());
    let id = job.id.to_string();
    place.queue().as_broker().enqueue(&[job]).unwrap();
    let text = place.text(&["show", &id]);
    assert!(
        text.contains("payload      no JSON \u{fffd} \\u{1b}[31m"),
        "{text}"
    );
    let document = place.json(&["show", &id]);
    assert_eq!(document["payload"], Value::Null);
    assert_eq!(document["payload_text"], "no JSON \u{fffd} \u{1b}[31m");
    assert_eq!(document["kind"], "two\nlines \u{1b}[2J");

    place.bury(1, "\x1b]0;title\x07\u{9b}2J");
    let text = place.text(&["dead"]);
    let [line] = rows(&text)[..] else {
        panic!("{text}");
    };
    assert!(!line.contains(char::is_control), "{line:?}");
}

#[test]
fn a_list_tells_when_a_job_is_due_and_how_its_data_begins() {
    let place = Place::new();
    let large = format!("{{\"to\":\"{}\"}}", "é".repeat(3_000));
    let id = place.enqueue(&["mail", "--delay", "7210"], &large);
    let text = place.text(&["list", "delayed"]);
    let [line] = rows(&text)[..] else {
        panic!("{text}");
    };
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[0], id, "{line}");
    assert!(cells[4] == "2h00m" || cells[4] == "1h59m", "{line}");
    assert!(line.ends_with("éé… 6.0 kB"), "{line}");
    assert!(line.contains("  {\"to\":\"éé"), "{line}");
    // A script gets all of it.
    let listed = place.json(&["list", "delayed"]);
    assert_eq!(listed["payload"]["to"], "é".repeat(3_000));
    assert_eq!(listed["payload_size"], large.len());

    // What is known of the terminal's width is kept to.
    for columns in [100, 140] {
        let mut command = Place::command();
        command.arg("--queue").arg(place.file());
        command.env("COLUMNS", columns.to_string());
        let text = finish(command.args(["list", "delayed"]).spawn().unwrap()).well();
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert_eq!(widest, columns, "{text}");
    }
}

#[test]
fn what_a_list_leaves_out_is_in_its_json() {
    let place = Place::with_queue();
    let large = format!("\"{}\"", "x".repeat(100_000)).into_bytes();
    let mut job = NewJob::new("sum", b"1".to_vec());
    job.keep_result = Some(MINUTE);
    place.queue().as_broker().enqueue(&[job]).unwrap();
    let lease = place.claim(1)[0].lease.clone();
    assert!(place.queue().as_broker().progress(&lease, &large).unwrap());
    let listed = place.json(&["list", "running"]);
    assert_eq!(listed["progress"].as_str().unwrap().len(), 100_000);
    let done = (lease.clone(), Settle::Done { result: large });
    assert_eq!(
        place.queue().as_broker().settle(&[done]).unwrap(),
        [Settled::Stored]
    );
    let listed = place.json(&["list", "done"]);
    assert_eq!(listed["result"].as_str().unwrap().len(), 100_000);
    assert_eq!(listed["keep_result_seconds"], 60.0);
}

#[test]
fn the_kinds_that_are_ready_are_told() {
    let place = Place::with_queue();
    assert_eq!(place.text(&["kinds"]), "");
    for kind in ["mail", "image", "mail"] {
        place.enqueue(&[kind], "1");
    }
    place.enqueue(&["later", "--delay", "1000"], "1");
    assert_eq!(place.text(&["kinds"]), "image\nmail\n");
    assert_eq!(place.json(&["kinds"]), json!(["image", "mail"]));
}

/// Overrides and isolates of direction, marks, what has no width, and separators of lines.
const HIDDEN: &str = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\
    \u{200b}\u{200c}\u{200d}\u{2060}\u{2061}\u{2064}\u{feff}\u{ad}\u{34f}\u{180e}\u{3164}\u{fe0f}\u{fffb}\u{e0001}\u{e0041}\u{e0100}\
    \u{2028}\u{2029}\u{85}\u{9b}\u{7f}\x1b";

#[track_caller]
fn hides_nothing(text: &str) {
    let hidden = text.chars().find(|&char| HIDDEN.contains(char));
    assert_eq!(hidden, None, "{text:?}");
}

#[test]
fn no_text_of_a_job_hides_anything_wherever_it_is_printed() {
    let place = Place::with_queue();
    let text = format!("a{HIDDEN}b");
    let mut job = NewJob::new(text.clone(), serde_json::to_vec(&text).unwrap());
    job.key = Some(text.clone());
    job.unique = Some(text.clone());
    let id = job.id.to_string();
    let other = NewJob::new(text.clone(), text.clone().into_bytes());
    place
        .queue()
        .as_broker()
        .enqueue(&[job.clone(), other])
        .unwrap();
    hides_nothing(&place.text(&["list", "ready"]));
    hides_nothing(&place.text(&["kinds"]));
    hides_nothing(&place.run(&["--json", "kinds"]).well());
    let lease = place.claim(1)[0].lease.clone();
    let progress = job.payload.clone();
    assert!(
        place
            .queue()
            .as_broker()
            .progress(&lease, &progress)
            .unwrap()
    );
    let error = text.clone();
    let dead = (lease.clone(), Settle::Dead { error });
    assert_eq!(
        place.queue().as_broker().settle(&[dead]).unwrap(),
        [Settled::Stored]
    );
    for args in [&["dead"][..], &["show", &id], &["list", "ready"]] {
        hides_nothing(&place.text(args));
        let json = place.run(&[&["--json"], args].concat()).well();
        hides_nothing(&json);
        // It is the same text for who reads the JSON.
        let document = document(&json);
        assert_eq!(document["kind"], text);
        match document["payload"].as_str() {
            Some(payload) => assert_eq!(payload, text),
            None => assert_eq!(document["payload_text"], text),
        }
        if document["state"] == "dead" {
            assert_eq!(document["error"], text);
            assert_eq!(document["key"], text);
            assert_eq!(document["unique"], text);
            assert_eq!(document["progress"], text);
        }
    }

    // The names of queues, and what a command line says.
    drop(SqliteBroker::open(place.file(), &text, Clock::system()).unwrap());
    let address = format!("{}?queue={text}{text}", place.file().display());
    for (args, code) in [
        (&["--queue", &address, "stats"][..], 1),
        (&["--queue", &format!("sqlite:{text}?{text}"), "stats"], 1),
        (&["--queue", &text, "stats"], 1),
        (&["show", &text], 2),
        (&[&text], 2),
        (&["enqueue", "mail", "--once-per", &text], 2),
    ] {
        let args = [&["--queue", "nowhere"], args].concat();
        let args = if args[2] == "--queue" {
            &args[2..]
        } else {
            &args[..]
        };
        let mut command = Place::command();
        let run = finish(command.args(args).spawn().unwrap());
        hides_nothing(&run.out);
        assert!(run.err.contains("\\u{202e}"), "{run:?}");
        hides_nothing(&run.ill(code));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_list_of_large_jobs_takes_no_more_memory_than_a_page_of_them() {
    let place = Place::with_queue();
    let jobs = 40;
    let data = format!("\"{}\"", "x".repeat((1 << 20) - 2)).into_bytes();
    for _ in 0..jobs {
        let job = NewJob::new("large", data.clone());
        place.queue().as_broker().enqueue(&[job]).unwrap();
    }
    let lists = |state: &str| {
        let table = place.run_within(16, &["list", state, "--limit", "1000"]);
        assert_eq!(rows(&table.well()).len(), jobs);
        let json = place.run_within(16, &["--json", "list", state, "--limit", "1000"]);
        let json = json.well();
        assert!(json.lines().all(|line| line.len() > 1 << 20));
        assert_eq!(json.lines().count(), jobs);
    };
    lists("ready");
    // Also where they failed, and may have told how far they were.
    let dead = std::iter::from_fn(|| place.bury(1, "too bad").pop());
    assert_eq!(dead.count(), jobs);
    lists("dead");
    // The stacks of those who commit together are counted, too.
    let retried = place.run_within(88, &["retry", "--all"]).well();
    assert_eq!(retried.lines().count(), jobs);
}

/// Without the headings.
fn rows(table: &str) -> Vec<&str> {
    table.lines().skip(1).collect()
}
