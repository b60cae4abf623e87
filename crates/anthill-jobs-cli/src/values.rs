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

/// A header: a name and a text.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must be NAME=VALUE".to_owned()),
    }
}

/// A time for which something is kept.
pub(crate) fn kept(text: &str) -> Result<Bound<Duration>, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    let unit = UNITS
        .iter()
        .find_map(|&(unit, length)| Some((text.strip_suffix(unit)?, length)));
    let (number, length) = unit.unwrap_or((text, 1));
    let number: f64 = number
        .parse()
        .map_err(|_| "it is not a number of seconds, nor one with m, h or d, nor none")?;
    let time = Duration::try_from_secs_f64(number * f64::from(length));
    time.map(Some).map(Bound).map_err(|error| error.to_string())
}

/// A time as [`kept`] reads it.
pub(crate) fn kept_text(time: Option<Duration>) -> String {
    let Some(time) = time else {
        return "none".to_owned();
    };
    let seconds = time.as_secs();
    let is_whole = |&&(_, length): &&(&str, u32)| {
        time.subsec_nanos() == 0 && seconds > 0 && seconds % u64::from(length) == 0
    };
    match UNITS.iter().find(is_whole) {
        Some((unit, length)) => format!("{}{unit}", seconds / u64::from(*length)),
        None => time.as_secs_f64().to_string(),
    }
}

/// Units of time, and their lengths in seconds.
const UNITS: [(&str, u32); 3] = [("d", 86_400), ("h", 3_600), ("m", 60)];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_it_can_be_told() {
        for (text, seconds, shown) in [
            ("0", 0.0, "0"),
            ("90", 90.0, "90"),
            ("1.5", 1.5, "1.5"),
            ("120", 120.0, "2m"),
            ("1.5h", 5_400.0, "90m"),
            ("24h", 86_400.0, "1d"),
            ("30d", 2_592_000.0, "30d"),
        ] {
            let Bound(time) = kept(text).unwrap();
            assert_eq!(time, Some(Duration::from_secs_f64(seconds)), "{text}");
            assert_eq!(kept_text(time), shown, "{text}");
        }
        assert_eq!(kept("none").unwrap().0, None);
        assert_eq!(kept_text(None), "none");
        for text in ["", "d", "-1", "1w", "inf", "1e300d", "soon"] {
            assert!(kept(text).is_err(), "{text}");
        }
    }
}
