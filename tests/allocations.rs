//! What tasks take of the memory.
//!
//! A submit allocates nothing for a closure of up to three words, and one box for a larger one; a spawn
//! makes one allocation for task and result together (R3). And what was cancelled leaves nothing behind,
//! however much of it there was and whatever the pool does meanwhile.
//!
//! The allocator of this binary counts, so the tests run one at a time. The queue takes a block for
//! many tasks at once, which is why the limits are averages.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anthill::{Balance, FuncPool, JoinHandle, MultiFuncPool, Pool, PoolHandle};
use support::{expect_accepted, occupy, receive, spawned, within};

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Bytes allocated and not freed.
static LIVE: AtomicUsize = AtomicUsize::new(0);

fn grow(from: usize, to: usize) {
    LIVE.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
}

fn count() {
    if COUNTS.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        grow(0, layout.size());
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        grow(layout.size(), 0);
        // SAFETY: the pointer came from `alloc` or `realloc`, that is, from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        count();
        grow(layout.size(), new);
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

/// Together, too: a chunk takes a buffer, and one for each time that it waits in line.
#[test]
fn many_at_once_allocate_hardly_anything() {
    let _alone = one_at_a_time();
    for (capacity, backlog) in [(2, None), (2, Some(0)), (2, Some(100))] {
        let builder = Pool::builder().capacity(capacity).keep_workers();
        let pool = match backlog {
            Some(backlog) => builder.backlog(backlog),
            None => builder.unbounded_backlog(),
        };
        let pool = pool.build().unwrap();
        let average = allocations_a_task(|| {
            let task = |number: usize| move || _ = SUM.fetch_add(number, Ordering::Relaxed);
            assert_eq!(pool.submit_all((0..TASKS).map(task)).ok(), Some(TASKS));
            pool.wait_idle();
        });
        assert!(average < NONE_OF_ITS_OWN, "{backlog:?}: {average} a task");
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

/// The same for several pools as one.
#[test]
fn of_a_call_of_several_pools_function() {
    fn average<const WORDS: usize>() -> f64 {
        let pools = MultiFuncPool::builder(2, Balance::LeastLoaded, |words: [usize; WORDS]| {
            SUM.fetch_add(std::hint::black_box(words).len(), Ordering::Relaxed);
        });
        let pools = pools.capacity(1).backlog(100).keep_workers();
        let pools = pools.build().unwrap();
        allocations_a_task(|| {
            for number in 0..TASKS {
                pools.invoke([number; WORDS]).unwrap();
            }
            pools.wait_idle();
        })
    }

    let _alone = one_at_a_time();
    for average in [average::<0>(), average::<1>(), average::<2>()] {
        assert!(average < NONE_OF_ITS_OWN, "{average} a call");
    }
    let average = average::<3>();
    let one = 0.99..1.0 + NONE_OF_ITS_OWN;
    assert!(one.contains(&average), "{average} a call");
}

/// A call of a pool's one function allocates nothing for an argument of up to two words, with each kind
/// of backlog; one of three words needs a box.
#[test]
fn of_a_call_of_a_pools_function() {
    fn average<const WORDS: usize>(backlog: Option<usize>) -> f64 {
        let builder = FuncPool::builder(|words: [usize; WORDS]| {
            SUM.fetch_add(std::hint::black_box(words).len(), Ordering::Relaxed);
        });
        let builder = builder.capacity(2).keep_workers();
        let builder = match backlog {
            Some(tasks) => builder.backlog(tasks),
            None => builder.unbounded_backlog(),
        };
        let pool = builder.build().unwrap();
        allocations_a_task(|| {
            for number in 0..TASKS {
                pool.invoke([number; WORDS]).unwrap();
            }
            pool.wait_idle();
        })
    }

    let _alone = one_at_a_time();
    for backlog in [Some(0), Some(100), None] {
        for average in [
            average::<0>(backlog),
            average::<1>(backlog),
            average::<2>(backlog),
        ] {
            assert!(average < NONE_OF_ITS_OWN, "{backlog:?}: {average} a call");
        }
        let average = average::<3>(backlog);
        let one = 0.99..1.0 + NONE_OF_ITS_OWN;
        assert!(one.contains(&average), "{backlog:?}: {average} a call");
    }
}

// ---- R3: one allocation for a spawn ----

/// Spawns tasks whose closures capture `TASK` words and whose results are of `RESULT` words, and joins
/// them: each one before the next, or all at the end.
fn spawn_and_join<const TASK: usize, const RESULT: usize>(
    pool: &PoolHandle,
    handles: &mut Vec<JoinHandle<[usize; RESULT]>>,
    at_once: usize,
) {
    let join = |handle: JoinHandle<[usize; RESULT]>| {
        let result = handle.join().expect("it neither panics nor is cancelled");
        assert_eq!(std::hint::black_box(result).len(), RESULT);
    };
    for number in 0..TASKS {
        let words = [number; TASK];
        handles.push(spawned(
            pool.spawn(move || [std::hint::black_box(words).len(); RESULT]),
        ));
        if handles.len() == at_once {
            handles.drain(..).for_each(join);
        }
    }
    handles.drain(..).for_each(join);
}

#[track_caller]
fn assert_a_spawn_is_one_allocation(pool: &PoolHandle, at_once: usize, what: &str) {
    let one = 0.99..1.0 + NONE_OF_ITS_OWN;
    let (mut small, mut large) = (Vec::with_capacity(at_once), Vec::with_capacity(at_once));
    for average in [
        allocations_a_task(|| spawn_and_join::<0, 0>(pool, &mut small, at_once)),
        allocations_a_task(|| spawn_and_join::<3, 0>(pool, &mut small, at_once)),
        allocations_a_task(|| spawn_and_join::<1, 20>(pool, &mut large, at_once)),
        allocations_a_task(|| spawn_and_join::<20, 20>(pool, &mut large, at_once)),
    ] {
        assert!(one.contains(&average), "{what}: {average} a task");
    }
}

/// However large the closure and its result are, and whether or not the joiner has to wait.
#[test]
fn r3_a_spawn_with_its_result_is_one_allocation() {
    let _alone = one_at_a_time();
    within(Duration::from_secs(100), "all are joined", || {
        for (what, pool, at_once) in [
            ("one by one", Pool::builder().capacity(2), 1),
            ("backlog", Pool::builder().capacity(2).backlog(100), 50),
            (
                "unbounded",
                Pool::builder().capacity(2).unbounded_backlog(),
                50,
            ),
        ] {
            let pool = pool.keep_workers().build().unwrap();
            assert_a_spawn_is_one_allocation(&pool, at_once, what);
        }
    });
}

/// Also where the joiner is a task of the pool, and runs what it spawned itself.
#[test]
fn r3_a_spawn_in_a_task_is_one_allocation() {
    let _alone = one_at_a_time();
    within(Duration::from_secs(100), "all are joined", || {
        let pool = Pool::with_capacity(1);
        let inner = pool.handle();
        let task = move || {
            assert_a_spawn_is_one_allocation(&inner, 1, "in a task");
            assert_a_spawn_is_one_allocation(&inner, 50, "in a task");
        };
        spawned(pool.spawn(task)).join().unwrap();
    });
}

// ---- what was cancelled is gone ----

const CANCELLED: usize = 200_000;

/// Memory that comes and goes: blocks of queues, and what other threads of this binary do.
const FLAT: usize = 64 * 1024;

/// Spawns and cancels `CANCELLED` tasks, each once `window` later ones were spawned, and asserts that
/// this takes no more memory than the first few of them did.
#[track_caller]
fn assert_cancelled_tasks_leave_nothing(pool: &PoolHandle, window: usize, what: &str) {
    let mut handles = VecDeque::with_capacity(window + 1);
    let mut most_at_first = 0;
    for number in 0..CANCELLED {
        let words = [number; 4];
        handles.push_back(spawned(pool.spawn(move || words)));
        if handles.len() > window {
            let oldest = handles.pop_front().expect("it has more than `window`");
            assert!(oldest.cancel(), "{what}: it started");
        }
        let live = LIVE.load(Ordering::Relaxed);
        if number < CANCELLED / 20 {
            most_at_first = most_at_first.max(live);
        } else {
            assert!(
                live < most_at_first + FLAT,
                "{what}: {} bytes more after {number} tasks",
                live - most_at_first
            );
        }
    }
    assert_eq!(pool.queued(), window, "{what}");
    for handle in handles {
        assert!(handle.cancel());
    }
}

/// On a paused pool nobody ever takes what was cancelled out of the queue.
#[test]
fn tasks_cancelled_at_once_leave_nothing_in_the_queue() {
    let _alone = one_at_a_time();
    for backlog in [Some(1), Some(10), None] {
        let builder = Pool::builder().capacity(0);
        let pool = match backlog {
            Some(backlog) => builder.backlog(backlog),
            None => builder.unbounded_backlog(),
        }
        .build()
        .unwrap();
        assert_cancelled_tasks_leave_nothing(&pool, 0, "a paused pool");
        pool.wait_idle();
    }
}

/// The same if there are always some that are not cancelled yet.
#[test]
fn tasks_cancelled_later_leave_nothing_in_the_queue() {
    let _alone = one_at_a_time();
    for window in [1, 5, 100, 500] {
        let pool = Pool::builder().capacity(0).backlog(window + 1);
        let pool = pool.build().unwrap();
        assert_cancelled_tasks_leave_nothing(&pool, window, "a paused pool");
        pool.wait_idle();
    }
}

/// With the only worker busy.
#[test]
fn tasks_cancelled_behind_a_busy_worker_leave_nothing() {
    let _alone = one_at_a_time();
    for window in [0, 100] {
        let pool = Pool::builder().capacity(1).unbounded_backlog();
        let pool = pool.build().unwrap();
        let occupied = occupy(&pool, 1);
        assert_cancelled_tasks_leave_nothing(&pool, window, "a busy pool");
        occupied.end();
        pool.wait_idle();
    }
}

/// A task cancels what it spawned: in its worker's local queue, where nothing is taken before it ends.
#[test]
fn tasks_cancelled_by_the_task_that_spawned_them_leave_nothing() {
    let _alone = one_at_a_time();
    for (window, bounded) in [(0, true), (0, false), (100, true), (100, false)] {
        let builder = Pool::builder().capacity(1);
        let builder = if bounded {
            builder
        } else {
            builder.unbounded_backlog()
        };
        let pool = builder.build().unwrap();
        let inner = pool.handle();
        let task = move || assert_cancelled_tasks_leave_nothing(&inner, window, "in a task");
        let result = spawned(pool.spawn(task)).join();
        assert!(result.is_ok(), "{:?}", result.unwrap_err());
        pool.wait_idle();
    }
}

/// A task cancels what it spawned while a submitter waits: in line behind that one.
#[test]
fn tasks_cancelled_in_line_behind_a_submitter_leave_nothing() {
    let _alone = one_at_a_time();
    for window in [0, 100] {
        let pool = Pool::with_capacity(1);
        let inner = pool.handle();
        let (sender, receiver) = sync_channel::<()>(1);
        let handle = spawned(pool.spawn(move || {
            receive("somebody waits", &receiver);
            assert_cancelled_tasks_leave_nothing(&inner, window, "in line");
            assert_eq!(inner.waiting(), 1);
        }));
        std::thread::scope(|scope| {
            scope.spawn(|| expect_accepted(pool.submit(|| {})));
            support::eventually_waiting(&pool, 1);
            sender.send(()).expect("the receiver lives");
        });
        let result = handle.join();
        assert!(result.is_ok(), "{:?}", result.unwrap_err());
        pool.wait_idle();
    }
}

// ---- what was there in a burst is gone after it ----

/// Runs `burst`, waits until all workers have expired, and asserts that nothing of it is left. It is done once
/// before, with nothing in it, for what is allocated once.
#[track_caller]
fn assert_leaves_nothing(pool: &PoolHandle, what: &str, burst: impl FnOnce(&PoolHandle)) {
    let ended = || pool.workers() == 0 && pool.stats().leaving == 0;
    let task = spawned(pool.spawn(|| ()));
    task.join().unwrap();
    support::eventually("the worker expires", ended);
    let before = LIVE.load(Ordering::SeqCst);
    burst(pool);
    pool.wait_idle();
    support::eventually("all workers expire", ended);
    let mut live = 0;
    let little = support::becomes_true(support::DEADLINE, || {
        // The last thread may not be through with what is the system's.
        live = LIVE.load(Ordering::SeqCst);
        live < before + FLAT
    });
    assert!(little, "{what}: {} bytes more", live - before);
}

fn soon_expired(capacity: usize) -> anthill::Builder {
    Pool::builder()
        .capacity(capacity)
        .stack_size(64 << 10)
        .idle_timeout(Duration::from_millis(5))
}

/// Local queues go with their workers, and so do the lists that they were in.
#[test]
fn a_burst_of_workers_leaves_nothing() {
    const WORKERS: usize = 1_000;
    let _alone = one_at_a_time();
    for (what, builder) in [
        ("no backlog", soon_expired(WORKERS)),
        ("unbounded", soon_expired(WORKERS).unbounded_backlog()),
    ] {
        let pool = builder.build().unwrap();
        assert_leaves_nothing(&pool, what, |pool| drop(occupy(pool, WORKERS)));
        assert_eq!(pool.stats().workers_peak, WORKERS);
    }
}

/// Very many tasks wait in a worker's local queue, all of which another worker steals: and both workers stay.
#[test]
fn many_tasks_in_a_local_queue_leave_nothing() {
    const TASKS: usize = 200_000;
    let _alone = one_at_a_time();
    let pool = Pool::builder().capacity(2).keep_workers().build().unwrap();
    drop(occupy(&pool, 2));
    pool.wait_idle();
    let before = LIVE.load(Ordering::SeqCst);
    let (inner, held) = (pool.handle(), support::Gate::new());
    let (done, all_kept) = (support::Arrivals::new(), held.clone());
    // The other worker holds its place, so the tasks wait in the local queue of the one that submits them.
    let other = spawned(pool.spawn(move || held.wait()));
    let task = spawned(pool.spawn(move || {
        for _ in 0..TASKS {
            let done = done.clone();
            expect_accepted(inner.submit(move || done.arrive()));
        }
        all_kept.open();
        done.wait_for(TASKS);
    }));
    for handle in [other, task] {
        handle.join().unwrap();
    }
    let mut live = 0;
    let little = support::becomes_true(support::DEADLINE, || {
        // What thieves may have looked at is freed as others look for something to steal.
        drop(occupy(&pool, 2));
        pool.wait_idle();
        live = LIVE.load(Ordering::SeqCst);
        live < before + FLAT
    });
    assert!(little, "{} bytes more", live - before);
    assert_eq!(pool.stats().workers_started, 2);
}

/// A queue of which half was cancelled is swept, and what is not a tombstone is in hand meanwhile.
#[test]
fn a_queue_that_was_swept_leaves_nothing() {
    const TASKS: usize = 100_000;
    let _alone = one_at_a_time();
    let pool = soon_expired(1).unbounded_backlog().build().unwrap();
    assert_leaves_nothing(&pool, "swept", |pool| {
        pool.tune(0);
        let mut handles: Vec<_> = (0..TASKS).map(|_| spawned(pool.spawn(|| ()))).collect();
        let kept = handles.split_off(TASKS * 2 / 3);
        assert!(handles.into_iter().all(|handle| handle.cancel()));
        pool.tune(1);
        for handle in kept {
            handle.join().unwrap();
        }
    });
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

/// A map over a few items allocates for a few, however large its window could become.
#[test]
fn a_map_over_few_items_takes_little_memory() {
    let _one = one_at_a_time();
    for (capacity, window) in [(usize::MAX, None), (1_000, None), (2, Some(1 << 16))] {
        let pool = Pool::with_capacity(capacity);
        let live = || {
            let map = pool.map(0..3_u64, |number| number);
            let mut map = match window {
                Some(items) => map.window(items),
                None => map,
            };
            let before = LIVE.load(Ordering::SeqCst);
            assert_eq!(map.next(), Some(0));
            let live = LIVE.load(Ordering::SeqCst).wrapping_sub(before);
            assert!(map.eq(1..3));
            pool.wait_idle();
            live
        };
        // The first time brings the workers.
        live();
        let bytes = live();
        assert!(bytes < 64 * 1024, "{bytes} bytes at capacity {capacity}");
    }
}
