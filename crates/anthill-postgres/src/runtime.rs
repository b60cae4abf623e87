//! The one thread of a process that drives the connections of async calls, of heartbeats, and of what listens; and those of blocking
//! calls that are made inside an async runtime of the program's.
//!
//! - RT1. There is at most one, started by the first broker. It ends when the last [`Runtime`] is dropped.
//! - RT2. No user code runs on it: it never waits for anything but sockets and timers. So a call that is made inside an async
//!   task of another runtime blocks that task's thread, and nothing else.
//! - RT3. Whoever waits for it has a deadline, at which the wait ends whatever the thread does.

use crate::errors::unavailable;
use crate::sync::lock;
use anthill_jobs::QueueError;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A call ends by its own deadline; this much later its thread stops waiting for that.
const GRACE: Duration = Duration::from_secs(1);

/// How long the thread may still say farewell to servers.
const FAREWELL: Duration = Duration::from_millis(500);

static SHARED: Mutex<Weak<Runtime>> = Mutex::new(Weak::new());

pub(crate) struct Runtime {
    handle: Handle,
    /// Ends the thread when it is dropped.
    _end: oneshot::Sender<()>,
    connections: Arc<AtomicUsize>,
}

/// Counts an open connection.
pub(crate) struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Runtime {
    /// Returns the runtime of the process, and starts it if there is none.
    pub(crate) fn shared() -> Result<Arc<Runtime>, QueueError> {
        let mut shared = lock(&SHARED);
        if let Some(runtime) = shared.upgrade() {
            return Ok(runtime);
        }
        let runtime = Arc::new(Runtime::start()?);
        *shared = Arc::downgrade(&runtime);
        Ok(runtime)
    }

    fn start() -> Result<Runtime, QueueError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(QueueError::Thread)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let connections = Arc::new(AtomicUsize::new(0));
        let open = Arc::clone(&connections);
        let run = move || {
            runtime.block_on(async move {
                let _ = ended.await;
                let until = tokio::time::Instant::now() + FAREWELL;
                while open.load(Ordering::SeqCst) > 0 && tokio::time::Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            runtime.shutdown_background();
        };
        thread::Builder::new()
            .name("anthill-postgres".to_owned())
            .spawn(run)
            .map_err(QueueError::Thread)?;
        Ok(Runtime {
            handle,
            _end: end,
            connections,
        })
    }

    pub(crate) fn count_connection(&self) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::SeqCst);
        OpenConnection(Arc::clone(&self.connections))
    }

    /// Runs a future on the thread.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(future)
    }

    /// Runs a call on the thread, and waits for its end, or for its deadline.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<T, QueueError>> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (sender, receiver) = sync_channel(1);
        let task = self.spawn(async move {
            let _ = sender.send(call.await);
        });
        let deadline = Instant::now() + timeout + GRACE;
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                task.abort();
                Err(unavailable("the call has not ended in time"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(unavailable("the call was dropped")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_shared_and_ends_with_the_last_one() {
        let (one, other) = (Runtime::shared().unwrap(), Runtime::shared().unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        let (sender, ended) = sync_channel::<()>(1);
        one.spawn(async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        let answer = one.wait(Duration::from_secs(5), async { Ok(7) });
        assert_eq!(answer.unwrap(), 7);
        drop(one);
        drop(other);
        // The task is dropped when the thread ends.
        assert!(ended.recv().is_err());
    }

    #[test]
    fn a_call_that_does_not_end_is_left_at_its_deadline() {
        let runtime = Runtime::shared().unwrap();
        let stuck = std::future::pending::<Result<(), QueueError>>();
        let answer = runtime.wait(Duration::ZERO, stuck);
        assert!(matches!(answer, Err(QueueError::Unavailable(_))));
    }
}
