//! The names of the workers' threads.
//!
//! In this process a thread is named `<name>-<id>`, however long that is. Linux shows 15 bytes of it; cut there, all
//! workers of a pool with a long name would look alike. So the name is cut instead, and the id stays. The pools of a
//! multi-pool are named `<name>-<shard>`.

/// How many bytes of a thread's name the system keeps.
const SHOWN: usize = 15;

/// The name of a worker; the workers of a pool without a name have only their ids.
pub(crate) fn of_worker(name: &str, id: u64) -> String {
    if name.is_empty() {
        id.to_string()
    } else {
        format!("{name}-{id}")
    }
}

/// The name of one pool of a multi-pool.
pub(crate) fn of_shard(name: &str, shard: usize) -> String {
    if name.is_empty() {
        shard.to_string()
    } else {
        format!("{name}-{shard}")
    }
}

/// What the system should show for a worker's name, if it would cut off the id.
pub(crate) fn shown_instead(full: &str) -> Option<String> {
    if full.len() <= SHOWN || !cfg!(any(target_os = "linux", target_os = "android")) {
        return None;
    }
    let (name, id) = full.rsplit_once('-')?;
    let room = SHOWN.saturating_sub(id.len() + 1);
    // Between two characters; 0 always is.
    let cut = (0..=room).rev().find(|at| name.is_char_boundary(*at))?;
    Some(format!("{}-{id}", &name[..cut]))
}

/// Asks the system to show this name for the calling thread.
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
