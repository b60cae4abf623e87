//! Private Redis servers: what they can be told, how they are reached, and replicas.
#![cfg(unix)]

use anthill_test_support::redis::{self, Options, Persistence, Raw, Server, Tls, Value};
use anthill_test_support::{run_to_end, set_alarm, skip_unless};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

#[test]
fn options_reach_the_server() {
    set_alarm();
    let options = Options::new(Persistence::Off)
        .password("o\"n\\e: @/")
        .set("maxmemory", "7mb")
        .set("user", "alice on >secret ~mail:* +get");
    let server = skip_unless!(options.start());
    for _ in 0..2 {
        let told = server.raw().run(&["CONFIG", "GET", "maxmemory"]).array();
        assert_eq!(told[1].text(), (7 << 20).to_string());
        let port = server.port();
        assert_eq!(
            server.url(),
            format!("redis://:o%22n%5Ce%3A%20%40%2F@127.0.0.1:{port}/")
        );
        let mut alice = Raw::connect(server.address()).unwrap();
        alice.run(&["AUTH", "alice", "secret"]);
        assert_eq!(alice.run(&["GET", "mail:a"]), Value::Nil);
        let refused = alice.call(&[b"GET", b"other"]).unwrap();
        assert!(matches!(&refused, Value::Error(text) if text.starts_with("NOPERM")));
        server.restart();
    }
    let open = skip_unless!(Options::new(Persistence::Off).without_password().start());
    assert_eq!(open.url(), format!("redis://127.0.0.1:{}/", open.port()));
    assert_eq!(open.raw().run(&["PING"]).text(), "PONG");
}

#[test]
fn nobody_enters_without_the_password() {
    set_alarm();
    let shared = skip_unless!(redis::shared());
    let mut raw = Raw::connect(shared.address()).unwrap();
    let refused = raw.call(&[b"GET", b"a"]).unwrap();
    assert!(matches!(&refused, Value::Error(text) if text.starts_with("NOAUTH")));
    assert!(raw.call(&[b"AUTH", b"guessed"]).unwrap().is_error());
    let mode = fs::metadata(shared.socket().parent().unwrap())
        .unwrap()
        .mode();
    assert_eq!(mode & 0o077, 0, "others can enter the folder of the socket");
}

#[test]
fn a_replica_is_promoted_and_followed() {
    set_alarm();
    let first = skip_unless!(Server::start(Persistence::AofAlways));
    first.raw().run(&["SET", "a", "1"]);
    let options = Options::new(Persistence::AofAlways).replica_of(&first);
    let second = options.start().unwrap();
    second.wait_for_replication();
    let mut raw = second.raw();
    assert_eq!(raw.run(&["GET", "a"]).text(), "1");
    first.raw().run(&["SET", "a", "2"]);
    second.wait_for_replication();
    assert_eq!(raw.run(&["GET", "a"]).text(), "2");
    let refused = raw.call(&[b"SET", b"a", b"3"]).unwrap();
    assert!(matches!(&refused, Value::Error(text) if text.starts_with("READONLY")));

    first.kill();
    second.promote();
    raw.run(&["SET", "a", "3"]);
    // It stays what it has become.
    second.restart();
    second.raw().run(&["SET", "a", "4"]);
    first.start_again();
    assert_eq!(first.raw().run(&["GET", "a"]).text(), "2");
    first.follow(&second);
    first.restart();
    first.wait_for_replication();
    assert_eq!(first.raw().run(&["GET", "a"]).text(), "4");
}

#[test]
fn calls_are_counted_by_command() {
    set_alarm();
    let server = skip_unless!(Server::start(Persistence::Off));
    let mut raw = server.raw();
    raw.run(&["CONFIG", "RESETSTAT"]);
    for _ in 0..3 {
        raw.run(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "a"]);
    }
    let counts = raw.commandstats();
    assert_eq!((counts["eval"], counts["get"]), (3, 3));
    assert_eq!(counts["config|resetstat"], 1);
    assert!(!counts.contains_key("info"));
}

#[test]
fn values_of_each_kind_arrive() {
    set_alarm();
    let mut raw = skip_unless!(redis::shared()).raw();
    let script =
        "return {1, 'a\\r\\n', {redis.status_reply('OK'), {}}, false, redis.error_reply('NO way')}";
    let told = raw.run(&["EVAL", script, "0"]);
    let inner = vec![Value::Status("OK".to_owned()), Value::Array(Vec::new())];
    let expected = vec![
        Value::Integer(1),
        Value::Bulk(b"a\r\n".to_vec()),
        Value::Array(inner),
        Value::Nil,
        Value::Error("NO way".to_owned()),
    ];
    assert_eq!(told, Value::Array(expected));
    // The next one is read from where the last ended.
    assert_eq!(raw.run(&["ECHO", ""]), Value::Bulk(Vec::new()));
    let channel = "values_of_each_kind_arrive";
    raw.run(&["SUBSCRIBE", channel]);
    let mut other = redis::shared().unwrap().raw();
    assert_eq!(other.run(&["PUBLISH", channel, "text"]).integer(), 1);
    let message = raw.receive().unwrap().array();
    assert_eq!(message[2].text(), "text");
}

/// A folder with a certificate for 127.0.0.1 that has signed itself; removed when it is dropped.
struct Certificate(PathBuf);

impl Certificate {
    fn make(test: &str) -> Self {
        let name = format!("anthill-redis-{}-{test}", std::process::id());
        let made = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&made.0).unwrap();
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-subj", "/CN=anthill tests", "-addext"])
            .args(["subjectAltName=IP:127.0.0.1", "-keyout"])
            .arg(made.0.join("key"))
            .arg("-out")
            .arg(made.0.join("certificate"));
        let told = run_to_end(&mut command, LONG);
        assert!(told.success, "{}", told.text);
        made
    }

    fn tls(&self, clients: bool) -> Tls {
        Tls {
            certificate: self.0.join("certificate"),
            key: self.0.join("key"),
            clients: clients.then(|| self.0.join("certificate")),
        }
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn tls_is_spoken_on_a_port_of_its_own() {
    set_alarm();
    skip_unless!(redis::shared());
    let made = Certificate::make("tls");
    for clients in [false, true] {
        let options = Options::new(Persistence::Off).tls(made.tls(clients));
        let server = skip_unless!(options.start());
        assert_eq!(server.raw().run(&["PING"]).text(), "PONG");
        let address = server.tls_address();
        assert!(server.tls_url().ends_with(&format!("@{address}/")));
        let asked = |own: bool| {
            let mut command = Command::new("openssl");
            command
                .args(["s_client", "-quiet", "-verify_return_error", "-no_ign_eof"])
                .args(["-connect", &address.to_string(), "-CAfile"])
                .arg(made.0.join("certificate"));
            if own {
                command.arg("-cert").arg(made.0.join("certificate"));
                command.arg("-key").arg(made.0.join("key"));
            }
            let mut client = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut input = client.stdin.take().unwrap();
            let request = format!("AUTH {}\r\nQUIT\r\n", server.password().unwrap());
            let _ = std::io::Write::write_all(&mut input, request.as_bytes());
            // The server ends the connection.
            let output = client.wait_with_output().unwrap();
            drop(input);
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert_eq!(asked(true), "+OK\r\n+OK\r\n");
        assert_eq!(asked(false), if clients { "" } else { "+OK\r\n+OK\r\n" });
    }
}
