//! What proofs of the broker share.

pub(crate) mod invariants;
mod snapshot;
