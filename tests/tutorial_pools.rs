//! The worker pools of two well-known tutorials, and that their bugs are not had here.
//!
//! The first has a name, a size, a queue and a stop; there a job that is nil kills its worker, and a
//! submit after the stop panics. The second has three workers and nine jobs, in three versions: with
//! results, with errors, and with a list of tasks that keep their errors; there too many results or
//! errors that nobody reads stop everything.

mod support;

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use anthill::{GroupError, JoinError, JoinHandle, Pool, PoolHandle, SubmitErrorKind};
use support::{
    Arrivals, DEADLINE, DropCounter, Gate, Log, Running, assert_at_rest, eventually_eq,
    expect_accepted, occupy, receive, refusal, watchdog,
};

/// As many jobs as the tutorial has; more than its three workers, its queue of a hundred and its hundred
/// results can hold together; and far more.
const NUMBERS_OF_JOBS: [u64; 3] = [9, 204, 100_000];

const WORKERS: usize = 3;

/// The pools that a tutorial could mean: without a queue, and with one of a hundred places.
fn pools() -> [Pool; 2] {
    let queued = Pool::builder().capacity(WORKERS).backlog(100);
    [Pool::with_capacity(WORKERS), queued.build().unwrap()]
}

/// The first tutorial's pool, with its queue.
fn demo_pool(size: usize, queue_size: usize) -> Pool {
    Pool::builder()
        .name("demo")
        .capacity(size)
        .min_workers(size)
        .backlog(queue_size)
        .panic_handler(|_| {})
        .build()
        .unwrap()
}

fn square(job: u64) -> u64 {
    job * job
}

/// What the job with this number is to do: those with odd numbers fail.
fn even_only(job: u64) -> Result<u64, String> {
    if job % 2 == 0 {
        Ok(square(job))
    } else {
        Err(format!("job {job} is odd"))
    }
}

// ── the demo worker pool ────────────────────────────────────────────────────────────────────

/// Start returns with the workers there, before there is a job; the jobs then start no further one.
#[test]
fn start_returns_with_its_workers_ready() {
    let pool = demo_pool(3, 5);
    assert_eq!((pool.workers(), pool.capacity()), (3, 3));
    assert_eq!(pool.stats().workers_started, 3);
    eventually_eq("idle workers", 3, || pool.idle());

    let occupied = occupy(&pool, 3);
    assert_eq!(pool.stats().workers_started, 3);
    occupied.end();
}

/// They carry the pool's name and a number each.
#[test]
fn the_workers_have_the_name_of_the_pool() {
    let pool = demo_pool(3, 5);
    let (names, together) = (Log::new(), Arrivals::new());
    for _ in 0..3 {
        let (names, together) = (names.clone(), together.clone());
        expect_accepted(pool.submit(move || {
            names.push(thread::current().name().map(str::to_owned));
            together.arrive();
            together.wait_for(3);
        }));
    }
    pool.wait_idle();
    let mut names: Vec<String> = names.entries().into_iter().flatten().collect();
    names.sort();
    assert_eq!(names, ["demo-0", "demo-1", "demo-2"]);
}

/// Exactly so many jobs are accepted as there are workers and places in the queue.
#[test]
fn the_queue_has_its_size() {
    let pool = demo_pool(3, 5);
    let occupied = occupy(&pool, 3);
    for _ in 0..5 {
        expect_accepted(pool.try_submit(|| {}));
    }
    assert_eq!((pool.running(), pool.queued()), (3, 5));
    assert_eq!(refusal(pool.try_submit(|| {})), SubmitErrorKind::Full);
    occupied.end();
    pool.wait_idle();
    assert_at_rest(&pool);
}

