//! What is stored comes back as it was, whatever it is.

use anthill_jobs::{JobState, Limits, Missed, NewJob, OncePer, Scheduled};

use crate::bench::{Bench, Fixture, LEASE, dead, job, ok};

/// Text that is something else to whoever pastes it into a query, a path or a line.
const TEXTS: [&str; 14] = [
    "",
    " ",
    "it's",
    "\"quoted\"",
    "'; DROP TABLE anthill_jobs; --",
    "a:b/c\\d{e}[f]*g?%h_",
    "line\nbreak\r\n\ttab",
    "Ünïcödé",
    "日本語",
    "🐜🐜",
    "e\u{301} is not \u{e9}",
    "\u{202e}backwards",
    "with a \0 inside",
    "with a \0 and more",
];

pub(crate) fn data_comes_back_to_the_byte<F: Fixture>() {
    let on = Bench::<F>::new();
    let all_bytes: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..1_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    let data = [
        Vec::new(),
        b"\0".to_vec(),
        b"\xff\xfe no text".to_vec(),
        b"{\"half\": ".to_vec(),
        all_bytes,
        large,
    ];
    let batch: Vec<NewJob> = data
        .iter()
        .map(|data| NewJob::new("test", data.clone()))
        .collect();
    let ids = on.add_all(&batch);
    let claimed = on.another().claim(100);
    assert_eq!(claimed.len(), data.len());
    for ((id, data), claimed) in ids.into_iter().zip(data).zip(claimed) {
        assert!(
            claimed.payload == data,
            "{} bytes came back otherwise",
            data.len()
        );
        if on.broker.capabilities().by_id {
            assert!(on.job(id).payload == data);
        }
    }
}

pub(crate) fn kinds_are_whatever_text_they_are<F: Fixture>() {
    let on = Bench::<F>::new();
    for text in TEXTS {
        on.add(NewJob::new(text, Vec::new()));
    }
    let claimed = on.claim(100);
    let kinds: Vec<&str> = claimed.iter().map(|job| &job.kind[..]).collect();
    assert_eq!(kinds, TEXTS);
}

pub(crate) fn errors_are_whatever_text_they_are<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.by_id) else {
        return;
    };
    let long = "long ".repeat(50_000);
    for text in TEXTS.into_iter().chain([&long[..]]) {
        let id = on.add(job("a"));
        assert!(on.settle(&on.next(), dead(text)));
        assert_eq!(on.job(id).error.as_deref(), Some(text));
    }
}

/// Each is a key of its own.
pub(crate) fn unique_keys_are_whatever_text_they_are<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.unique) else {
        return;
    };
    for period in [None, Some(LEASE)] {
        let key = |text: &str| Some(format!("{period:?} {text}"));
        let once_per = |key| period.map(|period| OncePer { key, period });
        let unique = |text: &str| NewJob {
            unique: key(text).filter(|_| period.is_none()),
            once_per: key(text).and_then(once_per),
            ..job(text)
        };
        let ids = TEXTS.map(|text| on.add(unique(text)));
        assert_eq!(TEXTS.map(|text| on.add_again(unique(text))), ids);
    }
}

/// Each is a key of its own, here too.
pub(crate) fn keys_are_whatever_text_they_are<F: Fixture>() {
    let Some(on) = Bench::<F>::able(|can| can.per_key && can.by_id) else {
        return;
    };
    on.limit(Limits {
        per_key: Some(1),
        ..Limits::default()
    });
    let keyed = |text: &str| NewJob {
        key: Some(text.to_owned()),
        ..job(text)
    };
    let firsts = TEXTS.map(|text| on.add(keyed(text)));
    let seconds = TEXTS.map(|text| on.add(keyed(text)));
    let claimed = on.claim(100);
    let ids: Vec<_> = claimed.iter().map(|job| job.lease.id).collect();
    assert_eq!(ids, firsts);
    for (id, text) in seconds.into_iter().zip(TEXTS) {
        let shown = on.job(id);
        assert_eq!(shown.state, JobState::Parked);
        assert_eq!(shown.key.as_deref(), Some(text));
    }
    // The end of each calls its own second one.
    for (first, second) in claimed.iter().zip(seconds) {
        on.done(first);
        let next = on.claim(100);
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].lease.id, second);
    }
}

pub(crate) fn schedules_are_whatever_text_they_are<F: Fixture>() {
    let on = Bench::<F>::new();
    for (next, text) in (0..).zip(TEXTS) {
        ok(on.broker.put_schedule(&Scheduled {
            name: text.to_owned(),
            cron: format!("* * * * * {text}"),
            kind: text.to_owned(),
            payload: b"\xff\x00".to_vec(),
            next,
            missed: Missed::Skip,
        }));
    }
    let mut schedules = ok(on.another().broker.schedules());
    schedules.sort_by_key(|schedule| schedule.next);
    assert_eq!(schedules.len(), TEXTS.len());
    for (schedule, text) in schedules.iter().zip(TEXTS) {
        assert_eq!(schedule.name, text);
        assert_eq!(schedule.cron, format!("* * * * * {text}"));
        assert_eq!(schedule.kind, text);
        assert_eq!(schedule.payload, b"\xff\x00");
        assert!(ok(on.broker.drop_schedule(text)));
    }
    assert!(ok(on.broker.schedules()).is_empty());
}
