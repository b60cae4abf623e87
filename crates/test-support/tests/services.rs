//! `.ci/services`, in a copy of its own: it keeps what it started beside itself.
#![cfg(unix)]

use anthill_test_support::redis::Raw;
use anthill_test_support::{ChildOutput, postgres, redis, run_to_end, set_alarm, skip_unless};
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

/// A folder with a copy of the script; what it started is stopped when it is dropped.
struct Copy(PathBuf);

impl Copy {
    fn new(test: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("anthill-services-{}-{test}", std::process::id()));
        fs::create_dir_all(folder.join(".ci")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/services");
        fs::copy(script, folder.join(".ci/services")).unwrap();
        Self(folder)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0.join(".ci/services"));
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> ChildOutput {
        run_to_end(&mut self.command(arguments), LONG)
    }

    /// The folder of the server of that service that it started.
    fn started(&self, service: &str) -> Option<PathBuf> {
        let state = self.0.join("target/services").join(service);
        let state = fs::read_to_string(state).ok()?;
        state.lines().next().map(PathBuf::from)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.run(&["stop"]);
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the script prints on its standard output alone.
fn printed(command: &mut Command) -> String {
    let output = command.stderr(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_postgres_is_started_once_and_stopped() {
    set_alarm();
    skip_unless!(postgres::shared());
    let copy = Copy::new("postgres");
    let line = printed(&mut copy.command(&["start", "postgres"]));
    let url = line.strip_prefix("DATABASE_URL=").unwrap().trim_end();
    assert!(
        url.starts_with("postgres://") && !url.contains('\n'),
        "{line}"
    );
    let query = run_to_end(Command::new("psql").args(["-Atc", "SELECT 6*7", url]), LONG);
    assert!(
        query.success && query.text.starts_with("42\n"),
        "{}",
        query.text
    );

    assert_eq!(
        printed(&mut copy.command(&["start", "postgres"])),
        line,
        "another server"
    );
    let folder = copy.started("postgres").unwrap();
    assert!(folder.join("data").exists());

    let mut log = File::open(folder.join("log")).unwrap();

    assert!(copy.run(&["stop"]).success);
    // Without its files it would end as well, some time.
    let mut told = String::new();
    log.read_to_string(&mut told).unwrap();
    assert!(told.contains("database system is shut down"), "{told}");
    assert!(!folder.exists());
    assert_eq!(copy.started("postgres"), None);
    let query = run_to_end(Command::new("psql").args(["-Atc", "SELECT 1", url]), LONG);
    assert!(!query.success);
    assert!(copy.run(&["stop"]).success);
}

#[test]
fn a_redis_is_started_once_and_stopped() {
    set_alarm();
    skip_unless!(redis::shared());
    let copy = Copy::new("redis");
    let line = printed(&mut copy.command(&["start", "redis"]));
    let url = line.trim_end().strip_prefix("REDIS_URL=redis://:").unwrap();
    let (password, address) = url.strip_suffix('/').unwrap().split_once('@').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    assert_ne!(address.port(), 6379, "the system's own server");
    let mut raw = Raw::connect(address).unwrap();
    assert!(raw.call(&[b"SET", b"a", b"1"]).unwrap().is_error());
    raw.run(&["AUTH", password]);
    raw.run(&["SET", "a", "1"]);

    let again = printed(&mut copy.command(&["start", "redis"]));
    assert_eq!(again, line, "another server");
    assert_eq!(raw.run(&["GET", "a"]).text(), "1");
    let folder = copy.started("redis").unwrap();
    let mut log = File::open(folder.join("log")).unwrap();
    // The folder and what is in it is of this user alone; the password is in both.
    for file in [&folder, &folder.join("redis.conf")] {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o077, 0, "{file:?}");
    }

    assert!(copy.run(&["stop"]).success);
    assert!(raw.call(&[b"PING"]).is_err());
    let mut told = String::new();
    log.read_to_string(&mut told).unwrap();
    assert!(told.contains("Redis is now ready to exit"), "{told}");
    assert!(!folder.exists());
    assert_eq!(copy.started("redis"), None);
    assert!(Raw::connect(address).is_err());
    assert!(copy.run(&["stop"]).success);
}

#[test]
fn a_redis_that_was_killed_is_started_anew() {
    set_alarm();
    skip_unless!(redis::shared());
    let copy = Copy::new("killed");
    printed(&mut copy.command(&["start", "redis"]));
    let folder = copy.started("redis").unwrap();
    let pid = fs::read_to_string(folder.join("pid")).unwrap();
    let killed = Command::new("kill").args(["-KILL", pid.trim()]).status();
    assert!(killed.unwrap().success());
    // Its pid may be another process's by now, which is left alone.
    fs::write(folder.join("pid"), std::process::id().to_string()).unwrap();
    printed(&mut copy.command(&["start", "redis"]));
    assert_ne!(copy.started("redis").unwrap(), folder);
    assert!(!folder.exists());
}

#[test]
fn all_services_are_started_in_one_line_each() {
    set_alarm();
    skip_unless!(postgres::shared());
    skip_unless!(redis::shared());
    let copy = Copy::new("all");
    let script = "export $(.ci/services start) && echo \"$DATABASE_URL $REDIS_URL\"";
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(&copy.0);
    let told = printed(&mut command);
    let (first, second) = told.trim_end().split_once(' ').unwrap();
    assert!(first.starts_with("postgres://") && !first.contains('\n'));
    assert!(second.starts_with("redis://") && second.ends_with('/'));
    assert!(copy.run(&["stop"]).success);
    assert_eq!(
        (copy.started("postgres"), copy.started("redis")),
        (None, None)
    );
}

#[test]
fn each_service_is_told_in_one_line() {
    set_alarm();
    let copy = Copy::new("check");
    let services = [
        (
            "postgres",
            "postgres (PostgreSQL) ",
            postgres::shared().is_ok(),
        ),
        ("redis", "", redis::shared().is_ok()),
    ];
    for (service, version, is_there) in services {
        if is_there {
            let found = printed(&mut copy.command(&["check", service]));
            let expected = format!("{service}: {version}");
            assert!(found.starts_with(&expected), "{found}");
            assert!(!found.contains("MISSING"), "{found}");
            assert_eq!(found.lines().count(), 1, "{found}");
        }
    }
    let all = run_to_end(&mut copy.command(&["check"]), LONG);
    let names = all.text.trim().lines().map(|line| line.split(':').next());
    let names: Vec<_> = names.collect();
    let expected = ["postgres", "redis", "pgbouncer"].map(Some);
    assert_eq!(names, expected, "{}", all.text);
    if all.success {
        assert_eq!(
            printed(&mut copy.command(&["install"])).trim(),
            all.text.trim()
        );
    }
    for (service, ..) in services {
        for what in ["check", "start"] {
            let mut command = copy.command(&[what, service]);
            command.env("ANTHILL_POSTGRES_BIN", "/nonexistent");
            command.env("ANTHILL_REDIS_BIN", "/nonexistent");
            let missing = run_to_end(&mut command, LONG);
            assert!(!missing.success, "{what} {service}");
            let text = missing.text.trim();
            let expected = format!("{service}: MISSING");
            assert!(text.starts_with(&expected), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
    assert!(!copy.run(&["start", "sqs"]).success);
    assert!(!copy.run(&[]).success);
}
