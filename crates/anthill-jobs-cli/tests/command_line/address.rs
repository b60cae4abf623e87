//! Which queue: who only looks makes none.

use crate::place::{Place, document, finish};
use anthill_jobs::JobId;
use std::io::Write;

#[test]
fn a_file_that_is_not_there_is_an_error_and_is_not_made() {
    let place = Place::new();
    let id = JobId::new().to_string();
    for args in [
        &["stats"][..],
        &["stats", "--watch"],
        &["list", "ready"],
        &["dead"],
        &["show", &id],
        &["retry", &id],
        &["retry", "--all"],
        &["delete", "--all-dead"],
        &["cancel", &id],
        &["purge", "dead", "--yes"],
        &["pause"],
        &["resume"],
        &["limits"],
        &["retention"],
        &["retention", "--done", "1d"],
        &["consumers"],
        &["capabilities"],
        &["cancel", "--running", &id],
        &["kinds"],
        &["run-now", &id],
        &["move", "?queue=other"],
        &["--json", "stats"],
    ] {
        let run = place.run(args);
        assert_eq!(run.out, "", "{args:?}");
        assert!(run.ill(1).contains("there is no queue in"), "{args:?}");
    }
    assert_eq!(place.files(), 0);
    place.enqueue(&["mail"], "{}");
    assert_eq!(place.count("ready"), 1);
}

#[test]
fn neither_does_a_look_make_a_queue_in_a_file_of_others() {
    let place = Place::new();
    let file = place.file();
    std::fs::write(&file, "").unwrap();
    assert!(place.run(&["stats"]).ill(1).contains("it is empty"));
    assert_eq!(std::fs::read(&file).unwrap(), b"");

    let connection = rusqlite::Connection::open(&file).unwrap();
    connection
        .execute_batch("CREATE TABLE orders (id)")
        .unwrap();
    assert!(
        place
            .run(&["stats"])
            .ill(1)
            .contains("there is no queue in")
    );
    let tables = "SELECT count(*) FROM sqlite_master";
    let tables: u64 = connection.query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);

    std::fs::write(
        place.folder.path().join("text"),
        "not a database, but of some length",
    )
    .unwrap();
    let mut command = Place::command();
    command.arg("--queue").arg(place.folder.path().join("text"));
    let run = finish(command.arg("stats").spawn().unwrap());
    assert!(run.ill(1).contains("not a database"));
}

#[test]
fn a_name_that_no_queue_has_is_an_error_too() {
    let place = Place::with_queue();
    let named = |name: &str, args: &[&str], input: &str| {
        let address = format!("sqlite:{}?queue={name}", place.file().display());
        let mut command = Place::command();
        let mut child = command
            .args(["--queue", &address])
            .args(args)
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        finish(child)
    };
    let why = named("mail", &["stats"], "").ill(1);
    assert!(
        why.contains("there is no queue \"mail\" in") && why.contains("default"),
        "{why}"
    );
    named("mail", &["enqueue", "letter"], "1").well();
    let stats = named("mail", &["stats", "--json"], "").well();
    assert_eq!(document(&stats)["ready"], 1);
    assert_eq!(place.count("ready"), 0);
}

#[test]
fn the_address_comes_from_the_environment_where_no_option_says_it() {
    let place = Place::with_queue();
    let mut command = Place::command();
    command.env("ANTHILL_QUEUE", place.file()).arg("stats");
    finish(command.spawn().unwrap()).well();
    command.args(["--queue", "nowhere.db"]);
    assert!(
        finish(command.spawn().unwrap())
            .ill(1)
            .contains("nowhere.db")
    );

    let mut command = Place::command();
    let why = finish(command.arg("stats").spawn().unwrap()).ill(2);
    assert!(why.contains("ANTHILL_QUEUE"), "{why}");
}

#[test]
fn addresses_of_other_engines_are_told_from_files() {
    for (address, why) in [
        ("mysql://localhost", "known schemes: "),
        ("sqlite+x:jobs.db", "known schemes: "),
        #[cfg(not(feature = "redis"))]
        ("redis://:secret@a", "without the feature `redis`"),
        #[cfg(not(feature = "redis"))]
        ("valkey+unix:///a", "without the feature `redis`"),
        #[cfg(not(feature = "postgres"))]
        (
            "postgres://me:secret@db/a",
            "without the feature `postgres`",
        ),
        ("memory:", "and to no other"),
        ("sqlite:", "it names no file"),
        ("sqlite:jobs.db?name=mail", "only ?queue=NAME may follow"),
        ("", "it names no file"),
    ] {
        for args in [&["stats"][..], &["enqueue", "mail"]] {
            let mut command = Place::command();
            let mut child = command
                .args(["--queue", address])
                .args(args)
                .spawn()
                .unwrap();
            let _ = child.stdin.take().unwrap().write_all(b"1");
            let told = finish(child).ill(1);
            assert!(told.contains(why), "{address}: {told}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_told_from_an_error() {
    let place = Place::with_queue();
    let id = JobId::new().to_string();
    for args in [
        &[][..],
        &["nonsense"],
        &["list", "somewhere"],
        &["list", "ready", "--limit", "0"],
        &["show", "7"],
        &["retry"],
        &["retry", "--all", &id],
        &["delete"],
        &["delete", "--all-dead", &id],
        &["cancel"],
        &["purge"],
        &["purge", "running"],
        &["stats", "--watch", "0"],
        &["enqueue"],
        &["enqueue", ""],
        &["enqueue", "mail", "--delay", "-1"],
        &["enqueue", "mail", "--delay", "soon"],
        &["enqueue", "mail", "--delay", "inf"],
        &["enqueue", "mail", "--priority", "40000"],
        &["enqueue", "mail", "--retries", "-1"],
        &["enqueue", "mail", "--id", "7"],
        &["enqueue", "mail", "--lines", "--id", &id],
        &["enqueue", "mail", "--lines", "--unique", "key"],
        &["enqueue", "mail", "--once-per", "key"],
        &["enqueue", "mail", "--once-per", "/3"],
        &["enqueue", "mail", "--once-per", "key/soon"],
        &["enqueue", "mail", "--once-per", "key/3", "--lines"],
        &["enqueue", "mail", "--debounce", "key"],
        &[
            "enqueue",
            "mail",
            "--debounce",
            "key",
            "--delay",
            "3",
            "--unique",
            "key",
        ],
        &["enqueue", "mail", "--keep-result", "soon"],
        &["limits", "--ready", "many"],
        &["limits", "--ready", "9223372036854775808"],
        &["run-now"],
        &["move"],
        &["move", "other.db", "--from-state", "running"],
        &["move", "other.db", "--limit", "0"],
        &["limits", "--running", "0"],
        &["limits", "--running", "many"],
        &["limits", "--per-key", "-3"],
        &["limits", "--rate", "10"],
        &["limits", "--rate", "0/1"],
        &["limits", "--rate", "1/0"],
        &["limits", "--rate", "1/1e30"],
        &["limits", "--rate", "1/1/0"],
        &["limits", "--rate", "1/1/1/1"],
        &["retention", "--done", "soon"],
        &["retention", "--dead", "-1"],
        &["enqueue", "mail", "--header", "name"],
        &["enqueue", "mail", "--header", "=value"],
        &["cancel", "--running"],
    ] {
        let run = place.run(args);
        assert_eq!((run.code, &*run.out), (Some(2), ""), "{args:?}: {run:?}");
    }
    assert_eq!(place.count("enqueued"), 0);
    assert!(place.text(&["--help"]).contains("Exit codes"));
    assert!(place.text(&["--version"]).starts_with("anthill-jobs 0"));
}
