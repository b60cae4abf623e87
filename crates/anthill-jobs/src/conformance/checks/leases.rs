//! B4, B5: leases, and what becomes of a job, and of who had it, when one is over.

use super::prelude::*;

pub(crate) fn a_job_whose_lease_is_over_is_ready_again_in_its_old_place(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[job("a"), job("b")]);
    let first = on.next();
    on.add(job("c"));
    let (again, took) = on.follow();
    assert_eq!(names(&again), ["b", "c"], "not before the lease is over");
    assert!(took.is_zero());
    for job in &again {
        on.release(job);
    }
    on.advance(LEASE - GRAIN);
    assert_eq!(on.next_names(1), ["b"]);
    on.advance(GRAIN);
    let again = on.claim_all(2);
    assert_eq!(names(&again), ["a", "c"]);
    assert_eq!(again[0].attempt, 2, "it counts as an attempt");
    assert_ne!(again[0].lease, first.lease);
    on.counted(|stats| assert_eq!((stats.lost_leases, stats.retried), (1, 0)));
}

/// Also on a clock that nobody moves by hand. The lease is shorter than those of the other checks.
pub(crate) fn a_short_lease_ends_and_one_that_is_extended_does_not(lab: &Lab) {
    let on = lab.bench();
    let lease = seconds(5);
    on.add_all(&[job("kept"), job("lost")]);
    let mut claimed = Vec::new();
    for _ in 0..2 {
        claimed.extend(on.claims_by(&ClaimRequest::new(1, lease)).jobs);
    }
    claimed.sort_by_key(name);
    let [kept, lost] = &mut claimed[..] else {
        panic!("two jobs are there: {claimed:?}")
    };
    let watch = on.stopwatch();
    assert!(on.extend(kept, lease * 10));
    let mut again = Vec::new();
    while again.is_empty() && on.moved() < lease * 2 {
        on.advance(lease / 10);
        again = on.claim(2);
    }
    assert_eq!(names(&again), ["lost"]);
    assert_eq!(again[0].attempt, 2);
    // Who has it extended it after it was claimed, and the watch began in between.
    let grain = if on.can(Means::StillClock) {
        GRAIN
    } else {
        lease / 2
    };
    assert!(watch.elapsed() >= lease - grain, "{:?}", watch.elapsed());
    if on.has(Capability::Fenced) {
        assert!(!on.settle(lost, done()));
    }
    on.done(&again[0]);
    on.done(kept);
    on.finds_nothing();
}

pub(crate) fn a_claim_tells_when_the_next_lease_is_over(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&[job("a"), job("b")]);
    on.next();
    on.advance(seconds(5));
    on.next();
    for (name, after) in [("a", LEASE - seconds(5)), ("b", seconds(5))] {
        let (jobs, took) = on.follow();
        assert_eq!(names(&jobs), [name]);
        assert!(took >= after - GRAIN && took <= after + GRAIN, "{took:?}");
        on.done(&jobs[0]);
    }
    on.is_at_rest();
}

pub(crate) fn several_lost_jobs_come_back_in_their_old_order(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(4));
    on.add(NewJob {
        priority: 1,
        ..job("urgent")
    });
    // Claimed at different times, so their leases are over in another order than they are in.
    let mut claimed = on.claim(3);
    assert_eq!(names(&claimed), ["urgent", "0", "1"]);
    on.advance(seconds(1));
    assert!(on.extend(&mut claimed[1], LEASE));
    on.advance(seconds(1));
    assert!(on.extend(&mut claimed[0], LEASE));
    on.advance(LEASE);
    let all = on.claim_all(100);
    assert_eq!(names(&all), ["urgent", "0", "1", "2", "3"]);
    on.counted(|stats| assert_eq!(stats.lost_leases, 3));
}

/// What `zombie` tells of a job that is not his any more is refused, and changes nothing.
#[track_caller]
fn is_refused(on: &Bench, zombie: &Claimed) {
    let id = zombie.lease.id();
    let seen = || {
        let mut seen = Vec::new();
        on.shown(id, |job| seen.push(format!("{job:?}")));
        on.counted(|stats| seen.push(format!("{stats:?}")));
        seen
    };
    let before = seen();
    let ends = [done(), retry(seconds(5)), dead("no"), release(seconds(0))];
    for end in ends {
        assert!(!on.settle(zombie, end.clone()), "{end:?} of a zombie");
    }
    assert!(!on.extend(&mut zombie.clone(), LEASE * 100));
    if on.has(Capability::Progress) {
        assert!(!on.progress(zombie, b"\"zombie\""));
    }
    assert_eq!(seen(), before);
}