/// A stop lets the queue run dry, and returns once the threads are gone with all that was theirs.
#[test]
fn stop_drains_the_queue_and_joins_the_workers() {
    thread_local! {
        static OF_THE_WORKER: std::cell::Cell<Option<DropCounter>> = const { std::cell::Cell::new(None) };
    }

    let pool = demo_pool(3, 5);
    let occupied = occupy(&pool, 3);
    let (ran, dropped, ended_threads) = (Arrivals::new(), Arrivals::new(), Arrivals::new());
    for _ in 0..5 {
        let (ran, captured) = (ran.clone(), DropCounter(dropped.clone()));
        let end_of_thread = DropCounter(ended_threads.clone());
        expect_accepted(pool.submit(move || {
            let _captured = captured;
            // One for each thread: the others are dropped here and now.
            OF_THE_WORKER.set(Some(end_of_thread));
            ran.arrive();
        }));
    }
    pool.release();
    assert_eq!(ran.count(), 0, "the workers were busy");
    occupied.end();
    pool.release_timeout(DEADLINE).unwrap();
    assert_eq!((ran.count(), dropped.count()), (5, 5));
    assert_eq!(ended_threads.count(), 5);
    assert_eq!((pool.workers(), pool.stats().completed), (0, 8));
    assert_at_rest(&pool);
}

/// The same by going out of scope.
#[test]
fn dropping_the_pool_drains_the_queue_too() {
    let pool = demo_pool(3, 5);
    let handle = pool.handle();
    let gate = Gate::new();
    let ran = Arrivals::new();
    for _ in 0..8 {
        let (gate, ran) = (gate.clone(), ran.clone());
        expect_accepted(pool.submit(move || {
            gate.wait();
            ran.arrive();
        }));
    }
    watchdog("the pool is dropped", move || {
        gate.open();
        drop(pool);
    });
    assert_eq!((ran.count(), handle.workers()), (8, 0));
}

/// A job that comes after the stop is not a panic but an error, by each door; and it comes back whole.
#[test]
fn submit_after_stop_gives_the_job_back() {
    let pool = demo_pool(3, 5);
    pool.release_timeout(DEADLINE).unwrap();

    let (sender, letters) = channel();
    let letter = String::from("the only copy");
    let refused = pool
        .submit(move || sender.send(letter).unwrap())
        .unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::Closed);
    let refused = pool.try_submit(refused.into_inner()).unwrap_err();
    assert_eq!(refused.kind(), SubmitErrorKind::Closed);
    let (kind, job) = pool
        .submit_timeout(refused.into_inner(), DEADLINE)
        .unwrap_err()
        .into_parts();
    assert_eq!(kind, SubmitErrorKind::Closed);
    assert!(letters.try_recv().is_err(), "nobody has run it");
    job();
    assert_eq!(receive("the letter", &letters), "the only copy");

    let stats = pool.stats();
    assert_eq!((stats.submitted, stats.rejected), (0, 3), "{stats:?}");
}

/// There is no nil job: a task is a closure. The worst that a job can do is to panic, and it takes no
/// worker with it: of three whose jobs all panic at the same time, the same three run the next jobs.
#[test]
fn a_job_that_panics_leaves_its_worker_alive() {
    let pool = demo_pool(3, 9);
    let threads = |panics: bool| {
        let (threads, together) = (Log::new(), Arrivals::new());
        for _ in 0..3 {
            let (threads, together) = (threads.clone(), together.clone());
            expect_accepted(pool.submit(move || {
                threads.push(thread::current().name().map(str::to_owned));
                together.arrive();
                together.wait_for(3);
                if panics {
                    panic_any(None::<fn()>);
                }
            }));
        }
        pool.wait_idle();
        let mut threads = threads.entries();
        threads.sort();
        threads
    };
    assert_eq!(threads(true), threads(false));
    assert_eq!(threads(true).len(), 3);

    let stats = pool.stats();
    assert_eq!((stats.completed, stats.panicked), (3, 6), "{stats:?}");
    assert_eq!(stats.workers_started, 3, "no worker had to be replaced");
    assert_at_rest(&pool);
}

// ── three workers, nine jobs: results ───────────────────────────────────────────────────────

