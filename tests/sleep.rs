//! `anthill::sleep`: on each executor, never early, cancelled by a drop; and the memory of a sleeping future.

#![cfg(feature = "futures")]

mod support;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use anthill::sleep;
use rand::Rng;
use support::{Arrivals, DropCounter, receive, seeded_rng, within};

const LIMIT: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn poll(future: Pin<&mut impl Future<Output = ()>>, waker: &Waker) -> Poll<()> {
    future.poll(&mut Context::from_waker(waker))
}

/// Counts its told.
struct Wakes(Arrivals);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.arrive();
    }
}

fn counted() -> (Arrivals, Waker) {
    let told = Arrivals::new();
    (told.clone(), Waker::from(Arc::new(Wakes(told))))
}

fn join_all(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Sleeps a few times, side by side and in turn, and looks at the clock each time.
async fn naps() {
    for millis in [0, 1, 3, 20] {
        let time = Duration::from_millis(millis);
        let begun = Instant::now();
        sleep(time).await;
        assert!(begun.elapsed() >= time, "early: {millis} ms");
    }
}

#[test]
fn never_early_on_each_executor() {
    within(LIMIT, "the sleepers", || {
        futures::executor::block_on(naps());
        smol::block_on(naps());
        let current = tokio::runtime::Builder::new_current_thread();
        let many = tokio::runtime::Builder::new_multi_thread();
        for mut builder in [current, many] {
            let runtime = builder.build().unwrap();
            runtime.block_on(async {
                let naps: Vec<_> = (0..20).map(|_| tokio::spawn(naps())).collect();
                for nap in naps {
                    nap.await.unwrap();
                }
            });
        }
    });
}

/// Sets many timers on this thread, of which some are given up.
fn sleep_and_give_up(mut rng: impl Rng) {
    for _ in 0..20 {
        let mut sleepers = Vec::new();
        let mut given_up = Vec::new();
        for _ in 0..500 {
            let time = Duration::from_micros(rng.random_range(0..20_000));
            let (told, waker) = counted();
            let begun = Instant::now();
            let mut future = Box::pin(sleep(time));
            if poll(future.as_mut(), &waker).is_ready() {
                assert!(begun.elapsed() >= time, "early");
            } else if rng.random_bool(0.3) {
                given_up.push(told);
            } else {
                sleepers.push((future, begun + time, told, waker));
            }
        }
        for (mut future, until, told, waker) in sleepers {
            told.wait_for(1);
            assert!(Instant::now() >= until, "early");
            assert!(poll(future.as_mut(), &waker).is_ready());
            assert_eq!(told.count(), 1);
        }
        for told in given_up {
            // It may have been fired as it was given up.
            assert!(told.count() <= 1);
        }
    }
}

/// Many sleepers on several threads: each ends, none early, and each wakes its task once.
#[test]
fn a_stress_of_sleepers() {
    within(LIMIT, "the sleepers", || {
        let sleeps =
            |thread| spawn(move || sleep_and_give_up(seeded_rng(&format!("sleepers {thread}"))));
        join_all((0..3).map(sleeps).collect());
    });
}

#[test]
fn the_longest_time_never_ends() {
    let (told, waker) = counted();
    let mut ever = pin!(sleep(Duration::MAX));
    assert!(poll(ever.as_mut(), &waker).is_pending());
    let mut nearly = pin!(sleep(Duration::from_secs(u64::MAX)));
    assert!(poll(nearly.as_mut(), &waker).is_pending());
    futures::executor::block_on(sleep(Duration::from_millis(5)));
    assert!(poll(ever, &waker).is_pending());
    assert!(poll(nearly, &waker).is_pending());
    assert_eq!(told.count(), 0);
}

#[test]
fn a_time_of_zero_is_over_at_once() {
    let mut future = pin!(sleep(Duration::ZERO));
    assert!(poll(future.as_mut(), Waker::noop()).is_ready());
    assert!(poll(future, Waker::noop()).is_ready(), "and stays so");
}

/// The time counts from the call, not from the first poll.
#[test]
fn the_time_counts_from_the_call() {
    within(LIMIT, "the sleepers", || {
        let first = sleep(Duration::from_millis(30));
        let (told, waker) = counted();
        let mut second = pin!(sleep(Duration::from_millis(30)));
        assert!(poll(second.as_mut(), &waker).is_pending());
        told.wait_for(1);
        // Both were made before the second was over.
        futures::executor::block_on(sleep(Duration::from_millis(2)));
        assert!(poll(pin!(first), Waker::noop()).is_ready());
    });
}

/// The waker of the last poll is the one that is woken; those before it are dropped.
#[test]
fn the_last_waker_is_woken() {
    within(LIMIT, "the wakers", || {
        let (first, first_waker) = counted();
        let (last, last_waker) = counted();
        let mut future = pin!(sleep(Duration::from_millis(30)));
        assert!(poll(future.as_mut(), &first_waker).is_pending());
        if poll(future.as_mut(), &last_waker).is_pending() {
            last.wait_for(1);
            assert_eq!(first.count(), 0);
        }
        assert!(poll(future, &last_waker).is_ready());
    });
}

/// A drop takes the timer out, and the waker with it; the thread is not needed for that.
#[test]
fn a_drop_takes_the_waker_back() {
    struct Held(#[expect(dead_code, reason = "it is dropped")] DropCounter);
    impl Wake for Held {
        fn wake(self: Arc<Self>) {}
    }
    let drops = Arrivals::new();
    let waker = Waker::from(Arc::new(Held(DropCounter(drops.clone()))));
    let mut future = Box::pin(sleep(HOUR));
    assert!(poll(future.as_mut(), &waker).is_pending());
    drop(waker);
    assert_eq!(drops.count(), 0);
    drop(future);
    assert_eq!(drops.count(), 1);
}

/// TS3: a panic in a waker costs nobody else anything: others are woken, and the thread goes on.
#[test]
fn a_waker_that_panics() {
    struct Panics(Arrivals);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.arrive();
            panic!("a waker");
        }
    }
    within(LIMIT, "the others", || {
        for _ in 0..3 {
            let panicked = Arrivals::new();
            let panics = Waker::from(Arc::new(Panics(panicked.clone())));
            let mut bad = pin!(sleep(Duration::from_millis(2)));
            let was_set = poll(bad.as_mut(), &panics).is_pending();
            let (told, waker) = counted();
            let mut good = pin!(sleep(Duration::from_millis(3)));
            if poll(good.as_mut(), &waker).is_pending() {
                told.wait_for(1);
            }
            if was_set {
                panicked.wait_for(1);
            }
            assert!(poll(bad, &panics).is_ready());
        }
    });
}

