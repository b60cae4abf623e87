//! Errors of the client as errors of a queue.

use anthill_jobs::QueueError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

pub(crate) fn unavailable(why: impl Into<String>) -> QueueError {
    QueueError::Unavailable(why.into().into())
}

/// The error of a call.
///
/// The client keeps what the server says in the source of its error, which this puts into the text.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` calls it")]
pub(crate) fn queue_error(error: Error) -> QueueError {
    let Some(code) = error.code().cloned() else {
        return without_code(&error);
    };
    let text = text(&error);
    match code.code() {
        "AH001" => full(&error),
        "22021" | "22P05" | "22P02" | "22P03" | "22001" | "22003" | "22008" | "54000" => {
            QueueError::Invalid(text)
        }
        // Serialization failures, deadlocks, lock and statement timeouts: the transaction is rolled back.
        "40001" | "40P01" | "55P03" | "57014" => QueueError::Busy,
        "25006" => QueueError::ReadOnly(text),
        "42501" => QueueError::Denied(text),
        "AH002" | "3D000" => QueueError::Address {
            address: "postgres:".to_owned(),
            reason: text,
        },
        "42P01" | "42883" | "3F000" | "42703" | "P0002" => QueueError::Corrupt(format!(
            "its tables or functions are not those that were opened: {text}"
        )),
        code if code.starts_with("28") => QueueError::Denied(text),
        // Connections, resources, and a server that starts or stops.
        code if ["08", "53", "57", "58"].contains(&&code[..2]) => unavailable(text),
        _ => QueueError::Broker(text.into()),
    }
}

/// Whether the tables do not exist, or are of a version without that function.
pub(crate) fn is_missing(error: &Error) -> bool {
    let missing = [
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_TABLE,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    error.code().is_some_and(|code| missing.contains(code))
}

fn full(error: &Error) -> QueueError {
    let numbers = error.as_db_error().map(|error| error.message().to_owned());
    let numbers = numbers.unwrap_or_default();
    let last = numbers
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .next_back();
    QueueError::Full {
        limit: last.unwrap_or(0),
    }
}

fn without_code(error: &Error) -> QueueError {
    let text = text(error);
    // Its kinds are private; its texts are these.
    let kind = error.to_string();
    if kind.starts_with("error serializing") || kind.starts_with("error encoding") {
        QueueError::Invalid(text)
    } else if kind.starts_with("error deserializing")
        || kind.starts_with("invalid column")
        || kind.starts_with("query returned")
    {
        QueueError::Corrupt(format!("an answer is not as expected: {text}"))
    } else if kind.starts_with("authentication") {
        QueueError::Denied(text)
    } else if kind.starts_with("invalid con") {
        QueueError::Address {
            address: "postgres:".to_owned(),
            reason: text,
        }
    } else {
        unavailable(text)
    }
}

/// The error, and its sources.
fn text(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        let detail = error.detail().or(error.hint());
        let detail = detail.map(|detail| format!(" ({detail})"));
        return format!(
            "{} [{}]{}",
            error.message(),
            error.code().code(),
            detail.unwrap_or_default()
        );
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += ": ";
        text += &error.to_string();
        source = error.source();
    }
    text
}
