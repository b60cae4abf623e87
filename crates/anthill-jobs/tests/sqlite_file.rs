//! The files of a queue, and what others do to them while it is in use: what is acknowledged is where others see it, or it is
//! not acknowledged.
#![cfg(all(feature = "sqlite", unix))]

use anthill_jobs::broker::{Admin, Change, LimitStore, Listener, Subscription};
use anthill_jobs::rusqlite::Connection;
use anthill_jobs::*;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

// ── the child ───────────────────────────────────────────────────────────────────────────────

/// Not a test by itself: what the others start as a process, told what to do by its environment.
#[test]
fn child() {
    let Ok(role) = std::env::var("ANTHILL_CHILD") else {
        return;
    };
    let file = std::env::var("ANTHILL_FILE").unwrap();
    match role.as_str() {
        "use" => drop(open(Path::new(&file)).stats().unwrap()),
        "use as SQLite does" => drop(ready_in(Path::new(&file))),
        "race" => race(Path::new(&file)),
        "look" => look(Path::new(&file)),
        "keep open" => {
            let _broker = open(Path::new(&file));
            std::io::stdout().write_all(b"\n> open\n").unwrap();
            // Until the parent is gone, or wants no more.
            let _ = std::io::stdin().read(&mut [0]);
        }
        _ => unreachable!("{role}"),
    }
}

fn process(role: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("ANTHILL_CHILD", role)
        .env("ANTHILL_FILE", file);
    command
}

/// Another process opens the file, reads it and closes it.
fn in_another_process(role: &str, file: &Path) {
    let output = process(role, file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A process that has the file open, until its input ends.
#[cfg(target_os = "linux")]
fn who_keeps_open(file: &Path) -> std::process::Child {
    use std::io::{BufRead, BufReader};
    let mut command = process("keep open", file);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    assert!(out.by_ref().lines().any(|line| line.unwrap() == "> open"));
    child.stdout = Some(out.into_inner());
    child
}

/// What anyone sees who opens the file now.
fn ready_in(file: &Path) -> u64 {
    let connection = Connection::open(file).unwrap();
    let ready = "SELECT ready FROM anthill_queues WHERE name = 'default'";
    connection.query_row(ready, [], |row| row.get(0)).unwrap()
}

// ── what is there ───────────────────────────────────────────────────────────────────────────

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.at("jobs.db")
    }

    fn log(&self) -> PathBuf {
        self.at("jobs.db-wal")
    }

    fn index(&self) -> PathBuf {
        self.at("jobs.db-shm")
    }
}

fn open(file: &Path) -> SqliteBroker {
    SqliteBroker::open(file, "default", Clock::system()).unwrap()
}

fn enqueue(broker: &SqliteBroker) -> Result<(), QueueError> {
    let job = NewJob::new("kind", b"{}".to_vec());
    broker.enqueue(&[job]).map(drop)
}

/// What the broker calls: because of a change by another process after so long.
fn listen(broker: &SqliteBroker, poll: Duration) -> (Subscription, Receiver<Change>) {
    let (send, heard) = mpsc::channel();
    let listener = Listener::new(poll, move |change| {
        let _ = send.send(change);
    });
    (broker.subscribe(listener).unwrap(), heard)
}

#[track_caller]
fn assert_detached<T: std::fmt::Debug>(end: Result<T, QueueError>, names: &Path) {
    let Err(QueueError::Detached(why)) = end else {
        panic!("{end:?}");
    };
    assert!(why.contains(&*names.to_string_lossy()), "{why}");
}

/// Whatever is asked for is refused, and goes on to be.
#[track_caller]
fn assert_all_refused(broker: &SqliteBroker, names: &Path) {
    for _ in 0..2 {
        assert_detached(enqueue(broker), names);
        assert_detached(
            broker
                .claim(&ClaimRequest::new(1, Duration::from_secs(60)))
                .map(drop),
            names,
        );
        assert_detached(broker.stats(), names);
        assert_detached(
            broker.list(&ListRequest::new(JobState::Ready).limit(1)),
            names,
        );
        assert_detached(broker.set_paused(true), names);
    }
}

