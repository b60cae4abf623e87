//! What all handles of this process on the same database and schema share: connections, listeners, and what was learnt of each
//! queue.

use crate::address::Address;
use crate::driven::may_drive;
use crate::errors::queue_error;
use crate::horizon::Horizon;
use crate::listen::Listen;
use crate::notify::Notifier;
use crate::pool::{Failure, Pool};
use crate::runtime::Runtime;
use crate::session::{Param, Target};
use crate::sql::Calls;
use crate::steady::Steady;
use crate::sync::lock;
use crate::tls::Tls;
use crate::values::Moment;
use anthill_jobs::QueueError;
use anthill_jobs::broker::{Change, Listeners};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tokio_postgres::Row;

/// Connections for heartbeats: each is a quick call, but may wait for a row.
const BEATS: usize = 4;

/// What a program may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) timeout: Duration,
    pub(crate) connections: usize,
}

pub(crate) struct Store {
    options: Options,
    is_alone: bool,
    address: Address,
    pub(crate) calls: Calls,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) target: Target,
    pool: Arc<Pool>,
    beats: Arc<Pool>,
    queues: Mutex<Vec<Weak<QueueState>>>,
    pub(crate) listen: Listen,
    pub(crate) notifier: Arc<Notifier>,
}

/// A queue in this process.
pub(crate) struct QueueState {
    /// The same for all handles to the same jobs.
    pub(crate) identity: String,
    pub(crate) number: i32,
    pub(crate) listeners: Listeners,
    horizon: Mutex<Horizon>,
    steady: Mutex<Steady>,
}

impl QueueState {
    pub(crate) fn with_horizon<T>(&self, with: impl FnOnce(&mut Horizon, Instant) -> T) -> T {
        with(&mut lock(&self.horizon), Instant::now())
    }

    /// Learns of the server's time; see [`Steady::learn`].
    pub(crate) fn learn_time(&self, now: Moment, sent: Instant) -> Option<Moment> {
        lock(&self.steady).learn(now, sent, Instant::now())
    }

    /// Tells the listeners of this process (B11).
    pub(crate) fn tell(&self, change: Change) {
        self.with_horizon(|horizon, _| horizon.hear());
        self.listeners.notify(change);
    }
}

/// Which call: `|calls| &calls.claim`.
pub(crate) type Of = fn(&Calls) -> &str;

static STORES: Mutex<Vec<Weak<Store>>> = Mutex::new(Vec::new());

impl Store {
    /// Returns the store for an address, which is made if there is none.
    pub(crate) fn shared(address: Address, options: Options) -> Result<Arc<Store>, QueueError> {
        let mut stores = lock(&STORES);
        stores.retain(|store| store.strong_count() > 0);
        let same = stores.iter().filter_map(Weak::upgrade);
        if let Some(store) = same
            .into_iter()
            .find(|store| store.is_for(&address, options))
        {
            return Ok(store);
        }
        let store = Arc::new(Store::new(address, options, false)?);
        stores.push(Arc::downgrade(&store));
        Ok(store)
    }

    /// Makes a store that nobody else gets.
    pub(crate) fn alone(address: Address, options: Options) -> Result<Arc<Store>, QueueError> {
        Store::new(address, options, true).map(Arc::new)
    }

    fn is_for(&self, address: &Address, options: Options) -> bool {
        self.options == options
            && self.address.config == address.config
            && self.address.schema == address.schema
            && self.address.tls == address.tls
    }

