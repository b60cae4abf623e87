//! Several pools as one: submitters wait in one line, and a pool that has room takes the oldest of them.
//!
//! - F1: The line is that of the lead, the first pool. A submitter that finds no room in any pool joins it and then
//!   has all members look; a thread that gives a place back in a member looks at the lead's line afterwards. The one
//!   sets `LINE` before it looks for room, the other makes room before it looks for `LINE`: one sees the other.
//! - F2: While there is a line, tasks enter only from it, so nobody is overtaken.
//! - F3: What tasks of a member submit while there is a line waits in the member's own line, and the two lines take
//!   turns: neither starves the other.

use crate::engine::admission::waiter::Answer;
use crate::engine::admission::{Denied, Origin};
use crate::engine::core::{Core, Linked};
use crate::engine::task::Accepted;
use crate::sync::{Arc, Ordering, Weak};

/// Links pools; the first is the lead.
pub(crate) fn link(pools: &[&Arc<Core>]) {
    let Some((lead, members)) = pools.split_first() else {
        return;
    };
    let weak = members.iter().map(|member| Arc::downgrade(member));
    let _ = lead.linked.set(Linked::Lead(weak.collect()));
    for (number, member) in members.iter().enumerate() {
        let lead = Arc::clone(lead);
        let number = number + 1;
        let _ = member.linked.set(Linked::Member { lead, number });
    }
}

impl Core {
    /// The lead, if it has a line, and the index of this pool.
    fn lead_with_line(&self) -> Option<(&Arc<Core>, usize)> {
        let Some(Linked::Member { lead, number }) = self.linked.get() else {
            return None;
        };
        (lead.admission.places().has_line()).then_some((lead, *number))
    }

    /// Whether a task waits in line for a place here, in this pool's line or in the lead's.
    pub(crate) fn has_any_line(&self) -> bool {
        self.admission.places().has_line() || self.lead_with_line().is_some()
    }

    /// F3: serves this pool's own line, and the lead's.
    pub(crate) fn serve_in_turn(self: &Arc<Self>) {
        // ORDERING: Relaxed: whose turn it is matters only in the long run.
        let turns = self.lead_with_line().is_some() && self.turn.fetch_xor(true, Ordering::Relaxed);
        if turns {
            self.take_from_lead(1);
        }
        self.serve();
    }

    /// F1: takes the oldest submitters out of the lead's line while there is room here, `most` tasks at most.
    pub(crate) fn take_from_lead(self: &Arc<Self>, most: usize) {
        if self.lead_with_line().is_some() {
            self.take_from_lead_under_lock(most);
            self.wake_answered();
        }
    }

    /// The same for a caller that holds a lock, and calls [`wake_answered`](Core::wake_answered) later.
    pub(crate) fn take_from_lead_under_lock(self: &Arc<Self>, most: usize) {
        let Some((lead, pool)) = self.lead_with_line() else {
            return;
        };
        let left = lead.admission.serve_elsewhere(
            most,
            || self.admission.enter(Origin::Outside).is_ok(),
            |mut task| {
                if self.ensure_worker().is_err() {
                    // Another member may have a worker.
                    let _ = self.admission.leave(1);
                    return Err(task);
                }
                task.note_place();
                let number = self.admission.count_accepted();
                self.queue.push(Accepted::after_waiting(number, task));
                Ok(Answer::QueuedAt(pool))
            },
        );
        self.wake_for_queued();
        // Those that it let in are out of the line: there is nothing to be served.
        lead.end_if_over(left);
    }

    /// F1: a submitter has just joined the line of this pool: has the members look.
    pub(crate) fn ask_members(self: &Arc<Self>) {
        if let Some(Linked::Lead(members)) = self.linked.get() {
            let members = members.iter().filter_map(Weak::upgrade);
            members.for_each(|member| member.take_from_lead(usize::MAX));
        }
    }

    /// F2: takes a place here for a submitter to several pools.
    pub(crate) fn enter_as(&self, lead: &Core) -> Result<(), Denied> {
        if lead.admission.places().has_line() {
            return Err(Denied::Line);
        }
        self.admission.enter(Origin::Outside).map(drop)
    }
}