// ── a copy drops the locks ──────────────────────────────────────────────────────────────────

#[test]
fn a_copy_and_a_close_by_another_queue_lose_nothing() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    std::fs::copy(place.file(), place.at("copy")).unwrap();
    in_another_process("use", &place.file());
    for _ in 0..100 {
        enqueue(&broker).unwrap();
    }
    assert_eq!(broker.stats().unwrap().ready, 101);
    // Before anything of this process has cleaned up.
    assert_eq!(ready_in(&place.file()), 101);
}

#[test]
fn a_copy_and_a_close_by_another_program_are_told_and_nothing_is_acknowledged() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    std::fs::copy(place.file(), place.at("copy")).unwrap();
    in_another_process("use as SQLite does", &place.file());
    assert!(
        !place.log().exists(),
        "the other one took itself for the last"
    );
    assert_detached(enqueue(&broker), &place.index());
    assert_all_refused(&broker, &place.index());
    // Even while the one that failed is there.
    let again = open(&place.file());
    assert_eq!(again.stats().unwrap().enqueued, 1);
    enqueue(&again).unwrap();
    drop(broker);
    enqueue(&again).unwrap();
    assert_eq!(ready_in(&place.file()), 3);
}

#[test]
fn whatever_is_done_after_a_copy_takes_the_lock_again() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    let acts: [fn(&SqliteBroker); 4] = [
        |broker| enqueue(broker).unwrap(),
        |broker| assert!(broker.stats().is_ok()),
        |broker| {
            // Its own look for what others did.
            let (_ears, heard) = listen(broker, Duration::from_millis(1));
            heard.recv_timeout(LONG).unwrap();
        },
        |broker| broker.set_paused(false).unwrap(),
    ];
    for act in acts {
        std::fs::copy(place.file(), place.at("copy")).unwrap();
        act(&broker);
        in_another_process("use as SQLite does", &place.file());
        enqueue(&broker).unwrap();
    }
    in_another_process("use as SQLite does", &place.file());
    assert_eq!(ready_in(&place.file()), 6);
}

/// Enqueues until it is told that it cannot, or has often enough, and copies the file now and then.
fn race(file: &Path) {
    let broker = open(file);
    let enqueue_some = |thread: u32| {
        let mut acknowledged = 0;
        while acknowledged < 100 {
            match enqueue(&broker) {
                Ok(()) => acknowledged += 1,
                Err(QueueError::Detached(_)) => break,
                Err(error) => panic!("{error:?}"),
            }
            if acknowledged % 10 == thread {
                std::fs::copy(file, file.with_extension(thread.to_string())).unwrap();
            }
        }
        acknowledged
    };
    let acknowledged: u32 = std::thread::scope(|scope| {
        let enqueue_some = &enqueue_some;
        let start = |thread| scope.spawn(move || enqueue_some(thread));
        let threads: Vec<_> = (0..4).map(start).collect();
        let all = threads.into_iter().map(|thread| thread.join().unwrap());
        all.sum()
    });
    println!("\n> acknowledged {acknowledged}");
    // Nothing is cleaned up.
    std::process::abort();
}

#[test]
fn copies_and_closes_at_any_moment_lose_nothing_that_was_acknowledged() {
    for _ in 0..8 {
        let place = Place::new();
        drop(open(&place.file()));
        let mut command = process("race", &place.file());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let ended = std::thread::spawn(move || child.wait_with_output().unwrap());
        while !ended.is_finished() {
            ready_in(&place.file());
        }
        let out = String::from_utf8(ended.join().unwrap().stdout).unwrap();
        let told = out
            .lines()
            .find_map(|line| line.strip_prefix("> acknowledged "));
        let acknowledged: u64 = told.expect(&out).parse().unwrap();
        let there = ready_in(&place.file());
        println!("{acknowledged} of 400 acknowledged, {there} there");
        assert!(there >= acknowledged);
    }
}

#[test]
fn who_only_looks_is_told_too_and_can_look_anew() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    assert_eq!(broker.stats().unwrap().ready, 1);
    std::fs::copy(place.file(), place.at("copy")).unwrap();
    in_another_process("use as SQLite does", &place.file());
    assert_detached(broker.stats(), &place.index());
    assert_eq!(open(&place.file()).stats().unwrap().ready, 1);
}