    fn new(address: Address, options: Options, is_alone: bool) -> Result<Store, QueueError> {
        let runtime = Runtime::shared()?;
        let mut config = address.config.clone();
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        if config.get_application_name().is_none() {
            config.application_name("anthill");
        }
        // A server that is gone is noticed also where nobody waits for an answer.
        if config.get_keepalives_idle() == Duration::from_secs(2 * 3600) {
            config.keepalives_idle(Duration::from_secs(20));
            config.keepalives_interval(Duration::from_secs(5));
            config.keepalives_retries(3);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(options.timeout.max(Duration::from_secs(1)));
        }
        let target = Target {
            tls: Tls::of(&address)?,
            config,
            runtime: Arc::clone(&runtime),
        };
        let pool = Pool::new(target.clone(), options.connections);
        let notifier = Notifier::new(Arc::clone(&pool), Arc::clone(&runtime));
        Ok(Store {
            calls: Calls::new(&address.schema),
            beats: Pool::new(target.clone(), BEATS),
            queues: Mutex::default(),
            listen: Listen::default(),
            options,
            is_alone,
            address,
            runtime,
            target,
            pool,
            notifier,
        })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The error for an address that is wrong.
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> QueueError {
        QueueError::Address {
            address: self.address.shown.clone(),
            reason: reason.into(),
        }
    }

    /// The state of the queue with that identity, which handles of other stores may share.
    pub(crate) fn queue(&self, identity: &str, number: i32) -> Arc<QueueState> {
        static QUEUES: Mutex<Vec<Weak<QueueState>>> = Mutex::new(Vec::new());
        let is_it = |queue: &Arc<QueueState>| queue.identity == identity;
        let known =
            |queues: &[Weak<QueueState>]| queues.iter().filter_map(Weak::upgrade).find(is_it);
        let make = || {
            Arc::new(QueueState {
                identity: identity.to_owned(),
                number,
                listeners: Listeners::new(),
                horizon: Mutex::new(Horizon::new()),
                steady: Mutex::default(),
            })
        };
        let queue = if self.is_alone {
            known(&lock(&self.queues)).unwrap_or_else(make)
        } else {
            let mut all = lock(&QUEUES);
            all.retain(|queue| queue.strong_count() > 0);
            known(&all).unwrap_or_else(|| {
                let queue = make();
                all.push(Arc::downgrade(&queue));
                queue
            })
        };
        let mut ours = lock(&self.queues);
        ours.retain(|other| other.strong_count() > 0);
        if !ours
            .iter()
            .any(|other| other.as_ptr() == Arc::as_ptr(&queue))
        {
            ours.push(Arc::downgrade(&queue));
        }
        queue
    }

    /// The queues of this store that have a handle.
    pub(crate) fn queues(&self) -> Vec<Arc<QueueState>> {
        lock(&self.queues)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Calls a function, and waits for the answer.
    pub(crate) fn call(&self, sql: Of, params: Vec<Param>) -> Result<Vec<Row>, QueueError> {
        self.call_or_missing(sql, params).map_err(QueueError::from)
    }

    /// Calls a function, and tells whether it is missing.
    pub(crate) fn call_or_missing(&self, sql: Of, params: Vec<Param>) -> Result<Vec<Row>, Failure> {
        self.call_on(&self.pool, sql(&self.calls), params)
    }

    /// Calls a function on a connection for heartbeats.
    pub(crate) fn beat(&self, sql: Of, params: Vec<Param>) -> Result<Vec<Row>, QueueError> {
        let answer = self.call_on(&self.beats, sql(&self.calls), params);
        answer.map_err(QueueError::from)
    }

    fn call_on(
        &self,
        pool: &Arc<Pool>,
        sql: &str,
        params: Vec<Param>,
    ) -> Result<Vec<Row>, Failure> {
        if may_drive() {
            return pool.call_here(self.timeout(), sql, &params);
        }
        let call = call(pool, self.timeout(), sql, params);
        let answer = self.runtime.wait(self.timeout(), async { Ok(call.await) });
        answer.map_err(Failure::Other)?
    }

    /// Calls a function from an async task, on whatever runtime that is.
    pub(crate) fn call_async(
        &self,
        sql: Of,
        params: Vec<Param>,
    ) -> impl Future<Output = Result<Vec<Row>, QueueError>> + Send + use<> {
        let call = call(&self.pool, self.timeout(), sql(&self.calls), params);
        let task = self.runtime.spawn(call);
        async move {
            match task.await {
                Ok(answer) => Ok(answer?),
                Err(_) => Err(crate::errors::unavailable("the call was dropped")),
            }
        }
    }

    /// Notifies other processes, soon.
    pub(crate) fn notify_others(&self, channel: &str, queue: &QueueState) {
        self.notifier.notify(channel, queue.number);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.listen.close();
    }
}

/// Calls a function of the schema. The deadline counts from now.
fn call(
    pool: &Arc<Pool>,
    timeout: Duration,
    sql: &str,
    params: Vec<Param>,
) -> impl Future<Output = Result<Vec<Row>, Failure>> + Send + use<> {
    let (pool, sql) = (Arc::clone(pool), sql.to_owned());
    let deadline = tokio::time::Instant::now() + timeout;
    async move { pool.call(deadline, &sql, &params).await }
}

/// Reads a column of an answer.
pub(crate) fn column<'r, T>(row: &'r Row, name: &str) -> Result<T, QueueError>
where
    T: tokio_postgres::types::FromSql<'r>,
{
    row.try_get(name).map_err(queue_error)
}

/// The one value of an answer.
pub(crate) fn first<'r, T>(rows: &'r [Row]) -> Result<T, QueueError>
where
    T: tokio_postgres::types::FromSql<'r>,
{
    let row = rows
        .first()
        .ok_or_else(|| QueueError::Corrupt("a call was not answered".to_owned()))?;
    row.try_get(0).map_err(queue_error)
}
