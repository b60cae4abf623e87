//! `map`, `map_unordered` and `run_all`: items worked on ahead by the pool's workers, lazily and within
//! a window; nothing is left out, nothing runs twice, and a panic is told once nothing runs any more.

mod support;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use anthill::{JoinError, Overflow, Pool, PoolHandle};
use rand::Rng;
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, Running, becomes_true, eventually, eventually_eq,
    expect_accepted, id_of_this_thread, in_a_task, occupy, pools, receive, seeded_rng, watchdog,
    within,
};

#[track_caller]
fn assert_pool_at_rest(pool: &PoolHandle) {
    assert!(pool.wait_idle_timeout(DEADLINE), "not idle: {pool:?}");
    // What a runner that was taken back has left in the queue may call a worker for a moment.
    eventually(format_args!("the pool is at rest: {pool:?}"), || {
        (pool.running(), pool.queued(), pool.waiting()) == (0, 0, 0)
            && pool.workers() == pool.idle()
            && pool.free() == pool.capacity()
    });
    let stats = pool.stats();
    assert_eq!(
        stats.submitted,
        stats.completed + stats.panicked + stats.cancelled + stats.discarded,
        "the books do not balance: {stats:?}"
    );
}

/// Whether the thread sleeps. Where that cannot be seen the test goes on at once: too early it proves
/// nothing, and passes.
fn is_asleep(thread: u32) -> bool {
    #[cfg(target_os = "linux")]
    return support::linux::is_asleep(thread);
    #[cfg(not(target_os = "linux"))]
    return thread == 0;
}

// ── order, and each once ────────────────────────────────────────────────────────────────────────

/// All that an iterator yields, and how often it panicked in between.
fn results_beside_panics<T>(items: &mut impl Iterator<Item = T>) -> (Vec<T>, usize) {
    let (mut results, mut panics) = (Vec::new(), 0);
    loop {
        match catch_unwind(AssertUnwindSafe(|| items.next())) {
            Ok(Some(item)) => results.push(item),
            Ok(None) => return (results, panics),
            Err(_) => panics += 1,
        }
    }
}

/// The results come in the order of the items, whatever the pool and the window.
#[test]
fn results_come_in_the_order_of_their_items() {
    let mut rng = seeded_rng("results_come_in_the_order_of_their_items");
    for capacity in [1, 2, 5] {
        for pool in pools(capacity) {
            for window in [1, 2, 7, 1_000] {
                let items = rng.random_range(0..600);
                let ran = Arc::new(AtomicUsize::new(0));
                let counts = Arc::clone(&ran);
                let doubled = pool.map(0..items, move |number| {
                    counts.fetch_add(1, Ordering::SeqCst);
                    for _ in 0..number % 4 {
                        thread::yield_now();
                    }
                    2 * number
                });
                let results: Vec<usize> = doubled.window(window).collect();
                assert!(results.into_iter().eq((0..items).map(|number| 2 * number)));
                assert_eq!(ran.load(Ordering::SeqCst), items);
            }
            assert_pool_at_rest(&pool);
        }
    }
}

/// Unordered, each result comes once.
#[test]
fn unordered_results_come_once_each() {
    for capacity in [1, 2, 5] {
        for pool in pools(capacity) {
            for window in [1, 3, 1_000] {
                let items = pool.map_unordered(0..500, |number| {
                    thread::yield_now();
                    number
                });
                let mut results: Vec<i32> = items.window(window).collect();
                results.sort_unstable();
                assert!(results.into_iter().eq(0..500));
            }
            assert_pool_at_rest(&pool);
        }
    }
}

/// Unordered, a result does not wait for those of items before it.
#[test]
fn an_unordered_result_does_not_wait_for_a_slow_item() {
    let pool = Pool::with_capacity(2);
    let gate = Gate::new().opened_on_drop();
    let inside = gate.clone();
    let mut results = pool.map_unordered(0..10, move |number| {
        if number == 0 {
            inside.wait();
        }
        number
    });
    let mut others: Vec<i32> = results.by_ref().take(9).collect();
    others.sort_unstable();
    assert!(others.into_iter().eq(1..10));
    gate.open();
    assert_eq!((results.next(), results.next()), (Some(0), None));
    assert_pool_at_rest(&pool);
}

/// After its end a map goes on saying so.
#[test]
fn a_map_is_over_for_good() {
    let pool = Pool::with_capacity(2);
    let mut empty = pool.map(Vec::<u8>::new(), |byte| byte);
    assert_eq!((empty.next(), empty.next()), (None, None));
    assert_eq!(pool.workers(), 0);
    let mut some = pool.map_unordered(vec![1, 2], |byte| byte);
    assert_eq!(some.by_ref().count(), 2);
    assert_eq!((some.next(), some.next()), (None, None));
    assert_pool_at_rest(&pool);
}

// ── lazy, within a window ───────────────────────────────────────────────────────────────────────

/// Counts how many items were pulled; not `Send`, as it stays on the caller's thread.
fn counted(pulled: &Rc<Cell<usize>>) -> impl Iterator<Item = usize> + use<> {
    let pulled = Rc::clone(pulled);
    (0..).inspect(move |number| pulled.set(number + 1))
}

/// Nothing is pulled and nothing runs before the first result is asked for; then never more than a
/// window ahead of what was yielded.
#[test]
fn no_more_than_a_window_is_pulled_ahead() {
    for pool in pools(3) {
        for window in [1, 2, 5, 64] {
            for ordered in [true, false] {
                let (pulled, started) = (Rc::new(Cell::new(0)), Arc::new(AtomicUsize::new(0)));
                let items = counted(&pulled);
                let counts = Arc::clone(&started);
                let f = move |number: usize| {
                    counts.fetch_add(1, Ordering::SeqCst);
                    number
                };
                let mut results: Box<dyn Iterator<Item = usize>> = if ordered {
                    Box::new(pool.map(items, f).window(window))
                } else {
                    Box::new(pool.map_unordered(items, f).window(window))
                };
                assert_eq!((pulled.get(), started.load(Ordering::SeqCst)), (0, 0));
                for yielded in 0..400 {
                    assert!(
                        pulled.get() <= yielded + window,
                        "{} pulled for {yielded} with a window of {window}",
                        pulled.get()
                    );
                    let result = results.next().expect("it has no end");
                    // While `next` looked for this result it counted as not yielded.
                    assert!(pulled.get() <= yielded + window);
                    assert!(!ordered || result == yielded);
                }
            }
        }
        assert_pool_at_rest(&pool);
    }
}

/// The window is used: so many items are worked on before the first result is taken, and no more.
#[test]
fn the_whole_window_is_worked_on_ahead() {
    for (capacity, window, expected) in [
        (2, None, 128),
        (1, None, 64),
        (3, Some(5), 5),
        (2, Some(0), 1),
        (2, Some(40), 40),
    ] {
        let pool = Pool::with_capacity(capacity);
        let (pulled, done) = (Rc::new(Cell::new(0)), Arrivals::new());
        let dones = done.clone();
        let map = pool.map(counted(&pulled), move |number| {
            dones.arrive();
            number
        });
        let mut map = match window {
            Some(items) => map.window(items),
            None => map,
        };
        // All others wait for the first, so that the window fills.
        assert_eq!(map.next(), Some(0));
        eventually("what was pulled is done", || done.count() == pulled.get());
        assert!(pulled.get() <= expected, "{} pulled", pulled.get());
        for number in 1..1_000 {
            assert_eq!(map.next(), Some(number));
            assert!(pulled.get() <= number + expected);
        }
        drop(map);
        assert_pool_at_rest(&pool);
    }
}

