//! B11: those who subscribed hear when there may be something new to claim.

use super::prelude::*;
use crate::broker::{Change, Listener, Subscription};
use crate::sync::lock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

/// Counts how often the broker calls it.
struct Ear {
    heard: Arc<AtomicUsize>,
    subscription: Subscription,
}

/// One that wants to hear of what this process does.
fn ear(on: &Bench) -> Ear {
    ear_that_polls(on, Duration::MAX)
}

fn ear_that_polls(on: &Bench, poll: Duration) -> Ear {
    let heard = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&heard);
    let hear = move |_: Change| {
        ours.fetch_add(1, Ordering::SeqCst);
    };
    let subscription = ok(on.broker.subscribe(Listener::new(poll, hear)));
    Ear {
        heard,
        subscription,
    }
}

impl Ear {
    fn count(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }

    /// It is called before `act` returns.
    #[track_caller]
    fn hears<T>(&self, what: &str, act: impl FnOnce() -> T) -> T {
        let before = self.count();
        let result = act();
        assert!(self.count() > before, "no call before {what} returned");
        result
    }

    /// It is called before `act` returns, or when what that has made is due.
    #[track_caller]
    fn hears_by<T>(&self, on: &Bench, delay: Duration, what: &str, act: impl FnOnce() -> T) -> T {
        let before = self.count();
        let result = act();
        if self.count() == before {
            on.advance(delay);
            self.has_heard_since(before, DEADLINE, what);
        }
        result
    }

    #[track_caller]
    fn has_heard_since(&self, before: usize, limit: Duration, what: &str) {
        eventually(limit, format_args!("a call after {what}"), || {
            self.count() > before
        });
    }
}

pub(crate) fn an_enqueue_is_heard(lab: &Lab) {
    let on = lab.bench();
    let ear = ear(&on);
    ear.hears("an enqueue", || on.add(job("a")));
    ear.hears("an enqueue of many", || on.add_all(&jobs(10)));
}

/// Who sleeps until a later one is due must hear of this one, too.
pub(crate) fn a_delayed_job_is_heard(lab: &Lab) {
    let on = lab.bench();
    let ear = ear(&on);
    let delay = seconds(10);
    ear.hears_by(&on, delay, "a delayed job", || {
        on.add(NewJob { delay, ..job("b") })
    });
    on.pass(delay);
    let claimed = on.next();
    ear.hears_by(&on, delay, "a retry with a delay", || {
        on.retry(&claimed, delay);
    });
    on.pass(delay);
    let claimed = on.next();
    ear.hears_by(&on, delay, "a release with a delay", || {
        assert!(on.settle(&claimed, release(delay)));
    });
}

pub(crate) fn what_comes_back_is_heard(lab: &Lab) {
    let on = lab.bench();
    let ear = ear(&on);
    on.add_all(&jobs(2));
    let claimed = on.claim(2);
    ear.hears("a release", || on.release(&claimed[0]));
    ear.hears("a retry", || on.retry(&claimed[1], seconds(0)));
}

pub(crate) fn what_an_operator_lets_go_on_is_heard(lab: &Lab) {
    let on = lab.bench();
    let ear = ear(&on);
    let id = on.add(job("a"));
    on.bury(&on.next());
    ear.hears("a retry of a dead job", || {
        assert!(ok(on.admin().retry_dead(id)));
    });
    ok(on.admin().set_paused(true));
    ear.hears("the end of a pause", || {
        ok(on.admin().set_paused(false));
    });
    let limits = Limits {
        running: Some(1),
        ..Limits::default()
    };
    on.limit(limits);
    ear.hears("the end of a limit", || on.limit(Limits::default()));
}

/// What waited for another job to end.
pub(crate) fn room_for_another_job_is_heard(lab: &Lab) {
    let on = lab.bench();
    let ear = ear(&on);
    let limits = Limits {
        running: Some(1),
        ..Limits::default()
    };
    on.limit(limits);
    on.add_all(&jobs(3));
    let claimed = on.next();
    assert!(on.claim(1).is_empty());
    ear.hears("a job that is done", || on.done(&claimed));
    let claimed = on.next();
    ear.hears("a job that is dead", || on.bury(&claimed));
}

