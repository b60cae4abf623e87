//! A share of a pool with a queue for each key: tasks of one key run in order, tasks of different keys side by side.
//!
//! - KE1: A key is in the table while it is pinned: by a submitter on its way in, or by a task that is not over. The
//!   last pin that goes takes the key out; so there is one sub-queue for a key at a time, and none without tasks.
//! - KE2: Keys are hashed, compared and dropped outside the lock. Whoever compared all entries of a hash and found no
//!   equal key adds its key only if the entries are still the same.

use super::share::Share;
use super::share_core::{PinTable, SubQueue};
use crate::engine::submit::{Patience, Submit};
use crate::error::SubmitError;
use crate::panic::drop_quietly;
use crate::pool::PoolHandle;
use crate::results::handle::{JoinHandle, spawn};
use crate::sync::{Arc, Mutex, Weak, deadline_after, lock, try_lock};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::Deref;
use std::time::Duration;

struct Entry<K> {
    key: K,
    sub_queue: Arc<SubQueue>,
}

/// KE1: an entry, and how many pins it has.
struct Pinned<K> {
    entry: Arc<Entry<K>>,
    pins: usize,
}

/// KE1: the pin of a submitter on its way in.
struct Pin<'a, K: Send + Sync> {
    table: &'a Table<K>,
    hash: u64,
    /// `None` once a task has the pin.
    sub_queue: Option<Arc<SubQueue>>,
}

impl<K: Send + Sync> Drop for Pin<'_, K> {
    fn drop(&mut self) {
        if let Some(sub_queue) = self.sub_queue.take() {
            self.table.unpin(self.hash, &sub_queue, 1);
        }
    }
}

struct Table<K> {
    hasher: RandomState,
    /// The entries by the hash of the key; hardly ever more than one for a hash.
    entries: Mutex<HashMap<u64, Vec<Pinned<K>>>>,
}

impl<K: Send + Sync> PinTable for Table<K> {
    fn is_unlocked(&self) -> bool {
        try_lock(&self.entries).is_some()
    }

    /// KE1: the last pin takes the key out.
    fn unpin(&self, hash: u64, sub_queue: &SubQueue, pins: usize) {
        let gone = {
            let mut entries = lock(&self.entries);
            let Some(bucket) = entries.get_mut(&hash) else {
                return;
            };
            let is_it = |pinned: &Pinned<K>| pinned.entry.sub_queue.is(sub_queue);
            let Some(at) = bucket.iter().position(is_it) else {
                return;
            };
            bucket[at].pins -= pins;
            if bucket[at].pins > 0 {
                return;
            }
            let gone = bucket.swap_remove(at);
            if bucket.is_empty() {
                entries.remove(&hash);
            }
            gone
        };
        sub_queue.share().forget(sub_queue);
        drop_quietly(gone.entry);
    }
}

/// A share of a pool with a queue for each key: tasks of one key run one at a time, in order, and tasks of different
/// keys side by side.
///
/// [`PoolHandle::keyed`] makes it.
///
/// A key without tasks is forgotten, so any number of keys may come and go. An accepted task never runs out of its
/// turn: with [`Overflow::CallerRuns`](crate::Overflow::CallerRuns) a submitter blocks.
///
/// ```
/// let pool = anthill::Pool::with_capacity(4);
/// let accounts = pool.keyed();
/// for (account, amount) in [("ann", 5), ("bob", 7), ("ann", -5)] {
///     accounts.submit(account, move || println!("{account}: {amount}"))?; // ann's in this order
/// }
/// accounts.wait_idle();
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Keyed<K> {
    share: Share,
    table: Arc<Table<K>>,
}

impl PoolHandle {
    /// Makes a share of the pool with a queue for each key.
    ///
    /// It has no threads of its own. Its backlog is unbounded unless it is [given a bound](Keyed::backlog).
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(4);
    /// let by_user = pool.keyed::<u64>();
    /// by_user.submit(42, || println!("first of 42"))?;
    /// by_user.submit(42, || println!("second of 42"))?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[must_use]
    pub fn keyed<K: Hash + Eq + Send + Sync + 'static>(&self) -> Keyed<K> {
        let keyed = Keyed {
            share: Share::new(self, None, usize::MAX),
            table: Arc::new(Table {
                hasher: RandomState::new(),
                entries: Mutex::new(HashMap::new()),
            }),
        };
        keyed.share.share().set_pin_table(keyed.pin_table());
        keyed
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Keyed<K> {
    /// Bounds the accepted tasks of the share, of all keys together, to `n` beyond the capacity of the pool.
    ///
    /// With [`Overflow::DropOldest`](crate::Overflow::DropOldest) the oldest task of the same key makes room, or the
    /// oldest of all if no task of that key waits.
    #[must_use]
    pub fn backlog(self, n: usize) -> Keyed<K> {
        self.share.share().set_backlog(n);
        self
    }

    /// Returns how many keys have tasks.
    ///
    /// ```
    /// let pool = anthill::Pool::with_capacity(4);
    /// let keyed = pool.keyed();
    /// keyed.submit("a", || ())?;
    /// keyed.wait_idle();
    /// assert_eq!(keyed.keys(), 0);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    pub fn keys(&self) -> usize {
        if self.share.share().is_foreign() {
            return 0;
        }
        lock(&self.table.entries).values().map(Vec::len).sum()
    }

