//! How a queue is opened: by those who may not, on servers that may lose it, where a part of it is gone, and of another version.

mod common;

use anthill_jobs::broker::{Admin, ConsumerRegistry, LimitStore, ScheduleStore};
use anthill_jobs::{
    Broker, Capability, ConsumerInfo, Durability, Enqueued, JobId, JobState, Limits, ListRequest,
    NewJob, OncePer, Openers, QueueError, Rate, Retention, Scheduled, Settle,
};
use anthill_redis::{RedisBroker, RedisOpener};
use anthill_test_support::redis::{self, Access, Options, Persistence, Server};
use anthill_test_support::{eventually, skip_unless, watchdog};
use common::{
    GRACE, LEASE, at_once, builder, claim, contents, ear, enqueue, finish, fresh, hears, job, jobs,
    key, open, stats,
};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The address for another user.
fn address_of(access: &Access, user: &str, password: &str) -> String {
    format!("redis://{user}:{password}@{}/", access.address())
}

#[test]
fn ten_threads_that_open_at_once_make_one_queue() {
    let server = skip_unless!(redis::shared());
    let (address, queue) = (server.url(), fresh());
    let identities = at_once(10, |number| {
        let broker = open(&address, &queue);
        enqueue(&broker, &[job(number.to_string())]);
        broker.identity()
    });
    assert!(identities.iter().all(|one| *one == identities[0]));
    assert_eq!(stats(&open(&address, &queue)).ready, 10);
}

