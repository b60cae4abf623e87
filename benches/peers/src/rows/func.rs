//! The rows of `FuncPool`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use anthill::{FuncPool, Pool};

use super::{Row, Scale, WORKERS, contender, timed};
use crate::engines::{ants_mode, with_backlog};

/// What the tasks add their number to, so that there is something to do with it.
static SUM: AtomicU64 = AtomicU64::new(0);

/// What a task is told: its number, and the gate at which all the workers meet at the start.
type Arg = (u64, Option<Arc<Barrier>>);

fn work((number, gate): Arg) {
    if let Some(gate) = gate {
        gate.wait();
    }
    SUM.fetch_add(number, Ordering::Relaxed);
}

pub(crate) fn rows(scale: Scale) -> Vec<Row> {
    vec![func_pool(scale), func_pool_backlog(scale)]
}

/// The submitter waits for room.
fn func_pool(scale: Scale) -> Row {
    let units = scale.units(100_000);
    Row::new(
        "FuncPool",
        "a task that adds a number, submitted with its closure or invoked with its argument",
        vec![
            contender("anthill-2-func", units, || {
                invokes(FuncPool::with_capacity(WORKERS, work))
            }),
            contender("anthill-2", units, || submits(ants_mode(WORKERS))),
        ],
    )
    .aim_beside("anthill-2-func", 1.0, "anthill-2")
}

/// Nobody waits.
fn func_pool_backlog(scale: Scale) -> Row {
    let units = scale.units(100_000);
    Row::new(
        "FuncPool, backlog",
        "the same, where nobody waits for room",
        vec![
            contender("anthill-2-backlog-func", units, || {
                let func = FuncPool::builder(work)
                    .capacity(WORKERS)
                    .unbounded_backlog()
                    .build();
                invokes(func.expect("the settings agree with each other"))
            }),
            contender("anthill-2-backlog", units, || {
                submits(with_backlog(WORKERS))
            }),
        ],
    )
    .aim_beside("anthill-2-backlog-func", 1.0, "anthill-2-backlog")
}

fn submits(pool: Pool) -> impl FnMut(u64) -> Duration {
    move |tasks| {
        timed(|| {
            for n in 0..tasks {
                let arg: Arg = (n, None);
                let submitted = pool.submit(move || work(arg));
                assert!(submitted.is_ok(), "an open pool accepts");
            }
            pool.wait_idle();
        })
    }
}

fn invokes(func: FuncPool<Arg>) -> impl FnMut(u64) -> Duration {
    let gate = Arc::new(Barrier::new(WORKERS + 1));
    for _ in 0..WORKERS {
        let invoked = func.invoke((0, Some(Arc::clone(&gate))));
        assert!(invoked.is_ok(), "an open pool accepts");
    }
    gate.wait();
    move |tasks| {
        timed(|| {
            for n in 0..tasks {
                let invoked = func.invoke((n, None));
                assert!(invoked.is_ok(), "an open pool accepts");
            }
            func.wait_idle();
        })
    }
}
