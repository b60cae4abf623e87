//! `.ci/services`, in a copy of its own: it keeps what it started beside itself.
#![cfg(unix)]

use anthill_test_support::postgres;
use anthill_test_support::{ChildOutput, run_to_end, set_alarm, skip_unless};
use std::fs::{self, File};
use std::io::Read;
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

    /// The folder of the server that it started.
    fn started(&self) -> Option<PathBuf> {
        let state = fs::read_to_string(self.0.join("target/services/postgres")).ok()?;
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
fn a_server_is_started_once_and_stopped() {
    set_alarm();
    skip_unless!(postgres::shared());
    let copy = Copy::new("start");
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
        printed(&mut copy.command(&["start"])),
        line,
        "another server"
    );
    let folder = copy.started().unwrap();
    assert!(folder.join("data").exists());

    let mut log = File::open(folder.join("log")).unwrap();

    assert!(copy.run(&["stop"]).success);
    // Without its files it would end as well, some time.
    let mut told = String::new();
    log.read_to_string(&mut told).unwrap();
    assert!(told.contains("database system is shut down"), "{told}");
    assert!(!folder.exists());
    assert_eq!(copy.started(), None);
    let query = run_to_end(Command::new("psql").args(["-Atc", "SELECT 1", url]), LONG);
    assert!(!query.success);
    assert!(copy.run(&["stop"]).success);
}

#[test]
fn each_service_is_told_in_one_line() {
    set_alarm();
    let copy = Copy::new("check");
    if postgres::shared().is_ok() {
        let found = printed(&mut copy.command(&["check", "postgres"]));
        assert!(
            found.starts_with("postgres: postgres (PostgreSQL) "),
            "{found}"
        );
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    let all = run_to_end(&mut copy.command(&["check"]), LONG);
    let names = all.text.trim().lines().map(|line| line.split(':').next());
    let names: Vec<_> = names.collect();
    assert_eq!(names, [Some("postgres"), Some("pgbouncer")], "{}", all.text);
    if all.success {
        assert_eq!(
            printed(&mut copy.command(&["install"])).trim(),
            all.text.trim()
        );
    }
    let none = |arguments: &[&str]| {
        let mut command = copy.command(arguments);
        command.env("ANTHILL_POSTGRES_BIN", "/nonexistent");
        run_to_end(&mut command, LONG)
    };
    for arguments in [&["check", "postgres"][..], &["start"]] {
        let missing = none(arguments);
        assert!(!missing.success, "{arguments:?}");
        let text = missing.text.trim();
        assert!(text.starts_with("postgres: MISSING"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert!(!copy.run(&["start", "sqs"]).success);
    assert!(!copy.run(&[]).success);
}