#[test]
fn a_server_that_is_not_there_or_silent_is_told_in_time() {
    let free = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let refused = watchdog("it is refused", move || {
        RedisBroker::open(&format!("redis://{free}/"))
    });
    let error = refused.expect_err("nobody listens");
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!(error.is_transient());
    // One that accepts, and says nothing; by an address of three.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|at| (at, silent)).unwrap();
    let begin = Instant::now();
    let timeout = Duration::from_millis(300);
    for password in ["", ":secret@"] {
        let address = format!("redis://{password}{},{free},{free}/", silent.0);
        let refused = watchdog("it is refused in time", move || {
            RedisBroker::builder(&address).timeout(timeout).open()
        });
        let error = refused.expect_err("nobody answers");
        assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let took = begin.elapsed();
    assert!(took < 2 * (timeout + GRACE), "{took:?}");
}

#[test]
fn wrong_credentials_are_denied_and_not_shown() {
    let server = skip_unless!(redis::shared());
    let place = server.address();
    for login in [":wrong-secret@", "nobody:wrong-secret@", ""] {
        let refused = RedisBroker::open(&format!("redis://{login}{place}/"));
        let error = refused.expect_err("it is refused");
        assert!(matches!(error, QueueError::Denied(_)), "{login}: {error:?}");
        assert!(!error.is_transient() && !error.to_string().contains("wrong-secret"));
    }
}

/// What a program needs that may do everything with a queue. The guide has the same list.
const COMMANDS: [&str; 24] = [
    "evalsha",
    "eval",
    "time",
    "exists",
    "hget",
    "hset",
    "hmget",
    "hdel",
    "hexists",
    "hincrby",
    "hscan",
    "hstrlen",
    "zadd",
    "zrem",
    "zrange",
    "zrangebyscore",
    "zrangebylex",
    "zrevrangebylex",
    "zcard",
    "zcount",
    "zscore",
    "zrank",
    "subscribe",
    "publish",
];

/// Makes a user who may do these with one queue.
fn make_user(access: &Access, user: &str, queue: &str, commands: &[&str]) {
    let mut rights = vec![
        "ACL".to_owned(),
        "SETUSER".to_owned(),
        user.to_owned(),
        "reset".to_owned(),
        "on".to_owned(),
        ">secret".to_owned(),
        format!("~{{anthill:{queue}}}:*"),
        format!("&{{anthill:{queue}}}:*"),
        "-@all".to_owned(),
    ];
    rights.extend(commands.iter().map(|command| format!("+{command}")));
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    access.raw().run(&rights);
}

fn failed(job: &anthill_jobs::Claimed) -> (anthill_jobs::Lease, Settle) {
    let error = "it failed".to_owned();
    (job.lease.clone(), Settle::Dead { error })
}

/// Does everything with a queue that a program can do.
fn round(address: &str, queue: &str) -> Result<(), QueueError> {
    let broker = builder(address, queue).open()?;
    // Stored, also in each of the ways that a script of its own knows nothing of.
    let plain = jobs(3);
    broker.enqueue(&plain)?;
    broker.enqueue(&plain)?;
    let mut rich = job("rich");
    rich.unique = Some("unique".to_owned());
    rich.once_per = Some(OncePer {
        key: "once".to_owned(),
        period: LEASE,
    });
    rich.key = Some("key".to_owned());
    rich.expires = Some(LEASE);
    rich.keep_result = Some(LEASE);
    rich.headers.insert("a".to_owned(), "b".to_owned());
    broker.enqueue(std::slice::from_ref(&rich))?;
    let mut keyed = job("keyed");
    keyed.key = Some("key".to_owned());
    let mut large = NewJob::new("test", vec![b'x'; 70_000]);
    large.delay = Duration::from_micros(1);
    let mut gone = job("gone");
    gone.expires = Some(Duration::from_micros(1));
    let mut later = job("later");
    later.delay = LEASE;
    broker.enqueue(&[keyed, large, gone, later.clone()])?;
    // Limits, which park, and order by keys.
    let mut limits = Limits::default();
    limits.per_key = Some(1);
    limits.max_ready = Some(100);
    limits.running = Some(50);
    broker.set_limits(limits)?;
    limits.rate = Some(Rate {
        jobs: 1000,
        per: Duration::from_secs(1),
        burst: 1000,
    });
    broker.set_limits(limits)?;
    assert_eq!(broker.limits()?, limits);
    assert_eq!(broker.stats()?.parked, 1);
    assert_eq!(broker.ready_kinds()?, ["test"]);
    // Looked at.
    let all = ListRequest::new(JobState::Ready);
    assert!(broker.list(&all)?.len() >= 4);
    assert_eq!(
        broker
            .list(&all.clone().after(Some(plain[0].id)).limit(1))?
            .len(),
        1
    );
    assert_eq!(broker.list(&ListRequest::new(JobState::Delayed))?.len(), 1);
    assert_eq!(broker.list(&ListRequest::new(JobState::Parked))?.len(), 1);
    assert!(broker.get(rich.id)?.is_some());
    // Claimed, also by what looks at nothing but the ready jobs of a kind.
    let mut held = broker.claim(&common::request(2, LEASE))?.jobs;
    let any = anthill_jobs::ClaimRequest::new(3, LEASE);
    held.extend(broker.claim(&any)?.jobs);
    let kinds: std::sync::Arc<[String]> = vec!["test".to_owned(), "other".to_owned()].into();
    held.extend(
        broker
            .claim(&anthill_jobs::ClaimRequest::new(1, LEASE).of_kinds(kinds))?
            .jobs,
    );
    assert!(held.len() >= 4, "{held:?}");
    let leases: Vec<_> = held.iter().map(|job| job.lease.clone()).collect();
    broker.extend(&leases, LEASE)?;
    assert!(broker.progress(&leases[0], b"1")?);
    broker.list(&ListRequest::new(JobState::Running))?;
    broker.cancel_running(leases[1].id())?;
    let again = Settle::Retry {
        delay: Duration::ZERO,
        error: "once more".to_owned(),
    };
    broker.settle(&[
        (leases[0].clone(), again),
        failed(&held[1]),
        failed(&held[2]),
    ])?;
    let ends: Vec<_> = held[3..].iter().map(common::done).collect();
    broker.settle(&ends)?;
    // Changed by hand.
    broker.set_due(&[later.id], Duration::from_secs(1))?;
    broker.set_due(&[later.id], Duration::ZERO)?;
    let dead = broker.list(&ListRequest::new(JobState::Dead))?;
    assert!(!dead.is_empty());
    broker.retry_dead(dead[0].id)?;
    broker.remove_unchanged(&broker.list(&ListRequest::new(JobState::Ready))?[..1])?;
    broker.delete(rich.id)?;
    broker.cancel(later.id)?;
    broker.set_paused(true)?;
    broker.set_paused(false)?;
    broker.set_retention(Retention::default().done(LEASE).dead(LEASE))?;
    broker.retention()?;
    let more = enqueue_all(&broker, 2)?;
    let held = broker.claim(&any)?.jobs;
    let ends: Vec<_> = held.iter().map(common::done).collect();
    broker.settle(&ends)?;
    let is_over = broker.list(&ListRequest::new(JobState::Done))?;
    broker.list(&ListRequest::new(JobState::Done).after(Some(is_over[0].id)))?;
    broker.purge(&[JobState::Done, JobState::Dead, JobState::Ready])?;
    drop(more);
    // Schedules and consumers.
    let schedule = Scheduled {
        name: "nightly".to_owned(),
        cron: "0 3 * * *".to_owned(),
        kind: "test".to_owned(),
        payload: b"{}".to_vec(),
        next: 1,
        missed: anthill_jobs::Missed::Once,
    };
    broker.put_schedule(&schedule)?;
    broker.fire(&schedule, 2, Some(&job("fired")))?;
    assert_eq!(broker.schedules()?.all.len(), 1);
    assert!(broker.drop_schedule("nightly")?);
    broker.announce(&ConsumerInfo::new("a", vec!["test".to_owned()], 1), LEASE)?;
    assert_eq!(broker.consumers()?.len(), 1);
    broker.withdraw("a")
}

fn enqueue_all(broker: &RedisBroker, number: usize) -> Result<Vec<Enqueued>, QueueError> {
    broker.enqueue(&jobs(number))?.into_iter().collect()
}

#[test]
fn each_command_of_the_list_is_needed_and_all_are_enough() {
    let server = skip_unless!(Server::start(Persistence::AofEverysec));
    let queue = fresh();
    make_user(&server, "worker", &queue, &COMMANDS);
    let address = address_of(&server, "worker", "secret");
    round(&address, &queue).expect("all of them are enough");
    // It hears of others, and others of it.
    let (broker, other) = (open(&address, &queue), open(&server.url(), &queue));
    let (heard, _subscription) = ear(&broker, LEASE);
    let (heard_by_other, _other_subscription) = ear(&other, LEASE);
    for (from, heard) in [(&other, &heard), (&broker, &heard_by_other)] {
        hears(heard, || {
            enqueue(from, &[job("heard")]);
        });
    }
    // Without one of them something fails.
    for without in COMMANDS {
        let rest: Vec<&str> = COMMANDS
            .into_iter()
            .filter(|command| *command != without)
            .collect();
        let queue = fresh();
        make_user(&server, "less", &queue, &rest);
        // So that the server has to be told the texts.
        server.raw().run(&["SCRIPT", "FLUSH"]);
        let address = address_of(&server, "less", "secret");
        if ["subscribe", "publish", "zcount"].contains(&without) {
            // Two are for messages, without which consumers look for themselves. One is for a list during which a job is removed.
            round(&address, &queue).unwrap_or_else(|error| panic!("{without}: {error}"));
            continue;
        }
        let refused = round(&address, &queue);
        let Err(QueueError::Denied(why)) = refused else {
            panic!("without {without}: {refused:?}");
        };
        assert!(
            why.contains("perm") || why.contains("can't"),
            "{without}: {why}"
        );
    }
}

#[test]
fn the_list_is_of_what_the_scripts_call() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lua");
    let mut called = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("it is there") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("it is text");
        // As in `call('HGET', …)`, also of `redis.pcall`.
        for rest in text.split("call('").skip(1) {
            let name = rest.split('\'').next().unwrap_or_default();
            called.insert(name.to_ascii_lowercase());
        }
    }
    let of_clients = ["eval", "evalsha", "subscribe"].map(str::to_owned);
    called.extend(of_clients);
    let list: std::collections::BTreeSet<String> =
        COMMANDS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(called, list);
}

