//! Processes that are killed, or stopped for longer than their lease: real processes, and real signals. What was acknowledged is
//! done in the end, what was done twice is counted and explained, nothing is lost.
//!
//! `ANTHILL_KILLS` is how many there are to be; 200 by default.
#![cfg(unix)]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fleet;
mod support;

use anthill_fleet_support::checks;
use anthill_fleet_support::kills::{self, Call};
use anthill_fleet_support::recorded::Recorded;
use anthill_fleet_support::roles::{Parcel, say, told_ms};
use anthill_fleet_support::{LONG, balance};
use anthill_jobs::{Broker, ClaimRequest, Extended, Job, Settle};
use anthill_test_support::history::Rules;
use anthill_test_support::proxy::{Protocol, Proxy, Trigger};
use anthill_test_support::redis::{Raw, Value, shared};
use anthill_test_support::{seeded_rng, skip_unless};
use fleet::{Own, Stage};
use std::time::Duration;
use support::invariants::assert_hold;

#[test]
fn child() {
    fleet::child(&[("hold", hold)]);
}

/// All calls are scripts, by a digest that says nothing. What a script is told tells which it is: only a claim names the kinds that
/// it wants behind a token, only a settlement names a job behind who calls (a heartbeat a time), and only an enqueue, of what a
/// producer calls, a job at all.
fn wire<'s>(stage: &'s Stage<'_>) -> impl Fn(Call) -> (Proxy, Trigger, String) + Sync + 's {
    |call| {
        let proxy = Proxy::start(stage.access.address(), Protocol::Redis);
        let trigger = Trigger::being(match call {
            Call::Claim => is_claim,
            Call::Settle => is_settlement,
            Call::Enqueue => is_enqueue,
        });
        let url = stage.url_through(proxy.address());
        (proxy, trigger, url)
    }
}

/// What a script is told behind its keys, if it is one that is called; the first is who calls.
fn told(request: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = request;
    let mut number = |sign: u8| -> Option<usize> {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, after) = rest.split_at(end + 1);
        let digits = line.strip_prefix(&[sign])?.strip_suffix(b"\r\n")?;
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        // A text comes behind its length.
        rest = after;
        Some(number)
    };
    let parts = number(b'*')?;
    let mut texts = Vec::new();
    for _ in 0..parts {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let length = rest[..end].strip_prefix(b"$")?.strip_suffix(b"\r")?;
        let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
        texts.push(rest.get(end + 1..end + 1 + length)?);
        rest = rest.get(end + 1 + length + 2..)?;
    }
    let is_script = [&b"EVALSHA"[..], b"EVAL"].contains(texts.first()?);
    let keys: usize = std::str::from_utf8(texts.get(2)?).ok()?.parse().ok()?;
    let told = texts.get(3 + keys..)?;
    is_script.then(|| told.to_vec())
}

/// Bytes that an id of the producers has, and a token.
const ID: usize = 16;
const TOKEN: usize = 12;

fn is_parcel(text: &[u8]) -> bool {
    text.len() == ID && text.starts_with(b"parcels:")
}

fn is_claim(request: &[u8]) -> bool {
    told(request).is_some_and(|told| {
        // Who, limit, lease, fragile, consumer, token, number of kinds, kinds.
        told.len() == 8 && told[5].len() == TOKEN && told[7] == Parcel::KIND.as_bytes()
    })
}

fn is_settlement(request: &[u8]) -> bool {
    told(request).is_some_and(|told| {
        // Who; for each id, token.
        told.len() >= 3 && is_parcel(told[1]) && told[2].len() == TOKEN
    })
}

fn is_enqueue(request: &[u8]) -> bool {
    told(request).is_some_and(|told| told.iter().any(|text| is_parcel(text)))
}

