//! The timers of the process: the wheels, and the one thread that turns them.
//!
//! Each timer is a waker in one of a few wheels (*shards*), that of the thread that set it, so that threads that set
//! timers seldom wait for one another. The thread fires what is due, sleeps until something is, and ends when there
//! was no timer for a while.
//!
//! ```text
//!            a timer is set, or pinned              no timer for `linger`, nor one set meanwhile
//!   absent ───────────────────────────► present ─────────────────────────────────────────────────► absent
//! ```
//!
//! - TS1: `sleeps_until` is the tick until which the thread will not look at the wheels by itself: 0 while it looks,
//!   `NEVER` while there is none. The thread writes it before it looks at each wheel once more and sleeps; whoever
//!   sets a timer puts it in the wheel and reads the tick afterwards. Both take the lock of the wheel in between: so
//!   the thread sees the timer, or whoever sets it sees the tick, and wakes the thread if that is too late.
//! - TS2: `present` changes under the lock of `state`, and so does the start of the thread: where the system refuses it,
//!   it stays false. The last look of the thread is one of those of TS1, with `NEVER`, under that lock: so whoever
//!   sets a timer that it does not see, and all who are refused, find it absent.
//! - TS3: A waker is the code of users: it is called, dropped and cloned outside all locks, and a panic in it is
//!   caught. At most [`BATCH`] are taken out under one lock.
//! - TS4: Never early: a deadline is rounded up to a tick, and the present down.
//! - TS5: While there is a *pin* the thread stays, timer or not: so a timer that is set under a pin is never refused.
//! - TS6: Each generation of processes (G1 of [`fork`]) has timers of its own. Those of the parent are never touched
//!   in the child, and stay in memory. The clock goes on.
//! - TS7: Who removes the last timer of all wakes the thread where it would sleep for longer than it lingers. It notes in
//!   `is_empty` of its wheel that this is empty, then reads that of the others and `sleeps_until`: of two who do so
//!   at once one sees both; and as in TS1, the thread sees that there is no timer any more, or is woken.
//! - TS8: Locks are taken in this order: `state`, a wheel. Nothing is called under them but the start of the thread.

use super::wheel::{self, Wheel};
use crate::fork;
use crate::panic::{drop_quietly, wake_quietly};
#[cfg(feature = "futures")]
use crate::sync::AtomicU32;
use crate::sync::{
    AtomicBool, AtomicPtr, AtomicU64, Condvar, CounterU64, Instant, Mutex, MutexGuard, Ordering,
    deadline_after, elapsed, local, lock, now, order_seqcst, spawn_helper, wait_until,
};
use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::io;
use std::ptr;
use std::task::Waker;
use std::time::Duration;

pub(super) use super::wheel::NEVER;

/// How many wheels there are, as a power of two.
#[cfg(not(all(test, anthill_loom)))]
const SHARD_BITS: u32 = 3;
#[cfg(all(test, anthill_loom))]
const SHARD_BITS: u32 = 1;
const SHARDS: usize = 1 << SHARD_BITS;

/// How many values of a wheel the thread looks at under one lock.
const BATCH: usize = 256;

/// How long the thread stays without a timer.
const LINGER: Duration = Duration::from_secs(1);

/// Enough for the wakers of executors, to start the threads of pools, and to report a panic; only what is used of it takes
/// memory.
const STACK: usize = 256 * 1024;

/// The name of the thread.
const NAME: &str = "anthill-timers";

const NANOS_A_TICK: u32 = 1_000_000;

/// A timer that is set: the index of its value in the wheel, with the number of the wheel in the lowest bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(wheel::Key);

/// What became of a waker that was to be set as a timer.
#[cfg(feature = "futures")]
pub(super) enum Set {
    Waits(Key),
    /// The deadline is over.
    Due(Waker),
    /// There is no thread, and the system refused one.
    Refused(io::Error),
}

struct Shard {
    wheel: Mutex<Wheel<Waker>>,
    /// TS7: whether the wheel is empty, as it was when the lock was released last.
    is_empty: AtomicBool,
}

