//! Processes that die, hang, or find no room on the disk, over the broker in an `SQLite` file: real processes, and real kills. What
//! was acknowledged is done in the end, what was done twice is counted and explained, and nothing is lost.
#![cfg(all(feature = "sqlite", unix))]

#[path = "kills/strikes.rs"]
mod strikes;
#[path = "support/watched.rs"]
mod watched;

use crate::watched::{Call, Watch, Watched};
use anthill::Pool;
use anthill_jobs::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_millis(150);

#[derive(Serialize, Deserialize)]
struct Effect {
    n: u32,
}
impl Job for Effect {
    const KIND: &'static str = "effect";
}

// ── the child ───────────────────────────────────────────────────────────────────────────────

/// Not a test by itself: what the others start as a process, told what to do by its environment.
#[test]
fn child() {
    let Ok(role) = std::env::var("ANTHILL_CHILD") else {
        return;
    };
    let folder = std::env::var("ANTHILL_FOLDER").unwrap();
    match role.as_str() {
        "die" => die_somewhere(Path::new(&folder)),
        "freeze" => be_frozen(Path::new(&folder)),
        "fill" => fill_the_disk(Path::new(&folder)),
        "spill" => spill(Path::new(&folder)),
        "strike" => strikes::child(Path::new(&folder)),
        _ => unreachable!("{role}"),
    }
}

