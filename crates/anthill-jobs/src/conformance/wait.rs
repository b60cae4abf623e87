//! Waiting for what must come, with a deadline: a check that hangs fails with a message.

use std::fmt::Display;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Far beyond what a loaded machine needs.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Polls `condition` until it holds; panics with `what` if it does not within `limit`.
#[track_caller]
pub(super) fn eventually(limit: Duration, what: impl Display, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not so within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `body` on a thread of its own, and panics with `what` if it has not returned within `limit`; the thread is left
/// behind then. A panic of `body` goes on here.
#[track_caller]
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    what: impl Display,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, result) = channel();
    let name = thread::current().name().unwrap_or("check").to_owned();
    let spawned = thread::Builder::new().name(name).spawn(move || {
        let value = body();
        let _ = done.send(());
        value
    });
    let thread = spawned.unwrap_or_else(|error| panic!("no thread for {what}: {error}"));
    match result.recv_timeout(limit) {
        // Disconnected: it panicked, and the join has with what.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        }
        Err(RecvTimeoutError::Timeout) => panic!("still not done after {limit:?}: {what}"),
    }
}

/// Receives the next message; panics with `what` if none comes.
#[track_caller]
pub(super) fn receive<T>(what: impl Display, from: &Receiver<T>) -> T {
    match from.recv_timeout(DEADLINE) {
        Ok(value) => value,
        Err(error) => panic!("no message ({error}): {what}"),
    }
}
