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

    /// Sends a request, and waits for the answer. `asking` asks a node for what is about to be moved to it.
    pub(crate) fn request(
        &mut self,
        request: &Cmd,
        asking: bool,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        self.used = Instant::now();
        self.heed(deadline)?;
        let mut bytes = Vec::new();
        if asking {
            redis::cmd("ASKING").write_packed_command(&mut bytes);
        }
        request.write_packed_command(&mut bytes);
        let sent = self.client.send_packed_command(&bytes);
        sent.map_err(|error| Failure::NotSent(of_connection(&error)))?;
        if asking {
            match self.answer(deadline) {
                // The request itself is answered, too.
                Ok(_) | Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        self.answer(deadline)
    }

    fn answer(&mut self, deadline: Instant) -> Result<Value, Failure> {
        let late = |failure| match failure {
            // It was sent by now.
            Failure::NotSent(error) => Failure::Unanswered(error),
            other => other,
        };
        self.heed(deadline).map_err(late)?;
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
    fn heed(&mut self, deadline: Instant) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::NotSent(too_late()));
        }
        let is_near = self.timeout <= left + SLACK && self.timeout + SLACK >= left;
        if !is_near {
            let set = |error| Failure::NotSent(of_connection(&error));
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