/// By default the window is 64 items for each worker of the capacity.
#[test]
fn the_default_window_is_64_for_each_worker() {
    let pool = Pool::with_capacity(3);
    let (pulled, gate) = (Rc::new(Cell::new(0)), Gate::new());
    let (most, inside) = (Rc::clone(&pulled), gate.clone());
    // The caller sees the window full when it has pulled so many without a result.
    let items = counted(&pulled).inspect(move |_| {
        if most.get() == 3 * 64 {
            gate.open();
        }
    });
    let mut map = pool.map(items, move |number| {
        inside.wait();
        number
    });
    assert_eq!(map.next(), Some(0));
    assert_eq!(pulled.get(), 3 * 64);
    drop(map);
    assert_pool_at_rest(&pool);
}

/// The default window follows what runs, also where the capacity is large or none at all: it is filled while the first
/// item waits, be the others quick or blocked.
#[test]
fn the_default_window_is_bounded_by_what_runs() {
    for capacity in [1_000, usize::MAX] {
        for blocked in [false, true] {
            let pool = Pool::builder().capacity(capacity).stack_size(64 * 1024);
            let pool = pool.build().unwrap();
            let (caller, pulled) = (id_of_this_thread(), Rc::new(Cell::new(0)));
            let rest = Gate::new().opened_on_drop();
            let inside = (*rest).clone();
            let mut map = pool.map(counted(&pulled), move |number| {
                if number == 0 {
                    // It has pulled what it may.
                    let sleeps = || (0..1_000).all(|_| is_asleep(caller));
                    eventually("the caller sleeps", sleeps);
                } else if blocked {
                    inside.wait();
                }
                number
            });
            assert_eq!(map.next(), Some(0));
            let (pulled, ran) = (pulled.get(), pool.stats().workers_peak);
            assert!((64..=4_096).contains(&pulled), "{pulled} pulled");
            // Beyond what anybody means by a capacity there are as many as on a machine of 256 processors, at most.
            let processors = thread::available_parallelism().map_or(1, usize::from);
            let most = if capacity == 1_000 {
                capacity
            } else {
                processors.max(256)
            };
            assert!(ran <= most.min(pulled), "{ran} ran, {pulled} pulled");
            rest.open();
            drop(map);
            assert_pool_at_rest(&pool);
        }
    }
}

/// A window that was asked for is as large as that, and brings as many runners, whatever the capacity.
#[test]
fn a_window_that_was_asked_for_is_not_bounded_by_what_runs() {
    const WINDOW: usize = 400;
    let pool = Pool::builder().capacity(usize::MAX).stack_size(64 * 1024);
    let pool = pool.build().unwrap();
    let (pulled, meets) = (Rc::new(Cell::new(0)), Arc::new(Barrier::new(WINDOW)));
    let map = pool.map(counted(&pulled).take(2 * WINDOW), move |number| {
        meets.wait();
        number
    });
    assert!(map.window(WINDOW).eq(0..2 * WINDOW));
    assert_pool_at_rest(&pool);
}

/// As many items as the capacity run at once, which is more than a window begins with.
#[test]
fn by_default_as_many_items_run_as_the_capacity() {
    const CAPACITY: usize = 200;
    let pool = Pool::builder().capacity(CAPACITY).stack_size(64 * 1024);
    let pool = pool.build().unwrap();
    let meets = Arc::new(Barrier::new(CAPACITY));
    let map = pool.map(0..2 * CAPACITY, move |number| {
        meets.wait();
        number
    });
    assert!(map.eq(0..2 * CAPACITY));
    assert_pool_at_rest(&pool);
}

/// What each item owns is alive only within the window: memory is bounded though the items never end.
#[test]
fn memory_is_bounded_however_many_items_there_are() {
    struct Owned(Arc<AtomicUsize>, usize);
    impl Drop for Owned {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    let pool = Pool::with_capacity(2);
    let alive = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&alive);
    let items = (0..).map(move |number| {
        counts.fetch_add(1, Ordering::SeqCst);
        Owned(Arc::clone(&counts), number)
    });
    let map = pool.map(items, |owned| owned).window(16);
    for (at, owned) in map.take(20_000).enumerate() {
        assert_eq!(owned.1, at);
        let alive = alive.load(Ordering::SeqCst);
        assert!(alive <= 17, "{alive} alive");
    }
    assert_pool_at_rest(&pool);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

/// It says how many are left, and what it is.
#[test]
fn a_map_says_how_many_are_left() {
    let pool = Pool::with_capacity(2);
    let mut map = pool.map(0..100, |number| number).window(10);
    for left in (0..100).rev() {
        assert_eq!(map.size_hint(), (left + 1, Some(left + 1)));
        map.next();
    }
    assert_eq!(map.size_hint(), (0, Some(0)));
    assert_eq!(map.next(), None);
    assert_eq!(map.size_hint(), (0, Some(0)));
    assert_eq!(pool.map(0.., |n: u64| n).size_hint(), (usize::MAX, None));
    assert!(format!("{map:?}").starts_with("Map "), "{map:?}");
    let map = pool.map_unordered(0..3, |n: u64| n).window(7);
    assert!(format!("{map:?}").starts_with("MapUnordered "), "{map:?}");
    assert!(format!("{map:?}").contains('7'), "{map:?}");
}

/// A result that is there is yielded, also while the next item runs long: an item may well wait for
/// what the caller does with the one before it.
#[test]
fn a_result_that_is_there_is_not_held_back() {
    for ordered in [true, false] {
        let pool = Pool::with_capacity(1);
        let gates: Arc<Vec<Gate>> = Arc::new((0..200).map(|_| Gate::new()).collect());
        let opens = Arc::clone(&gates);
        let f = move |number: usize| {
            if number % 100 == 99 {
                // Until the result before this one has been yielded. Not for ever: a failure is told.
                return gates[number / 100].wait_timeout(Duration::from_secs(3));
            }
            // Longer than the caller needs to take a result.
            for _ in 0..50 {
                std::hint::spin_loop();
            }
            true
        };
        let items = 0..20_000;
        let map: Box<dyn Iterator<Item = bool>> = if ordered {
            Box::new(pool.map(items, f))
        } else {
            Box::new(pool.map_unordered(items, f))
        };
        for (number, in_time) in map.enumerate() {
            assert!(in_time, "the result before item {number} was held back");
            if number % 100 == 98 {
                opens[number / 100].open();
            }
        }
        assert_pool_at_rest(&pool);
    }
}

/// The same where two items run and the caller sleeps: whichever is done first wakes it.
#[test]
fn the_first_result_wakes_the_caller() {
    const FIRST: usize = 200;
    for ordered in [true, false] {
        let pool = Pool::with_capacity(2);
        let (caller, go, yielded) = (id_of_this_thread(), Gate::new(), Gate::new());
        let (goes, opens) = (go.clone(), yielded.clone());
        let f = move |number: usize| {
            if number == FIRST {
                goes.wait();
            }
            // Not for ever: a failure is told.
            let waits = number == FIRST + 1 || number == FIRST + 2;
            let in_time = !waits || yielded.wait_timeout(Duration::from_secs(3));
            (number, in_time)
        };
        let map: Box<dyn Iterator<Item = (usize, bool)>> = if ordered {
            Box::new(pool.map(0..400, f).window(FIRST))
        } else {
            Box::new(pool.map_unordered(0..400, f).window(FIRST))
        };
        let sleeps = move || (0..1_000).all(|_| is_asleep(caller));
        let opener = thread::spawn(move || {
            eventually("the caller sleeps", sleeps);
            go.open();
        });
        for (number, in_time) in map {
            assert!(in_time, "the result before item {number} was held back");
            if number == FIRST {
                opens.open();
            }
        }
        opener.join().unwrap();
        assert_pool_at_rest(&pool);
    }
}

/// Among items so short that it pays to wait for many of them at once, the caller sleeps while one runs long, also
/// where all that it has pulled beyond that are done.
#[test]
fn the_caller_sleeps_while_an_item_runs_long() {
    const LONG: usize = 5_000;
    let pool = Pool::with_capacity(2);
    let (caller, pulled) = (id_of_this_thread(), Rc::new(Cell::new(0)));
    let (done, go) = (Arc::new(AtomicUsize::new(0)), Gate::new());
    let (counts, goes) = (Arc::clone(&done), go.clone());
    let map = pool.map(counted(&pulled).take(10_000), move |number| {
        if number == LONG {
            goes.wait();
            // Longer than it sleeps where it means to look again soon.
            let sleeps = || (0..1_000).all(|_| is_asleep(caller));
            eventually("the caller sleeps", sleeps);
        }
        counts.fetch_add(1, Ordering::SeqCst);
        number
    });
    let mut yielded = 0;
    for number in map {
        yielded += 1;
        if number + 1 == LONG {
            eventually_eq("all others are done", pulled.get() - 1, || {
                done.load(Ordering::SeqCst)
            });
            go.open();
        }
    }
    assert_eq!(yielded, 10_000);
    assert_pool_at_rest(&pool);
}

/// An item is handed to the workers as it is pulled: an iterator may wait for one of its items to be
/// worked on, as one that hands out a few buffers again and again does.
#[test]
fn an_item_that_was_pulled_is_worked_on_while_the_next_one_is_awaited() {
    const BUFFERS: usize = 4;
    let pool = Pool::with_capacity(1);
    let (gives, free) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        gives.send(vec![0_u8; 16]).unwrap();
    }
    // A failure is told, and does not hang.
    let in_time = Duration::from_secs(3);
    let handed_out = (0..100).map_while(|_| free.recv_timeout(in_time).ok());
    let map = pool.map(handed_out, move |buffer| gives.send(buffer).is_ok());
    assert_eq!(map.filter(|back| *back).count(), 100, "buffers came around");
    assert_pool_at_rest(&pool);
}

