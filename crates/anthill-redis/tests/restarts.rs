//! A server that is killed, emptied, restarted or paused, or that ends connections, again and again, under a fleet that works:
//! consumers wait and go on, an enqueue fails in its time and can be repeated with the same id, and nothing is lost that the
//! server's settings promise to keep.
#![cfg(unix)]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;
mod support;

use anthill_fleet_support::checks;
use anthill_fleet_support::roles::{Parcel, say};
use anthill_fleet_support::{Fleet, LONG};
use anthill_jobs::Limits;
use anthill_jobs::broker::Retention;
use anthill_redis::RedisBroker;
use anthill_test_support::history::{Report, What, now};
use anthill_test_support::redis::{Persistence, Server, shared};
use anthill_test_support::{eventually, seeded_rng, skip_unless};
use fleet::{Own, Stage};
use rand::Rng;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::invariants::assert_hold;

/// How long a call of the fleet's may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How much longer a busy machine may take to say so.
const GRACE: Duration = Duration::from_secs(8);

/// What a server may lose with the power that writes to the disk each second.
const WINDOW: Duration = Duration::from_secs(2);

#[test]
fn child() {
    fleet::child(&[("set", set)]);
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a short time")
}

/// The server has failed, and what it answered after `since` may be undone.
fn rolled_back(stage: &Stage<'_>, since: u64) {
    stage.recorder().record(What::RolledBack { since });
}

#[test]
fn a_server_that_waits_for_the_disk_and_is_killed_loses_nothing() {
    let server = skip_unless!(Server::start(Persistence::AofAlways));
    let stage = Stage::new(&server);
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    for round in 0..5 {
        fleet.work(150);
        server.kill();
        if round == 2 {
            // For longer than a call may take.
            std::thread::sleep(TIMEOUT + Duration::from_millis(500));
        }
        server.start_again();
        assert_hold(&mut server.raw(), &stage.name);
    }
    fleet.work(150);
    fleet.end_balanced(&stage, "killed servers");
    assert_hold(&mut server.raw(), &stage.name);
}

#[test]
fn a_server_that_is_shut_down_loses_nothing_though_it_only_writes_snapshots() {
    let server = skip_unless!(Server::start(Persistence::Snapshots));
    let stage = Stage::new(&server);
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    for _ in 0..5 {
        fleet.work(150);
        server.restart();
    }
    fleet.work(150);
    fleet.end_balanced(&stage, "shut down servers");
    assert_hold(&mut server.raw(), &stage.name);
}

/// The file to which a server appends now, by its manifest.
fn log_of_writes(server: &Server) -> PathBuf {
    let folder = server.data_folder().join("appendonlydir");
    let manifest = fs::read_to_string(folder.join("appendonly.aof.manifest"));
    let manifest = manifest.expect("the server writes a log");
    let mut parts = manifest.lines().filter(|line| line.ends_with(" type i"));
    let last = parts.next_back().expect("it has a last part");
    let name = last.split(' ').nth(1).expect("it has a name");
    folder.join(name)
}

fn size_of_log(server: &Server) -> u64 {
    let log = fs::metadata(log_of_writes(server));
    log.expect("the server writes a log").len()
}

/// Writes the log anew, as whoever runs a server should when the power failed. The server leaves the begin of a transaction in
/// it whose end was cut off, and goes on behind it (until Valkey 9.1): the next start would do that part of a script, and not do
/// what comes next.
fn mend_log(server: &Server) {
    let mut raw = server.raw();
    raw.run(&["BGREWRITEAOF"]);
    eventually("the log is written anew", || {
        let info = raw.info("persistence");
        let is = |name: &str, value: &str| info.get(name).is_some_and(|is| is == value);
        is("aof_rewrite_in_progress", "0")
            && is("aof_rewrite_scheduled", "0")
            && is("aof_last_bgrewrite_status", "ok")
    });
}

/// Prints what was seen, and says how much of what was answered was undone.
fn undone(what: &str, report: &Report) -> usize {
    eprintln!("{what}: {}", report.books);
    report.assert_valid();
    assert_eq!(report.books.waiting, 0);
    report.books.forgotten + report.books.undone
}

