//! Jobs moved to another queue.

use crate::place::{Place, document, finish, ids, objects};
use serde_json::{Value, json};

/// What is in a queue, in a state.
fn listed(place: &Place, queue: &str, state: &str) -> Vec<Value> {
    let address = format!("{}{queue}", place.file().display());
    let mut command = Place::command();
    command.args(["--queue", &address, "--json", "list", state]);
    objects(&finish(command.spawn().unwrap()).well())
}

#[test]
fn jobs_are_moved_to_a_queue_in_the_same_file() {
    let place = Place::new();
    let some = place.enqueue_some(3);
    let late = place.enqueue(
        &[
            "mail",
            "--delay",
            "1000",
            "--unique",
            "u",
            "--priority",
            "3",
        ],
        "{\"to\":1}",
    );
    let why = place.run(&["move", "?queue=slow"]).ill(1);
    assert!(why.contains("there is no queue \"slow\""), "{why}");
    let told = place.text(&[
        "move",
        "?queue=slow",
        "--create",
        "--kind",
        "number",
        "--limit",
        "2",
    ]);
    assert_eq!(told, "2 moved\n");
    assert_eq!(ids(&listed(&place, "?queue=slow", "ready")), some[..2]);
    assert_eq!(
        place.json(&["move", "?queue=slow", "--from-state", "delayed"]),
        json!({ "moved": 1, "started": 0, "refused": [], "in_both": [] })
    );
    let moved = &listed(&place, "?queue=slow", "delayed")[0];
    for (name, value) in [
        ("id", json!(late)),
        ("kind", json!("mail")),
        ("unique", json!("u")),
        ("priority", json!(3)),
        ("payload", json!({ "to": 1 })),
    ] {
        assert_eq!(moved[name], value, "{name}");
    }
    assert!(moved["due_in_seconds"].as_f64().unwrap() > 900.0);
    assert_eq!((place.count("ready"), place.count("removed")), (1, 3));
    let why = place.run(&["move", "?queue=default"]).ill(1);
    assert!(why.contains("their own queue"), "{why}");
}

#[test]
fn jobs_are_moved_to_another_file_and_the_dead_are_ready_there() {
    let place = Place::new();
    let other = Place::new();
    let to = other.file();
    let to = to.to_str().unwrap();
    place.enqueue_some(5);
    let dead = place.bury(2, "too bad");
    let why = place.run(&["move", to]).ill(1);
    assert!(why.contains("there is no queue in"), "{why}");
    assert_eq!(other.files(), 0);
    let told = place.text(&["move", to, "--create", "--from-state", "dead"]);
    assert_eq!(told, "2 moved\n");
    assert_eq!(ids(&listed(&other, "", "ready")), dead);
    assert_eq!(listed(&other, "", "ready")[0]["attempts"], 26);
    assert_eq!(place.text(&["move", to]), "3 moved\n");
    assert_eq!((place.count("ready"), other.count("ready")), (0, 5));
    assert_eq!(place.text(&["move", to]), "0 moved\n");
}

#[test]
fn what_the_target_does_not_take_stays_and_is_told() {
    for create in ["?queue=slow", "other.db"] {
        let place = Place::new();
        let to = if create.starts_with('?') {
            create.to_owned()
        } else {
            place.folder.path().join(create).display().to_string()
        };
        let first = place.enqueue(&["mail", "--unique", "ann"], "1");
        place.text(&["move", &to, "--create"]);
        let second = place.enqueue(&["mail", "--unique", "ann"], "2");
        let others = place.enqueue_some(2);
        let run = place.run(&["--json", "move", &to]);
        let reason = format!("job {first} in the target has its unique key");
        assert_eq!(
            document(&run.out),
            json!({
                "moved": 2,
                "started": 0,
                "refused": [{ "id": second, "reason": reason }],
                "in_both": [],
            })
        );
        assert_eq!(run.ill(3), format!("error: {second}: {reason}\n"));
        assert_eq!(place.json(&["list", "ready"])["id"], second);

        // A target that is full takes what fits, and says so.
        let address = if let Some(name) = to.strip_prefix('?') {
            format!("{}?{name}", place.file().display())
        } else {
            to.clone()
        };
        let mut command = Place::command();
        command.args(["--queue", &address, "limits", "--ready", "4"]);
        finish(command.spawn().unwrap()).well();
        place.text(&["cancel", &second]);
        let more = place.enqueue_some(3);
        let run = place.run(&["move", &to]);
        assert_eq!(run.out, "1 moved\n");
        assert!(run.ill(1).contains("the queue is full: at most 4 jobs"));
        let left = place.run(&["--json", "list", "ready"]).well();
        assert_eq!(ids(&objects(&left)), more[1..]);
        assert_eq!(others.len() + 1, 3);
    }
}
