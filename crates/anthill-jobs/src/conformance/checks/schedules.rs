//! Jobs that are enqueued again and again: what is kept of them, and that each time is one job.

use super::prelude::*;
use std::sync::Barrier;
use std::thread;

fn schedule(name: &str, cron: &str, next: i64) -> Scheduled {
    Scheduled {
        name: name.to_owned(),
        cron: cron.to_owned(),
        kind: "report".to_owned(),
        payload: format!("of {name}").into_bytes(),
        next,
        missed: Missed::Once,
    }
}

/// The schedules as name, expression, kind, data and next time, by their names.
#[track_caller]
fn all(on: &Bench) -> Vec<(String, String, String, String, i64)> {
    let schedules = ok(on.schedules().schedules());
    let mut all: Vec<_> = schedules
        .all
        .into_iter()
        .map(
            |Scheduled {
                 name,
                 cron,
                 kind,
                 payload,
                 next,
                 ..
             }| {
                let payload = String::from_utf8(payload).expect("text");
                (name, cron, kind, payload, next)
            },
        )
        .collect();
    all.sort();
    all
}

fn nexts(on: &Bench) -> Vec<i64> {
    all(on).into_iter().map(|schedule| schedule.4).collect()
}

pub(crate) fn schedules_are_kept_and_listed_and_dropped(lab: &Lab) {
    let on = lab.bench();
    assert!(all(&on).is_empty());
    ok(on
        .schedules()
        .put_schedule(&schedule("b", "0 * * * *", 100)));
    ok(on
        .schedules()
        .put_schedule(&schedule("a", "5 * * * *", 200)));
    let entry = |name: &str, cron: &str, next| {
        let [name, cron, kind] = [name, cron, "report"].map(str::to_owned);
        let data = format!("of {name}");
        (name, cron, kind, data, next)
    };
    let both = [entry("a", "5 * * * *", 200), entry("b", "0 * * * *", 100)];
    assert_eq!(all(&on), both);
    assert_eq!(all(&on.another()), both);
    assert!(ok(on.schedules().drop_schedule("b")));
    assert!(!ok(on.schedules().drop_schedule("b")));
    assert_eq!(all(&on), both[..1]);
    assert!(on.claim(1).is_empty(), "a schedule is no job");
}

pub(crate) fn one_with_the_same_name_takes_its_place(lab: &Lab) {
    let on = lab.bench();
    ok(on
        .schedules()
        .put_schedule(&schedule("a", "0 * * * *", 100)));
    let other = Scheduled {
        kind: "other".to_owned(),
        payload: b"other data".to_vec(),
        ..schedule("a", "5 * * * *", 50)
    };
    ok(on.schedules().put_schedule(&other));
    let [name, cron, kind, data] = ["a", "5 * * * *", "other", "other data"].map(str::to_owned);
    assert_eq!(all(&on), [(name, cron, kind, data, 50)]);
}

/// A program that starts again tells its schedules again; a time that has passed meanwhile is not
/// forgotten.
pub(crate) fn one_with_the_same_expression_keeps_its_next_time(lab: &Lab) {
    let on = lab.bench();
    ok(on
        .schedules()
        .put_schedule(&schedule("a", "0 * * * *", 100)));
    let again = Scheduled {
        payload: b"other data".to_vec(),
        ..schedule("a", "0 * * * *", 900)
    };
    ok(on.another().schedules().put_schedule(&again));
    let [name, cron, kind, data] = ["a", "0 * * * *", "report", "other data"].map(str::to_owned);
    assert_eq!(all(&on), [(name, cron, kind, data, 100)]);
    // Not once it was dropped.
    assert!(ok(on.schedules().drop_schedule("a")));
    ok(on.schedules().put_schedule(&again));
    assert_eq!(nexts(&on), [900]);
}