// ── side by side ────────────────────────────────────────────────────────────────────────────────

/// As many items as the capacity run at once: items that meet at a barrier do, also after thousands of
/// quick ones and from a busy pool's backlog.
#[test]
fn as_many_items_as_the_capacity_run_side_by_side() {
    for capacity in [2, 3, 8] {
        for pool in pools(capacity) {
            for ordered in [true, false] {
                let barrier = Arc::new(Barrier::new(capacity));
                let running = Running::new();
                let (meets, counts) = (Arc::clone(&barrier), running.clone());
                let f = move |number: usize| {
                    let _inside = counts.enter();
                    if number % 4_000 >= 4_000 - capacity {
                        meets.wait();
                    }
                    number
                };
                let map: Box<dyn Iterator<Item = usize> + Send> = if ordered {
                    Box::new(pool.map(0..8_000, f))
                } else {
                    Box::new(pool.map_unordered(0..8_000, f))
                };
                let count = watchdog("items that meet at a barrier", move || map.count());
                assert_eq!(count, 8_000);
                assert!(running.peak() <= capacity, "{} at once", running.peak());
            }
            assert_pool_at_rest(&pool);
        }
    }
}

/// No more items run than the capacity, under tune as well.
#[test]
fn the_bound_holds_for_items() {
    let mut rng = seeded_rng("the_bound_holds_for_items");
    for pool in pools(3) {
        let (running, over) = (Running::new(), AtomicBool::new(false));
        let seeds: Vec<usize> = (0..500).map(|_| rng.random_range(0..4)).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                for capacity in seeds.iter().cycle() {
                    pool.tune(*capacity);
                    thread::yield_now();
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                }
                pool.tune(3);
            });
            let counts = running.clone();
            let map = pool.map(0..5_000, move |number| {
                let _inside = counts.enter();
                thread::yield_now();
                number
            });
            assert!(map.eq(0..5_000));
            over.store(true, Ordering::SeqCst);
        });
        assert!(running.peak() <= 3, "{} of 3 at once", running.peak());
        assert_pool_at_rest(&pool);
    }
}

/// At capacity 1 a task from outside has its turn during a long map, after no more items than a runner
/// takes in a row.
#[test]
fn a_long_map_starves_nobody() {
    const ITEMS: usize = 20_000;
    for pool in pools(1) {
        let (pulled, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (gate, begun) = (Gate::new().opened_on_drop(), Arrivals::new());
        let caller = {
            let (handle, pulls, counts) = (pool.handle(), Arc::clone(&pulled), Arc::clone(&done));
            let (inside, begins) = (gate.clone(), begun.clone());
            let items = (0..ITEMS).inspect(move |_| {
                pulls.fetch_add(1, Ordering::SeqCst);
            });
            thread::spawn(move || {
                let map = handle.map(items, move |number| {
                    if number == 0 {
                        begins.arrive();
                        inside.wait();
                    }
                    counts.fetch_add(1, Ordering::SeqCst);
                });
                map.window(ITEMS).count()
            })
        };
        begun.wait_for(1);
        eventually_eq("items pulled", ITEMS, || pulled.load(Ordering::SeqCst));
        let counts = Arc::clone(&done);
        thread::scope(|scope| {
            let before = || pool.spawn(move || counts.load(Ordering::SeqCst));
            let submitter = scope.spawn(move || before().unwrap().join().unwrap());
            eventually("it is queued, or waits", || {
                pool.queued() + pool.waiting() > 0
            });
            gate.open();
            let before = submitter.join().unwrap();
            assert!(before < 1_000, "{before} items came first");
        });
        assert_eq!(caller.join().unwrap(), ITEMS);
        assert_pool_at_rest(&pool);
    }
}

/// Several maps of one pool at capacity 1 go on side by side: one without an end does not hold up others.
#[test]
fn a_map_without_an_end_does_not_hold_up_others() {
    for pool in pools(1) {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arrivals::new());
        let (handle, stops, dones) = (pool.handle(), Arc::clone(&stop), done.clone());
        let caller = thread::spawn(move || {
            let map = handle.map(0.., move |_: u64| dones.arrive());
            map.take_while(|()| !stops.load(Ordering::SeqCst)).count()
        });
        done.wait_for(1_000);
        assert!(pool.map(0..1_000, |number| number).eq(0..1_000));
        stop.store(true, Ordering::SeqCst);
        assert!(caller.join().unwrap() > 0);
        assert_pool_at_rest(&pool);
    }
}

// ── in tasks, and where the pool refuses ────────────────────────────────────────────────────────

/// In a task a map comes to its end at capacity 1, and within another map, and within that one.
#[test]
fn maps_nest_at_capacity_1() {
    for capacity in [1, 2] {
        for pool in pools(capacity) {
            let inner = pool.handle();
            let sum = in_a_task(&pool, "a map in a task", move || {
                let outer = inner.clone();
                outer
                    .map(0..10, move |x: u64| {
                        let innermost = inner.clone();
                        let rows = inner.map(0..10, move |y: u64| {
                            innermost
                                .map_unordered(0..10, move |z| x + y + z)
                                .sum::<u64>()
                        });
                        rows.sum::<u64>()
                    })
                    .sum::<u64>()
            });
            assert_eq!(sum, 3 * 4_500);
            assert_pool_at_rest(&pool);
        }
    }
}

/// From outside, too: the items of the outer map are tasks in which the inner one is iterated.
#[test]
fn maps_nest_from_outside() {
    for pool in pools(2) {
        let inner = pool.handle();
        let sums = pool.map(0..50_u64, move |x| {
            inner.map(0..20, move |y| x + y).sum::<u64>()
        });
        let sums: Vec<u64> = watchdog_collect(sums);
        assert!(sums.into_iter().eq((0..50).map(|x| 20 * x + 190)));
        assert_pool_at_rest(&pool);
    }
}

fn watchdog_collect<T: Send + 'static>(map: impl Iterator<Item = T> + Send + 'static) -> Vec<T> {
    watchdog("a map comes to its end", move || map.collect())
}

