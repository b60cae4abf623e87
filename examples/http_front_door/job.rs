//! What a request asks for: a name and a delay, in a form or in JSON.

use std::time::Duration;

use serde::Deserialize;

const SHORTEST_MS: u64 = 1;
const LONGEST_MS: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) delay: Duration,
}

#[derive(Debug)]
pub(crate) enum Misfit {
    /// Neither a form nor JSON.
    Type,
    /// And why.
    Content(String),
}

#[derive(Deserialize)]
struct Fields {
    name: String,
    delay_ms: u64,
}

impl Job {
    pub(crate) fn parse(content_type: &str, body: &[u8]) -> Result<Self, Misfit> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let fields: Result<Fields, String> = match &*media_type.to_ascii_lowercase() {
            "application/x-www-form-urlencoded" => {
                serde_urlencoded::from_bytes(body).map_err(|error| error.to_string())
            }
            "application/json" => serde_json::from_slice(body).map_err(|error| error.to_string()),
            _ => return Err(Misfit::Type),
        };
        let Fields { name, delay_ms } = fields.map_err(Misfit::Content)?;
        if name.is_empty() {
            return Err(Misfit::Content("the name is empty".into()));
        }
        if !(SHORTEST_MS..=LONGEST_MS).contains(&delay_ms) {
            let reason = format!("delay_ms must be between {SHORTEST_MS} and {LONGEST_MS}");
            return Err(Misfit::Content(reason));
        }
        Ok(Self {
            name,
            delay: Duration::from_millis(delay_ms),
        })
    }
}
