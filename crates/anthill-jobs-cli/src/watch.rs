//! `stats --watch`: prints the counts again and again, until the reader is gone; on a terminal in place.

use crate::out::Out;
use crate::outcome::{Ended, Fallible};
use crate::show::{Counts, Rates, table};
use anthill_jobs::{Queue, QueueStats};
use serde::Serialize;
use std::io::{IsTerminal, stdout};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    counts: Counts,
    enqueued_per_second: Option<f64>,
    done_per_second: Option<f64>,
}

pub(crate) fn watch(queue: &Queue, every: Duration, out: &mut Out) -> Fallible<Ended> {
    let is_terminal = stdout().is_terminal();
    let mut before: Option<(Instant, QueueStats)> = None;
    let mut lines = 0;
    while !out.is_closed() {
        if before.is_some() {
            thread::sleep(every);
        }
        let (now, stats) = (Instant::now(), queue.stats()?);
        let rates = before.map(|(then, before)| rates(&before, &stats, now - then));
        if out.is_json() {
            out.document(&Document {
                counts: Counts::of(&stats),
                enqueued_per_second: rates.map(|rates| rates.enqueued),
                done_per_second: rates.map(|rates| rates.done),
            })?;
        } else {
            if lines > 0 {
                // Move up to the first line and clear below it; or print an empty line in between.
                out.raw(&if is_terminal {
                    format!("\x1b[{lines}A\x1b[J")
                } else {
                    "\n".to_owned()
                })?;
            }
            let table = table(&stats, rates);
            lines = table.len();
            for line in table {
                out.line(&line)?;
            }
        }
        out.flush()?;
        before = Some((now, stats));
    }
    Ok(Ended::Done)
}

fn rates(before: &QueueStats, now: &QueueStats, time: Duration) -> Rates {
    let rate = |count: fn(&QueueStats) -> u64| {
        let more = u32::try_from(count(now).saturating_sub(count(before))).unwrap_or(u32::MAX);
        f64::from(more) / time.as_secs_f64()
    };
    Rates {
        enqueued: rate(|stats| stats.enqueued),
        done: rate(|stats| stats.done),
    }
}
