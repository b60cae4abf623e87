//! The example `http_front_door` over real sockets: each answer with its headers; a full pool says 503 and
//! what was answered 201 is done exactly once; a producer ten times too fast takes no more memory; clients
//! that hang up, send nothing or read nothing harm nobody else; and a stop finishes what was accepted.
//!
//! Most tests run the example's server in this process, with a job that the test controls; the last ones
//! run the program.
#![cfg(all(not(anthill_loom), not(miri)))]

#[path = "../examples/http_front_door/front_door.rs"]
mod front_door;
#[path = "../examples/http_front_door/job.rs"]
mod job;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use anthill::{Pool, Stats};
use front_door::{Limits, serve};
use job::Job;
use support::{
    Arrivals, DEADLINE, Gate, Log, assert_at_rest, eventually_eq, expect_accepted,
    in_child_process, receive, watchdog,
};
use tokio::sync::oneshot;

// ── what is answered ──────────────────────────────────────────────────────────────────────────────

/// A form and JSON say the same, whatever the case and the parameters of the content type.
#[test]
fn a_job_is_accepted_as_a_form_and_as_json_and_gets_what_was_sent() {
    let done = Log::new();
    let server = Server::start(pool(1, 10), Limits::default(), noting(&done));
    let mut client = server.client();
    for (content_type, body) in [
        (FORM, "name=caf%C3%A9+au+lait&delay_ms=1"),
        (JSON, r#"{"delay_ms": 10000, "name": "café au lait"}"#),
        (
            "application/JSON; charset=utf-8",
            r#"{"name":"-","delay_ms":77,"more":[]}"#,
        ),
        (
            "APPLICATION/x-www-form-urlencoded;charset=utf-8",
            "more=&delay_ms=500&name=%26%3D",
        ),
    ] {
        let reply = client.post(content_type, body);
        assert_eq!(reply.status, 201, "{body}: {reply:?}");
        assert_eq!(reply.header("allow"), None);
        assert_eq!(reply.header("retry-after"), None);
    }
    drop(client);
    let stats = server.stop();
    assert_eq!(
        (stats.submitted, stats.completed, stats.rejected),
        (4, 4, 0)
    );
    let expected = [
        ("café au lait", 1),
        ("café au lait", 10_000),
        ("-", 77),
        ("&=", 500),
    ];
    assert_eq!(
        done.entries(),
        expected.map(|(name, delay)| (name.to_owned(), Duration::from_millis(delay)))
    );
}

/// A bad body is answered 400 with its reason, and the pool never hears of it.
#[test]
fn a_bad_body_is_told_what_is_wrong_with_it() {
    let server = Server::start(pool(1, 10), Limits::default(), drop);
    let mut client = server.client();
    let bounds = "delay_ms must be between 1 and 10000";
    for (content_type, body, reason) in [
        (FORM, "", "missing field `name`"),
        (FORM, "delay_ms=5", "missing field `name`"),
        (FORM, "name=x", "missing field `delay_ms`"),
        (FORM, "name=&delay_ms=5", "the name is empty"),
        (FORM, "name=x&name=y&delay_ms=5", "duplicate field `name`"),
        (FORM, "name=x&delay_ms=0", bounds),
        (FORM, "name=x&delay_ms=10001", bounds),
        (FORM, "name=x&delay_ms=18446744073709551615", bounds),
        (
            FORM,
            "name=x&delay_ms=18446744073709551616",
            "number too large",
        ),
        (FORM, "name=x&delay_ms=-1", "invalid digit"),
        (FORM, "name=x&delay_ms=5s", "invalid digit"),
        (
            FORM,
            "name=x&delay_ms=",
            "cannot parse integer from empty string",
        ),
        (JSON, "", "EOF while parsing"),
        (JSON, "{", "EOF while parsing"),
        (JSON, "[]", "invalid"),
        (JSON, r#"{"name":"x"}"#, "missing field `delay_ms`"),
        (JSON, r#"{"name":"x","delay_ms":0}"#, bounds),
        (JSON, r#"{"name":"x","delay_ms":10001}"#, bounds),
        (JSON, r#"{"name":"x","delay_ms":-1}"#, "invalid value"),
        (JSON, r#"{"name":"x","delay_ms":1.5}"#, "invalid type"),
        (JSON, r#"{"name":"x","delay_ms":"5"}"#, "invalid type"),
        (JSON, r#"{"name":7,"delay_ms":5}"#, "invalid type"),
        (
            JSON,
            r#"{"name":"x","delay_ms":5} x"#,
            "trailing characters",
        ),
    ] {
        let reply = client.post(content_type, body);
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(reply.body.contains(reason), "{body}: {reply:?}");
    }
    drop(client);
    let stats = server.stop();
    assert_eq!((stats.submitted, stats.rejected), (0, 0));
}

/// What is neither a form nor JSON is not guessed at.
#[test]
fn another_kind_of_body_is_refused_as_such() {
    let server = Server::start(pool(1, 10), Limits::default(), drop);
    let mut client = server.client();
    for content_type in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/jsonl",
        "",
    ] {
        let reply = client.post(content_type, &form("x", 1));
        assert_eq!(reply.status, 415, "{content_type}: {reply:?}");
    }
    let without = client.ask("POST", "/work", "", form("x", 1).as_bytes());
    assert_eq!(without.status, 415, "{without:?}");
    drop(client);
    assert_eq!(server.stop().submitted, 0);
}

/// A method that `/work` has not is answered 405, and `Allow` says which it has.
#[test]
fn another_method_is_told_which_is_allowed() {
    let server = Server::start(pool(1, 10), Limits::default(), drop);
    let mut client = server.client();
    for method in [
        "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "post",
    ] {
        let reply = client.ask(method, "/work", "", b"");
        assert_eq!(reply.status, 405, "{method}: {reply:?}");
        assert_eq!(reply.header("allow"), Some("POST"), "{method}: {reply:?}");
    }
    // With a job in it all the same.
    let content_type = format!("Content-Type: {FORM}\r\n");
    let reply = client.ask("PUT", "/work", &content_type, form("x", 1).as_bytes());
    assert_eq!(reply.status, 405, "{reply:?}");
    drop(client);
    assert_eq!(server.stop().submitted, 0);
}

/// There is `/work` alone, with or without a query.
#[test]
fn another_path_is_not_found() {
    let server = Server::start(pool(1, 10), Limits::default(), drop);
    let mut client = server.client();
    let content_type = format!("Content-Type: {FORM}\r\n");
    let body = form("x", 1);
    for path in [
        "/", "/works", "/work/", "/Work", "/stop", "//work", "/?/work",
    ] {
        for method in ["POST", "GET"] {
            let reply = client.ask(method, path, &content_type, body.as_bytes());
            assert_eq!(reply.status, 404, "{method} {path}: {reply:?}");
            assert_eq!(reply.header("allow"), None, "{method} {path}: {reply:?}");
        }
    }
    let reply = client.ask("POST", "/work?name=y", &content_type, body.as_bytes());
    assert_eq!(reply.status, 201, "{reply:?}");
    drop(client);
    assert_eq!(server.stop().submitted, 1);
}

/// A body has a limit, to the byte, whether its length is told before or shows as it comes.
#[test]
fn a_body_too_large_is_refused_and_one_byte_less_is_not() {
    let limits = Limits {
        body: 100,
        ..Limits::default()
    };
    let server = Server::start(pool(1, 10), limits, drop);
    let fits = form(&"x".repeat(100 - form("", 1).len()), 1);
    assert_eq!(fits.len(), 100);
    let mut client = server.client();
    for surplus in ["", "&", "&a=1", &"&".repeat(1_000_000)] {
        let expected = if surplus.is_empty() { 201 } else { 413 };
        let body = format!("{fits}{surplus}");
        let reply = client.post(FORM, &body);
        assert_eq!(reply.status, expected, "{} bytes: {reply:?}", body.len());
        client.send_chunked_post(&body);
        let reply = client.reply("POST");
        assert_eq!(reply.status, expected, "{} bytes: {reply:?}", body.len());
    }
    drop(client);
    assert_eq!(server.stop().submitted, 2);
}

/// A body far beyond the limit is not kept while it comes, whether its length is told or not.
#[test]
fn a_body_of_any_size_takes_no_memory() {
    const PIECES: usize = 1_000;
    in_child_process(
        "a_body_of_any_size_takes_no_memory",
        Duration::from_secs(60),
        || {
            let limits = Limits {
                patience: NEVER,
                ..Limits::default()
            };
            let server = Server::start(pool(1, 10), limits, drop);
            let piece = "x".repeat(30_000);
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            let mut client = server.client();
            assert_eq!(client.post(FORM, &form("warm-up", 1)).status, 201);
            let extra = extra_bytes(|| {
                client.send(head(FORM, PIECES * piece.len()));
                for _ in 0..PIECES {
                    client.send(&piece);
                }
                assert_eq!(client.reply("POST").status, 413);
                client.send(chunked_head());
                for _ in 0..PIECES {
                    client.send(&chunk);
                }
                client.send("0\r\n\r\n");
                assert_eq!(client.reply("POST").status, 413);
            });
            assert!(extra < 100_000, "{extra} bytes");
            drop(client);
            assert_eq!(server.stop().submitted, 1);
        },
    );
}

/// A head has a limit as well: however much a client sends, it is not kept.
#[test]
fn a_head_too_large_is_refused() {
    let server = Server::start(pool(1, 10), Limits::default(), drop);
    let mut client = server.client();
    client.send("POST /work HTTP/1.1\r\nHost: x\r\nX: ");
    client.send("x".repeat(16 * 1024));
    assert_eq!(client.reply("POST").status, 431);
    client.expect_end();
    drop(client);
    assert_eq!(server.stop().submitted, 0);
}

// ── a full pool ───────────────────────────────────────────────────────────────────────────────────

/// With `workers` jobs running and `backlog` waiting the next is told to come back, and once one is
/// done there is room for one.
#[test]
fn a_full_pool_is_told_at_once_and_has_room_again_when_a_job_is_done() {
    let (permit, permits) = mpsc::channel::<()>();
    let permits = Mutex::new(permits);
    let server = Server::start(pool(1, 2), Limits::default(), move |_| {
        receive("a job may end", &permits.lock().unwrap());
    });
    let mut client = server.client();
    for number in 0..3 {
        let reply = client.post(FORM, &form(&number.to_string(), 1));
        assert_eq!(reply.status, 201, "{number}: {reply:?}");
    }
    for _ in 0..5 {
        let reply = client.post(FORM, &form("one too many", 1));
        assert_eq!(reply.status, 503, "{reply:?}");
        let seconds = reply.header("retry-after").map(str::parse::<u32>);
        assert!(matches!(seconds, Some(Ok(1..))), "{reply:?}");
        assert_eq!(reply.body, "the pool has no room\n");
        // A bad request is not worth a second try, however full the pool is.
        assert_eq!(client.post(FORM, "").status, 400);
        assert_eq!(client.ask("GET", "/work", "", b"").status, 405);
    }
    permit.send(()).unwrap();
    eventually_eq("the worker has taken the next", 1, || server.pool.queued());
    assert_eq!(client.post(FORM, &form("there is room", 1)).status, 201);
    assert_eq!(client.post(FORM, &form("one too many", 1)).status, 503);
    for _ in 0..3 {
        permit.send(()).unwrap();
    }
    drop(client);
    let stats = server.stop();
    assert_eq!(
        (stats.submitted, stats.completed, stats.rejected),
        (4, 4, 6)
    );
}

/// Many clients at a time, first on a pool whose jobs do not end and then on one whose jobs do: what was
/// answered 201 is done exactly once, what was answered 503 never, and the pool never holds more than it
/// has room for, as counted by clients and jobs.
#[test]
fn what_is_answered_201_is_done_exactly_once_and_nothing_else_is() {
    const CLIENTS: usize = 8;
    const EACH: usize = 200;
    const WORKERS: usize = 2;
    const BACKLOG: usize = 8;
    const ROOM: usize = WORKERS + BACKLOG;

    let gate = Gate::new();
    let done = Log::new();
    let work = {
        let (gate, done) = (gate.clone(), done.clone());
        move |job: Job| {
            gate.wait();
            done.push(job.name);
        }
    };
    let server = Server::start(pool(WORKERS, BACKLOG), Limits::default(), work);
    let gate = gate.opened_on_drop();
    let accepted = Log::new();

    let hammer = |phase: &str| {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (server, accepted, done) = (&server, &accepted, &done);
                scope.spawn(move || {
                    let mut connection = server.client();
                    for number in 0..EACH {
                        let name = format!("{phase} {client} {number}");
                        let reply = connection.post(FORM, &form(&name, 1));
                        match reply.status {
                            201 => accepted.push(name),
                            503 => assert!(reply.header("retry-after").is_some(), "{reply:?}"),
                            _ => panic!("{reply:?}"),
                        }
                        // In this order, so that what is done meanwhile makes it less.
                        let accepted = accepted.len();
                        let held = accepted.saturating_sub(done.len());
                        assert!(held <= ROOM, "{held} accepted and not done");
                    }
                });
            }
        });
    };
    hammer("shut");
    assert_eq!((accepted.len(), done.len()), (ROOM, 0));
    eventually_eq("the others wait", BACKLOG, || server.pool.queued());
    gate.open();
    server.pool.wait_idle();
    hammer("open");

    let stats = server.stop();
    let (mut accepted, mut done) = (accepted.entries(), done.entries());
    accepted.sort_unstable();
    done.sort_unstable();
    assert!(accepted.len() > ROOM);
    assert_eq!(done, accepted, "each once");
    assert_eq!(stats.completed, accepted.len() as u64);
    assert_eq!(
        stats.submitted + stats.rejected,
        2 * (CLIENTS * EACH) as u64
    );
}

/// Ten requests for each job that is done, ten thousand in all: nine of ten are refused, the pool never
/// holds more than it has room for, and memory and threads stay where they were.
#[test]
fn a_producer_ten_times_too_fast_takes_no_memory() {
    const ROUNDS: usize = 1_000;
    const WARM_UP: usize = 100;
    const CLIENTS: usize = 10;
    const BACKLOG: usize = 16;
    const NAME: usize = 3_000;

    in_child_process(
        "a_producer_ten_times_too_fast_takes_no_memory",
        Duration::from_secs(120),
        || {
            let (permit, permits) = mpsc::channel::<()>();
            let permits = Mutex::new(permits);
            let server = Server::start(pool(1, BACKLOG), Limits::default(), move |_| {
                receive("a job may end", &permits.lock().unwrap());
            });
            let body = form(&"x".repeat(NAME), 1);
            let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
            for number in 0..=BACKLOG {
                let reply = clients[0].post(FORM, &body);
                assert_eq!(reply.status, 201, "{number}: {reply:?}");
            }
            let mut before = (0, 0);
            for round in 0..ROUNDS {
                permit.send(()).unwrap();
                eventually_eq("there is room for one", BACKLOG - 1, || {
                    server.pool.queued()
                });
                // All ask before any is answered, as far as the test can tell.
                for client in &mut clients {
                    client.send_post(FORM, body.as_bytes());
                }
                let mut accepted = 0;
                for client in &mut clients {
                    match client.reply("POST").status {
                        201 => accepted += 1,
                        503 => {}
                        other => panic!("{other}"),
                    }
                    assert!(server.pool.queued() <= BACKLOG);
                }
                assert_eq!(accepted, 1, "round {round}");
                let now = (live_bytes(), threads());
                if round == WARM_UP {
                    before = now;
                }
                if round > WARM_UP {
                    // Had the refused been kept, these would be 27 MB in the end.
                    assert!(
                        now.0 < before.0 + 100_000,
                        "round {round}: {before:?}, {now:?}"
                    );
                    assert_eq!(now.1, before.1, "round {round}: threads");
                }
            }
            let refused = (CLIENTS - 1) * ROUNDS;
            assert_eq!(server.pool.stats().rejected, refused as u64);
            for _ in 0..=BACKLOG {
                permit.send(()).unwrap();
            }
            drop(clients);
            let stats = server.stop();
            assert_eq!(stats.completed, (1 + BACKLOG + ROUNDS) as u64);
        },
    );
}

// ── clients that do not do as they should ─────────────────────────────────────────────────────────

/// A request that arrived whole is served, also if nobody waits for the answer.
#[test]
fn a_client_that_hangs_up_after_sending_loses_no_job() {
    const CLIENTS: usize = 200;
    let done = Log::new();
    let server = Server::start(pool(2, CLIENTS), Limits::default(), noting(&done));
    for number in 0..CLIENTS {
        server
            .client()
            .send_post(FORM, form(&number.to_string(), 1).as_bytes());
    }
    eventually_eq("all were accepted", CLIENTS as u64, || {
        server.pool.stats().submitted
    });
    let stats = server.stop();
    assert_eq!((stats.completed, stats.rejected), (CLIENTS as u64, 0));
    let mut numbers: Vec<usize> = done
        .entries()
        .into_iter()
        .map(|(name, _)| name.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..CLIENTS));
}

/// A client that has said all it will say, and closed that half, still gets its answer.
#[test]
fn a_client_that_closes_its_half_is_answered() {
    let server = Server::start(pool(1, 10), Limits::default(), drop);
    let mut client = server.client();
    client.send_post(FORM, form("x", 1).as_bytes());
    client.hang_up_half();
    assert_eq!(client.reply("POST").status, 201);
    client.expect_end();
    assert_eq!(server.stop().completed, 1);
}

/// Half a body is no job, and its place is free as soon as the client has gone.
#[test]
fn a_client_that_hangs_up_half_way_leaves_nothing_behind() {
    let limits = Limits {
        connections: 1,
        patience: NEVER,
        ..Limits::default()
    };
    let done = Log::new();
    let server = Server::start(pool(1, 10), limits, noting(&done));
    for _ in 0..10 {
        let mut client = server.client();
        client.begin_post(&form("half", 1));
        client.send("name=ha");
        drop(client);
    }
    assert_eq!(server.client().post(FORM, &form("whole", 1)).status, 201);
    server.stop();
    assert_eq!(
        done.entries(),
        [("whole".to_owned(), Duration::from_millis(1))]
    );
}

/// There is one connection at a time if so it was said: a second client is served when the first has
/// gone, and not before.
#[test]
fn no_more_clients_are_served_than_there_are_places() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let server = Server::start(pool(1, 10), limits, drop);
    let mut first = server.client();
    assert_eq!(first.post(FORM, &form("first", 1)).status, 201);
    let mut second = server.client();
    second.send_post(FORM, form("second", 1).as_bytes());
    // The server turns many times, and would have seen to the second client in any of them.
    for _ in 0..300 {
        assert_eq!(first.ask("GET", "/", "", b"").status, 404);
    }
    assert_eq!(server.pool.stats().submitted, 1);
    drop(first);
    assert_eq!(second.reply("POST").status, 201);
    drop(second);
    assert_eq!(server.stop().completed, 2);
}

/// A client that is silent holds a place and nobody up.
#[test]
fn a_slow_client_does_not_hold_up_the_others() {
    let limits = Limits {
        connections: 4,
        patience: NEVER,
        ..Limits::default()
    };
    let server = Server::start(pool(1, 200), limits, drop);
    let silent = server.client();
    let mut half_a_head = server.client();
    half_a_head.send("POST /work HT");
    let mut no_body = server.client();
    no_body.begin_post(&form("late", 1));
    for _ in 0..100 {
        assert_eq!(server.client().post(FORM, &form("x", 1)).status, 201);
    }
    // It is late, not lost.
    no_body.send(form("late", 1));
    assert_eq!(no_body.reply("POST").status, 201);
    drop((silent, half_a_head, no_body));
    assert_eq!(server.stop().completed, 101);
}

/// However a client is slow, its place is free again in a while; all places are taken by such here.
#[test]
fn a_client_that_is_too_slow_is_sent_away() {
    let limits = Limits {
        connections: 4,
        patience: SHORT,
        body: 1_000_000,
        ..Limits::default()
    };
    let server = Server::start(pool(1, 10), limits, drop);
    let mut silent = server.client();
    let mut half_a_head = server.client();
    half_a_head.send("POST /work HT");
    let mut no_body = server.client();
    no_body.send(head(FORM, 10));
    let mut byte_by_byte = server.client();
    byte_by_byte.send(head(FORM, 1_000_000));
    let byte_by_byte = thread::spawn(move || {
        // Never silent for as long as the patience, and far from done after the deadline.
        while byte_by_byte.try_send("x").is_ok() && byte_by_byte.says_nothing_for(SHORT / 10) {}
        byte_by_byte
    });
    assert_eq!(server.client().post(FORM, &form("x", 1)).status, 201);

    silent.expect_end();
    half_a_head.expect_end();
    let reply = no_body.reply("POST");
    assert_eq!(reply.status, 408, "{reply:?}");
    assert_eq!(reply.header("connection"), Some("close"));
    no_body.expect_end();
    let mut byte_by_byte = watchdog("the slow sender is cut off", || {
        byte_by_byte.join().unwrap()
    });
    assert_eq!(byte_by_byte.reply("POST").status, 408);
    assert_eq!(server.stop().submitted, 1);
}

/// Who sends and sends and never reads the answers is cut off when its time is up.
#[test]
fn a_client_that_reads_nothing_is_sent_away() {
    let limits = Limits {
        connections: 1,
        patience: SHORT,
        // Time enough for the answers to fill what holds them on the way, which is made small.
        age: SHORT * 10,
        ..Limits::default()
    };
    let server = Server::start(pool(1, 10), limits, drop);
    let mut deaf = Client::connect_with_small_buffer(server.address);
    let requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    let deaf = thread::spawn(move || {
        loop {
            match deaf.try_send(&requests) {
                Ok(()) => {}
                Err(error) => break error.kind(),
            }
        }
    });
    assert_eq!(server.client().post(FORM, &form("x", 1)).status, 201);
    let error = deaf.join().unwrap();
    let cut_off = [
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
    ];
    assert!(cut_off.contains(&error), "{error:?}");
    assert_eq!(server.stop().completed, 1);
}

// ── the end ───────────────────────────────────────────────────────────────────────────────────────

/// A stop takes no new client, answers the request in hand, and then all that was accepted is done.
#[test]
fn a_stop_finishes_what_was_accepted_and_what_was_being_asked() {
    const BACKLOG: usize = 20;
    let gate = Gate::new();
    let (began, done) = (Arrivals::new(), Log::new());
    let work = {
        let (gate, began, done) = (gate.clone(), began.clone(), done.clone());
        move |job: Job| {
            began.arrive();
            gate.wait();
            done.push(job.name);
        }
    };
    // An address of its own, so that no other test can be listening there afterwards.
    let host = if cfg!(target_os = "linux") {
        "127.0.0.2:0"
    } else {
        "127.0.0.1:0"
    };
    let mut server = Server::start_on(host, pool(1, BACKLOG), Limits::default(), work);
    let gate = gate.opened_on_drop();

    let mut idle = server.client();
    for number in 0..BACKLOG {
        assert_eq!(idle.post(FORM, &form(&number.to_string(), 1)).status, 201);
    }
    began.wait_for(1);
    let mut in_hand = server.client();
    let body = form(&BACKLOG.to_string(), 1);
    in_hand.begin_post(&body);

    server.ask_to_stop();
    idle.expect_end();
    in_hand.send(&body);
    let reply = in_hand.reply("POST");
    assert_eq!(reply.status, 201, "{reply:?}");
    in_hand.expect_end();
    server.wait_until_closed();
    assert!(
        TcpStream::connect(server.address).is_err(),
        "nobody listens any more"
    );

    // The door is closed, and the jobs are not lost.
    assert_eq!((server.pool.running(), server.pool.queued()), (1, BACKLOG));
    assert_eq!(done.len(), 0);
    gate.open();
    let stats = server.stop();
    assert_eq!(stats.completed, BACKLOG as u64 + 1);
    let expected: Vec<_> = (0..=BACKLOG).map(|number| number.to_string()).collect();
    assert_eq!(done.entries(), expected);
}

/// Those who hold a connection and ask nothing hold up no stop, beyond the patience.
#[test]
fn a_stop_does_not_wait_for_silent_clients() {
    let limits = Limits {
        patience: SHORT,
        age: NEVER,
        ..Limits::default()
    };
    let server = Server::start(pool(1, 10), limits, drop);
    let silent: Vec<_> = (0..5).map(|_| server.client()).collect();
    let mut half: Vec<_> = (0..5).map(|_| server.client()).collect();
    for client in &mut half {
        client.send("POST /work HTTP/1.1\r\nHo");
    }
    assert_eq!(server.client().post(FORM, &form("x", 1)).status, 201);
    assert_eq!(server.stop().completed, 1);
    drop((silent, half));
}

// ── the program ───────────────────────────────────────────────────────────────────────────────────

/// The command of the README: it checks itself, and says what it saw.
#[test]
fn the_demo_accounts_for_every_request() {
    let run = support::run_to_end(program::command().arg("--demo"), Duration::from_secs(60));
    assert!(run.success, "{run:?}");
    let [accepted, refused, done, discarded] = program::counts(&run.text);
    assert_eq!(
        (accepted + refused, done, discarded),
        (1_000, accepted, 0),
        "{run:?}"
    );
    assert!(accepted > 0 && refused > 0, "{run:?}");
    let told = format!("201 for {accepted}, 503 for {refused}");
    assert!(run.text.contains(&told), "{run:?}");
}

/// SIGTERM and SIGINT let every accepted job be done; a second one discards what has not begun.
#[cfg(unix)]
#[test]
fn a_signal_stops_the_program_and_a_second_one_hurries_it() {
    for (signal, delay, jobs, hurried) in [
        ("TERM", 100, 5, false),
        ("INT", 100, 5, false),
        // These would take half a minute.
        ("TERM", 1_500, 20, true),
    ] {
        let mut running = program::start(&["--workers", "1", "--backlog", "50"]);
        let mut client = Client::connect(running.address);
        for number in 0..jobs {
            assert_eq!(
                client.post(FORM, &form(&number.to_string(), delay)).status,
                201
            );
        }
        drop(client);
        running.signal(signal);
        running.wait_for_line("stopping: ");
        if hurried {
            running.signal(signal);
        }
        let (code, text) = running.finish();
        assert_eq!(code, Some(0), "{text}");
        let [accepted, refused, done, discarded] = program::counts(&text);
        assert_eq!((accepted, refused), (jobs, 0), "{text}");
        assert_eq!(done + discarded, jobs, "{text}");
        assert_eq!(discarded > 0, hurried, "{text}");
    }
}

// ── a server of this process ──────────────────────────────────────────────────────────────────────

/// Longer than any test waits.
const NEVER: Duration = Duration::from_secs(3_600);

/// For the tests in which a time must be up.
const SHORT: Duration = Duration::from_millis(50);

fn pool(workers: usize, backlog: usize) -> Pool {
    Pool::builder()
        .capacity(workers)
        .backlog(backlog)
        .build()
        .unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn noting(done: &Log<(String, Duration)>) -> impl Fn(Job) + Send + Sync + use<> {
    let done = done.clone();
    move |job| done.push((job.name, job.delay))
}

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    pool: Pool,
}

impl Server {
    fn start(pool: Pool, limits: Limits, work: impl Fn(Job) + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1:0", pool, limits, work)
    }

    fn start_on(
        host: &str,
        pool: Pool,
        limits: Limits,
        work: impl Fn(Job) + Send + Sync + 'static,
    ) -> Self {
        // Sets the alarm of this binary, without a trace in the books of the pool under test.
        expect_accepted(Pool::with_capacity(1).submit(|| {}));
        let listener = TcpListener::bind(host).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let handle = pool.handle();
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let stop = async {
                    // Sent or dropped.
                    let _ = stopped.await;
                };
                serve(listener, handle, limits, work, stop).await;
            });
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
            pool,
        }
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    fn ask_to_stop(&mut self) {
        self.stop = None;
    }

    fn wait_until_closed(&mut self) {
        if let Some(thread) = self.thread.take() {
            watchdog("the server has stopped", || thread.join().unwrap());
        }
    }

    /// Stops the server and then the pool, as the example does.
    fn stop(mut self) -> Stats {
        self.ask_to_stop();
        self.wait_until_closed();
        self.pool.release_timeout(DEADLINE).unwrap();
        assert_at_rest(&self.pool);
        self.pool.stats()
    }
}

