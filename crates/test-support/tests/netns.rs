//! Processes on networks of their own, cut off for real, where the machine permits it.
#![cfg(target_os = "linux")]

use anthill_test_support::netns::Namespace;
use anthill_test_support::postgres::{Fsync, Options};
use anthill_test_support::{eventually, run_to_end, set_alarm, skip_unless};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// How long a test looks whether something comes that must not. A busy machine can only hide it.
const LOOK: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);

/// Not a test by itself: what the others start as a process.
#[test]
fn child() {
    let role = std::env::var("ANTHILL_CHILD").unwrap_or_default();
    let address = || -> SocketAddr { std::env::var("ANTHILL_ADDRESS").unwrap().parse().unwrap() };
    match role.as_str() {
        "connect" => println!("{:?}", TcpStream::connect(address()).map(drop)),
        "talk" => {
            // Each line that it is told goes out, and each that comes in is told.
            let mut stream = TcpStream::connect(address()).unwrap();
            let reads = BufReader::new(stream.try_clone().unwrap());
            std::thread::spawn(move || {
                for line in reads.lines() {
                    println!("came: {}", line.unwrap());
                }
            });
            for line in std::io::stdin().lines() {
                let line = line.unwrap();
                stream.write_all(format!("{line}\n").as_bytes()).unwrap();
                println!("sent: {line}");
            }
        }
        "hold" => {
            let namespace = Namespace::new().unwrap();
            println!("made {}", namespace.host_address());
            let _ = std::io::stdin().read(&mut [0]);
        }
        "unpermitted" => {
            // A user that may do nothing.
            // SAFETY: it touches no memory; the harness needs no more rights.
            assert_eq!(unsafe { libc::setuid(65_534) }, 0);
            println!("missing: {}", Namespace::new().unwrap_err());
        }
        _ => {}
    }
}

fn as_child(command: &mut Command, role: &str) {
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("ANTHILL_CHILD", role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
}

fn this() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

/// A process inside that is connected to the host.
struct Talker {
    process: Child,
    tells: ChildStdin,
    told: BufReader<ChildStdout>,
}

impl Talker {
    fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let mut command = namespace.command(this());
        as_child(&mut command, "talk");
        let mut process = command
            .env("ANTHILL_ADDRESS", address.to_string())
            .spawn()
            .unwrap();
        let tells = process.stdin.take().unwrap();
        let told = BufReader::new(process.stdout.take().unwrap());
        Self {
            process,
            tells,
            told,
        }
    }

    /// Waits until it tells this.
    fn tells(&mut self, what: &str) {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert!(
                self.told.read_line(&mut line).unwrap() > 0,
                "it ended before: {what}"
            );
        }
    }

    /// Makes it send a line, which is on its way when this returns.
    fn sends(&mut self, line: &str) {
        self.tells
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        self.tells(&format!("sent: {line}"));
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_process_inside_reaches_the_host_and_nothing_else() {
    set_alarm();
    let namespace = skip_unless!(Namespace::new());
    let listener = TcpListener::bind((namespace.host_address(), 0)).unwrap();
    let local = TcpListener::bind("127.0.0.1:0").unwrap();
    let connects = |address: SocketAddr| {
        let mut command = namespace.command(this());
        as_child(&mut command, "connect");
        let told = run_to_end(command.env("ANTHILL_ADDRESS", address.to_string()), LONG);
        assert!(told.success, "{}", told.text);
        told.text
    };
    let told = connects(listener.local_addr().unwrap());
    assert!(told.contains("Ok(())"), "{told}");
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), namespace.address());
    let told = connects(local.local_addr().unwrap());
    assert!(told.contains("ConnectionRefused"), "{told}");
}

#[test]
fn who_is_cut_off_hears_nothing_and_all_comes_after_that() {
    set_alarm();
    let namespace = skip_unless!(Namespace::new());
    let other = Namespace::new().unwrap();
    let mut talkers = Vec::new();
    for namespace in [&namespace, &other] {
        let listener = TcpListener::bind((namespace.host_address(), 0)).unwrap();
        let talker = Talker::start(namespace, listener.local_addr().unwrap());
        let (stream, _) = listener.accept().unwrap();
        talkers.push((talker, stream));
    }
    let (mut beside, mut beside_stream) = talkers.pop().unwrap();
    let (mut talker, mut stream) = talkers.pop().unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let next = |lines: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        lines.read_line(&mut line).map(|_| line)
    };
    talker.sends("one");
    assert_eq!(next(&mut lines).unwrap(), "one\n");
    stream.write_all(b"eins\n").unwrap();
    talker.tells("came: eins");

    namespace.cut_off();
    talker.sends("two");
    stream.write_all(b"zwei\n").unwrap();
    stream.set_read_timeout(Some(LOOK)).unwrap();
    let error = next(&mut lines).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    // Others are not.
    beside.sends("beside");
    let mut came = [0; 7];
    beside_stream.read_exact(&mut came).unwrap();
    assert_eq!(&came, b"beside\n");

    namespace.reconnect();
    stream.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(next(&mut lines).unwrap(), "two\n");
    talker.tells("came: zwei");
}

#[test]
fn a_namespace_leaves_nothing_when_it_is_dropped_or_its_process_is_killed() {
    set_alarm();
    let namespace = skip_unless!(Namespace::new());
    let address = namespace.host_address();
    assert!(TcpListener::bind((address, 0)).is_ok());
    drop(namespace);
    assert!(TcpListener::bind((address, 0)).is_err());

    let mut command = Command::new(this());
    as_child(&mut command, "hold");
    let mut process = command.spawn().unwrap();
    let mut told = BufReader::new(process.stdout.take().unwrap()).lines();
    let address: Ipv4Addr = loop {
        let line = told.next().expect("it made none").unwrap();
        if let Some((_, address)) = line.split_once("made ") {
            break address.parse().unwrap();
        }
    };
    assert!(TcpListener::bind((address, 0)).is_ok());
    process.kill().unwrap();
    process.wait().unwrap();
    eventually("the interface is gone", || {
        TcpListener::bind((address, 0)).is_err()
    });
}

#[test]
fn postgres_is_reached_from_inside() {
    set_alarm();
    let namespace = skip_unless!(Namespace::new());
    let options = Options::new(Fsync::Off).listen(namespace.host_address().into());
    let server = skip_unless!(options.start());
    let address = (namespace.host_address(), server.address().port()).into();
    let mut psql = namespace.command("psql");
    psql.args(["-XAtqc", "SELECT inet_client_addr()", "-d"]);
    psql.arg(server.url_through(address, "postgres"));
    let told = run_to_end(&mut psql, LONG);
    assert!(told.success, "{}", told.text);
    assert_eq!(told.text.trim(), namespace.address().to_string());
}

#[test]
fn where_it_is_not_permitted_that_is_told() {
    set_alarm();
    skip_unless!(Namespace::new());
    let mut command = Command::new(this());
    as_child(&mut command, "unpermitted");
    let told = run_to_end(&mut command, LONG);
    assert!(told.success, "{}", told.text);
    assert!(
        told.text
            .contains("missing: network namespaces are not permitted"),
        "{}",
        told.text
    );
}
