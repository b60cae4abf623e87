//! One attempt at a job, or at several that are handled together: from the hooks before it to those after.

use super::context::Context;
use super::handlers::{Failure, Handler, Handlers, caught};
use crate::broker::{Claimed, Settle};
use std::time::{Duration, Instant};

/// Runs what was claimed, from `start` on; how each of them is to be settled, and how long it took. All are of one
/// kind, and of one that is handled together where there are several. `contexts` are theirs. `begins` is called when
/// nothing but the handler is left.
pub(super) fn run(
    handlers: &Handlers,
    claimed: &[Claimed],
    contexts: &[Context],
    start: Instant,
    begins: impl FnOnce(),
) -> (Vec<Settle>, Duration) {
    let ready = caught(|| {
        for context in contexts {
            handlers.before.iter().for_each(|before| before(context));
        }
        Ok(())
    });
    begins();
    let ends = match ready {
        Ok(()) => handle(handlers, claimed, contexts),
        Err(failure) => vec![Err(failure); claimed.len()],
    };
    let took = start.elapsed();
    let judged = claimed.iter().zip(ends).zip(contexts);
    let judge = |((claimed, end), context)| judge(handlers, claimed, end, context, took);
    (judged.map(judge).collect(), took)
}

fn handle(
    handlers: &Handlers,
    claimed: &[Claimed],
    contexts: &[Context],
) -> Vec<Result<Vec<u8>, Failure>> {
    let [first, ..] = claimed else {
        return Vec::new();
    };
    match handlers.find(&first.kind).map(|kind| &kind.handler) {
        None => {
            let why = format!("no handler for jobs of the kind {:?}", first.kind);
            vec![Err(Failure::of(why)); claimed.len()]
        }
        Some(Handler::One(handle)) => {
            let each = claimed.iter().zip(contexts);
            each.map(|(claimed, context)| caught(|| handle(&claimed.payload, context)))
                .collect()
        }
        Some(Handler::All { handle, .. }) => {
            let payloads: Vec<&[u8]> = claimed.iter().map(|claimed| &claimed.payload[..]).collect();
            handle(&payloads, contexts)
        }
    }
}

fn judge(
    handlers: &Handlers,
    claimed: &Claimed,
    end: Result<Vec<u8>, Failure>,
    context: &Context,
    took: Duration,
) -> Settle {
    let (settle, ended) = handlers.judge(claimed, end, context, took);
    // Nothing is left to fail.
    let _ = caught(|| {
        handlers
            .after
            .iter()
            .for_each(|after| after(context, &ended));
        Ok(())
    });
    settle
}
