//! The state of a consumer under its lock: jobs in flight, settlements that wait, and when to look for more.

use super::context::Signal;
use super::place::Place;
use super::sizing::Sizing;
use super::stats::ConsumerStats;
use crate::broker::{Claimed, Lease, Settle};
use crate::id::{JobId, QuickHash};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numbers the jobs that a consumer has claimed. (A lease may get another token, and a job may be claimed twice.)
pub(super) type ClaimNumber = u64;

/// Quick jobs are claimed together, as many as take so long.
pub(super) const BATCH_TIME: Duration = Duration::from_millis(2);
/// Each batch costs a transaction, or a round trip: with 1000, a fifth less time for each job than with 256.
pub(super) const MAX_BATCH: usize = 1_000;
/// Quick jobs are settled together, at most so much later.
pub(super) const OUTBOX_TIME: Duration = Duration::from_millis(5);

/// A claimed job begins within this time, or is handed back.
pub(super) const BUFFER_TIME: Duration = Duration::from_millis(50);
/// The first pause after a failure of a broker.
pub(super) const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A settlement that a broker refused so often while it took others is one that it will never take.
const REFUSED_FOR_GOOD: u32 = 3;

/// The pause after a failure, by the number of failures in a row before it.
pub(super) fn pause_after(failures: u32) -> Duration {
    let pause = MIN_PAUSE.saturating_mul(1 << failures.min(10));
    pause.min(MAX_PAUSE)
}

#[expect(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub(super) struct State {
    /// The number of the next claimed job.
    next: ClaimNumber,
    pub(super) buffer: VecDeque<Buffered>,
    pub(super) in_flight: HashMap<ClaimNumber, InFlight, QuickHash>,
    pub(super) outbox: Vec<(ClaimNumber, Settle)>,
    pub(super) outbox_since: Option<Instant>,
    /// Settlements that the broker refused, when they are repeated, and how often they have been.
    pub(super) refused: Vec<(ClaimNumber, Settle)>,
    pub(super) refused_until: Option<Instant>,
    refusals: u32,
    pub(super) runners: usize,
    /// U7: how many of them have an overdue job, and lend their places.
    pub(super) replaced: usize,
    pub(super) started: usize,
    pub(super) sizing: Sizing,
    pub(super) may_claim: bool,
    /// A broker has notified since the maintainer looked; a manual clock may have been moved.
    pub(super) has_news: bool,
    /// When to claim again.
    pub(super) again_at: Option<Instant>,
    /// Nothing begins before: the broker failed, or the pool had no thread.
    pub(super) not_before: Option<Instant>,
    /// Too many jobs failed in a row.
    pub(super) paused_until: Option<Instant>,
    /// When a job was last claimed or begun.
    pub(super) last_progress: Instant,
    /// When the maintainer will wake by itself; `None` is never.
    pub(super) maintainer_wakes_at: Option<Instant>,
    /// A kind has a run time.
    pub(super) has_limits: bool,
    pub(super) failures: u32,
    pub(super) errors_in_row: u32,
    /// The average run time of a job, in seconds.
    pub(super) run_time: f64,
    /// The next job may be fragile.
    pub(super) fragile_next: bool,
    /// A runner has the permit for a fragile job (U5).
    pub(super) permit_taken: bool,
    /// A batch could not be settled: its jobs are settled one by one.
    pub(super) settles_one_by_one: bool,
    /// How often the broker has answered without an error.
    pub(super) answers: u64,
    /// Settlements that the broker has taken.
    pub(super) settled: u64,
    pub(super) stopping: bool,
    pub(super) over: bool,
    pub(super) waiters: usize,
    pub(super) stats: ConsumerStats,
}

/// A claimed job that no runner has begun.
pub(super) struct Buffered {
    pub(super) number: ClaimNumber,
    pub(super) source: usize,
    pub(super) job: Claimed,
    pub(super) signal: Arc<Signal>,
}

/// A claimed job that is not settled yet.
#[expect(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub(super) struct InFlight {
    /// Its queue.
    pub(super) source: usize,
    pub(super) signal: Arc<Signal>,
    /// U5.
    pub(super) is_fragile: bool,
    /// No job may run beside it.
    pub(super) is_exclusive: bool,
    /// Its attempt has ended; the settlement is perhaps not stored yet.
    pub(super) has_ended: bool,
    /// It has exceeded its run time.
    pub(super) is_overdue: bool,
    /// The lease holds until then at least.
    pub(super) held_until: Option<Instant>,
    /// The place of its runner, if it has a run time.
    pub(super) place: Option<Arc<Place>>,
    /// The end of its run time.
    pub(super) run_until: Option<Instant>,
    /// The lease is lost, or is not extended any more.
    pub(super) given_up: bool,
    /// A settlement of it failed, and may have been stored all the same.
    pub(super) may_be_settled: bool,
    /// How often the broker refused its settlement.
    refused: Option<Refusals>,
}

