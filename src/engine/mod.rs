//! The engine: the way of a task, and the files it passes.
//!
//! ```text
//!  submit ─► admission ────────► queue ───────────► wake ─────────► worker ─────────► admission
//!            takes a place, or   the shared queue,  wakes or        takes the task,   gives the place
//!            waits in line       or the queue of    starts one      runs it           back, serves the
//!                                the worker itself  worker          (run)             line
//! ```
//!
//! | file | what it is about |
//! |---|---|
//! | [`core`] | the state of a pool, a field for each concept below |
//! | [`config`] | what a pool is built with |
//! | [`submit`] | a task comes in: with room, without, from a task of the pool |
//! | [`admission`] | places and room, the line of submitters who wait, the moments of rest |
//! | [`room`] | what follows when places are given back |
//! | [`queue`], [`local`] | where accepted tasks wait; what each worker shows the others |
//! | [`wake`] | the wake rule; wakes that are deferred on a single processor |
//! | [`threads`], [`bell`], [`start`] | the threads, their counts and the idle stack; what a worker sleeps on; the body of a thread |
//! | [`worker`] | the loop: take, run, rest, leave |
//! | [`run`] | the one place where the code of a task is called |
//! | [`task`] | what is queued: a closure, or a part in what others may claim as well |
//! | [`withdraw`] | what others do to a queued task: cancel it, or run it because they wait for it |
//! | [`spin`] | how long threads spin or yield before they sleep, each with its reason |
//! | [`lifecycle`] | capacity, pause, release, reboot |
//! | [`gauges`] | what a pool tells of itself |
//! | [`rescue`] | tries again where the system refused a thread |
//! | [`linked`], [`shares`] | pools that are one; shares that follow their pool |
//! | [`current`] | which pool this thread works for |
//!
//! A file imports only from those below it in this list, from top to bottom: `start`, `submit`, `lifecycle`, `withdraw`,
//! `wake`, `worker`, `core`, the rest.

pub(crate) mod admission;
pub(crate) mod bell;
pub(crate) mod config;
pub(crate) mod core;
pub(crate) mod current;
pub(crate) mod gauges;
pub(crate) mod lifecycle;
pub(crate) mod linked;
pub(crate) mod local;
pub(crate) mod queue;
pub(crate) mod rescue;
pub(crate) mod room;
pub(crate) mod run;
pub(crate) mod shares;
pub(crate) mod spin;
pub(crate) mod start;
pub(crate) mod submit;
pub(crate) mod task;
pub(crate) mod threads;
pub(crate) mod wake;
pub(crate) mod withdraw;
pub(crate) mod worker;

#[cfg(all(test, anthill_loom))]
mod models;
