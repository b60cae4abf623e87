//! The connections of a store: so many at most, each used by one call at a time. A call has a deadline, which includes waiting for
//! a connection and making one.
//!
//! - PO1. A connection is returned only after its call has ended. One whose call failed in the middle, or did not end in time, is
//!   closed, and never used again.
//! - PO2. Heartbeats have connections of their own, so they wait for no other call.

use crate::errors::{is_missing, queue_error, unavailable};
use crate::session::{Param, Session, Target};
use crate::sync::lock;
use anthill_jobs::QueueError;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Row;

/// A connection that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

pub(crate) struct Pool {
    target: Target,
    permits: Semaphore,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The one that was used last is the last one.
    sessions: Vec<(Session, Instant)>,
    /// A task waits to close what is idle.
    is_watched: bool,
}

/// How a call failed.
pub(crate) enum Failure {
    /// The schema is not there, or lacks the function.
    Missing(QueueError),
    Other(QueueError),
}

impl From<Failure> for QueueError {
    fn from(failure: Failure) -> QueueError {
        match failure {
            Failure::Missing(error) | Failure::Other(error) => error,
        }
    }
}

impl Pool {
    pub(crate) fn new(target: Target, most: usize) -> Arc<Pool> {
        Arc::new(Pool {
            target,
            permits: Semaphore::new(most.max(1)),
            idle: Mutex::default(),
        })
    }

    /// Calls a function of the schema.
    pub(crate) async fn call(
        self: &Arc<Pool>,
        deadline: Instant,
        sql: &str,
        params: &[Param],
    ) -> Result<Vec<Row>, Failure> {
        let with = async |session: &Session| session.query(sql, params).await;
        self.with(deadline, with).await
    }

    /// Uses a connection until the deadline.
    pub(crate) async fn with<T>(
        self: &Arc<Pool>,
        deadline: Instant,
        with: impl AsyncFnOnce(&Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failure> {
        let permit = timeout_at(deadline, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            let why = "all connections were in use until the deadline";
            return Err(Failure::Other(unavailable(why)));
        };
        let session = self.session(deadline).await.map_err(Failure::Other)?;
        let guard = Abandon(Some(session), &self.target);
        let session = guard.0.as_ref().expect("it is there until the end");
        let ended = timeout_at(deadline, with(session)).await;
        match ended {
            Err(_) => {
                drop(guard);
                Err(Failure::Other(unavailable(
                    "the server did not answer in time",
                )))
            }
            Ok(answer) => {
                self.put_back(guard.take());
                answer.map_err(|error| {
                    if is_missing(&error) {
                        Failure::Missing(queue_error(error))
                    } else {
                        Failure::Other(queue_error(error))
                    }
                })
            }
        }
    }

    async fn session(&self, deadline: Instant) -> Result<Session, QueueError> {
        loop {
            let idle = lock(&self.idle).sessions.pop();
            match idle {
                Some((session, _)) if session.is_closed() => {}
                Some((session, _)) => return Ok(session),
                None => return Session::open(&self.target, deadline).await,
            }
        }
    }

    fn put_back(self: &Arc<Pool>, session: Session) {
        if session.is_closed() {
            return;
        }
        let mut idle = lock(&self.idle);
        idle.sessions.push((session, Instant::now()));
        if !std::mem::replace(&mut idle.is_watched, true) {
            let pool = Arc::downgrade(self);
            self.target.runtime.spawn(async move {
                loop {
                    tokio::time::sleep(IDLE).await;
                    let Some(pool) = pool.upgrade() else { return };
                    let now = Instant::now();
                    let mut idle = lock(&pool.idle);
                    let is_old = |at: Instant| now.saturating_duration_since(at) >= IDLE;
                    let old = idle
                        .sessions
                        .iter()
                        .take_while(|(_, at)| is_old(*at))
                        .count();
                    let closed: Vec<_> = idle.sessions.drain(..old).collect();
                    idle.is_watched = !idle.sessions.is_empty();
                    let goes_on = idle.is_watched;
                    drop(idle);
                    drop(closed);
                    if !goes_on {
                        return;
                    }
                }
            });
        }
    }
}

/// Abandons a session unless its call has ended, also where the call itself is dropped.
struct Abandon<'p>(Option<Session>, &'p Target);

impl Abandon<'_> {
    fn take(mut self) -> Session {
        self.0.take().expect("it is there until the end")
    }
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            self.1.runtime.spawn(session.abandon());
        }
    }
}
