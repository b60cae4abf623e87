//! Warnings without a hook: through the `log` crate, or on standard error if the program has set no logger.

use crate::error::QueueError;
use crate::sync::lock;
use std::error::Error;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// After which the same failure is reported again.
const AGAIN: Duration = Duration::from_secs(60);

/// The last failure, and when it was reported.
#[derive(Default)]
pub(super) struct Reports(Mutex<Option<(String, Instant)>>);

impl Reports {
    /// Reports a failure of a broker; the same one at most once a minute.
    pub(super) fn failure(&self, error: &QueueError) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(behind) = source {
            text += ": ";
            text += &behind.to_string();
            source = behind.source();
        }
        if self.is_new(&text) {
            warn(&format!(
                "the broker of a consumer failed, which tries again: {text}"
            ));
        }
    }

    fn is_new(&self, text: &str) -> bool {
        let now = Instant::now();
        let mut last = lock(&self.0);
        let is_old = |(reported, at): &(String, Instant)| {
            reported == text && now.saturating_duration_since(*at) < AGAIN
        };
        let is_new = !last.as_ref().is_some_and(is_old);
        if is_new {
            *last = Some((text.to_owned(), now));
        }
        is_new
    }

    /// The broker works again: the next failure is new.
    pub(super) fn works(&self) {
        *lock(&self.0) = None;
    }
}

pub(super) fn warn(text: &str) {
    if log::max_level() == log::LevelFilter::Off {
        eprintln!("anthill-jobs: {text}");
    } else {
        log::warn!(target: "anthill_jobs", "{text}");
    }
}
