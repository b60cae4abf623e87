//! What a panicking task leaves behind and who is told; and how the code of users is called where a panic must not
//! spread.

use crate::sync::Arc;
use std::any::Any;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Identifies a worker of a pool: the threads that a pool starts are numbered from 0 and no number is used twice.
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
    /// Returns the number: how many workers the pool had started before this one.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The panic of a task, as the panic handler of its pool gets it.
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
    /// `None` once it is taken.
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

    /// Returns the worker that ran the task, or `None` if its submitter ran it
    /// ([`Overflow::CallerRuns`](crate::Overflow::CallerRuns)).
    pub fn worker(&self) -> Option<WorkerId> {
        self.worker
    }

    /// Returns the name of the thread that ran the task.
    pub fn thread_name(&self) -> Option<&str> {
        self.thread_name.as_deref()
    }

    /// Returns the panic's message if its payload is a string, as that of `panic!` is.
    pub fn message(&self) -> Option<&str> {
        message_of(self.payload())
    }

    /// Returns what the task panicked with.
    pub fn payload(&self) -> &(dyn Any + Send) {
        self.payload.as_deref().unwrap_or(&())
    }

    /// Returns what the task panicked with, for example for [`std::panic::resume_unwind`].
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

/// Drops a value of a user and catches a panic of the drop, also during another unwind.
pub(crate) fn drop_quietly<T>(value: T) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(value)));
    let payload_dropped =
        dropped.or_else(|payload| catch_unwind(AssertUnwindSafe(|| drop(payload))));
    if let Err(payload) = payload_dropped {
        // Its drop panics with a payload whose drop panics: that could go on for ever, so the last one is leaked.
        std::mem::forget(payload);
    }
}

/// Calls `f`, and aborts the process if it unwinds; `spoiled` says on standard error what that would have broken.
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

/// The handler of one worker.
pub(crate) type PanicHandler = Box<dyn FnMut(TaskPanic)>;

type Shared = Arc<dyn Fn(TaskPanic) + Send + Sync>;
type PerWorker = Arc<dyn Fn(WorkerId) -> PanicHandler + Send + Sync>;

/// The panic handlers of a pool.
#[derive(Clone, Default)]
pub(crate) struct PanicHandlers {
    pub(crate) shared: Option<Shared>,
    pub(crate) per_worker: Option<PerWorker>,
}

impl PanicHandlers {
    pub(crate) fn for_worker(&self, worker: WorkerId) -> Option<PanicHandler> {
        self.per_worker.as_ref().map(|make| make(worker))
    }

    /// Calls the worker's own handler, or the shared one if it has none. A panic of the handler is caught.
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
