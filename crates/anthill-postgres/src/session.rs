//! One connection to the server, driven by a task of the runtime and used by one call at a time; and what it is made of.

use crate::errors::{queue_error, unavailable};
use crate::runtime::Runtime;
use crate::tls::Tls;
use anthill_jobs::QueueError;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{
    AsyncMessage, CancelToken, Client, Config, Connection, NoTls, Notification, Row,
};

/// A parameter of a call, which outlives the caller that gave up.
pub(crate) type Param = (Box<dyn ToSql + Send + Sync>, Type);

/// How long a request to cancel a call may take.
const CANCEL: Duration = Duration::from_secs(2);

/// Where connections go to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    pub(crate) runtime: Arc<Runtime>,
}

pub(crate) type Answer = Result<Vec<Row>, tokio_postgres::Error>;

/// What moves that which is sent and received on a connection, until it is closed.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection. When it is dropped the server hears farewell.
pub(crate) struct Session {
    client: Client,
    driver: AbortHandle,
    tls: Tls,
}

/// What the server notifies of on a connection.
pub(crate) type Notifications = UnboundedReceiver<Notification>;

impl Session {
    pub(crate) async fn open(target: &Target, deadline: Instant) -> Result<Session, QueueError> {
        Session::open_with(target, deadline, None).await
    }

    /// Opens one that hears of notifications.
    pub(crate) async fn open_to_listen(
        target: &Target,
        deadline: Instant,
    ) -> Result<(Session, Notifications), QueueError> {
        let (sender, receiver) = unbounded_channel();
        let session = Session::open_with(target, deadline, Some(sender)).await?;
        Ok((session, receiver))
    }

    async fn open_with(
        target: &Target,
        deadline: Instant,
        notifications: Option<UnboundedSender<Notification>>,
    ) -> Result<Session, QueueError> {
        let open = target.runtime.count_connection();
        let connect = connect(target, deadline, notifications);
        let connected = timeout_at(deadline, connect).await;
        let (client, driver) = connected
            .map_err(|_| unavailable("the server did not answer to a new connection in time"))?
            .map_err(queue_error)?;
        let driver = target.runtime.spawn(async move {
            driver.await;
            drop(open);
        });
        Ok(Session {
            client,
            driver: driver.abort_handle(),
            tls: target.tls.clone(),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Calls a function of the schema.
    pub(crate) async fn query(&self, sql: &str, params: &[Param]) -> Answer {
        query(&self.client, sql, params).await
    }

    /// Runs statements one after the other.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    /// Closes a connection on which a call has not ended, and asks the server to end that.
    pub(crate) async fn abandon(self) {
        self.driver.abort();
        cancel(self.client.cancel_token(), self.tls).await;
    }
}

/// Makes a connection.
pub(crate) async fn connect(
    target: &Target,
    deadline: Instant,
    notifications: Option<UnboundedSender<Notification>>,
) -> Result<(Client, Driver), tokio_postgres::Error> {
    let mut config = target.config.clone();
    let left = deadline.saturating_duration_since(Instant::now());
    // Of several addresses the first may not answer.
    let own = config.get_connect_timeout().copied().unwrap_or(left);
    config.connect_timeout(own.min(left));
    match &target.tls {
        Tls::None => {
            let (client, connection) = config.connect(NoTls).await?;
            Ok((client, Box::pin(drive(connection, notifications))))
        }
        #[cfg(feature = "rustls")]
        Tls::Rustls(tls) => {
            let (client, connection) = config.connect(tls.clone()).await?;
            Ok((client, Box::pin(drive(connection, notifications))))
        }
    }
}

/// Makes one statement without a name, in one message, which is a transaction of its own.
pub(crate) async fn query(client: &Client, sql: &str, params: &[Param]) -> Answer {
    let params: Vec<(&(dyn ToSql + Sync), Type)> = params
        .iter()
        .map(|(param, kind)| (&**param as &(dyn ToSql + Sync), kind.clone()))
        .collect();
    // Ends when the server is ready again, which is after the commit.
    client.query_typed(sql, &params).await
}

/// Asks the server to end a call.
pub(crate) async fn cancel(call: CancelToken, tls: Tls) {
    let cancel = async {
        match tls {
            Tls::None => call.cancel_query(NoTls).await,
            #[cfg(feature = "rustls")]
            Tls::Rustls(tls) => call.cancel_query(tls).await,
        }
    };
    // The server may not be there.
    let _ = tokio::time::timeout(CANCEL, cancel).await;
}

/// Drives a connection until it is closed. Whoever uses it gets the error.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    notifications: Option<UnboundedSender<Notification>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let (AsyncMessage::Notification(heard), Some(sender)) = (message, &notifications) {
            // Nobody wants to hear any more.
            let _ = sender.send(heard);
        }
    }
}
