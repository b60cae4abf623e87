//! The engine: the way of a task from `submit` to its end, and the file for each step.
//!
//! ```text
//!  on the submitter's thread                          on a worker's thread
//!
//!  submit     Submit::submit                          worker     Worker::run, the loop
//!    │                                                  │
//!  admission  enter: takes a place;                   worker     search, try_take: takes the task,
//!    │        without room, waits in line               │        and the place with it
//!    │                                                  │
//!  wake       ensure_worker: one worker lives         worker     execute
//!    │                                                  │
//!  queue      push: the task is accepted, ── task ──► run        call: the code of the task
//!    │        and has a number                          │
//!    │                                                  │
//!  wake       wake_for_queued: wakes or    ── bell ─► room       leave: gives the place back, and
//!             starts a worker, if one is              admission  serves the line: the oldest waiting
//!             needed (threads)                                   task takes the place, in the queue
//! ```
//!
//! What a task of the pool submits goes a shorter way: while nobody waits in line, it goes to the local queue of the
//! worker that runs the task, and takes no place (`Target::push_local`, `wake_for_lent`).
//!
//! | file | what it is responsible for |
//! |---|---|
//! | [`core`] | the state of a pool: a field for each part below |
//! | [`config`] | what a pool is built with |
//! | [`submit`] | how a task comes in: with room, without room, from a task of the pool |
//! | [`admission`] | places and room, the line of submitters that wait, the moments of rest |
//! | [`queue`], [`local`] | where accepted tasks wait; what each worker shows the others |
//! | [`wake`] | the wake rule; wakes that are deferred where threads share a processor |
//! | [`threads`], [`bell`], [`start`] | the threads, their counts and the idle stack; what a worker sleeps on; the body of a thread |
//! | [`worker`] | the loop of a worker: search, execute, rest, leave |
//! | [`run`] | the one place where the code of a task is called |
//! | [`room`] | what follows when places are given back |
//! | [`task`] | what is queued: a closure, or a task that other holders may claim as well |
//! | [`withdraw`] | what other holders do to a queued task: cancel it, or run it because they wait for it |
//! | [`spin`] | how long threads spin or yield before they sleep, each with its reason |
//! | [`lifecycle`] | capacity, pause, release, reboot |
//! | [`gauges`] | what a pool tells of itself |
//! | [`lend`] | a task that blocks lends its place to a stand-in |
//! | [`panics`] | who is told of a panic |
//! | [`rescue`] | a new try after the system refused a thread |
//! | [`linked`], [`shares`] | several pools as one; the shares that follow their pool |
//! | [`timers`] | the timers that end with their pool |
//! | [`current`] | which pool this thread works for |
//!
//! Imports run one way: no file imports from a file that imports from it, directly or through others.
//!
//! - On top are `start`, `submit`, `lifecycle` and `withdraw`.
//! - Below them are `wake`, `worker`, `lend`, `current`, `rescue`, `room`, `gauges`, `panics` and `linked`. Together with
//!   those on top they give [`Core`](core::Core) its methods, and through it they call one another: calls go to and
//!   fro, imports do not.
//! - Below them is `core`, which holds the parts.
//! - At the bottom are the parts, which do not know `Core`: `admission`, `queue`, `threads`, `shares`, `timers`,
//!   `config`, and
//!   what they are made of: `local`, `bell`, `task`, `run`, `spin`. (`wake::trust` and `rescue::state` are parts,
//!   too.)

pub(crate) mod admission;
pub(crate) mod bell;
pub(crate) mod config;
pub(crate) mod core;
pub(crate) mod current;
pub(crate) mod gauges;
pub(crate) mod lend;
pub(crate) mod lifecycle;
pub(crate) mod linked;
pub(crate) mod local;
mod panics;
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
pub(crate) mod timers;
pub(crate) mod wake;
pub(crate) mod withdraw;
pub(crate) mod worker;

#[cfg(all(test, anthill_loom))]
mod models;
