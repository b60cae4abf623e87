//! What the program runs on: its processors, and how far they are apart.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;
use std::{fs, hint, thread};

use crossbeam_utils::CachePadded;

/// The processors, as Linux names them.
pub(crate) fn name() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':']));
    format!("{cores} cores of {name}")
}

/// Reads how long the host has kept processors from this machine so far, and how long there were any, in the ticks of
/// Linux and of all processors together. `None` where the system does not tell.
pub(crate) fn ticks() -> Option<Ticks> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first two.
    let fields: Option<Vec<u64>> = (all.split_whitespace().take(8))
        .map(|field| field.parse().ok())
        .collect();
    let fields = fields?;
    Some(Ticks {
        stolen: *fields.get(7)?,
        all: fields.iter().sum(),
    })
}

#[derive(Clone, Copy)]
pub(crate) struct Ticks {
    stolen: u64,
    all: u64,
}

impl Ticks {
    /// Which part of the processors' time the host took meanwhile, in percent.
    pub(crate) fn stolen_until(self, later: Ticks) -> f64 {
        let small = |ticks: u64| f64::from(u32::try_from(ticks).unwrap_or(u32::MAX));
        let stolen = small(later.stolen.saturating_sub(self.stolen));
        100.0 * stolen / small(later.all.saturating_sub(self.all)).max(1.0)
    }
}

/// How many nanoseconds a cache line takes from one processor to another one and back. Two virtual ones may share
/// a cache at one moment, and be on either side of a socket at the next: all that threads hand over costs so
/// much more then. `None` where threads cannot be told where to run, or have one processor.
pub(crate) fn line_trip() -> Option<f64> {
    const TURNS: u32 = 2_000;
    let (here, there) = two_processors()?;
    let turn = CachePadded::new(AtomicU32::new(0));
    let refused = AtomicBool::new(false);
    let play = |on: usize, first: u32| {
        if !run_on(on) {
            refused.store(true, Ordering::Relaxed);
            return None;
        }
        let begun = Instant::now();
        for at in (first..2 * TURNS).step_by(2) {
            while turn.load(Ordering::Acquire) != at {
                if refused.load(Ordering::Relaxed) {
                    return None;
                }
                hint::spin_loop();
            }
            turn.store(at + 1, Ordering::Release);
        }
        Some(begun.elapsed())
    };
    let (one, other) = thread::scope(|scope| {
        let one = scope.spawn(|| play(here, 0));
        let other = scope.spawn(|| play(there, 1));
        (one.join(), other.join())
    });
    // The first to start has waited for the other one.
    let took = one.ok()??.min(other.ok()??);
    Some(took.as_secs_f64() * 1e9 / f64::from(TURNS))
}

#[cfg(target_os = "linux")]
fn two_processors() -> Option<(usize, usize)> {
    // SAFETY: a set of no processors is all zeroes.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: it writes such a set.
    let told = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    let most = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: each is below the size of the set.
    let mut ours = (0..most).filter(|at| told == 0 && unsafe { libc::CPU_ISSET(*at, &set) });
    Some((ours.next()?, ours.next()?))
}

#[cfg(target_os = "linux")]
fn run_on(processor: usize) -> bool {
    // SAFETY: a set of no processors is all zeroes.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `two_processors` found it in such a set.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: it reads the set.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn two_processors() -> Option<(usize, usize)> {
    None
}

#[cfg(not(target_os = "linux"))]
fn run_on(_: usize) -> bool {
    false
}
