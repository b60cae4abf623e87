//! Tasks with results, and tasks that belong together.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anthill::Pool;

use super::{Row, Scale, WORKERS, contender, fib, func, map, timed, with_modes};
use crate::engines::{rayon, rusty_pool, tokio_runtime};

pub(crate) fn rows(scale: Scale) -> Vec<Row> {
    let mut rows = vec![
        spawn_join("spawn and join", scale),
        scopes(scale),
        map::items(scale),
        map::batches_of_64(scale),
        map::batches_of_1024(scale),
    ];
    rows.insert(
        1,
        spawn_join("spawn and join, after a pause", scale).after_a_pause(),
    );
    rows.extend(fib::rows(scale));
    rows.extend(func::rows(scale));
    rows
}

/// A unit is an empty task with a small result: all are spawned, then all are joined.
fn spawn_join(name: &str, scale: Scale) -> Row {
    fn anthill(pool: Pool) -> impl FnMut(u64) -> Duration {
        move |tasks| {
            timed(|| {
                let spawn = |n| pool.spawn(move || n);
                let handles: Vec<_> = (0..tasks)
                    .map(|n| spawn(n).unwrap_or_else(|_| panic!("an open pool accepts")))
                    .collect();
                let results = handles.into_iter().map(|handle| handle.join().unwrap());
                assert_eq!(results.sum::<u64>(), sum_below(tasks));
            })
        }
    }

    let units = scale.units(10_000);
    let row = Row::new(
        name,
        "tasks with a small result: 10,000 are spawned, then all are joined",
        with_modes(
            units,
            anthill,
            vec![
                contender("rusty_pool-2", units, || {
                    let pool = rusty_pool(WORKERS);
                    move |tasks| {
                        timed(|| {
                            let spawn = |n| pool.evaluate(move || n);
                            let handles: Vec<_> = (0..tasks).map(spawn).collect();
                            let results = handles
                                .into_iter()
                                .map(rusty_pool::JoinHandle::await_complete);
                            assert_eq!(results.sum::<u64>(), sum_below(tasks));
                        })
                    }
                }),
                contender("tokio-2-blocking", units, || {
                    let runtime = tokio_runtime(WORKERS);
                    move |tasks| {
                        timed(|| {
                            let spawn = |n| runtime.spawn_blocking(move || n);
                            let handles: Vec<_> = (0..tasks).map(spawn).collect();
                            assert_eq!(runtime.block_on(sum_of(handles)), sum_below(tasks));
                        })
                    }
                }),
                contender("tokio-2", units, || {
                    let runtime = tokio_runtime(WORKERS);
                    move |tasks| {
                        timed(|| {
                            let spawn = |n| runtime.spawn(async move { n });
                            let handles: Vec<_> = (0..tasks).map(spawn).collect();
                            assert_eq!(runtime.block_on(sum_of(handles)), sum_below(tasks));
                        })
                    }
                }),
                // It has no handles: its documentation sends results through a channel.
                contender("threadpool-2", units, || {
                    let pool = threadpool::ThreadPool::new(WORKERS);
                    move |tasks| {
                        timed(|| {
                            let (send, results) = mpsc::channel();
                            for n in 0..tasks {
                                let send = send.clone();
                                pool.execute(move || send.send(n).unwrap());
                            }
                            drop(send);
                            assert_eq!(results.iter().sum::<u64>(), sum_below(tasks));
                        })
                    }
                }),
                contender("threads", scale.units(1_000), || {
                    |tasks| {
                        timed(|| {
                            let spawn = |n| thread::spawn(move || n);
                            let handles: Vec<_> = (0..tasks).map(spawn).collect();
                            let results = handles.into_iter().map(|handle| handle.join().unwrap());
                            assert_eq!(results.sum::<u64>(), sum_below(tasks));
                        })
                    }
                }),
            ],
        ),
    );
    ["anthill-2-backlog", "anthill-default"]
        .iter()
        .fold(row, |row, engine| {
            row.aim_beside(engine, 0.5, "rusty_pool-2")
                .aim_beside(engine, 0.5, "tokio-2-blocking")
        })
}

fn sum_below(tasks: u64) -> u64 {
    (0..tasks).sum()
}

async fn sum_of(handles: Vec<tokio::task::JoinHandle<u64>>) -> u64 {
    let mut sum = 0;
    for handle in handles {
        sum += handle.await.unwrap();
    }
    sum
}

/// A unit is a scope with a thousand empty tasks, opened by a thread outside.
fn scopes(scale: Scale) -> Row {
    const TASKS: u32 = 1_000;

    fn anthill(pool: Pool) -> impl FnMut(u64) -> Duration {
        move |scopes| {
            timed(|| {
                for _ in 0..scopes {
                    pool.scope(|s| {
                        for _ in 0..TASKS {
                            s.submit(|| ());
                        }
                    });
                }
            })
        }
    }

    let units = scale.units(50);
    let mut row = Row::new(
        "scope",
        "a scope with a thousand empty tasks, opened by a thread outside",
        with_modes(
            units,
            anthill,
            vec![
                // The scope's closure itself runs on a worker.
                contender("rayon-2", units, || {
                    let pool = rayon(WORKERS);
                    move |scopes| {
                        timed(|| {
                            for _ in 0..scopes {
                                pool.scope(|s| (0..TASKS).for_each(|_| s.spawn(|_| ())));
                            }
                        })
                    }
                }),
                contender("scoped_threadpool-2", units, || {
                    let mut pool =
                        scoped_threadpool::Pool::new(u32::try_from(WORKERS).expect("they are few"));
                    move |scopes| {
                        timed(|| {
                            for _ in 0..scopes {
                                pool.scoped(|s| (0..TASKS).for_each(|_| s.execute(|| ())));
                            }
                        })
                    }
                }),
                // It runs on the caller's thread, as anthill's does.
                contender("rayon-2-in-place", units, || {
                    let pool = rayon(WORKERS);
                    move |scopes| {
                        timed(|| {
                            for _ in 0..scopes {
                                pool.in_place_scope(|s| (0..TASKS).for_each(|_| s.spawn(|_| ())));
                            }
                        })
                    }
                }),
            ],
        ),
    );
    row.tasks_a_unit = TASKS;
    row.aim("anthill-2-backlog", 1.0)
        .aim("anthill-default", 1.0)
}
