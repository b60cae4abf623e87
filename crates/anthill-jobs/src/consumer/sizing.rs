//! How many jobs a consumer runs at once: between a minimum and a maximum, following the load.
//!
//! - Z1: It grows by half, and at least by one, when jobs waited for longer than `grow_after` while all runners had work,
//!   or when no runner has looked for that long; and not again before the growth can have had an effect.
//! - Z2: It shrinks by one for each `shrink_after` in which a runner had no work.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Sizing {
    min: usize,
    max: usize,
    wanted: usize,
    grow_after: Duration,
    shrink_after: Duration,
    grown_at: Option<Instant>,
    /// Since when a runner has had no work.
    idle_since: Option<Instant>,
}

impl Sizing {
    pub(super) fn new(
        workers: &RangeInclusive<usize>,
        grow_after: Duration,
        shrink_after: Duration,
    ) -> Sizing {
        let min = (*workers.start()).max(1);
        Sizing {
            min,
            max: (*workers.end()).max(min),
            wanted: min,
            grow_after,
            shrink_after,
            grown_at: None,
            idle_since: None,
        }
    }

    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Jobs were claimed: how long the oldest had waited, and how many runners had work.
    pub(super) fn saw_work(&mut self, now: Instant, waited: Duration, runners: usize) {
        if runners < self.wanted {
            return;
        }
        self.idle_since = None;
        let may_show =
            (self.grown_at).is_none_or(|at| now.saturating_duration_since(at) >= self.grow_after);
        if waited > self.grow_after && may_show && self.wanted < self.max {
            self.grow(now);
        }
    }

    /// There is more to do, and all runners have been busy for too long to look.
    pub(super) fn saw_others_wait(&mut self, now: Instant) {
        self.idle_since = None;
        self.grow(now);
    }

    pub(super) fn may_grow(&self) -> bool {
        self.wanted < self.max
    }

    pub(super) fn grow_after(&self) -> Duration {
        self.grow_after
    }

    fn grow(&mut self, now: Instant) {
        self.wanted = (self.wanted + (self.wanted / 2).max(1)).min(self.max);
        self.grown_at = Some(now);
    }

    /// There was nothing to claim.
    pub(super) fn saw_nothing(&mut self, now: Instant) {
        let since = *self.idle_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.shrink_after && self.wanted > self.min {
            self.wanted -= 1;
            self.idle_since = Some(now);
        }
    }

    /// When it shrinks next, if nothing happens before.
    pub(super) fn shrinks_at(&self) -> Option<Instant> {
        let since = self.idle_since.filter(|_| self.wanted > self.min)?;
        since.checked_add(self.shrink_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);
    const CALM: Duration = Duration::from_secs(1);
    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn it_follows_a_load_up_and_down() {
        let start = Instant::now();
        let at = |millis| start + MILLI * millis;
        let mut sizing = Sizing::new(&(2..=10), PATIENCE, CALM);
        assert_eq!(sizing.wanted(), 2);
        // All busy, but nothing waits for long.
        sizing.saw_work(at(0), MILLI * 50, 2);
        assert_eq!(sizing.wanted(), 2);
        sizing.saw_work(at(1), MILLI * 150, 2);
        assert_eq!(sizing.wanted(), 3);
        // Not before it can have helped.
        sizing.saw_work(at(2), MILLI * 150, 3);
        assert_eq!(sizing.wanted(), 3);
        let mut sizes = Vec::new();
        for step in 0..5 {
            sizing.saw_work(at(101 + step * 100), MILLI * 500, sizing.wanted());
            sizes.push(sizing.wanted());
        }
        assert_eq!(sizes, [4, 6, 9, 10, 10]);
        // No work: down by one a second, to the minimum.
        let mut sizes = Vec::new();
        for second in 0..12 {
            sizing.saw_nothing(at(1_000 + second * 1_000));
            sizes.push(sizing.wanted());
        }
        assert_eq!(sizes, [10, 9, 8, 7, 6, 5, 4, 3, 2, 2, 2, 2]);
        assert_eq!(sizing.shrinks_at(), None);
    }

    #[test]
    fn runners_that_are_missing_are_not_made_up_for_by_more() {
        let mut sizing = Sizing::new(&(4..=8), PATIENCE, CALM);
        sizing.saw_work(Instant::now(), MILLI * 900, 3);
        assert_eq!(sizing.wanted(), 4);
    }

    #[test]
    fn work_that_comes_back_ends_the_calm() {
        let start = Instant::now();
        let mut sizing = Sizing::new(&(1..=8), PATIENCE, CALM);
        sizing.saw_work(start, MILLI * 900, 1);
        sizing.saw_nothing(start);
        assert_eq!(sizing.shrinks_at(), Some(start + CALM));
        sizing.saw_work(start + CALM / 2, Duration::ZERO, 2);
        sizing.saw_nothing(start + CALM);
        assert_eq!(sizing.wanted(), 2);
    }
}
