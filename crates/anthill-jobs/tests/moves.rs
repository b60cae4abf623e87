//! Jobs moved from one queue to another, of any two brokers: what arrives, what does not, and what is left when somebody
//! comes between, or the mover dies. No job is ever lost.
#![cfg(feature = "sqlite")]

#[path = "support/watched.rs"]
mod watched;

use crate::watched::{Call, Watch, Watched};
use anthill_jobs::broker::{Change, Listener, Subscription};
use anthill_jobs::*;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

// ── pairs of queues ─────────────────────────────────────────────────────────────────────────

/// Two queues, on a clock that stands still.
struct Pair {
    clock: Clock,
    from: Queue,
    to: Queue,
    _folder: TempDir,
}

fn sqlite(folder: &Path, file: &str, name: &str, clock: &Clock) -> SqliteBroker {
    SqliteBroker::open(folder.join(file), name, clock.clone()).unwrap()
}

fn pairs() -> Vec<(&'static str, Pair)> {
    let names = [
        "memory to memory",
        "memory to file",
        "file to memory",
        "file to file",
        "within a file",
    ];
    let pair = |name: &'static str| {
        let clock = Clock::manual();
        let folder = tempfile::tempdir().unwrap();
        let memory = || Queue::of(MemoryBroker::new(clock.clone()));
        let file = |file, queue| Queue::of(sqlite(folder.path(), file, queue, &clock));
        let (from, to) = match name {
            "memory to memory" => (memory(), memory()),
            "memory to file" => (memory(), file("one", "to")),
            "file to memory" => (file("one", "from"), memory()),
            "file to file" => (file("one", "from"), file("two", "to")),
            _ => (file("one", "from"), file("one", "to")),
        };
        let pair = Pair {
            clock,
            from,
            to,
            _folder: folder,
        };
        (name, pair)
    };
    names.map(pair).into()
}

fn job(name: &str) -> NewJob {
    NewJob::new("test", format!("\"{name}\"").into_bytes())
}

#[track_caller]
fn add(queue: &Queue, job: NewJob) -> JobId {
    let id = job.id;
    let enqueued = queue.enqueue_all_new(&[job]).unwrap();
    assert_eq!(enqueued, [Enqueued::Added(id)]);
    id
}

/// The names of the jobs in a state.
fn list(queue: &Queue, state: JobState) -> Vec<String> {
    let jobs = queue.list(state, None, usize::MAX).unwrap();
    let name = |job: JobInfo| serde_json::from_slice(&job.payload).unwrap();
    jobs.into_iter().map(name).collect()
}

fn claim(queue: &Queue, limit: usize) -> Vec<Claimed> {
    let request = ClaimRequest::new(limit, HOUR);
    queue.as_broker().claim(&request).unwrap().jobs
}

fn settle(queue: &Queue, job: &Claimed, end: Settle) {
    let ends = [(job.lease.clone(), end)];
    let settled = queue.as_broker().settle(&ends).unwrap();
    assert_eq!(settled, [Settled::Stored]);
}

fn dead() -> Settle {
    let error = "too bad".to_owned();
    Settle::Dead { error }
}

fn retry(delay: Duration) -> Settle {
    let error = "not yet".to_owned();
    Settle::Retry { delay, error }
}

#[track_caller]
fn move_all(from: &Queue, to: &Queue) -> Moved {
    from.move_to(to, &MoveRequest::waiting()).unwrap()
}

fn counts(moved: &Moved) -> (u64, u64, usize, usize) {
    let Moved {
        moved,
        started,
        refused,
        in_both,
        ..
    } = moved;
    (*moved, *started, refused.len(), in_both.len())
}

// ── what arrives ────────────────────────────────────────────────────────────────────────────

