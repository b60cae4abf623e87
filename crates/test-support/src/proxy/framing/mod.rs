//! Where requests and replies end in the bytes of a connection.
//!
//! Each side of a connection may be cut into pieces anywhere; what is told of a piece is where in it a request, or a reply,
//! has its last byte. What is kept between pieces does not grow with what they hold.

mod postgres;
mod redis;

use self::postgres::Postgres;
use self::redis::Redis;

/// What the two sides of a connection speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A request is a line, and so is a reply.
    Lines,
    /// Version 3 of Postgres' protocol, not encrypted. A request is what is answered by one `ReadyForQuery`: the start of a
    /// session, a simple query, or all messages up to a `Sync`.
    Postgres,
    /// Versions 2 and 3 of Redis' protocol, not encrypted. A request is a list of texts, or a line of text, and has one
    /// reply, which is a value with all that is in it.
    ///
    /// Each message of a subscription is a reply, too, and so is each channel's answer to a `SUBSCRIBE`. On a connection with
    /// replies that were not asked for, a reply that is to be cut off is the next one that comes. One that suppresses replies
    /// (`CLIENT REPLY`) cannot be told from one whose server is slow.
    Redis,
}

/// How far both sides of a connection have come.
#[derive(Debug)]
pub(super) enum Framing {
    Lines,
    Postgres(Postgres),
    Redis(Redis),
}

impl Framing {
    pub(super) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Lines => Self::Lines,
            Protocol::Postgres => Self::Postgres(Postgres::new()),
            Protocol::Redis => Self::Redis(Redis::new()),
        }
    }

    /// Where requests end in the next bytes of the client: each is the length of what precedes the end.
    pub(super) fn of_client(&mut self, bytes: &[u8]) -> Vec<usize> {
        match self {
            Self::Lines => lines(bytes),
            Self::Postgres(session) => session.of_client(bytes),
            Self::Redis(session) => session.of_client(bytes),
        }
    }

    /// Where replies end in the next bytes of the server.
    pub(super) fn of_server(&mut self, bytes: &[u8]) -> Vec<usize> {
        match self {
            Self::Lines => lines(bytes),
            Self::Postgres(session) => session.of_server(bytes),
            Self::Redis(session) => session.of_server(bytes),
        }
    }
}

fn lines(bytes: &[u8]) -> Vec<usize> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_its_break() {
        let mut framing = Framing::new(Protocol::Lines);
        assert_eq!(framing.of_client(b"one\ntwo\nthr"), [4, 8]);
        assert_eq!(framing.of_server(b"ee\n\n"), [3, 4]);
    }
}
