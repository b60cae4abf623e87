//! Jobs moved from one queue to another.
//!
//! ```text
//!            put off                 enqueue                   remove
//!  SOURCE ───────────► HIDDEN ─────────────────► IN BOTH ─────────────────► TARGET
//!    ▲                   │   ◄─ refused, full        │ its data is not the same any more
//!    └── brought back ◄──┘                           └──► IN BOTH, and told
//! ```
//!
//! - MV1. A job is taken from the source only when the target has acknowledged it: as added, or as one that is there with
//!   the same id, kind and data, and is not dead. So none is lost, whatever dies when.
//! - MV2. Nothing is ever taken from the target: another one may have moved the same job there, and rely on it.
//! - MV3. Before the target gets it, it is put off at the source, so that nothing starts it there meanwhile; one that has
//!   started, or is gone, is not moved. Who dies between leaves it at the source, in its old place, and due within
//!   [`HIDDEN`]; who dies after the enqueue leaves it in both, until a move that is repeated takes it from the source.
//! - MV4. It is taken from the source only if its kind and data are those that the target got: a debounced enqueue may have
//!   changed them.
//! - MV5. Between two queues of one `SQLite` file all this is one transaction, and none is ever in both.
//!
//! Against MV3: who is frozen for longer than a job is hidden may find that it has started at the source after all. It is in
//! both then, which is told, as after a death.

use super::broker::{Enqueued, JobInfo, JobState, ListRequest};
use super::error::QueueError;
use super::job::{ATTEMPTS, JobId, NewJob};
use super::queue::Queue;
use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// For how long a job is put off at the source. Far more than a batch takes.
const HIDDEN: Duration = Duration::from_secs(60);

/// How many are moved together.
const BATCH: usize = 100;

/// But no more data at once, where one job has not more by itself.
const BATCH_DATA: u64 = 4 << 20;

/// Which jobs to [move](Queue::move_to).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MoveRequest {
    /// In which states: those of jobs that wait, or `Dead`.
    pub states: Vec<JobState>,
    /// Of which kind, as it is stored; `None`: of any.
    pub kind: Option<String>,
    /// So many at most.
    pub limit: usize,
}

impl MoveRequest {
    /// All jobs that wait.
    pub fn waiting() -> MoveRequest {
        MoveRequest {
            states: JobState::WAITING.to_vec(),
            kind: None,
            limit: usize::MAX,
        }
    }

    /// All jobs in that state.
    pub fn of_state(state: JobState) -> MoveRequest {
        MoveRequest {
            states: vec![state],
            ..MoveRequest::waiting()
        }
    }

    /// Of that kind only.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> MoveRequest {
        MoveRequest {
            kind: Some(kind.into()),
            ..self
        }
    }

    /// So many at most.
    #[must_use]
    pub fn limit(self, limit: usize) -> MoveRequest {
        MoveRequest { limit, ..self }
    }

    fn is_of_kind(&self, kind: &str) -> bool {
        self.kind.as_ref().is_none_or(|wanted| wanted == kind)
    }

    fn wants(&self, state: JobState) -> bool {
        let waits = |state: &JobState| JobState::WAITING.contains(state);
        // One that was ready may be parked by now.
        self.states.contains(&state) || (waits(&state) && self.states.iter().any(waits))
    }
}

/// What became of the jobs that were to be moved.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Moved {
    /// Those that are in the target, and not in the source any more.
    pub moved: u64,
    /// Those that had started, or were gone, before they could be moved: they were left alone.
    pub started: u64,
    /// Those that the target did not take; they are at the source, as they were.
    pub refused: Vec<NotMoved>,
    /// Those that may be in both: the target has them, but when they were to be taken from the source somebody else had
    /// started or changed them there, or taken them away.
    pub in_both: Vec<JobId>,
}

/// A job that the target did not take.
#[derive(Debug)]
#[non_exhaustive]
pub struct NotMoved {
    /// Which one.
    pub id: JobId,
    /// Why.
    pub why: WhyNot,
}

/// Why the target did not take a job.
#[derive(Debug)]
#[non_exhaustive]
pub enum WhyNot {
    /// This job in the target has its unique key.
    UniqueKey(JobId),
    /// A job in the target has its id, and has other data, or is dead.
    SameId,
    /// The target can take no such job: it is too large, or needs what the broker has not.
    Refused(QueueError),
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::UniqueKey(id) => write!(f, "job {id} there has its unique key"),
            WhyNot::SameId => f.write_str("a job there has its id, and other data or is dead"),
            WhyNot::Refused(error) => error.fmt(f),
        }
    }
}

/// A move that failed before its end. No job is lost: what is not moved is at the source.
///
/// Where it is the broker that failed, and not the target that is [full](QueueError::Full), the jobs in hand (a hundred at
/// most) may be in both queues; the same move again takes them from the source, if they have not started.
#[derive(Debug)]
pub struct MoveError {
    reason: QueueError,
    moved: Moved,
}

