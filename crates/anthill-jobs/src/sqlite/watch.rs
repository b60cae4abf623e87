//! Looks for what other processes did to the file, for the listeners of this process (B11). One thread for each store, which
//! runs as long as a listener wants to know.
//!
//! - WA1. `polls` has an entry for each subscription that wants to hear of other processes. The thread runs while there is one
//!   and the store lives; who adds the first one starts it, under the lock under which it decides to end.
//! - WA2. A look that fails is told like a change: whoever claims then gets the error.
//! - WA3. A queue's listeners hear of a commit only if it changed the queue's row, as each change does after which there may
//!   be something to claim: it counts itself there ([`Tx::store`](super::tx::Tx::store)). A heartbeat, progress, an
//!   announcement of a consumer, what happens in another queue, or in the application's own tables, wakes nobody.
//! - WA4. Where the system tells of writes ([`notice`](super::notice)) the thread looks at once when there was one, again and
//!   again until it can have become a commit ([`Pace`]), and otherwise each [`SLOW`], or as the listener wants if that is
//!   less often.

use super::commit::QueueRef;
use super::file;
use super::notice::{Heard, Notice};
use super::store::Store;
use super::tx::QueueRow;
use crate::broker::{Change, Listener, Listeners, Subscription};
use crate::error::QueueError;
use crate::sync::{lock, spawn, wait_until};
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

/// How often to look where the system tells of writes.
const SLOW: Duration = Duration::from_secs(3);

/// For how long a write may become a commit.
const LINGER: Duration = Duration::from_secs(2);

/// The first pause after a look that a write has caused; each one is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(1);

/// The first pause where writes go on and on.
const STEADY: Duration = Duration::from_millis(20);

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
    /// The number of the run to which the system tells of writes. (What an earlier run started may end after the next one has
    /// begun.)
    told: Option<u64>,
    runs: u64,
    /// It has, since the last look.
    is_written: bool,
}

/// When to look.
struct Pace {
    looked_at: Option<Instant>,
    written_at: Option<Instant>,
    pause: Duration,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            looked_at: None,
            written_at: None,
            pause: FIRST,
        }
    }

    fn note_write(&mut self, now: Instant) {
        let since = self.looked_at.map(|at| now.saturating_duration_since(at));
        self.pause = if since.is_some_and(|since| since < STEADY * 2) {
            self.pause.min(STEADY)
        } else {
            // At once.
            self.looked_at = None;
            FIRST
        };
        self.written_at = Some(now);
    }

    fn lingers(&self, now: Instant) -> bool {
        let since = self.written_at.map(|at| now.saturating_duration_since(at));
        since.is_some_and(|since| since < LINGER)
    }

    /// When to look next; `None` is never.
    fn next(&self, poll: Duration, is_told: bool, now: Instant) -> Option<Instant> {
        let pause = if !is_told {
            poll
        } else if self.lingers(now) {
            self.pause.min(poll)
        } else {
            poll.max(SLOW)
        };
        match self.looked_at {
            None => Some(now),
            Some(at) => at.checked_add(pause),
        }
    }

    fn note_look(&mut self, now: Instant) {
        if self.looked_at.replace(now).is_some() {
            self.pause = self.pause.saturating_mul(2);
        }
    }
}

impl Watch {
    /// The store is gone.
    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for the next look; false ends the thread.
    fn wait(&self, pace: &mut Pace) -> bool {
        let mut state = lock(&self.state);
        loop {
            let shortest = state.polls.iter().min().copied();
            let Some(poll) = shortest.filter(|_| !state.is_closed) else {
                state.is_running = false;
                return false;
            };
            let now = Instant::now();
            if std::mem::take(&mut state.is_written) {
                pace.note_write(now);
            }
            let next = pace.next(poll, state.told.is_some(), now);
            if next.is_some_and(|next| next <= now) {
                pace.note_look(now);
                return true;
            }
            state = wait_until(&self.changed, state, next);
        }
    }

    /// Has the system tell of writes to the log, if it can.
    fn listen(self: &Arc<Watch>, store: &Weak<Store>) -> Option<Notice> {
        let log = file::log(store.upgrade()?.path());
        let own = Arc::clone(self);
        let run = {
            let mut state = lock(&self.state);
            state.runs += 1;
            state.told = Some(state.runs);
            state.runs
        };
        let notice = Notice::start(&log, move |heard| {
            let mut state = lock(&own.state);
            if heard == Heard::Over && state.told == Some(run) {
                state.told = None;
            }
            state.is_written = true;
            drop(state);
            own.changed.notify_all();
        });
        if notice.is_none() {
            lock(&self.state).told = None;
        }
        notice
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

fn run(watch: &Arc<Watch>, store: &Weak<Store>) {
    let mut seen = Seen::default();
    let mut pace = Pace::new();
    let _notice = watch.listen(store);
    while watch.wait(&mut pace) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(200);

    /// The looks until the time is over, in milliseconds.
    fn looks(pace: &mut Pace, is_told: bool, from: Instant, until: Duration) -> Vec<u128> {
        let mut now = from;
        let mut looks = Vec::new();
        while let Some(next) = pace.next(POLL, is_told, now) {
            now = now.max(next);
            if now > from + until {
                break;
            }
            pace.note_look(now);
            looks.push(now.duration_since(from).as_millis());
        }
        looks
    }

    #[test]
    fn a_write_is_looked_at_until_it_can_be_a_commit() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        assert_eq!(looks(&mut pace, true, start, SLOW), [0, 3_000]);
        let later = start + SLOW * 2;
        pace.note_write(later);
        let found = looks(&mut pace, true, later, Duration::from_secs(10));
        assert_eq!(&found[..9], [0, 1, 3, 7, 15, 31, 63, 127, 255]);
        assert!(found.windows(2).all(|two| two[1] - two[0] <= 3_000));
        let while_it_lingers = found.iter().filter(|&&at| at <= 2_000).count();
        assert!((15..20).contains(&while_it_lingers), "{found:?}");
        assert!(found.len() - while_it_lingers <= 3, "{found:?}");
    }

    #[test]
    fn writes_now_and_then_are_looked_at_soon() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        for step in 0..20 {
            let now = start + Duration::from_millis(220) * step;
            pace.note_write(now);
            let found = looks(&mut pace, true, now, Duration::from_millis(219));
            assert!(
                found.iter().filter(|&&at| at <= 25).count() >= 2,
                "{found:?}"
            );
            assert!(found.len() < 10, "{found:?}");
        }
    }

    #[test]
    fn writes_without_end_are_looked_at_now_and_then() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        let mut found = 0;
        for step in 0..100 {
            let now = start + Duration::from_millis(10) * step;
            pace.note_write(now);
            found += looks(&mut pace, true, now, Duration::from_millis(9)).len();
        }
        assert!((40..70).contains(&found), "{found} in a second");
    }

    #[test]
    fn where_nobody_tells_the_listener_says_how_often() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        let found = looks(&mut pace, false, start, Duration::from_secs(1));
        assert_eq!(found, [0, 200, 400, 600, 800, 1_000]);
    }
}
