//! Values as the scripts have them: times in microseconds up to 2^53, numbers in big-endian bytes.

use anthill_jobs::{JobId, QueueError};
use std::borrow::Cow;
use std::time::Duration;

/// The scripts' "never": all times up to it are exact in a double.
pub(crate) const NEVER: u64 = (1 << 53) - 1;

/// A time as the scripts get it, and never shorter than it is.
pub(crate) fn micros(time: Duration) -> u64 {
    let micros = u64::try_from(time.as_nanos().div_ceil(1_000));
    micros.map_or(NEVER, |micros| micros.min(NEVER))
}

/// One more than the time, and zero if there is none.
pub(crate) fn optional_micros(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| micros(time).min(NEVER - 1) + 1)
}

/// The place of a priority in the order of claims: the highest one first.
pub(crate) fn rank(priority: i16) -> u16 {
    let rank = i32::from(i16::MAX) - i32::from(priority);
    u16::try_from(rank).unwrap_or_default()
}

pub(crate) fn priority(rank: u64) -> i16 {
    let rank = i64::try_from(rank).unwrap_or_default();
    i16::try_from(i64::from(i16::MAX) - rank).unwrap_or_default()
}

/// A key as the scripts have it, for which an empty one is none.
pub(crate) fn key(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.starts_with('\0') {
        Cow::Owned(format!("\0{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The key that was stored, if there is one.
pub(crate) fn stored_key(text: &str) -> Option<String> {
    let key = text.strip_prefix('\0').unwrap_or(text);
    (!text.is_empty()).then(|| key.to_owned())
}

/// Writes the lowest `bytes` bytes of a number.
pub(crate) fn put(to: &mut Vec<u8>, number: u64, bytes: usize) {
    to.extend_from_slice(&number.to_be_bytes()[8 - bytes..]);
}

/// Reads what a script has packed.
pub(crate) struct Packed<'b> {
    rest: &'b [u8],
}

impl<'b> Packed<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Packed<'b> {
        Packed { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'b [u8], QueueError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| {
            QueueError::Corrupt("a stored value is shorter than it says".to_owned())
        })?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A number of so many bytes, at most 8.
    pub(crate) fn number(&mut self, length: usize) -> Result<u64, QueueError> {
        let bytes = self.bytes(length)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(crate) fn small(&mut self) -> Result<u32, QueueError> {
        let number = self.number(4)?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A text with its length of 4 bytes before it.
    pub(crate) fn text(&mut self) -> Result<String, QueueError> {
        let length = usize::try_from(self.number(4)?).unwrap_or(usize::MAX);
        text(self.bytes(length)?)
    }
}

pub(crate) fn text(bytes: &[u8]) -> Result<String, QueueError> {
    let text = String::from_utf8(bytes.to_vec());
    text.map_err(|_| QueueError::Corrupt("a stored text is not UTF-8".to_owned()))
}

pub(crate) fn job_id(bytes: &[u8]) -> Result<JobId, QueueError> {
    let bytes = bytes.try_into();
    let bytes =
        bytes.map_err(|_| QueueError::Corrupt("the id of a job has not 16 bytes".to_owned()))?;
    Ok(JobId::from_bytes(bytes))
}

/// How long after the other moment this one is; zero if it is before.
pub(crate) fn since(moment: u64, earlier: u64) -> Duration {
    Duration::from_micros(moment.saturating_sub(earlier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_never_shorter_than_they_are() {
        assert_eq!(micros(Duration::ZERO), 0);
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(micros(Duration::from_nanos(1_001)), 2);
        assert_eq!(micros(Duration::MAX), NEVER);
        assert_eq!(optional_micros(None), 0);
        assert_eq!(optional_micros(Some(Duration::ZERO)), 1);
        assert_eq!(optional_micros(Some(Duration::MAX)), NEVER);
    }

    #[test]
    fn priorities_sort_the_other_way_round_and_come_back() {
        for one in [i16::MIN, -1, 0, 1, i16::MAX] {
            assert_eq!(priority(u64::from(rank(one))), one);
        }
        assert!(rank(1) < rank(0));
    }

    #[test]
    fn keys_come_back_and_none_is_no_key() {
        assert_eq!(stored_key(""), None);
        let keys = ["", "a", "\0", "\0a"];
        for text in keys {
            assert!(!key(text).is_empty());
            assert_eq!(stored_key(&key(text)).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_packed_comes_back() {
        let mut bytes = Vec::new();
        put(&mut bytes, 0x0001_0203, 3);
        put(&mut bytes, 2, 4);
        bytes.extend_from_slice(b"hi!");
        let mut packed = Packed::new(&bytes);
        assert_eq!(packed.number(3).unwrap(), 0x0001_0203);
        assert_eq!(packed.text().unwrap(), "hi");
        assert!(packed.bytes(2).is_err());
        assert_eq!(packed.bytes(1).unwrap(), b"!");
        assert!(packed.is_empty());
    }
}
