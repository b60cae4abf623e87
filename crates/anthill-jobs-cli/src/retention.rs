//! The command `retention`: for how long a queue keeps jobs that are over.

use crate::args::SetRetention;
use crate::out::Out;
use crate::outcome::{Ended, Fallible};
use crate::values::kept_text;
use anthill_jobs::Queue;
use serde_json::json;

pub(crate) fn run(queue: &Queue, set: &SetRetention, out: &mut Out) -> Fallible<Ended> {
    let mut times = queue.retention()?;
    if let Some(changed) = set.changed(times) {
        queue.set_retention(changed)?;
        times = changed;
    }
    if out.is_json() {
        out.document(&json!({
            "done_seconds": times.done.map(|done| done.as_secs_f64()),
            "dead_seconds": times.dead.map(|dead| dead.as_secs_f64()),
        }))?;
    } else {
        // As the options take them.
        out.line(&format!("done  {}", kept_text(times.done)))?;
        out.line(&format!("dead  {}", kept_text(times.dead)))?;
    }
    Ok(Ended::Done)
}
