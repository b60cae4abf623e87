//! One claim of a job, from its start to its end.

use std::collections::HashMap;

use super::rollback::Rollbacks;
use super::{Event, Fault, Outcome, Started, Stored, What};

/// A claim, and all that was seen of it.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) by: &'a str,
    pub(super) of: &'a Started,
    /// When its consumer had it; it was claimed before.
    pub(super) started: u64,
    pub(super) renewals: Vec<Renewal>,
    pub(super) lease_lost: bool,
    pub(super) settles: Vec<Settle>,
}

/// A lease that was granted once more.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) asked: u64,
    pub(super) granted: u64,
    pub(super) lease: u64,
}

/// A request to settle.
#[derive(Debug)]
pub(super) struct Settle {
    pub(super) asked: u64,
    pub(super) outcome: Outcome,
    /// When it came, and what it was.
    pub(super) answer: Option<(u64, Stored)>,
}

impl Settle {
    pub(super) fn is_answered(&self, answer: Stored) -> bool {
        self.answer.is_some_and(|(_, said)| said == answer)
    }

    /// Whether a store that failed may have undone it by the time `by`.
    pub(super) fn may_be_undone(&self, rollbacks: &Rollbacks, by: u64) -> bool {
        let answered = self.answer.map_or(u64::MAX, |(at, _)| at);
        rollbacks.may_undo(self.asked, answered, by)
    }
}

/// How a claim ended, as far as the broker's reasons to give the job to somebody else go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By a settle that is stored.
    Settled(Outcome),
    /// By something that may have ended the lease, or stored a settle whose answer was lost.
    Explained(Reason),
    /// Nothing is known of an end.
    Open,
}

