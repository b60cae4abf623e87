//! What a server is set to: what an acknowledged job survives there, and whether memory may run out at its cost.
//!
//! A server that does not tell its settings (`CONFIG` is refused by many that are managed) says a part of them in `INFO`.

use crate::reply;
use crate::store::{QueueState, Store};
use anthill_jobs::Durability;
use redis::Value;
use std::collections::BTreeMap;

/// The settings that matter, by name.
#[derive(Debug, Default)]
pub(crate) struct Server {
    settings: BTreeMap<String, String>,
}

const NAMES: [&str; 5] = [
    "appendonly",
    "appendfsync",
    "save",
    "maxmemory",
    "maxmemory-policy",
];

impl Server {
    /// Asks the server. What it does not tell is not known.
    pub(crate) fn look(store: &Store, queue: &QueueState) -> Server {
        let mut server = Server::default();
        for name in NAMES {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg(name);
            let Ok(Value::Array(pair)) = store.command(queue, &command) else {
                break;
            };
            if let [_, value] = &pair[..] {
                server.learn(name, value);
            }
        }
        if server.settings.is_empty() {
            for section in ["persistence", "memory"] {
                let mut command = redis::cmd("INFO");
                command.arg(section);
                if let Ok(value) = store.command(queue, &command) {
                    server.learn_info(&reply::text(value).unwrap_or_default());
                }
            }
        }
        server
    }

    /// The process that answers, by the name that it gives itself when it starts. None, if it does not tell.
    pub(crate) fn process(store: &Store, queue: &QueueState) -> Option<String> {
        let mut command = redis::cmd("INFO");
        command.arg("server");
        let told = store.command(queue, &command).ok()?;
        let told = reply::text(told).ok()?;
        let name = told.lines().find_map(|line| line.strip_prefix("run_id:"));
        name.map(|name| name.trim().to_owned())
    }

    fn learn(&mut self, name: &str, value: &Value) {
        if let Ok(text) = reply::text(value.clone()) {
            self.settings.insert(name.to_owned(), text);
        }
    }

    fn learn_info(&mut self, info: &str) {
        for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
            let (name, value) = match (name, value) {
                ("aof_enabled", "1") => ("appendonly", "yes"),
                ("aof_enabled", _) => ("appendonly", "no"),
                ("maxmemory" | "maxmemory_policy", value) => (name, value),
                _ => continue,
            };
            let name = name.replace('_', "-");
            self.settings.insert(name, value.to_owned());
        }
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// What is acknowledged survives this. The default of `appendfsync` is `everysec`.
    pub(crate) fn durability(&self, replicas: u32) -> Durability {
        match (self.setting("appendonly"), self.setting("appendfsync")) {
            (Some("yes"), Some("always")) if replicas > 0 => Durability::Replicated,
            (Some("yes"), Some("always")) => Durability::Fsync,
            (Some("yes"), Some("no")) => Durability::Process,
            // While it waits for the disk it holds back what it has acknowledged, up to two seconds.
            (Some("yes"), _) => Durability::Eventual,
            _ => Durability::None,
        }
    }

    /// What somebody should know who keeps jobs there; the text is part of a sentence.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match (self.setting("appendonly"), self.setting("save")) {
            (Some("yes"), _) => {}
            (Some(_), Some("")) => warnings.push(
                "it stores nothing on a disk, so all jobs are gone when it ends (appendonly no)".to_owned(),
            ),
            (Some(_), _) => warnings.push(
                "all jobs since its last snapshot are gone when it ends (appendonly no)".to_owned(),
            ),
            (None, _) => warnings.push(
                "it does not tell whether it stores jobs on a disk; `durability=` in the address says so in its place".to_owned(),
            ),
        }
        if let Some(eviction) = self.eviction() {
            warnings.push(eviction);
        }
        warnings
    }

    /// How the queue may be removed to make room in the server's memory, if it may.
    fn eviction(&self) -> Option<String> {
        let policy = self.setting("maxmemory-policy")?;
        // The queue's keys have no expiry, so what evicts those that have one leaves them.
        if !policy.starts_with("allkeys-") {
            return None;
        }
        let when = if self.has_bound() {
            "when its memory is full"
        } else {
            "as soon as its memory is bounded (maxmemory is 0 now)"
        };
        Some(format!(
            "{when} it may remove the whole queue (maxmemory-policy {policy}); noeviction does not"
        ))
    }

    /// The same, unless it can only be so later.
    pub(crate) fn eviction_now(&self) -> Option<String> {
        self.eviction().filter(|_| self.has_bound())
    }

    fn has_bound(&self) -> bool {
        self.setting("maxmemory").is_none_or(|most| most != "0")
    }
}

