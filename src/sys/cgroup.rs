//! Control groups in one abstraction over v1, hybrid and v2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stdx::{Arrange, OrdMap};
use stdx::{Context, Error, Result};

use crate::mount;

/// Limits; `None` leaves a value as it is. The units are cgroup v1's and Kubernetes', translated for v2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Relative weight, 2..=262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU per period; -1 means unlimited.
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: Option<u64>,
    /// -1 means unlimited.
    pub memory_limit_bytes: Option<i64>,
    /// Memory plus swap; -1 means unlimited.
    pub memory_swap_limit_bytes: Option<i64>,
    /// -1 means unlimited.
    pub pids_max: Option<i64>,
    /// `0-3,7`; empty leaves it as it is.
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// File name and value, written as they are where the host has cgroup v2.
    pub unified: OrdMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    pub usage_ns: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    pub usage_bytes: u64,
    /// Usage without inactive file pages: what eviction looks at.
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
    /// `None` without a limit.
    pub limit_bytes: Option<u64>,
    pub page_faults: u64,
    pub major_page_faults: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    pub current: u64,
    pub limit: Option<u64>,
}

/// The mounted hierarchies of this host. Paths of cgroups are absolute below each (`/kubepods/x`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Controller name and mount point, one each.
    v1: Vec<(String, PathBuf)>,
    /// The v2 mount: everything on a pure v2 host, only kill and freeze on a hybrid one.
    v2: Option<PathBuf>,
    v2_options: String,
}

/// The v1 controllers that we make cgroups in.
const V1_CONTROLLERS: [&str; 8] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"];
/// The v2 controllers that we hand down to children. Those that know no threads come first: a cgroup with
/// processes refuses them (and we make room), but takes the others and can have none of the first then.
const V2_CONTROLLERS: [&str; 5] = ["memory", "io", "cpu", "cpuset", "pids"];
/// Where this process and its neighbours go if they stand in the way of their children's limits.
const OWN_CGROUP: &str = "k3rs-init";
/// How long processes that were killed may take to vanish from their cgroup: ten seconds in all.
const DRAIN_WAITS_MS: [u64; 13] = [1, 1, 2, 5, 10, 20, 50, 100, 300, 500, 1000, 3000, 5000];

impl Hierarchies {
    /// Finds what is mounted.
    pub fn detect() -> Result<Hierarchies> {
        let mounts = mount::list().context(|| "read /proc/self/mountinfo")?;
        let found = from_mounts(&mounts);
        if found.v1.is_empty() && found.v2.is_none() {
            return Err(Error::new(
                "no cgroup hierarchy is mounted (expected cgroup2 at /sys/fs/cgroup, or v1 controllers below it)",
            ));
        }
        Ok(found)
    }

