//! The example `resumable_digests`: killed half-way and started again it goes on where it stopped, and what it tells in
//! the end is complete and right.
#![cfg(all(feature = "sqlite", unix))]

use anthill_jobs::Queue;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FILES: usize = 1_500;

#[test]
fn killed_half_way_it_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    let mut wanted = plant(&tree);
    wanted.sort();
    let queue = folder.path().join("jobs.db");
    let mut done = 0;
    for _ in 0..3 {
        let mut run = command(&tree, &queue)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        done = wait_for_more(&queue, done);
        run.kill().unwrap();
        run.wait().unwrap();
    }
    assert!(
        done < FILES as u64,
        "it was too quick to be killed half-way"
    );
    let output = command(&tree, &queue)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("continuing: "), "{said}");
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told, wanted);
    // And from the start again, as if nothing had been.
    let again = command(&tree, &queue).output().unwrap();
    assert_eq!(
        String::from_utf8(again.stdout).unwrap().lines().count(),
        FILES
    );
    assert_eq!(again.stderr, b"");
}

/// Until more are done than before; how many.
fn wait_for_more(queue: &Path, before: u64) -> u64 {
    let queue = Queue::open(&format!("sqlite:{}", queue.display())).unwrap();
    let start = Instant::now();
    loop {
        let done = queue.stats().unwrap().results;
        if done > before {
            return done;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it gets on");
    }
}

/// Files that take long enough that their reader can be killed, and the lines that are to come.
fn plant(tree: &Path) -> Vec<String> {
    fs::create_dir(tree).unwrap();
    let plant = |n: usize| {
        let path = tree.join(format!("file {n}"));
        let data = vec![u8::try_from(n % 251).unwrap(); 10_000 + n];
        fs::write(&path, &data).unwrap();
        let hash = Sha256::digest(&data);
        format!("{hash:x}  {}", path.display())
    };
    (0..FILES).map(plant).collect()
}

fn command(tree: &Path, queue: &Path) -> Command {
    let mut command = Command::new(example());
    command.arg(tree).arg(queue);
    command
}

/// Where cargo puts examples, beside this test; built here if only this test was asked for.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let example = profile.join("examples/resumable_digests");
    if !example.exists() {
        let release = profile.ends_with("release").then_some("--release");
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--features",
                "sqlite",
                "--example",
                "resumable_digests",
            ])
            .args(release)
            .status();
        assert!(built.unwrap().success());
    }
    example
}
