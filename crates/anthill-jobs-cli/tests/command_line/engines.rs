//! What each command does, on the queues of each engine.

use crate::place::{Place, document, ids, objects, on_each_engine};
use anthill_jobs::JobId;
use serde_json::json;

on_each_engine! {
    jobs_are_enqueued_counted_listed_and_shown
    dead_jobs_are_shown_retried_and_deleted
    jobs_are_cancelled_and_run_now
    a_purge_must_be_confirmed
    limits_are_set_and_hold
    nothing_starts_in_a_pause
}

fn jobs_are_enqueued_counted_listed_and_shown(place: &Place) {
    let id = place.enqueue(
        &[
            "mail",
            "--priority",
            "3",
            "--key",
            "ann",
            "--unique",
            "u",
            "--expires",
            "7200",
        ],
        "{\"to\": \"Ann\", \"size\": 1.50}",
    );
    let again = place.run_with(&["enqueue", "mail", "--unique", "u"], "2");
    assert_eq!(again.well(), format!("{id} duplicate\n"));
    let numbers = place.enqueue_some(120);
    let late = place.enqueue(&["later", "--delay", "3600"], "1");
    for (state, jobs) in [
        ("ready", 121),
        ("delayed", 1),
        ("running", 0),
        ("duplicates", 1),
    ] {
        assert_eq!(place.count(state), jobs, "{state}");
    }
    assert_eq!(place.text(&["kinds"]), "mail\nnumber\n");

    let listed = place
        .run(&["--json", "list", "ready", "--limit", "1000"])
        .well();
    let listed = objects(&listed);
    assert_eq!(ids(&listed)[0], id);
    assert_eq!(ids(&listed)[1..], numbers);
    assert_eq!(
        place
            .text(&["list", "ready", "--limit", "121"])
            .lines()
            .count(),
        1 + 121
    );
    let page = place.run(&["list", "ready", "--after", &numbers[0], "--limit", "2"]);
    assert_eq!(
        page.err,
        format!("there are more: list ready --after {}\n", numbers[2])
    );

    let job = place.json(&["show", &id]);
    for (name, value) in [
        ("id", json!(id)),
        ("kind", json!("mail")),
        ("state", json!("ready")),
        ("priority", json!(3)),
        ("attempt", json!(0)),
        ("attempts", json!(26)),
        ("key", json!("ann")),
        ("unique", json!("u")),
        ("payload", json!({ "to": "Ann", "size": 1.5 })),
        ("payload_size", json!(24)),
    ] {
        assert_eq!(job[name], value, "{name}");
    }
    let due = place.json(&["show", &late])["due_in_seconds"]
        .as_f64()
        .unwrap();
    assert!((3000.0..=3600.0).contains(&due), "{due}");
    let none = JobId::new().to_string();
    let run = place.run(&["show", &none]);
    assert_eq!(run.ill(3), format!("error: {none}: there is no such job\n"));
}

fn dead_jobs_are_shown_retried_and_deleted(place: &Place) {
    let numbers = place.enqueue_some(5);
    assert_eq!(place.bury(4, "too bad"), numbers[..4]);
    let listed = place.run(&["--json", "dead"]).well();
    let listed = objects(&listed);
    assert_eq!(ids(&listed), numbers[..4]);
    assert!(
        listed.iter().all(|job| job["error"] == "too bad"),
        "{listed:?}"
    );
    let run = place.run(&["retry", &numbers[1], &numbers[4]]);
    assert_eq!(run.out, format!("{} ready again\n", numbers[1]));
    assert_eq!(run.ill(3), format!("error: {}: it is ready\n", numbers[4]));
    assert_eq!(place.json(&["show", &numbers[1]])["attempt"], 0);
    assert_eq!(
        place.text(&["delete", &numbers[0]]),
        format!("{} deleted\n", numbers[0])
    );
    let retried = place.json(&["retry", "--all"]);
    assert_eq!(retried["changed"].as_array().unwrap().len(), 2);
    assert_eq!((place.count("ready"), place.count("dead")), (4, 0));
    place.bury(2, "too bad");
    assert_eq!(
        place.json(&["delete", "--all-dead"]),
        json!({ "removed": 2 })
    );
}

fn jobs_are_cancelled_and_run_now(place: &Place) {
    let numbers = place.enqueue_some(2);
    place.claim(1);
    let run = place.run(&["--json", "cancel", &numbers[0], &numbers[1]]);
    assert_eq!(
        document(&run.out),
        json!({ "changed": [numbers[1]], "refused": [{ "id": numbers[0], "reason": "it is running" }] })
    );
    run.ill(3);
    let late = place.enqueue(&["mail", "--delay", "100000"], "1");
    assert_eq!(place.text(&["run-now", &late]), format!("{late} due now\n"));
    let claimed = place.claim(1);
    assert_eq!(claimed[0].lease.id().to_string(), late);
}

fn a_purge_must_be_confirmed(place: &Place) {
    place.enqueue_some(3);
    place.bury(1, "too bad");
    let told = place.run(&["purge", "ready"]).ill(1);
    assert!(
        told.contains("2 jobs are ready") && told.contains("--yes"),
        "{told}"
    );
    assert_eq!(place.text(&["purge", "ready", "--yes"]), "2 removed\n");
    assert_eq!((place.count("ready"), place.count("dead")), (0, 1));
}

fn limits_are_set_and_hold(place: &Place) {
    let set = place.text(&[
        "limits",
        "--running",
        "2",
        "--rate",
        "1000/0.5/9",
        "--ready",
        "4",
    ]);
    let limits = "running  2\nper-key  none\nrate     1000/0.5/9\nready    4\n";
    assert_eq!((&*set, &*place.text(&["limits"])), (limits, limits));
    place.enqueue_some(4);
    let full = place.run_with(&["enqueue", "mail"], "1").ill(1);
    assert!(full.contains("full: at most 4 jobs"), "{full}");
    assert_eq!(place.claim(4).len(), 2);
    assert_eq!(
        place.json(&[
            "limits",
            "--running",
            "none",
            "--rate",
            "none",
            "--ready",
            "none"
        ]),
        json!({ "running": null, "per_key": null, "rate": null, "ready": null })
    );
    assert_eq!(place.claim(4).len(), 2);
}

fn nothing_starts_in_a_pause(place: &Place) {
    place.enqueue_some(1);
    assert_eq!(place.text(&["pause"]), "paused\n");
    assert_eq!(place.json(&["stats"])["paused"], true);
    assert!(place.claim(1).is_empty());
    assert_eq!(place.json(&["resume"]), json!({ "paused": false }));
    assert_eq!(place.claim(1).len(), 1);
}