fn start(role: &str, folder: &Path, told: &[(&str, String)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("ANTHILL_CHILD", role)
        .env("ANTHILL_FOLDER", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.envs(told.iter().map(|(name, value)| (*name, value)));
    command.spawn().unwrap()
}

fn open(folder: &Path) -> SqliteBroker {
    SqliteBroker::open(folder.join("jobs.db"), "default", Clock::system()).unwrap()
}

/// What a handler does that must not be lost: a line at the end of a file, in one write.
fn leave_effect(folder: &Path, line: &str) {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("effects"));
    file.unwrap()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // In front of it stands what the harness says.
    out.write_all(format!("\n> {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Ends the process at the n-th passage of a point, as the system does: without a word.
#[derive(Clone)]
struct Fuse {
    point: String,
    left: Arc<AtomicI64>,
}

impl Fuse {
    fn pass(&self, point: &str) {
        if self.point == point && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // SAFETY: it takes nothing.
            let own = unsafe { libc::getpid() };
            // SAFETY: it takes two numbers.
            unsafe { libc::kill(own, libc::SIGKILL) };
            loop {
                std::thread::park();
            }
        }
    }

    fn around<T>(&self, what: &str, call: impl FnOnce() -> T) -> T {
        self.pass(&format!("before {what}"));
        let result = call();
        self.pass(&format!("after {what}"));
        result
    }
}

const POINTS: [&str; 10] = [
    "before enqueue",
    "after enqueue",
    "before claim",
    "after claim",
    "before run",
    "after run",
    "before settle",
    "after settle",
    // The parent kills it, whenever.
    "somewhere",
    "nowhere",
];

fn die_somewhere(folder: &Path) {
    let fuse = Fuse {
        point: std::env::var("ANTHILL_POINT").unwrap(),
        left: Arc::new(AtomicI64::new(
            std::env::var("ANTHILL_NTH").unwrap().parse().unwrap(),
        )),
    };
    let broker = Watched {
        broker: open(folder),
        watch: fuse.clone(),
    };
    let queue = Queue::of(broker);
    let pool = Pool::with_capacity(2);
    let (place, lit) = (folder.to_owned(), fuse.clone());
    let consumer = queue
        .consumer(&pool)
        .lease(LEASE)
        .handle(move |job: Effect, context: &Context| {
            lit.around("run", || {
                leave_effect(
                    &place,
                    &format!("{} {} {}", context.id(), job.n, context.attempt()),
                );
            });
            Ok(())
        })
        .start()
        .unwrap();
    for n in 0..12 {
        let mut job = queue.job(Effect { n }).retries(10_000);
        if n % 3 == 0 {
            job = job.unique(key(n));
        }
        let enqueued = job.enqueue().unwrap();
        say(&format!("acknowledged {}", enqueued.id()));
    }
    consumer.wait_idle();
    consumer.stop(LONG).unwrap();
    say("end");
}

fn key(n: u32) -> String {
    format!("one at a time {n}")
}

/// Around what changes the queue.
impl Watch for Fuse {
    fn before(&self, call: Call) -> Result<(), QueueError> {
        if let Some(name) = name(call) {
            self.pass(&format!("before {name}"));
        }
        Ok(())
    }

    fn after(&self, call: Call) {
        if let Some(name) = name(call) {
            self.pass(&format!("after {name}"));
        }
    }
}

fn name(call: Call) -> Option<&'static str> {
    match call {
        Call::Enqueue => Some("enqueue"),
        Call::Claim => Some("claim"),
        Call::Settle => Some("settle"),
        _ => None,
    }
}

// ── 200 kills ───────────────────────────────────────────────────────────────────────────────

/// Runs what is left, until each job of the queue is over.
fn drain(folder: &Path) -> QueueStats {
    let queue = Queue::of(open(folder));
    let pool = Pool::with_capacity(2);
    let place = folder.to_owned();
    let consumer = queue
        .consumer(&pool)
        .handle(move |job: Effect, context: &Context| {
            leave_effect(
                &place,
                &format!("{} {} {}", context.id(), job.n, context.attempt()),
            );
            Ok(())
        })
        .start()
        .unwrap();
    let start = Instant::now();
    let stats = loop {
        let stats = queue.stats().unwrap();
        if stats.ready + stats.running + stats.delayed == 0 {
            break stats;
        }
        assert!(
            start.elapsed() < LONG,
            "what is left comes to an end: {stats:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    };
    consumer.stop(LONG).unwrap();
    stats
}

#[test]
fn two_hundred_kills_at_named_points_lose_nothing() {
    let seed = std::env::var("ANTHILL_SEED").map_or(20_261_126, |seed| seed.parse().unwrap());
    println!("ANTHILL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    let mut killed: HashMap<&str, u32> = HashMap::new();
    let mut kills = 0;
    while kills < 200 {
        let point = POINTS[random.random_range(0..POINTS.len() - 1)];
        let nth: usize = random.random_range(1..=8);
        let told = [
            ("ANTHILL_POINT", point.to_owned()),
            ("ANTHILL_NTH", nth.to_string()),
        ];
        let mut child = start("die", folder.path(), &told);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut ended = false;
        for (n, line) in lines.enumerate() {
            let line = line.unwrap();
            if let Some(id) = line.strip_prefix("> acknowledged ") {
                acknowledged.insert(id.parse::<JobId>().unwrap());
            }
            ended |= line == "> end";
            if point == "somewhere" && n == 4 + nth {
                std::thread::sleep(Duration::from_micros(random.random_range(0..3_000)));
                child.kill().unwrap();
            }
        }
        let status = child.wait().unwrap();
        if !ended {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(status.signal(), Some(libc::SIGKILL), "{point}: {status}");
            *killed.entry(point).or_default() += 1;
            kills += 1;
        }
    }
    let stats = drain(folder.path());

    // A kill between a job and its unique key would have left the one without the other.
    let queue = Queue::of(open(folder.path()));
    for n in (0..12).step_by(3) {
        let again = queue.job(Effect { n }).unique(key(n)).enqueue();
        assert!(again.unwrap().is_added(), "the key of {n} is free");
    }
    let effects = std::fs::read_to_string(folder.path().join("effects")).unwrap();
    let mut times: HashMap<JobId, u32> = HashMap::new();
    for line in effects.lines() {
        let id = line.split(' ').next().unwrap().parse().unwrap();
        *times.entry(id).or_default() += 1;
    }
    let lost = acknowledged
        .iter()
        .filter(|id| !times.contains_key(id))
        .count();
    let doubled: u32 = times.values().map(|times| times - 1).sum();
    println!(
        "{kills} kills {killed:?}: {} acknowledged, {} enqueued, {} done, {} dead, {doubled} done again, {lost} lost",
        acknowledged.len(),
        stats.enqueued,
        stats.done,
        stats.died,
    );
    assert_eq!(lost, 0);
    assert_eq!(stats.died, 0);
    // Those whose answer was lost were enqueued as well.
    assert!(stats.enqueued >= acknowledged.len() as u64);
    assert_eq!(stats.done, stats.enqueued);
    assert_eq!(times.len() as u64, stats.done);
    // A job runs again only if its lease was over before it was settled, which takes a kill.
    assert!(
        u64::from(doubled) <= stats.lost_leases,
        "{doubled} of {}",
        stats.lost_leases
    );
    assert!(
        killed.len() == POINTS.len() - 1,
        "each point was reached: {killed:?}"
    );
}

// ── frozen ──────────────────────────────────────────────────────────────────────────────────

fn be_frozen(folder: &Path) {
    let queue = Queue::of(open(folder));
    let pool = Pool::with_capacity(1);
    let go = folder.join("go");
    let consumer = queue
        .consumer(&pool)
        .lease(LEASE)
        .handle(move |_: Effect, context: &Context| {
            say(&format!("running {}", context.id()));
            let start = Instant::now();
            while !go.exists() && start.elapsed() < LONG {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok("the zombie's")
        })
        .start()
        .unwrap();
    consumer.wait_idle();
    let start = Instant::now();
    while consumer.stats().claimed == 0 || consumer.stats().in_hand > 0 {
        assert!(start.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(5));
    }
    consumer.stop(LONG).unwrap();
    say(&format!("lost {}", consumer.stats().lost));
}

#[test]
fn who_was_frozen_past_his_lease_cannot_settle_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::of(open(folder.path()));
    let job = queue
        .job(Effect { n: 1 })
        .keep_result(Duration::from_secs(3600));
    let id = job.enqueue().unwrap().id();
    let mut child = start("freeze", folder.path(), &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    lines
        .find(|line| *line == format!("> running {id}"))
        .expect("it runs there");
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: it takes two numbers.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);

    let pool = Pool::with_capacity(1);
    let consumer = queue
        .consumer(&pool)
        .handle(|_: Effect, context: &Context| Ok(format!("attempt {}", context.attempt())))
        .start()
        .unwrap();
    let start = Instant::now();
    while queue.result::<String>(id).unwrap().is_none() {
        assert!(
            start.elapsed() < LONG,
            "it is this one's when the lease is over"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(folder.path().join("go"), "").unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGCONT) }, 0);
    assert_eq!(
        lines.find(|line| line.starts_with("> lost")).as_deref(),
        Some("> lost 1")
    );
    assert!(child.wait().unwrap().success());
    consumer.stop(LONG).unwrap();
    assert_eq!(
        queue.result::<String>(id).unwrap().as_deref(),
        Some("attempt 2")
    );
    let stats = queue.stats().unwrap();
    assert_eq!((stats.done, stats.lost_leases), (1, 1));
}

// ── no room on the disk ─────────────────────────────────────────────────────────────────────

/// No file of this process may be longer than that: what a full disk says, without one.
fn fill_the_disk(folder: &Path) {
    let queue = Queue::of(open(folder)).payload_limit(1 << 24);
    queue.enqueue(Effect { n: 1 }).unwrap();
    let limit = libc::rlimit {
        rlim_cur: 300_000,
        rlim_max: 300_000,
    };
    // SAFETY: the signal that comes with the limit is ignored, so that the write fails instead.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    // SAFETY: `limit` lives for as long as the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    assert_eq!(set, 0);
    let large = || NewJob::new("effect", vec![b' '; 1 << 20]);
    let mut refused = 0;
    for _ in 0..3 {
        match queue.enqueue_new(&large()) {
            Err(QueueError::Broker(error)) => {
                refused += 1;
                say(&format!("refused: {error}"));
            }
            other => panic!("{other:?}"),
        }
    }
    // What is small enough still fits, and what was there is there.
    queue.enqueue(Effect { n: 2 }).unwrap();
    assert_eq!(queue.stats().unwrap().ready, 2);
    say(&format!("refused {refused}"));
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_the_queue_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let child = start("fill", folder.path(), &[]);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("> refused 3"), "{text}");
    let stats = drain(folder.path());
    assert_eq!((stats.enqueued, stats.done), (2, 2));
}

// ── a producer that is too fast ─────────────────────────────────────────────────────────────

const LARGE: usize = 100_000;

/// Ten times faster than what runs the jobs: what the pool cannot start yet is on the disk, and nowhere else.
fn spill(folder: &Path) {
    let queue = Queue::of(open(folder));
    let pool = Pool::with_capacity(2);
    let (place, turn) = (
        folder.to_owned(),
        Arc::new((Mutex::new(0_u32), Condvar::new())),
    );
    let told = turn.clone();
    let consumer = queue
        .consumer(&pool)
        .lease(LEASE * 10)
        .handle(move |job: Large, context: &Context| {
            assert_eq!(job.data.len(), LARGE);
            // One runs for ten that were enqueued.
            let (enqueued, changed) = &*told;
            let mut enqueued = changed
                .wait_while(enqueued.lock().unwrap(), |enqueued| *enqueued < 10)
                .unwrap();
            *enqueued -= 10;
            leave_effect(&place, &context.id().to_string());
            Ok(())
        })
        .start()
        .unwrap();
    let before = resident();
    for n in 1..=1_000 {
        let id = queue
            .enqueue(Large {
                data: "x".repeat(LARGE),
            })
            .unwrap();
        *turn.0.lock().unwrap() += 1;
        turn.1.notify_all();
        say(&format!("acknowledged {id}"));
        if n % 100 == 0 {
            say(&format!("grown {}", resident().saturating_sub(before)));
        }
    }
    say(&format!("done {}", consumer.stats().done));
    loop {
        std::thread::park();
    }
}

#[derive(Serialize, Deserialize)]
struct Large {
    data: String,
}
impl Job for Large {
    const KIND: &'static str = "large";
}

/// In bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

#[test]
fn a_producer_that_is_too_fast_fills_the_disk_and_not_the_memory_and_a_kill_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start("spill", folder.path(), &[]);
    let mut acknowledged = Vec::new();
    let mut grown = 0;
    let mut done = 0;
    for line in BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
    {
        if let Some(id) = line.strip_prefix("> acknowledged ") {
            acknowledged.push(id.parse::<JobId>().unwrap());
        } else if let Some(bytes) = line.strip_prefix("> grown ") {
            grown = grown.max(bytes.parse::<usize>().unwrap());
        } else if let Some(n) = line.strip_prefix("> done ") {
            done = n.parse::<usize>().unwrap();
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    println!(
        "{} acknowledged of {LARGE} bytes, {done} done, grown by {grown} bytes",
        acknowledged.len()
    );
    assert_eq!(acknowledged.len(), 1_000);
    assert!(
        (50..=100).contains(&done),
        "{done} for {} enqueued",
        acknowledged.len()
    );
    // Ninety megabytes wait.
    assert!(grown < 30 << 20, "{grown} bytes");

    let queue = Queue::of(open(folder.path()));
    let pool = Pool::with_capacity(2);
    let place = folder.path().to_owned();
    let consumer = queue
        .consumer(&pool)
        .handle(move |_: Large, context: &Context| {
            leave_effect(&place, &context.id().to_string());
            Ok(())
        })
        .start()
        .unwrap();
    let start = Instant::now();
    // What ran when it was killed comes when its lease is over.
    while queue.stats().unwrap().done < 1_000 {
        assert!(start.elapsed() < LONG, "{:?}", queue.stats().unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
    consumer.stop(LONG).unwrap();
    let effects = std::fs::read_to_string(folder.path().join("effects")).unwrap();
    let ran: HashSet<JobId> = effects.lines().map(|line| line.parse().unwrap()).collect();
    assert!(acknowledged.iter().all(|id| ran.contains(id)));
}
