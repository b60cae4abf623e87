//! What is in hand, and what is known of when to look for more; all of it under one lock.

use super::ConsumerStats;
use super::context::Signal;
use super::sizing::Sizing;
use crate::broker::{Claimed, Lease, Settle};
use crate::job::{JobId, QuickHash};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is quick is claimed for so long at once.
pub(super) const BATCH_TIME: Duration = Duration::from_millis(2);
pub(super) const MOST_BATCHED: usize = 256;
/// The ends of what is quick are told together, so much later at most.
pub(super) const OUTBOX_TIME: Duration = Duration::from_millis(5);

/// A job that is claimed is begun so soon, or handed back.
pub(super) const BUFFER_TIME: Duration = Duration::from_millis(50);
/// Where a broker failed.
pub(super) const LEAST_PAUSE: Duration = Duration::from_millis(50);
const MOST_PAUSE: Duration = Duration::from_secs(5);
/// What a broker refuses so often while it takes others it will never take.
const LASTING: u32 = 3;

/// How long to leave a broker alone that had failed so often before in a row.
pub(super) fn pause_after(failures: u32) -> Duration {
    let pause = LEAST_PAUSE.saturating_mul(1 << failures.min(10));
    pause.min(MOST_PAUSE)
}

#[expect(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub(super) struct State {
    pub(super) buffer: VecDeque<Waiting>,
    pub(super) hands: HashMap<Lease, Hand, QuickHash>,
    pub(super) outbox: Vec<(Lease, Settle)>,
    pub(super) outbox_since: Option<Instant>,
    /// Ends that the broker refused, when they are told again, and how often they have been.
    pub(super) refused: Vec<(Lease, Settle)>,
    pub(super) refused_until: Option<Instant>,
    refusals: u32,
    pub(super) runners: usize,
    pub(super) started: usize,
    pub(super) sizing: Sizing,
    pub(super) may_claim: bool,
    /// Something happened since the steward looked, time may have been moved.
    pub(super) is_news: bool,
    /// A look is worth it then.
    pub(super) again_at: Option<Instant>,
    /// Not before: the broker failed, or no thread was to be had.
    pub(super) not_before: Option<Instant>,
    /// Too many jobs failed.
    pub(super) paused_until: Option<Instant>,
    /// When a job was claimed or begun.
    pub(super) moved_at: Instant,
    /// When the steward will wake by itself; `None` is never.
    pub(super) planned: Option<Instant>,
    /// Some kinds may not run for ever.
    pub(super) has_limits: bool,
    pub(super) failures: u32,
    pub(super) errors_in_row: u32,
    /// Of a job, about, in seconds.
    pub(super) run_time: f64,
    /// The next job may be fragile.
    pub(super) fragile_next: bool,
    /// A runner looks for a fragile job, or is about to begin one.
    pub(super) has_turn: bool,
    /// A batch could not be settled: its ends are told one by one.
    pub(super) settles_apart: bool,
    /// How often the broker has done what it was asked to.
    pub(super) answers: u64,
    /// Ends that the broker has taken.
    pub(super) settled: u64,
    pub(super) stopping: bool,
    pub(super) over: bool,
    pub(super) waiting: usize,
    pub(super) stats: ConsumerStats,
}

/// A claimed job that no runner has yet.
pub(super) struct Waiting {
    pub(super) source: usize,
    pub(super) job: Claimed,
    pub(super) signal: Arc<Signal>,
}

/// A claimed job.
#[expect(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub(super) struct Hand {
    /// From which queue it is.
    pub(super) source: usize,
    pub(super) signal: Arc<Signal>,
    /// U5.
    pub(super) is_fragile: bool,
    /// Nobody is to run beside it.
    pub(super) is_exclusive: bool,
    /// Its end is known, and perhaps not yet stored.
    pub(super) has_ended: bool,
    /// It has run for longer than it may.
    pub(super) is_overdue: bool,
    /// It is ours until then at least.
    pub(super) kept_until: Option<Instant>,
    /// After which it is given up.
    pub(super) until: Option<Instant>,
    /// It is not ours any more, or is not to be.
    pub(super) given_up: bool,
    /// How often the broker refused its end; how many others it had taken before, and how often it had answered.
    pub(super) refused: Option<(u32, u64, u64)>,
}

