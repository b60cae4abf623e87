//! The example `digest` on real trees: its lines are those of GNU `sha256sum`, whatever the names and
//! whichever engine; what it cannot read costs a line on standard error and exit code 1 and nothing
//! else; and neither memory nor open files grow with the tree.
//!
//! Linux alone, for its file names of any bytes and its `/proc`.
#![cfg(all(target_os = "linux", not(anthill_loom), not(miri)))]

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

const ENGINES: [&str; 3] = ["anthill", "rayon", "threads"];

/// Far more than any run here takes; one that hangs is killed then, and fails its test.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn lines_are_those_of_sha256sum_on_any_engine() {
    let tree = tempdir();
    plant(tree.path());
    let expected = expected_lines(tree.path());
    if let Some(theirs) = lines_of_gnu_sha256sum(tree.path()) {
        assert_eq!(without_carriage_returns(&expected), theirs);
    }
    for engine in ENGINES {
        for capacity in ["1", "2", "9"] {
            let run = digest(
                &["--engine", engine, "--capacity", capacity],
                &[tree.path()],
            );
            assert_eq!(run.lines(), expected, "{engine}, {capacity} at once");
            assert_eq!(run.code, Some(0), "{}", run.stderr);
            assert_eq!(run.number("files"), expected.len() as u64);
            assert_eq!(run.number("bytes"), bytes_under(tree.path()));
            assert_eq!(run.number("failed"), 0);
            let peak = run.number("peak workers");
            assert!(
                (1..=capacity.parse().unwrap()).contains(&peak),
                "{}",
                run.stderr
            );
            assert!(run.number("threads started") >= peak);
        }
    }
}

