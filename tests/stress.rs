//! Everything at once, again and again: seeded rounds in which threads and tasks do all that a
//! pool can do, to a few pools with random settings.
//!
//! Each round promises, whatever the interleaving:
//!
//! - each closure ends exactly once: run by the pool, dropped by it (discarded), or given back;
//! - never more tasks run than the largest capacity in force, counted by the tasks;
//! - at capacity 1 the tasks of one outside thread start in the order in which they were accepted;
//! - at rest the gauges are 0 and the statistics equal what the tasks and submitters counted;
//! - hooks and panic handlers are called as often as they have to be;
//! - after the release no thread is left, no thread-local, nothing that a task captured;
//! - nothing hangs: a round that takes too long is told with its seed, and the process aborted.
//!
//! `ANTHILL_STRESS_SECONDS` is how long to go on (5). Each round has a seed of its own, told when
//! it fails; with `ANTHILL_SEED` every round is that one, since the same seed makes the same plan
//! and not the same interleaving.

mod support;

use std::cell::RefCell;
use std::fmt::Display;
use std::hint::spin_loop;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anthill::{Overflow, Pool, PoolHandle, Stats, SubmitError, SubmitErrorKind};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The length of a round that is called a hang. A round takes milliseconds.
const HANG: Duration = Duration::from_secs(60);

/// The most tasks that tasks may submit in a round.
const OFFSPRING: i64 = 3_000;

#[test]
fn everything_at_once() {
    let seconds = number_from("ANTHILL_STRESS_SECONDS").unwrap_or(5);
    let fixed = number_from("ANTHILL_SEED");
    let end = Instant::now() + Duration::from_secs(seconds);
    let stop = watch_for_hangs();
    let mut seeds = StdRng::seed_from_u64(fixed.unwrap_or_else(rand::random));
    let (mut rounds, mut total) = (0_u64, Sums::default());
    while rounds == 0 || Instant::now() < end {
        let seed = fixed.unwrap_or_else(|| seeds.random());
        let sums = round(seed);
        assert!(
            !FAILED.load(Ordering::SeqCst),
            "round {rounds} broke a promise, see above; ANTHILL_SEED={seed}"
        );
        rounds += 1;
        total.add(&sums);
    }
    stop.store(true, Ordering::SeqCst);
    eprintln!("{rounds} rounds: {total:?}");
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// What all the rounds did, so that one can see that they do something.
#[derive(Debug, Default)]
struct Sums {
    accepted: u64,
    refused: u64,
    ran: u64,
    panicked: u64,
    discarded: u64,
    workers_started: u64,
    workers_expired: u64,
    steals: u64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.ran += other.ran;
        self.panicked += other.panicked;
        self.discarded += other.discarded;
        self.workers_started += other.workers_started;
        self.workers_expired += other.workers_expired;
        self.steals += other.steals;
    }
}

// ── what is blamed ──────────────────────────────────────────────────────────────────────────────

static FAILED: AtomicBool = AtomicBool::new(false);

/// A promise was broken, somewhere where a panic would be caught by the pool.
#[track_caller]
fn blame(seed: u64, what: impl Display) {
    FAILED.store(true, Ordering::SeqCst);
    let place = std::panic::Location::caller();
    tell(&format!(
        "ANTHILL_SEED={seed}: {what} (line {})",
        place.line()
    ));
}

/// Not by a macro, whose output the harness would capture.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The round that runs now.
static NOW: Mutex<Option<(Instant, Weak<Round>)>> = Mutex::new(None);

/// Aborts the process once a round takes too long; until the returned flag is set.
fn watch_for_hangs() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(200));
            let now = lock(&NOW).clone();
            if let Some((began, round)) = now {
                if began.elapsed() > HANG {
                    tell_hang(&round);
                }
            }
        }
    });
    stop
}

fn tell_hang(round: &Weak<Round>) -> ! {
    let Some(round) = round.upgrade() else {
        tell("a round hangs in its last steps");
        std::process::abort();
    };
    tell(&format!(
        "ANTHILL_SEED={}: hangs while {}; {} closures are left",
        round.seed,
        *lock(&round.doing),
        round.left()
    ));
    // Where a lock of the pool is what hangs, so will whoever asks it.
    let asks = thread::spawn(move || {
        for nest in &round.nests {
            tell(&format!(
                "{:?} {:?} {:?}",
                nest.temper,
                nest.handle,
                nest.handle.stats()
            ));
        }
    });
    let asked = Instant::now();
    while !asks.is_finished() && asked.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(10));
    }
    std::process::abort();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ── a round ─────────────────────────────────────────────────────────────────────────────────────