#[test]
fn a_job_arrives_as_it_was() {
    for (name, pair) in pairs() {
        let (from, to) = (&pair.from, &pair.to);
        let told = NewJob {
            priority: -3,
            attempts: 7,
            unique: Some("u".to_owned()),
            key: Some("k".to_owned()),
            expires: Some(2 * HOUR),
            keep_result: Some(MINUTE),
            ..job("a")
        };
        let id = add(from, told.clone());
        let claimed = claim(from, 1);
        settle(from, &claimed[0], retry(HOUR));
        pair.clock.advance(HOUR / 4);
        assert_eq!(counts(&move_all(from, to)), (1, 0, 0, 0), "{name}");

        assert!(from.get(id).unwrap().is_none(), "{name}");
        let there = to.get(id).unwrap().unwrap();
        assert_eq!(there.state, JobState::Delayed, "{name}");
        assert_eq!(
            (&*there.kind, there.payload),
            ("test", told.payload.clone())
        );
        assert_eq!((there.priority, there.attempt, there.attempts), (-3, 0, 6));
        assert_eq!(there.unique.as_deref(), Some("u"), "{name}");
        assert_eq!(there.key.as_deref(), Some("k"), "{name}");
        assert_eq!(there.due_in, Some(HOUR * 3 / 4), "{name}");
        assert_eq!(there.expires_in, Some(HOUR * 7 / 4), "{name}");
        assert_eq!(there.keep_result, Some(MINUTE), "{name}");
        // The key is free here, and taken there.
        let again = NewJob {
            id: JobId::new(),
            ..told
        };
        assert!(!to.enqueue_new(&again).unwrap().is_added(), "{name}");
        add(from, again);
        let (left, came) = (from.stats().unwrap(), to.stats().unwrap());
        assert_eq!((left.enqueued, left.removed), (2, 1), "{name}");
        assert_eq!((came.enqueued, came.removed), (1, 0), "{name}");
    }
}

#[test]
fn jobs_arrive_in_their_order_whatever_state_they_wait_in() {
    for (name, pair) in pairs() {
        let (from, to) = (&pair.from, &pair.to);
        let limits = Limits {
            per_key: Some(1),
            ..Limits::default()
        };
        from.set_limits(limits).unwrap();
        add(to, job("there"));
        for n in 0..250 {
            let key = (n % 50 == 1).then(|| "k".to_owned());
            let delay = if n % 100 == 7 { HOUR } else { Duration::ZERO };
            let one = NewJob {
                key,
                delay,
                ..job(&n.to_string())
            };
            add(from, one);
        }
        assert_eq!(from.stats().unwrap().parked, 4, "{name}");
        assert_eq!(counts(&move_all(from, to)), (250, 0, 0, 0), "{name}");
        let (left, came) = (from.stats().unwrap(), to.stats().unwrap());
        assert_eq!((left.ready, left.delayed, left.parked), (0, 0, 0), "{name}");
        assert_eq!((came.ready, came.delayed), (248, 3), "{name}");
        let ready = list(to, JobState::Ready);
        let numbers: Vec<u32> = ready[1..].iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(ready[0], "there", "{name}");
        // Those that were parked are behind.
        assert!(numbers[..243].is_sorted() && numbers[243..].is_sorted());
        assert_eq!(numbers[243..], [51, 101, 151, 201], "{name}");
    }
}

fn listen(queue: &Queue) -> (Subscription, Receiver<Change>) {
    let (send, heard) = mpsc::channel();
    let listener = Listener::new(Duration::MAX, move |change| {
        let _ = send.send(change);
    });
    (queue.as_broker().subscribe(listener).unwrap(), heard)
}

#[test]
fn who_waits_at_the_target_hears_of_what_arrives() {
    for (name, pair) in pairs() {
        let (_ears, heard) = listen(&pair.to);
        add(&pair.from, job("a"));
        while heard.try_recv().is_ok() {}
        move_all(&pair.from, &pair.to);
        heard.recv_timeout(MINUTE).expect(name);
        // At the source too, where a key is free.
        let limits = Limits {
            per_key: Some(1),
            ..Limits::default()
        };
        pair.from.set_limits(limits).unwrap();
        let keyed = |name: &str| NewJob {
            key: Some("k".to_owned()),
            ..job(name)
        };
        add(&pair.from, keyed("b"));
        add(&pair.from, keyed("c"));
        let (_ears, heard) = listen(&pair.from);
        let ready = MoveRequest::of_state(JobState::Ready);
        assert_eq!(pair.from.move_to(&pair.to, &ready).unwrap().moved, 1);
        heard.recv_timeout(MINUTE).expect(name);
        assert_eq!(list(&pair.from, JobState::Ready), ["c"], "{name}");
    }
}

