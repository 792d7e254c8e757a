//! Control groups in one abstraction over v1, hybrid and v2.

use std::collections::BTreeMap;

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
    pub unified: BTreeMap<String, String>,
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