struct Round {
    seed: u64,
    nests: Vec<Nest>,
    /// How many more tasks may be submitted by tasks.
    offspring: AtomicI64,
    doing: Mutex<&'static str>,
}

/// A pool of the round, and what is expected of it.
struct Nest {
    index: usize,
    temper: Temper,
    handle: PoolHandle,
    owner: Mutex<Option<Pool>>,
    book: Arc<Book>,
}

/// The settings of a pool, and what may be done to it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own, drawn apart from the others"
)]
#[derive(Clone, Debug)]
struct Temper {
    capacity: usize,
    /// The most it is tuned to.
    most: usize,
    /// Only the governor tunes it, and nobody closes it; then the bound is known at each moment.
    governed: bool,
    backlog: Option<usize>,
    overflow: Overflow,
    max_waiting: Option<usize>,
    min_workers: usize,
    /// None: they are kept.
    idle_timeout: Option<Duration>,
    hooks: bool,
    hook_panics: bool,
    handler: bool,
    handler_per_worker: bool,
    /// How often something rare happens: of a thousand.
    closes: u32,
    tunes: u32,
    panics: u32,
}

/// What the round counts of one pool by itself.
#[derive(Debug, Default)]
struct Book {
    seed: u64,
    index: usize,
    made: AtomicU64,
    ran: AtomicU64,
    /// Ran and was dropped.
    ended: AtomicU64,
    /// Dropped by the pool without having run.
    discarded: AtomicU64,
    /// Given back, and dropped by the submitter.
    returned: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    panicked: AtomicU64,
    told: AtomicU64,
    running: AtomicU64,
    /// The largest capacity in force (low half) and the number of its changes (high half).
    law: AtomicU64,
    /// What `release_now` said it discarded.
    discarded_by_release: AtomicU64,
    worker_starts: AtomicU64,
    worker_stops: AtomicU64,
    hook_panics: AtomicU64,
    locals: AtomicUsize,
    /// The newest task started of each outside thread; empty where the order is not promised.
    newest: Vec<AtomicU64>,
    gate: HookGate,
}

/// Hooks submit tasks only while it is open, so that a pool comes to rest.
#[derive(Debug, Default)]
struct HookGate {
    open: AtomicBool,
    inside: AtomicUsize,
    left: AtomicI64,
}

