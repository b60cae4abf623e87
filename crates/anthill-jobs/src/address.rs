//! Addresses as they may be shown.

/// Returns an address as it may be shown in errors and logs: `scheme://user:password@host` without the password, and the options
/// `password=` and `pass=` without their values. For a broker whose addresses have such.
///
/// ```
/// use anthill_jobs::broker::without_password;
///
/// let shown = without_password("redis://me:secret@cache/0?queue=mail");
/// assert_eq!(shown, "redis://me:…@cache/0?queue=mail");
/// ```
pub fn without_password(address: &str) -> String {
    // A password may have any letter, also one that ends what it is in.
    let parts = address.split_once(':').and_then(|(scheme, rest)| {
        let (slashes, rest) = match rest.strip_prefix("//") {
            Some(rest) => ("//", rest),
            // The name of a file may have the same letters.
            None if scheme == "sqlite" => return None,
            None => ("", rest),
        };
        let (login, place) = rest.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}:{slashes}{user}:…@{place}"))
    });
    let shown = parts.unwrap_or_else(|| address.to_owned());
    let Some((base, options)) = shown.split_once('?') else {
        return shown;
    };
    let hide = |option: &str| match option.split_once('=') {
        Some((name @ ("password" | "pass"), _)) => format!("{name}=…"),
        _ => option.to_owned(),
    };
    let options: Vec<String> = options.split('&').map(hide).collect();
    format!("{base}?{}", options.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_nothing_else_is() {
        for (address, shown) in [
            ("postgres://me:secret@db/shop", "postgres://me:…@db/shop"),
            ("postgres://me:s/ec?r@et@db", "postgres://me:…@db"),
            ("postgres:me:secret@db", "postgres:me:…@db"),
            ("redis://:secret@a,b/0", "redis://:…@a,b/0"),
            (
                "postgres://db?user=me&password=secret&x=1",
                "postgres://db?user=me&password=…&x=1",
            ),
            (
                "redis+unix:///run/redis?pass=secret",
                "redis+unix:///run/redis?pass=…",
            ),
            ("redis://db/0?queue=pass", "redis://db/0?queue=pass"),
            ("sqlite:a:b@c.db", "sqlite:a:b@c.db"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_password(address), shown);
        }
    }
}