    pub fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// The controllers that limits can be set with.
    pub fn controllers(&self) -> Vec<String> {
        match &self.v2 {
            Some(root) if self.is_v2() => crate::file::kernel_text(root.join("cgroup.controllers"))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            _ => self.v1.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    /// The directories of `path`, one in each distinct hierarchy.
    pub fn directories(&self, path: &str) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        for root in self.v1.iter().map(|(_, root)| root).chain(&self.v2) {
            let directory = below(root, path);
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        directories
    }

    /// The names of the cgroups right below `path`, in whichever hierarchy they are.
    pub fn names_below(&self, path: &str) -> Vec<String> {
        let directories = self.directories(path);
        let below = directories.iter().flat_map(|directory| children(directory));
        let mut names: Vec<String> =
            below.filter_map(|child| Some(child.file_name()?.to_str()?.to_owned())).collect();
        names.arrange();
        names.dedup();
        names
    }

    /// The directory of `path` that has a controller's files, if that controller exists.
    pub fn directory(&self, controller: &str, path: &str) -> Option<PathBuf> {
        if self.is_v2() {
            return self.v2.as_ref().map(|root| below(root, path));
        }
        let (_, root) = self.v1.iter().find(|(name, _)| name == controller)?;
        Some(below(root, path))
    }

    /// The v2 directory of `path`, also on hybrid hosts.
    pub fn unified_directory(&self, path: &str) -> Option<PathBuf> {
        self.v2.as_ref().map(|root| below(root, path))
    }

    /// The file with the `oom_kill N` line of `path`.
    pub fn oom_file(&self, path: &str) -> Option<PathBuf> {
        let name = if self.is_v2() { "memory.events" } else { "memory.oom_control" };
        Some(self.directory("memory", path)?.join(name))
    }

    /// Makes the cgroup and missing parents in every hierarchy. Existing ones are fine.
    pub fn create(&self, path: &str) -> Result<()> {
        check_path(path)?;
        for root in self.v1.iter().map(|(_, root)| root).chain(&self.v2) {
            let mut directory = root.clone();
            for part in path.split('/').filter(|part| !part.is_empty()) {
                if self.is_v2() {
                    hand_down(&directory);
                }
                let parent = directory.clone();
                directory.push(part);
                match fs::create_dir(&directory) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error)
                            .context(|| format!("make cgroup {}", directory.display()));
                    }
                    _ => {}
                }
                if self.v1.iter().any(|(name, at)| name == "cpuset" && at == root) {
                    inherit_cpuset(&parent, &directory)
                        .context(|| format!("set up cpuset cgroup {}", directory.display()))?;
                }
            }
        }
        Ok(())
    }

    /// Sets what `resources` names. Limits for which the host has no controller are returned as
    /// warnings, not errors.
    pub fn apply(&self, path: &str, resources: &Resources) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for (controller, file, value) in self.writes(path, resources) {
            let Some(directory) = self.directory(controller, path) else {
                warnings.push(format!("no {controller} controller: {file} not set to {value}"));
                continue;
            };
            let file_path = directory.join(&file);
            match fs::write(&file_path, &value) {
                Ok(()) => {}
                // An optional file: swap accounting off (as it is by default before Linux 5.8), or the
                // controller not handed down. The kernel says "permission denied" to making it.
                Err(_) if directory.is_dir() && !file_path.exists() => {
                    warnings.push(format!("no {}: not set to {value}", file_path.display()));
                }
                Err(error) => {
                    return Err(error)
                        .context(|| format!("write {value} to {}", file_path.display()));
                }
            }
        }
        Ok(warnings)
    }

    /// Controller, file and value of each setting, in an order that the kernel accepts.
    fn writes(&self, path: &str, resources: &Resources) -> Vec<(&'static str, String, String)> {
        let mut writes: Vec<(&'static str, String, String)> = Vec::new();
        let mut add = |controller, file: &str, value: String| {
            writes.push((controller, file.to_owned(), value));
        };
        if self.is_v2() {
            let max = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
            if let Some(shares) = resources.cpu_shares {
                add("cpu", "cpu.weight", cpu_weight(shares).to_string());
            }
            if resources.cpu_quota_us.is_some() || resources.cpu_period_us.is_some() {
                let period = resources.cpu_period_us.unwrap_or(100_000);
                let quota = max(resources.cpu_quota_us.filter(|quota| *quota > 0).unwrap_or(-1));
                add("cpu", "cpu.max", format!("{quota} {period}"));
            }
            if let Some(limit) = resources.memory_limit_bytes {
                add("memory", "memory.max", max(limit));
            }
            if let Some(both) = resources.memory_swap_limit_bytes {
                let memory = resources.memory_limit_bytes.unwrap_or(0).max(0);
                let swap = if both < 0 { -1 } else { (both - memory).max(0) };
                add("memory", "memory.swap.max", max(swap));
            }
            if let Some(limit) = resources.pids_max {
                add("pids", "pids.max", max(limit));
            }
        } else {
            if let Some(shares) = resources.cpu_shares {
                add("cpu", "cpu.shares", shares.clamp(2, 262_144).to_string());
            }
            if let Some(period) = resources.cpu_period_us {
                add("cpu", "cpu.cfs_period_us", period.to_string());
            }
            if let Some(quota) = resources.cpu_quota_us {
                let quota = if quota <= 0 { -1 } else { quota };
                add("cpu", "cpu.cfs_quota_us", quota.to_string());
            }
            // The kernel keeps memory <= memory + swap at every step: raise the sum first, lower it last.
            let memory = resources.memory_limit_bytes.map(|limit| limit.to_string());
            let both = resources.memory_swap_limit_bytes.map(|limit| limit.to_string());
            let memory = memory.map(|limit| ("memory", "memory.limit_in_bytes", limit));
            let both = both.map(|limit| ("memory", "memory.memsw.limit_in_bytes", limit));
            let raising = match resources.memory_swap_limit_bytes {
                Some(limit) if limit < 0 => true,
                Some(limit) => {
                    let now = self
                        .directory("memory", path)
                        .and_then(|dir| read_number(&dir.join("memory.memsw.limit_in_bytes")));
                    now.is_some_and(|now| limit.cast_unsigned() > now)
                }
                None => false,
            };
            let order = if raising { [both, memory] } else { [memory, both] };
            for (controller, file, value) in order.into_iter().flatten() {
                add(controller, file, value);
            }
            if let Some(limit) = resources.pids_max {
                let value = if limit < 0 { "max".to_owned() } else { limit.to_string() };
                add("pids", "pids.max", value);
            }
        }
        if !resources.cpuset_cpus.is_empty() {
            add("cpuset", "cpuset.cpus", resources.cpuset_cpus.clone());
        }
        if !resources.cpuset_mems.is_empty() {
            add("cpuset", "cpuset.mems", resources.cpuset_mems.clone());
        }
        if self.is_v2() {
            for (file, value) in &resources.unified {
                if !file.contains('/') {
                    writes.push(("", file.clone(), value.clone()));
                }
            }
        }
        writes
    }

    /// The options that mount each v1 hierarchy, such as `cpu,cpuacct`.
    pub fn v1_mount_options(&self) -> Vec<String> {
        let mut roots: Vec<&PathBuf> = Vec::new();
        for (_, root) in &self.v1 {
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        let options = |root: &PathBuf| {
            let names: Vec<&str> = self
                .v1
                .iter()
                .filter(|(_, at)| at == root)
                .map(|(name, _)| name.as_str())
                .collect();
            names.join(",")
        };
        roots.into_iter().map(options).collect()
    }

    /// The options that the v2 hierarchy is mounted with. Whoever mounts it once more outside of any cgroup namespace sets
    /// them anew for the whole machine: without `nsdelegate` any user namespace may lift its own limits.
    pub fn v2_mount_options(&self) -> &str {
        &self.v2_options
    }

    /// Whether swap can be limited.
    pub fn has_swap_accounting(&self, path: &str) -> bool {
        let file = if self.is_v2() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        self.directory("memory", path).is_some_and(|directory| directory.join(file).exists())
    }

    /// Allows exactly these devices (v1's `c 1:3 rwm` syntax); `None` allows all.
    pub fn apply_devices(&self, path: &str, rules: Option<&[String]>) -> Result<()> {
        if self.is_v2() {
            return match (rules, self.unified_directory(path)) {
                (Some(rules), Some(directory)) => crate::device_filter::attach(&directory, rules)
                    .context(|| format!("limit the devices of cgroup {}", directory.display())),
                _ => Ok(()),
            };
        }
        let Some(directory) = self.directory("devices", path) else { return Ok(()) };
        let write = |file: &str, rule: &str| {
            fs::write(directory.join(file), rule)
                .context(|| format!("write {rule} to {}/{file}", directory.display()))
        };
        match rules {
            None => write("devices.allow", "a"),
            Some(rules) => {
                write("devices.deny", "a")?;
                rules.iter().try_for_each(|rule| write("devices.allow", rule))
            }
        }
    }

    /// Moves a process into the cgroup, in every hierarchy.
    pub fn join(&self, path: &str, pid: u32) -> Result<()> {
        for directory in self.directories(path) {
            fs::write(directory.join("cgroup.procs"), pid.to_string())
                .context(|| format!("move process {pid} into cgroup {}", directory.display()))?;
        }
        Ok(())
    }

    /// The processes in the cgroup and below it.
    pub fn processes(&self, path: &str) -> Vec<u32> {
        let Some(directory) = self.directories(path).into_iter().next() else { return Vec::new() };
        let mut pids = Vec::new();
        let mut stack = vec![directory];
        while let Some(directory) = stack.pop() {
            let text = crate::file::kernel_text(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            stack.extend(children(&directory));
        }
        pids
    }

    /// Freezes or thaws all processes in the cgroup.
    pub(crate) fn freeze(&self, path: &str, frozen: bool) -> Result<()> {
        let (file, value) = match self.unified_directory(path) {
            Some(directory) if directory.join("cgroup.freeze").exists() => {
                (directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })
            }
            _ => match self.directory("freezer", path) {
                Some(directory) => {
                    (directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
                }
                None => return Err(Error::new(format!("freeze cgroup {path}: no freezer"))),
            },
        };
        fs::write(&file, value).context(|| format!("write {value} to {}", file.display()))
    }

    /// Kills every process in the cgroup and below it, without waiting for their end.
    pub fn kill(&self, path: &str) -> Result<()> {
        if let Some(directory) = self.unified_directory(path) {
            let file = directory.join("cgroup.kill");
            if file.exists() {
                return fs::write(&file, "1").context(|| format!("write 1 to {}", file.display()));
            }
        }
        // Frozen, so that nothing can fork between the listing and the kill.
        let frozen = self.freeze(path, true).is_ok();
        for pid in self.processes(path) {
            let _ = crate::process::kill(pid.cast_signed(), libc::SIGKILL);
        }
        if frozen { self.freeze(path, false) } else { Ok(()) }
    }

    /// Kills what is left in the cgroup and removes it with all below it, in every hierarchy.
    /// An absent one is fine.
    pub fn remove(&self, path: &str) -> Result<()> {
        check_path(path)?;
        if path.trim_matches('/').is_empty() {
            return Err(Error::new("refusing to remove the root cgroup"));
        }
        let directories = self.directories(path);
        if !directories.iter().any(|directory| directory.exists()) {
            return Ok(());
        }
        let mut result = Ok(());
        for wait_ms in DRAIN_WAITS_MS {
            result = directories.iter().try_for_each(|directory| remove_tree(directory));
            if result.is_ok() {
                return Ok(());
            }
            let _ = self.kill(path);
            // Killed processes leave a cgroup a moment after their end, which no event tells on v1.
            let _ = crate::poll::PollSet::default().wait(Some(Duration::from_millis(wait_ms)));
        }
        result.context(|| format!("remove cgroup {path}"))
    }

    /// How many processes of the cgroup the kernel has killed for lack of memory.
    pub fn oom_kills(&self, path: &str) -> u64 {
        self.oom_file(path).map_or(0, |file| keyed_number(&file, "oom_kill"))
    }

    pub fn cpu_stats(&self, path: &str) -> Result<CpuStats> {
        let directory = self.need("cpu", path)?;
        let stat = KeyedFile::read(&directory.join("cpu.stat"))?;
        if self.is_v2() {
            return Ok(CpuStats {
                usage_ns: stat.number("usage_usec") * 1000,
                periods: stat.number("nr_periods"),
                throttled_periods: stat.number("nr_throttled"),
                throttled_ns: stat.number("throttled_usec") * 1000,
            });
        }
        let accounting = self.need("cpuacct", path)?;
        Ok(CpuStats {
            usage_ns: read_number(&accounting.join("cpuacct.usage")).unwrap_or(0),
            periods: stat.number("nr_periods"),
            throttled_periods: stat.number("nr_throttled"),
            throttled_ns: stat.number("throttled_time"),
        })
    }

    pub fn memory_stats(&self, path: &str) -> Result<MemoryStats> {
        let directory = self.need("memory", path)?;
        let stat = KeyedFile::read(&directory.join("memory.stat"))?;
        let (usage, inactive, rss, limit, faults, major) = if self.is_v2() {
            // The root cgroup has no memory.current; what it holds is what the machine uses.
            let usage = read_number(&directory.join("memory.current")).unwrap_or_else(|| {
                stat.number("anon") + stat.number("file") + stat.number("kernel")
            });
            let limit = read_number(&directory.join("memory.max"));
            (
                usage,
                stat.number("inactive_file"),
                stat.number("anon"),
                limit,
                stat.number("pgfault"),
                stat.number("pgmajfault"),
            )
        } else {
            let usage = read_number(&directory.join("memory.usage_in_bytes")).unwrap_or(0);
            // v1 says "no limit" with the most pages that the kernel's `long` counts: 8 TiB on 32 bits.
            const UNLIMITED_FROM_BYTES: u64 = 0x7fff_ffff << 12;
            let limit = read_number(&directory.join("memory.limit_in_bytes"))
                .filter(|limit| *limit < UNLIMITED_FROM_BYTES);
            (
                usage,
                stat.number("total_inactive_file"),
                stat.number("total_rss"),
                limit,
                stat.number("total_pgfault"),
                stat.number("total_pgmajfault"),
            )
        };
        Ok(MemoryStats {
            usage_bytes: usage,
            working_set_bytes: usage.saturating_sub(inactive),
            rss_bytes: rss,
            limit_bytes: limit,
            page_faults: faults,
            major_page_faults: major,
        })
    }

    pub fn pids_stats(&self, path: &str) -> Result<PidsStats> {
        let directory = self.need("pids", path)?;
        Ok(PidsStats {
            current: read_number(&directory.join("pids.current")).unwrap_or(0),
            limit: read_number(&directory.join("pids.max")),
        })
    }

    fn need(&self, controller: &str, path: &str) -> Result<PathBuf> {
        self.directory(controller, path)
            .context(|| format!("read usage of cgroup {path}: no {controller} controller"))
    }
}

/// Kubernetes' translation of v1 shares to a v2 weight.
fn cpu_weight(shares: u64) -> u64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

fn from_mounts(mounts: &[mount::MountInfo]) -> Hierarchies {
    let mut found = Hierarchies::default();
    for mount in mounts {
        let Ok(target) = std::str::from_utf8(&mount.target) else { continue };
        // Mounts elsewhere (in containers' roots, in tests) are not the host's own view.
        if !Path::new(target).starts_with("/sys/fs/cgroup") {
            continue;
        }
        match mount.fs_type.as_str() {
            "cgroup2" => {
                found.v2 = Some(target.into());
                let options = mount.super_options.split(',');
                let own: Vec<&str> = options.filter(|one| !matches!(*one, "rw" | "ro")).collect();
                found.v2_options = own.join(",");
            }
            "cgroup" => {
                for option in mount.super_options.split(',') {
                    let known = V1_CONTROLLERS.contains(&option);
                    if known && !found.v1.iter().any(|(name, _)| name == option) {
                        found.v1.push((option.to_owned(), target.into()));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// Cgroup paths come from our own callers, but a `..` in one would act on somebody else's cgroup.
fn check_path(path: &str) -> Result<()> {
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err(Error::new(format!("cgroup path {path:?} has a relative component")));
    }
    Ok(())
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in children(directory) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Lets children of a v2 cgroup use every controller that it has itself.
fn hand_down(directory: &Path) {
    let available =
        crate::file::kernel_text(directory.join("cgroup.controllers")).unwrap_or_default();
    let file = directory.join("cgroup.subtree_control");
    let enabled = crate::file::kernel_text(&file).unwrap_or_default();
    for name in V2_CONTROLLERS {
        let has = |list: &str| list.split_whitespace().any(|have| have == name);
        if has(&available) && !has(&enabled) {
            // One at a time: one that cannot be enabled must not keep the others off. What is missing
            // shows as a warning where a limit is set.
            let enable = || fs::write(&file, format!("+{name}"));
            if enable().is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy) {
                move_own(directory);
                let _ = enable();
            }
        }
    }
}

/// Moves the processes that are directly in `directory` into a child of it, if this one is among them:
/// in a container what looks like the root is an ordinary cgroup, which may hand down controllers only
/// while it has no processes of its own.
fn move_own(directory: &Path) {
    let list = || crate::file::kernel_text(directory.join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id().to_string();
    if !list().lines().any(|pid| pid == own) {
        return;
    }
    let child = directory.join(OWN_CGROUP);
    let _ = fs::create_dir(&child);
    // Again for what they start meanwhile.
    const ROUNDS_MAX: usize = 10;
    for _ in 0..ROUNDS_MAX {
        let pids = list();
        if pids.is_empty() {
            return;
        }
        for pid in pids.lines() {
            let _ = fs::write(child.join("cgroup.procs"), pid);
        }
    }
}

/// A new v1 cpuset is empty and takes no process until it has cpus and mems.
fn inherit_cpuset(parent: &Path, child: &Path) -> io::Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if crate::file::kernel_text(child.join(name))?.trim().is_empty() {
            fs::write(child.join(name), crate::file::kernel_text(parent.join(name))?.trim())?;
        }
    }
    Ok(())
}

/// A file with one number; `None` if it is absent or says `max`.
fn read_number(path: &Path) -> Option<u64> {
    crate::file::kernel_text(path).ok()?.trim().parse().ok()
}

/// The value of a key in a file of `key value` lines; 0 if absent.
pub fn keyed_number(path: &Path, key: &str) -> u64 {
    KeyedFile::read(path).map_or(0, |file| file.number(key))
}

struct KeyedFile(String);

impl KeyedFile {
    fn read(path: &Path) -> Result<KeyedFile> {
        crate::file::kernel_text(path).map(KeyedFile).context(|| format!("read {}", path.display()))
    }

    fn number(&self, key: &str) -> u64 {
        let lines = self.0.lines();
        let value = lines.filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == key);
        value.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(target: &str, fs_type: &str, super_options: &str) -> mount::MountInfo {
        mount::MountInfo {
            root: b"/".to_vec(),
            target: target.into(),
            shared: false,
            fs_type: fs_type.into(),
            source: String::new(),
            super_options: super_options.into(),
        }
    }

    #[test]
    fn hierarchies_are_found() {
        let options = "rw,nsdelegate,memory_recursiveprot";
        let v2 = from_mounts(&[mount("/sys/fs/cgroup", "cgroup2", options)]);
        assert!(v2.is_v2());
        assert_eq!(v2.v2_mount_options(), "nsdelegate,memory_recursiveprot");
        assert_eq!(v2.directories("/a/b"), [PathBuf::from("/sys/fs/cgroup/a/b")]);
        let hybrid = from_mounts(&[
            mount("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
            mount("/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
            mount("/sys/fs/cgroup/systemd", "cgroup", "rw,name=systemd"),
            mount("/sys/fs/cgroup/unified", "cgroup2", "rw"),
            mount("/elsewhere/pids", "cgroup", "rw,pids"),
        ]);
        assert!(!hybrid.is_v2());
        assert_eq!(hybrid.controllers(), ["cpu", "cpuacct", "memory"]);
        assert_eq!(hybrid.directories("x").len(), 3);
        assert_eq!(hybrid.directory("pids", "x"), None);
    }

    #[test]
    fn a_limit_without_a_file_is_a_warning() {
        let hierarchies = Hierarchies::detect().unwrap_or_default();
        let path = format!("/k3rs-test-limit-{}", std::process::id());
        if crate::process::effective_uid() != 0 || hierarchies.create(&path).is_err() {
            eprintln!("skipped: not root, or no cgroups");
            return;
        }
        let v2 = hierarchies.unified_directory("");
        let absent = Hierarchies { v2, ..Hierarchies::default() };
        let mut resources = Resources::default();
        resources.unified.insert("memory.not-there".to_owned(), "1".to_owned());
        let warned = absent.apply(&path, &resources);
        hierarchies.remove(&path).unwrap();
        assert_eq!(warned.map(|warnings| warnings.len()).ok(), absent.v2.map(|_| 1));
    }

    #[test]
    fn limits_are_translated() {
        let v2 = from_mounts(&[mount("/sys/fs/cgroup", "cgroup2", "rw")]);
        let resources = Resources {
            cpu_shares: Some(1024),
            cpu_quota_us: Some(20_000),
            cpu_period_us: Some(100_000),
            memory_limit_bytes: Some(64 << 20),
            memory_swap_limit_bytes: Some(64 << 20),
            pids_max: Some(-1),
            ..Default::default()
        };
        let writes: Vec<String> = v2
            .writes("x", &resources)
            .into_iter()
            .map(|(_, file, value)| format!("{file}={value}"))
            .collect();
        assert_eq!(
            writes,
            [
                "cpu.weight=39",
                "cpu.max=20000 100000",
                "memory.max=67108864",
                "memory.swap.max=0",
                "pids.max=max"
            ]
        );
        assert_eq!((cpu_weight(2), cpu_weight(262_144)), (1, 10_000));
        assert!(Hierarchies::default().create("/a/../b").is_err());
        assert!(Hierarchies::default().remove("/").is_err());
    }
}
