//! Passwords of addresses, which are kept out of what the program prints: an error may contain any part of the command
//! line, and ends up in logs.

use std::env;

/// The variable that has the address of the queue.
pub(crate) const VARIABLE: &str = "ANTHILL_QUEUE";

/// The text without the passwords that are on the command line or in the environment.
pub(crate) fn hide(text: &str) -> String {
    let said = env::args_os().chain(env::var_os(VARIABLE));
    said.fold(text.to_owned(), |text, said| {
        hide_those_of(&said.to_string_lossy(), text)
    })
}

/// The text without the passwords of one address.
fn hide_those_of(address: &str, mut text: String) -> String {
    let mut hide = |before: &str, secret: &str, after: &str| {
        // As it is, and as it is shown in quotes.
        let quoted = format!("{secret:?}");
        for secret in [secret, &quoted[1..quoted.len() - 1]] {
            let shown = format!("{before}{secret}{after}");
            text = text.replace(&shown, &format!("{before}…{after}"));
        }
    };
    if let Some(secret) = of_login(address) {
        hide(":", secret, "@");
    }
    for option in address.split(['?', '&', ' ']) {
        for name in ["password=", "pass="] {
            match option.strip_prefix(name) {
                Some(secret) if !secret.is_empty() => hide(name, secret, ""),
                _ => {}
            }
        }
    }
    text
}

/// The password in `scheme://user:password@host`. It may contain what should have been encoded.
fn of_login(address: &str) -> Option<&str> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let before_options = rest.split('?').next()?;
    let login = before_options.rsplit_once('@').or(rest.rsplit_once('@'));
    let (_, secret) = login?.0.split_once(':')?;
    (!secret.is_empty()).then_some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hidden_wherever_it_is_and_nothing_else_is() {
        for (address, shown) in [
            ("postgres://me:s3cret@db/shop", "postgres://me:…@db/shop"),
            (
                "--queue=postgres://me:s3cret@db",
                "--queue=postgres://me:…@db",
            ),
            (
                "postgres://me:s3cret@db/shop?user=a@b",
                "postgres://me:…@db/shop?user=a@b",
            ),
            ("postgres://me:s3c/r?e\"t' @db", "postgres://me:…@db"),
            ("postgres://me:s3c@ret@db", "postgres://me:…@db"),
            ("postgres:me:s3cret@db", "postgres:…@db"),
            ("me:s3cret@db/shop", "me:…@db/shop"),
            (
                "postgres://db/a?user=me&password=s3cret&x=1",
                "postgres://db/a?user=me&password=…&x=1",
            ),
            ("host=db password=s3cret", "host=db password=…"),
            (
                "redis://:s3cret@cache/0?queue=a",
                "redis://:…@cache/0?queue=a",
            ),
            (
                "rediss://me:s3c@ret@a:7001,b:7002/?queue=a",
                "rediss://me:…@a:7001,b:7002/?queue=a",
            ),
            (
                "redis+unix:///run/redis.sock?user=me&pass=s3c@ret&db=1",
                "redis+unix:///run/redis.sock?user=me&pass=…&db=1",
            ),
            ("redis:me:s3cret@cache", "redis:…@cache"),
            ("postgres://me@db/shop", "postgres://me@db/shop"),
            ("postgres://me:@db/shop", "postgres://me:@db/shop"),
            ("sqlite:jobs.db?queue=a", "sqlite:jobs.db?queue=a"),
        ] {
            let hidden = |text: String| hide_those_of(address, text);
            assert_eq!(hidden(format!("{address}: no")), format!("{shown}: no"));
            // Quotes that are escaped with it are no part of it.
            assert_eq!(hidden(format!("{address:?}: no")), format!("{shown:?}: no"));
        }
    }
}
