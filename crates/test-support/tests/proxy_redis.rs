//! The proxy before a real Redis, and before a server that answers byte by byte.
#![cfg(unix)]

use anthill_test_support::proxy::{Protocol, Proxy, Trigger};
use anthill_test_support::redis::{self, Access, Persistence, Raw, Server, Value};
use anthill_test_support::{DEADLINE, set_alarm, skip_unless};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// A client behind the proxy that has entered.
fn enter(access: &Access, proxy: &Proxy) -> Raw {
    let mut raw = Raw::connect(proxy.address()).unwrap();
    raw.run(&["AUTH", access.password().unwrap()]);
    raw
}

#[track_caller]
fn is_cut(raw: &mut Raw) {
    let told = raw.receive().unwrap_err();
    assert!(
        matches!(
            told.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ),
        "{told}"
    );
}

#[test]
fn a_write_is_done_and_its_reply_lost_or_neither() {
    set_alarm();
    let server = skip_unless!(Server::start(Persistence::Off));
    let proxy = Proxy::start(server.address(), Protocol::Redis);
    let mut raw = enter(&server, &proxy);
    assert_eq!(raw.run(&["INCR", "n"]).integer(), 1);
    assert_eq!((proxy.counts().requests, proxy.counts().replies), (2, 2));

    // In mid-pipeline: what is before it is answered, what is after it is not done.
    let cut = proxy.cut_reply(Trigger::containing("INCR").nth(2));
    for request in [
        &[&b"INCR"[..], b"n"][..],
        &[b"ECHO", b"before"],
        &[b"INCR", b"n"],
        &[b"INCR", b"n"],
    ] {
        raw.send(request).unwrap();
    }
    assert_eq!(raw.receive().unwrap(), Value::Integer(2));
    assert_eq!(raw.receive().unwrap().text(), "before");
    is_cut(&mut raw);
    cut.wait("the reply to the second");
    assert_eq!(server.raw().run(&["GET", "n"]).text(), "3");
    assert_eq!((proxy.counts().requests, proxy.counts().replies), (5, 5));

    let cut = proxy.cut_request(Trigger::containing("\r\nINCR\r\n").nth(2));
    let mut raw = enter(&server, &proxy);
    assert_eq!(raw.run(&["INCR", "n"]).integer(), 4);
    // A text with a whole request in it is one request.
    let text = b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n";
    let before = proxy.counts();
    assert_eq!(
        raw.call(&[b"ECHO", text]).unwrap(),
        Value::Bulk(text.to_vec())
    );
    let after = proxy.counts();
    assert_eq!(
        (after.requests, after.replies),
        (before.requests + 1, before.replies + 1)
    );
    raw.send(&[b"INCR", b"n"]).unwrap();
    is_cut(&mut raw);
    cut.wait("the request");
    assert_eq!(server.raw().run(&["GET", "n"]).text(), "4");
}

#[test]
fn a_transaction_and_a_script_have_a_reply_for_each_request() {
    set_alarm();
    let server = skip_unless!(Server::start(Persistence::Off));
    let proxy = Proxy::start(server.address(), Protocol::Redis);
    let cut = proxy.cut_reply(Trigger::containing("EXEC"));
    let mut raw = enter(&server, &proxy);
    let nested =
        "return {1, {{}, {'a', {redis.status_reply('OK')}}, false}, redis.error_reply('NO')}";
    assert_eq!(raw.run(&["EVAL", nested, "0"]).array().len(), 3);
    raw.run(&["MULTI"]);
    assert_eq!(raw.run(&["SET", "a", "1"]).text(), "QUEUED");
    assert_eq!(raw.run(&["LRANGE", "b", "0", "-1"]).text(), "QUEUED");
    assert_eq!((proxy.counts().requests, proxy.counts().replies), (5, 5));
    raw.send(&[b"EXEC"]).unwrap();
    is_cut(&mut raw);
    cut.wait("the reply to EXEC");
    assert_eq!(proxy.counts().replies, 6);
    assert_eq!(server.raw().run(&["GET", "a"]).text(), "1");
}

#[test]
fn messages_of_a_subscription_are_replies() {
    set_alarm();
    let shared = skip_unless!(redis::shared());
    let channel = "messages_of_a_subscription_are_replies";
    let proxy = Proxy::start(shared.address(), Protocol::Redis);
    let mut raw = enter(shared, &proxy);
    raw.run(&["SUBSCRIBE", channel, "another"]);
    raw.receive().unwrap();
    let mut other = shared.raw();
    for number in 0..10 {
        let told = other.run(&["PUBLISH", channel, &number.to_string()]);
        assert_eq!(told.integer(), 1);
        let message = raw.receive().unwrap().array();
        assert_eq!(message[2].text(), number.to_string());
    }
    assert_eq!((proxy.counts().requests, proxy.counts().replies), (2, 13));
    // It strikes although there were more replies than requests.
    let cut = proxy.cut_reply(Trigger::next());
    raw.send(&[b"PING"]).unwrap();
    is_cut(&mut raw);
    cut.wait("the reply to PING");
    // The answer to the subscription itself.
    let mut raw = enter(shared, &proxy);
    let cut = proxy.cut_reply(Trigger::containing("SUBSCRIBE"));
    raw.send(&[b"SUBSCRIBE", channel.as_bytes()]).unwrap();
    is_cut(&mut raw);
    cut.wait("the reply to SUBSCRIBE");
    assert_eq!(proxy.counts().replies, 13 + 1 + 2);
}