impl HookGate {
    fn pass(&self, f: impl FnOnce()) {
        self.inside.fetch_add(1, Ordering::SeqCst);
        if self.open.load(Ordering::SeqCst) && self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            f();
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

fn round(seed: u64) -> Sums {
    let mut rng = StdRng::seed_from_u64(seed);
    let drivers = rng.random_range(1..=5);
    let pools = rng.random_range(1..=3);
    let round = Arc::new(Round {
        seed,
        nests: (0..pools)
            .map(|index| nest(seed, index, drivers, &mut rng))
            .collect(),
        offspring: AtomicI64::new(rng.random_range(0..OFFSPRING)),
        doing: Mutex::new("its threads work"),
    });
    *lock(&NOW) = Some((Instant::now(), Arc::downgrade(&round)));

    let (done, is_done) = channel();
    let threads: Vec<_> = (0..drivers)
        .map(|driver| {
            let (round, done) = (Arc::clone(&round), done.clone());
            let rng = StdRng::seed_from_u64(rng.random());
            let turns = rng.clone().random_range(1..200);
            let body = move || {
                drive(&round, driver, turns, rng);
                drop(round);
                let _ = done.send(());
            };
            let name = format!("driver-{driver}");
            thread::Builder::new().name(name).spawn(body).unwrap()
        })
        .collect();
    drop(done);
    let mut governor = Governor::of(&round);
    loop {
        match is_done.recv_timeout(Duration::from_micros(300)) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => governor.step(&mut rng),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    for thread in threads {
        if let Err(panic) = thread.join() {
            tell(&format!(
                "ANTHILL_SEED={seed}: a thread of the round panicked"
            ));
            resume_unwind(panic);
        }
    }

    *lock(&round.doing) = "the tasks come to their end";
    for nest in &round.nests {
        nest.book.gate.open.store(false, Ordering::SeqCst);
    }
    let settled = |round: &Round| {
        // In this order: a hook that is through the gate may still make a closure.
        let inside = |nest: &Nest| nest.book.gate.inside.load(Ordering::SeqCst);
        round.nests.iter().all(|nest| inside(nest) == 0) && round.left() == 0
    };
    while !settled(&round) {
        governor.step(&mut rng);
        for nest in &round.nests {
            let _ = nest.handle.wait_idle_timeout(Duration::from_micros(200));
        }
    }
    drop(governor);

    *lock(&round.doing) = "the pools are at rest";
    let mut sums = Sums::default();
    for nest in &round.nests {
        nest.handle.wait_idle();
        check_rest(nest);
        sums.add(&nest.sums());
    }
    *lock(&round.doing) = "the pools end";
    end(round, &mut rng);
    *lock(&NOW) = None;
    sums
}

fn nest(seed: u64, index: usize, drivers: usize, rng: &mut StdRng) -> Nest {
    let temper = Temper::random(rng);
    let in_order = temper.most <= 1;
    let law = if temper.governed {
        temper.capacity
    } else {
        // A release lifts a pause to 1 at least.
        temper.capacity.max(1)
    };
    let book = Arc::new(Book {
        seed,
        index,
        law: AtomicU64::new(law as u64),
        newest: (0..if in_order { drivers } else { 0 })
            .map(|_| AtomicU64::new(0))
            .collect(),
        gate: HookGate {
            open: AtomicBool::new(true),
            left: AtomicI64::new(20),
            ..HookGate::default()
        },
        ..Book::default()
    });
    let pool = temper.build(&book);
    Nest {
        index,
        handle: pool.handle(),
        owner: Mutex::new(Some(pool)),
        temper,
        book,
    }
}

impl Temper {
    fn random(rng: &mut StdRng) -> Temper {
        let most = match rng.random_range(0..10) {
            0..3 => 1,
            3..5 => 2,
            5..9 => rng.random_range(1..=8),
            _ => 40,
        };
        let capacity = rng.random_range(0..=most);
        let backlog = match rng.random_range(0..6) {
            0 | 1 => Some(0),
            2 => Some(1),
            3 => Some(rng.random_range(1..=8)),
            _ => None,
        };
        let overflow = match rng.random_range(0..8) {
            0..4 => Overflow::Block,
            4 => Overflow::Reject,
            5 | 6 => Overflow::CallerRuns,
            _ if backlog == Some(0) => Overflow::Block,
            _ => Overflow::DropOldest,
        };
        let idle_timeout = match rng.random_range(0..5) {
            0 => None,
            1 => Some(Duration::ZERO),
            2 => Some(Duration::from_micros(rng.random_range(1..100))),
            3 => Some(Duration::from_micros(rng.random_range(100..5_000))),
            _ => Some(Duration::MAX),
        };
        let min_workers = if rng.random_bool(0.7) {
            0
        } else {
            rng.random_range(0..=capacity)
        };
        Temper {
            capacity,
            most,
            governed: rng.random_bool(0.3),
            backlog,
            overflow,
            max_waiting: rng.random_bool(0.3).then(|| rng.random_range(0..4)),
            min_workers,
            idle_timeout,
            hooks: rng.random_bool(0.4),
            hook_panics: rng.random_bool(0.2),
            handler: rng.random_bool(0.5),
            handler_per_worker: rng.random_bool(0.3),
            closes: [0, 2, 30][rng.random_range(0..3)],
            tunes: [0, 20, 150][rng.random_range(0..3)],
            panics: [0, 50, 300][rng.random_range(0..3)],
        }
    }

    fn build(&self, book: &Arc<Book>) -> Pool {
        let mut builder = Pool::builder()
            .name(thread_prefix(book.index))
            .capacity(self.capacity)
            .min_workers(self.min_workers)
            .overflow(self.overflow);
        builder = match self.backlog {
            Some(backlog) => builder.backlog(backlog),
            None => builder.unbounded_backlog(),
        };
        builder = match self.idle_timeout {
            Some(timeout) => builder.idle_timeout(timeout),
            None => builder.keep_workers(),
        };
        if let Some(max_waiting) = self.max_waiting {
            builder = builder.max_waiting(max_waiting);
        }
        let panics = self.hook_panics;
        if self.hooks {
            let (starts, stops) = (Arc::clone(book), Arc::clone(book));
            builder = builder
                .on_worker_start(move |_| {
                    starts.worker_starts.fetch_add(1, Ordering::SeqCst);
                    starts.submit_from_hook();
                    starts.panic_in_hook(panics);
                })
                .on_worker_stop(move |_| {
                    stops.worker_stops.fetch_add(1, Ordering::SeqCst);
                    stops.submit_from_hook();
                    stops.panic_in_hook(panics);
                });
        }
        if self.handler {
            let book = Arc::clone(book);
            builder = builder.panic_handler(move |panic| {
                book.told.fetch_add(1, Ordering::SeqCst);
                drop(panic);
                if panics {
                    resume_unwind(Box::new("a handler"));
                }
            });
        }
        if self.handler_per_worker {
            let book = Arc::clone(book);
            builder = builder.panic_handler_per_worker(move |worker| {
                book.panic_in_hook(panics && worker.as_u64() % 2 == 0);
                let (book, mut told) = (Arc::clone(&book), 0_u64);
                move |panic: anthill::TaskPanic| {
                    told += 1;
                    book.told.fetch_add(1, Ordering::SeqCst);
                    if told % 2 == 0 {
                        resume_unwind(panic.into_payload());
                    }
                }
            });
        }
        builder.build().expect("the settings agree")
    }
}

fn thread_prefix(index: usize) -> String {
    format!("stress{index}")
}

impl Book {
    /// Submits to the pool whose hook this is.
    fn submit_from_hook(self: &Arc<Book>) {
        self.gate.pass(|| {
            let pool = PoolHandle::current();
            let Some(pool) = pool else {
                return blame(self.seed, "a hook knows no current pool");
            };
            let job = Job::new(self);
            let state = Arc::clone(&job.state);
            let form = [Form::Submit, Form::Try][usize::from(self.left() % 2 == 0)];
            let may = |kind| matches!(kind, SubmitErrorKind::Closed | SubmitErrorKind::Full);
            self.settle(offer(&pool, form, move || job.run()), &state, may);
        });
    }

    fn panic_in_hook(&self, panics: bool) {
        if panics {
            self.hook_panics.fetch_add(1, Ordering::SeqCst);
            resume_unwind(Box::new("a hook"));
        }
    }

    /// A submit said something; `may` says which refusals are allowed.
    #[track_caller]
    fn settle<F: FnOnce()>(
        &self,
        outcome: Result<(), SubmitError<F>>,
        state: &AtomicU8,
        may: impl FnOnce(SubmitErrorKind) -> bool,
    ) {
        let Err(error) = outcome else {
            self.accepted.fetch_add(1, Ordering::SeqCst);
            return;
        };
        self.refused.fetch_add(1, Ordering::SeqCst);
        let told = error.to_string();
        let (kind, closure) = error.into_parts();
        if !may(kind) {
            blame(self.seed, format_args!("pool {}: {told}", self.index));
        }
        if state.swap(RETURNED, Ordering::SeqCst) != FRESH {
            blame(self.seed, "a closure was refused and used");
        }
        // It can be called as well as dropped.
        if self.refused.load(Ordering::Relaxed) % 2 == 0 {
            let _ = catch_unwind(AssertUnwindSafe(closure));
        } else {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(closure)));
        }
        if state.load(Ordering::SeqCst) != ENDED {
            blame(self.seed, "a refused closure was not all given back");
        }
    }

    fn left(&self) -> u64 {
        let over = [&self.ended, &self.discarded, &self.returned]
            .map(|count| count.load(Ordering::SeqCst))
            .iter()
            .sum();
        self.made.load(Ordering::SeqCst).saturating_sub(over)
    }

    fn raise_law(&self, capacity: usize) {
        let _ = self
            .law
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |law| {
                let (changes, most) = (law >> 32, law & u64::from(u32::MAX));
                (capacity as u64 > most).then_some((changes + 1) << 32 | capacity as u64)
            });
    }

