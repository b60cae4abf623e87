//! The connections of a store: so many at most, each used by one call at a time. A call has a deadline, which includes waiting for
//! a connection and making one. Those of async calls are driven by the runtime's thread, and those of blocking calls by the
//! thread that makes the call.
//!
//! - PO1. A connection is returned only after its call has ended. One whose call failed in the middle, or did not end in time, is
//!   closed, and never used again.
//! - PO2. Heartbeats have connections of their own, so they wait for no other call.

use crate::driven::Driven;
use crate::errors::{is_missing, queue_error, unavailable};
use crate::session::{Param, Session, Target};
use crate::sync::lock;
use anthill_jobs::QueueError;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Row;

/// A connection that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

const ALL_IN_USE: &str = "all connections were in use until the deadline";

pub(crate) struct Pool {
    target: Target,
    permits: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    sessions: Kept<Session>,
    driven: Kept<Driven>,
    /// A task waits to close what is idle.
    is_watched: bool,
}

/// Connections, and when they were used. The one that was used last is the last one.
struct Kept<C>(Vec<(C, Instant)>);

impl<C> Default for Kept<C> {
    fn default() -> Kept<C> {
        Kept(Vec::new())
    }
}

impl<C> Kept<C> {
    fn take(&mut self) -> Option<C> {
        self.0.pop().map(|(connection, _)| connection)
    }

    fn put(&mut self, connection: C) {
        self.0.push((connection, Instant::now()));
    }

    /// Takes those that nobody has used for long.
    fn take_old(&mut self, now: Instant) -> Vec<(C, Instant)> {
        let is_new = |at: Instant| now.saturating_duration_since(at) < IDLE;
        let old = self.0.iter().take_while(|(_, at)| !is_new(*at)).count();
        self.0.drain(..old).collect()
    }
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
            permits: Arc::new(Semaphore::new(most.max(1))),
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

    /// Calls a function of the schema, on a connection that this thread drives.
    pub(crate) fn call_here(
        self: &Arc<Pool>,
        timeout: Duration,
        sql: &str,
        params: &[Param],
    ) -> Result<Vec<Row>, Failure> {
        let deadline = Instant::now() + timeout;
        let _permit = self.permit_here(deadline).map_err(Failure::Other)?;
        let mut driven = self.driven(deadline).map_err(Failure::Other)?;
        let Some(answer) = driven.query(deadline, sql, params) else {
            driven.abandon(&self.target);
            return Err(too_late());
        };
        self.put_back(|idle| idle.driven.put(driven));
        answer.map_err(failure)
    }

    fn permit_here(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, QueueError> {
        let permits = Arc::clone(&self.permits);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            return Ok(permit);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.target.runtime.wait(left, async move {
            let permit = timeout_at(deadline, permits.acquire_owned()).await;
            permit
                .ok()
                .and_then(Result::ok)
                .ok_or_else(|| unavailable(ALL_IN_USE))
        })
    }

    fn driven(&self, deadline: Instant) -> Result<Driven, QueueError> {
        loop {
            let idle = lock(&self.idle).driven.take();
            match idle {
                Some(mut driven) => {
                    if !driven.is_closed() {
                        return Ok(driven);
                    }
                }
                None => return Driven::open(&self.target, deadline),
            }
        }
    }

    /// Uses a connection until the deadline.
    pub(crate) async fn with<T>(
        self: &Arc<Pool>,
        deadline: Instant,
        with: impl AsyncFnOnce(&Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failure> {
        let permit = timeout_at(deadline, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(Failure::Other(unavailable(ALL_IN_USE)));
        };
        let session = self.session(deadline).await.map_err(Failure::Other)?;
        let guard = Abandon(Some(session), &self.target);
        let session = guard.0.as_ref().expect("it is there until the end");
        let ended = timeout_at(deadline, with(session)).await;
        match ended {
            Err(_) => {
                drop(guard);
                Err(too_late())
            }
            Ok(answer) => {
                let session = guard.take();
                if !session.is_closed() {
                    self.put_back(|idle| idle.sessions.put(session));
                }
                answer.map_err(failure)
            }
        }
    }

    async fn session(&self, deadline: Instant) -> Result<Session, QueueError> {
        loop {
            let idle = lock(&self.idle).sessions.take();
            match idle {
                Some(session) if session.is_closed() => {}
                Some(session) => return Ok(session),
                None => return Session::open(&self.target, deadline).await,
            }
        }
    }

    /// Keeps a connection for the next call.
    fn put_back(self: &Arc<Pool>, put: impl FnOnce(&mut Idle)) {
        let mut idle = lock(&self.idle);
        put(&mut idle);
        if !std::mem::replace(&mut idle.is_watched, true) {
            let pool = Arc::downgrade(self);
            self.target.runtime.spawn(async move {
                loop {
                    tokio::time::sleep(IDLE).await;
                    let Some(pool) = pool.upgrade() else { return };
                    let now = Instant::now();
                    let mut idle = lock(&pool.idle);
                    let closed = (idle.sessions.take_old(now), idle.driven.take_old(now));
                    idle.is_watched = !(idle.sessions.0.is_empty() && idle.driven.0.is_empty());
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

fn too_late() -> Failure {
    Failure::Other(unavailable("the server did not answer in time"))
}

fn failure(error: tokio_postgres::Error) -> Failure {
    if is_missing(&error) {
        Failure::Missing(queue_error(error))
    } else {
        Failure::Other(queue_error(error))
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
