//! A client without any library: one connection, one call after the other, in version 2 of the protocol.
//!
//! It is for what prepares and looks, so that a test does not see the server through the code that it tests. Nothing of it
//! repeats a call or connects again.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::DEADLINE;

/// What `INFO` tells: names, and what they have.
pub type Fields = BTreeMap<String, String>;

/// What a server answers.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A status such as `OK`.
    Status(String),
    /// An error of the server: `CODE text`.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Nothing: neither bytes nor a list.
    Nil,
    /// A list.
    Array(Vec<Value>),
}

impl Value {
    /// The text of a status or of bytes; panics where it is something else.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// The number, also where it came as text; panics where it is none.
    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => match other.text().parse() {
                Ok(number) => number,
                Err(error) => panic!("{other:?}: {error}"),
            },
        }
    }

    /// The values of a list; panics where it is none.
    #[track_caller]
    pub fn array(self) -> Vec<Value> {
        match self {
            Self::Array(values) => values,
            other => panic!("no list: {other:?}"),
        }
    }

    /// Whether the server refused.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(text) => write!(to, "{text}"),
            Self::Error(text) => write!(to, "-{text}"),
            Self::Integer(number) => write!(to, "{number}"),
            Self::Bulk(bytes) => write!(to, "\"{}\"", bytes.escape_ascii()),
            Self::Nil => write!(to, "nil"),
            Self::Array(values) => to.debug_list().entries(values).finish(),
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Raw(BufReader<TcpStream>);

impl Raw {
    /// Connects and says nothing yet. A call that is not answered within [`DEADLINE`] is an error.
    ///
    /// # Errors
    ///
    /// What the system says where nobody listens.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Connects and enters as the user `default`.
    pub(super) fn enter(address: SocketAddr, password: Option<&str>) -> io::Result<Self> {
        let mut raw = Self::connect(address)?;
        if let Some(password) = password {
            raw.call(&[b"AUTH", password.as_bytes()])?.or_error()?;
        }
        Ok(raw)
    }

    /// Waits so long for the bytes of an answer from now on.
    ///
    /// # Panics
    ///
    /// If the limit is zero.
    pub fn set_limit(&mut self, limit: Duration) {
        let set = self.0.get_ref().set_read_timeout(Some(limit));
        set.expect("the limit is not zero");
    }

    /// Sends a request and reads its answer. After an error of the connection it is of no use any more; a refusal of the
    /// server is a [`Value::Error`].
    ///
    /// # Errors
    ///
    /// The connection ended, or the answer did not come in time or is none of the protocol.
    pub fn call(&mut self, request: &[&[u8]]) -> io::Result<Value> {
        self.send(request)?;
        self.receive()
    }

    /// Sends a request whose answer [`receive`](Self::receive) reads.
    ///
    /// # Errors
    ///
    /// The connection ended.
    pub fn send(&mut self, request: &[&[u8]]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", request.len()).into_bytes();
        for part in request {
            bytes.extend(format!("${}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes)
    }

    /// Reads the next answer, or the next message of a subscription.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn receive(&mut self) -> io::Result<Value> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let line = String::from_utf8_lossy(line);
        let mut letters = line.chars();
        let (kind, rest) = (letters.next(), letters.as_str());
        let number = || {
            rest.parse::<i64>()
                .map_err(|error| wrong(&format!("{line:?}: {error}")))
        };
        Ok(match kind {
            Some('+') => Value::Status(rest.to_owned()),
            Some('-') => Value::Error(rest.to_owned()),
            Some(':') => Value::Integer(number()?),
            Some('$') => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Value::Bulk(bytes)
                }
            },
            Some('*') => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(length) => {
                    let values = (0..length).map(|_| self.receive());
                    Value::Array(values.collect::<io::Result<_>>()?)
                }
            },
            _ => return Err(wrong(&format!("{line:?}"))),
        })
    }

    /// Calls with texts; panics where the server refuses or the connection ends.
    #[track_caller]
    pub fn run(&mut self, request: &[&str]) -> Value {
        let parts: Vec<_> = request.iter().map(|part| part.as_bytes()).collect();
        match self.call(&parts).and_then(Value::or_error) {
            Ok(value) => value,
            Err(error) => panic!("{request:?}: {error}"),
        }
    }

    /// The fields of a section of `INFO`.
    #[track_caller]
    pub fn info(&mut self, section: &str) -> Fields {
        let text = self.run(&["INFO", section]).text();
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// How often each command was called since the server started, or since `CONFIG RESETSTAT`: also by scripts, and this
    /// call's own `INFO` only from the next look on.
    #[track_caller]
    pub fn commandstats(&mut self) -> BTreeMap<String, u64> {
        let fields = self.info("commandstats").into_iter();
        fields
            .filter_map(|(name, value)| {
                let calls = value.strip_prefix("calls=")?.split(',').next()?;
                Some((
                    name.strip_prefix("cmdstat_")?.to_owned(),
                    calls.parse().ok()?,
                ))
            })
            .collect()
    }
}

impl Value {
    fn or_error(self) -> io::Result<Self> {
        match self {
            Self::Error(text) => Err(io::Error::other(text)),
            other => Ok(other),
        }
    }
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
