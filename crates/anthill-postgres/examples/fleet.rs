//! A fleet: one process enqueues, three consume, and one of those is killed in the middle of its work. At the end the books
//! are told: each job that was enqueued is done, none is lost, and what ran twice is explained.
//!
//! ```text
//! DATABASE_URL=postgres://user@host/database cargo run -p anthill-postgres --example fleet
//! ```
//!
//! It works in a queue of its own, `fleet-…`, which it empties at the end.

use anthill::Pool;
use anthill_jobs::{Context, Job, JobError, JobState, Queue};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

type AnyResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

const JOBS: u32 = 2_000;
const CONSUMERS: usize = 3;

/// Takes two milliseconds of somebody's time.
#[derive(Serialize, Deserialize)]
struct Parcel {
    number: u32,
}

impl Job for Parcel {
    const KIND: &'static str = "parcel";
}

fn main() -> AnyResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => lead(),
        ["produce", name] => produce(&open(name)?),
        ["consume", name] => consume(&open(name)?),
        _ => Err("usage: fleet".into()),
    }
}

fn open(name: &str) -> AnyResult<Queue> {
    let address = std::env::var("DATABASE_URL").map_err(
        |_| "set DATABASE_URL to the address of a database, such as postgres://user@localhost/test",
    )?;
    let separator = if address.contains('?') { '&' } else { '?' };
    Ok(anthill_postgres::open(&format!(
        "{address}{separator}queue={name}"
    ))?)
}

/// Enqueues all parcels, ten at a time.
fn produce(queue: &Queue) -> AnyResult<()> {
    let numbers: Vec<u32> = (0..JOBS).collect();
    for some in numbers.chunks(10) {
        let parcels = some.iter().map(|&number| Parcel { number }).collect();
        let ids = queue
            .enqueue_all(parcels)
            .map_err(|refused| refused.to_string())?;
        for id in ids {
            println!("enqueued {id}");
        }
    }
    Ok(())
}

/// Delivers parcels, until standard input ends.
fn consume(queue: &Queue) -> AnyResult<()> {
    let pool = Pool::with_capacity(4);
    let consumer = queue
        .consumer(&pool)
        .lease(Duration::from_secs(2))
        .handle(|_: Parcel, cx: &Context| -> Result<(), JobError> {
            say(&format!("began {}", cx.id()))?;
            std::thread::sleep(Duration::from_millis(2));
            say(&format!("ended {}", cx.id()))?;
            Ok(())
        })
        .start()?;
    std::io::stdin().read_line(&mut String::new())?;
    consumer.stop(Duration::from_secs(30))?;
    Ok(())
}

/// A line that is out before the next step, so that a kill does not take it along.
fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Starts the others, kills one, waits until all is done, and tells the books.
fn lead() -> AnyResult<()> {
    let name = format!("fleet-{}", std::process::id());
    let queue = open(&name)?;
    let (send, lines) = mpsc::channel();
    let mut producer = start("produce", &name, "producer", &send)?;
    let mut consumers = Vec::new();
    for number in 1..=CONSUMERS {
        consumers.push(start(
            "consume",
            &name,
            &format!("consumer {number}"),
            &send,
        )?);
    }
    drop(send);

    let mut books = Books::default();
    let start = Instant::now();
    let mut is_killed = false;
    while books.done() < JOBS as usize {
        books.read(&lines, Duration::from_secs(60))?;
        if !is_killed && books.done() >= JOBS as usize / 3 {
            println!("consumer 1 is killed in the middle of its work");
            consumers[0].kill()?;
            is_killed = true;
        }
    }
    producer.wait()?;
    // What is done here may still have to be settled.
    while queue.stats()?.done < u64::from(JOBS) {
        if start.elapsed() > Duration::from_secs(120) {
            return Err("not all ends were stored".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for consumer in &mut consumers {
        drop(consumer.stdin.take());
        consumer.wait()?;
    }
    while books.read(&lines, Duration::from_secs(10)).is_ok() {}
    books.tell(&queue, start.elapsed())
}

/// Starts this program in another role, and reads what it says.
fn start(role: &str, name: &str, who: &str, send: &Sender<(String, String)>) -> AnyResult<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([role, name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (who, send) = (who.to_owned(), send.clone());
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send((who.clone(), line)).is_err() {
                    return;
                }
            }
        });
    }
    Ok(child)
}

#[derive(Default)]
struct Books {
    /// By the job's id: how often it began, and how often it ended.
    jobs: HashMap<String, (u32, u32)>,
    enqueued: usize,
}

impl Books {
    fn read(&mut self, lines: &Receiver<(String, String)>, wait: Duration) -> AnyResult<()> {
        let (who, line) = lines.recv_timeout(wait)?;
        match line.split_once(' ') {
            Some(("enqueued", _)) => self.enqueued += 1,
            Some(("began", id)) => self.jobs.entry(id.to_owned()).or_default().0 += 1,
            Some(("ended", id)) => self.jobs.entry(id.to_owned()).or_default().1 += 1,
            _ => println!("{who}: {line}"),
        }
        Ok(())
    }

    fn done(&self) -> usize {
        self.jobs.values().filter(|&&(_, ended)| ended > 0).count()
    }

    fn tell(&self, queue: &Queue, took: Duration) -> AnyResult<()> {
        let stats = queue.stats()?;
        let again = self.jobs.values().filter(|&&(began, _)| began > 1).count();
        let left = stats.ready + stats.delayed + stats.parked + stats.running + stats.dead;
        println!("enqueued   {:>6}", self.enqueued);
        println!("done       {:>6}", stats.done);
        println!("dead       {:>6}", stats.dead);
        println!(
            "duplicates {again:>6}  began again after the kill, because the first end was not stored"
        );
        println!(
            "lost       {:>6}",
            self.enqueued.saturating_sub(self.done())
        );
        println!("in {:.1} s, by {CONSUMERS} consumers", took.as_secs_f64());
        queue.purge_states(&[
            JobState::Dead,
            JobState::Parked,
            JobState::Delayed,
            JobState::Ready,
        ])?;
        if left > 0 || self.done() != self.enqueued || stats.done != u64::from(JOBS) {
            return Err("the books do not balance".into());
        }
        Ok(())
    }
}
