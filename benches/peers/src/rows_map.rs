//! The row of `PoolHandle::map`.

use std::time::Duration;

use anthill::Pool;
use rayon::prelude::*;

use crate::engines::{ants_mode, default_mode, rayon, with_backlog};
use crate::rows::{Row, Scale, contender, timed};
use crate::work::{spin, turns_for};

/// A unit is an item: a microsecond of work that makes a number of a number.
pub(crate) fn map(scale: Scale) -> Row {
    fn anthill(pool: Pool) -> impl FnMut(u32) -> Duration {
        let turns = turns_for(Duration::from_micros(1));
        move |items| {
            timed(|| {
                let results = pool.map(0..items, move |n| spin(turns, u64::from(n)));
                let results: Vec<u64> = results.collect();
                assert_eq!(results.len(), as_count(items));
            })
        }
    }

    let units = scale.units(100_000);
    Row {
        name: "map-1us",
        tasks_a_unit: 1,
        references: vec!["rayon-2"],
        contenders: vec![
            contender("anthill-2", units, || anthill(ants_mode())).aims_at(1.3),
            contender("anthill-2-backlog", units, || anthill(with_backlog())).aims_at(1.3),
            contender("anthill-default", units, || anthill(default_mode())).aims_at(1.3),
            contender("rayon-2", units, || {
                let (pool, turns) = (rayon(), turns_for(Duration::from_micros(1)));
                move |items| {
                    timed(|| {
                        let results: Vec<u64> = pool.install(|| {
                            let each = |n| spin(turns, u64::from(n));
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
                        let each = |n| spin(turns, u64::from(n));
                        let results: Vec<u64> = (0..items).map(each).collect();
                        assert_eq!(results.len(), as_count(items));
                    })
                }
            }),
        ],
    }
}

fn as_count(items: u32) -> usize {
    usize::try_from(items).expect("a usize has 32 bits or more")
}
