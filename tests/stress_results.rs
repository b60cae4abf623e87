//! Results and shares, all at once: seeded rounds in which threads and tasks spawn, join, cancel and drop
//! handles, open scopes, groups and maps, and do so on pools and on their shares, while a governor tunes,
//! releases and reboots them.
//!
//! Each round promises, whatever the interleaving:
//!
//! - each closure ends exactly once: run, or dropped unrun (cancelled, discarded, refused);
//! - each handle resolves, to what became of its closure, and not before the closure is gone;
//! - what is cancelled never runs, and nothing is lost where nobody discards;
//! - when a scope, a group or a map returns, all that belongs to it is over;
//! - a share never runs more at once than it may; what an outside thread hands a serial queue, or a key,
//!   starts in that order;
//! - at rest the books of pools and shares balance, and no key is left;
//! - nothing hangs.
//!
//! Slots of shares are locks to those who wait while they have one: two tasks that have each other's would
//! wait for ever, in any library. So whoever waits in a task waits for [ranks](rank) above its own.
//!
//! `ANTHILL_STRESS_SECONDS` is how long to go on (3). Each round has a seed of its own, told when it fails;
//! with `ANTHILL_SEED` every round is that one.

mod support;

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anthill::{
    GroupError, JoinError, JoinHandle, Keyed, Limited, Overflow, Pool, Serial, Share, SubmitError,
};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use support::{assert_at_rest, eventually, within};

/// The length of a round that is called a hang. A round takes milliseconds.
const HANG: Duration = Duration::from_secs(60);

/// The most closures of a round.
const CLOSURES: i64 = 2_000;

#[test]
fn results_and_shares_at_once() {
    quiet_about_discards();
    let seconds = number_from("ANTHILL_STRESS_SECONDS").unwrap_or(3);
    let fixed = number_from("ANTHILL_SEED");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seeds = StdRng::seed_from_u64(fixed.unwrap_or_else(rand::random));
    let (mut rounds, mut total) = (0_u64, [0; KINDS]);
    while rounds == 0 || Instant::now() < end {
        let seed = fixed.unwrap_or_else(|| seeds.random());
        let told = format!("ANTHILL_SEED={seed}");
        for (total, kind) in total
            .iter_mut()
            .zip(within(HANG, told, move || round(seed)))
        {
            *total += kind;
        }
        let wrong = WRONG.lock().unwrap();
        assert!(wrong.is_empty(), "ANTHILL_SEED={seed}: {wrong:#?}");
        rounds += 1;
    }
    let kinds: Vec<_> = Ended::ALL.iter().zip(total).collect();
    eprintln!("{rounds} rounds: {kinds:?}");
}

/// Scopes and maps panic where a pool discards their tasks, which is what rounds provoke.
fn quiet_about_discards() {
    let tell = take_hook();
    set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<&str>();
        if !message.is_some_and(|message| message.starts_with("the pool discarded")) {
            tell(panic);
        }
    }));
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Promises that were broken, where a panic would be caught by the pool.
static WRONG: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[track_caller]
fn blame(what: impl Display) {
    let line = Location::caller().line();
    WRONG.lock().unwrap().push(format!("line {line}: {what}"));
}

/// How the wait for a handle ended, so that one can see that a round does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Value,
    Panic,
    Cancelled,
    Refused,
}

const KINDS: usize = 4;

impl Ended {
    const ALL: [Ended; KINDS] = [Ended::Value, Ended::Panic, Ended::Cancelled, Ended::Refused];
}

// ── a round ─────────────────────────────────────────────────────────────────────────────────────

struct Round {
    nests: Vec<Nest>,
    /// How many closures may still be made.
    budget: AtomicI64,
    /// Made, and not yet dropped.
    alive: AtomicI64,
    /// Numbers the tasks of outside threads.
    clock: AtomicU64,
    ended: [AtomicU64; KINDS],
}

/// A pool, one share of each kind, and what is expected of them.
struct Nest {
    pool: Pool,
    limited: Limited,
    serial: Serial,
    keyed: Keyed<usize>,
    caller_runs: bool,
    /// Somebody may discard what was accepted.
    discards: bool,
    /// The most that the limited share is tuned to.
    most: usize,
    panics: u32,
    running: [AtomicUsize; LEVELS],
    /// The newest task started, of each outside thread.
    newest: [[AtomicU64; DRIVERS]; LEVELS],
}