pub(crate) fn a_zombie_is_refused_while_the_job_waits(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let zombie = on.next();
    on.pass(LEASE);
    on.is_in(zombie.lease.id(), JobState::Ready);
    is_refused(&on, &zombie);
    assert_eq!(on.next_names(100), ["a"]);
}

pub(crate) fn a_zombie_is_refused_while_another_one_runs_the_job(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let zombie = on.next();
    on.advance(LEASE);
    let mut owner = on.next();
    assert_eq!(owner.attempt, 2);
    is_refused(&on, &zombie);
    // And the lease of the one who has it ends when it would have.
    on.pass(LEASE - seconds(1));
    on.finds_nothing();
    assert!(on.extend(&mut owner, LEASE));
    is_refused(&on, &zombie);
    on.done(&owner);
    is_refused(&on, &zombie);
    on.finds_nothing();
}

/// As above, on a clock that nobody has to move: the lease is over at once.
pub(crate) fn who_lost_a_job_at_once_has_no_say_in_it(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let zombie = on.claims_by(&ClaimRequest::new(1, Duration::ZERO)).jobs;
    on.advance(GRAIN);
    let owner = on.next();
    is_refused(&on, &zombie[0]);
    on.finds_nothing();
    on.done(&owner);
    is_refused(&on, &zombie[0]);
    on.finds_nothing();
}

/// The claim that was given back, and the job claimed again with the same number of attempts.
pub(crate) fn who_released_a_job_has_no_say_in_it(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let before = on.next();
    on.release(&before);
    is_refused(&on, &before);
    let owner = on.next();
    is_refused(&on, &before);
    on.done(&owner);
}

/// Also where a dead job starts anew with its attempts, and where it is gone.
pub(crate) fn who_had_a_job_that_is_over_has_no_say_in_it(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(job("a"));
    let before = on.next();
    on.bury(&before);
    is_refused(&on, &before);
    assert!(ok(on.admin().retry_dead(id)));
    is_refused(&on, &before);
    let owner = on.next();
    assert_eq!(owner.attempt, 1);
    is_refused(&on, &before);
    on.done(&owner);
    // Its room may be another one's by now.
    on.add_all(&jobs(3));
    let others = on.claim(3);
    is_refused(&on, &before);
    is_refused(&on, &owner);
    on.all_done(&others);
}

/// Whatever its token is.
pub(crate) fn a_lease_that_nobody_had_is_refused(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(2));
    let (one, two) = (on.next(), on.next());
    let token = one.lease.token();
    let mut tokens: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0; token.len()],
        vec![0xff; token.len()],
        vec![b'x'; 1_000],
        [token, b"\0"].concat(),
        token[..token.len().saturating_sub(1)].to_vec(),
    ];
    for at in 0..token.len() {
        let mut other = token.to_vec();
        other[at] ^= 1;
        tokens.push(other);
    }
    let forged = |id, token: &[u8]| Claimed::new(Lease::new(id, token), "test", Vec::new());
    let id = one.lease.id();
    for other in tokens.iter().filter(|other| &other[..] != token) {
        is_refused(&on, &forged(id, other));
    }
    is_refused(&on, &forged(job("unknown").id, token));
    if two.lease.token() != token {
        is_refused(&on, &forged(two.lease.id(), token));
    }
    on.done(&one);
    on.done(&two);
}

pub(crate) fn an_extension_keeps_the_job(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(2));
    let (mut kept, lost) = (on.next(), on.next());
    for _ in 0..10 {
        on.advance(LEASE - seconds(1));
        assert!(on.extend(&mut kept, LEASE));
        let again = on.claim(1);
        if let [again] = &again[..] {
            assert_eq!(again.lease.id(), lost.lease.id());
            on.release(again);
        }
    }
    on.done(&kept);
    on.counted(|stats| assert_eq!((stats.done, stats.running), (1, 0)));
}

/// The token may be another one after each extension: whoever has the newest one has the job.
pub(crate) fn a_lease_goes_on_with_what_an_extension_returns(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let mut claimed = on.next();
    for _ in 0..5 {
        assert!(on.extend(&mut claimed, LEASE));
    }
    if on.has(Capability::Progress) {
        assert!(on.progress(&claimed, b"1"));
    }
    let other = on.another();
    assert!(other.extend(&mut claimed, LEASE));
    on.done(&claimed);
    on.finds_nothing();
    if on.has(Capability::Fenced) {
        is_refused(&on, &claimed);
    }
}