// ── a client ──────────────────────────────────────────────────────────────────────────────────────

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// The body that asks for a job; the name is put there as it is.
fn form(name: &str, delay_ms: u64) -> String {
    format!("name={name}&delay_ms={delay_ms}")
}

fn head(content_type: &str, length: usize) -> String {
    format!(
        "POST /work HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn chunked_head() -> String {
    format!(
        "POST /work HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
}

/// One connection. It speaks as much HTTP as it must, and waits for nothing longer than the deadline.
struct Client(BufReader<TcpStream>);

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|header| header.0 == name);
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} once: {self:?}");
        Some(&value.1)
    }
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&address, DEADLINE).unwrap())
    }

    /// One for which the system keeps no more than it must of what was not read yet.
    fn connect_with_small_buffer(address: SocketAddr) -> Self {
        let stream = runtime().block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(1).unwrap();
            let stream = socket.connect(address).await.unwrap();
            stream.into_std().unwrap()
        });
        stream.set_nonblocking(false).unwrap();
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())
    }

    #[track_caller]
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    #[track_caller]
    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        self.send([head.as_bytes(), body].concat());
        self.reply(method)
    }

    #[track_caller]
    fn send_post(&mut self, content_type: &str, body: &[u8]) {
        self.send([head(content_type, body.len()).as_bytes(), body].concat());
    }

    /// With a body whose length shows only at its end.
    #[track_caller]
    fn send_chunked_post(&mut self, body: &str) {
        let mut request = chunked_head().into_bytes();
        for chunk in body.as_bytes().chunks(64) {
            write!(request, "{:x}\r\n", chunk.len()).unwrap();
            request.extend(chunk);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        self.send(request);
    }

    #[track_caller]
    fn post(&mut self, content_type: &str, body: &str) -> Reply {
        self.send_post(content_type, body.as_bytes());
        self.reply("POST")
    }

    /// Sends a head, and returns when the server waits for the body.
    #[track_caller]
    fn begin_post(&mut self, body: &str) {
        let head = head(FORM, body.len());
        let head = head.strip_suffix("\r\n").unwrap();
        self.send(format!("{head}Expect: 100-continue\r\n\r\n"));
        assert_eq!(self.reply("POST").status, 100);
    }

    /// The next reply, which is one to such a request.
    #[track_caller]
    fn reply(&mut self, method: &str) -> Reply {
        let line = self.line();
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("no status: {line:?}"));
        let mut reply = Reply {
            status,
            headers: Vec::new(),
            body: String::new(),
        };
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            let header = (name.to_ascii_lowercase(), value.trim().to_owned());
            reply.headers.push(header);
        }
        if method != "HEAD" {
            let length = reply
                .header("content-length")
                .map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).unwrap();
            reply.body = String::from_utf8(body).unwrap();
        }
        reply
    }

    /// A line without its end.
    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let text = line.strip_suffix("\r\n");
        text.unwrap_or_else(|| panic!("half a line: {line:?}"))
            .to_owned()
    }

    /// The server says nothing more, and closes.
    #[track_caller]
    fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(String::from_utf8_lossy(&rest), ""),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    fn hang_up_half(&mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    fn says_nothing_for(&mut self, time: Duration) -> bool {
        let stream = self.0.get_mut();
        stream.set_read_timeout(Some(time)).unwrap();
        let silent = stream.peek(&mut [0]).is_err_and(|error| {
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        });
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        silent
    }
}