const DRIVERS: usize = 3;

/// Where a closure goes: to the pool, the limited share, the serial one, or to a key.
const LEVELS: usize = 3 + KEYS;
const POOL: usize = 0;
const LIMITED: usize = 1;
const SERIAL: usize = 2;
const KEYS: usize = 3;

/// The order in which one may wait: for pools and levels above one's own.
fn rank(nest: usize, level: usize) -> usize {
    nest * LEVELS + level
}

fn round(seed: u64) -> [u64; KINDS] {
    let mut rng = StdRng::seed_from_u64(seed);
    let round = Arc::new(Round {
        nests: (0..rng.random_range(1..=2))
            .map(|_| nest(&mut rng))
            .collect(),
        budget: AtomicI64::new(rng.random_range(0..CLOSURES)),
        alive: AtomicI64::new(0),
        clock: AtomicU64::new(1),
        ended: Default::default(),
    });
    let (done, is_done) = channel::<()>();
    let threads: Vec<_> = (0..rng.random_range(1..=DRIVERS))
        .map(|driver| {
            let (round, done, rng) = (Arc::clone(&round), done.clone(), split(&mut rng));
            thread::spawn(move || {
                drive(&round, driver, rng);
                drop((round, done));
            })
        })
        .collect();
    drop(done);
    loop {
        match is_done.recv_timeout(Duration::from_micros(300)) {
            Err(RecvTimeoutError::Disconnected) => break,
            _ => round.govern(&mut rng),
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    while round.alive.load(Ordering::SeqCst) > 0 {
        round.govern(&mut rng);
        thread::yield_now();
    }
    for nest in &round.nests {
        nest.check_rest();
    }
    let ended = round
        .ended
        .each_ref()
        .map(|kind| kind.load(Ordering::SeqCst));
    eventually("nothing captured is left", || {
        Arc::strong_count(&round) == 1
    });
    ended
}

fn split(rng: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(rng.random())
}

fn nest(rng: &mut StdRng) -> Nest {
    let mut builder = Pool::builder()
        .capacity(rng.random_range(1..=4))
        .panic_handler(|_| {});
    let overflow = match rng.random_range(0..6) {
        0..3 => Overflow::Block,
        3 => Overflow::Reject,
        4 => Overflow::CallerRuns,
        _ => Overflow::DropOldest,
    };
    builder = builder.overflow(overflow);
    builder = match rng.random_range(0..3) {
        0 => builder.unbounded_backlog(),
        _ => builder.backlog(rng.random_range(1..6)),
    };
    if rng.random() {
        builder = builder.idle_timeout(Duration::from_micros(rng.random_range(0..500)));
    }
    let pool = builder.build().unwrap();
    let most = rng.random_range(1..=3);
    let (mut limited, mut serial, mut keyed) = (pool.limit(most), pool.serial(), pool.keyed());
    if rng.random() {
        limited = limited.backlog(rng.random_range(1..4));
        serial = serial.backlog(rng.random_range(1..4));
        keyed = keyed.backlog(rng.random_range(1..4));
    }
    Nest {
        limited,
        serial,
        keyed,
        pool,
        caller_runs: overflow == Overflow::CallerRuns,
        discards: overflow == Overflow::DropOldest || rng.random_bool(0.3),
        most,
        panics: [0, 30, 200][rng.random_range(0..3)],
        running: Default::default(),
        newest: Default::default(),
    }
}

impl Round {
    /// Sees to it as well that nothing stays paused or closed for ever.
    fn govern(&self, rng: &mut StdRng) {
        for nest in &self.nests {
            nest.pool.reboot();
            nest.shares().iter().for_each(|share| share.reboot());
            if nest.limited.capacity() == 0 || rng.random_bool(0.1) {
                nest.limited.tune(rng.random_range(1..=nest.most));
            }
            if nest.pool.capacity() == 0 || rng.random_bool(0.2) {
                nest.pool.tune(rng.random_range(1..=4));
            }
            match rng.random_range(0..60) {
                0 => drop(nest.pool.tune(0)),
                1 => drop(nest.limited.tune(0)),
                2 => nest.pool.release(),
                3 => nest.shares()[rng.random_range(0..3)].release(),
                4 | 5 if nest.discards => drop(nest.pool.release_now()),
                6 | 7 if nest.discards => {
                    nest.shares()[rng.random_range(0..3)].release_now();
                }
                _ => {}
            }
        }
    }
}

impl Nest {
    fn shares(&self) -> [&Share; 3] {
        [&self.limited, &self.serial, &self.keyed]
    }

    fn most(&self, level: usize) -> usize {
        match level {
            POOL => usize::MAX,
            // Callers run beside it.
            LIMITED if self.caller_runs => usize::MAX,
            LIMITED => self.most,
            _ => 1,
        }
    }

    fn check_rest(&self) {
        self.pool.tune(1);
        self.pool.reboot();
        for share in self.shares() {
            share.wait_idle();
            let stats = share.stats();
            let ended = stats.completed + stats.panicked + stats.cancelled + stats.discarded;
            if (share.running(), share.queued(), share.waiting()) != (0, 0, 0)
                || stats.submitted != ended
            {
                blame(format_args!("a share at rest: {share:?} {stats:?}"));
            }
        }
        self.pool.wait_idle();
        assert_at_rest(&self.pool);
        eventually("no key is left", || self.keyed.keys() == 0);
    }
}

// ── closures ────────────────────────────────────────────────────────────────────────────────────

const RUN: u8 = 1;
const PANICS: u8 = 2;
const GONE: u8 = 4;

/// What a closure captures: its fate is told to who submitted it.
struct Ticket {
    round: Arc<Round>,
    fate: Arc<AtomicU8>,
    number: u64,
    /// The outside thread that submits it, if one does, and which of its tasks this is.
    order: Option<(usize, u64)>,
}

impl Ticket {
    fn new(round: &Arc<Round>, driver: Option<usize>, rng: &mut StdRng) -> Ticket {
        round.alive.fetch_add(1, Ordering::SeqCst);
        Ticket {
            round: Arc::clone(round),
            fate: Arc::default(),
            number: rng.random(),
            order: driver.map(|driver| (driver, round.clock.fetch_add(1, Ordering::SeqCst))),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.fate.fetch_or(GONE, Ordering::SeqCst) & GONE != 0 {
            blame("a closure was dropped twice");
        }
        self.round.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Where a task is, and what it may do.
#[derive(Clone, Copy)]
struct Post {
    nest: usize,
    level: usize,
    /// It waits for ranks above this one alone, or for its own share, to which it lends its slot.
    floor: usize,
    generations: u8,
    /// Not a task, but this thread outside.
    driver: Option<usize>,
}

impl Post {
    fn may_wait_for(&self, nest: usize, level: usize) -> bool {
        nest > self.nest
            || nest == self.nest
                && (level == POOL
                    || rank(nest, level) > self.floor
                    || level == self.level && rank(nest, level) == self.floor)
    }

    /// Of a task there; `joined`: this one may wait for it, or run it.
    fn child(&self, nest: usize, level: usize, joined: bool) -> Post {
        let floor = rank(nest, level);
        Post {
            nest,
            level,
            floor: if joined { floor.max(self.floor) } else { floor },
            generations: self.generations - 1,
            driver: None,
        }
    }
}

/// What a closure does.
fn run(ticket: &Ticket, post: Post, mut rng: StdRng) -> u64 {
    if ticket.fate.fetch_or(RUN, Ordering::SeqCst) != 0 {
        blame("a closure ran that had ended");
    }
    let nest = &ticket.round.nests[post.nest];
    let now = nest.running[post.level].fetch_add(1, Ordering::SeqCst) + 1;
    let most = nest.most(post.level);
    if now > most {
        let level = post.level;
        blame(format_args!("level {level}: {now} at once, of {most}"));
    }
    if let Some((driver, number)) = ticket.order.filter(|_| post.level >= SERIAL) {
        let before = nest.newest[post.level][driver].swap(number, Ordering::SeqCst);
        if before >= number {
            blame(format_args!("task {number} started after {before}"));
        }
    }
    if rng.random_bool(0.3) {
        thread::yield_now();
    }
    for _ in 0..[0, 0, 1, 3][rng.random_range(0..4)] {
        step(&ticket.round, post, &mut rng);
    }
    nest.running[post.level].fetch_sub(1, Ordering::SeqCst);
    if rng.random_ratio(nest.panics, 1_000) {
        ticket.fate.fetch_or(PANICS, Ordering::SeqCst);
        resume_unwind(Box::new("a task"));
    }
    ticket.number
}

/// Waits in a task, which does not count as running then: it may lend its slot.
fn waiting<T>(round: &Round, post: Post, wait: impl FnOnce() -> T) -> T {
    if post.driver.is_some() {
        return wait();
    }
    let running = &round.nests[post.nest].running[post.level];
    running.fetch_sub(1, Ordering::SeqCst);
    let value = wait();
    running.fetch_add(1, Ordering::SeqCst);
    value
}

// ── steps ───────────────────────────────────────────────────────────────────────────────────────

fn drive(round: &Arc<Round>, driver: usize, mut rng: StdRng) {
    for _ in 1..rng.random_range(2..100) {
        // Waits for all, and is waited for by nobody.
        let post = Post {
            nest: 0,
            level: POOL,
            floor: 0,
            generations: 4,
            driver: Some(driver),
        };
        step(round, post, &mut rng);
    }
}

fn step(round: &Arc<Round>, post: Post, rng: &mut StdRng) {
    if post.generations == 0 || round.budget.fetch_sub(1, Ordering::SeqCst) <= 0 {
        return;
    }
    let (at, level) = (
        rng.random_range(0..round.nests.len()),
        rng.random_range(0..LEVELS),
    );
    let outside = post.driver.is_some();
    let may_wait = outside || post.may_wait_for(at, level);
    // Whoever waits for room waits, too.
    let form = if post.nest <= at || outside {
        Form::random(rng)
    } else {
        Form::Try
    };
    let errand = Errand {
        round,
        post,
        at,
        level,
        form,
    };
    match rng.random_range(0..10) {
        0..2 => errand.submit(rng),
        2..6 if may_wait => errand.spawn(rng),
        6 if post.nest <= at => errand.scope(rng),
        7 if post.nest <= at => errand.group(rng),
        8 if post.nest <= at => errand.map(rng),
        _ => errand.detach(rng),
    }
}

#[derive(Clone, Copy)]
enum Form {
    Now,
    Try,
    Timeout(Duration),
}

impl Form {
    fn random(rng: &mut StdRng) -> Form {
        match rng.random_range(0..4) {
            0 | 1 => Form::Now,
            2 => Form::Try,
            _ => Form::Timeout(Duration::from_micros(rng.random_range(0..500))),
        }
    }
}

macro_rules! in_form {
    ($form:expr, $to:expr, [$now:ident, $try:ident, $timeout:ident], $($argument:expr),*) => {
        match $form {
            Form::Now => $to.$now($($argument),*),
            Form::Try => $to.$try($($argument),*),
            Form::Timeout(timeout) => $to.$timeout($($argument),*, timeout),
        }
    };
}

/// Where an errand goes, and in its form.
macro_rules! hand_in {
    ($errand:expr, $methods:tt, $closure:expr) => {{
        let (form, nest) = ($errand.form, $errand.nest());
        match $errand.level {
            POOL => in_form!(form, nest.pool, $methods, $closure),
            LIMITED => in_form!(form, nest.limited, $methods, $closure),
            SERIAL => in_form!(form, nest.serial, $methods, $closure),
            level => in_form!(form, nest.keyed, $methods, level - SERIAL - 1, $closure),
        }
    }};
}

/// Something a thread or a task is about to do.
struct Errand<'a> {
    round: &'a Arc<Round>,
    /// Whose it is.
    post: Post,
    /// The pool, the level and the form of the submits.
    at: usize,
    level: usize,
    form: Form,
}

type Closure = Box<dyn FnOnce() -> u64 + Send>;

/// A handle, and the fate of its closure.
type Promise = (JoinHandle<u64>, Arc<AtomicU8>, u64);

impl Errand<'_> {
    fn nest(&self) -> &Nest {
        &self.round.nests[self.at]
    }

    fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        waiting(self.round, self.post, wait)
    }

    /// A closure for a level; `joined`: it may be waited for, or run by, who submits it.
    fn closure(
        &self,
        level: usize,
        joined: bool,
        rng: &mut StdRng,
    ) -> (Closure, Arc<AtomicU8>, u64) {
        let ticket = Ticket::new(self.round, self.post.driver, rng);
        let (fate, number) = (Arc::clone(&ticket.fate), ticket.number);
        let post = (self.post).child(self.at, level, joined || self.nest().caller_runs);
        let rng = split(rng);
        (Box::new(move || run(&ticket, post, rng)), fate, number)
    }

    fn refused<F>(&self, refusal: SubmitError<F>, fate: &AtomicU8) {
        if fate.load(Ordering::SeqCst) != 0 {
            blame(format_args!(
                "{:?}, and the closure has ended",
                refusal.kind()
            ));
        }
        drop(refusal.into_inner());
        if fate.load(Ordering::SeqCst) != GONE {
            blame("the closure that came back is not the one that was handed in");
        }
        self.count(Ended::Refused);
    }

    fn count(&self, ended: Ended) {
        let place = Ended::ALL.iter().position(|kind| *kind == ended).unwrap();
        self.round.ended[place].fetch_add(1, Ordering::SeqCst);
    }

    fn submit(&self, rng: &mut StdRng) {
        let (closure, fate, _) = self.closure(self.level, false, rng);
        let closure = move || {
            closure();
        };
        // By CallerRuns it is run here.
        let outcome =
            self.waiting(|| hand_in!(self, [submit, try_submit, submit_timeout], closure));
        if let Err(refusal) = outcome {
            self.refused(refusal, &fate);
        }
    }

    fn promise(&self, joined: bool, rng: &mut StdRng) -> Option<Promise> {
        let (closure, fate, number) = self.closure(self.level, joined, rng);
        let outcome = self.waiting(|| hand_in!(self, [spawn, try_spawn, spawn_timeout], closure));
        match outcome {
            Ok(handle) => Some((handle, fate, number)),
            Err(refusal) => {
                self.refused(refusal, &fate);
                None
            }
        }
    }

    /// A handle that nobody waits for.
    fn detach(&self, rng: &mut StdRng) {
        if let Some((handle, fate, _)) = self.promise(false, rng) {
            if rng.random() && handle.cancel() && fate.load(Ordering::SeqCst) != GONE {
                blame("cancelled, and the closure is not gone unrun");
            }
        }
    }

    /// Handles that are waited for, in some order and some way.
    fn spawn(&self, rng: &mut StdRng) {
        let mut promises: Vec<Promise> = (0..rng.random_range(1..4))
            .filter_map(|_| self.promise(true, rng))
            .collect();
        promises.shuffle(rng);
        for (mut handle, fate, number) in promises {
            let cancelled = rng.random_bool(0.2) && handle.cancel();
            let patience = Duration::from_micros(rng.random_range(0..200));
            let by_timeout = rng.random_bool(0.3);
            let outcome = self.waiting(|| {
                if !by_timeout {
                    return handle.join();
                }
                loop {
                    match handle.join_timeout(patience) {
                        Ok(outcome) => return outcome,
                        Err(again) => handle = again,
                    }
                }
            });
            self.check(&outcome, number, &fate, cancelled);
        }
    }

    fn check(
        &self,
        outcome: &Result<u64, JoinError>,
        number: u64,
        fate: &AtomicU8,
        cancelled: bool,
    ) {
        let (ended, expected) = match outcome {
            Ok(value) if *value != number => return blame("another one's value"),
            Ok(_) => (Ended::Value, RUN | GONE),
            Err(error) if error.is_panic() => (Ended::Panic, RUN | PANICS | GONE),
            Err(error) if error.is_cancelled() => (Ended::Cancelled, GONE),
            Err(error) => return blame(error),
        };
        let fate = fate.load(Ordering::SeqCst);
        if fate != expected {
            blame(format_args!("{ended:?}, and the closure's fate is {fate}"));
        }
        match (ended, cancelled) {
            (Ended::Cancelled, false) if !self.nest().discards => blame("dropped by nobody"),
            (Ended::Value | Ended::Panic, true) => blame("cancelled, and ran"),
            _ => self.count(ended),
        }
    }

    /// All is over when the scope is, whatever panicked.
    fn scope(&self, rng: &mut StdRng) {
        let ran = AtomicUsize::new(0);
        let fates = Mutex::new(Vec::new());
        let outcome = self.waiting(|| {
            let scope = || {
                self.nest().pool.scope(|scope| {
                    for _ in 0..rng.random_range(0..4) {
                        let (closure, fate, number) = self.closure(POOL, true, rng);
                        fates.lock().unwrap().push(Arc::clone(&fate));
                        let task = || {
                            ran.fetch_add(1, Ordering::SeqCst);
                            closure()
                        };
                        if rng.random() {
                            scope.submit(|| {
                                task();
                            });
                            continue;
                        }
                        let handle = scope.spawn(task);
                        let cancelled = rng.random_bool(0.2) && handle.cancel();
                        if rng.random() {
                            self.check(&handle.join(), number, &fate, cancelled);
                        }
                    }
                });
            };
            catch_unwind(AssertUnwindSafe(scope))
        });
        let fates = fates.into_inner().unwrap();
        let fates: Vec<u8> = fates
            .iter()
            .map(|fate| fate.load(Ordering::SeqCst))
            .collect();
        let runs = fates.iter().filter(|fate| **fate & RUN != 0).count();
        if fates.iter().any(|fate| fate & GONE == 0) || runs != ran.load(Ordering::SeqCst) {
            blame(format_args!(
                "the scope is over, and its tasks are not: {fates:?}"
            ));
        }
        let may_panic = self.nest().discards || fates.iter().any(|fate| fate & PANICS != 0);
        if outcome.is_err() && !may_panic {
            blame("the scope panicked, and no task of it");
        }
    }

    /// All is over when the group is, or was cancelled and does not run.
    fn group(&self, rng: &mut StdRng) {
        let group = self.nest().pool.group::<u64>();
        let mut fates = Vec::new();
        let cancels = AtomicBool::new(false);
        let outcome = self.waiting(|| {
            for _ in 0..rng.random_range(0..4) {
                let (closure, fate, number) = self.closure(POOL, true, rng);
                let fails = rng.random_bool(0.1);
                let task = move || match closure() {
                    value if fails => Err(value),
                    _ => Ok(()),
                };
                match group.submit(task) {
                    Ok(()) => fates.push((fate, fails.then_some(number))),
                    Err(refusal) => self.refused(refusal, &fate),
                }
                if rng.random_bool(0.1) {
                    group.cancel();
                    cancels.store(true, Ordering::SeqCst);
                }
            }
            group.wait()
        });
        let of =
            |(fate, fails): &(Arc<AtomicU8>, Option<u64>)| (fate.load(Ordering::SeqCst), *fails);
        let fates: Vec<(u8, Option<u64>)> = fates.iter().map(of).collect();
        if fates.iter().any(|(fate, _)| fate & GONE == 0) {
            blame(format_args!(
                "the group is over, and its tasks are not: {fates:?}"
            ));
        }
        let all_ran = fates
            .iter()
            .all(|(fate, fails)| *fate == RUN | GONE && fails.is_none());
        let holds = match outcome {
            Ok(()) => all_ran,
            Err(GroupError::Task(number)) => {
                let it = |(fate, fails): &(u8, Option<u64>)| {
                    *fate == RUN | GONE && *fails == Some(number)
                };
                fates.iter().any(it)
            }
            Err(GroupError::Panicked(_)) => fates.iter().any(|(fate, _)| fate & PANICS != 0),
            Err(_) => {
                fates.iter().any(|(fate, _)| *fate == GONE)
                    && (cancels.load(Ordering::SeqCst) || self.nest().discards)
            }
        };
        if !holds {
            blame(format_args!(
                "the group ended otherwise than its tasks: {fates:?}"
            ));
        }
    }

    /// Every item once, in order; or as many as are wanted.
    fn map(&self, rng: &mut StdRng) {
        let (items, wanted) = (rng.random_range(0..30), rng.random_range(0..40));
        let window = rng.random_range(1..6);
        let map = self.nest().pool.map(0..items, |n: usize| {
            if n % 3 == 0 {
                thread::yield_now();
            }
            n * n
        });
        let squares = || -> Vec<usize> { map.window(window).take(wanted).collect() };
        let squares = self.waiting(|| catch_unwind(AssertUnwindSafe(squares)));
        let expected: Vec<usize> = (0..items.min(wanted)).map(|n| n * n).collect();
        match squares {
            Ok(squares) if squares != expected => {
                blame(format_args!("a map of {items} items gave {squares:?}"));
            }
            Err(_) if !self.nest().discards => blame("a map panicked, and no item of it"),
            _ => {}
        }
    }
}
