//! The broker's parts for schedules and for the list of consumers.

use crate::broker::RedisBroker;
use crate::call::Again;
use crate::enqueue::{self, Answer};
use crate::reply;
use crate::scripts::Script;
use crate::store::{QueueState, Store, args};
use crate::values::{self, Packed, micros, since};
use anthill_jobs::broker::{ConsumerRegistry, ScheduleStore, Schedules};
use anthill_jobs::{ConsumerInfo, Fired, Missed, NewJob, QueueError, Scheduled};
use std::collections::BTreeMap;
use std::time::Duration;

/// By their number in a stored schedule.
const MISSED: [Missed; 3] = [Missed::Once, Missed::All, Missed::Skip];

/// The consumers of one answer.
const PAGE: usize = 200;

fn put_text(to: &mut Vec<u8>, text: &[u8]) {
    values::put(to, text.len() as u64, 4);
    to.extend_from_slice(text);
}

/// Stores a schedule, in place of one with the same name.
pub(crate) fn put(
    store: &Store,
    queue: &QueueState,
    schedule: &Scheduled,
) -> Result<(), QueueError> {
    let missed = MISSED.iter().position(|each| *each == schedule.missed);
    let mut details = Vec::new();
    put_text(&mut details, schedule.cron.as_bytes());
    put_text(&mut details, schedule.kind.as_bytes());
    put_text(&mut details, &schedule.payload);
    details.push(
        missed
            .and_then(|missed| u8::try_from(missed).ok())
            .unwrap_or(0),
    );
    let mut args = args(store);
    args.arg("put")
        .arg(&schedule.name)
        .arg(schedule.next)
        .arg(&schedule.cron)
        .arg(&details[..]);
    store
        .call(queue, Script::Schedules, &args, Again::Once)
        .map(drop)
}

fn schedule(name: String, stored: &[u8]) -> Result<Scheduled, QueueError> {
    let mut stored = Packed::new(stored);
    // The bytes are those of a signed number.
    let next = i64::from_be_bytes(stored.number(8)?.to_be_bytes());
    let (cron, kind) = (stored.text()?, stored.text()?);
    let length = usize::try_from(stored.number(4)?).unwrap_or(usize::MAX);
    let payload = stored.bytes(length)?.to_vec();
    let missed = usize::try_from(stored.number(1)?).ok();
    let missed = missed.and_then(|missed| MISSED.get(missed).copied());
    Ok(Scheduled {
        name,
        cron,
        kind,
        payload,
        next,
        missed: missed.unwrap_or_default(),
    })
}

impl ScheduleStore for RedisBroker {
    fn schedules(&self) -> Result<Schedules, QueueError> {
        // A scan may name one twice.
        let mut all = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut args = args(&self.store);
            args.arg("all").arg(&cursor);
            let answer = self.call(Script::Schedules, &args)?;
            let mut answer = reply::list(answer)?.into_iter();
            let now = reply::count(&reply::next(&mut answer)?)?;
            cursor = reply::text(reply::next(&mut answer)?)?;
            let mut page = reply::list(reply::next(&mut answer)?)?.into_iter();
            while let Some(name) = page.next() {
                let name = reply::text(name)?;
                let stored = reply::bytes(reply::next(&mut page)?)?;
                all.insert(name.clone(), schedule(name, &stored)?);
            }
            if cursor == "0" {
                let now = i64::try_from(now / 1_000_000).unwrap_or(i64::MAX);
                return Ok(Schedules::new(now, all.into_values().collect()));
            }
        }
    }

    fn put_schedule(&self, schedule: &Scheduled) -> Result<(), QueueError> {
        self.refuse_to_write()?;
        put(&self.store, &self.queue, schedule)?;
        self.queue.restore.put_schedule(schedule);
        self.wake();
        Ok(())
    }

    fn drop_schedule(&self, name: &str) -> Result<bool, QueueError> {
        self.refuse_to_write()?;
        self.queue.restore.drop_schedule(name);
        let mut args = args(&self.store);
        args.arg("drop").arg(name);
        let dropped = self
            .store
            .call(&self.queue, Script::Schedules, &args, Again::Never)?;
        Ok(reply::count(&dropped)? == 1)
    }

    fn fire(
        &self,
        schedule: &Scheduled,
        next: i64,
        job: Option<&NewJob>,
    ) -> Result<Fired, QueueError> {
        self.refuse_to_write()?;
        let jobs: Vec<NewJob> = job.cloned().into_iter().collect();
        let mut args = args(&self.store);
        enqueue::args(
            &mut args,
            Some((&schedule.name, schedule.next, next)),
            &jobs,
        )?;
        let answer = self.call(Script::Enqueue, &args)?;
        match enqueue::answer(&jobs, answer)? {
            Answer::Stored(_) => {
                if job.is_some() {
                    self.wake();
                }
                Ok(Fired::Done)
            }
            Answer::Paused => Ok(Fired::Paused),
            Answer::Changed | Answer::Full | Answer::Sweep => Ok(Fired::Changed),
        }
    }
}

impl ConsumerRegistry for RedisBroker {
    fn announce(&self, consumer: &ConsumerInfo, time: Duration) -> Result<(), QueueError> {
        self.refuse_to_write()?;
        let mut details = Vec::new();
        values::put(&mut details, micros(consumer.age), 7);
        values::put(&mut details, u64::from(consumer.workers), 4);
        values::put(&mut details, u64::from(consumer.running), 4);
        for kind in &consumer.kinds {
            put_text(&mut details, kind.as_bytes());
        }
        let mut args = args(&self.store);
        args.arg("announce")
            .arg(&consumer.id)
            .arg(micros(time))
            .arg(&details[..]);
        self.call(Script::Consumers, &args).map(drop)
    }

    fn withdraw(&self, id: &str) -> Result<(), QueueError> {
        self.refuse_to_write()?;
        let mut args = args(&self.store);
        args.arg("withdraw").arg(id);
        self.call(Script::Consumers, &args).map(drop)
    }

    fn consumers(&self) -> Result<Vec<ConsumerInfo>, QueueError> {
        let mut all: BTreeMap<String, ConsumerInfo> = BTreeMap::new();
        let mut from = 0_usize;
        loop {
            let mut args = args(&self.store);
            args.arg("all").arg(from);
            let answer = reply::list(self.call(Script::Consumers, &args)?)?;
            let in_page = answer.len() / 2;
            let mut answer = answer.into_iter();
            let now = reply::count(&reply::next(&mut answer)?)?;
            while let Some(id) = answer.next() {
                let id = reply::text(id)?;
                let stored = reply::bytes(reply::next(&mut answer)?)?;
                let info = consumer(id.clone(), &stored, now)?;
                all.insert(id, info);
            }
            if in_page < PAGE {
                return Ok(all.into_values().collect());
            }
            from += in_page;
        }
    }
}

fn consumer(id: String, stored: &[u8], now: u64) -> Result<ConsumerInfo, QueueError> {
    let mut stored = Packed::new(stored);
    let announced = stored.number(7)?;
    let age = Duration::from_micros(stored.number(7)?);
    let (workers, running) = (stored.small()?, stored.small()?);
    let mut kinds = Vec::new();
    while !stored.is_empty() {
        kinds.push(stored.text()?);
    }
    let mut info = ConsumerInfo::new(id, kinds, workers);
    info.seen = since(now, announced);
    info.age = age + info.seen;
    info.running = running;
    Ok(info)
}