/// It counts from now, and may thus make a lease shorter.
pub(crate) fn an_extension_counts_from_now(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let mut claimed = on.next();
    assert!(on.extend(&mut claimed, LEASE * 10));
    on.advance(LEASE * 9);
    assert!(on.claim(1).is_empty());
    assert!(on.extend(&mut claimed, seconds(5)));
    on.advance(seconds(5));
    assert_eq!(on.next_names(1), ["a"]);
}

pub(crate) fn many_leases_are_extended_in_one_call(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(3));
    let mut claimed = on.claim(3);
    claimed.sort_by_key(name);
    on.done(&claimed[1]);
    let leases: Vec<_> = claimed.iter().map(|job| job.lease.clone()).collect();
    let extended = ok(on.broker.extend(&leases, LEASE * 2));
    assert_eq!(held(&extended), [true, false, true]);
    for (extended, lease) in extended.iter().zip(&leases) {
        assert!(extended.held().is_none_or(|held| held.id() == lease.id()));
    }
    on.advance(LEASE);
    assert!(on.claim(3).is_empty());
    on.advance(LEASE);
    let mut came = names(&on.claim_all(3));
    came.sort();
    assert_eq!(came, ["0", "2"]);
    assert!(ok(on.broker.extend(&[], LEASE)).is_empty());
}

/// B5: a job that kills its process does not do so for ever.
pub(crate) fn a_lease_that_is_over_with_the_last_attempt_leaves_a_dead_job(lab: &Lab) {
    let on = lab.bench();
    let id = on.add(NewJob {
        attempts: 2,
        ..job("kills")
    });
    for attempt in 1..=2 {
        assert_eq!(on.next().attempt, attempt);
        on.advance(LEASE);
    }
    assert!(on.claim(100).is_empty());
    on.shown(id, |job| {
        let job = job.expect("it is there");
        assert_eq!(job.state, JobState::Dead);
        assert!(job.error.is_some_and(|why| !why.is_empty()), "no reason");
    });
    on.counted(|stats| assert_eq!((stats.lost_leases, stats.died), (2, 1)));
}

/// The settle comes late, and nobody has taken the job away: whatever the answer, it is true.
pub(crate) fn a_late_settle_is_answered_truly(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let claimed = on.next();
    on.advance(LEASE * 2);
    let settled = on.settle(&claimed, done());
    assert_eq!(on.next_names(1).is_empty(), settled);
    on.counted(|stats| assert_eq!(stats.done, u64::from(settled)));
}

/// Leases follow a clock that nobody sets.
pub(crate) fn no_lease_follows_the_wall_clock(lab: &Lab) {
    let on = lab.bench();
    on.add(job("a"));
    let mut first = on.next();
    on.set_wall(on.wall() + seconds(3600));
    assert!(on.claim(1).is_empty(), "an hour ahead ended it");
    assert!(on.extend(&mut first, LEASE));
    on.set_wall(on.wall() - seconds(7200));
    assert!(on.claim(1).is_empty());
    on.advance(LEASE - GRAIN);
    assert!(on.claim(1).is_empty());
    on.advance(GRAIN);
    let again = on.claim(1);
    assert_eq!(names(&again), ["a"], "an hour back prolonged it");
    assert_eq!(again[0].attempt, 2);
}

/// Who waited for longer than a lease was not claimed by anybody.
pub(crate) fn a_backlog_older_than_the_lease_comes_once(lab: &Lab) {
    let on = lab.bench();
    on.add_all(&jobs(100));
    on.advance(LEASE * 10);
    let mut came = Vec::new();
    for _ in 0..10 {
        let claimed = on.claim(10);
        assert!(claimed.iter().all(|job| job.attempt == 1));
        came.extend(names(&claimed));
        on.advance(LEASE / 2);
        on.all_done(&claimed);
    }
    assert!(on.claim(100).is_empty());
    if !on.has(Capability::Order) {
        came.sort_by_key(|name| name.parse::<u32>().expect("a number"));
    }
    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(came, expected);
    on.counted(|stats| assert_eq!((stats.done, stats.lost_leases), (100, 0)));
}
