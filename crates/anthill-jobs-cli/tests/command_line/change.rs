//! Jobs retried and taken away, limits.

use crate::place::{Place, document};
use serde_json::json;

#[test]
fn a_dead_job_is_retried() {
    let place = Place::new();
    let ids = place.enqueue_some(3);
    place.bury(2, "too bad");
    assert_eq!(
        place.text(&["retry", &ids[0]]),
        format!("{} ready again\n", ids[0])
    );
    assert_eq!(place.json(&["show", &ids[0]])["attempt"], 0);

    let run = place.run(&["--json", "retry", &ids[2], &ids[1], &ids[0]]);
    assert_eq!(
        document(&run.out),
        json!({
            "changed": [ids[1]],
            "refused": [{ "id": ids[2], "reason": "it is ready" }, { "id": ids[0], "reason": "it is ready" }],
        })
    );
    let told = run.ill(3);
    assert_eq!(
        told,
        format!(
            "error: {}: it is ready\nerror: {}: it is ready\n",
            ids[2], ids[0]
        )
    );
    assert_eq!((place.count("ready"), place.count("dead")), (3, 0));
}

#[test]
fn all_dead_jobs_are_retried_and_one_whose_key_is_taken_is_told() {
    let place = Place::with_queue();
    assert_eq!(
        place.json(&["retry", "--all"]),
        json!({ "changed": [], "refused": [] })
    );
    place.enqueue_some(250);
    let dead = place.bury(250, "too bad");
    let told = place.text(&["retry", "--all"]);
    let retried: Vec<&str> = told
        .lines()
        .map(|line| line.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(retried, dead);
    assert_eq!((place.count("ready"), place.count("dead")), (250, 0));

    place.text(&["purge", "ready", "--yes"]);
    let old = place.enqueue(&["mail", "--unique", "ann"], "1");
    place.bury(1, "too bad");
    place.enqueue(&["mail", "--unique", "ann"], "2");
    for args in [&["retry", "--all"][..], &["retry", &old]] {
        let told = place.run(args).ill(3);
        assert_eq!(
            told,
            format!("error: {old}: another job has its unique key by now\n")
        );
    }
    assert_eq!(place.count("dead"), 1);
}

#[test]
fn dead_letters_and_results_are_deleted_and_nothing_else() {
    let place = Place::new();
    let result = place.keep_a_result();
    let ids = place.enqueue_some(5);
    place.bury(3, "too bad");
    assert_eq!(
        place.text(&["delete", &ids[0], &result]),
        format!("{} deleted\n{result} deleted\n", ids[0])
    );
    let run = place.run(&["--json", "delete", &ids[4], &ids[0]]);
    assert_eq!(
        document(&run.out),
        json!({
            "changed": [],
            "refused": [
                { "id": ids[4], "reason": "it is ready" },
                { "id": ids[0], "reason": "there is no such job" },
            ],
        })
    );
    run.ill(3);
    assert_eq!(
        place.json(&["delete", "--all-dead"]),
        json!({ "removed": 2 })
    );
    assert_eq!(place.text(&["delete", "--all-dead"]), "0 removed\n");
    assert_eq!((place.count("ready"), place.count("removed")), (2, 4));
}

#[test]
fn a_job_is_cancelled_unless_it_runs() {
    let place = Place::new();
    let ids = place.enqueue_some(3);
    place.claim(1);
    let run = place.run(&["cancel", &ids[0], &ids[1]]);
    assert_eq!(run.out, format!("{} cancelled\n", ids[1]));
    assert_eq!(run.ill(3), format!("error: {}: it is running\n", ids[0]));
    assert_eq!(
        place.json(&["cancel", &ids[2]]),
        json!({ "changed": [ids[2]], "refused": [] })
    );
    assert_eq!((place.count("ready"), place.count("running")), (0, 1));
}

#[test]
fn a_delayed_job_runs_now_when_it_is_told_to() {
    let place = Place::new();
    let first = place.enqueue_some(1).remove(0);
    let late = place.enqueue(&["mail", "--delay", "100000"], "1");
    let told = place.text(&["run-now", &late]);
    assert_eq!(told, format!("{late} due now\n"));
    let claimed: Vec<String> = (0..2)
        .flat_map(|_| place.claim(1))
        .map(|job| job.lease.id().to_string())
        .collect();
    assert_eq!(claimed, [first, late.clone()]);
    let run = place.run(&["run-now", &late]);
    assert_eq!(run.ill(3), format!("error: {late}: it is running\n"));
}

#[test]
fn a_purge_of_anything_must_be_confirmed() {
    let place = Place::new();
    place.enqueue_some(3);
    place.bury(1, "too bad");
    for (state, jobs) in [("ready", 2), ("dead", 1)] {
        let told = place.run(&["purge", state]).ill(1);
        assert!(
            told.contains(&format!("{jobs} jobs are {state}")) && told.contains("--yes"),
            "{told}"
        );
    }
    for state in ["delayed", "parked", "done"] {
        assert_eq!(place.text(&["purge", state]), "0 removed\n");
    }
    assert_eq!(place.text(&["purge", "ready", "--yes"]), "2 removed\n");
    assert_eq!(
        place.json(&["purge", "dead", "--yes"]),
        json!({ "removed": 1 })
    );
    assert_eq!(place.json(&["purge", "dead"]), json!({ "removed": 0 }));
}

#[test]
fn limits_are_shown_as_they_are_set_and_set_one_by_one() {
    let place = Place::with_queue();
    let none = "running  none\nper-key  none\nrate     none\nready    none\n";
    assert_eq!(place.text(&["limits"]), none);
    let set = place.text(&["limits", "--running", "8", "--rate", "10/0.5"]);
    assert_eq!(
        set,
        "running  8\nper-key  none\nrate     10/0.5/1\nready    none\n"
    );
    assert_eq!(
        place.json(&[
            "limits",
            "--per-key",
            "2",
            "--rate",
            "3/60/9",
            "--ready",
            "7"
        ]),
        json!({
            "running": 8,
            "per_key": 2,
            "rate": { "jobs": 3, "seconds": 60.0, "burst": 9 },
            "ready": 7,
        })
    );
    assert_eq!(
        place.text(&["limits"]),
        "running  8\nper-key  2\nrate     3/60/9\nready    7\n"
    );
    let limits = place.queue().limits().unwrap();
    assert_eq!((limits.running, limits.per_key), (Some(8), Some(2)));
    assert_eq!(limits.max_ready, Some(7));
    let eight = "1\n".repeat(8);
    let full = place.run_with(&["enqueue", "number", "--lines"], &eight);
    assert!(full.ill(1).contains("full: at most 7 jobs"));
    assert_eq!(
        place.text(&[
            "limits",
            "--running",
            "none",
            "--per-key",
            "none",
            "--rate",
            "none",
            "--ready",
            "none"
        ]),
        none
    );
    assert_eq!(
        place.json(&["limits"]),
        json!({ "running": null, "per_key": null, "rate": null, "ready": null })
    );
    let most = place.text(&["limits", "--rate", "1/31622400/4294967295"]);
    assert!(most.contains("1/31622400/4294967295\n"), "{most}");
    place.enqueue_some(2);
    assert_eq!(place.claim(2).len(), 2);
}
