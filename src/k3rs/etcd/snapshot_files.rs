//! Snapshots as files of a directory: listed, written whole or not at all, and removed.

use crate::settings::snapshot_flags::ZIP;
use std::io::Write;
use std::path::{Path, PathBuf};

use api::Value;
use datastore::embedded::Sink;
use rt::BoxFuture;
use stdx::time::Wall;
use stdx::{Arrange, Context, Error, Result};

/// What a file is called while it is written.
const PART: &str = ".part";
/// More in one directory are not looked at.
const FILES_MAX: usize = 10_000;
pub(crate) const METADATA_MAX_BYTES: u64 = 1 << 20;
/// What stays free for the others that write there.
const RESERVE_BYTES: u64 = 16 << 20;

/// A snapshot in a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    pub(crate) name: String,
    /// Its URL: `file://` and its path, or `s3://`, bucket and key.
    pub(crate) location: String,
    pub(crate) bytes: u64,
    pub(crate) created: Wall,
    /// What was told of it when it was taken: a map of texts.
    pub(crate) metadata: Value,
    /// Of one in a bucket: who took it, "" if nobody says.
    pub(crate) node: String,
    pub(crate) token_hash: String,
    /// Of one in a bucket: what the API tells of that.
    pub(crate) s3: Value,
}

impl File {
    pub(crate) fn is_compressed(&self) -> bool {
        self.name.ends_with(ZIP)
    }
}

/// Whether a name is one of a file here.
///
/// # Errors
/// In k3s's words.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.contains(['/', '\0']) || name == ".." || name == "." {
        return Err(Error::new("invalid snapshot name: path traversal not allowed"));
    }
    if name.is_empty() || name.starts_with('.') || name.chars().any(char::is_control) {
        return Err(Error::new(format!("invalid snapshot name: {name:?}")));
    }
    Ok(())
}

/// The time in a name, which k3s puts at its end.
pub(crate) fn time_in(name: &str) -> Option<Wall> {
    let name = name.strip_suffix(ZIP).unwrap_or(name);
    let digits = name.rsplit('-').next()?;
    // A year of five digits is none of ours.
    digits.parse().ok().filter(|secs| (0..250_000_000_000i64).contains(secs)).map(Wall::from_secs)
}

/// All of a directory, the oldest first; an absent directory has none.
pub(crate) fn list(dir: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for path in rt::fs::list_dir(dir)?.into_iter().take(FILES_MAX) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // One may go meanwhile.
        let Ok(about) = rt::fs::symlink_metadata(&path) else { continue };
        if !about.is_file() || check_name(name).is_err() {
            continue;
        }
        let changed = about.modified().ok();
        let changed = changed
            .and_then(|at| at.duration_since(std::time::SystemTime::UNIX_EPOCH).ok())
            .map_or(0, |age| age.as_secs());
        let changed = Wall::from_secs(i64::try_from(changed).unwrap_or(0));
        files.push(File {
            name: name.to_owned(),
            location: format!("file://{}", path.display()),
            bytes: about.len(),
            created: time_in(name).unwrap_or(changed),
            metadata: metadata(dir, name),
            ..File::default()
        });
    }
    files.arrange_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(files)
}

/// Where it lies what was told of a snapshot: beside the directory of snapshots, as k3s has it.
pub(crate) fn metadata_file(dir: &Path, name: &str) -> PathBuf {
    dir.parent().unwrap_or(dir).join(".metadata").join(name)
}

fn metadata(dir: &Path, name: &str) -> Value {
    let text = rt::fs::read_record(metadata_file(dir, name), METADATA_MAX_BYTES);
    let tree = text.ok().flatten().and_then(|text| serde_json::from_slice(&text).ok());
    tree.filter(Value::is_object).unwrap_or_default()
}

/// Keeps what is told of a snapshot; nothing makes no file.
pub(crate) fn keep_metadata(dir: &Path, name: &str, metadata: &Value) -> Result<()> {
    if metadata.as_object().is_none_or(|map| map.is_empty()) {
        return Ok(());
    }
    let file = metadata_file(dir, name);
    rt::fs::create_dir_all(file.parent().unwrap_or(dir), 0o700)?;
    rt::fs::write_atomic(file, metadata.to_string().as_bytes(), 0o600)
}

/// Removes a snapshot; says whether there was one.
pub(crate) fn remove(dir: &Path, name: &str) -> Result<bool> {
    check_name(name)?;
    let file = dir.join(name);
    if !rt::fs::symlink_metadata(&file).is_ok_and(|about| about.is_file()) {
        return Ok(false);
    }
    rt::fs::remove_file(file)?;
    rt::fs::remove_file(metadata_file(dir, name))?;
    Ok(true)
}

/// A snapshot being written; dropped before it is finished, nothing of it stays.
pub(crate) struct Part {
    dir: PathBuf,
    name: String,
    temp: PathBuf,
    writing: Option<Writing>,
}

struct Writing {
    file: rt::fs::File,
    zip: Option<wire::zip::Writer>,
    packed: Vec<u8>,
}

impl Part {
    /// Begins one, after what an earlier process of this node left half written is gone.
    ///
    /// # Errors
    /// If the directory cannot be written to.
    pub(crate) fn begin(dir: &Path, node: &str, name: &str) -> Result<Part> {
        let mut part = Part::begin_as_is(dir, node, name)?;
        if let Some(writing) = &mut part.writing {
            writing.zip = name.strip_suffix(ZIP).map(wire::zip::Writer::new);
        }
        Ok(part)
    }