impl State {
    pub(super) fn new(sizing: Sizing, has_limits: bool) -> State {
        State {
            buffer: VecDeque::new(),
            hands: HashMap::default(),
            outbox: Vec::new(),
            outbox_since: None,
            refused: Vec::new(),
            refused_until: None,
            refusals: 0,
            runners: 0,
            started: 0,
            sizing,
            may_claim: true,
            is_news: false,
            again_at: None,
            not_before: None,
            paused_until: None,
            moved_at: Instant::now(),
            planned: Some(Instant::now()),
            has_limits,
            failures: 0,
            errors_in_row: 0,
            run_time: 0.0,
            fragile_next: false,
            has_turn: false,
            settles_apart: false,
            answers: 0,
            settled: 0,
            stopping: false,
            over: false,
            waiting: 0,
            stats: ConsumerStats::default(),
        }
    }

    /// Whether a look for jobs is worth it now.
    pub(super) fn is_claimable(&mut self, now: Instant) -> bool {
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.may_claim = true;
        }
        self.may_claim && !self.has_turn && !self.is_held_up(now) && !self.stopping
    }

    /// It is not the time to begin anything.
    pub(super) fn is_held_up(&mut self, now: Instant) -> bool {
        self.not_before = self.not_before.filter(|&at| at > now);
        self.paused_until = self.paused_until.filter(|&at| at > now);
        self.not_before.is_some() || self.paused_until.is_some()
    }

    /// Whether one more runner would have work.
    pub(super) fn wants_runner(&mut self, now: Instant) -> bool {
        let is_claimable = self.is_claimable(now);
        let has_work = !self.stopping && !self.is_held_up(now) && !self.buffer.is_empty();
        self.runners < self.sizing.wanted() && (has_work || is_claimable)
    }

    /// There is more to do, all runners have work, and there might be more of them.
    pub(super) fn is_stuck(&mut self, now: Instant) -> bool {
        let busy = self.runners >= self.sizing.wanted() && self.sizing.may_grow();
        busy && !self.stopping
            && !self.is_held_up(now)
            && (self.may_claim || !self.buffer.is_empty())
    }

    /// When the steward is wanted next.
    pub(super) fn next_event(&mut self, now: Instant) -> Option<Instant> {
        let not_before = self.not_before.filter(|&at| at > now);
        let outbox_at = self.outbox_since.map(|at| at + OUTBOX_TIME);
        let late = || {
            let kept = self.hands.values().filter(|hand| !hand.given_up);
            let kept = kept.filter(|hand| !hand.is_overdue && !hand.has_ended);
            kept.filter_map(|hand| hand.until).min()
        };
        let mut times = [
            self.has_limits.then(late).flatten(),
            not_before,
            outbox_at.max(not_before.filter(|_| outbox_at.is_some())),
            None,
            None,
            None,
            None,
            None,
        ];
        let refused = self.refused_until.into_iter();
        if !self.buffer.is_empty() {
            times[3] = Some(self.moved_at + BUFFER_TIME);
        }
        if !self.stopping {
            let has_slots = self.runners < self.sizing.wanted();
            times[4] = self.again_at.filter(|_| has_slots);
            times[5] = self.paused_until.filter(|&at| at > now);
            times[6] = self.sizing.shrinks_at().filter(|_| has_slots);
            if self.wants_runner(now) {
                times[7] = Some(now);
            } else if self.is_stuck(now) {
                times[7] = self.moved_at.checked_add(self.sizing.patience());
            }
        }
        times.into_iter().flatten().chain(refused).min()
    }

    /// What is in hand from a queue, and is to be kept.
    fn kept(&self, source: usize) -> impl Iterator<Item = (&Lease, &Hand)> {
        let hands = self.hands.iter();
        hands.filter(move |(_, hand)| hand.source == source && !hand.given_up)
    }

    /// When the leases of a queue are to be kept next, where something is in hand.
    pub(super) fn next_beat(&self, source: usize, lease: Duration) -> Option<Instant> {
        let first = self
            .kept(source)
            .filter_map(|(_, hand)| hand.kept_until)
            .min()?;
        // A third of it has passed then.
        let two_thirds = lease.saturating_sub(lease / 3);
        Some(first.checked_sub(two_thirds).unwrap_or(first))
    }

    /// The leases of a queue that are to be kept.
    pub(super) fn kept_leases(&self, source: usize) -> Vec<Lease> {
        self.kept(source).map(|(&lease, _)| lease).collect()
    }

    /// U5: the end of a fragile job is not stored yet.
    pub(super) fn owes_fragile_ends(&self) -> bool {
        let mut hands = self.hands.values();
        hands.any(|hand| hand.is_fragile && hand.has_ended && !hand.given_up)
    }

    /// The broker refused an end, and had taken so many before it was asked; whether it will never take it. If so the next
    /// end of the job is another one.
    pub(super) fn is_refused(&mut self, lease: Lease, settled_before: u64) -> bool {
        let Some(hand) = self.hands.get_mut(&lease) else {
            return false;
        };
        let first = (0, settled_before, self.answers);
        let (times, settled, answers) = hand.refused.get_or_insert(first);
        *times += 1;
        let takes_others = *times >= LASTING && self.settled > *settled;
        // There may be no other ones.
        let answers = *times >= LASTING * 7 && self.answers > *answers;
        let is_lasting = takes_others || answers || (self.stopping && *times >= LASTING * 2);
        if is_lasting {
            hand.refused = None;
        }
        is_lasting
    }

    /// They are told again later.
    pub(super) fn refuse(&mut self, ends: Vec<(Lease, Settle)>, now: Instant) {
        if ends.is_empty() {
            if self.refused.is_empty() {
                self.refusals = 0;
            }
            return;
        }
        self.refused.extend(ends);
        self.refused_until = now.checked_add(pause_after(self.refusals.min(5)));
        self.refusals += 1;
    }

    pub(super) fn take_refused(&mut self) -> Vec<(Lease, Settle)> {
        self.refused_until = None;
        std::mem::take(&mut self.refused)
    }

    /// Jobs that have run for longer than they may, and still run.
    pub(super) fn overdue(&self) -> usize {
        let hands = self.hands.values();
        hands
            .filter(|hand| hand.is_overdue && !hand.has_ended)
            .count()
    }

    /// What runs, and what has not been begun.
    pub(super) fn running(&self) -> Vec<JobId> {
        let running = self.hands.iter().filter(|(_, hand)| !hand.has_ended);
        running.map(|(lease, _)| lease.id).collect()
    }

    /// Nothing is in hand, and nothing is to be claimed.
    pub(super) fn is_idle(&self) -> bool {
        self.runners == 0 && self.hands.is_empty() && !self.may_claim
    }

    /// It is to stop, and nothing is in hand. A runner that has not started will do nothing.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopping && self.started == 0 && self.hands.is_empty()
    }

    /// How many jobs to claim at once: one, unless they are quick.
    pub(super) fn batch(&self, at_least: usize) -> usize {
        if self.run_time <= 0.0 {
            return at_least.min(MOST_BATCHED);
        }
        let fit = BATCH_TIME.as_secs_f64() / self.run_time;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates"
        )]
        let fit = fit as usize;
        fit.clamp(1, MOST_BATCHED).max(at_least.min(MOST_BATCHED))
    }

    pub(super) fn note_run_time(&mut self, each: f64) {
        let first = self.run_time <= 0.0;
        let each = each.max(1e-9);
        self.run_time = if first {
            each
        } else {
            self.run_time * 0.8 + each * 0.2
        };
    }

    /// Their ends are told together, and the steward sees to what is left of them.
    pub(super) fn is_quick(&self) -> bool {
        self.run_time > 0.0 && self.run_time < BATCH_TIME.as_secs_f64() / 2.0
    }

    pub(super) fn fail(&mut self, now: Instant) {
        self.not_before = now.checked_add(pause_after(self.failures));
        self.failures += 1;
        self.may_claim = true;
    }
}
