//! What operators set: a pause, limits, and how long the queue keeps what is over. Each value is stored as one more than it is, and
//! zero is none.

use crate::broker::RedisBroker;
use crate::call::Again;
use crate::reply;
use crate::scripts::Script;
use crate::store::{QueueState, Store, args};
use crate::values::{NEVER, optional_micros};
use anthill_jobs::broker::LimitStore;
use anthill_jobs::{Limits, QueueError, Rate, Retention};
use redis::{Cmd, Value};
use std::time::Duration;

/// All that is set.
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
}

fn one_more(number: Option<u32>) -> u64 {
    number.map_or(0, |number| u64::from(number) + 1)
}

fn one_less(number: u64) -> Option<u32> {
    let number = number.checked_sub(1)?;
    Some(u32::try_from(number).unwrap_or(u32::MAX))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).map_or(NEVER, |nanos| nanos.min(NEVER))
}

fn time(number: u64) -> Option<Duration> {
    match number.checked_sub(1)? {
        micros if micros == NEVER - 1 => Some(Duration::MAX),
        micros => Some(Duration::from_micros(micros)),
    }
}

fn call(
    store: &Store,
    queue: &QueueState,
    what: &str,
    values: impl FnOnce(&mut Cmd),
) -> Result<Settings, QueueError> {
    let mut args = args(store);
    args.arg(what);
    values(&mut args);
    let answer = store.call(queue, Script::Settings, &args, Again::Once)?;
    let values: Result<Vec<u64>, QueueError> = reply::list(answer)?
        .iter()
        .map(reply::count)
        .collect::<Result<_, _>>();
    let values = values?;
    let [_, running, per_key, jobs, per, burst, max_ready, done, dead] = values[..] else {
        return Err(QueueError::Corrupt(
            "the settings of a queue are not as many as they should be".to_owned(),
        ));
    };
    let rate = one_less(jobs).map(|jobs| Rate {
        jobs,
        per: Duration::from_nanos(per),
        burst: u32::try_from(burst).unwrap_or(u32::MAX),
    });
    let mut retention = Retention::default();
    retention.done = time(done);
    retention.dead = time(dead);
    Ok(Settings {
        limits: Limits {
            running: one_less(running),
            per_key: one_less(per_key),
            rate,
            max_ready: max_ready.checked_sub(1),
        },
        retention,
    })
}

pub(crate) fn get(store: &Store, queue: &QueueState) -> Result<Settings, QueueError> {
    call(store, queue, "get", |_| {})
}

pub(crate) fn pause(store: &Store, queue: &QueueState, paused: bool) -> Result<(), QueueError> {
    let set = |args: &mut Cmd| {
        args.arg(u8::from(paused));
    };
    call(store, queue, "pause", set).map(drop)
}

pub(crate) fn keep(
    store: &Store,
    queue: &QueueState,
    retention: Retention,
) -> Result<(), QueueError> {
    let set = |args: &mut Cmd| {
        args.arg(optional_micros(retention.done));
        args.arg(optional_micros(retention.dead));
    };
    call(store, queue, "keep", set).map(drop)
}

pub(crate) fn set(store: &Store, queue: &QueueState, limits: Limits) -> Result<(), QueueError> {
    let rate = limits.rate;
    let set = |args: &mut Cmd| {
        args.arg(one_more(limits.running));
        args.arg(one_more(limits.per_key));
        args.arg(one_more(rate.map(|rate| rate.jobs)));
        args.arg(rate.map_or(0, |rate| nanos(rate.per)));
        args.arg(rate.map_or(0, |rate| rate.burst));
        let most = limits.max_ready.map(|most| most.min(NEVER - 1) + 1);
        args.arg(most.unwrap_or(0));
    };
    call(store, queue, "limits", set).map(drop)
}

impl LimitStore for RedisBroker {
    fn set_limits(&self, limits: Limits) -> Result<(), QueueError> {
        self.refuse_to_write()?;
        set(&self.store, &self.queue, limits)?;
        self.queue.restore.set_limits(limits);
        // What the new limits park or make ready shows at once; where that is much, claims do the rest.
        self.sweep_for_a_while()?;
        self.wake();
        Ok(())
    }

    fn limits(&self) -> Result<Limits, QueueError> {
        Ok(get(&self.store, &self.queue)?.limits)
    }
}

/// Whether a script has answered with nothing.
pub(crate) fn is_zero(value: &Value) -> bool {
    matches!(value, Value::Int(0))
}
