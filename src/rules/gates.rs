//! Fields whose feature is off in this version of Kubernetes: what a client puts there is dropped, as upstream
//! does, unless the object had it before.
//!
//! Source: the defaults in k8s.io/kubernetes/pkg/features, and each kind's `dropDisabledFields`.

use api::kind::Kind;
use api::lens::Lens;
use serde_json::Value;

/// One feature with its fields, `[]` steps into every element of a list.
struct Gate {
    /// Of which kind, or "" for pod specs wherever they stand.
    kind: &'static str,
    paths: &'static [&'static str],
}

const OFF: &[Gate] = &[
    // InPlacePodVerticalScaling
    Gate {
        kind: "",
        paths: &[
            "containers[].resizePolicy",
            "initContainers[].resizePolicy",
            "ephemeralContainers[].resizePolicy",
        ],
    },
    // DynamicResourceAllocation
    Gate {
        kind: "",
        paths: &[
            "resourceClaims",
            "containers[].resources.claims",
            "initContainers[].resources.claims",
            "ephemeralContainers[].resources.claims",
        ],
    },
    // ImageVolume
    Gate { kind: "", paths: &["volumes[].image"] },
    // ClusterTrustBundleProjection
    Gate { kind: "", paths: &["volumes[].projected.sources[].clusterTrustBundle"] },
    // MaxUnavailableStatefulSet
    Gate { kind: "StatefulSet", paths: &["spec.updateStrategy.rollingUpdate.maxUnavailable"] },
    // VolumeAttributesClass
    Gate { kind: "PersistentVolume", paths: &["spec.volumeAttributesClassName"] },
    Gate { kind: "PersistentVolumeClaim", paths: &["spec.volumeAttributesClassName"] },
    // PodLevelResources
    Gate { kind: "", paths: &["resources"] },
    // CoordinatedLeaderElection
    Gate { kind: "Lease", paths: &["spec.strategy", "spec.preferredHolder"] },
    // DynamicKubeletConfig, gone since v1.26
    Gate { kind: "Node", paths: &["spec.configSource"] },
];

/// Where pod specs stand in objects of `kind`, "" where there is none.
pub(crate) fn pod_spec_path(kind: &Kind) -> &'static str {
    match (kind.group, kind.name) {
        ("", "Pod") => "spec",
        ("", "PodTemplate") => "template.spec",
        ("batch", "CronJob") => "spec.jobTemplate.spec.template.spec",
        ("", "ReplicationController") | ("batch", "Job") => "spec.template.spec",
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => "spec.template.spec",
        _ => "",
    }
}

/// Drops from `new` what a feature that is off would need, and `old` does not have.
pub(crate) fn drop_disabled(kind: &Kind, new: &mut Value, old: Option<&Value>) {
    if !kind.is_built_in() {
        return;
    }
    let pod_spec = pod_spec_path(kind);
    for gate in OFF {
        let base = match gate.kind {
            "" if pod_spec.is_empty() => continue,
            "" => pod_spec,
            name if name == kind.name => "",
            _ => continue,
        };
        let is_used = |tree: &Value| {
            let tree = if base.is_empty() { tree } else { tree.at(base) };
            gate.paths.iter().any(|path| has(tree, path))
        };
        if old.is_some_and(is_used) {
            continue;
        }
        let Some(target) = (match base {
            "" => Some(&mut *new),
            base => base.split('.').try_fold(&mut *new, |at, step| at.get_mut(step)),
        }) else {
            continue;
        };
        gate.paths.iter().for_each(|path| clear(target, path));
    }
}

fn has(value: &Value, path: &str) -> bool {
    match path.split_once("[].") {
        Some((list, rest)) => value.list(list).iter().any(|item| has(item, rest)),
        None => value.has(path),
    }
}

fn clear(value: &mut Value, path: &str) {
    if let Some((list, rest)) = path.split_once("[].") {
        let items = list.split('.').try_fold(value, |at, step| at.get_mut(step));
        if let Some(Value::Array(items)) = items {
            items.iter_mut().for_each(|item| clear(item, rest));
        }
        return;
    }
    let (parent, last) = path.rsplit_once('.').unwrap_or(("", path));
    let steps = parent.split('.').filter(|step| !step.is_empty());
    let parent = steps.into_iter().try_fold(value, |at, step| at.get_mut(step));
    if let Some(Value::Object(map)) = parent {
        map.remove(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::kinds;
    use api::schema::schema;
    use serde_json::json;

    #[test]
    fn what_is_off_is_dropped_unless_it_was_there() {
        let resize = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        let with = json!({"spec": {"template": {"spec": {
            "containers": [{"name": "a"}, {"name": "b", "resizePolicy": resize}],
            "volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}, {"secret": {}}]}}],
        }}}});
        let without = json!({"spec": {"template": {"spec": {
            "containers": [{"name": "a"}, {"name": "b"}],
            "volumes": [{"name": "v", "projected": {"sources": [{}, {"secret": {}}]}}],
        }}}});
        let dropped = |old: Option<&Value>| {
            let mut new = with.clone();
            drop_disabled(&kinds::DEPLOYMENT, &mut new, old);
            new
        };
        assert_eq!(dropped(None), without);
        assert_eq!(dropped(Some(&without)), without);
        assert_eq!(dropped(Some(&with)), with);
        let mut map = json!({"spec": {"configSource": {}}});
        drop_disabled(&kinds::NODE, &mut map, None);
        assert_eq!(map, json!({"spec": {}}));
    }

    #[test]
    fn every_path_exists() {
        for kind in kinds::KINDS {
            let spec = pod_spec_path(kind);
            for gate in OFF {
                let base = match gate.kind {
                    "" if !spec.is_empty() => format!("{spec}."),
                    name if name == kind.name => String::new(),
                    _ => continue,
                };
                for path in gate.paths {
                    let mut at = Some(schema().root(*kind));
                    for step in format!("{base}{path}").replace("[]", "").split('.') {
                        let field = at.and_then(|id| schema().by_json(id, step));
                        assert!(field.is_some(), "{}: {path}", kind.name);
                        at = field.and_then(api::schema::Field::message);
                    }
                }
            }
        }
    }
}