pub(crate) fn who_fires_enqueues_the_job_and_sets_the_next_time(lab: &Lab) {
    let on = lab.bench();
    let hourly = schedule("a", "0 * * * *", 100);
    ok(on.schedules().put_schedule(&hourly));
    ok(on
        .schedules()
        .put_schedule(&schedule("b", "0 * * * *", 100)));
    let first = job("first");
    assert_eq!(
        ok(on.schedules().fire(&hourly, 200, Some(&first))),
        Fired::Done
    );
    assert_eq!(nexts(&on), [200, 100]);
    on.counted(|stats| assert_eq!(stats.enqueued, 1));
    // Who still has the old time is late.
    assert_eq!(
        ok(on.schedules().fire(&hourly, 300, Some(&job("late")))),
        Fired::Changed
    );
    assert_eq!(nexts(&on), [200, 100]);
    let now = Scheduled {
        next: 200,
        ..hourly
    };
    assert_eq!(
        ok(on
            .another()
            .schedules()
            .fire(&now, 300, Some(&job("second")))),
        Fired::Done
    );
    assert_eq!(nexts(&on), [300, 100]);
    let claimed = on.comes(100, &["first", "second"]);
    let ids: Vec<JobId> = claimed.iter().map(|job| job.lease.id()).collect();
    assert!(ids.contains(&first.id));
}

pub(crate) fn what_is_not_scheduled_does_not_fire(lab: &Lab) {
    let on = lab.bench();
    let hourly = schedule("a", "0 * * * *", 100);
    assert_eq!(
        ok(on.schedules().fire(&hourly, 200, Some(&job("never was")))),
        Fired::Changed
    );
    ok(on.schedules().put_schedule(&hourly));
    assert!(ok(on.schedules().drop_schedule("a")));
    assert_eq!(
        ok(on.schedules().fire(&hourly, 200, Some(&job("was dropped")))),
        Fired::Changed
    );
    assert!(on.claim(100).is_empty());
    assert!(all(&on).is_empty());
}

/// The time has come and gone, though there was nothing to add.
pub(crate) fn a_schedule_moves_on_though_its_job_is_a_duplicate(lab: &Lab) {
    let on = lab.bench();
    let hourly = schedule("a", "0 * * * *", 100);
    ok(on.schedules().put_schedule(&hourly));
    let unique = on.has(Capability::Unique).then(|| "k".to_owned());
    let running = NewJob {
        unique,
        ..job("the same")
    };
    assert_eq!(
        on.enqueue(std::slice::from_ref(&running)),
        [Enqueued::Added(running.id)]
    );
    let mut again = running.clone();
    if again.unique.is_some() {
        again.id = job("another id").id;
    }
    assert_eq!(
        ok(on.schedules().fire(&hourly, 200, Some(&again))),
        Fired::Done
    );
    assert_eq!(nexts(&on), [200]);
    on.counted(|stats| assert_eq!((stats.enqueued, stats.duplicates), (1, 1)));
    assert_eq!(on.next_names(100), ["the same"]);
}

pub(crate) fn a_schedule_does_not_fire_while_the_queue_is_paused(lab: &Lab) {
    let on = lab.bench();
    let hourly = schedule("a", "0 * * * *", 100);
    ok(on.schedules().put_schedule(&hourly));
    ok(on.admin().set_paused(true));
    let fire = || ok(on.schedules().fire(&hourly, 200, Some(&job("a"))));
    assert_eq!(fire(), Fired::Paused);
    assert_eq!(nexts(&on), [100]);
    ok(on.admin().set_paused(false));
    assert_eq!(fire(), Fired::Done);
    assert_eq!(on.next_names(100), ["a"]);
}