#[test]
fn version_3_of_the_protocol_is_understood() {
    set_alarm();
    let shared = skip_unless!(redis::shared());
    let key = "version_3_of_the_protocol_is_understood";
    let proxy = Proxy::start(shared.address(), Protocol::Redis);
    let mut raw = enter(shared, &proxy);
    shared.raw().run(&["HSET", key, "field", "value"]);
    shared
        .raw()
        .run(&["ZADD", &format!("{key} z"), "1.5", "member"]);
    raw.send(&[b"HELLO", b"3"]).unwrap();
    raw.send(&[b"HGETALL", key.as_bytes()]).unwrap();
    raw.send(&[b"ZSCORE", format!("{key} z").as_bytes(), b"member"])
        .unwrap();
    raw.send(&[b"GET", b"no such key"]).unwrap();
    raw.send(&[b"SUBSCRIBE", key.as_bytes()]).unwrap();
    proxy.wait_for("each has its reply", |counts| counts.replies == 6);
    assert_eq!(proxy.counts().requests, 6);
    // Its maps are none of the raw client, but the last reply is where the proxy says that it is.
    let cut = proxy.cut_reply(Trigger::containing("PING"));
    raw.send(&[b"PING"]).unwrap();
    cut.wait("the reply to PING");
    assert_eq!(proxy.counts().replies, 7);
}

/// A list of lists of texts and numbers, and its bytes.
fn nested(depth: usize, width: usize) -> (Value, Vec<u8>) {
    if depth == 0 {
        let text = b"a\r\n*1\r\n:1\r\n".to_vec();
        let bytes = [&b"$11\r\n"[..], &text, b"\r\n"].concat();
        return (Value::Bulk(text), bytes);
    }
    let mut values = vec![Value::Nil, Value::Integer(7), Value::Array(Vec::new())];
    let mut bytes = format!("*{}\r\n$-1\r\n:7\r\n*0\r\n", width + 3).into_bytes();
    for _ in 0..width {
        let (value, inner) = nested(depth - 1, width);
        values.push(value);
        bytes.extend(inner);
    }
    (Value::Array(values), bytes)
}

#[test]
fn a_large_nested_reply_is_one_also_byte_by_byte() {
    set_alarm();
    let (value, reply) = nested(5, 3);
    assert!(reply.len() > 5000, "{}", reply.len());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), Protocol::Redis);
    let (answer, answers) = channel::<Vec<u8>>();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        for bytes in answers {
            for byte in bytes {
                stream.write_all(&[byte]).unwrap();
            }
        }
        // Until the proxy ends it.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    let mut raw = Raw::connect(proxy.address()).unwrap();
    raw.send(&[b"FIRST"]).unwrap();
    let (last, all_but_it) = reply.split_last().unwrap();
    answer.send(all_but_it.to_vec()).unwrap();
    let length = all_but_it.len() as u64;
    proxy.wait_for("all but the last byte", |counts| counts.to_client == length);
    assert_eq!(proxy.counts().replies, 0);
    answer.send(vec![*last]).unwrap();
    assert_eq!(raw.receive().unwrap(), value);
    assert_eq!(proxy.counts().replies, 1);

    // Of the one that is cut off not a byte comes, though the cut waits for the whole.
    let cut = proxy.cut_reply(Trigger::containing("SECOND"));
    raw.send(&[b"SECOND"]).unwrap();
    answer.send(all_but_it.to_vec()).unwrap();
    // A busy machine can only hide it.
    raw.set_limit(Duration::from_millis(50));
    let told = raw.receive().unwrap_err();
    assert!(matches!(
        told.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    assert!(!cut.has_struck());
    raw.set_limit(DEADLINE);
    answer.send(vec![*last]).unwrap();
    cut.wait("the last byte");
    is_cut(&mut raw);
    assert_eq!(proxy.counts().to_client, length + 1);
    assert_eq!(proxy.counts().replies, 2);
    drop(answer);
    let requests = server.join().unwrap();
    assert_eq!(requests, b"*1\r\n$5\r\nFIRST\r\n*1\r\n$6\r\nSECOND\r\n");
}
