//! The broker's part for operators: jobs by id and by state, a pause, retention.

use crate::broker::RedisBroker;
use crate::call::Again;
use crate::limits;
use crate::record::{info, number};
use crate::reply;
use crate::scripts::Script;
use crate::settle;
use crate::store::args;
use crate::values::micros;
use anthill_jobs::broker::Admin;
use anthill_jobs::{
    Broker, JobId, JobInfo, JobState, ListRequest, QueueError, QueueStats, Retention,
};
use redis::Value;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// The most jobs that one call of a script changes.
const MOST: usize = 500;

/// The data that one call compares; the first job may have more.
const MOST_BYTES: usize = 16 << 20;

/// The most calls that see to what time has brought before somebody looks.
const SWEEPS: usize = 10_000;

/// How long a change of the limits waits for what follows from it.
const A_WHILE: Duration = Duration::from_secs(1);

impl RedisBroker {
    /// Sees to what time has brought, so that a reader sees the queue as the next claim will.
    fn sweep(&self) -> Result<(), QueueError> {
        self.sweep_until(|round| round >= SWEEPS)
    }

    pub(crate) fn sweep_for_a_while(&self) -> Result<(), QueueError> {
        let begin = Instant::now();
        self.sweep_until(|_| begin.elapsed() >= A_WHILE)
    }

    fn sweep_until(&self, is_enough: impl Fn(usize) -> bool) -> Result<(), QueueError> {
        if self.is_read_only {
            return Ok(());
        }
        for round in 1.. {
            let swept = self.call(Script::Sweep, &args(&self.store))?;
            if limits::is_zero(&swept) || is_enough(round) {
                break;
            }
        }
        Ok(())
    }

    /// Calls a script whose second answer would be that there was nothing to do.
    fn call_once(&self, script: Script, args: &redis::Cmd) -> Result<Value, QueueError> {
        self.store.call(&self.queue, script, args, Again::Never)
    }

    /// Removes jobs that are in one of these states, and unchanged if that is told. Returns for each whether it was removed.
    fn remove(
        &self,
        ids: &[JobId],
        states: &[JobState],
        unchanged: Option<&[JobInfo]>,
    ) -> Result<Vec<bool>, QueueError> {
        self.refuse_to_write()?;
        let bits = states.iter().filter_map(|&state| number(state));
        let bits = bits.fold(0_u32, |bits, number| bits | 1 << number);
        let (mut removed, mut woke) = (Vec::with_capacity(ids.len()), false);
        let mut from = 0;
        while from < ids.len() {
            let most = ids.len().min(from + MOST);
            let size = |at: usize| unchanged.map_or(0, |jobs| jobs[at].payload.len());
            let (mut to, mut bytes) = (from, 0);
            while to < most && (to == from || bytes < MOST_BYTES) {
                bytes += size(to);
                to += 1;
            }
            let mut args = args(&self.store);
            args.arg(bits);
            for at in from..to {
                args.arg(&ids[at].as_bytes()[..]);
                match unchanged.map(|jobs| &jobs[at]) {
                    Some(job) => args.arg(1).arg(&job.kind).arg(&job.payload[..]),
                    None => args.arg(0).arg("").arg(""),
                };
            }
            let some = &ids[from..to];
            from = to;
            let (answers, more) =
                settle::answers(self.call_once(Script::Remove, &args)?, some.len())?;
            removed.extend(answers);
            woke |= more;
        }
        if woke {
            self.wake();
        }
        Ok(removed)
    }

    /// Changes jobs. Returns for each whether it was.
    fn change(&self, what: &str, delay: Duration, ids: &[JobId]) -> Result<Vec<bool>, QueueError> {
        self.refuse_to_write()?;
        let (mut changed, mut woke) = (Vec::with_capacity(ids.len()), false);
        for some in ids.chunks(MOST) {
            let mut args = args(&self.store);
            args.arg(what).arg(micros(delay));
            for id in some {
                args.arg(&id.as_bytes()[..]);
            }
            let (answers, more) =
                settle::answers(self.call_once(Script::Change, &args)?, some.len())?;
            changed.extend(answers);
            woke |= more;
        }
        if woke {
            self.wake();
        }
        Ok(changed)
    }

