//! One attempt at a job, or at several that are handled together: from the hooks before it to the hooks after it.

use super::context::Context;
use super::handlers::{Failure, Handler, Handlers, catch};
use crate::broker::{Claimed, Settle};
use std::time::{Duration, Instant};

/// Runs claimed jobs of one kind; several only if the kind is handled in batches. Returns how to settle each of them, and
/// how long the attempt took from `start` on. `on_begin` is called after the hooks, before the handler.
pub(super) fn run(
    handlers: &Handlers,
    claimed: &[Claimed],
    contexts: &[Context],
    start: Instant,
    on_begin: impl FnOnce(),
) -> (Vec<Settle>, Duration) {
    let ready = catch(|| {
        for context in contexts {
            handlers.before.iter().for_each(|before| before(context));
        }
        Ok(())
    });
    on_begin();
    let ends = match ready {
        Ok(()) => handle(handlers, claimed, contexts),
        Err(failure) => vec![Err(failure); claimed.len()],
    };
    let took = start.elapsed();
    let decided = claimed.iter().zip(ends).zip(contexts);
    let decide = |((claimed, end), context)| decide(handlers, claimed, end, context, took);
    (decided.map(decide).collect(), took)
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
            let why = format!("no handler for jobs of kind {:?}", first.kind);
            vec![Err(Failure::of(why)); claimed.len()]
        }
        Some(Handler::One(handle)) => {
            let each = claimed.iter().zip(contexts);
            each.map(|(claimed, context)| catch(|| handle(&claimed.payload, context)))
                .collect()
        }
        Some(Handler::All { handle, .. }) => {
            let payloads: Vec<&[u8]> = claimed.iter().map(|claimed| &claimed.payload[..]).collect();
            handle(&payloads, contexts)
        }
    }
}

fn decide(
    handlers: &Handlers,
    claimed: &Claimed,
    end: Result<Vec<u8>, Failure>,
    context: &Context,
    took: Duration,
) -> Settle {
    let (settle, ended) = handlers.decide(claimed, end, context, took);
    // The attempt has ended, so a panic in a hook fails nothing.
    let _ = catch(|| {
        handlers
            .after
            .iter()
            .for_each(|after| after(context, &ended));
        Ok(())
    });
    settle
}
