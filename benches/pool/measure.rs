//! What the tables of ratios measure with: a quiet start for every engine, and medians.
//!
//! The benchmarks against the peers use this file too.

use std::thread;
use std::time::{Duration, Instant};

/// Waits until the process is quiet: the workers of the engine before have parked.
///
/// How long that takes depends on the engine and the number of its threads, from microseconds to a
/// large part of a second, so the processor time that the process uses is watched.
pub(crate) fn settle(last: &str) {
    const LOOK: Duration = Duration::from_millis(2);
    const QUIET: Duration = Duration::from_micros(100);
    const LONG_ENOUGH: Duration = Duration::from_secs(5);

    let start = Instant::now();
    loop {
        let before = processor_time();
        thread::sleep(LOOK);
        if processor_time().saturating_sub(before) < QUIET {
            return;
        }
        if start.elapsed() > LONG_ENOUGH {
            eprintln!("{last} has nothing to do and still keeps the machine busy");
            return;
        }
    }
}

/// What all threads of the process have used so far.
#[cfg(unix)]
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the one `timespec` that the call writes.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "a process can read its own clock");
    let seconds = u64::try_from(time.tv_sec).expect("the clock starts at zero");
    let nanos = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(seconds, nanos)
}

/// Not known here: the shortest pause has to do.
#[cfg(not(unix))]
fn processor_time() -> Duration {
    Duration::ZERO
}

/// A time in nanoseconds, for the eye.
pub(crate) fn nanos(time: f64) -> String {
    if time < 100.0 {
        format!("{time:.1}")
    } else {
        format!("{time:.0}")
    }
}

/// The middle of what is sorted already.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}