// ── somebody takes a file away ──────────────────────────────────────────────────────────────

#[test]
fn a_file_that_is_deleted_is_told() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    for file in [place.file(), place.log(), place.index()] {
        std::fs::remove_file(file).unwrap();
    }
    assert_all_refused(&broker, &place.file());
    // What is made in its place is another queue, which the old one leaves alone.
    let again = open(&place.file());
    enqueue(&again).unwrap();
    drop(broker);
    enqueue(&again).unwrap();
    assert_eq!(ready_in(&place.file()), 2);
}

#[test]
fn a_file_that_is_moved_is_told_and_not_touched() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    let moved = place.at("moved.db");
    std::fs::rename(place.file(), &moved).unwrap();
    let log = std::fs::read(place.log()).unwrap();
    assert!(!log.is_empty());
    assert_all_refused(&broker, &place.file());
    drop(broker);
    // Nor is the log written back to a file that others know by another name.
    assert_eq!(std::fs::read(place.log()).unwrap(), log);
}

#[test]
fn a_file_that_is_replaced_is_told_and_the_new_one_is_not_touched() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    let other = Place::new();
    drop(open(&other.file()));
    let new = std::fs::read(other.file()).unwrap();
    std::fs::write(place.at("new"), &new).unwrap();
    std::fs::rename(place.at("new"), place.file()).unwrap();
    assert_all_refused(&broker, &place.file());
    drop(broker);
    assert_eq!(std::fs::read(place.file()).unwrap(), new);
}

#[test]
fn a_log_that_is_unlinked_is_told() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    std::fs::remove_file(place.log()).unwrap();
    assert_all_refused(&broker, &place.log());
}

#[test]
fn a_logs_index_that_is_unlinked_is_told() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    std::fs::remove_file(place.index()).unwrap();
    assert_all_refused(&broker, &place.index());
    drop(broker);
    assert_eq!(open(&place.file()).stats().unwrap().ready, 1);
}

#[test]
fn a_link_that_leads_elsewhere_is_told() {
    let (place, other) = (Place::new(), Place::new());
    drop(open(&other.file()));
    let link = place.at("link");
    std::os::unix::fs::symlink(place.file(), &link).unwrap();
    let broker = open(&link);
    enqueue(&broker).unwrap();
    assert!(place.log().exists(), "the log is beside the file");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(other.file(), &link).unwrap();
    assert_all_refused(&broker, &link);
    assert_eq!(ready_in(&place.file()), 1);
}

#[test]
fn a_job_in_a_transaction_of_its_owner_is_refused_too() {
    let place = Place::new();
    let broker = open(&place.file());
    let mut user = Connection::open(place.file()).unwrap();
    std::fs::remove_file(place.log()).unwrap();
    let transaction = user.transaction().unwrap();
    let job = NewJob::new("kind", b"{}".to_vec());
    assert_detached(broker.enqueue_in(&transaction, &[job]), &place.log());
}

// ── opening ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_file_with_two_names_is_refused() {
    let place = Place::new();
    drop(open(&place.file()));
    std::fs::hard_link(place.file(), place.at("name")).unwrap();
    for name in [place.file(), place.at("name")] {
        let opened = SqliteBroker::open(&name, "default", Clock::system());
        let Err(QueueError::Address { reason, .. }) = opened else {
            panic!("{opened:?}");
        };
        assert!(reason.contains("hard links"), "{reason}");
    }
    std::fs::remove_file(place.at("name")).unwrap();
    open(&place.file());
}

