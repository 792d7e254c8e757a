//! Blocking disk helpers with the durability we promise; call them at start or inside `unblock`.

use std::fs::{self, OpenOptions};
pub use std::fs::{File, Metadata, metadata, symlink_metadata};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use stdx::Arrange;
use stdx::{Context, Result};
use sys::file::Links;
pub use sys::file::SMALL_MAX_BYTES;

/// Reads a whole file.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    fs::read(path).context(|| format!("read {}", path.display()))
}

/// Reads a whole file as UTF-8 text.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).context(|| format!("read {}", path.display()))
}

/// Reads a file that may be absent.
pub fn read_optional(path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
    let path = path.as_ref();
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(|| format!("read {}", path.display())),
    }
}

/// At most `max_bytes` of a regular file that others may have written, from its beginning. Anything else of
/// that name (a link, a pipe, a device) is an error and is never waited for.
pub fn read_beginning(path: impl AsRef<Path>, max_bytes: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let path = path.as_ref();
    let what = || format!("read {}", path.display());
    let file = sys::file::open_regular(path, Links::Refuse).context(what)?;
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes).context(what)?;
    Ok(bytes)
}

/// A record of ours that may be absent: a regular file, no link, of at most `max_bytes`.
pub fn read_record(path: impl AsRef<Path>, max_bytes: u64) -> Result<Option<Vec<u8>>> {
    let path = path.as_ref();
    match sys::file::read_within(path, max_bytes, Links::Refuse) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).context(|| format!("read {}", path.display())),
    }
}

/// What an operator wrote or the kernel says, links followed: a regular file of at most `max_bytes`.
pub fn read_within(path: impl AsRef<Path>, max_bytes: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    sys::file::read_within(path, max_bytes, Links::Follow)
        .context(|| format!("read {}", path.display()))
}

/// As [`read_within`] of what is small, as UTF-8 text.
pub fn read_small_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let bytes = read_within(path, SMALL_MAX_BYTES)?;
    String::from_utf8(bytes).context(|| format!("read {}", path.display()))
}

/// Opens a log: a regular file in directories of ours, the last `n_own` names of the path, none of them a link.
pub fn open_beneath(path: impl AsRef<Path>, n_own: usize) -> Result<File> {
    let path = path.as_ref();
    sys::file::open_beneath(path, n_own).context(|| format!("open {}", path.display()))
}

/// Writes a file so that a power cut leaves the old content or the new, never a part:
/// temporary file, fsync, rename, fsync of the directory.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    let path = path.as_ref();
    let what = || format!("write {}", path.display());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().context(what)?.to_string_lossy();
    let temp = dir.join(format!(".{name}.{}", temporary_suffix()));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temp)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written.context(what)
}

/// Makes a file of this process's own hold these bytes with this mode; one that is so already is not written, for each
/// write costs a start time and a flash memory a part of its life.
pub fn keep(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    let path = path.as_ref();
    let is_own = |file: Metadata| {
        let own = (sys::process::effective_uid(), sys::process::effective_gid());
        file.permissions().mode() & 0o7777 == mode && (file.uid(), file.gid()) == own
    };
    let is_kept =
        symlink_metadata(path).is_ok_and(is_own) && read_optional(path)?.as_deref() == Some(bytes);
    if is_kept { Ok(()) } else { write_atomic(path, bytes, mode) }
}

/// Makes the names in a directory outlive a power cut.
pub fn sync_dir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .context(|| format!("sync directory {}", path.display()))
}

/// Copies a file's content with the promise of [`write_atomic`], without holding it in memory.
pub fn copy_atomic(from: impl AsRef<Path>, to: impl AsRef<Path>, mode: u32) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let what = || format!("copy {} to {}", from.display(), to.display());
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = to.file_name().context(what)?.to_string_lossy();
    let temp = dir.join(format!(".{name}.{}", temporary_suffix()));
    let written = (|| {
        let mut source = File::open(from)?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temp)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        io::copy(&mut source, &mut file)?;
        file.sync_all()?;
        fs::rename(&temp, to)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written.context(what)
}

/// Opens an existing file for reading; for descriptors that are handed to the kernel.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    File::open(path).context(|| format!("open {}", path.display()))
}