/// A paused pool's map waits until it is tuned; its caller does not run what is the workers' to run.
#[test]
fn a_map_of_a_paused_pool_waits() {
    for pool in [
        Pool::with_capacity(0),
        Pool::builder().capacity(0).backlog(10).build().unwrap(),
        Pool::builder()
            .capacity(0)
            .unbounded_backlog()
            .build()
            .unwrap(),
    ] {
        let (handle, done) = (pool.handle(), Arrivals::new());
        let dones = done.clone();
        let caller = thread::spawn(move || {
            let me = thread::current().id();
            let map = handle.map(0..100, move |_| {
                dones.arrive();
                thread::current().id() != me
            });
            map.filter(|by_worker| *by_worker).count()
        });
        eventually("it has sent a runner", || pool.queued() == 1);
        assert_eq!(done.count(), 0);
        pool.tune(2);
        assert_eq!(caller.join().unwrap(), 100);
        assert_pool_at_rest(&pool);
    }
}

/// R5: what a closed pool refuses the caller works on itself, all of it, in order.
#[test]
fn the_caller_works_on_what_a_closed_pool_refuses() {
    for pool in pools(2) {
        pool.release();
        let me = thread::current().id();
        let map = pool.map(0..500, move |n| (n, thread::current().id() == me));
        assert!(map.eq((0..500).map(|n| (n, true))));
        let map = pool.map_unordered(0..500, move |n| (n, thread::current().id() == me));
        assert!(map.eq((0..500).map(|n| (n, true))));
        let payload = catch_unwind(AssertUnwindSafe(|| {
            pool.map(0..10, |n| assert!(n != 7, "no {n}")).count()
        }));
        let payload = payload.unwrap_err();
        assert_eq!(payload.downcast_ref::<String>().unwrap(), "no 7");
        let stats = pool.stats();
        assert_eq!((stats.workers_started, stats.submitted), (0, 0));
        pool.release_timeout(DEADLINE).unwrap();
    }
}

/// A release in the midst of a map leaves nothing out either.
#[test]
fn a_release_in_the_midst_leaves_nothing_out() {
    for pool in pools(2) {
        for at in [0, 1, 70, 300] {
            let handle = pool.handle();
            let map = pool.map(0..500, move |number| {
                if number == at {
                    handle.release();
                }
                number
            });
            assert!(watchdog_collect(map).into_iter().eq(0..500));
            assert!(pool.is_closed());
            pool.release_timeout(DEADLINE).unwrap();
            pool.reboot();
        }
        assert_pool_at_rest(&pool);
    }
}

/// R5: what the pool discards under a map panics in its caller; nothing is silently left out.
#[test]
fn what_is_discarded_under_a_map_panics_in_the_caller() {
    for pool in [
        Pool::with_capacity(1),
        Pool::builder().capacity(1).backlog(5).build().unwrap(),
        Pool::builder()
            .capacity(1)
            .unbounded_backlog()
            .build()
            .unwrap(),
    ] {
        let occupied = occupy(&pool, 1);
        let dropped = Arrivals::new();
        let items: Vec<_> = (0..10).map(|_| DropCounter(dropped.clone())).collect();
        let handle = pool.handle();
        let caller = thread::spawn(move || handle.map(items, drop).count());
        eventually("it has sent a runner", || pool.queued() > 0);
        assert_eq!(pool.release_now(), 1);
        let payload = caller.join().unwrap_err();
        let message = payload.downcast_ref::<&str>().expect("a message");
        assert!(message.contains("discarded"), "{message}");
        dropped.wait_for(10);
        occupied.end();
        assert_pool_at_rest(&pool);
        assert_eq!(dropped.count(), 10);
    }
}

/// `DropOldest` drops a map's runner like any other task, and the caller hears of it.
#[test]
fn a_runner_that_is_dropped_to_make_room_is_told() {
    let pool = Pool::builder()
        .capacity(1)
        .backlog(1)
        .overflow(Overflow::DropOldest)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let handle = pool.handle();
    let caller = thread::spawn(move || handle.map(0..10, |n| n).count());
    eventually("it has sent a runner", || pool.queued() > 0);
    expect_accepted(pool.submit(|| ()));
    assert!(caller.join().is_err());
    occupied.end();
    assert_pool_at_rest(&pool);
    assert_eq!(pool.stats().discarded, 1);
}

// ── panics ──────────────────────────────────────────────────────────────────────────────────────

/// The first panic of an item is re-raised with its own payload, once nothing of the map runs any more;
/// the others are told to the pool's handler.
#[test]
fn a_panic_is_raised_again_once_nothing_runs() {
    for ordered in [true, false] {
        let (sender, told) = channel();
        let sender = Mutex::new(sender);
        let pool = Pool::builder()
            .capacity(3)
            .panic_handler(move |panic| {
                let payload = panic.into_payload().downcast::<usize>().expect("a number");
                sender.lock().unwrap().send(*payload).unwrap();
            })
            .build()
            .unwrap();
        let barrier = Arc::new(Barrier::new(3));
        let (first, gate) = (
            Arc::new(AtomicBool::new(true)),
            Gate::new().opened_on_drop(),
        );
        let (begun, running, raised) = (Arrivals::new(), Running::new(), Arrivals::new());
        let pulls = Arrivals::new();
        let items = {
            let (gate, begun, running) = (gate.clone(), begun.clone(), running.clone());
            let pulls = pulls.clone();
            move |number: usize| -> usize {
                let _inside = running.enter();
                begun.arrive();
                if number < 3 {
                    barrier.wait();
                    if first.swap(false, Ordering::SeqCst) {
                        pulls.wait_for(1);
                    } else {
                        gate.wait();
                    }
                    panic_any(number);
                }
                number
            }
        };
        let handle = pool.handle();
        let (over, runs, (sender, caller_id)) = (raised.clone(), running.clone(), channel());
        let pulled = Arrivals::new();
        let looks = pulled.clone();
        let caller = thread::spawn(move || {
            sender.send(id_of_this_thread()).unwrap();
            let (watched, looks) = (handle.clone(), looks);
            // The caller pulls until the first item has panicked, and looks what there is then.
            let numbers = (0..).inspect(move |&number| {
                if number == 3 {
                    pulls.arrive();
                    eventually("one has panicked", || watched.stats().panicked > 0);
                    looks.arrive();
                }
            });
            let ended = catch_unwind(AssertUnwindSafe(|| {
                if ordered {
                    handle.map(numbers, items).count()
                } else {
                    handle.map_unordered(numbers, items).count()
                }
            }));
            over.arrive();
            let payload = ended.unwrap_err().downcast::<usize>().expect("a number");
            (*payload, runs.now())
        });
        begun.wait_for(3);
        eventually_eq("items running", 2, || running.now());
        pulled.wait_for(1);
        assert_eq!(pool.stats().panicked, 1);
        let caller_id = receive("the caller", &caller_id);
        eventually("the caller waits, or goes on", || {
            raised.count() > 0 || is_asleep(caller_id)
        });
        assert_eq!(raised.count(), 0, "raised while items run");
        gate.open();
        let (raised, still_running) = caller.join().unwrap();
        assert_eq!(still_running, 0);
        let mut panics = BTreeSet::from([raised]);
        for _ in 0..2 {
            panics.insert(receive("the handler is told of the others", &told));
        }
        assert_eq!(panics, BTreeSet::from([0, 1, 2]));
        assert_pool_at_rest(&pool);
        assert!(told.try_recv().is_err());
        assert_eq!(begun.count(), 3, "items that started");
    }
}

