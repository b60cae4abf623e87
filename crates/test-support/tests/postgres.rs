//! Private Postgres servers: real ones, really killed.
#![cfg(unix)]

use anthill_test_support::missing::{self, Missing};
use anthill_test_support::postgres::{self, Access, Fsync, Options, Server};
use anthill_test_support::{eventually, run_to_end, set_alarm, skip_unless};
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

/// What a server's process does not notice anything else in.
const ENDLESS: &str = "DO $$ BEGIN LOOP END LOOP; END $$";

/// Not a test by itself: what the others start as a process.
#[test]
fn child() {
    match std::env::var("ANTHILL_CHILD").as_deref() {
        Ok("start") => {
            let server = Server::start(Fsync::Off).unwrap();
            // One in mid-query is the last to notice that the rest is gone.
            let _ = server.sql("postgres", ENDLESS);
        }
        Ok("start and kill") => {
            let server = Server::start(Fsync::Off).unwrap();
            server.kill();
            fs::write(server.socket_folder().join("killed"), "").unwrap();
            std::thread::sleep(LONG);
        }
        Ok("shared") => {
            let shared = postgres::shared().unwrap();
            println!("folder {}", shared.socket_folder().display());
        }
        Ok("skip") => {
            let _ = skip_unless!(Server::start(Fsync::Off));
            unreachable!("there is no Postgres");
        }
        Ok("no namespaces") => missing::skip(&Missing::permission("no namespaces")),
        _ => {}
    }
}

fn child_command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("ANTHILL_CHILD", role);
    command
}

/// The pids of the processes of the server with this folder.
fn processes_of(folder: &Path) -> Vec<u32> {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let (postmaster, other) = (
        format!("\0cluster_name={name}\0"),
        format!("postgres: {name}: "),
    );
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains(&postmaster) || line.starts_with(&other)
    })
    .collect()
}

/// Whether the server with this folder runs an [`ENDLESS`] statement.
fn is_busy(folder: &Path) -> bool {
    processes_of(folder).iter().any(|pid| {
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&title).contains(") DO")
    })
}

/// The segment of shared memory that a server with this folder has now.
fn segment_of(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("data/postmaster.pid")).ok()?;
    let id = text.lines().nth(6)?.split_whitespace().nth(1)?;
    Some(id.to_owned())
}

fn segment_exists(id: &str) -> bool {
    let list = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    list.lines()
        .any(|line| line.split_whitespace().nth(1) == Some(id))
}

#[track_caller]
fn nothing_is_left_of(folder: &Path, segment: Option<&str>) {
    eventually("the folder is gone", || !folder.exists());
    // Which goes last: a server without files would end by itself some time.
    assert_eq!(processes_of(folder), []);
    if let Some(segment) = segment {
        assert!(!segment_exists(segment), "the shared memory is there");
    }
}

