//! Moves of jobs from one queue to another.
//!
//! ```text
//!            postpone                enqueue                   remove
//!  SOURCE ───────────► HIDDEN ─────────────────► IN BOTH ─────────────────► TARGET
//!    ▲                   │   ◄─ refused, full        │ its data has changed
//!    └── restored ◄──────┘                           └──► IN BOTH, and reported
//! ```
//!
//! - MV1. A job is removed from the source only when the target has acknowledged it: as added, or as a job with the same id,
//!   kind and data that is not dead. So none is lost, whatever process dies when.
//! - MV2. Nothing is ever removed from the target: another mover may have moved the same job there, and rely on it.
//! - MV3. Before the target gets a job, it is postponed in the source, so that nothing starts it there meanwhile; one that
//!   has started, or is gone, is not moved. A mover that dies in between leaves it in the source, in its old place, and
//!   due within [`HIDDEN`]; one that dies after the enqueue leaves it in both, until a repeated move removes it from the
//!   source.
//! - MV4. A job is removed from the source only if its kind and data are those that the target got: a debounced enqueue may
//!   have changed them.
//! - MV5. Between two queues of one `SQLite` file all this is one transaction, and no job is ever in both.
//!
//! An exception to MV3: a mover that is frozen for longer than a job is hidden may find that it has started in the source
//! after all. It is in both then, which is reported, as after a death.

mod report;

pub use report::{MoveError, MoveRequest, Moved, NotMoved, WhyNot};
pub(crate) use report::{MoveOutcome, is_same};

use crate::broker::{Enqueued, JobInfo, JobState, ListRequest};
use crate::error::QueueError;
use crate::id::JobId;
use crate::job::{ATTEMPTS, NewJob};
use crate::queue::Queue;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// For how long a job is postponed in the source; far more than a batch takes.
const HIDDEN: Duration = Duration::from_secs(60);

/// How many jobs are moved together.
const BATCH: usize = 100;

/// How many bytes of data are moved together, unless one job has more by itself.
const BATCH_DATA: u64 = 4 << 20;

