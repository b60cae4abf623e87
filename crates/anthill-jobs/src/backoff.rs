//! How long a job that failed waits before it is tried again.

use std::time::Duration;

/// Twice as long after each attempt, from a least to a most, and a bit longer by chance, so that what failed together
/// does not come back together. Never shorter than after the attempt before.
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
    least: Duration,
    most: Duration,
}

impl Backoff {
    /// From `least` to `most`.
    pub fn new(least: Duration, most: Duration) -> Backoff {
        Backoff { least, most }
    }

    /// How long to wait after that attempt; the first one is 1.
    pub fn after(&self, attempt: u32) -> Duration {
        self.spread(attempt, fastrand::f64())
    }

    /// `chance` is from 0 to 1.
    fn spread(self, attempt: u32, chance: f64) -> Duration {
        let doublings = attempt.saturating_sub(1);
        let doubled = 1_u32.checked_shl(doublings).filter(|_| doublings < 32);
        let wait = match doubled {
            Some(times) => self.least.saturating_mul(times),
            None if self.least.is_zero() => Duration::ZERO,
            None => self.most,
        };
        // At most a quarter more: less than the next one.
        let more = wait.min(self.most).mul_f64(chance / 4.0);
        wait.saturating_add(more).min(self.most)
    }
}

impl Default for Backoff {
    /// From a second to an hour.
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
                assert!(longest <= backoff.most);
            }
        }
        assert_eq!(
            Backoff::default().spread(64, 0.3),
            Duration::from_secs(3600)
        );
        assert_eq!(Backoff::default().spread(3, 0.0), Duration::from_secs(4));
    }
}
