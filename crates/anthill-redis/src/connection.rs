//! One connection to one node, used by one call at a time.
//!
//! - CO1. Each request has a deadline, which each write and read of it heeds, from the first of a login on. A server that sends its
//!   answer drop by drop can take longer; the answer of a script is sent at once.
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
    /// None until it is set.
    timeout: Option<Duration>,
    used: Instant,
}

/// What a login consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Password,
    Database,
    /// The name of this library, for whoever looks at the clients of a server. Older ones do not know the command.
    Name,
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
        let deadline = Instant::now() + timeout;
        let opened = client.get_connection_with_timeout(timeout);
        let client = opened.map_err(|error| of_connect(&error, login.shown()))?;
        let mut connection = Connection {
            client,
            node: node.clone(),
            timeout: None,
            used: Instant::now(),
        };
        connection.log_in(login, deadline)?;
        Ok(connection)
    }

    /// The client's own login waits for each answer of it as long as for all.
    fn log_in(&mut self, login: &Login, deadline: Instant) -> Result<(), QueueError> {
        let settings = &login.settings;
        let mut steps = Vec::new();
        if let Some(password) = settings.password() {
            let mut auth = redis::cmd("AUTH");
            auth.arg(settings.username()).arg(password);
            steps.push((Step::Password, auth));
        }
        if settings.db() != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(settings.db());
            steps.push((Step::Database, select));
        }
        let names = [
            ("LIB-NAME", env!("CARGO_PKG_NAME")),
            ("LIB-VER", env!("CARGO_PKG_VERSION")),
        ];
        for (what, name) in names {
            let mut info = redis::cmd("CLIENT");
            info.arg("SETINFO").arg(what).arg(name);
            steps.push((Step::Name, info));
        }
        let mut bytes = Vec::new();
        for (_, command) in &steps {
            command.write_packed_command(&mut bytes);
        }
        self.heed(deadline).map_err(Failure::into_error)?;
        let sent = self.client.send_packed_command(&bytes);
        sent.map_err(|error| of_connection(&error))?;
        for (step, _) in steps {
            match self.answer(deadline) {
                Ok(_) => {}
                Err(Failure::Refused(refusal)) => refused(step, refusal, login)?,
                Err(failure) => return Err(failure.into_error()),
            }
        }
        Ok(())
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
        self.heed(deadline)?;
        let mut bytes = Vec::new();
        if request.asking {
            redis::cmd("ASKING").write_packed_command(&mut bytes);
        }
        request.command.write_packed_command(&mut bytes);
        let sent = self.client.send_packed_command(&bytes);
        sent.map_err(|error| Failure::NotSent(of_connection(&error)))?;
        if request.asking {
            match self.answer(deadline) {
                // The request itself is answered, too.
                Ok(_) | Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        let answer = self.answer(deadline)?;
        // A script answers zero where it has stored nothing.
        if request.replicas > 0 && answer != Value::Int(0) {
            self.confirm(request.replicas, deadline)?;
        }
        Ok(answer)
    }

    /// Waits until so many replicas have what was stored. Not sent along with the request: after a refusal it would wait for what this
    /// connection has stored before.
    fn confirm(&mut self, replicas: u32, deadline: Instant) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut wait = redis::cmd("WAIT");
        wait.arg(replicas).arg(millis);
        // The server says within its time how many have it; the answer takes a moment more.
        let deadline = deadline + CONFIRMED;
        let unknown = |failure: Failure| Failure::Unanswered(failure.into_error());
        self.heed(deadline).map_err(unknown)?;
        let sent = self.client.send_packed_command(&wait.get_packed_command());
        sent.map_err(|error| Failure::Unanswered(of_connection(&error)))?;
        match self.answer(deadline)? {
            Value::Int(number) if number >= i64::from(replicas) => Ok(()),
            _ => {
                let why = format!("fewer than {replicas} replicas have confirmed what was stored");
                Err(Failure::Unconfirmed(unavailable(why)))
            }
        }
    }

    fn answer(&mut self, deadline: Instant) -> Result<Value, Failure> {
        // The request was sent by now.
        let sent = |failure: Failure| Failure::Unanswered(failure.into_error());
        self.heed(deadline).map_err(sent)?;
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
            return Err(Failure::TooLate(too_late()));
        }
        let is_near = |timeout| timeout <= left + SLACK && timeout + SLACK >= left;
        if !self.timeout.is_some_and(is_near) {
            // Some systems refuse this where the server has closed the connection.
            let set = |error| Failure::NotSent(of_connection(&error));
            self.client.set_write_timeout(Some(left)).map_err(set)?;
            self.client.set_read_timeout(Some(left)).map_err(set)?;
            self.timeout = Some(left);
        }
        Ok(())
    }

    /// As if it had not been used for so long.
    #[cfg(test)]
    pub(crate) fn age(&mut self, by: Duration) {
        self.used = self.used.checked_sub(by).expect("the host runs for longer");
    }

    /// The connection itself, to hear messages on.
    pub(crate) fn into_client(self) -> redis::Connection {
        self.client
    }
}