pub(crate) fn room_for_another_job_with_the_key_is_heard(lab: &Lab) {
    let on = lab.bench();
    let ear = ear(&on);
    let limits = Limits {
        per_key: Some(1),
        ..Limits::default()
    };
    on.limit(limits);
    let key = Some("k".to_owned());
    let keyed = |job| NewJob {
        key: key.clone(),
        ..job
    };
    let batch: Vec<NewJob> = jobs(5).into_iter().map(keyed).collect();
    let ids = on.add_all(&batch);
    let claimed = on.claim(5);
    assert_eq!(claimed.len(), 1);
    ear.hears("a job that is done", || on.done(&claimed[0]));
    // The next one is called back; when it goes the one after it is.
    ear.hears("a cancel of who was next", || {
        assert!(ok(on.admin().cancel(ids[1])));
    });
    let claimed = on.claim(5);
    ear.hears("a job that is dead", || on.bury(&claimed[0]));
}

pub(crate) fn what_a_schedule_enqueues_is_heard(lab: &Lab) {
    let on = lab.bench();
    let ear = ear(&on);
    let hourly = Scheduled {
        name: "a".to_owned(),
        cron: "0 * * * *".to_owned(),
        kind: "test".to_owned(),
        payload: Vec::new(),
        next: 100,
        missed: Missed::Once,
    };
    ok(on.schedules().put_schedule(&hourly));
    ear.hears("a fire", || {
        let fired = ok(on.schedules().fire(&hourly, 200, Some(&job("a"))));
        assert_eq!(fired, Fired::Done);
    });
}

pub(crate) fn all_who_subscribed_hear(lab: &Lab) {
    let on = lab.bench();
    let (one, two) = (ear(&on), ear(&on));
    one.hears("one", || two.hears("two", || on.add(job("a"))));
}

/// Nor does what it has captured stay.
pub(crate) fn a_subscription_that_is_dropped_is_not_called(lab: &Lab) {
    let on = lab.bench();
    let (leaves, stays) = (ear(&on), ear_that_polls(&on, seconds(1)));
    stays.hears("an enqueue", || {
        leaves.hears("an enqueue", || on.add(job("a")))
    });
    let heard = Arc::clone(&leaves.heard);
    let before = heard.load(Ordering::SeqCst);
    drop(leaves.subscription);
    drop(leaves.heard);
    for number in 0..5 {
        stays.hears("an enqueue", || on.add(job(number.to_string())));
    }
    assert_eq!(heard.load(Ordering::SeqCst), before);
    eventually(on.notification_delay(), "the listener is dropped", || {
        Arc::strong_count(&heard) == 1
    });
}

/// In a call, too, and all others.
pub(crate) fn a_call_may_end_its_own_subscription(lab: &Lab) {
    let on = lab.bench();
    let held: Arc<Mutex<Vec<Subscription>>> = Arc::default();
    let heard = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let (own, heard) = (Arc::clone(&held), Arc::clone(&heard));
        let listener = Listener::new(Duration::MAX, move |_| {
            heard.fetch_add(1, Ordering::SeqCst);
            let all = std::mem::take(&mut *lock(&own));
            drop(all);
        });
        let subscription = ok(on.broker.subscribe(listener));
        lock(&held).push(subscription);
    }
    let stays = ear(&on);
    let handle = on.clone();
    within(
        DEADLINE,
        "an enqueue, and the calls that it makes",
        move || {
            handle.add(job("a"));
        },
    );
    let before = heard.load(Ordering::SeqCst);
    assert!((1..=3).contains(&before), "{before}");
    stays.hears("an enqueue", || on.add(job("b")));
    assert_eq!(heard.load(Ordering::SeqCst), before);
}

