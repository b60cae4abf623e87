//! All that was seen of one job, and what of it must not be.

use super::attempt::{Attempt, End, Faults, Renewal, Settle};
use super::check::Kind;
use super::rollback::Rollbacks;
use super::{Accepted, Event, Left, Outcome, Stored, What};

/// A job's events, put together.
#[derive(Debug, Default)]
pub(super) struct Job<'a> {
    pub(super) events: Vec<&'a Event>,
    pub(super) attempts: Vec<Attempt<'a>>,
    calls: Vec<Call<'a>>,
    again: Vec<u64>,
    pub(super) removing: Option<u64>,
    left: Option<Left>,
    /// What was found while they were put together.
    found: Vec<(Kind, String)>,
}

/// A request to enqueue it.
#[derive(Debug)]
struct Call<'a> {
    by: &'a str,
    asked: u64,
    answer: Option<(u64, Accepted)>,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Dead,
    Waiting,
    Removed,
    Lost,
    /// Nothing, and the store that had promised it came back as it was before.
    Undone,
    /// Nothing, and nothing was promised.
    None,
}

impl<'a> Job<'a> {
    /// Takes the next event in the order of time.
    pub(super) fn add(&mut self, event: &'a Event) {
        self.events.push(event);
        let at = event.at;
        match &event.what {
            What::Enqueueing { .. } => self.calls.push(Call {
                by: &event.by,
                asked: at,
                answer: None,
            }),
            What::Enqueued { answer, .. } => {
                let mut calls = self.calls.iter_mut();
                match calls.find(|call| call.by == event.by && call.answer.is_none()) {
                    Some(call) => call.answer = Some((at, *answer)),
                    None => self.contradicts("an answer to no enqueue"),
                }
            }
            What::Started(started) => {
                if self.attempt(&started.token).is_some() {
                    let told = format!("two claims have the token {}", started.token);
                    self.found.push((Kind::TokenReused, told));
                } else {
                    self.attempts.push(Attempt::new(event, started));
                }
            }
            What::Extended {
                token,
                asked,
                lease,
                ..
            } => self.change(token, |attempt| {
                attempt.renewals.push(Renewal {
                    asked: *asked,
                    granted: at,
                    lease: *lease,
                });
            }),
            What::LeaseLost { token, .. } => {
                self.change(token, |attempt| attempt.lease_lost = true);
            }
            What::Settling { token, outcome, .. } => self.change(token, |attempt| {
                attempt.settles.push(Settle {
                    asked: at,
                    outcome: *outcome,
                    answer: None,
                });
            }),
            What::Settled { token, answer, .. } => {
                let settle = self.attempt(token).and_then(|attempt| {
                    let mut settles = attempt.settles.iter_mut();
                    settles.find(|settle| settle.answer.is_none())
                });
                match settle {
                    Some(settle) => settle.answer = Some((at, *answer)),
                    None => self.contradicts("an answer to no settle"),
                }
            }
            What::Removing { .. } => self.removing = self.removing.or(Some(at)),
            What::Again { .. } => self.again.push(at),
            What::Left { state, .. } => {
                if self.left.replace(*state).is_some() {
                    self.contradicts("it is left twice");
                }
            }
            What::Fault { .. }
            | What::Recovered { .. }
            | What::RolledBack { .. }
            | What::Drained => {}
        }
    }

