//! The checks of the suite, each with what it needs, and how they are run.

use super::bench::{Factory, Lab};
use super::fixture::{Fixture, Means};
use super::report::{Outcome, Report};
use super::table::CHECKS;
use crate::broker::{Capabilities, Capability, Durability};
use crate::sync::lock;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a check may take beside what it waits for on a real clock.
const LIMIT: Duration = Duration::from_secs(300);

/// A check of the suite: one promise of the rules B1–B12, or of a capability.
pub struct Check {
    pub(super) name: &'static str,
    pub(super) concern: &'static str,
    pub(super) needs: &'static [Capability],
    pub(super) means: &'static [Means],
    pub(super) advances: Duration,
    pub(super) run: fn(&Lab),
}

impl Check {
    /// Returns its name, which says what it checks.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the name of the group that it belongs to.
    pub fn concern(&self) -> &'static str {
        self.concern
    }

    /// Returns the capabilities that a broker must have to be asked for it.
    pub fn needs(&self) -> &'static [Capability] {
        self.needs
    }

    /// Returns what a fixture must be able to do for it.
    pub fn means(&self) -> &'static [Means] {
        self.means
    }

    /// Returns by how much it advances the clock at most.
    pub fn advances(&self) -> Duration {
        self.advances
    }

    /// Runs the check on brokers of fixtures that `new` makes, and returns how it ended. It does not panic.
    pub fn run<F: Fixture>(&'static self, new: impl Fn() -> F + Send + Sync + 'static) -> Outcome {
        let new = factory(new);
        match self.try_run(&new) {
            Ok(outcome) => outcome,
            Err(panic) => Outcome::Failed(message(&*panic)),
        }
    }

    /// Runs the check, whose panic is the error.
    fn try_run(&'static self, new: &Arc<Factory>) -> Result<Outcome, Box<dyn Any + Send>> {
        let new = Arc::clone(new);
        let (sender, result) = channel();
        let name = format!("{}::{}", self.concern, self.name);
        let body = move || {
            let run = || {
                let fixture = new();
                if let Some(why) = self.left_out(&*fixture) {
                    return Outcome::LeftOut(why);
                }
                let lab = Lab::new(new, fixture);
                (self.run)(&lab);
                let moved = lab.moved();
                let most = self.advances;
                assert!(moved <= most, "it advances by {moved:?}, not {most:?}");
                Outcome::Passed
            };
            let _ = sender.send(catch_unwind(AssertUnwindSafe(run)));
        };
        let spawned = std::thread::Builder::new().name(name).spawn(body);
        if let Err(error) = spawned {
            return Ok(Outcome::Failed(format!("no thread for it: {error}")));
        }
        let limit = LIMIT + self.advances.min(LIMIT);
        result
            .recv_timeout(limit)
            .unwrap_or_else(|_| Ok(Outcome::Failed(format!("not done after {limit:?}"))))
    }

    /// Why it is not for such a broker, if it is not.
    fn left_out(&self, fixture: &dyn Fixture) -> Option<String> {
        if let Some(missing) = fixture.missing() {
            return Some(missing);
        }
        let capabilities = fixture.open().capabilities();
        let lacked = self.needs.iter().find(|&&need| !capabilities.has(need));
        if let Some(lacked) = lacked {
            return Some(format!("the broker does not claim {}", lacked.what()));
        }
        for &means in self.means {
            if means == Means::Restart {
                if capabilities.durability == Durability::None {
                    return Some("the broker's jobs survive no restart".to_owned());
                }
            } else if !fixture.means().contains(&means) {
                return Some(format!("the fixture has no {}", means.what()));
            }
        }
        let patience = fixture.patience();
        let is_long = self.advances > patience;
        is_long.then(|| format!("the fixture has no patience for more than {patience:?}"))
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("concern", &self.concern)
            .field("needs", &self.needs)
            .field("means", &self.means)
            .field("advances", &self.advances)
            .finish_non_exhaustive()
    }
}

/// Returns all checks of the suite.
pub fn checks() -> &'static [Check] {
    CHECKS
}

/// Runs all checks that a broker's capabilities promise and a fixture has the means for, on brokers that `new` makes, and
/// prints what was run, what was left out, and why.
///
/// # Panics
///
/// With the list of the checks that failed, and why, if any did.
pub fn run<F: Fixture>(new: impl Fn() -> F + Send + Sync + 'static) -> Report {
    let report = examine(new);
    eprintln!("{report}");
    let failed = report.failed().count();
    assert!(
        failed == 0,
        "{failed} checks failed:\n{}",
        report.failures()
    );
    report
}

/// Runs the checks as [`run`] does, and returns how they ended, also if some failed.
pub fn examine<F: Fixture>(new: impl Fn() -> F + Send + Sync + 'static) -> Report {
    let new = factory(new);
    let fixture = new();
    let capabilities = match fixture.missing() {
        None => fixture.open().capabilities(),
        Some(_) => Capabilities::new("a broker that is missing", Durability::None),
    };
    let threads = fixture.threads().max(1);
    drop(fixture);
    let next = Mutex::new(CHECKS.iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((number, check)) = lock(&next).next() else {
                        return;
                    };
                    let ended = check.try_run(&new);
                    let outcome = ended.unwrap_or_else(|panic| Outcome::Failed(message(&*panic)));
                    lock(&outcomes).push((number, check, outcome));
                }
            });
        }
    });
    let mut outcomes = std::mem::take(&mut *lock(&outcomes));
    outcomes.sort_by_key(|&(number, ..)| number);
    let outcomes = outcomes.into_iter().map(|(_, check, how)| (check, how));
    Report::new(capabilities, outcomes.collect())
}

/// Runs one check as a test, for [`conformance_tests!`](crate::conformance_tests).
#[doc(hidden)]
#[track_caller]
pub fn test<F: Fixture>(concern: &str, name: &str, new: impl Fn() -> F + Send + Sync + 'static) {
    let is_it = |check: &&Check| check.concern == concern && check.name == name;
    let check = CHECKS.iter().find(is_it).expect("a check of the suite");
    match check.try_run(&factory(new)) {
        Ok(Outcome::Passed) => {}
        Ok(Outcome::LeftOut(why)) => eprintln!("left out: {why}"),
        Ok(Outcome::Failed(why)) => panic!("{why}"),
        Err(panic) => resume_unwind(panic),
    }
}

fn factory<F: Fixture>(new: impl Fn() -> F + Send + Sync + 'static) -> Arc<Factory> {
    Arc::new(move || Arc::new(new()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    crate::panics::message_of(panic)
        .unwrap_or("a panic without a message")
        .to_owned()
}