/// TS3: wakers may set, drop and renew other timers as they are woken, cloned and dropped: no lock is held.
#[test]
fn a_waker_that_uses_timers() {
    static USED: AtomicUsize = AtomicUsize::new(0);
    fn use_timers() {
        USED.fetch_add(1, Ordering::Relaxed);
        // On every wheel: threads take turns.
        let threads: Vec<_> = (0..8)
            .map(|_| {
                spawn(|| {
                    let mut other = pin!(sleep(HOUR));
                    assert!(poll(other.as_mut(), Waker::noop()).is_pending());
                })
            })
            .collect();
        join_all(threads);
    }
    const VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            use_timers();
            RawWaker::new(data, &VTABLE)
        },
        |_| use_timers(),
        |_| use_timers(),
        |_| use_timers(),
    );
    within(LIMIT, "the waker", || {
        // SAFETY: the functions of the vtable use no data.
        let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE)) };
        let mut dropped = Box::pin(sleep(HOUR));
        assert!(poll(dropped.as_mut(), &waker).is_pending());
        assert!(poll(dropped.as_mut(), Waker::noop()).is_pending());
        assert!(poll(dropped.as_mut(), &waker).is_pending());
        drop(dropped);
        let before = USED.load(Ordering::Relaxed);
        let mut woken = pin!(sleep(Duration::from_millis(1)));
        if poll(woken.as_mut(), &waker).is_pending() {
            support::eventually("the waker is woken", || {
                USED.load(Ordering::Relaxed) >= before + 2
            });
        }
    });
}

/// A future may move to another thread, and be dropped there.
#[test]
fn it_may_be_dropped_on_another_thread() {
    let mut future = Box::pin(sleep(HOUR));
    assert!(poll(future.as_mut(), Waker::noop()).is_pending());
    let (send, moved) = channel();
    send.send(future).unwrap();
    spawn(move || drop(receive("the future", &moved)))
        .join()
        .unwrap();
}

/// Many futures of many threads that end at the same tick each wake once.
#[test]
fn a_herd_wakes_each_once() {
    within(LIMIT, "the herd", || {
        let all = Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let all = Arc::clone(&all);
                spawn(move || {
                    let mut herd = Vec::new();
                    for _ in 0..2_000 {
                        let (told, waker) = counted();
                        let mut future = Box::pin(sleep(Duration::from_millis(10)));
                        if poll(future.as_mut(), &waker).is_pending() {
                            herd.push((future, told, waker));
                        }
                    }
                    all.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(herd);
                })
            })
            .collect();
        join_all(threads);
        let herd = std::mem::take(&mut *all.lock().unwrap());
        for (mut future, told, waker) in herd {
            told.wait_for(1);
            assert!(poll(future.as_mut(), &waker).is_ready());
            assert_eq!(told.count(), 1);
        }
    });
}

/// Sleepers of one thread, and those that were woken.
#[derive(Default)]
struct Woken(Mutex<Vec<usize>>, std::sync::Condvar);

struct WakesOne(Arc<Woken>, usize);

impl Wake for WakesOne {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Woken(woken, told) = &*self.0;
        let mut woken = woken.lock().unwrap();
        woken.push(self.1);
        if woken.len() == 1 {
            told.notify_one();
        }
    }
}

/// Not a test: tells how many timers a second are set and fired, with 50,000 sleepers of 10 ms on two threads.
/// `cargo test --release --features futures --test sleep -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure_timers_a_second() {
    const SLEEPERS: usize = 25_000;
    const TIME: Duration = Duration::from_millis(10);
    const LASTS: Duration = Duration::from_secs(3);
    let body = || {
        let woken = Arc::new(Woken::default());
        let mut sleepers: Vec<_> = (0..SLEEPERS)
            .map(|number| {
                let waker = Waker::from(Arc::new(WakesOne(Arc::clone(&woken), number)));
                (sleep(Duration::ZERO), waker)
            })
            .collect();
        let mut ready: Vec<usize> = (0..SLEEPERS).collect();
        let (begun, mut fired) = (Instant::now(), 0_u64);
        while begun.elapsed() < LASTS {
            for number in ready.drain(..) {
                let (sleeper, waker) = &mut sleepers[number];
                while poll(Pin::new(sleeper), waker).is_ready() {
                    fired += 1;
                    *sleeper = sleep(TIME);
                }
            }
            let Woken(woken, told) = &*woken;
            let woken = woken.lock().unwrap();
            let mut woken = told.wait_while(woken, |woken| woken.is_empty()).unwrap();
            std::mem::swap(&mut ready, &mut woken);
        }
        fired
    };
    let threads = [spawn(body), spawn(body)];
    let fired: u64 = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    println!("{} timers a second", fired / LASTS.as_secs());
}
