//! Times as they are stored: nanoseconds, at most some 290 years of them.

use crate::jobs::Clock;
use std::time::Duration;

/// The clocks at the start of a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) wall: i64,
    pub(super) steady: i64,
    /// Which run of the host the steady one is of.
    pub(super) boot: i64,
}

impl Now {
    pub(super) fn of(clock: &Clock) -> Now {
        let steady = clock.steady();
        Now {
            wall: nanos(clock.wall()),
            steady: nanos(steady.since),
            boot: number(&steady.boot),
        }
    }
}

pub(super) fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// What was before is no time at all.
pub(super) fn span(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// A name of a run of the host as a number (FNV-1a), the same in all processes and versions.
fn number(boot: &str) -> i64 {
    let hash = boot.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i64::from_ne_bytes(hash.to_ne_bytes())
}
