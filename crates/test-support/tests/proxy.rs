//! The proxy before a server that answers each line, and before a real Postgres.
#![cfg(unix)]

use anthill_test_support::postgres::{self, Access};
use anthill_test_support::proxy::{Counts, Protocol, Proxy, Trigger};
use anthill_test_support::{
    ChildOutput, Gate, Log, eventually, eventually_eq, run_to_end, set_alarm, skip_unless,
};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How long a test looks whether something comes that must not. A busy machine can only hide it.
const LOOK: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);

/// A server that answers each line with the same line.
#[derive(Clone)]
struct Echo {
    address: SocketAddr,
    /// The lines that have come.
    lines: Log<String>,
    /// How many connections have begun, and ended.
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    /// Opened by the test: no line that starts with "wait" is answered before.
    gate: Gate,
}

impl Echo {
    fn start() -> Self {
        set_alarm();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let echo = Self {
            address: listener.local_addr().unwrap(),
            lines: Log::new(),
            begun: Arc::default(),
            ended: Arc::default(),
            gate: Gate::new(),
        };
        let server = echo.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let server = server.clone();
                server.begun.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let _ = server.answer(&stream.unwrap());
                    server.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        echo
    }

    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        for line in BufReader::new(stream).lines() {
            let line = line?;
            self.lines.push(line.clone());
            if line.starts_with("wait") {
                self.gate.wait();
            }
            stream.write_all(format!("{line}\n").as_bytes())?;
        }
        Ok(())
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// The next line; none at the end of the connection, however it came.
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("neither a line nor an end: {error}"),
        }
    }

    fn asks(&mut self, line: &str) -> Option<String> {
        self.send(&format!("{line}\n"));
        self.next()
    }

    /// Nothing comes, and the connection stands.
    #[track_caller]
    fn hears_nothing(&mut self) {
        let stream = self.0.get_ref();
        stream.set_read_timeout(Some(LOOK)).unwrap();
        let found = self.0.fill_buf().map(<[u8]>::to_vec);
        let error = found.expect_err("something came");
        assert!(
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{error}"
        );
        self.0.get_ref().set_read_timeout(Some(LONG)).unwrap();
    }
}

#[test]
fn bytes_pass_unchanged_and_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), Protocol::Lines);
    set_alarm();
    let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let back = sent.clone();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&back).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(b"the end").unwrap();
        got
    });
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    let mut reads = stream.try_clone().unwrap();
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        reads.read_to_end(&mut got).unwrap();
        got
    });
    stream.write_all(&sent).unwrap();
    // The other direction goes on.
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(server.join().unwrap() == sent);
    let got = reader.join().unwrap();
    assert!(got[..sent.len()] == sent && got[sent.len()..] == *b"the end");
    proxy.wait_for("the connection is over", |counts| counts.open == 0);
    let lines = sent.split(|byte| *byte == b'\n').count() as u64 - 1;
    let expected = Counts {
        connections: 1,
        open: 0,
        requests: lines,
        replies: lines,
        to_server: sent.len() as u64,
        to_client: sent.len() as u64 + 7,
    };
    assert_eq!(proxy.counts(), expected);
}

#[test]
fn all_connections_are_cut_and_new_ones_pass() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, Protocol::Lines);
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(&proxy)).collect();
    for client in &mut clients {
        assert_eq!(client.asks("one").as_deref(), Some("one"));
    }
    proxy.cut_all();
    assert_eq!(proxy.counts().open, 0);
    for client in &mut clients {
        assert_eq!(client.next(), None);
    }
    eventually_eq("the server's side ends", 3, || echo.ended());
    assert_eq!(Client::connect(&proxy).asks("two").as_deref(), Some("two"));
}