    fn attempt(&mut self, token: &str) -> Option<&mut Attempt<'a>> {
        let mut attempts = self.attempts.iter_mut();
        attempts.find(|attempt| attempt.of.token == token)
    }

    fn change(&mut self, token: &str, how: impl FnOnce(&mut Attempt<'a>)) {
        match self.attempt(token) {
            Some(attempt) => how(attempt),
            None => self.contradicts("a claim that did not start"),
        }
    }

    fn contradicts(&mut self, what: &str) {
        self.found.push((Kind::Contradiction, what.to_owned()));
    }

    /// The calls that may have put it into the queue.
    fn entries(&self) -> impl Iterator<Item = &Call<'a>> {
        let refused = |call: &&Call<'_>| !matches!(call.answer, Some((_, Accepted::No)));
        self.calls.iter().filter(refused)
    }

    pub(super) fn is_accepted(&self) -> bool {
        let mut calls = self.calls.iter();
        calls.any(|call| matches!(call.answer, Some((_, Accepted::Yes))))
    }

    pub(super) fn is_refused(&self) -> bool {
        !self.calls.is_empty() && self.entries().next().is_none()
    }

    /// How often it may have run to an end: once, and once more whenever it may have come into the queue after that.
    fn times(&self) -> usize {
        let ends = self.attempts.iter().flat_map(|attempt| &attempt.settles);
        let ended = ends.filter(|end| is_over(end.outcome) && !end.is_answered(Stored::Lost));
        let ended = ended.map(|end| end.asked).min().unwrap_or(u64::MAX);
        1 + self.again.len() + self.later_entries(ended).count()
    }

    /// The calls that may have put it into the queue after a settle that was asked for at `ended`; the first is what put it
    /// there before.
    fn later_entries(&self, ended: u64) -> impl Iterator<Item = &Call<'a>> {
        let answered = |call: &Call<'_>| call.answer.map_or(u64::MAX, |(at, _)| at);
        self.entries()
            .skip(1)
            .filter(move |call| answered(call) > ended)
    }

    /// Whether it may have come into the queue once more after that settle, and before `started`.
    fn may_come_again(&self, ended: u64, started: u64) -> bool {
        let mut calls = self.later_entries(ended);
        self.again.iter().any(|again| *again < started) || calls.any(|call| call.asked < started)
    }

    /// Whether each promise that it is in the queue may be undone.
    fn may_be_forgotten(&self, rollbacks: &Rollbacks) -> bool {
        let promised = self.calls.iter().filter_map(|call| match call.answer {
            Some((at, Accepted::Yes)) => Some((call.asked, at)),
            _ => None,
        });
        let mut promised = promised.peekable();
        promised.peek().is_some()
            && promised.all(|(asked, at)| rollbacks.may_undo(asked, at, u64::MAX))
    }

    pub(super) fn fate(&self, rollbacks: &Rollbacks) -> Fate {
        let may_be = |outcome| {
            let mut attempts = self.attempts.iter();
            attempts.any(|attempt| attempt.may_have_stored(outcome))
        };
        match self.left {
            Some(Left::Done) => Fate::Done,
            Some(Left::Dead) => Fate::Dead,
            Some(Left::Waiting) => Fate::Waiting,
            None if may_be(Outcome::Done) => Fate::Done,
            None if self.removing.is_some() => Fate::Removed,
            None if self.may_be_forgotten(rollbacks) => Fate::Undone,
            // Dead letters that nobody removed are told.
            None if self.is_accepted() => Fate::Lost,
            None => Fate::None,
        }
    }

    /// How many times its handler came to a good end that nobody asked for again.
    pub(super) fn extra_runs(&self) -> usize {
        let attempts = self.attempts.iter();
        let ran = attempts.filter(|attempt| attempt.ran_to_the_end()).count();
        ran.saturating_sub(self.times())
    }

    /// All that must not be, by itself.
    pub(super) fn judge(&self, faults: &Faults<'_>, rollbacks: &Rollbacks) -> Vec<(Kind, String)> {
        let mut found = self.found.clone();
        self.judge_entry(&mut found);
        self.judge_claims(faults, rollbacks, &mut found);
        self.judge_end(rollbacks, &mut found);
        found
    }

    fn judge_entry(&self, found: &mut Vec<(Kind, String)>) {
        let first = self.entries().map(|call| call.asked).min();
        let mut starts = self.attempts.iter().map(|attempt| attempt.started);
        let told = match first {
            None if !self.attempts.is_empty() => "it ran and was not enqueued",
            None if self.left.is_some() => "it is left and was not enqueued",
            Some(first) if starts.any(|started| started < first) => "it ran before it was enqueued",
            _ => return,
        };
        found.push((Kind::Unexpected, told.to_owned()));
    }

    fn judge_claims(
        &self,
        faults: &Faults<'_>,
        rollbacks: &Rollbacks,
        found: &mut Vec<(Kind, String)>,
    ) {
        // Each is told once, though several pairs may show it.
        let mut tell = |kind, told: String| {
            if !found.iter().any(|(other, _)| *other == kind) {
                found.push((kind, told));
            }
        };
        for old in &self.attempts {
            let newer = self
                .attempts
                .iter()
                .filter(|new| old.is_surely_older_than(new));
            for new in newer {
                let (this, that) = (&old.of.token, &new.of.token);
                let backwards = old.of.asked.is_some_and(|asked| new.started < asked);
                if backwards {
                    tell(
                        Kind::ClaimsOutOfOrder,
                        format!("claim {this} came after {that}, with a lower number"),
                    );
                }
                if old.is_cut_short_by(new, rollbacks) {
                    tell(
                        Kind::LeaseCutShort,
                        format!("{that} started while the lease of {this} ran"),
                    );
                }
                let mut renewals = old.renewals.iter();
                // Unless the newer claim was undone by then.
                if renewals.any(|renewal| {
                    new.started < renewal.asked && !new.may_be_undone(rollbacks, renewal.granted)
                }) {
                    tell(
                        Kind::StaleRenewal,
                        format!("{this} was renewed after {that} had started"),
                    );
                }
                match old.end(faults, rollbacks, new.started) {
                    End::Open => tell(
                        Kind::Unexplained,
                        format!("{that} started, and nothing ended {this}"),
                    ),
                    End::Explained(_) => {}
                    End::Settled(outcome) => {
                        let settle = old.stored().expect("it is stored");
                        let answered = settle.answer.map_or(u64::MAX, |(at, _)| at);
                        if new.started < settle.asked {
                            if new.may_be_undone(rollbacks, answered) {
                                continue;
                            }
                            tell(
                                Kind::StaleSettle,
                                format!("{this} was settled after {that} had started"),
                            );
                        } else if is_over(outcome)
                            && !self.may_come_again(settle.asked, new.started)
                            && !settle.may_be_undone(rollbacks, new.started)
                        {
                            tell(
                                Kind::RanAfterEnd,
                                format!("{that} started after {this} had ended the job"),
                            );
                        }
                    }
                }
            }
        }
        let count = |matches: &dyn Fn(&Attempt<'_>) -> bool| {
            self.attempts
                .iter()
                .filter(|attempt| matches(attempt))
                .count()
        };
        let times = self.times();
        // What may be undone is judged by pairs, where the order is known.
        let stays = |attempt: &Attempt<'_>| {
            let mut settles = attempt.settles.iter();
            !attempt.may_be_undone(rollbacks, u64::MAX)
                && !settles.any(|settle| settle.may_be_undone(rollbacks, u64::MAX))
        };
        let done = count(&|attempt| attempt.has_stored(Outcome::Done) && stays(attempt));
        if done > times {
            tell(Kind::DoneTwice, format!("{done} claims have stored it"));
        }
        // In whatever order: of two such claims the second had no reason.
        let last = count(&|attempt| match attempt.end(faults, rollbacks, u64::MAX) {
            End::Open => true,
            End::Settled(outcome) => is_over(outcome) && stays(attempt),
            End::Explained(_) => false,
        });
        if last > times {
            tell(
                Kind::Unexplained,
                format!("{last} claims can only be the last one"),
            );
        }
    }

    fn judge_end(&self, rollbacks: &Rollbacks, found: &mut Vec<(Kind, String)>) {
        let stays = |outcome| {
            let mut attempts = self.attempts.iter();
            attempts.any(|attempt| {
                let stored = attempt.stored().filter(|end| end.outcome == outcome);
                stored.is_some_and(|end| {
                    !self.may_come_again(end.asked, u64::MAX)
                        && !end.may_be_undone(rollbacks, u64::MAX)
                })
            })
        };
        let mut attempts = self.attempts.iter();
        let told = match self.left {
            Some(Left::Done) if !attempts.any(|one| one.may_have_stored(Outcome::Done)) => {
                "it is done, and no claim has done it"
            }
            Some(Left::Waiting) if stays(Outcome::Dead) => "it was dead, and is left waiting",
            Some(Left::Waiting | Left::Dead) if stays(Outcome::Done) => {
                "it was done, and is left as if it were not"
            }
            _ => return,
        };
        found.push((Kind::Undone, told.to_owned()));
    }
}

/// Whether nothing comes after such an end.
fn is_over(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Done | Outcome::Dead)
}
