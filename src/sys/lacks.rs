//! What this kernel lacks of what k3rs uses, in words for the person who runs it.

use std::fs;
use std::path::Path;

use crate::cgroup::Hierarchies;

/// One thing that is not there, and what does not work for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub what: String,
    pub effect: &'static str,
    /// No container can run without it.
    pub fatal: bool,
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.effect)
    }
}

/// The oldest kernel whose calls are enough.
pub const VERSION_MIN: (u32, u32) = (5, 4);

/// Later calls that there are slower or weaker substitutes for.
const SUBSTITUTED: [((u32, u32), &str); 6] = [
    ((5, 6), "openat2 (paths in containers are walked step by step)"),
    ((5, 7), "clone into a cgroup (processes are moved there, which takes longer)"),
    ((5, 9), "close_range (descriptors are closed one by one)"),
    ((5, 10), "volatile overlays (writable layers are synced at their end)"),
    ((5, 12), "mount_setattr (recursiveReadOnly: Enabled is refused)"),
    ((5, 14), "cgroup.kill (containers are frozen and killed process by process)"),
];

const CONTROLLERS: [(&str, &str); 3] = [
    (
        "memory",
        "memory limits are not enforced and usage is not reported (cgroup_enable=memory on the kernel's command line \
         turns it on where it is built in)",
    ),
    ("cpu", "CPU limits and shares are not enforced"),
    ("pids", "limits on processes are not enforced"),
];

const NAMESPACES: [(&str, &str); 6] = [
    ("mnt", "CONFIG_NAMESPACES"),
    ("pid", "CONFIG_PID_NS"),
    ("net", "CONFIG_NET_NS"),
    ("ipc", "CONFIG_IPC_NS"),
    ("uts", "CONFIG_UTS_NS"),
    ("cgroup", "CONFIG_CGROUPS"),
];

/// Major and minor of the running kernel; zeros if they cannot be read.
pub fn version() -> (u32, u32) {
    parse_version(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|digits| digits.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Looks without changing anything, though the kernel may load modules that it is asked about.
pub fn find() -> Vec<Lack> {
    let mut lacks = Vec::new();
    let mut add = |what: String, effect: &'static str, fatal: bool| {
        lacks.push(Lack { what, effect, fatal });
    };
    let version = version();
    if version != (0, 0) && version < VERSION_MIN {
        let what = format!("Linux {}.{} is older than 5.4", version.0, version.1);
        add(what, "containers may not start", false);
    }
    for (name, option) in NAMESPACES {
        if !Path::new("/proc/self/ns").join(name).exists() {
            add(format!("no {name} namespaces ({option})"), "containers cannot start", true);
        }
    }
    if !crate::mount::has_file_system("overlay") {
        add(
            "no overlayfs (CONFIG_OVERLAY_FS, module overlay)".into(),
            "containers cannot start",
            true,
        );
    }
    match Hierarchies::detect() {
        Err(_) => {
            add("no cgroups are mounted (CONFIG_CGROUPS)".into(), "containers cannot start", true);
        }
        Ok(hierarchies) => {
            let have = hierarchies.controllers();
            for (name, effect) in CONTROLLERS {
                if !have.iter().any(|controller| controller == name) {
                    add(format!("no {name} cgroup controller"), effect, false);
                }
            }
            if hierarchies.is_v2()
                && let Err(error) = crate::device_filter::probe()
            {
                let what = format!("no BPF programs for devices (CONFIG_CGROUP_BPF): {error}");
                add(what, "only privileged containers can start", false);
            }
        }
    }
    if !Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        let what = "no seccomp filters (CONFIG_SECCOMP_FILTER)".into();
        add(what, "pods with a seccomp profile cannot start", false);
    }
    lacks
}

/// What newer kernels do better, each with the substitute that is used here.
pub fn substitutes() -> Vec<&'static str> {
    substitutes_before(version())
}

fn substitutes_before(version: (u32, u32)) -> Vec<&'static str> {
    let newer = SUBSTITUTED.iter().filter(|(since, _)| version < *since);
    newer.map(|(_, what)| *what).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_what_is_missing() {
        assert_eq!(parse_version("6.1.0-50-armmp\n"), (6, 1));
        assert_eq!(parse_version("5.15-rc1"), (5, 15));
        assert_eq!(parse_version(""), (0, 0));
        assert_eq!(substitutes_before((5, 10)).len(), 2);
        assert!(substitutes_before((6, 1)).is_empty());
    }

    #[test]
    fn the_kernel_of_a_test_machine_can_run_containers() {
        if crate::process::effective_uid() != 0 {
            eprintln!("skipped: not root");
            return;
        }
        let fatal: Vec<Lack> = find().into_iter().filter(|lack| lack.fatal).collect();
        assert!(fatal.is_empty(), "{fatal:?}");
        assert!(!crate::mount::has_file_system("not-a-file-system"));
    }
}
