//! The rate limit: the generic cell rate algorithm (GCRA), whose whole state is one moment. A broker stores that moment
//! where all consumers see it.

use crate::broker::Rate;
use std::time::Duration;

/// How late a consumer that waits for the rate limit may wake and still make up for what it missed.
const LATE: Duration = Duration::from_millis(20);

/// Returns how many jobs may start now, and the moment to store then; or how long to wait for the first. `is_behind`: jobs
/// have waited for the rate limit since the stored moment, so that a late wake-up alone kept them from starting.
pub(crate) fn admit(
    rate: Rate,
    kept: Duration,
    is_behind: bool,
    now: Duration,
    limit: usize,
) -> Result<Admitted, Duration> {
    let burst = rate.burst.max(1);
    let Some(gap) = gap(rate) else {
        return Ok(Admitted {
            jobs: limit,
            gap: Duration::ZERO,
            from: now,
        });
    };
    let missed = if is_behind { LATE } else { Duration::ZERO };
    let from = kept.max(now.saturating_sub(missed));
    let room = gap.saturating_mul(burst);
    let left = match now.checked_sub(from) {
        Some(owed) => room.saturating_add(owed),
        None => room.saturating_sub(from.saturating_sub(now)),
    };
    if left < gap {
        return Err(gap.saturating_sub(left));
    }
    let fits = left.as_nanos() / gap.as_nanos();
    let jobs = usize::try_from(fits).unwrap_or(usize::MAX).min(limit);
    Ok(Admitted { jobs, gap, from })
}

/// The time between two jobs; `None` if the rate is so high that there is none.
fn gap(rate: Rate) -> Option<Duration> {
    let gap = rate.per / rate.jobs.max(1);
    (!gap.is_zero()).then_some(gap)
}

/// What [`admit`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) jobs: usize,
    gap: Duration,
    from: Duration,
}

impl Admitted {
    /// The moment to store when `started` jobs did start.
    pub(crate) fn after(self, started: usize) -> Duration {
        let started = u32::try_from(started).unwrap_or(u32::MAX);
        self.from.saturating_add(self.gap.saturating_mul(started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(jobs: u32, burst: u32) -> Rate {
        Rate {
            jobs,
            per: SECOND,
            burst,
        }
    }

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let rate = rate(10, 3);
        let now = SECOND * 100;
        let admitted = admit(rate, Duration::ZERO, false, now, 50).unwrap();
        assert_eq!(admitted.jobs, 3);
        let kept = admitted.after(3);
        let wait = admit(rate, kept, true, now, 50).unwrap_err();
        assert_eq!(wait, SECOND / 10);
        let later = admit(rate, kept, true, now + wait, 50).unwrap();
        assert_eq!(later.jobs, 1);
        assert_eq!(
            admit(rate, later.after(1), true, now + wait, 50),
            Err(SECOND / 10)
        );
        // After a pause the burst is there again, and no more.
        assert_eq!(
            admit(rate, kept, false, now + SECOND * 60, 50)
                .unwrap()
                .jobs,
            3
        );
    }

    #[test]
    fn what_was_not_started_is_not_counted() {
        let admitted = admit(rate(1, 5), Duration::ZERO, false, SECOND, 50).unwrap();
        assert_eq!(admitted.jobs, 5);
        assert_eq!(
            admit(rate(1, 5), admitted.after(2), false, SECOND, 50)
                .unwrap()
                .jobs,
            3
        );
    }

    /// 500 a second, though each time the one who starts them comes half a millisecond late.
    #[test]
    fn who_comes_late_makes_up_for_it() {
        let rate = rate(500, 1);
        let (mut now, mut kept) = (SECOND, SECOND);
        let mut started = 0;
        while now < SECOND * 2 {
            match admit(rate, kept, true, now, 50) {
                Ok(admitted) => {
                    started += admitted.jobs;
                    kept = admitted.after(admitted.jobs);
                }
                Err(wait) => now += wait + SECOND / 2_000,
            }
        }
        assert!((499..=501).contains(&started), "{started}");
        // After a pause nothing is to be made up for, and after a long one nothing more than a little.
        assert_eq!(admit(rate, kept, false, now + SECOND, 50).unwrap().jobs, 1);
        assert_eq!(admit(rate, kept, true, now + SECOND, 50).unwrap().jobs, 11);
    }

    #[test]
    fn no_rate_is_too_high_and_no_burst_too_small() {
        assert_eq!(
            admit(rate(u32::MAX, 0), SECOND, false, SECOND, 50)
                .unwrap()
                .jobs,
            50
        );
        assert_eq!(
            admit(rate(2, 0), SECOND, false, SECOND, 50).unwrap().jobs,
            1
        );
    }

    #[test]
    fn no_rate_is_too_slow() {
        let rate = Rate {
            jobs: 1,
            per: Duration::MAX,
            burst: u32::MAX,
        };
        let admitted = admit(rate, Duration::ZERO, false, SECOND, 50).unwrap();
        assert_eq!(admitted.jobs, 1);
        assert!(admit(rate, admitted.after(1), true, SECOND, 50).is_err());
    }
}
