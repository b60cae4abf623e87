//! A queue for each key: in order for each, side by side across keys.
//!
//! - KE1: A key is in the table while anything of it is pinned: a submitter on his way in, or a task that is
//!   not over. The last to go takes it out; so there is one strand for a key at a time, and none that idles.
//! - KE2: Keys are hashed, compared and dropped outside the lock. Who compared all entries of a hash and found
//!   no such key adds it only if they are still the same.

use super::share::Share;
use super::strand::{Keeper, Strand};
use crate::engine::submit::{Door, Patience};
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
    strand: Arc<Strand>,
}

/// KE1
struct Pinned<K> {
    entry: Arc<Entry<K>>,
    pins: usize,
}

/// KE1: a submitter on his way in.
struct Pin<'a, K: Send + Sync> {
    table: &'a Table<K>,
    hash: u64,
    /// `None` once a task keeps the pin.
    strand: Option<Arc<Strand>>,
}

impl<K: Send + Sync> Drop for Pin<'_, K> {
    fn drop(&mut self) {
        if let Some(strand) = self.strand.take() {
            self.table.unpin(self.hash, &strand, 1);
        }
    }
}

struct Table<K> {
    hasher: RandomState,
    /// By the hash of the key; hardly ever more than one.
    entries: Mutex<HashMap<u64, Vec<Pinned<K>>>>,
}

impl<K: Send + Sync> Keeper for Table<K> {
    fn is_unlocked(&self) -> bool {
        try_lock(&self.entries).is_some()
    }

    /// KE1
    fn unpin(&self, hash: u64, strand: &Strand, pins: usize) {
        let gone = {
            let mut entries = lock(&self.entries);
            let Some(bucket) = entries.get_mut(&hash) else {
                return;
            };
            let is_it = |pinned: &Pinned<K>| pinned.entry.strand.is(strand);
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
        strand.lane().forget(strand);
        drop_quietly(gone.entry);
    }
}

/// A share of a pool with a queue for each key: tasks of one key run one at a time, in order, and tasks of
/// different keys side by side. From [`PoolHandle::keyed`].
///
/// A key that has no task is forgotten, so that any number of keys may come and go. A task that was accepted
/// is never run out of its turn: with [`Overflow::CallerRuns`](crate::Overflow::CallerRuns) a submitter waits.
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
    /// A share of the pool with a queue for each key. It has no threads of its own, and its backlog is
    /// unbounded unless it is [given a bound](Keyed::backlog).
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
        keyed.share.lane().set_keeper(keyed.keeper());
        keyed
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Keyed<K> {
    /// Bounds the accepted tasks of the share, of all keys together, to `n` beyond the capacity of the pool.
    ///
    /// With [`Overflow::DropOldest`](crate::Overflow::DropOldest) a task makes room at its own key's cost
    /// first: its key's oldest is dropped, or the oldest of all if none of its key waits.
    #[must_use]
    pub fn backlog(self, n: usize) -> Keyed<K> {
        self.share.lane().set_backlog(n);
        self
    }

    /// How many keys have tasks now.
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
        if self.share.lane().is_foreign() {
            return 0;
        }
        lock(&self.table.entries).values().map(Vec::len).sum()
    }

    /// Hands the share a task of a key; waits for room, if the backlog is bounded, as
    /// [`PoolHandle::submit`] does. On a worker of the pool it never waits.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::submit`]: the closure comes back.
    pub fn submit<F>(&self, key: K, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.hand_in(key, |strand| strand.submit_closure(f, Patience::Policy))
    }

    /// Hands the share a task of a key if there is room right now.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::try_submit`]: the closure comes back.
    pub fn try_submit<F>(&self, key: K, f: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.hand_in(key, |strand| strand.submit_closure(f, Patience::None))
    }

