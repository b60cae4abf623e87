//! What the tests work with: jobs, a broker that can be watched and broken, and waits that end.

use anthill::jobs::*;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
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

/// Waits for what no event tells.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

/// A broker whose calls are counted, and some of which fail.
#[derive(Clone)]
pub(crate) struct Spy(Arc<Watched>);

struct Watched {
    broker: MemoryBroker,
    claims: AtomicUsize,
    extends: AtomicUsize,
    looks: AtomicU32,
    panics: AtomicBool,
    /// What comes while somebody looks for work, and finds none.
    late: Mutex<Option<NewJob>>,
    is_shared: bool,
    failing: Failing,
    seen: Condvar,
    lock: Mutex<()>,
}

#[derive(Default)]
struct Failing {
    claims: AtomicU32,
    settles: AtomicU32,
    extends: AtomicU32,
    schedules: AtomicU32,
}

impl Spy {
    pub(crate) fn new(clock: &Clock) -> Spy {
        Spy::with(clock, false)
    }

    /// One that says that other processes see it, too.
    pub(crate) fn shared(clock: &Clock) -> Spy {
        Spy::with(clock, true)
    }

    fn with(clock: &Clock, is_shared: bool) -> Spy {
        Spy(Arc::new(Watched {
            broker: MemoryBroker::new(clock.clone()),
            claims: AtomicUsize::new(0),
            extends: AtomicUsize::new(0),
            looks: AtomicU32::new(0),
            panics: AtomicBool::new(false),
            late: Mutex::default(),
            is_shared,
            failing: Failing::default(),
            seen: Condvar::new(),
            lock: Mutex::new(()),
        }))
    }

    pub(crate) fn fail_claims(&self, times: u32) {
        self.0.failing.claims.store(times, Ordering::SeqCst);
    }

    pub(crate) fn fail_settles(&self, times: u32) {
        self.0.failing.settles.store(times, Ordering::SeqCst);
    }

    pub(crate) fn enqueue_during_a_claim(&self, job: NewJob) {
        *self.0.late.lock().unwrap() = Some(job);
    }

    /// What the steward asks for panics from now on, or does not.
    pub(crate) fn panic(&self, panics: bool) {
        self.0.panics.store(panics, Ordering::SeqCst);
    }

    pub(crate) fn fail_extends(&self, times: u32) {
        self.0.failing.extends.store(times, Ordering::SeqCst);
    }

    pub(crate) fn fail_schedules(&self, times: u32) {
        self.0.failing.schedules.store(times, Ordering::SeqCst);
    }

    /// How often it was asked whether somebody else changed something.
    pub(crate) fn looks(&self) -> u32 {
        self.0.looks.load(Ordering::SeqCst)
    }

    pub(crate) fn claims(&self) -> usize {
        self.0.claims.load(Ordering::SeqCst)
    }

    pub(crate) fn wait_for_extends(&self, n: usize) {
        let lock = self.0.lock.lock().unwrap();
        let few = |(): &mut ()| self.0.extends.load(Ordering::SeqCst) < n;
        let (_lock, late) = self.0.seen.wait_timeout_while(lock, LONG, few).unwrap();
        assert!(!late.timed_out(), "{n} heartbeats");
    }

    fn inner(&self) -> &MemoryBroker {
        &self.0.broker
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

impl Broker for Spy {
    fn abilities(&self) -> Abilities {
        let mut abilities = self.inner().abilities();
        abilities.shared = self.0.is_shared;
        abilities
    }
    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        self.inner().enqueue(jobs)
    }
    fn claim(&self, most: usize, lease: Duration) -> Result<Claims, QueueError> {
        self.0.claims.fetch_add(1, Ordering::SeqCst);
        fails(&self.0.failing.claims)?;
        let claims = self.inner().claim(most, lease)?;
        if claims.jobs.is_empty() {
            if let Some(job) = self.0.late.lock().unwrap().take() {
                self.inner().enqueue(&[job])?;
            }
        }
        Ok(claims)
    }
    fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<bool>, QueueError> {
        assert!(
            !self.0.panics.load(Ordering::SeqCst),
            "a broker that panics"
        );
        fails(&self.0.failing.extends)?;
        let extended = self.inner().extend(leases, lease);
        let _lock = self.0.lock.lock().unwrap();
        self.0.extends.fetch_add(1, Ordering::SeqCst);
        self.0.seen.notify_all();
        extended
    }
    fn settle(&self, ends: &[(Lease, Settle)]) -> Result<Vec<bool>, QueueError> {
        fails(&self.0.failing.settles)?;
        self.inner().settle(ends)
    }
    fn progress(&self, lease: Lease, progress: &[u8]) -> Result<bool, QueueError> {
        self.inner().progress(lease, progress)
    }
    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        self.inner().cancel(id)
    }
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.inner().get(id)
    }
    fn list(
        &self,
        state: JobState,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<JobInfo>, QueueError> {
        self.inner().list(state, after, most)
    }
    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.inner().retry_dead(id)
    }
    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        self.inner().delete(id)
    }
    fn purge(&self, state: JobState) -> Result<u64, QueueError> {
        self.inner().purge(state)
    }
    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        self.inner().set_paused(paused)
    }
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        self.inner().set_limits(limits)
    }
    fn limits(&self) -> Result<Limits, QueueError> {
        self.inner().limits()
    }
    fn stats(&self) -> Result<QueueStats, QueueError> {
        self.inner().stats()
    }
    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        self.inner().put_schedule(schedule)
    }
    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        self.inner().drop_schedule(name)
    }
    fn schedules(&self) -> Result<Vec<Scheduled>, QueueError> {
        assert!(
            !self.0.panics.load(Ordering::SeqCst),
            "a broker that panics"
        );
        fails(&self.0.failing.schedules)?;
        self.inner().schedules()
    }
    fn fire(&self, schedule: &Scheduled, next: i64, job: &NewJob) -> Result<bool, QueueError> {
        self.inner().fire(schedule, next, job)
    }
    fn now(&self) -> Result<i64, QueueError> {
        self.inner().now()
    }
    fn subscribe(&self, call: Box<dyn Fn() -> bool + Send + Sync>) {
        self.inner().subscribe(call);
    }
    fn has_changed(&self, seen: &mut u64) -> Result<bool, QueueError> {
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        assert!(
            !self.0.panics.load(Ordering::SeqCst),
            "a broker that panics"
        );
        self.inner().has_changed(seen)
    }
}