/// Two consumers see at the same time that it is time.
pub(crate) fn of_several_who_fire_at_once_one_does(lab: &Lab) {
    const ROUNDS: i64 = 50;
    const THREADS: usize = 4;
    let on = lab.bench();
    ok(on.schedules().put_schedule(&schedule("a", "0 * * * *", 0)));
    let handles: Vec<Bench> = (0..THREADS).map(|_| on.another()).collect();
    let fired = within(DEADLINE, "all threads fire", move || {
        let barrier = Barrier::new(THREADS);
        thread::scope(|scope| {
            let barrier = &barrier;
            let fire_all = move |on: &Bench| {
                let fire = |round| {
                    let seen = schedule("a", "0 * * * *", round);
                    barrier.wait();
                    let fired =
                        on.schedules()
                            .fire(&seen, round + 1, Some(&job(round.to_string())));
                    ok(fired) == Fired::Done
                };
                (0..ROUNDS).map(fire).filter(|&fired| fired).count()
            };
            let threads: Vec<_> = handles
                .iter()
                .map(|on| scope.spawn(move || fire_all(on)))
                .collect();
            let fired = threads
                .into_iter()
                .map(|thread| thread.join().expect("no fire fails"));
            fired.sum::<usize>()
        })
    });
    assert_eq!(i64::try_from(fired), Ok(ROUNDS));
    assert_eq!(nexts(&on), [ROUNDS]);
    let names: Vec<String> = (0..ROUNDS).map(|round| round.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    on.comes(1_000, &names);
}

/// It is told with the schedules, and alone, if that takes no time.
pub(crate) fn the_brokers_time_is_that_of_the_wall_clock(lab: &Lab) {
    let on = lab.bench();
    let now = || {
        let now = ok(on.schedules().schedules()).now;
        let clock = on.schedules().clock();
        assert!(
            clock.is_none_or(|clock| clock == now),
            "{clock:?}, not {now}"
        );
        now
    };
    let noon = i64::try_from(on.wall().as_secs()).expect("not so late");
    assert_eq!(now(), noon);
    on.advance(seconds(90));
    assert_eq!(now(), noon + 90);
    on.set_wall(on.wall() - seconds(3600));
    assert_eq!(now(), noon + 90 - 3600);
}

/// Whatever the clock is.
pub(crate) fn the_brokers_time_goes_on(lab: &Lab) {
    let on = lab.bench();
    let now = || ok(on.schedules().schedules()).now;
    let before = now();
    on.advance(seconds(2));
    let after = now();
    assert!(after >= before + 2, "{after} after {before}");
    if on.can(Means::StillClock) {
        assert_eq!(after, before + 2);
    }
}

/// A time that is not made up for.
pub(crate) fn a_schedule_may_move_on_without_a_job(lab: &Lab) {
    let on = lab.bench();
    let hourly = schedule("a", "0 * * * *", 100);
    ok(on.schedules().put_schedule(&hourly));
    assert_eq!(ok(on.schedules().fire(&hourly, 200, None)), Fired::Done);
    assert_eq!(nexts(&on), [200]);
    assert_eq!(ok(on.schedules().fire(&hourly, 300, None)), Fired::Changed);
    ok(on.admin().set_paused(true));
    let now = Scheduled {
        next: 200,
        ..hourly
    };
    assert_eq!(ok(on.schedules().fire(&now, 300, None)), Fired::Paused);
    assert_eq!(nexts(&on), [200]);
    ok(on.admin().set_paused(false));
    // Back, where the clock was ahead.
    assert_eq!(ok(on.schedules().fire(&now, 50, None)), Fired::Done);
    assert_eq!(nexts(&on), [50]);
    on.counted(|stats| assert_eq!(stats.enqueued, 0));
    assert!(on.claim(1).is_empty());
}

/// Of what is stored and what is told the earlier one: what was stored while the clock was ahead silences nothing.
pub(crate) fn one_that_is_told_again_keeps_the_earlier_time(lab: &Lab) {
    let on = lab.bench();
    for (next, kept) in [(900, 900), (100, 100), (500, 100), (50, 50)] {
        ok(on
            .schedules()
            .put_schedule(&schedule("a", "0 * * * *", next)));
        assert_eq!(nexts(&on), [kept]);
    }
    // Another expression is another schedule.
    ok(on.schedules().put_schedule(&schedule("a", "1 * * * *", 70)));
    assert_eq!(nexts(&on), [70]);
}

/// The newest one says.
pub(crate) fn what_becomes_of_missed_times_is_kept(lab: &Lab) {
    let on = lab.bench();
    for missed in [Missed::All, Missed::Skip, Missed::Once] {
        let told = Scheduled {
            missed,
            ..schedule("a", "0 * * * *", 100)
        };
        ok(on.schedules().put_schedule(&told));
        assert_eq!(ok(on.schedules().schedules()).all[0].missed, missed);
    }
}
