//! Addresses: `postgres://user:password@host:port/database?queue=NAME&schema=NAME`, and what else the client knows.

use anthill_jobs::QueueError;
use anthill_jobs::broker::without_password;
use percent_encoding::percent_decode_str;
use std::str::FromStr;
use tokio_postgres::Config;

/// The longest name of a queue, in bytes.
const LONGEST_NAME: usize = 500;

/// The longest name of a schema: that of the channel has some more characters, and at most 63.
const LONGEST_SCHEMA: usize = 48;

/// What an address says.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) queue: String,
    pub(crate) schema: String,
    /// The options of TLS that the client does not know itself.
    pub(crate) tls: TlsOptions,
    /// As it may be shown.
    pub(crate) shown: String,
}

/// What the certificate of a server is checked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// `sslmode=verify-ca` or `verify-full`.
    pub(crate) verify: Verify,
    /// `sslrootcert`: a file with certificates, in PEM.
    pub(crate) root_file: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verify {
    /// As the root file says: the authority, if there is one.
    #[default]
    Default,
    Authority,
    Full,
}

impl FromStr for Address {
    type Err = QueueError;

    fn from_str(address: &str) -> Result<Address, QueueError> {
        let shown = without_password(address);
        let refuse = |reason: String| QueueError::Address {
            address: shown.clone(),
            reason,
        };
        if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
            let why = "it does not start with postgres://";
            return Err(refuse(why.to_owned()));
        }
        let (base, query) = address.split_once('?').unwrap_or((address, ""));
        let mut parsed = Address {
            config: Config::new(),
            queue: "default".to_owned(),
            schema: "anthill".to_owned(),
            tls: TlsOptions::default(),
            shown: shown.clone(),
        };
        let mut others = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decoded = || decode(value).ok_or_else(|| refuse(format!("{part:?} is not UTF-8")));
            match (name, value) {
                ("queue", _) => parsed.queue = decoded()?,
                ("schema", _) => parsed.schema = decoded()?,
                ("sslrootcert", _) => parsed.tls.root_file = Some(decoded()?),
                ("sslmode", "verify-full") => {
                    parsed.tls.verify = Verify::Full;
                    others.push("sslmode=require");
                }
                ("sslmode", "verify-ca") => {
                    parsed.tls.verify = Verify::Authority;
                    others.push("sslmode=require");
                }
                _ => others.push(part),
            }
        }
        check_queue(&parsed.queue).map_err(&refuse)?;
        check_schema(&parsed.schema).map_err(&refuse)?;
        let known = format!("{base}?{}", others.join("&"));
        // The client's errors contain no part of the address.
        let config = Config::from_str(&known).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            refuse(source.unwrap_or_else(|| error.to_string()))
        })?;
        parsed.config = config;
        Ok(parsed)
    }
}

/// Refuses a name that no queue can have.
pub(crate) fn check_queue(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("the queue has no name".to_owned()),
        length if length > LONGEST_NAME => Err(format!(
            "the queue's name of {length} bytes is longer than {LONGEST_NAME}"
        )),
        _ if name.contains('\0') => Err("the queue's name has a NUL character".to_owned()),
        _ => Ok(()),
    }
}

/// Refuses a name that would have to be quoted.
pub(crate) fn check_schema(name: &str) -> Result<(), String> {
    let is_letter = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_fit = name.starts_with(is_letter)
        && name.len() <= LONGEST_SCHEMA
        && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
        && !name.starts_with("pg_");
    if is_fit {
        return Ok(());
    }
    Err(format!(
        "{name:?} is not the name of a schema here: at most {LONGEST_SCHEMA} lower-case letters, digits and underscores, \
         not a digit first, and not pg_"
    ))
}

/// Decodes `%41`. None, if that is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::SslMode;

    fn parse(address: &str) -> Result<Address, QueueError> {
        address.parse()
    }

    #[test]
    fn an_address_names_database_queue_and_schema() {
        let address =
            parse("postgresql://me:secret@db:5433/shop?queue=e%20mail%41&schema=jobs_2").unwrap();
        assert_eq!((&*address.queue, &*address.schema), ("e mailA", "jobs_2"));
        assert_eq!(address.config.get_dbname(), Some("shop"));
        assert_eq!(address.config.get_ports(), [5433]);
        let address = parse("postgres://localhost/shop").unwrap();
        assert_eq!((&*address.queue, &*address.schema), ("default", "anthill"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (address, reason) in [
            ("mysql://me:secret@db/shop", "postgres://"),
            ("postgres://me:secret@db/shop?queue=", "no name"),
            ("postgres://me:secret@db/shop?queue=a%00b", "NUL"),
            ("postgres://me:secret@db/shop?queue=%ff", "UTF-8"),
            ("postgres://me:secret@db/shop?schema=Big", "lower-case"),
            ("postgres://me:secret@db/shop?schema=pg_jobs", "pg_"),
            ("postgres://me:secret@db/shop?schema=a.b", "lower-case"),
            ("postgres://me:secret@db/shop?cue=mail", "cue"),
            ("postgres://me:secret@db:port/shop", "port"),
            ("postgres://me:a/secret@db/shop?cue=mail", ""),
            ("postgres:me:secret@db/shop", ""),
            ("postgres://db/shop?user=me&password=secret&x=1", "x"),
        ] {
            let error = parse(address).unwrap_err().to_string();
            assert!(error.contains(reason), "{address}: {error}");
            assert!(!error.contains("secret"), "{address}: {error}");
        }
    }

    #[test]
    fn modes_of_tls_are_those_of_libpq() {
        let mode = |mode: &str| {
            let address = parse(&format!("postgres://db/shop?sslmode={mode}")).unwrap();
            (address.config.get_ssl_mode(), address.tls.verify)
        };
        assert_eq!(mode("disable"), (SslMode::Disable, Verify::Default));
        assert_eq!(mode("require"), (SslMode::Require, Verify::Default));
        assert_eq!(mode("verify-ca"), (SslMode::Require, Verify::Authority));
        assert_eq!(mode("verify-full"), (SslMode::Require, Verify::Full));
        let address = parse("postgres://db/shop?sslrootcert=/etc/a%2Fb.pem").unwrap();
        assert_eq!(address.tls.root_file.as_deref(), Some("/etc/a/b.pem"));
    }
}
