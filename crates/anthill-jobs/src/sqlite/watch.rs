//! Looks for what other processes did to the file, for the listeners of this process (B11). One thread for each store, which
//! runs as long as a listener wants to know.
//!
//! - WA1. `polls` has an entry for each subscription that wants to hear of other processes. The thread runs while there is one
//!   and the store lives; who adds the first one starts it, under the lock under which it decides to end.
//! - WA2. A look that fails is told like a change: whoever claims then gets the error.
//! - WA3. A queue's listeners hear of a commit only if it changed the queue's row, as each change does after which there may
//!   be something to claim: it counts itself there ([`Tx::store`](super::tx::Tx::store)). A heartbeat, progress, an
//!   announcement of a consumer, what happens in another queue, or in the application's own tables, wakes nobody.

use super::commit::QueueRef;
use super::store::Store;
use super::tx::QueueRow;
use crate::broker::{Change, Listener, Listeners, Subscription};
use crate::error::QueueError;
use crate::sync::{deadline_after, lock, spawn, wait_until};
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

/// The part of a store that the thread may have when the store is gone.
#[derive(Default)]
pub(super) struct Watch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    polls: Vec<Duration>,
    is_running: bool,
    is_closed: bool,
}

impl Watch {
    /// The store is gone.
    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for the next look; false ends the thread.
    fn wait(&self) -> bool {
        let mut state = lock(&self.state);
        let mut deadline = None;
        let mut waits_for = None;
        loop {
            let shortest = state.polls.iter().min().copied();
            let Some(poll) = shortest.filter(|_| !state.is_closed) else {
                state.is_running = false;
                return false;
            };
            if waits_for != Some(poll) {
                waits_for = Some(poll);
                deadline = deadline_after(poll);
            }
            if crate::sync::is_past(deadline) {
                return true;
            }
            state = wait_until(&self.changed, state, deadline);
        }
    }
}

/// Adds a listener.
pub(super) fn subscribe(
    store: &Arc<Store>,
    listeners: &Listeners,
    listener: Listener,
) -> Result<Subscription, QueueError> {
    let poll = listener.poll();
    let subscription = listeners.add(listener);
    if poll == Duration::MAX {
        return Ok(subscription);
    }
    let watch = Arc::clone(store.watch());
    let mut state = lock(&watch.state);
    if !state.is_running {
        let watched = Arc::downgrade(store);
        let own = Arc::clone(&watch);
        spawn("anthill-watch".to_owned(), move || run(&own, &watched))
            .map_err(QueueError::Thread)?;
        state.is_running = true;
    }
    state.polls.push(poll);
    drop(state);
    watch.changed.notify_all();
    Ok(subscription.and_then(move || {
        let mut state = lock(&watch.state);
        if let Some(at) = state.polls.iter().position(|&other| other == poll) {
            state.polls.swap_remove(at);
        }
        drop(state);
        watch.changed.notify_all();
    }))
}

/// What the last look has found.
#[derive(Default)]
pub(super) struct Seen {
    /// Counts the commits of all connections but the one that looks.
    version: i64,
    rows: HashMap<i64, QueueRow>,
}

impl Seen {
    /// The listeners of the queues whose rows have changed since the last look. The first look at a queue finds a change, as
    /// nothing is known of the time since the subscription.
    pub(super) fn look(
        &mut self,
        reader: &Connection,
        queues: Vec<QueueRef>,
    ) -> rusqlite::Result<Vec<Listeners>> {
        // Before the rows: a commit in between is found again by the next look.
        let mut version = reader.prepare_cached("PRAGMA data_version")?;
        let version = version.query_row([], |row| row.get(0))?;
        let mut changed = Vec::new();
        if version != self.version {
            for QueueRef { number, listeners } in queues {
                let row = QueueRow::load(reader, number)?;
                if self.rows.get(&number) != Some(&row) {
                    self.rows.insert(number, row);
                    changed.push(listeners);
                }
            }
        }
        self.version = version;
        Ok(changed)
    }
}

fn run(watch: &Watch, store: &Weak<Store>) {
    let mut seen = Seen::default();
    while watch.wait() {
        let Some(store) = store.upgrade() else {
            lock(&watch.state).is_running = false;
            return;
        };
        let changed = store.changed(&mut seen);
        let changed = changed.unwrap_or_else(|_| store.all_listeners());
        drop(store);
        for listeners in changed {
            listeners.notify(Change::Elsewhere);
        }
    }
}
