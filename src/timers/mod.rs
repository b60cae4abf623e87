//! Timers: what happens later, on one thread of the process that lives while there are any.
//!
//! | file | what it is responsible for |
//! |---|---|
//! | [`wheel`] | what is due at a given tick: pure |
//! | [`service`] | the wheels of the process, and the thread that turns them |
//! | [`sleep`] | a future that waits for a time (feature `futures`) |
//!
//! A file imports only from those above it in this list.

mod service;
#[cfg(feature = "futures")]
pub(crate) mod sleep;
mod wheel;
