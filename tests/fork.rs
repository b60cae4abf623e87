//! P23: after a fork the child's pool refuses, or works; it never says `Ok` for what nobody will run, and nothing
//! that is called there hangs.
//!
//! Each test is a process of its own, so that no thread of the harness holds a lock of the standard library when it
//! forks. A child of a fork ends by `_exit`, with an alarm that kills it where it hangs.

#![cfg(target_os = "linux")]

mod support;

use std::error::Error;
use std::future::Future;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use anthill::{
    Balance, FuncPool, GroupError, JoinHandle, MultiPool, Overflow, Pool, PoolHandle, StopSource,
    SubmitError, SubmitErrorKind,
};
use support::{
    Gate, eventually, eventually_eq, eventually_waiting, expect_accepted, in_child_process, occupy,
    spawned,
};

const LIMIT: Duration = Duration::from_secs(120);

/// Far beyond what a child does.
const ALARM_SECONDS: u32 = 30;

const PANICKED: i32 = 101;

/// How a child of a fork ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Exit(i32),
    Signal(i32),
}

fn fork() -> libc::pid_t {
    // SAFETY: the child goes on with what the pools promise there, and the allocator is safe to use.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: a plain system call.
        unsafe { libc::alarm(ALARM_SECONDS) };
    }
    pid
}

fn end_of(pid: libc::pid_t) -> End {
    let mut status = 0;
    // SAFETY: the pointer is valid for a write.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "{}", io::Error::last_os_error());
    if libc::WIFEXITED(status) {
        End::Exit(libc::WEXITSTATUS(status))
    } else {
        End::Signal(libc::WTERMSIG(status))
    }
}

/// Ends a child at once: no destructor and no exit handler runs.
fn exit(code: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(code) }
}

/// Runs `body` in the child of a fork; panics if it panics there, or hangs.
#[track_caller]
fn in_fork(what: &str, body: impl FnOnce()) {
    let pid = fork();
    if pid == 0 {
        let outcome = catch_unwind(AssertUnwindSafe(body));
        exit(if outcome.is_ok() { 0 } else { PANICKED });
    }
    match end_of(pid) {
        End::Exit(0) => {}
        End::Signal(libc::SIGALRM) => panic!("the child of the fork hangs: {what}"),
        end => panic!("the child of the fork failed: {what}: {end:?}"),
    }
}

/// The child's own copy of what its parent has and will drop itself; in a child alone, which ends by `_exit`.
fn copy<T>(of: &T) -> T {
    // SAFETY: the original is not used again in this process.
    unsafe { ptr::read(of) }
}

/// A count that processes share.
struct Shared(*const AtomicUsize);

// SAFETY: it is an atomic in memory that is never given back.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Arc<Shared> {
        // SAFETY: a new mapping, wherever the system likes.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Arc::new(Shared(page.cast()))
    }

    fn number(&self) -> &AtomicUsize {
        // SAFETY: the page is zeroed, aligned, and stays.
        unsafe { &*self.0 }
    }

    fn add(&self) {
        self.number().fetch_add(1, Ordering::SeqCst);
    }

    fn get(&self) -> usize {
        self.number().load(Ordering::SeqCst)
    }
}

/// A test in a process of its own.
macro_rules! alone {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)+) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            in_child_process(stringify!($name), LIMIT, || $body);
        }
    )+};
}

/// The refusal of a pool that was left behind; the closure, which must come back.
#[track_caller]
fn refused<F>(result: Result<(), SubmitError<F>>) -> F {
    let Err(error) = result else {
        panic!("accepted, and nobody will run it");
    };
    assert_eq!(error.kind(), SubmitErrorKind::NoThread);
    let source = error.source().expect("it has a source").to_string();
    assert!(source.contains("forked"), "{source}");
    error.into_inner()
}

#[track_caller]
fn refused_spawn<T, F>(result: Result<JoinHandle<T>, SubmitError<F>>) {
    let _ = refused(result.map(drop));
}

fn poll<T>(handle: &mut JoinHandle<T>) -> Poll<Result<T, anthill::JoinError>> {
    Pin::new(handle).poll(&mut Context::from_waker(Waker::noop()))
}