/// A client in the middle of a transaction, whose standard input takes statements.
fn open_transaction(server: &Access, database: &str) -> Child {
    let mut client = Command::new("psql")
        .args(["-Xq", "-d", &server.url_of(database)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = b"BEGIN; INSERT INTO t VALUES (2);\n";
    client.stdin.as_mut().unwrap().write_all(begin).unwrap();
    eventually("the transaction has written", || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
        server.sql(database, open).unwrap() == "1"
    });
    client
}

#[test]
fn what_is_committed_survives_a_kill_and_what_is_not_does_not() {
    set_alarm();
    for fsync in [Fsync::On, Fsync::Off] {
        let server = skip_unless!(Server::start(fsync));
        let told = server.sql("postgres", "SHOW fsync").unwrap();
        assert_eq!(told, if fsync == Fsync::On { "on" } else { "off" });
        server
            .sql(
                "postgres",
                "CREATE TABLE t (n int); INSERT INTO t VALUES (1)",
            )
            .unwrap();
        let mut client = open_transaction(&server, "postgres");
        let endless = format!("{ENDLESS};\n");
        let statements = client.stdin.as_mut().unwrap();
        statements.write_all(endless.as_bytes()).unwrap();
        eventually("the endless statement runs", || {
            is_busy(server.socket_folder())
        });
        let before = processes_of(server.socket_folder());
        assert!(before.len() > 3, "{before:?}");
        let address = server.address();

        server.kill();
        assert_eq!(processes_of(server.socket_folder()), []);
        assert!(!server.is_running());
        assert!(TcpStream::connect(address).is_err());
        let _ = client.kill();
        let _ = client.wait();

        server.start_again();
        assert!(server.is_running());
        assert_eq!(server.address(), address);
        assert_eq!(server.sql("postgres", "SELECT n FROM t").unwrap(), "1");
        assert!(server.log().contains("was not properly shut down"));
    }
}

#[test]
fn a_restart_keeps_address_and_data_and_ends_connections() {
    set_alarm();
    let server = skip_unless!(Server::start(Fsync::Off));
    server.sql("postgres", "CREATE TABLE t (n int)").unwrap();
    let mut client = open_transaction(&server, "postgres");
    let address = server.address();
    server.restart();
    assert_eq!(server.address(), address);
    assert_eq!(
        server.sql("postgres", "SELECT count(*) FROM t").unwrap(),
        "0"
    );
    assert!(!server.log().contains("was not properly shut down"));
    client.stdin = None;
    assert!(client.wait().is_ok());

    server.stop();
    server.stop();
    server.kill();
    assert!(!server.is_running());
    server.start_again();
    assert!(server.sql("postgres", "SELECT 1").is_ok());
}

#[test]
fn a_dropped_server_leaves_nothing() {
    set_alarm();
    for end in [|_: &Server| (), Server::kill, Server::stop] {
        let server = skip_unless!(Server::start(Fsync::Off));
        let folder = server.socket_folder().to_owned();
        let segment = segment_of(&folder).unwrap();
        assert!(segment_exists(&segment));
        end(&server);
        drop(server);
        // At once, and not only when this process ends.
        assert_eq!(processes_of(&folder), []);
        assert!(!folder.exists());
        assert!(!segment_exists(&segment));
    }
}

/// A process that starts a server, and the server's folder.
fn process_with_a_server(role: &str) -> (Child, PathBuf) {
    let process = child_command(role)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let name = format!("pg-{}-", process.id());
    let parent = parent_of_all();
    let mut found = None;
    eventually("the server has a folder", || {
        let entries = fs::read_dir(&parent).into_iter().flatten().flatten();
        found = entries.map(|entry| entry.path()).find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&name)
        });
        found.is_some()
    });
    (process, found.unwrap())
}

/// The folder that holds those of all servers.
fn parent_of_all() -> PathBuf {
    let folder = postgres::shared().unwrap().socket_folder();
    folder.parent().unwrap().to_owned()
}

/// Whether the server with that folder has come so far.
type Moment = fn(&Path) -> bool;

#[test]
fn a_process_that_is_killed_leaves_no_server_at_whatever_moment() {
    set_alarm();
    skip_unless!(postgres::shared());
    let moments: [(&str, &str, Moment); 5] = [
        ("start", "it has a folder", |_| true),
        ("start", "its postmaster starts", |folder| {
            folder.join("data/postmaster.pid").exists()
        }),
        ("start", "it has written its log", |folder| {
            fs::metadata(folder.join("log")).is_ok_and(|log| log.len() > 0)
        }),
        ("start", "a statement runs", is_busy),
        ("start and kill", "the server is killed", |folder| {
            folder.join("killed").exists()
        }),
    ];
    for (role, what, moment) in moments {
        let (mut process, folder) = process_with_a_server(role);
        eventually(what, || moment(&folder));
        let segment = segment_of(&folder);
        process.kill().unwrap();
        process.wait().unwrap();
        nothing_is_left_of(&folder, segment.as_deref());
    }
}

#[test]
fn the_shared_server_ends_with_its_process() {
    set_alarm();
    skip_unless!(postgres::shared());
    let output = run_to_end(&mut child_command("shared"), LONG);
    assert!(output.success, "{}", output.text);
    let (_, told) = output.text.split_once("folder ").unwrap();
    let folder = Path::new(told.lines().next().unwrap());
    nothing_is_left_of(folder, None);
}