/// Why a job may come again that nobody gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    LeaseLost,
    Killed,
    UnknownSettle,
    Frozen,
    CutOff,
    /// The store came back as it was before the claim.
    Undone,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(event: &'a Event, of: &'a Started) -> Self {
        Self {
            by: &event.by,
            of,
            started: event.at,
            renewals: Vec::new(),
            lease_lost: false,
            settles: Vec::new(),
        }
    }

    /// The first moment at which the lease may be over: each is counted from before its request. Of renewals those count that
    /// were granted by the time `by`. None if leases are not known.
    pub(super) fn lease_end(&self, by: u64) -> Option<u64> {
        self.lease_end_of(by, |_| true)
    }

    fn lease_end_of(&self, by: u64, counts: impl Fn(&Renewal) -> bool) -> Option<u64> {
        let renewals = self.renewals.iter();
        let renewed = renewals
            .filter(|renewal| renewal.granted <= by && counts(renewal))
            .map(|renewal| renewal.asked + renewal.lease);
        let claimed = self.of.asked.zip(self.of.lease);
        renewed
            .chain(claimed.map(|(asked, lease)| asked + lease))
            .max()
    }

    /// Whether it is certain that the job was claimed by `newer` while this claim's lease ran, and nothing had been sent that
    /// might end it.
    pub(super) fn is_cut_short_by(&self, newer: &Self, rollbacks: &Rollbacks) -> bool {
        if self.may_be_undone(rollbacks, newer.started) {
            return false;
        }
        let end = self.lease_end_of(newer.of.asked.unwrap_or(0), |renewal| {
            !rollbacks.may_undo(renewal.asked, renewal.granted, newer.started)
        });
        let mut settles = self.settles.iter();
        end.is_some_and(|end| newer.started < end)
            && !settles.any(|settle| settle.asked < newer.started)
    }

    /// Whether a store that failed may have undone the claim by the time `by`.
    pub(super) fn may_be_undone(&self, rollbacks: &Rollbacks, by: u64) -> bool {
        rollbacks.may_undo(self.of.asked.unwrap_or(0), self.started, by)
    }

    /// The settle that is stored.
    pub(super) fn stored(&self) -> Option<&Settle> {
        let mut settles = self.settles.iter();
        settles.find(|settle| settle.is_answered(Stored::Yes))
    }

    /// Whether it may have ended the job with this outcome.
    pub(super) fn may_have_stored(&self, outcome: Outcome) -> bool {
        let mut settles = self.settles.iter();
        settles.any(|settle| settle.outcome == outcome && !settle.is_answered(Stored::Lost))
    }

    pub(super) fn has_stored(&self, outcome: Outcome) -> bool {
        self.stored()
            .is_some_and(|settle| settle.outcome == outcome)
    }

    /// Whether its handler came to a good end.
    pub(super) fn ran_to_the_end(&self) -> bool {
        let mut settles = self.settles.iter();
        settles.any(|settle| settle.outcome == Outcome::Done)
    }

    /// Whether it is certain that this claim was made before the other one, of the same job.
    pub(super) fn is_surely_older_than(&self, other: &Self) -> bool {
        match (self.of.claim, other.of.claim) {
            (Some(this), Some(other)) if this != other => this < other,
            _ => other.of.asked.is_some_and(|asked| self.started < asked),
        }
    }

    /// How it had ended when another claim had started, at the time `by`. What came later explains nothing, where the history
    /// knows of leases; otherwise the lease may have been over before.
    pub(super) fn end(&self, faults: &Faults<'_>, rollbacks: &Rollbacks, by: u64) -> End {
        if let Some(settle) = self.stored() {
            return End::Settled(settle.outcome);
        }
        let lease_end = self.lease_end(u64::MAX);
        let by = if lease_end.is_some() { by } else { u64::MAX };
        let is_killed = faults.killed_at(self.by).is_some_and(|at| at <= by);
        let is_answered = |answer| {
            let mut settles = self.settles.iter();
            settles
                .any(|settle| settle.asked <= by && settle.answer.map(|(_, said)| said) == answer)
        };
        let is_refused = |settle: &Settle| settle.is_answered(Stored::Lost);
        let is_unknown = is_answered(Some(Stored::Unknown)) || (is_answered(None) && !is_killed);
        let reason = if is_unknown {
            Reason::UnknownSettle
        } else if self.lease_lost || self.settles.iter().any(is_refused) {
            Reason::LeaseLost
        } else if is_killed {
            Reason::Killed
        } else if self.may_be_undone(rollbacks, by) {
            Reason::Undone
        } else {
            match faults.between(self.by, self.started, by) {
                Some(Fault::CutOff) => Reason::CutOff,
                Some(_) => Reason::Frozen,
                None if lease_end.is_some_and(|end| end <= by) => Reason::LeaseLost,
                None => return End::Open,
            }
        };
        End::Explained(reason)
    }
}

/// What was done to which process, from when to when.
#[derive(Debug, Default)]
pub(super) struct Faults<'a>(HashMap<&'a str, Vec<Span>>);

/// From when to when; none if it is not known to be over.
type Span = (Fault, u64, Option<u64>);

impl<'a> Faults<'a> {
    /// From events in the order of time.
    pub(super) fn of(events: &[&'a Event]) -> Self {
        let mut faults = Self::default();
        for event in events {
            match &event.what {
                What::Fault { of, fault } => {
                    let all = faults.0.entry(of).or_default();
                    all.push((*fault, event.at, None));
                }
                What::Recovered { of } => {
                    let all = faults.0.entry(of).or_default().iter_mut();
                    for (_, _, to) in all.filter(|(_, _, to)| to.is_none()) {
                        *to = Some(event.at);
                    }
                }
                _ => {}
            }
        }
        faults
    }

    fn of_process(&self, name: &str) -> impl Iterator<Item = &Span> {
        self.0.get(name).into_iter().flatten()
    }

    pub(super) fn killed_at(&self, name: &str) -> Option<u64> {
        self.of_process(name)
            .find(|(fault, ..)| *fault == Fault::Killed)
            .map(|(_, from, _)| *from)
    }

    /// A fault of this process that began before one time, and was not over at another.
    fn between(&self, name: &str, over: u64, begun: u64) -> Option<Fault> {
        self.of_process(name)
            .find(|(_, from, to)| *from <= begun && to.is_none_or(|to| to >= over))
            .map(|(fault, ..)| *fault)
    }
}
