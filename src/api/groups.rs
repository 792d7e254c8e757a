//! The API groups in their order, and the priorities that APIServices give them.

/// Upstream's groups in its order, with the priority that each has among all; others follow by name.
pub const GROUPS: &[(&str, i64)] = &[
    ("", 18_000),
    // No APIService stands for it: it comes before whatever they say.
    ("apiregistration.k8s.io", i64::MAX),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("admissionregistration.k8s.io", 16_700),
    ("apiextensions.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 15_900),
];

/// Priorities of the group and of the version of kinds that are defined at run time.
const DEFINED: (i64, i64) = (1000, 100);

/// Those of upstream's metrics-server.
const METRICS: (i64, i64) = (100, 100);

/// The priorities of a group and version that are served here, as their APIService tells them.
pub fn priorities(group: &str, version: &str) -> (i64, i64) {
    let known = GROUPS.iter().find(|(name, _)| *name == group).map(|(_, priority)| *priority);
    match (known, group, version) {
        (None, "metrics.k8s.io", _) => METRICS,
        (None, ..) => DEFINED,
        (Some(priority), "", _) => (priority, 1),
        (Some(priority), "autoscaling", "v2") => (priority, 30),
        (Some(priority), "flowcontrol.apiserver.k8s.io", _) => (priority, 21),
        (Some(priority), ..) => (priority, 15),
    }
}
