//! Notices when the server's clock was set back, so that time goes on all the same (B10).
//!
//! If an answer tells an earlier time than one before its request did, the clock was set back in between. The queue's time is
//! then made to go on from there (`go_on` in `sql/support.sql`), for all processes: by as much as has passed by this process'
//! steady clock. Only short spans are compared, and no clock but a steady one is asked: a wrong wall clock of a client
//! changes nothing.

use crate::values::{Moment, micros};
use std::time::{Duration, Instant};

/// Steps of less than that are adjustments, as by NTP.
const STEP: Duration = Duration::from_secs(1);

/// Over a longer span a steady clock may be wrong by as much.
const SPAN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(crate) struct Steady {
    /// What the last answer told, and when it came.
    last: Option<(Moment, Instant)>,
}

impl Steady {
    /// Learns of the time `now` in an answer that came at `received` to a request of `sent`. Returns what the time must be at
    /// least, if the clock was set back.
    pub(crate) fn learn(
        &mut self,
        now: Moment,
        sent: Instant,
        received: Instant,
    ) -> Option<Moment> {
        let passed = |(told, at): (Moment, Instant)| {
            let passed = sent.checked_duration_since(at)?;
            let is_back = passed < SPAN && told.since(now) > STEP;
            is_back.then(|| Moment(told.0.saturating_add(micros(passed))))
        };
        let least = self.last.and_then(passed);
        // Otherwise it is noticed again, unless the time goes on.
        if least.is_none() && self.last.is_none_or(|(_, at)| at < received) {
            self.last = Some((now, received));
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// An answer that came as soon as it was asked for.
    fn learn(steady: &mut Steady, begin: Instant, at: u64, told: i64) -> Option<i64> {
        let at = begin + seconds(at);
        let least = steady.learn(Moment(told * SECOND), at, at);
        least.map(|least| least.0 / SECOND)
    }

    #[test]
    fn a_clock_that_is_set_back_is_noticed_and_how_far_it_should_be() {
        let (mut steady, begin) = (Steady::default(), Instant::now());
        assert_eq!(learn(&mut steady, begin, 0, 1_000), None);
        assert_eq!(learn(&mut steady, begin, 10, 1_010), None);
        assert_eq!(learn(&mut steady, begin, 20, 500), Some(1_020));
        // Until it goes on.
        assert_eq!(learn(&mut steady, begin, 30, 510), Some(1_030));
        assert_eq!(learn(&mut steady, begin, 40, 1_040), None);
        assert_eq!(learn(&mut steady, begin, 50, 500), Some(1_050));
    }

    #[test]
    fn a_clock_that_is_adjusted_stands_still_or_is_set_ahead_is_left_alone() {
        let (mut steady, begin) = (Steady::default(), Instant::now());
        assert_eq!(learn(&mut steady, begin, 0, 1_000), None);
        assert_eq!(learn(&mut steady, begin, 5, 1_000), None);
        assert_eq!(learn(&mut steady, begin, 10, 999), None);
        assert_eq!(learn(&mut steady, begin, 20, 9_000), None);
        assert_eq!(learn(&mut steady, begin, 30, 9_010), None);
    }

    #[test]
    fn an_answer_that_took_long_is_no_clock_that_was_set_back() {
        let (mut steady, begin) = (Steady::default(), Instant::now());
        assert_eq!(learn(&mut steady, begin, 0, 1_000), None);
        // Asked at once, told at once, and received a minute later.
        let least = steady.learn(Moment(1_000 * SECOND), begin, begin + seconds(60));
        assert_eq!(least, None);
        // Of calls that overlap, too.
        assert_eq!(learn(&mut steady, begin, 1, 1_001), None);
        assert_eq!(learn(&mut steady, begin, 61, 1_061), None);
    }

    #[test]
    fn a_long_span_is_not_compared() {
        let (mut steady, begin) = (Steady::default(), Instant::now());
        assert_eq!(learn(&mut steady, begin, 0, 10_000), None);
        assert_eq!(learn(&mut steady, begin, 3_600, 1_000), None);
    }
}
