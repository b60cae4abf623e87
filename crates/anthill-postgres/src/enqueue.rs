//! Jobs as the functions of the schema get them: a column for each property, or a parameter where it is one job. And the answers.

use crate::errors::queue_error;
use crate::session::Param;
use crate::store::{Of, first};
use crate::values::{LONGEST_KEY, LONGEST_KIND, check, job_id, micros, uuid};
use anthill_jobs::{Enqueued, JobId, NewJob, QueueError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql, Type};
use uuid::Uuid;

/// The data of all jobs of one call, in bytes: a message to the server has at most a gibibyte.
const LARGEST_CALL: usize = 512 << 20;

/// Jobs, checked and ready to be sent.
pub(crate) struct Batch {
    ids: Vec<JobId>,
    columns: Vec<Param>,
}

impl Batch {
    pub(crate) fn of(jobs: &[NewJob]) -> Result<Batch, QueueError> {
        check_jobs(jobs)?;
        let time = |time: Option<Duration>| time.map(micros);
        let once = |job: &NewJob| job.once_per.clone();
        let columns = vec![
            column(Type::UUID_ARRAY, jobs, |job| uuid(job.id)),
            column(Type::TEXT_ARRAY, jobs, |job| job.kind.to_string()),
            column(Type::BYTEA_ARRAY, jobs, |job| job.payload.clone()),
            column(Type::INT4_ARRAY, jobs, |job| -i32::from(job.priority)),
            column(Type::INT8_ARRAY, jobs, |job| micros(job.delay)),
            column(Type::INT8_ARRAY, jobs, |job| i64::from(job.attempts.max(1))),
            rare(Type::INT8_ARRAY, jobs, |job| time(job.expires)),
            rare(Type::INT8_ARRAY, jobs, |job| time(job.keep_result)),
            rare(Type::TEXT_ARRAY, jobs, |job| job.key.clone()),
            rare(Type::TEXT_ARRAY, jobs, |job| job.unique.clone()),
            rare(Type::TEXT_ARRAY, jobs, |job| once(job).map(|once| once.key)),
            rare(Type::INT8_ARRAY, jobs, |job| {
                once(job).map(|once| micros(once.period))
            }),
            rare(Type::BOOL_ARRAY, jobs, |job| {
                (job.debounce && job.unique.is_some()).then_some(true)
            }),
            rare(Type::JSONB_ARRAY, jobs, headers),
        ];
        let ids = jobs.iter().map(|job| job.id).collect();
        Ok(Batch { ids, columns })
    }

    /// The parameters of a call that begins with others.
    pub(crate) fn params(self, first: Vec<Param>) -> (Vec<JobId>, Vec<Param>) {
        let mut params = first;
        params.extend(self.columns);
        (self.ids, params)
    }
}

/// A call that enqueues jobs, and is a transaction of its own.
pub(crate) struct Call {
    pub(crate) sql: Of,
    ids: Vec<JobId>,
    is_one: bool,
}

impl Call {
    /// The call, and its parameters.
    pub(crate) fn of(queue: Param, jobs: &[NewJob]) -> Result<(Call, Vec<Param>), QueueError> {
        if let [job] = jobs {
            if job.unique.is_none() && job.once_per.is_none() {
                check_jobs(jobs)?;
                let call = Call {
                    sql: |calls| &calls.enqueue_one,
                    ids: vec![job.id],
                    is_one: true,
                };
                return Ok((call, one(queue, job)));
            }
        }
        let (ids, params) = Batch::of(jobs)?.params(vec![queue, (Box::new(false), Type::BOOL)]);
        let call = Call {
            sql: |calls| &calls.enqueue,
            ids,
            is_one: false,
        };
        Ok((call, params))
    }

