//! The books of a history: what came in, what came out, and what happened in between.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::{Display, Formatter};

use super::Outcome;
use super::attempt::{Attempt, End, Faults, Reason};
use super::job::{Fate, Job};
use super::rollback::Rollbacks;

/// Counts of jobs, and of claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Jobs whose enqueue was acknowledged.
    pub enqueued: usize,
    /// Jobs of which no enqueue was acknowledged, and which may be in the queue.
    pub unknown: usize,
    /// Of these, those that are known to have been.
    pub appeared: usize,
    /// Jobs that were refused.
    pub refused: usize,
    /// Jobs that are done.
    pub done: usize,
    /// Jobs that are dead letters.
    pub dead: usize,
    /// Jobs that wait at the end.
    pub waiting: usize,
    /// Jobs that were removed by request.
    pub removed: usize,
    /// Jobs that were acknowledged and are nowhere.
    pub lost: usize,
    /// Jobs that were acknowledged and are nowhere, where the store that had acknowledged them came back as it was before.
    pub forgotten: usize,
    /// Claims in all.
    pub claims: usize,
    /// Claims after which the job was to be tried again.
    pub retried: usize,
    /// Claims that were handed back.
    pub handed_back: usize,
    /// Claims that were followed by another though nobody gave the job back: the sum of those below.
    pub duplicates: usize,
    /// The consumer learned that its lease was lost.
    pub lease_lost: usize,
    /// The consumer was killed.
    pub killed: usize,
    /// Nobody knows whether the settle is stored.
    pub unknown_settle: usize,
    /// The consumer was stopped.
    pub frozen: usize,
    /// The consumer did not reach the broker.
    pub cut_off: usize,
    /// The store came back as it was before the claim.
    pub undone: usize,
    /// Nothing explains it, which is a violation.
    pub unexplained: usize,
    /// How often a handler came to its good end once more.
    pub extra_runs: usize,
}

impl Books {
    pub(super) fn of(
        jobs: &BTreeMap<&str, Job<'_>>,
        faults: &Faults<'_>,
        rollbacks: &Rollbacks,
    ) -> Self {
        let mut books = Self::default();
        for job in jobs.values() {
            books.add(job, faults, rollbacks);
        }
        books
    }

    fn add(&mut self, job: &Job<'_>, faults: &Faults<'_>, rollbacks: &Rollbacks) {
        let fate = job.fate(rollbacks);
        if job.is_accepted() {
            self.enqueued += 1;
        } else if job.is_refused() {
            self.refused += 1;
        } else {
            self.unknown += 1;
            self.appeared += usize::from(fate != Fate::None);
        }
        match fate {
            Fate::Done => self.done += 1,
            Fate::Dead => self.dead += 1,
            Fate::Waiting => self.waiting += 1,
            Fate::Removed => self.removed += 1,
            Fate::Lost => self.lost += 1,
            Fate::Undone => self.forgotten += 1,
            Fate::None => {}
        }
        self.claims += job.attempts.len();
        self.extra_runs += job.extra_runs();
        let mut order: Vec<&Attempt<'_>> = job.attempts.iter().collect();
        order.sort_by_key(|attempt| (attempt.of.claim, attempt.started));
        for pair in order.windows(2) {
            let of_reason = match pair[0].end(faults, rollbacks, pair[1].started) {
                End::Settled(Outcome::Retry) => {
                    self.retried += 1;
                    continue;
                }
                End::Settled(Outcome::HandedBack) => {
                    self.handed_back += 1;
                    continue;
                }
                // By request, or else it is told as what it is.
                End::Settled(Outcome::Done | Outcome::Dead) => continue,
                End::Explained(Reason::LeaseLost) => &mut self.lease_lost,
                End::Explained(Reason::Killed) => &mut self.killed,
                End::Explained(Reason::UnknownSettle) => &mut self.unknown_settle,
                End::Explained(Reason::Frozen) => &mut self.frozen,
                End::Explained(Reason::CutOff) => &mut self.cut_off,
                End::Explained(Reason::Undone) => &mut self.undone,
                End::Open => &mut self.unexplained,
            };
            *of_reason += 1;
            self.duplicates += 1;
        }
    }
}

impl Display for Books {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            enqueued,
            unknown,
            appeared,
            refused,
            done,
            dead,
            waiting,
            removed,
            lost,
            forgotten,
            claims,
            retried,
            handed_back,
            duplicates,
            lease_lost,
            killed,
            unknown_settle,
            frozen,
            cut_off,
            undone,
            unexplained,
            extra_runs,
        } = self;
        write!(
            to,
            "enqueued {enqueued} (and {appeared} of {unknown} whose answer is unknown; {refused} refused), \
             done {done}, dead {dead}, waiting {waiting}, removed {removed}, lost {lost}, forgotten {forgotten}\n\
             claims {claims}: {retried} to be tried again, {handed_back} handed back, duplicates {duplicates} \
             (lease lost {lease_lost}, killed {killed}, settle unknown {unknown_settle}, frozen {frozen}, \
             cut off {cut_off}, undone {undone}, unexplained {unexplained}); ran to the end once more {extra_runs}"
        )
    }
}
