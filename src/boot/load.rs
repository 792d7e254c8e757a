//! Loading kernel modules: for the devices that are there, and those that k3rs itself needs.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use stdx::{Context, Result};

use crate::modules::{Found, Index, Texts};

const EEXIST: i32 = 17;
const ENODEV: i32 = 19;

/// A module of our own list, and what does not work without it.
struct Wanted {
    name: &'static str,
    without: &'static str,
}

const fn wanted(name: &'static str, without: &'static str) -> Wanted {
    Wanted { name, without }
}

/// What containers, `net`'s links and the expressions of its nftables rules need.
const WANTED: &[Wanted] = &[
    wanted("overlay", "containers: their file systems are overlays"),
    wanted("veth", "pods' network interfaces"),
    wanted("bridge", "pods' network interfaces"),
    wanted("br_netfilter", "services and policies between pods of one node"),
    wanted("nf_tables", "services, host ports and policies"),
    wanted("nf_conntrack", "services, host ports and policies"),
    wanted("nft_chain_nat", "services and host ports"),
    wanted("nft_nat", "services and host ports"),
    wanted("nft_masq", "pods' way out of the node"),
    wanted("nft_ct", "services and policies"),
    wanted("nft_numgen", "services with more than one endpoint"),
    wanted("nft_fib_inet", "node ports"),
    wanted("nft_reject_inet", "refusing connections to services without endpoints"),
    wanted("nf_conntrack_netlink", "ending connections to endpoints that are gone"),
];

/// Loaded if there, for things that not every machine does: input devices' events (the power button),
/// and tunnels between nodes. Sets and counters are modules of their own in kernels
/// before 5.17, parts of nf_tables later.
const WELCOME: &[&str] = &["evdev", "vxlan", "nf_tables_set", "nft_counter"];

/// Loading drivers brings forth devices that ask for more drivers, a few times over.
const ROUNDS_MAX: usize = 6;

/// The modules of the running kernel, opened for loading.
#[derive(Debug)]
struct Loader<'a> {
    directory: &'a Path,
    index: Index<'a>,
    /// Paths that were loaded, or that failed, which is told once.
    done: HashSet<&'a str>,
    n_loaded: usize,
    /// The files are in memory and ours: nobody needs one any more once the kernel has it.
    in_memory: bool,
}

/// Where the running kernel's modules are, if they are anywhere.
pub(crate) fn directory() -> Option<PathBuf> {
    let release = sys::kernel::release();
    let candidates =
        ["/lib/modules", "/usr/lib/modules"].map(|base| Path::new(base).join(&release));
    candidates.into_iter().find(|path| path.join("modules.dep").exists())
}

/// Loads what the devices of this machine ask for, what k3rs needs, and `extra`.
///
/// The tables are megabytes of text on some kernels: the caller runs this in a process that ends.
/// With `in_memory` the modules' files are in memory and ours, and are removed as they are loaded.
pub(crate) fn load_all(directory: &Path, extra: &[String], in_memory: bool) {
    let texts = read(directory);
    let mut loader = Loader::new(directory, &texts);
    loader.in_memory = in_memory;
    loader.cold_plug();
    for wanted in WANTED {
        if !loader.load(wanted.name) && loader.index.knows_builtin() {
            log::warn!(
                "Kernel module {} is missing: this machine will lack {}",
                wanted.name,
                wanted.without
            );
        }
    }
    for name in WELCOME {
        loader.load(name);
    }
    for name in extra {
        if !loader.load(name) {
            log::warn!("Kernel module {name} (k3rs.modules=) is missing");
        }
    }
    if !extra.is_empty() {
        // A bus, perhaps, with devices behind it.
        loader.cold_plug();
    }
    log::info!("Loaded {} kernel modules from {}", loader.n_loaded, directory.display());
}

/// Loads modules by name or alias; false if one is missing. Quiet about those: the kernel asks for many.
pub(crate) fn load_named(directory: &Path, names: &[String]) -> bool {
    let texts = read(directory);
    let mut loader = Loader::new(directory, &texts);
    // All are tried, whatever becomes of the first.
    let n_loaded = names.iter().filter(|name| loader.load(name)).count();
    n_loaded == names.len()
}