#[derive(Default)]
struct State {
    /// TS2
    present: bool,
    /// TS1: the thread is to look again.
    alerted: bool,
    /// TS5: how many pins there are.
    pins: usize,
}

/// The timers of one generation of processes.
pub(super) struct Service {
    generation: u64,
    /// Tick 0.
    epoch: Instant,
    linger: Duration,
    /// How many threads have set timers.
    threads: CounterU64,
    shards: [CachePadded<Shard>; SHARDS],
    /// TS1
    sleeps_until: CachePadded<AtomicU64>,
    state: Mutex<State>,
    changed: Condvar,
    /// How many polls of sleeping futures tried to start the thread and were refused.
    #[cfg(feature = "futures")]
    pub(super) tries: AtomicU32,
}

local! {
    /// The wheel that this thread uses.
    static SHARD: Cell<u32> = Cell::new(u32::MAX);
}

/// The timers of this process (TS6).
pub(super) fn service() -> &'static Service {
    static SERVICE: AtomicPtr<Service> = AtomicPtr::new(ptr::null_mut());
    loop {
        // ORDERING: Acquire: pairs with the exchange below, which publishes the service.
        let seen = SERVICE.load(Ordering::Acquire);
        // SAFETY: what is published is never freed.
        let before = unsafe { seen.cast_const().as_ref() };
        if let Some(service) = before.filter(|service| service.is_here()) {
            return service;
        }
        let epoch = before.map_or_else(now, |before| before.epoch);
        let made = Box::into_raw(Box::new(Service::new(epoch, LINGER)));
        // ORDERING: Release: publishes the service. Relaxed: a failure is read again.
        let published = SERVICE.compare_exchange(seen, made, Ordering::Release, Ordering::Relaxed);
        if published.is_err() {
            // SAFETY: it was made above, and nobody else has it.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

impl Service {
    pub(super) fn new(epoch: Instant, linger: Duration) -> Service {
        let shard = || Shard {
            wheel: Mutex::new(Wheel::new()),
            is_empty: AtomicBool::new(true),
        };
        Service {
            generation: fork::generation(),
            epoch,
            linger,
            threads: CounterU64::new(0),
            shards: std::array::from_fn(|_| CachePadded::new(shard())),
            sleeps_until: CachePadded::new(AtomicU64::new(NEVER)),
            state: Mutex::default(),
            changed: Condvar::new(),
            #[cfg(feature = "futures")]
            tries: AtomicU32::new(0),
        }
    }

    /// TS6: whether these are the timers of this process.
    pub(super) fn is_here(&self) -> bool {
        !fork::is_inherited(self.generation)
    }

    /// The shard of this thread: threads take turns.
    fn shard_of_this_thread(&self) -> u32 {
        SHARD.with(|shard| {
            if shard.get() == u32::MAX {
                // ORDERING: Relaxed: it only spreads the threads.
                let number = self.threads.fetch_add(1, Ordering::Relaxed) % SHARDS as u64;
                shard.set(u32::try_from(number).expect("there are few shards"));
            }
            shard.get()
        })
    }

    /// How long it is since tick 0.
    pub(super) fn time(&self) -> Duration {
        elapsed(self.epoch)
    }

    /// The tick at which it is `time` since tick 0, rounded up (TS4); `NEVER` where that cannot be told.
    pub(super) fn tick_at(time: Option<Duration>) -> u64 {
        time.and_then(|time| {
            let whole = time.as_secs().checked_mul(1_000)?;
            whole.checked_add(u64::from(time.subsec_nanos().div_ceil(NANOS_A_TICK)))
        })
        .map_or(NEVER, |tick| tick.min(NEVER))
    }

    /// The same for a number of nanoseconds.
    pub(super) fn tick_of(nanos: u128) -> u64 {
        u64::try_from(nanos.div_ceil(u128::from(NANOS_A_TICK)))
            .map_or(NEVER, |tick| tick.min(NEVER))
    }

    /// The tick `after` from now.
    pub(super) fn tick_after(&self, after: Duration) -> u64 {
        Service::tick_at(self.time().checked_add(after))
    }

    /// The present, rounded down (TS4).
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.time().as_millis()).map_or(NEVER, |tick| tick.min(NEVER - 1))
    }

    /// Has `waker` woken at the tick `deadline`, which is not `NEVER`, or soon if that is over.
    pub(super) fn set(&'static self, deadline: u64, waker: Waker) -> io::Result<Key> {
        let number = self.shard_of_this_thread();
        let wheel = lock(&self.shards[number as usize].wheel);
        self.insert(number, wheel, deadline, waker)
    }

    /// The same, unless it is known that the tick is over.
    #[cfg(feature = "futures")]
    pub(super) fn set_unless_due(&'static self, deadline: u64, waker: Waker) -> Set {
        let number = self.shard_of_this_thread();
        let wheel = lock(&self.shards[number as usize].wheel);
        if wheel.has_reached(deadline) {
            drop(wheel);
            return Set::Due(waker);
        }
        match self.insert(number, wheel, deadline, waker) {
            Ok(key) => Set::Waits(key),
            Err(refusal) => Set::Refused(refusal),
        }
    }

    fn insert(
        &'static self,
        number: u32,
        mut wheel: MutexGuard<'_, Wheel<Waker>>,
        deadline: u64,
        waker: Waker,
    ) -> io::Result<Key> {
        let key = wheel.insert(deadline, waker);
        self.shards[number as usize].note_len(&wheel);
        drop(wheel);
        let key = Key(wheel::Key {
            index: key.index << SHARD_BITS | number,
            ..key
        });
        // TS1
        if deadline >= self.sleeps_until.load(Ordering::SeqCst) {
            return Ok(key);
        }
        if let Err(refusal) = self.alert() {
            // Another thread may have started it, and it may have fired the timer.
            if let Some(waker) = self.remove(key) {
                drop_quietly(waker);
                return Err(refusal);
            }
        }
        Ok(key)
    }

    /// Takes a timer out, unless it was fired; its waker is for the caller to drop, outside of locks.
    pub(super) fn remove(&self, key: Key) -> Option<Waker> {
        let (shard, key) = self.find(key);
        let mut wheel = lock(&shard.wheel);
        let waker = wheel.remove(key);
        shard.note_len(&wheel);
        let was_last = waker.is_some() && wheel.len() == 0;
        drop(wheel);
        if was_last {
            self.note_empty();
        }
        waker
    }

    /// Has another waker woken; false if the timer was fired.
    #[cfg(feature = "futures")]
    pub(super) fn renew(&self, key: Key, waker: &Waker) -> bool {
        let (shard, key) = self.find(key);
        match lock(&shard.wheel).get_mut(key) {
            None => return false,
            Some(old) if old.will_wake(waker) => return true,
            Some(_) => {}
        }
        // TS3
        let new = waker.clone();
        let unused = match lock(&shard.wheel).get_mut(key) {
            None => Err(new),
            Some(old) => Ok(std::mem::replace(old, new)),
        };
        let waits = unused.is_ok();
        drop_quietly(unused);
        waits
    }

    fn find(&self, Key(key): Key) -> (&Shard, wheel::Key) {
        let shard = &self.shards[key.index as usize % SHARDS];
        let index = key.index >> SHARD_BITS;
        (shard, wheel::Key { index, ..key })
    }

    /// TS7
    #[cold]
    fn note_empty(&self) {
        order_seqcst();
        let all = (self.shards.iter()).all(|shard| shard.is_empty.load(Ordering::SeqCst));
        if all && self.sleeps_until.load(Ordering::SeqCst) > self.tick_after(self.linger) {
            self.alert_present();
        }
    }

    /// TS5: keeps the thread; fails if there is none and the system refuses it.
    pub(super) fn pin(&'static self) -> io::Result<()> {
        let mut state = lock(&self.state);
        self.ensure_thread(&mut state)?;
        state.pins += 1;
        Ok(())
    }

    pub(super) fn unpin(&self) {
        let mut state = lock(&self.state);
        state.pins -= 1;
        let was_last = state.pins == 0;
        drop(state);
        if was_last {
            self.alert_present();
        }
    }

    /// TS1, TS2: has a thread look at the wheels.
    #[cold]
    fn alert(&'static self) -> io::Result<()> {
        let mut state = lock(&self.state);
        self.ensure_thread(&mut state)?;
        self.look_again(&mut state);
        Ok(())
    }

    /// The same, where a thread that is absent is not needed.
    #[cold]
    fn alert_present(&self) {
        let mut state = lock(&self.state);
        if state.present {
            self.look_again(&mut state);
        }
    }

    fn look_again(&self, state: &mut State) {
        state.alerted = true;
        // Others need not do the same.
        self.sleeps_until.store(0, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// TS2
    fn ensure_thread(&'static self, state: &mut State) -> io::Result<()> {
        if !state.present {
            // G5 of `fork`
            fork::watch()?;
            spawn_helper(NAME.to_owned(), STACK, move || self.run())?;
            state.present = true;
        }
        Ok(())
    }

    /// The body of the thread.
    fn run(&self) {
        let mut due = Vec::with_capacity(BATCH);
        loop {
            self.sleeps_until.store(0, Ordering::SeqCst);
            let next = self.fire(&mut due);
            if self.rest(next) == Rest::Over {
                return;
            }
        }
    }

    /// Wakes all wakers that are due. Returns when to look again, if there are timers.
    fn fire(&self, due: &mut Vec<Waker>) -> Option<u64> {
        let mut next = None;
        let now = self.now();
        for shard in &self.shards {
            loop {
                let mut wheel = lock(&shard.wheel);
                let more = wheel.turn(now, due, BATCH);
                let next_turn = wheel.next_turn();
                shard.note_len(&wheel);
                drop(wheel);
                due.drain(..).for_each(wake_quietly);
                if !more {
                    next = [next, next_turn].into_iter().flatten().min();
                    break;
                }
            }
        }
        next
    }

    /// Sleeps until `next`, or until a timer is set that comes sooner.
    fn rest(&self, next: Option<u64>) -> Rest {
        let mut state = lock(&self.state);
        let lingers = next.is_none() && state.pins == 0;
        let until = match next {
            Some(next) => next,
            None if lingers => self.tick_after(self.linger),
            None => NEVER,
        };
        // TS1, TS7
        self.sleeps_until.store(until, Ordering::SeqCst);
        let again = self.next_turn();
        if again.is_some_and(|again| again < until) || again.is_none() && next.is_some() {
            return Rest::Looks;
        }
        while !state.alerted && self.now() < until {
            let left = (until < NEVER)
                .then(|| Duration::from_millis(until).saturating_sub(self.time()))
                .and_then(deadline_after);
            state = wait_until(&self.changed, state, left);
        }
        if std::mem::take(&mut state.alerted) || !lingers {
            return Rest::Looks;
        }
        // TS2
        self.sleeps_until.store(NEVER, Ordering::SeqCst);
        if self.next_turn().is_some() || state.pins > 0 {
            return Rest::Looks;
        }
        for shard in &self.shards {
            lock(&shard.wheel).shrink();
        }
        state.present = false;
        Rest::Over
    }

    /// When the first timer of all wheels may be due, if there is one.
    fn next_turn(&self) -> Option<u64> {
        let next_turn = |shard: &CachePadded<Shard>| lock(&shard.wheel).next_turn();
        self.shards.iter().filter_map(next_turn).min()
    }
}

impl Shard {
    /// TS7: to be called with the lock held, after a change.
    fn note_len(&self, wheel: &Wheel<Waker>) {
        let is_empty = wheel.len() == 0;
        // ORDERING: Relaxed: only who has the lock writes it.
        if self.is_empty.load(Ordering::Relaxed) != is_empty {
            self.is_empty.store(is_empty, Ordering::SeqCst);
        }
    }
}

/// What the thread does after a rest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Looks,
    Over,
}
