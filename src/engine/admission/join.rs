//! How a task joins the line, and how it leaves the line without being let in.

use super::Admission;
use crate::engine::admission::FollowUp;
use crate::engine::admission::line::{Entry, Joined, Line};
use crate::engine::admission::load::Load;
use crate::engine::admission::places::{Denied, LINE, Origin, PLACE, Places};
use crate::engine::admission::waiter::Waiter;
use crate::engine::task::Task;
use crate::sync::{Arc, Ordering, lock};

impl<D> Admission<D> {
    /// Takes a place after `LINE` was seen set. A line that is only forming or ending may hide room; under the lock it
    /// cannot. To be called after [`serve`](Admission::serve).
    pub(crate) fn enter_if_line_is_empty(&self, origin: Origin) -> Result<Places, Denied> {
        let line = lock(&self.line);
        let places = self.places();
        if places.bars(origin) {
            Err(Denied::Closed)
        } else if line.entries.is_empty() && self.enter_from_line() {
            Ok(self.places())
        } else {
            Err(Denied::NoRoom)
        }
    }

    /// Puts what a submitter hands in at the end of the line. `waiter` makes or lends its waiter, and is none of the
    /// users' code.
    pub(crate) fn join(
        &self,
        load: Load,
        dest: D,
        waiter: impl FnOnce() -> Arc<Waiter>,
    ) -> (Joined, FollowUp) {
        let mut line = lock(&self.line);
        let word = self.form_line();
        let joined = if word.is_closed() {
            Joined::Closed(load)
        } else if line.entries.is_empty() && self.enter_from_line() {
            Joined::Entered(load)
        } else if self.waiting() >= self.max_waiting {
            Joined::TooMany(load)
        } else {
            let waiter = waiter();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let line_number = line.append(load, dest, Some(Arc::clone(&waiter)));
            Joined::Waits(waiter, line_number)
        };
        (joined, self.end_empty_line(&line))
    }

    /// Puts a task that no submitter waits for at the end of the line.
    pub(crate) fn join_detached(&self, origin: Origin, task: Task, dest: D) -> (Joined, FollowUp) {
        let mut line = lock(&self.line);
        let word = self.form_line();
        let load = Load::one(task);
        let joined = if word.bars(origin) {
            Joined::Closed(load)
        } else if line.entries.is_empty() && self.enter_from_line() {
            Joined::Entered(load)
        } else {
            self.count_accepted();
            line.append(load, dest, None);
            Joined::WaitsDetached
        };
        (joined, self.end_empty_line(&line))
    }

    /// Accepts a task that a task of the pool submits. While others wait, here or elsewhere (`must_join`), the task
    /// joins the line; else it takes a place, whether or not there is room, and comes back.
    pub(crate) fn enter_beyond_or_join(
        &self,
        task: Task,
        dest: D,
        must_join: bool,
    ) -> Option<Task> {
        let mut line = lock(&self.line);
        if must_join && line.entries.is_empty() {
            let _formed = self.form_line();
        } else if line.entries.is_empty() {
            let _entered = self.change(|word| Some(word + PLACE));
            return Some(task);
        }
        self.count_accepted();
        line.append(Load::one(task), dest, None);
        None
    }

    /// Takes a submitter out of the line, with what was not let in yet; `None` if it is out of it already, and has its
    /// answer (WT1).
    pub(crate) fn quit(&self, line_number: u64) -> Option<(Load, FollowUp)> {
        let mut line = lock(&self.line);
        let load = self.remove(&mut line, line_number)?;
        Some((load, self.end_empty_line(&line)))
    }

    /// The same in a process in which the lock may be held for ever, and in which nobody goes on with the line.
    #[cfg(feature = "futures")]
    pub(crate) fn quit_foreign(&self, line_number: u64) -> Option<Load> {
        let mut line = crate::sync::try_lock(&self.line)?;
        self.remove(&mut line, line_number)
    }

    fn remove(&self, line: &mut Line<D>, line_number: u64) -> Option<Load> {
        let at = (line.entries)
            .binary_search_by_key(&line_number, |entry| entry.line_number)
            .ok()?;
        let entry = line.entries.remove(at)?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(entry.load)
    }

    /// A3: sets `LINE`; called with the lock held, before a look for room.
    pub(super) fn form_line(&self) -> Places {
        let formed = self.change(|word| Some(word | LINE));
        formed.unwrap_or_else(|declined| declined)
    }

    /// A2, A4: clears `LINE` if the line is empty; called with the lock held, after every change of the line.
    pub(super) fn end_empty_line(&self, line: &Line<D>) -> FollowUp {
        let now = if line.entries.is_empty() {
            self.word.places.fetch_and(!LINE, Ordering::SeqCst) & !LINE
        } else {
            self.word.places.load(Ordering::SeqCst)
        };
        FollowUp {
            serve: false,
            ..self.left(Places(now))
        }
    }

    /// Takes the tasks that are accepted already out of the line of a closed pool, which has no others. They have no
    /// place. The caller has a hold.
    pub(crate) fn take_accepted(&self) -> Vec<(Task, D)> {
        let mut line = lock(&self.line);
        let entries = std::mem::take(&mut line.entries);
        let _ = self.end_empty_line(&line);
        let taken = |entry: Entry<D>| (entry.load.task, entry.dest);
        entries.into_iter().map(taken).collect()
    }

    /// Drops the tombstones in line: they need no room any more.
    pub(crate) fn drop_tombstones(&self) -> FollowUp {
        let mut line = lock(&self.line);
        line.entries
            .retain_mut(|entry| entry.waiter.is_some() || !entry.load.task.is_tombstone());
        self.end_empty_line(&line)
    }

    /// Takes a task with `take`, to make room for another one, unless the pool is closed. Returns with it whether the
    /// caller may use its place, since nobody waits for it.
    pub(crate) fn replace<T>(
        &self,
        origin: Origin,
        take: impl FnOnce() -> Option<T>,
    ) -> Result<Option<(T, bool)>, Denied> {
        let line = lock(&self.line);
        if self.places().bars(origin) {
            return Err(Denied::Closed);
        }
        Ok(take().map(|task| (task, line.entries.is_empty())))
    }
}
