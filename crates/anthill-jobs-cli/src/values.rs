//! The values of options: how each is read, and which are refused.

use anthill_jobs::{JobState, OncePer, Rate};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::time::Duration;

/// A limit, or none.
#[derive(Clone, Copy)]
pub(crate) struct Bound<T>(pub(crate) Option<T>);

pub(crate) fn state(may: impl Fn(JobState) -> bool) -> impl TypedValueParser<Value = JobState> {
    let names = JobState::ALL.into_iter().filter(|&state| may(state));
    PossibleValuesParser::new(names.map(JobState::name)).try_map(|name| {
        let mut all = JobState::ALL.into_iter();
        all.find(|state| state.name() == name).ok_or("not a state")
    })
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "it is not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A key and a period.
pub(crate) fn once_per(text: &str) -> Result<OncePer, String> {
    // The key may contain slashes.
    match text.rsplit_once('/') {
        Some((key, period)) if !key.is_empty() => Ok(OncePer {
            key: key.to_owned(),
            period: seconds(period)?,
        }),
        _ => Err("it must be KEY/SECONDS".to_owned()),
    }
}

/// The pause between two tables.
pub(crate) fn pause(text: &str) -> Result<Duration, String> {
    let pause = seconds(text)?;
    if pause < Duration::from_millis(10) {
        return Err("the minimum is a hundredth of a second".to_owned());
    }
    Ok(pause)
}

fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("the minimum is 1; use `pause` to let no job start".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{text:?} is not a number: {error}")),
    }
}

pub(crate) fn limit(text: &str) -> Result<Bound<u32>, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    count(text).map(Some).map(Bound)
}

pub(crate) fn ready(text: &str) -> Result<Bound<u64>, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    let ready = text.parse::<u64>();
    let ready = ready.map_err(|error| format!("{text:?} is not a number: {error}"))?;
    // The largest number that the file can store.
    if i64::try_from(ready).is_err() {
        return Err(format!("the maximum is {}", i64::MAX));
    }
    Ok(Bound(Some(ready)))
}

/// A longer period is a mistake.
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(crate) fn rate(text: &str) -> Result<Bound<Rate>, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    let parts: Vec<&str> = text.split('/').collect();
    let (jobs, per, burst) = match parts[..] {
        [jobs, per] => (jobs, per, "1"),
        [jobs, per, burst] => (jobs, per, burst),
        _ => return Err("a rate is like 10/1 or 10/1/5, or none".to_owned()),
    };
    let (jobs, per, burst) = (count(jobs)?, seconds(per)?, count(burst)?);
    if per.is_zero() || per > YEAR {
        return Err("its period must be more than 0 seconds, and no more than a year".to_owned());
    }
    Ok(Bound(Some(Rate { jobs, per, burst })))
}
