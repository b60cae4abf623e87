//! The conformance suite itself: it catches each capability that a broker claims and does not have, asks no broker for what it
//! does not claim, and can be run over a real clock.
//!
//! A [`Liar`](liar::Liar) is the broker in memory with some of its capabilities taken away, as an engine without them would
//! behave: it has no priorities, say, or takes a settlement for the newest one whatever its token is.

#[path = "conformance/admin.rs"]
mod admin;
#[path = "conformance/broken.rs"]
mod broken;
#[path = "conformance/fixture.rs"]
mod fixture;
#[path = "conformance/liar.rs"]
mod liar;

use anthill_jobs::conformance::{self, Check, Fixture, Means, Outcome};
use anthill_jobs::{Broker, Capability, Clock, MemoryBroker};
use broken::{Break, Handles};
use fixture::Bench;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// The checks that need a capability, those first that need little beside it.
fn checks_of(capability: Capability) -> Vec<&'static Check> {
    let needs_it = |check: &&Check| check.needs().contains(&capability);
    let mut checks: Vec<&Check> = conformance::checks().iter().filter(needs_it).collect();
    checks.sort_by_key(|check| check.needs().len());
    checks
}

/// Mutants of the suite, as it were: whatever is claimed and not there is seen by a check that needs it.
#[test]
fn each_capability_that_is_claimed_and_not_there_is_caught() {
    let mut uncaught = Vec::new();
    for &lie in Capability::ALL {
        let caught = checks_of(lie).into_iter().find_map(|check| {
            let outcome = check.run(move || Bench::that_claims(lie));
            matches!(outcome, Outcome::Failed(_)).then_some((check, outcome))
        });
        match caught {
            Some((check, Outcome::Failed(why))) => {
                let why = why.lines().next().unwrap_or_default();
                eprintln!("{lie:?}: {}::{}: {why}", check.concern(), check.name());
            }
            _ => uncaught.push(lie),
        }
    }
    assert!(
        uncaught.is_empty(),
        "claimed without being there: {uncaught:?}"
    );
}

/// The checks that each of these is caught by pass where it is there.
#[test]
fn who_has_what_it_claims_passes() {
    let honest = || Bench::without(&[]);
    let has = honest().capabilities();
    let report = conformance::examine(honest);
    let failed: Vec<_> = report.failed().collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let unchecked = report.unchecked();
    assert!(
        unchecked.is_empty(),
        "claimed and not checked: {unchecked:?}"
    );
    assert!(has.has(Capability::Fenced));
}

