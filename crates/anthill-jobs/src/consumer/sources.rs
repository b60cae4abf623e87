//! The queues that a consumer claims from: one, or several with weights.
//!
//! Each claim is of one queue, so that jobs claimed together (B5) are of one broker. Which queue is asked first is random,
//! by the weights; the others are asked in turn if that one has nothing. A queue whose broker fails is not asked for a
//! while, and holds up none of the others.

use super::guard::guard;
use super::state::pause_after;
use crate::broker::{Broker, ClaimRequest, Claims};
use crate::error::QueueError;
use crate::sync::lock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A queue to claim from.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) weight: u32,
}

pub(super) struct Sources {
    all: Vec<Source>,
    /// For each: how often it failed, and until when it is not asked.
    failures: Mutex<Vec<(u32, Option<Instant>)>>,
}

/// What a claim found.
pub(super) struct Found {
    pub(super) claims: Claims,
    /// How many jobs the last queue that was asked was asked for.
    pub(super) limit: usize,
    /// The queue of the jobs.
    pub(super) source: usize,
    /// Some queues were not asked.
    pub(super) is_part: bool,
    /// The errors of queues that failed, while others did not.
    pub(super) errors: Vec<QueueError>,
}

impl Found {
    /// What one queue was asked for and has.
    pub(super) fn of(claims: Claims, source: usize) -> Found {
        Found {
            limit: claims.jobs.len().max(1),
            claims,
            source,
            is_part: false,
            errors: Vec::new(),
        }
    }
}

impl Sources {
    pub(super) fn new(all: Vec<Source>) -> Sources {
        let failures = Mutex::new(vec![(0, None); all.len()]);
        Sources { all, failures }
    }

    pub(super) fn broker(&self, source: usize) -> &Arc<dyn Broker> {
        &self.all[source].broker
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn brokers(&self) -> impl Iterator<Item = &Arc<dyn Broker>> {
        self.all.iter().map(|source| &source.broker)
    }

    /// Asks one queue after the other until one has jobs.
    ///
    /// # Errors
    ///
    /// If all that were asked failed.
    pub(super) fn claim(&self, request: &ClaimRequest) -> Result<Found, QueueError> {
        let mut found = Found {
            claims: Claims::default(),
            limit: request.limit,
            source: 0,
            is_part: false,
            errors: Vec::new(),
        };
        let (order, again_in) = self.order();
        found.claims.again_in = again_in;
        let mut answers = 0;
        for (asked, &source) in order.iter().enumerate() {
            let broker = self.broker(source);
            let mut request = request.clone();
            request.limit = request.limit.min(broker.capabilities().maxima.batch);
            found.limit = request.limit;
            match guard(|| broker.claim(&request)) {
                Ok(claims) => {
                    answers += 1;
                    self.record(source, true);
                    let again_in = claims.again_in.into_iter().chain(found.claims.again_in);
                    found.claims.again_in = again_in.min();
                    found.claims.fragile_next |= claims.fragile_next;
                    if !claims.jobs.is_empty() {
                        found.claims.jobs = claims.jobs;
                        found.source = source;
                        found.is_part = asked + 1 < order.len();
                        return Ok(found);
                    }
                }
                Err(error) => {
                    let pause = self.record(source, false);
                    let again_in = found.claims.again_in.into_iter().chain([pause]);
                    found.claims.again_in = again_in.min();
                    found.errors.push(error);
                }
            }
        }
        if answers == 0 {
            if let Some(error) = found.errors.pop() {
                return Err(error);
            }
        }
        Ok(found)
    }

    /// The queues to ask now, in a random order by weight; and when another one may be asked.
    fn order(&self) -> (Vec<usize>, Option<Duration>) {
        if self.all.len() == 1 {
            return (vec![0], None);
        }
        let now = Instant::now();
        let failures = lock(&self.failures);
        let left = |at: Instant| at.saturating_duration_since(now);
        let pauses = failures.iter().filter_map(|&(_, until)| until.map(left));
        let again_in = pauses.filter(|left| !left.is_zero()).min();
        let may = |source: &usize| failures[*source].1.is_none_or(|at| at <= now);
        let mut order: Vec<(f64, usize)> = (0..self.all.len())
            .filter(may)
            .map(|source| {
                // An exponential variable for each queue, with its weight as the rate (Efraimidis and Spirakis).
                let weight = f64::from(self.all[source].weight.max(1));
                (-(1.0 - fastrand::f64()).ln() / weight, source)
            })
            .collect();
        order.sort_by(|one, other| one.0.total_cmp(&other.0));
        let order = order.into_iter().map(|(_, source)| source);
        (order.collect(), again_in)
    }

    /// Records an answer or a failure. Returns for how long the queue is not asked.
    fn record(&self, source: usize, works: bool) -> Duration {
        let mut failures = lock(&self.failures);
        let (failed, until) = &mut failures[source];
        if works {
            (*failed, *until) = (0, None);
            return Duration::ZERO;
        }
        let pause = pause_after(*failed);
        *failed += 1;
        *until = Instant::now().checked_add(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::MIN_PAUSE;
    use super::*;
    use crate::{Clock, MemoryBroker};

    fn sources(weights: &[u32]) -> Sources {
        let source = |&weight: &u32| Source {
            broker: Arc::new(MemoryBroker::new(Clock::manual())),
            weight,
        };
        Sources::new(weights.iter().map(source).collect())
    }

    #[test]
    fn the_heavier_ones_come_first_more_often() {
        let sources = sources(&[6, 0, 3]);
        let mut first = [0; 3];
        for _ in 0..10_000 {
            let (order, _) = sources.order();
            assert_eq!(order.len(), 3);
            first[order[0]] += 1;
        }
        // By their weights 6,000, 1,000 and 3,000; a thousandth of such tests is further off than these bounds.
        assert!((5_700..6_300).contains(&first[0]), "{first:?}");
        assert!((850..1_150).contains(&first[1]), "{first:?}");
    }

    #[test]
    fn one_that_failed_is_left_alone_for_a_while() {
        let sources = sources(&[1, 1]);
        assert_eq!(sources.record(0, false), MIN_PAUSE);
        assert_eq!(sources.record(0, false), MIN_PAUSE * 2);
        let (order, again_in) = sources.order();
        assert_eq!(order, [1]);
        assert!(again_in.is_some_and(|pause| pause <= MIN_PAUSE * 2));
        sources.record(0, true);
        assert_eq!(sources.order().0.len(), 2);
        assert_eq!(sources.order().1, None);
    }
}