    pub(crate) fn answer(&self, rows: &[Row]) -> Result<Vec<Enqueued>, QueueError> {
        if !self.is_one {
            return answer(&self.ids, rows);
        }
        let id = self.ids[0];
        match first::<Option<i64>>(rows)? {
            None => Ok(vec![Enqueued::Added(id)]),
            Some(limit) => match u64::try_from(limit) {
                Ok(limit) => Err(QueueError::Full { limit }),
                Err(_) => Ok(vec![Enqueued::Duplicate(id)]),
            },
        }
    }
}

fn one(queue: Param, job: &NewJob) -> Vec<Param> {
    vec![
        queue,
        (Box::new(uuid(job.id)), Type::UUID),
        (Box::new(job.kind.to_string()), Type::TEXT),
        (Box::new(job.payload.clone()), Type::BYTEA),
        (Box::new(-i32::from(job.priority)), Type::INT4),
        (Box::new(micros(job.delay)), Type::INT8),
        (Box::new(i64::from(job.attempts.max(1))), Type::INT8),
        (Box::new(job.expires.map(micros)), Type::INT8),
        (Box::new(job.keep_result.map(micros)), Type::INT8),
        (Box::new(job.key.clone()), Type::TEXT),
        (Box::new(headers(job)), Type::JSONB),
    ]
}

fn column<T>(kind: Type, jobs: &[NewJob], of: impl Fn(&NewJob) -> T) -> Param
where
    T: ToSql + Send + Sync + std::fmt::Debug + 'static,
{
    let column: Vec<T> = jobs.iter().map(of).collect();
    (Box::new(column), kind)
}

/// A property that most jobs lack: no column, if none has it.
fn rare<T>(kind: Type, jobs: &[NewJob], of: impl Fn(&NewJob) -> Option<T>) -> Param
where
    T: ToSql + Send + Sync + std::fmt::Debug + 'static,
{
    let column: Vec<Option<T>> = jobs.iter().map(of).collect();
    let is_there = column.iter().any(Option::is_some);
    (Box::new(is_there.then_some(column)), kind)
}

fn headers(job: &NewJob) -> Option<Json<BTreeMap<String, String>>> {
    (!job.headers.is_empty()).then(|| Json(job.headers.clone()))
}

/// Refuses what the server cannot store.
fn check_jobs(jobs: &[NewJob]) -> Result<(), QueueError> {
    let mut size = 0_usize;
    for job in jobs {
        check_texts(job)?;
        size = size.saturating_add(job.payload.len());
    }
    if size > LARGEST_CALL {
        return Err(QueueError::TooLarge {
            size,
            limit: LARGEST_CALL,
        });
    }
    Ok(())
}

fn check_texts(job: &NewJob) -> Result<(), QueueError> {
    check("a kind", &job.kind, LONGEST_KIND)?;
    let once = job.once_per.as_ref().map(|once| &once.key);
    for (what, key) in [
        ("a key", job.key.as_ref()),
        ("a unique key", job.unique.as_ref()),
        ("a key", once),
    ] {
        if let Some(key) = key {
            check(what, key, LONGEST_KEY)?;
        }
    }
    for (name, value) in &job.headers {
        check("the name of a header", name, usize::MAX)?;
        check("a header", value, usize::MAX)?;
    }
    Ok(())
}

/// Reads the answer: a row for each job that is a duplicate; or one with the limit, if nothing was enqueued.
pub(crate) fn answer(ids: &[JobId], rows: &[Row]) -> Result<Vec<Enqueued>, QueueError> {
    let mut enqueued: Vec<Enqueued> = ids.iter().copied().map(Enqueued::Added).collect();
    for row in rows {
        let job: i32 = row.try_get("o_job").map_err(queue_error)?;
        if job == 0 {
            let limit: i64 = row.try_get("o_limit").map_err(queue_error)?;
            let limit = limit.unsigned_abs();
            return Err(QueueError::Full { limit });
        }
        let owner: Uuid = row.try_get("o_owner").map_err(queue_error)?;
        let index = usize::try_from(job - 1).unwrap_or(usize::MAX);
        if let Some(one) = enqueued.get_mut(index) {
            *one = Enqueued::Duplicate(job_id(owner));
        }
    }
    Ok(enqueued)
}