#[test]
fn only_what_is_meant_is_moved() {
    for (name, pair) in pairs() {
        let (from, to) = (&pair.from, &pair.to);
        let ids: Vec<JobId> = (0..5).map(|n| add(from, job(&n.to_string()))).collect();
        let other = NewJob {
            kind: "other".into(),
            ..job("other")
        };
        add(from, other);
        let late = NewJob {
            delay: HOUR,
            ..job("late")
        };
        add(from, late);
        let claimed = claim(from, 2);
        settle(from, &claimed[0], dead());

        let two = MoveRequest::of_state(JobState::Ready).limit(2);
        assert_eq!(from.move_to(to, &two).unwrap().moved, 2, "{name}");
        assert_eq!(list(to, JobState::Ready), ["2", "3"], "{name}");
        let kind = MoveRequest::waiting().kind("other");
        assert_eq!(from.move_to(to, &kind).unwrap().moved, 1, "{name}");
        let delayed = MoveRequest::of_state(JobState::Delayed);
        assert_eq!(from.move_to(to, &delayed).unwrap().moved, 1, "{name}");
        // One that is dead is as one that is retried.
        let buried = MoveRequest::of_state(JobState::Dead);
        assert_eq!(from.move_to(to, &buried).unwrap().moved, 1, "{name}");
        let there = to.get(ids[0]).unwrap().unwrap();
        assert_eq!(there.state, JobState::Ready, "{name}");
        assert_eq!((there.attempt, there.attempts), (0, 26), "{name}");
        let left = from.stats().unwrap();
        assert_eq!((left.ready, left.running, left.dead), (1, 1, 0), "{name}");
    }
}

#[test]
fn a_move_that_means_nothing_is_refused() {
    for (name, pair) in pairs() {
        add(&pair.from, job("a"));
        for state in [JobState::Running, JobState::Done] {
            let request = MoveRequest::of_state(state);
            let error = pair.from.move_to(&pair.to, &request).unwrap_err();
            assert!(matches!(error.reason(), QueueError::Unsupported { .. }));
        }
        // To itself: a job would be taken away as its own copy.
        let itself = pair.from.clone();
        let error = pair.from.move_to(&itself, &MoveRequest::waiting());
        assert!(
            matches!(error.unwrap_err().reason(), QueueError::Unsupported { .. }),
            "{name}"
        );
        assert_eq!(list(&pair.from, JobState::Ready), ["a"], "{name}");
    }
    // Also where it does not look so.
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let one = Queue::of(sqlite(folder.path(), "a", "q", &clock));
    let other = Queue::of(sqlite(folder.path(), "a", "q", &Clock::manual()));
    add(&one, job("a"));
    for (from, to) in [(&one, &other), (&other, &one)] {
        let error = from.move_to(to, &MoveRequest::waiting()).unwrap_err();
        assert!(matches!(error.reason(), QueueError::Unsupported { .. }));
    }
    assert_eq!(list(&one, JobState::Ready), ["a"]);
}

// ── what does not ───────────────────────────────────────────────────────────────────────────

