//! The broker's parts for schedules and for the list of consumers.

use crate::broker::PostgresBroker;
use crate::enqueue::Batch;
use crate::session::Param;
use crate::store::{column, first};
use crate::values::{LONGEST_KEY, LONGEST_KIND, check, duration, fits, micros, storable};
use anthill_jobs::broker::{ConsumerRegistry, ScheduleStore, Schedules};
use anthill_jobs::{ConsumerInfo, Fired, Missed, NewJob, QueueError, Scheduled};
use std::time::Duration;
use tokio_postgres::types::Type;

/// By their number in the table.
const MISSED: [Missed; 3] = [Missed::Once, Missed::All, Missed::Skip];

impl ScheduleStore for PostgresBroker {
    fn schedules(&self) -> Result<Schedules, QueueError> {
        let rows = self
            .store
            .call(|calls| &calls.schedules, vec![self.number()])?;
        let Some((time, rows)) = rows.split_first() else {
            return Err(QueueError::Corrupt("a call was not answered".to_owned()));
        };
        let scheduled = rows.iter().map(|row| {
            let missed: i32 = column(row, "o_missed")?;
            let missed = usize::try_from(missed).ok().and_then(|at| MISSED.get(at));
            Ok(Scheduled {
                name: column(row, "o_name")?,
                cron: column(row, "o_cron")?,
                kind: column(row, "o_kind")?,
                payload: column(row, "o_payload")?,
                next: column(row, "o_next")?,
                missed: missed.copied().unwrap_or_default(),
            })
        });
        let all: Result<Vec<Scheduled>, QueueError> = scheduled.collect();
        Ok(Schedules::new(column(time, "o_next")?, all?))
    }

    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        let Scheduled {
            name,
            cron,
            kind,
            payload,
            next,
            missed,
        } = schedule;
        check("the name of a schedule", name, LONGEST_KEY)?;
        check("a cron expression", cron, LONGEST_KEY)?;
        check("a kind", kind, LONGEST_KIND)?;
        let missed = MISSED.iter().position(|each| each == missed);
        let missed = missed.and_then(|missed| i32::try_from(missed).ok());
        let params: Vec<Param> = vec![
            self.number(),
            (Box::new(name.clone()), Type::TEXT),
            (Box::new(cron.clone()), Type::TEXT),
            (Box::new(kind.clone()), Type::TEXT),
            (Box::new(payload.clone()), Type::BYTEA),
            (Box::new(*next), Type::INT8),
            (Box::new(missed.unwrap_or(0)), Type::INT4),
        ];
        self.change(|calls| &calls.put_schedule, params)?;
        self.wake();
        Ok(())
    }

    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        if !fits(name, LONGEST_KEY) {
            return Ok(false);
        }
        let params: Vec<Param> = vec![self.number(), (Box::new(name.to_owned()), Type::TEXT)];
        first(&self.change(|calls| &calls.drop_schedule, params)?)
    }

    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError> {
        if !fits(&schedule.name, LONGEST_KEY) {
            return Ok(Fired::Changed);
        }
        let jobs: Vec<NewJob> = job.cloned().into_iter().collect();
        let first_params: Vec<Param> = vec![
            self.number(),
            (Box::new(schedule.name.clone()), Type::TEXT),
            (Box::new(schedule.next), Type::INT8),
            (Box::new(next), Type::INT8),
        ];
        let (_, params) = Batch::of(&jobs)?.params(first_params);
        let fired: i32 = first(&self.change(|calls| &calls.fire, params)?)?;
        Ok(match fired {
            0 => {
                if job.is_some() {
                    self.wake();
                }
                Fired::Done
            }
            1 => Fired::Paused,
            _ => Fired::Changed,
        })
    }
}

impl ConsumerRegistry for PostgresBroker {
    fn announce(&self, consumer: &ConsumerInfo, time: Duration) -> Result<(), QueueError> {
        let kinds: Vec<String> = consumer.kinds.iter().map(|kind| storable(kind)).collect();
        check("the id of a consumer", &consumer.id, LONGEST_KEY)?;
        let params: Vec<Param> = vec![
            self.number(),
            (Box::new(consumer.id.clone()), Type::TEXT),
            (Box::new(kinds), Type::TEXT_ARRAY),
            (Box::new(i64::from(consumer.workers)), Type::INT8),
            (Box::new(i64::from(consumer.running)), Type::INT8),
            (Box::new(micros(consumer.age)), Type::INT8),
            (Box::new(micros(time)), Type::INT8),
        ];
        self.change(|calls| &calls.announce, params).map(drop)
    }

    fn withdraw(&self, id: &str) -> Result<(), QueueError> {
        if !fits(id, LONGEST_KEY) {
            return Ok(());
        }
        let params: Vec<Param> = vec![self.number(), (Box::new(id.to_owned()), Type::TEXT)];
        self.change(|calls| &calls.withdraw, params).map(drop)
    }

    fn consumers(&self) -> Result<Vec<ConsumerInfo>, QueueError> {
        let rows = self
            .store
            .call(|calls| &calls.consumers, vec![self.number()])?;
        let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        let consumers = rows.iter().map(|row| {
            let id: String = column(row, "o_id")?;
            let workers = small(column(row, "o_workers")?);
            let mut info = ConsumerInfo::new(id, column(row, "o_kinds")?, workers);
            info.running = small(column(row, "o_running")?);
            info.age = duration(column(row, "o_age")?);
            info.seen = duration(column(row, "o_seen")?);
            Ok(info)
        });
        consumers.collect()
    }
}
