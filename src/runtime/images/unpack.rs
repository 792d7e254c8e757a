//! A layer's tar stream into a directory that overlayfs takes as a lower.
//!
//! The layer is hostile: no entry may reach outside the directory, however names and links are
//! arranged, and entries, bytes and extended attributes are bounded.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use stdx::{Context, Error, OrdMap, Result};
use sys::file::{self, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_WRONLY, Special};
use sys::make::{self, Missing};
use sys::rooted;
use sys::tree::{self, Identity, Node};
use wire::tar::{Archive, Entry, Kind};

/// Entries of one layer.
const ENTRIES_MAX: u64 = 1_000_000;
/// Read and dropped after the end mark: what the programs that write archives pad them with is less.
const TRAILER_MAX_BYTES: u64 = 16 << 20;
/// Paths of directories that are remembered until the layer is complete, of one kind.
const REMEMBERED_MAX_BYTES: usize = 16 << 20;
/// Unpacked bytes of one layer; what the disk has free may be less, and bounds it then.
const LAYER_MAX_BYTES: u64 = 32 << 30;
/// Left free on the disk, so that a large layer cannot stop the rest of the node.
pub(super) const DISK_RESERVE_BYTES: u64 = 16 << 20;

/// What a layer became.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Directories that entries are in but that no entry describes: `finish` gives them the
    /// attributes they have in the layers below. Which they are, and where they were made.
    implied: OrdMap<Identity, PathBuf>,
    implied_bytes: usize,
}

impl Unpacked {
    fn imply(&mut self, directory: Identity, path: PathBuf) -> Result<()> {
        self.implied_bytes += path.as_os_str().len() + size_of::<(Identity, PathBuf)>();
        if self.implied_bytes > REMEMBERED_MAX_BYTES {
            return Err(Error::new("too many directories that no entry describes"));
        }
        self.implied.insert(directory, path);
        Ok(())
    }
}

/// Unpacks into `root`, an empty directory, leaving so much free on the disk.
///
/// # Errors
/// Name the entry. What was unpacked so far is for the caller to remove.
pub(super) fn unpack(reader: impl Read, root: &Path, reserve_bytes: u64) -> Result<Unpacked> {
    let space = sys::space::of(root).context(|| "look at the free space")?;
    let bytes_max = space.available_bytes.saturating_sub(reserve_bytes).min(LAYER_MAX_BYTES);
    let opened = file::open_dir(root).context(|| format!("open {}", root.display()))?;
    let mut unpacker = Unpacker {
        root: opened,
        parent: None,
        moved: false,
        bytes_max,
        unpacked: Unpacked::default(),
        directory_times: Vec::new(),
        remembered_bytes: 0,
    };
    let mut archive = Archive::new(reader);
    let mut n_entries = 0;
    while let Some(entry) = archive.next_entry()? {
        n_entries += 1;
        if n_entries > ENTRIES_MAX {
            return Err(Error::new(format!("more than {ENTRIES_MAX} entries")));
        }
        let shown = || format!("entry {:?}", String::from_utf8_lossy(&entry.path));
        unpacker.entry(&entry, &mut archive).context(shown)?;
    }
    unpacker.set_directory_times();
    // The digest covers what follows the end mark, too.
    let mut trailer = archive.into_inner().take(TRAILER_MAX_BYTES + 1);
    let n_trailing = io::copy(&mut trailer, &mut io::sink()).context(|| "read to the end")?;
    if n_trailing > TRAILER_MAX_BYTES {
        return Err(Error::new(format!("more than {TRAILER_MAX_BYTES} bytes follow its end")));
    }
    unpacker.unpacked.inodes = n_entries;
    Ok(unpacker.unpacked)
}

