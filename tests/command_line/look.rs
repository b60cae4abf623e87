//! What is shown of a queue and its jobs.

use crate::place::{Place, document, ids, objects};
use anthill::jobs::{Broker, JobId, NewJob};
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
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(words("ready").starts_with("ready 1 oldest "), "{text}");
    assert_eq!(words("delayed"), "delayed 1");
    assert_eq!(words("lost leases"), "lost leases 0");
    assert_eq!(words("paused"), "paused yes");
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
    let line = place.text(&["dead"]);
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..3], [&dead[0], "number", "1/26"], "{line}");
    assert_eq!(words[4..].join(" "), "no such address", "{line}");
    assert_eq!(place.text(&["list", "dead"]).lines().count(), 1);

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
        assert_eq!(
            place.text(&["list", state]).lines().count(),
            jobs,
            "{state}"
        );
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
    assert_eq!((run.code, run.out.lines().count()), (Some(0), 10));
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
        &*format!("id        {id}"),
        "kind      mail",
        "state     dead",
        "attempt   1 of 26",
        "key       ann",
        "error     first",
        "          second",
        "payload   {",
        "            \"z\": [",
        &format!("              {number},"),
        "              {}",
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
    place.broker().enqueue(&[job]).unwrap();
    let text = place.text(&["show", &id]);
    assert!(
        text.contains("payload   no JSON \u{fffd} \\u{1b}[31m"),
        "{text}"
    );
    let document = place.json(&["show", &id]);
    assert_eq!(document["payload"], Value::Null);
    assert_eq!(document["payload_text"], "no JSON \u{fffd} \u{1b}[31m");
    assert_eq!(document["kind"], "two\nlines \u{1b}[2J");

    place.bury(1, "\x1b]0;title\x07\u{9b}2J");
    let line = place.text(&["dead"]);
    assert_eq!(line.lines().count(), 1);
    assert!(!line.trim_end().contains(char::is_control), "{line:?}");
}
