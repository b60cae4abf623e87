//! A TCP proxy whose connections a test cuts, stalls and refuses.
//!
//! - TP1: bytes pass unchanged and in order, and an end of one side is passed on, until a cut.
//! - TP2: what a call orders is in force when it returns: nothing passes after [`cut_all`](Proxy::cut_all) and
//!   [`stall`](Proxy::stall), nobody is let in after [`refuse`](Proxy::refuse).
//! - TP3: [`cut_reply`](Proxy::cut_reply) strikes once: the request has reached the server, the server's whole reply has come
//!   back, all replies before it have been passed on, and of this one the client gets no byte. Nothing of what the client sent
//!   after it has reached the server.
//! - TP4: its address stays its own, also while it refuses.
//!
//! ```
//! use anthill_test_support::proxy::{Protocol, Proxy, Trigger};
//! # use std::io::{BufRead, BufReader, Write};
//! # use std::net::{TcpListener, TcpStream};
//!
//! # let listener = TcpListener::bind("127.0.0.1:0").unwrap();
//! # let server = listener.local_addr().unwrap();
//! # std::thread::spawn(move || {
//! #     let (mut stream, _) = listener.accept().unwrap();
//! #     let mut line = String::new();
//! #     BufReader::new(&stream).read_line(&mut line).unwrap();
//! #     stream.write_all(b"OK\n").unwrap();
//! # });
//! let proxy = Proxy::start(server, Protocol::Lines);
//! let cut = proxy.cut_reply(Trigger::containing("COMMIT"));
//! let mut client = TcpStream::connect(proxy.address()).unwrap();
//! client.write_all(b"COMMIT\n").unwrap();
//! cut.wait("the commit's reply is lost");
//! assert_eq!(proxy.counts().requests, 1);
//! ```

mod connection;
mod framing;
mod pump;
mod trigger;

pub use framing::Protocol;
pub use trigger::{Cut, Trigger};

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use self::connection::Connection;
use self::trigger::{Armed, Place};
use crate::DEADLINE;
use crate::scratch::Reservation;

/// What has passed so far. Counted before it is passed on, so that it is never behind what a client or a server has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were accepted.
    pub connections: u64,
    /// Of these, those that have not ended.
    pub open: u64,
    /// Requests that were passed on whole.
    pub requests: u64,
    /// Replies that have come from the server whole, whether or not they were passed on.
    pub replies: u64,
    /// Bytes that were passed on to the server.
    pub to_server: u64,
    /// Bytes that were passed on to clients.
    pub to_client: u64,
}

/// Whether connections are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Shut,
    Gone,
}

#[derive(Debug)]
struct State {
    /// As it is to be, and as the thread that accepts has made it.
    wanted: Door,
    door: Door,
    stalled: bool,
    /// How many threads are writing, all of which began before a stall.
    writing: usize,
    connections: HashMap<u64, Connection>,
    armed: Vec<Armed>,
    /// The next number of a connection or a trigger.
    next: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    target: SocketAddr,
    protocol: Protocol,
    state: Mutex<State>,
    changed: Condvar,
}

/// Passes connections on to a server. Dropping it cuts them all.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    _port: Reservation,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(target: SocketAddr, protocol: Protocol) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), target, protocol)
    }

    /// Listens on a free port of another address of this host.
    pub fn start_on(address: IpAddr, target: SocketAddr, protocol: Protocol) -> Self {
        let (port, listener) = loop {
            let port = Reservation::port();
            // Somebody who makes no reservations may take it in the meantime.
            if let Ok(listener) = TcpListener::bind((address, port.number())) {
                break (port, listener);
            }
        };
        let shared = Arc::new(Shared {
            address: (address, port.number()).into(),
            target,
            protocol,
            state: Mutex::new(State {
                wanted: Door::Open,
                door: Door::Open,
                stalled: false,
                writing: 0,
                connections: HashMap::new(),
                armed: Vec::new(),
                next: 0,
                counts: Counts::default(),
            }),
            changed: Condvar::new(),
        });
        let accepts = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("test proxy".to_owned())
            .spawn(move || accepts.accept(listener))
            .expect("a thread starts");
        Self {
            shared,
            acceptor: Some(acceptor),
            _port: port,
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// What has passed so far.
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }

    /// Waits until the counts are such; panics naming `what` if they do not become so in time.
    #[track_caller]
    pub fn wait_for(&self, what: impl Display, condition: impl Fn(&Counts) -> bool) {
        self.shared
            .wait(what, |state| condition(&state.counts), |state| state.counts);
    }

    /// Ends all connections on both sides.
    pub fn cut_all(&self) {
        let mut state = self.shared.state();
        let last = state.next;
        for connection in state.connections.values_mut() {
            connection.cut();
        }
        drop(state);
        self.shared.changed.notify_all();
        let gone = |state: &State| state.connections.keys().all(|number| *number >= last);
        self.shared
            .wait("connections are cut", gone, |state| state.counts);
    }

    /// Cuts the connection of a request that is to come, when the server has answered it and before the reply gets back.
    pub fn cut_reply(&self, trigger: Trigger) -> Cut {
        self.arm(Place::BeforeReply, trigger)
    }

    /// Cuts the connection of a request that is to come, before the request has reached the server whole.
    pub fn cut_request(&self, trigger: Trigger) -> Cut {
        self.arm(Place::BeforeRequest, trigger)
    }

    fn arm(&self, place: Place, trigger: Trigger) -> Cut {
        let mut state = self.shared.state();
        let armed = Armed::new(state.take_number(), place, trigger);
        let cut = armed.cut.clone();
        state.armed.push(armed);
        cut
    }

    /// Passes nothing on from now, neither bytes nor ends of connections, and lets the connections stand, as a broken network
    /// does. New ones are accepted, and are not passed on either.
    ///
    /// # Panics
    ///
    /// If a side has not read for so long that what was passed to it before has not arrived.
    pub fn stall(&self) {
        self.shared.state().stalled = true;
        let idle = |state: &State| state.writing == 0;
        self.shared
            .wait("nothing is on its way", idle, |state| state.writing);
    }

    /// Refuses new connections, as a host without a server does; those that there are stay.
    pub fn refuse(&self) {
        self.move_door(Door::Shut);
    }

    /// Passes all on that was held up, and lets new connections in.
    pub fn resume(&self) {
        self.shared.state().stalled = false;
        self.move_door(Door::Open);
    }

    fn move_door(&self, to: Door) {
        self.shared.state().wanted = to;
        self.shared.changed.notify_all();
        if to != Door::Open {
            // Wakes the thread that accepts, if it does.
            let _ = TcpStream::connect(self.shared.address);
        }
        self.shared.wait(
            "the door moves",
            |state| state.door == to,
            |state| state.door,
        );
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stalled = false;
        state.armed.clear();
        drop(state);
        self.move_door(Door::Gone);
        self.cut_all();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a condition holds; panics with what is `shown` if it does not in time.
    #[track_caller]
    fn wait<S: std::fmt::Debug>(
        &self,
        what: impl Display,
        condition: impl Fn(&State) -> bool,
        shown: impl Fn(&State) -> S,
    ) {
        let (state, timeout) = self
            .changed
            .wait_timeout_while(self.state(), DEADLINE, |state| !condition(state))
            .unwrap_or_else(PoisonError::into_inner);
        let shown = shown(&state);
        drop(state);
        assert!(
            !timeout.timed_out(),
            "not so within {DEADLINE:?}: {what}; {shown:?}"
        );
    }
}
