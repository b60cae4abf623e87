//! Headers, earlier errors, filters, who runs what, and how long it is kept: on each engine.

use crate::place::{MINUTE, Place, document, ids, objects, on_each_engine};
use anthill_jobs::{Capability, ClaimRequest, Claimed, ConsumerInfo, Retention, Settle, Settled};
use serde_json::{Value, json};
use std::time::Duration;

on_each_engine! {
    headers_are_kept_beside_the_data
    the_errors_of_earlier_attempts_are_shown
    a_list_can_be_filtered_by_kind_and_error
    a_job_that_runs_is_asked_to_stop
    consumers_are_listed
    retention_is_shown_as_it_is_set_and_set_one_by_one
    what_the_broker_can_do_is_shown
}

fn headers_are_kept_beside_the_data(place: &Place) {
    let id = place.enqueue(
        &[
            "mail",
            "--header",
            "trace=old",
            "--header",
            "lang=a=b",
            "--header",
            "trace=00-1",
            "--header",
            "lines=one\ntwo",
        ],
        "1",
    );
    let headers = json!({ "lang": "a=b", "lines": "one\ntwo", "trace": "00-1" });
    assert_eq!(place.json(&["show", &id])["headers"], headers);
    assert_eq!(place.json(&["list", "ready"])["headers"], headers);
    let text = place.text(&["show", &id]);
    let shown: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("header"))
        .collect();
    let lines = [
        "header       lang=a=b",
        "header       lines=one\\ntwo",
        "header       trace=00-1",
    ];
    assert_eq!(shown, lines);
    let other = place.enqueue(&["mail"], "1");
    assert_eq!(place.json(&["show", &other])["headers"], json!({}));
}

fn fail(place: &Place, error: &str) {
    let lease = place.claim(1)[0].lease.clone();
    let (error, delay) = (error.to_owned(), Duration::ZERO);
    let retry = (lease, Settle::Retry { error, delay });
    let settled = place.queue().as_broker().settle(&[retry]);
    assert_eq!(settled.unwrap(), [Settled::Stored]);
}

fn the_errors_of_earlier_attempts_are_shown(place: &Place) {
    let id = place.enqueue(&["mail"], "1");
    assert_eq!(place.json(&["show", &id])["errors"], json!([]));
    fail(place, "no answer");
    fail(place, "no answer\nfailed       attempt 9");
    place.bury(1, "refused");
    let job = place.json(&["show", &id]);
    let errors = job["errors"].as_array().unwrap();
    let of = |name: &str| {
        errors
            .iter()
            .map(|error| error[name].clone())
            .collect::<Vec<Value>>()
    };
    assert_eq!(of("attempt"), [1, 2, 3]);
    assert_eq!(
        of("error"),
        ["no answer", "no answer\nfailed       attempt 9", "refused"]
    );
    let ago: Vec<f64> = of("ago_seconds")
        .iter()
        .map(|ago| ago.as_f64().unwrap())
        .collect();
    assert!(ago.is_sorted_by(|one, next| one >= next), "{ago:?}");
    let text = place.text(&["show", &id]);
    let failed = text.lines().filter(|line| line.starts_with("failed"));
    let failed: Vec<&str> = failed.collect();
    assert_eq!(failed.len(), 3, "{text}");
    assert!(failed[0].starts_with("failed       attempt 1, "), "{text}");
    assert!(failed[0].ends_with("s ago: no answer"), "{text}");
    assert!(
        failed[1].ends_with(r"s ago: no answer\nfailed       attempt 9"),
        "{text}"
    );
    assert!(text.contains("\nerror        refused\n"), "{text}");
    assert_eq!(place.json(&["dead"])["errors"][2]["error"], "refused");
}