#[test]
fn a_user_of_one_queue_cannot_touch_another() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let (queue, other) = (fresh(), fresh());
    make_user(&server, "worker", &queue, &COMMANDS);
    let address = address_of(&server, "worker", "secret");
    let owner = open(&server.url(), &other);
    enqueue(&owner, &jobs(2));
    let before = contents(&mut server.raw(), &other);
    let refused = builder(&address, &other).open();
    assert!(matches!(refused, Err(QueueError::Denied(_))), "{refused:?}");
    // Nor one whose name begins or ends alike.
    for name in [format!("{queue}x"), queue[..queue.len() - 1].to_owned()] {
        let refused = builder(&address, &name).open();
        assert!(matches!(refused, Err(QueueError::Denied(_))), "{name}");
    }
    assert_eq!(contents(&mut server.raw(), &other), before);
    assert_eq!(server.raw().run(&["KEYS", "*"]).array().len(), before.len());
}

/// Redis' default for a new user is no channel: what is stored is stored, though nobody can be told.
#[test]
fn who_may_not_publish_stores_jobs_all_the_same() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let queue = fresh();
    make_user(&server, "mute", &queue, &COMMANDS);
    server
        .raw()
        .run(&["ACL", "SETUSER", "mute", "resetchannels"]);
    let consumer = open(&server.url(), &queue);
    let (heard, _subscription) = ear(&consumer, LEASE);
    eventually("it is armed", || {
        let told = server.raw().run(&["HGET", &key(&queue, "conf"), "w"]);
        told == redis::Value::Bulk(b"1".to_vec())
    });
    let before = heard.elsewhere.load(Ordering::SeqCst);
    let mute = open(&address_of(&server, "mute", "secret"), &queue);
    let mut rich = job("rich");
    rich.key = Some("key".to_owned());
    for one in [job("plain"), rich] {
        server.raw().run(&["HSET", &key(&queue, "conf"), "w", "1"]);
        let answer = mute.enqueue(std::slice::from_ref(&one));
        assert!(answer.is_ok(), "it is stored: {answer:?}");
    }
    assert_eq!(stats(&mute).ready, 2);
    // It cannot subscribe either, and looks for itself.
    let (heard_by_mute, _mute_subscription) = ear(&mute, Duration::from_millis(200));
    eventually("it polls", || {
        heard_by_mute.elsewhere.load(Ordering::SeqCst) >= 3
    });
    assert!(heard.elsewhere.load(Ordering::SeqCst) >= before);
}

