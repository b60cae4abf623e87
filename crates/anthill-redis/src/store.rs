//! What all handles of this process on the same server share: connections, and the state of each queue.

use crate::address::Address;
use crate::call::{Again, Answer, Call};
use crate::connection::Request;
use crate::errors::Failure;
use crate::keys::Keys;
use crate::listen::Listen;
use crate::node::{Login, Node};
use crate::pool::Pool;
use crate::restore::Restore;
use crate::route::Route;
use crate::scripts::Script;
use crate::sync::lock;
use anthill_jobs::QueueError;
use anthill_jobs::broker::{Change, Listeners};
use redis::{Cmd, Value};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// Connections for heartbeats, each of which is a quick call.
const BEATS: usize = 4;

/// What a program may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) timeout: Duration,
    pub(crate) connections: usize,
    pub(crate) replicas: u32,
}

pub(crate) struct Store {
    pub(crate) options: Options,
    is_alone: bool,
    pub(crate) login: Arc<Login>,
    nodes: Vec<Node>,
    pool: Pool,
    beats: Pool,
    /// Who made a change, in the messages about it: so a process knows its own.
    pub(crate) who: String,
    queues: Mutex<Vec<Weak<QueueState>>>,
}

/// A queue, as the handles of a store share it.
pub(crate) struct QueueState {
    pub(crate) name: String,
    pub(crate) keys: Keys,
    pub(crate) route: Route,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) listen: Listen,
    pub(crate) restore: Restore,
}

impl QueueState {
    /// Tells the listeners of this process (B11).
    pub(crate) fn tell(&self, change: Change) {
        self.listeners.notify(change);
    }
}

static STORES: Mutex<Vec<Weak<Store>>> = Mutex::new(Vec::new());

impl Store {
    /// Returns the store for an address, which is made if there is none.
    pub(crate) fn shared(address: &Address, options: Options) -> Arc<Store> {
        let mut stores = lock(&STORES);
        stores.retain(|store| store.strong_count() > 0);
        let is_it = |store: &Arc<Store>| {
            store.options == options
                && store.nodes == address.nodes
                && store.login.is_like(&address.login)
        };
        let known: Vec<Arc<Store>> = stores.iter().filter_map(Weak::upgrade).collect();
        known.into_iter().find(is_it).unwrap_or_else(|| {
            let store = Arc::new(Store::new(address, options, false));
            stores.push(Arc::downgrade(&store));
            store
        })
    }

    /// Makes a store that nobody else gets.
    pub(crate) fn alone(address: &Address, options: Options) -> Arc<Store> {
        Arc::new(Store::new(address, options, true))
    }

    fn new(address: &Address, options: Options, is_alone: bool) -> Store {
        let login = Arc::new(address.login.clone());
        Store {
            pool: Pool::new(Arc::clone(&login), options.connections),
            beats: Pool::new(Arc::clone(&login), BEATS),
            nodes: address.nodes.clone(),
            who: format!("{:016x}", fastrand::u64(..)),
            queues: Mutex::default(),
            options,
            is_alone,
            login,
        }
    }

    /// The state of the queue with that name.
    pub(crate) fn queue(&self, prefix: &str, name: &str) -> Arc<QueueState> {
        let keys = Keys::new(prefix, name);
        let mut queues = lock(&self.queues);
        queues.retain(|queue| queue.strong_count() > 0);
        let known: Vec<Arc<QueueState>> = queues.iter().filter_map(Weak::upgrade).collect();
        let is_it = |queue: &Arc<QueueState>| queue.keys.channel() == keys.channel();
        if let Some(queue) = known.into_iter().find(is_it) {
            return queue;
        }
        let queue = Arc::new(QueueState {
            name: name.to_owned(),
            route: Route::new(&self.nodes),
            listeners: self.listeners(keys.channel()),
            listen: Listen::default(),
            restore: Restore::default(),
            keys,
        });
        queues.push(Arc::downgrade(&queue));
        queue
    }

    /// The listeners of this process at a queue: handles with other options share them.
    fn listeners(&self, channel: &str) -> Arc<Listeners> {
        type Place = (Vec<Node>, i64, String);
        static LISTENERS: Mutex<Vec<(Place, Weak<Listeners>)>> = Mutex::new(Vec::new());
        if self.is_alone {
            return Arc::default();
        }
        let place = (
            self.nodes.clone(),
            self.login.settings.db(),
            channel.to_owned(),
        );
        let mut all = lock(&LISTENERS);
        all.retain(|(_, listeners)| listeners.strong_count() > 0);
        let known = all.iter().find(|(other, _)| *other == place);
        if let Some(listeners) = known.and_then(|(_, listeners)| listeners.upgrade()) {
            return listeners;
        }
        let listeners = Arc::new(Listeners::new());
        all.push((place, Arc::downgrade(&listeners)));
        listeners
    }

