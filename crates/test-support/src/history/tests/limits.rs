//! How many run at once.

use super::*;

fn jobs_of_a_key(rules: Rules, names: &[&str]) -> Story {
    let mut story = Story {
        rules,
        numbers: true,
        times: true,
        key: Some("k"),
        ..Story::default()
    };
    for name in names {
        story.enqueue(name, Accepted::Yes);
    }
    story
}

#[test]
fn more_of_a_key_at_once_than_its_limit_is_invalid() {
    let together = |rules: Rules| {
        let mut story = jobs_of_a_key(rules, &["a", "b"]);
        story
            .start("c", "a", 1)
            .start("d", "b", 1)
            .done("c", "a", 1)
            .done("d", "b", 1);
        story
    };
    together(Rules::default().per_key(1)).fails(&[Kind::OverLimit]);
    together(Rules::default().key("k", 1).per_key(9)).fails(&[Kind::OverLimit]);
    together(Rules::default().running(1)).fails(&[Kind::OverLimit]);
    together(Rules::default().per_key(2).running(2)).passes();
    together(Rules::default().key("other", 1)).passes();
    together(Rules::default()).passes();
}

#[test]
fn only_certain_overlaps_count() {
    // The settle that is sent before the other one starts may have come first.
    let mut crossing = jobs_of_a_key(Rules::default().per_key(1), &["a", "b"]);
    crossing
        .start("c", "a", 1)
        .settling("c", "a", 1, Outcome::Done)
        .start("d", "b", 1);
    crossing.settled("c", "a", 1, Stored::Yes).done("d", "b", 1);
    crossing.passes();

    // A lease that was lost, nobody knows when, holds nothing for certain,
    let lost = |lease| {
        let mut story = jobs_of_a_key(Rules::default().per_key(1), &["a", "b"]);
        story.lease = lease;
        story
            .start("c", "a", 1)
            .start("d", "b", 1)
            .done("d", "b", 1);
        story
            .settle("c", "a", 1, Outcome::Done, Stored::Lost)
            .left("a", Left::Waiting);
        story
    };
    lost(None).passes();
    // … but for its length: asked for at 50, the other one started at 80.
    lost(Some(30)).passes();
    lost(Some(31)).fails(&[Kind::OverLimit]);

    // Or until the consumer settles, or somebody removes the job,
    let ended = |how: fn(&mut Story) -> &mut Story| {
        let mut story = jobs_of_a_key(Rules::default().per_key(1), &["a", "b"]);
        story.lease = Some(1_000);
        how(story.start("c", "a", 1))
            .start("d", "b", 1)
            .done("d", "b", 1);
        story.left("a", Left::Waiting);
        story
    };
    ended(|story| story.settle("c", "a", 1, Outcome::Done, Stored::Unknown)).passes();
    ended(|story| story.removing("a")).passes();
    ended(|story| story).fails(&[Kind::OverLimit]);

    // … or until the consumer dies.
    let killed = |first: bool| {
        let mut story = jobs_of_a_key(Rules::default().per_key(1), &["a", "b"]);
        story.lease = Some(1_000);
        story.start("c", "a", 1);
        if first {
            story.fault("c", Fault::Killed);
        }
        story.start("d", "b", 1).done("d", "b", 1);
        if !first {
            story.fault("c", Fault::Killed);
        }
        story.left("a", Left::Waiting);
        story
    };
    killed(true).passes();
    killed(false).fails(&[Kind::OverLimit]);
}