    fn set_law(&self, capacity: usize) {
        let changes = self.law.load(Ordering::SeqCst) >> 32;
        self.law
            .store((changes + 1) << 32 | capacity as u64, Ordering::SeqCst);
    }
}

impl Round {
    fn left(&self) -> u64 {
        self.nests.iter().map(|nest| nest.book.left()).sum()
    }

    fn any(&self, rng: &mut StdRng) -> &Nest {
        &self.nests[rng.random_range(0..self.nests.len())]
    }
}

// ── tasks ───────────────────────────────────────────────────────────────────────────────────────

const FRESH: u8 = 0;
const RUN: u8 = 1;
const RETURNED: u8 = 2;
const ENDED: u8 = 3;

/// What a closure captures: it tells the book what became of it.
struct Job {
    book: Arc<Book>,
    state: Arc<AtomicU8>,
    work: Option<Work>,
    /// The outside thread that submits it, and the how manyeth of its tasks it is.
    order: Option<(usize, u64)>,
    panics: Panics,
}

struct Work {
    round: Arc<Round>,
    rng: StdRng,
    /// How many generations of tasks may follow.
    generations: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Panics {
    Never,
    InTheTask,
    InTheDrop,
}

impl Job {
    fn new(book: &Arc<Book>) -> Job {
        book.made.fetch_add(1, Ordering::SeqCst);
        Job {
            book: Arc::clone(book),
            state: Arc::new(AtomicU8::new(FRESH)),
            work: None,
            order: None,
            panics: Panics::Never,
        }
    }

