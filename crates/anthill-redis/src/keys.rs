//! The keys of a queue: 21, whatever it holds, in one slot of a cluster.
//!
//! All of them are told to every script, so that a cluster checks each before the script begins. A key that a script made up by
//! itself would stop it in the middle while a slot is moved.

/// The keys' names, in the order in which the scripts have them.
pub(crate) const NAMES: [&str; 21] = [
    "conf",
    "counts",
    "kinds",
    "jobs",
    "data",
    "more",
    "ready",
    "delayed",
    "parked",
    "running",
    "dead",
    "done",
    "kept",
    "expiring",
    "keys",
    "keyed",
    "uniques",
    "periods",
    "schedules",
    "consumers",
    "seen",
];

/// The keys of one queue: `{prefix:queue}:name`.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) all: Vec<String>,
}

impl Keys {
    pub(crate) fn new(prefix: &str, queue: &str) -> Keys {
        let tag = format!("{{{}:{}}}", escape(prefix), escape(queue));
        let all = NAMES.iter().map(|name| format!("{tag}:{name}"));
        Keys { all: all.collect() }
    }

    /// The channel on which processes tell each other of changes. It has the name of the first key.
    pub(crate) fn channel(&self) -> &str {
        &self.all[0]
    }
}

/// Writes the bytes that would end the tag in another way.
fn escape(text: &str) -> String {
    text.replace('%', "%25")
        .replace('{', "%7B")
        .replace('}', "%7D")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_whole_name_and_no_two_queues_share_a_key() {
        let names = [
            ("anthill", "mail"),
            ("a}", "b"),
            ("a", "}b"),
            ("a", "%7Db"),
            ("a{", "b"),
            ("a", "b}:{c"),
        ];
        let mut all = Vec::new();
        for (prefix, queue) in names {
            for key in Keys::new(prefix, queue).all {
                let (tag, name) = key[1..].split_once('}').expect("a tag");
                assert!(key.starts_with('{') && !tag.contains(['{', '}']), "{key}");
                assert!(
                    name.starts_with(':') && NAMES.contains(&&name[1..]),
                    "{key}"
                );
                all.push(key);
            }
        }
        let number = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), number);
        assert_eq!(
            Keys::new("anthill", "mail").channel(),
            "{anthill:mail}:conf"
        );
    }
}