/// After a panic no more items are pulled, however large the window.
#[test]
fn nothing_is_pulled_after_a_panic() {
    for ordered in [true, false] {
        let pool = Pool::builder().capacity(1).panic_handler(|_| {});
        let pool = pool.build().unwrap();
        let pulled = Arrivals::new();
        let (pulls, watched) = (pulled.clone(), pool.handle());
        let items = (0..10_000).inspect(move |&number| {
            pulls.arrive();
            if number == 3 {
                eventually("one has panicked", || watched.stats().panicked > 0);
            }
        });
        let f = |number| assert!(number > 0, "on purpose");
        let count = || {
            if ordered {
                pool.map(items, f).window(10_000).count()
            } else {
                pool.map_unordered(items, f).window(10_000).count()
            }
        };
        assert!(catch_unwind(AssertUnwindSafe(count)).is_err());
        // Or fewer: the first one may have panicked before the third was pulled.
        let pulled = pulled.count();
        assert!((1..=4).contains(&pulled), "{pulled} pulled");
    }
}

/// After a panic nothing further starts, also where the caller, in a task, works on items itself and
/// takes results that were there before.
#[test]
fn nothing_starts_after_a_panic() {
    let pool = Pool::builder()
        .capacity(2)
        .panic_handler(|_| {})
        .build()
        .unwrap();
    let (gate, others) = (Gate::new().opened_on_drop(), Arrivals::new());
    let (panicked, started, inner) = (Arrivals::new(), Log::new(), pool.handle());
    let f = {
        let (gate, others) = (gate.clone(), others.clone());
        let (panicked, started) = (panicked.clone(), started.clone());
        move |caller: ThreadId, number: usize| {
            if thread::current().id() != caller {
                // Three results, and then one item that runs on.
                others.arrive();
                if others.count() > 3 {
                    gate.wait();
                }
                return;
            }
            others.wait_for(4);
            started.push(number);
            if panicked.count() == 0 {
                panicked.arrive();
                panic!("on purpose");
            }
        }
    };
    let (sender, caller) = channel();
    let map = pool.spawn(move || {
        let me = thread::current().id();
        sender.send(id_of_this_thread()).unwrap();
        inner
            .map_unordered(0.., move |number| f(me, number))
            .count()
    });
    let caller = receive("the caller", &caller);
    panicked.wait_for(1);
    eventually("the caller waits, or goes on", || {
        started.len() > 1 || is_asleep(caller)
    });
    gate.open();
    let error = watchdog("the map ends", move || map.unwrap().join()).unwrap_err();
    assert!(error.is_panic());
    assert_eq!(started.len(), 1, "items that the caller started");
    assert_pool_at_rest(&pool);
}

/// The caller pulls no further items either once it is over.
#[test]
fn a_map_that_panicked_is_over() {
    let pool = Pool::with_capacity(1);
    let pulled = Rc::new(Cell::new(0));
    let mut map = pool
        .map(counted(&pulled), |number| {
            assert!(number != 3, "on purpose");
        })
        .window(2);
    let mut yielded = 0;
    let payload = loop {
        match catch_unwind(AssertUnwindSafe(|| map.next())) {
            Ok(result) => {
                assert!(result.is_some());
                yielded += 1;
            }
            Err(payload) => break payload,
        }
    };
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!(yielded, 3);
    assert!(pulled.get() <= 3 + 2);
    let before = pulled.get();
    assert!(map.next().is_none() && map.next().is_none());
    assert_eq!(pulled.get(), before);
    drop(map);
    assert_pool_at_rest(&pool);
}

/// A panic of an item whose map is gone goes to the pool's handler: it is told somewhere.
#[test]
fn a_panic_after_the_map_was_dropped_goes_to_the_handler() {
    let (sender, told) = channel();
    let pool = Pool::builder()
        .capacity(1)
        .panic_handler(move |panic| sender.send(panic.message().map(str::to_owned)).unwrap())
        .build()
        .unwrap();
    let (gate, begun) = (Gate::new().opened_on_drop(), Arrivals::new());
    let (inside, begins) = (gate.clone(), begun.clone());
    // The second item is pulled before there is a result, which would be enough for the caller.
    let pulled = Arrivals::new();
    let pulls = pulled.clone();
    let items = (0..10).inspect(move |number| {
        if *number == 1 {
            pulls.arrive();
        }
    });
    let mut map = pool.map(items, move |number| {
        if number == 0 {
            pulled.wait_for(1);
        }
        if number == 1 {
            begins.arrive();
            inside.wait();
            panic!("too late");
        }
    });
    assert_eq!(map.next(), Some(()));
    begun.wait_for(1);
    drop(map);
    gate.open();
    assert_pool_at_rest(&pool);
    assert_eq!(pool.stats().panicked, 1);
    let told = told.recv_timeout(Duration::from_secs(1));
    assert_eq!(told, Ok(Some(String::from("too late"))));
}

/// An iterator that panics does so in the caller, and takes nothing with it.
#[test]
fn an_iterator_that_panics_panics_in_the_caller() {
    for pool in pools(2) {
        let dropped = Arrivals::new();
        let counter = dropped.clone();
        let items = (0..).map(move |number| {
            assert!(number != 50, "on purpose");
            DropCounter(counter.clone())
        });
        let map = pool.map(items, drop);
        let ended = catch_unwind(AssertUnwindSafe(|| map.count()));
        assert!(ended.is_err());
        assert_pool_at_rest(&pool);
        dropped.wait_for(50);
        assert_eq!((dropped.count(), pool.stats().panicked), (50, 0));
    }
}

/// Who catches that panic and goes on gets all other items still, in order.
#[test]
fn a_map_goes_on_after_a_panic_of_its_iterator() {
    let pool = Pool::with_capacity(2);
    let items = (0..100).inspect(|number| assert!(number % 10 != 9, "on purpose"));
    let mut map = pool.map(items, |number| number).window(8);
    let (results, panics) = results_beside_panics(&mut map);
    assert_eq!(panics, 10);
    assert!(
        results
            .into_iter()
            .eq((0..100).filter(|number| number % 10 != 9))
    );
    assert_pool_at_rest(&pool);
}

// ── dropped half-way ────────────────────────────────────────────────────────────────────────────

/// Dropped half-way it starts nothing more, does not wait for what runs, and lets go of every item and
/// every result, once.
#[test]
fn a_map_that_is_dropped_lets_go_of_everything() {
    for pool in pools(2) {
        for ordered in [true, false] {
            let dropped = Arrivals::new();
            let items: Vec<_> = (0..100)
                .map(|number| (number, DropCounter(dropped.clone())))
                .collect();
            let (gate, started) = (Gate::new().opened_on_drop(), Log::new());
            let (inside, starts) = (gate.clone(), started.clone());
            let f = move |(number, counter): (usize, DropCounter)| {
                starts.push(number);
                if number >= 10 {
                    inside.wait();
                }
                counter
            };
            let mut map: Box<dyn Iterator<Item = DropCounter>> = if ordered {
                Box::new(pool.map(items, f))
            } else {
                Box::new(pool.map_unordered(items, f))
            };
            let taken: Vec<_> = map.by_ref().take(5).collect();
            eventually("two items run", || started.len() == 12);
            drop(map);
            assert_eq!(pool.running(), 2, "it waited for what ran");
            gate.open();
            assert_pool_at_rest(&pool);
            assert_eq!((started.len(), dropped.count()), (12, 95));
            drop(taken);
            assert_eq!(dropped.count(), 100);
        }
    }
}

/// A map that is dropped before a worker got to it leaves no task and takes no room.
#[test]
fn a_dropped_map_frees_its_room() {
    let pool = Pool::builder().capacity(1).backlog(1).build().unwrap();
    let occupied = occupy(&pool, 1);
    let (handle, finished) = (pool.handle(), Gate::new());
    let ends = finished.clone();
    let caller = thread::spawn(move || {
        let items = (0..).inspect(|number| {
            // The window is 4: the caller has nothing more to pull, and this drops the map.
            assert!(*number < 3, "on purpose");
        });
        let map = handle
            .map(items, |_| unreachable!("no worker is free"))
            .window(4);
        let _ = catch_unwind(AssertUnwindSafe(|| map.count()));
        ends.open();
    });
    finished.wait();
    caller.join().unwrap();
    assert_eq!((pool.queued(), pool.stats().cancelled), (0, 1));
    expect_accepted(pool.try_submit(|| ()));
    occupied.end();
    assert_pool_at_rest(&pool);
}

