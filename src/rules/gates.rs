//! Feature gates that mean something to the API: fields that a client may set or not, and a few rules. What is put
//! into a field whose feature is off is dropped, as upstream does, unless the object had it before.
//!
//! Source: the defaults of v1.32 in k8s.io/kubernetes/pkg/features, and each kind's `dropDisabledFields`.

use std::sync::atomic::{AtomicU64, Ordering};

use api::kind::Kind;
use api::lens::{Lens, LensMut};
use serde_json::Value;

/// One feature with its fields, `[]` steps into every element of a list.
struct Gate {
    name: &'static str,
    /// In this version, unless an administrator says otherwise.
    on: bool,
    of: Of,
    /// Apart by blanks.
    paths: &'static str,
}

/// Below what the paths of a gate are.
#[derive(Clone, Copy)]
enum Of {
    /// Pod specs, wherever they stand.
    Pods,
    /// The specs of jobs, of which CronJobs have some, too.
    Jobs,
    Kind(&'static str),
    /// A rule that has no field of its own.
    Rule,
}

const fn gate(name: &'static str, on: bool, of: Of, paths: &'static str) -> Gate {
    Gate { name, on, of, paths }
}

const GATES: &[Gate] = &[
    gate(
        "InPlacePodVerticalScaling",
        false,
        Of::Pods,
        "containers[].resizePolicy initContainers[].resizePolicy ephemeralContainers[].resizePolicy",
    ),
    gate(
        "DynamicResourceAllocation",
        false,
        Of::Pods,
        "resourceClaims containers[].resources.claims initContainers[].resources.claims ephemeralContainers[].resources.claims",
    ),
    gate("ImageVolume", false, Of::Pods, IMAGES),
    gate(
        "ClusterTrustBundleProjection",
        false,
        Of::Pods,
        "volumes[].projected.sources[].clusterTrustBundle",
    ),
    gate("PodLevelResources", false, Of::Pods, "resources"),
    gate("SELinuxChangePolicy", false, Of::Pods, "securityContext.seLinuxChangePolicy"),
    gate(
        "MaxUnavailableStatefulSet",
        false,
        Of::Kind("StatefulSet"),
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
    ),
    gate(
        "VolumeAttributesClass",
        false,
        Of::Kind("PersistentVolume"),
        "spec.volumeAttributesClassName",
    ),
    gate(
        "VolumeAttributesClass",
        false,
        Of::Kind("PersistentVolumeClaim"),
        "spec.volumeAttributesClassName",
    ),
    gate(
        "CoordinatedLeaderElection",
        false,
        Of::Kind("Lease"),
        "spec.strategy spec.preferredHolder",
    ),
    gate("DynamicKubeletConfig", false, Of::Kind("Node"), "spec.configSource"),
    gate(
        "PodLifecycleSleepAction",
        true,
        Of::Pods,
        "containers[].lifecycle.postStart.sleep containers[].lifecycle.preStop.sleep initContainers[].lifecycle.postStart.sleep initContainers[].lifecycle.preStop.sleep",
    ),
    gate(
        "RecursiveReadOnlyMounts",
        true,
        Of::Pods,
        "containers[].volumeMounts[].recursiveReadOnly initContainers[].volumeMounts[].recursiveReadOnly ephemeralContainers[].volumeMounts[].recursiveReadOnly",
    ),
    gate("SidecarContainers", true, Of::Pods, "initContainers[].restartPolicy"),
    gate(
        "NodeInclusionPolicyInPodTopologySpread",
        true,
        Of::Pods,
        "topologySpreadConstraints[].nodeAffinityPolicy topologySpreadConstraints[].nodeTaintsPolicy",
    ),
    gate(
        "MatchLabelKeysInPodTopologySpread",
        true,
        Of::Pods,
        "topologySpreadConstraints[].matchLabelKeys",
    ),
    gate("JobBackoffLimitPerIndex", true, Of::Jobs, "backoffLimitPerIndex maxFailedIndexes"),
    gate("JobPodReplacementPolicy", true, Of::Jobs, "podReplacementPolicy"),
    gate("JobSuccessPolicy", true, Of::Jobs, "successPolicy"),
    gate("JobManagedBy", true, Of::Jobs, "managedBy"),
    gate("ServiceTrafficDistribution", true, Of::Kind("Service"), "spec.trafficDistribution"),
    gate(RELAXED_SEARCHES, false, Of::Rule, ""),
    gate(RELAXED_VARIABLES, true, Of::Rule, ""),
    gate(SCALE_TO_ZERO, false, Of::Rule, ""),
    gate(WATCH_LIST, true, Of::Rule, ""),
];

/// Search domains of pods may have underscores, or be the root.
pub(crate) const RELAXED_SEARCHES: &str = "RelaxedDNSSearchValidation";
/// Names of environment variables may be nearly anything.
pub(crate) const RELAXED_VARIABLES: &str = "RelaxedEnvironmentVariableValidation";
/// The least of a HorizontalPodAutoscaler may be no pod.
pub(crate) const SCALE_TO_ZERO: &str = "HPAScaleToZero";
/// A watch may begin with what there is.
pub const WATCH_LIST: &str = "WatchList";

/// These volumes go as a whole, and their mounts with them.
const IMAGES: &str = "volumes[].image";

/// Those that nothing here could act on if they were switched on.
const LACKING: &[&str] = &[
    "InPlacePodVerticalScaling",
    "DynamicResourceAllocation",
    "ImageVolume",
    "ClusterTrustBundleProjection",
    "PodLevelResources",
    "SELinuxChangePolicy",
    "MaxUnavailableStatefulSet",
    "VolumeAttributesClass",
    "CoordinatedLeaderElection",
    "DynamicKubeletConfig",
];

/// A bit for each line of the table that an administrator switched. Written once, before the server serves.
static SWITCHED: AtomicU64 = AtomicU64::new(0);

/// Whether switching this gate, from what it is by default, changes something here.
pub fn is_known(name: &str) -> bool {
    GATES.iter().any(|gate| gate.name == name) && !LACKING.contains(&name)
}

/// Turns the gates with these names from their defaults.
pub fn switch(names: &[String]) {
    let bits = (0..).zip(GATES).filter(|(_, gate)| names.iter().any(|name| name == gate.name));
    SWITCHED.store(bits.fold(0, |bits, (bit, _)| bits | 1u64 << bit), Ordering::Relaxed);
}

/// Whether the feature is on.
pub fn is_on(name: &str) -> bool {
    let switched = SWITCHED.load(Ordering::Relaxed);
    (0..).zip(GATES).any(|(bit, gate)| gate.name == name && gate.is_on(bit, switched))
}

impl Gate {
    fn is_on(&self, bit: u32, switched: u64) -> bool {
        self.on != (switched >> bit & 1 == 1)
    }