impl Queue {
    /// Moves waiting or dead jobs to another queue, of any broker: those that are there at the start of the call.
    ///
    /// A job keeps its id, kind, data, priority, keys, the attempts and the delay that it has left, its expiry, and how
    /// long its result is kept; its age starts anew, and it goes behind the jobs of its priority in the target. A dead job
    /// arrives ready, with all its attempts, as by [`retry_dead`](Queue::retry_dead). Its last error is dropped, and a
    /// [`once_per`](crate::Draft::once_per) period stays in the source. The source counts the job as removed, and the target
    /// as enqueued.
    ///
    /// **No job is lost**, whatever process dies when: a job is removed from the source only when the target has
    /// acknowledged it. While it is moved it is postponed in the source by up to a minute, so that it does not start there.
    /// A mover that dies half-way leaves some jobs postponed, which counts as delayed, and some in both queues, with the
    /// same id; the same move again removes the latter from the source, if they have not started there. Between two queues
    /// of one `SQLite` file each job is in exactly one of them at any time.
    ///
    /// Two moves of the same jobs at the same time to different queues may move a job to both.
    ///
    /// ```
    /// use anthill_jobs::{MoveRequest, Queue};
    /// # use anthill_jobs::Job;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Letter;
    /// # impl Job for Letter { const KIND: &'static str = "letter"; }
    ///
    /// let (mail, slow) = (Queue::memory(), Queue::memory());
    /// mail.enqueue(Letter)?;
    /// let moved = mail.move_to(&slow, &MoveRequest::waiting().kind("letter"))?;
    /// assert_eq!((moved.moved, mail.stats()?.ready, slow.stats()?.ready), (1, 0, 1));
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Full`](QueueError::Full) if the target has no room for more; [`Unsupported`](QueueError::Unsupported) if both are the
    /// same queue, or the request names a state of jobs that run or are done; or if a broker fails. The error has what was
    /// moved before that.
    pub fn move_to(&self, to: &Queue, request: &MoveRequest) -> Result<Moved, MoveError> {
        let mut moved = Moved::default();
        let transfer = Transfer {
            from: self,
            to,
            request,
        };
        match transfer.run(&mut moved) {
            Ok(()) => Ok(moved),
            Err(reason) => Err(MoveError { reason, moved }),
        }
    }
}

struct Transfer<'a> {
    from: &'a Queue,
    to: &'a Queue,
    request: &'a MoveRequest,
}

impl Transfer<'_> {
    fn run(&self, moved: &mut Moved) -> Result<(), QueueError> {
        self.check_request()?;
        let maxima = [self.from, self.to].map(|queue| queue.capabilities().maxima.batch);
        let most = maxima.into_iter().fold(BATCH, usize::min).max(1);
        let mut rest = &self.matching()?[..];
        while !rest.is_empty() {
            let mut data = 0;
            let fit = rest.iter().take(most).take_while(|(_, size)| {
                data += size;
                data <= BATCH_DATA
            });
            let (batch, later) = rest.split_at(fit.count().max(1));
            let ids: Vec<JobId> = batch.iter().map(|&(id, _)| id).collect();
            self.move_some(&ids, moved)?;
            rest = later;
        }
        Ok(())
    }

    fn check_request(&self) -> Result<(), QueueError> {
        let (from, to) = (self.from.broker(), self.to.broker());
        let refuse = |what: &'static str| Err(from.capabilities().unsupported(what));
        let may = |state: &JobState| JobState::WAITING.contains(state) || *state == JobState::Dead;
        if !self.request.states.iter().all(may) {
            return refuse("a move of jobs that run or are done");
        }
        // Otherwise MV1 would remove each job because of its own copy.
        if Arc::ptr_eq(from, to) || from.identity() == to.identity() {
            return refuse("a move of jobs to their own queue");
        }
        Ok(())
    }

    /// The jobs to move, in the order in which they arrive, with the size of their data.
    fn matching(&self) -> Result<Vec<(JobId, u64)>, QueueError> {
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        // Listed in this order, because a job goes from the first to the last; but ready jobs are moved first.
        let order = [
            JobState::Dead,
            JobState::Delayed,
            JobState::Parked,
            JobState::Ready,
        ];
        for state in order {
            if self.request.states.contains(&state) {
                let mut some = self.of_state(state, &mut seen)?;
                some.append(&mut all);
                all = some;
            }
        }
        all.truncate(self.request.limit);
        Ok(all)
    }

    fn of_state(
        &self,
        state: JobState,
        seen: &mut HashSet<JobId>,
    ) -> Result<Vec<(JobId, u64)>, QueueError> {
        const PAGE: usize = 1_000;
        let mut some = Vec::new();
        let mut after = None;
        // Jobs that arrive meanwhile do not count, or this might never end.
        let counts = self.from.admin()?.stats()?;
        let mut left = match state {
            JobState::Ready => counts.ready,
            JobState::Delayed => counts.delayed,
            JobState::Parked => counts.parked,
            _ => counts.dead,
        };
        while left > 0 && some.len() < self.request.limit {
            let request = ListRequest::new(state).after(after).limit(PAGE).data(0);
            // If another process removes `after` this starts from the first job again.
            let page = self.from.admin()?.list(&request)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for job in page {
                if left > 0 && seen.insert(job.id) {
                    left -= 1;
                    if self.request.is_of_kind(&job.kind) {
                        some.push((job.id, job.payload_size));
                    }
                }
            }
        }
        some.truncate(self.request.limit);
        Ok(some)
    }

    /// The job as it arrives in the target, if it is to be moved.
    fn arriving(&self, job: &JobInfo) -> Result<NewJob, MoveOutcome> {
        if !self.request.wants(job.state) {
            return Err(MoveOutcome::Started);
        }
        let attempts = match job.state {
            JobState::Dead if job.attempts == 0 => ATTEMPTS,
            JobState::Dead => job.attempts,
            _ => job.attempts.saturating_sub(job.attempt).max(1),
        };
        let new = NewJob {
            id: job.id,
            payload: job.payload.clone(),
            priority: job.priority,
            delay: job.due_in.unwrap_or_default(),
            expires: job.expires_in,
            attempts,
            unique: job.unique.clone(),
            key: job.key.clone(),
            keep_result: job.keep_result,
            headers: job.headers.clone(),
            ..NewJob::new(job.kind.clone(), Vec::new())
        };
        match self.to.check(&new) {
            Ok(()) => Ok(new),
            Err(error) => Err(MoveOutcome::Refused(WhyNot::Refused(error))),
        }
    }

    fn move_some(&self, ids: &[JobId], moved: &mut Moved) -> Result<(), QueueError> {
        #[cfg(feature = "sqlite")]
        if let Some((from, to)) = self.from.in_one_file(self.to) {
            let (passages, full) = from.move_some(to, ids, &|job| self.arriving(job))?;
            for (&id, outcome) in ids.iter().zip(passages) {
                moved.count(id, outcome);
            }
            return full.map_or(Ok(()), |limit| Err(QueueError::Full { limit }));
        }
        let jobs = self.load(ids, moved)?;
        let jobs = self.hide(jobs, moved)?;
        let (arrived, mut back, mut ended) = self.enqueue(jobs, moved);
        let mut moving = Vec::new();
        for job in arrived {
            match self.has_arrived(&job) {
                Ok(true) => {
                    moving.push(job.info);
                    continue;
                }
                Ok(false) => moved.count(job.id(), MoveOutcome::Refused(WhyNot::SameId)),
                Err(error) => ended = ended.and(Err(error)),
            }
            back.push(job);
        }
        self.restore(&back);
        self.remove(&moving, moved)?;
        ended
    }

    fn load(&self, ids: &[JobId], moved: &mut Moved) -> Result<Vec<MovingJob>, QueueError> {
        let mut jobs = Vec::new();
        for &id in ids {
            let Some(info) = self.from.admin()?.get(id)? else {
                moved.count(id, MoveOutcome::Started);
                continue;
            };
            match self.arriving(&info) {
                Ok(new) => jobs.push(MovingJob {
                    info,
                    new,
                    is_added: false,
                }),
                Err(outcome) => moved.count(id, outcome),
            }
        }
        Ok(jobs)
    }

    /// MV3: postpones the jobs. Returns those that still waited.
    fn hide(&self, jobs: Vec<MovingJob>, moved: &mut Moved) -> Result<Vec<MovingJob>, QueueError> {
        let hidden: Vec<JobId> = jobs
            .iter()
            .filter(|job| job.is_hidden())
            .map(MovingJob::id)
            .collect();
        // Also if there are none: a source that is read-only has to fail here.
        let waited = self.from.admin()?.set_due(&hidden, HIDDEN)?;
        let waited = hidden.iter().zip(waited).filter(|&(_, waited)| waited);
        let waited: HashSet<JobId> = waited.map(|(&id, _)| id).collect();
        let (waited, started): (Vec<MovingJob>, Vec<MovingJob>) = jobs
            .into_iter()
            .partition(|job| !job.is_hidden() || waited.contains(&job.id()));
        moved.started += started.len() as u64;
        Ok(waited)
    }

    /// Returns the jobs that the target has, those that it refused or was not asked for, and why it failed, if it did.
    fn enqueue(
        &self,
        jobs: Vec<MovingJob>,
        moved: &mut Moved,
    ) -> (Vec<MovingJob>, Vec<MovingJob>, Result<(), QueueError>) {
        let to = self.to.broker();
        let new: Vec<NewJob> = jobs.iter().map(|job| job.new.clone()).collect();
        let mut ended = Ok(());
        let answers: Vec<Result<Enqueued, QueueError>> = match to.enqueue(&new) {
            Ok(answers) => answers,
            // An enqueue is all or nothing, but some may fit.
            Err(QueueError::Full { .. }) if new.len() > 1 => {
                let mut answers = Vec::new();
                for job in &new {
                    match to.enqueue(std::slice::from_ref(job)) {
                        Ok(answer) => answers.extend(answer),
                        Err(error) => {
                            ended = Err(error);
                            break;
                        }
                    }
                }
                answers
            }
            Err(error) => {
                ended = Err(error);
                Vec::new()
            }
        };
        let (mut arrived, mut back) = (Vec::new(), Vec::new());
        let mut answers = answers.into_iter();
        for mut job in jobs {
            match answers.next() {
                Some(Err(reason)) => {
                    moved.count(job.id(), MoveOutcome::Refused(WhyNot::Refused(reason)));
                    back.push(job);
                }
                Some(Ok(Enqueued::Duplicate(other))) if other != job.id() => {
                    moved.count(job.id(), MoveOutcome::Refused(WhyNot::UniqueKey(other)));
                    back.push(job);
                }
                Some(Ok(answer)) => {
                    job.is_added = answer.is_added();
                    arrived.push(job);
                }
                None => back.push(job),
            }
        }
        (arrived, back, ended)
    }

    /// MV1: whether the target has this job, and not another one with its id.
    fn has_arrived(&self, job: &MovingJob) -> Result<bool, QueueError> {
        if job.is_added {
            return Ok(true);
        }
        let there = self.to.admin()?.get(job.id())?;
        Ok(there.is_some_and(|there| is_same(&job.info, &there)))
    }

    fn remove(&self, jobs: &[JobInfo], moved: &mut Moved) -> Result<(), QueueError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let removed = self.from.admin()?.remove_unchanged(jobs)?;
        for (job, removed) in jobs.iter().zip(removed) {
            let outcome = if removed {
                MoveOutcome::Moved
            } else {
                MoveOutcome::InBoth
            };
            moved.count(job.id, outcome);
        }
        Ok(())
    }

    /// Restores jobs as they were. If this fails, they are when their postponement ends.
    fn restore(&self, jobs: &[MovingJob]) {
        let Ok(from) = self.from.admin() else { return };
        let hidden = jobs.iter().filter(|job| job.is_hidden());
        let (ready, delayed): (Vec<&MovingJob>, Vec<&MovingJob>) =
            hidden.partition(|job| job.info.due_in.is_none());
        let ready: Vec<JobId> = ready.into_iter().map(MovingJob::id).collect();
        if !ready.is_empty() {
            let _ = from.set_due(&ready, Duration::ZERO);
        }
        for job in delayed {
            let _ = from.set_due(&[job.id()], job.new.delay);
        }
    }
}

/// A job that is being moved.
struct MovingJob {
    info: JobInfo,
    new: NewJob,
    is_added: bool,
}

impl MovingJob {
    fn id(&self) -> JobId {
        self.info.id
    }

    /// Whether it is postponed: a job that is dead, or due later anyway, is not.
    fn is_hidden(&self) -> bool {
        let is_late = self.info.due_in.is_some_and(|due| due >= HIDDEN);
        self.info.state != JobState::Dead && !is_late
    }
}
