//! Idle workers: P10 (they end after the idle timeout, the oldest first) and P11 (until then they
//! cost nothing).
//!
//! The promises are times, so these tests look at the clock. Upper limits hold on a quiet machine:
//! a test that has one tries a few times and fails only if no attempt keeps it.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use anthill::{Pool, PoolHandle};
use rand::Rng;
use support::{
    Arrivals, assert_at_rest, becomes_true, eventually, eventually_eq, expect_accepted, occupy,
    seeded_rng, watchdog,
};

const ATTEMPTS: usize = 4;

/// Runs `attempt` until it returns `Ok`; panics with all that it said if it never does.
#[track_caller]
fn in_one_of_a_few_attempts(mut attempt: impl FnMut() -> Result<(), String>) {
    let mut failures = Vec::new();
    for _ in 0..ATTEMPTS {
        match attempt() {
            Ok(()) => return,
            Err(failure) => failures.push(failure),
        }
    }
    panic!("no attempt of {ATTEMPTS} kept the time: {failures:#?}");
}

/// Lets the pool have `number` workers, and returns when all of them are idle.
#[track_caller]
fn burst(pool: &PoolHandle, number: usize) {
    occupy(pool, number).end();
    pool.wait_idle();
    assert!(pool.workers() <= number);
}

#[test]
fn p10_a_worker_ends_when_it_has_been_idle_for_the_idle_timeout() {
    let timeout = Duration::from_millis(200);
    in_one_of_a_few_attempts(|| {
        let pool = Pool::builder()
            .capacity(3)
            .idle_timeout(timeout)
            .build()
            .unwrap();
        let occupied = occupy(&pool, 3);
        let idle_since = Instant::now();
        occupied.end();
        eventually_eq("workers", 0, || pool.workers());
        let took = idle_since.elapsed();
        assert!(took >= timeout, "ended early, after {took:?}");
        let stats = pool.stats();
        assert_eq!(
            (stats.workers_expired, stats.workers_peak),
            (3, 3),
            "{stats:?}"
        );
        if took <= timeout.mul_f64(1.1) + Duration::from_millis(20) {
            Ok(())
        } else {
            Err(format!("took {took:?}"))
        }
    });
}

/// The thread itself is gone, not only its place in a gauge.
#[cfg(target_os = "linux")]
#[test]
fn p10_the_thread_of_an_expired_worker_is_gone() {
    use support::linux::threads_named;

    let pool = Pool::builder()
        .capacity(3)
        .name("p10gone")
        .idle_timeout(Duration::from_millis(20))
        .build()
        .unwrap();
    let occupied = occupy(&pool, 3);
    eventually_eq("threads", 3, || threads_named("p10gone"));
    drop(occupied);
    eventually_eq("threads", 0, || threads_named("p10gone"));
}

