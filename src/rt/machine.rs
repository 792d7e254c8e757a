//! What the machine is, for limits that scale with it, and what this process takes of it.

use stdx::metrics::{Text, number};
use stdx::version::{MAJOR, MINOR, VERSION};

/// The memory that the kernel has to give, in bytes (`MemTotal`); 1 GiB where it does not say.
pub fn memory_bytes() -> u64 {
    let text = crate::fs::read_text("/proc/meminfo").unwrap_or_default();
    mem_total(&text).unwrap_or(1 << 30)
}

fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Appends what Prometheus' clients tell of their own process, and which version of Kubernetes this is.
pub fn own_figures(text: &mut Text) {
    let read = |path: &str| crate::fs::read_small_text(path).unwrap_or_default();
    let ticks = sys::space::clock_ticks().max(1);
    let own = OwnStat::read(&read("/proc/self/stat")).unwrap_or_default();
    // When the machine started, in seconds since 1970.
    let stat = crate::fs::read_text("/proc/stat").unwrap_or_default();
    let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    let status = read("/proc/self/status");
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0_u64)
    };
    let secs = |n: u64| number(n) / number(ticks);
    let n_open = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64);
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            secs(own.cpu_ticks),
        ),
        ("process_open_fds", "gauge", "Number of open file descriptors.", number(n_open)),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            number(kib("VmRSS:") << 10),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            number(booted.unwrap_or(0)) + secs(own.started_ticks),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            number(kib("VmSize:") << 10),
        ),
    ] {
        text.single(name, kind, help, value);
    }
    let info = "kubernetes_build_info";
    text.family(info, "gauge", "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.");
    text.sample(info, &[("git_version", VERSION), ("major", MAJOR), ("minor", MINOR)], 1.0, None);
}

/// `/proc/self/stat`; see proc(5).
#[derive(Debug, Default, PartialEq)]
struct OwnStat {
    cpu_ticks: u64,
    started_ticks: u64,
}

impl OwnStat {
    fn read(text: &str) -> Option<OwnStat> {
        // The name, in parentheses, may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let field = |n: usize| rest.split_whitespace().nth(n - 3)?.parse::<u64>().ok();
        Some(OwnStat { cpu_ticks: field(14)? + field(15)?, started_ticks: field(22)? })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_processs_own_line_is_read() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 9 0 777 1000 25 18446744073709551615";
        let read = super::OwnStat { cpu_ticks: 110, started_ticks: 777 };
        assert_eq!(super::OwnStat::read(text), Some(read));
        let mut text = stdx::metrics::Text::default();
        super::own_figures(&mut text);
        let line = text
            .out
            .lines()
            .find(|line| line.starts_with("process_resident_memory_bytes "))
            .unwrap();
        let bytes: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(bytes > 1e6, "{line}");
    }

    #[test]
    fn meminfo_is_read() {
        assert_eq!(super::mem_total("MemTotal:   46276 kB\nMemFree: 1 kB\n"), Some(46276 << 10));
        assert_eq!(super::mem_total(""), None);
        assert!(super::memory_bytes() > 1 << 20);
    }
}