/// Makes the kernel know a file system, if it does not yet.
pub(crate) fn file_system(fs_type: &str) {
    let known = rt::fs::read_text("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.split_whitespace().last() == Some(fs_type)) {
        return;
    }
    let Some(directory) = directory() else { return };
    let alias = format!("fs-{fs_type}");
    crate::child::apart("load a file system", || {
        let name = fs_type.to_owned();
        if !load_named(&directory, &[alias]) && !load_named(&directory, &[name]) {
            log::warn!(
                "The kernel does not know the file system {fs_type}, and has no module for it"
            );
        }
    });
}

fn read(directory: &Path) -> Texts {
    let text = |name: &str| {
        let bytes = rt::fs::read(directory.join(name)).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    Texts {
        dep: text("modules.dep"),
        softdep: text("modules.softdep"),
        alias: text("modules.alias"),
        builtin: text("modules.builtin"),
    }
}

impl<'a> Loader<'a> {
    fn new(directory: &'a Path, texts: &'a Texts) -> Loader<'a> {
        let (index, done) = (Index::new(texts), HashSet::new());
        Loader { directory, index, done, n_loaded: 0, in_memory: false }
    }

    /// False if the module is missing, or could not be loaded, which is told.
    fn load(&mut self, name: &str) -> bool {
        let files = match self.index.find(name) {
            Found::BuiltIn => return true,
            Found::Missing => return false,
            Found::Load(files) => files,
        };
        let mut all = true;
        for file in files {
            if !self.done.insert(file) {
                continue;
            }
            let path = self.directory.join(file);
            if !path.exists() && is_loaded(&path) {
                // Loaded, and deleted, by an earlier loader of this start.
                continue;
            }
            let loaded = load_file(&path);
            if self.in_memory && loaded.is_ok() {
                // At once, not with the others: on a small machine their sum is what it lacks now.
                let _ = rt::fs::remove_file(&path);
            }
            match loaded {
                Ok(true) => self.n_loaded += 1,
                Ok(false) => {}
                // A driver for a device, or a variant for a processor, that is not here after all.
                Err(error) if error.errno() == Some(ENODEV) => {}
                Err(error) => {
                    log::warn!("{error}");
                    all = false;
                }
            }
        }
        all
    }

    /// Loads the drivers of all devices that the kernel has found.
    fn cold_plug(&mut self) {
        let mut asked = HashSet::new();
        for _ in 0..ROUNDS_MAX {
            let mut aliases = Vec::new();
            collect_aliases(Path::new("/sys/devices"), &mut aliases, 0);
            let n_asked = asked.len();
            for alias in aliases {
                if asked.insert(alias.clone()) {
                    self.load(&alias);
                }
            }
            if asked.len() == n_asked {
                return;
            }
        }
    }
}

/// Every device's `modalias` below a directory of sysfs. Links are not followed: they lead back.
fn collect_aliases(directory: &Path, aliases: &mut Vec<String>, depth: usize) {
    const DEPTH_MAX: usize = 32;
    if depth > DEPTH_MAX {
        return;
    }
    for (name, is_directory) in rt::fs::dir_names(directory) {
        if is_directory {
            // Nothing in these is a device, and there are thousands.
            if name != "power" && name != "statistics" && name != "queues" {
                collect_aliases(&directory.join(name), aliases, depth + 1);
            }
        } else if name == "modalias"
            && let Ok(text) = rt::fs::read_text(directory.join(name))
        {
            aliases.extend(Some(text.trim().to_owned()).filter(|alias| !alias.is_empty()));
        }
    }
}

/// Whether the kernel has the module of this file.
fn is_loaded(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let name = name.split('.').next().unwrap_or("").replace('-', "_");
    Path::new("/sys/module").join(name).exists()
}

/// True if it was loaded now, false if it was there.
fn load_file(path: &Path) -> Result<bool> {
    let file = rt::fs::open(path).context(|| "load a kernel module")?;
    // The kernel knows the compression of its own modules.
    let compressed = path.extension().is_some_and(|extension| extension != "ko");
    match sys::kernel::load_module(file.as_fd(), "", compressed) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(EEXIST) => Ok(false),
        Err(error) => Err(error).context(|| format!("load kernel module {}", path.display())),
    }
}