/// What it means that a server refuses a step of a login.
fn refused(step: Step, refusal: Refusal, login: &Login) -> Result<(), QueueError> {
    let has_code = refusal.code != "ERR";
    match step {
        Step::Password if !has_code => Err(QueueError::Denied(refusal.text)),
        Step::Database if !has_code => Err(QueueError::Address {
            address: login.shown.clone(),
            reason: refusal.text,
        }),
        // Nothing else is answered on such a connection.
        Step::Name if refusal.code != "MAXCLIENTS" => Ok(()),
        _ => Err(refusal.into_error()),
    }
}

fn too_late() -> QueueError {
    unavailable("the time for the call was over")
}

/// A server that answers so many commands on each connection, and then none; and how many connections there were.
#[cfg(test)]
pub(crate) fn silent(
    answers: usize,
) -> (
    std::net::SocketAddr,
    std::sync::Arc<std::sync::atomic::AtomicUsize>,
) {
    use std::io::{BufRead, BufReader, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one");
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::SeqCst);
            let mut lines = BufReader::new(stream.try_clone().expect("it is open")).lines();
            for _ in 0..answers {
                // A command begins so.
                let begin = |line: &String| line.starts_with('*');
                if lines
                    .by_ref()
                    .map_while(Result::ok)
                    .any(|line| begin(&line))
                {
                    let _ = (&stream).write_all(b"+OK\r\n");
                }
            }
            held.push(stream);
        }
    });
    (address, accepted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use anthill_test_support::watchdog;
    use std::net::SocketAddr;

    fn node_and_login(at: SocketAddr) -> (Node, Login) {
        let address: Address = format!("redis://me:secret@{at}/3")
            .parse()
            .expect("it is one");
        (address.nodes[0].clone(), address.login)
    }

    #[test]
    fn a_login_takes_no_longer_than_its_deadline_however_many_steps_it_has() {
        let limit = Duration::from_secs(2);
        std::thread::scope(|scope| {
            for answers in 0..4 {
                scope.spawn(move || {
                    let (node, login) = node_and_login(silent(answers).0);
                    let begin = Instant::now();
                    let opened = watchdog("it ends", move || {
                        Connection::open(&login, &node, begin + limit).map(drop)
                    });
                    let took = begin.elapsed();
                    assert!(
                        matches!(opened, Err(QueueError::Unavailable(_))),
                        "{opened:?}"
                    );
                    // A time for each step would be four of them.
                    assert!(took < 2 * limit, "{answers}: {took:?}");
                });
            }
        });
    }

    #[test]
    fn a_request_of_a_new_connection_ends_also_when_its_time_is_all_but_over() {
        let (node, login) = node_and_login(silent(4).0);
        let answer = watchdog("it ends", move || {
            let deadline = Instant::now() + Duration::from_secs(10);
            let mut connection = Connection::open(&login, &node, deadline).expect("it answers");
            let request = Request {
                command: &redis::cmd("PING"),
                asking: false,
                replicas: 0,
            };
            let soon = Instant::now() + SLACK / 2;
            connection.request(&request, soon)
        });
        assert!(
            matches!(answer, Err(Failure::Unanswered(_) | Failure::TooLate(_))),
            "{answer:?}"
        );
    }
}
