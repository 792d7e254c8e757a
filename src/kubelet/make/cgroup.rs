//! Limits as the kernel takes them: shares, quotas, memory, and who is killed first.

use api::quantity::Quantity;
use api::{Lens, Value};
use runtime::Resources;

use podplan::{Qos, requests_of};

const PERIOD_US: u64 = 100_000;
const QUOTA_MIN_US: i64 = 1000;
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
/// From this priority on a pod is system-critical.
const CRITICAL_PRIORITY: i64 = 2_000_000_000;

/// `<root>/burstable/pod<uid>`: the pod's cgroup below the node's.
pub(crate) fn pod_path(root: &str, qos: Qos, uid: &str) -> String {
    match qos {
        Qos::Guaranteed => format!("{root}/pod{uid}"),
        Qos::Burstable => format!("{root}/burstable/pod{uid}"),
        Qos::BestEffort => format!("{root}/besteffort/pod{uid}"),
    }
}

/// Where `pod_path` puts pods.
pub(crate) fn pod_places(root: &str) -> [String; 3] {
    [root.to_owned(), format!("{root}/burstable"), format!("{root}/besteffort")]
}

pub(crate) fn shares(milli_cpu: i64) -> u64 {
    let milli = u64::try_from(milli_cpu).unwrap_or(0);
    (milli.saturating_mul(1024) / 1000).clamp(SHARES_MIN, SHARES_MAX)
}

fn quota(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(100)).max(QUOTA_MIN_US)
}

/// A container's own limits.
pub(crate) fn of_container(container: &Value) -> Resources {
    let read = |side: &str, resource: &str| {
        container
            .at(&format!("resources.{side}"))
            .get(resource)
            .and_then(Quantity::from_tree)
            .filter(|q| !q.is_zero())
    };
    let cpu_limit = read("limits", "cpu").map(Quantity::milli);
    let cpu_request = read("requests", "cpu").map(Quantity::milli).or(cpu_limit).unwrap_or(0);
    let memory = read("limits", "memory").map(Quantity::units);
    Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_quota_us: cpu_limit.map(quota),
        cpu_period_us: cpu_limit.map(|_| PERIOD_US),
        memory_limit_bytes: memory,
        // No swap for containers with a limit, as upstream's NoSwap.
        memory_swap_limit_bytes: memory,
        ..Resources::default()
    }
}

/// The pod's cgroup: the sum, with limits only where every container has them.
pub(crate) fn of_pod(pod: &Value, pids_max: i64) -> Resources {
    let total = |resource: &str| -> Option<Quantity> {
        let limit_of = |container: &Value| {
            container
                .at("resources.limits")
                .get(resource)
                .and_then(Quantity::from_tree)
                .filter(|q| !q.is_zero())
        };
        let mut sum = Quantity::ZERO;
        for container in pod.list("spec.containers") {
            sum = sum + limit_of(container)?;
        }
        let mut sidecars = Quantity::ZERO;
        let mut peak = Quantity::ZERO;
        for init in pod.list("spec.initContainers") {
            let limit = limit_of(init)?;
            if init.str("restartPolicy") == "Always" {
                sidecars = sidecars + limit;
                peak = peak.max(sidecars);
            } else {
                peak = peak.max(sidecars + limit);
            }
        }
        Some((sum + sidecars).max(peak))
    };
    let cpu_limit = total("cpu").map(Quantity::milli);
    Resources {
        cpu_shares: Some(shares(requests_of(pod, "cpu").milli())),
        cpu_quota_us: Some(cpu_limit.map_or(-1, quota)),
        cpu_period_us: cpu_limit.map(|_| PERIOD_US),
        memory_limit_bytes: total("memory").map(Quantity::units),
        pids_max: (pids_max > 0).then_some(pids_max),
        ..Resources::default()
    }
}

/// Who the kernel kills first: upstream's `GetContainerOOMScoreAdjust`.
pub(crate) fn oom_score_adj(pod: &Value, container: &Value, memory_capacity: i64) -> i32 {
    if pod.int("spec.priority").unwrap_or(0) >= CRITICAL_PRIORITY {
        return -997;
    }
    match Qos::of(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = container
                .at("resources.requests")
                .get("memory")
                .or_else(|| container.at("resources.limits").get("memory"))
                .and_then(Quantity::from_tree)
                .map_or(0, Quantity::units);
            let share = i64::saturating_mul(1000, request) / memory_capacity.max(1);
            // Guaranteed pods are 3 below at most; best-effort ones always above.
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn container(requests: Value, limits: Value) -> Value {
        json!({"name": "a", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn containers_get_shares_and_limits() {
        let made = of_container(&container(
            json!({"cpu": "250m"}),
            json!({"cpu": "500m", "memory": "64Mi"}),
        ));
        assert_eq!(
            (made.cpu_shares, made.cpu_quota_us, made.memory_limit_bytes),
            (Some(256), Some(50_000), Some(64 << 20))
        );
        let made = of_container(&container(json!({}), json!({})));
        assert_eq!(
            (made.cpu_shares, made.cpu_quota_us, made.memory_limit_bytes),
            (Some(2), None, None)
        );
        assert_eq!(
            of_container(&container(json!({}), json!({"cpu": "1m"}))).cpu_quota_us,
            Some(1000)
        );
    }

    #[test]
    fn pods_are_limited_only_if_every_container_is() {
        let limited = container(json!({}), json!({"cpu": "1", "memory": "1Mi"}));
        let pod = |containers: Value| json!({"spec": {"containers": containers}});
        let both = of_pod(&pod(json!([limited, limited])), 0);
        assert_eq!((both.cpu_quota_us, both.memory_limit_bytes), (Some(200_000), Some(2 << 20)));
        let one = of_pod(&pod(json!([limited, container(json!({}), json!({}))])), 9);
        assert_eq!(
            (one.cpu_quota_us, one.memory_limit_bytes, one.pids_max),
            (Some(-1), None, Some(9))
        );
    }

    #[test]
    fn oom_scores() {
        let score = |requests: Value, limits: Value| {
            let c = container(requests, limits);
            oom_score_adj(&json!({"spec": {"containers": [c]}}), &c, 4 << 30)
        };
        assert_eq!(score(json!({}), json!({})), 1000);
        assert_eq!(score(json!({}), json!({"cpu": "1", "memory": "1Gi"})), -997);
        assert_eq!(score(json!({"memory": "1Gi"}), json!({})), 750);
        assert_eq!(score(json!({"cpu": "1"}), json!({})), 999);
        assert_eq!(score(json!({"memory": "4Gi"}), json!({})), 3);
    }
}
