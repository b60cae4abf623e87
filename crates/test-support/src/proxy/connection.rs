//! What becomes of the next bytes of a connection: pure, so that each case is a plain call.

use std::net::{Shutdown, TcpStream};

use super::framing::{Framing, Protocol};
use super::trigger::{Armed, Cut, Place};

/// A connection of a client, and the one that was made to the server for it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: TcpStream,
    pub(super) server: Option<TcpStream>,
    /// Nothing passes any more.
    pub(super) is_cut: bool,
    /// Its threads, one for each direction.
    pub(super) threads: usize,
    framing: Framing,
    /// How many requests came whole, and the bytes of the one that is coming.
    asked: u64,
    request: Vec<u8>,
    /// The triggers that have counted that one.
    counted: Vec<u64>,
    answered: u64,
    withheld: Option<Withheld>,
}

/// A reply that the client is not to get.
#[derive(Debug)]
struct Withheld {
    /// Which request it is of, and which of the replies it is. That is another number where there were replies that nobody had
    /// asked for.
    request: u64,
    reply: u64,
    cut: Cut,
}

/// What to do with bytes that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// So many of them are passed on.
    pub(super) pass: usize,
    /// So many requests, or replies, end in these; for replies in all that came.
    pub(super) ends: u64,
    pub(super) then: Then,
}

#[derive(Debug)]
pub(super) enum Then {
    GoOn,
    /// What else comes from this side waits for the end of the connection.
    Hold,
    Cut(Cut),
}

impl PartialEq for Then {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Eq for Then {}

impl Connection {
    pub(super) fn new(client: TcpStream, protocol: Protocol) -> Self {
        Self {
            client,
            server: None,
            is_cut: false,
            threads: 1,
            framing: Framing::new(protocol),
            asked: 0,
            request: Vec::new(),
            counted: Vec::new(),
            answered: 0,
            withheld: None,
        }
    }

    /// Ends it on both sides. What was passed on arrives.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
        // A side that has ended by itself is an error.
        let _ = self.client.shutdown(Shutdown::Both);
        if let Some(server) = &self.server {
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    /// The cut that will not strike any more, since this connection ends.
    pub(super) fn take_withheld(&mut self) -> Option<Cut> {
        self.withheld.take().map(|withheld| withheld.cut)
    }

    pub(super) fn plan_request(&mut self, bytes: &[u8], armed: &mut Vec<Armed>) -> Plan {
        let ends = self.framing.of_client(bytes);
        let mut plan = Plan {
            pass: bytes.len(),
            ends: 0,
            then: Then::GoOn,
        };
        let mut start = 0;
        let pieces = ends.into_iter().map(|end| (end, true));
        for (end, whole) in pieces.chain([(bytes.len(), false)]) {
            self.request.extend(&bytes[start..end]);
            if self.withheld.is_none() {
                if let Some(struck) = self.count(armed, whole) {
                    if struck.place == Place::BeforeRequest {
                        plan.pass = start;
                        plan.then = Then::Cut(struck.cut);
                        return plan;
                    }
                    self.withheld = Some(Withheld {
                        request: self.asked + 1,
                        reply: self.asked.max(self.answered) + 1,
                        cut: struck.cut,
                    });
                }
            }
            if whole {
                self.asked += 1;
                self.request.clear();
                self.counted.clear();
                plan.ends += 1;
                let last = self.withheld.as_ref().map(|withheld| withheld.request);
                if last == Some(self.asked) {
                    plan.pass = end;
                    plan.then = Then::Hold;
                    return plan;
                }
            }
            start = end;
        }
        plan
    }

    /// Counts the request that is coming; returns the trigger that it is the one for.
    fn count(&mut self, armed: &mut Vec<Armed>, whole: bool) -> Option<Armed> {
        if self.request.is_empty() {
            return None;
        }
        for at in 0..armed.len() {
            let one = &mut armed[at];
            if self.counted.contains(&one.number) || !one.matches(&self.request, whole) {
                continue;
            }
            self.counted.push(one.number);
            if one.count() {
                return Some(armed.remove(at));
            }
        }
        None
    }

    pub(super) fn plan_reply(&mut self, bytes: &[u8]) -> Plan {
        let mut plan = Plan {
            pass: bytes.len(),
            ends: 0,
            then: Then::GoOn,
        };
        let withheld = self.withheld.as_ref().map(|withheld| withheld.reply);
        if withheld == Some(self.answered + 1) {
            plan.pass = 0;
        }
        for end in self.framing.of_server(bytes) {
            self.answered += 1;
            plan.ends += 1;
            if withheld == Some(self.answered + 1) {
                plan.pass = end;
            }
            if withheld == Some(self.answered) {
                let withheld = self.withheld.take().expect("a reply is withheld");
                plan.then = Then::Cut(withheld.cut);
                return plan;
            }
        }
        plan
    }
}
