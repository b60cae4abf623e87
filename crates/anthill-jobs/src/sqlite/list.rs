//! Lists of jobs in a state, in the order of the state's index.
//!
//! - LS1. A list of jobs of a kind, or with an error, looks at [`LOOKED_AT`] jobs in each read, however few it wants: other
//!   readers of the process, of which there is one at a time, wait no longer than that. So it is no picture of one moment.
//! - LS2. Each read goes on behind the last job that was looked at, wherever that is by then.

use super::kinds::{self, Order, order};
use super::manage::index;
use super::read;
use super::time::Now;
use super::tx::number;
use crate::{JobId, JobInfo, JobState, ListRequest};
use rusqlite::{Connection, OptionalExtension, params};

/// How many jobs one read looks at to find those that are wanted.
const LOOKED_AT: usize = 5_000;

/// Jobs of a state that have an order.
struct Run {
    which: &'static str,
    /// Three columns, and the place is one of them.
    order: &'static str,
    place: usize,
}

fn runs(state: JobState) -> &'static [Run] {
    const fn run(which: &'static str, order: &'static str, place: usize) -> Run {
        Run {
            which,
            order,
            place,
        }
    }
    const BY_TURN: [Run; 1] = [run("", "rank, turn, place", 2)];
    const BY_DUE: [Run; 1] = [run("", "due, turn, place", 2)];
    const BY_END: [Run; 1] = [run("", "turn, place, rank", 1)];
    const DONE: [Run; 2] = [
        run("AND until IS NULL", "turn, place, rank", 1),
        run("AND until IS NOT NULL", "until, turn, place", 2),
    ];
    match state {
        JobState::Ready | JobState::Parked => &BY_TURN,
        JobState::Delayed => &BY_DUE,
        JobState::Running | JobState::Dead => &BY_END,
        JobState::Done => &DONE,
    }
}

/// A list that is being made.
pub(super) struct Listing<'r> {
    queue: i64,
    request: &'r ListRequest,
    /// The jobs that were found.
    pub(super) found: Vec<JobInfo>,
    /// Where to go on.
    next: Next,
}

enum Next {
    /// Behind that job.
    Job(JobId),
    /// In that run, behind that order.
    At(usize, Order),
    Nowhere,
}

impl<'r> Listing<'r> {
    pub(super) fn new(queue: i64, request: &'r ListRequest) -> Listing<'r> {
        let from_start = Next::At(0, kinds::START);
        Listing {
            queue,
            request,
            found: Vec::new(),
            next: request.after.map_or(from_start, Next::Job),
        }
    }

    fn is_filtered(&self) -> bool {
        self.request.kind.is_some() || self.request.error.is_some()
    }

    /// Finds some more. Returns whether there may be others.
    pub(super) fn go_on(&mut self, connection: &Connection, now: Now) -> rusqlite::Result<bool> {
        if let Next::Job(id) = self.next {
            self.next = self.behind(connection, id)?;
        }
        let mut left_to_look_at = if self.is_filtered() {
            LOOKED_AT
        } else {
            usize::MAX
        };
        while let Next::At(run, after) = self.next {
            let wanted = self.request.limit - self.found.len();
            if wanted == 0 {
                self.next = Next::Nowhere;
                break;
            }
            if left_to_look_at == 0 {
                return Ok(true);
            }
            let limit = if self.is_filtered() {
                left_to_look_at
            } else {
                wanted
            };
            let jobs = self.jobs(connection, run, after, limit)?;
            left_to_look_at -= jobs.len();
            self.next = match jobs.last() {
                Some(&(order, _)) if jobs.len() == limit => Next::At(run, order),
                _ if run + 1 < runs(self.request.state).len() => Next::At(run + 1, kinds::START),
                _ => Next::Nowhere,
            };
            for (_, place) in jobs {
                if self.found.len() < self.request.limit && self.wants(connection, place)? {
                    let data = i64::try_from(self.request.data).unwrap_or(i64::MAX);
                    self.found.push(read::at(connection, place, data, now)?);
                }
            }
        }
        Ok(false)
    }

    /// Where to go on behind a job: at the start, if it is not in that state.
    fn behind(&self, connection: &Connection, id: JobId) -> rusqlite::Result<Next> {
        let state = number(self.request.state);
        for (at, Run { which, order, .. }) in runs(self.request.state).iter().enumerate() {
            let find = format!(
                "SELECT {order} FROM anthill_jobs WHERE queue = ?1 AND id = ?2 AND state = {state} {which}"
            );
            let mut find = connection.prepare_cached(&find)?;
            let key = params![self.queue, id.as_bytes()];
            let found = find.query_row(key, |row| kinds::order(row, 0));
            if let Some(order) = found.optional()? {
                return Ok(Next::At(at, order));
            }
        }
        Ok(Next::At(0, kinds::START))
    }

    /// The next jobs of a run, up to `limit`: their orders and places.
    fn jobs(
        &self,
        connection: &Connection,
        run: usize,
        after: Order,
        limit: usize,
    ) -> rusqlite::Result<Vec<(Order, i64)>> {
        let state = self.request.state;
        if state == JobState::Ready {
            let kinds = match &self.request.kind {
                Some(kind) => vec![kind.clone()],
                None => kinds::ready_kinds(connection, self.queue)?,
            };
            let first = kinds::first_of(connection, self.queue, &kinds, after, limit)?;
            return Ok(first.into_iter().map(|order| (order, order.2)).collect());
        }
        let Run {
            which,
            order: by,
            place,
        } = runs(state)[run];
        // The data is read later, so that a sort does not have to move it.
        let list = format!(
            "SELECT {by} FROM anthill_jobs INDEXED BY {} WHERE queue = ?1 AND state = {} {which} AND ({by}) > (?2, ?3, ?4)
            ORDER BY {by} LIMIT ?5",
            index(state),
            number(state)
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut list = connection.prepare_cached(&list)?;
        let after = params![self.queue, after.0, after.1, after.2, limit];
        let jobs = list.query_map(after, |row| Ok((order(row, 0)?, row.get(place)?)))?;
        jobs.collect()
    }

    /// Whether a job is of the kind and has the error that the request asks for.
    fn wants(&self, connection: &Connection, place: i64) -> rusqlite::Result<bool> {
        if !self.is_filtered() {
            return Ok(true);
        }
        let mut looked_at =
            connection.prepare_cached("SELECT kind, error FROM anthill_jobs WHERE place = ?1")?;
        looked_at.query_row([place], |row| {
            let error = row.get_ref(1)?.as_str_or_null()?;
            Ok(self.request.wants(row.get_ref(0)?.as_str()?, error))
        })
    }
}
