//! Where this program's file lies once the machine is up: it decides whether its pages can be dropped.
//!
//! Pages of a file in an initramfs are memory for good; pages of a file on a disk are read again when
//! they are needed. So on a small machine with a data partition the program is copied there, compared
//! at each start, and the initramfs' file is deleted. On a large one it stays in memory, where no
//! failing disk can take it away.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use stdx::{Context, Result};
use sys::mount::{self, MS_BIND};

use crate::root::{DATA_DIR, Layout};
use crate::words::Exec;

/// From this much memory on, ten megabytes of it are not missed.
const MEMORY_LARGE_BYTES: u64 = 512 << 20;

/// What must be free on the data partition beside the copy.
const SPACE_MIN_BYTES: u64 = 32 << 20;

/// The program of the version before, where `k3rs rollback` looks for it.
const PREVIOUS: &str = "k3rs.previous";

/// Where a root file system may have this program.
const CANDIDATES: [&str; 6] =
    ["/usr/local/bin/k3rs", "/usr/bin/k3rs", "/bin/k3rs", "/sbin/k3rs", "/sbin/init", "/init"];

/// The initramfs and the program in it, held over the move to another root.
#[derive(Debug)]
pub(crate) struct Origin {
    root: OwnedFd,
    /// Relative to `root`.
    name: PathBuf,
}

/// Where to start the program from, and whether this process must start anew from there.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) moved: bool,
}

impl Origin {
    /// Remembers the initramfs while it is the root, and gives the program the name that people look for.
    pub(crate) fn open() -> Result<Origin> {
        const NAME: &str = "/bin/k3rs";
        let path = std::env::current_exe().context(|| "find the running program")?;
        let renamed =
            rt::fs::create_dir_all("/bin", 0o755).and_then(|()| rt::fs::rename(&path, NAME));
        let path = renamed.map_or(path, |()| PathBuf::from(NAME));
        let root = sys::file::open_dir("/").context(|| "open the initramfs")?;
        let name = path.strip_prefix("/").unwrap_or(&path).to_owned();
        Ok(Origin { root, name })
    }

    /// Deletes the program's file: its memory is free when the last process of it has ended.
    pub(crate) fn delete(&self) {
        if let Err(error) = sys::file::unlink_at(self.root.as_fd(), &self.name, false) {
            log::warn!("delete /{} from the initramfs: {error}", self.name.display());
        }
    }
}

/// Finds or makes the best place for the program. `on_disk`: the root is a disk now.
pub(crate) fn settle(origin: &Origin, layout: Layout, exec: Exec) -> Place {
    let Layout { on_disk, has_data } = layout;
    if on_disk && let Some(path) = same_in_root() {
        log::info!("Running from {}, the same program as in the initramfs", path.display());
        return Place { path, moved: true };
    }
    if has_data && let Some(why) = data_wanted(exec) {
        match copy_to_data() {
            Ok(path) if !works(&path) => {
                log::warn!("Running from memory: the copy on the disk does not run")
            }
            Ok(path) => {
                log::info!(
                    "Running from {} ({why}): its memory can be used otherwise",
                    path.display()
                );
                return Place { path, moved: true };
            }
            Err(error) => log::warn!("Running from memory: {error}"),
        }
    }
    let path = Path::new("/").join(&origin.name);
    if !on_disk {
        return Place { path, moved: false };
    }
    match bind_to_run() {
        Ok(path) => Place { path, moved: false },
        Err(error) => {
            log::error!("{error}");
            Place { path, moved: false }
        }
    }
}

fn data_wanted(exec: Exec) -> Option<String> {
    let memory = memory_bytes();
    match exec {
        Exec::Ram => None,
        Exec::Data => Some("k3rs.exec=data".into()),
        Exec::Automatic if memory < MEMORY_LARGE_BYTES => {
            Some(format!("this machine has {} MiB of memory", memory >> 20))
        }
        Exec::Automatic => None,
    }
}

fn memory_bytes() -> u64 {
    let text = rt::fs::read_text("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib << 10)
}

/// A file of the new root with our content.
fn same_in_root() -> Option<PathBuf> {
    CANDIDATES.iter().map(PathBuf::from).find(|path| is_same(path) && works(path))
}

/// Asked before the file that we run from is deleted: a disk may be mounted `noexec`, or be broken.
fn works(path: &Path) -> bool {
    crate::child::works(path, "--version")
}

/// The link to the running program works whatever the root directory is.
const RUNNING: &str = "/proc/self/exe";

/// Compares content: after a power cut a file may have its length and not its bytes.
fn is_same(path: &Path) -> bool {
    const CHUNK_BYTES: usize = 64 << 10;
    let (Ok(mut ours), Ok(mut theirs)) = (rt::fs::open(RUNNING), rt::fs::open(path)) else {
        return false;
    };
    let length = |file: &rt::fs::File| file.metadata().map(|metadata| metadata.len()).ok();
    if length(&ours) != length(&theirs) {
        return false;
    }
    let (mut left, mut right) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    loop {
        let Ok(n) = ours.read(&mut left) else { return false };
        if n == 0 {
            return true;
        }
        if theirs.read_exact(&mut right[..n]).is_err() || left[..n] != right[..n] {
            return false;
        }
    }
}

fn copy_to_data() -> Result<PathBuf> {
    let directory = Path::new(DATA_DIR).join("boot");
    let path = directory.join("k3rs");
    if is_same(&path) {
        return Ok(path);
    }
    let what = || format!("copy the program to {}", path.display());
    rt::fs::create_dir_all(&directory, 0o755).context(what)?;
    // An earlier version is kept for `k3rs rollback`; what a power cut left of a copy is not.
    let previous = directory.join(PREVIOUS);
    if works(&path) {
        rt::fs::rename(&path, &previous).context(what)?;
    }
    let leftovers = rt::fs::list_dir(&directory).context(what)?;
    for leftover in leftovers.iter().filter(|path| **path != previous) {
        rt::fs::remove_file(leftover).context(what)?;
    }
    let size = rt::fs::metadata(RUNNING).context(what)?.len();
    let is_short = || -> Result<bool> {
        let space = sys::space::of(DATA_DIR).context(what)?;
        Ok(space.free_bytes < size + SPACE_MIN_BYTES)
    };
    if is_short()? {
        rt::fs::remove_file(&previous).context(what)?;
    }
    if is_short()? {
        return Err(stdx::Error::new("the data partition is too full")).context(what);
    }
    rt::fs::copy_atomic(RUNNING, &path, 0o755).context(what)?;
    Ok(path)
}

/// Gives the initramfs' file a path below the new root.
fn bind_to_run() -> Result<PathBuf> {
    let path = Path::new(crate::RUN_DIR).join("k3rs");
    let what = || format!("mount the running program at {}", path.display());
    rt::fs::write(&path, b"", 0o755).context(what)?;
    mount::mount(RUNNING, &path, "", MS_BIND, "").context(what)?;
    Ok(path)
}
