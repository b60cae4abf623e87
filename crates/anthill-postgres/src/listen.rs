//! Hears what other processes did, for the listeners of this process (B11): by LISTEN on a connection of its own, and by a slow
//! poll behind that.
//!
//! - LI1. The task runs while a subscription wants to hear of other processes. Listeners are called by a thread, not by the
//!   task, for they may call the broker.
//! - LI2. After each connect everybody is told: what happened before may not have been heard. And then each time that the poll
//!   is over (that perhaps something happened, if notifications come): every [`SLOW`] if notifications come, and otherwise as often as the listener wants that wants it most
//!   often, but no more often than [`FAST`].
//! - LI3. Whether notifications come is found out by one to itself, now and then, which another connection sends: behind a pooler
//!   that gives each transaction another session of the server that may accept the LISTEN, and nobody hear what it is told.

use crate::notify::Notifier;
use crate::session::{Notifications, Session, Target};
use crate::store::Store;
use crate::sync::lock;
use anthill_jobs::QueueError;
use anthill_jobs::broker::{Change, Subscription};
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// The poll where notifications come.
const SLOW: Duration = Duration::from_secs(5);

/// The shortest poll where they do not.
const FAST: Duration = Duration::from_millis(200);

/// How long a connect may take, and a notification to itself.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is tried whether notifications come.
const TEST: Duration = Duration::from_secs(30);

/// The first and the longest pause before another attempt to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Whom to tell.
enum Heard {
    Queue(i32),
    All,
    /// Nothing: the poll is over.
    Nothing,
}

#[derive(Default)]
pub(crate) struct Listen {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    polls: Vec<Duration>,
    is_closed: bool,
    /// Wakes the task, if it runs.
    task: Option<Arc<Notify>>,
}

impl Listen {
    /// Adds a subscription that wants to hear of other processes so often.
    pub(crate) fn add(
        &self,
        store: &Arc<Store>,
        channel: &str,
        poll: Duration,
    ) -> Result<Subscription, QueueError> {
        let mut state = lock(&self.state);
        if state.task.is_none() {
            let changed = Arc::new(Notify::new());
            let task = Task {
                target: store.target.clone(),
                state: Arc::clone(&self.state),
                changed: Arc::clone(&changed),
                channel: channel.to_owned(),
                notifier: Arc::clone(&store.notifier),
                teller: start_teller(store)?,
            };
            store.runtime.spawn(task.run());
            state.task = Some(changed);
        }
        state.polls.push(poll);
        state.wake();
        drop(state);
        let state = Arc::clone(&self.state);
        Ok(Subscription::new(move || {
            let mut state = lock(&state);
            if let Some(at) = state.polls.iter().position(|&other| other == poll) {
                state.polls.swap_remove(at);
            }
            state.wake();
        }))
    }

    /// The store is gone.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.wake();
    }
}

impl State {
    fn wake(&self) {
        if let Some(task) = &self.task {
            task.notify_one();
        }
    }
}

/// Starts the thread that calls the listeners. It ends with the task.
fn start_teller(store: &Arc<Store>) -> Result<Sender<Heard>, QueueError> {
    let (sender, receiver) = channel();
    let store = Arc::downgrade(store);
    thread::Builder::new()
        .name("anthill-listen".to_owned())
        .spawn(move || tell(&store, &receiver))
        .map_err(QueueError::Thread)?;
    Ok(sender)
}

fn tell(store: &Weak<Store>, heard: &Receiver<Heard>) {
    while let Ok(first) = heard.recv() {
        let (mut numbers, mut all, mut perhaps) = (BTreeSet::new(), false, false);
        for one in [first].into_iter().chain(heard.try_iter()) {
            match one {
                Heard::Queue(number) => drop(numbers.insert(number)),
                Heard::All => all = true,
                Heard::Nothing => perhaps = true,
            }
        }
        let Some(store) = store.upgrade() else { return };
        let queues = store.queues();
        drop(store);
        for queue in queues {
            if all || numbers.contains(&queue.number) {
                queue.tell(Change::Elsewhere);
            } else if perhaps {
                queue.tell(Change::Perhaps);
            }
        }
    }
}

