//! What consumers send that have nothing to do, as the server counts it; and whose clock it is that decides.
#![cfg(unix)]

mod common;

use anthill::Pool;
use anthill_jobs::broker::{Admin, ConsumerRegistry, LimitStore};
use anthill_jobs::{
    Broker, ConsumerInfo, Context, Job, JobError, JobState, Limits, ListRequest, NewJob, Queue,
    Retention, Settle,
};
use anthill_redis::RedisBroker;
use anthill_test_support::redis::{self, Persistence, Raw, Server};
use anthill_test_support::{eventually, skip_unless};
use common::{LEASE, claim, clients, done, enqueue, fresh, job, jobs, key, names, open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Serialize, Deserialize)]
struct Letter;

impl Job for Letter {
    const KIND: &'static str = "letter";
}

/// What clients send: whatever the scripts call is counted with them by the server, and no client of these sends it.
fn sent(raw: &mut Raw) -> BTreeMap<String, u64> {
    let of_clients = [
        "evalsha",
        "eval",
        "publish",
        "subscribe",
        "unsubscribe",
        "ping",
        "wait",
        "asking",
        "auth",
        "select",
        "script",
        "hello",
        "config|get",
        "client|setinfo",
        "client|setname",
    ];
    let mut counts = raw.commandstats();
    counts.retain(|name, _| of_clients.contains(&&**name));
    counts
}

#[test]
fn a_consumer_at_rest_sends_less_than_a_command_in_two_seconds() {
    const TIME: Duration = Duration::from_secs(20);
    const CONSUMERS: u32 = 10;
    let server = skip_unless!(Server::start(Persistence::Off));
    let (address, queue) = (server.url(), fresh());
    let mut raw = server.raw();
    let start = |_| {
        let jobs = Queue::of(open(&address, &queue));
        let pool = Pool::with_capacity(1);
        let consumer = jobs
            .consumer(&pool)
            .handle(|_: Letter, _: &Context| -> Result<(), JobError> { Ok(()) })
            .start()
            .expect("it starts");
        (pool, consumer)
    };
    // Each shares nothing with the others, as ten processes would.
    let consumers: Vec<_> = (0..CONSUMERS).map(start).collect();
    let producer = Queue::of(open(&address, &queue));
    let works = |done: u64| {
        producer.enqueue(Letter).expect("it is stored");
        eventually("they are awake", || {
            producer.stats().is_ok_and(|now| now.done == done)
        });
    };
    works(1);
    // The start is over, with all that follows from a job.
    std::thread::sleep(Duration::from_secs(2));
    let (before, connections) = (sent(&mut raw), clients(&mut raw));
    std::thread::sleep(TIME);
    let after = sent(&mut raw);
    let more = |name: &String| after[name] - before.get(name).copied().unwrap_or_default();
    let made: BTreeMap<&String, u64> = after.keys().map(|name| (name, more(name))).collect();
    let all: u64 = made.values().sum();
    eprintln!("{CONSUMERS} consumers at rest in {TIME:?}: {made:?}");
    let most = u64::from(CONSUMERS) * TIME.as_secs() / 2;
    assert!(all <= most, "{made:?}");
    assert!(all > 0, "nothing was counted");
    assert_eq!(clients(&mut raw), connections);
    works(2);
    for (_, consumer) in &consumers {
        consumer.stop(LEASE).expect("it stops");
    }
}

/// Makes each kind of call, but for schedules, whose times are of the calendar.
fn calls(broker: &RedisBroker) {
    let mut rich = job("rich");
    rich.unique = Some("unique".to_owned());
    rich.key = Some("key".to_owned());
    rich.delay = Duration::from_secs(1);
    rich.expires = Some(LEASE);
    rich.keep_result = Some(LEASE);
    enqueue(broker, &[rich.clone()]);
    enqueue(broker, &jobs(4));
    let held = claim(broker, 3);
    let held = [
        held,
        broker
            .claim(&common::request(1, LEASE))
            .expect("it claims")
            .jobs,
    ]
    .concat();
    let leases: Vec<_> = held.iter().map(|job| job.lease.clone()).collect();
    broker.extend(&leases, LEASE).expect("they are held");
    broker.progress(&leases[0], b"half").expect("it is held");
    let delay = Duration::from_secs(30);
    let error = "later".to_owned();
    let retry = Settle::Retry { delay, error };
    broker
        .settle(&[(leases[0].clone(), retry), done(&held[1])])
        .expect("they are held");
    broker.settle(&[done(&held[2])]).expect("it is held");
    broker.set_due(&[rich.id], delay).expect("it waits");
    let limits = Limits {
        per_key: Some(2),
        max_ready: Some(1000),
        ..Limits::default()
    };
    broker.set_limits(limits).expect("they can be set");
    let retention = Retention::default().done(LEASE).dead(LEASE);
    broker.set_retention(retention).expect("it can be set");
    let info = ConsumerInfo::new("one", vec!["test".to_owned()], 1);
    broker.announce(&info, LEASE).expect("it is listed");
    for state in [
        JobState::Ready,
        JobState::Delayed,
        JobState::Running,
        JobState::Done,
    ] {
        broker.list(&ListRequest::new(state)).expect("it is read");
    }
    broker.get(rich.id).expect("it is read");
    broker.stats().expect("they are read");
    broker.purge(&[JobState::Done]).expect("it is purged");
}

