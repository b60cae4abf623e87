//! A limit of how many jobs start within a time, as one moment: the generic cell rate algorithm. A broker keeps that
//! moment where all consumers see it.

use super::broker::Rate;
use std::time::Duration;

/// How many jobs may start now, and the moment to keep then; or how long to wait for the first.
pub(crate) fn admit(
    rate: Rate,
    kept: Duration,
    now: Duration,
    most: usize,
) -> Result<Admitted, Duration> {
    let burst = rate.burst.max(1);
    let Some(gap) = gap(rate) else {
        return Ok(Admitted {
            jobs: most,
            gap: Duration::ZERO,
            from: now,
        });
    };
    let from = kept.max(now);
    let ahead = from.saturating_sub(now);
    let room = gap.saturating_mul(burst);
    let left = room.saturating_sub(ahead);
    if left < gap {
        return Err(gap.saturating_sub(left));
    }
    let fits = left.as_nanos() / gap.as_nanos();
    let jobs = usize::try_from(fits).unwrap_or(usize::MAX).min(most);
    Ok(Admitted { jobs, gap, from })
}

/// `None` where the rate is none: so many that no time is between two.
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
    /// The moment to keep when `started` of them did.
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
        let admitted = admit(rate, Duration::ZERO, now, 50).unwrap();
        assert_eq!(admitted.jobs, 3);
        let kept = admitted.after(3);
        let wait = admit(rate, kept, now, 50).unwrap_err();
        assert_eq!(wait, SECOND / 10);
        let later = admit(rate, kept, now + wait, 50).unwrap();
        assert_eq!(later.jobs, 1);
        assert_eq!(
            admit(rate, later.after(1), now + wait, 50),
            Err(SECOND / 10)
        );
        // After a pause the burst is there again, and no more.
        assert_eq!(admit(rate, kept, now + SECOND * 60, 50).unwrap().jobs, 3);
    }

    #[test]
    fn what_was_not_started_is_not_counted() {
        let admitted = admit(rate(1, 5), Duration::ZERO, SECOND, 50).unwrap();
        assert_eq!(admitted.jobs, 5);
        assert_eq!(
            admit(rate(1, 5), admitted.after(2), SECOND, 50)
                .unwrap()
                .jobs,
            3
        );
    }

    #[test]
    fn no_rate_is_too_high_and_no_burst_too_small() {
        assert_eq!(
            admit(rate(u32::MAX, 0), SECOND, SECOND, 50).unwrap().jobs,
            50
        );
        assert_eq!(admit(rate(2, 0), SECOND, SECOND, 50).unwrap().jobs, 1);
    }

    #[test]
    fn no_rate_is_too_slow() {
        let rate = Rate {
            jobs: 1,
            per: Duration::MAX,
            burst: u32::MAX,
        };
        let admitted = admit(rate, Duration::ZERO, SECOND, 50).unwrap();
        assert_eq!(admitted.jobs, 1);
        assert!(admit(rate, admitted.after(1), SECOND, 50).is_err());
    }
}