#[test]
fn a_reply_is_cut_off_after_the_server_has_answered() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, Protocol::Lines);
    let mut other = Client::connect(&proxy);
    assert_eq!(other.asks("settle 1").as_deref(), Some("settle 1"));
    let cut = proxy.cut_reply(Trigger::containing("settle").nth(3));
    let mut client = Client::connect(&proxy);
    assert_eq!(client.asks("settle 2").as_deref(), Some("settle 2"));
    assert_eq!(other.asks("settle 3").as_deref(), Some("settle 3"));
    assert!(!cut.has_struck());
    // The reply to what comes before it passes, and what comes after it does not reach the server.
    client.send("before\nsettle 4 settle\nafter\n");
    assert_eq!(client.next().as_deref(), Some("before"));
    assert_eq!(client.next(), None);
    cut.wait("the fourth");
    assert!(cut.has_struck());
    assert_eq!(proxy.counts().replies, 5);
    // Once, and only there.
    assert_eq!(other.asks("settle 5").as_deref(), Some("settle 5"));
    assert_eq!(
        Client::connect(&proxy).asks("settle 6").as_deref(),
        Some("settle 6")
    );
    let came = [
        "settle 1",
        "settle 2",
        "settle 3",
        "before",
        "settle 4 settle",
        "settle 5",
        "settle 6",
    ];
    assert_eq!(echo.lines.entries(), came);
}

#[test]
fn the_cut_waits_for_the_servers_answer() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, Protocol::Lines);
    let cut = proxy.cut_reply(Trigger::next());
    let mut client = Client::connect(&proxy);
    client.send("wait\n");
    eventually_eq("the server has the request", 1, || echo.lines.len());
    client.send("more\n");
    client.hears_nothing();
    assert!(!cut.has_struck());
    echo.gate.open();
    cut.wait("the answer");
    assert_eq!(client.next(), None);
    eventually_eq("the server's side ends", 1, || echo.ended());
    assert_eq!(echo.lines.entries(), ["wait"]);
    assert_eq!(proxy.counts().replies, 1);
}

#[test]
#[should_panic(expected = "left: Missed")]
fn a_cut_that_the_server_forestalls_is_no_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), Protocol::Lines);
    let cut = proxy.cut_reply(Trigger::next());
    let mut client = Client::connect(&proxy);
    client.send("hello\n");
    let (mut server, _) = listener.accept().unwrap();
    server.read_exact(&mut [0; 6]).unwrap();
    drop(server);
    cut.wait("the server goes away first");
}

#[test]
fn a_needle_is_found_across_pieces() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, Protocol::Lines);
    let cut = proxy.cut_reply(Trigger::containing("needle").nth(2));
    let mut client = Client::connect(&proxy);
    // Once, in however many pieces a request comes.
    client.send("needle");
    proxy.wait_for("a piece", |counts| counts.to_server == 6);
    assert_eq!(client.asks("s").as_deref(), Some("needles"));
    // Not across requests.
    assert_eq!(client.asks("nee").as_deref(), Some("nee"));
    assert_eq!(client.asks("dle").as_deref(), Some("dle"));
    client.send("a nee");
    proxy.wait_for("a piece", |counts| counts.to_server == 16 + 5);
    client.send("dle in");
    proxy.wait_for("a piece", |counts| counts.to_server == 16 + 11);
    assert!(!cut.has_struck());
    client.send(" hay\n");
    cut.wait("in three pieces");
    assert_eq!(client.next(), None);
    assert_eq!(
        echo.lines.entries(),
        ["needles", "nee", "dle", "a needle in hay"]
    );
}

#[test]
fn a_request_is_cut_off_before_the_server_has_it() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, Protocol::Lines);
    let cut = proxy.cut_request(Trigger::containing("two"));
    let mut client = Client::connect(&proxy);
    assert_eq!(client.asks("one").as_deref(), Some("one"));
    client.send("more\ntwo\nthree\n");
    cut.wait("before the server");
    eventually_eq("the server's side ends", 1, || echo.ended());
    assert_eq!(echo.lines.entries(), ["one", "more"]);
    assert_eq!(proxy.counts().requests, 2);
    assert_eq!(Client::connect(&proxy).asks("two").as_deref(), Some("two"));
}

