//! The file: of another program, of a newer version, not to be written to; and a copy of it.

use crate::place::{Place, document, finish};
use std::path::Path;

fn foreign(file: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(file).unwrap();
    connection
        .execute_batch("CREATE TABLE orders (id)")
        .unwrap();
    connection
}

#[test]
fn a_database_of_another_program_is_made_a_queue_only_if_that_is_said() {
    let place = Place::new();
    let connection = foreign(&place.file());
    let why = place.run_with(&["enqueue", "mail"], "1").ill(1);
    assert!(
        why.contains("another program") && why.contains("--create"),
        "{why}"
    );
    let tables = "SELECT count(*) FROM sqlite_master";
    let tables: u64 = connection.query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
    drop(connection);
    place.enqueue(&["mail", "--create"], "1");
    // From then on there is a queue in it.
    place.enqueue(&["mail"], "1");
    assert_eq!(place.count("ready"), 2);
}

#[test]
fn a_missing_folder_is_named() {
    let place = Place::new();
    let missing = place.folder.path().join("no");
    let file = missing.join("such").join("jobs.db");
    for args in [&["stats"][..], &["enqueue", "mail"], &["pause"]] {
        let mut command = Place::command();
        let mut child = command
            .arg("--queue")
            .arg(&file)
            .args(args)
            .spawn()
            .unwrap();
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"1");
        let why = finish(child).ill(1);
        let says = format!("there is no folder {}\n", missing.display());
        assert!(why.ends_with(&says), "{why}");
    }
    assert_eq!(place.files(), 0);
}

#[test]
fn tables_of_a_newer_version_are_told_as_that() {
    let place = Place::with_queue();
    let connection = rusqlite::Connection::open(place.file()).unwrap();
    connection
        .execute_batch("UPDATE anthill_schema SET version = version + 1")
        .unwrap();
    for args in [&["stats"][..], &["enqueue", "mail"]] {
        let why = place.run_with(args, "1").ill(1);
        assert!(why.contains("newer"), "{why}");
        assert!(!why.contains("damaged:"), "{why}");
    }
}

#[test]
fn a_queue_of_an_address_that_is_none_is_not_made() {
    let place = Place::with_queue();
    for query in ["?a&x=y", "?queue=a&x=y", "?queue=a%20b", "?queue="] {
        for args in [&["stats"][..], &["enqueue", "mail"]] {
            let mut command = Place::command();
            let address = format!("sqlite:{}{query}", place.file().display());
            let mut child = command
                .args(["--queue", &address])
                .args(args)
                .spawn()
                .unwrap();
            let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"1");
            let why = finish(child).ill(1);
            assert!(why.contains("not the address of a queue"), "{query}: {why}");
        }
    }
}

#[test]
fn a_backup_is_a_queue_and_overwrites_nothing() {
    let place = Place::with_queue();
    place.enqueue_some(3);
    let copy = place.folder.path().join("copy.db");
    let path = copy.to_str().unwrap();
    let told = place.text(&["backup", path]);
    let bytes = copy.metadata().unwrap().len();
    assert_eq!(told, format!("{bytes} bytes\n"));
    place.enqueue_some(1);
    let mut command = Place::command();
    let child = command.args(["--queue", path, "--json", "stats"]).spawn();
    let stats = finish(child.unwrap()).well();
    assert_eq!(document(&stats)["ready"], 3);
    let why = place.run(&["backup", path]).ill(1);
    assert!(why.contains("copy.db") && why.contains("exists"), "{why}");
}

/// Who may read the files, and not write to them; as another user where this one may do all.
#[cfg(unix)]
#[test]
fn who_may_only_read_can_look_and_is_told_that_he_can_do_no_more() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    let place = Place::with_queue();
    place.enqueue_some(2);
    let id = place.enqueue(&["mail"], "1");
    let program = tempfile::tempdir().unwrap();
    let copy = program.path().join("anthill-jobs");
    std::fs::copy(env!("CARGO_BIN_EXE_anthill-jobs"), &copy).unwrap();
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(program.path(), 0o755);
    for entry in place.folder.path().read_dir().unwrap() {
        allow(&entry.unwrap().path(), 0o444);
    }
    allow(place.folder.path(), 0o555);
    let run = |args: &[&str]| {
        let mut command = Place::command();
        let mut reader = std::process::Command::new(&copy);
        // SAFETY: it takes nothing.
        let command = if unsafe { libc::getuid() } == 0 {
            reader
                .env_remove("ANTHILL_QUEUE")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .uid(65_534)
                .gid(65_534)
        } else {
            &mut command
        };
        let child = command.arg("--queue").arg(place.file()).args(args).spawn();
        finish(child.unwrap())
    };
    assert_eq!(document(&run(&["--json", "stats"]).well())["ready"], 3);
    assert_eq!(run(&["list", "ready"]).well().lines().count(), 1 + 3);
    assert_eq!(run(&["dead"]).well(), "");
    assert!(run(&["show", &id]).well().contains("mail"));
    run(&["limits"]).well();
    let backup = place.folder.path().join("backup.db");
    let why = run(&["backup", backup.to_str().unwrap()]).ill(1);
    assert!(why.contains("cannot create"), "{why}");
    for args in [
        &["pause"][..],
        &["cancel", &id],
        &["purge", "ready", "--yes"],
        &["limits", "--running", "3"],
        &["retry", "--all"],
    ] {
        let why = run(args).ill(1);
        assert!(why.contains("is read-only"), "{args:?}: {why}");
    }
    allow(place.folder.path(), 0o755);
}