fn a_list_can_be_filtered_by_kind_and_error(place: &Place) {
    let mail = place.enqueue(&["mail"], "1");
    let numbers = place.enqueue_some(3);
    let listed = |args: &[&str]| {
        let out = place.run(&[&["--json"], args].concat()).well();
        let listed = objects(&out);
        ids(&listed)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    assert_eq!(listed(&["list", "ready", "--kind", "mail"]), [&*mail]);
    assert_eq!(listed(&["list", "ready", "--kind", "number"]), numbers);
    assert_eq!(listed(&["list", "ready", "--kind", "num"]).len(), 0);
    assert_eq!(listed(&["list", "ready", "--error", ""]).len(), 0);
    place.bury(1, "no 'answer' of ann");
    place.bury(2, "no 'answer' of bob");
    place.bury(1, "refused");
    let answer = ["dead", "--error", "no 'answer'"];
    assert_eq!(listed(&answer).len(), 3);
    assert_eq!(listed(&["dead", "--error", "refused"]), [&*numbers[2]]);
    let both = listed(&[&answer[..], &["--kind", "number"]].concat());
    assert_eq!(both, numbers[..2]);
    // The rest is that of the same list.
    let run = place.run(&[&answer[..], &["--kind", "number", "--limit", "1"]].concat());
    assert_eq!((run.code, run.out.lines().count()), (Some(0), 2));
    let rest = format!(
        "list dead --kind 'number' --error 'no '\\''answer'\\''' --after {}",
        numbers[0]
    );
    assert_eq!(run.err, format!("there are more: {rest}\n"));
    let rest = listed(&[
        "list",
        "dead",
        "--kind",
        "number",
        "--error",
        "no 'answer'",
        "--after",
        &numbers[0],
    ]);
    assert_eq!(rest, [&*numbers[1]]);
}

fn claim_as(place: &Place, consumer: &str) -> Claimed {
    let request = ClaimRequest::new(1, MINUTE).by(consumer.into());
    let claims = place.queue().as_broker().claim(&request).unwrap();
    claims.jobs.into_iter().next().unwrap()
}

fn a_job_that_runs_is_asked_to_stop(place: &Place) {
    let numbers = place.enqueue_some(2);
    let claimed = claim_as(place, "host 7");
    let job = place.json(&["show", &numbers[0]]);
    assert_eq!(
        (&job["consumer"], &job["cancel_requested"]),
        (&json!("host 7"), &json!(false))
    );
    let text = place.text(&["show", &numbers[0]]);
    assert!(text.contains("\nconsumer     host 7\n"), "{text}");
    assert!(!text.contains("\ncancel "), "{text}");

    let run = place.run(&["cancel", "--running", &numbers[1], &numbers[0]]);
    assert_eq!(run.out, format!("{} asked to stop\n", numbers[0]));
    assert_eq!(run.ill(3), format!("error: {}: it is ready\n", numbers[1]));
    assert_eq!(place.json(&["list", "running"])["cancel_requested"], true);
    let text = place.text(&["show", &numbers[0]]);
    assert!(text.contains("\ncancel       requested\n"), "{text}");

    let queue = place.queue();
    let error = "stopped".to_owned();
    let delay = Duration::ZERO;
    let settled = queue
        .as_broker()
        .settle(&[(claimed.lease, Settle::Retry { error, delay })]);
    assert_eq!(settled.unwrap(), [Settled::Stored]);
    let run = place.run(&["--json", "cancel", "--running", &numbers[0]]);
    assert_eq!(
        document(&run.out),
        json!({ "changed": [], "refused": [{ "id": numbers[0], "reason": "there is no such job" }] })
    );
    run.ill(3);
    assert_eq!((place.count("ready"), place.count("removed")), (1, 1));
}

fn consumers_are_listed(place: &Place) {
    assert_eq!(place.text(&["consumers"]), "");
    assert_eq!(place.json(&["consumers"]), json!([]));
    let queue = place.queue();
    let announce = |id: &str, kinds: &[&str], running| {
        let kinds = kinds.iter().map(|&kind| kind.to_owned()).collect();
        let mut info = ConsumerInfo::new(id, kinds, 4);
        info.running = running;
        info.age = MINUTE * 5;
        let registry = queue.as_broker().consumer_registry().unwrap();
        registry.announce(&info, MINUTE * 60).unwrap();
    };
    announce("a", &["mail", "image"], 3);
    announce("host\n2", &[], 0);
    let listed = place.json(&["consumers"]);
    for (name, value) in [
        ("id", json!("a")),
        ("kinds", json!(["mail", "image"])),
        ("workers", json!(4)),
        ("running", json!(3)),
    ] {
        assert_eq!(listed[0][name], value, "{name}");
    }
    assert_eq!(listed[1]["id"], "host\n2");
    assert!(
        listed[0]["age_seconds"].as_f64().unwrap() >= 300.0,
        "{listed}"
    );
    assert!(
        listed[0]["seen_seconds"].as_f64().unwrap() < 300.0,
        "{listed}"
    );
    let text = place.text(&["consumers"]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["ID", "RUNNING", "WORKERS", "AGE", "SEEN", "KINDS"]
    );
    assert_eq!(lines[1][..3], ["a", "3", "4"], "{text}");
    assert!(
        lines[1][3].contains('m') && lines[1][5..] == ["mail", "image"],
        "{text}"
    );
    assert_eq!((lines[2][0], lines.len()), ("host\\n2", 3), "{text}");
}

fn retention_is_shown_as_it_is_set_and_set_one_by_one(place: &Place) {
    let none = "done  none\ndead  none\n";
    assert_eq!(place.text(&["retention"]), none);
    assert_eq!(
        place.text(&["retention", "--dead", "30d"]),
        "done  none\ndead  30d\n"
    );
    assert_eq!(
        place.json(&["retention", "--done", "90"]),
        json!({ "done_seconds": 90.0, "dead_seconds": 2_592_000.0 })
    );
    let kept = Retention::default()
        .done(Duration::from_secs(90))
        .dead(MINUTE * 60 * 24 * 30);
    assert_eq!(place.queue().retention().unwrap(), kept);
    assert_eq!(place.text(&["retention"]), "done  90\ndead  30d\n");
    // It counts.
    place.enqueue(&["mail"], "1");
    let lease = place.claim(1)[0].lease.clone();
    let done = (
        lease,
        Settle::Done {
            result: b"1".to_vec(),
        },
    );
    place.queue().as_broker().settle(&[done]).unwrap();
    assert_eq!(place.count("results"), 1);
    assert_eq!(
        place.text(&["retention", "--done", "none", "--dead", "none"]),
        none
    );
    assert_eq!(
        place.json(&["retention"]),
        json!({ "done_seconds": null, "dead_seconds": null })
    );
}

fn what_the_broker_can_do_is_shown(place: &Place) {
    let can = place.queue().capabilities();
    let shown = place.json(&["capabilities"]);
    assert_eq!(shown["broker"], can.name);
    assert_eq!(
        shown["capabilities"].as_object().unwrap().len(),
        Capability::ALL.len()
    );
    let batch = can.maxima.batch;
    let batch = (batch != usize::MAX).then_some(batch);
    assert_eq!(shown["maxima"]["batch"], json!(batch));
    assert_eq!(shown["maxima"]["wait_seconds"], 0.0);
    let text = place.text(&["capabilities"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("broker             {}", can.name));
    assert!(lines[1].starts_with("durability         "), "{text}");
    assert_eq!(shown["durability"], lines[1][19..]);
    assert_eq!(lines.len(), 7 + Capability::ALL.len(), "{text}");
    for (name, capability) in [
        ("shared", Capability::Shared),
        ("per_key", Capability::PerKey),
        ("cancel_running", Capability::CancelRunning),
        ("transactions", Capability::Transactions),
    ] {
        assert_eq!(shown["capabilities"][name], can.has(capability), "{name}");
        let has = if can.has(capability) { "yes" } else { "no" };
        let line = format!("{name:<19}{has:<5}{}", capability.what());
        assert!(lines.contains(&&*line), "{line}\n{text}");
    }
}