    fn run(mut self) {
        match self.state.load(Ordering::SeqCst) {
            FRESH => self.state.store(RUN, Ordering::SeqCst),
            RETURNED => return,
            _ => return blame(self.book.seed, "a task ran twice"),
        }
        self.book.ran.fetch_add(1, Ordering::SeqCst);
        if self.panics != Panics::Never {
            self.book.panicked.fetch_add(1, Ordering::SeqCst);
        }
        let work = self.work.take();
        let by_worker = on_worker_of(self.book.index);
        let _inside = by_worker.then(|| {
            keep_a_local(&self.book);
            self.check_order();
            Inside::enter(&self.book)
        });
        if let Some(work) = work {
            work.go(self.book.index);
        }
        if self.panics == Panics::InTheTask {
            resume_unwind(Box::new("a task"));
        }
    }

    fn check_order(&self) {
        let Some((driver, number)) = self.order else {
            return;
        };
        if let Some(newest) = self.book.newest.get(driver) {
            let before = newest.swap(number, Ordering::SeqCst);
            if before >= number {
                let index = self.book.index;
                let what = format!("pool {index}: task {number} started after {before}");
                blame(self.book.seed, what);
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // What it holds of the round goes first: once its end is counted nothing of it is left.
        self.work = None;
        let count = match self.state.swap(ENDED, Ordering::SeqCst) {
            FRESH => &self.book.discarded,
            RUN => &self.book.ended,
            RETURNED => &self.book.returned,
            _ => return blame(self.book.seed, "a closure was dropped twice"),
        };
        count.fetch_add(1, Ordering::SeqCst);
        if self.panics == Panics::InTheDrop && !thread::panicking() {
            resume_unwind(Box::new("a drop"));
        }
    }
}

/// Whether this thread is one of the pool's: its name says so, since hooks may not have run.
fn on_worker_of(index: usize) -> bool {
    let thread = thread::current();
    let name = thread.name().unwrap_or_default();
    let rest = name.strip_prefix(&thread_prefix(index));
    rest.is_some_and(|rest| rest.starts_with('-'))
}

/// Counts a running task, and blames the pool for one too many.
struct Inside<'a>(&'a Book);

impl Inside<'_> {
    fn enter(book: &Book) -> Inside<'_> {
        let before = book.law.load(Ordering::SeqCst);
        let now = book.running.fetch_add(1, Ordering::SeqCst) + 1;
        let after = book.law.load(Ordering::SeqCst);
        let most = after & u64::from(u32::MAX);
        if before == after && now > most {
            let index = book.index;
            blame(
                book.seed,
                format!("pool {index}: {now} tasks run at capacity {most}"),
            );
        }
        Inside(book)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A thread-local of a worker, which has to be gone when the pool is released.
struct Local(Arc<Book>);

impl Drop for Local {
    fn drop(&mut self) {
        self.0.submit_from_hook();
        self.0.locals.fetch_sub(1, Ordering::SeqCst);
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

fn keep_a_local(book: &Arc<Book>) {
    LOCAL.with(|local| {
        let mut local = local.borrow_mut();
        if local.is_none() {
            book.locals.fetch_add(1, Ordering::SeqCst);
            *local = Some(Local(Arc::clone(book)));
        }
    });
}

impl Work {
    /// What a task does.
    fn go(mut self, here: usize) {
        let steps = match self.rng.random_range(0..10) {
            0..5 => 0,
            5..8 => 1,
            _ => self.rng.random_range(1..6),
        };
        for _ in 0..steps {
            self.step(here);
        }
        for _ in 0..self.rng.random_range(0..200) {
            spin_loop();
        }
        if self.rng.random_bool(0.1) {
            thread::yield_now();
        }
    }

    fn step(&mut self, here: usize) {
        let round = Arc::clone(&self.round);
        let rng = &mut self.rng;
        if rng.random_bool(0.2) {
            return disturb(round.any(rng), rng, Site::Task);
        }
        if self.generations == 0 || round.offspring.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return;
        }
        let home = rng.random_bool(0.7);
        let nest = if home {
            &round.nests[here]
        } else {
            round.any(rng)
        };
        // Pools whose tasks wait for room in one another could stand still: only upwards.
        let form = match Form::random(rng) {
            Form::Submit if nest.index < here => Form::Try,
            form => form,
        };
        let work = Work {
            round: Arc::clone(&round),
            rng: StdRng::seed_from_u64(rng.random()),
            generations: self.generations - 1,
        };
        let inside = nest.index == here;
        submit(nest, form, work, inside, None);
    }
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Submit,
    Try,
    Timeout(Duration),
}

impl Form {
    fn random(rng: &mut StdRng) -> Form {
        match rng.random_range(0..10) {
            0..5 => Form::Submit,
            5..8 => Form::Try,
            _ => Form::Timeout(Duration::from_micros(match rng.random_range(0..3) {
                0 => 0,
                1 => rng.random_range(1..100),
                _ => rng.random_range(100..2_000),
            })),
        }
    }