#[test]
fn without_arguments_it_reads_the_current_folder_with_all_engines_alike() {
    let tree = tempdir();
    plant(tree.path());
    let expected: Vec<_> = expected_lines(Path::new(tree.path()))
        .into_iter()
        .map(|line| replace(&line, tree.path().as_os_str().as_bytes(), b"."))
        .collect();
    let run = finish(start(command().current_dir(tree.path())));
    assert_eq!(run.lines(), sorted(expected));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn a_pool_tells_its_stats_and_a_pipe_gets_no_progress() {
    let tree = tempdir();
    plant(tree.path());
    for engine in ENGINES {
        let run = digest(&["--engine", engine], &[tree.path()]);
        assert_eq!(
            run.stderr.contains("Stats {"),
            engine == "anthill",
            "{}",
            run.stderr
        );
        assert!(!run.stderr.contains(['\r', '\x1b']), "{:?}", run.stderr);
    }
}

#[test]
fn links_and_special_files_are_counted_and_not_opened() {
    let tree = tempdir();
    let root = tree.path();
    write(&root.join("file"), b"content");
    fs::create_dir(root.join("folder")).unwrap();
    write(&root.join("folder/inner"), b"more");
    symlink("file", root.join("link to a file")).unwrap();
    symlink("folder", root.join("link to a folder")).unwrap();
    symlink("..", root.join("folder/link that makes a loop")).unwrap();
    symlink("nowhere", root.join("link to nothing")).unwrap();
    // To open it would block: nobody ever writes there.
    make_fifo(&root.join("fifo"));
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    let expected = expected_lines(root);
    assert_eq!(expected.len(), 2);
    for engine in ENGINES {
        let run = digest(&["--engine", engine], &[root]);
        assert_eq!(run.lines(), expected);
        assert_eq!(run.number("links passed over"), 4);
        assert_eq!(run.number("special files passed over"), 2);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
    }
}

#[test]
fn what_the_command_line_names_is_followed_if_a_link_and_passed_over_if_special() {
    let tree = tempdir();
    let root = tree.path();
    fs::create_dir(root.join("folder")).unwrap();
    write(&root.join("folder/inner"), b"content");
    symlink("folder", root.join("link to a folder")).unwrap();
    symlink("folder/inner", root.join("link to a file")).unwrap();
    make_fifo(&root.join("fifo"));
    let named =
        ["link to a folder", "link to a file", "fifo", "/dev/null"].map(|name| root.join(name));
    let expected = [
        root.join("link to a folder/inner"),
        root.join("link to a file"),
    ];
    let run = digest(&[], &named);
    assert_eq!(
        run.lines(),
        sorted(expected.iter().map(|path| line_of(path)).collect())
    );
    assert_eq!(run.number("special files passed over"), 2);
    assert_eq!(run.code, Some(0), "{}", run.stderr);

    let dangling = root.join("link to nothing");
    symlink("nowhere", &dangling).unwrap();
    let run = digest(&[], &[&dangling]);
    assert_eq!(
        run.failures(),
        [failure(&dangling, "No such file or directory")]
    );
    assert_eq!(run.code, Some(1));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_done() {
    let tree = tempdir();
    let root = tree.path();
    plant(root);
    let missing = root.join("missing\nin two lines");
    // A regular file to all appearances, which opens, and whose first byte nobody can read.
    let unreadable = PathBuf::from("/proc/self/mem");
    // The superuser can read this one; what is expected is what this process sees itself.
    let locked = root.join("locked");
    fs::create_dir(&locked).unwrap();
    write(&locked.join("in it"), b"secret");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();

    let mut failures = vec![
        failure(&missing, "No such file or directory"),
        failure(&unreadable, "Input/output error"),
    ];
    if fs::read_dir(&locked).is_err() {
        failures.push(failure(&locked, "Permission denied"));
    }
    failures.sort();
    let expected = expected_lines(root);
    for engine in ENGINES {
        let run = digest(&["--engine", engine], &[&missing, root, &unreadable]);
        assert_eq!(run.lines(), expected);
        assert_eq!(run.failures(), failures);
        assert_eq!(run.number("failed"), failures.len() as u64);
        assert_eq!(run.code, Some(1), "{engine}");
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn what_vanishes_half_way_is_told_and_is_no_panic() {
    const FOLDERS: usize = 40;
    const FILES: usize = 50;
    for engine in ENGINES {
        let tree = tempdir();
        let root = tree.path().join("root");
        for folder in 0..FOLDERS {
            let folder = root.join(folder.to_string());
            fs::create_dir_all(&folder).unwrap();
            for file in 0..FILES {
                write(&folder.join(format!("{file:0>200}")), b"");
            }
        }
        let mut running = start(command().args(["--engine", engine]).arg(&root));
        // With the first byte it has read the names of all folders; and it cannot have gone far,
        // since its lines are many times what the pipe and its buffer hold.
        let mut first = [0];
        running.stdout().read_exact(&mut first).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let run = finish(running);
        let lines = run.lines().len();
        assert!(
            lines < FOLDERS * FILES / 2,
            "{engine}: it waited for its reader"
        );
        assert_eq!(run.number("files"), lines as u64);
        let failures = run.failures();
        assert!(failures.len() > FOLDERS / 4, "{engine}: {failures:?}");
        for failure in failures {
            assert!(failure.contains(": No such file or directory"), "{failure}");
        }
        assert_eq!(run.code, Some(1), "{engine}");
    }
}

#[test]
fn a_path_too_long_for_the_system_is_told_and_the_rest_is_done() {
    let tree = tempdir();
    let root = tree.path().join("root");
    // Two halves, each short enough to be made; moved under each other they are too long to be named.
    let upper = root.join(long_path(14));
    let lower = tree.path().join("lower");
    fs::create_dir_all(&upper).unwrap();
    write(&upper.join("still to be named"), b"content");
    fs::create_dir_all(lower.join(long_path(4))).unwrap();
    fs::rename(&lower, upper.join("lower")).unwrap();
    for engine in ENGINES {
        let run = digest(&["--engine", engine], &[&root]);
        assert_eq!(run.lines(), [line_of(&upper.join("still to be named"))]);
        let failures = run.failures();
        assert_eq!(failures.len(), 1);
        assert!(failures[0].contains(": File name too long"), "{failures:?}");
        assert_eq!(run.code, Some(1), "{engine}");
    }
}

#[test]
fn deep_trees_do_not_use_up_the_open_files() {
    const CHAINS: usize = 40;
    const DEPTH: usize = 100;
    let tree = tempdir();
    for chain in 0..CHAINS {
        let mut folder = tree.path().join(chain.to_string());
        for _ in 0..DEPTH {
            folder.push("d");
            fs::create_dir_all(&folder).unwrap();
            write(&folder.join("f"), b"");
        }
    }
    for engine in ENGINES {
        let mut limited = Command::new("sh");
        limited
            .args(["-c", "ulimit -n 300 && exec \"$0\" \"$@\""])
            .arg(example());
        limited
            .args(["--engine", engine, "--capacity", "4"])
            .arg(tree.path());
        let run = finish(start(&mut limited));
        assert_eq!(run.failures(), [""; 0], "{engine}");
        assert_eq!(run.number("files"), (CHAINS * DEPTH) as u64);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
    }
}

/// Names are so long that to hold those of one folder, even without their paths, would take more than
/// is allowed.
#[test]
fn memory_does_not_grow_with_the_number_of_files_or_folders() {
    const FEW: usize = 200;
    const MANY: usize = 6_000;
    const ALLOWED_KIB: u64 = 2 * 1024;
    let tree = tempdir();
    let folder = |name: &str| tree.path().join(name).join(long_path(8));
    for (name, count) in [("few", FEW), ("many", MANY)] {
        let folder = folder(name);
        for n in 0..count {
            let inner = folder.join(format!("folder{n:0>240}"));
            fs::create_dir_all(&inner).unwrap();
            write(&inner.join("f"), b"");
            write(&folder.join(format!("file{n:0>240}")), b"");
        }
    }
    for engine in ENGINES {
        let few = peak_memory_kib(engine, &folder("few"), 2 * FEW);
        let many = peak_memory_kib(engine, &folder("many"), 2 * MANY);
        assert!(
            many < few + ALLOWED_KIB,
            "{engine}: {few} KiB for few, {many} KiB for many"
        );
    }
}

/// Reads the lines slowly enough that the program still lives when the figure is taken.
fn peak_memory_kib(engine: &str, root: &Path, files: usize) -> u64 {
    let options = ["--engine", engine, "--capacity", "2"];
    let mut running = start(command().args(options).arg(root));
    let pid = running.child.id();
    let mut lines = BufReader::new(running.child.stdout.take().unwrap()).split(b'\n');
    // What is left then is more than the pipe holds: a program that waits for its reader is not done.
    let last = 200;
    let read = lines.by_ref().take(files - last).flatten().count();
    assert_eq!(read, files - last);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert_eq!(lines.flatten().count(), last);
    let run = finish(running);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak
        .expect("the program lives")
        .trim()
        .trim_end_matches(" kB");
    peak.parse().unwrap()
}

#[test]
fn a_reader_that_goes_away_ends_it_at_once_and_in_silence() {
    let tree = tempdir();
    // Holes only, but to hash it would take minutes.
    let huge = tree.path().join("huge");
    File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    let small = tree.path().join("small");
    fs::create_dir(&small).unwrap();
    for file in 0..3_000 {
        write(&small.join(format!("{file:0>200}")), b"");
    }
    for engine in ENGINES {
        let mut running = start(
            command()
                .args(["--engine", engine, "--capacity", "3"])
                .args([&huge, &small]),
        );
        let mut first = [0];
        running.stdout().read_exact(&mut first).unwrap();
        drop(running.child.stdout.take());
        let run = finish(running);
        assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{engine}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    let tree = tempdir();
    write(&tree.path().join("file"), b"content");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut child = command()
        .arg(tree.path())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(
        stderr.starts_with("digest: standard output: No space left"),
        "{stderr}"
    );
}

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_read() {
    for (arguments, reason) in [
        (&["--capacity", "0"][..], "paused"),
        (&["--capacity", "many"], "--capacity"),
        (&["--engine", "steam"], "--engine"),
    ] {
        let run = digest(arguments, &[Path::new("/dev/null")]);
        assert_eq!(run.code, Some(2), "{arguments:?}");
        assert!(run.stderr.contains(reason), "{}", run.stderr);
        assert_eq!(run.stdout, b"");
    }
}

// The trees.

fn tempdir() -> TempDir {
    tempfile::Builder::new()
        .prefix("anthill-digest-")
        .tempdir()
        .unwrap()
}

/// A tree with every kind of name, and files of sizes around those of blocks and buffers.
fn plant(root: &Path) {
    let odd: [&[u8]; 12] = [
        b"new\nline",
        b"back\\slash",
        b"carriage\rreturn",
        b"all\\of\nthem\r",
        b"\\",
        b"-leading dash",
        b" leading and trailing ",
        b"not UTF-8: \xff\xfe\x80",
        "Gr\u{fc}\u{df}e \u{1f41c}".as_bytes(),
        b"*",
        b"tab\tand \x07",
        b"'\"$HOME\"'",
    ];
    for name in odd {
        let name = OsStr::from_bytes(name);
        write(&root.join(name), name.as_bytes());
        let mut folder = name.to_os_string().into_vec();
        folder.extend(b".d");
        let folder = root.join(OsStr::from_bytes(&folder));
        fs::create_dir(&folder).unwrap();
        write(&folder.join(name), b"in a folder");
    }
    for size in [
        0, 1, 55, 56, 63, 64, 65, 4095, 4096, 131_071, 131_072, 131_073, 1_000_000,
    ] {
        let bytes: Vec<u8> = (0..size)
            .map(|n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        write(&root.join(format!("{size} bytes")), &bytes);
    }
    fs::create_dir_all(root.join("a/b/c/empty")).unwrap();
    for n in 0..500 {
        write(&root.join(format!("a/b/{n}")), n.to_string().as_bytes());
        let folder = root.join(format!("a/b/c/{n}"));
        fs::create_dir(&folder).unwrap();
        write(&folder.join("x"), n.to_string().as_bytes());
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

/// That many names of the greatest length.
fn long_path(names: usize) -> PathBuf {
    vec!["x".repeat(255); names].into_iter().collect()
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

// What is expected of it.

/// The regular files below `folder`, as far as this process can see them.
fn files_under(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.append(&mut files_under(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

fn bytes_under(folder: &Path) -> u64 {
    files_under(folder)
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .sum()
}

fn expected_lines(root: &Path) -> Vec<Vec<u8>> {
    sorted(files_under(root).iter().map(|path| line_of(path)).collect())
}

fn line_of(path: &Path) -> Vec<u8> {
    let name = path.as_os_str().as_bytes();
    let escaped = replace(
        &replace(&replace(name, b"\\", b"\\\\"), b"\n", b"\\n"),
        b"\r",
        b"\\r",
    );
    let mark = if escaped == name { "" } else { "\\" };
    let mut line = format!("{mark}{:x}  ", Sha256::digest(fs::read(path).unwrap())).into_bytes();
    line.extend(escaped);
    line
}

/// What the real one prints, if there is one here. Before 9.0 it did not escape carriage returns.
fn lines_of_gnu_sha256sum(root: &Path) -> Option<Vec<Vec<u8>>> {
    let version = Command::new("sha256sum").arg("--version").output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains("GNU coreutils") {
        return None;
    }
    let mut files = files_under(root);
    files.retain(|path| !path.as_os_str().as_bytes().contains(&b'\r'));
    let output = Command::new("sha256sum")
        .arg("--")
        .args(files)
        .output()
        .unwrap();
    assert!(output.status.success());
    Some(split_lines(&output.stdout))
}

fn without_carriage_returns(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let has_none = |line: &&Vec<u8>| !line.windows(2).any(|pair| pair == b"\\r");
    lines.iter().filter(has_none).cloned().collect()
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(from) {
            result.extend(to);
            rest = after;
        } else {
            result.push(rest[0]);
            rest = &rest[1..];
        }
    }
    result
}

fn split_lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    assert!(
        bytes.is_empty() || bytes.ends_with(b"\n"),
        "the last line is whole"
    );
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    sorted(lines.map(|line| line[..line.len() - 1].to_vec()).collect())
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

fn failure(path: &Path, reason: &str) -> String {
    let name = String::from_utf8(path.as_os_str().as_bytes().to_vec()).unwrap();
    format!("digest: {}: {reason}", name.replace('\n', "\\n"))
}

// The program.

/// Where cargo puts examples, beside this test; built here if only this test was asked for.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let test = env::current_exe().unwrap();
        let profile = test
            .ancestors()
            .nth(2)
            .expect("<target>/<profile>/deps/<test>");
        let example = profile.join("examples/digest");
        if !example.exists() {
            let name = match profile.file_name().and_then(OsStr::to_str) {
                Some("debug") => "dev",
                Some(name) => name,
                None => panic!("no profile in {}", test.display()),
            };
            let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let built = Command::new(cargo)
                .args([
                    "build",
                    "--quiet",
                    "--example",
                    "digest",
                    "--profile",
                    name,
                    "--target-dir",
                ])
                .arg(profile.parent().unwrap())
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status();
            assert!(
                built.is_ok_and(|status| status.success()),
                "build the example `digest` first"
            );
        }
        example
    })
}

fn command() -> Command {
    Command::new(example())
}

fn digest(options: &[&str], paths: &[impl AsRef<OsStr>]) -> Run {
    finish(start(command().args(options).args(paths)))
}

struct Running {
    child: Child,
    /// Whoever waits at the other end kills the child if this lives too long.
    alive: Sender<()>,
}

impl Running {
    fn stdout(&mut self) -> &mut impl Read {
        self.child.stdout.as_mut().unwrap()
    }
}

struct Run {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Run {
    fn lines(&self) -> Vec<Vec<u8>> {
        split_lines(&self.stdout)
    }

    /// A figure out of the summary.
    fn number(&self, name: &str) -> u64 {
        let values = self
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let values: Vec<_> = values.collect();
        assert_eq!(values.len(), 1, "{name:?} in {}", self.stderr);
        values[0].parse().unwrap()
    }

    /// The lines about what could not be read, without the number of the error.
    fn failures(&self) -> Vec<String> {
        let lines = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("digest: "));
        sorted(
            lines
                .map(|line| line.split(" (os error").next().unwrap_or(line).to_owned())
                .collect(),
        )
    }
}

fn start(command: &mut Command) -> Running {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let (alive, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        if ended.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    });
    Running { child, alive }
}

fn finish(running: Running) -> Run {
    let output = running.child.wait_with_output().unwrap();
    drop(running.alive);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked at"), "{stderr}");
    Run {
        code: output.status.code(),
        stdout: output.stdout,
        stderr,
    }
}
