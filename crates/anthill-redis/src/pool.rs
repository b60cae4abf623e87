//! The connections of a store: so many at most are used at once, each by one call. They may be to different nodes.
//!
//! - PO1. A connection is returned only if the server answered. When one breaks, all idle ones to that node are closed: a server that
//!   was restarted has closed them, too.
//! - PO2. Heartbeats have connections of their own, so they wait for no other call.
//! - PO3. A connection that nobody has used for [`IDLE`] is closed by the next call that ends.

use crate::connection::Connection;
use crate::errors::{Failure, unavailable};
use crate::node::{Login, Node};
use crate::sync::lock;
use redis::{Cmd, Value};
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
        request: &Cmd,
        asking: bool,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let (permit, idle) = self.enter(node, deadline)?;
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect(node, deadline)?,
        };
        let answer = connection.request(request, asking, deadline);
        let is_broken = matches!(answer, Err(Failure::NotSent(_) | Failure::Unanswered(_)));
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
                return Err(Failure::NotSent(unavailable(why)));
            }
            let waited = self.freed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.in_use += 1;
        let at = state.idle.iter().rposition(|one| one.node() == node);
        let idle = at.map(|at| state.idle.remove(at));
        drop(state);
        Ok((Permit { pool: self }, idle))
    }
}

/// The right to use a connection.
struct Permit<'p> {
    pool: &'p Pool,
}

impl Permit<'_> {
    fn leave(self, connection: Connection, is_broken: bool) {
        let now = Instant::now();
        let mut state = lock(&self.pool.state);
        let mut closed = Vec::new();
        let all = std::mem::take(&mut state.idle);
        for idle in all {
            let is_old = now.saturating_duration_since(idle.used()) >= IDLE;
            if is_old || (is_broken && idle.node() == connection.node()) {
                closed.push(idle);
            } else {
                state.idle.push(idle);
            }
        }
        if is_broken {
            closed.push(connection);
        } else {
            state.idle.push(connection);
        }
        drop(state);
        // After the lock: to close takes a while.
        drop(closed);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        lock(&self.pool.state).in_use -= 1;
        self.pool.freed.notify_one();
    }
}
