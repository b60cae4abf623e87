//! What is stored comes back as it was, whatever it is. Only a text with NUL may be refused, as one that the broker will never
//! take ([`QueueError::Invalid`]); what is refused leaves nothing behind.

use super::prelude::*;

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

pub(crate) fn data_comes_back_to_the_byte(lab: &Lab) {
    let on = lab.bench();
    let all_bytes: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..1_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    let most = on.broker.capabilities().maxima.payload;
    let data = [
        Vec::new(),
        b"\0".to_vec(),
        b"\xff\xfe no text".to_vec(),
        b"{\"half\": ".to_vec(),
        all_bytes,
        large[..large.len().min(most)].to_vec(),
    ];
    let batch: Vec<NewJob> = data
        .iter()
        .map(|data| NewJob::new("test", data.clone()))
        .collect();
    let ids = on.add_all(&batch);
    let claimed = on.another().claim(100);
    assert_eq!(claimed.len(), data.len());
    for (id, data) in ids.into_iter().zip(data) {
        let job = claimed.iter().find(|job| job.lease.id() == id);
        let job = job.expect("it came");
        let size = data.len();
        assert!(job.payload == data, "{size} bytes came back otherwise");
        on.shown(id, |job| {
            let job = job.expect("it is there");
            assert!(job.payload == data, "{size} bytes are shown otherwise");
            assert_eq!(job.payload_size, size as u64);
        });
    }
}

pub(crate) fn kinds_are_whatever_text_they_are(lab: &Lab) {
    let on = lab.bench();
    let mut added = Vec::new();
    for text in TEXTS {
        let job = NewJob::new(text, Vec::new());
        if on.may_add(&job, text) {
            added.push((job.id, text));
        }
    }
    let mut claimed = Vec::new();
    for some in added.chunks(5) {
        let kinds: Vec<String> = some.iter().map(|(_, text)| (*text).to_owned()).collect();
        let request = ClaimRequest::new(5, LEASE).of_kinds(kinds.into());
        claimed.extend(on.claims_by(&request).jobs);
    }
    assert_eq!(claimed.len(), added.len());
    for (id, text) in added {
        let job = claimed.iter().find(|job| job.lease.id() == id);
        assert_eq!(job.expect("it came").kind, text);
    }
}

/// A settlement is not refused because of what the handler has said: in an error NUL may come back as something else.
pub(crate) fn errors_are_whatever_text_they_are(lab: &Lab) {
    let on = lab.bench();
    let long = "long ".repeat(50_000);
    for text in TEXTS.into_iter().chain([&long[..]]) {
        let id = on.add(job("a"));
        assert!(on.settle(&on.next(), dead(text)));
        let error = on.job(id).error.expect("it failed");
        if error != text {
            let (before, after) = text.split_once('\0').unwrap_or((text, text));
            let is_it = error.starts_with(before) && error.ends_with(after);
            assert!(text.contains('\0') && is_it, "{error:?}, not {text:?}");
        }
    }
}

/// Each is a key of its own.
pub(crate) fn unique_keys_are_whatever_text_they_are(lab: &Lab) {
    let on = lab.bench();
    for period in [None, Some(LEASE)] {
        let key = |text: &str| Some(format!("{period:?} {text}"));
        let once_per = |key| period.map(|period| OncePer { key, period });
        let unique = |text: &str| NewJob {
            unique: key(text).filter(|_| period.is_none()),
            once_per: key(text).and_then(once_per),
            ..job("a")
        };
        let mut added = Vec::new();
        for text in TEXTS {
            let job = unique(text);
            if on.may_add(&job, text) {
                added.push((job.id, text));
            }
        }
        for (id, text) in added {
            assert_eq!(on.add_again(unique(text)), id, "{text:?}");
        }
    }
}

/// Each is a key of its own, here too.
pub(crate) fn keys_are_whatever_text_they_are(lab: &Lab) {
    let on = lab.bench();
    on.limit(Limits {
        per_key: Some(1),
        ..Limits::default()
    });
    let keyed = |text: &str| NewJob {
        key: Some(text.to_owned()),
        ..job("a")
    };
    let add = |text| {
        let job = keyed(text);
        on.may_add(&job, text).then_some((job.id, text))
    };
    let firsts: Vec<_> = TEXTS.into_iter().filter_map(add).collect();
    let seconds: Vec<_> = TEXTS.into_iter().filter_map(add).collect();
    let claimed = on.claim(100);
    let ids: Vec<_> = claimed.iter().map(|job| job.lease.id()).collect();
    assert_eq!(ids, firsts.iter().map(|&(id, _)| id).collect::<Vec<_>>());
    for &(id, text) in &seconds {
        let shown = on.job(id);
        assert_eq!(shown.state, JobState::Parked);
        assert_eq!(shown.key.as_deref(), Some(text));
    }
    // The end of each calls its own second one.
    for (first, (second, _)) in claimed.iter().zip(seconds) {
        on.done(first);
        let next = on.claim(100);
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].lease.id(), second);
    }
}

pub(crate) fn schedules_are_whatever_text_they_are(lab: &Lab) {
    let on = lab.bench();
    let mut kept = Vec::new();
    for (next, text) in (0..).zip(TEXTS) {
        let schedule = Scheduled {
            name: text.to_owned(),
            cron: format!("* * * * * {text}"),
            kind: text.to_owned(),
            payload: b"\xff\x00".to_vec(),
            next,
            missed: Missed::Skip,
        };
        if may_refuse(on.schedules().put_schedule(&schedule), text).is_some() {
            kept.push(text);
        }
    }
    let mut schedules = ok(on.another().schedules().schedules()).all;
    schedules.sort_by_key(|schedule| schedule.next);
    assert_eq!(schedules.len(), kept.len());
    for (schedule, text) in schedules.iter().zip(kept) {
        assert_eq!(schedule.name, text);
        assert_eq!(schedule.cron, format!("* * * * * {text}"));
        assert_eq!(schedule.kind, text);
        assert_eq!(schedule.payload, b"\xff\x00");
        assert!(ok(on.schedules().drop_schedule(text)));
    }
    assert!(ok(on.schedules().schedules()).all.is_empty());
}