#[test]
fn what_the_target_has_is_not_there_twice() {
    for (name, pair) in pairs() {
        let (from, to) = (&pair.from, &pair.to);
        // As a move leaves it that died half-way.
        let twin = job("twin");
        add(from, twin.clone());
        add(to, twin);
        let done = NewJob {
            keep_result: Some(HOUR),
            ..job("done")
        };
        add(from, done.clone());
        add(to, done);
        let jobs = claim(to, 2);
        let result = b"1".to_vec();
        settle(to, &jobs[1], Settle::Done { result });
        // The same id, but not the same job.
        let same_id = job("one");
        add(from, same_id.clone());
        let other = NewJob {
            id: same_id.id,
            ..job("other")
        };
        add(to, other);
        // One that is dead there may have been so before it was enqueued here.
        let buried = job("buried");
        add(from, buried.clone());
        add(
            to,
            NewJob {
                priority: 9,
                ..buried.clone()
            },
        );
        settle(to, &claim(to, 1)[0], dead());
        let unique = |name: &str| NewJob {
            unique: Some("u".to_owned()),
            ..job(name)
        };
        let (mine, theirs) = (unique("mine"), unique("theirs"));
        add(from, mine.clone());
        add(to, theirs.clone());

        let before = list(from, JobState::Ready);
        let moved = move_all(from, to);
        assert_eq!(counts(&moved), (2, 0, 3, 0), "{name}: {moved:?}");
        for refused in &moved.refused {
            let is_right = match refused.why {
                WhyNot::SameId => refused.id == same_id.id || refused.id == buried.id,
                WhyNot::UniqueKey(id) => refused.id == mine.id && id == theirs.id,
                _ => false,
            };
            assert!(is_right, "{name}: {refused:?}");
        }
        // In their old places.
        assert_eq!(list(from, JobState::Ready), before[2..], "{name}");
        assert_eq!(list(to, JobState::Ready), ["other", "theirs"], "{name}");
        assert_eq!(list(to, JobState::Running), ["twin"], "{name}");
        assert_eq!(list(to, JobState::Done), ["done"], "{name}");
        assert_eq!(list(to, JobState::Dead), ["buried"], "{name}");
        // And behind nobody who came later.
        add(from, job("later"));
        assert_eq!(list(from, JobState::Ready).last().unwrap(), "later");
    }
}

#[test]
fn a_target_that_is_full_takes_what_fits_and_the_rest_stays_as_it_was() {
    for (name, pair) in pairs() {
        let (from, to) = (&pair.from, &pair.to);
        to.max_ready(3).unwrap();
        for n in 0..6 {
            add(from, job(&n.to_string()));
        }
        let soon = NewJob {
            delay: MINUTE / 2,
            ..job("soon")
        };
        let soon = add(from, soon);
        let error = from.move_to(to, &MoveRequest::waiting()).unwrap_err();
        let is_full = matches!(error.reason(), QueueError::Full { limit: 3 });
        assert!(is_full, "{name}: {error:?}");
        assert_eq!(counts(error.moved()), (3, 0, 0, 0), "{name}");
        assert_eq!(list(to, JobState::Ready), ["0", "1", "2"], "{name}");
        assert_eq!(list(from, JobState::Ready), ["3", "4", "5"], "{name}");
        let due = from.get(soon).unwrap().unwrap().due_in;
        assert_eq!(due, Some(MINUTE / 2), "{name}");
        // What is due later needs no room yet.
        let delayed = MoveRequest::of_state(JobState::Delayed);
        assert_eq!(from.move_to(to, &delayed).unwrap().moved, 1, "{name}");
    }
}

#[test]
fn what_is_too_large_for_the_target_stays() {
    for (name, pair) in pairs() {
        let to = pair.to.clone().payload_limit(10);
        let large = add(&pair.from, job("much too large"));
        add(&pair.from, job("small"));
        let moved = move_all(&pair.from, &to);
        assert_eq!(counts(&moved), (1, 0, 1, 0), "{name}");
        let refused = &moved.refused[0];
        let is_large = matches!(refused.why, WhyNot::Refused(QueueError::TooLarge { .. }));
        assert!(is_large && refused.id == large, "{name}");
        assert_eq!(list(&pair.from, JobState::Ready), ["much too large"]);
    }
}

// ── who comes between ───────────────────────────────────────────────────────────────────────

/// Does something once, before or after a call.
struct Between(Mutex<Option<Intruder>>);

struct Intruder {
    before: bool,
    call: Call,
    act: Box<dyn FnOnce() -> Result<(), QueueError> + Send>,
}

impl Between {
    fn pass(&self, before: bool, call: Call) -> Result<(), QueueError> {
        let mut waits = self.0.lock().unwrap();
        let is_it = |one: &Intruder| one.before == before && one.call == call;
        let intruder = if waits.as_ref().is_some_and(is_it) {
            waits.take()
        } else {
            None
        };
        drop(waits);
        intruder.map_or(Ok(()), |intruder| (intruder.act)())
    }
}

