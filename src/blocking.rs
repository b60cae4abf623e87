//! A task that is about to block lends its place in the pool: [`blocking`], and [`Lender`] for one that blocks unasked.
//!
//! The rules are those of [`lend`](crate::engine::lend).

use crate::engine::lend::{self, Lent, PlaceOf};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Calls `f`, which may block, and lends the place of the task that calls it to another task meanwhile.
///
/// While `f` runs the task does not count against the [capacity](crate::PoolHandle::capacity): its room is free, and a
/// *stand-in*, an idle worker or a new one, runs what is queued or comes in. When `f` returns or panics the task waits
/// until it may run again, before the next task starts: there are never more tasks running that do not lend than the
/// capacity. It need not wait for a task that started before a [`tune`](crate::PoolHandle::tune) to 0, since a pause lets
/// tasks that have started finish.
///
/// A stand-in that is not needed any more stays idle for the next call, and expires as other workers do (after 10 seconds
/// where workers are [kept](crate::Builder::keep_workers)). [`Builder::max_lent`](crate::Builder::max_lent) bounds how
/// many tasks lend at once, [`lent`](crate::PoolHandle::lent) counts them.
///
/// It only calls `f` where there is no place to lend: on a thread that is no worker of a pool, in another `blocking`, while
/// as many tasks lend as may, and where the system refuses a thread for the stand-in. (On a worker the place is that of
/// the task of the worker's pool, also while that task runs one of another pool, as with
/// [`CallerRuns`](crate::Overflow::CallerRuns).)
///
/// The task stays where it is in all other respects. It holds its turn in a [`serial`](crate::PoolHandle::serial) or a
/// key, [`wait_idle`](crate::PoolHandle::wait_idle) and [`release_timeout`](crate::PoolHandle::release_timeout) wait for
/// it, and it may use the pool; but a `join` in `f` waits for other workers to run its task, where it would run the task
/// itself elsewhere.
///
/// # Deadlocks
///
/// A task that waits to run again waits for a running one to end, or to call `blocking`. So tasks that wait for each other
/// should all do so in `blocking`.
///
/// ```
/// use std::sync::mpsc::channel;
/// let pool = anthill::Pool::builder().capacity(1).unbounded_backlog().build()?;
/// let (sender, receiver) = channel();
/// let sum = pool.spawn(move || anthill::blocking(|| receiver.iter().sum::<u32>()))?;
/// for number in 1..=9 {
///     let sender = sender.clone();
///     pool.submit(move || sender.send(number).unwrap())?; // runs while the first task waits for it
/// }
/// drop(sender);
/// assert_eq!(sum.join()?, 45);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn blocking<F, R>(f: F) -> R
where
    F: FnOnce() -> R,
{
    let _lent = Lent::begin();
    f()
}

/// Lets another thread lend the place of the task that calls this, until the value is dropped.
///
/// It is for what runs the code of others, which may block for long without [`blocking`]: a watchdog then calls
/// [`Lender::lend`], and another task runs beside the one that blocks. It returns `None` where there is no place to lend.
///
/// Where the place was lent, the drop takes it back, and waits as `blocking` does at its end.
///
/// ```
/// use std::{sync::mpsc::channel, time::Duration};
/// let pool = anthill::Pool::builder().capacity(1).unbounded_backlog().build()?;
/// let (lenders, watchdog) = channel();
/// let (go, gate) = channel();
/// pool.submit(move || {
///     let place = anthill::lendable().expect("a task has a place");
///     lenders.send(place.lender()).unwrap();
///     gate.recv_timeout(Duration::from_secs(60)).unwrap(); // blocks, and knows nothing of pools
/// })?;
/// pool.submit(move || go.send(()).unwrap())?;
/// assert!(watchdog.recv()?.lend()); // from outside
/// pool.wait_idle();
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn lendable() -> Option<Lendable> {
    lend::Lendable::new().map(|place| Lendable {
        place,
        here: PhantomData,
    })
}

/// Lets others lend the place of a task; from [`lendable`].
#[must_use = "the place can be lent until this is dropped"]
pub struct Lendable {
    place: lend::Lendable,
    /// It is dropped on the thread of the task.
    here: PhantomData<*const ()>,
}

impl Lendable {
    /// Returns what lends the place, from any thread.
    ///
    /// ```
    /// assert!(anthill::lendable().is_none()); // outside of pools
    /// ```
    pub fn lender(&self) -> Lender {
        Lender(self.place.place())
    }
}

impl fmt::Debug for Lendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lendable").finish_non_exhaustive()
    }
}

/// Lends the place of a task that runs on another thread; see [`lendable`].
#[derive(Clone)]
pub struct Lender(Arc<PlaceOf>);

impl Lender {
    /// Lends the place to a stand-in. Returns whether it did: not if it is lent already, if as many tasks of the pool lend
    /// theirs as [may](crate::Builder::max_lent), or if the [`Lendable`] was dropped.
    ///
    /// ```
    /// # let pool = anthill::Pool::with_capacity(1);
    /// let lender = pool.spawn(|| anthill::lendable().map(|place| place.lender()))?.join()?;
    /// assert!(!lender.unwrap().lend()); // the task has ended
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn lend(&self) -> bool {
        self.0.lend()
    }
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender").finish_non_exhaustive()
    }
}
