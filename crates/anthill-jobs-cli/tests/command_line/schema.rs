//! Queues in Postgres: which are created when, what of an address is told to whom, moves, and roles.

use crate::place::{Place, document, finish, ids, objects};
use anthill_jobs::JobId;
use anthill_test_support::{postgres, skip_unless};
use serde_json::json;
use std::io::Write;

/// A run with another address.
fn run_at(address: &str, args: &[&str], input: &str) -> crate::place::Run {
    let mut child = Place::command()
        .args(["--queue", address])
        .args(args)
        .spawn()
        .unwrap();
    // One that fails early does not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    finish(child)
}

fn count_at(address: &str, state: &str) -> u64 {
    let counts = run_at(address, &["--json", "stats"], "").well();
    document(&counts)[state].as_u64().unwrap()
}

/// Which schemas and queues a database has.
fn made(place: &Place) -> String {
    let server = postgres::shared().unwrap();
    let database = place.address.rsplit('/').next().unwrap();
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'anthill'";
    if server.sql(database, schemas).unwrap() == "0" {
        return "nothing".to_owned();
    }
    let queues = "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM anthill.queues";
    server.sql(database, queues).unwrap()
}

#[test]
fn tables_are_made_only_if_that_is_said_and_a_queue_not_by_who_looks() {
    let place = skip_unless!(Place::postgres_without_tables());
    let id = JobId::new().to_string();
    let looks_and_changes = [
        &["stats"][..],
        &["list", "ready"],
        &["dead"],
        &["show", &id],
        &["kinds"],
        &["consumers"],
        &["capabilities"],
        &["limits"],
        &["retention"],
        &["retry", "--all"],
        &["cancel", &id],
        &["purge", "dead", "--yes"],
        &["pause"],
        &["move", "?queue=other"],
    ];
    for args in looks_and_changes {
        let why = place.run(args).ill(1);
        assert!(
            why.contains("the schema anthill has no queues"),
            "{args:?}: {why}"
        );
        assert!(!why.contains("--create"), "{args:?}: {why}");
    }
    let why = place.run_with(&["enqueue", "mail"], "1").ill(1);
    assert!(why.contains("--create"), "{why}");
    assert_eq!(made(&place), "nothing");
    place.enqueue(&["mail", "--create"], "1");
    assert_eq!(made(&place), "default");

    let other = format!("{}?queue=other", place.address);
    for args in looks_and_changes {
        let why = run_at(&other, args, "").ill(1);
        assert!(
            why.contains("there is no queue \"other\""),
            "{args:?}: {why}"
        );
    }
    assert_eq!(made(&place), "default");
    // From then on an enqueue makes queues, and a wrong database is told.
    run_at(&other, &["enqueue", "mail"], "1").well();
    assert_eq!(made(&place), "default other");
    assert_eq!((count_at(&other, "ready"), place.count("ready")), (1, 1));
    let why = run_at(&format!("{}_not", place.address), &["stats"], "").ill(1);
    assert!(why.contains("does not exist"), "{why}");
}

#[test]
fn both_schemes_and_the_environment_name_a_queue() {
    let place = skip_unless!(Place::postgres());
    let address = place.address.replacen("postgres:", "postgresql:", 1);
    run_at(&address, &["enqueue", "mail"], "1").well();
    let mut command = Place::command();
    command.env("ANTHILL_QUEUE", &place.address);
    let stats = finish(command.args(["--json", "stats"]).spawn().unwrap()).well();
    assert_eq!(document(&stats)["ready"], 1);
}

#[test]
fn no_password_is_printed_whatever_is_wrong() {
    let server = skip_unless!(postgres::shared());
    let host = server.address();
    let help = ["--help"];
    for (address, args, why) in [
        (
            "postgres://me:s3cret@HOST/postgres",
            &["stats"][..],
            "password authentication failed",
        ),
        (
            "postgres://me:s3cret@HOST/postgres?cue=a",
            &["stats"],
            "cue",
        ),
        (
            "postgres://me:s3c/ret@HOST/postgres?queue=",
            &["stats"],
            "no name",
        ),
        ("postgres://me:s3cret@db:x/postgres", &["pause"], "port"),
        (
            "postgres:me:s3cret@HOST/postgres",
            &["stats"],
            "begins with postgres://",
        ),
        (
            "postgres://HOST/postgres?user=me&password=s3cret",
            &["stats"],
            "password authentication failed",
        ),
        (
            "postgres://HOST/postgres?user=me&password=s3cret&x=1",
            &["stats"],
            "x",
        ),
        (
            "mysql://me:s3cret@HOST/postgres",
            &["stats"],
            "unknown scheme \"mysql\"",
        ),
        (
            "me:s3cret@HOST/postgres",
            &["stats"],
            "unknown scheme \"me\"; known schemes: postgres",
        ),
        ("//me:s3cret@HOST/postgres", &["stats"], "no folder"),
        (
            "jobs.db",
            &["postgres://me:s3cret@HOST/postgres"],
            "unrecognized subcommand",
        ),
        (
            "jobs.db",
            &["stats", "postgres://me:s3c'ret@HOST/postgres"],
            "unexpected argument",
        ),
        (
            "postgres://me:s3cret@HOST/postgres",
            &["stats", "--no"],
            "unexpected argument",
        ),
        ("postgres://me:s3cret@HOST/postgres", &help, ""),
    ] {
        let fill = |text: &str| text.replace("HOST", &host.to_string());
        for is_option in [true, false] {
            let mut command = Place::command();
            if is_option {
                command.args(["--queue", &fill(address)]);
            } else {
                command.env("ANTHILL_QUEUE", fill(address));
            }
            let child = command.args(args.iter().map(|arg| fill(arg))).spawn();
            let run = finish(child.unwrap());
            assert!(
                !run.err.contains("s3c") && !run.out.contains("s3c"),
                "{address}: {run:?}"
            );
            assert!(run.err.contains(why), "{address}: {run:?}");
            assert_eq!(run.code == Some(0), args == help, "{address}: {run:?}");
        }
    }
    let mut command = Place::command();
    let help = finish(command.arg("--help").spawn().unwrap()).well();
    assert!(
        help.contains("postgres://") && help.contains("ANTHILL_QUEUE"),
        "{help}"
    );
}

