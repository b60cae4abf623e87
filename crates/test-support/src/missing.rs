//! What a test needs and this machine has not.
//!
//! A test that cannot run is skipped loudly: a line on standard error that the harness does not capture. Where the
//! environment says `CI=true` it fails instead, if what is missing can be installed: there `.ci/services install` has run
//! before the tests, so that a skip would mean that CI proves less than it says.

use std::fmt::{Display, Formatter};
use std::io::Write;
use std::{error, fmt, thread};

/// What is missing, and whether it can be installed. Displayed in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    what: String,
    installable: bool,
}

impl Missing {
    /// A program that `.ci/services install` installs.
    pub fn program(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            installable: true,
        }
    }

    /// Something that this system or this user does not permit; nothing that is installed changes that.
    pub fn permission(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            installable: false,
        }
    }

    /// Whether a test that needs it must run where the environment says `CI=true`.
    pub fn is_installable(&self) -> bool {
        self.installable
    }
}

impl Display for Missing {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        to.write_str(&self.what)?;
        if self.installable {
            to.write_str(" (`.ci/services install` installs it)")?;
        }
        Ok(())
    }
}

impl error::Error for Missing {}

/// Tells on standard error that the calling test is skipped, and why; panics instead where the environment says `CI=true`
/// and what is missing can be installed.
#[track_caller]
pub fn skip(missing: &Missing) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(
        !(in_ci && missing.installable),
        "{test} must not be skipped where CI=true: {missing}"
    );
    // Not by a macro, whose output the harness would capture.
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {missing}\n").as_bytes());
}

/// What is in the `Ok`; or else [skips](skip) the calling test, which returns nothing.
///
/// ```
/// use anthill_test_support::missing::Missing;
/// use anthill_test_support::skip_unless;
///
/// fn test_that_needs(found: Result<u32, Missing>) {
///     let found = skip_unless!(found);
///     assert_eq!(found, 1);
/// }
/// test_that_needs(Ok(1));
/// test_that_needs(Err(Missing::permission("no second machine")));
/// ```
#[macro_export]
macro_rules! skip_unless {
    ($found:expr) => {
        match $found {
            Ok(found) => found,
            Err(missing) => {
                $crate::missing::skip(&missing);
                return;
            }
        }
    };
}