    /// Hands the share a task of a key; waits for room for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::submit_timeout`]: the closure comes back.
    pub fn submit_timeout<F>(&self, key: K, f: F, timeout: Duration) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let patience = Patience::Until(deadline_after(timeout));
        self.hand_in(key, |strand| strand.submit_closure(f, patience))
    }

    /// Like [`submit`](Keyed::submit), and returns a handle to the result. A [join](JoinHandle::join) in a
    /// task of the pool runs the task itself, with those of its key before it.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::submit`]: the closure comes back.
    pub fn spawn<F, T>(&self, key: K, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.hand_in(key, |strand| spawn(strand, f, Patience::Policy))
    }

    /// Like [`spawn`](Keyed::spawn), if there is room right now.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::try_submit`]: the closure comes back.
    pub fn try_spawn<F, T>(&self, key: K, f: F) -> Result<JoinHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.hand_in(key, |strand| spawn(strand, f, Patience::None))
    }

    /// Like [`spawn`](Keyed::spawn), but waits for room for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::submit_timeout`]: the closure comes back.
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
        self.hand_in(key, |strand| spawn(strand, f, patience))
    }

    /// KE1: an accepted task keeps the pin.
    fn hand_in<T, E>(
        &self,
        key: K,
        submit: impl FnOnce(&Arc<Strand>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.share.lane().is_foreign() {
            // It is refused there, by a strand that nobody knows.
            return submit(&Strand::of_nobody(self.share.lane()));
        }
        let hash = self.table.hasher.hash_one(&key);
        let mut key = Some(key);
        let strand = self.pin(hash, &mut key);
        let mut pin = Pin {
            table: &*self.table,
            hash,
            strand: Some(Arc::clone(&strand)),
        };
        // A user's code: if it panics, the pin is dropped.
        drop(key);
        let outcome = submit(&strand);
        if outcome.is_ok() {
            pin.strand = None;
        }
        outcome
    }

    /// Pins the strand of a key, which is taken if it is a new one.
    fn pin(&self, hash: u64, key: &mut Option<K>) -> Arc<Strand> {
        loop {
            let seen: Vec<Arc<Entry<K>>> = {
                let entries = lock(&self.table.entries);
                let bucket = entries.get(&hash).map_or(&[][..], Vec::as_slice);
                let entries = bucket.iter().map(|pinned| Arc::clone(&pinned.entry));
                entries.collect()
            };
            // KE2: a user's code.
            let found = seen.iter().find(|entry| Some(&entry.key) == key.as_ref());
            let mut entries = lock(&self.table.entries);
            let bucket = entries.entry(hash).or_default();
            let is_same = bucket.len() == seen.len()
                && (bucket.iter().zip(&seen))
                    .all(|(pinned, seen)| Arc::ptr_eq(&pinned.entry, seen));
            let strand = if let Some(found) = found {
                let same = |pinned: &&mut Pinned<K>| Arc::ptr_eq(&pinned.entry, found);
                bucket.iter_mut().find(same).map(|pinned| {
                    pinned.pins += 1;
                    Arc::clone(&found.strand)
                })
            } else if let Some(key) = is_same.then(|| key.take()).flatten() {
                let strand = self.new_strand(hash);
                let entry = Arc::new(Entry {
                    key,
                    strand: Arc::clone(&strand),
                });
                bucket.push(Pinned { entry, pins: 1 });
                Some(strand)
            } else {
                None
            };
            if bucket.is_empty() {
                entries.remove(&hash);
            }
            drop(entries);
            drop_quietly(seen);
            if let Some(strand) = strand {
                return strand;
            }
        }
    }

    fn new_strand(&self, hash: u64) -> Arc<Strand> {
        Strand::new(self.share.lane(), 1, true, Some((self.keeper(), hash)))
    }

    fn keeper(&self) -> Weak<dyn Keeper> {
        let keeper: Arc<dyn Keeper> = Arc::clone(&self.table) as _;
        Arc::downgrade(&keeper)
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
