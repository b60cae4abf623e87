//! Tells other processes of changes, by NOTIFY.
//!
//! A transaction that notifies takes a lock of the whole server while it commits. So an enqueue does not notify in its own
//! transaction: afterwards one here does, which waits for no disk. At most one is in flight, and a burst is one.

use crate::pool::Pool;
use crate::runtime::Runtime;
use crate::session::Param;
use crate::sync::lock;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::types::Type;

/// The time between two notifications, while there is always something to tell.
const PAUSE: Duration = Duration::from_millis(5);

/// How long one may take. Who does not hear of it looks by himself, a little later.
const TIMEOUT: Duration = Duration::from_secs(5);

const SQL: &str = "SELECT set_config('synchronous_commit', 'off', true), count(pg_notify(n.channel, n.payload)) \
                   FROM unnest($1, $2) AS n (channel, payload) GROUP BY 1";

pub(crate) struct Notifier {
    pool: Arc<Pool>,
    runtime: Arc<Runtime>,
    /// What this process puts into its notifications, so that it knows them.
    sender: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Channels and queues to tell of.
    pending: BTreeSet<(String, i32)>,
    is_running: bool,
}

impl Notifier {
    pub(crate) fn new(pool: Arc<Pool>, runtime: Arc<Runtime>) -> Arc<Notifier> {
        Arc::new(Notifier {
            pool,
            runtime,
            sender: format!("{:016x}", fastrand::u64(..)),
            state: Mutex::default(),
        })
    }

    pub(crate) fn sender(&self) -> &str {
        &self.sender
    }

    pub(crate) fn notify(self: &Arc<Notifier>, channel: &str, queue: i32) {
        let mut state = lock(&self.state);
        state.pending.insert((channel.to_owned(), queue));
        if !std::mem::replace(&mut state.is_running, true) {
            drop(state);
            let own = Arc::clone(self);
            self.runtime.spawn(async move { own.run().await });
        }
    }

    async fn run(&self) {
        loop {
            let pending = {
                let mut state = lock(&self.state);
                if state.pending.is_empty() {
                    state.is_running = false;
                    return;
                }
                std::mem::take(&mut state.pending)
            };
            let begin = Instant::now();
            let payload = |queue: i32| format!("{queue} {}", self.sender);
            let (channels, payloads): (Vec<String>, Vec<String>) = pending
                .into_iter()
                .map(|(channel, queue)| (channel, payload(queue)))
                .unzip();
            let params: [Param; 2] = [
                (Box::new(channels), Type::TEXT_ARRAY),
                (Box::new(payloads), Type::TEXT_ARRAY),
            ];
            // Others find the jobs without it, a little later.
            let _ = self.pool.call(begin + TIMEOUT, SQL, &params).await;
            tokio::time::sleep_until(begin + PAUSE).await;
        }
    }
}
