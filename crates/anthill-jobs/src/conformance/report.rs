//! How the checks of a suite ended.

use super::check::Check;
use crate::broker::{Capabilities, Capability};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The broker does what it is to do.
    Passed,
    /// The check was not run, for this reason.
    LeftOut(String),
    /// The broker does something else.
    Failed(String),
}

/// What a suite found: how each check ended. It prints as a summary.
#[derive(Debug)]
pub struct Report {
    capabilities: Capabilities,
    outcomes: Vec<(&'static Check, Outcome)>,
}

impl Report {
    pub(super) fn new(
        capabilities: Capabilities,
        outcomes: Vec<(&'static Check, Outcome)>,
    ) -> Report {
        Report {
            capabilities,
            outcomes,
        }
    }

    /// Returns how each check ended.
    pub fn outcomes(&self) -> &[(&'static Check, Outcome)] {
        &self.outcomes
    }

    /// Returns how many checks passed.
    pub fn passed(&self) -> usize {
        let passed = |(_, outcome): &&(&Check, Outcome)| *outcome == Outcome::Passed;
        self.outcomes.iter().filter(passed).count()
    }

    /// Returns the checks that were not run, and why.
    pub fn left_out(&self) -> impl Iterator<Item = (&'static Check, &str)> {
        self.outcomes.iter().filter_map(|(check, how)| match how {
            Outcome::LeftOut(why) => Some((*check, &**why)),
            _ => None,
        })
    }

    /// Returns the checks that failed, and why.
    pub fn failed(&self) -> impl Iterator<Item = (&'static Check, &str)> {
        self.outcomes.iter().filter_map(|(check, how)| match how {
            Outcome::Failed(why) => Some((*check, &**why)),
            _ => None,
        })
    }

    /// Returns the capabilities that the broker claims and of which no check was run, as the fixture had not the means.
    pub fn unchecked(&self) -> Vec<Capability> {
        let was_run = |capability: Capability| {
            self.outcomes.iter().any(|(check, how)| {
                check.needs().contains(&capability) && !matches!(how, Outcome::LeftOut(_))
            })
        };
        let claimed = Capability::ALL.iter().copied();
        let claimed = claimed.filter(|&one| self.capabilities.has(one));
        claimed.filter(|&one| !was_run(one)).collect()
    }

    pub(super) fn failures(&self) -> String {
        let mut text = String::new();
        for (check, why) in self.failed() {
            let _ = writeln!(text, "{}::{}: {why}", check.concern(), check.name());
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, why) in self.left_out() {
            *left_out.entry(why).or_default() += 1;
        }
        writeln!(
            f,
            "conformance of the {} broker: {} checks passed, {} failed, {} left out",
            self.capabilities.name,
            self.passed(),
            self.failed().count(),
            self.left_out().count(),
        )?;
        for (why, number) in left_out {
            writeln!(f, "  {number} left out: {why}")?;
        }
        for capability in self.unchecked() {
            writeln!(f, "  claimed, and not checked: {}", capability.what())?;
        }
        Ok(())
    }
}