/// Runs a number of jobs in one of the ways in which results come back, on three workers.
fn nobody_reads_until_the_end(way: fn(&PoolHandle, &Running, u64) -> Vec<u64>) {
    for pool in pools() {
        for jobs in NUMBERS_OF_JOBS {
            let running = Running::new();
            let (handle, at_work) = (pool.handle(), running.clone());
            let results = watchdog(format_args!("{jobs} jobs"), move || {
                way(&handle, &at_work, jobs)
            });
            assert!(
                results.into_iter().eq((1..=jobs).map(square)),
                "each result once, in order"
            );
            assert!(running.peak() <= WORKERS, "{} at once", running.peak());
        }
        pool.wait_idle();
        assert_at_rest(&pool);
        assert!(pool.stats().workers_peak <= WORKERS);
    }
}

/// Each handle keeps its result, whoever reads it and when: any number can be handed in before the first
/// is read. (Where results went through a channel of a hundred places, the 204th job was one too many.)
#[test]
fn results_by_handles() {
    nobody_reads_until_the_end(|pool, running, jobs| {
        let spawn = |job| {
            let running = running.clone();
            let work = move || {
                let _inside = running.enter();
                square(job)
            };
            pool.spawn(work).unwrap()
        };
        let handles: Vec<_> = (1..=jobs).map(spawn).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .collect()
    });
}

#[test]
fn results_by_a_map() {
    nobody_reads_until_the_end(|pool, running, jobs| {
        let running = running.clone();
        let work = move |job| {
            let _inside = running.enter();
            square(job)
        };
        pool.map(1..=jobs, work).collect()
    });
}

#[test]
fn results_by_an_unordered_map() {
    nobody_reads_until_the_end(|pool, running, jobs| {
        let running = running.clone();
        let work = move |job| {
            let _inside = running.enter();
            square(job)
        };
        let mut results: Vec<u64> = pool.map_unordered(1..=jobs, work).collect();
        results.sort_unstable();
        results
    });
}

#[test]
fn results_of_a_list_of_tasks() {
    nobody_reads_until_the_end(|pool, running, jobs| {
        let task = |job| {
            move || {
                let _inside = running.enter();
                square(job)
            }
        };
        let results = pool.run_all((1..=jobs).map(task));
        results.into_iter().map(Result::unwrap).collect()
    });
}

/// A caller who reads no result at all holds nothing up either: all jobs run.
#[test]
fn results_that_nobody_reads() {
    for pool in pools() {
        let ran = Arc::new(AtomicUsize::new(0));
        let (handle, counter) = (pool.handle(), Arc::clone(&ran));
        watchdog("204 jobs whose handles are dropped", move || {
            for job in 1..=204 {
                let counter = Arc::clone(&counter);
                let job = handle.spawn(move || {
                    counter.fetch_add(1, Ordering::SeqCst);
                    square(job)
                });
                drop(job.unwrap());
            }
            handle.wait_idle();
        });
        assert_eq!(ran.load(Ordering::SeqCst), 204);
        assert_at_rest(&pool);
    }
}

// ── …: errors ───────────────────────────────────────────────────────────────────────────────

/// Nine jobs of which the odd ones fail: the five errors are there at the end, each with its job, although
/// nobody read one meanwhile. So it is with any number.
#[test]
fn every_error_is_told_though_nobody_reads_them_meanwhile() {
    for pool in pools() {
        for jobs in NUMBERS_OF_JOBS {
            let handle = pool.handle();
            let errors = watchdog(format_args!("{jobs} jobs"), move || {
                let group = handle.group().keep_going();
                for job in 1..=jobs {
                    group.submit(move || even_only(job).map(drop)).unwrap();
                }
                group.wait().unwrap_err()
            });
            let told = errors.into_iter().map(|(index, error)| match error {
                GroupError::Task(error) => (index as u64 + 1, error),
                other => panic!("{other:?}"),
            });
            let odd = (1..=jobs).step_by(2);
            assert!(told.eq(odd.map(|job| (job, format!("job {job} is odd")))));
        }
        assert_at_rest(&pool);
    }
}