    /// Where the object has what the paths are below; `None` if it is of another kind.
    fn base(&self, kind: &Kind) -> Option<&'static str> {
        match self.of {
            Of::Pods => Some(pod_spec_path(kind)).filter(|path| !path.is_empty()),
            Of::Jobs => match (kind.group, kind.name) {
                ("batch", "Job") => Some("spec"),
                ("batch", "CronJob") => Some("spec.jobTemplate.spec"),
                _ => None,
            },
            Of::Kind(name) => (name == kind.name).then_some(""),
            Of::Rule => None,
        }
    }
}

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
    if kind.is_built_in() {
        drop_where(SWITCHED.load(Ordering::Relaxed), kind, new, old);
    }
}

fn drop_where(switched: u64, kind: &Kind, new: &mut Value, old: Option<&Value>) {
    for (bit, gate) in (0..).zip(GATES) {
        let Some(base) = gate.base(kind).filter(|_| !gate.is_on(bit, switched)) else { continue };
        let paths = || gate.paths.split(' ');
        let is_used = |tree: &Value| {
            let tree = if base.is_empty() { tree } else { tree.at(base) };
            paths().any(|path| has(tree, path))
        };
        if !is_used(new) || old.is_some_and(is_used) {
            continue;
        }
        let target = if base.is_empty() { Some(&mut *new) } else { new.at_mut(base) };
        let Some(target) = target else { continue };
        match gate.paths {
            IMAGES => drop_images(target),
            _ => paths().for_each(|path| clear(target, path)),
        }
    }
}