/// `SQLite` would go on to use the index of the old connection with the log of the new one.
#[cfg(target_os = "linux")]
#[test]
fn a_stale_index_of_another_connection_of_the_process_is_refused() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    let user = Connection::open(place.file()).unwrap();
    let count = "SELECT count(*) FROM anthill_jobs";
    let count = || user.query_row(count, [], |row| row.get::<_, u64>(0));
    assert_eq!(count().unwrap(), 1);
    std::fs::copy(place.file(), place.at("copy")).unwrap();
    in_another_process("use as SQLite does", &place.file());
    assert_detached(enqueue(&broker), &place.index());
    let opened = SqliteBroker::open(place.file(), "default", Clock::system());
    assert_detached(opened, &place.index());
    // Nor is it mended by another process, whose index is another one.
    let mut other = who_keeps_open(&place.file());
    let opened = SqliteBroker::open(place.file(), "default", Clock::system());
    assert_detached(opened, &place.index());
    drop(user);
    enqueue(&open(&place.file())).unwrap();
    assert_eq!(ready_in(&place.file()), 2);
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
}

#[test]
fn who_closes_leaves_an_empty_log() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    assert!(place.log().metadata().unwrap().len() > 0);
    drop(broker);
    assert_eq!(place.log().metadata().unwrap().len(), 0);
    assert_eq!(ready_in(&place.file()), 1);
}

// ── handles of one process ──────────────────────────────────────────────────────────────────

#[test]
fn handles_on_a_file_hear_of_each_other_without_a_look_at_it() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    let place = Place::new();
    let (one, two) = (open(&place.file()), open(&place.file()));
    let other = SqliteBroker::open(place.file(), "other", Clock::system()).unwrap();
    let heard = Arc::new(AtomicU32::new(0));
    let subscriptions = [(&two, 1), (&other, 100)].map(|(broker, by)| {
        let heard = Arc::clone(&heard);
        let hear = move |_| {
            heard.fetch_add(by, Ordering::Relaxed);
        };
        broker.subscribe(Listener::new(Duration::MAX, hear))
    });
    for times in 1..=3 {
        enqueue(&one).unwrap();
        // It was called on this thread.
        assert_eq!(heard.load(Ordering::Relaxed), times);
    }
    drop(subscriptions);
    // And those of other processes are seen as before.
    let (_ears, heard) = listen(&two, Duration::from_millis(5));
    assert_eq!(
        heard.recv_timeout(LONG),
        Ok(Change::Elsewhere),
        "the first look"
    );
    let elsewhere = Connection::open(place.file()).unwrap();
    elsewhere
        .execute_batch("UPDATE anthill_queues SET turn = turn + 1")
        .unwrap();
    assert_eq!(heard.recv_timeout(LONG), Ok(Change::Elsewhere));
}

#[test]
fn only_those_with_the_same_clock_share() {
    let place = Place::new();
    let clock = Clock::manual();
    let open = |clock: &Clock| SqliteBroker::open(place.file(), "default", clock.clone()).unwrap();
    let (one, same, other) = (open(&clock), open(&clock), open(&Clock::manual()));
    let mut job = NewJob::new("kind", b"{}".to_vec());
    job.delay = Duration::from_secs(10);
    one.enqueue(&[job]).unwrap();
    clock.advance(Duration::from_secs(10));
    assert_eq!(other.stats().unwrap().ready, 0);
    assert_eq!(same.stats().unwrap().ready, 1);
}

/// How many descriptors this process has in the folder.
#[cfg(target_os = "linux")]
fn descriptors(place: &Place) -> usize {
    let folder = place.0.path().canonicalize().unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|open| std::fs::read_link(open.path()).is_ok_and(|file| file.starts_with(&folder)))
        .count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_costs_its_descriptors_once_however_many_handles_it_has() {
    let place = Place::new();
    let mut handles = Vec::new();
    for _ in 0..10 {
        handles.push(open(&place.file()));
        enqueue(handles.last().unwrap()).unwrap();
        // The file, its log and the log's index: who never reads has no reader.
        assert_eq!(descriptors(&place), 3);
    }
    for handle in &handles {
        assert_eq!(handle.stats().unwrap().ready, 10);
        assert_eq!(descriptors(&place), 5);
    }
    let last = handles.pop().unwrap();
    drop(handles);
    enqueue(&last).unwrap();
    drop(last);
    assert_eq!(descriptors(&place), 0);
    assert_eq!(ready_in(&place.file()), 11);
}

#[test]
fn threads_that_open_and_close_all_the_time_lose_nothing() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    enqueue(&open(&place.file())).unwrap();
                }
            });
        }
    });
    assert_eq!(ready_in(&place.file()), 100);
}

