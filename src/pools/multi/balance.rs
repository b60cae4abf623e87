//! Which of several pools takes a task, and what happens if none has room.
//!
//! - MP2: All balancing is in `submit_task`: a closure, a claimable or an argument comes there as a task.
//! - MP3: A pool is asked to make room (by the submitter running the task, or by dropping its oldest task) only after
//!   all pools were asked for room. A submitter that waits does so in the one line (F1 of
//!   [`linked`](crate::engine::linked)), never in that of another shard than the lead.
//! - MP4: A place that a submit frees by dropping a task goes to that line if there is one (F2).

use super::{Balance, MultiPool};
use crate::engine::admission::{Denied, Origin};
use crate::engine::config::Overflow;
use crate::engine::core::Core;
use crate::engine::spin::Probe;
use crate::engine::submit::{Limit, Patience, Refusal, Submit, Target, Wait};
use crate::engine::task::Task;
use crate::error::SubmitErrorKind;
use crate::fork;
use crate::sync::{Arc, Instant, Ordering};

impl MultiPool {
    /// Submits a task to one of the pools, and returns which.
    pub(super) fn submit_task(&self, task: Task, patience: Patience) -> Result<Arc<Core>, Refusal> {
        if self.lead().is_foreign() {
            return self.refuse(Refusal::no_thread(fork::refusal(), task));
        }
        let (denied, refusal) = match self.enter(task) {
            Ok(core) => return Ok(core),
            Err(denied) => denied,
        };
        if let Some(home) = self.inside() {
            return home
                .submit(|| refusal.task, patience)
                .map(|()| Arc::clone(home));
        }
        if denied == Denied::Closed {
            return self.refuse(refusal);
        }
        let task = refusal.task;
        match (patience, self.lead().config.overflow) {
            (Patience::None, _) | (Patience::Policy, Overflow::Reject) => {
                self.enter_for_certain(task)
            }
            (Patience::Policy, Overflow::CallerRuns) => match self.run_on_caller(task) {
                Ok(core) => Ok(core),
                Err(task) => self.wait(task, None),
            },
            (Patience::Policy, Overflow::DropOldest) => self.drop_oldest(task),
            (Patience::Policy, Overflow::Block) => self.wait_for_room(task, denied, None),
            (Patience::Until(deadline), _) => self.wait_for_room(task, denied, deadline),
        }
    }

    /// Returns all pools in the order in which they are asked for room.
    fn in_turn(&self) -> impl Iterator<Item = &Arc<Core>> {
        let first = match self.balance {
            // ORDERING: Relaxed: any number will do.
            Balance::RoundRobin => self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len(),
            Balance::LeastLoaded => {
                let loads = self.cores().map(|core| core.admission.places().held());
                let least = loads.enumerate().min_by_key(|(_, load)| *load);
                least.map_or(0, |(at, _)| at)
            }
        };
        let (before, after) = self.shards.split_at(first);
        (after.iter().chain(before)).map(|shard| shard.core())
    }

    /// Gives the task to the first pool that has room, and returns which.
    fn enter(&self, task: Task) -> Result<Arc<Core>, (Denied, Refusal)> {
        let mut why = Denied::Closed;
        let mut no_thread = None;
        for core in self.in_turn() {
            match core.enter_as(self.lead()) {
                Ok(()) => match core.ensure_worker() {
                    Ok(()) => {
                        core.queue_accepted(task);
                        return Ok(Arc::clone(core));
                    }
                    Err(refusal) => {
                        // Another pool may have a worker: the task is not refused yet.
                        core.leave(1);
                        no_thread = Some(refusal);
                    }
                },
                Err(Denied::Closed) => {}
                Err(denied) => why = denied,
            }
        }
        let refusal = match (why, no_thread) {
            (Denied::Closed, Some(source)) => Refusal::no_thread(source, task),
            (Denied::Closed, None) => Refusal::new(SubmitErrorKind::Closed, task),
            _ => Refusal::new(SubmitErrorKind::Full, task),
        };
        Err((why, refusal))
    }

    /// Looks for room for a moment, and then waits.
    fn wait_for_room(
        &self,
        task: Task,
        denied: Denied,
        deadline: Option<Instant>,
    ) -> Result<Arc<Core>, Refusal> {
        match self.look_for_room(task, denied) {
            Ok(core) => Ok(core),
            Err(task) => self.wait(task, deadline),
        }
    }

    /// MP3: waits in the one line.
    fn wait(&self, task: Task, deadline: Option<Instant>) -> Result<Arc<Core>, Refusal> {
        let lead = self.lead();
        let limit = Limit {
            deadline,
            stop: None,
        };
        let taken_by = lead
            .wait_anywhere(task, limit)?
            .map(|pool| Arc::clone(self.shards[pool].core()));
        Ok(taken_by.unwrap_or_else(|| Arc::clone(lead)))
    }

