//! Queues in Redis: which are created when, by which addresses, what of an address is told to whom, and moves.

use crate::place::{Place, Run, document, finish, ids, objects};
use anthill_jobs::JobId;
use anthill_test_support::redis::{self, Access};
use anthill_test_support::skip_unless;
use serde_json::json;
use std::io::Write;

/// A run with another address.
fn run_at(address: &str, args: &[&str], input: &str) -> Run {
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

/// The names of the queues that are at a place, in order.
fn made(place: &Place) -> Vec<String> {
    let (_, prefix) = place.address.split_once("prefix=").unwrap();
    let mut raw = redis::shared().unwrap().raw();
    raw.run(&["SELECT", "1"]);
    let tag = format!("{{{prefix}:");
    let keys = raw.run(&["KEYS", &format!("{tag}*")]).array();
    let keys = keys.into_iter().map(|key| key.text());
    let name = |key: String| key[tag.len()..].split('}').next().unwrap().to_owned();
    let mut names: Vec<String> = keys.map(name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn a_queue_is_made_only_if_that_is_said() {
    let place = skip_unless!(Place::redis_without_queue());
    let id = JobId::new().to_string();
    for args in [
        &["stats"][..],
        &["list", "ready"],
        &["dead"],
        &["show", &id],
        &["kinds"],
        &["consumers"],
        &["capabilities"],
        &["limits"],
        &["limits", "--running", "3"],
        &["retention"],
        &["retry", "--all"],
        &["cancel", &id],
        &["purge", "dead", "--yes"],
        &["pause"],
        &["move", "?queue=other"],
    ] {
        let why = place.run(args).ill(1);
        assert!(
            why.contains("there is no queue \"default\" in it") && !why.contains("--create"),
            "{args:?}: {why}"
        );
    }
    let why = place.run_with(&["enqueue", "mail"], "1").ill(1);
    assert!(why.contains("--create makes it"), "{why}");
    assert_eq!(made(&place), [""; 0]);
    place.enqueue(&["mail", "--create"], "1");
    place.enqueue(&["mail"], "1");
    assert_eq!(
        (made(&place), place.count("ready")),
        (vec!["default".to_owned()], 2)
    );
    // Another queue is a mistake as well, until somebody says that it is none.
    let other = format!("{}&queue=other", place.address);
    let why = run_at(&other, &["enqueue", "mail"], "1").ill(1);
    assert!(why.contains("there is no queue \"other\""), "{why}");
    assert_eq!(made(&place), ["default"]);
    run_at(&other, &["enqueue", "mail", "--create"], "1").well();
    assert_eq!((count_at(&other, "ready"), place.count("ready")), (1, 2));
}

#[test]
fn each_scheme_and_the_environment_name_a_queue() {
    let place = skip_unless!(Place::redis());
    let server = redis::shared().unwrap();
    let (_, options) = place.address.split_once('?').unwrap();
    let socket = |scheme: &str| {
        let (socket, password) = (server.socket().display(), server.password().unwrap());
        format!("{scheme}://{socket}?db=1&pass={password}&{options}")
    };
    let valkey = place.address.replacen("redis:", "valkey:", 1);
    let mut jobs = 0;
    for address in [valkey, socket("redis+unix"), socket("valkey+unix")] {
        run_at(&address, &["enqueue", "mail"], "1").well();
        jobs += 1;
        let mut command = Place::command();
        command.env("ANTHILL_QUEUE", &address);
        let stats = finish(command.args(["--json", "stats"]).spawn().unwrap()).well();
        assert_eq!(document(&stats)["ready"], jobs, "{address}");
    }
    // Nobody speaks TLS there, so these get as far as that.
    for scheme in ["rediss:", "valkeys:"] {
        let address = place.address.replacen("redis:", scheme, 1) + "&timeout=1";
        let why = run_at(&address, &["stats"], "").ill(1);
        assert!(!why.contains("scheme") && !why.contains("feature"), "{why}");
    }
}

/// Addresses with the password `s3cret`, what is done there, and a part of what is said.
fn with_a_password(server: &Access) -> Vec<(String, Vec<&'static str>, &'static str)> {
    let host = server.address();
    let socket = server.socket().display();
    let stats = || vec!["stats"];
    vec![
        (format!("redis://:s3cret@{host}/"), stats(), "password"),
        (format!("redis://me:s3cret@{host}/"), stats(), "password"),
        (format!("redis://me:s3c@ret@{host}/"), stats(), "password"),
        (format!("redis://me:s3cret@{host}/?cue=a"), stats(), "cue"),
        (
            format!("redis://me:s3c/ret@{host}/?queue="),
            stats(),
            "no name",
        ),
        (format!("redis://me:s3cret@{host}/zero"), stats(), ""),
        ("redis://me:s3cret@db:x/0".to_owned(), vec!["pause"], ""),
        (format!("redis:me:s3cret@{host}"), stats(), "redis://"),
        (
            format!("redis://me:s3cret@{host}/?cacert=a.pem"),
            stats(),
            "rediss:",
        ),
        (
            format!("rediss://me:s3cret@{host}/?cacert=/no/such.pem"),
            stats(),
            "cacert",
        ),
        (
            format!("redis+unix://{socket}?user=me&pass=s3cret"),
            stats(),
            "password",
        ),
        (
            format!("redis+unix://{socket}?pass=s3c@ret&db=x"),
            stats(),
            "database",
        ),
        (
            "redis+unix:///no/such/socket?pass=s3cret&timeout=0.2".to_owned(),
            stats(),
            "No such file",
        ),
        (
            format!("redis://me:s3cret@{host}/"),
            vec!["stats", "--no"],
            "unexpected argument",
        ),
    ]
}

#[test]
fn no_password_is_printed_whatever_is_wrong() {
    let server = skip_unless!(redis::shared());
    for (address, args, why) in with_a_password(server) {
        for is_option in [true, false] {
            let mut command = Place::command();
            if is_option {
                command.args(["--queue", &address]);
            } else {
                command.env("ANTHILL_QUEUE", &address);
            }
            let run = finish(command.args(&args).spawn().unwrap());
            assert!(
                !run.err.contains("s3c") && !run.out.contains("s3c"),
                "{address}: {run:?}"
            );
            assert!(run.err.contains(why), "{address}: {run:?}");
            assert_ne!(run.code, Some(0), "{address}: {run:?}");
        }
    }
    let mut command = Place::command();
    let help = finish(command.arg("--help").spawn().unwrap()).well();
    assert!(
        help.contains("redis://") && help.contains("rediss:"),
        "{help}"
    );
}

#[test]
fn more_lines_than_one_call_takes_are_refused_and_none_is_added() {
    let place = skip_unless!(Place::redis());
    let most = place.json(&["capabilities"])["maxima"]["batch"].as_u64();
    let most = usize::try_from(most.unwrap()).unwrap();
    let lines = "1\n".repeat(most + 1);
    let why = place
        .run_with(&["enqueue", "number", "--lines"], &lines)
        .ill(1);
    assert!(why.contains(&format!("more than {most} jobs")), "{why}");
    assert_eq!(place.count("ready"), 0);
    assert_eq!(place.enqueue_some(most).len(), most);
}

#[test]
fn what_a_job_survives_there_is_told() {
    let place = skip_unless!(Place::redis());
    let document = place.json(&["capabilities"]);
    let told = (&document["broker"], &document["durability"]);
    assert_eq!(told, (&json!("redis"), &json!("none")));
    let stated = format!("{}&durability=fsync", place.address);
    let stated = run_at(&stated, &["--json", "capabilities"], "").well();
    assert_eq!(crate::place::document(&stated)["durability"], "fsync");
}

#[test]
fn jobs_are_moved_between_queues_of_a_server() {
    let place = skip_unless!(Place::redis());
    let numbers = place.enqueue_some(150);
    let mail = place.enqueue(
        &["mail", "--unique", "u", "--header", "trace=1"],
        "{\"to\":1}",
    );
    let why = place.run(&["move", "?queue=slow"]).ill(1);
    assert!(why.contains("there is no queue \"slow\""), "{why}");
    assert_eq!(made(&place), ["default"]);
    let told = place.text(&["move", "?queue=slow", "--create", "--kind", "number"]);
    assert_eq!(told, "150 moved\n");
    let slow = format!("{}&queue=slow", place.address);
    let listed = run_at(&slow, &["--json", "list", "ready", "--limit", "200"], "").well();
    assert_eq!(ids(&objects(&listed)), numbers);
    assert_eq!((place.count("ready"), place.count("removed")), (1, 150));
    let told = place.json(&["move", "?queue=slow"]);
    assert_eq!(
        told,
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
fn jobs_are_moved_from_a_file_to_a_server_and_back() {
    let place = Place::new();
    let server = skip_unless!(Place::redis_without_queue());
    let numbers = place.enqueue_some(5);
    let dead = place.bury(2, "too bad");
    let why = place.run(&["move", &server.address]).ill(1);
    assert!(why.contains("there is no queue"), "{why}");
    let told = place.text(&["move", &server.address, "--create", "--from-state", "dead"]);
    assert_eq!(told, "2 moved\n");
    assert_eq!(place.text(&["move", &server.address]), "3 moved\n");
    assert_eq!((place.count("ready"), place.count("dead")), (0, 0));
    let listed = server.run(&["--json", "list", "ready"]).well();
    assert_eq!(ids(&objects(&listed)), [&dead[..], &numbers[2..]].concat());
    let told = server.text(&["move", &place.address, "--limit", "1"]);
    assert_eq!(told, "1 moved\n");
    assert_eq!(place.json(&["list", "ready"])["id"], dead[0]);
}

#[test]
fn a_server_is_not_what_is_backed_up() {
    let place = skip_unless!(Place::redis());
    let copy = place.folder.path().join("copy");
    let why = place.run(&["backup", copy.to_str().unwrap()]).ill(1);
    assert_eq!(why, "error: the redis broker does not support backups\n");
    assert!(!copy.exists());
}