// ── the program ───────────────────────────────────────────────────────────────────────────────────

mod program {
    use std::env;
    use std::ffi::OsStr;
    use std::io::{BufRead, BufReader};
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::sync::OnceLock;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use crate::support::{DEADLINE, becomes_true};

    /// Where cargo puts examples, beside this test; built here if only this test was asked for.
    pub(crate) fn command() -> Command {
        static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
        Command::new(EXAMPLE.get_or_init(|| {
            let test = env::current_exe().unwrap();
            let profile = test.ancestors().nth(2);
            let profile = profile.expect("<target>/<profile>/deps/<test>");
            let name = format!("http_front_door{}", env::consts::EXE_SUFFIX);
            let example = profile.join("examples").join(name);
            if !example.exists() {
                let name = match profile.file_name().and_then(OsStr::to_str) {
                    Some("debug") => "dev",
                    Some(name) => name,
                    None => panic!("no profile in {}", test.display()),
                };
                let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
                let built = Command::new(cargo)
                    .args(["build", "--quiet", "--example", "http_front_door"])
                    .args(["--profile", name, "--target-dir"])
                    .arg(profile.parent().unwrap())
                    .current_dir(env!("CARGO_MANIFEST_DIR"))
                    .status();
                assert!(
                    built.is_ok_and(|status| status.success()),
                    "build the example `http_front_door` first"
                );
            }
            example
        }))
    }

