//! The scripts: what the server does in one step each. They are in `lua/`, where the head of each says what it gets and answers.
//!
//! - SC1. A script is put together of its own file and the parts that it `needs`, which come first. The parts that are `lazy`
//!   are in a function `rest()`, which makes them when a job needs them: Lua makes all functions of a script anew in each call.
//! - SC2. A script is called by its digest. A server that does not know it is sent the whole text, once.

use redis::Cmd;
use std::sync::LazyLock;

/// Declares the scripts, and the parts that they are made of.
macro_rules! scripts {
    (parts $($part:literal)+; $($name:ident = $file:literal,)+) => {
        const PARTS: &[(&str, &str)] = &[$(($part, include_str!(concat!("lua/", $part, ".lua"))),)+];

        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Script {
            $($name,)+
        }

        impl Script {
            #[cfg(test)]
            const ALL: &[Script] = &[$(Script::$name,)+];
        }

        static TEXTS: LazyLock<Vec<Text>> = LazyLock::new(|| vec![
            $(Text::of(include_str!(concat!("lua/", $file, ".lua"))),)+
        ]);
    };
}

scripts! {
    parts "base" "moves" "limits" "sweeps";
    Open = "open",
    Add = "add",
    Enqueue = "enqueue",
    Take = "take",
    Claim = "claim",
    Extend = "extend",
    Finish = "done",
    Settle = "settle",
    Progress = "progress",
    Sweep = "sweep",
    Read = "read",
    Stats = "stats",
    Remove = "remove",
    Change = "change",
    Purge = "purge",
    Settings = "settings",
    Schedules = "schedules",
    Consumers = "consumers",
    Arm = "arm",
}

/// A script as it is sent.
struct Text {
    whole: String,
    digest: String,
}

impl Text {
    fn of(file: &str) -> Text {
        let whole = assemble(file);
        let digest = redis::Script::new(&whole).get_hash().to_owned();
        Text { whole, digest }
    }
}

impl Script {
    /// Whether its acknowledgement is a promise to keep jobs.
    pub(crate) fn stores_jobs(self) -> bool {
        matches!(self, Script::Add | Script::Enqueue | Script::Change)
    }

    /// Whether a job may be claimable after it that was not, by the wish of the caller.
    pub(crate) fn may_make_claimable(self) -> bool {
        matches!(
            self,
            Script::Add
                | Script::Enqueue
                | Script::Settle
                | Script::Remove
                | Script::Change
                | Script::Purge
                | Script::Settings
        )
    }

    /// A command that calls the script: by its digest, or by its whole text.
    pub(crate) fn command(self, is_whole: bool, keys: &[String], args: &Cmd) -> Cmd {
        let text = &TEXTS[self as usize];
        let (name, script) = if is_whole {
            ("EVAL", &text.whole)
        } else {
            ("EVALSHA", &text.digest)
        };
        let mut command = redis::cmd(name);
        command.arg(script).arg(keys.len()).arg(keys);
        for arg in args.args_iter() {
            if let redis::Arg::Simple(arg) = arg {
                command.arg(arg);
            }
        }
        command
    }
}

/// SC1.
fn assemble(file: &str) -> String {
    let (first, rest) = file.split_once('\n').unwrap_or((file, ""));
    let part = |name: &&str| {
        PARTS
            .iter()
            .find(|(part, _)| part == name)
            .map(|(_, text)| *text)
    };
    let list = |text: &'static str, what: &str| -> Vec<&'static str> {
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        line.map_or(Vec::new(), |line| line.split_whitespace().collect())
    };
    let parts_of = |what: &str| -> Vec<&'static str> {
        let line = file.lines().find_map(|line| line.strip_prefix(what));
        let names = line.unwrap_or_default().split_whitespace();
        names.filter_map(|name| part(&name)).collect()
    };
    let needed = parts_of("-- needs: ");
    let lazy = parts_of("-- lazy: ");
    let mut whole = format!("{first}\n{}\n", needed.join("\n"));
    if !lazy.is_empty() {
        let exports = lazy.iter().flat_map(|text| list(text, "-- exports: "));
        let table: Vec<String> = exports.map(|name| format!("{name} = {name}")).collect();
        let (lazy, table) = (lazy.join("\n"), table.join(", "));
        for line in [
            "local loaded",
            "local function rest()",
            "if not loaded then",
            &lazy,
            &format!("loaded = {{ {table} }}"),
            "end",
            "return loaded",
            "end",
        ] {
            whole += line;
            whole += "\n";
        }
    }
    whole + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_its_parts_and_says_what_it_is_told() {
        for &script in Script::ALL {
            let text = &TEXTS[script as usize];
            assert!(text.whole.starts_with("#!lua"), "{script:?}");
            assert!(
                text.whole.contains("KEYS") && text.whole.contains("ARGV"),
                "{script:?}"
            );
            assert_eq!(text.digest.len(), 40);
            let uses_rest = text.whole.contains("rest().");
            assert_eq!(
                uses_rest,
                text.whole.contains("local function rest()"),
                "{script:?}"
            );
        }
        let mut digests: Vec<&str> = TEXTS.iter().map(|text| &*text.digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), Script::ALL.len());
    }
}