impl Watch for Between {
    fn before(&self, call: Call) -> Result<(), QueueError> {
        self.pass(true, call)
    }

    fn after(&self, call: Call) {
        self.pass(false, call).unwrap();
    }
}

/// Two queues in two files, and other handles to them, through which somebody comes between.
struct Stage {
    clock: Clock,
    from: Queue,
    to: Queue,
    folder: TempDir,
}

impl Stage {
    fn new() -> Stage {
        let clock = Clock::manual();
        let folder = tempfile::tempdir().unwrap();
        let from = Queue::of(sqlite(folder.path(), "from", "q", &clock));
        let to = Queue::of(sqlite(folder.path(), "to", "q", &clock));
        Stage {
            clock,
            from,
            to,
            folder,
        }
    }

    fn watched(&self, file: &str, intruder: Option<Intruder>) -> Queue {
        Queue::of(Watched {
            broker: sqlite(self.folder.path(), file, "q", &self.clock),
            watch: Between(Mutex::new(intruder)),
        })
    }

    /// Moves all, while somebody does that before, or after, a call of the source.
    fn move_while(
        &self,
        before: bool,
        call: Call,
        act: impl FnOnce() -> Result<(), QueueError> + Send + 'static,
    ) -> Result<Moved, MoveError> {
        let act = Box::new(act);
        let from = self.watched("from", Some(Intruder { before, call, act }));
        from.move_to(&self.watched("to", None), &MoveRequest::waiting())
    }
}

#[test]
fn a_job_that_starts_meanwhile_is_not_moved() {
    let on = Stage::new();
    add(&on.from, job("0"));
    add(&on.from, job("1"));
    let from = on.from.clone();
    let moved = on.move_while(true, Call::SetDue, move || {
        assert_eq!(claim(&from, 1).len(), 1);
        Ok(())
    });
    assert_eq!(counts(&moved.unwrap()), (1, 1, 0, 0));
    assert_eq!(list(&on.from, JobState::Running), ["0"]);
    assert_eq!(list(&on.to, JobState::Ready), ["1"]);
    // Also where it is over by then.
    add(&on.from, job("2"));
    let from = on.from.clone();
    let moved = on.move_while(true, Call::SetDue, move || {
        let result = b"1".to_vec();
        settle(&from, &claim(&from, 1)[0], Settle::Done { result });
        Ok(())
    });
    assert_eq!(counts(&moved.unwrap()), (0, 1, 0, 0));
    assert_eq!(list(&on.to, JobState::Ready), ["1"]);
}

#[test]
fn no_job_starts_at_the_source_while_the_target_gets_it() {
    for (before, call) in [(false, Call::SetDue), (true, Call::RemoveUnchanged)] {
        let on = Stage::new();
        let soon = NewJob {
            delay: MINUTE / 2,
            ..job("soon")
        };
        let late = NewJob {
            delay: HOUR,
            ..job("late")
        };
        for one in [job("now"), soon, late] {
            add(&on.from, one);
        }
        let (from, clock) = (on.from.clone(), on.clock.clone());
        let moved = on.move_while(before, call, move || {
            clock.advance(Duration::from_secs(59));
            assert!(claim(&from, 9).is_empty());
            Ok(())
        });
        assert_eq!(counts(&moved.unwrap()), (3, 0, 0, 0));
        assert_eq!(on.from.stats().unwrap().removed, 3);
        assert_eq!(on.to.stats().unwrap().enqueued, 3);
    }
}

#[test]
fn who_is_frozen_too_long_loses_nothing_and_tells_what_may_be_in_both() {
    let on = Stage::new();
    let id = add(&on.from, job("0"));
    let (from, clock) = (on.from.clone(), on.clock.clone());
    let moved = on.move_while(true, Call::RemoveUnchanged, move || {
        clock.advance(MINUTE);
        assert_eq!(claim(&from, 1).len(), 1);
        Ok(())
    });
    assert_eq!(moved.unwrap().in_both, [id]);
    assert_eq!(list(&on.from, JobState::Running), ["0"]);
    assert_eq!(list(&on.to, JobState::Ready), ["0"]);
}

