//! A handler that writes to the queue's own file and settles its job in the same transaction does each job's work exactly
//! once, wherever its process is killed.
#![cfg(all(feature = "sqlite", unix))]

use anthill_jobs::broker::{Admin, Broker};
use anthill_jobs::rusqlite::{Connection, params};
use anthill_jobs::{ClaimRequest, Clock, NewJob, Settle, SqliteBroker};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A killed process loses its jobs after that.
const LEASE: Duration = Duration::from_millis(50);

/// What a child tells, and then waits to be told to go on.
const STAGES: [&str; 5] = ["claimed", "began", "wrote", "settled", "committed"];

fn open(file: &Path) -> SqliteBroker {
    SqliteBroker::open(file, "sales", Clock::system()).unwrap()
}

fn connect(file: &Path) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    connection
}

/// Not a test by itself: what the other one starts as a process, and kills.
#[test]
fn child() {
    let Ok(file) = std::env::var("ANTHILL_SALES") else {
        return;
    };
    let (broker, shop) = (open(file.as_ref()), connect(file.as_ref()));
    let mut lines = std::io::stdin().lines();
    let mut reach = |stage: &str| {
        let mut told = std::io::stdout();
        writeln!(told, "> {stage}").unwrap();
        told.flush().unwrap();
        if lines.next().is_none() {
            std::process::exit(0);
        }
    };
    loop {
        let claims = broker.claim(&ClaimRequest::new(1, LEASE)).unwrap();
        let Some(job) = claims.jobs.into_iter().next() else {
            let Some(again_in) = claims.again_in else {
                return;
            };
            std::thread::sleep(again_in);
            continue;
        };
        reach(STAGES[0]);
        shop.execute_batch("BEGIN IMMEDIATE").unwrap();
        reach(STAGES[1]);
        let id = job.lease.id();
        let sell = "INSERT INTO sales VALUES (?1)";
        shop.execute(sell, params![id.as_bytes()]).unwrap();
        reach(STAGES[2]);
        let result = b"null".to_vec();
        let ends = [(job.lease, Settle::Done { result })];
        let settled = broker.settle_in(&shop, &ends).unwrap();
        assert!(settled[0].is_stored());
        reach(STAGES[3]);
        shop.execute_batch("COMMIT").unwrap();
        reach(STAGES[4]);
    }
}

struct Seller {
    child: Child,
    told: BufReader<ChildStdout>,
    go_on: ChildStdin,
}

impl Seller {
    fn start(file: &Path) -> Seller {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("ANTHILL_SALES", file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Seller {
            told: BufReader::new(child.stdout.take().unwrap()),
            go_on: child.stdin.take().unwrap(),
            child,
        }
    }

    /// The next stage; none if it has ended.
    fn stage(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.told.read_line(&mut line).unwrap() > 0 {
            // The harness writes to the same line.
            if let Some((_, stage)) = line.trim_end().split_once("> ") {
                return Some(stage.to_owned());
            }
            line.clear();
        }
        None
    }

    fn go_on(&mut self) {
        writeln!(self.go_on, "go on").unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn each_job_is_done_once_wherever_the_process_is_killed() {
    const ROUNDS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let broker = open(&file);
    let shop = connect(&file);
    shop.execute_batch("CREATE TABLE sales (job BLOB NOT NULL) STRICT")
        .unwrap();
    let jobs: Vec<NewJob> = (0..STAGES.len() * ROUNDS)
        .map(|_| NewJob::new("sell", b"1".to_vec()))
        .collect();
    broker.enqueue(&jobs).unwrap();
    drop(broker);
    let sales = || -> (usize, usize) {
        let count = "SELECT count(*), count(DISTINCT job) FROM sales";
        let count = shop.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)));
        count.unwrap()
    };
    let done = || -> usize {
        let done = "SELECT done FROM anthill_queues WHERE name = 'sales'";
        shop.query_row(done, [], |row| row.get(0)).unwrap()
    };
    for last in STAGES.into_iter().cycle().take(STAGES.len() * ROUNDS) {
        let mut seller = Seller::start(&file);
        while seller.stage().expect("it goes on") != last {
            seller.go_on();
        }
        let before = done();
        seller.kill();
        assert_eq!(sales(), (before, before), "{last}");
        assert_eq!(done(), before);
    }
    let mut seller = Seller::start(&file);
    while seller.stage().is_some() {
        seller.go_on();
    }
    assert!(seller.child.wait().unwrap().success());
    assert_eq!(sales(), (jobs.len(), jobs.len()));
    let stats = open(&file).stats().unwrap();
    assert_eq!((stats.done, stats.died), (jobs.len() as u64, 0));
    assert!(stats.lost_leases >= 4 * ROUNDS as u64);
}