/// Calls all that can be called of a pool that was left behind, and sees that it refuses and does not hang.
#[track_caller]
fn assert_left_behind(pool: &PoolHandle) {
    let ran = AtomicUsize::new(0);
    let task = || {
        let ran = Arc::new(());
        move || drop(ran)
    };
    refused(pool.submit(task()))();
    refused(pool.try_submit(task()))();
    refused(pool.submit_timeout(task(), Duration::MAX))();
    refused(pool.submit_cancellable(task(), &StopSource::new().token()))();
    let all = pool.submit_all([task(), task()]).unwrap_err();
    assert_eq!(all.kind(), SubmitErrorKind::NoThread);
    assert_eq!((all.accepted(), all.into_rest().len()), (0, 2));
    refused_spawn(pool.spawn(|| 7));
    refused_spawn(pool.try_spawn(|| 7));
    refused_spawn(pool.spawn_timeout(|| 7, Duration::MAX));
    assert_gauges_are_zero(pool);
    assert!(!format!("{pool:?}").is_empty());

    // R5: the caller runs it.
    pool.scope(|s| {
        s.submit(|| {
            ran.fetch_add(1, Ordering::SeqCst);
        });
        s.submit_all([(); 2].map(|()| {
            || {
                ran.fetch_add(1, Ordering::SeqCst);
            }
        }));
        assert_eq!(s.spawn(|| 6 * 7).join().unwrap(), 42);
    });
    assert_eq!(ran.load(Ordering::SeqCst), 3);
    assert_eq!(pool.map(1..=4, |n: u32| n * n).sum::<u32>(), 30);
    assert_eq!(pool.map_unordered(1..=4, |n: u32| n * n).sum::<u32>(), 30);
    let results = pool.run_all((0..3).map(|n| move || n));
    assert!(results.into_iter().map(Result::unwrap).eq(0..3));

    let group = pool.group::<()>();
    assert!(refused(group.submit(|| Ok(())))().is_ok());
    refused_spawn(group.spawn(|| Ok(7)));
    group.wait().unwrap();
    group.cancel();
    drop(group);

    let limited = pool.limit(2).backlog(3);
    let _ = refused(limited.submit(|| ()));
    refused_spawn(limited.spawn(|| 7));
    assert_eq!(
        (limited.running(), limited.queued(), limited.free()),
        (0, 0, 0)
    );
    limited.tune(1);
    limited.wait_idle();
    limited.release_timeout(Duration::MAX).unwrap();
    assert_eq!(limited.stats().rejected, 2);
    drop(limited);
    let _ = refused(pool.serial().submit(|| ()));
    let keyed = pool.keyed();
    let _ = refused(keyed.submit("key", || ()));
    refused_spawn(keyed.spawn("key", || 7));
    assert_eq!(keyed.keys(), 0);
    drop(keyed);

    pool.wait_idle();
    assert!(pool.wait_idle_timeout(Duration::MAX));
    pool.tune(3);
    assert_eq!(pool.capacity(), 3);
    pool.reboot();
    assert_eq!(pool.release_now(), 0);
    pool.release();
    assert!(pool.is_closed());
    pool.release_timeout(Duration::MAX).unwrap();
    assert!(pool.stop_token().wait_timeout(Duration::MAX));
    drop(pool.clone());
    let _ = refused(pool.submit(|| ()));
}

#[track_caller]
fn assert_gauges_are_zero(pool: &PoolHandle) {
    let gauges = [
        pool.workers(),
        pool.idle(),
        pool.running(),
        pool.queued(),
        pool.waiting(),
        pool.free(),
    ];
    assert_eq!(gauges, [0; 6]);
    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.completed, stats.running), (0, 0, 0));
}

