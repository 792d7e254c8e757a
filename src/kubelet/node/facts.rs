//! What the machine is: processors, memory, disk, kernel, names.

use std::path::Path;

use api::quantity::Quantity;

use crate::floors::Reserved;
use api::{LensMut, Value, json};

/// Read once at start; none of it changes while the kernel runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub cpus: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// Size name (`2Mi`) and bytes of the huge pages set aside.
    pub huge_pages: Vec<(String, u64)>,
    pub architecture: &'static str,
    kernel: String,
    os_image: String,
    machine_id: String,
    system_uuid: String,
    boot_id: String,
}

/// The processor's architecture, as Go names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Facts {
    /// Blocking. What cannot be read is empty or zero.
    pub(crate) fn read(disk: &Path) -> Facts {
        let text = |path: &str| rt::fs::read_small_text(path).unwrap_or_default().trim().to_owned();
        let machine_id = text("/etc/machine-id");
        let boot_id = text("/proc/sys/kernel/random/boot_id");
        let uuid = text("/sys/class/dmi/id/product_uuid");
        Facts {
            cpus: cpus(&text("/proc/cpuinfo")),
            memory_bytes: meminfo(&text("/proc/meminfo"), "MemTotal"),
            disk_bytes: sys::space::of(disk).map_or(0, |space| space.total_bytes),
            huge_pages: huge_pages(),
            architecture: architecture(),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: os_image(&text("/etc/os-release")),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            // An empty root has no machine id; the boot's is better than none.
            machine_id: if machine_id.is_empty() { boot_id.replace('-', "") } else { machine_id },
            boot_id,
        }
    }

    pub(crate) fn capacity(&self, pods_max: usize) -> Value {
        let cpus = self.cpus.to_string();
        self.amounts(cpus, self.memory_bytes, format_ki(self.disk_bytes), pods_max)
    }

    pub(crate) fn allocatable(
        &self,
        pods_max: usize,
        reserved_memory_bytes: u64,
        disk_floor_bytes: u64,
        reserved: Reserved,
    ) -> Value {
        let huge: u64 = self.huge_pages.iter().map(|(_, bytes)| bytes).sum();
        let memory = self.memory_bytes.saturating_sub(reserved_memory_bytes).saturating_sub(huge);
        let disk = self.disk_bytes.saturating_sub(disk_floor_bytes);
        let disk = disk.saturating_sub(reserved.disk_bytes).to_string();
        let milli = self.cpus.saturating_mul(1000).saturating_sub(reserved.milli_cpu);
        let cpus = Quantity::from_milli(i64::try_from(milli).unwrap_or(i64::MAX)).to_string();
        self.amounts(cpus, memory, disk, pods_max)
    }

    fn amounts(&self, cpus: String, memory: u64, disk: String, pods_max: usize) -> Value {
        let mut tree = json!({
            "cpu": cpus,
            "memory": format_ki(memory),
            "ephemeral-storage": disk,
            "pods": pods_max.to_string(),
        });
        for (size, bytes) in &self.huge_pages {
            let amount = Quantity::from_bytes(i64::try_from(*bytes).unwrap_or(i64::MAX));
            tree.map_mut("").insert(format!("hugepages-{size}"), amount.to_string().into());
        }
        tree
    }

    pub(crate) fn node_info(&self, version: &str) -> Value {
        json!({
            "machineID": self.machine_id,
            "systemUUID": self.system_uuid,
            "bootID": self.boot_id,
            "kernelVersion": self.kernel,
            "osImage": self.os_image,
            "containerRuntimeVersion": format!("k3rs://{}", version.trim_start_matches('v')),
            "kubeletVersion": version,
            "kubeProxyVersion": version,
            "operatingSystem": "linux",
            "architecture": self.architecture,
        })
    }
}

/// Upstream reports memory and disk in whole KiB.
fn format_ki(bytes: u64) -> String {
    format!("{}Ki", bytes / 1024)
}

fn cpus(cpuinfo: &str) -> u64 {
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    u64::try_from(count).unwrap_or(1).max(1)
}

/// A value of `/proc/meminfo` in bytes.
pub(crate) fn meminfo(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == key)
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

fn os_image(os_release: &str) -> String {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn huge_pages() -> Vec<(String, u64)> {
    let mut sizes = Vec::new();
    for path in rt::fs::list_dir("/sys/kernel/mm/hugepages").unwrap_or_default() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let kib = name
            .strip_prefix("hugepages-")
            .and_then(|rest| rest.strip_suffix("kB"))
            .and_then(|kib| kib.parse::<u64>().ok());
        let Some(kib) = kib else { continue };
        let pages = rt::fs::read_small_text(path.join("nr_hugepages")).unwrap_or_default();
        let pages: u64 = pages.trim().parse().unwrap_or(0);
        let size = Quantity::from_bytes(i64::try_from(kib * 1024).unwrap_or(0));
        sizes.push((size.to_string(), pages * kib * 1024));
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Lens;

    #[test]
    fn figures_are_read() {
        assert_eq!(meminfo("MemTotal:       2048 kB\nMemFree: 1 kB\n", "MemTotal"), 2 << 20);
        assert_eq!(cpus("processor\t: 0\nflags: x\nprocessor\t: 1\n"), 2);
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        let facts = Facts::read(Path::new("/"));
        assert!(facts.cpus >= 1 && facts.memory_bytes > 0 && facts.disk_bytes > 0);
        let reserved = Reserved { milli_cpu: 100, ..Reserved::default() };
        let tree = facts.allocatable(110, 100 << 20, 10, reserved);
        assert_eq!(tree.str("pods"), "110");
        assert_eq!(tree.str("cpu"), format!("{}m", facts.cpus * 1000 - 100));
        let whole = facts.allocatable(1, 0, 0, Reserved::default());
        assert_eq!(whole.str("cpu"), facts.cpus.to_string());
    }
}
