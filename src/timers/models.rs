//! Loom models of the timers: the thread that sleeps, or ends, while a timer is set; and cancel against fire.
//!
//! Loom's clock stands still: what is set for tick 0 is due, all else never is. A thread that lingers for no time takes
//! its last look at once.

use super::once::Once;
use super::series::Series;
use super::service::{Key, NEVER, Service};
use crate::engine::config::{Config, Hooks, Overflow};
use crate::engine::core::Core;
use crate::engine::timers::PoolTimer;
use crate::sync::{Arc, AtomicUsize, Ordering, Processors, allow_helpers, now, refuse_threads};
use loom::sync::Notify;
use loom::thread;
use std::task::{Wake, Waker};
use std::time::Duration;

/// The tick that is due, and one that never is.
const DUE: u64 = 0;
const LATER: u64 = 1_000;

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(move || {
        refuse_threads(0);
        allow_helpers(true);
        f();
    });
}

fn service(linger: Duration) -> &'static Service {
    Box::leak(Box::new(Service::new(now(), linger)))
}

/// A wake that is waited for.
struct Told(Notify, AtomicUsize);

impl Wake for Told {
    fn wake(self: std::sync::Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.notify();
    }
}

impl Told {
    fn new() -> Arc<Told> {
        Arc::new(Told(Notify::new(), AtomicUsize::new(0)))
    }

    fn set(self: &Arc<Self>, service: &'static Service, deadline: u64) -> Key {
        (service.set(deadline, Waker::from(Arc::clone(self)))).unwrap()
    }

    fn wait(&self) {
        while self.1.load(Ordering::SeqCst) == 0 {
            self.0.wait();
        }
    }
}

/// TS2: a timer is set while the thread takes its last look, and ends: it is fired all the same.
#[test]
fn set_against_the_last_look() {
    model(3, || {
        let service = service(Duration::ZERO);
        for _ in 0..2 {
            let told = Told::new();
            told.set(service, DUE);
            told.wait();
        }
    });
}

/// TS1: a timer that is due sooner than another one is set as the thread goes to sleep for that: the thread wakes.
#[test]
fn set_against_going_to_sleep() {
    model(3, || {
        let service = service(Duration::ZERO);
        let later = Told::new();
        let key = later.set(service, LATER);
        let told = Told::new();
        told.set(service, DUE);
        told.wait();
        // TS7: without it the thread would sleep on, and loom would tell of a deadlock.
        assert!(service.remove(key).is_some());
        assert_eq!(later.1.load(Ordering::SeqCst), 0);
    });
}

/// TS1: two threads set timers, with a wheel each.
#[test]
fn set_by_two_threads() {
    model(2, || {
        let service = service(Duration::ZERO);
        let other = thread::spawn(move || {
            let told = Told::new();
            told.set(service, DUE);
            told.wait();
        });
        let told = Told::new();
        told.set(service, DUE);
        told.wait();
        other.join().unwrap();
    });
}

/// TS7: the last timers of two wheels are removed at once: one of the two wakes the thread.
#[test]
fn two_remove_the_last_timers() {
    model(3, || {
        let service = service(Duration::ZERO);
        let key = Told::new().set(service, LATER);
        let other = thread::spawn(move || {
            let key = Told::new().set(service, LATER);
            drop(service.remove(key));
        });
        drop(service.remove(key));
        other.join().unwrap();
    });
}

/// TS5: under a pin the thread stays, and a timer that is set is not refused though no thread is to be had.
#[test]
fn a_pin_keeps_the_thread() {
    model(3, || {
        let service = service(Duration::ZERO);
        service.pin().unwrap();
        allow_helpers(false);
        let told = Told::new();
        told.set(service, DUE);
        told.wait();
        service.unpin();
    });
}

/// TS2: who is refused has its waker back, or it was fired by a thread that another one could start.
#[test]
fn a_refused_thread() {
    model(3, || {
        let service = service(Duration::ZERO);
        allow_helpers(false);
        let told = Told::new();
        assert!(service.set(DUE, Waker::from(Arc::clone(&told))).is_err());
        assert_eq!(Arc::strong_count(&told), 1);
        allow_helpers(true);
        told.set(service, DUE);
        told.wait();
    });
}

fn pool(capacity: usize) -> Arc<Core> {
    let config = Config {
        backlog: None,
        overflow: Overflow::Block,
        max_waiting: usize::MAX,
        max_lent: 1,
        min_workers: 0,
        idle_timeout: Some(Duration::from_secs(1)),
        name: String::new(),
        stack_size: None,
        hooks: Hooks::default(),
        keeps: None,
        processors: Processors::TWO,
    };
    Core::new(capacity, config)
}

/// Fires a timer as the timers' thread does.
fn fire<T: Wake + Send + Sync + 'static>(timer: &Arc<T>) -> thread::JoinHandle<()> {
    let waker = Waker::from(Arc::clone(timer));
    thread::spawn(|| waker.wake())
}

/// TM1: a timer that is due is cancelled: its closure is submitted, or dropped.
#[test]
fn cancel_against_fire() {
    model(3, || {
        let pool = pool(0);
        let held = Arc::new(());
        let captured = Arc::clone(&held);
        let timer = Once::start(service(Duration::ZERO), &pool, NEVER, || drop(captured));
        let timer = timer.map_err(|error| error.kind()).unwrap();
        let fires = fire(&timer);
        let cancelled = timer.cancel();
        fires.join().unwrap();
        assert_eq!(pool.stats().submitted, u64::from(!cancelled));
        assert_eq!(Arc::strong_count(&held), if cancelled { 1 } else { 2 });
        assert_eq!(pool.timers.len(), 0);
        pool.close(true);
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// TM2: a pool ends while a timer is due: its closure is gone when the caller that ends it goes on.
#[test]
fn release_against_fire() {
    model(2, || {
        let pool = pool(1);
        let held = Arc::new(());
        let captured = Arc::clone(&held);
        let timer = Once::start(service(Duration::ZERO), &pool, NEVER, || drop(captured));
        let timer = timer.map_err(|error| error.kind()).unwrap();
        let fires = fire(&timer);
        pool.end(None, None).unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
        fires.join().unwrap();
        assert!(!timer.cancel());
    });
}

/// SE1, SE3: a series is cancelled while its task is handed in and runs: the closure is dropped, once, and does not run
/// twice.
#[test]
fn a_series_is_cancelled_as_it_runs() {
    model(2, || {
        let pool = pool(1);
        let (held, runs) = (Arc::new(()), Arc::new(AtomicUsize::new(0)));
        let (captured, counts) = (Arc::clone(&held), Arc::clone(&runs));
        let run = move || {
            let _ = &captured;
            counts.fetch_add(1, Ordering::SeqCst);
        };
        let timer = Series::start(service(Duration::ZERO), &pool, Duration::MAX, run);
        let timer = timer.map_err(|error| error.kind()).unwrap();
        let fires = fire(&timer);
        assert!(timer.cancel());
        fires.join().unwrap();
        pool.end(None, None).unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(runs.load(Ordering::SeqCst) <= 1);
    });
}
