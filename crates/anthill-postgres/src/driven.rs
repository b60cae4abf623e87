//! A connection that the thread of the call drives itself: a blocking call waits for its socket, and for no other thread.
//!
//! - DR1. It is driven while a call is made, and only then. What the server said in the meantime is heard before the next one: a
//!   connection that the server has closed is not used.
//! - DR2. It is not used inside an async runtime, which does not let a thread drive another one.
//! - DR3. A call ends at its deadline. Its connection is then closed, and the server is asked to end the call.

use crate::errors::{queue_error, unavailable};
use crate::runtime::OpenConnection;
use crate::session::{Answer, Param, Target, cancel, connect, query};
use anthill_jobs::QueueError;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Waker};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Client;

/// Whether this thread may drive connections (DR2).
pub(crate) fn may_drive() -> bool {
    Handle::try_current().is_err()
}

pub(crate) struct Driven {
    /// There until the end.
    client: Option<Client>,
    runtime: Option<Runtime>,
    driver: Driver,
}

/// Moves what is sent and received; ends when the connection is closed.
struct Driver {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_closed: bool,
    _open: OpenConnection,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if !self.is_closed {
            self.is_closed = self.future.as_mut().poll(cx).is_ready();
        }
    }

    /// Drives the connection until something else is ready.
    async fn until<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        poll_fn(|cx| {
            self.poll(cx);
            other.as_mut().poll(cx)
        })
        .await
    }
}

impl Driven {
    pub(crate) fn open(target: &Target, deadline: Instant) -> Result<Driven, QueueError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("anthill-resolve")
            .build()
            .map_err(QueueError::Thread)?;
        let open = target.runtime.count_connection();
        // A timer is made inside the runtime.
        let connect = async { timeout_at(deadline, connect(target, deadline, None)).await };
        let connected = runtime.block_on(connect);
        let connected = connected
            .map_err(|_| unavailable("the server did not answer to a new connection in time"));
        match connected.and_then(|connected| connected.map_err(queue_error)) {
            Ok((client, future)) => Ok(Driven {
                client: Some(client),
                runtime: Some(runtime),
                driver: Driver {
                    future,
                    is_closed: false,
                    _open: open,
                },
            }),
            Err(error) => {
                // It may still look for the address of the server.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    fn parts(&mut self) -> (&Runtime, &Client, &mut Driver) {
        let (runtime, client) = (self.runtime.as_ref(), self.client.as_ref());
        let there = "it is there until the end";
        (
            runtime.expect(there),
            client.expect(there),
            &mut self.driver,
        )
    }

    /// Hears what the server has said in the meantime, and tells whether the connection is closed (DR1).
    pub(crate) fn is_closed(&mut self) -> bool {
        let (runtime, _, driver) = self.parts();
        // The runtime looks at the socket before it goes on.
        runtime.block_on(driver.until(tokio::task::yield_now()));
        driver.is_closed
    }

    /// Calls a function of the schema; `None` if it did not end in time.
    pub(crate) fn query(
        &mut self,
        deadline: Instant,
        sql: &str,
        params: &[Param],
    ) -> Option<Answer> {
        let (runtime, client, driver) = self.parts();
        let call = driver.until(query(client, sql, params));
        runtime
            .block_on(async { timeout_at(deadline, call).await })
            .ok()
    }

    /// Closes a connection on which a call has not ended (DR3).
    pub(crate) fn abandon(mut self, target: &Target) {
        let (_, client, _) = self.parts();
        target
            .runtime
            .spawn(cancel(client.cancel_token(), target.tls.clone()));
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        {
            // Says farewell, as far as that needs no waiting.
            let _inside = runtime.enter();
            drop(self.client.take());
            self.driver.poll(&mut Context::from_waker(Waker::noop()));
            self.driver.future = Box::pin(std::future::ready(()));
        }
        // Also inside an async runtime, where none may wait for its threads.
        runtime.shutdown_background();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_a_runtime_no_thread_drives_another_one() {
        assert!(may_drive());
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { assert!(!may_drive()) });
        let _inside = runtime.enter();
        assert!(!may_drive());
    }
}