/// Gives implied directories the attributes they have in the layers below, topmost first. A directory
/// that an entry has replaced since, by a link say, is forgotten: only what was made is touched.
pub(super) fn finish(unpacked: &Unpacked, root: &Path, lowers: &[PathBuf]) -> Result<()> {
    let root = file::open_dir(root).context(|| format!("open {}", root.display()))?;
    for (made, path) in &unpacked.implied {
        let Some(directory) = same_directory(root.as_fd(), path, *made) else { continue };
        let found = lowers.iter().find_map(|lower| {
            let lower = file::open_dir(lower).ok()?;
            let there = Node::open_in_root(lower.as_fd(), path).ok()?.metadata().ok()?;
            there.is_dir().then_some(there)
        });
        let Some(metadata) = found else { continue };
        use std::os::unix::fs::MetadataExt;
        let what = || format!("set the attributes of {}", path.display());
        directory.set_owner(Some(metadata.uid()), Some(metadata.gid())).context(what)?;
        directory.set_mode(metadata.mode() & 0o7777).context(what)?;
        let nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
        let _ = directory.set_time(metadata.mtime(), nanos);
    }
    Ok(())
}

/// The directory at `path`, if it is still that one.
fn same_directory(root: BorrowedFd<'_>, path: &Path, identity: Identity) -> Option<Node> {
    let found = Node::open_in_root(root, path).ok()?;
    let is_same = found.metadata().ok()?.is_dir() && found.identity().ok()? == identity;
    is_same.then_some(found)
}

struct Unpacker {
    root: OwnedFd,
    /// The directory of the last entry; neighbours come one after another.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Whether an entry has replaced a directory or a link, so that `parent` may be elsewhere now.
    moved: bool,
    bytes_max: u64,
    unpacked: Unpacked,
    /// Set last, because every file made in a directory changes them: on the directory that was made or
    /// described, and on nothing that took its place.
    directory_times: Vec<(PathBuf, Identity, i64, u32)>,
    remembered_bytes: usize,
}

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
const COPY_BUFFER_BYTES: usize = 64 << 10;