/// No user code under a lock: nothing that a call does waits for who calls it.
pub(crate) fn a_call_may_use_the_broker(lab: &Lab) {
    let on = lab.bench();
    let handle = on.clone();
    let weak = Arc::downgrade(&handle.broker);
    let clock = handle.clock.clone();
    let (sender, claimed) = channel();
    let sender = Mutex::new(sender);
    let first = AtomicBool::new(true);
    let listener = Listener::new(Duration::MAX, move |_| {
        // What it does itself calls it again.
        if first.swap(false, Ordering::SeqCst) {
            let broker = weak.upgrade().expect("it calls");
            let clock = clock.clone();
            let on = Bench { broker, clock };
            on.counted(drop);
            on.add(job("of the call"));
            let other = on.broker.subscribe(Listener::new(Duration::MAX, |_| {}));
            drop(ok(other));
            let claimed = on.claim(1);
            for job in &claimed {
                on.release(job);
            }
            let _ = lock(&sender).send(claimed.len());
        }
    });
    let subscription = ok(on.broker.subscribe(listener));
    within(
        DEADLINE,
        "an enqueue, and the call that it makes",
        move || {
            handle.add(job("a"));
        },
    );
    assert_eq!(receive("the call is through", &claimed), 1);
    let mut came = on.next_names(100);
    came.sort();
    assert_eq!(came, ["a", "of the call"]);
    drop(subscription);
}

/// Who subscribes keeps nothing alive, and may be there for longer than the broker.
pub(crate) fn a_broker_that_is_gone_drops_those_who_subscribed(lab: &Lab) {
    let on = lab.bench();
    let one = ear_that_polls(&on, seconds(1));
    one.hears("an enqueue", || on.add(job("a")));
    let clock = on.clock.clone();
    let broker = Arc::downgrade(&on.broker);
    let limit = on.notification_delay();
    drop(on);
    clock.advance(seconds(1));
    let Ear {
        heard,
        subscription,
    } = one;
    drop(subscription);
    eventually(limit, "the listener is dropped", || {
        Arc::strong_count(&heard) == 1
    });
    // The broker of a fixture may be there for as long as that.
    drop(clock);
    eventually(DEADLINE, "the broker is dropped", || {
        broker.strong_count() == 0
    });
}

// ---- what others do ----

/// Each change that makes a job claimable.
fn changes_by(other: &Bench, each: impl Fn(&str, &dyn Fn())) {
    each("an enqueue", &|| {
        other.add(job("a"));
    });
    let claimed = other.next();
    each("a release", &|| other.release(&claimed));
    let claimed = other.next();
    each("a retry", &|| other.retry(&claimed, seconds(0)));
    if other.has(Capability::Pause) {
        ok(other.admin().set_paused(true));
        each("the end of a pause", &|| {
            ok(other.admin().set_paused(false));
        });
    }
    if other.has(Capability::RunningLimit) {
        let running = Some(0);
        other.limit(Limits {
            running,
            ..Limits::default()
        });
        each("the end of a limit", &|| other.limit(Limits::default()));
    }
    if other.has(Capability::ById) {
        let claimed = other.next();
        other.bury(&claimed);
        each("a retry of a dead job", &|| {
            assert!(ok(other.admin().retry_dead(claimed.lease.id())));
        });
    }
}

/// By another handle, of this process or of another one: soon, or after as long as the listener accepts.
pub(crate) fn what_another_handle_does_is_heard(lab: &Lab) {
    for is_apart in [false, true] {
        let on = lab.bench();
        if is_apart && !on.has(Capability::Shared) {
            return;
        }
        let other = if is_apart { on.apart() } else { on.another() };
        let poll = seconds(1) / 20;
        let ear = ear_that_polls(&on, poll);
        let limit = poll + on.notification_delay();
        changes_by(&other, |what, act| {
            let before = ear.count();
            act();
            let what = format!("{what} by another handle");
            ear.has_heard_since(before, limit, &what);
        });
        // What was heard is there.
        assert_eq!(on.next_names(1), ["a"]);
    }
}

/// To look is no change, or two who look would wake each other for ever.
pub(crate) fn a_look_of_another_process_is_not_heard(lab: &Lab) {
    let on = lab.bench();
    let other = on.apart();
    let poll = seconds(1) / 100;
    let ear = ear_that_polls(&on, poll);
    let before = ear.count();
    other.add(job("a"));
    ear.has_heard_since(before, poll + on.notification_delay(), "an enqueue");
    let claimed = other.next();
    std::thread::sleep(poll * 10);
    let before = ear.count();
    for _ in 0..20 {
        other.finds_nothing();
        other.counted(drop);
        std::thread::sleep(poll * 2);
    }
    // It may have heard late of the claim, or look by itself now and then.
    let heard = ear.count() - before;
    assert!(heard <= 5, "it heard {heard} of 20 looks");
    other.done(&claimed);
}
