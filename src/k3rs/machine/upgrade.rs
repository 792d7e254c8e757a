//! What is kept of the version before: its data, as they were when another version first started on them.
//!
//! `<data-dir>/version` names the version that ran last. A start of another one copies the datastore, which nobody has open then,
//! and the keys beside it to `server/db/rollback/<version before>`; `k3rs rollback` puts them back. What several servers share is
//! not one server's to put back: of an embedded etcd a snapshot is taken, of a database nothing.

use std::path::{Path, PathBuf};

use cluster::Paths;
use stdx::version::VERSION;
use stdx::{Arrange, Context, Error, Result};

/// Of so many versions before the data are kept.
const KEPT_MAX: usize = 2;
const VERSION_MAX_BYTES: u64 = 64;
/// Of a data directory from before versions were written down.
pub(crate) const UNKNOWN: &str = "unknown";
/// Folders below `server` that go with the datastore: its keys are there.
pub(crate) const BESIDE: [&str; 2] = ["cred", "tls"];
/// Deeper than any folder of ours.
const DEPTH_MAX: usize = 8;

fn record(paths: &Paths) -> PathBuf {
    paths.data_dir().join("version")
}

/// Where the data of versions before lie.
pub(crate) fn kept(paths: &Paths) -> PathBuf {
    paths.server().join("db").join("rollback")
}

/// The version that ran last.
pub(crate) fn last(paths: &Paths) -> Result<Option<String>> {
    let text = rt::fs::read_record(record(paths), VERSION_MAX_BYTES)?;
    let text = text.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    // It becomes the name of a folder.
    let is_plain = |text: &String| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-'))
            && !text.starts_with('.')
    };
    Ok(text.filter(is_plain))
}

pub(crate) fn write(paths: &Paths, version: &str) -> Result<()> {
    rt::fs::keep(record(paths), format!("{version}\n").as_bytes(), 0o644)
}

/// Where another version ran last, or one that wrote nothing down: which. Its data are kept before this one touches them.
///
/// # Errors
/// If it was of a later minor version, whose data this one may not understand.
pub(crate) fn begin(paths: &Paths) -> Result<Option<String>> {
    let last = last(paths)?;
    if last.as_deref() == Some(VERSION) {
        return Ok(None);
    }
    let has_data = paths.datastore().exists() || paths.etcd().exists() || paths.tls("").exists();
    if last.is_none() && !has_data {
        write(paths, VERSION)?;
        return Ok(None);
    }
    let last = last.unwrap_or_else(|| UNKNOWN.to_owned());
    if minor(&last) > minor(VERSION) {
        return Err(Error::new(format!(
            "k3rs {last} ran on {} last, which is later than this {VERSION}: start that version, or go back with k3rs rollback",
            paths.data_dir().display()
        )));
    }
    log::info!("k3rs {last} ran here last, this is {VERSION}");
    if paths.datastore().exists() {
        match keep(paths, &last) {
            Ok(folder) => log::info!("Kept its data in {} for k3rs rollback", folder.display()),
            // A start that fails for a full disk would be worse.
            Err(error) => {
                log::error!("its data are not kept, so there is no rollback to them: {error}")
            }
        }
    }
    write(paths, VERSION)?;
    Ok(Some(last))
}

