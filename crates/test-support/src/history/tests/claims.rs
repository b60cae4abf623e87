//! One claim of a job after the other.

use super::*;

/// A job whose first claim ends in some way, and whose second one is done.
fn twice(how: impl FnOnce(&mut Story) -> &mut Story) -> Story {
    let mut story = Story::of_a();
    story.start("c", "a", 1);
    how(&mut story);
    story.start("d", "a", 2).done("d", "a", 2);
    story
}

#[test]
fn a_duplicate_is_explained_and_counted() {
    type Count = fn(&Books) -> usize;
    type How = fn(&mut Story) -> &mut Story;
    let reasons: [(How, Count); 8] = [
        (|s| s.lose("c", "a", 1), |books| books.lease_lost),
        (
            |s| s.settle("c", "a", 1, Outcome::Done, Stored::Lost),
            |books| books.lease_lost,
        ),
        (
            |s| s.settle("c", "a", 1, Outcome::Done, Stored::Unknown),
            |books| books.unknown_settle,
        ),
        (
            |s| s.settling("c", "a", 1, Outcome::Retry),
            |books| books.unknown_settle,
        ),
        (|s| s.fault("c", Fault::Killed), |books| books.killed),
        (
            |s| {
                s.settling("c", "a", 1, Outcome::Done)
                    .fault("c", Fault::Killed)
            },
            |books| books.killed,
        ),
        (|s| s.fault("c", Fault::Frozen), |books| books.frozen),
        (
            |s| s.fault("c", Fault::CutOff).recovered("c"),
            |books| books.cut_off,
        ),
    ];
    for (number, (how, count)) in reasons.into_iter().enumerate() {
        let story = twice(how);
        let books = story.passes();
        assert_eq!(
            (count(&books), books.duplicates),
            (1, 1),
            "{number}: {books}"
        );
        assert_eq!(books.done, 1);
    }
    // The refusal may come after the other one has started.
    let mut late = Story::of_a();
    late.start("c", "a", 1).start("d", "a", 2);
    late.settle("c", "a", 1, Outcome::Done, Stored::Lost)
        .done("d", "a", 2);
    let books = late.passes();
    assert_eq!((books.lease_lost, books.extra_runs), (1, 1));
}

#[test]
fn an_unexplained_duplicate_is_invalid() {
    let books = twice(|story| story).fails(&[Kind::Unexplained]);
    assert_eq!((books.unexplained, books.duplicates), (1, 1));
    // A fault of somebody else, or one that was over before.
    twice(|story| story.fault("d", Fault::Killed)).fails(&[Kind::Unexplained]);
    let mut over = Story::of_a();
    over.fault("c", Fault::Frozen).recovered("c");
    over.start("c", "a", 1).start("d", "a", 2).done("d", "a", 2);
    over.fails(&[Kind::Unexplained]);
}

#[test]
fn of_two_claims_in_an_unknown_order_one_needs_a_reason() {
    for settle_first in [false, true] {
        let mut story = Story {
            numbers: false,
            times: false,
            ..Story::of_a()
        };
        story.start("c", "a", 1).start("d", "a", 2);
        if settle_first {
            story.done("c", "a", 1);
        } else {
            story.done("d", "a", 2);
        }
        story.fails(&[Kind::Unexplained]);
        story.lose(
            if settle_first { "d" } else { "c" },
            "a",
            if settle_first { 2 } else { 1 },
        );
        story.passes();
    }
}

