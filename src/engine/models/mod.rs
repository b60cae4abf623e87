//! Loom models of the whole engine: each would deadlock, or miss a task, if the protocol lost one.
//!
//! `RUSTFLAGS="--cfg anthill_loom" cargo test --release --features futures --lib models`. docs/testing.md names for each
//! ordering, fence and re-check the model that fails without it.

mod claims;
mod ending;
mod lending;
mod line;
mod line_chunks;
#[cfg(feature = "futures")]
mod line_futures;
mod shares;
mod standby;
mod threads;
mod waking;

use crate::engine::admission::Joined;
use crate::engine::config::{Config, Hooks, Overflow};
use crate::engine::core::Core;
use crate::engine::submit::{Patience, Submit};
use crate::engine::task::Task;
use crate::error::SubmitErrorKind;
use crate::sync::{
    Arc, AtomicBool, AtomicUsize, Ordering, Processors, allow_helpers, refuse_threads, unjoined,
};
use loom::thread;
use std::task::Wake;
use std::time::Duration;

const EVER: Duration = Duration::from_secs(1);

fn config(backlog: Option<usize>, idle_timeout: Duration) -> Config {
    Config {
        backlog,
        overflow: Overflow::Block,
        max_waiting: usize::MAX,
        min_workers: 0,
        max_lent: 4,
        idle_timeout: Some(idle_timeout),
        name: String::new(),
        stack_size: None,
        hooks: Hooks::default(),
        keeps: None,
        processors: Processors::TWO,
    }
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(move || {
        refuse_threads(0);
        allow_helpers(false);
        f();
    });
}

/// Counts the tasks that ran.
#[derive(Clone)]
struct Ran(Arc<AtomicUsize>);

impl Ran {
    fn new() -> Ran {
        Ran(Arc::new(AtomicUsize::new(0)))
    }

    fn task(&self) -> impl FnOnce() + Send + 'static {
        let ran = self.clone();
        move || {
            // Relaxed: the pool must make the others see it.
            ran.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a task waits for: given once, and never before. (A loom `Notify` wakes at will.)
#[derive(Clone)]
struct Signal(Arc<(AtomicBool, loom::sync::Notify)>);

impl Signal {
    fn new() -> Signal {
        Signal(Arc::new((
            AtomicBool::new(false),
            loom::sync::Notify::new(),
        )))
    }

    fn give(&self) {
        self.0.0.store(true, Ordering::Release);
        self.0.1.notify();
    }

    fn wait(&self) {
        while !self.0.0.load(Ordering::Acquire) {
            self.0.1.wait();
        }
    }
}

struct Wakes(Signal);

impl Wake for Wakes {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.give();
    }
}

fn submit(core: &Arc<Core>, ran: &Ran) {
    core.submit_closure(ran.task(), Patience::Policy).unwrap();
}

fn end(core: &Arc<Core>) {
    core.end(None, None).unwrap();
    assert!(core.admission.places().at_rest());
    // C6
    assert_eq!(unjoined(), 0);
}

/// Submits a task and waits for it without the pool's help; false if it was refused.
fn submit_and_see(core: &Arc<Core>) -> bool {
    let ran = Signal::new();
    let tells = ran.clone();
    match core.submit_closure(move || tells.give(), Patience::Policy) {
        Ok(()) => {
            ran.wait();
            true
        }
        Err(refused) => {
            assert_eq!(refused.kind(), SubmitErrorKind::NoThread);
            false
        }
    }
}
