//! What the tests of all crates share: waiting for events with a deadline, and counting what runs at once.
//!
//! No helper waits for ever. Each has a deadline far beyond what a loaded machine needs, so that a
//! lost wake-up fails one test with a message and does not hang the suite.

#![expect(
    clippy::missing_panics_doc,
    reason = "a helper panics where what it waits for does not come"
)]
#![expect(
    clippy::new_without_default,
    clippy::len_without_is_empty,
    reason = "tests need neither"
)]

use std::fmt::{Debug, Display};
use std::io::{Read, Write};
use std::ops::Deref;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

/// How long any helper waits before it calls the event lost.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How long a test binary may take in all.
const ALARM: Duration = Duration::from_secs(300);

/// Ends the process if it runs far too long. A test that fails drops its pool, whose drop joins:
/// where the failure was a hang, that would hang as well, and nobody would read the message.
pub fn set_alarm() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        // Where threads are refused there is a parent process that has an alarm.
        let _ = thread::Builder::new().spawn(|| {
            thread::sleep(ALARM);
            // Not by a macro, whose output the harness would capture.
            let _ = std::io::stderr().write_all(b"alarm: a test of this binary hangs\n");
            std::process::abort();
        });
    });
}

/// Polls `condition` until it holds; panics naming `what` if it does not within [`DEADLINE`].
#[track_caller]
pub fn eventually(what: impl Display, condition: impl FnMut() -> bool) {
    assert!(
        becomes_true(DEADLINE, condition),
        "not so within {DEADLINE:?}: {what}"
    );
}

/// Polls `condition` until it holds or `limit` has passed; says which.
///
/// For the few tests whose promise is a time.
#[must_use]
pub fn becomes_true(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut turns = 0_u32;
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= limit {
            return condition();
        }
        turns += 1;
        if turns < 100 {
            thread::yield_now();
        } else {
            thread::sleep(Duration::from_micros(500));
        }
    }
}

/// Runs `body` on a thread of its own and panics naming `what` if it has not returned within
/// `limit`. A panic of `body` goes on in the caller.
///
/// For calls that hang when they break their promise; the hung thread is left behind.
#[track_caller]
pub fn within<T: Send + 'static>(
    limit: Duration,
    what: impl Display,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, result) = channel();
    let thread = thread::spawn(move || {
        let value = body();
        let _ = done.send(());
        value
    });
    match result.recv_timeout(limit) {
        // Disconnected: the closure panicked, and the join says with what.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(value) => value,
            Err(payload) => resume_unwind(payload),
        },
        Err(RecvTimeoutError::Timeout) => panic!("still not done after {limit:?}: {what}"),
    }
}

/// [`within`] the common [`DEADLINE`].
#[track_caller]
pub fn watchdog<T: Send + 'static>(
    what: impl Display,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    within(DEADLINE, what, body)
}

/// Takes the next message; panics naming `what` if none comes within [`DEADLINE`].
#[track_caller]
pub fn receive<T>(what: impl Display, from: &Receiver<T>) -> T {
    match from.recv_timeout(DEADLINE) {
        Ok(value) => value,
        Err(error) => panic!("no message ({error}): {what}"),
    }
}

/// A door that is shut until somebody opens it, and then open for ever. Clones are the same door.
///
/// A task that waited too long panics, which its pool catches; so that the test learns of it,
/// opening the gate panics as well by then.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<Door>, Condvar)>);

#[derive(Debug, Default)]
struct Door {
    open: bool,
    given_up: bool,
}

impl Gate {
    /// A gate that is shut.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the gate; panics if somebody gave up waiting for it.
    #[track_caller]
    pub fn open(&self) {
        let (door, changed) = &*self.0;
        let mut door = door.lock().unwrap_or_else(PoisonError::into_inner);
        door.open = true;
        let too_late = door.given_up && !thread::panicking();
        drop(door);
        changed.notify_all();
        assert!(!too_late, "somebody gave up waiting for this gate");
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).open
    }

    /// Waits until the gate is open; panics after [`DEADLINE`].
    #[track_caller]
    pub fn wait(&self) {
        if !self.wait_timeout(DEADLINE) {
            let mut door = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            door.given_up = true;
            drop(door);
            panic!("the gate was not opened within {DEADLINE:?}");
        }
    }

    /// Waits until the gate is open or the time is up; says whether it is open.
    #[must_use]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let (door, changed) = &*self.0;
        let door = door.lock().unwrap_or_else(PoisonError::into_inner);
        let (door, _) = changed
            .wait_timeout_while(door, limit, |door| !door.open)
            .unwrap_or_else(PoisonError::into_inner);
        door.open
    }

    /// A guard that opens the gate when it is dropped, also by a failing assertion, so that what
    /// waits behind the gate does not hold the test up for the whole deadline.
    #[must_use]
    pub fn opened_on_drop(&self) -> OpensOnDrop {
        OpensOnDrop(self.clone())
    }
}

/// See [`Gate::opened_on_drop`].
#[derive(Debug)]
pub struct OpensOnDrop(Gate);

impl Drop for OpensOnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Deref for OpensOnDrop {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.0
    }
}

/// Counts arrivals; waits until a number of them is reached. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(Arc<(Mutex<usize>, Condvar)>);

impl Arrivals {
    /// No arrival yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one more.
    pub fn arrive(&self) {
        let (count, changed) = &*self.0;
        *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        changed.notify_all();
    }

