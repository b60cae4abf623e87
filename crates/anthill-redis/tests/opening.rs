//! How a queue is opened: by those who may not, on servers that may lose it, where a part of it is gone, and of another version.

mod common;

use anthill_jobs::broker::Admin;
use anthill_jobs::{
    Broker, Capability, Durability, JobState, Limits, ListRequest, Openers, QueueError, Retention,
    Settle,
};
use anthill_redis::{RedisBroker, RedisOpener};
use anthill_test_support::redis::{self, Options, Persistence, Server};
use anthill_test_support::{eventually, skip_unless, watchdog};
use common::users::{address_of, commands, make_user};
use common::{
    GRACE, LEASE, at_once, builder, claim, contents, ear, enqueue, finish, fresh, job, jobs, key,
    open, stats,
};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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
    make_user(&server, "worker", &queue, &commands());
    let unknown = address_of(&server, "worker", "secret");
    server.raw().run(&["ACL", "SETUSER", "worker", "+info"]);
    let by_info = unknown.clone();
    for (fsync, expected) in [
        ("always", Durability::Fsync),
        ("everysec", Durability::Eventual),
        ("no", Durability::Process),
    ] {
        raw.run(&["CONFIG", "SET", "appendfsync", fsync]);
        assert_eq!(durability(&address), (expected, 0), "{fsync}");
        // `INFO` does not tell how often.
        assert_eq!(durability(&by_info), (Durability::Eventual, 0), "{fsync}");
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
}
