//! What does a pool save me? 1,000 tasks run one by one, on a thread for each, and on a pool.
//!
//! ```text
//! cargo run --release --example three_ways
//! cargo run --release --example three_ways -- 1000 50    # tasks that block for 50 ms: threads pile up
//! ```
//!
//! One by one is left out if it would take more than ten seconds.
//! Each way runs in its own process, so that none inherits the memory of another.

use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use anthill::Pool;

/// Tasks that mostly block need more workers than there are processors.
const WORKERS: usize = 16;

const WAYS: [(&str, &str); 3] = [
    ("serial", "one by one"),
    ("threads", "a thread each"),
    ("pool", "a pool of 16"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let tasks = args.first().map_or(Ok(1_000), |tasks| tasks.parse())?;
    let block = args.get(1).map_or(Ok(2), |block| block.parse())?;
    if let Some(way) = args.get(2) {
        println!("{}", measure(way, tasks, Duration::from_millis(block))?);
        return Ok(());
    }
    println!("{tasks} tasks, each blocks for {block} ms and works a little\n");
    println!(
        "{:<14} | {:>8} | peak threads | memory growth",
        "way", "time"
    );
    println!("---------------|----------|--------------|--------------");
    for (way, name) in WAYS {
        let serial = Duration::from_millis(block) * u32::try_from(tasks)?;
        if way == "serial" && serial > Duration::from_secs(10) {
            println!("{name:<14} | {:>5} ms | (not run)", serial.as_millis());
            continue;
        }
        let child = Command::new(env::current_exe()?)
            .args([&tasks.to_string(), &block.to_string(), way])
            .output()?;
        if !child.status.success() {
            return Err(String::from_utf8_lossy(&child.stderr).into());
        }
        println!(
            "{name:<14} | {}",
            String::from_utf8(child.stdout)?.trim_end()
        );
    }
    Ok(())
}

/// Returns a row of the table, without its name.
fn measure(way: &str, tasks: usize, block: Duration) -> Result<String, Box<dyn Error>> {
    let work = Work {
        block,
        running: Arc::default(),
        done: Arc::default(),
    };
    let watch = Watch::start();
    let begun = Instant::now();
    let counted = match way {
        "serial" => {
            (0..tasks).for_each(|_| work.run());
            1
        }
        "threads" => {
            let run = |_| {
                let work = work.clone();
                thread::Builder::new().spawn(move || work.run())
            };
            // A thread for each task at once: only the limits of the system slow the loop down.
            let threads: Vec<_> = (0..tasks).map(run).collect::<Result<_, _>>()?;
            for thread in threads {
                thread.join().expect("the task does not panic");
            }
            1 + work.running.peak.load(Ordering::SeqCst)
        }
        "pool" => {
            let pool = Pool::with_capacity(WORKERS);
            for _ in 0..tasks {
                let work = work.clone();
                pool.submit(move || work.run())?; // waits while 16 run
            }
            pool.wait_idle();
            let workers = pool.stats().workers_peak;
            assert!(workers <= WORKERS);
            1 + workers
        }
        other => return Err(format!("unknown way: {other}").into()),
    };
    let took = begun.elapsed();
    assert_eq!(work.done.load(Ordering::SeqCst), tasks);
    let (threads, memory) = match watch.stop() {
        Some((threads, kib)) => (threads.max(counted), format!("{kib:>9} KiB")),
        None => (counted, format!("{:>13}", "unknown")),
    };
    let millis = took.as_millis();
    Ok(format!("{millis:>5} ms | {threads:>12} | {memory}"))
}

/// What each task does, and what it counts.
#[derive(Clone)]
struct Work {
    block: Duration,
    running: Arc<Running>,
    done: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Running {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Work {
    fn run(&self) {
        let now = self.running.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.running.peak.fetch_max(now, Ordering::SeqCst);
        thread::sleep(self.block);
        black_box((0..black_box(10_000_u64)).sum::<u64>());
        self.running.now.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(1, Ordering::SeqCst);
    }
}

/// Watches this process from a thread of its own, where the system has `/proc`.
struct Watch {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Option<(usize, usize)>>,
}

impl Watch {
    fn start() -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let before = status_field("VmRSS:");
        let thread = thread::spawn(move || {
            let (mut threads, mut memory) = (0, 0);
            loop {
                let last = until.load(Ordering::SeqCst);
                threads = threads.max(status_field("Threads:")? - 1); // except this one
                memory = memory.max(status_field("VmRSS:")?);
                if last {
                    return Some((threads, memory.saturating_sub(before?)));
                }
                thread::sleep(Duration::from_micros(500));
            }
        });
        Watch { over, thread }
    }

    /// Returns the largest number of threads, and the growth of the memory in KiB.
    fn stop(self) -> Option<(usize, usize)> {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().expect("it only reads")
    }
}

fn status_field(name: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}
