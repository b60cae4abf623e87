//! The command `capabilities`: what a queue's broker can do.

use crate::out::Out;
use crate::outcome::{Ended, Fallible};
use crate::show::{size, span};
use anthill_jobs::{Capabilities, Capability, Maxima, Queue};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::time::Duration;

#[derive(Serialize)]
struct Document {
    broker: &'static str,
    durability: String,
    maxima: Largest,
    capabilities: BTreeMap<String, bool>,
}

/// The largest values that the engine takes; `None` where it sets no limit.
#[derive(Serialize)]
struct Largest {
    batch: Option<usize>,
    payload: Option<usize>,
    lease_seconds: Option<f64>,
    delay_seconds: Option<f64>,
    /// Zero where a claim does not wait.
    wait_seconds: Option<f64>,
}

impl Document {
    fn of(can: &Capabilities) -> Document {
        let all = Capability::ALL.iter();
        Document {
            broker: can.name,
            durability: name(can.durability),
            maxima: Largest::of(&can.maxima),
            capabilities: all.map(|&one| (name(one), can.has(one))).collect(),
        }
    }
}

impl Largest {
    fn of(maxima: &Maxima) -> Largest {
        let count = |count: usize| (count != usize::MAX).then_some(count);
        let seconds = |time: Duration| (time != Duration::MAX).then_some(time.as_secs_f64());
        Largest {
            batch: count(maxima.batch),
            payload: count(maxima.payload),
            lease_seconds: seconds(maxima.lease),
            delay_seconds: seconds(maxima.delay),
            wait_seconds: seconds(maxima.wait),
        }
    }
}

pub(crate) fn list(queue: &Queue, out: &mut Out) -> Fallible<Ended> {
    let can = queue.capabilities();
    if out.is_json() {
        out.document(&Document::of(&can))?;
    } else {
        for line in lines(&can) {
            out.line(&line)?;
        }
    }
    Ok(Ended::Done)
}

fn lines(can: &Capabilities) -> Vec<String> {
    let of = Document::of(can);
    let none = || "none".to_owned();
    let seconds =
        |time: Option<f64>| time.map_or_else(none, |time| span(Duration::from_secs_f64(time)));
    let maxima = [
        ("broker", of.broker.to_owned()),
        ("durability", of.durability),
        (
            "max batch",
            of.maxima.batch.map_or_else(none, |batch| batch.to_string()),
        ),
        (
            "max payload",
            of.maxima
                .payload
                .map_or_else(none, |bytes| size(bytes as u64)),
        ),
        ("max lease", seconds(of.maxima.lease_seconds)),
        ("max delay", seconds(of.maxima.delay_seconds)),
        ("max wait", seconds(of.maxima.wait_seconds)),
    ];
    let maxima = maxima.map(|(name, value)| format!("{name:<19}{value}"));
    let all = Capability::ALL.iter().map(|&one| {
        let has = if can.has(one) { "yes" } else { "no" };
        format!("{:<19}{has:<5}{}", name(one), one.what())
    });
    maxima.into_iter().chain(all).collect()
}

/// The name of a variant as scripts write it: `PerKey` is `per_key`.
fn name(variant: impl Debug) -> String {
    let mut name = String::new();
    for char in format!("{variant:?}").chars() {
        if char.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        let _ = write!(name, "{}", char.to_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use anthill_jobs::Durability;
    use serde_json::{json, to_value};

    #[test]
    fn what_a_broker_lacks_is_told_from_what_it_has() {
        let mut can = Capabilities::new("postcard", Durability::Process);
        can = can.with(&[Capability::Delay, Capability::PerKey]);
        can.maxima.payload = 500;
        can.maxima.delay = Duration::from_secs(900);
        let lines = lines(&can);
        for line in [
            "broker             postcard",
            "durability         process",
            "max batch          none",
            "max payload        500 B",
            "max delay          15m00s",
            "max wait           0.0s",
            "delay              yes  delays",
            "priority           no   priorities",
            "per_key            yes  a limit per key",
        ] {
            assert!(
                lines.iter().any(|found| found == line),
                "{line}\n{lines:#?}"
            );
        }
        let document = to_value(Document::of(&can)).unwrap();
        assert_eq!(
            (&document["broker"], &document["durability"]),
            (&json!("postcard"), &json!("process"))
        );
        assert_eq!(
            document["maxima"],
            json!({
                "batch": null,
                "payload": 500,
                "lease_seconds": null,
                "delay_seconds": 900.0,
                "wait_seconds": 0.0,
            })
        );
        let all = document["capabilities"].as_object().unwrap();
        let has = all
            .iter()
            .filter(|(_, has)| **has == true)
            .map(|(name, _)| &**name);
        assert_eq!(has.collect::<Vec<&str>>(), ["delay", "per_key"]);
        assert_eq!(all.len(), Capability::ALL.len());
    }
}