    /// Jobs of one index, from a cursor on. Returns the next cursor, which is empty at the end.
    fn page(
        &self,
        request: &ListRequest,
        state: usize,
        cursor: &[u8],
        most: usize,
    ) -> Result<(Vec<u8>, Vec<JobInfo>), QueueError> {
        let mut args = args(&self.store);
        args.arg(state);
        match request.after {
            Some(after) => args.arg(&after.as_bytes()[..]),
            None => args.arg(""),
        };
        args.arg(cursor)
            .arg(request.kind.as_deref().unwrap_or_default())
            .arg(request.error.as_deref().unwrap_or_default())
            .arg(most)
            .arg(request.data.min(1 << 40));
        let answer = self.call(Script::Read, &args)?;
        shown(answer)
    }
}

/// An answer of `read`: the cursor, and the jobs.
fn shown(answer: Value) -> Result<(Vec<u8>, Vec<JobInfo>), QueueError> {
    let mut values = reply::list(answer)?.into_iter();
    let now = reply::count(&reply::next(&mut values)?)?;
    let cursor = reply::bytes(reply::next(&mut values)?)?;
    let mut jobs = Vec::with_capacity(values.len() / 9);
    while values.len() > 0 {
        jobs.push(info(&mut values, now)?);
    }
    Ok((cursor, jobs))
}

/// The first answer, of a call with one job.
fn one(answers: &[bool]) -> bool {
    answers.first() == Some(&true)
}

impl Admin for RedisBroker {
    fn get(&self, id: JobId) -> Result<Option<JobInfo>, QueueError> {
        self.sweep()?;
        let mut args = args(&self.store);
        args.arg(-1)
            .arg(&id.as_bytes()[..])
            .arg("")
            .arg("")
            .arg("")
            .arg(1)
            .arg(1_u64 << 40);
        let (_, mut jobs) = shown(self.call(Script::Read, &args)?)?;
        Ok(jobs.pop())
    }

    fn list(&self, request: &ListRequest) -> Result<Vec<JobInfo>, QueueError> {
        self.sweep()?;
        let Some(state) = number(request.state) else {
            return Ok(Vec::new());
        };
        let (mut jobs, mut seen, mut cursor) = (Vec::new(), HashSet::new(), Vec::new());
        while jobs.len() < request.limit {
            let most = request.limit - jobs.len();
            let (next, page) = self.page(request, state, &cursor, most)?;
            for job in page {
                // A cursor whose job is gone may go back to what was seen.
                let is_new = seen.insert(job.id);
                if is_new
                    && jobs.len() < request.limit
                    && request.wants(&job.kind, job.error.as_deref())
                {
                    jobs.push(job);
                }
            }
            if next.is_empty() {
                break;
            }
            cursor = next;
        }
        Ok(jobs)
    }

    fn stats(&self) -> Result<QueueStats, QueueError> {
        self.sweep()?;
        let mut args = args(&self.store);
        args.arg(0);
        let answer = reply::list(self.call(Script::Stats, &args)?)?;
        let numbers: Result<Vec<i64>, QueueError> = answer.iter().map(reply::number).collect();
        let numbers = numbers?;
        let [
            ready,
            delayed,
            parked,
            running,
            dead,
            results,
            oldest,
            paused,
            counters @ ..,
        ] = &numbers[..]
        else {
            return Err(QueueError::Corrupt(
                "the counts of a queue are too few".to_owned(),
            ));
        };
        let count = |number: &i64| u64::try_from(*number).unwrap_or(0);
        let counter = |at: usize| counters.get(at).map_or(0, count);
        let mut stats = QueueStats::default();
        stats.ready = count(ready);
        stats.delayed = count(delayed);
        stats.parked = count(parked);
        stats.running = count(running);
        stats.dead = count(dead);
        stats.results = count(results);
        stats.oldest = u64::try_from(*oldest).ok().map(Duration::from_micros);
        stats.paused = *paused == 1;
        stats.enqueued = counter(0);
        stats.duplicates = counter(1);
        stats.done = counter(2);
        stats.retried = counter(3);
        stats.died = counter(4);
        stats.lost_leases = counter(5);
        stats.expired = counter(6);
        stats.removed = counter(7);
        Ok(stats)
    }