#[test]
fn data_that_is_changed_meanwhile_is_not_lost() {
    let on = Stage::new();
    let debounced = |name: &str| NewJob {
        unique: Some("u".to_owned()),
        debounce: true,
        delay: HOUR,
        ..job(name)
    };
    let id = add(&on.from, debounced("old"));
    let from = on.from.clone();
    let moved = on.move_while(true, Call::RemoveUnchanged, move || {
        let enqueued = from.enqueue_new(&debounced("new"))?;
        assert!(!enqueued.is_added());
        Ok(())
    });
    assert_eq!(moved.unwrap().in_both, [id]);
    assert_eq!(list(&on.from, JobState::Delayed), ["new"]);
    assert_eq!(list(&on.to, JobState::Delayed), ["old"]);
    // Nor by another move, as the one that is there is not the same.
    let moved = move_all(&on.from, &on.to);
    assert_eq!(counts(&moved), (0, 0, 1, 0));
    assert_eq!(list(&on.from, JobState::Delayed), ["new"]);
}

#[test]
fn of_two_who_move_the_same_jobs_neither_loses_one() {
    for (before, call) in [
        (true, Call::SetDue),
        (false, Call::SetDue),
        (true, Call::RemoveUnchanged),
        (false, Call::RemoveUnchanged),
    ] {
        let on = Stage::new();
        for n in 0..5 {
            add(&on.from, job(&n.to_string()));
        }
        let (from, to) = (on.watched("from", None), on.watched("to", None));
        on.move_while(before, call, move || {
            from.move_to(&to, &MoveRequest::waiting()).unwrap();
            Ok(())
        })
        .unwrap();
        // The one took those that the other had put off as what they were then.
        on.clock.advance(MINUTE);
        let mut there = list(&on.to, JobState::Ready);
        there.sort_unstable();
        assert_eq!(there, ["0", "1", "2", "3", "4"]);
        assert_eq!(on.to.stats().unwrap().enqueued, 5);
        assert_eq!(on.from.stats().unwrap().ready, 0);
        assert_eq!(on.from.stats().unwrap().delayed, 0);
    }
}

#[test]
fn a_broker_that_fails_half_way_loses_nothing() {
    let fail = || Err(QueueError::Busy);
    // At the source.
    for call in [Call::SetDue, Call::RemoveUnchanged] {
        let on = Stage::new();
        add(&on.from, job("0"));
        let error = on.move_while(true, call, fail).unwrap_err();
        assert!(matches!(error.reason(), QueueError::Busy));
        let is_there = on.from.stats().unwrap();
        assert_eq!(is_there.ready + is_there.delayed, 1);
        assert_eq!(counts(&move_all(&on.from, &on.to)), (1, 0, 0, 0));
        assert_eq!(list(&on.to, JobState::Ready), ["0"]);
    }
    // At the target: it is as it was.
    let on = Stage::new();
    add(&on.from, job("0"));
    let intruder = Intruder {
        before: true,
        call: Call::Enqueue,
        act: Box::new(fail),
    };
    let to = on.watched("to", Some(intruder));
    let from = on.watched("from", None);
    let error = from.move_to(&to, &MoveRequest::waiting()).unwrap_err();
    assert!(matches!(error.reason(), QueueError::Busy));
    assert_eq!(list(&on.from, JobState::Ready), ["0"]);
    assert_eq!(on.to.stats().unwrap().enqueued, 0);
}

#[test]
fn who_may_not_write_to_the_source_copies_nothing() {
    let on = Stage::new();
    add(&on.from, job("0"));
    settle(&on.from, &claim(&on.from, 1)[0], dead());
    let path = on.folder.path().join("from");
    let from = Queue::of(SqliteBroker::open_read_only(path, "q", on.clock.clone()).unwrap());
    let buried = MoveRequest::of_state(JobState::Dead);
    let error = from.move_to(&on.to, &buried).unwrap_err();
    assert!(
        matches!(error.reason(), QueueError::ReadOnly(_)),
        "{error:?}"
    );
    assert_eq!(on.to.stats().unwrap().enqueued, 0);
}

