//! A connection that a test looks into: each request is shown to the test, which says what becomes of it and of its answer.
//!
//! What passes is passed to the byte, one request after the other, each with its answer. A connection that has subscribed passes
//! everything from then on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What becomes of a request.
pub(crate) enum Act {
    Pass,
    /// The server does not get it, and the connection ends.
    CutRequest,
    /// The server answers, and the connection ends.
    CutReply,
    /// The client gets this in place of an answer, and the server nothing.
    Answer(Vec<u8>),
    /// The server answers, and the client gets that so much later.
    Late(Duration),
    /// The client gets the answer byte by byte, with such a pause after each.
    Drip(Duration),
    /// Nothing passes any more, and the connection stands.
    Hold,
}

type Decide = dyn FnMut(&[Vec<u8>]) -> Act + Send;

pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    decide: Mutex<Box<Decide>>,
    /// Those that stand.
    held: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    is_over: AtomicBool,
}

impl Wire {
    pub(crate) fn start(
        target: SocketAddr,
        decide: impl FnMut(&[Vec<u8>]) -> Act + Send + 'static,
    ) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it has one");
        let shared = Arc::new(Shared {
            target,
            decide: Mutex::new(Box::new(decide)),
            held: Mutex::default(),
            accepted: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if of_thread.is_over.load(Ordering::SeqCst) {
                    return;
                }
                of_thread.accepted.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&of_thread);
                // An end of either side is the end of both.
                thread::spawn(move || shared.serve(&client));
            }
        });
        Wire { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there have been.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // It accepts once more.
        drop(TcpStream::connect(self.address));
        let mut held = lock(&self.shared.held);
        for stream in held.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn serve(&self, client: &TcpStream) {
        let Ok(server) = TcpStream::connect(self.target) else {
            return;
        };
        let _ = (server.set_nodelay(true), client.set_nodelay(true));
        if self.pass(client, &server).is_ok_and(|holds| holds) {
            return;
        }
        let _ = (
            client.shutdown(Shutdown::Both),
            server.shutdown(Shutdown::Both),
        );
    }

    /// Returns whether the connection is to stand.
    fn pass(&self, mut client: &TcpStream, mut server: &TcpStream) -> io::Result<bool> {
        let (mut requests, mut answers) = (BufReader::new(client), BufReader::new(server));
        loop {
            let mut bytes = Vec::new();
            read(&mut requests, &mut bytes)?;
            let request = parts(&bytes);
            let is_subscribe = request[0].eq_ignore_ascii_case(b"SUBSCRIBE");
            let act = lock(&self.decide)(&request);
            match act {
                Act::CutRequest => return Ok(false),
                Act::Answer(answer) => {
                    client.write_all(&answer)?;
                    continue;
                }
                Act::Hold => {
                    lock(&self.held).extend([client.try_clone()?, server.try_clone()?]);
                    return Ok(true);
                }
                _ => {}
            }
            server.write_all(&bytes)?;
            let mut answer = Vec::new();
            read(&mut answers, &mut answer)?;
            match act {
                Act::CutReply => return Ok(false),
                Act::Late(time) => thread::sleep(time),
                Act::Drip(pause) => {
                    for byte in answer.drain(..) {
                        client.write_all(&[byte])?;
                        thread::sleep(pause);
                    }
                }
                _ => {}
            }
            client.write_all(&answer)?;
            if is_subscribe {
                let (from, to) = (server.try_clone()?, client.try_clone()?);
                thread::spawn(move || {
                    let _ = io::copy(&mut &from, &mut &to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                io::copy(&mut requests, &mut server)?;
                return Ok(false);
            }
        }
    }
}

/// Reads a request, or an answer, to the end.
fn read(from: &mut impl BufRead, into: &mut Vec<u8>) -> io::Result<()> {
    let begin = into.len();
    if from.read_until(b'\n', into)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let kind = into[begin];
    let line = String::from_utf8_lossy(&into[begin + 1..])
        .trim()
        .to_owned();
    let number = || line.parse::<i64>().map_err(io::Error::other);
    match kind {
        b'$' => {
            if let Ok(length) = u64::try_from(number()?) {
                let all = from.take(length + 2).read_to_end(into)?;
                if all as u64 != length + 2 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        b'*' => {
            for _ in 0..number()? {
                read(from, into)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The texts of a request.
fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = BufReader::new(bytes);
    let mut line = String::new();
    let mut next = |reader: &mut BufReader<&[u8]>| {
        line.clear();
        reader.read_line(&mut line).expect("it is whole");
        line[1..].trim().parse::<usize>().expect("a number")
    };
    let number = next(&mut reader);
    let mut parts = Vec::with_capacity(number);
    for _ in 0..number {
        let mut part = vec![0; next(&mut reader) + 2];
        reader.read_exact(&mut part).expect("it is whole");
        part.truncate(part.len() - 2);
        parts.push(part);
    }
    parts
}
