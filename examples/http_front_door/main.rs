//! How do you put a bounded pool behind an HTTP server? So that it says 503 when it is full, and never
//! takes more memory than it was given.
//!
//! ```text
//! cargo run --example http_front_door -- --demo
//! cargo run --example http_front_door -- --listen 127.0.0.1:8080 --workers 4 --backlog 100
//! curl -i http://127.0.0.1:8080/work -d name=tea -d delay_ms=3000
//! curl -i http://127.0.0.1:8080/work --json '{"name": "tea", "delay_ms": 3000}'
//! ```
//!
//! | answer to | |
//! |---|---|
//! | `POST /work` | 201: the job is accepted, and will be done |
//! | … and there is no room | 503 with `Retry-After` |
//! | … with a bad body, or a delay that is not between 1 and 10,000 ms | 400 and the reason |
//! | … with a body that is neither a form nor JSON, too large, or does not come | 415, 413, 408 |
//! | another method | 405 with `Allow: POST` |
//! | another path | 404 |
//!
//! # What bounds what
//!
//! A server that starts something for each request (a thread, a task, a goroutine) which then waits for
//! room has moved its queue to where nobody counts it. Here nothing waits for room: the pool takes a job
//! at once or refuses it at once, in [`front_door`], with `try_submit`.
//!
//! | of these | there are at most | because |
//! |---|---|---|
//! | jobs that run | `--workers` | the capacity of the pool |
//! | jobs accepted and not begun | `--backlog` | the backlog of the pool |
//! | connections | `--connections` | each needs a place to be accepted; more wait in the system's queue |
//! | bytes of a connection | 16 KiB of head, 4 KiB of body, a short answer | [`front_door::Limits`], hyper |
//! | requests in hand on a connection | 1 | hyper reads the next when this one is answered |
//! | threads | `--workers`, this one, and one more while it stops | connections are futures on one thread |
//!
//! A slow client therefore costs a connection and no thread, and not for ever: a head or a body that has
//! not come after 5 s ends the connection, and so does silence between two requests. Each connection is
//! asked to end after a minute and gone 5 s later, which also rids the server of those who send and do not
//! read. This is why hyper is used here and not a server with a thread for each connection, whose clients
//! decide how many threads it has.
//!
//! Ctrl-C or SIGTERM stops: no connection is accepted any more, requests in hand are answered, accepted
//! jobs are all done. A second one discards the jobs that have not begun.
//!
//! How anthill is used is in two places: [`front_door`] submits, [`finish`] ends the pool. [`job`] reads
//! bodies, [`load`] is the client of the demo.

mod front_door;
mod job;
mod load;

use std::error::Error;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anthill::{Pool, PoolHandle};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use crate::front_door::{Limits, serve};
use crate::job::Job;

/// Accept jobs by HTTP and do them on a bounded pool.
#[derive(Parser)]
#[command(name = "http_front_door")]
struct Args {
    /// Where to listen; with port 0 the system chooses one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// How many jobs run at once at most.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,

    /// How many accepted jobs may wait for a worker.
    #[arg(long, value_name = "N", default_value_t = 16)]
    backlog: usize,

    /// How many clients may be connected at once.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,

    /// Send a thousand jobs to oneself, check that each one accepted was done, and end.
    #[arg(long)]
    demo: bool,
}

// One thread for all connections: it parses, submits and answers, and none of that waits.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut signals = Signals::new()?;
    let pool = Pool::builder()
        .capacity(args.workers.into())
        .backlog(args.backlog)
        .name("work")
        .build()?;
    let limits = Limits {
        connections: args.connections,
        ..Limits::default()
    };
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}/work");

    // What a job is here: a wait, in the place of work that blocks.
    let work = move |job: Job| {
        thread::sleep(job.delay);
        if !args.demo {
            println!("done: {:?}", job.name);
        }
    };

    let mut tally = None;
    if args.demo {
        let load = spawn_blocking(move || load::send(address));
        let stop = async { tally = Some(load.await) };
        serve(listener, pool.handle(), limits, work, stop).await;
    } else {
        serve(listener, pool.handle(), limits, work, signals.next()).await;
        println!("stopping: {} jobs to go", pool.running() + pool.queued());
    }
    finish(&pool, signals.next()).await?;

    let stats = pool.stats();
    println!(
        "accepted {}, refused {}, done {}, discarded {}",
        stats.submitted, stats.rejected, stats.completed, stats.discarded
    );
    if let Some(tally) = tally {
        tally??.check(&stats)?;
    }
    Ok(())
}

/// Closes the pool, which does all it has accepted and joins its threads; that may take a while, and is
/// waited for beside the event loop. If `hurry` comes first, what has not begun is discarded.
async fn finish(pool: &PoolHandle, hurry: impl Future<Output = ()>) -> Result<(), Box<dyn Error>> {
    let closing = pool.clone();
    let mut closed = spawn_blocking(move || closing.release_timeout(Duration::MAX));
    tokio::select! {
        closed = &mut closed => closed??,
        () = hurry => {
            pool.release_now();
            closed.await??;
        }
    }
    Ok(())
}

/// Ctrl-C and SIGTERM, which from now on no longer end the process.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
