//! How long a connection waits for another process: until a moment that its thread set before.
//!
//! SQLite's own waiting sleeps up to a tenth of a second at a time; a process that commits without a pause would
//! starve it, for it leaves the file alone only for microseconds.

use rusqlite::Connection;
use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// Then it is [`Busy`](crate::QueueError::Busy).
pub(super) const BUSY: Duration = Duration::from_secs(5);

thread_local! {
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets a connection wait so.
pub(super) fn teach(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait))
}

/// From now on this thread waits until then.
pub(super) fn until(end: Instant) {
    UNTIL.set(Some(end));
}

/// From now on this thread waits as long as one may.
pub(super) fn begin() {
    until(Instant::now() + BUSY);
}

pub(super) fn is_left() -> bool {
    UNTIL.get().is_some_and(|end| Instant::now() < end)
}

fn wait(tries: i32) -> bool {
    let is_left = is_left();
    if is_left {
        thread::sleep(Duration::from_micros(if tries < 10 { 100 } else { 1_000 }));
    }
    is_left
}