/// That a pool works: in a child that may not use the helpers, which want threads.
#[track_caller]
fn assert_works(pool: &PoolHandle) {
    assert_eq!(pool.spawn(|| 6 * 7).unwrap().join().unwrap(), 42);
    assert_eq!(pool.map(1..=4, |n: u32| n * n).sum::<u32>(), 30);
    let limited = pool.limit(1);
    assert_eq!(limited.spawn(|| 7).unwrap().join().unwrap(), 7);
    limited.wait_idle();
    pool.wait_idle();
    let stats = pool.stats();
    assert!(stats.workers_started > 0, "{stats:?}");
    // A map takes back what it does not need.
    let over = stats.completed + stats.cancelled + stats.discarded;
    assert_eq!(stats.submitted, over, "{stats:?}");
}

fn builders() -> [anthill::Builder; 4] {
    let builder = || Pool::builder().capacity(2).panic_handler(|_| {});
    [
        builder(),
        builder().backlog(3),
        builder().unbounded_backlog(),
        builder().backlog(1).overflow(Overflow::DropOldest),
    ]
}

alone! {
    fn p23_a_pool_whose_workers_stayed_behind_refuses_and_nothing_hangs() {
        for builder in builders() {
            let pool = builder.build().unwrap();
            spawned(pool.spawn(|| ())).join().unwrap();
            pool.wait_idle();
            let token = pool.stop_token();
            in_fork("an idle pool", || {
                assert_left_behind(&pool);
                assert!(token.is_stopped());
                drop(copy(&pool));
            });
            // Nothing of that was the parent's.
            assert!(!token.is_stopped());
            assert_works(&pool);
        }
    }

    fn p23_a_pool_with_tasks_waiting_submitters_and_handles_refuses_and_nothing_hangs() {
        let ran = Shared::new();
        for builder in builders() {
            let pool = Arc::new(builder.build().unwrap());
            let before = ran.get();
            let done = spawned(pool.spawn(|| 7));
            pool.wait_idle();
            let busy = occupy(&pool, 2);
            let mut handles = Vec::new();
            while pool.free() + 5 > handles.len() {
                let ran = Arc::clone(&ran);
                match pool.try_spawn(move || ran.add()) {
                    Ok(handle) => handles.push(handle),
                    Err(_) => break,
                }
            }
            let submitter = {
                let (pool, ran) = (Arc::clone(&pool), Arc::clone(&ran));
                thread::spawn(move || expect_accepted(pool.submit(move || ran.add())))
            };
            if handles.len() < 4 && handles.len() != 1 {
                eventually_waiting(&pool, 1);
            }
            in_fork("a busy pool", || {
                assert_left_behind(&pool);
                for (number, mut handle) in handles.iter().map(copy).enumerate() {
                    assert!(!handle.cancel());
                    assert!(handle.is_finished());
                    match number % 3 {
                        0 => assert!(handle.join().unwrap_err().is_cancelled()),
                        1 => {
                            let Poll::Ready(Err(error)) = poll(&mut handle) else {
                                panic!("it is neither done nor will it be");
                            };
                            assert!(error.is_cancelled());
                            let joined = handle.join_timeout(Duration::MAX).unwrap();
                            assert!(joined.unwrap_err().is_cancelled());
                        }
                        _ => drop(handle),
                    }
                }
                assert_eq!(copy(&done).join().unwrap(), 7, "over before the fork");
                drop(copy(&*pool));
            });
            busy.end();
            submitter.join().unwrap();
            pool.wait_idle();
            let dropped = usize::try_from(pool.stats().discarded).unwrap();
            assert_eq!(ran.get() - before, handles.len() + 1 - dropped, "each once, here");
            assert_eq!(done.join().unwrap(), 7);
        }
    }

    /// In the child the closure comes back, and in the parent the future goes on.
    #[cfg(feature = "futures")]
    fn p23_futures_that_wait_for_room_give_their_closures_back_and_nothing_hangs() {
        fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
            Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
        }
        let pool = Arc::new(Pool::with_capacity(1));
        let busy = occupy(&pool, 1);
        let ran = Shared::new();
        let task = || {
            let ran = Arc::clone(&ran);
            move || ran.add()
        };
        let mut futures = [(); 3].map(|()| pool.submit_async(task()));
        let mut spawn = pool.spawn_async(task());
        for future in &mut futures {
            assert!(poll(future).is_pending());
        }
        assert!(poll(&mut spawn).is_pending());
        in_fork("futures in line", || {
            let [first, second, _] = &futures;
            let Poll::Ready(back) = poll(&mut copy(first)) else {
                panic!("nobody will let it in");
            };
            refused(back)();
            let Poll::Ready(Err(error)) = poll(&mut copy(&spawn)) else {
                panic!("nobody will let it in");
            };
            assert_eq!(error.kind(), SubmitErrorKind::NoThread);
            error.into_inner()();
            drop(copy(second));
            let Poll::Ready(new) = poll(&mut pool.submit_async(task())) else {
                panic!("it waits");
            };
            refused(new)();
        });
        assert_eq!(ran.get(), 3);
        busy.end();
        for future in futures {
            expect_accepted(futures::executor::block_on(future));
        }
        spawned(futures::executor::block_on(spawn)).join().unwrap();
        pool.wait_idle();
        assert_eq!(ran.get(), 7);
    }

    /// Locks are held, and places and pushes are half-way, at many of these moments.
    fn p23_forks_while_others_use_the_pool() {
        for builder in builders() {
            // A scope panics where its task is discarded.
            let drops_oldest = format!("{builder:?}").contains("DropOldest");
            let pool = Arc::new(builder.build().unwrap());
            let keyed = pool.keyed::<usize>();
            let multi = Arc::new(MultiPool::new(2, 1, Balance::RoundRobin));
            let stop = Arc::new(AtomicBool::new(false));
            let threads: Vec<_> = (0..3)
                .map(|number| {
                    let (pool, multi, stop) = (Arc::clone(&pool), Arc::clone(&multi), Arc::clone(&stop));
                    let keyed = keyed.clone();
                    thread::spawn(move || {
                        let mut turn = number;
                        while !stop.load(Ordering::Relaxed) {
                            turn += 1;
                            match turn % 8 {
                                0 => drop(pool.stats()),
                                1 => drop(pool.tune(1 + turn % 3)),
                                2 => drop(keyed.submit(turn % 5, || ())),
                                3 => drop(pool.limit(1).try_submit(|| ())),
                                4 => drop(multi.submit(|| ())),
                                5 if !drops_oldest => pool.scope(|s| s.submit(|| ())),
                                6 => drop(pool.wait_idle_timeout(Duration::ZERO)),
                                _ => drop(pool.spawn(|| ()).map(JoinHandle::join)),
                            }
                        }
                    })
                })
                .collect();
            eventually("threads were started", || {
                pool.stats().workers_started > 0 && multi.stats().workers_started > 0
            });
            for _ in 0..50 {
                in_fork("a pool in use", || {
                    assert_left_behind(&pool);
                    let _ = refused(keyed.submit(1, || ()));
                    let _ = refused(multi.submit(|| ()));
                    drop(copy(&keyed));
                    drop(copy(&*multi));
                    drop(copy(&*pool));
                });
            }
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().unwrap();
            }
            keyed.wait_idle();
            pool.wait_idle();
            assert_works(&pool);
        }
    }

    /// No thread was started, but others may be anywhere in it: it works or refuses, and says so truly.
    fn p23_forks_while_others_touch_a_pool_without_threads() {
        let (worked, left) = (Shared::new(), Shared::new());
        for _ in 0..60 {
            let pool = Arc::new(Pool::builder().capacity(2).backlog(4).build().unwrap());
            pool.tune(0);
            let stop = Arc::new(AtomicBool::new(false));
            let thread = {
                let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let handle = pool.try_spawn(|| ()).unwrap();
                        pool.limit(1).tune(3);
                        assert!(handle.cancel());
                        pool.tune(0);
                        pool.stats();
                    }
                })
            };
            eventually("it is in use", || pool.stats().cancelled > 3);
            in_fork("a paused pool in use", || {
                pool.tune(2);
                match pool.spawn(|| 7) {
                    Ok(handle) => {
                        assert_eq!(handle.join().unwrap(), 7);
                        pool.wait_idle();
                        worked.add();
                    }
                    Err(error) => {
                        refused(Err(error))();
                        pool.wait_idle();
                        left.add();
                    }
                }
                drop(copy(&*pool));
            });
            stop.store(true, Ordering::Relaxed);
            thread.join().unwrap();
        }
        assert_eq!(worked.get() + left.get(), 60);
    }

    fn p23_a_pool_without_threads_works_in_the_child() {
        for builder in builders() {
            let pool = builder.build().unwrap();
            let (limited, keyed, group) = (pool.limit(1), pool.keyed(), pool.group::<()>());
            let (handle, token) = (pool.handle(), pool.stop_token());
            in_fork("a pool that started no thread", || {
                assert!(!token.is_stopped());
                assert_works(&handle);
                assert_eq!(limited.spawn(|| 7).unwrap().join().unwrap(), 7);
                assert_eq!(keyed.spawn("key", || 7).unwrap().join().unwrap(), 7);
                group.submit(|| Err(())).unwrap();
                assert!(matches!(group.wait(), Err(GroupError::Task(()))));
                // And is left behind in the next generation.
                in_fork("the child of the child", || assert_left_behind(&pool));
                assert_works(&pool);
                drop(copy(&pool));
                assert!(token.wait_timeout(Duration::MAX));
            });
            assert_eq!(pool.stats().workers_started, 0);
            assert_works(&pool);
        }
    }

    fn p23_a_pool_whose_threads_were_joined_works_in_the_child() {
        let pool = Pool::with_capacity(2);
        assert_works(&pool);
        pool.release_timeout(Duration::MAX).unwrap();
        in_fork("a released pool", || {
            assert_eq!(pool.submit(|| ()).unwrap_err().kind(), SubmitErrorKind::Closed);
            pool.reboot();
            assert_works(&pool);
        });
    }

    fn p23_many_pools_as_one_work_or_refuse_as_one() {
        let pools = MultiPool::new(3, 1, Balance::RoundRobin);
        in_fork("no thread", || {
            for n in 0..9 {
                assert_eq!(pools.spawn(move || n).unwrap().join().unwrap(), n);
            }
            pools.wait_idle();
            drop(copy(&pools));
        });
        // One of them has a thread.
        pools.spawn(|| ()).unwrap().join().unwrap();
        in_fork("one thread", || {
            refused(pools.submit(|| ()))();
            let _ = refused(pools.try_submit(|| ()));
            let _ = refused(pools.submit_timeout(|| (), Duration::MAX));
            refused_spawn(pools.spawn(|| ()));
            pools.shards().for_each(assert_left_behind);
            pools.wait_idle();
            pools.release_timeout(Duration::MAX).unwrap();
            drop(copy(&pools));
        });
    }

    fn p23_the_function_of_a_pool_gets_its_argument_back() {
        let pool = FuncPool::with_capacity(1, |_: String| ());
        pool.invoke(String::from("here")).unwrap();
        pool.wait_idle();
        in_fork("a pool of one function", || {
            for refusal in [
                pool.invoke(String::from("there")),
                pool.try_invoke(String::from("there")),
                pool.invoke_timeout(String::from("there"), Duration::MAX),
            ] {
                assert_eq!(refused(refusal), "there");
            }
            drop(copy(&pool));
        });
    }

    fn p23_what_was_accepted_by_a_paused_pool_runs_once() {
        let ran = Shared::new();
        let pool = Pool::builder().capacity(2).backlog(9).build().unwrap();
        pool.tune(0);
        for _ in 0..5 {
            let ran = Arc::clone(&ran);
            expect_accepted(pool.submit(move || ran.add()));
        }
        in_fork("a paused pool with a backlog", || {
            pool.tune(2);
            assert_left_behind(&pool);
            drop(copy(&pool));
        });
        assert_eq!((ran.get(), pool.queued()), (0, 5));
        pool.tune(2);
        pool.wait_idle();
        assert_eq!(ran.get(), 5);
    }

    fn p23_a_task_forks_and_ends_its_child() {
        let pool = Arc::new(Pool::builder().capacity(1).unbounded_backlog().build().unwrap());
        let (ran, inner) = (Shared::new(), pool.handle());
        let gate = Gate::new();
        let forker = {
            let (gate, ran) = (gate.clone(), Arc::clone(&ran));
            pool.spawn(move || {
                gate.wait();
                // In the local queue of this very worker.
                let (child_ran, child) = (Arc::clone(&ran), inner.clone());
                let waits = inner.spawn(move || child_ran.add()).unwrap();
                in_fork("from inside a task", || {
                    let _ = refused(child.submit(|| ()));
                    refused_spawn(child.spawn(|| 7));
                    assert!(copy(&waits).join().unwrap_err().is_cancelled());
                    assert_gauges_are_zero(&child);
                    assert_eq!(child.map(1..=4, |n: u32| n * n).sum::<u32>(), 30);
                    child.release_timeout(Duration::MAX).unwrap();
                    assert_works(&Pool::with_capacity(1));
                });
                waits.join().unwrap();
            })
        };
        gate.open();
        forker.unwrap().join().unwrap();
        pool.wait_idle();
        assert_eq!(ran.get(), 1);
    }

    /// The thread that forked goes on with the pool's own code in the child: it ends, and the process with it.
    fn p23_a_task_forks_and_returns_in_the_child() {
        for builder in builders() {
            let pool = builder.build().unwrap();
            let ran = Shared::new();
            let busy = occupy(&pool, 1);
            let (mine, others, inner) = (Arc::clone(&ran), Arc::clone(&ran), pool.handle());
            let forks = pool.spawn(move || {
                let more = inner.try_submit(move || (0..100).for_each(|_| others.add()));
                mine.add();
                (fork(), more.is_ok())
            });
            let (child, more) = forks.unwrap().join().unwrap();
            busy.end();
            pool.wait_idle();
            assert_eq!(end_of(child), End::Exit(0));
            assert_eq!(ran.get(), if more { 101 } else { 1 }, "nothing ran twice");
            assert_works(&pool);
        }
    }

    fn p23_a_task_of_a_scope_a_map_a_group_or_a_share_forks_and_returns_in_the_child() {
        let pool = Pool::with_capacity(2);
        let (limited, serial, keyed) = (pool.limit(1), pool.serial(), pool.keyed());
        let pids = Arc::new(std::sync::Mutex::new(Vec::new()));
        let forks = {
            let pids = Arc::clone(&pids);
            move || {
                let child = fork();
                if child > 0 {
                    pids.lock().unwrap().push(child);
                }
            }
        };
        pool.scope(|s| {
            s.submit(&forks);
            s.spawn(&forks).join().unwrap();
        });
        let maps = forks.clone();
        assert_eq!(pool.map(0..3, move |_| maps()).count(), 3);
        let group = pool.group::<()>();
        for _ in 0..3 {
            let forks = forks.clone();
            let task = move || {
                forks();
                Ok(())
            };
            group.submit(task).unwrap();
        }
        group.wait().unwrap();
        for _ in 0..2 {
            limited.submit(forks.clone()).unwrap();
            serial.spawn(forks.clone()).unwrap().join().unwrap();
            keyed.submit("key", forks.clone()).unwrap();
        }
        // In the task that waits: on its stack.
        let (inner, inner_forks, share) = (pool.handle(), forks.clone(), limited.clone());
        let outer = pool.spawn(move || {
            inner.scope(|s| {
                for _ in 0..2 {
                    s.submit(&inner_forks);
                }
            });
            let group = inner.group::<()>();
            let grouped = inner_forks.clone();
            let task = move || {
                grouped();
                Ok(())
            };
            group.submit(task).unwrap();
            let _ = group.wait();
            let _ = share.spawn(inner_forks.clone()).unwrap().join();
        });
        outer.unwrap().join().unwrap();
        limited.wait_idle();
        keyed.wait_idle();
        pool.wait_idle();
        let pids = mem::take(&mut *pids.lock().unwrap());
        assert_eq!(pids.len(), 2 + 3 + 3 + 6 + 4);
        for pid in pids {
            assert_eq!(end_of(pid), End::Exit(0));
        }
        assert_works(&pool);
    }

    fn p23_a_submitter_that_runs_its_task_itself_goes_on_in_the_child() {
        let pool = Pool::builder().capacity(1).overflow(Overflow::CallerRuns).build().unwrap();
        let busy = occupy(&pool, 1);
        let (sender, receiver) = channel();
        expect_accepted(pool.submit(move || sender.send(fork()).unwrap()));
        let pid = receiver.recv().unwrap();
        if pid == 0 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                assert_left_behind(&pool);
                drop(copy(&pool));
            }));
            exit(if outcome.is_ok() { 0 } else { PANICKED });
        }
        assert_eq!(end_of(pid), End::Exit(0));
        busy.end();
        pool.wait_idle();
    }

    fn p23_a_scope_that_is_open_does_not_wait_in_the_child_for_what_is_in_the_parent() {
        let pool = Pool::builder().capacity(1).backlog(9).build().unwrap();
        let ran = AtomicUsize::new(0);
        let gate = Gate::new();
        pool.scope(|s| {
            s.submit(|| gate.wait());
            for _ in 0..3 {
                s.submit(|| {
                    ran.fetch_add(1, Ordering::SeqCst);
                });
            }
            let pid = fork();
            if pid == 0 {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    // In the parent it runs; here the caller does.
                    s.submit(|| {
                        ran.fetch_add(10, Ordering::SeqCst);
                    });
                    assert_eq!(ran.load(Ordering::SeqCst), 10);
                }));
                if outcome.is_err() {
                    exit(PANICKED);
                }
                // The end of the scope in this process: it panics, since tasks of it are not over here.
                std::panic::set_hook(Box::new(|panic| {
                    let told = panic.to_string().contains("forked while tasks of this scope");
                    exit(if told { 0 } else { 3 });
                }));
                return;
            }
            assert_eq!(end_of(pid), End::Exit(0));
            gate.open();
        });
        assert_eq!(ran.load(Ordering::SeqCst), 3);
    }

    fn p23_a_map_a_group_and_handles_from_before_the_fork_end_in_the_child() {
        let pool = Pool::builder().capacity(1).unbounded_backlog().panic_handler(|_| {}).build().unwrap();
        let gate = Gate::new();
        let mut map = {
            let gate = gate.clone();
            pool.map(0..9, move |n| if n > 0 { gate.wait() })
        };
        map.next().unwrap();
        let (group, going) = (pool.group::<()>(), pool.group::<()>().keep_going());
        for _ in 0..3 {
            group.submit(|| Ok(())).unwrap();
            going.submit(|| Ok(())).unwrap();
        }
        let limited = pool.limit(1);
        let of_share = limited.spawn(|| 7).unwrap();
        in_fork("half-way", || {
            let mut inherited = copy(&map);
            let ended = catch_unwind(AssertUnwindSafe(|| inherited.next()));
            assert!(ended.is_err(), "its items are not worked on here");
            assert!(inherited.next().is_none());
            drop(inherited);
            assert!(matches!(group.wait(), Err(GroupError::Cancelled)));
            let errors = going.wait().unwrap_err();
            let indices: Vec<_> = errors.iter().map(|(index, _)| *index).collect();
            assert_eq!(indices, [0, 1, 2]);
            group.cancel();
            drop(copy(&group));
            drop(copy(&going));
            assert!(copy(&of_share).join().unwrap_err().is_cancelled());
            limited.wait_idle();
            assert_eq!(limited.queued(), 0);
            drop(copy(&limited));
            drop(copy(&pool));
        });
        gate.open();
        assert_eq!(map.count(), 8);
        group.wait().unwrap();
        going.wait().unwrap();
        assert_eq!(of_share.join().unwrap(), 7);
    }

    fn p23_a_join_that_waits_in_the_parent_does_not_bind_the_child() {
        let pool = Arc::new(Pool::with_capacity(2));
        let gate = Gate::new();
        let waits = {
            let gate = gate.clone();
            spawned(pool.spawn(move || gate.wait()))
        };
        let joiner = thread::spawn(move || waits.join());
        let idle = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.wait_idle())
        };
        eventually_eq("it runs", 1, || pool.running());
        for _ in 0..20 {
            in_fork("others wait", || {
                assert_left_behind(&pool);
                drop(copy(&*pool));
            });
        }
        gate.open();
        joiner.join().unwrap().unwrap();
        idle.join().unwrap();
    }

    fn p23_the_global_pool_starts_afresh_in_the_child() {
        assert_eq!(anthill::spawn(|| 7).unwrap().join().unwrap(), 7);
        let parents = anthill::global();
        parents.tune(3);
        in_fork("the global pool", || {
            assert_eq!(anthill::spawn(|| 7).unwrap().join().unwrap(), 7);
            assert_works(anthill::global());
            assert!(!ptr::eq(parents, anthill::global()));
            assert_left_behind(parents);
            assert!(ptr::eq(anthill::global(), anthill::global()));
        });
        assert!(ptr::eq(parents, anthill::global()));
        assert_works(parents);
    }
}