    fn ready_kinds(&self) -> Result<Vec<String>, QueueError> {
        self.sweep()?;
        let mut args = args(&self.store);
        args.arg(1);
        let kinds = reply::list(self.call(Script::Stats, &args)?)?;
        kinds.into_iter().map(reply::text).collect()
    }

    fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        self.sweep()?;
        Ok(one(&self.remove(&[id], &JobState::WAITING, None)?))
    }

    fn cancel_running(&self, id: JobId) -> Result<bool, QueueError> {
        Ok(one(&self.change("cancel", Duration::ZERO, &[id])?))
    }

    fn set_due(&self, ids: &[JobId], delay: Duration) -> Result<Vec<bool>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.sweep()?;
        let set = self.change("due", delay, ids)?;
        // Also if they are delayed: a consumer may sleep past the new time.
        if set.contains(&true) {
            self.wake();
        }
        Ok(set)
    }

    fn remove_unchanged(&self, jobs: &[JobInfo]) -> Result<Vec<bool>, QueueError> {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let states = [
            JobState::Ready,
            JobState::Delayed,
            JobState::Parked,
            JobState::Dead,
        ];
        self.remove(&ids, &states, Some(jobs))
    }

    fn retry_dead(&self, id: JobId) -> Result<bool, QueueError> {
        self.sweep()?;
        Ok(one(&self.change("retry", Duration::ZERO, &[id])?))
    }

    fn delete(&self, id: JobId) -> Result<bool, QueueError> {
        Ok(one(&self.remove(&[id], &JobState::TERMINAL, None)?))
    }

    fn purge(&self, states: &[JobState]) -> Result<u64, QueueError> {
        if states.contains(&JobState::Running) {
            return Err(self.capabilities().unsupported("a purge of running jobs"));
        }
        self.refuse_to_write()?;
        self.sweep()?;
        let mut args = args(&self.store);
        args.arg("").arg("");
        let last = reply::text(self.call(Script::Purge, &args)?)?;
        let mut purged = 0;
        loop {
            let before = purged;
            for &state in states {
                let indexes = match number(state) {
                    // What is done is in two indexes.
                    Some(5) => vec![5, 6],
                    Some(number) => vec![number],
                    None => Vec::new(),
                };
                for index in indexes {
                    purged += self.purge_index(index, &last)?;
                }
            }
            // A job may have gone to a state that had been purged already, or have moved in its index.
            if purged == before {
                break;
            }
        }
        if states.contains(&JobState::Ready) {
            // Parked jobs have room now.
            self.sweep()?;
            self.wake();
        }
        Ok(purged)
    }

    fn set_paused(&self, paused: bool) -> Result<(), QueueError> {
        self.refuse_to_write()?;
        limits::pause(&self.store, &self.queue, paused)?;
        if !paused {
            self.wake();
        }
        Ok(())
    }

    fn set_retention(&self, retention: Retention) -> Result<(), QueueError> {
        self.refuse_to_write()?;
        limits::keep(&self.store, &self.queue, retention)?;
        self.queue.restore.set_retention(retention);
        Ok(())
    }

    fn retention(&self) -> Result<Retention, QueueError> {
        Ok(limits::get(&self.store, &self.queue)?.retention)
    }
}

impl RedisBroker {
    /// Removes what was in an index before the number `last` of the order was given.
    fn purge_index(&self, index: usize, last: &str) -> Result<u64, QueueError> {
        let (mut purged, mut left) = (0, 0);
        loop {
            let mut args = args(&self.store);
            args.arg(index).arg(last).arg(left);
            let answer = reply::list(self.call(Script::Purge, &args)?)?;
            let numbers: Result<Vec<u64>, QueueError> = answer.iter().map(reply::count).collect();
            let numbers = numbers?;
            let [removed, stays, more] = numbers[..] else {
                return Err(QueueError::Corrupt(
                    "a purge was not answered as it should be".to_owned(),
                ));
            };
            purged += removed;
            left = stays;
            if more == 0 {
                return Ok(purged);
            }
        }
    }
}
