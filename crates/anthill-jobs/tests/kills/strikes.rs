//! Processes that end *among jobs in hand*: claimed, begun, done and not settled. Some jobs abort theirs; others are killed
//! from outside. Each handler writes down that it begins, before it goes on, and that it is done; in the end the books are
//! told: who lost an attempt, or a life, had begun.

use super::{LONG, open, say, start};
use anthill::Pool;
use anthill_jobs::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Long enough for the heartbeats of a process on a busy machine.
const LEASE: Duration = Duration::from_millis(500);

/// So many in each world.
const STRIKES: u32 = 25;

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
enum Struck {
    Quick,
    Slow,
    /// Ends its process.
    Poison,
}
impl Job for Struck {
    const KIND: &'static str = "struck";
}

// ── the child ───────────────────────────────────────────────────────────────────────────────

/// Runs jobs until all are over, or it ends before.
pub(super) fn child(folder: &Path) {
    leave_no_core();
    let workers: usize = std::env::var("ANTHILL_WORKERS").unwrap().parse().unwrap();
    let books = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("books"));
    let books = Arc::new(books.unwrap());
    let queue = Queue::of(open(folder));
    let pool = Pool::with_capacity(workers);
    let has_begun = AtomicBool::new(false);
    let consumer = queue
        .consumer(&pool)
        .workers(workers..=workers)
        .lease(LEASE)
        .handle(move |job: Struck, context: &Context| {
            let id = context.id();
            write(&books, &format!("began {id} {}", context.attempt()));
            if !has_begun.swap(true, Ordering::SeqCst) {
                say("began");
            }
            match job {
                Struck::Poison => std::process::abort(),
                Struck::Slow => std::thread::sleep(Duration::from_millis(3)),
                Struck::Quick => {}
            }
            write(&books, &format!("done {id}"));
            Ok(())
        })
        .start()
        .unwrap();
    let start = Instant::now();
    while left(&queue) > 0 {
        assert!(start.elapsed() < LONG, "{:?}", queue.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
    consumer.stop(LONG).unwrap();
    say("end");
}

fn left(queue: &Queue) -> u64 {
    let stats = queue.stats().unwrap();
    stats.ready + stats.running + stats.delayed + stats.parked
}

/// In one write, to the end of the file: it is there when the process is not.
fn write(mut books: &File, line: &str) {
    let line = format!("{line}\n");
    books.write_all(line.as_bytes()).unwrap();
}

fn leave_no_core() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `none` lives for as long as the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    assert_eq!(set, 0);
}

// ── who strikes ─────────────────────────────────────────────────────────────────────────────

/// How processes end, and what they ran.
#[derive(Clone, Copy, Debug)]
struct World {
    workers: usize,
    /// From inside, by a job; else from outside.
    aborts: bool,
    slow: bool,
}

/// What became of it all.
#[derive(Debug, Default)]
struct Told {
    strikes: u32,
    acknowledged: usize,
    done: u64,
    dead: usize,
    /// Dead, and never begun.
    never_began: u32,
    /// Attempts that were lost before they began.
    lost_attempts: u32,
    /// Jobs that began more often than they have attempts, as they were claimed with others the first time.
    once_more: u32,
    /// Done, and settled too late.
    done_and_dead: u32,
}

struct Run<'a> {
    world: World,
    folder: &'a Path,
    queue: Queue,
    random: StdRng,
    /// With how many attempts.
    acknowledged: HashMap<JobId, (Struck, u32)>,
    told: Told,
}

