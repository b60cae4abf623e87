//! What the tests work with: jobs, a broker that can be watched and broken, and waits that end.

use crate::watched::{Call, Watch, Watched};
use anthill::Pool;
use anthill_jobs::broker::Listener;
use anthill_jobs::*;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub(crate) const LONG: Duration = Duration::from_secs(20);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u32);
impl Job for Count {
    const KIND: &'static str = "count";
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
}
impl Job for Text {
    const KIND: &'static str = "text";
}

pub(crate) fn text(text: &str) -> Text {
    Text {
        text: text.to_owned(),
    }
}

/// A queue in memory with a clock of its own.
pub(crate) fn queue() -> (Queue, Clock) {
    let clock = Clock::manual();
    (Queue::of(MemoryBroker::new(clock.clone())), clock)
}

pub(crate) fn hear<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(LONG).expect("it comes")
}

/// What is shut holds up who passes, until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Arc<Gate> {
        Arc::default()
    }

    pub(crate) fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        // Not for ever: a test that fails has to end, and its consumer with it.
        let shut = |state: &mut (bool, usize)| !state.0;
        drop(
            self.changed
                .wait_timeout_while(state, LONG * 2, shut)
                .unwrap(),
        );
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    /// Until so many have come.
    pub(crate) fn wait_for(&self, n: usize) {
        let state = self.state.lock().unwrap();
        let (_state, late) = self
            .changed
            .wait_timeout_while(state, LONG, |state| state.1 < n)
            .unwrap();
        assert!(!late.timed_out(), "{n} come to the gate");
    }

    pub(crate) fn came(&self) -> usize {
        self.state.lock().unwrap().1
    }
}

/// A consumer of a job that comes again for ever; each of its turns is told.
pub(crate) fn for_ever(queue: &Queue, pool: &Pool) -> (Consumer, Receiver<()>) {
    let again = queue.clone();
    let (send, ran) = mpsc::channel();
    let handler = move |Count(n): Count, _: &Context| {
        // Nobody may listen any more.
        let _ = send.send(());
        again.enqueue(Count(n))?;
        Ok(())
    };
    let consumer = queue.consumer(pool).handle(handler).start().unwrap();
    queue.enqueue(Count(0)).unwrap();
    (consumer, ran)
}

/// Waits for what no event tells.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

/// A broker in memory whose calls are counted, and some of which fail.
#[derive(Clone)]
pub(crate) struct Spy(Arc<Sight>);

#[derive(Default)]
struct Sight {
    claims: AtomicUsize,
    /// How soon each listener wants to hear of what others do.
    polls: Mutex<Vec<Duration>>,
    extends: AtomicUsize,
    extended: Condvar,
    lock: Mutex<()>,
    failing: Failing,
    /// What the maintainer asks for does.
    panics: AtomicBool,
    /// What comes while somebody looks for work, and finds none.
    late: Mutex<Option<NewJob>>,
}

#[derive(Default)]
struct Failing {
    claims: AtomicU32,
    settles: AtomicU32,
    extends: AtomicU32,
    schedules: AtomicU32,
}

impl Spy {
    pub(crate) fn new() -> Spy {
        Spy(Arc::default())
    }

    /// The queue that it watches.
    pub(crate) fn queue(&self, clock: &Clock) -> Queue {
        Queue::of(Watched {
            broker: MemoryBroker::new(clock.clone()),
            watch: self.clone(),
        })
    }

    pub(crate) fn fail_claims(&self, times: u32) {
        self.0.failing.claims.store(times, Ordering::SeqCst);
    }

    pub(crate) fn fail_settles(&self, times: u32) {
        self.0.failing.settles.store(times, Ordering::SeqCst);
    }

    pub(crate) fn fail_extends(&self, times: u32) {
        self.0.failing.extends.store(times, Ordering::SeqCst);
    }

    pub(crate) fn fail_schedules(&self, times: u32) {
        self.0.failing.schedules.store(times, Ordering::SeqCst);
    }

    /// What the maintainer asks for panics from now on, or does not.
    pub(crate) fn panic(&self, panics: bool) {
        self.0.panics.store(panics, Ordering::SeqCst);
    }

    pub(crate) fn enqueue_during_a_claim(&self, job: NewJob) {
        *self.0.late.lock().unwrap() = Some(job);
    }

    /// How soon each who subscribed wants to hear of what other processes do.
    pub(crate) fn polls(&self) -> Vec<Duration> {
        self.0.polls.lock().unwrap().clone()
    }

    pub(crate) fn claims(&self) -> usize {
        self.0.claims.load(Ordering::SeqCst)
    }

    pub(crate) fn wait_for_extends(&self, n: usize) {
        let lock = self.0.lock.lock().unwrap();
        let few = |(): &mut ()| self.0.extends.load(Ordering::SeqCst) < n;
        let (_lock, late) = self.0.extended.wait_timeout_while(lock, LONG, few).unwrap();
        assert!(!late.timed_out(), "{n} heartbeats");
    }
}

impl Watch for Spy {
    fn before(&self, call: Call) -> Result<(), QueueError> {
        let sight = &*self.0;
        let maintainer = [Call::Extend, Call::Schedules].contains(&call);
        let panics = maintainer && sight.panics.load(Ordering::SeqCst);
        if call == Call::Claim {
            sight.claims.fetch_add(1, Ordering::SeqCst);
        }
        assert!(!panics, "a broker that panics");
        match call {
            Call::Claim => fails(&sight.failing.claims),
            Call::Settle => fails(&sight.failing.settles),
            Call::Extend => fails(&sight.failing.extends),
            Call::Schedules => fails(&sight.failing.schedules),
            Call::Enqueue | Call::SetDue | Call::RemoveUnchanged => Ok(()),
        }
    }

    fn after(&self, call: Call) {
        if call == Call::Extend {
            let _lock = self.0.lock.lock().unwrap();
            self.0.extends.fetch_add(1, Ordering::SeqCst);
            self.0.extended.notify_all();
        }
    }

    fn claimed(&self, claims: &Claims, broker: &dyn Broker) {
        if claims.jobs.is_empty() {
            if let Some(job) = self.0.late.lock().unwrap().take() {
                broker.enqueue(&[job]).unwrap();
            }
        }
    }

    fn subscribing(&self, listener: &Listener) {
        self.0.polls.lock().unwrap().push(listener.poll());
    }
}

fn fails(left: &AtomicU32) -> Result<(), QueueError> {
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    }) {
        Ok(_) => Err(QueueError::Broker("it is down".into())),
        Err(_) => Ok(()),
    }
}