/// The very nine, and their results as well.
#[test]
fn nine_jobs_have_four_results_and_five_errors() {
    let pool = Pool::with_capacity(WORKERS);
    let group = pool.group().keep_going();
    let handles: Vec<_> = (1..=9)
        .map(|job| group.spawn(move || even_only(job)).unwrap())
        .collect();
    let errors = group.wait().unwrap_err();
    let indices: Vec<usize> = errors.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [0, 2, 4, 6, 8]);
    assert_eq!(errors[4].1.task().map(String::as_str), Some("job 9 is odd"));

    let results: Vec<_> = handles.into_iter().map(JoinHandle::join).collect();
    let good: Vec<u64> = results
        .iter()
        .filter_map(|result| result.as_ref().ok().copied())
        .collect();
    assert_eq!(good, [4, 16, 36, 64]);
    let failed = results.iter().filter_map(|result| result.as_ref().err());
    assert_eq!(failed.filter(|error| error.is_failed()).count(), 5);
}

/// A job counts before it can be over: a wait never returns while one of the group is at work or to come.
/// (Where a job was counted only once it ran, the wait could be over before it.)
#[test]
fn a_group_counts_its_jobs_before_they_run() {
    let pool = Pool::with_capacity(WORKERS);
    for round in 0..300 {
        let over = Arc::new(AtomicUsize::new(0));
        let group = pool.group::<()>().keep_going();
        for _ in 0..9 {
            let over = Arc::clone(&over);
            let count = move || {
                over.fetch_add(1, Ordering::SeqCst);
                Ok(())
            };
            group.submit(count).unwrap();
        }
        group.wait().unwrap();
        assert_eq!(over.load(Ordering::SeqCst), 9, "in round {round}");
    }
}

// ── …: the robust one ───────────────────────────────────────────────────────────────────────

/// A list of tasks: each has its own outcome, in its place, and a panic is the outcome of its task alone.
#[test]
fn each_task_of_a_list_keeps_its_error() {
    for pool in pools() {
        let tasks = (1..=9).map(|job| {
            move || {
                assert!(job != 4, "job {job} is beyond help");
                even_only(job)
            }
        });
        let outcomes = pool.run_all(tasks);
        assert_eq!(outcomes.len(), 9);
        for (job, outcome) in (1..).zip(outcomes) {
            match outcome {
                Ok(outcome) => assert_eq!(outcome, even_only(job)),
                Err(error) => {
                    assert_eq!(job, 4, "{error}");
                    assert!(error.is_panic());
                    assert_eq!(error.message(), Some("job 4 is beyond help"));
                }
            }
        }
        let stats = pool.stats();
        assert_eq!((stats.completed, stats.panicked), (8, 1), "{stats:?}");
        assert_at_rest(&pool);
    }
}

/// In a group that keeps going, too, a panic is one error among the others.
#[test]
fn a_panic_counts_as_the_error_of_its_task() {
    let pool = Pool::with_capacity(WORKERS);
    let group = pool.group().keep_going();
    for job in 1..=9 {
        let work = move || {
            assert!(job != 4, "job {job} is beyond help");
            even_only(job).map(drop)
        };
        group.submit(work).unwrap();
    }
    let errors = group.wait().unwrap_err();
    let jobs: Vec<usize> = errors.iter().map(|(index, _)| index + 1).collect();
    assert_eq!(jobs, [1, 3, 4, 5, 7, 9]);
    for (index, error) in errors {
        match error {
            GroupError::Panicked(panic) => {
                assert_eq!(index, 3);
                assert_eq!(panic.message(), Some("job 4 is beyond help"));
            }
            other => assert!(index != 3 && other.into_task().is_some()),
        }
    }
}

/// The caller stops reading after ten errors, of a list of a hundred with fifty. All hundred have run, the
/// forty errors that he did not read trouble nobody, and the pool goes on.
#[test]
fn the_caller_stops_reading_a_list_after_ten_errors() {
    let pool = Pool::with_capacity(WORKERS);
    let ran = Arc::new(AtomicUsize::new(0));
    let task = |job| {
        let ran = &ran;
        move || {
            ran.fetch_add(1, Ordering::SeqCst);
            even_only(job)
        }
    };
    let outcomes = pool.run_all((1..=100).map(task));
    let errors = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.unwrap().err());
    let read: Vec<String> = errors.take(10).collect();
    assert_eq!(read.last().map(String::as_str), Some("job 19 is odd"));
    assert_eq!(ran.load(Ordering::SeqCst), 100);
    assert_at_rest(&pool);
    assert_eq!(pool.spawn(|| "goes on").unwrap().join().unwrap(), "goes on");
}

