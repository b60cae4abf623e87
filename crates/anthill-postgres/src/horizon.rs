//! How far this process has looked for ready jobs, so that a claim need not pass the index entries of jobs that are gone.
//!
//! While any session of the database has an old snapshot, such entries stay: a look from the beginning of an index passes all
//! of them. So a claim looks from a *horizon* on: of each kind and rank, a turn up to which nothing is ready, but for jobs
//! that came back to an old place, which have an index of their own.
//!
//! - HO1. A turn is settled if nothing can become ready before it any more: all transactions that were there when the server's
//!   clock showed it have ended, and all that was due until then is ready. A claim tells the time and its transaction
//!   id ([`Reply::id`]), and later ones tell the oldest transaction that was there when they looked ([`Reply::oldest`]).
//!   Whoever gets a turn has an id before that.
//! - HO2. A horizon is a settled turn, and before that of the last job that was claimed in order: others of its batch have the
//!   same turn. A claim that left a job moves none.
//! - HO3. A transaction may take for ever. After [`PATIENCE`] its turns count as settled all the same, and a look from the
//!   beginning is owed. A horizon may also hide a job that another claim had locked and did not take, as one does whose
//!   connection is lost.
//! - HO4. A look from the beginning finds what a horizon hides. While it is quick each look is one; otherwise they take at most
//!   one part in [`SHARE`] of the time. So in a database without old snapshots no horizon is ever used.
//! - HO5. If the server's clock was set back nothing that was learnt counts.
//!
//! The same holds for leases: the entries of those that ended stay before the first one that has not. Of those that this process
//! knows of it is known when the next one may end ([`Plan::next_end`]); those of others are found by a look from the beginning.

use crate::values::Moment;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How long a transaction may take until its turns count as settled. Short ones take less.
const PATIENCE: Duration = Duration::from_millis(100);

/// How far the claims of several threads may overlap; a clock that is back by more was set.
const OVERLAP: Duration = Duration::from_secs(1);

/// The time between two slow looks, as a multiple of what the last one took.
const SHARE: u32 = 20;

/// A look that takes no longer is quick: about as long as a claim itself.
const QUICK: Duration = Duration::from_micros(300);

/// The same for a look at the leases, which only claims in vain have to make.
const QUICK_ENDS: Duration = Duration::from_millis(2);

/// How often what is no consumer's concern is seen to.
const HOUSE: Duration = Duration::from_millis(200);

/// How many marks wait to be settled; more would be of transactions that end together.
const MARKS: usize = 256;

pub(crate) struct Horizon {
    /// By kind and rank.
    turns: BTreeMap<String, BTreeMap<i32, Moment>>,
    settled: Moment,
    marks: VecDeque<Mark>,
    /// Turns were settled by patience alone; a look finds them when this transaction has ended.
    owed: Option<i64>,
    /// Something became claimable since the last look from the beginning.
    has_heard: bool,
    /// All that was due until then was ready.
    due_until: Moment,
    /// No lease ends before, as far as is known.
    next_end: Moment,
    /// How often leases have begun, ended, or been extended; and how often they had when they were looked at.
    leases: u64,
    leases_seen: Option<u64>,
    ready: Cost,
    ends: Cost,
    house_at: Option<Instant>,
    parked_key: String,
    now: Moment,
}

struct Mark {
    turn: Moment,
    id: i64,
    at: Instant,
}

/// What the last looks took.
#[derive(Default)]
struct Cost {
    last: [Option<Duration>; 3],
    at: Option<Instant>,
}

impl Cost {
    /// The shortest of the last ones: one of them may have been interrupted.
    fn estimate(&self) -> Duration {
        let all: Option<Vec<Duration>> = self.last.iter().copied().collect();
        all.and_then(|all| all.into_iter().min())
            .unwrap_or_default()
    }

    /// When another look is due.
    fn due(&self, quick: Duration) -> Option<Instant> {
        let cost = self.estimate();
        if cost <= quick {
            return None;
        }
        self.at?.checked_add(cost * SHARE)
    }

    fn allows(&self, quick: Duration, now: Instant) -> bool {
        self.due(quick).is_none_or(|due| due <= now)
    }

    fn learn(&mut self, took: Duration, now: Instant) {
        self.last.rotate_left(1);
        self.last[2] = Some(took);
        self.at = Some(now);
    }
}

/// From where on a claim looks.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are parameters")]
pub(crate) struct Plan {
    /// From the beginning of everything.
    pub(crate) is_full: bool,
    /// Also at what is no consumer's concern.
    pub(crate) is_house: bool,
    /// At the leases, though none may be over before `next_end`; or only if it finds nothing.
    pub(crate) looks_at_ends: bool,
    pub(crate) looks_at_ends_in_vain: bool,
    pub(crate) next_end: Moment,
    pub(crate) due_from: Moment,
    pub(crate) parked_key: String,
    leases: u64,
    /// Stretches: a kind, the rank and turn behind which it begins, and the rank before which it ends. None, if it is full.
    pub(crate) kinds: Vec<String>,
    pub(crate) ranks: Vec<i32>,
    pub(crate) turns: Vec<Moment>,
    pub(crate) ends: Vec<i32>,
}

