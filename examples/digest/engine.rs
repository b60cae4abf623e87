//! What runs the tasks: an anthill pool, or one of two others to compare it with.
//!
//! A walk needs two doors: one that refuses when there is no room, and gives the task back, and one for
//! the task that must not be refused, and must not wait either, since it comes from a worker. A pool of
//! anthill has both. For the others [`Counted`] adds what they lack.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use anthill::{Pool, PoolHandle, Stats, SubmitError};

use crate::task::Job;

type BoxError = Box<dyn Error + Send + Sync>;

/// Tasks that may wait, for each that may run: enough that workers find the next one without a pause.
const BACKLOG_PER_WORKER: usize = 16;

/// Where tasks are handed in: cheap to clone, so that tasks take it along.
pub(crate) trait Engine: Clone + Send + 'static {
    /// Takes the task if there is room, else gives it back. Never waits.
    fn offer<F: FnOnce() + Send + 'static>(&self, task: F) -> Result<(), F>;

    /// Takes the task, from a worker also beyond the bound. Never waits there.
    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) -> Result<(), BoxError>;

    /// Waits until no task runs or is queued, at most that long; says whether it is so.
    fn wait_timeout(&self, limit: Duration) -> bool;
}

/// Who did the work.
pub(crate) struct Crew {
    pub(crate) peak: usize,
    pub(crate) started: u64,
    pub(crate) stats: Option<Stats>,
}

/// Starts with no thread and gets as many as the work keeps busy, `capacity` at most.
pub(crate) fn anthill(capacity: usize, job: Job) -> Result<Crew, BoxError> {
    let pool = Pool::builder()
        .name("digest")
        .capacity(capacity)
        .backlog(capacity.saturating_mul(BACKLOG_PER_WORKER))
        .build()?;
    job.run(&pool.handle())?;
    let stats = pool.stats();
    if stats.panicked > 0 {
        return Err("a task panicked".into());
    }
    Ok(Crew {
        peak: stats.workers_peak,
        started: stats.workers_started,
        stats: Some(stats),
    })
}

impl Engine for PoolHandle {
    fn offer<F: FnOnce() + Send + 'static>(&self, task: F) -> Result<(), F> {
        self.try_submit(task).map_err(SubmitError::into_inner)
    }

    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) -> Result<(), BoxError> {
        Ok(PoolHandle::submit(self, task)?)
    }

    fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_idle_timeout(limit)
    }
}

pub(crate) fn rayon(capacity: usize, job: Job) -> Result<Crew, BoxError> {
    let pool = Arc::new(
        rayon::ThreadPoolBuilder::new()
            .num_threads(capacity)
            .build()?,
    );
    job.run(&Counted::new(capacity, move |task| pool.spawn(task)))?;
    Ok(Crew {
        peak: capacity,
        started: capacity as u64,
        stats: None,
    })
}

pub(crate) fn threads(capacity: usize, job: Job) -> Result<Crew, BoxError> {
    let (sender, receiver) = mpsc::channel::<Option<BoxedTask>>();
    let receiver = Arc::new(Mutex::new(receiver));
    let mut threads = Vec::new();
    let mut result = Ok(());
    while threads.len() < capacity && result.is_ok() {
        let receiver = Arc::clone(&receiver);
        match thread::Builder::new().spawn(move || work(&receiver)) {
            Ok(thread) => threads.push(thread),
            Err(error) => result = Err(error.into()),
        }
    }
    if result.is_ok() {
        let sender = sender.clone();
        result = job.run(&Counted::new(capacity, move |task| {
            sender
                .send(Some(task))
                .expect("the threads end only after the last task");
        }));
    }
    for _ in &threads {
        sender
            .send(None)
            .expect("the receiver is alive in this function");
    }
    let started = threads.len();
    for thread in threads {
        thread.join().map_err(|_| "a task panicked")?;
    }
    result.map(|()| Crew {
        peak: started,
        started: started as u64,
        stats: None,
    })
}

fn work(tasks: &Mutex<Receiver<Option<BoxedTask>>>) {
    loop {
        // A statement of its own, so that the lock is gone before the task runs.
        let task = tasks.lock().expect("no task runs under this lock").recv();
        match task {
            Ok(Some(task)) => task(),
            Ok(None) | Err(_) => return,
        }
    }
}

type BoxedTask = Box<dyn FnOnce() + Send>;

/// An engine that takes everything, with a count that bounds it and tells when it is done.
#[derive(Clone)]
struct Counted<S> {
    spawn: S,
    room: usize,
    in_flight: Arc<InFlight>,
}

#[derive(Default)]
struct InFlight {
    count: AtomicUsize,
    lock: Mutex<()>,
    none: Condvar,
}

impl<S: Fn(BoxedTask) + Clone + Send + 'static> Counted<S> {
    fn new(capacity: usize, spawn: S) -> Self {
        let room = capacity.saturating_mul(1 + BACKLOG_PER_WORKER);
        Self {
            spawn,
            room,
            in_flight: Arc::default(),
        }
    }

    /// Runs the task, which is in the count already.
    fn start(&self, task: impl FnOnce() + Send + 'static) {
        let counted = CountedTask(Arc::clone(&self.in_flight));
        (self.spawn)(Box::new(move || {
            let _counted = counted;
            task();
        }));
    }
}

impl<S: Fn(BoxedTask) + Clone + Send + 'static> Engine for Counted<S> {
    fn offer<F: FnOnce() + Send + 'static>(&self, task: F) -> Result<(), F> {
        let room = |count| (count < self.room).then_some(count + 1);
        match self
            .in_flight
            .count
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, room)
        {
            Ok(_) => {
                self.start(task);
                Ok(())
            }
            Err(_) => Err(task),
        }
    }

    fn submit<F: FnOnce() + Send + 'static>(&self, task: F) -> Result<(), BoxError> {
        self.in_flight.count.fetch_add(1, Ordering::AcqRel);
        self.start(task);
        Ok(())
    }

    fn wait_timeout(&self, limit: Duration) -> bool {
        let InFlight { count, lock, none } = &*self.in_flight;
        let guard = lock.lock().expect("nothing panics under this lock");
        let busy = |(): &mut ()| count.load(Ordering::Acquire) > 0;
        let (_guard, waited) = none
            .wait_timeout_while(guard, limit, busy)
            .expect("the same");
        !waited.timed_out()
    }
}

/// Counts a task out, also if it panics.
struct CountedTask(Arc<InFlight>);

impl Drop for CountedTask {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Under the lock: else it could fall between the waiter's look at the count and its sleep.
            let _guard = self.0.lock.lock();
            self.0.none.notify_all();
        }
    }
}
