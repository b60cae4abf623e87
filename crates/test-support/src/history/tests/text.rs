//! Events as lines.

use super::*;

#[test]
fn events_survive_as_text() {
    let odd = "a b=%\n\té\u{202e} .";
    let mut story = Story {
        lease: Some(7),
        key: Some("k =%"),
        ..Story::of_a()
    };
    for job in ["", "plain", odd] {
        for answer in [Accepted::Yes, Accepted::No, Accepted::Unknown] {
            story.enqueue(job, answer);
        }
        story
            .start(odd, job, 3)
            .extend("", job, 3, 9)
            .lose("c", job, 3);
        for outcome in [
            Outcome::Done,
            Outcome::Retry,
            Outcome::Dead,
            Outcome::HandedBack,
        ] {
            story.settling("c", job, 3, outcome);
        }
        for answer in [Stored::Yes, Stored::Lost, Stored::Unknown] {
            story.settled("c", job, 3, answer);
        }
        for fault in [Fault::Killed, Fault::Frozen, Fault::CutOff] {
            story.fault(job, fault);
        }
        for state in [Left::Done, Left::Dead, Left::Waiting] {
            story.left(job, state);
        }
        story
            .recovered(job)
            .removing(job)
            .again(job)
            .roll_back(7)
            .tell("test", What::Drained);
    }
    story.lease = None;
    story.key = None;
    story.numbers = false;
    story.times = false;
    story.start("c", "bare", 1);
    for event in &story.events {
        let line = event.to_string();
        assert!(!line.contains(['\n', '\t']) && line.is_ascii(), "{line}");
        assert_eq!(line.parse::<Event>().as_ref(), Ok(event), "{line}");
    }
}

#[test]
fn what_is_no_event_is_refused() {
    for line in [
        "",
        "1",
        "1 c",
        "x c drained",
        "-1 c drained",
        "1 c slept",
        "1 c drained job=a",
        "1 c enqueued job=a",
        "1 c enqueued job=a answer=perhaps",
        "1 c enqueueing job=a job=b",
        "1 c enqueueing job",
        "1 c enqueueing job=%4",
        "1 c enqueueing job=%zz",
        "1 c enqueueing job=%ff",
        "1 c started job=a token=1 claim=many",
        "1 c enqueueing  job=a",
    ] {
        let refused = line.parse::<Event>();
        assert!(refused.is_err(), "{line:?} is {refused:?}");
    }
}