#[test]
fn a_policy_that_evicts_queues_is_warned_of_or_refused() {
    let options = Options::new(Persistence::AofEverysec).set("maxmemory", "64mb");
    let server = skip_unless!(options.set("maxmemory-policy", "allkeys-lru").start());
    let (address, queue) = (server.url(), fresh());
    let refusing = format!("{address}?eviction=refuse&queue={queue}");
    let refused = RedisBroker::open(&refusing);
    let error = refused.expect_err("it may be evicted");
    assert!(matches!(error, QueueError::Address { .. }), "{error:?}");
    assert!(error.to_string().contains("allkeys-lru"), "{error}");
    let broker = open(&address, &queue);
    let warnings = broker.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("allkeys-lru"),
        "{warnings:?}"
    );
    let mut raw = server.raw();
    for (setting, value, warned) in [
        ("maxmemory-policy", "noeviction", 0),
        ("maxmemory-policy", "volatile-lru", 0),
        ("maxmemory", "0", 1),
    ] {
        raw.run(&["CONFIG", "SET", "maxmemory", "64mb"]);
        raw.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
        raw.run(&["CONFIG", "SET", setting, value]);
        let broker = builder(&refusing, &queue).open().expect(value);
        assert_eq!(broker.warnings().len(), warned, "{setting} {value}");
    }
}

