//! The verdict on a history.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::{Display, Formatter};

use super::attempt::Faults;
use super::books::Books;
use super::job::{Fate, Job};
use super::rollback::Rollbacks;
use super::{Event, What, limits};

/// How many violations are told with their events.
const TOLD: usize = 10;

/// What else a history has to keep to.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(super) running: Option<usize>,
    per_key: Option<usize>,
    keys: BTreeMap<String, usize>,
}

impl Rules {
    /// At most so many jobs run at once.
    #[must_use]
    pub fn running(mut self, limit: usize) -> Self {
        self.running = Some(limit);
        self
    }

    /// Of each key at most so many jobs run at once.
    #[must_use]
    pub fn per_key(mut self, limit: usize) -> Self {
        self.per_key = Some(limit);
        self
    }

    /// Of this key at most so many, whatever holds for the others.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>, limit: usize) -> Self {
        self.keys.insert(key.into(), limit);
        self
    }

    pub(super) fn limit_of(&self, key: &str) -> Option<usize> {
        self.keys.get(key).copied().or(self.per_key)
    }
}

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A job was acknowledged, and is neither done nor left nor removed.
    Lost,
    /// A job ran, or is left, that was never enqueued, or only with a refusal, or not yet.
    Unexpected,
    /// A claim started although nothing had ended the one before: no settle, lost lease, kill, or other fault.
    Unexplained,
    /// A job was claimed while the lease of another claim ran, and nobody had given it back.
    LeaseCutShort,
    /// A job was claimed after it had been done or had died, and nobody asked for that.
    RanAfterEnd,
    /// A job was stored as done by more than one claim.
    DoneTwice,
    /// A settle was stored although it was sent when a newer claim had been made.
    StaleSettle,
    /// A lease was renewed although that was asked for when a newer claim had been made.
    StaleRenewal,
    /// Two claims of a job have the same token.
    TokenReused,
    /// A claim has a lower number than one that was made before it.
    ClaimsOutOfOrder,
    /// What is left of a job contradicts what was stored.
    Undone,
    /// More jobs ran at once than a limit lets.
    OverLimit,
    /// The history does not say what was left in the end, or goes on after that.
    NotDrained,
    /// The events do not go together: their recorder is at fault, and nothing is proven.
    Contradiction,
}

/// Something that must not be, with the events that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it is.
    pub kind: Kind,
    /// The job, or the key; nothing where it is about all.
    pub of: String,
    /// What was seen.
    pub told: String,
    /// All events of the job.
    pub events: Vec<Event>,
}

impl Display for Violation {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        write!(to, "{:?} {}: {}", self.kind, self.of, self.told)?;
        for event in &self.events {
            write!(to, "\n    {event}")?;
        }
        Ok(())
    }
}

/// The books of a history, and all that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The books.
    pub books: Books,
    /// The violations; none if the history is valid.
    pub violations: Vec<Violation>,
}

impl Report {
    /// Panics with the books and the violations if there are any.
    #[track_caller]
    pub fn assert_valid(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }
}

impl Display for Report {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        write!(to, "{}", self.books)?;
        if !self.violations.is_empty() {
            write!(to, "\nINVALID, {} violations:", self.violations.len())?;
        }
        for violation in self.violations.iter().take(TOLD) {
            write!(to, "\n{violation}")?;
        }
        Ok(())
    }
}

/// Judges events, in whatever order they come.
pub(super) fn check(events: &[Event], rules: &Rules) -> Report {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| event.at);
    let faults = Faults::of(&events);
    let rollbacks = Rollbacks::of(&events);
    let mut jobs: BTreeMap<&str, Job<'_>> = BTreeMap::new();
    for event in &events {
        if let Some(name) = event.what.job() {
            jobs.entry(name).or_default().add(event);
        }
    }
    let is_drained = events.last().is_some_and(|last| last.what == What::Drained);

    let mut violations = Vec::new();
    for (name, job) in &jobs {
        let mut found = job.judge(&faults, &rollbacks);
        if is_drained && job.fate(&rollbacks) == Fate::Lost {
            found.push((Kind::Lost, "it is neither over nor left".to_owned()));
        }
        violations.extend(found.into_iter().map(|(kind, told)| Violation {
            kind,
            of: (*name).to_owned(),
            told,
            events: job.events.iter().map(|event| (*event).clone()).collect(),
        }));
    }
    let of_limits = limits::judge(&jobs, &faults, &rollbacks, rules);
    violations.extend(of_limits.into_iter().map(|(key, told)| Violation {
        kind: Kind::OverLimit,
        of: key.map_or_else(String::new, |key| format!("key {key}")),
        told,
        events: Vec::new(),
    }));
    if !is_drained {
        violations.push(Violation {
            kind: Kind::NotDrained,
            of: String::new(),
            told: "the last event is not that all was told that is left".to_owned(),
            events: Vec::new(),
        });
    }
    violations.sort_by_key(|violation| violation.kind);
    Report {
        books: Books::of(&jobs, &faults, &rollbacks),
        violations,
    }
}
