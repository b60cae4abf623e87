//! Times as they are stored: nanoseconds, at most some 290 years.

use crate::Clock;
use std::time::Duration;

/// The clocks at the start of a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The wall clock, which never goes back here (B10).
    pub(super) time: i64,
    pub(super) steady: i64,
    /// The boot of the host that the steady clock is of.
    pub(super) boot: i64,
}

/// A moment of the steady clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    pub(super) since: i64,
    /// The boot of the host.
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

/// How far a queue's time has come, as stored in its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TimeMark {
    /// When the row was written.
    pub(super) time: i64,
    /// The boot of the host that `ahead` is of.
    pub(super) boot: i64,
    /// By how much the time is ahead of the steady clock.
    pub(super) ahead: i64,
}

/// A smaller step of the wall clock is an adjustment, as by NTP, which is not worth a write; a larger one is a setting.
const SET: i64 = 1_000_000_000;

impl TimeMark {
    /// The queue's time now.
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

    /// The mark to store at that time.
    pub(super) fn moved(self, now: Now) -> TimeMark {
        let ahead = now.time.saturating_sub(now.steady);
        if self.boot == now.boot && ahead.saturating_sub(self.ahead) < SET {
            return self;
        }
        TimeMark {
            time: now.time,
            boot: now.boot,
            ahead,
        }
    }
}

pub(super) fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// A negative time is zero.
pub(super) fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// The id of a boot as a number (FNV-1a), the same in all processes and versions.
fn number(boot: &str) -> i64 {
    let hash = boot.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i64::from_ne_bytes(hash.to_ne_bytes())
}
