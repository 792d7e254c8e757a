//! Rules of the names of resources, of quotas and containers, and of drivers.

use api::complain::Complain;
use api::names;
use api::quota::{is_extended, is_native};
use api::status::Cause;

pub(crate) const OBJECTS: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

pub(crate) const COMPUTE: [&str; 6] =
    ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

/// Whether quotas know a resource without a domain.
pub(crate) fn is_standard(name: &str) -> bool {
    const STORAGE: [&str; 4] = [
        "ephemeral-storage",
        "requests.ephemeral-storage",
        "limits.ephemeral-storage",
        "requests.storage",
    ];
    COMPUTE.contains(&name)
        || OBJECTS.contains(&name)
        || STORAGE.contains(&name)
        || name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-")
}

/// A complaint about a resource's name, which upstream shows without quotes.
pub(crate) fn wrong_name(name: &str, path: &str, why: &str, causes: &mut Vec<Cause>) {
    causes.invalid_whole(path, &format!("{name}: {why}"));
}

/// Complains about what is no resource at all.
pub(crate) fn resource_name(name: &str, path: &str, causes: &mut Vec<Cause>) -> bool {
    if let Err(why) = names::qualified(name) {
        why.lines().for_each(|why| wrong_name(name, path, why, causes));
        return false;
    }
    if !name.contains('/') && !is_standard(name) && name != "storage" {
        wrong_name(name, path, "must be a standard resource type or fully qualified", causes);
        return false;
    }
    true
}

/// What a container may have limits of, or what else may be limited (upstream's `validateContainerResourceName`
/// and `validateResourceName`).
pub(crate) fn limited_name(of_container: bool, name: &str, path: &str, causes: &mut Vec<Cause>) {
    resource_name(name, path, causes);
    if !of_container {
        return;
    }
    let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name);
    if !name.contains('/') && !standard && !name.starts_with("hugepages-") {
        wrong_name(name, path, "must be a standard resource for containers", causes);
    } else if name.contains('/') && !is_native(name) && !is_extended(name) {
        wrong_name(name, path, "doesn't follow extended resource name standard", causes);
    }
}

/// A driver's name where an object refers to it (upstream's `ValidateCSIDriverName`).
pub(crate) fn driver_name(name: &str, path: &str, causes: &mut Vec<Cause>) {
    const BYTES_MAX: usize = 63;
    if name.is_empty() {
        causes.required(path, "");
    }
    if name.len() > BYTES_MAX {
        causes.too_long(path, BYTES_MAX);
    }
    let why = names::subdomain(&name.to_ascii_lowercase()).err().unwrap_or_default();
    for why in why.lines() {
        causes.invalid(path, &name.into(), why);
    }
}
