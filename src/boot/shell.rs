//! What a shell on the console needs beyond itself, where the root has nothing: names that programs expect.
//!
//! `#!/bin/sh`, `vi`'s `!`, `watch`, `mktemp` and `whoami` all look at fixed places. On an empty root
//! these become links into the unpacked userspace; what is there already stays as it is.

use std::path::{Path, PathBuf};

use stdx::Result;

/// Makes what is missing. A root that cannot be written to has a shell all the same.
pub(crate) fn furnish(root: &Path, bin: &Path) {
    // An empty directory, which archives often have for later, is as good as none.
    let own = root.join("bin");
    if rt::fs::read_link(&own).is_none() {
        let _ = rt::fs::remove_empty_dir(&own);
    }
    let mut places = vec![
        (root.join("bin"), bin.join("aux")),
        // Where `/bin` holds nothing but k3rs.
        (root.join("bin/sh"), bin.join("sh")),
    ];
    let userspace = bin.with_file_name("root");
    for name in ["etc/passwd", "etc/group"] {
        places.push((root.join(name), userspace.join(name)));
    }
    for (place, target) in places {
        if let Err(error) = link_missing(&place, &target) {
            log::debug!("the shell does without {}: {error}", place.display());
        }
    }
    if let Err(error) = make_temporary(root.join("tmp")) {
        log::debug!("the shell does without /tmp: {error}");
    }
}

fn link_missing(place: &Path, target: &Path) -> Result<()> {
    // Links that lead nowhere are somebody's, too; through `/bin`, the second is there by the first.
    if rt::fs::symlink_metadata(place).is_ok() {
        return Ok(());
    }
    if let Some(parent) = place.parent() {
        rt::fs::create_dir_all(parent, 0o755)?;
    }
    rt::fs::symlink_atomic(target, place)
}

fn make_temporary(place: PathBuf) -> Result<()> {
    if rt::fs::symlink_metadata(&place).is_ok() {
        return Ok(());
    }
    rt::fs::create_dir_all(&place, 0o755)?;
    rt::fs::set_mode(&place, 0o1777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> (PathBuf, PathBuf) {
        let dir = std::env::temp_dir().join(format!("boot-shell-{name}-{}", std::process::id()));
        rt::fs::remove_dir_all(&dir).unwrap();
        let (root, version) = (dir.join("r"), dir.join("data/current"));
        for name in ["root/bin", "root/etc", "bin"] {
            rt::fs::create_dir_all(version.join(name), 0o755).unwrap();
        }
        rt::fs::symlink_atomic("../root/bin", version.join("bin/aux")).unwrap();
        rt::fs::symlink_atomic("aux/busybox", version.join("bin/sh")).unwrap();
        for name in ["root/bin/busybox", "root/bin/sh", "root/etc/passwd", "root/etc/group"] {
            rt::fs::write(version.join(name), name.as_bytes(), 0o755).unwrap();
        }
        rt::fs::create_dir_all(&root, 0o755).unwrap();
        (root, version.join("bin"))
    }

    fn read(path: PathBuf) -> String {
        rt::fs::read_text(path).unwrap_or_default()
    }

    #[test]
    fn an_empty_root_gets_what_programs_expect() {
        let (root, bin) = scratch("empty");
        rt::fs::create_dir_all(root.join("bin"), 0o755).unwrap();
        // The second time changes nothing.
        for _ in 0..2 {
            furnish(&root, &bin);
            assert_eq!(rt::fs::read_link(root.join("bin")).unwrap(), bin.join("aux"));
            assert_eq!(read(root.join("bin/sh")), "root/bin/sh");
            assert_eq!(read(root.join("etc/passwd")), "root/etc/passwd");
            assert!(rt::fs::metadata(root.join("tmp")).unwrap().is_dir());
        }
        rt::fs::remove_dir_all(root.parent().unwrap()).unwrap();
    }

    #[test]
    fn what_is_there_stays() {
        let (root, bin) = scratch("full");
        for name in ["bin/k3rs", "etc/passwd"] {
            rt::fs::create_dir_all(root.join(name).parent().unwrap(), 0o755).unwrap();
            rt::fs::write(root.join(name), b"own", 0o755).unwrap();
        }
        furnish(&root, &bin);
        assert_eq!(read(root.join("bin/k3rs")), "own");
        assert_eq!(read(root.join("bin/sh")), "root/bin/busybox");
        assert_eq!(read(root.join("etc/passwd")), "own");
        assert_eq!(read(root.join("etc/group")), "root/etc/group");
        rt::fs::remove_dir_all(root.parent().unwrap()).unwrap();
    }
}