// ── to look only ────────────────────────────────────────────────────────────────────────────

/// Who may read the file, and not write to it.
fn look(file: &Path) {
    let opened = SqliteBroker::open(file, "default", Clock::system());
    assert!(matches!(opened, Err(QueueError::ReadOnly(_))), "{opened:?}");
    let broker = SqliteBroker::open_read_only(file, "default", Clock::system()).unwrap();
    assert_eq!(broker.stats().unwrap().ready, 2);
    assert_eq!(
        broker
            .list(&ListRequest::new(JobState::Ready).limit(9))
            .unwrap()
            .len(),
        2
    );
    assert!(broker.limits().unwrap().running.is_none());
    let (_ears, heard) = listen(&broker, Duration::from_millis(1));
    assert_eq!(heard.recv_timeout(LONG), Ok(Change::Elsewhere));
    assert_read_only(enqueue(&broker));
    assert_read_only(broker.set_paused(true));
    let none = SqliteBroker::open_read_only(file, "another", Clock::system());
    assert!(matches!(none, Err(QueueError::Address { .. })), "{none:?}");
}

#[track_caller]
fn assert_read_only<T: std::fmt::Debug>(end: Result<T, QueueError>) {
    let Err(QueueError::ReadOnly(why)) = end else {
        panic!("{end:?}");
    };
    assert!(!why.is_empty());
}

/// Takes the right to write away from this process' children.
fn protect(place: &Place) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(place.0.path()).unwrap() {
        let mode = std::fs::Permissions::from_mode(0o444);
        std::fs::set_permissions(entry.unwrap().path(), mode).unwrap();
    }
    let mode = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(place.0.path(), mode).unwrap();
}

fn unprotect(place: &Place) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.0.path(), mode).unwrap();
}

/// As a user whom the permissions bind.
fn as_a_reader(file: &Path) -> std::process::Output {
    use std::os::unix::process::CommandExt;
    let mut command = process("look", file);
    // SAFETY: it takes nothing.
    if unsafe { libc::getuid() } == 0 {
        // Who may not even start this program.
        let copies = tempfile::tempdir().unwrap();
        let copy = copies.path().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let others = Place(copies);
        unprotect(&others);
        let mut command = Command::new(&copy);
        command
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("ANTHILL_CHILD", "look")
            .env("ANTHILL_FILE", file)
            .uid(65_534)
            .gid(65_534);
        return command.output().unwrap();
    }
    command.output().unwrap()
}

#[test]
fn who_may_only_read_can_look_while_others_use_it_and_when_nobody_does() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    enqueue(&broker).unwrap();
    protect(&place);
    let output = as_a_reader(&place.file());
    assert!(output.status.success(), "{output:?}");
    drop(broker);
    let output = as_a_reader(&place.file());
    assert!(output.status.success(), "{output:?}");
    // Where there is no log, and none can be made, that is told.
    unprotect(&place);
    std::fs::remove_file(place.log()).unwrap();
    protect(&place);
    let output = as_a_reader(&place.file());
    let text = String::from_utf8_lossy(&output.stderr);
    let says = "jobs.db-wal is missing, and cannot be created here";
    assert!(text.contains(says), "{output:?}");
    unprotect(&place);
}

#[test]
fn who_opens_it_to_look_changes_nothing_though_he_may() {
    let place = Place::new();
    let address = format!("sqlite:{}", place.file().display());
    let looked = Queue::open_read_only(&address);
    assert!(looked.is_err(), "there is none, and none is made");
    assert!(!place.file().exists());
    let broker = open(&place.file());
    let looked = Queue::open_read_only(&address).unwrap();
    enqueue(&broker).unwrap();
    assert_eq!(looked.stats().unwrap().ready, 1);
    assert_read_only(looked.pause());
    assert_read_only(looked.purge());
    assert_read_only(looked.enqueue_new(&NewJob::new("kind", b"1".to_vec())));
    let mut user = Connection::open(place.file()).unwrap();
    let transaction = user.transaction().unwrap();
    let reader = SqliteBroker::open_read_only(place.file(), "default", Clock::system()).unwrap();
    let job = NewJob::new("kind", b"1".to_vec());
    assert_read_only(reader.enqueue_in(&transaction, &[job]));
    drop(transaction);
    assert!(Queue::open_read_only("memory:").is_err());
    // He is told of files that are gone like all others.
    std::fs::remove_file(place.log()).unwrap();
    assert_detached(looked.stats(), &place.log());
}

