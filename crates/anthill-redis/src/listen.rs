//! Hears what other processes did to a queue, for the listeners of this process (B11): by messages that the scripts publish, and by a
//! slow poll behind them.
//!
//! - EA1. A thread runs while a subscription wants to hear of other processes, on a connection of its own. It ends at most
//!   [`SLICE`] after the last of them.
//! - EA2. After each connect everybody is told: what happened before may not have been heard. And then each time that the poll
//!   is over (that perhaps something happened, if messages come): every [`SLOW`] if messages come, and otherwise as often as the
//!   listener wants that wants it most often, but no more often than [`FAST`].
//! - EA3. Whether messages come is found out by one to itself, now and then, which another connection publishes.
//! - EA4. A script publishes one message and then no other until somebody who was told *arms* the queue again. So after each message
//!   the thread does, [`REST`] later: a burst is one message. If there was more in between, the script publishes again.

use crate::call::Again;
use crate::connection::Connection;
use crate::reply;
use crate::scripts::Script;
use crate::store::{QueueState, Store, args};
use crate::sync::lock;
use anthill_jobs::QueueError;
use anthill_jobs::broker::{Change, Subscription};
use redis::RedisError;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// The poll where messages come.
const SLOW: Duration = Duration::from_secs(5);

/// The shortest poll where they do not.
const FAST: Duration = Duration::from_millis(200);

/// How long a connect may take, and a message to itself.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is tried whether messages come.
const TEST: Duration = Duration::from_secs(30);

/// The time between a message and the next one.
const REST: Duration = Duration::from_millis(5);

/// How long the thread waits for messages at once.
const SLICE: Duration = Duration::from_secs(1);

/// The first and the longest pause before another attempt to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

#[derive(Default)]
pub(crate) struct Listen {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A subscription was added, or ended.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    polls: Vec<Duration>,
    is_running: bool,
}

impl Listen {
    /// Adds a subscription that wants to hear of other processes so often.
    pub(crate) fn add(
        &self,
        store: &Arc<Store>,
        queue: &Arc<QueueState>,
        poll: Duration,
    ) -> Result<Subscription, QueueError> {
        let mut state = lock(&self.shared.state);
        if !state.is_running {
            let ear = Ear {
                store: Arc::downgrade(store),
                queue: Arc::downgrade(queue),
                shared: Arc::clone(&self.shared),
                test: format!("test {:016x}", fastrand::u64(..)),
            };
            thread::Builder::new()
                .name("anthill-listen".to_owned())
                .spawn(move || ear.run())
                .map_err(QueueError::Thread)?;
            state.is_running = true;
        }
        state.polls.push(poll);
        drop(state);
        self.shared.changed.notify_all();
        let shared = Arc::clone(&self.shared);
        Ok(Subscription::new(move || {
            let mut state = lock(&shared.state);
            if let Some(at) = state.polls.iter().position(|&other| other == poll) {
                state.polls.swap_remove(at);
            }
            drop(state);
            shared.changed.notify_all();
        }))
    }
}

impl Shared {
    /// How long until the next look. `None` if nobody wants to hear: the thread that asks has to end then.
    fn poll_or_end(&self, is_heard: bool) -> Option<Duration> {
        let mut state = lock(&self.state);
        let shortest = state.polls.iter().min().copied();
        if shortest.is_none() {
            state.is_running = false;
        }
        shortest.map(|poll| poll.max(if is_heard { SLOW } else { FAST }))
    }

    fn is_wanted(&self) -> bool {
        !lock(&self.state).polls.is_empty()
    }