#[test]
fn durability_is_what_the_server_is_set_to() {
    let server = skip_unless!(Server::start(Persistence::AofEverysec));
    let (address, queue) = (server.url(), fresh());
    let durability = |address: &str| {
        let broker = open(address, &queue);
        (broker.capabilities().durability, broker.warnings().len())
    };
    let mut raw = server.raw();
    make_user(&server, "worker", &queue, &COMMANDS);
    let unknown = address_of(&server, "worker", "secret");
    server.raw().run(&["ACL", "SETUSER", "worker", "+info"]);
    let by_info = unknown.clone();
    for (fsync, expected) in [
        ("always", Durability::Fsync),
        ("everysec", Durability::Process),
        ("no", Durability::Process),
    ] {
        raw.run(&["CONFIG", "SET", "appendfsync", fsync]);
        assert_eq!(durability(&address), (expected, 0), "{fsync}");
        // `INFO` does not tell how often.
        assert_eq!(durability(&by_info), (Durability::Process, 0), "{fsync}");
    }
    raw.run(&["CONFIG", "SET", "appendonly", "no"]);
    assert_eq!(durability(&address), (Durability::None, 1));
    assert_eq!(durability(&by_info), (Durability::None, 1));
    raw.run(&["CONFIG", "SET", "save", "3600 1"]);
    assert_eq!(
        durability(&address),
        (Durability::None, 1),
        "snapshots only"
    );
    // What nobody tells is not guessed; whoever knows more says so.
    server.raw().run(&["ACL", "SETUSER", "worker", "-info"]);
    assert_eq!(durability(&unknown), (Durability::None, 1));
    let told = format!("{unknown}?durability=fsync");
    assert_eq!(durability(&told), (Durability::Fsync, 0));
    let evicts = format!("{unknown}?eviction=refuse");
    drop(builder(&evicts, &queue).open().expect("nobody knows"));
    raw.run(&["CONFIG", "SET", "maxmemory", "64mb"]);
    raw.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    server.raw().run(&["ACL", "SETUSER", "worker", "+info"]);
    let refused = builder(&evicts, &queue).open();
    assert!(
        matches!(refused, Err(QueueError::Address { .. })),
        "{refused:?}"
    );
}

#[test]
fn databases_prefixes_and_sockets_are_what_the_address_says() {
    let server = skip_unless!(Server::start(Persistence::Off));
    let (address, queue) = (server.url(), fresh());
    let of = |database: u8| open(&format!("{address}{database}"), &queue);
    enqueue(&of(3), &jobs(2));
    assert_eq!((stats(&of(3)).ready, stats(&of(0)).ready), (2, 0));
    assert_ne!(of(3).identity(), of(0).identity());
    let refused = builder(&format!("{address}99"), &queue).open();
    let error = refused.expect_err("there are 16");
    assert!(!error.to_string().is_empty());
    let shop = builder(&address, &queue).prefix("shop").open().unwrap();
    enqueue(&shop, &jobs(1));
    assert_eq!((stats(&shop).ready, stats(&of(0)).ready), (1, 0));
    let socket = format!(
        "redis+unix://{}?db=3&pass={}",
        server.socket().display(),
        server.password().expect("it has one")
    );
    let by_socket = open(&socket, &queue);
    assert_eq!(by_socket.identity(), of(3).identity());
    let claimed = claim(&by_socket, 2);
    assert_eq!(finish(&of(3), &claimed), 2);
    let (heard, _subscription) = ear(&by_socket, LEASE);
    eventually("it hears by its socket", || {
        enqueue(&of(3), &[job("heard")]);
        heard.elsewhere.load(Ordering::SeqCst) >= 2
    });
}

#[test]
fn a_queue_of_which_a_part_is_gone_is_damaged_and_not_guessed() {
    let server = skip_unless!(redis::shared());
    let (address, queue) = (server.url(), fresh());
    let broker = open(&address, &queue);
    let mut later = job("later");
    later.delay = LEASE;
    enqueue(&broker, &[job("a"), job("b"), later]);
    let mut raw = server.raw();
    raw.run(&["DEL", &key(&queue, "conf")]);
    let before = contents(&mut raw, &queue);
    let refused = builder(&address, &queue).open();
    assert!(
        matches!(refused, Err(QueueError::Corrupt(_))),
        "{refused:?}"
    );
    // Nor by those who have it open, whatever they call.
    let refused = broker.enqueue(&[job("c")]);
    assert!(
        matches!(refused, Err(QueueError::Corrupt(_))),
        "{refused:?}"
    );
    let refused = broker.claim(&common::request(1, LEASE));
    assert!(
        matches!(refused, Err(QueueError::Corrupt(_))),
        "{refused:?}"
    );
    assert!(broker.stats().is_err());
    assert_eq!(contents(&mut raw, &queue), before, "nothing is written");
    // Something else has the key.
    let queue = fresh();
    raw.run(&["SET", &key(&queue, "conf"), "mine"]);
    let refused = builder(&address, &queue).open();
    assert!(
        matches!(refused, Err(QueueError::Corrupt(_))),
        "{refused:?}"
    );
    assert_eq!(raw.run(&["GET", &key(&queue, "conf")]).text(), "mine");
}