alone! {
    /// The timers of the parent are not the child's: they never fire there and nothing of them hangs; new ones work.
    fn timers_after_a_fork() {
        let fired = Shared::new();
        let count = || {
            let fired = Arc::clone(&fired);
            move || fired.add()
        };
        let pool = Pool::with_capacity(1);
        let untouched = Pool::with_capacity(1);
        let Ok(timer) = pool.submit_after(Duration::from_secs(3600), count()) else {
            panic!("it is open");
        };
        let Ok(soon) = pool.submit_after(Duration::from_millis(300), count()) else {
            panic!("it is open");
        };
        let Ok(series) = pool.submit_every(Duration::from_secs(3600), count()) else {
            panic!("it is open");
        };
        // Beside other threads that set and cancel: the fork meets them with locks held.
        let stop = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..2)
            .map(|_| {
                let (handle, stop) = (pool.handle(), Arc::clone(&stop));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let timer = handle.submit_after(Duration::from_secs(60), || {});
                        assert!(timer.is_ok_and(|timer| timer.cancel()));
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            in_fork("timers", || {
                let ours = Pool::with_capacity(1);
                let ran = Arc::new(AtomicUsize::new(0));
                let runs = Arc::clone(&ran);
                let set = ours.submit_after(Duration::from_millis(1), move || {
                    runs.fetch_add(1, Ordering::SeqCst);
                });
                assert!(set.is_ok());
                let runs = Arc::clone(&ran);
                let every = untouched.submit_every(Duration::from_millis(1), move || {
                    runs.fetch_add(1, Ordering::SeqCst);
                });
                eventually("the child's timers run", || ran.load(Ordering::SeqCst) >= 3);
                assert!(every.is_ok_and(|every| every.cancel()));

                refused(pool.submit_after(Duration::ZERO, count()).map(drop))();
                let _ = refused(pool.submit_every(Duration::ZERO, count()).map(drop));
                assert_eq!(pool.timers(), 0);
                for timer in [&timer, &soon, &series] {
                    assert!(!copy(timer).cancel());
                }
                drop((copy(&timer), copy(&series)));
                pool.release_timeout(Duration::MAX).unwrap();
                drop(ours);
            });
        }
        stop.store(true, Ordering::SeqCst);
        for thread in busy {
            thread.join().unwrap();
        }
        // Each child called one that came back.
        eventually_eq("the parent's timer fires", 21, || fired.get());
        assert!(timer.cancel());
        assert!(series.cancel());
    }
}

#[cfg(feature = "futures")]
alone! {
    /// A sleeping future goes on in the child, for what is left of its time, on the timers of the child.
    fn sleeping_futures_after_a_fork() {
        let mut set = Box::pin(anthill::sleep(Duration::from_millis(50)));
        let waits = set.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(waits.is_pending());
        let unset = anthill::sleep(Duration::from_millis(50));
        in_fork("sleepers", || {
            futures::executor::block_on(copy(&set));
            futures::executor::block_on(copy(&unset));
            futures::executor::block_on(anthill::sleep(Duration::from_millis(1)));
        });
        futures::executor::block_on(set);
        futures::executor::block_on(unset);
    }
}
