//! The engines whose queues this program opens: one line for each, and a dependency in `Cargo.toml`.
//!
//! The scheme of an engine must consist of letters and digits: see [`address`](crate::address).

use anthill_jobs::Openers;

/// `memory` is in it, but [`address`](crate::address) refuses it: no other process could see such a queue.
pub(crate) fn openers() -> Openers {
    Openers::new()
}