/// Opens a device whose reads shall not wait.
pub fn open_nonblocking(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let opened = OpenOptions::new().read(true).custom_flags(sys::file::O_NONBLOCK).open(path);
    opened.context(|| format!("open {}", path.display()))
}

/// Opens a terminal for reading and writing, without making it anybody's controlling terminal.
pub fn open_terminal(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let opened =
        OpenOptions::new().read(true).write(true).custom_flags(sys::file::O_NOCTTY).open(path);
    opened.context(|| format!("open {}", path.display()))
}

/// Makes a file that must not exist yet, without waiting for the disk; `false` if it exists.
/// For records that mean nothing after a power cut.
pub fn create_new(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<bool> {
    let path = path.as_ref();
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    match opened.and_then(|mut file| file.write_all(bytes)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).context(|| format!("make {}", path.display())),
    }
}

/// Writes into an existing file in one write, in place: for `/proc`, `/sys` and the like.
pub fn write_in_place(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let opened = OpenOptions::new().write(true).open(path);
    opened
        .and_then(|mut file| file.write_all(bytes))
        .context(|| format!("write {}", path.display()))
}

/// No two writers of one file may meet in its temporary file.
fn temporary_suffix() -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}.tmp", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
}

/// Replaces a file in one step without forcing it to disk, for state that does not outlive the boot.
pub fn replace(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    let path = path.as_ref();
    let what = || format!("write {}", path.display());
    let mut temp = path.as_os_str().to_owned();
    temp.push(format!(".{}", temporary_suffix()));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temp)?;
        file.write_all(bytes)?;
        fs::rename(&temp, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written.context(what)
}

/// Makes a directory and its parents; existing ones keep their mode.
pub fn create_dir_all(path: impl AsRef<Path>, mode: u32) -> Result<()> {
    let path = path.as_ref();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .context(|| format!("make directory {}", path.display()))
}

/// Removes a file; an absent one is fine.
pub fn remove_file(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory with all it holds, or a link itself; an absent one is fine. Whatever images and
/// containers made of it: no depth is too much, no link is followed, no mount point is entered.
pub fn remove_dir_all(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match sys::tree::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory that holds nothing; an absent one is fine.
pub fn remove_empty_dir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file without waiting for the disk: for what is made again after a crash anyway.
pub fn write(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    let path = path.as_ref();
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)
    })();
    written.context(|| format!("write {}", path.display()))
}

/// Sets the mode bits, whatever the umask; what is a symbolic link is refused, and not followed.
pub fn set_mode(path: impl AsRef<Path>, mode: u32) -> Result<()> {
    let path = path.as_ref();
    let what = || format!("set the mode of {}", path.display());
    // Without a last name (`/`) it cannot be a link.
    let Some(name) = path.file_name() else {
        return fs::set_permissions(path, fs::Permissions::from_mode(mode)).context(what);
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = sys::file::open_dir(parent.unwrap_or(Path::new("."))).context(what)?;
    sys::tree::set_mode_at(parent.as_fd(), Path::new(name), mode).context(what)
}

/// Sets owner and group (`None` leaves one as it is), not following a symbolic link.
pub fn set_owner(path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let path = path.as_ref();
    std::os::unix::fs::lchown(path, uid, gid)
        .context(|| format!("set the owner of {}", path.display()))
}

/// Renames, replacing what was at `to`.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    fs::rename(from, to).context(|| format!("rename {} to {}", from.display(), to.display()))
}

/// Fails, saying why, if a file cannot be made in `dir`.
pub fn check_writable(dir: impl AsRef<Path>) -> Result<()> {
    let probe = dir.as_ref().join(format!(".probe.{}", std::process::id()));
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe);
    made.context(|| format!("write in {}", dir.as_ref().display()))?;
    remove_file(&probe)
}

/// What may still be written to the file system that holds `path`.
pub fn available_bytes(path: impl AsRef<Path>) -> Result<u64> {
    let path = path.as_ref();
    let space =
        sys::space::of(path).context(|| format!("ask for the room at {}", path.display()))?;
    Ok(space.available_bytes)
}

/// Opens a file to append to, making it (0600) if absent.
pub fn open_append(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .context(|| format!("open {}", path.display()))
}

/// A directory's lock; see [`lock`].
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] File);

