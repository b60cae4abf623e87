//! The busy timeout: how long a connection waits for another process, until a deadline that its thread has set.
//!
//! SQLite's own handler sleeps up to a tenth of a second at a time. A process that commits without a pause would starve
//! it, because it releases the file only for microseconds.

use rusqlite::Connection;
use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// After which an operation is [`Busy`](crate::QueueError::Busy).
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Makes a connection wait like this.
pub(super) fn install(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait))
}

/// Sets the deadline of this thread.
pub(super) fn set_deadline(end: Instant) {
    UNTIL.set(Some(end));
}

/// Sets the deadline of this thread to the full timeout from now.
pub(super) fn restart() {
    set_deadline(Instant::now() + TIMEOUT);
}

pub(super) fn has_time_left() -> bool {
    UNTIL.get().is_some_and(|end| Instant::now() < end)
}

fn wait(tries: i32) -> bool {
    let is_left = has_time_left();
    if is_left {
        thread::sleep(Duration::from_micros(if tries < 10 { 100 } else { 1_000 }));
    }
    is_left
}
