//! Backoff: how long a failed job waits before it is tried again.

use std::time::Duration;

/// Exponential backoff with jitter: the wait doubles with each attempt, from a minimum to a maximum, plus up to a quarter
/// at random, so that jobs that failed together do not come back together. A wait is never shorter than the one before.
///
/// ```
/// use anthill_jobs::Backoff;
/// use std::time::Duration;
///
/// let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// assert!(backoff.after(1) >= Duration::from_secs(1));
/// assert_eq!(backoff.after(64), Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// Makes a backoff that waits `min` after the first attempt, and never longer than `max`.
    pub fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max }
    }

    /// Returns how long to wait after an attempt; the first one is 1.
    pub fn after(&self, attempt: u32) -> Duration {
        self.spread(attempt, fastrand::f64())
    }

    /// `chance` is between 0 and 1.
    fn spread(self, attempt: u32, chance: f64) -> Duration {
        let doublings = attempt.saturating_sub(1);
        let doubled = 1_u32.checked_shl(doublings).filter(|_| doublings < 32);
        let wait = match doubled {
            Some(times) => self.min.saturating_mul(times),
            None if self.min.is_zero() => Duration::ZERO,
            None => self.max,
        };
        // At most a quarter more, which is less than the next wait.
        let more = wait.min(self.max).mul_f64(chance / 4.0);
        wait.saturating_add(more).min(self.max)
    }
}

impl Default for Backoff {
    /// From one second to one hour.
    fn default() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(3600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_at_least_the_one_before_whatever_chance_says() {
        let backoffs = [
            Backoff::default(),
            Backoff::new(Duration::from_nanos(1), Duration::MAX),
            Backoff::new(Duration::from_secs(5), Duration::from_secs(1)),
            Backoff::new(Duration::ZERO, Duration::from_secs(1)),
        ];
        for backoff in backoffs {
            for attempt in 1..=100 {
                let longest = backoff.spread(attempt, 1.0);
                assert!(
                    longest <= backoff.spread(attempt + 1, 0.0),
                    "{backoff:?} {attempt}"
                );
                assert!(longest <= backoff.max);
            }
        }
        assert_eq!(
            Backoff::default().spread(64, 0.3),
            Duration::from_secs(3600)
        );
        assert_eq!(Backoff::default().spread(3, 0.0), Duration::from_secs(4));
    }
}