/// A map that is never iterated does nothing at all.
#[test]
fn a_map_that_is_never_iterated_does_nothing() {
    let pool = Pool::with_capacity(2);
    let dropped = Arrivals::new();
    let (item, captured) = (DropCounter(dropped.clone()), DropCounter(dropped.clone()));
    drop(pool.map([item], move |item| {
        let _ = &captured;
        drop(item);
        unreachable!("it is lazy")
    }));
    assert_eq!((dropped.count(), pool.workers()), (2, 0));
    assert_eq!(pool.stats().submitted, 0);
}

/// Maps that are dropped, panic and are finished beside each other, tasks, cancels and tunes: the pool
/// comes to rest with all its places, and each item was dropped once.
#[test]
fn maps_survive_a_storm() {
    let mut rng = seeded_rng("maps_survive_a_storm");
    for pool in pools(3) {
        let (made, dropped) = (Arc::new(AtomicUsize::new(0)), Arrivals::new());
        let seeds: Vec<u64> = (0..3).map(|_| rng.random()).collect();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut capacity = 0;
                while !over.load(Ordering::SeqCst) {
                    capacity = (capacity + 1) % 4;
                    pool.tune(capacity);
                    thread::yield_now();
                }
                pool.tune(3);
            });
            let callers: Vec<_> = seeds
                .iter()
                .map(|&seed| {
                    let (pool, made, dropped) = (&pool, &made, &dropped);
                    scope.spawn(move || storm(pool, seed, made, dropped))
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
            over.store(true, Ordering::SeqCst);
        });
        assert_pool_at_rest(&pool);
        eventually_eq("items dropped", made.load(Ordering::SeqCst), || {
            dropped.count()
        });
    }
}

fn storm(pool: &PoolHandle, seed: u64, made: &Arc<AtomicUsize>, dropped: &Arrivals) {
    let mut rng: rand::rngs::StdRng = rand::SeedableRng::seed_from_u64(seed);
    for _ in 0..40 {
        let (counts, counter) = (Arc::clone(made), dropped.clone());
        let items = (0..rng.random_range(0..300)).map(move |number| {
            counts.fetch_add(1, Ordering::SeqCst);
            (number, DropCounter(counter.clone()))
        });
        let panics_at = rng.random_range(0..600);
        let f = move |(number, counter): (usize, DropCounter)| {
            assert!(number != panics_at, "on purpose");
            (number, counter)
        };
        let window = rng.random_range(1..100);
        // Every other map, by itself.
        let batch = if rng.random() {
            rng.random_range(2..20)
        } else {
            1
        };
        let take = rng.random_range(0..400);
        let in_task = rng.random();
        let handle = pool.clone();
        let run = move || {
            let map = handle.map(items, f).window(window).batch(batch);
            catch_unwind(AssertUnwindSafe(|| {
                for (at, (number, counter)) in map.take(take).enumerate() {
                    assert_eq!(number, at);
                    drop(counter);
                }
            }))
            .is_ok()
        };
        if in_task {
            let _ = pool.spawn(run).unwrap().join().unwrap();
        } else {
            run();
        }
    }
}

// ── batches ─────────────────────────────────────────────────────────────────────────────────────

/// The results come in the order of the items, each item runs once, whatever the pool, the window and the batch: also
/// batches of one, larger than the window, and the last one that is not full; and no item at all.
#[test]
fn results_of_batches_come_in_the_order_of_their_items() {
    for capacity in [1, 2, 5] {
        for pool in pools(capacity) {
            for (batch, window) in [
                (0, None),
                (1, Some(7)),
                (3, None),
                (7, Some(7)),
                (7, Some(20)),
                (64, None),
                (64, Some(5)),
                (usize::MAX, Some(1)),
                (usize::MAX, None),
            ] {
                for items in [0, 1, 2, 63, 64, 65, 700] {
                    for ordered in [true, false] {
                        let ran = Arc::new(AtomicUsize::new(0));
                        let counts = Arc::clone(&ran);
                        let double = move |number| {
                            counts.fetch_add(1, Ordering::SeqCst);
                            2 * number
                        };
                        let mut results: Vec<usize> = match (ordered, window) {
                            (true, None) => pool.map(0..items, double).batch(batch).collect(),
                            // In either order.
                            (true, Some(window)) => {
                                let map = pool.map(0..items, double).window(window);
                                map.batch(batch).collect()
                            }
                            (false, None) => {
                                pool.map_unordered(0..items, double).batch(batch).collect()
                            }
                            (false, Some(window)) => {
                                let map = pool.map_unordered(0..items, double).batch(batch);
                                map.window(window).collect()
                            }
                        };
                        if !ordered {
                            results.sort_unstable();
                        }
                        assert!(results.into_iter().eq((0..items).map(|number| 2 * number)));
                        assert_eq!(ran.load(Ordering::SeqCst), items);
                    }
                }
            }
            assert_pool_at_rest(&pool);
        }
    }
}

/// The window counts items: none is pulled further ahead of what was yielded, also where a batch would be larger.
#[test]
fn no_batch_is_pulled_beyond_the_window() {
    for pool in pools(2) {
        for (batch, window) in [(4, 8), (4, 10), (8, 8), (10, 4), (3, 64), (64, 1)] {
            for ordered in [true, false] {
                let pulled = Rc::new(Cell::new(0));
                let (items, same) = (counted(&pulled), |number: usize| number);
                let mut results: Box<dyn Iterator<Item = usize>> = if ordered {
                    Box::new(pool.map(items, same).batch(batch).window(window))
                } else {
                    Box::new(pool.map_unordered(items, same).window(window).batch(batch))
                };
                assert_eq!(pulled.get(), 0, "it is lazy");
                let mut most = 0;
                for yielded in 0..400 {
                    let result = results.next().expect("it has no end");
                    // While `next` looked for this result it counted as not yielded.
                    assert!(
                        pulled.get() <= yielded + window,
                        "batches of {batch} in {window}"
                    );
                    assert!(!ordered || result == yielded);
                    most = most.max(pulled.get() - yielded);
                }
                assert!(most >= batch.min(window), "no batch of {batch} in {window}");
            }
        }
        assert_pool_at_rest(&pool);
    }
}

/// By default the window has room for four batches for each worker.
#[test]
fn the_default_window_has_four_batches_for_each_worker() {
    let pool = Pool::with_capacity(3);
    let (pulled, gate) = (Rc::new(Cell::new(0)), Gate::new());
    let (most, inside) = (Rc::clone(&pulled), gate.clone());
    let items = counted(&pulled).inspect(move |_| {
        if most.get() == 3 * 4 * 100 {
            gate.open();
        }
    });
    let map = pool.map(items, move |number| {
        inside.wait();
        number
    });
    let mut map = map.batch(100);
    assert_eq!(map.next(), Some(0));
    assert_eq!(pulled.get(), 3 * 4 * 100);
    drop(map);
    assert_pool_at_rest(&pool);
}

/// The items of a batch run one after the other, on one worker; batches run side by side.
#[test]
fn a_batch_is_one_unit_and_batches_run_side_by_side() {
    let pool = Pool::with_capacity(2);
    let both = Arc::new(Barrier::new(2));
    let map = pool.map(0..20, move |number: usize| {
        if number % 10 == 0 {
            both.wait();
        }
        thread::current().id()
    });
    let threads: Vec<ThreadId> = map.batch(10).collect();
    let of_batches: Vec<BTreeSet<String>> = (threads.chunks(10))
        .map(|batch| batch.iter().map(|id| format!("{id:?}")).collect())
        .collect();
    assert_eq!((of_batches[0].len(), of_batches[1].len()), (1, 1));
    assert_ne!(of_batches[0], of_batches[1]);
    assert_pool_at_rest(&pool);
}