    /// `CallerRuns`: this thread runs the task for a pool that is open and not paused. Returns which, or the task.
    fn run_on_caller(&self, mut task: Task) -> Result<Arc<Core>, Task> {
        for core in self.in_turn() {
            match core.run_on_caller(task) {
                None => return Ok(Arc::clone(core)),
                Some(refused) => task = refused,
            }
        }
        Err(task)
    }

    /// `DropOldest`: the oldest task of a pool makes room, if no worker has taken it.
    fn drop_oldest(&self, mut task: Task) -> Result<Arc<Core>, Refusal> {
        loop {
            for core in self.in_turn() {
                let oldest = (core.admission).replace(Origin::Outside, || core.take_oldest());
                let Ok(Some(((oldest, from), is_free))) = oldest else {
                    continue;
                };
                core.discard(oldest, from);
                if is_free && !self.lead().admission.places().has_line() {
                    return core.accept(task).map(|()| Arc::clone(core));
                }
                // MP4
                core.leave(1);
                break;
            }
            match self.enter(task) {
                Ok(core) => return Ok(core),
                Err((Denied::Closed, refusal)) => return self.refuse(refusal),
                // All tasks that fill the pools are running.
                Err((_, refusal)) if !self.has_queued() => return self.wait(refusal.task, None),
                Err((_, refusal)) => task = refusal.task,
            }
        }
    }

    /// An open pool has a task that no worker has taken.
    fn has_queued(&self) -> bool {
        let is_open = |core: &&Arc<Core>| !core.admission.places().is_closed();
        (self.cores().filter(is_open)).any(|core| core.has_queued())
    }

    /// Spins for room anywhere, for as long as the lead's `AdaptiveSpin` finds worthwhile. Returns which pool took the
    /// task, or the task. While there is a line, tasks enter only from it (F2), so a look says nothing about how soon
    /// there is room.
    fn look_for_room(&self, task: Task, mut denied: Denied) -> Result<Arc<Core>, Task> {
        let lead = self.lead();
        let (mut task, mut taken_by) = (Some(task), None);
        lead.admission.spin.while_full(|| {
            if denied != Denied::NoRoom || !lead.may_spin() {
                return Probe::Over;
            }
            let Some(given) = task.take() else {
                return Probe::Over;
            };
            match self.enter(given) {
                Ok(core) => {
                    taken_by = Some(core);
                    Probe::Room
                }
                Err((why, refusal)) => {
                    (denied, task) = (why, Some(refusal.task));
                    match denied {
                        Denied::NoRoom => Probe::Full,
                        Denied::Line | Denied::Closed => Probe::Over,
                    }
                }
            }
        });
        task.map_or_else(|| Ok(taken_by.expect("a pool has the task")), Err)
    }

    /// Enters if there is room anywhere. Asking one pool after the other is like asking all at one moment if no pool
    /// accepted a task meanwhile: then room can only have grown.
    fn enter_for_certain(&self, mut task: Task) -> Result<Arc<Core>, Refusal> {
        let accepted = || {
            self.cores()
                .map(|core| core.admission.accepted())
                .sum::<u64>()
        };
        loop {
            let before = accepted();
            // A line may just be forming or dissolving.
            self.cores().for_each(Target::serve);
            match self.enter(task) {
                Ok(core) => return Ok(core),
                Err((_, refusal)) if accepted() == before => return self.refuse(refusal),
                Err((_, refusal)) => task = refusal.task,
            }
        }
    }

    fn refuse<T>(&self, refusal: Refusal) -> Result<T, Refusal> {
        self.lead().counts.rejected.add(1);
        Err(refusal)
    }
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// Each look asks the next pool first, which counts the looks.
    #[test]
    fn spins_less_while_it_is_in_vain() {
        let pools = MultiPool::new(2, 1, Balance::RoundRobin);
        let go = [(); 2].map(|()| {
            let (go, gate) = channel::<()>();
            assert!(pools.submit(move || _ = gate.recv()).is_ok());
            go
        });
        let looks_of = |submits: usize| {
            let before = pools.next.load(Ordering::SeqCst);
            for _ in 0..submits {
                assert!(pools.submit_timeout(|| (), Duration::ZERO).is_err());
            }
            pools.next.load(Ordering::SeqCst) - before
        };
        let (first, _, later) = (looks_of(1), looks_of(60), looks_of(40));
        let is_single = pools.lead().config.processors.is_single();
        assert!(is_single || later < 20 * first, "{first}, {later}");
        drop(go);
    }
}
