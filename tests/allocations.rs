//! What a submit allocates: nothing for a closure of up to three words, one box for a larger one.
//!
//! The allocator of this binary counts, so the tests run one at a time. The queue takes a block for
//! many tasks at once, which is why the limits are averages.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anthill::{Pool, PoolHandle};
use support::{expect_accepted, occupy, receive};

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn count() {
    if COUNTS.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` or `realloc`, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`; the new size is the caller's.
        unsafe { System.realloc(pointer, layout, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

const TASKS: usize = 10_000;

/// The allocations of one of `TASKS` tasks, on average: of all threads, while `run` runs a second
/// time. The first time is for what is allocated once.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn allocations_a_task(mut run: impl FnMut()) -> f64 {
    run();
    ALLOCATIONS.store(0, Ordering::SeqCst);
    COUNTS.store(true, Ordering::SeqCst);
    run();
    COUNTS.store(false, Ordering::SeqCst);
    ALLOCATIONS.load(Ordering::SeqCst) as f64 / TASKS as f64
}

/// Submits tasks whose closures are `WORDS` words large, and waits until they are over.
fn submit_closures_of<const WORDS: usize>(pool: &PoolHandle, sum: &'static AtomicUsize) {
    for number in 0..TASKS {
        let words = [number; WORDS];
        let task = move || {
            sum.fetch_add(std::hint::black_box(words).len(), Ordering::Relaxed);
        };
        // The reference to a static that the closure names is a word of it as well.
        assert_eq!(size_of_val(&task), (WORDS + 1) * size_of::<usize>());
        expect_accepted(pool.submit(task));
    }
    pool.wait_idle();
}

static SUM: AtomicUsize = AtomicUsize::new(0);

const NONE_OF_ITS_OWN: f64 = 0.1;

#[track_caller]
fn assert_allocates_nothing_for_three_words_and_one_box_for_four(pool: &PoolHandle, what: &str) {
    let _alone = one_at_a_time();
    for words in [0, 1, 2] {
        let average = allocations_a_task(|| match words {
            0 => submit_closures_of::<0>(pool, &SUM),
            1 => submit_closures_of::<1>(pool, &SUM),
            _ => submit_closures_of::<2>(pool, &SUM),
        });
        let words = words + 1;
        assert!(
            average < NONE_OF_ITS_OWN,
            "{what}, {words} words: {average} a task"
        );
    }
    for words in [4, 8] {
        let average = allocations_a_task(|| match words {
            4 => submit_closures_of::<3>(pool, &SUM),
            _ => submit_closures_of::<7>(pool, &SUM),
        });
        let one = 0.99..1.0 + NONE_OF_ITS_OWN;
        assert!(
            one.contains(&average),
            "{what}, {words} words: {average} a task"
        );
    }
}

#[test]
fn with_an_unbounded_backlog() {
    for capacity in [1, 2] {
        let pool = Pool::builder()
            .capacity(capacity)
            .unbounded_backlog()
            .keep_workers()
            .build()
            .unwrap();
        assert_allocates_nothing_for_three_words_and_one_box_for_four(&pool, "unbounded backlog");
    }
}

#[test]
fn with_a_bounded_backlog() {
    let pool = Pool::builder()
        .capacity(2)
        .backlog(100)
        .keep_workers()
        .build()
        .unwrap();
    assert_allocates_nothing_for_three_words_and_one_box_for_four(&pool, "backlog of 100");
}

/// Without a backlog the submitter waits for room nearly each time.
#[test]
fn without_a_backlog() {
    for capacity in [1, 2] {
        let pool = Pool::builder()
            .capacity(capacity)
            .keep_workers()
            .build()
            .unwrap();
        assert_allocates_nothing_for_three_words_and_one_box_for_four(&pool, "no backlog");
    }
}

/// Each submit finds the only worker busy, gets in line, parks, and is let in.
#[test]
fn when_each_submitter_waits() {
    let _alone = one_at_a_time();
    let pool = Pool::builder().capacity(1).keep_workers().build().unwrap();
    let (sender, receiver) = sync_channel::<()>(1);
    let receiver = Arc::new(Mutex::new(receiver));
    let waited = AtomicUsize::new(0);
    let average = allocations_a_task(|| {
        std::thread::scope(|scope| {
            let (pool, waited, receiver) = (&pool, &waited, &receiver);
            scope.spawn(move || {
                for _ in 0..TASKS {
                    let receiver = Arc::clone(receiver);
                    expect_accepted(pool.submit(move || {
                        receive("the turn", &receiver.lock().unwrap());
                    }));
                }
            });
            for _ in 0..TASKS {
                // Gives the submitter the time to get in line behind the task that runs.
                for _ in 0..50 {
                    if pool.waiting() > 0 {
                        waited.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    std::thread::yield_now();
                }
                sender.send(()).expect("the receiver lives");
            }
        });
        pool.wait_idle();
    });
    assert!(
        waited.into_inner() > TASKS / 10,
        "the test means to make submitters wait"
    );
    assert!(average < NONE_OF_ITS_OWN, "{average} a task");
}

#[test]
fn when_tasks_submit_tasks() {
    fn spread(pool: &'static PoolHandle, depth: u32) {
        if depth > 0 {
            for _ in 0..10 {
                expect_accepted(pool.submit(move || spread(pool, depth - 1)));
            }
        }
    }
    let _alone = one_at_a_time();
    for capacity in [1, 2] {
        let pool = Pool::builder()
            .capacity(capacity)
            .keep_workers()
            .build()
            .unwrap();
        // Leaked, so that the closures own nothing.
        let handle: &'static PoolHandle = Box::leak(Box::new(pool.handle()));
        let average = allocations_a_task(|| {
            // 10,000 of them have no children.
            spread(handle, 4);
            handle.wait_idle();
        });
        // The deques grow by doubling, and give room back.
        assert!(average < NONE_OF_ITS_OWN, "{average} a task");
    }
}

#[test]
fn of_a_refused_try_submit() {
    let _alone = one_at_a_time();
    let pool = Pool::with_capacity(1);
    let occupied = occupy(&pool, 1);
    let average = allocations_a_task(|| {
        for number in 0..TASKS {
            let words = [number; 2];
            let result = pool.try_submit(move || {
                std::hint::black_box(words);
            });
            assert!(result.is_err());
        }
    });
    assert!(average < NONE_OF_ITS_OWN, "{average} a task");
    drop(occupied);
}

/// The counter counts at all.
#[test]
fn a_box_is_one_allocation() {
    let _alone = one_at_a_time();
    let average = allocations_a_task(|| {
        for number in 0..TASKS {
            drop(std::hint::black_box(Box::new(number)));
        }
    });
    assert!((0.99..1.01).contains(&average), "{average}");
}