/// Takes the lock that keeps two processes from one directory; it lasts as long as the value.
///
/// # Errors
/// If another process has it (`WouldBlock`), or the file cannot be made.
pub fn lock(path: impl AsRef<Path>) -> Result<Lock> {
    let path = path.as_ref();
    let what = || format!("lock {}", path.display());
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .context(what)?;
    file.try_lock().map_err(io::Error::from).context(what)?;
    Ok(Lock(file))
}

/// As [`lock`], and waits while another process has it.
///
/// # Errors
/// If the file cannot be made.
pub fn lock_after_others(path: impl AsRef<Path>) -> Result<Lock> {
    let path = path.as_ref();
    let what = || format!("lock {}", path.display());
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.context(what)?;
    file.lock().context(what)?;
    Ok(Lock(file))
}

/// The entries of a directory, sorted; an absent directory has none.
pub fn list_dir(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(|| format!("list {}", path.display())),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.context(|| format!("list {}", path.display()))?.path());
    }
    paths.arrange();
    Ok(paths)
}

/// The names in a directory, and which are directories themselves (links are not), unsorted and without
/// asking about each: for walks through large trees. An unreadable directory has none.
pub fn dir_names(path: impl AsRef<Path>) -> Vec<(std::ffi::OsString, bool)> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| (entry.file_name(), entry.file_type().is_ok_and(|kind| kind.is_dir())))
        .collect()
}

/// Where a symbolic link points; `None` if there is no link.
pub fn read_link(path: impl AsRef<Path>) -> Option<PathBuf> {
    fs::read_link(path).ok()
}

/// Points the symbolic link `link` at `target`, replacing what was there in one step, unless it points there.
pub fn symlink_atomic(target: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<()> {
    let (target, link) = (target.as_ref(), link.as_ref());
    if read_link(link).as_deref() == Some(target) {
        return Ok(());
    }
    let mut temp = link.as_os_str().to_owned();
    temp.push(format!(".{}", temporary_suffix()));
    let linked = (|| {
        let _ = fs::remove_file(&temp);
        std::os::unix::fs::symlink(target, &temp)?;
        fs::rename(&temp, link)
    })();
    linked.context(|| format!("link {} to {}", link.display(), target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_write_replaces_and_leaves_no_temporary() {
        let dir = std::env::temp_dir().join(format!("rt-fs-{}", std::process::id()));
        create_dir_all(&dir, 0o700).unwrap();
        let path = dir.join("a");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o644).unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(list_dir(&dir).unwrap(), [path]);
        remove_dir_all(&dir).unwrap();
        assert!(read_optional(dir.join("a")).unwrap().is_none());
    }

    #[test]
    fn what_is_as_it_should_be_is_not_written() {
        use std::os::unix::fs::MetadataExt;
        let dir = std::env::temp_dir().join(format!("rt-fs-keep-{}", std::process::id()));
        create_dir_all(&dir, 0o700).unwrap();
        let (path, link) = (dir.join("a"), dir.join("b"));
        let mut before = ((0, 0), (0, 0));
        // Content, mode, the link's target, and whether file and link are made anew.
        for (bytes, mode, target, file_is_new, link_is_new) in [
            (&b"one"[..], 0o600, "a", true, true),
            (b"one", 0o600, "a", false, false),
            (b"two", 0o600, "c", true, true),
            (b"two", 0o640, "c", true, false),
        ] {
            keep(&path, bytes, mode).unwrap();
            symlink_atomic(target, &link).unwrap();
            // Of the last change: a file that replaces another may get its number.
            let changed = |path| symlink_metadata(path).map(|file| (file.ino(), file.ctime_nsec()));
            let (file, linked) = (changed(&path).unwrap(), changed(&link).unwrap());
            assert_eq!((file != before.0, linked != before.1), (file_is_new, link_is_new));
            assert_eq!(
                (read(&path).unwrap(), read_link(&link).unwrap()),
                (bytes.into(), target.into())
            );
            assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            before = (file, linked);
        }
        remove_dir_all(&dir).unwrap();
    }

    /// Fails where the C library's time has 32 bits.
    #[test]
    fn files_live_past_2038() {
        let path = std::env::temp_dir().join(format!("rt-fs-2065-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let late = std::time::UNIX_EPOCH + std::time::Duration::from_secs(3_000_000_000);
        file.set_modified(late).unwrap();
        let kept = metadata(&path).unwrap().modified().unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(kept, late);
    }
}
