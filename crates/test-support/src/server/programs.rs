//! Where the programs of a server are.

use std::path::PathBuf;

/// The first of the folders that has all these programs.
pub(crate) fn first_complete(
    folders: impl IntoIterator<Item = PathBuf>,
    programs: &[&str],
) -> Option<PathBuf> {
    folders
        .into_iter()
        .find(|folder| programs.iter().all(|name| folder.join(name).is_file()))
}

/// The folders of `PATH`.
pub(crate) fn path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch;
    use std::fs;

    #[test]
    fn a_folder_without_all_programs_is_passed_over() {
        let folder = scratch::folder().join(format!("programs-{}", std::process::id()));
        let (half, whole) = (folder.join("half"), folder.join("whole"));
        let programs = ["one", "two", "three"];
        for (folder, programs) in [(&half, &programs[..2]), (&whole, &programs[..])] {
            fs::create_dir_all(folder).unwrap();
            for name in programs {
                fs::write(folder.join(name), "").unwrap();
            }
        }
        assert_eq!(first_complete([half.clone()], &programs), None);
        assert_eq!(
            first_complete([half, whole.clone()], &programs),
            Some(whole)
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