/// Why a connection is not heard on any more.
enum End {
    Lost,
    /// The server does not let it listen.
    Refused,
    Over,
}

struct Task {
    target: Target,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    channel: String,
    notifier: Arc<Notifier>,
    teller: Sender<Heard>,
}

impl Task {
    async fn run(self) {
        let mut pause = BACKOFF.0;
        while self.is_wanted() {
            let end = match self.connect().await {
                Err(_) => End::Lost,
                Ok((session, notifications)) => {
                    pause = BACKOFF.0;
                    self.tell(Heard::All);
                    self.hear(session, notifications).await
                }
            };
            match end {
                End::Over => {}
                End::Refused => self.poll().await,
                End::Lost => {
                    // Not all at once, when a server is back.
                    let part = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                    tokio::select! {
                        () = sleep(part) => {}
                        () = self.changed.notified() => {}
                    }
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Whether anybody wants to hear; otherwise the task is over.
    fn is_wanted(&self) -> bool {
        let mut state = lock(&self.state);
        let is_wanted = !state.polls.is_empty() && !state.is_closed;
        if !is_wanted {
            state.task = None;
        }
        is_wanted
    }

    /// How long until the next look; `None` if nobody wants to hear.
    fn poll_time(&self, is_notified: bool) -> Option<Duration> {
        let state = lock(&self.state);
        let shortest = state.polls.iter().min().copied();
        let shortest = shortest.filter(|_| !state.is_closed);
        shortest.map(|poll| poll.max(if is_notified { SLOW } else { FAST }))
    }

    fn tell(&self, heard: Heard) {
        // The thread ends only with this.
        let _ = self.teller.send(heard);
    }

    async fn connect(&self) -> Result<(Session, Notifications), QueueError> {
        Session::open_to_listen(&self.target, Instant::now() + TIMEOUT).await
    }

    /// Hears on a connection, until it is lost or nobody wants to hear.
    async fn hear(&self, session: Session, mut notifications: Notifications) -> End {
        let listen = format!("LISTEN \"{}\"", self.channel);
        let began = timeout_at(Instant::now() + TIMEOUT, session.execute(&listen)).await;
        match began {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.as_db_error().is_some() => return End::Refused,
            _ => return End::Lost,
        }
        let mut is_notified = false;
        let mut polled = Instant::now();
        let mut test_at = polled;
        let mut answer_by: Option<Instant> = None;
        loop {
            let Some(poll) = self.poll_time(is_notified) else {
                return End::Over;
            };
            let wake = answer_by.unwrap_or(test_at).min(polled + poll);
            tokio::select! {
                heard = notifications.recv() => {
                    let Some(heard) = heard else { return End::Lost };
                    let (number, sender) = parse(heard.payload());
                    if sender == self.notifier.sender() {
                        is_notified = true;
                        answer_by = None;
                    } else if let Some(number) = number {
                        self.tell(Heard::Queue(number));
                    }
                }
                () = sleep_until(wake) => {}
                () = self.changed.notified() => {}
            }
            let now = Instant::now();
            if polled + poll <= now {
                polled = now;
                self.tell(if is_notified {
                    Heard::Nothing
                } else {
                    Heard::All
                });
            }
            if answer_by.is_some_and(|by| by <= now) {
                answer_by = None;
                is_notified = false;
                if !self.is_alive(&session).await {
                    return End::Lost;
                }
            }
            if test_at <= now {
                test_at = now + TEST;
                answer_by = Some(now + TIMEOUT);
                // A queue that does not exist.
                self.notifier.notify(&self.channel, 0);
            }
        }
    }

    async fn is_alive(&self, session: &Session) -> bool {
        let answer = timeout_at(Instant::now() + TIMEOUT, session.execute("")).await;
        matches!(answer, Ok(Ok(())))
    }

    /// Looks now and then, without notifications.
    async fn poll(&self) {
        while let Some(poll) = self.poll_time(false) {
            self.tell(Heard::All);
            tokio::select! {
                () = sleep(poll) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// The queue of a notification, and who sent it; nobody, if it was sent within a transaction of a user's.
fn parse(payload: &str) -> (Option<i32>, &str) {
    let (number, sender) = payload.split_once(' ').unwrap_or((payload, ""));
    (number.parse().ok(), sender)
}
