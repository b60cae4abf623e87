//! The client of the demo: more work than the server has room for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anthill::Stats;

const CLIENTS: u64 = 4;
const EACH: u64 = 250;

/// What the clients were told.
#[derive(Default)]
pub(crate) struct Tally {
    created: AtomicU64,
    refused: AtomicU64,
}

/// Sends all jobs as fast as it can, from several threads.
pub(crate) fn send(server: SocketAddr) -> io::Result<Tally> {
    let tally = Tally::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let tally = &tally;
                scope.spawn(move || {
                    for number in 0..EACH {
                        let counter =
                            match post(server, &format!("name={client}-{number}&delay_ms=20"))? {
                                201 => &tally.created,
                                503 => &tally.refused,
                                other => return Err(io::Error::other(format!("status {other}"))),
                            };
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().expect("a client does not panic"))
    })?;
    Ok(tally)
}

/// The status of the answer to one request, on a connection of its own.
fn post(server: SocketAddr, form: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(server)?;
    write!(
        stream,
        "POST /work HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    status.ok_or_else(|| io::Error::other(format!("not HTTP: {answer:?}")))
}

impl Tally {
    /// All that was accepted was done, and nothing else.
    pub(crate) fn check(self, stats: &Stats) -> Result<(), String> {
        let (created, refused) = (self.created.into_inner(), self.refused.into_inner());
        println!(
            "clients sent {} jobs: 201 for {created}, 503 for {refused}",
            CLIENTS * EACH
        );
        if (created, created) != (stats.submitted, stats.completed) || refused != stats.rejected {
            return Err(format!("the pool counted something else: {stats:?}"));
        }
        println!("each of the {created} was done");
        Ok(())
    }
}