#[test]
fn the_shared_server_is_one_and_its_databases_are_apart() {
    set_alarm();
    let shared = skip_unless!(postgres::shared());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let shared = postgres::shared().unwrap();
                let database = shared.fresh_database();
                shared.sql(&database, "CREATE TABLE t (n int)").unwrap();
                (shared.address(), database)
            })
        })
        .collect();
    let mut databases = Vec::new();
    for thread in threads {
        let (address, database) = thread.join().unwrap();
        assert_eq!(address, shared.address());
        databases.push(database);
    }
    databases.sort_unstable();
    databases.dedup();
    assert_eq!(databases.len(), 4);
}

#[test]
fn servers_side_by_side_are_apart() {
    set_alarm();
    skip_unless!(postgres::shared());
    let servers: Vec<_> = (0..2)
        .map(|_| std::thread::spawn(|| Server::start(Fsync::Off).unwrap()))
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_ne!(servers[0].address(), servers[1].address());
    servers[0]
        .sql("postgres", "CREATE TABLE t (n int)")
        .unwrap();
    assert!(servers[1].sql("postgres", "TABLE t").is_err());
    servers[0].kill();
    assert!(servers[1].sql("postgres", "SELECT 1").is_ok());
}

#[test]
fn options_reach_the_server() {
    set_alarm();
    let other = Ipv4Addr::new(127, 0, 0, 2);
    let options = Options::new(Fsync::Off)
        .listen(other.into())
        .set("max_connections", "7");
    let server = skip_unless!(options.start());
    assert_eq!(server.sql("postgres", "SHOW max_connections").unwrap(), "7");
    assert!(TcpStream::connect((other, server.address().port())).is_ok());
    server.restart();
    assert_eq!(server.sql("postgres", "SHOW max_connections").unwrap(), "7");
}

#[test]
fn nobody_enters_over_tcp_without_the_password() {
    set_alarm();
    let shared = skip_unless!(postgres::shared());
    let wrong = shared.url().replace(shared.password(), "guessed");
    let told = run_to_end(Command::new("psql").args(["-c", "SELECT 1", &wrong]), LONG);
    assert!(!told.success);
    assert!(
        told.text.contains("password authentication failed"),
        "{}",
        told.text
    );
    let mode = fs::metadata(shared.socket_folder()).unwrap().mode();
    assert_eq!(mode & 0o077, 0, "others can enter the folder of the socket");
}

#[test]
fn a_statement_that_fails_says_why() {
    set_alarm();
    let shared = skip_unless!(postgres::shared());
    let told = shared
        .sql("postgres", "SELECT 1; SELECT nonsense")
        .unwrap_err();
    assert!(told.contains("nonsense"), "{told}");
    let quiet = "DO $$ BEGIN RAISE WARNING 'w'; END $$; SELECT 1, 2";
    assert_eq!(shared.sql("postgres", quiet).unwrap(), "1|2");
}

#[test]
fn what_is_missing_is_skipped_loudly_and_never_in_ci() {
    set_alarm();
    let without = |ci: &str| {
        let mut command = child_command("skip");
        command
            .env("ANTHILL_POSTGRES_BIN", "/nonexistent")
            .env("CI", ci);
        run_to_end(&mut command, LONG)
    };
    let here = without("");
    assert!(here.success, "{}", here.text);
    let line = here
        .text
        .lines()
        .find(|line| line.starts_with("SKIPPED child: "));
    let line = line.unwrap_or_else(|| panic!("no loud skip:\n{}", here.text));
    assert!(
        line.contains("no Postgres") && line.contains(".ci/services install"),
        "{line}"
    );

    let in_ci = without("true");
    assert!(!in_ci.success, "{}", in_ci.text);
    assert!(
        in_ci.text.contains("must not be skipped where CI=true"),
        "{}",
        in_ci.text
    );

    let permission = run_to_end(child_command("no namespaces").env("CI", "true"), LONG);
    assert!(permission.success, "{}", permission.text);
    assert!(permission.text.contains("SKIPPED child: no namespaces"));
}