/// What a claim tells.
pub(crate) struct Reply<'r> {
    pub(crate) now: Moment,
    pub(crate) oldest: i64,
    pub(crate) id: Option<i64>,
    /// All that is due is ready, and no job was left.
    pub(crate) is_settled: bool,
    pub(crate) next_end: Option<Moment>,
    pub(crate) took: Duration,
    /// If it looked at the leases.
    pub(crate) ends_took: Option<Duration>,
    pub(crate) parked_key: &'r str,
    /// The claimed jobs: kind, rank and turn.
    pub(crate) claimed: Vec<(&'r str, i32, Moment)>,
}

const FIRST_RANK: i32 = -40_000;
const LAST_RANK: i32 = 40_000;

/// A kind with more ranks is looked at from the beginning: each is a look of its own.
const MOST_RANKS: usize = 16;

impl Horizon {
    pub(crate) fn new() -> Horizon {
        Horizon {
            turns: BTreeMap::new(),
            settled: Moment::EARLIEST,
            marks: VecDeque::new(),
            owed: None,
            has_heard: false,
            due_until: Moment::EARLIEST,
            next_end: Moment::EARLIEST,
            leases: 0,
            leases_seen: None,
            ready: Cost::default(),
            ends: Cost::default(),
            house_at: None,
            parked_key: String::new(),
            now: Moment::EARLIEST,
        }
    }

    /// Where to look for jobs of these kinds. A claim of no job only looks what time has brought, at everything.
    pub(crate) fn plan(&self, kinds: Option<&[String]>, limit: usize, now: Instant) -> Plan {
        let is_full = limit == 0 || kinds.is_none() || self.ready.allows(QUICK, now);
        let looks_at_ends = limit == 0 || self.ends.allows(QUICK, now);
        let mut plan = Plan {
            is_full,
            is_house: limit == 0 || self.house_at.is_none_or(|at| at <= now),
            looks_at_ends,
            looks_at_ends_in_vain: self.leases_seen != Some(self.leases)
                && self.ends.allows(QUICK_ENDS, now),
            next_end: self.next_end,
            due_from: if is_full {
                Moment::EARLIEST
            } else {
                self.due_until.min(self.settled)
            },
            parked_key: self.parked_key.clone(),
            leases: self.leases,
            kinds: Vec::new(),
            ranks: Vec::new(),
            turns: Vec::new(),
            ends: Vec::new(),
        };
        if is_full {
            return plan;
        }
        for kind in kinds.unwrap_or_default() {
            let (mut rank, mut turn) = (FIRST_RANK, Moment::EARLIEST);
            for (&next, &from) in self.turns.get(kind).into_iter().flatten() {
                plan.stretch(kind, (rank, turn), next);
                (rank, turn) = (next, from);
            }
            plan.stretch(kind, (rank, turn), LAST_RANK);
        }
        plan
    }

    /// When to look again from the beginning, if this claim did not and that may find something.
    pub(crate) fn look_again_in(&self, plan: &Plan, now: Instant) -> Option<Duration> {
        if plan.is_full || self.owed.is_none() || !self.has_heard {
            return None;
        }
        let due = self.ready.due(QUICK)?;
        Some(due.saturating_duration_since(now))
    }

    pub(crate) fn learn(&mut self, plan: &Plan, reply: &Reply<'_>, now: Instant) {
        // HO5.
        if self.now.since(reply.now) > OVERLAP {
            *self = Horizon::new();
        }
        self.now = self.now.max(reply.now);
        reply.parked_key.clone_into(&mut self.parked_key);
        if plan.is_house {
            self.house_at = now.checked_add(HOUSE);
        }
        if plan.is_full {
            self.ready.learn(reply.took, now);
            self.has_heard = false;
            if self.owed.is_some_and(|id| id <= reply.oldest) {
                self.owed = None;
            }
        }
        let next_end = reply.next_end.unwrap_or(Moment::LATEST);
        if let Some(took) = reply.ends_took {
            self.ends.learn(took, now);
            self.leases_seen = Some(plan.leases);
        }
        // What another thread did meanwhile it may not have seen.
        self.next_end = if reply.ends_took.is_some() && self.leases == plan.leases {
            next_end
        } else {
            self.next_end.min(next_end)
        };
        if !reply.claimed.is_empty() {
            self.leases += 1;
        }
        self.settle(reply, now);
        if reply.is_settled {
            self.due_until = self.due_until.max(reply.now.before());
            self.move_to(&reply.claimed);
        }
    }

