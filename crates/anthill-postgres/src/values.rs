//! Values as the server stores them: times in microseconds, texts without NUL.

use anthill_jobs::{JobId, QueueError};
use bytes::BytesMut;
use std::error::Error;
use std::time::Duration;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

/// A moment of the server's clock: microseconds since 2000. The smallest and the largest are before and after all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) i64);

impl Moment {
    pub(crate) const EARLIEST: Moment = Moment(i64::MIN);
    pub(crate) const LATEST: Moment = Moment(i64::MAX);

    /// How long after the other one it is; zero if it is before.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// The last moment before.
    pub(crate) fn before(self) -> Moment {
        Moment(self.0.saturating_sub(1))
    }
}

impl<'a> FromSql<'a> for Moment {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Moment, Box<dyn Error + Sync + Send>> {
        i64::from_sql(kind, raw).map(Moment)
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for Moment {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(kind, out)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

/// A time as the server gets it, and never shorter than it is.
pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX)
}

pub(crate) fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

pub(crate) fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

pub(crate) fn uuid(id: JobId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(crate) fn job_id(id: Uuid) -> JobId {
    JobId::from_bytes(*id.as_bytes())
}

/// The longest kind, in bytes: it is in an index.
pub(crate) const LONGEST_KIND: usize = 1_000;

/// The longest key of any sort, in bytes.
pub(crate) const LONGEST_KEY: usize = 2_000;

/// Whether the server can store a text of at most so many bytes.
pub(crate) fn fits(text: &str, longest: usize) -> bool {
    text.len() <= longest && !text.contains('\0')
}

/// Refuses a text that the server cannot store.
pub(crate) fn check(what: &str, text: &str, longest: usize) -> Result<(), QueueError> {
    if text.len() > longest {
        return Err(QueueError::Invalid(format!(
            "{what} of {} bytes is longer than {longest}",
            text.len()
        )));
    }
    if text.contains('\0') {
        return Err(QueueError::Invalid(format!(
            "{what} has a NUL character, which Postgres stores in no text"
        )));
    }
    Ok(())
}

/// A text that is told and not looked up: what the server cannot store is replaced.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_never_shorter_than_they_are() {
        assert_eq!(micros(Duration::ZERO), 0);
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(micros(Duration::from_micros(1)), 1);
        assert_eq!(micros(Duration::from_nanos(1_001)), 2);
        assert_eq!(micros(Duration::MAX), i64::MAX);
        assert_eq!(duration(-1), Duration::ZERO);
    }

    #[test]
    fn moments_do_not_overflow() {
        let never = Moment(i64::MAX);
        assert_eq!(Moment(5).since(never), Duration::ZERO);
        assert_eq!(Moment(7).since(Moment(5)), Duration::from_micros(2));
        assert!(never.since(Moment::EARLIEST) >= Duration::from_micros(1));
        assert_eq!(Moment::EARLIEST.before(), Moment::EARLIEST);
    }
}