/// Takes volumes that are images out of a pod spec, and what mounts them.
fn drop_images(spec: &mut Value) {
    let mut dropped: Vec<Value> = Vec::new();
    if let Some(Value::Array(volumes)) = spec.get_mut("volumes") {
        volumes.retain(|volume| {
            let is_image = volume.has("image");
            if is_image {
                dropped.push(volume.at("name").clone());
            }
            !is_image
        });
        if volumes.is_empty() {
            spec.remove("volumes");
        }
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        let Some(Value::Array(containers)) = spec.get_mut(field) else { continue };
        for container in containers {
            if let Some(Value::Array(mounts)) = container.get_mut("volumeMounts") {
                mounts.retain(|mount| !dropped.contains(mount.at("name")));
            }
        }
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
    fn what_is_switched_off_is_dropped() {
        let bit = GATES.iter().position(|gate| gate.name == "JobManagedBy").unwrap();
        let job = json!({"spec": {"jobTemplate": {"spec": {"managedBy": "x", "parallelism": 1}}}});
        let mut new = job.clone();
        drop_where(0, &kinds::CRON_JOB, &mut new, None);
        assert_eq!(new, job);
        drop_where(1 << bit, &kinds::CRON_JOB, &mut new, Some(&job));
        assert_eq!(new, job);
        drop_where(1 << bit, &kinds::CRON_JOB, &mut new, None);
        assert_eq!(new, json!({"spec": {"jobTemplate": {"spec": {"parallelism": 1}}}}));
    }

    #[test]
    fn an_image_volume_goes_with_its_mounts() {
        let mounts = json!([{"name": "i", "mountPath": "/i"}, {"name": "e", "mountPath": "/e"}]);
        let mut pod = json!({"spec": {
            "volumes": [{"name": "i", "image": {}}, {"name": "e", "emptyDir": {}}],
            "containers": [{"name": "c", "volumeMounts": mounts}],
        }});
        drop_where(0, &kinds::POD, &mut pod, None);
        assert_eq!(
            pod,
            json!({"spec": {
                "volumes": [{"name": "e", "emptyDir": {}}],
                "containers": [{"name": "c", "volumeMounts": [{"name": "e", "mountPath": "/e"}]}],
            }})
        );
    }

    #[test]
    fn gates_that_nothing_acts_on_are_not_known() {
        assert!(is_known("WatchList") && is_known("JobManagedBy") && is_known("HPAScaleToZero"));
        assert!(!is_known("ImageVolume") && !is_known("X"));
        assert!(LACKING.iter().all(|name| GATES.iter().any(|gate| gate.name == *name)));
        assert!(GATES.len() <= 64);
    }

    #[test]
    fn every_path_exists() {
        for kind in kinds::KINDS {
            for gate in GATES {
                let Some(base) = gate.base(kind) else { continue };
                for path in gate.paths.split(' ') {
                    let mut at = Some(schema().root(*kind));
                    let whole = format!("{base}.{path}").replace("[]", "");
                    for step in whole.trim_start_matches('.').split('.') {
                        let field = at.and_then(|id| schema().by_json(id, step));
                        assert!(field.is_some(), "{}: {path}", kind.name);
                        at = field.and_then(api::schema::Field::message);
                    }
                }
            }
        }
    }
}
