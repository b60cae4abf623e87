//! Those who subscribed hear when there may be something new to claim.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use anthill_jobs::{Fired, Limits, Missed, NewJob};

use crate::bench::{Bench, Fixture, Handle, LEASE, job, jobs, ok, seconds};
use anthill_test_support::{eventually, receive, watchdog};

/// Counts how often the broker calls.
fn ears(on: &Handle) -> Arc<AtomicUsize> {
    let heard = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&heard);
    let hear = move || {
        ours.fetch_add(1, Ordering::SeqCst);
        true
    };
    on.broker.subscribe(Box::new(hear));
    heard
}

/// A call comes after `act`, soon.
#[track_caller]
fn is_heard<T>(heard: &AtomicUsize, what: &str, act: impl FnOnce() -> T) -> T {
    let before = heard.load(Ordering::SeqCst);
    let result = act();
    eventually(format!("a call after {what}"), || {
        heard.load(Ordering::SeqCst) > before
    });
    result
}

pub(crate) fn an_enqueue_is_heard<F: Fixture>() {
    let on = Bench::<F>::new();
    let heard = ears(&on);
    is_heard(&heard, "a job", || on.add(job("a")));
    is_heard(&heard, "many jobs", || on.add_all(&jobs(10)));
    // Who sleeps until a later one is due must hear of this one, too.
    let delay = seconds(10);
    is_heard(&heard, "a delayed job", || {
        on.add(NewJob { delay, ..job("b") })
    });
}

pub(crate) fn what_comes_back_is_heard<F: Fixture>() {
    let on = Bench::<F>::new();
    let heard = ears(&on);
    on.add_all(&jobs(3));
    let claimed = on.claim(3);
    is_heard(&heard, "a release", || on.release(&claimed[0]));
    is_heard(&heard, "a retry", || on.retry(&claimed[1], seconds(0)));
    is_heard(&heard, "a retry with delay", || {
        on.retry(&claimed[2], seconds(10));
    });
}

pub(crate) fn what_an_operator_lets_go_on_is_heard<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.by_id) else {
        return;
    };
    let heard = ears(&on);
    let id = on.add(job("a"));
    on.bury(&on.next());
    is_heard(&heard, "retry_dead", || {
        assert!(ok(on.broker.retry_dead(id)));
    });
    ok(on.broker.set_paused(true));
    is_heard(&heard, "the end of a pause", || {
        ok(on.broker.set_paused(false));
    });
    let limits = Limits {
        running: Some(1),
        ..Limits::default()
    };
    on.limit(limits);
    is_heard(&heard, "the end of a limit", || on.limit(Limits::default()));
}

/// What waited for another job to end.
pub(crate) fn room_for_another_job_is_heard<F: Fixture>() {
    let on = Bench::<F>::new();
    let heard = ears(&on);
    let limits = Limits {
        running: Some(1),
        ..Limits::default()
    };
    on.limit(limits);
    on.add_all(&jobs(3));
    let claimed = on.next();
    assert!(on.claim(1).is_empty());
    is_heard(&heard, "a job that is done", || on.done(&claimed));
    let claimed = on.next();
    is_heard(&heard, "a job that is dead", || on.bury(&claimed));
}

pub(crate) fn room_for_another_job_with_the_key_is_heard<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.per_key && can.by_id) else {
        return;
    };
    let heard = ears(&on);
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
    is_heard(&heard, "a job that is done", || on.done(&claimed[0]));
    // The next one is called back; when it goes the one after it is.
    is_heard(&heard, "a cancel of who was next", || {
        assert!(ok(on.broker.cancel(ids[1])));
    });
    let claimed = on.claim(5);
    is_heard(&heard, "a job that is dead", || on.bury(&claimed[0]));
}

pub(crate) fn what_a_schedule_enqueues_is_heard<F: Fixture>() {
    let on = Bench::<F>::new();
    let heard = ears(&on);
    let hourly = anthill_jobs::Scheduled {
        name: "a".to_owned(),
        cron: "0 * * * *".to_owned(),
        kind: "test".to_owned(),
        payload: Vec::new(),
        next: 100,
        missed: Missed::Once,
    };
    ok(on.broker.put_schedule(&hourly));
    is_heard(&heard, "a fire", || {
        assert!(ok(on.broker.fire(&hourly, 200, Some(&job("a")))) == Fired::Done);
    });
}

pub(crate) fn all_who_subscribed_hear<F: Fixture>() {
    let on = Bench::<F>::new();
    let (one, two) = (ears(&on), ears(&on));
    is_heard(&one, "one", || is_heard(&two, "two", || on.add(job("a"))));
}

pub(crate) fn who_has_heard_enough_is_dropped<F: Fixture>() {
    /// Says that it was dropped, when the broker drops the call.
    struct Dropped(Mutex<Sender<()>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.get_mut().expect("nobody panicked").send(());
        }
    }

    let on = Bench::<F>::new();
    let (sender, dropped) = channel();
    let canary = Dropped(Mutex::new(sender));
    let heard = Arc::new(AtomicUsize::new(0));
    let ours = Arc::clone(&heard);
    on.broker.subscribe(Box::new(move || {
        let _ = &canary;
        ours.fetch_add(1, Ordering::SeqCst) < 2
    }));
    let others = ears(&on);
    for number in 0..5 {
        is_heard(&others, "a job", || on.add(job(number.to_string())));
    }
    receive("the call is dropped", &dropped);
    assert_eq!(heard.load(Ordering::SeqCst), 3, "twice true and once false");
    is_heard(&others, "a job", || on.add(job("the others still hear")));
    assert_eq!(heard.load(Ordering::SeqCst), 3);
}

/// P13, as it were: nothing that a call does waits for who calls it.
pub(crate) fn a_call_may_use_the_broker<F: Fixture>() {
    let on = Bench::<F>::new();
    let handle = on.clone();
    let weak = Arc::downgrade(&handle.broker);
    let clock = handle.clock.clone();
    let (sender, claimed) = channel();
    let sender = Mutex::new(sender);
    let first = AtomicBool::new(true);
    on.broker.subscribe(Box::new(move || {
        // What it does itself calls it again.
        if first.swap(false, Ordering::SeqCst) {
            let broker = weak.upgrade().expect("it calls");
            let clock = clock.clone();
            let on = Handle { broker, clock };
            on.stats();
            on.add(job("of the call"));
            on.broker.subscribe(Box::new(|| true));
            let claimed = on.claim(1);
            for job in &claimed {
                on.release(job);
            }
            let _ = sender.lock().expect("nobody panicked").send(claimed.len());
        }
        true
    }));
    watchdog("an enqueue, and the call that it makes", move || {
        handle.add(job("a"));
    });
    assert_eq!(receive("the call is through", &claimed), 1);
    assert_eq!(on.next_names(100), ["a", "of the call"]);
}

/// Who subscribes keeps nothing alive but himself.
pub(crate) fn a_broker_that_is_gone_drops_those_who_subscribed<F: Fixture>() {
    let on = Bench::<F>::new();
    let heard = ears(&on);
    is_heard(&heard, "a job", || on.add(job("a")));
    let clock = on.clock.clone();
    drop(on);
    eventually("the call is dropped", || Arc::strong_count(&heard) == 1);
    clock.advance(LEASE);
}