/// Jobs that run until `go`, and that were acknowledged for longer than any window when this returns.
fn enqueue_what_must_stay(stage: &Stage<'_>, fleet: &mut Fleet) {
    for number in 0..2 {
        stage.enqueue(1_000_000 + 2 * number, Some("go"));
    }
    let begin = Instant::now();
    while begin.elapsed() < WINDOW * 3 / 2 {
        fleet.work(10);
    }
}

/// A kill leaves to the system what was written, so this alone loses nothing. What the power would take is taken as the next
/// test does it.
#[test]
fn a_server_that_writes_to_the_disk_each_second_and_is_killed_loses_what_it_says_at_most() {
    let server = skip_unless!(Server::start(Persistence::AofEverysec));
    let stage = Stage::new(&server);
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    enqueue_what_must_stay(&stage, &mut fleet);
    for _ in 0..5 {
        fleet.work(150);
        let since = now() - nanos(WINDOW);
        server.kill();
        rolled_back(&stage, since);
        server.start_again();
    }
    fleet.work(150);
    stage.let_run("go");
    let (report, _) = fleet.end(&stage, "killed, everysec");
    let undone = undone("killed, everysec", &report);
    eprintln!("{undone} undone");
    assert_hold(&mut server.raw(), &stage.name);
}

/// While the server is dead the end of its log of writes is cut off: all that came within a time before the kill, and some bytes
/// more or fewer, so that the log ends in the middle of a write. This is what is on the disk when the power fails after the last
/// `fsync`: the log is appended to, and the server answers a call when it has passed its writes on to the system.
#[test]
fn a_server_whose_last_second_is_gone_loses_nothing_else() {
    let server = skip_unless!(Server::start(Persistence::AofEverysec));
    let stage = Stage::new(&server);
    let mut random = seeded_rng("a_server_whose_last_second_is_gone_loses_nothing_else");
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    enqueue_what_must_stay(&stage, &mut fleet);
    let mut longest = Duration::ZERO;
    for round in 0..6 {
        fleet.work(150);
        let (kept, since, begin) = (size_of_log(&server), now(), Instant::now());
        fleet.work(100);
        // Nobody runs it before the kill, and its end is the end of the log.
        stage.enqueue(2_000_000 + 2 * round, Some("never"));
        server.kill();
        longest = longest.max(begin.elapsed());
        let all = size_of_log(&server);
        assert!(all > kept, "what was answered is in the log");
        // What was answered before that moment was written before it, or put off for as long as a server puts it off.
        rolled_back(&stage, since - nanos(WINDOW));
        let cut = random.random_range(kept..kept.midpoint(all));
        let file = OpenOptions::new().write(true).open(log_of_writes(&server));
        file.and_then(|file| file.set_len(cut))
            .expect("nobody else writes there");
        server.start_again();
        mend_log(&server);
        assert_hold(&mut server.raw(), &stage.name);
    }
    fleet.work(150);
    stage.let_run("go");
    let (report, _) = fleet.end(&stage, "cut logs");
    let undone = undone("cut logs", &report);
    eprintln!("{undone} undone, of the last {longest:?} at most");
    assert!(report.books.forgotten >= 6, "{}", report.books);
    assert_hold(&mut server.raw(), &stage.name);
}

const LIMITS: Limits = Limits {
    running: Some(50),
    per_key: Some(3),
    rate: None,
    max_ready: Some(5_000),
};

fn retention() -> Retention {
    Retention::default().dead(Duration::from_secs(77))
}

/// Sets what a program sets when it starts, and says when its broker has been told that all is gone.
fn set() {
    let own = Own::open();
    own.queue.set_limits(LIMITS).expect("it can be set");
    own.queue.set_retention(retention()).expect("it can be set");
    let parcel = Parcel {
        number: 1,
        until: None,
    };
    own.queue
        .schedule("yearly", "0 0 1 1 *", &parcel)
        .expect("it can be set");
    say("has set");
    let mut line = String::new();
    while std::io::stdin()
        .read_line(&mut line)
        .is_ok_and(|read| read > 0)
    {
        // Any call will do.
        let stats = own.queue.stats();
        say(&format!("looked {}", stats.is_ok()));
        line.clear();
    }
}

