//! Histories of several processes in one file.
#![cfg(unix)]

use anthill_test_support::history::{self, Accepted, Recorder, What};
use anthill_test_support::{eventually, set_alarm};
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Not a test by itself: a process that records until it is killed.
#[test]
fn child() {
    let Ok(file) = std::env::var("ANTHILL_HISTORY") else {
        return;
    };
    let recorder = Recorder::append_to(file, std::env::var("ANTHILL_NAME").unwrap()).unwrap();
    // Not for ever, should nobody be left to kill it.
    for number in 0..100_000 {
        let job = format!("{number} {}", "x".repeat(number % 300));
        recorder.record(What::Enqueueing { job });
    }
}

fn start(file: &Path, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--test-threads=1"])
        .env("ANTHILL_HISTORY", file)
        .env("ANTHILL_NAME", name)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A file that is removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("anthill-history-{}-{test}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |found| found.len())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn processes_that_are_killed_leave_whole_histories_in_one_file() {
    set_alarm();
    let file = Scratch::new("killed");
    let mut torn = 0;
    for life in 0..2 {
        let names: Vec<_> = (0..3)
            .map(|process| format!("{process} of {life}"))
            .collect();
        let before = history::now();
        let processes: Vec<_> = names.iter().map(|name| start(&file.0, name)).collect();
        let has_all = |names: &[String]| {
            let told = fs::read_to_string(&file.0).unwrap_or_default();
            let mark = |name: &String| format!(" {} ", name.replace(' ', "%20"));
            names.iter().all(|name| told.contains(&mark(name)))
        };
        eventually("each has recorded", || has_all(&names));
        let size = file.size();
        eventually("all go on", || file.size() > size + 20_000);
        for mut process in processes {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        let after = history::now();

        let told = history::read([&file.0]).unwrap();
        let mut counted: HashMap<&str, usize> = HashMap::new();
        let mut last = 0;
        for event in &told.events {
            assert!(last <= event.at, "not in the order of time");
            last = event.at;
            if !names.contains(&event.by) {
                continue;
            }
            // One clock for all processes.
            assert!((before..=after).contains(&event.at));
            let next = counted.entry(&event.by).or_default();
            let job = format!("{next} {}", "x".repeat(*next % 300));
            assert_eq!(
                event.what,
                What::Enqueueing { job },
                "a gap of {}",
                event.by
            );
            *next += 1;
        }
        assert_eq!(counted.len(), 3);
        torn = told.torn;
    }
    eprintln!("{torn} lines were torn by 6 kills");
}

#[test]
fn what_a_process_left_in_the_middle_of_a_write_says_nothing() {
    let file = Scratch::new("torn");
    let record = |by: &str, job: &str| {
        let recorder = Recorder::append_to(&file.0, by).unwrap();
        let job = job.to_owned();
        recorder.record(What::Enqueued {
            job,
            answer: Accepted::Yes,
        });
    };
    record("a", "1");
    let whole = fs::read_to_string(&file.0).unwrap();
    for length in 1..whole.len() {
        let torn = &whole[..length];
        fs::write(&file.0, &whole).unwrap();
        let mut open = OpenOptions::new().append(true).open(&file.0).unwrap();
        open.write_all(torn.as_bytes()).unwrap();
        record("b", "2");
        let told = history::read([&file.0]).unwrap();
        let names: Vec<_> = told.events.iter().map(|event| event.by.as_str()).collect();
        assert_eq!(names, ["a", "b"], "{torn:?}");
        assert_eq!(told.torn, usize::from(length > 1), "{torn:?}");
    }
}

#[test]
fn files_are_merged_and_what_is_no_history_is_refused() {
    let (one, two, none) = (
        Scratch::new("one"),
        Scratch::new("two"),
        Scratch::new("none"),
    );
    let recorders = [(&one, "a"), (&two, "b"), (&one, "c")];
    for (file, by) in recorders {
        Recorder::append_to(&file.0, by)
            .unwrap()
            .record(What::Drained);
    }
    let told = history::read([&two.0, &none.0, &one.0]).unwrap();
    let names: Vec<_> = told.events.iter().map(|event| event.by.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);

    fs::write(&two.0, "\n12 c nonsense .").unwrap();
    let refused = history::read([&one.0, &two.0]).unwrap_err();
    assert!(
        refused.contains("nonsense") && refused.contains("anthill-history"),
        "{refused}"
    );
    assert!(history::read([std::env::temp_dir()]).is_err());
}