/// The bytes of an argument as `MONITOR` shows it.
fn unquoted(line: &str) -> Vec<Vec<u8>> {
    let (mut args, mut bytes) = (Vec::new(), line.bytes());
    while bytes.any(|byte| byte == b'"') {
        let mut arg = Vec::new();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => match bytes.next().expect("it goes on") {
                    b'x' => {
                        let digits = [bytes.next(), bytes.next()].map(|one| one.expect("a digit"));
                        let digits = String::from_utf8_lossy(&digits).into_owned();
                        arg.push(u8::from_str_radix(&digits, 16).expect("a byte"));
                    }
                    b'n' => arg.push(b'\n'),
                    b'r' => arg.push(b'\r'),
                    b't' => arg.push(b'\t'),
                    b'a' => arg.push(7),
                    b'b' => arg.push(8),
                    other => arg.push(other),
                },
                byte => arg.push(byte),
            }
        }
        args.push(arg);
    }
    args
}

#[test]
fn no_time_of_a_client_is_sent() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let broker = open(&server.url(), &fresh());
    let mut monitor = server.raw();
    monitor
        .send(&[b"MONITOR"])
        .and_then(|()| monitor.receive())
        .expect("it is shown");
    calls(&broker);
    server.raw().run(&["ECHO", "the end"]);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let day = Duration::from_secs(86_400);
    let is_time = |number: u128| {
        [
            Duration::as_micros,
            Duration::as_millis,
            |time: &Duration| u128::from(time.as_secs()),
        ]
        .iter()
        .any(|of| number.abs_diff(of(&now)) < of(&day))
    };
    let (mut looked, mut scripts) = (0, 0);
    loop {
        let line = monitor.receive().expect("it is shown").text();
        // As in `1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`; what scripts call has `lua` there.
        let (head, rest) = line.split_once(']').expect("who it was");
        if head.ends_with("lua") {
            continue;
        }
        let args = unquoted(rest);
        if args[0] == b"ECHO" {
            break;
        }
        if !args[0].to_ascii_lowercase().starts_with(b"eval") {
            continue;
        }
        scripts += 1;
        // Behind the script, the number of keys, and the keys. Ids and tokens are random, or nobody's measure.
        for arg in args[24..]
            .iter()
            .filter(|arg| ![12, 16].contains(&arg.len()))
        {
            looked += 1;
            let decimal = std::str::from_utf8(arg)
                .ok()
                .and_then(|text| text.parse().ok());
            assert!(!decimal.is_some_and(is_time), "{line}");
            for window in arg.windows(7) {
                let number = window
                    .iter()
                    .fold(0, |all, byte| all << 8 | u128::from(*byte));
                assert!(number.abs_diff(now.as_micros()) > day.as_micros(), "{line}");
            }
        }
    }
    assert!(scripts > 20 && looked > 100, "{scripts} {looked}");
}

/// B10, as far as a server's clock can be known: what was told to wait does not wait for longer when the clock is set back.
#[test]
fn time_goes_on_when_the_servers_clock_is_set_back() {
    let server = skip_unless!(redis::shared());
    let (queue, mut raw) = (fresh(), server.raw());
    let conf = key(&queue, "conf");
    let start = "1735732800000000";
    raw.run(&["HSET", &conf, "c", start]);
    let mut pass = |seconds: i64| {
        raw.run(&["HINCRBY", &conf, "c", &(seconds * 1_000_000).to_string()]);
    };
    let broker = open(&server.url(), &queue);
    let seconds = Duration::from_secs;
    let mut delayed = job("delayed");
    delayed.delay = seconds(60);
    let mut expires = job("expires");
    expires.delay = seconds(3600);
    expires.expires = Some(seconds(100));
    let plain = NewJob::new("test", b"plain".to_vec());
    enqueue(&broker, &[delayed.clone(), expires.clone(), plain]);
    let claim = || {
        let claims = broker.claim(&common::request(10, seconds(50)));
        names(&claims.expect("it claims").jobs)
    };
    assert_eq!(claim(), ["plain"]);
    for (step, expected) in [(40, &[][..]), (15, &["plain"][..]), (10, &["delayed"][..])] {
        // An hour back, and on from there.
        pass(-3600);
        // Whoever claims first notices.
        assert_eq!(claim(), [""; 0]);
        pass(step);
        let apart = open(&server.url(), &queue);
        let found = apart
            .get(delayed.id)
            .expect("it is read")
            .expect("it is there");
        assert!(
            found.due_in.is_none_or(|due| due <= seconds(20)),
            "{:?}",
            found.due_in
        );
        assert_eq!(claim(), expected);
    }
    // Nor is anything early that is stored by the very call that notices.
    pass(-3600);
    let mut later = job("later");
    later.delay = seconds(30);
    enqueue(&broker, &[later]);
    assert_eq!(claim(), [""; 0]);
    pass(40);
    // Those whose leases are over come alone.
    assert!((0..4).flat_map(|_| claim()).any(|name| name == "later"));
    assert!(broker.get(expires.id).expect("it is read").is_none());
}