/// Work puts expiry off: the timeout is that of being idle, not of living.
#[test]
fn p10_a_worker_in_use_does_not_expire() {
    in_one_of_a_few_attempts(|| {
        let pool = Pool::builder()
            .capacity(1)
            .idle_timeout(Duration::from_millis(300))
            .build()
            .unwrap();
        let end = Instant::now() + Duration::from_millis(900);
        while Instant::now() < end {
            expect_accepted(pool.submit(|| {}));
            thread::sleep(Duration::from_millis(20));
        }
        match pool.stats().workers_started {
            1 => Ok(()),
            started => Err(format!("{started} workers were started")),
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn p10_the_oldest_idle_worker_expires_first() {
    use std::sync::mpsc::channel;
    use support::linux::{eventually_asleep, thread_id};
    use support::{Gate, Log, receive};

    in_one_of_a_few_attempts(|| {
        let stopped = Log::new();
        let pool = Pool::builder()
            .capacity(4)
            .idle_timeout(Duration::from_millis(250))
            .on_worker_stop({
                let stopped = stopped.clone();
                move |_| stopped.push(thread_id())
            })
            .build()
            .unwrap();
        let (sender, receiver) = channel();
        let held: Vec<_> = (0..4)
            .map(|_| {
                let gate = Gate::new();
                let (inside, sender) = (gate.clone(), sender.clone());
                expect_accepted(pool.submit(move || {
                    let _ = sender.send(thread_id());
                    inside.wait();
                }));
                (receive("the task began", &receiver), gate.opened_on_drop())
            })
            .collect();
        let mut order = Vec::new();
        for index in [2, 0, 3, 1] {
            let (thread, gate) = &held[index];
            gate.open();
            order.push(*thread);
            if pool.stats().workers_expired == 0 {
                eventually_asleep(*thread);
            }
            thread::sleep(Duration::from_millis(15));
        }
        eventually_eq("workers that stopped", 4, || stopped.len());
        if stopped.entries() == order {
            Ok(())
        } else {
            Err(format!(
                "idle since {order:?}, ended {:?}",
                stopped.entries()
            ))
        }
    });
}

fn a_task_now_and_then_lets_a_burst_fall_to(minimum: usize) {
    let timeout = Duration::from_millis(300);
    in_one_of_a_few_attempts(|| {
        let pool = Pool::builder()
            .capacity(300)
            .min_workers(minimum)
            .idle_timeout(timeout)
            .build()
            .unwrap();
        burst(&pool, 256);
        assert_eq!(pool.stats().workers_peak, 256);
        let start = Instant::now();
        let mut next = start;
        loop {
            expect_accepted(pool.submit(|| {}));
            let took = start.elapsed();
            if pool.workers() == minimum.max(1) {
                return if took <= 2 * timeout + Duration::from_millis(80) {
                    Ok(())
                } else {
                    Err(format!("took {took:?}"))
                };
            }
            if took > 10 * timeout {
                return Err(format!("still {} workers after {took:?}", pool.workers()));
            }
            next += Duration::from_millis(10);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
}

#[test]
fn p10_a_burst_falls_to_one_worker_though_a_task_comes_now_and_then() {
    a_task_now_and_then_lets_a_burst_fall_to(0);
}

#[test]
fn p10_a_burst_falls_to_the_minimum_though_a_task_comes_now_and_then() {
    a_task_now_and_then_lets_a_burst_fall_to(5);
}

#[test]
fn p10_the_minimum_does_not_expire() {
    let pool = Pool::builder()
        .capacity(6)
        .min_workers(2)
        .idle_timeout(Duration::from_millis(15))
        .build()
        .unwrap();
    burst(&pool, 6);
    eventually_eq("workers", 2, || pool.workers());
    let fewer = becomes_true(Duration::from_millis(150), || pool.workers() < 2);
    assert!(!fewer, "{} workers are left", pool.workers());
    assert_eq!(pool.stats().workers_expired, 4);
}

#[test]
fn p10_keep_workers_keeps_them() {
    let pool = Pool::builder()
        .capacity(3)
        .idle_timeout(Duration::from_millis(15))
        .keep_workers()
        .build()
        .unwrap();
    burst(&pool, 3);
    let fewer = becomes_true(Duration::from_millis(150), || pool.workers() < 3);
    assert!(!fewer, "{} workers are left", pool.workers());
    assert_eq!(pool.stats().workers_expired, 0);
}

#[test]
fn p10_after_expiry_the_pool_starts_threads_again() {
    let pool = Pool::builder()
        .capacity(2)
        .idle_timeout(Duration::from_millis(5))
        .build()
        .unwrap();
    for round in 1..=5 {
        burst(&pool, 2);
        eventually_eq("workers", 0, || pool.workers());
        let stats = pool.stats();
        assert_eq!(
            (
                stats.workers_started,
                stats.workers_expired,
                stats.workers_peak
            ),
            (2 * round, 2 * round, 2),
            "{stats:?}"
        );
    }
}

/// Tasks that arrive at the moment at which a worker makes up its mind to end.
#[test]
fn p10_no_task_is_lost_to_an_expiring_worker() {
    let mut rng = seeded_rng("p10_no_task_is_lost_to_an_expiring_worker");
    for (timeout, rounds) in [
        (Duration::ZERO, 500),
        (Duration::from_nanos(1), 300),
        (Duration::from_micros(100), 800),
        (Duration::from_millis(1), 200),
    ] {
        let pauses: Vec<u64> = (0..rounds)
            .map(|_| {
                let around = u64::try_from(timeout.as_nanos()).unwrap() + 20_000;
                rng.random_range(0..2 * around)
            })
            .collect();
        watchdog("all tasks run", move || {
            let pool = Pool::builder()
                .capacity(2)
                .idle_timeout(timeout)
                .build()
                .unwrap();
            let ran = Arrivals::new();
            for pause in pauses {
                let ran = ran.clone();
                expect_accepted(pool.submit(move || ran.arrive()));
                let end = Instant::now() + Duration::from_nanos(pause);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            }
            // Of the tasks that a worker left behind, nobody else would take care.
            ran.wait_for(rounds);
            pool.wait_idle();
            eventually("all workers expire", || pool.workers() == 0);
            assert_at_rest(&pool);
        });
    }
}

/// Runs in a process of its own, so that the threads beside the first one are the pools'.
#[cfg(target_os = "linux")]
#[test]
fn p11_idle_pools_make_no_context_switch_and_use_no_processor_time() {
    use support::linux::{context_switches, cpu_ticks, eventually_asleep, thread_id, threads};

    let test = "p11_idle_pools_make_no_context_switch_and_use_no_processor_time";
    support::in_child_process(test, Duration::from_secs(60), || {
        let me = thread_id();
        let before = threads();
        let kept = Pool::builder().capacity(5).keep_workers().build().unwrap();
        burst(&kept, 5);
        // A deadline ten seconds away wakes nobody before it.
        let waiting_for_expiry = Pool::builder().capacity(3).build().unwrap();
        burst(&waiting_for_expiry, 3);
        let minimal = Pool::builder()
            .capacity(4)
            .min_workers(2)
            .idle_timeout(Duration::from_millis(20))
            .build()
            .unwrap();
        burst(&minimal, 4);
        eventually_eq("workers of the pool with a minimum", 2, || {
            minimal.workers()
        });
        let _unused = Pool::default();
        let paused = Pool::builder().capacity(2).backlog(2).build().unwrap();
        burst(&paused, 2);
        paused.tune(0);
        expect_accepted(paused.submit(|| {}));

        // Joined or not, the threads that ended are gone; besides the workers there is no other.
        let mut idle = Vec::new();
        eventually_eq("threads of the pools", 5 + 3 + 2, || {
            idle = threads();
            idle.retain(|id| !before.contains(id) && *id != me);
            idle.len()
        });
        for thread in &idle {
            eventually_asleep(*thread);
        }
        let measure = || -> Vec<_> {
            let one = |id: &u32| (*id, context_switches(*id), cpu_ticks(*id));
            idle.iter().map(one).collect()
        };
        let before = measure();
        // To show that nothing happens, time has to pass.
        thread::sleep(Duration::from_secs(1));
        assert_eq!(
            measure(),
            before,
            "thread, context switches, processor time"
        );
    });
}
