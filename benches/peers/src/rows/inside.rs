//! Tasks that submit tasks.

use super::{Row, Scale, WORKERS, each_pool};
use crate::engines::Peer;
use crate::work::{chain, ping_pong, skynet, skynet_size};
use crate::workloads::{tree, tree_size};

pub(crate) fn rows(scale: Scale) -> Vec<Row> {
    let full = scale == Scale::Full;
    vec![
        trees(if full { 17 } else { 8 }).aim("anthill-2-backlog", 0.65),
        skynets(if full { 5 } else { 2 }),
        chains(scale),
        ping_pongs(scale),
    ]
}

fn trees(depth: u32) -> Row {
    let mut row = Row::new(
        "tree",
        "each task submits two more, 17 levels deep; until the last one ran",
        each_pool!(WORKERS, 1, |pool| {
            let inside = pool.inside();
            tree(pool, inside, depth)
        }),
    );
    row.tasks_a_unit = tree_size(depth);
    row
}

fn skynets(depth: u32) -> Row {
    let mut row = Row::new(
        "skynet",
        "each task submits ten more, 5 levels deep, and their sums come back up; until the whole is known",
        each_pool!(WORKERS, 1, |pool| {
            let inside = pool.inside();
            skynet(pool, inside, depth)
        }),
    );
    row.tasks_a_unit = skynet_size(depth);
    row
}

fn chains(scale: Scale) -> Row {
    const LENGTH: u32 = 1_000;
    let mut row = Row::new(
        "chained spawn",
        "each task submits the next, a thousand times; until the last one ran",
        each_pool!(WORKERS, scale.units(20), |pool| {
            let inside = pool.inside();
            chain(pool, inside, LENGTH)
        }),
    );
    row.tasks_a_unit = LENGTH;
    row
}

fn ping_pongs(scale: Scale) -> Row {
    const PAIRS: u32 = 1_000;
    let mut row = Row::new(
        "ping-pong",
        "a thousand tasks that each submit a second one, which submits a third; until all ran",
        each_pool!(WORKERS, scale.units(10), |pool| {
            let inside = pool.inside();
            ping_pong(pool, inside, PAIRS)
        }),
    );
    row.tasks_a_unit = PAIRS * 3;
    row
}