#[test]
fn another_version_of_the_layout_is_refused_and_left_alone() {
    let server = skip_unless!(redis::shared());
    let (address, queue) = (server.url(), fresh());
    enqueue(&open(&address, &queue), &jobs(2));
    let mut raw = server.raw();
    raw.run(&["HSET", &key(&queue, "conf"), "v", "1000"]);
    let before = contents(&mut raw, &queue);
    for builder in [
        builder(&address, &queue),
        builder(&address, &queue).read_only(),
    ] {
        let refused = builder.open();
        let error = refused.expect_err("it is another version");
        assert!(matches!(error, QueueError::Version(_)), "{error:?}");
        assert!(error.to_string().contains("1000"), "{error}");
    }
    assert_eq!(contents(&mut raw, &queue), before);
}

#[test]
fn a_read_only_handle_sees_all_and_changes_nothing() {
    let server = skip_unless!(redis::shared());
    let (address, queue) = (server.url(), fresh());
    // Nor does it make a queue.
    let refused = builder(&address, &queue).read_only().open();
    assert!(
        matches!(refused, Err(QueueError::Address { .. })),
        "{refused:?}"
    );
    assert_eq!(contents(&mut server.raw(), &queue).len(), 0);
    let owner = open(&address, &queue);
    let mut all = jobs(3);
    // One whose time is over, and one that is due: both wait for somebody who may write.
    let mut over = job("over");
    over.expires = Some(Duration::from_micros(1));
    let mut due = job("due");
    due.delay = Duration::from_micros(1);
    all.extend([over, due]);
    enqueue(&owner, &all);
    let before = contents(&mut server.raw(), &queue);
    let openers = Openers::new().with("redis", RedisOpener);
    let looks = openers
        .open_read_only(&format!("{address}?queue={queue}"))
        .expect("it is there");
    let broker = looks.as_broker();
    let admin = broker.admin().expect("it looks");
    let found = admin.stats().expect("it may look");
    assert_eq!(found.ready + found.delayed, 5, "{found:?}");
    assert_eq!(admin.get(all[1].id).unwrap().unwrap().payload, b"1");
    assert_eq!(admin.ready_kinds().unwrap(), ["test"]);
    assert_eq!(
        admin
            .list(&ListRequest::new(JobState::Ready))
            .unwrap()
            .len(),
        4
    );
    assert!(looks.limits().is_ok() && looks.consumers().is_ok());
    assert!(broker.schedule_store().unwrap().schedules().is_ok());
    assert!(admin.retention().is_ok());
    let refused = |answer: Result<(), QueueError>| {
        assert!(matches!(answer, Err(QueueError::ReadOnly(_))), "{answer:?}");
    };
    let id = all[0].id;
    refused(broker.enqueue(&[job("a")]).map(drop));
    refused(broker.claim(&common::request(1, LEASE)).map(drop));
    let lease = anthill_jobs::Lease::new(id, b"token");
    let held = std::slice::from_ref(&lease);
    refused(broker.extend(held, LEASE).map(drop));
    let result = Vec::new();
    refused(
        broker
            .settle(&[(lease.clone(), Settle::Done { result })])
            .map(drop),
    );
    refused(broker.progress(&lease, b"1").map(drop));
    refused(admin.cancel(id).map(drop));
    refused(admin.cancel_running(id).map(drop));
    refused(admin.set_due(&[id], LEASE).map(drop));
    refused(admin.remove_unchanged(&[]).map(drop));
    refused(admin.retry_dead(id).map(drop));
    refused(admin.delete(id).map(drop));
    refused(admin.purge(&[JobState::Ready]).map(drop));
    refused(admin.set_paused(true));
    refused(admin.set_retention(Retention::default()));
    refused(broker.limit_store().unwrap().set_limits(Limits::default()));
    refused(
        broker
            .schedule_store()
            .unwrap()
            .drop_schedule("a")
            .map(drop),
    );
    let registry = broker.consumer_registry().unwrap();
    refused(registry.withdraw("a"));
    assert!(broker.capabilities().has(Capability::Progress));
    assert_eq!(contents(&mut server.raw(), &queue), before);
    let claimed = claim(&owner, 10);
    assert_eq!(finish(&owner, &claimed), 4);
    let _ = JobId::new();
}
