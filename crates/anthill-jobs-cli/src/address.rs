//! How the program opens a queue by its address. A command that only looks creates none: a mistyped address must not pass
//! for an empty queue.

use crate::engines::{self, Purpose};
use crate::outcome::Fallible;
use anthill_jobs::Queue;

/// Opens a queue.
pub(crate) fn open(address: &str, purpose: Purpose) -> Fallible<Queue> {
    engines::open(&full(address)?, purpose)
}

/// Completes the address `to`: one that begins with `?` is that of `address` with these options in place of its own.
pub(crate) fn beside(address: &str, to: &str) -> String {
    let Some(others) = to.strip_prefix('?') else {
        return to.to_owned();
    };
    let (place, options) = address.split_once('?').unwrap_or((address, ""));
    let name = |option: &str| option.split('=').next().map(str::to_owned);
    let is_kept = |option: &&str| {
        !option.is_empty() && others.split('&').all(|other| name(other) != name(option))
    };
    let mut options: Vec<&str> = options.split('&').filter(is_kept).collect();
    options.push(others);
    format!("{place}?{}", options.join("&"))
}

/// The address with its scheme: `sqlite` if it has none.
fn full(address: &str) -> Fallible<String> {
    let scheme = address.split_once(':').map(|(scheme, _)| scheme);
    match scheme {
        Some("memory") => {
            Err("a queue in memory is visible to the process that made it, and to no other".into())
        }
        // One letter is a drive of Windows; and a file's name may contain a colon.
        Some(scheme) if scheme.len() > 1 && scheme.chars().all(is_of_scheme) => {
            Ok(address.to_owned())
        }
        _ => Ok(format!("sqlite:{address}")),
    }
}

fn is_of_scheme(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '+'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beside_another_differs_in_what_it_says() {
        let database = "postgres://me:secret@db/shop";
        for (address, to, beside_it) in [
            ("jobs.db", "?queue=b", "jobs.db?queue=b".to_owned()),
            (
                "sqlite:jobs.db?queue=a",
                "?queue=b",
                "sqlite:jobs.db?queue=b".to_owned(),
            ),
            ("jobs.db?queue=a", "other.db", "other.db".to_owned()),
            (database, "?queue=b", format!("{database}?queue=b")),
            (
                &format!("{database}?sslmode=require&queue=a&schema=jobs"),
                "?queue=b",
                format!("{database}?sslmode=require&schema=jobs&queue=b"),
            ),
            (
                &format!("{database}?queue=a&schema=jobs"),
                "?schema=other",
                format!("{database}?queue=a&schema=other"),
            ),
            (
                "redis://:secret@a:7001,b:7002/3?queue=a&prefix=shop",
                "?queue=b",
                "redis://:secret@a:7001,b:7002/3?prefix=shop&queue=b".to_owned(),
            ),
        ] {
            assert_eq!(beside(address, to), beside_it);
        }
    }

    #[test]
    fn an_address_without_a_scheme_is_a_file() {
        for address in [
            "jobs.db",
            "C:\\jobs.db",
            "a b:c.db",
            "/tmp/jobs.db?queue=a:b",
        ] {
            assert_eq!(full(address).unwrap(), format!("sqlite:{address}"));
        }
        for address in [
            "sqlite:a",
            "redis+unix:///run/redis.sock",
            "postgres://db/a",
        ] {
            assert_eq!(full(address).unwrap(), address);
        }
        assert!(full("memory:").is_err());
    }
}
