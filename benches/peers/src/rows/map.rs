//! The rows of `PoolHandle::map`.

use std::time::Duration;

use anthill::Pool;
use rayon::prelude::*;

use super::{Contender, Row, Scale, WORKERS, contender, timed, with_modes};
use crate::engines::{ants_mode, rayon, with_backlog};
use crate::workloads::{as_count, spin, turns_for};

const SHORT: Duration = Duration::from_micros(1);
const SHORTER: Duration = Duration::from_nanos(100);

/// A unit is an item: a microsecond of work that makes a number of a number.
pub(crate) fn items(scale: Scale) -> Row {
    fn anthill(pool: Pool) -> impl FnMut(u64) -> Duration {
        let turns = turns_for(SHORT);
        move |items| {
            timed(|| {
                let results = pool.map(0..items, move |n| spin(turns, n));
                let results: Vec<u64> = results.collect();
                assert_eq!(results.len(), as_count(items));
            })
        }
    }

    let units = scale.units(100_000);
    Row::new(
        "map of 1 us",
        "100,000 items, each a microsecond of work that makes a number of a number",
        with_modes(units, anthill, others(units, SHORT)),
    )
    .aim("anthill-2", 1.3)
    .aim("anthill-2-backlog", 1.3)
    .aim("anthill-default", 1.3)
}

/// The same items, 64 a batch.
pub(crate) fn batches_of_64(scale: Scale) -> Row {
    let units = scale.units(100_000);
    Row::new(
        "map of 1 us in batches",
        "100,000 items, each a microsecond of work that makes a number of a number, 64 a batch",
        in_batches(units, SHORT, 64),
    )
    .aim("anthill-2-batch-64", 1.1)
    .aim("anthill-2-backlog-batch-64", 1.1)
}

/// Items that take little more than to hand them over one by one, 1,024 a batch.
pub(crate) fn batches_of_1024(scale: Scale) -> Row {
    let units = scale.units(1_000_000);
    Row::new(
        "map of 100 ns in batches",
        "1,000,000 items, each 100 ns of work that makes a number of a number, 1,024 a batch",
        in_batches(units, SHORTER, 1_024),
    )
    .aim("anthill-2-batch-1024", 1.3)
    .aim("anthill-2-backlog-batch-1024", 1.3)
}

fn in_batches(units: u32, work: Duration, batch: usize) -> Vec<Contender> {
    let anthill = |name: &str, make: fn(usize) -> Pool, ordered: bool| {
        contender(&format!("{name}-batch-{batch}"), units, move || {
            let (pool, turns) = (make(WORKERS), turns_for(work));
            move |items| {
                timed(|| {
                    let each = move |n| spin(turns, n);
                    let results: Vec<u64> = if ordered {
                        pool.map(0..items, each).batch(batch).collect()
                    } else {
                        pool.map_unordered(0..items, each).batch(batch).collect()
                    };
                    assert_eq!(results.len(), as_count(items));
                })
            }
        })
    };
    let mut all = vec![
        anthill("anthill-2", ants_mode, true),
        anthill("anthill-2-backlog", with_backlog, true),
        anthill("anthill-2-backlog-unordered", with_backlog, false),
    ];
    all.extend(others(units, work));
    all
}

fn others(units: u32, work: Duration) -> Vec<Contender> {
    vec![
        contender("rayon-2", units, move || {
            let (pool, turns) = (rayon(WORKERS), turns_for(work));
            move |items| {
                timed(|| {
                    let results: Vec<u64> = pool.install(|| {
                        let each = |n| spin(turns, u64::from(n));
                        let items = u32::try_from(items).expect("they are few");
                        (0..items).into_par_iter().map(each).collect()
                    });
                    assert_eq!(results.len(), as_count(items));
                })
            }
        }),
        contender("in-place", units, move || {
            let turns = turns_for(work);
            move |items| {
                timed(|| {
                    let each = |n| spin(turns, n);
                    let results: Vec<u64> = (0..items).map(each).collect();
                    assert_eq!(results.len(), as_count(items));
                })
            }
        }),
    ]
}