impl Run<'_> {
    fn enqueue(&mut self) {
        let jobs = if self.world.aborts { 12 } else { 40 };
        let poisoned = self.random.random_range(0..jobs);
        for n in 0..jobs {
            let job = match self.random.random_range(0..4) {
                _ if self.world.aborts && n == poisoned => Struck::Poison,
                0 if self.world.slow => Struck::Slow,
                _ => Struck::Quick,
            };
            let retries = match job {
                Struck::Poison => self.random.random_range(0..3),
                _ => [0, 3, 25][self.random.random_range(0..3)],
            };
            let enqueued = self.queue.job(job).retries(retries).enqueue().unwrap();
            self.acknowledged.insert(enqueued.id(), (job, retries + 1));
        }
    }

    /// Until it ends, however it does.
    fn process(&mut self, is_killed: bool) -> ExitStatus {
        let workers = [("ANTHILL_WORKERS", self.world.workers.to_string())];
        let mut child = start("strike", self.folder, &workers);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map(Result::unwrap) {
            if line == "> began" && is_killed {
                let after = self.random.random_range(0..20_000);
                std::thread::sleep(Duration::from_micros(after));
                child.kill().unwrap();
            }
        }
        child.wait().unwrap()
    }

    fn strike(&mut self) {
        while self.told.strikes < STRIKES {
            self.enqueue();
            let status = self.process(!self.world.aborts);
            let signal = if self.world.aborts {
                libc::SIGABRT
            } else {
                libc::SIGKILL
            };
            if !status.success() {
                assert_eq!(status.signal(), Some(signal), "{status}");
                self.told.strikes += 1;
            }
        }
        for _ in 0..10 * STRIKES {
            let status = self.process(false);
            if status.success() {
                return;
            }
            assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
            self.told.strikes += 1;
        }
        panic!("it comes to no end: {:?}", self.queue.stats());
    }

    fn tell(mut self) -> Told {
        let books = std::fs::read_to_string(self.folder.join("books")).unwrap();
        let mut began: HashMap<JobId, u32> = HashMap::new();
        let mut lost: HashMap<JobId, u32> = HashMap::new();
        let mut done: HashSet<JobId> = HashSet::new();
        for line in books.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let id = words[1].parse().unwrap();
            match words[0] {
                "began" => {
                    let begins = began.entry(id).or_default();
                    *begins += 1;
                    // An attempt is no more than that which has begun.
                    let attempt: u32 = words[2].parse().unwrap();
                    let lost = lost.entry(id).or_default();
                    *lost = attempt.saturating_sub(*begins).max(*lost);
                }
                "done" => drop(done.insert(id)),
                other => panic!("{other}"),
            }
        }
        let dead: HashSet<JobId> = (self.queue.dead(usize::MAX).unwrap().iter())
            .map(|job| job.id)
            .collect();
        let told = &mut self.told;
        told.lost_attempts = lost.values().sum();
        for (id, &(job, attempts)) in &self.acknowledged {
            let begins = began.get(id).copied().unwrap_or(0);
            if !dead.contains(id) {
                assert!(
                    done.contains(id),
                    "{id} is lost: {job:?}, begun {begins} times"
                );
                assert_ne!(job, Struck::Poison, "it cannot be done");
                continue;
            }
            told.never_began += u32::from(begins == 0);
            let lost = lost.get(id).copied().unwrap_or(0);
            told.lost_attempts += attempts.saturating_sub(begins).saturating_sub(lost);
            told.once_more += u32::from(begins > attempts);
            told.done_and_dead += u32::from(done.contains(id));
            assert!(
                job != Struck::Poison || begins <= attempts + 1,
                "{id} ended {begins} processes with {attempts} attempts"
            );
        }
        let stats = self.queue.stats().unwrap();
        told.acknowledged = self.acknowledged.len();
        told.done = stats.done;
        told.dead = dead.len();
        assert_eq!(stats.enqueued, told.acknowledged as u64);
        assert_eq!(stats.done + told.dead as u64, stats.enqueued);
        self.told
    }
}

fn run(world: World, seed: u64) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run {
        world,
        folder: folder.path(),
        queue: Queue::of(open(folder.path())),
        random: StdRng::seed_from_u64(seed),
        acknowledged: HashMap::new(),
        told: Told::default(),
    };
    run.strike();
    run.tell()
}

#[test]
fn two_hundred_strikes_among_jobs_in_hand_cost_nobody_what_he_did_not_begin() {
    let seed = std::env::var("ANTHILL_SEED").map_or(20_261_130, |seed| seed.parse().unwrap());
    println!("ANTHILL_SEED={seed}");
    let worlds = (0..8).map(|n| World {
        workers: if n % 2 == 0 { 1 } else { 4 },
        aborts: n / 2 % 2 == 0,
        slow: n / 4 == 0,
    });
    let worlds: Vec<World> = worlds.collect();
    // They wait for leases most of the time.
    let told: Vec<Told> = std::thread::scope(|scope| {
        let runs = worlds.iter().zip(seed..);
        let runs: Vec<_> = runs
            .map(|(&world, seed)| scope.spawn(move || run(world, seed)))
            .collect();
        let told = runs.into_iter().map(std::thread::ScopedJoinHandle::join);
        told.map(|told| told.expect("the books are right"))
            .collect()
    });
    let strikes: u32 = told.iter().map(|told| told.strikes).sum();
    for (world, told) in worlds.iter().zip(&told) {
        println!("{world:?}: {told:?}");
    }
    println!("{strikes} strikes");
    assert!(strikes >= 200);
    for (world, told) in worlds.iter().zip(&told) {
        if world.aborts && world.workers == 1 {
            assert_eq!((told.never_began, told.lost_attempts), (0, 0), "{world:?}");
        }
    }
}
