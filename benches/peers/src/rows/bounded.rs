//! Tasks that block, and producers that are too fast.

use std::thread;
use std::time::Duration;

use super::{Contender, Row, Scale, WORKERS, contender, each_pool, on};
use crate::engines::{Ants, Backlog, Channel, Peer, SmolBlocking, TokioBlocking};
use crate::record::Kind;
use crate::work::computing;
use crate::workloads::{Textbook, napping_threads, naps, one_submitter, started};

pub(crate) fn rows(scale: Scale) -> Vec<Row> {
    match scale {
        Scale::Full => vec![
            sleeps(100),
            sleeps(1_000),
            sleeps(10_000),
            backpressure(scale),
            ants_mode(scale, 2, 0.5),
            ants_mode(scale, 8, 0.25),
            ants_mode(scale, 64, 0.1),
        ],
        Scale::Smoke => vec![sleeps(20), backpressure(scale), ants_mode(scale, 8, 0.25)],
    }
}

/// The rule of `Pool::with_capacity`, and what people write by hand for it. `on_one`: what is to be reached where
/// there is a single processor.
fn ants_mode(scale: Scale, workers: usize, on_one: f64) -> Row {
    let units = scale.units(50_000);
    let by_hand = format!("channel-{workers}-bounded-{workers}");
    let row = Row::new(
        format!("ants' mode, {workers} workers"),
        "empty tasks from one thread, of which at most so many may be accepted and not over",
        vec![
            on(workers, units, |pool: Ants| one_submitter(pool, || ())),
            contender(&by_hand, units, move || {
                one_submitter(Channel::new(workers, Some(workers)), || ())
            }),
            contender(&format!("textbook-{workers}"), units, move || {
                let textbook = Textbook::new(workers, workers);
                one_submitter(started(textbook, workers), || ())
            }),
        ],
    );
    let ours = format!("anthill-{workers}");
    match thread::available_parallelism() {
        Ok(processors) if processors.get() == 1 => row.aim_beside(&ours, on_one, &by_hand),
        _ => row,
    }
}

/// Without the engines whose idle threads look for work: thousands of them keep a few cores busy for seconds
/// after each run, in which nobody else can be timed.
fn sleeps(workers: usize) -> Row {
    const NAP: Duration = Duration::from_millis(10);
    // Enough that waking all the threads at the start does not matter.
    let naps_a_worker = if workers > 1_000 { 5 } else { 100 };
    let all = u32::try_from(workers).expect("it fits") * naps_a_worker;
    let mut contenders = if workers > 1_000 {
        // The system has no threads for all of them at once.
        vec![
            alone::<Ants>(workers, all, NAP),
            alone::<Backlog>(workers, all, NAP),
            alone::<threadpool::ThreadPool>(workers, all, NAP),
            alone::<Channel>(workers, all, NAP),
        ]
    } else {
        each_pool!(workers, 1, |pool| naps(pool, u64::from(all), NAP);
            Ants, Backlog, threadpool::ThreadPool, TokioBlocking, SmolBlocking, Channel)
    };
    let mut bare = contender("bare-threads", 1, move || {
        napping_threads(workers, naps_a_worker, NAP)
    });
    bare.kind = Kind::Yardstick;
    contenders.push(bare);
    let mut row = Row::new(
        format!("sleep, {workers} workers"),
        "tasks that sleep for 10 ms; bare-threads have theirs without any hand-over",
        contenders,
    );
    row.tasks_a_unit = all;
    row.after_a_pause()
}

/// A pool that is started and dropped in each round.
fn alone<P: Peer>(workers: usize, tasks: u32, nap: Duration) -> Contender {
    contender(&P::name(workers), 1, move || {
        move |units| naps(P::start(workers), u64::from(tasks), nap)(units)
    })
}

/// A task computes for a microsecond, and a hundred may wait: the engines that have a bound.
fn backpressure(scale: Scale) -> Row {
    const BOUND: usize = 100;
    const WORK: Duration = Duration::from_micros(1);

    let units = scale.units(20_000);
    Row::new(
        "backpressure",
        "tasks of a microsecond from one thread that is faster, through a queue of at most 100",
        vec![
            contender("anthill-2-backlog-100", units, || {
                let pool = anthill::Pool::builder().capacity(WORKERS).backlog(BOUND);
                let pool = pool.build().expect("the settings agree with each other");
                computing(started(pool, WORKERS), WORK)
            }),
            contender("channel-2-bounded-100", units, || {
                computing(Channel::new(WORKERS, Some(BOUND)), WORK)
            }),
            contender("textbook-2-bounded-102", units, || {
                computing(
                    started(Textbook::new(WORKERS, WORKERS + BOUND), WORKERS),
                    WORK,
                )
            }),
        ],
    )
}