/// Refusals of one settlement.
#[derive(Clone, Copy, Debug, Default)]
struct Refusals {
    times: u32,
    /// Those before which the broker took another settlement, or answered at all, since the one before.
    amid_settlements: u32,
    amid_answers: u32,
    /// How many settlements it had taken, and how often it had answered, at the last one.
    settled: u64,
    answers: u64,
}

impl InFlight {
    pub(super) fn new(source: usize, job: &Claimed, held_until: Option<Instant>) -> InFlight {
        InFlight {
            source,
            signal: Signal::new(&job.lease),
            is_fragile: job.is_fragile,
            is_exclusive: job.is_exclusive,
            has_ended: false,
            is_overdue: false,
            place: None,
            held_until,
            run_until: None,
            given_up: false,
            may_be_settled: false,
            refused: None,
        }
    }
}

impl State {
    pub(super) fn new(sizing: Sizing, has_limits: bool) -> State {
        State {
            next: 0,
            buffer: VecDeque::new(),
            in_flight: HashMap::default(),
            outbox: Vec::new(),
            outbox_since: None,
            refused: Vec::new(),
            refused_until: None,
            refusals: 0,
            runners: 0,
            replaced: 0,
            started: 0,
            sizing,
            may_claim: true,
            has_news: false,
            again_at: None,
            not_before: None,
            paused_until: None,
            last_progress: Instant::now(),
            maintainer_wakes_at: Some(Instant::now()),
            has_limits,
            failures: 0,
            errors_in_row: 0,
            run_time: 0.0,
            fragile_next: false,
            permit_taken: false,
            settles_one_by_one: false,
            answers: 0,
            settled: 0,
            stopping: false,
            over: false,
            waiters: 0,
            stats: ConsumerStats::default(),
        }
    }

    /// Adds a claimed job. Returns it as one that no runner has begun.
    pub(super) fn add(&mut self, job: Claimed, in_flight: InFlight) -> Buffered {
        let number = self.next;
        self.next += 1;
        let (source, signal) = (in_flight.source, Arc::clone(&in_flight.signal));
        self.in_flight.insert(number, in_flight);
        Buffered {
            number,
            source,
            job,
            signal,
        }
    }

