//! Writes a volume's files so that readers see all of one version or all of the next.
//!
//! The layout is upstream's: `..data` is a link to a timestamped directory that holds the files, and
//! each name at the top is a link through `..data`. Replacing `..data` replaces everything at once.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use stdx::{Context, Result};
use stdx::{OrdSet, time::Wall};

use super::payload::{File, Payload};

const DATA: &str = "..data";

/// Makes `target` hold exactly `payload`; true if that changed anything. Blocking.
pub(crate) fn write(
    target: &Path,
    payload: &Payload,
    fs_group: Option<u32>,
    now: Wall,
) -> Result<bool> {
    rt::fs::create_dir_all(target, 0o755)?;
    rt::fs::set_mode(target, 0o755)?;
    if is_current(target, payload, fs_group) {
        return Ok(false);
    }
    let version = version_name(now);
    let directory = target.join(&version);
    rt::fs::remove_dir_all(&directory)?;
    rt::fs::create_dir_all(&directory, 0o755)?;
    rt::fs::set_mode(&directory, 0o755)?;
    for (path, file) in payload {
        write_file(&directory, path, file, fs_group)?;
    }
    let old = target.join(DATA).read_link().ok();
    rt::fs::symlink_atomic(&version, target.join(DATA))?;
    link_names(target, payload)?;
    if let Some(old) = old.filter(|old| *old != Path::new(&version)) {
        rt::fs::remove_dir_all(target.join(old))?;
    }
    Ok(true)
}

/// `..2024_01_31_12_00_00.123456789`
fn version_name(now: Wall) -> String {
    let text = api::time::format(now);
    let stamp: String = text
        .chars()
        .filter(|c| *c != 'Z')
        .map(|c| if c.is_ascii_digit() { c } else { '_' })
        .collect();
    format!("..{stamp}.{:09}", now.subsec_nanos())
}

fn write_file(directory: &Path, path: &str, file: &File, fs_group: Option<u32>) -> Result<()> {
    let full = directory.join(path);
    if let Some(parent) = full.parent() {
        rt::fs::create_dir_all(parent, 0o755)?;
    }
    rt::fs::write(&full, file.bytes.reveal(), mode_for(file, fs_group))?;
    if file.uid.is_some() || fs_group.is_some() {
        rt::fs::set_owner(&full, file.uid, fs_group)?;
        rt::fs::set_mode(&full, mode_for(file, fs_group))?;
    }
    Ok(())
}

/// Members of the volume's group may read what is read-only for everyone.
fn mode_for(file: &File, fs_group: Option<u32>) -> u32 {
    file.mode | if fs_group.is_some() { 0o440 } else { 0 }
}

fn is_current(target: &Path, payload: &Payload, fs_group: Option<u32>) -> bool {
    let data = target.join(DATA);
    if data.read_link().is_err() {
        return false;
    }
    let same = |path: &String, file: &File| {
        let full = data.join(path);
        let Ok(metadata) = full.metadata() else { return false };
        metadata.mode() & 0o777 == mode_for(file, fs_group)
            && rt::fs::read_beginning(&full, file.bytes.reveal().len() as u64 + 1)
                .is_ok_and(|bytes| bytes == *file.bytes.reveal())
    };
    payload.iter().all(|(path, file)| same(path, file))
        && count_files(&data).is_ok_and(|count| count == payload.len())
}

fn count_files(directory: &Path) -> Result<usize> {
    let mut count = 0;
    // `..data` is itself a link, so list through it.
    for path in rt::fs::list_dir(directory)? {
        count += if path.is_dir() { count_files(&path)? } else { 1 };
    }
    Ok(count)
}

/// One link for each first path component; links of names that are gone are removed.
fn link_names(target: &Path, payload: &Payload) -> Result<()> {
    let wanted: OrdSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = target.join(name);
        let to = Path::new(DATA).join(name);
        if link.read_link().ok().as_deref() != Some(&*to) {
            rt::fs::symlink_atomic(&to, &link).context(|| "publish a volume's file")?;
        }
    }
    for path in rt::fs::list_dir(target)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if !name.starts_with("..") && !wanted.contains(name) && path.is_symlink() {
            rt::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { bytes: text.as_bytes().to_vec().into(), mode: 0o640, uid: None }
    }

    #[test]
    fn versions_replace_each_other() {
        let dir = crate::testing::directory("atomic");
        let target = dir.path().join("v");
        let read = |name: &str| rt::fs::read_text(target.join(name)).ok();
        let one: Payload = [("a".into(), file("1")), ("d/b".into(), file("2"))].into();
        assert!(write(&target, &one, None, Wall::from_secs(1)).unwrap());
        assert!(!write(&target, &one, None, Wall::from_secs(2)).unwrap(), "unchanged");
        assert_eq!((read("a").as_deref(), read("d/b").as_deref()), (Some("1"), Some("2")));
        assert_eq!(target.join("a").metadata().unwrap().mode() & 0o777, 0o640);
        let two: Payload = [("a".into(), file("3"))].into();
        assert!(write(&target, &two, None, Wall::from_secs(3)).unwrap());
        assert_eq!((read("a").as_deref(), read("d/b")), (Some("3"), None));
        assert_eq!(
            target.join(DATA).read_link().unwrap().to_str(),
            Some("..1970_01_01_00_00_03.000000000")
        );
        assert_eq!(rt::fs::list_dir(&target).unwrap().len(), 3, "version, ..data and a");
    }
}
