//! `/configz`: how this kubelet is set, in the words of upstream's `KubeletConfiguration`.

use std::time::Duration;

use api::{Value, json};

use crate::config::Config;
use crate::floors::Floor;

/// What is settled here, and what no flag changes; a field that is not here has no meaning for this kubelet.
/// `memory_total` is the machine's, in bytes.
pub(super) fn tree(config: &Config, memory_total: u64) -> Value {
    let hard = &config.eviction_hard;
    let memory = Floor::Amount(hard.memory.of(memory_total) / 1024 * 1024);
    let mut floors = json!({});
    for (signal, floor) in [
        ("memory.available", memory),
        ("nodefs.available", hard.disk),
        ("imagefs.available", hard.disk),
        ("nodefs.inodesFree", hard.inodes),
        ("pid.available", hard.pids),
    ] {
        if floor != Floor::NONE {
            floors[signal] = shown(floor).into();
        }
    }
    let dns: Vec<String> = config.cluster_dns.iter().map(ToString::to_string).collect();
    let mut kubelet = json!({
        "enableServer": config.serving.is_some(),
        "httpCheckFrequency": seconds(config.static_url.every),
        "staticPodPath": config.manifest_directory.display().to_string(),
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": config.cluster_domain,
        "clusterDNS": dns,
        "resolvConf": config.resolv_conf.display().to_string(),
        "cgroupRoot": config.cgroup_root,
        "cgroupDriver": "cgroupfs",
        "maxPods": config.pods_max,
        "imageMinimumGCAge": seconds(config.image_gc_min_age),
        "imageMaximumGCAge": seconds(config.image_gc_max_age.unwrap_or_default()),
        "imageGCHighThresholdPercent": config.image_gc_high_percent,
        "imageGCLowThresholdPercent": config.image_gc_low_percent,
        "evictionHard": floors,
        "containerLogMaxSize": config.container_log_max_bytes.to_string(),
        "containerLogMaxFiles": config.container_log_files_max,
        "failSwapOn": false,
        "nodeStatusReportFrequency": seconds(config.status_report_every),
        "nodeLeaseDurationSeconds": config.lease_secs,
        "nodeStatusMaxImages": config.images_shown_max,
        "evictionPressureTransitionPeriod": seconds(config.pressure_lasts),
        "serializeImagePulls": config.pulls_max == Some(1),
        "seccompDefault": config.seccomp_default,
        "protectKernelDefaults": config.protects_kernel,
        "registerNode": config.registers,
        "providerID": config.provider_id,
        "cpuManagerPolicy": if config.cpus.is_static { "static" } else { "none" },
        "cpuManagerReconcilePeriod": seconds(config.cpus.reconcile_every),
    });
    if let Some(serving) = &config.serving {
        kubelet["port"] = serving.address.port().into();
    }
    if let Some(healthz) = config.healthz {
        kubelet["healthzBindAddress"] = healthz.ip().to_string().into();
        kubelet["healthzPort"] = healthz.port().into();
    }
    if !config.cpus.reserved.is_empty() {
        kubelet["reservedSystemCPUs"] = config.cpus.reserved.to_string().into();
    }
    if config.cpus.whole_cores_only {
        kubelet["cpuManagerPolicyOptions"] = json!({"full-pcpus-only": "true"});
    }
    if config.pod_pids_max > 0 {
        kubelet["podPidsLimit"] = config.pod_pids_max.into();
    }
    json!({ "kubeletconfig": kubelet })
}

fn shown(floor: Floor) -> String {
    match floor {
        Floor::Share(share) if share % 100 == 0 => format!("{}%", share / 100),
        Floor::Share(share) => format!("{}.{:02}%", share / 100, share % 100),
        Floor::Amount(n) | Floor::AtMostTenth(n) if n > 0 && n % 1024 == 0 => {
            format!("{}Ki", n / 1024)
        }
        Floor::Amount(n) | Floor::AtMostTenth(n) => n.to_string(),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_is_set() {
        let mut config = Config::new("n", "/agent", "v1");
        config.cluster_dns = vec!["10.43.0.10".parse().unwrap()];
        config.eviction_hard.inodes = Floor::NONE;
        let tree = tree(&config, 512 << 20);
        let kubelet = &tree["kubeletconfig"];
        assert_eq!(kubelet["clusterDNS"], json!(["10.43.0.10"]));
        assert_eq!(
            kubelet["evictionHard"],
            json!({"memory.available": "52428Ki", "nodefs.available": "5%", "imagefs.available": "5%", "pid.available": "256"})
        );
        assert_eq!(
            (&kubelet["imageMinimumGCAge"], &kubelet["port"]),
            (&json!("120s"), &Value::Null)
        );
    }
}
