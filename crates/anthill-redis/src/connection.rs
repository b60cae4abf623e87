//! One connection to one node, used by one call at a time.
//!
//! - CO1. Each request has a deadline, which each write and read of it heeds. A server that sends its answer drop by drop can take
//!   longer; the answer of a script is sent at once.
//! - CO2. After any failure but a refusal of the server's the connection is broken, and not used again: a late answer would be
//!   taken for that of the next request.

use crate::errors::{Failure, Refusal, of_connect, of_connection, unavailable};
use crate::node::{Login, Node};
use anthill_jobs::QueueError;
use redis::{Cmd, Value};
use std::time::{Duration, Instant};

/// The longest time that a connect takes.
const CONNECT: Duration = Duration::from_secs(5);

/// By how much a timeout may be longer than the time that is left, so that not each request sets it anew.
const SLACK: Duration = Duration::from_millis(10);

/// How much longer than its time the server may take to say how many replicas have confirmed.
const CONFIRMED: Duration = Duration::from_secs(1);

/// What is asked of a node.
#[derive(Clone, Copy)]
pub(crate) struct Request<'r> {
    pub(crate) command: &'r Cmd,
    /// Asks a node for what is about to be moved to it.
    pub(crate) asking: bool,
    /// How many replicas have to confirm it.
    pub(crate) replicas: u32,
}

pub(crate) struct Connection {
    client: redis::Connection,
    node: Node,
    timeout: Duration,
    used: Instant,
}

impl Connection {
    pub(crate) fn open(
        login: &Login,
        node: &Node,
        deadline: Instant,
    ) -> Result<Connection, QueueError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = left.min(CONNECT);
        if timeout.is_zero() {
            return Err(too_late());
        }
        let client = login.client(node)?;
        let opened = client.get_connection_with_timeout(timeout);
        let client = opened.map_err(|error| of_connect(&error, login.shown()))?;
        Ok(Connection {
            client,
            node: node.clone(),
            timeout: Duration::ZERO,
            used: Instant::now(),
        })
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// When it was last used.
    pub(crate) fn used(&self) -> Instant {
        self.used
    }

    /// Sends a request, and waits for the answer.
    pub(crate) fn request(
        &mut self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        self.used = Instant::now();
        self.heed(deadline).map_err(Failure::TooLate)?;
        let mut bytes = Vec::new();
        if request.asking {
            redis::cmd("ASKING").write_packed_command(&mut bytes);
        }
        request.command.write_packed_command(&mut bytes);
        if request.replicas > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
            let mut wait = redis::cmd("WAIT");
            wait.arg(request.replicas)
                .arg(millis)
                .write_packed_command(&mut bytes);
        }
        let sent = self.client.send_packed_command(&bytes);
        sent.map_err(|error| Failure::NotSent(of_connection(&error)))?;
        if request.asking {
            match self.answer(deadline) {
                // The request itself is answered, too.
                Ok(_) | Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        let answer = self.answer(deadline);
        if request.replicas == 0 || matches!(answer, Err(Failure::Unanswered(_))) {
            return answer;
        }
        // The server says within its time how many have it; the answer takes a moment more.
        let confirmed = self.answer(deadline + CONFIRMED)?;
        let is_confirmed =
            matches!(confirmed, Value::Int(number) if number >= i64::from(request.replicas));
        if answer.is_ok() && !is_confirmed {
            let why = format!(
                "fewer than {} replicas have confirmed what was stored",
                request.replicas
            );
            return Err(Failure::Unconfirmed(unavailable(why)));
        }
        answer
    }

    fn answer(&mut self, deadline: Instant) -> Result<Value, Failure> {
        self.heed(deadline).map_err(Failure::Unanswered)?;
        let unanswered = |error| Failure::Unanswered(of_connection(&error));
        let answer = self.client.recv_response();
        let answer = answer.and_then(Value::extract_error);
        answer.map_err(|error| {
            if error.is_io_error() || error.code().is_none() {
                unanswered(error)
            } else {
                Failure::Refused(Refusal::of(&error))
            }
        })
    }

    /// Sets how long a write or a read may take.
    fn heed(&mut self, deadline: Instant) -> Result<(), QueueError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(too_late());
        }
        let is_near = self.timeout <= left + SLACK && self.timeout + SLACK >= left;
        if !is_near {
            let set = |error| of_connection(&error);
            self.client.set_write_timeout(Some(left)).map_err(set)?;
            self.client.set_read_timeout(Some(left)).map_err(set)?;
            self.timeout = left;
        }
        Ok(())
    }

    /// The connection itself, to hear messages on.
    pub(crate) fn into_client(self) -> redis::Connection {
        self.client
    }
}

fn too_late() -> QueueError {
    unavailable("the time for the call was over")
}