    /// How many have arrived.
    pub fn count(&self) -> usize {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until at least `number` have arrived; panics after [`DEADLINE`].
    #[track_caller]
    pub fn wait_for(&self, number: usize) {
        let (count, changed) = &*self.0;
        let guard = count.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, timeout) = changed
            .wait_timeout_while(guard, DEADLINE, |count| *count < number)
            .unwrap_or_else(PoisonError::into_inner);
        let arrived = *guard;
        drop(guard);
        assert!(
            !timeout.timed_out(),
            "{arrived} of {number} arrived within {DEADLINE:?}"
        );
    }
}

/// How many are inside at once, and the most there ever were. Clones count together.
///
/// The count is taken by the tasks themselves and never by a gauge of the pool.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Running {
    /// Nobody inside yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one in, until the guard is dropped (also by a panic).
    #[must_use]
    pub fn enter(&self) -> Inside {
        let now = self.0.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.peak.fetch_max(now, Ordering::SeqCst);
        Inside(self.clone())
    }

    /// How many are inside now.
    pub fn now(&self) -> usize {
        self.0.now.load(Ordering::SeqCst)
    }

    /// The most that were inside at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::SeqCst)
    }

    /// Forgets the peak: the next one counts from what runs now.
    pub fn reset_peak(&self) {
        self.0.peak.store(self.now(), Ordering::SeqCst);
    }
}

/// See [`Running::enter`].
#[derive(Debug)]
pub struct Inside(Running);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What happened, in the order in which it happened. Clones write to the same list.
#[derive(Debug)]
pub struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Log<T> {
    /// An empty list.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Adds an entry at the end.
    pub fn push(&self, entry: T) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(entry);
    }

    /// A copy of all entries, in order.
    pub fn entries(&self) -> Vec<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Tells its counter that it was dropped: captured by a task, it shows when the pool let go of it.
#[derive(Debug)]
pub struct DropCounter(pub Arrivals);

impl Drop for DropCounter {
    fn drop(&mut self) {
        self.0.arrive();
    }
}

/// The system's id of this thread; 0 where there is none to be had.
pub fn id_of_this_thread() -> u32 {
    #[cfg(target_os = "linux")]
    return linux::thread_id();
    #[cfg(not(target_os = "linux"))]
    return 0;
}

/// A generator whose seed is printed, and taken from `ANTHILL_SEED` when that is set, so that a
/// failure can be run again.
pub fn seeded_rng(test: &str) -> StdRng {
    let seed = match std::env::var("ANTHILL_SEED") {
        Ok(chosen) => chosen.parse().expect("ANTHILL_SEED is a number"),
        Err(_) => rand::random::<u64>(),
    };
    eprintln!("{test}: ANTHILL_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Runs `body` in a process of its own: the test binary starts itself again for this one test.
///
/// For what changes the whole process (resource limits, user ids, `abort`). `test` is the full path
/// of the calling test, as the harness names it. Panics with the child's output if the child fails,
/// does not end within `limit`, or never came to the end of `body`.
#[track_caller]
pub fn in_child_process(test: &str, limit: Duration, body: impl FnOnce()) {
    const WHICH: &str = "ANTHILL_CHILD_TEST";
    const REACHED: &str = "child: body came to its end";

    set_alarm();
    if std::env::var(WHICH).as_deref() == Ok(test) {
        body();
        println!("{REACHED}");
        return;
    }
    let output = run_to_end(
        Command::new(std::env::current_exe().expect("the test binary knows where it is"))
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(WHICH, test),
        limit,
    );
    assert!(
        output.success && output.text.contains(REACHED),
        "the child for {test} failed ({}):\n{}",
        output.status,
        output.text
    );
}

/// What a child process left: how it ended, and all it wrote.
#[derive(Debug)]
pub struct ChildOutput {
    /// It ended with status 0.
    pub success: bool,
    /// How it ended, as text.
    pub status: String,
    /// What it wrote to its standard output, then to its standard error.
    pub text: String,
}

/// Runs `command`, killing it after `limit`; returns how it ended and what it wrote.
#[track_caller]
pub fn run_to_end(command: &mut Command, limit: Duration) -> ChildOutput {
    fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child process starts");
    let out = drain(child.stdout.take().expect("stdout is piped"));
    let err = drain(child.stderr.take().expect("stderr is piped"));
    let mut status = None;
    let ended = becomes_true(limit, || {
        status = child.try_wait().expect("the child can be waited for");
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = format!(
        "{}\n{}",
        out.join().expect("stdout was read"),
        err.join().expect("stderr was read")
    );
    ChildOutput {
        success: status.is_some_and(|status| status.success()),
        status: match status {
            Some(status) => status.to_string(),
            None => format!("killed after {limit:?}"),
        },
        text,
    }
}

/// Polls `read` until it returns `expected`: for gauges that reach a value and keep it.
#[track_caller]
pub fn eventually_eq<T: Copy + PartialEq + Debug>(
    what: impl Display,
    expected: T,
    mut read: impl FnMut() -> T,
) {
    let mut last = None;
    let reached = becomes_true(DEADLINE, || {
        let value = read();
        let same = value == expected;
        last = Some(value);
        same
    });
    assert!(
        reached,
        "{what}: expected {expected:?}, still {last:?} after {DEADLINE:?}"
    );
}

/// What the system itself says about threads; on other systems the tests that ask are left out.
#[cfg(target_os = "linux")]
pub mod linux;

pub mod history;
pub mod missing;
#[cfg(target_os = "linux")]
pub mod netns;
#[cfg(unix)]
pub mod postgres;
#[cfg(unix)]
pub mod proxy;
#[cfg(unix)]
pub mod redis;
#[cfg(unix)]
mod scratch;
#[cfg(unix)]
mod server;