#[test]
fn calls_are_told_by_what_scripts_are_told() {
    let request = |told: &[&[u8]]| {
        let mut bytes = format!(
            "*{}\r\n$7\r\nEVALSHA\r\n$2\r\nab\r\n$1\r\n1\r\n$1\r\nk\r\n",
            4 + told.len()
        )
        .into_bytes();
        for text in told {
            bytes.extend(format!("${}\r\n", text.len()).as_bytes());
            bytes.extend_from_slice(text);
            bytes.extend(b"\r\n");
        }
        bytes
    };
    let (id, token) = (&b"parcels:\r\n345678"[..], &b"123456789\r\n2"[..]);
    let claim = request(&[b"who", b"9", b"400", b"1", b"", token, b"1", b"parcel"]);
    let settlement = request(&[b"who", id, token]);
    let beat = request(&[b"who", b"400", id, token]);
    let enqueue = request(&[b"who", b"parcel", b"0", id, b"head", b"data"]);
    let all = [&claim, &settlement, &beat, &enqueue];
    assert_eq!(all.map(|one| is_claim(one)), [true, false, false, false]);
    assert_eq!(
        all.map(|one| is_settlement(one)),
        [false, true, false, false]
    );
    assert_eq!(all.map(|one| is_enqueue(one)), [false, true, true, true]);
    assert!(told(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").is_none());
}

#[test]
fn two_hundred_kills_at_named_points_lose_nothing() {
    let access = skip_unless!(shared());
    let mut random = seeded_rng("kills");
    let mut raw = access.raw();
    for per_key in [1, 2] {
        let stage = Stage::new(access);
        let number = (kills::wanted() / 2, per_key);
        kills::kill_and_judge(&stage, number, &mut random, &wire(&stage));
        assert_hold(&mut raw, &stage.name);
        // All is over, so nobody has a unique key or is counted for a key.
        for name in ["uniques", "keys", "keyed", "running"] {
            let left = raw.run(&["EXISTS", &stage.key(name)]).integer();
            assert_eq!(left, 0, "{name} of no job");
        }
    }
}

#[test]
fn a_zombie_that_wakes_after_its_lease_is_refused() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    kills::freeze_past_the_lease(&stage);
    assert_hold(&mut access.raw(), &stage.name);
}

/// Claims a job, and when it is told to, renews its lease, and settles it.
fn hold() {
    let own = Own::open();
    let broker = Recorded {
        broker: own.broker,
        recorder: own.recorder,
        fuse: own.fuse,
    };
    let lease = told_ms("LEASE_MS", 300);
    let lease = loop {
        let claims = broker.claim(&ClaimRequest::new(1, lease));
        if let Some(job) = claims.expect("the server is there").jobs.pop() {
            break job.lease;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    say("holds");
    let mut line = String::new();
    while std::io::stdin()
        .read_line(&mut line)
        .is_ok_and(|read| read > 0)
    {
        let renewed = broker.extend(std::slice::from_ref(&lease), LONG);
        let renewed = matches!(renewed.expect("it is there")[0], Extended::Held(_));
        let (delay, error) = (Duration::ZERO, "again".to_owned());
        let end = match line.trim() {
            "retry" => Settle::Retry { delay, error },
            "release" => Settle::Release { delay },
            _ => Settle::Done {
                result: b"null".to_vec(),
            },
        };
        let settled = broker.settle(&[(lease.clone(), end)]);
        let settled = settled.expect("the server is there")[0].is_stored();
        say(&format!("told {renewed} {settled}"));
        line.clear();
    }
}

#[test]
fn what_a_zombie_asks_for_is_refused_while_another_has_its_job_and_afterwards() {
    let access = skip_unless!(shared());
    for number in [1, 2] {
        let stage = Stage::new(access);
        // The second one's result is kept.
        stage.enqueue(number, None);
        let mut zombie = stage.start("hold", &[]);
        zombie.hear("holds");
        zombie.freeze();
        let mut other = stage.start("hold", &[("LEASE_MS", "60000".to_owned())]);
        other.hear("holds");
        zombie.thaw();
        for end in ["done", "retry", "release"] {
            zombie.tell(end);
            assert_eq!(zombie.hear("told"), "false false", "{end}");
        }
        other.tell("done");
        assert_eq!(other.hear("told"), "true true");
        for end in ["done", "retry", "release"] {
            zombie.tell(end);
            assert_eq!(zombie.hear("told"), "false false", "{end}");
        }
        zombie.end();
        other.end();
        let judged = stage.judge(&Rules::default());
        balance("asking zombie", &judged);
        assert_eq!((judged.0.books.lease_lost, judged.1.done), (1, 1));
        assert_hold(&mut access.raw(), &stage.name);
    }
}

#[test]
fn who_has_handed_a_job_back_cannot_end_it_for_the_next_one() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    stage.enqueue(1, None);
    let long = [("LEASE_MS", "60000".to_owned())];
    let mut first = stage.start("hold", &long);
    first.hear("holds");
    first.tell("release");
    assert_eq!(first.hear("told"), "true true");
    let mut other = stage.start("hold", &long);
    other.hear("holds");
    for end in ["done", "retry", "release"] {
        first.tell(end);
        assert_eq!(first.hear("told"), "false false", "{end}");
    }
    other.tell("done");
    assert_eq!(other.hear("told"), "true true");
    first.end();
    other.end();
    balance("handed back", &stage.judge(&Rules::default()));
}

#[test]
fn a_consumer_that_stops_with_a_full_buffer_hands_back_what_has_not_begun() {
    let access = skip_unless!(shared());
    kills::stop_with_a_full_buffer(&Stage::new(access));
}

/// Lets the time of a queue go on by an hour, as the broker does where the clock of a server goes back.
fn an_hour_later(raw: &mut Raw, stage: &Stage<'_>) {
    let conf = stage.key("conf");
    let Value::Bulk(mut settings) = raw.run(&["HGET", &conf, "s"]) else {
        panic!("there is a queue");
    };
    let at = settings.len() - 7;
    let hour: u64 = 3_600_000_000;
    settings[at..].copy_from_slice(&hour.to_be_bytes()[1..]);
    let request = [&b"HSET"[..], conf.as_bytes(), b"s", &settings];
    assert!(!raw.call(&request).unwrap().is_error());
}

#[test]
fn a_backlog_that_is_older_than_the_lease_is_delivered_once() {
    let access = skip_unless!(shared());
    let stage = Stage::new(access);
    let mut raw = access.raw();
    checks::deliver_an_old_backlog_once(&stage, || an_hour_later(&mut raw, &stage));
    assert_hold(&mut raw, &stage.name);
}
