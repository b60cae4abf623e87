//! B10: a wall clock that was wrong for a moment makes nothing wait for longer.

use super::prelude::*;

const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// What becomes of the broker when the clock is right again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Nothing,
    Reopened,
    Rebooted,
}

const ALL: [Then; 3] = [Then::Nothing, Then::Reopened, Then::Rebooted];

impl Then {
    /// Whether it can happen to such a broker.
    fn is_for(self, on: &Bench) -> bool {
        match self {
            Then::Nothing => true,
            Then::Reopened => on.can(Means::Restart),
            Then::Rebooted => on.can(Means::Restart) && on.can(Means::HostRestart),
        }
    }
}

/// A broker whose wall clock is wrong, and what it was before; `None` if `then` cannot happen to it.
fn wrong(
    lab: &Lab,
    then: Then,
    set: impl FnOnce(Duration) -> Duration,
) -> Option<(Bench, Duration)> {
    let on = lab.bench();
    if !then.is_for(&on) {
        return None;
    }
    let right = on.wall();
    on.pass(Duration::ZERO);
    on.set_wall(set(right));
    on.pass(Duration::ZERO);
    Some((on, right))
}

/// The clock is right again.
fn right(on: Bench, right: Duration, then: Then) -> Bench {
    on.set_wall(right);
    match then {
        Then::Nothing => on,
        Then::Reopened => on.restart(),
        Then::Rebooted => {
            on.restart_host();
            let on = on.restart();
            on.pass(Duration::ZERO);
            on
        }
    }
}

fn once(name: &str, period: Duration) -> NewJob {
    let key = "k".to_owned();
    NewJob {
        once_per: Some(OncePer { key, period }),
        ..job(name)
    }
}

/// All that is made while it is wrong, and how long each takes, whatever way the clock is wrong and comes back.
fn nothing_waits_longer(lab: &Lab, then: Then, set: impl FnOnce(Duration) -> Duration) {
    let Some((on, was)) = wrong(lab, then, set) else {
        return;
    };
    let time = seconds(10);
    let delayed = on.add(NewJob {
        delay: time,
        ..job("delayed")
    });
    let once_per = on.add(once("once", time));
    on.add(NewJob {
        keep_result: Some(time),
        ..job("kept")
    });
    on.add_all(&[job("retried"), job("released")]);
    let expires = on.add(NewJob {
        expires: Some(time),
        priority: -1,
        ..job("expires")
    });
    let claimed = on.claim(4);
    assert_eq!(names(&claimed), ["once", "kept", "retried", "released"]);
    let kept = claimed[1].lease.id();
    on.done(&claimed[0]);
    assert!(on.settle(&claimed[1], done()));
    assert!(on.settle(&claimed[2], retry(time)));
    assert!(on.settle(&claimed[3], release(time)));

    let on = right(on, was, then);
    on.pass(time - GRAIN);
    assert_eq!(on.state(delayed), Some(JobState::Delayed), "{then:?}");
    assert_eq!(on.stats().delayed, 3, "{then:?}");
    assert_eq!(on.add_again(once("again", time)), once_per, "{then:?}");
    assert_eq!(on.state(kept), Some(JobState::Done), "{then:?}");
    assert_eq!(on.state(expires), Some(JobState::Ready), "{then:?}");
    on.pass(GRAIN * 2);
    assert_eq!(on.state(delayed), Some(JobState::Ready), "{then:?}");
    assert_eq!(on.stats().delayed, 0, "{then:?}");
    assert_eq!(on.state(kept), None, "{then:?}");
    assert_eq!(on.state(expires), None, "{then:?}");
    on.add(once("once more", time));
    let mut came = names(&on.claim(100));
    came.sort();
    assert_eq!(
        came,
        ["delayed", "once more", "released", "retried"],
        "{then:?}"
    );
}

pub(crate) fn a_clock_that_was_ahead_for_a_moment_silences_nothing(lab: &Lab) {
    for then in ALL {
        nothing_waits_longer(lab, then, |right| right + YEAR);
    }
}

pub(crate) fn a_clock_that_was_back_for_a_moment_silences_nothing(lab: &Lab) {
    // When the host starts anew a clock that comes back is one that went ahead: all is due at once, as it should be.
    for then in [Then::Nothing, Then::Reopened] {
        let Some((on, was)) = wrong(lab, then, |right| right - YEAR) else {
            continue;
        };
        let id = on.add(NewJob {
            delay: seconds(10),
            ..job("delayed")
        });
        assert_eq!(
            on.job(id).due_in,
            Some(seconds(10)),
            "time has not gone back"
        );
        let on = right(on, was, then);
        on.pass(seconds(10) - GRAIN);
        assert_eq!(on.state(id), Some(JobState::Delayed), "{then:?}");
        on.pass(GRAIN * 2);
        assert_eq!(on.state(id), Some(JobState::Ready), "{then:?}");
    }
}

/// What was made before is not put off either, nor does it take longer to be gone.
pub(crate) fn a_clock_that_is_set_back_puts_nothing_off(lab: &Lab) {
    for then in ALL {
        let on = lab.bench();
        if !then.is_for(&on) {
            continue;
        }
        let id = on.add(NewJob {
            delay: seconds(10),
            ..job("delayed")
        });
        on.pass(seconds(4));
        let was = on.wall();
        // The row was written at the enqueue: what passed since then a host that starts anew does not know.
        on.add(job("now"));
        let on = right(on, was - YEAR, then);
        on.pass(seconds(6) - GRAIN);
        assert_eq!(on.state(id), Some(JobState::Delayed), "{then:?}");
        on.pass(GRAIN * 2);
        assert_eq!(on.state(id), Some(JobState::Ready), "{then:?}");
    }
}

/// B6: who came while it was ahead is before who comes after.
pub(crate) fn the_order_is_kept_over_a_clock_that_was_wrong(lab: &Lab) {
    for then in ALL {
        let Some((on, was)) = wrong(lab, then, |right| right + YEAR) else {
            continue;
        };
        on.add_all(&[job("a"), job("b")]);
        let on = right(on, was, then);
        on.add(job("c"));
        on.add(NewJob {
            delay: seconds(1),
            ..job("e")
        });
        on.add(job("d"));
        on.pass(seconds(1));
        on.add(job("f"));
        assert_eq!(
            on.next_names(100),
            ["a", "b", "c", "d", "e", "f"],
            "{then:?}"
        );
    }
}

/// However often.
pub(crate) fn a_clock_that_jumps_to_and_fro_stops_no_time(lab: &Lab) {
    let on = lab.bench();
    let right = on.wall();
    for n in 0..10_u32 {
        let name = format!("{n}");
        on.add(NewJob {
            delay: seconds(3),
            ..job(name.clone())
        });
        let wrong = if n % 2 == 0 {
            right + YEAR / (n + 1)
        } else {
            right - YEAR / (n + 1)
        };
        on.pass(seconds(1));
        on.set_wall(wrong);
        on.pass(seconds(1));
        on.set_wall(right);
        on.pass(seconds(1) + GRAIN);
        let claimed = on.claim(100);
        assert_eq!(names(&claimed), [name]);
        assert!(claimed[0].waited <= YEAR + LEASE);
        on.all_done(&claimed);
    }
    on.counted(|stats| assert_eq!(stats.delayed, 0));
}