    /// The error for an address that is wrong.
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> QueueError {
        QueueError::Address {
            address: self.login.shown.clone(),
            reason: reason.into(),
        }
    }

    /// Calls a script, and waits for the answer. `args` begin with [`who`](Store::who).
    pub(crate) fn call(
        &self,
        queue: &QueueState,
        script: Script,
        args: &Cmd,
        again: Again,
    ) -> Result<Value, QueueError> {
        self.ask(queue, script, args, again)
            .map(|answer| answer.value)
    }

    /// Calls a script as [`call`](Store::call) does, and tells whether that was sent twice.
    pub(crate) fn ask(
        &self,
        queue: &QueueState,
        script: Script,
        args: &Cmd,
        again: Again,
    ) -> Result<Answer, QueueError> {
        // Not before a heartbeat, which waits for no other call.
        queue.restore.catch_up(self, queue);
        let call = Call {
            again,
            ..self.new_call(queue, script, args)
        };
        let answer = self.run(queue, &call, self.options.timeout)?;
        queue.restore.look_again(self, queue);
        Ok(answer)
    }

    /// How many connections were made for calls so far.
    pub(crate) fn connections_made(&self) -> u64 {
        self.pool.made()
    }

    /// Calls the script that opens the queue. It does not wait for a server that cannot be reached.
    pub(crate) fn open(&self, queue: &QueueState, args: &Cmd) -> Result<Value, QueueError> {
        let call = Call {
            is_patient: false,
            ..self.new_call(queue, Script::Open, args)
        };
        let answer = call.run(self.options.timeout);
        answer
            .map(|answer| answer.value)
            .map_err(Failure::into_error)
    }

    /// Calls a script on a connection for heartbeats, within a time.
    pub(crate) fn beat(
        &self,
        queue: &QueueState,
        script: Script,
        args: &Cmd,
        time: Duration,
    ) -> Result<Value, QueueError> {
        let call = Call {
            pool: &self.beats,
            ..self.new_call(queue, script, args)
        };
        let answer = self.run(queue, &call, self.options.timeout.min(time));
        answer.map(|answer| answer.value)
    }

    fn new_call<'c>(&'c self, queue: &'c QueueState, script: Script, args: &'c Cmd) -> Call<'c> {
        Call {
            pool: &self.pool,
            route: &queue.route,
            keys: &queue.keys,
            script,
            args,
            again: Again::Once,
            replicas: if script.stores_jobs() {
                self.options.replicas
            } else {
                0
            },
            is_patient: true,
        }
    }

    fn run(
        &self,
        queue: &QueueState,
        call: &Call<'_>,
        timeout: Duration,
    ) -> Result<Answer, QueueError> {
        let begin = Instant::now();
        let answered = call.run(timeout);
        let is_unclear = match &answered {
            Ok(answer) => answer.is_repeated,
            Err(failure) => matches!(failure, Failure::Unanswered(_) | Failure::Unconfirmed(_)),
        };
        if is_unclear && call.script.may_make_claimable() {
            // The message about it is this process' own, which nobody here would be told of (B11).
            queue.tell(Change::Here);
        }
        match answered {
            // No script begins where the queue is not there, so it can be called again.
            Err(Failure::Refused(refusal)) if refusal.code == "NOQUEUE" => {
                queue.restore.make_anew(self, queue)?;
                let left = timeout.saturating_sub(begin.elapsed());
                call.run(left).map_err(Failure::into_error)
            }
            answer => answer.map_err(Failure::into_error),
        }
    }

    /// Sends a command that is no script to the node of a queue.
    pub(crate) fn command(&self, queue: &QueueState, command: &Cmd) -> Result<Value, Failure> {
        let deadline = Instant::now() + self.options.timeout;
        let request = Request {
            command,
            asking: false,
            replicas: 0,
        };
        self.pool.request(&queue.route.node(), &request, deadline)
    }
}

/// The arguments of a script, which begin with who calls.
pub(crate) fn args(store: &Store) -> Cmd {
    let mut args = Cmd::new();
    args.arg(&store.who);
    args
}