    /// The same, of what is compressed already if it is.
    ///
    /// # Errors
    /// If the directory cannot be written to.
    pub(crate) fn begin_as_is(dir: &Path, node: &str, name: &str) -> Result<Part> {
        rt::fs::create_dir_all(dir, 0o700)?;
        let node = format!("-{node}-");
        for path in rt::fs::list_dir(dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') && name.ends_with(PART) && name.contains(&node) {
                rt::fs::remove_file(&path)?;
            }
        }
        let temp = dir.join(format!(".{name}{PART}"));
        let file = rt::fs::open_append(&temp)?;
        let writing = Some(Writing { file, zip: None, packed: Vec::new() });
        Ok(Part { dir: dir.to_owned(), name: name.to_owned(), temp, writing })
    }

    /// Gives it its name, once all of it is on the disk.
    pub(crate) async fn finish(mut self) -> Result<()> {
        self.write(Vec::new(), true).await?;
        let file = self.writing.take().map(|writing| writing.file);
        let (temp, to, dir) = (self.temp.clone(), self.dir.join(&self.name), self.dir.clone());
        rt::unblock(move || {
            if let Some(file) = file {
                file.sync_all().context(|| format!("write {}", to.display()))?;
            }
            rt::fs::rename(temp, to)?;
            rt::fs::sync_dir(dir)
        })
        .await
    }

    async fn write(&mut self, bytes: Vec<u8>, last: bool) -> Result<()> {
        let what = format!("write {}", self.temp.display());
        let mut writing = self.writing.take().context(|| what.clone())?;
        let written = rt::unblock(move || {
            let Writing { file, zip, packed } = &mut writing;
            match zip {
                Some(zip) => {
                    zip.push(&bytes, last, packed)?;
                    file.write_all(packed)?;
                    packed.clear();
                }
                None => file.write_all(&bytes)?,
            }
            Ok::<_, std::io::Error>(writing)
        });
        self.writing = Some(written.await.context(|| what)?);
        Ok(())
    }
}

impl Sink for Part {
    fn begin(&mut self, bytes: u64) -> Result<()> {
        let available = rt::fs::available_bytes(&self.dir)?;
        match available >= bytes.saturating_add(RESERVE_BYTES) {
            true => Ok(()),
            false => Err(Error::new(format!(
                "a snapshot of {bytes} bytes finds no room in {}: {available} are free",
                self.dir.display()
            ))),
        }
    }

    fn put(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.write(bytes, false))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After it was finished there is none.
        let _ = rt::fs::remove_file(&self.temp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_listed_and_what_is_broken_off_is_not() {
        let dir = std::env::temp_dir().join(format!("k3rs-snapshots-{}", std::process::id()));
        let snapshots = dir.join("snapshots");
        rt::block_on(async {
            for name in ["b-n1-1800000000", "a-n1-1800000000", "c-n1-1700000000.zip"] {
                let mut part = Part::begin(&snapshots, "n1", name).unwrap();
                part.put(vec![b'x'; 5000]).await.unwrap();
                part.put(vec![b'y'; 5000]).await.unwrap();
                assert!(list(&snapshots).unwrap().iter().all(|file| file.name != name));
                part.finish().await.unwrap();
            }
            let mut part = Part::begin(&snapshots, "n1", "d-n1-1").unwrap();
            assert!(Sink::begin(&mut part, u64::MAX).is_err(), "no disk has that room");
            drop(part);
        });
        let told = serde_json::json!({"a": "b"});
        keep_metadata(&snapshots, "a-n1-1800000000", &told).unwrap();
        let files = list(&snapshots).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["c-n1-1700000000.zip", "a-n1-1800000000", "b-n1-1800000000"]);
        assert_eq!((files[1].bytes, &files[1].metadata), (10_000, &told));
        assert!(files[0].bytes < 500 && files[0].is_compressed());
        assert_eq!(files[1].location, format!("file://{}/a-n1-1800000000", snapshots.display()));
        assert!(remove(&snapshots, "a-n1-1800000000").unwrap());
        assert!(!remove(&snapshots, "a-n1-1800000000").unwrap());
        assert!(remove(&snapshots, "../x").is_err());
        assert_eq!(list(&snapshots).unwrap().len(), 2);
        assert!(rt::fs::dir_names(dir.join(".metadata")).is_empty());
        // What a process left that was killed.
        rt::fs::write(snapshots.join(".e-n1-5.part"), b"", 0o600).unwrap();
        rt::fs::write(snapshots.join(".e-n2-5.part"), b"", 0o600).unwrap();
        drop(Part::begin(&snapshots, "n1", "f-n1-6").unwrap());
        let left = rt::fs::dir_names(&snapshots);
        assert!(
            left.iter().filter(|(name, _)| name.to_string_lossy().starts_with('.')).count() == 1
        );
        rt::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn names() {
        for (name, fine) in [
            ("a", true),
            ("on-demand-n1-1", true),
            ("", false),
            (".x", false),
            ("a/b", false),
            ("..", false),
            ("a\n", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fine, "{name:?}");
        }
        for (name, secs) in [
            ("a-1800000000", Some(1_800_000_000)),
            ("a-1800000000.zip", Some(1_800_000_000)),
            ("a-n1", None),
            ("a-99999999999999999", None),
        ] {
            assert_eq!(time_in(name).map(Wall::secs), secs, "{name}");
        }
    }
}
