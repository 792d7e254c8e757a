//! Warnings about fields that are checked and stored, but that nothing acts on yet.
//!
//! The README lists what is here; an entry goes when something acts on its field.

use api::kinds::{PERSISTENT_VOLUME_CLAIM, POD, SERVICE};
use api::{Kind, Lens, Value};

/// A field of a kind and what it would do.
struct Unacted {
    kind: &'static Kind,
    path: &'static str,
    effect: &'static str,
}

const UNACTED: &[Unacted] = &[
    Unacted {
        kind: &POD,
        path: "spec.runtimeClassName",
        effect: "every pod runs in the built-in runtime",
    },
    Unacted { kind: &POD, path: "spec.overhead", effect: "it is not added to what the pod needs" },
    Unacted { kind: &POD, path: "spec.resourceClaims", effect: "no devices are allocated" },
    Unacted { kind: &SERVICE, path: "spec.loadBalancerClass", effect: "no load balancer is made" },
    Unacted {
        kind: &SERVICE,
        path: "spec.trafficDistribution",
        effect: "every endpoint is used alike",
    },
    Unacted {
        kind: &PERSISTENT_VOLUME_CLAIM,
        path: "spec.dataSource",
        effect: "the volume starts empty",
    },
    Unacted {
        kind: &PERSISTENT_VOLUME_CLAIM,
        path: "spec.dataSourceRef",
        effect: "the volume starts empty",
    },
    Unacted {
        kind: &PERSISTENT_VOLUME_CLAIM,
        path: "spec.volumeAttributesClassName",
        effect: "the volume keeps its attributes",
    },
];

/// The volume sources that pods can use.
const VOLUMES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "configMap",
    "secret",
    "projected",
    "downwardAPI",
    "persistentVolumeClaim",
];

/// Appends a warning for each field of `tree` that nothing acts on.
pub(super) fn warn(kind: &Kind, tree: &Value, warnings: &mut Vec<String>) {
    for entry in UNACTED.iter().filter(|entry| *entry.kind == *kind && tree.has(entry.path)) {
        warnings.push(format!("{}: not acted on yet: {}", entry.path, entry.effect));
    }
    if *kind == POD {
        for (idx, volume) in tree.list("spec.volumes").iter().enumerate() {
            let sources = volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
            for source in sources.filter(|key| *key != "name" && !VOLUMES.contains(key)) {
                warnings.push(format!(
                    "spec.volumes[{idx}].{source}: not acted on yet: the pod will not start"
                ));
            }
        }
    }
    if *kind == SERVICE && tree.str("spec.type") == "LoadBalancer" {
        warnings.push(
            "spec.type: not acted on yet: no load balancer is made, the node ports work".into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn only_what_is_set_is_warned_of() {
        let mut warnings = Vec::new();
        warn(&POD, &json!({"spec": {"volumes": [{"name": "a", "emptyDir": {}}]}}), &mut warnings);
        assert!(warnings.is_empty());
        let tree =
            json!({"spec": {"runtimeClassName": "x", "volumes": [{"name": "a", "nfs": {}}]}});
        warn(&POD, &tree, &mut warnings);
        assert_eq!(
            warnings,
            [
                "spec.runtimeClassName: not acted on yet: every pod runs in the built-in runtime",
                "spec.volumes[0].nfs: not acted on yet: the pod will not start",
            ]
        );
    }
}