/// The same with handles, read while the jobs run: those that he did not wait for run all the same.
#[test]
fn the_caller_stops_reading_handles_after_ten_errors() {
    for pool in pools() {
        let ran = Arc::new(AtomicUsize::new(0));
        let (handle, counter) = (pool.handle(), Arc::clone(&ran));
        let read = watchdog("a hundred jobs", move || {
            let spawn = |job| {
                let ran = Arc::clone(&counter);
                let work = move || {
                    ran.fetch_add(1, Ordering::SeqCst);
                    even_only(job)
                };
                handle.spawn(work).unwrap()
            };
            let handles: Vec<_> = (1..=100).map(spawn).collect();
            let outcomes = handles.into_iter().map(|handle| handle.join().unwrap());
            let read = outcomes.filter_map(Result::err).take(10).count();
            handle.wait_idle();
            read
        });
        assert_eq!((read, ran.load(Ordering::SeqCst)), (10, 100));
        assert_at_rest(&pool);
    }
}

/// The same with a map, which is lazy: after ten errors nothing more starts than what is in its window.
#[test]
fn the_caller_stops_reading_a_map_after_ten_errors() {
    const WINDOW: usize = 8;

    let pool = Pool::with_capacity(WORKERS);
    let pulled = Arc::new(AtomicUsize::new(0));
    let ran = Arc::new(AtomicUsize::new(0));
    let (handle, pulls, runs) = (pool.handle(), Arc::clone(&pulled), Arc::clone(&ran));
    let read = watchdog("a map without an end", move || {
        let jobs = (1..).inspect(|_: &u64| {
            pulls.fetch_add(1, Ordering::SeqCst);
        });
        let work = move |job| {
            runs.fetch_add(1, Ordering::SeqCst);
            even_only(job)
        };
        let outcomes = handle.map(jobs, work).window(WINDOW);
        outcomes.filter_map(Result::err).take(10).count()
    });
    assert_eq!(read, 10);
    pool.wait_idle();
    let (pulled, ran) = (pulled.load(Ordering::SeqCst), ran.load(Ordering::SeqCst));
    // The tenth error is that of job 19.
    assert!((19..19 + WINDOW).contains(&pulled), "{pulled} were pulled");
    assert!((19..=pulled).contains(&ran), "{ran} ran");
    assert_at_rest(&pool);
}

/// After ten errors the caller cancels what is left: those jobs never run, and each handle says so.
#[test]
fn the_caller_cancels_the_rest_after_ten_errors() {
    let pool = Pool::builder()
        .capacity(WORKERS)
        .unbounded_backlog()
        .build()
        .unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let gate = Gate::new();
    let mut handles = Vec::new();
    for job in 1..=100 {
        let (ran, gate) = (Arc::clone(&ran), gate.clone());
        let work = move || {
            if job > 20 {
                gate.wait();
            }
            ran.fetch_add(1, Ordering::SeqCst);
            even_only(job)
        };
        handles.push(pool.spawn(work).unwrap());
    }
    let gate = gate.opened_on_drop();
    let mut handles = handles.into_iter();
    let outcomes = handles
        .by_ref()
        .take(20)
        .map(|handle| handle.join().unwrap());
    assert_eq!(outcomes.filter_map(Result::err).count(), 10);

    let rest: Vec<_> = handles.collect();
    let cancelled = rest.iter().filter(|handle| handle.cancel()).count();
    gate.open();
    let outcomes = rest.into_iter().map(JoinHandle::join);
    let told = outcomes
        .filter_map(Result::err)
        .filter(JoinError::is_cancelled)
        .count();
    assert!((80 - WORKERS..=80).contains(&cancelled), "{cancelled}");
    assert_eq!(
        (told, ran.load(Ordering::SeqCst)),
        (cancelled, 100 - cancelled)
    );
    pool.wait_idle();
    assert_at_rest(&pool);
}
