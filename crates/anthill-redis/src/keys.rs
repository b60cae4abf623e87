//! The keys of a queue: 21, whatever it holds, in one slot of a cluster.
//!
//! All of them are told to every script, so that a cluster checks each before the script begins. A key that a script made up by
//! itself would stop it in the middle while a slot is moved.
//!
//! What is in them holds after each script:
//!
//! - RE1. A job is in `jobs` and `data`, in `more` with what its flags say, and in the index of its state alone. Its members of
//!   indexes follow from its record, so no step searches; and a job that waits and may expire is in `expiring`.
//! - RE2. The gauges are the sizes of the indexes, and stored nowhere else.
//! - RE3. A number of the order (`q`) is given once: to a job each time that it gets a new place, and to a key.
//! - RE4. `keyed` has the ready and the parked jobs with a key, and `keys` how many of each key run, are ready, and are parked;
//!   no row is all zeros.
//! - RE5. With a limit for each key, as many of its jobs are ready as may run beside those that do, the first ones, and the others
//!   are parked. After a change of the limit that holds for the keys whose number is before `u`.
//! - RE6. A unique key that is held is of a job that waits or runs and has it. A period has its end in `periods`.

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