/// A panic belongs to its item: the results before it come out, those after it do not, nothing behind it in its batch
/// starts, and each item and result is dropped once.
#[test]
fn a_panic_belongs_to_its_item_at_each_position_of_a_batch() {
    const BATCH: usize = 5;
    for pool in pools(1) {
        for ordered in [true, false] {
            for at in 0..3 * BATCH + 2 {
                let (dropped, started) = (Arrivals::new(), Log::new());
                let (counter, starts) = (dropped.clone(), started.clone());
                let made = Rc::new(Cell::new(0));
                let makes = Rc::clone(&made);
                let items = (0..3 * BATCH + 2).map(move |number| {
                    makes.set(makes.get() + 1);
                    (number, DropCounter(counter.clone()))
                });
                let f = move |(number, counter): (usize, DropCounter)| {
                    starts.push(number);
                    if number == at {
                        panic_any(number);
                    }
                    (number, counter)
                };
                let mut map: Box<dyn Iterator<Item = (usize, DropCounter)>> = if ordered {
                    Box::new(pool.map(items, f).batch(BATCH))
                } else {
                    Box::new(pool.map_unordered(items, f).batch(BATCH))
                };
                let mut results = Vec::new();
                let payload = loop {
                    match catch_unwind(AssertUnwindSafe(|| map.next())) {
                        Ok(Some((number, _))) => results.push(number),
                        Ok(None) => panic!("it ended without the panic of item {at}"),
                        Err(payload) => break payload,
                    }
                };
                assert_eq!(payload.downcast_ref::<usize>(), Some(&at));
                assert!(results.into_iter().eq(0..at));
                assert!(started.entries().into_iter().eq(0..=at));
                assert!(map.next().is_none() && map.next().is_none());
                drop(map);
                dropped.wait_for(made.get());
                assert_eq!(dropped.count(), made.get());
            }
        }
        assert_pool_at_rest(&pool);
    }
}

/// In an ordered map nothing is yielded after a batch that lacks results, though later batches are done.
#[test]
fn no_result_is_skipped_after_a_panic_within_a_batch() {
    let pool = Pool::builder().capacity(2).panic_handler(|_| {});
    let pool = pool.build().unwrap();
    let second = Arrivals::new();
    let dones = second.clone();
    let mut map = pool
        .map(0..20, move |number: usize| {
            if number >= 10 {
                dones.arrive();
            } else if number == 3 {
                dones.wait_for(10);
                panic!("on purpose");
            }
            number
        })
        .batch(10);
    let mut results = Vec::new();
    let ended = catch_unwind(AssertUnwindSafe(|| results.extend(map.by_ref())));
    assert!(ended.is_err());
    assert_eq!(results, [0, 1, 2]);
    assert!(map.next().is_none());
    drop(map);
    assert_pool_at_rest(&pool);
}

/// Once an item has panicked, no item of a batch that another worker is at is started; what that batch had done before
/// comes out, as it would without batches.
#[test]
fn a_panic_stops_the_batches_of_others() {
    let pool = Pool::builder().capacity(2).panic_handler(|_| {});
    let pool = pool.build().unwrap();
    let (begun, gate, started) = (Arrivals::new(), Gate::new().opened_on_drop(), Log::new());
    let (begins, inside, starts) = (begun.clone(), gate.clone(), started.clone());
    let f = move |number: usize| {
        starts.push(number);
        match number {
            3 => {
                begins.arrive();
                inside.wait();
            }
            10 => {
                begins.wait_for(1);
                panic!("on purpose");
            }
            _ => {}
        }
        number
    };
    let handle = pool.handle();
    let caller = thread::spawn(move || {
        let mut results = Vec::new();
        let map = handle.map(0..20, f).batch(10);
        let ended = catch_unwind(AssertUnwindSafe(|| results.extend(map)));
        (ended.is_err(), results)
    });
    begun.wait_for(1);
    eventually("the other one has panicked", || pool.stats().panicked == 1);
    gate.open();
    assert_eq!(caller.join().unwrap(), (true, vec![0, 1, 2, 3]));
    let mut started = started.entries();
    started.sort_unstable();
    assert_eq!(started, [0, 1, 2, 3, 10]);
    assert_pool_at_rest(&pool);
}

/// An iterator that panics in the midst of a batch takes none of its items with it: who goes on gets all of them, in
/// order; who does not has them dropped once.
#[test]
fn an_iterator_that_panics_within_a_batch_loses_nothing() {
    for pool in pools(2) {
        let items = (0..100).inspect(|number| assert!(number % 10 != 9, "on purpose"));
        let mut map = pool.map(items, |number| number).batch(7).window(20);
        let (results, panics) = results_beside_panics(&mut map);
        assert_eq!(panics, 10);
        assert!(
            results
                .into_iter()
                .eq((0..100).filter(|number| number % 10 != 9))
        );

        let dropped = Arrivals::new();
        let counter = dropped.clone();
        let items = (0..).map(move |number| {
            assert!(number != 50, "on purpose");
            DropCounter(counter.clone())
        });
        let map = pool.map(items, drop).batch(8);
        assert!(catch_unwind(AssertUnwindSafe(|| map.count())).is_err());
        assert_pool_at_rest(&pool);
        dropped.wait_for(50);
        assert_eq!((dropped.count(), pool.stats().panicked), (50, 0));
    }
}

/// Dropped half-way, with a batch in the caller's hands and others being processed, the map starts no further item,
/// and each item and each result is dropped once.
#[test]
fn a_map_that_is_dropped_within_a_batch_lets_go_of_everything() {
    for pool in pools(2) {
        for ordered in [true, false] {
            let dropped = Arrivals::new();
            let items: Vec<_> = (0..100)
                .map(|number| (number, DropCounter(dropped.clone())))
                .collect();
            // No result is there before four batches are pulled: one would be enough for the caller.
            let pulled = Arrivals::new();
            let items = {
                let pulled = pulled.clone();
                items.into_iter().inspect(move |_| pulled.arrive())
            };
            let (gate, started) = (Gate::new().opened_on_drop(), Log::new());
            let (inside, starts) = (gate.clone(), started.clone());
            let f = move |(number, counter): (usize, DropCounter)| {
                pulled.wait_for(24);
                starts.push(number);
                if number >= 12 {
                    inside.wait();
                }
                counter
            };
            let mut map: Box<dyn Iterator<Item = DropCounter>> = if ordered {
                Box::new(pool.map(items, f).batch(6))
            } else {
                Box::new(pool.map_unordered(items, f).batch(6))
            };
            let taken: Vec<_> = map.by_ref().take(8).collect();
            // The first of each of two batches.
            eventually("two items run", || started.len() == 14);
            drop(map);
            gate.open();
            assert_pool_at_rest(&pool);
            assert_eq!((started.len(), dropped.count()), (14, 92));
            drop(taken);
            assert_eq!(dropped.count(), 100);
        }
    }
}

/// In a task of the pool the caller processes the batch that it waits for: also at capacity 1, and one in the other.
#[test]
fn batches_nest_at_capacity_1() {
    for pool in pools(1) {
        let (handle, inner) = (pool.handle(), pool.handle());
        let sums = in_a_task(&pool, "the maps", move || {
            let sum = move |n: u64| inner.map(0..n, |i| i).batch(3).window(4).sum::<u64>();
            handle.map(0..10, sum).batch(4).collect::<Vec<u64>>()
        });
        let expected = (0..10_u64).map(|n| (0..n).sum::<u64>());
        assert!(sums.into_iter().eq(expected));
        let closed = pool.handle();
        pool.release();
        // R5: the caller does what a closed pool refuses.
        assert_eq!(closed.map(0..10, |n| n).batch(4).sum::<u64>(), 45);
    }
}

