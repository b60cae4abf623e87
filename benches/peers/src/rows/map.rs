//! The row of `PoolHandle::map`.

use std::time::Duration;

use anthill::Pool;
use rayon::prelude::*;

use super::{Row, Scale, WORKERS, contender, timed, with_modes};
use crate::engines::rayon;
use crate::workloads::{as_count, spin, turns_for};

/// A unit is an item: a microsecond of work that makes a number of a number.
pub(crate) fn map(scale: Scale) -> Row {
    fn anthill(pool: Pool) -> impl FnMut(u64) -> Duration {
        let turns = turns_for(Duration::from_micros(1));
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
        with_modes(
            units,
            anthill,
            vec![
                contender("rayon-2", units, || {
                    let (pool, turns) = (rayon(WORKERS), turns_for(Duration::from_micros(1)));
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
                contender("in-place", units, || {
                    let turns = turns_for(Duration::from_micros(1));
                    move |items| {
                        timed(|| {
                            let each = |n| spin(turns, n);
                            let results: Vec<u64> = (0..items).map(each).collect();
                            assert_eq!(results.len(), as_count(items));
                        })
                    }
                }),
            ],
        ),
    )
    .aim("anthill-2", 1.3)
    .aim("anthill-2-backlog", 1.3)
    .aim("anthill-default", 1.3)
}
