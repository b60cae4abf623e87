//! All kinds of submitters at once, in one line: those that wait, try, give up after a time, are called off, hand in
//! many tasks, or await room; while the capacity changes and the pool is closed and opened.
//!
//! Every task is counted as it is made, as it runs, and as it is dropped unrun, and the books of the pool must say the
//! same. Where one task runs at a time each submitter's tasks run in order. The seed is printed.

mod support;

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anthill::{Overflow, Pool, PoolHandle, Stats, StopSource};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{assert_at_rest, seeded_rng, within};

const SUBMITTERS: usize = 5;

/// What became of all tasks.
#[derive(Debug, Default)]
struct Book {
    made: AtomicU64,
    ran: AtomicU64,
    unrun: AtomicU64,
    /// As the submits said.
    accepted: AtomicU64,
    refused: AtomicU64,
    /// Of futures that were dropped, accepted or not.
    withdrawn: AtomicU64,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// The number of the last task that ran, for each submitter.
    last: Mutex<[u64; SUBMITTERS]>,
    disordered: AtomicU64,
}

fn add(count: &AtomicU64, tasks: usize) {
    count.fetch_add(tasks as u64, Ordering::SeqCst);
}

impl Book {
    /// Counts what a submit said of one task.
    fn settle<E>(&self, submitted: &Result<(), E>) {
        match submitted {
            Ok(()) => add(&self.accepted, 1),
            Err(_) => add(&self.refused, 1),
        }
    }
}

/// What a task captures.
struct Piece {
    book: Arc<Book>,
    submitter: usize,
    number: u64,
    ran: bool,
}

impl Piece {
    fn run(mut self) {
        self.ran = true;
        let book = &self.book;
        let running = book.running.fetch_add(1, Ordering::SeqCst) + 1;
        book.most_running.fetch_max(running, Ordering::SeqCst);
        {
            let mut last = book.last.lock().unwrap();
            if last[self.submitter] >= self.number {
                add(&book.disordered, 1);
            }
            last[self.submitter] = self.number;
        }
        if self.number % 64 == 0 {
            thread::yield_now();
        }
        book.running.fetch_sub(1, Ordering::SeqCst);
        add(&book.ran, 1);
        if self.number % 97 == 0 {
            // On purpose, without a word.
            resume_unwind(Box::new(()));
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if !self.ran {
            add(&self.book.unrun, 1);
        }
    }
}

struct Submitter {
    pool: PoolHandle,
    book: Arc<Book>,
    stop: Arc<Mutex<StopSource>>,
    number: usize,
    made: u64,
    rng: StdRng,
}

impl Submitter {
    fn task(&mut self) -> impl FnOnce() + Send + use<> {
        self.made += 1;
        add(&self.book.made, 1);
        let piece = Piece {
            book: Arc::clone(&self.book),
            submitter: self.number,
            number: self.made,
            ran: false,
        };
        move || piece.run()
    }

    fn turn(&mut self) {
        let (pool, book) = (self.pool.clone(), Arc::clone(&self.book));
        match self.rng.random_range(0..6) {
            0 => book.settle(&pool.submit(self.task())),
            1 => book.settle(&pool.try_submit(self.task())),
            2 => {
                let timeout = Duration::from_micros(self.rng.random_range(0..300));
                book.settle(&pool.submit_timeout(self.task(), timeout));
            }
            3 => {
                let stop = self.stop.lock().unwrap().token();
                book.settle(&pool.submit_cancellable(self.task(), &stop));
            }
            4 => self.submit_all(&pool, &book),
            _ => self.submit_async(&pool, &book),
        }
    }

    fn submit_all(&mut self, pool: &PoolHandle, book: &Book) {
        let tasks = match self.rng.random_range(0..3) {
            0 => self.rng.random_range(0..4),
            1 => self.rng.random_range(0..80),
            _ => 64,
        };
        let one_by_one = self.rng.random_bool(0.2);
        let mut left = tasks;
        let one = |_| self.task();
        let submitted = if one_by_one {
            let all = std::iter::from_fn(|| {
                left = usize::checked_sub(left, 1)?;
                Some(left)
            });
            pool.submit_all(all.map(one))
        } else {
            pool.submit_all((0..tasks).map(one))
        };
        match submitted {
            Ok(accepted) => {
                assert_eq!(accepted, tasks);
                add(&book.accepted, accepted);
            }
            Err(refused) => {
                add(&book.accepted, refused.accepted());
                let (accepted, rest) = (refused.accepted(), refused.into_rest().len());
                assert_eq!(accepted + rest, tasks);
                add(&book.refused, rest);
            }
        }
    }

    #[cfg(feature = "futures")]
    fn submit_async(&mut self, pool: &PoolHandle, book: &Book) {
        use std::pin::Pin;
        use std::task::{Context, Poll, Waker};

        let mut future = pool.submit_async(self.task());
        if self.rng.random_bool(0.5) {
            return book.settle(&futures::executor::block_on(future));
        }
        for _ in 0..self.rng.random_range(0..4) {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(submitted) = Pin::new(&mut future).poll(&mut context) {
                return book.settle(&submitted);
            }
            thread::yield_now();
        }
        drop(future);
        add(&book.withdrawn, 1);
    }

