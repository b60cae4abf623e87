//! The invariants of a queue, read from its 21 keys by a client that knows nothing of the crate: each job is in the indexes that
//! its record tells and in no other, each key's jobs are counted and within its limit, and each unique key is of a job that lives.
//!
//! They hold after each script, so also between any two calls of a fleet at work: all keys are read in one transaction.

use super::snapshot::{
    Bytes, DEAD, DELAYED, Fields, HASHES, Hash, PARKED, READY, RUNNING, Record, SORTED, Scores,
    Snapshot,
};
use anthill_test_support::redis::Raw;
use std::collections::{BTreeMap, BTreeSet};

/// What a job has in `more`, by its flag.
const MORE: [(u64, u8); 4] = [(16, b'h'), (32, b'e'), (64, b'p'), (128, b'r')];
const LARGE: u64 = 256;
const LARGE_FROM: usize = 65_537;

/// The time that is never.
const NEVER: u64 = (1 << 53) - 1;

/// Fails with all that is wrong.
#[track_caller]
pub(crate) fn assert_hold(raw: &mut Raw, queue: &str) {
    let found = check(raw, queue);
    assert!(found.is_empty(), "of {queue:?}: {}", found.join("\n"));
}

/// All that is wrong with a queue whose prefix is the default one.
pub(crate) fn check(raw: &mut Raw, queue: &str) -> Vec<String> {
    let tag = format!("{{anthill:{queue}}}:");
    let keys = raw.run(&["KEYS", &format!("{tag}*")]).array();
    let mut found = Vec::new();
    for key in keys {
        let key = key.text();
        let name = &key[tag.len()..];
        if !HASHES.contains(&name) && !SORTED.contains(&name) {
            found.push(format!("{name} is no key of a queue"));
        }
        if !matches!(raw.run(&["TTL", &key]).integer(), -1 | -2) {
            found.push(format!("{name} expires"));
        }
    }
    let snapshot = Snapshot::read(raw, &tag);
    if snapshot.hashes["conf"].is_empty() {
        found.push("there is no queue".to_owned());
        return found;
    }
    let mut looks = Looks { snapshot, found };
    looks.look();
    looks.found
}

/// A key of jobs: how many of them run, are ready and are parked.
#[derive(Default)]
struct Key {
    number: u64,
    running: u64,
    ready: BTreeSet<Bytes>,
    parked: BTreeSet<Bytes>,
}

struct Looks {
    snapshot: Snapshot,
    found: Vec<String>,
}

impl Looks {
    fn tell(&mut self, what: impl Into<String>) {
        self.found.push(what.into());
    }

    fn hash(&self, name: &str) -> Hash {
        self.snapshot.hashes[name].clone()
    }

    fn look(&mut self) {
        let jobs = self.hash("jobs").into_iter();
        let jobs: BTreeMap<Bytes, Record> =
            jobs.map(|(id, record)| (id, Record::of(&record))).collect();
        self.indexes(&jobs);
        self.parts(&jobs);
        self.numbers(&jobs);
        self.keys(&jobs);
        self.uniques(&jobs);
        let live: BTreeSet<_> = self.hash("consumers").into_keys().collect();
        let seen: BTreeSet<_> = self.snapshot.sorted["seen"].keys().cloned().collect();
        if live != seen {
            self.tell("the consumers that are announced are not those that are seen");
        }
    }

