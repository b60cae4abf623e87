//! What is read off the clock and the process: times, processor time, context switches, futex calls.

use std::thread;
use std::time::{Duration, Instant};

use crate::futexes;

/// Waits until the process is quiet: the workers of the engine before have parked.
///
/// How long that takes depends on the engine and the number of its threads, from microseconds to a
/// large part of a second, so the processor time that the process uses is watched.
pub(crate) fn settle(last: &str) {
    const LOOK: Duration = Duration::from_millis(2);
    const QUIET: Duration = Duration::from_micros(100);
    const LONG_ENOUGH: Duration = Duration::from_secs(5);

    let start = Instant::now();
    let processor = || usage().processor;
    loop {
        // With thousands of threads a look is dear by itself.
        let look = processor();
        let before = processor();
        thread::sleep(LOOK);
        let used = processor().saturating_sub(before);
        if used < QUIET + before.saturating_sub(look) * 2 {
            return;
        }
        if start.elapsed() > LONG_ENOUGH {
            eprintln!("{last} has nothing to do and still keeps the machine busy");
            return;
        }
    }
}

/// What all threads of the process have used so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) processor: Duration,
    /// Context switches, asked for or not.
    pub(crate) switches: u64,
    pub(crate) futexes: u64,
}

#[cfg(unix)]
pub(crate) fn usage() -> Usage {
    usage_of(libc::CLOCK_PROCESS_CPUTIME_ID, libc::RUSAGE_SELF)
}

/// Of all threads but this one.
#[cfg(target_os = "linux")]
pub(crate) fn usage_of_others() -> Usage {
    let this = usage_of(libc::CLOCK_THREAD_CPUTIME_ID, libc::RUSAGE_THREAD);
    let all = usage();
    Usage {
        processor: all.processor.saturating_sub(this.processor),
        switches: all.switches - this.switches,
        futexes: all.futexes,
    }
}

/// It cannot be told from the others: what this one uses is in it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn usage_of_others() -> Usage {
    usage()
}

#[cfg(unix)]
fn usage_of(clock: libc::clockid_t, who: libc::c_int) -> Usage {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the one `timespec` that the call writes.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "a process can read its own clock");
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for the one `rusage` that the call writes.
    let result = unsafe { libc::getrusage(who, usage.as_mut_ptr()) };
    assert_eq!(result, 0, "a process can read its own usage");
    // SAFETY: it was zeroed, and any bits are a `rusage`.
    let usage = unsafe { usage.assume_init() };
    let positive = |n: i64| u64::try_from(n).expect("a count is not negative");
    Usage {
        processor: Duration::from_secs(positive(time.tv_sec))
            + Duration::from_nanos(positive(time.tv_nsec)),
        switches: positive(usage.ru_nvcsw) + positive(usage.ru_nivcsw),
        futexes: futexes::calls(),
    }
}

/// Not known here: the shortest pause has to do.
#[cfg(not(unix))]
pub(crate) fn usage() -> Usage {
    Usage::default()
}

/// The resident memory of the process in bytes, where Linux tells it; 0 elsewhere.
pub(crate) fn resident() -> u64 {
    status("VmRSS:") * 1024
}

/// The threads of the process, where Linux tells them; 0 elsewhere.
pub(crate) fn threads() -> u64 {
    status("Threads:")
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// A time in nanoseconds, or a count, for the eye.
pub(crate) fn short(figure: f64) -> String {
    if figure < 100.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.0}")
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

/// The nearest rank: the smallest that is not less than `permille` of them.
pub(crate) fn quantile(sorted: &[f64], permille: usize) -> f64 {
    if permille == 500 {
        return median(sorted);
    }
    let rank = (sorted.len() * permille).div_ceil(1_000).max(1);
    sorted[rank - 1]
}