    /// The four numbers of the line that tells them.
    pub(crate) fn counts(text: &str) -> [u64; 4] {
        let line = text.lines().find(|line| line.starts_with("accepted "));
        let line = line.unwrap_or_else(|| panic!("no counts in {text}"));
        let numbers: Vec<_> = line
            .split(", ")
            .zip(["accepted ", "refused ", "done ", "discarded "])
            .map(|(part, name)| part.strip_prefix(name).unwrap().parse().unwrap())
            .collect();
        numbers.try_into().unwrap()
    }

    /// The program as a child, killed if the test gives it up.
    pub(crate) struct Running {
        pub(crate) address: SocketAddr,
        child: Child,
        lines: Receiver<String>,
        text: String,
    }

    pub(crate) fn start(options: &[&str]) -> Running {
        let mut child = command()
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = channel();
        thread::spawn(move || {
            for text in stdout.lines() {
                let _ = line.send(text.unwrap());
            }
        });
        let mut running = Running {
            address: ([127, 0, 0, 1], 0).into(),
            child,
            lines,
            text: String::new(),
        };
        let line = running.wait_for_line("listening on http://");
        let address = line.strip_suffix("/work").expect("the path");
        running.address = address.parse().unwrap();
        running
    }

    impl Running {
        /// What follows `start` on the first line to come that starts so.
        #[track_caller]
        pub(crate) fn wait_for_line(&mut self, start: &str) -> String {
            loop {
                let line = self.lines.recv_timeout(DEADLINE);
                let line = line.unwrap_or_else(|error| panic!("{start}: {error}: {}", self.text));
                self.text += &line;
                self.text.push('\n');
                if let Some(rest) = line.strip_prefix(start) {
                    return rest.to_owned();
                }
            }
        }