impl Unpacker {
    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let path = clean(&entry.path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // The root itself: its attributes are the container's root's.
            if entry.kind == Kind::Directory {
                let root = file::descriptor_path(self.root.as_fd());
                self.set_attributes(Path::new("."), entry, None)
                    .context(|| format!("set attributes of {}", root.display()))?;
            }
            return Ok(());
        };
        let name_path = Path::new(name);
        if std::mem::take(&mut self.moved) {
            self.parent = None;
        }
        self.open_parent(parent)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT_PREFIX) {
            return self.whiteout(name.as_bytes(), hidden);
        }
        if entry.kind != Kind::Directory {
            self.clear(name_path)?;
        }
        match entry.kind {
            Kind::Directory => {
                match file::make_dir_at(self.at()?, name_path, 0o700) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        let flags = O_PATH | O_NOFOLLOW | O_DIRECTORY;
                        if file::open_at(self.at()?, name_path, flags, 0).is_err() {
                            // Not a directory yet, whatever it was.
                            self.clear(name_path)?;
                            file::make_dir_at(self.at()?, name_path, 0o700)
                                .context(|| "make it")?;
                        }
                    }
                    Err(error) => return Err(error).context(|| "make it"),
                }
                self.described(&path, name_path, entry)?;
            }
            Kind::File => self.write_file(name_path, entry, content)?,
            Kind::SymbolicLink => {
                let target = Path::new(OsStr::from_bytes(&entry.link));
                file::symlink_at(target, self.at()?, name_path).context(|| "make the link")?;
            }
            Kind::HardLink => return self.hard_link(name_path, entry),
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                let (major, minor) = (entry.major, entry.minor);
                let special = match entry.kind {
                    Kind::CharacterDevice => Special::Character { major, minor },
                    Kind::BlockDevice => Special::Block { major, minor },
                    _ => Special::Fifo,
                };
                // Only root can reach into the store, and containers only get at devices that their
                // device cgroup allows, so a node in an image is as harmless as its number.
                file::make_special_at(self.at()?, name_path, special, 0o600)
                    .context(|| "make the node")?;
            }
        }
        let is_directory = entry.kind == Kind::Directory;
        let is_link = entry.kind == Kind::SymbolicLink;
        self.set_attributes(name_path, entry, Some((is_directory, is_link)))
    }

    fn at(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.parent.as_ref().context(|| "no parent directory is open")?.1.as_fd())
    }

    /// A directory has an entry of its own.
    fn described(&mut self, path: &Path, name: &Path, entry: &Entry) -> Result<()> {
        let directory = Node::open(self.at()?, name).and_then(|node| node.identity());
        let directory = directory.context(|| "look at it")?;
        self.unpacked.implied.remove(&directory);
        self.remembered_bytes += path.as_os_str().len() + size_of::<(PathBuf, Identity, i64)>();
        // Times are not worth refusing an image for.
        if self.remembered_bytes <= REMEMBERED_MAX_BYTES {
            let (secs, nanos) = (entry.mtime_secs, entry.mtime_nanos);
            self.directory_times.push((path.to_owned(), directory, secs, nanos));
        }
        Ok(())
    }

    /// Opens (and if need be makes) the directory that the entry is in. Links on the way are followed
    /// as the container would follow them: they cannot lead out. What a link leads to may be in another
    /// layer: then it is made here, too.
    fn open_parent(&mut self, parent: &Path) -> Result<()> {
        if self.parent.as_ref().is_some_and(|(path, _)| path == parent) {
            return Ok(());
        }
        let root = self.root.as_fd();
        let unpacked = &mut self.unpacked;
        let mut refused = Ok(());
        let opened =
            make::make_in_root_telling(root, parent, Missing::Directory, 0o755, &mut |made| {
                let place = tree::place_below(root, made.as_fd())?;
                refused = unpacked.imply(made.identity()?, place);
                if refused.is_err() { Err(io::ErrorKind::QuotaExceeded.into()) } else { Ok(()) }
            });
        refused?;
        let what = || format!("open its directory {}", parent.display());
        let opened = opened.and_then(|found| {
            file::open_at(found.as_fd(), Path::new("."), O_PATH | O_DIRECTORY, 0)
        });
        self.parent = Some((parent.to_owned(), opened.context(what)?));
        Ok(())
    }

    /// Removes what has the entry's name already: a later entry replaces an earlier one.
    fn clear(&mut self, name: &Path) -> Result<()> {
        let found = match Node::open(self.at()?, name) {
            Ok(found) => found.metadata().context(|| "look at what it replaces")?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).context(|| "look at what it replaces"),
        };
        tree::remove_at(self.at()?, name).context(|| "remove what it replaces")?;
        // The directory that is open was perhaps reached through what is gone now.
        self.moved |= found.is_dir() || found.is_symlink();
        Ok(())
    }

    fn whiteout(&mut self, name: &[u8], hidden: &[u8]) -> Result<()> {
        if name == OPAQUE_NAME {
            let (path, dir) = self.parent.as_ref().context(|| "no parent directory is open")?;
            let what = || format!("make {} opaque", path.display());
            let place = file::descriptor_path(dir.as_fd());
            let above = file::open_dir(&place).context(what)?;
            return file::set_xattr_at(above.as_fd(), Path::new("."), OPAQUE_XATTR, b"y")
                .context(what);
        }
        // Other names of this kind are aufs' own bookkeeping.
        if hidden.starts_with(WHITEOUT_PREFIX) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::new("a whiteout that names nothing"));
        }
        let hidden = Path::new(OsStr::from_bytes(hidden));
        self.clear(hidden)?;
        let special = Special::Character { major: 0, minor: 0 };
        file::make_special_at(self.at()?, hidden, special, 0o600).context(|| "make a whiteout")
    }

    fn write_file(&mut self, name: &Path, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let too_large = |total: u64, max: u64| {
            Error::new(format!(
                "it unpacks to {total} bytes or more, there is room for {max} (some is kept free)"
            ))
        };
        if self.unpacked.bytes.saturating_add(entry.size) > self.bytes_max {
            return Err(too_large(self.unpacked.bytes.saturating_add(entry.size), self.bytes_max));
        }
        let flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW;
        let opened = file::open_at(self.at()?, name, flags, 0o600).context(|| "make the file")?;
        let mut out = rt::fs::File::from(opened);
        let mut buf =
            vec![
                0;
                COPY_BUFFER_BYTES.min(usize::try_from(entry.size).unwrap_or(usize::MAX)).max(1)
            ];
        loop {
            let n = match content.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context(|| "read its content"),
            };
            io::Write::write_all(&mut out, &buf[..n]).context(|| "write its content")?;
            self.unpacked.bytes += n as u64;
        }
        Ok(())
    }

    fn hard_link(&mut self, name: &Path, entry: &Entry) -> Result<()> {
        let target = clean(&entry.link)?;
        let what = || format!("link it to {:?}", String::from_utf8_lossy(&entry.link));
        let (parent, target_name) =
            (target.parent().context(what)?, target.file_name().context(what)?);
        let parent = rooted::open_in_root(self.root.as_fd(), parent, O_PATH | O_DIRECTORY, 0)
            .context(what)?;
        file::link_at(parent.as_fd(), Path::new(target_name), self.at()?, name).context(what)
    }

    /// `kind` is (is directory, is symbolic link); none for the root.
    fn set_attributes(&self, name: &Path, entry: &Entry, kind: Option<(bool, bool)>) -> Result<()> {
        let at = match kind {
            Some(_) => self.at()?,
            None => self.root.as_fd(),
        };
        file::set_owner_at(at, name, entry.uid, entry.gid).context(|| "set its owner")?;
        let is_link = kind.is_some_and(|(_, is_link)| is_link);
        if !is_link {
            // After the owner, whose change clears set-user-id bits.
            tree::set_mode_at(at, name, entry.mode).context(|| "set its mode")?;
        }
        for (key, value) in &entry.xattrs {
            // Overlayfs' own attributes would let an image point its files anywhere.
            if key.starts_with("trusted.overlay.") || key.starts_with("user.overlay.") {
                continue;
            }
            match file::set_xattr_at(at, name, key, value) {
                // A file system without this kind of attribute (security modules, say).
                Err(error) if matches!(error.raw_os_error(), Some(EOPNOTSUPP | EPERM)) => {}
                result => result.context(|| format!("set its attribute {key}"))?,
            }
        }
        if !matches!(kind, Some((true, _)) | None) {
            // Best effort: times before 1970 or after 2038 are beyond some file systems.
            let _ = file::set_time_at(at, name, entry.mtime_secs, entry.mtime_nanos);
        }
        Ok(())
    }

    fn set_directory_times(&mut self) {
        for (path, made, secs, nanos) in self.directory_times.drain(..).rev() {
            if let Some(directory) = same_directory(self.root.as_fd(), &path, made) {
                let _ = directory.set_time(secs, nanos);
            }
        }
    }
}

