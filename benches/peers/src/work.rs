//! What the engines are given to do, and the end of it.

use std::hint;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Turns of [`spin`] that fill `time` when nothing interrupts them.
///
/// Counted work, not a look at the clock: a task that loses its core still has its work to do.
/// Measured once, so that every engine gets the same work.
pub(crate) fn turns_for(time: Duration) -> u64 {
    const SAMPLE: u32 = 100_000;
    static FASTEST: OnceLock<Duration> = OnceLock::new();

    let fastest = FASTEST.get_or_init(|| {
        let sample = |_| {
            let start = Instant::now();
            hint::black_box(spin(u64::from(SAMPLE), 1));
            start.elapsed()
        };
        (0..50).map(sample).min().expect("there are samples")
    });
    let turns = u128::from(SAMPLE) * time.as_nanos() / fastest.as_nanos().max(1);
    u64::try_from(turns).expect("a task's work is short")
}

/// Keeps the core busy for `turns`; what comes of it depends on `seed`.
pub(crate) fn spin(turns: u64, seed: u64) -> u64 {
    let mut state = seed;
    for _ in 0..turns {
        state = hint::black_box(state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1));
    }
    state
}

/// Without an engine.
pub(crate) fn fib(n: u32) -> u64 {
    if n < 2 {
        u64::from(n)
    } else {
        fib(n - 1) + fib(n - 2)
    }
}

/// The calls that [`fib`] makes, its own included, down to those with an `n` of at most `cutoff`.
pub(crate) fn fib_calls(n: u32, cutoff: u32) -> u32 {
    if n < 2 || n <= cutoff {
        1
    } else {
        1 + fib_calls(n - 1, cutoff) + fib_calls(n - 2, cutoff)
    }
}