#[test]
fn a_request_is_judged_when_it_has_come_whole() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, Protocol::Lines);
    let cut = proxy.cut_request(Trigger::being(|request| request == b"two\n"));
    let mut client = Client::connect(&proxy);
    assert_eq!(client.asks("two and more").as_deref(), Some("two and more"));
    client.send("one\ntw");
    eventually_eq("the server has the request", 2, || echo.lines.len());
    client.send("o\nthree\n");
    cut.wait("before the server");
    eventually_eq("the server's side ends", 1, || echo.ended());
    // The server has a part of it and then the end.
    assert_eq!(echo.lines.entries(), ["two and more", "one", "tw"]);
}

#[test]
fn a_stall_holds_all_up_and_loses_nothing() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, Protocol::Lines);
    let mut client = Client::connect(&proxy);
    assert_eq!(client.asks("one").as_deref(), Some("one"));
    let mut ending = Client::connect(&proxy);
    assert_eq!(ending.asks("two").as_deref(), Some("two"));
    client.send("wait\n");
    eventually_eq("the server has the request", 3, || echo.lines.len());
    proxy.stall();
    let before = proxy.counts();
    echo.gate.open();
    ending.0.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut leaving = Client::connect(&proxy);
    leaving.send("leaving\n");
    leaving.0.get_ref().shutdown(Shutdown::Write).unwrap();
    client.send("three\n");
    client.hears_nothing();
    ending.hears_nothing();
    leaving.hears_nothing();
    let now = proxy.counts();
    assert_eq!(
        (now.to_server, now.to_client),
        (before.to_server, before.to_client)
    );
    assert_eq!(echo.lines.entries(), ["one", "two", "wait"]);
    assert_eq!((echo.begun(), echo.ended()), (2, 0));

    proxy.resume();
    assert_eq!(client.next().as_deref(), Some("wait"));
    assert_eq!(client.next().as_deref(), Some("three"));
    assert_eq!(leaving.next().as_deref(), Some("leaving"));
    assert_eq!((leaving.next(), ending.next()), (None, None));
    eventually_eq("the ends are passed on", 2, || echo.ended());
}

#[test]
fn what_is_stalled_can_be_cut() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, Protocol::Lines);
    let mut old = Client::connect(&proxy);
    assert_eq!(old.asks("one").as_deref(), Some("one"));
    proxy.stall();
    let mut new = Client::connect(&proxy);
    old.send("two\n");
    new.send("two\n");
    proxy.wait_for("both are accepted", |counts| counts.connections == 2);
    proxy.cut_all();
    assert_eq!((old.next(), new.next()), (None, None));
    proxy.resume();
    assert_eq!(
        Client::connect(&proxy).asks("three").as_deref(),
        Some("three")
    );
    assert_eq!(echo.lines.entries(), ["one", "three"]);
}