impl MoveError {
    /// Why.
    pub fn reason(&self) -> &QueueError {
        &self.reason
    }

    /// What became of the jobs until then.
    pub fn moved(&self) -> &Moved {
        &self.moved
    }

    /// Both.
    pub fn into_parts(self) -> (QueueError, Moved) {
        (self.reason, self.moved)
    }
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl Error for MoveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

/// What became of one of them.
pub(super) enum Passage {
    Moved,
    Started,
    Refused(WhyNot),
    InBoth,
}

impl Moved {
    fn count(&mut self, id: JobId, passage: Passage) {
        match passage {
            Passage::Moved => self.moved += 1,
            Passage::Started => self.started += 1,
            Passage::Refused(why) => self.refused.push(NotMoved { id, why }),
            Passage::InBoth => self.in_both.push(id),
        }
    }
}

impl Queue {
    /// Moves jobs that wait, or are dead, to another queue, of whatever broker: those that are there when it begins.
    ///
    /// A job keeps its id, kind, data, priority, keys, the attempts and the delay that it has left, when it expires, and how
    /// long its result is to be kept; its age counts anew, and it goes behind those of its priority that are there. One that is dead arrives ready,
    /// with as many attempts as it had, as by [`retry_dead`](Queue::retry_dead). Its last error does not come with it, and a
    /// [`once_per`](super::Draft::once_per) period stays at the source. The source counts it as removed, and the target as
    /// enqueued.
    ///
    /// **No job is lost**, whatever dies when: the source gives it up only when the target has acknowledged it. While it is
    /// on its way it is put off at the source by up to a minute, so that it does not start there. Who dies half-way leaves
    /// some jobs put off, which counts as delayed, and some in both queues, with the same id; the same move again takes the
    /// latter from the source, if they have not started there. Between two queues of one `SQLite` file each job is in one of them at any time.
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
    /// same queue, or a state is asked for of jobs that run or are done; or if a broker fails. The error tells what was
    /// moved until then.
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
        self.refuse_nonsense()?;
        let mut rest = &self.all()?[..];
        while !rest.is_empty() {
            let mut data = 0;
            let fit = rest.iter().take(BATCH).take_while(|(_, size)| {
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

    fn refuse_nonsense(&self) -> Result<(), QueueError> {
        let (from, to) = (self.from.broker(), self.to.broker());
        let refuse = |what| {
            let broker = from.abilities().name;
            Err(QueueError::Unsupported { what, broker })
        };
        let may = |state: &JobState| JobState::WAITING.contains(state) || *state == JobState::Dead;
        if !self.request.states.iter().all(may) {
            return refuse("move of jobs that run, or are done");
        }
        // Else MV1 would take each job from its own copy.
        if Arc::ptr_eq(from, to) || from.identity() == to.identity() {
            return refuse("move of jobs to the queue that they are in");
        }
        Ok(())
    }

    /// Those that are meant, as they are to arrive, with the size of their data.
    fn all(&self) -> Result<Vec<(JobId, u64)>, QueueError> {
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        // Looked through in this order, as a job goes from the first to the last; but those that are ready are first.
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
        // What comes in meanwhile is not meant, or this might never end.
        let counts = self.from.stats()?;
        let mut left = match state {
            JobState::Ready => counts.ready,
            JobState::Delayed => counts.delayed,
            JobState::Parked => counts.parked,
            _ => counts.dead,
        };
        while left > 0 && some.len() < self.request.limit {
            let request = ListRequest::new(state).after(after).most(PAGE).data(0);
            // If another process takes `after` away this begins anew.
            let page = self.from.broker().list(&request)?;
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

    /// As it is to arrive, if it is to.
    fn arriving(&self, job: &JobInfo) -> Result<NewJob, Passage> {
        if !self.request.wants(job.state) {
            return Err(Passage::Started);
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
            ..NewJob::new(job.kind.clone(), Vec::new())
        };
        match self.to.check(&new) {
            Ok(()) => Ok(new),
            Err(error) => Err(Passage::Refused(WhyNot::Refused(error))),
        }
    }

    fn move_some(&self, ids: &[JobId], moved: &mut Moved) -> Result<(), QueueError> {
        #[cfg(feature = "sqlite")]
        if let Some((from, to)) = self.from.in_one_file(self.to) {
            let (passages, full) = from.move_some(to, ids, &|job| self.arriving(job))?;
            for (&id, passage) in ids.iter().zip(passages) {
                moved.count(id, passage);
            }
            return full.map_or(Ok(()), |most| Err(QueueError::Full { most }));
        }
        let jobs = self.look(ids, moved)?;
        let jobs = self.hide(jobs, moved)?;
        let (arrived, mut back, mut ended) = self.enqueue(jobs, moved);
        let mut leaving = Vec::new();
        for job in arrived {
            match self.is_there(&job) {
                Ok(true) => {
                    leaving.push(job.info);
                    continue;
                }
                Ok(false) => moved.count(job.id(), Passage::Refused(WhyNot::SameId)),
                Err(error) => ended = ended.and(Err(error)),
            }
            back.push(job);
        }
        self.bring_back(&back);
        self.remove(&leaving, moved)?;
        ended
    }

    fn look(&self, ids: &[JobId], moved: &mut Moved) -> Result<Vec<Leaving>, QueueError> {
        let mut jobs = Vec::new();
        for &id in ids {
            let Some(info) = self.from.get(id)? else {
                moved.count(id, Passage::Started);
                continue;
            };
            match self.arriving(&info) {
                Ok(new) => jobs.push(Leaving {
                    info,
                    new,
                    is_added: false,
                }),
                Err(passage) => moved.count(id, passage),
            }
        }
        Ok(jobs)
    }

    /// MV3: those that waited still.
    fn hide(&self, jobs: Vec<Leaving>, moved: &mut Moved) -> Result<Vec<Leaving>, QueueError> {
        let hidden: Vec<JobId> = jobs
            .iter()
            .filter(|job| job.is_hidden())
            .map(Leaving::id)
            .collect();
        // Also where there are none: whoever may not write to the source is to fail here.
        let waited = self.from.broker().set_due(&hidden, HIDDEN)?;
        let waited = hidden.iter().zip(waited).filter(|&(_, waited)| waited);
        let waited: HashSet<JobId> = waited.map(|(&id, _)| id).collect();
        let (waited, started): (Vec<Leaving>, Vec<Leaving>) = jobs
            .into_iter()
            .partition(|job| !job.is_hidden() || waited.contains(&job.id()));
        moved.started += started.len() as u64;
        Ok(waited)
    }

    /// Those that the target has; those that it did not take, or was not asked to; and why it ended, where it did.
    fn enqueue(
        &self,
        jobs: Vec<Leaving>,
        moved: &mut Moved,
    ) -> (Vec<Leaving>, Vec<Leaving>, Result<(), QueueError>) {
        let to = self.to.broker();
        let new: Vec<NewJob> = jobs.iter().map(|job| job.new.clone()).collect();
        let mut ended = Ok(());
        let answers: Vec<Enqueued> = match to.enqueue(&new) {
            Ok(answers) => answers,
            // All or none; but some may fit.
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
                Some(Enqueued::Duplicate(other)) if other != job.id() => {
                    moved.count(job.id(), Passage::Refused(WhyNot::UniqueKey(other)));
                    back.push(job);
                }
                Some(answer) => {
                    job.is_added = answer.is_added();
                    arrived.push(job);
                }
                None => back.push(job),
            }
        }
        (arrived, back, ended)
    }

    /// MV1: whether the target has it, and not another one with its id.
    fn is_there(&self, job: &Leaving) -> Result<bool, QueueError> {
        if job.is_added {
            return Ok(true);
        }
        let there = self.to.get(job.id())?;
        Ok(there.is_some_and(|there| is_same(&job.info, &there)))
    }

    fn remove(&self, jobs: &[JobInfo], moved: &mut Moved) -> Result<(), QueueError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let removed = self.from.broker().remove_unchanged(jobs)?;
        for (job, removed) in jobs.iter().zip(removed) {
            let passage = if removed {
                Passage::Moved
            } else {
                Passage::InBoth
            };
            moved.count(job.id, passage);
        }
        Ok(())
    }

    /// As they were. If this fails they are when they are not hidden any more.
    fn bring_back(&self, jobs: &[Leaving]) {
        let from = self.from.broker();
        let hidden = jobs.iter().filter(|job| job.is_hidden());
        let (ready, delayed): (Vec<&Leaving>, Vec<&Leaving>) =
            hidden.partition(|job| job.info.due_in.is_none());
        let ready: Vec<JobId> = ready.into_iter().map(Leaving::id).collect();
        if !ready.is_empty() {
            let _ = from.set_due(&ready, Duration::ZERO);
        }
        for job in delayed {
            let _ = from.set_due(&[job.id()], job.new.delay);
        }
    }
}

/// A job on its way.
struct Leaving {
    info: JobInfo,
    new: NewJob,
    is_added: bool,
}

impl Leaving {
    fn id(&self) -> JobId {
        self.info.id
    }

    /// One that is dead, or due later than that anyway, is not.
    fn is_hidden(&self) -> bool {
        let is_late = self.info.due_in.is_some_and(|due| due >= HIDDEN);
        self.info.state != JobState::Dead && !is_late
    }
}

/// MV1: whether the target's is the source's.
pub(super) fn is_same(job: &JobInfo, there: &JobInfo) -> bool {
    there.state != JobState::Dead && there.kind == job.kind && there.payload == job.payload
}