/// Without each by itself: nothing of the suite fails.
#[test]
fn who_claims_less_is_asked_for_no_more() {
    let mut failed = Vec::new();
    for &lacked in Capability::ALL {
        let without = move || Bench::without(&[lacked]);
        for check in conformance::checks() {
            // The long ones need nothing that the others do not.
            if check.concern() == "random" || check.name().starts_with("many_") {
                continue;
            }
            if let Outcome::Failed(why) = check.run(without) {
                let (concern, name) = (check.concern(), check.name());
                failed.push(format!("without {lacked:?} {concern}::{name} fails: {why}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// And without any.
#[test]
fn who_claims_nothing_is_asked_for_the_core_alone() {
    let report = conformance::run(|| Bench::without(Capability::ALL));
    assert!(report.passed() > 30, "{report}");
    for (check, why) in report.left_out() {
        let is_core = check.needs().is_empty();
        let survives = check.means().contains(&Means::Restart);
        assert!(!is_core || survives, "{check:?} is left out: {why}");
    }
}

// ── rules ───────────────────────────────────────────────────────────────────────────────────────

/// Rules of the core, for which no capability is claimed.
#[test]
fn each_rule_that_is_broken_is_caught() {
    let mut uncaught = Vec::new();
    for &breaks in Break::ALL {
        let caught = conformance::checks().iter().find_map(|check| {
            let outcome = check.run(move || Handles::new(breaks));
            matches!(outcome, Outcome::Failed(_)).then_some((check, outcome))
        });
        match caught {
            Some((check, Outcome::Failed(why))) => {
                let why = why.lines().next().unwrap_or_default();
                eprintln!("{breaks:?}: {}::{}: {why}", check.concern(), check.name());
            }
            _ => uncaught.push(breaks),
        }
    }
    assert!(uncaught.is_empty(), "broken, and not seen: {uncaught:?}");
}

// ── clocks ──────────────────────────────────────────────────────────────────────────────────────

/// Each check that does not ask for a clock that stands still passes on one that goes on by a millisecond with each call, by
/// which a real one may be ahead on a busy machine.
#[test]
fn who_has_a_clock_that_goes_on_passes() {
    let report = conformance::examine(Bench::with_a_clock_that_goes_on);
    let failed: Vec<_> = report
        .failed()
        .map(|(check, why)| (check.name(), why))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let unchecked = report.unchecked();
    // Those need times that are exact.
    let needs_still = [Capability::Rate, Capability::Retention];
    let unchecked = unchecked.iter().filter(|one| !needs_still.contains(one));
    assert_eq!(unchecked.count(), 0, "{report}");
    assert!(report.passed() > 150, "{report}");
}

/// Over a real clock the suite waits, as long as the fixture has the patience for.
#[test]
fn who_has_a_real_clock_is_waited_for() {
    let report = conformance::run(|| Waits(Arc::new(MemoryBroker::new(Clock::system()))));
    assert!(report.passed() > 100, "{report}");
    let too_long = |why: &str| why.contains("patience");
    assert!(report.left_out().any(|(_, why)| too_long(why)), "{report}");
}

struct Waits(Arc<MemoryBroker>);

impl Fixture for Waits {
    fn open(&self) -> Arc<dyn Broker> {
        self.0.clone()
    }

    fn advance(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }

    /// They sleep, mostly.
    fn threads(&self) -> usize {
        16
    }
}

/// A server that is not installed, say.
#[test]
fn where_something_is_missing_all_is_left_out_and_nothing_asked() {
    let report = conformance::run(|| Lacks);
    let missing = |(_, why): (_, &str)| why == "no server is installed";
    assert!(report.left_out().all(missing), "{report}");
    assert_eq!(report.left_out().count(), conformance::checks().len());
}

struct Lacks;

impl Fixture for Lacks {
    fn open(&self) -> Arc<dyn Broker> {
        panic!("there is no server");
    }

    fn advance(&self, _: Duration) {
        panic!("there is no clock");
    }

    fn missing(&self) -> Option<String> {
        Some("no server is installed".to_owned())
    }
}

// ── reports ─────────────────────────────────────────────────────────────────────────────────────

/// Also one that fails is run to the end.
#[test]
fn a_run_panics_at_its_end_with_what_failed_and_why() {
    let run = || conformance::run(|| Bench::that_claims(Capability::Priority));
    let panic = std::panic::catch_unwind(run).expect_err("it has no priorities");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("checks failed:"), "{text}");
    let name = "enqueue::who_has_the_higher_priority_goes_first: assertion";
    assert!(text.contains(name), "{text}");
    let others = text.lines().filter(|line| line.contains("::")).count();
    assert!(others > 3, "it went on: {text}");
}

#[test]
fn a_report_tells_what_was_left_out_and_why() {
    let report = conformance::examine(|| Bench::without(&[Capability::Priority]));
    let text = report.to_string();
    let passed = format!("{} checks passed, 0 failed", report.passed());
    assert!(text.contains(&passed), "{text}");
    let why = "left out: the broker does not claim priorities";
    assert!(text.contains(why), "{text}");
    let all = report.passed() + report.left_out().count();
    assert_eq!(all, conformance::checks().len());
    assert_eq!(report.outcomes().len(), all);
}

/// Each is found by its name: a test is made of it.
#[test]
fn no_two_checks_have_the_same_name() {
    let name = |check: &'static Check| (check.concern(), check.name());
    let names: HashSet<_> = conformance::checks().iter().map(name).collect();
    assert_eq!(names.len(), conformance::checks().len());
}
