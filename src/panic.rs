//! What a panicking task leaves behind, and who is told.

use crate::sync::Arc;
use std::any::Any;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// A worker of a pool: each thread that a pool ever started has its own, counted from 0.
///
/// ```
/// use std::sync::mpsc;
/// let (send, ids) = mpsc::channel();
/// let pool = anthill::Pool::builder()
///     .capacity(1)
///     .on_worker_start(move |worker| send.send(worker).unwrap())
///     .build()?;
/// pool.submit(|| {})?;
/// assert_eq!(ids.recv()?.as_u64(), 0);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub(crate) u64);

impl WorkerId {
    /// How many workers the pool had started before this one.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A task that panicked, as its pool's panic handler gets it.
///
/// Dropping it drops the payload; a panic in that drop is caught.
///
/// ```
/// use std::sync::mpsc;
/// let (send, told) = mpsc::channel();
/// let pool = anthill::Pool::builder()
///     .capacity(1)
///     .panic_handler(move |panic| send.send(panic.message().map(str::to_owned)).unwrap())
///     .build()?;
/// pool.submit(|| panic!("out of leaves"))?;
/// assert_eq!(told.recv()?.as_deref(), Some("out of leaves"));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct TaskPanic {
    worker: Option<WorkerId>,
    thread_name: Option<String>,
    /// `None` once it was taken.
    payload: Option<Box<dyn Any + Send>>,
}

impl TaskPanic {
    pub(crate) fn new(worker: Option<WorkerId>, payload: Box<dyn Any + Send>) -> TaskPanic {
        TaskPanic {
            worker,
            thread_name: std::thread::current().name().map(str::to_owned),
            payload: Some(payload),
        }
    }

    /// The worker that ran the task; `None` if its submitter ran it
    /// ([`Overflow::CallerRuns`](crate::Overflow::CallerRuns)).
    pub fn worker(&self) -> Option<WorkerId> {
        self.worker
    }

    /// The name of the thread that ran the task.
    pub fn thread_name(&self) -> Option<&str> {
        self.thread_name.as_deref()
    }

    /// The panic's message, if its payload is a string, as that of `panic!` is.
    pub fn message(&self) -> Option<&str> {
        message_of(self.payload())
    }

    /// What the task panicked with.
    pub fn payload(&self) -> &(dyn Any + Send) {
        self.payload.as_deref().unwrap_or(&())
    }

    /// Takes the payload, for [`std::panic::resume_unwind`] say.
    pub fn into_payload(mut self) -> Box<dyn Any + Send> {
        self.payload.take().unwrap_or_else(|| Box::new(()))
    }
}

impl Drop for TaskPanic {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            drop_quietly(payload);
        }
    }
}

impl fmt::Debug for TaskPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskPanic")
            .field("worker", &self.worker)
            .field("thread_name", &self.thread_name)
            .field("message", &self.message())
            .finish_non_exhaustive()
    }
}

/// What a task panicked with.
pub(crate) type Payload = Box<dyn Any + Send>;

/// The text of a payload that is a string, as that of `panic!` is.
pub(crate) fn message_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Drops what belongs to a user and catches a panic in it, also during another unwind.
pub(crate) fn drop_quietly<T>(value: T) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(value)));
    let payload_dropped =
        dropped.or_else(|payload| catch_unwind(AssertUnwindSafe(|| drop(payload))));
    if let Err(payload) = payload_dropped {
        // A payload whose own drop panics could go on for ever: it is leaked instead.
        std::mem::forget(payload);
    }
}

/// Calls `f`, out of which nothing must unwind: ends the process if something does, and says what that spoiled.
pub(crate) fn or_abort<T>(spoiled: &str, f: impl FnOnce() -> T) -> T {
    struct Abort<'a>(&'a str);

    impl Drop for Abort<'_> {
        fn drop(&mut self) {
            let _ = writeln!(std::io::stderr(), "anthill: {}: aborting", self.0);
            std::process::abort();
        }
    }

    let abort = Abort(spoiled);
    let value = f();
    std::mem::forget(abort);
    value
}

/// Calls a user's waker and catches a panic in it.
pub(crate) fn wake_quietly(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        drop_quietly(payload);
    }
}

/// A handler of one worker's own.
pub(crate) type PanicHandler = Box<dyn FnMut(TaskPanic)>;

type Shared = Arc<dyn Fn(TaskPanic) + Send + Sync>;
type PerWorker = Arc<dyn Fn(WorkerId) -> PanicHandler + Send + Sync>;

/// Who is told of panics.
#[derive(Clone, Default)]
pub(crate) struct PanicHandlers {
    pub(crate) shared: Option<Shared>,
    pub(crate) per_worker: Option<PerWorker>,
}

impl PanicHandlers {
    pub(crate) fn for_worker(&self, worker: WorkerId) -> Option<PanicHandler> {
        self.per_worker.as_ref().map(|make| make(worker))
    }

    /// Tells the worker's own handler, or else the shared one. A panic in it is caught.
    pub(crate) fn tell(&self, own: Option<&mut PanicHandler>, panic: TaskPanic) {
        let told = catch_unwind(AssertUnwindSafe(|| match (own, &self.shared) {
            (Some(own), _) => own(panic),
            (None, Some(shared)) => shared(panic),
            (None, None) => drop(panic),
        }));
        if let Err(payload) = told {
            drop_quietly(payload);
        }
    }
}