    /// Whether to claim now.
    pub(super) fn is_claimable(&mut self, now: Instant) -> bool {
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.may_claim = true;
        }
        self.may_claim && !self.permit_taken && !self.is_held_up(now) && !self.stopping
    }

    /// Whether nothing may begin now.
    pub(super) fn is_held_up(&mut self, now: Instant) -> bool {
        self.not_before = self.not_before.filter(|&at| at > now);
        self.paused_until = self.paused_until.filter(|&at| at > now);
        self.not_before.is_some() || self.paused_until.is_some()
    }

    /// Whether one more runner would have work.
    pub(super) fn wants_runner(&mut self, now: Instant) -> bool {
        let is_claimable = self.is_claimable(now);
        let has_work = !self.stopping && !self.is_held_up(now) && !self.buffer.is_empty();
        self.has_slots() && (has_work || is_claimable)
    }

    /// Whether there is more to do, all runners are busy, and there may be more of them.
    pub(super) fn is_stuck(&mut self, now: Instant) -> bool {
        let busy = !self.has_slots() && self.sizing.may_grow();
        busy && !self.stopping
            && !self.is_held_up(now)
            && (self.may_claim || !self.buffer.is_empty())
    }

    /// U7: how many runners there may be.
    pub(super) fn most_runners(&self) -> usize {
        self.sizing.wanted() + self.replaced
    }

    pub(super) fn has_slots(&self) -> bool {
        self.runners < self.most_runners()
    }

    /// When the maintainer has something to do next.
    pub(super) fn next_event(&mut self, now: Instant) -> Option<Instant> {
        let not_before = self.not_before.filter(|&at| at > now);
        let outbox_at = self.outbox_since.map(|at| at + OUTBOX_TIME);
        let late = || {
            let kept = self
                .in_flight
                .values()
                .filter(|in_flight| !in_flight.given_up);
            let kept = kept.filter(|in_flight| !in_flight.is_overdue && !in_flight.has_ended);
            kept.filter_map(|in_flight| in_flight.run_until).min()
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
            times[3] = Some(self.last_progress + BUFFER_TIME);
        }
        if !self.stopping {
            let has_slots = self.has_slots();
            times[4] = self.again_at.filter(|_| has_slots);
            times[5] = self.paused_until.filter(|&at| at > now);
            times[6] = self.sizing.shrinks_at().filter(|_| has_slots);
            if self.wants_runner(now) {
                times[7] = Some(now);
            } else if self.is_stuck(now) {
                times[7] = self.last_progress.checked_add(self.sizing.grow_after());
            }
        }
        times.into_iter().flatten().chain(refused).min()
    }

    /// The jobs in flight of a queue whose leases are extended.
    fn kept(&self, source: usize) -> impl Iterator<Item = (ClaimNumber, &InFlight)> {
        let in_flight = self.in_flight.iter();
        let in_flight = in_flight.map(|(&number, in_flight)| (number, in_flight));
        in_flight.filter(move |(_, in_flight)| {
            // A transaction of the handler's has locked a job that it settles, and is about to commit.
            let is_kept = !in_flight.given_up && !in_flight.signal.is_settled_by_handler();
            in_flight.source == source && is_kept
        })
    }

    /// When the next heartbeat of a queue is due, if a job is in flight.
    pub(super) fn next_heartbeat(&self, source: usize, lease: Duration) -> Option<Instant> {
        let first = self
            .kept(source)
            .filter_map(|(_, in_flight)| in_flight.held_until)
            .min()?;
        // When a third of it has passed.
        let two_thirds = lease.saturating_sub(lease / 3);
        Some(first.checked_sub(two_thirds).unwrap_or(first))
    }

    /// The leases of a queue to extend.
    pub(super) fn leases_to_extend(&self, source: usize) -> Vec<(ClaimNumber, Lease)> {
        let kept = self.kept(source);
        kept.map(|(number, in_flight)| (number, in_flight.signal.lease()))
            .collect()
    }

    /// U5: whether the settlement of a fragile job is not stored yet.
    pub(super) fn owes_fragile_ends(&self) -> bool {
        let mut in_flight = self.in_flight.values();
        in_flight
            .any(|in_flight| in_flight.is_fragile && in_flight.has_ended && !in_flight.given_up)
    }

    /// Notes that the broker refused a settlement; `settled_before` is how many it had taken before. Returns whether it
    /// will never take this one: the next settlement of the job is another one then.
    ///
    /// A refusal counts only if the broker took something since the one before: in an outage all are refused. One that was
    /// perhaps no more than a broken connection (`is_outage`) counts for little even so.
    pub(super) fn note_refusal(
        &mut self,
        number: ClaimNumber,
        settled_before: u64,
        is_outage: bool,
    ) -> bool {
        let Some(in_flight) = self.in_flight.get_mut(&number) else {
            return false;
        };
        let refusals = in_flight.refused.get_or_insert(Refusals {
            settled: settled_before,
            answers: self.answers,
            ..Refusals::default()
        });
        refusals.times += 1;
        refusals.amid_settlements += u32::from(self.settled > refusals.settled);
        refusals.amid_answers += u32::from(self.answers > refusals.answers);
        (refusals.settled, refusals.answers) = (self.settled, self.answers);
        let takes_others = refusals.amid_settlements >= REFUSED_FOR_GOOD;
        // There may be no other settlements.
        let answers = refusals.amid_answers >= REFUSED_FOR_GOOD * 7;
        let is_over = self.stopping && refusals.times >= REFUSED_FOR_GOOD * 2;
        let is_lasting = answers || (!is_outage && (takes_others || is_over));
        if is_lasting {
            in_flight.refused = None;
        }
        is_lasting
    }

    /// Keeps refused settlements for later.
    pub(super) fn refuse(&mut self, ends: Vec<(ClaimNumber, Settle)>, now: Instant) {
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

    pub(super) fn take_refused(&mut self) -> Vec<(ClaimNumber, Settle)> {
        self.refused_until = None;
        std::mem::take(&mut self.refused)
    }

    /// The number of jobs over their run time that still run.
    pub(super) fn overdue(&self) -> usize {
        let in_flight = self.in_flight.values();
        in_flight
            .filter(|in_flight| in_flight.is_overdue && !in_flight.has_ended)
            .count()
    }

    /// The jobs that run, or have not begun.
    pub(super) fn running(&self) -> Vec<JobId> {
        let in_flight = self.in_flight.values();
        let running = in_flight.filter(|in_flight| !in_flight.has_ended);
        running
            .map(|in_flight| in_flight.signal.lease().id())
            .collect()
    }

    /// Whether no job is in flight, and there is nothing to claim.
    pub(super) fn is_idle(&self) -> bool {
        self.runners == 0 && self.in_flight.is_empty() && !self.may_claim
    }

    /// Whether it stops, and no job is in flight. A runner that has not started will do nothing.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopping && self.started == 0 && self.in_flight.is_empty()
    }

    /// How many jobs to claim at once: one, unless jobs are quick.
    pub(super) fn claim_limit(&self, at_least: usize) -> usize {
        if self.run_time <= 0.0 {
            return at_least.min(MAX_BATCH);
        }
        let fit = BATCH_TIME.as_secs_f64() / self.run_time;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates"
        )]
        let fit = fit as usize;
        fit.clamp(1, MAX_BATCH).max(at_least.min(MAX_BATCH))
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

    /// Whether jobs are quick: they are settled together, and the maintainer flushes the rest.
    pub(super) fn is_quick(&self) -> bool {
        self.run_time > 0.0 && self.run_time < BATCH_TIME.as_secs_f64() / 2.0
    }

    pub(super) fn fail(&mut self, now: Instant) {
        self.not_before = now.checked_add(pause_after(self.failures));
        self.failures += 1;
        self.may_claim = true;
    }
}