/// `(1, 32)` of `v1.32.9+k3rs1`; what is none is older than all.
fn minor(version: &str) -> (u32, u32) {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

fn keep(paths: &Paths, version: &str) -> Result<PathBuf> {
    let all = kept(paths);
    let (folder, new) = (all.join(version), all.join(".new"));
    rt::fs::remove_dir_all(&new)?;
    rt::fs::create_dir_all(&new, 0o700)?;
    let datastore = paths.datastore();
    for name in ["state.db", "state.db-wal"] {
        let from = datastore.with_file_name(name);
        if from.exists() {
            rt::fs::copy_atomic(&from, new.join(name), 0o600)?;
        }
    }
    for name in BESIDE {
        copy_folder(&paths.server().join(name), &new.join(name))?;
    }
    rt::fs::remove_dir_all(&folder)?;
    rt::fs::rename(&new, &folder)?;
    rt::fs::sync_dir(&all)?;
    // The newest last.
    let mut folders: Vec<_> = rt::fs::list_dir(&all)?
        .into_iter()
        .filter_map(|path| Some((rt::fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    folders.arrange();
    for (_, path) in folders.iter().rev().filter(|(_, path)| *path != folder).skip(KEPT_MAX - 1) {
        rt::fs::remove_dir_all(path)?;
    }
    Ok(folder)
}

/// Copies files and links of a folder of ours.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut rest = vec![(from.to_owned(), to.to_owned(), 0)];
    while let Some((from, to, depth)) = rest.pop() {
        rt::fs::create_dir_all(&to, 0o700)?;
        for path in rt::fs::list_dir(&from)? {
            let name = path.file_name().context(|| format!("copy {}", path.display()))?;
            let there = to.join(name);
            let file = rt::fs::symlink_metadata(&path);
            let file = file.context(|| format!("look at {}", path.display()))?;
            if let Some(target) = rt::fs::read_link(&path) {
                rt::fs::symlink_atomic(target, there)?;
            } else if file.is_dir() && depth < DEPTH_MAX {
                rest.push((path, there, depth + 1));
            } else if file.is_file() {
                rt::fs::copy_atomic(&path, there, file.permissions().mode() & 0o777)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_minor() {
        assert_eq!(minor("v1.32.9+k3rs1"), (1, 32));
        assert!(minor("v1.33.0+k3rs1") > minor(VERSION) && minor(UNKNOWN) < minor(VERSION));
        assert_eq!(minor("v1"), (0, 0));
    }

    #[test]
    fn data_are_kept_once_for_each_of_two_versions() {
        let dir = std::env::temp_dir().join(format!("k3rs-upgrade-{}", std::process::id()));
        let paths = Paths::new(&dir);
        rt::fs::create_dir_all(&dir, 0o700).unwrap();
        assert_eq!(begin(&paths).unwrap(), None, "a fresh directory has nothing to keep");
        assert_eq!(last(&paths).unwrap().as_deref(), Some(VERSION));
        rt::fs::create_dir_all(paths.tls("etcd"), 0o700).unwrap();
        rt::fs::create_dir_all(paths.cred(""), 0o700).unwrap();
        rt::fs::create_dir_all(paths.server().join("db"), 0o700).unwrap();
        rt::fs::write(paths.tls("etcd/ca.crt"), b"ca", 0o600).unwrap();
        for (n, version) in ["v1.32.1+k3rs1", "v1.32.2+k3rs1", "v1.32.3+k3rs1"].iter().enumerate() {
            rt::fs::write(paths.datastore(), &[u8::try_from(n).unwrap()], 0o600).unwrap();
            write(&paths, version).unwrap();
            assert_eq!(begin(&paths).unwrap().as_deref(), Some(*version));
            assert_eq!(begin(&paths).unwrap(), None, "the second start keeps nothing");
            let folder = kept(&paths).join(version);
            assert_eq!(rt::fs::read(folder.join("state.db")).unwrap(), [u8::try_from(n).unwrap()]);
            assert_eq!(rt::fs::read(folder.join("tls/etcd/ca.crt")).unwrap(), b"ca");
        }
        assert_eq!(rt::fs::list_dir(kept(&paths)).unwrap().len(), KEPT_MAX);
        write(&paths, "v1.33.0+k3rs1").unwrap();
        let why = begin(&paths).unwrap_err().to_string();
        assert!(why.contains("is later than this") && why.contains("k3rs rollback"), "{why}");
        rt::fs::write(record(&paths), b"../../x\n", 0o644).unwrap();
        assert_eq!(last(&paths).unwrap(), None);
        rt::fs::remove_dir_all(&dir).unwrap();
    }
}