    /// Waits, also for a subscription that is added or ends.
    fn wait(&self, time: Duration) {
        let state = lock(&self.state);
        if !state.polls.is_empty() {
            let waited = self.changed.wait_timeout(state, time);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Why a connection is not heard on any more.
enum End {
    Lost,
    /// Nobody wants to hear any more.
    Over,
}

/// The thread.
struct Ear {
    store: Weak<Store>,
    queue: Weak<QueueState>,
    shared: Arc<Shared>,
    /// The message to itself.
    test: String,
}

impl Ear {
    fn run(self) {
        let mut pause = BACKOFF.0;
        let mut told = Instant::now();
        while let Some(poll) = self.shared.poll_or_end(false) {
            match self.connect() {
                Ok(Some(connection)) => {
                    let began = Instant::now();
                    match self.hear(connection) {
                        End::Over => return,
                        End::Lost if began.elapsed() > BACKOFF.1 => pause = BACKOFF.0,
                        End::Lost => {}
                    }
                }
                Ok(None) => return self.end(),
                Err(error) => log::debug!("a queue's messages cannot be heard: {error}"),
            }
            // Not all at once, when a server is back.
            let part = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            pause = (pause * 2).min(BACKOFF.1);
            let until = Instant::now() + part;
            loop {
                let now = Instant::now();
                if now >= told + poll {
                    told = now;
                    self.tell(Change::Elsewhere);
                }
                if now >= until || !self.shared.is_wanted() {
                    break;
                }
                let next = until.min(told + poll);
                self.shared.wait(
                    next.saturating_duration_since(now)
                        .max(Duration::from_millis(1)),
                );
            }
        }
    }

    /// The store or the queue is gone, and its subscriptions with it.
    fn end(&self) {
        lock(&self.shared.state).is_running = false;
    }

    fn tell(&self, change: Change) {
        if let Some(queue) = self.queue.upgrade() {
            queue.tell(change);
        }
    }

    fn connect(&self) -> Result<Option<Connection>, QueueError> {
        let (Some(store), Some(queue)) = (self.store.upgrade(), self.queue.upgrade()) else {
            return Ok(None);
        };
        let node = queue.route.node();
        let connection = Connection::open(&store.login, &node, Instant::now() + TIMEOUT);
        if connection.is_err() {
            queue.route.failed(&node);
        }
        connection.map(Some)
    }

    /// Hears on a connection, until it is lost or nobody wants to hear.
    fn hear(&self, connection: Connection) -> End {
        let mut client = connection.into_client();
        let mut messages = client.as_pubsub();
        let Some(queue) = self.queue.upgrade() else {
            self.end();
            return End::Over;
        };
        let channel = queue.keys.channel().to_owned();
        drop(queue);
        let began = messages
            .set_read_timeout(Some(TIMEOUT))
            .and_then(|()| messages.subscribe(&channel));
        if let Err(error) = began {
            log::debug!("a queue's messages cannot be heard: {error}");
            return End::Lost;
        }
        self.look_again();
        self.arm();
        self.tell(Change::Elsewhere);
        let mut is_heard = false;
        let mut polled = Instant::now();
        let mut test_at = polled;
        let mut answer_by: Option<Instant> = None;
        let mut arm_at: Option<Instant> = None;
        loop {
            let Some(poll) = self.shared.poll_or_end(is_heard) else {
                return End::Over;
            };
            let now = Instant::now();
            let times = [
                answer_by.or(Some(test_at)),
                Some(polled + poll),
                arm_at,
                Some(now + SLICE),
            ];
            let next = times.into_iter().flatten().min().unwrap_or(now);
            let wait = next
                .saturating_duration_since(now)
                .max(Duration::from_micros(100));
            match wait_for(&mut messages, wait) {
                Err(_) => return End::Lost,
                Ok(None) => {}
                Ok(Some(who)) if who == self.test => {
                    is_heard = true;
                    answer_by = None;
                }
                Ok(Some(who)) => {
                    if !self.is_own(&who) {
                        self.tell(Change::Elsewhere);
                    }
                    arm_at = arm_at.or(Some(Instant::now() + REST));
                }
            }
            let now = Instant::now();
            if arm_at.is_some_and(|at| at <= now) {
                arm_at = None;
                self.arm();
            }
            if polled + poll <= now {
                polled = now;
                self.tell(if is_heard {
                    Change::Perhaps
                } else {
                    Change::Elsewhere
                });
            }
            if answer_by.is_some_and(|by| by <= now) {
                // Half-open, or a proxy between that lets nothing through.
                return End::Lost;
            }
            if test_at <= now {
                test_at = now + TEST;
                self.arm();
                // Who may not publish is not heard by himself, and polls.
                answer_by = self.publish_test(&channel).then_some(now + TIMEOUT);
            }
        }
    }

    /// Whether a change is of this store.
    fn is_own(&self, who: &str) -> bool {
        self.store.upgrade().is_some_and(|store| store.who == who)
    }

    fn arm(&self) {
        self.with(|store, queue| {
            // If it fails the queue is armed by the next try, and until then the poll finds what there is.
            let armed = store.call(queue, Script::Arm, &args(store), Again::Once);
            let identity = armed.and_then(reply::bytes);
            if identity.is_ok_and(|identity| !queue.restore.is_it(&identity)) {
                // Another process has made it (AN3).
                let _ = queue.restore.make_anew(store, queue);
            }
        });
    }

    /// Whether it is still the same queue, after a connection was lost.
    fn look_again(&self) {
        self.with(|store, queue| {
            let _ = queue.restore.make_anew(store, queue);
        });
    }

    /// Returns whether it was published.
    fn publish_test(&self, channel: &str) -> bool {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(&self.test);
        let mut is_published = false;
        self.with(|store, queue| is_published = store.command(queue, &command).is_ok());
        is_published
    }

    fn with(&self, with: impl FnOnce(&Store, &QueueState)) {
        if let (Some(store), Some(queue)) = (self.store.upgrade(), self.queue.upgrade()) {
            with(&store, &queue);
        }
    }
}

/// The text of the next message, if one comes in time.
fn wait_for(
    messages: &mut redis::PubSub<'_>,
    time: Duration,
) -> Result<Option<String>, RedisError> {
    messages.set_read_timeout(Some(time))?;
    match messages.get_message() {
        Ok(message) => Ok(Some(
            String::from_utf8_lossy(message.get_payload_bytes()).into_owned(),
        )),
        Err(error) if error.is_timeout() => Ok(None),
        Err(error) => Err(error),
    }
}
