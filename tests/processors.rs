//! How many workers a pool has that was told nothing: as many as there are processors for whoever builds it, as it
//! does so; the process's own pool as many as the process has, whichever thread asks first. And where workers may
//! run. Each test that pins a thread is a process of its own.
//!
//! With one processor all counts are one: those tests say so, and leave it at that. So does the test of a quota
//! where no control group can be made.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anthill::{Builder, FuncPool, Pool};
use support::linux::{affinity, pin};
use support::{expect_accepted, in_child_process, spawned};

const LIMIT: Duration = Duration::from_secs(60);

/// What a thread says that is pinned to the first of the processors.
fn pinned<T: Send>(processors: &[usize], body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(0, &processors[..1]);
            body()
        });
        thread.join().unwrap()
    })
}

fn count() -> usize {
    thread::available_parallelism().unwrap().get()
}

/// A test in a process of its own that has several processors, which it is told.
fn with_several(test: &str, body: impl FnOnce(&[usize])) {
    let processors = affinity();
    if processors.len() < 2 || count() < 2 {
        eprintln!("{test}: left out, there is but one processor");
        return;
    }
    in_child_process(test, LIMIT, || body(&processors));
}

#[test]
fn a_pinned_thread_that_comes_first_decides_for_nobody_else() {
    let test = "a_pinned_thread_that_comes_first_decides_for_nobody_else";
    with_several(test, |processors| {
        pinned(processors, || {
            let pool = Pool::with_capacity(4);
            spawned(pool.spawn(|| ())).join().unwrap();
            assert_eq!(Pool::default().capacity(), 1, "its own");
        });
        assert_eq!(Pool::default().capacity(), count());
        assert_eq!(anthill::global().capacity(), count());
        pinned(processors, || assert_eq!(Pool::default().capacity(), 1));
        assert_eq!(Pool::default().capacity(), count());
    });
}

#[test]
fn the_global_pool_is_the_process_s_also_where_a_pinned_thread_asks_first() {
    let test = "the_global_pool_is_the_process_s_also_where_a_pinned_thread_asks_first";
    with_several(test, |processors| {
        let before = pinned(processors, || {
            let capacity = anthill::global().capacity();
            assert_eq!(affinity().len(), 1, "it is pinned as before");
            capacity
        });
        assert_eq!(before, count());
        assert_eq!(anthill::spawn(|| 7).unwrap().join().unwrap(), 7);
    });
}

#[test]
fn the_global_pool_of_a_process_whose_main_thread_is_pinned_has_one_worker() {
    let test = "the_global_pool_of_a_process_whose_main_thread_is_pinned_has_one_worker";
    with_several(test, |processors| {
        let main = libc::pid_t::try_from(std::process::id()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                pin(main, &processors[..1]);
                pin(0, processors);
                assert_eq!(anthill::global().capacity(), 1);
                assert_eq!(Pool::default().capacity(), processors.len());
            });
        });
    });
}

#[test]
fn a_builder_counts_when_it_builds() {
    with_several("a_builder_counts_when_it_builds", |processors| {
        let builder = Pool::builder();
        let build = |builder: &Builder| builder.clone().build().unwrap().capacity();
        assert_eq!(build(&builder), count());
        assert_eq!(pinned(processors, || build(&builder)), 1);
        assert_eq!(build(&builder), count());
        let func = FuncPool::builder(|_: u8| ());
        assert_eq!(pinned(processors, || func.build().unwrap().capacity()), 1);
        let error = pinned(processors, || {
            Pool::builder().min_workers(2).build().unwrap_err()
        });
        assert!(error.to_string().contains('1'), "{error}");
    });
}

#[test]
fn workers_may_run_where_the_thread_may_whose_call_started_them() {
    let test = "workers_may_run_where_the_thread_may_whose_call_started_them";
    with_several(test, |processors| {
        let of_a_task = |pool: &Pool| spawned(pool.spawn(affinity)).join().unwrap();
        // Started by the submitter.
        let pool = Pool::with_capacity(1);
        assert_eq!(pinned(processors, || of_a_task(&pool)), processors[..1]);
        assert_eq!(of_a_task(&pool), processors[..1], "the same worker");
        // Started by who built the pool.
        let pool = Pool::builder().capacity(1).min_workers(1).build().unwrap();
        assert_eq!(pinned(processors, || of_a_task(&pool)), processors);
        // Told otherwise.
        let all = processors.to_vec();
        let pool = Pool::builder()
            .capacity(1)
            .on_worker_start(move |_| pin(0, &all))
            .build()
            .unwrap();
        assert_eq!(pinned(processors, || of_a_task(&pool)), processors);
    });
}

/// A control group with a quota of processor time, of either version; taken away when it is dropped.
struct Group {
    folder: PathBuf,
    /// The group above, to which its processes go back.
    above: PathBuf,
    version: u32,
}

impl Group {
    fn new() -> io::Result<Group> {
        let (above, version) = if Path::new("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").exists() {
            (PathBuf::from("/sys/fs/cgroup/cpu"), 1)
        } else {
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu")?;
            (PathBuf::from("/sys/fs/cgroup"), 2)
        };
        let folder = above.join(format!("anthill-test-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let group = Group {
            folder,
            above,
            version,
        };
        group.try_allow(100)?;
        Ok(group)
    }

    /// Puts this process into it.
    fn enter(&self) {
        fs::write(self.folder.join("cgroup.procs"), "0").expect("a process may be moved there");
    }

    /// So many hundredths of a processor.
    fn try_allow(&self, percent: u32) -> io::Result<()> {
        let quota = percent * 1_000;
        match self.version {
            1 => {
                fs::write(self.folder.join("cpu.cfs_period_us"), "100000")?;
                fs::write(self.folder.join("cpu.cfs_quota_us"), quota.to_string())
            }
            _ => fs::write(self.folder.join("cpu.max"), format!("{quota} 100000")),
        }
    }

    fn allow(&self, percent: u32) {
        self.try_allow(percent).expect("it was so before");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.above.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
fn a_quota_of_the_control_group_is_heeded_and_asked_for_afresh() {
    let test = "a_quota_of_the_control_group_is_heeded_and_asked_for_afresh";
    if let Err(refusal) = Group::new() {
        eprintln!("{test}: left out, no control group can be made: {refusal}");
        return;
    }
    with_several(test, |processors| {
        assert!(Pool::default().capacity() >= 2);
        let group = Group::new().unwrap();
        group.enter();
        println!("control groups of version {}", group.version);
        let capacities = |percent| {
            group.allow(percent);
            let of_builder = Pool::builder().build().unwrap().capacity();
            (Pool::default().capacity(), of_builder)
        };
        assert_eq!(capacities(100), (1, 1));
        assert_eq!(capacities(50), (1, 1), "a part of one is one");
        assert_eq!(capacities(200), (2, 2));
        assert_eq!(capacities(190), (1, 1), "rounded down");
        // The quota is the process's, also where a pinned thread asks for its pool.
        group.allow(200);
        let global = pinned(processors, || anthill::global().capacity());
        assert_eq!(global, 2);
        expect_accepted(anthill::submit(|| ()));
        anthill::global().wait_idle();
    });
}