    /// Submits a task of a key; blocks while there is no room, as [`PoolHandle::submit`] does.
    ///
    /// It can block only if the backlog is bounded, and never on a worker of the pool.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit`] does: the closure comes back.
    pub fn submit<F>(&self, key: K, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit_to(key, |sub_queue| {
            sub_queue.submit_closure(f, Patience::Policy)
        })
    }

    /// Submits a task of a key if there is room right now.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::try_submit`] does: the closure comes back.
    pub fn try_submit<F>(&self, key: K, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.submit_to(key, |sub_queue| sub_queue.submit_closure(f, Patience::None))
    }

    /// Submits a task of a key; blocks at most for `timeout` while there is no room.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit_timeout`] does: the closure comes back.
    pub fn submit_timeout<F>(&self, key: K, f: F, timeout: Duration) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let patience = Patience::Until(deadline_after(timeout));
        self.submit_to(key, |sub_queue| sub_queue.submit_closure(f, patience))
    }

    /// Submits a task of a key like [`submit`](Keyed::submit) and returns a handle to its result.
    ///
    /// In a task of the pool a [join](JoinHandle::join) runs the task itself, after the tasks of its key before it.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit`] does: the closure comes back.
    pub fn spawn<F, T>(&self, key: K, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.submit_to(key, |sub_queue| spawn(sub_queue, f, Patience::Policy))
    }

    /// Submits a task of a key and returns a handle to its result, if there is room right now.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::try_submit`] does: the closure comes back.
    pub fn try_spawn<F, T>(&self, key: K, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.submit_to(key, |sub_queue| spawn(sub_queue, f, Patience::None))
    }

    /// Submits a task of a key and returns a handle to its result; blocks at most for `timeout` while there is no room.
    ///
    /// # Errors
    ///
    /// Fails as [`PoolHandle::submit_timeout`] does: the closure comes back.
    pub fn spawn_timeout<F, T>(
        &self,
        key: K,
        f: F,
        timeout: Duration,
    ) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let patience = Patience::Until(deadline_after(timeout));
        self.submit_to(key, |sub_queue| spawn(sub_queue, f, patience))
    }

    /// KE1: submits to the sub-queue of a key; an accepted task keeps the pin.
    fn submit_to<T, E>(
        &self,
        key: K,
        submit: impl FnOnce(&Arc<SubQueue>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.share.share().is_foreign() {
            // Any sub-queue refuses it; this one is not in the table.
            return submit(&SubQueue::of_nobody(self.share.share()));
        }
        let hash = self.table.hasher.hash_one(&key);
        let mut key = Some(key);
        let sub_queue = self.pin(hash, &mut key);
        let mut pin = Pin {
            table: &*self.table,
            hash,
            sub_queue: Some(Arc::clone(&sub_queue)),
        };
        // User code: if it panics, the pin is dropped.
        drop(key);
        let outcome = submit(&sub_queue);
        if outcome.is_ok() {
            pin.sub_queue = None;
        }
        outcome
    }

    /// Pins the sub-queue of a key. If the key is new, it is taken out of `key` and put into the table.
    fn pin(&self, hash: u64, key: &mut Option<K>) -> Arc<SubQueue> {
        loop {
            let seen: Vec<Arc<Entry<K>>> = {
                let entries = lock(&self.table.entries);
                let bucket = entries.get(&hash).map_or(&[][..], Vec::as_slice);
                let entries = bucket.iter().map(|pinned| Arc::clone(&pinned.entry));
                entries.collect()
            };
            // KE2: user code.
            let found = seen.iter().find(|entry| Some(&entry.key) == key.as_ref());
            let mut entries = lock(&self.table.entries);
            let bucket = entries.entry(hash).or_default();
            let is_same = bucket.len() == seen.len()
                && (bucket.iter().zip(&seen))
                    .all(|(pinned, seen)| Arc::ptr_eq(&pinned.entry, seen));
            let sub_queue = if let Some(found) = found {
                let same = |pinned: &&mut Pinned<K>| Arc::ptr_eq(&pinned.entry, found);
                bucket.iter_mut().find(same).map(|pinned| {
                    pinned.pins += 1;
                    Arc::clone(&found.sub_queue)
                })
            } else if let Some(key) = is_same.then(|| key.take()).flatten() {
                let sub_queue = self.new_sub_queue(hash);
                let entry = Arc::new(Entry {
                    key,
                    sub_queue: Arc::clone(&sub_queue),
                });
                bucket.push(Pinned { entry, pins: 1 });
                Some(sub_queue)
            } else {
                None
            };
            if bucket.is_empty() {
                entries.remove(&hash);
            }
            drop(entries);
            drop_quietly(seen);
            if let Some(sub_queue) = sub_queue {
                return sub_queue;
            }
        }
    }

    fn new_sub_queue(&self, hash: u64) -> Arc<SubQueue> {
        SubQueue::new(self.share.share(), 1, true, Some((self.pin_table(), hash)))
    }

    fn pin_table(&self) -> Weak<dyn PinTable> {
        let pin_table: Arc<dyn PinTable> = Arc::clone(&self.table) as _;
        Arc::downgrade(&pin_table)
    }
}

impl<K> Clone for Keyed<K> {
    fn clone(&self) -> Keyed<K> {
        Keyed {
            share: self.share.clone(),
            table: Arc::clone(&self.table),
        }
    }
}

impl<K> Deref for Keyed<K> {
    type Target = Share;

    fn deref(&self) -> &Share {
        &self.share
    }
}

impl<K> fmt::Debug for Keyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.share.describe(f, "Keyed")
    }
}
