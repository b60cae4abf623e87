//! Times as they are stored: nanoseconds, at most some 290 years of them.

use crate::Clock;
use std::time::Duration;

/// The clocks at the start of a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The wall clock, but that it never goes back (B10).
    pub(super) time: i64,
    pub(super) steady: i64,
    /// Which run of the host the steady one is of.
    pub(super) boot: i64,
}

/// The steady clock alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    pub(super) since: i64,
    /// Which run of the host that is of.
    pub(super) boot: i64,
}

impl Steady {
    pub(super) fn of(clock: &Clock) -> Steady {
        let steady = clock.steady();
        Steady {
            since: nanos(steady.since),
            boot: number(&steady.boot),
        }
    }
}

/// How far a queue's time has come, as its row says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// When the row was written.
    pub(super) time: i64,
    /// Which run of the host `ahead` is of.
    pub(super) boot: i64,
    /// By how much the time is more than the steady clock.
    pub(super) ahead: i64,
}

/// The wall clock is set forward by more where somebody sets it, and by less where it is kept right; only what is worth it
/// is written down.
const SET: i64 = 1_000_000_000;

impl Mark {
    /// What it is now.
    pub(super) fn now(&self, clock: &Clock) -> Now {
        let Steady {
            since: steady,
            boot,
        } = Steady::of(clock);
        let wall = nanos(clock.wall());
        let least = if boot == self.boot {
            steady.saturating_add(self.ahead)
        } else {
            self.time
        };
        Now {
            time: wall.max(least),
            steady,
            boot,
        }
    }

    /// The mark to keep then.
    pub(super) fn moved(self, now: Now) -> Mark {
        let ahead = now.time.saturating_sub(now.steady);
        if self.boot == now.boot && ahead.saturating_sub(self.ahead) < SET {
            return self;
        }
        Mark {
            time: now.time,
            boot: now.boot,
            ahead,
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