#[test]
fn a_move_ends_beside_who_enqueues() {
    let on = Stage::new();
    for n in 0..10 {
        add(&on.from, job(&n.to_string()));
    }
    let from = on.from.clone();
    let moved = on.move_while(true, Call::SetDue, move || {
        add(&from, job("late"));
        Ok(())
    });
    assert_eq!(counts(&moved.unwrap()), (10, 0, 0, 0));
    assert_eq!(list(&on.from, JobState::Ready), ["late"]);
}

// ── kills ───────────────────────────────────────────────────────────────────────────────────

#[cfg(unix)]
mod kills {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// Ends the process at the n-th passage of a point, as the system does: without a word.
    struct Fuse {
        /// Of the source, or of the target.
        of: &'static str,
        point: String,
        left: AtomicUsize,
    }

    impl Fuse {
        fn pass(&self, when: &str, call: Call) {
            let what = match call {
                Call::Enqueue => "enqueue",
                Call::SetDue => "put off",
                Call::RemoveUnchanged => "remove",
                _ => return,
            };
            let is_here = self.point == format!("{when} {what} at the {}", self.of);
            if is_here && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                // SAFETY: it takes nothing.
                let own = unsafe { libc::getpid() };
                // SAFETY: it takes two numbers.
                unsafe { libc::kill(own, libc::SIGKILL) };
                loop {
                    std::thread::park();
                }
            }
        }
    }

    impl Watch for Fuse {
        fn before(&self, call: Call) -> Result<(), QueueError> {
            self.pass("before", call);
            Ok(())
        }

        fn after(&self, call: Call) {
            self.pass("after", call);
        }
    }

    const POINTS: [&str; 6] = [
        "before put off at the source",
        "after put off at the source",
        "before enqueue at the target",
        "after enqueue at the target",
        "before remove at the source",
        "after remove at the source",
    ];

    const JOBS: usize = 600;

    /// Not a test by itself: what the others start as a process.
    #[test]
    fn child() {
        let Ok(folder) = std::env::var("ANTHILL_FOLDER") else {
            return;
        };
        let folder = Path::new(&folder);
        let Ok(point) = std::env::var("ANTHILL_POINT") else {
            let (from, to) = within(folder);
            move_all(&from, &to);
            return;
        };
        let nth = std::env::var("ANTHILL_NTH").unwrap().parse().unwrap();
        let fused = |of: &'static str| {
            Queue::of(Watched {
                broker: sqlite(folder, of, "q", &Clock::system()),
                watch: Fuse {
                    of,
                    point: point.clone(),
                    left: AtomicUsize::new(nth),
                },
            })
        };
        move_all(&fused("source"), &fused("target"));
    }

    fn start(folder: &Path, told: &[(&str, String)]) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "kills::child", "--nocapture", "--test-threads=1"])
            .env("ANTHILL_FOLDER", folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.envs(told.iter().map(|(name, value)| (*name, value)));
        command.spawn().unwrap()
    }

    fn fill(queue: &Queue) -> HashSet<JobId> {
        let new = |n: usize| NewJob {
            delay: [Duration::ZERO, MINUTE / 2, HOUR][n % 3],
            ..job(&n.to_string())
        };
        let jobs: Vec<NewJob> = (0..JOBS).map(new).collect();
        queue.enqueue_all_new(&jobs).unwrap();
        jobs.iter().map(|job| job.id).collect()
    }

    /// Those that are there, each once.
    fn all(queue: &Queue) -> HashSet<JobId> {
        let mut all = HashSet::new();
        for state in JobState::ALL {
            for job in queue.list(state, None, usize::MAX).unwrap() {
                all.insert(job.id);
            }
        }
        all
    }

    #[test]
    fn a_mover_that_is_killed_at_any_point_loses_nothing() {
        use std::os::unix::process::ExitStatusExt;
        let mut doubled: BTreeMap<&str, usize> = BTreeMap::new();
        for point in POINTS {
            let folder = tempfile::tempdir().unwrap();
            let open = |file| Queue::of(sqlite(folder.path(), file, "q", &Clock::system()));
            let (from, to) = (open("source"), open("target"));
            let jobs = fill(&from);
            // The batches that each of them moves before it dies are less than there are.
            for nth in [1, 2, 1] {
                let told = [
                    ("ANTHILL_POINT", point.to_owned()),
                    ("ANTHILL_NTH", nth.to_string()),
                ];
                let mut child = start(folder.path(), &told);
                let status = child.wait().unwrap();
                assert_eq!(status.signal(), Some(libc::SIGKILL), "{point}: {status}");
                let (here, there) = (all(&from), all(&to));
                let both: HashSet<JobId> = here.union(&there).copied().collect();
                assert_eq!(both, jobs, "{point}: none is lost");
                let twice = here.intersection(&there).count();
                let may = ["after enqueue at the target", "before remove at the source"];
                assert_eq!(twice > 0, may.contains(&point), "{point}: {twice}");
                *doubled.entry(point).or_default() += twice;
            }
            // The same move once more, and each is in one of them, with the delay that it had.
            move_all(&from, &to);
            assert!(all(&from).is_empty(), "{point}");
            assert_eq!(all(&to), jobs, "{point}");
            let stats = to.stats().unwrap();
            assert_eq!(stats.enqueued, JOBS as u64, "{point}");
            let late = list(&to, JobState::Delayed);
            assert!(late.len() >= JOBS / 3, "{point}: {}", late.len());
        }
        println!("in both after a kill: {doubled:?}");
    }

    fn within(folder: &Path) -> (Queue, Queue) {
        let open = |name| Queue::of(sqlite(folder, "one", name, &Clock::system()));
        (open("from"), open("to"))
    }

    #[test]
    fn within_a_file_a_job_is_in_one_of_two_queues_whenever_the_mover_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = within(folder.path());
        let mut jobs = fill(&from);
        let mut killed = 0;
        for round in 0..40_u64 {
            let mut child = start(folder.path(), &[]);
            let before = to.stats().unwrap().enqueued;
            // It is killed between two batches, or within one: whichever it is then.
            let start = std::time::Instant::now();
            while to.stats().unwrap().enqueued == before && child.try_wait().unwrap().is_none() {
                assert!(start.elapsed() < MINUTE, "it moves something");
            }
            std::thread::sleep(Duration::from_micros(round * 50));
            child.kill().unwrap();
            child.wait().unwrap();
            let (here, there) = (all(&from), all(&to));
            assert!(here.is_disjoint(&there), "none is in both");
            let both: HashSet<JobId> = here.union(&there).copied().collect();
            assert_eq!(both, jobs, "none is lost");
            if here.is_empty() {
                jobs.extend(fill(&from));
            } else {
                killed += 1;
            }
        }
        println!("{killed} times it was killed before the end");
        move_all(&from, &to);
        assert_eq!(all(&to), jobs);
        assert_eq!(to.stats().unwrap().enqueued, jobs.len() as u64);
    }
}