    #[cfg(not(feature = "futures"))]
    fn submit_async(&mut self, pool: &PoolHandle, book: &Book) {
        book.settle(&pool.submit(self.task()));
    }
}

/// How a round's pool is.
#[derive(Clone, Copy, Debug)]
struct Temper {
    most: usize,
    backlog: Option<usize>,
    overflow: Overflow,
    max_waiting: usize,
    closes: bool,
}

impl Temper {
    fn random(rng: &mut StdRng) -> Temper {
        let backlog = match rng.random_range(0..5) {
            0 => None,
            1 | 2 => Some(0),
            _ => Some(rng.random_range(1..70)),
        };
        let overflow = match rng.random_range(0..8) {
            0 => Overflow::Reject,
            1 => Overflow::CallerRuns,
            2 if backlog != Some(0) => Overflow::DropOldest,
            _ => Overflow::Block,
        };
        Temper {
            most: rng.random_range(1..=4),
            backlog,
            overflow,
            max_waiting: if rng.random_bool(0.2) { 2 } else { usize::MAX },
            closes: rng.random_bool(0.3),
        }
    }

    fn build(self) -> Pool {
        let builder = Pool::builder()
            .capacity(self.most)
            .overflow(self.overflow)
            .max_waiting(self.max_waiting)
            .panic_handler(|_| {});
        let builder = match self.backlog {
            Some(backlog) => builder.backlog(backlog),
            None => builder.unbounded_backlog(),
        };
        builder.build().unwrap()
    }
}

/// Tunes, closes and opens the pool, and gives the signal, until `over`; then the pool is open and not paused.
fn disturb(pool: &Pool, temper: Temper, stop: &Mutex<StopSource>, over: &AtomicBool, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !over.load(Ordering::SeqCst) {
        match rng.random_range(0..10) {
            0..3 => _ = pool.tune(rng.random_range(0..=temper.most)),
            3 | 4 => {
                let source = std::mem::take(&mut *stop.lock().unwrap());
                source.stop();
            }
            5 if temper.closes => {
                pool.release();
            }
            6 if temper.closes => {
                pool.release_now();
            }
            _ => {
                let _ = (pool.waiting(), pool.stats());
            }
        }
        thread::sleep(Duration::from_micros(rng.random_range(0..100)));
        pool.reboot();
        if pool.capacity() == 0 {
            pool.tune(rng.random_range(1..=temper.most));
        }
    }
}

fn round(temper: Temper, turns: usize, rng: &mut StdRng) {
    let pool = temper.build();
    let book = Arc::new(Book::default());
    let stop = Arc::new(Mutex::new(StopSource::new()));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let submitters: Vec<_> = (0..SUBMITTERS)
            .map(|number| {
                let mut submitter = Submitter {
                    pool: pool.handle(),
                    book: Arc::clone(&book),
                    stop: Arc::clone(&stop),
                    number,
                    made: 0,
                    rng: StdRng::seed_from_u64(rng.random()),
                };
                scope.spawn(move || (0..turns).for_each(|_| submitter.turn()))
            })
            .collect();
        let seed = rng.random();
        let (pool, stop, over) = (&pool, &stop, &over);
        let disturber = scope.spawn(move || disturb(pool, temper, stop, over, seed));
        for submitter in submitters {
            submitter.join().unwrap();
        }
        over.store(true, Ordering::SeqCst);
        disturber.join().unwrap();
    });
    pool.wait_idle();
    assert_at_rest(&pool);
    check(&book, &pool.stats(), temper);
    pool.release();
    assert!(pool.release_timeout(support::DEADLINE).is_ok());
}

#[track_caller]
fn check(book: &Book, stats: &Stats, temper: Temper) {
    let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
    let what = format!("{book:?} {stats:?} {temper:?}");
    // Of the futures that were dropped, some were let in.
    let late = stats.submitted.checked_sub(count(&book.accepted));
    let late = late.unwrap_or_else(|| panic!("not all counted: {what}"));
    let withdrawn = count(&book.withdrawn).checked_sub(late);
    let withdrawn = withdrawn.unwrap_or_else(|| panic!("too many counted: {what}"));
    assert_eq!(
        count(&book.made),
        count(&book.ran) + count(&book.unrun),
        "{what}"
    );
    assert_eq!(count(&book.ran), stats.completed + stats.panicked, "{what}");
    assert_eq!(stats.rejected, count(&book.refused), "{what}");
    assert_eq!(
        count(&book.unrun),
        count(&book.refused) + stats.discarded + withdrawn,
        "{what}"
    );
    let (outside, most) = (temper.overflow == Overflow::CallerRuns, &book.most_running);
    let within_bound = most.load(Ordering::SeqCst) <= temper.most;
    assert!(outside || within_bound, "{what}");
    let in_order = temper.most > 1 || outside || count(&book.disordered) == 0;
    assert!(in_order, "{what}");
}

#[test]
fn every_task_runs_or_comes_back_once_whoever_submits_it() {
    let mut rng = seeded_rng("stress_line");
    within(Duration::from_secs(120), "all rounds", move || {
        for _ in 0..60 {
            let temper = Temper::random(&mut rng);
            round(temper, 60, &mut rng);
        }
    });
}