        #[cfg(unix)]
        pub(crate) fn signal(&self, name: &str) {
            let id = self.child.id().to_string();
            let sent = Command::new("kill").args(["-s", name, &id]).status();
            assert!(sent.unwrap().success());
        }

        /// How it ended, and all it said.
        pub(crate) fn finish(mut self) -> (Option<i32>, String) {
            let mut status = None;
            let ended = becomes_true(DEADLINE, || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            });
            assert!(ended, "still running: {}", self.text);
            for line in &self.lines {
                self.text += &line;
                self.text.push('\n');
            }
            (status.unwrap().code(), std::mem::take(&mut self.text))
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

// ── memory ────────────────────────────────────────────────────────────────────────────────────────

/// Counts what is allocated and not given back, and the most that ever was.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` or `realloc`, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        grow(new);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as for `dealloc`; the new size is the caller's.
        unsafe { System.realloc(pointer, layout, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// How many bytes more than at the beginning were live at any moment of `run`.
fn extra_bytes(run: impl FnOnce()) -> usize {
    let before = live_bytes();
    PEAK.store(before, Ordering::SeqCst);
    run();
    PEAK.load(Ordering::SeqCst) - before
}

/// How many threads this process has; elsewhere nobody asks.
fn threads() -> usize {
    #[cfg(target_os = "linux")]
    return support::linux::threads().len();
    #[cfg(not(target_os = "linux"))]
    0
}
