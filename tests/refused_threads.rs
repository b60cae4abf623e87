//! P17: what happens when the system refuses a thread. The refusals are real, made in two ways by a
//! child process for each test: a limit on the user's processes (`RLIMIT_NPROC`, as an ordinary user,
//! since it does not bind the superuser) and a limit on the address space (`RLIMIT_AS`) that leaves
//! no room for the stack of a worker.
//!
//! While threads are refused the test cannot start any either: those it needs are started before.

#![cfg(target_os = "linux")]

mod support;

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use anthill::{
    Balance, BuildError, Builder, JoinHandle, MultiPool, Overflow, Pool, PoolHandle, SubmitError,
    SubmitErrorKind,
};
use rand::Rng;
use support::{
    Arrivals, Gate, Log, assert_at_rest, becomes_true, eventually, eventually_eq,
    eventually_waiting, expect_accepted, in_child_process, linux, occupy, receive, refusal,
    seeded_rng, spawned,
};

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Processes,
    AddressSpace,
}

/// Larger than what the limit on the address space leaves; only reserved, never touched.
const LARGE_STACK: usize = 1 << 30;

impl Way {
    /// Once in the child, before anything else.
    fn prepare(self) {
        if self == Way::Processes {
            // SAFETY: a plain system call; the child has no other use for its privileges.
            let is_root = unsafe { libc::geteuid() } == 0;
            // SAFETY: as above.
            let refused = is_root && unsafe { libc::setuid(65_534) } != 0;
            assert!(
                !refused,
                "no way to become an ordinary user: {}",
                io::Error::last_os_error()
            );
        }
    }

    fn builder(self) -> Builder {
        match self {
            Way::Processes => Pool::builder(),
            Way::AddressSpace => Pool::builder().stack_size(LARGE_STACK),
        }
    }

    /// From now on the system refuses every thread that such a pool wants.
    fn refuse(self) {
        match self {
            Way::Processes => set_limit(libc::RLIMIT_NPROC, Some(0)),
            Way::AddressSpace => {
                let pages = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
                let pages: u64 = pages
                    .split_whitespace()
                    .next()
                    .and_then(|pages| pages.parse().ok())
                    .expect("statm begins with a number of pages");
                set_limit(
                    libc::RLIMIT_AS,
                    Some(pages * 4096 + (LARGE_STACK as u64) / 2),
                );
            }
        }
        let mut thread = thread::Builder::new();
        if self == Way::AddressSpace {
            thread = thread.stack_size(LARGE_STACK);
        }
        assert!(
            thread.spawn(|| {}).is_err(),
            "the limit is not enforced here"
        );
    }

    /// From now on threads are to be had again.
    fn allow(self) {
        match self {
            Way::Processes => set_limit(libc::RLIMIT_NPROC, None),
            Way::AddressSpace => set_limit(libc::RLIMIT_AS, None),
        }
    }
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// Sets the soft limit; `None` is as much as the hard one.
fn set_limit(resource: Resource, soft: Option<u64>) {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the pointer is valid for a write of the struct.
    let got = unsafe { libc::getrlimit(resource, limit.as_mut_ptr()) };
    assert_eq!(got, 0, "{}", io::Error::last_os_error());
    // SAFETY: getrlimit said that it filled the struct.
    let mut limit = unsafe { limit.assume_init() };
    limit.rlim_cur = soft.unwrap_or(limit.rlim_max);
    // SAFETY: the pointer is valid for a read of the struct.
    let set = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// A test for each way, both in a child process.
macro_rules! in_both_ways {
    ($(#[$meta:meta])* fn $name:ident($way:ident: Way) $body:block) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            fn body($way: Way) $body

            #[test]
            fn by_process_limit() {
                let test = concat!(stringify!($name), "::by_process_limit");
                in_child_process(test, LIMIT, || {
                    Way::Processes.prepare();
                    body(Way::Processes);
                });
            }

            #[test]
            fn by_address_space() {
                let test = concat!(stringify!($name), "::by_address_space");
                in_child_process(test, LIMIT, || body(Way::AddressSpace));
            }
        }
    };
}

#[track_caller]
fn assert_no_thread<F>(result: Result<(), SubmitError<F>>) -> F {
    let Err(error) = result else {
        panic!("accepted, with no worker and no thread to be had");
    };
    assert_eq!(error.kind(), SubmitErrorKind::NoThread);
    let source = error.source().expect("the system's error is the source");
    let source = source
        .downcast_ref::<io::Error>()
        .expect("it is an io::Error");
    assert_eq!(source.raw_os_error(), Some(libc::EAGAIN), "{source}");
    assert!(!error.to_string().is_empty());
    error.into_inner()
}

/// A submitter's thread, started before threads are refused; it says what became of its task.
fn spawn_waiter(pool: &PoolHandle, ran: &Arrivals, results: &Log<Result<(), SubmitErrorKind>>) {
    let (pool, ran, results) = (pool.clone(), ran.clone(), results.clone());
    thread::spawn(move || {
        let result = pool.submit(move || ran.arrive()).map_err(|error| {
            let (kind, task) = error.into_parts();
            task();
            kind
        });
        results.push(result);
    });
}

/// Tasks that are queued in a pool without workers, by way of a pause, and threads refused: a tune
/// up cannot start anybody.
fn stranded(way: Way, tasks: usize, ran: &Arrivals) -> Pool {
    let pool = way.builder().capacity(2).backlog(tasks).build().unwrap();
    pool.tune(0);
    for _ in 0..tasks {
        let ran = ran.clone();
        expect_accepted(pool.submit(move || ran.arrive()));
    }
    way.refuse();
    assert_eq!(pool.tune(2), 0);
    assert_eq!((pool.queued(), pool.workers(), ran.count()), (tasks, 0, 0));
    pool
}

in_both_ways! {
    fn p17_with_no_worker_every_submit_says_no_thread_and_gives_the_closure_back(way: Way) {
        let pool = way.builder().capacity(4).build().unwrap();
        way.refuse();
        let ran = Arrivals::new();
        let task = || {
            let ran = ran.clone();
            move || ran.arrive()
        };
        assert_no_thread(pool.submit(task()))();
        assert_no_thread(pool.try_submit(task()))();
        assert_no_thread(pool.submit_timeout(task(), Duration::MAX))();
        assert_eq!(ran.count(), 3, "the closures came back whole");
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.rejected, stats.workers_started), (0, 3, 0), "{stats:?}");
        assert_eq!(pool.workers(), 0);
        assert_at_rest(&pool);
        pool.wait_idle();
        way.allow();
        expect_accepted(pool.submit(task()));
        ran.wait_for(4);
    }
}