#[test]
fn a_server_that_comes_back_empty_is_told_of_and_gets_its_queue_and_settings_again() {
    const GONE: &str = "is another one than before";
    let server = skip_unless!(Server::start(Persistence::AofAlways));
    let stage = Stage::new(&server);
    let mut setter = stage.start("set", &[]);
    setter.hear("has set");
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    for round in 0..3 {
        fleet.work(100);
        server.kill();
        rolled_back(&stage, 0);
        server.empty();
        // Whoever comes first makes the queue.
        if round == 1 {
            drop(stage.queue());
        }
        for consumer in fleet.consumers() {
            let told = consumer.hear("log the queue ");
            assert!(told.contains(GONE), "{told}");
        }
        setter.tell("look");
        let told = setter.hear("log the queue ");
        assert!(told.contains(GONE), "{told}");
        setter.hear("looked true");
        let queue = stage.queue();
        assert_eq!(queue.limits().unwrap(), LIMITS);
        assert_eq!(queue.retention().unwrap(), retention());
        let schedules = queue.schedules().unwrap();
        assert_eq!(schedules.len(), 1, "{schedules:?}");
        assert_eq!(schedules[0].name, "yearly");
    }
    fleet.work(100);
    let (report, stats) = fleet.end(&stage, "emptied servers");
    let undone = undone("emptied servers", &report);
    eprintln!("{undone} undone");
    assert!(
        stats.enqueued < report.books.enqueued as u64,
        "{stats:?}: it counts from anew"
    );
    setter.kill();
    assert_hold(&mut server.raw(), &stage.name);
}

#[test]
fn connections_that_are_ended_come_back() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let stage = Stage::new(&server);
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    let mut raw = server.raw();
    // Jobs that take long enough for heartbeats.
    for number in 0..3 {
        stage.enqueue(1_000_000 + 2 * number, Some("go"));
    }
    for round in 0..30 {
        let kind = ["normal", "pubsub"][round % 2];
        eventually(format!("{kind} ones are ended"), || {
            raw.run(&["CLIENT", "KILL", "TYPE", kind]).integer() > 0
        });
        fleet.work(10);
    }
    stage.let_run("go");
    fleet.end_balanced(&stage, "ended connections");
    assert_hold(&mut raw, &stage.name);
}

#[test]
fn a_server_that_is_paused_for_longer_than_a_call_may_take_goes_on() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let stage = Stage::new(&server);
    let mut fleet = Fleet::start(&stage, Duration::from_secs(1));
    let mut raw = server.raw();
    for what in ["ALL", "WRITE"] {
        fleet.work(50);
        let before = fleet.failures();
        raw.run(&["CLIENT", "PAUSE", "3000", what]);
        // It is ahead of what was read of it.
        let begin = Instant::now();
        while fleet.failures() == before {
            fleet.work(1);
            assert!(begin.elapsed() < LONG, "{what}: no call was too late");
        }
    }
    fleet.work(50);
    fleet.end_balanced(&stage, "paused servers");
    assert_hold(&mut raw, &stage.name);
}

#[test]
fn scripts_that_the_server_forgets_are_told_again_and_nobody_notices() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    let mut fleet = Fleet::start(&stage, TIMEOUT);
    let mut raw = access.raw();
    for _ in 0..200 {
        raw.run(&["SCRIPT", "FLUSH", "SYNC"]);
        fleet.work(5);
    }
    assert_eq!(fleet.failures(), 0);
    for consumer in fleet.consumers() {
        let said = consumer.rest();
        assert!(
            !said.iter().any(|line| line.starts_with("error")),
            "{said:?}"
        );
    }
    fleet.end_balanced(&stage, "forgotten scripts");
    assert_hold(&mut raw, &stage.name);
}

#[test]
fn an_enqueue_without_a_server_fails_in_time_and_its_repetition_adds_nothing() {
    let server = skip_unless!(Server::start(Persistence::AofAlways));
    let stage = Stage::new(&server);
    let broker = RedisBroker::builder(stage.url()).timeout(TIMEOUT);
    let queue = broker.open_queue().unwrap();
    let limit = TIMEOUT + GRACE;
    checks::enqueue_without_a_server(&queue, limit, || server.kill(), || server.start_again());
}