    /// HO2.
    fn move_to(&mut self, claimed: &[(&str, i32, Moment)]) {
        for &(kind, rank, turn) in claimed {
            // Other jobs may have the same turn.
            let turn = turn.before().min(self.settled);
            if turn == Moment::EARLIEST {
                continue;
            }
            let Some(ranks) = self.turns.get_mut(kind) else {
                let ranks = BTreeMap::from([(rank, turn)]);
                self.turns.insert(kind.to_owned(), ranks);
                continue;
            };
            if let Some(known) = ranks.get_mut(&rank) {
                *known = (*known).max(turn);
            } else if ranks.len() < MOST_RANKS {
                ranks.insert(rank, turn);
            }
        }
    }

    /// HO1 and HO3.
    fn settle(&mut self, reply: &Reply<'_>, now: Instant) {
        while let Some(mark) = self.marks.front() {
            let has_ended = mark.id <= reply.oldest;
            let is_old = now.saturating_duration_since(mark.at) >= PATIENCE;
            if !has_ended && !is_old {
                break;
            }
            self.settled = self.settled.max(mark.turn);
            if !has_ended {
                self.owed = self.owed.max(Some(mark.id));
            }
            self.marks.pop_front();
        }
        if let Some(id) = reply.id.filter(|_| self.marks.len() < MARKS) {
            self.marks.push_back(Mark {
                turn: reply.now.before(),
                id,
                at: now,
            });
        }
    }

    /// Leases have ended, or been extended to end then.
    pub(crate) fn leases_changed(&mut self, ends: Option<Moment>) {
        self.leases += 1;
        self.next_end = self.next_end.min(ends.unwrap_or(Moment::LATEST));
    }

    /// Something became claimable.
    pub(crate) fn hear(&mut self) {
        self.has_heard = true;
    }
}