#[test]
fn jobs_are_moved_between_queues_of_a_database() {
    let place = skip_unless!(Place::postgres());
    let numbers = place.enqueue_some(150);
    let mail = place.enqueue(
        &["mail", "--unique", "u", "--header", "trace=1"],
        "{\"to\":1}",
    );
    let why = place.run(&["move", "?queue=slow"]).ill(1);
    assert!(why.contains("there is no queue \"slow\""), "{why}");
    assert_eq!(made(&place), "default");
    let told = place.text(&["move", "?queue=slow", "--create", "--kind", "number"]);
    assert_eq!(told, "150 moved\n");
    let slow = format!("{}?queue=slow", place.address);
    let listed = run_at(&slow, &["--json", "list", "ready", "--limit", "200"], "").well();
    assert_eq!(ids(&objects(&listed)), numbers);
    assert_eq!((place.count("ready"), place.count("removed")), (1, 150));
    // The others of its options are kept.
    let other = format!("{}?schema=anthill&queue=default", place.address);
    let told = run_at(&other, &["--json", "move", "?queue=slow"], "").well();
    assert_eq!(
        document(&told),
        json!({ "moved": 1, "started": 0, "refused": [], "in_both": [] })
    );
    let job = document(&run_at(&slow, &["--json", "show", &mail], "").well());
    assert_eq!(
        (&job["unique"], &job["headers"], &job["payload"]),
        (&json!("u"), &json!({ "trace": "1" }), &json!({ "to": 1 }))
    );
    let why = run_at(&slow, &["move", "?queue=slow"], "").ill(1);
    assert!(why.contains("their own queue"), "{why}");
}

#[test]
fn jobs_are_moved_from_a_file_to_a_database_and_back() {
    let place = Place::new();
    let database = skip_unless!(Place::postgres_without_tables());
    let numbers = place.enqueue_some(5);
    let dead = place.bury(2, "too bad");
    let why = place.run(&["move", &database.address]).ill(1);
    assert!(why.contains("has no queues"), "{why}");
    assert_eq!(made(&database), "nothing");
    let told = place.text(&[
        "move",
        &database.address,
        "--create",
        "--from-state",
        "dead",
    ]);
    assert_eq!(told, "2 moved\n");
    assert_eq!(place.text(&["move", &database.address]), "3 moved\n");
    assert_eq!((place.count("ready"), place.count("dead")), (0, 0));
    let listed = database.run(&["--json", "list", "ready"]).well();
    assert_eq!(ids(&objects(&listed)), [&dead[..], &numbers[2..]].concat());
    let told = database.text(&["move", &place.address, "--limit", "1"]);
    assert_eq!(told, "1 moved\n");
    assert_eq!(place.json(&["list", "ready"])["id"], dead[0]);
}

#[test]
fn a_file_is_what_is_backed_up() {
    let place = skip_unless!(Place::postgres());
    let copy = place.folder.path().join("copy");
    let why = place.run(&["backup", copy.to_str().unwrap()]).ill(1);
    assert_eq!(why, "error: the postgres broker does not support backups\n");
    assert!(!copy.exists());
}

#[test]
fn who_may_only_look_can_look_and_who_may_only_enqueue_can_enqueue() {
    let place = skip_unless!(Place::postgres());
    let server = postgres::shared().unwrap();
    let database = place.address.rsplit('/').next().unwrap();
    let role = |name: &str| {
        let made = format!(
            "CREATE ROLE {name}_{database} LOGIN PASSWORD 'pw'; SELECT anthill.let_{name}('{name}_{database}')"
        );
        server.sql(database, &made).unwrap();
        format!(
            "postgres://{name}_{database}:pw@{}/{database}",
            server.address()
        )
    };
    let numbers = place.enqueue_some(2);
    place.bury(1, "too bad");
    let look = role("look");
    assert_eq!(count_at(&look, "ready"), 1);
    for args in [
        &["dead"][..],
        &["list", "ready"],
        &["show", &numbers[1]],
        &["kinds"],
        &["consumers"],
        &["capabilities"],
        &["limits"],
        &["retention"],
    ] {
        let shown = run_at(&look, args, "").well();
        assert_eq!(shown.is_empty(), args == ["consumers"], "{args:?}: {shown}");
    }
    for args in [
        &["enqueue", "mail"][..],
        &["pause"],
        &["cancel", &numbers[1]],
        &["purge", "ready", "--yes"],
        &["limits", "--running", "3"],
        &["retry", "--all"],
    ] {
        let why = run_at(&look, args, "1").ill(1);
        assert!(why.contains("refuses access"), "{args:?}: {why}");
    }
    let enqueue = role("enqueue");
    run_at(&enqueue, &["enqueue", "mail"], "1").well();
    let why = run_at(&enqueue, &["stats"], "").ill(1);
    assert!(why.contains("refuses access"), "{why}");
    assert_eq!((place.count("ready"), place.count("dead")), (2, 1));
}