/// It says how many are left, with batches in each place: not full, processed, and being yielded.
#[test]
fn a_map_in_batches_says_how_many_are_left() {
    let pool = Pool::with_capacity(2);
    let mut map = pool.map(0..50, |number| number).batch(8).window(20);
    for left in (0..50).rev() {
        assert!(map.next().is_some());
        assert_eq!(map.size_hint(), (left, Some(left)));
    }
    assert_eq!(map.next(), None);
    assert_eq!(map.size_hint(), (0, Some(0)));
}

/// A batch is handed over in one step: a map costs no more tasks than it has batches, and each takes and leaves once,
/// so a thousand items in batches of a hundred are ten units, whoever processes them.
#[test]
fn a_map_has_no_more_tasks_than_batches() {
    let pool = Pool::with_capacity(2);
    let items = pool.map(0..1_000, |number| {
        thread::yield_now();
        number
    });
    assert_eq!(items.batch(100).sum::<i32>(), 499_500);
    assert_pool_at_rest(&pool);
    let stats = pool.stats();
    assert!(stats.submitted <= 10 + 2, "{stats:?}");
}

// ── run_all ─────────────────────────────────────────────────────────────────────────────────────

/// R6: three workers and nine jobs; the same with an error on each odd job; a list with an error kept
/// on each task.
#[test]
fn the_three_versions_of_the_tutorial() {
    struct Task {
        number: u32,
        error: Option<String>,
    }

    for pool in pools(3) {
        let results = pool.run_all((1..=9).map(|job| move || job * 2));
        let results: Vec<i32> = results.into_iter().map(Result::unwrap).collect();
        assert!(results.into_iter().eq((1..=9).map(|job| job * 2)));

        let odd = |job: i32| {
            move || {
                if job % 2 == 1 {
                    Err(format!("job {job}"))
                } else {
                    Ok(job)
                }
            }
        };
        let results = pool.run_all((1..=9).map(odd));
        let errors: Vec<String> = results
            .into_iter()
            .filter_map(|result| result.unwrap().err())
            .collect();
        assert_eq!(errors, ["job 1", "job 3", "job 5", "job 7", "job 9"]);

        let mut tasks: Vec<Task> = (0..9)
            .map(|number| Task {
                number,
                error: None,
            })
            .collect();
        let run = |task: &mut Task| {
            if task.number % 3 == 0 {
                task.error = Some(format!("task {}", task.number));
            }
        };
        let results = pool.run_all(tasks.iter_mut().map(|task| move || run(task)));
        assert!(results.iter().all(Result::is_ok));
        let failed: Vec<u32> = tasks
            .iter()
            .filter(|task| task.error.is_some())
            .map(|task| task.number)
            .collect();
        assert_eq!(failed, [0, 3, 6]);
        assert_pool_at_rest(&pool);
    }
}

/// A panic is kept in its place, with its payload; the handler is not told of it.
#[test]
fn run_all_keeps_each_panic_in_its_place() {
    let told = Arrivals::new();
    let tells = told.clone();
    let pool = Pool::builder()
        .capacity(2)
        .panic_handler(move |_| tells.arrive())
        .build()
        .unwrap();
    let task = |number: usize| {
        move || {
            if number % 4 == 1 {
                panic_any(number);
            }
            number
        }
    };
    let results = pool.run_all((0..20).map(task));
    assert_eq!(results.len(), 20);
    for (number, result) in results.into_iter().enumerate() {
        match result {
            Ok(value) => assert_eq!(value, number),
            Err(error) => {
                assert_eq!(number % 4, 1);
                assert_eq!(*error.into_panic().downcast::<usize>().unwrap(), number);
            }
        }
    }
    assert_pool_at_rest(&pool);
    assert_eq!((told.count(), pool.stats().panicked), (0, 5));
}

/// At capacity 1 it may be called in a task, and within itself.
#[test]
fn run_all_nests_at_capacity_1() {
    for pool in pools(1) {
        let inner = pool.handle();
        let sum = in_a_task(&pool, "run_all in a task", move || {
            let row = |x: u64| {
                let inner = &inner;
                move || {
                    let cells = inner.run_all((0..10).map(|y| move || x + y));
                    cells.into_iter().map(Result::unwrap).sum::<u64>()
                }
            };
            let rows = inner.run_all((0..10).map(row));
            rows.into_iter().map(Result::unwrap).sum::<u64>()
        });
        assert_eq!(sum, 900);
        assert_pool_at_rest(&pool);
    }
}

/// A hundred thousand tasks on a bounded pool, of which no more are pulled than there is room for.
#[test]
fn run_all_pulls_no_more_than_there_is_room_for() {
    const TASKS: usize = 100_000;
    let pool = Pool::builder().capacity(2).backlog(6).build().unwrap();
    let ran = AtomicUsize::new(0);
    let most = Cell::new(0);
    let tasks = (0..TASKS).map(|number| {
        most.set(
            most.get()
                .max(number - ran.load(Ordering::SeqCst).min(number)),
        );
        let ran = &ran;
        move || {
            ran.fetch_add(1, Ordering::SeqCst);
            number
        }
    });
    let results = pool.run_all(tasks);
    assert!(results.into_iter().map(Result::unwrap).eq(0..TASKS));
    // The room, and one that waits for it.
    assert!(most.get() <= 9, "{} ahead", most.get());
    assert_pool_at_rest(&pool);
}

/// R5: what a closed pool refuses, or a full one that is built to reject, the caller runs.
#[test]
fn run_all_runs_what_is_refused_here() {
    let pool = Pool::with_capacity(2);
    pool.release();
    let me = thread::current().id();
    let here = || move || thread::current().id() == me;
    let results: Vec<Result<bool, JoinError>> = pool.run_all((0..50).map(|_| here()));
    assert!(results.into_iter().all(Result::unwrap));

    let pool = Pool::builder()
        .capacity(1)
        .overflow(Overflow::Reject)
        .build()
        .unwrap();
    let occupied = occupy(&pool, 1);
    let results = pool.run_all((0..50).map(|_| here()));
    assert!(results.into_iter().all(Result::unwrap));
    occupied.end();
    assert_pool_at_rest(&pool);
}

/// R5: what is discarded under it panics in the caller.
#[test]
fn what_is_discarded_under_run_all_panics_in_the_caller() {
    let pool = Pool::builder().capacity(1).backlog(10).build().unwrap();
    let occupied = occupy(&pool, 1);
    let handle = pool.handle();
    let caller = thread::spawn(move || handle.run_all((0..5).map(|n| move || n)).len());
    eventually_eq("tasks queued", 5, || pool.queued());
    assert_eq!(pool.release_now(), 5);
    let payload = within(DEADLINE, "the caller hears of it", move || caller.join()).unwrap_err();
    let message = payload.downcast_ref::<&str>().expect("a message");
    assert!(message.contains("discarded"), "{message}");
    occupied.end();
    assert_pool_at_rest(&pool);
}

/// An iterator of tasks that panics does so in the caller, after those that were handed in are over.
#[test]
fn an_iterator_of_tasks_that_panics_panics_in_the_caller() {
    let pool = Pool::with_capacity(2);
    let ran = AtomicUsize::new(0);
    let tasks = (0..100).map(|number| {
        assert!(number < 20, "on purpose");
        || ran.fetch_add(1, Ordering::SeqCst)
    });
    let ended = catch_unwind(AssertUnwindSafe(|| pool.run_all(tasks).len()));
    assert!(ended.is_err());
    assert_eq!(ran.load(Ordering::SeqCst), 20);
    assert!(becomes_true(DEADLINE, || pool.wait_idle_timeout(DEADLINE)));
    assert_pool_at_rest(&pool);
}