in_both_ways! {
    fn p17_no_overflow_policy_hides_the_refusal(way: Way) {
        way.refuse();
        for overflow in [Overflow::Block, Overflow::Reject, Overflow::CallerRuns, Overflow::DropOldest] {
            let pool = way.builder().capacity(2).backlog(1).overflow(overflow).build().unwrap();
            let _ = assert_no_thread(pool.submit(|| {}));
            assert_at_rest(&pool);
        }
    }
}

in_both_ways! {
    fn p17_a_refusal_leaks_no_room(way: Way) {
        let pool = way.builder().capacity(3).build().unwrap();
        way.refuse();
        for _ in 0..100 {
            let _ = assert_no_thread(pool.try_submit(|| {}));
        }
        way.allow();
        let occupied = occupy(&pool, 3);
        assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
        drop(occupied);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    fn p17_with_a_live_worker_the_task_waits_for_it(way: Way) {
        for backlog in [0, 10] {
            let pool = way.builder().capacity(4).backlog(backlog).build().unwrap();
            let occupied = occupy(&pool, 1);
            way.refuse();
            let ran = Arrivals::new();
            for _ in 0..3 {
                let ran = ran.clone();
                expect_accepted(pool.submit(move || ran.arrive()));
            }
            assert_eq!((pool.workers(), pool.running(), pool.queued()), (1, 1, 3));
            assert_eq!(ran.count(), 0);
            occupied.end();
            ran.wait_for(3);
            pool.wait_idle();
            let stats = pool.stats();
            assert_eq!((stats.workers_started, stats.completed), (1, 4), "{stats:?}");

            // As before, once threads are to be had.
            way.allow();
            drop(occupy(&pool, 4));
            pool.wait_idle();
            assert_eq!(pool.workers(), 4);
            assert_at_rest(&pool);
        }
    }
}

in_both_ways! {
    /// Whoever waits on the pool tries again also where one worker lives: here it cannot go on
    /// before the others are there.
    fn p17_whoever_waits_brings_up_the_workers_that_are_missing(way: Way) {
        let pool = way.builder().capacity(4).backlog(10).build().unwrap();
        let (began, barrier) = (Arrivals::new(), Arc::new(Barrier::new(4)));
        let meet = || {
            let (began, barrier) = (began.clone(), Arc::clone(&barrier));
            move || {
                began.arrive();
                barrier.wait();
            }
        };
        expect_accepted(pool.submit(meet()));
        began.wait_for(1);
        way.refuse();
        for _ in 0..3 {
            expect_accepted(pool.submit(meet()));
        }
        way.allow();
        pool.wait_idle();
        assert_eq!(pool.stats().completed, 4);
    }
}

in_both_ways! {
    /// And so does the live worker, when it takes its next task.
    fn p17_the_live_worker_brings_up_those_that_are_missing(way: Way) {
        let pool = way.builder().capacity(4).backlog(10).build().unwrap();
        let occupied = occupy(&pool, 1);
        way.refuse();
        let met = Arc::new(Barrier::new(5));
        for _ in 0..4 {
            let met = Arc::clone(&met);
            expect_accepted(pool.submit(move || {
                met.wait();
            }));
        }
        way.allow();
        occupied.end();
        met.wait();
    }
}

in_both_ways! {
    /// Threads are to be had again while the tasks still wait behind the one live worker: the next
    /// submit brings up the others, although the live worker goes on.
    fn p17_tasks_that_wait_for_the_one_worker_get_others_with_the_next_submit(way: Way) {
        let pool = way.builder().capacity(4).backlog(10).build().unwrap();
        let occupied = occupy(&pool, 1);
        way.refuse();
        let ran = Arrivals::new();
        for _ in 0..3 {
            let ran = ran.clone();
            expect_accepted(pool.submit(move || ran.arrive()));
        }
        way.allow();
        let inner = ran.clone();
        expect_accepted(pool.submit(move || inner.arrive()));
        ran.wait_for(4);
        eventually_eq("running tasks", 1, || pool.running());
        drop(occupied);
    }
}

in_both_ways! {
    fn p17_a_task_may_submit_while_threads_are_refused(way: Way) {
        let pool = way.builder().capacity(3).build().unwrap();
        let (gate, ran) = (Gate::new().opened_on_drop(), Arrivals::new());
        let began = Arrivals::new();
        expect_accepted(pool.submit({
            let (handle, gate) = (pool.handle(), (*gate).clone());
            let (ran, began) = (ran.clone(), began.clone());
            move || {
                began.arrive();
                gate.wait();
                for _ in 0..20 {
                    let ran = ran.clone();
                    expect_accepted(handle.submit(move || ran.arrive()));
                }
            }
        }));
        began.wait_for(1);
        way.refuse();
        gate.open();
        pool.wait_idle();
        assert_eq!((ran.count(), pool.stats().panicked, pool.stats().workers_started), (20, 0, 1));
    }
}

in_both_ways! {
    fn p17_once_the_workers_have_expired_a_refusal_is_one_again(way: Way) {
        let pool = way
            .builder()
            .capacity(2)
            .idle_timeout(Duration::from_millis(1))
            .build()
            .unwrap();
        // The threads themselves must be gone, for what they free while leaving lets others in.
        let before = linux::threads().len();
        drop(occupy(&pool, 2));
        pool.wait_idle();
        eventually_eq("workers", 0, || pool.workers());
        eventually_eq("threads", before, || linux::threads().len());
        way.refuse();
        let _ = assert_no_thread(pool.submit(|| {}));
        way.allow();
        drop(occupy(&pool, 2));
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    /// The pool resumes and nobody can be started: those who wait are let in and told so, or stay
    /// accepted and run; none hangs.
    fn p17_blocked_submitters_are_told_or_run(way: Way) {
        let pool = way.builder().capacity(2).build().unwrap();
        pool.tune(0);
        let (ran, results) = (Arrivals::new(), Log::new());
        for _ in 0..5 {
            spawn_waiter(&pool, &ran, &results);
        }
        eventually_waiting(&pool, 5);
        way.refuse();
        pool.tune(2);
        eventually_eq("waiters that came back", 5, || results.len());
        let accepted = results.entries().iter().filter(|result| result.is_ok()).count();
        for result in results.entries() {
            assert!(matches!(result, Ok(()) | Err(SubmitErrorKind::NoThread)), "{result:?}");
        }
        way.allow();
        pool.wait_idle();
        ran.wait_for(5);
        let stats = pool.stats();
        assert_eq!(stats.submitted, accepted as u64, "{stats:?}");
        assert_eq!((stats.completed, stats.rejected), (accepted as u64, 5 - accepted as u64));
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    /// Blocked behind stranded tasks, which leave no room, so that nobody is let in and told.
    fn p17_blocked_submitters_come_in_once_threads_are_to_be_had(way: Way) {
        let pool = way.builder().capacity(1).build().unwrap();
        let (ran, results) = (Arrivals::new(), Log::new());
        expect_accepted(pool.submit({
            let (handle, ran) = (pool.handle(), ran.clone());
            move || {
                for _ in 0..2 {
                    let ran = ran.clone();
                    expect_accepted(handle.submit(move || ran.arrive()));
                }
                handle.tune(0);
            }
        }));
        eventually_eq("workers of a paused pool", 0, || pool.workers());
        assert_eq!((pool.queued(), ran.count()), (2, 0));
        for _ in 0..3 {
            spawn_waiter(&pool, &ran, &results);
        }
        eventually_waiting(&pool, 3);
        way.refuse();
        pool.tune(1);
        // Long enough to be refused a few times.
        assert!(!becomes_true(Duration::from_millis(50), || results.len() > 0));
        way.allow();
        // Nobody but the blocked submitters is there to notice.
        eventually_eq("waiters that came back", 3, || results.len());
        assert_eq!(results.entries(), [Ok(()); 3]);
        ran.wait_for(5);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    fn p17_whoever_waits_for_idle_tries_again(way: Way) {
        let ran = Arrivals::new();
        let pool = stranded(way, 3, &ran);
        assert!(!pool.wait_idle_timeout(Duration::from_millis(30)), "three tasks are queued");
        assert_eq!((pool.queued(), pool.workers()), (3, 0));
        way.allow();
        pool.wait_idle();
        assert_eq!(ran.count(), 3);
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    /// The wait began while there was nothing to be had, and must notice the change.
    fn p17_whoever_waits_for_idle_already_goes_on_trying(way: Way) {
        let ran = Arrivals::new();
        let (sender, receiver) = channel::<Pool>();
        let (done, waited) = channel();
        thread::spawn(move || {
            let pool = receive("a pool", &receiver);
            let _ = done.send(());
            pool.wait_idle();
            let _ = done.send(());
            drop(pool);
        });
        let pool = stranded(way, 3, &ran);
        let handle = pool.handle();
        sender.send(pool).unwrap();
        receive("the waiter begins", &waited);
        // Long enough to be refused a few times.
        assert!(!becomes_true(Duration::from_millis(100), || ran.count() > 0));
        way.allow();
        receive("wait_idle returned", &waited);
        assert_eq!((ran.count(), handle.queued()), (3, 0));
    }
}

in_both_ways! {
    fn p17_whoever_joins_the_released_pool_tries_again(way: Way) {
        let ran = Arrivals::new();
        let pool = stranded(way, 3, &ran);
        let remains = pool.release_timeout(Duration::from_millis(30)).unwrap_err();
        assert_eq!((remains.queued(), remains.running(), remains.workers()), (3, 0, 0));
        way.allow();
        pool.release_timeout(Duration::MAX).unwrap();
        assert_eq!(ran.count(), 3);
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    fn p17_the_drop_of_the_pool_goes_on_trying(way: Way) {
        let ran = Arrivals::new();
        let (sender, receiver) = channel::<Pool>();
        let (done, dropped) = channel();
        thread::spawn(move || {
            let pool = receive("a pool", &receiver);
            drop(pool);
            let _ = done.send(());
        });
        let pool = stranded(way, 3, &ran);
        let handle = pool.handle();
        sender.send(pool).unwrap();
        eventually("the pool is closed", || handle.is_closed());
        assert!(dropped.recv_timeout(Duration::from_millis(100)).is_err());
        way.allow();
        receive("the drop returned", &dropped);
        assert_eq!(ran.count(), 3);
    }
}

in_both_ways! {
    /// A release lifts the pause, and then there is nobody to run what was accepted.
    fn p17_a_release_that_lifts_a_pause_strands_nothing(way: Way) {
        let ran = Arrivals::new();
        let pool = way.builder().capacity(2).backlog(3).build().unwrap();
        pool.tune(0);
        for _ in 0..3 {
            let ran = ran.clone();
            expect_accepted(pool.submit(move || ran.arrive()));
        }
        way.refuse();
        pool.release();
        assert_eq!((pool.queued(), pool.workers()), (3, 0));
        way.allow();
        pool.release_timeout(Duration::MAX).unwrap();
        assert_eq!(ran.count(), 3);
    }
}

in_both_ways! {
    fn p17_the_next_submit_brings_up_what_was_stranded(way: Way) {
        let ran = Arrivals::new();
        let pool = stranded(way, 3, &ran);
        // It has room, and would be the fourth without anybody to run it.
        let inner = ran.clone();
        let _ = assert_no_thread(pool.submit(move || inner.arrive()));
        assert_eq!(pool.queued(), 3, "the refused one is not among the accepted");
        way.allow();
        let inner = ran.clone();
        expect_accepted(pool.submit(move || inner.arrive()));
        ran.wait_for(4);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    fn p17_release_now_discards_what_was_stranded(way: Way) {
        let ran = Arrivals::new();
        let pool = stranded(way, 3, &ran);
        assert_eq!(pool.release_now(), 3);
        pool.release_timeout(Duration::MAX).unwrap();
        assert_eq!((ran.count(), pool.stats().discarded), (0, 3));
        assert_at_rest(&pool);
        way.allow();
        pool.reboot();
        drop(occupy(&pool, 2));
        pool.wait_idle();
    }
}

in_both_ways! {
    fn p17_a_minimum_that_cannot_be_started_is_a_build_error(way: Way) {
        way.refuse();
        let error = way.builder().capacity(3).min_workers(2).build().unwrap_err();
        let BuildError::Thread(refused) = &error else {
            panic!("another error: {error:?}");
        };
        assert_eq!(refused.raw_os_error(), Some(libc::EAGAIN));
        assert!(error.source().is_some());
        way.allow();
        let pool = way.builder().capacity(3).min_workers(2).build().unwrap();
        assert_eq!(pool.workers(), 2);
    }
}

in_both_ways! {
    fn p17_tuning_up_with_a_live_worker_works_with_what_there_is(way: Way) {
        let pool = way.builder().capacity(1).backlog(20).build().unwrap();
        let occupied = occupy(&pool, 1);
        let ran = Arrivals::new();
        for _ in 0..10 {
            let ran = ran.clone();
            expect_accepted(pool.submit(move || ran.arrive()));
        }
        way.refuse();
        pool.tune(4);
        assert_eq!((pool.workers(), ran.count()), (1, 0));
        occupied.end();
        ran.wait_for(10);
        pool.wait_idle();
        way.allow();
        drop(occupy(&pool, 4));
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

fn several(way: Way) -> Builder<MultiPool> {
    let builder = MultiPool::builder(3, Balance::RoundRobin).capacity(1);
    match way {
        Way::Processes => builder,
        Way::AddressSpace => builder.stack_size(LARGE_STACK),
    }
}

in_both_ways! {
    fn p17_several_pools_refuse_once_whatever_the_policy(way: Way) {
        let policies = [Overflow::Block, Overflow::Reject, Overflow::CallerRuns, Overflow::DropOldest];
        let pools = policies.map(|overflow| several(way).backlog(1).overflow(overflow).build().unwrap());
        way.refuse();
        let ran = Arrivals::new();
        let task = || {
            let ran = ran.clone();
            move || ran.arrive()
        };
        for pools in &pools {
            assert_no_thread(pools.submit(task()))();
            assert_no_thread(pools.try_submit(task()))();
            assert_no_thread(pools.submit_timeout(task(), Duration::MAX))();
            let stats = pools.stats();
            assert_eq!((stats.submitted, stats.rejected, pools.free()), (0, 3, 3), "{stats:?}");
        }
        let error = several(way).min_workers(1).build().unwrap_err();
        assert!(matches!(error, BuildError::Thread(_)), "{error:?}");
        way.allow();
        for pools in &pools {
            expect_accepted(pools.submit(task()));
            pools.wait_idle();
        }
        assert_eq!(ran.count(), 4 * 4);
        assert_eq!(several(way).min_workers(1).build().unwrap().workers(), 3);
    }
}

in_both_ways! {
    fn p17_several_pools_go_on_with_the_worker_that_there_is(way: Way) {
        let pools = several(way).build().unwrap();
        // In whose line those wait who find no room.
        let first = pools.shards().next().unwrap();
        let occupied = occupy(first, 1);
        way.refuse();
        assert_eq!(refusal(pools.try_submit(|| {})), SubmitErrorKind::Full);
        assert_eq!(pools.stats().rejected, 1);
        occupied.end();
        let ran = Arrivals::new();
        for _ in 0..9 {
            let ran = ran.clone();
            expect_accepted(pools.submit(move || ran.arrive()));
        }
        ran.wait_for(9);
        way.allow();
    }
}

/// `Ok` is never said for a task that nobody will run, wherever the refusals fall. By the process
/// limit alone: a limit on the address space that comes and goes would hit other memory, too.
#[test]
fn p17_nothing_is_lost_while_threads_come_and_go() {
    let test = "p17_nothing_is_lost_while_threads_come_and_go";
    in_child_process(test, LIMIT, || {
        let way = Way::Processes;
        way.prepare();
        let pool = way
            .builder()
            .capacity(2)
            .backlog(1)
            .idle_timeout(Duration::ZERO)
            .build()
            .unwrap();
        let (accepted, no_thread) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ran = Arc::new(AtomicUsize::new(0));
        let (begin, done) = (Gate::new(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for submitter in 0..3 {
                let (pool, ran, begin, done) = (&pool, &ran, &begin, &done);
                let (accepted, no_thread) = (&accepted, &no_thread);
                scope.spawn(move || {
                    begin.wait();
                    let mut turn = 0;
                    while accepted.load(Ordering::Relaxed) < 600 {
                        turn += 1;
                        let ran = Arc::clone(ran);
                        let task = move || {
                            ran.fetch_add(1, Ordering::Relaxed);
                        };
                        let result = match (submitter + turn) % 3 {
                            0 => pool.submit(task),
                            1 => pool.try_submit(task),
                            _ => pool.submit_timeout(task, Duration::from_micros(100)),
                        };
                        match result.map_err(|error| error.kind()) {
                            Ok(()) => accepted.fetch_add(1, Ordering::Relaxed),
                            Err(SubmitErrorKind::NoThread) => {
                                no_thread.fetch_add(1, Ordering::Relaxed)
                            }
                            Err(SubmitErrorKind::Full | SubmitErrorKind::TimedOut) => 0,
                            Err(other) => panic!("{other:?}"),
                        };
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            set_limit(libc::RLIMIT_NPROC, Some(0));
            begin.open();
            eventually("threads are refused", || {
                no_thread.load(Ordering::Relaxed) > 0
            });
            while done.load(Ordering::Relaxed) < 3 {
                set_limit(libc::RLIMIT_NPROC, Some(0));
                thread::yield_now();
                way.allow();
                thread::yield_now();
            }
        });
        way.allow();
        pool.wait_idle();
        let accepted = accepted.into_inner();
        assert_eq!(ran.load(Ordering::Relaxed), accepted);
        let stats = pool.stats();
        assert_eq!(
            (stats.submitted, stats.completed),
            (accepted as u64, accepted as u64)
        );
        assert_at_rest(&pool);
        drop(occupy(&pool, 2));
    });
}

/// A submit that counts on the last worker, and the last worker making up its mind to end: one of
/// them must see the other, for there is no thread to be had in its place.
#[test]
fn p17_the_last_worker_leaves_no_accepted_task_behind() {
    let test = "p17_the_last_worker_leaves_no_accepted_task_behind";
    in_child_process(test, LIMIT, || {
        Way::Processes.prepare();
        let mut rng = seeded_rng(test);
        let pool = Pool::builder()
            .capacity(1)
            .backlog(1)
            .idle_timeout(Duration::ZERO)
            .build()
            .unwrap();
        let ran = Arrivals::new();
        let mut accepted = 0;
        for _ in 0..1500 {
            Way::Processes.allow();
            let inner = ran.clone();
            expect_accepted(pool.submit(move || inner.arrive()));
            accepted += 1;
            ran.wait_for(accepted);
            set_limit(libc::RLIMIT_NPROC, Some(0));
            for _ in 0..rng.random_range(0..300) {
                std::hint::spin_loop();
            }
            let inner = ran.clone();
            match pool.try_submit(move || inner.arrive()) {
                // Nobody waits on the pool, and no thread can be started: a live worker runs it.
                Ok(()) => accepted += 1,
                Err(error) => assert_eq!(error.kind(), SubmitErrorKind::NoThread),
            }
            ran.wait_for(accepted);
        }
        Way::Processes.allow();
    });
}

in_both_ways! {
    /// While it is refused, the wait for idle must not use the processor up either.
    fn p17_trying_again_is_not_spinning(way: Way) {
        let ran = Arrivals::new();
        let pool = stranded(way, 1, &ran);
        let me = linux::thread_id();
        let before = linux::cpu_ticks(me);
        assert!(!pool.wait_idle_timeout(Duration::from_millis(500)));
        let ticks = linux::cpu_ticks(me) - before;
        // A tick is usually 10 ms: half a second of spinning is fifty.
        assert!(ticks < 15, "{ticks} ticks of processor time");
        way.allow();
        drop(pool);
    }
}

in_both_ways! {
    /// A worker ends, its thread is refused a successor, and the waiting submitters must not be
    /// forgotten in between.
    fn p17_waiters_are_not_forgotten_when_the_last_worker_ends(way: Way) {
        let pool = way.builder().capacity(1).build().unwrap();
        let (ran, results) = (Arrivals::new(), Log::new());
        let occupied = occupy(&pool, 1);
        for _ in 0..3 {
            spawn_waiter(&pool, &ran, &results);
        }
        eventually_waiting(&pool, 3);
        way.refuse();
        // Pausing retires the only worker after its task; resuming finds no thread.
        pool.tune(0);
        occupied.end();
        eventually_eq("workers", 0, || pool.workers());
        pool.tune(1);
        eventually_eq("waiters that came back", 3, || results.len());
        way.allow();
        pool.wait_idle();
        ran.wait_for(3);
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    /// R5: what no thread can be had for, the caller of a map does itself, and that of `run_all`.
    fn p17_the_caller_does_what_no_thread_can_be_had_for(way: Way) {
        let pool = way.builder().capacity(4).build().unwrap();
        way.refuse();
        let me = thread::current().id();
        let here = move || thread::current().id() == me;
        assert!(pool.map(0..500, move |n| (n, here())).eq((0..500).map(|n| (n, true))));
        assert!(pool.map_unordered(0..500, move |_| here()).all(|here| here));
        let results = pool.run_all((0..100).map(|n| move || (n, here())));
        assert!(results.into_iter().map(Result::unwrap).eq((0..100).map(|n| (n, true))));
        assert_at_rest(&pool);
        way.allow();
        assert!(pool.map(0..500, move |_| here()).all(|here| !here));
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    /// A share says `NoThread` as its pool does, and leaves nothing behind.
    fn p17_a_share_gives_the_closure_back(way: Way) {
        let pool = way.builder().capacity(2).build().unwrap();
        let (serial, keyed) = (pool.serial(), pool.keyed());
        way.refuse();
        let ran = Arrivals::new();
        let task = || {
            let ran = ran.clone();
            move || ran.arrive()
        };
        assert_no_thread(serial.submit(task()))();
        assert_no_thread(serial.try_submit(task()))();
        assert_no_thread(keyed.submit(1, task()))();
        assert_eq!((ran.count(), keyed.keys(), serial.stats().rejected), (3, 0, 2));
        serial.wait_idle();
        way.allow();
        expect_accepted(serial.submit(task()));
        expect_accepted(keyed.submit(1, task()));
        ran.wait_for(5);
    }
}

in_both_ways! {
    /// What a paused share accepted is not lost where no thread can be had as it is resumed: whoever
    /// waits for the share tries again.
    fn p17_who_waits_for_a_share_tries_again(way: Way) {
        let builder = way.builder().capacity(1).idle_timeout(Duration::from_millis(1));
        let pool = builder.build().unwrap();
        let (share, ran) = (pool.limit(0), Arrivals::new());
        for _ in 0..3 {
            let ran = ran.clone();
            expect_accepted(share.submit(move || ran.arrive()));
        }
        eventually_eq("workers", 0, || pool.workers());
        let (sender, idle) = channel();
        let (waits, tuned) = (share.clone(), Arrivals::new());
        let goes = tuned.clone();
        thread::spawn(move || {
            goes.wait_for(1);
            let _ = sender.send(waits.wait_idle_timeout(Duration::from_secs(10)));
        });
        way.refuse();
        share.tune(1);
        assert_eq!((share.queued(), ran.count()), (3, 0));
        tuned.arrive();
        way.allow();
        assert!(receive("the wait is over", &idle), "nobody tried again");
        assert_eq!(ran.count(), 3);
        assert_at_rest(&pool);
    }
}

// ---- P25: awaiting is waiting ----

/// Counts the polls of a future.
fn counted<F: Future + Unpin>(
    polls: &Arrivals,
    mut future: F,
) -> impl Future<Output = F::Output> + use<F> {
    let polls = polls.clone();
    poll_fn(move |context| {
        polls.arrive();
        Pin::new(&mut future).poll(context)
    })
}

/// A pool whose one worker waits for a second task, for which no thread is to be had. Threads are to be had again
/// some tries after the first of `polls`.
struct Apart {
    pool: Pool,
    polls: Arrivals,
    second: Box<dyn FnOnce() + Send>,
}

fn apart(way: Way) -> Apart {
    let pool = way.builder().capacity(2).unbounded_backlog().name("apart");
    let pool = pool.build().unwrap();
    let (met, polls, began) = (Gate::new(), Arrivals::new(), Arrivals::new());
    expect_accepted(pool.submit({
        let (met, began) = (met.clone(), began.clone());
        move || {
            began.arrive();
            met.wait();
        }
    }));
    began.wait_for(1);
    let polled = polls.clone();
    thread::spawn(move || {
        polled.wait_for(1);
        // Long enough to be refused a few times.
        thread::sleep(Duration::from_millis(100));
        way.allow();
    });
    let second = Box::new(move || met.open());
    Apart {
        pool,
        polls,
        second,
    }
}

/// Of one who awaits where no thread is to be had, each poll waits for a while; where only workers are refused, nobody
/// polls in vain.
fn assert_few_polls(way: Way, polls: &Arrivals, handles: usize, since: Instant) {
    let rounds = match way {
        // The time is counted from before the first.
        Way::Processes => usize::try_from(since.elapsed().as_millis() / 10).unwrap() + 2,
        Way::AddressSpace => 1,
    };
    let most = (rounds + 1) * handles;
    assert!(
        polls.count() <= most,
        "{} polls of {handles}, {rounds} rounds",
        polls.count()
    );
}

in_both_ways! {
    fn p25_who_awaits_a_handle_tries_again(way: Way) {
        let Apart { pool, polls, second } = apart(way);
        way.refuse();
        let since = Instant::now();
        let second = spawned(pool.spawn(second));
        futures::executor::block_on(counted(&polls, second)).unwrap();
        assert_few_polls(way, &polls, 1, since);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

#[cfg(feature = "futures")]
in_both_ways! {
    /// Who awaits room: the worker waits for a task that waits in line behind one for which there is no worker.
    fn p25_who_awaits_room_tries_again(way: Way) {
        let pool = way.builder().capacity(2).name("apart").build().unwrap();
        let (met, polls, began) = (Gate::new(), Arrivals::new(), Arrivals::new());
        expect_accepted(pool.submit({
            let (met, began) = (met.clone(), began.clone());
            move || {
                began.arrive();
                met.wait();
            }
        }));
        began.wait_for(1);
        let polled = polls.clone();
        thread::spawn(move || {
            polled.wait_for(1);
            // Long enough to be refused a few times.
            thread::sleep(Duration::from_millis(100));
            way.allow();
        });
        way.refuse();
        expect_accepted(pool.submit(|| ()));
        let waits = pool.submit_async(move || met.open());
        expect_accepted(futures::executor::block_on(counted(&polls, waits)));
        pool.wait_idle();
        assert_eq!(pool.stats().panicked, 0, "the gate was opened in time");
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    fn p17_with_no_worker_submit_all_says_no_thread_and_gives_the_closures_back(way: Way) {
        let pool = way.builder().capacity(4).backlog(100).build().unwrap();
        way.refuse();
        let ran = Arrivals::new();
        let tasks = (0..70).map(|_| {
            let ran = ran.clone();
            move || ran.arrive()
        });
        let refused = pool.submit_all(tasks.clone()).unwrap_err();
        assert_eq!((refused.kind(), refused.accepted()), (SubmitErrorKind::NoThread, 0));
        assert!(refused.source().is_some());
        assert_eq!((refused.into_rest().len(), pool.stats().rejected), (70, 70));
        assert_at_rest(&pool);
        way.allow();
        assert_eq!(pool.submit_all(tasks).ok(), Some(70));
        ran.wait_for(70);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    /// A chunk that waits when threads are refused: the thread that would let it in sends it away.
    fn p17_a_chunk_in_line_comes_back_if_there_is_no_thread(way: Way) {
        let pool = Arc::new(way.builder().capacity(0).build().unwrap());
        let (ran, log) = (Arrivals::new(), Log::new());
        let submitter = {
            let (pool, ran, log) = (Arc::clone(&pool), ran.clone(), log.clone());
            thread::spawn(move || {
                let tasks = (0..10).map(|_| {
                    let ran = ran.clone();
                    move || ran.arrive()
                });
                let refused = pool.submit_all(tasks).unwrap_err();
                log.push((refused.kind(), refused.accepted(), refused.into_rest().len()));
            })
        };
        eventually_waiting(&pool, 1);
        way.refuse();
        pool.tune(2);
        submitter.join().unwrap();
        assert_eq!(log.entries(), [(SubmitErrorKind::NoThread, 0, 10)]);
        assert_eq!((ran.count(), pool.waiting()), (0, 0));
        assert_at_rest(&pool);
        way.allow();
    }
}

in_both_ways! {
    /// Many who await on an executor's two threads, where each could be the one to try.
    fn p25_many_who_await_are_polled_little(way: Way) {
        const HANDLES: usize = 50;
        let Apart { pool, polls, second } = apart(way);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).build().unwrap();
        let started = Arc::new(Barrier::new(3));
        for _ in 0..2 {
            let started = Arc::clone(&started);
            runtime.spawn(async move { started.wait() });
        }
        started.wait();
        way.refuse();
        let since = Instant::now();
        let mut handles: Vec<_> = (1..HANDLES).map(|_| spawned(pool.spawn(|| ()))).collect();
        handles.insert(0, spawned(pool.spawn(second)));
        let tasks: Vec<_> = handles
            .into_iter()
            .map(|handle| runtime.spawn(counted(&polls, handle)))
            .collect();
        for task in tasks {
            runtime.block_on(task).unwrap().unwrap();
        }
        // Two threads may take turns at the tries.
        assert_few_polls(way, &polls, 2 * HANDLES, since);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    /// Who awaited first is given up; the next one goes on.
    fn p25_a_handle_that_is_given_up_takes_nothing_along(way: Way) {
        let Apart { pool, polls, second } = apart(way);
        way.refuse();
        let mut first = spawned(pool.spawn(second));
        let mut other = spawned(pool.spawn(|| 7));
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut first).poll(&mut context).is_pending());
        assert!(Pin::new(&mut other).poll(&mut context).is_pending());
        drop(first);
        assert_eq!(futures::executor::block_on(counted(&polls, other)).unwrap(), 7);
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}

in_both_ways! {
    /// What a paused share accepted, for which no thread can be had as it is resumed.
    fn p25_who_awaits_a_task_of_a_share_tries_again(way: Way) {
        let builder = way.builder().capacity(1).idle_timeout(Duration::from_millis(1));
        let pool = builder.build().unwrap();
        let share = pool.limit(0);
        let handle = spawned(share.spawn(|| 7));
        eventually_eq("workers", 0, || pool.workers());
        let polls = Arrivals::new();
        let polled = polls.clone();
        thread::spawn(move || {
            polled.wait_for(1);
            thread::sleep(Duration::from_millis(50));
            way.allow();
        });
        way.refuse();
        let since = Instant::now();
        share.tune(1);
        assert_eq!(futures::executor::block_on(counted(&polls, handle)).unwrap(), 7);
        assert_few_polls(way, &polls, 1, since);
        share.wait_idle();
        assert_at_rest(&pool);
    }
}

/// Runs `wait` on a thread that is asleep before a thread lacks, and then tells of it.
fn asleep_before_the_lack(way: Way, wait: impl FnOnce(JoinHandle<()>, &Pool) + Send + 'static) {
    let pool = Arc::new(
        way.builder()
            .capacity(2)
            .unbounded_backlog()
            .build()
            .unwrap(),
    );
    let (met, ids) = (Gate::new(), Log::new());
    let (sender, done) = channel();
    let first = spawned(pool.spawn({
        let met = met.clone();
        move || met.wait()
    }));
    thread::spawn({
        let (pool, ids) = (Arc::clone(&pool), ids.clone());
        move || {
            ids.push(linux::thread_id());
            wait(first, &pool);
            let _ = sender.send(());
        }
    });
    eventually("the thread is there", || ids.len() == 1);
    linux::eventually_asleep(ids.entries()[0]);
    way.refuse();
    expect_accepted(pool.submit(move || met.open()));
    assert_eq!(pool.workers(), 1);
    thread::sleep(Duration::from_millis(50));
    way.allow();
    receive("the wait is over", &done);
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// A joiner that fell asleep before the lack does not know of it: the pool's own thread tries again. (By
/// the address space alone: where no thread whatever is to be had nobody is there.)
#[test]
fn p17_who_joins_before_the_lack_goes_on() {
    let test = "p17_who_joins_before_the_lack_goes_on";
    in_child_process(test, LIMIT, || {
        asleep_before_the_lack(Way::AddressSpace, |first, _| first.join().unwrap());
    });
}

#[test]
fn p25_who_awaits_before_the_lack_goes_on() {
    let test = "p25_who_awaits_before_the_lack_goes_on";
    in_child_process(test, LIMIT, || {
        asleep_before_the_lack(Way::AddressSpace, |first, _| {
            futures::executor::block_on(first).unwrap();
        });
    });
}

#[test]
fn p17_who_waits_for_idle_before_the_lack_goes_on() {
    let test = "p17_who_waits_for_idle_before_the_lack_goes_on";
    in_child_process(test, LIMIT, || {
        asleep_before_the_lack(Way::AddressSpace, |_, pool| pool.wait_idle());
    });
}

/// P11: the thread that tries again is one, and is gone with what lacks: when threads are to be had, when the pool
/// is paused, when nobody has the pool any more.
#[test]
fn p11_who_tries_again_ends() {
    let test = "p11_who_tries_again_ends";
    in_child_process(test, LIMIT, || {
        let way = Way::AddressSpace;
        let rescuers = || linux::threads_named("apart-rescue");
        for turn in 0..3 {
            let pool = way.builder().capacity(2).unbounded_backlog().name("apart");
            let pool = pool.build().unwrap();
            let occupied = occupy(&pool, 1);
            assert_eq!(rescuers(), 0);
            way.refuse();
            for _ in 0..10 {
                let mut handle = spawned(pool.spawn(|| ()));
                let mut context = Context::from_waker(Waker::noop());
                assert!(Pin::new(&mut handle).poll(&mut context).is_pending());
            }
            eventually_eq("threads that try again", 1, rescuers);
            match turn {
                0 => way.allow(),
                1 => {
                    pool.tune(1);
                    eventually_eq("threads that try again", 0, rescuers);
                    way.allow();
                }
                _ => {
                    assert_eq!(pool.release_now(), 10);
                    eventually_eq("threads that try again", 0, rescuers);
                    way.allow();
                }
            }
            drop(occupied);
            pool.release_timeout(Duration::MAX).unwrap();
            eventually_eq("threads that try again", 0, rescuers);
            assert_at_rest(&pool);
        }
    });
}

/// A timer that is set while the system refuses the timers' thread comes back; afterwards there are timers as before.
#[test]
fn a_refused_timer_gives_the_closure_back() {
    in_child_process("a_refused_timer_gives_the_closure_back", LIMIT, || {
        Way::Processes.prepare();
        let pool = Pool::with_capacity(1);
        let ran = Arrivals::new();
        let task = || {
            let ran = ran.clone();
            move || ran.arrive()
        };
        Way::Processes.refuse();
        for after in [Duration::ZERO, LIMIT] {
            assert_no_thread(pool.submit_after(after, task()).map(drop))();
            assert_no_thread(pool.submit_every(after, task()).map(drop))();
        }
        assert_eq!((ran.count(), pool.timers()), (4, 0));
        assert_eq!((pool.stats().submitted, pool.stats().rejected), (0, 4));
        // What will never be due needs no thread.
        let ever = pool.submit_after(Duration::MAX, task());
        assert!(ever.is_ok_and(|timer| timer.cancel()));
        Way::Processes.allow();
        assert!(pool.submit_after(Duration::ZERO, task()).is_ok());
        ran.wait_for(5);
        assert_at_rest(&pool);
    });
}

/// TM4: a timer that is due while its pool has no thread, and can start none, is not lost.
#[test]
fn a_timer_that_is_due_without_a_thread_tries_again() {
    in_child_process(
        "a_timer_that_is_due_without_a_thread_tries_again",
        LIMIT,
        || {
            Way::Processes.prepare();
            let pool = Pool::with_capacity(1);
            let ran = Arrivals::new();
            // Long enough that the threads are refused before it is due.
            let due = Instant::now() + Duration::from_millis(200);
            let (once, again) = (ran.clone(), ran.clone());
            let timer = pool.submit_after(Duration::from_millis(200), move || once.arrive());
            let series = pool.submit_every(Duration::from_millis(200), move || again.arrive());
            let (Ok(timer), Ok(series)) = (timer, series) else {
                panic!("a thread is to be had");
            };
            Way::Processes.refuse();
            eventually("they were due", || {
                Instant::now() > due + Duration::from_millis(100)
            });
            assert_eq!((ran.count(), pool.timers(), pool.workers()), (0, 2, 0));
            Way::Processes.allow();
            ran.wait_for(2);
            assert!(!timer.cancel());
            assert!(series.cancel());
            pool.wait_idle();
            assert_at_rest(&pool);
        },
    );
}

/// A sleeping future ends though the timers' thread is refused: its polls try again.
#[cfg(feature = "futures")]
#[test]
fn a_sleeping_future_ends_without_a_thread() {
    in_child_process("a_sleeping_future_ends_without_a_thread", LIMIT, || {
        Way::Processes.prepare();
        Way::Processes.refuse();
        let begun = Instant::now();
        let time = Duration::from_millis(50);
        futures::executor::block_on(async {
            // Side by side: they take turns to wait.
            let mut all: Vec<_> = (0..50).map(|_| anthill::sleep(time)).collect();
            for sleep in &mut all {
                sleep.await;
                assert!(begun.elapsed() >= time, "early");
            }
        });
        let mut all: Vec<_> = (0..50).map(|_| anthill::sleep(time)).collect();
        let mut polls = 0_u32;
        futures::executor::block_on(poll_fn(|cx| {
            polls += 1;
            all.retain_mut(|sleep| Pin::new(sleep).poll(cx).is_pending());
            if all.is_empty() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        }));
        // One of them waits in each round: rounds are not spun through.
        assert!(polls < 20, "{polls} rounds");
        Way::Processes.allow();
        futures::executor::block_on(anthill::sleep(time));
    });
}

in_both_ways! {
    /// P28: without a stand-in the task blocks as it did, and nothing is lost.
    fn a_task_keeps_its_place_where_its_stand_in_is_refused(way: Way) {
        let pool = way.builder().capacity(1).unbounded_backlog().build().unwrap();
        let gate = Gate::new();
        let (waits, handle) = (gate.clone(), pool.handle());
        let blocks = spawned(pool.spawn(move || {
            waits.wait();
            anthill::blocking(|| handle.lent())
        }));
        let queued = spawned(pool.spawn(|| ()));
        way.refuse();
        gate.open();
        assert_eq!(blocks.join().unwrap(), 0);
        queued.join().unwrap();
        // It lent before there was a task for a stand-in: whoever waits tries again.
        let (handle, begun) = (pool.handle(), Arrivals::new());
        let arrives = begun.clone();
        let waits = spawned(pool.spawn(move || {
            anthill::blocking(|| {
                let child = spawned(handle.spawn(|| ()));
                arrives.arrive();
                child.join()
            })
        }));
        begun.wait_for(1);
        way.allow();
        waits.join().unwrap().unwrap();
        pool.wait_idle();
        assert_at_rest(&pool);
    }
}
