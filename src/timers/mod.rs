//! Timers: what happens later, on one thread of the process that lives while there are any.
//!
//! | file | what it is responsible for |
//! |---|---|
//! | [`timer`] | the timers of a pool, as users see them |
//! | [`once`], [`series`] | the state of a timer that submits one task, and of one that does so again and again |
//! | [`link`] | what these two know of their pool |
//! | `sleep` | a future that waits for a time (feature `futures`) |
//! | [`service`] | the wheels of the process, and the thread that turns them |
//! | [`wheel`] | what is due at a given tick: pure |
//!
//! A file imports only from those below it in this list. What a pool keeps of its timers is in
//! [`engine::timers`](crate::engine::timers).

mod link;
#[cfg(all(test, anthill_loom))]
mod models;
mod once;
mod series;
mod service;
#[cfg(feature = "futures")]
pub(crate) mod sleep;
pub(crate) mod timer;
mod wheel;