// ── a copy that is one ──────────────────────────────────────────────────────────────────────

#[test]
fn a_backup_holds_all_and_drops_no_lock() {
    let place = Place::new();
    let broker = open(&place.file());
    enqueue(&broker).unwrap();
    let copy = place.at("copy.db");
    broker.backup(&copy).unwrap();
    in_another_process("use as SQLite does", &place.file());
    enqueue(&broker).unwrap();
    assert_eq!(ready_in(&place.file()), 2);
    let restored = open(&copy);
    assert_eq!(restored.stats().unwrap().ready, 1);
    assert_eq!(
        restored
            .claim(&ClaimRequest::new(9, LONG))
            .unwrap()
            .jobs
            .len(),
        1
    );
    // Nothing that is there is overwritten.
    let before = std::fs::read(&copy).unwrap();
    let again = broker.backup(&copy);
    assert!(matches!(again, Err(QueueError::Broker(_))), "{again:?}");
    assert_eq!(std::fs::read(&copy).unwrap(), before);
    // What is no copy does not stay.
    std::fs::remove_file(place.log()).unwrap();
    let lost = place.at("lost.db");
    assert_detached(broker.backup(&lost), &place.log());
    assert!(!lost.exists());
    assert!(Queue::memory().backup(&lost).is_err());
}

#[test]
fn a_backup_is_for_the_same_readers() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let broker = open(&place.file());
    let mode = |file: &Path| file.metadata().unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(place.file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    broker.backup(place.at("copy.db")).unwrap();
    assert_eq!(mode(&place.at("copy.db")), 0o600);
}

// ── addresses ───────────────────────────────────────────────────────────────────────────────

#[test]
fn an_address_is_taken_apart_strictly() {
    let place = Place::new();
    let address = |query: &str| format!("sqlite:{}{query}", place.file().display());
    for query in [
        "?",
        "?a",
        "?a&x=y",
        "?queue",
        "?queue=",
        "?queue=a&queue=b",
        "?queue=a&x=y",
        "?queue=a?b",
        "?queue=a=b",
        "?queue=a%20b",
        "?x=y&queue=a",
        "?Queue=a",
    ] {
        for opened in [
            Queue::open(&address(query)),
            Queue::open_read_only(&address(query)),
        ] {
            assert!(
                matches!(opened, Err(QueueError::Address { .. })),
                "{query}: {opened:?}"
            );
        }
    }
    assert!(!place.file().exists());
    let queue = Queue::open(&address("?queue=a b/ü:c")).unwrap();
    queue
        .enqueue_new(&NewJob::new("kind", b"1".to_vec()))
        .unwrap();
    let same = SqliteBroker::open(place.file(), "a b/ü:c", Clock::system()).unwrap();
    assert_eq!(same.stats().unwrap().ready, 1);
    // What no address can say, the broker's own way in takes; and nothing is a URI.
    let odd = place.at("file:a?mode=memory%20");
    enqueue(&SqliteBroker::open(&odd, "a&b=c", Clock::system()).unwrap()).unwrap();
    assert!(odd.exists());
}

#[test]
fn tables_of_a_newer_version_are_no_damage() {
    let place = Place::new();
    drop(open(&place.file()));
    let connection = Connection::open(place.file()).unwrap();
    connection
        .execute_batch("UPDATE anthill_schema SET version = version + 1")
        .unwrap();
    for opened in [
        SqliteBroker::open(place.file(), "default", Clock::system()),
        SqliteBroker::open_read_only(place.file(), "default", Clock::system()),
    ] {
        let Err(error @ QueueError::Version(_)) = opened else {
            panic!("{opened:?}");
        };
        let text = error.to_string();
        assert!(
            text.contains("newer") && !text.contains("damaged:"),
            "{text}"
        );
    }
}
