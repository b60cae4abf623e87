//! What the threads of a consumer share: its state under one lock, and how they wake each other.
//!
//! - U1: `in_flight` has each claimed job that is not settled; heartbeats extend the leases of those and no others.
//!   A claimed job is in `buffer`, at a runner, or its settlement is in `outbox`.
//! - U2: `may_claim` is set before a runner is asked for, and cleared before each claim: whatever arrives during a
//!   claim leads to another one.
//! - U3: `runners` counts the tasks in the pool, `started` those that have a worker. Each looks for jobs before it ends,
//!   and then notifies the maintainer; so where there is something to claim a runner is on its way, or the maintainer knows
//!   when to start one.
//! - U7: A runner whose job is over its run time may be replaced: it lends its place in the pool, and there may be one
//!   runner more. `replaced` counts these, from before the place is lent until the runner has it back.
//! - U4: No call to the broker, the pool or user code is made under the lock.
//! - U5: A fragile job (B9) is claimed by a runner that has the *permit*, which one runner has at a time, until the job
//!   begins: until the hooks before its handler have run. It begins when the settlements of all other fragile jobs are
//!   stored. So whenever one begins, and may end the process, each other fragile job that was claimed here has begun,
//!   or its settlement is stored: none loses an attempt, or becomes a dead letter, for nothing.

use super::context::Context;
use super::handlers::Handlers;
use super::options::Options;
use super::report::Reports;
use super::sizing::Sizing;
use super::sources::Sources;
use super::state::{Buffered, OUTBOX_TIME, State};
use crate::error::QueueError;
use crate::panics::drop_quietly;
use crate::sync::lock;
use anthill::{Limited, PoolHandle, StopSource};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

pub(super) struct Shared {
    /// The consumer's id: no other consumer has it.
    pub(super) id: Arc<str>,
    pub(super) started: Instant,
    /// Ends the waits of claims when the consumer stops.
    pub(super) stop: StopSource,
    pub(super) sources: Sources,
    pub(super) handlers: Handlers,
    pub(super) options: Options,
    pub(super) pool: PoolHandle,
    /// The runners' share of the pool.
    pub(super) share: Limited,
    state: Mutex<State>,
    /// Notified by what may change when the maintainer has to wake.
    pub(super) maintainer: Condvar,
    /// Notified when the first job is in flight, and when all is over.
    pub(super) heartbeat: Condvar,
    /// Threads that wait for the end, or for the consumer to be idle.
    pub(super) waiters: Condvar,
    /// The runner with the permit, which waits until settlements are stored.
    pub(super) stored: Condvar,
    /// Pollers, which wait until there is nothing to claim.
    pub(super) pollers: Condvar,
    pub(super) kinds: Arc<[String]>,
    pub(super) reports: Reports,
    pub(super) schedules_changed: AtomicBool,
    /// Schedules may have been set by another process.
    pub(super) changed_elsewhere: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        sources: Sources,
        handlers: Handlers,
        options: Options,
        pool: &PoolHandle,
        sizing: Sizing,
    ) -> Shared {
        let state = State::new(sizing, handlers.have_limits());
        Shared {
            id: new_id().into(),
            started: Instant::now(),
            stop: StopSource::new(),
            kinds: handlers.stored_kinds(),
            sources,
            handlers,
            options,
            pool: pool.clone(),
            share: pool.limit(usize::MAX),
            state: Mutex::new(state),
            maintainer: Condvar::new(),
            heartbeat: Condvar::new(),
            waiters: Condvar::new(),
            stored: Condvar::new(),
            pollers: Condvar::new(),
            reports: Reports::default(),
            schedules_changed: AtomicBool::new(false),
            changed_elsewhere: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn context(&self, buffered: &Buffered) -> Context {
        let broker = Arc::clone(self.sources.broker(buffered.source));
        let (job, signal) = (&buffered.job, Arc::clone(&buffered.signal));
        (self.handlers).context(broker, self.options.data_limit, job, signal)
    }

    // ── waking others ───────────────────────────────────────────────────────────────────────

    /// A schedule was set.
    pub(super) fn notify_schedules_changed(&self) {
        self.schedules_changed.store(true, Ordering::SeqCst);
        // Under the lock: the maintainer either checks before it sleeps, or is asleep.
        drop(self.lock());
        self.maintainer.notify_one();
    }

    /// Another process changed something, perhaps a schedule.
    pub(super) fn notify_changed_elsewhere(&self) {
        self.changed_elsewhere.store(true, Ordering::SeqCst);
        // Under the lock: the maintainer either checks before it sleeps, or is asleep.
        drop(self.lock());
        self.maintainer.notify_one();
    }

    /// Wakes the maintainer if it would sleep past the next thing to do.
    pub(super) fn wake_maintainer_in_time(&self, state: &mut State, now: Instant) {
        // It wakes soon enough, or is awake, and looks at everything then.
        let wakes_at = state.maintainer_wakes_at;
        if wakes_at.is_some_and(|at| at <= now + OUTBOX_TIME) {
            return;
        }
        let Some(next) = state.next_event(now) else {
            return;
        };
        if wakes_at.is_none_or(|at| next < at) {
            state.maintainer_wakes_at = Some(next);
            self.maintainer.notify_one();
        }
    }

    /// A job ended: wakes the threads that wait for that.
    pub(super) fn notify_waiters(&self, state: &State) {
        if state.waiters > 0 && state.in_flight.is_empty() {
            self.waiters.notify_all();
        }
        if state.stopping {
            self.maintainer.notify_one();
        }
    }

    // ── the pool and the user ───────────────────────────────────────────────────────────────

    /// Whether this thread runs a task of the pool.
    pub(super) fn is_inside(&self) -> bool {
        self.pool.is_inside()
    }

    pub(super) fn is_pool_closed(&self) -> bool {
        self.pool.is_closed()
    }

    /// Whether other tasks wait for a worker of the pool.
    pub(super) fn is_pool_contended(&self) -> bool {
        self.pool.waiting() > 0 || self.pool.queued() > 0
    }

    /// Reports a failure of the broker to the user's hook, or to the log.
    pub(super) fn report(&self, error: &QueueError) {
        let Some(on_error) = &self.options.on_error else {
            return self.reports.failure(error);
        };
        // User code: its panic must end neither a runner nor the maintainer.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| on_error(error))) {
            drop_quietly(payload);
        }
    }
}

/// The host, the process, and a number that no other consumer of the process has.
fn new_id() -> String {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    // Several containers have processes of one number, and sometimes one name.
    let random = fastrand::u32(..);
    format!("{}:{}:{number}:{random:08x}", host(), std::process::id())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn host() -> String {
    let name = std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME"));
    name.unwrap_or_else(|_| "host".to_owned())
}
