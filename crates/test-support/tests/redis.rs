//! Private Redis servers: real ones, really killed.
#![cfg(unix)]

use anthill_test_support::missing::{self, Missing};
use anthill_test_support::redis::{self, Options, Persistence, Server, Value};
use anthill_test_support::{eventually, run_to_end, set_alarm, skip_unless};
use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

/// A script that ends only with the server.
const ENDLESS: &str = "redis.call('SET', 'endless', 1) while true do end";

/// Not a test by itself: what the others start as a process.
#[test]
fn child() {
    match std::env::var("ANTHILL_CHILD").as_deref() {
        Ok("start") => {
            let server = Server::start(Persistence::AofAlways).unwrap();
            // One that runs a script does not hear of anything else, not even of a signal.
            let _ = server
                .raw()
                .call(&[b"EVAL", ENDLESS.as_bytes(), b"1", b"endless"]);
            std::thread::sleep(LONG);
        }
        Ok("start and kill") => {
            let server = Server::start(Persistence::Off).unwrap();
            server.kill();
            fs::write(server.data_folder().join("killed"), "").unwrap();
            std::thread::sleep(LONG);
        }
        Ok("fork") => {
            let options = Options::new(Persistence::Snapshots);
            let server = saving_slowly(options).unwrap();
            assert!(server.is_running());
            std::thread::sleep(LONG);
        }
        Ok("shared") => {
            let shared = redis::shared().unwrap();
            println!("folder {}", shared.socket().parent().unwrap().display());
        }
        Ok("skip") => {
            let _ = skip_unless!(Server::start(Persistence::Off));
            unreachable!("there is no Redis");
        }
        Ok("no namespaces") => missing::skip(&Missing::permission("no namespaces")),
        _ => {}
    }
}

/// A server whose child writes a snapshot for some minutes.
fn saving_slowly(options: Options) -> Result<Server, Missing> {
    let server = options.set("rdb-key-save-delay", "1000000").start()?;
    let mut raw = server.raw();
    for key in 0..200 {
        raw.run(&["SET", &key.to_string(), "1"]);
    }
    raw.run(&["BGSAVE"]);
    Ok(server)
}

fn child_command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("ANTHILL_CHILD", role);
    command
}

fn folder_of(server: &Server) -> PathBuf {
    server.data_folder().parent().unwrap().to_owned()
}

/// The pids of the processes of the server with this folder.
fn processes_of(folder: &Path) -> Vec<u32> {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let file = format!("{name}/redis.conf");
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&file)
    })
    .collect()
}

#[track_caller]
fn nothing_is_left_of(folder: &Path) {
    eventually("the folder is gone", || !folder.exists());
    // Which goes last.
    assert_eq!(processes_of(folder), []);
}

#[test]
fn what_is_written_is_there_after_a_kill_as_the_persistence_says() {
    set_alarm();
    let all = [
        (Persistence::Off, false),
        (Persistence::AofAlways, true),
        (Persistence::AofEverysec, true),
        (Persistence::AofNo, true),
        (Persistence::Snapshots, false),
    ];
    for (persistence, stays) in all {
        let server = skip_unless!(Server::start(persistence));
        let pid = server.pid().unwrap();
        let address = server.address();
        let mut raw = server.raw();
        for number in 0..100 {
            raw.run(&["RPUSH", "list", &number.to_string()]);
        }
        server.kill();
        assert_eq!(processes_of(&folder_of(&server)), []);
        assert!(!server.is_running() && server.pid().is_none());
        assert!(TcpStream::connect(address).is_err());
        assert!(raw.call(&[b"PING"]).is_err());

        server.start_again();
        assert!(server.is_running() && server.pid() != Some(pid));
        assert_eq!(server.address(), address);
        let length = server.raw().run(&["LLEN", "list"]).integer();
        assert_eq!(length, if stays { 100 } else { 0 }, "{persistence:?}");
    }
}

#[test]
fn a_restart_keeps_address_and_data_and_ends_connections() {
    set_alarm();
    let server = skip_unless!(Server::start(Persistence::Snapshots));
    let mut raw = server.raw();
    raw.run(&["SET", "a", "1"]);
    // Beside a snapshot that somebody else takes.
    raw.run(&["BGSAVE"]);
    let address = server.address();
    server.restart();
    assert_eq!(server.address(), address);
    assert!(raw.call(&[b"PING"]).is_err());
    assert_eq!(server.raw().run(&["GET", "a"]).text(), "1");

    server.pause();
    server.stop();
    server.stop();
    server.kill();
    assert!(!server.is_running());
    server.start_again();
    assert_eq!(server.raw().run(&["GET", "a"]).text(), "1");
}

#[test]
fn a_stop_waits_until_the_server_can_end() {
    set_alarm();
    let options = Options::new(Persistence::Off).set("rdb-key-save-delay", "3000");
    let server = skip_unless!(options.start());
    let mut raw = server.raw();
    for key in 0..100 {
        raw.run(&["SET", &key.to_string(), "1"]);
    }
    // Until all of them are written it refuses to.
    raw.run(&["CONFIG", "SET", "appendonly", "yes"]);
    server.stop();
    assert!(!server.is_running());
    assert!(server.log().contains("Writing initial AOF, can't exit"));
}