impl Plan {
    fn stretch(&mut self, kind: &str, (rank, turn): (i32, Moment), end: i32) {
        self.kinds.push(kind.to_owned());
        self.ranks.push(rank);
        self.turns.push(turn);
        self.ends.push(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "mail";
    const SLOW: Duration = Duration::from_millis(5);

    fn kinds() -> [String; 1] {
        [KIND.to_owned()]
    }

    /// A claim at that moment, in that transaction, of a job with that turn.
    fn reply(now: i64, id: i64, oldest: i64, turn: i64, took: Duration) -> Reply<'static> {
        Reply {
            now: Moment(now),
            oldest,
            id: Some(id),
            is_settled: true,
            next_end: None,
            took,
            ends_took: Some(Duration::ZERO),
            parked_key: "",
            claimed: vec![(KIND, 0, Moment(turn))],
        }
    }

    /// One whose looks from the beginning are slow, after some claims; and the time then.
    fn slow(replies: &[Reply<'_>]) -> (Horizon, Instant) {
        let mut horizon = Horizon::new();
        let now = Instant::now();
        for reply in replies {
            let plan = horizon.plan(Some(&kinds()), 1, now);
            horizon.learn(&plan, reply, now);
        }
        (horizon, now)
    }

    fn from(horizon: &Horizon, now: Instant) -> Vec<(i32, Moment, i32)> {
        let plan = horizon.plan(Some(&kinds()), 1, now);
        assert!(!plan.is_full);
        let starts = plan.ranks.iter().zip(&plan.turns).zip(&plan.ends);
        starts
            .map(|((&rank, &turn), &end)| (rank, turn, end))
            .collect()
    }

    const BEGINNING: (i32, Moment, i32) = (FIRST_RANK, Moment::EARLIEST, 0);

    #[test]
    fn while_looks_are_quick_each_is_from_the_beginning() {
        let quick = || reply(100, 10, 10, 50, QUICK);
        let (horizon, now) = slow(&[quick(), quick(), quick(), quick()]);
        assert!(horizon.plan(Some(&kinds()), 1, now).is_full);
    }

    #[test]
    fn one_slow_look_of_three_is_an_accident() {
        let quick = || reply(100, 10, 10, 50, QUICK);
        let (horizon, now) = slow(&[quick(), quick(), reply(100, 10, 10, 50, SLOW)]);
        assert!(horizon.plan(Some(&kinds()), 1, now).is_full);
    }

    #[test]
    fn slow_looks_are_a_small_part_of_the_time() {
        let look = || reply(100, 10, 10, 50, SLOW);
        let (horizon, now) = slow(&[look(), look(), look()]);
        assert!(!horizon.plan(Some(&kinds()), 1, now).is_full);
        let later = now + SLOW * SHARE;
        assert!(horizon.plan(Some(&kinds()), 1, later).is_full);
        // A claim of any kind, or of no job, looks at everything.
        assert!(horizon.plan(None, 1, now).is_full);
        assert!(horizon.plan(Some(&kinds()), 0, now).is_full);
    }

    #[test]
    fn a_turn_is_settled_when_all_transactions_of_its_time_have_ended() {
        // One that was there at 100, with an id before 10, has not ended when the second one looks.
        let looks = || [reply(100, 10, 7, 50, SLOW), reply(200, 12, 9, 60, SLOW)];
        let [one, two] = looks();
        let (horizon, now) = slow(&[one, two, reply(300, 14, 9, 70, SLOW)]);
        assert_eq!(
            from(&horizon, now),
            [(FIRST_RANK, Moment::EARLIEST, LAST_RANK)]
        );
        // It has ended when the third one looks: nothing that others do can be ready before 100.
        let [one, two] = looks();
        let (horizon, now) = slow(&[one, two, reply(300, 14, 10, 170, SLOW)]);
        assert_eq!(from(&horizon, now), [BEGINNING, (0, Moment(99), LAST_RANK)]);
        // But no further than jobs were claimed, and not behind others of the same batch.
        let [one, two] = looks();
        let (horizon, now) = slow(&[one, two, reply(300, 14, 12, 70, SLOW)]);
        assert_eq!(from(&horizon, now), [BEGINNING, (0, Moment(69), LAST_RANK)]);
    }

    #[test]
    fn a_claim_that_left_a_job_moves_no_horizon() {
        let left = Reply {
            is_settled: false,
            ..reply(300, 14, 12, 170, SLOW)
        };
        let (horizon, now) = slow(&[
            reply(100, 10, 10, 50, SLOW),
            reply(200, 12, 12, 60, SLOW),
            left,
        ]);
        assert_eq!(from(&horizon, now), [BEGINNING, (0, Moment(59), LAST_RANK)]);
    }

    #[test]
    fn for_a_transaction_without_end_nobody_waits_but_a_look_is_owed() {
        let (mut horizon, now) = slow(&[
            reply(100, 10, 7, 50, SLOW),
            reply(200, 12, 7, 60, SLOW),
            reply(200, 13, 7, 70, SLOW),
        ]);
        let later = now + PATIENCE;
        let claim = |horizon: &mut Horizon, oldest, now| {
            let plan = horizon.plan(Some(&kinds()), 1, now);
            horizon.learn(&plan, &reply(300, 14, oldest, 150, SLOW), now);
            plan
        };
        assert!(claim(&mut horizon, 7, later).is_full);
        let plan = claim(&mut horizon, 7, later);
        assert_eq!(
            from(&horizon, later),
            [BEGINNING, (0, Moment(149), LAST_RANK)]
        );
        assert_eq!(
            horizon.look_again_in(&plan, later),
            None,
            "nothing was heard"
        );
        horizon.hear();
        assert_eq!(horizon.look_again_in(&plan, later), Some(SLOW * SHARE));
        // It has ended: the next look finds what it did.
        let much_later = later + SLOW * SHARE;
        assert!(claim(&mut horizon, 14, much_later).is_full);
        let plan = claim(&mut horizon, 14, much_later);
        horizon.hear();
        assert_eq!(horizon.look_again_in(&plan, much_later), None);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_all_forgotten() {
        let hour = 3_600_000_000;
        let look = |now| reply(now, 10, 10, now - 50, SLOW);
        let (mut horizon, now) = slow(&[look(hour), look(hour), look(hour)]);
        assert!(!horizon.plan(Some(&kinds()), 1, now).is_full);
        let plan = horizon.plan(Some(&kinds()), 1, now);
        horizon.learn(&plan, &look(1_000), now);
        assert!(horizon.plan(Some(&kinds()), 1, now).is_full);
    }

    #[test]
    fn leases_are_looked_at_again_when_they_have_changed_and_nothing_is_found() {
        let ending = |ends_took| Reply {
            next_end: Some(Moment(500)),
            ends_took: Some(ends_took),
            claimed: Vec::new(),
            ..reply(100, 10, 10, 50, QUICK)
        };
        let took = QUICK * 2;
        let (mut horizon, now) = slow(&[ending(took), ending(took), ending(took)]);
        let plan = horizon.plan(Some(&kinds()), 1, now);
        assert!(!plan.looks_at_ends && !plan.looks_at_ends_in_vain);
        assert_eq!(plan.next_end, Moment(500));
        horizon.leases_changed(Some(Moment(400)));
        let plan = horizon.plan(Some(&kinds()), 1, now);
        assert!(!plan.looks_at_ends && plan.looks_at_ends_in_vain);
        assert_eq!(plan.next_end, Moment(400));
        // What changed while it looked is not forgotten.
        horizon.leases_changed(Some(Moment(300)));
        horizon.learn(&plan, &ending(took), now);
        assert_eq!(horizon.plan(Some(&kinds()), 1, now).next_end, Moment(300));
    }
}
