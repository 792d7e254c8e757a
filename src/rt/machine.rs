//! What the machine is, for limits that scale with it.

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

#[cfg(test)]
mod tests {
    #[test]
    fn meminfo_is_read() {
        assert_eq!(super::mem_total("MemTotal:   46276 kB\nMemFree: 1 kB\n"), Some(46276 << 10));
        assert_eq!(super::mem_total(""), None);
        assert!(super::memory_bytes() > 1 << 20);
    }
}