#[test]
fn who_is_refused_is_refused_at_once_and_who_is_in_stays() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, Protocol::Lines);
    let mut client = Client::connect(&proxy);
    assert_eq!(client.asks("one").as_deref(), Some("one"));
    for turn in 0..3 {
        proxy.refuse();
        proxy.refuse();
        for _ in 0..3 {
            let error = TcpStream::connect(proxy.address()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        assert_eq!(client.asks("two").as_deref(), Some("two"));
        proxy.resume();
        proxy.resume();
        assert_eq!(
            Client::connect(&proxy).asks("three").as_deref(),
            Some("three")
        );
        assert_eq!(proxy.counts().connections, turn + 2);
    }
}

#[test]
fn a_server_that_is_not_there_ends_the_connection() {
    let echo = Echo::start();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let proxy = Proxy::start(address, Protocol::Lines);
    assert_eq!(Client::connect(&proxy).next(), None);
    proxy.wait_for("it is over", |counts| counts.open == 0);
    drop(echo);
}

#[cfg(target_os = "linux")]
#[test]
fn a_dropped_proxy_leaves_neither_connections_nor_threads() {
    use anthill_test_support::in_child_process;
    use anthill_test_support::linux::threads_named;

    let name = "a_dropped_proxy_leaves_neither_connections_nor_threads";
    in_child_process(name, LONG, || {
        for order in [Proxy::stall, Proxy::refuse, Proxy::resume] {
            let echo = Echo::start();
            let proxy = Proxy::start(echo.address, Protocol::Lines);
            let mut client = Client::connect(&proxy);
            assert_eq!(client.asks("one").as_deref(), Some("one"));
            order(&proxy);
            let address = proxy.address();
            drop(proxy);
            assert_eq!(client.next(), None);
            assert!(TcpStream::connect(address).is_err());
            eventually_eq("the server's side ends", 1, || echo.ended());
            eventually_eq("no thread is left", 0, || threads_named("test proxy"));
        }
    });
}

// ── Postgres ────────────────────────────────────────────────────────────────────────────────

fn psql(shared: &Access, proxy: &Proxy, database: &str, statements: &[&str]) -> ChildOutput {
    let mut command = Command::new("psql");
    command
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d"])
        .arg(shared.url_through(proxy.address(), database));
    for statement in statements {
        command.args(["-c", statement]);
    }
    run_to_end(&mut command, LONG)
}

#[test]
fn a_commit_of_postgres_is_done_and_its_reply_lost_or_neither() {
    set_alarm();
    let shared = skip_unless!(postgres::shared());
    let database = shared.fresh_database();
    shared.sql(&database, "CREATE TABLE t (n int)").unwrap();
    let proxy = Proxy::start(shared.address(), Protocol::Postgres);
    let told = psql(shared, &proxy, &database, &["SELECT 1", "SELECT 2"]);
    assert!(
        told.success && told.text.starts_with("1\n2\n"),
        "{}",
        told.text
    );
    // The start of the session, and the two queries.
    assert_eq!((proxy.counts().requests, proxy.counts().replies), (3, 3));

    let statements = [
        "SELECT 3",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (2)",
    ];
    let cut = proxy.cut_reply(Trigger::containing("INSERT"));
    let told = psql(shared, &proxy, &database, &statements);
    assert!(
        !told.success && told.text.starts_with("3\n"),
        "{}",
        told.text
    );
    assert!(
        told.text.contains("server closed the connection"),
        "{}",
        told.text
    );
    cut.wait("the reply");
    assert_eq!(shared.sql(&database, "SELECT n FROM t").unwrap(), "1");

    let cut = proxy.cut_request(Trigger::containing("INSERT").nth(2));
    let statements = ["INSERT INTO t VALUES (3)", "INSERT INTO t VALUES (4)"];
    let told = psql(shared, &proxy, &database, &statements);
    assert!(!told.success, "{}", told.text);
    cut.wait("the request");
    let rows = shared.sql(&database, "SELECT n FROM t ORDER BY n").unwrap();
    assert_eq!(rows, "1\n3");
}

#[test]
fn an_extended_query_of_postgres_is_one_request() {
    set_alarm();
    let shared = skip_unless!(postgres::shared());
    let database = shared.fresh_database();
    shared.sql(&database, "CREATE TABLE t (n int)").unwrap();
    let script = std::env::temp_dir().join(format!("anthill-pgbench-{}", std::process::id()));
    fs::write(&script, "INSERT INTO t VALUES (1);\n").unwrap();
    let proxy = Proxy::start(shared.address(), Protocol::Postgres);
    let pgbench = |transactions: &str| {
        let mut command = Command::new("pgbench");
        command.args(["-n", "-M", "extended", "-c", "1", "-t", transactions, "-f"]);
        command.arg(&script);
        command.arg(shared.url_through(proxy.address(), &database));
        run_to_end(&mut command, LONG)
    };
    let told = pgbench("10");
    assert!(told.success, "{}", told.text);
    assert_eq!(
        shared.sql(&database, "SELECT count(*) FROM t").unwrap(),
        "10"
    );
    let of_ten = proxy.counts();
    assert_eq!(of_ten.requests, of_ten.replies);

    let cut = proxy.cut_reply(Trigger::containing("INSERT").nth(4));
    let told = pgbench("10");
    cut.wait("the reply to the fourth");
    assert!(
        told.text.contains("transactions actually processed: 3/10"),
        "{}",
        told.text
    );
    eventually("the fourth is there", || {
        shared.sql(&database, "SELECT count(*) FROM t").unwrap() == "14"
    });
    let _ = fs::remove_file(script);
}