/// What may be gone when a server with this durability is started again.
pub(crate) fn window(durability: Durability) -> &'static str {
    match durability {
        Durability::None => "what was acknowledged since its last snapshot may be gone",
        Durability::Eventual => {
            "what was acknowledged in the last two seconds before may be gone (appendfsync everysec)"
        }
        Durability::Process => "if its machine lost power, what the system had not written is gone",
        _ => "what was acknowledged is on its disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(settings: &[(&str, &str)]) -> Server {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Server {
            settings: settings.collect(),
        }
    }

    #[test]
    fn durability_is_what_the_server_is_set_to() {
        for (settings, expected) in [
            (&[][..], Durability::None),
            (
                &[("appendonly", "no"), ("appendfsync", "always")],
                Durability::None,
            ),
            (
                &[("appendonly", "yes"), ("appendfsync", "always")],
                Durability::Fsync,
            ),
            (
                &[("appendonly", "yes"), ("appendfsync", "everysec")],
                Durability::Eventual,
            ),
            (
                &[("appendonly", "yes"), ("appendfsync", "no")],
                Durability::Process,
            ),
            (&[("appendonly", "yes")], Durability::Eventual),
        ] {
            assert_eq!(server(settings).durability(0), expected, "{settings:?}");
        }
    }

    #[test]
    fn replicas_add_to_what_is_on_a_disk() {
        let always = server(&[("appendonly", "yes"), ("appendfsync", "always")]);
        assert_eq!(always.durability(1), Durability::Replicated);
        let every_second = server(&[("appendonly", "yes"), ("appendfsync", "everysec")]);
        assert_eq!(every_second.durability(1), Durability::Eventual);
    }

    #[test]
    fn only_what_may_cost_jobs_is_warned_of() {
        let warnings = |settings: &[(&str, &str)]| {
            let mut all = vec![("appendonly", "yes")];
            all.extend(settings);
            server(&all).warnings().len()
        };
        assert_eq!(warnings(&[]), 0);
        assert_eq!(
            warnings(&[("maxmemory", "0"), ("maxmemory-policy", "allkeys-lru")]),
            1
        );
        assert_eq!(
            warnings(&[("maxmemory", "9"), ("maxmemory-policy", "noeviction")]),
            0
        );
        assert_eq!(
            warnings(&[("maxmemory", "9"), ("maxmemory-policy", "volatile-lru")]),
            0
        );
        assert_eq!(
            warnings(&[("maxmemory", "9"), ("maxmemory-policy", "allkeys-lru")]),
            1
        );
        assert_eq!(warnings(&[("maxmemory-policy", "allkeys-lru")]), 1);
        assert_eq!(warnings(&[("appendonly", "no"), ("save", "")]), 1);
        assert_eq!(server(&[]).warnings().len(), 1);
    }

    #[test]
    fn what_info_says_is_learnt() {
        let mut server = Server::default();
        server.learn_info("# Persistence\r\naof_enabled:1\r\nloading:0\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n");
        assert_eq!(server.durability(0), Durability::Eventual);
        assert_eq!(server.warnings(), [""; 0]);
    }
}
