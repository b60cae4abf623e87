//! Errors of the client and of the server, as errors of a queue.

use anthill_jobs::QueueError;
use redis::RedisError;

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The time was over before it could be sent: nothing was done, and the node is not to blame.
    TooLate(QueueError),
    /// It was not sent, or not to the end, as the node could not be reached: nothing was done.
    NotSent(QueueError),
    /// It was sent, and no answer came: it may have been done.
    Unanswered(QueueError),
    /// It was done, and not confirmed by as many replicas as it should be: it may be lost with the node.
    Unconfirmed(QueueError),
    /// The server refused it.
    Refused(Refusal),
}

impl Failure {
    /// The error, where nothing more is tried.
    pub(crate) fn into_error(self) -> QueueError {
        match self {
            Failure::TooLate(error)
            | Failure::NotSent(error)
            | Failure::Unanswered(error)
            | Failure::Unconfirmed(error) => error,
            Failure::Refused(refusal) => refusal.into_error(),
        }
    }
}

/// What a server says when it refuses: a code, such as `MOVED`, and a text.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) text: String,
}

/// What servers say without a code of its own, by the code that it should have.
const UNCODED: [(&str, &str); 3] = [
    // In a script, before 7.2.
    ("NOPERM", "The user executing the script can't"),
    // The first long request of somebody who has not said who he is. The server ends the connection.
    ("NOAUTH", "Protocol error: unauthenticated"),
    ("MAXCLIENTS", "max number of clients"),
];

impl Refusal {
    pub(crate) fn of(error: &RedisError) -> Refusal {
        let text = error.detail().unwrap_or_default().to_owned();
        let code = error.code().unwrap_or("ERR");
        let code = UNCODED
            .iter()
            .find(|(_, begin)| code == "ERR" && text.starts_with(begin))
            .map_or(code, |(code, _)| code);
        Refusal {
            code: code.to_owned(),
            text,
        }
    }

    /// Whether the server is a replica, which does nothing that is asked.
    pub(crate) fn is_of_replica(&self) -> bool {
        ["READONLY", "MASTERDOWN"].contains(&&*self.code)
    }

    /// The error, where nothing more is tried.
    pub(crate) fn into_error(self) -> QueueError {
        let Refusal { code, text } = self;
        let said = format!("{text} [{code}]");
        match &*code {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => QueueError::Denied(said),
            "BUSY" => QueueError::Busy,
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "READONLY" | "MOVED"
            | "ASK" | "NOREPLICAS" | "NOQUEUE" | "MAXCLIENTS" => unavailable(said),
            "OOM" => QueueError::Broker(
                format!("the memory of the server is full, and nothing was stored: {said}").into(),
            ),
            "WRONGTYPE" | "CORRUPT" | "CROSSSLOT" => QueueError::Corrupt(said),
            _ => QueueError::Broker(said.into()),
        }
    }
}

pub(crate) fn unavailable(why: impl Into<String>) -> QueueError {
    QueueError::Unavailable(why.into().into())
}

/// The error of a connection.
pub(crate) fn of_connection(error: &RedisError) -> QueueError {
    if error.is_timeout() {
        return unavailable("the server did not answer in time");
    }
    unavailable(error.to_string())
}

/// The error of a connect, before anything is said.
pub(crate) fn of_connect(error: &RedisError, address: &str) -> QueueError {
    match error.kind() {
        redis::ErrorKind::InvalidClientConfig => QueueError::Address {
            address: address.to_owned(),
            reason: error.to_string(),
        },
        _ => of_connection(error),
    }
}
