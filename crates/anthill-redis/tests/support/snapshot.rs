//! All that a queue holds, read from its 21 keys at one moment, and the records of its jobs.

use anthill_test_support::redis::{Raw, Value};
use std::collections::BTreeMap;

pub(crate) type Bytes = Vec<u8>;
pub(crate) type Hash = BTreeMap<Bytes, Bytes>;
pub(crate) type Scores = BTreeMap<Bytes, f64>;

pub(crate) const HASHES: [&str; 10] = [
    "conf",
    "counts",
    "kinds",
    "jobs",
    "data",
    "more",
    "keys",
    "uniques",
    "schedules",
    "consumers",
];

pub(crate) const SORTED: [&str; 11] = [
    "ready", "delayed", "parked", "running", "dead", "done", "kept", "expiring", "keyed",
    "periods", "seen",
];

pub(crate) const READY: u64 = 0;
pub(crate) const DELAYED: u64 = 1;
pub(crate) const PARKED: u64 = 2;
pub(crate) const RUNNING: u64 = 3;
pub(crate) const DEAD: u64 = 4;

/// All keys at one moment.
pub(crate) struct Snapshot {
    pub(crate) hashes: BTreeMap<&'static str, Hash>,
    pub(crate) sorted: BTreeMap<&'static str, Scores>,
}

impl Snapshot {
    pub(crate) fn read(raw: &mut Raw, tag: &str) -> Snapshot {
        raw.run(&["MULTI"]);
        for name in HASHES {
            raw.run(&["HGETALL", &format!("{tag}{name}")]);
        }
        for name in SORTED {
            raw.run(&["ZRANGE", &format!("{tag}{name}"), "0", "-1", "WITHSCORES"]);
        }
        let mut answers = raw.run(&["EXEC"]).array().into_iter();
        let mut pairs = || {
            let flat = answers.next().expect("an answer for each").array();
            let flat: Vec<Bytes> = flat.into_iter().map(bytes).collect();
            let pairs = flat.chunks(2);
            pairs
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect::<Vec<_>>()
        };
        let hashes = HASHES.map(|name| (name, pairs().into_iter().collect()));
        let sorted = SORTED.map(|name| {
            let scored = pairs().into_iter().map(|(member, score)| {
                let score = String::from_utf8(score).expect("a number");
                (member, score.parse().expect("a number"))
            });
            (name, scored.collect())
        });
        Snapshot {
            hashes: hashes.into(),
            sorted: sorted.into(),
        }
    }
}

fn bytes(value: Value) -> Bytes {
    match value {
        Value::Bulk(bytes) => bytes,
        other => other.text().into_bytes(),
    }
}

/// Reads numbers and texts one after the other.
pub(crate) struct Fields<'b>(pub(crate) &'b [u8]);

impl<'b> Fields<'b> {
    pub(crate) fn take(&mut self, size: usize) -> &'b [u8] {
        let (first, rest) = self.0.split_at(size);
        self.0 = rest;
        first
    }

    pub(crate) fn number(&mut self, size: usize) -> u64 {
        let bytes = self.take(size).iter();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub(crate) fn text(&mut self) -> &'b [u8] {
        let size = self.number(4);
        self.take(usize::try_from(size).expect("it fits"))
    }
}

/// The record of a job.
pub(crate) struct Record {
    pub(crate) state: u64,
    pub(crate) flags: u64,
    pub(crate) kind: u64,
    /// Rank, turn and number, in bytes that sort as they do.
    pub(crate) place: Bytes,
    pub(crate) number: u64,
    pub(crate) due: u64,
    pub(crate) token: Bytes,
    pub(crate) expires: u64,
    pub(crate) keep: u64,
    pub(crate) unique: Bytes,
    pub(crate) key: Bytes,
    pub(crate) who: Bytes,
}

impl Record {
    pub(crate) fn of(record: &[u8]) -> Record {
        let mut fields = Fields(record);
        let (state, flags) = (fields.number(1), fields.number(2));
        let rank = fields.take(2);
        let kind = fields.number(3);
        let (_attempt, _attempts) = (fields.number(4), fields.number(4));
        let (turn, order) = (fields.take(7), fields.take(6));
        let due = fields.number(7);
        let _enqueued = fields.number(7);
        let token = fields.take(12).to_vec();
        let (expires, keep) = (fields.number(7), fields.number(7));
        let [unique, key, who] = [fields.text(), fields.text(), fields.text()].map(<[u8]>::to_vec);
        assert!(fields.0.is_empty(), "a record has an end");
        Record {
            state,
            flags,
            kind,
            place: [rank, turn, order].concat(),
            number: Fields(order).number(6),
            due,
            token,
            expires,
            keep,
            unique,
            key,
            who,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.state <= PARKED
    }

    /// Its number in the order, and its id.
    pub(crate) fn member(&self, id: &[u8]) -> Bytes {
        [&self.place[9..], id].concat()
    }
}
