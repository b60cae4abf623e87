//! A fleet: this process enqueues letters, three others deliver them, and one of those is killed in the middle of its work. At the
//! end the books are told: each letter was delivered, none is lost, and what was delivered twice is explained.
//!
//! ```text
//! REDIS_URL=redis://localhost/ cargo run -p anthill-redis --example fleet
//! ```
//!
//! It works in a queue of its own, `fleet-…`.

use anthill::Pool;
use anthill_jobs::{Context, Job, JobError, Queue};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

const LETTERS: usize = 2_000;
const MAX_WAIT: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Letter {
    number: usize,
}

impl Job for Letter {
    const KIND: &'static str = "letter";
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let name = std::env::args().nth(1);
    match name {
        None => lead(&format!("fleet-{}", std::process::id())),
        Some(name) => deliver(&open(&name)?),
    }
}

fn open(name: &str) -> Result<Queue, Box<dyn Error + Send + Sync>> {
    let address = std::env::var("REDIS_URL");
    let address = address
        .map_err(|_| "set REDIS_URL to the address of a server, such as redis://localhost/")?;
    let separator = if address.contains('?') { '&' } else { '?' };
    Ok(anthill_redis::open(&format!(
        "{address}{separator}queue={name}"
    ))?)
}

/// Delivers letters, until standard input ends. Each is told on standard output before it counts as done.
fn deliver(queue: &Queue) -> Result<(), Box<dyn Error + Send + Sync>> {
    let pool = Pool::with_capacity(4);
    let consumer = queue
        .consumer(&pool)
        .lease(Duration::from_secs(2))
        .handle(|letter: Letter, _: &Context| -> Result<(), JobError> {
            thread::sleep(Duration::from_millis(2));
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", letter.number)?;
            out.flush()?;
            Ok(())
        })
        .start()?;
    std::io::stdin().read_line(&mut String::new())?;
    consumer.stop(Duration::from_secs(30))?;
    Ok(())
}

fn lead(name: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let queue = open(name)?;
    let (send, delivered) = channel();
    let mut postmen = Vec::new();
    for _ in 0..3 {
        postmen.push(start(name, &send)?);
    }
    drop(send);

    let numbers: Vec<usize> = (0..LETTERS).collect();
    for some in numbers.chunks(100) {
        let letters = some.iter().map(|&number| Letter { number }).collect();
        queue
            .enqueue_all(letters)
            .map_err(|refused| refused.to_string())?;
    }

    let mut times = vec![0; LETTERS];
    let mut is_killed = false;
    let mut left = LETTERS;
    while left > 0 {
        let number: usize = delivered.recv_timeout(MAX_WAIT)?;
        times[number] += 1;
        left -= usize::from(times[number] == 1);
        if !is_killed && left < LETTERS * 2 / 3 {
            println!("a postman is killed in the middle of his work");
            postmen[0].kill()?;
            is_killed = true;
        }
    }
    // The others settle what they have delivered, and end.
    for postman in &mut postmen {
        drop(postman.stdin.take());
        postman.wait()?;
    }
    for number in delivered {
        times[number] += 1;
    }

    let stats = queue.stats()?;
    let twice = times.iter().filter(|&&times| times > 1).count();
    println!("enqueued     {:>6}", stats.enqueued);
    println!("done         {:>6}", stats.done);
    println!("dead         {:>6}", stats.dead);
    println!(
        "lost leases  {:>6}  of the one that was killed",
        stats.lost_leases
    );
    println!("twice        {twice:>6}  delivered by him, and not settled yet");
    let all = u64::try_from(LETTERS)?;
    if stats.done < all || stats.enqueued != all || u64::try_from(twice)? > stats.lost_leases {
        return Err("the books do not balance".into());
    }
    Ok(())
}

/// Starts this program as a postman, and hears what he delivers.
fn start(name: &str, delivered: &Sender<usize>) -> Result<Child, Box<dyn Error + Send + Sync>> {
    let mut postman = Command::new(std::env::current_exe()?)
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(postman.stdout.take().ok_or("it is piped")?).lines();
    let delivered = delivered.clone();
    thread::spawn(move || {
        let numbers = lines
            .map_while(Result::ok)
            .filter_map(|line| line.parse().ok());
        for number in numbers {
            if delivered.send(number).is_err() {
                return;
            }
        }
    });
    Ok(postman)
}