const EPERM: i32 = 1;
const EOPNOTSUPP: i32 = 95;

/// An absolute path without `.`; `..` is refused rather than resolved, because no honest archive has it.
fn clean(path: &[u8]) -> Result<PathBuf> {
    let mut cleaned = PathBuf::from("/");
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Error::new("its path leads out of the root (\"..\")")),
            part if part.contains(&0) => return Err(Error::new("its path holds a zero byte")),
            part => cleaned.push(OsStr::from_bytes(part)),
        }
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests {
    use wire::tar::Builder;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("unpack-{name}-{}", std::process::id()));
            rt::fs::remove_dir_all(&dir).unwrap();
            rt::fs::create_dir_all(dir.join("root"), 0o755).unwrap();
            rt::fs::replace(dir.join("outside"), b"untouched", 0o600).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = rt::fs::remove_dir_all(&self.0);
        }
    }

    fn check(name: &str, entries: &[(Kind, &str, &str)]) -> (Scratch, Result<Unpacked>) {
        let scratch = Scratch::new(name);
        let mut builder = Builder::default();
        for (kind, path, link) in entries {
            let content: &[u8] = if *kind == Kind::File { b"content" } else { b"" };
            let entry = Entry {
                kind: *kind,
                link: link.as_bytes().to_vec(),
                ..Entry::file(path.as_bytes(), 0o755)
            };
            builder.add(&entry, content);
        }
        let result = unpack(builder.finish().as_slice(), &scratch.0.join("root"), 0);
        assert_eq!(rt::fs::read(scratch.0.join("outside")).unwrap(), b"untouched", "{name}");
        assert_eq!(
            rt::fs::list_dir(&scratch.0).unwrap().len(),
            2,
            "{name}: something was made outside"
        );
        (scratch, result)
    }

    fn is_root() -> bool {
        let root = sys::process::effective_uid() == 0;
        if !root {
            eprintln!("skipped: not root");
        }
        root
    }

    #[test]
    fn nothing_leaves_the_root() {
        if !is_root() {
            return;
        }
        let error = |name: &str, entries: &[(Kind, &str, &str)]| {
            check(name, entries).1.unwrap_err().to_string()
        };
        use Kind::{Directory, File, HardLink, SymbolicLink};
        assert!(error("dotdot", &[(File, "../outside", "")]).contains("leads out of the root"));
        assert!(error("hard", &[(HardLink, "a", "../outside")]).contains("leads out of the root"));
        assert!(
            error("hard2", &[(SymbolicLink, "l", "/.."), (HardLink, "a", "l/outside")])
                .contains("link it to")
        );
        // Links are followed inside the root only.
        let (scratch, result) =
            check("link", &[(SymbolicLink, "up", "../.."), (File, "up/outside", "")]);
        result.unwrap();
        assert_eq!(rt::fs::read(scratch.0.join("root/outside")).unwrap(), b"content");
        let (scratch, result) = check(
            "absolute",
            &[(File, "/etc/passwd", ""), (SymbolicLink, "e", "/etc"), (File, "e/x", "")],
        );
        let unpacked = result.unwrap();
        assert_eq!(rt::fs::read(scratch.0.join("root/etc/x")).unwrap(), b"content");
        assert!(unpacked.implied.values().any(|path| path == Path::new("/etc")));
        // A link in the place of a file is replaced, not written through.
        let (scratch, result) = check(
            "through",
            &[
                (SymbolicLink, "f", "../outside"),
                (File, "f", ""),
                (Directory, "d", ""),
                (SymbolicLink, "d", "/"),
                (File, "d", ""),
            ],
        );
        result.unwrap();
        assert_eq!(rt::fs::read(scratch.0.join("root/f")).unwrap(), b"content");
        assert!(error("empty whiteout", &[(File, ".wh.", "")]).contains("names nothing"));
        assert!(error("whiteout up", &[(File, ".wh...", "")]).contains("names nothing"));
    }

    #[test]
    fn whiteouts_and_opaque_directories() {
        if !is_root() {
            return;
        }
        let (scratch, result) = check(
            "white",
            &[
                (Kind::Directory, "d", ""),
                (Kind::File, "d/.wh.gone", ""),
                (Kind::File, "d/.wh..wh..opq", ""),
            ],
        );
        result.unwrap();
        let root = scratch.0.join("root");
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let metadata = rt::fs::symlink_metadata(root.join("d/gone")).unwrap();
        assert!(metadata.file_type().is_char_device() && metadata.rdev() == 0);
        assert_eq!(file::xattr(&root.join("d"), OPAQUE_XATTR).unwrap(), b"y");
    }

    /// A layer whose directory is replaced by a link to the host after something was put in it: what
    /// the layer below says of the directory must not reach the host's file.
    #[test]
    fn a_directory_that_a_link_replaced_is_forgotten() {
        if !is_root() {
            return;
        }
        use Kind::{Directory, File, SymbolicLink};
        let (lower, _) = check("lower-link", &[(Directory, "a", ""), (Directory, "a/b", "")]);
        let lower_root = lower.0.join("root");
        use std::os::unix::fs::MetadataExt;
        rt::fs::set_mode(lower_root.join("a/b"), 0o4777).unwrap();
        rt::fs::set_owner(lower_root.join("a/b"), Some(7), Some(7)).unwrap();
        let outside = Scratch::new("victim");
        let victim = outside.0.join("outside");
        let before = rt::fs::metadata(&victim).unwrap();
        let target = victim.to_str().unwrap();
        for entries in [
            vec![(File, "a/b/f", ""), (SymbolicLink, "a/b", target)],
            vec![(File, "a/b/f", ""), (SymbolicLink, "a", outside.0.to_str().unwrap())],
            vec![(File, "a/b/f", ""), (File, "a/.wh.b", ""), (SymbolicLink, "a/b", target)],
            vec![(Directory, "a/b", ""), (SymbolicLink, "a/b", target), (File, "a/c", "")],
            vec![(File, "a/b/f", ""), (SymbolicLink, "a/b", "../../../outside")],
        ] {
            let (upper, result) = check("upper-link", &entries);
            let root = upper.0.join("root");
            finish(&result.unwrap(), &root, std::slice::from_ref(&lower_root)).unwrap();
            let after = rt::fs::metadata(&victim).unwrap();
            assert_eq!(
                (after.mode(), after.uid(), after.ctime(), after.ctime_nsec()),
                (before.mode(), before.uid(), before.ctime(), before.ctime_nsec()),
                "{entries:?}"
            );
        }
    }

    /// Entries after a replaced directory or link go where the new one leads.
    #[test]
    fn what_replaces_a_directory_counts_at_once() {
        if !is_root() {
            return;
        }
        use Kind::{Directory, File, SymbolicLink};
        let (scratch, result) = check(
            "at-once",
            &[
                (Directory, "real", ""),
                (File, "a/b/f", ""),
                (SymbolicLink, "a/b", "/real"),
                (File, "a/b/g", ""),
                (SymbolicLink, "l", "/nowhere/yet"),
                (File, "l/deep/h", ""),
                (SymbolicLink, "up", "l/../beside"),
                (File, "up/i", ""),
            ],
        );
        result.unwrap();
        for path in ["real/g", "nowhere/yet/deep/h", "nowhere/beside/i"] {
            assert!(rt::fs::metadata(scratch.0.join("root").join(path)).is_ok(), "{path}");
        }
    }

    #[test]
    fn endless_layers_are_refused() {
        let scratch = Scratch::new("endless");
        let endless = Builder::default().finish();
        let reader = endless.as_slice().chain(io::repeat(0));
        let error = unpack(reader, &scratch.0.join("root"), 0).unwrap_err();
        assert!(error.to_string().contains("bytes follow its end"), "{error}");
    }

    #[test]
    fn attributes_and_implied_directories() {
        if !is_root() {
            return;
        }
        let lower = Scratch::new("lower");
        rt::fs::create_dir_all(lower.0.join("root/var/mail"), 0o700).unwrap();
        let mut builder = Builder::default();
        let overlay = ("trusted.overlay.redirect".to_owned(), b"/etc".to_vec());
        let own = ("user.mine".to_owned(), b"1".to_vec());
        let entry = Entry {
            uid: 7,
            gid: 8,
            mtime_secs: 99,
            xattrs: vec![overlay, own],
            ..Entry::file(b"var/mail/f", 0o4755)
        };
        builder.add(&entry, b"x");
        let upper = Scratch::new("upper");
        let root = upper.0.join("root");
        let unpacked = unpack(builder.finish().as_slice(), &root, 0).unwrap();
        finish(&unpacked, &root, &[lower.0.join("root")]).unwrap();
        use std::os::unix::fs::MetadataExt;
        let metadata = rt::fs::metadata(root.join("var/mail/f")).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777, metadata.mtime()),
            (7, 8, 0o4755, 99)
        );
        assert_eq!(rt::fs::metadata(root.join("var/mail")).unwrap().mode() & 0o777, 0o700);
        assert!(file::xattr(&root.join("var/mail/f"), "trusted.overlay.redirect").is_none());
        assert_eq!(file::xattr(&root.join("var/mail/f"), "user.mine").unwrap(), b"1");
    }
}
