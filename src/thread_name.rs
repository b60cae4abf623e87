//! The names of the workers' threads: in this process `<name>-<id>`, whatever its length; and what the system shows of
//! them. Linux keeps 15 bytes, and cut there all workers of a pool with a long name would look alike: so the name
//! is cut instead, and the id stays. Where several pools are one, each is called `<name>-<shard>`.

/// What the system keeps of a thread's name.
const SHOWN: usize = 15;

/// A pool without a name has its workers named by their ids alone.
pub(crate) fn of_worker(name: &str, id: u64) -> String {
    if name.is_empty() {
        id.to_string()
    } else {
        format!("{name}-{id}")
    }
}

/// What one of several pools that are one is called.
pub(crate) fn of_shard(name: &str, shard: usize) -> String {
    if name.is_empty() {
        shard.to_string()
    } else {
        format!("{name}-{shard}")
    }
}

/// What the system is to show for a worker's name of which it would show too little.
pub(crate) fn shown_instead(full: &str) -> Option<String> {
    if full.len() <= SHOWN || !cfg!(any(target_os = "linux", target_os = "android")) {
        return None;
    }
    let (name, id) = full.rsplit_once('-')?;
    let room = SHOWN.saturating_sub(id.len() + 1);
    // At a boundary: 0 is one.
    let cut = (0..=room).rev().find(|at| name.is_char_boundary(*at))?;
    Some(format!("{}-{id}", &name[..cut]))
}

/// Has the system show this name for the calling thread, if it will.
pub(crate) fn show(name: &str) {
    let _ = std::fs::write("/proc/thread-self/comm", name);
}

#[cfg(all(test, not(anthill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_no_character_is_cut() {
        let shown = |name, id| shown_instead(&of_worker(name, id));
        assert_eq!(
            (of_worker("", 0), of_worker("a", 7)),
            ("0".into(), "a-7".into())
        );
        if !cfg!(any(target_os = "linux", target_os = "android")) {
            return;
        }
        assert_eq!(shown("short", 12), None);
        assert_eq!(shown("exactly15byte", 1), None);
        let long = |id| shown("averylongpoolname", id).unwrap();
        assert_eq!(
            (long(1), long(12)),
            ("averylongpool-1".into(), "averylongpoo-12".into())
        );
        // Two, three and four bytes a character, at each offset of the cut.
        for name in [
            "ééééééééé",
            "aééééééééé",
            "ああああああ",
            "aああああああ",
            "🐜🐜🐜🐜",
            "a🐜🐜🐜🐜",
            "abc🐜🐜🐜🐜",
        ] {
            for id in [0, 12, 345] {
                let shown = shown(name, id).unwrap();
                let kept = shown.strip_suffix(&format!("-{id}")).unwrap();
                assert!(name.starts_with(kept) && shown.len() <= SHOWN, "{shown}");
                assert!(shown.len() + 4 > SHOWN, "no more than that: {shown}");
            }
        }
        assert_eq!(shown("name-with-dashes", 3).unwrap(), "name-with-das-3");
        let most = shown("name", u64::MAX).unwrap();
        assert_eq!(most, format!("-{}", u64::MAX), "the system cuts it");
    }
}