#[test]
fn an_emptied_server_has_nothing_and_keeps_its_address() {
    set_alarm();
    for persistence in [Persistence::AofAlways, Persistence::Snapshots] {
        let server = skip_unless!(Server::start(persistence));
        let address = server.address();
        server.raw().run(&["SET", "a", "1"]);
        server.restart();
        assert_eq!(server.raw().run(&["DBSIZE"]).integer(), 1);
        server.empty();
        assert_eq!(server.address(), address);
        assert_eq!(server.raw().run(&["DBSIZE"]).integer(), 0);
    }
}

#[test]
fn a_paused_server_answers_when_it_goes_on() {
    set_alarm();
    let server = skip_unless!(Server::start(Persistence::Off));
    let mut raw = server.raw();
    server.pause();
    raw.set_limit(Duration::from_millis(50));
    raw.send(&[b"INCR", b"a"]).unwrap();
    let told = raw.receive().unwrap_err();
    assert!(matches!(
        told.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    assert!(server.is_running());
    server.resume();
    raw.set_limit(LONG);
    assert_eq!(raw.receive().unwrap(), Value::Integer(1));
    // A paused one is killed as well.
    server.pause();
    server.kill();
    server.start_again();
}

#[test]
fn a_dropped_server_leaves_nothing() {
    set_alarm();
    for end in [|_: &Server| (), Server::kill, Server::stop, Server::pause] {
        let options = Options::new(Persistence::AofEverysec);
        let server = skip_unless!(saving_slowly(options));
        let folder = folder_of(&server);
        eventually("a child writes", || processes_of(&folder).len() == 2);
        end(&server);
        drop(server);
        // At once, and not only when this process ends.
        assert_eq!(processes_of(&folder), []);
        assert!(!folder.exists());
    }
}

/// A process that starts a server, and the server's folder.
fn process_with_a_server(role: &str) -> (Child, PathBuf) {
    let process = child_command(role)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let name = format!("redis-{}-", process.id());
    let shared = redis::shared().unwrap().socket().parent().unwrap();
    let parent = shared.parent().unwrap();
    let mut found = None;
    eventually("the server has a folder", || {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
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

/// Whether the server with that folder has come so far.
type Moment = fn(&Path) -> bool;

#[test]
fn a_process_that_is_killed_leaves_no_server_at_whatever_moment() {
    set_alarm();
    skip_unless!(redis::shared());
    let moments: [(&str, &str, Moment); 6] = [
        ("start", "it has a folder", |_| true),
        ("start", "its process starts", |folder| {
            !processes_of(folder).is_empty()
        }),
        ("start", "it has written its log", |folder| {
            fs::metadata(folder.join("log")).is_ok_and(|log| log.len() > 0)
        }),
        ("start", "it listens", |folder| {
            UnixStream::connect(folder.join("socket")).is_ok()
        }),
        ("fork", "a child writes", |folder| {
            processes_of(folder).len() == 2
        }),
        ("start and kill", "the server is killed", |folder| {
            folder.join("data/killed").exists()
        }),
    ];
    for (role, what, moment) in moments {
        let (mut process, folder) = process_with_a_server(role);
        eventually(what, || moment(&folder));
        process.kill().unwrap();
        process.wait().unwrap();
        nothing_is_left_of(&folder);
    }
}

#[test]
fn the_shared_server_is_one_and_ends_with_its_process() {
    set_alarm();
    let shared = skip_unless!(redis::shared());
    assert_eq!(redis::shared().unwrap().address(), shared.address());
    let output = run_to_end(&mut child_command("shared"), LONG);
    assert!(output.success, "{}", output.text);
    let (_, told) = output.text.split_once("folder ").unwrap();
    nothing_is_left_of(Path::new(told.lines().next().unwrap()));
}

#[test]
fn servers_side_by_side_are_apart() {
    set_alarm();
    skip_unless!(redis::shared());
    let servers: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(|| Server::start(Persistence::Off).unwrap()))
        .map(|thread| thread.join().unwrap())
        .collect();
    servers[0].raw().run(&["SET", "a", "1"]);
    for other in &servers[1..] {
        assert_ne!(other.address(), servers[0].address());
        assert_eq!(other.raw().run(&["GET", "a"]), Value::Nil);
    }
    servers[0].kill();
    assert_eq!(servers[1].raw().run(&["PING"]).text(), "PONG");
}

#[test]
#[should_panic(expected = "Redis does not start")]
fn a_server_that_does_not_start_is_no_skip() {
    set_alarm();
    let options = Options::new(Persistence::Off).set("no-such-setting", "1");
    if let Err(missing) = options.start() {
        missing::skip(&missing);
        panic!("Redis does not start: there is none");
    }
}

#[test]
fn what_is_missing_is_skipped_loudly_and_never_in_ci() {
    set_alarm();
    let without = |ci: &str| {
        let mut command = child_command("skip");
        command
            .env("ANTHILL_REDIS_BIN", "/nonexistent")
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
        line.contains("no Redis") && line.contains(".ci/services install"),
        "{line}"
    );

    let in_ci = without("true");
    assert!(!in_ci.success, "{}", in_ci.text);
    assert!(
        in_ci.text.contains("must not be skipped where CI=true"),
        "{}",
        in_ci.text
    );
}
