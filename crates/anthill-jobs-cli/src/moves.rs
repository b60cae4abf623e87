//! The command `move`: moves jobs to another queue.

use crate::address;
use crate::args::Move;
use crate::engines::Purpose;
use crate::out::{Out, complain};
use crate::outcome::{Ended, Fallible};
use anthill_jobs::{MoveRequest, Moved};
use serde_json::{Value, json};

pub(crate) fn run(address: &str, told: &Move, out: &mut Out) -> Fallible<Ended> {
    let to = address::beside(address, &told.to);
    let from = address::open(address, Purpose::Change)?;
    let to_purpose = if told.create {
        Purpose::Create { in_any: true }
    } else {
        Purpose::Change
    };
    let to = address::open(&to, to_purpose)?;
    let mut request = told
        .from_state
        .map_or_else(MoveRequest::waiting, MoveRequest::of_state);
    request.kind.clone_from(&told.kind);
    if let Some(limit) = told.limit {
        request = request.limit(limit as usize);
    }
    match from.move_to(&to, &request) {
        Ok(moved) => tell(&moved, out),
        Err(error) => {
            // What was moved before the error stays moved.
            let (reason, moved) = error.into_parts();
            tell(&moved, out)?;
            Err(reason.into())
        }
    }
}

fn tell(moved: &Moved, out: &mut Out) -> Fallible<Ended> {
    if out.is_json() {
        let refused = moved.refused.iter().map(
            |refused| json!({ "id": refused.id.to_string(), "reason": refused.why.to_string() }),
        );
        let in_both = moved.in_both.iter().map(ToString::to_string);
        out.document(&json!({
            "moved": moved.moved,
            "started": moved.started,
            "refused": refused.collect::<Vec<Value>>(),
            "in_both": in_both.collect::<Vec<String>>(),
        }))?;
    } else {
        out.line(&format!("{} moved", moved.moved))?;
        if moved.started > 0 {
            out.line(&format!("{} had started, or were gone", moved.started))?;
        }
    }
    for refused in &moved.refused {
        complain(&format!("{}: {}", refused.id, refused.why));
    }
    for id in &moved.in_both {
        complain(&format!(
            "{id}: it was moved, but had been started, changed or removed meanwhile: it may be in both queues"
        ));
    }
    Ok(if moved.refused.is_empty() && moved.in_both.is_empty() {
        Ended::Done
    } else {
        Ended::Missed
    })
}
