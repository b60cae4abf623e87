//! Stores that failed and came back as they were a while before.
//!
//! Where a store came back, each answer that it gave after a certain moment may be undone. An answer is undone for certain by
//! nothing: whatever came back may have been stored later. So this only takes certainty away (TQ2, TQ5).

use super::{Event, What};

/// All of a history.
#[derive(Debug, Default)]
pub(super) struct Rollbacks(Vec<Rollback>);

#[derive(Clone, Copy, Debug)]
struct Rollback {
    since: u64,
    at: u64,
}

impl Rollbacks {
    pub(super) fn of(events: &[&Event]) -> Self {
        let all = events.iter().filter_map(|event| match event.what {
            What::RolledBack { since } => Some(Rollback {
                since,
                at: event.at,
            }),
            _ => None,
        });
        Self(all.collect())
    }

    /// Whether what was asked for and answered at these times may be undone by the time `by`: the store failed in between,
    /// after it was asked, and came back as it was before it answered.
    pub(super) fn may_undo(&self, asked: u64, answered: u64, by: u64) -> bool {
        self.0
            .iter()
            .any(|rollback| asked <= rollback.at && answered >= rollback.since && rollback.at <= by)
    }
}