#[test]
fn what_comes_after_the_next_claim_explains_nothing_where_leases_are_known() {
    let mut story = Story {
        lease: Some(1_000),
        ..Story::of_a()
    };
    story
        .start("c", "a", 1)
        .start("d", "a", 2)
        .done("d", "a", 2);
    let mut killed = story.clone();
    killed.fault("c", Fault::Killed);
    killed.fails(&[Kind::Unexplained, Kind::LeaseCutShort]);
    let mut unknown = story.clone();
    unknown.settle("c", "a", 1, Outcome::Done, Stored::Unknown);
    unknown.fails(&[Kind::Unexplained, Kind::LeaseCutShort]);
    // Unless the lease was over.
    let mut over = Story {
        lease: Some(5),
        ..Story::of_a()
    };
    over.start("c", "a", 1)
        .start("d", "a", 2)
        .done("d", "a", 2)
        .fault("c", Fault::Killed);
    assert_eq!(over.passes().lease_lost, 1);
    // Where leases are not known it may have been.
    let mut unknown = Story::of_a();
    unknown
        .start("c", "a", 1)
        .start("d", "a", 2)
        .done("d", "a", 2)
        .fault("c", Fault::Killed);
    assert_eq!(unknown.passes().killed, 1);
}

#[test]
fn a_lease_is_not_cut_short() {
    let with = |lease| Story {
        lease: Some(lease),
        ..Story::of_a()
    };
    // Killed at 50, claimed again by 70: the lease runs until 30 and what it is long.
    let killed = |mut story: Story| {
        story
            .start("c", "a", 1)
            .fault("c", Fault::Killed)
            .start("d", "a", 2)
            .done("d", "a", 2);
        story
    };
    killed(with(41)).fails(&[Kind::LeaseCutShort]);
    killed(with(40)).passes();
    // Renewed, as far as that was known when the next claim was asked for.
    let mut renewed = with(5);
    renewed
        .start("c", "a", 1)
        .extend("c", "a", 1, 100)
        .fault("c", Fault::Killed);
    renewed.start("d", "a", 2).done("d", "a", 2);
    renewed.fails(&[Kind::LeaseCutShort]);
    // Given back, or removed.
    let mut back = with(1_000);
    back.start("c", "a", 1)
        .settling("c", "a", 1, Outcome::Retry)
        .start("d", "a", 2);
    back.settled("c", "a", 1, Stored::Yes).done("d", "a", 2);
    back.passes();
}

#[test]
fn a_stale_settle_must_not_be_stored() {
    for outcome in [
        Outcome::Done,
        Outcome::Retry,
        Outcome::HandedBack,
        Outcome::Dead,
    ] {
        let mut story = Story::of_a();
        story
            .start("c", "a", 1)
            .fault("c", Fault::Frozen)
            .start("d", "a", 2)
            .recovered("c");
        story.settle("c", "a", 1, outcome, Stored::Yes).settle(
            "d",
            "a",
            2,
            Outcome::Done,
            Stored::Lost,
        );
        story.left("a", Left::Dead);
        let found: Vec<Kind> = story
            .report()
            .violations
            .iter()
            .map(|one| one.kind)
            .collect();
        assert!(found.contains(&Kind::StaleSettle), "{outcome:?}: {found:?}");
    }
    // Ordered by the times of the requests alone, or by the numbers alone.
    for (numbers, times) in [(false, true), (true, false)] {
        let mut story = Story {
            numbers,
            times,
            ..Story::of_a()
        };
        story.start("c", "a", 1).start("d", "a", 2);
        story
            .settle("c", "a", 1, Outcome::Retry, Stored::Yes)
            .done("d", "a", 2);
        story.fails(&[Kind::StaleSettle]);
    }
    // Sent before the other one had started, it may have come first.
    let mut crossing = Story {
        numbers: true,
        times: false,
        ..Story::of_a()
    };
    crossing
        .start("c", "a", 1)
        .settling("c", "a", 1, Outcome::Retry)
        .start("d", "a", 2);
    crossing.settled("c", "a", 1, Stored::Yes).done("d", "a", 2);
    crossing.passes();
    // In an unknown order the one that settles may be the newer one.
    let mut unknown = Story {
        numbers: false,
        times: false,
        ..Story::of_a()
    };
    unknown
        .start("c", "a", 1)
        .start("d", "a", 2)
        .lose("d", "a", 2)
        .done("c", "a", 1);
    unknown.passes();
}