#[test]
fn who_move_within_a_file_at_once_beside_who_enqueue_move_each_job_once() {
    let clock = Clock::system();
    let folder = tempfile::tempdir().unwrap();
    let open = |name| Queue::of(sqlite(folder.path(), "one", name, &clock));
    let (from, to) = (open("from"), open("to"));
    let jobs: Vec<NewJob> = (0..400).map(|n| job(&n.to_string())).collect();
    from.enqueue_all_new(&jobs).unwrap();
    let moved: u64 = std::thread::scope(|scope| {
        for queue in [&from, &to] {
            scope.spawn(|| {
                for _ in 0..100 {
                    add(queue, job("another"));
                }
            });
        }
        let movers = [(); 8].map(|()| scope.spawn(|| move_all(&from, &to).moved));
        movers.map(|mover| mover.join().unwrap()).iter().sum()
    });
    let (left, came) = (from.stats().unwrap(), to.stats().unwrap());
    assert!(moved >= 400);
    assert_eq!((left.enqueued, came.enqueued), (500, moved + 100));
    assert_eq!((left.removed, left.ready), (moved, 500 - moved));
    assert_eq!((came.duplicates, came.ready), (0, moved + 100));
    assert_eq!(list(&from, JobState::Ready).len() as u64, left.ready);
    assert_eq!(list(&to, JobState::Ready).len() as u64, came.ready);
}
