//! Stores that come back as they were a while before.

use super::*;

/// A job that was acknowledged; and the moment after that.
fn of_a() -> (Story, u64) {
    let story = Story::of_a();
    let after = story.now + 1;
    (story, after)
}

#[test]
fn a_job_is_forgotten_where_each_promise_of_it_may_be_undone() {
    let (story, after) = of_a();
    let mut undone = story.clone();
    let books = undone.roll_back(story.now).passes();
    assert_eq!((books.forgotten, books.lost), (1, 0));
    // What was promised before that time stays.
    let mut early = story.clone();
    let books = early.roll_back(after).fails(&[Kind::Lost]);
    assert_eq!((books.forgotten, books.lost), (0, 1));
    // And what is promised later: the answer to a repetition.
    let mut late = story.clone();
    late.roll_back(0).enqueue("a", Accepted::Yes);
    late.fails(&[Kind::Lost]);
    late.roll_back(0).passes();
    // Of two promises one is undone.
    let mut both = story.clone();
    both.enqueue("a", Accepted::Yes).roll_back(after);
    both.fails(&[Kind::Lost]);
    // An answer that was on its way when the store failed.
    let mut on_its_way = Story::default();
    on_its_way.enqueueing("a").roll_back(0);
    on_its_way.enqueued("a", Accepted::Yes).passes();
}

#[test]
fn a_job_comes_again_where_its_claim_or_its_end_may_be_undone() {
    for lease in [None, Some(10_000)] {
        // The claim.
        let (mut story, after) = of_a();
        (story.numbers, story.lease) = (false, lease);
        let mut early = story.clone();
        story.start("c", "a", 1).roll_back(after);
        story.start("d", "a", 2).done("d", "a", 2);
        let books = story.passes();
        assert_eq!((books.undone, books.duplicates), (1, 1), "{books}");
        early.start("c", "a", 1);
        let since = early.now + 1;
        early.roll_back(since).start("d", "a", 2).done("d", "a", 2);
        let kinds: &[Kind] = match lease {
            None => &[Kind::Unexplained],
            Some(_) => &[Kind::Unexplained, Kind::LeaseCutShort],
        };
        early.fails(kinds);
        // Its end.
        let (mut ended, _) = of_a();
        (ended.numbers, ended.lease) = (false, lease);
        ended.start("c", "a", 1);
        let since = ended.now + 1;
        ended.done("c", "a", 1);
        let mut stored = ended.clone();
        ended.roll_back(since).start("d", "a", 2).done("d", "a", 2);
        ended.passes();
        let since = stored.now + 1;
        stored.roll_back(since).start("d", "a", 2).done("d", "a", 2);
        stored.fails(&[Kind::Unexplained, Kind::RanAfterEnd, Kind::DoneTwice]);
        // But it is done once for each time, and not by itself.
        let (mut twice, _) = of_a();
        (twice.numbers, twice.lease) = (false, lease);
        twice.start("c", "a", 1).done("c", "a", 1);
        twice.start("d", "a", 2).done("d", "a", 2).roll_back(0);
        twice.fails(&[Kind::RanAfterEnd]);
    }
}

#[test]
fn a_lease_runs_on_where_the_newer_claim_or_the_renewal_is_undone() {
    let (mut story, _) = of_a();
    (story.numbers, story.lease) = (false, Some(100));
    story.start("c", "a", 1);
    story.fault("c", Fault::Frozen).now += 200;
    let since = story.now + 1;
    story.start("d", "a", 2);
    let mut kept = story.clone();
    // It is the first one's again.
    story.roll_back(since).recovered("c");
    story.extend("c", "a", 1, 100).done("c", "a", 1);
    story.passes();
    let since = kept.now + 1;
    kept.roll_back(since).recovered("c");
    kept.extend("c", "a", 1, 100).done("c", "a", 1);
    kept.fails(&[Kind::StaleSettle, Kind::StaleRenewal]);

    let renewed = |since: fn(&Story) -> u64| {
        let (mut story, _) = of_a();
        (story.numbers, story.lease) = (false, Some(100));
        story.start("c", "a", 1);
        let before = story.now + 1;
        story.extend("c", "a", 1, 10_000);
        let since = since(&story).max(before);
        story.roll_back(since).now += 100;
        story.start("d", "a", 2).done("d", "a", 2);
        story
    };
    let kinds = |story: &Story| {
        let violations = story.report().violations;
        violations.iter().any(|one| one.kind == Kind::LeaseCutShort)
    };
    assert!(!kinds(&renewed(|_| 0)));
    assert!(kinds(&renewed(|story| story.now + 1)));
}

#[test]
fn a_claim_that_may_be_undone_counts_for_no_limit() {
    let both = |since: u64| {
        let mut story = Story {
            times: true,
            lease: Some(10_000),
            key: Some("k"),
            rules: Rules::default().per_key(1),
            ..Story::default()
        };
        story
            .enqueue("a", Accepted::Yes)
            .enqueue("b", Accepted::Yes);
        story.start("c", "a", 1).roll_back(since);
        story.start("d", "b", 2).done("d", "b", 2).done("c", "a", 1);
        story
    };
    both(0).passes();
    both(100_000).fails(&[Kind::OverLimit]);
}
