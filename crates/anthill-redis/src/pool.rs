//! The connections of a store: so many at most are used at once, each by one call. They may be to different nodes.
//!
//! - CP1. A connection is returned only if the server answered. When one breaks, all idle ones to that node are closed: a server that
//!   was restarted has closed them, too. So they are where the server is a replica now: the name may be another server's by now.
//! - CP2. Heartbeats have connections of their own, so they wait for no other call.
//! - CP3. A connection that nobody has used for [`IDLE`] is not used any more, as what is between may have forgotten it without a
//!   word: a call would wait for its whole time. It is closed by the next call that begins or ends.

use crate::connection::{Connection, Request};
use crate::errors::{Failure, unavailable};
use crate::node::{Login, Node};
use crate::sync::lock;
use redis::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

const IDLE: Duration = Duration::from_secs(60);

pub(crate) struct Pool {
    login: Arc<Login>,
    most: usize,
    state: Mutex<State>,
    /// How many connections were made.
    made: AtomicU64,
    /// Somebody ended a call.
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// Calls that have, or make, a connection.
    in_use: usize,
    /// The one that was used last is the last one.
    idle: Vec<Connection>,
}

impl State {
    /// Takes the idle connections that are such.
    fn take(&mut self, is_it: impl Fn(&Connection) -> bool) -> Vec<Connection> {
        let all = std::mem::take(&mut self.idle);
        let (taken, kept) = all.into_iter().partition(is_it);
        self.idle = kept;
        taken
    }

    /// CP3.
    fn take_old(&mut self, now: Instant) -> Vec<Connection> {
        self.take(|idle| now.saturating_duration_since(idle.used()) >= IDLE)
    }
}

impl Pool {
    pub(crate) fn new(login: Arc<Login>, most: usize) -> Pool {
        Pool {
            login,
            most: most.max(1),
            state: Mutex::default(),
            made: AtomicU64::new(0),
            freed: Condvar::new(),
        }
    }

    /// How many connections were made so far, by all calls.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    /// Sends a request to a node, and waits for the answer, until the deadline.
    pub(crate) fn request(
        &self,
        node: &Node,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let (permit, idle) = self.enter(node, deadline)?;
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect(node, deadline)?,
        };
        let answer = connection.request(request, deadline);
        let is_broken = match &answer {
            Ok(_) | Err(Failure::Unconfirmed(_) | Failure::TooLate(_)) => false,
            Err(Failure::Refused(refusal)) => refusal.is_of_replica(),
            Err(Failure::NotSent(_) | Failure::Unanswered(_)) => true,
        };
        permit.leave(connection, is_broken);
        answer
    }

    fn connect(&self, node: &Node, deadline: Instant) -> Result<Connection, Failure> {
        let made = Connection::open(&self.login, node, deadline).map_err(Failure::NotSent)?;
        self.made.fetch_add(1, Ordering::SeqCst);
        Ok(made)
    }

    /// Waits until it may use a connection. Takes an idle one, if there is one to that node.
    fn enter(
        &self,
        node: &Node,
        deadline: Instant,
    ) -> Result<(Permit<'_>, Option<Connection>), Failure> {
        let mut state = lock(&self.state);
        while state.in_use >= self.most {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = "all connections were in use until the deadline";
                return Err(Failure::TooLate(unavailable(why)));
            }
            let waited = self.freed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.in_use += 1;
        let old = state.take_old(Instant::now());
        let at = state.idle.iter().rposition(|one| one.node() == node);
        let idle = at.map(|at| state.idle.remove(at));
        drop(state);
        // After the lock: to close takes a while.
        drop(old);
        Ok((Permit { pool: self }, idle))
    }
}

/// The right to use a connection.
struct Permit<'p> {
    pool: &'p Pool,
}

impl Permit<'_> {
    fn leave(self, connection: Connection, is_broken: bool) {
        let mut state = lock(&self.pool.state);
        let mut closed = state.take_old(Instant::now());
        if is_broken {
            closed.extend(state.take(|idle| idle.node() == connection.node()));
        }
        if is_broken {
            closed.push(connection);
        } else {
            state.idle.push(connection);
        }
        drop(state);
        drop(closed);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        lock(&self.pool.state).in_use -= 1;
        self.pool.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::connection::silent;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_connection_that_was_idle_for_long_is_not_used_any_more() {
        // It answers a login of four steps, and two calls, on each connection.
        let (at, accepted) = silent(6);
        let address: Address = format!("redis://me:secret@{at}/3")
            .parse()
            .expect("it is one");
        let node = &address.nodes[0];
        let pool = Pool::new(Arc::new(address.login.clone()), 2);
        let ping = redis::cmd("PING");
        let request = Request {
            command: &ping,
            asking: false,
            replicas: 0,
        };
        let call = || {
            let deadline = Instant::now() + Duration::from_secs(5);
            pool.request(node, &request, deadline)
                .expect("it is answered");
            assert_eq!(lock(&pool.state).idle.len(), 1);
            accepted.load(Ordering::SeqCst)
        };
        assert_eq!((call(), call()), (1, 1));
        lock(&pool.state).idle[0].age(IDLE);
        assert_eq!(call(), 2);
    }
}