    /// Which refusals the contract knows.
    fn may(self, temper: &Temper, inside: bool, kind: SubmitErrorKind) -> bool {
        let waits = !inside;
        let limits = temper.max_waiting.is_some();
        match (self, kind) {
            (_, SubmitErrorKind::Closed) | (Form::Try, SubmitErrorKind::Full) => true,
            (Form::Submit, SubmitErrorKind::Full) => temper.overflow == Overflow::Reject,
            (Form::Submit, SubmitErrorKind::TooManyWaiting) => {
                waits && limits && temper.overflow != Overflow::Reject
            }
            (Form::Timeout(_), SubmitErrorKind::TooManyWaiting) => waits && limits,
            (Form::Timeout(_), SubmitErrorKind::TimedOut) => waits,
            _ => false,
        }
    }
}

fn offer<F>(pool: &PoolHandle, form: Form, closure: F) -> Result<(), SubmitError<F>>
where
    F: FnOnce() + Send + 'static,
{
    match form {
        Form::Submit => pool.submit(closure),
        Form::Try => pool.try_submit(closure),
        Form::Timeout(timeout) => pool.submit_timeout(closure, timeout),
    }
}

/// Submits a task, small or large, and looks what became of it.
fn submit(nest: &Nest, form: Form, mut work: Work, inside: bool, order: Option<(usize, u64)>) {
    let (temper, book) = (&nest.temper, &nest.book);
    let mut job = Job::new(book);
    job.order = order;
    job.panics = if work.rng.random_ratio(temper.panics, 1_000) {
        [Panics::InTheTask, Panics::InTheDrop][work.rng.random_range(0..2)]
    } else {
        Panics::Never
    };
    let state = Arc::clone(&job.state);
    let may = |kind| form.may(temper, inside, kind);
    let small = work.rng.random();
    let mark: u64 = work.rng.random();
    job.work = Some(work);
    if small {
        let job = Box::new(job);
        book.settle(offer(&nest.handle, form, move || job.run()), &state, may);
    } else {
        let cargo = [mark; 20];
        let closure = move || {
            if cargo.iter().any(|&word| word != mark) {
                blame(job.book.seed, "a closure was damaged");
            }
            job.run();
        };
        book.settle(offer(&nest.handle, form, closure), &state, may);
    }
}

// ── threads outside ─────────────────────────────────────────────────────────────────────────────

/// What one of the round's threads does.
fn drive(round: &Arc<Round>, driver: usize, turns: u32, mut rng: StdRng) {
    let mut handles: Vec<PoolHandle> = Vec::new();
    for turn in 0..turns {
        let nest = round.any(&mut rng);
        match rng.random_range(0..100) {
            0..70 => {
                let work = Work {
                    round: Arc::clone(round),
                    rng: StdRng::seed_from_u64(rng.random()),
                    generations: rng.random_range(0..4),
                };
                let order = Some((driver, u64::from(turn) + 1));
                submit(nest, Form::random(&mut rng), work, false, order);
            }
            70..78 => {
                handles.push(nest.handle.clone());
                if handles.len() > 5 {
                    handles.swap_remove(rng.random_range(0..5));
                }
            }
            78..80 => nest.handle.wait_idle(),
            _ => disturb(nest, &mut rng, Site::Outside),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Site {
    Outside,
    Task,
}

/// All that is not a submit, for threads and for tasks.
fn disturb(nest: &Nest, rng: &mut StdRng, site: Site) {
    let Nest { temper, handle, .. } = nest;
    let short = Duration::from_micros(rng.random_range(0..300));
    if rng.random_ratio(temper.tunes, 1_000) && !temper.governed {
        let capacity = rng.random_range(0..=temper.most);
        nest.book.raise_law(capacity);
        handle.tune(capacity);
        return;
    }
    if rng.random_ratio(temper.closes, 1_000) && !temper.governed {
        match rng.random_range(0..20) {
            0..6 => handle.release(),
            6..12 => {
                let discarded = handle.release_now() as u64;
                let by_release = &nest.book.discarded_by_release;
                by_release.fetch_add(discarded, Ordering::SeqCst);
            }
            12..18 => {
                let _ = handle.release_timeout(short);
            }
            18 => {
                let owner = lock(&nest.owner).take();
                drop(owner);
            }
            _ => {
                let owner = lock(&nest.owner).take();
                drop(owner.map(Pool::detach));
            }
        }
        return;
    }
    match rng.random_range(0..6) {
        0 | 1 => {
            handle.reboot();
        }
        2 => {
            let _ = handle.wait_idle_timeout(short);
        }
        3 => check_gauges(nest),
        4 => {
            let text = format!("{handle:?}");
            if !text.contains("capacity") {
                blame(nest.book.seed, text);
            }
        }
        _ => {
            let current = PoolHandle::current();
            if current.is_some() != (site == Site::Task) {
                blame(nest.book.seed, format!("the current pool is {current:?}"));
            }
        }
    }
}

/// What can be said of the gauges while everything goes on.
fn check_gauges(nest: &Nest) {
    let Nest { temper, handle, .. } = nest;
    let stats = handle.stats();
    let gauges = [
        handle.workers(),
        handle.idle(),
        handle.running(),
        handle.queued(),
        handle.waiting(),
    ];
    let capacity = handle.capacity();
    let most = temper.most.max(1);
    if capacity > most || handle.free() > most || stats.workers_peak > most {
        blame(
            nest.book.seed,
            format!("capacity {capacity}, at most {most}; {gauges:?}; {stats:?}"),
        );
    }
}

// ── the governor ────────────────────────────────────────────────────────────────────────────────

/// Sees to it that no pool stays paused or closed for ever, and alone tunes those it governs.
struct Governor<'a> {
    nests: Vec<&'a Nest>,
    /// The capacity a governed pool was tuned to, until no more tasks run in it.
    sinking: Vec<Option<usize>>,
}

impl<'a> Governor<'a> {
    fn of(round: &'a Round) -> Governor<'a> {
        Governor {
            nests: round.nests.iter().collect(),
            sinking: vec![None; round.nests.len()],
        }
    }

    fn step(&mut self, rng: &mut StdRng) {
        for (nest, sinking) in self.nests.iter().zip(&mut self.sinking) {
            let Nest { temper, handle, .. } = nest;
            if !temper.governed {
                if handle.capacity() == 0 || rng.random_bool(0.02) {
                    let capacity = rng.random_range(1..=temper.most);
                    nest.book.raise_law(capacity);
                    handle.tune(capacity);
                }
                if rng.random_bool(0.3) {
                    handle.reboot();
                }
                continue;
            }
            // From here on no more may run: what ran when it was tuned is over.
            if sinking.is_some_and(|capacity| handle.running() <= capacity) {
                nest.book.set_law(sinking.take().unwrap_or_default());
            }
            if handle.capacity() == 0 || rng.random_bool(0.2) {
                let lowest = usize::from(rng.random_bool(0.8));
                let capacity = rng.random_range(lowest..=temper.most);
                nest.book.raise_law(capacity);
                handle.tune(capacity);
                *sinking = Some(capacity);
            }
        }
    }
}

// ── the end ─────────────────────────────────────────────────────────────────────────────────────

fn check_rest(nest: &Nest) {
    let Nest { handle, book, .. } = nest;
    let stats = handle.stats();
    let gauges = (handle.running(), handle.queued(), handle.waiting());
    let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
    let mut wrong = Vec::new();
    let mut check = |what: &'static str, holds: bool| {
        if !holds {
            wrong.push(what);
        }
    };
    check("gauges", gauges == (0, 0, 0));
    check("gauges in stats", (stats.running, stats.queued) == (0, 0));
    // Workers may still come and go, so only a reading between two equal ones tells.
    let (before, idle) = (handle.workers(), handle.idle());
    check("idle", idle == before || before != handle.workers());
    check("balance", balances(&stats));
    check("submitted", stats.submitted == count(&book.accepted));
    check("rejected", stats.rejected == count(&book.refused));
    check("ran", stats.completed + stats.panicked == count(&book.ran));
    check("ended", count(&book.ran) == count(&book.ended));
    check("panicked", stats.panicked == count(&book.panicked));
    check("cancelled", stats.cancelled == 0);
    check("discarded", stats.discarded == count(&book.discarded));
    check("returned", stats.rejected == count(&book.returned));
    let by_release = count(&book.discarded_by_release);
    check("release_now", by_release <= stats.discarded);
    check(
        "told",
        !nest.temper.handler || count(&book.told) == stats.panicked,
    );
    check("running", count(&book.running) == 0);
    if !wrong.is_empty() {
        let temper = &nest.temper;
        let what = format!("{wrong:?} wrong at rest: {handle:?} {stats:?} {book:?} {temper:?}");
        blame(book.seed, what);
    }
}

fn balances(stats: &Stats) -> bool {
    stats.submitted == stats.completed + stats.panicked + stats.cancelled + stats.discarded
}

impl Nest {
    fn sums(&self) -> Sums {
        let stats = self.handle.stats();
        Sums {
            accepted: stats.submitted,
            refused: stats.rejected,
            ran: stats.completed + stats.panicked,
            panicked: stats.panicked,
            discarded: stats.discarded,
            workers_started: stats.workers_started,
            workers_expired: stats.workers_expired,
            steals: stats.steals,
        }
    }
}

/// Ends the pools, each in its own way; then nothing of them is left.
fn end(round: Arc<Round>, rng: &mut StdRng) {
    let seed = round.seed;
    let Ok(round) = Arc::try_unwrap(round) else {
        return blame(seed, "somebody still holds what tasks captured");
    };
    for nest in round.nests {
        let Nest {
            temper,
            handle,
            owner,
            book,
            ..
        } = nest;
        let owner = owner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let joins = match rng.random_range(0..4) {
            0 => {
                drop(owner);
                // Where it was dropped before, on a worker say, it may still end.
                handle.release_timeout(Duration::MAX).is_ok()
            }
            1 => handle.release_timeout(Duration::MAX).is_ok(),
            2 => {
                handle.release_now();
                handle.release_timeout(Duration::MAX).is_ok()
            }
            _ => {
                drop(owner.map(Pool::detach));
                drop(handle);
                continue_until_gone(seed, book.index);
                continue;
            }
        };
        let stats = handle.stats();
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let hooks_ran = !temper.hooks
            || (count(&book.worker_starts) == stats.workers_started
                && count(&book.worker_stops) == stats.workers_started);
        let locals = book.locals.load(Ordering::SeqCst);
        if !joins
            || handle.workers() != 0
            || locals != 0
            || !hooks_ran
            || stats.hook_panics != count(&book.hook_panics)
            || !balances(&stats)
        {
            blame(
                seed,
                format!("wrong after the end: {handle:?} {stats:?} {book:?} {temper:?}"),
            );
        }
        continue_until_gone(seed, book.index);
    }
}

/// Waits until the system has no more threads of a pool. The system may still show a thread for a
/// moment after it was joined.
fn continue_until_gone(seed: u64, index: usize) {
    #[cfg(target_os = "linux")]
    {
        let prefix = format!("{}-", thread_prefix(index));
        if !support::becomes_true(support::DEADLINE, || {
            support::linux::threads_named(&prefix) == 0
        }) {
            blame(seed, format!("threads of pool {index} are left"));
        }
    }
    let _ = (seed, index);
}
