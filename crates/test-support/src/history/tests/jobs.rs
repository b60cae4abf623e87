//! What comes in comes out.

use super::*;

#[test]
fn a_clean_history_has_books() {
    let mut story = Story::of_a();
    story
        .start("c", "a", 1)
        .settle("c", "a", 1, Outcome::Retry, Stored::Yes);
    story
        .start("c", "a", 2)
        .settle("c", "a", 2, Outcome::HandedBack, Stored::Yes);
    story.start("c", "a", 3).done("c", "a", 3);
    story.enqueue("dead", Accepted::Yes).start("c", "dead", 1);
    story
        .settle("c", "dead", 1, Outcome::Dead, Stored::Yes)
        .left("dead", Left::Dead);
    story
        .enqueue("waits", Accepted::Yes)
        .left("waits", Left::Waiting);
    story
        .enqueue("kept", Accepted::Yes)
        .start("c", "kept", 1)
        .done("c", "kept", 1);
    story.left("kept", Left::Done);
    story.enqueue("removed", Accepted::Yes).removing("removed");
    story.enqueue("refused", Accepted::No);
    story
        .enqueue("nowhere", Accepted::Unknown)
        .enqueueing("asked");
    story
        .enqueue("there", Accepted::Unknown)
        .left("there", Left::Waiting);
    let books = story.passes();
    let expected = Books {
        enqueued: 5,
        unknown: 3,
        appeared: 1,
        refused: 1,
        done: 2,
        dead: 1,
        waiting: 2,
        removed: 1,
        claims: 5,
        retried: 1,
        handed_back: 1,
        ..Books::default()
    };
    assert_eq!(books, expected);
    let told = books.to_string();
    for figure in ["enqueued 5", "done 2", "dead 1", "duplicates 0", "lost 0"] {
        assert!(told.contains(figure), "{told}");
    }
}

#[test]
fn an_acknowledged_job_that_is_nowhere_is_lost() {
    let lost = |story: &Story| assert_eq!(story.fails(&[Kind::Lost]).lost, 1);
    lost(&Story::of_a());
    // Given back, begun, or refused: none of these ends it.
    lost(
        Story::of_a()
            .start("c", "a", 1)
            .settle("c", "a", 1, Outcome::Retry, Stored::Yes),
    );
    lost(Story::of_a().start("c", "a", 1).fault("c", Fault::Killed));
    lost(
        Story::of_a()
            .start("c", "a", 1)
            .settle("c", "a", 1, Outcome::Done, Stored::Lost),
    );
    // Dead letters stay until somebody removes them.
    lost(
        Story::of_a()
            .start("c", "a", 1)
            .settle("c", "a", 1, Outcome::Dead, Stored::Yes),
    );
}

#[test]
fn a_settle_without_an_answer_may_have_ended_the_job() {
    let unknown = Story::of_a()
        .start("c", "a", 1)
        .settle("c", "a", 1, Outcome::Done, Stored::Unknown)
        .clone();
    assert_eq!(unknown.passes().done, 1);
    let killed = Story::of_a()
        .start("c", "a", 1)
        .settling("c", "a", 1, Outcome::Done)
        .fault("c", Fault::Killed)
        .clone();
    assert_eq!(killed.passes().done, 1);
}

#[test]
fn what_was_not_enqueued_must_not_run_or_be_left() {
    let mut story = Story {
        numbers: true,
        ..Story::default()
    };
    story.start("c", "ghost", 1).done("c", "ghost", 1);
    story.fails(&[Kind::Unexpected]);

    let mut story = Story::default();
    story
        .enqueue("no", Accepted::No)
        .start("c", "no", 1)
        .done("c", "no", 1);
    story.fails(&[Kind::Unexpected]);

    let mut story = Story::default();
    story.left("ghost", Left::Waiting);
    story.fails(&[Kind::Unexpected]);

    let mut story = Story::default();
    story
        .start("c", "early", 1)
        .enqueue("early", Accepted::Yes)
        .done("c", "early", 1);
    story.fails(&[Kind::Unexpected]);

    // The answer may come after the job has run.
    let mut story = Story::default();
    story
        .enqueueing("quick")
        .start("c", "quick", 1)
        .done("c", "quick", 1);
    story.enqueued("quick", Accepted::Yes);
    story.passes();
}

#[test]
fn a_history_that_does_not_end_is_not_judged_as_valid() {
    let mut story = Story::of_a();
    story.start("c", "a", 1).done("c", "a", 1);
    let open = check(&story.events, &Rules::default());
    assert_eq!(open.violations[0].kind, Kind::NotDrained);
    // Nothing is called lost that may still come.
    assert_eq!(
        check(&Story::of_a().events, &Rules::default())
            .violations
            .len(),
        1
    );
    story.tell("test", What::Drained).enqueue("b", Accepted::No);
    let goes_on = check(&story.events, &Rules::default());
    assert_eq!(goes_on.violations[0].kind, Kind::NotDrained);
    assert!(check(&[], &Rules::default()).violations[0].kind == Kind::NotDrained);
}

#[test]
fn events_that_do_not_go_together_prove_nothing() {
    let contradicts = |story: &Story| story.fails(&[Kind::Contradiction]);
    contradicts(
        Story::of_a()
            .left("a", Left::Waiting)
            .enqueued("a", Accepted::Yes),
    );
    contradicts(Story::of_a().left("a", Left::Waiting).lose("c", "a", 1));
    contradicts(Story::of_a().start("c", "a", 1).done("c", "a", 1).settled(
        "c",
        "a",
        1,
        Stored::Yes,
    ));
    contradicts(
        Story::of_a()
            .left("a", Left::Waiting)
            .left("a", Left::Waiting),
    );
}

#[test]
fn what_is_left_must_agree_with_what_was_stored() {
    for left in [Left::Waiting, Left::Dead] {
        Story::of_a()
            .start("c", "a", 1)
            .done("c", "a", 1)
            .left("a", left)
            .fails(&[Kind::Undone]);
    }
    let mut dead = Story::of_a();
    dead.start("c", "a", 1)
        .settle("c", "a", 1, Outcome::Dead, Stored::Yes);
    dead.clone().left("a", Left::Waiting).fails(&[Kind::Undone]);
    dead.clone().again("a").left("a", Left::Waiting).passes();
    Story::of_a().left("a", Left::Done).fails(&[Kind::Undone]);
    Story::of_a()
        .start("c", "a", 1)
        .settle("c", "a", 1, Outcome::Done, Stored::Lost)
        .left("a", Left::Done)
        .fails(&[Kind::Undone]);
}