#[test]
fn a_stale_renewal_must_not_be_granted() {
    let mut story = Story::of_a();
    story
        .start("c", "a", 1)
        .fault("c", Fault::CutOff)
        .start("d", "a", 2)
        .recovered("c");
    story
        .extend("c", "a", 1, 100)
        .lose("c", "a", 1)
        .done("d", "a", 2);
    story.fails(&[Kind::StaleRenewal]);
}

#[test]
fn what_is_over_does_not_run_again_unasked() {
    twice(|story| story.done("c", "a", 1)).fails(&[
        Kind::Unexplained,
        Kind::RanAfterEnd,
        Kind::DoneTwice,
    ]);
    // Also where the second one does not come far.
    let mut begun = Story::of_a();
    begun
        .start("c", "a", 1)
        .done("c", "a", 1)
        .start("d", "a", 2)
        .fault("d", Fault::Killed);
    begun.fails(&[Kind::RanAfterEnd]);
    let mut dead = Story::of_a();
    dead.start("c", "a", 1)
        .settle("c", "a", 1, Outcome::Dead, Stored::Yes);
    dead.start("d", "a", 2)
        .lose("d", "a", 2)
        .left("a", Left::Dead);
    dead.fails(&[Kind::RanAfterEnd]);

    let books = twice(|story| story.done("c", "a", 1).again("a")).passes();
    assert_eq!((books.duplicates, books.extra_runs), (0, 0));
    twice(|story| story.done("c", "a", 1).enqueue("a", Accepted::Yes)).passes();
    // Answered before that, it added nothing.
    let mut before = Story::of_a();
    before
        .enqueue("a", Accepted::Yes)
        .start("c", "a", 1)
        .done("c", "a", 1)
        .start("d", "a", 2)
        .lose("d", "a", 2);
    before.fails(&[Kind::RanAfterEnd]);
}

#[test]
fn what_put_it_into_the_queue_does_so_once() {
    let mut quick = Story {
        numbers: true,
        times: true,
        ..Story::default()
    };
    quick
        .enqueueing("a")
        .start("c", "a", 1)
        .done("c", "a", 1)
        .enqueued("a", Accepted::Yes);
    quick.start("d", "a", 2).lose("d", "a", 2);
    quick.fails(&[Kind::RanAfterEnd]);
    // A second call that found it there added nothing.
    let mut story = Story {
        numbers: false,
        times: false,
        ..Story::of_a()
    };
    story
        .start("c", "a", 1)
        .settle("c", "a", 1, Outcome::Retry, Stored::Yes)
        .enqueue("a", Accepted::Yes);
    story
        .start("c", "a", 2)
        .start("d", "a", 3)
        .done("c", "a", 2)
        .done("d", "a", 3);
    story.fails(&[Kind::Unexplained, Kind::DoneTwice]);
}

#[test]
fn two_claims_that_are_stored_as_done_are_one_too_many_in_any_order() {
    let mut story = Story {
        numbers: false,
        times: false,
        ..Story::of_a()
    };
    story
        .start("c", "a", 1)
        .start("d", "a", 2)
        .done("c", "a", 1)
        .done("d", "a", 2);
    let books = story.fails(&[Kind::Unexplained, Kind::DoneTwice]);
    assert_eq!(books.extra_runs, 1);
}

#[test]
fn a_token_is_of_one_claim_and_numbers_grow() {
    Story::of_a()
        .start("c", "a", 1)
        .start("d", "a", 1)
        .done("c", "a", 1)
        .fails(&[Kind::TokenReused]);
    let mut story = Story::of_a();
    story
        .start("c", "a", 2)
        .lose("c", "a", 2)
        .start("d", "a", 1)
        .done("d", "a", 1);
    let found: Vec<Kind> = story
        .report()
        .violations
        .iter()
        .map(|one| one.kind)
        .collect();
    assert!(found.contains(&Kind::ClaimsOutOfOrder), "{found:?}");
}

#[test]
fn the_order_of_the_events_in_the_list_does_not_matter() {
    let mut story = twice(|story| story.lose("c", "a", 1));
    story.events.reverse();
    story.passes();
}