    /// RE1, RE2: each job is in the index of its state, with its score, and nothing else is in any.
    fn indexes(&mut self, jobs: &BTreeMap<Bytes, Record>) {
        let mut expected: BTreeMap<&str, Scores> =
            SORTED.iter().map(|name| (*name, Scores::new())).collect();
        for (id, job) in jobs {
            let kind = &job.kind.to_be_bytes()[5..];
            let (index, member, score) = match job.state {
                READY => ("ready", [kind, &job.place, id].concat(), 0),
                DELAYED => ("delayed", job.member(id), job.due),
                PARKED => ("parked", [&job.place[..], id].concat(), 0),
                RUNNING => ("running", id.clone(), 0),
                DEAD => ("dead", job.member(id), job.due),
                _ => {
                    // What is kept as a result goes over to what only the retention keeps.
                    let until = (job.due + job.keep.saturating_sub(1)).min(NEVER);
                    let is_kept = self.snapshot.sorted["kept"].contains_key(&job.member(id));
                    match (is_kept, job.keep) {
                        (true, 0) => {
                            self.tell(format!("{} has no result to keep", shown(id)));
                            ("kept", job.member(id), until)
                        }
                        (true, _) => ("kept", job.member(id), until),
                        (false, _) => ("done", job.member(id), job.due),
                    }
                }
            };
            #[expect(clippy::cast_precision_loss, reason = "times are below 2^53")]
            let score = if job.state == RUNNING {
                // The end of a lease is nowhere else.
                let end = self.snapshot.sorted["running"].get(id);
                end.copied().unwrap_or_default()
            } else {
                score as f64
            };
            let all = expected.get_mut(index).expect("each is there");
            all.insert(member, score);
            if job.is_waiting() && job.expires > 0 {
                let all = expected.get_mut("expiring").expect("each is there");
                #[expect(clippy::cast_precision_loss, reason = "times are below 2^53")]
                all.insert(id.clone(), job.expires as f64);
            }
        }
        for name in [
            "ready", "delayed", "parked", "running", "dead", "done", "kept", "expiring",
        ] {
            self.same(name, &expected[name]);
        }
    }

    fn same(&mut self, name: &str, expected: &Scores) {
        let there = self.snapshot.sorted[name].clone();
        for (member, score) in expected {
            match there.get(member) {
                None => self.tell(format!("{name} lacks {}", shown(member))),
                #[expect(clippy::float_cmp, reason = "they are whole numbers")]
                Some(other) if other != score => {
                    let member = shown(member);
                    self.tell(format!("{name} has {member} at {other}, not at {score}"));
                }
                Some(_) => {}
            }
        }
        for member in there.keys().filter(|one| !expected.contains_key(*one)) {
            self.found
                .push(format!("{name} has {} too many", shown(member)));
        }
    }

    /// RE1: the data of each job, and what else its flags tell; and who has it.
    fn parts(&mut self, jobs: &BTreeMap<Bytes, Record>) {
        let data = self.hash("data");
        if !jobs.keys().eq(data.keys()) {
            self.tell("the jobs that have data are not those that have a record");
        }
        let mut more = BTreeSet::new();
        for (id, job) in jobs {
            let parts = MORE.iter().filter(|(flag, _)| job.flags & flag != 0);
            more.extend(parts.map(|(_, letter)| [&[*letter][..], id].concat()));
            let size = data.get(id).map_or(0, Vec::len);
            if (job.flags & LARGE != 0) != (size >= LARGE_FROM) {
                self.tell(format!("{} has {size} bytes", shown(id)));
            }
            let has_token = job.token.iter().any(|byte| *byte != 0);
            if has_token != (job.state == RUNNING) {
                self.tell(format!("{} has a token, or none that runs", shown(id)));
            }
            if job.state != RUNNING && !job.who.is_empty() {
                self.tell(format!("{} has a consumer and does not run", shown(id)));
            }
        }
        let there: BTreeSet<Bytes> = self.hash("more").into_keys().collect();
        for part in there.symmetric_difference(&more) {
            self.found
                .push(format!("{} is told by no flag, or missing", shown(part)));
        }
    }

    /// RE3: numbers are given once; kinds have numbers.
    fn numbers(&mut self, jobs: &BTreeMap<Bytes, Record>) {
        let last = self
            .hash("conf")
            .get(&b"q"[..])
            .map_or(0, |last| number(last));
        let of_keys = self.hash("keys");
        let of_keys = of_keys.values().map(|row| Fields(row).number(6));
        let mut given = BTreeSet::new();
        for order in jobs.values().map(|job| job.number).chain(of_keys) {
            if order > last || !given.insert(order) {
                self.tell(format!("the number {order} of {last} was given twice"));
            }
        }
        let kinds = self.hash("kinds");
        let named = |kind: u64| {
            let name = kinds.get(format!("#{kind}").as_bytes())?;
            let back = kinds.get(&[b"=", &name[..]].concat())?;
            (number(back) == kind).then_some(())
        };
        let strange = jobs.values().filter(|job| named(job.kind).is_none());
        if strange.count() > 0 {
            self.tell("a job has a kind without a name");
        }
    }

