//! Cron expressions: the next time of a schedule.

use crate::error::QueueError;
use chrono::{DateTime, Utc};
use croner::Cron;
use std::str::FromStr;

/// The first time after `after` (both in seconds since 1970) that matches the cron expression, in UTC.
pub(crate) fn next(cron: &str, after: i64) -> Result<i64, QueueError> {
    let wrong = |reason: String| QueueError::Schedule {
        text: cron.to_owned(),
        reason,
    };
    let is_one_word = cron.trim_start().starts_with('@');
    if !is_one_word && cron.split_whitespace().count() != 5 {
        return Err(wrong("it does not have five fields".to_owned()));
    }
    // The parser takes an empty list for a field that never matches, and then searches to the year 5000.
    let has_empty_item = |field: &str| {
        field
            .split(',')
            .any(|item| item.trim_matches('+').is_empty())
    };
    if cron.split_whitespace().any(has_empty_item) {
        return Err(wrong("a field has an empty list item".to_owned()));
    }
    let parsed = Cron::from_str(cron).map_err(|error| wrong(error.to_string()))?;
    let after = DateTime::<Utc>::from_timestamp(after, 0);
    let after = after.ok_or_else(|| wrong("the clock is out of range".to_owned()))?;
    let next = parsed.find_next_occurrence(&after, false);
    let next = next.map_err(|error| wrong(error.to_string()))?;
    Ok(next.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_after_now() {
        let noon = 1_735_732_800; // the first of January 2025
        assert_eq!(next("0 * * * *", noon).unwrap(), noon + 3600);
        assert_eq!(next("0 * * * *", noon - 1).unwrap(), noon);
        assert_eq!(next("*/5 * * * *", noon + 1).unwrap(), noon + 300);
        // The next first of March.
        assert_eq!(next("0 0 1 3 *", noon).unwrap(), 1_740_787_200);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for cron in [
            "",
            "every day",
            "61 * * * *",
            "0 0 30 2 *",
            "0 0 13 1 1 *",
            "0 0 13 1 1 * 2025",
        ] {
            let error = next(cron, 0).unwrap_err();
            assert!(
                matches!(error, QueueError::Schedule { .. }),
                "{cron}: {error}"
            );
        }
    }

    /// Before the search, which would go on for seconds and find nothing.
    #[test]
    fn an_empty_list_item_is_refused_by_name() {
        for cron in [", * * * *", "* 1,,2 * * *", "4 * 2 * +"] {
            let error = next(cron, 0).unwrap_err().to_string();
            assert!(error.contains("empty list item"), "{cron}: {error}");
        }
    }
}