    /// RE4, RE5: what is known of keys, and how many of their jobs are ready.
    fn keys(&mut self, jobs: &BTreeMap<Bytes, Record>) {
        let rows = self.hash("keys");
        let mut of_jobs: BTreeMap<Bytes, Key> = BTreeMap::new();
        let mut keyed = Scores::new();
        for (id, job) in jobs.iter().filter(|(_, job)| !job.key.is_empty()) {
            if !matches!(job.state, READY | PARKED | RUNNING) {
                continue;
            }
            let key = of_jobs.entry(job.key.clone()).or_default();
            key.number = rows.get(&job.key).map_or(0, |row| Fields(row).number(6));
            let letter = match job.state {
                RUNNING => {
                    key.running += 1;
                    continue;
                }
                READY => {
                    key.ready.insert(job.place.clone());
                    b"r"
                }
                _ => {
                    key.parked.insert(job.place.clone());
                    b"p"
                }
            };
            let of_key = &key.number.to_be_bytes()[2..];
            keyed.insert([of_key, letter, &job.place, id].concat(), 0.0);
        }
        self.same("keyed", &keyed);
        for (name, row) in &rows {
            let mut fields = Fields(row);
            fields.take(6);
            let row = [fields.number(4), fields.number(4), fields.number(4)];
            let found = of_jobs.get(name).map_or([0; 3], |key| {
                [key.running, key.ready.len() as u64, key.parked.len() as u64]
            });
            if row != found || row == [0; 3] {
                self.tell(format!(
                    "the key {} has {found:?}, not {row:?}",
                    shown(name)
                ));
            }
        }
        if of_jobs.keys().any(|name| !rows.contains_key(name)) {
            self.tell("a key of a job is not counted");
        }
        let conf = self.hash("conf");
        let mut settings = Fields(&conf[&b"s"[..]]);
        settings.take(6);
        let limit = settings.number(5).checked_sub(1);
        // From this key on a change of the limit has not come yet.
        let cursor = conf.get(&b"u"[..]);
        let cursor = cursor.map_or(u64::MAX, |from| {
            let from: Bytes = from.iter().copied().chain([0; 6]).take(6).collect();
            Fields(&from).number(6)
        });
        for (name, key) in of_jobs.iter().filter(|(_, key)| key.number < cursor) {
            let ready = key.ready.len() as u64;
            let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(key.running));
            let is_in_order = match (key.ready.last(), key.parked.first()) {
                (Some(ready), Some(parked)) => ready < parked,
                _ => true,
            };
            if ready > room || (ready < room && !key.parked.is_empty()) || !is_in_order {
                self.tell(format!(
                    "of the key {} {} run, {ready} are ready and {} parked, with {limit:?}, in order: {is_in_order}",
                    shown(name),
                    key.running,
                    key.parked.len()
                ));
            }
        }
    }

    /// RE6: a unique key is of the job that it names, which is not over; and a period has its end.
    fn uniques(&mut self, jobs: &BTreeMap<Bytes, Record>) {
        for (name, row) in self.hash("uniques") {
            let mut fields = Fields(&row);
            let id = fields.take(16).to_vec();
            let (held, until) = (fields.number(1), fields.number(7));
            let lives = jobs
                .get(&id)
                .is_some_and(|job| job.unique == name && job.state <= RUNNING);
            if held == 1 && !lives {
                self.tell(format!("the unique key {} is of no job", shown(&name)));
            }
            if held == 0 && until == 0 {
                self.tell(format!("the unique key {} is nobody's", shown(&name)));
            }
            #[expect(clippy::cast_precision_loss, reason = "times are below 2^53")]
            let has_end = self.snapshot.sorted["periods"].get(&name) == Some(&(until as f64));
            if until > 0 && !has_end {
                self.tell(format!("the period of {} has no end", shown(&name)));
            }
        }
    }
}

fn number(text: &[u8]) -> u64 {
    let text = std::str::from_utf8(text).expect("a number");
    text.parse().expect("a number")
}

fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
